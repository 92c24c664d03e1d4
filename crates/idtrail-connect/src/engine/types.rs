//! What goes into the engine and what comes out of it.

use std::sync::Arc;

use super::cursor::{Beyond, Cursor, DeadLetter};
use crate::plan::Prepared;
use crate::position::Position;
use crate::row::Row;
use crate::verdict::{Failure, Status};

/// What a destination can take and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most rows of a batch.
    pub rows_max: usize,
    /// Most bytes of a batch, about. A single row may be larger.
    pub bytes_max: usize,
    /// How long a batch that is not full waits for more, milliseconds. 0: not at all.
    pub linger_ms: u64,
    /// Whether the batch to be sent must be noted before it is sent, because the target cannot be asked what it has.
    pub notes_intent: bool,
    /// Whether the cursor is saved after every batch, because the target keeps none of its own.
    pub saves_every_batch: bool,
    /// Whether a row that is there already is recognised by its key, so that older rows may be sent again.
    pub keyed: bool,
}

/// How rows of a batch are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In order, all above the target's high-water mark.
    Live,
    /// Each by its key, wherever it stands: those that are there already are left alone.
    Keyed,
}

/// Rows that go out together. In order, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The rows.
    pub rows: Vec<Arc<Row>>,
    /// How they are to be taken.
    pub mode: Mode,
}

impl Batch {
    /// Returns the place of the first row.
    pub fn first(&self) -> Position {
        self.rows.first().map_or(Position::START, |row| row.position)
    }

    /// Returns the place of the last row.
    pub fn last(&self) -> Position {
        self.rows.last().map_or(Position::START, |row| row.position)
    }
}

/// A session with a target was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The newest row that the target has; `None` if it has none or cannot be asked.
    pub high_water: Option<Position>,
    /// Whether the noted batch arrived. Only targets that note their batches say so.
    pub intent_applied: bool,
    /// Rows above the cursor that the target confirmed and then dropped.
    pub missing: Vec<Position>,
    /// What the target needs to know about its session.
    pub session: String,
}

/// A batch was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Rows, by their number in the batch, that the target dropped although it took the batch.
    pub rejected: Vec<usize>,
    /// Code for the rejected rows.
    pub rejected_code: &'static str,
    /// What the target needs to know about its session from now on; `None` if nothing changed.
    pub session: Option<String>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Wake,
    /// The session is open; and rows that the target has and the log has no more, if there are any.
    Opened(Opened, Option<Beyond>),
    /// The session could not be opened.
    OpenFailed(Failure),
    /// Entries were read; none if there are none yet.
    Entries(Vec<Prepared>),
    /// The log could not be read.
    ReadFailed,
    /// New entries may be there.
    FeedMoved,
    /// The batch was taken.
    Delivered(Ack),
    /// The batch was not taken, or nobody knows.
    DeliverFailed(Failure),
    /// The cursor is durable, or not.
    CursorSaved(bool),
    /// The changes of dead letters are durable, or not.
    DeadSaved(bool),
    /// One entry was read again; `None` if it is not there.
    EntryRead(Option<Prepared>),
    /// One entry could not be read again.
    EntryUnread,
    /// A person wants something.
    Command(Command),
}

/// What a person can want of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send nothing until told otherwise. Durable.
    Pause,
    /// Go on, at once also where a pause after failures is running.
    Resume,
    /// Send everything from a place on again; rows that are there are left alone.
    ReplayFrom(Position),
    /// Try dead letters again.
    ReplayDead(Vec<Position>),
}

/// What is to be done. At most one of each kind is under way at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open the session.
    Open(Cursor),
    /// Read entries and prepare them.
    Read {
        /// From where.
        from: Position,
        /// How many at most.
        entries_max: usize,
        /// How many bytes, about.
        bytes_max: usize,
    },
    /// Wait until the log is longer.
    WaitFeed(Position),
    /// Send a batch.
    Deliver(Batch),
    /// Make the cursor durable.
    SaveCursor(Cursor),
    /// Make changes of dead letters durable.
    SaveDead(Vec<DeadChange>),
    /// Read one entry again and prepare it.
    ReadOne(Position),
}

/// A change of the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadChange {
    /// A new one, or a new attempt.
    Put(DeadLetter),
    /// It was delivered, or erased, or is not wanted any more.
    Remove(Position),
}

/// The last failure, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LastFailure {
    /// The code.
    pub code: &'static str,
    /// The target's status.
    pub status: Status,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

/// The time of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, milliseconds.
    pub mono_ms: u64,
    /// Wall time, milliseconds since 1970.
    pub wall_ms: i64,
}
