//! A load generator for HTTP/1.1 over kept connections, cheap enough to share two cores with the server it measures.
//!
//! Each connection sends a request, waits for the whole answer and sends the next, so the number of connections is
//! the number of requests in flight. Requests are bytes that the caller makes; of an answer only status and
//! `Content-Length` are looked at. It speaks to our own server and is no general client: an answer without a length
//! (chunked, or ended by closing) is an error, and so is a lost connection, because the figures of such a run would
//! not mean what they seem to.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idtrail_port::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::histogram::Histogram;

/// Longest head of an answer in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest body of an answer in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const HEADERS_MAX: usize = 64;

/// Writes the bytes of request number `n`, counted from 0 over all connections, into an empty buffer.
pub type MakeRequest = Arc<dyn Fn(u64, &mut Vec<u8>) + Send + Sync>;

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Connections, which is also the number of requests in flight.
    pub connections: u32,
    /// When to stop.
    pub end: End,
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After this many requests in all.
    Requests(u64),
    /// When this time has passed; requests in flight are waited for.
    After(Duration),
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// From the first request to the last answer, in nanoseconds.
    pub elapsed_ns: u64,
    /// From the first byte sent to the last byte received, per request.
    pub latency: Histogram,
}

impl Report {
    /// Returns how many answers there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.latency.count()
    }

    /// Returns how many answers had a status from 200 to 299.
    #[must_use]
    pub fn successes(&self) -> u64 {
        self.statuses.range(200..300).map(|(_, count)| count).sum()
    }

    /// Returns answers per second.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
    pub fn rate(&self) -> f64 {
        if self.elapsed_ns == 0 { 0.0 } else { self.count() as f64 * 1e9 / self.elapsed_ns as f64 }
    }

    /// Returns the median latency in microseconds.
    #[must_use]
    pub fn p50_us(&self) -> u64 {
        self.latency.quantile_ns(500) / 1000
    }

    /// Returns the latency in microseconds that 99 % of requests do not exceed.
    #[must_use]
    pub fn p99_us(&self) -> u64 {
        self.latency.quantile_ns(990) / 1000
    }
}

/// Why a run is void.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A connection could not be made.
    #[error("could not connect. address={address}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A connection was lost.
    #[error("connection was lost")]
    Lost(#[source] io::Error),
    /// An answer is not HTTP/1.1 with a length, or too long.
    #[error("answer cannot be read. reason={0}")]
    Answer(&'static str),
    /// A task of the generator ended early: a bug.
    #[error("load generator failed")]
    Task(#[source] tokio::task::JoinError),
}

/// Sends load from the current runtime and returns what was measured.
///
/// # Errors
/// See [`LoadError`]; one broken connection makes the whole run void.
pub async fn run(plan: Plan, request: MakeRequest, clock: Arc<dyn Clock>) -> Result<Report, LoadError> {
    let mut streams = Vec::new();
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(plan.address).await;
        let stream = stream.map_err(|source| LoadError::Connect { address: plan.address, source })?;
        stream.set_nodelay(true).map_err(LoadError::Lost)?;
        streams.push(stream);
    }
    // All connections stand before the time starts.
    let start_ns = clock.monotonic_ns();
    let shared = Arc::new(Shared {
        next: AtomicU64::new(0),
        requests_max: if let End::Requests(count) = plan.end { count } else { u64::MAX },
        deadline_ns: match plan.end {
            End::After(time) => start_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            End::Requests(_) => u64::MAX,
        },
        request,
        clock,
    });
    let mut tasks = JoinSet::new();
    for stream in streams {
        tasks.spawn(Connection::new(stream, Arc::clone(&shared)).run());
    }
    let mut report = Report::default();
    while let Some(outcome) = tasks.join_next().await {
        let part = outcome.map_err(LoadError::Task)??;
        report.latency.merge(&part.latency);
        for (status, count) in part.statuses {
            *report.statuses.entry(status).or_default() += count;
        }
    }
    report.elapsed_ns = shared.clock.monotonic_ns().saturating_sub(start_ns);
    Ok(report)
}

/// As [`run`], on a runtime of its own with one thread: the calling one. Waking another thread for each answer would
/// cost more than the answer.
///
/// # Errors
/// As [`run`], and `Connect` if there are no resources for a runtime.
pub fn run_blocking(plan: Plan, request: MakeRequest, clock: Arc<dyn Clock>) -> Result<Report, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|source| LoadError::Connect { address: plan.address, source })?;
    runtime.block_on(run(plan, request, clock))
}

