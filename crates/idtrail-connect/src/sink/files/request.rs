//! From a batch to the bytes of a file, and from names of files to places. Pure.

use crate::engine::Batch;
use crate::position::Position;
use crate::row::Column;

/// The name of a file: `events-<first>-<last>.jsonl`, or with `-<n>` for rows that were sent again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartName {
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) again: Option<u32>,
}

const PREFIX: &str = "events-";
/// Length of a place in a name.
const TOKEN: usize = 31;

impl PartName {
    pub(crate) fn write(&self, extension: &str) -> String {
        let again = self.again.map(|again| format!("-{again}")).unwrap_or_default();
        format!("{PREFIX}{}-{}{again}.{extension}", self.first.to_token(), self.last.to_token())
    }

    /// Reads a name; `None` if the file is not one of ours.
    pub(crate) fn read(name: &str, extension: &str) -> Option<Self> {
        let body = name.strip_suffix(extension)?.strip_suffix('.')?.strip_prefix(PREFIX)?;
        let first = Position::from_token(body.get(..TOKEN)?)?;
        let rest = body.get(TOKEN..)?.strip_prefix('-')?;
        let last = Position::from_token(rest.get(..TOKEN)?)?;
        let again = match rest.get(TOKEN..)? {
            "" => None,
            more => Some(more.strip_prefix('-')?.parse().ok()?),
        };
        (first <= last).then_some(Self { first, last, again })
    }
}

/// Writes one JSON object a line.
pub fn to_json_lines(batch: &Batch, columns: &[Column]) -> Vec<u8> {
    let mut out = String::with_capacity(batch.rows.iter().map(|row| row.bytes() * 2).sum());
    for row in &batch.rows {
        row.write_json(columns, &mut out);
        out.push('\n');
    }
    out.into_bytes()
}

#[cfg(feature = "parquet")]
pub(crate) use parquet_file::keys;
#[cfg(feature = "parquet")]
pub use parquet_file::{read_texts, to_parquet};

#[cfg(feature = "parquet")]
mod parquet_file {
    use std::sync::Arc;

