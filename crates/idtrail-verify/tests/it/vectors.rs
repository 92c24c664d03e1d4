//! The published vectors in `vectors/verify`: every case of the tables of this crate's tests, for verifiers in any
//! language. `IDTRAIL_WRITE_VECTORS=1 cargo test -p idtrail-verify` writes the files anew, when a format changes.

use std::path::PathBuf;

use idtrail_verify::{Receipt, Report, Verdict, verify};
use serde_json::{Value, json};

use crate::package::CHANGES as PACKAGE_CHANGES;
use crate::receipt::CHANGES as RECEIPT_CHANGES;
use crate::rig::{self, ORIGIN, policy};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/verify").join(name)
}

/// Appends RFC 6902 operations that turn `from` into `to`.
fn difference(pointer: &str, from: &Value, to: &Value, operations: &mut Vec<Value>) {
    match (from, to) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                let pointer = format!("{pointer}/{name}");
                match new.get(name) {
                    Some(other) => difference(&pointer, value, other, operations),
                    None => operations.push(json!({ "op": "remove", "path": pointer })),
                }
            }
            for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                operations.push(json!({ "op": "add", "path": format!("{pointer}/{name}"), "value": value }));
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                difference(&format!("{pointer}/{at}"), old, new, operations);
            }
        }
        _ if from != to => operations.push(json!({ "op": "replace", "path": pointer, "value": to })),
        _ => {}
    }
}

fn patched(document: &Value, operations: &Value) -> Value {
    let mut document = document.clone();
    for operation in operations.as_array().unwrap() {
        let pointer = operation["path"].as_str().unwrap();
        match operation["op"].as_str().unwrap() {
            "replace" => *document.pointer_mut(pointer).unwrap() = operation["value"].clone(),
            op => {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
                match op {
                    "add" => assert!(parent.insert(name.to_owned(), operation["value"].clone()).is_none()),
                    "remove" => assert!(parent.remove(name).is_some()),
                    other => panic!("{other}"),
                }
            }
        }
    }
    document
}

fn case(name: &str, good: &Value, changed: &Value, report: &Report) -> Value {
    let mut patch = Vec::new();
    difference("", good, changed, &mut patch);
    let place =
        report.first_bad.as_ref().map(|place| json!({ "origin": place.origin, "index": place.index }));
    json!({ "name": name, "patch": patch, "verdict": report.verdict, "exitCode": report.verdict.exit_code(), "firstBad": place })
}

fn checked(document: &Value) -> Report {
    verify(&serde_json::to_vec(document).unwrap(), &policy(&[ORIGIN]))
}

fn packages() -> Value {
    let good = serde_json::to_value(rig::package()).unwrap();
    let mut cases = vec![case("as the log signed it", &good, &good, &checked(&good))];
    for (name, change, ..) in PACKAGE_CHANGES {
        let mut package = rig::package();
        change(&mut package);
        let changed = serde_json::to_value(package).unwrap();
        cases.push(case(name, &good, &changed, &checked(&changed)));
    }
    json!({
        "what": "Evidence packages: `document`, and what a verifier that pins `policy` says after each JSON Patch (RFC 6902).",
        "policy": policy(&[ORIGIN]).to_string(), "document": good, "cases": cases,
    })
}

fn receipts() -> Value {
    let good = serde_json::to_value(rig::log().receipt(2)).unwrap();
    let mut cases = vec![case("as the log answered it", &good, &good, &checked(&good))];
    for (name, change, ..) in RECEIPT_CHANGES {
        let mut receipt: Receipt = rig::log().receipt(2);
        change(&mut receipt);
        let changed = serde_json::to_value(receipt).unwrap();
        cases.push(case(name, &good, &changed, &checked(&changed)));
    }
    json!({
        "what": "Receipts: `document`, and what a verifier that pins `policy` says after each JSON Patch (RFC 6902).",
        "policy": policy(&[ORIGIN]).to_string(), "document": good, "cases": cases,
    })
}

#[test]
fn the_published_files_are_those_of_the_tables() {
    for (name, made) in [("packages.json", packages()), ("receipts.json", receipts())] {
        if std::env::var_os("IDTRAIL_WRITE_VECTORS").is_some() {
            std::fs::write(path(name), serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
        }
        let published: Value = serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap();
        assert_eq!(published, made, "{name}");
    }
}

#[test]
fn every_published_case_gives_its_verdict() {
    for name in ["packages.json", "receipts.json"] {
        let file: Value = serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap();
        let policy = idtrail_tlog::Policy::parse(file["policy"].as_str().unwrap()).unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert!(cases.len() > 5, "{name}");
        for case in cases {
            let bytes = serde_json::to_vec(&patched(&file["document"], &case["patch"])).unwrap();
            let report = verify(&bytes, &policy);
            assert_eq!(json!(report.verdict), case["verdict"], "{name}: {}", case["name"]);
            let index = report.first_bad.as_ref().map(|place| place.index);
            assert_eq!(index, case["firstBad"]["index"].as_u64(), "{name}: {}", case["name"]);
        }
        let verdicts: std::collections::BTreeSet<String> =
            cases.iter().map(|case| case["verdict"].to_string()).collect();
        assert!(
            verdicts.contains(&json!(Verdict::Verified).to_string()) && verdicts.len() >= 3,
            "{verdicts:?}"
        );
    }
}
