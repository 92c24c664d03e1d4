//! What an erasure leaves behind: DATA_DELETION leaves that name nobody, and a certificate that verifies.

use std::collections::BTreeSet;

use idtrail_event::{
    ClassSecret, Decided, Dedupe, EventId, IndexSecret, Leaf, LeafHeader, Rules, SealRequest, SectionSecrets,
    SourceCode, TypeCode, ValidEvent, leaf_key, seal, validate,
};
use idtrail_rights::{
    Basis, Command, Kind, Nonce, certificate_body, certificate_hash, deletion, deletions_hash,
};
use idtrail_tlog::{Checkpoint, Frontier, LogIndex, Policy, SignerKey, TlogProof, leaf_hash};
use idtrail_verify::{
    CERTIFICATE_FORMAT, Certificate, CertificateBody, DisclosedLeaf, Verdict, certificate_file,
    certificate_key_name, sign_certificate, verify,
};
use serde_json::{Value, json};

use crate::world::{HOUR_MS, Run, START_MS, hash, item, plan};

const ORIGIN: &str = "example.com/log";

fn nonce() -> Nonce {
    Nonce::new([4; 32])
}

fn erased(manual: bool) -> Run {
    let mut run = Run::new(Kind::Erasure, plan(Kind::Erasure, manual));
    run.verify();
    run.say("legal", Command::Exempt(item("mail/profile"), Basis::LegalObligation, hash(1))).unwrap();
    run.approve();
    run.until(START_MS + 40 * 24 * HOUR_MS);
    run
}

#[test]
fn deletions_name_nobody_and_are_events_that_the_log_takes() {
    let run = erased(false);
    let make = |name: &str, id: &str| deletion(run.case(), &nonce(), &item(name), id, START_MS);
    let crm = make("crm/contact", "i-4711").unwrap();
    assert_eq!(crm, make("crm/contact", "i-4711").unwrap(), "a repetition makes the same leaf");
    let text = Value::Object(crm.event.clone()).to_string();
    assert!(!text.contains("4711"), "{text}");
    assert_eq!(crm.event["status"], "SUCCESS");
    assert_eq!(crm.event["interactionId"], json!(nonce().interaction("i-4711")));
    assert_eq!(crm.event["resolvedCustomerId"], json!(run.case().received.subject_ref));
    let mail = make("mail/profile", "i-4711").unwrap();
    assert_eq!((&mail.event["status"], &mail.event["taskReason"]), (&json!("PARTIAL"), &json!("17(3)(b)")));
    assert!(make("empty/rows", "i-4711").is_none(), "where there was nothing, nothing was deleted");
    assert!(make("unknown/item", "i-4711").is_none());
    let keys: BTreeSet<_> =
        [crm.append_key, mail.append_key, make("crm/contact", "i-4712").unwrap().append_key].into();
    assert_eq!(keys.len(), 3);
    let listed: Vec<_> = keys.iter().copied().collect();
    let backwards: Vec<_> = keys.iter().rev().copied().collect();
    assert_eq!(deletions_hash(&listed), deletions_hash(&backwards));
    validate(json!({"auditEvent": crm.event}), &Rules::default(), START_MS as i64).unwrap();
}

#[test]
fn nothing_is_written_for_what_is_still_open() {
    let mut run = Run::new(Kind::Erasure, plan(Kind::Erasure, true));
    run.verify();
    assert!(deletion(run.case(), &nonce(), &item("crm/contact"), "i-1", START_MS).is_none());
    run.approve();
    run.until(START_MS + 40 * 24 * HOUR_MS);
    assert!(deletion(run.case(), &nonce(), &item("paper/file"), "i-1", START_MS).is_none());
}

/// Seals the step that holds the body's hash as the only leaf of a log, and makes the certificate.
fn issue(body: &CertificateBody) -> (Vec<u8>, Policy) {
    let signer = SignerKey::from_seed(ORIGIN, &[1; 32]).unwrap();
    let step = json!({
        "eventType": "DSR_RECEIPTED", "requestId": body.request_id, "sequence": 50, "atMs": START_MS,
        "data": {"certificate": certificate_hash(body), "pass": body.pass},
    });
    assert!(idtrail_rights::Entry::from_json(&step).is_ok());
    let event =
        ValidEvent::from_system(TypeCode::new(200), step.as_object().unwrap().clone(), START_MS as i64);
    let secrets = SectionSecrets {
        event: IndexSecret::new([2; 32]),
        staff: IndexSecret::new([3; 32]),
        class: ClassSecret::new([4; 32]),
    };
    let decided = Decided {
        received_ms: START_MS,
        subject: None,
        event_id: EventId::new([5; 16]),
        system: "idtrail",
        actor: None,
        dedupe: Dedupe::CONTENT,
        subject_sequence: 0,
        previous_index: None,
    };
    let encoded = event.encode();
    let request =
        SealRequest { header: LeafHeader::of(&event, SourceCode::API, START_MS), encoded: &encoded, decided };
    let sealed = seal(&request, &secrets, &[[0; 12], [1; 12]], ORIGIN).unwrap();
    let key = leaf_key(&secrets.event, &secrets.class, Leaf::parse(&sealed).unwrap().iv(), ORIGIN);
    let at = 300;
    let mut hashes = vec![leaf_hash(b"other"); at];
    hashes.push(leaf_hash(&sealed));
    let batch = Frontier::empty().append_batch(&hashes);
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: batch.size(), root: batch.root() };
    let index = LogIndex::new(at as u64);
    let proof = TlogProof {
        extra: None,
        index,
        hashes: batch.inclusion_proof(index).unwrap(),
        checkpoint: checkpoint.sign(&signer),
    };
    let mut certificate = Certificate {
        format: CERTIFICATE_FORMAT.to_owned(),
        body: body.clone(),
        leaf: DisclosedLeaf::disclose(&sealed, &key),
        origin: ORIGIN.to_owned(),
        proof: proof.to_text(),
        signature: String::new(),
    };
    sign_certificate(
        &mut certificate,
        &SignerKey::from_seed(&certificate_key_name(ORIGIN), &[1; 32]).unwrap(),
    )
    .unwrap();
    let policy = Policy::parse(&format!("log {}\nquorum none\n", signer.verifier())).unwrap();
    (certificate_file(&certificate), policy)
}

#[test]
fn the_certificate_of_a_whole_erasure_verifies_and_of_a_partial_one_says_so() {
    let run = erased(false);
    let body = certificate_body(run.case(), &nonce(), START_MS).unwrap();
    assert_eq!((body.outcome.as_str(), body.tasks.len(), body.shreds.len()), ("FULFILLED", 5, 1));
    assert!(body.unrecoverable_by.is_some() && body.cutoff.is_some());
    let (file, policy) = issue(&body);
    let report = verify(&file, &policy);
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");

    let partial = erased(true);
    let (file, policy) = issue(&certificate_body(partial.case(), &nonce(), START_MS).unwrap());
    let report = verify(&file, &policy);
    assert_eq!(report.verdict, Verdict::Incomplete, "{report:#?}");
    assert!(report.summary.contains("paper/file, MANUAL_PENDING"), "{}", report.summary);

    let unplanned = Run::new(Kind::Erasure, plan(Kind::Erasure, false));
    assert!(certificate_body(unplanned.case(), &nonce(), START_MS).is_none());
}
