//! The memory of one sink on disk: cursor and dead letters, in a directory of its own that one process holds at a time.
//!
//! - `cursor`: one line, `crc32c` in hex, a blank, JSON; replaced atomically.
//! - `dead-letters`: one such line for each list of changes, appended and synced. A torn last line is cut when the store is
//!   opened: it was never confirmed. A bad line with a good one behind it is damage and is said so.
//! - `lock`: held while the store is open, so that a second process on the same sink is refused.
//!
//! Holds positions, codes and counts; never a value of an event. `docs/spec/cursor.md` has the format.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use idtrail_port::{
    Disk, DiskFile, DiskLock, Open, Privacy, create_dir_durable, read_optional, write_atomic,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Cursor, DeadChange, DeadLetter};
use crate::position::Position;

const CURSOR: &str = "cursor";
const DEAD_LETTERS: &str = "dead-letters";
const LOCK: &str = "lock";
const CURSOR_BYTES_MAX: u64 = 64 * 1024;
/// About three million changes.
const DEAD_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The file of changes is rewritten when it is opened with more changes than this beyond twice its letters.
const COMPACT_ABOVE: usize = 1000;

/// Why a sink's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has this sink.
    #[error("another process holds this sink. path={}", .0.display())]
    Held(PathBuf),
    /// A file is not what was written.
    #[error("file is damaged. line={line}, path={}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The disk refuses.
    #[error("file cannot be used. path={}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

/// The open memory of one sink.
pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    dead: Box<dyn DiskFile>,
    dead_length: u64,
    /// After a failed append nobody knows what the file holds: it is written anew from these.
    letters: BTreeMap<Position, DeadLetter>,
    rewrite: bool,
    _lock: Box<dyn DiskLock>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// What a store held when it was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The cursor; `None` for a new sink.
    pub cursor: Option<Cursor>,
    /// The dead letters, in order.
    pub dead: Vec<DeadLetter>,
}

