//! What a person gets to read: their events, each explained, with what is about others taken out, as CSV and as one page.
//!
//! The page is one file that loads nothing and runs nothing: whatever stands in an event is shown as text. What was
//! redacted is counted and named by place, never silently gone.

use std::collections::BTreeSet;

use askama::Template;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::csv;
use crate::error::RightsError;
use crate::id::Digest;
use crate::records::Answered;

/// What stands in the place of a redacted value.
pub const REDACTED: &str = "[redacted: about someone else]";

/// One event of the person, as it was opened.
#[derive(Clone, PartialEq)]
pub struct Shown {
    /// Place in the log.
    pub index: u64,
    /// When the log got it: RFC 3339.
    pub received_at: String,
    /// The system that sent it.
    pub system: String,
    /// How sure it is that the event is about this person: `VERIFIED`, `PROBABLE`.
    pub tier: String,
    /// The members of `auditEvent`.
    pub event: Map<String, Value>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown").field("index", &self.index).finish_non_exhaustive()
    }
}

/// One place that is about somebody else (Art. 15(4)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redaction {
    /// Place of the event in the log.
    pub index: u64,
    /// Where in the event (JSON Pointer, RFC 6901).
    pub pointer: String,
    /// Why: `staff`, `other-caller`, `security`.
    pub reason: String,
}

/// The list of what is taken out; a person reviews it, and its hash stands in the DSR_REVIEWED step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Redactions(BTreeSet<Redaction>);

impl Redactions {
    /// Takes a list.
    pub fn new(list: impl IntoIterator<Item = Redaction>) -> Self {
        Self(list.into_iter().collect())
    }

    /// Proposes what to take out: every member of one of these names, wherever it stands. `null` hides nothing.
    pub fn propose(events: &[Shown], names: &[(&str, &str)]) -> Self {
        let mut list = BTreeSet::new();
        for event in events {
            for (name, value) in &event.event {
                find(event.index, &format!("/{}", escaped(name)), name, value, names, &mut list);
            }
        }
        Self(list)
    }

    /// Returns the entries.
    pub fn iter(&self) -> impl Iterator<Item = &Redaction> {
        self.0.iter()
    }

    /// Returns how many places it names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether it names none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the hash that the review is bound to.
    ///
    /// # Errors
    /// [`RightsError::Json`].
    pub fn hash(&self) -> Result<Digest, RightsError> {
        Digest::of_json("idtrail/rights/redactions/v1", self)
    }

    /// Takes the places out, and returns those that were not there: a list that does not fit must be looked at again.
    pub fn apply(&self, events: &mut [Shown]) -> Vec<&Redaction> {
        let mut missing = Vec::new();
        for redaction in &self.0 {
            let event = events.iter_mut().find(|event| event.index == redaction.index);
            let place = event.and_then(|event| place(&mut event.event, &redaction.pointer));
            match place {
                Some(value) => *value = Value::String(REDACTED.to_owned()),
                None => missing.push(redaction),
            }
        }
        missing
    }
}

fn find(
    index: u64,
    pointer: &str,
    name: &str,
    value: &Value,
    names: &[(&str, &str)],
    list: &mut BTreeSet<Redaction>,
) {
    if let Some((_, reason)) = names.iter().find(|(wanted, _)| *wanted == name) {
        if !value.is_null() {
            list.insert(Redaction { index, pointer: pointer.to_owned(), reason: (*reason).to_owned() });
        }
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                find(index, &format!("{pointer}/{}", escaped(name)), name, value, names, list);
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                find(index, &format!("{pointer}/{at}"), "", value, names, list);
            }
        }
        _ => {}
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn place<'a>(event: &'a mut Map<String, Value>, pointer: &str) -> Option<&'a mut Value> {
    let (name, rest) = match pointer.strip_prefix('/')?.split_once('/') {
        Some((name, rest)) => (name, format!("/{rest}")),
        None => (pointer.strip_prefix('/')?, String::new()),
    };
    event.get_mut(&name.replace("~1", "/").replace("~0", "~"))?.pointer_mut(&rest)
}

