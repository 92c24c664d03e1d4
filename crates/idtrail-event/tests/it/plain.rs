//! The short way and the long way give the same.

use idtrail_event::{JsonLimits, Outline, PlainEvent, Rules, check, parse_json};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const RECEIVED_MS: i64 = 1_767_225_600_000;

/// A good event of the usual kind.
fn usual() -> Value {
    json!({ "auditEvent": {
        "eventType": "IDENTITY_RESOLUTION",
        "timestamp": "2025-12-31T23:00:00.123Z",
        "interactionId": "12345678-90ab-cdef-1234-567890abcdef",
        "channelType": "VOICE",
        "resolvedCustomerId": format!("cust_hash_{}", "3f".repeat(32)),
        "resolutionSource": "CRM_API_LOOKUP",
        "piiContext": {
            "phoneHash": "0b".repeat(32), "emailHash": null, "accountNumberHash": "9C".repeat(40), "hashScheme": "hs256.k1",
        },
        "complianceFlags": { "gdprConsentRecorded": true, "dataSubjectRequestPending": null },
        "agentId": "agent-007",
        "supervisorId": null,
        "queueId": "q-sales",
        "status": "whatever",
    }})
}

/// Reads a body both ways. Returns whether the short way took it.
fn compare(body: &[u8], rules: &Rules) -> bool {
    let Some(plain) = PlainEvent::read(body, JsonLimits::EVENT, rules, RECEIVED_MS) else { return false };
    let value = parse_json(body, JsonLimits::EVENT).expect("what is plain is JSON");
    let event = check(value, rules, RECEIVED_MS).expect("what is plain is accepted");
    assert_eq!(event.warnings(), [], "what is plain has no warnings");
    assert!(plain.encoded == event.encode(), "both encodings are the same");
    assert_eq!(
        (plain.event_type, plain.channel, plain.class()),
        (event.event_type(), event.channel(), event.class())
    );
    assert!(plain.outline == Outline::of_body(event.body()));
    assert_eq!(plain.outline.time_ms, Some(event.event_time_ms()));
    true
}

#[test]
fn usual_events_go_the_short_way() {
    let rules = Rules::default();
    assert!(compare(usual().to_string().as_bytes(), &rules));
    let spaced = serde_json::to_string_pretty(&usual()).unwrap();
    assert!(compare(format!(" {spaced}\n").as_bytes(), &rules));
    for event_type in ["DATA_DELETION", "CONSENT_CHANGE"] {
        let mut event = usual();
        event["auditEvent"]["eventType"] = event_type.into();
        event["auditEvent"]["status"] = "SUCCESS".into();
        assert!(compare(event.to_string().as_bytes(), &rules), "{event_type}");
    }
}

