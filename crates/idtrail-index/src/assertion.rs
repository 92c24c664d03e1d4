//! What persons state about identities, as it stands in a leaf and is read from it again.

use idtrail_event::{GlobalCustomerId, IdentifierToken, IdentifierType};
use idtrail_identity::Identifier;
use idtrail_identity::assertion::{AssertionKind, Subject};
use serde_json::{Value, json};

/// Member of a leaf's body, beside the event, that holds an assertion.
pub const ASSERTION_MEMBER: &str = "assertion";
/// Subjects that one side of an assertion may name.
const SUBJECTS_MAX: usize = 100;

/// Writes an assertion, for the leaf and for whoever has to approve it.
pub fn to_json(kind: &AssertionKind) -> Value {
    let list = |subjects: &[Subject]| subjects.iter().map(subject_json).collect::<Vec<_>>();
    match kind {
        AssertionKind::Same(a, b) => json!({ "kind": "SAME", "subjects": list(&[*a, *b]) }),
        AssertionKind::NotSame(a, b) => json!({ "kind": "NOT_SAME", "left": list(a), "right": list(b) }),
        AssertionKind::Block(id) => json!({ "kind": "BLOCK", "identifier": identifier_json(id) }),
        AssertionKind::MarkShared(id) => json!({ "kind": "MARK_SHARED", "identifier": identifier_json(id) }),
        AssertionKind::Transfer { identifier, from, to, at_ms } => json!({
            "kind": "TRANSFER", "identifier": identifier_json(identifier),
            "from": subject_json(from), "to": subject_json(to), "atMs": at_ms,
        }),
        AssertionKind::Withdraw(id) => json!({ "kind": "WITHDRAW", "observationId": id.to_string() }),
        AssertionKind::Hold(gcid) => json!({ "kind": "HOLD", "gcid": gcid.to_string() }),
        AssertionKind::Revoke(number) => json!({ "kind": "REVOKE", "assertionId": number }),
    }
}

/// Reads an assertion from a leaf or a request; what cannot be read is named by its member.
///
/// # Errors
/// The name of the member that is missing or wrong.
pub fn from_json(value: &Value) -> Result<AssertionKind, &'static str> {
    let one = |name: &'static str| value.get(name).and_then(subject).ok_or(name);
    let identifier = || value.get("identifier").and_then(identifier).ok_or("identifier");
    let list = |name: &'static str| {
        let items = value.get(name).and_then(Value::as_array).ok_or(name)?;
        if items.is_empty() || items.len() > SUBJECTS_MAX {
            return Err(name);
        }
        items.iter().map(|item| subject(item).ok_or(name)).collect::<Result<Vec<_>, _>>()
    };
    match value.get("kind").and_then(Value::as_str) {
        Some("SAME") => match list("subjects")?.as_slice() {
            [a, b] => Ok(AssertionKind::Same(*a, *b)),
            _ => Err("subjects"),
        },
        Some("NOT_SAME") => Ok(AssertionKind::NotSame(list("left")?, list("right")?)),
        Some("BLOCK") => Ok(AssertionKind::Block(identifier()?)),
        Some("MARK_SHARED") => Ok(AssertionKind::MarkShared(identifier()?)),
        Some("TRANSFER") => Ok(AssertionKind::Transfer {
            identifier: identifier()?,
            from: one("from")?,
            to: one("to")?,
            at_ms: value.get("atMs").and_then(Value::as_u64).ok_or("atMs")?,
        }),
        Some("HOLD") => match one("gcid")? {
            Subject::Customer(gcid) => Ok(AssertionKind::Hold(gcid)),
            Subject::Identifier(_) => Err("gcid"),
        },
        Some("REVOKE") => {
            let number = value.get("assertionId").and_then(Value::as_u64);
            Ok(AssertionKind::Revoke(number.ok_or("assertionId")?))
        }
        _ => Err("kind"),
    }
}

fn subject_json(subject: &Subject) -> Value {
    match subject {
        Subject::Customer(gcid) => gcid.to_string().into(),
        Subject::Identifier(id) => identifier_json(id),
    }
}

pub(crate) fn identifier_json(id: &Identifier) -> Value {
    json!({ "type": id.kind.number(), "token": id.token.to_string() })
}

fn subject(value: &Value) -> Option<Subject> {
    match value {
        Value::String(text) => GlobalCustomerId::try_from(text.as_str()).ok().map(Subject::Customer),
        other => identifier(other).map(Subject::Identifier),
    }
}

pub(crate) fn identifier(value: &Value) -> Option<Identifier> {
    let kind = u16::try_from(value.get("type")?.as_u64()?).ok()?;
    let token = IdentifierToken::try_from(value.get("token")?.as_str()?).ok()?;
    Some(Identifier { kind: IdentifierType::new(kind), token })
}
