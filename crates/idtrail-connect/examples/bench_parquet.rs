//! Compares what a Parquet sink does for an event (filter, mapping, file) with a plain Parquet writer on the same rows.
//! Run: `cargo run --release -p idtrail-connect --example bench_parquet`
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a program for people that measures time"
)]

use std::time::Instant;

use idtrail_connect::engine::{Batch, Mode};
use idtrail_connect::filter::Filter;
use idtrail_connect::mapping::Mapping;
use idtrail_connect::personal::{Erase, Pii, Privacy, References};
use idtrail_connect::sink::files::to_parquet;
use idtrail_connect::{EventRow, FeedEntry, Outcome, Plan, Position};

const ROWS: u64 = 100_000;
/// What a worker reads at once.
const READ: u64 = 4096;
/// What the sink writes into one file, about 16 MB.
const FILE_ROWS: usize = 12_500;
const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, pii, erase) in
        [("pii = tokens", Pii::Tokens, Erase::Delete), ("pii = none, references", Pii::None, Erase::None)]
    {
        let mapping = Mapping::default_for(Privacy::new(pii, erase)?);
        let plan = Plan { filter: Filter::events(), mapping, references: References::new([1; 32]) };
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            ratios.push(round(&plan)?);
        }
        ratios.sort_by(|one, other| one.2.total_cmp(&other.2));
        let (ours, plain, ratio) = ratios[ROUNDS / 2];
        let (low, high) = (ratios[0].2, ratios[ROUNDS - 1].2);
        println!(
            "{name}: sink {ours:.0} rows/s, plain writer {plain:.0} rows/s, ratio {ratio:.2} ({low:.2} to {high:.2})"
        );
    }
    Ok(())
}

/// Returns rows per second of both, and their ratio.
fn round(plan: &Plan) -> Result<(f64, f64, f64), Box<dyn std::error::Error>> {
    let (mut preparing, mut writing) = (0.0, 0.0);
    let mut rows = Vec::new();
    for first in (0..ROWS).step_by(READ as usize) {
        // As a worker does: what was read last is prepared while it is in the processor's cache.
        let entries: Vec<FeedEntry> = (first..(first + READ).min(ROWS)).map(entry).collect();
        let start = Instant::now();
        rows.extend(entries.iter().filter_map(|entry| match plan.prepare(entry).outcome {
            Outcome::Row(row) => Some(row),
            _ => None,
        }));
        preparing += start.elapsed().as_secs_f64();
    }
    for rows in rows.chunks(FILE_ROWS) {
        let batch = Batch { rows: rows.to_vec(), mode: Mode::Live };
        let start = Instant::now();
        std::hint::black_box(to_parquet(&batch, plan.mapping.columns())?);
        writing += start.elapsed().as_secs_f64();
    }
    let rate = |seconds: f64| ROWS as f64 / seconds;
    Ok((rate(preparing + writing), rate(writing), writing / (preparing + writing)))
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
        body: event,
    })
}
