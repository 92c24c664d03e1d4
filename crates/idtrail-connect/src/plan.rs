//! From entries to rows: filter, then mapping. Pure, and the only place where the content of an event is looked at.

use std::sync::Arc;

use crate::event::{Content, FeedEntry};
use crate::filter::Filter;
use crate::mapping::{Mapping, Unmappable};
use crate::personal::References;
use crate::position::Position;
use crate::row::Row;

/// The filter, the mapping and the references of one sink.
#[derive(Debug)]
pub struct Plan {
    /// Which entries the sink wants.
    pub filter: Filter,
    /// What they become.
    pub mapping: Mapping,
    /// The sink's own references.
    pub references: References,
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Where the entry stands.
    pub position: Position,
    /// When the log received it, milliseconds since 1970; 0 if that cannot be read any more.
    pub received_ms: i64,
    /// What is to be done with it.
    pub outcome: Outcome,
}

/// What is to be done with one entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A row goes out.
    Row(Arc<Row>),
    /// The filter does not want it.
    Filtered,
    /// It cannot be read any more.
    Erased,
    /// The mapping cannot make a row of it: a dead letter.
    Unmappable(Unmappable),
}

impl Plan {
    /// Prepares one entry.
    pub fn prepare(&self, entry: &FeedEntry) -> Prepared {
        let outcome = match &entry.content {
            Content::Erased => Outcome::Erased,
            Content::Damaged => Outcome::Unmappable(Unmappable::Damaged),
            Content::Opened(event) if !self.filter.accepts(event) => Outcome::Filtered,
            Content::Opened(event) => match self.mapping.map(event, &self.references) {
                Ok(row) => Outcome::Row(Arc::new(row)),
                Err(unmappable) => Outcome::Unmappable(unmappable),
            },
        };
        Prepared { position: entry.position, received_ms: entry.received_ms, outcome }
    }
}
