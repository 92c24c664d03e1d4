//! Mappings: which value goes to which column, written as the integration guides write it:
//! `interaction.id → target.interaction_id`.
//!
//! A line is `source → target.column`, then, if wanted, `: type` and `required`. The source is a path, with or without
//! braces; `->` does for the arrow. `log_id` and `seq` are columns of every sink and are not mapped.
//!
//! A value that does not fit its column makes the whole event a dead letter with a reason; nothing is cut, rounded or
//! left out to make it fit.

mod fill;

use crate::event::{EVENT_MEMBER, EventRow};
use crate::path::{Path, Sensitivity};
use crate::personal::{Pii, Privacy, References, Refusal};
use crate::row::{Column, ColumnType, LOG_ID, Row, SEQ};
use fill::Filler;

/// Most columns of a mapping, and longest name of a column (PostgreSQL cuts longer ones).
const COLUMNS_MAX: usize = 200;
const NAME_BYTES_MAX: usize = 63;

/// The columns of one sink and where their values come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    privacy: Privacy,
    columns: Vec<Column>,
    sources: Vec<Source>,
    filler: Filler,
}

#[derive(Clone, Debug, PartialEq)]
enum Source {
    /// A value as it is.
    Value(Path),
    /// The customer, in the form in which this sink gets it.
    Customer,
    /// The interaction, likewise.
    Interaction(Path),
    /// What of the event may go out.
    Event,
}

/// Why a mapping was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// A line is not written as it must be.
    #[error("{reason}. line={line}")]
    Line {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A value may not go out to this target.
    #[error("{refusal}. line={line}, source={source_path}")]
    Refused {
        /// The line's number, from 1; 0 for the default mapping.
        line: usize,
        /// The path.
        source_path: String,
        /// Why.
        refusal: Refusal,
    },
    /// Two lines fill one column, or a line fills a column of ours.
    #[error("column is filled twice. line={line}, column={column}")]
    Twice {
        /// The line's number, from 1.
        line: usize,
        /// The column.
        column: String,
    },
    /// There are no lines, or too many.
    #[error("a mapping has 1 to {COLUMNS_MAX} columns")]
    Count,
}

/// Why one event could not be mapped. Names a column, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmappable {
    /// A value does not fit the type of its column.
    #[error("value does not fit the type of its column. column={0}")]
    Misfit(String),
    /// A required value is missing.
    #[error("required value is missing. column={0}")]
    Missing(String),
    /// The entry is not what was sealed.
    #[error("entry is not what was sealed")]
    Damaged,
}

impl Unmappable {
    /// Returns the code of the dead letter.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Misfit(_) => "mapping_misfit",
            Self::Missing(_) => "mapping_missing",
            Self::Damaged => "leaf_damaged",
        }
    }

    /// Returns the column, if one is the reason.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Misfit(column) | Self::Missing(column) => Some(column),
            Self::Damaged => None,
        }
    }
}

/// Column, source, `required`; in the order of the columns.
const DEFAULT: [(&str, &str, bool); 15] = [
    ("event_id", "log.event_id", false),
    ("event_time", "auditEvent.timestamp", false),
    ("received_at", "log.received_at", true),
    ("event_type", "auditEvent.eventType", false),
    ("interaction_id", "interaction.id", false),
    ("customer_id", "auditEvent.resolvedCustomerId", false),
    ("channel_type", "auditEvent.channelType", false),
    ("resolution_source", "auditEvent.resolutionSource", false),
    ("queue_id", "auditEvent.queueId", false),
    ("gdpr_consent_recorded", "auditEvent.complianceFlags.gdprConsentRecorded", false),
    ("data_subject_request_pending", "auditEvent.complianceFlags.dataSubjectRequestPending", false),
    ("deletion_reason", "auditEvent.deletionReason", false),
    ("request_id", "auditEvent.requestId", false),
    ("status", "auditEvent.status", false),
    ("leaf_hash", "log.leaf_hash", true),
];
const DEFAULT_TOKENS: [(&str, &str, bool); 4] = [
    ("phone_hash", "auditEvent.piiContext.phoneHash", false),
    ("email_hash", "auditEvent.piiContext.emailHash", false),
    ("account_number_hash", "auditEvent.piiContext.accountNumberHash", false),
    ("agent_id", "auditEvent.agentId", false),
];

impl Mapping {
    /// Returns the mapping that covers every member: known ones have columns, and `payload` holds what of the whole event
    /// may go out.
    pub fn default_for(privacy: Privacy) -> Self {
        let tokens = if privacy.pii() == Pii::Tokens { DEFAULT_TOKENS.as_slice() } else { &[] };
        let sealed = if privacy.pii() == Pii::Sealed {
            [("sealed_leaf", "log.sealed_leaf", true)].as_slice()
        } else {
            &[]
        };
        let all = DEFAULT.iter().chain(tokens).chain(sealed);
        let mut mapping = Self::empty(privacy);
        for (column, path, required) in all {
            let path = Path::parse(path).expect("the default mapping names paths that exist");
            let kind = path.natural_type();
            mapping.add(0, column, path, kind, *required).expect("the default mapping is permitted");
        }
        let event = Path::parse(EVENT_MEMBER).expect("the event's member is a path");
        mapping.add(0, "payload", event, ColumnType::Json, false).expect("the event goes out as it may");
        mapping.filler = Filler::new(&mapping.sources);
        mapping
    }

