//! Certificates: good, contradictory, altered, and every bit flipped. `IDTRAIL_WRITE_VECTORS=1` writes the vectors anew.

use std::path::PathBuf;

use idtrail_tlog::{Policy, SignerKey};
use idtrail_verify::{
    CERTIFICATE_FORMAT, Certificate, CertificateBody, CertificateResidual, CertificateShred, CertificateTask,
    Verdict, certificate_file, certificate_key_name, sign_certificate, verify,
};
use serde_json::{Value, json};

use crate::rig::{self, ORIGIN, policy, witness_policy};

const LEAF: u64 = 6;

fn task(item: &str, method: &str, status: &str) -> CertificateTask {
    CertificateTask {
        item: item.to_owned(),
        system: item.split('/').next().unwrap().to_owned(),
        method: method.to_owned(),
        status: status.to_owned(),
        reason: None,
        found: 2,
        done: 2,
        verified_at: Some("2026-02-02T10:00:00.000Z".to_owned()),
        evidence: Some("09".repeat(32)),
        residuals: Vec::new(),
    }
}

fn body() -> CertificateBody {
    let mut crm = task("crm/contact", "CONNECTOR", "VERIFIED_ABSENT");
    let until = Some("2026-02-17T10:00:00.000Z".to_owned());
    crm.residuals.push(CertificateResidual { mechanism: "recycle-bin".to_owned(), until });
    let mut ledger = task("ledger/invoices", "CONNECTOR", "EXEMPT");
    (ledger.reason, ledger.verified_at, ledger.done) = (Some("17(3)(b)".to_owned()), None, 0);
    CertificateBody {
        request_id: "dsr_0011".to_owned(),
        kind: "ERASURE".to_owned(),
        regime: "gdpr".to_owned(),
        subject_ref: format!("sr_{}", "03".repeat(16)),
        nonce: "04".repeat(32),
        received_on: "2026-01-31".to_owned(),
        issued_at: "2026-02-02T10:00:02.000Z".to_owned(),
        cutoff: Some("2026-02-01T10:00:00.000Z".to_owned()),
        plan_hash: "05".repeat(32),
        pass: 1,
        outcome: "FULFILLED".to_owned(),
        tasks: vec![crm, task("idtrail/leaves", "OWN_LOG", "VERIFIED_ABSENT"), ledger],
        shreds: vec![CertificateShred {
            index: 5,
            epoch: 8,
            leaves: 2,
            at: "2026-02-02T09:59:00.000Z".to_owned(),
            unrecoverable_by: "2026-03-04T09:59:00.000Z".to_owned(),
        }],
        unrecoverable_by: Some("2026-03-04T09:59:00.000Z".to_owned()),
    }
}

/// Logs a body and makes its certificate, as an honest log would.
fn issue(body: &CertificateBody) -> Certificate {
    let hash: String = body.hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let step = json!({"auditEvent": {
        "eventType": "DSR_RECEIPTED", "requestId": body.request_id, "sequence": 40, "atMs": 1_770_026_402_000_u64,
        "data": {"certificate": hash, "pass": body.pass},
    }});
    let mut entries = vec![rig::foreign(); 8];
    entries[LEAF as usize] = rig::entry(step, 0);
    let log = rig::Log::new(ORIGIN, &entries);
    let mut certificate = Certificate {
        format: CERTIFICATE_FORMAT.to_owned(),
        body: body.clone(),
        leaf: rig::disclosed(&log, LEAF),
        origin: ORIGIN.to_owned(),
        proof: log.receipt(LEAF).proof,
        signature: String::new(),
    };
    sign_certificate(&mut certificate, &rig::certificate_signer(ORIGIN)).unwrap();
    certificate
}

fn resign(certificate: &mut Certificate) {
    sign_certificate(certificate, &rig::certificate_signer(ORIGIN)).unwrap();
}

#[test]
fn what_the_log_signed_is_verified_and_says_what_it_does_not_cover() {
    let bytes = certificate_file(&issue(&body()));
    let report = verify(&bytes, &policy(&[ORIGIN]));
    assert_eq!((report.verdict, report.checked_events), (Verdict::Verified, 1), "{report:#?}");
    let uncovered = report.not_covered.join("\n");
    for text in
        ["ledger/invoices stays: 17(3)(b)", "recycle-bin may keep data until 2026-02-17", "Before 2026-03-04"]
    {
        assert!(uncovered.contains(text), "{uncovered}");
    }
    assert_eq!(verify(&bytes, &policy(&[rig::OLDER])).verdict, Verdict::CouldNotCheck);
    assert_eq!(verify(&bytes, &witness_policy()).verdict, Verdict::Incomplete);
}

