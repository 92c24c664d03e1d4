//! Stories with a known end, one for each rule.

use idtrail_event::{IdentifierToken, IdentifierType};
use idtrail_identity::assertion::{AssertionKind, Subject};
use idtrail_identity::event::Derived;
use idtrail_identity::read::CustomerState;
use idtrail_identity::ruleset::types;
use idtrail_identity::{
    ErrorKind, Guard, IdentifierState, IdentityError, Outcome, RuleId, Ruleset, StateReason, Tier,
};
use idtrail_tlog::LogIndex;

use crate::histories::{DAY_MS, NETWORK, World, identifier, observation, sighting};

const PHONE: IdentifierType = IdentifierType::PHONE;
const EMAIL: IdentifierType = IdentifierType::EMAIL;
const ACCOUNT: IdentifierType = IdentifierType::ACCOUNT;

fn world() -> World {
    World::new(Ruleset::default())
}

fn phone(n: u8) -> idtrail_identity::Sighting {
    sighting(PHONE, n, NETWORK)
}

fn email(n: u8) -> idtrail_identity::Sighting {
    sighting(EMAIL, n, NETWORK)
}

fn account(n: u8) -> idtrail_identity::Sighting {
    sighting(ACCOUNT, n, 0)
}

fn state_of(world: &World, kind: IdentifierType, n: u8) -> (IdentifierState, StateReason) {
    let (_, state, reason) = world.state.lookup(&identifier(kind, n)).unwrap();
    (state, reason)
}

#[test]
fn one_person_over_three_channels() {
    let mut world = world();
    let first = world.see(0, vec![phone(1), account(1)]);
    assert_eq!((first.outcome, first.rule), (Outcome::Created, Some(RuleId::M2)));
    let mail = world.see(1, vec![email(1), account(1)]);
    assert_eq!((mail.outcome, mail.gcid), (Outcome::Attached, first.gcid));
    let call = world.see(2, vec![phone(1)]);
    assert_eq!((call.outcome, call.gcid, call.tier), (Outcome::Attached, first.gcid, Tier::Probable));
    assert_eq!(call.rule, Some(RuleId::M3));
    world.see(3, vec![phone(1), account(1)]);
    world.see(4, vec![phone(1), account(1)]);
    assert_eq!(world.see(5, vec![phone(1)]).tier, Tier::Verified);
    // By any of them, the same answer (P14 for tokens and ids).
    let by_phone = world.state.closure(&Subject::Identifier(identifier(PHONE, 1))).unwrap();
    let by_mail = world.state.closure(&Subject::Identifier(identifier(EMAIL, 1))).unwrap();
    let by_id = world.state.closure(&Subject::Customer(first.gcid)).unwrap();
    assert_eq!(by_phone, by_mail);
    assert_eq!(by_phone, by_id);
    assert_eq!(by_id.interactions.len(), 6);
    let why = world.state.explain(&Subject::Customer(first.gcid)).unwrap();
    assert_eq!(why.anchor, identifier(ACCOUNT, 1));
    assert_eq!(why.links.len(), 2);
    let call = why.links.iter().find(|link| link.to == identifier(PHONE, 1)).unwrap();
    assert_eq!((call.support, call.evidence.len(), call.evidence[2].index), (3, 3, LogIndex::new(0)));
}

#[test]
fn a_merge_and_its_exact_unmerge() {
    let mut world = world();
    let older = world.see(0, vec![phone(1), account(1)]).gcid;
    let newer = world.see(0, vec![phone(2), account(2)]).gcid;
    let before = world.state.to_snapshot().len();
    let partition = world.state.partition();
    let merge =
        world.assert(AssertionKind::Same(Subject::Customer(older), Subject::Customer(newer))).unwrap();
    let Derived::Merge { survivor, absorbed, rule, id, .. } = &merge.events[1] else {
        panic!("no merge: {:?}", merge.events)
    };
    assert_eq!((*survivor, absorbed.as_slice(), *rule), (older, &[newer][..], RuleId::M5));
    assert_eq!(world.state.current(&newer), Some(older));
    let one = world.state.closure(&Subject::Customer(newer)).unwrap();
    assert_eq!(one, world.state.closure(&Subject::Customer(older)).unwrap());
    assert_eq!(one.customer.aliases, [newer]);
    // What was believed before the merge does not change by it (P12).
    let then = world.state.recorded_as_of(&newer, LogIndex::new(1)).unwrap();
    assert_eq!((then.gcid, then.identifiers.len()), (newer, 2));
    let now = world.state.recorded_as_of(&newer, LogIndex::new(2)).unwrap();
    assert_eq!((now.gcid, now.identifiers.len()), (older, 4));
    let split = world.assert(AssertionKind::Revoke(merge.number)).unwrap();
    let undone = split.events.iter().find_map(|event| match event {
        Derived::Split { from, parts, undoes, .. } => Some((*from, parts.clone(), *undoes)),
        _ => None,
    });
    let (from, parts, undoes) = undone.unwrap();
    assert_eq!((from, undoes), (older, Some(*id)));
    assert!(parts.iter().any(|part| part.gcid == newer && part.revived));
    assert_eq!(world.state.partition(), partition);
    assert_eq!(world.state.current(&newer), Some(newer));
    assert!(world.state.to_snapshot().len() > before);
    assert_eq!(world.state.check(), Ok(()));
    // And the belief in between is still known.
    assert_eq!(world.state.recorded_as_of(&newer, LogIndex::new(2)).unwrap().gcid, older);
}

