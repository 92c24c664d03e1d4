//! Why a checkpoint or proof was not accepted, sorted by what a verifier may say about it.
//!
//! The difference matters to the reader of a report: "somebody changed this" is an accusation, "I have no key
//! for this log" is not, and "only one of two witnesses has signed" is neither.

use alloc::string::String;

use crate::checkpoint::CheckpointError;
use crate::error::ErrorKind;
use crate::note::NoteError;
use crate::proof::ProofError;
use crate::tlog_proof::TlogProofError;

/// Why a checkpoint or proof was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not a signed note.
    #[error("the checkpoint cannot be read")]
    Note(#[source] NoteError),
    /// The note's text is not a checkpoint.
    #[error("the checkpoint cannot be read")]
    Checkpoint(#[from] CheckpointError),
    /// The text is not a proof file.
    #[error("the proof cannot be read")]
    ProofFile(#[from] TlogProofError),
    /// No key of this log is pinned: nothing can be said about it.
    #[error("no key of this log is pinned. origin={origin}")]
    UnknownOrigin {
        /// The log's name.
        origin: String,
    },
    /// Only keys of types that this program cannot check are pinned for this log.
    #[error("the pinned keys of this log are of unsupported types. origin={origin}")]
    UnsupportedKey {
        /// The log's name.
        origin: String,
    },
    /// A key of this log is pinned, but the checkpoint bears no signature that claims to be by it.
    #[error("no pinned key of this log has signed. origin={origin}")]
    Unsigned {
        /// The log's name.
        origin: String,
    },
    /// The signature by a pinned key of the log is wrong.
    #[error("the signature of the log is wrong. origin={origin}")]
    LogSignature {
        /// The log's name.
        origin: String,
    },
    /// The cosignature by a pinned witness is wrong.
    #[error("the cosignature of a witness is wrong. witness={witness}")]
    WitnessSignature {
        /// The witness' name in the policy.
        witness: String,
    },
    /// The witnesses that have cosigned do not make up the quorum.
    #[error("too few witnesses have cosigned. cosigned={cosigned}, unsupported={unsupported}")]
    Quorum {
        /// How many pinned witnesses have.
        cosigned: usize,
        /// How many pinned witnesses have keys that this program cannot check.
        unsupported: usize,
    },
    /// The inclusion proof does not lead from the leaf to the root of the checkpoint.
    #[error("the leaf is not proved to be in the tree of the checkpoint")]
    Proof(#[from] ProofError),
}

/// What a verifier may say about a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Bytes differ from those that a known key has signed, or from those that were hashed.
    Tampered,
    /// The check could not be made: no pinned key, or a format or key type that this program does not know.
    Unchecked,
    /// All signatures hold, but there are too few of them.
    QuorumNotMet,
    /// The input cannot be read: cut off, altered, or never a checkpoint or proof.
    Malformed,
}

impl Refusal {
    /// Returns what a verifier may say.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::LogSignature { .. } | Self::WitnessSignature { .. } | Self::Proof(_) => Verdict::Tampered,
            Self::UnknownOrigin { .. } | Self::UnsupportedKey { .. } | Self::Unsigned { .. } => {
                Verdict::Unchecked
            }
            Self::ProofFile(TlogProofError::Version) => Verdict::Unchecked,
            Self::Quorum { .. } => Verdict::QuorumNotMet,
            Self::Note(_) | Self::Checkpoint(_) | Self::ProofFile(TlogProofError::Malformed(_)) => {
                Verdict::Malformed
            }
        }
    }

    /// Returns what the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self.verdict() {
            Verdict::Tampered => ErrorKind::Damaged,
            Verdict::Unchecked => ErrorKind::NotFound,
            Verdict::QuorumNotMet => ErrorKind::Denied,
            Verdict::Malformed => ErrorKind::Invalid,
        }
    }
}