impl Store {
    /// Opens the memory in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// `Held` if another process has it; `Damaged` if a file does not read; `Io` if the disk refuses.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<(Self, Kept), StoreError> {
        create_dir_durable(&*disk, dir).map_err(|source| io_error(dir, source))?;
        let lock_path = dir.join(LOCK);
        let lock = disk.lock(&lock_path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StoreError::Held(lock_path.clone()),
            _ => io_error(&lock_path, source),
        })?;
        let cursor = read_cursor(&*disk, dir)?;
        let dead_path = dir.join(DEAD_LETTERS);
        let bytes = read_optional(&*disk, &dead_path, DEAD_BYTES_MAX)
            .map_err(|source| io_error(&dead_path, source))?;
        let whole = bytes.as_deref().unwrap_or_default();
        let (letters, changes, good) = read_changes(&dead_path, whole)?;
        // A missing, torn or long file is written anew; a file that is only appended to would grow for ever.
        if bytes.is_none() || good < whole.len() || changes > 2 * letters.len() + COMPACT_ABOVE {
            write_letters(&*disk, &dead_path, &letters)?;
        }
        let dead = disk.open(&dead_path, Open::Write).map_err(|source| io_error(&dead_path, source))?;
        let dead_length = dead.len().map_err(|source| io_error(&dead_path, source))?;
        let kept = Kept { cursor, dead: letters.values().cloned().collect() };
        let store =
            Self { disk, dir: dir.to_owned(), dead, dead_length, letters, rewrite: false, _lock: lock };
        Ok((store, kept))
    }

    /// Reads a sink's memory without holding it, for people who want to look. May be a moment old.
    ///
    /// # Errors
    /// As [`Store::open`], without `Held`.
    pub fn peek(disk: &dyn Disk, dir: &Path) -> Result<Kept, StoreError> {
        let path = dir.join(DEAD_LETTERS);
        let bytes = read_optional(disk, &path, DEAD_BYTES_MAX).map_err(|source| io_error(&path, source))?;
        let (letters, ..) = read_changes(&path, bytes.as_deref().unwrap_or_default())?;
        Ok(Kept { cursor: read_cursor(disk, dir)?, dead: letters.into_values().collect() })
    }

    /// Replaces the cursor, durably.
    ///
    /// # Errors
    /// `Io`; the old one or the new one is there then.
    pub fn save_cursor(&self, cursor: &Cursor) -> Result<(), StoreError> {
        let path = self.dir.join(CURSOR);
        let bytes = line(cursor);
        write_atomic(&*self.disk, &path, &bytes, Privacy::Owner).map_err(|source| io_error(&path, source))
    }

    /// Adds changes of dead letters, durably.
    ///
    /// # Errors
    /// `Io`; any part of them may be there then. The next call writes the file anew.
    pub fn save_dead(&mut self, changes: &[DeadChange]) -> Result<(), StoreError> {
        let path = self.dir.join(DEAD_LETTERS);
        let mut letters = self.letters.clone();
        for change in changes {
            apply(&mut letters, change.clone());
        }
        if self.rewrite {
            write_letters(&*self.disk, &path, &letters)?;
            self.dead = self.disk.open(&path, Open::Write).map_err(|source| io_error(&path, source))?;
            self.dead_length = self.dead.len().map_err(|source| io_error(&path, source))?;
            self.rewrite = false;
        } else {
            // One line for all: of several, a power cut could keep the last and lose the first.
            let bytes = line(&changes.iter().map(Change::of).collect::<Vec<_>>());
            let written = self.dead.write_all_at(&bytes, self.dead_length);
            if let Err(source) = written.and_then(|()| self.dead.sync_data()) {
                self.rewrite = true;
                return Err(io_error(&path, source));
            }
            self.dead_length += bytes.len() as u64;
        }
        self.letters = letters;
        Ok(())
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Change {
    Put(DeadLetter),
    Remove(Position),
}

impl Change {
    fn of(change: &DeadChange) -> Self {
        match change {
            DeadChange::Put(letter) => Self::Put(letter.clone()),
            DeadChange::Remove(at) => Self::Remove(*at),
        }
    }
}

fn apply(letters: &mut BTreeMap<Position, DeadLetter>, change: DeadChange) {
    match change {
        DeadChange::Put(letter) => {
            letters.insert(letter.at, letter);
        }
        DeadChange::Remove(at) => {
            letters.remove(&at);
        }
    }
}

fn read_cursor(disk: &dyn Disk, dir: &Path) -> Result<Option<Cursor>, StoreError> {
    let path = dir.join(CURSOR);
    let bytes = read_optional(disk, &path, CURSOR_BYTES_MAX).map_err(|source| io_error(&path, source))?;
    let Some(bytes) = bytes else { return Ok(None) };
    read_line(bytes.strip_suffix(b"\n").unwrap_or(&bytes))
        .map(Some)
        .ok_or(StoreError::Damaged { path, line: 1 })
}

type Changes = (BTreeMap<Position, DeadLetter>, usize, usize);

/// Returns the letters, the number of changes, and how many bytes are whole lines.
fn read_changes(path: &Path, bytes: &[u8]) -> Result<Changes, StoreError> {
    let mut letters = BTreeMap::new();
    let (mut lines, mut count, mut good) = (0, 0, 0);
    for text in bytes.split_inclusive(|byte| *byte == b'\n') {
        let changes = text.strip_suffix(b"\n").and_then(read_line::<Vec<Change>>);
        let Some(changes) = changes else {
            // Only the last line can be torn, and what a power cut leaves there may hold line ends of its own: zeros and
            // old bytes. A whole line behind a bad one cannot come from that.
            let rest = bytes.get(good + text.len()..).unwrap_or_default();
            let whole_behind = rest
                .split_inclusive(|byte| *byte == b'\n')
                .any(|text| text.strip_suffix(b"\n").and_then(read_line::<Vec<Change>>).is_some());
            if whole_behind {
                return Err(StoreError::Damaged { path: path.to_owned(), line: lines + 1 });
            }
            break;
        };
        lines += 1;
        count += changes.len();
        good += text.len();
        for change in changes {
            match change {
                Change::Put(letter) => apply(&mut letters, DeadChange::Put(letter)),
                Change::Remove(at) => apply(&mut letters, DeadChange::Remove(at)),
            }
        }
    }
    Ok((letters, count, good))
}

fn write_letters(
    disk: &dyn Disk,
    path: &Path,
    letters: &BTreeMap<Position, DeadLetter>,
) -> Result<(), StoreError> {
    let bytes: Vec<u8> = letters.values().flat_map(|letter| line(&[Change::Put(letter.clone())])).collect();
    write_atomic(disk, path, &bytes, Privacy::Owner).map_err(|source| io_error(path, source))
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_string(value).expect("positions, codes and counts are JSON");
    format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes()
}

fn read_line<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(text).ok()?;
    let (sum, json) = text.split_once(' ')?;
    // Compared as text, or upper-case digits would be a second way to write a sum.
    (format!("{:08x}", crc32c::crc32c(json.as_bytes())) == sum).then(|| serde_json::from_str(json).ok())?
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}
