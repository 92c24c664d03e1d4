//! Identifiers as requests name them: raw, as a token, or as a hash; and what each of them is to identity.
//!
//! A raw value is taken out of the parsed body before anything else is looked at, and its memory is wiped once its keyed
//! hash is made. What it must never do: put a value into an error; errors name places.

use idtrail_event::{IdentifierToken, IdentifierType};
use idtrail_identity::normalise::Raw;
use idtrail_identity::ruleset::types;
use idtrail_identity::{Assurance, Sighting};
use idtrail_index::facts::Hasher;
use idtrail_index::identity::{hashed, reference};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::engine::Engine;
use crate::problem::{FieldError, Problem};

/// Identifiers of one request, the other tokens of the same values included.
pub(super) const IDENTIFIERS_MAX: usize = 32;
const TEXT_CHARS_MAX: usize = 256;
/// The shortest text that may be a hash: 32 bytes in base64 without padding.
const HASH_CHARS_MIN: usize = 43;
/// The types that can be sent, by name.
const TYPES: [(&str, IdentifierType); 9] = [
    ("phone", IdentifierType::PHONE),
    ("email", IdentifierType::EMAIL),
    ("account", IdentifierType::ACCOUNT),
    ("crm_person", types::CRM_PERSON),
    ("ext_contact", types::EXTERNAL_CONTACT),
    ("msg_handle", types::MESSAGING),
    ("cookie", types::COOKIE),
    ("device", types::DEVICE),
    ("customer_ref", types::CUSTOMER_REFERENCE),
];

/// One identifier of a request: as it was seen, or why it names nobody.
pub(crate) struct Given {
    /// The identifier.
    pub(crate) sighting: Result<Sighting, &'static str>,
    /// Its folded form, which only corroborates.
    pub(super) folded: Option<Sighting>,
}

/// Takes the identifiers out of a request. The raw values are wiped before this returns.
///
/// # Errors
/// 422 with every place that is wrong.
pub(crate) fn identifiers(engine: &Engine, value: &mut Value) -> Result<Vec<Given>, Problem> {
    let Some(items) = value.get_mut("identifiers").and_then(Value::as_array_mut) else {
        return Err(Problem::invalid(vec![wrong("/identifiers", "it is missing or not a list")]));
    };
    if items.len() > IDENTIFIERS_MAX {
        return Err(Problem::invalid(vec![wrong("/identifiers", "there are more than 32 identifiers")]));
    }
    let (mut given, mut errors) = (Vec::new(), Vec::new());
    for (at, item) in items.iter_mut().enumerate() {
        match identifier(engine, item) {
            Ok(one) => given.push(one),
            Err(message) => errors.push(wrong(&format!("/identifiers/{at}"), message)),
        }
    }
    let tokens: usize =
        given.iter().filter_map(|one| one.sighting.as_ref().ok()).map(|seen| 1 + seen.aliases.len()).sum();
    // One place is left for the interaction.
    if errors.is_empty() && tokens >= IDENTIFIERS_MAX {
        errors.push(wrong("/identifiers", "they have more than 31 tokens together; send fewer"));
    }
    if errors.is_empty() { Ok(given) } else { Err(Problem::invalid(errors)) }
}

/// Reads one identifier: `value` raw, `token` of this system, or `hash` as events carry it.
pub(crate) fn identifier(engine: &Engine, item: &mut Value) -> Result<Given, &'static str> {
    // Taken out first, so that no copy stays behind whatever follows.
    let raw = match item.get_mut("value").map(Value::take) {
        Some(Value::String(text)) => Some(Zeroizing::new(text)),
        Some(_) => return Err("value is not a text"),
        None => None,
    };
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let name = text("type").ok_or("type is missing")?;
    let (_, kind) = TYPES.iter().find(|(known, _)| *known == name).ok_or("type is not known")?;
    let assurance = match item.get("assurance") {
        None => Assurance::NETWORK,
        Some(level) => {
            let level = level.as_u64().and_then(|level| u8::try_from(level).ok());
            level.and_then(|level| Assurance::try_from(level).ok()).ok_or("assurance is not 0 to 5")?
        }
    };
    let keys = engine.hasher().identifiers().ok_or("there are no keys for identifiers")?;
    let found = |sighting| Ok(Given { sighting: Ok(sighting), folded: None });
    match (raw, text("token"), text("hash")) {
        (Some(raw), None, None) if *kind == types::CUSTOMER_REFERENCE => {
            if raw.is_empty() || raw.chars().count() > TEXT_CHARS_MAX {
                return Err("value must have 1 to 256 characters");
            }
            found(Sighting { assurance, ..reference(&engine.hasher().customer(&raw)) })
        }
        (Some(raw), None, None) => {
            let raw = Raw { kind: *kind, value: &raw, region: text("region"), namespace: text("namespace") };
            match engine.normaliser().normalise(raw) {
                Ok(normal) => {
                    let (sighting, folded) = (keys.sighting(&normal, assurance), keys.folded(&normal));
                    Ok(Given { sighting: Ok(sighting), folded })
                }
                Err(refusal) if refusal.is_blocked() => {
                    Ok(Given { sighting: Err(refusal.name()), folded: None })
                }
                Err(refusal) => Err(match refusal.name() {
                    "REGION_UNKNOWN" => "it has no country code, and region is missing or not known",
                    "NAMESPACE_UNKNOWN" => "namespace is missing or not configured",
                    _ => "value is not what its type says",
                }),
            }
        }
        (None, Some(token), None) => {
            let token =
                IdentifierToken::try_from(token).map_err(|_| "token is not 64 lower-case hex digits")?;
            found(Sighting::new(*kind, token, assurance))
        }
        (None, None, Some(hash)) => {
            let scheme = text("hashScheme");
            if scheme.is_some_and(|scheme| keys.legacy_specs(*kind).all(|known| known != scheme)) {
                return Err("hashScheme is not configured for its type");
            }
            let seen = hashed(keys, *kind, hash, scheme).ok_or("hash is not usable for its type")?;
            found(Sighting { assurance: assurance.min(Assurance::NETWORK), ..seen })
        }
        _ => Err("exactly one of value, token and hash must be there"),
    }
}

/// Returns every identifier that a text without a type may be: a token, a hash as events carry it, a client's own
/// customer id.
pub(crate) fn readings(hasher: &Hasher, text: &str) -> Vec<idtrail_identity::Identifier> {
    let mut readings = vec![reference(&hasher.customer(text)).identifier];
    if let Some(keys) = hasher.identifiers()
        && text.len() >= HASH_CHARS_MIN
    {
        let token = IdentifierToken::try_from(text).ok();
        for (_, kind) in TYPES {
            readings.extend(token.map(|token| idtrail_identity::Identifier { kind, token }));
            let schemes = keys.legacy_specs(kind).map(Some).chain([None]);
            readings.extend(schemes.filter_map(|scheme| Some(hashed(keys, kind, text, scheme)?.identifier)));
        }
    }
    readings
}

/// Returns the name of a type.
pub(crate) fn type_name(kind: IdentifierType) -> &'static str {
    match kind {
        types::INTERACTION => "interaction",
        types::EMAIL_FOLDED => "email_folded",
        kind => TYPES.iter().find(|(_, known)| *known == kind).map_or("other", |(name, _)| name),
    }
}

/// Returns an error at a place of a request, without its value.
pub(crate) fn wrong(pointer: &str, message: &'static str) -> FieldError {
    FieldError::new(pointer, "invalid", message, "see the documentation of this route")
}
