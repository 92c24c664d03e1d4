//! `idtrail fsck`: reads every stored byte of the log and of the access log, recomputes everything, and names the first difference.
//!
//! It changes nothing and needs no key, so it also runs on a copy. With a configuration that leads to the vault it opens
//! every leaf as well: one whose key lives must say what was sealed, and only one whose key was destroyed may stay shut. With
//! checkpoints that were kept outside it finds a log that was cut or rolled back, which is whole in itself.

use std::collections::{BTreeMap, HashSet};
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use idtrail_event::Leaf;
use idtrail_index::seal::{self, OpenError};
use idtrail_log::fsck::{self, Pinned, Report, Severity};
use idtrail_tlog::{Checkpoint, LogIndex, Policy};
use idtrail_vault::{Keyring, Vault};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Context, Failure, FsckArgs, OrExit as _, init};
use crate::engine;
use crate::engine::origins::{self, Kind, Place};
use crate::exit::Exit;
use crate::settings::Settings;

const NOTE_BYTES_MAX: u64 = 1 << 20;

/// Checks a data directory and says what was found.
///
/// # Errors
/// A failure with exit code 4 or 6 if there is nothing to check.
pub fn run(context: &Context, args: &FsckArgs) -> Result<Exit, Failure> {
    let (data_dir, configured, vault) = match &args.dir {
        Some(dir) => (dir.clone(), None, None),
        None => {
            let settings = context.settings()?;
            let vault = vault(context, &settings);
            (settings.data_dir, Some(settings.origin), vault)
        }
    };
    let stored =
        fsck::origin_of(&*context.disk, &engine::log_directory(&data_dir)).or_exit(Exit::NotChecked)?;
    let mut expected: Vec<String> = configured.into_iter().collect();
    let mut pins = Pins::new();
    if let Some(path) = &args.policy {
        let policy = init::policy(context, path)?;
        expected = policy.logs().iter().map(|log| log.key.name().to_owned()).collect();
        for file in &args.checkpoint {
            let pinned = pinned(context, &policy, file)?;
            pins.entry(pinned.origin).or_default().push(Pinned { size: pinned.size, root: pinned.root });
        }
    }
    if !expected.is_empty() && !expected.contains(&stored) {
        let message = format!("this is another log than the one that was asked for. found={stored}");
        return Err(Failure::message(Exit::NotChecked, message));
    }
    let newest = newest(context, &data_dir)?;
    let with = With { context, vault, pins };
    let reports = with.check_all(Kind::Events, (&data_dir, &stored), newest)?;
    let accesses = with.check_all(Kind::Access, (&data_dir, &stored), newest)?;
    let unknown = |name: &&String| !reports.iter().chain(&accesses).any(|(known, _)| known == *name);
    if let Some(name) = with.pins.keys().find(unknown) {
        let message = format!("a checkpoint is of a log that is not here. origin={name}");
        return Err(Failure::message(Exit::NotChecked, message));
    }
    let mut out = std::io::stdout().lock();
    if context.globals.json {
        let mut all = list(&reports).ok_or_else(|| Failure::message(Exit::NotChecked, "there is no log"))?;
        if let Value::Object(members) = &mut all {
            members.insert("accessLog".to_owned(), list(&accesses).into());
            members.insert("leavesOpened".to_owned(), with.vault.is_some().into());
        }
        writeln!(out, "{all}")?;
    } else {
        for (name, report) in reports.iter().chain(&accesses) {
            write!(out, "{}", text(name, report))?;
        }
        if with.vault.is_none() {
            writeln!(out, "Without the vault's key leaves were checked as bytes and not opened.")?;
        }
        if accesses.is_empty() {
            writeln!(out, "There is no access log; one that was never there is made at the next start.")?;
        }
    }
    let all = reports.iter().chain(&accesses);
    let damaged = all.map(|(_, report)| exit(report)).find(|exit| *exit != Exit::Ok);
    Ok(damaged.unwrap_or(Exit::Ok))
}

/// Returns what is said of the newest log, with the earlier ones in it.
fn list(reports: &[(String, Report)]) -> Option<Value> {
    let ((name, report), earlier) = reports.split_last()?;
    let mut all = json(name, report);
    if let (Value::Object(members), [_, ..]) = (&mut all, earlier) {
        let earlier: Vec<_> = earlier.iter().map(|(name, report)| json(name, report)).collect();
        members.insert("earlier".to_owned(), earlier.into());
    }
    Some(all)
}

/// Roots that logs must have had, by the name of the log.
type Pins = BTreeMap<String, Vec<Pinned>>;

/// Opens the vault to look into it; `None` if it cannot be had, for instance because its key is elsewhere.
fn vault(context: &Context, settings: &Settings) -> Option<Vault> {
    let kek = init::kek(context, settings).ok()?;
    let ports = init::ports(context);
    Vault::open_read_only(ports.disk, ports.entropy, engine::vault_paths(settings), kek, None).ok()
}

/// Reads a checkpoint of a log that is pinned in a policy, or of the access log that belongs to one.
fn pinned(context: &Context, policy: &Policy, file: &Path) -> Result<Checkpoint, Failure> {
    let note = idtrail_port::read_whole(&*context.disk, file, NOTE_BYTES_MAX).or_exit(Exit::NotChecked)?;
    let of_log = match policy.open_checkpoint(&note) {
        Ok(verified) => return Ok(verified.checkpoint),
        Err(refusal) => refusal,
    };
    let mut accesses = policy.logs().iter().filter_map(|log| idtrail_verify::access_key(&log.key));
    let of_access = accesses.find_map(|key| Checkpoint::open(&note, [&key]).ok());
    of_access.ok_or_else(|| Failure::new(Exit::NotChecked, of_log))
}

