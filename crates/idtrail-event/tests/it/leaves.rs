//! Sealing and opening, against the vectors and by changing leaves.

use std::borrow::Cow;

use data_encoding::HEXLOWER;
use idtrail_event::clear::{ClassTableItem, KeyShreddedItem, OriginStartItem, ShredIntentItem};
use idtrail_event::{
    ChannelCode, ClassId, ClassSecret, ClassTable, Decided, Dedupe, DedupeKind, DedupeValue, EncodedEvent,
    ErrorKind, EventId, GlobalCustomerId, IndexSecret, JsonLimits, LEAF_BYTES_MAX, Leaf, LeafError,
    LeafHeader, LeafKey, SealRequest, SectionSecrets, SourceCode, StaffState, TypeCode, key_commitment,
    leaf_key, parse_json, seal,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::{
    IVS, ORIGIN, RECEIVED_MS, check, data_deletion, decided, header, identity_resolution, opened, sealed,
    secrets, with,
};

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("../../../../vectors/event/leaves.json")).unwrap()
}

fn secrets_of(case: &Value) -> SectionSecrets {
    let secrets = &case["secrets"];
    SectionSecrets {
        event: IndexSecret::new(array(&secrets["index_event"])),
        staff: IndexSecret::new(array(&secrets["index_staff"])),
        class: ClassSecret::new(array(&secrets["class"])),
    }
}

fn header_of(case: &Value) -> LeafHeader {
    let number = |name: &str| case["header"][name].as_u64().unwrap();
    LeafHeader {
        event_type: TypeCode::new(number("type") as u16),
        hour: number("hour") as u32,
        source: SourceCode::new(number("source") as u8),
        channel: ChannelCode::new(number("channel") as u8),
        class: ClassId::new(number("class") as u8),
        clear: case["header"]["clear"].as_str().map(|_| hex(&case["header"]["clear"])),
    }
}

fn decided_of(case: &Value) -> Decided<'_> {
    let decided = &case["decided"];
    let dedupe = &decided["dedupe"];
    let id = match (dedupe.get("text"), dedupe.get("bytes")) {
        (Some(text), _) => DedupeValue::Text(Cow::Borrowed(text.as_str().unwrap())),
        (_, Some(bytes)) => DedupeValue::Bytes(Cow::Owned(hex(bytes))),
        _ => DedupeValue::Absent,
    };
    Decided {
        received_ms: decided["received_ms"].as_u64().unwrap(),
        subject: decided["subject"].as_str().map(|_| GlobalCustomerId::new(array(&decided["subject"]))),
        event_id: EventId::new(array(&decided["event_id"])),
        system: decided["system"].as_str().unwrap(),
        actor: decided["actor"].as_str(),
        dedupe: Dedupe { kind: DedupeKind::new(dedupe["kind"].as_u64().unwrap() as u8), id },
        subject_sequence: decided["subject_sequence"].as_u64().unwrap(),
        previous_index: decided["previous_index"].as_u64(),
    }
}

#[test]
fn seals_and_opens_the_vectors() {
    for case in vectors() {
        let (name, origin, expect) = (&case["name"], case["origin"].as_str().unwrap(), &case["expect"]);
        let body = parse_json(case["body"].as_str().unwrap().as_bytes(), JsonLimits::EVENT).unwrap();
        let encoded = EncodedEvent::of(&body);
        assert_eq!(encoded.public(), hex(&expect["public"]), "{name}");
        assert_eq!(
            encoded.staff().map(<[u8]>::to_vec),
            expect["staff"].as_str().map(|_| hex(&expect["staff"])),
            "{name}"
        );
        let digest: [u8; 32] = Sha256::digest(encoded.content_frame()).into();
        assert_eq!(digest.to_vec(), hex(&expect["content_frame_sha256"]), "{name}");

        let (secrets, ivs) = (secrets_of(&case), [array(&case["ivs"][0]), array(&case["ivs"][1])]);
        let key = leaf_key(&secrets.event, &secrets.class, &ivs[0], origin);
        assert_eq!(key.expose().to_vec(), hex(&expect["event_key"]), "{name}");
        assert_eq!(key_commitment(&key, &ivs[0]).to_vec(), hex(&expect["event_commitment"]), "{name}");
        let request = SealRequest { header: header_of(&case), encoded: &encoded, decided: decided_of(&case) };
        let leaf = seal(&request, &secrets, &ivs, origin).unwrap();
        assert_eq!(leaf, hex(&expect["leaf"]), "{name}");

        let leaf = Leaf::parse(&leaf).unwrap();
        assert_eq!((leaf.header(), leaf.iv()), (&request.header, &ivs[0]));
        let open = leaf.open_with(&secrets.event, Some(&secrets.staff), &secrets.class, origin).unwrap();
        assert_eq!(open.body.to_string(), body.to_string(), "{name}");
        assert_eq!(open.encoded, encoded, "{name}");
        assert_eq!(open.decided(), request.decided);
        let staff = if encoded.staff().is_some() { StaffState::Open } else { StaffState::Absent };
        assert_eq!(open.staff, staff);
    }
}

