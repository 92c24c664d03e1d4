//! What an answer of a target means for the delivery. Each destination holds a table from its own codes to these verdicts.
//!
//! A failure carries a code from a closed list and the target's own status (an HTTP status, an SQLSTATE, an error number),
//! never the text of an answer: servers repeat values in their messages.

use std::time::Duration;

/// What the engine does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing of the batch was applied, surely: send it again after a pause, and not before `after` if the target said so.
    Retry {
        /// The target's own wish (`Retry-After`).
        after: Option<Duration>,
    },
    /// The outcome is unknown, or the session is gone: open it anew, ask what the target has, go on from there.
    Reopen {
        /// The target's own wish.
        after: Option<Duration>,
    },
    /// The target refuses the content of at least one row, and nothing of the batch was applied. `row` is its number in
    /// the batch, if the target said so.
    Poison {
        /// The row's number in the batch.
        row: Option<usize>,
    },
    /// A person must act: credentials, grants, a missing table. Tried again at long intervals, nothing is dropped.
    Stop,
}

/// A delivery, or the opening of a session, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}. status={status}")]
pub struct Failure {
    /// What to do.
    pub verdict: Verdict,
    /// Which kind of failure, from the destination's table.
    pub code: &'static str,
    /// The target's own status; `-` if it gave none.
    pub status: Status,
}

/// The status that a target gave: at most 16 letters, digits and `_`. Longer or other texts are not kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Status(String);

impl Status {
    /// No status.
    pub fn none() -> Self {
        Self("-".to_owned())
    }

    /// Keeps a status if it looks like one.
    pub fn new(text: &str) -> Self {
        let shaped = !text.is_empty()
            && text.len() <= 16
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if shaped { Self(text.to_owned()) } else { Self::none() }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<u16> for Status {
    fn from(number: u16) -> Self {
        Self(number.to_string())
    }
}

impl Failure {
    /// Makes a failure that is tried again.
    pub fn retry(code: &'static str, status: Status, after: Option<Duration>) -> Self {
        Self { verdict: Verdict::Retry { after }, code, status }
    }

    /// Makes a failure after which the session is opened anew.
    pub fn reopen(code: &'static str, status: Status) -> Self {
        Self { verdict: Verdict::Reopen { after: None }, code, status }
    }

    /// Makes a refusal of content.
    pub fn poison(code: &'static str, status: Status, row: Option<usize>) -> Self {
        Self { verdict: Verdict::Poison { row }, code, status }
    }

    /// Makes a failure that a person must end.
    pub fn stop(code: &'static str, status: Status) -> Self {
        Self { verdict: Verdict::Stop, code, status }
    }

    /// The deadline of a call passed: nobody knows what happened.
    pub fn timeout() -> Self {
        Self::reopen("timeout", Status::none())
    }
}

/// One line of a destination's table: statuses, verdict, code. The reason stands beside it as a comment.
#[derive(Clone, Copy, Debug)]
pub struct Rule<S: 'static> {
    /// The statuses that the line is for.
    pub statuses: &'static [S],
    /// What to do.
    pub verdict: Verdict,
    /// Which kind of failure.
    pub code: &'static str,
}

/// Returns the verdict on a status, from the first line that holds it.
pub fn judge<S, T>(rules: &[Rule<S>], status: &T) -> Option<(Verdict, &'static str)>
where
    S: std::borrow::Borrow<T>,
    T: PartialEq + ?Sized,
{
    let rule = rules.iter().find(|rule| rule.statuses.iter().any(|known| known.borrow() == status))?;
    Some((rule.verdict, rule.code))
}
