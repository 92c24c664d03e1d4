//! One installation, opened: vault, log, derived state, and the threads around them.
//!
//! [`create`] makes the stores of a new installation, [`Engine::open`] opens them. Everything that can be damaged is
//! checked while opening; after that the engine answers or says that it cannot. Layout of the data directory:
//!
//! ```text
//! lock           keeps a second process out
//! index/         where events are; made from the log again whenever it is missing or damaged (index-0001/ …)
//! shredding      an order to destroy keys that has no outcome yet
//! vault/         the sealed body        (the anchor cells are where the configuration says)
//! log/0000/      segments and tiles of the first log; a restored backup starts log/0001 ([`origins`])
//! identity-snapshot  who is who as of the last stop, sealed
//! access/0000/   the same of its access log, with access-index/ and shredding-access
//! shredding-customers  whose leaves in the access log may have to go when the order ends
//! credentials.json
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use idtrail_event::{GlobalCustomerId, Rules};
use idtrail_identity::normalise::Normaliser;
use idtrail_index::IndexError;
use idtrail_index::facts::{Hasher, Key};
use idtrail_index::identity::Identity;
use idtrail_index::lookup::Lookup;
use idtrail_index::numbering::Numbering;
use idtrail_index::seal::{self, OpenError};
use idtrail_index::trail::{Command, Refusal, Stragglers, Trail};
use idtrail_log::reader::Reader;
use idtrail_log::recovery::{self, Opened};
use idtrail_log::sequence::Reply;
use idtrail_log::shell::Log;
use idtrail_log::{LogError, OriginOrdinal, Reference};
use idtrail_port::{Clock, Disk, DiskLock, Entropy, RandomPool, create_dir_durable};
use idtrail_tlog::{LogIndex, Policy, SignerKey, VerifierKey};
use idtrail_vault::{Kek, Keyring, Secret32, Vault, VaultPaths};

use self::access::AccessLog;
use self::answers::Gathered;
use self::origins::{Earlier, Line, View};
use self::proposals::Proposals;
use self::snapshot::Snapshots;
use self::state::{Marker, State};
use crate::quarantine::Quarantine;
use crate::settings::{BatchSettings, Settings};

pub mod access;
mod answers;
pub mod backup;
mod error;
pub mod identity;
pub mod index;
mod loose;
mod open;
pub mod origins;
pub mod proposals;
pub mod quarantined;
pub mod retention;
pub mod rights;
mod second;
pub mod shred;
mod snapshot;
mod staff;
mod state;

pub use answers::{Answers, Outcome};
pub use error::EngineError;

/// The world outside, as the engine reaches it.
#[derive(Clone)]
pub struct Ports {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
}

/// Returns where the vault's files are.
pub fn vault_paths(settings: &Settings) -> VaultPaths {
    VaultPaths {
        body_dir: settings.data_dir.join("vault"),
        copies: settings.vault.copies.clone(),
        anchors: settings.vault.anchors.clone(),
    }
}

fn shredding_path(data_dir: &Path) -> PathBuf {
    data_dir.join("shredding")
}

fn access_shredding_path(data_dir: &Path) -> PathBuf {
    data_dir.join("shredding-access")
}

fn customers_path(data_dir: &Path) -> PathBuf {
    data_dir.join("shredding-customers")
}

/// Returns the directory of the first log in a data directory.
pub fn log_directory(data_dir: &Path) -> PathBuf {
    origins::directory(data_dir, 0)
}

/// Makes the stores of a new installation and returns the key that verifies its checkpoints.
///
/// # Errors
/// [`EngineError`]; nothing that exists is overwritten.
pub fn create(ports: &Ports, settings: &Settings, kek: Kek) -> Result<VerifierKey, EngineError> {
    let directory = |path: &Path| {
        create_dir_durable(&*ports.disk, path)
            .map_err(|source| EngineError::Directory { path: path.to_owned(), source })
    };
    directory(&settings.data_dir)?;
    for anchor in &settings.vault.anchors {
        directory(anchor.parent().unwrap_or(Path::new(".")))?;
    }
    let mut vault = Vault::create(
        Arc::clone(&ports.disk),
        Arc::clone(&ports.entropy),
        vault_paths(settings),
        kek,
        &settings.tenant,
        &settings.origin,
    )?;
    let dir = log_directory(&settings.data_dir);
    recovery::create(&*ports.disk, &dir, &settings.origin, settings.segment_bytes)?;
    access::create(ports, settings, &mut vault)?;
    let seed = vault.signing_seed(&settings.origin).ok_or(EngineError::Foreign)?;
    Ok(SignerKey::from_seed(&settings.origin, seed.expose())?.verifier())
}

