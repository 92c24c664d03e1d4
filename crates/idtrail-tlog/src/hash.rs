//! Hashes of leaves and nodes (RFC 6962 §2.1), and the two numbers that must never be mixed: index and size.
//!
//! In go bytes and decimal or base64 text, out come values that are right by construction. Text has exactly
//! one form for each value: base64 with stray bits and numbers with leading zeros are refused, because two
//! spellings of one checkpoint would be two signed texts.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// A SHA-256 hash of a leaf or node. `Debug` prints its first four bytes, `Display` all 64 lower-case hex
/// digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Wraps 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the standard base64 of the hash: 44 characters.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Appends the standard base64 of the hash (44 characters) to `out`.
    pub fn push_base64(&self, out: &mut String) {
        // A quarter faster than letting the encoder write into the string; a proof has about twenty of these.
        let mut text = [0; 44];
        let encoded = STANDARD.encode_slice(self.0, &mut text).ok();
        let encoded = encoded.and_then(|_| core::str::from_utf8(&text).ok());
        out.push_str(encoded.expect("32 bytes are 44 characters of base64"));
    }

    /// Reads 44 characters of canonical standard base64.
    pub fn from_base64(text: &str) -> Option<Self> {
        // The decoder wants room for whole groups of three bytes, hence 33.
        let mut bytes = [0; 33];
        if text.len() != 44 || STANDARD.decode_slice(text, &mut bytes).ok()? != 32 {
            return None;
        }
        bytes.first_chunk().copied().map(Self)
    }

    /// Reads 64 lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One table look-up a digit: the formatter's own way costs ten times as much, and every receipt has a hash.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair =
                [byte >> 4, byte & 15].map(|digit| DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0'));
        }
        f.write_str(core::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The text is not a decimal number below 2^64 without leading zeros and sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number without leading zeros")]
pub struct DecimalError;

/// Reads a decimal number in its only spelling: digits, no sign, no leading zero.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

macro_rules! counting_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Returns the number that is `count` higher, or `None` beyond 2^64.
            pub const fn checked_add(self, count: u64) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// Returns the number as a place in memory, or `None` if this machine cannot address it.
            pub fn to_usize(self) -> Option<usize> {
                usize::try_from(self.0).ok()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DecimalError;

            /// Reads a decimal number without leading zeros.
            fn from_str(text: &str) -> Result<Self, DecimalError> {
                decimal(text).map(Self).ok_or(DecimalError)
            }
        }
    };
}

counting_newtype! {
    /// The place of an entry in a log, from 0.
    LogIndex
}
counting_newtype! {
    /// How many entries a tree has.
    TreeSize
}

impl TreeSize {
    /// Tells whether a tree of this size has an entry at `index`.
    pub const fn contains(self, index: LogIndex) -> bool {
        index.0 < self.0
    }
}

/// Returns the hash of a leaf: `SHA-256(0x00 ‖ entry)` (RFC 6962 §2.1).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new_with_prefix([0]).chain_update(entry).finalize().into())
}

/// Returns the hash of an inner node: `SHA-256(0x01 ‖ left ‖ right)` (RFC 6962 §2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new_with_prefix([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Returns the root of the empty tree: `SHA-256("")` (RFC 6962 §2.1).
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}
