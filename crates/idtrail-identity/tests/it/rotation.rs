//! P22: another pepper changes nobody: the same customers with the same ids, whenever it comes and whoever is seen when.

use std::collections::BTreeMap;

use idtrail_event::{GlobalCustomerId, IdentifierType, Pepper};
use idtrail_identity::assertion::Subject;
use idtrail_identity::normalise::{Normaliser, NormaliserConfig, Raw};
use idtrail_identity::tokens::TokenKeys;
use idtrail_identity::{Assurance, Ruleset, Sighting};
use proptest::prelude::*;

use crate::histories::{World, observation};

fn keys(peppers: &[u8]) -> TokenKeys {
    let peppers = peppers.iter().map(|first| Pepper::new([*first; 32])).collect();
    TokenKeys::new("tenant-a", peppers, Vec::new()).unwrap()
}

/// One contact: a telephone number, a mail address or both.
type Contact = (u8, Option<u8>);

fn sightings(keys: &TokenKeys, normaliser: &Normaliser, (phone, mail): &Contact) -> Vec<Sighting> {
    let number = format!("+1415555{phone:04}");
    let address = mail.map(|mail| format!("person{mail}@example.com"));
    let raw = |kind, value| Raw { kind, value, region: None, namespace: None };
    let mut values = vec![raw(IdentifierType::PHONE, number.as_str())];
    values.extend(address.as_deref().map(|address| raw(IdentifierType::EMAIL, address)));
    let of = |value| keys.sighting(&normaliser.normalise(value).unwrap(), Assurance::NETWORK);
    values.into_iter().map(of).collect()
}

/// Resolves all contacts, from one on with other keys, and returns whose each is and what each customer's answer holds.
fn resolved(contacts: &[Contact], rotations: &[(usize, TokenKeys)]) -> (Vec<GlobalCustomerId>, Vec<usize>) {
    let normaliser = Normaliser::new(NormaliserConfig::default()).unwrap();
    let mut world = World::new(Ruleset { merges_per_day_max: u32::MAX, ..Ruleset::default() });
    let mut ids = Vec::new();
    for (at, contact) in contacts.iter().enumerate() {
        let (_, keys) = rotations.iter().rev().find(|(from, _)| *from <= at).unwrap();
        // One a day: between links that are equal in everything else their tokens decide.
        let one = observation(at as u32, at as u64, sightings(keys, &normaliser, contact));
        ids.push(world.observe(&one).gcid);
    }
    assert_eq!(world.state.check(), Ok(()));
    let mut answers = BTreeMap::new();
    for id in &ids {
        let found = world.state.closure(&Subject::Customer(*id)).unwrap();
        answers.insert(*id, found.interactions.len());
    }
    let counts = ids.iter().map(|id| answers[id]).collect();
    (ids, counts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p22_another_pepper_changes_nobody(
        contacts in prop::collection::vec((0..6_u8, prop::option::of(0..5_u8)), 1..40),
        cuts in (0..40_usize, 0..40_usize),
    ) {
        let before = resolved(&contacts, &[(0, keys(&[1]))]);
        let (first, second) = (cuts.0.min(cuts.1), cuts.0.max(cuts.1));
        let rotated = [(0, keys(&[1])), (first, keys(&[2, 1])), (second, keys(&[3, 2, 1]))];
        prop_assert_eq!(before, resolved(&contacts, &rotated));
    }
}

#[test]
fn without_the_older_pepper_people_would_be_strangers() {
    // Guards the property: it is the older key that leads to who was known before.
    let contacts = [(1, None), (1, None)];
    let (ids, _) = resolved(&contacts, &[(0, keys(&[1])), (1, keys(&[2]))]);
    assert_ne!(ids[0], ids[1]);
    let (ids, _) = resolved(&contacts, &[(0, keys(&[1])), (1, keys(&[2, 1]))]);
    assert_eq!(ids[0], ids[1]);
}
