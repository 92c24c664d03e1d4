//! How a person is taken out of a target: the interface that erasure tasks work with.
//!
//! It is used under a second principal with a grant of its own, never by the writer. A task looks up, erases, and asks
//! again; only the second look decides that the person is gone. It may not start before the sink's cursor has passed the
//! point from which on the person's entries cannot be read any more: a batch in flight would bring the person back.

use crate::ddl::{Dialect, quote};
use crate::feed::BoxFuture;
use crate::mapping::Mapping;
use crate::personal::Erase;
use crate::position::Position;
use crate::verdict::Failure;

/// A person in a sink: every form of the customer's id that the sink may have got.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// Global ids, with all aliases.
    pub customer_ids: Vec<String>,
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Person").field("customer_ids", &self.customer_ids.len()).finish_non_exhaustive()
    }
}

/// What remains of a person after the rows are gone, and until when.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Residual {
    /// What keeps it: `time travel`, `backups`, `dead row versions` …
    pub mechanism: &'static str,
    /// How long at most, hours; `None` if only an admin knows.
    pub hours_max: Option<u64>,
}

/// Takes a person out of one target.
pub trait RightsTask: Send {
    /// Counts the person's rows.
    ///
    /// # Errors
    /// [`Failure`]; nothing was changed.
    fn lookup<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>>;

    /// Deletes the rows, or nulls their personal columns, and returns how many it touched. May be repeated.
    ///
    /// # Errors
    /// [`Failure`]; look again before deciding anything.
    fn erase<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>>;

    /// Counts what is still there to be found. 0 is the only success.
    ///
    /// # Errors
    /// [`Failure`]; nothing is proven then.
    fn probe<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>>;

    /// Says what remains elsewhere in the target after an erasure.
    fn residual(&self) -> Vec<Residual>;
}

/// Tells whether an erasure task may start: `next` is the sink's cursor, `freeze` the entry from which on the person's
/// entries are closed to everybody but the request.
pub fn may_start(next: Position, freeze: Position) -> bool {
    next > freeze
}

/// Returns the statement that takes the found rows out as the sink's choice says; `None` if it takes nothing out.
pub(crate) fn erase_statement(
    dialect: Dialect,
    table: &str,
    found: &str,
    mapping: &Mapping,
) -> Option<String> {
    match mapping.privacy().erase() {
        Erase::None => None,
        Erase::Delete => Some(format!("DELETE FROM {table} WHERE {found}")),
        Erase::Null => {
            let personal = mapping.columns().iter().filter(|column| column.personal);
            let nulls: Vec<String> =
                personal.map(|column| format!("{} = NULL", quote(dialect, &column.name))).collect();
            Some(format!("UPDATE {table} SET {} WHERE {found}", nulls.join(", ")))
        }
    }
}
