//! The full check: reads every byte of a log, recomputes everything, and says where the first difference is.
//!
//! It needs no key and changes nothing. What an entry must look like inside is the caller's business, through
//! [`EntryCheck`]. Journal findings mean damage or tampering; findings in derived files mean that the next start
//! rebuilds them.

use std::path::{Path, PathBuf};

use idtrail_port::{Disk, Open};
use idtrail_tlog::{Frontier, Hash, LogIndex, TreeSize};

use crate::LogError;
use crate::frame::{self, Frame, Header, HeaderAt};
use crate::reader::offsets_path;
use crate::recovery::{Verdict, judge, segments_dir, tiles_dir};
use crate::segment::{self, FRAMES_START, SegmentHeader};
use crate::tiles::{TileStore, tile_root};

/// The most findings that are kept; the count goes on.
const FINDINGS_MAX: usize = 100;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A derived file differs; the next start rebuilds it.
    Derived,
    /// The last frame is incomplete and was never acknowledged; the next start cuts it off.
    Unfinished,
    /// The log is damaged or was tampered with.
    Damaged,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What differs.
    pub what: String,
    /// The file.
    pub path: PathBuf,
    /// The offset in the file, in bytes.
    pub offset: u64,
    /// The first entry concerned, if it is known.
    pub index: Option<LogIndex>,
}

/// The outcome of a full check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Entries that were read and are intact up to the first damage.
    pub size: TreeSize,
    /// Root of the tree over them.
    pub root: Hash,
    /// Bytes read.
    pub bytes: u64,
    /// The differences, at most 100.
    pub findings: Vec<Finding>,
    /// How many differences there are in all.
    pub findings_count: u64,
}

impl Report {
    /// Returns the worst severity found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// Adds a finding if the log in `dir` goes on behind the size at which it is known to have ended.
    pub fn must_end_at(&mut self, size: TreeSize, dir: &Path) {
        if self.size > size {
            let what = format!("the log goes on behind its end at {size} entries");
            let index = Some(LogIndex::new(size.get()));
            let path = dir.to_owned();
            self.add(Finding { severity: Severity::Damaged, what, path, offset: 0, index });
        }
    }

    fn add(&mut self, finding: Finding) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// Checks one entry's bytes; an error is a finding.
pub type EntryCheck<'a> = dyn FnMut(LogIndex, &[u8]) -> Result<(), String> + 'a;

/// Told of every frame: entries read so far, bytes read so far.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// A root that the log must have had at a size: from a pinned checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The size.
    pub size: TreeSize,
    /// The root.
    pub root: Hash,
}

/// Checks the log in `dir`.
///
/// # Errors
/// `Unavailable` if the disk refuses; differences are findings, never errors.
pub fn check(
    disk: &dyn Disk,
    dir: &Path,
    origin: &str,
    pinned: &[Pinned],
    entry_check: &mut EntryCheck<'_>,
    progress: &mut Progress<'_>,
) -> Result<Report, LogError> {
    let segments = segments_dir(dir);
    let mut check = Check {
        disk,
        origin,
        pinned,
        entry_check,
        progress,
        tiles: StoredTiles::open(disk, &tiles_dir(dir))?,
        frontier: Frontier::empty(),
        previous: [0; 32],
        report: Report {
            size: TreeSize::new(0),
            root: idtrail_tlog::empty_root(),
            bytes: 0,
            findings: Vec::new(),
            findings_count: 0,
        },
    };
    let firsts = segment::list(disk, &segments)?;
    if firsts.first() != Some(&LogIndex::new(0)) {
        check.damaged("the first segment is missing", &segments, 0, Some(LogIndex::new(0)));
    }
    let last = firsts.last().copied();
    for first in firsts {
        if !check.segment(&segments, first, Some(first) == last)? {
            break;
        }
    }
    check.finish(dir)
}

struct Check<'a, 'f> {
    disk: &'a dyn Disk,
    origin: &'a str,
    pinned: &'a [Pinned],
    entry_check: &'a mut EntryCheck<'f>,
    progress: &'a mut Progress<'f>,
    tiles: StoredTiles,
    frontier: Frontier,
    previous: [u8; 32],
    report: Report,
}

impl Check<'_, '_> {
    fn damaged(&mut self, what: impl Into<String>, path: &Path, offset: usize, index: Option<LogIndex>) {
        let (what, offset) = (what.into(), offset as u64);
        self.report.add(Finding { severity: Severity::Damaged, what, path: path.to_owned(), offset, index });
    }

    fn next_index(&self) -> LogIndex {
        LogIndex::new(self.frontier.size().get())
    }

