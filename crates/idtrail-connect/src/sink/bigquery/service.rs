//! Streams into BigQuery, and what its answers mean.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Streaming};
use tonic_prost::ProstCodec;
use url::Url;

use super::config::BigQueryConfig;
use super::credentials::Credentials;
use super::proto::{
    AppendRowsRequest, AppendRowsResponse, DescriptorProto, FinalizeWriteStreamRequest,
    FinalizeWriteStreamResponse, RpcStatus, StorageError, WriteStream,
};
use super::reader::Reader;
use super::request::{StreamNote, TableName, append, create, descriptor, intent_applied, table_fits};
use crate::engine::{Ack, Batch, Cursor, Limits, Opened};
use crate::feed::BoxFuture;
use crate::http_client;
use crate::position::Position;
use crate::row::Column;
use crate::secret::Secret;
use crate::sink::{Grants, Sink};
use crate::tls;
use crate::verdict::{Failure, Rule, Status, Verdict, judge};

const RETRY: Verdict = Verdict::Retry { after: None };
const REOPEN: Verdict = Verdict::Reopen { after: None };
const POISON: Verdict = Verdict::Poison { row: None };

/// From gRPC's codes to verdicts. Where a code ends a call on which rows were sent, Retry becomes Reopen: only an answer
/// within the call says surely that nothing was applied.
pub const RULES: [Rule<i32>; 9] = [
    // Cancelled, unknown, deadline exceeded, aborted, internal, unavailable, data loss.
    Rule { statuses: &[1, 2, 4, 10, 13, 14, 15], verdict: REOPEN, code: "unavailable" },
    // A quota: appends or bytes a minute, or streams made a minute.
    Rule { statuses: &[8], verdict: RETRY, code: "quota" },
    // ALREADY_EXISTS and OUT_OF_RANGE: the offset is not the stream's end. Its count decides what is there.
    Rule { statuses: &[6, 11], verdict: REOPEN, code: "offset" },
    // FAILED_PRECONDITION: the stream is finalised, by a younger process or by an admin.
    Rule { statuses: &[9], verdict: REOPEN, code: "stream_finalised" },
    // NOT_FOUND on an append: the stream is gone. Making the next one says whether the table is too.
    Rule { statuses: &[5], verdict: REOPEN, code: "stream_missing" },
    Rule { statuses: &[3], verdict: POISON, code: "refused" },
    Rule { statuses: &[7], verdict: Verdict::Stop, code: "denied" },
    Rule { statuses: &[16], verdict: Verdict::Stop, code: "credentials" },
    Rule { statuses: &[12], verdict: Verdict::Stop, code: "endpoint" },
];

/// From `StorageError` codes, which say more than gRPC's, to verdicts.
pub const STORAGE_RULES: [Rule<i32>; 5] = [
    Rule { statuses: &[1], verdict: Verdict::Stop, code: "table_missing" },
    Rule { statuses: &[2, 5, 6], verdict: REOPEN, code: "stream_finalised" },
    Rule { statuses: &[3], verdict: REOPEN, code: "stream_missing" },
    // SCHEMA_MISMATCH_EXTRA_FIELDS: a column of ours is not in the table.
    Rule { statuses: &[7], verdict: Verdict::Stop, code: "table_differs" },
    Rule { statuses: &[8, 9], verdict: REOPEN, code: "offset" },
];

/// From the REST APIs' statuses to verdicts.
pub const REST_RULES: [Rule<u16>; 4] = [
    Rule { statuses: &[408, 429], verdict: RETRY, code: "busy" },
    Rule { statuses: &[401], verdict: Verdict::Stop, code: "credentials" },
    Rule { statuses: &[403], verdict: Verdict::Stop, code: "denied" },
    Rule { statuses: &[400, 404], verdict: Verdict::Stop, code: "statement" },
];

/// What a writer may have, besides what appending needs, that it should not have.
const TABLE_EXCESS: [&str; 3] =
    ["bigquery.tables.delete", "bigquery.tables.update", "bigquery.tables.setIamPolicy"];
/// With it, whoever may change a table's data can run UPDATE and DELETE.
const PROJECT_EXCESS: [&str; 1] = ["bigquery.jobs.create"];

const SERVICE: &str = "/google.cloud.bigquery.storage.v1.BigQueryWrite";

/// Delivers to one table.
pub struct BigQuerySink {
    config: BigQueryConfig,
    table: TableName,
    credentials: Credentials,
    ca: Option<Secret>,
    columns: Vec<Column>,
    descriptor: DescriptorProto,
    reader: Option<Reader>,
    session: Option<Session>,
}

impl std::fmt::Debug for BigQuerySink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BigQuerySink").field("table", &self.config.table).finish_non_exhaustive()
    }
}

