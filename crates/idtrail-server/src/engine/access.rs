//! The access log: a second log in which every disclosure is written before its answer leaves.
//!
//! It is always on. It has an origin and key trees of its own in the same vault, its own directories, and is signed with
//! the log's key under its own name. [`AccessLog::record`] returns when the leaves are on disk; who cannot record does not
//! answer. If this log fails, reading fails with it until the server is restarted, and events are still taken.
//!
//! A disclosure holds [`AccessLog::gate`] from before it reads until after it has recorded, so that whoever destroys the
//! leaves of an erased person can wait for those that were under way ([`AccessLog::drain`]).

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use idtrail_index::access::Access;
use idtrail_index::facts::Hasher;
use idtrail_index::identity::Identity;
use idtrail_index::lookup::Lookup;
use idtrail_index::shred::ShredLog;
use idtrail_index::trail::{Stragglers, Trail};
use idtrail_log::commit::Answer;
use idtrail_log::reader::Reader;
use idtrail_log::recovery::{self, Options};
use idtrail_log::shell::Log;
use idtrail_log::{LogError, OriginOrdinal};
use idtrail_port::{Disk, Entropy};
use idtrail_tlog::{TreeSize, VerifierKey};
use idtrail_vault::{Epoch, HighWater, Keyring, Vault, VaultError};

use super::origins::{Earlier, Kind, Line, Place, View};
use super::{EngineError, Ports, State, index};
use crate::settings::Settings;

/// How long the leaves of one query may take to be on disk.
const PATIENCE: Duration = Duration::from_secs(20);

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
    number: u32,
    dir: PathBuf,
    log: Arc<Log<Trail>>,
    hasher: Arc<Hasher>,
    keyring: Keyring,
    lookup: Lookup,
    /// The access logs before this one, oldest first.
    earlier: Arc<[Earlier]>,
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
        (high_water, number): (&HighWater, u32),
    ) -> Result<Self, EngineError> {
        let place = Place::new(Kind::Access, &settings.data_dir, &settings.origin, number);
        let origin = place.origin.clone();
        let keyring = secure_keys(vault, &origin)?;
        let signer = place.signer(vault)?.ok_or(EngineError::Foreign)?;
        let lookup = index::open(ports, settings, &place, hasher, vault.epoch())?;
        let suppression = vault.suppression().clone();
        // Nobody's identity follows from an access.
        let identity = Identity::default();
        let kind = (Kind::Access, number);
        let (earlier, numbering) = Earlier::open_all(ports, settings, (vault, hasher), kind, None)?;
        let (earlier, hasher) = (Arc::from(earlier), Arc::clone(hasher));
        // Nothing in it is an event of a client, so none comes too late.
        let stragglers = Stragglers::default();
        let mut state =
            State { number, hasher, keyring, suppression, lookup, identity, earlier, numbering, stragglers };
        let known_size = high_water.size(&origin);
        create_if_new(&*ports.disk, settings, &place, known_size)?;
        let options = Options {
            dir: &place.log,
            origin: &origin,
            segment_bytes: settings.segment_bytes,
            known_size: TreeSize::new(known_size),
        };
        let verifier = signer.verifier();
        let (committer, opened) =
            recovery::open(&ports.disk, &options, Box::new(signer), &mut |index, bytes| {
                state.read(index, bytes)
            })?;
        state.keep_up(ports, settings, &place, vault.epoch(), committer.reader())?;
        let needed = Epoch::new(state.lookups().map(Lookup::epoch_in_log).max().unwrap_or(0));
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
            number,
            dir: place.log,
            log,
            hasher: state.hasher,
            keyring: state.keyring,
            lookup: state.lookup,
            earlier: state.earlier,
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

    /// Returns all access logs of the installation; the last one is written to.
    pub fn line(&self) -> Line<'_> {
        let newest = View {
            ordinal: OriginOrdinal(self.number),
            name: &self.origin,
            reader: self.log.reader(),
            keyring: &self.keyring,
            lookup: &self.lookup,
            verifier: &self.verifier,
        };
        Line::new(&self.earlier, newest)
    }

    /// Returns the access logs before this one, oldest first.
    pub(super) fn earlier(&self) -> &Arc<[Earlier]> {
        &self.earlier
    }

    pub(super) fn to_shred(&self) -> ShredLog {
        ShredLog {
            ordinal: OriginOrdinal(self.number),
            reader: Arc::clone(self.log.reader()),
            keyring: self.keyring.clone(),
            lookup: self.lookup.clone(),
        }
    }

    /// Lets a disclosure begin; to be held until its access is recorded.
    pub fn gate(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every disclosure that had begun before is recorded or given up.
    pub fn drain(&self) {
        drop(self.gate.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes the accesses of one query, one for each log that was read, and returns when they are on disk. Waits for the
    /// disk.
    ///
    /// # Errors
    /// [`AccessError`]; nothing may be disclosed then.
    pub fn record(&self, accesses: &[Access]) -> Result<(), AccessError> {
        let mut receivers = Vec::with_capacity(accesses.len());
        for access in accesses {
            let Some(command) = access.command(&self.hasher, &self.entropy, self.frame_bytes_max) else {
                continue;
            };
            let (sender, receiver) = sync_channel(1);
            // Nobody listens any more if this fails; the access is in the log all the same.
            self.log.submit(command, Box::new(move |outcome| drop(sender.send(outcome))))?;
            receivers.push(receiver);
        }
        for receiver in receivers {
            match receiver.recv_timeout(PATIENCE) {
                Ok(Ok(Answer::Appended { .. })) => {}
                Ok(Ok(_)) => return Err(AccessError::Index),
                Ok(Err(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Timeout) => return Err(AccessError::Late),
                Err(RecvTimeoutError::Disconnected) => return Err(LogError::Stopped.into()),
            }
        }
        Ok(())
    }

    /// Stops in an orderly way.
    pub(super) fn stop(&self, disk: &dyn Disk) {
        let running = self.log.is_running();
        self.log.stop();
        for log in self.line().logs() {
            if let Err(error) = log.lookup.close() {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "the next start reads more of the access log: its index could not be written"
                );
            }
        }
        if running && let Err(error) = recovery::mark_clean(disk, &self.dir, self.log.reader()) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the next start will recover the access log: no clean mark");
        }
    }
}

/// Makes the keys and the directory of an access log, for a new installation.
pub(super) fn create(ports: &Ports, settings: &Settings, vault: &mut Vault) -> Result<(), EngineError> {
    let place = Place::new(Kind::Access, &settings.data_dir, &settings.origin, 0);
    secure_keys(vault, &place.origin)?;
    create_if_new(&*ports.disk, settings, &place, 0)
}

pub(super) fn secure_keys(vault: &mut Vault, origin: &str) -> Result<Keyring, EngineError> {
    if vault.keyring(origin).is_none() {
        vault.add_origin(origin)?;
    }
    vault.keyring(origin).ok_or(EngineError::Foreign)
}

/// Makes an empty access log if there was never one: one that was there and is gone is damage, not a beginning.
fn create_if_new(
    disk: &dyn Disk,
    settings: &Settings,
    place: &Place,
    known_size: u64,
) -> Result<(), EngineError> {
    let segments = place.log.join("segments");
    let failed = |source| EngineError::Directory { path: segments.clone(), source };
    let empty = !disk.exists(&segments).map_err(failed)? || disk.list(&segments).map_err(failed)?.is_empty();
    if empty && known_size == 0 {
        recovery::create(disk, &place.log, &place.origin, settings.segment_bytes)?;
    }
    Ok(())
}
