//! Clock, randomness, and the promise of the whole crate: one seed, one history.

use std::path::{Path, PathBuf};
use std::time::Duration;

use idtrail_port::{Clock, Disk, DiskFile, Entropy, Open, Privacy, random};
use idtrail_sim::{
    Count, Effect, Fault, NetworkRates, Operation, Rng, Seed, SimClock, SimDisk, SimEntropy, seeds,
    seeds_from,
};

use crate::network::Server;

type Files = Vec<(PathBuf, Vec<u8>)>;

/// A random walk over disk and network with faults and crashes; returns all that can be seen of it.
fn history(seed: u64) -> (Vec<Operation>, Files, String) {
    let seed = Seed::new(seed);
    let (disk, mut rng) = (SimDisk::new(seed), seed.rng());
    let (entropy, server) = (SimEntropy::new(seed), Server::new(seed.get(), NetworkRates::harsh()));
    disk.set_trace(true);
    let mut told = String::new();
    for turn in 0..200 {
        let name = format!("/{}", rng.below(6));
        let path = Path::new(&name);
        let outcome = match rng.below(10) {
            0 => disk.open(path, Open::CreateNew(Privacy::Owner)).map(drop),
            1 => disk.remove(path),
            2 => disk.rename(path, Path::new("/0")),
            3 => disk.sync_dir(Path::new("/")),
            4..=7 => disk.open(path, Open::Write).and_then(|file: Box<dyn DiskFile>| {
                file.write_all_at(&random::<900>(&entropy), rng.below(9000))?;
                if rng.chance(1, 2) { file.sync_data() } else { Ok(()) }
            }),
            8 => {
                let at = disk.count(Count::Mutating) + rng.below(5);
                disk.fail(Fault::once(at).doing(*rng.choose(&[Effect::Partly, Effect::NotApplied]).unwrap()));
                Ok(())
            }
            _ => {
                disk.crash(&mut rng.derive(&format!("crash {turn}")));
                Ok(())
            }
        };
        told += &format!("{turn} {outcome:?} {:?} {}\n", server.send(), server.clock.wall_ms());
    }
    let files =
        disk.files().into_iter().map(|path| (path.clone(), disk.read_cached(&path).unwrap())).collect();
    (disk.take_trace(), files, told)
}

#[test]
fn one_seed_replays_exactly() {
    let mut faults = 0;
    for seed in seeds(20) {
        let first = history(seed);
        assert_eq!(first, history(seed), "seed {seed}");
        assert_ne!(first, history(seed + 1000), "seed {seed}");
        faults += first.0.iter().filter(|operation| operation.injected.is_some()).count();
    }
    assert!(faults > 20, "the walk meets its faults");
}

/// A seed that someone wrote down must still mean the same run after an update of a dependency.
#[test]
fn generators_are_pinned() {
    let mut rng = Seed::new(7).rng();
    let drawn = ([rng.bits(), rng.bits()], Seed::new(7).derive("disk").get());
    assert_eq!(drawn, ([7_387_829_322_293_334_546, 14_283_834_251_474_640_193], 9_863_220_551_609_435_026));
    assert_eq!(random::<8>(&SimEntropy::new(Seed::new(7))), [162, 200, 232, 81, 244, 192, 85, 10]);
}

#[test]
fn streams_do_not_disturb_each_other() {
    let entropy = SimEntropy::new(Seed::new(1));
    let first: [u8; 100] = random(&entropy.stream("keys"));
    let _drawn: [u8; 100] = random(&entropy);
    assert_eq!(first, random(&entropy.stream("keys")));
    assert_ne!(first, random(&entropy.stream("nonces")));
    assert_ne!(first, random(&SimEntropy::new(Seed::new(2)).stream("keys")));
    let clone = entropy.clone();
    assert_ne!(random::<32>(&entropy), random::<32>(&clone), "clones share one position");

    let mut rng = Rng::new(Seed::new(1));
    let before = rng.derive("a").bits();
    rng.bits();
    assert_eq!(before, rng.derive("a").bits());
    assert_ne!(before, rng.derive("b").bits());
}

#[test]
fn entropy_is_the_same_however_it_is_cut() {
    let (whole, parts) = (SimEntropy::new(Seed::new(3)), SimEntropy::new(Seed::new(3)));
    let mut expected = [0; 64];
    whole.fill(&mut expected);
    let mut got = [0; 64];
    got.chunks_mut(16).for_each(|part| parts.fill(part));
    assert_eq!(got, expected);
}

#[test]
fn the_generator_keeps_its_bounds() {
    let mut rng = Rng::new(Seed::new(0));
    let mut counts = [0_u32; 7];
    for _ in 0..7000 {
        counts[rng.index(7)] += 1;
        assert!((5..8).contains(&rng.range(5..8)));
        assert_eq!(rng.below(1), 0);
        assert!(rng.chance(1, 1) && !rng.chance(0, 1));
    }
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    let mut items: Vec<u32> = (0..50).collect();
    rng.shuffle(&mut items);
    assert_ne!(items, (0..50).collect::<Vec<_>>());
    items.sort_unstable();
    assert_eq!(items, (0..50).collect::<Vec<_>>());
    assert_eq!(rng.choose::<u32>(&[]), None);
    assert_eq!(rng.bytes(5).len(), 5);
    assert_eq!(seeds(3).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(seeds_from(40, 2).collect::<Vec<_>>(), [40, 41]);
}

#[test]
fn the_clock_moves_only_by_hand() {
    let clock = SimClock::new(1000);
    let shown = |clock: &SimClock| (clock.wall_ms(), clock.monotonic_ns());
    assert_eq!(shown(&clock), (1000, 0));
    clock.advance(Duration::from_micros(1500));
    assert_eq!(shown(&clock), (1001, 1_500_000));
    clock.clone().advance(Duration::from_micros(500));
    assert_eq!(shown(&clock), (1002, 2_000_000));
    clock.jump_wall_ms(-5000);
    assert_eq!(shown(&clock), (-3998, 2_000_000));
    clock.set_wall_ms(77);
    clock.advance_ms(3);
    assert_eq!(shown(&clock), (80, 5_000_000));
    assert_eq!(SimClock::default().wall_ms(), 1_767_225_600_000);
}
