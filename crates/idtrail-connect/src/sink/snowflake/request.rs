//! What is sent to Snowflake: statements and rows as JSON. Pure.

use serde_json::{Map, Value};

use crate::ddl::{Dialect, quote};
use crate::engine::Batch;
use crate::position::Position;
use crate::row::{Cell, Column, ColumnType, LOG_ID, Row, SEQ, format_timestamp};
use crate::sink::between;

/// The names of one table and its statements. Names are upper-case, as the DDL makes them.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) database: String,
    pub(crate) schema: String,
    pub(crate) table: String,
    /// Quoted, with database and schema.
    pub(crate) quoted: String,
    columns: Vec<(String, ColumnType)>,
}

impl Table {
    /// `None` if the name is not written `database.schema.table`.
    pub(crate) fn new(name: &str, columns: &[Column]) -> Option<Self> {
        let [database, schema, table] = name.split('.').collect::<Vec<_>>().as_slice().try_into().ok()?;
        let quoted = [database, schema, table].map(|part| quote(Dialect::Snowflake, part)).join(".");
        let own = [(LOG_ID.to_uppercase(), ColumnType::Int64), (SEQ.to_uppercase(), ColumnType::Int64)];
        let all =
            own.into_iter().chain(columns.iter().map(|column| (column.name.to_uppercase(), column.kind)));
        Some(Self {
            database: database.to_uppercase(),
            schema: schema.to_uppercase(),
            table: table.to_uppercase(),
            quoted,
            columns: all.collect(),
        })
    }

    /// Asks for the newest row.
    pub(crate) fn high_water(&self) -> String {
        format!(
            "SELECT \"LOG_ID\", \"SEQ\" FROM {} ORDER BY \"LOG_ID\" DESC, \"SEQ\" DESC LIMIT 1",
            self.quoted
        )
    }

    /// Counts the rows between two places.
    pub(crate) fn count(&self, first: Position, last: Position) -> String {
        let found = between(("\"LOG_ID\"", "\"SEQ\""), first, last);
        format!("SELECT COUNT(*) FROM {} WHERE {found}", self.quoted)
    }

    /// Asks for the columns and their types; schema and table are bound.
    pub(crate) fn columns_asked(&self) -> String {
        format!(
            "SELECT COLUMN_NAME, DATA_TYPE FROM {}.INFORMATION_SCHEMA.COLUMNS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            quote(Dialect::Snowflake, &self.database)
        )
    }

    /// Tells whether the columns are there with types that take our values unchanged.
    pub(crate) fn fits(&self, found: &[(String, String)]) -> bool {
        self.columns.iter().all(|(name, kind)| {
            let takes = match kind {
                ColumnType::Int64 => "NUMBER",
                ColumnType::Text => "TEXT",
                ColumnType::Timestamp => "TIMESTAMP_NTZ",
                ColumnType::Bool => "BOOLEAN",
                ColumnType::Float64 => "FLOAT",
                ColumnType::Json => "VARIANT",
            };
            found.iter().any(|(known, kind)| known == name && kind == takes)
        })
    }

    /// Inserts rows from the JSON text that is bound first, unless the table has a row at or above the place that is bound
    /// behind it: `log_id`, `log_id`, `seq`.
    pub(crate) fn insert(&self) -> String {
        format!(
            "{} WHERE NOT EXISTS (SELECT 1 FROM {} t WHERE t.\"LOG_ID\" > ? OR (t.\"LOG_ID\" = ? AND t.\"SEQ\" >= ?))",
            self.insert_select(),
            self.quoted
        )
    }

    /// Inserts rows from JSON, leaving those alone that are there.
    pub(crate) fn insert_keyed(&self) -> String {
        format!(
            "{} WHERE NOT EXISTS (SELECT 1 FROM {} t WHERE t.\"LOG_ID\" = f.value:LOG_ID::NUMBER(38,0) \
             AND t.\"SEQ\" = f.value:SEQ::NUMBER(38,0))",
            self.insert_select(),
            self.quoted
        )
    }

    fn insert_select(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let values = self.columns.iter().map(|(name, kind)| {
            let kind = match kind {
                ColumnType::Int64 => "NUMBER(38,0)",
                ColumnType::Text => "VARCHAR",
                ColumnType::Timestamp => "TIMESTAMP_NTZ(6)",
                ColumnType::Bool => "BOOLEAN",
                ColumnType::Float64 => "FLOAT",
                ColumnType::Json => "VARIANT",
            };
            format!("f.value:{name}::{kind}")
        });
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) f",
            self.quoted,
            names.join(", "),
            values.collect::<Vec<_>>().join(", ")
        )
    }

    /// Asks which places of an origin between two log indices are there; all three are bound.
    pub(crate) fn present(&self) -> String {
        format!("SELECT \"SEQ\" FROM {} WHERE \"LOG_ID\" = ? AND \"SEQ\" BETWEEN ? AND ?", self.quoted)
    }

    /// Asks who may do what.
    pub(crate) fn grants(&self) -> String {
        format!("SHOW GRANTS ON TABLE {}", self.quoted)
    }
}

/// What a writer's role may hold on its table.
pub(crate) const APPENDING: [&str; 3] = ["INSERT", "SELECT", "REFERENCES"];

/// Writes rows as a JSON array.
pub(crate) fn rows_json(batch: &Batch, columns: &[Column]) -> String {
    Value::Array(batch.rows.iter().map(|row| row_json(row, columns)).collect()).to_string()
}

/// Writes rows as lines of JSON.
pub(crate) fn rows_lines<'a>(rows: impl Iterator<Item = &'a Row>, columns: &[Column]) -> String {
    rows.map(|row| format!("{}\n", row_json(row, columns))).collect()
}

fn row_json(row: &Row, columns: &[Column]) -> Value {
    let mut object = Map::new();
    object.insert(LOG_ID.to_uppercase(), row.position.log_id.get().into());
    object.insert(SEQ.to_uppercase(), row.position.seq.into());
    for (column, cell) in columns.iter().zip(row.cells()) {
        let value = match cell {
            // Without a zone, as the column is: ours are UTC.
            Cell::Timestamp(us) => format_timestamp(us).trim_end_matches('Z').into(),
            other => other.to_json(),
        };
        object.insert(column.name.to_uppercase(), value);
    }
    Value::Object(object)
}
