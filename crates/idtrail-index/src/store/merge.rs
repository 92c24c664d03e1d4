//! Runs become fewer and larger, and rows of shredded leaves go: both by writing runs anew.

use std::sync::Arc;

use super::run::{Run, RunWriter, TableReader, failed};
use super::table::{Row, Table, pad};
use super::{FAN_IN, Files, Store, lock, run_path};
use crate::IndexError;
use crate::set::IndexSet;

/// Rows after which a merge looks whether newer rows wait to be written.
const PAUSE_ROWS: u64 = 100_000;

impl Store {
    /// Merges the newest eight neighbouring runs of one level, if there are eight; false if there is nothing to merge.
    pub(super) fn merge_once(&self, files: &Files) -> Result<bool, IndexError> {
        let runs = Arc::clone(&self.read().runs);
        let Some(start) = mergeable(&runs) else { return Ok(false) };
        let group = runs.get(start..start + FAN_IN).unwrap_or_default();
        let level = group.first().map_or(0, |run| run.info.level).saturating_add(1);
        self.rewrite(files, group, level)?;
        Ok(true)
    }

    /// Writes every run anew that may hold a row of a shredded leaf.
    pub(super) fn compact(&self, files: &Files) -> Result<(), IndexError> {
        let dead = Arc::clone(&self.read().dead);
        if dead.is_empty() {
            return Ok(());
        }
        let runs = Arc::clone(&self.read().runs);
        for run in runs.iter() {
            let range = run.info.least..run.info.highest.saturating_add(1);
            if dead.meets(&range) {
                self.rewrite(files, std::slice::from_ref(run), run.info.level)?;
            }
        }
        let mut manifest = lock(&files.manifest);
        if manifest.dead != *dead {
            // More were forgotten meanwhile; the next round has them all.
            self.lock_wake().wanted = true;
            return Ok(());
        }
        let mut changed = manifest.clone();
        changed.dead = IndexSet::default();
        changed.write(&*files.disk, &files.dir)?;
        *manifest = changed;
        self.write().dead = Arc::default();
        drop(manifest);
        self.cache.clear();
        Ok(())
    }

