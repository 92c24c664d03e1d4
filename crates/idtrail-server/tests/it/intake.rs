//! Every door for events: batches, CloudEvents, EventBridge, the quarantine behind them, and the balance.

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::rig::{EVENTS, Installation, Running, files, query, sample};

const BATCH: &str = "/api/v1/events:batch";
const CANARY: &str = "canary8831772@example.com";

fn numbered(number: usize) -> Value {
    let mut event = sample();
    event["auditEvent"]["interactionId"] = json!(format!("i-{number}"));
    event
}

fn send(
    server: &Running,
    installation: &Installation,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> (u16, Value) {
    let mut request = Request::post(server.url(path)).header("x-api-key", &installation.key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(&server.send(request.body(body.into()).unwrap()))
}

fn read(response: &Response<Bytes>) -> (u16, Value) {
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
}

fn get(server: &Running, installation: &Installation, path: &str) -> (u16, Value) {
    let request = Request::get(server.url(path)).header("x-api-key", &installation.key);
    read(&server.send(request.body(Bytes::new()).unwrap()))
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_batch_gives_every_event_its_own_result_and_one_checkpoint() {
    let installation = Installation::new();
    let server = installation.start();
    let mut bad = numbered(3);
    bad["auditEvent"]["note"] = json!(CANARY);
    let events = json!([numbered(1), numbered(2), bad, numbered(1), "no event"]);
    let (status, answer) = send(&server, &installation, BATCH, &[JSON], events.to_string());
    assert_eq!(status, 200, "{answer}");
    let statuses: Vec<&str> =
        answer["items"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["created", "created", "invalid", "duplicate", "invalid"], "{answer}");
    assert_eq!(answer["items"][0]["index"], answer["items"][3]["index"]);
    assert_eq!(answer["items"][0]["leafHash"], answer["items"][3]["leafHash"]);
    assert_eq!(answer["items"][2]["errors"][0]["code"], "raw_pii");
    assert!(answer["items"][2]["quarantineId"].is_string());
    assert!(!answer.to_string().contains(CANARY));
    let checkpoint =
        installation.policy().open_checkpoint(answer["checkpoint"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(checkpoint.checkpoint.size.get(), answer["treeSize"].as_u64().unwrap());
    // The receipt of one event, later.
    let index = answer["items"][1]["index"].as_u64().unwrap();
    let (status, receipt) = get(&server, &installation, &format!("/api/v1/receipts/{index}"));
    assert_eq!((status, &receipt["leafHash"]), (200, &answer["items"][1]["leafHash"]));
    let bytes = serde_json::to_vec(&receipt).unwrap();
    assert_eq!(idtrail_verify::verify(&bytes, &installation.policy()).verdict.exit_code(), 0);
    assert_eq!(get(&server, &installation, "/api/v1/receipts/999").0, 404);
    // One JSON value a line, one of them broken.
    let lines = format!("{}\n\n{{\"auditEvent\": \n{}\n", numbered(7), numbered(8));
    let (status, answer) =
        send(&server, &installation, BATCH, &[("content-type", "application/x-ndjson")], lines);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["counts"]["created"], 2);
    assert_eq!(answer["items"][1]["status"], "unreadable");
    // With a key the n-th event is the n-th of that key.
    let keyed = [JSON, ("idempotency-key", "night-1")];
    let (_, first) =
        send(&server, &installation, BATCH, &keyed, json!([numbered(20), numbered(21)]).to_string());
    assert_eq!(first["counts"]["created"], 2);
    let (_, again) =
        send(&server, &installation, BATCH, &keyed, json!([numbered(20), numbered(22)]).to_string());
    assert_eq!(again["counts"]["duplicate"], 1);
    assert_eq!(again["items"][1]["status"], "conflict");
    for (body, expected) in [("{}", 400), ("[]", 400), ("[1,", 400), ("", 400)] {
        assert_eq!(send(&server, &installation, BATCH, &[JSON], body).0, expected, "{body}");
    }
    assert_eq!(send(&server, &installation, BATCH, &[("content-type", "text/csv")], "x").0, 415);
}

#[test]
fn cloud_events_and_event_bridge_carry_the_same_event() {
    let installation = Installation::new();
    let server = installation.start();
    let structured = json!({
        "specversion": "1.0", "id": "e-1", "source": "/genesys/flows", "type": "idtrail.audit", "subject": "s",
        "traceparent": "00-a-b-01", "data": numbered(1),
    });
    let media = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let (status, first) = send(&server, &installation, EVENTS, &media, structured.to_string());
    assert_eq!(status, 201, "{first}");
    // Another delivery has another trace, and is the same event; in binary mode too.
    let headers = [
        JSON,
        ("ce-specversion", "1.0"),
        ("ce-id", "e-1"),
        ("ce-source", "/genesys/flows"),
        ("ce-type", "idtrail.audit"),
        ("ce-subject", "%73"),
        ("ce-traceparent", "00-c-d-01"),
    ];
    let (status, second) = send(&server, &installation, EVENTS, &headers, numbered(1).to_string());
    assert_eq!((status, &second["index"]), (200, &first["index"]), "{second}");
    let (status, other) = send(&server, &installation, EVENTS, &headers, numbered(2).to_string());
    assert_eq!(status, 409, "{other}");
    assert!(other["quarantineId"].is_string());
    let (status, event) = get(&server, &installation, &format!("/api/v1/events/{}", first["index"]));
    assert_eq!(status, 200);
    assert_eq!(event["source"], "cloudevents");
    assert_eq!(event["otherMembers"]["cloudEvent"], json!({ "type": "idtrail.audit", "subject": "s" }));
    let batch = json!([structured, {
        "specversion": "1.0", "id": "e-2", "source": "s", "type": "t",
        "data_base64": data_encoding::BASE64.encode(numbered(3).to_string().as_bytes()),
    }, { "specversion": "0.3", "id": "e-3", "source": "s", "type": "t", "data": {} }]);
    let media = [("content-type", "application/cloudevents-batch+json")];
    let (status, answer) = send(&server, &installation, BATCH, &media, batch.to_string());
    assert_eq!(status, 200, "{answer}");
    let statuses: Vec<&Value> =
        answer["items"].as_array().unwrap().iter().map(|item| &item["status"]).collect();
    assert_eq!(statuses, ["duplicate", "created", "unreadable"]);
    let bridge = json!({
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": "audit", "source": "x.flow",
        "account": "123456789012", "time": "2026-01-01T00:00:00Z", "region": "eu-central-1",
        "resources": ["arn:aws:x"], "detail": { "auditEvent": numbered(4)["auditEvent"], "extra": 1 },
    });
    let (status, receipt) = send(&server, &installation, EVENTS, &[JSON], bridge.to_string());
    assert_eq!(status, 201, "{receipt}");
    let (_, event) = get(&server, &installation, &format!("/api/v1/events/{}", receipt["index"]));
    assert_eq!(event["source"], "eventbridge");
    assert_eq!(event["otherMembers"]["extra"], 1);
    assert_eq!(event["otherMembers"]["eventBridge"]["region"], "eu-central-1");
    assert_eq!(send(&server, &installation, EVENTS, &[JSON], bridge.to_string()).0, 200);
    for bad in [
        json!({ "specversion": "1.0", "id": "", "source": "s", "type": "t", "data": numbered(5) }),
        json!({ "specversion": "1.0", "id": "i", "source": "s", "type": "t" }),
        json!({ "specversion": "1.0", "id": "i", "source": "s", "type": "t", "data_base64": "!" }),
        json!({ "specversion": "1.0", "id": "i", "source": "s", "type": "t", "x": {}, "data": numbered(5) }),
    ] {
        let media = [("content-type", "application/cloudevents+json")];
        assert_eq!(send(&server, &installation, EVENTS, &media, bad.to_string()).0, 422, "{bad}");
    }
}

#[test]
fn what_is_refused_waits_in_the_quarantine_until_it_is_corrected() {
    let installation = Installation::new();
    let server = installation.start();
    let mut dirty = numbered(1);
    dirty["auditEvent"]["note"] = json!(CANARY);
    let (status, problem) = send(&server, &installation, EVENTS, &[JSON], dirty.to_string());
    assert_eq!(status, 422);
    let id = problem["quarantineId"].as_str().unwrap().to_owned();
    let mut unknown = numbered(2);
    unknown["auditEvent"]["eventType"] = json!("LOYALTY_LINK");
    let (_, problem) = send(&server, &installation, EVENTS, &[JSON], unknown.to_string());
    let later = problem["quarantineId"].as_str().unwrap().to_owned();
    let (status, problem) = send(&server, &installation, EVENTS, &[JSON], "{\"auditEvent\": nul");
    assert_eq!(status, 400);
    assert!(problem["quarantineId"].is_string(), "{problem}");
    let (_, list) = get(&server, &installation, "/api/v1/quarantine?limit=2");
    assert_eq!((list["entries"].as_array().unwrap().len(), &list["total"]), (2, &json!(3)));
    let next = list["next"].as_str().unwrap();
    let (_, rest) = get(&server, &installation, &format!("/api/v1/quarantine?limit=2&after={next}"));
    assert_eq!((rest["entries"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    let (_, entry) = get(&server, &installation, &format!("/api/v1/quarantine/{id}"));
    assert_eq!(
        entry["body"]["auditEvent"]["note"],
        json!({ "redacted": { "type": "string", "length": CANARY.len() } })
    );
    // A request for access names it.
    let response = server.access(&installation, &query("cust_hash_9f86d08"));
    let package: Value = serde_json::from_slice(response.body()).unwrap();
    let of = |package: &Value| {
        let systems = package["coverage"]["systems"].as_array().unwrap().clone();
        systems.into_iter().find(|system| system["system"] == "idtrail-quarantine").unwrap()["events"].clone()
    };
    assert_eq!(of(&package), 2);
    // It cannot be replayed as it is; the corrected one takes its place, under the sender's name.
    let replay = format!("/api/v1/quarantine/{id}/replay");
    let (status, problem) = send(&server, &installation, &replay, &[], "");
    assert_eq!((status, &problem["errors"][0]["code"]), (422, &json!("needs_correction")), "{problem}");
    assert_eq!(send(&server, &installation, &replay, &[JSON], dirty.to_string()).0, 422);
    let (status, receipt) = send(&server, &installation, &replay, &[JSON], numbered(1).to_string());
    assert_eq!(status, 201, "{receipt}");
    assert_eq!(get(&server, &installation, &format!("/api/v1/quarantine/{id}")).0, 404);
    // After a restart with another configuration the other one goes in as it came.
    server.stop();
    let config = installation.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[validation]\ncustom_types = [\"LOYALTY_LINK\"]\n")).unwrap();
    let server = installation.start();
    let (status, receipt) =
        send(&server, &installation, &format!("/api/v1/quarantine/{later}/replay"), &[], "");
    assert_eq!(status, 201, "{receipt}");
    let (_, event) = get(&server, &installation, &format!("/api/v1/events/{}", receipt["index"]));
    assert_eq!(event["auditEvent"], unknown["auditEvent"]);
    assert_eq!(event["system"], "contact-centre");
    let (_, list) = get(&server, &installation, "/api/v1/quarantine");
    let left = list["entries"][0]["id"].as_str().unwrap();
    assert_eq!((&list["total"], &list["entries"][0]["replayable"]), (&json!(1), &json!(false)));
    let delete = Request::delete(server.url(&format!("/api/v1/quarantine/{left}")))
        .header("x-api-key", &installation.key)
        .body(Bytes::new())
        .unwrap();
    assert_eq!(server.send(delete.clone()).status().as_u16(), 204);
    assert_eq!(server.send(delete).status().as_u16(), 404);
    server.stop();
    for file in files(&installation.home()) {
        let bytes = std::fs::read(&file).unwrap();
        for canary in [CANARY, "canary8831772", &data_encoding::HEXLOWER.encode(CANARY.as_bytes())] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{} holds {canary}", file.display());
        }
    }
    assert!(!installation.log.lock().unwrap().contains("canary8831772"));
}

#[test]
fn the_balance_adds_up_and_a_full_quarantine_is_no_silent_loss() {
    let installation = Installation::with("[quarantine]\nentries_max = 1\n[limits]\nevents_per_second = 4\n");
    let server = installation.start();
    let bad = |number: usize| {
        let mut event = numbered(number);
        event["auditEvent"]["eventType"] = json!("NOBODY_KNOWS");
        event.to_string()
    };
    let mut statuses = Vec::new();
    for body in [numbered(1).to_string(), numbered(1).to_string(), bad(2), bad(3)] {
        statuses.push(send(&server, &installation, EVENTS, &[JSON], body).0);
    }
    assert_eq!(statuses, [201, 200, 422, 503]);
    let forbidden =
        Request::post(server.url(EVENTS)).header("x-api-key", "idt_x_y_z").body(Bytes::new()).unwrap();
    assert_eq!(server.send(forbidden).status().as_u16(), 401);
    let (_, balance) = get(&server, &installation, "/api/v1/balance");
    let counts = &balance["systems"][0]["counts"];
    assert_eq!(
        counts,
        &json!({ "received": 4, "accepted": 1, "duplicate": 1, "quarantined": 1, "refused": 1 }),
        "{balance}"
    );
    assert_eq!((&balance["unknown"]["refused"], &balance["inQuarantine"]), (&json!(1), &json!(1)));
}