#[test]
fn refuses_the_leaves_of_the_vectors() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../vectors/event/leaf_refusals.json")).unwrap();
    let key = LeafKey::new(array(&vectors["event_key"]));
    for case in vectors["cases"].as_array().unwrap() {
        let bytes = hex(&case["leaf"]);
        let outcome = match (case["step"].as_str().unwrap(), Leaf::parse(&bytes)) {
            ("open", leaf) => leaf.expect("it can be read").open(&key).map(|_| ()),
            (_, leaf) => leaf.map(|_| ()),
        };
        let (error, kind) = match outcome.expect_err(case["name"].as_str().unwrap()) {
            LeafError::Malformed(_) => ("malformed", ErrorKind::Damaged),
            LeafError::Version(_) => ("version", ErrorKind::Invalid),
            LeafError::WrongKey => ("wrong_key", ErrorKind::Denied),
            LeafError::Altered => ("altered", ErrorKind::Damaged),
            LeafError::TooLong(_) => ("too_long", ErrorKind::Invalid),
        };
        assert_eq!(error, case["error"], "{}", case["name"]);
        assert_eq!(outcome.expect_err("as above").kind(), kind);
    }
}

#[test]
fn gives_back_the_samples_of_the_guide() {
    for body in [identity_resolution(), data_deletion()] {
        let encoded = check(body.clone()).unwrap().encode();
        let request = SealRequest { header: header(), encoded: &encoded, decided: decided() };
        let open = opened(&seal(&request, &secrets(), &IVS, ORIGIN).unwrap());
        assert_eq!(open.body, body);
        assert_eq!(open.body.to_string(), body.to_string());
        assert_eq!(open.resolved_customer_id(), Some("cust_hash_9f86d08"));
    }
}

#[test]
fn staff_are_sealed_apart() {
    let mut body = with("agentId", json!("agent-4711"));
    body["auditEvent"]["agentName"] = json!("Zoë");
    body["auditEvent"]["staffId"] = json!(null);
    let bytes = sealed(&body, &header());
    let (leaf, secrets) = (Leaf::parse(&bytes).unwrap(), secrets());
    let mut open = leaf.open_with(&secrets.event, None, &secrets.class, ORIGIN).unwrap();
    let event = open.body["auditEvent"].as_object().unwrap();
    assert!(!event.contains_key("agentId") && !event.contains_key("agentName"));
    assert_eq!(event["staffId"], json!(null));
    assert_eq!((open.staff, open.encoded.staff()), (StaffState::Closed, None));

    assert_eq!(open.open_staff(&LeafKey::new([0; 32])), Err(LeafError::WrongKey));
    let event_key = leaf_key(&secrets.event, &secrets.class, leaf.iv(), ORIGIN);
    assert_eq!(open.open_staff(&event_key), Err(LeafError::WrongKey), "one section's key opens no other");
    assert_eq!(open.staff, StaffState::Closed);

    let iv = open.staff_iv().unwrap().unwrap();
    open.open_staff(&leaf_key(&secrets.staff, &secrets.class, &iv, ORIGIN)).unwrap();
    assert_eq!((&open.body, open.staff), (&body, StaffState::Open));
    assert_eq!(open.encoded, EncodedEvent::of(&body));
    // Opening twice changes nothing.
    open.open_staff(&LeafKey::new([0; 32])).unwrap();
    assert_eq!(open.body, body);
}

