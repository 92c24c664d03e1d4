//! Keys are destroyed over the API and the command line; everything that is left behaves as if nothing had been there.

use std::path::Path;

use http::StatusCode;
use idtrail_verify::{Package, Verdict};
use serde_json::{Value, json};

use crate::rig::{EVENTS, Installation, Running, idtrail, query, sample};

const SHRED: &str = "/api/v1/admin/shred";
const HOLDS: &str = "/api/v1/admin/holds";

fn event(customer: &str, number: u64) -> Value {
    let mut event = sample();
    event["auditEvent"]["resolvedCustomerId"] = json!(customer);
    event["auditEvent"]["interactionId"] = json!(format!("interaction-{number}"));
    event
}

struct Admin<'a> {
    server: &'a Running,
    key: &'a str,
}

impl Admin<'_> {
    fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let response = self.server.post(path, &[("x-api-key", self.key)], body.to_string());
        (response.status(), serde_json::from_slice(response.body()).unwrap())
    }

    fn shred(&self, request: &str, indices: &[u64], confirm: &str) -> (StatusCode, Value) {
        self.post(SHRED, &json!({ "requestId": request, "indices": indices, "confirm": confirm }))
    }
}

fn found(server: &Running, installation: &Installation, customer: &str) -> Vec<u64> {
    let answer = server.access(installation, &query(customer));
    let package: Package = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(idtrail_verify::verify(answer.body(), &installation.policy()).verdict, Verdict::Verified);
    package.events.iter().map(|event| event.index).collect()
}

