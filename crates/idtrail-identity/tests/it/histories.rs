//! Random histories over a small world, so that identifiers meet often, and what replays them.

use std::collections::BTreeMap;

use idtrail_event::{GlobalCustomerId, IdentifierToken, IdentifierType};
use idtrail_identity::assertion::{Assertion, AssertionDecision, AssertionKind, Subject};
use idtrail_identity::erase::{Erasure, Reassertion};
use idtrail_identity::reassert::Reasserted;
use idtrail_identity::ruleset::types;
use idtrail_identity::{
    Actor, Assurance, Decision, Home, IdSource, Identifier, IdentityError, Observation, ObservationId,
    Recorded, Ruleset, RulesetDecision, Sighting, State,
};
use idtrail_tlog::LogIndex;
use proptest::prelude::*;

pub(crate) const DAY_MS: u64 = 86_400_000;

/// One input.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Observe(Observation),
    Assert(AssertionKind),
}

/// The identifier number `n` of a type.
pub(crate) fn identifier(kind: IdentifierType, n: u8) -> Identifier {
    let mut token = [0xa5; 32];
    // Spread, so that the order of tokens is not that of the numbers.
    token[0] = n.wrapping_mul(151) ^ (kind.number() as u8).wrapping_mul(37);
    token[1] = kind.number() as u8;
    token[2] = n;
    token[31] = 1;
    Identifier { kind, token: IdentifierToken::new(token) }
}

pub(crate) fn sighting(kind: IdentifierType, n: u8, assurance: u8) -> Sighting {
    let identifier = identifier(kind, n);
    Sighting { identifier, assurance: assurance.try_into().unwrap(), aliases: Vec::new() }
}

pub(crate) fn observation(number: u32, day: u64, sightings: Vec<Sighting>) -> Observation {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Observation { id: ObservationId::new(id), time_ms: day * DAY_MS, sightings }
}

/// A ruleset that the small world reaches the limits of, without limits that depend on the time of receipt.
pub(crate) fn tight() -> Ruleset {
    let mut rules = Ruleset { merges_per_day_max: u32::MAX, fanout_max: 4, ..Ruleset::default() };
    rules.cluster_identifiers_max = 7;
    for rule in &mut rules.types {
        if rule.max_per_cluster == 5 {
            rule.max_per_cluster = 2;
        }
    }
    rules
}

fn kinds() -> impl Strategy<Value = (IdentifierType, u8)> {
    prop_oneof![
        4 => (Just(IdentifierType::PHONE), 0..6_u8),
        3 => (Just(IdentifierType::EMAIL), 0..5_u8),
        4 => (Just(IdentifierType::ACCOUNT), 0..5_u8),
        1 => (Just(types::CRM_PERSON), 0..3_u8),
        1 => (Just(types::EXTERNAL_CONTACT), 0..3_u8),
        1 => (Just(types::COOKIE), 0..3_u8),
        1 => (Just(types::PERSON_KEY), 0..2_u8),
        1 => (Just(types::INTERACTION), 0..6_u8),
    ]
}

pub(crate) fn sightings() -> impl Strategy<Value = Vec<Sighting>> {
    let one = (kinds(), 0..=5_u8).prop_map(|((kind, n), assurance)| sighting(kind, n, assurance));
    prop::collection::vec(one, 1..4)
}

pub(crate) fn observations(max: usize) -> impl Strategy<Value = Vec<Observation>> {
    let one = (0..400_u64, sightings());
    prop::collection::vec(one, 1..max).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered.map(|(at, (day, sightings))| observation(at as u32, day, sightings)).collect()
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    kinds().prop_map(|(kind, n)| Subject::Identifier(identifier(kind, n)))
}

pub(crate) fn assertion() -> impl Strategy<Value = AssertionKind> {
    let weak = || {
        prop_oneof![(Just(IdentifierType::PHONE), 0..6_u8), (Just(IdentifierType::EMAIL), 0..5_u8)]
            .prop_map(|(kind, n)| identifier(kind, n))
    };
    prop_oneof![
        3 => (subject(), subject()).prop_map(|(a, b)| AssertionKind::Same(a, b)),
        3 => (prop::collection::vec(subject(), 1..3), prop::collection::vec(subject(), 1..3))
            .prop_map(|(left, right)| AssertionKind::NotSame(left, right)),
        1 => weak().prop_map(AssertionKind::Block),
        1 => weak().prop_map(AssertionKind::MarkShared),
        1 => (weak(), subject(), subject(), 0..400_u64).prop_map(|(identifier, from, to, day)| {
            AssertionKind::Transfer { identifier, from, to, at_ms: day * DAY_MS }
        }),
        2 => (0..40_u32).prop_map(|number| AssertionKind::Withdraw(observation(number, 0, Vec::new()).id)),
        3 => (0..30_u64).prop_map(AssertionKind::Revoke),
    ]
}

