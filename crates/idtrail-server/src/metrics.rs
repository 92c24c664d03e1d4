//! What the server counts and measures, for `/metrics` (OpenMetrics text).
//!
//! One struct of typed handles; whoever has something to count takes the handle and counts. Every label comes from a
//! closed set: results, reasons and event types are words of the program, and a source is the name of a calling system
//! as an administrator wrote it, at most [`SOURCES_MAX`] of them. No customer, interaction, token or address is ever a
//! label: metrics are kept for years by systems that know nothing of erasure.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use idtrail_connect::worker::SinkStatus;
use idtrail_event::TypeCode;
use idtrail_port::{Attributes, Clock, Disk, DiskFile, DiskLock, Open, Space};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

/// Media type of what [`Metrics::encode`] returns.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Calling systems that get a label of their own; the others share `other`.
pub const SOURCES_MAX: usize = 256;
/// Label of events whose sender is not known, because its credential was refused. No key can have this name, because it
/// holds a colon.
const UNKNOWN_SOURCE: &str = "idtrail:unknown";

/// Seconds: from a fast disk's sync to what nobody waits for.
const BUCKETS_S: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is new and in the log.
    Accepted,
    /// It was in the log already.
    Duplicate,
    /// It is kept apart until somebody corrects it.
    Quarantined,
    /// It is not kept.
    Refused,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Quarantined => "quarantined",
            Self::Refused => "refused",
        };
        name.encode(encoder)
    }
}

/// An event type as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeLabel(Option<TypeCode>);

impl TypeLabel {
    /// The type of what could not be read.
    pub const UNKNOWN: Self = Self(None);
}

impl From<TypeCode> for TypeLabel {
    fn from(code: TypeCode) -> Self {
        Self(Some(code))
    }
}

