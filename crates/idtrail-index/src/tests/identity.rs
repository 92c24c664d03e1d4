//! Identity in the trail: who is whose, what follows, and the same state from the leaves alone.

use idtrail_event::{ChannelCode, IdentifierToken, IdentifierType};
use idtrail_identity::assertion::Subject;
use idtrail_identity::{Assurance, Ruleset, Sighting};
use proptest::prelude::*;

use super::*;
use crate::command::Resolution;
use crate::identity::{hashed, reference};
use crate::slip::Slip;
use crate::statement::{RulesetChange, Statement, reassertions};

fn hash(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

fn event(number: usize, customer: Option<&str>, phone: Option<u8>, account: Option<u8>) -> Value {
    json!({ "auditEvent": {
        "eventType": "IDENTITY_RESOLUTION",
        "timestamp": "2023-10-27T14:30:00Z",
        "interactionId": format!("i-{}", number % 5),
        "channelType": "VOICE",
        "resolvedCustomerId": customer,
        "resolutionSource": "test",
        "piiContext": { "phoneHash": phone.map(hash), "emailHash": null, "accountNumberHash": account.map(hash) },
        "complianceFlags": { "gdprConsentRecorded": true, "dataSubjectRequestPending": false },
        "agentId": null,
        "queueId": "q",
        "number": number,
    }})
}

impl Running {
    fn subject(&self, index: LogIndex) -> GlobalCustomerId {
        let leaf = open(&self.keyring, index, &self.reader().entry(index).unwrap()).unwrap().leaf;
        leaf.subject.unwrap()
    }

    fn post_at(&mut self, installation: &Installation, body: &Value) -> LogIndex {
        match self.post(installation, body, None) {
            Answer::Appended { first, .. } => first,
            other => panic!("{other:?}"),
        }
    }

    fn question(&self, sightings: Vec<Sighting>, id: &str) -> (Command, Slip) {
        let event = json!({ "timestamp": "2023-10-27T15:00:00Z", "interactionId": "i-9" });
        let Value::Object(event) = event else { unreachable!() };
        let request =
            Resolution { event, channel: ChannelCode::VOICE, time_ms: 1_698_418_800_000, sightings };
        let dedupe = Dedupe::text(DedupeKind::IDEMPOTENCY_KEY, id).into_owned();
        Command::resolve(&self.hasher, request, "crm", None, dedupe)
    }

    fn resolve(&mut self, sightings: Vec<Sighting>, id: &str) -> Answer<Refusal> {
        let (command, slip) = self.question(sightings, id);
        let answer = self.submit(vec![command]).pop().unwrap();
        // Only a new decision is written down.
        assert_eq!(slip.read().is_some(), matches!(answer, Answer::Appended { .. }));
        answer
    }
}

#[test]
fn one_person_over_several_events_has_one_id() {
    let installation = Installation::new(31);
    let mut running = installation.start();
    let first = running.post_at(&installation, &event(1, Some("anna"), Some(1), Some(2)));
    let by_phone = running.post_at(&installation, &event(2, None, Some(1), None));
    let by_account = running.post_at(&installation, &event(3, None, None, Some(2)));
    let anna = running.subject(first);
    assert_eq!(running.subject(by_phone), anna);
    assert_eq!(running.subject(by_account), anna);
    // The global id itself names the customer as well.
    let named = running.post_at(&installation, &event(4, Some(&anna.to_string()), None, None));
    assert_eq!(running.subject(named), anna);
    let keys = running.hasher.identifiers().unwrap();
    let phone = hashed(keys, IdentifierType::PHONE, &hash(1), None).unwrap().identifier;
    let customer = reference(&running.hasher.customer("anna")).identifier;
    for subject in [Subject::Customer(anna), Subject::Identifier(phone), Subject::Identifier(customer)] {
        let (closure, _) = running.identity.read(|state| state.closure(&subject).unwrap());
        assert_eq!(closure.customer.gcid, anna);
        let indices: Vec<_> = closure.interactions.iter().map(|one| one.index).collect();
        assert_eq!(indices, [first, by_phone, by_account, named]);
    }
}

#[test]
fn customers_that_turn_out_to_be_one_are_merged_by_leaves_of_their_own() {
    let installation = Installation::new(32);
    let mut running = installation.start();
    let one = running.post_at(&installation, &event(1, None, Some(1), None));
    let other = running.post_at(&installation, &event(2, None, None, Some(2)));
    let (one, other) = (running.subject(one), running.subject(other));
    assert_ne!(one, other);
    let before = running.reader().size().get();
    running.post_at(&installation, &event(3, Some("anna"), Some(1), Some(2)));
    let after = running.reader().size().get();
    let mut merged = Vec::new();
    for index in (before + 1..after).map(LogIndex::new) {
        let leaf = open(&running.keyring, index, &running.reader().entry(index).unwrap()).unwrap().leaf;
        if leaf.header.event_type == TypeCode::IDENTITY_MERGE {
            merged.push(leaf.subject.unwrap());
        }
    }
    assert!(merged.contains(&one) && merged.contains(&other), "{merged:?}");
    for id in [one, other] {
        assert_eq!(running.identity.read(|state| state.current(&id)).0, Some(one));
    }
    running.lookup.settle().unwrap();
    assert_eq!(running.lookup.subject(other).unwrap().len(), 2);
}

#[test]
fn a_resolution_is_decided_once() {
    let installation = Installation::new(33);
    let mut running = installation.start();
    let phone = Sighting::new(IdentifierType::PHONE, IdentifierToken::new([7; 32]), Assurance::NETWORK);
    let Answer::Appended { first, .. } = running.resolve(vec![phone.clone()], "a") else { panic!() };
    assert!(matches!(running.resolve(vec![phone.clone()], "a"), Answer::Existing(index) if index == first));
    assert!(matches!(
        running.resolve(vec![], "a"),
        Answer::Refused(Refusal::Conflict(place)) if place.index == first
    ));
    let Answer::Appended { first: second, .. } = running.resolve(vec![phone], "b") else { panic!() };
    assert_eq!(running.subject(first), running.subject(second));
    let Answer::Appended { first: nobody, .. } = running.resolve(vec![], "c") else { panic!() };
    let leaf = open(&running.keyring, nobody, &running.reader().entry(nobody).unwrap()).unwrap().leaf;
    assert_eq!(leaf.header.event_type, TypeCode::ANONYMOUS);
    assert_ne!(leaf.subject.unwrap(), running.subject(first));
    // A later event that names the anonymous customer stays with it.
    let body = event(1, Some(&leaf.subject.unwrap().to_string()), None, None);
    let index = running.post_at(&installation, &body);
    assert_eq!(running.subject(index), running.subject(nobody), "an anonymous customer is still one");
}

impl Running {
    fn state(&mut self, statement: Statement, id: Option<&str>) -> Answer<Refusal> {
        let dedupe = id.map_or(Dedupe::CONTENT, |id| Dedupe::text(DedupeKind::SYSTEM, id).into_owned());
        let command = Command::state(&self.hasher, statement, Some("p_1"), dedupe);
        self.submit(vec![command]).pop().unwrap()
    }
}

fn rules(version: u32, phones: u32) -> Statement {
    let mut ruleset = Ruleset { version, ..Ruleset::default() };
    let phone = ruleset.types.iter_mut().find(|kind| kind.code == IdentifierType::PHONE.number()).unwrap();
    phone.max_per_cluster = phones;
    Statement::Ruleset(Box::new(RulesetChange { ruleset, reason: "measured".to_owned(), approver: None }))
}

#[test]
fn rules_are_changed_by_a_leaf_and_come_back_from_it() {
    let installation = Installation::new(34);
    let mut running = installation.start();
    for phone in 1..=3 {
        running.post_at(&installation, &event(usize::from(phone), Some("anna"), Some(phone), None));
    }
    let customers = |running: &Running| running.identity.read(|state| state.partition().len()).0;
    assert_eq!(customers(&running), 1);
    let Statement::Ruleset(change) = rules(2, 1) else { unreachable!() };
    let (would, _) = running.identity.simulate_ruleset(change.ruleset);
    assert_eq!(would.unwrap().splits.len(), 1);
    assert_eq!(customers(&running), 1, "a simulation does nothing");
    let Answer::Appended { first, count, .. } = running.state(rules(2, 1), Some("r-1")) else { panic!() };
    assert!(count > 1, "what fell apart is a leaf as well");
    assert!(customers(&running) > 1);
    assert!(matches!(running.state(rules(2, 1), Some("r-1")), Answer::Existing(index) if index == first));
    assert!(matches!(
        running.state(rules(3, 1), Some("r-1")),
        Answer::Refused(Refusal::Conflict(place)) if place.index == first
    ));
    assert!(matches!(running.state(rules(2, 5), None), Answer::Refused(Refusal::Unavailable)), "not newer");
    let live = running.snapshot();
    drop(running);
    let mut running = installation.start();
    assert_eq!(live, running.snapshot());
    assert_eq!(running.identity.read(|state| state.ruleset().version).0, 2);
    assert!(matches!(running.state(rules(2, 1), Some("r-1")), Answer::Existing(index) if index == first));
    // P18: what was restored is as it was.
    assert!(matches!(running.state(rules(3, 5), None), Answer::Appended { .. }));
    assert_eq!(customers(&running), 1);
}

#[test]
fn who_remains_is_told_apart_as_before_when_the_leaves_of_another_are_gone() {
    let installation = Installation::new(35);
    let mut running = installation.start();
    // Both use one number, so it is nobody's, and a call from it may be either's.
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    for number in 0..3 {
        theirs.push(running.post_at(&installation, &event(number * 2, Some("anna"), Some(9), Some(1))));
        others.push(running.post_at(&installation, &event(number * 2 + 1, Some("bert"), Some(9), Some(2))));
    }
    let call = running.post_at(&installation, &event(20, None, Some(9), None));
    let (anna, bert) = (running.subject(theirs[0]), running.subject(others[0]));
    assert_ne!(anna, bert);
    let answer = |identity: &Identity| {
        let (closure, _) = identity.read(|state| state.closure(&Subject::Customer(bert)).unwrap());
        closure.interactions.iter().map(|one| (one.index, one.tier)).collect::<Vec<_>>()
    };
    let before = answer(&running.identity);
    assert_eq!(before.iter().map(|(index, _)| *index).collect::<Vec<_>>(), others);
    let fold = |running: &Running, without: &[LogIndex]| {
        let identity = Identity::default();
        for index in (0..running.reader().size().get()).map(LogIndex::new) {
            let leaf = open(&running.keyring, index, &running.reader().entry(index).unwrap()).unwrap().leaf;
            match without.contains(&index) {
                true => identity.skip(index),
                false => identity.replay(&running.hasher, index, &leaf),
            }
        }
        identity
    };
    // Without what is said again the number, and the call, would go to the one who remains.
    let inherited = answer(&fold(&running, &theirs));
    assert!(inherited.iter().any(|(index, _)| *index == call), "{inherited:?}");
    let subject = Subject::Customer(anna);
    let facts = running.identity.facts_of_others(&subject, 1_698_418_800_000).unwrap();
    assert!(!facts.is_empty() && running.identity.said_again(&subject).is_empty());
    let mut leaves = Vec::new();
    for statement in reassertions(facts) {
        let Answer::Appended { first, .. } = running.state(statement, None) else { panic!() };
        leaves.push(first);
    }
    assert_eq!(answer(&running.identity), before, "nothing changes while her leaves are there");
    let left = fold(&running, &theirs);
    assert_eq!(answer(&left), before);
    // It names the number that both used and a call that is nobody's, so it may stay when the other one is erased too.
    assert_eq!((leaves.len(), left.said_again(&Subject::Customer(bert))), (1, Vec::new()));
    let live = running.snapshot();
    drop(running);
    assert_eq!(live, installation.start().snapshot());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_leaves_alone_give_the_same_state(
        seed in 100_u64..1000,
        said in proptest::collection::vec((0_u8..5, 0_u8..6, 0_u8..5, proptest::bool::ANY), 1..60),
    ) {
        let installation = Installation::new(seed);
        let mut running = installation.start();
        for (number, (customer, phone, account, resolves)) in said.into_iter().enumerate() {
            if resolves {
                let kind = IdentifierType::PHONE;
                let mut seen = Sighting::new(kind, IdentifierToken::new([phone; 32]), Assurance::NETWORK);
                let keys = running.hasher.identifiers().unwrap();
                // Whoever shows the value proves that the hash in other events is its hash.
                seen.aliases.extend(hashed(keys, kind, &hash(phone), None).map(|seen| seen.identifier.token));
                running.resolve(vec![seen], &format!("r-{number}"));
            } else {
                let name = format!("customer-{customer}");
                let body = event(
                    number,
                    (customer > 0).then_some(&*name),
                    (phone > 0).then_some(phone),
                    (account > 0).then_some(account),
                );
                running.post(&installation, &body, None);
            }
        }
        running.identity.read(|state| state.check().unwrap());
        let live = running.snapshot();
        drop(running);
        let rebuilt = installation.start();
        prop_assert_eq!(live, rebuilt.snapshot(), "seed {}", seed);
    }
}

/// How far a crash lets the disk get, and what of it survives.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Killed,
    LosingAll,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// P21: whatever was answered before a crash, at whichever of its steps the disk stopped, is there after it, and its
    /// customer has the id that was answered; the question that was cut short is decided once it is asked again.
    #[test]
    fn p21_what_was_answered_before_a_crash_is_answered_alike_after_it(
        seed in 1_000_u64..2_000,
        asked in proptest::collection::vec((0_u8..5, 0_u8..5), 2..14),
        stop in 0_u64..64,
        cut in prop_oneof![Just(Cut::Killed), Just(Cut::LosingAll)],
    ) {
        use idtrail_sim::Count;
        let installation = Installation::new(seed);
        let mut running = installation.start();
        installation.disk.reset_counts();
        installation.disk.crash_at(Count::Mutating, stop);
        let seen = |(phone, account): (u8, u8)| {
            let one = |kind, number: u8, level| {
                let assurance = Assurance::try_from(level).unwrap();
                (number > 0).then(|| Sighting::new(kind, IdentifierToken::new([number; 32]), assurance))
            };
            let found = [one(IdentifierType::PHONE, phone, 1), one(IdentifierType::ACCOUNT, account, 3)];
            found.into_iter().flatten().collect::<Vec<_>>()
        };
        let mut answered = Vec::new();
        for (number, &pair) in asked.iter().enumerate() {
            let (command, slip) = running.question(seen(pair), &format!("q-{number}"));
            let Some(Answer::Appended { first, .. }) = running.try_submit(command) else { break };
            answered.push((first, slip.read().unwrap()));
        }
        let live = running.snapshot();
        drop(running);
        match cut {
            Cut::Killed => installation.disk.kill(),
            Cut::LosingAll => installation.disk.crash_losing_all(),
        }
        installation.disk.clear_faults();
        let mut running = installation.start();
        for (first, said) in &answered {
            let leaf = open(&running.keyring, *first, &running.reader().entry(*first).unwrap()).unwrap().leaf;
            prop_assert_eq!(leaf.subject, Some(said.gcid), "seed {} stop {}", seed, stop);
            let identity = &leaf.body["auditEvent"]["identity"];
            prop_assert_eq!(&identity["outcome"], said.outcome.name());
            prop_assert_eq!(&identity["tier"], said.tier.name());
        }
        if answered.len() == asked.len() {
            prop_assert_eq!(live, running.snapshot());
        }
        // Asked again, everything is answered by the leaf it had, or decided for the first time.
        for (number, &pair) in asked.iter().enumerate() {
            let again = running.resolve_any(seen(pair), &format!("q-{number}"));
            if let Some((first, _)) = answered.get(number) {
                prop_assert!(matches!(again, Answer::Existing(index) if index == *first), "{:?}", again);
            }
        }
        running.identity.read(|state| state.check().unwrap());
    }
}

