//! State derived from the log: repetitions, the identity decision, where a customer's and an interaction's events are.
//!
//! [`trail::Trail`] is the state machine that the log's sequencer runs; [`seal::TrailSealer`] makes the leaves that it
//! decides upon; [`lookup::Lookup`] follows the log and answers reads. All three learn of an event through the same
//! [`facts::Facts`], whether the event was just decided or is read back from its leaf, so that rebuilt state and live
//! state are the same.
//!
//! What it must never do: keep a raw id as a key (keys are HMACs under vault keys), or hold anything that cannot be
//! rebuilt from the readable leaves and the vault.

pub mod access;
mod ahead;
pub mod assertion;
pub mod closing;
mod command;
mod error;
pub mod facts;
pub mod identity;
pub mod lookup;
mod months;
pub mod numbering;
pub mod retention;
pub mod rights;
pub mod seal;
mod set;
pub mod shred;
pub mod slip;
pub mod statement;
mod store;
pub mod trail;

pub use error::{ErrorKind, IndexError};
pub use months::ScanError;
pub use set::IndexSet;

#[cfg(test)]
mod tests;
