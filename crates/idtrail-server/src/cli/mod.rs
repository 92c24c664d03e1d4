//! The command line: what can be typed, and where it goes.
//!
//! Data goes to standard output, everything else to standard error, so that output can be piped; `--json` gives every
//! command a form for programs. Secrets are never given as flags, because other users see the arguments of a process;
//! a new secret is printed once. The exit codes are those of [`crate::exit`].
//!
//! Commands that need the log are functions that the binary hands in ([`Handlers`]); this module knows only their
//! arguments.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use idtrail_port::{Clock, Disk, Entropy};

use crate::credentials::StoreError;
use crate::exit::Exit;
use crate::settings::{Environment, Settings, SettingsError};

pub mod backup;
pub mod bench;
mod bench_identity;
mod bench_rights;
mod bench_sinks;
mod bench_trail;
pub mod client;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod dsar;
pub mod fsck;
pub mod init;
pub mod key;
pub mod rebuild;
pub mod reference;
pub mod retention;
pub mod rights;
pub mod rotate;
pub mod send;
pub mod serve;
pub mod shred;
pub mod sink;
pub mod token;
pub mod verify;

/// Configuration file that is read if none is named.
pub const DEFAULT_CONFIG: &str = "idtrail.toml";

/// A verifiable audit trail of identity decisions.
#[derive(Clone, Debug, Parser)]
#[command(name = "idtrail", version, about, propagate_version = true)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Args, Clone, Debug, Default)]
pub struct Globals {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Configuration file [default: idtrail.toml]
    #[arg(long, global = true, value_name = "FILE", env = "IDTRAIL_CONFIG")]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a data directory, its keys and a configuration file.
    Init(InitArgs),
    /// Run the server.
    Serve(ServeArgs),
    /// Run a server with made-up data that shows what idtrail does.
    Demo(DemoArgs),
    /// Manage API keys and the credentials of persons.
    Key(key::KeyArgs),
    /// Verify a receipt, proof or evidence package, offline.
    Verify(VerifyArgs),
    /// Check every stored byte of a data directory.
    Fsck(FsckArgs),
    /// Make the index anew from the log, or check it.
    Rebuild(rebuild::RebuildArgs),
    /// Copy logs and vault to another place, also beside a running server.
    Backup(backup::BackupArgs),
    /// Make an installation of a backup; it goes on with a log of its own.
    Restore(backup::RestoreArgs),
    /// Destroy the keys of leaves, for ever.
    Shred(shred::ShredArgs),
    /// Keep leaves from being erased and from expiring.
    Hold(shred::HoldArgs),
    /// Say what has expired, and destroy it.
    Retention(retention::RetentionArgs),
    /// Replace the key that signs the log, the key-encryption key, or the pepper of identifiers.
    Rotate(rotate::RotateArgs),
    /// Measure how fast this machine stores events.
    Bench(BenchArgs),
    /// Send events from a file or pipe to a server.
    Send(send::SendArgs),
    /// Ask a server for everything that is held about a customer.
    Dsar(dsar::DsarArgs),
    /// Open, approve and follow requests of data subjects at a server.
    Rights(rights::RightsArgs),
    /// Look at the sinks of a server, and say what they are to do.
    Sink(sink::SinkArgs),
    /// Make the token of an identifier, or explain how.
    Token(token::TokenArgs),
    /// Check the configuration.
    Config(config::ConfigArgs),
    /// Look at an installation and say what could hurt.
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell.
    Completions(CompletionsArgs),
    /// Print the OpenAPI document of the HTTP interface.
    Openapi,
    /// Print a page of the documentation that comes from the program itself.
    Reference(reference::ReferenceArgs),
}

/// Arguments of `init`.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// Directory to make; must be missing or empty.
    #[arg(long, value_name = "DIR", default_value = "idtrail")]
    pub dir: PathBuf,
    /// Name of the log, a URL without its scheme; unique in the world. [default: localhost/idtrail/ and 8 random digits]
    #[arg(long, value_name = "NAME")]
    pub origin: Option<String>,
    /// Name of the tenant. Can never be changed.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub tenant: String,
}

/// Arguments of `serve`: none beside `--config`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {}

/// Arguments of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Directory for the data; kept afterwards. [default: a new one among the temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Port on 127.0.0.1.
    #[arg(long, default_value_t = 7070)]
    pub port: u16,
    /// End after the events were sent and verified instead of serving on.
    #[arg(long)]
    pub exit: bool,
    /// Events to make up.
    #[arg(long, value_name = "COUNT", default_value_t = 5000)]
    pub events: u64,
}

/// Arguments of `verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Receipt, .tlog-proof, evidence package or certificate.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The sealed leaf that a receipt or proof is about, as bytes.
    #[arg(long, value_name = "FILE")]
    pub leaf: Option<PathBuf>,
    /// Policy file: the keys of the log and its witnesses, and how many of them must have signed.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// Arguments of `fsck`.
