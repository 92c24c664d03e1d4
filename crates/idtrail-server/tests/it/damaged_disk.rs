//! Every bit of a small data directory flipped: found at the start, or of no consequence, or rebuilt; never believed.
//!
//! The directory stands on a simulated disk. After each flip the installation is opened again: either that is refused
//! with an error that says why, or everything it answers is what it answered before: size and root, every entry, what
//! can be opened, who is who, which events are repetitions and which were erased. A part of the index that turns out
//! to be damaged when it is needed is answered as unavailable, and the index built anew answers as before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idtrail_event::{Dedupe, SourceCode, check};
use idtrail_index::lookup::Lookup;
use idtrail_index::shred::{Order, Task};
use idtrail_index::trail::{Command, Refusal};
use idtrail_log::commit::Answer;
use idtrail_log::{LogError, OriginOrdinal};
use idtrail_server::engine::{self, Engine, EngineError, Ports};
use idtrail_server::settings::Settings;
use idtrail_server::synthetic;
use idtrail_sim::{Count, EIO, ENOSPC, Effect, Fault, Rng, Seed, SimClock, SimDisk, SimEntropy};
use idtrail_tlog::LogIndex;
use idtrail_vault::Kek;

const NOW_MS: i64 = 1_760_000_000_000;
const EVENTS: u64 = 12;
const PEOPLE: u64 = 4;
/// About how many bits the test run flips; with `IDTRAIL_FLIPS=all` it is every bit that was ever written.
const FLIPS: usize = 4000;

fn settings() -> Settings {
    let text = r#"
        origin = "example.com/log"
        data_dir = "/data"
        kek = { file = "/kek" }
        [vault]
        anchors = ["/anchor-a/anchor", "/anchor-b/anchor"]
        copies = ["/copies"]
    "#;
    let mut settings = Settings::parse(text, &PathBuf::from("/")).unwrap();
    // Smaller than a person may configure, so that a run takes seconds.
    settings.segment_bytes = 64 * 1024;
    settings
}

fn ports(disk: &SimDisk) -> Ports {
    Ports {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SimClock::new(NOW_MS)),
        entropy: Arc::new(SimEntropy::new(Seed::new(9))),
    }
}

fn open(disk: &SimDisk) -> Result<Engine, EngineError> {
    Engine::open(ports(disk), &settings(), Kek::new([7; 32]).unwrap(), |_| {})
}

fn events(engine: &Engine) -> Vec<Command> {
    (0..EVENTS)
        .map(|number| {
            let event = check(synthetic::event(number, PEOPLE, NOW_MS), engine.rules(), NOW_MS).unwrap();
            Command::prepare(engine.hasher(), &event, SourceCode::API, "crm", None, Dedupe::CONTENT)
        })
        .collect()
}

/// Posts all events and says of each where it stands, or that it was erased.
fn post(engine: &Engine) -> Vec<String> {
    let outcomes = engine.submit_all(events(engine)).unwrap().blocking_recv().unwrap();
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Ok(Answer::Appended { first, .. }) => format!("new {first}"),
            Ok(Answer::Existing(index)) => format!("known {index}"),
            Ok(Answer::Refused(Refusal::Erased)) => "erased".to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}

/// Everything that an installation answers.
struct Known {
    size: u64,
    root: String,
    entries: Vec<Vec<u8>>,
    opened: Vec<Option<String>>,
    subjects: Vec<Vec<LogIndex>>,
    interactions: Vec<Vec<LogIndex>>,
    again: Vec<String>,
    epoch: u64,
}

/// `None` if the index says that it is damaged.
fn known(engine: &Engine) -> Option<Known> {
    let reader = engine.reader();
    let head = reader.head();
    let mut known = Known {
        size: head.size.get(),
        root: head.root.to_string(),
        entries: Vec::new(),
        opened: Vec::new(),
        subjects: Vec::new(),
        interactions: Vec::new(),
        again: post(engine),
        epoch: engine.lookup().epoch_in_log(),
    };
    for index in (0..head.size.get()).map(LogIndex::new) {
        let entry = reader.entry(index).unwrap();
        let open = engine.open_leaf(index, &entry).ok().map(|disclosed| disclosed.leaf);
        if let Some(leaf) = &open {
            if let Some(subject) = leaf.subject {
                known.subjects.push(engine.lookup().subject(subject).ok()?);
            }
            if let Some(id) = leaf.interaction_id() {
                let key = engine.hasher().interaction(id);
                known.interactions.push(engine.lookup().interaction(&key).ok()?);
            }
        }
        known.opened.push(open.map(|leaf| leaf.body.to_string()));
        known.entries.push(entry);
    }
    let damaged = "Refused(Unavailable)";
    (!known.again.iter().any(|answer| answer.contains(damaged))).then_some(known)
}

