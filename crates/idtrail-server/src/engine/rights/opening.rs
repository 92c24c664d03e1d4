//! How requests come in: once, attached to an open one, or again and again on a schedule.
//!
//! A schedule is a sealed record, since it names a person. When it is due it opens a request like any other: who asks must
//! show who they are, and a person looks through what leaves. It ends with its date, when it is taken back, or with the
//! person's erasure. That it was set up and that it ended stands in the log.

use idtrail_event::{GlobalCustomerId, TypeCode};
use idtrail_index::rights::Once;
use idtrail_port::random;
use idtrail_rights::{
    Code, Command, Digest, Engine as Machine, Input, Kind, Nonce, Opening, Principal, RequestId, Step,
    SubjectRef, duplicate_of,
};
use serde_json::{Value, json};

use super::record::{self, Found, Part, Record, Schedule, Whom};
use super::rectify::{self, Correction};
use super::{Live, Logged, New, Rights, SayError, Shared, Trouble, person, subject_of, warn};

const DAY_MS: u64 = 86_400_000;
/// Schedules that there may be.
const SCHEDULES_MAX: usize = 10_000;

/// A schedule that is to be.
pub(crate) struct NewSchedule {
    pub(crate) of: New,
    pub(crate) every_days: u32,
    pub(crate) first_ms: u64,
    pub(crate) until_ms: Option<u64>,
    pub(crate) evidence: Digest,
}

impl Rights {
    /// Sets a schedule up; `None` if there are too many.
    pub(crate) async fn schedule(&self, new: NewSchedule) -> Result<Option<RequestId>, SayError> {
        self.ask(move |shared| shared.schedule(new)).await?
    }

    /// Ends a schedule; `false` if there is none of this id.
    pub(crate) async fn end_schedule(&self, id: RequestId, by: Option<Principal>) -> Result<bool, SayError> {
        let ended = self.ask(move |shared| match shared.record(&id, Part::Schedule) {
            None => Ok(false),
            Some(_) => shared.end_one_schedule(&id, "taken-back", by.as_ref()).map(|()| true),
        });
        Ok(ended.await??)
    }

    /// Returns every schedule, without whom it is about.
    pub(crate) fn schedules(&self) -> Result<Vec<(RequestId, Schedule)>, SayError> {
        let book = self.shared.book();
        if !book.loaded {
            return Err(SayError::Unavailable);
        }
        let all = book.records.iter().filter(|((_, part), _)| *part == Part::Schedule);
        Ok(all.filter_map(|((id, _), (_, record))| Some((id.clone(), record.schedule.clone()?))).collect())
    }
}

/// What a request is opened with, once it is known whom it is about.
struct Asked {
    kind: Kind,
    regime: Code,
    manner: Code,
    received_ms: u64,
    whom: Vec<Whom>,
    corrections: Vec<Correction>,
    by: Option<Principal>,
}

impl Shared {
    pub(super) fn open(&self, new: New) -> Result<(RequestId, bool), SayError> {
        let whom = new.subjects.iter().map(person::whom).collect();
        let New { kind, regime, manner, received_ms, mut corrections, by, .. } = new;
        for one in &mut corrections {
            // After a restore another log is the one that is written to.
            one.origin.get_or_insert_with(|| self.engine.origin().to_owned());
        }
        self.open_for(Asked { kind, regime, manner, received_ms, whom, corrections, by })
    }

