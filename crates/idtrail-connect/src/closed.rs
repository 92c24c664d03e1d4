//! Persons that were taken out of a target, so that nothing brings them back: a replay between the erasure in the target
//! and the destruction of the keys would read their entries once more.
//!
//! An erasure closes the person up to a place in the log *before* it deletes rows. From then on every entry of that person
//! up to that place counts as erased, also where a dead letter is tried again, also after a restart. What the person does
//! later is not closed. Kept as references under the sink's own key, which say nothing to anybody else, in the file
//! `closed` of the sink's memory; once the keys are gone they have no more effect, because nobody can read the entries.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use idtrail_port::{Disk, Privacy, read_optional, write_atomic};
use serde::{Deserialize, Serialize};

use crate::event::{Content, FeedEntry};
use crate::personal::References;
use crate::plan::{Outcome, Plan, Prepared};
use crate::position::Position;
use crate::store::StoreError;

/// The file in a sink's memory.
pub const CLOSED: &str = "closed";
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most references that are kept; beyond that, those go first whose place is the lowest: their keys are gone the longest.
const COUNT_MAX: usize = 200_000;
const VERSION: u32 = 1;

/// The closed persons of one sink.
pub(crate) struct Closed {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Up to which place each is closed, by reference.
    until: RwLock<BTreeMap<String, Position>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    closed: BTreeMap<String, Position>,
}

impl Closed {
    /// Reads the file in a sink's memory; nobody is closed if there is none.
    ///
    /// # Errors
    /// `Damaged` if it does not read, because then a person could come back unseen; `Io`.
    pub(crate) fn load(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(CLOSED);
        let bytes = read_optional(&*disk, &path, BYTES_MAX)
            .map_err(|source| StoreError::Io { path: path.clone(), source })?;
        let until = match bytes.map(|bytes| serde_json::from_slice::<Kept>(&bytes)) {
            None => BTreeMap::new(),
            Some(Ok(kept)) if kept.version == VERSION => kept.closed,
            Some(_) => return Err(StoreError::Damaged { path, line: 1 }),
        };
        Ok(Self { disk, path, until: RwLock::new(until) })
    }

    /// Closes a person up to a place, that one included; durable when it returns. Waits for the disk.
    ///
    /// # Errors
    /// `Io`; the person is closed until the next restart then.
    pub(crate) fn close(&self, references: &[String], until: Position) -> Result<(), StoreError> {
        let mut all = self.until.write().unwrap_or_else(PoisonError::into_inner);
        for reference in references {
            let known = all.entry(reference.clone()).or_insert(until);
            *known = until.max(*known);
        }
        while all.len() > COUNT_MAX {
            let oldest = all.iter().min_by_key(|(_, until)| **until).map(|(reference, _)| reference.clone());
            oldest.map(|oldest| all.remove(&oldest));
        }
        let text = serde_json::to_vec(&Kept { version: VERSION, closed: all.clone() });
        text.map_err(io::Error::from)
            .and_then(|text| write_atomic(&*self.disk, &self.path, &text, Privacy::Owner))
            .map_err(|source| StoreError::Io { path: self.path.clone(), source })
    }

    /// Prepares an entry as the plan does, unless its person is closed.
    pub(crate) fn prepare(&self, plan: &Plan, entry: &FeedEntry) -> Prepared {
        match &entry.content {
            Content::Opened(event) if self.covers(event.customer_id.as_deref(), entry.position, plan) => {
                let (position, received_ms) = (entry.position, entry.received_ms);
                Prepared { position, received_ms, outcome: Outcome::Erased }
            }
            _ => plan.prepare(entry),
        }
    }

    fn covers(&self, customer: Option<&str>, at: Position, plan: &Plan) -> bool {
        let all = self.until.read().unwrap_or_else(PoisonError::into_inner);
        let Some(customer) = customer.filter(|_| !all.is_empty()) else { return false };
        all.get(&plan.references.customer(customer)).is_some_and(|until| at <= *until)
    }
}

/// Returns the references under which persons are closed.
pub(crate) fn references(references: &References, customer_ids: &[String]) -> Vec<String> {
    customer_ids.iter().map(|id| references.customer(id)).collect()
}
