//! What is sent to BigQuery: a descriptor made from the mapping's columns, and rows in that form. Pure.

use super::proto::{
    AppendRowsRequest, COMMITTED, CreateWriteStreamRequest, DescriptorProto, FieldDescriptorProto, ProtoData,
    ProtoRows, ProtoSchema, TableSchema, WriteStream,
};
use crate::engine::Batch;
use crate::row::{Cell, Column, ColumnType, LOG_ID, Row, SEQ};

/// `project.dataset.table`, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct TableName {
    pub(crate) project: String,
    pub(crate) dataset: String,
    pub(crate) table: String,
}

impl TableName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name.split('.').collect::<Vec<_>>().as_slice() {
            [project, dataset, table] => Some(Self {
                project: (*project).to_owned(),
                dataset: (*dataset).to_owned(),
                table: (*table).to_owned(),
            }),
            _ => None,
        }
    }

    /// As the Storage Write API names it.
    pub(crate) fn resource(&self) -> String {
        format!("projects/{}/datasets/{}/tables/{}", self.project, self.dataset, self.table)
    }

    /// As statements name it.
    pub(crate) fn quoted(&self) -> String {
        format!("`{}.{}.{}`", self.project, self.dataset, self.table)
    }
}

/// The cursor's note on a session: the stream, and how many rows we know to be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamNote {
    pub(crate) name: String,
    pub(crate) rows: u64,
}

impl StreamNote {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, rows) = text.rsplit_once(':')?;
        Some(Self { name: name.to_owned(), rows: rows.parse().ok()? })
    }

    pub(crate) fn to_text(&self) -> String {
        format!("{}:{}", self.name, self.rows)
    }
}

/// What a finalised stream says about the noted batch. `None`: the counts fit neither, somebody else wrote.
pub(crate) fn intent_applied(known: u64, found: u64, noted: u64) -> Option<bool> {
    match found.checked_sub(known)? {
        0 => Some(false),
        extra if extra == noted => Some(true),
        _ => None,
    }
}

pub(crate) fn create(table: &TableName) -> CreateWriteStreamRequest {
    CreateWriteStreamRequest {
        parent: table.resource(),
        write_stream: Some(WriteStream { name: String::new(), kind: COMMITTED, table_schema: None }),
    }
}

/// Describes the rows: `log_id`, `seq`, then the columns, numbered from 1.
pub(crate) fn descriptor(columns: &[Column]) -> DescriptorProto {
    let own = [(LOG_ID, ColumnType::Int64), (SEQ, ColumnType::Int64)];
    let all = own.into_iter().chain(columns.iter().map(|column| (column.name.as_str(), column.kind)));
    let field = |(number, (name, kind)): (i32, (&str, ColumnType))| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        // LABEL_OPTIONAL also where a value is required: the table says that, and the mapping has checked it.
        label: Some(1),
        kind: Some(match kind {
            // TYPE_INT64. Times travel as microseconds.
            ColumnType::Int64 | ColumnType::Timestamp => 3,
            // TYPE_STRING.
            ColumnType::Text | ColumnType::Json => 9,
            // TYPE_BOOL.
            ColumnType::Bool => 8,
            // TYPE_DOUBLE.
            ColumnType::Float64 => 1,
        }),
    };
    DescriptorProto { name: Some("Row".to_owned()), field: (1..).zip(all).map(field).collect() }
}

/// Appends a batch at an offset. The stream and the descriptor are repeated in every request: a connection may be new.
pub(crate) fn append(stream: &StreamNote, descriptor: &DescriptorProto, batch: &Batch) -> AppendRowsRequest {
    AppendRowsRequest {
        write_stream: stream.name.clone(),
        offset: i64::try_from(stream.rows).ok(),
        proto_rows: Some(ProtoData {
            writer_schema: Some(ProtoSchema { proto_descriptor: Some(descriptor.clone()) }),
            rows: Some(ProtoRows { serialized_rows: batch.rows.iter().map(|row| encode(row)).collect() }),
        }),
        trace_id: "idtrail".to_owned(),
    }
}

fn encode(row: &Row) -> Vec<u8> {
    let mut out = Vec::with_capacity(row.bytes() + 16);
    prost::encoding::int64::encode(1, &i64::from(row.position.log_id.get()), &mut out);
    // A log index beyond 63 bits cannot come about; the column would refuse it.
    prost::encoding::int64::encode(2, &i64::try_from(row.position.seq).unwrap_or(i64::MAX), &mut out);
    for (tag, cell) in (3..).zip(row.cells()) {
        match cell {
            Cell::Null => {}
            Cell::Int(number) | Cell::Timestamp(number) => {
                prost::encoding::int64::encode(tag, &number, &mut out)
            }
            Cell::Text(text) | Cell::Json(text) => {
                // A text's bytes are encoded as bytes are, and need no String of their own.
                prost::encoding::bytes::encode(tag, &bytes::Bytes::copy_from_slice(text.as_bytes()), &mut out)
            }
            Cell::Bool(flag) => prost::encoding::bool::encode(tag, &flag, &mut out),
            Cell::Float(number) => prost::encoding::double::encode(tag, &number, &mut out),
        }
    }
    out
}

/// Tells whether a table takes our rows: every column there, of its type, and nothing else required.
pub(crate) fn table_fits(schema: &TableSchema, columns: &[Column]) -> bool {
    // `TableFieldSchema.Type`; NUMERIC kinds would take whole numbers too, but compare unlike them.
    let numbers = |kind: ColumnType| -> &[i32] {
        match kind {
            ColumnType::Text => &[1],
            ColumnType::Int64 => &[2],
            ColumnType::Float64 => &[3],
            ColumnType::Bool => &[6],
            ColumnType::Timestamp => &[7],
            // JSON, or STRING, which takes its text unchanged.
            ColumnType::Json => &[15, 1],
        }
    };
    let has = |name: &str, kind: ColumnType| {
        schema.fields.iter().any(|field| {
            field.name.eq_ignore_ascii_case(name)
                && numbers(kind).contains(&field.kind)
                && field.mode != REPEATED
        })
    };
    let own = has(LOG_ID, ColumnType::Int64) && has(SEQ, ColumnType::Int64);
    let known =
        |name: &str| name == LOG_ID || name == SEQ || columns.iter().any(|column| column.name == name);
    let fillable =
        schema.fields.iter().all(|field| field.mode != REQUIRED || known(&field.name.to_ascii_lowercase()));
    own && fillable && columns.iter().all(|column| has(&column.name, column.kind))
}

const REQUIRED: i32 = 2;
const REPEATED: i32 = 3;
