//! Leaves of the access log: one for each customer, found again, rebuilt alike, and one alone where there are too many.

use std::collections::BTreeMap;
use std::sync::Arc;

use idtrail_event::GlobalCustomerId;
use idtrail_tlog::LogIndex;
use serde_json::{Map, Value, json};

use super::{Installation, Running, index};
use crate::access::{Access, Place, SUBJECTS_MAX, commitment};
use crate::command::What;
use crate::seal::open;

const BYTES_MAX: usize = 1 << 20;

fn subject(number: u32) -> GlobalCustomerId {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    GlobalCustomerId::new(bytes)
}

fn access(customers: u32) -> Access {
    let places =
        |number: u32| vec![Place::Leaf(u64::from(number) * 2 + 1), Place::Leaf(u64::from(number) * 2)];
    Access {
        system: "crm".to_owned(),
        person: Some("person_1".to_owned()),
        operation: "list_events",
        purpose: "AUDIT",
        origin: "example.com/events".to_owned(),
        size: 99,
        filter: Map::from_iter([("channel".to_owned(), json!("CHAT"))]),
        disclosed: (0..customers).map(|number| (Some(subject(number)), places(number))).collect(),
    }
}

fn record(
    running: &mut Running,
    installation: &Installation,
    access: &Access,
    bytes_max: usize,
) -> (u64, u64) {
    let command = access.command(&running.hasher, &installation.entropy, bytes_max).unwrap();
    let before = running.reader().size().get();
    let first = index(&running.submit(vec![command])[0]);
    assert_eq!(first, before);
    (first, running.reader().size().get() - before)
}

fn said(running: &Running, at: u64) -> Value {
    let at = LogIndex::new(at);
    let disclosed = open(&running.keyring, at, &running.reader().entry(at).unwrap()).unwrap();
    assert_eq!(disclosed.leaf.system, "crm");
    assert!(disclosed.staff_key.is_some(), "the person is sealed apart");
    disclosed.leaf.body["auditEvent"].clone()
}

#[test]
fn one_leaf_for_each_customer_which_is_found_and_rebuilt() {
    let installation = Installation::new(31);
    let mut running = installation.start();
    let three = access(3);
    assert_eq!(record(&mut running, &installation, &three, BYTES_MAX), (2, 3));
    assert_eq!(record(&mut running, &installation, &three, BYTES_MAX), (5, 3), "each query is news");
    let leaf = said(&running, 3);
    let hex = |name: &str| data_hex(leaf[name].as_str().unwrap());
    let salt: [u8; 16] = hex("salt").try_into().unwrap();
    let places = [Place::Leaf(2), Place::Leaf(3)];
    assert_eq!(hex("commitment"), commitment(&salt, "example.com/events", &places), "in any order");
    assert_ne!(hex("commitment"), commitment(&salt, "example.com/other", &places));
    assert_eq!((&leaf["count"], &leaf["staffId"]), (&json!(2), &json!("person_1")));
    assert!(leaf.get("filter").is_none());
    let found = |running: &Running| -> Vec<Vec<u64>> {
        let of = |number| running.lookup.subject(subject(number)).unwrap();
        (0..4).map(|number| of(number).iter().map(|index| index.get()).collect()).collect()
    };
    let live = found(&running);
    assert_eq!(live, [vec![2, 5], vec![3, 6], vec![4, 7], vec![]]);
    let at = LogIndex::new(6);
    let second = open(&running.keyring, at, &running.reader().entry(at).unwrap()).unwrap().leaf;
    assert_eq!((second.subject_sequence, second.previous_index), (1, Some(3)));
    drop(running);
    installation.disk.crash_losing_all();
    let mut rebuilt = installation.start();
    assert_eq!(found(&rebuilt), live);
    let next = record(&mut rebuilt, &installation, &three, BYTES_MAX).0;
    let bytes = rebuilt.reader().entry(LogIndex::new(next)).unwrap();
    assert_eq!(open(&rebuilt.keyring, LogIndex::new(next), &bytes).unwrap().leaf.subject_sequence, 2);
}

#[test]
fn very_many_customers_or_bytes_leave_one_leaf_with_filter_and_range() {
    let installation = Installation::new(32);
    let mut running = installation.start();
    let limit = u32::try_from(SUBJECTS_MAX).unwrap();
    for (customers, bytes_max) in [(limit + 1, usize::MAX), (20, 4096)] {
        let (first, count) = record(&mut running, &installation, &access(customers), bytes_max);
        assert_eq!(count, 1);
        let leaf = said(&running, first);
        assert_eq!((&leaf["count"], &leaf["customers"]), (&json!(customers * 2), &json!(customers)));
        assert_eq!(leaf["range"], json!({ "first": 0, "last": customers * 2 - 1 }));
        assert_eq!(leaf["filter"], json!({ "channel": "CHAT" }));
        assert!(leaf.get("commitment").is_none());
    }
    let command = access(limit).command(&running.hasher, &installation.entropy, usize::MAX).unwrap();
    assert!(matches!(&command.0, What::Access(leaves) if leaves.len() == SUBJECTS_MAX));
    let nothing = Access { disclosed: BTreeMap::new(), ..access(1) };
    assert!(nothing.command(&running.hasher, &Arc::clone(&installation.entropy), BYTES_MAX).is_none());
}

fn data_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