struct Session {
    channel: Channel,
    client: reqwest::Client,
    note: StreamNote,
    call: Option<AppendCall>,
}

struct AppendCall {
    requests: mpsc::Sender<AppendRowsRequest>,
    answers: Streaming<AppendRowsResponse>,
}

impl BigQuerySink {
    /// Makes a sink; connects when it is opened. `reader` is the account that may ask the table, if there is one. `None` if
    /// the table is not written `project.dataset.table`.
    pub fn new(
        config: BigQueryConfig,
        credentials: Credentials,
        reader: Option<Credentials>,
        ca: Option<Secret>,
        columns: Vec<Column>,
    ) -> Option<Self> {
        let table = TableName::parse(&config.table)?;
        let descriptor = descriptor(&columns);
        let reader = reader.map(|credentials| Reader::new(credentials, &config.rest_endpoint, &table));
        Some(Self { config, table, credentials, ca, columns, descriptor, reader, session: None })
    }

    async fn open_session(&mut self, cursor: &Cursor) -> Result<Opened, Failure> {
        self.session = None;
        let client = rest_client(self.ca.as_ref())?;
        let channel = connect(&self.config.write_endpoint, self.ca.as_ref()).await?;
        let mut opened = Opened::default();
        if cursor.session.is_empty() {
            // A new sink, or a cursor that was lost: then the table says how far it is.
            if let Some(reader) = &mut self.reader {
                opened.high_water = reader.newest(&client).await?;
            }
        } else {
            let noted = cursor.intent.map_or(0, |intent| intent.rows);
            let differs = || Failure::stop("stream_differs", Status::none());
            let note = StreamNote::parse(&cursor.session).ok_or_else(differs)?;
            match self.finalize(&client, &channel, &note.name).await {
                Ok(found) => {
                    opened.intent_applied = intent_applied(note.rows, found, noted).ok_or_else(differs)?;
                }
                // Nothing was under way, so nothing is in doubt.
                Err(failure) if failure.code == "stream_missing" && noted == 0 => {}
                // Nothing can be appended to a stream that is gone, so what the table has now stays so.
                Err(failure) if failure.code == "stream_missing" => {
                    let (Some(reader), Some(intent)) = (&mut self.reader, cursor.intent) else {
                        return Err(Failure::stop("stream_lost", failure.status));
                    };
                    opened.intent_applied = reader.has(&client, intent).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
        let request = self.request(&client, create(&self.table), "parent", &self.table.resource()).await?;
        let made: WriteStream =
            unary(&channel, "CreateWriteStream", request).await.map_err(|failure| match failure.code {
                "stream_missing" => Failure::stop("table_missing", failure.status),
                _ => failure,
            })?;
        if let Some(schema) = &made.table_schema
            && !table_fits(schema, &self.columns)
        {
            return Err(Failure::stop("table_differs", Status::none()));
        }
        let note = StreamNote { name: made.name, rows: 0 };
        opened.session = note.to_text();
        self.session = Some(Session { channel, client, note, call: None });
        Ok(opened)
    }

    async fn finalize(
        &mut self,
        client: &reqwest::Client,
        channel: &Channel,
        name: &str,
    ) -> Result<u64, Failure> {
        let message = FinalizeWriteStreamRequest { name: name.to_owned() };
        let request = self.request(client, message, "name", name).await?;
        let answer: FinalizeWriteStreamResponse = unary(channel, "FinalizeWriteStream", request).await?;
        u64::try_from(answer.row_count).map_err(|_| Failure::reopen("answer", Status::none()))
    }

    /// Puts a token and the routing header on a message.
    async fn request<T>(
        &mut self,
        client: &reqwest::Client,
        message: T,
        member: &str,
        value: &str,
    ) -> Result<Request<T>, Failure> {
        let mut request = Request::new(message);
        let broken = |_| Failure::stop("credentials", Status::none());
        if let Some(bearer) = self.credentials.bearer(client).await? {
            request.metadata_mut().insert("authorization", bearer.parse().map_err(broken)?);
        }
        // Names hold letters, digits, - and _, so only the slashes are to be escaped.
        let routing = format!("{member}={}", value.replace('/', "%2F"));
        request.metadata_mut().insert("x-goog-request-params", routing.parse().map_err(broken)?);
        Ok(request)
    }

    async fn send(&mut self, batch: &Batch) -> Result<Ack, Failure> {
        // Taken out, so that a call that is dropped half-way takes the stream with it.
        let Some(mut session) = self.session.take() else {
            return Err(Failure::reopen("not_connected", Status::none()));
        };
        let message = append(&session.note, &self.descriptor, batch);
        // A call that the server ended while nothing was sent is started again: the offset stands.
        let usable = self.credentials.is_fresh()
            && session.call.as_mut().is_some_and(|call| call.answers.next().now_or_never().is_none());
        let mut call = match session.call.take().filter(|_| usable) {
            Some(call) => {
                if call.requests.send(message).await.is_err() {
                    return Err(Failure::reopen("unavailable", Status::none()));
                }
                call
            }
            None => self.start(&session, message).await?,
        };
        let answer = match call.answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Failure::reopen("unavailable", Status::none())),
            Err(status) => return Err(self.after_sending(of_status(&status))),
        };
        session.call = Some(call);
        if let Some(failure) = of_answer(&answer, session.note.rows) {
            if matches!(failure.verdict, Verdict::Retry { .. } | Verdict::Poison { .. }) {
                self.session = Some(session);
            }
            return Err(failure);
        }
        session.note.rows += batch.rows.len() as u64;
        let note = session.note.to_text();
        self.session = Some(session);
        Ok(Ack { session: Some(note), ..Ack::default() })
    }

    /// Starts a call with its first message: a server may answer nothing before it has one.
    async fn start(&mut self, session: &Session, message: AppendRowsRequest) -> Result<AppendCall, Failure> {
        let (requests, waiting) = mpsc::channel(1);
        let first_sent = requests.send(message).await.is_ok();
        debug_assert!(first_sent, "a fresh channel has room");
        let stream = futures_util::stream::unfold(waiting, |mut waiting| async move {
            waiting.recv().await.map(|message| (message, waiting))
        });
        let name = session.note.name.clone();
        let request = self.request(&session.client, stream, "write_stream", &name).await?;
        let mut grpc = grpc(&session.channel);
        ready(&mut grpc).await?;
        let codec = ProstCodec::<AppendRowsRequest, AppendRowsResponse>::default();
        let answers = grpc
            .streaming(request, path("AppendRows"), codec)
            .await
            .map_err(|status| self.after_sending(of_status(&status)))?;
        Ok(AppendCall { requests, answers: answers.into_inner() })
    }

    /// Rows may have been applied when a call ended; and a token may have become too old during it.
    fn after_sending(&mut self, failure: Failure) -> Failure {
        match failure.verdict {
            Verdict::Retry { .. } => Failure::reopen(failure.code, failure.status),
            Verdict::Stop if failure.code == "credentials" && !self.credentials.is_fresh() => {
                self.credentials.forget();
                Failure::reopen("token_expired", failure.status)
            }
            // The refusal of a call names no row, and a schema that does not fit is refused so too.
            _ => failure,
        }
    }

    async fn ask_grants(&mut self) -> Result<Grants, Failure> {
        let client = rest_client(self.ca.as_ref())?;
        let TableName { project, dataset, table } = &self.table;
        let table_url = format!(
            "{}/bigquery/v2/projects/{project}/datasets/{dataset}/tables/{table}:testIamPermissions",
            self.config.rest_endpoint
        );
        let project_url =
            format!("{}/v1/projects/{project}:testIamPermissions", self.config.project_endpoint);
        let mut can = Vec::new();
        for (url, permissions) in [(table_url, TABLE_EXCESS.as_slice()), (project_url, &PROJECT_EXCESS)] {
            let body = serde_json::json!({"permissions": permissions});
            let answer = call_rest(&client, &mut self.credentials, &url, &body).await?;
            let held = answer.get("permissions").and_then(serde_json::Value::as_array);
            let held = held.into_iter().flatten().filter_map(serde_json::Value::as_str);
            can.extend(held.filter(|held| permissions.contains(held)).map(str::to_owned));
        }
        Ok(Grants::from_excess(can))
    }
}

impl Sink for BigQuerySink {
    fn limits(&self) -> Limits {
        Limits {
            rows_max: self.config.rows_max.max(1),
            // Half of what one request may have (10 MB), for names and lengths.
            bytes_max: 4 * 1024 * 1024,
            linger_ms: 0,
            notes_intent: true,
            saves_every_batch: false,
            keyed: false,
        }
    }