#[derive(Args, Clone, Debug)]
pub struct FsckArgs {
    /// Data directory, if there is no configuration file. With one, every leaf is opened as well; without the vault's key
    /// the sealed events are checked as bytes only.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub dir: Option<PathBuf>,
    /// Policy file: the keys of the log and its witnesses.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// A checkpoint that was kept outside: the log must still have that tree, or it was cut, rolled back or rewritten. Of the
    /// log or of its access log; may be given more than once.
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub checkpoint: Vec<PathBuf>,
}

/// Arguments of `bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Measure this beside idtrail, in turns.
    #[arg(long, value_enum, value_name = "SYSTEM")]
    pub vs: Option<Rival>,
    /// Send batches of 1,000 events over 4 connections in place of single ones; beside inserts of 100 and 1,000 rows.
    #[arg(long)]
    pub batches: bool,
    /// Measure identity instead: decisions in memory, and durable questions beside plain events.
    #[arg(long, conflicts_with_all = ["vs", "batches"])]
    pub identity: bool,
    /// Identifiers that are known in memory, with `--identity`; 10 million take about 2.5 GB.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(2..=100_000_000))]
    pub identifiers: u64,
    /// Connections that send at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub connections: u32,
    /// Seconds of one round.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Rounds; the median counts.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Measure sinks in place of single events: how late and how fast they deliver, beside COPY, and what a stuck one costs.
    #[arg(long, conflicts_with_all = ["vs", "batches", "identity"])]
    pub sinks: bool,
    /// Measure the whole trail beside PostgreSQL: single events, batches, requests for access, bytes at rest, checks, starts.
    #[arg(long, conflicts_with_all = ["vs", "batches", "identity", "sinks"])]
    pub trail: bool,
    /// Events that the log is filled with, with `--trail`; 10 million take about 25 GB, with PostgreSQL's.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, requires = "trail", value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    pub events: u64,
    /// Events per second while the lag of sinks is measured.
    #[arg(long, value_name = "COUNT", default_value_t = 5000, requires = "sinks", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Measure erasures in place of single events: many at once, and that they leave everything else as it was.
    #[arg(long, conflicts_with_all = ["vs", "batches", "identity", "sinks"])]
    pub rights: bool,
    /// People who are erased one after another, with `--rights`.
    #[arg(long, value_name = "COUNT", default_value_t = 1000, requires = "rights", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub cases: u64,
}

/// Arguments of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// A system to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    /// PostgreSQL with a plain table of events.
    Postgres,
}

/// The world outside, as commands reach it.
#[derive(Clone)]
pub struct Context {
    /// Options of all commands.
    pub globals: Globals,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Environment variables.
    pub env: fn(&str) -> Option<String>,
}

impl Context {
    /// Returns the configuration file's path.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.globals.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG))
    }

    /// Reads the configuration file.
    ///
    /// # Errors
    /// A failure with exit code 6.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = Settings::load(&*self.disk, &self.config_path())?;
        settings.identity.environment = Environment(self.env);
        Ok(settings)
    }
}

/// A function behind a command.
pub type Handler<A> = fn(&Context, &A) -> Result<Exit, Failure>;

/// The functions behind the commands, as the binary uses them.
pub const HANDLERS: Handlers = Handlers {
    init: init::run,
    serve: serve::run,
    demo: demo::run,
    verify: verify::run,
    fsck: fsck::run,
    bench: bench::run,
};

/// The functions behind the commands that need the log.
#[derive(Clone, Copy)]
pub struct Handlers {
    /// `init`.
    pub init: Handler<InitArgs>,
    /// `serve`.
    pub serve: Handler<ServeArgs>,
    /// `demo`.
    pub demo: Handler<DemoArgs>,
    /// `verify`.
    pub verify: Handler<VerifyArgs>,
    /// `fsck`.
    pub fsck: Handler<FsckArgs>,
    /// `bench`.
    pub bench: Handler<BenchArgs>,
}

/// A command that could not be done: the exit code and why.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// Why, with its causes.
    pub error: anyhow::Error,
}

impl Failure {
    /// Puts both together.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// Makes a failure without a cause.
    pub fn message(exit: Exit, message: impl Display + std::fmt::Debug + Send + Sync + 'static) -> Self {
        Self { exit, error: anyhow::Error::msg(message) }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(Exit::Config, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::Invalid(_) | StoreError::TooManyLive | StoreError::NotFound => Exit::Usage,
            StoreError::Busy | StoreError::Damaged { .. } | StoreError::Io { .. } => Exit::Io,
        };
        Self::new(exit, error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Io, error)
    }
}

/// Gives an error an exit code.
pub trait OrExit<T> {
    /// Turns an error into a failure with this exit code.
    ///
    /// # Errors
    /// The failure.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, error))
    }
}

/// Reads the command line, runs the command, says on standard error what went wrong, and returns the exit code.
pub fn run<A, T>(arguments: A, context: impl FnOnce(Globals) -> Context, handlers: &Handlers) -> Exit
where
    A: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version, which are no errors, to standard output by itself.
            let wrong = error.use_stderr();
            return if error.print().is_err() || wrong { Exit::Usage } else { Exit::Ok };
        }
    };
    let context = context(cli.globals);
    match dispatch(&context, &cli.command, handlers) {
        Ok(exit) => exit,
        Err(failure) => {
            report(&failure, context.globals.json);
            failure.exit
        }
    }
}

