//! Reads what is durable: entries by index, tiles, bundles, proofs, the newest checkpoint.
//!
//! Reads never wait for writes: they see the log at the newest committed size, and any older size can be asked for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use idtrail_port::{Disk, DiskFile, write_atomic};
use idtrail_tlog::{BundleId, Hash, LogIndex, ProveError, TileId, TileSource, TreeSize};

use crate::LogError;
use crate::tiles::TileStore;

/// The newest durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Count of entries.
    pub size: TreeSize,
    /// Root of the tree at that size.
    pub root: Hash,
    /// The signed checkpoint of that size (C2SP tlog-checkpoint).
    pub checkpoint: Arc<str>,
}

/// Where the entries of one segment stand.
pub(crate) struct SegmentIndex {
    pub(crate) first: LogIndex,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) offsets: Offsets,
}

/// Offsets of the entries' length prefixes in a segment file.
pub(crate) enum Offsets {
    /// Of the segment that is being written.
    Memory(Vec<u32>),
    /// Of a final segment: a derived file of `u32` big-endian values beside it.
    File { count: u64, file: Arc<dyn DiskFile> },
}

impl SegmentIndex {
    fn count(&self) -> u64 {
        match &self.offsets {
            Offsets::Memory(offsets) => offsets.len() as u64,
            Offsets::File { count, .. } => *count,
        }
    }

    fn offset(&self, position: u64) -> Result<u64, LogError> {
        let missing = LogError::Bug { what: "an entry within a segment has no offset" };
        match &self.offsets {
            Offsets::Memory(offsets) => {
                let position = usize::try_from(position)
                    .map_err(|_| LogError::Bug { what: "an offset index overflows" })?;
                offsets.get(position).map(|offset| u64::from(*offset)).ok_or(missing)
            }
            Offsets::File { file, .. } => {
                let mut bytes = [0; 4];
                file.read_exact_at(&mut bytes, position * 4)
                    .map_err(LogError::disk("read offsets", &self.path))?;
                Ok(u64::from(u32::from_be_bytes(bytes)))
            }
        }
    }

    /// Returns what is needed to read up to `count` entries without holding the list of segments, and where they start in
    /// it.
    fn part(&self, position: u64, count: usize) -> Result<(Self, u64), LogError> {
        let (first, offsets, position) = match &self.offsets {
            Offsets::Memory(offsets) => {
                let start = usize::try_from(position)
                    .map_err(|_| LogError::Bug { what: "an offset index overflows" })?;
                let wanted = offsets.get(start..).unwrap_or_default().iter().take(count).copied().collect();
                (LogIndex::new(self.first.get() + position), Offsets::Memory(wanted), 0)
            }
            Offsets::File { count, file } => {
                (self.first, Offsets::File { count: *count, file: Arc::clone(file) }, position)
            }
        };
        Ok((Self { first, file: Arc::clone(&self.file), path: self.path.clone(), offsets }, position))
    }

    /// Returns the offsets of up to `count` entries.
    fn offsets(&self, position: u64, count: usize) -> Result<Vec<u64>, LogError> {
        let left = usize::try_from(self.count().saturating_sub(position)).unwrap_or(usize::MAX);
        let count = count.min(left);
        match &self.offsets {
            Offsets::Memory(offsets) => {
                let start = usize::try_from(position)
                    .map_err(|_| LogError::Bug { what: "an offset index overflows" })?;
                let found = offsets.get(start..).unwrap_or_default().iter().take(count);
                Ok(found.map(|offset| u64::from(*offset)).collect())
            }
            Offsets::File { file, .. } => {
                let mut bytes = vec![0; count * 4];
                file.read_exact_at(&mut bytes, position * 4)
                    .map_err(LogError::disk("read offsets", &self.path))?;
                let (offsets, _) = bytes.as_chunks::<4>();
                Ok(offsets.iter().map(|offset| u64::from(u32::from_be_bytes(*offset))).collect())
            }
        }
    }

