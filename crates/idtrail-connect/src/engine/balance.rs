//! The invariant of every sink: what the filter wants is delivered, or a dead letter, or erased, or still to come, and
//! never two of these.

use std::collections::{BTreeMap, BTreeSet};

use crate::position::Position;

/// What the log says about one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The filter wants it.
    Yes,
    /// It does not.
    No,
    /// Nobody can say any more.
    Erased,
}

/// What does not add up. Empty lists if everything does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Wanted, before the cursor, and neither delivered nor a dead letter.
    pub lost: Vec<Position>,
    /// Delivered more than once.
    pub duplicate: Vec<Position>,
    /// Delivered, and a dead letter too.
    pub both: Vec<Position>,
    /// Delivered although the filter does not want it, or although the log does not hold it.
    pub unwanted: Vec<Position>,
    /// Delivered after one that stands later in the log. Replays are not in order and are not given here.
    pub disordered: Vec<Position>,
}

impl Balance {
    /// Tells whether everything adds up.
    pub fn holds(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares what the log holds with what arrived. `delivered` is in the order of arrival; `next` is the cursor; those in
/// `replayed` arrived by a replay and need not be in order.
pub fn balance(
    log: &BTreeMap<Position, Wanted>,
    delivered: &[Position],
    dead: &BTreeSet<Position>,
    replayed: &BTreeSet<Position>,
    next: Position,
) -> Balance {
    let mut found = Balance::default();
    let mut seen = BTreeSet::new();
    let mut newest = None;
    for at in delivered {
        if !seen.insert(*at) {
            found.duplicate.push(*at);
        }
        if dead.contains(at) {
            found.both.push(*at);
        }
        // An entry that was delivered and erased later is as it should be: the rights task takes the row out.
        if matches!(log.get(at), None | Some(Wanted::No)) {
            found.unwanted.push(*at);
        }
        if !replayed.contains(at) {
            if newest.is_some_and(|newest| newest > *at) {
                found.disordered.push(*at);
            }
            newest = newest.max(Some(*at));
        }
    }
    found.lost = log
        .iter()
        .filter(|(at, wanted)| {
            **wanted == Wanted::Yes && **at < next && !seen.contains(at) && !dead.contains(at)
        })
        .map(|(at, _)| *at)
        .collect();
    found
}
