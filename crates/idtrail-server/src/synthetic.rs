//! Made-up events of a contact centre for the demo and the benchmark: the same number gives the same event.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The guide's two samples, unchanged.
pub const SAMPLES: [&str; 2] = [
    include_str!("../../../vectors/event/identity-resolution.json"),
    include_str!("../../../vectors/event/data-deletion.json"),
];

const CHANNELS: [(&str, &str); 3] =
    [("VOICE", "IVR-CallerID"), ("CHAT", "CRM_API_LOOKUP"), ("EMAIL", "Digital-Email")];

fn digest(label: &str, number: u64) -> [u8; 32] {
    Sha256::new_with_prefix(label).chain_update(number.to_be_bytes()).finalize().into()
}

fn hex(label: &str, number: u64) -> String {
    HEXLOWER.encode(&digest(label, number))
}

/// Returns the customer id of a made-up person.
pub fn customer(person: u64) -> String {
    format!("cust_hash_{}", hex("person", person))
}

/// Returns event number `number` of a centre with `people` customers, as it would be sent at `now_ms`.
pub fn event(number: u64, people: u64, now_ms: i64) -> Value {
    let random = digest("event", number);
    let pick = |at: usize| u64::from(random.get(at).copied().unwrap_or_default());
    let person = (pick(0) << 16 | pick(1) << 8 | pick(2)) % people.max(1);
    let (channel, source) =
        CHANNELS.get((pick(3) % 3) as usize).copied().unwrap_or(("VOICE", "IVR-CallerID"));
    let id = HEXLOWER.encode(random.get(4..20).unwrap_or_default());
    let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    let interaction =
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32));
    let time = Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    json!({ "auditEvent": {
        "eventType": "IDENTITY_RESOLUTION",
        "timestamp": format!("{time:.3}"),
        "interactionId": interaction,
        "channelType": channel,
        "resolvedCustomerId": customer(person),
        "resolutionSource": source,
        "piiContext": {
            "phoneHash": if channel == "VOICE" { Value::from(hex("phone", person)) } else { Value::Null },
            "emailHash": if channel == "VOICE" { Value::Null } else { Value::from(hex("mail", person)) },
            "accountNumberHash": hex("account", person),
        },
        "complianceFlags": { "gdprConsentRecorded": true, "dataSubjectRequestPending": false },
        "agentId": if pick(20) % 2 == 0 { Value::Null } else { Value::from(format!("agent-{:03}", pick(21))) },
        "queueId": format!("q-sales-{:02}", pick(22) % 40),
    }})
}
