//! Compares what a Parquet sink does for an event (filter, mapping, file) with a plain Parquet writer on the same rows.
//! Run: `cargo run --release -p idtrail-connect --example bench_parquet`
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let privacy = Privacy::new(Pii::Tokens, Erase::Delete)?;
    let mapping = Mapping::default_for(privacy);
    let plan = Plan { filter: Filter::events(), mapping, references: References::new([1; 32]) };
    let entries: Vec<FeedEntry> = (0..ROWS).map(entry).collect();
    let (mut ours, mut plain) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..5 {
        let start = Instant::now();
        let rows = entries.iter().filter_map(|entry| match plan.prepare(entry).outcome {
            Outcome::Row(row) => Some(row),
            _ => None,
        });
        let batch = Batch { rows: rows.collect(), mode: Mode::Live };
        let prepared = Instant::now();
        let bytes = to_parquet(&batch, plan.mapping.columns())?;
        let end = Instant::now();
        ours = ours.min((end - start).as_secs_f64());
        plain = plain.min((end - prepared).as_secs_f64());
        std::hint::black_box(bytes);
    }
    let rate = |seconds: f64| ROWS as f64 / seconds;
    println!(
        "sink {:.0} rows/s, plain writer {:.0} rows/s, ratio {:.2}",
        rate(ours),
        rate(plain),
        plain / ours
    );
    Ok(())
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
