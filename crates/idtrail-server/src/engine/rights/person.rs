//! What is a person's: ids, identifiers, leaves, interactions, as identity and the index know them now.
//!
//! Identifiers that others use too are counted and never followed: the worst that can happen is to erase somebody else.

use std::collections::BTreeSet;
use std::time::Duration;

use idtrail_event::{GlobalCustomerId, IdentifierToken, IdentifierType, OpenLeaf};
use idtrail_identity::assertion::Subject;
use idtrail_identity::{Identifier, State as Known, Tier};
use idtrail_index::closing;
use idtrail_index::identity::{interaction, observation_id};
use idtrail_index::seal::OpenError;
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_tlog::LogIndex;

use super::Trouble;
use super::record::{Found, Whom};
use crate::engine::Engine;

const PATIENCE: Duration = Duration::from_secs(30);

/// Writes down whom a request is about.
pub(crate) fn whom(subject: &Subject) -> Whom {
    match subject {
        Subject::Customer(gcid) => Whom::Customer(gcid.to_string()),
        Subject::Identifier(one) => Whom::Identifier(one.kind.number(), one.token.to_string()),
    }
}

/// Reads whom a request is about.
pub(super) fn subject(whom: &Whom) -> Option<Subject> {
    match whom {
        Whom::Customer(gcid) => GlobalCustomerId::try_from(gcid.as_str()).ok().map(Subject::Customer),
        Whom::Identifier(kind, token) => identifier(*kind, token).map(Subject::Identifier),
    }
}

fn identifier(kind: u16, token: &str) -> Option<Identifier> {
    let token = IdentifierToken::try_from(token).ok()?;
    Some(Identifier { kind: IdentifierType::new(kind), token })
}

/// Finds what is the person's, at the present size of the log.
pub(crate) fn find(engine: &Engine, whom: &[Whom]) -> Result<Found, Trouble> {
    let subjects: Vec<Subject> = whom.iter().filter_map(subject).collect();
    let (closure, next) =
        engine.identity().read(|known| subjects.iter().find_map(|subject| known.closure(subject).ok()));
    let size = engine.numbering().size_in_newest(next).max(engine.reader().size());
    if !engine.log().applied().wait(size, PATIENCE) {
        return Err(Trouble::Behind);
    }
    let mut found = Found::default();
    let mut ids = Vec::new();
    let mut places = BTreeSet::new();
    let mut sure = BTreeSet::new();
    let mut unproved_at = BTreeSet::new();
    if let Some(closure) = closure {
        ids.push(closure.customer.gcid);
        ids.extend(closure.customer.aliases);
        sure.extend(closure.interactions.iter().map(|one| engine.numbering().place(one.index)));
        let unproved = closure.interactions.iter().filter(|one| one.tier != Tier::Verified);
        unproved_at.extend(unproved.map(|one| engine.numbering().place(one.index)));
        found.ambiguous = closure.ambiguous.into();
        places.extend(sure.iter().copied());
        found.shared = closure.shared.len() as u64;
        let own = |one: &&idtrail_identity::read::Owned| {
            one.to_ms.is_none() && !closure.shared.contains(&one.identifier)
        };
        let pair = |one: &idtrail_identity::read::Owned| {
            (one.identifier.kind.number(), one.identifier.token.to_string())
        };
        found.identifiers.extend(closure.customer.identifiers.iter().filter(own).map(pair));
    } else {
        // Events that say nothing about identity have ids that only the index knows.
        ids.extend(subjects.iter().filter_map(|subject| match subject {
            Subject::Customer(gcid) => Some(*gcid),
            Subject::Identifier(_) => None,
        }));
    }
    for log in engine.logs() {
        for id in &ids {
            let indices = log.lookup.subject(*id)?.into_iter();
            places.extend(indices.map(|index| Reference { origin: log.ordinal, index }));
        }
    }
    let mut interactions = BTreeSet::new();
    for place in places {
        let Some(log) = engine.log_at(place.origin) else { continue };
        let leaf = match log.open_leaf(place.index, &log.reader.entry(place.index)?) {
            Ok(disclosed) => disclosed.leaf,
            Err(OpenError::Key(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        // Requests have leaves of their own; an erasure does not erase what shows that it was one.
        let of_request = leaf.header.class == idtrail_event::ClassId::RIGHTS;
        if of_request || !(sure.contains(&place) || is_still_theirs(engine, &leaf)) {
            continue;
        }
        found.leaves.push((place.origin.0, place.index.get()));
        if unproved_at.contains(&place) {
            found.probable.push((place.origin.0, place.index.get()));
        }
        interactions.extend(leaf.interaction_id().map(str::to_owned));
    }
    for id in &interactions {
        let one = interaction(&engine.hasher().interaction(id)).identifier;
        found.identifiers.push((one.kind.number(), one.token.to_string()));
    }
    if !found.leaves.is_empty() || !found.identifiers.is_empty() {
        found.customers = ids.iter().map(ToString::to_string).collect();
    }
    found.interactions = interactions.into_iter().collect();
    found.identifiers.sort();
    found.identifiers.dedup();
    Ok(found)
}

/// Tells whether an event under one of the person's ids is still the person's: what identity rests on may have turned out
/// to be somebody else's since.
fn is_still_theirs(engine: &Engine, leaf: &OpenLeaf) -> bool {
    let observation = engine.hasher().facts(leaf).event.map(|event| observation_id(&event.dedupe));
    let moved = |known: &Known| observation.is_some_and(|id| known.whose(&id).is_some());
    !engine.identity().read(moved).0
}

/// Returns the names under which the person is closed.
pub(crate) fn names(found: &Found) -> Vec<[u8; 32]> {
    let customers = found.customers.iter().filter_map(|id| GlobalCustomerId::try_from(id.as_str()).ok());
    let identifiers = found.identifiers.iter().filter_map(|(kind, token)| identifier(*kind, token));
    customers
        .map(|gcid| closing::customer(&gcid))
        .chain(identifiers.map(|one| closing::identifier(one.kind, &one.token)))
        .collect()
}

/// Returns those of the leaves in one log that can still be opened.
pub(crate) fn readable(engine: &Engine, found: &Found, number: u32) -> Result<Vec<u64>, Trouble> {
    let mut readable = Vec::new();
    for (_, index) in found.leaves.iter().filter(|(origin, _)| *origin == number) {
        let Some(log) = engine.log_at(OriginOrdinal(number)) else { continue };
        let place = LogIndex::new(*index);
        match log.open_leaf(place, &log.reader.entry(place)?) {
            Ok(_) => readable.push(*index),
            Err(OpenError::Key(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(readable)
}
