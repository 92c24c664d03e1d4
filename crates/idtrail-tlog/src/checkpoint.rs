//! Checkpoints: signed tree heads (C2SP tlog-checkpoint 1.0).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::hash::{Hash, TreeSize};
use crate::note::{self, Signer};

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

impl Checkpoint {
    /// Returns the text that is signed: origin, size, root, each on a line.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.origin, self.size);
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
        let origin =
            lines.next().filter(|origin| !origin.is_empty()).ok_or(CheckpointError("it has no origin"))?;
        let size =
            lines.next().and_then(parse_size).ok_or(CheckpointError("its size is not a decimal number"))?;
        let root =
            lines.next().and_then(Hash::from_base64).ok_or(CheckpointError("its root is not a hash"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError("it holds an empty line"));
        }
        Ok((Self { origin: origin.to_owned(), size, root }, extensions))
    }

    /// Returns the checkpoint as a note signed by the log's key, whose name is the origin.
    ///
    /// # Panics
    /// If the origin holds a control character; origins are checked when a log is created.
    pub fn sign(&self, signer: &dyn Signer) -> String {
        note::sign(&self.to_text(), &[signer]).expect("the text of a checkpoint is the text of a note")
    }
}

fn parse_size(text: &str) -> Option<TreeSize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten().map(TreeSize::new)
}
