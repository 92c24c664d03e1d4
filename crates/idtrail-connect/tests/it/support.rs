//! Made-up events and plans.

use idtrail_connect::filter::Filter;
use idtrail_connect::mapping::Mapping;
use idtrail_connect::personal::{Erase, Pii, Privacy, References};
use idtrail_connect::{EventRow, FeedEntry, Plan, Position};
use serde_json::{Value, json};

pub(crate) const HASH: &str = "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e";

/// The integration guide's first sample, as the log holds it.
pub(crate) fn sample(at: Position) -> EventRow {
    let n = at.seq;
    event(
        at,
        json!({"auditEvent": {
            "eventType": "IDENTITY_RESOLUTION",
            "timestamp": "2023-10-27T14:30:00Z",
            "interactionId": format!("i-12345678-90ab-cdef-1234-{n:012x}"),
            "channelType": if n % 3 == 0 { "CHAT" } else { "VOICE" },
            "resolvedCustomerId": "cust_hash_9f86d08",
            "resolutionSource": "CRM_API_LOOKUP",
            "piiContext": {"phoneHash": HASH, "emailHash": null, "hashScheme": "sha256-salt"},
            "complianceFlags": {"gdprConsentRecorded": true, "dataSubjectRequestPending": false},
            "agentId": "agent-7",
            "queueId": "q-sales-support",
            "loyalty": {"tier": "gold"}
        }}),
    )
}

pub(crate) fn event(position: Position, body: Value) -> EventRow {
    EventRow {
        position,
        received_ms: 1_700_000_000_000 + i64::try_from(position.seq).unwrap(),
        event_id: Some(format!("ev-{}-{}", position.log_id.get(), position.seq)),
        customer_id: Some(format!("gc_{:032x}", position.seq % 7)),
        leaf_hash: [7; 32],
        sealed_leaf: bytes::Bytes::from_static(b"sealed"),
        body,
    }
}

pub(crate) fn samples(log_id: u32, seqs: std::ops::Range<u64>) -> Vec<FeedEntry> {
    seqs.map(|seq| FeedEntry::opened(sample(Position::new(log_id, seq)))).collect()
}

pub(crate) fn privacy(pii: Pii, erase: Erase) -> Privacy {
    Privacy::new(pii, erase).unwrap()
}

pub(crate) fn plan(filter: &str, pii: Pii, erase: Erase) -> Plan {
    Plan {
        filter: Filter::parse(filter).unwrap(),
        mapping: Mapping::default_for(privacy(pii, erase)),
        references: References::new([9; 32]),
    }
}
