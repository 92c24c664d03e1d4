//! Requests of data subjects, driven: steps go into the log, effects happen, time passes.
//!
//! One thread does it, one request after another. A step is a leaf that the log takes once; only after it is durable does
//! the request go on. At the start every request is folded anew from its leaves. What its leaves must not say stands in a
//! sealed record ([`record`]).
//!
//! What it must never do: change a request other than by a step in the log, or write the vault other than through
//! [`super::shred::Desk`].

pub(crate) mod answer;
pub(crate) mod delivery;
pub(crate) mod erased;
pub(crate) mod opening;
mod parked;
mod person;
mod ports;
mod reassert;
pub(crate) mod record;
pub(crate) mod rectify;
mod sinks;
mod stragglers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use idtrail_event::{GlobalCustomerId, Leaf, TypeCode};
use idtrail_identity::assertion::Subject;
use idtrail_index::IndexError;
use idtrail_index::rights::Once;
use idtrail_index::seal::OpenError;
use idtrail_index::trail::Refusal as LogRefusal;
use idtrail_log::commit::Answer as LogAnswer;
use idtrail_log::{LogError, Reference};
use idtrail_rights::records::Records as Processing;
use idtrail_rights::{
    Action, Answer, Call, Case, Code, Command, Effect, Engine as Machine, Entry, Failure, Input, Kind,
    Principal, Refusal, RequestId, RetrySchedule, RightsError, Settings as Rules, State, SubjectRef, Task,
    Zone, waits_for_access,
};
use idtrail_tlog::{LogIndex, TreeSize};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::parked::Parked;
use self::record::{Part, Record, RecordError, Records};
use self::rectify::{Correction, Wrong};
use self::stragglers::{Late, cutoff, is_late, untold};
use super::Engine;
use super::shred::{DeskError, LOG_PATIENCE};
use crate::settings::Settings;
use crate::sinks::Sinks;

const QUEUE_MAX: usize = 256;
/// How often the thread looks whether it is time for something.
const TICK: Duration = Duration::from_millis(250);
/// How long a request waits after the log or the disk failed, milliseconds.
const PAUSE_MS: u64 = 5_000;

