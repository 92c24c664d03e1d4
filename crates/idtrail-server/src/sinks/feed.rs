//! The log as the sinks read it: durable entries, opened with the vault's keys.
//!
//! A leaf whose key was destroyed is given as erased, and so is never sent. A leaf that is not what was sealed is an
//! error, and nothing behind it is given: a sink never gets past a damaged log without a person knowing.

use std::sync::Arc;
use std::time::Duration;

use idtrail_connect::{BoxFuture, EventRow, Feed, FeedEntry, FeedError, LogId, Position};
use idtrail_event::Leaf;
use idtrail_index::seal::{self, OpenError};
use idtrail_log::reader::Reader;
use idtrail_tlog::{LogIndex, leaf_hash};
use idtrail_vault::Keyring;
use serde_json::{Value, json};

/// How often a waiting sink looks whether the log has grown. The log's thread knows of nobody who reads, so nobody has
/// to be told there.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// The place of the one origin among the origins.
const ORIGIN: LogId = LogId::new(0);

/// Reads one log for all sinks.
#[derive(Debug)]
pub struct LogFeed {
    reader: Arc<Reader>,
    keyring: Keyring,
}

impl LogFeed {
    /// Reads this log with these keys.
    pub fn new(reader: Arc<Reader>, keyring: Keyring) -> Self {
        Self { reader, keyring }
    }

    /// Returns the place of the newest entries: at most `count` of them.
    pub fn newest(&self, count: u64) -> Position {
        Position { log_id: ORIGIN, seq: self.reader.size().get().saturating_sub(count) }
    }

    fn entry(&self, at: Position) -> Result<(FeedEntry, usize), FeedError> {
        let index = LogIndex::new(at.seq);
        let bytes = self.reader.entry(index).map_err(|error| FeedError(error.into()))?;
        let length = bytes.len();
        let leaf = Leaf::parse(&bytes).map_err(|error| FeedError(error.into()))?;
        let is_own = leaf.header().clear.is_some();
        let row = |received_ms: u64, event_id, customer_id, body: Value| EventRow {
            position: at,
            received_ms: i64::try_from(received_ms).unwrap_or(i64::MAX),
            event_id,
            customer_id,
            leaf_hash: *leaf_hash(&bytes).as_bytes(),
            sealed_leaf: bytes.clone().into(),
            body,
        };
        let entry = match seal::open(&self.keyring, index, &bytes) {
            Ok(disclosed) => {
                let open = disclosed.leaf;
                FeedEntry::opened(match open.subject {
                    Some(subject) if !is_own => row(
                        open.received_ms,
                        Some(open.event_id.to_string()),
                        Some(subject.to_string()),
                        open.body,
                    ),
                    // The log's own leaves are for verifiers: they hold no event.
                    _ => row(open.received_ms, None, None, json!({})),
                })
            }
            Err(OpenError::Key(_)) => FeedEntry::erased(at),
            Err(error) => return Err(FeedError(error.into())),
        };
        Ok((entry, length))
    }
}

impl Feed for LogFeed {
    fn read(
        &self,
        from: Position,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<FeedEntry>, FeedError> {
        let (size, mut entries, mut bytes) = (self.head(), Vec::new(), 0_usize);
        let mut at = from;
        while at < size && entries.len() < entries_max && bytes < bytes_max {
            let (entry, length) = self.entry(at)?;
            // JSON is about twice as long as what is sealed.
            bytes = bytes.saturating_add(2 * length);
            entries.push(entry);
            at = at.next();
        }
        Ok(entries)
    }

    fn read_one(&self, at: Position) -> Result<Option<FeedEntry>, FeedError> {
        if at.log_id != ORIGIN || at >= self.head() {
            return Ok(None);
        }
        self.entry(at).map(|(entry, _)| Some(entry))
    }

    fn wait(&self, from: Position) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while self.head() <= from {
                tokio::time::sleep(LOOK_PERIOD).await;
            }
        })
    }

    fn head(&self) -> Position {
        Position { log_id: ORIGIN, seq: self.reader.size().get() }
    }

    fn count_from(&self, from: Position) -> u64 {
        if from.log_id == ORIGIN { self.reader.size().get().saturating_sub(from.seq) } else { 0 }
    }

    fn final_size(&self, _: LogId) -> Option<u64> {
        // The one origin there is is the one that is written.
        None
    }
}
