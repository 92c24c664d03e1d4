//! Writes the files. All work is on a thread that may block.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use idtrail_port::{Disk, Privacy, create_dir_durable, read_whole, write_atomic};

use super::config::FilesConfig;
use super::content::{encode, keys};
use super::request::PartName;
use crate::engine::{Ack, Batch, Cursor, Limits, Mode, Opened};
use crate::feed::BoxFuture;
use crate::position::Position;
use crate::row::Column;
use crate::sink::{Grants, Sink};
use crate::verdict::{Failure, Status};

/// Largest file that is read again, to see which rows it holds.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes of rows in one file before it is compressed; two and a half times that is held in memory at most.
const FILE_ROWS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Delivers to a directory.
pub struct FilesSink {
    work: Arc<Work>,
}

struct Work {
    config: FilesConfig,
    columns: Vec<Column>,
    disk: Arc<dyn Disk>,
}

impl std::fmt::Debug for FilesSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilesSink").field("config", &self.work.config).finish_non_exhaustive()
    }
}

impl FilesSink {
    /// Makes a sink.
    pub fn new(config: FilesConfig, columns: Vec<Column>, disk: Arc<dyn Disk>) -> Self {
        Self { work: Arc::new(Work { config, columns, disk }) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Work) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let shared = self.work.clone();
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::reopen("interrupted", Status::none())),
        }
    }
}

impl Sink for FilesSink {
    fn limits(&self) -> Limits {
        Limits {
            rows_max: self.work.config.rows_max.max(1),
            bytes_max: FILE_ROWS_BYTES_MAX,
            linger_ms: self.work.config.linger_ms,
            notes_intent: false,
            saves_every_batch: false,
            keyed: true,
        }
    }

    fn open<'a>(&'a mut self, _: &'a Cursor) -> BoxFuture<'a, Result<Opened, Failure>> {
        Box::pin(self.blocking(Work::open))
    }

    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Ack, Failure>> {
        let batch = batch.clone();
        Box::pin(self.blocking(move |work| work.deliver(&batch)))
    }

    fn count(&mut self, first: Position, last: Position) -> BoxFuture<'_, Result<Option<u64>, Failure>> {
        Box::pin(self.blocking(move |work| work.count(first, last).map(Some)))
    }

    fn grants(&mut self) -> BoxFuture<'_, Result<Grants, Failure>> {
        let reason = "files belong to whoever may write the directory".to_owned();
        Box::pin(std::future::ready(Ok(Grants::Unknown { reason })))
    }
}

impl Work {
    fn extension(&self) -> &'static str {
        self.config.format.extension()
    }

    fn parts(&self) -> Result<Vec<PartName>, Failure> {
        let names = self.disk.list(&self.config.dir).map_err(|error| verdict(&error))?;
        Ok(names.iter().filter_map(|name| PartName::read(name, self.extension())).collect())
    }

    fn open(&self) -> Result<Opened, Failure> {
        create_dir_durable(&*self.disk, &self.config.dir).map_err(|error| verdict(&error))?;
        // What a power cut left beside; never renamed, so never part of the warehouse.
        for name in self.disk.list(&self.config.dir).map_err(|error| verdict(&error))? {
            if name.strip_suffix(".tmp").and_then(|name| PartName::read(name, self.extension())).is_some() {
                self.disk.remove(&self.config.dir.join(name)).map_err(|error| verdict(&error))?;
            }
        }
        // A directory entry seen here may not be durable yet; what is settled by it must be.
        self.disk.sync_dir(&self.config.dir).map_err(|error| verdict(&error))?;
        let high_water = self.parts()?.iter().map(|part| part.last).max();
        Ok(Opened { high_water, ..Opened::default() })
    }

    fn deliver(&self, batch: &Batch) -> Result<Ack, Failure> {
        let mut name = PartName { first: batch.first(), last: batch.last(), again: None };
        let mut rows = batch.clone();
        if batch.mode == Mode::Keyed {
            let parts = self.parts()?;
            let near = parts.iter().filter(|part| part.first <= name.last && name.first <= part.last);
            let mut there = BTreeSet::new();
            for part in near {
                there.extend(self.keys(&self.config.dir.join(part.write(self.extension())))?);
            }
            rows.rows.retain(|row| !there.contains(&row.position));
            if rows.rows.is_empty() {
                return Ok(Ack::default());
            }
            name = PartName { first: rows.first(), last: rows.last(), again: Some(1) };
            while parts.contains(&name) {
                name.again = name.again.map(|again| again + 1);
            }
        }
        let bytes = encode(self.config.format, &rows, &self.columns)?;
        let path = self.config.dir.join(name.write(self.extension()));
        write_atomic(&*self.disk, &path, &bytes, Privacy::Owner).map_err(|error| verdict(&error))?;
        Ok(Ack::default())
    }

    fn count(&self, first: Position, last: Position) -> Result<u64, Failure> {
        let mut count = 0;
        for part in self.parts()?.iter().filter(|part| part.first <= last && first <= part.last) {
            let places = self.keys(&self.config.dir.join(part.write(self.extension())))?;
            count += places.iter().filter(|place| (first..=last).contains(place)).count() as u64;
        }
        Ok(count)
    }

    /// Returns the places of a file's rows.
    fn keys(&self, path: &Path) -> Result<Vec<Position>, Failure> {
        let bytes = read_whole(&*self.disk, path, FILE_BYTES_MAX).map_err(|error| verdict(&error))?;
        keys(self.config.format, bytes)
    }
}

/// After a failed write nobody knows whether the file is there: it is looked for when the session is opened anew.
fn verdict(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Failure::stop("directory_denied", Status::none())
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::reopen("disk_full", Status::none())
        }
        _ => Failure::reopen("disk", Status::none()),
    }
}