    /// Wipes the files of runs that nobody reads any more.
    pub(super) fn bury(&self, files: &Files) -> Result<(), IndexError> {
        let (free, read): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *lock(&files.grave)).into_iter().partition(|run| Arc::strong_count(run) == 1);
        lock(&files.grave).extend(read);
        for run in free {
            if let Err(source) = idtrail_port::wipe(&*files.disk, &run.path) {
                let error = failed("wiped", &run.path)(source);
                lock(&files.grave).push(Arc::clone(&run));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts one run in the place of neighbours.
    fn rewrite(&self, files: &Files, group: &[Arc<Run>], level: u8) -> Result<(), IndexError> {
        let id = {
            let mut manifest = lock(&files.manifest);
            // Kept in memory only: what a crash leaves under this number is wiped by the next start.
            manifest.next_run += 1;
            manifest.next_run - 1
        };
        let path = run_path(&files.dir, id);
        let rows_max: u64 = group.iter().map(|run| run.rows_of_all()).sum();
        let written = self.merge_into(files, group, (id, level), rows_max);
        let run = match written {
            Ok(run) => run,
            Err(error) => {
                // What was begun is of no use; if it cannot be removed now, the next start does it.
                let _ = idtrail_port::wipe(&*files.disk, &path);
                return self.noted(Err(error));
            }
        };
        let mut manifest = lock(&files.manifest);
        let mut changed = manifest.clone();
        let Some(at) =
            changed.runs.iter().position(|info| group.first().is_some_and(|run| run.info == *info))
        else {
            return Ok(());
        };
        changed.runs.splice(at..at + group.len(), run.iter().map(|run| run.info));
        changed.write(&*files.disk, &files.dir)?;
        *manifest = changed;
        let mut state = self.write();
        let mut runs = state.runs.to_vec();
        runs.splice(at..at + group.len(), run);
        state.runs = Arc::new(runs);
        drop(state);
        drop(manifest);
        lock(&files.grave).extend(group.iter().cloned());
        Ok(())
    }

    fn merge_into(
        &self,
        files: &Files,
        group: &[Arc<Run>],
        place: (u64, u8),
        rows_max: u64,
    ) -> Result<Option<Arc<Run>>, IndexError> {
        let path = run_path(&files.dir, place.0);
        let dead = Arc::clone(&self.read().dead);
        let mut writer = RunWriter::create(&*files.disk, &path, place, rows_max)?;
        let mut count = 0_u64;
        for table in Table::ALL {
            writer.begin(table)?;
            let mut merged = Merged::of(group, table)?;
            let mut customer: Option<Customer> = None;
            while let Some(row) = merged.next()? {
                count += 1;
                if count.is_multiple_of(PAUSE_ROWS) {
                    // A long merge must not keep those waiting who take new leaves over.
                    self.flush_frozen()?;
                }
                if table != Table::Customer {
                    if !dead.contains(row.index) {
                        writer.push(&row)?;
                    }
                    continue;
                }
                if customer.as_ref().is_some_and(|customer| customer.newest.key != row.key)
                    && let Some(row) = self.settle(customer.take(), &dead)?
                {
                    writer.push(&row)?;
                }
                customer = Some(Customer::with(customer, row, &dead));
            }
            if let Some(row) = self.settle(customer, &dead)? {
                writer.push(&row)?;
            }
        }
        let info = writer.finish()?;
        if info.least > info.highest {
            idtrail_port::wipe(&*files.disk, &path).map_err(failed("wiped", &path))?;
            return Ok(None);
        }
        files.disk.sync_dir(&files.dir).map_err(failed("synced", &files.dir))?;
        let replaced: u64 = group.iter().map(|run| run.filter_bytes).sum();
        let budget = self.filter_budget(files).saturating_add(replaced);
        Ok(Some(Arc::new(Run::open(&*files.disk, &path, info, budget)?)))
    }

    /// Returns the one row that stays of a customer's own id: the newest of a leaf that is there, or one that names
    /// another leaf of the same customer, or none.
    fn settle(&self, customer: Option<Customer>, dead: &IndexSet) -> Result<Option<Row>, IndexError> {
        let Some(customer) = customer else { return Ok(None) };
        if !dead.contains(customer.newest.index) {
            return Ok(Some(customer.newest));
        }
        let subject = pad(&customer.newest.customer());
        let other = self.last(Table::Subject, &subject, |row, _| !dead.contains(row.index))?;
        Ok(match other {
            Some(other) => Some(Row { index: other.index, ..customer.newest }),
            None => customer.newest_live,
        })
    }
}

/// What is known of one own id of a customer while its rows go by.
struct Customer {
    newest: Row,
    newest_live: Option<Row>,
}

impl Customer {
    fn with(before: Option<Self>, row: Row, dead: &IndexSet) -> Self {
        let live = (!dead.contains(row.index)).then_some(row);
        Self { newest: row, newest_live: live.or_else(|| before.and_then(|before| before.newest_live)) }
    }
}

/// Returns where eight neighbours of one level begin: the newest such place, because small runs are merged cheaply.
fn mergeable(runs: &[Arc<Run>]) -> Option<usize> {
    let starts = (0..=runs.len().checked_sub(FAN_IN)?).rev();
    starts.into_iter().find(|start| {
        let group = runs.get(*start..start + FAN_IN).unwrap_or_default();
        let level = group.first().map(|run| run.info.level);
        group.iter().all(|run| Some(run.info.level) == level)
    })
}

/// The rows of one table of several runs, in order, each once.
struct Merged<'a> {
    readers: Vec<(TableReader<'a>, Option<Row>)>,
    before: Option<Row>,
}

impl<'a> Merged<'a> {
    fn of(group: &'a [Arc<Run>], table: Table) -> Result<Self, IndexError> {
        let mut readers = Vec::with_capacity(group.len());
        for run in group {
            let mut reader = run.reader(table);
            let first = reader.next()?;
            readers.push((reader, first));
        }
        Ok(Self { readers, before: None })
    }

    fn next(&mut self) -> Result<Option<Row>, IndexError> {
        loop {
            let least = self.readers.iter_mut().filter(|(_, row)| row.is_some()).min_by_key(|(_, row)| *row);
            let Some((reader, row)) = least else { return Ok(None) };
            let found = row.take();
            *row = reader.next()?;
            if found != self.before {
                self.before = found;
                return Ok(found);
            }
        }
    }
}
