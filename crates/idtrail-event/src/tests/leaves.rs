use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use coset::{CborSerializable, CoseEncrypt0};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{RECEIVED_MS, check, data_deletion, identity_resolution};
use crate::*;

const ORIGIN: &str = "example.com/log";

struct Secrets {
    event: IndexSecret,
    staff: IndexSecret,
    class: ClassSecret,
}

fn secrets() -> Secrets {
    Secrets {
        event: IndexSecret::new([1; 32]),
        staff: IndexSecret::new([2; 32]),
        class: ClassSecret::new([3; 32]),
    }
}

fn header() -> LeafHeader {
    LeafHeader {
        event_type: EventType::IDENTITY_RESOLUTION,
        hour: 471_791,
        source: Source::API,
        channel: Channel::VOICE,
        class: ClassId::IDENTITY,
        clear: None,
    }
}

fn decided() -> Decided {
    Decided {
        received_ms: RECEIVED_MS as u64,
        subject: Some(GlobalCustomerId::new([7; 16])),
        event_id: EventId::new([8; 16]),
        system: "crm".to_string(),
        actor: Some("person_1".to_string()),
        dedupe: DedupeId::IdempotencyKey("abc".to_string()),
        subject_sequence: 4,
        previous_index: Some(17),
    }
}

fn sealed(body: &Value, header: &LeafHeader) -> Vec<u8> {
    let secrets = secrets();
    let encoded = EncodedEvent::of(body);
    let request = SealRequest { header, encoded: &encoded, decided: &decided() };
    let sections = SectionSecrets { event: &secrets.event, staff: &secrets.staff, class: &secrets.class };
    seal(&request, &sections, &[[5; 12], [6; 12]], ORIGIN).expect("it fits")
}

fn opened(leaf: &[u8]) -> OpenLeaf {
    let secrets = secrets();
    let leaf = Leaf::parse(leaf).expect("it is a leaf");
    let mut open =
        leaf.open(&leaf_key(&secrets.event, &secrets.class, leaf.iv(), ORIGIN)).expect("the key is right");
    if let Some(iv) = open.staff_iv().expect("the section is whole") {
        open.open_staff(&leaf_key(&secrets.staff, &secrets.class, &iv, ORIGIN)).expect("the key is right");
    }
    open
}

#[test]
fn gives_back_the_samples_of_the_guide() {
    for body in [identity_resolution(), data_deletion()] {
        let open = opened(&sealed(&body, &header()));
        assert_eq!(*open.body(), body);
        assert!(open.decided == decided());
    }
}

#[test]
fn every_compact_form_expands_to_the_same_text() {
    let gcid = GlobalCustomerId::new([9; 16]).to_string();
    for text in [
        "a591a6d40bf420404a011733cfb7b190",
        "A591A6D40BF420404A011733CFB7B190",
        "a591a6d40bf420404a011733cfb7b19",
        "12345678-90ab-cdef-1234-567890abcdef",
        "i-12345678-90ab-cdef-1234-567890abcdef",
        "cust_hash_a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e",
        "a_very_long_prefix_here_a591a6d40bf420404a011733cfb7b190",
        "2023-10-27T14:30:00Z",
        "2023-10-27T14:30:00.000Z",
        "2023-10-27T14:30:00.120Z",
        "2023-10-27t14:30:00Z",
        "2023-10-27T14:30:00+00:00",
        "1900-01-01T00:00:00.001Z",
        "2016-12-31T23:59:60Z",
        &gcid,
        "gc_aaaaaaaaaaaaaaaaaaaaaaaaaz",
        "VOICE",
        "",
    ] {
        let body =
            json!({"auditEvent": {"eventType": text, "channelType": text, "x": text, "interactionId": text}});
        assert_eq!(*opened(&sealed(&body, &header())).body(), body, "{text}");
    }
}

#[test]
fn staff_are_sealed_apart() {
    let mut body = identity_resolution();
    body["auditEvent"]["agentId"] = json!("agent-4711");
    let leaf_bytes = sealed(&body, &header());
    let secrets = secrets();
    let leaf = Leaf::parse(&leaf_bytes).unwrap();
    let mut open = leaf.open(&leaf_key(&secrets.event, &secrets.class, leaf.iv(), ORIGIN)).unwrap();
    assert!(open.body()["auditEvent"].get("agentId").is_none());
    assert!(matches!(open.staff(), StaffSection::Closed(_)));
    let wrong = LeafKey::new([0; 32]);
    assert_eq!(open.open_staff(&wrong), Err(LeafError::WrongKey));
    let iv = open.staff_iv().unwrap().unwrap();
    open.open_staff(&leaf_key(&secrets.staff, &secrets.class, &iv, ORIGIN)).unwrap();
    assert_eq!(*open.body(), body);
}

#[test]
fn another_cose_library_opens_a_leaf() {
    let body = identity_resolution();
    let bytes = sealed(&body, &header());
    let cose = CoseEncrypt0::from_slice(&bytes).expect("it is COSE_Encrypt0");
    assert_eq!(cose.clone().to_vec().expect("it encodes"), bytes, "decode and encode give the same bytes");
    let secrets = secrets();
    let key = leaf_key(&secrets.event, &secrets.class, &[5; 12], ORIGIN);
    let content = cose.decrypt_ciphertext(
        &[],
        || "no ciphertext",
        |ciphertext, aad| {
            use aes_gcm::aead::{Aead, KeyInit, Payload};
            let cipher = aes_gcm::Aes256Gcm::new(&(*key.expose()).into());
            let nonce: [u8; 12] = cose.protected.header.iv.as_slice().try_into().unwrap();
            cipher.decrypt(&nonce.into(), Payload { msg: ciphertext, aad }).map_err(|_| "wrong key")
        },
    );
    assert_eq!(content.expect("it decrypts").len() % 32, 0);
}

