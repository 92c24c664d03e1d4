//! Compares a Parquet sink with a plain Parquet writer on the same rows, columns and disk.
//! Run: `cargo run --release -p idtrail-connect --example bench_parquet [ROUNDS]`
//!
//! Sink: from the start of a worker until every event is in a file, synced, and confirmed. Events are opened already, as
//! trees of JSON; what is timed is filter, mapping, delivery engine, Parquet, a synced file a batch, and letting go of the
//! events. Plain writer: the rows are in memory already; what is timed is Parquet with the same settings and the same
//! synced files. Both use one process with the allocator of the server.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a program for people that measures time"
)]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use idtrail_connect::engine::{Batch, Mode};
use idtrail_connect::filter::Filter;
use idtrail_connect::mapping::Mapping;
use idtrail_connect::personal::{Erase, Pii, Privacy, References};
use idtrail_connect::sink::files::{FileFormat, FilesConfig, FilesSink, to_parquet};
use idtrail_connect::worker::{Parts, Worker};
use idtrail_connect::{BoxFuture, EventRow, Feed, FeedEntry, FeedError, Outcome, Plan, Position};
use idtrail_port::os::{OsClock, OsDisk, OsEntropy};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: u64 = 100_000;
const ROUNDS: usize = 9;
/// What the server's feed counts for such an event.
const EVENT_BYTES: usize = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |text| text.parse())?;
    let dir = std::env::temp_dir().join(format!("idtrail-bench-parquet-{}", std::process::id()));
    let runtime = tokio::runtime::Runtime::new()?;
    for (name, pii, erase) in
        [("pii = tokens", Pii::Tokens, Erase::Delete), ("pii = none, references", Pii::None, Erase::None)]
    {
        let mut found = Vec::new();
        for round in 0..rounds {
            let dir = dir.join(format!("{name}-{round}"));
            let ours = runtime.block_on(sink(pii, erase, &dir))?;
            found.push((ours, plain(pii, erase, &dir)?));
            std::fs::remove_dir_all(&dir)?;
        }
        let rate = |seconds: f64| EVENTS as f64 / seconds;
        let (ours, _, _) = spread(found.iter().map(|(ours, _)| rate(*ours)).collect());
        let (theirs, _, _) = spread(found.iter().map(|(_, theirs)| rate(*theirs)).collect());
        let (ratio, low, high) = spread(found.iter().map(|(ours, theirs)| theirs / ours).collect());
        println!(
            "{name}: sink {ours:.0} rows/s, plain writer {theirs:.0} rows/s, ratio {ratio:.2} ({low:.2} to {high:.2})"
        );
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Returns the median, the lowest and the highest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn plan(pii: Pii, erase: Erase) -> Plan {
    let mapping = Mapping::default_for(Privacy::new(pii, erase).unwrap());
    Plan { filter: Filter::events(), mapping, references: References::new([1; 32]) }
}

/// Returns the seconds from the start of a worker until everything is in files.
async fn sink(pii: Pii, erase: Erase, dir: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let plan = plan(pii, erase);
    let config =
        FilesConfig { dir: dir.join("sink"), format: FileFormat::Parquet, rows_max: 50_000, linger_ms: 50 };
    let disk = Arc::new(OsDisk);
    let feed = Arc::new(OnceFeed(Mutex::new((0..EVENTS).map(entry).collect())));
    let parts = Parts {
        name: "bench".to_owned(),
        dir: dir.join("memory"),
        sink: Box::new(FilesSink::new(config, plan.mapping.columns().to_vec(), disk.clone())),
        plan,
        feed,
        disk,
        clock: Arc::new(OsClock::default()),
        entropy: Arc::new(OsEntropy),
        deadline: Duration::from_secs(60),
    };
    let start = Instant::now();
    let worker = Worker::start(parts)?;
    // Settled means that the target has confirmed it; the cursor's own file is written a moment later.
    while worker.status().replicated_up_to < Position::new(0, EVENTS) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    worker.stop().await;
    Ok(seconds)
}

/// Returns the seconds that a plain writer needs for the rows, in files of the sizes that the sink made.
fn plain(pii: Pii, erase: Erase, dir: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let plan = plan(pii, erase);
    let rows: Vec<_> = (0..EVENTS)
        .filter_map(|seq| match plan.prepare(&entry(seq)).outcome {
            Outcome::Row(row) => Some(row),
            _ => None,
        })
        .collect();
    let files: Vec<PathBuf> =
        std::fs::read_dir(dir.join("sink"))?.map(|file| Ok(file?.path())).collect::<std::io::Result<_>>()?;
    std::fs::create_dir_all(dir.join("plain"))?;
    let batches: Vec<Batch> = rows
        .chunks(rows.len().div_ceil(files.len()))
        .map(|rows| Batch { rows: rows.to_vec(), mode: Mode::Live })
        .collect();
    let start = Instant::now();
    for (number, batch) in batches.iter().enumerate() {
        let bytes = to_parquet(batch, plan.mapping.columns())?;
        let path = dir.join("plain").join(format!("{number}.parquet"));
        idtrail_port::write_atomic(&OsDisk, &path, &bytes, idtrail_port::Privacy::Owner)?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Gives every event once, and lets go of it.
struct OnceFeed(Mutex<VecDeque<FeedEntry>>);

impl Feed for OnceFeed {
    fn read(
        &self,
        from: Position,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<FeedEntry>, FeedError> {
        let mut left = self.0.lock().unwrap();
        assert!(left.front().is_none_or(|entry| entry.position == from), "nothing is read twice");
        let count = entries_max.min(bytes_max / EVENT_BYTES).min(left.len());
        Ok(left.drain(..count).collect())
    }

    fn read_one(&self, _: Position) -> Result<Option<FeedEntry>, FeedError> {
        Ok(None)
    }

    fn wait(&self, _: Position) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn head(&self) -> Position {
        Position::new(0, EVENTS)
    }

    fn count_from(&self, from: Position) -> u64 {
        EVENTS.saturating_sub(from.seq)
    }

    fn survived(&self, _: Position) -> Option<Position> {
        None
    }
}

fn entry(seq: u64) -> FeedEntry {
    let event = serde_json::json!({"auditEvent": {
        "eventType": "IDENTITY_RESOLUTION",
        "timestamp": format!("2023-10-27T14:{:02}:{:02}Z", seq / 60 % 60, seq % 60),
        "interactionId": format!("i-12345678-90ab-cdef-1234-{seq:012x}"),
        "channelType": "VOICE",
        "resolvedCustomerId": format!("cust_hash_{:064x}", seq % 5000),
        "resolutionSource": "CRM_API_LOOKUP",
        "piiContext": {"phoneHash": format!("{seq:064x}"), "emailHash": null},
        "complianceFlags": {"gdprConsentRecorded": true, "dataSubjectRequestPending": false},
        "agentId": null,
        "queueId": "q-sales-support"
    }});
    FeedEntry::opened(EventRow {
        position: Position::new(0, seq),
        received_ms: 1_700_000_000_000,
        event_id: Some(format!("ev-{seq}")),
        customer_id: Some(format!("gc_{:032x}", seq % 5000)),
        leaf_hash: [7; 32],
        sealed_leaf: bytes::Bytes::new(),
        body: event.into(),
    })
}
