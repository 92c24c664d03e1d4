//! What the tests share: vectors, the recursive definition of the tree, tiles in memory.

use std::cell::RefCell;
use std::collections::HashMap;

use idtrail_tlog::{Frontier, Hash, TileId, TileSource, leaf_hash};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Reads a vector file at compile time.
macro_rules! vectors {
    ($name:literal) => {
        serde_json::from_str::<serde_json::Value>(include_str!(concat!(
            "../../../../vectors/tlog/",
            $name,
            ".json"
        )))
        .unwrap()
    };
}
pub(crate) use vectors;

pub(crate) fn list<'v>(value: &'v Value, name: &str) -> &'v Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("{name} is not a list in {value}"))
}

pub(crate) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is not a text in {value}"))
}

pub(crate) fn texts<'v>(value: &'v Value, name: &str) -> Vec<&'v str> {
    list(value, name).iter().map(|item| item.as_str().unwrap()).collect()
}

pub(crate) fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} is not a number in {value}"))
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

pub(crate) fn hash(value: &Value, name: &str) -> Hash {
    Hash::from_hex(text(value, name)).unwrap()
}

pub(crate) fn hashes(value: &Value, name: &str) -> Vec<Hash> {
    texts(value, name).into_iter().map(|hex| Hash::from_hex(hex).unwrap()).collect()
}

pub(crate) fn seed(value: &Value, name: &str) -> [u8; 32] {
    bytes(text(value, name)).try_into().unwrap()
}

/// The leaf hashes of entries that are the decimal text of their index.
pub(crate) fn decimal_leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|index| leaf_hash(index.to_string().as_bytes())).collect()
}

/// The definitions of RFC 6962 §2.1, word by word.
pub(crate) struct Naive<'l> {
    leaves: &'l [Hash],
    known: RefCell<HashMap<(usize, usize), Hash>>,
}

impl<'l> Naive<'l> {
    pub(crate) fn new(leaves: &'l [Hash]) -> Self {
        Self { leaves, known: RefCell::default() }
    }

    pub(crate) fn root(&self, size: usize) -> Hash {
        self.subtree(0, size)
    }

    fn subtree(&self, from: usize, to: usize) -> Hash {
        match to - from {
            0 => Hash::new(Sha256::digest(b"").into()),
            1 => self.leaves[from],
            count => {
                if let Some(known) = self.known.borrow().get(&(from, to)) {
                    return *known;
                }
                let middle = from + split(count);
                let (left, right) = (self.subtree(from, middle), self.subtree(middle, to));
                let mut input = vec![1];
                input.extend_from_slice(left.as_bytes());
                input.extend_from_slice(right.as_bytes());
                let node = Hash::new(Sha256::digest(&input).into());
                self.known.borrow_mut().insert((from, to), node);
                node
            }
        }
    }

    pub(crate) fn inclusion(&self, index: usize, size: usize) -> Vec<Hash> {
        self.path(index, 0, size)
    }

    fn path(&self, index: usize, from: usize, to: usize) -> Vec<Hash> {
        if to - from == 1 {
            return Vec::new();
        }
        let middle = from + split(to - from);
        let (mut path, sibling) = if index < middle {
            (self.path(index, from, middle), self.subtree(middle, to))
        } else {
            (self.path(index, middle, to), self.subtree(from, middle))
        };
        path.push(sibling);
        path
    }

    pub(crate) fn consistency(&self, old: usize, new: usize) -> Vec<Hash> {
        if old == 0 { Vec::new() } else { self.subproof(old, 0, new, true) }
    }

    fn subproof(&self, old: usize, from: usize, to: usize, whole: bool) -> Vec<Hash> {
        if old == to {
            return if whole { Vec::new() } else { vec![self.subtree(from, to)] };
        }
        let middle = from + split(to - from);
        let (mut proof, sibling) = if old <= middle {
            (self.subproof(old, from, middle, whole), self.subtree(middle, to))
        } else {
            (self.subproof(old, middle, to, false), self.subtree(from, middle))
        };
        proof.push(sibling);
        proof
    }
}

/// The largest power of two below `count`.
fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// Tiles in memory. Counts what is read, and panics if a tile is read twice or is not one of the tree.
pub(crate) struct MemoryTiles {
    /// Per tile level all complete hashes.
    levels: Vec<Vec<Hash>>,
    read: RefCell<Vec<TileId>>,
    /// Answer with whole tiles, as a mirror does that has dropped the partial ones.
    pub(crate) longer: bool,
}

impl MemoryTiles {
    pub(crate) fn new(leaves: &[Hash]) -> Self {
        let mut levels = vec![leaves.to_vec()];
        while levels.last().unwrap().len() >= 256 {
            let above = levels.last().unwrap().chunks_exact(256).map(root_of).collect();
            levels.push(above);
        }
        Self { levels, read: RefCell::default(), longer: false }
    }

    /// Returns the tiles read since the last call.
    pub(crate) fn take_read(&self) -> Vec<TileId> {
        self.read.take()
    }
}

impl TileSource for MemoryTiles {
    type Error = std::convert::Infallible;

    fn tile(&self, id: TileId) -> Result<Vec<Hash>, Self::Error> {
        assert!(!self.read.borrow().contains(&id), "a tile is fetched once a call: {id}");
        self.read.borrow_mut().push(id);
        let level = &self.levels[usize::from(id.level())];
        let first = id.first() as usize;
        let end = first + if self.longer { 256 } else { usize::from(id.width()) };
        Ok(level[first..end.min(level.len())].to_vec())
    }
}

pub(crate) fn root_of(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::empty();
    leaves.iter().for_each(|leaf| frontier.append(*leaf));
    frontier.root()
}
