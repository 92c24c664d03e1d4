//! JSON out equals JSON in, for any JSON.

use data_encoding::HEXLOWER;
use idtrail_event::{EncodedEvent, JsonLimits, parse_json};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::support::{header, identity_resolution, opened, opened_text, sealed};

#[test]
fn strings_take_the_forms_of_the_vectors() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../../../vectors/event/strings.json")).unwrap();
    for case in vectors {
        let body = json!({"auditEvent": {"x": case["text"]}});
        let encoded = EncodedEvent::of(&body);
        // A map {0: {"x": …}}: a1 00 a1 61 78 and the string.
        let form = encoded.public().strip_prefix(&[0xa1, 0x00, 0xa1, 0x61, 0x78]).unwrap();
        assert_eq!(HEXLOWER.encode(form), case["cbor"].as_str().unwrap(), "{}", case["text"]);
        assert_eq!(opened(&sealed(&body, &header())).body, body);
    }
}

#[test]
fn registered_members_keep_values_of_any_kind() {
    for name in [
        "eventType",
        "channelType",
        "piiContext",
        "complianceFlags",
        "timestamp",
        "agentId",
        "agentName",
        "identity",
    ] {
        for value in [
            json!(null),
            json!(7),
            json!("VOICE"),
            json!("IDENTITY_MERGE"),
            json!("CUSTOM"),
            json!("OTHER"),
            json!("a591a6d40bf420404a011733cfb7b190"),
            json!([{"phoneHash": 1, "eventType": "VOICE"}]),
            json!({"phoneHash": {"phoneHash": "x"}, "gdprConsentRecorded": [], "eventType": "ANONYMOUS"}),
            json!({}),
        ] {
            let body = json!({"auditEvent": {name: value, "nested": {name: value}}, "outer": {name: value}, name: value});
            let open = opened(&sealed(&body, &header()));
            assert_eq!(open.body, body);
            assert_eq!(open.encoded, EncodedEvent::of(&body));
        }
    }
}

#[test]
fn the_order_of_members_does_not_matter() {
    let one = parse_json(br#"{"auditEvent":{"b":1,"a":{"y":1,"x":2}},"o":1}"#, JsonLimits::EVENT).unwrap();
    let two = parse_json(br#"{"o":1,"auditEvent":{"a":{"x":2,"y":1},"b":1}}"#, JsonLimits::EVENT).unwrap();
    assert_eq!(EncodedEvent::of(&one), EncodedEvent::of(&two));
}

#[test]
fn nests_as_deep_as_json_may() {
    // 32 levels: the body, the event and 30 of either kind.
    for (open, close) in [("[", "]"), ("{\"piiContext\":", "}")] {
        let text = format!("{{\"auditEvent\":{{\"x\":{}1{}}}}}", open.repeat(30), close.repeat(30));
        let body = parse_json(text.as_bytes(), JsonLimits::EVENT).unwrap();
        assert_eq!(opened(&sealed(&body, &header())).body, body);
    }
}

/// The body as a text says the same as the tree, and its members stand where it says.
fn same_as_text(body: &Value) {
    let text = opened_text(&sealed(body, &header()));
    let tree: Value = serde_json::from_str(&text.text).unwrap();
    assert_eq!(tree.to_string(), body.to_string());
    let part = |(start, end): (u32, u32)| &text.text[start as usize..end as usize];
    let mut places = Vec::new();
    let mut path: Vec<String> = Vec::new();
    for member in &text.members {
        let name: String = serde_json::from_str(&format!("\"{}\"", part(member.name))).unwrap();
        path.truncate(usize::from(member.depth));
        path.push(name);
        let value: Value = serde_json::from_str(part(member.value)).unwrap();
        places.push((path.clone(), value.to_string()));
    }
    places.sort();
    let mut expected = Vec::new();
    members_of(body, &mut Vec::new(), &mut expected);
    expected.sort();
    assert_eq!(places, expected);
}

fn members_of(value: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    for (name, value) in
        value.as_object().into_iter().flatten().filter(|_| path.len() < 3).collect::<Vec<_>>()
    {
        path.push(name.clone());
        found.push((path.clone(), value.to_string()));
        members_of(value, path, found);
        path.pop();
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let finite = |float: &f64| float.is_finite();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such number", finite).prop_map(Value::from),
        any::<i16>().prop_map(|small| Value::from(f64::from(small) / 1024.0)),
        any::<u16>().prop_map(|bits| Value::from(f64::from(bits) / 16_777_216.0)),
        any::<f32>().prop_map(f64::from).prop_filter("JSON has no such number", finite).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9a-f]{30,66}".prop_map(Value::from),
        "[a-z_:-]{0,18}[0-9a-f]{32}".prop_map(Value::from),
        "(i-|x|q-|urn:uuid:)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
            .prop_map(Value::from),
        "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{3})?Z".prop_map(Value::from),
        "gc_[a-z2-7]{26}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let name =
            prop_oneof![any::<String>(), "[a-z]{1,30}", "(phone|email)Hash|hashScheme|gdprConsentRecorded"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_json_comes_back(
        value in any_json(),
        name in "[a-zA-Z]{1,12}|piiContext|complianceFlags|agentId|eventType|channelType",
        outer in any_json(),
    ) {
        let body = json!({"auditEvent": {name: value}, "outer": outer});
        let open = opened(&sealed(&body, &header()));
        // Text tells 1 from 1.0 and 0.0 from -0.0, which comparison of values does not.
        prop_assert_eq!(open.body.to_string(), body.to_string());
        prop_assert_eq!(&open.encoded, &EncodedEvent::of(&body));
        same_as_text(&body);
        let parsed = parse_json(body.to_string().as_bytes(), JsonLimits { depth_max: 100, ..JsonLimits::EVENT });
        prop_assert_eq!(parsed.unwrap().to_string(), body.to_string());
    }

    #[test]
    fn the_samples_come_back_with_any_extra_member(name in "\\PC{0,20}", value in any_json()) {
        let mut body = identity_resolution();
        body["auditEvent"][name] = value;
        prop_assert_eq!(opened(&sealed(&body, &header())).body.to_string(), body.to_string());
        same_as_text(&body);
    }
}
