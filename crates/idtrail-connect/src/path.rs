//! Names of values: `auditEvent.piiContext.phoneHash`, `interaction.id`, `log.seq`.
//!
//! A path is looked up in the event's body unless it starts with one of the names that the log adds. The names that
//! the integration guides use for the contact centre's own fields (`interaction.id`) are other words for members of the
//! event. Every path has a [`Sensitivity`], from which the rules of [`crate::personal`] decide where it may go.

use std::borrow::Cow;

use crate::body::Scalar;
use crate::event::{EVENT_MEMBER, EventRow};
use crate::row::{ColumnType, Misfit, Row};

/// Longest path in segments. Events are not nested deeper than that.
const SEGMENTS_MAX: usize = 16;

/// The name of one value that an entry may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    root: Root,
    /// As written, without braces.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Root {
    Body(Vec<String>),
    Log(LogField),
    CustomerId,
}

/// What the log adds to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogField {
    LogId,
    Seq,
    ReceivedAt,
    EventId,
    LeafHash,
    SealedLeaf,
}

/// What a value can tell about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sensitivity {
    /// Nothing: types, times, channels, queues, flags, positions.
    Plain,
    /// The customer's id. Goes out as the global id or as a reference of the sink's own.
    Customer,
    /// The interaction's id, which names a call or chat in the contact centre.
    Interaction,
    /// Ciphertext that key destruction makes unreadable in every copy.
    Sealed,
    /// Keyed hashes of identifiers, the client's own customer id, staff, and every member that is not known.
    Personal,
}

/// Members of the event: name, type, sensitivity. What is not here is `Personal`.
const MEMBERS: [(&str, ColumnType, Sensitivity); 19] = [
    ("eventType", ColumnType::Text, Sensitivity::Plain),
    ("timestamp", ColumnType::Timestamp, Sensitivity::Plain),
    ("interactionId", ColumnType::Text, Sensitivity::Interaction),
    ("channelType", ColumnType::Text, Sensitivity::Plain),
    ("resolvedCustomerId", ColumnType::Text, Sensitivity::Customer),
    ("resolutionSource", ColumnType::Text, Sensitivity::Plain),
    ("resolutionMethod", ColumnType::Text, Sensitivity::Plain),
    ("queueId", ColumnType::Text, Sensitivity::Plain),
    ("deletionReason", ColumnType::Text, Sensitivity::Plain),
    ("requestId", ColumnType::Text, Sensitivity::Plain),
    ("status", ColumnType::Text, Sensitivity::Plain),
    ("piiCollected", ColumnType::Bool, Sensitivity::Plain),
    ("rulesetVersion", ColumnType::Text, Sensitivity::Plain),
    ("schemaVersion", ColumnType::Text, Sensitivity::Plain),
    ("complianceFlags", ColumnType::Json, Sensitivity::Plain),
    ("agentId", ColumnType::Text, Sensitivity::Personal),
    ("agentName", ColumnType::Text, Sensitivity::Personal),
    ("supervisorId", ColumnType::Text, Sensitivity::Personal),
    ("staffId", ColumnType::Text, Sensitivity::Personal),
];

/// Members of the two nested objects that are known.
const NESTED: [(&str, &str, ColumnType, Sensitivity); 6] = [
    ("complianceFlags", "gdprConsentRecorded", ColumnType::Bool, Sensitivity::Plain),
    ("complianceFlags", "dataSubjectRequestPending", ColumnType::Bool, Sensitivity::Plain),
    ("piiContext", "phoneHash", ColumnType::Text, Sensitivity::Personal),
    ("piiContext", "emailHash", ColumnType::Text, Sensitivity::Personal),
    ("piiContext", "accountNumberHash", ColumnType::Text, Sensitivity::Personal),
    ("piiContext", "hashScheme", ColumnType::Text, Sensitivity::Plain),
];

