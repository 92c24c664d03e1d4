//! Mappings, and what may leave about a person.

use idtrail_connect::mapping::{Mapping, MappingError, Unmappable};
use idtrail_connect::personal::{Erase, Pii, Privacy, References, Refusal};
use idtrail_connect::{Cell, ColumnType, Position};
use serde_json::{Value, json};

use crate::support::{HASH, event, privacy, sample};

fn row(mapping: &Mapping, at: u64) -> serde_json::Map<String, Value> {
    mapping.map(&sample(Position::new(0, at)), &References::new([9; 32])).unwrap().to_json(mapping.columns())
}

#[test]
fn the_guides_mapping_reads_as_written() {
    let lines = [
        "interaction.id → target.interaction_id",
        "{{auditEvent.resolvedCustomerId}}→target.customer_id",
        "{{ auditEvent.timestamp }} -> target.event_time required",
        "auditEvent.complianceFlags -> flags : json",
        "log.seq -> position: text",
    ];
    let mapping = Mapping::parse(&lines, privacy(Pii::None, Erase::Delete)).unwrap();
    let kinds: Vec<ColumnType> = mapping.columns().iter().map(|column| column.kind).collect();
    assert_eq!(
        kinds,
        [ColumnType::Text, ColumnType::Text, ColumnType::Timestamp, ColumnType::Json, ColumnType::Text]
    );
    assert_eq!(mapping.customer_column(), Some("customer_id"));
    let row = row(&mapping, 8);
    assert_eq!(row["interaction_id"], "i-12345678-90ab-cdef-1234-000000000008");
    // The guide's customer is our global id, whatever id the client uses.
    assert_eq!(row["customer_id"], "gc_00000000000000000000000000000001");
    assert_eq!(row["event_time"], "2023-10-27T14:30:00.000000Z");
    assert_eq!(row["flags"]["gdprConsentRecorded"], true);
    assert_eq!(row["position"], "8");
    assert_eq!((&row["log_id"], &row["seq"]), (&json!(0), &json!(8)));
}

#[test]
fn what_goes_out_follows_the_sinks_choices() {
    let default = |pii, erase| row(&Mapping::default_for(privacy(pii, erase)), 8);
    let none = default(Pii::None, Erase::Delete);
    let text = serde_json::to_string(&none).unwrap();
    for personal in [HASH, "cust_hash_9f86d08", "agent-7", "gold", "loyalty"] {
        assert!(!text.contains(personal), "{personal} left");
    }
    assert!(text.contains("i-12345678-90ab-cdef-1234-000000000008") && text.contains("gc_0000"));
    assert_eq!(none["payload"]["piiContext"], json!({"hashScheme": "sha256-salt"}));

    let tokens = default(Pii::Tokens, Erase::Null);
    assert_eq!(tokens["phone_hash"], HASH);
    assert_eq!(tokens["payload"], sample(Position::new(0, 8)).body.to_value()["auditEvent"]);

    for pii in [Pii::None, Pii::Sealed] {
        let fixed = default(pii, Erase::None);
        let text = serde_json::to_string(&fixed).unwrap();
        for linkable in [HASH, "cust_hash_9f86d08", "agent-7", "gold", "i-12345678", "gc_0000"] {
            assert!(!text.contains(linkable), "{linkable} left");
        }
        let customer = fixed["customer_id"].as_str().unwrap();
        assert!(customer.starts_with("cr_") && customer.len() == 67);
        assert_eq!(fixed["payload"]["resolvedCustomerId"], customer);
        assert_eq!(fixed.get("sealed_leaf").is_some(), pii == Pii::Sealed);
    }
    // One customer has one reference in a sink, and another one in another sink.
    let mapping = Mapping::default_for(privacy(Pii::None, Erase::None));
    let of = |key, at| {
        mapping
            .map(&sample(Position::new(0, at)), &References::new([key; 32]))
            .unwrap()
            .to_json(mapping.columns())["customer_id"]
            .clone()
    };
    assert!(of(1, 1) == of(1, 8) && of(1, 1) != of(2, 1) && of(1, 1) != of(1, 2));
}

