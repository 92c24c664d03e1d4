//! Writes frames: one write and one sync each, into the segment that is open.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use idtrail_port::{Disk, DiskFile};
use idtrail_tlog::{Hash, LogIndex};

use crate::LogError;
use crate::segment::{self, FRAMES_START, SegmentHeader};

/// A blank segment made ahead of need, so that filling it with zeros does not stand in the way of a commit.
#[derive(Clone, Default)]
pub struct Spare(Arc<Mutex<Option<Blank>>>);

struct Blank {
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spare").field("ready", &self.is_ready()).finish()
    }
}

impl Spare {
    /// Tells whether a blank segment is ready.
    pub fn is_ready(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Makes a blank segment unless one is ready.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses, for example because it is full.
    pub fn prepare(&self, disk: &dyn Disk, dir: &Path, bytes: u64) -> Result<(), LogError> {
        if self.is_ready() {
            return Ok(());
        }
        let path = segment::spare_path(dir);
        let file = segment::prepare_blank(disk, &path, bytes)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Blank { path, file });
        Ok(())
    }

    fn take(&self) -> Option<Blank> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The place of a written frame.
#[derive(Debug)]
pub struct Written {
    /// Offset of the frame in its segment.
    pub offset: u64,
    /// The segment, if this frame is the first one in it.
    pub new_segment: Option<NewSegment>,
}

/// A segment that was just opened.
pub struct NewSegment {
    /// Its file.
    pub file: Arc<dyn DiskFile>,
    /// Its path.
    pub path: PathBuf,
    /// Index of its first entry.
    pub first: LogIndex,
}

impl std::fmt::Debug for NewSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSegment").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The writing end of the segments. After any error it must not be used again.
pub struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    origin: String,
    segment_bytes: u64,
    spare: Spare,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Length of the open segment, which may differ from what new ones get.
    file_bytes: u64,
    /// Where the next frame goes.
    at: u64,
    /// Hash of the last frame.
    previous: [u8; 32],
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).field("at", &self.at).finish_non_exhaustive()
    }
}

/// What a journal needs to know to go on in a segment.
pub(crate) struct OpenSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) file_bytes: u64,
    pub(crate) at: u64,
    pub(crate) previous: [u8; 32],
}

impl Journal {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        origin: &str,
        segment_bytes: u64,
        open: OpenSegment,
    ) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            origin: origin.to_owned(),
            segment_bytes,
            spare: Spare::default(),
            file: open.file,
            path: open.path,
            file_bytes: open.file_bytes,
            at: open.at,
            previous: open.previous,
        }
    }

    /// Creates the first segment of a new log.
    ///
    /// # Errors
    /// `Exists` if there is a segment already; `Unavailable` if the disk refuses.
    pub fn create(disk: &dyn Disk, dir: &Path, origin: &str, segment_bytes: u64) -> Result<(), LogError> {
        idtrail_port::create_dir_durable(disk, dir).map_err(LogError::disk("create directory", dir))?;
        if !segment::list(disk, dir)?.is_empty() {
            return Err(LogError::Exists { path: dir.to_owned() });
        }
        let header = SegmentHeader {
            bytes: segment_bytes,
            first: LogIndex::new(0),
            previous: [0; 32],
            root: idtrail_tlog::empty_root(),
            origin: origin.to_owned(),
        };
        let path = segment::spare_path(dir);
        let file = segment::prepare_blank(disk, &path, segment_bytes)?;
        segment::install(disk, dir, (&path, &*file), &header, &[])?;
        Ok(())
    }

    /// Returns the slot for a blank segment, to be filled ahead of need by another thread.
    pub fn spare(&self) -> Spare {
        self.spare.clone()
    }

    /// Returns the directory of the segments.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the length of new segments in bytes.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Returns the hash of the last frame, which the next one must name.
    pub fn previous(&self) -> [u8; 32] {
        self.previous
    }

    /// Writes a frame and makes it durable.
    ///
    /// `first` is the index of its first entry and `root` the root of the tree before it.
    ///
    /// # Errors
    /// `Unavailable`. The frame may or may not be durable then, and nobody can know: stop.
    pub fn append(
        &mut self,
        frame: &[u8],
        hash: [u8; 32],
        first: LogIndex,
        root: Hash,
    ) -> Result<Written, LogError> {
        let bytes = frame.len() as u64;
        let mut new_segment = None;
        if self.at + bytes > self.file_bytes {
            if FRAMES_START + bytes > self.segment_bytes {
                return Err(LogError::Bug { what: "a group is limited to less than a segment" });
            }
            new_segment = Some(self.roll(first, root)?);
        }
        let offset = self.at;
        self.file.write_all_at(frame, offset).map_err(LogError::disk("write", &self.path))?;
        self.file.sync_data().map_err(LogError::disk("sync", &self.path))?;
        self.at += bytes;
        self.previous = hash;
        Ok(Written { offset, new_segment })
    }

    fn roll(&mut self, first: LogIndex, root: Hash) -> Result<NewSegment, LogError> {
        let blank = match self.spare.take() {
            Some(blank) => blank,
            None => {
                let path = segment::spare_path(&self.dir);
                let file = segment::prepare_blank(&*self.disk, &path, self.segment_bytes)?;
                Blank { path, file }
            }
        };
        let header = SegmentHeader {
            bytes: self.segment_bytes,
            first,
            previous: self.previous,
            root,
            origin: self.origin.clone(),
        };
        let path = segment::install(&*self.disk, &self.dir, (&blank.path, &*blank.file), &header, &[])?;
        self.file = Arc::from(blank.file);
        self.path = path.clone();
        self.file_bytes = self.segment_bytes;
        self.at = FRAMES_START;
        Ok(NewSegment { file: Arc::clone(&self.file), path, first })
    }
}
