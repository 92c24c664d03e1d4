//! Keys, notes, checkpoints and cosignatures.

use idtrail_tlog::note::{self, Note, NoteError};
use idtrail_tlog::{
    Checkpoint, CosignerKey, ErrorKind, Refusal, Signer, SignerKey, TreeSize, Verdict, VerifierKey,
    verify_cosignature,
};
use serde_json::Value;

use crate::support::{hash, list, number, seed, text, texts, vectors};

#[test]
fn keys() {
    let vectors = vectors!("notes");
    for case in list(&vectors, "keys") {
        let key = SignerKey::from_seed(text(case, "name"), &seed(case, "seed")).unwrap();
        assert_eq!(key.verifier().to_string(), text(case, "vkey"));
        assert_eq!(*key.to_private_text(), text(case, "private"));
        let parsed = SignerKey::parse(text(case, "private")).unwrap();
        assert_eq!((parsed.verifier(), parsed.key_id()), (key.verifier(), key.verifier().key_id()));
    }
    let pair = &vectors["published_pair"];
    let key = SignerKey::parse(text(pair, "private")).unwrap();
    assert_eq!(key.verifier(), VerifierKey::parse(text(pair, "vkey")).unwrap());
    assert_eq!(*key.to_private_text(), text(pair, "private"));

    for vkey in texts(&vectors, "kept_vkeys") {
        let key = VerifierKey::parse(vkey).unwrap();
        assert_eq!(key.to_string(), vkey);
        assert_eq!(key.is_supported(), !vkey.starts_with("pq."), "{vkey}");
    }
    for vkey in texts(&vectors, "bad_vkeys") {
        let error = VerifierKey::parse(vkey).expect_err(vkey);
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    for private in texts(&vectors, "bad_private") {
        SignerKey::parse(private).expect_err(private);
    }
    for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b", "a\u{0}"] {
        assert!(SignerKey::from_seed(name, &[1; 32]).is_err(), "{name:?}");
        assert!(CosignerKey::from_seed(name, &[1; 32]).is_err(), "{name:?}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let key = SignerKey::from_seed("log.example/a", &[0xab; 32]).unwrap();
    assert_eq!(format!("{key:?}"), r#"SignerKey { name: "log.example/a", .. }"#);
    let key = CosignerKey::from_seed("w.example/a", &[0xab; 32]).unwrap();
    assert_eq!(format!("{key:?}"), r#"CosignerKey { name: "w.example/a", .. }"#);
    let error = SignerKey::parse("PRIVATE+KEY+a+00000000+q6urq6urq6s=").unwrap_err();
    assert!(!error.to_string().contains("q6u"), "{error}");
}

#[test]
fn signing() {
    let vectors = vectors!("notes");
    let cases = list(&vectors, "signed");
    let keys: Vec<SignerKey> =
        cases.iter().map(|case| SignerKey::parse(text(case, "private")).unwrap()).collect();
    for (case, key) in cases.iter().zip(&keys) {
        assert_eq!(note::sign(text(case, "text"), &[key]).unwrap(), text(case, "note"));
    }
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
    let both = note::sign("x\n", &signers).unwrap();
    let verifiers: Vec<VerifierKey> = keys.iter().map(SignerKey::verifier).collect();
    let opened = Note::parse(both.as_bytes()).unwrap();
    assert_eq!(opened.open(&verifiers).unwrap().len(), 2);
    for text in ["", "x", "x\r\n", "x\ty\n"] {
        assert!(matches!(note::sign(text, &signers), Err(NoteError::Malformed(_))), "{text:?}");
    }
}

#[test]
fn a_signer_with_a_bad_name_is_refused() {
    struct Odd;
    impl Signer for Odd {
        fn name(&self) -> &str {
            "a\n\n"
        }
        fn key_id(&self) -> [u8; 4] {
            [0; 4]
        }
        fn sign(&self, _: &[u8]) -> [u8; 64] {
            [0; 64]
        }
    }
    assert!(note::sign("x\n", &[&Odd]).is_err());
}

fn open(case: &Value) -> Result<Vec<String>, NoteError> {
    let keys: Vec<VerifierKey> =
        texts(case, "vkeys").into_iter().map(|vkey| VerifierKey::parse(vkey).unwrap()).collect();
    let note = Note::parse(text(case, "note").as_bytes())?;
    Ok(note.open(&keys)?.iter().map(|signature| signature.key.name().to_owned()).collect())
}

#[test]
fn opening() {
    let vectors = vectors!("notes");
    for case in list(&vectors, "cases") {
        let (outcome, name) = (open(case), text(case, "name"));
        let Some(refused) = case["opened"].as_str() else {
            assert_eq!(outcome.expect(name), texts(case, "opened"), "{name}");
            continue;
        };
        let (expected, kind) = match outcome.expect_err(name) {
            NoteError::Malformed(_) => ("malformed", ErrorKind::Invalid),
            NoteError::BadSignature { .. } => ("bad_signature", ErrorKind::Damaged),
            NoteError::UnsupportedKey { .. } => ("unsupported_key", ErrorKind::NotFound),
            NoteError::Unsigned => ("unsigned", ErrorKind::NotFound),
        };
        assert_eq!(expected, refused, "{name}");
        assert_eq!(open(case).unwrap_err().kind(), kind);
    }
    assert!(Note::parse(b"x\n\n\xff\n").is_err(), "not UTF-8");
    assert!(Note::parse(&vec![b'\n'; note::NOTE_BYTES_MAX + 1]).is_err(), "too long");
    assert!(Note::parse(&vec![b'\n'; note::NOTE_BYTES_MAX]).is_err(), "only line feeds");
}

/// No bit of a note is free: with any of them changed it is refused, for one reason or another.
#[test]
fn every_bit_of_a_signed_checkpoint_matters() {
    let vectors = vectors!("checkpoints");
    let signed = &vectors["signed"];
    let key = VerifierKey::parse(text(signed, "vkey")).unwrap();
    let mut note = text(signed, "note").as_bytes().to_vec();
    Checkpoint::open(&note, [&key]).unwrap();
    let mut seen = [0; 4];
    for bit in 0..note.len() * 8 {
        note[bit / 8] ^= 1 << (bit % 8);
        let refusal = Checkpoint::open(&note, [&key]).expect_err("no bit is free");
        seen[refusal.verdict() as usize] += 1;
        note[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(seen[Verdict::Tampered as usize] > 0 && seen[Verdict::Unchecked as usize] > 0, "{seen:?}");
}

#[test]
fn checkpoints() {
    let vectors = vectors!("checkpoints");
    for case in list(&vectors, "cases") {
        let size = text(case, "size").parse().unwrap();
        let checkpoint =
            Checkpoint { origin: text(case, "origin").to_owned(), size, root: hash(case, "root") };
        assert_eq!(checkpoint.to_text(), text(case, "text"));
        assert_eq!(Checkpoint::parse(text(case, "text")), Ok((checkpoint, vec![])));
    }
    let (_, extensions) = Checkpoint::parse(text(&vectors["extended"], "text")).unwrap();
    assert_eq!(extensions, texts(&vectors["extended"], "extensions"));
    for bad in texts(&vectors, "bad") {
        let error = Checkpoint::parse(bad).expect_err(bad);
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    let signed = &vectors["signed"];
    let key = VerifierKey::parse(text(signed, "vkey")).unwrap();
    let signer = SignerKey::from_seed(key.name(), &seed(signed, "seed")).unwrap();
    let (size, root) = (TreeSize::new(number(signed, "size")), hash(signed, "root"));
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root };
    assert_eq!(checkpoint.sign(&signer), text(signed, "note"));
    assert_eq!(Checkpoint::open(text(signed, "note").as_bytes(), [&key]), Ok(checkpoint));
    let none = Checkpoint::open(text(signed, "note").as_bytes(), []);
    assert_eq!(none, Err(Refusal::UnknownOrigin { origin: key.name().to_owned() }));
}

#[test]
#[should_panic(expected = "under its own name")]
fn a_checkpoint_is_not_signed_under_another_name() {
    let signer = SignerKey::from_seed("log.example/a", &[1; 32]).unwrap();
    let root = idtrail_tlog::empty_root();
    Checkpoint { origin: "log.example/a\n1".to_owned(), size: TreeSize::new(0), root }.sign(&signer);
}

#[test]
fn cosignatures() {
    let vectors = vectors!("cosignatures");
    let (checkpoint, vkey) = (text(&vectors, "text"), text(&vectors, "vkey"));
    let key = VerifierKey::parse(vkey).unwrap();
    let cosigner = CosignerKey::from_seed(key.name(), &seed(&vectors, "seed")).unwrap();
    assert_eq!(cosigner.verifier(), &key);
    assert_eq!(cosigner.cosign(checkpoint, number(&vectors, "time")), text(&vectors, "line"));

    let check = |line: &str| {
        let note = Note::parse(format!("{checkpoint}\n{line}").as_bytes()).unwrap();
        let time = verify_cosignature(&key, &note.text, &note.signatures[0]);
        let opened = note.open([&key]).map(|valid| valid[0].time_s.unwrap());
        assert_eq!(time, opened);
        time
    };
    assert_eq!(check(text(&vectors, "line")), Ok(number(&vectors, "time")));
    for case in list(&vectors, "bad") {
        let refused = check(text(case, "line"));
        let expected = NoteError::BadSignature { key: key.name().to_owned() };
        assert_eq!(refused, Err(expected), "{}", text(case, "name"));
    }
    let log_key = SignerKey::from_seed("log.example/a", &[1; 32]).unwrap().verifier();
    let note = Note::parse(format!("{checkpoint}\n{}", text(&vectors, "line")).as_bytes()).unwrap();
    let refused = verify_cosignature(&log_key, &note.text, &note.signatures[0]);
    assert!(matches!(refused, Err(NoteError::UnsupportedKey { signature_type: 1, .. })));
}
