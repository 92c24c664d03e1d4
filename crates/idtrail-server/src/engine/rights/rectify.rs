//! Correction of one field or one leaf: the event is said again as it should be, then the key of the wrong leaf is destroyed.
//!
//! ```text
//! corrections, sealed in the request's record ─> checked when it is opened ─> planned, approved
//!   ─> corrected events in the log ─> keys of the wrong leaves destroyed ─> looked at again
//! ```
//! The corrected event is a leaf of its own, under an id that follows from the request, so that a repetition after a crash
//! finds it. It names the same system as the wrong one. Whoever sends the wrong event again is answered that it was erased.
//!
//! What it must never do: destroy a leaf whose corrected event is not durable, or touch a leaf that is not the person's.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;

use idtrail_event::{Dedupe, DedupeKind, LEAF_BYTES_MAX, OpenLeaf, SourceCode, ValidEvent, check};
use idtrail_index::seal::OpenError;
use idtrail_index::shred::{Order, Task as ShredTask};
use idtrail_index::trail::{Command, Refusal};
use idtrail_log::commit::Answer as LogAnswer;
use idtrail_log::{LogError, OriginOrdinal, Reference};
use idtrail_rights::{
    Answer, Call, Case, Digest, Failure, Finding, ItemName, Method, Operation, Plan, PlanItem, RequestId,
    SystemName, operation_of,
};
use idtrail_tlog::{LogIndex, TreeSize};
use idtrail_vault::Sections;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ports::{EARLIER, EVENTS, IDTRAIL, Outcome, SINK, closure, found, wait};
use super::record::{Found, Record};
use super::{LOG_PATIENCE, Shared, Trouble, person};
use crate::engine::Engine;

/// Corrections that one request may ask for.
pub(crate) const CORRECTIONS_MAX: usize = 1_000;

/// What is wrong in one leaf, and how it should be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Correction {
    /// Name of the leaf's log; the one that is written to without it.
    #[serde(default)]
    pub(crate) origin: Option<String>,
    /// The leaf.
    pub(crate) index: u64,
    /// RFC 6901 pointer to the member, below `auditEvent`; the whole event if it is empty.
    pub(crate) pointer: String,
    /// What it should be; without it the member goes.
    #[serde(default)]
    pub(crate) value: Option<Value>,
}

impl std::fmt::Debug for Correction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Correction").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Why a correction is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    /// The leaf is not one of the person's, or its key is gone.
    #[error("a leaf is not one of the person's")]
    NotTheirs,
    /// The leaf is no event that a client sent.
    #[error("a leaf holds no event that a client sent")]
    NotAnEvent,
    /// There is no such member.
    #[error("a pointer names a member that is not there")]
    Pointer,
    /// The event would not be taken as it should be.
    #[error("the corrected event is not one that would be taken")]
    Invalid,
    /// Nothing would change.
    #[error("the corrected event is the same as the one that stands there")]
    Same,
}

/// The corrections of one leaf, in the order in which they were given.
type ByLeaf<'a> = BTreeMap<(u32, u64), Vec<&'a Correction>>;

/// Groups corrections by leaf; `None` if one names a log that is not there.
pub(super) fn by_leaf<'a>(engine: &Engine, corrections: &'a [Correction]) -> Option<ByLeaf<'a>> {
    let mut leaves = ByLeaf::new();
    for one in corrections {
        let log = engine.log_named(one.origin.as_deref().unwrap_or(engine.origin()))?;
        leaves.entry((log.ordinal.0, one.index)).or_default().push(one);
    }
    Some(leaves)
}

/// Checks corrections against what is the person's now.
pub(super) fn check_all(
    engine: &Engine,
    person: &Found,
    corrections: &[Correction],
) -> Result<Result<(), Wrong>, Trouble> {
    let Some(leaves) = by_leaf(engine, corrections) else { return Ok(Err(Wrong::NotTheirs)) };
    for (place, wanted) in &leaves {
        let open = if person.leaves.contains(place) { opened(engine, *place)? } else { None };
        let Some(leaf) = open else { return Ok(Err(Wrong::NotTheirs)) };
        if let Err(wrong) = corrected(engine, &leaf, wanted) {
            return Ok(Err(wrong));
        }
    }
    Ok(Ok(()))
}

