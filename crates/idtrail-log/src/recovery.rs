//! Opens a log: replays every frame, recomputes the tree, compares every stored root, and never guesses.
//!
//! After an unclean stop the last frame may be incomplete. It is cut off only if it can never have been
//! acknowledged, which needs evidence in its own bytes: a disk block of it that never arrived (all zero), or zeros
//! from some byte through its end mark; nothing behind it, since one frame is in flight at a time; and a place above
//! every size that the log is known to have reached. Anything else refuses to start. The valid part is then copied
//! into a fresh segment, so that nothing rests on pages that were cached but never written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idtrail_port::{
    Disk, DiskFile, DiskLock, Open, Privacy, append_extension, create_dir_durable, write_atomic,
};
use idtrail_tlog::{Checkpoint, Frontier, Hash, LogIndex, Signer, TreeSize};

use crate::LogError;
use crate::commit::Committer;
use crate::frame::{self, Frame, Header, HeaderAt};
use crate::journal::{Journal, OpenSegment};
use crate::reader::{Head, Offsets, Reader, SegmentIndex, store_offsets};
use crate::segment::{self, FRAMES_START, SegmentHeader};
use crate::tiles::TileStore;

const BLOCK: usize = 512;
const CLEAN_MAGIC: &[u8; 8] = b"IDTclean";
const CLEAN_BYTES: usize = 8 + 8 + 32 + 4;

/// How a log is opened.
pub struct Options<'a> {
    /// Directory of this origin.
    pub dir: &'a Path,
    /// Name of the log.
    pub origin: &'a str,
    /// Length of new segments in bytes.
    pub segment_bytes: u64,
    /// A size that the log is known to have reached: what was published, witnessed, or kept as high-water mark.
    pub known_size: TreeSize,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("origin", &self.origin)
            .field("known_size", &self.known_size)
            .finish_non_exhaustive()
    }
}

/// What the reader of stored entries may say; any refusal stops the start.
pub type Visit<'a> = dyn FnMut(LogIndex, &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'a;

/// What was found when a log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Count of entries.
    pub size: TreeSize,
    /// Whether the log had been stopped in an orderly way.
    pub clean: bool,
    /// Bytes of an unacknowledged last frame that were cut off.
    pub cut_bytes: u64,
}

/// The directories of one origin.
pub(crate) fn segments_dir(dir: &Path) -> PathBuf {
    dir.join("segments")
}

pub(crate) fn tiles_dir(dir: &Path) -> PathBuf {
    dir.join("tiles")
}

fn clean_path(dir: &Path) -> PathBuf {
    dir.join("clean-stop")
}

/// Creates a new, empty log.
///
/// # Errors
/// `Invalid` if there is one already; `Unavailable` if the disk refuses.
pub fn create(disk: &dyn Disk, dir: &Path, origin: &str, segment_bytes: u64) -> Result<(), LogError> {
    create_dir_durable(disk, dir).map_err(LogError::disk("create directory", dir))?;
    Journal::create(disk, &segments_dir(dir), origin, segment_bytes)
}

/// Takes the lock that keeps a second process out of a directory. Held until dropped.
///
/// # Errors
/// `Invalid` if another process holds it; `Unavailable` if the disk refuses.
pub fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, LogError> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => LogError::Locked { path: path.clone() },
        _ => LogError::Disk { operation: "lock", path: path.clone(), source },
    })
}

/// Opens a log and hands every entry to `visit`, in order.
///
/// # Errors
/// `Damaged` if any stored byte is not what it must be or the log is shorter than it was; `Unavailable` if the disk
/// refuses.
pub fn open(
    disk: &Arc<dyn Disk>,
    options: &Options<'_>,
    signer: Box<dyn Signer + Send>,
    visit: &mut Visit<'_>,
) -> Result<(Committer, Opened), LogError> {
    let clean_mark = read_clean_mark(&**disk, options.dir)?;
    let (replay, tail) = replay(disk, options.dir, options.origin, visit, false)?;
    let size = replay.frontier.size();
    if size < options.known_size {
        return Err(LogError::RolledBack { size, known: options.known_size });
    }
    let clean = tail.cut_bytes == 0 && clean_mark == Some((size, replay.frontier.root()));
    replay.finish(options, signer, disk, &segments_dir(options.dir), tail, clean)
}

