//! Power cuts, failing operations, torn frames: nothing acknowledged is lost, no index is given twice.

use idtrail_log::{ErrorKind, LogError};
use idtrail_sim::{Count, ENOSPC, Effect, Fault, Rng, Seed, SimDisk, seeds};

use crate::support::*;

/// Runs a log until the disk goes down, restarts it, and checks every promise; three times on one disk. Returns how
/// many restarts went through.
///
/// The simulated disk also tears within a 512-byte block. Such a frame cannot be told from one that was damaged after
/// it was acknowledged, so a start may be refused then; but only because of a frame behind everything acknowledged.
fn power_cuts(seed: u64) -> u32 {
    let seed = Seed::new(seed);
    let disk = SimDisk::new(seed.derive("disk"));
    let mut rng = seed.derive("test").rng();
    create(&disk);
    let mut kept: Vec<Acknowledged> = Vec::new();
    let mut number = 0;
    for round in 0..3 {
        let next = disk.count(Count::Mutating);
        disk.crash_at(Count::Mutating, next + rng.below(60));
        if let Ok(mut log) = open(&disk) {
            for _ in 0..20 {
                let texts: Vec<Vec<u8>> = (0..1 + rng.below(4))
                    .map(|_| {
                        number += 1;
                        text(number, 20 + rng.below(3000) as usize)
                    })
                    .collect();
                match log.append(&texts) {
                    Ok(acknowledged) => kept.extend(acknowledged),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                        break;
                    }
                }
            }
        }
        disk.crash(&mut rng);
        disk.clear_faults();
        let known = kept.iter().map(|kept| kept.index.get() + 1).max().unwrap_or(0);
        let log = match open_known(&disk, known) {
            Ok(log) => log,
            Err(LogError::Damaged { what, index, .. }) => {
                let torn_within_a_block =
                    ["a frame was written in full but its checksum is wrong", "a frame's header is damaged"];
                assert!(torn_within_a_block.contains(&what), "seed {seed}: {what}");
                assert!(index.get() >= known, "seed {seed}: an acknowledged frame is damaged");
                return round;
            }
            Err(error) => panic!("seed {seed}, round {round}: {error}"),
        };
        kept.iter().for_each(|kept| check_kept(&log, kept));
        let mut indices: Vec<_> = kept.iter().map(|kept| kept.index).collect();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), kept.len(), "seed {seed}: an index was given twice");
        drop(log);
        assert_eq!(check_disk(&disk, &dir()).findings, [], "seed {seed}");
    }
    3
}

#[test]
fn a_thousand_power_cuts_lose_nothing_acknowledged() {
    let restarts: u32 = seeds(360).map(power_cuts).sum();
    assert!(restarts >= 1000, "restarts={restarts}");
}

#[test]
fn every_operation_failed_once_acknowledges_nothing_wrong() {
    let texts = |from: u64| (from..from + 3).map(|number| text(number, 9000)).collect::<Vec<_>>();
    for effect in [Effect::NotApplied, Effect::Partly, Effect::Applied] {
        for operation in 0.. {
            let disk = SimDisk::new(Seed::new(operation));
            create(&disk);
            let mut kept = Vec::new();
            let start = disk.count(Count::Mutating);
            disk.fail(
                Fault::once(start + operation)
                    .errno(if operation % 2 == 0 { 5 } else { ENOSPC })
                    .doing(effect),
            );
            let mut failed = false;
            match open(&disk) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    failed = true;
                }
                Ok(mut log) => {
                    for from in [0, 10, 20, 30] {
                        match log.append(&texts(from)) {
                            Ok(acknowledged) => kept.extend(acknowledged),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                                failed = true;
                                break;
                            }
                        }
                    }
                }
            }
            let reached = disk.count(Count::Mutating) > start + operation;
            disk.crash(&mut Rng::new(Seed::new(operation)));
            disk.clear_faults();
            let log = open(&disk).unwrap_or_else(|error| panic!("operation {operation}: {error}"));
            kept.iter().for_each(|kept| check_kept(&log, kept));
            if !reached {
                assert!(!failed);
                break;
            }
        }
    }
}

