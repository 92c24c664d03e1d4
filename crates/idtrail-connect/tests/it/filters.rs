//! The filter grammar: what holds, what is refused and where.

use idtrail_connect::Position;
use idtrail_connect::filter::Filter;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{event, sample};

#[test]
fn filters_hold_as_the_guide_means_them() {
    let cases = [
        ("{{auditEvent}} != null", true),
        ("{{auditEvent}} == null", false),
        ("{{native}} != null", false),
        ("auditEvent.channelType = 'VOICE'", true),
        ("interaction.channelType = 'VOICE'", true),
        ("{{auditEvent.channelType}} in ['CHAT', \"VOICE\"]", true),
        ("{{auditEvent.channelType}} not in ('CHAT')", true),
        ("not auditEvent.channelType in ['CHAT']", true),
        ("auditEvent.complianceFlags.gdprConsentRecorded", true),
        ("!auditEvent.complianceFlags.dataSubjectRequestPending", true),
        ("auditEvent.channelType", false),
        ("exists {{auditEvent.piiContext.phoneHash}}", true),
        ("exists(auditEvent.piiContext.emailHash)", false),
        ("auditEvent.piiContext.emailHash = null", true),
        ("exists auditEvent.nothing.at.all", false),
        ("log.seq >= 1 and log.seq < 2", true),
        ("log.seq = 1.0", true),
        ("log.log_id in [0, 1]", true),
        ("log.seq = '1'", false),
        ("log.seq != '1'", true),
        ("log.seq < '2'", false),
        ("auditEvent.timestamp >= '2023-10-27T16:30:00+02:00'", true),
        ("auditEvent.timestamp > '2023-10-27T14:29:59.999Z'", true),
        ("auditEvent.timestamp < '2023-10-27T14:30:00Z'", false),
        ("auditEvent.queueId < 'r'", true),
        ("false or true and false", false),
        ("(false or true) and not false", true),
        ("true || false && false", true),
        ("auditEvent.loyalty.tier == 'gold'", true),
        ("auditEvent.loyalty == null", false),
        ("customer.id = 'gc_00000000000000000000000000000001'", true),
        ("auditEvent.queueId = 'q-sales\\'s'", false),
        ("null < 1 or null >= null", false),
    ];
    let row = sample(Position::new(0, 1));
    for (text, expected) in cases {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {}", error.render(text)));
        assert_eq!(filter.accepts(&row), expected, "{text}");
    }
    let native = event(Position::START, json!({"conversation": {"id": "x"}}));
    assert!(!Filter::events().accepts(&native));
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let cases = [
        ("", 0..0),
        ("auditEvent.x =", 14..14),
        ("auditEvent.x = 'abc", 15..19),
        ("{{auditEvent", 0..12),
        ("{{audit Event}} = 1", 0..15),
        ("auditEvent.x == 1 2", 18..19),
        ("auditEvent.x in 3", 16..17),
        ("auditEvent.x in [1, ]", 20..21),
        ("auditEvent.x in [1 2]", 19..20),
        ("(auditEvent.x = 1", 17..17),
        ("'text'", 0..6),
        ("5", 0..1),
        ("auditEvent.x = 12ab", 15..19),
        ("auditEvent.x § 1", 13..15),
        ("log.size > 1", 0..8),
        ("exists 'x'", 7..10),
        ("x = 'a\\q'", 6..8),
        ("a = 1 and", 9..9),
        ("auditEvent..x = 1", 0..13),
    ];
    for (text, span) in cases {
        let error = Filter::parse(text).unwrap_err();
        assert_eq!(error.span, span, "{text}: {error}");
        assert!(error.render(text).contains('^'));
    }
    let error = Filter::parse("a = 1 and\n  b = §").unwrap_err();
    assert!(error.render("a = 1 and\n  b = §").starts_with("  b = §\n      ^ "), "{error:?}");
    assert!(Filter::parse(&"(".repeat(100_000)).is_err());
    assert!(Filter::parse(&"not ".repeat(1000)).is_err());
}

proptest! {
    /// No text makes the parser panic, and every error points into the text.
    #[test]
    fn any_text_is_a_filter_or_an_error_with_a_place(text in "[ -~\u{e4}{}()\\[\\]'\"=<>!&|.,a-c0-9]{0,60}") {
        if let Err(error) = Filter::parse(&text) {
            prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
            prop_assert!(text.get(error.span.clone()).is_some());
            error.render(&text);
        }
    }

    /// `not` turns every answer around, and an or of a filter and its opposite always holds.
    #[test]
    fn not_is_the_opposite(n in 0_u64..20, limit in 0_u64..20) {
        let row = sample(Position::new(0, n));
        let yes = Filter::parse(&format!("log.seq < {limit}")).unwrap().accepts(&row);
        let no = Filter::parse(&format!("not (log.seq < {limit})")).unwrap().accepts(&row);
        let both = Filter::parse(&format!("log.seq < {limit} or log.seq >= {limit}")).unwrap().accepts(&row);
        prop_assert_eq!(yes, n < limit);
        prop_assert_eq!(no, !yes);
        prop_assert!(both);
    }
}
