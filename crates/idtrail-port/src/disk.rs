//! Files with the few operations that durability needs, each a separate step that can fail.
//!
//! A write is durable only after [`DiskFile::sync_data`]; a new, renamed or removed name only after
//! [`Disk::sync_dir`] of its directory. The simulated disk drops whatever was not synced, so code that forgets
//! one of the two fails its tests.

use std::io;
use std::path::{Path, PathBuf};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing.
    CreateNew(Privacy),
}

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// The owner only (mode 0600): secrets and everything that holds personal data.
    Owner,
    /// As the process' umask allows (mode 0666 less umask): tiles, checkpoints, policies.
    Public,
}

/// How full a file system is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this process may still write.
    pub free_bytes: u64,
    /// What there is altogether.
    pub total_bytes: u64,
}

/// What a file system says about a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Which device it is on; equal numbers mean the same one.
    pub device: u64,
    /// Permissions: the lowest nine bits, owner, group and others.
    pub mode: u32,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A file system.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;

    /// Creates a directory (mode 0700); `AlreadyExists` if it is there. Durable after [`Disk::sync_dir`] of its parent.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Returns the names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Tells whether a file or directory of this name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Renames a file, replacing `to`. Durable after [`Disk::sync_dir`] of the directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Durable after [`Disk::sync_dir`] of the directory.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Returns how full the file system of a file or directory is; `Unsupported` if this disk cannot tell.
    fn space(&self, path: &Path) -> io::Result<Space> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns what the file system says about a file or directory; `Unsupported` if this disk cannot tell.
    fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes an exclusive lock on a file, which is created if missing; `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Offsets and lengths are in bytes.
pub trait DiskFile: Send + Sync {
    /// Reads at `offset` and returns how many bytes were read; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file as needed.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable. After an error nothing may be assumed about the file:
    /// a second call may report success although the bytes are gone.
    fn sync_data(&self) -> io::Result<()>;

    /// Returns the file's length.
    fn len(&self) -> io::Result<u64>;

    /// Tells whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Asks that the next reads come from the device and not from a cache that may hold what was never synced.
    fn drop_cache(&self) -> io::Result<()>;

    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Holds a lock until it is dropped.
pub trait DiskLock: Send + Sync {}

/// Reads a whole file.
///
/// # Errors
/// As the disk reports them; `InvalidData` if the file is longer than `bytes_max`.
pub fn read_whole(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let length = file.len()?;
    if length > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("file is too large. bytes={length}, limit={bytes_max}"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Reads a whole file, or returns `None` if there is none.
///
/// # Errors
/// As [`read_whole`], but not `NotFound`.
pub fn read_optional(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    match read_whole(disk, path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file so that after any crash it holds either the old bytes or the new ones: a new file beside it,
/// synced, renamed over it, directory synced.
///
/// # Errors
/// As the disk reports them. The old file may or may not have been replaced then.
pub fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8], privacy: Privacy) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = append_extension(path, "tmp");
    if disk.exists(&temporary)? {
        disk.remove(&temporary)?;
    }
    let file = disk.open(&temporary, Open::CreateNew(privacy))?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    // Without this the old name may be back after a power cut.
    disk.sync_dir(parent)
}

/// Overwrites a file with zeros, syncs it, and removes its name durably, so that the blocks which become free hold nothing
/// of it. A missing file is no error.
///
/// On a disk that overwrites in place this is what erases; on flash and on copy-on-write file systems the device keeps what
/// it likes, and only an encrypted volume helps.
///
/// # Errors
/// As the disk reports them; to be repeated then.
pub fn wipe(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    const CHUNK_BYTES: u64 = 1 << 20;
    let file = match disk.open(path, Open::Write) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = file.len()?;
    let zeros = vec![0; usize::try_from(CHUNK_BYTES.min(length)).unwrap_or(0)];
    let mut at = 0;
    while at < length {
        let count = usize::try_from(length - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(zeros.get(..count).unwrap_or_default(), at)?;
        at += count as u64;
    }
    file.sync_data()?;
    disk.remove(path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Returns `path` with `.extension` added behind whatever it already ends in.
pub fn append_extension(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// Creates a directory and makes it durable, with every missing parent.
///
/// # Errors
/// As the disk reports them.
pub fn create_dir_durable(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || disk.exists(path)? {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_dir_durable(disk, parent)?;
    match disk.create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    disk.sync_dir(parent)
}
