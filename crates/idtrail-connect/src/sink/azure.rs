//! Azure SQL and SQL Server, over TDS.
//!
//! A batch is one transaction: a look at the newest row that locks the range behind it, one insert from JSON, commit. So a
//! batch is there whole or not at all, a second writer waits and then sees that it is too late, and after a lost answer the
//! newest row tells what happened. The key (log_id, seq) is the second guard. Where nothing is to be erased the table is an
//! append-only ledger table, which the server lets nobody change.
//!
//! What it must never do: let the server cut or drop a value in silence. JSON is read with types that take anything, and
//! the column's own type refuses.

mod config;
#[cfg(feature = "azure")]
pub(crate) mod request;
#[cfg(feature = "azure")]
mod rights;
#[cfg(feature = "azure")]
mod service;

pub use config::AzureConfig;
#[cfg(feature = "azure")]
pub use rights::AzureRights;
#[cfg(feature = "azure")]
pub use service::{AzureSink, RULES};
