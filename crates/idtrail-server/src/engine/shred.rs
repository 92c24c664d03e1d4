//! The one place of a running installation that destroys keys: a thread with a bounded queue in front.
//!
//! Orders that wait together share one epoch of the vault. What a former process left half done is finished before the
//! installation opens; what cannot be finished now, because an anchor cannot be reached, is tried again by itself,
//! and nothing else writes the vault until then.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use idtrail_index::shred::{ErrorKind, Order, Outcome, ShredError, Shredder, Task, Works, Writer};
use idtrail_index::trail::{Command, Trail};
use idtrail_log::commit::Answer;
use idtrail_log::shell::Log;
use idtrail_log::{LogError, Reference};
use idtrail_port::Clock;
use idtrail_tlog::{LogIndex, TreeSize};
use idtrail_vault::{HoldInfo, Vault, VaultError};
use tokio::sync::oneshot;

use super::identity::Refold;
use super::retention::month_of_ms;
use super::second::Second;

const QUEUE_MAX: usize = 64;
/// How long the log may take to make leaves durable and known to the index.
pub(super) const LOG_PATIENCE: Duration = Duration::from_secs(30);
/// How often the thread looks whether something is to be finished or has expired.
const TICK: Duration = Duration::from_secs(1);
/// How often it looks for months that have expired.
const RETENTION_PERIOD_NS: u64 = 3_600_000_000_000;

/// The way into the running log.
pub(super) struct Door(pub(super) Arc<Log<Trail>>);

impl Writer for Door {
    fn append(&mut self, command: Command) -> Result<LogIndex, LogError> {
        let (sender, receiver) = sync_channel(1);
        // The receiver has given up if this fails; the leaves are in the log all the same and found there later.
        self.0.submit(command, Box::new(move |outcome| drop(sender.send(outcome))))?;
        let outcome = receiver.recv_timeout(LOG_PATIENCE).map_err(|_| LogError::Stopped)??;
        let Answer::Appended { first, count, .. } = outcome else {
            return Err(LogError::Bug { what: "a leaf of the log's own was not appended" });
        };
        if !self.catch_up(TreeSize::new(first.get() + u64::from(count))) {
            return Err(LogError::Stopped);
        }
        Ok(first)
    }

    fn catch_up(&mut self, size: TreeSize) -> bool {
        self.0.applied().wait(size, LOG_PATIENCE)
    }
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// Too many orders wait.
    #[error("too many orders to destroy keys are waiting")]
    Busy,
    /// The installation is being closed.
    #[error("the installation is being closed")]
    Closed,
    /// The order itself failed.
    #[error(transparent)]
    Shred(#[from] ShredError),
}

type Reply<T> = oneshot::Sender<Result<T, DeskError>>;
type VaultJob = Box<dyn FnOnce(Result<&mut Shredder<Door>, ShredError>) + Send>;

enum Job {
    /// Orders that are carried out together.
    Orders(Vec<(Order, Reply<Outcome>)>),
    Other(VaultJob),
}

/// Takes orders.
pub struct Desk {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    vault: Arc<Mutex<Vault>>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// What the retention run needs beside the shredder.
pub(super) struct Retention {
    /// `None` if months expire only when somebody says so.
    pub(super) automatic: bool,
    pub(super) clock: Arc<dyn Clock>,
    /// What identity has to forget afterwards.
    /// `None` for a log from which nobody's identity follows.
    pub(super) refold: Option<Refold>,
}

impl Retention {
    /// Makes identity forget what can no longer be read.
    fn forget(&self) {
        if let Some(refold) = &self.refold {
            refold.run();
        }
    }
}

impl Desk {
    /// Finishes what a former process left, then starts the thread.
    pub(super) fn open(
        works: Works,
        door: Door,
        retention: Retention,
        mut second: Second,
    ) -> Result<Self, ShredError> {
        let vault = Arc::clone(&works.vault);
        let mut shredder = Shredder::open(works, door)?;
        let settled = shredder.settle()?;
        second.settle()?;
        if settled > 0 {
            tracing::warn!(
                orders = settled,
                "orders to destroy keys, left by a former process, were finished"
            );
            retention.forget();
        }
        let (sender, jobs) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("shred".to_owned())
            .spawn(move || run(shredder, second, &jobs, &retention))
            .map_err(|source| LogError::Disk { operation: "start a thread", path: "shred".into(), source })?;
        Ok(Self { jobs: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), vault })
    }

