//! What the destruction of keys means for the access log: who has nothing left in the log of events is not named there.
//!
//! ```text
//! customers of an order noted on disk → the order → disclosures under way end → their leaves in the access log → note gone
//! ```
//!
//! The access log has a shredder of its own, run by the same thread as the one of the log of events, never both at once,
//! because both write the vault. A crash anywhere leaves the note: at the next start the order is finished first, then
//! everybody in the note who has no readable event any more loses the leaves of the access log too, and the refused events
//! in the quarantine that name them. Whoever keeps an event, for instance by a hold, keeps them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXLOWER;
use idtrail_event::GlobalCustomerId;
use idtrail_index::lookup::Lookup;
use idtrail_index::shred::concerned::{self, Concerned};
use idtrail_index::shred::{LEAVES_MAX, Order, ShredError, Shredder, Task, Works};
use idtrail_index::trail::Trail;
use idtrail_log::Reference;
use idtrail_log::shell::Log;
use idtrail_port::Disk;
use idtrail_vault::{Change, Sections, Vault};
use sha2::{Digest as _, Sha256};

use super::access::AccessLog;
use super::origins::Earlier;
use super::shred::{Door, LOG_PATIENCE, Retention};
use super::{access_shredding_path, customers_path};
use crate::quarantine::{Quarantine, QuarantineId};
use crate::settings::Settings;

/// The access log's part of what the desk does.
pub(super) struct Second {
    shredder: Shredder<Door>,
    retention: Retention,
    access: Arc<AccessLog>,
    quarantine: Arc<Quarantine>,
    /// The log of events and its index.
    events: (Arc<Log<Trail>>, Lookup),
    /// The logs of events before it.
    earlier: Arc<[Earlier]>,
    vault: Arc<Mutex<Vault>>,
    disk: Arc<dyn Disk>,
    note: PathBuf,
    /// What stands in the note.
    open: Vec<Concerned>,
}

impl Second {
    /// Takes over what a former process left; [`Second::settle`] is to be called once the log of events is settled.
    pub(super) fn open(
        events: (&Works, &Arc<Log<Trail>>, &Arc<[Earlier]>),
        (access, quarantine): (&Arc<AccessLog>, &Arc<Quarantine>),
        settings: &Settings,
        automatic: bool,
    ) -> Result<Self, ShredError> {
        let (works, log, earlier) = events;
        let own = Works {
            disk: Arc::clone(&works.disk),
            clock: Arc::clone(&works.clock),
            pending: access_shredding_path(&settings.data_dir),
            newest: access.to_shred(),
            earlier: access.earlier().iter().map(Earlier::to_shred).collect(),
            hasher: Arc::clone(&works.hasher),
            vault: Arc::clone(&works.vault),
            // Nobody posts an access, so none can be repeated.
            suppression_ms: 0,
        };
        let retention = Retention { automatic, clock: Arc::clone(&works.clock), refold: None };
        let note = customers_path(&settings.data_dir);
        let open = concerned::read(&*works.disk, &note)?;
        Ok(Self {
            shredder: Shredder::open(own, Door(Arc::clone(access.log())))?,
            retention,
            access: Arc::clone(access),
            quarantine: Arc::clone(quarantine),
            events: (Arc::clone(log), works.newest.lookup.clone()),
            earlier: Arc::clone(earlier),
            vault: Arc::clone(&works.vault),
            disk: Arc::clone(&works.disk),
            note,
            open,
        })
    }

