use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use serde_json::{Value, json};

use super::{RECEIVED_MS, check, codes, data_deletion, identity_resolution, with};
use crate::{EventType, PiiHandling, Rules, validate};

#[test]
fn accepts_both_samples_of_the_guide_with_warnings() {
    let event = check(identity_resolution()).expect("the sample is valid");
    assert_eq!(event.event_type(), EventType::IDENTITY_RESOLUTION);
    assert_eq!(event.resolved_customer_id(), Some("cust_hash_9f86d08"));
    let warnings = codes(event.warnings());
    for expected in [
        ("/auditEvent/resolvedCustomerId", "truncated_hash"),
        ("/auditEvent/piiContext/phoneHash", "well_known_digest"),
        ("/auditEvent/piiContext/accountNumberHash", "well_known_digest"),
    ] {
        assert!(warnings.contains(&(expected.0.to_string(), expected.1)), "{expected:?} in {warnings:?}");
    }
    let event = check(data_deletion()).expect("the sample is valid");
    assert_eq!(event.event_type(), EventType::DATA_DELETION);
}

#[test]
fn strict_rules_refuse_truncated_hashes() {
    let rules = Rules { strict: true, ..Rules::default() };
    let findings = validate(identity_resolution(), &rules, RECEIVED_MS).expect_err("it is refused");
    assert_eq!(codes(&findings), [("/auditEvent/resolvedCustomerId".to_string(), "truncated_hash")]);
}

#[test]
fn violations_by_pointer() {
    let context = |name: &str, value: Value| {
        let mut body = identity_resolution();
        body["auditEvent"]["piiContext"][name] = value;
        body
    };
    let cases: Vec<(Value, &str, &str)> = vec![
        (json!([]), "", "not_an_object"),
        (json!({}), "/auditEvent", "missing_event"),
        (json!({"auditEvent": 1}), "/auditEvent", "missing_event"),
        (with("eventType", Value::Null), "/auditEvent/eventType", "missing_event_type"),
        (with("eventType", json!("HAIRCUT")), "/auditEvent/eventType", "unknown_event_type"),
        (with("eventType", json!("KEY_SHREDDED")), "/auditEvent/eventType", "reserved_event_type"),
        (with("eventType", json!("DSR_OPENED")), "/auditEvent/eventType", "reserved_event_type"),
        (with("eventType", json!("TASK_ANY")), "/auditEvent/eventType", "reserved_event_type"),
        (with("timestamp", json!("yesterday")), "/auditEvent/timestamp", "invalid_timestamp"),
        (with("timestamp", json!("2023-10-27T14:30:00")), "/auditEvent/timestamp", "invalid_timestamp"),
        (with("timestamp", json!(1)), "/auditEvent/timestamp", "invalid_timestamp"),
        (with("timestamp", json!("2023-10-29T00:00:01Z")), "/auditEvent/timestamp", "future_timestamp"),
        (with("agentId", json!(7)), "/auditEvent/agentId", "wrong_type"),
        (with("queueId", json!("")), "/auditEvent/queueId", "invalid_id"),
        (with("queueId", json!("a\nb")), "/auditEvent/queueId", "invalid_id"),
        (with("interactionId", json!("jane@example.com")), "/auditEvent/interactionId", "raw_pii"),
        (with("resolvedCustomerId", json!("+44 20 7946 0958")), "/auditEvent/resolvedCustomerId", "raw_pii"),
        (with("piiContext", json!("x")), "/auditEvent/piiContext", "invalid_pii_context"),
        (context("phoneHash", json!("+442079460958")), "/auditEvent/piiContext/phoneHash", "invalid_hash"),
        (context("phoneHash", json!("a591a6d4")), "/auditEvent/piiContext/phoneHash", "invalid_hash"),
        (context("emailHash", json!(5)), "/auditEvent/piiContext/emailHash", "invalid_hash"),
        (with("deviceHash", json!("9f86d081")), "/auditEvent/deviceHash", "invalid_hash"),
        (
            with("complianceFlags", json!({"gdprConsentRecorded": "yes"})),
            "/auditEvent/complianceFlags/gdprConsentRecorded",
            "wrong_type",
        ),
        (with("note", json!("call jane@example.com")), "/auditEvent/note", "raw_pii"),
        (with("note", json!("call +44 20 7946 0958 now")), "/auditEvent/note", "raw_pii"),
        (with("note", json!("tel:02079460958")), "/auditEvent/note", "raw_pii"),
        (with("note", json!("sip:jane@pbx")), "/auditEvent/note", "raw_pii"),
        (with("note", json!("4111 1111 1111 1111")), "/auditEvent/note", "raw_pii"),
        (with("note", json!("card 378282246310005.")), "/auditEvent/note", "raw_pii"),
        (with("note", json!("GB82 WEST 1234 5698 7654 32")), "/auditEvent/note", "raw_pii"),
        (with("note", json!("pay DE89370400440532013000 please")), "/auditEvent/note", "raw_pii"),
        (with("deep", json!([{"x": ["jane@example.com"]}])), "/auditEvent/deep/0/x/0", "raw_pii"),
        (with("jane@example.com", json!(1)), "/auditEvent/?", "raw_pii"),
        (with("line1", json!("jane@example.com")), "/auditEvent/?", "raw_pii"),
    ];
    for (body, pointer, code) in cases {
        let shown = body.to_string();
        let findings = check(body).expect_err(&shown);
        assert!(codes(&findings).contains(&(pointer.to_string(), code)), "{shown}: {findings:?}");
    }
}