#[test]
fn a_household_shares_its_landline() {
    let mut world = world();
    for _ in 0..3 {
        world.see(0, vec![phone(9), account(1)]);
        world.see(1, vec![phone(9), account(2)]);
    }
    assert_eq!(state_of(&world, PHONE, 9), (IdentifierState::Shared, StateReason::Household));
    let call = world.see(2, vec![phone(9)]);
    assert_eq!((call.outcome, call.tier), (Outcome::Anonymous, Tier::Ambiguous));
    // The event of an anonymous interaction names no identifier at all.
    let block = call.identity(world.state.ruleset());
    assert_eq!(block["identifiers"], serde_json::json!([]));
    assert!(!block.to_string().contains(&identifier(PHONE, 9).token.to_string()));
    let first = world.state.closure(&Subject::Identifier(identifier(ACCOUNT, 1))).unwrap();
    assert_eq!((first.interactions.len(), first.ambiguous, first.shared.len()), (3, 1, 1));
    let by_landline = world.state.closure(&Subject::Identifier(identifier(PHONE, 9)));
    assert_eq!(by_landline.unwrap_err().kind(), ErrorKind::NotFound);
    // A name decides between the two (M4).
    world.see(3, vec![account(2), sighting(types::PERSON_KEY, 1, 0)]);
    let named = world.see(4, vec![phone(9), sighting(types::PERSON_KEY, 1, 0)]);
    assert_eq!(
        (named.outcome, named.rule, named.tier),
        (Outcome::Attached, Some(RuleId::M4), Tier::Probable)
    );
    assert_eq!(named.gcid, world.see(5, vec![account(2)]).gcid);
}

#[test]
fn a_recycled_number_has_owners_in_turn() {
    let mut world = world();
    let before = world.see(0, vec![phone(1), account(1)]).gcid;
    world.see(10, vec![phone(1)]);
    world.see(20, vec![phone(1), account(1)]);
    let early = world.see(100, vec![phone(1)]);
    let after = world.see(110, vec![phone(1), account(2)]).gcid;
    assert_ne!(before, after);
    assert!(world.state.is_sliced(&identifier(PHONE, 1)));
    // The call before the new owner was known is the new owner's; the older ones stay.
    assert_eq!(world.state.whose(&early.observation).unwrap().gcid, Some(after));
    let old = world.state.closure(&Subject::Customer(before)).unwrap();
    assert_eq!(old.interactions.len(), 3);
    assert_eq!(
        old.customer.identifiers.iter().find(|o| o.identifier.kind == PHONE).unwrap().to_ms,
        Some(100 * DAY_MS)
    );
    let new = world.state.closure(&Subject::Customer(after)).unwrap();
    assert_eq!(new.interactions.len(), 2);
    let then = world.state.as_of(&Subject::Customer(before), 50 * DAY_MS).unwrap();
    assert_eq!(then.customer.identifiers.len(), 2);
    let later = world.state.as_of(&Subject::Customer(before), 200 * DAY_MS).unwrap();
    assert_eq!(later.customer.identifiers.len(), 1);
    assert_eq!(world.state.check(), Ok(()));
}

#[test]
fn a_miskeyed_account_is_set_aside_and_repaired() {
    let mut world = world();
    let caller = world.see(0, vec![phone(1), account(1)]).gcid;
    for day in 1..4 {
        world.see(day, vec![phone(1), account(1)]);
    }
    for day in 1..4 {
        world.see(day, vec![phone(2), account(2)]);
    }
    let wrong = world.see(5, vec![phone(1), account(2)]);
    assert_eq!((wrong.outcome, wrong.candidates), (Outcome::Ambiguous, 2));
    assert!(
        wrong
            .events
            .iter()
            .any(|event| matches!(event, Derived::Conflict { guard: Guard::Contradicted, .. }))
    );
    assert_eq!(world.state.quarantine(None, 10).len(), 1);
    // The source corrects itself (S1).
    world.assert(AssertionKind::Withdraw(wrong.observation)).unwrap();
    assert_eq!(world.state.quarantine(None, 10), []);
    assert_eq!(world.see(6, vec![phone(1)]).gcid, caller);
    assert_eq!(world.state.check(), Ok(()));
}