/// Returns a disk with an installation that took events, erased some of them, and was stopped in order.
fn installation() -> (SimDisk, Known) {
    let disk = SimDisk::new(Seed::new(3));
    engine::create(&ports(&disk), &settings(), Kek::new([7; 32]).unwrap()).unwrap();
    let engine = open(&disk).unwrap();
    let posted = post(&engine);
    assert!(posted.iter().all(|answer| answer.starts_with("new")), "{posted:?}");
    let order = Order {
        request_id: "dsar-1".to_owned(),
        actor: Some("dpo".to_owned()),
        task: Task::erase(OriginOrdinal(0), [3, 7]),
    };
    let outcome = engine.desk().order(order).unwrap().blocking_recv().unwrap().unwrap();
    assert_eq!(outcome.shredded, 2);
    engine.stop();
    drop(engine);
    let engine = open(&disk).unwrap();
    let known = known(&engine).unwrap();
    assert!(known.again.iter().any(|answer| answer == "erased"));
    assert!(known.again.iter().any(|answer| answer.starts_with("known")));
    assert_eq!(known.opened.iter().filter(|open| open.is_none()).count(), 2);
    engine.stop();
    drop(engine);
    (disk, known)
}

/// Returns the places to flip: all bytes that were written, and a few of the zeros that fill files up.
fn places(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let mut places = Vec::new();
    for path in disk.durable_files() {
        let bytes = disk.read_durable(&path).unwrap();
        for (at, block) in bytes.chunks(64).enumerate() {
            let zeros = block.iter().all(|byte| *byte == 0);
            let from = (at * 64) as u64;
            let step = if zeros { 64 * 64 } else { 1 };
            let here = (from..from + block.len() as u64).filter(|byte| !zeros || byte % step == 0);
            places.extend(here.map(|byte| (path.clone(), byte)));
        }
    }
    places
}

#[test]
fn a_flipped_bit_is_found_or_changes_no_answer() {
    let (disk, before) = installation();
    let whole = disk.snapshot();
    let places = places(&disk);
    let all = std::env::var("IDTRAIL_FLIPS").is_ok_and(|flips| flips == "all");
    // A step that shares no factor with 8 meets every bit of a byte.
    let step = if all { 1 } else { (places.len() * 8).div_ceil(FLIPS) | 1 };
    let (mut refused, mut same, mut rebuilt) = (0_u32, 0_u32, 0_u32);
    for number in (0..places.len() * 8).step_by(step) {
        let ((path, byte), bit) = (&places[number / 8], (number % 8) as u8);
        disk.restore(&whole);
        disk.flip_bit(path, *byte, bit).unwrap();
        let place = format!("{} byte {byte} bit {bit}", path.display());
        let engine = match open(&disk) {
            Err(error) => {
                assert!(!error.to_string().is_empty(), "{place}");
                refused += 1;
                continue;
            }
            Ok(engine) => engine,
        };
        let after = known(&engine);
        engine.stop();
        drop(engine);
        if let Some(after) = after {
            check_same(&before, &after, &place);
            same += 1;
            continue;
        }
        Lookup::wipe(&disk, Path::new("/data/index")).unwrap();
        let engine = open(&disk).unwrap_or_else(|error| panic!("{place}: {error}"));
        check_same(&before, &known(&engine).unwrap(), &place);
        engine.stop();
        rebuilt += 1;
    }
    eprintln!("bits flipped: {refused} refused, {rebuilt} rebuilt, {same} of no consequence");
    assert!(refused > 0 && same > 0 && rebuilt > 0, "refused={refused} rebuilt={rebuilt} same={same}");
}

fn check_same(before: &Known, after: &Known, place: &str) {
    assert_eq!((after.size, &after.root, after.epoch), (before.size, &before.root, before.epoch), "{place}");
    assert_eq!(after.again, before.again, "{place}");
    assert_eq!(after.subjects, before.subjects, "{place}");
    assert_eq!(after.interactions, before.interactions, "{place}");
    assert_eq!(after.opened, before.opened, "{place}");
    assert!(after.entries == before.entries, "{place}: the entries are others");
}

