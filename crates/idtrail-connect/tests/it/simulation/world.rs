//! A log, an engine, a disk and a target on simulated time.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::Path;
use std::sync::Arc;

use idtrail_connect::engine::{
    Action, Batch, Circuit, Command, Counts, Cursor, Engine, EngineSettings, Input, Limits, Now, Wanted,
    balance,
};
use idtrail_connect::personal::{Erase, Pii};
use idtrail_connect::store::Store;
use idtrail_connect::{Failure, FeedEntry, Plan, Position, Status};
use idtrail_sim::{Rng, Seed, SimDisk};

use super::target::{Kind, Target};
use crate::support::{event, plan, samples};

/// What happens in a run.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Events of the log.
    pub(crate) events: u64,
    /// Index from which on the events stand in a second origin.
    pub(crate) second_origin_at: Option<u64>,
    pub(crate) poison: Vec<u64>,
    pub(crate) names_rows: bool,
    /// Chances in a thousand deliveries.
    pub(crate) fault_rate: u64,
    /// Chances in ten thousand steps.
    pub(crate) crash_rate: u64,
    /// From when on for how long the target cannot be reached.
    pub(crate) outage_ms: Option<(u64, u64)>,
    /// Likewise, but it refuses the credentials.
    pub(crate) stop_ms: Option<(u64, u64)>,
    /// Entries that are erased while the run goes on.
    pub(crate) erasures: u64,
    pub(crate) rows_max: usize,
    pub(crate) linger_ms: u64,
}

impl Script {
    pub(crate) fn quiet() -> Self {
        Self {
            events: 500,
            second_origin_at: None,
            poison: Vec::new(),
            names_rows: false,
            fault_rate: 0,
            crash_rate: 0,
            outage_ms: None,
            stop_ms: None,
            erasures: 0,
            rows_max: 100,
            linger_ms: 0,
        }
    }

    pub(crate) fn random(seed: u64, kind: Kind) -> Self {
        let mut rng = Seed::new(seed).derive("script").rng();
        let events = rng.range(1..600);
        Self {
            events,
            second_origin_at: rng.chance(1, 2).then(|| rng.below(events)),
            poison: (0..rng.below(8)).map(|_| rng.below(events)).collect(),
            names_rows: rng.chance(1, 2),
            fault_rate: rng.below(500),
            crash_rate: rng.below(300),
            outage_ms: rng.chance(1, 3).then(|| (rng.below(3000), rng.below(3_600_000))),
            stop_ms: (kind != Kind::Ids && rng.chance(1, 5)).then(|| (rng.below(3000), rng.below(600_000))),
            erasures: rng.below(30),
            rows_max: usize::try_from(rng.range(1..120)).unwrap(),
            linger_ms: if rng.chance(1, 2) { 0 } else { rng.below(300) },
        }
    }
}

enum Happening {
    Result(u64, Input),
    Arrives(Batch, u64),
    Opens(Cursor, u64),
    Grow,
    Erase,
}

struct Due(u64, u64, Happening);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

pub(crate) struct World {
    kind: Kind,
    script: Script,
    seed: u64,
    rng: Rng,
    now_ms: u64,
    due: BinaryHeap<Due>,
    counter: u64,
    plan: Plan,
    log: Vec<FeedEntry>,
    durable: usize,
    disk: SimDisk,
    store: Option<Store>,
    engine: Engine,
    /// Results for an engine that is gone are not delivered.
    life: u64,
    waiting: Option<Position>,
    target: Target,
    circuits: Vec<Circuit>,
    pub(crate) longest_queue_bytes: usize,
    pub(crate) failed_attempts: u64,
    pub(crate) trace: Vec<String>,
}

const DIR: &str = "/sinks/simulated";

impl World {
    pub(crate) fn new(seed: u64, kind: Kind, script: Script) -> Self {
        let rng = Seed::new(seed).derive("world").rng();
        let split = script.second_origin_at.unwrap_or(script.events);
        let mut log = samples(0, 0..split);
        log.extend(samples(1, 0..script.events - split));
        // Some entries are no events of a customer: the filter does not want them.
        for at in (0..log.len()).filter(|at| at % 11 == 5) {
            log[at] = FeedEntry::opened(event(log[at].position, serde_json::json!({"native": {}})));
        }
        let disk = SimDisk::new(Seed::new(seed));
        let (store, _) = Store::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap();
        let mut target = Target::new(kind);
        target.poison = script.poison.iter().copied().collect();
        target.names_rows = script.names_rows;
        target.fault_rate = script.fault_rate;
        let engine = Engine::new(settings(kind, &script, seed), Cursor::default(), Vec::new());
        let mut world = Self {
            kind,
            seed,
            rng,
            now_ms: 0,
            due: BinaryHeap::new(),
            counter: 0,
            plan: plan("{{auditEvent}} != null", Pii::None, Erase::Delete),
            log,
            durable: 0,
            disk,
            store: Some(store),
            engine,
            life: 0,
            waiting: None,
            target,
            circuits: Vec::new(),
            longest_queue_bytes: 0,
            failed_attempts: 0,
            trace: Vec::new(),
            script,
        };
        world.at(0, Happening::Grow);
        for _ in 0..world.script.erasures {
            let when = world.rng.below(60_000);
            world.at(when, Happening::Erase);
        }
        world.input(Input::Wake);
        world
    }

