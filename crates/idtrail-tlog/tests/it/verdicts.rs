//! Policies and proof files: what is accepted, and which kind of refusal everything else gets.

use idtrail_tlog::{
    ErrorKind, Hash, LogIndex, Policy, Refusal, SignerKey, TlogProof, TlogProofError, Verdict,
    VerifiedCheckpoint,
};
use serde_json::{Value, json};

use crate::support::{bytes, decimal_leaves, hash, hashes, list, number, text, vectors};

fn outcome(result: &Result<VerifiedCheckpoint, Refusal>) -> Value {
    match result {
        Ok(verified) => {
            assert_eq!(verified.log_key.name(), verified.checkpoint.origin);
            let witnessed = verified.witnessed_by.iter();
            let witnessed: Vec<Value> =
                witnessed.map(|seen| json!({"witness": seen.witness, "time": seen.time_s})).collect();
            json!({"ok": true, "witnessed_by": witnessed})
        }
        Err(refusal) => {
            let (verdict, kind) = match refusal.verdict() {
                Verdict::Tampered => ("tampered", ErrorKind::Damaged),
                Verdict::Unchecked => ("unchecked", ErrorKind::NotFound),
                Verdict::QuorumNotMet => ("quorum_not_met", ErrorKind::Denied),
                Verdict::Malformed => ("malformed", ErrorKind::Invalid),
            };
            assert_eq!(refusal.kind(), kind);
            json!(verdict)
        }
    }
}

#[test]
fn policies() {
    let vectors = vectors!("policies");
    for case in list(&vectors, "cases") {
        let name = text(case, "name");
        let policy = Policy::parse(text(case, "policy")).expect(name);
        let result = policy.open_checkpoint(text(case, "note").as_bytes());
        assert_eq!(outcome(&result), case["outcome"], "{name}: {result:?}");
        // What is written means the same.
        let written = policy.to_string();
        assert_eq!(Policy::parse(&written).expect(&written), policy, "{name}");
    }
    for case in list(&vectors, "bad") {
        let error = Policy::parse(text(case, "policy")).expect_err(text(case, "name"));
        assert_eq!(error.line as u64, number(case, "line"), "{}: {error}", text(case, "name"));
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn policies_made_by_a_program() {
    let key = |name: &str, seed| SignerKey::from_seed(name, &[seed; 32]).unwrap().verifier();
    let mut policy = Policy::log_only(key("log.example/a", 1));
    assert!(!policy.asks_for_witnesses() && policy.witnesses().is_empty());
    assert_eq!(policy.to_string(), format!("log {}\nquorum none\n", key("log.example/a", 1)));
    policy.add_log(key("log.example/b", 2), Some("https://log.example/b".to_owned())).unwrap();
    assert!(policy.add_log(key("log.example/c", 1), None).is_err(), "same public key");
    let read = Policy::parse(&policy.to_string()).unwrap();
    assert_eq!(read, policy);
    assert_eq!(read.logs()[1].url.as_deref(), Some("https://log.example/b"));
}

#[test]
fn large_policies_are_read_and_limited() {
    let witness = |seed: u16| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        let key = idtrail_tlog::CosignerKey::from_seed(&format!("w{seed}"), &bytes).unwrap();
        format!("witness w{seed} {}\n", key.verifier())
    };
    let many: String = (0..1_024).map(witness).collect();
    // A chain as long as it may be, which a recursive evaluation could not survive if it were not limited.
    let chain: String =
        (0..1_024)
            .map(|at| {
                if at == 0 {
                    "group g0 any w0\n".to_owned()
                } else {
                    format!("group g{at} all g{}\n", at - 1)
                }
            })
            .collect();
    let policy = Policy::parse(&format!("{many}{chain}quorum g1023\n")).unwrap();
    assert_eq!(policy.witnesses().len(), 1_024);
    assert_eq!(Policy::parse(&policy.to_string()).unwrap(), policy);
    let error = Policy::parse(&format!("{many}{}quorum none\n", witness(1_024))).unwrap_err();
    assert_eq!((error.line, error.what), (1_025, "there are too many witnesses"));
    let error = Policy::parse(&format!("{many}{chain}group x any w1\nquorum none\n")).unwrap_err();
    assert_eq!((error.line, error.what), (2_049, "there are too many groups"));
}

#[test]
fn proof_files() {
    let vectors = vectors!("proof_files");
    for case in list(&vectors, "cases") {
        let proof = TlogProof {
            extra: case["extra"].as_str().map(bytes),
            index: LogIndex::new(number(case, "index")),
            hashes: hashes(case, "hashes"),
            checkpoint: text(case, "checkpoint").to_owned(),
        };
        let file = text(case, "text");
        assert_eq!(proof.to_text(), file);
        assert_eq!(proof.to_string(), file);
        assert_eq!(TlogProof::parse(file).as_ref(), Ok(&proof), "{}", text(case, "name"));
        let mut appended = String::from("-");
        let extra = proof.extra.as_deref();
        TlogProof::write_text(&mut appended, extra, proof.index, &proof.hashes, &proof.checkpoint);
        assert_eq!(appended, format!("-{file}"));
    }
    for case in list(&vectors, "bad") {
        let (error, name) = (TlogProof::parse(text(case, "text")).unwrap_err(), text(case, "name"));
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let unknown_version = error == TlogProofError::Version;
        assert_eq!(unknown_version, text(case, "error") == "version", "{name}: {error}");
        let verdict = Refusal::from(error).verdict();
        assert_eq!(verdict == Verdict::Unchecked, unknown_version, "{name}");
    }
    assert!(TlogProof::parse(&"x".repeat(2_000_001)).is_err());
}

#[test]
fn proof_files_are_judged() {
    let vectors = vectors!("proof_files");
    let policy = Policy::parse(text(&vectors, "policy")).unwrap();
    for case in list(&vectors, "judged") {
        let proof = TlogProof::parse(text(case, "text")).unwrap();
        let result = proof.verify(&hash(case, "leaf"), &policy);
        let expected = if case["outcome"] == "ok" {
            json!({"ok": true, "witnessed_by": []})
        } else {
            case["outcome"].clone()
        };
        assert_eq!(outcome(&result), expected, "{}", text(case, "name"));
    }
}

/// Any bit of a proof file that is not extra data changes the outcome.
#[test]
fn every_bit_of_a_proof_file_matters() {
    let vectors = vectors!("proof_files");
    let policy = Policy::parse(text(&vectors, "policy")).unwrap();
    let file = text(&list(&vectors, "judged")[0], "text");
    let leaf: Hash = decimal_leaves(65_537)[65_536];
    let mut bytes = file.as_bytes().to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let proof = std::str::from_utf8(&bytes).ok().map(TlogProof::parse);
        if let Some(Ok(proof)) = proof {
            assert!(proof.verify(&leaf, &policy).is_err(), "bit {bit}");
            assert_eq!(proof.to_text().as_bytes(), bytes, "one text for one proof, bit {bit}");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
