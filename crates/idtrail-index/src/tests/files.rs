//! The index on disk against a plain model: random leaves, erasures, merges, power cuts, damage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use idtrail_sim::{Count, Rng};
use proptest::prelude::*;
use sha2::Digest as _;

use super::*;
use crate::IndexSet;
use crate::facts::{EventFacts, Facts, Key};

const DIR: &str = "/index";
const CUSTOMERS: u64 = 12;

/// What the index is to know, kept in the simplest way.
struct Model {
    /// Every event that there ever was, by log index.
    log: BTreeMap<u64, EventFacts>,
    dead: BTreeSet<u64>,
    next: u64,
    epoch: u64,
    rng: Rng,
}

fn key(name: &str, number: u64) -> Key {
    Key::new(sha2::Sha256::digest(format!("{name} {number}")).into())
}

impl Model {
    fn live(&self) -> impl DoubleEndedIterator<Item = (&u64, &EventFacts)> {
        self.log.iter().filter(|(index, _)| !self.dead.contains(index))
    }

    fn customer(&self, customer: &Key) -> Option<GlobalCustomerId> {
        let mut found = self.live().rev().filter(|(_, event)| event.customer == Some(*customer));
        found.next().map(|(_, event)| event.subject)
    }

    fn of(&self, subject: GlobalCustomerId) -> Vec<u64> {
        self.live().filter(|(_, event)| event.subject == subject).map(|(index, _)| *index).collect()
    }

    /// Makes an event as the trail would.
    fn event(&mut self) -> (u64, Facts) {
        let index = self.next;
        self.next += 1 + self.rng.below(2);
        let customer = self.rng.chance(4, 5).then(|| key("customer", self.rng.below(CUSTOMERS)));
        let known = customer.as_ref().and_then(|customer| self.customer(customer));
        let subject = known.unwrap_or_else(|| {
            let mut id = [0; 16];
            self.rng.fill(&mut id);
            GlobalCustomerId::new(id)
        });
        let last = self.of(subject).last().map(|last| self.log[last].subject_sequence);
        let event = EventFacts {
            subject,
            subject_sequence: last.map_or(0, |last| last + 1),
            customer,
            interaction: self.rng.chance(4, 5).then(|| key("interaction", index / 4)),
            dedupe: key("dedupe", index),
            content: key("content", index),
            content_is_id: self.rng.chance(1, 2),
        };
        self.log.insert(index, event.clone());
        (index, Facts { received_ms: 1000 + index, event: Some(event), step: None })
    }

    fn check(&self, lookup: &Lookup) {
        assert_eq!(lookup.applied().get(), self.next);
        let numbers = |found: Vec<LogIndex>| found.into_iter().map(LogIndex::get).collect::<Vec<_>>();
        for (index, event) in &self.log {
            let seen = lookup.seen(&event.dedupe, &event.content, event.content_is_id).unwrap();
            let expected = (!self.dead.contains(index)).then_some((*index, event.content));
            assert_eq!(seen.map(|seen| (seen.index, seen.content)), expected, "entry {index}");
            assert_eq!(lookup.seen(&event.dedupe, &event.content, !event.content_is_id).unwrap(), None);
            let of = self.of(event.subject);
            assert_eq!(numbers(lookup.subject(event.subject).unwrap()), of);
            let page = lookup.subject_page(event.subject, LogIndex::new(*index), 3).unwrap();
            let from: Vec<u64> = of.iter().copied().filter(|of| of >= index).take(3).collect();
            assert_eq!(numbers(page), from);
            let head = lookup.head(event.subject).unwrap().map(|head| (head.index, head.sequence));
            assert_eq!(head, of.last().map(|last| (*last, self.log[last].subject_sequence)));
            if let Some(interaction) = event.interaction {
                let same = self.live().filter(|(_, other)| other.interaction == Some(interaction));
                let expected: Vec<u64> = same.map(|(index, _)| *index).collect();
                assert_eq!(numbers(lookup.interaction(&interaction).unwrap()), expected);
            }
        }
        for number in 0..CUSTOMERS {
            let customer = key("customer", number);
            assert_eq!(lookup.customer(&customer).unwrap(), self.customer(&customer), "customer {number}");
        }
    }