#[test]
fn the_key_depends_on_everything() {
    let (a, b) = ([1; 32], [2; 32]);
    let key = |index: [u8; 32], class: [u8; 32], iv: u8, origin: &str| {
        *leaf_key(&IndexSecret::new(index), &ClassSecret::new(class), &[iv; 12], origin).expose()
    };
    let keys = [
        key(a, b, 1, ORIGIN),
        key(b, a, 1, ORIGIN),
        key(a, a, 1, ORIGIN),
        key(b, b, 1, ORIGIN),
        key(a, b, 2, ORIGIN),
        key(a, b, 1, "example.com/logs"),
    ];
    for (at, left) in keys.iter().enumerate() {
        assert!(keys[at + 1..].iter().all(|right| left != right));
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let bytes = sealed(&with("agentId", json!("agent-4711")), &header());
    let secrets = secrets();
    let key = leaf_key(&secrets.event, &secrets.class, &IVS[0], ORIGIN);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let outcome = Leaf::parse(&changed).and_then(|leaf| leaf.open(&key).map(|_| ()));
            assert!(outcome.is_err(), "byte {at}, bit {bit}");
        }
    }
    for length in 0..bytes.len() {
        assert!(Leaf::parse(&bytes[..length]).is_err());
    }
}

#[test]
fn unknown_codes_are_kept_and_shown_as_numbers() {
    let header = LeafHeader {
        event_type: TypeCode::new(999),
        hour: u32::MAX,
        source: SourceCode::new(99),
        channel: ChannelCode::new(98),
        class: ClassId::new(97),
        clear: Some(vec![0x81, 0xf6]),
    };
    let bytes = sealed(&identity_resolution(), &header);
    let leaf = Leaf::parse(&bytes).unwrap();
    assert_eq!(leaf.header(), &header);
    let shown = header.to_string();
    assert!(
        shown.starts_with("999 ") && shown.ends_with(" source=99 channel=98 class=97 clear=2 bytes"),
        "{shown}"
    );
    let known = super::support::header();
    assert_eq!(
        known.to_string(),
        "IDENTITY_RESOLUTION 2023-10-28T00Z source=api channel=VOICE class=identity"
    );
    assert_eq!(opened(&bytes).header, header);
}

#[test]
fn items_in_clear_are_read_without_a_key() {
    let table = ClassTableItem(ClassTable::default());
    let start = OriginStartItem { previous: Some(("a".to_owned(), "b\n".to_owned())) };
    let first = OriginStartItem { previous: None };
    let intent = ShredIntentItem { request_id: "r".to_owned(), count: 3, target_epoch: 9 };
    let shredded = KeyShreddedItem { request_id: "r".to_owned(), count: u64::MAX, epoch: 10 };
    for item in [table.encode(), start.encode(), first.encode(), intent.encode(), shredded.encode()] {
        let header = LeafHeader { clear: Some(item.clone()), class: ClassId::SYSTEM, ..header() };
        let bytes = sealed(&json!({"auditEvent": {"eventType": "CLASS_TABLE"}}), &header);
        assert_eq!(Leaf::parse(&bytes).unwrap().header().clear.as_ref(), Some(&item));
        assert!(ClassTableItem::decode(&item[1..]).is_err());
        assert!(OriginStartItem::decode(&[item.as_slice(), &[0]].concat()).is_err());
    }
    assert_eq!(ClassTableItem::decode(&table.encode()), Ok(table));
    assert_eq!(OriginStartItem::decode(&start.encode()), Ok(start));
    assert_eq!(OriginStartItem::decode(&first.encode()), Ok(first));
    assert_eq!(ShredIntentItem::decode(&intent.encode()), Ok(intent));
    assert_eq!(KeyShreddedItem::decode(&shredded.encode()), Ok(shredded));
}

#[test]
fn a_clear_item_must_be_one_deterministic_item() {
    for clear in [
        &[][..],
        &[0xf6, 0xf6],
        &[0x18, 0x01],
        &[0x9f, 0xff],
        &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xf7],
        &[0x41],
    ] {
        let header = LeafHeader { clear: Some(clear.to_vec()), ..header() };
        let encoded = EncodedEvent::of(&identity_resolution());
        let request = SealRequest { header, encoded: &encoded, decided: decided() };
        assert!(
            matches!(seal(&request, &secrets(), &IVS, ORIGIN), Err(LeafError::Malformed(_))),
            "{clear:02x?}"
        );
    }
}

