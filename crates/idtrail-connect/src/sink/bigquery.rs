//! BigQuery, by the Storage Write API over gRPC.
//!
//! Rows go into a committed stream at explicit offsets, and an offset is how many rows the stream has. The target cannot
//! be asked for its newest row without the right to run jobs, which the writer must not have; so the cursor holds the
//! stream and its count, and the batch to be sent is noted before it is sent. After any answer that leaves the outcome open,
//! the stream is finalised: its count then says for good whether the noted batch is in it, and a new stream goes on. That
//! also fences an older process, whose appends a finalised stream refuses.
//!
//! What it must never do: append to a stream whose count it does not know, or run a statement as the writer.

mod config;
mod credentials;
mod proto;
pub(crate) mod request;
mod rights;
mod service;

pub use config::BigQueryConfig;
pub use credentials::{Credentials, CredentialsError};
pub use rights::BigQueryRights;
pub use service::{BigQuerySink, REST_RULES, RULES, STORAGE_RULES};
