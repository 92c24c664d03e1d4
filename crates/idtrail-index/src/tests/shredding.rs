//! Orders to destroy keys, with the power cut, the process killed and the disk failing at every step.

use std::collections::BTreeMap;

use idtrail_event::clear::{KeyShreddedItem, ShredIntentItem};
use idtrail_log::{OriginOrdinal, Reference, fsck};
use idtrail_port::Open;
use idtrail_sim::{Count, Effect, Fault};

use super::*;
use crate::shred::{ErrorKind, Order, Outcome, ShredError, ShredLog, Shredder, Task, Works, Writer};

const PENDING: &str = "/data/shredding";
const CUSTOMERS: u64 = 3;
const EVENTS: u64 = 12;
const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;

struct Door(Arc<Mutex<Core>>);

impl Writer for Door {
    fn append(&mut self, command: Command) -> Result<LogIndex, LogError> {
        let first = Arc::new(Mutex::new(Err(LogError::Stopped)));
        let answer = Arc::clone(&first);
        let reply = Box::new(move |answered: Result<Answer<Refusal>, LogError>| {
            *answer.lock().unwrap() = answered.map(|answer| match answer {
                Answer::Appended { first, .. } => first,
                other => panic!("{other:?}"),
            });
        });
        self.0.lock().unwrap().step(vec![Submission { command, reply }])?;
        std::mem::replace(&mut *first.lock().unwrap(), Err(LogError::Stopped))
    }

    fn catch_up(&mut self, size: TreeSize) -> bool {
        self.0.lock().unwrap().lookup.applied() >= size
    }
}

impl Running {
    fn shredder(&self, installation: &Installation) -> Result<Shredder<Door>, ShredError> {
        let works = Works {
            disk: Arc::new(installation.disk.clone()),
            clock: Arc::new(installation.clock.clone()),
            pending: PENDING.into(),
            newest: ShredLog {
                ordinal: OriginOrdinal(0),
                reader: self.reader(),
                keyring: self.keyring.clone(),
                lookup: self.lookup.clone(),
            },
            earlier: Vec::new(),
            hasher: Arc::clone(&self.hasher),
            vault: Arc::clone(&installation.vault),
            suppression_ms: WEEK_MS,
        };
        Shredder::open(works, Door(Arc::clone(&self.core)))
    }