    fn at(&mut self, delay_ms: u64, what: Happening) {
        self.counter += 1;
        self.due.push(Due(self.now_ms + delay_ms, self.counter, what));
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: 1_800_000_000_000 + i64::try_from(self.now_ms).unwrap() }
    }

    fn input(&mut self, input: Input) {
        let actions = self.engine.step(input, self.now());
        self.circuits.push(self.engine.circuit());
        self.circuits.dedup();
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        let life = self.life;
        let latency_ms = 1 + self.rng.below(20);
        match action {
            Action::Open(cursor) => self.at(latency_ms, Happening::Opens(cursor, life)),
            Action::Read { from, entries_max, .. } => {
                let all = &self.log[..self.durable];
                let start = all.partition_point(|entry| entry.position < from);
                let found =
                    all[start..].iter().take(entries_max).map(|entry| self.plan.prepare(entry)).collect();
                self.at(latency_ms, Happening::Result(life, Input::Entries(found)));
            }
            Action::WaitFeed(from) => {
                self.waiting = Some(from);
                self.tell_waiting();
            }
            Action::Deliver(batch) => {
                self.trace.push(format!("{} {}..{}", self.now_ms, batch.first(), batch.last()));
                let bytes = batch.rows.iter().map(|row| row.bytes()).sum();
                self.longest_queue_bytes = self.longest_queue_bytes.max(bytes);
                self.at(latency_ms, Happening::Arrives(batch, life));
            }
            Action::SaveCursor(cursor) => {
                let saved = self.store.as_ref().unwrap().save_cursor(&cursor).is_ok();
                self.at(1, Happening::Result(life, Input::CursorSaved(saved)));
            }
            Action::SaveDead(changes) => {
                let saved = self.store.as_mut().unwrap().save_dead(&changes).is_ok();
                self.at(1, Happening::Result(life, Input::DeadSaved(saved)));
            }
            Action::ReadOne(at) => {
                let found =
                    self.log.iter().find(|entry| entry.position == at).map(|entry| self.plan.prepare(entry));
                self.at(latency_ms, Happening::Result(life, Input::EntryRead(found)));
            }
        }
    }

    fn tell_waiting(&mut self) {
        let there =
            |from: &Position| self.log[..self.durable].last().is_some_and(|last| last.position >= *from);
        if self.waiting.as_ref().is_some_and(there) {
            self.waiting = None;
            self.at(0, Happening::Result(self.life, Input::FeedMoved));
        }
    }

    fn unreachable(&self) -> Option<Failure> {
        let within = |window: Option<(u64, u64)>| {
            window.is_some_and(|(from, length)| (from..from + length).contains(&self.now_ms))
        };
        if within(self.script.outage_ms) {
            return Some(Failure::reopen("unreachable", Status::none()));
        }
        within(self.script.stop_ms).then(|| Failure::stop("denied", Status::new("403")))
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Result(life, input) if life == self.life => self.input(input),
            Happening::Opens(cursor, life) if life == self.life => {
                let result = match self.unreachable() {
                    Some(failure) => Err(failure),
                    None => self.target.open(&cursor),
                };
                match result {
                    Ok(opened) => self.input(Input::Opened(opened, None)),
                    Err(failure) => {
                        self.failed_attempts += 1;
                        self.input(Input::OpenFailed(failure));
                    }
                }
            }
            Happening::Arrives(batch, life) if life == self.life => {
                let result = match self.unreachable() {
                    Some(failure) => Err(failure),
                    None => self.target.deliver(&batch, &mut self.rng),
                };
                match result {
                    Ok(ack) => self.input(Input::Delivered(ack)),
                    Err(failure) => {
                        self.failed_attempts += 1;
                        self.input(Input::DeliverFailed(failure));
                    }
                }
            }
            Happening::Grow => {
                let step = usize::try_from(1 + self.rng.below(40)).unwrap();
                self.durable = (self.durable + step).min(self.log.len());
                self.tell_waiting();
                if self.durable < self.log.len() {
                    let pause = self.rng.below(100);
                    self.at(pause, Happening::Grow);
                }
            }
            Happening::Erase => {
                let at = self.rng.index(self.log.len());
                self.log[at] = FeedEntry::erased(self.log[at].position);
            }
            _ => {}
        }
    }

    /// Takes the next thing that is due; false if nothing will ever happen again.
    fn turn(&mut self, until_ms: u64) -> bool {
        let wake = self.engine.wake_at().map(|at| at.max(self.now_ms + 1));
        let next = self.due.peek().map(|due| due.0);
        let Some(at) = [wake, next].into_iter().flatten().min().filter(|at| *at <= until_ms) else {
            return false;
        };
        self.now_ms = at;
        if next == Some(at) {
            let Due(.., what) = self.due.pop().unwrap();
            if self.rng.chance(self.script.crash_rate, 10_000) {
                if let Happening::Arrives(batch, _) = &what
                    && self.unreachable().is_none()
                {
                    self.target.deliver_unheard(batch, &mut self.rng);
                }
                self.restart();
            }
            self.happen(what);
        } else {
            self.input(Input::Wake);
        }
        true
    }

    pub(crate) fn restart(&mut self) {
        self.life += 1;
        self.waiting = None;
        self.store = None;
        self.disk.crash(&mut self.rng);
        let (store, kept) = Store::open(Arc::new(self.disk.clone()), Path::new(DIR)).unwrap();
        self.store = Some(store);
        let seed = self.seed + self.life;
        self.engine =
            Engine::new(settings(self.kind, &self.script, seed), kept.cursor.unwrap_or_default(), kept.dead);
        self.input(Input::Wake);
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.turn(until) {}
        self.now_ms = until;
    }

    pub(crate) fn run(&mut self) {
        let mut turns = 0_u64;
        loop {
            let head = self.log.last().map_or(Position::START, |last| last.position.next());
            let finished = self.durable == self.log.len()
                && self.engine.is_idle()
                && self.engine.cursor().next == head
                && !self.due.iter().any(|due| matches!(due.2, Happening::Erase));
            if finished {
                return;
            }
            turns += 1;
            assert!(turns < 2_000_000, "seed {}: no end, {:?}", self.seed, self.engine);
            assert!(self.turn(u64::MAX), "seed {}: it stands still, {:?}", self.seed, self.engine);
        }
    }

    pub(crate) fn assert_balanced(&self) {
        let log: BTreeMap<Position, Wanted> = self
            .log
            .iter()
            .map(|entry| {
                use idtrail_connect::Outcome;
                let wanted = match self.plan.prepare(entry).outcome {
                    Outcome::Row(_) | Outcome::Unmappable(_) => Wanted::Yes,
                    Outcome::Filtered => Wanted::No,
                    Outcome::Erased => Wanted::Erased,
                };
                (entry.position, wanted)
            })
            .collect();
        let dead: BTreeSet<Position> = self.engine.dead_letters().map(|letter| letter.at).collect();
        let target = &self.target;
        let found = balance(&log, &target.arrived, &dead, &target.replayed, self.engine.cursor().next);
        assert!(found.holds(), "{:?} seed {}: {found:?}", self.kind, self.seed);
        assert!(!target.arrived.is_empty() || self.log.len() < 40);
    }

    pub(crate) fn dead(&self) -> Vec<u64> {
        self.engine.dead_letters().map(|letter| letter.at.seq).collect()
    }

    pub(crate) fn delivered(&self) -> usize {
        self.target.arrived.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.engine.cursor().counts
    }

    pub(crate) fn saw(&self, circuit: Circuit) -> bool {
        self.circuits.contains(&circuit)
    }

    pub(crate) fn repair(&mut self) {
        self.target.poison.clear();
        self.input(Input::Command(Command::Resume));
    }

    pub(crate) fn replay_dead(&mut self) {
        let all = self.engine.dead_letters().map(|letter| letter.at).collect();
        self.input(Input::Command(Command::ReplayDead(all)));
    }

    pub(crate) fn replay_from(&mut self, seq: u64) {
        self.input(Input::Command(Command::ReplayFrom(Position::new(0, seq))));
    }

    pub(crate) fn never_crash(&mut self) {
        self.script.crash_rate = 0;
    }

    pub(crate) fn pause(&mut self) {
        self.input(Input::Command(Command::Pause));
    }

    pub(crate) fn resume(&mut self) {
        self.input(Input::Command(Command::Resume));
    }

    pub(crate) fn lose_rows(&mut self, seed: u64, rows: usize) {
        let mut rng = Seed::new(seed).derive("lose").rng();
        let rows = rows.min(self.target.arrived.len());
        // Only rows from the place on that is replayed.
        let keep = self.target.arrived.iter().filter(|at| **at < Position::new(0, 20)).count();
        let rows = rows.min(self.target.arrived.len() - keep);
        let early: Vec<Position> = self.target.arrived.drain(..keep).collect();
        self.target.lose(&mut rng, rows);
        self.target.arrived.splice(0..0, early);
    }
}

fn settings(kind: Kind, script: &Script, seed: u64) -> EngineSettings {
    let limits = Limits {
        rows_max: script.rows_max,
        bytes_max: 1024 * 1024,
        linger_ms: script.linger_ms,
        notes_intent: kind == Kind::Noted,
        saves_every_batch: kind == Kind::Ids,
        keyed: kind != Kind::Noted,
    };
    EngineSettings::new(limits, seed)
}
