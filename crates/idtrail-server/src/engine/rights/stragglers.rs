//! Late events of erased persons: the log discards them, the erasure that they came too late for is told.
//!
//! A discarded event leaves a leaf with the cut-off that it missed and nothing else; no two erasures have the same cut-off,
//! so it names the erasure and nobody. While the server runs it is told of them as they come; at a start they are counted
//! in the log, so that none is lost between the two leaves.

use std::collections::BTreeMap;

use idtrail_event::{Leaf, OpenLeaf, TypeCode};
use idtrail_rights::{Command, Input, ItemName, RequestId};
use serde_json::Value;

use super::ports::EVENTS;
use super::{Book, Shared, Trouble};

/// Counts by cut-off, milliseconds since 1970.
pub(super) type Late = BTreeMap<u64, u64>;

/// Returns the cut-off that a discarded event missed; `None` for leaves of before, which do not say it.
pub(super) fn cutoff(leaf: &OpenLeaf) -> Option<u64> {
    let text = leaf.body.get("auditEvent")?.get("cutoff").and_then(Value::as_str)?;
    idtrail_event::time_ms(text).and_then(|ms| u64::try_from(ms).ok())
}

/// Tells whether a leaf stands for a discarded event.
pub(super) fn is_late(leaf: &Leaf<'_>) -> bool {
    leaf.header().event_type == TypeCode::STRAGGLER_ERASED
}

/// Takes away what the requests have been told already.
pub(super) fn untold(mut late: Late, book: &Book) -> Late {
    for live in book.cases.values() {
        let case = live.machine.case();
        let Some((cutoff_ms, _)) = case.frozen else { continue };
        let told: u64 = case.items.values().map(|item| item.stragglers).sum();
        if let Some(count) = late.get_mut(&cutoff_ms) {
            *count = count.saturating_sub(told);
        }
    }
    late.retain(|_, count| *count > 0);
    late
}

impl Shared {
    /// Tells erasures of events that came too late for them.
    pub(super) fn tell_stragglers(&self) {
        let new = self.engine.stragglers().take(self.engine.reader().size());
        let late: Vec<(u64, u64, RequestId)> = {
            let mut book = self.book();
            for cutoff_ms in new {
                *book.late.entry(cutoff_ms).or_default() += 1;
            }
            let of = |cutoff_ms: u64| {
                let cases = book.cases.values().map(|live| live.machine.case());
                let mut cases = cases.filter(|case| case.frozen.is_some_and(|(at_ms, _)| at_ms == cutoff_ms));
                cases.next().map(|case| case.request.clone())
            };
            let known =
                book.late.iter().filter_map(|(cutoff_ms, count)| Some((*cutoff_ms, *count, of(*cutoff_ms)?)));
            known.collect()
        };
        for (cutoff_ms, count, request) in late {
            if let Err(error) = self.tell(&request, count) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an erasure could not be told of events that came too late; it is told later"
                );
                continue;
            }
            self.book().late.remove(&cutoff_ms);
        }
    }

    fn tell(&self, request: &RequestId, count: u64) -> Result<(), super::SayError> {
        let item = ItemName::parse(EVENTS).map_err(Trouble::from)?;
        let mut outcome = Err(super::SayError::Unavailable);
        let said = Input::Said(None, Command::Straggler(item, count));
        self.drive(request, said, &mut |said| outcome = said);
        outcome
    }

    /// Returns a cut-off that no other erasure has.
    pub(super) fn new_cutoff_ms(&self) -> u64 {
        let book = self.book();
        let of_records =
            book.records.values().filter_map(|(_, record)| Some(record.frozen.as_ref()?.cutoff_ms));
        let of_cases = book.cases.values().filter_map(|live| Some(live.machine.case().frozen?.0));
        let newest_ms = of_records.chain(of_cases).max().unwrap_or(0);
        self.now_ms().max(newest_ms.saturating_add(1))
    }
}
