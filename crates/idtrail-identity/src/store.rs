//! The records that the state is made of, and the simple operations on them.
//!
//! Everything is a fixed-size record in an arena, addressed by 32-bit numbers; lists are chained through the records.
//! That keeps an identifier with its first link at about 130 bytes, and adding one never moves another.

use std::collections::{BTreeMap, BTreeSet};

use idtrail_event::{GlobalCustomerId, IdentifierToken, IdentifierType};
use idtrail_tlog::LogIndex;

use crate::arena::{Arena, NONE};
use crate::assertion::AssertionRecord;
use crate::model::{Guard, Identifier, IdentifierState, ObservationId, StateReason};
use crate::ruleset::{Class, Rules};
use crate::table::{Table, hash_bytes, mix};

/// Flags of a node.
pub(crate) mod node_flag {
    /// A link of it is refused or bound to a time; changes need a look at its whole region.
    pub(crate) const TANGLED: u8 = 1;
    /// It hangs directly on a stronger identifier.
    pub(crate) const DIRECT: u8 = 2;
    /// A steward marked it as shared.
    pub(crate) const MARKED: u8 = 4;
    /// A steward blocked it.
    pub(crate) const BANNED: u8 = 8;
    /// It is united with another; `home` names that one.
    pub(crate) const UNITED: u8 = 16;
    /// Its owners follow one another.
    pub(crate) const SLICED: u8 = 32;
    /// One of its claims was set aside as a slip.
    pub(crate) const CONTESTED: u8 = 64;
    /// It stays contested although the other claim was erased.
    pub(crate) const DOUBTED: u8 = 128;
}

/// Flags of an edge.
pub(crate) mod edge_flag {
    /// A steward said that both ends are the same person.
    pub(crate) const STEWARD: u8 = 1;
    /// A source system said so.
    pub(crate) const SOURCE: u8 = 2;
    /// Connects an identifier with an owner named in a transfer; no evidence.
    pub(crate) const TRANSFER: u8 = 4;
    /// Either kind of SAME.
    pub(crate) const SAME: u8 = STEWARD | SOURCE;
}

/// Flags of an observation.
pub(crate) mod observation_flag {
    /// Its source took it back, or its data were erased.
    pub(crate) const WITHDRAWN: u8 = 1;
    /// It named an erased customer beside another; stays ambiguous.
    pub(crate) const ORPHANED: u8 = 2;
    /// Its customer was erased.
    pub(crate) const ERASED: u8 = 4;
    /// It named an erased customer beside its own; PROBABLE at most.
    pub(crate) const DOUBTED: u8 = 8;
}

/// Flags of a global id.
pub(crate) mod id_flag {
    /// The customer has a strong identifier.
    pub(crate) const CORE: u8 = 1;
    /// Its home is an observation.
    pub(crate) const INTERACTION: u8 = 2;
    /// The customer was erased.
    pub(crate) const ERASED: u8 = 4;
    /// The customer is known by nothing but interactions.
    pub(crate) const EPHEMERAL: u8 = 8;
    /// The customer is known by nothing but cookies, devices and interactions.
    pub(crate) const ANONYMOUS: u8 = 16;
}

/// An identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) token: [u8; 32],
    pub(crate) kind: u16,
    pub(crate) state: IdentifierState,
    pub(crate) reason: StateReason,
    pub(crate) flags: u8,
    /// The global id of the customer it belongs to.
    pub(crate) cluster: u32,
    /// The next member of the customer.
    pub(crate) next: u32,
    /// The oldest global id that this identifier holds.
    pub(crate) home: u32,
    /// The newest incidence.
    pub(crate) posts: u32,
    /// The newest edge.
    pub(crate) edges: u32,
    /// The newest change of customer.
    pub(crate) history: u32,
    /// First sighting by event time, seconds since 1970.
    pub(crate) first_s: u32,
}

impl Node {
    /// Returns an identifier that is linked to nothing yet.
    pub(crate) const fn new(
        token: [u8; 32],
        kind: u16,
        (state, reason): (IdentifierState, StateReason),
        first_s: u32,
    ) -> Self {
        Self {
            token,
            kind,
            state,
            reason,
            flags: 0,
            cluster: NONE,
            next: NONE,
            home: NONE,
            posts: NONE,
            edges: NONE,
            history: NONE,
            first_s,
        }
    }
}

