//! The growing edge of a tree, and everything that appending a batch makes known.
//!
//! A batch knows every node that its own entries complete and the few on the left that they lean on, so it can prove
//! each of its entries in the new tree without reading a tile: that is what makes a complete receipt cheap.

use alloc::vec::Vec;

use crate::hash::{Hash, LogIndex, TreeSize, empty_root, node_hash};

/// The roots of the complete subtrees that make up a tree, one per set bit of its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The complete subtree of `2^k` leaves at `k`, where bit `k` of the size is set.
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
    pub fn append(&mut self, leaf: Hash) {
        let mut carry = leaf;
        let mut level = 0;
        loop {
            if self.nodes.len() == level {
                self.nodes.push(None);
            }
            let Some(slot) = self.nodes.get_mut(level) else { return };
            match slot.take() {
                Some(left) => carry = node_hash(&left, &carry),
                None => {
                    *slot = Some(carry);
                    break;
                }
            }
            level += 1;
        }
        self.size += 1;
    }

    /// Appends leaves and returns what that makes known.
    pub fn append_batch(&mut self, leaves: &[Hash]) -> Batch {
        let old_size = self.size;
        let size = old_size + leaves.len() as u64;
        let mut levels: Vec<Level> = Vec::new();
        let mut complete = Level { start: old_size, nodes: leaves.to_vec() };
        let mut k = 0;
        loop {
            // The left neighbour of the first new node at this level, if the old tree had one that stands alone.
            if let Some(left) = self.nodes.get(k).copied().flatten() {
                complete.start -= 1;
                complete.nodes.insert(0, left);
            }
            let above = complete.parents();
            let more = k + 1 < self.nodes.len() || !above.nodes.is_empty();
            levels.push(complete);
            if !more {
                break;
            }
            complete = above;
            k += 1;
        }
        self.size = size;
        self.nodes = levels.iter().enumerate().map(|(k, level)| level.lone(size, k)).collect();
        let ragged = ragged(&levels, size);
        Batch { old_size, size, root: self.root(), levels, ragged }
    }
}

/// Complete nodes of one binary level, contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    /// Position of the first node at this level.
    start: u64,
    nodes: Vec<Hash>,
}

impl Level {
    fn get(&self, position: u64) -> Option<Hash> {
        let offset = position.checked_sub(self.start)?;
        self.nodes.get(usize::try_from(offset).ok()?).copied()
    }

    /// Returns the nodes one level up whose both children are here.
    fn parents(&self) -> Level {
        // The first node is never a right child: its left neighbour was put in front of it.
        debug_assert!(self.start.is_multiple_of(2), "a level starts with a left child");
        let (pairs, _) = self.nodes.as_chunks::<2>();
        Level {
            start: self.start / 2,
            nodes: pairs.iter().map(|[left, right]| node_hash(left, right)).collect(),
        }
    }

    /// Returns the last node of this level if the tree of `size` leaves has no sibling for it.
    fn lone(&self, size: u64, k: usize) -> Option<Hash> {
        let count = size >> k;
        if count % 2 == 1 { self.get(count - 1) } else { None }
    }
}

/// Returns, per level `k`, the hash of the incomplete subtree at the right edge: leaves `(size >> k) << k` to the end.
fn ragged(levels: &[Level], size: u64) -> Vec<Option<Hash>> {
    let mut ragged = Vec::with_capacity(levels.len() + 1);
    let mut current: Option<Hash> = None;
    ragged.push(current);
    for (k, level) in levels.iter().enumerate() {
        if let Some(left) = level.lone(size, k) {
            current = Some(match current {
                Some(right) => node_hash(&left, &right),
                None => left,
            });
        }
        ragged.push(current);
    }
    ragged
}

/// A batch of leaves appended to a tree, with all that is needed to prove them in the new tree.
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
        let Some(level) = self.levels.first() else { return &[] };
        let skip = usize::try_from(self.old_size - level.start).unwrap_or(usize::MAX);
        level.nodes.get(skip..).unwrap_or_default()
    }

    /// Returns the proof of a leaf of this batch in the tree after it, leaf side first (RFC 6962 §2.1.1); `None` for
    /// other indices.
    pub fn inclusion_proof(&self, index: LogIndex) -> Option<Vec<Hash>> {
        let index = index.get();
        if index < self.old_size || index >= self.size {
            return None;
        }
        let mut proof = Vec::with_capacity(self.levels.len());
        for (k, level) in self.levels.iter().enumerate() {
            let count = self.size >> k;
            let sibling = (index >> k) ^ 1;
            if sibling < count {
                proof.push(level.get(sibling)?);
            } else if sibling == count
                && let Some(right) = self.ragged.get(k).copied().flatten()
            {
                proof.push(right);
            }
        }
        Some(proof)
    }
}
