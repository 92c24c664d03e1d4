//! Files on a disk that loses what was not synced, and as a running sink.

use std::path::Path;
use std::sync::Arc;

use idtrail_connect::engine::{Batch, Cursor, Mode};
use idtrail_connect::personal::{Erase, Pii};
use idtrail_connect::sink::Sink;
use idtrail_connect::sink::files::{FileFormat, FilesConfig, FilesSink};
use idtrail_connect::{Outcome, Position};
use idtrail_sim::{Count, Seed, SimDisk, seeds};
use serde_json::Value;

use crate::support::{MemoryFeed, caught_up, plan, samples, start};

fn batch(seqs: std::ops::Range<u64>, mode: Mode) -> Batch {
    let plan = plan("true", Pii::None, Erase::None);
    let entries = samples(0, seqs);
    let rows = entries.iter().map(|entry| match plan.prepare(entry).outcome {
        Outcome::Row(row) => row,
        other => panic!("{other:?}"),
    });
    Batch { rows: rows.collect(), mode }
}

fn sink(disk: &SimDisk, format: FileFormat) -> FilesSink {
    let config = FilesConfig { dir: "/out".into(), format, rows_max: 100, linger_ms: 0 };
    let columns = plan("true", Pii::None, Erase::None).mapping.columns().to_vec();
    FilesSink::new(config, columns, Arc::new(disk.clone()))
}

fn seqs_of(disk: &SimDisk) -> Vec<u64> {
    let mut found = Vec::new();
    for path in disk.files() {
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let text = String::from_utf8(disk.read_cached(&path).unwrap()).unwrap();
            found.extend(
                text.lines()
                    .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()),
            );
        }
    }
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_power_cut_leaves_neither_gap_nor_double() {
    for seed in seeds(60) {
        let mut rng = Seed::new(seed).rng();
        let disk = SimDisk::new(Seed::new(seed));
        disk.crash_at(Count::All, rng.below(60));
        let mut next = 0;
        for _ in 0..4 {
            let mut sink = sink(&disk, FileFormat::Jsonl);
            let opened = sink.open(&Cursor::default()).await;
            if let Ok(opened) = opened {
                let there = opened.high_water.map_or(0, |at| at.seq + 1);
                assert!(there >= next, "seed {seed}: {next} were confirmed, {there} are there");
                next = there;
                while next < 40 {
                    let end = (next + 1 + rng.below(9)).min(40);
                    if sink.deliver(&batch(next..end, Mode::Live)).await.is_err() {
                        break;
                    }
                    next = end;
                }
            }
            disk.crash(&mut rng);
        }
        assert_eq!(seqs_of(&disk), (0..40).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test]
async fn rows_that_are_there_are_left_alone() {
    for format in [FileFormat::Jsonl, FileFormat::Parquet] {
        let disk = SimDisk::default();
        let mut sink = sink(&disk, format);
        sink.open(&Cursor::default()).await.unwrap();
        sink.deliver(&batch(0..5, Mode::Live)).await.unwrap();
        sink.deliver(&batch(8..10, Mode::Live)).await.unwrap();
        for _ in 0..2 {
            sink.deliver(&batch(3..9, Mode::Keyed)).await.unwrap();
        }
        let opened = sink.open(&Cursor::default()).await.unwrap();
        assert_eq!(opened.high_water, Some(Position::new(0, 9)));
        let files: Vec<_> = disk.files().into_iter().filter(|path| path.starts_with("/out")).collect();
        assert_eq!(files.len(), 3, "{files:?}");
        if format == FileFormat::Jsonl {
            assert_eq!(seqs_of(&disk), (0..10).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_running_sink_writes_what_the_log_holds_and_goes_on_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("warehouse");
    let toml = format!(
        "name = \"files\"\nerase = \"none\"\nfilter = \"auditEvent.channelType = 'VOICE'\"\n[target]\nkind = \"files\"\n\
         format = \"jsonl\"\nlinger_ms = 0\ndir = {:?}",
        out.to_str().unwrap()
    );
    let feed = MemoryFeed::new(samples(0, 0..100));
    for end in [100, 250, 300] {
        let worker = start(&toml, home.path(), feed.clone());
        caught_up(&worker).await;
        let status = worker.status();
        assert_eq!(
            (status.replicated_up_to, status.lag_events, status.lag_ms),
            (Position::new(0, end), 0, 0)
        );
        assert_eq!(status.delivered + status.filtered, end);
        worker.stop().await;
        feed.push(samples(0, end..end + if end == 100 { 150 } else { 50 }));
    }
    let mut seqs = Vec::new();
    for entry in std::fs::read_dir(&out).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        seqs.extend(
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()),
        );
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (0..300).filter(|seq| seq % 3 != 0).collect::<Vec<_>>());
    assert!(Path::new(&out).exists());
}