/// Returns the newest pepper of identifiers and its version, of an installation that no server has open.
///
/// # Errors
/// [`EngineError`]; `Log` if a server has it open.
pub fn pepper(ports: &Ports, settings: &Settings, kek: Kek) -> Result<(u32, Secret32), EngineError> {
    let _lock = recovery::lock(&*ports.disk, &settings.data_dir)?;
    let (disk, entropy) = (Arc::clone(&ports.disk), Arc::clone(&ports.entropy));
    let vault = Vault::open(disk, entropy, vault_paths(settings), kek, None)?;
    if vault.tenant() != settings.tenant {
        return Err(EngineError::Foreign);
    }
    Ok(vault.pepper())
}

/// An open installation.
pub struct Engine {
    ports: Ports,
    fresh_ids: Mutex<RandomPool>,
    proposals: Proposals,
    origin: String,
    rules: Rules,
    hasher: Arc<Hasher>,
    keyring: Keyring,
    lookup: Lookup,
    identity: Identity,
    normaliser: Normaliser,
    pepper_version: u32,
    number: u32,
    /// The logs before this one, oldest first.
    earlier: Arc<[Earlier]>,
    numbering: Numbering,
    stragglers: Stragglers,
    log: Arc<Log<Trail>>,
    desk: shred::Desk,
    access: Arc<AccessLog>,
    answers: Arc<Answers>,
    evidence_signer: SignerKey,
    certificate_signer: SignerKey,
    rights_keys: Keyring,
    verifier: VerifierKey,
    /// The keys that signed the log before.
    retired: Vec<VerifierKey>,
    issuer_seed: Secret32,
    sinks_secret: Secret32,
    quarantine: Arc<Quarantine>,
    batch: BatchSettings,
    opened: Opened,
    /// Puts an end to the thread that keeps the high-water mark.
    marker: Mutex<Option<Marker>>,
    log_dir: PathBuf,
    snapshots: Snapshots,
    kept: LogIndex,
    _lock: Box<dyn DiskLock>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Engine {
    /// Returns the logs of the installation, oldest first; the last one is written to.
    pub fn logs(&self) -> Vec<View<'_>> {
        self.line().logs().collect()
    }

    /// Returns the logs of the installation as lists run over them.
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

    /// Returns the place of the log that is written to.
    pub fn ordinal(&self) -> OriginOrdinal {
        OriginOrdinal(self.number)
    }

