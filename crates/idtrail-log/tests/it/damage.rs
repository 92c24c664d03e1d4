//! The full check finds every changed bit, and says where.

use idtrail_log::fsck::{self, Pinned, Severity};
use idtrail_sim::{Seed, SimDisk};
use idtrail_tlog::{Hash, TreeSize};

use crate::support::*;

fn small_log() -> SimDisk {
    let disk = SimDisk::new(Seed::new(5));
    create(&disk);
    let mut log = open(&disk).unwrap();
    for number in 0..4 {
        log.append(&[text(number, 60)]).unwrap();
    }
    log.append(&[text(10, 80), text(11, 80)]).unwrap();
    disk
}

#[test]
fn every_flipped_bit_of_the_journal_is_found() {
    let disk = small_log();
    assert_eq!(check_disk(&disk, &dir()).findings, []);
    let whole = disk.snapshot();
    let path = dir().join("segments").join(format!("{:020}.seg", 0));
    let bytes = disk.read_durable(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    // Everything that was written, and a sample of the zeros behind it.
    let places = (0..100).chain(4090..used).chain((used..bytes.len() as u64).step_by(4093));
    for byte in places {
        for bit in 0..8 {
            disk.restore(&whole);
            disk.flip_bit(&path, byte, bit).unwrap();
            let report = check_disk(&disk, &dir());
            // A lone bit in the zeros behind the frames may also look like what is left of a torn write.
            let found = report.worst() == Some(Severity::Damaged) || byte >= used && report.worst().is_some();
            assert!(found, "byte {byte}, bit {bit}: {report:?}");
        }
    }
}

#[test]
fn a_changed_entry_is_named() {
    let disk = SimDisk::new(Seed::new(6));
    create(&disk);
    let mut log = open(&disk).unwrap();
    let texts: Vec<Vec<u8>> = (0..1100).map(|number| text(number, 24)).collect();
    log.append(&texts).unwrap();
    drop(log);
    let path = dir().join("segments").join(format!("{:020}.seg", 0));
    let bytes = disk.read_durable(&path).unwrap();
    let at = bytes.windows(9).position(|window| window == b"text 700 ").unwrap() as u64;
    disk.flip_bit(&path, at + 6, 0).unwrap();
    let report = check_disk(&disk, &dir());
    assert_eq!(report.findings[0].index.unwrap().get(), 700, "{report:?}");
    assert_eq!(report.findings[0].severity, Severity::Damaged);
}

#[test]
fn stored_tiles_are_derived_and_mended() {
    let disk = SimDisk::new(Seed::new(7));
    create(&disk);
    let mut log = open(&disk).unwrap();
    for group in 0..20 {
        log.append(&(0..200).map(|number| text(group * 1000 + number, 24)).collect::<Vec<_>>()).unwrap();
    }
    let root = log.root();
    drop(log);
    let tiles = dir().join("tiles").join("level-0");
    assert!(disk.read_cached(&tiles).unwrap().len() > 8192);
    disk.flip_bit(&tiles, 5000, 1).unwrap();
    assert_eq!(check_disk(&disk, &dir()).worst(), Some(Severity::Derived));
    let log = open(&disk).unwrap();
    assert_eq!(log.root(), root);
    assert_eq!(check_disk(&disk, &dir()).findings, []);
    assert_eq!(
        idtrail_tlog::root_from_tiles(log.committer.reader().tiles(), TreeSize::new(4000)).unwrap(),
        root
    );
}

#[test]
fn truncation_and_another_history_are_found_with_a_pinned_checkpoint() {
    let disk = small_log();
    let check = |size: u64, root: Hash| {
        let pinned = [Pinned { size: TreeSize::new(size), root }];
        fsck::check(&disk, &dir(), ORIGIN, &pinned, &mut |_, _| Ok(()), &mut |_, _| {}).unwrap()
    };
    let whole = check_disk(&disk, &dir());
    assert_eq!(check(6, whole.root).findings, []);
    assert_eq!(check(6, Hash::new([1; 32])).worst(), Some(Severity::Damaged));
    assert_eq!(check(3, Hash::new([1; 32])).worst(), Some(Severity::Damaged));
    let longer = check(7, whole.root);
    assert_eq!(longer.findings[0].index.unwrap().get(), 6);
}
