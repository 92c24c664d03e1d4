//! Inclusion and consistency proofs: making them from tiles, and checking them (RFC 6962 §2.1.1 and §2.1.2).
//!
//! In go indices, sizes, hashes and a source of tiles; out come lists of at most 63 hashes, or a verdict. The
//! checks follow RFC 9162 §2.1.3.2 and §2.1.4.2, which use every hash of the proof exactly once: a proof with
//! a hash too many is refused like one with a hash too few. Making a proof fetches each tile once and trusts
//! its hashes; whoever does not trust the source checks the result against a signed root.

use alloc::vec::Vec;

use crate::error::ErrorKind;
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

impl ProofError {
    /// Returns what the caller must do: `Damaged` in every case, since a proof and its checkpoint come
    /// together.
    pub fn kind(self) -> ErrorKind {
        ErrorKind::Damaged
    }
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
    if !size.contains(index) {
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

/// Checks that the tree of `new_size` and `new_root` begins with the tree of `old_size` and `old_root` (RFC
/// 6962 §2.1.2, RFC 9162 §2.1.4.2).
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

/// Gives tiles of one log: from memory, from the log's own files, from a mirror.
pub trait TileSource {
    /// What can go wrong.
    type Error;

    /// Returns the hashes of a tile, at least `id.width()` of them; more are cut off, so that the full tile
    /// can stand for a partial one that is gone.
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
    /// The source gave fewer hashes than the tile has.
    #[error("a tile is too short. tile={tile}, hashes={hashes}")]
    ShortTile {
        /// The tile.
        tile: TileId,
        /// How many hashes came.
        hashes: usize,
    },
    /// The source failed.
    #[error("a tile could not be read")]
    Source(#[source] E),
}

impl<E> ProveError<E> {
    /// Returns what the caller must do: `Invalid` input, `Damaged` tile, or `Unavailable` source.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Range => ErrorKind::Invalid,
            Self::ShortTile { .. } => ErrorKind::Damaged,
            Self::Source(_) => ErrorKind::Unavailable,
        }
    }
}

/// Makes the proof that `index` is in the tree of `size`, leaf side first (RFC 6962 §2.1.1).
///
/// # Errors
/// `Range` if `index >= size`; `ShortTile` or `Source` as the source fails.
pub fn prove_inclusion<S: TileSource>(
    source: &S,
    index: LogIndex,
    size: TreeSize,
) -> Result<Vec<Hash>, ProveError<S::Error>> {
    if !size.contains(index) {
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

/// Makes the proof that the tree of `new` size begins with the tree of `old` size (RFC 6962 §2.1.2). Empty if
/// `old` is 0 or equals `new`.
///
/// # Errors
/// `Range` if `old > new`; `ShortTile` or `Source` as the source fails.
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
/// `ShortTile` or `Source` as the source fails.
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

    /// Returns the hash of the leaves `start..end`, where `start` is a multiple of the largest power of two
    /// in it.
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
        let width = ((self.size >> (8 * level)) - index * 256).min(256) as u16;
        let tile = TileId::new(level as u8, index, width).ok_or(ProveError::Range)?;
        let hashes = self.fetch(tile)?;
        let from = (first % 256) as usize;
        // The node is complete in this tree, so its hashes are below the width, which `fetch` has checked.
        let hashes = hashes.get(from..from + (1 << (height % 8)));
        Ok(perfect_root(hashes.expect("a complete node lies within the width of its tile")))
    }

    fn fetch(&mut self, tile: TileId) -> Result<&[Hash], ProveError<S::Error>> {
        // A proof touches at most two tiles a level, so a search through all of them costs nothing.
        let at = match self.fetched.iter().position(|(have, _)| *have == tile) {
            Some(at) => at,
            None => {
                let mut hashes = self.source.tile(tile).map_err(ProveError::Source)?;
                if hashes.len() < usize::from(tile.width()) {
                    return Err(ProveError::ShortTile { tile, hashes: hashes.len() });
                }
                hashes.truncate(usize::from(tile.width()));
                self.fetched.push((tile, hashes));
                self.fetched.len() - 1
            }
        };
        Ok(self.fetched.get(at).map(|(_, hashes)| hashes.as_slice()).unwrap_or_default())
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
