//! Hash tiles of one log (C2SP tlog-tiles): one append-only file a level, the incomplete tile in memory.
//!
//! Hash *i* of level *L* covers the entries `[i·256^L, (i+1)·256^L)` and stands at byte `32·i` of `level-L`. A full
//! tile is 256 hashes in a row; a partial tile is a prefix of a full one, so every tile of every size can be cut out.
//! The files are derived from the journal, written off the acknowledgement path, never synced, compared with the
//! journal at every start and mended where they differ.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use idtrail_port::{Disk, DiskFile, Open, Privacy};
use idtrail_tlog::{Frontier, Hash, LogIndex, TileId, TileSource, TreeSize};

use crate::LogError;

/// Hashes in a full tile.
pub const TILE_HASHES: usize = 256;
const HASH_BYTES: usize = 32;

/// The tiles of one log.
pub struct TileStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    levels: RwLock<Vec<Level>>,
}

struct Level {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Hashes in the file that are known to be right: whole tiles only.
    stored: u64,
    /// Bytes in the file when it was opened, to be compared before they are believed.
    unproven_bytes: u64,
    /// The hashes behind the stored ones: whole tiles that wait to be written, and the incomplete tile.
    tail: Vec<Hash>,
}

impl Level {
    fn count(&self) -> u64 {
        self.stored + self.tail.len() as u64
    }
}

