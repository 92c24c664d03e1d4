//! The indices of an installation, of its log and its access log: opened with the vault's state in mind, kept up with the log, built anew.

use std::path::Path;
use std::sync::Arc;

use idtrail_index::IndexError;
use idtrail_index::facts::Hasher;
use idtrail_index::lookup::{Lookup, LookupLimits, LookupOptions};
use idtrail_log::recovery::{self, Options};
use idtrail_tlog::{LogIndex, TreeSize};
use idtrail_vault::{Epoch, HighWater, Kek, Vault};

use super::origins::{self, Earlier, Kind, Place, Reading};
use super::{
    EngineError, Ports, State, access_shredding_path, customers_path, shredding_path, snapshot, vault_paths,
};
use crate::settings::Settings;

/// Opens the index of a log. It starts empty if it cannot have taken over every erasure that the vault knows of.
pub(super) fn open(
    ports: &Ports,
    settings: &Settings,
    place: &Place,
    hasher: &Hasher,
    epoch: Epoch,
) -> Result<Lookup, EngineError> {
    // What an open order has destroyed already is taken over when it is finished, before anybody can ask. Each of the
    // two logs may have one, and an epoch of either is one of the vault; the note of customers is there until both
    // indices know the epoch of the other log's order.
    let mut oldest = epoch.get();
    let dir = &settings.data_dir;
    for pending in [shredding_path(dir), access_shredding_path(dir), customers_path(dir)] {
        let open_order = ports
            .disk
            .exists(&pending)
            .map_err(|source| EngineError::Directory { path: settings.data_dir.clone(), source })?;
        oldest = oldest.saturating_sub(u64::from(open_order));
    }
    let options = LookupOptions {
        dir: &place.index,
        origin: &place.origin,
        hasher,
        vault_epochs: oldest..=epoch.get(),
        limits: LookupLimits::default(),
    };
    Ok(Lookup::open(Arc::clone(&ports.disk), &options)?)
}

/// What an index was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Leaves of the log that were read.
    pub leaves: u64,
    /// Leaves of the access log that were read.
    pub access_leaves: u64,
    /// Files and bytes of the index afterwards.
    pub files: usize,
    /// Bytes of those files.
    pub bytes: u64,
}

