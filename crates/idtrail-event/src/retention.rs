//! Retention classes: how long events of a kind may be readable, and why.
//!
//! A class is fixed when a leaf is sealed; expiry destroys the key of one (class, month). The table itself is in the
//! log, so that an auditor can see which durations held when.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A retention class.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(u8);

impl ClassId {
    /// Identifications of customers.
    pub const IDENTITY: Self = Self(1);
    /// Interactions without a customer.
    pub const ANONYMOUS: Self = Self(2);
    /// Consents.
    pub const CONSENT: Self = Self(3);
    /// Claims of deletion by outside systems.
    pub const DELETION: Self = Self(4);
    /// Configured event types.
    pub const CUSTOM: Self = Self(5);
    /// The log's own leaves, which hold no personal data.
    pub const SYSTEM: Self = Self(6);
    /// Steps of rights requests.
    pub const RIGHTS: Self = Self(7);

    /// Wraps a number, known or not.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {}", self.0)
    }
}

/// One class of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionClass {
    /// Its number.
    pub id: ClassId,
    /// Its name.
    pub name: String,
    /// Months that events stay readable after the month of their receipt; `None` for as long as the log exists.
    pub months: Option<u16>,
    /// Why this long.
    pub reason: String,
}

/// The retention classes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassTable {
    /// Counts changes of the table, from 1.
    pub version: u16,
    /// The classes, by number.
    pub classes: Vec<RetentionClass>,
}

impl Default for ClassTable {
    fn default() -> Self {
        let class = |id, name: &str, months, reason: &str| RetentionClass {
            id,
            name: name.to_owned(),
            months,
            reason: reason.to_owned(),
        };
        Self {
            version: 1,
            classes: alloc::vec![
                class(
                    ClassId::IDENTITY,
                    "identity",
                    Some(36),
                    "claims from a call are brought within three years at most places; storage limitation, GDPR Art. 5(1)(e)",
                ),
                class(
                    ClassId::ANONYMOUS,
                    "anonymous",
                    Some(13),
                    "year-on-year comparison of contact reasons; no longer needed after that, GDPR Art. 5(1)(e)",
                ),
                class(
                    ClassId::CONSENT,
                    "consent",
                    Some(72),
                    "the controller must be able to demonstrate consent, GDPR Art. 7(1), until claims have lapsed",
                ),
                class(
                    ClassId::DELETION,
                    "deletion",
                    Some(72),
                    "proof that erasure was carried out, GDPR Art. 17 with Art. 5(2), until claims have lapsed",
                ),
                class(
                    ClassId::CUSTOM,
                    "custom",
                    Some(36),
                    "as identity events, unless the controller configures less, GDPR Art. 5(1)(e)",
                ),
                class(
                    ClassId::SYSTEM,
                    "system",
                    None,
                    "the log's own records, without personal data; needed for as long as the log is verified, GDPR Art. 5(2)",
                ),
                class(
                    ClassId::RIGHTS,
                    "rights",
                    Some(72),
                    "proof of how a data subject's request was handled, GDPR Art. 12(3) with Art. 5(2), until claims have lapsed",
                ),
            ],
        }
    }
}
