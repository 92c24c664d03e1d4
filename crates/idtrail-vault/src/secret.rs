//! Thirty-two secret bytes, and the key that wraps the vault.
//!
//! Both types are zeroised when they are dropped, compare in constant time and never show their content. What they
//! cannot do: wipe the copies that a move leaves on the stack, or keep the kernel from swapping a page out; run the
//! process with swap off or encrypted.

use std::fmt;

use data_encoding::{BASE64, BASE64URL, HEXLOWER_PERMISSIVE};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::VaultError;

/// A node of a key tree while it is being worked on: 32 bytes in a buffer that its owner wipes.
pub(crate) type Seed = [u8; 32];

/// A secret of 32 bytes: a leaf seed, a pepper, an Ed25519 seed or an HMAC key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret32([u8; 32]);

impl Secret32 {
    /// Wraps 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Shows the 32 bytes to the code that needs them; do not store what it returns.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) const fn expose_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

impl PartialEq for Secret32 {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret32 {}

impl fmt::Debug for Secret32 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret32(..)")
    }
}

/// The key-encryption key: 32 bytes that wrap each epoch key in its anchor cells. It is never stored by the vault.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Kek([u8; 32]);

impl Kek {
    /// Takes over 32 random bytes.
    ///
    /// # Errors
    /// `Invalid` if they are all zero, which is what a file holds that was allocated and never written.
    pub fn new(bytes: [u8; 32]) -> Result<Self, VaultError> {
        if bytes == [0; 32] {
            return Err(VaultError::Kek("it is all zeros"));
        }
        Ok(Self(bytes))
    }

    /// Reads a key file: exactly 32 raw bytes, or the text of them as 64 hexadecimal digits or as base64 (either
    /// alphabet, with padding), with white space around it.
    ///
    /// # Errors
    /// `Invalid` for anything else; the message never shows the content.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, VaultError> {
        if let Ok(raw) = <[u8; 32]>::try_from(bytes) {
            return Self::new(raw);
        }
        let text = bytes.trim_ascii();
        let decoded = match text.len() {
            64 => HEXLOWER_PERMISSIVE.decode(text),
            44 if text.iter().any(|byte| matches!(byte, b'-' | b'_')) => BASE64URL.decode(text),
            44 => BASE64.decode(text),
            _ => {
                return Err(VaultError::Kek(
                    "it is neither 32 raw bytes, 64 hexadecimal digits nor 44 of base64",
                ));
            }
        };
        let decoded =
            Zeroizing::new(decoded.map_err(|_| VaultError::Kek("it is not valid hexadecimal or base64"))?);
        Self::new(decoded.as_slice().try_into().map_err(|_| VaultError::Kek("it is not 32 bytes long"))?)
    }

    pub(crate) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Kek(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_in_each_form() {
        let raw: Vec<u8> = (200..232).collect();
        let hex = HEXLOWER_PERMISSIVE.encode(&raw);
        for file in [
            raw.clone(),
            hex.clone().into_bytes(),
            format!(" {}\n", hex.to_uppercase()).into_bytes(),
            format!("{}\r\n", BASE64.encode(&raw)).into_bytes(),
            BASE64URL.encode(&raw).into_bytes(),
        ] {
            assert_eq!(Kek::from_file_bytes(&file).unwrap().expose().as_slice(), raw);
        }
        for refused in
            [&b""[..], &[0; 32], &[7; 31], &[7; 33], "0".repeat(64).as_bytes(), "zz".repeat(32).as_bytes()]
        {
            assert!(Kek::from_file_bytes(refused).is_err());
        }
    }

    #[test]
    fn nothing_is_shown() {
        assert_eq!(format!("{:?}", Secret32::new([7; 32])), "Secret32(..)");
        assert_eq!(format!("{:?}", Kek::new([7; 32]).unwrap()), "Kek(..)");
    }
}
