//! A made-up world around one request: a log, systems, a vault; calls fail as told, and everything that happens is counted.

use std::collections::{BTreeMap, BTreeSet};

use idtrail_rights::{
    Action, Answer, Ask, Call, Case, Code, Command, Digest, Effect, Engine, Entry, Failure, Finding,
    HoldName, Input, ItemName, Kind, Level, Method, Nonce, Opening, Operation, Plan, PlanItem, Principal,
    Refusal, RequestId, RetrySchedule, Settings, Step, SubjectRef, SystemName, Task,
};

pub(crate) const START_MS: u64 = 1_790_000_000_000;
pub(crate) const HOUR_MS: u64 = 3_600_000;

pub(crate) fn code(text: &str) -> Code {
    Code::parse(text).unwrap()
}

pub(crate) fn item(text: &str) -> ItemName {
    ItemName::parse(text).unwrap()
}

pub(crate) fn hold(text: &str) -> HoldName {
    HoldName::parse(text).unwrap()
}

pub(crate) fn who(text: &str) -> Option<Principal> {
    Some(Principal::parse(text).unwrap())
}

pub(crate) fn hash(byte: u8) -> Digest {
    Digest::new([byte; 32])
}

pub(crate) fn settings() -> Settings {
    Settings {
        grace_ms: HOUR_MS,
        retry: RetrySchedule { base_ms: 1_000, wait_ms_max: HOUR_MS, attempts_max: 60 },
        ..Settings::default()
    }
}

fn planned(name: &str, method: Method, count: u64, lag_ms: u64) -> PlanItem {
    let system = SystemName::parse(name.split('/').next().unwrap()).unwrap();
    PlanItem {
        item: item(name),
        system,
        method,
        count,
        scope: hash(1),
        lag_ms,
        can_hold: name == "crm/contact",
    }
}

/// The plan of the tests: own leaves, a system that answers at once, one that lags, one that has nothing, one that takes
/// work on, and a person.
pub(crate) fn plan(kind: Kind, manual: bool) -> Plan {
    let mut items = vec![
        planned("idtrail/leaves", Method::OwnLog, 5, 0),
        planned("crm/contact", Method::Connector, 2, 0),
        planned("mail/profile", Method::Connector, 1, 2 * HOUR_MS),
        planned("empty/rows", Method::Connector, 0, 0),
        planned("slow/recordings", Method::Connector, 3, 0),
    ];
    if manual {
        items.push(planned("paper/file", Method::Manual, 1, 0));
    }
    Plan { kind, closure: hash(2), identifiers: 3, interactions: 7, shared_excluded: 1, items }
}

/// How a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Well.
    Well,
    /// It fails before anything happened.
    Fails,
    /// It happens, and the answer says that it failed.
    AppliedButFails,
    /// It happens, and no answer comes.
    AppliedButSilent,
    /// Nothing happens and no answer comes.
    Silent,
}

pub(crate) struct World {
    pub(crate) log: Vec<Entry>,
    /// Objects of the person that are left, by item.
    pub(crate) objects: BTreeMap<ItemName, u64>,
    /// Effects of the server that happened, and how often they would have had to be told apart.
    pub(crate) own: BTreeMap<Digest, (Effect, Finding)>,
    /// DATA_DELETION leaves by item.
    pub(crate) deletions: BTreeMap<ItemName, u32>,
    pub(crate) shredded: BTreeSet<ItemName>,
    /// What a hold protects, as the world sees it.
    pub(crate) held: BTreeSet<ItemName>,
    /// What a system protects itself.
    pub(crate) protected: BTreeSet<ItemName>,
    accepted: BTreeSet<Digest>,
    pub(crate) epoch: u64,
    pub(crate) calls: u64,
    plan: Plan,
    /// Until then the slow system is at it.
    pub(crate) slow_until_ms: u64,
    /// What the next looks for the person and freezes answer instead.
    pub(crate) odd_answers: Vec<(Effect, Finding)>,
}

pub(crate) fn opening(kind: Kind, regime: &str) -> Entry {
    let opening = Opening {
        request: RequestId::parse("dsr_1").unwrap(),
        kind,
        regime: code(regime),
        received_ms: START_MS,
        manner: code("form"),
        subject_ref: SubjectRef::new([3; 16]),
        nonce: Nonce::new([4; 32]).commitment(),
        duplicate_key: hash(5),
    };
    opening.entry(who("dpo-1"), START_MS, &settings()).unwrap()
}