/// Builds the index anew from the log and the vault, of an installation that is not open. `progress` is told of the
/// leaves read and of a lower bound of how many there are.
///
/// # Errors
/// [`EngineError`]; the next start finishes what is missing.
pub fn rebuild(
    ports: &Ports,
    settings: &Settings,
    kek: Kek,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rebuilt, EngineError> {
    let _lock = recovery::lock(&*ports.disk, &settings.data_dir)?;
    let (disk, entropy) = (Arc::clone(&ports.disk), Arc::clone(&ports.entropy));
    let vault = Vault::open(disk, entropy, vault_paths(settings), kek, None)?;
    let number = origins::newest(&vault, &settings.origin).ok_or(EngineError::Foreign)?;
    snapshot::remove(&*ports.disk, &settings.data_dir)
        .map_err(|source| EngineError::Directory { path: settings.data_dir.clone(), source })?;
    let hasher = &Hasher::new(&settings.tenant, vault.dedupe_key().expose(), vault.index_key().expose());
    let mut done = Rebuilt { leaves: 0, access_leaves: 0, files: 0, bytes: 0 };
    for kind in [Kind::Events, Kind::Access] {
        let place = Place::new(kind, &settings.data_dir, &settings.origin, number);
        // An installation that was never started by a version with an access log has none yet.
        if kind == Kind::Access && (vault.keyring(&place.origin).is_none() || !exists(ports, &place.log)?) {
            continue;
        }
        for past in origins::chain(&*ports.disk, kind, (&settings.data_dir, &settings.origin), number)? {
            let index = Place::new(kind, &settings.data_dir, &settings.origin, past.number).index;
            Lookup::wipe(&*ports.disk, &index)?;
            let earlier = Earlier::open(ports, settings, (&vault, hasher), (kind, &past), None)?;
            done.finish(kind, &earlier.lookup)?;
            progress(done.leaves, done.leaves);
        }
        let before = done.leaves;
        let mut told = |index: u64, known: u64| {
            if kind == Kind::Events {
                progress(before + index, before + known);
            }
        };
        let lookup = rebuild_one(ports, settings, (&vault, hasher), &place, &mut told)?;
        done.finish(kind, &lookup)?;
    }
    Ok(done)
}

fn exists(ports: &Ports, path: &Path) -> Result<bool, EngineError> {
    let there = ports.disk.exists(path);
    there.map_err(|source| EngineError::Directory { path: path.to_owned(), source })
}

/// Builds the index of a log anew that is written to.
fn rebuild_one(
    ports: &Ports,
    settings: &Settings,
    (vault, hasher): (&Vault, &Hasher),
    place: &Place,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Lookup, EngineError> {
    let (Some(keyring), Some(signer)) = (vault.keyring(&place.origin), place.signer(vault)?) else {
        return Err(EngineError::Foreign);
    };
    Lookup::wipe(&*ports.disk, &place.index)?;
    let lookup = open(ports, settings, place, hasher, vault.epoch())?;
    let known = HighWater::open(Arc::clone(&ports.disk), &settings.vault.anchors)?.size(&place.origin);
    let options = Options {
        dir: &place.log,
        origin: &place.origin,
        segment_bytes: settings.segment_bytes,
        known_size: TreeSize::new(known),
    };
    // Writing goes on beside reading.
    lookup.start_background()?;
    let reading = Reading { keyring: &keyring, hasher, lookup: &lookup, identity: None };
    let (committer, _) = recovery::open(&ports.disk, &options, Box::new(signer), &mut |index, bytes| {
        progress(index.get(), known);
        reading.take(index, bytes)
    })?;
    lookup.settle()?;
    recovery::mark_clean(&*ports.disk, &place.log, committer.reader())?;
    Ok(lookup)
}

impl Rebuilt {
    fn finish(&mut self, kind: Kind, lookup: &Lookup) -> Result<(), IndexError> {
        lookup.settle()?;
        lookup.close()?;
        self.add(kind, lookup);
        Ok(())
    }

    fn add(&mut self, kind: Kind, lookup: &Lookup) {
        let size = lookup.size();
        *match kind {
            Kind::Events => &mut self.leaves,
            Kind::Access => &mut self.access_leaves,
        } += lookup.applied().get();
        self.files += size.files;
        self.bytes += size.bytes;
    }
}

/// Reads every byte of the index of an installation that is not open.
///
/// # Errors
/// [`EngineError::Index`] with the first difference; the next start builds the index anew then.
pub fn check(ports: &Ports, settings: &Settings, kek: Kek) -> Result<Rebuilt, EngineError> {
    let _lock = recovery::lock(&*ports.disk, &settings.data_dir)?;
    let (disk, entropy) = (Arc::clone(&ports.disk), Arc::clone(&ports.entropy));
    let vault = Vault::open(disk, entropy, vault_paths(settings), kek, None)?;
    let hasher = Hasher::new(&settings.tenant, vault.dedupe_key().expose(), vault.index_key().expose());
    let newest = origins::newest(&vault, &settings.origin).ok_or(EngineError::Foreign)?;
    let mut done = Rebuilt { leaves: 0, access_leaves: 0, files: 0, bytes: 0 };
    for kind in [Kind::Events, Kind::Access] {
        let past = origins::chain(&*ports.disk, kind, (&settings.data_dir, &settings.origin), newest)?;
        for number in past.iter().map(|past| past.number).chain([newest]) {
            let place = Place::new(kind, &settings.data_dir, &settings.origin, number);
            if kind == Kind::Access && vault.keyring(&place.origin).is_none() {
                continue;
            }
            let lookup = open(ports, settings, &place, &hasher, vault.epoch())?;
            lookup.check()?;
            done.add(kind, &lookup);
        }
    }
    Ok(done)
}

impl State {
    /// Makes the index anew if it knows leaves that the log does not have: then it is not the index of this log.
    pub(super) fn keep_up(
        &mut self,
        ports: &Ports,
        settings: &Settings,
        place: &Place,
        epoch: Epoch,
        reader: &idtrail_log::reader::Reader,
    ) -> Result<(), EngineError> {
        let size = reader.size();
        if self.lookup.applied() > size {
            tracing::warn!("the index is ahead of the log, and is built anew");
            Lookup::wipe(&*ports.disk, &place.index)?;
            self.lookup = open(ports, settings, place, &self.hasher, epoch)?;
            for index in (0..size.get()).map(LogIndex::new) {
                let bytes = reader.entry(index)?;
                self.read(index, &bytes)
                    .map_err(|source| idtrail_log::LogError::Visitor { index, source })?;
            }
        }
        Ok(self.lookup.start_background()?)
    }
}

impl From<IndexError> for EngineError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}
