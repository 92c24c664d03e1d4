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
//! access/0000/   the same of its access log, with access-index/ and shredding-access
//! shredding-customers  whose leaves in the access log may have to go when the order ends
//! credentials.json
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use idtrail_event::clear::OriginStartItem;
use idtrail_event::{ClassTable, GlobalCustomerId, PiiHandling, Rules};
use idtrail_identity::IdentityError;
use idtrail_identity::normalise::Normaliser;
use idtrail_identity::tokens::TokenKeysError;
use idtrail_index::IndexError;
use idtrail_index::facts::{Hasher, Key};
use idtrail_index::identity::Identity;
use idtrail_index::lookup::Lookup;
use idtrail_index::numbering::Numbering;
use idtrail_index::seal::{self, OpenError, TrailSealer};
use idtrail_index::shred::{ShredError, ShredLog, Works};
use idtrail_index::trail::{Command, Refusal, Stragglers, Trail};
use idtrail_log::commit::{Answer, Committer};
use idtrail_log::reader::Reader;
use idtrail_log::recovery::{self, Opened, Options};
use idtrail_log::sequence::{ReceiptClock, Reply, Sequencer, Submission};
use idtrail_log::shell::{Follower, Limits, Log};
use idtrail_log::{LogError, OriginOrdinal, Reference};
use idtrail_port::{Clock, Disk, DiskLock, Entropy, RandomPool, create_dir_durable};
use idtrail_tlog::{LogIndex, Policy, SignerKey, TreeSize, VerifierKey};
use idtrail_vault::{Epoch, HighWater, Kek, Keyring, Secret32, Suppression, Vault, VaultError, VaultPaths};

use self::access::AccessLog;
use self::origins::{Earlier, Kind, Line, Place, Reading, View};
use self::proposals::Proposals;
use self::second::Second;
use crate::quarantine::{Quarantine, QuarantineError};
use crate::settings::{BatchSettings, PiiMode, Settings};

pub mod access;
pub mod backup;
pub mod identity;
pub mod index;
mod loose;
pub mod origins;
pub mod proposals;
pub mod quarantined;
pub mod retention;
pub mod rights;
mod second;
pub mod shred;

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

