//! Segment files: fixed length, filled with zeros before use, final once full.
//!
//! Overwriting zeros that are already on the disk makes a sync cheaper than growing a file, because no metadata
//! changes. A segment is named by the index of its first entry (20 digits, `.seg`), and starts with one block:
//!
//! ```text
//! offset  bytes  field (integers big-endian)
//!      0      8  magic "IDTsegmt"
//!      8      4  version, 1
//!     12      8  length of the file
//!     20      8  index of the first entry
//!     28     32  hash of the last frame before this segment
//!     60     32  root of the tree before this segment
//!     92      2  length of the origin
//!     94      n  origin
//!   4092      4  CRC32C of bytes 0..4092
//! ```

use std::path::{Path, PathBuf};

use idtrail_port::{Disk, DiskFile, Open, Privacy, append_extension};
use idtrail_tlog::{Hash, LogIndex};

use crate::LogError;

/// Where the first frame of a segment stands.
pub const FRAMES_START: u64 = 4096;
/// The shortest segment that makes sense.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// The default length of a segment.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"IDTsegmt";
const VERSION: u32 = 1;
const SUFFIX: &str = ".seg";

/// The first block of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Index of the first entry.
    pub first: LogIndex,
    /// Hash of the last frame before this segment; all zero in the first one.
    pub previous: [u8; 32],
    /// Root of the tree before this segment.
    pub root: Hash,
    /// Name of the log.
    pub origin: String,
}

impl SegmentHeader {
    fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(FRAMES_START as usize);
        block.extend_from_slice(MAGIC);
        block.extend_from_slice(&VERSION.to_be_bytes());
        block.extend_from_slice(&self.bytes.to_be_bytes());
        block.extend_from_slice(&self.first.get().to_be_bytes());
        block.extend_from_slice(&self.previous);
        block.extend_from_slice(self.root.as_bytes());
        let origin = self.origin.as_bytes();
        block.extend_from_slice(
            &u16::try_from(origin.len()).expect("an origin is at most 128 bytes").to_be_bytes(),
        );
        block.extend_from_slice(origin);
        block.resize(FRAMES_START as usize - 4, 0);
        let crc = crc32c::crc32c(&block);
        block.extend_from_slice(&crc.to_be_bytes());
        block
    }

    /// Reads the first block of a segment; `None` if any check fails.
    pub fn decode(block: &[u8]) -> Option<SegmentHeader> {
        let block = block.get(..FRAMES_START as usize)?;
        let (covered, crc) = block.split_at(block.len() - 4);
        if crc32c::crc32c(covered).to_be_bytes() != crc {
            return None;
        }
        let fixed = |from: usize, to: usize| covered.get(from..to);
        if fixed(0, 8)? != MAGIC || fixed(8, 12)? != VERSION.to_be_bytes() {
            return None;
        }
        let bytes = u64::from_be_bytes(fixed(12, 20)?.try_into().ok()?);
        let first = u64::from_be_bytes(fixed(20, 28)?.try_into().ok()?);
        let previous = fixed(28, 60)?.try_into().ok()?;
        let root = Hash::new(fixed(60, 92)?.try_into().ok()?);
        let length = usize::from(u16::from_be_bytes(fixed(92, 94)?.try_into().ok()?));
        let origin = std::str::from_utf8(fixed(94, 94 + length)?).ok()?.to_owned();
        if covered.get(94 + length..)?.iter().any(|byte| *byte != 0) {
            return None;
        }
        Some(SegmentHeader { bytes, first: LogIndex::new(first), previous, root, origin })
    }
}

/// Returns the path of the segment that starts with `first`.
pub fn path(dir: &Path, first: LogIndex) -> PathBuf {
    dir.join(format!("{:020}{SUFFIX}", first.get()))
}

/// Returns the first indices of the segments in a directory, in order.
///
/// # Errors
/// `Unavailable` if the directory cannot be read.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<LogIndex>, LogError> {
    let names = disk.list(dir).map_err(LogError::disk("list", dir))?;
    Ok(names
        .iter()
        .filter_map(|name| name.strip_suffix(SUFFIX))
        .filter(|digits| digits.len() == 20)
        .filter_map(|digits| digits.parse().ok())
        .map(LogIndex::new)
        .collect())
}

/// Makes a zero-filled, synced file that can become the next segment. Its name is not durable yet.
///
/// # Errors
/// `Unavailable` if the disk refuses.
pub fn prepare_blank(disk: &dyn Disk, path: &Path, bytes: u64) -> Result<Box<dyn DiskFile>, LogError> {
    if disk.exists(path).map_err(LogError::disk("stat", path))? {
        disk.remove(path).map_err(LogError::disk("remove", path))?;
    }
    let file = disk.open(path, Open::CreateNew(Privacy::Owner)).map_err(LogError::disk("create", path))?;
    let zeros = vec![0; 1024 * 1024];
    let mut at = 0;
    while at < bytes {
        let chunk = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(zeros.get(..chunk).unwrap_or_default(), at)
            .map_err(LogError::disk("zero-fill", path))?;
        at += chunk as u64;
    }
    file.sync_data().map_err(LogError::disk("sync", path))?;
    Ok(file)
}

/// Turns a blank file into the segment named in `header`: first block and `frames` written and synced, then the name
/// set and made durable. An existing segment of that name is replaced in one step.
///
/// # Errors
/// `Unavailable` if the disk refuses.
pub fn install(
    disk: &dyn Disk,
    dir: &Path,
    blank: (&Path, &dyn DiskFile),
    header: &SegmentHeader,
    frames: &[u8],
) -> Result<PathBuf, LogError> {
    let (blank_path, file) = blank;
    file.write_all_at(&header.encode(), 0).map_err(LogError::disk("write", blank_path))?;
    if !frames.is_empty() {
        file.write_all_at(frames, FRAMES_START).map_err(LogError::disk("write", blank_path))?;
    }
    file.sync_data().map_err(LogError::disk("sync", blank_path))?;
    let target = path(dir, header.first);
    disk.rename(blank_path, &target).map_err(LogError::disk("rename", &target))?;
    // Without this the segment's name may be gone after a power cut, and with it every entry acknowledged from it.
    disk.sync_dir(dir).map_err(LogError::disk("sync directory", dir))?;
    Ok(target)
}

/// Returns where a spare segment is prepared.
pub fn spare_path(dir: &Path) -> PathBuf {
    append_extension(&dir.join("spare"), "tmp")
}
