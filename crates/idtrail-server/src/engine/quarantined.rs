//! Destroying refused events that were kept, so that no backup brings them back.
//!
//! The quarantine is sealed under one key, so an entry is destroyed by overwriting its file, which reaches no copy of it.
//! Therefore the vault, which cannot be rolled back, remembers until an entry's time is over that it was destroyed; a
//! quarantine that is opened destroys whatever of it came back. The vault is written first: a crash in between leaves an
//! entry that the next start destroys.

use idtrail_vault::Change;

use super::Engine;
use super::shred::DeskError;
use crate::quarantine::{QuarantineError, QuarantineId};

/// Why entries were not destroyed; they may still be there.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// The vault could not remember it.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The quarantine could not be written.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
}

impl Engine {
    /// Destroys entries of the quarantine for good, and returns how many there were. Waits for the vault and the disk.
    ///
    /// # Errors
    /// [`DiscardError`].
    pub fn discard(&self, ids: &[QuarantineId]) -> Result<u64, DiscardError> {
        let gone = self.quarantine().removals(ids);
        if !gone.is_empty() {
            let now_ms = self.now_ms();
            let written = self.desk().write_vault(move |vault| {
                let target = vault.next_epoch()?;
                vault.apply(&Change { erased: &gone, now_ms, ..Change::default() }, target)
            })?;
            written.blocking_recv().map_err(|_| DeskError::Closed)??;
        }
        let mut removed = 0;
        for id in ids {
            removed += u64::from(self.quarantine().remove(*id)?);
        }
        Ok(removed)
    }
}
