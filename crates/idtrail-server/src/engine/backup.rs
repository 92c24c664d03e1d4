//! Backups: the logs and the body of the vault, copied beside a running server; and what a backup becomes again.
//!
//! ```text
//! backup.json                      what is in the backup, with digests; written last
//! log/0000/segments/…              the logs, up to the sizes in backup.json
//! access/0000/segments/…           the same of their access logs
//! vault/body-<epoch>               the vault, sealed; its key is in the anchors, which no backup ever holds
//! credentials.json, …              what else cannot be made again ([`loose`])
//! ```
//!
//! While a server runs, its logs are copied up to the high-water mark beside the anchors, below which everything is durable
//! and never changes. A restore checks every byte, opens the vault with a live anchor and the newest body that the backup or
//! a copy of the vault holds, and starts the *next* log and access log: events that the old one acknowledged after the backup are lost, and
//! nothing may ever stand in their places.
//!
//! What it must never do: copy an anchor or the key-encryption key, or append to a log that came out of a backup.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use idtrail_event::clear::{KeyShreddedItem, OriginStartItem};
use idtrail_event::{Leaf, TypeCode};
use idtrail_index::facts::Hasher;
use idtrail_index::identity::Identity;
use idtrail_index::lookup::Lookup;
use idtrail_index::retention::newest_table;
use idtrail_index::seal::TrailSealer;
use idtrail_index::trail::{Command, Trail};
use idtrail_log::LogError;
use idtrail_log::backup::{Upto, copy, first_entry};
use idtrail_log::reader::Reader;
use idtrail_log::recovery::{self, Options};
use idtrail_log::sequence::{ReceiptClock, Sequencer, Submission};
use idtrail_port::{Disk, Open, Privacy, create_dir_durable, write_atomic};
use idtrail_tlog::{Checkpoint, LogIndex, Policy, SignerKey, TreeSize};
use idtrail_vault::{Epoch, HighWater, Kek, Suppression, Vault, VaultError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::loose;
use super::origins::{self, Kind, Past, Place};
use super::{EngineError, Ports, vault_paths};
use crate::settings::Settings;

/// Name of the file that says what is in a backup.
pub const MANIFEST: &str = "backup.json";
/// What stands in its member `format`.
const FORMAT: &str = "idtrail-backup/2";
/// The format that held nothing but the logs and the vault.
const FORMAT_LOGS: &str = "idtrail-backup/1";
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
const BODY_BYTES_MAX: u64 = 1 << 32;
const CHUNK_BYTES: usize = 1 << 20;
/// A running server may replace the body while it is being copied.
const BODY_ATTEMPTS: usize = 5;

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// `idtrail-backup/2`; version 1 has no `files`.
    pub format: String,
    /// Name of the tenant.
    pub tenant: String,
    /// When it was made, milliseconds since 1970.
    pub made_ms: u64,
    /// The logs, oldest first.
    pub logs: Vec<LogPart>,
    /// Their access logs, oldest first; none if the installation was never started by a version that keeps one.
    #[serde(default)]
    pub access_logs: Vec<LogPart>,
    /// Epoch of the vault's body.
    pub vault_epoch: u64,
    /// The vault's body.
    pub vault: FilePart,
    /// What else cannot be made again.
    #[serde(default)]
    pub files: Vec<FilePart>,
}

/// One log in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogPart {
    /// Its number among the installation's logs.
    pub number: u32,
    /// Its name.
    pub origin: String,
    /// How many entries it has in the backup.
    pub tree_size: u64,
    /// Root of the tree over them: 64 lower-case hex digits.
    pub root_hash: String,
    /// The signed checkpoint of that tree.
    pub checkpoint: String,
    /// Its files, in order.
    pub files: Vec<FilePart>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilePart {
    /// Its path in the backup, with slashes.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256: 64 lower-case hex digits.
    pub sha256: String,
}