#[test]
fn guards() {
    let mut world = world();
    // G1: two persons of the customer-relationship system.
    world.see(0, vec![sighting(types::CRM_PERSON, 1, 5), sighting(ACCOUNT, 1, 5)]);
    world.see(0, vec![sighting(types::CRM_PERSON, 2, 5), sighting(ACCOUNT, 2, 5)]);
    let both = AssertionKind::Same(
        Subject::Identifier(identifier(types::CRM_PERSON, 1)),
        Subject::Identifier(identifier(types::CRM_PERSON, 2)),
    );
    let refused = world.assert(both).unwrap();
    assert!(refused.events.iter().any(|event| matches!(event, Derived::Conflict { guard: Guard::G1, .. })));
    // G2: the sixth mail address of a year.
    for n in 0..6 {
        world.see(u64::from(n), vec![sighting(ACCOUNT, 3, 3), email(n)]);
    }
    assert!(world.state.quarantine(None, 10).iter().any(|refused| refused.guard == Guard::G2));
    // G3: contradictory assertions are refused with the number of the one in force.
    let subject = |n| Subject::Identifier(identifier(ACCOUNT, n));
    let apart = world.assert(AssertionKind::NotSame(vec![subject(1)], vec![subject(3)])).unwrap();
    let error = world.assert(AssertionKind::Same(subject(3), subject(1))).unwrap_err();
    assert_eq!(error, IdentityError::Contradicts { assertion: apart.number });
    // G4: a held customer keeps away from others.
    let one = world.see(0, vec![account(10), phone(10)]).gcid;
    let other = world.see(0, vec![account(11), phone(11)]).gcid;
    let hold = world.assert(AssertionKind::Hold(one)).unwrap();
    let merge = world.assert(AssertionKind::Same(Subject::Customer(one), Subject::Customer(other))).unwrap();
    assert!(merge.events.iter().any(|event| matches!(event, Derived::Conflict { guard: Guard::G4, .. })));
    assert_eq!(world.state.customer(&one).unwrap().state, CustomerState::Held);
    let freed = world.assert(AssertionKind::Revoke(hold.number)).unwrap();
    assert!(freed.events.iter().any(|event| matches!(event, Derived::Merge { .. })));
    assert_eq!(world.state.check(), Ok(()));
}

#[test]
fn a_customer_that_merges_too_often_is_held() {
    let mut world = world();
    for n in 0..6 {
        world.see(0, vec![sighting(types::EXTERNAL_CONTACT, n, 3)]);
    }
    let mut held = 0;
    for n in 1..6 {
        let seen = vec![sighting(types::EXTERNAL_CONTACT, 0, 3), sighting(types::EXTERNAL_CONTACT, n, 3)];
        let decision = world.see(1, seen);
        held += decision
            .events
            .iter()
            .filter(|event| matches!(event, Derived::Assertion { kind: "HOLD", .. }))
            .count();
        assert_eq!(decision.outcome == Outcome::Merged, n <= 3, "{n}");
    }
    assert!(held > 0);
    assert_eq!(world.state.check(), Ok(()));
}

#[test]
fn an_anonymous_interaction_is_promoted() {
    let mut world = world();
    let nobody = world.see(0, vec![]);
    assert_eq!((nobody.outcome, nobody.tier), (Outcome::Anonymous, Tier::Ambiguous));
    let started = world.see(1, vec![sighting(types::INTERACTION, 1, 1)]);
    assert_eq!(started.outcome, Outcome::Anonymous);
    let known = world.see(1, vec![sighting(types::INTERACTION, 1, 1), account(1), phone(1)]);
    assert!(known.events.iter().any(|event| matches!(event, Derived::Promotion { back_attributed: 2, .. })));
    assert_eq!(world.state.current(&started.gcid), Some(known.gcid));
    // Back-attributed as PROBABLE at most.
    let whose = world.state.whose(&started.observation).unwrap();
    assert!(whose.tier != Tier::Verified);
}

