//! JSON Lines and Parquet files in an object store that speaks S3: a warehouse that query engines read in place.
//!
//! Each batch becomes one object, made by a conditional put that fails if there is one of that name. A name holds the place
//! of the first row only: whoever sends the same rows again, even a request of ours that was taken for lost and arrives
//! late, wants the same name and gets nothing. The place of the last row stands with the object, so the newest one tells how
//! far the target is. No object is ever replaced or removed.

mod config;
#[cfg(feature = "s3")]
mod request;
#[cfg(feature = "s3")]
mod service;

pub use config::S3Config;
#[cfg(feature = "s3")]
pub use service::{S3Keys, S3Sink};
