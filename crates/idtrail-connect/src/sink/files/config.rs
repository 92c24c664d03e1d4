//! What an admin says about a directory of files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of a directory of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// The directory; made if it is missing. Nobody else may write there.
    pub dir: PathBuf,
    /// What the files are.
    pub format: FileFormat,
    /// Most rows of a file.
    #[serde(default = "rows_max")]
    pub rows_max: usize,
    /// How long rows are collected for one file, milliseconds. Longer means fewer, larger files.
    #[serde(default = "linger_ms")]
    pub linger_ms: u64,
}

/// What the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet, zstd.
    Parquet,
}

impl FileFormat {
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

fn rows_max() -> usize {
    50_000
}

fn linger_ms() -> u64 {
    1000
}
