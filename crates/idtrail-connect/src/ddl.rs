//! The statements with which an admin makes a sink's table, and the grants of its two principals.
//!
//! The writer gets what appending needs and nothing else; the eraser exists only where the sink's choice says that rows
//! can be erased. Names are quoted, so a column may be called `order`.

use crate::mapping::Mapping;
use crate::personal::Erase;
use crate::row::{Column, ColumnType};

/// A database's way of writing a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// Azure SQL and SQL Server 2022: an append-only ledger table where nothing is to be erased.
    Azure,
    /// Snowflake.
    Snowflake,
    /// BigQuery.
    BigQuery,
}

/// Who may do what.
#[derive(Clone, Copy, Debug)]
pub struct Principals<'a> {
    /// The writer: a user, role or service account.
    pub writer: &'a str,
    /// The eraser, likewise; not used where nothing is to be erased.
    pub eraser: &'a str,
}

/// Returns the statements, ready to be run by an admin. `table` is written with dots: `schema.table`.
pub fn statements(dialect: Dialect, table: &str, mapping: &Mapping, principals: Principals<'_>) -> String {
    let name = qualified(dialect, table);
    let mut lines = vec![column_line(dialect, "log_id", ColumnType::Int64, true)];
    lines.push(column_line(dialect, "seq", ColumnType::Int64, true));
    lines.extend(mapping.columns().iter().map(|column| of_column(dialect, column)));
    let erase = mapping.privacy().erase();
    let keyed = matches!(dialect, Dialect::Postgres | Dialect::Azure);
    if keyed {
        lines.push(format!("  PRIMARY KEY ({}, {})", quote(dialect, "log_id"), quote(dialect, "seq")));
    }
    let mut out = format!("CREATE TABLE {name} (\n{}\n)", lines.join(",\n"));
    out.push_str(&options(dialect, mapping, erase));
    out.push_str(";\n");
    out.push_str(&grants(dialect, table, &name, principals, erase, mapping));
    out
}

fn of_column(dialect: Dialect, column: &Column) -> String {
    column_line(dialect, &column.name, column.kind, column.required)
}

fn column_line(dialect: Dialect, name: &str, kind: ColumnType, required: bool) -> String {
    let null = if required { " NOT NULL" } else { "" };
    let mut line = format!("  {} {}{null}", quote(dialect, name), type_name(dialect, kind));
    if dialect == Dialect::Azure && kind == ColumnType::Json {
        line.push_str(&format!(" CHECK (ISJSON({}) = 1)", quote(dialect, name)));
    }
    line
}

fn options(dialect: Dialect, mapping: &Mapping, erase: Erase) -> String {
    let has =
        |name: &str, kind| mapping.columns().iter().any(|column| column.name == name && column.kind == kind);
    match dialect {
        Dialect::Azure if erase == Erase::None => "\nWITH (LEDGER = ON (APPEND_ONLY = ON))".to_owned(),
        Dialect::Snowflake => "\nDATA_RETENTION_TIME_IN_DAYS = 1".to_owned(),
        Dialect::BigQuery => {
            let partition = if has("event_time", ColumnType::Timestamp) {
                "\nPARTITION BY DATE(`event_time`)"
            } else {
                ""
            };
            let cluster =
                mapping.customer_column().map_or(String::new(), |name| format!("\nCLUSTER BY `{name}`"));
            format!("{partition}{cluster}")
        }
        Dialect::Azure | Dialect::Postgres => String::new(),
    }
}

