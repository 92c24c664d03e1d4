//! A puncturable tree of keys: every leaf has a 32-byte key, and any set of leaves can be destroyed for ever.
//!
//! The keys form a binary tree in which each node determines its two children (see [`crate::ggm`]'s child function)
//! and nothing determines a parent or a sibling. At first the root alone is kept. To destroy leaves, every kept node
//! above one of them is replaced by the largest nodes below it that contain none of them (Boneh and Waters 2013):
//! those leaves are underivable from then on, every other one keeps its key.
//!
//! The kept nodes are therefore always the maximal cover of what is alive, sorted by position, which makes the form
//! canonical: the same holes give the same nodes, in whatever order and grouping they were made.
//!
//! What it must never do: keep a seed in memory that it has freed. All vectors are allocated once at their final
//! size, because a growing vector would leave its old storage behind unwiped.

mod codec;
mod cursor;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use zeroize::Zeroize;

pub use cursor::Cursor;
pub(crate) use cursor::PathCache;

use crate::ggm::{DEPTH_MAX, Expander};
use crate::secret::Seed;
use crate::{Secret32, TreeError, TreeKind};

/// A tree of keys with holes.
pub struct KeyTree {
    kind: TreeKind,
    depth: u8,
    nodes: Nodes,
}

/// The kept nodes, sorted by their first leaf; they do not overlap. Three vectors, for the search reads only one.
#[derive(Default)]
struct Nodes {
    firsts: Vec<u64>,
    depths: Vec<u8>,
    seeds: Vec<Seed>,
}

/// The position of a node: its first leaf, and how many bits of the path are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    first: u64,
    depth: u8,
}

impl KeyTree {
    /// Makes a whole tree from its root.
    pub fn from_root(kind: TreeKind, root: &Secret32) -> Self {
        Self::with_depth(kind, kind.depth(), root)
    }

    fn with_depth(kind: TreeKind, depth: u8, root: &Secret32) -> Self {
        assert!(depth <= DEPTH_MAX, "a key tree is at most {DEPTH_MAX} bits deep");
        let mut nodes = Nodes::with_capacity(1);
        nodes.push(Place { first: 0, depth: 0 }, root.expose());
        Self { kind, depth, nodes }
    }

    /// Returns which tree it is.
    pub fn kind(&self) -> TreeKind {
        self.kind
    }

    /// Returns how many leaves the tree has, holes included: 2 to the power of its depth.
    pub fn leaves(&self) -> u64 {
        1 << self.depth
    }

    /// Returns how many nodes are kept.
    pub fn node_count(&self) -> usize {
        self.nodes.firsts.len()
    }

    /// Returns the key of `leaf`, or nothing if it was punctured or lies outside the tree.
    /// Costs one compression of SHA-256 for each bit between the kept node and the leaf.
    pub fn derive(&self, leaf: u64) -> Option<Secret32> {
        let (place, seed) = self.node_over(leaf)?;
        let mut expander = Expander::new(self.kind);
        expander.go_to(seed);
        for level in place.depth..self.depth {
            expander.descend(self.branch(leaf, level));
        }
        let mut key = Secret32::new([0; 32]);
        expander.copy_to(key.expose_mut());
        Some(key)
    }

    /// Returns a reader for keys in rising order: about two compressions a key instead of one for each level.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor::new(self)
    }

    /// Tells whether the key of `leaf` has been destroyed; true also outside the tree.
    pub fn is_punctured(&self, leaf: u64) -> bool {
        self.node_over(leaf).is_none()
    }

    /// Destroys the keys of all leaves in `ranges`, which may be in any order, overlap, and be punctured already.
    ///
    /// # Errors
    /// `OutOfRange` if a range ends above [`KeyTree::leaves`]; nothing was destroyed then.
    pub fn puncture(&mut self, ranges: &[Range<u64>]) -> Result<(), TreeError> {
        // The old nodes are wiped by the drop of the replaced tree.
        *self = self.punctured(ranges)?;
        Ok(())
    }

    /// Returns the tree without the keys in `ranges`, leaving this one whole; as [`KeyTree::puncture`] otherwise.
    pub(crate) fn punctured(&self, ranges: &[Range<u64>]) -> Result<Self, TreeError> {
        let holes = normalise(ranges, self.leaves(), self.depth)?;
        // Once for counting, without hashing, so that the nodes are allocated exactly.
        let count = Cutter::counting(self.depth).cut(&self.nodes, &holes);
        let mut cutter = Cutter::building(self.kind, self.depth, count);
        cutter.cut(&self.nodes, &holes);
        let nodes = cutter.into_nodes();
        debug_assert_eq!(nodes.firsts.len(), count);
        Ok(Self { kind: self.kind, depth: self.depth, nodes })
    }

    /// Returns the kept node above `leaf`.
    fn node_over(&self, leaf: u64) -> Option<(Place, &Seed)> {
        let at = self.nodes.firsts.partition_point(|first| *first <= leaf).checked_sub(1)?;
        let (place, seed) = self.nodes.get(at)?;
        (leaf < place.end(self.depth)).then_some((place, seed))
    }

    /// Returns which child leads from a node at `level` towards `leaf`.
    fn branch(&self, leaf: u64, level: u8) -> u8 {
        u8::from(leaf >> (self.depth - 1 - level) & 1 == 1)
    }
}

