//! A file system in memory that forgets what was not synced.
//!
//! Reads see the cache; a crash leaves the medium. Bytes and length move from one to the other by a sync of the
//! file, names by a sync of their directory, and of all else a crash keeps what its generator says: any subset of
//! sectors, some torn, and for each directory a prefix of its changes. Rules in [`content`] and [`tree`].
//!
//! The life of a test: plan a [`Fault`] or [`SimDisk::crash_at`], run the code, [`SimDisk::crash`], run the code again on
//! the same disk as the restarted process. Handles and locks of the dead process are refused from then on; their
//! error, like every error between the crash and the restart, is told from a fault by [`is_crash`].
//!
//! What it must never do: be kinder than a real disk. Where systems differ it takes the strictest.

mod content;
mod fault;
mod tree;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use idtrail_port::{Disk, DiskFile, DiskLock, Open, Privacy};

pub use content::SECTOR_BYTES;
pub use fault::{Count, EIO, ENOSPC, Effect, Fault, Operation, OperationKind, Repeat, is_crash};
use fault::{Faults, Request, Verdict, dead};
use tree::{NodeId, Tree};

use crate::{Rng, Seed};

const EBADF: i32 = 9;
const EAGAIN: i32 = 11;
const EINVAL: i32 = 22;

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    tree: Tree,
    faults: Faults,
    /// Counts restarts; a handle of an earlier one is dead.
    generation: u64,
    down: bool,
    locks_taken: u64,
    /// Decides what a failed operation has done all the same.
    rng: Rng,
}

/// What was durable at one moment.
#[derive(Clone)]
pub struct Snapshot(Tree);

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Snapshot").field(&self.0.files()).finish()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let mut shown = formatter.debug_struct("SimDisk");
        shown.field("operations", &state.faults.counted(Count::All)).field("down", &state.down);
        shown.finish_non_exhaustive()
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new(Seed::new(0))
    }
}

/// Life and death.
impl SimDisk {
    /// Makes an empty disk. The seed decides what failed operations have done all the same.
    pub fn new(seed: Seed) -> Self {
        Self::with_tree(Tree::new(), seed)
    }

    /// Makes another disk that holds what the snapshot holds.
    pub fn from_snapshot(snapshot: &Snapshot, seed: Seed) -> Self {
        Self::with_tree(snapshot.0.clone(), seed)
    }

    fn with_tree(tree: Tree, seed: Seed) -> Self {
        let rng = seed.derive("disk").rng();
        let (faults, generation, down, locks_taken) = (Faults::default(), 0, false, 0);
        Self(Arc::new(Mutex::new(State { tree, faults, generation, down, locks_taken, rng })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }

    /// Cuts the power and restarts: `rng` decides what of the unsynced survives. Handles die, locks are released, and
    /// all planned faults are forgotten; counters and trace go on.
    pub fn crash(&self, rng: &mut Rng) {
        let mut state = self.state();
        state.tree.crash(Some(rng));
        state.restart();
    }

    /// Like [`SimDisk::crash`], but nothing unsynced survives.
    pub fn crash_losing_all(&self) {
        let mut state = self.state();
        state.tree.crash(None);
        state.restart();
    }

    /// Kills the process and restarts it on a machine that stayed up: nothing is lost, and what was not synced may
    /// still be lost by a later crash.
    pub fn kill(&self) {
        let mut state = self.state();
        state.tree.kill();
        state.restart();
    }

    /// Tells whether a planned crash has struck and no restart has come yet.
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// Returns what is durable now, as if power were cut and nothing unsynced survived.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.state().tree.durable())
    }

    /// Puts a snapshot in place of everything, and restarts.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut state = self.state();
        state.tree = snapshot.0.clone();
        state.restart();
    }
}

impl State {
    fn restart(&mut self) {
        self.generation += 1;
        self.down = false;
        self.faults.clear_plan();
    }

