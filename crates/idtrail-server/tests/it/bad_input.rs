//! Bad input: a clear 4xx each, never a 5xx, never an echo.

use serde_json::{Value, json};

use crate::rig::{EVENTS, Installation, Running, sample};

const CANARY: &str = "canary7731990042";

#[test]
fn every_kind_of_bad_input_is_refused_clearly() {
    let installation = Installation::new();
    let server = installation.start();
    let with = |name: &str, value: Value| {
        let mut event = sample();
        event["auditEvent"][name] = value;
        event.to_string().into_bytes()
    };
    let hash = |value: &str| with("piiContext", json!({ "phoneHash": value }));
    let text = sample().to_string();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("garbage", format!("{CANARY} %$#").into_bytes(), 400),
        ("empty", Vec::new(), 400),
        ("truncated", text.as_bytes()[..text.len() / 2].to_vec(), 400),
        ("trailing", format!("{text}{CANARY}").into_bytes(), 400),
        ("nested", format!("{}\"{CANARY}\"{}", "[".repeat(100), "]".repeat(100)).into_bytes(), 400),
        ("nan", text.replace("true", "NaN").into_bytes(), 400),
        ("duplicate", text.replacen('{', &format!("{{\"{CANARY}\":1,\"{CANARY}\":2,"), 1).into_bytes(), 400),
        ("utf8", [b"{\"a\":\"\xff\xfe", CANARY.as_bytes(), b"\"}"].concat(), 400),
        ("surrogate", b"{\"a\":\"\\ud800\"}".to_vec(), 400),
        ("huge number", text.replace("true", "123456789012345678901234567890").into_bytes(), 400),
        ("oversize", with("note", json!("x".repeat(60_000))), 413),
        ("array", b"[]".to_vec(), 422),
        ("no event", b"{}".to_vec(), 422),
        ("wrong types", with("agentId", json!([CANARY])), 422),
        ("unknown type", with("eventType", json!(CANARY)), 422),
        ("system type", with("eventType", json!("KEY_SHREDDED")), 422),
        ("no time", with("timestamp", json!(CANARY)), 422),
        ("future", with("timestamp", json!("2999-01-01T00:00:00Z")), 422),
        ("short hash", hash("a591a6d4"), 422),
        ("raw phone", hash("+442079460958"), 422),
        ("raw mail", with("note", json!(format!("{CANARY}@example.com"))), 422),
        ("raw card", with("note", json!("4111111111111111")), 422),
    ];
    for (name, body, status) in cases {
        let response = server.post(EVENTS, &[("x-api-key", &installation.key)], body);
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        assert_eq!(response.status().as_u16(), status, "{name}: {text}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{name}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert!(problem["title"].is_string() && problem["requestId"].is_string(), "{name}: {text}");
        for echo in [CANARY, "442079460958", "4111111111111111", "2999-01-01", "a591a6d4\""] {
            assert!(!text.contains(echo), "{name} echoes: {text}");
        }
    }
    let response = server.post(
        EVENTS,
        &[("x-api-key", &installation.key), ("idempotency-key", "")],
        sample().to_string(),
    );
    assert_eq!(response.status().as_u16(), 400);
    let plain = http::Request::post(server.url(EVENTS))
        .header("x-api-key", &installation.key)
        .header("content-type", "text/plain")
        .body(sample().to_string().into())
        .unwrap();
    assert_eq!(server.send(plain).status().as_u16(), 415);
    assert_eq!(server.post(EVENTS, &[], sample().to_string()).status().as_u16(), 401);
    let access: Vec<(Value, u16)> = vec![
        (json!({}), 422),
        (json!({ "customerIdHash": 5, "requestType": "ACCESS" }), 422),
        (json!({ "customerIdHash": CANARY, "requestType": "ERASURE" }), 422),
        (json!({ "customerIdHash": CANARY, "requestType": "ACCESS", "dateRange": { "start": CANARY } }), 422),
    ];
    for (query, status) in access {
        let response = server.access(&installation, &query);
        assert_eq!(response.status().as_u16(), status, "{query}");
        assert!(!String::from_utf8_lossy(response.body()).contains(CANARY));
    }
    server.stop();
    assert!(!installation.log.lock().unwrap().contains(CANARY), "the process' log holds a value");
}

#[test]
fn strict_rules_refuse_what_is_otherwise_warned_about() {
    let lenient = Installation::new();
    let (status, receipt) = lenient.start().post_event(&lenient, &sample());
    assert_eq!(status.as_u16(), 201);
    let codes: Vec<&str> =
        receipt["warnings"].as_array().unwrap().iter().map(|w| w["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"truncated_hash") && codes.contains(&"old_event_time"), "{codes:?}");
    let strict = Installation::with("[validation]\nstrict = true\n");
    assert_eq!(strict.start().post_event(&strict, &sample()).0.as_u16(), 422);
}

/// Sends `count` events at once, each over a connection of its own, and returns the answers.
fn all_at_once(server: &Running, key: &str, count: usize) -> Vec<http::Response<bytes::Bytes>> {
    std::thread::scope(|scope| {
        let send = |number: usize| {
            let mut event = sample();
            event["auditEvent"]["interactionId"] = json!(format!("i-{number}"));
            scope.spawn(move || server.post(EVENTS, &[("x-api-key", key)], event.to_string()))
        };
        let threads: Vec<_> = (0..count).map(send).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_full_queue_is_answered_503_with_a_time_to_come_back() {
    let installation = Installation::with("[limits]\nqueue_events_max = 1\n");
    let server = installation.start();
    let (mut accepted, mut refused) = (0, 0);
    // Whether two requests meet in the queue is chance, so it is tried until they do.
    for _ in 0..50 {
        for response in all_at_once(&server, &installation.key, 32) {
            match response.status().as_u16() {
                201 | 200 => accepted += 1,
                503 => {
                    refused += 1;
                    assert!(response.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
                    let problem: Value = serde_json::from_slice(response.body()).unwrap();
                    assert_eq!(problem["code"], "unavailable");
                    assert_eq!(problem["retryable"], true);
                }
                other => panic!("{other}: {:?}", response.body()),
            }
        }
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0 && accepted > 0, "{accepted} accepted, {refused} refused");
    // What was refused may come again.
    assert_eq!(server.post_event(&installation, &sample()).0.as_u16(), 201);
}
