//! What is sent to Azure SQL: statements, and rows as one JSON text, because a statement takes 2,100 parameters and a list
//! of values 1,000 rows. Pure.

use serde_json::{Map, Value};

use crate::ddl::{Dialect, quote};
use crate::engine::Batch;
use crate::position::Position;
use crate::row::{Cell, Column, ColumnType, LOG_ID, SEQ, format_timestamp};
use crate::sink::between;

/// The statements of one table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Quoted, with its schema.
    pub(crate) quoted: String,
    columns: Vec<(String, ColumnType)>,
}

impl Table {
    pub(crate) fn new(name: &str, columns: &[Column]) -> Self {
        let quoted: Vec<String> = name.split('.').map(|part| quote(Dialect::Azure, part)).collect();
        let own = [(LOG_ID.to_owned(), ColumnType::Int64), (SEQ.to_owned(), ColumnType::Int64)];
        let all = own.into_iter().chain(columns.iter().map(|column| (column.name.clone(), column.kind)));
        Self { quoted: quoted.join("."), columns: all.collect() }
    }

    /// Asks for the newest row.
    pub(crate) fn high_water(&self) -> String {
        format!("SELECT TOP (1) [log_id], [seq] FROM {} ORDER BY [log_id] DESC, [seq] DESC", self.quoted)
    }

    /// Counts the rows between two places.
    pub(crate) fn count(&self, first: Position, last: Position) -> String {
        let found = between(("[log_id]", "[seq]"), first, last);
        format!("SELECT COUNT_BIG(*) FROM {} WHERE {found}", self.quoted)
    }

    /// Asks for the newest row, and keeps others from writing behind it until the transaction ends.
    pub(crate) fn high_water_locked(&self) -> String {
        format!(
            "SELECT TOP (1) [log_id], [seq] FROM {} WITH (UPDLOCK, HOLDLOCK) ORDER BY [log_id] DESC, [seq] DESC",
            self.quoted
        )
    }

    /// Inserts rows from JSON and returns how many.
    pub(crate) fn insert(&self) -> String {
        format!(
            "INSERT INTO {} ({names}) SELECT {names} FROM {}; {COUNT}",
            self.quoted,
            self.rows(),
            names = self.names()
        )
    }

    /// Inserts rows from JSON, leaving those alone that are there.
    pub(crate) fn insert_keyed(&self) -> String {
        format!(
            "INSERT INTO {table} ({names}) SELECT {names} FROM {} AS r WHERE NOT EXISTS (SELECT 1 FROM {table} AS t \
             WITH (UPDLOCK, HOLDLOCK) WHERE t.[log_id] = r.[log_id] AND t.[seq] = r.[seq]); {COUNT}",
            self.rows(),
            table = self.quoted,
            names = self.names()
        )
    }

    /// Asks for the columns and their types.
    pub(crate) fn columns_asked(&self) -> String {
        format!(
            "SELECT name, type_name(system_type_id) AS kind FROM sys.columns WHERE object_id = OBJECT_ID(N'{}')",
            self.quoted.replace('\'', "''")
        )
    }

    /// Tells whether the columns are there with types that take our values unchanged.
    pub(crate) fn fits(&self, found: &[(String, String)]) -> bool {
        self.columns.iter().all(|(name, kind)| {
            let found = found.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.is_some_and(|(_, type_name)| takes(*kind).contains(&type_name.as_str()))
        })
    }

    /// Asks what the writer may do besides appending.
    pub(crate) fn excess(&self) -> String {
        format!(
            "SELECT DISTINCT permission_name FROM sys.fn_my_permissions(N'{}', N'OBJECT') \
             WHERE permission_name IN (N'UPDATE', N'DELETE', N'ALTER', N'CONTROL')",
            self.quoted.replace('\'', "''")
        )
    }

    fn names(&self) -> String {
        let names = self.columns.iter().map(|(name, _)| quote(Dialect::Azure, name));
        names.collect::<Vec<_>>().join(", ")
    }

    fn rows(&self) -> String {
        let typed = self.columns.iter().map(|(name, kind)| {
            let kind = match kind {
                ColumnType::Int64 => "bigint",
                // Wider than the column: OPENJSON would make null of a text that is too long, the column refuses it.
                ColumnType::Text | ColumnType::Json => "nvarchar(max)",
                ColumnType::Timestamp => "datetime2(6)",
                ColumnType::Bool => "bit",
                ColumnType::Float64 => "float",
            };
            format!("{} {kind} '$.{name}'", quote(Dialect::Azure, name))
        });
        format!("OPENJSON(@P1) WITH ({})", typed.collect::<Vec<_>>().join(", "))
    }
}

/// How many rows the statement before it touched.
pub(crate) const COUNT: &str = "SELECT CAST(@@ROWCOUNT AS bigint) AS touched";

/// The types of columns that take a value of ours without changing it.
fn takes(kind: ColumnType) -> &'static [&'static str] {
    match kind {
        ColumnType::Int64 => &["bigint"],
        ColumnType::Text => &["nvarchar"],
        ColumnType::Timestamp => &["datetime2"],
        ColumnType::Bool => &["bit"],
        ColumnType::Float64 => &["float"],
        ColumnType::Json => &["nvarchar", "json"],
    }
}

/// Writes rows as a JSON array.
pub(crate) fn rows_json(batch: &Batch, columns: &[Column]) -> String {
    let row = |row: &std::sync::Arc<crate::row::Row>| {
        let mut object = Map::new();
        object.insert(LOG_ID.to_owned(), row.position.log_id.get().into());
        object.insert(SEQ.to_owned(), row.position.seq.into());
        for (column, cell) in columns.iter().zip(row.cells()) {
            let value = match cell {
                // As a text: OPENJSON gives null for what is neither object nor array.
                Cell::Json(text) => text.into(),
                // datetime2 has no zone; ours are UTC.
                Cell::Timestamp(us) => format_timestamp(us).trim_end_matches('Z').into(),
                other => other.to_json(),
            };
            object.insert(column.name.clone(), value);
        }
        Value::Object(object)
    };
    Value::Array(batch.rows.iter().map(row).collect()).to_string()
}