/// What a start says of a frame that was torn within a block.
const TORN_WITHIN_A_BLOCK: [&str; 2] =
    ["a frame was written in full but its checksum is wrong", "a frame's header is damaged"];

/// What a run on a failing disk acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// The place of each event, if it was acknowledged.
    places: Vec<Option<String>>,
    /// Whether an erasure was ordered, and whether it was confirmed.
    ordered: bool,
    erased: bool,
}

/// Opens, posts, erases, stops; whatever fails ends the run.
fn live(disk: &SimDisk) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let Ok(engine) = open(disk) else { return acknowledged };
    if let Ok(waiting) = engine.submit_all(events(&engine)) {
        let outcomes = waiting.blocking_recv().unwrap_or_default();
        let place = |outcome| match outcome {
            Ok(Answer::Appended { first, .. } | Answer::Existing(first)) => Some(format!("known {first}")),
            _ => None,
        };
        acknowledged.places = outcomes.into_iter().map(place).collect();
        let order = Order {
            request_id: "dsar-1".to_owned(),
            actor: None,
            task: Task::erase(OriginOrdinal(0), [3, 7]),
        };
        // Nobody waits for an erasure that a failing disk holds up: it stays open and is finished later.
        let done = engine.desk().order(order);
        acknowledged.ordered = done.is_ok();
        acknowledged.erased = done.is_ok_and(|done| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let patience = std::time::Duration::from_millis(300);
            let outcome = runtime.block_on(async { tokio::time::timeout(patience, done).await });
            matches!(outcome, Ok(Ok(Ok(outcome))) if outcome.shredded == 2)
        });
    }
    engine.stop();
    acknowledged
}

#[test]
fn every_operation_failed_once_loses_nothing_acknowledged() {
    for effect in [Effect::NotApplied, Effect::Partly, Effect::Applied] {
        let (mut operation, mut failed, mut torn) = (0, 0, 0);
        loop {
            let disk = SimDisk::new(Seed::new(operation));
            engine::create(&ports(&disk), &settings(), Kek::new([7; 32]).unwrap()).unwrap();
            let start = disk.count(Count::Mutating);
            let errno = if operation % 2 == 0 { EIO } else { ENOSPC };
            disk.fail(Fault::once(start + operation).errno(errno).doing(effect));
            let before = live(&disk);
            let reached = disk.count(Count::Mutating) > start + operation;
            disk.crash(&mut Rng::new(Seed::new(operation)));
            disk.clear_faults();
            let place = format!("operation {operation}, {effect:?}");
            let engine = match open(&disk) {
                Ok(engine) => engine,
                // The simulated disk also tears within a block, and such a frame cannot be told from one that was
                // damaged later; but only behind everything that was acknowledged.
                Err(EngineError::Log(LogError::Damaged { what, path, index, .. })) => {
                    assert!(TORN_WITHIN_A_BLOCK.contains(&what), "{place}: {what}");
                    let known =
                        before.places.iter().flatten().filter(|_| path.starts_with("/data/log")).count();
                    assert!(index.get() >= known as u64, "{place}: an acknowledged frame is damaged");
                    torn += 1;
                    operation += 1;
                    continue;
                }
                Err(error) => panic!("{place}: {error:?}"),
            };
            let after = post(&engine);
            for (number, kept) in before.places.iter().enumerate() {
                let Some(kept) = kept else { continue };
                let index = kept.trim_start_matches("known ");
                let may_be_erased = before.ordered && ["3", "7"].contains(&index);
                let now = &after[number];
                assert!(now == kept || may_be_erased && now == "erased", "{place}: {kept} is now {now}");
                assert!(
                    now == "erased" || !(before.erased && may_be_erased),
                    "{place}: an erasure was undone"
                );
                failed += u64::from(reached);
            }
            engine.stop();
            operation += 1;
            if !reached {
                assert!(before.erased && before.places.iter().all(Option::is_some));
                break;
            }
        }
        assert!(operation > 50 && failed > 0 && torn < operation / 10, "operations={operation} torn={torn}");
        eprintln!("{effect:?}: {operation} operations failed once");
    }
}
