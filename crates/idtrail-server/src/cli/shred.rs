//! `idtrail shred` and `idtrail hold`: destroys the keys of leaves, and keeps leaves from being destroyed.
//!
//! They open the installation themselves and so need the server stopped; beside a running server the routes under
//! `/api/v1/admin` do the same. What cannot be undone has to be confirmed in words, typed or given with `--confirm`.

use std::io::{BufRead as _, IsTerminal as _, Write};

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use idtrail_index::shred::{ErrorKind, Order, Task};
use idtrail_log::{LogError, Reference};
use idtrail_tlog::LogIndex;
use idtrail_vault::Sections;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Context, Failure, OrExit as _, init};
use crate::api::shred::document;
use crate::engine::shred::DeskError;
use crate::engine::{Engine, EngineError};
use crate::exit::Exit;

/// Arguments of `shred`.
#[derive(Args, Clone, Debug)]
pub struct ShredArgs {
    /// Log index of a leaf whose keys are to be destroyed; can be given several times, or several separated by commas.
    #[arg(long = "index", value_name = "INDEX", required_unless_present = "staff", value_delimiter = ',')]
    pub indices: Vec<u64>,
    /// The log of the leaves, if it is not the newest one.
    #[arg(long, value_name = "NAME")]
    pub origin: Option<String>,
    /// A member of staff, as events name them: destroy what says that they acted, in all logs; the events stay.
    #[arg(long, value_name = "ID", conflicts_with_all = ["indices", "origin", "staff_only"])]
    pub staff: Option<String>,
    /// Destroy only what says which member of staff acted; the events stay.
    #[arg(long)]
    pub staff_only: bool,
    /// The request's id; the same id again is answered with the first outcome. [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// The words that confirm, such as "shred 2 leaves". [default: asked for on the terminal]
    #[arg(long, value_name = "WORDS")]
    pub confirm: Option<String>,
}

/// Arguments of `hold`.
#[derive(Args, Clone, Debug)]
pub struct HoldArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: HoldCommand,
}

/// What `hold` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum HoldCommand {
    /// Keep leaves readable until the hold is released: they are neither erased nor do they expire.
    Set(SetArgs),
    /// List the holds.
    List,
    /// Release a hold; leaves whose time has come in the meantime become unreadable.
    Release(ReleaseArgs),
}

/// Arguments of `hold set`.
#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    /// Name of the hold, such as a case number; never a name of a person.
    pub id: String,
    /// Log index of a leaf; can be given several times, or several separated by commas.
    #[arg(long = "index", value_name = "INDEX", required = true, value_delimiter = ',')]
    pub indices: Vec<u64>,
    /// The log of the leaves, if it is not the newest one.
    #[arg(long, value_name = "NAME")]
    pub origin: Option<String>,
}

/// Arguments of `hold release`.
#[derive(Args, Clone, Debug)]
pub struct ReleaseArgs {
    /// Name of the hold.
    pub id: String,
    /// The request's id. [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// The words that confirm: "release" and the hold's name. [default: asked for on the terminal]
    #[arg(long, value_name = "WORDS")]
    pub confirm: Option<String>,
}

/// Runs `shred`.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &ShredArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    if let Some(staff) = &args.staff {
        let engine = open(context)?;
        let leaves = engine.leaves_of_staff(staff);
        engine.stop();
        drop(engine);
        let leaves = leaves.or_exit(Exit::Io)?;
        if leaves.is_empty() {
            let said = if context.globals.json { "{\"shredded\":0}" } else { "No readable leaf names them." };
            writeln!(out, "{said}")?;
            return Ok(Exit::Ok);
        }
        let (count, of) = (leaves.len(), if leaves.len() == 1 { "leaf" } else { "leaves" });
        confirm(args.confirm.as_deref(), &format!("shred staff of {count} {of}"))?;
        let task = Task::Erase { leaves, sections: Sections::Staff };
        return carry_out(context, args.request.as_deref(), &|_| Ok(task.clone()), out);
    }
    let mut indices = args.indices.clone();
    indices.sort_unstable();
    indices.dedup();
    let leaves = if indices.len() == 1 { "leaf" } else { "leaves" };
    let (what, sections) =
        if args.staff_only { ("staff of ", Sections::Staff) } else { ("", Sections::Both) };
    confirm(args.confirm.as_deref(), &format!("shred {what}{} {leaves}", indices.len()))?;
    let task = |engine: &Engine| {
        let leaves = places(engine, args.origin.as_deref(), &indices)?;
        Ok(Task::Erase { leaves, sections })
    };
    carry_out(context, args.request.as_deref(), &task, out)
}

