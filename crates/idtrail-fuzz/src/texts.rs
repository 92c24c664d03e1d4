//! What clients and admins write: events as JSON, identifiers, filters, mappings.

use std::sync::OnceLock;

use idtrail_connect::filter::Filter;
use idtrail_connect::mapping::Mapping;
use idtrail_connect::personal::{Erase, Pii, Privacy};
use idtrail_connect::{EventRow, LogId, Position};
use idtrail_event::{
    ClassId, ClassSecret, Decided, Dedupe, EncodedEvent, EventId, IdentifierType, IndexSecret, JsonLimits,
    Leaf, LeafHeader, Pepper, Rules, SealRequest, SectionSecrets, SourceCode, TypeCode, check, parse_json,
    seal, token,
};
use idtrail_identity::normalise::{Normaliser, NormaliserConfig, Raw};
use serde_json::Value;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "event", corpus: events, check: event, rounds: 4000 },
    Target { name: "identifier", corpus: identifiers, check: identifier, rounds: 4000 },
    Target { name: "filter", corpus: filters, check: filter, rounds: 20_000 },
    Target { name: "mapping", corpus: mappings, check: mapping, rounds: 10_000 },
];

const RECEIVED_MS: i64 = 1_698_451_200_000;

const SAMPLE: &str = include_str!("../../../vectors/event/identity-resolution.json");

fn events() -> Vec<Vec<u8>> {
    let vectors: Value = serde_json::from_str(include_str!("../../../vectors/event/json.json")).unwrap();
    let leaves: Value = serde_json::from_str(include_str!("../../../vectors/event/leaves.json")).unwrap();
    let mut corpus = vec![
        SAMPLE.as_bytes().to_vec(),
        include_bytes!("../../../vectors/event/data-deletion.json").to_vec(),
    ];
    for case in leaves.as_array().unwrap() {
        corpus.push(case["body"].as_str().unwrap().as_bytes().to_vec());
    }
    // A value that is good or bad JSON, as a member of an event.
    for text in vectors["accepted"].as_array().unwrap() {
        corpus.push(
            format!(r#"{{"auditEvent":{{"eventType":"ANONYMOUS","x":{}}}}}"#, text.as_str().unwrap()).into(),
        );
    }
    corpus
}

/// Accepted JSON is given back as the same value by the parser and, if it is an event, by a sealed leaf.
fn event(bytes: &[u8]) -> bool {
    let value = match parse_json(bytes, JsonLimits::EVENT) {
        Ok(value) => value,
        Err(error) => {
            assert!(error.offset <= bytes.len(), "an error points behind the body");
            return false;
        }
    };
    let again =
        parse_json(value.to_string().as_bytes(), JsonLimits { bytes_max: usize::MAX, ..JsonLimits::EVENT });
    assert_eq!(again.unwrap(), value, "JSON out is not JSON in");
    let Ok(valid) = check(value.clone(), &Rules::default(), RECEIVED_MS) else { return false };
    let encoded = EncodedEvent::of(valid.body());
    let header = LeafHeader {
        event_type: TypeCode::IDENTITY_RESOLUTION,
        hour: 471_792,
        source: SourceCode::API,
        channel: idtrail_event::ChannelCode::VOICE,
        class: ClassId::IDENTITY,
        clear: None,
    };
    let decided = Decided {
        received_ms: RECEIVED_MS as u64,
        subject: None,
        event_id: EventId::new([8; 16]),
        system: "crm",
        actor: None,
        dedupe: Dedupe::CONTENT,
        subject_sequence: 0,
        previous_index: None,
    };
    let bound = encoded.sealed_len_max("crm", 0, 0);
    let secrets = SectionSecrets {
        event: IndexSecret::new([1; 32]),
        staff: IndexSecret::new([2; 32]),
        class: ClassSecret::new([3; 32]),
    };
    let Ok(leaf) =
        seal(&SealRequest { header, encoded: &encoded, decided }, &secrets, &[[5; 12], [6; 12]], "a/b")
    else {
        assert!(bound > idtrail_event::LEAF_BYTES_MAX, "a leaf that should fit could not be sealed");
        return true;
    };
    assert!(leaf.len() <= bound, "a leaf is longer than the bound that was computed");
    let open = Leaf::parse(&leaf).unwrap();
    let open = open.open_with(&secrets.event, Some(&secrets.staff), &secrets.class, "a/b").unwrap();
    assert_eq!(&open.body, valid.body(), "a leaf does not give its event back");
    true
}

fn normaliser() -> &'static Normaliser {
    static ONE: OnceLock<Normaliser> = OnceLock::new();
    ONE.get_or_init(|| {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../vectors/identity/normalise.json")).unwrap();
        let config: NormaliserConfig = serde_json::from_value(vectors["config"].clone()).unwrap();
        Normaliser::new(config).unwrap()
    })
}