impl EncodeLabelValue for TypeLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.and_then(TypeCode::name).unwrap_or("UNKNOWN").encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IngestLabels {
    source: String,
    r#type: TypeLabel,
    result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    /// As an administrator wrote it; at most [`crate::sinks::SINKS_MAX`] of them at a time.
    sink: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkStateLabels {
    sink: String,
    state: &'static str,
}

/// What one sink's figures come from.
#[derive(Clone, Debug)]
pub struct SinkFigures {
    /// Its name.
    pub sink: String,
    /// Its state; `None` if it cannot be started.
    pub status: Option<SinkStatus>,
}

/// What is measured of sinks. Taken anew from their own counts before each answer, so a removed sink is gone from it.
#[derive(Debug, Default)]
struct SinkMetrics {
    lag_events: Family<SinkLabels, Gauge>,
    lag_seconds: Family<SinkLabels, Gauge<f64, AtomicU64>>,
    replicated: Family<SinkLabels, Gauge>,
    replicated_log: Family<SinkLabels, Gauge>,
    dead: Family<SinkLabels, Gauge>,
    state: Family<SinkStateLabels, Gauge>,
    delivered: Family<SinkLabels, Counter>,
    filtered: Family<SinkLabels, Counter>,
    erased: Family<SinkLabels, Counter>,
    /// Held while they are replaced and read.
    taking: Mutex<()>,
}

impl SinkMetrics {
    fn register(&self, r: &mut Registry) {
        r.register(
            "sink_lag_events",
            "Entries of the log that the sink has not settled",
            self.lag_events.clone(),
        );
        r.register_with_unit(
            "sink_lag",
            "Since the newest settled entry was received; 0 if nothing is to come",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        r.register("sink_replicated_up_to", "First log index that is not settled", self.replicated.clone());
        r.register("sink_replicated_log", "Which log that index is of, from 0", self.replicated_log.clone());
        r.register("sink_dead_letters", "Events that could not be delivered", self.dead.clone());
        r.register("sink_state", "1 for the state that the sink is in", self.state.clone());
        r.register("sink_delivered_events", "Rows that the target confirmed", self.delivered.clone());
        r.register("sink_filtered_events", "Entries that the filter did not want", self.filtered.clone());
        r.register("sink_erased_events", "Entries that could not be read any more", self.erased.clone());
    }

    fn take(&self, all: &[SinkFigures]) {
        self.lag_events.clear();
        self.lag_seconds.clear();
        self.replicated.clear();
        self.replicated_log.clear();
        self.dead.clear();
        self.state.clear();
        self.delivered.clear();
        self.filtered.clear();
        self.erased.clear();
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for SinkFigures { sink, status } in all {
            let labels = SinkLabels { sink: sink.clone() };
            let state = status.as_ref().map_or("broken", |status| crate::sinks::state_name(status.circuit));
            self.state.get_or_create(&SinkStateLabels { sink: sink.clone(), state }).set(1);
            let Some(status) = status else { continue };
            self.lag_events.get_or_create(&labels).set(whole(status.lag_events));
            self.lag_seconds.get_or_create(&labels).set(status.lag_ms as f64 / 1000.0);
            self.replicated.get_or_create(&labels).set(whole(status.replicated_up_to.seq));
            let log = status.replicated_up_to.log_id.get();
            self.replicated_log.get_or_create(&labels).set(i64::from(log));
            self.dead.get_or_create(&labels).set(whole(status.dead));
            self.delivered.get_or_create(&labels).inc_by(status.delivered);
            self.filtered.get_or_create(&labels).inc_by(status.filtered);
            self.erased.get_or_create(&labels).inc_by(status.erased);
        }
    }
}

/// The handles.
#[derive(Debug)]
pub struct Metrics {
    sinks: SinkMetrics,
    registry: Registry,
    sources: RwLock<HashSet<String>>,
    balance: Mutex<BTreeMap<Option<String>, Counts>>,
    ingested: Family<IngestLabels, Counter>,
    auth_failures: Family<ReasonLabels, Counter>,
    responses: Family<ClassLabels, Counter>,
    /// Seconds from the arrival of an event to its answer.
    pub ack_seconds: Histogram,
    /// Seconds of one sync of the log's files.
    pub fsync_seconds: Histogram,
    /// Entries of the log.
    pub log_size: Gauge,
    /// Entries of the access log.
    pub access_log_size: Gauge,
    /// 1 if the access log takes entries, else 0: then nothing is disclosed.
    pub access_log_running: Gauge,
    /// Requests that wait for the log.
    pub queue_depth: Gauge,
    /// Requests that may wait for the log.
    pub queue_limit: Gauge,
    /// Seconds since the newest checkpoint was signed.
    pub checkpoint_age_seconds: Gauge<f64, AtomicU64>,
    /// Seconds by which the wall clock was set since the start.
    pub clock_skew_seconds: Gauge<f64, AtomicU64>,
    /// Bytes that may still be written to the data directory's file system.
    pub storage_free_bytes: Gauge,
    /// Bytes of the data directory's file system.
    pub storage_total_bytes: Gauge,
    /// 1 if events may be acknowledged, else 0.
    pub ready: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// When the server's certificate was last read, in seconds since 1970; 0 without TLS.
    pub tls_loaded_timestamp_seconds: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("idtrail");
        let histogram = || Histogram::new(BUCKETS_S);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program that runs", build);
        let new = Self {
            sinks: SinkMetrics::default(),
            sources: RwLock::default(),
            balance: Mutex::default(),
            ingested: Family::default(),
            auth_failures: Family::default(),
            responses: Family::default(),
            ack_seconds: histogram(),
            fsync_seconds: histogram(),
            log_size: Gauge::default(),
            access_log_size: Gauge::default(),
            access_log_running: Gauge::default(),
            queue_depth: Gauge::default(),
            queue_limit: Gauge::default(),
            checkpoint_age_seconds: Gauge::default(),
            clock_skew_seconds: Gauge::default(),
            storage_free_bytes: Gauge::default(),
            storage_total_bytes: Gauge::default(),
            ready: Gauge::default(),
            connections: Gauge::default(),
            tls_loaded_timestamp_seconds: Gauge::default(),
            registry,
        };
        new.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        self.sinks.register(r);
        r.register("events_ingested", "Events by what became of them", self.ingested.clone());
        r.register("auth_failures", "Refused credentials and missing roles", self.auth_failures.clone());
        r.register("http_responses", "Answers by class of status", self.responses.clone());
        r.register_with_unit(
            "ingest_ack",
            "From the arrival of an event to its answer",
            Unit::Seconds,
            self.ack_seconds.clone(),
        );
        r.register_with_unit(
            "fsync",
            "One sync of the log's files",
            Unit::Seconds,
            self.fsync_seconds.clone(),
        );
        r.register("log_size_events", "Entries of the log", self.log_size.clone());
        r.register(
            "access_log_size_events",
            "Entries of the access log: who was shown what",
            self.access_log_size.clone(),
        );
        r.register(
            "access_log_running",
            "1 if accesses can be recorded; without that nothing is disclosed",
            self.access_log_running.clone(),
        );
        r.register("ingest_queue_events", "Requests that wait for the log", self.queue_depth.clone());
        r.register(
            "ingest_queue_limit_events",
            "Requests that may wait for the log",
            self.queue_limit.clone(),
        );
        r.register_with_unit(
            "checkpoint_age",
            "Since the newest checkpoint was signed",
            Unit::Seconds,
            self.checkpoint_age_seconds.clone(),
        );
        r.register_with_unit(
            "clock_skew",
            "By how much the wall clock was set since the start",
            Unit::Seconds,
            self.clock_skew_seconds.clone(),
        );
        r.register_with_unit(
            "storage_free",
            "What may still be written to the data directory",
            Unit::Bytes,
            self.storage_free_bytes.clone(),
        );
        r.register_with_unit(
            "storage_total",
            "Size of the data directory's file system",
            Unit::Bytes,
            self.storage_total_bytes.clone(),
        );
        r.register("ready", "1 if events may be acknowledged", self.ready.clone());
        r.register("connections", "Open connections", self.connections.clone());
        r.register_with_unit(
            "tls_loaded_timestamp",
            "When the certificate was last read",
            Unit::Seconds,
            self.tls_loaded_timestamp_seconds.clone(),
        );
        self
    }

