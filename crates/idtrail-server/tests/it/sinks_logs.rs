//! Sinks over several logs: a restore starts the next log and the rows go on in it; what the old log lost is counted. And
//! a leaf that the disk changed holds nobody up.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::rig::{Installation, Running, files, idtrail, sample};

const LAKE: &str = "[sinks.lake]\nerase = \"none\"\n[sinks.lake.target]\nkind = \"files\"\nformat = \"jsonl\"\n\
                    dir = \"lake\"\nlinger_ms = 0\n";

fn event(number: u64) -> Value {
    let mut event = sample();
    event["auditEvent"]["interactionId"] = json!(format!("interaction-{number}"));
    event
}

fn post(server: &Running, of: &Installation, numbers: std::ops::Range<u64>) -> Vec<u64> {
    let indices = numbers.map(|number| {
        let (status, receipt) = server.post_event(of, &event(number));
        assert_eq!(status, StatusCode::CREATED, "{receipt}");
        receipt["index"].as_u64().unwrap()
    });
    indices.collect()
}

fn call(server: &Running, method: &str, path: &str, key: &str, body: &str) -> Value {
    let request = Request::builder()
        .method(method)
        .uri(server.url(path))
        .header("x-api-key", key)
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_owned()))
        .unwrap();
    let response = server.send(request);
    assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
    serde_json::from_slice(response.body()).unwrap()
}