/// Why an installation could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The data directory cannot be used.
    #[error("the data directory cannot be used. path={}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// The vault could not be opened.
    #[error("the vault could not be opened")]
    Vault(#[from] VaultError),
    /// The log could not be opened.
    #[error("the log could not be opened")]
    Log(#[from] LogError),
    /// The configuration names another log or tenant than the vault.
    #[error(
        "the vault belongs to another log or tenant than the configuration names; check `origin` and `tenant`"
    )]
    Foreign,
    /// The logs of the installation do not fit together.
    #[error("the logs of the installation do not fit together: {what}. path={}", path.display())]
    Chain {
        /// What is wrong.
        what: &'static str,
        /// The directory of the log.
        path: PathBuf,
    },
    /// A salt of `[identity]` is not where the configuration says.
    #[error("a salt of [identity] cannot be read")]
    SaltFile(#[from] crate::settings::SettingsError),
    /// A salt of `[identity]` is no text.
    #[error("a salt of [identity] is no UTF-8. path={}", path.display())]
    Salt {
        /// The file.
        path: PathBuf,
    },
    /// The index could not be opened.
    #[error("the index could not be opened")]
    Index(#[source] IndexError),
    /// An order to destroy keys that a former process left cannot be finished.
    #[error("an order to destroy keys is open and cannot be finished")]
    Shred(#[from] ShredError),
    /// The log's name cannot be the name of a key.
    #[error("the log's name cannot be the name of a key")]
    Name(#[from] idtrail_tlog::KeyError),
    /// The configuration of identity makes no sense.
    #[error("the section [identity] of the configuration cannot be used")]
    Identity(#[from] IdentityError),
    /// The keys of identifiers cannot be used.
    #[error("the keys of identifiers cannot be used")]
    TokenKeys(#[from] TokenKeysError),
    /// The quarantine could not be opened.
    #[error("the quarantine could not be opened")]
    Quarantine(#[from] QuarantineError),
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

/// Hands answers from the log's thread to the tasks that wait for them.
///
/// The log answers a whole group at once. Waking each waiting task from the log's thread would cost a call to the
/// kernel per event; here the first answer of a group wakes one task, which passes on all that have come.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: Mutex<Vec<Handed>>,
    wake: tokio::sync::Notify,
}

/// The outcome of a request to the log.
pub type Outcome = Result<Answer<Refusal>, LogError>;
type Handed = (tokio::sync::oneshot::Sender<Outcome>, Outcome);

impl Answers {
    fn hand(&self, to: tokio::sync::oneshot::Sender<Outcome>, outcome: Outcome) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((to, outcome));
        let first = waiting.len() == 1;
        drop(waiting);
        if first {
            self.wake.notify_one();
        }
    }

    /// Passes answers on, for ever; to be run as a task beside the server.
    pub async fn pass_on(&self) {
        loop {
            self.wake.notified().await;
            let handed = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            for (to, outcome) in handed {
                // Nobody listens any more if the client went away; the event is in the log all the same.
                let _ = to.send(outcome);
            }
        }
    }
}

/// Gathers the outcomes of one batch until the last one is there.
struct Gathered(Mutex<Gathering>);

struct Gathering {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    to: Option<tokio::sync::oneshot::Sender<Vec<Outcome>>>,
}

impl Gathered {
    fn new(count: usize, to: tokio::sync::oneshot::Sender<Vec<Outcome>>) -> Self {
        let outcomes = std::iter::repeat_with(|| None).take(count).collect();
        let gathering = Gathering { outcomes, missing: count, to: Some(to) };
        Self(Mutex::new(gathering))
    }

    fn put(&self, at: usize, outcome: Outcome) {
        let mut gathering = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = gathering.outcomes.get_mut(at) {
            *place = Some(outcome);
        }
        gathering.missing -= 1;
        if gathering.missing == 0
            && let Some(to) = gathering.to.take()
        {
            let outcomes = std::mem::take(&mut gathering.outcomes).into_iter().flatten().collect();
            // Nobody listens any more if the client went away; the events are in the log all the same.
            let _ = to.send(outcomes);
        }
    }
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
    _lock: Box<dyn DiskLock>,
}

struct Marker {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens an installation. `on_stop` is called once if the log has to stop later; the process should end then.
    ///
    /// # Errors
    /// [`EngineError`]; nothing was changed that an open of the repaired cause would not change as well.
    pub fn open(
        ports: Ports,
        settings: &Settings,
        kek: Kek,
        on_stop: impl FnOnce(LogError) + Send + 'static,
    ) -> Result<Self, EngineError> {
        let lock = recovery::lock(&*ports.disk, &settings.data_dir)?;
        let mut vault = Vault::open(
            Arc::clone(&ports.disk),
            Arc::clone(&ports.entropy),
            vault_paths(settings),
            kek,
            None,
        )?;
        let number = origins::newest(&vault, &settings.origin).ok_or(EngineError::Foreign)?;
        let name = origins::name(&settings.origin, number);
        let origin = name.as_str();
        let (Some(keyring), Some(seed)) = (vault.keyring(origin), vault.signing_seed(origin)) else {
            return Err(EngineError::Foreign);
        };
        if vault.tenant() != settings.tenant {
            return Err(EngineError::Foreign);
        }
        let high_water = HighWater::open(Arc::clone(&ports.disk), &settings.vault.anchors)?;
        let log_dir = origins::directory(&settings.data_dir, number);
        let hasher = Hasher::new(&settings.tenant, vault.dedupe_key().expose(), vault.index_key().expose());
        let place = Place::new(Kind::Events, &settings.data_dir, &settings.origin, number);
        let hasher = Arc::new(identity::with_identifiers(hasher, &vault, settings, &*ports.disk)?);
        let lookup = index::open(&ports, settings, &place, &hasher, vault.epoch())?;
        let suppression = vault.suppression().clone();
        let identity = Identity::default();
        let kind = (Kind::Events, number);
        let (earlier, numbering) =
            Earlier::open_all(&ports, settings, (&vault, &hasher), kind, Some(&identity))?;
        let earlier = earlier.into();
        let stragglers = Stragglers::default();
        let mut state =
            State { number, hasher, keyring, suppression, lookup, identity, earlier, numbering, stragglers };
        let options = Options {
            dir: &log_dir,
            origin,
            segment_bytes: settings.segment_bytes,
            known_size: TreeSize::new(high_water.size(origin)),
        };
        let signer = SignerKey::from_seed(origin, seed.expose())?;
        let verifier = signer.verifier();
        let retired = place.verifiers(&vault)?.into_iter().skip(1).map(|(key, _)| key).collect();
        let (committer, opened) =
            recovery::open(&ports.disk, &options, Box::new(signer), &mut |index, bytes| {
                state.read(index, bytes)
            })?;
        state.keep_up(&ports, settings, &place, vault.epoch(), committer.reader())?;
        let needed = Epoch::new(state.lookups().map(Lookup::epoch_in_log).max().unwrap_or(0));
        if vault.epoch() < needed {
            // An older vault would bring keys back that the log says were destroyed.
            return Err(VaultError::RolledBack { epoch: vault.epoch(), needed }.into());
        }
        let epoch = vault.epoch();
        let access = AccessLog::open(&ports, settings, &mut vault, &state.hasher, (&high_water, number))?;
        let access = Arc::new(access);
        let rights_keys = access::secure_keys(&mut vault, &format!("{}/rights", settings.origin))?;
        if vault.epoch() != epoch {
            // Keys of a new access log are an epoch of the vault that destroyed nothing.
            for lookup in state.lookups() {
                lookup.note_epoch(vault.epoch().get())?;
            }
        }
        let sinks_secret = vault.index_key();
        let (issuer_seed, (pepper_version, _)) = (vault.issuer_seed(), vault.pepper());
        let quarantine = Quarantine::open(
            (Arc::clone(&ports.disk), Arc::clone(&ports.entropy)),
            &settings.data_dir,
            vault.index_key().expose(),
            Arc::clone(&state.hasher),
            settings.quarantine,
            (vault.suppression(), u64::try_from(ports.clock.wall_ms()).unwrap_or(0)),
        )?;
        let quarantine = Arc::new(quarantine);
        let log = Arc::new(state.start(&ports, settings, committer, opened, on_stop)?);
        let desk = state.desk(&ports, settings, vault, &log, (&access, &quarantine))?;
        let readers = [(origin, log.reader()), (access.origin(), access.reader())];
        let marker =
            start_marker(high_water, readers.map(|(name, reader)| (name.to_owned(), Arc::clone(reader))))?;
        let evidence_signer =
            SignerKey::from_seed(&idtrail_verify::evidence_key_name(origin), seed.expose())?;
        let certificate_signer =
            SignerKey::from_seed(&idtrail_verify::certificate_key_name(origin), seed.expose())?;
        Ok(Self {
            origin: origin.to_owned(),
            rules: rules(settings),
            hasher: state.hasher,
            keyring: state.keyring,
            lookup: state.lookup,
            identity: state.identity,
            normaliser: identity::normaliser(settings)?,
            pepper_version,
            number,
            earlier: state.earlier,
            numbering: state.numbering,
            stragglers: state.stragglers,
            log,
            desk,
            access,
            answers: Arc::default(),
            evidence_signer,
            certificate_signer,
            rights_keys,
            verifier,
            retired,
            issuer_seed,
            sinks_secret,
            quarantine,
            batch: settings.batch,
            opened,
            marker: Mutex::new(Some(marker)),
            log_dir,
            _lock: lock,
            proposals: Proposals::new(settings.identity.four_eyes),
            fresh_ids: Mutex::new(RandomPool::new(Arc::clone(&ports.entropy))),
            ports,
        })
    }

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

fn rules(settings: &Settings) -> Rules {
    Rules {
        strict: settings.validation.strict,
        custom_types: settings.validation.custom_types.clone(),
        pii: match settings.validation.pii {
            PiiMode::Refuse => PiiHandling::Refuse,
            PiiMode::Mask => PiiHandling::Mask,
        },
        ..Rules::default()
    }
}

/// Derived state while it is built from the log.
struct State {
    number: u32,
    hasher: Arc<Hasher>,
    keyring: Keyring,
    suppression: Suppression,
    lookup: Lookup,
    identity: Identity,
    /// The logs of the same kind before this one, oldest first.
    earlier: Arc<[Earlier]>,
    numbering: Numbering,
    stragglers: Stragglers,
}

impl State {
    fn read(
        &mut self,
        index: LogIndex,
        bytes: &[u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let start = self.numbering.start(OriginOrdinal(self.number)).unwrap_or(0);
        let (keyring, hasher, lookup) = (&self.keyring, &*self.hasher, &self.lookup);
        Reading { keyring, hasher, lookup, identity: Some((&self.identity, start)) }.take(index, bytes)
    }

    fn lookups(&self) -> impl Iterator<Item = &Lookup> {
        self.earlier.iter().map(|one| &one.lookup).chain([&self.lookup])
    }

    fn start(
        &mut self,
        ports: &Ports,
        settings: &Settings,
        mut committer: Committer,
        opened: Opened,
        on_stop: impl FnOnce(LogError) + Send + 'static,
    ) -> Result<Log<Trail>, LogError> {
        let trail = Trail::new(
            Arc::clone(&ports.entropy),
            self.lookup.clone(),
            self.suppression.clone(),
            Arc::clone(&self.hasher),
            self.identity.clone(),
        );
        let earlier =
            self.earlier.iter().map(|one| (OriginOrdinal(one.number), one.size, one.lookup.clone()));
        let trail = trail.continuing(OriginOrdinal(self.number), earlier).telling(self.stragglers.clone());
        let newest_ms = self.lookups().map(Lookup::received_ms).max().unwrap_or(0);
        let clock = ReceiptClock::start(Arc::clone(&ports.clock), newest_ms);
        if clock.wall_step_ms() < -1000 {
            tracing::warn!(
                "the clock is behind the newest receipt time; receipts keep that time until it is passed"
            );
        }
        let sealer = TrailSealer::new(self.keyring.clone(), Arc::clone(&ports.entropy));
        let mut sequencer = Sequencer::new(trail, sealer, clock, LogIndex::new(opened.size.get()));
        if opened.size.get() == 0 {
            // The leaves that say what this log is come first, before anybody can post.
            let first = Command::first_leaves(&OriginStartItem { previous: None }, &ClassTable::default());
            let ignore = |_: Result<Answer<Refusal>, LogError>| {};
            let group = first.map(|command| Submission { command, reply: Box::new(ignore) });
            let sealed = sequencer.step(group.into())?;
            for told in committer.commit(vec![sealed])? {
                self.lookup.apply(told);
            }
        }
        let limits = Limits::for_segments(settings.segment_bytes, settings.limits.queue_events_max);
        Log::start(Arc::clone(&ports.disk), sequencer, committer, self.lookup.clone(), limits, on_stop)
    }

    /// Finishes what a former process left of a shred, before anybody else can write the vault.
    fn desk(
        &self,
        ports: &Ports,
        settings: &Settings,
        vault: Vault,
        log: &Arc<Log<Trail>>,
        (access, quarantine): (&Arc<AccessLog>, &Arc<Quarantine>),
    ) -> Result<shred::Desk, ShredError> {
        let works = Works {
            disk: Arc::clone(&ports.disk),
            clock: Arc::clone(&ports.clock),
            pending: shredding_path(&settings.data_dir),
            newest: ShredLog {
                ordinal: OriginOrdinal(self.number),
                reader: Arc::clone(log.reader()),
                keyring: self.keyring.clone(),
                lookup: self.lookup.clone(),
            },
            earlier: self.earlier.iter().map(Earlier::to_shred).collect(),
            hasher: Arc::clone(&self.hasher),
            vault: Arc::new(Mutex::new(vault)),
            suppression_ms: settings.retention.suppression_ms,
        };
        let retention = shred::Retention {
            automatic: settings.retention.automatic,
            clock: Arc::clone(&ports.clock),
            refold: Some(identity::Refold {
                identity: self.identity.clone(),
                hasher: Arc::clone(&self.hasher),
                keyring: self.keyring.clone(),
                log: Arc::clone(log),
                earlier: Arc::clone(&self.earlier),
                numbering: self.numbering.clone(),
            }),
        };
        let second =
            Second::open((&works, log, &self.earlier), (access, quarantine), settings, retention.automatic)?;
        shred::Desk::open(works, shred::Door(Arc::clone(log)), retention, second)
    }
}

fn start_marker(mut high_water: HighWater, readers: [(String, Arc<Reader>); 2]) -> Result<Marker, LogError> {
    let (stop, stopped) = mpsc::channel::<()>();
    let run = move || {
        loop {
            let ended = stopped.recv_timeout(Duration::from_secs(1)) != Err(mpsc::RecvTimeoutError::Timeout);
            let marks = readers.each_ref().map(|(origin, reader)| (origin.as_str(), reader.size().get()));
            if let Err(error) = high_water.raise(&marks) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the high-water mark could not be written"
                );
            }
            if ended {
                break;
            }
        }
    };
    let thread = std::thread::Builder::new().name("high-water".to_owned()).spawn(run).map_err(|source| {
        LogError::Disk { operation: "start a thread", path: "high-water".into(), source }
    })?;
    Ok(Marker { stop, thread })
}
