//! JSON Lines and Parquet files in a directory: the embedded warehouse, readable by everything.
//!
//! Each batch becomes one file that is written beside, synced and renamed, so it is there whole or not at all. Its name
//! holds the first and last place of its rows; the newest last place is the high-water mark, so a lost answer or a power
//! cut leaves neither gap nor double. No file is ever changed.

mod config;
mod content;
mod request;
mod service;

pub use config::{FileFormat, FilesConfig};
#[cfg(feature = "s3")]
pub(crate) use content::{encode, keys};
pub use service::FilesSink;

pub use request::to_json_lines;
#[cfg(feature = "parquet")]
pub use request::{read_texts, to_parquet};
