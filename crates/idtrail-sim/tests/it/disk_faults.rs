//! Planned failures, dead handles, locks, counters.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use idtrail_port::{Disk, DiskFile, Open, Privacy};
use idtrail_sim::{
    Count, EIO, ENOSPC, Effect, Fault, OperationKind, Repeat, Rng, Seed, SimDisk, is_crash, seeds,
};

use crate::{create, create_durable, open};

type Act = fn(&SimDisk, &dyn DiskFile) -> io::Result<()>;

/// Every kind of operation, as done on a disk with the file `/f` = A, held open.
const ACTS: [(OperationKind, Act); 14] = [
    (OperationKind::Open, |disk, _| disk.open(Path::new("/f"), Open::Read).map(drop)),
    (OperationKind::Create, |disk, _| disk.open(Path::new("/g"), Open::CreateNew(Privacy::Public)).map(drop)),
    (OperationKind::CreateDir, |disk, _| disk.create_dir(Path::new("/g"))),
    (OperationKind::List, |disk, _| disk.list(Path::new("/")).map(drop)),
    (OperationKind::Exists, |disk, _| disk.exists(Path::new("/f")).map(drop)),
    (OperationKind::Rename, |disk, _| disk.rename(Path::new("/f"), Path::new("/g"))),
    (OperationKind::Remove, |disk, _| disk.remove(Path::new("/f"))),
    (OperationKind::SyncDir, |disk, _| disk.sync_dir(Path::new("/"))),
    (OperationKind::Lock, |disk, _| disk.lock(Path::new("/g")).map(drop)),
    (OperationKind::Read, |_, file| file.read_at(&mut [0], 0).map(drop)),
    (OperationKind::Write, |_, file| file.write_all_at(b"B", 0)),
    (OperationKind::SyncData, |_, file| file.sync_data()),
    (OperationKind::Len, |_, file| file.len().map(drop)),
    (OperationKind::DropCache, |_, file| file.drop_cache()),
];

fn prepared() -> (SimDisk, Box<dyn DiskFile>) {
    let disk = SimDisk::default();
    let file = create_durable(&disk, "/f", b"A");
    disk.reset_counts();
    (disk, file)
}

fn visible(disk: &SimDisk) -> (Vec<String>, Vec<Vec<u8>>) {
    let bytes = disk.files().iter().map(|path| disk.read_cached(path).unwrap()).collect();
    (disk.list(Path::new("/")).unwrap(), bytes)
}

#[test]
fn each_operation_fails_as_planned() {
    for (kind, act) in ACTS {
        let (disk, file) = prepared();
        let before = visible(&disk);
        act(&disk, &*file).unwrap();
        let after = visible(&disk);
        for (effect, expected) in
            [(Effect::NotApplied, &before), (Effect::Partly, &before), (Effect::Applied, &after)]
        {
            for errno in [EIO, ENOSPC] {
                let (disk, file) = prepared();
                disk.fail(Fault::once(0).counting(Count::Of(kind)).errno(errno).doing(effect));
                let error = act(&disk, &*file).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(errno), "{kind:?} {effect:?}");
                assert!(!is_crash(&error));
                disk.clear_faults();
                assert_eq!(&visible(&disk), expected, "{kind:?} {effect:?}");
                if effect != Effect::Applied {
                    act(&disk, &*file).unwrap();
                    assert_eq!(visible(&disk), after, "{kind:?} succeeds the second time");
                }
            }
        }
    }
}

#[test]
fn each_operation_is_where_the_machine_may_crash() {
    for (kind, act) in ACTS {
        let (disk, file) = prepared();
        let before = visible(&disk);
        disk.reset_counts();
        disk.crash_at(Count::Of(kind), 0);
        assert!(is_crash(&act(&disk, &*file).unwrap_err()), "{kind:?}");
        assert!(disk.is_down());
        for (_, act) in ACTS {
            assert!(is_crash(&act(&disk, &*file).unwrap_err()), "nothing works until the restart");
        }
        disk.crash(&mut Rng::new(Seed::new(0)));
        assert!(!disk.is_down());
        assert_eq!(visible(&disk), before, "{kind:?} is not done");
        assert!(is_crash(&file.len().unwrap_err()), "the handle is dead");
        let file = open(&disk, "/f");
        act(&disk, &*file).unwrap();
    }
}

#[test]
fn operations_are_counted_apart() {
    let (disk, file) = prepared();
    for (_, act) in ACTS {
        // The file that an earlier act needs may be gone: a failed operation counts too.
        let _outcome = act(&disk, &*file);
    }
    assert_eq!(disk.count(Count::All), 14);
    assert_eq!(disk.count(Count::Mutating), 8);
    for (kind, _) in ACTS {
        assert_eq!(disk.count(Count::Of(kind)), 1, "{kind:?}");
    }
}

