//! What goes out: rows of typed cells.
//!
//! Each destination writes the same few types in its own way. A value that does not fit its column's type is an error
//! here, before anything is sent, so that the event goes to the dead letters with a reason of ours and not of a server's.

use serde_json::Value;

use crate::position::Position;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// A whole number, 64 bits, signed.
    Int64,
    /// A text.
    Text,
    /// A time in UTC, in microseconds.
    Timestamp,
    /// True or false.
    Bool,
    /// A finite number, 64 bits.
    Float64,
    /// Any JSON value, as its text.
    Json,
}

impl ColumnType {
    /// All types, with the names that mappings use.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Int64, "int64"),
        (Self::Text, "text"),
        (Self::Timestamp, "timestamp"),
        (Self::Bool, "bool"),
        (Self::Float64, "float64"),
        (Self::Json, "json"),
    ];

    /// Returns the type of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(kind, _)| kind)
    }

    /// Returns the name that mappings use.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("text", |(_, name)| name)
    }
}

/// One value of a row.
#[derive(Clone, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// A whole number.
    Int(i64),
    /// A text.
    Text(String),
    /// Microseconds since 1970, UTC.
    Timestamp(i64),
    /// True or false.
    Bool(bool),
    /// A finite number.
    Float(f64),
    /// The text of a JSON value.
    Json(String),
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cell(…)")
    }
}

/// A JSON value does not fit the type of its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit;

impl Cell {
    /// Converts a JSON value to a column's type. Null becomes [`Cell::Null`].
    ///
    /// # Errors
    /// [`Misfit`] if the value cannot be written in this type without loss of meaning.
    pub fn from_json(value: &Value, kind: ColumnType) -> Result<Self, Misfit> {
        Ok(match (kind, value) {
            (_, Value::Null) => Self::Null,
            (ColumnType::Json, value) => {
                // Straight to bytes: the formatter behind `to_string` is several times slower. Most events fit without
                // the buffer being moved.
                let mut text = Vec::with_capacity(JSON_BYTES_USUAL);
                serde_json::to_writer(&mut text, value).map_err(|_| Misfit)?;
                Self::Json(String::from_utf8(text).map_err(|_| Misfit)?)
            }
            (ColumnType::Text, Value::String(text)) => Self::Text(without_nul(text)?.to_owned()),
            (ColumnType::Text, Value::Bool(_) | Value::Number(_)) => Self::Text(value.to_string()),
            (ColumnType::Int64, Value::Number(number)) => Self::Int(number.as_i64().ok_or(Misfit)?),
            (ColumnType::Bool, Value::Bool(flag)) => Self::Bool(*flag),
            (ColumnType::Float64, Value::Number(number)) => Self::Float(number.as_f64().ok_or(Misfit)?),
            (ColumnType::Timestamp, Value::String(text)) => {
                Self::Timestamp(parse_timestamp(text).ok_or(Misfit)?)
            }
            _ => return Err(Misfit),
        })
    }

    /// Returns the cell as a JSON value: times as RFC 3339, JSON as itself.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Int(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Timestamp(us) => format_timestamp(*us).into(),
            Self::Bool(flag) => (*flag).into(),
            Self::Float(number) => (*number).into(),
            Self::Json(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        }
    }

    /// Returns how many bytes the cell takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 1,
            Self::Int(_) | Self::Timestamp(_) | Self::Float(_) => 8,
            Self::Text(text) | Self::Json(text) => text.len(),
        }
    }
}

/// Bytes of a usual event as JSON.
const JSON_BYTES_USUAL: usize = 768;

/// Most databases refuse U+0000 in a text.
fn without_nul(text: &str) -> Result<&str, Misfit> {
    if text.contains('\0') { Err(Misfit) } else { Ok(text) }
}

/// One row, as it goes out.
#[derive(Clone, PartialEq)]
pub struct Row {
    /// Where its entry stands in the log.
    pub position: Position,
    /// The cells, in the order of the mapping's columns; `log_id` and `seq` are not among them.
    pub cells: Vec<Cell>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Row {
    /// Returns how many bytes the row takes, about.
    pub fn bytes(&self) -> usize {
        // 16 for the key, 4 for each cell's length.
        16 + self.cells.iter().map(|cell| 4 + cell.bytes()).sum::<usize>()
    }

    /// Returns the row as a JSON object, with `log_id` and `seq` first.
    pub fn to_json(&self, columns: &[Column]) -> serde_json::Map<String, Value> {
        let mut object = serde_json::Map::new();
        object.insert(LOG_ID.to_owned(), self.position.log_id.get().into());
        object.insert(SEQ.to_owned(), self.position.seq.into());
        for (column, cell) in columns.iter().zip(&self.cells) {
            object.insert(column.name.clone(), cell.to_json());
        }
        object
    }
}

/// The column of the origin's ordinal, in every sink.
pub const LOG_ID: &str = "log_id";
/// The column of the log index, in every sink.
pub const SEQ: &str = "seq";

/// One column of a sink, besides `log_id` and `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name: lower-case letters, digits and `_`, starting with a letter, 63 characters at most.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// Whether every row has a value.
    pub required: bool,
    /// Whether an erasure that nulls takes its value away.
    pub personal: bool,
}

/// Reads an RFC 3339 time as microseconds since 1970; what is finer is dropped.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(at.as_microsecond())
}

/// Writes microseconds since 1970 as RFC 3339 in UTC with six decimals.
pub fn format_timestamp(us: i64) -> String {
    match jiff::Timestamp::from_microsecond(us) {
        Ok(at) => format!("{at:.6}"),
        // Outside the years -9999 to 9999 there is no such text.
        Err(_) => us.to_string(),
    }
}