/// Why there is no backup, or why it cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The installation cannot be read or opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A directory that must be empty is not.
    #[error("the directory is not empty. path={}", .0.display())]
    NotEmpty(PathBuf),
    /// Nothing of the log is known to be durable yet.
    #[error("no size of the log is known to be durable yet; try again in a moment")]
    TooEarly,
    /// A file cannot be read or written.
    #[error("a file cannot be {action}. path={}", path.display())]
    File {
        /// What was being done, as a participle.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// The backup is not what was written.
    #[error("the backup is not what was written: {what}. path={}", path.display())]
    Damaged {
        /// What differs.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The backup is of another installation than the configuration names.
    #[error(
        "the backup is of another installation than the configuration names; check `origin` and `tenant`"
    )]
    Foreign,
}

impl From<LogError> for BackupError {
    fn from(error: LogError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<VaultError> for BackupError {
    fn from(error: VaultError) -> Self {
        Self::Engine(error.into())
    }
}

/// What became of one log when a backup was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoredLog {
    /// Its name.
    pub origin: String,
    /// How many entries there are.
    pub tree_size: u64,
    /// At least so many acknowledged entries are lost: those between the backup and the newest size that is known.
    pub lost: u64,
    /// Entries whose keys were destroyed.
    pub unreadable: u64,
}

/// What came of a restore.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The earlier logs, oldest first. One that is in no backup has size 0.
    pub logs: Vec<RestoredLog>,
    /// Their access logs, likewise.
    pub access_logs: Vec<RestoredLog>,
    /// Files beside the logs and the vault: credentials, quarantine, sinks, records of requests.
    pub files: usize,
    /// When the backup was made, milliseconds since 1970.
    pub made_ms: u64,
    /// Name of the log that is written to from now on.
    pub origin: String,
    /// The epoch of the vault that was found, which the restore has followed with one of its own.
    pub epoch: Epoch,
    /// The keys of all logs.
    pub policy: Policy,
}