    /// Checks one segment; false if nothing behind it can be checked any more.
    fn segment(&mut self, dir: &Path, first: LogIndex, last: bool) -> Result<bool, LogError> {
        let path = segment::path(dir, first);
        let file = self.disk.open(&path, Open::Read).map_err(LogError::disk("open", &path))?;
        let length = file.len().map_err(LogError::disk("stat", &path))?;
        let mut bytes =
            vec![0; usize::try_from(length).map_err(|_| LogError::Bug { what: "a segment fits in memory" })?];
        file.read_exact_at(&mut bytes, 0).map_err(LogError::disk("read", &path))?;
        self.report.bytes += length;
        let expected = SegmentHeader {
            bytes: length,
            first: self.next_index(),
            previous: self.previous,
            root: self.frontier.root(),
            origin: self.origin.to_owned(),
        };
        match SegmentHeader::decode(&bytes) {
            None => self.damaged("the first block of the segment was changed", &path, 0, Some(first)),
            Some(header) if header != expected => {
                self.damaged("the segment does not continue the one before it", &path, 0, Some(first));
            }
            Some(_) => {}
        }
        let mut offsets = Vec::new();
        let at = self.frames(&path, &bytes, &mut offsets);
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |position| position + 1);
        if end > at {
            self.broken_frame(&path, &bytes, at, end, last);
            return Ok(false);
        }
        if !last {
            self.check_offsets(&path, &offsets)?;
        }
        Ok(true)
    }

    fn frames(&mut self, path: &Path, bytes: &[u8], offsets: &mut Vec<u32>) -> usize {
        let mut at = FRAMES_START as usize;
        while let Some(frame) = bytes.get(at..).and_then(Frame::decode) {
            let first = self.next_index();
            let Some(entries) = frame.entries() else { break };
            if frame.header.first != first || frame.header.previous != self.previous {
                self.damaged("the frame does not continue the one before it", path, at, Some(first));
            }
            let leaves: Vec<Hash> = entries.iter().map(|(_, entry)| idtrail_tlog::leaf_hash(entry)).collect();
            self.check_pinned_within(&leaves, path, at);
            let batch = self.frontier.append_batch(&leaves);
            if batch.root() != frame.header.root {
                self.damaged("the frame's root is not the root of its entries", path, at, Some(first));
            }
            self.tiles.feed(&leaves, &mut self.report);
            for (position, (offset, entry)) in entries.iter().enumerate() {
                let index = LogIndex::new(first.get() + position as u64);
                if let Err(what) = (self.entry_check)(index, entry) {
                    self.damaged(what, path, at + offset, Some(index));
                }
                offsets.push(u32::try_from(at + offset).unwrap_or(u32::MAX));
            }
            self.previous = frame.hash;
            at += frame.header.frame_bytes();
            (self.progress)(self.frontier.size().get(), self.report.bytes);
        }
        at
    }

    /// Compares pinned roots whose size lies within or at the end of the next leaves.
    fn check_pinned_within(&mut self, leaves: &[Hash], path: &Path, at: usize) {
        let size = self.frontier.size().get();
        for pinned in self.pinned {
            let Some(count) =
                pinned.size.get().checked_sub(size).and_then(|count| usize::try_from(count).ok())
            else {
                continue;
            };
            if count == 0 || count > leaves.len() {
                continue;
            }
            let mut then = self.frontier.clone();
            leaves.iter().take(count).for_each(|leaf| then.append(*leaf));
            if then.root() != pinned.root {
                let what = format!("the log is not the one of the pinned checkpoint of size {}", pinned.size);
                self.damaged(what, path, at, None);
            }
        }
    }

    /// Reports the frame at `at` that is not intact, and finds the entry whose bytes differ if the stored tiles tell.
    fn broken_frame(&mut self, path: &Path, bytes: &[u8], at: usize, end: usize, last: bool) {
        let next = self.next_index();
        if last && judge(bytes, at, end, next, self.previous) == Verdict::Torn {
            let what = "the last frame was never written in full; it was not acknowledged".to_owned();
            let severity = Severity::Unfinished;
            self.report.add(Finding {
                severity,
                what,
                path: path.to_owned(),
                offset: at as u64,
                index: Some(next),
            });
            return;
        }
        let located = self.locate_entry(bytes, at);
        let (what, offset, index) = match located {
            Some((index, offset)) => (
                format!("the stored bytes of entry {index} do not hash to its leaf in the tree"),
                offset,
                index,
            ),
            None => (format!("the frame that starts with entry {next} was changed"), at, next),
        };
        self.damaged(what, path, offset, Some(index));
    }

    fn locate_entry(&mut self, bytes: &[u8], at: usize) -> Option<(LogIndex, usize)> {
        let HeaderAt::Intact(header) = Header::decode(bytes.get(at..)?) else { return None };
        let body = bytes.get(at + frame::HEADER_BYTES..)?.get(..header.body_bytes as usize)?;
        let first = self.next_index().get();
        let entries = frame::split_body(body, header.count)?;
        entries.iter().enumerate().find_map(|(position, (offset, entry))| {
            let index = first + position as u64;
            let known = self.tiles.leaf(index).or_else(|| {
                // The tiles of the newest entries are only in memory; a frame of one entry is proved by its root.
                let mut alone = self.frontier.clone();
                alone.append(idtrail_tlog::leaf_hash(entry));
                (header.count == 1 && alone.root() == header.root).then(|| idtrail_tlog::leaf_hash(entry))
            });
            let differs = match known {
                Some(known) => known != idtrail_tlog::leaf_hash(entry),
                None => header.count == 1,
            };
            differs.then(|| (LogIndex::new(index), at + offset))
        })
    }

    fn check_offsets(&mut self, segment: &Path, offsets: &[u32]) -> Result<(), LogError> {
        let path = offsets_path(segment);
        let expected: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        let stored = idtrail_port::read_optional(self.disk, &path, 4 * u64::from(u32::MAX))
            .map_err(LogError::disk("read", &path))?;
        if let Some(stored) = stored {
            self.report.bytes += stored.len() as u64;
            if stored != expected {
                let offset =
                    stored.iter().zip(&expected).take_while(|(left, right)| left == right).count() as u64;
                let what = "the stored offsets differ from the segment".to_owned();
                self.report.add(Finding { severity: Severity::Derived, what, path, offset, index: None });
            }
        }
        Ok(())
    }

    fn finish(mut self, dir: &Path) -> Result<Report, LogError> {
        self.report.size = self.frontier.size();
        self.report.root = self.frontier.root();
        for pinned in self.pinned.iter().filter(|pinned| pinned.size > self.frontier.size()) {
            let what = format!(
                "the log ends at {} entries but a pinned checkpoint has {}: cut off or rolled back",
                self.frontier.size(),
                pinned.size
            );
            self.report.add(Finding {
                severity: Severity::Damaged,
                what,
                path: dir.to_owned(),
                offset: 0,
                index: Some(LogIndex::new(self.frontier.size().get())),
            });
        }
        Ok(self.report)
    }
}