/// Why something could not be done for a request, now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the log could not be read or written")]
    Log(#[from] LogError),
    #[error("the index could not be read")]
    Index(#[from] IndexError),
    #[error("a leaf could not be opened")]
    Open(#[from] OpenError),
    #[error("the index has not caught up with the log")]
    Behind,
    #[error("another step stands in the place of this one")]
    Taken,
    #[error("the log does not take the leaf")]
    Refused,
    #[error("the leaf is too long")]
    TooLong,
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the request has no sealed record")]
    NoRecord,
    #[error(transparent)]
    Rights(#[from] RightsError),
    #[error(transparent)]
    Desk(#[from] DeskError),
    #[error("the thread that destroys keys does not answer")]
    NoAnswer,
    #[error("the quarantine could not be changed")]
    Quarantine(#[from] super::quarantined::DiscardError),
    #[error("nothing was destroyed, because everything is held")]
    NothingDestroyed,
    #[error("the package could not be made")]
    Package,
    #[error("something could not be signed")]
    Sign(#[from] idtrail_verify::SignError),
}

/// Why a request did not take what somebody said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SayError {
    /// There is no such request.
    #[error("there is no such request")]
    Unknown,
    /// The request refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What is to be corrected cannot be.
    #[error(transparent)]
    Correction(#[from] Wrong),
    /// It cannot be done now.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// Too much waits, or the server is being stopped, or the requests are not read yet.
    #[error("the requests cannot be reached now")]
    Unavailable,
}

/// What a request begins with.
pub(crate) struct New {
    pub(crate) kind: Kind,
    pub(crate) regime: Code,
    pub(crate) manner: Code,
    pub(crate) received_ms: u64,
    pub(crate) subjects: Vec<Subject>,
    /// What is to be corrected, if that is asked for.
    pub(crate) corrections: Vec<Correction>,
    pub(crate) by: Option<Principal>,
}

/// A step with its place in the log.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) entry: Entry,
    pub(crate) place: Reference,
}

/// A request under way.
#[derive(Debug)]
struct Live {
    machine: Machine,
    steps: Vec<Logged>,
    wake_ms: u64,
}

#[derive(Debug, Default)]
struct Book {
    loaded: bool,
    cases: BTreeMap<RequestId, Live>,
    records: BTreeMap<(RequestId, Part), (u64, Record)>,
    /// Late events that erasures are to be told of.
    late: Late,
}

type Job = Box<dyn FnOnce(&Shared) + Send>;

pub(crate) struct Shared {
    engine: Arc<Engine>,
    sinks: Arc<Sinks>,
    rules: Rules,
    /// How long copies of the vault may last after a shred, milliseconds.
    copies_ms: u64,
    store: Records,
    /// The records of processing (Art. 30), if they are configured.
    processing: Option<Processing>,
    /// Where calls to other systems are made.
    runtime: Handle,
    book: Mutex<Book>,
    /// Destructions of keys that are to go together.
    parked: Mutex<Parked>,
}

/// The requests of an installation.
pub struct Rights {
    shared: Arc<Shared>,
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rights").finish_non_exhaustive()
    }
}

/// Why requests could not be taken up.
#[derive(Debug, thiserror::Error)]
#[error("the requests of data subjects cannot be taken up")]
pub struct RightsStartError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Rights {
    /// Starts the thread, which reads the requests from the log first.
    ///
    /// # Errors
    /// If the records or a thread cannot be had.
    pub fn start(
        engine: &Arc<Engine>,
        sinks: &Arc<Sinks>,
        settings: &Settings,
    ) -> Result<Arc<Self>, RightsStartError> {
        let ports = engine.ports();
        let (disk, entropy) = (Arc::clone(&ports.disk), Arc::clone(&ports.entropy));
        let dir = settings.data_dir.join("rights");
        let store = Records::open(disk, entropy, dir, engine.rights_keys().clone())
            .map_err(|error| RightsStartError(Box::new(error)))?;
        let of = &settings.rights;
        let standard = Rules::default();
        let rules = Rules {
            grace_ms: of.grace_ms,
            link_ms: of.link_ms,
            fetches_max: of.link_fetches,
            retry: RetrySchedule { base_ms: of.retry_ms, ..standard.retry },
            zone: Zone::parse(&of.zone).map_err(|error| RightsStartError(Box::new(error)))?,
            calendar: match &of.calendar {
                Some(path) => delivery::of_file(&*ports.disk, path)?,
                None => standard.calendar,
            },
            ..standard
        };
        let processing =
            of.records.as_ref().map(|path| delivery::processing(&*ports.disk, path)).transpose()?;
        let shared = Arc::new(Shared {
            engine: Arc::clone(engine),
            sinks: Arc::clone(sinks),
            rules,
            copies_ms: of.copies_ms,
            store,
            processing,
            runtime: Handle::try_current().map_err(|error| RightsStartError(Box::new(error)))?,
            book: Mutex::default(),
            parked: Mutex::default(),
        });
        let (sender, jobs) = sync_channel(QUEUE_MAX);
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("rights".to_owned())
            .spawn(move || worker.run(&jobs))
            .map_err(|error| RightsStartError(Box::new(error)))?;
        Ok(Arc::new(Self { shared, jobs: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) }))
    }

    /// Finishes what is under way and ends the thread. May wait for the disk.
    pub fn stop(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread of requests of data subjects had ended early");
        }
    }

    /// Opens a request, or attaches to the open one of the same kind for the same person; tells which.
    pub(crate) async fn open(&self, new: New) -> Result<(RequestId, bool), SayError> {
        self.ask(move |shared| shared.open(new)).await?
    }

    /// Says something to a request; returns when it is durable.
    pub(crate) async fn say(
        &self,
        request: RequestId,
        by: Option<Principal>,
        command: Command,
    ) -> Result<(), SayError> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |shared| {
            let mut reply = Some(reply);
            shared.drive(&request, Input::Said(by, command), &mut |outcome| {
                if let Some(reply) = reply.take() {
                    // Nobody listens any more if this fails; the step stands all the same.
                    let _ = reply.send(outcome);
                }
            });
        }))?;
        answer.await.map_err(|_| SayError::Unavailable)?
    }

    /// Reads requests as they stand.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&mut dyn Iterator<Item = (&Case, &[Logged])>, &Rules) -> T,
    ) -> Result<T, SayError> {
        let book = self.shared.book();
        if !book.loaded {
            return Err(SayError::Unavailable);
        }
        let mut cases = book.cases.values().map(|live| (live.machine.case(), live.steps.as_slice()));
        Ok(read(&mut cases, &self.shared.rules))
    }

    /// Returns the file of a request's certificate, the newest one or one by its number from 1.
    pub(crate) fn certificate(
        &self,
        request: &RequestId,
        pass: Option<u32>,
    ) -> Result<Option<Vec<u8>>, SayError> {
        self.shared.certificate(request, pass).map_err(SayError::from)
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, SayError> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |shared| {
            let _ = reply.send(job(shared));
        }))?;
        answer.await.map_err(|_| SayError::Unavailable)
    }

    fn send(&self, job: Job) -> Result<(), SayError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().ok_or(SayError::Unavailable)?.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => SayError::Unavailable,
        })
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.engine.now_ms()
    }

    fn run(&self, jobs: &Receiver<Job>) {
        loop {
            match self.load() {
                Ok(()) => break,
                Err(error) => warn(&error, "the requests of data subjects cannot be read; trying again"),
            }
            match jobs.recv_timeout(Duration::from_millis(PAUSE_MS)) {
                Err(RecvTimeoutError::Disconnected) => return,
                // Whoever asked is told that the requests cannot be reached: the job is dropped.
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        loop {
            match jobs.recv_timeout(self.patience()) {
                Ok(job) => job(self),
                Err(RecvTimeoutError::Timeout) => self.release_parked(),
                // What is parked has its intent in the log; the next process goes on with it.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.is_full() {
                self.release_parked();
            }
            self.open_due();
            self.tell_stragglers();
            let now_ms = self.now_ms();
            let due: Vec<RequestId> = {
                let book = self.book();
                book.cases
                    .iter()
                    .filter(|(_, live)| live.wake_ms <= now_ms)
                    .map(|(id, _)| id.clone())
                    .collect()
            };
            for request in due {
                self.drive(&request, Input::Tick, &mut |_| {});
            }
        }
    }

    /// Folds every request from the leaves of all logs.
    fn load(&self) -> Result<(), Trouble> {
        let mut steps: BTreeMap<RequestId, Vec<Logged>> = BTreeMap::new();
        let mut late = Late::new();
        for log in self.engine.logs() {
            let size = log.reader.size();
            if log.ordinal == self.engine.ordinal() {
                // Those are counted here.
                self.engine.stragglers().take(size);
            }
            for index in (0..size.get()).map(LogIndex::new) {
                let bytes = log.reader.entry(index)?;
                let leaf = Leaf::parse(&bytes).map_err(OpenError::Leaf)?;
                let is_late = is_late(&leaf);
                if !is_late && !leaf.header().event_type.is_rights_step() {
                    continue;
                }
                let open = match log.open_leaf(index, &bytes) {
                    Ok(disclosed) => disclosed.leaf,
                    // Its time is over.
                    Err(OpenError::Key(_)) => continue,
                    Err(error) => return Err(error.into()),
                };
                if is_late {
                    late.extend(
                        cutoff(&open).map(|cutoff_ms| (cutoff_ms, 1 + late.get(&cutoff_ms).unwrap_or(&0))),
                    );
                    continue;
                }
                let entry = Entry::from_json(open.body.get("auditEvent").unwrap_or(&Value::Null))?;
                let place = Reference { origin: log.ordinal, index };
                steps.entry(entry.request.clone()).or_default().push(Logged { entry, place });
            }
        }
        let mut book = Book { loaded: true, ..Book::default() };
        for (request, mut steps) in steps {
            steps.sort_by_key(|logged| logged.entry.sequence);
            match Machine::resume(steps.iter().map(|logged| &logged.entry)) {
                Ok(machine) => {
                    book.cases.insert(request, Live { machine, steps, wake_ms: 0 });
                }
                // Steps of one month expire together, so the first ones go first.
                Err(
                    RightsError::Sequence { expected: 0, .. } | RightsError::Transition { state: "none", .. },
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (number, record) in self.store.read_all()? {
            let Ok(request) = RequestId::parse(&record.request) else { continue };
            book.records.insert((request, record.part), (number, record));
        }
        book.late = untold(late, &book);
        tracing::info!(requests = book.cases.len(), "requests of data subjects were read from the log");
        *self.book() = book;
        Ok(())
    }

    /// Gives a request an input and does what follows, until there is nothing more to do now.
    fn drive(&self, request: &RequestId, first: Input, reply: &mut dyn FnMut(Result<(), SayError>)) {
        let mut told = false;
        let mut tell = |outcome| {
            // What follows is of no concern to whoever said something: their step is durable.
            if !std::mem::replace(&mut told, true) {
                reply(outcome);
            }
        };
        let mut inputs = VecDeque::from([first]);
        while let Some(input) = inputs.pop_front() {
            let now_ms = self.now_ms();
            let rules = self.rules_for(request, now_ms);
            let is_said = matches!(&input, Input::Appended(entry) if entry.actor.is_some());
            let stepped = {
                let mut book = self.book();
                let Some(live) = book.cases.get_mut(request) else {
                    return tell(Err(SayError::Unknown));
                };
                live.wake_ms = u64::MAX;
                let stepped = live.machine.step(input, now_ms, &rules);
                stepped.map(|actions| (actions, subject_of(live.machine.case().received.subject_ref)))
            };
            let (actions, subject) = match stepped {
                Ok(stepped) => stepped,
                Err(refusal) => {
                    // A refusal changes nothing; what was to come next is looked for again.
                    self.wake_at(
                        request,
                        if refusal == Refusal::Busy { now_ms + PAUSE_MS } else { now_ms + 1 },
                    );
                    return tell(Err(refusal.into()));
                }
            };
            if is_said {
                tell(Ok(()));
            }
            for action in actions {
                match action {
                    Action::Append(entry) => match self.append(&entry, subject) {
                        Ok(place) => {
                            self.took(request, &entry, place);
                            inputs.push_front(Input::Appended(*entry));
                        }
                        Err(error) => {
                            self.stalled(request, &error);
                            return tell(Err(error.into()));
                        }
                    },
                    Action::Call(call) if is_shred(&call) => {
                        if let Err(error) = self.park(request, call.effect_id) {
                            warn(&error, "keys could not be destroyed yet; it is tried again");
                            let failed = Answer::Failed(Failure::NotDone, None);
                            inputs.push_back(Input::Answered(call.effect_id, failed));
                        }
                    }
                    Action::Call(call) => {
                        let answer = self.carry_out(request, &call).unwrap_or_else(|error| {
                            warn(&error, "an effect of a request did not succeed; it is tried again");
                            Answer::Failed(Failure::NotDone, None)
                        });
                        inputs.push_back(Input::Answered(call.effect_id, answer));
                    }
                    Action::WakeAt(at_ms) => self.wake_at(request, at_ms),
                }
            }
        }
        tell(Ok(()));
        self.forget_ended(request);
    }

    /// Returns the rules for a request: an erasure does not begin while the person waits for a copy of their data, since it
    /// would find nothing afterwards.
    fn rules_for(&self, request: &RequestId, now_ms: u64) -> Rules {
        let book = self.book();
        let case = book.cases.get(request).map(|live| live.machine.case());
        let cases = || book.cases.values().map(|live| live.machine.case());
        let waits = case.is_some_and(|case| case.state == State::Approved && waits_for_access(cases(), case));
        let mut rules = self.rules.clone();
        if let Some(case) = case.filter(|_| waits) {
            let look_again_ms = now_ms.saturating_add(PAUSE_MS);
            rules.grace_ms = rules.grace_ms.max(look_again_ms.saturating_sub(case.approved_ms));
        }
        rules
    }

    /// Destroys the record of a request that ended without having been carried out.
    fn forget_ended(&self, request: &RequestId) {
        let ended = self
            .case(request)
            .is_some_and(|(case, _)| matches!(case.state, State::Denied | State::Withdrawn | State::Expired));
        for part in [Part::Package, Part::Person] {
            if ended
                && self.record(request, part).is_some()
                && let Err(error) = self.destroy(request, part)
            {
                warn(&error, "the record of a request that has ended could not be destroyed");
                self.wake_at(request, self.now_ms() + PAUSE_MS);
            }
        }
    }

    fn stalled(&self, request: &RequestId, error: &Trouble) {
        warn(error, "a step of a request could not be written");
        if matches!(error, Trouble::Taken) {
            // The log knows more than this process: begin again with what stands there.
            if let Err(error) = self.load() {
                warn(&error, "the requests of data subjects cannot be read anew");
            }
        }
        self.wake_at(request, self.now_ms() + PAUSE_MS);
    }

    fn wake_at(&self, request: &RequestId, at_ms: u64) {
        if let Some(live) = self.book().cases.get_mut(request) {
            live.wake_ms = at_ms;
        }
    }

    fn took(&self, request: &RequestId, entry: &Entry, place: Reference) {
        if let Some(live) = self.book().cases.get_mut(request) {
            live.steps.push(Logged { entry: entry.clone(), place });
        }
    }

    /// Writes a step; returns when it is durable and the index knows it.
    fn append(&self, entry: &Entry, subject: GlobalCustomerId) -> Result<Reference, Trouble> {
        let Value::Object(event) = entry.to_json()? else { return Err(RightsError::Json.into()) };
        let event_type = TypeCode::by_name(entry.step.name()).ok_or(RightsError::Json)?;
        let append_key = *entry.append_key().as_bytes();
        let actor = entry.actor.as_ref().map(ToString::to_string);
        self.once(Once { event_type, event, append_key, subject, actor })
    }

    fn once(&self, once: Once) -> Result<Reference, Trouble> {
        let command = once.command(self.engine.hasher()).ok_or(Trouble::TooLong)?;
        let (sender, receiver) = sync_channel(1);
        // The receiver has given up if this fails; the leaf is in the log all the same and found there later.
        self.engine.log().submit(command, Box::new(move |outcome| drop(sender.send(outcome))))?;
        let index = match receiver.recv_timeout(LOG_PATIENCE).map_err(|_| LogError::Stopped)?? {
            LogAnswer::Appended { first, .. } => first,
            LogAnswer::Existing(index) => index,
            LogAnswer::Refused(LogRefusal::Earlier(place)) => return Ok(place),
            LogAnswer::Refused(LogRefusal::Conflict(_)) => return Err(Trouble::Taken),
            LogAnswer::Refused(LogRefusal::Erased | LogRefusal::ErasedConflict) => {
                return Err(Trouble::Refused);
            }
            LogAnswer::Refused(LogRefusal::Unavailable) => return Err(Trouble::Behind),
        };
        if !self.engine.log().applied().wait(TreeSize::new(index.get() + 1), LOG_PATIENCE) {
            return Err(Trouble::Behind);
        }
        Ok(Reference { origin: self.engine.ordinal(), index })
    }

    /// Writes a record and keeps it at hand.
    fn keep(&self, number: u64, record: Record) -> Result<(), Trouble> {
        self.store.write(number, &record)?;
        let request = RequestId::parse(&record.request)?;
        let key = (request, record.part);
        self.book().records.insert(key, (number, record));
        Ok(())
    }

    fn record(&self, request: &RequestId, part: Part) -> Option<(u64, Record)> {
        self.book().records.get(&(request.clone(), part)).cloned()
    }

    fn person(&self, request: &RequestId) -> Result<(u64, Record), Trouble> {
        self.record(request, Part::Person).ok_or(Trouble::NoRecord)
    }

    fn case(&self, request: &RequestId) -> Option<(Case, Vec<Logged>)> {
        let book = self.book();
        let live = book.cases.get(request)?;
        Some((live.machine.case().clone(), live.steps.clone()))
    }
}

/// Returns the made-up customer under whom the index keeps a request's leaves: the bytes of its random reference.
pub(crate) fn subject_of(reference: SubjectRef) -> GlobalCustomerId {
    let text = reference.to_string();
    let bytes = text.strip_prefix("sr_").and_then(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).ok());
    GlobalCustomerId::new(bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default())
}

/// Tells whether a call destroys a person's keys: those of several requests go together.
fn is_shred(call: &Call) -> bool {
    matches!((&call.task, call.effect), (Task::Request, Effect::Shred))
}

fn warn(error: &Trouble, what: &'static str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}