/// One byte of kind, then the value.
fn identifiers() -> Vec<Vec<u8>> {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../vectors/identity/normalise.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap().iter();
    cases
        .map(|case| {
            let kind = case["kind"].as_u64().unwrap() as u8;
            [&[kind], case["value"].as_str().unwrap().as_bytes()].concat()
        })
        .collect()
}

/// White space around an identifier changes nothing; the same value gives the same token.
fn identifier(bytes: &[u8]) -> bool {
    let Some((kind, value)) = bytes.split_first() else { return false };
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let kind = IdentifierType::new(u16::from(*kind));
    let tokens = |value: &str| {
        let raw = Raw { kind, value, region: Some("DE"), namespace: Some("crm") };
        let normal = normaliser().normalise(raw)?;
        let variants = normal.variants().chain(normal.folded());
        Ok::<_, idtrail_identity::normalise::Refusal>(
            std::iter::once(normal.identifier())
                .chain(variants)
                .map(|raw| token(&Pepper::new([1; 32]), "tenant-a", &raw))
                .collect::<Vec<_>>(),
        )
    };
    let one = tokens(value);
    assert_eq!(one, tokens(value), "the same value twice gives two tokens");
    if matches!(kind, IdentifierType::PHONE | IdentifierType::EMAIL) && value.len() < 500 {
        assert_eq!(one, tokens(&format!(" {value}\t")), "white space around a value changes its token");
    }
    one.is_ok()
}

fn filters() -> Vec<Vec<u8>> {
    [
        "{{auditEvent}} != null",
        "{{auditEvent.eventType}} == 'IDENTITY_RESOLUTION' and {{auditEvent.channelType}} in ('VOICE', 'CHAT')",
        "not ({{auditEvent.status}} == \"SUCCESS\" or exists {{auditEvent.piiContext.phoneHash}})",
        "{{log.seq}} >= 17 and {{log.received_at}} < '2026-01-01T00:00:00Z'",
        "{{auditEvent.complianceFlags.gdprConsentRecorded}} == true",
        "((((({{auditEvent.a}} == 1)))))",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn row() -> EventRow {
    EventRow {
        position: Position { log_id: LogId::new(0), seq: 17 },
        received_ms: RECEIVED_MS,
        event_id: None,
        customer_id: None,
        leaf_hash: [0; 32],
        sealed_leaf: Vec::new().into(),
        body: serde_json::from_str::<Value>(SAMPLE).unwrap().into(),
    }
}

/// A mistake is shown within the text, and a filter that was read says the same of an event twice.
fn filter(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Filter::parse(text) {
        Err(error) => {
            assert!(
                error.span.start <= error.span.end && error.span.end <= text.len(),
                "a mistake lies outside"
            );
            assert!(!error.render(text).is_empty());
            false
        }
        Ok(filter) => {
            assert_eq!(filter.as_str(), text);
            let again = Filter::parse(filter.as_str()).unwrap();
            assert_eq!(filter.accepts(&row()), again.accepts(&row()));
            true
        }
    }
}

fn mappings() -> Vec<Vec<u8>> {
    [
        "{{ auditEvent.timestamp }} -> target.event_time required\nauditEvent.complianceFlags -> flags : json",
        "log.seq -> position: text\nauditEvent.piiContext.phoneHash -> phone\ncustomer.id -> customer_id",
        "auditEvent.queueId -> x : int64",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Any lines are read or refused, and no two columns of a mapping have one name.
fn mapping(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let lines: Vec<&str> = text.lines().collect();
    let privacy = Privacy::new(Pii::Tokens, Erase::Delete).unwrap();
    let Ok(mapping) = Mapping::parse(&lines, privacy) else { return false };
    let mut names: Vec<String> = mapping.columns().iter().map(|column| column.name.to_lowercase()).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "two columns have one name");
    true
}
