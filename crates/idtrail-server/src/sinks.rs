//! The sinks of an installation: one worker each, started with the server and stopped in its drain, added, changed and
//! removed while it runs.
//!
//! ```text
//! [sinks.NAME] in the configuration ─┐
//! sinks.json, written by the API ────┴─> Sinks ─> one Worker a sink ─> outside systems
//!                                          │          │
//!                      log and keys: LogFeed ─────────┘  memory in sinks/NAME (cursor, dead letters)
//! ```
//! A worker reads what is durable, behind the acknowledgements, so a sink that is slow, stuck or wrongly configured costs
//! no event and makes no server unready. A sink that cannot be started is shown as `broken` with the reason.
//!
//! What must never happen here: a secret in an answer, a sink of the configuration file changed over the API, the memory
//! of a removed sink used by a later one of the same name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use hkdf::Hkdf;
use idtrail_connect::engine::{Circuit, Command, DeadLetter};
use idtrail_connect::settings::{Ports as SinkPorts, SettingsError, SinkSettings};
use idtrail_connect::sink::Grants;
use idtrail_connect::store::StoreError;
use idtrail_connect::worker::{CommandError, Parts, SinkStatus, Worker};
use idtrail_connect::{CLOSED, FeedError, Position};
use idtrail_vault::Secret32;
use idtrail_verify::time_text;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::engine::{Engine, Ports};
use crate::metrics::SinkFigures;
use crate::settings::{Settings, share_place};
use feed::LogFeed;
pub use preview::Proposed;
use registry::RegistryError;
use secrets::ServerSecrets;

pub mod feed;
pub mod policy;
mod preview;
pub mod registry;
pub mod rights;
pub mod secrets;

/// Looks up an environment variable.
pub type Env = fn(&str) -> Option<String>;

/// Most sinks of one installation: each has tasks, buffers and a connection of its own.
pub const SINKS_MAX: usize = 64;
/// Files of a sink's memory.
const MEMORY: [&str; 4] = ["cursor", "dead-letters", CLOSED, "lock"];

/// All sinks.
pub struct Sinks {
    feed: Arc<LogFeed>,
    secret: Secret32,
    ports: Ports,
    env: Env,
    data_dir: PathBuf,
    hosts: Vec<String>,
    entries: RwLock<BTreeMap<String, Arc<Entry>>>,
    /// Held by whoever changes which sinks there are, across the disk and the start of a worker.
    changing: tokio::sync::Mutex<()>,
}

struct Entry {
    settings: SinkSettings,
    source: Source,
    state: State,
}

enum State {
    Running(Box<Worker>),
    /// Why there is no worker.
    Broken(String),
}

/// Where a sink is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the configuration file: it can be changed only there.
    File,
    /// Over the API.
    Api,
}

/// Why something cannot be done with a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinksError {
    /// There is no sink of this name.
    #[error("there is no such sink")]
    NotFound,
    /// There is one already.
    #[error("a sink of this name is there already")]
    Exists,
    /// It stands in the configuration file.
    #[error("this sink stands in the configuration file and can be changed only there")]
    ReadOnly,
    /// Another sink writes the same place.
    #[error("another sink writes there")]
    SamePlace,
    /// There are as many sinks as there may be.
    #[error("there are as many sinks as there may be. limit={SINKS_MAX}")]
    TooMany,
    /// It has no worker.
    #[error("this sink is not running")]
    NotRunning,
    /// Its target does not recognise rows that it has.
    #[error("the target does not recognise rows that it has, so older rows cannot be sent again")]
    NotKeyed,
    /// The sink cannot be made: a secret is missing, or something is not written as it must be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The list of sinks cannot be kept.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A sink's memory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A file of a removed sink cannot be removed.
    #[error("a file of the sink cannot be removed. path={}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// The process is ending.
    #[error("the server is being stopped")]
    Ended,
}

