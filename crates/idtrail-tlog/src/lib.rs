//! RFC 6962 tree mathematics and the C2SP formats around it.
//!
//! In go entries' bytes, hashes and texts; out come roots, proofs, tile names, checkpoints and verdicts. The
//! crate is pure: no IO, clock, randomness, threads or statics, `no_std` with `alloc`. It knows nothing of
//! what an entry means.
//!
//! The way of a log: [`leaf_hash`] of each entry, [`Frontier::append_batch`], [`Checkpoint::sign`], and per
//! entry [`Batch::inclusion_proof`] and [`TlogProof::write_text`]. The way of a verifier: [`Policy::parse`],
//! [`TlogProof::parse`], [`TlogProof::verify`]; what is refused says by [`Refusal::verdict`] whether it was
//! altered or could not be checked.
//!
//! Formats: RFC 6962 §2.1, C2SP signed-note 1.0, tlog-checkpoint 1.0, tlog-cosignature 1.1 (Ed25519),
//! tlog-tiles 0.1, tlog-proof v1, tlog-policy. Test vectors for other implementations stand in
//! `vectors/tlog/` of the repository.
#![no_std]

extern crate alloc;

pub mod bundle;
mod checkpoint;
mod cosignature;
mod error;
mod hash;
mod key;
pub mod note;
mod policy;
mod proof;
mod refusal;
mod tile;
mod tlog_proof;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use cosignature::{CosignerKey, verify_cosignature};
pub use error::ErrorKind;
pub use hash::{DecimalError, Hash, LogIndex, TreeSize, empty_root, leaf_hash, node_hash};
pub use key::{COSIGNATURE_ED25519, ED25519, KeyError, Signer, SignerKey, VerifierKey};
pub use note::{Note, NoteError};
pub use policy::{Policy, PolicyError, PolicyLog, PolicyWitness, VerifiedCheckpoint, Witnessed};
pub use proof::{
    ProofError, ProveError, TileSource, prove_consistency, prove_inclusion, root_from_tiles,
    verify_consistency, verify_inclusion,
};
pub use refusal::{Refusal, Verdict};
pub use tile::{BundleId, TileId, TilePathError, bundles, tiles};
pub use tlog_proof::{TlogProof, TlogProofError};
pub use tree::{Batch, Frontier};
