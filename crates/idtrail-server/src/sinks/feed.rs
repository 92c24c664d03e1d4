//! The log as the sinks read it: durable entries of all logs of the installation, opened with the vault's keys.
//!
//! A position is a log's place in the installation's list and an index in it; the end of an earlier log is the start of
//! the next one. A leaf whose key was destroyed is given as erased, and so is never sent. A leaf that is not what was
//! sealed is given as damaged: it becomes a dead letter of each sink, with a line in the server's log, and what stands
//! behind it goes on. A disk that refuses is an error, and is asked again.
//!
//! Whoever waits is woken by commits. What must never happen here: that the thread that tells of commits waits.

use std::sync::Arc;
use std::time::Duration;

use idtrail_connect::{Body, BodyMember, BoxFuture, EventRow, Feed, FeedEntry, FeedError, LogId, Position};
use idtrail_event::{BodyText, Leaf};
use idtrail_index::seal::{OpenError, Opener};
use idtrail_log::LogError;
use idtrail_log::reader::Reader;
use idtrail_tlog::{LogIndex, leaf_hash};
use idtrail_vault::Keyring;
use tokio::sync::Notify;

use crate::engine::Engine;

/// How long a woken sink lets further commits come, so that a busy log wakes it a few hundred times a second at most.
const GATHER: Duration = Duration::from_millis(4);
/// Bytes of leaves that one read of the disk asks for.
const SPAN_BYTES: u64 = 512 * 1024;
/// Leaves that one read of the disk asks for.
const SPAN_LEAVES: usize = 1024;

/// Reads the logs of an installation for all sinks.
#[derive(Debug)]
pub struct LogFeed {
    /// Oldest first.
    earlier: Vec<OneLog>,
    newest: OneLog,
    grown: Arc<Notify>,
}

#[derive(Debug)]
struct OneLog {
    id: LogId,
    reader: Arc<Reader>,
    keyring: Keyring,
}

impl LogFeed {
    /// Reads the logs of this installation.
    pub fn new(engine: &Engine) -> Self {
        let grown = Arc::new(Notify::new());
        let told = Arc::clone(&grown);
        if !engine.log().applied().listen(move || told.notify_waiters()) {
            tracing::error!("somebody else is told of commits; sinks see new entries late");
        }
        let mut logs: Vec<OneLog> = engine
            .logs()
            .into_iter()
            .map(|log| OneLog {
                id: LogId::new(log.ordinal.0),
                reader: Arc::clone(log.reader),
                keyring: log.keyring.clone(),
            })
            .collect();
        let newest = logs.pop().unwrap_or_else(|| OneLog {
            id: LogId::new(engine.ordinal().0),
            reader: Arc::clone(engine.reader()),
            keyring: engine.keyring().clone(),
        });
        Self { earlier: logs, newest, grown }
    }

    /// Returns the place of the newest entries: at most `count` of them, over all logs.
    pub fn newest(&self, count: u64) -> Position {
        let mut left = count;
        for log in self.logs().rev() {
            let size = log.size();
            if left <= size {
                return Position { log_id: log.id, seq: size - left };
            }
            left -= size;
        }
        Position { log_id: self.logs().next().map_or(self.newest.id, |log| log.id), seq: 0 }
    }

    fn logs(&self) -> impl DoubleEndedIterator<Item = &OneLog> {
        self.earlier.iter().chain([&self.newest])
    }

    /// Returns the log that holds or will hold the entry for which a position stands, and the index in it; `None` for a log
    /// that is still to come.
    fn locate(&self, at: Position) -> Option<(&OneLog, u64)> {
        for log in self.logs().filter(|log| log.id >= at.log_id) {
            let seq = if log.id == at.log_id { at.seq } else { 0 };
            if seq < log.size() || log.id == self.newest.id {
                return Some((log, seq));
            }
        }
        None
    }
}

impl OneLog {
    fn size(&self) -> u64 {
        self.reader.size().get()
    }

    /// Returns leaves from `index` on, at least one; `None` stands for one that the disk does not give as it was written.
    fn leaves(&self, index: u64, count_max: usize) -> Result<Vec<Option<Vec<u8>>>, FeedError> {
        match self.reader.entries(LogIndex::new(index), count_max.min(SPAN_LEAVES), SPAN_BYTES) {
            Ok(leaves) => Ok(leaves.into_iter().map(Some).collect()),
            Err(LogError::Damaged { .. }) => Ok(vec![self.leaf(index)?]),
            Err(error) => Err(FeedError(error.into())),
        }
    }

    fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, FeedError> {
        match self.reader.entry(LogIndex::new(index)) {
            Ok(leaf) => Ok(Some(leaf)),
            Err(LogError::Damaged { .. }) => Ok(None),
            Err(error) => Err(FeedError(error.into())),
        }
    }

    fn entry(&self, opener: &mut Opener, index: u64, leaf: Option<Vec<u8>>) -> FeedEntry {
        let at = Position { log_id: self.id, seq: index };
        let opened = leaf.ok_or(()).and_then(|leaf| Self::open(opener, at, leaf));
        opened.unwrap_or_else(|()| {
            tracing::error!(log = self.id.get(), index, "a leaf is not what was sealed: run idtrail fsck");
            FeedEntry::damaged(at)
        })
    }

    /// Opens a leaf. Fails if it is not what was sealed.
    fn open(opener: &mut Opener, at: Position, bytes: Vec<u8>) -> Result<FeedEntry, ()> {
        let leaf = Leaf::parse(&bytes).map_err(drop)?;
        let open = match opener.open(LogIndex::new(at.seq), &leaf) {
            Ok(open) => open,
            Err(OpenError::Key(_)) => return Ok(FeedEntry::erased(at)),
            Err(OpenError::Leaf(_)) => return Err(()),
        };
        let (event_id, customer_id, body) = match open.subject {
            Some(subject) if leaf.header().clear.is_none() => {
                (Some(open.event_id.to_string()), Some(subject.to_string()), body(open.body))
            }
            // The log's own leaves are for verifiers: they hold no event.
            _ => (None, None, Body::default()),
        };
        Ok(FeedEntry::opened(EventRow {
            position: at,
            received_ms: i64::try_from(open.received_ms).unwrap_or(i64::MAX),
            event_id,
            customer_id,
            leaf_hash: *leaf_hash(&bytes).as_bytes(),
            sealed_leaf: bytes.into(),
            body,
        }))
    }
}

fn body(body: BodyText) -> Body {
    let member = |member: &idtrail_event::TextMember| BodyMember {
        depth: member.depth,
        name: member.name,
        value: member.value,
    };
    Body::from_parts(body.text, body.members.iter().map(member).collect())
}

impl Feed for LogFeed {
    fn read(
        &self,
        from: Position,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<FeedEntry>, FeedError> {
        let (mut entries, mut bytes, mut at) = (Vec::new(), 0_usize, from);
        while entries.len() < entries_max && bytes < bytes_max {
            let Some((log, start)) = self.locate(at).filter(|(log, start)| *start < log.size()) else {
                break;
            };
            // One for each stretch: it knows the way to the keys that come next.
            let mut opener = Opener::new(&log.keyring);
            for (index, leaf) in (start..).zip(log.leaves(start, entries_max - entries.len())?) {
                // JSON is about twice as long as what is sealed.
                bytes = bytes.saturating_add(2 * leaf.as_ref().map_or(0, Vec::len));
                entries.push(log.entry(&mut opener, index, leaf));
                at = Position { log_id: log.id, seq: index + 1 };
                if bytes >= bytes_max {
                    break;
                }
            }
        }
        Ok(entries)
    }

    fn read_one(&self, at: Position) -> Result<Option<FeedEntry>, FeedError> {
        let Some(log) = self.logs().find(|log| log.id == at.log_id && at.seq < log.size()) else {
            return Ok(None);
        };
        Ok(Some(log.entry(&mut Opener::new(&log.keyring), at.seq, log.leaf(at.seq)?)))
    }

    fn wait(&self, from: Position) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let mut grown = std::pin::pin!(self.grown.notified());
                grown.as_mut().enable();
                if self.count_from(from) > 0 {
                    return;
                }
                grown.await;
                tokio::time::sleep(GATHER).await;
            }
        })
    }

    fn head(&self) -> Position {
        Position { log_id: self.newest.id, seq: self.newest.size() }
    }

    fn count_from(&self, from: Position) -> u64 {
        let Some((first, start)) = self.locate(from) else { return 0 };
        let behind = self.logs().filter(|log| log.id > first.id).map(OneLog::size).sum::<u64>();
        first.size().saturating_sub(start) + behind
    }

    fn survived(&self, newest: Position) -> Option<Position> {
        if newest.log_id >= self.newest.id {
            return None;
        }
        let last = self.earlier.iter().rfind(|log| log.id <= newest.log_id);
        match last {
            Some(log) if log.id == newest.log_id && newest.seq < log.size() => None,
            Some(log) => Some(Position { log_id: log.id, seq: log.size() }),
            None => Some(Position::START),
        }
    }
}
