//! A customer asks: the answer is complete, proved, and verifies after the server is gone.

use http::StatusCode;
use idtrail_verify::{Package, Verdict};
use serde_json::{Value, json};

use crate::rig::{Installation, files, idtrail, query, sample};

#[test]
fn the_guides_samples_are_stored_found_and_verified_without_the_server() {
    let installation = Installation::new();
    let server = installation.start();
    for sample in idtrail_server::synthetic::SAMPLES {
        let (status, receipt) = server.post_event(&installation, &serde_json::from_str(sample).unwrap());
        assert_eq!(status, StatusCode::CREATED, "{receipt}");
        let report = idtrail_verify::verify(receipt.to_string().as_bytes(), &installation.policy());
        assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    }
    // What was just acknowledged is in the answer: the read waits for the index, not the other way round.
    let answer = server.access(&installation, &query("cust_hash_9f86d08"));
    assert_eq!(answer.status(), StatusCode::OK);
    let package: Package = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(package.events.iter().map(|event| event.index).collect::<Vec<_>>(), [2, 3]);
    let by_gcid =
        server.access(&installation, &query(&package.customer.as_ref().unwrap().global_customer_id));
    assert_eq!(serde_json::from_slice::<Package>(by_gcid.body()).unwrap().events, package.events);
    server.stop();
    let path = installation.dir.path().join("a.json");
    std::fs::write(&path, answer.body()).unwrap();
    let policy = installation.home().join("policy.txt");
    let verify = |file: &str| idtrail(&["verify", file, "--policy", policy.to_str().unwrap()]);
    let good = verify(path.to_str().unwrap());
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stdout));
    let changed =
        String::from_utf8(answer.body().to_vec()).unwrap().replacen("CRM_API_LOOKUP", "CRM_API_LOOKED", 1);
    std::fs::write(&path, changed).unwrap();
    let bad = verify(path.to_str().unwrap());
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stdout).contains("First bad entry: 2"));
    assert_eq!(idtrail(&["verify", path.to_str().unwrap()]).status.code(), Some(2), "no policy, no verdict");
}

#[test]
fn a_range_narrows_and_nobody_is_an_answer_too() {
    let installation = Installation::new();
    let server = installation.start();
    for day in ["2023-02-01", "2023-06-01", "2023-11-01"] {
        let mut event = sample();
        event["auditEvent"]["timestamp"] = json!(format!("{day}T12:00:00Z"));
        event["auditEvent"]["agentId"] = json!("agent-7");
        assert_eq!(server.post_event(&installation, &event).0, StatusCode::CREATED);
    }
    let mut asked = query("cust_hash_9f86d08");
    asked["dateRange"] = json!({ "start": "2023-05-01T00:00:00Z", "end": "2023-06-30T23:59:59Z" });
    let answer = server.access(&installation, &asked);
    let package: Package = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(package.events.len(), 1);
    assert_eq!(package.events[0].audit_event["agentId"], "agent-7", "the staff section is disclosed");
    let verdict = |body: &[u8]| idtrail_verify::verify(body, &installation.policy()).verdict;
    assert_eq!(verdict(answer.body()), Verdict::Verified);
    let nobody = server.access(&installation, &query("cust_nobody"));
    assert_eq!(nobody.status(), StatusCode::OK);
    let package: Value = serde_json::from_slice(nobody.body()).unwrap();
    assert_eq!((&package["customer"], &package["events"]), (&Value::Null, &json!([])));
    assert_eq!(verdict(nobody.body()), Verdict::Verified);
}

#[test]
fn both_credentials_are_needed() {
    let installation = Installation::new();
    let ingest_only = installation.credential(&["--name", "crm", "--role", "ingest"]).1;
    let auditor = installation.credential(&["--person", "--name", "auditor-1", "--role", "auditor"]);
    let server = installation.start();
    let good = format!("Bearer {}", server.token(&installation.person));
    let other = format!("Bearer {}", server.token(&auditor));
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[2] = "AAAA".repeat(21) + "AA";
    let forged = parts.join(".");
    let none = format!("Bearer eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{}.", good.split('.').nth(1).unwrap());
    let key = installation.key.as_str();
    let cases: Vec<(Vec<(&str, &str)>, u16)> = vec![
        (vec![("x-api-key", key), ("authorization", &good)], 200),
        (vec![("x-api-key", key)], 401),
        (vec![("authorization", &good)], 401),
        (vec![], 401),
        (vec![("x-api-key", "idt_live_x_y"), ("authorization", &good)], 401),
        (vec![("x-api-key", key), ("authorization", &forged)], 401),
        (vec![("x-api-key", key), ("authorization", &none)], 401),
        (vec![("x-api-key", key), ("authorization", "Basic eDp5")], 401),
        (vec![("x-api-key", &ingest_only), ("authorization", &good)], 403),
        (vec![("x-api-key", key), ("authorization", &other)], 403),
    ];
    for (headers, status) in cases {
        let response = server.post(crate::rig::ACCESS, &headers, query("x").to_string());
        assert_eq!(response.status().as_u16(), status, "{:?}", response.body());
        if status != 200 {
            let text = String::from_utf8(response.body().to_vec()).unwrap();
            assert!(headers.iter().all(|(_, value)| !text.contains(value)), "a credential is echoed: {text}");
        }
    }
}

#[test]
fn secrets_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let installation = Installation::new();
    installation.start().stop();
    for path in files(&installation.home()) {
        let name = path.to_string_lossy().into_owned();
        let public = ["policy.txt", "idtrail.toml", "level-", "high-water", "clean-stop", "lock"];
        if public.iter().any(|public| name.contains(public)) {
            continue;
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{name}");
    }
}
