//! Runs an open installation behind a socket until it is told to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use idtrail_log::LogError;
use idtrail_vault::Kek;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::api::AppState;
use crate::auth::Auth;
use crate::credentials::{self, CredentialStore, StoreError};
use crate::engine::{Engine, EngineError, Ports};
use crate::limits::Budgets;
use crate::listen::{self, Front};
use crate::settings::Settings;
use crate::token::{IssuerNames, KeyError, TokenIssuer};

const RELOAD_PERIOD: Duration = Duration::from_secs(1);
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
        let address = settings.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
        let address = listener.local_addr().map_err(ServeError::Socket)?;
        let (stop, stopped) = oneshot::channel();
        let on_stop = move |error| {
            // The server has ended already if nobody takes this.
            let _ = stop.send(error);
        };
        let engine = Arc::new(Engine::open(ports.clone(), settings, kek, on_stop)?);
        let store = Arc::new(CredentialStore::open(Arc::clone(&ports.disk), &settings.data_dir)?);
        let names = IssuerNames {
            issuer: settings.origin.clone(),
            audience: settings.issuer.audience.clone(),
            ttl_s: settings.issuer.token_ttl_s,
        };
        let seed = engine.issuer_seed().expose();
        let issuer = TokenIssuer::new(seed, names, Arc::clone(&ports.clock), Arc::clone(&ports.entropy))?;
        let auth = Arc::new(Auth::new(Arc::clone(&store), Arc::new(issuer), Arc::clone(&ports.clock)));
        let budgets = Budgets::new(&settings.limits, &ports.clock);
        let timeout = Duration::from_millis(settings.limits.request_timeout_ms);
        let state =
            AppState::new(Arc::clone(&engine), auth, budgets, settings.limits.body_bytes_max, timeout);
        Ok(Self { listener, address, engine, store, state, stopped })
    }

    /// Returns the address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the open installation.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
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
                    _ = ticks.tick() => sweep_state.sweep(),
                    _ = over.changed() => break,
                }
            }
        });
        let (failed, failure) = oneshot::channel();
        let stopped = self.stopped;
        let until = async move {
            tokio::select! {
                () = stop => {}
                Ok(error) = stopped => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the log stopped");
                    let _ = failed.send(error);
                }
            }
        };
        listen::serve(self.listener, Arc::new(Front::new(self.state)), until).await;
        let _ = ended.send(true);
        let _ = tokio::join!(reload, sweep);
        passing.abort();
        let engine = self.engine;
        let closed = tokio::task::spawn_blocking(move || engine.stop()).await;
        if closed.is_err() {
            tracing::error!("closing the installation failed");
        }
        match failure.await {
            Ok(error) => Err(ServeError::Stopped(error)),
            Err(_) => Ok(()),
        }
    }
}
