//! What a backup holds beside the logs and the vault: everything that cannot be made again from them.
//!
//! ```text
//! credentials.json                 API keys and persons: hashes, never secrets
//! sinks.json                       the sinks that were added over the API
//! sinks/<name>/cursor, dead-letters  how far each sink is; positions, never a value of an event
//! quarantine/q_…                   refused events, sealed under a key of the vault
//! rights/<number>.record           records of requests of data subjects, each sealed under a key of its own
//! ```
//!
//! Each file is replaced as a whole or only grows, so that a copy made beside a running server is one that could have been
//! found after a crash. What was destroyed after the backup does not come back: a record's key is gone from the vault, and
//! of an entry of the quarantine that was destroyed the vault remembers so (`crate::quarantine`).
//!
//! What it must never do: copy a secret in clear. The files under `sink-secrets` are the operator's to keep, like the
//! key-encryption key.

use std::io;
use std::path::Path;

use idtrail_port::{Disk, Privacy, read_whole, write_atomic};

use super::backup::{BackupError, FilePart, describe, file, make_dir};

const FILE_BYTES_MAX: u64 = 1 << 30;
const SINK_FILES: [&str; 2] = ["cursor", "dead-letters"];

/// Tells whether a path of a backup is one of these files.
pub(super) fn is_one(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["credentials.json" | "sinks.json"] => true,
        ["quarantine", name] => is_quarantined(name),
        ["rights", name] => is_record(name),
        ["sinks", name, file] => !name.is_empty() && SINK_FILES.contains(file),
        _ => false,
    }
}

/// Copies all of them and says what they are.
pub(super) fn copy(disk: &dyn Disk, data_dir: &Path, target: &Path) -> Result<Vec<FilePart>, BackupError> {
    let mut paths = vec!["credentials.json".to_owned(), "sinks.json".to_owned()];
    for name in list(disk, &data_dir.join("quarantine"))? {
        if is_quarantined(&name) {
            paths.push(format!("quarantine/{name}"));
        }
    }
    for name in list(disk, &data_dir.join("rights"))? {
        if is_record(&name) {
            paths.push(format!("rights/{name}"));
        }
    }
    for name in list(disk, &data_dir.join("sinks"))? {
        paths.extend(SINK_FILES.map(|file| format!("sinks/{name}/{file}")));
    }
    let mut parts = Vec::new();
    for path in paths {
        if copy_one(disk, &data_dir.join(&path), &target.join(&path))? {
            parts.push(describe(disk, target, &path)?);
        }
    }
    Ok(parts)
}

/// Copies a file; false if it is not there, or no more.
fn copy_one(disk: &dyn Disk, from: &Path, to: &Path) -> Result<bool, BackupError> {
    let bytes = match read_whole(disk, from, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(file("read", from)(source)),
    };
    if let Some(dir) = to.parent() {
        make_dir(disk, dir)?;
    }
    write_atomic(disk, to, &bytes, Privacy::Owner).map_err(file("written", to))?;
    Ok(true)
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, BackupError> {
    if !disk.exists(dir).map_err(file("looked up", dir))? {
        return Ok(Vec::new());
    }
    let mut names = disk.list(dir).map_err(file("listed", dir))?;
    names.sort_unstable();
    Ok(names)
}

fn is_quarantined(name: &str) -> bool {
    crate::quarantine::QuarantineId::parse(name).is_some()
}

fn is_record(name: &str) -> bool {
    name.strip_suffix(".record").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_path_is_taken_for_one_of_the_files() {
        for path in ["credentials.json", "sinks.json", "rights/000000000a.record", "sinks/warehouse/cursor"] {
            assert!(is_one(path), "{path}");
        }
        for path in [
            "",
            "lock",
            "kek.key",
            "shredding",
            "sink-secrets/password",
            "sinks/warehouse/lock",
            "sinks//cursor",
            "rights/../kek.record",
            "quarantine/x",
            "index/manifest",
        ] {
            assert!(!is_one(path), "{path}");
        }
    }
}
