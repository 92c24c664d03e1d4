//! What a member of staff did is taken out of events, which stay; and the process' log as JSON.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use http::StatusCode;
use idtrail_verify::Verdict;
use serde_json::{Value, json};

use crate::origins::{command, event, get, installation, package, places, post};
use crate::rig::{Installation, Running};

fn worked(customer: &str, number: u64, agent: &str) -> Value {
    let mut event = event(customer, number);
    event["auditEvent"]["agentId"] = json!(agent);
    event
}

#[test]
fn what_says_that_somebody_acted_goes_and_the_events_stay() {
    let installation = installation("");
    let of = &installation;
    let admin = of.credential(&["--name", "operations", "--role", "admin"]).1;
    let server = of.start();
    let receipts: Vec<_> = (0..6)
        .map(|number| {
            let agent = ["agent-gone", "agent-stays", "agent-gone"][number as usize % 3];
            post(&server, of, &worked("one", number, agent), StatusCode::CREATED)
        })
        .collect();
    let shred = |server: &Running, body: Value| {
        let answer = server.post("/api/v1/admin/shred", &[("x-api-key", &admin)], body.to_string());
        (answer.status(), serde_json::from_slice::<Value>(answer.body()).unwrap())
    };
    let agents = |server: &Running| -> Vec<Value> {
        let (_, page) = get(server, of, "/api/v1/events");
        let events = page["events"].as_array().unwrap().iter();
        events.map(|event| event["auditEvent"]["agentId"].clone()).collect()
    };
    let before = agents(&server);
    assert_eq!(before.iter().filter(|agent| **agent == "agent-gone").count(), 4, "{before:?}");
    let (status, counted) =
        shred(&server, json!({ "requestId": "s-1", "staff": "agent-gone", "dryRun": true }));
    assert_eq!((status, &counted["leaves"], &counted["shredded"]), (StatusCode::OK, &json!(4), &json!(0)));
    let order = |confirm: &str| json!({ "requestId": "s-1", "staff": "agent-gone", "confirm": confirm });
    assert_eq!(shred(&server, order("shred staff of 3 leaves")).0, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, done) = shred(&server, order("shred staff of 4 leaves"));
    assert_eq!((status, &done["shredded"]), (StatusCode::OK, &json!(4)), "{done}");
    let (_, again) = shred(&server, order("shred staff of 4 leaves"));
    assert_eq!((&again["repeated"], &again["leafIndex"]), (&json!(true), &done["leafIndex"]), "{again}");

    let check = |server: &Running| {
        let left = agents(server);
        assert_eq!(left.iter().filter(|agent| agent.is_null()).count(), 4, "{left:?}");
        assert_eq!(left.iter().filter(|agent| **agent == "agent-stays").count(), 2);
        let whole = package(server, of, "one", &of.policy());
        assert_eq!(places(&whole).len(), 6, "every event stays, and the package of them verifies");
        assert!(!serde_json::to_string(&whole).unwrap().contains("agent-gone"));
        for receipt in &receipts {
            let report = idtrail_verify::verify(&serde_json::to_vec(receipt).unwrap(), &of.policy());
            assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
        }
        // A repetition would bring the name back.
        let again = server.post_event(of, &worked("one", 0, "agent-gone"));
        assert_eq!((again.0, &again.1["erased"]), (StatusCode::OK, &json!(true)));
        let known = post(server, of, &worked("one", 1, "agent-stays"), StatusCode::OK);
        assert_eq!(known.index, receipts[1].index);
    };
    check(&server);
    let one =
        json!({ "requestId": "s-2", "indices": [3], "staffOnly": true, "confirm": "shred staff of 1 leaf" });
    server.kill();
    check(&of.start());
    assert_eq!(command(of, &["rebuild"]).0, Some(0));
    assert_eq!(command(of, &["fsck"]).0, Some(0));
    let server = of.start();
    check(&server);
    let (status, done) = shred(&server, one);
    assert_eq!((status, &done["shredded"]), (StatusCode::OK, &json!(1)), "{done}");
    assert_eq!(places(&package(&server, of, "one", &of.policy())).len(), 6);
    server.stop();
    let arguments = ["shred", "--staff", "agent-stays", "--confirm", "shred staff of 1 leaf"];
    let (exit, done) = command(of, &arguments);
    assert_eq!((exit, &done["shredded"]), (Some(0), &json!(1)), "{done}");
}

#[test]
fn the_process_log_as_json_is_one_object_a_line() {
    let installation = Installation::with("[log]\nformat = \"json\"\n");
    let mut child = Command::new(env!("CARGO_BIN_EXE_idtrail"))
        .args(["serve", "--config", installation.config().to_str().unwrap()])
        .env("RUST_LOG", "info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen: Vec<Value> = Vec::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        let listens = value.get("address").is_some();
        seen.push(value);
        if listens {
            break;
        }
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    for line in lines {
        let line = line.unwrap();
        seen.push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}")));
    }
    assert!(child.wait().unwrap().success());
    assert!(seen.len() > 1, "{seen:?}");
    for line in &seen {
        for member in ["timestamp", "level", "message", "target"] {
            assert!(line[member].is_string(), "{member} in {line}");
        }
    }
    let messages: Vec<&str> = seen.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert!(messages.iter().all(|message| !message.contains('{')), "messages are constant: {messages:?}");
}
