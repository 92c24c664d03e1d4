//! From what a source sends to the one form that is hashed, or to a reason why it names nobody.
//!
//! ```text
//! raw value + type + region ── normalise ──> Normal: canonical form, known variants, folded form
//!                                      └──> Refusal: blocked (a fact about the interaction) or malformed
//! ```
//! The same person's number must give the same token from every channel and for ever, so the form is pinned by vectors
//! and has a version. Phone numbers are parsed and written as E.164; whether metadata call them valid is never asked,
//! because metadata change and tokens must not.
//!
//! What it must never do: keep, print or put into an error any part of a raw value. Values live in memory that is wiped
//! when dropped, and can only be turned into tokens.

mod account;
mod email;
mod person;
mod phone;

use idtrail_event::{IdentifierType, RawIdentifier};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use person::person_key;

use crate::ruleset::types;

/// The version of the normal forms. It is recorded beside tokens and is no part of them.
pub const NORMALISER_VERSION: u16 = 1;

/// The longest raw value that is looked at, bytes.
const VALUE_BYTES_MAX: usize = 512;

/// What an installation knows about its own numbers and systems.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NormaliserConfig {
    /// Own numbers and trunks, E.164; a trailing `*` stands for any digits.
    pub own_numbers: Vec<String>,
    /// Other values that name nobody, in their canonical form; a trailing `*` stands for anything.
    pub blocked: Vec<String>,
    /// Systems that issue account numbers, as the prefix before the colon: lower-case letters and digits.
    pub issuers: Vec<String>,
}

/// A raw value with what is known about it.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    /// What it is.
    pub kind: IdentifierType,
    /// As the source sent it.
    pub value: &'a str,
    /// For phone numbers without country code: where the flow's number is, ISO 3166 (`DE`).
    pub region: Option<&'a str>,
    /// For accounts the issuing system, for handles the integration.
    pub namespace: Option<&'a str>,
}

/// Why a value names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The number was withheld, or a placeholder stands for one.
    #[error("withheld or a placeholder")]
    Withheld,
    /// An emergency number.
    #[error("emergency number")]
    Emergency,
    /// A short code.
    #[error("short code")]
    ShortCode,
    /// A number that is free for the caller, so nobody's own.
    #[error("toll-free number")]
    TollFree,
    /// One of the installation's own numbers.
    #[error("own number")]
    OwnNumber,
    /// A mailbox of a function, not of a person.
    #[error("role mailbox")]
    RoleMailbox,
    /// On the installation's list.
    #[error("listed as blocked")]
    Listed,
    /// Not of its type. Names the part, never the value.
    #[error("malformed. part={0}")]
    Malformed(&'static str),
    /// A number without country code and no region to read it in.
    #[error("region is missing or not known")]
    Region,
    /// No issuer or integration, or one that is not configured.
    #[error("namespace is missing or not known")]
    Namespace,
}

impl Refusal {
    /// Tells whether the value is well formed but names nobody: a fact about the interaction, not an error of the caller.
    pub fn is_blocked(self) -> bool {
        !matches!(self, Self::Malformed(_) | Self::Region | Self::Namespace)
    }

    /// Returns the name in events and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Withheld => "WITHHELD",
            Self::Emergency => "EMERGENCY",
            Self::ShortCode => "SHORT_CODE",
            Self::TollFree => "TOLL_FREE",
            Self::OwnNumber => "OWN_NUMBER",
            Self::RoleMailbox => "ROLE_MAILBOX",
            Self::Listed => "LISTED",
            Self::Malformed(_) => "MALFORMED",
            Self::Region => "REGION_UNKNOWN",
            Self::Namespace => "NAMESPACE_UNKNOWN",
        }
    }
}

/// A text that is wiped when dropped.
pub(crate) type Secret = Zeroizing<String>;

/// A value in its canonical form. It can only be turned into tokens.
pub struct Normal {
    pub(crate) kind: IdentifierType,
    pub(crate) value: Secret,
    /// Other canonical forms of the same thing, such as a Mexican mobile with and without its old prefix.
    pub(crate) variants: Vec<Secret>,
    /// A folded form, which corroborates only.
    pub(crate) folded: Option<Secret>,
    /// An extension behind a switchboard.
    pub(crate) extension: bool,
}

