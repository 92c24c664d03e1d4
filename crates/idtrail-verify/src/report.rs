//! What a check found, in words for people who did not write this program.
//!
//! Four verdicts, never two: "somebody changed this", "something is missing" and "I cannot tell" are three
//! different sentences, and each has its own next step. A report names places (logs, indices, members) and
//! reasons, never a value of an event.

use std::fmt;

use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Everything that was checked holds.
    Verified,
    /// Something differs from what was signed.
    Tampered,
    /// What is there holds, but something is missing.
    Incomplete,
    /// Nothing could be judged.
    CouldNotCheck,
}

impl Verdict {
    /// Returns the exit code of a command that ends with this verdict: 0, 1, 3 or 4 (2 is a wrong command).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Tampered => 1,
            Self::Incomplete => 3,
            Self::CouldNotCheck => 4,
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Verified => {
                "The file is unchanged since the log signed it, and everything that it shows was in the log \
                 at the signed size. Nothing more to do; keep the file and the pinned policy together."
            }
            Self::Tampered => {
                "The file is not what the log signed, or the log signed contradictory things. Do not rely on \
                 it. Get the file again from its source over another way; if the result stays, keep both \
                 copies and ask the operator of the log to run `idtrail fsck`. Also check that the pinned \
                 key is that of this log."
            }
            Self::Incomplete => {
                "What the file shows holds, but it is not the whole answer. Read the steps that failed, ask \
                 the sender for what is missing, and check again."
            }
            Self::CouldNotCheck => {
                "This says neither that the file is right nor that it is wrong. Pin the key of the log, got \
                 over a way that you trust, or get a complete copy of the file or a newer verifier, as the \
                 failed step says."
            }
        }
    }

    /// Tampered wins over incomplete, and both over verified; the last one is used only alone.
    const fn weight(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::CouldNotCheck => 1,
            Self::Incomplete => 2,
            Self::Tampered => 3,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::Tampered => "tampered",
            Self::Incomplete => "incomplete",
            Self::CouldNotCheck => "could not check",
        })
    }
}

/// A place in a log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Name of the log.
    pub origin: String,
    /// Place in the log, from 0.
    pub index: u64,
}

/// How one step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// It holds.
    Ok,
    /// It does not.
    Failed,
    /// It was not made, because something that it needs is missing.
    Skipped,
}

/// One step of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// A stable name.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, in words.
    pub detail: String,
}

/// The report of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The result.
    pub verdict: Verdict,
    /// How many events were checked and hold.
    pub checked_events: usize,
    /// The first event that the verdict is about, if it is about one.
    pub first_bad: Option<Place>,
    /// The result in one sentence.
    pub summary: String,
    /// The steps in the order in which they were made.
    pub steps: Vec<Step>,
    /// What the verdict means and what to do next.
    pub meaning: String,
    /// What nobody can learn from this check.
    pub not_covered: Vec<String>,
}

/// What is wrong, and how bad that is.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) verdict: Verdict,
    pub(crate) text: String,
    pub(crate) place: Option<Place>,
}

impl Problem {
    pub(crate) fn tampered(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Tampered, text: text.into(), place: None }
    }

    pub(crate) fn incomplete(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Incomplete, text: text.into(), place: None }
    }

    pub(crate) fn unchecked(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::CouldNotCheck, text: text.into(), place: None }
    }

    pub(crate) fn at(self, origin: &str, index: u64) -> Self {
        Self { place: Some(Place { origin: origin.to_owned(), index }), ..self }
    }
}

/// Collects steps and problems, and makes the report of them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    steps: Vec<Step>,
    worst: Option<Problem>,
    pub(crate) checked_events: usize,
    pub(crate) not_covered: Vec<String>,
}

impl Findings {
    pub(crate) fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.steps.push(Step { name, outcome: Outcome::Ok, detail: detail.into() });
    }

    pub(crate) fn skipped(&mut self, name: &'static str, detail: impl Into<String>) {
        self.steps.push(Step { name, outcome: Outcome::Skipped, detail: detail.into() });
    }

    /// Ends a step: with its problems in one failed step, or with `detail` if there are none.
    pub(crate) fn step(&mut self, name: &'static str, problems: Vec<Problem>, detail: impl Into<String>) {
        let Some(first) = problems.first() else { return self.ok(name, detail) };
        let rest = problems.len() - 1;
        let more = if rest == 0 { String::new() } else { format!(" (and {rest} more)") };
        let detail = format!("{}{more}", first.text);
        self.steps.push(Step { name, outcome: Outcome::Failed, detail });
        for problem in problems {
            self.note(problem);
        }
    }

    /// Keeps the first problem of the greatest weight.
    fn note(&mut self, problem: Problem) {
        let is_worse =
            self.worst.as_ref().is_none_or(|worst| worst.verdict.weight() < problem.verdict.weight());
        if is_worse {
            self.worst = Some(problem);
        }
    }

    /// Ends the check with the report; `verified` is its sentence if nothing is wrong.
    pub(crate) fn report(self, verified: impl Into<String>) -> Report {
        let (verdict, summary, first_bad) = match self.worst {
            None => (Verdict::Verified, verified.into(), None),
            Some(problem) => (problem.verdict, problem.text, problem.place),
        };
        Report {
            verdict,
            checked_events: self.checked_events,
            first_bad,
            summary,
            steps: self.steps,
            meaning: verdict.meaning().to_owned(),
            not_covered: self.not_covered,
        }
    }
}
