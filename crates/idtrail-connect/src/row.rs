//! What goes out: rows of typed cells.
//!
//! Each destination writes the same few types in its own way. A value that does not fit its column's type is an error
//! here, before anything is sent, so that the event goes to the dead letters with a reason of ours and not of a server's.

use serde_json::Value;

use crate::body::Scalar;
use crate::json_text::{self, Object};
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

/// One value of a row, as a look into it.
#[derive(Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// A whole number.
    Int(i64),
    /// A text.
    Text(&'a str),
    /// Microseconds since 1970, UTC.
    Timestamp(i64),
    /// True or false.
    Bool(bool),
    /// A finite number.
    Float(f64),
    /// The text of a JSON value.
    Json(&'a str),
}

impl std::fmt::Debug for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cell(…)")
    }
}

/// A JSON value does not fit the type of its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit;

impl Cell<'_> {
    /// Returns the cell as a JSON value: times as RFC 3339, JSON as itself.
    pub fn to_json(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Int(number) => number.into(),
            Self::Text(text) => text.into(),
            Self::Timestamp(us) => format_timestamp(us).into(),
            Self::Bool(flag) => flag.into(),
            Self::Float(number) => number.into(),
            Self::Json(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        }
    }

    /// Writes the same value as [`Self::to_json`] as a text.
    pub(crate) fn write_json(self, out: &mut String) {
        match self {
            Self::Text(text) => json_text::write_text(out, text),
            // It was written by us.
            Self::Json(text) => out.push_str(text),
            other => json_text::write_value(out, &other.to_json()),
        }
    }
}

/// Most databases refuse U+0000 in a text.
fn without_nul(text: &str) -> Result<&str, Misfit> {
    if text.contains('\0') { Err(Misfit) } else { Ok(text) }
}

/// One row, as it goes out. All its texts stand in one buffer: a row is two allocations, however many columns it has.
#[derive(Clone, PartialEq)]
pub struct Row {
    /// Where its entry stands in the log.
    pub position: Position,
    slots: Vec<Slot>,
    text: String,
}

/// A cell; texts as their place in the row's buffer.
#[derive(Clone, Copy, PartialEq)]
enum Slot {
    Null,
    Int(i64),
    Timestamp(i64),
    Bool(bool),
    Float(f64),
    Text(u32, u32),
    Json(u32, u32),
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Row {
    /// Begins a row without cells, with room for as many columns and as many bytes of text.
    pub(crate) fn begin(position: Position, columns: usize, text_bytes: usize) -> Self {
        Self { position, slots: Vec::with_capacity(columns), text: String::with_capacity(text_bytes) }
    }

    /// Adds an empty cell.
    pub(crate) fn null(&mut self) {
        self.slots.push(Slot::Null);
    }

    /// Adds a whole number.
    pub(crate) fn int(&mut self, number: i64) {
        self.slots.push(Slot::Int(number));
    }

    /// Adds a time, microseconds since 1970.
    pub(crate) fn timestamp(&mut self, us: i64) {
        self.slots.push(Slot::Timestamp(us));
    }

    /// Adds a text that `write` appends to what it is given.
    ///
    /// # Errors
    /// [`Misfit`] if the row has 4 GiB of text already.
    pub(crate) fn text(&mut self, write: impl FnOnce(&mut String)) -> Result<(), Misfit> {
        let (start, end) = self.span(write)?;
        self.slots.push(Slot::Text(start, end));
        Ok(())
    }

    /// Adds a JSON value whose text `write` appends.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub(crate) fn json(&mut self, write: impl FnOnce(&mut String)) -> Result<(), Misfit> {
        let (start, end) = self.span(write)?;
        self.slots.push(Slot::Json(start, end));
        Ok(())
    }

    fn span(&mut self, write: impl FnOnce(&mut String)) -> Result<(u32, u32), Misfit> {
        let start = u32::try_from(self.text.len()).map_err(|_| Misfit)?;
        write(&mut self.text);
        Ok((start, u32::try_from(self.text.len()).map_err(|_| Misfit)?))
    }

