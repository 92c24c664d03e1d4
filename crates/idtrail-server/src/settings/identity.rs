//! The section `[identity]`: what the installation knows about its own numbers, systems and the hashes of others.
//!
//! What is configured here decides how values become tokens from now on. It never decides about leaves that hold tokens
//! already; only hashes of a scheme in old events are read anew at every start, so a scheme must stay configured as long as
//! such events are kept.

use std::collections::BTreeSet;
use std::path::PathBuf;

use idtrail_event::IdentifierType;
use idtrail_identity::normalise::{Normaliser, NormaliserConfig};
use idtrail_identity::tokens::{LegacyAlgorithm, LegacyEncoding, LegacyFormat, LegacyHashSpec};
use toml::{Table, Value};

use super::{Check, SecretRef, SettingsError};
use crate::config::SecretSource;

/// Most entries of one list.
const ENTRIES_MAX: usize = 10_000;
const SCHEMES_MAX: usize = 16;
/// Beginnings of scheme names that mean something else.
const RESERVED: [&str; 2] = ["hs256.k", "event-"];
const TYPES: [(&str, IdentifierType); 3] = [
    ("phone", IdentifierType::PHONE),
    ("email", IdentifierType::EMAIL),
    ("account", IdentifierType::ACCOUNT),
];
const ALGORITHMS: [(&str, LegacyAlgorithm); 2] =
    [("sha256", LegacyAlgorithm::Sha256), ("sha512", LegacyAlgorithm::Sha512)];
const ENCODINGS: [(&str, LegacyEncoding); 2] =
    [("hex", LegacyEncoding::Hex), ("base64", LegacyEncoding::Base64)];
const FORMATS: [(&str, LegacyFormat); 4] = [
    ("canonical", LegacyFormat::Canonical),
    ("tel_uri", LegacyFormat::TelUri),
    ("digits", LegacyFormat::Digits),
    ("without_issuer", LegacyFormat::WithoutIssuer),
];

/// How identifiers become tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySettings {
    /// Own numbers, blocked values, issuers of accounts.
    pub normaliser: NormaliserConfig,
    /// Where the salt of hashes in events that name no scheme is.
    pub event_salt: Option<SecretRef>,
    /// Whether statements need a second person.
    pub four_eyes: bool,
    /// Hashes of other systems.
    pub legacy_hashes: Vec<LegacyHashSettings>,
    /// Where salts in environment variables are looked up.
    pub environment: Environment,
}

/// Looks environment variables up, when they are needed. Two are equal whatever they find: they are no setting.
#[derive(Clone, Copy)]
pub struct Environment(pub fn(&str) -> Option<String>);

impl Default for Environment {
    fn default() -> Self {
        Self(|_| None)
    }
}

impl PartialEq for Environment {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Environment {}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment(…)")
    }
}

/// How one other system hashes identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyHashSettings {
    /// The scheme, named by its id.
    pub spec: LegacyHashSpec,
    /// Where the salt is; `None` for hashes without.
    pub salt: Option<SecretRef>,
}

