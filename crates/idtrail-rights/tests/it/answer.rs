//! What a person gets to read: explained, redacted, and harmless wherever it is opened.

use idtrail_rights::package::{Page, REDACTED, Redaction, Redactions, Shown, events_csv, explain, page_html};
use idtrail_rights::records::Records;
use idtrail_rights::{SystemName, TRANSITIONS};
use serde_json::{Value, json};

fn records() -> Records {
    serde_json::from_value(json!({
        "controller": "Example Ltd, 1 High Street", "officer": "dpo@example.com", "authority": "The authority of Example",
        "activities": [
            {
                "name": "Contact centre", "systems": ["idtrail", "genesys"], "purposes": ["answer calls"],
                "legalBasis": "contract", "categories": ["call times"], "subjects": ["customers"],
                "recipients": [{"name": "Cloud Inc", "thirdCountry": "US", "safeguard": "standard clauses"}],
                "retention": "36 months", "source": "the phone network", "security": "keyed hashes"
            },
            {
                "name": "Newsletter", "systems": ["mail"], "purposes": ["send news"], "legalBasis": "consent",
                "categories": ["addresses"], "subjects": ["subscribers"], "recipients": [], "retention": "until withdrawn",
                "security": "encryption"
            }
        ]
    }))
    .unwrap()
}

fn systems(names: &[&str]) -> std::collections::BTreeSet<SystemName> {
    names.iter().map(|name| SystemName::parse(name).unwrap()).collect()
}

fn shown(index: u64, event: Value) -> Shown {
    let event = event.as_object().unwrap().clone();
    let (received_at, system) = ("2026-01-31T10:00:00.000Z".to_owned(), "crm".to_owned());
    Shown { index, received_at, system, tier: "VERIFIED".to_owned(), event }
}

#[test]
fn the_information_answers_every_letter_for_the_systems_concerned() {
    let records = records();
    assert_eq!(records.gaps(), []);
    let information = records.information(&systems(&["idtrail"]), true);
    let articles: Vec<&str> = information.iter().map(|row| row.article).collect();
    let letters = [
        "15(1)", "15(1)(a)", "15(1)(b)", "15(1)(c)", "15(1)(d)", "15(1)(e)", "15(1)(f)", "15(1)(g)",
        "15(1)(h)", "15(2)",
    ];
    assert_eq!(articles, letters);
    assert!(information.iter().all(|row| !row.answers.is_empty()), "{information:?}");
    let text = serde_json::to_string(&information).unwrap();
    assert!(text.contains("Cloud Inc (US): standard clauses") && text.contains("the phone network"));
    assert!(!text.contains("Newsletter"), "what is not about these systems is not in it");
    assert_eq!(
        records.unrecorded(&systems(&["mail", "warehouse"])),
        [&SystemName::parse("warehouse").unwrap()]
    );
}

#[test]
fn a_record_that_leaves_a_question_open_is_found() {
    let mut records = records();
    records.authority = " ".to_owned();
    records.activities[0].retention.clear();
    records.activities[0].recipients[0].safeguard = None;
    records.activities[1].purposes.clear();
    let gaps: Vec<_> = records.gaps().into_iter().map(|gap| gap.member).collect();
    assert_eq!(gaps, ["authority", "retention", "safeguard", "purposes"]);
    let csv = records.export_csv();
    assert_eq!(csv.lines().count(), 3);
    assert!(csv.lines().all(|line| line.starts_with('"')), "{csv}");
}

#[test]
fn whatever_stands_in_an_event_is_text() {
    let evil = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</td></tr></table>",
        "&lt;b&gt;",
        "'onload='x",
        "{{ page.request }}",
        "\u{202e}txt",
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@x",
        "a\"b,c\r\nd",
    ];
    for text in evil {
        let event = json!({"eventType": text, text: "name", "queueName": text, "deep": {"a": [text]}});
        let events = [shown(1, event)];
        let missing = [(text.to_owned(), text.to_owned())];
        let information = records().information(&systems(&["idtrail"]), true);
        let page = Page {
            request: text,
            controller: text,
            made_at: text,
            information: &information,
            events: &events,
            redacted: 1,
            ambiguous: 2,
            missing: &missing,
        };
        let html = page_html(&page).unwrap();
        // Every tag of the page is one of the template's own.
        let allowed = [
            "!DOCTYPE", "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div", "ul",
            "li", "table", "tr", "th", "td", "br", "small",
        ];
        for tag in html.split('<').skip(1) {
            let name: String = tag
                .trim_start_matches('/')
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '!')
                .collect();
            assert!(allowed.contains(&name.as_str()), "{text:?} made a tag: <{tag:.30}");
            let attributes = ["onerror=alert(1)>", "onload='"];
            assert!(attributes.iter().all(|bad| !tag.split('>').next().unwrap().contains(bad)), "{tag:.60}");
        }
        assert!(html.contains("default-src 'none'"));
        let csv = events_csv(&events);
        let cells = csv.lines().flat_map(|line| line.split("\",\""));
        for cell in cells {
            let cell = cell.trim_start_matches('"');
            assert!(!cell.starts_with(['=', '+', '-', '@']), "{text:?} is a formula: {cell:.40}");
        }
    }
}

#[test]
fn what_is_about_others_is_taken_out_and_counted() {
    let mut events = vec![
        shown(
            3,
            json!({"eventType": "IDENTITY_RESOLUTION", "agentId": "a-1", "parts": [{"agentId": "a-2", "x/y~z": 1}]}),
        ),
        shown(4, json!({"eventType": "ANONYMOUS", "agentId": null})),
    ];
    let list = Redactions::propose(&events, &[("agentId", "staff"), ("x/y~z", "security")]);
    let places: Vec<_> = list.iter().map(|entry| (entry.index, entry.pointer.as_str())).collect();
    assert_eq!(places, [(3, "/agentId"), (3, "/parts/0/agentId"), (3, "/parts/0/x~1y~0z")]);
    assert_eq!(list.apply(&mut events), Vec::<&Redaction>::new());
    let text = Value::Object(events[0].event.clone()).to_string();
    assert!(!text.contains("a-1") && !text.contains("a-2"), "{text}");
    assert_eq!(text.matches(REDACTED).count(), 3);
    let other =
        Redactions::new([Redaction { index: 9, pointer: "/x".to_owned(), reason: "staff".to_owned() }]);
    assert_eq!(other.apply(&mut events).len(), 1, "a list that does not fit says so");
    assert_ne!(other.hash().unwrap(), list.hash().unwrap());
    assert!(!TRANSITIONS.is_empty());
}

#[test]
fn every_event_is_explained_in_a_sentence() {
    for (name, says) in [
        ("IDENTITY_RESOLUTION", "recognised as a customer in a phone call"),
        ("ANONYMOUS", "nobody was recognised"),
        ("DATA_DELETION", "deleted data about you"),
        ("CALLBACK_BOOKED", "kind CALLBACK_BOOKED"),
    ] {
        let event = json!({"eventType": name, "channelType": "VOICE", "status": "SUCCESS"});
        let text = explain(event.as_object().unwrap());
        assert!(text.contains(says) && text.ends_with('.'), "{text}");
    }
    assert_eq!(explain(&serde_json::Map::new()), "An event of an unknown kind.");
}
