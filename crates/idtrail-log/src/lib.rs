//! An append-only log of opaque entries, acknowledged only when durable.
//!
//! The way of one entry: *sequence* (one thread decides order and index), *seal* (the caller's code makes the
//! entry's bytes for that index), *commit* (one frame, one write, one sync, one signed checkpoint), then the
//! answers. The journal is the only truth here; tiles and offsets are derived from it and rebuilt when missing.
//!
//! Invariants, most of them absences:
//! - No entry is parsed here: an entry is bytes.
//! - No entry is changed or removed by any function of this crate.
//! - No answer leaves before the entry's frame was synced; after a failed sync nothing is retried or guessed.
//! - No clock, randomness, file or thread pool is reached except through `idtrail-port` and the [`shell`].

pub mod backup;
pub mod commit;
mod error;
pub mod frame;
pub mod fsck;
pub mod journal;
pub mod machine;
pub mod queue;
pub mod reader;
pub mod recovery;
pub mod segment;
pub mod sequence;
pub mod shell;
pub mod tiles;

pub use error::{ErrorKind, LogError};

use idtrail_tlog::LogIndex;

/// Names one log of an installation: its place in the ordered list of origins, from 0. The last one is writable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginOrdinal(pub u32);

/// Names one entry of an installation for ever: a restored backup starts a new origin, so an index alone is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The log.
    pub origin: OriginOrdinal,
    /// The entry's index in that log.
    pub index: LogIndex,
}