#[test]
fn no_false_alarm_on_what_contact_centres_send() {
    for text in [
        "1698417000123",
        "i-12345678-90ab-cdef-1234-567890abcdef",
        "41234567-1234-4123-8123-412345678901",
        "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e",
        "q-sales-4111",
        "2023-10-27T14:30:00+02:00",
        "skill 12345678901234567890",
        "@home support",
        "a+b=c",
        "gossip: nothing",
        "GB82WEST12345698765433",
        "order 4111111111111112",
        "price +12.50",
        "v1.2.3@build",
    ] {
        let outcome = check(with("note", json!(text)));
        assert!(outcome.is_ok(), "{text}: {outcome:?}");
    }
}

#[test]
fn anonymous_events_carry_no_identifier() {
    let mut body = identity_resolution();
    body["auditEvent"]["eventType"] = json!("ANONYMOUS");
    let findings = codes(&check(body).expect_err("it is refused"));
    assert!(findings.iter().all(|(_, code)| *code == "identifier_in_anonymous"));
    assert_eq!(findings.len(), 3);
}

#[test]
fn masking_replaces_and_warns() {
    let rules = Rules { pii: PiiHandling::Mask, ..Rules::default() };
    let event =
        validate(with("note", json!("call jane@example.com")), &rules, RECEIVED_MS).expect("it is masked");
    assert_eq!(event.body()["auditEvent"]["note"], "***");
    assert!(codes(event.warnings()).contains(&("/auditEvent/note".to_string(), "masked")));
}

#[test]
fn custom_types_are_configured() {
    let rules = Rules { custom_types: vec!["HAIRCUT".to_string()], ..Rules::default() };
    let event = validate(with("eventType", json!("HAIRCUT")), &rules, RECEIVED_MS).expect("it is configured");
    assert_eq!(event.event_type(), EventType::CUSTOM);
}

#[test]
fn findings_never_quote_a_value() {
    let canary = "canary7731990042";
    let mut body = json!({"auditEvent": {}, canary: format!("{canary}@example.com")});
    for name in ["eventType", "timestamp", "interactionId", "agentId", "status", "note", canary] {
        body["auditEvent"][name] = json!(format!("{canary}@example.com"));
    }
    body["auditEvent"]["piiContext"] = json!({"phoneHash": canary, "x1Hash": canary});
    let findings = check(body).expect_err("it is refused");
    assert!(findings.len() >= 8, "{findings:?}");
    assert!(!format!("{findings:?}").contains(canary), "{findings:?}");
}
