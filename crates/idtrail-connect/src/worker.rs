//! Drives one sink: carries out what the engine decides, on a task of its own.
//!
//! Every call has a deadline, every queue is bounded, and nothing here decides anything. A sink that hangs, fails or is
//! slow holds up its own worker only; the log and the other sinks do not know of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idtrail_port::{Clock, Disk, Entropy, random};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::closed::{self, Closed};
use crate::engine::{
    Action, Beyond, Circuit, Command, Cursor, DeadLetter, Engine, EngineSettings, Input, LastFailure, Now,
    Opened,
};
use crate::feed::Feed;
use crate::plan::Plan;
use crate::position::Position;
use crate::sink::{Grants, Sink};
use crate::store::{Store, StoreError};
use crate::verdict::Failure;

/// What a worker is made of.
pub struct Parts {
    /// The sink's name, for log lines.
    pub name: String,
    /// Directory of the sink's memory.
    pub dir: PathBuf,
    /// Filter and mapping.
    pub plan: Plan,
    /// The outside system.
    pub sink: Box<dyn Sink>,
    /// The log.
    pub feed: Arc<dyn Feed>,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Longest time that one call to the target may take.
    pub deadline: Duration,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The state of a sink, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SinkStatus {
    /// Whether it delivers.
    pub circuit: Circuit,
    /// Everything before this place is settled: the source may let go of it.
    pub replicated_up_to: Position,
    /// Entries that are settled, over all origins.
    pub settled: u64,
    /// Entries that are not settled.
    pub lag_events: u64,
    /// Time since the newest settled entry was received, or since the start if none ever was, if there are any to come;
    /// milliseconds.
    pub lag_ms: u64,
    /// Rows that the target confirmed.
    pub delivered: u64,
    /// Entries that the filter did not want.
    pub filtered: u64,
    /// Entries that could not be read any more.
    pub erased: u64,
    /// Dead letters.
    pub dead: u64,
    /// Rows of an old origin that the log does not hold any more, after a restore.
    pub beyond: Vec<Beyond>,
    /// The last failure since the last success.
    pub last_failure: Option<LastFailure>,
    /// What the writer may do; `None` until the target was asked.
    pub grants: Option<Grants>,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The worker has ended.
    #[error("sink is not running")]
    Ended,
    /// The target cannot tell rows apart that it has already.
    #[error("target does not recognise rows that it has, so older rows cannot be sent again")]
    NotKeyed,
}

/// Commands that may wait for the disk.
const ANSWERS_MAX: usize = 16;

type Orders = mpsc::Sender<(Command, oneshot::Sender<()>)>;

/// A running worker.
pub struct Worker {
    orders: Orders,
    shared: Arc<Shared>,
    feed: Arc<dyn Feed>,
    clock: Arc<dyn Clock>,
    keyed: bool,
    started_ms: i64,
    plan: Arc<Plan>,
    closed: Arc<Closed>,
    running: Mutex<Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worker(…)")
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: tokio::sync::Notify,
}

#[derive(Debug)]
struct State {
    circuit: Circuit,
    cursor: Cursor,
    dead: Arc<Vec<DeadLetter>>,
    last_failure: Option<LastFailure>,
    grants: Option<Grants>,
    idle: bool,
    replaying_dead: bool,
}

impl Shared {
    fn show(&self, engine: &Engine, dead: Arc<Vec<DeadLetter>>, grants: Option<&Grants>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            circuit: engine.circuit(),
            cursor: engine.cursor().clone(),
            dead,
            last_failure: engine.last_failure().cloned(),
            grants: grants.cloned(),
            idle: engine.is_idle(),
            replaying_dead: engine.is_replaying_dead(),
        };
    }
}

