//! No single byte of a file can be changed, removed or cut off without the verifier noticing.

use idtrail_verify::{Verdict, verify};
use serde_json::Value;

use crate::rig::{self, ORIGIN, policy};

/// Runs every small change of a file that changes its JSON value, and returns how many there were.
fn every_change(file: &[u8], is_covered: impl Fn(&Value) -> bool) -> usize {
    let policy = policy(&[ORIGIN]);
    let original: Value = serde_json::from_slice(file).unwrap();
    assert_eq!(verify(file, &policy).verdict, Verdict::Verified);
    let mut count = 0;
    let mut check = |changed: &[u8], at: usize, how: &str| {
        // White space between tokens, `e` for `E` and the like: the file says the same.
        if serde_json::from_slice::<Value>(changed)
            .is_ok_and(|value| value == original || !is_covered(&value))
        {
            return;
        }
        count += 1;
        let report = verify(changed, &policy);
        assert_ne!(report.verdict, Verdict::Verified, "byte {at} {how}: {report:#?}");
    };
    for at in 0..file.len() {
        for (bit, how) in [(1, "low bit flipped"), (0x20, "letter case flipped")] {
            let mut changed = file.to_vec();
            changed[at] ^= bit;
            check(&changed, at, how);
        }
        let removed = [&file[..at], &file[at + 1..]].concat();
        check(&removed, at, "removed");
        check(&file[..at], at, "and all behind it cut off");
    }
    count
}

#[test]
fn every_byte_of_a_package_counts() {
    let file = serde_json::to_vec(&rig::package()).unwrap();
    let count = every_change(&file, |_| true);
    // All but a handful, such as a letter in a `\u` escape, change the value.
    assert!(count > file.len() * 4 * 99 / 100, "{count} of {}", file.len() * 4);
}

#[test]
fn every_covered_byte_of_a_receipt_counts() {
    let file = serde_json::to_vec(&rig::log().receipt(2)).unwrap();
    let original: Value = serde_json::from_slice(&file).unwrap();
    let covered = ["origin", "index", "leafHash", "treeSize", "proof"];
    let count =
        every_change(&file, |value| covered.iter().any(|name| value.get(*name) != original.get(*name)));
    assert!(count > file.len() * 2);
}
