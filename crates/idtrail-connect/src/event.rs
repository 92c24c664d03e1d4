//! What filter and mapping see of one entry: the event as JSON and what the log knows about it, under names of their own.
//!
//! The event is the client's JSON, `{"auditEvent": {…}}` and whatever stood beside it. What the log adds stands under
//! `log` (`log.log_id`, `log.seq`, `log.received_at` …) and `customer` (`customer.id`). `Debug` shows none of it.

use crate::body::{Body, Json};
use crate::position::Position;
use bytes::Bytes;

/// The member of a body that holds the event.
pub const EVENT_MEMBER: &str = "auditEvent";

/// One opened entry of the log.
#[derive(Clone, PartialEq)]
pub struct EventRow {
    /// Where the entry stands.
    pub position: Position,
    /// When the log received it, milliseconds since 1970. Never decreases within an origin.
    pub received_ms: i64,
    /// The event's own id, if it has one.
    pub event_id: Option<String>,
    /// The customer's global id (`gc_…`), if the event belongs to a customer.
    pub customer_id: Option<String>,
    /// The leaf's hash in the log's tree.
    pub leaf_hash: [u8; 32],
    /// The sealed leaf, exactly as the tree hashes it. Read only by sinks with `pii = sealed`.
    pub sealed_leaf: Bytes,
    /// The whole body.
    pub body: Body,
}

impl std::fmt::Debug for EventRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventRow").field("position", &self.position).finish_non_exhaustive()
    }
}

impl EventRow {
    /// Returns the event, if the body holds one.
    pub(crate) fn event(&self) -> Option<Json<'_>> {
        self.body.top(EVENT_MEMBER)
    }

    /// Tells whether the body holds an event.
    pub fn is_event(&self) -> bool {
        self.event().is_some()
    }
}

/// One entry of the log, as a feed gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedEntry {
    /// Where the entry stands.
    pub position: Position,
    /// When the log received it, milliseconds since 1970; 0 if that cannot be read any more.
    pub received_ms: i64,
    /// Its content.
    pub content: Content,
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// It could be opened.
    Opened(Box<EventRow>),
    /// Its key was destroyed: nobody can read it any more. It counts as erased in every sink that had not passed it.
    Erased,
    /// It is not what was sealed: the storage changed it. A dead letter, because no row can be made of it.
    Damaged,
}

impl FeedEntry {
    /// Wraps an opened entry.
    pub fn opened(row: EventRow) -> Self {
        Self { position: row.position, received_ms: row.received_ms, content: Content::Opened(Box::new(row)) }
    }

    /// Makes an entry that cannot be read any more.
    pub fn erased(position: Position) -> Self {
        Self { position, received_ms: 0, content: Content::Erased }
    }

    /// Makes an entry that is not what was sealed.
    pub fn damaged(position: Position) -> Self {
        Self { position, received_ms: 0, content: Content::Damaged }
    }
}
