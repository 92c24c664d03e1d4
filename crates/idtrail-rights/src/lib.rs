//! Requests of data subjects, decided: what happens next, when it must be done, and when it may be called done.
//!
//! ```text
//! people, calls, time ──> Engine::step ──> append a step · make a call · wake up
//!                             ^                  │
//!                             └── durable steps ─┘      Case = fold of the steps of one request
//! ```
//! The crate is pure: no IO, clock, randomness or threads; times, ids and nonces are arguments. The server writes the
//! steps, makes the calls, and keeps what identifies a person in the request's own sealed record.
//!
//! What it must never do: hold an identifier, call something done that nobody looked at again, or do again what it does not
//! know to be undone.

mod calendar;
mod case;
mod certificate;
mod clock;
mod command;
mod csv;
mod deletion;
mod engine;
mod error;
pub mod event;
mod id;
mod item;
pub mod package;
mod plan;
pub mod portability;
pub mod records;
pub mod report;
mod settings;
mod state;

pub use calendar::Calendar;
pub use case::{Case, Delivery, EffectState, Shred, duplicate_of, waits_for_access};
pub use certificate::{certificate_body, certificate_hash};
pub use clock::{ClockState, Dates, Due, Pause, Period, Regime, Zone};
pub use command::{Command, Refusal};
pub use deletion::{Deletion, deletion, deletions_hash};
pub use engine::{Action, Answer, Ask, Call, Engine, Input, Opening, is_known, operation_of};
pub use error::{ErrorKind, RightsError};
pub use event::{
    Basis, DateName, Effect, Entry, Failure, Finding, Level, OpenItem, Outcomes, Residual, Step, Task,
};
pub use id::{Code, Digest, HoldName, ItemName, Nonce, Principal, RequestId, SubjectRef, SystemName};
pub use item::{Item, ROUNDS_MAX, Stage, Status};
pub use plan::{ITEMS_MAX, Kind, Method, Operation, Plan, PlanItem};
pub use settings::{RetrySchedule, Settings};
pub use state::{State, TRANSITIONS, Transition, Trigger, next};