impl Path {
    /// Reads a path, without braces: names of letters, digits, `_`, `-` and `$`, separated by dots.
    ///
    /// # Errors
    /// [`PathError`] if it is written in another way, or if it starts with `log.`, `customer.` or `interaction.` and
    /// goes on with a name that does not exist there.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let segments: Vec<&str> = text.split('.').collect();
        let valid = segments.iter().all(|segment| !segment.is_empty() && segment.chars().all(is_name_char));
        if !valid || segments.len() > SEGMENTS_MAX {
            return Err(PathError::Malformed);
        }
        let event = |member: &str| Root::Body(vec![EVENT_MEMBER.to_owned(), member.to_owned()]);
        let root = match segments.as_slice() {
            ["log", name] => Root::Log(LogField::by_name(name).ok_or(PathError::UnknownLogField)?),
            ["log", ..] => return Err(PathError::UnknownLogField),
            ["customer", "id"] => Root::CustomerId,
            ["customer", ..] => return Err(PathError::UnknownCustomerField),
            ["interaction", "id"] => event("interactionId"),
            ["interaction", "channelType"] => event("channelType"),
            ["interaction", "queueId"] => event("queueId"),
            ["interaction", ..] => return Err(PathError::UnknownInteractionField),
            segments => Root::Body(segments.iter().map(|segment| (*segment).to_owned()).collect()),
        };
        Ok(Self { root, text: text.to_owned() })
    }

    /// Returns the path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns what the value can tell about a person.
    pub fn sensitivity(&self) -> Sensitivity {
        match &self.root {
            Root::CustomerId => Sensitivity::Customer,
            Root::Log(LogField::SealedLeaf) => Sensitivity::Sealed,
            // The event's id leads to the event for whoever holds the trail's key, and to nothing else.
            Root::Log(_) => Sensitivity::Plain,
            Root::Body(segments) => known(segments).map_or(Sensitivity::Personal, |(_, found)| found),
        }
    }

    /// Returns the type that a column for this value has unless the mapping says otherwise.
    pub fn natural_type(&self) -> ColumnType {
        match &self.root {
            Root::CustomerId => ColumnType::Text,
            Root::Log(field) => field.natural_type(),
            Root::Body(segments) if segments.len() == 1 => ColumnType::Json,
            Root::Body(segments) => known(segments).map_or(ColumnType::Text, |(natural, _)| natural),
        }
    }

    /// Returns the value in an entry; `None` if it has none or if it is null.
    pub(crate) fn lookup<'a>(&self, row: &'a EventRow) -> Option<Scalar<'a>> {
        match &self.root {
            Root::CustomerId => row.customer_id.as_deref().map(|id| Scalar::Text(Cow::Borrowed(id))),
            Root::Log(field) => field.value(row),
            Root::Body(segments) => row.body.find(segments),
        }
    }

    /// Returns the names that lead to the value in the body; `None` for what the log adds.
    pub(crate) fn body_segments(&self) -> Option<&[String]> {
        if let Root::Body(segments) = &self.root { Some(segments) } else { None }
    }

    /// Fills a cell with one of the log's own fields in its natural type, without a way around through JSON. Returns false
    /// for other paths.
    pub(crate) fn fill_log_cell(&self, event: &EventRow, row: &mut Row) -> Result<bool, Misfit> {
        let Root::Log(field) = &self.root else { return Ok(false) };
        match field {
            LogField::LogId => row.int(i64::from(event.position.log_id.get())),
            LogField::Seq => row.int(i64::try_from(event.position.seq).map_err(|_| Misfit)?),
            LogField::ReceivedAt => row.timestamp(event.received_ms.saturating_mul(1000)),
            LogField::EventId => match &event.event_id {
                Some(id) => row.text(|out| out.push_str(id))?,
                None => row.null(),
            },
            LogField::LeafHash => row.text(|out| push_hex(out, &event.leaf_hash))?,
            LogField::SealedLeaf => {
                use base64::Engine as _;
                let encode = |out: &mut String| {
                    base64::engine::general_purpose::STANDARD.encode_string(&event.sealed_leaf, out);
                };
                row.text(encode)?;
            }
        }
        Ok(true)
    }
}

