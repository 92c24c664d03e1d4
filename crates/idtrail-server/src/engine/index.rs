//! The indices of an installation, of its log and its access log: opened with the vault's state in mind, kept up with the log, built anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idtrail_index::IndexError;
use idtrail_index::facts::Hasher;
use idtrail_index::lookup::{Lookup, LookupLimits, LookupOptions};
use idtrail_log::recovery::{self, Options};
use idtrail_tlog::{LogIndex, SignerKey, TreeSize};
use idtrail_vault::{Epoch, HighWater, Kek, Keyring, Secret32, Vault};
use idtrail_verify::access_origin;

use super::access::access_directory;
use super::{
    EngineError, Ports, State, access_shredding_path, customers_path, log_dir, shredding_path, vault_paths,
};
use crate::settings::Settings;

/// Returns the directory of the index in a data directory.
pub fn index_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("index")
}

/// One of the two logs with its index.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The log's name.
    pub(super) origin: String,
    /// The directory of its index.
    pub(super) index: PathBuf,
    /// The directory of the log itself.
    pub(super) log: PathBuf,
}

impl Place {
    /// Returns where the log of events is.
    pub(super) fn events(settings: &Settings) -> Self {
        Self {
            origin: settings.origin.clone(),
            index: index_directory(&settings.data_dir),
            log: log_dir(&settings.data_dir),
        }
    }

    /// Returns where the access log is.
    pub(super) fn access(settings: &Settings) -> Self {
        Self {
            origin: access_origin(&settings.origin),
            index: settings.data_dir.join("access-index"),
            log: access_directory(&settings.data_dir),
        }
    }
}

/// Opens the index. It starts empty if it cannot have taken over every erasure that the vault knows of.
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
    let origin = settings.origin.as_str();
    let (Some(keyring), Some(seed)) = (vault.keyring(origin), vault.signing_seed(origin)) else {
        return Err(EngineError::Foreign);
    };
    let hasher = Hasher::new(&settings.tenant, vault.dedupe_key().expose(), vault.index_key().expose());
    let hasher = Arc::new(hasher);
    let events = Place::events(settings);
    let mut rebuilt = rebuild_one(ports, settings, (&vault, &keyring, &seed), &events, &hasher, progress)?;
    let access = Place::access(settings);
    // An installation that was never started by a version with an access log has none yet.
    if let Some(keyring) = vault.keyring(&access.origin)
        && ports
            .disk
            .exists(&access.log)
            .map_err(|source| EngineError::Directory { path: access.log.clone(), source })?
    {
        let all = rebuild_one(ports, settings, (&vault, &keyring, &seed), &access, &hasher, &mut |_, _| {})?;
        rebuilt.files += all.files;
        rebuilt.bytes += all.bytes;
        rebuilt.access_leaves = all.leaves;
    }
    Ok(rebuilt)
}

fn rebuild_one(
    ports: &Ports,
    settings: &Settings,
    (vault, keyring, seed): (&Vault, &Keyring, &Secret32),
    place: &Place,
    hasher: &Arc<Hasher>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rebuilt, EngineError> {
    Lookup::wipe(&*ports.disk, &place.index)?;
    let lookup = open(ports, settings, place, hasher, vault.epoch())?;
    let known = HighWater::open(Arc::clone(&ports.disk), &settings.vault.anchors)?.size(&place.origin);
    let suppression = vault.suppression().clone();
    let identity = idtrail_index::identity::Identity::default();
    let mut state =
        State { hasher: Arc::clone(hasher), keyring: keyring.clone(), suppression, lookup, identity };
    let options = Options {
        dir: &place.log,
        origin: &place.origin,
        segment_bytes: settings.segment_bytes,
        known_size: TreeSize::new(known),
    };
    let signer = SignerKey::from_seed(&place.origin, seed.expose())?;
    // Writing goes on beside reading.
    state.lookup.start_background()?;
    let (committer, opened) =
        recovery::open(&ports.disk, &options, Box::new(signer), &mut |index, bytes| {
            progress(index.get(), known);
            state.read(index, bytes)
        })?;
    state.lookup.settle()?;
    state.lookup.close()?;
    recovery::mark_clean(&*ports.disk, &place.log, committer.reader())?;
    let size = state.lookup.size();
    Ok(Rebuilt { leaves: opened.size.get(), access_leaves: 0, files: size.files, bytes: size.bytes })
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
    let check = |place: &Place| {
        let lookup = open(ports, settings, place, &hasher, vault.epoch())?;
        lookup.check()?;
        Ok::<_, EngineError>((lookup.applied().get(), lookup.size()))
    };
    let (leaves, size) = check(&Place::events(settings))?;
    let mut checked = Rebuilt { leaves, access_leaves: 0, files: size.files, bytes: size.bytes };
    let access = Place::access(settings);
    if vault.keyring(&access.origin).is_some() {
        let (leaves, size) = check(&access)?;
        checked.access_leaves = leaves;
        checked.files += size.files;
        checked.bytes += size.bytes;
    }
    Ok(checked)
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
