//! Cursor and dead letters on a disk that loses what was not synced.

use std::path::Path;
use std::sync::Arc;

use idtrail_connect::engine::{Cursor, DeadChange, DeadLetter};
use idtrail_connect::store::{Store, StoreError};
use idtrail_connect::{Position, Status};
use idtrail_port::Disk;
use idtrail_sim::{Count, Seed, SimDisk, is_crash, seeds};

const DIR: &str = "/sinks/one";

fn letter(seq: u64, attempts: u32) -> DeadLetter {
    DeadLetter {
        at: Position::new(0, seq),
        code: "not_null".to_owned(),
        column: None,
        attempts,
        status: Status::new("23502"),
        since_ms: 5,
    }
}

fn cursor(seq: u64) -> Cursor {
    Cursor { next: Position::new(0, seq), ..Cursor::default() }
}

#[test]
fn what_was_confirmed_is_there_after_any_power_cut() {
    for seed in seeds(150) {
        let mut rng = Seed::new(seed).rng();
        let disk = SimDisk::new(Seed::new(seed));
        disk.crash_at(Count::All, 8 + rng.below(60));
        let mut confirmed = (None, Vec::new());
        let mut tried = (None, Vec::new());
        let opened = Store::open(Arc::new(disk.clone()), Path::new(DIR));
        if let Ok((mut store, _)) = opened {
            for n in 0..30 {
                tried.0 = Some(cursor(n));
                if store.save_cursor(&cursor(n)).is_err() {
                    break;
                }
                confirmed.0 = Some(cursor(n));
                let changes: Vec<DeadChange> = if n % 5 == 4 {
                    vec![DeadChange::Remove(Position::new(0, n - 4)), DeadChange::Put(letter(n - 1, 9))]
                } else {
                    vec![DeadChange::Put(letter(n, 1)), DeadChange::Put(letter(n + 100, 1))]
                };
                tried.1 = after(&confirmed.1, &changes);
                if store.save_dead(&changes).is_err() {
                    break;
                }
                confirmed.1.clone_from(&tried.1);
            }
        }
        disk.crash(&mut rng);
        let (_, kept) = Store::open(Arc::new(disk.clone()), Path::new(DIR))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(kept.cursor == confirmed.0 || kept.cursor == tried.0, "seed {seed}");
        assert!(kept.dead == confirmed.1 || kept.dead == tried.1, "seed {seed}");
    }
}

fn after(before: &[DeadLetter], changes: &[DeadChange]) -> Vec<DeadLetter> {
    let mut all: std::collections::BTreeMap<Position, DeadLetter> =
        before.iter().map(|letter| (letter.at, letter.clone())).collect();
    for change in changes {
        match change {
            DeadChange::Put(letter) => drop(all.insert(letter.at, letter.clone())),
            DeadChange::Remove(at) => drop(all.remove(at)),
        }
    }
    all.into_values().collect()
}

#[test]
fn after_a_failed_write_the_next_one_holds_everything() {
    for index in 0..40 {
        let disk = SimDisk::new(Seed::new(index));
        let (mut store, _) = Store::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap();
        store.save_dead(&[DeadChange::Put(letter(1, 1))]).unwrap();
        disk.reset_counts();
        disk.fail(idtrail_sim::Fault::once(index % 8));
        let mut failed = store.save_dead(&[DeadChange::Put(letter(2, 1))]).is_err();
        failed |= store.save_cursor(&cursor(1)).is_err();
        disk.clear_faults();
        store.save_dead(&[DeadChange::Put(letter(2, 1)), DeadChange::Put(letter(3, 1))]).unwrap();
        store.save_cursor(&cursor(2)).unwrap();
        drop(store);
        disk.crash_losing_all();
        let (_, kept) = Store::open(Arc::new(disk), Path::new(DIR)).unwrap();
        assert_eq!(kept.dead, [letter(1, 1), letter(2, 1), letter(3, 1)], "fault {index}, {failed}");
        assert_eq!(kept.cursor, Some(cursor(2)));
    }
}

#[test]
fn a_second_process_is_refused_and_one_may_look() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
    let (mut store, kept) = Store::open(disk.clone(), Path::new(DIR)).unwrap();
    assert_eq!((kept.cursor, kept.dead.len()), (None, 0));
    assert!(matches!(Store::open(disk.clone(), Path::new(DIR)), Err(StoreError::Held(_))));
    store.save_cursor(&cursor(3)).unwrap();
    store.save_dead(&[DeadChange::Put(letter(1, 1))]).unwrap();
    let seen = Store::peek(&*disk, Path::new(DIR)).unwrap();
    assert_eq!((seen.cursor, seen.dead), (Some(cursor(3)), vec![letter(1, 1)]));
    drop(store);
    Store::open(disk, Path::new(DIR)).unwrap();
}

#[test]
fn every_flipped_bit_is_found() {
    let disk = SimDisk::default();
    let (mut store, _) = Store::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap();
    store.save_cursor(&cursor(3)).unwrap();
    store.save_dead(&[DeadChange::Put(letter(1, 1))]).unwrap();
    store.save_dead(&[DeadChange::Put(letter(2, 1))]).unwrap();
    drop(store);
    for (name, first_line_only) in [("cursor", false), ("dead-letters", true)] {
        let path = Path::new(DIR).join(name);
        let bytes = disk.read_cached(&path).unwrap();
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        for byte in 0..end as u64 {
            for bit in 0..8 {
                disk.flip_bit(&path, byte, bit).unwrap();
                let found = Store::peek(&disk, Path::new(DIR));
                let damaged = matches!(&found, Err(StoreError::Damaged { .. }));
                assert!(damaged, "{name} {byte}.{bit} {first_line_only}: {found:?}");
                disk.flip_bit(&path, byte, bit).unwrap();
            }
        }
    }
    assert!(!is_crash(&std::io::Error::other("x")));
}