fn caught_up(server: &Running, key: &str) -> Value {
    let started = Instant::now();
    loop {
        let state = call(server, "GET", "/api/v1/sinks/lake", key, "");
        if state["lagEvents"] == 0 && state["state"] == "delivering" {
            return state;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{state}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Log and index of every row, in the order of the files' names.
fn rows(lake: &Path) -> Vec<(u64, u64)> {
    let mut all = files(lake);
    all.sort();
    let texts: Vec<String> = all.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let place = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["log_id"].as_u64().unwrap(), row["seq"].as_u64().unwrap())
    };
    texts.iter().flat_map(|text| text.lines()).map(place).collect()
}

fn command(of: &Installation, arguments: &[&str]) {
    let output = idtrail(&[arguments, &["--config", of.config().to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The high-water mark beside the anchors is written once a second; a backup goes up to it.
fn wait_for_mark(server: &Running, home: &Path) {
    let checkpoint = String::from_utf8(server.get("/checkpoint").body().to_vec()).unwrap();
    let mut lines = checkpoint.lines();
    let (origin, size) = (lines.next().unwrap(), lines.next().unwrap());
    let (started, wanted) = (Instant::now(), format!("{size} {origin}"));
    let marks = || std::fs::read_to_string(home.join("anchor/cell.high-water")).unwrap_or_default();
    while !marks().lines().any(|line| line == wanted) {
        assert!(started.elapsed() < Duration::from_secs(10), "{wanted} is not in {}", marks());
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn rows_go_on_in_the_next_log_and_what_was_lost_is_counted() {
    let installation = Installation::with(LAKE);
    let operator = installation.credential(&["--name", "operator", "--role", "operator"]).1;
    let config = installation.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[vault]", "[vault]\ncopies = [\"copy\"]")).unwrap();
    let lake = installation.home().join("lake");
    let mut expected: Vec<(u64, u64)> = Vec::new();
    let mut sizes = 0;
    // Each round: some events, a backup, more events that reach the lake, and the disk is lost.
    for log in 0..3_u64 {
        let server = installation.start();
        let first = log * 10;
        let mut indices = post(&server, &installation, first..first + 4);
        let state = caught_up(&server, &operator);
        assert_eq!(state["replicatedUpTo"], format!("{log}/{}", indices[3] + 1));
        wait_for_mark(&server, &installation.home());
        let backup = installation.dir.path().join(format!("backup-{log}"));
        command(&installation, &["backup", backup.to_str().unwrap(), "--on-one-device"]);
        indices.extend(post(&server, &installation, first + 4..first + 7));
        expected.extend(indices.iter().map(|index| (log, *index)));
        let state = caught_up(&server, &operator);
        assert_eq!(rows(&lake), expected, "log {log}");
        let known = state["beyond"].as_array().unwrap().len() as u64;
        // The sink's memory came back with each backup, and the newest loss is learnt from the lake.
        assert_eq!(known, log, "{state}");
        if log > 0 {
            let survived = format!("{}/{}", log - 1, indices[0] + 4);
            assert_eq!(
                state["beyond"].as_array().unwrap().last().unwrap(),
                &json!({ "survived": survived, "newest": format!("{}/{}", log - 1, indices[0] + 6), "rows": 3, "rowsMax": 3 }),
            );
        }
        assert_eq!(state["settled"], json!(sizes + indices[6] + 1), "{state}");
        sizes += indices[3] + 1;
        wait_for_mark(&server, &installation.home());
        server.kill();
        std::fs::remove_dir_all(installation.home().join("data")).unwrap();
        command(&installation, &["restore", backup.to_str().unwrap()]);
    }
    // Everything anew, from three logs: only what survived.
    std::fs::remove_dir_all(&lake).unwrap();
    std::fs::remove_dir_all(installation.home().join("data/sinks/lake")).unwrap();
    let server = installation.start();
    caught_up(&server, &operator);
    let survived: Vec<(u64, u64)> =
        expected.chunks(7).flat_map(|of_log| of_log.iter().take(4).copied()).collect();
    assert_eq!(rows(&lake), survived);
    // A preview runs over the border as well.
    let shown = call(&server, "GET", "/api/v1/sinks/lake/preview?count=12", &operator, "");
    let logs: std::collections::BTreeSet<&str> = shown["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["at"].as_str()?.split('/').next())
        .collect();
    assert!(logs.len() > 1, "{shown}");
    server.stop();
}

#[test]
fn a_leaf_that_the_disk_changed_becomes_a_dead_letter_and_holds_nobody_up() {
    let installation = Installation::with(LAKE);
    let operator = installation.credential(&["--name", "operator", "--role", "operator"]).1;
    let server = installation.start();
    let lake = installation.home().join("lake");
    let mut indices = post(&server, &installation, 0..3);
    caught_up(&server, &operator);
    call(&server, "POST", "/api/v1/sinks/lake/pause", &operator, "{}");
    indices.extend(post(&server, &installation, 3..6));
    let bad = indices[4];
    let leaf = leaf_bytes(&server, &installation.key, bad);
    let segment = files(&installation.home().join("data/log/0000/segments"))
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "seg"))
        .unwrap();
    let all = std::fs::read(&segment).unwrap();
    let at = all.windows(leaf.len()).position(|part| part == leaf).unwrap() + leaf.len() - 3;
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&[all[at] ^ 1], at as u64).unwrap();
    call(&server, "POST", "/api/v1/sinks/lake/resume", &operator, "{}");
    let state = caught_up(&server, &operator);
    assert_eq!((&state["dead"], &state["delivered"]), (&json!(1), &json!(5)), "{state}");
    let letters = call(&server, "GET", "/api/v1/sinks/lake/dead-letters", &operator, "");
    let letter = &letters["deadLetters"][0];
    assert_eq!(
        (&letter["at"], &letter["code"], &letter["column"]),
        (&json!(format!("0/{bad}")), &json!("leaf_damaged"), &Value::Null)
    );
    // Mended, for instance from a backup, it is sent like any dead letter.
    file.write_all_at(&[all[at]], at as u64).unwrap();
    call(&server, "POST", "/api/v1/sinks/lake/replay", &operator, "{\"deadLetters\":\"all\"}");
    let started = Instant::now();
    while call(&server, "GET", "/api/v1/sinks/lake", &operator, "")["dead"] != 0 {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let mut found: Vec<u64> = rows(&lake).iter().map(|(_, index)| *index).collect();
    found.sort_unstable();
    assert_eq!(found, indices);
    server.stop();
}

/// Reads a leaf from the tile that holds it.
fn leaf_bytes(server: &Running, key: &str, index: u64) -> Vec<u8> {
    let size = String::from_utf8(server.get("/checkpoint").body().to_vec()).unwrap();
    let size: u64 = size.lines().nth(1).unwrap().parse().unwrap();
    let path = server.url(&format!("/tile/entries/000.p/{size}"));
    let answer = server.send(Request::get(path).header("x-api-key", key).body(Bytes::new()).unwrap());
    assert_eq!(answer.status(), StatusCode::OK);
    let mut rest: &[u8] = answer.body();
    for _ in 0..index {
        let (length, behind) = rest.split_first_chunk::<2>().unwrap();
        rest = &behind[usize::from(u16::from_be_bytes(*length))..];
    }
    let (length, behind) = rest.split_first_chunk::<2>().unwrap();
    behind[..usize::from(u16::from_be_bytes(*length))].to_vec()
}
