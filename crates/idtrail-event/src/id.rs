//! Identifiers that this system gives: random, never derived from anything about a person.

use alloc::format;
use core::fmt;

use data_encoding::BASE32_NOPAD;

use crate::compact;

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of this kind. expected={expected}")]
pub struct IdError {
    pub(crate) expected: &'static str,
}

/// One customer, whatever the channel: `gc_` and 26 lower-case base32 characters of 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GlobalCustomerId([u8; 16]);

impl GlobalCustomerId {
    /// Wraps 16 random bytes.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&str> for GlobalCustomerId {
    type Error = IdError;

    fn try_from(text: &str) -> Result<Self, IdError> {
        let error = IdError { expected: "gc_ and 26 base32 characters" };
        let digits = text.strip_prefix("gc_").filter(|digits| digits.len() == 26).ok_or(error)?;
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(error);
        }
        // The decoder refuses trailing bits that are not zero, so one id has one text.
        let bytes = BASE32_NOPAD.decode(digits.to_ascii_uppercase().as_bytes()).map_err(|_| error)?;
        bytes.try_into().map(Self).map_err(|_| error)
    }
}

impl fmt::Display for GlobalCustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = BASE32_NOPAD.encode(&self.0);
        text.make_ascii_lowercase();
        write!(f, "gc_{text}")
    }
}

impl fmt::Debug for GlobalCustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{self}");
        write!(f, "{}…", text.get(..8).unwrap_or_default())
    }
}

/// One event: 128 random bits, written like a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);

impl EventId {
    /// Wraps 16 random bytes.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&str> for EventId {
    type Error = IdError;

    fn try_from(text: &str) -> Result<Self, IdError> {
        let expected = "a UUID in lower case";
        compact::uuid(text).map(Self).ok_or(IdError { expected })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&compact::uuid_text(&self.0))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{self}");
        write!(f, "{}…", text.get(..8).unwrap_or_default())
    }
}
