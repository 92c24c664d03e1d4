//! Receipts: good, altered, and with the leaf beside them.

use idtrail_tlog::{LogIndex, SignerKey, TlogProof};
use idtrail_verify::{Receipt, ReceiptStatus, ReceiptWarning, Verdict, verify, verify_receipt};

use crate::package::place;
use crate::rig::{self, ORIGIN, policy};

fn file(receipt: &Receipt) -> Vec<u8> {
    serde_json::to_vec(receipt).unwrap()
}

#[test]
fn what_the_log_answered_is_verified() {
    let log = rig::log();
    let policy = policy(&[ORIGIN]);
    for index in 0..log.size() {
        let bytes = file(&log.receipt(index));
        let report = verify(&bytes, &policy);
        assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
        let report = verify_receipt(&bytes, Some(log.leaf(index)), &policy);
        assert_eq!((report.verdict, report.checked_events), (Verdict::Verified, 1), "{report:#?}");
        let report = verify_receipt(&bytes, Some(log.leaf((index + 1) % 7)), &policy);
        assert_eq!(
            (report.verdict, place(&report)),
            (Verdict::Tampered, Some((ORIGIN, index))),
            "{report:#?}"
        );
    }
}

#[test]
fn a_duplicate_may_leave_things_out() {
    let mut receipt = rig::log().receipt(2);
    receipt.status = ReceiptStatus::Duplicate;
    receipt.event_id = None;
    receipt.received_at = None;
    receipt.warnings.push(ReceiptWarning {
        pointer: "/auditEvent/timestamp".to_owned(),
        code: "old_event_time".to_owned(),
        message: "m".to_owned(),
        hint: "h".to_owned(),
    });
    let bytes = file(&receipt);
    assert_eq!(verify(&bytes, &policy(&[ORIGIN])).verdict, Verdict::Verified);
    assert!(String::from_utf8(bytes).unwrap().starts_with("{\"status\":\"duplicate\",\"origin\":"));
}

pub(crate) type Case = (&'static str, fn(&mut Receipt), Verdict, &'static str);

pub(crate) const CHANGES: &[Case] = &[
    ("index", |r| r.index = 3, Verdict::Tampered, "another index"),
    ("hash", |r| r.leaf_hash = "00".repeat(32), Verdict::Tampered, "not proved"),
    ("no hash", |r| r.leaf_hash.make_ascii_uppercase(), Verdict::Tampered, "not a hash"),
    ("size", |r| r.tree_size = 8, Verdict::Tampered, "treeSize"),
    ("origin", |r| r.origin = "example.com/another".to_owned(), Verdict::CouldNotCheck, "pinned"),
    ("proof cut", |r| r.proof.truncate(60), Verdict::Tampered, "cannot be read"),
    ("proof version", |r| r.proof = r.proof.replace("@v1", "@v2"), Verdict::CouldNotCheck, "version"),
    ("proof of another leaf", |r| r.proof = rig::log().receipt(3).proof, Verdict::Tampered, "another index"),
    ("another key", |r| r.proof = forged(), Verdict::Tampered, "no pinned key"),
];

fn forged() -> String {
    let log = rig::log();
    let mut proof = TlogProof::parse(&log.receipt(2).proof).unwrap();
    assert_eq!(proof.index, LogIndex::new(2));
    proof.checkpoint = log.checkpoint().sign(&SignerKey::from_seed(ORIGIN, &[66; 32]).unwrap());
    proof.to_text()
}

#[test]
fn every_change_has_its_verdict() {
    for (name, change, verdict, text) in CHANGES {
        let mut receipt = rig::log().receipt(2);
        change(&mut receipt);
        let report = verify(&file(&receipt), &policy(&[ORIGIN]));
        assert_eq!(report.verdict, *verdict, "{name}: {report:#?}");
        assert!(report.summary.contains(text), "{name}: {report:#?}");
    }
}

#[test]
fn a_receipt_has_no_cosignature() {
    let report = verify(&file(&rig::log().receipt(2)), &rig::witness_policy());
    assert_eq!(report.verdict, Verdict::Incomplete, "{report:#?}");
    assert!(report.summary.contains("too few witnesses"));
}

#[test]
fn what_is_no_receipt_is_not_judged() {
    let good = String::from_utf8(file(&rig::log().receipt(2))).unwrap();
    let twice = good.replacen("\"index\"", "\"index\":2,\"index\"", 1);
    let unknown = good.replacen("\"index\"", "\"x\":2,\"index\"", 1);
    for text in [twice.as_str(), unknown.as_str(), "{\"proof\":1}", "x"] {
        let report = verify_receipt(text.as_bytes(), None, &policy(&[ORIGIN]));
        assert_eq!(report.verdict, Verdict::CouldNotCheck, "{report:#?}");
    }
}
