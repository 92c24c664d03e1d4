//! The access log: a second log in which every disclosure is written before its answer leaves.
//!
//! It is always on. It has an origin and key trees of its own in the same vault, its own directories, and is signed with
//! the log's key under its own name. [`AccessLog::record`] returns when the leaves are on disk; who cannot record does not
//! answer. If this log fails, reading fails with it until the server is restarted, and events are still taken.
//!
//! A disclosure holds [`AccessLog::gate`] from before it reads until after it has recorded, so that whoever destroys the
//! leaves of an erased person can wait for those that were under way ([`AccessLog::drain`]).

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use idtrail_event::{Leaf, LeafKey, OpenLeaf};
use idtrail_index::access::Access;
use idtrail_index::facts::Hasher;
use idtrail_index::identity::Identity;
use idtrail_index::lookup::Lookup;
use idtrail_index::seal::{self, OpenError};
use idtrail_index::trail::Trail;
use idtrail_log::LogError;
use idtrail_log::commit::Answer;
use idtrail_log::reader::Reader;
use idtrail_log::recovery::{self, Options};
use idtrail_log::shell::Log;
use idtrail_port::{Disk, Entropy};
use idtrail_tlog::{LogIndex, SignerKey, TreeSize, VerifierKey};
use idtrail_vault::{Epoch, HighWater, Keyring, Secret32, Vault, VaultError};
use idtrail_verify::access_origin;

use super::index::{self, Place};
use super::{EngineError, Ports, State};
use crate::settings::Settings;

/// How long the leaves of one query may take to be on disk.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the directory of the access log in a data directory.
pub fn access_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("access").join("0000")
}

/// Why an access was not recorded; what was read must not be disclosed then.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The access log does not take it.
    #[error("the access log does not take the access")]
    Log(#[from] LogError),
    /// It was not on disk in time.
    #[error("the access was not on disk in time")]
    Late,
    /// The index of the access log cannot answer.
    #[error("the index of the access log cannot answer")]
    Index,
}

