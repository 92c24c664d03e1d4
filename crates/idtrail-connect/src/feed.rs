//! Where entries come from: the log, seen as one long list over all origins.

use std::future::Future;
use std::pin::Pin;

use crate::event::FeedEntry;
use crate::position::Position;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Reads committed entries. Implemented over the log's readers; shared by all sinks.
///
/// Only durable entries are given, in order, without gaps: an entry whose key was destroyed is given as erased, and one
/// that is not what was sealed as damaged. A position at or beyond the end of an origin that has ended stands for the
/// first entry of the next origin.
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

    /// Returns the place after the last surviving entry before `newest`, if `newest` belongs to an origin that has ended,
    /// or was lost as a whole, and does not hold it; `None` if the entry is there or is to come.
    fn survived(&self, newest: Position) -> Option<Position>;
}

/// The log cannot be read now.
#[derive(Debug, thiserror::Error)]
#[error("log cannot be read")]
pub struct FeedError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
