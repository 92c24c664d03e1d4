//! `idtrail doctor`: looks at an installation from outside and says what could hurt, before it does.
//!
//! It changes nothing but a small file of its own in the data directory, which it removes again, and it runs beside a
//! server. Each check ends as good, as a warning or as a fault; a fault makes the exit code 7, a warning only with
//! `--strict`. What could not be looked at is a warning, never good.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use idtrail_port::{Disk, Open, Privacy};
use idtrail_vault::Kek;
use serde_json::{Value, json};

use super::{Context, Failure, serve};
use crate::credentials::CredentialStore;
use crate::exit::Exit;
use crate::oidc::Keys;
use crate::settings::{PiiMode, SecretRef, Settings, TlsSettings};
use crate::tls::Certificate;

/// Syncs that are measured.
const SYNCS: usize = 16;
/// No disk that keeps what it was given is faster than this; memory and caches are.
const HONEST_SYNC_US: u64 = 15;
const PROBE_BYTES: usize = 4096;
const DAY_MS: i64 = 86_400_000;
/// Credentials that end within this time are named.
const EXPIRY_DAYS: i64 = 14;
/// 2026-01-01: no clock that is right shows an earlier time.
const EARLIEST_MS: i64 = 1_767_225_600_000;
/// Where the usual time services say that the clock is synchronised.
const SYNCHRONISED: [&str; 3] =
    ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.sock", "/var/lib/ntp/ntp.drift"];

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Let warnings count as faults.
    #[arg(long)]
    pub strict: bool,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it should be.
    Good,
    /// It works, but could hurt one day; or it could not be looked at.
    Warning,
    /// It does not work, or data or secrets are in danger.
    Fault,
}

impl Health {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Stable name of the check.
    pub check: &'static str,
    /// How it ended.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing.
    pub advice: &'static str,
}

/// Looks at everything and says what was found.
///
/// # Errors
/// A failure with exit code 6 if there is no configuration to start from.
pub fn run(context: &Context, args: &DoctorArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let mut doctor = Doctor { context, settings: &settings, findings: Vec::new() };
    doctor.examine()?;
    let findings = doctor.findings;
    if context.globals.json {
        let all: Vec<Value> = findings
            .iter()
            .map(|one| {
                json!({
                    "check": one.check, "health": one.health.name(), "found": one.found,
                    "advice": (!one.advice.is_empty()).then_some(one.advice),
                })
            })
            .collect();
        writeln!(
            out,
            "{}",
            json!({ "findings": all, "faults": count(&findings, Health::Fault),
            "warnings": count(&findings, Health::Warning) })
        )?;
    } else {
        for one in &findings {
            let sign = match one.health {
                Health::Good => "✔",
                Health::Warning => "▲",
                Health::Fault => "✖",
            };
            writeln!(out, " {sign} {:<12} {}", one.check, one.found)?;
            if !one.advice.is_empty() {
                writeln!(out, "   {:<12} → {}", "", one.advice)?;
            }
        }
        let (faults, warnings) = (count(&findings, Health::Fault), count(&findings, Health::Warning));
        writeln!(out, "\nRESULT {faults} faults, {warnings} warnings")?;
    }
    let worst = findings.iter().map(|one| one.health).max().unwrap_or(Health::Good);
    Ok(match worst {
        Health::Fault => Exit::Unhealthy,
        Health::Warning if args.strict => Exit::Unhealthy,
        _ => Exit::Ok,
    })
}

fn count(findings: &[Finding], health: Health) -> usize {
    findings.iter().filter(|one| one.health == health).count()
}

struct Doctor<'a> {
    context: &'a Context,
    settings: &'a Settings,
    findings: Vec<Finding>,
}

