//! Keys in rising order for two compressions each, by remembering the path to the last one.
//!
//! A path holds the seeds of all nodes between a kept node and a leaf; the next leaf shares most of them. Each of
//! those seeds stands for many keys, so a path must be wiped when its tree is punctured: [`Cursor`] borrows its
//! tree, which makes that impossible to forget, and the keyring wipes the [`PathCache`]s that it has handed out.

use std::fmt;

use zeroize::Zeroize;

use super::KeyTree;
use crate::Secret32;
use crate::ggm::{DEPTH_MAX, Expander};
use crate::secret::Seed;

/// Derives keys of one tree, cheaply if each is near the one before.
pub struct Cursor<'tree> {
    tree: &'tree KeyTree,
    path: PathCache,
}

impl<'tree> Cursor<'tree> {
    pub(super) fn new(tree: &'tree KeyTree) -> Self {
        Self { tree, path: PathCache::new(tree) }
    }

    /// Returns the key of `leaf`, or nothing if it was punctured or lies outside the tree.
    pub fn derive(&mut self, leaf: u64) -> Option<Secret32> {
        self.path.derive_cached(leaf).or_else(|| self.path.derive(self.tree, leaf))
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Cursor({:?})", self.tree)
    }
}

/// The seeds from a kept node down to the last leaf that was asked for.
pub(crate) struct PathCache {
    /// By level; valid are those from `top` to `depth`, if there is a `leaf`.
    seeds: Box<[Seed; DEPTH_MAX as usize + 1]>,
    expander: Expander,
    depth: u8,
    top: u8,
    leaf: Option<u64>,
}

impl PathCache {
    pub(crate) fn new(tree: &KeyTree) -> Self {
        let seeds = Box::new([[0; 32]; DEPTH_MAX as usize + 1]);
        Self { seeds, expander: Expander::new(tree.kind), depth: tree.depth, top: 0, leaf: None }
    }

    /// Returns the key of `leaf` if it lies below the kept node of the last one, without looking at the tree.
    #[inline]
    pub(crate) fn derive_cached(&mut self, leaf: u64) -> Option<Secret32> {
        let last = self.leaf?;
        // Shared are the levels above the highest bit in which the two leaves differ.
        let differing = u8::try_from(u64::BITS - (leaf ^ last).leading_zeros()).unwrap_or(u8::MAX);
        let shared = self.depth.checked_sub(differing).filter(|shared| *shared >= self.top)?;
        Some(self.descend(leaf, shared))
    }

    /// Returns the key of `leaf` from the kept node above it, which becomes the new top of the path.
    pub(crate) fn derive(&mut self, tree: &KeyTree, leaf: u64) -> Option<Secret32> {
        let (place, seed) = tree.node_over(leaf)?;
        self.wipe();
        *self.seeds.get_mut(usize::from(place.depth))? = *seed;
        self.top = place.depth;
        Some(self.descend(leaf, place.depth))
    }

    /// Tells whether no seed is remembered.
    #[cfg(test)]
    pub(crate) fn is_wiped(&self) -> bool {
        self.leaf.is_none() && self.seeds.iter().all(|seed| *seed == [0; 32])
    }

    /// Forgets every seed.
    pub(crate) fn wipe(&mut self) {
        if self.leaf.take().is_some() {
            self.expander.go_to(&[0; 32]);
            self.seeds.as_mut().zeroize();
        }
    }

    /// Fills the path below level `from`, whose seed is right, and returns the last seed.
    #[inline]
    fn descend(&mut self, leaf: u64, from: u8) -> Secret32 {
        self.leaf = Some(leaf);
        let path = self.seeds.get_mut(usize::from(from)..=usize::from(self.depth)).unwrap_or_default();
        let Some((top, below)) = path.split_first_mut() else { unreachable!("a path has at least its top") };
        self.expander.go_to(top);
        let mut bit = self.depth - from;
        for seed in below {
            bit -= 1;
            self.expander.descend(u8::from(leaf >> bit & 1 == 1));
            self.expander.copy_to(seed);
        }
        let mut key = Secret32::new([0; 32]);
        self.expander.copy_to(key.expose_mut());
        key
    }
}

impl Drop for PathCache {
    fn drop(&mut self) {
        self.seeds.as_mut().zeroize();
    }
}
