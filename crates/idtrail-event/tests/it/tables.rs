//! Codes, ids, tokens, retention, months.

use idtrail_event::{
    ChannelCode, ClassId, ClassTable, DedupeKind, EventId, GlobalCustomerId, IdentifierToken, IdentifierType,
    Pepper, Poster, RawIdentifier, SourceCode, TypeCode, hour_of_ms, month_of_hour, token,
};
use serde_json::Value;

#[test]
fn the_tables_are_those_of_the_format() {
    let types: Vec<_> = TypeCode::ALL.iter().map(|code| (code.code(), code.to_string())).collect();
    let expected = [
        (1, "IDENTITY_RESOLUTION"),
        (2, "ANONYMOUS"),
        (3, "CONSENT_CHANGE"),
        (4, "DATA_DELETION"),
        (5, "CUSTOM"),
        (16, "IDENTITY_MERGE"),
        (17, "IDENTITY_SPLIT"),
        (18, "IDENTITY_CONFLICT"),
        (19, "IDENTIFIER_STATE"),
        (20, "IDENTITY_PROMOTION"),
        (21, "STEWARD_ASSERTION"),
        (22, "RULESET_CHANGE"),
        (23, "ANONYMIZATION"),
        (32, "CLASS_TABLE"),
        (33, "ORIGIN_START"),
        (34, "SHRED_INTENT"),
        (35, "KEY_SHREDDED"),
        (36, "STRAGGLER_ERASED"),
        (37, "SUPPRESSION_HIT"),
        (38, "DATA_ACCESS"),
        (39, "LOG_KEY_ROTATED"),
        (40, "HOLD_SET"),
        (41, "HOLD_RELEASED"),
        (64, "DSR_RECEIVED"),
        (65, "DSR_ACKNOWLEDGED"),
        (66, "DSR_ATTACHED"),
        (67, "DSR_IDENTITY_CHALLENGED"),
        (68, "DSR_IDENTITY_VERIFIED"),
        (69, "DSR_IDENTITY_FAILED"),
        (70, "DSR_CLOCK_PAUSED"),
        (71, "DSR_CLOCK_RESUMED"),
        (72, "DSR_CLOCK_EXTENDED"),
        (73, "DSR_PLANNED"),
        (74, "DSR_PLAN_INVALIDATED"),
        (75, "DSR_APPROVED"),
        (76, "DSR_APPROVED2"),
        (77, "DSR_HOLD_SET"),
        (78, "DSR_HOLD_RELEASED"),
        (79, "DSR_EXEMPTED"),
        (80, "DSR_FROZEN"),
        (81, "TASK_INTENT"),
        (82, "TASK_RETRY"),
        (83, "TASK_ACCEPTED"),
        (84, "TASK_OUTCOME"),
        (85, "TASK_DEAD"),
        (86, "TASK_ATTESTED"),
        (87, "TASK_REOPENED"),
        (88, "DSR_REVIEWED"),
        (89, "DSR_PACKAGE_BUILT"),
        (90, "DSR_DELIVERED"),
        (91, "DSR_PACKAGE_FETCHED"),
        (92, "DSR_LINK_EXPIRED"),
        (93, "DSR_RECEIPTED"),
        (94, "DSR_CLOSED"),
        (95, "DSR_DENIED"),
        (96, "DSR_WITHDRAWN"),
        (97, "DSR_EXPIRED"),
        (98, "DSR_DEADLINE_ALARM"),
        (99, "DSR_STRAGGLER"),
        (112, "DSR_SCHEDULE_SET"),
        (113, "DSR_SCHEDULE_ENDED"),
    ];
    assert_eq!(types, expected.map(|(code, name)| (code, name.to_owned())));
    for code in TypeCode::ALL {
        assert_eq!(TypeCode::by_name(code.name().unwrap()), Some(*code));
        assert_eq!(code.poster() == Poster::Client, code.code() <= 5);
    }
    let numbers = |codes: &[ChannelCode]| codes.iter().map(|code| code.code()).collect::<Vec<_>>();
    assert_eq!(numbers(ChannelCode::ALL), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255]);
    let sources: Vec<_> = SourceCode::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["api", "cloudevents", "eventbridge", "system", "resolve", "capture"]);
    assert_eq!(DedupeKind::ALL.len(), 5);
    assert_eq!(format!("{} {:?}", TypeCode::new(4711), ClassId::new(200)), "4711 200");
}

#[test]
fn every_class_has_a_term_and_a_reason() {
    let table = ClassTable::default();
    let terms: Vec<_> = table.classes.iter().map(|class| (class.name.as_str(), class.months)).collect();
    let expected = [
        ("identity", Some(36)),
        ("anonymous", Some(13)),
        ("consent", Some(72)),
        ("deletion", Some(72)),
        ("custom", Some(36)),
        ("system", None),
        ("rights", Some(72)),
    ];
    assert_eq!(terms, expected);
    assert!(table.classes.iter().all(|class| class.reason.len() > 40));
    for code in TypeCode::ALL {
        assert!(table.get(code.class()).is_some());
    }
}

#[test]
fn tokens_of_the_vectors() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../../../vectors/event/tokens.json")).unwrap();
    assert!(vectors.iter().filter(|case| case["note"] == "published").count() >= 3);
    for case in vectors {
        let pepper = data_encoding::HEXLOWER.decode(case["pepper"].as_str().unwrap().as_bytes()).unwrap();
        let kind = IdentifierType::new(case["type"].as_u64().unwrap() as u16);
        let raw = RawIdentifier::from_normal_form(kind, case["value"].as_str().unwrap().to_owned());
        let token = token(&Pepper::new(pepper.try_into().unwrap()), case["tenant"].as_str().unwrap(), &raw);
        assert_eq!(token.to_string(), case["token"].as_str().unwrap(), "{}", case["note"]);
        assert_eq!(IdentifierToken::try_from(token.to_string().as_str()), Ok(token));
        assert!(!format!("{token:?}").contains(&token.to_string()[..16]));
    }
}

#[test]
fn ids_have_one_text() {
    let id = GlobalCustomerId::new([0xa5; 16]);
    assert_eq!(id.to_string().len(), 29);
    assert_eq!(GlobalCustomerId::try_from(id.to_string().as_str()), Ok(id));
    for text in [
        "gc_",
        "gc_AAAAAAAAAAAAAAAAAAAAAAAAAA",
        "gc_aaaaaaaaaaaaaaaaaaaaaaaaab",
        "xx_aaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        assert!(GlobalCustomerId::try_from(text).is_err(), "{text}");
    }
    let event = EventId::new([0xa5; 16]);
    assert_eq!(event.to_string(), "a5a5a5a5-a5a5-a5a5-a5a5-a5a5a5a5a5a5");
    assert_eq!(EventId::try_from(event.to_string().as_str()), Ok(event));
    assert!(EventId::try_from(event.to_string().to_uppercase().as_str()).is_err());
    assert!(!format!("{id:?} {event:?}").contains(&id.to_string()));
}

#[test]
fn months_of_hours() {
    for (hour, month) in [(0, 0), (743, 0), (744, 1), (471_792, 645), (8760, 12), (u32::MAX, 65_535)] {
        assert_eq!(month_of_hour(hour), month, "{hour}");
    }
    assert_eq!((hour_of_ms(3_599_999), hour_of_ms(3_600_000)), (0, 1));
}
