//! `idtrail retention`: what has expired, counted by class and month, and the run that destroys it.
//!
//! `plan` only looks, also beside a running server; it reads the whole log. `apply` does what the server does by itself
//! once a month, and needs the server stopped.

use std::io::{IsTerminal as _, Write};

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use idtrail_event::{ClassTable, Leaf};
use idtrail_index::retention::{Counter, Period, PeriodState, due_in_all, table_of};
use idtrail_index::shred::Task;
use idtrail_log::fsck;
use idtrail_tlog::LogIndex;
use idtrail_vault::Vault;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Context, Failure, OrExit as _, init, shred};
use crate::engine;
use crate::engine::origins::{self, Kind};
use crate::engine::retention::{month_of_ms, month_text};
use crate::exit::Exit;

/// Arguments of `retention`.
#[derive(Args, Clone, Debug)]
pub struct RetentionArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RetentionCommand,
}

/// What `retention` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum RetentionCommand {
    /// Count the leaves of each class and month, and say which are due. Changes nothing.
    Plan,
    /// Destroy the keys of every class and month that is due.
    Apply(ApplyArgs),
}

/// Arguments of `retention apply`.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    /// The words that confirm: "apply retention". [default: asked for on the terminal]
    #[arg(long, value_name = "WORDS")]
    pub confirm: Option<String>,
}

/// Runs `retention`.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &RetentionArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    match &args.command {
        RetentionCommand::Plan => plan(context, out),
        RetentionCommand::Apply(apply) => {
            shred::confirm(apply.confirm.as_deref(), "apply retention")?;
            let engine = shred::open(context)?;
            let logs = engine.logs();
            let periods = due_in_all(logs.iter().map(|log| (&**log.reader, log.keyring)), present(context));
            engine.stop();
            drop(engine);
            let periods = periods.or_exit(Exit::Io)?;
            if periods.is_empty() {
                writeln!(
                    out,
                    "{}",
                    if context.globals.json { "{\"shredded\":0}" } else { "Nothing is due." }
                )?;
                return Ok(Exit::Ok);
            }
            let task = Task::Expire { periods };
            shred::carry_out(context, None, &|_| Ok(task.clone()), out)
        }
    }
}

/// Opens the vault to look into it.
///
/// # Errors
/// A failure with its exit code.
pub(super) fn look(context: &Context) -> Result<Vault, Failure> {
    let settings = context.settings()?;
    let kek = init::kek(context, &settings)?;
    let (disk, entropy) = (context.disk.clone(), context.entropy.clone());
    Vault::open_read_only(disk, entropy, engine::vault_paths(&settings), kek, None).or_exit(Exit::NotChecked)
}

fn present(context: &Context) -> u16 {
    month_of_ms(u64::try_from(context.clock.wall_ms()).unwrap_or(0))
}

fn plan(context: &Context, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let vault = look(context)?;
    let foreign = || Failure::message(Exit::Config, "the vault belongs to another log than `origin` names");
    let number = origins::newest(&vault, &settings.origin).ok_or_else(foreign)?;
    let place = (&*settings.data_dir, &*settings.origin);
    let past = origins::chain(&*context.disk, Kind::Events, place, number).or_exit(Exit::NotChecked)?;
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} entries counted, {per_sec}") {
        bar.set_style(style);
    }
    let (mut periods, mut entries, mut table) = (Vec::new(), 0, ClassTable::default());
    // The newest log's table counts for all of them, so it is read first.
    for number in std::iter::once(number).chain(past.iter().rev().map(|past| past.number)) {
        let origin = origins::name(&settings.origin, number);
        let keyring = vault.keyring(&origin).ok_or_else(foreign)?;
        let mut counter = Counter::default();
        let is_newest = entries == 0;
        let mut entry = |index: LogIndex, bytes: &[u8]| -> Result<(), String> {
            let leaf = Leaf::parse(bytes).map_err(|error| error.to_string())?;
            if let Some(found) = table_of(leaf.header()).filter(|_| is_newest) {
                table = found;
            }
            let held = vault.is_held(&origin, index.get());
            counter.add(index.get(), leaf.header(), &keyring, held);
            Ok(())
        };
        let directory = origins::directory(&settings.data_dir, number);
        let report = fsck::check(&*context.disk, &directory, &origin, &[], &mut entry, &mut |read, _| {
            bar.set_position(entries + read);
        })
        .or_exit(Exit::NotChecked)?;
        if report.worst() == Some(fsck::Severity::Damaged) {
            return Err(Failure::message(Exit::Tampered, "the log is damaged; see `idtrail fsck`"));
        }
        entries += report.size.get();
        periods.extend(counter.periods(&table, &keyring, present(context)));
    }
    bar.finish_and_clear();
    let periods = joined(periods);
    let state = |state| match state {
        PeriodState::Kept(Some(month)) => format!("kept until {}", month_text(month)),
        PeriodState::Kept(None) => "kept".to_owned(),
        PeriodState::Due => "due".to_owned(),
        PeriodState::Expired => "expired".to_owned(),
    };
    if context.globals.json {
        let list: Vec<Value> = periods
            .iter()
            .map(|period| {
                json!({
                    "class": period.class.to_string(),
                    "month": month_text(period.month),
                    "leaves": period.leaves,
                    "unreadable": period.unreadable,
                    "held": period.held,
                    "state": state(period.state),
                })
            })
            .collect();
        writeln!(out, "{}", json!({ "entries": entries, "periods": list }))?;
        return Ok(Exit::Ok);
    }
    let mut shown = Table::new();
    shown.load_style(NOTHING).set_header(["month", "class", "leaves", "unreadable", "held", "state"]);
    for period in &periods {
        shown.add_row([
            month_text(period.month),
            period.class.to_string(),
            period.leaves.to_string(),
            period.unreadable.to_string(),
            period.held.to_string(),
            state(period.state),
        ]);
    }
    writeln!(out, "{shown}")?;
    let due: Vec<_> = periods.iter().filter(|period| period.state == PeriodState::Due).collect();
    let leaves: u64 = due.iter().map(|period| period.leaves.saturating_sub(period.unreadable)).sum();
    let held: u64 = due.iter().map(|period| period.held).sum();
    writeln!(
        out,
        "{} periods are due: {} leaves would become unreadable, {held} are held.",
        due.len(),
        leaves.saturating_sub(held)
    )?;
    Ok(Exit::Ok)
}

/// Adds up what several logs have of one class and month; it is as far as the log that is behind.
fn joined(mut periods: Vec<Period>) -> Vec<Period> {
    periods.sort_by_key(|period| (period.month, period.class.code()));
    let mut all: Vec<Period> = Vec::with_capacity(periods.len());
    for period in periods {
        match all.last_mut() {
            Some(last) if (last.month, last.class) == (period.month, period.class) => {
                last.leaves += period.leaves;
                last.unreadable += period.unreadable;
                last.held += period.held;
                if last.state == PeriodState::Expired {
                    last.state = period.state;
                }
            }
            _ => all.push(period),
        }
    }
    all
}
