//! A device that reports success and stores something else: found by reading back, before anything is destroyed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use idtrail_port::{Disk, DiskFile, DiskLock, Open};
use idtrail_sim::SimDisk;
use idtrail_vault::{Epoch, ErrorKind, Vault, VaultError};

use crate::rig::{Rig, State, kek, shred};

/// Changes the last byte of one write, counted from 0.
struct Liar {
    disk: SimDisk,
    writes: Arc<AtomicU64>,
    lie: u64,
}

struct LiarFile {
    file: Box<dyn DiskFile>,
    writes: Arc<AtomicU64>,
    lie: u64,
}

impl Disk for Liar {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, how)?;
        Ok(Box::new(LiarFile { file, writes: Arc::clone(&self.writes), lie: self.lie }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
}

impl DiskFile for LiarFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        if self.writes.fetch_add(1, Ordering::SeqCst) == self.lie {
            *bytes.last_mut().unwrap() ^= 1;
        }
        self.file.write_all_at(&bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

#[test]
fn a_write_that_reads_back_differently_stops_the_shred() {
    // Two bodies, two new slots, two old slots erased.
    for lie in 0..6 {
        let rig = Rig::created();
        let disk = Liar { disk: rig.disk.clone(), writes: Arc::default(), lie };
        let entropy = Arc::new(rig.entropy.clone());
        let mut vault = Vault::open(Arc::new(disk), entropy, rig.paths.clone(), kek(), None).unwrap();
        let state = State::of(&vault);
        let error = shred(&mut vault).unwrap_err();
        assert!(matches!(error, VaultError::ReadBack(_)), "write {lie}: {error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        drop(vault);
        let vault = rig.open().unwrap();
        // From the second slot on, the first one is there and decides.
        let expected = if lie < 3 { (Epoch::FIRST, state) } else { (Epoch::FIRST.next(), state.shredded()) };
        assert_eq!((vault.epoch(), State::of(&vault)), expected, "write {lie}");
    }
}