struct Shared {
    next: AtomicU64,
    requests_max: u64,
    deadline_ns: u64,
    request: MakeRequest,
    clock: Arc<dyn Clock>,
}

/// What one connection measured.
struct Part {
    statuses: Vec<(u16, u64)>,
    latency: Histogram,
}

struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    /// Bytes received; `filled` of them are valid.
    buffer: Vec<u8>,
    filled: usize,
    part: Part,
}

impl Connection {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        let part = Part { statuses: Vec::new(), latency: Histogram::default() };
        Self { stream, shared, buffer: vec![0; 8192], filled: 0, part }
    }

    async fn run(mut self) -> Result<Part, LoadError> {
        let mut request = Vec::new();
        loop {
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.shared.requests_max {
                return Ok(self.part);
            }
            request.clear();
            (self.shared.request)(number, &mut request);
            let sent_ns = self.shared.clock.monotonic_ns();
            if sent_ns >= self.shared.deadline_ns {
                return Ok(self.part);
            }
            self.stream.write_all(&request).await.map_err(LoadError::Lost)?;
            let status = self.receive().await?;
            self.part.latency.record(self.shared.clock.monotonic_ns().saturating_sub(sent_ns));
            match self.part.statuses.iter_mut().find(|(known, _)| *known == status) {
                Some((_, count)) => *count += 1,
                None => self.part.statuses.push((status, 1)),
            }
        }
    }

    /// Reads one whole answer and returns its status.
    async fn receive(&mut self) -> Result<u16, LoadError> {
        let (status, length) = loop {
            match parse(self.buffer.get(..self.filled).unwrap_or_default())? {
                Some(Head { status, length }) => break (status, length),
                None if self.filled >= HEAD_BYTES_MAX => return Err(LoadError::Answer("head is too long")),
                None => self.read_more().await?,
            }
        };
        if length > self.buffer.len() {
            self.buffer.resize(length, 0);
        }
        while self.filled < length {
            self.read_more().await?;
        }
        // One request is in flight, so nothing can stand behind its answer.
        if self.filled > length {
            return Err(LoadError::Answer("there are bytes behind the answer"));
        }
        self.filled = 0;
        Ok(status)
    }

    async fn read_more(&mut self) -> Result<(), LoadError> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        match self.stream.read(room).await.map_err(LoadError::Lost)? {
            0 => Err(LoadError::Lost(io::ErrorKind::UnexpectedEof.into())),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }
}

struct Head {
    status: u16,
    /// Bytes of head and body together.
    length: usize,
}

/// Returns `None` if the head is not there in full.
fn parse(bytes: &[u8]) -> Result<Option<Head>, LoadError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(LoadError::Answer("head is not HTTP")),
    };
    let status = response.code.ok_or(LoadError::Answer("there is no status"))?;
    let named = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body_bytes = match named {
        Some(header) => {
            std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse::<usize>().ok())
        }
        // These never have a body.
        None if status == 204 || status == 304 => Some(0),
        None => None,
    };
    match body_bytes {
        Some(body_bytes) if body_bytes <= BODY_BYTES_MAX => {
            Ok(Some(Head { status, length: head_bytes + body_bytes }))
        }
        Some(_) => Err(LoadError::Answer("body is too long")),
        None => Err(LoadError::Answer("there is no content length")),
    }
}

#[cfg(test)]
mod tests;