/// Copies the installation into an empty or new directory. Safe beside a running server. `progress` is told of the bytes
/// copied so far.
///
/// # Errors
/// [`BackupError`]; what was copied until then is no backup, because [`MANIFEST`] is missing.
pub fn backup(
    ports: &Ports,
    settings: &Settings,
    kek: &dyn Fn() -> Result<Kek, EngineError>,
    target: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest, BackupError> {
    let disk = &*ports.disk;
    must_be_empty(disk, target)?;
    make_dir(disk, target)?;
    // Held while no server runs, so that none starts in the middle.
    let lock = match recovery::lock(disk, &settings.data_dir) {
        Ok(lock) => Some(lock),
        Err(LogError::Locked { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let vault = look(ports, settings, kek()?)?;
    let newest = origins::newest(&vault, &settings.origin).ok_or(EngineError::Foreign)?;
    let high_water = HighWater::open(Arc::clone(&ports.disk), &settings.vault.anchors)?;
    let mut done = 0;
    let mut copy_all = |kind| -> Result<Vec<LogPart>, BackupError> {
        let place = |number| Place::new(kind, &settings.data_dir, &settings.origin, number);
        let past = origins::chain(disk, kind, (&settings.data_dir, &settings.origin), newest)?;
        let mut upto: Vec<(Place, Upto)> =
            past.iter().map(|past| (place(past.number), Upto::Size(past.end.size))).collect();
        let last = place(newest);
        let known = high_water.size(&last.origin);
        let there = disk.exists(&last.log).map_err(file("looked up", &last.log))?;
        match lock {
            // An installation that was never started by a version with an access log has none yet.
            _ if kind == Kind::Access && !there => {}
            // A new installation writes its first leaf when it is opened.
            Some(_) if kind == Kind::Access && first_entry(disk, &last.log)?.is_none() => {}
            Some(_) => upto.push((last, Upto::End)),
            None if known == 0 => return Err(BackupError::TooEarly),
            None => upto.push((last, Upto::Size(TreeSize::new(known)))),
        }
        let mut parts = Vec::new();
        for (place, upto) in upto {
            let to = Place::new(kind, target, &settings.origin, place.number).log;
            let before = done;
            let copied = copy(disk, (&place.log, &place.origin), upto, &to, &mut |bytes| {
                done = before + bytes;
                progress(done);
            })?;
            let signer = signer(&vault, &place)?;
            let checkpoint =
                Checkpoint { origin: place.origin.clone(), size: copied.size, root: copied.root };
            let segments = format!("{}/{:04}/segments", folder(kind), place.number);
            let files = copied.files.iter().map(|name| describe(disk, target, &format!("{segments}/{name}")));
            parts.push(LogPart {
                number: place.number,
                tree_size: copied.size.get(),
                root_hash: copied.root.to_string(),
                checkpoint: checkpoint.sign(&signer),
                files: files.collect::<Result<_, _>>()?,
                origin: place.origin,
            });
        }
        Ok(parts)
    };
    let (logs, access_logs) = (copy_all(Kind::Events)?, copy_all(Kind::Access)?);
    // Behind the logs, so that no leaf tells of a record that is not there.
    let files = loose::copy(disk, &settings.data_dir, target)?;
    // Behind everything, so that it is not older than what is told of it.
    let (epoch, body) = copy_body(ports, settings, kek, target)?;
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        tenant: settings.tenant.clone(),
        made_ms: u64::try_from(ports.clock.wall_ms()).unwrap_or(0),
        logs,
        access_logs,
        vault_epoch: epoch.get(),
        vault: body,
        files,
    };
    let path = target.join(MANIFEST);
    let text =
        serde_json::to_vec_pretty(&manifest).map_err(|source| file("written", &path)(source.into()))?;
    write_atomic(disk, &path, &text, Privacy::Owner).map_err(file("written", &path))?;
    Ok(manifest)
}

/// Restores a backup into the data directory of the configuration, which must be missing or empty, and starts the next log.
/// `progress` is told of the bytes copied so far.
///
/// # Errors
/// [`BackupError`]; the data directory is to be emptied before the next attempt then.
pub fn restore(
    ports: &Ports,
    settings: &Settings,
    kek: Kek,
    from: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Restored, BackupError> {
    let disk = &*ports.disk;
    let manifest = read_manifest(disk, from)?;
    let place = |kind, number| Place::new(kind, &settings.data_dir, &settings.origin, number);
    let ours = |kind, parts: &[LogPart]| {
        parts.iter().all(|part| {
            origins::number(&settings.origin, &place(kind, part.number).signed_as) == Some(part.number)
                && place(kind, part.number).origin == part.origin
        })
    };
    let all_ours = ours(Kind::Events, &manifest.logs) && ours(Kind::Access, &manifest.access_logs);
    if manifest.tenant != settings.tenant || manifest.logs.is_empty() || !all_ours {
        return Err(BackupError::Foreign);
    }
    must_be_empty(disk, &settings.data_dir)?;
    make_dir(disk, &settings.data_dir)?;
    let _lock = recovery::lock(disk, &settings.data_dir)?;
    let mut done = 0;
    for part in manifest.files() {
        copy_file(disk, from, &settings.data_dir, part)?;
        done += part.bytes;
        progress(done);
    }
    let mut vault =
        Vault::open(Arc::clone(&ports.disk), Arc::clone(&ports.entropy), vault_paths(settings), kek, None)?;
    let newest = origins::newest(&vault, &settings.origin).ok_or(BackupError::Foreign)?;
    let high_water = HighWater::open(Arc::clone(&ports.disk), &settings.vault.anchors)?;
    let mut restored = Restored {
        logs: Vec::new(),
        access_logs: Vec::new(),
        files: manifest.files.len(),
        made_ms: manifest.made_ms,
        origin: origins::name(&settings.origin, newest + 1),
        epoch: vault.epoch(),
        policy: Policy::log_only(signer(&vault, &place(Kind::Events, 0))?.verifier()),
    };
    let mut ends = Vec::new();
    for (kind, parts, told) in [
        (Kind::Events, &manifest.logs, &mut restored.logs),
        (Kind::Access, &manifest.access_logs, &mut restored.access_logs),
    ] {
        let mut last = None;
        let last_number = parts.iter().map(|part| part.number).max();
        for number in 0..=newest {
            let place = place(kind, number);
            let known = high_water.size(&place.origin);
            let Some(part) = parts.iter().find(|part| part.number == number) else {
                // Begun after the backup, or by a restore that was cut short; or lost already when the backup was made.
                if last_number.is_none_or(|last| number > last) && vault.keyring(&place.origin).is_some() {
                    let origin = place.origin;
                    told.push(RestoredLog { origin, tree_size: 0, lost: known, unreadable: 0 });
                }
                continue;
            };
            let (past, reader, unreadable) = open(ports, &vault, &place, part)?;
            let tree_size = past.end.size.get();
            // What an earlier log lost was lost by the restore that ended it.
            let lost = if Some(number) == last_number { known.saturating_sub(tree_size) } else { 0 };
            told.push(RestoredLog { origin: place.origin, tree_size, lost, unreadable });
            last = Some((past, reader));
        }
        ends.push(last);
    }
    for number in 0..=newest {
        for (key, _) in place(Kind::Events, number).verifiers(&vault).map_err(EngineError::from)? {
            // Refused only if it is there already.
            let _ = restored.policy.add_log(key, None);
        }
    }
    let (accesses, events) = (ends.pop().flatten(), ends.pop().flatten().ok_or(BackupError::Foreign)?);
    let (next, next_access) = (place(Kind::Events, newest + 1), place(Kind::Access, newest + 1));
    vault.add_origin(&next.origin)?;
    let _ = restored.policy.add_log(signer(&vault, &next)?.verifier(), None);
    // The log of events comes last: without its first leaf nothing starts, and the restore is repeated.
    vault.add_origin(&next_access.origin)?;
    begin(ports, settings, &vault, &next_access, accesses.as_ref())?;
    begin(ports, settings, &vault, &next, Some(&events))?;
    Ok(restored)
}

impl Manifest {
    /// Returns every file of the backup but the list itself.
    fn files(&self) -> impl Iterator<Item = &FilePart> {
        let logs = self.logs.iter().chain(&self.access_logs);
        logs.flat_map(|log| &log.files).chain([&self.vault]).chain(&self.files)
    }
}

/// Returns the directory of the logs of a kind.
fn folder(kind: Kind) -> &'static str {
    match kind {
        Kind::Events => "log",
        Kind::Access => "access",
    }
}

/// Opens a log that came out of a backup, and counts the leaves that cannot be read.
fn open(
    ports: &Ports,
    vault: &Vault,
    place: &Place,
    part: &LogPart,
) -> Result<(Past, Reader, u64), BackupError> {
    let signer = signer(vault, place)?;
    let verifiers = place.verifiers(vault).map_err(EngineError::from)?;
    let end = Checkpoint::open(part.checkpoint.as_bytes(), verifiers.iter().map(|(key, _)| key)).ok();
    let end = end.filter(|end| {
        end.origin == part.origin
            && end.size.get() == part.tree_size
            && end.root.to_string() == part.root_hash
    });
    let end = end.ok_or(BackupError::Damaged {
        what: "a checkpoint is not signed by its log",
        path: PathBuf::from(MANIFEST),
    })?;
    let keyring = vault.keyring(&part.origin).ok_or(BackupError::Foreign)?;
    let (mut unreadable, mut needed) = (0, 0);
    let mut visit = |index: LogIndex, bytes: &[u8]| {
        let leaf = Leaf::parse(bytes)?;
        let header = leaf.header();
        if let (TypeCode::KEY_SHREDDED, Some(clear)) = (header.event_type, header.clear.as_deref())
            && let Ok(item) = KeyShreddedItem::decode(clear)
        {
            needed = item.epoch.max(needed);
        }
        unreadable += u64::from(!keyring.is_readable(index.get(), header.class.code(), header.month()));
        Ok(())
    };
    let reader = recovery::open_final(&ports.disk, &place.log, &end, &signer, &mut visit)?;
    if vault.epoch().get() < needed {
        // An older vault would bring keys back that the log says were destroyed.
        return Err(VaultError::RolledBack { epoch: vault.epoch(), needed: Epoch::new(needed) }.into());
    }
    Ok((Past { number: part.number, end, note: part.checkpoint.clone() }, reader, unreadable))
}

/// Makes the next log, with the leaves that say what it continues.
fn begin(
    ports: &Ports,
    settings: &Settings,
    vault: &Vault,
    place: &Place,
    before: Option<&(Past, Reader)>,
) -> Result<(), BackupError> {
    let signer = signer(vault, place)?;
    let keyring = vault.keyring(&place.origin).ok_or(BackupError::Foreign)?;
    recovery::create(&*ports.disk, &place.log, &place.origin, settings.segment_bytes)?;
    let options = Options {
        dir: &place.log,
        origin: &place.origin,
        segment_bytes: settings.segment_bytes,
        known_size: TreeSize::new(0),
    };
    let (mut committer, _) = recovery::open(&ports.disk, &options, Box::new(signer), &mut |_, _| Ok(()))?;
    let hasher = Hasher::new(&settings.tenant, vault.dedupe_key().expose(), vault.index_key().expose());
    let trail = Trail::new(
        Arc::clone(&ports.entropy),
        Lookup::default(),
        Suppression::default(),
        Arc::new(hasher),
        Identity::default(),
    );
    let sealer = TrailSealer::new(keyring, Arc::clone(&ports.entropy));
    let clock = ReceiptClock::start(Arc::clone(&ports.clock), 0);
    let mut sequencer = Sequencer::new(trail, sealer, clock, LogIndex::new(0));
    let previous = before.map(|(past, _)| (past.end.origin.clone(), past.note.clone()));
    let start = OriginStartItem { previous };
    let table = before.map(|(_, reader)| newest_table(reader)).transpose();
    let table = table.map_err(|_| LogError::Bug { what: "a checked log cannot be read" })?;
    let table = table.unwrap_or_default();
    let group =
        Command::first_leaves(&start, &table).map(|command| Submission { command, reply: Box::new(|_| {}) });
    let sealed = sequencer.step(group.into())?;
    committer.commit(vec![sealed])?;
    recovery::mark_clean(&*ports.disk, &place.log, committer.reader())?;
    Ok(())
}

fn signer(vault: &Vault, place: &Place) -> Result<SignerKey, BackupError> {
    place.signer(vault).map_err(EngineError::from)?.ok_or(BackupError::Foreign)
}

fn look(ports: &Ports, settings: &Settings, kek: Kek) -> Result<Vault, BackupError> {
    let (disk, entropy) = (Arc::clone(&ports.disk), Arc::clone(&ports.entropy));
    let vault = Vault::open_read_only(disk, entropy, vault_paths(settings), kek, None)?;
    if vault.tenant() == settings.tenant { Ok(vault) } else { Err(EngineError::Foreign.into()) }
}

/// Copies the newest body of the vault, as it is: sealed.
fn copy_body(
    ports: &Ports,
    settings: &Settings,
    kek: &dyn Fn() -> Result<Kek, EngineError>,
    target: &Path,
) -> Result<(Epoch, FilePart), BackupError> {
    let disk = &*ports.disk;
    make_dir(disk, &target.join("vault"))?;
    let mut last = None;
    for _ in 0..BODY_ATTEMPTS {
        let epoch = look(ports, settings, kek()?)?.epoch();
        let name = idtrail_vault::body_name(epoch);
        let paths = vault_paths(settings);
        for dir in std::iter::once(&paths.body_dir).chain(&paths.copies) {
            match idtrail_port::read_whole(disk, &dir.join(&name), BODY_BYTES_MAX) {
                Ok(bytes) => {
                    let path = target.join("vault").join(&name);
                    write_atomic(disk, &path, &bytes, Privacy::Owner).map_err(file("written", &path))?;
                    return Ok((epoch, describe(disk, target, &format!("vault/{name}"))?));
                }
                Err(source) => last = Some(file("read", &dir.join(&name))(source)),
            }
        }
    }
    Err(last.unwrap_or(BackupError::TooEarly))
}

fn read_manifest(disk: &dyn Disk, from: &Path) -> Result<Manifest, BackupError> {
    let path = from.join(MANIFEST);
    let bytes = idtrail_port::read_whole(disk, &path, MANIFEST_BYTES_MAX).map_err(file("read", &path))?;
    let damaged = |what| BackupError::Damaged { what, path: path.clone() };
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|_| damaged("it is not a list of a backup's parts"))?;
    if ![FORMAT, FORMAT_LOGS].contains(&&*manifest.format) {
        return Err(damaged("it is of another version"));
    }
    let plain = |part: &FilePart| {
        part.path.split('/').all(|step| !step.is_empty() && step != "." && step != "..")
            && (["log/", "access/", "vault/"].iter().any(|folder| part.path.starts_with(folder))
                || loose::is_one(&part.path))
    };
    let fixed = manifest.files.iter().all(|part| loose::is_one(&part.path));
    if !fixed || !manifest.files().all(plain) {
        return Err(damaged("it names a file outside of the backup"));
    }
    Ok(manifest)
}

pub(super) fn describe(disk: &dyn Disk, target: &Path, path: &str) -> Result<FilePart, BackupError> {
    let mut digest = Sha256::new();
    let bytes = each_chunk(disk, &target.join(path), &mut |chunk, _| {
        digest.update(chunk);
        Ok(())
    })?;
    Ok(FilePart { path: path.to_owned(), bytes, sha256: HEXLOWER.encode(&digest.finalize()) })
}

/// Copies one file and compares it with what the list says.
fn copy_file(disk: &dyn Disk, from: &Path, to: &Path, part: &FilePart) -> Result<(), BackupError> {
    let (source, target) = (from.join(&part.path), to.join(&part.path));
    if let Some(dir) = target.parent() {
        make_dir(disk, dir)?;
    }
    let out = disk.open(&target, Open::CreateNew(Privacy::Owner)).map_err(file("created", &target))?;
    let mut digest = Sha256::new();
    let bytes = each_chunk(disk, &source, &mut |chunk, offset| {
        digest.update(chunk);
        out.write_all_at(chunk, offset).map_err(file("written", &target))
    })?;
    if bytes != part.bytes || HEXLOWER.encode(&digest.finalize()) != part.sha256 {
        return Err(BackupError::Damaged { what: "a file differs from its digest", path: source });
    }
    out.sync_data().map_err(file("synced", &target))?;
    let dir = target.parent().unwrap_or(to);
    disk.sync_dir(dir).map_err(file("synced", dir))
}

/// Takes a part of a file and where it starts.
type OnChunk<'a> = dyn FnMut(&[u8], u64) -> Result<(), BackupError> + 'a;

/// Reads a file in parts and returns its length.
fn each_chunk(disk: &dyn Disk, path: &Path, with: &mut OnChunk<'_>) -> Result<u64, BackupError> {
    let input = disk.open(path, Open::Read).map_err(file("opened", path))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let read = input.read_at(&mut chunk, offset).map_err(file("read", path))?;
        if read == 0 {
            return Ok(offset);
        }
        with(chunk.get(..read).unwrap_or_default(), offset)?;
        offset += read as u64;
    }
}

fn must_be_empty(disk: &dyn Disk, dir: &Path) -> Result<(), BackupError> {
    let there = disk.exists(dir).map_err(file("looked up", dir))?;
    if there && !disk.list(dir).map_err(file("listed", dir))?.is_empty() {
        return Err(BackupError::NotEmpty(dir.to_owned()));
    }
    Ok(())
}

pub(super) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), BackupError> {
    create_dir_durable(disk, dir).map_err(file("created", dir))
}

pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { action, path, source }
}
