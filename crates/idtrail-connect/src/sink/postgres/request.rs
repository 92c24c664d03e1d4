//! What is sent to PostgreSQL: statements, and rows in COPY's formats. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::Batch;
use crate::position::Position;
use crate::row::{Cell, Column, ColumnType, LOG_ID, Row, SEQ, format_timestamp};
use crate::sink::between;

/// The names of one table, ready to stand in statements.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Quoted, with its schema.
    pub(crate) quoted: String,
    /// As `regclass` reads it.
    pub(crate) literal: String,
    /// All columns, quoted, with `log_id` and `seq` first.
    columns: String,
    kinds: Vec<(String, ColumnType)>,
}

impl Table {
    pub(crate) fn new(name: &str, columns: &[Column]) -> Self {
        let quoted: Vec<String> = name.split('.').map(quote).collect();
        let quoted = quoted.join(".");
        let names = [LOG_ID, SEQ].into_iter().chain(columns.iter().map(|column| column.name.as_str()));
        Self {
            literal: quoted.replace('\'', "''"),
            quoted,
            columns: names.map(quote).collect::<Vec<_>>().join(", "),
            kinds: columns.iter().map(|column| (column.name.clone(), column.kind)).collect(),
        }
    }

    /// Asks for the newest row.
    pub(crate) fn high_water(&self) -> String {
        format!("SELECT log_id, seq FROM {} ORDER BY log_id DESC, seq DESC LIMIT 1", self.quoted)
    }

    /// Begins a batch: one writer at a time, which sees what the one before it wrote.
    pub(crate) fn begin(&self) -> String {
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; \
             SELECT pg_advisory_xact_lock(hashtextextended('idtrail sink {}', 0)); {}",
            self.literal,
            self.high_water()
        )
    }

    /// Takes rows in a format.
    pub(crate) fn copy(&self, format: CopyFormat) -> String {
        let format = match format {
            CopyFormat::Binary => "binary",
            CopyFormat::Text => "text",
        };
        format!("COPY {} ({}) FROM STDIN (FORMAT {format})", self.quoted, self.columns)
    }

    /// Asks which types the table's columns have.
    pub(crate) fn types(&self) -> String {
        format!(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute \
             WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped",
            self.literal
        )
    }

    /// Counts the rows between two places.
    pub(crate) fn count(&self, first: Position, last: Position) -> String {
        let found = between(("\"log_id\"", "\"seq\""), first, last);
        format!("SELECT count(*) FROM {} WHERE {found}", self.quoted)
    }

    /// Returns the format for a table whose columns have these types, by name. The binary one spares the server the reading
    /// of texts, but is refused where a column is of another type than ours, such as `varchar` or `json`.
    pub(crate) fn format(&self, types: &BTreeMap<String, String>) -> CopyFormat {
        let ours = [(LOG_ID, ColumnType::Int64), (SEQ, ColumnType::Int64)];
        let mut all = ours.into_iter().chain(self.kinds.iter().map(|(name, kind)| (name.as_str(), *kind)));
        let same = all.all(|(name, kind)| types.get(name).is_some_and(|found| found == listed_name(kind)));
        if same { CopyFormat::Binary } else { CopyFormat::Text }
    }

    /// Inserts rows from a JSON array, leaving those alone that are there.
    pub(crate) fn insert_keyed(&self) -> String {
        let typed = self.kinds.iter().map(|(name, kind)| format!(", {} {}", quote(name), type_name(*kind)));
        format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM jsonb_to_recordset($1) \
             AS r(\"log_id\" bigint, \"seq\" bigint{}) ON CONFLICT (log_id, seq) DO NOTHING",
            self.quoted,
            typed.collect::<String>(),
            columns = self.columns,
        )
    }

    /// Asks what the writer may do besides appending.
    pub(crate) fn excess(&self) -> String {
        let privileges = ["UPDATE", "DELETE", "TRUNCATE"].map(|privilege| {
            format!("SELECT '{privilege}' WHERE has_table_privilege('{}', '{privilege}')", self.literal)
        });
        format!(
            "{} UNION ALL SELECT 'OWNER' FROM pg_class WHERE oid = '{}'::regclass \
             AND pg_has_role(relowner, 'USAGE') \
             UNION ALL SELECT 'SUPERUSER' FROM pg_roles WHERE rolname = current_user AND rolsuper",
            privileges.join(" UNION ALL "),
            self.literal
        )
    }
}

/// The type that a column has in PostgreSQL.
pub(crate) fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Int64 => "bigint",
        ColumnType::Text => "text",
        ColumnType::Timestamp => "timestamptz",
        ColumnType::Bool => "boolean",
        ColumnType::Float64 => "double precision",
        ColumnType::Json => "jsonb",
    }
}