impl World {
    pub(crate) fn new(kind: Kind, regime: &str, plan: Plan) -> Self {
        let objects = plan.items.iter().map(|item| (item.item.clone(), item.count)).collect();
        Self {
            log: vec![opening(kind, regime)],
            objects,
            own: BTreeMap::new(),
            deletions: BTreeMap::new(),
            shredded: BTreeSet::new(),
            held: BTreeSet::new(),
            protected: BTreeSet::new(),
            accepted: BTreeSet::new(),
            epoch: 1,
            calls: 0,
            plan,
            slow_until_ms: 0,
            odd_answers: Vec::new(),
        }
    }

    pub(crate) fn engine(&self) -> Engine {
        // Through JSON, as it stands in the leaves.
        let read = |entry: &Entry| Entry::from_json(&entry.to_json().unwrap()).unwrap();
        let read: Vec<Entry> = self.log.iter().map(read).collect();
        assert_eq!(read, self.log);
        Engine::resume(&read).unwrap()
    }

    /// Appends under the step's key, once.
    pub(crate) fn append(&mut self, entry: &Entry) {
        match self.log.iter().find(|known| known.append_key() == entry.append_key()) {
            Some(known) => assert_eq!(known, entry, "one key, two steps"),
            None => self.log.push(entry.clone()),
        }
    }

    fn intent_is_durable(&self, id: Digest) -> bool {
        self.log.iter().any(|entry| matches!(&entry.step, Step::Intent(intent) if intent.effect_id == id))
    }

    /// Carries a call out; `None` if no answer comes.
    pub(crate) fn call(&mut self, call: &Call, fate: Fate, now_ms: u64) -> Option<Answer> {
        assert!(self.intent_is_durable(call.effect_id), "an effect before its intent: {call:?}");
        self.calls += 1;
        match fate {
            Fate::Fails => return Some(Answer::Failed(Failure::NotDone, None)),
            Fate::Silent => return None,
            _ => {}
        }
        let answer = self.happens(call, now_ms);
        match fate {
            Fate::AppliedButFails => Some(Answer::Failed(Failure::Unknown, None)),
            Fate::AppliedButSilent => None,
            _ => Some(answer),
        }
    }

    fn happens(&mut self, call: &Call, now_ms: u64) -> Answer {
        let found = |finding| Answer::Found(finding, Some(hash(9)));
        let Task::Item(name) = &call.task else {
            let finding = match self.own.get(&call.effect_id) {
                Some((_, finding)) => finding.clone(),
                None => self.own_effect(call, now_ms),
            };
            return found(finding);
        };
        let left = self.objects.get(name).copied().unwrap_or_default();
        match (&call.ask, call.effect) {
            (Ask::Probe, _) | (Ask::Do, Effect::ProbeAgain | Effect::Act(Operation::Probe)) => {
                found(Finding::Count(left))
            }
            (Ask::Do, Effect::Act(operation)) if operation.changes() => {
                assert!(!self.held.contains(name), "an effect on a held item");
                assert!(!self.protected.contains(name), "an effect on what its system protects");
                if name.as_str() == "slow/recordings" && self.accepted.insert(call.effect_id) {
                    return Answer::Accepted(code("job-7"), now_ms + HOUR_MS);
                }
                self.objects.insert(name.clone(), 0);
                found(Finding::Count(left))
            }
            (Ask::Poll(job), _) => {
                assert_eq!(job.as_str(), "job-7");
                if now_ms < self.slow_until_ms {
                    return Answer::Accepted(job.clone(), now_ms + 12 * HOUR_MS);
                }
                self.objects.insert(name.clone(), 0);
                found(Finding::Count(3))
            }
            (Ask::Do, Effect::Act(Operation::Read)) => found(Finding::Count(left)),
            (Ask::Do, Effect::Act(Operation::Hold)) => {
                self.protected.insert(name.clone());
                found(Finding::Count(left))
            }
            (Ask::Do, Effect::Act(Operation::Release)) => {
                self.protected.remove(name);
                found(Finding::Count(left))
            }
            (Ask::Do, Effect::Act(Operation::Residual)) => found(Finding::Residuals(Vec::new())),
            other => panic!("{other:?}"),
        }
    }

