//! What is left of a refused body: nothing that may be raw personal data, and everything else.

use idtrail_event::{Rules, check};
use serde_json::{Value, json};

const RECEIVED_MS: i64 = 1_698_420_000_000;

fn kept(body: &Value) -> (Value, u32) {
    let rejected = check(body.clone(), &Rules::default(), RECEIVED_MS).unwrap_err();
    (rejected.body, rejected.redacted)
}

fn event(change: impl FnOnce(&mut Value)) -> Value {
    let mut body: Value =
        serde_json::from_str(include_str!("../../../../vectors/event/identity-resolution.json")).unwrap();
    change(&mut body["auditEvent"]);
    body
}

#[test]
fn offending_values_that_are_no_personal_data_stay() {
    for (name, value) in [
        ("eventType", json!("NOT_CONFIGURED_YET")),
        ("timestamp", json!("yesterday")),
        ("status", json!(["x"])),
        ("queueId", json!("")),
        ("agentId", json!(17)),
    ] {
        let body = event(|event| event[name] = value);
        assert_eq!(kept(&body), (body.clone(), 0), "{name}");
    }
    for body in [json!([1, "x"]), json!("text"), json!({ "auditEvent": 5 }), json!({})] {
        assert_eq!(kept(&body), (body.clone(), 0));
    }
}

#[test]
fn whatever_may_be_raw_is_replaced_by_type_and_length() {
    let cases = [
        ("/piiContext/phoneHash", json!("+442079460958"), "string", 13),
        ("/piiContext/phoneHash", json!(442_079_460_958_u64), "number", 12),
        ("/piiContext/emailHash", json!("a591a6d4"), "string", 8),
        ("/piiContext/emailHash", json!(["jane@example.com"]), "array", 1),
        ("/note", json!("call jane.doe@example.com"), "string", 25),
        ("/note", json!("4111 1111 1111 1111"), "string", 19),
        ("/interactionId", json!("tel:+442079460958"), "string", 17),
        // Refused for its type already; what it holds is looked at all the same.
        ("/timestamp", json!("jane@example.com"), "string", 16),
        ("/eventType", json!("jane@example.com"), "string", 16),
    ];
    for (pointer, value, kind, length) in cases {
        let body = event(|event| {
            event["note"] = json!(null);
            *event.pointer_mut(pointer).unwrap() = value.clone();
        });
        let (kept, redacted) = kept(&body);
        assert_eq!(redacted, 1, "{pointer} {value}");
        let place = format!("/auditEvent{pointer}");
        assert_eq!(kept.pointer(&place).unwrap(), &json!({ "redacted": { "type": kind, "length": length } }));
        let mut expected = body.clone();
        *expected.pointer_mut(&place).unwrap() = kept.pointer(&place).unwrap().clone();
        assert_eq!(kept, expected, "everything else stays");
    }
}

#[test]
fn names_and_places_outside_of_the_event_are_looked_at() {
    let body = json!({
        "auditEvent": { "eventType": "X", "jane@example.com": { "+442079460958": 1 } },
        "trace": ["ok", { "deep": ["jane@example.com"] }],
    });
    let (kept, redacted) = kept(&body);
    assert_eq!(redacted, 3);
    assert_eq!(kept["auditEvent"]["redacted-1"], json!({ "redacted-1": 1 }));
    assert_eq!(kept["trace"][0], "ok");
    let text = kept.to_string();
    assert!(!text.contains("example.com") && !text.contains("442079460958"), "{text}");
}
