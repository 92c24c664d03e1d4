//! No value of an event, and no secret, in any error, warning or debug output.

use idtrail_event::{
    ClassSecret, Dedupe, DedupeKind, EncodedEvent, IdentifierType, IndexSecret, JsonLimits, Leaf, LeafKey,
    Pepper, PiiHandling, RawIdentifier, Rules, SealRequest, parse_json, seal, validate,
};
use serde_json::{Value, json};

use super::support::{IVS, ORIGIN, RECEIVED_MS, decided, header, opened, secrets};

const CANARY: &str = "canary7731990042";

fn assert_silent(shown: &str) {
    assert!(!shown.contains("canary") && !shown.contains("7731990042"), "{shown}");
}

#[test]
fn json_errors() {
    for body in [
        "{\"CANARY\":CANARY}",
        "{\"CANARY\":1,\"CANARY\":2}",
        "\"CANARY",
        "CANARY",
        "{\"CANARY\":\"\\ud800CANARY\"}",
        "{} CANARY",
        "[CANARY99999999999999999999999]",
        "[\"CANARY\", 7731990042773199004277319900427731990042]",
        "{\"a\":\"\\xCANARY\"}",
    ] {
        let body = body.replace("CANARY", CANARY);
        let error = parse_json(body.as_bytes(), JsonLimits::EVENT).expect_err(&body);
        assert_silent(&format!("{error} {error:?}"));
    }
}

/// Values that offend one rule each, with the canary in it.
fn offences() -> Vec<Value> {
    let mail = format!("{CANARY}@example.com");
    vec![
        json!(CANARY),
        json!(mail),
        json!(format!("+{}", 7_731_990_042_u64)),
        json!(format!("{CANARY}\n")),
        json!(CANARY.repeat(30)),
        json!([CANARY, mail]),
        json!({CANARY: mail, "xHash": CANARY, mail: 1}),
        json!(7_731_990_042_u64),
    ]
}

#[test]
fn findings() {
    let names = [
        "eventType",
        "timestamp",
        "interactionId",
        "agentId",
        "agentName",
        "status",
        "note",
        "piiContext",
        "complianceFlags",
        "resolvedCustomerId",
        "channelType",
        "deletionReason",
        "customerIdHash",
        CANARY,
    ];
    for pii in [PiiHandling::Refuse, PiiHandling::Mask] {
        let rules = Rules { strict: true, pii, ..Rules::default() };
        for name in names {
            for value in offences() {
                let event = json!({"eventType": "ANONYMOUS", "timestamp": "2023-10-27T14:30:00Z"});
                let mut body = json!({"auditEvent": event, CANARY: CANARY});
                body["auditEvent"][name] = value.clone();
                match validate(body, &rules, RECEIVED_MS as i64) {
                    Ok(event) => {
                        assert_silent(&format!("{event:?} {:?} {:?}", event.warnings(), event.encode()))
                    }
                    Err(findings) => {
                        assert!(!findings.is_empty());
                        assert_silent(&format!("{findings:?} {}", serde_json::to_string(&findings).unwrap()));
                    }
                }
            }
        }
    }
}

#[test]
fn debug_output_of_leaves() {
    let body = json!({"auditEvent": {CANARY: CANARY, "agentId": CANARY}, CANARY: CANARY});
    let encoded = EncodedEvent::of(&body);
    let decided = idtrail_event::Decided {
        system: CANARY,
        actor: Some(CANARY),
        dedupe: Dedupe::text(DedupeKind::IDEMPOTENCY_KEY, CANARY),
        ..decided()
    };
    let request = SealRequest { header: header(), encoded: &encoded, decided };
    assert_silent(&format!("{request:?} {encoded:?}"));
    let bytes = seal(&request, &secrets(), &IVS, ORIGIN).unwrap();
    let leaf = Leaf::parse(&bytes).unwrap();
    let open = opened(&bytes);
    assert_silent(&format!("{leaf:?} {open:?} {:?}", open.decided()));
    let error = leaf.open(&LeafKey::new([0; 32])).expect_err("another key");
    assert_silent(&format!("{error} {error:?}"));
}

#[test]
fn secrets_show_nothing() {
    let bytes = [0x5a; 32];
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        IndexSecret::new(bytes),
        ClassSecret::new(bytes),
        LeafKey::new(bytes),
        Pepper::new(bytes),
        secrets()
    );
    assert!(!shown.contains("5a") && !shown.contains("90"), "{shown}");
    // A raw identifier has neither Debug nor Display nor Clone: it can only be made and be dropped.
    let raw = RawIdentifier::from_normal_form(IdentifierType::PHONE, CANARY.to_owned());
    assert_eq!(raw.kind(), IdentifierType::PHONE);
}