#[test]
fn every_changed_bit_is_noticed() {
    let body = identity_resolution();
    let bytes = sealed(&body, &header());
    let secrets = secrets();
    let key = leaf_key(&secrets.event, &secrets.class, &[5; 12], ORIGIN);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let outcome = Leaf::parse(&changed).and_then(|leaf| leaf.open(&key).map(|_| ()));
            assert!(outcome.is_err(), "byte {at}, bit {bit}");
        }
    }
    assert!(Leaf::parse(&bytes[..bytes.len() - 1]).is_err());
    assert!(Leaf::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn items_in_clear_are_read_without_a_key() {
    let table = ClassTable::default();
    let header = LeafHeader { clear: Some(table.encode()), class: ClassId::SYSTEM, ..header() };
    let bytes = sealed(&json!({"auditEvent": {"eventType": "CLASS_TABLE"}}), &header);
    let leaf = Leaf::parse(&bytes).unwrap();
    assert_eq!(ClassTable::decode(leaf.header().clear.as_deref().unwrap()).unwrap(), table);
    let start = clear::OriginStart { previous: Some(("a".to_string(), "b\n".to_string())) };
    assert_eq!(clear::OriginStart::decode(&start.encode()).unwrap(), start);
    let shred = clear::Shred { request_id: "r".to_string(), count: 3, epoch: 9 };
    assert_eq!(clear::Shred::decode(&shred.encode()).unwrap(), shred);
}

#[test]
fn unknown_versions_are_refused_and_unknown_codes_kept() {
    let header = LeafHeader {
        event_type: EventType::new(999),
        source: Source::new(99),
        channel: Channel::new(99),
        class: ClassId::new(99),
        ..header()
    };
    let bytes = sealed(&identity_resolution(), &header);
    assert_eq!(*Leaf::parse(&bytes).unwrap().header(), header);
    assert_eq!(header.event_type.to_string(), "999");
    let at = bytes.windows(6).position(|window| window == [0x3a, 0, 1, 0, 0, 0x87]).unwrap() + 6;
    let mut newer = bytes;
    newer[at] = 2;
    assert_eq!(Leaf::parse(&newer), Err(LeafError::Version(2)));
}

#[test]
fn tokens_as_published() {
    let vectors: Value = serde_json::from_str(include_str!("../../../../vectors/event/tokens.json")).unwrap();
    let pepper: [u8; 32] = core::array::from_fn(|at| at as u8);
    for case in vectors["tokens"].as_array().unwrap() {
        let kind = IdentifierType(case["type"].as_u64().unwrap() as u16);
        let raw = RawIdentifier::from_normal_form(kind, case["value"].as_str().unwrap().to_string());
        let token = token(&Pepper::new(pepper), vectors["tenant"].as_str().unwrap(), &raw);
        assert_eq!(token.to_string(), case["token"].as_str().unwrap());
    }
}

#[test]
fn ids_have_one_text() {
    let id = GlobalCustomerId::new([0xa5; 16]);
    assert_eq!(GlobalCustomerId::try_from(id.to_string().as_str()), Ok(id));
    for text in [
        "gc_",
        "gc_AAAAAAAAAAAAAAAAAAAAAAAAAA",
        "gc_aaaaaaaaaaaaaaaaaaaaaaaaab",
        "xx_aaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        assert!(GlobalCustomerId::try_from(text).is_err(), "{text}");
    }
    assert!(!format!("{id:?}").contains(&id.to_string()));
}

#[test]
fn months_of_hours() {
    for (hour, month) in [(0, 0), (743, 0), (744, 1), (471_791, 645), (8760, 12)] {
        assert_eq!(month_of_hour(hour), month, "{hour}");
    }
}

#[test]
fn events_that_differ_have_another_content() {
    let body = check(identity_resolution()).unwrap();
    let mut other = identity_resolution();
    other["auditEvent"]["agentId"] = json!("agent-1");
    assert_ne!(body.encode().content(), EncodedEvent::of(&other).content());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such number", |float| float.is_finite()).prop_map(Value::from),
        any::<i8>().prop_map(|small| Value::from(f64::from(small) / 8.0)),
        any::<f32>()
            .prop_filter("JSON has no such number", |float| float.is_finite())
            .prop_map(|float| Value::from(f64::from(float))),
        any::<String>().prop_map(Value::from),
        "[0-9a-f]{30,66}".prop_map(Value::from),
        "[a-z_:-]{0,18}[0-9a-f]{32}".prop_map(Value::from),
        "(i-|x)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".prop_map(Value::from),
        "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{3})?Z".prop_map(Value::from),
        "gc_[a-z2-7]{26}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_comes_back(value in any_json(), name in "[a-zA-Z]{1,12}|piiContext|complianceFlags|agentId", outer in any_json()) {
        let body = json!({"auditEvent": {name: value}, "outer": outer});
        prop_assume!(body["auditEvent"].get("eventType").is_none());
        let bytes = sealed(&body, &header());
        let open = opened(&bytes);
        prop_assert_eq!(open.body(), &body);
        prop_assert_eq!(open.encoded().content(), EncodedEvent::of(&body).content());
    }
}
