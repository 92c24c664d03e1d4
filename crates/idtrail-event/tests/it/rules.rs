use idtrail_event::{ChannelCode, ClassId, PiiHandling, Rules, TypeCode, validate};
use serde_json::{Value, json};

use super::support::{RECEIVED_MS, check, codes, data_deletion, identity_resolution, with};

const DIGEST: &str = "00a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e11";

#[test]
fn accepts_both_samples_of_the_guide_with_warnings() {
    let event = check(identity_resolution()).unwrap();
    assert_eq!((event.event_type(), event.class()), (TypeCode::IDENTITY_RESOLUTION, ClassId::IDENTITY));
    assert_eq!(event.channel(), ChannelCode::VOICE);
    assert_eq!(event.event_time_ms(), 1_698_417_000_000);
    assert_eq!(event.resolved_customer_id(), Some("cust_hash_9f86d08"));
    assert_eq!(event.interaction_id(), Some("i-12345678-90ab-cdef-1234-567890abcdef"));
    assert_eq!(event.body(), &identity_resolution());
    let expected = [
        ("/auditEvent/piiContext/accountNumberHash", "well_known_digest"),
        ("/auditEvent/piiContext/phoneHash", "well_known_digest"),
        ("/auditEvent/resolvedCustomerId", "truncated_hash"),
    ];
    assert_eq!(codes(event.warnings()), expected);
    let event = check(data_deletion()).unwrap();
    assert_eq!((event.event_type(), event.class()), (TypeCode::DATA_DELETION, ClassId::DELETION));
    assert_eq!(codes(event.warnings()), [("/auditEvent/resolvedCustomerId", "truncated_hash")]);
}

/// (Member of auditEvent, value, pointer behind /auditEvent, code.)
fn violations() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    vec![
        ("eventType", json!(null), "/eventType", "missing_event_type"),
        ("eventType", json!(1), "/eventType", "missing_event_type"),
        ("eventType", json!("HAIRCUT"), "/eventType", "unknown_event_type"),
        ("eventType", json!("identity_resolution"), "/eventType", "unknown_event_type"),
        ("eventType", json!("KEY_SHREDDED"), "/eventType", "reserved_event_type"),
        ("eventType", json!("CUSTOM"), "/eventType", "reserved_event_type"),
        ("eventType", json!("DSR_OPENED"), "/eventType", "reserved_event_type"),
        ("eventType", json!("TASK_ANY"), "/eventType", "reserved_event_type"),
        ("timestamp", json!("yesterday"), "/timestamp", "invalid_timestamp"),
        ("timestamp", json!("2023-10-27T14:30:00"), "/timestamp", "invalid_timestamp"),
        ("timestamp", json!("2023-10-27T14:30Z"), "/timestamp", "invalid_timestamp"),
        ("timestamp", json!("20231027T143000Z"), "/timestamp", "invalid_timestamp"),
        ("timestamp", json!("2023-02-29T00:00:00Z"), "/timestamp", "invalid_timestamp"),
        ("timestamp", json!("2023-10-27T14:30:00+0200"), "/timestamp", "invalid_timestamp"),
        ("timestamp", json!("2023-10-27T14:30:00Z[UTC]"), "/timestamp", "invalid_timestamp"),
        ("timestamp", json!(1_698_417_000), "/timestamp", "invalid_timestamp"),
        ("timestamp", json!("2023-10-29T00:00:00.001Z"), "/timestamp", "future_timestamp"),
        ("agentId", json!(7), "/agentId", "wrong_type"),
        ("agentName", json!([]), "/agentName", "wrong_type"),
        ("channelType", json!(true), "/channelType", "wrong_type"),
        ("queueId", json!(""), "/queueId", "invalid_text"),
        ("queueId", json!("a\nb"), "/queueId", "invalid_text"),
        ("queueId", json!("a\u{85}b"), "/queueId", "invalid_text"),
        ("queueId", json!("ü".repeat(257)), "/queueId", "invalid_text"),
        ("deletionReason", json!("asked by jane@example.com"), "/deletionReason", "raw_pii"),
        ("agentName", json!("Jane +14155552671"), "/agentName", "raw_pii"),
        ("resolvedCustomerId", json!("+44 20 7946 0958"), "/resolvedCustomerId", "raw_pii"),
        ("piiContext", json!("x"), "/piiContext", "wrong_type"),
        ("piiContext", json!({"phoneHash": "+442079460958"}), "/piiContext/phoneHash", "invalid_hash"),
        ("piiContext", json!({"phoneHash": "a591a6d4"}), "/piiContext/phoneHash", "invalid_hash"),
        ("piiContext", json!({"emailHash": 5}), "/piiContext/emailHash", "invalid_hash"),
        ("piiContext", json!({"emailHash": ["x"]}), "/piiContext/emailHash", "invalid_hash"),
        ("piiContext", json!({"x1Hash": "x"}), "/piiContext/?", "invalid_hash"),
        ("piiContext", json!({"phone": "+442079460958"}), "/piiContext/phone", "raw_pii"),
        ("deviceHash", json!(DIGEST[..63]), "/deviceHash", "invalid_hash"),
        ("actor", json!({"idHash": "4711"}), "/actor/idHash", "invalid_hash"),
        ("customerIdHash", json!("Jane Doe"), "/customerIdHash", "invalid_hash"),
        ("complianceFlags", json!(true), "/complianceFlags", "wrong_type"),
        ("complianceFlags", json!({"gdpr": "yes"}), "/complianceFlags/gdpr", "wrong_type"),
        ("complianceFlags", json!({"jane@example.com": true}), "/complianceFlags/?", "raw_pii"),
        ("deep", json!([{"x": ["jane@example.com"]}]), "/deep/0/x/0", "raw_pii"),
        ("deep", json!([[["jane@example.com"]]]), "/deep/0/0/0", "raw_pii"),
        ("jane@example.com", json!(1), "/?", "raw_pii"),
        ("line1", json!("jane@example.com"), "/?", "raw_pii"),
        ("a~b/c", json!("jane@example.com"), "/?", "raw_pii"),
        ("", json!("jane@example.com"), "/?", "raw_pii"),
    ]
}