/// Runs a command on the installation, which must not be served at the time.
fn command(installation: &Installation, arguments: &[&str]) -> (Option<i32>, String) {
    let config = installation.config();
    let output = idtrail(&[arguments, &["--config", config.to_str().unwrap()]].concat());
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn what_was_shredded_is_gone_everywhere_and_stays_gone() {
    let installation = Installation::new();
    let key = installation.credential(&["--name", "operations", "--role", "admin"]).1;
    let server = installation.start();
    let mut receipts = Vec::new();
    for number in 0..6 {
        let customer = ["erased-one", "kept-one"][number as usize % 2];
        let (status, receipt) = server.post_event(&installation, &event(customer, number));
        assert_eq!(status, StatusCode::CREATED);
        receipts.push(receipt);
    }
    let admin = Admin { server: &server, key: &key };
    let erased = found(&server, &installation, "erased-one");
    assert_eq!(erased, [2, 4, 6]);

    assert_eq!(admin.shred("r-1", &erased, "yes").0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(admin.shred("r-1", &[1], "shred 1 leaf").0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(admin.shred("r-1", &[99], "shred 1 leaf").0, StatusCode::NOT_FOUND);
    let refused = Admin { server: &server, key: &installation.key }.shred("r-1", &erased, "shred 3 leaves");
    assert_eq!(refused.0, StatusCode::FORBIDDEN);
    assert_eq!(found(&server, &installation, "erased-one"), erased, "nothing has happened yet");
    assert_eq!(admin.post(HOLDS, &json!({ "holdId": "case-1", "indices": [6] })).0, StatusCode::CREATED);
    let (status, outcome) = admin.shred("r-1", &erased, "shred 3 leaves");
    assert_eq!((status, &outcome["shredded"], &outcome["held"]), (StatusCode::OK, &json!(2), &json!([6])));
    let release = json!({ "requestId": "r-2", "confirm": "release case-1" });
    assert_eq!(admin.post(&format!("{HOLDS}/case-1/release"), &release).0, StatusCode::OK);
    assert_eq!(admin.shred("r-3", &erased, "shred 3 leaves").1["alreadyGone"], 2);
    let (_, again) = admin.shred("r-1", &erased, "shred 3 leaves");
    assert_eq!((&again["repeated"], &again["leafIndex"]), (&json!(true), &outcome["leafIndex"]));

    let check = |server: &Running| {
        assert_eq!(found(server, &installation, "erased-one"), [0_u64; 0]);
        assert_eq!(found(server, &installation, "kept-one"), [3, 5, 7]);
        let again =
            server.post(EVENTS, &[("x-api-key", &installation.key)], event("erased-one", 0).to_string());
        assert_eq!(again.status(), StatusCode::OK);
        assert_eq!(serde_json::from_slice::<Value>(again.body()).unwrap()["erased"], true);
        assert_eq!(server.post_event(&installation, &event("kept-one", 1)).1["index"], 3);
    };
    check(&server);
    for receipt in &receipts {
        let report = idtrail_verify::verify(receipt.to_string().as_bytes(), &installation.policy());
        assert_eq!(report.verdict, Verdict::Verified, "every receipt from before still verifies");
    }
    server.stop();
    let (code, text) = command(&installation, &["fsck"]);
    assert_eq!(code, Some(0), "{text}");
    let server = installation.start();
    check(&server);
    server.kill();
    check(&installation.start());
}

#[test]
fn the_command_line_does_the_same_and_asks_for_words() {
    let installation = Installation::new();
    let server = installation.start();
    for number in 0..4 {
        server.post_event(&installation, &event("one", number));
    }
    let (code, text) = command(&installation, &["shred", "--index", "2", "--confirm", "shred 1 leaf"]);
    assert_eq!(code, Some(74), "the server has it open: {text}");
    assert!(text.contains("/api/v1/admin"), "{text}");
    let (code, plan) = command(&installation, &["retention", "plan", "--json"]);
    assert_eq!(code, Some(0), "beside the running server: {plan}");
    server.stop();
    let (code, text) = command(&installation, &["shred", "--index", "2", "--index", "3,3"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("shred 2 leaves"), "{text}");
    assert_eq!(command(&installation, &["hold", "set", "case-9", "--index", "3"]).0, Some(0));
    assert!(command(&installation, &["hold", "list"]).1.contains("case-9  1 leaves"));
    let all = ["shred", "--index", "2,3", "--request", "r-1", "--confirm", "shred 2 leaves", "--json"];
    let (code, text) = command(&installation, &all);
    let outcome: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &outcome["shredded"], &outcome["held"]), (Some(0), &json!(1), &json!([3])));
    let (code, text) = command(&installation, &["hold", "release", "case-9", "--confirm", "release case-9"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(command(&installation, &["shred", "--index", "0", "--confirm", "shred 1 leaf"]).0, Some(2));

    let (_, plan) = command(&installation, &["retention", "plan", "--json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let periods = plan["periods"].as_array().unwrap();
    let of = |class: &str| periods.iter().find(|period| period["class"] == class).unwrap();
    assert_eq!((&of("identity")["leaves"], &of("identity")["unreadable"]), (&json!(4), &json!(1)));
    // Two from the start, an announcement and an outcome for each of shred and release, one each for a hold's set and end.
    assert_eq!((&of("system")["leaves"], &of("system")["state"]), (&json!(8), &json!("kept")));
    let (code, text) = command(&installation, &["retention", "apply", "--confirm", "apply retention"]);
    assert_eq!((code, text.trim()), (Some(0), "Nothing is due."));
    assert_eq!(command(&installation, &["fsck"]).0, Some(0));
}

#[test]
fn a_vault_from_before_a_shred_is_refused() {
    let installation = Installation::new();
    let server = installation.start();
    server.post_event(&installation, &event("one", 1));
    server.stop();
    let home = installation.home();
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    };
    let stores = [home.join("data/vault"), home.join("anchor")];
    for store in &stores {
        copy(store, &installation.dir.path().join("before").join(store.file_name().unwrap()));
    }
    assert_eq!(command(&installation, &["shred", "--index", "2", "--confirm", "shred 1 leaf"]).0, Some(0));
    for store in &stores {
        std::fs::remove_dir_all(store).unwrap();
        copy(&installation.dir.path().join("before").join(store.file_name().unwrap()), store);
    }
    let (code, text) = command(&installation, &["serve"]);
    assert_eq!(code, Some(74), "{text}");
    assert!(text.contains("rolled back"), "{text}");
}

#[test]
fn a_damaged_index_is_found_and_built_anew_and_the_answers_are_the_same() {
    let installation = Installation::new();
    let server = installation.start();
    for number in 0..20 {
        server.post_event(&installation, &event(["one", "two"][number as usize % 2], number));
    }
    let before = found(&server, &installation, "one");
    server.stop();
    let index = installation.home().join("data/index");
    let runs = || {
        let names = std::fs::read_dir(&index).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_string_lossy().contains("run-")).collect::<Vec<_>>()
    };
    assert_eq!(runs().len(), 1, "an orderly stop writes what was in memory");
    let (code, text) = command(&installation, &["rebuild", "--check", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["leaves"], 22);
    let mut bytes = std::fs::read(&runs()[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&runs()[0], bytes).unwrap();
    let (code, text) = command(&installation, &["rebuild", "--check"]);
    assert_eq!(code, Some(1), "{text}");
    let server = installation.start();
    assert_eq!(found(&server, &installation, "one"), before);
    assert_eq!(server.post_event(&installation, &event("one", 0)).1["index"], 2, "a repetition is known");
    assert_eq!(command(&installation, &["rebuild"]).0, Some(74), "not beside the server");
    server.kill();
    std::fs::remove_dir_all(&index).unwrap();
    let (code, text) = command(&installation, &["rebuild"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("22 leaves"), "{text}");
    let server = installation.start();
    assert_eq!(found(&server, &installation, "one"), before);
}
