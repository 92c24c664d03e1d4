//! What is stated about identities and rules, as it stands in a leaf: by a person, or by this system about those who remain
//! after an erasure.
//!
//! ```text
//! Statement ──> leaf: the event, and beside it `assertion` or `ruleset`
//!           <── leaf, at a start
//! ```
//! A statement may have an id by which a repetition is recognised. It concerns no single customer, so the index does not
//! know it: identity itself remembers the ids of all statements.
//!
//! What it must never do: be decided otherwise on replay than it was when it was made.

use idtrail_event::{EncodedEvent, OpenLeaf, TypeCode};
use idtrail_identity::assertion::Assertion;
use idtrail_identity::erase::Reassertion;
use idtrail_identity::{Actor, Identifier, ObservationId, Ruleset};
use serde_json::{Map, Value, json};

use crate::assertion::{ASSERTION_MEMBER, from_json, identifier, identifier_json, to_json};

/// Member of a leaf's body, beside the event, that holds a ruleset.
pub const RULESET_MEMBER: &str = "ruleset";
/// The kind of an assertion that says facts about others again.
const REASSERT: &str = "REASSERT";

/// Rules that replace those in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesetChange {
    /// The new rules.
    pub ruleset: Ruleset,
    /// Why.
    pub reason: String,
    /// Who approved it, if somebody had to.
    pub approver: Option<String>,
}

/// Something that is stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// What a person says about identities.
    Assertion(Assertion),
    /// New rules.
    Ruleset(Box<RulesetChange>),
    /// Facts about others that rested on somebody who is erased.
    Reassert(Vec<Reassertion>),
}

impl Statement {
    /// Returns the type of its leaf.
    pub(crate) fn event_type(&self) -> TypeCode {
        match self {
            Self::Ruleset(_) => TypeCode::RULESET_CHANGE,
            Self::Assertion(_) | Self::Reassert(_) => TypeCode::STEWARD_ASSERTION,
        }
    }

    fn beside(&self) -> (&'static str, Value) {
        match self {
            Self::Assertion(assertion) => (ASSERTION_MEMBER, to_json(&assertion.kind)),
            Self::Ruleset(change) => {
                (RULESET_MEMBER, serde_json::to_value(&change.ruleset).unwrap_or_default())
            }
            Self::Reassert(facts) => {
                let facts = facts.iter().map(fact_json).collect::<Vec<_>>();
                (ASSERTION_MEMBER, json!({ "kind": REASSERT, "facts": facts }))
            }
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Assertion(assertion) => &assertion.reason,
            Self::Ruleset(change) => &change.reason,
            Self::Reassert(_) => "erasure",
        }
    }

    /// Returns the body of its leaf.
    pub(crate) fn body(&self, time: &str, identity: Value) -> Value {
        let mut event = Map::new();
        event.insert("eventType".to_owned(), self.event_type().to_string().into());
        event.insert("timestamp".to_owned(), time.into());
        event.insert("reason".to_owned(), self.reason().into());
        event.insert("identity".to_owned(), identity);
        let (member, beside) = self.beside();
        json!({ "auditEvent": event, member: beside })
    }

    /// Adds who approved it to what its leaf says, where the decision does not say it itself.
    pub(crate) fn approved(&self, mut identity: Value) -> Value {
        if let (Self::Ruleset(change), Value::Object(members)) = (self, &mut identity) {
            members.insert("approver".to_owned(), change.approver.clone().into());
        }
        identity
    }

    /// Returns what is compared when the same id comes again.
    pub(crate) fn content(&self) -> EncodedEvent {
        let (member, beside) = self.beside();
        EncodedEvent::of(&json!({ "auditEvent": { "reason": self.reason() }, member: beside }))
    }

    /// Writes what a person states, to be read back by [`Statement::from_json`] before it has a leaf.
    pub fn to_json(&self) -> Value {
        let (member, beside) = self.beside();
        let approver = match self {
            Self::Assertion(assertion) => assertion.approver.clone(),
            Self::Ruleset(change) => change.approver.clone(),
            Self::Reassert(_) => None,
        };
        json!({ "reason": self.reason(), "approver": approver, member: beside })
    }

    /// Reads what a person states from where [`Statement::to_json`] wrote it.
    pub fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let (reason, approver) = (text("reason")?, text("approver"));
        if let Some(ruleset) = value.get(RULESET_MEMBER) {
            let ruleset = serde_json::from_value(ruleset.clone()).ok()?;
            return Some(Self::Ruleset(Box::new(RulesetChange { ruleset, reason, approver })));
        }
        let kind = from_json(value.get(ASSERTION_MEMBER)?).ok()?;
        Some(Self::Assertion(Assertion { kind, actor: Actor::Steward, reason, approver }))
    }

    /// Reads a statement from its leaf.
    pub(crate) fn of_leaf(leaf: &OpenLeaf) -> Option<Self> {
        let event = leaf.body.get("auditEvent")?;
        let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
        let reason = text("reason").unwrap_or_default();
        let approver = event.get("identity").and_then(|identity| identity.get("approver"));
        let approver = approver.and_then(Value::as_str).map(str::to_owned);
        match leaf.header.event_type {
            TypeCode::RULESET_CHANGE => {
                let ruleset = serde_json::from_value(leaf.body.get(RULESET_MEMBER)?.clone()).ok()?;
                Some(Self::Ruleset(Box::new(RulesetChange { ruleset, reason, approver })))
            }
            TypeCode::STEWARD_ASSERTION => {
                let said = leaf.body.get(ASSERTION_MEMBER)?;
                if said.get("kind").and_then(Value::as_str) == Some(REASSERT) {
                    let facts = said.get("facts")?.as_array()?;
                    return facts.iter().map(fact).collect::<Option<Vec<_>>>().map(Self::Reassert);
                }
                let kind = from_json(said).ok()?;
                Some(Self::Assertion(Assertion { kind, actor: Actor::Steward, reason, approver }))
            }
            _ => None,
        }
    }
}