/// Two identifiers that were seen together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) ends: [u32; 2],
    pub(crate) next: [u32; 2],
    /// In how many observations.
    pub(crate) support: u32,
    pub(crate) first_s: u32,
    pub(crate) last_s: u32,
    pub(crate) assurance: u8,
    pub(crate) flags: u8,
}

impl Edge {
    pub(crate) fn other(&self, node: u32) -> u32 {
        let [a, b] = self.ends;
        if a == node { b } else { a }
    }

    fn next_of(&self, node: u32) -> u32 {
        let ([a, _], [next_a, next_b]) = (self.ends, self.next);
        if a == node { next_a } else { next_b }
    }

    /// Tells whether the edge says anything about persons.
    pub(crate) fn is_evidence(&self) -> bool {
        self.support > 0 || self.flags & edge_flag::SAME != 0
    }
}

/// An observation, without its identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObservationRecord {
    pub(crate) id: [u8; 16],
    pub(crate) time_ms: u64,
    pub(crate) index: u64,
    /// Its first incidence; the others follow.
    pub(crate) first: u32,
    /// The global id that was answered.
    pub(crate) believed: u32,
    pub(crate) count: u16,
    pub(crate) candidates: u16,
    pub(crate) outcome: u8,
    pub(crate) tier: u8,
    /// 255 for none.
    pub(crate) rule: u8,
    pub(crate) flags: u8,
}

/// One identifier in one observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incidence {
    pub(crate) node: u32,
    pub(crate) observation: u32,
    /// The next older incidence of the same identifier.
    pub(crate) next: u32,
    pub(crate) assurance: u8,
    /// The state of the identifier when it was decided upon.
    pub(crate) state: IdentifierState,
    /// Where it stood in the source's list.
    pub(crate) place: u16,
}

/// A global id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdRecord {
    pub(crate) id: [u8; 16],
    /// The leaf that gave it.
    pub(crate) created: u64,
    /// The leaf and ordinal of the merge that made it an alias; `u64::MAX` if none did.
    pub(crate) merged: u64,
    pub(crate) merged_ordinal: u16,
    pub(crate) flags: u8,
    /// The identifier, or the observation, that holds it.
    pub(crate) home: u32,
    /// The first member while it names a customer.
    pub(crate) members: u32,
    /// How many members.
    pub(crate) size: u32,
    /// The newest change that took an identifier away from it.
    pub(crate) left: u32,
}

/// An identifier went from one customer to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) node: u32,
    pub(crate) previous: u32,
    pub(crate) index: u64,
    pub(crate) next_of_node: u32,
    pub(crate) next_of_id: u32,
}

/// Another token of an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AliasToken {
    pub(crate) token: [u8; 32],
    pub(crate) kind: u16,
    pub(crate) node: u32,
}

/// A time during which an identifier belongs to the owner of `anchor`; seconds since 1970, `to_s` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) anchor: u32,
    pub(crate) from_s: u32,
    pub(crate) to_s: u32,
}

/// What erased observations had counted for a link between others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) support: u32,
    pub(crate) first_s: u32,
    pub(crate) last_s: u32,
    pub(crate) assurance: u8,
}

/// A link that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quarantined {
    pub(crate) guard: Guard,
    pub(crate) number: u64,
    pub(crate) since: u64,
}

