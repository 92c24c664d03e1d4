//! Identity is kept from one start to the next, is the same as if it were read anew, and goes with every erasure.

use std::path::Path;
use std::sync::Arc;

use idtrail_index::shred::{Order, Task};
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_port::{Disk as _, Privacy, write_atomic};
use idtrail_server::engine::{self, Engine};
use idtrail_sim::{Seed, SimClock, SimDisk};
use idtrail_tlog::LogIndex;
use idtrail_vault::Sections;

use crate::after_restore::{NOW_MS, append, kek, ports, settings};

const FILE: &str = "/data/identity-snapshot";

fn open(disk: &SimDisk, clock: &Arc<SimClock>) -> Engine {
    Engine::open(ports(disk, clock), &settings(), kek(), |_| {}).unwrap()
}

fn state(engine: &Engine) -> Vec<u8> {
    engine.identity().to_snapshot().to_vec()
}

fn kept(disk: &SimDisk) -> Option<Vec<u8>> {
    disk.read_durable(Path::new(FILE)).ok()
}

fn put(disk: &SimDisk, bytes: &[u8]) {
    write_atomic(disk, Path::new(FILE), bytes, Privacy::Owner).unwrap();
}

/// Opens, compares, and ends without a stop: what is kept stays as it is.
fn opened_is(disk: &SimDisk, clock: &Arc<SimClock>, from: u64, expected: &[u8]) {
    let engine = open(&SimDisk::from_snapshot(&disk.snapshot(), Seed::new(5)), clock);
    assert_eq!(engine.identity_kept(), LogIndex::new(from));
    assert!(state(&engine) == expected, "the same people, whatever was kept");
}

#[test]
fn what_is_kept_is_what_the_log_says_and_only_that() {
    let disk = SimDisk::new(Seed::new(1));
    let clock = Arc::new(SimClock::new(NOW_MS));
    engine::create(&ports(&disk, &clock), &settings(), kek()).unwrap();
    let first = open(&disk, &clock);
    assert_eq!(first.identity_kept(), LogIndex::new(0));
    let leaves: Vec<LogIndex> = (0..40).map(|number| append(&first, number)).collect();
    let before = state(&first);
    first.stop();
    drop(first);
    let short = disk.snapshot();
    let size = leaves.last().unwrap().get() + 1;
    let sealed = kept(&disk).unwrap();
    opened_is(&disk, &clock, size, &before);

    // What was added since is read from the log.
    let second = open(&disk, &clock);
    append(&second, 41);
    let more = state(&second);
    opened_is(&disk, &clock, size, &more);
    second.stop();
    drop(second);
    let longer = kept(&disk).unwrap();
    opened_is(&disk, &clock, size + 1, &more);

    // Without it, damaged, cut, or of a longer log: everything is read.
    for bytes in [None, Some(sealed[..sealed.len() - 1].to_vec()), Some(Vec::new())] {
        match bytes {
            None => {
                disk.remove(Path::new(FILE)).unwrap();
                disk.sync_dir(Path::new("/data")).unwrap();
            }
            Some(bytes) => put(&disk, &bytes),
        }
        opened_is(&disk, &clock, 0, &more);
    }
    for at in (0..sealed.len()).step_by(sealed.len() / 40) {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        put(&disk, &damaged);
        opened_is(&disk, &clock, 0, &more);
    }
    put(&disk, &sealed);
    opened_is(&disk, &clock, size, &more);
    let rolled_back = SimDisk::from_snapshot(&short, Seed::new(2));
    put(&rolled_back, &longer);
    // The mark of how long the log was lets no shorter one pass, so only one of another history can stand here.
    let other = open(&rolled_back, &clock);
    assert_eq!(other.identity_kept(), LogIndex::new(0));
    assert!(state(&other) == before);
    drop(other);

    // An erasure ends it, and no copy of it can be used ever again.
    let third = open(&disk, &clock);
    let newest = OriginOrdinal(0);
    let leaves = leaves.iter().step_by(3).map(|index| Reference { origin: newest, index: *index }).collect();
    let task = Task::Erase { leaves, sections: Sections::Both };
    let order = Order { request_id: "r-1".to_owned(), actor: None, task };
    third.desk().order(order).unwrap().blocking_recv().unwrap().unwrap();
    assert_eq!(kept(&disk), None);
    let erased = state(&third);
    assert!(erased != more);
    for copy in [&sealed, &longer] {
        put(&disk, copy);
        opened_is(&disk, &clock, 0, &erased);
    }
    third.stop();
    drop(third);
    let fourth = open(&disk, &clock);
    assert!(fourth.identity_kept().get() > size, "what is left is kept");
    assert!(state(&fourth) == erased);
}
