//! Rows on disk: the newest in memory, older ones in sorted runs, merged in the background.
//!
//! Leaves are taken over in order. When enough rows have come, they are frozen and written as a run; eight neighbouring
//! runs of a level become one of the next. The manifest says which runs count and up to where they know the log, so
//! a start reads the log's tail only. There is no journal: the log is it. Reads see memory, what is frozen, and the runs
//! from the newest to the oldest.
//!
//! Leaves that were shredded are dropped in two steps: at once they are hidden ([`Manifest::dead`], durable before the
//! shred is reported), then every run that may hold one of their rows is written anew. Files that are no longer needed
//! are overwritten before their names go, so that no erased key stays in a free block.
//!
//! What it must never do: wait for the background in a read, keep more in memory as the log grows, or take a damaged
//! block for an answer.

mod cache;
mod filter;
pub(crate) mod manifest;
pub(crate) mod memtable;
mod merge;
pub(crate) mod run;
pub(crate) mod table;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use idtrail_port::{Disk, create_dir_durable};

use crate::IndexError;
use crate::facts::Facts;
use crate::set::IndexSet;
use cache::Cache;
use manifest::Manifest;
use memtable::{Memtable, Meta};
use run::{Run, RunWriter, failed};
use table::{KEY_BYTES, Row, Table};

/// Neighbouring runs of one level that are merged into one.
const FAN_IN: usize = 8;
const RUN_PREFIX: &str = "run-";
/// Says that a block was found damaged: the next start builds everything anew.
const DAMAGED_NAME: &str = "damaged";
const RETRY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Limits of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreLimits {
    /// Rows in memory before they become a run.
    pub(crate) memory_rows_max: usize,
    /// Bytes of filters in memory, of all runs together.
    pub(crate) filter_bytes_max: u64,
}

/// Where the files are, and the parts that only files need.
struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: StoreLimits,
    /// What is durable. Whoever changes the runs holds this.
    manifest: Mutex<Manifest>,
    /// Runs that no manifest names any more, until nobody reads them.
    grave: Mutex<Vec<Arc<Run>>>,
}

struct State {
    active: Memtable,
    frozen: Option<Arc<Memtable>>,
    /// Oldest first.
    runs: Arc<Vec<Arc<Run>>>,
    dead: Arc<IndexSet>,
    /// Leaves are being forgotten: what is in memory stays there until their rows are gone from it.
    stay: bool,
}

/// What a read looks at: taken at one moment, whatever happens meanwhile.
struct View {
    frozen: Option<Arc<Memtable>>,
    runs: Arc<Vec<Arc<Run>>>,
    dead: Arc<IndexSet>,
}

/// See the module.
pub(crate) struct Store {
    state: RwLock<State>,
    applied: AtomicU64,
    cache: Cache,
    /// Absent for a store in memory alone.
    files: Option<Files>,
    wake: (Mutex<Wake>, Condvar),
}

#[derive(Default)]
struct Wake {
    /// Rows were frozen, leaves were forgotten, or the end has come.
    wanted: bool,
    ended: bool,
    /// A thread does the background work; otherwise whoever makes it does it.
    threaded: bool,
}

impl Store {
    /// Returns a store in memory alone.
    pub(crate) fn in_memory() -> Self {
        Self::with(None, Vec::new(), IndexSet::default(), Meta::default())
    }