/// The state of identity resolution: a fold over observations, assertions and rulesets.
#[derive(Clone)]
pub struct State {
    pub(crate) rules: Rules,
    pub(crate) nodes: Arena<Node>,
    pub(crate) edges: Arena<Edge>,
    pub(crate) observations: Arena<ObservationRecord>,
    pub(crate) incidences: Arena<Incidence>,
    pub(crate) ids: Arena<IdRecord>,
    pub(crate) changes: Arena<Change>,
    pub(crate) aliases: Arena<AliasToken>,
    pub(crate) by_token: Table,
    pub(crate) by_alias: Table,
    pub(crate) by_ends: Table,
    pub(crate) by_observation: Table,
    pub(crate) by_id: Table,
    pub(crate) assertions: Vec<AssertionRecord>,
    /// Identifiers with NOT_SAME assertions: assertion number and side.
    pub(crate) apart: BTreeMap<u32, Vec<(u32, bool)>>,
    /// Identifiers that are held, with the number of the hold.
    pub(crate) held: BTreeMap<u32, BTreeSet<u32>>,
    /// Holds by number: how many identifiers each has; the number counts up.
    pub(crate) holds: BTreeMap<u32, u32>,
    pub(crate) holds_given: u32,
    /// Forced owners: time, owner before, owner after.
    pub(crate) transfers: BTreeMap<u32, Vec<(u32, u32, u32)>>,
    pub(crate) slices: BTreeMap<u32, Vec<Slice>>,
    /// (anchor, identifier) of every slice.
    pub(crate) sliced_from: BTreeSet<(u32, u32)>,
    pub(crate) kept: BTreeMap<u32, Kept>,
    pub(crate) quarantine: BTreeMap<u32, Quarantined>,
    pub(crate) quarantined: u64,
    /// Receipt times of the last merges of a customer.
    pub(crate) merge_times: BTreeMap<u32, Vec<u64>>,
    /// Where a global id lived before: the leaf that moved it, and its home until then.
    pub(crate) moves: BTreeMap<u32, Vec<(u64, u32)>>,
    /// Older ids held by an identifier that united with their holder.
    pub(crate) more_homes: BTreeMap<u32, Vec<u32>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("identifiers", &self.nodes.len())
            .field("observations", &self.observations.len())
            .finish_non_exhaustive()
    }
}

impl State {
    pub(crate) fn empty(rules: Rules) -> Self {
        Self {
            rules,
            nodes: Arena::new(),
            edges: Arena::new(),
            observations: Arena::new(),
            incidences: Arena::new(),
            ids: Arena::new(),
            changes: Arena::new(),
            aliases: Arena::new(),
            by_token: Table::new(),
            by_alias: Table::new(),
            by_ends: Table::new(),
            by_observation: Table::new(),
            by_id: Table::new(),
            assertions: Vec::new(),
            apart: BTreeMap::new(),
            held: BTreeMap::new(),
            holds: BTreeMap::new(),
            holds_given: 0,
            transfers: BTreeMap::new(),
            slices: BTreeMap::new(),
            sliced_from: BTreeSet::new(),
            kept: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            quarantined: 0,
            merge_times: BTreeMap::new(),
            moves: BTreeMap::new(),
            more_homes: BTreeMap::new(),
        }
    }

    #[inline]
    pub(crate) fn class(&self, node: u32) -> Class {
        self.rules.known(self.nodes.at(node).kind).class
    }

    pub(crate) fn identifier(&self, node: u32) -> Identifier {
        let node = self.nodes.at(node);
        Identifier { kind: IdentifierType::new(node.kind), token: IdentifierToken::new(node.token) }
    }

    pub(crate) fn gcid(&self, id: u32) -> GlobalCustomerId {
        GlobalCustomerId::new(self.ids.at(id).id)
    }

    pub(crate) fn observation_id(&self, observation: u32) -> ObservationId {
        ObservationId::new(self.observations.at(observation).id)
    }

    pub(crate) fn observation_index(&self, observation: u32) -> LogIndex {
        LogIndex::new(self.observations.at(observation).index)
    }

    /// Finds an identifier by any of its tokens.
    pub(crate) fn find_node(&self, kind: u16, token: &[u8; 32]) -> Option<u32> {
        let hash = hash_bytes(token, u64::from(kind));
        let direct = self.by_token.find(hash, |at| {
            let node = self.nodes.at(at);
            node.kind == kind && &node.token == token
        });
        direct.or_else(|| {
            let alias = self.by_alias.find(hash, |at| {
                let alias = self.aliases.at(at);
                alias.kind == kind && &alias.token == token
            })?;
            Some(self.united(self.aliases.at(alias).node))
        })
    }

    /// Returns the identifier that one united with, or itself.
    pub(crate) fn united(&self, mut node: u32) -> u32 {
        while self.nodes.at(node).flags & node_flag::UNITED != 0 {
            node = self.nodes.at(node).home;
        }
        node
    }

