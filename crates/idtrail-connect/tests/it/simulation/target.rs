//! A target that keeps rows for ever and fails as it is told.

use std::collections::BTreeSet;

use idtrail_connect::engine::{Ack, Batch, Cursor, Mode, Opened};
use idtrail_connect::{Failure, Position, Status};
use idtrail_sim::Rng;
use std::time::Duration;

/// The ways in which real targets come to exactly-once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Transactions and a high-water mark: PostgreSQL, Azure SQL, Snowflake's SQL API.
    Marked,
    /// A high-water mark, but a batch may be applied in part.
    Partial,
    /// No mark, but the count of a session's rows: BigQuery.
    Noted,
    /// No mark; the receiver drops what it has by its id: webhooks.
    Ids,
    /// A mark, and rows that are dropped without an error: Snowpipe Streaming.
    Dropping,
}

pub(crate) struct Target {
    pub(crate) kind: Kind,
    /// In the order of arrival.
    pub(crate) arrived: Vec<Position>,
    rows: BTreeSet<Position>,
    pub(crate) replayed: BTreeSet<Position>,
    dropped: BTreeSet<Position>,
    mark: Option<Position>,
    /// Rows of each stream; the last one is the open one.
    streams: Vec<u64>,
    pub(crate) poison: BTreeSet<u64>,
    pub(crate) names_rows: bool,
    /// Chances of a fault in a thousand deliveries.
    pub(crate) fault_rate: u64,
}

/// What goes wrong with one delivery.
enum Fault {
    None,
    Refused(Failure),
    /// The answer is lost, after this many rows.
    Lost(usize),
}

impl Target {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            arrived: Vec::new(),
            rows: BTreeSet::new(),
            replayed: BTreeSet::new(),
            dropped: BTreeSet::new(),
            mark: None,
            streams: Vec::new(),
            poison: BTreeSet::new(),
            names_rows: false,
            fault_rate: 0,
        }
    }

    pub(crate) fn open(&mut self, cursor: &Cursor) -> Result<Opened, Failure> {
        let mut opened = Opened { session: cursor.session.clone(), ..Opened::default() };
        match self.kind {
            Kind::Marked | Kind::Partial => opened.high_water = self.mark,
            Kind::Ids => {}
            Kind::Dropping => {
                opened.high_water = self.mark;
                opened.missing = self.dropped.iter().copied().filter(|at| *at >= cursor.next).collect();
            }
            Kind::Noted => {
                if let Some((stream, rows)) = cursor.session.split_once(':') {
                    let stream: usize = stream.parse().unwrap();
                    // Streams that were opened and never came to a saved cursor have no rows.
                    assert!(self.streams[stream + 1..].iter().all(|rows| *rows == 0));
                    let extra = self.streams[stream] - rows.parse::<u64>().unwrap();
                    let noted = cursor.intent.map_or(0, |intent| intent.rows);
                    assert!(extra == 0 || extra == noted, "{extra} rows beyond the cursor, {noted} noted");
                    opened.intent_applied = extra > 0;
                }
                // The old stream is final; a new one starts.
                self.streams.push(0);
                opened.session = format!("{}:0", self.streams.len() - 1);
            }
        }
        Ok(opened)
    }

    pub(crate) fn deliver(&mut self, batch: &Batch, rng: &mut Rng) -> Result<Ack, Failure> {
        assert!(!batch.rows.is_empty());
        if let Some(row) = batch.rows.iter().position(|row| self.poison.contains(&row.position.seq))
            && self.kind != Kind::Dropping
        {
            let row = self.names_rows.then_some(row);
            return Err(Failure::poison("refused", Status::new("23502"), row));
        }
        match self.fault(batch, rng) {
            Fault::Refused(failure) => Err(failure),
            Fault::Lost(rows) => {
                self.apply(batch, rows)?;
                Err(Failure::timeout())
            }
            Fault::None => self.apply(batch, batch.rows.len()),
        }
    }

    /// What a delivery may still do when the sender dies.
    pub(crate) fn deliver_unheard(&mut self, batch: &Batch, rng: &mut Rng) {
        let poisoned = batch.rows.iter().any(|row| self.poison.contains(&row.position.seq));
        if !poisoned && rng.chance(1, 2) {
            let _ = self.apply(batch, batch.rows.len());
        }
    }

    fn fault(&self, batch: &Batch, rng: &mut Rng) -> Fault {
        if !rng.chance(self.fault_rate, 1000) {
            return Fault::None;
        }
        let retry = |status: u16, after| Fault::Refused(Failure::retry("busy", status.into(), after));
        match rng.below(6) {
            0 => retry(429, Some(Duration::from_millis(rng.below(5000)))),
            1 => retry(503, None),
            2 => Fault::Refused(Failure::timeout()),
            3 => Fault::Refused(Failure::reopen("session_lost", Status::none())),
            4 if self.kind == Kind::Partial => Fault::Lost(rng.index(batch.rows.len() + 1)),
            _ => Fault::Lost(batch.rows.len()),
        }
    }

    fn apply(&mut self, batch: &Batch, rows: usize) -> Result<Ack, Failure> {
        if batch.mode == Mode::Live
            && matches!(self.kind, Kind::Marked | Kind::Partial | Kind::Dropping)
            && self.mark >= Some(batch.first())
        {
            return Err(Failure::reopen("not_above_mark", Status::none()));
        }
        let mut ack = Ack { rejected_code: "dropped", ..Ack::default() };
        for (number, row) in batch.rows.iter().take(rows).enumerate() {
            let at = row.position;
            self.mark = self.mark.max(Some(at));
            if let Some(rows) = self.streams.last_mut() {
                *rows += 1;
            }
            if self.kind == Kind::Dropping && self.poison.contains(&at.seq) {
                self.dropped.insert(at);
                ack.rejected.push(number);
                continue;
            }
            let by_key = batch.mode == Mode::Keyed || self.kind == Kind::Ids;
            if by_key && self.rows.contains(&at) {
                continue;
            }
            if batch.mode == Mode::Keyed {
                self.replayed.insert(at);
            }
            self.dropped.remove(&at);
            self.rows.insert(at);
            self.arrived.push(at);
        }
        if self.kind == Kind::Noted {
            ack.session = Some(format!("{}:{}", self.streams.len() - 1, self.streams.last().unwrap()));
        }
        Ok(ack)
    }

    pub(crate) fn lose(&mut self, rng: &mut Rng, rows: usize) {
        for _ in 0..rows {
            let at = self.arrived.remove(rng.index(self.arrived.len()));
            self.rows.remove(&at);
        }
    }
}