#[test]
fn a_fault_strikes_at_its_index() {
    // Three writes with a read before each.
    let run = |fault: Fault| -> Vec<bool> {
        let (disk, file) = prepared();
        disk.fail(fault);
        let mut outcomes = Vec::new();
        for _ in 0..3 {
            outcomes.push(file.read_at(&mut [0], 0).is_ok());
            outcomes.push(file.write_all_at(b"B", 0).is_ok());
        }
        outcomes
    };
    let (ok, bad) = (true, false);
    assert_eq!(run(Fault::once(1)), [ok, ok, ok, bad, ok, ok]);
    assert_eq!(run(Fault::forever(1)), [ok, ok, ok, bad, ok, bad]);
    assert_eq!(run(Fault::once(1).counting(Count::All)), [ok, bad, ok, ok, ok, ok]);
    assert_eq!(run(Fault::forever(1).counting(Count::All)), [ok, bad, bad, bad, bad, bad]);
    assert_eq!(run(Fault::once(2).counting(Count::Of(OperationKind::Read))), [ok, ok, ok, ok, bad, ok]);
    let all = Fault { repeat: Repeat::Forever, ..Fault::once(0).counting(Count::All) };
    assert_eq!(run(all), [bad; 6]);
}

#[test]
fn a_restart_forgets_planned_faults() {
    let (disk, _) = prepared();
    disk.fail(Fault::forever(0).counting(Count::All));
    disk.crash_at(Count::All, 100);
    disk.crash_losing_all();
    let file = open(&disk, "/f");
    for _ in 0..200 {
        file.len().unwrap();
    }
}