impl fmt::Debug for KeyTree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyTree({:?}, depth {}, {} nodes)", self.kind, self.depth, self.node_count())
    }
}

impl Nodes {
    fn with_capacity(count: usize) -> Self {
        Self {
            firsts: Vec::with_capacity(count),
            depths: Vec::with_capacity(count),
            seeds: Vec::with_capacity(count),
        }
    }

    fn push(&mut self, place: Place, seed: &Seed) {
        assert!(self.seeds.len() < self.seeds.capacity(), "seeds are never moved by a growing vector");
        self.firsts.push(place.first);
        self.depths.push(place.depth);
        self.seeds.push(*seed);
    }

    fn get(&self, at: usize) -> Option<(Place, &Seed)> {
        let place = Place { first: *self.firsts.get(at)?, depth: *self.depths.get(at)? };
        Some((place, self.seeds.get(at)?))
    }

    fn iter(&self) -> impl Iterator<Item = (Place, &Seed)> {
        let places =
            self.firsts.iter().zip(&self.depths).map(|(first, depth)| Place { first: *first, depth: *depth });
        places.zip(&self.seeds)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.seeds.zeroize();
    }
}

impl Place {
    fn end(self, tree_depth: u8) -> u64 {
        self.first + (1 << (tree_depth - self.depth))
    }

    fn children(self, tree_depth: u8) -> [Self; 2] {
        let depth = self.depth + 1;
        [Self { first: self.first, depth }, Self { first: self.first + (1 << (tree_depth - depth)), depth }]
    }
}

/// Replaces nodes by what is left of them; `out` is absent while it only counts.
struct Cutter {
    depth: u8,
    count: usize,
    out: Option<(Nodes, Expander)>,
}

impl Cutter {
    fn counting(depth: u8) -> Self {
        Self { depth, count: 0, out: None }
    }

    fn building(kind: TreeKind, depth: u8, count: usize) -> Self {
        Self { depth, count: 0, out: Some((Nodes::with_capacity(count), Expander::new(kind))) }
    }

    fn into_nodes(self) -> Nodes {
        self.out.map(|(nodes, _)| nodes).unwrap_or_default()
    }

    /// Walks over nodes and holes, both sorted, and returns how many nodes are left.
    fn cut(&mut self, nodes: &Nodes, holes: &[Range<u64>]) -> usize {
        let mut holes = holes;
        for (place, seed) in nodes.iter() {
            let passed = holes.partition_point(|hole| hole.end <= place.first);
            holes = holes.get(passed..).unwrap_or_default();
            self.split(place, seed, holes);
        }
        self.count
    }

    /// Emits the parts of one node outside `holes`, of which the first ends behind the node's start.
    fn split(&mut self, place: Place, seed: &Seed, holes: &[Range<u64>]) {
        let end = place.end(self.depth);
        match holes.first().filter(|hole| hole.start < end) {
            None => {
                self.count += 1;
                if let Some((nodes, _)) = &mut self.out {
                    nodes.push(place, seed);
                }
            }
            Some(hole) if hole.start <= place.first && hole.end >= end => {}
            Some(_) => {
                for (bit, child) in (0..).zip(place.children(self.depth)) {
                    let mut child_seed = Secret32::new([0; 32]);
                    if let Some((_, expander)) = &mut self.out {
                        expander.go_to(seed);
                        expander.descend(bit);
                        expander.copy_to(child_seed.expose_mut());
                    }
                    let passed = holes.partition_point(|hole| hole.end <= child.first);
                    self.split(child, child_seed.expose(), holes.get(passed..).unwrap_or_default());
                }
            }
        }
    }
}

/// Returns the ranges sorted, disjoint and not touching; empty ones are dropped.
fn normalise(ranges: &[Range<u64>], leaves: u64, depth: u8) -> Result<Vec<Range<u64>>, TreeError> {
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        if range.end > leaves {
            return Err(TreeError::OutOfRange { leaf: range.end, depth });
        }
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    Ok(merged)
}
