//! Unique values go in everywhere; no byte that was written holds one of them in clear.

use base64::Engine as _;
use serde_json::json;

use crate::rig::{EVENTS, Installation, files, query, sample};

const PHONE: &str = "+15550117319";
const MAIL: &str = "canary-77319@example.com";
const ACCOUNT: &str = "ACCOUNT-CANARY-77319";

#[test]
fn no_byte_on_disk_or_in_the_log_holds_what_clients_sent() {
    let installation = Installation::new();
    let server = installation.start();
    let fields = [
        "interactionId",
        "resolvedCustomerId",
        "resolutionSource",
        "agentId",
        "queueId",
        "requestId",
        "note",
    ];
    for (number, field) in fields.iter().enumerate() {
        for value in [PHONE, MAIL, ACCOUNT] {
            let mut event = sample();
            event["auditEvent"]["number"] = json!(number);
            event["auditEvent"][*field] = json!(value);
            let headers = [("x-api-key", installation.key.as_str()), ("idempotency-key", ACCOUNT)];
            server.post(EVENTS, &headers[..1 + number % 2], event.to_string());
            event["auditEvent"]["piiContext"] = json!({ "phoneHash": value, value: value });
            server.post(EVENTS, &headers[..1], event.to_string());
            server.post(EVENTS, &[("x-api-key", value)], event.to_string());
            server.access(&installation, &query(value));
        }
    }
    let found = server.access(&installation, &query(ACCOUNT));
    assert!(String::from_utf8_lossy(found.body()).contains(ACCOUNT), "an event with the canary was stored");
    server.stop();
    let log = installation.log.lock().unwrap().clone().into_bytes();
    let stored =
        files(&installation.home()).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap()));
    for (path, bytes) in stored.chain([("the process' log".into(), log)]) {
        let bytes = bytes.to_ascii_lowercase();
        for canary in [PHONE, MAIL, ACCOUNT] {
            let raw = canary.as_bytes();
            let forms = [
                raw.to_ascii_lowercase(),
                raw.iter().rev().copied().collect::<Vec<u8>>().to_ascii_lowercase(),
                data_encoding::HEXLOWER.encode(raw).into_bytes(),
                base64::engine::general_purpose::STANDARD_NO_PAD
                    .encode(&raw[..raw.len() / 3 * 3])
                    .to_ascii_lowercase()
                    .into_bytes(),
            ];
            for form in forms {
                assert!(
                    !bytes.windows(form.len()).any(|window| window == form),
                    "{canary} in {}",
                    path.display()
                );
            }
        }
    }
}