/// Runs `hold`.
///
/// # Errors
/// A failure with its exit code.
pub fn hold(context: &Context, args: &HoldArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    match &args.command {
        HoldCommand::Set(set) => {
            let engine = open(context)?;
            let leaves = places(&engine, set.origin.as_deref(), &set.indices);
            let done = leaves.and_then(|leaves| {
                answer(
                    engine
                        .desk()
                        .hold(set.id.clone(), leaves, Some("command line".to_owned()))
                        .or_exit(Exit::Io)?,
                )
            });
            engine.stop();
            done?;
            if context.globals.json {
                writeln!(out, "{}", json!({ "holdId": set.id, "leaves": set.indices.len() }))?;
            } else {
                writeln!(out, "{} is held: {} leaves", set.id, set.indices.len())?;
            }
        }
        HoldCommand::List => {
            let vault = super::retention::look(context)?;
            for hold in vault.holds() {
                if context.globals.json {
                    let leaves = json!({ "holdId": hold.id, "origin": hold.origin, "indices": hold.indices });
                    writeln!(out, "{leaves}")?;
                } else {
                    let since = idtrail_verify::time_text(hold.set_ms);
                    writeln!(out, "{}  {} leaves  since {since}", hold.id, hold.indices.len())?;
                }
            }
        }
        HoldCommand::Release(release) => {
            confirm(release.confirm.as_deref(), &format!("release {}", release.id))?;
            let task = Task::Release { hold: release.id.clone(), leaves: Vec::new() };
            return carry_out(context, release.request.as_deref(), &|_| Ok(task.clone()), out);
        }
    }
    Ok(Exit::Ok)
}

/// Returns leaves of the log that is named, or of the newest one.
fn places(engine: &Engine, origin: Option<&str>, indices: &[u64]) -> Result<Vec<Reference>, Failure> {
    let origin = match origin {
        None => engine.ordinal(),
        Some(name) => {
            let log = engine.log_named(name);
            log.ok_or_else(|| Failure::message(Exit::Usage, "this installation has no log of that name"))?
                .ordinal
        }
    };
    Ok(indices.iter().map(|index| Reference { origin, index: LogIndex::new(*index) }).collect())
}

/// Opens the installation for a command that changes it.
///
/// # Errors
/// A failure with its exit code.
pub(super) fn open(context: &Context) -> Result<Engine, Failure> {
    let settings = context.settings()?;
    let kek = init::kek(context, &settings)?;
    let on_stop = |error: LogError| {
        tracing::error!(error = &error as &dyn std::error::Error, "the log stopped");
    };
    Engine::open(init::ports(context), &settings, kek, on_stop).map_err(|error| match error {
        EngineError::Log(LogError::Locked { .. }) => Failure::message(
            Exit::Io,
            "the server is running; stop it, or use its routes under /api/v1/admin",
        ),
        error => Failure::new(Exit::Io, error),
    })
}

/// Hands an order over, waits for its outcome and shows it.
///
/// # Errors
/// A failure with its exit code.
pub(super) fn carry_out(
    context: &Context,
    request: Option<&str>,
    task: &dyn Fn(&Engine) -> Result<Task, Failure>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let random = || format!("cli-{}", HEXLOWER.encode(&idtrail_port::random::<8>(&*context.entropy)));
    let request_id = request.map_or_else(random, str::to_owned);
    let engine = open(context)?;
    let outcome = task(&engine).and_then(|task| {
        let order = Order { request_id, actor: Some("command line".to_owned()), task };
        answer(engine.desk().order(order).or_exit(Exit::Io)?)
    });
    engine.stop();
    let outcome = outcome?;
    if context.globals.json {
        writeln!(out, "{}", document(&engine, &outcome))?;
        return Ok(Exit::Ok);
    }
    writeln!(out, "request {}: {} leaves shredded", outcome.request_id, outcome.shredded)?;
    if outcome.repeated {
        writeln!(out, "It had been carried out before; this is its outcome.")?;
    }
    if let (Some(epoch), Some(leaf)) = (outcome.epoch, outcome.leaf) {
        writeln!(out, "The vault is at epoch {epoch}; entry {} of the log says so.", leaf.index)?;
    }
    if outcome.gone > 0 {
        writeln!(out, "{} had been unreadable before.", outcome.gone)?;
    }
    if !outcome.held.is_empty() {
        let named: Vec<String> = outcome.held.iter().take(20).map(|held| held.index.to_string()).collect();
        writeln!(out, "{} are held and as readable as before: {}", outcome.held.len(), named.join(", "))?;
    }
    Ok(Exit::Ok)
}

fn answer<T>(receiver: oneshot::Receiver<Result<T, DeskError>>) -> Result<T, Failure> {
    let outcome = receiver.blocking_recv().or_exit(Exit::Io)?;
    outcome.map_err(|error| {
        let exit = match &error {
            DeskError::Shred(error) => match error.kind() {
                ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict => Exit::Usage,
                ErrorKind::Unavailable | ErrorKind::Damaged => Exit::Io,
            },
            DeskError::Busy | DeskError::Closed => Exit::Io,
        };
        Failure::new(exit, error)
    })
}

/// Goes on only if the words were given, or are typed now.
///
/// # Errors
/// A failure with exit code 2.
pub(super) fn confirm(given: Option<&str>, words: &str) -> Result<(), Failure> {
    let typed = match given {
        Some(given) => given.to_owned(),
        None if std::io::stdin().is_terminal() => {
            let mut stderr = std::io::stderr().lock();
            write!(stderr, "This cannot be undone. Type `{words}` to go on: ")?;
            stderr.flush()?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            line
        }
        None => String::new(),
    };
    if typed.trim() == words {
        return Ok(());
    }
    Err(Failure::message(Exit::Usage, format!("not confirmed; give --confirm \"{words}\"")))
}
