//! Proof files (C2SP tlog-proof): an inclusion proof and the checkpoint that it leads to, in one text.
//!
//! In go index, hashes and a signed checkpoint, out comes the content of a `.tlog-proof` file, and back, byte
//! for byte. With the leaf's hash and a policy such a file convinces anybody offline; without them it says
//! nothing. The extra line is authenticated by nothing.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::ErrorKind;
use crate::hash::{Hash, LogIndex, decimal};
use crate::policy::{Policy, VerifiedCheckpoint};
use crate::proof::verify_inclusion;
use crate::refusal::Refusal;

const FORMAT: &str = "c2sp.org/tlog-proof@v";
const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1\n";
const HASHES_MAX: usize = 63;
const PROOF_BYTES_MAX: usize = 2_000_000;

/// An inclusion proof with its checkpoint. `Display` writes the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Bytes for the application; authenticated by nothing.
    pub extra: Option<Vec<u8>>,
    /// Index of the entry.
    pub index: LogIndex,
    /// The proof, leaf side first; at most 63 hashes.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint, to the byte.
    pub checkpoint: String,
}

/// Why a text is no proof file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// It is a proof file of a version that this program does not know.
    #[error("the version of this tlog-proof is not supported")]
    Version,
    /// It is something else, or cut off, or altered.
    #[error("not a tlog-proof: {0}")]
    Malformed(&'static str),
}

impl TlogProofError {
    /// Returns what the caller must do: `Invalid`.
    pub fn kind(self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl TlogProof {
    /// Reads a proof file. The checkpoint is kept as it is and not looked at.
    ///
    /// # Errors
    /// [`TlogProofError`] if it is not one.
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        let fail = TlogProofError::Malformed;
        if text.len() > PROOF_BYTES_MAX {
            return Err(fail("it is longer than 2,000,000 bytes"));
        }
        let Some(rest) = text.strip_prefix(FIRST_LINE) else {
            return Err(if is_other_version(text) {
                TlogProofError::Version
            } else {
                fail("its first line is another")
            });
        };
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(fail("it has no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        let mut extra = None;
        if let Some(data) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            extra = Some(STANDARD.decode(data).map_err(|_| fail("its extra data is not base64"))?);
            lines.next();
        }
        let index =
            lines.next().and_then(|line| line.strip_prefix("index ")).and_then(|index| index.parse().ok());
        let index = index.ok_or(fail("it has no index"))?;
        // One more than allowed is enough to see that there are too many.
        let hashes: Option<Vec<Hash>> = lines.take(HASHES_MAX + 1).map(Hash::from_base64).collect();
        let hashes = hashes.ok_or(fail("a line of the proof is not a hash"))?;
        if hashes.len() > HASHES_MAX {
            return Err(fail("it has more than 63 hashes"));
        }
        Ok(Self { extra, index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Returns the content of the file.
    pub fn to_text(&self) -> String {
        let extra = self.extra.as_deref();
        let extra_bytes = extra.map_or(0, |extra| 8 + extra.len().div_ceil(3) * 4);
        let mut text =
            String::with_capacity(extra_bytes + Self::text_bytes_max(self.hashes.len(), &self.checkpoint));
        Self::write_text(&mut text, extra, self.index, &self.hashes, &self.checkpoint);
        text
    }

    /// Appends the content of a proof file to `out`, without the copies that a [`TlogProof`] would need: this
    /// is done for every acknowledged entry.
    pub fn write_text(
        out: &mut String,
        extra: Option<&[u8]>,
        index: LogIndex,
        hashes: &[Hash],
        checkpoint: &str,
    ) {
        out.reserve(Self::text_bytes_max(hashes.len(), checkpoint));
        out.push_str(FIRST_LINE);
        if let Some(extra) = extra {
            out.push_str("extra ");
            STANDARD.encode_string(extra, out);
            out.push('\n');
        }
        writeln!(out, "index {index}").expect("a String takes everything");
        for hash in hashes {
            hash.push_base64(out);
            out.push('\n');
        }
        out.push('\n');
        out.push_str(checkpoint);
    }

    fn text_bytes_max(hashes: usize, checkpoint: &str) -> usize {
        FIRST_LINE.len() + 27 + 45 * hashes + 1 + checkpoint.len()
    }

    /// Checks the checkpoint against the policy and the leaf against the checkpoint.
    ///
    /// # Errors
    /// [`Refusal`] with the reason.
    pub fn verify(&self, leaf: &Hash, policy: &Policy) -> Result<VerifiedCheckpoint, Refusal> {
        let verified = policy.open_checkpoint(self.checkpoint.as_bytes())?;
        let checkpoint = &verified.checkpoint;
        verify_inclusion(self.index, checkpoint.size, leaf, &self.hashes, &checkpoint.root)?;
        Ok(verified)
    }
}

/// Tells whether the first line is that of a proof file of some version: only then may newer software read it.
fn is_other_version(text: &str) -> bool {
    let version = text.strip_prefix(FORMAT).and_then(|rest| rest.split_once('\n'));
    version.is_some_and(|(version, _)| decimal(version).is_some())
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}
