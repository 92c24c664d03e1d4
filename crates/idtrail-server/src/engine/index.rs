//! The index of an installation: opened with the vault's state in mind, kept up with the log, built anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idtrail_index::IndexError;
use idtrail_index::facts::Hasher;
use idtrail_index::lookup::{Lookup, LookupLimits, LookupOptions};
use idtrail_log::recovery::{self, Options};
use idtrail_tlog::{LogIndex, SignerKey, TreeSize};
use idtrail_vault::{Epoch, HighWater, Kek, Vault};

use super::origins::{self, Earlier, take_over};
use super::{EngineError, Ports, State, shredding_path, vault_paths};
use crate::settings::Settings;

/// Returns the directory of a log's index in a data directory.
pub fn index_directory(data_dir: &Path, number: u32) -> PathBuf {
    data_dir.join(if number == 0 { "index".to_owned() } else { format!("index-{number:04}") })
}

/// Opens the index of a log. It starts empty if it cannot have taken over every erasure that the vault knows of.
pub(super) fn open(
    ports: &Ports,
    settings: &Settings,
    hasher: &Hasher,
    epoch: Epoch,
    (number, origin): (u32, &str),
) -> Result<Lookup, EngineError> {
    let pending = shredding_path(&settings.data_dir);
    let open_order = ports
        .disk
        .exists(&pending)
        .map_err(|source| EngineError::Directory { path: settings.data_dir.clone(), source })?;
    // What an open order has destroyed already is taken over when it is finished, before anybody can ask.
    let oldest = epoch.get() - u64::from(open_order);
    let options = LookupOptions {
        dir: &index_directory(&settings.data_dir, number),
        origin,
        hasher,
        vault_epochs: oldest..=epoch.get(),
        limits: LookupLimits::default(),
    };
    Ok(Lookup::open(Arc::clone(&ports.disk), &options)?)
}

/// What an index was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Leaves that were read.
    pub leaves: u64,
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
    let past = origins::chain(&*ports.disk, &settings.data_dir, &settings.origin, number)?;
    let origin = origins::name(&settings.origin, number);
    let (Some(keyring), Some(seed)) = (vault.keyring(&origin), vault.signing_seed(&origin)) else {
        return Err(EngineError::Foreign);
    };
    let hasher = Hasher::new(&settings.tenant, vault.dedupe_key().expose(), vault.index_key().expose());
    let mut done = Rebuilt { leaves: 0, files: 0, bytes: 0 };
    for past in &past {
        Lookup::wipe(&*ports.disk, &index_directory(&settings.data_dir, past.number))?;
        let earlier = Earlier::open(ports, settings, &vault, &hasher, past)?;
        done.finish(&earlier.lookup)?;
        progress(done.leaves, done.leaves);
    }
    let before = done.leaves;
    Lookup::wipe(&*ports.disk, &index_directory(&settings.data_dir, number))?;
    let lookup = open(ports, settings, &hasher, vault.epoch(), (number, &origin))?;
    let known = HighWater::open(Arc::clone(&ports.disk), &settings.vault.anchors)?.size(&origin);
    let directory = origins::directory(&settings.data_dir, number);
    let options = Options {
        dir: &directory,
        origin: &origin,
        segment_bytes: settings.segment_bytes,
        known_size: TreeSize::new(known),
    };
    let signer = SignerKey::from_seed(&origin, seed.expose())?;
    // Writing goes on beside reading.
    lookup.start_background()?;
    let (committer, _) = recovery::open(&ports.disk, &options, Box::new(signer), &mut |index, bytes| {
        progress(before + index.get(), before + known);
        take_over(&keyring, &hasher, &lookup, index, bytes)
    })?;
    done.finish(&lookup)?;
    recovery::mark_clean(&*ports.disk, &directory, committer.reader())?;
    Ok(done)
}

impl Rebuilt {
    fn finish(&mut self, lookup: &Lookup) -> Result<(), IndexError> {
        lookup.settle()?;
        lookup.close()?;
        self.add(lookup);
        Ok(())
    }

    fn add(&mut self, lookup: &Lookup) {
        let size = lookup.size();
        self.leaves += lookup.applied().get();
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
    let past = origins::chain(&*ports.disk, &settings.data_dir, &settings.origin, newest)?;
    let mut done = Rebuilt { leaves: 0, files: 0, bytes: 0 };
    for number in past.iter().map(|past| past.number).chain([newest]) {
        let name = origins::name(&settings.origin, number);
        let lookup = open(ports, settings, &hasher, vault.epoch(), (number, &name))?;
        lookup.check()?;
        done.add(&lookup);
    }
    Ok(done)
}

impl State {
    /// Makes the index anew if it knows leaves that the log does not have: then it is not the index of this log.
    pub(super) fn keep_up(
        &mut self,
        ports: &Ports,
        settings: &Settings,
        epoch: Epoch,
        reader: &idtrail_log::reader::Reader,
    ) -> Result<(), EngineError> {
        let size = reader.size();
        if self.lookup.applied() > size {
            tracing::warn!("the index is ahead of the log, and is built anew");
            Lookup::wipe(&*ports.disk, &index_directory(&settings.data_dir, self.number))?;
            let log = (self.number, self.keyring.origin());
            self.lookup = open(ports, settings, &self.hasher, epoch, log)?;
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