impl From<CommandError> for SinksError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Ended => Self::NotRunning,
            CommandError::NotKeyed => Self::NotKeyed,
        }
    }
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sinks").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Sinks {
    /// Starts every sink. One that cannot start is kept as broken. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Registry` if the list of sinks that were added over the API cannot be read.
    pub async fn start(engine: &Engine, settings: &Settings, env: Env) -> Result<Arc<Self>, SinksError> {
        let new = Arc::new(Self {
            feed: Arc::new(LogFeed::new(engine)),
            secret: engine.sinks_secret().clone(),
            ports: engine.ports().clone(),
            env,
            data_dir: settings.data_dir.clone(),
            hosts: settings.sink_api.hosts.clone(),
            entries: RwLock::default(),
            changing: tokio::sync::Mutex::new(()),
        });
        let of_file = settings.sinks.iter().map(|sink| (sink.clone(), Source::File));
        let (disk, data_dir) = (Arc::clone(&new.ports.disk), new.data_dir.clone());
        let added = tokio::task::spawn_blocking(move || registry::load(&*disk, &data_dir))
            .await
            .map_err(|_| SinksError::Ended)??;
        for (sink, source) in of_file.chain(added.into_iter().map(|sink| (sink, Source::Api))) {
            if new.entry(&sink.name).is_ok() {
                tracing::error!(
                    sink = sink.name,
                    "the sink of the configuration file hides one added over the API"
                );
                continue;
            }
            let this = Arc::clone(&new);
            let entry = tokio::task::spawn_blocking(move || this.open(sink, source))
                .await
                .map_err(|_| SinksError::Ended)?;
            new.put(entry);
        }
        Ok(new)
    }

    /// Ends all workers. Sinks cannot be changed afterwards.
    pub async fn stop(&self) {
        let _changing = self.changing.lock().await;
        let entries = std::mem::take(&mut *self.entries.write().unwrap_or_else(PoisonError::into_inner));
        for entry in entries.values() {
            entry.stop().await;
        }
    }

    /// Returns the state of every sink, by name.
    pub fn statuses(&self) -> Vec<Value> {
        self.all().iter().map(|entry| entry.status()).collect()
    }

    /// Returns the state of one sink, with its settings.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn status(&self, name: &str) -> Result<Value, SinksError> {
        let entry = self.entry(name)?;
        let mut status = entry.status();
        if let Value::Object(members) = &mut status {
            members.insert("settings".to_owned(), json!(entry.settings));
            let privacy = entry.settings.plan(self.reference_key(name)).map(|plan| plan.mapping.privacy());
            let consequence = privacy.map(|privacy| privacy.consequence()).unwrap_or_default();
            members.insert("consequence".to_owned(), json!(consequence));
        }
        Ok(status)
    }

    /// Waits until a sink has settled everything that is durable in the log. Never returns if it is stuck.
    ///
    /// # Errors
    /// `NotFound`, `NotRunning`.
    pub async fn caught_up(&self, name: &str) -> Result<(), SinksError> {
        match &self.entry(name)?.state {
            State::Running(worker) => {
                worker.caught_up().await;
                Ok(())
            }
            State::Broken(_) => Err(SinksError::NotRunning),
        }
    }

    /// Returns the figures of every running sink for the metrics.
    pub fn figures(&self) -> Vec<SinkFigures> {
        self.all().iter().map(|entry| entry.figures()).collect()
    }

    /// Returns a sink's dead letters, in order.
    ///
    /// # Errors
    /// `NotFound`, `NotRunning`.
    pub fn dead_letters(&self, name: &str) -> Result<Arc<Vec<DeadLetter>>, SinksError> {
        match &self.entry(name)?.state {
            State::Running(worker) => Ok(worker.dead_letters()),
            State::Broken(_) => Err(SinksError::NotRunning),
        }
    }

    /// Gives a sink a command and waits until it is taken and durable. A broken sink is started again by `Resume`.
    ///
    /// # Errors
    /// `NotFound`, `NotRunning`, `NotKeyed`; as [`Self::add`] where it is started again.
    pub async fn command(self: &Arc<Self>, name: &str, command: Command) -> Result<(), SinksError> {
        let entry = self.entry(name)?;
        match &entry.state {
            State::Running(worker) => Ok(worker.command(command).await?),
            State::Broken(_) if command == Command::Resume => {
                let _changing = self.changing.lock().await;
                let now = self.entry(name)?;
                if !Arc::ptr_eq(&now, &entry) {
                    return Ok(());
                }
                let (this, settings, source) = (Arc::clone(self), entry.settings.clone(), entry.source);
                let opened = blocking(move || Ok(this.open(settings, source))).await?;
                let is_broken = matches!(opened.state, State::Broken(_));
                self.put(opened);
                if is_broken {
                    return Err(SinksError::NotRunning);
                }
                Ok(())
            }
            State::Broken(_) => Err(SinksError::NotRunning),
        }
    }

    /// Adds a sink and starts it; it is there after a restart too.
    ///
    /// # Errors
    /// `Exists`, `SamePlace`, `TooMany`, `Settings`, `Registry`, `Store`, `Io`.
    pub async fn add(self: &Arc<Self>, settings: SinkSettings) -> Result<(), SinksError> {
        let _changing = self.changing.lock().await;
        if self.entry(&settings.name).is_ok() {
            return Err(SinksError::Exists);
        }
        self.alone(&settings)?;
        if self.all().len() >= SINKS_MAX {
            return Err(SinksError::TooMany);
        }
        let this = Arc::clone(self);
        let entry = blocking(move || {
            this.make(&settings)?;
            // A sink of this name that was removed may have left something behind.
            this.forget(&settings.name)?;
            this.keep(Some(&settings), None)?;
            Ok(this.open(settings, Source::Api))
        });
        self.put(entry.await?);
        Ok(())
    }

    /// Changes a sink that was added over the API. It goes on where it stands.
    ///
    /// # Errors
    /// `NotFound`, `ReadOnly`, `SamePlace`, `Settings`, `Registry`.
    pub async fn change(self: &Arc<Self>, settings: SinkSettings) -> Result<(), SinksError> {
        let _changing = self.changing.lock().await;
        let old = self.entry(&settings.name)?;
        if old.source == Source::File {
            return Err(SinksError::ReadOnly);
        }
        self.alone(&settings)?;
        let this = Arc::clone(self);
        let settings = blocking(move || {
            this.make(&settings)?;
            this.keep(Some(&settings), None)?;
            Ok(settings)
        })
        .await?;
        old.stop().await;
        let this = Arc::clone(self);
        self.put(blocking(move || Ok(this.open(settings, Source::Api))).await?);
        Ok(())
    }

    /// Removes a sink that was added over the API, with its cursor and its dead letters.
    ///
    /// # Errors
    /// `NotFound`, `ReadOnly`, `Registry`, `Io`.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<(), SinksError> {
        let _changing = self.changing.lock().await;
        let old = self.entry(name)?;
        if old.source == Source::File {
            return Err(SinksError::ReadOnly);
        }
        let (this, gone) = (Arc::clone(self), name.to_owned());
        blocking(move || this.keep(None, Some(&gone))).await?;
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        old.stop().await;
        let (this, gone) = (Arc::clone(self), name.to_owned());
        blocking(move || this.forget(&gone)).await
    }

    /// Gives the places of a target their confines, as is right for a sink that comes over the API.
    ///
    /// # Errors
    /// [`policy::Refused`].
    pub fn confine(&self, target: &mut Value) -> Result<(), policy::Refused> {
        policy::confine(target, &self.data_dir, &self.hosts)
    }

    /// Gives the secrets of the second principal their places, as [`Self::confine`] does those of the target.
    ///
    /// # Errors
    /// [`policy::Refused`].
    pub fn confine_eraser(&self, rights: &mut Value) -> Result<(), policy::Refused> {
        policy::secrets(rights, &self.data_dir)
            .map_err(|refused| policy::Refused { pointer: "/rights", ..refused })
    }

    fn alone(&self, settings: &SinkSettings) -> Result<(), SinksError> {
        let all = self.all();
        let mut others = all.iter().filter(|entry| entry.settings.name != settings.name);
        if others.any(|entry| share_place(&entry.settings, settings)) {
            Err(SinksError::SamePlace)
        } else {
            Ok(())
        }
    }

    /// Makes a sink without starting it, to find what is wrong with its settings.
    fn make(&self, settings: &SinkSettings) -> Result<Parts, SinksError> {
        let ports = SinkPorts { disk: Arc::clone(&self.ports.disk), clock: Arc::clone(&self.ports.clock) };
        let plan = settings.plan(self.reference_key(&settings.name))?;
        let secrets = ServerSecrets::new(Arc::clone(&self.ports.disk), self.env);
        let sink = settings.sink(&plan, &secrets, &ports)?;
        Ok(Parts {
            name: settings.name.clone(),
            dir: memory_dir(&self.data_dir, &settings.name),
            plan,
            sink,
            feed: Arc::clone(&self.feed) as _,
            disk: ports.disk,
            clock: ports.clock,
            entropy: Arc::clone(&self.ports.entropy),
            deadline: settings.deadline(),
        })
    }

    /// Starts a sink's worker. Waits for the disk.
    fn open(&self, settings: SinkSettings, source: Source) -> Entry {
        let started = self.make(&settings).and_then(|parts| Ok(Worker::start(parts)?));
        let state = match started {
            Ok(worker) => State::Running(Box::new(worker)),
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(
                    sink = settings.name,
                    error = &error as &dyn std::error::Error,
                    "sink cannot start"
                );
                State::Broken(reason)
            }
        };
        Entry { settings, source, state }
    }

    /// Writes the list of sinks that were added over the API.
    fn keep(&self, changed: Option<&SinkSettings>, removed: Option<&str>) -> Result<(), SinksError> {
        let mut kept = registry::load(&*self.ports.disk, &self.data_dir)?;
        kept.retain(|one| {
            Some(one.name.as_str()) != removed && changed.is_none_or(|new| new.name != one.name)
        });
        kept.extend(changed.cloned());
        Ok(registry::save(&*self.ports.disk, &self.data_dir, kept)?)
    }

    /// Removes the memory of a sink that is not running.
    fn forget(&self, name: &str) -> Result<(), SinksError> {
        let (disk, dir) = (&self.ports.disk, memory_dir(&self.data_dir, name));
        for file in MEMORY {
            let path = dir.join(file);
            match disk.remove(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(SinksError::Io { path, source }),
            }
        }
        if disk.exists(&dir).unwrap_or(false) {
            disk.sync_dir(&dir).map_err(|source| SinksError::Io { path: dir, source })?;
        }
        Ok(())
    }

    /// Returns the key of a sink's references. References of two sinks cannot be told to be of one person.
    fn reference_key(&self, name: &str) -> [u8; 32] {
        let mut key = [0; 32];
        let prk = Hkdf::<Sha256>::new(None, self.secret.expose());
        prk.expand_multi_info(&[b"idtrail/sink-references/v1/", name.as_bytes()], &mut key)
            .expect("HKDF gives 32 bytes");
        key
    }

    fn put(&self, entry: Entry) {
        let name = entry.settings.name.clone();
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(entry));
    }

    fn entry(&self, name: &str) -> Result<Arc<Entry>, SinksError> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).cloned().ok_or(SinksError::NotFound)
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Entry {
    async fn stop(&self) {
        if let State::Running(worker) = &self.state {
            worker.stop().await;
        }
    }

    fn status(&self) -> Value {
        let settings = &self.settings;
        let kind = kind(settings);
        let mut shown = json!({
            "name": settings.name,
            "kind": kind,
            "source": match self.source { Source::File => "file", Source::Api => "api" },
            "pii": settings.pii,
            "erase": settings.erase,
        });
        let state = match &self.state {
            State::Running(worker) => running(&worker.status()),
            State::Broken(reason) => json!({ "state": "broken", "problem": reason }),
        };
        if let (Value::Object(shown), Value::Object(state)) = (&mut shown, state) {
            shown.extend(state);
        }
        shown
    }

    fn figures(&self) -> SinkFigures {
        let status = match &self.state {
            State::Running(worker) => Some(worker.status()),
            State::Broken(_) => None,
        };
        SinkFigures { sink: self.settings.name.clone(), status }
    }
}

