//! Removes a file so that the blocks which become free hold nothing of it.
//!
//! On a disk that overwrites in place this is what erases; on flash and on copy-on-write file systems the device keeps
//! what it likes, and only an encrypted volume helps.

use std::io;
use std::path::Path;

use idtrail_port::{Disk, Open};

const CHUNK_BYTES: usize = 1 << 20;

/// Overwrites a file with zeros, syncs it, and removes its name durably. A missing file is no error.
///
/// # Errors
/// As the disk reports them; to be repeated then.
pub fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let file = match disk.open(path, Open::Write) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = file.len()?;
    let zeros = vec![0; CHUNK_BYTES.min(usize::try_from(length).unwrap_or(CHUNK_BYTES))];
    let mut at = 0;
    while at < length {
        let count = usize::try_from(length - at).unwrap_or(CHUNK_BYTES).min(zeros.len());
        file.write_all_at(zeros.get(..count).unwrap_or_default(), at)?;
        at += count as u64;
    }
    file.sync_data()?;
    disk.remove(path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