impl Doctor<'_> {
    fn say(&mut self, check: &'static str, health: Health, found: impl Into<String>, advice: &'static str) {
        self.findings.push(Finding { check, health, found: found.into(), advice });
    }

    fn examine(&mut self) -> Result<(), Failure> {
        self.say("config", Health::Good, format!("{} can be used", self.context.config_path().display()), "");
        self.clock();
        self.data_dir();
        self.space();
        self.sync();
        self.key();
        self.anchors();
        self.copies();
        self.credentials();
        self.tls();
        self.issuers()?;
        self.risks();
        Ok(())
    }

    fn disk(&self) -> &dyn Disk {
        &*self.context.disk
    }

    fn clock(&mut self) {
        let now_ms = self.context.clock.wall_ms();
        if now_ms < EARLIEST_MS {
            let advice = "set the clock: receipts would carry a wrong time for ever";
            return self.say("clock", Health::Fault, "it shows a time before 2026", advice);
        }
        let known = SYNCHRONISED.iter().any(|path| self.disk().exists(Path::new(path)).unwrap_or(false));
        match known {
            true => self.say("clock", Health::Good, "a time service keeps it", ""),
            false => self.say(
                "clock",
                Health::Warning,
                "no sign of a time service (systemd-timesyncd, chrony, ntpd)",
                "receipt times are as good as this clock: keep it synchronised",
            ),
        }
    }

    fn data_dir(&mut self) {
        let path = self.settings.data_dir.clone();
        self.private("data", &path, "others can read what stands in the data directory: chmod 700");
    }

    /// Says whether only the owner can read a file or directory.
    fn private(&mut self, check: &'static str, path: &Path, advice: &'static str) {
        let shown = path.display();
        match self.disk().attributes(path) {
            Ok(found) if found.mode & 0o077 == 0 => {
                self.say(check, Health::Good, format!("{shown} is for its owner only"), "");
            }
            Ok(found) => {
                self.say(check, Health::Fault, format!("{shown} has the mode {:03o}", found.mode), advice);
            }
            Err(error) => {
                let found = format!("{shown} cannot be looked at: {error}");
                self.say(check, Health::Fault, found, "run this as the user of the server");
            }
        }
    }

    fn space(&mut self) {
        let min = self.settings.limits.disk_free_bytes_min;
        match self.disk().space(&self.settings.data_dir) {
            Ok(space) => {
                let percent = 100.0 * space.free_bytes as f64 / space.total_bytes.max(1) as f64;
                let found = format!("{} MiB free, {percent:.0} %", space.free_bytes >> 20);
                let (health, advice) = match () {
                    () if space.free_bytes < min => {
                        (Health::Fault, "the server is not ready below limits.disk_free_bytes_min: make room")
                    }
                    () if percent < 15.0 => (Health::Warning, "make room before it is full"),
                    () => (Health::Good, ""),
                };
                self.say("space", health, found, advice);
            }
            Err(error) => self.say("space", Health::Warning, format!("cannot be told: {error}"), ""),
        }
    }

    /// A disk that answers a sync faster than any disk can has not written anything: what was acknowledged is lost with
    /// the power.
    fn sync(&mut self) {
        match self.measure_syncs() {
            Ok(median_us) if median_us < HONEST_SYNC_US => self.say(
                "sync",
                Health::Fault,
                format!("a sync takes {median_us} µs, faster than any disk: nothing is written"),
                "move the data to a disk that keeps what it was given, not to memory",
            ),
            Ok(median_us) => {
                self.say("sync", Health::Good, format!("a sync takes {median_us} µs (median)"), "");
            }
            Err(error) => self.say(
                "sync",
                Health::Fault,
                format!("the data directory cannot be written: {error}"),
                "run this as the user of the server",
            ),
        }
    }

    fn measure_syncs(&self) -> io::Result<u64> {
        let disk = self.disk();
        let random = idtrail_port::random::<4>(&*self.context.entropy);
        let name = format!("doctor-{}.tmp", data_encoding::HEXLOWER.encode(&random));
        let path = self.settings.data_dir.join(name);
        let file = disk.open(&path, Open::CreateNew(Privacy::Owner))?;
        let mut took_us = Vec::new();
        let measured = (0..SYNCS).try_for_each(|number| {
            let started_ns = self.context.clock.monotonic_ns();
            file.write_all_at(&[1; PROBE_BYTES], (number * PROBE_BYTES) as u64)?;
            file.sync_data()?;
            took_us.push(self.context.clock.monotonic_ns().saturating_sub(started_ns) / 1000);
            Ok(())
        });
        drop(file);
        disk.remove(&path)?;
        measured.map(|()| {
            took_us.sort_unstable();
            took_us.get(took_us.len() / 2).copied().unwrap_or_default()
        })
    }

    fn key(&mut self) {
        let read = self.settings.kek.read(self.disk(), &self.context.env);
        let found = match read {
            Err(error) => Err(error.to_string()),
            Ok(bytes) => Kek::from_file_bytes(&bytes).map(drop).map_err(|error| error.to_string()),
        };
        if let Err(error) = found {
            let advice = "without this key nothing can be opened: bring it back from where you keep it";
            return self.say("kek", Health::Fault, error, advice);
        }
        match &self.settings.kek {
            SecretRef::File(path) => {
                let path = path.clone();
                self.private("kek", &path, "others can read the key: chmod 600");
                if path.starts_with(&self.settings.data_dir) {
                    self.say(
                        "kek",
                        Health::Warning,
                        "the key stands in the data directory",
                        "keep it apart: whoever takes a backup of the data would have the key too",
                    );
                }
            }
            SecretRef::Env(name) => {
                self.say("kek", Health::Good, format!("it is in the variable {name}"), "")
            }
        }
    }

    fn device(&self, path: &Path) -> Option<u64> {
        self.disk().attributes(path).ok().map(|found| found.device)
    }

    fn anchors(&mut self) {
        let data = self.device(&self.settings.data_dir);
        let anchors = self.settings.vault.anchors.clone();
        let (mut apart, mut there) = (0, 0);
        for path in &anchors {
            let shown = path.display();
            match self.device(path) {
                None => self.say(
                    "anchors",
                    Health::Fault,
                    format!("{shown} cannot be looked at"),
                    "mount its device: a shred waits until every anchor can be written",
                ),
                Some(device) => {
                    there += 1;
                    apart += usize::from(Some(device) != data);
                    self.private("anchors", path, "others can read the anchor: chmod 600");
                }
            }
            if path.starts_with(&self.settings.data_dir) {
                self.say(
                    "anchors",
                    Health::Warning,
                    format!("{shown} stands in the data directory"),
                    "keep it out of the directory that is backed up: a backup with the anchor undoes erasures",
                );
            }
        }
        match (there, apart) {
            (0, _) => {}
            (_, 0) => self.say(
                "anchors",
                Health::Warning,
                "no anchor is on another device than the data",
                "name a second one in vault.anchors: losing all of them makes every event unreadable for ever",
            ),
            (_, apart) => {
                self.say("anchors", Health::Good, format!("{apart} of {there} on another device"), "");
            }
        }
    }

    fn copies(&mut self) {
        let data = self.device(&self.settings.data_dir);
        let copies: Vec<PathBuf> = self.settings.vault.copies.clone();
        let apart =
            copies.iter().filter_map(|path| self.device(path)).filter(|one| Some(*one) != data).count();
        if apart > 0 {
            return self.say("copies", Health::Good, format!("{apart} on another device"), "");
        }
        self.say(
            "copies",
            Health::Warning,
            "no copy of the vault is on another device than the data",
            "name a directory in vault.copies: a disk lost right after a shred would take all keys with it",
        );
    }

    fn credentials(&mut self) {
        let now_ms = self.context.clock.wall_ms();
        let store = match CredentialStore::open(self.context.disk.clone(), &self.settings.data_dir) {
            Ok(store) => store,
            Err(error) => {
                return self.say("credentials", Health::Fault, error.to_string(), "restore credentials.json");
            }
        };
        let mut live = 0;
        let mut ending = Vec::new();
        let keys = store.keys().into_iter().map(|one| (one.is_live(now_ms), one.expires_ms, one.id));
        let persons = store.persons().into_iter().map(|one| (one.is_live(now_ms), one.expires_ms, one.id));
        for (is_live, expires_ms, id) in keys.chain(persons).filter(|(is_live, ..)| *is_live) {
            live += usize::from(is_live);
            if expires_ms.is_some_and(|expires_ms| expires_ms - now_ms < EXPIRY_DAYS * DAY_MS) {
                ending.push(id);
            }
        }
        let path = self.settings.data_dir.join("credentials.json");
        if self.disk().exists(&path).unwrap_or(false) {
            self.private("credentials", &path, "others can read the credentials: chmod 600");
        }
        match (live, ending.is_empty()) {
            (0, _) => self.say(
                "credentials",
                Health::Warning,
                "there is none: nobody can send or ask",
                "idtrail key create makes one",
            ),
            (_, false) => self.say(
                "credentials",
                Health::Warning,
                format!("within {EXPIRY_DAYS} days these end: {}", ending.join(", ")),
                "idtrail key rotate gives a key a successor while it still counts",
            ),
            (live, true) => self.say("credentials", Health::Good, format!("{live} are live"), ""),
        }
    }

    fn tls(&mut self) {
        match &self.settings.tls {
            TlsSettings::Off => {
                self.say("tls", Health::Good, "the server listens on loopback only", "");
            }
            TlsSettings::Upstream => self.say(
                "tls",
                Health::Warning,
                "a proxy is said to terminate TLS (tls.upstream)",
                "see to it that nobody but the proxy reaches the address",
            ),
            TlsSettings::Files { cert, key } => {
                let (disk, clock) = (self.context.disk.clone(), self.context.clock.clone());
                let (cert, key) = (cert.clone(), key.clone());
                match Certificate::open(disk, clock, cert, key.clone()) {
                    Ok(_) => self.private("tls", &key, "others can read the private key: chmod 600"),
                    Err(error) => self.say(
                        "tls",
                        Health::Fault,
                        error.to_string(),
                        "put a certificate chain and its key in place",
                    ),
                }
            }
        }
    }

    fn issuers(&mut self) -> Result<(), Failure> {
        for one in &self.settings.oidc {
            let authority = match &one.ca_file {
                None => None,
                Some(path) => match idtrail_port::read_whole(self.disk(), path, 1 << 20) {
                    Ok(bytes) => Some(bytes),
                    Err(error) => {
                        let found = format!("{} cannot be read: {error}", path.display());
                        self.say("oidc", Health::Fault, found, "put the file in place");
                        continue;
                    }
                },
            };
            let clock = self.context.clock.clone();
            let keys = Keys::new(one, authority.as_deref(), clock);
            let found = match keys {
                Ok(keys) => serve::runtime()?.block_on(keys.probe()).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match found {
                Ok(0) => self.say("oidc", Health::Fault, format!("{}: no key that counts", one.issuer), ""),
                Ok(keys) => self.say("oidc", Health::Good, format!("{}: {keys} keys", one.issuer), ""),
                Err(error) => self.say(
                    "oidc",
                    Health::Warning,
                    format!("{}: {error}", one.issuer),
                    "its tokens cannot be checked while it is away",
                ),
            }
        }
        Ok(())
    }

    fn risks(&mut self) {
        if self.settings.origin.starts_with("localhost/") {
            self.say(
                "origin",
                Health::Warning,
                "the log has a made-up name",
                "verifiers tell logs apart by their names: choose one under a domain of yours before production",
            );
        }
        if self.settings.validation.pii == PiiMode::Mask {
            self.say(
                "pii",
                Health::Warning,
                "personal data in clear is masked, not refused",
                "senders learn of it from warnings only: see that somebody reads them",
            );
        }
        if self.settings.limits.reads_per_second == 0 {
            self.say(
                "limits",
                Health::Warning,
                "reads have no limit",
                "an export can starve everybody else: set limits.reads_per_second",
            );
        }
    }
}
