//! What is left to be told of an erased person: that they were erased, and the deletions of that erasure.
//!
//! While the suppression entry of a name lives, it leads to the cut-off, which no two erasures share, and so to the request.
//! The request's id and the hash of a certificate lead there too, for as long as the request stands in the log.
//!
//! What it must never do: lead from somebody who is known today to an earlier erasure. The name may have been somebody
//! else's then.

use idtrail_event::GlobalCustomerId;
use idtrail_identity::assertion::Subject;
use idtrail_index::closing;
use idtrail_rights::{Case, Kind, Step};

use super::{Logged, Rights, SayError, subject_of};
use crate::engine::Engine;

/// Returns the cut-off of the erasure under which a subject is closed, milliseconds since 1970.
pub(crate) fn closed_until(engine: &Engine, subject: &Subject) -> Option<u64> {
    let name = match subject {
        Subject::Customer(gcid) => closing::customer(gcid),
        Subject::Identifier(one) => closing::identifier(one.kind, &one.token),
    };
    engine.desk().closed_until(&name, engine.now_ms())
}

impl Rights {
    /// Returns the made-up customer under whom the deletions of an erasure stand. `subjects` are the readings of whom is asked
    /// for, `asked` is the text itself: it may be the id of a request, or the hash of a certificate in hex.
    ///
    /// # Errors
    /// [`SayError::Unavailable`] while the requests are not read yet.
    pub(crate) fn erasure_of(
        &self,
        subjects: &[Subject],
        asked: &str,
    ) -> Result<Option<GlobalCustomerId>, SayError> {
        let cutoffs: Vec<u64> =
            subjects.iter().filter_map(|subject| closed_until(&self.shared.engine, subject)).collect();
        let is_meant = |case: &Case, steps: &[Logged]| {
            let closed = case.frozen.is_some_and(|(cutoff_ms, _)| cutoffs.contains(&cutoff_ms));
            let certified = || {
                steps.iter().any(|logged| match &logged.entry.step {
                    Step::Receipted(step) => step.certificate.to_string() == asked,
                    _ => false,
                })
            };
            case.kind() == Kind::Erasure && (closed || case.request.as_str() == asked || certified())
        };
        self.read(|cases, _| {
            let mut meant = cases.filter(|(case, steps)| is_meant(case, steps));
            meant.next().map(|(case, _)| subject_of(case.received.subject_ref))
        })
    }
}