    /// Adds a value in a column's type. Null becomes [`Cell::Null`].
    ///
    /// # Errors
    /// [`Misfit`] if the value cannot be written in this type without loss of meaning.
    pub(crate) fn value(&mut self, value: &Scalar<'_>, kind: ColumnType) -> Result<(), Misfit> {
        let slot = match (kind, value) {
            (_, Scalar::Null) => Slot::Null,
            (ColumnType::Json, Scalar::Text(text)) => {
                return self.json(|out| json_text::write_text(out, text));
            }
            (ColumnType::Json, Scalar::Number(raw) | Scalar::Compound(raw)) => {
                return self.json(|out| out.push_str(raw));
            }
            (ColumnType::Json, Scalar::Bool(flag)) => {
                return self.json(|out| json_text::write_value(out, &(*flag).into()));
            }
            (ColumnType::Text, Scalar::Text(text)) => {
                let text = without_nul(text)?;
                return self.text(|out| out.push_str(text));
            }
            (ColumnType::Text, Scalar::Number(raw)) => return self.text(|out| out.push_str(raw)),
            (ColumnType::Text, Scalar::Bool(flag)) => {
                return self.text(|out| json_text::write_value(out, &(*flag).into()));
            }
            (ColumnType::Int64, Scalar::Number(raw)) => Slot::Int(raw.parse().map_err(|_| Misfit)?),
            (ColumnType::Bool, Scalar::Bool(flag)) => Slot::Bool(*flag),
            (ColumnType::Float64, Scalar::Number(raw)) => Slot::Float(raw.parse().map_err(|_| Misfit)?),
            (ColumnType::Timestamp, Scalar::Text(text)) => {
                Slot::Timestamp(parse_timestamp(text).ok_or(Misfit)?)
            }
            _ => return Err(Misfit),
        };
        self.slots.push(slot);
        Ok(())
    }

    /// Tells whether the cell that was added last is empty.
    pub(crate) fn ends_in_null(&self) -> bool {
        self.slots.last() == Some(&Slot::Null)
    }

    /// Returns the cells, in the order of the mapping's columns; `log_id` and `seq` are not among them.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = Cell<'_>> {
        self.slots.iter().map(|slot| self.look(*slot))
    }

    /// Returns the cell of a column; [`Cell::Null`] if there are not that many.
    pub fn cell(&self, column: usize) -> Cell<'_> {
        self.slots.get(column).map_or(Cell::Null, |slot| self.look(*slot))
    }

    fn look(&self, slot: Slot) -> Cell<'_> {
        // The places were noted while the text was written, so they are there.
        let text = |start: u32, end: u32| self.text.get(start as usize..end as usize).unwrap_or_default();
        match slot {
            Slot::Null => Cell::Null,
            Slot::Int(number) => Cell::Int(number),
            Slot::Timestamp(us) => Cell::Timestamp(us),
            Slot::Bool(flag) => Cell::Bool(flag),
            Slot::Float(number) => Cell::Float(number),
            Slot::Text(start, end) => Cell::Text(text(start, end)),
            Slot::Json(start, end) => Cell::Json(text(start, end)),
        }
    }

    /// Returns how many bytes the row takes, about.
    pub fn bytes(&self) -> usize {
        // 16 for the key, 8 for each cell: its number, or its length and what goes around it.
        16 + 8 * self.slots.len() + self.text.len()
    }

    /// Returns the row as a JSON object, with `log_id` and `seq` first.
    pub fn to_json(&self, columns: &[Column]) -> serde_json::Map<String, Value> {
        let mut object = serde_json::Map::new();
        object.insert(LOG_ID.to_owned(), self.position.log_id.get().into());
        object.insert(SEQ.to_owned(), self.position.seq.into());
        for (column, cell) in columns.iter().zip(self.cells()) {
            object.insert(column.name.clone(), cell.to_json());
        }
        object
    }

    /// Writes the object that [`Self::to_json`] returns.
    pub(crate) fn write_json(&self, columns: &[Column], out: &mut String) {
        let mut object = Object::begin(out);
        json_text::write_value(object.member(LOG_ID), &self.position.log_id.get().into());
        json_text::write_value(object.member(SEQ), &self.position.seq.into());
        for (column, cell) in columns.iter().zip(self.cells()) {
            cell.write_json(object.member(&column.name));
        }
        object.end();
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