    /// Counts an operation, then does it or fails it. `undone` is called in place of `act` by faults that do not
    /// apply, and says how much was done all the same.
    fn run<T>(
        &mut self,
        request: &Request<'_>,
        act: impl FnOnce(&mut Self) -> io::Result<T>,
        undone: impl FnOnce(&mut Self, Effect) -> io::Result<()>,
    ) -> io::Result<T> {
        if self.down {
            return Err(dead());
        }
        match self.faults.admit(request) {
            Verdict::Do => act(self),
            Verdict::Fail { errno, effect } => {
                // What would have failed anyway, such as opening what does not exist, keeps its own error.
                match effect {
                    Effect::Applied => drop(act(self)?),
                    Effect::NotApplied | Effect::Partly => undone(self, effect)?,
                }
                Err(io::Error::from_raw_os_error(errno))
            }
            Verdict::Crash => {
                self.down = true;
                Err(dead())
            }
        }
    }
}

/// Faults, counters, trace.
impl SimDisk {
    /// Plans a failure; several may be planned, and the first planned that strikes counts.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.planned.push(fault);
    }

    /// Plans a crash: the `index`-th counted operation (from 0) is not done, and it and everything after it fails
    /// until [`SimDisk::crash`] is called.
    pub fn crash_at(&self, count: Count, index: u64) {
        self.state().faults.crash = Some((count, index));
    }

    /// Forgets all planned faults and the planned crash.
    pub fn clear_faults(&self) {
        self.state().faults.clear_plan();
    }

    /// Returns how many operations were asked for, that is, the index of the next one.
    pub fn count(&self, count: Count) -> u64 {
        self.state().faults.counted(count)
    }

    /// Starts all counters at 0 again.
    pub fn reset_counts(&self) {
        self.state().faults.reset_counts();
    }

    /// Begins to record operations, or stops and forgets them.
    pub fn set_trace(&self, on: bool) {
        self.state().faults.trace = on.then(Vec::new);
    }

    /// Returns the operations recorded since the trace was set or last taken.
    pub fn take_trace(&self) -> Vec<Operation> {
        self.state().faults.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// A look at the disk, and damage to it, from outside: neither counted nor failed.
impl SimDisk {
    /// Returns the paths of all files as reads see them, absolute and sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().tree.files()
    }

    /// Returns the paths of all files that are certain to survive a crash, absolute and sorted.
    pub fn durable_files(&self) -> Vec<PathBuf> {
        self.state().tree.durable().files()
    }

    /// Returns a file's bytes as reads see them.
    ///
    /// # Errors
    /// `NotFound` and the like.
    pub fn read_cached(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.state();
        let id = state.tree.find_file(path.as_ref())?;
        Ok(state.tree.file(id)?.data.cached().to_vec())
    }

    /// Returns a file's bytes as a crash would leave them that kept nothing unsynced.
    ///
    /// # Errors
    /// `NotFound` and the like.
    pub fn read_durable(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.state().tree.read_durable(path.as_ref())
    }

    /// Returns who may read a file.
    ///
    /// # Errors
    /// `NotFound` and the like.
    pub fn privacy(&self, path: impl AsRef<Path>) -> io::Result<Privacy> {
        let state = self.state();
        let id = state.tree.find_file(path.as_ref())?;
        Ok(state.tree.file(id)?.privacy)
    }

    /// Flips one bit (0 is the lowest) on the medium and in the cache.
    ///
    /// # Errors
    /// `NotFound` and the like; `InvalidInput` beyond the end of the file.
    pub fn flip_bit(&self, path: impl AsRef<Path>, byte: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let id = state.tree.find_file(path.as_ref())?;
        let flipped = state.tree.file_mut(id)?.data.flip_bit(byte, bit);
        if flipped { Ok(()) } else { Err(io::Error::from_raw_os_error(EINVAL)) }
    }

    /// Cuts a file short on the medium and in the cache.
    ///
    /// # Errors
    /// `NotFound` and the like.
    pub fn truncate(&self, path: impl AsRef<Path>, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let id = state.tree.find_file(path.as_ref())?;
        state.tree.file_mut(id)?.data.truncate(length);
        Ok(())
    }
}

