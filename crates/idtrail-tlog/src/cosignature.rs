//! Cosignatures of witnesses over checkpoints (C2SP tlog-cosignature 1.1), Ed25519 only.
//!
//! In go the text of a checkpoint and a time, out comes a signature line, and back. The signed message names
//! the time but not the witness, so a witness must use one key for one name only. What a witness says: at
//! that time this was the largest tree of this log that it had seen, and it was consistent with all before.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey};

use crate::key::{COSIGNATURE_ED25519, KeyError, VerifierKey};
use crate::note::{NoteError, Signature, push_line};

/// Latest time that a cosignature may name, in seconds since 1970.
const TIME_S_MAX: u64 = i64::MAX as u64;

/// Checks the cosignature `line` by `key` over the text of a checkpoint and returns the time that it names,
/// in seconds since 1970.
///
/// # Errors
/// `UnsupportedKey` if `key` is no Ed25519 key for cosignatures; `BadSignature` if the line does not hold.
pub fn verify_cosignature(key: &VerifierKey, text: &str, line: &Signature) -> Result<u64, NoteError> {
    if key.signature_type() != COSIGNATURE_ED25519 {
        let signature_type = key.signature_type();
        return Err(NoteError::UnsupportedKey { key: key.name().to_owned(), signature_type });
    }
    let bad = || NoteError::BadSignature { key: key.name().to_owned() };
    let (time, signature) = line.bytes.split_first_chunk::<8>().ok_or_else(bad)?;
    let time_s = u64::from_be_bytes(*time);
    if time_s > TIME_S_MAX || !key.verify(message(time_s, text).as_bytes(), signature) {
        return Err(bad());
    }
    Ok(time_s)
}

/// The key of a witness.
pub struct CosignerKey {
    key: SigningKey,
    verifier: VerifierKey,
}

impl CosignerKey {
    /// Returns the key of a 32-byte seed (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// [`KeyError`] if the name is not allowed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::cosignature_ed25519(name, key.verifying_key().as_bytes())?;
        Ok(Self { key, verifier })
    }

    /// Returns the key that verifies what this one signs.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Returns the signature line, line feed included, over the text of a checkpoint; `time_s` is now, in
    /// seconds since 1970. A witness must have checked and stored the checkpoint before.
    ///
    /// # Panics
    /// If `time_s` is 2^63 or more, which the format forbids.
    pub fn cosign(&self, text: &str, time_s: u64) -> String {
        assert!(time_s <= TIME_S_MAX, "a cosignature's time is below 2^63");
        let signature = self.key.sign(message(time_s, text).as_bytes()).to_bytes();
        let mut data = [0; 76];
        let (id, rest) = data.split_at_mut(4);
        let (time, sealed) = rest.split_at_mut(8);
        id.copy_from_slice(&self.verifier.key_id());
        time.copy_from_slice(&time_s.to_be_bytes());
        sealed.copy_from_slice(&signature);
        let mut line = String::new();
        push_line(&mut line, self.verifier.name(), &data);
        line
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CosignerKey").field("name", &self.verifier.name()).finish_non_exhaustive()
    }
}

fn message(time_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}
