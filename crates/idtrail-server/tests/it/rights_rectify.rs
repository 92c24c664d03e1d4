//! Corrections: the event is said again as it should be, the wrong leaf does not open any more, and nobody else changes.

use http::StatusCode;
use serde_json::{Value, json};

use crate::office::{Office, event, found};
use crate::rig::{EVENTS, Installation, query};

fn package(server: &crate::rig::Running, installation: &Installation, customer: &str) -> Value {
    serde_json::from_slice(server.access(installation, &query(customer)).body()).unwrap()
}

fn interactions(package: &Value) -> Vec<&str> {
    let events = package["events"].as_array().unwrap().iter();
    events.map(|event| event["auditEvent"]["interactionId"].as_str().unwrap()).collect()
}

#[test]
fn one_field_is_corrected_and_one_whole_leaf() {
    let installation = Installation::with("[limits]\nreads_per_second = 0\n");
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let server = installation.start();
    for number in 0..3 {
        server.post_event(&installation, &event("one", number));
        server.post_event(&installation, &event("other", number));
    }
    let (before, others) = (found(&server, &installation, "one"), found(&server, &installation, "other"));
    let of_one = package(&server, &installation, "one")["customer"].clone();
    let office = Office::open(&server, &installation, &second);
    let whole = event("one", 88)["auditEvent"].clone();
    let field = json!({ "index": before[0], "pointer": "/interactionId", "value": "one-call-77" });
    let leaf = json!({ "index": before[1], "pointer": "", "value": whole });
    let open = |kind: &str, corrections: Value| {
        office.post("", 0, &json!({ "kind": kind, "customerIdHash": "one", "corrections": corrections }))
    };
    for (kind, wrong) in [
        ("RECTIFICATION", json!([{ "index": others[0], "pointer": "/interactionId", "value": "x" }])),
        ("RECTIFICATION", json!([{ "index": 0, "pointer": "/interactionId", "value": "x" }])),
        ("RECTIFICATION", json!([{ "index": before[0], "pointer": "/no/such", "value": "x" }])),
        ("RECTIFICATION", json!([{ "index": before[0], "pointer": "/nowhere" }])),
        (
            "RECTIFICATION",
            json!([{ "index": before[0], "pointer": "/interactionId", "value": "one-call-0" }]),
        ),
        ("RECTIFICATION", json!([{ "index": before[0], "pointer": "/timestamp", "value": "yesterday" }])),
        ("RECTIFICATION", json!([{ "index": before[0], "pointer": "", "value": 7 }])),
        ("RECTIFICATION", json!([{ "index": before[0] }])),
        ("ERASURE", json!([field])),
    ] {
        let (status, problem) = open(kind, wrong.clone());
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong} {problem}");
    }

    let (status, opened) = open("RECTIFICATION", json!([field, leaf]));
    assert_eq!(status, StatusCode::CREATED, "{opened}");
    let id = opened["requestId"].as_str().unwrap();
    office.verify(id);
    let planned = office.until(id, "PLANNED");
    assert_eq!(planned["items"]["idtrail/events"]["found"], json!(2), "{planned:#}");
    assert_eq!(found(&server, &installation, "one"), before, "nothing is done before it is approved");
    office.approve(id);
    let closed = office.until(id, "CLOSED_FULFILLED");
    assert_eq!(closed["items"]["idtrail/events"]["status"], "VERIFIED_DONE", "{closed:#}");
    let report = idtrail_verify::verify_certificate(&office.certificate(id), &installation.policy());
    assert_eq!(report.verdict, idtrail_verify::Verdict::Verified);

    let after = package(&server, &installation, "one");
    assert_eq!(interactions(&after), ["one-call-2", "one-call-77", "one-call-88"], "{after:#}");
    assert_eq!(after["customer"], of_one, "it is the same customer");
    assert_eq!(found(&server, &installation, "other"), others);
    // The wrong event cannot come back, and the right ones are there once.
    let again = server.post(EVENTS, &[("x-api-key", &installation.key)], event("one", 0).to_string());
    assert_eq!(serde_json::from_slice::<Value>(again.body()).unwrap()["erased"], true);
    drop(office);
    server.stop();
    let server = installation.start();
    let office = Office::open(&server, &installation, &second);
    office.until_up();
    assert_eq!(interactions(&package(&server, &installation, "one")), interactions(&after));
    assert_eq!(office.shown(id)["state"], "CLOSED_FULFILLED");
}
