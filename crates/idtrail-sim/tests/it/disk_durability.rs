//! What survives a crash: each rule as a row, with every outcome it allows and no other.

use std::collections::BTreeSet;
use std::path::Path;

use idtrail_port::Disk;
use idtrail_sim::{Rng, SECTOR_BYTES, Seed, SimDisk, seeds};

use crate::{create, create_durable, open};

#[derive(Clone, Copy, Debug)]
enum Step {
    Create(&'static str),
    Write(&'static str, &'static str),
    Sync(&'static str),
    SyncDir(&'static str),
    Mkdir(&'static str),
    Rename(&'static str, &'static str),
    Remove(&'static str),
}
use Step::{Create, Mkdir, Remove, Rename, Sync, SyncDir, Write};

fn step(disk: &SimDisk, step: Step) {
    match step {
        Create(path) => drop(create(disk, path)),
        Write(path, text) => open(disk, path).write_all_at(text.as_bytes(), 0).unwrap(),
        Sync(path) => open(disk, path).sync_data().unwrap(),
        SyncDir(path) => disk.sync_dir(Path::new(path)).unwrap(),
        Mkdir(path) => disk.create_dir(Path::new(path)).unwrap(),
        Rename(from, to) => disk.rename(Path::new(from), Path::new(to)).unwrap(),
        Remove(path) => disk.remove(Path::new(path)).unwrap(),
    }
}

/// Shows the disk as `path=bytes`, with `.` for a zero byte.
fn show(disk: &SimDisk) -> String {
    let one = |path: &std::path::PathBuf| {
        let bytes = disk.read_cached(path).unwrap();
        assert_eq!(bytes, disk.read_durable(path).unwrap(), "after a crash reads see the medium");
        format!("{}={}", path.display(), String::from_utf8(bytes).unwrap().replace('\0', "."))
    };
    disk.files().iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Runs `steps` on a disk with durable `/f` = A, `/a/f` = A and `/b`; the first outcome is that of the strictest disk.
fn check(rule: &str, steps: &[Step], outcomes: &[&str]) {
    let prepared = SimDisk::default();
    for name in ["/a", "/b"] {
        step(&prepared, Mkdir(name));
    }
    create_durable(&prepared, "/f", b"A");
    create_durable(&prepared, "/a/f", b"A");
    let prepared = prepared.snapshot();

    let mut seen = BTreeSet::new();
    for seed in seeds(200) {
        let disk = SimDisk::from_snapshot(&prepared, Seed::new(seed));
        steps.iter().for_each(|now| step(&disk, *now));
        let lost = SimDisk::from_snapshot(&disk.snapshot(), Seed::new(seed));
        disk.crash(&mut Rng::new(Seed::new(seed)));
        seen.insert(show(&disk));
        assert_eq!(show(&lost), outcomes[0], "{rule}: a snapshot holds what is certain to survive");
    }
    let disk = SimDisk::from_snapshot(&prepared, Seed::new(0));
    steps.iter().for_each(|now| step(&disk, *now));
    disk.crash_losing_all();
    assert_eq!(show(&disk), outcomes[0], "{rule}: the strictest disk");
    assert_eq!(seen, outcomes.iter().map(|outcome| (*outcome).to_owned()).collect(), "{rule}");
}

#[test]
fn bytes_survive_by_a_sync_of_their_file() {
    check("nothing done, nothing changed", &[], &["/a/f=A /f=A"]);
    check("an unsynced write", &[Write("/f", "B")], &["/a/f=A /f=A", "/a/f=A /f=B"]);
    check("a synced write", &[Write("/f", "B"), Sync("/f")], &["/a/f=A /f=B"]);
    check(
        "a write behind the sync",
        &[Write("/f", "B"), Sync("/f"), Write("/f", "C")],
        &["/a/f=A /f=B", "/a/f=A /f=C"],
    );
    check(
        "growth: the length may survive without the bytes",
        &[Create("/g"), SyncDir("/"), Write("/g", "B")],
        &["/a/f=A /f=A /g=", "/a/f=A /f=A /g=.", "/a/f=A /f=A /g=B"],
    );
    check(
        "growth, synced",
        &[Create("/g"), SyncDir("/"), Write("/g", "B"), Sync("/g")],
        &["/a/f=A /f=A /g=B"],
    );
    check(
        "a sync of the directory syncs no bytes",
        &[Write("/f", "B"), SyncDir("/")],
        &["/a/f=A /f=A", "/a/f=A /f=B"],
    );
    check("a sync of another file", &[Write("/f", "B"), Sync("/a/f")], &["/a/f=A /f=A", "/a/f=A /f=B"]);
}

#[test]
fn names_survive_by_a_sync_of_their_directory() {
    check("a new file", &[Create("/g")], &["/a/f=A /f=A", "/a/f=A /f=A /g="]);
    check(
        "a new file whose bytes are synced",
        &[Create("/g"), Write("/g", "B"), Sync("/g")],
        &["/a/f=A /f=A", "/a/f=A /f=A /g=B"],
    );
    check(
        "a new file, all synced",
        &[Create("/g"), Write("/g", "B"), Sync("/g"), SyncDir("/")],
        &["/a/f=A /f=A /g=B"],
    );
    check("a removed file", &[Remove("/f")], &["/a/f=A /f=A", "/a/f=A"]);
    check("a removed file, synced", &[Remove("/f"), SyncDir("/")], &["/a/f=A"]);
    check("a sync of another directory", &[Remove("/f"), SyncDir("/a")], &["/a/f=A /f=A", "/a/f=A"]);
    check(
        "a new file in place of a removed one",
        &[Remove("/f"), Create("/f"), Write("/f", "B"), Sync("/f")],
        &["/a/f=A /f=A", "/a/f=A", "/a/f=A /f=B"],
    );
    check(
        "changes of one directory survive in order",
        &[Create("/g"), Create("/h")],
        &["/a/f=A /f=A", "/a/f=A /f=A /g=", "/a/f=A /f=A /g= /h="],
    );
    check(
        "changes of two directories survive apart",
        &[Create("/a/g"), Create("/b/g")],
        &["/a/f=A /f=A", "/a/f=A /a/g= /f=A", "/a/f=A /b/g= /f=A", "/a/f=A /a/g= /b/g= /f=A"],
    );
    let new_dir = [Mkdir("/d"), Create("/d/g"), Write("/d/g", "B"), Sync("/d/g")];
    let [mkdir, create, write, sync] = new_dir;
    check("in a new directory, both unsynced", &new_dir, &["/a/f=A /f=A", "/a/f=A /d/g=B /f=A"]);
    check(
        "in a new directory that is synced, unsynced in its parent",
        &[mkdir, create, write, sync, SyncDir("/d")],
        &["/a/f=A /f=A", "/a/f=A /d/g=B /f=A"],
    );
    check(
        "in a new directory, unsynced, synced in its parent",
        &[mkdir, create, write, sync, SyncDir("/")],
        &["/a/f=A /f=A", "/a/f=A /d/g=B /f=A"],
    );
    check(
        "in a new directory, both synced",
        &[mkdir, create, write, sync, SyncDir("/d"), SyncDir("/")],
        &["/a/f=A /d/g=B /f=A"],
    );
}

#[test]
fn a_rename_is_done_or_not_done() {
    let replace = [Create("/t"), Write("/t", "B"), Sync("/t"), SyncDir("/"), Rename("/t", "/f")];
    let [create, write, sync, sync_dir, rename] = replace;
    check("a replacing rename", &replace, &["/a/f=A /f=A /t=B", "/a/f=A /f=B"]);
    check("a replacing rename, synced", &[create, write, sync, rename, sync_dir], &["/a/f=A /f=B"]);
    check(
        "a replacing rename of a file with unsynced bytes",
        &[create, write, rename, sync_dir],
        &["/a/f=A /f=", "/a/f=A /f=.", "/a/f=A /f=B"],
    );
    check(
        "a replacing rename of a file with an unsynced name",
        &[create, write, sync, rename],
        &["/a/f=A /f=A", "/a/f=A /f=A /t=B", "/a/f=A /f=B"],
    );
    let (before, after) = ("/a/f=A /f=A", "/b/f=A /f=A");
    check("between directories", &[Rename("/a/f", "/b/f")], &[before, after]);
    check("between directories, old one synced", &[Rename("/a/f", "/b/f"), SyncDir("/a")], &[before, after]);
    check("between directories, new one synced", &[Rename("/a/f", "/b/f"), SyncDir("/b")], &[before, after]);
    check(
        "between directories, both synced",
        &[Rename("/a/f", "/b/f"), SyncDir("/a"), SyncDir("/b")],
        &[after],
    );
    check(
        "a second rename never outlives the first",
        &[Rename("/a/f", "/b/f"), SyncDir("/a"), Rename("/b/f", "/b/g")],
        &[before, after, "/b/g=A /f=A"],
    );
    check(
        "a second rename never outlives the first, new directory synced between",
        &[Rename("/a/f", "/b/f"), SyncDir("/b"), Rename("/b/f", "/b/g")],
        &[before, after, "/b/g=A /f=A"],
    );
    check(
        "a synced second rename takes the first along",
        &[Rename("/a/f", "/b/f"), Rename("/b/f", "/b/g"), SyncDir("/b")],
        &["/b/g=A /f=A"],
    );
    check("a renamed directory", &[Rename("/a", "/c")], &["/a/f=A /f=A", "/c/f=A /f=A"]);
}

/// Overwrites 24 synced sectors of A with B, crashes, and returns how many B each sector begins with.
fn tear(seed: u64) -> Vec<usize> {
    const SECTORS: usize = 24;
    let disk = SimDisk::default();
    let file = create_durable(&disk, "/f", &[b'A'; SECTORS * SECTOR_BYTES]);
    file.write_all_at(&[b'B'; SECTORS * SECTOR_BYTES], 0).unwrap();
    disk.crash(&mut Rng::new(Seed::new(seed)));
    let bytes = disk.read_cached("/f").unwrap();
    assert_eq!(bytes.len(), SECTORS * SECTOR_BYTES);
    let kept = |sector: &[u8]| {
        let kept = sector.iter().take_while(|byte| **byte == b'B').count();
        assert!(
            sector[kept..].iter().all(|byte| *byte == b'A'),
            "a torn sector is a prefix of the new bytes"
        );
        kept
    };
    bytes.chunks(SECTOR_BYTES).map(kept).collect()
}

#[test]
fn each_sector_survives_is_lost_or_is_torn() {
    let crashes: Vec<Vec<usize>> = seeds(100).map(tear).collect();
    assert!(crashes.iter().any(|sectors| sectors.iter().all(|kept| *kept == 0)), "all lost");
    assert!(crashes.iter().any(|sectors| sectors.iter().all(|kept| *kept == SECTOR_BYTES)), "all survive");
    for sector in 0..crashes[0].len() {
        let kept: BTreeSet<usize> = crashes.iter().map(|sectors| sectors[sector]).collect();
        assert!(
            kept.contains(&0) && kept.contains(&SECTOR_BYTES) && kept.len() > 10,
            "sector {sector}: {kept:?}"
        );
    }
    let reordered =
        |sectors: &Vec<usize>| sectors.windows(2).any(|pair| pair[0] == 0 && pair[1] == SECTOR_BYTES);
    assert!(crashes.iter().any(reordered), "a later sector survives without an earlier one");
}

#[test]
fn an_append_leaves_old_bytes_zeros_or_new_bytes() {
    let mut lengths = BTreeSet::new();
    for seed in seeds(100) {
        let disk = SimDisk::default();
        let file = create_durable(&disk, "/f", &[b'A'; 700]);
        file.write_all_at(&[b'B'; 9000], 700).unwrap();
        disk.crash(&mut Rng::new(Seed::new(seed)));
        let bytes = disk.read_cached("/f").unwrap();
        assert!((700..=9700).contains(&bytes.len()));
        assert!(bytes[..700].iter().all(|byte| *byte == b'A'), "synced bytes stay, in a torn sector too");
        assert!(bytes[700..].iter().all(|byte| *byte == b'B' || *byte == 0), "no bytes from elsewhere");
        lengths.insert(bytes.len());
        // What lay beyond the surviving length must not come back when the file grows again.
        let grown = bytes.len() as u64 + 5000;
        let file = open(&disk, "/f");
        file.write_all_at(b"C", grown).unwrap();
        file.sync_data().unwrap();
        let again = disk.read_durable("/f").unwrap();
        assert!(again[bytes.len()..again.len() - 1].iter().all(|byte| *byte == 0));
    }
    assert!(lengths.contains(&700) && lengths.contains(&9700) && lengths.len() > 10, "{lengths:?}");
}

#[test]
fn what_survived_one_crash_survives_the_next() {
    for seed in seeds(50) {
        let mut rng = Rng::new(Seed::new(seed));
        let disk = SimDisk::default();
        let file = create(&disk, "/f");
        file.write_all_at(&rng.bytes(5000), 0).unwrap();
        disk.crash(&mut rng);
        let after = show_bytes(&disk);
        disk.crash(&mut rng);
        disk.crash_losing_all();
        assert_eq!(show_bytes(&disk), after, "seed {seed}");
    }
}

fn show_bytes(disk: &SimDisk) -> Vec<Vec<u8>> {
    disk.files().iter().map(|path| disk.read_cached(path).unwrap()).collect()
}

#[test]
fn a_kill_loses_nothing_and_makes_nothing_durable() {
    let disk = SimDisk::default();
    create(&disk, "/f").write_all_at(b"A", 0).unwrap();
    disk.kill();
    assert_eq!(disk.read_cached("/f").unwrap(), b"A");
    assert!(disk.durable_files().is_empty());
    disk.crash_losing_all();
    assert!(disk.files().is_empty());
}

#[test]
fn a_segment_of_zeros_costs_little() {
    const SEGMENT_BYTES: u64 = 64 << 20;
    let disk = SimDisk::default();
    let file = create(&disk, "/segment");
    let zeros = vec![0; 1 << 20];
    for offset in (0..SEGMENT_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset).unwrap();
    }
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let mut rng = Rng::new(Seed::new(0));
    let mut end = 0;
    // 3,000 crashes on whole-segment copies would be 192 GiB moved; this test would not end.
    for _ in 0..3000 {
        let file = open(&disk, "/segment");
        file.write_all_at(&rng.bytes(700), end).unwrap();
        file.sync_data().unwrap();
        end += 700;
        file.write_all_at(&rng.bytes(2000), end).unwrap();
        disk.crash(&mut rng);
        assert_eq!(open(&disk, "/segment").len().unwrap(), SEGMENT_BYTES);
    }
}

#[test]
fn a_snapshot_is_put_back_whole() {
    let disk = SimDisk::default();
    let file = create_durable(&disk, "/f", b"A");
    file.write_all_at(b"B", 0).unwrap();
    let snapshot = disk.snapshot();
    file.sync_data().unwrap();
    create_durable(&disk, "/g", b"C");
    disk.restore(&snapshot);
    assert_eq!(show(&disk), "/f=A");
    assert!(idtrail_sim::is_crash(&file.sync_data().unwrap_err()), "a handle from before is dead");
    open(&disk, "/f").write_all_at(b"D", 0).unwrap();
    disk.restore(&snapshot);
    assert_eq!(show(&disk), "/f=A", "a snapshot does not change");
}

#[test]
fn a_flipped_bit_is_seen_now_and_after_a_crash() {
    let disk = SimDisk::default();
    create_durable(&disk, "/f", &[0; 5000]);
    disk.flip_bit("/f", 4999, 3).unwrap();
    assert_eq!(disk.read_cached("/f").unwrap()[4999], 8);
    disk.crash_losing_all();
    assert_eq!(disk.read_cached("/f").unwrap()[4999], 8);
    disk.flip_bit("/f", 4999, 3).unwrap();
    assert_eq!(disk.read_durable("/f").unwrap(), vec![0; 5000]);
    assert_eq!(disk.flip_bit("/f", 5000, 0).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    disk.truncate("/f", 10).unwrap();
    assert_eq!(disk.read_durable("/f").unwrap(), vec![0; 10]);
}
