//! The use the disk is made for: replacing a file durably, with each operation failed and each crashed, and the
//! same code with one sync left out, which must be caught.

use std::io;
use std::path::Path;

use idtrail_port::{Disk, Open, Privacy, create_dir_durable, read_optional, write_atomic};
use idtrail_sim::{Count, Effect, Fault, Rng, Seed, SimDisk, Snapshot, is_crash, seeds};

use crate::create_durable;

const OLD: &[u8] = &[b'O'; 3000];
const NEW: &[u8] = &[b'N'; 2000];

type Replace = fn(&SimDisk) -> io::Result<()>;

fn well(disk: &SimDisk) -> io::Result<()> {
    write_atomic(disk, Path::new("/d/f"), NEW, Privacy::Owner)
}

fn without_sync_of_the_file(disk: &SimDisk) -> io::Result<()> {
    let file = disk.open(Path::new("/d/t"), Open::CreateNew(Privacy::Owner))?;
    file.write_all_at(NEW, 0)?;
    disk.rename(Path::new("/d/t"), Path::new("/d/f"))?;
    disk.sync_dir(Path::new("/d"))
}

fn without_sync_of_the_directory(disk: &SimDisk) -> io::Result<()> {
    let file = disk.open(Path::new("/d/t"), Open::CreateNew(Privacy::Owner))?;
    file.write_all_at(NEW, 0)?;
    file.sync_data()?;
    disk.rename(Path::new("/d/t"), Path::new("/d/f"))
}

fn in_place(disk: &SimDisk) -> io::Result<()> {
    let file = disk.open(Path::new("/d/f"), Open::Write)?;
    file.write_all_at(NEW, 0)?;
    file.sync_data()
}

fn prepared() -> Snapshot {
    let disk = SimDisk::default();
    create_dir_durable(&disk, Path::new("/d")).unwrap();
    create_durable(&disk, "/d/f", OLD);
    disk.snapshot()
}

/// Crashes at every operation of `replace`, and after it, and returns what went wrong.
fn crash_everywhere(replace: Replace) -> Vec<String> {
    let prepared = prepared();
    let disk = SimDisk::from_snapshot(&prepared, Seed::new(0));
    replace(&disk).unwrap();
    let operations = disk.count(Count::All);
    let mut wrong = Vec::new();
    for (at, seed) in (0..=operations).flat_map(|at| seeds(60).map(move |seed| (at, seed))) {
        let disk = SimDisk::from_snapshot(&prepared, Seed::new(seed));
        disk.crash_at(Count::All, at);
        let done = match replace(&disk) {
            Ok(()) => true,
            Err(error) => {
                assert!(is_crash(&error));
                false
            }
        };
        disk.crash(&mut Rng::new(Seed::new(seed)));
        let found = read_optional(&disk, Path::new("/d/f"), 1 << 20).unwrap();
        match found.as_deref() {
            Some(NEW) => {}
            Some(OLD) if !done => {}
            _ => wrong.push(format!("crash at {at}, seed {seed}, done {done}")),
        }
        well(&disk).unwrap();
        disk.crash_losing_all();
        assert_eq!(disk.read_cached("/d/f").unwrap(), NEW, "the restarted process can do it again");
    }
    wrong
}

#[test]
fn a_crash_shows_each_missing_sync() {
    assert_eq!(crash_everywhere(well), Vec::<String>::new());
    for (what, replace) in [
        ("file", without_sync_of_the_file as Replace),
        ("directory", without_sync_of_the_directory),
        ("in place", in_place),
    ] {
        assert!(!crash_everywhere(replace).is_empty(), "the missing sync was not caught: {what}");
    }
}

#[test]
fn a_failure_leaves_the_old_file_or_the_new_one() {
    let prepared = prepared();
    let disk = SimDisk::from_snapshot(&prepared, Seed::new(0));
    well(&disk).unwrap();
    for at in 0..disk.count(Count::All) {
        for effect in [Effect::NotApplied, Effect::Partly, Effect::Applied] {
            for fault in [Fault::once(at), Fault::forever(at)] {
                for seed in seeds(10) {
                    let disk = SimDisk::from_snapshot(&prepared, Seed::new(seed));
                    disk.fail(fault.counting(Count::All).doing(effect));
                    well(&disk).unwrap_err();
                    disk.clear_faults();
                    disk.crash(&mut Rng::new(Seed::new(seed)));
                    let found = disk.read_cached("/d/f").unwrap();
                    assert!(found == OLD || found == NEW, "{fault:?} {effect:?} seed {seed}");
                }
            }
        }
    }
}
