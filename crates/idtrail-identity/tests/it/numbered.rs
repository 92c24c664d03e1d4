//! Invariants that are checked by what the state answers, not by its own check: each test begins with the number under
//! which docs/identity.md lists it.

use std::collections::{BTreeMap, BTreeSet};

use idtrail_event::{GlobalCustomerId, IdentifierType, Pepper};
use idtrail_identity::assertion::{AssertionKind, Subject};
use idtrail_identity::event::Derived;
use idtrail_identity::normalise::{Normaliser, NormaliserConfig, Raw};
use idtrail_identity::read::CustomerState;
use idtrail_identity::ruleset::types;
use idtrail_identity::tokens::TokenKeys;
use idtrail_identity::{Assurance, Identifier, IdentifierState, Observation, ObservationId, StateReason};
use proptest::prelude::*;

use crate::histories::{Input, World, history, identifier, observation, observations, tight};

/// Returns every identifier of the small world that has been seen.
fn seen(world: &World) -> Vec<Identifier> {
    let kinds = [
        IdentifierType::PHONE,
        IdentifierType::EMAIL,
        IdentifierType::ACCOUNT,
        types::CRM_PERSON,
        types::EXTERNAL_CONTACT,
        types::COOKIE,
        types::PERSON_KEY,
        types::INTERACTION,
    ];
    let all = kinds.into_iter().flat_map(|kind| (0..8_u8).map(move |n| identifier(kind, n)));
    all.filter(|one| world.state.lookup(one).is_some()).collect()
}

