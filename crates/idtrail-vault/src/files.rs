//! Single files of the vault: whole writes that are read back, and anchor cells with their two slots.
//!
//! Everything that is read before a decision is first synced and read past the page cache: after a crash of the
//! process alone the cache may show what never reached the medium, and after a failed sync it shows what never will.
//! Nothing here decides; the order of the steps is in [`crate::store`].

use std::io;
use std::path::{Path, PathBuf};

use idtrail_port::{Disk, DiskFile, Open, Privacy, create_dir_durable};

use crate::VaultError;
use crate::seal::{SLOT_BYTES, Slot};

/// A body of 4 GiB holds the seeds of about 18 million leaves erased one by one.
pub(crate) const BODY_BYTES_MAX: u64 = 4 << 30;
const CELL_BYTES: usize = 2 * SLOT_BYTES;

/// Adds what was being done, and to which file.
pub(crate) fn during<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T, VaultError> {
    result.map_err(|source| VaultError::Io { action, path: path.to_owned(), source })
}

/// Returns the directory of a file, `.` for a bare name.
pub(crate) fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file under a name that must not be in use afterwards by anything else, durably, and reads it back.
pub(crate) fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), VaultError> {
    if during("looked up", path, disk.exists(path))? {
        during("removed", path, disk.remove(path))?;
    }
    let file = during("created", path, disk.open(path, Open::CreateNew(Privacy::Owner)))?;
    during("written", path, file.write_all_at(bytes, 0))?;
    during("synced", path, file.sync_data())?;
    during("synced", dir_of(path), disk.sync_dir(dir_of(path)))?;
    check_written(path, &*file, bytes, 0)
}

/// Replaces a file: after any crash it has its old content or the new one. The new one is read back first.
pub(crate) fn write_over(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), VaultError> {
    let temporary = idtrail_port::append_extension(path, "tmp");
    write_new(disk, &temporary, bytes)?;
    during("replaced", path, disk.rename(&temporary, path))?;
    during("synced", dir_of(path), disk.sync_dir(dir_of(path)))
}

/// Removes a file, durably; true if there was one.
pub(crate) fn remove(disk: &dyn Disk, path: &Path) -> Result<bool, VaultError> {
    match disk.remove(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(VaultError::Io { action: "removed", path: path.to_owned(), source }),
    }
    during("synced", dir_of(path), disk.sync_dir(dir_of(path)))?;
    Ok(true)
}

fn check_written(path: &Path, file: &dyn DiskFile, bytes: &[u8], offset: u64) -> Result<(), VaultError> {
    during("dropped from the cache", path, file.drop_cache())?;
    let mut found = vec![0; bytes.len()];
    during("read back", path, file.read_exact_at(&mut found, offset))?;
    if found == bytes { Ok(()) } else { Err(VaultError::ReadBack(path.to_owned())) }
}

/// What stands in one of a cell's two places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Zeros.
    Clean,
    /// A whole slot.
    Used(Slot),
    /// The rest of a write or of an erasure that was cut short, or rot.
    Torn,
}

/// An anchor cell: a file with two places for slots, of which one is in use between writes.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) path: PathBuf,
    /// Absent if there is no such file.
    pub(crate) places: Option<[Place; 2]>,
}

impl Cell {
    /// Reads a cell as it is on the medium.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Self, VaultError> {
        Self::read_as(disk, path, Open::Write)
    }

    /// Reads a cell as it is in the cache, without touching it: to look beside the process that owns it.
    pub(crate) fn peek(disk: &dyn Disk, path: &Path) -> Result<Self, VaultError> {
        Self::read_as(disk, path, Open::Read)
    }

    fn read_as(disk: &dyn Disk, path: &Path, how: Open) -> Result<Self, VaultError> {
        let absent = Self { path: path.to_owned(), places: None };
        let file = match disk.open(path, how) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(absent),
            Err(source) => return Err(VaultError::Io { action: "opened", path: path.to_owned(), source }),
        };
        if how == Open::Write {
            during("synced", path, file.sync_data())?;
            during("dropped from the cache", path, file.drop_cache())?;
        }
        let length = during("measured", path, file.len())?;
        if length > CELL_BYTES as u64 {
            // Not a cell, but some file that the configuration names by mistake: never write to it.
            return Err(VaultError::Foreign(path.to_owned()));
        }
        // A shorter file is a cell whose creation was cut short; what is missing counts as zeros.
        let mut bytes = vec![0; CELL_BYTES];
        let part = bytes.get_mut(..usize::try_from(length).unwrap_or(CELL_BYTES)).unwrap_or_default();
        during("read", path, file.read_exact_at(part, 0))?;
        let (first, second) = bytes.split_at(SLOT_BYTES);
        Ok(Self { path: path.to_owned(), places: Some([Place::parse(first), Place::parse(second)]) })
    }

    /// Returns the whole slots of the cell.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.places.iter().flatten().filter_map(|place| match place {
            Place::Used(slot) => Some(slot),
            Place::Clean | Place::Torn => None,
        })
    }

    /// Returns where `wanted` stands, or else, as an error, the place to write a slot to: one without a whole slot,
    /// otherwise the older one.
    pub(crate) fn place_of(&self, wanted: impl Fn(&Slot) -> bool) -> Result<usize, usize> {
        let Some(places) = &self.places else { return Err(0) };
        let rank = |place: &Place| match place {
            Place::Used(slot) => Some((slot.epoch, slot.sequence)),
            Place::Clean | Place::Torn => None,
        };
        let [first, second] = places;
        let newest_first = if rank(first) >= rank(second) { [0, 1] } else { [1, 0] };
        for at in newest_first {
            if matches!(places.get(at), Some(Place::Used(slot)) if wanted(slot)) {
                return Ok(at);
            }
        }
        Err(newest_first[1])
    }

    /// Returns the number that a slot written now must have.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.slots().map(|slot| slot.sequence).max().unwrap_or(0).saturating_add(1)
    }

    /// Writes a slot durably to a place, creating the file if need be, and reads it back.
    pub(crate) fn write(&self, disk: &dyn Disk, at: usize, slot: &Slot) -> Result<(), VaultError> {
        let bytes = slot.to_bytes();
        if self.places.is_some() {
            return self.write_place(disk, at, &bytes);
        }
        let dir = dir_of(&self.path);
        during("created", dir, create_dir_durable(disk, dir))?;
        let mut cell = bytes;
        cell.resize(CELL_BYTES, 0);
        if at == 1 {
            cell.rotate_right(SLOT_BYTES);
        }
        write_new(disk, &self.path, &cell)
    }

    /// Overwrites a place with zeros, durably, and reads them back: this is what erases.
    pub(crate) fn erase(&self, disk: &dyn Disk, at: usize) -> Result<(), VaultError> {
        self.write_place(disk, at, &[0; SLOT_BYTES])
    }

    fn write_place(&self, disk: &dyn Disk, at: usize, bytes: &[u8]) -> Result<(), VaultError> {
        let path = &self.path;
        let offset = (at * SLOT_BYTES) as u64;
        let file = during("opened", path, disk.open(path, Open::Write))?;
        during("written", path, file.write_all_at(bytes, offset))?;
        during("synced", path, file.sync_data())?;
        check_written(path, &*file, bytes, offset)
    }
}

impl Place {
    fn parse(bytes: &[u8]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Clean;
        }
        Slot::parse(bytes).map_or(Self::Torn, Self::Used)
    }
}