fn dispatch(context: &Context, command: &Command, handlers: &Handlers) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => (handlers.init)(context, args),
        Command::Serve(args) => (handlers.serve)(context, args),
        Command::Demo(args) => (handlers.demo)(context, args),
        Command::Key(args) => key::run(context, args, &mut io::stdout().lock()),
        Command::Verify(args) => (handlers.verify)(context, args),
        Command::Fsck(args) => (handlers.fsck)(context, args),
        Command::Bench(args) => (handlers.bench)(context, args),
        Command::Rebuild(args) => rebuild::run(context, args, &mut io::stdout().lock()),
        Command::Backup(args) => backup::run(context, args, &mut io::stdout().lock()),
        Command::Restore(args) => backup::run_restore(context, args, &mut io::stdout().lock()),
        Command::Shred(args) => shred::run(context, args, &mut io::stdout().lock()),
        Command::Hold(args) => shred::hold(context, args, &mut io::stdout().lock()),
        Command::Retention(args) => retention::run(context, args, &mut io::stdout().lock()),
        Command::Rotate(args) => rotate::run(context, args, &mut io::stdout().lock()),
        Command::Send(args) => send::run(context, args, &mut io::stdout().lock()),
        Command::Dsar(args) => dsar::run(context, args, &mut io::stdout().lock()),
        Command::Rights(args) => rights::run(context, args, &mut io::stdout().lock()),
        Command::Sink(args) => sink::run(context, args, &mut io::stdout().lock()),
        Command::Token(args) => token::run(context, args, &mut io::stdout().lock()),
        Command::Config(args) => config::run(context, args, &mut io::stdout().lock()),
        Command::Doctor(args) => doctor::run(context, args, &mut io::stdout().lock()),
        Command::Completions(args) => completions(args),
        Command::Openapi => openapi(),
        Command::Reference(args) => reference::run(args, &mut io::stdout().lock()),
    }
}

fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    // Written into memory first: the generator panics where a pipe is closed.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "idtrail", &mut text);
    io::stdout().lock().write_all(&text)?;
    Ok(Exit::Ok)
}

fn openapi() -> Result<Exit, Failure> {
    io::stdout().lock().write_all(&crate::openapi::DOCUMENT)?;
    Ok(Exit::Ok)
}

fn report(failure: &Failure, json: bool) {
    let mut stderr = io::stderr().lock();
    let text = format!("{:#}", failure.error);
    // If even standard error is gone there is nobody to tell; the exit code remains.
    let _ = if json {
        writeln!(stderr, "{}", serde_json::json!({ "error": text, "exit": failure.exit.number() }))
    } else {
        writeln!(stderr, "idtrail: {text}")
    };
}

#[cfg(test)]
pub(crate) mod tests {
    use idtrail_port::os::{OsClock, OsDisk, OsEntropy};

    use super::*;

    pub(crate) fn context(globals: Globals) -> Context {
        Context {
            globals,
            disk: Arc::new(OsDisk),
            clock: Arc::new(OsClock::default()),
            entropy: Arc::new(OsEntropy),
            env: |_| None,
        }
    }

    const DOUBLES: Handlers = Handlers {
        init: |_, args| if args.tenant == "default" { Ok(Exit::Ok) } else { Ok(Exit::Usage) },
        serve: |context, _| context.settings().map(|_| Exit::Ok),
        demo: |_, _| Ok(Exit::Ok),
        verify: |_, _| Ok(Exit::Tampered),
        fsck: |_, _| Err(Failure::message(Exit::NotChecked, "no key")),
        bench: |_, args| if args.vs == Some(Rival::Postgres) { Ok(Exit::Ok) } else { Ok(Exit::Usage) },
    };

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_reach_their_functions_and_give_exit_codes() {
        let cases: &[(&[&str], Exit)] = &[
            (&["init", "--dir", "x"], Exit::Ok),
            (&["serve", "--config", "/nonexistent/idtrail.toml"], Exit::Config),
            (&["demo", "--exit", "--events", "10", "--port", "0"], Exit::Ok),
            (&["verify", "package.json", "--policy", "p"], Exit::Tampered),
            (&["fsck", "--dir", "x", "--json"], Exit::NotChecked),
            (&["bench", "--vs", "postgres", "--connections", "2", "--seconds", "1", "--json"], Exit::Ok),
            (&["bench", "--connections", "0"], Exit::Usage),
            (&["fsck", "--dir", "x", "--config", "y"], Exit::Usage),
            (&["key", "list", "--config", "/nonexistent/idtrail.toml"], Exit::Config),
            (&["--version"], Exit::Ok),
            (&["verify"], Exit::Usage),
            (&["nonsense"], Exit::Usage),
        ];
        for (arguments, exit) in cases {
            let all = std::iter::once("idtrail").chain(arguments.iter().copied());
            assert_eq!(run(all, context, &DOUBLES), *exit, "{arguments:?}");
        }
    }
}
