//! The bytes of a key tree: its kept nodes with their seeds and the holes between them, in the order of the leaves.
//!
//! `tree byte ‖ depth byte ‖ items`. An item is either a kept node (one byte, its depth, then its 32-byte seed) or a
//! hole (one byte, 0x80 + its depth). Each item stands for the 2^(tree depth - depth) leaves behind the item before
//! it, so that positions need no bytes: 33 bytes a node and 1 byte a hole. Decoding accepts only what encoding gives:
//! items aligned to their size, the whole tree covered exactly once, and never two siblings of one sort, because they
//! would have been one item.

use super::{KeyTree, Nodes, Place};
use crate::ggm::DEPTH_MAX;
use crate::{TreeError, TreeKind};

const HEADER_BYTES: usize = 2;
const NODE_BYTES: usize = 33;
const HOLE: u8 = 0x80;

impl KeyTree {
    /// Returns the length of [`KeyTree::encode`] in bytes.
    pub fn encoded_len(&self) -> usize {
        let mut holes = 0;
        self.for_each_hole(|_, _| holes += 1);
        HEADER_BYTES + self.node_count() * NODE_BYTES + holes
    }

    /// Appends the encoding to `out`, which must be secret; reserve [`KeyTree::encoded_len`] first, so that no
    /// unwiped copy stays behind.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend([self.kind.byte(), self.depth]);
        let mut nodes = self.nodes.iter();
        // Holes are reported with the number of nodes before them.
        let mut written = 0;
        self.for_each_hole(|before, depth| {
            for (place, seed) in nodes.by_ref().take(before - written) {
                out.push(place.depth);
                out.extend_from_slice(seed);
            }
            written = before;
            out.push(HOLE | depth);
        });
        for (place, seed) in nodes {
            out.push(place.depth);
            out.extend_from_slice(seed);
        }
    }

    /// Reads an encoding.
    ///
    /// # Errors
    /// `Damaged` for everything that [`KeyTree::encode`] cannot have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let malformed =
            |reason, rest: &[u8]| TreeError::Malformed { reason, offset: bytes.len() - rest.len() };
        let [kind, depth, items @ ..] = bytes else { return Err(malformed("it is too short", bytes)) };
        let kind = TreeKind::from_byte(*kind).ok_or_else(|| malformed("unknown tree", bytes))?;
        let depth = Some(*depth).filter(|depth| *depth <= DEPTH_MAX);
        let depth = depth.ok_or_else(|| malformed("the tree is too deep", bytes))?;
        // Never too small and, since a hole takes a byte only, hardly too large.
        let mut nodes = Nodes::with_capacity(items.len() / NODE_BYTES);
        let (mut rest, mut next) = (items, 0_u64);
        let mut previous: Option<(Place, bool)> = None;
        while let [tag, after @ ..] = rest {
            let (alive, place) = (tag & HOLE == 0, Place { first: next, depth: tag & !HOLE });
            if place.depth > depth || !next.is_multiple_of(1 << (depth - place.depth)) || next >= 1 << depth {
                return Err(malformed("an item does not fit its place", rest));
            }
            if previous
                .is_some_and(|(sibling, same)| same == alive && place.is_second_child_beside(sibling, depth))
            {
                return Err(malformed("two siblings should be one item", rest));
            }
            next = place.end(depth);
            previous = Some((place, alive));
            rest = after;
            if alive {
                let (seed, after) =
                    rest.split_first_chunk().ok_or_else(|| malformed("a seed is cut off", rest))?;
                nodes.push(place, seed);
                rest = after;
            }
        }
        if next != 1 << depth {
            return Err(malformed("leaves are missing at the end", rest));
        }
        Ok(Self { kind, depth, nodes })
    }

    /// Calls `each` with (number of nodes before it, depth) for every hole, in order.
    fn for_each_hole(&self, mut each: impl FnMut(usize, u8)) {
        let mut next = 0;
        for (at, (place, _)) in self.nodes.iter().enumerate() {
            self.cut_gap(next..place.first, |depth| each(at, depth));
            next = place.end(self.depth);
        }
        self.cut_gap(next..self.leaves(), |depth| each(self.node_count(), depth));
    }

    /// Cuts a gap into the fewest whole subtrees.
    fn cut_gap(&self, gap: std::ops::Range<u64>, mut each: impl FnMut(u8)) {
        let mut first = gap.start;
        while first < gap.end {
            let fitting = (gap.end - first).ilog2();
            let bits = first.trailing_zeros().min(fitting);
            each(self.depth - u8::try_from(bits).expect("a gap is no larger than the tree"));
            first += 1 << bits;
        }
    }
}

impl Place {
    /// Tells whether this is the right child of the node whose left child is `other`.
    fn is_second_child_beside(self, other: Self, tree_depth: u8) -> bool {
        let size = 1_u64 << (tree_depth - self.depth);
        self.depth == other.depth && self.first & size != 0 && other.first == self.first ^ size
    }
}