/// The stored tiles of a log, compared hash by hash with what the journal gives.
struct StoredTiles {
    levels: Vec<StoredLevel>,
}

struct StoredLevel {
    path: PathBuf,
    stored: Vec<Hash>,
    /// Hashes compared so far.
    count: u64,
    /// The hashes of the incomplete tile.
    tail: Vec<Hash>,
}

impl StoredTiles {
    fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, LogError> {
        let mut levels = Vec::new();
        for level in 0.. {
            let path = TileStore::level_path(dir, level);
            let Some(bytes) =
                idtrail_port::read_optional(disk, &path, u64::MAX).map_err(LogError::disk("read", &path))?
            else {
                break;
            };
            let (chunks, _) = bytes.as_chunks::<32>();
            let stored = chunks.iter().map(|chunk| Hash::new(*chunk)).collect();
            levels.push(StoredLevel { path, stored, count: 0, tail: Vec::new() });
        }
        Ok(Self { levels })
    }

    fn leaf(&self, index: u64) -> Option<Hash> {
        self.levels.first()?.stored.get(usize::try_from(index).ok()?).copied()
    }

    fn feed(&mut self, leaves: &[Hash], report: &mut Report) {
        let mut hashes = leaves.to_vec();
        for level in &mut self.levels {
            hashes = level.feed(&hashes, report);
        }
    }
}

impl StoredLevel {
    /// Compares hashes of this level and returns those that become complete one level up.
    fn feed(&mut self, hashes: &[Hash], report: &mut Report) -> Vec<Hash> {
        let mut above = Vec::new();
        for hash in hashes {
            let stored = usize::try_from(self.count).ok().and_then(|position| self.stored.get(position));
            if stored.is_some_and(|stored| stored != hash) {
                report.add(Finding {
                    severity: Severity::Derived,
                    what: "a stored tile differs from the journal".to_owned(),
                    path: self.path.clone(),
                    offset: self.count * 32,
                    index: None,
                });
            }
            self.count += 1;
            self.tail.push(*hash);
            if self.tail.len() == 256 {
                above.push(tile_root(&self.tail));
                self.tail.clear();
            }
        }
        above
    }
}

/// Returns the name of the log in `dir`, as its first segment says.
///
/// # Errors
/// `Unavailable` if it cannot be read; `Damaged` if the first block is not intact.
pub fn origin_of(disk: &dyn Disk, dir: &Path) -> Result<String, LogError> {
    let path = segment::path(&segments_dir(dir), LogIndex::new(0));
    let file = disk.open(&path, Open::Read).map_err(LogError::disk("open", &path))?;
    let mut block = vec![0; FRAMES_START as usize];
    file.read_exact_at(&mut block, 0).map_err(LogError::disk("read", &path))?;
    let what = "the first block of a segment is not intact";
    let header = SegmentHeader::decode(&block);
    header.map(|header| header.origin).ok_or(LogError::Damaged {
        what,
        path,
        offset: 0,
        index: LogIndex::new(0),
    })
}
