//! What is sent to PostgreSQL: statements, and rows in COPY's text format. Pure.

use crate::engine::Batch;
use crate::row::{Cell, Column, ColumnType, LOG_ID, SEQ, format_timestamp};

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

    pub(crate) fn copy(&self) -> String {
        format!("COPY {} ({}) FROM STDIN (FORMAT text)", self.quoted, self.columns)
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

/// Quotes a name.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Writes rows in COPY's text format: tabs between cells, `\N` for null, backslash escapes.
pub(crate) fn copy_rows(batch: &Batch) -> Vec<u8> {
    let bytes = batch.rows.iter().map(|row| row.bytes() + 32).sum();
    let mut out = Vec::with_capacity(bytes);
    for row in &batch.rows {
        out.extend_from_slice(row.position.log_id.get().to_string().as_bytes());
        out.push(b'\t');
        out.extend_from_slice(row.position.seq.to_string().as_bytes());
        for cell in &row.cells {
            out.push(b'\t');
            copy_cell(&mut out, cell);
        }
        out.push(b'\n');
    }
    out
}

fn copy_cell(out: &mut Vec<u8>, cell: &Cell) {
    match cell {
        Cell::Null => out.extend_from_slice(b"\\N"),
        Cell::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Cell::Float(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Cell::Bool(flag) => out.push(if *flag { b't' } else { b'f' }),
        Cell::Timestamp(us) => out.extend_from_slice(format_timestamp(*us).as_bytes()),
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
