//! The messages of `google.cloud.bigquery.storage.v1` that a committed stream needs, declared by hand: eleven of them, so
//! that no compiler of protocol files is needed. Members that nobody reads are left out.

use prost::Message;

/// A stream of rows into one table.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteStream {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, tag = "2")]
    pub(crate) kind: i32,
    #[prost(message, optional, tag = "5")]
    pub(crate) table_schema: Option<TableSchema>,
}

/// `WriteStream.Type.COMMITTED`.
pub(crate) const COMMITTED: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TableSchema {
    #[prost(message, repeated, tag = "1")]
    pub(crate) fields: Vec<TableFieldSchema>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TableFieldSchema {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// `TableFieldSchema.Type`.
    #[prost(int32, tag = "2")]
    pub(crate) kind: i32,
    /// `TableFieldSchema.Mode`; 2 is REQUIRED, 3 is REPEATED.
    #[prost(int32, tag = "3")]
    pub(crate) mode: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateWriteStreamRequest {
    #[prost(string, tag = "1")]
    pub(crate) parent: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) write_stream: Option<WriteStream>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FinalizeWriteStreamRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FinalizeWriteStreamResponse {
    #[prost(int64, tag = "1")]
    pub(crate) row_count: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendRowsRequest {
    #[prost(string, tag = "1")]
    pub(crate) write_stream: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) offset: Option<i64>,
    #[prost(message, optional, tag = "4")]
    pub(crate) proto_rows: Option<ProtoData>,
    #[prost(string, tag = "6")]
    pub(crate) trace_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProtoData {
    #[prost(message, optional, tag = "1")]
    pub(crate) writer_schema: Option<ProtoSchema>,
    #[prost(message, optional, tag = "2")]
    pub(crate) rows: Option<ProtoRows>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProtoSchema {
    #[prost(message, optional, tag = "1")]
    pub(crate) proto_descriptor: Option<DescriptorProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProtoRows {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) serialized_rows: Vec<Vec<u8>>,
}

/// `google.protobuf.DescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DescriptorProto {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) field: Vec<FieldDescriptorProto>,
}

/// `google.protobuf.FieldDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FieldDescriptorProto {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) number: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) label: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    pub(crate) kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendRowsResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) append_result: Option<AppendResult>,
    #[prost(message, optional, tag = "2")]
    pub(crate) error: Option<RpcStatus>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) row_errors: Vec<RowError>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendResult {
    #[prost(message, optional, tag = "1")]
    pub(crate) offset: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RowError {
    #[prost(int64, tag = "1")]
    pub(crate) index: i64,
}

/// `google.rpc.Status`, without its text.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<AnyMessage>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyMessage {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `StorageError`, without its text.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StorageError {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
}