/// Opens a log that nobody appends to any more, and hands every entry to `visit`, in order. Its segments are only read;
/// derived files beside them (tiles, offsets) are made where they are missing.
///
/// `end` is the tree at which the log is known to have ended. Its checkpoint is signed once more, and no other one, so that
/// a log never shows two trees.
///
/// # Errors
/// As [`open`]; a last frame that is not whole, or another end, is `Damaged` here.
pub fn open_final(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    end: &Checkpoint,
    signer: &dyn Signer,
    visit: &mut Visit<'_>,
) -> Result<Reader, LogError> {
    let (mut replay, _) = replay(disk, dir, &end.origin, visit, true)?;
    let (size, root) = (replay.frontier.size(), replay.frontier.root());
    if size < end.size {
        return Err(LogError::RolledBack { size, known: end.size });
    }
    if (size, root) != (end.size, end.root) {
        return Err(replay.damaged("the log does not end where it is known to have ended", dir, 0));
    }
    replay.tiles.flush(1)?;
    replay.tiles.write_tails()?;
    let head = Head { size, root, checkpoint: end.sign(signer).into() };
    let segments = std::mem::take(&mut replay.segments);
    Ok(Reader::new(replay.tiles, segments, head))
}

/// Reads every segment; of a final log the last one is as whole as the others.
fn replay<'a, 'v>(
    disk: &'a Arc<dyn Disk>,
    dir: &Path,
    origin: &'a str,
    visit: &'a mut Visit<'v>,
    is_final: bool,
) -> Result<(Replay<'a, 'v>, Tail), LogError> {
    let mut replay = Replay {
        disk: &**disk,
        origin,
        frontier: Frontier::empty(),
        previous: [0; 32],
        tiles: TileStore::open(Arc::clone(disk), &tiles_dir(dir))?,
        segments: Vec::new(),
        visit,
        mended_tiles: false,
    };
    let dir = segments_dir(dir);
    let firsts = segment::list(&**disk, &dir)?;
    let (Some(last), true) = (firsts.last().copied(), firsts.first() == Some(&LogIndex::new(0))) else {
        let what = "the first segment is missing";
        return Err(LogError::Damaged { what, path: dir, offset: 0, index: LogIndex::new(0) });
    };
    let mut tail = Tail { at: FRAMES_START, cut_bytes: 0, bytes: Vec::new() };
    for first in firsts {
        tail = replay.segment(&dir, first, first == last && !is_final)?;
    }
    Ok((replay, tail))
}

/// Where the valid part of the last segment ends.
struct Tail {
    at: u64,
    cut_bytes: u64,
    /// The whole segment.
    bytes: Vec<u8>,
}

struct Replay<'a, 'v> {
    disk: &'a dyn Disk,
    origin: &'a str,
    frontier: Frontier,
    previous: [u8; 32],
    tiles: TileStore,
    segments: Vec<SegmentIndex>,
    visit: &'a mut Visit<'v>,
    mended_tiles: bool,
}

impl Replay<'_, '_> {
    fn damaged(&self, what: &'static str, path: &Path, offset: u64) -> LogError {
        LogError::Damaged {
            what,
            path: path.to_owned(),
            offset,
            index: LogIndex::new(self.frontier.size().get()),
        }
    }

    fn segment(&mut self, dir: &Path, first: LogIndex, last: bool) -> Result<Tail, LogError> {
        let path = segment::path(dir, first);
        let file = self.disk.open(&path, Open::Read).map_err(LogError::disk("open", &path))?;
        file.drop_cache().map_err(LogError::disk("drop cached pages", &path))?;
        let length = file.len().map_err(LogError::disk("stat", &path))?;
        let mut bytes =
            vec![0; usize::try_from(length).map_err(|_| self.damaged("the segment is too long", &path, 0))?];
        file.read_exact_at(&mut bytes, 0).map_err(LogError::disk("read", &path))?;
        let header = SegmentHeader::decode(&bytes)
            .ok_or_else(|| self.damaged("the first block of a segment is not intact", &path, 0))?;
        let expected = SegmentHeader {
            bytes: length,
            first: LogIndex::new(self.frontier.size().get()),
            previous: self.previous,
            root: self.frontier.root(),
            origin: self.origin.to_owned(),
        };
        if header != expected {
            return Err(self.damaged("a segment does not continue the one before it", &path, 0));
        }
        let mut offsets = Vec::new();
        let at = self.frames(&path, &bytes, &mut offsets)?;
        let rest = bytes.get(at..).unwrap_or_default();
        let mut cut_bytes = 0;
        if rest.iter().any(|byte| *byte != 0) {
            if !last {
                return Err(self.damaged("a final segment holds a broken frame", &path, at as u64));
            }
            cut_bytes = self.judge_tail(&path, &bytes, at)?;
        }
        let index = SegmentIndex { first, file: Arc::from(file), path, offsets: Offsets::Memory(offsets) };
        self.segments.push(index);
        if !last && let Some(segment) = self.segments.last_mut() {
            store_offsets(self.disk, segment)?;
            bytes.clear();
        }
        Ok(Tail { at: at as u64, cut_bytes, bytes })
    }