#[test]
fn what_may_not_go_out_is_refused() {
    assert_eq!(Privacy::new(Pii::Tokens, Erase::None), Err(Refusal::TokensNeedErasure));
    let cases = [
        ("auditEvent.piiContext.phoneHash -> h", Pii::None, Erase::Delete, Some(Refusal::NeedsTokens)),
        ("auditEvent.piiContext.phoneHash -> h", Pii::Tokens, Erase::Delete, None),
        ("auditEvent.piiContext.phoneHash -> h", Pii::Sealed, Erase::None, Some(Refusal::NeedsErasure)),
        ("auditEvent.agentId -> h", Pii::None, Erase::None, Some(Refusal::NeedsErasure)),
        ("auditEvent.somethingNew -> h", Pii::None, Erase::Null, Some(Refusal::NeedsTokens)),
        ("beside.the.event -> h", Pii::None, Erase::Null, Some(Refusal::NeedsTokens)),
        ("auditEvent.queueId.deeper -> h", Pii::None, Erase::Null, Some(Refusal::NeedsTokens)),
        ("log.sealed_leaf -> h", Pii::Tokens, Erase::Null, Some(Refusal::NeedsSealed)),
        ("log.sealed_leaf -> h", Pii::Sealed, Erase::None, None),
        ("auditEvent -> h", Pii::None, Erase::None, None),
        ("customer.id -> h", Pii::None, Erase::None, None),
    ];
    for (line, pii, erase, expected) in cases {
        let got = Mapping::parse(&[line], privacy(pii, erase));
        match (got, expected) {
            (Ok(_), None) => {}
            (Err(MappingError::Refused { refusal, line: 1, .. }), Some(expected)) => {
                assert_eq!(refusal, expected, "{line}");
            }
            (got, expected) => panic!("{line}: {got:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn mistakes_name_their_line() {
    let cases = [
        "auditEvent.queueId target.x",
        "auditEvent.queueId -> target.X",
        "auditEvent.queueId -> 9x",
        "auditEvent.queueId -> x : varchar",
        "{{auditEvent.queueId -> x",
        "log.nothing -> x",
        "auditEvent.queueId -> seq",
        "auditEvent.queueId -> first",
        "auditEvent.queueId -> x\"; DROP TABLE y; --",
    ];
    for case in cases {
        let lines = ["auditEvent.eventType -> first", case];
        let error = Mapping::parse(&lines, privacy(Pii::None, Erase::Delete)).unwrap_err();
        assert!(error.to_string().contains("line=2"), "{case}: {error}");
    }
    assert_eq!(Mapping::parse(&[""; 0], privacy(Pii::None, Erase::Delete)), Err(MappingError::Count));
    let nulled = Mapping::parse(&["interaction.id -> i required"], privacy(Pii::None, Erase::Null));
    assert!(matches!(nulled, Err(MappingError::Line { line: 1, .. })));
}

#[test]
fn what_does_not_fit_names_its_column() {
    let privacy = privacy(Pii::Tokens, Erase::Delete);
    let cases = [
        ("auditEvent.x -> c : int64", json!(1.5), Err("misfit")),
        ("auditEvent.x -> c : int64", json!(u64::MAX), Err("misfit")),
        ("auditEvent.x -> c : int64", json!(-3), Ok(Cell::Int(-3))),
        ("auditEvent.x -> c : int64", json!("3"), Err("misfit")),
        ("auditEvent.x -> c : bool", json!("true"), Err("misfit")),
        ("auditEvent.x -> c : bool", json!(true), Ok(Cell::Bool(true))),
        ("auditEvent.x -> c : text", json!(7), Ok(Cell::Text("7"))),
        ("auditEvent.x -> c : text", json!({"a": 1}), Err("misfit")),
        ("auditEvent.x -> c : text", json!("a\u{0}b"), Err("misfit")),
        ("auditEvent.x -> c : float64", json!(2), Ok(Cell::Float(2.0))),
        ("auditEvent.x -> c : json", json!([1, "a"]), Ok(Cell::Json("[1,\"a\"]"))),
        ("auditEvent.x -> c : timestamp", json!("2023-10-27T14:30:00.1234567+01:00"), {
            Ok(Cell::Timestamp(1_698_413_400_123_456))
        }),
        ("auditEvent.x -> c : timestamp", json!("yesterday"), Err("misfit")),
        ("auditEvent.x -> c : text required", json!(null), Err("missing")),
        ("auditEvent.x -> c : text", json!(null), Ok(Cell::Null)),
    ];
    for (line, value, expected) in cases {
        let mapping = Mapping::parse(&[line], privacy).unwrap();
        let row = event(Position::START, json!({"auditEvent": {"x": value}}));
        let got = mapping.map(&row, &References::new([1; 32]));
        match (got, expected) {
            (Ok(row), Ok(cell)) => assert!(row.cell(0) == cell, "{line} {value}"),
            (Err(Unmappable::Misfit(column)), Err("misfit")) => assert_eq!(column, "c"),
            (Err(Unmappable::Missing(column)), Err("missing")) => assert_eq!(column, "c"),
            (got, _) => panic!("{line} {value}: {}", got.is_ok()),
        }
    }
}
