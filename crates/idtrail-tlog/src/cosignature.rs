//! Cosignatures of witnesses (C2SP tlog-cosignature 1.1): Ed25519 only.

use alloc::format;

use crate::note::{COSIGNATURE_ED25519, NoteError, Signature, VerifierKey};

/// Why a cosignature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// It is too short to hold a time and a signature.
    #[error("the cosignature has the wrong length. bytes={bytes}")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// The signature is wrong or the key cannot be used.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// Checks the cosignature `line` by `key` over the text of a checkpoint and returns the time at which the witness saw
/// it, in seconds since 1970.
///
/// # Errors
/// [`CosignatureError`] if it does not hold.
pub fn verify_cosignature(key: &VerifierKey, text: &str, line: &Signature) -> Result<u64, CosignatureError> {
    let Some((time, signature)) = line.bytes.split_first_chunk::<8>() else {
        return Err(CosignatureError::Length { bytes: line.bytes.len() });
    };
    let time = u64::from_be_bytes(*time);
    let message = format!("cosignature/v1\ntime {time}\n{text}");
    key.verify(COSIGNATURE_ED25519, message.as_bytes(), signature)?;
    Ok(time)
}
