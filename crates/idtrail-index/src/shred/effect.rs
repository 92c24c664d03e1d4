//! What an order means for the vault and the indices, judged by which leaves can be read at the moment.

use std::ops::RangeInclusive;

use idtrail_event::{Leaf, LeafHeader};
use idtrail_log::Reference;
use idtrail_log::reader::Reader;
use idtrail_tlog::LogIndex;
use idtrail_vault::{ErasedEvent, KeptKey, Puncture, Secret32, Section, Sections, Vault};

use super::{ShredError, ShredLog, Task, Works};
use crate::months::{self, ScanError};
use crate::{IndexSet, seal};

/// What has to be written, and what is left out.
pub(super) struct Effect<'a> {
    parts: Vec<Part<'a>>,
    /// Leaves that had nothing of what is to go.
    pub(super) gone: u64,
    pub(super) erased: Vec<ErasedEvent>,
    pub(super) released: Option<String>,
}

/// The part of one log.
struct Part<'a> {
    log: &'a ShredLog,
    /// Leaves that are readable and will not be.
    dead: Vec<u64>,
    /// Leaves that a hold keeps.
    held: Vec<u64>,
    kept: Vec<KeptKey>,
    /// The index tree is to be punctured at the dead leaves; of an expiry and a release it knows nothing.
    sections: Option<Sections>,
    /// Class and months that have not expired yet.
    periods: Vec<(u8, RangeInclusive<u16>)>,
}

impl<'a> Effect<'a> {
    pub(super) fn of(works: &'a Works, vault: &Vault, task: &Task) -> Result<Self, ShredError> {
        let mut effect = Self { parts: Vec::new(), gone: 0, erased: Vec::new(), released: None };
        match task {
            Task::Erase { leaves, sections } => {
                for (log, indices) in works.by_log(leaves)? {
                    let mut part = Part::new(log);
                    part.sections = Some(*sections);
                    for index in indices {
                        effect.erase(works, (&mut part, *sections), index, vault)?;
                    }
                    effect.parts.push(part);
                }
            }
            Task::Expire { periods } => {
                for log in works.logs() {
                    let mut part = Part::new(log);
                    for (class, months) in periods {
                        let left = months.clone().filter(|month| !log.keyring.is_expired(*class, *month));
                        for month in left {
                            effect.expire(&mut part, vault, *class, month)?;
                            part.periods.push((*class, month..=month));
                        }
                    }
                    effect.parts.push(part);
                }
            }
            Task::Release { hold, leaves } => {
                if !vault.holds().any(|found| found.id == *hold) {
                    return Ok(effect);
                }
                for (log, indices) in works.by_log(leaves)? {
                    let origin = log.keyring.origin();
                    let others: Vec<_> =
                        vault.holds().filter(|found| found.id != *hold && found.origin == origin).collect();
                    let mut part = Part::new(log);
                    for index in indices {
                        let header = months::header(&log.reader, index)?;
                        let elsewhere =
                            others.iter().any(|other| other.indices.binary_search(&index).is_ok());
                        let expired = log.keyring.is_expired(header.class.code(), header.month());
                        if expired && !elsewhere && is_readable(log, index, &header) {
                            part.dead.push(index);
                        }
                    }
                    effect.parts.push(part);
                }
                effect.released = Some(hold.clone());
            }
        }
        Ok(effect)
    }

    /// Tells whether nothing has to be written.
    pub(super) fn is_nothing(&self) -> bool {
        let idle = |part: &Part<'_>| part.dead.is_empty() && part.periods.is_empty();
        self.parts.iter().all(idle) && self.released.is_none()
    }

    /// Returns how many leaves will not be readable any more.
    pub(super) fn dead(&self) -> u64 {
        self.parts.iter().map(|part| part.dead.len() as u64).sum()
    }

