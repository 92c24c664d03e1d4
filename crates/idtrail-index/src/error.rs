//! What can go wrong with derived state, by what the caller must do about it.

use std::io;
use std::path::PathBuf;

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The disk failed: try again once the cause is gone.
    Unavailable,
    /// What is stored is not what was written: rebuild it from the log.
    Damaged,
}

/// Why derived state cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The disk refused an operation.
    #[error("index file cannot be {action}. path={}", path.display())]
    Disk {
        /// What was being done, as a participle.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("index file is damaged: {what}. path={}, offset={offset}", path.display())]
    Damaged {
        /// What differs.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The offset in the file, in bytes.
        offset: u64,
    },
}

impl IndexError {
    /// Returns what the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Disk { .. } => ErrorKind::Unavailable,
            Self::Damaged { .. } => ErrorKind::Damaged,
        }
    }
}
