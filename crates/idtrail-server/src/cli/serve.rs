//! `idtrail serve`: the server, until SIGTERM or Ctrl-C.

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, Failure, OrExit as _, ServeArgs, init};
use crate::exit::Exit;
use crate::serve::{ServeError, Server};
use crate::telemetry;

/// Runs the server.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, _: &ServeArgs) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let filter = (context.env)("RUST_LOG");
    let no_color = (context.env)("NO_COLOR").is_some();
    telemetry::init(settings.log_format, filter.as_deref(), no_color).or_exit(Exit::Config)?;
    let kek = init::kek(context, &settings)?;
    runtime()?.block_on(async {
        let server =
            Server::bind_with(init::ports(context), &settings, kek, context.env).await.map_err(failure)?;
        let opened = server.engine().opened();
        // Before anybody is told that the server is there: whoever is told may stop it at once, and in order.
        let (stop, mut hangups) = (told_to_stop()?, signal(SignalKind::hangup())?);
        tracing::info!(
            address = %server.address(),
            origin = server.engine().origin(),
            tree_size = server.engine().reader().size().get(),
            clean = opened.clean,
            cut_bytes = opened.cut_bytes,
            "ready"
        );
        let reload = server.reload();
        let reloading = tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                reload.notify_one();
            }
        });
        server.run(stop).await.map_err(failure)?;
        reloading.abort();
        tracing::info!("stopped");
        Ok(Exit::Ok)
    })
}

/// Returns the runtime of a command that serves or asks.
///
/// One core is left to the log's thread, which all requests wait for; sharing it with a worker costs more in switches
/// than the worker gains.
///
/// # Errors
/// A failure with exit code 74.
pub fn runtime() -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    let workers = cores.saturating_sub(1).max(1);
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?)
}

/// Returns a future that is ready when the process is told to stop.
///
/// # Errors
/// A failure with exit code 74 if the signals cannot be caught.
pub fn told_to_stop() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Gives a server's error its exit code.
pub fn failure(error: ServeError) -> Failure {
    let exit = match &error {
        ServeError::Listen { .. }
        | ServeError::Issuer(_)
        | ServeError::Tls(_)
        | ServeError::Oidc(_)
        | ServeError::File { .. } => Exit::Config,
        ServeError::Engine(_)
        | ServeError::Credentials(_)
        | ServeError::Sinks(_)
        | ServeError::Rights(_)
        | ServeError::Stopped(_)
        | ServeError::Socket(_) => Exit::Io,
    };
    Failure::new(exit, error)
}
