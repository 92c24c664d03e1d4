//! Where the events of a customer and of an interaction are, and which were there before. Follows the log; answers reads.
//!
//! The rows stand in sorted files beside the log ([`crate::store`]) and can be made from it again at any time. They hold
//! keyed hashes, random ids and log indices, never what a client sent.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use idtrail_event::GlobalCustomerId;
use idtrail_event::clear::ShredIntentItem;
use idtrail_log::commit::Told;
use idtrail_log::shell::Follower;
use idtrail_port::Disk;
use idtrail_tlog::{LogIndex, TreeSize};
use sha2::{Digest, Sha256};

use crate::IndexError;
use crate::facts::{Facts, Hasher, Key};
use crate::set::IndexSet;
use crate::store::table::{Row, Table, pad};
use crate::store::{Store, StoreLimits};

/// An event that was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) index: u64,
    pub(crate) content: Key,
}

/// The newest event of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) index: u64,
    pub(crate) sequence: u64,
}

/// How much memory the index takes, whatever the log's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupLimits {
    /// Rows in memory before they become a file; an event has three or four. 100 to 100 million.
    pub memory_rows_max: usize,
    /// Bytes of filters in memory; a filter saves a read for a key that a file does not hold.
    pub filter_bytes_max: u64,
}

impl Default for LookupLimits {
    fn default() -> Self {
        Self { memory_rows_max: 500_000, filter_bytes_max: 64 << 20 }
    }
}

/// Where the index is, and what it belongs to.
pub struct LookupOptions<'a> {
    /// The directory of its files, of nothing else.
    pub dir: &'a Path,
    /// The log's name.
    pub origin: &'a str,
    /// The keys under which rows stand.
    pub hasher: &'a Hasher,
    /// The epochs of the vault whose erasures the files may have taken over: the present one, and the one before if an
    /// open order is going to be finished.
    pub vault_epochs: RangeInclusive<u64>,
    /// Memory.
    pub limits: LookupLimits,
}

impl std::fmt::Debug for LookupOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LookupOptions").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// How large the index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupSize {
    /// Files.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of filters in memory.
    pub filter_bytes: u64,
}

/// The index, shared by all threads. Clones are handles to the same index.
#[derive(Clone)]
pub struct Lookup(Arc<Shared>);

struct Shared {
    store: Arc<Store>,
    background: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("applied", &self.applied()).finish_non_exhaustive()
    }
}

/// An index in memory alone, without files and without a bound: for small logs and for comparisons.
impl Default for Lookup {
    fn default() -> Self {
        Self::of(Store::in_memory())
    }
}

impl Lookup {
    fn of(store: Store) -> Self {
        Self(Arc::new(Shared { store: Arc::new(store), background: Mutex::default() }))
    }

    /// Opens the index. It is empty, and [`Lookup::applied`] 0, if there is none, if it is damaged, or if it belongs to
    /// another vault, log or epoch; then every leaf of the log has to be taken over again. Until
    /// [`Lookup::start_background`] whoever takes leaves over writes the files as well.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses.
    pub fn open(disk: Arc<dyn Disk>, options: &LookupOptions<'_>) -> Result<Self, IndexError> {
        let limits = StoreLimits {
            memory_rows_max: options.limits.memory_rows_max,
            filter_bytes_max: options.limits.filter_bytes_max,
        };
        let binding = options.hasher.binding(options.origin);
        let text: String = binding.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let epochs = options.vault_epochs.clone();
        Ok(Self::of(Store::open(disk, options.dir, limits, &text, epochs)?))
    }

    /// Wipes every file of an index that is not open; what is there afterwards is no index.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses.
    pub fn wipe(disk: &dyn Disk, dir: &Path) -> Result<(), IndexError> {
        Store::wipe(disk, dir)
    }

    /// Has files written, merged and wiped by a thread of its own from now on.
    ///
    /// # Errors
    /// As the operating system reports them.
    pub fn start_background(&self) -> Result<(), IndexError> {
        let store = Arc::clone(&self.0.store);
        let thread =
            std::thread::Builder::new().name("index".to_owned()).spawn(move || store.run_background());
        let thread = thread.map_err(|source| IndexError::Disk {
            action: "given a thread",
            path: "index".into(),
            source,
        })?;
        *self.0.background.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Ends the background thread and writes what is in memory, so that the next start reads nothing of the log again.
    ///
    /// # Errors
    /// `Unavailable`; the next start reads the log's tail then.
    pub fn close(&self) -> Result<(), IndexError> {
        self.0.store.end();
        let thread = self.0.background.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread of the index had ended early");
        }
        self.0.store.flush()
    }

    /// Writes what is in memory and does all work that the background would do.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses.
    pub fn settle(&self) -> Result<(), IndexError> {
        self.0.store.flush()?;
        self.0.store.work();
        Ok(())
    }

    /// Reads every byte of the index's files.
    ///
    /// # Errors
    /// `Damaged` for the first difference; the next start builds the index anew.
    pub fn check(&self) -> Result<(), IndexError> {
        self.0.store.check()
    }

    /// Returns how large the index is.
    pub fn size(&self) -> LookupSize {
        let (files, bytes, filter_bytes) = self.0.store.size();
        LookupSize { files, bytes, filter_bytes }
    }

    /// Takes over one leaf.
    pub fn fold(&self, index: LogIndex, facts: &Facts) {
        self.0.store.fold(index.get(), std::iter::once(Some(facts)));
    }