    fn empty(privacy: Privacy) -> Self {
        Self { privacy, columns: Vec::new(), sources: Vec::new(), filler: Filler::default() }
    }

    /// Reads the lines of a mapping.
    ///
    /// # Errors
    /// [`MappingError`] with the line's number.
    pub fn parse(lines: &[impl AsRef<str>], privacy: Privacy) -> Result<Self, MappingError> {
        if lines.is_empty() || lines.len() > COLUMNS_MAX {
            return Err(MappingError::Count);
        }
        let mut mapping = Self::empty(privacy);
        for (line, text) in (1..).zip(lines) {
            let (path, column, kind, required) =
                read_line(text.as_ref()).map_err(|reason| MappingError::Line { line, reason })?;
            let kind = kind.unwrap_or(path.natural_type());
            mapping.add(line, &column, path, kind, required)?;
        }
        mapping.filler = Filler::new(&mapping.sources);
        Ok(mapping)
    }

    fn add(
        &mut self,
        line: usize,
        column: &str,
        path: Path,
        kind: ColumnType,
        required: bool,
    ) -> Result<(), MappingError> {
        if column == LOG_ID || column == SEQ || self.columns.iter().any(|known| known.name == column) {
            return Err(MappingError::Twice { line, column: column.to_owned() });
        }
        let sensitivity = path.sensitivity();
        let whole_event = path.as_str() == EVENT_MEMBER;
        if !whole_event {
            self.privacy.permits(sensitivity).map_err(|refusal| MappingError::Refused {
                line,
                source_path: path.as_str().to_owned(),
                refusal,
            })?;
        }
        let source = match sensitivity {
            _ if whole_event => Source::Event,
            Sensitivity::Customer => Source::Customer,
            Sensitivity::Interaction => Source::Interaction(path),
            _ => Source::Value(path),
        };
        let personal = !matches!(sensitivity, Sensitivity::Plain | Sensitivity::Sealed);
        if required && personal && self.privacy.erase() == crate::personal::Erase::Null {
            let reason = "a personal column cannot be required where an erasure sets it to null".to_owned();
            return Err(MappingError::Line { line, reason });
        }
        self.columns.push(Column { name: column.to_owned(), kind, required, personal });
        self.sources.push(source);
        Ok(())
    }

    /// Returns the columns, without `log_id` and `seq`.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the sink's choices.
    pub fn privacy(&self) -> Privacy {
        self.privacy
    }

    /// Returns the column that holds the customer, by which an erasure finds a person's rows.
    pub fn customer_column(&self) -> Option<&str> {
        let at = self.sources.iter().position(|source| *source == Source::Customer)?;
        self.columns.get(at).map(|column| column.name.as_str())
    }

    /// Maps one event.
    ///
    /// # Errors
    /// [`Unmappable`] with the first column that cannot be filled.
    pub fn map(&self, event: &EventRow, references: &References) -> Result<Row, Unmappable> {
        self.filler.row(event, &self.columns, self.privacy, references)
    }
}

type Line = (Path, String, Option<ColumnType>, bool);

fn read_line(text: &str) -> Result<Line, String> {
    let (source, target) = text
        .split_once('→')
        .or_else(|| text.split_once("->"))
        .ok_or("an arrow is missing: source → target.column")?;
    let source = source.trim();
    let source = match source.strip_prefix("{{") {
        Some(inner) => inner.strip_suffix("}}").ok_or("}} is missing")?.trim(),
        None => source,
    };
    let path = Path::parse(source).map_err(|error| error.to_string())?;
    let mut target = target.trim();
    let required = match target.strip_suffix("required") {
        Some(rest) if rest.ends_with(char::is_whitespace) => {
            target = rest.trim_end();
            true
        }
        _ => false,
    };
    let kind = match target.split_once(':') {
        None => None,
        Some((name, kind)) => {
            target = name.trim_end();
            let names = || ColumnType::ALL.map(|(_, name)| name).join(", ");
            Some(ColumnType::by_name(kind.trim()).ok_or_else(|| format!("the types are {}", names()))?)
        }
    };
    let column = target.strip_prefix("target.").unwrap_or(target);
    if !is_column_name(column) {
        return Err(format!(
            "a column's name has lower-case letters, digits and _, starts with a letter and has at most \
             {NAME_BYTES_MAX} characters"
        ));
    }
    Ok((path, column.to_owned(), kind, required))
}

/// Tells whether a text is a column's name in every target, without quotes or escapes.
pub(crate) fn is_column_name(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(valid)
        && text.len() <= NAME_BYTES_MAX
}
