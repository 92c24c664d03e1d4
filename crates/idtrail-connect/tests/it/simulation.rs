//! The engine against targets that fail in every way, on simulated time: nothing lost, nothing twice, order kept.

mod target;
mod world;

use idtrail_connect::engine::Circuit;
use idtrail_sim::seeds;

use target::Kind;
use world::{Script, World};

const KINDS: [Kind; 5] = [Kind::Marked, Kind::Partial, Kind::Noted, Kind::Ids, Kind::Dropping];

#[test]
fn random_faults_lose_nothing_and_double_nothing() {
    for kind in KINDS {
        for seed in seeds(60) {
            let mut world = World::new(seed, kind, Script::random(seed, kind));
            world.run();
            world.assert_balanced();
        }
    }
}

#[test]
fn a_day_of_outage_is_caught_up() {
    for kind in KINDS {
        let script = Script { outage_ms: Some((5_000, 86_400_000)), events: 3000, ..Script::quiet() };
        let mut world = World::new(1, kind, script);
        world.run();
        world.assert_balanced();
        let (longest_queue, attempts) = (world.longest_queue_bytes, world.failed_attempts);
        assert!(longest_queue < 8 * 1024 * 1024, "{kind:?}: {longest_queue}");
        // One attempt in 30 s at most, on the average: a day has 2,880 of them.
        assert!((100..12_000).contains(&attempts), "{kind:?}: {attempts}");
        assert!(world.saw(Circuit::Open), "{kind:?}");
    }
}

#[test]
fn one_bad_row_among_many_is_found_and_set_aside() {
    for kind in KINDS {
        for named in [false, true] {
            for bad in [0, 1, 138, 498, 499] {
                let script = Script { events: 500, poison: vec![bad], names_rows: named, ..Script::quiet() };
                let mut world = World::new(bad, kind, script);
                world.run();
                world.assert_balanced();
                assert_eq!(world.dead(), [bad], "{kind:?}");
            }
        }
    }
}

#[test]
fn a_wrong_table_stops_the_sink_and_not_every_row() {
    let poison: Vec<u64> = (0..2000).collect();
    let mut world = World::new(3, Kind::Marked, Script { events: 2000, poison, ..Script::quiet() });
    world.run_for(3_600_000);
    assert_eq!(world.dead().len(), 100);
    assert!(world.saw(Circuit::Stopped));
    // The table is repaired: the rest goes out, and the set aside ones are replayed.
    world.repair();
    world.run();
    world.replay_dead();
    world.run();
    world.assert_balanced();
    assert!(world.dead().is_empty());
    assert_eq!(world.delivered(), 2000 - 182);
}

#[test]
fn a_stopped_target_is_tried_now_and_then_and_goes_on() {
    let script = Script { stop_ms: Some((100, 600_000)), events: 400, ..Script::quiet() };
    let mut world = World::new(4, Kind::Partial, script);
    world.run();
    world.assert_balanced();
    assert!(world.saw(Circuit::Stopped));
    assert!(world.failed_attempts < 20, "{}", world.failed_attempts);
}

#[test]
fn paused_means_nothing_is_sent_and_nothing_is_lost() {
    for kind in KINDS {
        let mut world = World::new(5, kind, Script { events: 300, ..Script::quiet() });
        world.run_for(500);
        world.pause();
        world.run_for(1000);
        let before = world.delivered();
        world.restart();
        world.run_for(3_600_000);
        assert_eq!(world.delivered(), before, "{kind:?}");
        assert!(world.saw(Circuit::Paused));
        world.resume();
        world.run();
        world.assert_balanced();
    }
}

#[test]
fn replay_from_a_place_fills_gaps_and_doubles_nothing() {
    for seed in seeds(30) {
        let mut world = World::new(
            seed,
            Kind::Marked,
            Script { events: 400, second_origin_at: Some(200), ..Script::random(seed, Kind::Marked) },
        );
        world.run();
        let counts = world.counts();
        world.lose_rows(seed, 50);
        world.never_crash();
        world.replay_from(20);
        world.run();
        world.assert_balanced();
        assert_eq!(world.counts(), counts, "seed {seed}");
    }
}

#[test]
fn one_seed_gives_one_run() {
    for kind in KINDS {
        let run = |seed| {
            let mut world = World::new(seed, kind, Script::random(seed, kind));
            world.run();
            world.trace
        };
        assert_eq!(run(11), run(11));
        assert_ne!(run(11), run(12));
    }
}
