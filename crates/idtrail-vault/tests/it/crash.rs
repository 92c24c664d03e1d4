//! Every disk operation of a write failed once and crashed once, and crashes during the repair after a crash.
//!
//! What must hold each time: the vault opens, at the old epoch with all keys or at the new one without the shredded
//! keys and with all others; a write that reported success is never undone; and once an open has shown the new epoch,
//! nothing on the medium opens the old body any more, even if somebody kept a copy of it.

use idtrail_sim::{Count, Effect, Fault, Seed, SimDisk, Snapshot};
use idtrail_vault::{Epoch, ErrorKind, VaultError};

use crate::rig::{ANCHORS, BODY_DIRS, Rig, State, body, shred};

const OLD: Epoch = Epoch::FIRST;
const NEW: Epoch = Epoch::FIRST.next();

/// A vault of epoch 1, and all that its bytes told before it was shredded.
struct Start {
    snapshot: Snapshot,
    state: State,
    body: Vec<u8>,
    operations: u64,
}

impl Start {
    fn new() -> Self {
        let rig = Rig::created();
        let snapshot = rig.disk.snapshot();
        let mut vault = rig.open().unwrap();
        let state = State::of(&vault);
        let body = rig.read(body(BODY_DIRS[0], OLD.get()));
        rig.disk.reset_counts();
        shred(&mut vault).unwrap();
        Self { snapshot, state, body, operations: rig.disk.count(Count::All) }
    }

    fn rig(&self, seed: u64) -> Rig {
        Rig::new(SimDisk::from_snapshot(&self.snapshot, Seed::new(seed)), Seed::new(seed).derive("keys"))
    }

    /// Opens what a fault has left and checks it.
    fn check(&self, rig: &Rig, at_least: Epoch) -> Epoch {
        let vault = rig.open().expect("the old or the new epoch opens");
        let epoch = vault.epoch();
        assert!(epoch >= at_least, "a write that was acknowledged or seen was undone");
        assert!(epoch == OLD || epoch == NEW);
        let expected = if epoch == OLD { self.state.clone() } else { self.state.shredded() };
        assert_eq!(State::of(&vault), expected);
        epoch
    }

    /// Checks that the old body is noise now, although a thief kept it and lost the new one.
    fn check_old_is_gone(&self, rig: &Rig) {
        rig.disk.crash_losing_all();
        for anchor in ANCHORS {
            let cell = rig.read(anchor);
            let used = cell.chunks(4096).filter(|slot| slot.iter().any(|byte| *byte != 0));
            assert_eq!(used.count(), 1, "one slot is used and the other one is zero");
        }
        for dir in BODY_DIRS {
            assert_eq!(
                rig.disk.files().iter().filter(|path| path.starts_with(dir)).count(),
                1 + usize::from(dir == BODY_DIRS[0])
            );
            rig.put(body(dir, OLD.get()), &self.body);
        }
        self.check(rig, NEW);
        for dir in BODY_DIRS {
            rig.put(body(dir, OLD.get()), &self.body);
            rig.remove(body(dir, NEW.get()));
        }
        assert!(matches!(rig.open(), Err(VaultError::BodyMissing(NEW))));
    }
}

/// What a fault does to the process.
#[derive(Clone, Copy, Debug)]
enum After {
    /// It goes on, and asks what came of the write.
    Probe,
    /// It is started again; the page cache stays.
    Kill,
    /// Power is cut, too.
    PowerCut,
}