/// A body that an honest log would not log: what it contradicts, and what the verifier says.
type Body = (&'static str, fn(&mut CertificateBody), Verdict, &'static str);

const BODIES: &[Body] = &[
    (
        "a task is open",
        |b| {
            open(b);
            b.outcome = "PARTIAL".to_owned();
        },
        Verdict::Incomplete,
        "not done yet: crm/contact",
    ),
    ("an open task called fulfilled", open, Verdict::Tampered, "add up"),
    ("partial with nothing open", |b| b.outcome = "PARTIAL".to_owned(), Verdict::Tampered, "add up"),
    ("no task", |b| b.tasks.clear(), Verdict::Tampered, "add up"),
    (
        "a task twice",
        |b| {
            let again = b.tasks[0].clone();
            b.tasks.push(again);
        },
        Verdict::Tampered,
        "twice",
    ),
    (
        "an unknown status",
        |b| b.tasks[0].status = "SUCCESS".to_owned(),
        Verdict::Tampered,
        "a status that there is not",
    ),
    ("verified without a look", |b| b.tasks[0].verified_at = None, Verdict::Tampered, "nobody looked"),
    ("exempt without a basis", |b| b.tasks[2].reason = None, Verdict::Tampered, "nothing says why"),
    (
        "attested without evidence",
        |b| {
            b.tasks[0].status = "MANUAL_ATTESTED".to_owned();
            b.tasks[0].evidence = None;
        },
        Verdict::Tampered,
        "without evidence",
    ),
    (
        "erased without a shred",
        |b| {
            b.shreds.clear();
            b.unrecoverable_by = None;
        },
        Verdict::Tampered,
        "no key was destroyed",
    ),
    (
        "another date of no return",
        |b| b.unrecoverable_by = Some("2026-02-03T00:00:00.000Z".to_owned()),
        Verdict::Tampered,
        "latest",
    ),
    (
        "unrecoverable too early",
        |b| {
            b.shreds[0].unrecoverable_by = "2026-02-01T00:00:00.000Z".to_owned();
            b.unrecoverable_by = Some("2026-02-01T00:00:00.000Z".to_owned());
        },
        Verdict::Tampered,
        "before their keys",
    ),
    ("a shred behind its report", |b| b.shreds[0].index = LEAF, Verdict::Tampered, "stands behind"),
    ("a number too large", |b| b.tasks[0].found = 1 << 53, Verdict::CouldNotCheck, "larger"),
];

fn open(body: &mut CertificateBody) {
    let task = &mut body.tasks[0];
    (task.status, task.reason, task.verified_at) = ("HELD".to_owned(), Some("h-1".to_owned()), None);
}

/// A change on the way; whether the log's own key signs it again.
type Change = (&'static str, fn(&mut Certificate), bool, Verdict, &'static str);

const CHANGES: &[Change] = &[
    ("a count", |c| c.body.tasks[0].done = 3, false, Verdict::Tampered, "differs from what the log signed"),
    ("a count, signed again", |c| c.body.tasks[0].done = 3, true, Verdict::Tampered, "/data/certificate"),
    (
        "another request, signed again",
        |c| c.body.request_id = "dsr_0012".to_owned(),
        true,
        Verdict::Tampered,
        "/requestId",
    ),
    ("another pass, signed again", |c| c.body.pass = 2, true, Verdict::Tampered, "/data/pass"),
    (
        "another key for the leaf",
        |c| c.leaf.key = issue(&other()).leaf.bytes[..43].to_owned() + "=",
        true,
        Verdict::Tampered,
        "key",
    ),
    ("another leaf", |c| c.leaf = issue(&other()).leaf, true, Verdict::Tampered, "not proved"),
    (
        "the proof of another leaf",
        |c| c.proof = rig::log().receipt(2).proof,
        true,
        Verdict::Tampered,
        "not proved",
    ),
    ("no proof", |c| c.proof.truncate(60), true, Verdict::Tampered, "cannot be read"),
    ("a newer proof", |c| c.proof = c.proof.replace("@v1", "@v2"), true, Verdict::CouldNotCheck, "version"),
    ("no signature", |c| c.signature.clear(), false, Verdict::Tampered, "not a signed note"),
    (
        "a stranger's signature",
        |c| c.signature = strangers(c),
        false,
        Verdict::Tampered,
        "no valid signature",
    ),
    (
        "two signatures",
        |c| c.signature = c.signature.clone() + c.signature.clone().lines().last().unwrap() + "\n",
        false,
        Verdict::Tampered,
        "alone",
    ),
    (
        "a newer format",
        |c| c.format = "idtrail-certificate/2".to_owned(),
        true,
        Verdict::CouldNotCheck,
        "version",
    ),
    ("another log", |c| c.origin = rig::OLDER.to_owned(), false, Verdict::CouldNotCheck, "pinned"),
];