    /// Starts counting one event of a sender that is not known yet. It counts as refused unless something better is said.
    pub fn intake<'m>(&'m self, clock: &'m dyn Clock) -> Intake<'m> {
        Intake { metrics: self, source: None, clock, started_ns: clock.monotonic_ns(), said: false }
    }

    /// Counts events of a calling system.
    pub fn ingested(&self, source: &str, r#type: TypeLabel, result: Outcome, events: u64) {
        self.count(Some(source), r#type, result, events);
    }

    /// Returns where every event went since the start, per calling system; `None` is for senders that are not known.
    pub fn balance(&self) -> BTreeMap<Option<String>, Counts> {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a refused credential or a missing role; `reason` is a word of the program.
    pub fn auth_failed(&self, reason: &'static str) {
        self.auth_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts an answer.
    pub fn answered(&self, status: http::StatusCode) {
        let class = match status.as_u16() {
            429 => "429",
            503 => "503",
            100..400 => "ok",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.responses.get_or_create(&ClassLabels { class }).inc();
    }

    /// Returns all of it as OpenMetrics text, with these figures of the sinks.
    ///
    /// # Errors
    /// If formatting fails, which is a bug.
    pub fn encode_with(&self, sinks: &[SinkFigures]) -> Result<String, std::fmt::Error> {
        let _taking = self.sinks.taking.lock().unwrap_or_else(PoisonError::into_inner);
        self.sinks.take(sinks);
        self.encode()
    }

    fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::with_capacity(8192);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn count(&self, source: Option<&str>, r#type: TypeLabel, result: Outcome, events: u64) {
        let label = source.map_or_else(|| UNKNOWN_SOURCE.to_owned(), |name| self.source(name));
        self.ingested.get_or_create(&IngestLabels { source: label, r#type, result }).inc_by(events);
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        balance.entry(source.map(str::to_owned)).or_default().add(result, events);
    }

    /// Returns the label of a calling system. The set can only grow to its limit.
    fn source(&self, name: &str) -> String {
        let known = |sources: &HashSet<String>| sources.contains(name);
        if known(&self.sources.read().unwrap_or_else(PoisonError::into_inner)) {
            return name.to_owned();
        }
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_MAX && !known(&sources) {
            return "other".to_owned();
        }
        sources.insert(name.to_owned());
        name.to_owned()
    }
}

/// One event on its way. Dropped without a word, it counts as refused, whatever way the request took.
pub struct Intake<'m> {
    metrics: &'m Metrics,
    source: Option<String>,
    clock: &'m dyn Clock,
    started_ns: u64,
    said: bool,
}

impl Intake<'_> {
    /// Says who sent it.
    pub fn of(&mut self, source: &str) {
        self.source = Some(source.to_owned());
    }

    /// Says what became of the event; how long that took is measured if it is an acknowledgement.
    pub fn came_to(mut self, r#type: impl Into<TypeLabel>, result: Outcome) {
        self.said = true;
        if matches!(result, Outcome::Accepted | Outcome::Duplicate) {
            let nanoseconds = self.clock.monotonic_ns().saturating_sub(self.started_ns);
            self.metrics.ack_seconds.observe(nanoseconds as f64 / 1e9);
        }
        self.metrics.count(self.source.as_deref(), r#type.into(), result, 1);
    }

    /// Says that it was many events, which were counted with [`Metrics::ingested`].
    pub fn was_many(mut self) {
        self.said = true;
    }
}

impl Drop for Intake<'_> {
    fn drop(&mut self) {
        if !self.said {
            self.metrics.count(self.source.as_deref(), TypeLabel::UNKNOWN, Outcome::Refused, 1);
        }
    }
}

/// received = accepted + duplicate + quarantined + refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All events that arrived.
    pub received: u64,
    /// New in the log.
    pub accepted: u64,
    /// In the log already, or had been and were erased.
    pub duplicate: u64,
    /// In the quarantine.
    pub quarantined: u64,
    /// Not kept: the sender was told to come back, or to send something else.
    pub refused: u64,
}

impl Counts {
    fn add(&mut self, result: Outcome, events: u64) {
        self.received += events;
        *match result {
            Outcome::Accepted => &mut self.accepted,
            Outcome::Duplicate => &mut self.duplicate,
            Outcome::Quarantined => &mut self.quarantined,
            Outcome::Refused => &mut self.refused,
        } += events;
    }
}

/// A disk that measures how long syncs below a directory take.
pub struct MeteredDisk {
    disk: Arc<dyn Disk>,
    below: PathBuf,
    clock: Arc<dyn Clock>,
    seconds: Histogram,
}

impl MeteredDisk {
    /// Measures the syncs of files below `below` into `seconds`.
    pub fn new(disk: Arc<dyn Disk>, below: PathBuf, clock: Arc<dyn Clock>, seconds: Histogram) -> Self {
        Self { disk, below, clock, seconds }
    }
}

struct MeteredFile {
    file: Box<dyn DiskFile>,
    clock: Arc<dyn Clock>,
    seconds: Histogram,
}

impl Disk for MeteredDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, how)?;
        if how == Open::Read || !path.starts_with(&self.below) {
            return Ok(file);
        }
        Ok(Box::new(MeteredFile { file, clock: Arc::clone(&self.clock), seconds: self.seconds.clone() }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }

    fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        self.disk.attributes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
}

impl DiskFile for MeteredFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let started_ns = self.clock.monotonic_ns();
        let outcome = self.file.sync_data();
        let nanoseconds = self.clock.monotonic_ns().saturating_sub(started_ns);
        self.seconds.observe(nanoseconds as f64 / 1e9);
        outcome
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::TestClock;

    #[test]
    fn an_event_counts_once_and_as_refused_unless_something_better_is_said() {
        let metrics = Metrics::default();
        let clock = TestClock::at_s(1_790_000_000);
        drop(metrics.intake(&*clock));
        let mut refused = metrics.intake(&*clock);
        refused.of("crm");
        drop(refused);
        let mut many = metrics.intake(&*clock);
        many.of("crm");
        many.was_many();
        let mut one = metrics.intake(&*clock);
        one.of("crm");
        clock.advance_ms(3);
        one.came_to(TypeCode::ANONYMOUS, Outcome::Accepted);
        metrics.ingested("crm", TypeLabel::UNKNOWN, Outcome::Quarantined, 7);
        let balance = metrics.balance();
        let crm = balance[&Some("crm".to_owned())];
        assert_eq!(crm, Counts { received: 9, accepted: 1, quarantined: 7, refused: 1, ..Counts::default() });
        assert_eq!(balance[&None], Counts { received: 1, refused: 1, ..Counts::default() });
        let text = metrics.encode_with(&[]).unwrap();
        for line in [
            "idtrail_events_ingested_total{source=\"idtrail:unknown\",type=\"UNKNOWN\",result=\"refused\"} 1\n",
            "idtrail_events_ingested_total{source=\"crm\",type=\"UNKNOWN\",result=\"refused\"} 1\n",
            "idtrail_events_ingested_total{source=\"crm\",type=\"ANONYMOUS\",result=\"accepted\"} 1\n",
            "idtrail_events_ingested_total{source=\"crm\",type=\"UNKNOWN\",result=\"quarantined\"} 7\n",
            "idtrail_ingest_ack_seconds_bucket{le=\"0.0025\"} 0\n",
            "idtrail_ingest_ack_seconds_bucket{le=\"0.005\"} 1\n",
            concat!("idtrail_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"),
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_cannot_grow_without_bound() {
        let metrics = Metrics::default();
        for number in 0..2 * SOURCES_MAX {
            metrics.ingested(&format!("system-{number}"), TypeLabel::UNKNOWN, Outcome::Refused, 1);
        }
        let text = metrics.encode_with(&[]).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("idtrail_events_ingested_total{")).count();
        assert_eq!(lines, SOURCES_MAX + 1);
        let other = format!("{{source=\"other\",type=\"UNKNOWN\",result=\"refused\"}} {SOURCES_MAX}\n");
        assert!(text.contains(&other));
    }
}