    use arrow_array::builder::{
        BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
    };
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Array as _, ArrayRef, RecordBatch, StringArray};
    use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::errors::ParquetError;
    use parquet::file::properties::WriterProperties;

    use super::{Batch, Column, Position};
    use crate::row::{Cell, ColumnType, LOG_ID, SEQ};

    /// The schema of the files.
    fn schema(columns: &[Column]) -> Arc<Schema> {
        let mut fields =
            vec![Field::new(LOG_ID, DataType::Int64, false), Field::new(SEQ, DataType::Int64, false)];
        for column in columns {
            let kind = match column.kind {
                ColumnType::Int64 => DataType::Int64,
                ColumnType::Text | ColumnType::Json => DataType::Utf8,
                ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                ColumnType::Bool => DataType::Boolean,
                ColumnType::Float64 => DataType::Float64,
            };
            fields.push(Field::new(&column.name, kind, !column.required));
        }
        Arc::new(Schema::new(fields))
    }

    /// Writes a Parquet file: one row group, zstd.
    ///
    /// # Errors
    /// As the library reports them; only a row that does not fit the schema can cause one.
    pub fn to_parquet(batch: &Batch, columns: &[Column]) -> Result<Vec<u8>, ParquetError> {
        let schema = schema(columns);
        let record = record(batch, columns, schema.clone())?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_created_by("idtrail".to_owned())
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        writer.write(&record)?;
        writer.into_inner()
    }

    /// Row by row, so that each row is looked at once; the builders stay in the cache.
    fn record(batch: &Batch, columns: &[Column], schema: Arc<Schema>) -> Result<RecordBatch, ArrowError> {
        let rows = batch.rows.len();
        let mut log_id = Int64Builder::with_capacity(rows);
        let mut seq = Int64Builder::with_capacity(rows);
        let mut builders: Vec<Builder> =
            columns.iter().map(|column| Builder::new(column.kind, rows)).collect();
        for row in &batch.rows {
            log_id.append_value(i64::from(row.position.log_id.get()));
            seq.append_value(i64::try_from(row.position.seq).unwrap_or(i64::MAX));
            let missing = std::iter::repeat(Cell::Null);
            for (builder, cell) in builders.iter_mut().zip(row.cells().chain(missing)) {
                builder.append(cell);
            }
        }
        let own: [ArrayRef; 2] = [Arc::new(log_id.finish()), Arc::new(seq.finish())];
        let arrays = own.into_iter().chain(builders.into_iter().map(Builder::finish)).collect();
        RecordBatch::try_new(schema, arrays)
    }

    /// Builds one column. A cell of another type than the column's, which a mapping does not make, becomes null.
    enum Builder {
        Int(Int64Builder),
        Timestamp(TimestampMicrosecondBuilder),
        Bool(BooleanBuilder),
        Float(Float64Builder),
        Text(StringBuilder),
    }

    impl Builder {
        fn new(kind: ColumnType, rows: usize) -> Self {
            match kind {
                ColumnType::Int64 => Self::Int(Int64Builder::with_capacity(rows)),
                ColumnType::Timestamp => {
                    let builder = TimestampMicrosecondBuilder::with_capacity(rows);
                    Self::Timestamp(builder.with_timezone("UTC"))
                }
                ColumnType::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
                ColumnType::Float64 => Self::Float(Float64Builder::with_capacity(rows)),
                ColumnType::Text | ColumnType::Json => {
                    Self::Text(StringBuilder::with_capacity(rows, rows * 64))
                }
            }
        }

        fn append(&mut self, cell: Cell<'_>) {
            match self {
                Self::Int(builder) => {
                    builder.append_option(if let Cell::Int(number) = cell { Some(number) } else { None });
                }
                Self::Timestamp(builder) => {
                    builder.append_option(if let Cell::Timestamp(us) = cell { Some(us) } else { None });
                }
                Self::Bool(builder) => {
                    builder.append_option(if let Cell::Bool(flag) = cell { Some(flag) } else { None });
                }
                Self::Float(builder) => {
                    builder.append_option(if let Cell::Float(number) = cell { Some(number) } else { None });
                }
                Self::Text(builder) => builder.append_option(match cell {
                    Cell::Text(text) | Cell::Json(text) => Some(text),
                    _ => None,
                }),
            }
        }

        fn finish(self) -> ArrayRef {
            match self {
                Self::Int(mut builder) => Arc::new(builder.finish()),
                Self::Timestamp(mut builder) => Arc::new(builder.finish()),
                Self::Bool(mut builder) => Arc::new(builder.finish()),
                Self::Float(mut builder) => Arc::new(builder.finish()),
                Self::Text(mut builder) => Arc::new(builder.finish()),
            }
        }
    }

    /// Reads columns of texts from a file, row by row; `None` stands for null and for a column that is not there.
    ///
    /// # Errors
    /// As the library reports them, if the bytes are no Parquet file.
    pub fn read_texts(bytes: Vec<u8>, names: &[&str]) -> Result<Vec<Vec<Option<String>>>, ParquetError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.build()?;
        let mut rows = Vec::new();
        for record in reader {
            let record = record?;
            let columns: Vec<_> = names
                .iter()
                .map(|name| record.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()))
                .collect();
            for at in 0..record.num_rows() {
                let cell = |column: &Option<&StringArray>| {
                    column.filter(|column| column.is_valid(at)).map(|column| column.value(at).to_owned())
                };
                rows.push(columns.iter().map(cell).collect());
            }
        }
        Ok(rows)
    }

    /// Reads the places of a file's rows.
    pub(crate) fn keys(bytes: Vec<u8>) -> Result<Vec<Position>, ParquetError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.build()?;
        let mut found = Vec::new();
        for record in reader {
            let record = record?;
            let column =
                |name| record.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            if let (Some(log_ids), Some(seqs)) = (column(LOG_ID), column(SEQ)) {
                let pairs = log_ids.values().iter().zip(seqs.values().iter());
                found.extend(pairs.filter_map(|(log_id, seq)| {
                    Some(Position::new(u32::try_from(*log_id).ok()?, u64::try_from(*seq).ok()?))
                }));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = PartName { first: Position::new(0, 3), last: Position::new(1, 9), again: None };
        for name in [name, PartName { again: Some(12), ..name }] {
            assert_eq!(PartName::read(&name.write("jsonl"), "jsonl"), Some(name));
            assert_eq!(PartName::read(&name.write("jsonl"), "parquet"), None);
        }
        for other in ["events-.jsonl", "x.jsonl", "events-1-2.jsonl", &format!("{}.tmp", name.write("jsonl"))]
        {
            assert_eq!(PartName::read(other, "jsonl"), None);
        }
    }
}