    fn readable(&self, index: u64) -> bool {
        let bytes = self.reader().entry(LogIndex::new(index)).unwrap();
        match open(&self.keyring, LogIndex::new(index), &bytes) {
            Ok(_) => true,
            Err(OpenError::Key(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the requests that the log tells of: count and epoch of intent and outcome.
    fn told(&self) -> BTreeMap<String, Vec<(TypeCode, u64, u64)>> {
        let reader = self.reader();
        let mut told: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for index in 0..reader.size().get() {
            let bytes = reader.entry(LogIndex::new(index)).unwrap();
            let leaf = Leaf::parse(&bytes).unwrap();
            let (code, clear) = (leaf.header().event_type, leaf.header().clear.as_deref());
            let (request, count, epoch) = match code {
                TypeCode::SHRED_INTENT => {
                    let item = ShredIntentItem::decode(clear.unwrap()).unwrap();
                    (item.request_id, item.count, item.target_epoch)
                }
                TypeCode::KEY_SHREDDED => {
                    let item = KeyShreddedItem::decode(clear.unwrap()).unwrap();
                    (item.request_id, item.count, item.epoch)
                }
                _ => continue,
            };
            told.entry(request).or_default().push((code, count, epoch));
        }
        told
    }

    /// Everything that can be asked of the index about the events of [`body`].
    fn answers(&self) -> Vec<String> {
        let mut answers = Vec::new();
        for number in 0..EVENTS {
            let body = body(number);
            let event = &body["auditEvent"];
            let customer = self.hasher.customer(event["resolvedCustomerId"].as_str().unwrap());
            let subject = self.lookup.customer(&customer).unwrap();
            let events = subject.map(|subject| self.lookup.subject(subject).unwrap());
            let head = subject.map(|subject| self.lookup.head(subject).unwrap());
            let interaction = self.hasher.interaction(event["interactionId"].as_str().unwrap());
            let interaction = self.lookup.interaction(&interaction).unwrap();
            answers.push(format!("{number}: {subject:?} {events:?} {head:?} {interaction:?}"));
        }
        answers
    }
}

impl Installation {
    /// An installation whose events 2 to 13 are of three customers in turn.
    fn filled(seed: u64) -> (Self, Running) {
        let installation = Self::new(seed);
        installation.clock.set_wall_ms(1_790_000_000_000);
        let mut running = installation.start();
        for number in 0..EVENTS {
            running.post(&installation, &body(number), None);
        }
        (installation, running)
    }

    /// Starts again after the process has ended, settles what was open, and returns both.
    fn restart(mut self) -> (Self, Running) {
        let shared: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let vault = Vault::open(shared, Arc::clone(&self.entropy), paths(), kek(), None).unwrap();
        self.vault = Arc::new(Mutex::new(vault));
        let running = self.start();
        running.shredder(&self).unwrap().settle().unwrap();
        (self, running)
    }
}

fn body(number: u64) -> Value {
    let mut body = samples()[0].clone();
    body["auditEvent"]["resolvedCustomerId"] = json!(format!("customer-{}", number % CUSTOMERS));
    body["auditEvent"]["interactionId"] = json!(format!("i-{}", number / 2));
    body["auditEvent"]["agentId"] = json!("agent-1");
    body["auditEvent"]["number"] = json!(number);
    body
}

/// The indices of a customer's events.
fn of(customer: u64) -> Vec<u64> {
    (0..EVENTS).filter(|number| number % CUSTOMERS == customer).map(|number| number + 2).collect()
}

fn erase(request_id: &str, indices: &[u64]) -> Order {
    let task = Task::erase(OriginOrdinal(0), indices.iter().copied());
    Order { request_id: request_id.into(), actor: Some("dpo-1".into()), task }
}

fn places(indices: &[u64]) -> Vec<Reference> {
    let place = |index: &u64| Reference { origin: OriginOrdinal(0), index: LogIndex::new(*index) };
    indices.iter().map(place).collect()
}

fn one(results: Vec<Result<Outcome, ShredError>>) -> Result<Outcome, ShredError> {
    let [result] = results.try_into().unwrap();
    result
}

fn group() -> Vec<Order> {
    vec![erase("r-0", &of(0)), erase("r-1", &of(1)[..2])]
}

/// What must hold once [`group`] has been carried out, whatever happened on the way.
fn check_end(installation: &Installation, running: &mut Running, context: &str) {
    assert_eq!(installation.vault().epoch().get(), 2, "{context}: one epoch for the whole group");
    check_state(installation, running, context);
}

fn check_state(installation: &Installation, running: &mut Running, context: &str) {
    let gone: Vec<u64> = of(0).into_iter().chain(of(1)[..2].iter().copied()).collect();
    for index in 0..EVENTS + 2 {
        assert_eq!(running.readable(index), !gone.contains(&index), "{context}: entry {index}");
    }
    let (four, two) = (of(0).len() as u64, 2);
    let told = running.told();
    assert_eq!(told.len(), 2, "{context}: {told:?}");
    for (request, count) in [("r-0", four), ("r-1", two)] {
        let [intent, outcome] = told[request][..] else { panic!("{context}: {told:?}") };
        assert_eq!((intent.0, outcome.0), (TypeCode::SHRED_INTENT, TypeCode::KEY_SHREDDED), "{context}");
        assert_eq!((intent.1, outcome.1, intent.2), (count, count, outcome.2), "{context}: {told:?}");
    }
    let left: Vec<_> =
        installation.disk.files().into_iter().filter(|path| path.starts_with("/data/shredding")).collect();
    assert!(left.is_empty(), "{context}: {left:?}");
    let report =
        fsck::check(&installation.disk, &log_dir(), ORIGIN, &[], &mut |_, _| Ok(()), &mut |_, _| {}).unwrap();
    assert_eq!(report.worst(), None, "{context}: {report:?}");
    let live = running.answers();
    assert!(live[0].starts_with("0: None None"), "{context}: {live:?}");
    let rebuilt = rebuilt(installation, running);
    assert_eq!(rebuilt, live, "{context}: rebuilt state differs");
    for number in 0..EVENTS {
        let answer = running.post(installation, &body(number), None);
        if gone.contains(&(number + 2)) {
            assert!(matches!(answer, Answer::Refused(Refusal::Erased)), "{context}: {number} {answer:?}");
        } else {
            assert!(
                matches!(answer, Answer::Existing(at) if at.get() == number + 2),
                "{context}: {answer:?}"
            );
        }
    }
}

/// Returns the answers of an index that was made from the log alone.
fn rebuilt(installation: &Installation, running: &Running) -> Vec<String> {
    let lookup = Lookup::default();
    let reader = running.reader();
    let keyring = installation.vault().keyring(ORIGIN).unwrap();
    for index in (0..reader.size().get()).map(LogIndex::new) {
        match open(&keyring, index, &reader.entry(index).unwrap()) {
            Ok(disclosed) => lookup.fold(index, &running.hasher.facts(&disclosed.leaf)),
            Err(_) => lookup.skip(index),
        }
    }
    let hasher = Arc::clone(&running.hasher);
    Running { hasher, keyring, lookup, core: Arc::clone(&running.core), identity: running.identity.clone() }
        .answers()
}

#[test]
fn erased_leaves_are_gone_and_all_others_and_every_proof_stay() {
    let (installation, mut running) = Installation::filled(1);
    let before = running.reader().head();
    let proofs: Vec<_> = (0..before.size.get())
        .map(|index| running.reader().inclusion_proof(LogIndex::new(index), before.size).unwrap())
        .collect();
    let mut shredder = running.shredder(&installation).unwrap();
    let outcomes: Vec<_> = shredder.run(group()).into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().map(|outcome| outcome.shredded).collect::<Vec<_>>(), [4, 2]);
    assert!(outcomes.iter().all(|outcome| outcome.epoch == Some(2) && !outcome.repeated));
    check_end(&installation, &mut running, "live");
    for (index, proof) in (0..).zip(&proofs) {
        let index = LogIndex::new(index);
        let bytes = running.reader().entry(index).unwrap();
        idtrail_tlog::verify_inclusion(index, before.size, &leaf_hash(&bytes), proof, &before.root).unwrap();
    }
    let again = one(shredder.run(vec![erase("r-0", &of(0))])).unwrap();
    assert!(again.repeated && again.shredded == 4 && again.leaf == outcomes[0].leaf, "{again:?}");
    let other = one(shredder.run(vec![erase("r-9", &of(0))])).unwrap();
    assert_eq!((other.shredded, other.gone, other.epoch), (0, 4, None), "nothing was left to do");
    assert_eq!(installation.vault().epoch().get(), 2);

    // The id may carry another event only after the suppression has ended.
    installation.clock.advance_ms(WEEK_MS);
    let back = running.post(&installation, &body(0), None);
    assert!(matches!(back, Answer::Appended { .. }), "{back:?}");
}

#[test]
fn an_id_of_an_erased_event_is_not_taken_for_another_content() {
    let (installation, mut running) = Installation::filled(2);
    let at = index(&running.post(&installation, &samples()[1], Some("id-1")));
    let mut shredder = running.shredder(&installation).unwrap();
    one(shredder.run(vec![erase("r", &[at])])).unwrap();
    let mut other = samples()[1].clone();
    other["auditEvent"]["number"] = json!(77);
    for (body, refusal) in [(&samples()[1], Refusal::Erased), (&other, Refusal::ErasedConflict)] {
        let answer = running.post(&installation, body, Some("id-1"));
        assert!(matches!(answer, Answer::Refused(refused) if refused == refusal), "{answer:?}");
    }
}

#[test]
fn what_may_not_be_erased_is_refused_or_left_out_by_name() {
    let (installation, running) = Installation::filled(3);
    let mut shredder = running.shredder(&installation).unwrap();
    let too_many = vec![3; crate::shred::LEAVES_MAX + 1];
    let cases: &[(&str, &[u64], ErrorKind)] = &[
        ("r", &[0], ErrorKind::Invalid),
        ("r", &[3, 1], ErrorKind::Invalid),
        ("r", &[14], ErrorKind::NotFound),
        ("r", &[], ErrorKind::Invalid),
        ("", &[3], ErrorKind::Invalid),
        ("a request", &[3], ErrorKind::Invalid),
        (&"r".repeat(65), &[3], ErrorKind::Invalid),
    ];
    for (request, indices, kind) in cases {
        let error = one(shredder.run(vec![erase(request, indices)])).unwrap_err();
        assert_eq!(error.kind(), *kind, "{request:?} {indices:?}: {error}");
    }
    // A million times the same leaf is one leaf.
    assert_eq!(one(shredder.run(vec![erase("r-3", &too_many)])).unwrap().shredded, 1);
    shredder.hold("case-1", &places(&[4, 7]), None).unwrap();
    assert_eq!(shredder.hold("case-1", &places(&[4]), None).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(
        shredder.hold("case-2", &places(&[3]), None).unwrap_err().kind(),
        ErrorKind::NotFound,
        "it is gone already"
    );
    let outcome = one(shredder.run(vec![erase("r-4", &[4, 5, 7, 3])])).unwrap();
    let held: Vec<u64> = outcome.held.iter().map(|held| held.index.get()).collect();
    assert_eq!((outcome.shredded, held, outcome.gone), (1, vec![4, 7], 1));
    assert_eq!([3, 4, 5, 7].map(|index| running.readable(index)), [false, true, false, true]);

    let release = |request: &str| Order {
        request_id: request.into(),
        actor: None,
        task: Task::Release { hold: "case-1".into(), leaves: Vec::new() },
    };
    assert_eq!(one(shredder.run(vec![release("r-5")])).unwrap().shredded, 0, "their time has not come");
    assert_eq!(one(shredder.run(vec![release("r-6")])).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(one(shredder.run(vec![erase("r-7", &[4, 7])])).unwrap().shredded, 2, "released");
    // Intents without outcomes would be settled by the next start; there are none.
    assert!(running.lookup.open_shreds().is_empty());
    assert_eq!(installation.vault().epoch().get(), 6, "one for each of r-3, hold, r-4, r-5, r-7");
}

#[test]
fn a_crash_at_any_step_leads_to_the_same_end() {
    let (installation, running) = Installation::filled(4);
    let mut shredder = running.shredder(&installation).unwrap();
    installation.disk.reset_counts();
    assert!(shredder.run(group()).iter().all(Result::is_ok));
    let steps = installation.disk.count(Count::Mutating);
    assert!(steps > 30, "{steps}");
    let (mut begun, mut lost) = (0, 0);
    for step in 0..steps {
        for case in 0..4 {
            let context = format!("step {step} of {steps}, case {case}");
            let (installation, running) = Installation::filled(100 + case);
            let mut shredder = running.shredder(&installation).unwrap();
            installation.disk.reset_counts();
            installation.disk.crash_at(Count::Mutating, step);
            let answered = shredder.run(group()).iter().all(Result::is_ok);
            assert!(!answered, "{context}: the last step comes before the answer");
            drop((shredder, running));
            match case {
                0 => installation.disk.kill(),
                1 => installation.disk.crash_losing_all(),
                _ => installation.disk.crash(&mut Seed::new(case * 1000 + step).rng()),
            }
            let (installation, mut running) = installation.restart();
            if running.told().is_empty() {
                // The order was not on the disk yet, so whoever asked has to ask again.
                lost += 1;
                let mut shredder = running.shredder(&installation).unwrap();
                assert!(shredder.run(group()).iter().all(Result::is_ok), "{context}");
            } else {
                begun += 1;
            }
            check_end(&installation, &mut running, &context);
        }
    }
    assert!(begun > 4 * lost && lost > 0, "begun {begun}, lost {lost}");
}

#[test]
fn a_disk_error_at_any_step_leads_to_the_same_end() {
    let (installation, running) = Installation::filled(200);
    let mut shredder = running.shredder(&installation).unwrap();
    installation.disk.reset_counts();
    installation.disk.set_trace(true);
    assert!(shredder.run(group()).iter().all(Result::is_ok));
    let trace = installation.disk.take_trace();
    // After a failed sync a frame may be torn within a sector, which the log takes for damage and refuses to open.
    let outside = |path: &std::path::Path| !path.starts_with(log_dir());
    let operations: Vec<u64> =
        (0..).zip(&trace).filter(|(_, operation)| outside(&operation.path)).map(|(at, _)| at).collect();
    assert!(operations.len() > 40, "{}", operations.len());
    for step in operations {
        for effect in [Effect::NotApplied, Effect::Applied] {
            let context = format!("operation {step}, {effect:?}");
            let (installation, running) = Installation::filled(200);
            let mut shredder = running.shredder(&installation).unwrap();
            installation.disk.reset_counts();
            installation.disk.fail(Fault::once(step).counting(Count::All).doing(effect));
            let answered = shredder.run(group()).iter().all(Result::is_ok);
            drop((shredder, running));
            installation.disk.crash_losing_all();
            let (installation, mut running) = installation.restart();
            if !answered {
                // One order of the two may have been refused before anything was begun, and the other carried out.
                let mut shredder = running.shredder(&installation).unwrap();
                assert!(shredder.run(group()).iter().all(Result::is_ok), "{context}");
            }
            check_state(&installation, &mut running, &context);
        }
    }
}

#[test]
fn while_an_anchor_is_away_nothing_is_lost_and_nothing_else_is_begun() {
    let (installation, mut running) = Installation::filled(6);
    let mut shredder = running.shredder(&installation).unwrap();
    let cell = installation.disk.read_durable("/anchor/cell").unwrap();
    installation.disk.remove(std::path::Path::new("/anchor/cell")).unwrap();
    for result in shredder.run(group()) {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let error = one(shredder.run(vec![erase("r-2", &of(2))])).unwrap_err();
    assert!(matches!(error, ShredError::Vault(_)), "{error}");
    assert!(shredder.is_open() && running.readable(2));
    assert!(installation.vault().add_pepper().is_err());

    let file = installation
        .disk
        .open(std::path::Path::new("/anchor/cell"), Open::CreateNew(idtrail_port::Privacy::Owner))
        .unwrap();
    file.write_all_at(&cell, 0).unwrap();
    file.sync_data().unwrap();
    installation.disk.sync_dir(std::path::Path::new("/anchor")).unwrap();
    assert_eq!(shredder.settle().unwrap(), 2);
    assert!(!shredder.is_open());
    check_end(&installation, &mut running, "settled");
}

#[test]
fn an_announcement_whose_order_is_lost_is_closed_by_what_the_vault_says() {
    for done in [false, true] {
        let (installation, running) = Installation::filled(7);
        let item = ShredIntentItem { request_id: "r-0".into(), count: 1, target_epoch: 2 };
        Door(Arc::clone(&running.core)).append(Command::shred_intents(&[(item, None)])).unwrap();
        if done {
            installation.vault().puncture_indices(ORIGIN, &[5], Sections::Both).unwrap();
        }
        drop(running);
        installation.disk.kill();
        let (installation, running) = installation.restart();
        let (count, epoch) = if done { (1, 2) } else { (0, 1) };
        let steps = vec![(TypeCode::SHRED_INTENT, 1, 2), (TypeCode::KEY_SHREDDED, count, epoch)];
        assert_eq!(running.told(), BTreeMap::from([("r-0".to_owned(), steps)]));
        assert_eq!(running.lookup.epoch_in_log(), epoch);
        assert_eq!(running.shredder(&installation).unwrap().settle().unwrap(), 0);
    }
}

#[test]
fn months_expire_by_class_except_what_is_held() {
    let (installation, mut running) = Installation::filled(8);
    let old = 1_790_000_000_000_u64;
    let month = idtrail_event::month_of_hour(idtrail_event::hour_of_ms(old));
    let mut shredder = running.shredder(&installation).unwrap();
    let class = |code: TypeCode| code.class().code();
    let expire = |request: &str, periods: &[(u8, std::ops::RangeInclusive<u16>)]| Order {
        request_id: request.into(),
        actor: None,
        task: Task::Expire { periods: periods.to_vec() },
    };
    let identity = class(TypeCode::IDENTITY_RESOLUTION);
    let error = one(shredder.run(vec![expire("m-1", &[(identity, month..=month)])])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "the month is not over");
    running.post(&installation, &samples()[1], None);
    installation.clock.advance_ms(40 * 24 * 60 * 60 * 1000);
    running.post(&installation, &body(50), None);
    let error = one(shredder.run(vec![expire("m-1", &[(class(TypeCode::SHRED_INTENT), month..=month)])]))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "the log's own leaves");

    one(shredder.run(vec![erase("r-0", &[2])])).unwrap();
    shredder.hold("case-1", &places(&[4, 5]), None).unwrap();
    shredder.hold("case-2", &places(&[5]), None).unwrap();
    let periods = [(identity, month - 3..=month)];
    let outcome = one(shredder.run(vec![expire("m-2", &periods)])).unwrap();
    let held: Vec<u64> = outcome.held.iter().map(|held| held.index.get()).collect();
    assert_eq!((outcome.shredded, held, outcome.gone), (9, vec![4, 5], 1));
    let readable: Vec<u64> =
        (0..running.reader().size().get()).filter(|index| running.readable(*index)).collect();
    assert_eq!(readable[..6], [0, 1, 4, 5, 14, 15], "held, of another class, of another month");
    assert_eq!(rebuilt(&installation, &running), running.answers());
    let leaf = running.reader().entry(LogIndex::new(4)).unwrap();
    assert_eq!(
        open(&running.keyring, LogIndex::new(4), &leaf).unwrap().leaf.body,
        body(2),
        "staff section too"
    );
    assert!(one(shredder.run(vec![expire("m-2", &periods)])).unwrap().repeated);
    assert_eq!(one(shredder.run(vec![expire("m-3", &periods)])).unwrap().epoch, None, "nothing to do");
    // What has expired is no repetition any more; what was erased is, and so is what is held.
    assert!(matches!(running.post(&installation, &body(1), None), Answer::Appended { .. }));
    assert!(matches!(running.post(&installation, &body(0), None), Answer::Refused(Refusal::Erased)));
    assert!(matches!(running.post(&installation, &body(2), None), Answer::Existing(_)));

    drop((shredder, running));
    installation.disk.crash_losing_all();
    let (installation, running) = installation.restart();
    assert!(running.readable(4) && running.readable(5) && !running.readable(6));
    let mut shredder = running.shredder(&installation).unwrap();
    let release = |request: &str, hold: &str| Order {
        request_id: request.into(),
        actor: None,
        task: Task::Release { hold: hold.into(), leaves: Vec::new() },
    };
    assert_eq!(
        one(shredder.run(vec![release("r-1", "case-1")])).unwrap().shredded,
        1,
        "the other is held still"
    );
    assert!(!running.readable(4) && running.readable(5));
    assert_eq!(one(shredder.run(vec![release("r-2", "case-2")])).unwrap().shredded, 1);
    assert!(!running.readable(5));
    assert_eq!(rebuilt(&installation, &running), running.answers());
}

#[test]
fn a_month_is_due_once_its_class_was_kept_for_long_enough_and_only_once() {
    use crate::retention::{Counter, PeriodState, due_in_all, newest_table};

    let (installation, mut running) = Installation::filled(9);
    let month_ms = 31 * 24 * 60 * 60 * 1000;
    let month = |running: &Running| {
        let last = running.reader().size().get() - 1;
        crate::months::header(&running.reader(), last).unwrap().month()
    };
    let first = month(&running);
    let table = newest_table(&running.reader()).unwrap();
    assert_eq!(table, ClassTable::default());
    let identity = table.get(TypeCode::IDENTITY_RESOLUTION.class()).unwrap();
    let (class, kept) = (identity.id.code(), identity.months.unwrap());
    let mut shredder = running.shredder(&installation).unwrap();
    shredder.hold("case-1", &places(&[3]), None).unwrap();
    let at = |running: &Running, present: u16| {
        let reader = running.reader();
        let all = due_in_all([(&*reader, &running.keyring)].into_iter(), present).unwrap();
        all.into_iter().filter(|(due, _)| *due == class).collect::<Vec<_>>()
    };
    assert_eq!(at(&running, first + kept + 1), [], "the log itself has not gone beyond the month");
    while month(&running) <= first + kept {
        installation.clock.advance_ms(month_ms);
        let number = 1000 + running.reader().size().get();
        running.post(&installation, &body(number), None);
    }
    let present = month(&running);
    assert_eq!(at(&running, first + kept), [], "through the last month of its time");
    assert_eq!(at(&running, present), [(class, first..=present - kept - 1)]);

    let plan = |running: &Running| {
        let (reader, mut counter) = (running.reader(), Counter::default());
        for index in 0..reader.size().get() {
            let header = crate::months::header(&reader, index).unwrap();
            counter.add(index, &header, &running.keyring, installation.vault().is_held(ORIGIN, index));
        }
        let periods = counter.periods(&table, &running.keyring, present);
        assert_eq!(periods.iter().map(|period| period.leaves).sum::<u64>(), reader.size().get());
        *periods.iter().find(|period| period.class.code() == class && period.month == first).unwrap()
    };
    let before = plan(&running);
    assert_eq!((before.leaves, before.unreadable, before.held), (EVENTS, 0, 1));
    assert_eq!(before.state, PeriodState::Due);
    let periods = at(&running, present);
    let order = Order { request_id: "m".into(), actor: None, task: Task::Expire { periods } };
    assert!(one(shredder.run(vec![order])).unwrap().shredded >= EVENTS - 1);
    assert_eq!(at(&running, present), []);
    let after = plan(&running);
    assert_eq!((after.unreadable, after.held, after.state), (EVENTS - 1, 1, PeriodState::Expired));
}