    /// Returns a log of the installation by its name.
    pub fn log_named(&self, name: &str) -> Option<View<'_>> {
        self.logs().into_iter().find(|log| log.name == name)
    }

    /// Returns a log of the installation by its place.
    pub fn log_at(&self, ordinal: OriginOrdinal) -> Option<View<'_>> {
        self.logs().into_iter().find(|log| log.ordinal == ordinal)
    }

    /// Returns the log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the rules that events are checked by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns what keys ids.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Returns where events are.
    pub fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// Returns who is who.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns up to which leaf identity was kept from an earlier run when the installation was opened; all others were
    /// opened and read.
    pub fn identity_kept(&self) -> LogIndex {
        self.kept
    }

    /// Returns how identity counts the leaves of all logs.
    pub fn numbering(&self) -> &Numbering {
        &self.numbering
    }

    /// Returns the late events of erased persons that were discarded since somebody asked.
    pub(crate) fn stragglers(&self) -> &Stragglers {
        &self.stragglers
    }

    /// Returns the place and the log of a leaf that identity knows by its number.
    pub fn at_number(&self, number: LogIndex) -> (Reference, String) {
        let place = self.numbering.place(number);
        let name = self.log_at(place.origin).map_or_else(String::new, |log| log.name.to_owned());
        (place, name)
    }

    /// Returns what brings raw identifiers into the form that is hashed.
    pub fn normaliser(&self) -> &Normaliser {
        &self.normaliser
    }

    /// Returns the version of the pepper under which identifiers get their tokens.
    pub fn pepper_version(&self) -> u32 {
        self.pepper_version
    }

    /// Returns the customer of a client's own customer id, as the newest log that knows it has it.
    ///
    /// # Errors
    /// As [`Lookup::customer`].
    pub fn customer(&self, key: &Key) -> Result<Option<GlobalCustomerId>, IndexError> {
        for log in self.logs().into_iter().rev() {
            if let Some(customer) = log.lookup.customer(key)? {
                return Ok(Some(customer));
            }
        }
        Ok(None)
    }

    /// Returns the running log.
    pub fn log(&self) -> &Log<Trail> {
        &self.log
    }

    /// Returns what destroys keys.
    pub fn desk(&self) -> &shred::Desk {
        &self.desk
    }

    /// Returns the log of who was shown what.
    pub fn access(&self) -> &Arc<AccessLog> {
        &self.access
    }

    /// Returns the keys of the log's leaves.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Returns what passes answers on.
    pub fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// Hands an event to the log and returns where its outcome will come.
    ///
    /// # Errors
    /// `Busy` if too many events wait, `Unavailable` if the log has stopped.
    pub fn submit(&self, command: Command) -> Result<tokio::sync::oneshot::Receiver<Outcome>, LogError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let answers = Arc::clone(&self.answers);
        self.log.submit(command, Box::new(move |outcome| answers.hand(sender, outcome)))?;
        Ok(receiver)
    }

    /// Hands many events to the log, all or none, and returns where their outcomes will come, in the same order.
    ///
    /// # Errors
    /// `Busy` if there is no room for all of them, `Unavailable` if the log has stopped.
    pub fn submit_all(
        &self,
        commands: Vec<Command>,
    ) -> Result<tokio::sync::oneshot::Receiver<Vec<Outcome>>, LogError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let gathered = Arc::new(Gathered::new(commands.len(), sender));
        let requests = commands.into_iter().enumerate().map(|(at, command)| {
            let gathered = Arc::clone(&gathered);
            let reply: Reply<Refusal> = Box::new(move |outcome| gathered.put(at, outcome));
            (command, reply)
        });
        self.log.submit_all(requests.collect())?;
        Ok(receiver)
    }

    /// Returns what reads the log.
    pub fn reader(&self) -> &Arc<Reader> {
        self.log.reader()
    }

    /// Returns the key that signs evidence packages.
    pub fn evidence_signer(&self) -> &SignerKey {
        &self.evidence_signer
    }

    /// Returns the key that signs certificates about requests in a log; `None` if there is no such log.
    pub(crate) fn certificate_signer(&self, log: OriginOrdinal) -> Option<&SignerKey> {
        if log == self.ordinal() {
            return Some(&self.certificate_signer);
        }
        self.earlier.iter().find(|one| one.number == log.0).map(|one| &one.certificate_signer)
    }

    /// Returns the key that verifies the newest log's checkpoints.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Returns the keys of the sealed records of requests.
    pub(crate) fn rights_keys(&self) -> &Keyring {
        &self.rights_keys
    }

    /// Returns the policy of somebody who pins the keys of all logs of the installation and asks for no witness.
    pub fn policy(&self) -> Policy {
        let mut policy = Policy::log_only(self.verifier.clone());
        for key in self.retired.iter().chain(self.earlier.iter().flat_map(|one| &one.verifiers)) {
            // Refused only if it is there already.
            let _ = policy.add_log(key.clone(), None);
        }
        policy
    }

    /// Returns the seed of the built-in token issuer.
    pub fn issuer_seed(&self) -> &Secret32 {
        &self.issuer_seed
    }

    /// Returns the secret that the keys of sinks are derived from.
    pub(crate) fn sinks_secret(&self) -> &Secret32 {
        &self.sinks_secret
    }

    /// Returns the events that were refused but are kept.
    pub fn quarantine(&self) -> &Arc<Quarantine> {
        &self.quarantine
    }

    /// Returns what waits for a second person.
    pub fn proposals(&self) -> &Proposals {
        &self.proposals
    }

    /// Returns a random id that nothing else has.
    pub(crate) fn fresh_id(&self) -> [u8; 16] {
        self.fresh_ids.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the wall time in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.ports.clock.wall_ms()).unwrap_or(0)
    }

    /// Returns how much one request may hold.
    pub fn batch(&self) -> BatchSettings {
        self.batch
    }

    /// Returns what was found when the log was opened.
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// Returns the ports.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Opens the leaf at `index`.
    ///
    /// # Errors
    /// `Key` if its key was destroyed; `Leaf` if it is not what was sealed.
    pub fn open_leaf(&self, index: LogIndex, bytes: &[u8]) -> Result<seal::Disclosed, OpenError> {
        seal::open(&self.keyring, index, bytes)
    }

    /// Stops in an orderly way: what waits is committed and answered, the mark of an orderly stop is written.
    pub fn stop(&self) {
        let running = self.log.is_running();
        self.desk.stop();
        self.log.stop();
        let size = self.numbering.size_in_newest(self.identity.next());
        // Only what is durable may be kept.
        if running && size == self.log.reader().size() {
            self.snapshots.keep(&self.desk.epoch_secret(), &self.identity, self.log.reader(), size.get());
        }
        self.access.stop(&*self.ports.disk);
        for lookup in self.logs().into_iter().map(|log| log.lookup) {
            if let Err(error) = lookup.close() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the next start reads more of the log: the index could not be written"
                );
            }
        }
        if let Some(marker) = self.marker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The thread ends when its channel closes; it writes a last mark before.
            drop(marker.stop);
            if marker.thread.join().is_err() {
                tracing::warn!("the thread of the high-water mark had ended early");
            }
        }
        if running
            && let Err(error) = recovery::mark_clean(&*self.ports.disk, &self.log_dir, self.log.reader())
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the next start will recover: no clean mark"
            );
        }
    }
}
