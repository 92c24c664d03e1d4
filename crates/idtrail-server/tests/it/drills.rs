//! What an operator does by hand, done by hand: a backup with everything that cannot be made again, and other keys in the
//! place of old ones. docs/operations.md describes each.

use http::StatusCode;
use idtrail_tlog::{Policy, VerifierKey};
use idtrail_verify::Verdict;
use serde_json::{Value, json};

use crate::office::Office;
use crate::origins::{command, event, get, installation, lose_the_disk, package, places, post};
use crate::rig::{EVENTS, Installation, Running};

const ADMIN: [&str; 6] = ["--name", "operations", "--role", "admin", "--role", "operator"];

/// Posts an event of a type that is not known, which is kept in the quarantine.
fn refuse(server: &Running, of: &Installation, customer: &str, number: u64) -> String {
    let mut refused = event(customer, number);
    refused["auditEvent"]["eventType"] = json!("NOT_YET");
    let (status, problem) = server.post_event(of, &refused);
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    problem["quarantineId"].as_str().unwrap().to_owned()
}

fn quarantined(server: &Running, of: &Installation) -> Vec<String> {
    let (_, list) = get(server, of, "/api/v1/quarantine");
    let mut ids: Vec<String> = list["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

#[test]
fn what_cannot_be_made_again_is_in_a_backup_and_what_was_destroyed_since_stays_so() {
    let installation = installation("[rights]\ngrace_hours = 0\n");
    let of = &installation;
    let admin = of.credential(&ADMIN).1;
    let second = of.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let backup = of.dir.path().join("backup");
    let server = of.start();
    for number in 0..4 {
        let customer = ["erased-one", "kept-one"][number as usize % 2];
        post(&server, of, &event(customer, number), StatusCode::CREATED);
    }
    let kept = refuse(&server, of, "kept-one", 20);
    let discarded = refuse(&server, of, "kept-one", 21);
    let erased = refuse(&server, of, "erased-one", 22);
    let replayed = refuse(&server, of, "kept-one", 23);
    assert_eq!(quarantined(&server, of).len(), 4);
    let sink = json!({
        "name": "added", "erase": "none",
        "target": { "kind": "files", "format": "jsonl", "dir": "added", "linger_ms": 0 },
    });
    let added = server.post("/api/v1/sinks", &[("x-api-key", &admin)], sink.to_string());
    assert_eq!(added.status(), StatusCode::CREATED, "{:?}", added.body());
    let office = Office::open(&server, of, &second);
    let erasure = office.request("ERASURE", "kept-one");
    office.verify(&erasure);
    let planned = office.until(&erasure, "PLANNED");
    drop(office);
    server.stop();
    let (exit, made) = command(of, &["backup", backup.to_str().unwrap(), "--on-one-device"]);
    assert_eq!(exit, Some(0), "{made}");
    let paths: Vec<&str> = made["backup"]["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    for path in ["credentials.json", "sinks.json", "sinks/added/cursor", &format!("quarantine/{kept}")] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
    assert!(paths.iter().any(|path| path.starts_with("rights/")), "{paths:?}");

    // After the backup: one is discarded, one goes with its customer, one is corrected.
    let server = of.start();
    let discard = http::Request::delete(server.url(&format!("/api/v1/quarantine/{discarded}")));
    let discard = server.send(discard.header("x-api-key", &of.key).body(bytes::Bytes::new()).unwrap());
    assert_eq!(discard.status(), StatusCode::NO_CONTENT);
    let order = json!({ "requestId": "r-1", "indices": [2, 4], "confirm": "shred 2 leaves" });
    let done = server.post("/api/v1/admin/shred", &[("x-api-key", &admin)], order.to_string());
    assert_eq!(done.status(), StatusCode::OK, "{:?}", done.body());
    let path = format!("/api/v1/quarantine/{replayed}/replay");
    let corrected = server.post(&path, &[("x-api-key", &of.key)], event("kept-one", 23).to_string());
    assert_eq!(corrected.status(), StatusCode::CREATED, "{:?}", corrected.body());
    assert_eq!(quarantined(&server, of), [kept.clone()], "{erased} went with its customer");
    server.kill();
    lose_the_disk(of);
    let (exit, restored) = command(of, &["restore", backup.to_str().unwrap()]);
    assert_eq!(exit, Some(0), "{restored}");
    assert_eq!(restored["files"], json!(paths.len()));

    // The same credentials as before, and all of it is there.
    let server = of.start();
    assert_eq!(quarantined(&server, of), [kept.clone()], "nothing that was destroyed has come back");
    let (status, entry) = get(&server, of, &format!("/api/v1/quarantine/{kept}"));
    assert_eq!((status, &entry["id"]), (StatusCode::OK, &json!(kept)), "{entry}");
    let request = http::Request::get(server.url("/api/v1/sinks/added")).header("x-api-key", &admin);
    let sink = server.send(request.body(bytes::Bytes::new()).unwrap());
    let sink: Value = serde_json::from_slice(sink.body()).unwrap();
    assert_eq!((&sink["name"], &sink["source"]), (&json!("added"), &json!("api")), "{sink}");
    let again = server.post(EVENTS, &[("x-api-key", &of.key)], event("erased-one", 0).to_string());
    assert_eq!(serde_json::from_slice::<Value>(again.body()).unwrap()["erased"], true);
    let office = Office::open(&server, of, &second);
    // The plan counted on one log and there are two now, so it is given up at the freeze, and another one is made.
    let shown = office.until(&erasure, "PLANNED");
    assert_eq!((&shown["requestId"], &shown["plan"]), (&planned["requestId"], &planned["plan"]));
    office.approve(&erasure);
    office.until_that(&erasure, "another plan", &|shown| {
        shown["state"] == "PLANNED" && shown["plan"]["hash"] != planned["plan"]["hash"]
    });
    office.approve(&erasure);
    office.until(&erasure, "WAITING_EXTERNAL");
    let attested = json!({ "item": "sink/added", "count": 3, "evidence": "9f".repeat(32) });
    let (status, said) = office.say(&erasure, 0, "attest", attested);
    assert_eq!(status, StatusCode::OK, "{said}");
    office.until(&erasure, "CLOSED_FULFILLED");
    let policy = Policy::parse(restored["policy"].as_str().unwrap()).unwrap();
    let report = idtrail_verify::verify_certificate(&office.certificate(&erasure), &policy);
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    let left = serde_json::to_value(package(&server, of, "kept-one", &policy).events).unwrap();
    let left = left.as_array().unwrap();
    assert!(!left.is_empty() && left.iter().all(|one| one["auditEvent"]["eventType"] == "DATA_DELETION"));
    assert!(quarantined(&server, of).is_empty(), "the request reached the quarantine that was restored");
    drop(office);
    server.stop();
}

#[test]
fn a_log_goes_on_under_another_key_and_everything_before_still_verifies() {
    let installation = installation("");
    let policy_file = installation.home().join("policy-2.txt");
    let server = installation.start();
    let before = post(&server, &installation, &event("one", 1), StatusCode::CREATED);
    let archived = package(&server, &installation, "one", &installation.policy());
    let accesses = idtrail_verify::access_origin(&before.origin);
    let path = format!("/api/v1/access-log/2/receipt?origin={accesses}");
    let (_, access_receipt) = get(&server, &installation, &path);
    let arguments = ["rotate", "log-key", "--policy", policy_file.to_str().unwrap()];
    assert_eq!(command(&installation, &arguments).0, Some(74), "not beside the server");
    server.stop();
    let (exit, rotated) = command(&installation, &arguments);
    assert_eq!(exit, Some(0), "{rotated}");
    assert_eq!((&rotated["origin"], &rotated["treeSize"]), (&json!(before.origin), &json!(4)));
    let text = std::fs::read_to_string(&policy_file).unwrap();
    assert!(text.contains("signed trees up to size 4") && text.contains("signs now"), "{text}");
    let policy = Policy::parse(&text).unwrap();
    let old: Vec<VerifierKey> = installation.policy().logs().iter().map(|log| log.key.clone()).collect();
    let keys: Vec<VerifierKey> = policy.logs().iter().map(|log| log.key.clone()).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.contains(&old[0]) && keys.iter().all(|key| key.name() == before.origin));

    let backup = installation.dir.path().join("backup");
    for round in ["at once", "after a restore"] {
        let policy = if round == "at once" {
            policy.clone()
        } else {
            let (exit, made) =
                command(&installation, &["backup", backup.to_str().unwrap(), "--on-one-device"]);
            assert_eq!(exit, Some(0), "{made}");
            lose_the_disk(&installation);
            let (exit, restored) = command(&installation, &["restore", backup.to_str().unwrap()]);
            assert_eq!(exit, Some(0), "{restored}");
            Policy::parse(restored["policy"].as_str().unwrap()).unwrap()
        };
        let server = installation.start();
        let number = if round == "at once" { 2 } else { 3 };
        let after = post(&server, &installation, &event("one", number), StatusCode::CREATED);
        if round == "at once" {
            let only_old =
                idtrail_verify::verify(&serde_json::to_vec(&after).unwrap(), &installation.policy());
            assert_ne!(only_old.verdict, Verdict::Verified, "who pins the old key alone is told");
        }
        for receipt in [&before, &after] {
            let report = idtrail_verify::verify(&serde_json::to_vec(receipt).unwrap(), &policy);
            assert_eq!(report.verdict, Verdict::Verified, "{round}: {report:?}");
        }
        for old in [serde_json::to_vec(&archived).unwrap(), access_receipt.to_string().into_bytes()] {
            let report = idtrail_verify::verify(&old, &policy);
            assert_eq!(report.verdict, Verdict::Verified, "{round}: {report:?}");
        }
        let all = package(&server, &installation, "one", &policy);
        assert_eq!(places(&all).len(), number as usize, "{round}");
        let (_, receipt) =
            get(&server, &installation, &format!("/api/v1/receipts/2?origin={}", before.origin));
        let report = idtrail_verify::verify(receipt.to_string().as_bytes(), &policy);
        assert_eq!(report.verdict, Verdict::Verified, "{round}: a new proof of an old leaf: {report:?}");
        server.stop();
        let (exit, checked) = command(&installation, &["fsck"]);
        assert_eq!(exit, Some(0), "{round}: {checked}");
    }
}

#[test]
fn the_key_encryption_key_is_replaced_and_a_run_that_was_cut_short_is_finished() {
    let installation = installation("");
    let server = installation.start();
    let before = post(&server, &installation, &event("one", 1), StatusCode::CREATED);
    server.stop();
    let (key, new) = (installation.home().join("kek.key"), installation.home().join("kek.key.new"));
    let old = std::fs::read(&key).unwrap();
    let (exit, said) = command(&installation, &["rotate", "kek"]);
    assert_eq!(exit, Some(0), "{said}");
    let second = std::fs::read(&key).unwrap();
    assert!(second != old && !new.exists());
    let again = |installation: &Installation, number: u64| {
        let server = installation.start();
        let known = post(&server, installation, &event("one", 1), StatusCode::OK);
        assert_eq!((known.index, &known.leaf_hash), (before.index, &before.leaf_hash));
        post(&server, installation, &event("one", number), StatusCode::CREATED);
        server.stop();
    };
    again(&installation, 2);
    std::fs::write(&key, &old).unwrap();
    assert_ne!(command(&installation, &["retention", "plan"]).0, Some(0), "the old key opens nothing");
    // As if the process had ended between the vault and the file: the new key waits beside the old one.
    std::fs::write(&new, &second).unwrap();
    let (exit, said) = command(&installation, &["rotate", "kek"]);
    assert_eq!(exit, Some(0), "{said}");
    assert!(std::fs::read(&key).unwrap() == second && !new.exists());
    again(&installation, 3);
}

#[test]
fn after_a_new_pepper_old_tokens_lead_to_the_same_person() {
    let installation = installation("");
    let key = installation.credential(&["--name", "flow", "--role", "resolve", "--role", "ingest"]).1;
    let ask = |server: &Running, path: &str, body: Value| -> Value {
        let answer = server.post(path, &[("x-api-key", &key)], body.to_string());
        assert!(answer.status().is_success(), "{path} {:?}", answer.body());
        serde_json::from_slice(answer.body()).unwrap()
    };
    let phone = json!([{ "type": "phone", "value": "+14155552671", "assurance": 1 }]);
    let resolve = |server: &Running, interaction: &str| {
        let body = json!({ "interactionId": interaction, "channelType": "VOICE", "identifiers": phone });
        ask(server, "/api/v1/identity/resolve", body)["gcid"].as_str().unwrap().to_owned()
    };
    let token = |server: &Running| {
        let made = ask(server, "/api/v1/identity:tokenize", json!({ "identifiers": phone }));
        made["tokens"][0]["token"].as_str().unwrap().to_owned()
    };
    let whose = |server: &Running, token: &str| {
        let found = package(server, &installation, token, &installation.policy());
        (found.customer.clone().unwrap().global_customer_id, places(&found).len())
    };
    let server = installation.start();
    let customer = resolve(&server, "call-1");
    let old = token(&server);
    assert_eq!(whose(&server, &old), (customer.clone(), 1));
    server.stop();
    let (exit, said) = command(&installation, &["rotate", "pepper"]);
    assert_eq!((exit, &said["pepperVersion"]), (Some(0), &json!(2)), "{said}");
    let server = installation.start();
    let new = token(&server);
    assert_ne!(old, new);
    assert_eq!(whose(&server, &old), (customer.clone(), 1), "the old token is known");
    assert_eq!(resolve(&server, "call-2"), customer, "whoever shows the number is known");
    for token in [&old, &new] {
        assert_eq!(whose(&server, token), (customer.clone(), 2), "both tokens lead there");
    }
    server.stop();
    let server = installation.start();
    assert_eq!(resolve(&server, "call-3"), customer, "also after the leaves were read again");
    server.stop();
}