impl SimDisk {
    fn run<T>(&self, request: &Request<'_>, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.state().run(request, act, |_, _| Ok(()))
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let kind = if let Open::CreateNew(_) = how { OperationKind::Create } else { OperationKind::Open };
        self.run(&Request::of(kind, path), |state| {
            let node = match how {
                Open::Read | Open::Write => state.tree.find_file(path)?,
                Open::CreateNew(privacy) => state.tree.create_file(path, privacy)?,
            };
            let (generation, writable) = (state.generation, how != Open::Read);
            let file = SimFile { disk: self.clone(), node, generation, writable, path: path.to_owned() };
            Ok(Box::new(file) as Box<dyn DiskFile>)
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.run(&Request::of(OperationKind::CreateDir, path), |state| state.tree.create_dir(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.run(&Request::of(OperationKind::List, dir), |state| state.tree.list(dir))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.run(&Request::of(OperationKind::Exists, path), |state| state.tree.exists(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let request = Request { to: Some(to), ..Request::of(OperationKind::Rename, from) };
        self.run(&request, |state| state.tree.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.run(&Request::of(OperationKind::Remove, path), |state| state.tree.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.run(&Request::of(OperationKind::SyncDir, dir), |state| state.tree.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.state();
        let find_or_create = |state: &mut State| {
            let node = match state.tree.find_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    state.tree.create_file(path, Privacy::Owner)?
                }
                found => found?,
            };
            let locked = state.tree.file(node)?.lock.is_some();
            if locked { Err(io::Error::from_raw_os_error(EAGAIN)) } else { Ok(node) }
        };
        let node = state.run(&Request::of(OperationKind::Lock, path), find_or_create, |_, _| Ok(()))?;
        // Only now: a call that reports an error has closed its file, so it holds no lock whatever else it did.
        state.locks_taken += 1;
        let holder = state.locks_taken;
        state.tree.file_mut(node)?.lock = Some(holder);
        Ok(Box::new(SimLock { disk: self.clone(), node, holder }))
    }
}

struct SimFile {
    disk: SimDisk,
    node: NodeId,
    generation: u64,
    writable: bool,
    path: PathBuf,
}

impl SimFile {
    fn run<T>(
        &self,
        (kind, offset, length): (OperationKind, u64, u64),
        act: impl FnOnce(&mut State) -> io::Result<T>,
        undone: impl FnOnce(&mut State, Effect) -> io::Result<()>,
    ) -> io::Result<T> {
        let mut state = self.disk.state();
        if state.generation != self.generation {
            return Err(dead());
        }
        state.run(&Request { offset, length, ..Request::of(kind, &self.path) }, act, undone)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.run(
            (OperationKind::Read, offset, buffer.len() as u64),
            |state| Ok(state.tree.file(self.node)?.data.cached().read(buffer, offset)),
            |_, _| Ok(()),
        )
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::from_raw_os_error(EBADF));
        }
        self.run(
            (OperationKind::Write, offset, bytes.len() as u64),
            |state| {
                state.tree.file_mut(self.node)?.data.write(bytes, offset);
                Ok(())
            },
            |state, effect| {
                if effect == Effect::Partly && !bytes.is_empty() {
                    let done = state.rng.index(bytes.len());
                    state.tree.file_mut(self.node)?.data.write(bytes.get(..done).unwrap_or_default(), offset);
                }
                Ok(())
            },
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        self.run(
            (OperationKind::SyncData, 0, 0),
            |state| {
                state.tree.file_mut(self.node)?.data.sync();
                Ok(())
            },
            |state, _| {
                state.tree.file_mut(self.node)?.data.fail_sync(&mut state.rng);
                Ok(())
            },
        )
    }

    fn len(&self) -> io::Result<u64> {
        self.run(
            (OperationKind::Len, 0, 0),
            |state| Ok(state.tree.file(self.node)?.data.cached().length()),
            |_, _| Ok(()),
        )
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.run(
            (OperationKind::DropCache, 0, 0),
            |state| {
                state.tree.file_mut(self.node)?.data.drop_cache();
                Ok(())
            },
            |_, _| Ok(()),
        )
    }
}

struct SimLock {
    disk: SimDisk,
    node: NodeId,
    holder: u64,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        // After a restart the file may be locked by another holder, or be gone.
        if let Ok(file) = state.tree.file_mut(self.node)
            && file.lock == Some(self.holder)
        {
            file.lock = None;
        }
    }
}