    /// Returns up to `count` entries from `position` on with one read of at most about `bytes_max`, the first one always.
    fn read_many(&self, position: u64, count: usize, bytes_max: u64) -> Result<Vec<Vec<u8>>, LogError> {
        let mut offsets = self.offsets(position, count)?;
        let Some(start) = offsets.first().copied() else { return Ok(Vec::new()) };
        // An entry is whole if the next one's offset was read too; the last one is read alone.
        offsets.truncate(offsets.partition_point(|offset| offset - start <= bytes_max).max(1));
        let end = offsets.last().copied().unwrap_or(start);
        let length =
            usize::try_from(end - start).map_err(|_| LogError::Bug { what: "a segment is too long" })?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start).map_err(LogError::disk("read", &self.path))?;
        let mut entries = Vec::with_capacity(offsets.len());
        for (number, offset) in offsets.iter().enumerate() {
            let rest =
                usize::try_from(offset - start).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
            let whole = rest.split_first_chunk::<2>().and_then(|(prefix, rest)| {
                rest.get(..usize::from(u16::from_be_bytes(*prefix))).map(<[u8]>::to_vec)
            });
            entries.push(match whole {
                Some(entry) => entry,
                None => self.read(position + number as u64)?,
            });
        }
        Ok(entries)
    }

    fn read(&self, position: u64) -> Result<Vec<u8>, LogError> {
        let offset = self.offset(position)?;
        // One read serves nearly every entry; a longer one costs a second.
        let mut bytes = vec![0; 1024];
        let mut have = 0;
        while have < bytes.len() {
            let target = bytes.get_mut(have..).unwrap_or_default();
            match self
                .file
                .read_at(target, offset + have as u64)
                .map_err(LogError::disk("read", &self.path))?
            {
                0 => break,
                count => have += count,
            }
        }
        bytes.truncate(have);
        let damaged = || LogError::Damaged {
            what: "an entry ends beyond its segment",
            path: self.path.clone(),
            offset,
            index: LogIndex::new(self.first.get() + position),
        };
        let (prefix, _) = bytes.split_first_chunk::<2>().ok_or_else(damaged)?;
        let length = usize::from(u16::from_be_bytes(*prefix));
        if bytes.len() < 2 + length {
            bytes.resize(2 + length, 0);
            let target = bytes.get_mut(have..).unwrap_or_default();
            self.file.read_exact_at(target, offset + have as u64).map_err(|_| damaged())?;
        }
        bytes.truncate(2 + length);
        bytes.drain(..2);
        Ok(bytes)
    }
}

/// Reads one log. Shared by all threads.
pub struct Reader {
    tiles: TileStore,
    segments: RwLock<Vec<SegmentIndex>>,
    head: RwLock<Head>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("size", &self.head().size).finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(tiles: TileStore, segments: Vec<SegmentIndex>, head: Head) -> Self {
        Self { tiles, segments: RwLock::new(segments), head: RwLock::new(head) }
    }

