//! BigQuery, by the Storage Write API over gRPC.
//!
//! Rows go into a committed stream at explicit offsets, and an offset is how many rows the stream has. The target cannot
//! be asked for its newest row without the right to run jobs, which the writer must not have; so the cursor holds the
//! stream and its count, and the batch to be sent is noted before it is sent. After any answer that leaves the outcome open,
//! the stream is finalised: its count then says for good whether the noted batch is in it, and a new stream goes on. That
//! also fences an older process, whose appends a finalised stream refuses. Only where the stream is gone, or the cursor,
//! does the table decide: a reader, a third account that can change nothing, counts the rows of the noted batch.
//!
//! What it must never do: append to a stream whose count it does not know, or run a statement as the writer.

mod config;
#[cfg(feature = "bigquery")]
mod credentials;
#[cfg(feature = "bigquery")]
mod proto;
#[cfg(feature = "bigquery")]
mod reader;
#[cfg(feature = "bigquery")]
mod request;
#[cfg(feature = "bigquery")]
mod rights;
#[cfg(feature = "bigquery")]
mod service;

pub use config::BigQueryConfig;
#[cfg(feature = "bigquery")]
pub use credentials::{Credentials, CredentialsError};
#[cfg(feature = "bigquery")]
pub use rights::BigQueryRights;
#[cfg(feature = "bigquery")]
pub use service::{BigQuerySink, REST_RULES, RULES, STORAGE_RULES};