impl Worker {
    /// Opens the sink's memory and starts delivering. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError`]; `Held` if another process runs this sink.
    pub fn start(parts: Parts) -> Result<Self, StoreError> {
        let (store, kept) = Store::open(parts.disk.clone(), &parts.dir)?;
        let limits = parts.sink.limits();
        let settings = EngineSettings::new(limits, u64::from_le_bytes(random(&*parts.entropy)));
        let cursor = kept.cursor.unwrap_or_default();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                circuit: Circuit::Closed,
                cursor: cursor.clone(),
                dead: Arc::new(kept.dead.clone()),
                last_failure: None,
                grants: None,
                idle: false,
                replaying_dead: false,
            }),
            changed: tokio::sync::Notify::new(),
        });
        let (orders, taken) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel();
        let (feed, clock) = (parts.feed.clone(), parts.clock.clone());
        let engine = Engine::new(settings, cursor, kept.dead);
        let Parts { name, dir, plan, sink, disk, deadline, .. } = parts;
        let (plan, closed) = (Arc::new(plan), Arc::new(Closed::load(disk, &dir)?));
        let own = Own { name, plan: plan.clone(), closed: closed.clone(), sink, deadline };
        let task = tokio::spawn(run(
            own,
            feed.clone(),
            clock.clone(),
            engine,
            store,
            shared.clone(),
            taken,
            stopped,
        ));
        let (started_ms, running) = (clock.wall_ms(), Mutex::new(Some((stop, task))));
        Ok(Self { orders, shared, feed, clock, keyed: limits.keyed, started_ms, plan, closed, running })
    }

    /// Returns the state.
    pub fn status(&self) -> SinkStatus {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let lag_events = self.feed.count_from(state.cursor.next);
        let since_ms = if state.cursor.settled_ms > 0 { state.cursor.settled_ms } else { self.started_ms };
        let age_ms = self.clock.wall_ms().saturating_sub(since_ms);
        SinkStatus {
            circuit: state.circuit,
            replicated_up_to: state.cursor.next,
            settled: self.feed.count_from(Position::START).saturating_sub(lag_events),
            lag_events,
            lag_ms: if lag_events == 0 { 0 } else { u64::try_from(age_ms).unwrap_or(0) },
            delivered: state.cursor.counts.delivered,
            filtered: state.cursor.counts.filtered,
            erased: state.cursor.counts.erased,
            dead: state.dead.len() as u64,
            beyond: state.cursor.beyond.clone(),
            last_failure: state.last_failure.clone(),
            grants: state.grants.clone(),
        }
    }

    /// Returns the dead letters.
    pub fn dead_letters(&self) -> Arc<Vec<DeadLetter>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).dead.clone()
    }

    /// Gives a command and waits until the engine took it and, where it changed the cursor, until that is on disk: an
    /// answered pause survives a power cut. A command whose answer nobody waited for may have been taken all the same.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn command(&self, command: Command) -> Result<(), CommandError> {
        if matches!(command, Command::ReplayFrom(_)) && !self.keyed {
            return Err(CommandError::NotKeyed);
        }
        let (done, taken) = oneshot::channel();
        self.orders.send((command, done)).await.map_err(|_| CommandError::Ended)?;
        taken.await.map_err(|_| CommandError::Ended)
    }

    /// Closes a person up to `until`: from now on those entries count as erased, whoever replays them, also after a restart.
    /// Returns whether nothing of what was read before can reach the target any more; if not, it is to be asked again.
    ///
    /// # Errors
    /// [`StoreError`]; the target may be left alone then, because a restart could bring the person back.
    pub async fn close(&self, customer_ids: &[String], until: Position) -> Result<bool, StoreError> {
        let references = closed::references(&self.plan.references, customer_ids);
        let all = self.closed.clone();
        let written = tokio::task::spawn_blocking(move || all.close(&references, until)).await;
        match written {
            Ok(written) => written?,
            // The runtime is ending, and the worker with it.
            Err(_) => return Ok(false),
        }
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.cursor.next > until && !state.replaying_dead)
    }

    /// Waits until everything that is durable in the log is settled and saved. Never returns if the sink is stuck.
    pub async fn caught_up(&self) {
        loop {
            let changed = self.shared.changed.notified();
            {
                let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.idle && self.feed.count_from(state.cursor.next) == 0 {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Ends the worker. What is being sent is abandoned; the next start finds out what became of it. Does nothing if it was
    /// ended before.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, task)) = running {
            let _ = stop.send(());
            // A panic of the task has been reported by the runtime already.
            let _ = task.await;
        }
    }
}

/// What the sink's own task is asked to do.
enum Call {
    Open(Cursor),
    Deliver(crate::engine::Batch),
}

enum Told {
    Input(Input),
    Grants(Grants),
}

/// What a worker's task takes with it.
struct Own {
    name: String,
    plan: Arc<Plan>,
    closed: Arc<Closed>,
    sink: Box<dyn Sink>,
    deadline: Duration,
}

async fn run(
    own: Own,
    feed: Arc<dyn Feed>,
    clock: Arc<dyn Clock>,
    mut engine: Engine,
    store: Store,
    shared: Arc<Shared>,
    mut orders: mpsc::Receiver<(Command, oneshot::Sender<()>)>,
    mut stop: oneshot::Receiver<()>,
) {
    let Own { name, plan, closed, sink, deadline } = own;
    let (told, mut heard) = mpsc::channel(16);
    let (calls, called) = mpsc::channel(1);
    let hands = Hands {
        plan,
        closed,
        feed,
        // Uncontended: one save of a kind at a time, and the two kinds may wait for each other.
        store: Arc::new(Mutex::new(store)),
        told: told.clone(),
        calls,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(sink, hands.feed.clone(), called, told, deadline));
    let mut input = Input::Wake;
    let mut dead_shown = None;
    let mut grants: Option<Grants> = None;
    let mut answers: Vec<oneshot::Sender<()>> = Vec::new();
    loop {
        let now = Now { mono_ms: clock.monotonic_ns() / 1_000_000, wall_ms: clock.wall_ms() };
        let before = engine.circuit();
        let dead_changed = matches!(input, Input::DeadSaved(true));
        let actions = engine.step(input, now);
        let circuit = engine.circuit();
        if circuit != before {
            report(&name, circuit, engine.last_failure());
        }
        if dead_changed || dead_shown.is_none() {
            dead_shown = Some(Arc::new(engine.dead_letters().cloned().collect::<Vec<_>>()));
        }
        shared.show(&engine, dead_shown.clone().unwrap_or_default(), grants.as_ref());
        // After the state: whoever closes a person sees a replay before it reads anything.
        for action in actions {
            hands.act(action, &mut tasks);
        }
        shared.changed.notify_waiters();
        // Only now: whoever gave a command and then looks must see what it did. Nobody may be there any more.
        if engine.is_saved() {
            for answer in answers.drain(..) {
                let _ = answer.send(());
            }
        }
        let wake_at = engine.wake_at();
        let sleep = async {
            match wake_at {
                Some(at) => {
                    // At least a millisecond: the clock is read in whole ones.
                    let ms = at.saturating_sub(clock.monotonic_ns() / 1_000_000).max(1);
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                None => std::future::pending().await,
            }
        };
        input = tokio::select! {
            _ = &mut stop => break,
            next = heard.recv() => match next {
                Some(Told::Input(next)) => next,
                Some(Told::Grants(found)) => {
                    warn_of(&name, &found);
                    grants = Some(found);
                    Input::Wake
                }
                None => break,
            },
            // While many wait for the disk, no more are taken.
            Some((command, done)) = orders.recv(), if answers.len() < ANSWERS_MAX => {
                answers.push(done);
                Input::Command(command)
            }
            () = sleep => Input::Wake,
        };
        // Finished tasks are let go of.
        while tasks.try_join_next().is_some() {}
    }
    tasks.shutdown().await;
    hands.leave(engine.cursor().clone()).await;
}

/// Carries out actions.
struct Hands {
    plan: Arc<Plan>,
    closed: Arc<Closed>,
    feed: Arc<dyn Feed>,
    store: Arc<Mutex<Store>>,
    told: mpsc::Sender<Told>,
    calls: mpsc::Sender<Call>,
}

impl Hands {
    fn act(&self, action: Action, tasks: &mut JoinSet<()>) {
        let told = self.told.clone();
        match action {
            Action::Open(cursor) => self.call(Call::Open(cursor)),
            Action::Deliver(batch) => self.call(Call::Deliver(batch)),
            Action::Read { from, entries_max, bytes_max } => {
                let (feed, plan, closed) = (self.feed.clone(), self.plan.clone(), self.closed.clone());
                blocking(tasks, told, move || match feed.read(from, entries_max, bytes_max) {
                    Ok(entries) => {
                        Input::Entries(entries.iter().map(|entry| closed.prepare(&plan, entry)).collect())
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, "the log cannot be read for a sink");
                        Input::ReadFailed
                    }
                });
            }
            Action::ReadOne(at) => {
                let (feed, plan, closed) = (self.feed.clone(), self.plan.clone(), self.closed.clone());
                blocking(tasks, told, move || match feed.read_one(at) {
                    Ok(entry) => Input::EntryRead(entry.map(|entry| closed.prepare(&plan, &entry))),
                    Err(_) => Input::EntryUnread,
                });
            }
            Action::WaitFeed(from) => {
                let feed = self.feed.clone();
                tasks.spawn(async move {
                    feed.wait(from).await;
                    let _ = told.send(Told::Input(Input::FeedMoved)).await;
                });
            }
            Action::SaveCursor(cursor) => {
                let store = self.store.clone();
                blocking(tasks, told, move || {
                    let store = store.lock().unwrap_or_else(PoisonError::into_inner);
                    Input::CursorSaved(saved(store.save_cursor(&cursor)))
                });
            }
            Action::SaveDead(changes) => {
                let store = self.store.clone();
                blocking(tasks, told, move || {
                    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                    Input::DeadSaved(saved(store.save_dead(&changes)))
                });
            }
        }
    }

    /// Keeps the cursor at an orderly end, or the next start would have settled once more what is settled.
    async fn leave(&self, cursor: Cursor) {
        let store = self.store.clone();
        let save = move || saved(store.lock().unwrap_or_else(PoisonError::into_inner).save_cursor(&cursor));
        // What went wrong is in the process' log.
        let _ = tokio::task::spawn_blocking(save).await;
    }

    fn call(&self, call: Call) {
        // The engine makes one call at a time, so there is room.
        if self.calls.try_send(call).is_err() {
            tracing::error!("a sink was called while it was busy");
        }
    }
}

fn saved(result: Result<(), StoreError>) -> bool {
    if let Err(error) = &result {
        tracing::error!(error = %error, "a sink's memory cannot be written");
    }
    result.is_ok()
}

fn blocking(
    tasks: &mut JoinSet<()>,
    told: mpsc::Sender<Told>,
    work: impl FnOnce() -> Input + Send + 'static,
) {
    tasks.spawn_blocking(move || {
        // Fails only when the worker has ended.
        let _ = told.blocking_send(Told::Input(work()));
    });
}

/// Owns the sink and makes its calls one after another.
async fn serve(
    mut sink: Box<dyn Sink>,
    feed: Arc<dyn Feed>,
    mut calls: mpsc::Receiver<Call>,
    told: mpsc::Sender<Told>,
    deadline: Duration,
) {
    let mut asked = false;
    while let Some(call) = calls.recv().await {
        let input = match call {
            Call::Open(cursor) => match tokio::time::timeout(deadline, sink.open(&cursor)).await {
                Ok(Ok(opened)) => {
                    if !asked {
                        let grants = match tokio::time::timeout(deadline, sink.grants()).await {
                            Ok(Ok(grants)) => {
                                asked = true;
                                grants
                            }
                            // Asked again when the session is opened the next time.
                            Ok(Err(failure)) => Grants::Unknown { reason: failure.code.to_owned() },
                            Err(_) => Grants::Unknown { reason: "timeout".to_owned() },
                        };
                        let _ = told.send(Told::Grants(grants)).await;
                    }
                    let beyond = beyond(&mut *sink, &*feed, &cursor, &opened, deadline).await;
                    Input::Opened(opened, beyond)
                }
                Ok(Err(failure)) => Input::OpenFailed(failure),
                Err(_) => Input::OpenFailed(Failure::timeout()),
            },
            Call::Deliver(batch) => match tokio::time::timeout(deadline, sink.deliver(&batch)).await {
                Ok(Ok(ack)) => Input::Delivered(ack),
                Ok(Err(failure)) => Input::DeliverFailed(failure),
                Err(_) => Input::DeliverFailed(Failure::timeout()),
            },
        };
        if told.send(Told::Input(input)).await.is_err() {
            return;
        }
    }
}

/// Looks whether the target has rows that the log lost, and has them counted.
async fn beyond(
    sink: &mut dyn Sink,
    feed: &dyn Feed,
    cursor: &Cursor,
    opened: &Opened,
    deadline: Duration,
) -> Option<Beyond> {
    // A target that cannot be asked has what was settled.
    let settled = cursor.next.seq.checked_sub(1).map(|seq| Position { seq, ..cursor.next });
    let newest = opened.high_water.or(settled)?;
    let survived = feed.survived(newest)?;
    let rows = match tokio::time::timeout(deadline, sink.count(survived, newest)).await {
        Ok(Ok(rows)) => rows,
        // Known at most, then; counting is no reason not to deliver.
        Ok(Err(_)) | Err(_) => None,
    };
    Some(Beyond { survived, newest, rows })
}

fn report(name: &str, circuit: Circuit, failure: Option<&LastFailure>) {
    let code = failure.map_or("-", |failure| failure.code);
    let status = failure.map_or("-", |failure| failure.status.as_str());
    match circuit {
        Circuit::Stopped => tracing::error!(sink = name, code, status, "sink stopped, a person must act"),
        Circuit::Open => tracing::warn!(sink = name, code, status, "sink fails again and again"),
        Circuit::Retrying => tracing::info!(sink = name, code, status, "sink failed, trying again"),
        Circuit::Closed | Circuit::Paused => tracing::info!(sink = name, ?circuit, "sink changed its state"),
    }
}

fn warn_of(name: &str, grants: &Grants) {
    match grants {
        Grants::AppendOnly => tracing::info!(sink = name, "the writer can append only"),
        Grants::Excess { can } => {
            tracing::warn!(
                sink = name,
                can = can.join(" "),
                "the writer can do more than append: take it away"
            );
        }
        Grants::Unknown { reason } => {
            // Files and receivers cannot be asked at all; whoever looks at the state sees the reason.
            tracing::info!(sink = name, reason, "the target does not say what the writer may do");
        }
    }
}