    /// Tells whether something was begun that has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.shredder.is_open() || !self.open.is_empty()
    }

    /// Returns the shredder of the access log and what it needs to let months expire.
    pub(super) fn expiry(&mut self) -> (&mut Shredder<Door>, &Retention) {
        (&mut self.shredder, &self.retention)
    }

    /// Notes the customers of orders before they begin.
    pub(super) fn prepare(&mut self, events: &Shredder<Door>, orders: &[Order]) -> Result<(), ShredError> {
        let mut open = Vec::new();
        for order in orders {
            let subjects = events.concerned(&order.task)?;
            if !subjects.is_empty() {
                let (request_id, actor) = (order.request_id.clone(), order.actor.clone());
                let belongings = self.quarantined(&subjects)?;
                open.push(Concerned { request_id, actor, subjects, belongings });
            }
        }
        if !open.is_empty() {
            concerned::write(&*self.disk, &self.note, &open)?;
            self.open = open;
        }
        Ok(())
    }

    /// Finishes what was begun, also by a former process. To be called when no order of the log of events is open.
    pub(super) fn settle(&mut self) -> Result<(), ShredError> {
        self.shredder.settle()?;
        if !self.open.is_empty() {
            self.finish()?;
        }
        self.note_epoch()
    }

    /// Notes the vault's epoch in all indices: a write for one log destroyed nothing of the others.
    pub(super) fn note_epoch(&self) -> Result<(), ShredError> {
        let epoch = self.vault.lock().unwrap_or_else(PoisonError::into_inner).epoch().get();
        self.events.1.note_epoch(epoch)?;
        for log in self.access.line().logs() {
            log.lookup.note_epoch(epoch)?;
        }
        for log in &*self.earlier {
            log.lookup.note_epoch(epoch)?;
        }
        Ok(())
    }

    /// Tells whether a customer has an event, in any log, that can still be read.
    fn has_events(&self, subject: GlobalCustomerId) -> Result<bool, ShredError> {
        for lookup in self.earlier.iter().map(|log| &log.lookup).chain([&self.events.1]) {
            if !lookup.subject(subject)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the refused events that are kept and name one of the customers.
    fn quarantined(
        &self,
        subjects: &[GlobalCustomerId],
    ) -> Result<Vec<(GlobalCustomerId, String)>, ShredError> {
        let mut found = Vec::new();
        for (customer, _) in self.quarantine.customers() {
            let mut owner = None;
            for lookup in
                std::iter::once(&self.events.1).chain(self.earlier.iter().rev().map(|log| &log.lookup))
            {
                owner = owner.or(lookup.customer(&customer)?);
            }
            if let Some(owner) = owner.filter(|owner| subjects.contains(owner)) {
                let ids = self.quarantine.search(|entry| entry.customer == Some(customer));
                found.extend(ids.into_iter().map(|id| (owner, id.to_string())));
            }
        }
        Ok(found)
    }

    /// Destroys the refused events of those who have no event left, and has the vault remember it.
    fn empty_quarantine(&mut self) -> Result<(), ShredError> {
        let mut ids = Vec::new();
        for (subject, id) in self.open.iter().flat_map(|one| &one.belongings) {
            if !self.has_events(*subject)? {
                ids.extend(QuarantineId::parse(id));
            }
        }
        let gone = self.quarantine.removals(&ids);
        if !gone.is_empty() {
            let now_ms = u64::try_from(self.retention.clock.wall_ms()).unwrap_or(0);
            self.shredder.write_vault(|vault| {
                let target = vault.next_epoch()?;
                vault.apply(&Change { erased: &gone, now_ms, ..Change::default() }, target)
            })?;
        }
        for id in ids {
            // The next start destroys it as well, because the vault remembers.
            if let Err(error) = self.quarantine.remove(id) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a refused event of an erased person is destroyed at the next start");
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ShredError> {
        // Who had begun to read before the keys went may still write that.
        self.access.drain();
        for log in [&self.events.0, self.access.log()] {
            if !log.applied().wait(log.reader().size(), LOG_PATIENCE) {
                return Err(ShredError::Behind);
            }
        }
        let mut orders = Vec::new();
        for one in &self.open {
            let mut leaves = Vec::new();
            for subject in &one.subjects {
                if !self.has_events(*subject)? {
                    for log in self.access.line().logs() {
                        let place = |index| Reference { origin: log.ordinal, index };
                        leaves.extend(log.lookup.subject(*subject)?.into_iter().map(place));
                    }
                }
            }
            for (part, leaves) in leaves.chunks(LEAVES_MAX).enumerate() {
                let task = Task::Erase { leaves: leaves.to_vec(), sections: Sections::Both };
                let request_id = request_id(&one.request_id, part);
                orders.push(Order { request_id, actor: one.actor.clone(), task });
            }
        }
        for outcome in self.shredder.run(orders) {
            let done = outcome?;
            tracing::info!(
                request = done.request_id,
                leaves = done.shredded,
                "keys of the access log destroyed"
            );
        }
        // Each index may be one epoch behind while the note is there, or it would be built anew.
        self.note_epoch()?;
        self.empty_quarantine()?;
        // While the note is there, an index that misses the epoch of the other log is not built anew.
        self.note_epoch()?;
        concerned::remove(&*self.disk, &self.note)?;
        self.open.clear();
        Ok(())
    }
}

/// The same request id as in the log of events; a second million of leaves needs another one of at most 64 characters.
fn request_id(id: &str, part: usize) -> String {
    if part == 0 {
        return id.to_owned();
    }
    let mut digest = HEXLOWER.encode(&Sha256::digest(id.as_bytes()));
    digest.truncate(40);
    format!("{digest}-{part}")
}