fn other() -> CertificateBody {
    CertificateBody { request_id: "dsr_0013".to_owned(), ..body() }
}

fn strangers(certificate: &Certificate) -> String {
    let mut certificate = certificate.clone();
    let signer = SignerKey::from_seed(&certificate_key_name(ORIGIN), &[1; 32]).unwrap();
    sign_certificate(&mut certificate, &signer).unwrap();
    certificate.signature
}

fn cases() -> Vec<(String, Certificate, Verdict, &'static str)> {
    let good =
        ("as the log signed it".to_owned(), issue(&body()), Verdict::Verified, "has recorded and signed");
    let bodies = BODIES.iter().map(|(name, change, verdict, says)| {
        let mut body = body();
        change(&mut body);
        (format!("the log itself says: {name}"), issue(&body), *verdict, *says)
    });
    let changes = CHANGES.iter().map(|(name, change, again, verdict, says)| {
        let mut certificate = issue(&body());
        change(&mut certificate);
        if *again {
            resign(&mut certificate);
        }
        (format!("on the way: {name}"), certificate, *verdict, *says)
    });
    std::iter::once(good).chain(bodies).chain(changes).collect()
}

#[test]
fn every_contradiction_and_change_is_found() {
    for (name, certificate, verdict, says) in cases() {
        let report = verify(&certificate_file(&certificate), &policy(&[ORIGIN]));
        assert_eq!(report.verdict, verdict, "{name}: {report:#?}");
        let said: String =
            report.steps.iter().map(|step| step.detail.as_str()).collect::<Vec<_>>().join("\n");
        assert!(report.summary.contains(says) || said.contains(says), "{name}: {report:#?}");
    }
}

#[test]
fn every_single_bit_counts() {
    let file = certificate_file(&issue(&body()));
    let policy = policy(&[ORIGIN]);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            assert_ne!(verify(&changed, &policy).verdict, Verdict::Verified, "bit {bit} of byte {at}");
        }
        assert_ne!(verify(&file[..at], &policy).verdict, Verdict::Verified, "cut at {at}");
    }
    let mut longer = file;
    longer.push(b'\n');
    assert_ne!(verify(&longer, &policy).verdict, Verdict::Verified);
}

#[test]
fn the_published_file_is_that_of_the_tables_and_gives_its_verdicts() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/rights/certificates.json");
    let case = |(name, certificate, verdict, _): (String, Certificate, Verdict, &str)| {
        let file = String::from_utf8(certificate_file(&certificate)).unwrap();
        json!({"name": name, "file": file, "verdict": verdict, "exitCode": verdict.exit_code()})
    };
    let made = json!({
        "what": "Certificates: the bytes of `file`, and what a verifier that pins `policy` says.",
        "policy": policy(&[ORIGIN]).to_string(), "cases": cases().into_iter().map(case).collect::<Vec<Value>>(),
    });
    if std::env::var_os("IDTRAIL_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let published: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(published, made);
    let policy = Policy::parse(published["policy"].as_str().unwrap()).unwrap();
    for case in published["cases"].as_array().unwrap() {
        let report = verify(case["file"].as_str().unwrap().as_bytes(), &policy);
        assert_eq!(json!(report.verdict), case["verdict"], "{}", case["name"]);
    }
}