/// Observations with assertions between them.
pub(crate) fn history(max: usize) -> impl Strategy<Value = Vec<Input>> {
    let step = prop_oneof![
        4 => (0..400_u64, sightings()).prop_map(|(day, sightings)| Ok((day, sightings))),
        1 => assertion().prop_map(Err),
    ];
    prop::collection::vec(step, 1..max).prop_map(|steps| {
        let mut number = 0;
        let input = |step| match step {
            Ok((day, sightings)) => {
                number += 1;
                Input::Observe(observation(number - 1, day, sightings))
            }
            Err(kind) => Input::Assert(kind),
        };
        steps.into_iter().map(input).collect()
    })
}

/// Gives ids that are new, or those of a recording.
#[derive(Default)]
struct Ids {
    count: u64,
    recorded: BTreeMap<(u64, Home), GlobalCustomerId>,
    index: u64,
}

impl IdSource for Ids {
    fn id_for(&mut self, home: Home) -> GlobalCustomerId {
        if !self.recorded.is_empty() {
            return self.recorded[&(self.index, home)];
        }
        self.count += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        GlobalCustomerId::new(bytes)
    }
}

/// A state that is fed, and remembers which ids it gave.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) next: u64,
    ids: Ids,
    /// What was given, for a replay.
    pub(crate) given: Vec<(u64, Home, GlobalCustomerId)>,
}

impl World {
    pub(crate) fn new(rules: Ruleset) -> Self {
        Self { state: State::new(rules).unwrap(), next: 0, ids: Ids::default(), given: Vec::new() }
    }

    /// A world that gives the ids of a recording.
    pub(crate) fn replaying(rules: Ruleset, given: &[(u64, Home, GlobalCustomerId)]) -> Self {
        let mut world = Self::new(rules);
        world.ids.recorded = given.iter().map(|&(index, home, gcid)| ((index, home), gcid)).collect();
        world.ids.count = given.len() as u64;
        world
    }

    pub(crate) fn at(&self) -> Recorded {
        Recorded { index: LogIndex::new(self.next), at_ms: 1_000_000_000_000 + self.next * 1000 }
    }

    fn step(&mut self) -> Recorded {
        let at = self.at();
        self.next += 1;
        self.ids.index = at.index.get();
        if self.ids.recorded.keys().all(|(index, _)| *index < at.index.get()) {
            self.ids.recorded.clear();
        }
        at
    }

    fn note(&mut self, at: Recorded, given: &[(Home, GlobalCustomerId)]) {
        self.given.extend(given.iter().map(|&(home, gcid)| (at.index.get(), home, gcid)));
    }

    pub(crate) fn observe(&mut self, observation: &Observation) -> Decision {
        let at = self.step();
        let decision = self.state.resolve(observation, at, &mut self.ids).unwrap();
        self.note(at, &decision.given);
        decision
    }

    /// Shorthand: sees identifiers together on a day.
    pub(crate) fn see(&mut self, day: u64, sightings: Vec<Sighting>) -> Decision {
        let number = self.next as u32 + 1_000;
        self.observe(&observation(number, day, sightings))
    }

    pub(crate) fn assert(&mut self, kind: AssertionKind) -> Result<AssertionDecision, IdentityError> {
        let at = self.step();
        let assertion = Assertion { kind, actor: Actor::Steward, reason: String::new(), approver: None };
        let decision = self.state.assert(&assertion, at, &mut self.ids)?;
        self.note(at, &decision.given);
        Ok(decision)
    }

    pub(crate) fn change_ruleset(&mut self, rules: Ruleset) -> RulesetDecision {
        let at = self.step();
        self.state.change_ruleset(rules, at, &mut self.ids).unwrap()
    }

    pub(crate) fn erase(&mut self, subject: Subject) -> Erasure {
        let at = self.step();
        self.state.erase(&subject, at, &mut self.ids).unwrap()
    }

    /// Takes facts over that were said again.
    pub(crate) fn reassert(&mut self, facts: &[Reassertion]) -> Reasserted {
        let at = self.step();
        self.state.reassert(facts, at, &mut self.ids)
    }

    /// Takes an input; assertions that are refused change nothing.
    pub(crate) fn take(&mut self, input: &Input) {
        match input {
            Input::Observe(observation) => drop(self.observe(observation)),
            Input::Assert(kind) => drop(self.assert(kind.clone())),
        }
    }
}

/// The assurance of most sightings in scenarios.
pub(crate) const NETWORK: u8 = Assurance::NETWORK.level();