/// Returns where a sink's cursor and dead letters are.
pub fn memory_dir(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join("sinks").join(name)
}

/// Returns the kind of a sink's target, as the configuration writes it.
pub fn kind(settings: &SinkSettings) -> String {
    let target = serde_json::to_value(&settings.target).unwrap_or_default();
    target.get("kind").and_then(Value::as_str).unwrap_or("unknown").to_owned()
}

/// Returns the word for a running sink's state.
pub fn state_name(circuit: Circuit) -> &'static str {
    match circuit {
        Circuit::Closed => "delivering",
        Circuit::Retrying => "retrying",
        Circuit::Open => "failing",
        Circuit::Stopped => "stopped",
        Circuit::Paused => "paused",
    }
}

fn running(status: &SinkStatus) -> Value {
    let grants = status.grants.as_ref().map(|grants| match grants {
        Grants::AppendOnly => json!({ "state": "append-only" }),
        Grants::Excess { can } => json!({ "state": "excess", "can": can }),
        Grants::Unknown { reason } => json!({ "state": "unknown", "reason": reason }),
    });
    let failure = status.last_failure.as_ref().map(|failure| {
        let at = u64::try_from(failure.at_ms).map(time_text).unwrap_or_default();
        json!({ "code": failure.code, "status": failure.status, "at": at })
    });
    json!({
        "state": state_name(status.circuit),
        "replicatedUpTo": place(status.replicated_up_to),
        "settled": status.settled,
        "lagEvents": status.lag_events,
        "lagSeconds": status.lag_ms as f64 / 1000.0,
        "delivered": status.delivered,
        "filtered": status.filtered,
        "erased": status.erased,
        "dead": status.dead,
        "beyond": status.beyond.iter().map(|beyond| json!({
            "survived": place(beyond.survived), "newest": place(beyond.newest), "rows": beyond.rows,
            "rowsMax": beyond.rows_max()
        })).collect::<Vec<_>>(),
        "lastFailure": failure,
        "grants": grants,
    })
}

/// Returns a place as the API writes it: `origin/index`.
pub fn place(at: Position) -> String {
    at.to_string()
}

/// Does what waits for the disk, off the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinksError> + Send + 'static,
) -> Result<T, SinksError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SinksError::Ended))
}
