//! Runs an open installation behind a socket until it is told to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use idtrail_log::LogError;
use idtrail_vault::Kek;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot, watch};

use crate::api::AppState;
use crate::auth::Auth;
use crate::connection;
use crate::credentials::{self, CredentialStore, StoreError};
use crate::engine::rights::{Rights, RightsStartError};
use crate::engine::{Engine, EngineError, Ports};
use crate::front::Front;
use crate::limits::Budgets;
use crate::metrics::{MeteredDisk, Metrics};
use crate::monitor::Monitor;
use crate::oidc::{Issuer, Keys, KeysError};
use crate::settings::{HttpSettings, Settings, TlsSettings};
use crate::sinks::{Env, Sinks, SinksError};
use crate::tls::{Certificate, TlsError};
use crate::token::{IssuerNames, KeyError, TokenIssuer};

const RELOAD_PERIOD: Duration = Duration::from_secs(1);
const LOOK_PERIOD: Duration = Duration::from_secs(1);
const RENEWAL_PERIOD: Duration = Duration::from_secs(5);
const AUTHORITY_BYTES_MAX: u64 = 1024 * 1024;
const SWEEP_PERIOD: Duration = Duration::from_secs(60);

/// Why a server could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The installation cannot be opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The credentials cannot be read.
    #[error("the credentials cannot be read")]
    Credentials(#[from] StoreError),
    /// The token issuer cannot be made.
    #[error("the token issuer cannot be made")]
    Issuer(#[from] KeyError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is another server running there? choose another `listen` or --port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The server's certificate cannot be used.
    #[error("the server's certificate cannot be used")]
    Tls(#[from] TlsError),
    /// What an issuer is checked with cannot be used.
    #[error("an [[oidc]] issuer cannot be set up")]
    Oidc(#[from] KeysError),
    /// A configured file cannot be read.
    #[error("a configured file cannot be read. path={}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// The list of sinks cannot be read.
    #[error("the sinks that were added over the API cannot be read")]
    Sinks(#[source] SinksError),
    /// The requests of data subjects cannot be taken up.
    #[error(transparent)]
    Rights(#[from] RightsStartError),
    /// The log failed while the server was running.
    #[error(
        "the log stopped: nothing more can be stored. Mend the cause and restart; acknowledged events are safe"
    )]
    Stopped(#[source] LogError),
    /// A socket operation failed.
    #[error("the server's socket failed")]
    Socket(#[source] std::io::Error),
}

/// A server that listens, not yet running.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    engine: Arc<Engine>,
    store: Arc<CredentialStore>,
    state: AppState,
    certificate: Option<Arc<Certificate>>,
    http: HttpSettings,
    reload: Arc<Notify>,
    stopped: oneshot::Receiver<LogError>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the installation and listens.
    ///
    /// # Errors
    /// [`ServeError`]; the data are as they were.
    pub async fn bind(ports: Ports, settings: &Settings, kek: Kek) -> Result<Self, ServeError> {
        Self::bind_with(ports, settings, kek, |_| None).await
    }

    /// As [`Server::bind`]; secrets of sinks may stand in this environment.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn bind_with(
        ports: Ports,
        settings: &Settings,
        kek: Kek,
        env: Env,
    ) -> Result<Self, ServeError> {
        let address = settings.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
        let address = listener.local_addr().map_err(ServeError::Socket)?;
        let (stop, stopped) = oneshot::channel();
        let on_stop = move |error| {
            // The server has ended already if nobody takes this.
            let _ = stop.send(error);
        };
        let certificate = certificate(&ports, settings)?;
        let metrics = Arc::new(Metrics::default());
        let metered = MeteredDisk::new(
            Arc::clone(&ports.disk),
            settings.data_dir.join("log"),
            Arc::clone(&ports.clock),
            metrics.fsync_seconds.clone(),
        );
        let for_engine = Ports { disk: Arc::new(metered), ..ports.clone() };
        let engine = Arc::new(Engine::open(for_engine, settings, kek, on_stop)?);
        let monitor = Arc::new(Monitor::new(Arc::clone(&engine), Arc::clone(&metrics), settings));
        let store = Arc::new(CredentialStore::open(Arc::clone(&ports.disk), &settings.data_dir)?);
        let names = IssuerNames {
            issuer: settings.origin.clone(),
            audience: settings.issuer.audience.clone(),
            ttl_s: settings.issuer.token_ttl_s,
        };
        let seed = engine.issuer_seed().expose();
        let issuer = TokenIssuer::new(seed, names, Arc::clone(&ports.clock), Arc::clone(&ports.entropy))?;
        let auth = Auth::new(Arc::clone(&store), Arc::new(issuer), Arc::clone(&ports.clock), metrics)
            .with_issuers(issuers(&ports, settings)?);
        let budgets = Budgets::new(&settings.limits, &ports.clock);
        let timeout = Duration::from_millis(settings.limits.request_timeout_ms);
        let sinks = Sinks::start(&engine, settings, env).await.map_err(ServeError::Sinks)?;
        let rights = Rights::start(&engine, &sinks, settings)?;
        let state = AppState::new(
            Arc::clone(&engine),
            Arc::new(auth),
            monitor,
            sinks,
            rights,
            budgets,
            settings.limits.body_bytes_max,
            timeout,
        );
        Ok(Self {
            listener,
            address,
            engine,
            store,
            state,
            certificate,
            http: settings.http,
            reload: Arc::default(),
            stopped,
        })
    }

    /// Returns the address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the open installation.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Returns the sinks.
    pub fn sinks(&self) -> &Arc<Sinks> {
        self.state.sinks()
    }

    /// Returns the requests of data subjects.
    pub(crate) fn rights(&self) -> &Arc<Rights> {
        self.state.rights()
    }

    /// Returns what makes the server read its certificate again at once.
    pub fn reload(&self) -> Arc<Notify> {
        Arc::clone(&self.reload)
    }

    /// Serves until `stop` is ready or the log fails, then finishes what is under way and closes the installation.
    ///
    /// # Errors
    /// `Stopped` if the log failed; `Socket`.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
        let (ended, mut over) = watch::channel(false);
        let mut reload_until = over.clone();
        let reload = tokio::spawn(credentials::watch(self.store, RELOAD_PERIOD, async move {
            let _ = reload_until.changed().await;
        }));
        let answers = Arc::clone(self.engine.answers());
        let passing = tokio::spawn(async move { answers.pass_on().await });
        let sweep_state = self.state.clone();
        let sweep = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP_PERIOD);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        let state = sweep_state.clone();
                        if tokio::task::spawn_blocking(move || state.sweep()).await.is_err() {
                            tracing::error!("sweeping failed");
                        }
                    }
                    _ = over.changed() => break,
                }
            }
        });
        let look = tokio::spawn(look_after(self.state.clone(), ended.subscribe()));
        let renewal = tokio::spawn(renew(
            self.certificate.clone(),
            self.reload,
            Arc::clone(self.state.metrics()),
            ended.subscribe(),
        ));
        let (failed, failure) = oneshot::channel();
        let monitor = Arc::clone(self.state.monitor());
        let stopped = self.stopped;
        let until = async move {
            tokio::select! {
                () = stop => {}
                Ok(error) = stopped => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the log stopped");
                    let _ = failed.send(error);
                }
            }
            monitor.stopping();
        };
        let sinks = Arc::clone(self.state.sinks());
        let rights = Arc::clone(self.state.rights());
        let front = Arc::new(Front::new(self.state));
        connection::serve(self.listener, self.certificate, front, self.http, until).await;
        let _ = ended.send(true);
        let _ = tokio::join!(reload, sweep, look, renewal);
        passing.abort();
        // Behind the last answer: what was acknowledged in the drain may still be sent, and what is not goes out later.
        sinks.stop().await;
        let engine = self.engine;
        let closed = tokio::task::spawn_blocking(move || {
            rights.stop();
            engine.stop();
        })
        .await;
        if closed.is_err() {
            tracing::error!("closing the installation failed");
        }
        match failure.await {
            Ok(error) => Err(ServeError::Stopped(error)),
            Err(_) => Ok(()),
        }
    }
}