    /// Takes over that a leaf cannot be read.
    pub fn skip(&self, index: LogIndex) {
        self.0.store.fold(index.get(), std::iter::once(None));
    }

    /// Returns up to where leaves were taken over.
    pub fn applied(&self) -> TreeSize {
        TreeSize::new(self.0.store.applied())
    }

    /// Returns the newest receipt time in the log, milliseconds since 1970.
    pub fn received_ms(&self) -> u64 {
        self.0.store.meta().received_ms
    }

    /// Returns the customer of a client's own customer id.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn customer(&self, key: &Key) -> Result<Option<GlobalCustomerId>, IndexError> {
        let customer = |row: Row| GlobalCustomerId::new(row.customer());
        let hidden = std::cell::Cell::new(false);
        let newest = self.0.store.last(Table::Customer, key.as_bytes(), |_, is_hidden| {
            hidden.set(is_hidden);
            true
        })?;
        let Some(newest) = newest.map(customer) else { return Ok(None) };
        // The row names the newest leaf with this id. If that was shredded, another one may still be there.
        if !hidden.get() || self.head(newest)?.is_some() {
            return Ok(Some(newest));
        }
        let older = self.0.store.last(Table::Customer, key.as_bytes(), |_, hidden| !hidden)?;
        Ok(older.map(customer))
    }

    /// Returns the indices of a customer's events, in order.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn subject(&self, subject: GlobalCustomerId) -> Result<Vec<LogIndex>, IndexError> {
        self.subject_page(subject, LogIndex::new(0), usize::MAX)
    }

    /// Returns the indices of at most `limit` of a customer's events, in order, from the index `from` on.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn subject_page(
        &self,
        subject: GlobalCustomerId,
        from: LogIndex,
        limit: usize,
    ) -> Result<Vec<LogIndex>, IndexError> {
        self.indices(Table::Subject, &pad(subject.as_bytes()), from, limit)
    }

    /// Returns the indices of an interaction's events, in order.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn interaction(&self, key: &Key) -> Result<Vec<LogIndex>, IndexError> {
        self.interaction_page(key, LogIndex::new(0), usize::MAX)
    }

    /// Returns the indices of at most `limit` of an interaction's events, in order, from the index `from` on.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn interaction_page(
        &self,
        key: &Key,
        from: LogIndex,
        limit: usize,
    ) -> Result<Vec<LogIndex>, IndexError> {
        self.indices(Table::Interaction, key.as_bytes(), from, limit)
    }

    fn indices(
        &self,
        table: Table,
        key: &[u8; 32],
        from: LogIndex,
        limit: usize,
    ) -> Result<Vec<LogIndex>, IndexError> {
        let rows = self.0.store.rows(table, key, from.get(), limit)?;
        Ok(rows.into_iter().map(|row| LogIndex::new(row.index)).collect())
    }

    /// Returns the event that was there before under the same id.
    pub(crate) fn seen(
        &self,
        dedupe: &Key,
        content: &Key,
        content_is_id: bool,
    ) -> Result<Option<Seen>, IndexError> {
        let table = if content_is_id { Table::SeenContent } else { Table::SeenId };
        let row = self.0.store.last(table, dedupe.as_bytes(), |_, hidden| !hidden)?;
        // Where the content is the id, equal ids are equal contents.
        Ok(row.map(|row| Seen {
            index: row.index,
            content: if content_is_id { *content } else { Key::new(row.value) },
        }))
    }

    pub(crate) fn head(&self, subject: GlobalCustomerId) -> Result<Option<Head>, IndexError> {
        let row = self.0.store.last(Table::Subject, &pad(subject.as_bytes()), |_, hidden| !hidden)?;
        Ok(row.map(|row| Head { index: row.index, sequence: row.number() }))
    }

    /// Returns the shreds that were announced and have no outcome in the log yet, by request.
    pub fn open_shreds(&self) -> BTreeMap<String, ShredIntentItem> {
        self.0.store.meta().open
    }

    /// Returns the leaf that holds the outcome of a shred.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn shredded(&self, request_id: &str) -> Result<Option<LogIndex>, IndexError> {
        let row = self.0.store.last(Table::Request, &request_key(request_id), |_, hidden| !hidden)?;
        Ok(row.map(|row| LogIndex::new(row.index)))
    }

    /// Returns the newest epoch of the vault that the log tells of; 0 if it tells of none.
    pub fn epoch_in_log(&self) -> u64 {
        self.0.store.meta().epoch_in_log
    }

    /// Hides every row of leaves whose keys were destroyed, durably, and has them dropped from the files.
    ///
    /// # Errors
    /// [`IndexError`]; to be repeated then.
    pub fn forget(&self, dead: &IndexSet) -> Result<(), IndexError> {
        self.0.store.forget(dead)
    }

    /// Notes the vault's epoch up to which erasures have been taken over. An index whose note is older than the vault
    /// is built anew at the next start.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn note_epoch(&self, epoch: u64) -> Result<(), IndexError> {
        self.0.store.note_epoch(epoch)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Without a close nothing is lost: the next start reads the log's tail again.
        self.store.end();
        let thread = self.background.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// A request's id is no secret and names no person, so a plain hash makes it a key.
pub(crate) fn request_key(request_id: &str) -> [u8; 32] {
    Sha256::digest(request_id.as_bytes()).into()
}

impl Follower<Facts> for Lookup {
    fn apply(&mut self, told: Told<Facts>) {
        self.0.store.fold(told.first.get(), told.facts.iter().map(Some));
    }
}