/// The running access log.
pub struct AccessLog {
    origin: String,
    dir: PathBuf,
    log: Arc<Log<Trail>>,
    hasher: Arc<Hasher>,
    keyring: Keyring,
    lookup: Lookup,
    verifier: VerifierKey,
    entropy: Arc<dyn Entropy>,
    /// What the leaves of one query may take, so that they fit into one frame.
    frame_bytes_max: usize,
    gate: RwLock<()>,
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl AccessLog {
    /// Opens the access log of an installation; one that was made by an older version gets it now.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(super) fn open(
        ports: &Ports,
        settings: &Settings,
        vault: &mut Vault,
        hasher: &Arc<Hasher>,
        (high_water, seed): (&HighWater, &Secret32),
    ) -> Result<Self, EngineError> {
        let place = Place::access(settings);
        let origin = place.origin.clone();
        let keyring = secure_keys(vault, &origin)?;
        let lookup = index::open(ports, settings, &place, hasher, vault.epoch())?;
        let suppression = vault.suppression().clone();
        // Nobody's identity follows from an access.
        let identity = Identity::default();
        let mut state =
            State { hasher: Arc::clone(hasher), keyring: keyring.clone(), suppression, lookup, identity };
        let known_size = high_water.size(&origin);
        create_if_new(&*ports.disk, settings, &origin, known_size)?;
        let dir = access_directory(&settings.data_dir);
        let options = Options {
            dir: &dir,
            origin: &origin,
            segment_bytes: settings.segment_bytes,
            known_size: TreeSize::new(known_size),
        };
        let signer = SignerKey::from_seed(&origin, seed.expose())?;
        let verifier = signer.verifier();
        let (committer, opened) =
            recovery::open(&ports.disk, &options, Box::new(signer), &mut |index, bytes| {
                state.read(index, bytes)
            })?;
        state.keep_up(ports, settings, &place, vault.epoch(), committer.reader())?;
        let needed = Epoch::new(state.lookup.epoch_in_log());
        if vault.epoch() < needed {
            return Err(VaultError::RolledBack { epoch: vault.epoch(), needed }.into());
        }
        let on_stop = |error: LogError| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the access log stopped: nothing is disclosed until the server is restarted"
            );
        };
        let log = Arc::new(state.start(ports, settings, committer, opened, on_stop)?);
        Ok(Self {
            origin,
            dir,
            log,
            hasher: Arc::clone(hasher),
            keyring,
            lookup: state.lookup,
            verifier,
            entropy: Arc::clone(&ports.entropy),
            frame_bytes_max: usize::try_from(settings.segment_bytes / 4).unwrap_or(usize::MAX),
            gate: RwLock::new(()),
        })
    }

    /// Returns the access log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns what reads the access log.
    pub fn reader(&self) -> &Arc<Reader> {
        self.log.reader()
    }

    /// Returns the running log.
    pub fn log(&self) -> &Arc<Log<Trail>> {
        &self.log
    }

    /// Returns where the leaves about a customer are.
    pub fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// Returns the keys of the access log's leaves.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Returns the key that verifies the access log's checkpoints.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Opens the leaf at `index`.
    ///
    /// # Errors
    /// `Key` if its key was destroyed; `Leaf` if it is not what was sealed.
    pub fn open_leaf(&self, index: LogIndex, bytes: &[u8]) -> Result<seal::Disclosed, OpenError> {
        seal::open(&self.keyring, index, bytes)
    }

    /// Opens the leaf at `index` but for the part that says which person acted, and returns the key.
    ///
    /// # Errors
    /// As [`AccessLog::open_leaf`].
    pub fn open_without_person(
        &self,
        index: LogIndex,
        bytes: &[u8],
    ) -> Result<(OpenLeaf, LeafKey), OpenError> {
        let key = self.open_leaf(index, bytes)?.event_key;
        let open = Leaf::parse(bytes).and_then(|leaf| leaf.open(&key)).map_err(OpenError::Leaf)?;
        Ok((open, key))
    }

    /// Lets a disclosure begin; to be held until its access is recorded.
    pub fn gate(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every disclosure that had begun before is recorded or given up.
    pub fn drain(&self) {
        drop(self.gate.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes an access, and returns when it is on disk. Waits for the disk.
    ///
    /// # Errors
    /// [`AccessError`]; nothing may be disclosed then.
    pub fn record(&self, access: &Access) -> Result<(), AccessError> {
        let Some(command) = access.command(&self.hasher, &self.entropy, self.frame_bytes_max) else {
            return Ok(());
        };
        let (sender, receiver) = sync_channel(1);
        // Nobody listens any more if this fails; the access is in the log all the same.
        self.log.submit(command, Box::new(move |outcome| drop(sender.send(outcome))))?;
        match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(Answer::Appended { .. })) => Ok(()),
            Ok(Ok(_)) => Err(AccessError::Index),
            Ok(Err(error)) => Err(error.into()),
            Err(RecvTimeoutError::Timeout) => Err(AccessError::Late),
            Err(RecvTimeoutError::Disconnected) => Err(LogError::Stopped.into()),
        }
    }

    /// Stops in an orderly way.
    pub(super) fn stop(&self, disk: &dyn Disk) {
        let running = self.log.is_running();
        self.log.stop();
        if let Err(error) = self.lookup.close() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the next start reads more of the access log: its index could not be written"
            );
        }
        if running && let Err(error) = recovery::mark_clean(disk, &self.dir, self.log.reader()) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the next start will recover the access log: no clean mark");
        }
    }
}

/// Makes the keys and the directory of an access log, for a new installation.
pub(super) fn create(ports: &Ports, settings: &Settings, vault: &mut Vault) -> Result<(), EngineError> {
    let origin = access_origin(&settings.origin);
    secure_keys(vault, &origin)?;
    create_if_new(&*ports.disk, settings, &origin, 0)
}

fn secure_keys(vault: &mut Vault, origin: &str) -> Result<Keyring, EngineError> {
    if vault.keyring(origin).is_none() {
        vault.add_origin(origin)?;
    }
    vault.keyring(origin).ok_or(EngineError::Foreign)
}

/// Makes an empty access log if there was never one: one that was there and is gone is damage, not a beginning.
fn create_if_new(
    disk: &dyn Disk,
    settings: &Settings,
    origin: &str,
    known_size: u64,
) -> Result<(), EngineError> {
    let dir = access_directory(&settings.data_dir);
    let segments = dir.join("segments");
    let failed = |source| EngineError::Directory { path: segments.clone(), source };
    let empty = !disk.exists(&segments).map_err(failed)? || disk.list(&segments).map_err(failed)?.is_empty();
    if empty && known_size == 0 {
        recovery::create(disk, &dir, origin, settings.segment_bytes)?;
    }
    Ok(())
}