impl Check<'_> {
    pub(super) fn identity(&self, raw: crate::config::Identity) -> Result<IdentitySettings, SettingsError> {
        let normaliser = NormaliserConfig {
            own_numbers: self.entries("identity.own_numbers", raw.own_numbers)?,
            blocked: self.entries("identity.blocked", raw.blocked)?,
            issuers: self.entries("identity.issuers", raw.issuers)?,
        };
        let plain = |text: &String| !text.trim_end_matches('*').is_empty();
        if !normaliser.blocked.iter().all(plain) {
            return Err(self.wrong("identity.blocked", "has an entry that would block everything"));
        }
        // Each list alone, so that the error names it.
        for (key, alone) in [
            (
                "identity.own_numbers",
                NormaliserConfig {
                    own_numbers: normaliser.own_numbers.clone(),
                    ..NormaliserConfig::default()
                },
            ),
            (
                "identity.issuers",
                NormaliserConfig { issuers: normaliser.issuers.clone(), ..NormaliserConfig::default() },
            ),
        ] {
            if Normaliser::new(alone).is_err() {
                let problem = match key {
                    "identity.issuers" => "must be names of lower-case letters and digits",
                    _ => {
                        "must be numbers with `+` and at least 2 digits; a `*` at the end stands for the rest"
                    }
                };
                return Err(self.wrong(key, problem));
            }
        }
        let raw_hashes = raw.legacy_hash.unwrap_or_default();
        if raw_hashes.len() > SCHEMES_MAX {
            return Err(self.wrong("identity.legacy_hash", "must have at most 16 sections"));
        }
        let mut legacy_hashes = Vec::with_capacity(raw_hashes.len());
        let mut ids = BTreeSet::new();
        for one in raw_hashes {
            let one = self.legacy_hash(one)?;
            if !ids.insert(one.spec.id.clone()) {
                return Err(self.wrong("identity.legacy_hash.id", "is there twice"));
            }
            legacy_hashes.push(one);
        }
        let event_salt = self.salt("identity.event_salt", raw.event_salt_file, raw.event_salt)?;
        let four_eyes = raw.four_eyes.unwrap_or(false);
        let environment = Environment::default();
        Ok(IdentitySettings { normaliser, event_salt, four_eyes, legacy_hashes, environment })
    }

    /// Returns where a salt is: in a file, or where a reference says; not both.
    fn salt(
        &self,
        key: &str,
        file: Option<PathBuf>,
        reference: Option<SecretSource>,
    ) -> Result<Option<SecretRef>, SettingsError> {
        match (file, reference) {
            (None, None) => Ok(None),
            (Some(file), None) => Ok(Some(SecretRef::File(self.base.join(file)))),
            (None, Some(reference)) => self.secret(key, Some(reference)).map(Some),
            (Some(_), Some(_)) => Err(self.wrong(key, "is there beside the file of the same salt")),
        }
    }

    fn entries(&self, key: &str, list: Option<Vec<String>>) -> Result<Vec<String>, SettingsError> {
        let list = list.unwrap_or_default();
        if list.len() > ENTRIES_MAX {
            return Err(self.wrong(key, "must have at most 10000 entries"));
        }
        Ok(list)
    }

    fn legacy_hash(&self, raw: crate::config::LegacyHash) -> Result<LegacyHashSettings, SettingsError> {
        let key = |member: &str| format!("identity.legacy_hash.{member}");
        let id = raw.id.unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=64).contains(&id.len())
            || !id.bytes().all(plain)
            || RESERVED.iter().any(|begin| id.starts_with(begin))
        {
            let problem =
                "must be 1 to 64 characters of A-Z a-z 0-9 . _ - and not begin with `hs256.k` or `event-`";
            return Err(self.wrong(&key("id"), problem));
        }
        let kind = self.one_of(&key("type"), raw.r#type.as_deref(), &TYPES)?;
        let algorithm =
            self.one_of(&key("algorithm"), raw.algorithm.as_deref().or(Some("sha256")), &ALGORITHMS)?;
        let encoding = self.one_of(&key("encoding"), raw.encoding.as_deref().or(Some("hex")), &ENCODINGS)?;
        let template = raw.template.unwrap_or_else(|| "{value}{salt}".to_owned());
        let salts = template.matches("{salt}").count();
        if template.matches("{value}").count() != 1 || salts > 1 || template.len() > 256 {
            let problem = "must hold {value} once and {salt} at most once, in at most 256 characters";
            return Err(self.wrong(&key("template"), problem));
        }
        let named = if raw.salt.is_some() { "salt" } else { "salt_file" };
        let salt = self.salt(&key("salt"), raw.salt_file, raw.salt)?;
        if salt.is_some() && salts == 0 {
            return Err(self.wrong(&key(named), "is there, but the template has no {salt}"));
        }
        let formats = raw.formats.unwrap_or_else(|| vec!["canonical".to_owned()]);
        if formats.is_empty() {
            return Err(self.wrong(&key("formats"), "must name at least one format"));
        }
        let formats = formats
            .iter()
            .map(|format| self.one_of(&key("formats"), Some(format), &FORMATS))
            .collect::<Result<Vec<_>, _>>()?;
        let spec = LegacyHashSpec { id, kind: kind.number(), algorithm, template, formats, encoding };
        Ok(LegacyHashSettings { spec, salt })
    }

    fn one_of<T: Copy>(
        &self,
        key: &str,
        text: Option<&str>,
        known: &[(&str, T)],
    ) -> Result<T, SettingsError> {
        let found = known.iter().find(|(name, _)| Some(*name) == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names = known.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>();
            self.wrong(key, format!("must be one of {}", names.join(", ")))
        })
    }
}

/// Writes the section back.
pub(super) fn effective(settings: &IdentitySettings) -> Value {
    let texts = |list: &[String]| Value::Array(list.iter().cloned().map(Value::String).collect());
    let mut section = Table::from_iter([
        ("own_numbers".to_owned(), texts(&settings.normaliser.own_numbers)),
        ("blocked".to_owned(), texts(&settings.normaliser.blocked)),
        ("issuers".to_owned(), texts(&settings.normaliser.issuers)),
        ("four_eyes".to_owned(), Value::Boolean(settings.four_eyes)),
    ]);
    let place = |section: &mut Table, name: &str, salt: &Option<SecretRef>| match salt {
        None => {}
        Some(SecretRef::File(path)) => {
            section.insert(format!("{name}_file"), Value::String(path.display().to_string()));
        }
        Some(SecretRef::Env(variable)) => {
            let reference = Table::from_iter([("env".to_owned(), Value::String(variable.clone()))]);
            section.insert(name.to_owned(), Value::Table(reference));
        }
    };
    place(&mut section, "event_salt", &settings.event_salt);
    if !settings.legacy_hashes.is_empty() {
        let hashes = settings.legacy_hashes.iter().map(|LegacyHashSettings { spec, salt }| {
            let formats = spec.formats.iter().map(|format| Value::String(name(&FORMATS, *format)));
            let kind = IdentifierType::new(spec.kind);
            let mut one = Table::from_iter([
                ("id".to_owned(), Value::String(spec.id.clone())),
                ("type".to_owned(), Value::String(name(&TYPES, kind))),
                ("algorithm".to_owned(), Value::String(name(&ALGORITHMS, spec.algorithm))),
                ("template".to_owned(), Value::String(spec.template.clone())),
                ("formats".to_owned(), Value::Array(formats.collect())),
                ("encoding".to_owned(), Value::String(name(&ENCODINGS, spec.encoding))),
            ]);
            place(&mut one, "salt", salt);
            Value::Table(one)
        });
        section.insert("legacy_hash".to_owned(), Value::Array(hashes.collect()));
    }
    Value::Table(section)
}

fn name<T: PartialEq>(known: &[(&str, T)], value: T) -> String {
    known.iter().find(|(_, one)| *one == value).map_or_else(String::new, |(name, _)| (*name).to_owned())
}
