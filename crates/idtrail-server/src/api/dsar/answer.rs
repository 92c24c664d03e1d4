//! Puts an answer together: whose events they are, where they stand, what they say, and who looked at them before.
//!
//! An event whose key was destroyed is counted and not shown; one that may be somebody else's is counted and not shown
//! either. What it must never do: leave an event out without a word.

use std::collections::{BTreeMap, BTreeSet};

use idtrail_event::{GlobalCustomerId, OpenLeaf, TypeCode};
use idtrail_identity::assertion::Subject;
use idtrail_identity::read::Closure;
use idtrail_identity::{State as Known, Tier};
use idtrail_index::identity::observation_id;
use idtrail_index::seal::OpenError;
use idtrail_log::reader::Head;
use idtrail_log::{LogError, Reference};
use idtrail_tlog::LogIndex;
use idtrail_verify::{
    AccessPart, AsOf, Coverage, Customer, EventKeys, EvidenceEvent, FORMAT, Package, SignedCheckpoint,
    SystemCoverage, SystemStatus, sign_manifest,
};
use jiff::Timestamp;
use serde_json::Value;

use super::Query;
use super::page::{self, Cursor, Part};
use crate::api::disclosure::Shown;
use crate::engine::Engine;
use crate::engine::origins::View;

#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("the log could not be read")]
    Log(#[from] LogError),
    #[error("the index could not be read")]
    Index(#[from] idtrail_index::IndexError),
    #[error("a leaf could not be opened")]
    Open(#[from] OpenError),
    #[error("the package could not be signed")]
    Sign(#[from] idtrail_verify::SignError),
    #[error("the question or the customer is not that of the cursor")]
    Moved,
}

/// Finds everything of the person whom a request means.
pub(super) fn whose(known: &Known, subjects: &[Subject]) -> Option<Closure> {
    subjects.iter().find_map(|subject| known.closure(subject).ok())
}

/// Whom a request means.
pub(super) struct Whose {
    /// Everything of a person who is known.
    pub(super) closure: Option<Closure>,
    /// The made-up customer of the erasure of a person who is not known any more.
    pub(super) erased: Option<GlobalCustomerId>,
}

/// Where a person's events may be, and what identity says of them.
struct Scope {
    /// Every id of the person; the first is the one of today.
    ids: Vec<GlobalCustomerId>,
    places: BTreeSet<Reference>,
    tiers: BTreeMap<Reference, Tier>,
    ambiguous: u32,
    /// Whether only deletions are shown.
    is_erased: bool,
}

fn scope(
    engine: &Engine,
    logs: &[(View<'_>, Head)],
    id: &str,
    Whose { closure, erased }: Whose,
) -> Result<Scope, AnswerError> {
    let (mut ids, mut tiers, mut ambiguous) = (Vec::new(), BTreeMap::new(), 0);
    match closure {
        Some(closure) => {
            ids.push(closure.customer.gcid);
            ids.extend(closure.customer.aliases);
            let place = |number| engine.numbering().place(number);
            tiers.extend(closure.interactions.iter().map(|one| (place(one.index), one.tier)));
            ambiguous = closure.ambiguous;
        }
        None if erased.is_some() => ids.extend(erased),
        // Events that say nothing about identity have ids that only the index knows.
        None => match GlobalCustomerId::try_from(id) {
            Ok(subject) if has_events(logs, subject)? => ids.push(subject),
            Ok(_) | Err(_) => {}
        },
    }
    let mut places: BTreeSet<Reference> = tiers.keys().copied().collect();
    for (log, _) in logs {
        for id in &ids {
            let indices = log.lookup.subject(*id)?.into_iter();
            places.extend(indices.map(|index| Reference { origin: log.ordinal, index }));
        }
    }
    Ok(Scope { ids, places, tiers, ambiguous, is_erased: erased.is_some() })
}

impl Scope {
    /// Tells whether an event under one of the person's ids is still the person's: what identity rests on may have turned
    /// out to be somebody else's since.
    fn holds(&self, engine: &Engine, place: Reference, leaf: &OpenLeaf) -> bool {
        if self.tiers.contains_key(&place) {
            return true;
        }
        let observation = engine.hasher().facts(leaf).event.map(|event| observation_id(&event.dedupe));
        let moved = |known: &Known| observation.is_some_and(|id| known.whose(&id).is_some());
        !engine.identity().read(moved).0
    }
}

/// Logs, oldest first, each with the tree at which it is read.
pub(super) type Heads<'a> = [(View<'a>, Head)];

pub(super) fn package(
    engine: &Engine,
    shown: &mut Shown,
    (logs, accesses): (&Heads<'_>, &Heads<'_>),
    (query, part): (Query, &Part),
    found: Whose,
) -> Result<(Package, Option<Cursor>), AnswerError> {
    let id = query.request.customer_id_hash.as_str();
    let mut scope = scope(engine, logs, id, found)?;
    let subject = scope.ids.first().copied();
    let question = page::question(engine.hasher(), &query.request, &scope.ids);
    if part.after.as_ref().is_some_and(|cursor| cursor.question != question) {
        return Err(AnswerError::Moved);
    }
    if let Some((log, head)) = logs.last() {
        shown.at(log.name, head.size.get());
    }
    // That somebody is known here, or not, is an answer too.
    shown.about(subject);
    let found = gather(engine, shown, logs, (&mut scope, part), query.range_ms)?;
    let next = found.last.filter(|_| found.more).map(|last| Cursor { last, question });
    let systems = vec![own(&found, part, &scope), quarantine(engine, id, &scope.ids)?];
    // Those who looked stand in the first page only.
    let mut parts = match subject.filter(|_| part.after.is_none()) {
        Some(_) => {
            accesses.iter().map(|log| self::accesses(log, &scope.ids)).collect::<Result<Vec<_>, _>>()?
        }
        None => Vec::new(),
    };
    let newest = parts.pop();
    let earlier = parts.into_iter().filter(|part| !part.events.is_empty()).collect();
    let as_of = |(log, head): &(View<'_>, Head)| AsOf {
        origin: log.name.to_owned(),
        size: head.size.get(),
        root_hash: head.root.to_string(),
    };
    let checkpoint = |(log, head): &(View<'_>, Head)| SignedCheckpoint {
        origin: log.name.to_owned(),
        checkpoint: head.checkpoint.to_string(),
    };
    let mut package = Package {
        format: FORMAT.to_owned(),
        request: query.request,
        customer: subject.map(|subject| Customer {
            global_customer_id: subject.to_string(),
            aliases: scope.ids.iter().skip(1).map(ToString::to_string).collect(),
            tier: if found.probable > 0 { "PROBABLE" } else { "VERIFIED" }.to_owned(),
        }),
        as_of: logs.iter().map(as_of).collect(),
        checkpoints: logs.iter().map(checkpoint).collect(),
        coverage: Coverage { complete: part.after.is_none() && !found.more, systems },
        events: found.events,
        earlier_access_logs: earlier,
        access_log: newest,
        manifest: None,
    };
    sign_manifest(&mut package, engine.evidence_signer())?;
    Ok((package, next))
}

/// What was found of a person's events, or of a page of them.
struct Found {
    events: Vec<EvidenceEvent>,
    /// Events whose keys were destroyed.
    closed: u64,
    /// Events that are the person's by all that is known, but not proved.
    probable: u64,
    /// The last place that was looked at.
    last: Option<Reference>,
    /// Whether places were left for the next page.
    more: bool,
}

/// Opens a person's events in the order of the logs, from the cursor on, as many as fit on the page.
fn gather(
    engine: &Engine,
    shown: &mut Shown,
    logs: &Heads<'_>,
    (scope, part): (&mut Scope, &Part),
    range_ms: Option<(i64, i64)>,
) -> Result<Found, AnswerError> {
    let after = part.after.as_ref().map(|cursor| cursor.last);
    let limit = part.limit.unwrap_or(usize::MAX);
    let mut found = Found { events: Vec::new(), closed: 0, probable: 0, last: after, more: false };
    for (log, head) in logs {
        shown.at(log.name, head.size.get());
        let here = |place: &Reference| {
            place.origin == log.ordinal
                && place.index.get() < head.size.get()
                && after.is_none_or(|after| *place > after)
        };
        for place in scope.places.clone().into_iter().filter(here) {
            if found.events.len() >= limit {
                found.more = true;
                break;
            }
            found.last = Some(place);
            match event(engine, (log, head), place, range_ms, scope) {
                Ok(Some((event, named))) => {
                    // Under the id that the leaf names, so that it is found when that leaf is erased.
                    shown.leaf(Some(named), place.index);
                    found.events.push(event);
                    let proved = scope.tiers.get(&place).is_none_or(|tier| *tier == Tier::Verified);
                    found.probable += u64::from(!proved);
                    if !scope.ids.contains(&named) {
                        scope.ids.push(named);
                    }
                }
                Ok(None) => {}
                // Its key was destroyed: it is nobody's event any more, and is not counted among the answers.
                Err(AnswerError::Open(OpenError::Key(_))) => found.closed += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// Says what the logs themselves gave, and what of it is not here.
fn own(found: &Found, part: &Part, scope: &Scope) -> SystemCoverage {
    let ambiguous = scope.ambiguous;
    let mut reasons = Vec::new();
    if scope.is_erased {
        reasons.push("the customer was erased: these are the deletions of that erasure".to_owned());
    }
    if part.after.is_some() {
        reasons.push("this is a page: earlier events are in the pages before it".to_owned());
    }
    if found.more {
        reasons.push("this is a page: further events follow in the next one".to_owned());
    }
    if found.closed > 0 {
        reasons.push("the keys of further events were destroyed".to_owned());
    }
    if found.probable > 0 {
        reasons.push(format!(
            "{} events are the person's by all that is known, but not proved: review them",
            found.probable
        ));
    }
    if ambiguous > 0 {
        reasons.push(format!("{ambiguous} events may be this person's or somebody else's and are not shown"));
    }
    SystemCoverage {
        system: "idtrail".to_owned(),
        status: SystemStatus::Answered,
        events: found.events.len() as u64,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
    }
}

/// Says what waits in the quarantine.
fn quarantine(engine: &Engine, id: &str, ids: &[GlobalCustomerId]) -> Result<SystemCoverage, AnswerError> {
    let waiting = quarantined(engine, id, ids)?;
    Ok(SystemCoverage {
        system: "idtrail-quarantine".to_owned(),
        status: SystemStatus::Answered,
        events: waiting,
        reason: (waiting > 0)
            .then(|| "events that were refused wait to be corrected; see /api/v1/quarantine".to_owned()),
    })
}

/// Returns who was shown the customer's events before this request, but not which person acted.
fn accesses((log, head): &(View<'_>, Head), ids: &[GlobalCustomerId]) -> Result<AccessPart, AnswerError> {
    let mut events = Vec::new();
    let mut indices = BTreeSet::new();
    for id in ids {
        indices.extend(log.lookup.subject(*id)?);
    }
    for index in indices.into_iter().filter(|index| index.get() < head.size.get()) {
        let bytes = log.reader.entry(index)?;
        let (open, key) = match log.open_without_person(index, &bytes) {
            Ok(open) => open,
            // Its time is over.
            Err(OpenError::Key(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let proof = log.reader.inclusion_proof(index, head.size)?;
        let keys = EventKeys::disclose(&key, None);
        events.push(EvidenceEvent::new(log.name, index, &bytes, &open, keys, &proof));
    }
    let (origin, size) = (log.name.to_owned(), head.size.get());
    let as_of = AsOf { origin, size, root_hash: head.root.to_string() };
    Ok(AccessPart { as_of, checkpoint: head.checkpoint.to_string(), events })
}

/// Counts the events of a customer that are in the quarantine: by the id that was asked for, or by an id of this
/// customer.
fn quarantined(engine: &Engine, id: &str, ids: &[GlobalCustomerId]) -> Result<u64, AnswerError> {
    let asked = engine.hasher().customer(id);
    let mut count = 0;
    for (customer, entries) in engine.quarantine().customers() {
        let owner = engine.customer(&customer)?;
        if customer == asked || owner.is_some_and(|owner| ids.contains(&owner)) {
            count += entries;
        }
    }
    Ok(count)
}

fn has_events(logs: &[(View<'_>, Head)], subject: GlobalCustomerId) -> Result<bool, AnswerError> {
    for (log, _) in logs {
        if !log.lookup.subject_page(subject, LogIndex::new(0), 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn event(
    engine: &Engine,
    (log, head): (&View<'_>, &Head),
    place: Reference,
    range_ms: Option<(i64, i64)>,
    scope: &Scope,
) -> Result<Option<(EvidenceEvent, GlobalCustomerId)>, AnswerError> {
    let (reader, index) = (log.reader, place.index);
    let bytes = reader.entry(index)?;
    let disclosed = log.open_leaf(index, &bytes)?;
    let Some(named) = disclosed.leaf.subject.filter(|_| scope.holds(engine, place, &disclosed.leaf)) else {
        return Ok(None);
    };
    if scope.is_erased && disclosed.leaf.header.event_type != TypeCode::DATA_DELETION {
        return Ok(None);
    }
    if let Some((from, to)) = range_ms {
        let time = disclosed
            .leaf
            .body
            .get("auditEvent")
            .and_then(|event| event.get("timestamp"))
            .and_then(Value::as_str);
        let time = time.and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_millisecond);
        // An event whose time cannot be told is not left out on a guess.
        if time.is_some_and(|time| time < from || time > to) {
            return Ok(None);
        }
    }
    let proof = reader.inclusion_proof(index, head.size)?;
    let keys = EventKeys::disclose(&disclosed.event_key, disclosed.staff_key.as_ref());
    let event = EvidenceEvent::new(log.name, index, &bytes, &disclosed.leaf, keys, &proof);
    Ok(Some((event, named)))
}
