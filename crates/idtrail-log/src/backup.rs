//! Copies a log up to a size, also while another process appends to it.
//!
//! What is below a size that was committed never changes, so the copy reads the segments, checks every frame on the way,
//! and stops behind the frame that reaches the size; what is left of that segment is zeros in the copy. The size must be
//! one that is known to be durable: a frame that was written and not yet synced may be lost by the log that it was copied
//! from, and two logs would then have two trees of one size.
//!
//! What it must never do: copy a frame above the size, or change anything where it reads.

use std::path::Path;

use idtrail_port::{Disk, Open, Privacy, create_dir_durable};
use idtrail_tlog::{Frontier, Hash, LogIndex, TreeSize};

use crate::LogError;
use crate::frame::Frame;
use crate::recovery::{Verdict, judge, segments_dir};
use crate::segment::{self, FRAMES_START, SegmentHeader};

/// Up to where a log is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upto {
    /// Up to a size that was committed.
    Size(TreeSize),
    /// Everything. Only for a log that no process has open.
    End,
}

/// A copied log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Count of entries.
    pub size: TreeSize,
    /// Root of the tree over them.
    pub root: Hash,
    /// Names of the files, in `segments`, in order.
    pub files: Vec<String>,
}

/// Returns a log's first entry, which says what log it continues; `None` if the log has none.
///
/// # Errors
/// `Unavailable` if it cannot be read; `Damaged` if it is not what was written.
pub fn first_entry(disk: &dyn Disk, dir: &Path) -> Result<Option<Vec<u8>>, LogError> {
    let path = segment::path(&segments_dir(dir), LogIndex::new(0));
    let bytes = read(disk, &path)?;
    let rest = bytes.get(FRAMES_START as usize..).unwrap_or_default();
    let damaged =
        |what| LogError::Damaged { what, path: path.clone(), offset: FRAMES_START, index: LogIndex::new(0) };
    if rest.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let frame = Frame::decode(rest).ok_or_else(|| damaged("the first frame is not whole"))?;
    let entries =
        frame.entries().ok_or_else(|| damaged("a frame does not hold the entries that it names"))?;
    Ok(entries.first().map(|(_, entry)| entry.to_vec()))
}

/// Copies the log in `dir` to the new directory `target`. `progress` is told of the bytes copied so far.
///
/// # Errors
/// `Damaged` if the log is not what was written or does not reach the size; `Unavailable` if the disk refuses.
pub fn copy(
    disk: &dyn Disk,
    (dir, origin): (&Path, &str),
    upto: Upto,
    target: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Copied, LogError> {
    let (from, to) = (segments_dir(dir), segments_dir(target));
    create_dir_durable(disk, &to).map_err(LogError::disk("create directory", &to))?;
    let mut copy = Copy { origin, upto, frontier: Frontier::empty(), previous: [0; 32] };
    let mut files = Vec::new();
    let mut bytes_done = 0;
    let firsts = segment::list(disk, &from)?;
    let last = firsts.last().copied();
    for first in firsts {
        if !files.is_empty() && upto == Upto::Size(copy.frontier.size()) {
            break;
        }
        let path = segment::path(&from, first);
        if upto == Upto::End {
            // What a killed process wrote may be in memory only; afterwards it is on the disk or was never there.
            let file = disk.open(&path, Open::Write).map_err(LogError::disk("open", &path))?;
            file.sync_data().map_err(LogError::disk("sync", &path))?;
            file.drop_cache().map_err(LogError::disk("drop cached pages", &path))?;
        }
        let bytes = read(disk, &path)?;
        let end = copy.segment(&path, &bytes, Some(first) == last)?;
        let copied = segment::path(&to, first);
        write(disk, &copied, bytes.get(..end).unwrap_or_default(), bytes.len() as u64)?;
        files.extend(copied.file_name().map(|name| name.to_string_lossy().into_owned()));
        bytes_done += bytes.len() as u64;
        progress(bytes_done);
    }
    disk.sync_dir(&to).map_err(LogError::disk("sync directory", &to))?;
    let (size, root) = (copy.frontier.size(), copy.frontier.root());
    match upto {
        Upto::Size(known) if size != known => Err(LogError::RolledBack { size, known }),
        _ if files.is_empty() => Err(copy.damaged("the first segment is missing", &from, 0)),
        _ => Ok(Copied { size, root, files }),
    }
}

struct Copy<'a> {
    origin: &'a str,
    upto: Upto,
    frontier: Frontier,
    previous: [u8; 32],
}