/// The same type as the server lists it.
fn listed_name(kind: ColumnType) -> &'static str {
    if kind == ColumnType::Timestamp { "timestamp with time zone" } else { type_name(kind) }
}

/// How rows are written for COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyFormat {
    /// Every type in PostgreSQL's own form.
    Binary,
    /// Texts, which the server converts to whatever its columns are.
    Text,
}

/// Quotes a name.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Bytes of a piece of a batch: the server works on one while the next is being written.
const PIECE_BYTES: usize = 128 * 1024;
/// What a stream in the binary format begins with: signature, flags, length of an extension.
const SIGNATURE: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Microseconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH_US: i64 = 946_684_800_000_000;

/// Writes rows for COPY, piece by piece.
pub(crate) fn copy_pieces(batch: &Batch, format: CopyFormat) -> impl Iterator<Item = Bytes> {
    let mut rows = batch.rows.iter();
    let mut head = format == CopyFormat::Binary;
    let mut ended = false;
    std::iter::from_fn(move || {
        let mut out = Vec::new();
        if std::mem::take(&mut head) {
            out.extend_from_slice(SIGNATURE);
        }
        while out.len() < PIECE_BYTES && !ended {
            let row = rows.next();
            if out.capacity() == 0 || row.is_some_and(|row| out.capacity() - out.len() < row.bytes()) {
                out.reserve(PIECE_BYTES + row.map_or(0, |row| row.bytes()));
            }
            match (row, format) {
                (Some(row), CopyFormat::Text) => copy_text(&mut out, row),
                (Some(row), CopyFormat::Binary) => copy_binary(&mut out, row),
                (None, CopyFormat::Text) => ended = true,
                (None, CopyFormat::Binary) => {
                    ended = true;
                    out.extend_from_slice(&(-1_i16).to_be_bytes());
                }
            }
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    })
}

/// The number of cells, then each as its length and its bytes; -1 stands for null.
fn copy_binary(out: &mut Vec<u8>, row: &Row) {
    // A mapping has 200 columns at most.
    let count = i16::try_from(row.cells().len() + 2).unwrap_or(i16::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    copy_number(out, i64::from(row.position.log_id.get()).to_be_bytes());
    copy_number(out, i64::try_from(row.position.seq).unwrap_or(i64::MAX).to_be_bytes());
    for cell in row.cells() {
        match cell {
            Cell::Null => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            Cell::Int(number) => copy_number(out, number.to_be_bytes()),
            Cell::Float(number) => copy_number(out, number.to_be_bytes()),
            Cell::Bool(flag) => out.extend_from_slice(&[0, 0, 0, 1, u8::from(flag)]),
            Cell::Timestamp(us) => copy_number(out, us.saturating_sub(EPOCH_US).to_be_bytes()),
            Cell::Text(text) => {
                copy_length(out, text.len());
                out.extend_from_slice(text.as_bytes());
            }
            Cell::Json(text) => {
                copy_length(out, text.len() + 1);
                // The version of jsonb's form on the wire.
                out.push(1);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

fn copy_length(out: &mut Vec<u8>, bytes: usize) {
    // A row has less than 2 GiB; the server would refuse a length that is not the true one.
    out.extend_from_slice(&i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes());
}

fn copy_number(out: &mut Vec<u8>, bytes: [u8; 8]) {
    out.extend_from_slice(&[0, 0, 0, 8]);
    out.extend_from_slice(&bytes);
}

/// Tabs between cells, `\N` for null, backslash escapes.
fn copy_text(out: &mut Vec<u8>, row: &Row) {
    out.extend_from_slice(row.position.log_id.get().to_string().as_bytes());
    out.push(b'\t');
    out.extend_from_slice(row.position.seq.to_string().as_bytes());
    for cell in row.cells() {
        out.push(b'\t');
        copy_cell(out, cell);
    }
    out.push(b'\n');
}

fn copy_cell(out: &mut Vec<u8>, cell: Cell<'_>) {
    match cell {
        Cell::Null => out.extend_from_slice(b"\\N"),
        Cell::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Cell::Float(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Cell::Bool(flag) => out.push(if flag { b't' } else { b'f' }),
        Cell::Timestamp(us) => out.extend_from_slice(format_timestamp(us).as_bytes()),
        Cell::Text(text) | Cell::Json(text) => {
            for byte in text.bytes() {
                match byte {
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    b'\t' => out.extend_from_slice(b"\\t"),
                    b'\n' => out.extend_from_slice(b"\\n"),
                    b'\r' => out.extend_from_slice(b"\\r"),
                    other => out.push(other),
                }
            }
        }
    }
}

/// Finds the row in the context that COPY gives with an error: `COPY t, line 3, column x`. Only the number is used.
pub(crate) fn copy_line(context: &str) -> Option<usize> {
    let (_, rest) = context.rsplit_once(", line ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<usize>().ok()?.checked_sub(1)
}