/// Cuts facts into statements whose leaves are small enough.
pub fn reassertions(facts: Vec<Reassertion>) -> Vec<Statement> {
    /// Identifiers and observations of one leaf: at most about 16 KiB.
    const WEIGHT_MAX: usize = 256;
    let weight = |fact: &Reassertion| match fact {
        Reassertion::Apart(left, right) => left.len() + right.len(),
        Reassertion::Slices(_, times) => 1 + times.len(),
        _ => 2,
    };
    let mut statements = Vec::new();
    let (mut group, mut weighs) = (Vec::new(), 0);
    for fact in facts {
        let more = weight(&fact);
        if weighs + more > WEIGHT_MAX && !group.is_empty() {
            statements.push(Statement::Reassert(std::mem::take(&mut group)));
            weighs = 0;
        }
        weighs += more;
        group.push(fact);
    }
    if !group.is_empty() {
        statements.push(Statement::Reassert(group));
    }
    statements
}

fn fact_json(fact: &Reassertion) -> Value {
    let list = |side: &[Identifier]| side.iter().map(identifier_json).collect::<Vec<_>>();
    match fact {
        Reassertion::Shared(id) => json!({ "fact": "SHARED", "identifier": identifier_json(id) }),
        Reassertion::Contested(id) => json!({ "fact": "CONTESTED", "identifier": identifier_json(id) }),
        Reassertion::FirstSeen(id, time_ms) => {
            json!({ "fact": "FIRST_SEEN", "identifier": identifier_json(id), "timeMs": time_ms })
        }
        Reassertion::Slices(id, times) => {
            let owner = |(from_ms, owner): &(u64, Option<Identifier>)| json!({ "fromMs": from_ms, "owner": owner.as_ref().map(identifier_json) });
            let owners = times.iter().map(owner).collect::<Vec<_>>();
            json!({ "fact": "OWNERS", "identifier": identifier_json(id), "owners": owners })
        }
        Reassertion::Apart(left, right) => {
            json!({ "fact": "APART", "left": list(left), "right": list(right) })
        }
        Reassertion::Link { ends, support, seen_ms: (first, last), assurance } => json!({
            "fact": "LINK", "between": list(ends), "support": support,
            "firstMs": first, "lastMs": last, "assurance": assurance,
        }),
        Reassertion::Ambiguous(id) => json!({ "fact": "AMBIGUOUS", "observationId": id.to_string() }),
        Reassertion::Probable(id) => json!({ "fact": "PROBABLE", "observationId": id.to_string() }),
        Reassertion::Severed(id, places) => {
            json!({ "fact": "SEVERED", "observationId": id.to_string(), "places": places })
        }
    }
}

fn fact(value: &Value) -> Option<Reassertion> {
    let one = || value.get("identifier").and_then(identifier);
    let list = |name: &str| value.get(name)?.as_array()?.iter().map(identifier).collect::<Option<Vec<_>>>();
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    let observation = || ObservationId::try_from(value.get("observationId")?.as_str()?).ok();
    match value.get("fact")?.as_str()? {
        "SHARED" => one().map(Reassertion::Shared),
        "CONTESTED" => one().map(Reassertion::Contested),
        "FIRST_SEEN" => Some(Reassertion::FirstSeen(one()?, number("timeMs")?)),
        "OWNERS" => {
            let owner = |value: &Value| {
                let owner = value.get("owner")?;
                let owner = if owner.is_null() { None } else { Some(identifier(owner)?) };
                Some((value.get("fromMs")?.as_u64()?, owner))
            };
            let owners = value.get("owners")?.as_array()?.iter().map(owner).collect::<Option<Vec<_>>>()?;
            Some(Reassertion::Slices(one()?, owners))
        }
        "APART" => Some(Reassertion::Apart(list("left")?, list("right")?)),
        "LINK" => Some(Reassertion::Link {
            ends: <[Identifier; 2]>::try_from(list("between")?).ok()?,
            support: u32::try_from(number("support")?).ok()?,
            seen_ms: (number("firstMs")?, number("lastMs")?),
            assurance: u8::try_from(number("assurance")?).ok()?,
        }),
        "AMBIGUOUS" => observation().map(Reassertion::Ambiguous),
        "PROBABLE" => observation().map(Reassertion::Probable),
        "SEVERED" => {
            let place = |value: &Value| value.as_u64().and_then(|place| u16::try_from(place).ok());
            let places = value.get("places")?.as_array()?.iter().map(place).collect::<Option<Vec<_>>>()?;
            Some(Reassertion::Severed(observation()?, places))
        }
        _ => None,
    }
}
