//! Entry bundles (C2SP tlog-tiles): each entry behind its length as a big-endian `u16`.
//!
//! In go entries, out comes the body of `tile/entries/…`, and back. A bundle of a log holds 1 to 256 entries;
//! how many a given one holds is for the caller to compare with its [`BundleId`](crate::BundleId). The length
//! is not hashed: the leaf hash covers the entry alone.

use alloc::vec::Vec;

use crate::error::ErrorKind;

/// Why a bundle could not be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// An entry is longer than 65,535 bytes.
    #[error("an entry is too long for a bundle. bytes={bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The bundle ends within an entry.
    #[error("the bundle ends within an entry. offset={offset}")]
    Truncated {
        /// Where that entry starts.
        offset: usize,
    },
}

impl BundleError {
    /// Returns what the caller must do: `Invalid` for an entry, `Damaged` for a bundle.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLong { .. } => ErrorKind::Invalid,
            Self::Truncated { .. } => ErrorKind::Damaged,
        }
    }
}

/// Writes entries one behind the other.
///
/// # Errors
/// `TooLong` if an entry does not fit the format.
pub fn encode<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, BundleError> {
    let mut bundle = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).map_err(|_| BundleError::TooLong { bytes: entry.len() })?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// Returns the entries of a bundle.
///
/// # Errors
/// `Truncated` if it ends within an entry.
pub fn decode(bundle: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let truncated = BundleError::Truncated { offset: bundle.len() - rest.len() };
        let Some((length, behind)) = rest.split_first_chunk::<2>() else { return Err(truncated) };
        let Some((entry, tail)) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            return Err(truncated);
        };
        entries.push(entry);
        rest = tail;
    }
    Ok(entries)
}