/// Tells whether a character may stand in a segment.
pub(crate) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$')
}

/// Returns the sensitivity of a member of the event; nested ones under their parent.
pub(crate) fn member_sensitivity(parent: Option<&str>, name: &str) -> Sensitivity {
    match parent {
        None => MEMBERS.iter().find(|(known, ..)| *known == name).map(|(_, _, found)| *found),
        Some(parent) => NESTED
            .iter()
            .find(|(above, known, ..)| *above == parent && *known == name)
            .map(|(_, _, _, found)| *found),
    }
    .unwrap_or(Sensitivity::Personal)
}

/// Returns where a member stands among those of an event, usually; unknown ones stand behind the known ones.
pub(crate) fn usual_place(name: &str) -> usize {
    MEMBERS.iter().position(|(known, ..)| *known == name).unwrap_or(MEMBERS.len())
}

fn known(segments: &[String]) -> Option<(ColumnType, Sensitivity)> {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        [EVENT_MEMBER, name] => MEMBERS
            .iter()
            .find(|(known, ..)| known == name)
            .map(|(_, kind, sensitivity)| (*kind, *sensitivity)),
        [EVENT_MEMBER, parent, name] => NESTED
            .iter()
            .find(|(above, known, ..)| above == parent && known == name)
            .map(|(_, _, kind, sensitivity)| (*kind, *sensitivity)),
        _ => None,
    }
}

impl LogField {
    const ALL: [Self; 6] =
        [Self::LogId, Self::Seq, Self::ReceivedAt, Self::EventId, Self::LeafHash, Self::SealedLeaf];

    fn name(self) -> &'static str {
        match self {
            Self::LogId => "log_id",
            Self::Seq => "seq",
            Self::ReceivedAt => "received_at",
            Self::EventId => "event_id",
            Self::LeafHash => "leaf_hash",
            Self::SealedLeaf => "sealed_leaf",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    fn natural_type(self) -> ColumnType {
        match self {
            Self::LogId | Self::Seq => ColumnType::Int64,
            Self::ReceivedAt => ColumnType::Timestamp,
            Self::EventId | Self::LeafHash | Self::SealedLeaf => ColumnType::Text,
        }
    }

    fn value(self, row: &EventRow) -> Option<Scalar<'_>> {
        let text = |text: String| Scalar::Text(Cow::Owned(text));
        Some(match self {
            Self::LogId => Scalar::Number(Cow::Owned(row.position.log_id.get().to_string())),
            Self::Seq => Scalar::Number(Cow::Owned(row.position.seq.to_string())),
            Self::ReceivedAt => text(crate::row::format_timestamp(row.received_ms.checked_mul(1000)?)),
            Self::EventId => Scalar::Text(Cow::Borrowed(row.event_id.as_deref()?)),
            Self::LeafHash => {
                let mut digits = String::with_capacity(64);
                push_hex(&mut digits, &row.leaf_hash);
                text(digits)
            }
            Self::SealedLeaf => {
                use base64::Engine as _;
                text(base64::engine::general_purpose::STANDARD.encode(&row.sealed_leaf))
            }
        })
    }
}

/// Appends 32 bytes as lower-case hex digits.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8; 32]) {
    // Without branches, so that the loop runs in vectors.
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    let mut text = [0; 64];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    // Digits are ASCII, so this never finds anything wrong.
    out.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It is not made of names and dots.
    #[error("a path is made of names separated by dots, such as auditEvent.timestamp")]
    Malformed,
    /// `log` has no such field.
    #[error("log has the fields log_id, seq, received_at, event_id, leaf_hash and sealed_leaf")]
    UnknownLogField,
    /// `customer` has no such field.
    #[error("customer has the field id only")]
    UnknownCustomerField,
    /// `interaction` has no such field.
    #[error("interaction has the fields id, channelType and queueId")]
    UnknownInteractionField,
}
