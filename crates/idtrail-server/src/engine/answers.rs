//! Answers on their way from the log's thread to the tasks that wait for them.

use std::sync::{Mutex, PoisonError};

use idtrail_index::trail::Refusal;
use idtrail_log::LogError;
use idtrail_log::commit::Answer;

/// Hands answers from the log's thread to the tasks that wait for them.
///
/// The log answers a whole group at once. Waking each waiting task from the log's thread would cost a call to the
/// kernel per event; here the first answer of a group wakes one task, which passes on all that have come.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: Mutex<Vec<Handed>>,
    wake: tokio::sync::Notify,
}

/// The outcome of a request to the log.
pub type Outcome = Result<Answer<Refusal>, LogError>;
type Handed = (tokio::sync::oneshot::Sender<Outcome>, Outcome);

impl Answers {
    pub(super) fn hand(&self, to: tokio::sync::oneshot::Sender<Outcome>, outcome: Outcome) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((to, outcome));
        let first = waiting.len() == 1;
        drop(waiting);
        if first {
            self.wake.notify_one();
        }
    }

    /// Passes answers on, for ever; to be run as a task beside the server.
    pub async fn pass_on(&self) {
        loop {
            self.wake.notified().await;
            let handed = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            for (to, outcome) in handed {
                // Nobody listens any more if the client went away; the event is in the log all the same.
                let _ = to.send(outcome);
            }
        }
    }
}

/// Gathers the outcomes of one batch until the last one is there.
pub(super) struct Gathered(Mutex<Gathering>);

struct Gathering {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    to: Option<tokio::sync::oneshot::Sender<Vec<Outcome>>>,
}

impl Gathered {
    pub(super) fn new(count: usize, to: tokio::sync::oneshot::Sender<Vec<Outcome>>) -> Self {
        let outcomes = std::iter::repeat_with(|| None).take(count).collect();
        let gathering = Gathering { outcomes, missing: count, to: Some(to) };
        Self(Mutex::new(gathering))
    }

    pub(super) fn put(&self, at: usize, outcome: Outcome) {
        let mut gathering = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = gathering.outcomes.get_mut(at) {
            *place = Some(outcome);
        }
        gathering.missing -= 1;
        if gathering.missing == 0
            && let Some(to) = gathering.to.take()
        {
            let outcomes = std::mem::take(&mut gathering.outcomes).into_iter().flatten().collect();
            // Nobody listens any more if the client went away; the events are in the log all the same.
            let _ = to.send(outcomes);
        }
    }
}
