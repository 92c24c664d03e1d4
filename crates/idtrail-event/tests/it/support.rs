//! What several modules need: the guide's samples, fixed secrets, short cuts for sealing and opening.

use idtrail_event::{
    BodyText, ChannelCode, ClassId, ClassSecret, Decided, Dedupe, EncodedEvent, EventId, Finding,
    GlobalCustomerId, IndexSecret, JsonLimits, Leaf, LeafHeader, OpenLeaf, Rules, SealRequest,
    SectionSecrets, SourceCode, TypeCode, ValidEvent, leaf_key, parse_json, seal, validate,
};
use serde_json::Value;

pub(crate) const ORIGIN: &str = "example.com/log";
/// 2023-10-28T00:00:00Z, shortly after the samples.
pub(crate) const RECEIVED_MS: u64 = 1_698_451_200_000;
pub(crate) const IVS: [[u8; 12]; 2] = [[5; 12], [6; 12]];

pub(crate) fn parse(text: &str) -> Value {
    parse_json(text.as_bytes(), JsonLimits::EVENT).unwrap()
}

pub(crate) fn identity_resolution() -> Value {
    parse(include_str!("../../../../vectors/event/identity-resolution.json"))
}

pub(crate) fn data_deletion() -> Value {
    parse(include_str!("../../../../vectors/event/data-deletion.json"))
}

/// Returns the first sample with one member of `auditEvent` replaced.
pub(crate) fn with(name: &str, value: Value) -> Value {
    let mut body = identity_resolution();
    body["auditEvent"][name] = value;
    body
}

pub(crate) fn check(body: Value) -> Result<ValidEvent, Vec<Finding>> {
    validate(body, &Rules::default(), RECEIVED_MS as i64)
}

pub(crate) fn codes(findings: &[Finding]) -> Vec<(&str, &str)> {
    findings.iter().map(|finding| (finding.pointer.as_str(), finding.code)).collect()
}

pub(crate) fn secrets() -> SectionSecrets {
    SectionSecrets {
        event: IndexSecret::new([1; 32]),
        staff: IndexSecret::new([2; 32]),
        class: ClassSecret::new([3; 32]),
    }
}

pub(crate) fn header() -> LeafHeader {
    LeafHeader {
        event_type: TypeCode::IDENTITY_RESOLUTION,
        hour: 471_792,
        source: SourceCode::API,
        channel: ChannelCode::VOICE,
        class: ClassId::IDENTITY,
        clear: None,
    }
}

pub(crate) fn decided() -> Decided<'static> {
    Decided {
        received_ms: RECEIVED_MS,
        subject: Some(GlobalCustomerId::new([7; 16])),
        event_id: EventId::new([8; 16]),
        system: "crm",
        actor: Some("person_1"),
        dedupe: Dedupe::CONTENT,
        subject_sequence: 4,
        previous_index: Some(17),
    }
}

pub(crate) fn sealed(body: &Value, header: &LeafHeader) -> Vec<u8> {
    let request =
        SealRequest { header: header.clone(), encoded: &EncodedEvent::of(body), decided: decided() };
    seal(&request, &secrets(), &IVS, ORIGIN).unwrap()
}

pub(crate) fn opened(leaf: &[u8]) -> OpenLeaf {
    let secrets = secrets();
    Leaf::parse(leaf)
        .unwrap()
        .open_with(&secrets.event, Some(&secrets.staff), &secrets.class, ORIGIN)
        .unwrap()
}

/// Opens a leaf as a text, staff included.
pub(crate) fn opened_text(leaf: &[u8]) -> BodyText {
    let secrets = secrets();
    let leaf = Leaf::parse(leaf).unwrap();
    let open = leaf.open_body(&leaf_key(&secrets.event, &secrets.class, leaf.iv(), ORIGIN)).unwrap();
    let staff = open.staff_iv().unwrap().map(|iv| leaf_key(&secrets.staff, &secrets.class, &iv, ORIGIN));
    open.finish(staff.as_ref()).unwrap()
}
