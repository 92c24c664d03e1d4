//! Where entries come from: the log, seen as one long list over all origins.

use std::future::Future;
use std::pin::Pin;

use crate::event::FeedEntry;
use crate::position::Position;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Reads committed entries. Implemented over the log's readers; shared by all sinks.
///
/// Only durable entries are given, in order, without gaps: an entry that cannot be opened is given as erased. A position
/// at or beyond the end of an origin that has ended stands for the first entry of the next origin.
pub trait Feed: Send + Sync {
    /// Returns entries from `from` on: at most `entries_max`, and no further ones once `bytes_max` bytes of JSON are
    /// reached. Empty if there is none yet. Blocks on disk reads; called on a thread that may block.
    ///
    /// # Errors
    /// [`FeedError`] if the log cannot be read now; asked again after a pause.
    fn read(&self, from: Position, entries_max: usize, bytes_max: usize)
    -> Result<Vec<FeedEntry>, FeedError>;

    /// Returns one entry again, for a replay. `None` if it is not there.
    ///
    /// # Errors
    /// As [`Feed::read`].
    fn read_one(&self, at: Position) -> Result<Option<FeedEntry>, FeedError>;

    /// Waits until an entry at or after `from` is durable. May return early.
    fn wait(&self, from: Position) -> BoxFuture<'_, ()>;

    /// Returns the place after the newest durable entry.
    fn head(&self) -> Position;

    /// Returns how many entries stand from `from` on.
    fn count_from(&self, from: Position) -> u64;

    /// Returns the size of an origin that has ended; `None` if it is the writable one or does not exist.
    fn final_size(&self, log_id: crate::position::LogId) -> Option<u64>;
}

/// The log cannot be read now.
#[derive(Debug, thiserror::Error)]
#[error("log cannot be read")]
pub struct FeedError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