impl Running {
    /// As `resolve`, also for a question that was asked before.
    fn resolve_any(&mut self, sightings: Vec<Sighting>, id: &str) -> Answer<Refusal> {
        let (command, _) = self.question(sightings, id);
        self.submit(vec![command]).pop().unwrap()
    }
}

#[test]
fn what_was_resolved_is_encoded_as_its_json_is() {
    use idtrail_event::{EncodedEvent, IdentifierToken, IdentifierType};
    use idtrail_identity::{Assurance, Sighting};

    let token = |byte| IdentifierToken::new([byte; 32]);
    let mut known = Sighting::new(IdentifierType::PHONE, token(1), Assurance::NETWORK);
    known.aliases = vec![token(0), token(0xff)];
    let new = Sighting::new(IdentifierType::new(300), token(0xa0), Assurance::VERIFIED);
    let seen = crate::identity::Seen {
        time_ms: 1_700_000_000_000,
        sightings: vec![known, new],
        named: None,
        asked: true,
    };
    let json = json!({ "auditEvent": {}, "observation": { "timeMs": 1_700_000_000_000_u64, "sightings": [
        { "type": 1, "token": "01".repeat(32), "assurance": Assurance::NETWORK.level(),
          "aliases": ["00".repeat(32), "ff".repeat(32)] },
        { "type": 300, "token": "a0".repeat(32), "assurance": Assurance::VERIFIED.level() },
    ] } });
    assert!(seen.encode() == EncodedEvent::of(&json));
    assert_eq!(crate::identity::Seen::of_json(&json["observation"]), Some(seen));
}