    /// Replays the intact frames of a segment and returns where they end.
    fn frames(&mut self, path: &Path, bytes: &[u8], offsets: &mut Vec<u32>) -> Result<usize, LogError> {
        let mut at = FRAMES_START as usize;
        while let Some(frame) = bytes.get(at..).and_then(Frame::decode) {
            let size = self.frontier.size();
            if frame.header.first.get() != size.get() || frame.header.previous != self.previous {
                return Err(self.damaged("a frame does not continue the one before it", path, at as u64));
            }
            let entries = frame.entries().ok_or_else(|| {
                self.damaged("a frame does not hold the entries that it names", path, at as u64)
            })?;
            let leaves: Vec<Hash> = entries.iter().map(|(_, entry)| idtrail_tlog::leaf_hash(entry)).collect();
            let batch = self.frontier.append_batch(&leaves);
            if batch.root() != frame.header.root {
                return Err(LogError::Damaged {
                    what: "a frame's root is not the root of its entries",
                    path: path.to_owned(),
                    offset: at as u64,
                    index: frame.header.first,
                });
            }
            self.tiles.append(&leaves)?;
            self.mended_tiles |= self.tiles.flush(16)?;
            for (position, (offset, entry)) in entries.iter().enumerate() {
                let index = LogIndex::new(size.get() + position as u64);
                (self.visit)(index, entry).map_err(|source| LogError::Visitor { index, source })?;
                let offset = u32::try_from(at + offset)
                    .map_err(|_| LogError::Bug { what: "a segment is limited to 4 GiB" })?;
                offsets.push(offset);
            }
            self.previous = frame.hash;
            at += frame.header.frame_bytes();
        }
        Ok(at)
    }

    /// Decides whether what stands behind the valid frames was never acknowledged, and returns its length.
    fn judge_tail(&self, path: &Path, bytes: &[u8], at: usize) -> Result<u64, LogError> {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(at, |last| last + 1);
        match judge(bytes, at, end, LogIndex::new(self.frontier.size().get()), self.previous) {
            Verdict::Torn => Ok((end - at) as u64),
            Verdict::Damaged(what) => Err(self.damaged(what, path, at as u64)),
        }
    }

    fn finish(
        mut self,
        options: &Options<'_>,
        signer: Box<dyn Signer + Send>,
        disk: &Arc<dyn Disk>,
        dir: &Path,
        tail: Tail,
        clean: bool,
    ) -> Result<(Committer, Opened), LogError> {
        let no_segment = || LogError::Bug { what: "a log has at least one segment" };
        self.mended_tiles |= self.tiles.flush(1)?;
        // What stands behind the whole tiles may be left from before a power cut.
        self.tiles.write_tails()?;
        let last = self.segments.last_mut().ok_or_else(no_segment)?;
        if !clean {
            let header = SegmentHeader::decode(&tail.bytes).ok_or_else(no_segment)?;
            let frames = tail.bytes.get(FRAMES_START as usize..tail.at as usize).unwrap_or_default();
            let blank = append_extension(&dir.join("recovery"), "tmp");
            let file = segment::prepare_blank(&**disk, &blank, header.bytes)?;
            segment::install(&**disk, dir, (&blank, &*file), &header, frames)?;
        }
        let file: Arc<dyn DiskFile> =
            Arc::from(disk.open(&last.path, Open::Write).map_err(LogError::disk("open", &last.path))?);
        last.file = Arc::clone(&file);
        let open = OpenSegment {
            file,
            path: last.path.clone(),
            file_bytes: tail.bytes.len() as u64,
            at: tail.at,
            previous: self.previous,
        };
        remove_clean_mark(&**disk, options.dir)?;
        if self.mended_tiles {
            tracing::warn!(
                origin = options.origin,
                "stored tiles differed from the journal and were rebuilt"
            );
        }
        let (size, root) = (self.frontier.size(), self.frontier.root());
        let checkpoint = Checkpoint { origin: options.origin.to_owned(), size, root };
        let head = Head { size, root, checkpoint: checkpoint.sign(&*signer).into() };
        let journal = Journal::new(Arc::clone(disk), dir, options.origin, options.segment_bytes, open);
        let reader = Arc::new(Reader::new(self.tiles, self.segments, head));
        let committer =
            Committer::new(Arc::clone(disk), journal, self.frontier, options.origin, signer, reader);
        Ok((committer, Opened { size, clean, cut_bytes: tail.cut_bytes }))
    }
}

