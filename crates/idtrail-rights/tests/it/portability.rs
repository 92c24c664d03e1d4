//! What a person takes along: what they provided, without what we concluded.

use idtrail_rights::portability::provided;
use serde_json::{Value, json};

#[test]
fn what_we_concluded_stays_and_what_was_provided_goes_along() {
    let cases: [(Value, Option<Value>); 4] = [
        (
            json!({"eventType": "IDENTITY_RESOLUTION", "interactionId": "i-1", "resolvedCustomerId": "c-1", "agentId": "a-1",
                   "queueId": "q-1", "piiContext": {"phoneHash": "ab"}, "note": "kept"}),
            Some(
                json!({"eventType": "IDENTITY_RESOLUTION", "interactionId": "i-1", "piiContext": {"phoneHash": "ab"},
                        "note": "kept"}),
            ),
        ),
        (
            json!({"eventType": "CONSENT_CHANGE", "consent": {"marketing": false}}),
            Some(json!({"eventType": "CONSENT_CHANGE", "consent": {"marketing": false}})),
        ),
        (json!({"eventType": "IDENTITY_MERGE", "identity": {}}), None),
        (json!({"eventType": "STEWARD_ASSERTION", "reason": "x"}), None),
    ];
    for (event, expected) in cases {
        let given = provided(event.as_object().unwrap()).map(Value::Object);
        assert_eq!(given, expected, "{event}");
    }
}
