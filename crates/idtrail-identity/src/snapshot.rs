//! The state as bytes and back, so that a start does not have to fold the whole log.
//!
//! CBOR (RFC 8949) in its deterministic form: definite lengths, shortest heads, fields in a fixed order. The same state
//! gives the same bytes, which is also how a replay is compared with the live state. The tables by which records are
//! found are not written; they follow from the records.
//!
//! Reading refuses what refers outside of itself, so that a damaged snapshot is an error and never a panic later. Whether
//! the bytes are authentic is for whoever stores them to make sure.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decoder, Encoder};

use crate::arena::{Arena, NONE};
use crate::assertion::{AssertionRecord, Mark};
use crate::error::IdentityError;
use crate::model::{Actor, Guard, IdentifierState, StateReason};
use crate::ruleset::{Rules, Ruleset};
use crate::store::{
    AliasToken, Change, Edge, IdRecord, Incidence, Kept, Node, ObservationRecord, Quarantined, Slice, State,
    id_flag, node_flag, observation_flag,
};
use crate::table::hash_bytes;

const VERSION: u32 = 2;

type Out = Encoder<Vec<u8>>;
type In<'b> = Decoder<'b>;
type Taken<T> = Result<T, minicbor::decode::Error>;

/// Something that can be written and read back.
trait Field: Sized {
    fn put(&self, out: &mut Out);
    fn take(input: &mut In<'_>) -> Taken<Self>;
}

/// Writing into memory cannot fail.
fn sure<T, E>(written: Result<T, E>) {
    assert!(written.is_ok(), "writing CBOR into memory does not fail");
}

macro_rules! numbers {
    ($($type:ident)*) => { $(
        impl Field for $type {
            fn put(&self, out: &mut Out) {
                sure(out.$type(*self));
            }
            fn take(input: &mut In<'_>) -> Taken<Self> {
                input.$type()
            }
        }
    )* };
}
numbers!(u8 u16 u32 u64 bool);

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut Out) {
        sure(out.bytes(self));
    }

    fn take(input: &mut In<'_>) -> Taken<Self> {
        input.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("length"))
    }
}

impl Field for [u32; 2] {
    fn put(&self, out: &mut Out) {
        let [a, b] = self;
        (*a, *b).put(out);
    }

    fn take(input: &mut In<'_>) -> Taken<Self> {
        <(u32, u32)>::take(input).map(|(a, b)| [a, b])
    }
}

macro_rules! tuples {
    ($($count:literal: $($type:ident $at:tt),*;)*) => { $(
        impl<$($type: Field),*> Field for ($($type,)*) {
            fn put(&self, out: &mut Out) {
                sure(out.array($count));
                $(self.$at.put(out);)*
            }
            fn take(input: &mut In<'_>) -> Taken<Self> {
                expect(input, $count)?;
                Ok(($($type::take(input)?,)*))
            }
        }
    )* };
}
tuples! {
    2: A 0, B 1;
    3: A 0, B 1, C 2;
}

macro_rules! coded {
    ($($type:ident)*) => { $(
        impl Field for $type {
            fn put(&self, out: &mut Out) {
                (*self as u8).put(out);
            }
            fn take(input: &mut In<'_>) -> Taken<Self> {
                Self::from_code(input.u8()?).ok_or_else(|| minicbor::decode::Error::message("code"))
            }
        }
    )* };
}
coded!(IdentifierState StateReason Guard Actor);

