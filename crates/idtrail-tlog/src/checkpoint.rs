//! Checkpoints: signed tree heads (C2SP tlog-checkpoint 1.0).
//!
//! In go origin, size and root, out comes the one text that stands for them, signed or not, and back. The
//! parser accepts exactly what the writer writes, plus extension lines, which others may have and this log
//! never writes: newer cosignature types do not cover them. Whether a checkpoint is to be believed is for
//! [`Checkpoint::open`] with known keys, or for a [`Policy`](crate::Policy).

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::error::ErrorKind;
use crate::hash::{Hash, TreeSize};
use crate::key::{ED25519, Signer, VerifierKey, check_name};
use crate::note::{self, Note, NoteError};
use crate::refusal::Refusal;

/// The statement of a log about its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Count of entries.
    pub size: TreeSize,
    /// Root of the tree.
    pub root: Hash,
}

/// Why a text is no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint: {0}")]
pub struct CheckpointError(&'static str);

impl CheckpointError {
    /// Returns what the caller must do: `Invalid`.
    pub fn kind(self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl Checkpoint {
    /// Returns the text that is signed: origin, size, root, each on a line.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.origin.len() + 68);
        text.push_str(&self.origin);
        text.push('\n');
        text.push_str(&self.size.to_string());
        text.push('\n');
        self.root.push_base64(&mut text);
        text.push('\n');
        text
    }

    /// Reads the text of a checkpoint and returns its extension lines beside it.
    ///
    /// # Errors
    /// [`CheckpointError`] if it is not one.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>), CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError("it does not end in a line feed"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty());
        let origin = origin.ok_or(CheckpointError("it has no origin"))?;
        let size = lines.next().and_then(|size| size.parse().ok());
        let size = size.ok_or(CheckpointError("its size is not a decimal number without leading zeros"))?;
        let root = lines.next().and_then(Hash::from_base64);
        let root = root.ok_or(CheckpointError("its root is not a hash in base64"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError("it holds an empty line"));
        }
        Ok((Self { origin: origin.to_owned(), size, root }, extensions))
    }

    /// Returns the checkpoint as a note signed by the log's key.
    ///
    /// # Panics
    /// If the origin is not the name of the key or could not stand in a note: such a signature would never
    /// verify.
    pub fn sign(&self, signer: &dyn Signer) -> String {
        assert!(
            check_name(&self.origin).is_ok() && self.origin == signer.name(),
            "a log signs under its own name"
        );
        note::sign(&self.to_text(), &[signer]).expect("the text of a checkpoint is the text of a note")
    }

    /// Opens a signed checkpoint: a key with the name of its origin must have signed, and no signature by one
    /// of `keys` of that name may be wrong. Witnesses are not asked; see
    /// [`Policy::open_checkpoint`](crate::Policy).
    ///
    /// # Errors
    /// [`Refusal`] with the reason.
    pub fn open<'k>(note: &[u8], keys: impl IntoIterator<Item = &'k VerifierKey>) -> Result<Self, Refusal> {
        let note = Note::parse(note).map_err(Refusal::Note)?;
        Self::open_note(&note, keys).map(|(checkpoint, _)| checkpoint)
    }

    /// Does [`Checkpoint::open`] for a note that was taken apart, and returns the first key that signed.
    pub(crate) fn open_note<'k>(
        note: &Note,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<(Self, &'k VerifierKey), Refusal> {
        let (checkpoint, _) = Self::parse(&note.text)?;
        let origin = || checkpoint.origin.clone();
        let mut keys: Vec<&VerifierKey> =
            keys.into_iter().filter(|key| key.name() == checkpoint.origin).collect();
        if keys.is_empty() {
            return Err(Refusal::UnknownOrigin { origin: origin() });
        }
        // A witness' key says nothing for the log, even under the log's name.
        keys.retain(|key| key.signature_type() == ED25519);
        if keys.is_empty() {
            return Err(Refusal::UnsupportedKey { origin: origin() });
        }
        let signatures = note.open(keys).map_err(|error| match error {
            NoteError::BadSignature { .. } => Refusal::LogSignature { origin: origin() },
            _ => Refusal::Unsigned { origin: origin() },
        })?;
        let first = signatures.first().ok_or_else(|| Refusal::Unsigned { origin: origin() })?;
        Ok((checkpoint, first.key))
    }
}