    /// Opens the store in `dir`, or begins an empty one: if there is none, if it is damaged, or if it belongs to
    /// another vault or log or to another epoch of the vault than `epochs`.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        limits: StoreLimits,
        binding: &str,
        epochs: std::ops::RangeInclusive<u64>,
    ) -> Result<Self, IndexError> {
        create_dir_durable(&*disk, dir).map_err(failed("created", dir))?;
        let opened = Self::read_files(&*disk, dir, limits, binding, &epochs);
        let (manifest, runs) = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => (Self::fresh(&*disk, dir, binding, *epochs.end())?, Vec::new()),
            Err(error @ IndexError::Damaged { .. }) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the index is built anew");
                (Self::fresh(&*disk, dir, binding, *epochs.end())?, Vec::new())
            }
            Err(error) => return Err(error),
        };
        wipe_others(&*disk, dir, &manifest)?;
        let (dead, meta) = (manifest.dead.clone(), manifest.meta.clone());
        let (manifest, grave) = (Mutex::new(manifest), Mutex::default());
        let files = Files { disk, dir: dir.to_owned(), limits, manifest, grave };
        Ok(Self::with(Some(files), runs, dead, meta))
    }

    /// Wipes every file in `dir`.
    pub(crate) fn wipe(disk: &dyn Disk, dir: &Path) -> Result<(), IndexError> {
        if !disk.exists(dir).map_err(failed("looked up", dir))? {
            return Ok(());
        }
        // First what makes the others an index.
        let manifest = dir.join(manifest::NAME);
        idtrail_port::wipe(disk, &manifest).map_err(failed("wiped", &manifest))?;
        for name in disk.list(dir).map_err(failed("listed", dir))? {
            let path = dir.join(name);
            idtrail_port::wipe(disk, &path).map_err(failed("wiped", &path))?;
        }
        Ok(())
    }

    fn with(files: Option<Files>, runs: Vec<Arc<Run>>, dead: IndexSet, meta: Meta) -> Self {
        let applied = AtomicU64::new(meta.applied);
        let (active, runs, dead) = (Memtable::new(meta), Arc::new(runs), Arc::new(dead));
        let state = RwLock::new(State { active, frozen: None, runs, dead, stay: false });
        Self { state, applied, cache: Cache::new(), files, wake: Default::default() }
    }

    fn fresh(disk: &dyn Disk, dir: &Path, binding: &str, epoch: u64) -> Result<Manifest, IndexError> {
        let manifest = Manifest { binding: binding.to_owned(), vault_epoch: epoch, ..Manifest::default() };
        manifest.write(disk, dir)?;
        let marker = dir.join(DAMAGED_NAME);
        idtrail_port::wipe(disk, &marker).map_err(failed("removed", &marker))?;
        Ok(manifest)
    }

    #[allow(clippy::type_complexity, reason = "a pair that lives for two lines")]
    fn read_files(
        disk: &dyn Disk,
        dir: &Path,
        limits: StoreLimits,
        binding: &str,
        epochs: &std::ops::RangeInclusive<u64>,
    ) -> Result<Option<(Manifest, Vec<Arc<Run>>)>, IndexError> {
        let marker = dir.join(DAMAGED_NAME);
        if disk.exists(&marker).map_err(failed("looked up", &marker))? {
            return Err(run::damaged("a block was found damaged before", &marker, 0));
        }
        let Some(manifest) = Manifest::read(disk, dir)? else { return Ok(None) };
        if manifest.binding != binding || !epochs.contains(&manifest.vault_epoch) {
            tracing::warn!("the index is of another vault or of another epoch of it, and is built anew");
            return Ok(None);
        }
        let mut budget = limits.filter_bytes_max;
        let mut runs = Vec::new();
        // The newest runs are asked most, so their filters come first.
        for info in manifest.runs.iter().rev() {
            let run = Run::open(disk, &run_path(dir, info.id), *info, budget)?;
            budget -= run.filter_bytes;
            runs.push(Arc::new(run));
        }
        runs.reverse();
        Ok(Some((manifest, runs)))
    }

    /// Returns up to where leaves were taken over.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Returns what is known beside the rows.
    pub(crate) fn meta(&self) -> Meta {
        self.read().active.meta.clone()
    }

    /// Takes leaves over; `None` for one that cannot be read.
    pub(crate) fn fold<'a>(&self, first: u64, facts: impl Iterator<Item = Option<&'a Facts>>) {
        let mut state = self.write();
        let mut end = state.active.meta.applied;
        for (index, facts) in (first..).zip(facts) {
            end = index + 1;
            match facts {
                Some(facts) => state.active.fold(index, facts),
                None => state.active.meta.applied = end,
            }
        }
        // A reader who sees this number finds the rows.
        drop(state);
        self.applied.store(end, Ordering::Release);
        self.rotate();
    }

    /// Freezes what is in memory once it is enough, waiting for what was frozen before.
    fn rotate(&self) {
        let Some(files) = &self.files else { return };
        loop {
            let mut state = self.write();
            if state.active.rows() < files.limits.memory_rows_max || state.stay {
                return;
            }
            let frozen = state.frozen.is_none();
            if frozen {
                freeze(&mut state);
            }
            drop(state);
            if !self.lock_wake().threaded {
                // While the disk refuses, memory grows: a start that reads the log ends with that error soon.
                return self.work();
            }
            if frozen {
                return self.wake_up();
            }
            let wake = self.lock_wake();
            if wake.ended {
                return;
            }
            // The background wakes whoever waits; the time is for the case that it did so just before.
            let _ = self.wake.1.wait_timeout(wake, PAUSE);
        }
    }

    /// Returns the newest row of a key that `wanted` takes; it is told whether the row is of a shredded leaf.
    pub(crate) fn last(
        &self,
        table: Table,
        key: &[u8; KEY_BYTES],
        wanted: impl Fn(&Row, bool) -> bool,
    ) -> Result<Option<Row>, IndexError> {
        let state = self.read();
        let view = view(&state);
        let takes = |row: &Row| wanted(row, view.dead.contains(row.index));
        let in_memory = state.active.get(table, key).iter().rev().find(|row| takes(row)).copied();
        drop(state);
        if in_memory.is_some() {
            return Ok(in_memory);
        }
        if let Some(row) = view
            .frozen
            .as_ref()
            .and_then(|frozen| frozen.get(table, key).iter().rev().find(|row| takes(row)).copied())
        {
            return Ok(Some(row));
        }
        for run in view.runs.iter().rev() {
            if let Some(row) = self.noted(run.last(&self.cache, table, key, takes))? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Returns the rows of a key, rising by log index, from `from` on and at most `limit`.
    pub(crate) fn rows(
        &self,
        table: Table,
        key: &[u8; KEY_BYTES],
        from: u64,
        limit: usize,
    ) -> Result<Vec<Row>, IndexError> {
        let state = self.read();
        let view = view(&state);
        let active = state.active.get(table, key).to_vec();
        drop(state);
        let mut found = Vec::new();
        let mut take = |row: Row| {
            if row.index >= from && !view.dead.contains(row.index) {
                found.push(row);
            }
            found.len() < limit
        };
        for run in view.runs.iter() {
            self.noted(run.each(&self.cache, table, key, from, &mut take))?;
        }
        let frozen = view.frozen.as_ref().map(|frozen| frozen.get(table, key)).unwrap_or_default();
        for row in frozen.iter().chain(&active) {
            if !take(*row) {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Hides the rows of leaves at once and for ever, and has them dropped from the files.
    pub(crate) fn forget(&self, dead: &IndexSet) -> Result<(), IndexError> {
        let Some(files) = &self.files else {
            let mut state = self.write();
            forget_in_memory(&mut state, dead, |_| None);
            return Ok(());
        };
        // What is frozen becomes a run first: as one it can be written anew.
        loop {
            self.flush_frozen()?;
            let mut state = self.write();
            if state.frozen.is_none() {
                state.stay = true;
                break;
            }
        }
        let forgotten = self.forget_with(files, dead);
        self.write().stay = false;
        forgotten?;
        self.cache.clear();
        self.wake_up();
        if !self.lock_wake().threaded {
            self.work();
        }
        Ok(())
    }

    fn forget_with(&self, files: &Files, dead: &IndexSet) -> Result<(), IndexError> {
        let mut manifest = lock(&files.manifest);
        let mut changed = manifest.clone();
        changed.dead.extend(dead);
        changed.write(&*files.disk, &files.dir)?;
        *manifest = changed;
        let hidden = Arc::new(manifest.dead.clone());
        let mut state = self.write();
        state.dead = Arc::clone(&hidden);
        let runs = Arc::clone(&state.runs);
        forget_in_memory(&mut state, dead, |subject| {
            let takes = |row: &Row| !hidden.contains(row.index);
            runs.iter().rev().find_map(|run| {
                // A run that cannot be read is reported by its next reader.
                run.last(&self.cache, Table::Subject, subject, takes).ok().flatten().map(|row| row.index)
            })
        });
        Ok(())
    }

    /// Notes the vault's epoch up to which erasures were taken over.
    pub(crate) fn note_epoch(&self, epoch: u64) -> Result<(), IndexError> {
        let Some(files) = &self.files else { return Ok(()) };
        let mut manifest = lock(&files.manifest);
        if manifest.vault_epoch == epoch {
            return Ok(());
        }
        let changed = Manifest { vault_epoch: epoch, ..manifest.clone() };
        changed.write(&*files.disk, &files.dir)?;
        *manifest = changed;
        Ok(())
    }

    /// Writes everything that is in memory, so that the next start reads nothing of the log again.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        self.flush_frozen()?;
        let mut state = self.write();
        if state.frozen.is_none() && !state.stay && self.files.is_some() {
            freeze(&mut state);
        }
        drop(state);
        self.flush_frozen()
    }

    /// Does the background work until [`Store::end`]; for a thread of its own.
    pub(crate) fn run_background(&self) {
        // Also if it unwinds, so that nobody waits for a thread that has ended.
        let _threaded = Threaded::begin(self);
        loop {
            self.work();
            let mut wake = self.lock_wake();
            while !wake.wanted && !wake.ended {
                let waited = self.wake.1.wait_timeout(wake, RETRY).unwrap_or_else(PoisonError::into_inner);
                wake = waited.0;
                // Files wait for their last reader, and a full disk for room.
                if waited.1.timed_out() && self.has_work() {
                    break;
                }
            }
            if wake.ended {
                return;
            }
            wake.wanted = false;
        }
    }

    /// Ends the background work.
    pub(crate) fn end(&self) {
        self.lock_wake().ended = true;
        self.wake.1.notify_all();
    }

    /// Reads every block of every run.
    pub(crate) fn check(&self) -> Result<(), IndexError> {
        let runs = Arc::clone(&self.read().runs);
        runs.iter().try_for_each(|run| self.noted(run.check()))
    }

    /// Returns how many runs there are, how many bytes they have on disk, and how many bytes of filters are in memory.
    pub(crate) fn size(&self) -> (usize, u64, u64) {
        let runs = Arc::clone(&self.read().runs);
        let sum = |of: fn(&Run) -> u64| runs.iter().map(|run| of(run)).sum();
        (runs.len(), sum(|run| run.bytes), sum(|run| run.filter_bytes))
    }

    /// Does everything that is to be done in the background: flush, drop, merge, wipe.
    pub(crate) fn work(&self) {
        let Some(files) = &self.files else { return };
        let done = self.flush_frozen().and_then(|()| self.compact(files)).and_then(|()| {
            while !self.lock_wake().ended && self.merge_once(files)? {}
            self.bury(files)
        });
        if let Err(error) = done {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the index cannot be written; trying again"
            );
        }
    }

    fn has_work(&self) -> bool {
        let Some(files) = &self.files else { return false };
        let state = self.read();
        state.frozen.is_some() || !state.dead.is_empty() || !lock(&files.grave).is_empty()
    }

    /// Writes what is frozen as a run.
    fn flush_frozen(&self) -> Result<(), IndexError> {
        let Some(files) = &self.files else { return Ok(()) };
        let mut manifest = lock(&files.manifest);
        let Some(frozen) = self.read().frozen.clone() else { return Ok(()) };
        let mut changed = manifest.clone();
        changed.meta = frozen.meta.clone();
        let mut run = None;
        if frozen.rows() > 0 {
            let id = changed.next_run;
            changed.next_run += 1;
            let path = run_path(&files.dir, id);
            let mut writer = RunWriter::create(&*files.disk, &path, (id, 0), frozen.rows() as u64)?;
            for table in Table::ALL {
                writer.begin(table)?;
                frozen.sorted(table).iter().try_for_each(|row| writer.push(row))?;
            }
            let info = writer.finish()?;
            files.disk.sync_dir(&files.dir).map_err(failed("synced", &files.dir))?;
            run = Some(Arc::new(Run::open(&*files.disk, &path, info, self.filter_budget(files))?));
            changed.runs.push(info);
        }
        changed.write(&*files.disk, &files.dir)?;
        *manifest = changed;
        let mut state = self.write();
        let mut runs = state.runs.to_vec();
        runs.extend(run);
        state.runs = Arc::new(runs);
        state.frozen = None;
        drop(state);
        self.wake.1.notify_all();
        Ok(())
    }

    fn filter_budget(&self, files: &Files) -> u64 {
        let runs = Arc::clone(&self.read().runs);
        let used: u64 = runs.iter().map(|run| run.filter_bytes).sum();
        files.limits.filter_bytes_max.saturating_sub(used)
    }

    /// Remembers damage, so that the next start builds everything anew instead of meeting it again.
    fn noted<T>(&self, result: Result<T, IndexError>) -> Result<T, IndexError> {
        if let (Err(IndexError::Damaged { .. }), Some(files)) = (&result, &self.files) {
            let marker = files.dir.join(DAMAGED_NAME);
            let noted =
                idtrail_port::write_atomic(&*files.disk, &marker, b"\n", idtrail_port::Privacy::Owner);
            if let Err(error) = noted {
                tracing::warn!(%error, "the damage of the index could not be noted");
            }
        }
        result
    }

    fn wake_up(&self) {
        self.lock_wake().wanted = true;
        self.wake.1.notify_all();
    }

    fn lock_wake(&self) -> MutexGuard<'_, Wake> {
        lock(&self.wake.0)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as it lives, a thread does the background work.
struct Threaded<'a>(&'a Store);

impl<'a> Threaded<'a> {
    fn begin(store: &'a Store) -> Self {
        store.lock_wake().threaded = true;
        Self(store)
    }
}

impl Drop for Threaded<'_> {
    fn drop(&mut self) {
        self.0.lock_wake().threaded = false;
        self.0.wake.1.notify_all();
    }
}

fn freeze(state: &mut State) {
    let next = Memtable::new(state.active.meta.clone());
    state.frozen = Some(Arc::new(std::mem::replace(&mut state.active, next)));
}

fn view(state: &State) -> View {
    View { frozen: state.frozen.clone(), runs: Arc::clone(&state.runs), dead: Arc::clone(&state.dead) }
}

/// Drops rows of the rows in memory. `on_disk` finds another leaf of a customer in the runs.
fn forget_in_memory(state: &mut State, dead: &IndexSet, on_disk: impl Fn(&[u8; KEY_BYTES]) -> Option<u64>) {
    state.active.forget(dead, |active, row| {
        let subject = table::pad(&row.customer());
        let here = active.get(Table::Subject, &subject).last().map(|row| row.index);
        here.or_else(|| on_disk(&subject))
    });
}

fn run_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{RUN_PREFIX}{id:012}"))
}

/// Wipes the files that no manifest names: what a crash or an earlier index left.
fn wipe_others(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<(), IndexError> {
    let named: Vec<PathBuf> = manifest.runs.iter().map(|info| run_path(dir, info.id)).collect();
    for name in disk.list(dir).map_err(failed("listed", dir))? {
        let path = dir.join(&name);
        let ours = name == manifest::NAME || name == DAMAGED_NAME || named.contains(&path);
        if !ours {
            idtrail_port::wipe(disk, &path).map_err(failed("wiped", &path))?;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