macro_rules! records {
    ($($type:ident $count:literal { $($field:ident),* })*) => { $(
        impl Field for $type {
            fn put(&self, out: &mut Out) {
                sure(out.array($count));
                $(self.$field.put(out);)*
            }
            fn take(input: &mut In<'_>) -> Taken<Self> {
                expect(input, $count)?;
                Ok(Self { $($field: Field::take(input)?),* })
            }
        }
    )* };
}
records! {
    Node 12 { token, kind, state, reason, flags, cluster, next, home, posts, edges, history, first_s }
    Edge 7 { ends, next, support, first_s, last_s, assurance, flags }
    ObservationRecord 11 { id, time_ms, index, first, believed, count, candidates, outcome, tier, rule, flags }
    Incidence 6 { node, observation, next, assurance, state, place }
    IdRecord 9 { id, created, merged, merged_ordinal, flags, home, members, size, left }
    Change 5 { node, previous, index, next_of_node, next_of_id }
    AliasToken 3 { token, kind, node }
    Slice 3 { anchor, from_s, to_s }
    Kept 4 { support, first_s, last_s, assurance }
    Quarantined 3 { guard, number, since }
    AssertionRecord 4 { mark, actor, index, revoked }
}

impl Field for Mark {
    fn put(&self, out: &mut Out) {
        sure(out.array(2));
        match self {
            Self::Same(a, b) => {
                0_u8.put(out);
                (*a, *b).put(out);
            }
            Self::Apart(left, right) => {
                1_u8.put(out);
                (left.clone(), right.clone()).put(out);
            }
            Self::Block(node) => {
                2_u8.put(out);
                node.put(out);
            }
            Self::Shared(node) => {
                3_u8.put(out);
                node.put(out);
            }
            Self::Transfer { node, from, to, at_s } => {
                4_u8.put(out);
                ((*node, *from), (*to, *at_s)).put(out);
            }
            Self::Withdraw(observation) => {
                5_u8.put(out);
                observation.put(out);
            }
            Self::Hold { number, nodes } => {
                6_u8.put(out);
                (*number, nodes.clone()).put(out);
            }
            Self::Revoke(number) => {
                7_u8.put(out);
                number.put(out);
            }
        }
    }

    fn take(input: &mut In<'_>) -> Taken<Self> {
        expect(input, 2)?;
        Ok(match input.u8()? {
            0 => {
                let (a, b) = Field::take(input)?;
                Self::Same(a, b)
            }
            1 => {
                let (left, right) = Field::take(input)?;
                Self::Apart(left, right)
            }
            2 => Self::Block(input.u32()?),
            3 => Self::Shared(input.u32()?),
            4 => {
                let ((node, from), (to, at_s)) = Field::take(input)?;
                Self::Transfer { node, from, to, at_s }
            }
            5 => Self::Withdraw(input.u32()?),
            6 => {
                let (number, nodes) = Field::take(input)?;
                Self::Hold { number, nodes }
            }
            7 => Self::Revoke(input.u32()?),
            _ => return Err(minicbor::decode::Error::message("mark")),
        })
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Out) {
        sure(out.array(self.len() as u64));
        self.iter().for_each(|item| item.put(out));
    }

    fn take(input: &mut In<'_>) -> Taken<Self> {
        (0..length(input)?).map(|_| T::take(input)).collect()
    }
}

impl<T: Field> Field for Arena<T> {
    fn put(&self, out: &mut Out) {
        sure(out.array(u64::from(self.len())));
        self.iter().for_each(|item| item.put(out));
    }

    fn take(input: &mut In<'_>) -> Taken<Self> {
        let mut arena = Self::new();
        for _ in 0..length(input)? {
            arena.push(T::take(input)?);
        }
        Ok(arena)
    }
}

impl<T: Field + Ord> Field for BTreeSet<T> {
    fn put(&self, out: &mut Out) {
        sure(out.array(self.len() as u64));
        self.iter().for_each(|item| item.put(out));
    }

    fn take(input: &mut In<'_>) -> Taken<Self> {
        Vec::take(input).map(|items| items.into_iter().collect())
    }
}

impl<K: Field + Ord, V: Field> Field for BTreeMap<K, V> {
    fn put(&self, out: &mut Out) {
        sure(out.array(self.len() as u64));
        for (key, value) in self {
            sure(out.array(2));
            key.put(out);
            value.put(out);
        }
    }