#[test]
fn violations_by_pointer() {
    for (name, value, pointer, code) in violations() {
        let body = with(name, value);
        let shown = body.to_string();
        let findings = check(body).expect_err(&shown);
        assert_eq!(codes(&findings), [(format!("/auditEvent{pointer}").as_str(), code)], "{shown}");
    }
}

#[test]
fn violations_of_the_body() {
    let outer = |name: &str, value: Value| {
        let mut body = identity_resolution();
        body[name] = value;
        body
    };
    for (body, pointer, code) in [
        (json!([]), "", "not_an_object"),
        (json!("auditEvent"), "", "not_an_object"),
        (json!({}), "/auditEvent", "missing_event"),
        (json!({"auditEvent": 1}), "/auditEvent", "missing_event"),
        (json!({"auditEvent": {"eventType": "ANONYMOUS"}}), "/auditEvent/timestamp", "invalid_timestamp"),
        (outer("note", json!("jane@example.com")), "/note", "raw_pii"),
        (outer("interactionId", json!("call 4111111111111111")), "/interactionId", "raw_pii"),
        (outer("jane@example.com", json!({})), "/?", "raw_pii"),
    ] {
        assert_eq!(codes(&check(body).expect_err(code)), [(pointer, code)]);
    }
    // A hash of a commit is none of a person.
    assert!(check(outer("gitHash", json!("4b825dc642cb6eb9a060e54bf8d69288fbee4904"))).is_ok());
}

#[test]
fn accepted_with_warnings() {
    for (name, value, expected) in [
        ("resolvedCustomerId", json!("cust_hash_123"), Some("truncated_hash")),
        ("resolvedCustomerId", json!("9f86d081"), Some("truncated_hash")),
        ("resolvedCustomerId", json!("12345678"), None),
        ("resolvedCustomerId", json!("deadbeef"), None),
        ("resolvedCustomerId", json!("9f86d08"), None),
        ("resolvedCustomerId", json!(DIGEST), None),
        ("resolvedCustomerId", json!(format!("cust_hash_{DIGEST}")), None),
        ("customerIdHash", json!("cust_hash_9f86d08"), Some("truncated_hash")),
        ("customerIdHash", json!(DIGEST), None),
        ("timestamp", json!("2023-10-26T23:59:59.999Z"), Some("old_event_time")),
        ("timestamp", json!("2023-10-27T00:00:00Z"), None),
        ("timestamp", json!("2023-10-29T00:00:00Z"), None),
        ("timestamp", json!("2023-10-28t02:00:00.123456789+02:00"), None),
        ("timestamp", json!("2023-10-27 23:59:60z"), None),
        ("channelType", json!("voice"), None),
        ("channelType", json!("PIGEON"), Some("unknown_channel")),
        ("channelType", json!("NONE"), Some("unknown_channel")),
        ("interactionId", json!(null), Some("missing_interaction")),
        ("queueId", json!("ü".repeat(256)), None),
        ("status", json!("whatever"), None),
        ("piiContext", json!({"phoneHash": DIGEST.to_uppercase(), "emailHash": DIGEST.repeat(2)}), None),
        ("piiContext", json!(null), None),
        ("complianceFlags", json!({"any": null, "other": true}), None),
    ] {
        // What the sample itself is warned about is of no interest here.
        let mut body = with("resolvedCustomerId", json!("customer-1"));
        body["auditEvent"]["piiContext"] = json!({});
        body["auditEvent"][name] = value;
        let event = check(body.clone()).expect(name);
        let warnings: Vec<_> = event.warnings().iter().map(|warning| warning.code).collect();
        assert_eq!(warnings, Vec::from_iter(expected), "{body}");
        assert_eq!(event.body(), &body);
    }
}

