//! Whether the server is well: looks once a second, keeps the gauges of [`Metrics`], and knows every reason why events
//! cannot be acknowledged.
//!
//! Only what stands between an event and its acknowledgement counts: the log, its disk, the clock, an ordered stop.
//! Warehouses, witnesses and whatever else follows the log never make a server unready; the log waits for them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use idtrail_port::Space;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// A clock that was set by more than this gives receipts a time that nobody expects.
const CLOCK_STEP_MAX_MS: i64 = 60_000;

/// Looks after one installation.
pub struct Monitor {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    data_dir: PathBuf,
    free_bytes_min: u64,
    encrypted: bool,
    /// Wall time less monotonic time at the start, in milliseconds.
    wall_offset_ms: i64,
    started_ns: u64,
    stopping: AtomicBool,
    free_bytes: AtomicU64,
    step_ms: AtomicI64,
    newest: Mutex<Newest>,
}

/// When the log last grew, as far as this monitor has seen.
struct Newest {
    size: u64,
    at_ns: u64,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Monitor {
    /// Starts looking after an open installation.
    pub fn new(engine: Arc<Engine>, metrics: Arc<Metrics>, settings: &Settings) -> Self {
        let clock = Arc::clone(&engine.ports().clock);
        let started_ns = clock.monotonic_ns();
        metrics.queue_limit.set(i64::try_from(settings.limits.queue_events_max).unwrap_or(i64::MAX));
        let new = Self {
            metrics,
            data_dir: settings.data_dir.clone(),
            free_bytes_min: settings.limits.disk_free_bytes_min,
            encrypted: settings.tls.is_encrypted(),
            wall_offset_ms: clock.wall_ms().saturating_sub(ms(started_ns)),
            started_ns,
            stopping: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            step_ms: AtomicI64::new(0),
            newest: Mutex::new(Newest { size: engine.reader().size().get(), at_ns: started_ns }),
            engine,
        };
        new.look();
        new
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Says that the server is being stopped: it is not ready any more, but finishes what it has.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
        self.look();
    }

    /// Looks at everything. To be called once a second; asks the file system.
    pub fn look(&self) {
        let clock = &self.engine.ports().clock;
        let (now_ns, metrics) = (clock.monotonic_ns(), &self.metrics);
        // A disk that cannot tell is not full.
        let space = self.engine.ports().disk.space(&self.data_dir);
        let Space { free_bytes, total_bytes } =
            space.unwrap_or(Space { free_bytes: u64::MAX, total_bytes: u64::MAX });
        self.free_bytes.store(free_bytes, Ordering::Release);
        metrics.storage_free_bytes.set(i64::try_from(free_bytes).unwrap_or(i64::MAX));
        metrics.storage_total_bytes.set(i64::try_from(total_bytes).unwrap_or(i64::MAX));
        let step_ms = clock.wall_ms().saturating_sub(ms(now_ns)).saturating_sub(self.wall_offset_ms);
        self.step_ms.store(step_ms, Ordering::Release);
        metrics.clock_skew_seconds.set(step_ms as f64 / 1000.0);
        let size = self.engine.reader().size().get();
        metrics.log_size.set(i64::try_from(size).unwrap_or(i64::MAX));
        let access = self.engine.access();
        metrics.access_log_size.set(i64::try_from(access.reader().size().get()).unwrap_or(i64::MAX));
        metrics.access_log_running.set(i64::from(access.log().is_running()));
        metrics.queue_depth.set(i64::try_from(self.engine.log().waiting()).unwrap_or(i64::MAX));
        metrics.checkpoint_age_seconds.set(self.checkpoint_age_s(size, now_ns));
        metrics.ready.set(i64::from(self.reasons().is_empty()));
    }

    fn checkpoint_age_s(&self, size: u64, now_ns: u64) -> f64 {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.size != size {
            *newest = Newest { size, at_ns: now_ns };
        }
        now_ns.saturating_sub(newest.at_ns) as f64 / 1e9
    }

    /// Tells whether the disk has room for events. Below the limit the server reads only: what it holds can be read,
    /// verified and erased, and an orderly refusal leaves room for that, where a full disk would stop the log.
    pub fn has_room(&self) -> bool {
        self.free_bytes.load(Ordering::Acquire) >= self.free_bytes_min
    }

    /// Returns every reason why events cannot be acknowledged now; none means that they can.
    pub fn reasons(&self) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        if !self.engine.log().is_running() {
            reasons.push(
                "the log has stopped after a failure: see the process' log, mend the cause, restart the server",
            );
        }
        if !self.has_room() {
            reasons.push(
                "the data directory's disk is nearly full (limits.disk_free_bytes_min): make room or move the data",
            );
        }
        if self.step_ms.load(Ordering::Acquire).abs() > CLOCK_STEP_MAX_MS {
            reasons.push(
                "the system's clock was set by more than a minute; if it is right now, restart the server",
            );
        }
        if self.stopping.load(Ordering::Acquire) {
            reasons.push("the server is being stopped");
        }
        reasons
    }

    /// Returns the state of the installation for people.
    pub fn status(&self) -> Value {
        self.look();
        let (engine, clock) = (&self.engine, &self.engine.ports().clock);
        let head = engine.reader().head();
        let reasons = self.reasons();
        let free = self.free_bytes.load(Ordering::Acquire);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": reasons.is_empty(),
            "reasons": reasons,
            "origin": engine.origin(),
            "treeSize": head.size.get(),
            "rootHash": head.root.to_string(),
            "checkpointAgeSeconds": self.checkpoint_age_s(head.size.get(), clock.monotonic_ns()).round(),
            "uptimeSeconds": clock.monotonic_ns().saturating_sub(self.started_ns) / 1_000_000_000,
            "queueEvents": engine.log().waiting(),
            "accessLog": {
                "origin": engine.access().origin(),
                "treeSize": engine.access().reader().size().get(),
                "running": engine.access().log().is_running(),
            },
            "followersSize": engine.log().applied().size().get(),
            "storageFreeBytes": (free != u64::MAX).then_some(free),
            "clockStepMs": self.step_ms.load(Ordering::Acquire),
            "startedClean": engine.opened().clean,
            "cutBytesAtStart": engine.opened().cut_bytes,
            "tls": self.encrypted,
        })
    }
}

fn ms(ns: u64) -> i64 {
    i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX)
}
