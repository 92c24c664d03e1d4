//! What the steps of a request do here: look, close, destroy keys, write what was deleted, certify.
//!
//! Each effect is done once for its id, however often it is asked for: what it rests on was written down before, in the
//! sealed record or in the log.
//!
//! What it must never do: destroy a leaf that the freeze did not name.

use idtrail_event::{GlobalCustomerId, Leaf, TypeCode};
use idtrail_index::rights::Once;
use idtrail_log::OriginOrdinal;
use idtrail_rights::{
    Answer, Call, Case, Digest, Effect, Failure, Finding, ItemName, Kind, Method, Nonce, Operation, Plan,
    PlanItem, RequestId, Step, SystemName, Task, certificate_body, certificate_hash, deletion,
    deletions_hash, operation_of,
};
use idtrail_tlog::{LogIndex, TlogProof};
use idtrail_vault::{Change, ErasedEvent, Sections};
use idtrail_verify::{CERTIFICATE_FORMAT, Certificate, DisclosedLeaf, certificate_file, sign_certificate};
use tokio::sync::oneshot;

use super::record::{Found, Frozen, Part, Record};
use super::{Shared, Trouble, person, reassert, subject_of};
use crate::engine::shred::DeskError;

/// The item of the log that is written to.
pub(super) const EVENTS: &str = "idtrail/events";
/// The item of events that were refused and wait to be corrected.
const QUARANTINE: &str = "idtrail/quarantine";
/// Begins the items of earlier logs, which nothing is written to any more.
pub(super) const EARLIER: &str = "idtrail/earlier/";
/// Begins the items of sinks.
pub(super) const SINK: &str = "sink/";
pub(super) const IDTRAIL: &str = "idtrail";

pub(super) type Outcome = Result<Answer, Trouble>;

pub(super) fn found(finding: Finding) -> Outcome {
    Ok(Answer::Found(finding, None))
}

impl Shared {
    /// Carries a call out.
    pub(super) fn carry_out(&self, request: &RequestId, call: &Call) -> Outcome {
        match (&call.task, call.effect) {
            (Task::Item(item), _) => self.item(request, item, call),
            (Task::Request, Effect::Discover) => self.discover(request),
            (Task::Request, Effect::Freeze) => self.freeze(request, call.effect_id),
            (Task::Request, Effect::Reassert) => {
                self.reassert(request, call.effect_id)?;
                found(Finding::Done)
            }
            (Task::Request, Effect::Deletions) => self.deletions(request, call),
            (Task::Request, Effect::Certify) => self.certify(request, call.effect_id),
            (Task::Request, Effect::Destroy) => {
                self.destroy(request, Part::Package)?;
                self.destroy(request, Part::Person)
            }
            (Task::Request, Effect::Package) => found(self.package(request, call.effect_id)?),
            // Destructions of keys go together, so they are no call of their own.
            (Task::Request, Effect::Act(_) | Effect::ProbeAgain | Effect::Shred) => {
                Ok(Answer::Failed(Failure::Refused, None))
            }
        }
    }

    fn discover(&self, request: &RequestId) -> Outcome {
        let (case, _) = self.case(request).ok_or(Trouble::NoRecord)?;
        let (number, mut record) = self.person(request)?;
        let person = reassert::find(&self.engine, &record.whom, case.kind())?;
        let plan = self.plan(&case, &record, &person)?;
        record.planned = Some(person);
        self.keep(number, record)?;
        found(Finding::Plan(Box::new(plan)))
    }