    fn open<'a>(&'a mut self, cursor: &'a Cursor) -> BoxFuture<'a, Result<Opened, Failure>> {
        Box::pin(self.open_session(cursor))
    }

    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Ack, Failure>> {
        Box::pin(self.send(batch))
    }

    fn count(&mut self, first: Position, last: Position) -> BoxFuture<'_, Result<Option<u64>, Failure>> {
        Box::pin(async move {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            let client = rest_client(self.ca.as_ref())?;
            reader.count(&client, first, last).await
        })
    }

    fn grants(&mut self) -> BoxFuture<'_, Result<Grants, Failure>> {
        Box::pin(self.ask_grants())
    }
}

/// A client for the REST APIs.
pub(super) fn rest_client(ca: Option<&Secret>) -> Result<reqwest::Client, Failure> {
    http_client::builder(ca)?.build().map_err(|_| Failure::stop("client", Status::none()))
}

/// Posts JSON to a REST API and returns its JSON.
pub(super) async fn call_rest(
    client: &reqwest::Client,
    credentials: &mut Credentials,
    url: &str,
    body: &serde_json::Value,
) -> Result<serde_json::Value, Failure> {
    let mut request = client.post(url).json(body);
    if let Some(bearer) = credentials.bearer(client).await? {
        request = request.header("authorization", bearer);
    }
    let response = request.send().await.map_err(|error| http_client::unanswered(&error))?;
    let status = response.status().as_u16();
    if status != 200 {
        let (verdict, code) = judge(&REST_RULES, &status).unwrap_or((REOPEN, "server_error"));
        return Err(Failure { verdict, code, status: status.into() });
    }
    response.json().await.map_err(|_| Failure::reopen("answer", Status::none()))
}