    fn take(input: &mut In<'_>) -> Taken<Self> {
        Vec::take(input).map(|items| items.into_iter().collect())
    }
}

fn length(input: &mut In<'_>) -> Taken<u64> {
    input.array()?.ok_or_else(|| minicbor::decode::Error::message("indefinite length"))
}

fn expect(input: &mut In<'_>, count: u64) -> Taken<()> {
    if length(input)? == count { Ok(()) } else { Err(minicbor::decode::Error::message("count")) }
}

/// The parts of a snapshot, in order, with the names that errors give.
macro_rules! parts {
    ($each:ident) => {
        $each! {
            nodes "identifiers", edges "links", observations "observations", incidences "incidences",
            ids "ids", changes "changes", aliases "aliases", assertions "assertions", apart "apart",
            held "held", holds "holds", holds_given "holds", transfers "transfers", slices "slices",
            kept "links", quarantine "quarantine", quarantined "quarantine", merge_times "merge times", moves "homes", more_homes "homes"
        }
    };
}

impl State {
    /// Returns the state as bytes.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = Encoder::new(Vec::new());
        sure(out.array(22));
        VERSION.put(&mut out);
        let rules = serde_json::to_vec(&self.rules.set).expect("a ruleset has only texts and numbers");
        sure(out.bytes(&rules));
        macro_rules! put {
            ($($part:ident $name:literal),*) => { $(self.$part.put(&mut out);)* };
        }
        parts!(put);
        out.into_writer()
    }

    /// Reads what [`State::to_snapshot`] wrote.
    ///
    /// # Errors
    /// [`IdentityError::Snapshot`] if it is anything else.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, IdentityError> {
        let damaged = |place| move |_| IdentityError::Snapshot { place };
        let mut input = Decoder::new(bytes);
        expect(&mut input, 22).map_err(damaged("head"))?;
        if u32::take(&mut input).map_err(damaged("version"))? != VERSION {
            return Err(IdentityError::Snapshot { place: "version" });
        }
        let rules = input.bytes().map_err(damaged("ruleset"))?;
        let rules: Ruleset =
            serde_json::from_slice(rules).map_err(|_| IdentityError::Snapshot { place: "ruleset" })?;
        rules.validate().map_err(|_| IdentityError::Snapshot { place: "ruleset" })?;
        let mut state = Self::empty(Rules::new(rules));
        macro_rules! take {
            ($($part:ident $name:literal),*) => {
                $(state.$part = Field::take(&mut input).map_err(damaged($name))?;)*
            };
        }
        parts!(take);
        if input.position() != bytes.len() {
            return Err(IdentityError::Snapshot { place: "end" });
        }
        state.check_references()?;
        state.find_again();
        Ok(state)
    }

    /// Makes sure that every number leads to a record.
    fn check_references(&self) -> Result<(), IdentityError> {
        let lost = |place| Err(IdentityError::Snapshot { place });
        let node = |at: u32| at < self.nodes.len();
        let node_or = |at: u32| at == NONE || node(at);
        let id_or = |at: u32| at == NONE || at < self.ids.len();
        let known = self.nodes.iter().all(|record| {
            let home =
                if record.flags & node_flag::UNITED != 0 { node(record.home) } else { id_or(record.home) };
            home && self.rules.of(record.kind).is_some()
                && id_or(record.cluster)
                && node_or(record.next)
                && (record.posts == NONE || record.posts < self.incidences.len())
                && (record.edges == NONE || record.edges < self.edges.len())
                && (record.history == NONE || record.history < self.changes.len())
        });
        if !known {
            return lost("identifiers");
        }
        let linked = self.edges.iter().all(|edge| {
            edge.ends.iter().all(|&end| node_or(end))
                && edge.next.iter().all(|&next| next == NONE || next < self.edges.len())
        });
        if !linked {
            return lost("links");
        }
        let seen = self.observations.iter().all(|record| {
            let end = u64::from(record.first) + u64::from(record.count);
            end <= u64::from(self.incidences.len()) && record.believed < self.ids.len()
        });
        let incident = self.incidences.iter().all(|record| {
            node(record.node)
                && record.observation < self.observations.len()
                && (record.next == NONE || record.next < self.incidences.len())
        });
        if !seen || !incident {
            return lost("observations");
        }
        let named = self.ids.iter().all(|record| {
            let home = if record.flags & id_flag::ERASED != 0 {
                true
            } else if record.flags & id_flag::INTERACTION != 0 {
                record.home < self.observations.len()
            } else {
                node(record.home)
            };
            home && node_or(record.members) && (record.left == NONE || record.left < self.changes.len())
        });
        if !named {
            return lost("ids");
        }
        let changed = self.changes.iter().all(|change| {
            let next = |at: u32| at == NONE || at < self.changes.len();
            node(change.node)
                && id_or(change.previous)
                && next(change.next_of_node)
                && next(change.next_of_id)
        });
        if !changed {
            return lost("changes");
        }
        let aliased = self.aliases.iter().all(|alias| node_or(alias.node));
        let keys = self.apart.keys().chain(self.held.keys()).chain(self.transfers.keys());
        let marked = keys.chain(self.slices.keys()).chain(self.more_homes.keys()).all(|&at| node(at));
        let forced = self.transfers.values().flatten().all(|(_, from, to)| node_or(*from) && node_or(*to));
        let moved =
            self.moves.iter().all(|(&id, all)| id_or(id) && all.iter().all(|(_, home)| node_or(*home)));
        let sliced = moved && self.slices.values().flatten().all(|slice| node_or(slice.anchor));
        let refused = self.quarantine.keys().chain(self.kept.keys()).all(|&edge| edge < self.edges.len());
        let asserted = self.assertions.iter().all(|record| match &record.mark {
            Mark::Same(a, b) => node(*a) && node(*b),
            Mark::Apart(left, right) => left.iter().chain(right).all(|&at| node(at)),
            Mark::Block(at) | Mark::Shared(at) => node(*at),
            Mark::Transfer { node: at, from, to, .. } => node(*at) && node(*from) && node(*to),
            Mark::Withdraw(observation) => *observation < self.observations.len(),
            Mark::Hold { nodes, .. } => nodes.iter().all(|&at| node(at)),
            Mark::Revoke(number) => (*number as usize) < self.assertions.len(),
        });
        if aliased && marked && forced && sliced && refused && asserted { Ok(()) } else { lost("marks") }
    }

    /// Fills the tables by which records are found.
    fn find_again(&mut self) {
        for (at, record) in (0..).zip(self.nodes.iter()) {
            if record.state != IdentifierState::Retired {
                self.by_token.insert(hash_bytes(&record.token, u64::from(record.kind)), at);
            }
        }
        for (at, alias) in (0..).zip(self.aliases.iter()) {
            if alias.node != NONE {
                self.by_alias.insert(hash_bytes(&alias.token, u64::from(alias.kind)), at);
            }
        }
        for (at, edge) in (0..).zip(self.edges.iter()) {
            let [a, b] = edge.ends;
            if a != NONE {
                self.by_ends.insert(Self::ends_hash(a, b), at);
            }
        }
        for (at, record) in (0..).zip(self.observations.iter()) {
            if record.flags & observation_flag::ERASED == 0 {
                self.by_observation.insert(hash_bytes(&record.id, 1), at);
            }
        }
        for (at, record) in (0..).zip(self.ids.iter()) {
            self.by_id.insert(hash_bytes(&record.id, 2), at);
        }
        for (&node, slices) in &self.slices {
            self.sliced_from.extend(slices.iter().map(|slice| (slice.anchor, node)));
        }
    }
}