    /// Hands an order over and returns where its outcome will come.
    ///
    /// # Errors
    /// `Busy` if too many orders wait, `Closed` if the installation is being closed.
    pub fn order(&self, order: Order) -> Result<oneshot::Receiver<Result<Outcome, DeskError>>, DeskError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Job::Orders(vec![(order, reply)]))?;
        Ok(receiver)
    }

    /// Hands orders over that share one epoch of the vault, and after which identity forgets once. Returns where the
    /// outcomes will come, in the same order.
    ///
    /// # Errors
    /// As [`Desk::order`]; then none of them was handed over.
    pub(super) fn orders(
        &self,
        orders: Vec<Order>,
    ) -> Result<Vec<oneshot::Receiver<Result<Outcome, DeskError>>>, DeskError> {
        let (group, receivers) = orders
            .into_iter()
            .map(|order| {
                let (reply, receiver) = oneshot::channel();
                ((order, reply), receiver)
            })
            .unzip();
        self.send(Job::Orders(group))?;
        Ok(receivers)
    }

    /// Sets a hold on leaves.
    ///
    /// # Errors
    /// As [`Desk::order`].
    pub fn hold(
        &self,
        id: String,
        leaves: Vec<Reference>,
        actor: Option<String>,
    ) -> Result<oneshot::Receiver<Result<(), DeskError>>, DeskError> {
        self.with(move |shredder| shredder.hold(&id, &leaves, actor))
    }

    /// Writes the vault for another reason than a shred, at a moment when no shred is open.
    ///
    /// # Errors
    /// As [`Desk::order`].
    pub fn write_vault<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Vault) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, DeskError>>, DeskError> {
        self.with(move |shredder| shredder.write_vault(write))
    }

    /// Returns the cut-off under which a name is closed, milliseconds since 1970; `None` if it is not, or no longer.
    pub(super) fn closed_until(&self, name: &[u8; 32], now_ms: u64) -> Option<u64> {
        let vault = self.vault.lock().unwrap_or_else(PoisonError::into_inner);
        vault.suppression().closed_until(name, now_ms)
    }

    /// Returns the holds.
    pub fn holds(&self) -> Vec<HoldInfo> {
        self.vault.lock().unwrap_or_else(PoisonError::into_inner).holds().collect()
    }

    /// Finishes what is under way and ends the thread.
    pub(super) fn stop(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread that destroys keys had ended early");
        }
    }

    fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Shredder<Door>) -> Result<T, ShredError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, DeskError>>, DeskError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Job::Other(Box::new(move |shredder| {
            // Nobody waits any more if this fails; the vault has been written all the same.
            let _ = reply.send(shredder.and_then(job).map_err(DeskError::Shred));
        })))?;
        Ok(receiver)
    }

    fn send(&self, job: Job) -> Result<(), DeskError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().ok_or(DeskError::Closed)?.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => DeskError::Busy,
            TrySendError::Disconnected(_) => DeskError::Closed,
        })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut shredder: Shredder<Door>, mut second: Second, jobs: &Receiver<Job>, retention: &Retention) {
    let mut looked_ns = None;
    loop {
        match jobs.recv_timeout(TICK) {
            Ok(first) => {
                let mut group = Vec::new();
                for job in std::iter::once(first).chain(jobs.try_iter().take(QUEUE_MAX)) {
                    match job {
                        Job::Orders(orders) => group.extend(orders),
                        Job::Other(job) => {
                            carry_out(&mut shredder, &mut second, std::mem::take(&mut group), retention);
                            job(settle(&mut shredder, &mut second).map(|()| &mut shredder));
                            if let Err(error) = second.note_epoch() {
                                warn(&error, "an index could not note the vault's epoch");
                            }
                        }
                    }
                }
                carry_out(&mut shredder, &mut second, group, retention);
            }
            Err(RecvTimeoutError::Timeout) => {
                if shredder.is_open() || second.is_open() {
                    match settle(&mut shredder, &mut second) {
                        Ok(()) => {
                            tracing::info!("orders to destroy keys were finished");
                            retention.forget();
                        }
                        Err(error) => warn(&error, "an order to destroy keys is still open"),
                    }
                }
                let now_ns = retention.clock.monotonic_ns();
                if retention.automatic && looked_ns.is_none_or(|last| now_ns >= last + RETENTION_PERIOD_NS) {
                    looked_ns = Some(now_ns);
                    expire(&mut shredder, retention);
                    expire_second(&mut second);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
}

/// Finishes what is open in the log of events, then what that means for the access log.
fn settle(shredder: &mut Shredder<Door>, second: &mut Second) -> Result<(), ShredError> {
    shredder.settle()?;
    second.settle()
}

/// Carries orders out in the log of events, then what they mean for the access log.
fn both(
    shredder: &mut Shredder<Door>,
    second: &mut Second,
    orders: Vec<Order>,
) -> Vec<Result<Outcome, ShredError>> {
    let count = orders.len();
    // The first order gets the error itself; the others are told that they wait for the same thing.
    let failed = |error| {
        let rest = std::iter::repeat_with(|| Err(ShredError::Behind)).take(count.saturating_sub(1));
        std::iter::once(Err(error)).chain(rest).collect()
    };
    let ready = settle(shredder, second).and_then(|()| second.prepare(shredder, &orders));
    if let Err(error) = ready {
        return failed(error);
    }
    let expires = orders.iter().any(|order| matches!(order.task, Task::Expire { .. }));
    let outcomes = shredder.run(orders);
    if shredder.is_open() {
        return outcomes;
    }
    if let Err(error) = second.settle() {
        // What was refused for its own reason stays so; the rest is done only when both logs have done it.
        let mut error = Some(error);
        let mut open = || Err(error.take().unwrap_or(ShredError::Behind));
        return outcomes.into_iter().map(|outcome| outcome.and_then(|_| open())).collect();
    }
    if expires {
        expire_second(second);
    }
    outcomes
}

fn expire_second(second: &mut Second) {
    let (shredder, retention) = second.expiry();
    expire(shredder, retention);
    if let Err(error) = second.note_epoch() {
        warn(&error, "an index could not note the vault's epoch");
    }
}

fn carry_out(
    shredder: &mut Shredder<Door>,
    second: &mut Second,
    group: Vec<(Order, Reply<Outcome>)>,
    retention: &Retention,
) {
    if group.is_empty() {
        return;
    }
    let (orders, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
    let outcomes = both(shredder, second, orders);
    if outcomes.iter().flatten().any(|done| done.shredded > 0 && !done.repeated) {
        retention.forget();
    }
    for (outcome, reply) in outcomes.into_iter().zip(replies) {
        match &outcome {
            Ok(done) => tracing::info!(
                request = done.request_id,
                leaves = done.shredded,
                held = done.held.len(),
                epoch = done.epoch,
                "keys destroyed"
            ),
            // What the sender got wrong is for the sender; what the server cannot do is for its operator.
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Damaged) => {
                warn(error, "an order to destroy keys was not carried out");
            }
            Err(error) => tracing::info!(
                error = error as &dyn std::error::Error,
                "an order to destroy keys was refused"
            ),
        }
        // The outcome is in the log and can be asked for again with the same request id.
        let _ = reply.send(outcome.map_err(DeskError::Shred));
    }
}

/// Lets the months expire whose time has come.
fn expire(shredder: &mut Shredder<Door>, retention: &Retention) {
    let now_ms = u64::try_from(retention.clock.wall_ms()).unwrap_or(0);
    match shredder.due(month_of_ms(now_ms)) {
        Ok(periods) if periods.is_empty() => {}
        Ok(periods) => {
            let request_id = format!("retention-{now_ms}");
            let order = Order { request_id, actor: None, task: Task::Expire { periods } };
            let outcomes = shredder.run(vec![order]);
            if outcomes.iter().flatten().any(|done| done.shredded > 0) {
                retention.forget();
            }
            for outcome in outcomes {
                match outcome {
                    Ok(done) => tracing::info!(
                        request = done.request_id,
                        leaves = done.shredded,
                        held = done.held.len(),
                        "months expired"
                    ),
                    Err(error) => warn(&error, "months that are due have not expired"),
                }
            }
        }
        Err(error) => warn(&error, "what is due cannot be told"),
    }
}

fn warn(error: &ShredError, what: &'static str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}
