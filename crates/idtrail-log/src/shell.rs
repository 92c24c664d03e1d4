//! The threads around the log's steps: one sequences, seals and commits, one tells followers, one makes spare segments.
//!
//! Queues are bounded; a full one in front of the log refuses, so that a sender learns at once and tries again. There
//! is no timer: what queues up while a commit is under way is the next group. After a failure every waiting request
//! is told, and `on_stop` is called once; the process is expected to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use idtrail_port::Disk;
use idtrail_tlog::TreeSize;

use crate::LogError;
use crate::commit::{Committer, Told};
use crate::journal::Spare;
use crate::machine::{Machine, Sealer};
use crate::queue::{Queue, Refused};
use crate::reader::Reader;
use crate::sequence::{Reply, Sequencer, Submission};

/// Limits of the queues and groups.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that may wait in front of the log.
    pub queue_requests_max: usize,
    /// Bytes of entries in one frame.
    pub group_bytes_max: usize,
    /// Requests in one sealed group.
    pub group_requests_max: usize,
}

impl Limits {
    /// Returns limits that fit segments of the given length.
    pub fn for_segments(segment_bytes: u64, queue_requests_max: usize) -> Self {
        let group_bytes_max = usize::try_from(segment_bytes / 4).unwrap_or(usize::MAX).min(8 * 1024 * 1024);
        Self { queue_requests_max, group_bytes_max, group_requests_max: 1024 }
    }
}

/// Follows the log: is told of every committed entry, in order.
pub trait Follower<F>: Send + 'static {
    /// Takes over what was committed.
    fn apply(&mut self, told: Told<F>);
}

/// Up to where followers have read; reads that need them wait for it.
#[derive(Default)]
pub struct Applied {
    size: Mutex<u64>,
    changed: Condvar,
    listener: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applied").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Applied {
    /// Returns a mark at `size`.
    pub fn at(size: TreeSize) -> Self {
        Self { size: Mutex::new(size.get()), ..Self::default() }
    }

    /// Has `tell` called after each group that followers have read, for readers that must not hold a thread while they
    /// wait. It runs on the follower's thread and so must neither block nor take long. Returns false if somebody else
    /// listens already.
    pub fn listen(&self, tell: impl Fn() + Send + Sync + 'static) -> bool {
        self.listener.set(Box::new(tell)).is_ok()
    }

    fn advance(&self, size: u64) {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = size;
        self.changed.notify_all();
        if let Some(tell) = self.listener.get() {
            tell();
        }
    }

