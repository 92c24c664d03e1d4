//! The outside systems, each in a folder of its own: `config` (what an admin says), `request` (pure: what is sent),
//! `service` (connections, and the table from the target's statuses to verdicts).

pub mod azure;
pub mod bigquery;
pub mod files;
pub mod postgres;
pub mod s3;
pub mod snowflake;
pub mod webhook;

use crate::engine::{Ack, Batch, Cursor, Limits, Opened};
use crate::feed::BoxFuture;
use crate::position::Position;
use crate::verdict::Failure;

/// One outside system. Calls come one at a time; a call that is not answered within its deadline is dropped, so whatever a
/// call takes out of the sink (a connection) is put back only when it was answered.
pub trait Sink: Send {
    /// Returns what the target can take and what it needs.
    fn limits(&self) -> Limits;

    /// Opens a session and asks what the target has.
    ///
    /// # Errors
    /// [`Failure`] with the verdict on it.
    fn open<'a>(&'a mut self, cursor: &'a Cursor) -> BoxFuture<'a, Result<Opened, Failure>>;

    /// Sends a batch and waits until the target has it for good.
    ///
    /// # Errors
    /// [`Failure`] with the verdict on it.
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Ack, Failure>>;

    /// Counts the rows from `first` to `last`, both included; `None` if the target cannot be asked. Called within a session, to
    /// say how many rows a restore left behind.
    ///
    /// # Errors
    /// [`Failure`] if the target does not answer.
    fn count(&mut self, first: Position, last: Position) -> BoxFuture<'_, Result<Option<u64>, Failure>> {
        let _ = (first, last);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Asks the target what the writer may do. Called after an opening, until it answered once.
    ///
    /// # Errors
    /// [`Failure`] if the target does not say.
    fn grants(&mut self) -> BoxFuture<'_, Result<Grants, Failure>>;
}

/// Returns the condition that a row's place is from `first` to `last`, both included. `quoted` are the names of the two
/// columns as the target quotes them.
pub(crate) fn between(quoted: (&str, &str), first: Position, last: Position) -> String {
    let (log_id, seq) = quoted;
    let (from_log, from) = (first.log_id.get(), first.seq);
    let (to_log, to) = (last.log_id.get(), last.seq);
    format!(
        "({log_id} > {from_log} OR ({log_id} = {from_log} AND {seq} >= {from})) \
         AND ({log_id} < {to_log} OR ({log_id} = {to_log} AND {seq} <= {to}))"
    )
}

/// What a writer may do that it should not be able to do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Grants {
    /// The target says that the writer can change or remove nothing.
    AppendOnly,
    /// The writer can do more than append.
    Excess {
        /// What it can do: `UPDATE`, `DELETE`, `TRUNCATE`, `OWNER`, `SUPERUSER` …
        can: Vec<String>,
    },
    /// The target cannot be asked; an admin must look.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl Grants {
    /// Makes the verdict from what the writer can do too much.
    pub fn from_excess(can: Vec<String>) -> Self {
        if can.is_empty() { Self::AppendOnly } else { Self::Excess { can } }
    }
}