    pub(crate) fn add_node(&mut self, kind: u16, token: [u8; 32], first_s: u32) -> u32 {
        let joint = self.rules.known(kind).joint;
        let standing = if joint {
            (IdentifierState::Shared, StateReason::Joint)
        } else {
            (IdentifierState::Active, StateReason::None)
        };
        let at = self.nodes.push(Node::new(token, kind, standing, first_s));
        self.by_token.insert(hash_bytes(&token, u64::from(kind)), at);
        at
    }

    pub(crate) fn add_alias(&mut self, kind: u16, token: [u8; 32], node: u32) {
        let at = self.aliases.push(AliasToken { token, kind, node });
        self.by_alias.insert(hash_bytes(&token, u64::from(kind)), at);
    }

    pub(crate) fn find_observation(&self, id: &ObservationId) -> Option<u32> {
        self.by_observation
            .find(hash_bytes(id.as_bytes(), 1), |at| &self.observations.at(at).id == id.as_bytes())
    }

    pub(crate) fn find_id(&self, gcid: &GlobalCustomerId) -> Option<u32> {
        self.by_id.find(hash_bytes(gcid.as_bytes(), 2), |at| &self.ids.at(at).id == gcid.as_bytes())
    }

    /// Adds a global id.
    ///
    /// # Panics
    /// If it was given before: two customers would be one from then on.
    pub(crate) fn add_id(&mut self, gcid: GlobalCustomerId, home: u32, flags: u8, index: LogIndex) -> u32 {
        assert!(self.find_id(&gcid).is_none(), "a global id is given once");
        let at = self.ids.push(IdRecord {
            id: *gcid.as_bytes(),
            created: index.get(),
            merged: u64::MAX,
            merged_ordinal: 0,
            flags,
            home,
            members: NONE,
            size: 0,
            left: NONE,
        });
        self.by_id.insert(hash_bytes(gcid.as_bytes(), 2), at);
        at
    }

    pub(crate) fn ends_hash(a: u32, b: u32) -> u64 {
        let (low, high) = (a.min(b), a.max(b));
        mix(u64::from(low) << 32 | u64::from(high))
    }

    pub(crate) fn find_edge(&self, a: u32, b: u32) -> Option<u32> {
        let ends = [a.min(b), a.max(b)];
        self.by_ends.find(Self::ends_hash(a, b), |at| self.edges.at(at).ends == ends)
    }

    /// Returns the edge of two identifiers, a new one without support if there was none.
    pub(crate) fn edge_of(&mut self, a: u32, b: u32) -> (u32, bool) {
        if let Some(edge) = self.find_edge(a, b) {
            return (edge, false);
        }
        let ends = [a.min(b), a.max(b)];
        let next = ends.map(|end| self.nodes.at(end).edges);
        let edge = Edge { ends, next, support: 0, first_s: u32::MAX, last_s: 0, assurance: 0, flags: 0 };
        let at = self.edges.push(edge);
        for end in ends {
            self.nodes.at_mut(end).edges = at;
        }
        self.by_ends.insert(Self::ends_hash(a, b), at);
        (at, true)
    }

    /// Takes an edge out of the lists of both ends.
    pub(crate) fn unlink_edge(&mut self, at: u32) {
        let ends = self.edges.at(at).ends;
        for end in ends {
            let next = self.edges.at(at).next_of(end);
            if self.nodes.at(end).edges == at {
                self.nodes.at_mut(end).edges = next;
                continue;
            }
            let before = self.edges_of(end).find(|&other| self.edges.at(other).next_of(end) == at);
            if let Some(before) = before {
                let edge = self.edges.at_mut(before);
                let [a, _] = edge.ends;
                let [next_a, next_b] = &mut edge.next;
                *(if a == end { next_a } else { next_b }) = next;
            }
        }
        let [a, b] = ends;
        self.by_ends.remove(Self::ends_hash(a, b), at);
        self.quarantine.remove(&at);
        self.kept.remove(&at);
        let edge = self.edges.at_mut(at);
        (edge.ends, edge.next) = ([NONE; 2], [NONE; 2]);
        (edge.support, edge.first_s, edge.last_s, edge.assurance, edge.flags) = (0, u32::MAX, 0, 0, 0);
    }

    /// Returns the edges of an identifier, newest first.
    pub(crate) fn edges_of(&self, node: u32) -> impl Iterator<Item = u32> {
        let first = self.nodes.at(node).edges;
        std::iter::successors((first != NONE).then_some(first), move |&at| {
            let next = self.edges.at(at).next_of(node);
            (next != NONE).then_some(next)
        })
    }