    fn open_for(&self, new: Asked) -> Result<(RequestId, bool), SayError> {
        // Whoever is known counts by today's id, so that a telephone number and an address lead to one request.
        let person = person::find(&self.engine, &new.whom)?;
        if !new.corrections.is_empty() {
            rectify::check_all(&self.engine, &person, &new.corrections)??;
        }
        let known = person.customers.into_iter().next();
        let named = match known {
            Some(id) => id.into_bytes(),
            None => serde_json::to_vec(&new.whom).unwrap_or_default(),
        };
        let duplicate_key = self.store.naming(&named).map_err(Trouble::from)?;
        let same = {
            let book = self.book();
            let cases = book.cases.values().map(|live| live.machine.case());
            let same = duplicate_of(cases, new.kind, duplicate_key).map(|case| case.request.clone());
            // Whoever says what is to be corrected asks for something of their own.
            same.filter(|_| new.corrections.is_empty())
        };
        if let Some(request) = same {
            let external = Digest::of("idtrail/rights/attached/v1", &[request.as_str().as_bytes()]);
            let mut outcome = Err(SayError::Unavailable);
            let said = Input::Said(new.by, Command::Attach(new.manner, external));
            self.drive(&request, said, &mut |said| outcome = said);
            return outcome.map(|()| (request, true));
        }
        let entropy = &*self.engine.ports().entropy;
        let request = record::request_id(entropy);
        let nonce = Nonce::new(random::<32>(entropy));
        let empty = Record::new(&request, Part::Person, nonce.to_hex());
        let record = Record { whom: new.whom, corrections: new.corrections, ..empty };
        let opening = Opening {
            request: request.clone(),
            kind: new.kind,
            regime: new.regime,
            received_ms: new.received_ms,
            manner: new.manner,
            subject_ref: SubjectRef::new(random::<16>(entropy)),
            nonce: nonce.commitment(),
            duplicate_key,
        };
        let entry = opening.entry(new.by, self.now_ms(), &self.rules)?;
        let number = self.store.free_number().map_err(Trouble::from)?;
        self.keep(number, record)?;
        let subject = match &entry.step {
            Step::Received(step) => subject_of(step.subject_ref),
            _ => return Err(SayError::Unavailable),
        };
        let place = self.append(&entry, subject)?;
        let machine = Machine::resume([&entry]).map_err(Trouble::from)?;
        let live = Live { machine, steps: vec![Logged { entry, place }], wake_ms: 0 };
        self.book().cases.insert(request.clone(), live);
        Ok((request, false))
    }

    fn schedule(&self, new: NewSchedule) -> Result<Option<RequestId>, SayError> {
        let by = new.of.by.clone();
        let count = self.book().records.keys().filter(|(_, part)| *part == Part::Schedule).count();
        if count >= SCHEDULES_MAX {
            return Ok(None);
        }
        let entropy = &*self.engine.ports().entropy;
        let id = record::schedule_id(entropy);
        let schedule = Schedule {
            kind: new.of.kind,
            regime: new.of.regime.to_string(),
            every_days: new.every_days,
            next_ms: new.first_ms,
            until_ms: new.until_ms,
            evidence: new.evidence.to_string(),
            by: new.of.by.map(|by| by.to_string()).unwrap_or_default(),
            opened: 0,
        };
        let record = Record {
            whom: new.of.subjects.iter().map(person::whom).collect(),
            schedule: Some(schedule),
            ..Record::new(&id, Part::Schedule, String::new())
        };
        let number = self.store.free_number().map_err(Trouble::from)?;
        let said = json!({
            "kind": new.of.kind, "everyDays": new.every_days, "firstAtMs": new.first_ms, "untilMs": new.until_ms,
            "evidence": new.evidence,
        });
        self.keep(number, record)?;
        if let Err(error) = self.say_of_schedule(&id, TypeCode::DSR_SCHEDULE_SET, said, by.as_ref()) {
            // What nobody can see in the log is not set up.
            self.destroy(&id, Part::Schedule)?;
            return Err(error.into());
        }
        Ok(Some(id))
    }

    /// Says that a schedule has ended, then destroys it.
    fn end_one_schedule(
        &self,
        id: &RequestId,
        reason: &'static str,
        by: Option<&Principal>,
    ) -> Result<(), Trouble> {
        self.say_of_schedule(id, TypeCode::DSR_SCHEDULE_ENDED, json!({ "reason": reason }), by)?;
        self.destroy(id, Part::Schedule).map(|_| ())
    }