/// What the bytes behind the valid frames are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// One frame whose write did not finish: it was never acknowledged.
    Torn,
    /// Anything else.
    Damaged(&'static str),
}

/// Judges the non-zero bytes `at..end` of a segment, where a frame for `next` naming `previous` should stand.
pub(crate) fn judge(bytes: &[u8], at: usize, end: usize, next: LogIndex, previous: [u8; 32]) -> Verdict {
    let tail = bytes.get(at..).unwrap_or_default();
    match Header::decode(tail) {
        HeaderAt::Intact(header) => {
            if header.first != next || header.previous != previous {
                return Verdict::Damaged("a frame does not continue the one before it");
            }
            let frame_end = at + header.frame_bytes();
            if end > frame_end || frame_end > bytes.len() {
                return Verdict::Damaged("bytes stand behind a broken frame");
            }
            if end < frame_end || zero_block(bytes, at, frame_end) {
                return Verdict::Torn;
            }
            Verdict::Damaged("a frame was written in full but its checksum is wrong")
        }
        HeaderAt::Broken => {
            // An intact header further on means that a whole frame stood here, acknowledged before the next began.
            if frame::find_headers(tail.get(1..end - at).unwrap_or_default()).next().is_some() {
                return Verdict::Damaged("a frame's header is damaged and another frame follows");
            }
            let header_blocks_end = (at + frame::HEADER_BYTES).next_multiple_of(BLOCK);
            let cut_short = end < at + frame::HEADER_BYTES;
            // What did arrive of a frame begins as a frame does, unless its very first block is what is missing.
            let first_block = bytes.get(at..(at / BLOCK + 1) * BLOCK).unwrap_or_default();
            let plausible = frame::starts_like_frame(tail) || first_block.iter().all(|byte| *byte == 0);
            if plausible && (cut_short || zero_block(bytes, at, header_blocks_end)) {
                return Verdict::Torn;
            }
            Verdict::Damaged("a frame's header is damaged")
        }
    }
}

/// Tells whether a disk block within `from..to` never arrived: all of its bytes that belong there are zero.
///
/// Only the first block is judged by a part of itself (the part before `from` belongs to the frame before); the last
/// one needs none, because a frame ends in bytes that are not zero.
fn zero_block(bytes: &[u8], from: usize, to: usize) -> bool {
    let mut start = from;
    while start < to {
        let end = (start / BLOCK + 1) * BLOCK;
        if end > to {
            return false;
        }
        if bytes.get(start..end).is_some_and(|block| block.iter().all(|byte| *byte == 0)) {
            return true;
        }
        start = end;
    }
    false
}

/// Writes the mark of an orderly stop: the next start need not copy the open segment.
///
/// # Errors
/// `Unavailable` if the disk refuses; nothing is lost then.
pub fn mark_clean(disk: &dyn Disk, dir: &Path, reader: &Reader) -> Result<(), LogError> {
    let head = reader.head();
    let mut mark = CLEAN_MAGIC.to_vec();
    mark.extend_from_slice(&head.size.get().to_be_bytes());
    mark.extend_from_slice(head.root.as_bytes());
    let crc = crc32c::crc32c(&mark);
    mark.extend_from_slice(&crc.to_be_bytes());
    let path = clean_path(dir);
    write_atomic(disk, &path, &mark, Privacy::Public).map_err(LogError::disk("write", &path))
}

fn read_clean_mark(disk: &dyn Disk, dir: &Path) -> Result<Option<(TreeSize, Hash)>, LogError> {
    let path = clean_path(dir);
    let bytes = idtrail_port::read_optional(disk, &path, 1024).map_err(LogError::disk("read", &path))?;
    Ok(bytes.as_deref().and_then(decode_clean_mark))
}

fn decode_clean_mark(bytes: &[u8]) -> Option<(TreeSize, Hash)> {
    let bytes: &[u8; CLEAN_BYTES] = bytes.try_into().ok()?;
    let (covered, crc) = bytes.split_at(CLEAN_BYTES - 4);
    if crc32c::crc32c(covered).to_be_bytes() != crc || !covered.starts_with(CLEAN_MAGIC) {
        return None;
    }
    let size = u64::from_be_bytes(covered.get(8..16)?.try_into().ok()?);
    let root = covered.get(16..48)?.try_into().ok()?;
    Some((TreeSize::new(size), Hash::new(root)))
}

fn remove_clean_mark(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    let path = clean_path(dir);
    if disk.exists(&path).map_err(LogError::disk("stat", &path))? {
        disk.remove(&path).map_err(LogError::disk("remove", &path))?;
        disk.sync_dir(dir).map_err(LogError::disk("sync directory", dir))?;
    }
    Ok(())
}
