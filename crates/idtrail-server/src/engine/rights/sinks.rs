//! Taking a person out of the targets of sinks, as tasks of a request.
//!
//! A sink that names who may do it is asked by the server: erase, look again, say what remains. Every other sink is a
//! person's to attest. An answer that was lost, late or unclear means that nobody knows; then one looks before one repeats.
//!
//! What it must never do: take rows out that the sink could still write again, or call something gone on the target's word.

use std::time::Duration;

use idtrail_connect::Position;
use idtrail_connect::Verdict;
use idtrail_connect::personal::Erase;
use idtrail_rights::{
    Answer, Call, Code, Failure, Finding, Method, Operation, RequestId, Residual, operation_of,
};

use super::{Shared, Trouble};
use crate::sinks::SinksError;
use crate::sinks::rights::{SinkRights, SinkRightsError};

const HOUR_MS: u64 = 3_600_000;
/// How often one looks whether a sink has passed the freeze, within one call.
const PASSING_LOOKS: u32 = 50;
const PASSING_PAUSE: Duration = Duration::from_millis(100);

impl Shared {
    /// Returns every sink with who takes a person out of it.
    pub(super) fn sink_methods(&self) -> Vec<(String, Method)> {
        let targets = self.sinks.rights_targets().into_iter();
        let method = |name: &str, erase: Erase| {
            // Making the task connects to nothing; it says whether somebody is named who may do it.
            let task = self.runtime.block_on(self.sinks.rights_task(name));
            match task {
                Ok(Some(_)) if erase != Erase::None => Method::Connector,
                _ => Method::Manual,
            }
        };
        targets.map(|target| (target.name.clone(), method(&target.name, target.erase))).collect()
    }

    /// Carries a call to a sink out.
    pub(super) fn sink(&self, request: &RequestId, name: &str, call: &Call) -> Result<Answer, Trouble> {
        let (record, person) = self.frozen(request)?;
        let ids = person.customers.as_slice();
        let size = record.frozen.map_or(0, |frozen| frozen.tree_size);
        let freeze = Position::new(self.engine.ordinal().0, size.saturating_sub(1));
        let operation = operation_of(call);
        let now_ms = self.now_ms();
        let answered = self.runtime.block_on(async {
            let Some(mut task) = self.sinks.rights_task(name).await? else {
                return Ok(Answer::Failed(Failure::Refused, None));
            };
            let count = match operation {
                Some(Operation::Erase) => erase(&mut task, ids, freeze).await?,
                Some(Operation::Probe | Operation::Lookup | Operation::Read) => task.probe(ids).await?,
                Some(Operation::Residual) => {
                    let remains = task.residual().into_iter().map(|one| residual(&one, now_ms)).collect();
                    return Ok(Answer::Found(Finding::Residuals(remains), None));
                }
                _ => return Ok(Answer::Failed(Failure::Refused, None)),
            };
            Ok::<_, SinkRightsError>(Answer::Found(Finding::Count(count), None))
        });
        Ok(answered.unwrap_or_else(|error| {
            let changes = operation.is_some_and(Operation::changes);
            let (failure, wait_ms) = judged(&error, changes);
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                sink = name,
                "a person could not be taken out of a sink's target, or not surely"
            );
            Answer::Failed(failure, wait_ms)
        }))
    }
}

/// Erases as soon as the sink has passed the freeze; it is given some seconds for that.
async fn erase(task: &mut SinkRights, ids: &[String], freeze: Position) -> Result<u64, SinkRightsError> {
    let mut looks = 0;
    loop {
        match task.erase(ids, freeze).await {
            Err(SinkRightsError::NotPassed { .. }) if looks < PASSING_LOOKS => {
                looks += 1;
                tokio::time::sleep(PASSING_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Says what an error means for the task.
fn judged(error: &SinkRightsError, changes: bool) -> (Failure, Option<u64>) {
    let milliseconds =
        |after: Option<Duration>| after.and_then(|after| u64::try_from(after.as_millis()).ok());
    match error {
        SinkRightsError::NotPassed { .. } => (Failure::NotDone, None),
        // The sink is gone, or nobody is named any more who may do it: a person must look.
        SinkRightsError::Sink(SinksError::NotFound | SinksError::Settings(_)) => (Failure::Refused, None),
        SinkRightsError::Sink(_) => (Failure::NotDone, None),
        SinkRightsError::Target(failure) => match failure.verdict {
            Verdict::Stop | Verdict::Poison { .. } => (Failure::Refused, None),
            Verdict::Retry { after } => (Failure::NotDone, milliseconds(after)),
            Verdict::Reopen { after } if changes => (Failure::Unknown, milliseconds(after)),
            Verdict::Reopen { after } => (Failure::NotDone, milliseconds(after)),
        },
    }
}

/// Returns what remains in the words of a certificate.
fn residual(remains: &idtrail_connect::rights::Residual, now_ms: u64) -> Residual {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = remains.mechanism.chars().map(word).take(64).collect();
    let mechanism = Code::parse(&text).unwrap_or_else(|_| Code::parse("copies").expect("a name"));
    let until_ms = remains.hours_max.map(|hours| now_ms.saturating_add(hours.saturating_mul(HOUR_MS)));
    Residual { mechanism, until_ms }
}