/// Opens a leaf; `None` if its key is gone or it is not there.
fn opened(engine: &Engine, (origin, index): (u32, u64)) -> Result<Option<OpenLeaf>, Trouble> {
    let Some(log) = engine.log_at(OriginOrdinal(origin)) else { return Ok(None) };
    let index = LogIndex::new(index);
    match log.open_leaf(index, &log.reader.entry(index)?) {
        Ok(disclosed) => Ok(Some(disclosed.leaf)),
        Err(OpenError::Key(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the event as it should be.
fn corrected(engine: &Engine, leaf: &OpenLeaf, wanted: &[&Correction]) -> Result<ValidEvent, Wrong> {
    // What was resolved here follows from identifiers that stand beside the event; it is corrected where it came from.
    if matches!(leaf.header.source, SourceCode::RESOLVE | SourceCode::SYSTEM) {
        return Err(Wrong::NotAnEvent);
    }
    let mut body = leaf.body.clone();
    let event = body.get_mut("auditEvent").ok_or(Wrong::NotAnEvent)?;
    for one in wanted {
        put(event, &one.pointer, one.value.clone())?;
    }
    if body == leaf.body {
        return Err(Wrong::Same);
    }
    let now_ms = i64::try_from(engine.now_ms()).unwrap_or(i64::MAX);
    check(body, engine.rules(), now_ms).map_err(|_| Wrong::Invalid)
}

/// Puts a value where a pointer leads, or takes the member there away.
fn put(event: &mut Value, pointer: &str, value: Option<Value>) -> Result<(), Wrong> {
    if pointer.is_empty() {
        *event = value.filter(Value::is_object).ok_or(Wrong::Pointer)?;
        return Ok(());
    }
    let (parent, name) = pointer.rsplit_once('/').ok_or(Wrong::Pointer)?;
    let name = name.replace("~1", "/").replace("~0", "~");
    match (event.pointer_mut(parent).ok_or(Wrong::Pointer)?, value) {
        (Value::Object(members), Some(value)) => {
            members.insert(name, value);
            Ok(())
        }
        (Value::Object(members), None) => members.remove(&name).map(|_| ()).ok_or(Wrong::Pointer),
        (Value::Array(items), value) => {
            let at: usize = name.parse().map_err(|_| Wrong::Pointer)?;
            match (items.get_mut(at), value) {
                (Some(item), Some(value)) => *item = value,
                (Some(_), None) => drop(items.remove(at)),
                (None, _) => return Err(Wrong::Pointer),
            }
            Ok(())
        }
        _ => Err(Wrong::Pointer),
    }
}

impl Shared {
    /// Plans a correction: one item for each log that has wrong leaves, and one for each sink, whose rows a person corrects.
    pub(super) fn plan_corrections(
        &self,
        case: &Case,
        record: &Record,
        person: &Found,
    ) -> Result<Plan, Trouble> {
        let leaves = by_leaf(&self.engine, &record.corrections).unwrap_or_default();
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for place in leaves.keys().filter(|place| person.leaves.contains(place)) {
            *counts.entry(place.0).or_default() += 1;
        }
        let newest = self.engine.ordinal().0;
        counts.entry(newest).or_default();
        let mut items = Vec::new();
        let mut add = |name: &str, system: &str, method, count| {
            let scope = (&record.nonce, name, &record.corrections);
            items.push(PlanItem {
                item: ItemName::parse(name)?,
                system: SystemName::parse(system)?,
                method,
                count,
                scope: Digest::of_json("idtrail/rights/scope/v1", &scope)?,
                lag_ms: 0,
                can_hold: false,
            });
            Ok::<(), Trouble>(())
        };
        for (number, count) in &counts {
            let name = if *number == newest { EVENTS.to_owned() } else { format!("{EARLIER}{number}") };
            add(&name, IDTRAIL, Method::OwnLog, *count)?;
        }
        let wrong = counts.values().sum();
        for (name, _) in self.sink_methods() {
            add(&format!("{SINK}{name}"), &name, Method::Manual, wrong)?;
        }
        Ok(Plan {
            kind: case.kind(),
            closure: closure(&record.nonce, case.plans_dropped, person)?,
            identifiers: person.identifiers.len() as u64,
            interactions: person.interactions.len() as u64,
            shared_excluded: person.shared,
            items,
        })
    }

    /// Carries an item of a correction out, in one log.
    pub(super) fn rectify(&self, request: &RequestId, number: u32, record: &Record, call: &Call) -> Outcome {
        let leaves = by_leaf(&self.engine, &record.corrections).unwrap_or_default();
        let here = leaves.into_iter().filter(|((origin, _), _)| *origin == number);
        let mut open = Vec::new();
        for (place, wanted) in here {
            if let Some(leaf) = opened(&self.engine, place)? {
                open.push((place, leaf, wanted));
            }
        }
        match operation_of(call) {
            Some(Operation::Probe | Operation::Lookup) => found(Finding::Count(open.len() as u64)),
            Some(Operation::Rectify) => {
                let mut wrong = Vec::new();
                let theirs = person::find(&self.engine, &record.whom)?.leaves;
                if !open.iter().all(|(place, ..)| theirs.contains(place)) {
                    // They turned out to be somebody else's since; a person must look.
                    return Ok(Answer::Failed(Failure::Refused, None));
                }
                for (place, leaf, wanted) in &open {
                    // What was checked before may have been corrected by somebody else since; a person must look.
                    let Ok(event) = corrected(&self.engine, leaf, wanted) else {
                        return Ok(Answer::Failed(Failure::Refused, None));
                    };
                    if !self.say_corrected(request, *place, leaf, &event)? {
                        return Ok(Answer::Failed(Failure::Refused, None));
                    }
                    wrong.push(Reference { origin: OriginOrdinal(place.0), index: LogIndex::new(place.1) });
                }
                let count = wrong.len() as u64;
                if !wrong.is_empty() {
                    let task = ShredTask::Erase { leaves: wrong, sections: Sections::Both };
                    let order = Order { request_id: call.effect_id.to_string(), actor: None, task };
                    wait(self.engine.desk().order(order)?)?;
                }
                found(Finding::Count(count))
            }
            _ => Ok(Answer::Failed(Failure::Refused, None)),
        }
    }

    /// Writes the corrected event; returns whether it stands in the log, durable and known to the index.
    fn say_corrected(
        &self,
        request: &RequestId,
        (origin, index): (u32, u64),
        leaf: &OpenLeaf,
        event: &ValidEvent,
    ) -> Result<bool, Trouble> {
        let id = json!([request, origin, index]).to_string();
        let id = Dedupe::text(DedupeKind::SYSTEM, &id).into_owned();
        let (source, system, actor) = (leaf.header.source, leaf.system.as_str(), leaf.actor.as_deref());
        let command = Command::prepare(self.engine.hasher(), event, source, system, actor, id);
        if command.leaf_bytes_max() > LEAF_BYTES_MAX {
            return Ok(false);
        }
        let (sender, receiver) = sync_channel(1);
        self.engine.log().submit(command, Box::new(move |outcome| drop(sender.send(outcome))))?;
        match receiver.recv_timeout(LOG_PATIENCE).map_err(|_| LogError::Stopped)?? {
            LogAnswer::Appended { first, .. } => {
                let size = TreeSize::new(first.get() + 1);
                if self.engine.log().applied().wait(size, LOG_PATIENCE) {
                    Ok(true)
                } else {
                    Err(Trouble::Behind)
                }
            }
            LogAnswer::Existing(_) | LogAnswer::Refused(Refusal::Earlier(_)) => Ok(true),
            LogAnswer::Refused(Refusal::Unavailable) => Err(Trouble::Behind),
            LogAnswer::Refused(Refusal::Conflict(_) | Refusal::Erased | Refusal::ErasedConflict) => Ok(false),
        }
    }
}
