//! Which operation fails, how, and what was done so far.
//!
//! Operations are counted from 0, all of them, the mutating ones and each kind apart, so that a test runs once
//! without a fault, reads the count, and then fails or crashes at every index in turn.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Input/output error.
pub const EIO: i32 = 5;
/// No space left on the device.
pub const ENOSPC: i32 = 28;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationKind {
    /// Opens an existing file.
    Open,
    /// Creates a file.
    Create,
    /// Creates a directory.
    CreateDir,
    /// Lists a directory.
    List,
    /// Asks whether a name exists.
    Exists,
    /// Renames.
    Rename,
    /// Removes a name.
    Remove,
    /// Syncs a directory.
    SyncDir,
    /// Takes a lock, creating the file if it is missing.
    Lock,
    /// Reads bytes.
    Read,
    /// Writes bytes.
    Write,
    /// Syncs a file's bytes and length.
    SyncData,
    /// Asks for a file's length.
    Len,
    /// Drops a file's clean pages from the cache.
    DropCache,
}

impl OperationKind {
    /// Tells whether it may change what is on the disk.
    pub const fn is_mutating(self) -> bool {
        match self {
            Self::Create
            | Self::CreateDir
            | Self::Rename
            | Self::Remove
            | Self::SyncDir
            | Self::Lock
            | Self::Write
            | Self::SyncData => true,
            Self::Open | Self::List | Self::Exists | Self::Read | Self::Len | Self::DropCache => false,
        }
    }
}

/// Which operations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Every operation.
    All,
    /// Those that may change what is on the disk.
    Mutating,
    /// Those of one kind.
    Of(OperationKind),
}

impl Count {
    fn includes(self, kind: OperationKind) -> bool {
        match self {
            Self::All => true,
            Self::Mutating => kind.is_mutating(),
            Self::Of(counted) => counted == kind,
        }
    }
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// At its index only.
    Once,
    /// At its index and at every counted operation from then on.
    Forever,
}

/// What a failing operation has done all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing; what waits for a failed [`OperationKind::SyncDir`] still waits. But a failed
    /// [`OperationKind::SyncData`] makes a random part of the dirty sectors durable and calls all of them clean, so
    /// that a second call succeeds and the rest is lost.
    NotApplied,
    /// A write stops after a random part of its bytes. Other operations fail as if [`Effect::NotApplied`].
    Partly,
    /// All of it: the error is a lie.
    Applied,
}

/// A planned failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which operations `index` counts.
    pub count: Count,
    /// The first operation to fail, from 0.
    pub index: u64,
    /// Whether later ones fail too.
    pub repeat: Repeat,
    /// The operating system's error number, such as [`EIO`].
    pub errno: i32,
    /// What is done all the same.
    pub effect: Effect,
}

impl Fault {
    /// Fails one mutating operation with an input/output error, undone.
    pub const fn once(index: u64) -> Self {
        Self { count: Count::Mutating, index, repeat: Repeat::Once, errno: EIO, effect: Effect::NotApplied }
    }

    /// Fails a mutating operation and all behind it with an input/output error, undone.
    pub const fn forever(index: u64) -> Self {
        Self { repeat: Repeat::Forever, ..Self::once(index) }
    }

    /// Reports this error number.
    pub const fn errno(self, errno: i32) -> Self {
        Self { errno, ..self }
    }

    /// Counts these operations.
    pub const fn counting(self, count: Count) -> Self {
        Self { count, ..self }
    }

    /// Does this much all the same.
    pub const fn doing(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    fn strikes(&self, kind: OperationKind, index: u64) -> bool {
        self.count.includes(kind)
            && match self.repeat {
                Repeat::Once => index == self.index,
                Repeat::Forever => index >= self.index,
            }
    }
}

/// One operation as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its index among all operations.
    pub index: u64,
    /// Its index among the mutating ones, if it is one.
    pub mutation: Option<u64>,
    /// What it does.
    pub kind: OperationKind,
    /// The file or directory; of an open file, the path it was opened by.
    pub path: PathBuf,
    /// The new path of a rename.
    pub to: Option<PathBuf>,
    /// Where a read or write begins, in bytes.
    pub offset: u64,
    /// How long a read or write is, in bytes.
    pub length: u64,
    /// The error number it was made to fail with; `None` if it was left to succeed or fail by itself.
    pub injected: Option<i32>,
    /// Whether the machine crashed here.
    pub crashed: bool,
}

/// An operation about to be done.
pub(super) struct Request<'a> {
    pub(super) kind: OperationKind,
    pub(super) path: &'a Path,
    pub(super) to: Option<&'a Path>,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl<'a> Request<'a> {
    pub(super) fn of(kind: OperationKind, path: &'a Path) -> Self {
        Self { kind, path, to: None, offset: 0, length: 0 }
    }
}

/// What is to happen to one operation.
pub(super) enum Verdict {
    Do,
    Fail { errno: i32, effect: Effect },
    Crash,
}

/// The plan and the counters.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) planned: Vec<Fault>,
    pub(super) crash: Option<(Count, u64)>,
    pub(super) trace: Option<Vec<Operation>>,
    all: u64,
    mutating: u64,
    kinds: BTreeMap<OperationKind, u64>,
}

impl Faults {
    pub(super) fn counted(&self, count: Count) -> u64 {
        match count {
            Count::All => self.all,
            Count::Mutating => self.mutating,
            Count::Of(kind) => self.kinds.get(&kind).copied().unwrap_or(0),
        }
    }

    pub(super) fn reset_counts(&mut self) {
        self.all = 0;
        self.mutating = 0;
        self.kinds.clear();
    }

    pub(super) fn clear_plan(&mut self) {
        self.planned.clear();
        self.crash = None;
    }

    /// Counts an operation and says what happens to it.
    pub(super) fn admit(&mut self, request: &Request<'_>) -> Verdict {
        let kind = request.kind;
        let crashes = self.crash.is_some_and(|(count, at)| count.includes(kind) && self.counted(count) == at);
        let struck =
            self.planned.iter().find(|fault| fault.strikes(kind, self.counted(fault.count))).copied();
        let verdict = match (crashes, struck) {
            (true, _) => Verdict::Crash,
            (false, Some(fault)) => Verdict::Fail { errno: fault.errno, effect: fault.effect },
            (false, None) => Verdict::Do,
        };
        let (index, mutation) = (self.all, kind.is_mutating().then_some(self.mutating));
        if let Some(trace) = &mut self.trace {
            trace.push(Operation {
                index,
                mutation,
                kind,
                path: request.path.to_owned(),
                to: request.to.map(Path::to_owned),
                offset: request.offset,
                length: request.length,
                injected: if let Verdict::Fail { errno, .. } = verdict { Some(errno) } else { None },
                crashed: crashes,
            });
        }
        self.all += 1;
        self.mutating += u64::from(kind.is_mutating());
        *self.kinds.entry(kind).or_default() += 1;
        verdict
    }
}

/// The process that asked is dead: its machine crashed, or it was restarted.
#[derive(Debug, thiserror::Error)]
#[error("the simulated process is dead")]
struct Dead;

pub(super) fn dead() -> io::Error {
    io::Error::other(Dead)
}

/// Tells whether a [`crate::SimDisk`] refused an operation because the process that asked had crashed, as against a fault
/// that code has to handle.
pub fn is_crash(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Dead>())
}