    /// Returns the keys of erased events that no live event shares.
    fn erased_keys(&self) -> Vec<Vec<u8>> {
        let keys = |event: &EventFacts| {
            let mut keys = vec![event.dedupe.as_bytes().to_vec(), event.subject.as_bytes().to_vec()];
            keys.extend(event.interaction.map(|key| key.as_bytes().to_vec()));
            keys.extend(event.customer.map(|key| key.as_bytes().to_vec()));
            keys
        };
        let live: BTreeSet<Vec<u8>> = self.live().flat_map(|(_, event)| keys(event)).collect();
        let dead = self.dead.iter().flat_map(|index| keys(&self.log[index]));
        dead.filter(|key| !live.contains(key)).collect()
    }
}

fn hasher() -> Hasher {
    Hasher::new(TENANT, &[1; 32], &[2; 32])
}

fn open_files(disk: &SimDisk, hasher: &Hasher, epochs: std::ops::RangeInclusive<u64>) -> Lookup {
    let options = LookupOptions {
        dir: Path::new(DIR),
        origin: ORIGIN,
        hasher,
        vault_epochs: epochs,
        limits: LookupLimits { memory_rows_max: 60, filter_bytes_max: 4096 },
    };
    Lookup::open(Arc::new(disk.clone()), &options).unwrap()
}

/// Reads the log's tail, as a start does.
fn replay(lookup: &Lookup, model: &Model) {
    let none = Facts { received_ms: 0, event: None, step: None };
    for index in lookup.applied().get()..model.next {
        match model.log.get(&index) {
            Some(_) if model.dead.contains(&index) => lookup.skip(LogIndex::new(index)),
            Some(event) => {
                let facts = Facts { received_ms: 1000 + index, event: Some(event.clone()), step: None };
                lookup.fold(LogIndex::new(index), &facts);
            }
            None => lookup.fold(LogIndex::new(index), &none),
        }
    }
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.starts_with(DIR)).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    /// Erases some of the events, one of so many, or a range of them.
    Erase(u64),
    EraseRange,
    Settle,
    /// Ends without a word and starts again: killed, or with the power cut.
    Restart(bool),
    /// Cuts the power at this operation of the disk, counted from now.
    CrashAt(u64),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..60).prop_map(Step::Append),
        2 => (2_u64..20).prop_map(Step::Erase),
        1 => Just(Step::EraseRange),
        1 => Just(Step::Settle),
        1 => any::<bool>().prop_map(Step::Restart),
        2 => (0_u64..60).prop_map(Step::CrashAt),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn files_know_what_the_model_knows(steps in proptest::collection::vec(step(), 1..40), seed in any::<u64>()) {
        let hasher = hasher();
        let disk = SimDisk::new(Seed::new(seed));
        let (log, dead) = (BTreeMap::new(), BTreeSet::new());
        let mut model = Model { log, dead, next: 0, epoch: 1, rng: Rng::new(Seed::new(seed)) };
        let mut lookup = open_files(&disk, &hasher, 1..=1);
        for step in steps {
            match step {
                Step::Append(count) => {
                    for _ in 0..count {
                        let (index, facts) = model.event();
                        lookup.fold(LogIndex::new(index), &facts);
                        if model.next > index + 1 {
                            let own = Facts { received_ms: 0, event: None, step: None };
                            lookup.fold(LogIndex::new(index + 1), &own);
                        }
                    }
                }
                Step::Erase(_) | Step::EraseRange => {
                    let live: Vec<u64> = model.live().map(|(index, _)| *index).collect();
                    let chosen: Vec<u64> = match step {
                        Step::Erase(part) => {
                            live.into_iter().filter(|_| model.rng.chance(1, part)).collect()
                        }
                        _ => {
                            let from = model.rng.below(model.next.max(1));
                            live.into_iter().filter(|index| (from..from + 30).contains(index)).collect()
                        }
                    };
                    model.dead.extend(&chosen);
                    model.epoch += 1;
                    let dead: IndexSet = chosen.iter().copied().collect();
                    // As the shredder does it: after a failure the order is open, and is carried out again.
                    if lookup.forget(&dead).and_then(|()| lookup.note_epoch(model.epoch)).is_err() {
                        drop(lookup);
                        disk.crash(&mut Seed::new(model.rng.bits()).rng());
                        lookup = open_files(&disk, &hasher, model.epoch - 1..=model.epoch);
                        replay(&lookup, &model);
                        lookup.forget(&dead).unwrap();
                        lookup.note_epoch(model.epoch).unwrap();
                    }
                }
                Step::Settle | Step::Close => {
                    let settled = match step {
                        Step::Settle => lookup.settle(),
                        _ => lookup.close(),
                    };
                    if settled.is_ok() && !disk.is_down() && matches!(step, Step::Settle) {
                        for path in files(&disk) {
                            let bytes = disk.read_cached(&path).unwrap();
                            for erased in model.erased_keys() {
                                let found = bytes.windows(erased.len()).any(|window| window == erased);
                                prop_assert!(!found, "{} holds an erased key", path.display());
                            }
                        }
                    }
                    if matches!(step, Step::Close) {
                        drop(lookup);
                        disk.crash(&mut Seed::new(model.rng.bits()).rng());
                        lookup = open_files(&disk, &hasher, model.epoch..=model.epoch);
                        if settled.is_ok() {
                            prop_assert_eq!(lookup.applied().get(), model.next, "nothing to read again");
                        }
                        replay(&lookup, &model);
                    }
                }
                Step::Restart(power) => {
                    drop(lookup);
                    if power { disk.crash(&mut Seed::new(model.rng.bits()).rng()) } else { disk.kill() }
                    lookup = open_files(&disk, &hasher, model.epoch..=model.epoch);
                    replay(&lookup, &model);
                }
                Step::CrashAt(after) => {
                    disk.reset_counts();
                    disk.crash_at(Count::All, after);
                }
            }
            if disk.is_down() {
                drop(lookup);
                disk.crash(&mut Seed::new(model.rng.bits()).rng());
                lookup = open_files(&disk, &hasher, model.epoch..=model.epoch);
                replay(&lookup, &model);
            }
        }
        disk.clear_faults();
        model.check(&lookup);
        lookup.settle().unwrap();
        model.check(&lookup);
        lookup.check().unwrap();
        // One run of each level at most seven times, whatever was done before.
        prop_assert!(lookup.size().files <= 7 * 6);
    }
}

