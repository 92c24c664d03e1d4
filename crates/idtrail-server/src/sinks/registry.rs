//! The sinks that were added over the API, as they are kept: `sinks.json` in the data directory, replaced as a whole.
//!
//! Holds settings with references to secrets, never a secret.

use std::io;
use std::path::{Path, PathBuf};

use idtrail_connect::settings::SinkSettings;
use idtrail_port::{Disk, Privacy, read_optional, write_atomic};
use serde::{Deserialize, Serialize};

const FILE: &str = "sinks.json";
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const VERSION: u32 = 1;

/// Why the list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file is not what was written.
    #[error("the list of sinks is damaged. path={}", .0.display())]
    Damaged(PathBuf),
    /// The disk refuses.
    #[error("the list of sinks cannot be used. path={}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    sinks: Vec<SinkSettings>,
}

/// Reads the list; empty if there is none.
///
/// # Errors
/// [`RegistryError`].
pub fn load(disk: &dyn Disk, data_dir: &Path) -> Result<Vec<SinkSettings>, RegistryError> {
    let path = data_dir.join(FILE);
    let bytes = read_optional(disk, &path, FILE_BYTES_MAX)
        .map_err(|source| RegistryError::Io { path: path.clone(), source })?;
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    match serde_json::from_slice::<Kept>(&bytes) {
        Ok(kept) if kept.version == VERSION => Ok(kept.sinks),
        _ => Err(RegistryError::Damaged(path)),
    }
}

/// Replaces the list, durably.
///
/// # Errors
/// `Io`; the old list or the new one is there then.
pub fn save(disk: &dyn Disk, data_dir: &Path, sinks: Vec<SinkSettings>) -> Result<(), RegistryError> {
    let path = data_dir.join(FILE);
    let text = serde_json::to_vec_pretty(&Kept { version: VERSION, sinks })
        .map_err(|error| RegistryError::Io { path: path.clone(), source: error.into() })?;
    write_atomic(disk, &path, &text, Privacy::Owner).map_err(|source| RegistryError::Io { path, source })
}
