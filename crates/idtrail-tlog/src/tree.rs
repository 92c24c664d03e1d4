//! The growing edge of a tree, and everything that appending a batch makes known.
//!
//! In go leaf hashes, out come roots and inclusion proofs. A batch knows every node that its own entries
//! complete and the few on the left that they lean on, so it can prove each of its entries in the new tree
//! without reading a tile: that is what makes a complete receipt cheap. Each binary level is one contiguous
//! vector, built once; a proof is nothing but copies out of these vectors.

use alloc::vec::Vec;

use crate::hash::{Hash, LogIndex, TreeSize, empty_root, node_hash};

/// The roots of the complete subtrees that make up a tree, one per set bit of its size: at most 64 hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// At `k` the complete subtree of `2^k` leaves, where bit `k` of the size is set. No empty ones at the
    /// end.
    nodes: Vec<Option<Hash>>,
}

impl Frontier {
    /// Returns the frontier of the empty tree.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the count of leaves.
    pub fn size(&self) -> TreeSize {
        TreeSize::new(self.size)
    }

    /// Returns the root of the tree (RFC 6962 §2.1).
    pub fn root(&self) -> Hash {
        let mut complete = self.nodes.iter().flatten();
        let Some(first) = complete.next() else { return empty_root() };
        complete.fold(*first, |right, left| node_hash(left, &right))
    }

    /// Appends one leaf.
    ///
    /// # Panics
    /// If the tree has 2^64 − 1 leaves.
    pub fn append(&mut self, leaf: Hash) {
        let mut carry = leaf;
        self.size = self.size.checked_add(1).expect("a tree has fewer than 2^64 leaves");
        for slot in &mut self.nodes {
            match slot.take() {
                Some(left) => carry = node_hash(&left, &carry),
                None => {
                    *slot = Some(carry);
                    return;
                }
            }
        }
        self.nodes.push(Some(carry));
    }

    /// Appends leaves and returns all that this makes known.
    ///
    /// # Panics
    /// If the tree would have 2^64 leaves.
    pub fn append_batch(&mut self, leaves: &[Hash]) -> Batch {
        let old_size = self.size;
        let size = old_size.checked_add(leaves.len() as u64).expect("a tree has fewer than 2^64 leaves");
        let heights = (u64::BITS - size.leading_zeros()) as usize;
        let mut levels: Vec<Level> = Vec::with_capacity(heights);
        for k in 0..heights {
            // The left neighbour of the first new node at this level, if the old tree had one that stands
            // alone.
            let left = self.nodes.get(k).copied().flatten();
            let level = match levels.last() {
                None => Level::of_leaves(left, leaves, old_size),
                Some(below) => Level::above(below, left, old_size >> k),
            };
            levels.push(level);
        }
        self.size = size;
        self.nodes.clear();
        self.nodes.extend(levels.iter().enumerate().map(|(k, level)| level.alone(size, k)));
        let ragged = ragged(&self.nodes);
        let root = ragged.last().copied().flatten().unwrap_or_else(empty_root);
        Batch { old_size, size, root, levels, ragged }
    }
}

/// Complete nodes of one binary level, in order and without gaps, from the one that stood alone before the
/// batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    /// Position of the first node at this level; always even, so that nodes pair up.
    start: u64,
    nodes: Vec<Hash>,
}

impl Level {
    fn of_leaves(left: Option<Hash>, leaves: &[Hash], old_count: u64) -> Self {
        let mut nodes = Vec::with_capacity(leaves.len() + 1);
        nodes.extend(left);
        nodes.extend_from_slice(leaves);
        Self { start: old_count - u64::from(left.is_some()), nodes }
    }

    fn above(below: &Self, left: Option<Hash>, old_count: u64) -> Self {
        let (pairs, _) = below.nodes.as_chunks::<2>();
        let mut nodes = Vec::with_capacity(pairs.len() + 1);
        nodes.extend(left);
        nodes.extend(pairs.iter().map(|[left, right]| node_hash(left, right)));
        Self { start: old_count - u64::from(left.is_some()), nodes }
    }

    fn get(&self, position: u64) -> Option<Hash> {
        let offset = position.checked_sub(self.start)?;
        self.nodes.get(usize::try_from(offset).ok()?).copied()
    }

    /// Returns the last node of this level if the tree of `size` leaves has no sibling for it.
    fn alone(&self, size: u64, k: usize) -> Option<Hash> {
        let count = size >> k;
        if count % 2 == 1 { self.get(count - 1) } else { None }
    }
}

/// Returns, per level `k`, the hash of the incomplete subtree at the right edge: leaves `(size >> k) << k` to
/// the end. The last one, one above the highest level, is the root.
fn ragged(nodes: &[Option<Hash>]) -> Vec<Option<Hash>> {
    let mut ragged = Vec::with_capacity(nodes.len() + 1);
    let mut current: Option<Hash> = None;
    ragged.push(current);
    for node in nodes {
        current = match (node, current) {
            (Some(left), Some(right)) => Some(node_hash(left, &right)),
            (Some(left), None) => Some(*left),
            (None, right) => right,
        };
        ragged.push(current);
    }
    ragged
}

/// A batch of leaves appended to a tree, with all that is needed to prove them in the new tree without any
/// IO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    old_size: u64,
    size: u64,
    root: Hash,
    levels: Vec<Level>,
    ragged: Vec<Option<Hash>>,
}

impl Batch {
    /// Returns the size before the batch.
    pub fn old_size(&self) -> TreeSize {
        TreeSize::new(self.old_size)
    }

    /// Returns the size after the batch.
    pub fn size(&self) -> TreeSize {
        TreeSize::new(self.size)
    }

    /// Returns the root after the batch.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// Returns the hashes of the batch's leaves.
    pub fn leaf_hashes(&self) -> &[Hash] {
        self.tile_hashes(0).1
    }

    /// Returns the hashes that the batch adds to tiles of `level` (0 to 7), behind the position of the first
    /// one at that level: nodes over `256^level` leaves that it completed.
    pub fn tile_hashes(&self, level: u8) -> (u64, &[Hash]) {
        let height = 8 * u32::from(level);
        let first = self.old_size.checked_shr(height).unwrap_or(0);
        let Some(at) = self.levels.get(height as usize) else { return (first, &[]) };
        let known_before = usize::from(at.start < first);
        (first, at.nodes.get(known_before..).unwrap_or_default())
    }

    /// Returns the proof of a leaf of this batch in the tree after it, leaf side first (RFC 6962 §2.1.1);
    /// `None` for other indices.
    pub fn inclusion_proof(&self, index: LogIndex) -> Option<Vec<Hash>> {
        let index = index.get();
        if index < self.old_size || index >= self.size {
            return None;
        }
        let mut proof = Vec::with_capacity(self.levels.len());
        for ((k, level), ragged) in self.levels.iter().enumerate().zip(&self.ragged) {
            let count = self.size >> k;
            let sibling = (index >> k) ^ 1;
            if sibling < count {
                proof.push(level.get(sibling)?);
            } else if sibling == count {
                // Beyond the complete nodes there is at most one incomplete one; if none, the node has no
                // sibling here.
                proof.extend(*ragged);
            }
        }
        Some(proof)
    }
}