    /// Returns up to which size followers have read.
    pub fn size(&self) -> TreeSize {
        TreeSize::new(*self.size.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until followers have read up to `size`; false if the time ran out first.
    pub fn wait(&self, size: TreeSize, at_most: Duration) -> bool {
        let guard = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = |applied: &mut u64| *applied < size.get();
        let outcome = self.changed.wait_timeout_while(guard, at_most, behind);
        !outcome.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// A running log.
pub struct Log<M: Machine> {
    intake: Arc<Queue<Submission<M>>>,
    reader: Arc<Reader>,
    applied: Arc<Applied>,
    failed: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    spare_wanted: Arc<Queue<()>>,
}

impl<M: Machine> std::fmt::Debug for Log<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("reader", &self.reader)
            .field("waiting", &self.intake.len())
            .finish_non_exhaustive()
    }
}

impl<M: Machine> Log<M> {
    /// Starts the threads.
    ///
    /// `on_stop` is called once if the log fails, with the reason.
    ///
    /// # Errors
    /// `Unavailable` if a thread cannot be started.
    pub fn start<S, Fo>(
        disk: Arc<dyn Disk>,
        sequencer: Sequencer<M, S>,
        committer: Committer,
        follower: Fo,
        limits: Limits,
        on_stop: impl FnOnce(LogError) + Send + 'static,
    ) -> Result<Self, LogError>
    where
        S: Sealer<M::Draft>,
        Fo: Follower<M::Facts>,
    {
        let intake = Arc::new(Queue::new(limits.queue_requests_max));
        let told = Arc::new(Queue::new(1024));
        let spare_wanted = Arc::new(Queue::new(1));
        let reader = Arc::clone(committer.reader());
        let applied = Arc::new(Applied::at(reader.size()));
        let failed = Arc::new(AtomicBool::new(false));
        let stop = Stop { failed: Arc::clone(&failed), on_stop: Mutex::new(Some(Box::new(on_stop))) };
        let spare = SpareMaker {
            disk,
            spare: committer.journal().spare(),
            dir: committer.journal().dir().to_owned(),
            bytes: committer.journal().segment_bytes(),
        };
        let mut threads = Vec::new();
        let line = Line {
            intake: Arc::clone(&intake),
            told: Arc::clone(&told),
            spare_wanted: Arc::clone(&spare_wanted),
            limits,
            stop,
        };
        threads.push(spawn("commit", move || run_log(sequencer, committer, line))?);
        threads.push(spawn("follow", {
            let applied = Arc::clone(&applied);
            move || run_follower(follower, &told, &applied)
        })?);
        threads.push(spawn("spare", {
            let wanted = Arc::clone(&spare_wanted);
            move || run_spare(&spare, &wanted)
        })?);
        Ok(Self { intake, reader, applied, failed, threads: Mutex::new(threads), spare_wanted })
    }

    /// Hands a request to the log; `reply` is called once, from another thread, after the outcome is durable.
    ///
    /// # Errors
    /// `Busy` if too many requests wait, `Unavailable` if the log has stopped; `reply` is not called then.
    pub fn submit(&self, command: M::Command, reply: Reply<M::Refusal>) -> Result<(), LogError> {
        match self.intake.try_push(Submission { command, reply }) {
            Ok(()) => Ok(()),
            Err(Refused::Full(_)) => {
                Err(LogError::Busy { entries: self.intake.limit(), limit: self.intake.limit() })
            }
            Err(Refused::Closed(_)) => Err(LogError::Stopped),
        }
    }

    /// Hands many requests to the log, all or none; each `reply` is called as with [`Log::submit`].
    ///
    /// # Errors
    /// `Busy` if there is no room for all of them, `Unavailable` if the log has stopped; no `reply` is called then.
    pub fn submit_all(&self, requests: Vec<(M::Command, Reply<M::Refusal>)>) -> Result<(), LogError> {
        let entries = requests.len();
        let submissions =
            requests.into_iter().map(|(command, reply)| Submission { command, reply }).collect();
        match self.intake.try_push_all(submissions) {
            Ok(()) => Ok(()),
            Err(Refused::Full(_)) => Err(LogError::Busy { entries, limit: self.intake.limit() }),
            Err(Refused::Closed(_)) => Err(LogError::Stopped),
        }
    }

    /// Returns what reads this log.
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Returns up to where followers have read.
    pub fn applied(&self) -> &Arc<Applied> {
        &self.applied
    }

    /// Returns how many requests wait in front of the log.
    pub fn waiting(&self) -> usize {
        self.intake.len()
    }

    /// Tells whether the log takes requests.
    pub fn is_running(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
    }

    /// Stops in an orderly way: takes no more requests, commits and answers what waits, ends the threads.
    pub fn stop(&self) {
        self.intake.close();
        self.spare_wanted.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

impl<M: Machine> Drop for Log<M> {
    fn drop(&mut self) {
        self.stop();
    }
}

type OnStop = Box<dyn FnOnce(LogError) + Send>;

struct Stop {
    failed: Arc<AtomicBool>,
    on_stop: Mutex<Option<OnStop>>,
}

impl Stop {
    fn fail(&self, error: LogError) {
        self.failed.store(true, Ordering::Release);
        let on_stop = self.on_stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(on_stop) = on_stop {
            on_stop(error);
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LogError> {
    std::thread::Builder::new().name(format!("log-{name}")).spawn(run).map_err(|source| LogError::Disk {
        operation: "start a thread",
        path: name.into(),
        source,
    })
}

fn refuse_all<M: Machine>(intake: &Queue<Submission<M>>) {
    intake.close();
    while let Some(rest) = intake.take(|_| true) {
        for submission in rest {
            (submission.reply)(Err(LogError::Stopped));
        }
    }
}

/// What the log's thread shares with others.
struct Line<M: Machine> {
    intake: Arc<Queue<Submission<M>>>,
    told: Arc<Queue<Told<M::Facts>>>,
    spare_wanted: Arc<Queue<()>>,
    limits: Limits,
    stop: Stop,
}

/// Sequences, seals and commits, group after group. One thread does all three: while it waits for the disk, requests
/// queue up and become the next group. Two threads were measured first; they only made the groups smaller.
fn run_log<M: Machine, S: Sealer<M::Draft>>(
    mut sequencer: Sequencer<M, S>,
    mut committer: Committer,
    line: Line<M>,
) {
    loop {
        if !committer.journal().spare().is_ready() {
            // Full means that the wish is known already; closed, that the log is being stopped.
            let _ = line.spare_wanted.try_push(());
        }
        let (mut requests, mut bytes) = (0, 0);
        let group = line.intake.take(|submission| {
            requests += 1;
            bytes += M::bytes_max(&submission.command);
            requests <= line.limits.group_requests_max && bytes <= line.limits.group_bytes_max
        });
        let Some(group) = group else { break };
        let committed = sequencer.step(group).and_then(|sealed| committer.commit(vec![sealed]));
        match committed {
            Ok(committed) => {
                for one in committed {
                    if line.told.push(one).is_err() {
                        line.stop.fail(LogError::Bug { what: "the followers ended before the log" });
                    }
                }
            }
            Err(error) => {
                line.stop.fail(error);
                break;
            }
        }
        // Incomplete tiles are written when there is time for it.
        if let Err(error) = committer.flush_tiles(line.intake.is_empty()) {
            // Tiles are derived and still in memory; the next commit will meet the same disk.
            tracing::warn!(error = &error as &dyn std::error::Error, "tiles could not be written yet");
        }
    }
    refuse_all(&line.intake);
    line.told.close();
    line.spare_wanted.close();
}

fn run_follower<F, Fo: Follower<F>>(mut follower: Fo, told: &Queue<Told<F>>, applied: &Applied) {
    while let Some(news) = told.take(|_| true) {
        for one in news {
            let end = one.first.get() + one.facts.len() as u64;
            follower.apply(one);
            applied.advance(end);
        }
    }
}

struct SpareMaker {
    disk: Arc<dyn Disk>,
    spare: Spare,
    dir: std::path::PathBuf,
    bytes: u64,
}

fn run_spare(maker: &SpareMaker, wanted: &Queue<()>) {
    while wanted.take(|_| true).is_some() {
        if let Err(error) = maker.spare.prepare(&*maker.disk, &maker.dir, maker.bytes) {
            // The committer makes the segment itself when it needs one, and stops if it cannot.
            tracing::warn!(error = &error as &dyn std::error::Error, "no spare segment could be made");
        }
    }
}
