//! The errors of the log and what a caller must do about each.

use std::io;
use std::path::PathBuf;

use idtrail_tlog::{LogIndex, TreeSize};

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Correct the request or the configuration.
    Invalid,
    /// Ask for something that exists.
    NotFound,
    /// Try again after a while: a queue is full.
    Busy,
    /// The disk failed or the log has stopped: restart once the cause is gone.
    Unavailable,
    /// Stored bytes are not what was written: run the full check before anything else.
    Damaged,
    /// A defect of this program.
    Bug,
}

/// Everything that can go wrong in the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused an operation.
    #[error("disk operation failed. operation={operation}, path={}", path.display())]
    Disk {
        /// What was attempted.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// A log already exists where a new one was to be created.
    #[error("a log exists already and is never overwritten. path={}", path.display())]
    Exists {
        /// The log's directory.
        path: PathBuf,
    },
    /// Stored bytes are not what was written.
    #[error("stored bytes are damaged: {what}. path={}, offset={offset}, index={index}", path.display())]
    Damaged {
        /// What differs.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The offset in the file.
        offset: u64,
        /// The first entry concerned.
        index: LogIndex,
    },
    /// The log ends below a size that it is known to have reached.
    #[error(
        "the log is shorter than it once was: restored from a copy, or cut off. size={size}, known={known}"
    )]
    RolledBack {
        /// Where the log ends now.
        size: TreeSize,
        /// The size it is known to have reached.
        known: TreeSize,
    },
    /// Another process holds the log.
    #[error("another process has this log open. path={}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The queue in front of the log is full.
    #[error("the queue is full. entries={entries}, limit={limit}")]
    Busy {
        /// Entries waiting.
        entries: usize,
        /// The most that may wait.
        limit: usize,
    },
    /// The log has stopped after a failure, or is being shut down.
    #[error("the log has stopped and takes no more entries")]
    Stopped,
    /// An entry is too long, empty, or cannot be told from a torn write.
    #[error("an entry cannot be stored: {why}. bytes={bytes}")]
    Entry {
        /// The reason.
        why: &'static str,
        /// The entry's length.
        bytes: usize,
    },
    /// There is no such entry, tile or proof at this size.
    #[error("nothing there. index={index}, size={size}")]
    NotFound {
        /// What was asked for.
        index: LogIndex,
        /// The size of the log.
        size: TreeSize,
    },
    /// The code that seals entries failed after their order was fixed.
    #[error("an entry could not be sealed. index={index}")]
    Seal {
        /// The entry's index.
        index: LogIndex,
        /// What the sealing code said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The code that reads entries back at start refused one.
    #[error("a stored entry was refused by its reader. index={index}")]
    Visitor {
        /// The entry's index.
        index: LogIndex,
        /// What the reader said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A broken assumption of this program.
    #[error("internal inconsistency: {what}")]
    Bug {
        /// The assumption.
        what: &'static str,
    },
}

impl LogError {
    /// Returns what the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            LogError::Exists { .. } | LogError::Entry { .. } | LogError::Locked { .. } => ErrorKind::Invalid,
            LogError::Damaged { .. } | LogError::RolledBack { .. } | LogError::Visitor { .. } => {
                ErrorKind::Damaged
            }
            LogError::Busy { .. } => ErrorKind::Busy,
            LogError::Disk { .. } | LogError::Stopped => ErrorKind::Unavailable,
            LogError::NotFound { .. } => ErrorKind::NotFound,
            LogError::Seal { .. } | LogError::Bug { .. } => ErrorKind::Bug,
        }
    }

    pub(crate) fn disk(
        operation: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |source| LogError::Disk { operation, path, source }
    }
}
