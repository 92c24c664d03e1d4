//! What a shredder works with: the logs whose leaves can be destroyed, and what is around them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use idtrail_log::reader::Reader;
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_port::{Clock, Disk};
use idtrail_tlog::LogIndex;
use idtrail_vault::{Keyring, Vault};

use super::ShredError;
use crate::facts::Hasher;
use crate::lookup::Lookup;

/// A log whose leaves can be destroyed.
#[derive(Clone, Debug)]
pub struct ShredLog {
    /// Its place among the installation's logs.
    pub ordinal: OriginOrdinal,
    /// Reads it.
    pub reader: Arc<Reader>,
    /// The keys of its leaves.
    pub keyring: Keyring,
    /// Its index.
    pub lookup: Lookup,
}

/// What a shredder works with.
pub struct Works {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time, for expiries.
    pub clock: Arc<dyn Clock>,
    /// The file of the open order.
    pub pending: PathBuf,
    /// The log that is written to.
    pub newest: ShredLog,
    /// The logs before it, in any order.
    pub earlier: Vec<ShredLog>,
    /// Makes the keys under which an erased event is suppressed.
    pub hasher: Arc<Hasher>,
    /// The vault.
    pub vault: Arc<Mutex<Vault>>,
    /// For how long the repetition of an erased event is recognised, in milliseconds.
    pub suppression_ms: u64,
}

impl Works {
    /// Returns the logs, the newest one first.
    pub fn logs(&self) -> impl Iterator<Item = &ShredLog> {
        std::iter::once(&self.newest).chain(&self.earlier)
    }

    /// Sorts leaves by log; the indices of each rise.
    pub(super) fn by_log(&self, leaves: &[Reference]) -> Result<Vec<(&ShredLog, Vec<u64>)>, ShredError> {
        let mut indices: BTreeMap<OriginOrdinal, Vec<u64>> = BTreeMap::new();
        for leaf in leaves {
            indices.entry(leaf.origin).or_default().push(leaf.index.get());
        }
        let log = |(ordinal, mut indices): (OriginOrdinal, Vec<u64>)| {
            indices.sort_unstable();
            indices.dedup();
            let first = LogIndex::new(indices.first().copied().unwrap_or(0));
            let log = self.logs().find(|log| log.ordinal == ordinal).ok_or(ShredError::NoLeaf(first))?;
            Ok((log, indices))
        };
        indices.into_iter().map(log).collect()
    }

    /// Returns the leaves that a hold names, in all logs; empty if there is none of that name.
    pub(super) fn held_by(&self, vault: &Vault, hold: &str) -> Vec<Reference> {
        let mut leaves = Vec::new();
        for found in vault.holds().filter(|found| found.id == hold) {
            for log in self.logs().filter(|log| log.keyring.origin() == found.origin) {
                leaves.extend(found.indices.iter().map(|index| log.at(*index)));
            }
        }
        leaves.sort_unstable();
        leaves
    }
}

impl ShredLog {
    pub(super) fn at(&self, index: u64) -> Reference {
        Reference { origin: self.ordinal, index: LogIndex::new(index) }
    }
}

impl std::fmt::Debug for Works {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Works").field("pending", &self.pending).finish_non_exhaustive()
    }
}