impl std::fmt::Debug for Normal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Normal({}, …)", self.kind.number())
    }
}

impl Normal {
    fn new(kind: IdentifierType, value: Secret) -> Self {
        Self { kind, value, variants: Vec::new(), folded: None, extension: false }
    }

    /// Returns what it is.
    pub fn kind(&self) -> IdentifierType {
        self.kind
    }

    /// Tells whether the number came with an extension: it is a switchboard's, and the person is behind it.
    pub fn has_extension(&self) -> bool {
        self.extension
    }

    /// Returns the canonical form for hashing.
    pub fn identifier(&self) -> RawIdentifier {
        raw(self.kind, &self.value)
    }

    /// Returns the known variants for hashing.
    pub fn variants(&self) -> impl Iterator<Item = RawIdentifier> {
        self.variants.iter().map(|value| raw(self.kind, value))
    }

    /// Returns the folded form for hashing: another type, which corroborates only.
    pub fn folded(&self) -> Option<RawIdentifier> {
        self.folded.as_ref().map(|value| raw(types::EMAIL_FOLDED, value))
    }
}

fn raw(kind: IdentifierType, value: &Secret) -> RawIdentifier {
    RawIdentifier::from_normal_form(kind, value.as_str().to_owned())
}

/// Brings values into their canonical form.
#[derive(Clone, Debug)]
pub struct Normaliser {
    config: NormaliserConfig,
}

impl Normaliser {
    /// Returns a normaliser for an installation.
    ///
    /// # Errors
    /// [`crate::IdentityError::Ruleset`] if an issuer or a number of the configuration makes no sense.
    pub fn new(config: NormaliserConfig) -> Result<Self, crate::IdentityError> {
        let wrong = |what| Err(crate::IdentityError::Ruleset { what });
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if !config.issuers.iter().all(|issuer| plain(issuer)) {
            return wrong("issuers are lower-case letters and digits");
        }
        let number = |text: &str| {
            let digits = text.strip_suffix('*').unwrap_or(text).strip_prefix('+');
            digits.is_some_and(|digits| digits.len() >= 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        };
        if !config.own_numbers.iter().all(|text| number(text)) {
            return wrong("own numbers are + and at least 2 digits, with * for the rest");
        }
        Ok(Self { config })
    }

    /// Brings a value into its canonical form.
    ///
    /// # Errors
    /// A [`Refusal`] that says why it names nobody.
    pub fn normalise(&self, raw: Raw<'_>) -> Result<Normal, Refusal> {
        if raw.value.len() > VALUE_BYTES_MAX {
            return Err(Refusal::Malformed("length"));
        }
        let normal = match raw.kind {
            IdentifierType::PHONE => phone::normalise(raw.value, raw.region, &self.config)?,
            IdentifierType::EMAIL => email::normalise(raw.value)?,
            IdentifierType::ACCOUNT => account::normalise(raw.value, raw.namespace, &self.config)?,
            kind => opaque(kind, raw.value, raw.namespace)?,
        };
        if listed(&self.config.blocked, &normal.value) {
            return Err(Refusal::Listed);
        }
        Ok(normal)
    }
}

/// Tells whether a list holds a value, or a beginning of it followed by a star.
fn listed(list: &[String], value: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(prefix) => value.starts_with(prefix),
        None => value == entry,
    })
}

/// Handles of other systems are taken as they are, within their namespace.
fn opaque(kind: IdentifierType, value: &str, namespace: Option<&str>) -> Result<Normal, Refusal> {
    if value.is_empty() {
        return Err(Refusal::Malformed("empty"));
    }
    if value.chars().any(char::is_control) {
        return Err(Refusal::Malformed("control character"));
    }
    let namespace = match namespace {
        Some(namespace) if !namespace.is_empty() && !namespace.contains([':', '\0']) => namespace,
        None if kind != types::MESSAGING => "",
        _ => return Err(Refusal::Namespace),
    };
    Ok(Normal::new(kind, Secret::new(format!("{namespace}:{value}"))))
}
