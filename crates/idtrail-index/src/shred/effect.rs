//! What an order means for the vault and the index, judged by which leaves can be read at the moment.

use idtrail_event::{Leaf, LeafHeader};
use idtrail_log::reader::Reader;
use idtrail_tlog::LogIndex;
use idtrail_vault::{ErasedEvent, KeptKey, Puncture, Secret32, Section, Sections, Vault};

use super::{ShredError, Task, Works};
use crate::months::{self, ScanError};
use crate::{IndexSet, seal};

/// What has to be written, and what is left out.
#[derive(Default)]
pub(super) struct Effect {
    /// Leaves that are readable and will not be.
    pub(super) dead: Vec<u64>,
    /// Leaves that a hold keeps.
    pub(super) held: Vec<LogIndex>,
    /// Leaves that were unreadable before.
    pub(super) gone: u64,
    pub(super) erased: Vec<ErasedEvent>,
    pub(super) kept: Vec<KeptKey>,
    pub(super) released: Option<String>,
    /// The index tree is to be punctured at the dead leaves.
    erasure: bool,
    /// Class and months that have not expired yet.
    periods: Vec<(u8, std::ops::RangeInclusive<u16>)>,
}

impl Effect {
    pub(super) fn of(works: &Works, vault: &Vault, task: &Task) -> Result<Self, ShredError> {
        let mut effect = Self::default();
        let origin = works.keyring.origin();
        match task {
            Task::Erase { indices } => {
                effect.erasure = true;
                for index in indices {
                    effect.erase(works, *index, vault.is_held(origin, *index))?;
                }
            }
            Task::Expire { periods } => {
                for (class, months) in periods {
                    for month in months.clone().filter(|month| !works.keyring.is_expired(*class, *month)) {
                        effect.expire(works, vault, *class, month)?;
                        effect.periods.push((*class, month..=month));
                    }
                }
            }
            Task::Release { hold, indices } => {
                let Some(own) = vault.holds().find(|found| found.id == *hold) else { return Ok(effect) };
                let others: Vec<_> =
                    vault.holds().filter(|found| found.id != own.id && found.origin == origin).collect();
                for index in indices {
                    let header = months::header(&works.reader, *index)?;
                    let elsewhere = others.iter().any(|other| other.indices.binary_search(index).is_ok());
                    let expired = works.keyring.is_expired(header.class.code(), header.month());
                    if expired && !elsewhere && is_readable(works, *index, &header) {
                        effect.dead.push(*index);
                    }
                }
                effect.released = Some(own.id);
            }
        }
        Ok(effect)
    }

    /// Tells whether nothing has to be written.
    pub(super) fn is_nothing(&self) -> bool {
        self.dead.is_empty() && self.periods.is_empty() && self.released.is_none()
    }

    pub(super) fn punctures<'a>(&'a self, origin: &'a str) -> impl Iterator<Item = Puncture<'a>> {
        let periods = self.periods.iter();
        let months =
            periods.map(|(class, months)| Puncture::Months { origin, class: *class, months: months.clone() });
        // Of an expiry and a release the index tree knows nothing.
        let erasure = (self.erasure && !self.dead.is_empty()).then_some(Puncture::Indices {
            origin,
            indices: &self.dead,
            sections: Sections::Both,
        });
        erasure.into_iter().chain(months)
    }

    fn erase(&mut self, works: &Works, index: u64, held: bool) -> Result<(), ShredError> {
        let place = LogIndex::new(index);
        if held {
            self.held.push(place);
            return Ok(());
        }
        let bytes = works.reader.entry(place)?;
        let disclosed = match seal::open(&works.keyring, place, &bytes) {
            Ok(disclosed) => disclosed,
            Err(seal::OpenError::Key(_)) => {
                self.gone += 1;
                return Ok(());
            }
            Err(source) => return Err(ShredError::Open { index: place, source }),
        };
        self.dead.push(index);
        if works.suppression_ms > 0
            && let Some(event) = works.hasher.facts(&disclosed.leaf).event
        {
            let now_ms = u64::try_from(works.clock.wall_ms()).unwrap_or(0);
            self.erased.push(ErasedEvent {
                dedupe: *event.dedupe.as_bytes(),
                content: *event.content.as_bytes(),
                expires_ms: now_ms.saturating_add(works.suppression_ms),
            });
        }
        Ok(())
    }

    fn expire(&mut self, works: &Works, vault: &Vault, class: u8, month: u16) -> Result<(), ShredError> {
        let origin = works.keyring.origin();
        each_of(&works.reader, class, month, |index, header| {
            if !is_readable(works, index, header) {
                self.gone += 1;
                return Ok(());
            }
            if !vault.is_held(origin, index) {
                self.dead.push(index);
                return Ok(());
            }
            let place = LogIndex::new(index);
            let bytes = works.reader.entry(place)?;
            let disclosed = seal::open(&works.keyring, place, &bytes)
                .map_err(|source| ShredError::Open { index: place, source })?;
            let keys = [(Section::Event, Some(disclosed.event_key)), (Section::Staff, disclosed.staff_key)];
            for (section, key) in keys {
                if let Some(key) = key {
                    self.kept.push(KeptKey { index, section, key: Secret32::new(*key.expose()) });
                }
            }
            self.held.push(place);
            Ok(())
        })
    }
}

/// Returns the leaves of a task that cannot be read at the moment: their rows have to go.
pub(super) fn unreadable(works: &Works, task: &Task) -> Result<IndexSet, ShredError> {
    match task {
        Task::Erase { indices } | Task::Release { indices, .. } => {
            let mut dead = Vec::new();
            for index in indices {
                if !is_readable(works, *index, &months::header(&works.reader, *index)?) {
                    dead.push(*index);
                }
            }
            Ok(dead.into_iter().collect())
        }
        Task::Expire { periods } => {
            let mut dead = Vec::new();
            for (class, months) in periods {
                for month in months.clone() {
                    each_of(&works.reader, *class, month, |index, header| {
                        if !is_readable(works, index, header) {
                            dead.push(index);
                        }
                        Ok(())
                    })?;
                }
            }
            Ok(dead.into_iter().collect())
        }
    }
}

fn is_readable(works: &Works, index: u64, header: &LeafHeader) -> bool {
    works.keyring.is_readable(index, header.class.code(), header.month())
}

/// Calls `with` for each leaf of a class that was received in a month.
fn each_of(
    reader: &Reader,
    class: u8,
    month: u16,
    mut with: impl FnMut(u64, &LeafHeader) -> Result<(), ShredError>,
) -> Result<(), ShredError> {
    for index in months::range(reader, month..month.saturating_add(1))? {
        let place = LogIndex::new(index);
        let bytes = reader.entry(place)?;
        let leaf = Leaf::parse(&bytes).map_err(|source| ScanError::Leaf { index: place, source })?;
        if leaf.header().class.code() == class {
            with(index, leaf.header())?;
        }
    }
    Ok(())
}
