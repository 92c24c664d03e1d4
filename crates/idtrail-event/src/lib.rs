//! The audit event: what it may hold, how it is checked, and the sealed leaf that it becomes.
//!
//! ```text
//! bytes ── parse_json ──> Value ── validate ──> ValidEvent ── encode ──> EncodedEvent ── seal ──> leaf
//!                           ^                                                                     │
//!                           └──────────── OpenLeaf::body <── Leaf::open <── Leaf::parse ──────────┘
//! ```
//! In goes the JSON of a client; out comes a leaf, and from a leaf and its key the same JSON again. The crate is pure:
//! no IO, clock, randomness, threads or statics, `no_std` with `alloc`; times, keys and nonces are arguments.
//!
//! What it must never do: put a value of an event into an error, a warning or a `Debug` output. Errors name places
//! (JSON Pointers) and reasons.
#![no_std]

extern crate alloc;

mod cbor;
pub mod clear;
mod code;
mod compact;
mod event;
mod id;
mod json;
mod key;
mod leaf;
mod outline;
mod pii;
mod plain;
mod pseudonym;
mod retention;
mod text;
mod time;
mod validate;
mod value;

pub use cbor::CborError;
pub use code::{ChannelCode, Poster, SourceCode, TypeCode};
pub use event::{EncodedEvent, Item, ValidEvent};
pub use id::{EventId, GlobalCustomerId, IdError};
pub use json::{JsonError, JsonLimits, parse as parse_json};
pub use key::{ClassSecret, IndexSecret, LeafKey, SectionSecrets, key_commitment, leaf_key};
pub use leaf::{
    Decided, Dedupe, DedupeKind, DedupeValue, LEAF_BYTES_MAX, Leaf, LeafError, LeafHeader, OpenBody,
    OpenLeaf, SealRequest, StaffState, seal,
};
pub use outline::Outline;
pub use plain::PlainEvent;
pub use pseudonym::{IdentifierToken, IdentifierType, Pepper, RawIdentifier, TokenKey, TokenStart, token};
pub use retention::{ClassId, ClassTable, RetentionClass};
pub use text::{BodyText, TextMember};
pub use time::{hour_of_ms, month_of_hour, time_ms, time_text};
pub use validate::{Finding, PiiHandling, Rejected, Rules, Violation, Warning, check, validate};

/// What a caller must do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Send or configure something else.
    Invalid,
    /// Use another key.
    Denied,
    /// Stop trusting the bytes: they were changed.
    Damaged,
}