    /// Returns the newest durable state.
    pub fn head(&self) -> Head {
        self.head.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the size of the newest durable state.
    pub fn size(&self) -> TreeSize {
        self.head.read().unwrap_or_else(PoisonError::into_inner).size
    }

    /// Returns the tiles.
    pub fn tiles(&self) -> &TileStore {
        &self.tiles
    }

    /// Makes a committed frame readable; called once a frame, in order.
    pub(crate) fn publish(&self, leaves: &[Hash], offsets: &[u32], head: Head) -> Result<(), LogError> {
        self.tiles.append(leaves)?;
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        match segments.last_mut().map(|segment| &mut segment.offsets) {
            Some(Offsets::Memory(all)) => all.extend_from_slice(offsets),
            _ => return Err(LogError::Bug { what: "the open segment keeps its offsets in memory" }),
        }
        drop(segments);
        *self.head.write().unwrap_or_else(PoisonError::into_inner) = head;
        Ok(())
    }

    /// Adds a segment that is now being written, and stores the offsets of the one before it.
    pub(crate) fn open_segment(&self, disk: &dyn Disk, segment: SegmentIndex) -> Result<(), LogError> {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = segments.last_mut() {
            store_offsets(disk, last)?;
        }
        segments.push(segment);
        Ok(())
    }

    /// Returns an entry's bytes.
    ///
    /// # Errors
    /// `NotFound` if `index` is not below the size; `Unavailable` if the disk refuses.
    pub fn entry(&self, index: LogIndex) -> Result<Vec<u8>, LogError> {
        self.within_segment(index, |segment, position| segment.read(position))
    }

    /// Returns the bytes of entries from `index` on, with few reads: at least one and at most `count_max`, fewer where a
    /// segment ends or about `bytes_max` bytes are reached.
    ///
    /// # Errors
    /// As [`Reader::entry`]; then no entry is returned, and single ones may still be read.
    pub fn entries(
        &self,
        index: LogIndex,
        count_max: usize,
        bytes_max: u64,
    ) -> Result<Vec<Vec<u8>>, LogError> {
        let left = usize::try_from(self.size().get().saturating_sub(index.get())).unwrap_or(usize::MAX);
        let count = count_max.min(left).max(1);
        // Read outside of the lock: a long read from a slow disk must not hold up whoever commits.
        let (part, position) =
            self.within_segment(index, |segment, position| segment.part(position, count))?;
        part.read_many(position, count, bytes_max)
    }

    fn within_segment<T>(
        &self,
        index: LogIndex,
        read: impl FnOnce(&SegmentIndex, u64) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let size = self.size();
        if index.get() >= size.get() {
            return Err(LogError::NotFound { index, size });
        }
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let at = segments.partition_point(|segment| segment.first <= index);
        let segment = at
            .checked_sub(1)
            .and_then(|at| segments.get(at))
            .ok_or(LogError::Bug { what: "an entry below the size is in no segment" })?;
        let position = index.get() - segment.first.get();
        if position >= segment.count() {
            return Err(LogError::Bug { what: "an entry below the size is in no segment" });
        }
        read(segment, position)
    }

    /// Returns an entry's leaf hash.
    ///
    /// # Errors
    /// `NotFound` if `index` is not below the size; `Unavailable` if the disk refuses.
    pub fn leaf_hash(&self, index: LogIndex) -> Result<Hash, LogError> {
        self.tiles.leaf(index)
    }

    /// Returns a tile's bytes, or `None` if the newest tree does not hold it.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses.
    pub fn tile(&self, id: TileId) -> Result<Option<Vec<u8>>, LogError> {
        match self.tiles.tile(id) {
            Ok(hashes) => Ok(Some(hashes.iter().flat_map(|hash| *hash.as_bytes()).collect())),
            Err(LogError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns an entry bundle's bytes, or `None` if the newest tree does not hold it.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses.
    pub fn bundle(&self, id: BundleId) -> Result<Option<Vec<u8>>, LogError> {
        let Some(first) = id.index().checked_mul(256) else { return Ok(None) };
        if first.saturating_add(u64::from(id.width())) > self.size().get() {
            return Ok(None);
        }
        let entries: Vec<Vec<u8>> = (first..first + u64::from(id.width()))
            .map(|index| self.entry(LogIndex::new(index)))
            .collect::<Result<_, _>>()?;
        let bundle = idtrail_tlog::bundle::encode(entries.iter().map(Vec::as_slice));
        bundle.map(Some).map_err(|_| LogError::Bug { what: "a stored entry is too long for a bundle" })
    }

    /// Returns the proof that `index` is in the tree of `size` (RFC 6962 §2.1.1).
    ///
    /// # Errors
    /// `NotFound` if `index` is not below `size` or `size` is beyond the log; `Unavailable` if the disk refuses.
    pub fn inclusion_proof(&self, index: LogIndex, size: TreeSize) -> Result<Vec<Hash>, LogError> {
        if size > self.size() {
            return Err(LogError::NotFound { index, size });
        }
        idtrail_tlog::prove_inclusion(&self.tiles, index, size)
            .map_err(|error| prove_error(error, index, size))
    }

    /// Returns the proof that the tree of `new` size extends the one of `old` size (RFC 6962 §2.1.2).
    ///
    /// # Errors
    /// `NotFound` if the sizes are not in order or beyond the log; `Unavailable` if the disk refuses.
    pub fn consistency_proof(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, LogError> {
        let index = LogIndex::new(old.get());
        if new > self.size() {
            return Err(LogError::NotFound { index, size: new });
        }
        idtrail_tlog::prove_consistency(&self.tiles, old, new).map_err(|error| prove_error(error, index, new))
    }
}

fn prove_error(error: ProveError<LogError>, index: LogIndex, size: TreeSize) -> LogError {
    match error {
        ProveError::Source(error) => error,
        _ => LogError::NotFound { index, size },
    }
}

/// Returns where the offsets of a final segment are stored.
pub(crate) fn offsets_path(segment: &Path) -> PathBuf {
    segment.with_extension("offsets")
}

/// Moves a segment's offsets from memory to the derived file beside it.
pub(crate) fn store_offsets(disk: &dyn Disk, segment: &mut SegmentIndex) -> Result<(), LogError> {
    let Offsets::Memory(offsets) = &segment.offsets else { return Ok(()) };
    let path = offsets_path(&segment.path);
    let bytes: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect();
    let count = offsets.len() as u64;
    let present = idtrail_port::read_optional(disk, &path, bytes.len() as u64).ok().flatten();
    if present.as_deref() != Some(bytes.as_slice()) {
        write_atomic(disk, &path, &bytes, idtrail_port::Privacy::Owner)
            .map_err(LogError::disk("write offsets", &path))?;
    }
    let file = disk.open(&path, idtrail_port::Open::Read).map_err(LogError::disk("open offsets", &path))?;
    segment.offsets = Offsets::File { count, file: Arc::from(file) };
    Ok(())
}
