//! A small cache of blocks that were read and checked: one place for each block, the last one that came keeps it.
//!
//! Most of the index is in the page cache of the kernel; this one saves the call and the checksum for what is asked for
//! again and again, the few customers that call every minute. Its size does not depend on the log's.

use std::sync::{Arc, Mutex, PoisonError};

/// A block of a run, with its checksum checked.
pub(crate) type Block = Arc<[u8]>;

const PLACES: usize = 4096;

type Place = Option<((u64, u64), Block)>;

pub(crate) struct Cache(Vec<Mutex<Place>>);

impl Cache {
    pub(crate) fn new() -> Self {
        Self((0..PLACES).map(|_| Mutex::default()).collect())
    }

    pub(crate) fn get(&self, run: u64, block: u64) -> Option<Block> {
        let place = self.place(run, block)?.lock().unwrap_or_else(PoisonError::into_inner);
        place.as_ref().filter(|(id, _)| *id == (run, block)).map(|(_, bytes)| Arc::clone(bytes))
    }

    pub(crate) fn put(&self, run: u64, block: u64, bytes: &Block) {
        if let Some(place) = self.place(run, block) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(((run, block), Arc::clone(bytes)));
        }
    }

    /// Forgets everything, because something was erased.
    pub(crate) fn clear(&self) {
        for place in &self.0 {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn place(&self, run: u64, block: u64) -> Option<&Mutex<Place>> {
        // Multiplied by the golden ratio, so that neighbours and runs spread.
        let mixed = (run << 40 ^ block).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0.get((mixed >> 52) as usize % PLACES)
    }
}
