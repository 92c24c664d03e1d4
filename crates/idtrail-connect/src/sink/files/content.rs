//! Between rows and the bytes of a file, in either format. Pure; shared with whatever else keeps files.

use super::config::FileFormat;
use super::request::to_json_lines;
use crate::engine::Batch;
use crate::position::Position;
use crate::row::{Column, LOG_ID, SEQ};
use crate::verdict::{Failure, Status};

/// Writes a batch as a file.
pub(crate) fn encode(format: FileFormat, batch: &Batch, columns: &[Column]) -> Result<Vec<u8>, Failure> {
    match format {
        FileFormat::Jsonl => Ok(to_json_lines(batch, columns)),
        FileFormat::Parquet => parquet(batch, columns),
    }
}

#[cfg(feature = "parquet")]
fn parquet(batch: &Batch, columns: &[Column]) -> Result<Vec<u8>, Failure> {
    super::request::to_parquet(batch, columns).map_err(|_| Failure::poison("parquet", Status::none(), None))
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &Batch, _: &[Column]) -> Result<Vec<u8>, Failure> {
    Err(Failure::stop("built_without_parquet", Status::none()))
}

/// Returns the places of a file's rows.
pub(crate) fn keys(format: FileFormat, bytes: Vec<u8>) -> Result<Vec<Position>, Failure> {
    let damaged = || Failure::stop("file_damaged", Status::none());
    match format {
        #[cfg(feature = "parquet")]
        FileFormat::Parquet => super::request::keys(bytes).map_err(|_| damaged()),
        #[cfg(not(feature = "parquet"))]
        FileFormat::Parquet => Err(damaged()),
        FileFormat::Jsonl => bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let row: serde_json::Value = serde_json::from_slice(line).ok()?;
                let log_id = u32::try_from(row.get(LOG_ID)?.as_u64()?).ok()?;
                Some(Position::new(log_id, row.get(SEQ)?.as_u64()?))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(damaged),
    }
}
