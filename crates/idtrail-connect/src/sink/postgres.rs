//! PostgreSQL, and what speaks its protocol.
//!
//! A batch is one transaction: an advisory lock, a look at the newest row, COPY, commit. So a batch is there whole or not
//! at all, a second writer waits and then sees that it is too late, and after a lost answer the newest row tells what
//! happened. The writer needs INSERT and SELECT on the table and nothing else.

mod config;
pub(crate) mod request;
mod rights;
mod service;

pub use config::{PostgresConfig, PostgresTls};
pub use rights::PostgresRights;
pub use service::{PostgresSink, RULES};