#[test]
fn other_tokens_of_a_value_unite_identifiers() {
    let mut world = world();
    let legacy = identifier(PHONE, 77);
    let seen = |token: IdentifierToken| {
        vec![idtrail_identity::Sighting::new(PHONE, token, NETWORK.try_into().unwrap())]
    };
    let by_hash = world.see(0, seen(legacy.token));
    let by_number = world.see(0, vec![phone(1), account(1)]);
    assert_ne!(by_hash.gcid, by_number.gcid);
    // A trusted source shows the raw value: both tokens are of one number.
    let mut both = phone(1);
    both.aliases = vec![legacy.token];
    let united = world.see(1, vec![both, account(1)]);
    assert!(united.events.iter().any(|event| matches!(event, Derived::Merge { .. })), "{:?}", united.events);
    assert_eq!(world.state.current(&by_number.gcid), world.state.current(&by_hash.gcid));
    assert_eq!(world.see(2, seen(legacy.token)).gcid, united.gcid);
    let closure = world.state.closure(&Subject::Identifier(legacy)).unwrap();
    assert_eq!(closure.interactions.len(), 4);
    assert_eq!(world.state.check(), Ok(()));
}

#[test]
fn erasure_leaves_others_as_they_are() {
    let mut world = world();
    for day in 0..3 {
        world.see(day, vec![phone(9), account(1), email(1)]);
        world.see(day, vec![phone(9), account(2), email(2)]);
    }
    let call = world.see(4, vec![phone(9)]);
    let gone = world.state.lookup(&identifier(ACCOUNT, 1)).unwrap().0.unwrap();
    let other = world.state.closure(&Subject::Identifier(identifier(ACCOUNT, 2))).unwrap();
    let at = world.at();
    let erasure = world.state.erase(&Subject::Customer(gone), at, &mut |_| unreachable!()).unwrap();
    assert_eq!((erasure.observations.len(), erasure.identifiers.len()), (3, 2));
    assert_eq!(erasure.retained, [identifier(PHONE, 9)]);
    assert_eq!(erasure.reassertions.len(), 2);
    assert_eq!(world.state.closure(&Subject::Identifier(identifier(ACCOUNT, 2))).unwrap(), other);
    assert_eq!(world.state.whose(&call.observation).unwrap().gcid, None);
    assert_eq!(world.state.customer(&gone).unwrap().state, CustomerState::Erased);
    assert_eq!(
        world.state.closure(&Subject::Customer(gone)),
        Err(IdentityError::Erased { what: "customer" })
    );
    let merge = AssertionKind::Same(Subject::Customer(gone), Subject::Identifier(identifier(ACCOUNT, 2)));
    assert_eq!(world.assert(merge).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.state.lookup(&identifier(ACCOUNT, 1)), None);
    // P15: no token of the person is in the bytes of the state.
    let bytes = world.state.to_snapshot();
    for lost in [identifier(ACCOUNT, 1), identifier(EMAIL, 1)] {
        assert!(!bytes.windows(32).any(|window| window == lost.token.as_bytes()));
    }
    assert_eq!(world.state.check(), Ok(()));
    // Who returns is somebody new.
    let back = world.see(9, vec![account(1)]);
    assert_eq!(back.outcome, Outcome::Created);
    assert_ne!(back.gcid, gone);
}

#[test]
fn requests_that_make_no_sense() {
    let mut world = world();
    let many = observation(1, 0, (0..=255).flat_map(|n| [phone(n), email(n)]).cycle().take(10_000).collect());
    let at = world.at();
    let error = world.state.resolve(&many, at, &mut |_| unreachable!()).unwrap_err();
    assert_eq!(error, IdentityError::TooManyIdentifiers { max: 32, got: 10_000 });
    let odd = observation(2, 0, vec![sighting(IdentifierType::new(999), 1, 1)]);
    let error = world.state.resolve(&odd, at, &mut |_| unreachable!()).unwrap_err();
    assert_eq!(error, IdentityError::UnknownType { code: 999 });
    let unknown = Subject::Identifier(identifier(PHONE, 1));
    assert_eq!(world.state.closure(&unknown).unwrap_err().kind(), ErrorKind::NotFound);
    world.see(0, vec![phone(1), account(1)]);
    let same = AssertionKind::Same(unknown, unknown);
    assert_eq!(world.assert(same).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(world.assert(AssertionKind::Revoke(5)).unwrap_err().kind(), ErrorKind::NotFound);
    let both = AssertionKind::NotSame(vec![unknown], vec![unknown]);
    assert_eq!(world.assert(both).unwrap_err().kind(), ErrorKind::Invalid);
    let mut rules = Ruleset::default();
    rules.types.retain(|rule| rule.code != 1);
    rules.version = 2;
    let at = world.at();
    assert!(world.state.change_ruleset(rules, at, &mut |_| unreachable!()).is_err());
    assert_eq!(world.state.check(), Ok(()));
}