    fn plan(&self, case: &Case, record: &Record, person: &Found) -> Result<Plan, Trouble> {
        let (kind, nonce) = (case.kind(), record.nonce.as_str());
        let scope = |name: &str, leaves: &[(u32, u64)]| {
            Digest::of_json("idtrail/rights/scope/v1", &(nonce, name, leaves))
        };
        let newest = self.engine.ordinal().0;
        let mut items = Vec::new();
        let mut add = |name: &str, system: &str, method, leaves: &[(u32, u64)], count: u64| {
            items.push(PlanItem {
                item: ItemName::parse(name)?,
                system: SystemName::parse(system)?,
                method,
                count,
                scope: scope(name, leaves)?,
                lag_ms: 0,
                can_hold: false,
            });
            Ok::<(), Trouble>(())
        };
        let of = |number: u32| {
            let mine = person.leaves.iter().filter(|(origin, _)| *origin == number);
            mine.copied().collect::<Vec<_>>()
        };
        if !record.corrections.is_empty() {
            return self.plan_corrections(case, record, person);
        }
        // What has to be restricted within sealed leaves, or corrected without that it was said how, a person decides and
        // attests.
        let own = if kind == Kind::Erasure || kind.is_reading() { Method::OwnLog } else { Method::Manual };
        let leaves = of(newest);
        add(EVENTS, IDTRAIL, own, &leaves, leaves.len() as u64)?;
        for number in 0..newest {
            let leaves = of(number);
            if !leaves.is_empty() {
                add(&format!("{EARLIER}{number}"), IDTRAIL, own, &leaves, leaves.len() as u64)?;
            }
        }
        let waiting = self.quarantined(person)?.len() as u64;
        if waiting > 0 && kind == Kind::Erasure {
            add(QUARANTINE, IDTRAIL, Method::Connector, &[], waiting)?;
        }
        if !person.leaves.is_empty() && !kind.is_reading() {
            let count = person.leaves.len() as u64;
            for (name, method) in self.sink_methods() {
                let method = if kind == Kind::Erasure { method } else { Method::Manual };
                add(&format!("{SINK}{name}"), &name, method, &person.leaves, count)?;
            }
        }
        Ok(Plan {
            kind,
            closure: closure(nonce, case.plans_dropped, person)?,
            identifiers: person.identifiers.len() as u64,
            interactions: person.interactions.len() as u64,
            shared_excluded: person.shared,
            items,
        })
    }

    /// Returns the refused events of a person that are kept.
    fn quarantined(&self, person: &Found) -> Result<Vec<crate::quarantine::QuarantineId>, Trouble> {
        let mut keys = std::collections::BTreeSet::new();
        for (customer, _) in self.engine.quarantine().customers() {
            let owner = self.engine.customer(&customer)?;
            if owner.is_some_and(|owner| person.customers.contains(&owner.to_string())) {
                keys.insert(customer);
            }
        }
        Ok(self.engine.quarantine().search(|entry| entry.customer.is_some_and(|key| keys.contains(&key))))
    }

    /// Closes the person, if everything is still as it was planned.
    fn freeze(&self, request: &RequestId, effect: Digest) -> Outcome {
        let (number, mut record) = self.person(request)?;
        let (case, _) = self.case(request).ok_or(Trouble::NoRecord)?;
        let effect = effect.to_string();
        if let Some(frozen) = record.frozen.as_ref().filter(|one| one.effect == effect && one.tree_size > 0) {
            return found(Finding::Frozen { cutoff_ms: frozen.cutoff_ms, tree_size: frozen.tree_size });
        }
        let planned = case.plan.as_ref().map(|(plan, ..)| plan.clone());
        let now = reassert::find(&self.engine, &record.whom, case.kind())?;
        if Some(self.plan(&case, &record, &now)?) != planned {
            return found(Finding::Changed);
        }
        let cutoff_ms = match record.frozen.as_ref().filter(|one| one.effect == effect) {
            Some(frozen) => frozen.cutoff_ms,
            None => self.new_cutoff_ms(),
        };
        record.frozen = Some(Frozen { effect, cutoff_ms, tree_size: 0, found: now.clone() });
        self.keep(number, record.clone())?;
        self.close(&now, cutoff_ms, true)?;
        // Whatever came between the look and the closing.
        let then = reassert::find(&self.engine, &record.whom, case.kind())?;
        if Some(self.plan(&case, &record, &then)?) != planned {
            self.close(&now, cutoff_ms, false)?;
            record.frozen = None;
            self.keep(number, record)?;
            return found(Finding::Changed);
        }
        let tree_size = self.engine.reader().size().get().max(1);
        if let Some(frozen) = &mut record.frozen {
            frozen.tree_size = tree_size;
        }
        self.keep(number, record)?;
        found(Finding::Frozen { cutoff_ms, tree_size })
    }

    /// Closes a person for what happened before the cut-off, or opens them again.
    fn close(&self, person: &Found, cutoff_ms: u64, closed: bool) -> Result<(), Trouble> {
        let names = person::names(person);
        if names.is_empty() {
            return Ok(());
        }
        let entry = |name| match closed {
            true => ErasedEvent::closing(name, cutoff_ms),
            false => ErasedEvent::opening(name),
        };
        let entries: Vec<ErasedEvent> = names.into_iter().map(entry).collect();
        let now_ms = self.now_ms();
        let written = self.engine.desk().write_vault(move |vault| {
            let target = vault.next_epoch()?;
            vault.apply(&Change { erased: &entries, now_ms, ..Change::default() }, target)
        })?;
        wait(written).map(|_| ())
    }

