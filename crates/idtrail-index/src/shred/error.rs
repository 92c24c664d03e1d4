//! Why keys were not destroyed, or not yet, and what the caller must do.

use std::path::PathBuf;

use idtrail_log::LogError;
use idtrail_tlog::LogIndex;
use idtrail_vault::{ErrorKind as VaultErrorKind, VaultError};

use crate::IndexError;
use crate::months::ScanError;
use crate::seal::OpenError;

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Correct the order.
    Invalid,
    /// Name leaves or holds that exist.
    NotFound,
    /// Look at what is there first.
    Conflict,
    /// Nothing is lost: it is tried again by itself, and the same order can be repeated.
    Unavailable,
    /// Stored bytes are not what was written.
    Damaged,
}

/// Why keys were not destroyed, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum ShredError {
    /// The order cannot be carried out as it is.
    #[error("the order cannot be carried out: {0}")]
    Order(&'static str),
    /// There is no such leaf.
    #[error("there is no such leaf. index={0}")]
    NoLeaf(LogIndex),
    /// The leaf is one of the log's own, without which nobody can verify the log.
    #[error("the leaf is one of the log's own and holds nothing of a person. index={0}")]
    OwnLeaf(LogIndex),
    /// The index has not read the whole log yet.
    #[error("the index has not caught up with the log")]
    Behind,
    /// The vault could not be read or written.
    #[error("the vault could not be written")]
    Vault(#[from] VaultError),
    /// The log could not be read or written.
    #[error("the log could not be read or written")]
    Log(#[from] LogError),
    /// The log could not be searched.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The index could not be changed.
    #[error("the index could not be changed")]
    Index(#[from] IndexError),
    /// A leaf could not be opened.
    #[error("a leaf could not be opened. index={index}")]
    Open {
        /// Its index.
        index: LogIndex,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The order's file could not be written, read or removed.
    #[error("the file of an open order cannot be {action}. path={}", path.display())]
    File {
        /// What was being done, as a participle.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// The order's file is not what was written.
    #[error("the file of an open order is damaged. path={}", .0.display())]
    Damaged(PathBuf),
}

impl ShredError {
    /// Returns what the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Order(_) | Self::OwnLeaf(_) => ErrorKind::Invalid,
            Self::NoLeaf(_) => ErrorKind::NotFound,
            Self::Damaged(_) | Self::Scan(ScanError::Leaf { .. }) | Self::Open { .. } => ErrorKind::Damaged,
            Self::Behind | Self::Log(_) | Self::Scan(_) | Self::Index(_) | Self::File { .. } => {
                ErrorKind::Unavailable
            }
            Self::Vault(error) => match error.kind() {
                VaultErrorKind::Invalid => ErrorKind::Invalid,
                VaultErrorKind::NotFound => ErrorKind::NotFound,
                VaultErrorKind::Conflict => ErrorKind::Conflict,
                VaultErrorKind::Damaged => ErrorKind::Damaged,
                VaultErrorKind::Denied | VaultErrorKind::Busy | VaultErrorKind::Unavailable => {
                    ErrorKind::Unavailable
                }
            },
        }
    }
}