    /// Returns the leaves that a hold keeps, rising.
    pub(super) fn held(&self) -> Vec<Reference> {
        let held = |part: &Part<'a>| part.held.iter().map(|index| part.log.at(*index)).collect::<Vec<_>>();
        let mut all: Vec<Reference> = self.parts.iter().flat_map(held).collect();
        all.sort_unstable();
        all
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = (&str, &[KeptKey])> {
        self.parts.iter().map(|part| (part.log.keyring.origin(), part.kept.as_slice()))
    }

    pub(super) fn punctures(&self) -> impl Iterator<Item = Puncture<'_>> {
        self.parts.iter().flat_map(|part| {
            let origin = part.log.keyring.origin();
            let months = part.periods.iter().map(move |(class, months)| Puncture::Months {
                origin,
                class: *class,
                months: months.clone(),
            });
            let sections = part.sections.filter(|_| !part.dead.is_empty());
            let erasure =
                sections.map(|sections| Puncture::Indices { origin, indices: &part.dead, sections });
            erasure.into_iter().chain(months)
        })
    }

    fn erase(
        &mut self,
        works: &Works,
        (part, sections): (&mut Part<'_>, Sections),
        index: u64,
        vault: &Vault,
    ) -> Result<(), ShredError> {
        let place = LogIndex::new(index);
        if vault.is_held(part.log.keyring.origin(), index) {
            part.held.push(index);
            return Ok(());
        }
        let bytes = part.log.reader.entry(place)?;
        let disclosed = match seal::open(&part.log.keyring, place, &bytes) {
            Ok(disclosed) => disclosed,
            Err(seal::OpenError::Key(_)) => {
                self.gone += 1;
                return Ok(());
            }
            Err(source) => return Err(ShredError::Open { index: place, source }),
        };
        if sections == Sections::Staff && disclosed.staff_key.is_none() {
            self.gone += 1;
            return Ok(());
        }
        part.dead.push(index);
        // Also if the event stays: without its staff its content is not the same, and a repetition would bring them back.
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

    fn expire(
        &mut self,
        part: &mut Part<'_>,
        vault: &Vault,
        class: u8,
        month: u16,
    ) -> Result<(), ShredError> {
        let log = part.log;
        each_of(&log.reader, class, month, |index, header| {
            if !is_readable(log, index, header) {
                self.gone += 1;
                return Ok(());
            }
            if !vault.is_held(log.keyring.origin(), index) {
                part.dead.push(index);
                return Ok(());
            }
            let place = LogIndex::new(index);
            let bytes = log.reader.entry(place)?;
            let disclosed = seal::open(&log.keyring, place, &bytes)
                .map_err(|source| ShredError::Open { index: place, source })?;
            let keys = [(Section::Event, Some(disclosed.event_key)), (Section::Staff, disclosed.staff_key)];
            for (section, key) in keys {
                if let Some(key) = key {
                    part.kept.push(KeptKey { index, section, key: Secret32::new(*key.expose()) });
                }
            }
            part.held.push(index);
            Ok(())
        })
    }
}

impl<'a> Part<'a> {
    fn new(log: &'a ShredLog) -> Self {
        let (dead, held, kept, periods) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { log, dead, held, kept, sections: None, periods }
    }
}

/// Returns the leaves of a task that cannot be read at the moment, by log: their rows have to go.
pub(super) fn unreadable<'a>(
    works: &'a Works,
    task: &Task,
) -> Result<Vec<(&'a ShredLog, IndexSet)>, ShredError> {
    let mut all = Vec::new();
    match task {
        Task::Erase { leaves, .. } | Task::Release { leaves, .. } => {
            for (log, indices) in works.by_log(leaves)? {
                let mut dead = Vec::new();
                for index in indices {
                    if !is_readable(log, index, &months::header(&log.reader, index)?) {
                        dead.push(index);
                    }
                }
                all.push((log, dead.into_iter().collect()));
            }
        }
        Task::Expire { periods } => {
            for log in works.logs() {
                let mut dead = Vec::new();
                for (class, months) in periods {
                    for month in months.clone() {
                        each_of(&log.reader, *class, month, |index, header| {
                            if !is_readable(log, index, header) {
                                dead.push(index);
                            }
                            Ok(())
                        })?;
                    }
                }
                all.push((log, dead.into_iter().collect()));
            }
        }
    }
    Ok(all)
}

fn is_readable(log: &ShredLog, index: u64, header: &LeafHeader) -> bool {
    log.keyring.is_readable(index, header.class.code(), header.month())
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