    /// Writes a leaf about a schedule. It names the schedule and nobody; each type is written once.
    fn say_of_schedule(
        &self,
        id: &RequestId,
        event_type: TypeCode,
        data: Value,
        by: Option<&Principal>,
    ) -> Result<(), Trouble> {
        let name = event_type.name().unwrap_or_default();
        let append_key = Digest::of("idtrail/rights/schedule/v1", &[id.as_str().as_bytes(), name.as_bytes()]);
        let event = json!({ "eventType": name, "scheduleId": id, "data": data });
        let Value::Object(event) = event else { return Ok(()) };
        let written = self.once(Once {
            event_type,
            event,
            append_key: *append_key.as_bytes(),
            subject: subject_of_schedule(id),
            actor: by.map(ToString::to_string),
        });
        match written {
            // It was said before, when the process died behind it.
            Ok(_) | Err(Trouble::Taken) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends the links to packages that show a person who is erased, and destroys the packages.
    pub(super) fn end_links_of(&self, person: &Found) -> Result<(), Trouble> {
        let shows = |record: &Record| {
            record.package.as_ref().is_some_and(|made| {
                made.customers.iter().any(|id| person.customers.contains(id))
                    || made.leaves.iter().any(|leaf| person.leaves.contains(leaf))
            })
        };
        let theirs: Vec<RequestId> = {
            let book = self.book();
            let all = book.records.iter().filter(|((_, part), _)| *part == Part::Package);
            all.filter(|(_, (_, record))| shows(record)).map(|((id, _), _)| id.clone()).collect()
        };
        for request in theirs {
            // A request that is past its link refuses this; its package goes all the same.
            self.drive(&request, Input::Said(None, Command::RevokeLink), &mut |_| {});
            self.destroy(&request, Part::Package)?;
        }
        Ok(())
    }

    /// Opens the requests of schedules that are due.
    pub(super) fn open_due(&self) {
        let now_ms = self.now_ms();
        let due = |record: &Record| record.schedule.as_ref().is_some_and(|one| one.next_ms <= now_ms);
        let due: Vec<(u64, Record)> = {
            let book = self.book();
            let all =
                book.records.iter().filter(|((_, part), (_, record))| *part == Part::Schedule && due(record));
            all.map(|(_, kept)| kept.clone()).collect()
        };
        for (number, record) in due {
            if let Err(error) = self.open_scheduled(number, record) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a request that is opened on a schedule could not be opened; it is tried again"
                );
            }
        }
    }

    fn open_scheduled(&self, number: u64, mut record: Record) -> Result<(), SayError> {
        let Some(schedule) = &mut record.schedule else { return Ok(()) };
        let id = RequestId::parse(&record.request).map_err(Trouble::from)?;
        let due_ms = schedule.next_ms;
        if schedule.until_ms.is_some_and(|until_ms| due_ms > until_ms) {
            self.end_one_schedule(&id, "over", None)?;
            return Ok(());
        }
        // If the process dies behind this, the next one attaches to the request that is open by then.
        self.open_for(Asked {
            kind: schedule.kind,
            regime: Code::parse(&schedule.regime).map_err(Trouble::from)?,
            manner: Code::parse("schedule").map_err(Trouble::from)?,
            received_ms: due_ms,
            whom: record.whom.clone(),
            corrections: Vec::new(),
            by: None,
        })?;
        schedule.opened += 1;
        let now_ms = self.now_ms();
        let period_ms = u64::from(schedule.every_days.max(1)) * DAY_MS;
        // What was missed while the server did not run is opened once, not once for each period.
        let missed = now_ms.saturating_sub(due_ms) / period_ms;
        schedule.next_ms = due_ms.saturating_add(period_ms.saturating_mul(missed + 1));
        self.keep(number, record)?;
        Ok(())
    }

    /// Ends the schedules of a person who is erased.
    pub(super) fn end_schedules_of(&self, customers: &[String]) {
        let all: Vec<(RequestId, Record)> = {
            let book = self.book();
            let all = book.records.iter().filter(|((_, part), _)| *part == Part::Schedule);
            all.map(|((id, _), (_, record))| (id.clone(), record.clone())).collect()
        };
        for (id, record) in all {
            let ended = person::find(&self.engine, &record.whom).and_then(|found| {
                let theirs = found.customers.iter().any(|id| customers.contains(id));
                if theirs { self.end_one_schedule(&id, "erased", None) } else { Ok(()) }
            });
            if let Err(error) = ended {
                warn(&error, "a schedule of an erased person could not be ended");
            }
        }
    }
}

/// Returns the made-up customer under whom the index keeps the leaves of a schedule: the bytes of its random id.
fn subject_of_schedule(id: &RequestId) -> GlobalCustomerId {
    let text = id.as_str().trim_start_matches("sch_").to_ascii_uppercase();
    let bytes = data_encoding::BASE32_NOPAD.decode(text.as_bytes()).ok();
    GlobalCustomerId::new(bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default())
}
