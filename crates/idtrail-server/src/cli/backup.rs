//! `idtrail backup` and `idtrail restore`: the installation as files elsewhere, and an installation again.

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use idtrail_port::{Disk, Privacy, write_atomic};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Context, Failure, init};
use crate::engine::EngineError;
use crate::engine::backup::{BackupError, Restored, backup, restore};
use crate::exit::Exit;
use crate::settings::Settings;

/// Arguments of `backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// Directory to make; must be missing or empty, best on another device.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Make the backup although no anchor, or no copy of the vault, is on another device than the data: whoever loses that
    /// device cannot restore it.
    #[arg(long)]
    pub on_one_device: bool,
}

/// Arguments of `restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// The backup. It becomes the data directory of the configuration, which must be missing or empty.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// File for the policy with the keys of all logs, for those who verify.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// Makes a backup, also beside a running server.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &BackupArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    if !args.on_one_device
        && let Some(what) = not_apart(&*context.disk, &settings)
    {
        let message = format!(
            "{what}: whoever loses that device cannot restore this backup. Name one elsewhere in the configuration, or \
             say --on-one-device"
        );
        return Err(Failure::message(Exit::Unhealthy, message));
    }
    // Read here once, so that a wrong key is a fault of the configuration.
    init::kek(context, &settings)?;
    let kek = || init::kek(context, &settings).map_err(|_| EngineError::Foreign);
    let bar = bar();
    let made =
        backup(&init::ports(context), &settings, &kek, &args.dir, &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    let manifest = made.map_err(failure)?;
    if context.globals.json {
        writeln!(out, "{}", json!({ "dir": args.dir, "backup": manifest }))?;
        return Ok(Exit::Ok);
    }
    for log in manifest.logs.iter().chain(&manifest.access_logs) {
        writeln!(out, "{}: {} entries, root {}", log.origin, log.tree_size, log.root_hash)?;
    }
    writeln!(out, "Backed up to {} with epoch {} of the vault.", args.dir.display(), manifest.vault_epoch)?;
    writeln!(
        out,
        "Not in it, and needed for a restore: the key-encryption key, one anchor, the configuration, secrets of sinks."
    )?;
    Ok(Exit::Ok)
}

/// Restores a backup and starts the next log.
///
/// # Errors
/// A failure with its exit code.
pub fn run_restore(context: &Context, args: &RestoreArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let kek = init::kek(context, &settings)?;
    let bar = bar();
    let done =
        restore(&init::ports(context), &settings, kek, &args.dir, &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    let Restored { logs, access_logs, files, made_ms, origin, epoch, policy } = done.map_err(failure)?;
    if let Some(path) = &args.policy {
        write_atomic(&*context.disk, path, policy.to_string().as_bytes(), Privacy::Public)?;
    }
    let lost: u64 = logs.iter().map(|log| log.lost).sum();
    if context.globals.json {
        let said = json!({
            "dataDir": settings.data_dir, "logs": logs, "accessLogs": access_logs, "lost": lost, "origin": origin, "files": files, "vaultEpoch": epoch.get(),
            "policy": policy.to_string(),
        });
        writeln!(out, "{said}")?;
        return Ok(Exit::Ok);
    }
    for log in logs.iter().chain(&access_logs) {
        writeln!(out, "{}: {} entries, {} of them erased", log.origin, log.tree_size, log.unreadable)?;
    }
    let lost_accesses: u64 = access_logs.iter().map(|log| log.lost).sum();
    if lost_accesses > 0 {
        writeln!(out, "LOST: at least {lost_accesses} entries about who was shown what.")?;
    }
    match lost {
        0 => writeln!(
            out,
            "Nothing that was acknowledged is known to be lost; the last second before the loss may be."
        )?,
        lost => {
            writeln!(out, "LOST: at least {lost} acknowledged entries that came after the backup.")?;
            writeln!(out, "Have their senders send them again: what is there already is recognised.")?;
        }
    }
    writeln!(out, "New events go to {origin}. Give its key to those who verify:")?;
    match &args.policy {
        Some(path) => writeln!(out, "  {}", path.display())?,
        None => write!(out, "{policy}")?,
    }
    if files == 0 {
        writeln!(out, "The backup holds no credentials: make new ones with idtrail key create.")?;
    } else {
        let made = idtrail_verify::time_text(made_ms);
        writeln!(
            out,
            "Credentials, quarantine, sinks and records of requests are as they were at {made}: revoke again what was \
             revoked since then (idtrail key list)."
        )?;
    }
    Ok(Exit::Ok)
}

/// Says what is missing for a restore once the data's device is lost: an anchor or a copy of the vault on another one.
pub fn not_apart(disk: &dyn Disk, settings: &Settings) -> Option<&'static str> {
    let device = |path: &Path| disk.attributes(path).ok().map(|found| found.device);
    let data = device(&settings.data_dir);
    let apart = |paths: &[PathBuf]| paths.iter().filter_map(|path| device(path)).any(|one| Some(one) != data);
    if !apart(&settings.vault.anchors) {
        return Some("no anchor is on another device than the data (vault.anchors)");
    }
    (!apart(&settings.vault.copies))
        .then_some("no copy of the vault is on another device than the data (vault.copies)")
}

fn bar() -> ProgressBar {
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bytes} copied and checked, {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar
}

fn failure(error: BackupError) -> Failure {
    let exit = match &error {
        BackupError::NotEmpty(_) => Exit::Usage,
        BackupError::Foreign | BackupError::Engine(EngineError::Foreign) => Exit::Config,
        BackupError::Damaged { .. } => Exit::Tampered,
        BackupError::Engine(EngineError::Log(error)) if error.kind() == idtrail_log::ErrorKind::Damaged => {
            Exit::Tampered
        }
        BackupError::TooEarly | BackupError::File { .. } | BackupError::Engine(_) => Exit::Io,
    };
    Failure::new(exit, error)
}
