//! Proof files (C2SP tlog-proof): an inclusion proof and the checkpoint that it leads to, in one text.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hash::{Hash, LogIndex};
use crate::policy::{Policy, Refusal, Verified};
use crate::proof::verify_inclusion;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// An inclusion proof with its checkpoint.
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
#[error("not a tlog-proof: {0}")]
pub struct TlogProofError(&'static str);

impl TlogProof {
    /// Reads a proof file.
    ///
    /// # Errors
    /// [`TlogProofError`] if it is not one.
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        let rest = text
            .strip_prefix(FIRST_LINE)
            .and_then(|rest| rest.strip_prefix('\n'))
            .ok_or(TlogProofError("its first line is another"))?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(TlogProofError("it has no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        let mut extra = None;
        if let Some(data) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            extra = Some(STANDARD.decode(data).map_err(|_| TlogProofError("its extra data is not base64"))?);
            lines.next();
        }
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .filter(|digits| *digits == "0" || !digits.starts_with('0'))
            .and_then(|digits| digits.parse().ok())
            .ok_or(TlogProofError("it has no index"))?;
        let hashes: Option<Vec<Hash>> = lines.map(Hash::from_base64).collect();
        let hashes = hashes.ok_or(TlogProofError("a line of the proof is not a hash"))?;
        if hashes.len() > 63 {
            return Err(TlogProofError("it has more than 63 hashes"));
        }
        Ok(Self { extra, index: LogIndex::new(index), hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Checks the checkpoint against the policy and the leaf against the checkpoint.
    ///
    /// # Errors
    /// [`Refusal`] with the reason.
    pub fn verify(&self, leaf: &Hash, policy: &Policy) -> Result<Verified, Refusal> {
        let verified = policy.verify_checkpoint(self.checkpoint.as_bytes())?;
        let checkpoint = &verified.checkpoint;
        verify_inclusion(self.index, checkpoint.size, leaf, &self.hashes, &checkpoint.root)?;
        Ok(verified)
    }
}

impl core::fmt::Display for TlogProof {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // One buffer: this is written once per acknowledged event.
        let mut text = String::with_capacity(48 + 45 * self.hashes.len() + self.checkpoint.len());
        text.push_str(FIRST_LINE);
        text.push('\n');
        if let Some(extra) = &self.extra {
            text.push_str("extra ");
            STANDARD.encode_string(extra, &mut text);
            text.push('\n');
        }
        writeln!(text, "index {}", self.index)?;
        for hash in &self.hashes {
            hash.push_base64(&mut text);
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        f.write_str(&text)
    }
}