#[test]
fn knows_the_digests_of_manuals() {
    for digest in [
        "A591A6D40BF420404A011733CFB7B190D62C65BF0BCDA32B57B277D9AD9F146E",
        "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb9",
        "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb980b1d7785e5976ec049b46df5f1326af5a2ea6d103fd07c95385ffab0cacbc86",
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
    ] {
        let event = check(with("piiContext", json!({"phoneHash": digest}))).unwrap();
        assert!(
            codes(event.warnings()).contains(&("/auditEvent/piiContext/phoneHash", "well_known_digest")),
            "{digest}"
        );
    }
}

#[test]
fn strict_rules_refuse_truncated_hashes() {
    let rules = Rules { strict: true, ..Rules::default() };
    let findings = validate(identity_resolution(), &rules, RECEIVED_MS as i64).expect_err("strict");
    assert_eq!(codes(&findings), [("/auditEvent/resolvedCustomerId", "truncated_hash")]);
}

#[test]
fn anonymous_events_carry_no_identifier() {
    let mut body = with("eventType", json!("ANONYMOUS"));
    body["auditEvent"]["actor"] = json!({"idHash": DIGEST});
    let findings = check(body.clone()).expect_err("it names a customer");
    let code = "identifier_in_anonymous";
    let expected = [
        ("/auditEvent/actor/idHash", code),
        ("/auditEvent/piiContext/accountNumberHash", code),
        ("/auditEvent/piiContext/phoneHash", code),
        ("/auditEvent/resolvedCustomerId", code),
    ];
    assert_eq!(codes(&findings), expected);
    for name in ["resolvedCustomerId", "piiContext", "actor"] {
        body["auditEvent"][name] = Value::Null;
    }
    let event = check(body).expect("it names nobody");
    assert_eq!((event.event_type(), event.class()), (TypeCode::ANONYMOUS, ClassId::ANONYMOUS));
}

#[test]
fn deletions_have_one_of_three_states() {
    for status in ["SUCCESS", "PARTIAL", "FAILED"] {
        let mut body = data_deletion();
        body["auditEvent"]["status"] = json!(status);
        assert!(check(body).is_ok());
    }
    let mut body = data_deletion();
    body["auditEvent"]["status"] = json!("DONE");
    assert_eq!(codes(&check(body).expect_err("status")), [("/auditEvent/status", "unknown_status")]);
}

#[test]
fn masks_free_texts_but_neither_ids_nor_names() {
    let rules = Rules { pii: PiiHandling::Mask, ..Rules::default() };
    let mut body = with("note", json!("call jane@example.com"));
    body["list"] = json!(["ok", "+14155552671"]);
    let event = validate(body.clone(), &rules, RECEIVED_MS as i64).unwrap();
    assert_eq!(event.body()["auditEvent"]["note"], "***");
    assert_eq!(event.body()["list"], json!(["ok", "***"]));
    let warnings = codes(event.warnings());
    assert!(warnings.contains(&("/auditEvent/note", "masked")) && warnings.contains(&("/list/1", "masked")));
    for (name, value) in [("queueId", json!("jane@example.com")), ("jane@example.com", json!(1))] {
        let mut body = body.clone();
        body["auditEvent"][name] = value;
        let findings = validate(body, &rules, RECEIVED_MS as i64).expect_err(name);
        assert!(findings.iter().all(|finding| finding.code == "raw_pii"));
    }
}

#[test]
fn custom_types_are_configured() {
    let rules = Rules { custom_types: vec!["HAIRCUT".to_owned()], ..Rules::default() };
    let event = validate(with("eventType", json!("HAIRCUT")), &rules, RECEIVED_MS as i64).unwrap();
    assert_eq!((event.event_type(), event.class()), (TypeCode::CUSTOM, ClassId::CUSTOM));
    assert_eq!(event.body()["auditEvent"]["eventType"], "HAIRCUT");
}

#[test]
fn the_answer_has_a_limit() {
    let many: Vec<Value> = (0..1000).map(|_| json!("jane@example.com")).collect();
    assert_eq!(check(with("list", json!(many))).expect_err("pii").len(), 64);
}

#[test]
fn findings_are_json() {
    let findings = check(json!(1)).expect_err("no object");
    let shown = serde_json::to_value(&findings[0]).unwrap();
    assert_eq!(shown["code"], "not_an_object");
    assert!(shown["hint"].as_str().unwrap().contains("auditEvent"));
}
