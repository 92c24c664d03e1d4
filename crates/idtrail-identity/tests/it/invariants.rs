//! What must hold after any history.

use std::collections::BTreeSet;

use idtrail_event::IdentifierType;
use idtrail_identity::assertion::{AssertionKind, Subject};
use idtrail_identity::event::Derived;
use idtrail_identity::read::CustomerState;
use idtrail_identity::{Assurance, Identifier, Ruleset, State};
use idtrail_tlog::LogIndex;
use proptest::prelude::*;

use crate::histories::{Input, World, assertion, history, observation, observations, sighting, tight};

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

    /// G6: so does a hold that the rules set in the middle of a decision, after which the region is another one.
    #[test]
    fn a_hold_in_the_middle_of_a_decision_keeps_the_fold_right(history in history(40)) {
        let mut world = World::new(Ruleset { merges_per_day_max: 1, ..tight() });
        for input in &history {
            world.take(input);
            prop_assert_eq!(world.state.check(), Ok(()), "after {:?}", input);
        }
    }

    /// P2: any order of observations gives the same customers.
    #[test]
    fn p02_order_does_not_matter(
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
    fn p03_repetitions_change_nothing(observations in observations(30), again in 0..30_usize) {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    /// P1: a replay with the recorded ids gives the same state, bit for bit; a snapshot too.
    #[test]
    fn p01_a_replay_gives_the_same_state(history in history(40)) {
        let mut live = World::new(tight());
        history.iter().for_each(|input| live.take(input));
        let mut replayed = World::replaying(tight(), &live.given);
        history.iter().for_each(|input| replayed.take(input));
        let bytes = live.state.to_snapshot();
        prop_assert_eq!(&bytes, &replayed.state.to_snapshot());
        let mut read = State::from_snapshot(&bytes).unwrap();
        prop_assert_eq!(&bytes, &read.to_snapshot());
        prop_assert_eq!(read.check(), Ok(()));
        // What was read goes on as what was written.
        std::mem::swap(&mut read, &mut replayed.state);
        let more = observation(5_000, 200, vec![sighting(IdentifierType::PHONE, 1, 1)]);
        prop_assert_eq!(live.observe(&more), replayed.observe(&more));
    }

    /// P10: what an assertion does, its revocation undoes: customers and their ids.
    #[test]
    fn p10_revoking_undoes(history in history(30), kind in assertion()) {
        let mut world = World::new(tight());
        history.iter().for_each(|input| world.take(input));
        let names = |world: &World| -> Vec<_> {
            let everyone = world.state.partition();
            everyone.iter().map(|customer| {
                (customer.clone(), world.state.lookup(customer.first().unwrap()).unwrap().0)
            }).collect()
        };
        let (partition, before) = (world.state.partition(), names(&world));
        if !matches!(kind, AssertionKind::Revoke(_)) && let Ok(asserted) = world.assert(kind.clone()) {
            world.assert(AssertionKind::Revoke(asserted.number)).unwrap();
            prop_assert_eq!(&world.state.partition(), &partition);
            // An identifier that is declared nobody's may hand its id on, so ids are compared for the others.
            if matches!(kind, AssertionKind::Same(..)) {
                prop_assert_eq!(names(&world), before);
            }
        }
    }

    /// A simulation says what then happens, and changes nothing.
    #[test]
    fn simulations_come_true(history in history(30), kind in assertion()) {
        let mut world = World::new(tight());
        history.iter().for_each(|input| world.take(input));
        let before = world.state.to_snapshot();
        let simulated = world.state.simulate_assertion(&kind);
        prop_assert!(before == world.state.to_snapshot(), "changed");
        match world.assert(kind) {
            Err(error) => prop_assert_eq!(simulated, Err(error)),
            Ok(done) => {
                let simulated = simulated.unwrap();
                let splits = done.events.iter().filter(|event| matches!(event, Derived::Split { .. })).count();
                let states = done.events.iter().filter_map(|event| match event {
                    Derived::State { identifier, from, to, .. } if from != to => Some((*identifier, *to)),
                    _ => None,
                });
                prop_assert_eq!(simulated.splits.len(), splits);
                let mut expected: Vec<_> = states.collect();
                let mut states = simulated.states;
                expected.sort();
                states.sort();
                prop_assert_eq!(states, expected);
            }
        }
    }

    /// P18: loosening and restoring a limit gives the customers back; and simulating it changes nothing.
    #[test]
    fn p18_loosening_and_restoring_a_limit(history in history(40)) {
        let mut world = World::new(tight());
        history.iter().for_each(|input| world.take(input));
        let before = world.state.partition();
        let mut loose = Ruleset { version: 2, merges_per_day_max: u32::MAX, ..Ruleset::default() };
        loose.types.iter_mut().for_each(|rule| rule.assurance_min = Assurance::CLAIMED);
        let bytes = world.state.to_snapshot();
        let simulated = world.state.simulate_ruleset(loose.clone()).unwrap();
        prop_assert_eq!(&bytes, &world.state.to_snapshot());
        let changed = world.change_ruleset(loose);
        let splits = changed.events.iter().filter(|event| matches!(event, Derived::Split { .. })).count();
        prop_assert_eq!(simulated.splits.len(), splits);
        prop_assert_eq!(world.state.check(), Ok(()));
        world.change_ruleset(Ruleset { version: 3, ..tight() });
        prop_assert_eq!(world.state.check(), Ok(()));
        prop_assert_eq!(world.state.partition(), before);
    }

    /// P12: what was believed at a place in the log is not changed by later leaves.
    #[test]
    fn p12_beliefs_do_not_change(history in history(40), cut in 0..40_usize) {
        let mut world = World::new(tight());
        let cut = cut.min(history.len());
        history[..cut].iter().for_each(|input| world.take(input));
        prop_assume!(world.next > 0);
        let at = LogIndex::new(world.next - 1);
        let everyone: Vec<_> = world.given.iter().map(|(_, _, gcid)| *gcid).collect();
        let then: Vec<_> = everyone.iter().map(|gcid| world.state.recorded_as_of(gcid, at)).collect();
        for (gcid, believed) in everyone.iter().zip(&then) {
            if let (Ok(believed), Ok(customer)) = (believed, world.state.customer(gcid)) {
                prop_assert_eq!(believed.gcid, customer.gcid);
            }
        }
        history[cut..].iter().for_each(|input| world.take(input));
        let now: Vec<_> = everyone.iter().map(|gcid| world.state.recorded_as_of(gcid, at)).collect();
        prop_assert_eq!(then, now);
    }

    /// P13 and P14: no interaction is in two answers; every id and identifier of a person gives the same answer.
    #[test]
    fn p13_p14_answers_do_not_overlap_and_every_name_gives_the_same(history in history(40)) {
        let mut world = World::new(tight());
        history.iter().for_each(|input| world.take(input));
        let mut taken = BTreeSet::new();
        for customer in world.state.partition() {
            let subject = Subject::Identifier(*customer.first().unwrap());
            let closure = world.state.closure(&subject).unwrap();
            for interaction in &closure.interactions {
                prop_assert!(taken.insert(interaction.observation), "in two answers");
            }
            for identifier in &customer {
                prop_assert_eq!(&world.state.closure(&Subject::Identifier(*identifier)).unwrap(), &closure);
            }
            for alias in closure.customer.aliases.iter().chain([&closure.customer.gcid]) {
                prop_assert_eq!(&world.state.closure(&Subject::Customer(*alias)).unwrap(), &closure);
            }
        }
    }

    /// P15, and the half of P16 that protects others: after an erasure nothing of the person is left, no answer to anybody
    /// else has gained an interaction, and none has become surer.
    #[test]
    fn p15_p16_erasure_concerns_one_person(
        observations in observations(40),
        choice in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new(tight());
        observations.iter().for_each(|one| drop(world.observe(one)));
        let everyone: Vec<_> = world.state.partition().into_iter().collect();
        prop_assume!(!everyone.is_empty());
        let gone = choice.index(everyone.len());
        let answer = |world: &World, customer: &BTreeSet<Identifier>| {
            world.state.closure(&Subject::Identifier(*customer.first().unwrap())).map(|closure| {
                let tiers: Vec<_> = closure.interactions.iter().map(|one| (one.observation, one.tier)) .collect();
                (closure.customer.gcid, tiers)
            })
        };
        let others: Vec<_> = everyone.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, c)| c).collect();
        let before: Vec<_> = others.iter().map(|customer| answer(&world, customer)).collect();
        let erased = world.erase(Subject::Identifier(*everyone[gone].first().unwrap()));
        prop_assert_eq!(world.state.check(), Ok(()));
        let after: Vec<_> = others.iter().map(|customer| answer(&world, customer)).collect();
        for (before, after) in before.into_iter().zip(after) {
            // Where the person's claims were all that kept an identifier with one customer, it may become nobody's.
            let (Ok((_, before)), Ok((_, after))) = (before, after) else { continue };
            for (one, is) in after {
                let was = before.iter().find(|(other, _)| *other == one).map(|(_, tier)| *tier);
                prop_assert!(was.is_some_and(|was| was <= is), "{:?} was {:?} and is {:?}", one, was, is);
            }
        }
        let bytes = world.state.to_snapshot();
        for lost in &erased.identifiers {
            prop_assert!(!bytes.windows(32).any(|window| window == lost.token.as_bytes()));
            prop_assert_eq!(world.state.lookup(lost), None);
        }
        for gcid in &erased.gcids {
            prop_assert_eq!(world.state.customer(gcid).unwrap().state, CustomerState::Erased);
        }
        prop_assert_eq!(State::from_snapshot(&bytes).unwrap().to_snapshot(), bytes);
    }

    /// The same from the leaves that are left: without the person's, and with the facts that were said again, no answer to
    /// anybody else gains an interaction or becomes surer. While the person's leaves are still there, the facts change
    /// nobody's customer.
    #[test]
    fn p16_what_is_said_again_protects_others(
        observations in observations(40),
        choice in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new(tight());
        observations.iter().for_each(|one| drop(world.observe(one)));
        let everyone: Vec<_> = world.state.partition().into_iter().collect();
        prop_assume!(!everyone.is_empty());
        let gone = choice.index(everyone.len());
        let subject = Subject::Identifier(*everyone[gone].first().unwrap());
        let answer = |world: &World, customer: &BTreeSet<Identifier>| {
            let answers = customer.iter().map(|one| world.state.closure(&Subject::Identifier(*one)));
            answers.filter_map(Result::ok).map(|closure| {
                closure.interactions.iter().map(|one| (one.observation, one.tier)).collect::<Vec<_>>()
            }).collect::<Vec<_>>()
        };
        let others: Vec<_> = everyone.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, c)| c).collect();
        let before: Vec<_> = others.iter().map(|customer| answer(&world, customer)).collect();
        let plan = world.state.plan_erasure(&subject).unwrap();
        let facts = world.state.clone().facts_of_others(&subject, world.at()).unwrap();
        for fact in &facts {
            let names = fact.without(&|id| plan.identifiers.contains(id), &|id| {
                plan.observations.iter().any(|one| one.observation == *id)
            });
            prop_assert_eq!(names.as_ref(), Some(fact), "a fact names the person");
        }
        let mut left = World::new(tight());
        let erased: BTreeSet<_> = plan.observations.iter().map(|one| one.observation).collect();
        observations.iter().filter(|one| !erased.contains(&one.id)).for_each(|one| drop(left.observe(one)));
        left.reassert(&facts);
        prop_assert_eq!(left.state.check(), Ok(()));
        let after: Vec<_> = others.iter().map(|customer| answer(&left, customer)).collect();
        for (before, after) in before.iter().zip(after) {
            let was: Vec<_> = before.iter().flatten().collect();
            for (one, is) in after.into_iter().flatten() {
                let best = was.iter().filter(|(other, _)| *other == one).map(|(_, tier)| *tier).min();
                prop_assert!(best.is_some_and(|best| best <= is), "{:?} was {:?} and is {:?}", one, best, is);
            }
        }
        let bytes = left.state.to_snapshot();
        for lost in &plan.identifiers {
            prop_assert!(!bytes.windows(32).any(|window| window == lost.token.as_bytes()));
        }
    }

    /// A damaged snapshot is an error or a state, never a panic while reading.
    #[test]
    fn damaged_snapshots_are_refused(history in history(10), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut world = World::new(tight());
        history.iter().for_each(|input| world.take(input));
        let mut bytes = world.state.to_snapshot();
        let at = at.index(bytes.len());
        prop_assert!(State::from_snapshot(&bytes[..at]).is_err());
        bytes[at] ^= 1_u8 << bit;
        drop(State::from_snapshot(&bytes));
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