fn grants(
    dialect: Dialect,
    table: &str,
    name: &str,
    principals: Principals<'_>,
    erase: Erase,
    mapping: &Mapping,
) -> String {
    let erases = erase != Erase::None;
    let right = if erase == Erase::Delete { "DELETE" } else { "UPDATE" };
    let writer = quote(dialect, principals.writer);
    let eraser = quote(dialect, principals.eraser);
    let mut out = String::new();
    match dialect {
        Dialect::Postgres => {
            if let Some(column) = mapping.customer_column() {
                out.push_str(&format!("CREATE INDEX ON {name} ({});\n", quote(dialect, column)));
            }
            out.push_str(&format!(
                "REVOKE ALL ON {name} FROM PUBLIC;\nGRANT INSERT, SELECT ON {name} TO {writer};\n"
            ));
            if erases {
                out.push_str(&format!("GRANT SELECT, {right} ON {name} TO {eraser};\n"));
            }
            if let Some((schema, _)) = table.split_once('.') {
                let both = if erases { format!("{writer}, {eraser}") } else { writer };
                out.push_str(&format!("GRANT USAGE ON SCHEMA {} TO {both};\n", quote(dialect, schema)));
            }
        }
        Dialect::Azure => {
            out.push_str(&format!("GRANT INSERT, SELECT ON {name} TO {writer};\n"));
            out.push_str(&format!("DENY UPDATE, DELETE, ALTER ON {name} TO {writer};\n"));
            if erases {
                out.push_str(&format!("GRANT SELECT, {right} ON {name} TO {eraser};\n"));
            }
        }
        Dialect::Snowflake => {
            let parts: Vec<&str> = table.split('.').collect();
            if let [database, schema, _] = parts.as_slice() {
                let (database, schema) = (quote(dialect, database), quote(dialect, schema));
                for role in [Some(&writer), erases.then_some(&eraser)].into_iter().flatten() {
                    out.push_str(&format!("GRANT USAGE ON DATABASE {database} TO ROLE {role};\n"));
                    out.push_str(&format!("GRANT USAGE ON SCHEMA {database}.{schema} TO ROLE {role};\n"));
                }
            }
            out.push_str(&format!("GRANT INSERT, SELECT ON TABLE {name} TO ROLE {writer};\n"));
            if erases {
                out.push_str(&format!("GRANT SELECT, {right} ON TABLE {name} TO ROLE {eraser};\n"));
            }
        }
        Dialect::BigQuery => {
            // The ready-made roles that may append may also delete the table, so the writer has one of its own:
            // bigquery.tables.get, bigquery.tables.updateData, and no bigquery.jobs.create.
            let project = table.split('.').next().unwrap_or_default();
            out.push_str(&format!(
                "GRANT `projects/{project}/roles/idtrailAppender` ON TABLE {name} TO \"serviceAccount:{}\";\n",
                principals.writer
            ));
            if erases {
                out.push_str(&format!(
                    "GRANT `roles/bigquery.dataEditor` ON TABLE {name} TO \"serviceAccount:{}\";\n\
                     -- The eraser also needs roles/bigquery.jobUser on the project; the writer must not have it.\n",
                    principals.eraser
                ));
            }
        }
    }
    out
}

fn qualified(dialect: Dialect, table: &str) -> String {
    if dialect == Dialect::BigQuery {
        return format!("`{table}`");
    }
    table.split('.').map(|part| quote(dialect, part)).collect::<Vec<_>>().join(".")
}

/// Quotes a name. Snowflake's names without quotes are upper-case, so ours are written that way.
pub(crate) fn quote(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
        Dialect::Azure => format!("[{}]", name.replace(']', "]]")),
        Dialect::Snowflake => format!("\"{}\"", name.to_uppercase().replace('"', "\"\"")),
        Dialect::BigQuery => format!("`{}`", name.replace('`', "")),
    }
}

/// Returns a type's name in a dialect.
pub(crate) fn type_name(dialect: Dialect, kind: ColumnType) -> &'static str {
    match (dialect, kind) {
        (Dialect::Postgres, kind) => crate::sink::postgres::request::type_name(kind),
        (Dialect::Azure, ColumnType::Int64) => "bigint",
        (Dialect::Azure, ColumnType::Text) => "nvarchar(400)",
        (Dialect::Azure, ColumnType::Timestamp) => "datetime2(6)",
        (Dialect::Azure, ColumnType::Bool) => "bit",
        (Dialect::Azure, ColumnType::Float64) => "float",
        (Dialect::Azure, ColumnType::Json) => "nvarchar(max)",
        (Dialect::Snowflake, ColumnType::Int64) => "NUMBER(38,0)",
        (Dialect::Snowflake, ColumnType::Text) => "VARCHAR",
        (Dialect::Snowflake, ColumnType::Timestamp) => "TIMESTAMP_NTZ(6)",
        (Dialect::Snowflake, ColumnType::Bool) => "BOOLEAN",
        (Dialect::Snowflake, ColumnType::Float64) => "FLOAT",
        (Dialect::Snowflake, ColumnType::Json) => "VARIANT",
        (Dialect::BigQuery, ColumnType::Int64) => "INT64",
        (Dialect::BigQuery, ColumnType::Text) => "STRING",
        (Dialect::BigQuery, ColumnType::Timestamp) => "TIMESTAMP",
        (Dialect::BigQuery, ColumnType::Bool) => "BOOL",
        (Dialect::BigQuery, ColumnType::Float64) => "FLOAT64",
        (Dialect::BigQuery, ColumnType::Json) => "JSON",
    }
}