impl std::fmt::Debug for TileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TileStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl TileStore {
    /// Opens the tiles in `dir` without believing them: [`TileStore::append`] must be fed every leaf hash from index 0.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, LogError> {
        idtrail_port::create_dir_durable(&*disk, dir).map_err(LogError::disk("create directory", dir))?;
        Ok(Self { disk, dir: dir.to_owned(), levels: RwLock::new(Vec::new()) })
    }

    /// Returns where a level is stored.
    pub fn level_path(dir: &Path, level: usize) -> PathBuf {
        dir.join(format!("level-{level}"))
    }

    fn open_level(&self, level: usize) -> Result<Level, LogError> {
        let path = Self::level_path(&self.dir, level);
        let exists = self.disk.exists(&path).map_err(LogError::disk("stat", &path))?;
        let how = if exists { Open::Write } else { Open::CreateNew(Privacy::Public) };
        let file = self.disk.open(&path, how).map_err(LogError::disk("open", &path))?;
        let unproven_bytes = file.len().map_err(LogError::disk("stat", &path))?;
        Ok(Level { file, path, stored: 0, unproven_bytes, tail: Vec::new() })
    }

    /// Adds leaf hashes, and the hashes above them that become complete. Writes no file.
    ///
    /// # Errors
    /// `Unavailable` if a new level's file cannot be opened.
    pub fn append(&self, leaves: &[Hash]) -> Result<(), LogError> {
        let mut levels = self.levels.write().unwrap_or_else(PoisonError::into_inner);
        let mut rest = leaves;
        while !rest.is_empty() {
            if levels.is_empty() {
                levels.push(self.open_level(0)?);
            }
            let room = TILE_HASHES - levels.first().map_or(0, |level| level.tail.len() % TILE_HASHES);
            let (now, later) = rest.split_at(room.min(rest.len()));
            rest = later;
            let mut carry = now.to_vec();
            for level_number in 0.. {
                if levels.len() == level_number {
                    levels.push(self.open_level(level_number)?);
                }
                let Some(level) = levels.get_mut(level_number) else { break };
                level.tail.append(&mut carry);
                if level.count() % TILE_HASHES as u64 != 0 {
                    break;
                }
                let from = level.tail.len() - TILE_HASHES;
                carry = vec![tile_root(level.tail.get(from..).unwrap_or_default())];
            }
        }
        Ok(())
    }

    /// Writes the whole tiles that wait, if they are at least `tiles_min` on a level, and returns whether a file held
    /// something else in their place.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses; nothing is lost then, the tiles stay in memory.
    pub fn flush(&self, tiles_min: usize) -> Result<bool, LogError> {
        let due = |level: &Level| level.tail.len() / TILE_HASHES >= tiles_min.max(1);
        if !self.levels.read().unwrap_or_else(PoisonError::into_inner).iter().any(due) {
            return Ok(false);
        }
        let mut mended = false;
        let mut levels = self.levels.write().unwrap_or_else(PoisonError::into_inner);
        for level in levels.iter_mut().filter(|level| due(level)) {
            let whole = level.tail.len() / TILE_HASHES * TILE_HASHES;
            let bytes = hash_bytes(level.tail.get(..whole).unwrap_or_default());
            let offset = level.stored * HASH_BYTES as u64;
            let proven = offset + bytes.len() as u64;
            let mut same = false;
            if level.unproven_bytes >= proven {
                let mut present = vec![0; bytes.len()];
                level
                    .file
                    .read_exact_at(&mut present, offset)
                    .map_err(LogError::disk("read", &level.path))?;
                same = present == bytes;
                mended |= !same;
            }
            if !same {
                level.file.write_all_at(&bytes, offset).map_err(LogError::disk("write", &level.path))?;
            }
            level.stored += whole as u64;
            level.tail.drain(..whole);
        }
        Ok(mended)
    }

    /// Writes the hashes of incomplete tiles too, without counting them as stored: they will be written again as
    /// parts of whole tiles. With them on disk the full check can name a single entry that was changed.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses; nothing is lost then.
    pub fn write_tails(&self) -> Result<(), LogError> {
        let levels = self.levels.read().unwrap_or_else(PoisonError::into_inner);
        for level in levels.iter().filter(|level| !level.tail.is_empty()) {
            let offset = level.stored * HASH_BYTES as u64;
            level
                .file
                .write_all_at(&hash_bytes(&level.tail), offset)
                .map_err(LogError::disk("write", &level.path))?;
        }
        Ok(())
    }

    /// Returns the hash of one entry's leaf.
    ///
    /// # Errors
    /// `NotFound` if the log is not that long; `Unavailable` if the disk refuses.
    pub fn leaf(&self, index: LogIndex) -> Result<Hash, LogError> {
        let tile = self.hashes(0, index.get(), 1)?;
        tile.first().copied().ok_or(LogError::Bug { what: "a hash was read but none came" })
    }

    /// Returns `count` hashes of `level` from `first` on.
    ///
    /// # Errors
    /// `NotFound` if they are not complete yet; `Unavailable` if the disk refuses.
    pub fn hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, LogError> {
        let levels = self.levels.read().unwrap_or_else(PoisonError::into_inner);
        let missing = || LogError::NotFound {
            index: LogIndex::new(first),
            size: TreeSize::new(levels.first().map_or(0, Level::count)),
        };
        let level = levels.get(usize::from(level)).ok_or_else(missing)?;
        let end = first.checked_add(count as u64).ok_or_else(missing)?;
        if end > level.count() {
            return Err(missing());
        }
        let from_file =
            usize::try_from(level.stored.saturating_sub(first).min(count as u64)).unwrap_or(count);
        let mut hashes = Vec::with_capacity(count);
        if from_file > 0 {
            let mut bytes = vec![0; from_file * HASH_BYTES];
            level
                .file
                .read_exact_at(&mut bytes, first * HASH_BYTES as u64)
                .map_err(LogError::disk("read", &level.path))?;
            let (chunks, _) = bytes.as_chunks::<HASH_BYTES>();
            hashes.extend(chunks.iter().map(|chunk| Hash::new(*chunk)));
        }
        let skip = usize::try_from(first.saturating_sub(level.stored)).unwrap_or(usize::MAX);
        hashes.extend(level.tail.iter().skip(skip).take(count - from_file));
        Ok(hashes)
    }
}

impl TileSource for TileStore {
    type Error = LogError;

    fn tile(&self, id: TileId) -> Result<Vec<Hash>, LogError> {
        self.hashes(id.level(), id.index() * TILE_HASHES as u64, usize::from(id.width()))
    }
}

fn hash_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// Returns the root of a full tile: the hash one level up.
pub fn tile_root(hashes: &[Hash]) -> Hash {
    // At the levels above 0 the hashes are nodes already, so this is plain node hashing without a leaf prefix.
    let mut frontier = Frontier::empty();
    for hash in hashes {
        frontier.append(*hash);
    }
    frontier.root()
}