#[test]
fn nothing_fails_that_kept_to_the_bound() {
    let mut longest = 0;
    for length in (60_000..66_000).step_by(7) {
        let mut body = with("agentName", json!("x".repeat(200)));
        body["auditEvent"]["note"] = json!("-".repeat(length));
        let encoded = EncodedEvent::of(&body);
        let (system, actor) = ("s".repeat(64), "a".repeat(100));
        let dedupe = Dedupe::cloud_event("/source", "id");
        let bound = encoded.sealed_len_max(&system, dedupe.id_bytes().len(), actor.len());
        let all = Decided {
            received_ms: u64::MAX,
            system: &system,
            actor: Some(&actor),
            dedupe,
            subject_sequence: u64::MAX,
            previous_index: Some(u64::MAX),
            ..decided()
        };
        let header = LeafHeader { event_type: TypeCode::new(u16::MAX), hour: u32::MAX, ..header() };
        let header = LeafHeader {
            source: SourceCode::new(255),
            channel: ChannelCode::OTHER,
            class: ClassId::new(255),
            ..header
        };
        match seal(&SealRequest { header, encoded: &encoded, decided: all }, &secrets(), &IVS, ORIGIN) {
            Ok(leaf) => {
                assert!(leaf.len() <= bound && bound - leaf.len() < 64, "{} {bound}", leaf.len());
                longest = leaf.len();
            }
            Err(error) => {
                assert!(matches!(error, LeafError::TooLong(_)) && bound > LEAF_BYTES_MAX, "{bound}")
            }
        }
    }
    assert!(longest > LEAF_BYTES_MAX - 64, "{longest}");
    let bytes = vec![0; LEAF_BYTES_MAX + 1];
    assert_eq!(Leaf::parse(&bytes).expect_err("too long"), LeafError::TooLong(LEAF_BYTES_MAX + 1));
}

#[test]
fn dedupe_ids_come_back_and_never_collide() {
    assert_ne!(Dedupe::cloud_event("/a", "bc"), Dedupe::cloud_event("/ab", "c"));
    assert_ne!(Dedupe::cloud_event("1:/a", "b"), Dedupe::cloud_event("1", ":/ab"));
    for dedupe in [
        Dedupe::CONTENT,
        Dedupe::text(DedupeKind::IDEMPOTENCY_KEY, "a key"),
        Dedupe::bytes(DedupeKind::SYSTEM, &[0, 255]),
        Dedupe::cloud_event("/mycontext", "A234"),
        Dedupe::text(DedupeKind::EVENT_BRIDGE, ""),
    ] {
        let encoded = EncodedEvent::of(&identity_resolution());
        let decided = Decided { dedupe: dedupe.clone(), ..decided() };
        let request = SealRequest { header: header(), encoded: &encoded, decided };
        let open = opened(&seal(&request, &secrets(), &IVS, ORIGIN).unwrap());
        assert_eq!(open.dedupe, dedupe.into_owned());
    }
}

#[test]
fn events_that_differ_have_another_content() {
    let frame = |body: &Value| EncodedEvent::of(body).content_frame();
    let base = identity_resolution();
    let mut outer = base.clone();
    outer["x"] = json!(null);
    let bodies = [
        base,
        outer,
        with("agentId", json!("agent-1")),
        with("agentId", json!("agent-2")),
        with("n", json!(1)),
        with("n", json!(1.0)),
        with("n", json!("1")),
        with("n", json!(-0.0)),
        with("n", json!(0.0)),
        with("n", json!(0)),
    ];
    for (at, left) in bodies.iter().enumerate() {
        assert!(bodies[at + 1..].iter().all(|right| frame(left) != frame(right)), "{left}");
    }
}

#[test]
fn events_of_the_system_seal_like_all_others() {
    let Value::Object(event) = json!({"timestamp": "2026-01-31T23:59:59Z", "channelType": "CHAT"}) else {
        panic!()
    };
    let event = idtrail_event::ValidEvent::from_system(TypeCode::IDENTITY_MERGE, event, 1_769_903_999_000);
    assert_eq!(event.body()["auditEvent"]["eventType"], "IDENTITY_MERGE");
    let header = LeafHeader::of(&event, SourceCode::SYSTEM, RECEIVED_MS);
    assert_eq!((header.class, header.channel, header.hour), (ClassId::IDENTITY, ChannelCode::CHAT, 471_792));
    assert_eq!(header.month(), 645);
    let request = SealRequest { header, encoded: &event.encode(), decided: decided() };
    let open = opened(&seal(&request, &secrets(), &IVS, ORIGIN).unwrap());
    assert_eq!(&open.body, event.body());
}
