//! Delivers the log to outside systems: every event that a sink wants, once, in order, for ever.
//!
//! The log is the buffer and a sink is a follower with a cursor. An outage of any length loses nothing and slows nobody:
//! delivery reads committed entries behind the acknowledgements, never in front of them.
//!
//! ```text
//! Feed ──> Plan: filter, mapping ──> Engine: batches, cursor, dead letters ──> Sink: one outside system
//!          pure                      pure, step(input, now) -> actions         config · request · service
//! ```
//! What this crate must never do: change the log, keep an event of its own, put a value of an event or the text of a
//! server's answer into an error, a log line or a dead letter.

mod body;
mod closed;
pub mod ddl;
pub mod engine;
mod event;
mod feed;
pub mod filter;
mod http_client;
mod json_text;
mod jwt;
pub mod mapping;
mod path;
pub mod personal;
mod plan;
mod position;
pub mod rights;
mod row;
pub mod secret;
pub mod settings;
pub mod sink;
pub mod store;
mod tls;
mod verdict;
pub mod worker;

pub use body::{Body, BodyMember, LISTED_DEPTH_MAX};
pub use closed::CLOSED;
pub use event::{Content, EVENT_MEMBER, EventRow, FeedEntry};
pub use feed::{BoxFuture, Feed, FeedError};
pub use jwt::KeyError;
pub use path::{Path, PathError, Sensitivity};
pub use plan::{Outcome, Plan, Prepared};
pub use position::{LogId, Position, PositionError};
pub use row::{Cell, Column, ColumnType, LOG_ID, Misfit, Row, SEQ, format_timestamp, parse_timestamp};
pub use verdict::{Failure, Rule, Status, Verdict, judge};
