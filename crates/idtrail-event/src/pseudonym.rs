//! Keyed hashing of identifiers: the only form in which a phone number, mail address or account number leaves memory.
//!
//! ```text
//! K     = HKDF-SHA-256(ikm = pepper, salt = tenant, info = "idtrail/id-key/v1" ‖ u16be(type))
//! frame = "idtrail.id.v1" ‖ 00 ‖ u16be(len tenant) ‖ tenant ‖ u16be(type) ‖ u32be(len x) ‖ x
//! token = HMAC-SHA-256(K, frame)
//! ```
//! Tenant and type are separated twice, by key and by frame; the lengths leave no room for two readings.

use alloc::string::String;
use core::fmt;

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::id::IdError;

/// What an identifier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentifierType(u16);

impl IdentifierType {
    /// A phone number, E.164.
    pub const PHONE: Self = Self(1);
    /// A mail address.
    pub const EMAIL: Self = Self(2);
    /// An account number with its issuer's prefix.
    pub const ACCOUNT: Self = Self(3);

    /// Wraps the number of a type, one of these or a configured one.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// A raw identifier in its normal form. It cannot be printed, copied, compared or serialised, and is wiped from memory
/// when dropped; all that can be done with it is to make its token.
#[derive(ZeroizeOnDrop)]
pub struct RawIdentifier {
    #[zeroize(skip)]
    kind: IdentifierType,
    value: String,
}

impl RawIdentifier {
    /// Takes over an identifier that is in its normal form already.
    pub fn from_normal_form(kind: IdentifierType, value: String) -> Self {
        Self { kind, value }
    }

    /// Returns what the identifier is.
    pub fn kind(&self) -> IdentifierType {
        self.kind
    }
}

/// The secret behind all tokens of a tenant.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Pepper([u8; 32]);

impl Pepper {
    /// Wraps 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// The keyed hash of an identifier: 64 lower-case hex digits when written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentifierToken([u8; 32]);

impl IdentifierToken {
    /// Wraps 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&str> for IdentifierToken {
    type Error = IdError;

    fn try_from(text: &str) -> Result<Self, IdError> {
        let error = IdError { expected: "64 lower-case hexadecimal digits" };
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| error)?;
        bytes.try_into().map(Self).map_err(|_| error)
    }
}

impl fmt::Display for IdentifierToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for IdentifierToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", HEXLOWER.encode(self.0.get(..4).unwrap_or_default()))
    }
}

/// The key of one type of identifiers, derived once: for whoever makes many tokens.
#[derive(Clone)]
pub struct TokenKey {
    kind: IdentifierType,
    /// Has taken in everything of the frame that stands before the value.
    mac: Hmac<Sha256>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// Derives the key.
    ///
    /// # Panics
    /// If the tenant's name is longer than 65,535 bytes; configuration limits it to 64.
    pub fn new(pepper: &Pepper, tenant: &str, kind: IdentifierType) -> Self {
        let number = kind.0.to_be_bytes();
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(tenant.as_bytes()), &pepper.0)
            .expand_multi_info(&[b"idtrail/id-key/v1", &number], key.as_mut_slice())
            .expect("32 bytes are within what HKDF can give");
        let tenant_length = u16::try_from(tenant.len()).expect("a tenant's name is at most 64 bytes");
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
        mac.update(b"idtrail.id.v1\0");
        mac.update(&tenant_length.to_be_bytes());
        mac.update(tenant.as_bytes());
        mac.update(&number);
        Self { kind, mac }
    }

    /// Returns the type whose tokens it makes.
    pub fn kind(&self) -> IdentifierType {
        self.kind
    }

    /// Returns the token of an identifier, which must be of this key's type.
    ///
    /// # Panics
    /// If the identifier is of another type: its token would be nobody's.
    pub fn token(&self, identifier: &RawIdentifier) -> IdentifierToken {
        assert!(identifier.kind == self.kind, "the key is for another type");
        let value = identifier.value.as_str();
        IdentifierToken(self.begun(value, value.len()).finalize().into_bytes().into())
    }

    /// Returns what has taken in a value of a length as far as it is given.
    fn begun(&self, start: &str, value_bytes: usize) -> Hmac<Sha256> {
        let length = u32::try_from(value_bytes).expect("an identifier is at most a few hundred bytes");
        let mut mac = self.mac.clone();
        mac.update(&length.to_be_bytes());
        mac.update(start.as_bytes());
        mac
    }
}

/// The key of one type of identifiers whose values have the same length and begin alike.
#[derive(Clone)]
pub struct TokenStart {
    /// Bytes of a value behind the start.
    rest_bytes: usize,
    /// Has taken in everything that stands before the rest.
    mac: Hmac<Sha256>,
}

impl fmt::Debug for TokenStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStart").field("rest_bytes", &self.rest_bytes).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// Takes in how values begin that are `value_bytes` long in all.
    ///
    /// # Panics
    /// If the values are shorter than their start, or longer than 4 GiB.
    #[must_use]
    pub fn starting_with(&self, start: &str, value_bytes: usize) -> TokenStart {
        let rest_bytes = value_bytes.checked_sub(start.len()).expect("a value is no shorter than its start");
        TokenStart { rest_bytes, mac: self.begun(start, value_bytes) }
    }
}

impl TokenStart {
    /// Returns the token of the value that ends with `rest`, as [`TokenKey::token`] gives it.
    ///
    /// # Panics
    /// If the rest is not as long as was said: its token would be nobody's.
    #[must_use]
    pub fn token(&self, rest: &[u8]) -> IdentifierToken {
        assert!(rest.len() == self.rest_bytes, "the rest of a value has the length that was said");
        let mut mac = self.mac.clone();
        mac.update(rest);
        IdentifierToken(mac.finalize().into_bytes().into())
    }
}

/// Returns the token of an identifier.
///
/// # Panics
/// As [`TokenKey::new`].
pub fn token(pepper: &Pepper, tenant: &str, identifier: &RawIdentifier) -> IdentifierToken {
    TokenKey::new(pepper, tenant, identifier.kind).token(identifier)
}