/// Returns a disk with a log of a few frames, and the file, offset and length of the last one.
fn with_last_frame() -> (SimDisk, std::path::PathBuf, u64, u64) {
    let disk = SimDisk::new(Seed::new(1));
    create(&disk);
    let mut log = open(&disk).unwrap();
    for number in 0..3 {
        log.append(&[text(number, 700), text(100 + number, 900)]).unwrap();
    }
    let path = dir().join("segments").join(format!("{:020}.seg", 0));
    let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let before = used(&disk.read_cached(&path).unwrap());
    log.append(&[text(7, 700), text(8, 900)]).unwrap();
    let after = used(&disk.read_cached(&path).unwrap());
    disk.crash_losing_all();
    (disk, path, before, after - before)
}

fn overwrite(disk: &SimDisk, path: &std::path::Path, bytes: &[u8], offset: u64) {
    use idtrail_port::{Disk, Open};
    let file = disk.open(path, Open::Write).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync_data().unwrap();
}

#[test]
fn a_frame_torn_at_any_byte_is_cut_off() {
    let (disk, path, offset, length) = with_last_frame();
    let whole = disk.snapshot();
    for torn in 0..length {
        disk.restore(&whole);
        overwrite(&disk, &path, &vec![0; (length - torn) as usize], offset + torn);
        let log = open(&disk).unwrap_or_else(|error| panic!("torn at {torn}: {error}"));
        assert_eq!(log.size(), 6, "torn at {torn}");
        drop(log);
        disk.restore(&whole);
        overwrite(&disk, &path, &vec![0; (length - torn) as usize], offset + torn);
        let refused = open_known(&disk, 8);
        assert!(
            matches!(refused.err(), Some(LogError::RolledBack { .. })),
            "an acknowledged frame is never cut"
        );
    }
}

#[test]
fn a_frame_with_a_missing_block_is_cut_off() {
    let (disk, path, offset, length) = with_last_frame();
    let whole = disk.snapshot();
    let mut block = offset / 512 * 512;
    while block < offset + length {
        disk.restore(&whole);
        let from = block.max(offset);
        let to = (block + 512).min(offset + length);
        overwrite(&disk, &path, &vec![0; (to - from) as usize], from);
        assert_eq!(open(&disk).unwrap_or_else(|error| panic!("block {block}: {error}")).size(), 6);
        block += 512;
    }
}

#[test]
fn a_whole_frame_with_any_changed_byte_refuses_to_start() {
    let (disk, path, offset, length) = with_last_frame();
    let whole = disk.snapshot();
    for byte in (0..length).step_by(3) {
        disk.restore(&whole);
        disk.flip_bit(&path, offset + byte, (byte % 8) as u8).unwrap();
        let error = open(&disk).err().unwrap_or_else(|| panic!("byte {byte} went unnoticed"));
        assert_eq!(error.kind(), ErrorKind::Damaged, "byte {byte}: {error}");
    }
}

#[test]
fn an_orderly_stop_needs_no_recovery_and_the_log_goes_on() {
    let disk = SimDisk::new(Seed::new(3));
    create(&disk);
    let mut log = open(&disk).unwrap();
    log.append(&[text(1, 100)]).unwrap();
    let root = log.root();
    idtrail_log::recovery::mark_clean(&disk, &dir(), log.committer.reader()).unwrap();
    drop(log);
    let mut log = open(&disk).unwrap();
    assert!(log.opened.clean);
    assert_eq!(log.root(), root);
    let again = log.append(&[text(1, 100), text(2, 100)]).unwrap();
    assert_eq!(again.iter().map(|kept| kept.index.get()).collect::<Vec<_>>(), [0, 1]);
    drop(log);
    assert!(!open(&disk).unwrap().opened.clean, "the mark holds for one start only");
}

#[test]
fn a_log_is_never_created_over_another() {
    let disk = SimDisk::new(Seed::new(4));
    create(&disk);
    let again = idtrail_log::recovery::create(&disk, &dir(), ORIGIN, SEGMENT_BYTES);
    assert!(matches!(again, Err(LogError::Exists { .. })));
}
