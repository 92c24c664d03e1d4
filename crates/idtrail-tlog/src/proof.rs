//! Inclusion and consistency proofs: making them from tiles, and checking them.

use alloc::vec::Vec;

use crate::hash::{Hash, LogIndex, TreeSize, empty_root, node_hash};
use crate::tile::TileId;

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index is not below the size, or the sizes are not in order.
    #[error("the proof is about no such tree: index or size out of range")]
    Range,
    /// The proof has too few or too many hashes for the tree.
    #[error("the proof has the wrong length. hashes={hashes}")]
    Length {
        /// How many it has.
        hashes: usize,
    },
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Checks that a leaf is at `index` of the tree of `size` and `root` (RFC 6962 §2.1.1, RFC 9162 §2.1.3.2).
///
/// # Errors
/// [`ProofError`] if it is not proved.
pub fn verify_inclusion(
    index: LogIndex,
    size: TreeSize,
    leaf: &Hash,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index.get() >= size.get() {
        return Err(ProofError::Range);
    }
    let length = ProofError::Length { hashes: proof.len() };
    let (mut node, mut last) = (index.get(), size.get() - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the tree of `new_size` and `new_root` begins with the tree of `old_size` and `old_root` (RFC 6962
/// §2.1.2, RFC 9162 §2.1.4.2).
///
/// # Errors
/// [`ProofError`] if it is not proved.
pub fn verify_consistency(
    old_size: TreeSize,
    new_size: TreeSize,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let (old, new) = (old_size.get(), new_size.get());
    let length = ProofError::Length { hashes: proof.len() };
    if old > new {
        return Err(ProofError::Range);
    }
    if old == new || old == 0 {
        let root_wrong = (old == new && old_root != new_root) || (old == 0 && *old_root != empty_root());
        return match (proof.is_empty(), root_wrong) {
            (false, _) => Err(length),
            (true, true) => Err(ProofError::Root),
            (true, false) => Ok(()),
        };
    }
    let mut hashes = proof.iter();
    let first = if old.is_power_of_two() { old_root } else { hashes.next().ok_or(length)? };
    let shift = old.trailing_zeros();
    let (mut node, mut last) = ((old - 1) >> shift, (new - 1) >> shift);
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in hashes {
        if last == 0 {
            return Err(length);
        }
        if node % 2 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(ProofError::Root) }
}

/// Gives tiles of one log.
pub trait TileSource {
    /// What can go wrong.
    type Error;

    /// Returns the hashes of a tile, exactly `id.width()` of them.
    ///
    /// # Errors
    /// As the source has them.
    fn tile(&self, id: TileId) -> Result<Vec<Hash>, Self::Error>;
}

/// Why a proof could not be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// The index is not below the size, or the sizes are not in order.
    #[error("there is no such tree: index or size out of range")]
    Range,
    /// The source gave a tile of another width than asked for.
    #[error("a tile has the wrong width. tile={0}")]
    TileWidth(TileId),
    /// The source failed.
    #[error("a tile could not be read")]
    Source(E),
}

/// Makes the proof that `index` is in the tree of `size`, leaf side first (RFC 6962 §2.1.1).
///
/// # Errors
/// `Range` if `index >= size`; `Source` as the source fails.
pub fn prove_inclusion<S: TileSource>(
    source: &S,
    index: LogIndex,
    size: TreeSize,
) -> Result<Vec<Hash>, ProveError<S::Error>> {
    if index.get() >= size.get() {
        return Err(ProveError::Range);
    }
    let mut nodes = Nodes::new(source, size);
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size.get());
    while end - start > 1 {
        let middle = start + split(end - start);
        if index.get() < middle {
            proof.push(nodes.subtree(middle, end)?);
            end = middle;
        } else {
            proof.push(nodes.subtree(start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Makes the proof that the tree of `new` size begins with the tree of `old` size (RFC 6962 §2.1.2). Empty if `old`
/// is 0 or equals `new`.
///
/// # Errors
/// `Range` if `old > new`; `Source` as the source fails.
pub fn prove_consistency<S: TileSource>(
    source: &S,
    old: TreeSize,
    new: TreeSize,
) -> Result<Vec<Hash>, ProveError<S::Error>> {
    let old = old.get();
    if old > new.get() {
        return Err(ProveError::Range);
    }
    let mut proof = Vec::new();
    if old == 0 || old == new.get() {
        return Ok(proof);
    }
    let mut nodes = Nodes::new(source, new);
    let (mut start, mut end) = (0, new.get());
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(nodes.subtree(middle, end)?);
            end = middle;
        } else {
            proof.push(nodes.subtree(start, middle)?);
            start = middle;
        }
    }
    // The verifier knows the old root already if the old tree is one complete subtree from the left edge.
    if start != 0 {
        proof.push(nodes.subtree(start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Returns the root of the tree of `size`.
///
/// # Errors
/// `Source` as the source fails.
pub fn root_from_tiles<S: TileSource>(source: &S, size: TreeSize) -> Result<Hash, ProveError<S::Error>> {
    if size.get() == 0 {
        return Ok(empty_root());
    }
    Nodes::new(source, size).subtree(0, size.get())
}

/// Returns the largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// Reads nodes of one tree; each tile is fetched once.
struct Nodes<'s, S: TileSource> {
    source: &'s S,
    size: u64,
    fetched: Vec<(TileId, Vec<Hash>)>,
}

impl<'s, S: TileSource> Nodes<'s, S> {
    fn new(source: &'s S, size: TreeSize) -> Self {
        Self { source, size: size.get(), fetched: Vec::new() }
    }

    /// Returns the hash of the leaves `start..end`, where `start` is a multiple of the largest power of two in it.
    fn subtree(&mut self, start: u64, end: u64) -> Result<Hash, ProveError<S::Error>> {
        let count = end - start;
        if count.is_power_of_two() {
            return self.complete(start, count.trailing_zeros());
        }
        let middle = start + split(count);
        let left = self.subtree(start, middle)?;
        let right = self.subtree(middle, end)?;
        Ok(node_hash(&left, &right))
    }

    /// Returns the node over the `2^height` leaves from `start`.
    fn complete(&mut self, start: u64, height: u32) -> Result<Hash, ProveError<S::Error>> {
        let level = height / 8;
        let first = start >> (8 * level);
        let index = first / 256;
        let available = (self.size >> (8 * level)) - index * 256;
        let width = available.min(256) as u16;
        let id = TileId::new(level as u8, index, width).ok_or(ProveError::Range)?;
        let at = match self.fetched.iter().position(|(have, _)| *have == id) {
            Some(at) => at,
            None => {
                let hashes = self.source.tile(id).map_err(ProveError::Source)?;
                if hashes.len() != usize::from(width) {
                    return Err(ProveError::TileWidth(id));
                }
                self.fetched.push((id, hashes));
                self.fetched.len() - 1
            }
        };
        let tile = self.fetched.get(at).map(|(_, hashes)| hashes.as_slice()).unwrap_or_default();
        let from = (first % 256) as usize;
        let hashes = tile.get(from..from + (1 << (height % 8))).ok_or(ProveError::TileWidth(id))?;
        Ok(perfect_root(hashes))
    }
}

/// Returns the root over a power of two of hashes.
fn perfect_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [only] => *only,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(&perfect_root(left), &perfect_root(right))
        }
    }
}