/// Says in one sentence what an event means.
pub fn explain(event: &Map<String, Value>) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let channel = match text("channelType") {
        Some("VOICE") => " in a phone call",
        Some("CHAT" | "WEB_CHAT" | "MESSAGING") => " in a chat",
        Some("EMAIL") => " in an e-mail",
        Some("SMS") => " in a text message",
        Some(_) => " in a contact",
        None => "",
    };
    match text("eventType").unwrap_or_default() {
        "IDENTITY_RESOLUTION" => format!("You were recognised as a customer{channel}."),
        "ANONYMOUS" => format!("There was contact{channel}, and nobody was recognised at the time."),
        "CONSENT_CHANGE" => "A consent of yours was given or withdrawn.".to_owned(),
        "DATA_DELETION" => match text("status") {
            Some("SUCCESS") => "A system deleted data about you.".to_owned(),
            Some("PARTIAL") => "A system deleted part of the data about you.".to_owned(),
            _ => "A system tried to delete data about you.".to_owned(),
        },
        "IDENTITY_MERGE" => "Two records were found to be about you and are treated as one.".to_owned(),
        "IDENTITY_SPLIT" => "Records that had been treated as one are kept apart again.".to_owned(),
        "IDENTITY_CONFLICT" => "Records about you contradict each other.".to_owned(),
        "IDENTIFIER_STATE" => {
            "One of the numbers or addresses that you are recognised by changed its state.".to_owned()
        }
        "IDENTITY_PROMOTION" => "Earlier contacts without a name were found to be yours.".to_owned(),
        "STEWARD_ASSERTION" => "A person checked and recorded something about who you are.".to_owned(),
        "" => "An event of an unknown kind.".to_owned(),
        other => format!("An event of the kind {other}."),
    }
}

/// Returns the events as CSV: one line each, with the whole event as JSON in the last column.
pub fn events_csv(events: &[Shown]) -> String {
    const HEAD: [&str; 8] =
        ["index", "receivedAt", "system", "tier", "eventType", "interactionId", "explanation", "event"];
    let rows = events.iter().map(|shown| {
        let text = |name: &str| shown.event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        vec![
            shown.index.to_string(),
            shown.received_at.clone(),
            shown.system.clone(),
            shown.tier.clone(),
            text("eventType"),
            text("interactionId"),
            explain(&shown.event),
            Value::Object(shown.event.clone()).to_string(),
        ]
    });
    csv::table(&HEAD, rows)
}

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// The request's id.
    pub request: &'a str,
    /// The controller.
    pub controller: &'a str,
    /// When it was made: RFC 3339.
    pub made_at: &'a str,
    /// Art. 15(1) and (2).
    pub information: &'a [Answered],
    /// The events, after redaction.
    pub events: &'a [Shown],
    /// How many places were redacted.
    pub redacted: usize,
    /// Events that may be about the person, but not surely; they are counted, not shown.
    pub ambiguous: u64,
    /// Systems that could not be asked, and why.
    pub missing: &'a [(String, String)],
}

#[derive(Template)]
#[template(path = "access.html")]
struct AccessPage<'a> {
    page: &'a Page<'a>,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    shown: &'a Shown,
    explanation: String,
    members: Vec<(&'a str, String)>,
}

/// Returns the page: one HTML file.
///
/// # Errors
/// [`RightsError::Json`] if it cannot be written.
pub fn page_html(page: &Page<'_>) -> Result<String, RightsError> {
    let row = |shown: &'_ Shown| -> Vec<(String, String)> {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        shown.event.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    };
    let rows = page
        .events
        .iter()
        .map(|shown| Row {
            shown,
            explanation: explain(&shown.event),
            members: shown
                .event
                .keys()
                .map(String::as_str)
                .zip(row(shown).into_iter().map(|(_, text)| text))
                .collect(),
        })
        .collect();
    AccessPage { page, rows }.render().map_err(|_| RightsError::Json)
}