    pub(super) fn frozen(&self, request: &RequestId) -> Result<(Record, Found), Trouble> {
        let (_, record) = self.person(request)?;
        let found = record.frozen.as_ref().map(|frozen| frozen.found.clone());
        let found = found.or_else(|| record.planned.clone()).ok_or(Trouble::NoRecord)?;
        Ok((record, found))
    }

    pub(super) fn newest_destruction(&self) -> Result<Option<LogIndex>, Trouble> {
        let reader = self.engine.reader();
        for index in (0..reader.size().get()).rev().map(LogIndex::new) {
            let bytes = reader.entry(index)?;
            let leaf = Leaf::parse(&bytes).map_err(idtrail_index::seal::OpenError::Leaf)?;
            if leaf.header().event_type == TypeCode::KEY_SHREDDED {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn deletions(&self, request: &RequestId, call: &Call) -> Outcome {
        let (case, steps) = self.case(request).ok_or(Trouble::NoRecord)?;
        let (record, person) = self.frozen(request)?;
        let nonce = nonce(&record)?;
        let begun_ms = steps.iter().find_map(|logged| match &logged.entry.step {
            Step::Intent(step) if step.effect_id == call.effect_id => Some(logged.entry.at_ms),
            _ => None,
        });
        let begun_ms = begun_ms.ok_or(Trouble::NoRecord)?;
        let subject = subject_of(case.received.subject_ref);
        let mut keys = Vec::new();
        for item in &call.covers {
            for interaction in &person.interactions {
                let Some(one) = deletion(&case, &nonce, item, interaction, begun_ms) else { continue };
                self.once(Once {
                    event_type: TypeCode::DATA_DELETION,
                    event: one.event,
                    append_key: *one.append_key.as_bytes(),
                    subject,
                    actor: None,
                })?;
                keys.push(one.append_key);
            }
        }
        found(Finding::Made(deletions_hash(&keys)))
    }

    fn certify(&self, request: &RequestId, effect: Digest) -> Outcome {
        let (case, steps) = self.case(request).ok_or(Trouble::NoRecord)?;
        let (_, of_person) = self.person(request)?;
        let begun_ms = steps.iter().find_map(|logged| match &logged.entry.step {
            Step::Intent(step) if step.effect_id == effect => Some(logged.entry.at_ms),
            _ => None,
        });
        let body = begun_ms.map(|begun_ms| Ok::<_, Trouble>((nonce(&of_person)?, begun_ms))).transpose()?;
        let body = body.and_then(|(nonce, begun_ms)| certificate_body(&case, &nonce, begun_ms));
        let body = body.ok_or(Trouble::NoRecord)?;
        let hash = certificate_hash(&body);
        let (number, mut record) = match self.record(request, Part::Certificates) {
            Some(known) => known,
            None => {
                let record = Record::new(request, Part::Certificates, of_person.nonce);
                (self.store.free_number()?, record)
            }
        };
        record.bodies.retain(|known| known.pass != body.pass);
        record.bodies.push(body);
        self.keep(number, record)?;
        found(Finding::Made(hash))
    }

    /// Destroys the key of a record, then its file.
    pub(super) fn destroy(&self, request: &RequestId, part: Part) -> Outcome {
        let Some((number, _)) = self.record(request, part) else { return found(Finding::Done) };
        let origin = self.store.origin().to_owned();
        let written = self
            .engine
            .desk()
            .write_vault(move |vault| vault.puncture_indices(&origin, &[number], Sections::Both))?;
        wait(written)?;
        self.store.remove(number)?;
        self.book().records.remove(&(request.clone(), part));
        found(Finding::Done)
    }

    fn item(&self, request: &RequestId, item: &ItemName, call: &Call) -> Outcome {
        if let Some(sink) = item.as_str().strip_prefix(SINK) {
            return self.sink(request, sink, call);
        }
        let (record, person) = self.frozen(request)?;
        let name = item.as_str();
        let number = match name.strip_prefix(EARLIER) {
            Some(number) => number.parse().ok(),
            None => (name == EVENTS).then(|| self.engine.ordinal().0),
        };
        if let (Some(number), false) = (number, record.corrections.is_empty()) {
            return self.rectify(request, number, &record, call);
        }
        match (number, operation_of(call)) {
            (_, Some(Operation::Residual)) => found(Finding::Residuals(Vec::new())),
            (Some(number), Some(Operation::Probe | Operation::Read | Operation::Lookup)) => {
                found(Finding::Count(self.left(&person, number)?))
            }
            (None, Some(Operation::Probe | Operation::Read | Operation::Lookup)) if name == QUARANTINE => {
                found(Finding::Count(self.quarantined(&person)?.len() as u64))
            }
            (None, Some(Operation::Erase)) if name == QUARANTINE => {
                found(Finding::Count(self.engine.discard(&self.quarantined(&person)?)?))
            }
            _ => Ok(Answer::Failed(Failure::Refused, None)),
        }
    }

    /// Counts what is left of the person in one log: leaves that open, and rows of the index that name them.
    fn left(&self, person: &Found, number: u32) -> Result<u64, Trouble> {
        let mut left: std::collections::BTreeSet<u64> =
            person::readable(&self.engine, person, number)?.into_iter().collect();
        let own: std::collections::BTreeSet<u64> =
            person.leaves.iter().filter(|(origin, _)| *origin == number).map(|(_, index)| *index).collect();
        if let Some(log) = self.engine.log_at(OriginOrdinal(number)) {
            for id in person.customers.iter().filter_map(|id| GlobalCustomerId::try_from(id.as_str()).ok()) {
                let rows = log.lookup.subject(id)?.into_iter().map(LogIndex::get);
                left.extend(rows.filter(|index| own.contains(index)));
            }
        }
        Ok(left.len() as u64)
    }

    /// Returns the file of a certificate: the body, the leaf that names it with its key, proof, signature.
    pub(super) fn certificate(
        &self,
        request: &RequestId,
        pass: Option<u32>,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let Some((_, steps)) = self.case(request) else { return Ok(None) };
        let Some((_, record)) = self.record(request, Part::Certificates) else { return Ok(None) };
        let receipted = steps.iter().rev().find_map(|logged| match &logged.entry.step {
            Step::Receipted(step) if pass.is_none_or(|pass| step.pass == pass) => {
                Some((step.pass, logged.place))
            }
            _ => None,
        });
        let Some((pass, place)) = receipted else { return Ok(None) };
        let Some(body) = record.bodies.into_iter().find(|body| body.pass == pass) else { return Ok(None) };
        let Some(log) = self.engine.log_at(place.origin) else { return Ok(None) };
        let Some(signer) = self.engine.certificate_signer(place.origin) else { return Ok(None) };
        let head = log.reader.head();
        let leaf = log.reader.entry(place.index)?;
        let key = log.open_leaf(place.index, &leaf)?.event_key;
        let hashes = log.reader.inclusion_proof(place.index, head.size)?;
        let proof =
            TlogProof { extra: None, index: place.index, hashes, checkpoint: head.checkpoint.to_string() };
        let mut certificate = Certificate {
            format: CERTIFICATE_FORMAT.to_owned(),
            body,
            leaf: DisclosedLeaf::disclose(&leaf, &key),
            origin: log.name.to_owned(),
            proof: proof.to_text(),
            signature: String::new(),
        };
        sign_certificate(&mut certificate, signer)?;
        Ok(Some(certificate_file(&certificate)))
    }
}

/// Returns the hash of whom the request is about, by which a change is noticed. A plan that was given up never comes back,
/// so that no approval and no effect of it counts for the next one.
pub(super) fn closure(nonce: &str, dropped: u32, person: &Found) -> Result<Digest, Trouble> {
    let whole = (nonce, dropped, &person.customers, &person.identifiers, &person.leaves, &person.probable);
    Ok(Digest::of_json("idtrail/rights/closure/v1", &whole)?)
}

fn nonce(record: &Record) -> Result<Nonce, Trouble> {
    let bytes = data_encoding::HEXLOWER.decode(record.nonce.as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).map(Nonce::new).ok_or(Trouble::NoRecord)
}

pub(super) fn wait<T>(receiver: oneshot::Receiver<Result<T, DeskError>>) -> Result<T, Trouble> {
    // The desk's thread answers every job, or ends with the installation.
    Ok(receiver.blocking_recv().map_err(|_| Trouble::NoAnswer)??)
}