#[test]
fn a_write_may_stop_half_way() {
    let mut lengths = BTreeSet::new();
    for seed in seeds(50) {
        let disk = SimDisk::new(Seed::new(seed));
        let file = create(&disk, "/f");
        disk.fail(
            Fault::once(0).counting(Count::Of(OperationKind::Write)).errno(ENOSPC).doing(Effect::Partly),
        );
        assert_eq!(file.write_all_at(&[7; 10_000], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        let bytes = disk.read_cached("/f").unwrap();
        assert!(bytes.len() < 10_000 && bytes.iter().all(|byte| *byte == 7));
        lengths.insert(bytes.len());
    }
    assert!(lengths.len() > 10);
}

/// Writes B over synced A, fails the sync, and returns the file as a later crash leaves it.
fn after_failed_sync(seed: u64, between: impl Fn(&SimDisk, &dyn DiskFile)) -> u8 {
    let disk = SimDisk::new(Seed::new(seed));
    let file = create_durable(&disk, "/f", b"A");
    file.write_all_at(b"B", 0).unwrap();
    disk.fail(Fault::once(disk.count(Count::Mutating)));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(disk.read_cached("/f").unwrap(), b"B", "reads are none the wiser");
    between(&disk, &*file);
    disk.crash_losing_all();
    disk.read_cached("/f").unwrap()[0]
}

#[test]
fn a_second_sync_does_not_mend_a_failed_one() {
    let fates = |between: fn(&SimDisk, &dyn DiskFile)| -> BTreeSet<u8> {
        seeds(50).map(|seed| after_failed_sync(seed, between)).collect()
    };
    let either = BTreeSet::from([b'A', b'B']);
    assert_eq!(fates(|_, _| {}), either);
    assert_eq!(fates(|_, file| file.sync_data().unwrap()), either, "the pages count as clean");
    let rewrite: fn(&SimDisk, &dyn DiskFile) = |_, file| {
        file.write_all_at(b"B", 0).unwrap();
        file.sync_data().unwrap();
    };
    assert_eq!(fates(rewrite), BTreeSet::from([b'B']), "only a new write makes them dirty again");
}

#[test]
fn dropping_the_cache_shows_what_a_failed_sync_lost() {
    let mut read = BTreeSet::new();
    for seed in seeds(50) {
        let shown = std::cell::Cell::new(0);
        let left = after_failed_sync(seed, |disk, file| {
            file.sync_data().unwrap();
            file.drop_cache().unwrap();
            shown.set(disk.read_cached("/f").unwrap()[0]);
        });
        assert_eq!(shown.get(), left, "after dropping the cache reads see what a crash would leave");
        read.insert(left);
    }
    assert_eq!(read, BTreeSet::from([b'A', b'B']));
}

#[test]
fn dropping_the_cache_keeps_dirty_sectors() {
    let lost = seeds(50).filter(|seed| {
        let disk = SimDisk::new(Seed::new(*seed));
        let file = create_durable(&disk, "/f", &[b'A'; 4096]);
        file.write_all_at(&[b'B'; 512], 0).unwrap();
        disk.fail(Fault::once(disk.count(Count::Mutating)));
        file.sync_data().unwrap_err();
        file.write_all_at(&[b'C'; 512], 512).unwrap();
        file.drop_cache().unwrap();
        let bytes = disk.read_cached("/f").unwrap();
        assert_eq!(bytes[512..1024], [b'C'; 512], "still dirty, in the same page");
        file.sync_data().unwrap();
        assert_eq!(disk.read_durable("/f").unwrap(), bytes);
        bytes[0] == b'A'
    });
    assert!((5..45).contains(&lost.count()));
}

#[test]
fn a_sync_that_lies_about_its_failure_is_durable() {
    let (disk, file) = prepared();
    file.write_all_at(b"B", 0).unwrap();
    disk.fail(Fault::once(1).doing(Effect::Applied));
    file.sync_data().unwrap_err();
    disk.crash_losing_all();
    assert_eq!(disk.read_cached("/f").unwrap(), b"B");
}

#[test]
fn a_failed_sync_may_lose_the_length() {
    let mut lengths = BTreeSet::new();
    for seed in seeds(100) {
        let disk = SimDisk::new(Seed::new(seed));
        let file = create_durable(&disk, "/f", b"A");
        file.write_all_at(b"B", 1).unwrap();
        disk.fail(Fault::once(disk.count(Count::Mutating)));
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 2);
        lengths.insert(disk.read_durable("/f").unwrap());
    }
    assert_eq!(lengths, BTreeSet::from([b"A".to_vec(), b"A\0".to_vec(), b"AB".to_vec()]));
}

#[test]
fn a_lock_is_held_until_it_is_dropped_or_its_process_dies() {
    let disk = SimDisk::default();
    let path = Path::new("/lock");
    let first = disk.lock(path).unwrap();
    assert_eq!(disk.privacy("/lock").unwrap(), Privacy::Owner);
    assert_eq!(disk.clone().lock(path).map(drop).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(first);
    let second = disk.lock(path).unwrap();
    disk.kill();
    let third = disk.lock(path).unwrap();
    drop(second);
    assert_eq!(
        disk.lock(path).map(drop).unwrap_err().kind(),
        io::ErrorKind::WouldBlock,
        "the dead release nothing"
    );
    disk.crash_losing_all();
    let fourth = disk.lock(path).unwrap();
    drop(third);
    assert!(disk.lock(path).is_err());
    drop(fourth);

    disk.reset_counts();
    disk.fail(Fault::once(0).doing(Effect::Applied));
    disk.lock(path).map(drop).unwrap_err();
    disk.lock(path).map(drop).unwrap();
}

#[test]
fn a_file_opened_for_reading_refuses_writes() {
    let (disk, _) = prepared();
    let file = disk.open(Path::new("/f"), Open::Read).unwrap();
    assert_eq!(file.write_all_at(b"B", 0).unwrap_err().raw_os_error(), Some(9));
    assert_eq!(disk.read_cached("/f").unwrap(), b"A");
}

#[test]
fn an_open_file_outlives_its_name() {
    let (disk, file) = prepared();
    disk.remove(Path::new("/f")).unwrap();
    create_durable(&disk, "/f", b"C");
    file.write_all_at(b"B", 0).unwrap();
    let mut read = [0];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!((&read, disk.read_cached("/f").unwrap()), (b"B", b"C".to_vec()));
}

#[test]
fn the_trace_tells_what_was_asked() {
    let disk = SimDisk::default();
    disk.set_trace(true);
    let file = create_durable(&disk, "/f", b"AB");
    let index = disk.count(Count::Mutating);
    disk.fail(Fault::once(index));
    file.write_all_at(b"C", 1).unwrap_err();
    disk.rename(Path::new("/f"), Path::new("/g")).unwrap();
    disk.crash_at(Count::All, disk.count(Count::All));
    disk.exists(Path::new("/g")).unwrap_err();
    let told: Vec<String> = disk
        .take_trace()
        .iter()
        .map(|op| {
            let to = op.to.as_ref().map(|to| format!(">{}", to.display())).unwrap_or_default();
            format!(
                "{} {:?} {:?} {}{to} {}+{} {:?} {}",
                op.index,
                op.mutation,
                op.kind,
                op.path.display(),
                op.offset,
                op.length,
                op.injected,
                op.crashed
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "0 Some(0) Create /f 0+0 None false",
            "1 Some(1) Write /f 0+2 None false",
            "2 Some(2) SyncData /f 0+0 None false",
            "3 Some(3) SyncDir / 0+0 None false",
            "4 Some(4) Write /f 1+1 Some(5) false",
            "5 Some(5) Rename /f>/g 0+0 None false",
            "6 None Exists /g 0+0 None true",
        ]
    );
    assert!(disk.take_trace().is_empty());
}
