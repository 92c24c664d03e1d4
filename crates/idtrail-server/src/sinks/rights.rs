//! Taking a person out of the targets of sinks: what an erasure works with.
//!
//! ```text
//! targets() ─> which sinks hold rows of persons, and whether they can take one out
//! task(name) ─> SinkRights: lookup, erase (only behind the sink's cursor), probe, residual
//! ```
//! All of it runs under the second principal of `[sinks.NAME.rights]`, on a connection of its own, and each call has the
//! sink's deadline. An erasure is refused until the cursor has passed the entry from which on the person's entries are
//! closed: a batch in flight would bring the person back. Before anything is deleted the sink itself closes the person up to
//! that entry: until the keys are gone, and after them, a replay counts those entries as erased, also after a restart. So
//! keys and targets may be taken in either order. What is done is decided by the probe and by nothing else.

use std::sync::Arc;
use std::time::Duration;

use idtrail_connect::Position;
use idtrail_connect::personal::Erase;
use idtrail_connect::rights::{Person, Residual, RightsTask, may_start};
use idtrail_connect::settings::Ports as SinkPorts;
use idtrail_connect::{BoxFuture, Failure};

use super::secrets::ServerSecrets;
use super::{Sinks, SinksError, State, kind};

/// A sink, as an erasure sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightsTarget {
    /// The sink's name.
    pub name: String,
    /// The kind of its target.
    pub kind: String,
    /// How a person is taken out; `None` means that rows hold references only and nothing is to be done.
    pub erase: Erase,
    /// What an erasure means there, in one sentence.
    pub consequence: &'static str,
    /// Everything before this place is settled; no place if the sink is not running.
    pub cursor: Option<Position>,
}

/// Why a step of an erasure was not done.
#[derive(Debug, thiserror::Error)]
pub enum SinkRightsError {
    /// The sink may still deliver entries of the person; ask again later.
    #[error("the sink has not passed the entry yet from which on the person is closed. freeze={freeze}")]
    NotPassed {
        /// Where the sink is; no place if it is not running.
        cursor: Option<Position>,
        /// What it must pass.
        freeze: Position,
    },
    /// The target refused or did not answer; look again before deciding anything.
    #[error("the target did not do it")]
    Target(#[from] Failure),
    /// The sink is gone or was changed meanwhile: make the task anew.
    #[error(transparent)]
    Sink(#[from] SinksError),
}

/// Takes persons out of one sink's target. Made for one run of a task; dropped, it closes its connection.
pub struct SinkRights {
    sinks: Arc<Sinks>,
    name: String,
    task: Box<dyn RightsTask>,
    deadline: Duration,
}

impl std::fmt::Debug for SinkRights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkRights").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Sinks {
    /// Returns every sink as an erasure sees it, by name.
    pub fn rights_targets(&self) -> Vec<RightsTarget> {
        let target = |entry: &Arc<super::Entry>| {
            let privacy = idtrail_connect::personal::Privacy::new(entry.settings.pii, entry.settings.erase);
            RightsTarget {
                name: entry.settings.name.clone(),
                kind: kind(&entry.settings),
                erase: entry.settings.erase,
                consequence: privacy.map(|privacy| privacy.consequence()).unwrap_or_default(),
                cursor: entry.cursor(),
            }
        };
        self.all().iter().map(target).collect()
    }

    /// Makes what takes persons out of a sink's target; `None` if the sink takes nobody out. Connects to nothing; waits for
    /// the disk, where secrets stand.
    ///
    /// # Errors
    /// `NotFound`; `Settings` if nobody is named who may do it, or a secret is missing.
    pub async fn rights_task(self: &Arc<Self>, name: &str) -> Result<Option<SinkRights>, SinksError> {
        let settings = self.entry(name)?.settings.clone();
        let this = Arc::clone(self);
        super::blocking(move || {
            let ports =
                SinkPorts { disk: Arc::clone(&this.ports.disk), clock: Arc::clone(&this.ports.clock) };
            let plan = settings.plan(this.reference_key(&settings.name))?;
            let secrets = ServerSecrets::new(Arc::clone(&this.ports.disk), this.env);
            let task = settings.rights_task(&plan, &secrets, &ports)?;
            let (name, deadline) = (settings.name.clone(), settings.deadline());
            Ok(task.map(|task| SinkRights { sinks: Arc::clone(&this), name, task, deadline }))
        })
        .await
    }
}

impl super::Entry {
    fn cursor(&self) -> Option<Position> {
        match &self.state {
            State::Running(worker) => Some(worker.status().replicated_up_to),
            State::Broken(_) => None,
        }
    }
}

impl SinkRights {
    /// Counts the person's rows. `customer_ids` are the global ids (`gc_…`) with all aliases.
    ///
    /// # Errors
    /// `Target`; nothing was changed.
    pub async fn lookup(&mut self, customer_ids: &[String]) -> Result<u64, SinkRightsError> {
        let person = person(customer_ids);
        within(self.deadline, self.task.lookup(&person)).await
    }

    /// Deletes the rows or nulls their personal columns and returns how many it touched. May be repeated. Refused until the
    /// sink's cursor has passed `freeze`, the entry from which on the person's entries are closed, and while dead letters are
    /// being tried again. Entries of the person up to `freeze` count as erased in this sink from now on.
    ///
    /// # Errors
    /// `NotPassed`, `Target`, `Sink`.
    pub async fn erase(&mut self, customer_ids: &[String], freeze: Position) -> Result<u64, SinkRightsError> {
        let entry = self.sinks.entry(&self.name)?;
        let cursor = entry.cursor();
        let State::Running(worker) = &entry.state else {
            return Err(SinkRightsError::NotPassed { cursor, freeze });
        };
        if !cursor.is_some_and(|cursor| may_start(cursor, freeze)) {
            return Err(SinkRightsError::NotPassed { cursor, freeze });
        }
        // Closed first, then looked at again: a replay that began in between has read the person's entries.
        if !worker.close(customer_ids, freeze).await.map_err(SinksError::Store)? {
            return Err(SinkRightsError::NotPassed { cursor: entry.cursor(), freeze });
        }
        let person = person(customer_ids);
        within(self.deadline, self.task.erase(&person)).await
    }

    /// Counts what is still there to be found. 0 is the only success.
    ///
    /// # Errors
    /// `Target`; nothing is proven then.
    pub async fn probe(&mut self, customer_ids: &[String]) -> Result<u64, SinkRightsError> {
        let person = person(customer_ids);
        within(self.deadline, self.task.probe(&person)).await
    }

    /// Says what remains elsewhere in the target after an erasure, and for how long at most.
    pub fn residual(&self) -> Vec<Residual> {
        self.task.residual()
    }
}

fn person(customer_ids: &[String]) -> Person {
    Person { customer_ids: customer_ids.to_vec() }
}

async fn within(
    deadline: Duration,
    call: BoxFuture<'_, Result<u64, Failure>>,
) -> Result<u64, SinkRightsError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::timeout().into()),
    }
}