fn filled(disk: &SimDisk, hasher: &Hasher, events: u64) -> (Lookup, Model) {
    let rng = Rng::new(Seed::new(7));
    let mut model = Model { log: BTreeMap::new(), dead: BTreeSet::new(), next: 0, epoch: 1, rng };
    let lookup = open_files(disk, hasher, 1..=1);
    while model.next < events {
        let (index, facts) = model.event();
        lookup.fold(LogIndex::new(index), &facts);
        if model.next > index + 1 {
            lookup.fold(LogIndex::new(index + 1), &Facts { received_ms: 0, event: None, step: None });
        }
    }
    (lookup, model)
}

#[test]
fn every_flipped_bit_is_found_and_the_next_start_builds_the_index_anew() {
    let (disk, hasher) = (SimDisk::default(), hasher());
    let (lookup, model) = filled(&disk, &hasher, 700);
    lookup.close().unwrap();
    drop(lookup);
    let snapshot = disk.snapshot();
    let mut rng = Rng::new(Seed::new(3));
    let mut found_later = 0;
    for path in files(&disk) {
        let length = disk.read_durable(&path).unwrap().len() as u64;
        for _ in 0..60 {
            let disk = SimDisk::from_snapshot(&snapshot, Seed::new(1));
            let (byte, bit) = (rng.below(length), rng.below(8) as u8);
            disk.flip_bit(&path, byte, bit).unwrap();
            let context = format!("bit {bit} of byte {byte} of {}", path.display());
            let lookup = open_files(&disk, &hasher, 1..=1);
            if lookup.applied().get() > 0 {
                found_later += 1;
                let error = lookup.check().unwrap_err();
                assert_eq!(error.kind(), crate::ErrorKind::Damaged, "{context}");
                drop(lookup);
                disk.kill();
            }
            let lookup = open_files(&disk, &hasher, 1..=1);
            if found_later == 0 || lookup.applied().get() == 0 {
                replay(&lookup, &model);
                model.check(&lookup);
            } else {
                panic!("{context}: damage was forgotten");
            }
        }
    }
    assert!(found_later > 100);
}

