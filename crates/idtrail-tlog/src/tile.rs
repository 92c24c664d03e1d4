//! Names of tiles and entry bundles, and which of them a tree has (C2SP tlog-tiles 0.1).
//!
//! In go tree sizes and paths, out come names. A tile holds 256 hashes, a partial one fewer; hash `i` of tile
//! `n` at level `l` covers `256^l` leaves from leaf `(256·n + i)·256^l` on. A partial tile never enters the
//! level above, so level `l` of a tree of `s` leaves has `s / 256^l` hashes, rounded down. Each tile has
//! exactly one path; any other spelling is refused, since caches and mirrors compare paths as text.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::error::ErrorKind;
use crate::hash::{TreeSize, decimal};

/// Hashes in a full tile.
const WIDTH: u64 = 256;

/// A tile: `width` hashes of `level`, starting at hash `256·index` of that level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    level: u8,
    index: u64,
    width: u16,
}

/// An entry bundle: `width` entries starting at entry `256·index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleId {
    index: u64,
    width: u16,
}

/// Why a path names no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile or entry bundle")]
pub struct TilePathError;

impl TilePathError {
    /// Returns what the caller must do: `Invalid`.
    pub fn kind(self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl TileId {
    /// Returns the tile, or `None` if `level` is above 63, `index` not below 2^56 or `width` not in 1..=256.
    pub fn new(level: u8, index: u64, width: u16) -> Option<Self> {
        (level <= 63 && possible(index, width)).then_some(Self { level, index, width })
    }

    /// Returns the level, 0 at the leaves.
    pub fn level(self) -> u8 {
        self.level
    }

    /// Returns the position of the tile in its level.
    pub fn index(self) -> u64 {
        self.index
    }

    /// Returns the count of hashes, 1 to 256.
    pub fn width(self) -> u16 {
        self.width
    }

    /// Returns the position of the first hash in its level: `256·index`, which cannot overflow.
    pub fn first(self) -> u64 {
        self.index * WIDTH
    }

    /// Returns the full one at the same place, which a reader tries once the partial one is gone.
    pub fn full(self) -> Self {
        Self { width: WIDTH as u16, ..self }
    }

    /// Returns the path behind the log's prefix.
    pub fn path(self) -> String {
        format!("{self}")
    }

    /// Reads the path behind the log's prefix, such as `tile/0/x001/234.p/7`.
    ///
    /// # Errors
    /// [`TilePathError`] unless the path is exactly the one that [`fmt::Display`] writes.
    pub fn parse(path: &str) -> Result<Self, TilePathError> {
        let (level, rest) =
            path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(TilePathError)?;
        let level: u8 = decimal(level).and_then(|level| level.try_into().ok()).ok_or(TilePathError)?;
        let (index, width) = parse_index(rest).ok_or(TilePathError)?;
        Self::new(level, index, width).ok_or(TilePathError)
    }
}

impl BundleId {
    /// Returns the bundle, or `None` if `index` is not below 2^56 or `width` not in 1..=256.
    pub fn new(index: u64, width: u16) -> Option<Self> {
        possible(index, width).then_some(Self { index, width })
    }

    /// Returns the position of the bundle.
    pub fn index(self) -> u64 {
        self.index
    }

    /// Returns the count of entries, 1 to 256.
    pub fn width(self) -> u16 {
        self.width
    }

    /// Returns the index of the first entry in the log: `256·index`, which cannot overflow.
    pub fn first(self) -> u64 {
        self.index * WIDTH
    }

    /// Returns the full one at the same place, which a reader tries once the partial one is gone.
    pub fn full(self) -> Self {
        Self { width: WIDTH as u16, ..self }
    }

    /// Returns the path behind the log's prefix.
    pub fn path(self) -> String {
        format!("{self}")
    }

    /// Reads the path behind the log's prefix, such as `tile/entries/x001/234`.
    ///
    /// # Errors
    /// [`TilePathError`] unless the path is exactly the one that [`fmt::Display`] writes.
    pub fn parse(path: &str) -> Result<Self, TilePathError> {
        let rest = path.strip_prefix("tile/entries/").ok_or(TilePathError)?;
        let (index, width) = parse_index(rest).ok_or(TilePathError)?;
        Self::new(index, width).ok_or(TilePathError)
    }
}

/// Tells whether a tree below 2^64 leaves can have this place: `256·index + width` must not overflow
/// anywhere.
fn possible(index: u64, width: u16) -> bool {
    index < 1 << 56 && (1..=256).contains(&width)
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/{}", self.level, index_path(self.index, self.width))
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/entries/{}", index_path(self.index, self.width))
    }
}

/// Writes an index in groups of three digits, every group but the last behind an `x`.
fn index_path(index: u64, width: u16) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if u64::from(width) < WIDTH { format!("{path}.p/{width}") } else { path }
}

fn parse_index(path: &str) -> Option<(u64, u16)> {
    let (groups, width) = match path.split_once(".p/") {
        Some((groups, width)) => {
            (groups, decimal(width)?.try_into().ok().filter(|width| (1..256).contains(width))?)
        }
        None => (path, WIDTH as u16),
    };
    let mut index: u64 = 0;
    let mut parts = groups.split('/').peekable();
    while let Some(part) = parts.next() {
        let digits = if parts.peek().is_some() { part.strip_prefix('x')? } else { part };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    // One name only for one tile: leading zero groups would be second names.
    (index_path(index, width) == path).then_some((index, width))
}

/// Returns every tile of a tree: all full ones, and one partial per level whose last tile is not full.
pub fn tiles(size: TreeSize) -> impl Iterator<Item = TileId> {
    (0u8..8).flat_map(move |level| {
        let hashes = size.get() >> (8 * u32::from(level));
        (0..hashes.div_ceil(WIDTH)).map(move |index| TileId { level, index, width: width_at(hashes, index) })
    })
}

/// Returns every entry bundle of a tree.
pub fn bundles(size: TreeSize) -> impl Iterator<Item = BundleId> {
    (0..size.get().div_ceil(WIDTH)).map(move |index| BundleId { index, width: width_at(size.get(), index) })
}

fn width_at(count: u64, index: u64) -> u16 {
    // At most 256, so it always fits.
    (count - index * WIDTH).min(WIDTH) as u16
}