fn told(history: &[Input]) -> World {
    let mut world = World::new(tight());
    history.iter().for_each(|input| world.take(input));
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// P4: at any instant an identifier that links has one owner; one that has more does not link.
    #[test]
    fn p04_an_identifier_that_links_has_one_owner_at_a_time(history in history(40), day in 0..420_u64) {
        let world = told(&history);
        let mut owners: BTreeMap<Identifier, usize> = BTreeMap::new();
        for customer in world.state.partition() {
            for one in customer {
                *owners.entry(one).or_default() += 1;
            }
        }
        prop_assert!(owners.values().all(|count| *count == 1), "in two customers");
        // By the times during which each customer owns it, too.
        let mut at_day: BTreeMap<Identifier, BTreeSet<GlobalCustomerId>> = BTreeMap::new();
        for customer in world.state.partition() {
            let (gcid, ..) = world.state.lookup(customer.first().unwrap()).unwrap();
            let customer = world.state.customer(&gcid.unwrap()).unwrap();
            let instant = day * crate::histories::DAY_MS;
            let theirs = customer.identifiers.iter().filter(|owned| {
                owned.from_ms <= instant && owned.to_ms.is_none_or(|to| instant < to)
            });
            for owned in theirs {
                at_day.entry(owned.identifier).or_default().insert(customer.gcid);
            }
        }
        prop_assert!(at_day.values().all(|owners| owners.len() == 1), "two owners on day {}", day);
    }

    /// P5: no customer has two identifiers of a type of which a person has exactly one.
    #[test]
    fn p05_no_customer_has_two_unique_identifiers(history in history(40)) {
        for customer in told(&history).state.partition() {
            prop_assert!(customer.iter().filter(|one| one.kind == types::CRM_PERSON).count() <= 1);
        }
    }

    /// P6: nobody on the left of a NOT_SAME in force is one customer with anybody on its right.
    #[test]
    fn p06_those_who_are_not_the_same_are_not_one_customer(history in history(40)) {
        let mut world = World::new(tight());
        let mut apart: BTreeMap<u32, (Vec<Subject>, Vec<Subject>)> = BTreeMap::new();
        for input in &history {
            match input {
                Input::Observe(observation) => drop(world.observe(observation)),
                Input::Assert(kind) => {
                    let Ok(asserted) = world.assert(kind.clone()) else { continue };
                    match kind {
                        AssertionKind::NotSame(left, right) => {
                            apart.insert(asserted.number, (left.clone(), right.clone()));
                        }
                        AssertionKind::Revoke(number) => drop(apart.remove(number)),
                        _ => {}
                    }
                }
            }
            let customers = world.state.partition();
            let within = |customer: &BTreeSet<Identifier>, side: &[Subject]| {
                side.iter().any(|one| matches!(one, Subject::Identifier(one) if customer.contains(one)))
            };
            for (left, right) in apart.values() {
                let both = customers.iter().find(|one| within(one, left) && within(one, right));
                prop_assert!(both.is_none(), "{:?} after {:?}", both, input);
            }
        }
    }

    /// P7: what is shared or blocked holds nobody together: every customer hangs together by what its own identifiers were
    /// seen with, and no identifier that several people use is among them.
    #[test]
    fn p07_what_is_shared_links_nobody(observations in observations(40)) {
        let mut world = World::new(tight());
        observations.iter().for_each(|one| drop(world.observe(one)));
        for customer in world.state.partition() {
            let mut reached: BTreeSet<Identifier> = customer.first().copied().into_iter().collect();
            loop {
                let before = reached.len();
                for one in &observations {
                    let here: Vec<_> =
                        one.sightings.iter().map(|seen| seen.identifier).filter(|one| customer.contains(one)).collect();
                    if here.iter().any(|one| reached.contains(one)) {
                        reached.extend(here);
                    }
                }
                if reached.len() == before {
                    break;
                }
            }
            prop_assert_eq!(&reached, &customer, "held together by something else");
            for one in &customer {
                let (_, state, reason) = world.state.lookup(one).unwrap();
                prop_assert_eq!(state, IdentifierState::Active);
                prop_assert_ne!(reason, StateReason::Several);
            }
        }
    }

    /// P8: every id leads in one step to an end, and the end to itself; nobody's aliases are another's.
    #[test]
    fn p08_aliases_are_a_forest(history in history(40)) {
        let world = told(&history);
        let mut named: BTreeMap<GlobalCustomerId, GlobalCustomerId> = BTreeMap::new();
        for (_, _, gcid) in &world.given {
            let end = world.state.current(gcid).unwrap();
            prop_assert_eq!(world.state.current(&end), Some(end), "the end leads on");
            let customer = world.state.customer(gcid).unwrap();
            prop_assert_eq!(customer.gcid, end);
            prop_assert_eq!(&world.state.customer(&end).unwrap(), &customer);
            for alias in &customer.aliases {
                prop_assert_eq!(world.state.current(alias), Some(end));
                prop_assert!(named.insert(*alias, end).is_none_or(|other| other == end), "an alias of two");
            }
        }
    }

    /// P9: an id is given once, and one that stands for an erased person is nobody's ever after: whoever returns is new.
    #[test]
    fn p09_an_id_is_never_given_again(history in history(40), choice in any::<prop::sample::Index>()) {
        let mut world = told(&history);
        let customers: Vec<_> = world.state.partition().into_iter().collect();
        prop_assume!(!customers.is_empty());
        let gone = world.erase(Subject::Identifier(*choice.get(&customers).first().unwrap()));
        let erased: BTreeSet<_> = gone.gcids.iter().copied().collect();
        // Everybody returns, the erased person too.
        for (at, input) in history.iter().enumerate() {
            let Input::Observe(before) = input else { continue };
            let again = Observation { id: observation(5_000 + at as u32, 0, Vec::new()).id, ..before.clone() };
            let decision = world.observe(&again);
            prop_assert!(!erased.contains(&decision.gcid), "an erased id was answered");
        }
        let given: BTreeSet<_> = world.given.iter().map(|(_, _, gcid)| gcid).collect();
        prop_assert_eq!(given.len(), world.given.len(), "an id was given twice");
        for gcid in &erased {
            prop_assert_eq!(world.state.customer(gcid).unwrap().state, CustomerState::Erased);
        }
    }

    /// P11: two groups of people who share no identifier do not influence each other, however their events are mixed.
    #[test]
    fn p11_strangers_do_not_influence_each_other(
        here in observations(25),
        there in observations(25),
        mix in prop::collection::vec(any::<bool>(), 50),
    ) {
        // The same small world once more, under other tokens.
        let moved: Vec<Observation> = there.iter().map(|one| {
            let mut id = *one.id.as_bytes();
            id[15] = 1;
            let mut other = Observation { id: ObservationId::new(id), ..one.clone() };
            for seen in &mut other.sightings {
                let mut token = *seen.identifier.token.as_bytes();
                token[30] = 7;
                seen.identifier.token = idtrail_event::IdentifierToken::new(token);
            }
            other
        }).collect();
        let alone = |observations: &[Observation]| {
            let mut world = World::new(tight());
            observations.iter().for_each(|one| drop(world.observe(one)));
            world.state.partition()
        };
        let mut both = World::new(tight());
        let (mut left, mut right) = (here.iter(), moved.iter());
        for first in mix {
            let next = if first { left.next() } else { right.next() };
            next.into_iter().for_each(|one| drop(both.observe(one)));
        }
        left.chain(right).for_each(|one| drop(both.observe(one)));
        let mut expected = alone(&here);
        expected.extend(alone(&moved));
        prop_assert_eq!(both.state.partition(), expected);
    }

    /// P19: a merge says that of several consents the most restrictive holds, and hides none: whoever reads the customer by
    /// any id finds every interaction of all who became one, each with the consent that its own event carries.
    #[test]
    fn p19_a_merge_hides_no_refusal(observations in observations(40)) {
        let mut world = World::new(tight());
        let rules = tight();
        let mut whose: BTreeMap<GlobalCustomerId, BTreeSet<ObservationId>> = BTreeMap::new();
        for one in &observations {
            let decision = world.observe(one);
            for event in &decision.events {
                let Derived::Merge { survivor, absorbed, .. } = event else { continue };
                let said = event.identity(&rules);
                prop_assert_eq!(&said["consentAfter"], "MOST_RESTRICTIVE");
                let after = world.state.closure(&Subject::Customer(*survivor)).unwrap();
                let after: BTreeSet<_> = after.interactions.iter().map(|one| one.observation).collect();
                // What became a shared identifier's in the same step is nobody's any more; the rest moved with its owner.
                for before in absorbed.iter().chain([survivor]).filter_map(|id| whose.get(id)) {
                    for observation in before {
                        let now = world.state.whose(observation).unwrap();
                        prop_assert!(
                            after.contains(observation) || now.gcid != Some(*survivor),
                            "an interaction of the merged customer is not in its answer"
                        );
                    }
                }
            }
            whose.clear();
            for customer in world.state.partition() {
                let found = world.state.closure(&Subject::Identifier(*customer.first().unwrap())).unwrap();
                let theirs = found.interactions.iter().map(|one| one.observation).collect();
                whose.insert(found.customer.gcid, theirs);
            }
        }
    }

    /// P20: a value has another token for every tenant, type and pepper.
    #[test]
    fn p20_tokens_differ_by_tenant_type_and_pepper(
        digits in "[2-9][0-9]{9}",
        tenants in ("[a-z]{1,12}", "[a-z]{1,12}"),
        peppers in (any::<[u8; 32]>(), any::<[u8; 32]>()),
    ) {
        prop_assume!(tenants.0 != tenants.1 && peppers.0 != peppers.1);
        let config = NormaliserConfig { issuers: vec!["crm".to_owned()], ..NormaliserConfig::default() };
        let normaliser = Normaliser::new(config).unwrap();
        let keys = |tenant: &str, pepper: [u8; 32]| {
            TokenKeys::new(tenant, vec![Pepper::new(pepper)], Vec::new()).unwrap()
        };
        let mut tokens = BTreeSet::new();
        let mut made = 0;
        for kind in [types::MESSAGING, types::COOKIE, types::DEVICE, types::EXTERNAL_CONTACT] {
            let raw = || Raw { kind, value: &digits, region: None, namespace: Some("crm") };
            for (tenant, pepper) in
                [(&tenants.0, peppers.0), (&tenants.1, peppers.0), (&tenants.0, peppers.1), (&tenants.1, peppers.1)]
            {
                let normal = normaliser.normalise(raw()).unwrap();
                let seen = keys(tenant, pepper).sighting(&normal, Assurance::NETWORK);
                prop_assert!(seen.aliases.is_empty());
                tokens.insert(seen.identifier.token);
                made += 1;
            }
        }
        prop_assert_eq!(tokens.len(), made);
    }
}

#[test]
fn the_histories_reach_what_the_invariants_speak_of() {
    // Guards the generator: without shared identifiers, merges and statements the tests above would prove little.
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (mut shared, mut sliced, mut merged, mut large) = (0, 0, 0, 0);
    for _ in 0..50 {
        let mut world = World::new(tight());
        for input in history(40).new_tree(&mut runner).unwrap().current() {
            if let Input::Observe(observation) = &input {
                let events = world.observe(observation).events;
                merged += events.iter().filter(|event| matches!(event, Derived::Merge { .. })).count();
            } else {
                world.take(&input);
            }
        }
        for one in seen(&world) {
            shared += usize::from(world.state.lookup(&one).unwrap().1 == IdentifierState::Shared);
            sliced += usize::from(world.state.is_sliced(&one));
        }
        large += world.state.partition().iter().filter(|customer| customer.len() > 3).count();
    }
    assert!(
        shared > 20 && sliced > 5 && merged > 20 && large > 10,
        "shared {shared}, sliced {sliced}, merged {merged}, large {large}"
    );
}
