//! The part of the state that one change can affect: everything reachable through identifiers that link.
//!
//! Shared and blocked identifiers are the border: they belong to the region, because the change may end their being
//! shared, but the walk does not go through them. If the solver finds that one of them links after all, the walk is
//! repeated with that one opened.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::model::IdentifierState;
use crate::ruleset::Class;
use crate::store::State;
use crate::table::mix;

/// Hashes small numbers; iteration order is never used.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = mix(self.0 ^ u64::from(number));
    }
}

/// A map from numbers.
pub(crate) type NumberMap<V> = HashMap<u32, V, BuildHasherDefault<NumberHasher>>;

/// A region.
#[derive(Default)]
pub(crate) struct Region {
    /// Its identifiers.
    pub(crate) nodes: Vec<u32>,
    /// Where each stands in `nodes`.
    pub(crate) local: NumberMap<u32>,
    /// Whether the walk went through it.
    pub(crate) expanded: Vec<bool>,
    /// Edges with at least one end that was walked through: edge, and both ends by place.
    pub(crate) edges: Vec<(u32, u32, u32)>,
}

impl State {
    /// Tells whether links stop at an identifier.
    pub(crate) fn is_border(&self, node: u32) -> bool {
        self.nodes.at(node).state != IdentifierState::Active
    }

    /// Walks from `seeds`, through borders only if they are in `opened`.
    pub(crate) fn region(&self, seeds: &[u32], opened: &[u32]) -> Region {
        let mut region = Region::default();
        for &seed in seeds {
            region.add(seed);
        }
        let mut at = 0;
        while let Some(&node) = region.nodes.get(at) {
            let through =
                (!self.is_border(node) || opened.contains(&node)) && self.class(node) != Class::Corroborating;
            region.expanded.push(through);
            if through {
                for edge in self.edges_of(node) {
                    let record = self.edges.at(edge);
                    let other = record.other(node);
                    if self.class(other) == Class::Corroborating {
                        continue;
                    }
                    let place = region.add(other);
                    // The other end adds the edge if it was walked through before.
                    if !region.expanded.get(place as usize).copied().unwrap_or(false) {
                        region.edges.push((edge, at as u32, place));
                    }
                }
            }
            at += 1;
        }
        region
    }
}

impl Region {
    fn add(&mut self, node: u32) -> u32 {
        let next = self.nodes.len() as u32;
        let place = *self.local.entry(node).or_insert(next);
        if place == next {
            self.nodes.push(node);
        }
        place
    }
}