#[test]
fn everything_else_goes_the_long_way() {
    let good = usual().to_string();
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let mut cases = vec![
        format!("{good}x"),
        format!("[{good}]"),
        good[..good.len() - 1].to_owned(),
        replaced("{\"auditEvent\"", "{\"extra\":1,\"auditEvent\""),
        replaced("\"VOICE\"", "\"V\\u004fICE\""),
        replaced("\"VOICE\"", "\"PIGEON\""),
        replaced("\"VOICE\"", "\"voice\""),
        replaced("\"VOICE\"", "7"),
        replaced("\"queueId\"", "\"unknown\""),
        replaced("\"queueId\"", "\"agentId\""),
        replaced("\"q-sales\"", "\"\""),
        replaced("\"q-sales\"", "\"+4915112345678\""),
        replaced("\"q-sales\"", "\"a@example.org\""),
        replaced("CRM_API_LOOKUP", "call +49 151 12345678"),
        replaced("IDENTITY_RESOLUTION", "ANONYMOUS"),
        replaced("IDENTITY_RESOLUTION", "IDENTITY_MERGE"),
        replaced("IDENTITY_RESOLUTION", "SOMETHING"),
        replaced("IDENTITY_RESOLUTION", "DATA_DELETION"),
        replaced("2025-12-31T23", "2025-12-29T23"),
        replaced("2025-12-31T23", "2027-12-31T23"),
        replaced("2025-12-31T23", "yesterday"),
        replaced(&"0b".repeat(32), "0b0b"),
        replaced(&"0b".repeat(32), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        replaced("hs256.k1", "a@example.org"),
        replaced("\"gdprConsentRecorded\":true", "\"gdprConsentRecorded\":1"),
        replaced(&"3f".repeat(32), "3f3f"),
    ];
    let mut without = usual();
    without["auditEvent"].as_object_mut().unwrap().remove("interactionId");
    cases.push(without.to_string());
    for body in cases {
        let read = PlainEvent::read(body.as_bytes(), JsonLimits::EVENT, &Rules::default(), RECEIVED_MS);
        assert!(read.is_none(), "{body}");
    }
    let short = JsonLimits { bytes_max: good.len() - 1, ..JsonLimits::EVENT };
    assert!(PlainEvent::read(good.as_bytes(), short, &Rules::default(), RECEIVED_MS).is_none());
}

/// Texts that are right in some places and wrong in others.
fn text() -> impl Strategy<Value = Value> {
    let fixed = [
        "",
        "VOICE",
        "OTHER",
        "IDENTITY_RESOLUTION",
        "DATA_DELETION",
        "ANONYMOUS",
        "2025-12-31T23:59:59Z",
        "2025-12-31T10:00:00.5+02:00",
        "2020-01-01T00:00:00Z",
        "SUCCESS",
        "agent-0123456789abcdef0123456789abcdef",
        "i-12345678-90ab-cdef-1234-567890abcdef",
        "12345678-90ab-cdef-1234-567890abcde",
        "a-b-12345678-90ab-cdef-1234-567890abcdef",
        "urn:uuid:12345678-90ab-cdef-1234-567890abcdef",
        "cust_hash_12ab",
        "deadbeef12",
        "+4915112345678",
        "a@example.org",
        "4111 1111 1111 1111",
        "naïve \u{7f}",
    ];
    prop_oneof![
        3 => prop::sample::select(fixed.to_vec()).prop_map(Value::from),
        2 => "[0-9a-f]{62,70}".prop_map(Value::from),
        2 => "[a-z]{1,15}[_:-][0-9a-f]{30,40}".prop_map(Value::from),
        2 => "[a-z0-9_:-]{16,24}[_:-]?[0-9a-f]{32}".prop_map(Value::from),
        1 => "\\PC{0,30}".prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        2 => Just(Value::Null),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_ways_agree(
        changes in prop::collection::vec((0_usize..26, text()), 0..4),
        dropped in prop::collection::vec(0_usize..26, 0..4),
        deletion in any::<bool>(),
    ) {
        const NAMES: [&str; 26] = [
            "eventType", "timestamp", "interactionId", "channelType", "resolvedCustomerId", "resolutionSource",
            "piiContext", "complianceFlags", "agentId", "queueId", "deletionReason", "requestId", "status",
            "agentName", "supervisorId", "staffId", "identity", "systems", "other",
            "phoneHash", "emailHash", "accountNumberHash", "hashScheme", "otherHash",
            "gdprConsentRecorded", "dataSubjectRequestPending",
        ];
        let mut body = usual();
        let event = body["auditEvent"].as_object_mut().unwrap();
        if deletion {
            event.insert("eventType".to_owned(), "DATA_DELETION".into());
            event.insert("status".to_owned(), "PARTIAL".into());
        }
        let none = || Value::Object(Map::new());
        for (at, value) in changes {
            let place = match at {
                19..24 => event.entry("piiContext").or_insert_with(none).as_object_mut(),
                24.. => event.entry("complianceFlags").or_insert_with(none).as_object_mut(),
                _ => Some(&mut *event),
            };
            if let Some(place) = place {
                place.insert(NAMES[at].to_owned(), value);
            }
        }
        for at in dropped {
            event.remove(NAMES[at]);
        }
        compare(body.to_string().as_bytes(), &Rules::default());
    }
}
