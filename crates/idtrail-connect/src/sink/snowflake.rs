//! Snowflake, in two ways: Snowpipe Streaming (REST) in real time, and the SQL API (v2), a statement for each batch.
//!
//! *Streaming*: one channel of a fixed name; the offset token of a batch is the place of its last row. Opening the channel
//! anew shuts an older process out and returns the newest token that was committed. Snowflake may commit a token and drop
//! rows of its batch without an error, so the channel's count of errors is compared, and the table tells which rows are not
//! there: they become dead letters. *SQL*: one INSERT … SELECT from a JSON text, which does nothing at all if the table has
//! a row at or above the first one. Rows that are sent again by their keys go the second way always.
//!
//! What it must never do: take a committed token for rows that are in the table.

mod api;
mod config;
pub(crate) mod request;
mod rights;
mod service;

pub use api::{AccountKey, REST_RULES, SQL_RULES};
pub use config::{SnowflakeConfig, SnowflakeMode};
pub use rights::SnowflakeRights;
pub use service::SnowflakeSink;