#[test]
fn every_operation_of_a_write_fails_once() {
    let start = Start::new();
    let mut outcomes = [0; 2];
    for index in 0..start.operations {
        for effect in [Effect::NotApplied, Effect::Partly, Effect::Applied] {
            for after in [After::Probe, After::Kill, After::PowerCut] {
                let rig = start.rig(index);
                let mut vault = rig.open().unwrap();
                rig.disk.reset_counts();
                rig.disk.fail(Fault::once(index).counting(Count::All).doing(effect));
                let result = shred(&mut vault);
                let mut at_least = if result.is_ok() { NEW } else { OLD };
                if let Err(error) = &result {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{index} {effect:?}: {error}");
                }
                match after {
                    After::Probe => {
                        at_least = at_least.max(vault.probe().unwrap());
                        assert_eq!(
                            State::of(&vault),
                            if at_least == OLD { start.state.clone() } else { start.state.shredded() }
                        );
                        drop(vault);
                    }
                    After::Kill => rig.disk.kill(),
                    After::PowerCut => rig.disk.crash(&mut Seed::new(index).rng()),
                }
                let epoch = start.check(&rig, at_least);
                outcomes[usize::from(epoch == NEW)] += 1;
                if epoch == NEW {
                    start.check_old_is_gone(&rig);
                }
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 20), "both outcomes occur: {outcomes:?}");
}

#[test]
fn every_operation_of_a_write_crashes_once() {
    let start = Start::new();
    let mut outcomes = [0; 2];
    for index in 0..start.operations {
        for seed in 0..12 {
            let rig = start.rig(seed);
            let mut vault = rig.open().unwrap();
            rig.disk.reset_counts();
            rig.disk.crash_at(Count::All, index);
            // Removing the old body is not waited for: it is noise by then.
            let at_least = if shred(&mut vault).is_ok() { NEW } else { OLD };
            assert!(rig.disk.is_down());
            match seed {
                0 => rig.disk.crash_losing_all(),
                1 => rig.disk.kill(),
                _ => rig.disk.crash(&mut Seed::new(seed).rng()),
            }
            let epoch = start.check(&rig, at_least);
            outcomes[usize::from(epoch == NEW)] += 1;
            if epoch == NEW {
                start.check_old_is_gone(&rig);
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 20), "both outcomes occur: {outcomes:?}");
}

#[test]
fn a_dying_disk_never_undoes_and_a_repetition_succeeds() {
    let start = Start::new();
    for index in 0..start.operations {
        let rig = start.rig(index);
        let mut vault = rig.open().unwrap();
        rig.disk.reset_counts();
        rig.disk.fail(Fault::forever(index).counting(Count::All));
        let done = shred(&mut vault).is_ok();
        if !done {
            assert_eq!(vault.probe().unwrap_err().kind(), ErrorKind::Unavailable);
        }
        rig.disk.clear_faults();
        let epoch = vault.probe().unwrap();
        assert!(epoch == NEW || !done && epoch == OLD);
        // The same process goes on and shreds again.
        assert_eq!(shred(&mut vault).unwrap(), epoch.next());
        assert_eq!(State::of(&vault), start.state.shredded());
        drop(vault);
        rig.disk.crash_losing_all();
        let vault = rig.open().unwrap();
        assert_eq!((vault.epoch(), State::of(&vault)), (epoch.next(), start.state.shredded()));
    }
}

#[test]
fn crashes_during_the_repair_after_a_crash_lose_nothing() {
    let start = Start::new();
    for seed in 0..1_500 {
        let rig = start.rig(seed);
        let mut rng = Seed::new(seed).rng();
        let mut vault = rig.open().unwrap();
        rig.disk.reset_counts();
        rig.disk.crash_at(Count::All, rng.below(start.operations));
        let mut at_least = if shred(&mut vault).is_ok() { NEW } else { OLD };
        drop(vault);
        rig.disk.crash(&mut rng);
        for _ in 0..3 {
            rig.disk.reset_counts();
            rig.disk.crash_at(Count::All, rng.below(60));
            if let Ok(vault) = rig.open() {
                assert!(vault.epoch() >= at_least, "seed {seed}");
                at_least = vault.epoch();
            }
            rig.disk.crash(&mut rng);
        }
        if start.check(&rig, at_least) == NEW {
            start.check_old_is_gone(&rig);
        }
    }
}

#[test]
fn a_creation_that_was_cut_short_is_repeated() {
    let operations = {
        let rig = Rig::new(SimDisk::default(), Seed::new(1));
        rig.create().unwrap();
        rig.disk.count(Count::All)
    };
    let mut repeated = 0;
    for index in 0..operations {
        for case in 0..8 {
            let rig = Rig::new(SimDisk::new(Seed::new(case)), Seed::new(case).derive("keys"));
            match case {
                0 => rig.disk.fail(Fault::once(index).counting(Count::All)),
                1 => rig.disk.fail(Fault::once(index).counting(Count::All).doing(Effect::Applied)),
                _ => rig.disk.crash_at(Count::All, index),
            }
            let first = rig.create().map(|vault| State::of(&vault));
            match case {
                0 | 2 => rig.disk.kill(),
                1 | 3 => rig.disk.crash_losing_all(),
                _ => rig.disk.crash(&mut Seed::new(case).rng()),
            }
            let state = match (rig.open(), first) {
                (Ok(vault), Ok(state)) => {
                    assert_eq!(State::of(&vault), state);
                    state
                }
                (Ok(vault), Err(_)) => State::of(&vault),
                (Err(error), Ok(_)) => panic!("a created vault is lost: {error}"),
                (Err(error), Err(_)) => {
                    repeated += 1;
                    assert_eq!(error.kind(), ErrorKind::NotFound, "operation {index}, case {case}: {error}");
                    State::of(&rig.create().unwrap())
                }
            };
            rig.disk.crash_losing_all();
            let vault = rig.open().unwrap();
            assert_eq!((vault.epoch(), State::of(&vault)), (OLD, state));
        }
    }
    assert!(repeated > 50);
}