impl Copy<'_> {
    fn damaged(&self, what: &'static str, path: &Path, offset: usize) -> LogError {
        let index = LogIndex::new(self.frontier.size().get());
        LogError::Damaged { what, path: path.to_owned(), offset: offset as u64, index }
    }

    /// Checks a segment's frames and returns where those that are to be copied end.
    fn segment(&mut self, path: &Path, bytes: &[u8], last: bool) -> Result<usize, LogError> {
        let expected = SegmentHeader {
            bytes: bytes.len() as u64,
            first: LogIndex::new(self.frontier.size().get()),
            previous: self.previous,
            root: self.frontier.root(),
            origin: self.origin.to_owned(),
        };
        if SegmentHeader::decode(bytes) != Some(expected) {
            return Err(self.damaged("a segment does not continue the one before it", path, 0));
        }
        let mut at = FRAMES_START as usize;
        while self.upto != Upto::Size(self.frontier.size())
            && let Some(frame) = bytes.get(at..).and_then(Frame::decode)
        {
            if frame.header.first.get() != self.frontier.size().get()
                || frame.header.previous != self.previous
            {
                return Err(self.damaged("a frame does not continue the one before it", path, at));
            }
            let entries = frame
                .entries()
                .ok_or_else(|| self.damaged("a frame does not hold the entries that it names", path, at))?;
            let leaves: Vec<Hash> = entries.iter().map(|(_, entry)| idtrail_tlog::leaf_hash(entry)).collect();
            if self.frontier.append_batch(&leaves).root() != frame.header.root {
                return Err(self.damaged("a frame's root is not the root of its entries", path, at));
            }
            if matches!(self.upto, Upto::Size(size) if self.frontier.size() > size) {
                return Err(self.damaged("a frame reaches beyond the size that was committed", path, at));
            }
            self.previous = frame.hash;
            at += frame.header.frame_bytes();
        }
        if self.upto == Upto::Size(self.frontier.size()) {
            return Ok(at);
        }
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |position| position + 1);
        let next = LogIndex::new(self.frontier.size().get());
        let torn = || last && judge(bytes, at, end, next, self.previous) == Verdict::Torn;
        if end > at && !torn() {
            return Err(self.damaged("a frame is not what was written", path, at));
        }
        Ok(at)
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, LogError> {
    let file = disk.open(path, Open::Read).map_err(LogError::disk("open", path))?;
    let length = file.len().map_err(LogError::disk("stat", path))?;
    let length = usize::try_from(length).map_err(|_| LogError::Bug { what: "a segment fits in memory" })?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).map_err(LogError::disk("read", path))?;
    Ok(bytes)
}

/// Writes a file of a length whose end is zeros, without storing them where the file system can do that.
fn write(disk: &dyn Disk, path: &Path, bytes: &[u8], length: u64) -> Result<(), LogError> {
    let file = disk.open(path, Open::CreateNew(Privacy::Owner)).map_err(LogError::disk("create", path))?;
    file.write_all_at(bytes, 0).map_err(LogError::disk("write", path))?;
    if (bytes.len() as u64) < length {
        file.write_all_at(&[0], length - 1).map_err(LogError::disk("write", path))?;
    }
    file.sync_data().map_err(LogError::disk("sync", path))
}
