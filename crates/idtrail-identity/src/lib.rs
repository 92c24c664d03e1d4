//! Customer identity resolution: which identifiers belong to one person, since when, how sure, and why.
//!
//! ```text
//! observation ─┐                        ┌─> Decision: customer, outcome, tier, rule, events that follow
//! assertion   ─┼─> State (pure fold) ───┤
//! ruleset     ─┘                        └─> reads: explain, as of a time, closure for a request, simulation
//! ```
//! Customers follow from evidence: identifiers that were seen together, and what persons and master systems assert.
//! The same evidence gives the same customers in whatever order it arrives, and evidence that is taken back leaves no
//! trace in them. Nothing is ever united by a mere data structure that cannot forget.
//!
//! The crate is pure: no IO, clock, randomness or threads; times and random ids are arguments. What it must never do:
//! hold or print a raw identifier (everything here is a keyed hash), and unite two customers without a rule and an
//! observation that it can name.

mod arena;
pub mod assertion;
mod attribute;
mod commit;
pub mod erase;
mod error;
pub mod event;
mod judge;
mod model;
pub mod normalise;
pub mod read;
pub mod reassert;
mod region;
mod resolve;
pub mod ruleset;
pub mod simulate;
mod snapshot;
mod solve;
mod store;
mod table;
pub mod tokens;
mod whole;

pub use error::{ErrorKind, IdentityError};
pub use model::{
    Actor, Assurance, Decision, Guard, Home, IdSource, Identifier, IdentifierState, Observation,
    ObservationId, Outcome, Recorded, RuleId, Seen, Sighting, StateReason, Tier,
};
pub use ruleset::{Class, Ruleset, TypeRule};
pub use store::{MemoryBytes, State};
pub use whole::{Inconsistent, RulesetDecision};