fn certificate(ports: &Ports, settings: &Settings) -> Result<Option<Arc<Certificate>>, TlsError> {
    let TlsSettings::Files { cert, key } = &settings.tls else { return Ok(None) };
    let (disk, clock) = (Arc::clone(&ports.disk), Arc::clone(&ports.clock));
    Certificate::open(disk, clock, cert.clone(), key.clone()).map(|certificate| Some(Arc::new(certificate)))
}

fn issuers(ports: &Ports, settings: &Settings) -> Result<Vec<Issuer>, ServeError> {
    let mut issuers = Vec::new();
    for one in &settings.oidc {
        let authority = match &one.ca_file {
            None => None,
            Some(path) => Some(
                idtrail_port::read_whole(&*ports.disk, path, AUTHORITY_BYTES_MAX)
                    .map_err(|source| ServeError::File { path: path.clone(), source })?,
            ),
        };
        let keys = Keys::new(one, authority.as_deref(), Arc::clone(&ports.clock))?;
        issuers.push(Issuer::new(one.clone(), keys, Arc::clone(&ports.clock)));
    }
    Ok(issuers)
}

/// Looks at the installation once a second until the server has ended.
async fn look_after(state: AppState, mut over: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(LOOK_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let monitor = Arc::clone(state.monitor());
                // A file system that hangs must not take a worker with it.
                if tokio::task::spawn_blocking(move || monitor.look()).await.is_err() {
                    tracing::error!("looking after the installation failed");
                }
            }
            _ = over.changed() => break,
        }
    }
}

/// Reads the certificate again every few seconds, and at once when it is asked to.
async fn renew(
    certificate: Option<Arc<Certificate>>,
    reload: Arc<Notify>,
    metrics: Arc<Metrics>,
    mut over: watch::Receiver<bool>,
) {
    let Some(certificate) = certificate else { return };
    let loaded = |metrics: &Metrics, certificate: &Certificate| {
        metrics.tls_loaded_timestamp_seconds.set(certificate.loaded_ms().div_euclid(1000));
    };
    loaded(&metrics, &certificate);
    let mut failing = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEWAL_PERIOD) => {}
            () = reload.notified() => failing = false,
            _ = over.changed() => return,
        }
        let reading = Arc::clone(&certificate);
        match tokio::task::spawn_blocking(move || reading.reload_if_changed()).await {
            Ok(Ok(changed)) => {
                failing = false;
                if changed {
                    loaded(&metrics, &certificate);
                    tracing::info!("certificate reloaded");
                }
            }
            // Said once and not every few seconds, until it works again.
            _ if failing => {}
            Ok(Err(error)) => {
                failing = true;
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "the new certificate cannot be used, the last good one stays in use");
            }
            Err(_) => {
                failing = true;
                tracing::error!("reading the certificate failed, the last good one stays in use");
            }
        }
    }
}
