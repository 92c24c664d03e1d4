//! The four ports over the operating system.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this module is the one place where the ports touch the operating system"
)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt as _, OpenOptionsExt};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::{Attributes, Clock, Disk, DiskFile, DiskLock, Entropy, Open, Privacy, Space};

#[cfg(feature = "network")]
mod network;
#[cfg(feature = "network")]
pub use network::OsNetwork;

/// The system's clocks.
#[derive(Debug)]
pub struct OsClock {
    start: Instant,
}

impl Default for OsClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for OsClock {
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Returns how many nanoseconds this thread has been running. What other threads and processes take of a core does not
/// count, so two readings tell a slow piece of work from one that was interrupted.
pub fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Asks the kernel for pages of the smallest size from here on, in the whole process.
///
/// Allocators ask for huge pages, and then one access to fresh memory clears two megabytes: 4.5 ms were measured, in the
/// middle of a decision that takes 2 µs. Small pages are cleared one by one, when they are used.
///
/// # Errors
/// The kernel has no such switch; then it may have no huge pages either.
pub fn small_pages_only() -> io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

/// How often one thread touched memory that the kernel had to provide first (minor page faults).
#[derive(Debug)]
pub struct ThreadFaults(File);

impl ThreadFaults {
    /// Begins to count for the calling thread.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn of_this_thread() -> io::Result<Self> {
        File::open("/proc/thread-self/stat").map(Self)
    }

    /// Returns the number since the thread began; 0 if the kernel does not tell.
    pub fn count(&self) -> u64 {
        let mut buffer = [0; 512];
        let read = self.0.read_at(&mut buffer, 0).unwrap_or(0);
        let text = buffer.get(..read).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        // The name before the last parenthesis may hold spaces; eight numbers behind it is the one (proc_pid_stat(5)).
        let behind = text.rsplit_once(')').map_or("", |(_, behind)| behind);
        behind.split_whitespace().nth(7).and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

/// The kernel's random number generator.
#[derive(Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the kernel gives random bytes once it has booted");
    }
}

/// The local file system.
#[derive(Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::Write => {
                options.write(true);
            }
            Open::CreateNew(privacy) => {
                options.write(true).create_new(true).mode(match privacy {
                    Privacy::Owner => 0o600,
                    Privacy::Public => 0o666,
                });
            }
        }
        Ok(Box::new(OsFile(options.open(path)?)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            names.push(name.into_string().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?);
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let told = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
        Ok(Space { free_bytes: bytes(told.f_bavail), total_bytes: bytes(told.f_blocks) })
    }

    fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        let told = fs::metadata(path)?;
        Ok(Attributes { device: told.dev(), mode: told.mode() & 0o777, is_dir: told.is_dir() })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(OsLock { _file: file }))
    }
}

#[derive(Debug)]
struct OsFile(File);

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn drop_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }
}

/// Keeps the locked file open; closing it releases the lock.
#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl DiskLock for OsLock {}
