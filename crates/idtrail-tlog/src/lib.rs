//! RFC 6962 tree mathematics and the C2SP formats around it.
//!
//! In go entries' bytes, hashes and texts; out come roots, proofs, tile names, checkpoints and verdicts. The crate is
//! pure: no IO, clock, randomness, threads or statics, `no_std` with `alloc`. It knows nothing of what an entry means.
//!
//! Formats: RFC 6962 §2.1, C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-tiles, tlog-proof, tlog-policy.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bundle;
mod checkpoint;
mod cosignature;
mod hash;
pub mod note;
mod policy;
mod proof;
mod tile;
mod tlog_proof;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use cosignature::{CosignatureError, verify_cosignature};
pub use hash::{Hash, LogIndex, TreeSize, empty_root, leaf_hash, node_hash};
pub use note::{Note, NoteError, Signer, SignerKey, VerifierKey};
pub use policy::{Policy, PolicyError, Refusal, Verified};
pub use proof::{
    ProofError, ProveError, TileSource, prove_consistency, prove_inclusion, root_from_tiles,
    verify_consistency, verify_inclusion,
};
pub use tile::{BundleId, TileId, TilePathError, bundles, tiles};
pub use tlog_proof::{TlogProof, TlogProofError};
pub use tree::{Batch, Frontier};

#[cfg(test)]
mod tests;