    /// Returns the incidences of an identifier, latest recorded first.
    pub(crate) fn posts_of(&self, node: u32) -> impl Iterator<Item = u32> {
        let first = self.nodes.at(node).posts;
        std::iter::successors((first != NONE).then_some(first), move |&at| {
            let next = self.incidences.at(at).next;
            (next != NONE).then_some(next)
        })
    }

    /// Returns the incidences of an observation, in the source's order.
    pub(crate) fn incidences_of(&self, observation: u32) -> impl Iterator<Item = &Incidence> {
        let record = self.observations.at(observation);
        (record.first..record.first + u32::from(record.count)).map(|at| self.incidences.at(at))
    }

    /// Returns the members of a customer.
    pub(crate) fn members_of(&self, id: u32) -> impl Iterator<Item = u32> {
        let first = self.ids.at(id).members;
        std::iter::successors((first != NONE).then_some(first), move |&at| {
            let next = self.nodes.at(at).next;
            (next != NONE).then_some(next)
        })
    }

    /// Tells whether an observation counts.
    pub(crate) fn is_live(&self, observation: u32) -> bool {
        let flags = self.observations.at(observation).flags;
        flags & (observation_flag::WITHDRAWN | observation_flag::ERASED) == 0
    }

    /// Returns the customer that a global id names today: itself, the one it is an alias of, or itself without members.
    pub(crate) fn canonical(&self, id: u32) -> u32 {
        let record = self.ids.at(id);
        if record.flags & id_flag::ERASED != 0 {
            return id;
        }
        if record.flags & id_flag::INTERACTION != 0 {
            return self.attribute(record.home).cluster.unwrap_or(id);
        }
        let cluster = self.home_cluster(id);
        if cluster == NONE { id } else { cluster }
    }

    /// Returns the customer at the home of a global id. An identifier that passed on keeps the ids that live there for
    /// its first owner.
    pub(crate) fn home_cluster(&self, id: u32) -> u32 {
        let home = self.ids.at(id).home;
        let home = if home == NONE { NONE } else { self.first_owner(home) };
        if home == NONE { NONE } else { self.nodes.at(home).cluster }
    }

    /// Returns the identifier that stands for the first owner of an identifier: itself unless it passed on.
    pub(crate) fn first_owner(&self, node: u32) -> u32 {
        self.slices.get(&node).and_then(|slices| slices.first()).map_or(node, |slice| slice.anchor)
    }

    /// Tells whether owners of an identifier follow one another.
    pub(crate) fn is_sliced_node(&self, node: u32) -> bool {
        self.nodes.at(node).flags & node_flag::SLICED != 0
    }

    /// Returns the state of an identifier as events and answers name it.
    pub(crate) fn public_state(&self, node: u32) -> IdentifierState {
        let node = self.nodes.at(node);
        // A few owners are within the type's limit: it does not link, but it is not called shared.
        if node.reason == StateReason::Several { IdentifierState::Active } else { node.state }
    }

    /// Returns the bytes that the state occupies, for the metric and the benchmark: identifiers with their links, and
    /// observations.
    pub fn memory_bytes(&self) -> MemoryBytes {
        let identifiers = self.nodes.bytes()
            + self.edges.bytes()
            + self.ids.bytes()
            + self.aliases.bytes()
            + self.changes.bytes()
            + self.by_token.bytes()
            + self.by_alias.bytes()
            + self.by_ends.bytes()
            + self.by_id.bytes();
        let observations = self.observations.bytes() + self.incidences.bytes() + self.by_observation.bytes();
        MemoryBytes { identifiers, observations }
    }

    /// Returns how many identifiers and observations the state holds.
    pub fn counts(&self) -> (u32, u32) {
        (self.nodes.len(), self.observations.len())
    }
}

/// Bytes that the state occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBytes {
    /// Identifiers, links between them, global ids, and the tables to find them.
    pub identifiers: usize,
    /// Observations and which identifiers they named.
    pub observations: usize,
}

/// Returns a time as seconds since 1970; the year 2106 is the end.
pub(crate) fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX - 1)
}