    fn own_effect(&mut self, call: &Call, now_ms: u64) -> Finding {
        if let Some(at) = self.odd_answers.iter().position(|(effect, _)| *effect == call.effect) {
            return self.odd_answers.remove(at).1;
        }
        let finding = match call.effect {
            Effect::Discover => Finding::Plan(Box::new(self.plan.clone())),
            Effect::Freeze => Finding::Frozen { cutoff_ms: now_ms, tree_size: 100 },
            Effect::Reassert => {
                assert!(self.shredded.is_empty() || !call.covers.is_empty() || self.held.is_empty());
                Finding::Done
            }
            Effect::Destroy => Finding::Done,
            Effect::Shred => {
                let reasserted = self.own.values().any(|(effect, _)| *effect == Effect::Reassert);
                assert!(reasserted, "keys destroyed before others' facts were said again");
                self.epoch += 1;
                let mut leaves = 0;
                for name in &call.covers {
                    assert!(!self.held.contains(name), "a held leaf was shredded");
                    assert!(self.shredded.insert(name.clone()), "shredded twice");
                    leaves += self.objects.insert(name.clone(), 0).unwrap();
                }
                Finding::Shredded {
                    epoch: self.epoch,
                    leaves,
                    at_ms: now_ms,
                    unrecoverable_by_ms: now_ms,
                    index: 200,
                }
            }
            Effect::Deletions => {
                for name in &call.covers {
                    *self.deletions.entry(name.clone()).or_default() += 1;
                }
                Finding::Made(hash(20))
            }
            Effect::Certify => Finding::Made(hash(21)),
            Effect::Package => Finding::Made(hash(22)),
            other => panic!("{other:?}"),
        };
        self.own.insert(call.effect_id, (call.effect, finding.clone()));
        finding
    }

    pub(crate) fn outcomes(&self) -> BTreeMap<Digest, u32> {
        let mut outcomes = BTreeMap::new();
        for entry in &self.log {
            if let Step::Outcome(outcome) = &entry.step {
                *outcomes.entry(outcome.effect_id).or_default() += 1;
            }
        }
        outcomes
    }
}

/// A request and its world, driven without faults.
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) engine: Engine,
    pub(crate) settings: Settings,
    pub(crate) now_ms: u64,
}

impl Run {
    pub(crate) fn new(kind: Kind, plan: Plan) -> Self {
        Self::under(kind, "gdpr", plan)
    }

    pub(crate) fn under(kind: Kind, regime: &str, plan: Plan) -> Self {
        let world = World::new(kind, regime, plan);
        let engine = world.engine();
        Self { world, engine, settings: settings(), now_ms: START_MS }
    }

    pub(crate) fn case(&self) -> &Case {
        self.engine.case()
    }

    /// Says something and carries out what follows, until nothing follows before a later time.
    pub(crate) fn say(&mut self, by: &str, command: Command) -> Result<(), Refusal> {
        let actions = self.engine.step(Input::Said(who(by), command), self.now_ms, &self.settings)?;
        self.carry_out(actions);
        Ok(())
    }

    /// Lets everything happen that happens by itself until `until_ms`.
    pub(crate) fn until(&mut self, until_ms: u64) {
        loop {
            let actions = self.engine.step(Input::Tick, self.now_ms, &self.settings).unwrap();
            let wake = self.carry_out(actions);
            match wake {
                Some(at_ms) if at_ms <= until_ms => self.now_ms = self.now_ms.max(at_ms),
                _ => break,
            }
        }
        self.now_ms = self.now_ms.max(until_ms);
        let actions = self.engine.step(Input::Tick, self.now_ms, &self.settings).unwrap();
        self.carry_out(actions);
    }

    fn carry_out(&mut self, mut actions: Vec<Action>) -> Option<u64> {
        let mut wake = None;
        while let Some(action) = actions.pop() {
            let input = match action {
                Action::Append(entry) => {
                    self.world.append(&entry);
                    Input::Appended(*entry)
                }
                Action::Call(call) => {
                    let answer = self.world.call(&call, Fate::Well, self.now_ms).unwrap();
                    Input::Answered(call.effect_id, answer)
                }
                Action::WakeAt(at_ms) => {
                    wake = Some(at_ms);
                    continue;
                }
            };
            actions.extend(self.engine.step(input, self.now_ms, &self.settings).unwrap());
        }
        assert_eq!(self.engine.case(), self.world.engine().case(), "rebuilt from the log as it was live");
        wake
    }

    pub(crate) fn verify(&mut self) {
        self.say("desk-1", Command::Verify(Level::OneChannel, code("otp-mail"), hash(6))).unwrap();
    }

    pub(crate) fn plan_hash(&self) -> Digest {
        self.case().plan.as_ref().unwrap().1
    }

    pub(crate) fn approve(&mut self) {
        let hash = self.plan_hash();
        self.say("dpo-1", Command::Approve(hash)).unwrap();
        self.say("dpo-2", Command::Approve(hash)).unwrap();
    }
}
