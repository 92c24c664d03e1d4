//! What can go wrong with the vault, by what the caller must do about it.
//!
//! No variant holds a secret. Paths, epochs and origin names are not secret and stand last in the messages.

use std::io;
use std::path::PathBuf;

use crate::Epoch;

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request or the configuration is wrong: change it.
    Invalid,
    /// It clashes with what is there: look before going on.
    Conflict,
    /// It does not exist, or not any more: do not retry.
    NotFound,
    /// The key-encryption key is not the right one.
    Denied,
    /// Another process holds the vault: wait or stop that one.
    Busy,
    /// The disk failed: retry. Whether a write took effect is told by [`crate::Vault::probe`].
    Unavailable,
    /// What is stored cannot be used: restore it.
    Damaged,
}

/// An error of the vault's files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The disk refused an operation. After a write the outcome is unknown until [`crate::Vault::probe`] tells it.
    #[error("vault file cannot be {action}. path={path:?}")]
    Io {
        /// What was being done, as a participle.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The disk's own error.
        #[source]
        source: io::Error,
    },
    /// What was written reads back differently: the device cannot be trusted.
    #[error("vault file reads back differently from what was written. path={0:?}")]
    ReadBack(PathBuf),
    /// The configured paths cannot be used.
    #[error("vault paths are not usable: {0}")]
    Paths(&'static str),
    /// The key-encryption key cannot be read from what was given.
    #[error("key-encryption key is not usable: {0}")]
    Kek(&'static str),
    /// A name is too long, empty or has a forbidden character.
    #[error("name is not usable: {0}")]
    Name(&'static str),
    /// A vault is there already, so that none can be created.
    #[error("a vault's file is already there. path={0:?}")]
    Exists(PathBuf),
    /// The creation of this vault was interrupted: nothing was ever sealed with it; create it again.
    #[error("the vault was never completely created. path={0:?}")]
    Unfinished(PathBuf),
    /// Another process has the vault open.
    #[error("the vault is held by another process. path={0:?}")]
    Locked(PathBuf),
    /// There is no vault: neither an anchor nor a body.
    #[error("there is no vault. first_anchor={0:?}")]
    Missing(PathBuf),
    /// There are bodies, but no anchor cell holds a readable slot.
    #[error("no anchor cell holds an epoch key. first_anchor={0:?}")]
    NoAnchor(PathBuf),
    /// An anchor cell is not as the last write left it; nothing was written.
    #[error("anchor cell is missing or has been changed. path={0:?}")]
    AnchorChanged(PathBuf),
    /// The key-encryption key does not open this anchor cell.
    #[error("the key-encryption key does not open the anchor cell. path={0:?}")]
    WrongKek(PathBuf),
    /// This file belongs to another vault.
    #[error("the file belongs to another vault. path={0:?}")]
    Foreign(PathBuf),
    /// No readable body of the newest anchored epoch is in the body directory or in a copy.
    #[error("the vault's body is missing or damaged everywhere. epoch={0}")]
    BodyMissing(Epoch),
    /// The body was opened but does not hold what it must.
    #[error("the vault's body is malformed: {0}")]
    Body(&'static str),
    /// The vault is older than it must be: an anchor or a body was rolled back.
    #[error("the vault has been rolled back. epoch={epoch}, needed={needed}")]
    RolledBack {
        /// The newest epoch that an anchor opens.
        epoch: Epoch,
        /// An epoch that is known to have existed.
        needed: Epoch,
    },
    /// The write was prepared for another epoch than the next one.
    #[error("the vault has moved on. next={next}, target={target}")]
    Moved {
        /// The epoch that the next write makes.
        next: Epoch,
        /// The epoch that the caller asked for.
        target: Epoch,
    },
    /// The vault has no such origin.
    #[error("the vault has no such origin. origin={0}")]
    UnknownOrigin(String),
    /// The vault has this origin already.
    #[error("the vault already has the origin. origin={0}")]
    OriginExists(String),
    /// The vault was opened for reading only.
    #[error("the vault is open for reading only")]
    ReadOnly,
    /// The vault has a hold of this name already.
    #[error("there is a hold of this name already. hold={0}")]
    HoldExists(String),
    /// The vault has no such hold.
    #[error("there is no such hold. hold={0}")]
    UnknownHold(String),
    /// A leaf to be erased is held.
    #[error("a leaf to be erased is held. index={0}")]
    Held(u64),
    /// Leaves to be punctured lie outside the key tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The high-water file does not hold what it must.
    #[error("high-water file is malformed. path={0:?}")]
    HighWater(PathBuf),
}

impl VaultError {
    /// Returns what the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::ReadBack(_) | Self::AnchorChanged(_) => ErrorKind::Unavailable,
            Self::Paths(_) | Self::Kek(_) | Self::Name(_) | Self::ReadOnly => ErrorKind::Invalid,
            Self::Exists(_)
            | Self::Foreign(_)
            | Self::OriginExists(_)
            | Self::Moved { .. }
            | Self::HoldExists(_)
            | Self::Held(_) => ErrorKind::Conflict,
            Self::Unfinished(_) | Self::Missing(_) | Self::UnknownOrigin(_) | Self::UnknownHold(_) => {
                ErrorKind::NotFound
            }
            Self::Locked(_) => ErrorKind::Busy,
            Self::WrongKek(_) => ErrorKind::Denied,
            Self::NoAnchor(_)
            | Self::BodyMissing(_)
            | Self::Body(_)
            | Self::RolledBack { .. }
            | Self::HighWater(_) => ErrorKind::Damaged,
            Self::Tree(error) => error.kind(),
        }
    }
}

/// An error of a key tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A leaf lies outside the tree.
    #[error("leaf lies outside the key tree. leaf={leaf}, depth={depth}")]
    OutOfRange {
        /// The leaf, or one past the last leaf of a range.
        leaf: u64,
        /// The tree's depth in bits.
        depth: u8,
    },
    /// The encoding is not the one that a tree has.
    #[error("encoded key tree is malformed: {reason}. offset={offset}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
        /// Bytes from the start of the encoding.
        offset: usize,
    },
}

impl TreeError {
    /// Returns what the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OutOfRange { .. } => ErrorKind::Invalid,
            Self::Malformed { .. } => ErrorKind::Damaged,
        }
    }
}

/// Why a key cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has been destroyed, for ever.
    #[error("key has been destroyed")]
    Punctured,
    /// There is no such key: the index is above 2^40 - 1, or more were asked for at once than is allowed.
    #[error("key index is out of range")]
    OutOfRange,
}

impl KeyError {
    /// Returns what the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Punctured => ErrorKind::NotFound,
            Self::OutOfRange => ErrorKind::Invalid,
        }
    }
}
