//! The audit event: what it may hold, how it is checked, and the sealed leaf that it becomes.
//!
//! In goes the JSON of a client; out comes a leaf, and from a leaf and its key the same JSON again. The crate is pure:
//! no IO, clock, randomness, threads or statics, `no_std` with `alloc`; times, keys and nonces are arguments.
//!
//! What it must never do: put a value of an event into an error, a warning or a `Debug` output. Errors name places
//! (JSON Pointers) and reasons.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cbor;
pub mod clear;
mod code;
mod event;
mod id;
mod json;
mod leaf;
mod pii;
mod pseudonym;
mod retention;
mod validate;

pub use code::{Channel, EventType, Poster, Source};
pub use event::{EncodedEvent, ValidEvent};
pub use id::{EventId, GlobalCustomerId, IdError};
pub use json::{JsonError, parse as parse_json};
pub use leaf::{
    ClassSecret, Decided, DedupeId, IndexSecret, LEAF_BYTES_MAX, Leaf, LeafError, LeafHeader, LeafKey,
    OpenLeaf, SealRequest, SectionSecrets, StaffSection, key_commitment, leaf_key, month_of_hour, seal,
};
pub use pseudonym::{IdentifierToken, IdentifierType, Pepper, RawIdentifier, token};
pub use retention::{ClassId, ClassTable, RetentionClass};
pub use validate::{Finding, PiiHandling, Rules, validate};

#[cfg(test)]
mod tests;
