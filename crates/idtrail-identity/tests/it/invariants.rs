//! What must hold after any history.

use proptest::prelude::*;

use crate::histories::{Input, World, history, observations, tight};
use idtrail_identity::Ruleset;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// P4 to P8, and: the fold over small regions gives what solving everything at once gives.
    #[test]
    fn the_fold_is_what_its_inputs_say(history in history(40)) {
        let mut world = World::new(tight());
        for input in &history {
            world.take(input);
            prop_assert_eq!(world.state.check(), Ok(()), "after {:?}", input);
        }
    }

    /// P2: any order of observations gives the same customers.
    #[test]
    fn order_does_not_matter(
        (straight, shuffled) in observations(40).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
    ) {
        for rules in [tight(), Ruleset { merges_per_day_max: u32::MAX, ..Ruleset::default() }] {
            let mut one = World::new(rules.clone());
            let mut other = World::new(rules);
            straight.iter().for_each(|observation| drop(one.observe(observation)));
            shuffled.iter().for_each(|observation| drop(other.observe(observation)));
            prop_assert_eq!(one.state.partition(), other.state.partition());
        }
    }

    /// P3: a repetition changes nothing and is answered alike.
    #[test]
    fn repetitions_change_nothing(observations in observations(30), again in 0..30_usize) {
        let mut world = World::new(tight());
        let answers: Vec<_> = observations.iter().map(|observation| world.observe(observation)).collect();
        let before = world.state.partition();
        let at = again % observations.len();
        let repeated = world.observe(&observations[at]);
        prop_assert!(repeated.repeated.is_some());
        prop_assert_eq!(repeated.gcid, answers[at].gcid);
        prop_assert_eq!(repeated.outcome, answers[at].outcome);
        prop_assert_eq!(repeated.tier, answers[at].tier);
        prop_assert_eq!(&repeated.identifiers, &answers[at].identifiers);
        prop_assert_eq!(before, world.state.partition());
    }
}

#[test]
fn a_history_is_not_empty_of_assertions() {
    // Guards the generator: a history without accepted assertions would prove little.
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, TestRunner};
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut accepted = 0;
    for _ in 0..50 {
        let steps = history(40).new_tree(&mut runner).unwrap().current();
        let mut world = World::new(tight());
        for step in &steps {
            match step {
                Input::Assert(kind) => accepted += usize::from(world.assert(kind.clone()).is_ok()),
                Input::Observe(observation) => drop(world.observe(observation)),
            }
        }
    }
    assert!(accepted > 30, "accepted {accepted}");
}
