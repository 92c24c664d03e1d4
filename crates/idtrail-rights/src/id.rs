//! Names and digests that rights requests are made of.
//!
//! What identifies a person never stands in any of them: a request has a random reference for its subject, a person who
//! acts is named by an opaque id, and what was seen elsewhere is named by its hash. Names are short and of a closed
//! alphabet, so that none of them can carry a sentence.

use std::fmt;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::error::RightsError;

/// 32 bytes that name something: a plan, an effect, a piece of evidence. 64 lower-case hex digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the SHA-256 of `domain` and `parts`, each behind its length (8 bytes, big-endian), so that no two lists of
    /// parts run into the same bytes.
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Returns the SHA-256 of the canonical JSON (RFC 8785) of a value, under a domain.
    ///
    /// # Errors
    /// [`RightsError::Json`] if the value has no canonical form.
    pub fn of_json(domain: &str, value: &impl Serialize) -> Result<Self, RightsError> {
        let text = serde_json_canonicalizer::to_vec(value).map_err(|_| RightsError::Json)?;
        Ok(Self::of(domain, &[&text]))
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`RightsError::Digest`].
    pub fn parse(text: &str) -> Result<Self, RightsError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| RightsError::Digest)?;
        bytes.try_into().map(Self).map_err(|_| RightsError::Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = HEXLOWER.encode(&self.0);
        write!(f, "{}…", text.get(..8).unwrap_or_default())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Defines a short text of a closed alphabet.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $max:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Reads a name: letters, digits and `._:/-`, not empty, and not longer than the type allows.
            ///
            /// # Errors
            /// [`RightsError::Name`].
            pub fn parse(text: &str) -> Result<Self, RightsError> {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
                let fits = (1..=$max).contains(&text.len()) && text.bytes().all(allowed);
                if fits { Ok(Self(text.to_owned())) } else { Err(RightsError::Name(stringify!($name))) }
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

names! {
    /// The id of a request, chosen at random when it is opened: at most 64 bytes.
    RequestId, 64;
    /// Who acts: the opaque id of a person or credential, never a name or an address: at most 128 bytes.
    Principal, 128;
    /// A system that may hold data of a person, such as `idtrail` or `crm`: at most 64 bytes.
    SystemName, 64;
    /// One item of a plan, such as `crm/contact`; unique within the plan: at most 128 bytes.
    ItemName, 128;
    /// A legal hold: at most 64 bytes.
    HoldName, 64;
    /// A short code, such as the reason of a pause or the id of a regime: at most 64 bytes.
    Code, 64;
}

/// The random reference of a request's subject: in our own DATA_DELETION it stands in the place of the customer's id.
/// `sr_` and 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectRef([u8; 16]);

impl SubjectRef {
    /// Wraps 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SubjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sr_{}", HEXLOWER.encode(&self.0))
    }
}

impl Serialize for SubjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SubjectRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let hex = text.strip_prefix("sr_").and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok());
        let bytes = hex.and_then(|hex| hex.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom(RightsError::Name("SubjectRef")))
    }
}

/// The secret of one request: with it, and only with it, an interaction can be found in the request's DATA_DELETION
/// leaves. The requester gets it with the certificate; the log holds its commitment only.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// Wraps 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns what the log holds of it.
    pub fn commitment(&self) -> Digest {
        Digest::of("idtrail/rights/nonce/v1", &[&self.0])
    }

    /// Returns the name of an interaction under this request: HMAC-SHA256, so that nobody else can try ids.
    pub fn interaction(&self, interaction_id: &str) -> Digest {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(b"idtrail/rights/interaction/v1\0");
        mac.update(interaction_id.as_bytes());
        Digest(mac.finalize().into_bytes().into())
    }

    /// Returns 64 hex digits, for the certificate.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(…)")
    }
}