#[test]
fn another_vault_log_or_epoch_begins_an_empty_index_and_leaves_nothing_of_the_old_one() {
    let (disk, own) = (SimDisk::default(), hasher());
    let (lookup, _) = filled(&disk, &own, 300);
    lookup.close().unwrap();
    drop(lookup);
    let snapshot = disk.snapshot();
    let again = |hasher: &Hasher, epochs| {
        let disk = SimDisk::from_snapshot(&snapshot, Seed::new(1));
        (open_files(&disk, hasher, epochs).applied().get(), files(&disk).len())
    };
    assert!(again(&own, 1..=1).0 >= 300);
    assert!(again(&own, 1..=2).0 >= 300, "the open order's erasures are going to be taken over");
    assert_eq!(again(&own, 2..=2), (0, 1), "what was erased is not known");
    assert_eq!(again(&Hasher::new(TENANT, &[1; 32], &[3; 32]), 1..=1), (0, 1));
    assert_eq!(again(&Hasher::new("other", &[1; 32], &[2; 32]), 1..=1), (0, 1));
}

#[test]
fn threads_read_the_same_while_files_are_written_merged_and_wiped() {
    let (disk, hasher) = (SimDisk::default(), hasher());
    let (lookup, mut model) = filled(&disk, &hasher, 300);
    lookup.start_background().unwrap();
    let kept: Vec<(u64, EventFacts)> =
        model.log.iter().map(|(index, event)| (*index, event.clone())).collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    for (index, event) in &kept {
                        let seen = lookup.seen(&event.dedupe, &event.content, event.content_is_id).unwrap();
                        assert_eq!(seen.map(|seen| seen.index), Some(*index));
                    }
                }
            });
        }
        for _ in 0..3000 {
            let (index, facts) = model.event();
            lookup.fold(LogIndex::new(index), &facts);
            if model.next > index + 1 {
                lookup.fold(LogIndex::new(index + 1), &Facts { received_ms: 0, event: None, step: None });
            }
        }
        let dead: Vec<u64> = (400..800).filter(|index| model.log.contains_key(index)).collect();
        lookup.forget(&dead.iter().copied().collect()).unwrap();
        model.dead.extend(dead);
        done.store(true, std::sync::atomic::Ordering::Release);
    });
    model.check(&lookup);
    lookup.close().unwrap();
    model.check(&lookup);
}

#[test]
fn what_a_file_held_is_overwritten_before_its_name_goes() {
    use idtrail_sim::OperationKind;

    let (disk, hasher) = (SimDisk::default(), hasher());
    disk.set_trace(true);
    let (lookup, mut model) = filled(&disk, &hasher, 900);
    lookup.settle().unwrap();
    let dead: Vec<u64> = model.log.keys().copied().filter(|index| index % 7 == 0).collect();
    lookup.forget(&dead.iter().copied().collect()).unwrap();
    model.dead.extend(dead);
    lookup.settle().unwrap();
    let trace = disk.take_trace();
    let (mut lengths, mut wiped, mut removed) = (BTreeMap::new(), BTreeMap::<PathBuf, u64>::new(), 0);
    for operation in trace.iter().filter(|operation| operation.path.to_string_lossy().contains("run-")) {
        let path = operation.path.clone();
        let end = operation.offset + operation.length;
        match operation.kind {
            OperationKind::Write => {
                // A run is written from its second block on, and its header last; whatever starts at 0 later wipes.
                let length: &mut u64 = lengths.entry(path.clone()).or_default();
                let whole = operation.offset == 0 && operation.length >= *length;
                *length = end.max(*length);
                wiped.insert(path, if whole { end } else { 0 });
            }
            OperationKind::Remove => {
                assert_eq!(wiped.get(&path), lengths.get(&path), "{}", path.display());
                removed += 1;
            }
            _ => {}
        }
    }
    assert!(removed > 10, "{removed}");
    model.check(&lookup);
}