/// Connects, over the same TLS as all other sinks.
async fn connect(endpoint: &str, ca: Option<&Secret>) -> Result<Channel, Failure> {
    let wrong = || Failure::stop("endpoint", Status::none());
    let url = Url::parse(endpoint).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?.to_owned();
    let port = url.port_or_known_default().ok_or_else(wrong)?;
    let secure = url.scheme() == "https";
    let mut config = std::sync::Arc::unwrap_or_clone(tls::client_config(ca)?);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    let builder = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|_| wrong())?
        .connect_timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(Duration::from_secs(30));
    let dial = tower::service_fn(move |_: Uri| {
        let (host, connector) = (host.clone(), connector.clone());
        async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Wire> = if secure {
                let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
                Box::new(connector.connect(name, stream).await?)
            } else {
                Box::new(stream)
            };
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    builder.connect_with_connector(dial).await.map_err(|error| {
        if tls::is_certificate_error(&error) {
            return Failure::stop("certificate", Status::none());
        }
        Failure::retry("unreachable", Status::none(), None)
    })
}

trait Wire: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Wire for T {}

fn grpc(channel: &Channel) -> Grpc<Channel> {
    Grpc::new(channel.clone())
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Failure> {
    grpc.ready().await.map_err(|_| Failure::reopen("unavailable", Status::none()))
}

fn path(method: &str) -> PathAndQuery {
    PathAndQuery::try_from(format!("{SERVICE}/{method}")).expect("names of methods are paths")
}

async fn unary<Q, A>(channel: &Channel, method: &str, request: Request<Q>) -> Result<A, Failure>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = grpc(channel);
    ready(&mut grpc).await?;
    let answer = grpc.unary(request, path(method), ProstCodec::<Q, A>::default()).await;
    answer.map(tonic::Response::into_inner).map_err(|status| of_status(&status))
}

/// Judges the end of a call.
fn of_status(status: &tonic::Status) -> Failure {
    let code = status.code() as i32;
    let details = RpcStatus::decode(status.details()).unwrap_or_default();
    if let Some(error) = storage_error(&details) {
        return error;
    }
    if status.code() == Code::Unknown && tls::is_certificate_error(status) {
        return Failure::stop("certificate", Status::none());
    }
    let (verdict, name) = judge(&RULES, &code).unwrap_or((REOPEN, "unavailable"));
    Failure { verdict, code: name, status: grpc_status(code) }
}

/// Judges an answer within a call; `None` if the rows were taken at the offset.
fn of_answer(answer: &AppendRowsResponse, offset: u64) -> Option<Failure> {
    if let Some(error) = answer.row_errors.first() {
        let code = answer.error.as_ref().map_or(3, |error| error.code);
        return Some(Failure::poison("value", grpc_status(code), usize::try_from(error.index).ok()));
    }
    if let Some(error) = &answer.error {
        if let Some(failure) = storage_error(error) {
            return Some(failure);
        }
        let (verdict, name) = judge(&RULES, &error.code).unwrap_or((REOPEN, "unavailable"));
        return Some(Failure { verdict, code: name, status: grpc_status(error.code) });
    }
    let taken = answer.append_result.as_ref().and_then(|result| result.offset);
    match taken {
        Some(at) if u64::try_from(at) == Ok(offset) => None,
        _ => Some(Failure::reopen("answer", Status::none())),
    }
}

fn storage_error(status: &RpcStatus) -> Option<Failure> {
    let found = status.details.iter().find(|detail| detail.type_url.ends_with("v1.StorageError"))?;
    let code = StorageError::decode(found.value.as_slice()).ok()?.code;
    let (verdict, name) = judge(&STORAGE_RULES, &code)?;
    Some(Failure { verdict, code: name, status: grpc_status(status.code) })
}

fn grpc_status(code: i32) -> Status {
    Status::new(&format!("grpc_{code}"))
}