/// What a check knows beside the files themselves.
struct With<'a> {
    context: &'a Context,
    vault: Option<Vault>,
    pins: Pins,
}

impl With<'_> {
    /// Checks all logs of a kind in a data directory, oldest first.
    ///
    /// # Errors
    /// A failure with exit code 1 if they do not continue each other, 4 if one cannot be read.
    fn check_all(
        &self,
        kind: Kind,
        (data_dir, first): (&Path, &str),
        newest: u32,
    ) -> Result<Vec<(String, Report)>, Failure> {
        let context = self.context;
        let last = Place::new(kind, data_dir, first, newest);
        if kind == Kind::Access && !context.disk.exists(&last.log)? {
            return Ok(Vec::new());
        }
        let past = origins::chain(&*context.disk, kind, (data_dir, first), newest).or_exit(Exit::Tampered)?;
        let mut reports = Vec::new();
        for past in past {
            let directory = Place::new(kind, data_dir, first, past.number).log;
            let end = Pinned { size: past.end.size, root: past.end.root };
            let mut report = self.check(&directory, &past.end.origin, Some(end))?;
            report.must_end_at(past.end.size, &directory);
            reports.push((past.end.origin, report));
        }
        let report = self.check(&last.log, &last.origin, None)?;
        reports.push((last.origin, report));
        Ok(reports)
    }

    fn check(&self, directory: &Path, origin: &str, end: Option<Pinned>) -> Result<Report, Failure> {
        let mut pinned: Vec<Pinned> = self.pins.get(origin).into_iter().flatten().copied().collect();
        pinned.extend(end);
        let keyring = self.vault.as_ref().and_then(|vault| vault.keyring(origin));
        check_with(self.context, directory, origin, (&pinned, keyring.as_ref()))
    }
}

/// Returns the highest number of a log in a data directory.
fn newest(context: &Context, data_dir: &Path) -> Result<u32, Failure> {
    let names = context.disk.list(&data_dir.join("log")).or_exit(Exit::NotChecked)?;
    let numbers = names.iter().filter(|name| name.len() == 4).filter_map(|name| name.parse().ok());
    Ok(numbers.max().unwrap_or(0))
}

/// Checks the log in a directory of its own.
///
/// # Errors
/// A failure with exit code 4 if it cannot be read.
pub fn check(
    context: &Context,
    directory: &Path,
    origin: &str,
    pinned: &[Pinned],
) -> Result<Report, Failure> {
    check_with(context, directory, origin, (pinned, None))
}

fn check_with(
    context: &Context,
    directory: &Path,
    origin: &str,
    (pinned, keyring): (&[Pinned], Option<&Keyring>),
) -> Result<Report, Failure> {
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} entries checked, {per_sec}") {
        bar.set_style(style);
    }
    let mut nonces = HashSet::new();
    let mut entry = |index: LogIndex, bytes: &[u8]| -> Result<(), String> {
        let leaf = Leaf::parse(bytes).map_err(|error| error.to_string())?;
        // A nonce that occurs twice would mean that a sealing attempt was repeated with it.
        if !nonces.insert(*leaf.iv()) {
            return Err("the leaf has the nonce of an earlier one".to_owned());
        }
        match keyring.map(|keyring| seal::open(keyring, index, bytes)) {
            // A key that was destroyed is what an erasure leaves behind.
            None | Some(Ok(_) | Err(OpenError::Key(_))) => Ok(()),
            Some(Err(error)) => Err(format!("the leaf does not open with its key: {error}")),
        }
    };
    let report = fsck::check(&*context.disk, directory, origin, pinned, &mut entry, &mut |entries, _| {
        bar.set_position(entries);
    })
    .or_exit(Exit::NotChecked)?;
    bar.finish_and_clear();
    Ok(report)
}

/// Returns the exit code of a report.
pub fn exit(report: &Report) -> Exit {
    match report.worst() {
        Some(Severity::Damaged) => Exit::Tampered,
        // Both are mended by the next start, and nothing acknowledged is concerned.
        Some(Severity::Unfinished | Severity::Derived) | None => Exit::Ok,
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Derived => "derived",
        Severity::Unfinished => "unfinished",
        Severity::Damaged => "damaged",
    }
}

fn json(origin: &str, report: &Report) -> Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "severity": severity(finding.severity),
                "what": finding.what,
                "path": finding.path,
                "offset": finding.offset,
                "index": finding.index.map(LogIndex::get),
            })
        })
        .collect();
    json!({
        "origin": origin,
        "treeSize": report.size.get(),
        "rootHash": report.root.to_string(),
        "bytesRead": report.bytes,
        "findingsCount": report.findings_count,
        "findings": findings,
    })
}

/// Writes a report for people.
pub fn text(origin: &str, report: &Report) -> String {
    let mut text = format!("{origin}: {} entries, {} bytes read\n", report.size, report.bytes);
    for finding in &report.findings {
        let index = finding.index.map(|index| format!(", entry {index}")).unwrap_or_default();
        text.push_str(&format!(
            " ✖ {}{index}: {}\n   {} at byte {}\n",
            severity(finding.severity),
            finding.what,
            finding.path.display(),
            finding.offset
        ));
    }
    text.push_str(match report.worst() {
        Some(Severity::Damaged) => {
            "RESULT damaged. Entries before the first one named are intact. Stop the server, keep this copy, and \
             compare with a backup, a mirror and the checkpoints that others hold.\n"
        }
        Some(Severity::Unfinished) => "RESULT intact; a write was cut short, the next start removes it.\n",
        Some(Severity::Derived) => "RESULT intact; derived files differ, the next start rebuilds them.\n",
        None => "RESULT intact: every byte is what was written.\n",
    });
    text
}
