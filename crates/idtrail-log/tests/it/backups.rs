//! A copy up to a size is a whole log of that size, whatever is appended in the meantime; a final log stays as it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idtrail_log::backup::{Upto, copy, first_entry};
use idtrail_log::{LogError, fsck, recovery, segment};
use idtrail_port::{Disk, Open};
use idtrail_sim::{Seed, SimDisk};
use idtrail_tlog::{Checkpoint, LogIndex, TreeSize};

use crate::support::*;

fn target(number: u64) -> PathBuf {
    PathBuf::from(format!("/backup-{number}"))
}

fn bytes(disk: &SimDisk, dir: &Path) -> Vec<Vec<u8>> {
    let segments = dir.join("segments");
    let firsts = segment::list(disk, &segments).unwrap();
    firsts
        .into_iter()
        .map(|first| idtrail_port::read_whole(disk, &segment::path(&segments, first), u64::MAX).unwrap())
        .collect()
}

fn open_final(disk: &SimDisk, dir: &Path, end: &Checkpoint) -> Result<Vec<Vec<u8>>, LogError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut entries = Vec::new();
    let reader = recovery::open_final(&shared, dir, end, &signer(), &mut |_, entry| {
        entries.push(entry.to_vec());
        Ok(())
    })?;
    let head = reader.head();
    assert_eq!((head.size, head.root), (end.size, end.root));
    for index in 0..head.size.get() {
        assert_eq!(reader.entry(LogIndex::new(index))?, entries[index as usize]);
        reader.inclusion_proof(LogIndex::new(index), head.size)?;
    }
    Ok(entries)
}

/// Over final segments and the one that is being written.
fn ranges_are_what_single_reads_are(reader: &idtrail_log::reader::Reader, all: &[Vec<u8>]) {
    for (count_max, bytes_max) in [(1, u64::MAX), (7, u64::MAX), (1000, 10_000), (1000, 0), (1000, u64::MAX)]
    {
        let mut read = Vec::new();
        while read.len() < all.len() {
            let some = reader.entries(LogIndex::new(read.len() as u64), count_max, bytes_max).unwrap();
            assert!((1..=count_max).contains(&some.len()));
            assert!(some.iter().map(Vec::len).sum::<usize>() as u64 <= bytes_max.saturating_add(1300));
            read.extend(some);
        }
        assert!(read == all, "{count_max} {bytes_max}");
    }
    let beyond = reader.entries(LogIndex::new(all.len() as u64), 1, 1);
    assert!(matches!(beyond, Err(LogError::NotFound { .. })));
}

#[test]
fn a_copy_up_to_a_committed_size_is_a_log_of_that_size() {
    let disk = SimDisk::new(Seed::new(21));
    create(&disk);
    let mut log = open(&disk).unwrap();
    let mut ends = Vec::new();
    let mut all = Vec::new();
    // Three segments and a part of a fourth one; each frame is one size that may be copied up to.
    for frame in 0..40 {
        let texts: Vec<Vec<u8>> = (0..4).map(|entry| text(frame * 10 + entry, 1200)).collect();
        log.append(&texts).unwrap();
        all.extend(texts);
        let head = log.committer.reader().head();
        ends.push(Checkpoint { origin: ORIGIN.to_owned(), size: head.size, root: head.root });
    }
    assert!(bytes(&disk, &dir()).len() > 3);
    ranges_are_what_single_reads_are(log.committer.reader(), &all);
    assert_eq!(first_entry(&disk, &dir()).unwrap().as_deref(), Some(&*all[0]));
    for (number, end) in (0..).zip(&ends) {
        let to = target(number);
        let mut told = 0;
        let copied =
            copy(&disk, (&dir(), ORIGIN), Upto::Size(end.size), &to, &mut |bytes| told = bytes).unwrap();
        assert_eq!((copied.size, copied.root), (end.size, end.root));
        assert_eq!(told, copied.files.len() as u64 * SEGMENT_BYTES);
        let before = bytes(&disk, &to);
        assert_eq!(open_final(&disk, &to, end).unwrap(), all[..end.size.get() as usize]);
        let report = fsck::check(&disk, &to, ORIGIN, &[], &mut |_, _| Ok(()), &mut |_, _| {}).unwrap();
        assert_eq!((report.worst(), report.root), (None, end.root));
        assert_eq!(bytes(&disk, &to), before, "reading writes no segment");
    }
    for (number, size) in [(100, 3), (101, 161)] {
        let refused =
            copy(&disk, (&dir(), ORIGIN), Upto::Size(TreeSize::new(size)), &target(number), &mut |_| {});
        assert!(refused.is_err(), "no frame ends at {size}");
    }
}

#[test]
fn a_final_log_has_one_end() {
    let disk = SimDisk::new(Seed::new(22));
    create(&disk);
    let mut log = open(&disk).unwrap();
    let mut ends = Vec::new();
    for number in 0..3 {
        log.append(&[text(number, 100)]).unwrap();
        let head = log.committer.reader().head();
        ends.push(Checkpoint { origin: ORIGIN.to_owned(), size: head.size, root: head.root });
    }
    drop(log);
    open_final(&disk, &dir(), &ends[2]).unwrap();
    assert!(matches!(open_final(&disk, &dir(), &ends[1]), Err(LogError::Damaged { .. })), "it goes on");
    let beyond = Checkpoint { size: TreeSize::new(4), ..ends[2].clone() };
    assert!(matches!(open_final(&disk, &dir(), &beyond), Err(LogError::RolledBack { .. })), "it is cut off");
    let other = Checkpoint { root: ends[1].root, ..ends[2].clone() };
    assert!(matches!(open_final(&disk, &dir(), &other), Err(LogError::Damaged { .. })), "another tree");
}

#[test]
fn every_changed_byte_of_a_log_that_is_copied_is_found() {
    let disk = SimDisk::new(Seed::new(23));
    create(&disk);
    let mut log = open(&disk).unwrap();
    for number in 0..3 {
        log.append(&[text(number, 40)]).unwrap();
    }
    drop(log);
    let path = segment::path(&dir().join("segments"), LogIndex::new(0));
    let whole = idtrail_port::read_whole(&disk, &path, u64::MAX).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let file = disk.open(&path, Open::Write).unwrap();
    for (number, at) in (0..4096).step_by(64).chain(4096..end).enumerate() {
        file.write_all_at(&[whole[at] ^ 0x10], at as u64).unwrap();
        let upto = Upto::Size(TreeSize::new(3));
        let copied = copy(&disk, (&dir(), ORIGIN), upto, &target(number as u64), &mut |_| {});
        assert!(copied.is_err(), "byte {at}");
        file.write_all_at(&[whole[at]], at as u64).unwrap();
    }
    copy(&disk, (&dir(), ORIGIN), Upto::End, &target(10_000), &mut |_| {}).unwrap();
}
