//! Which leaves were received in a month. Receipt times never decrease, so a month is one range of the log; its ends
//! are found by bisection over the hours that stand in clear in the leaves.

use std::ops::Range;

use idtrail_event::{Leaf, LeafError, LeafHeader};
use idtrail_log::LogError;
use idtrail_log::reader::Reader;
use idtrail_tlog::LogIndex;

/// Why the log could not be searched.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A leaf could not be read.
    #[error("a leaf could not be read")]
    Log(#[from] LogError),
    /// A leaf is not what it must be.
    #[error("a leaf is not what it must be. index={index}")]
    Leaf {
        /// Its index.
        index: LogIndex,
        /// What is wrong.
        #[source]
        source: LeafError,
    },
}

/// Returns what stands in clear in a leaf.
pub(crate) fn header(reader: &Reader, index: u64) -> Result<LeafHeader, ScanError> {
    let index = LogIndex::new(index);
    let bytes = reader.entry(index)?;
    let leaf = Leaf::parse(&bytes).map_err(|source| ScanError::Leaf { index, source })?;
    Ok(leaf.header().clone())
}

/// Returns the range of the log that was received in `months` (since 1970-01), below the present size.
pub(crate) fn range(reader: &Reader, months: Range<u16>) -> Result<Range<u64>, ScanError> {
    let size = reader.size().get();
    let start = first_not_before(reader, months.start, size)?;
    Ok(start..first_not_before(reader, months.end, size)?)
}

fn first_not_before(reader: &Reader, month: u16, size: u64) -> Result<u64, ScanError> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        if header(reader, middle)?.month() < month {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
