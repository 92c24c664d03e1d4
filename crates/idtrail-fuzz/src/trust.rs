//! What a verifier reads that trusts nobody: notes, proofs, policies, packages, receipts.

use std::sync::OnceLock;

use idtrail_tlog::{BundleId, Checkpoint, Note, Policy, TileId, TlogProof, VerifierKey, bundle};
use idtrail_verify::{Verdict, verify, verify_receipt};
use serde_json::Value;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "note", corpus: notes, check: note, rounds: 20_000 },
    Target { name: "proof_file", corpus: proof_files, check: proof_file, rounds: 10_000 },
    Target { name: "policy", corpus: policies, check: policy, rounds: 20_000 },
    Target { name: "tile_path", corpus: tile_paths, check: tile_path, rounds: 20_000 },
    Target { name: "bundle", corpus: bundles, check: bundle_bytes, rounds: 20_000 },
    Target { name: "package", corpus: packages, check: package, rounds: 3000 },
    Target { name: "receipt", corpus: receipts, check: receipt, rounds: 4000 },
];

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Returns every text at `pointer` within each element of a list.
fn texts(list: &Value, member: &str) -> Vec<Vec<u8>> {
    let cases = list.as_array().unwrap().iter();
    cases.filter_map(|case| case[member].as_str()).map(|text| text.as_bytes().to_vec()).collect()
}

fn notes() -> Vec<Vec<u8>> {
    let notes = read(include_str!("../../../vectors/tlog/notes.json"));
    let checkpoints = read(include_str!("../../../vectors/tlog/checkpoints.json"));
    let mut corpus = texts(&notes["cases"], "note");
    corpus.extend(texts(&checkpoints["cases"], "text"));
    corpus.push(checkpoints["signed"]["note"].as_str().unwrap().as_bytes().to_vec());
    for key in notes["kept_vkeys"].as_array().unwrap() {
        corpus.push(key.as_str().unwrap().as_bytes().to_vec());
    }
    corpus
}

/// A checkpoint or key that is read is written back in the same bytes; a changed signed note never opens.
fn note(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return Note::parse(bytes).is_ok() };
    if let Ok((checkpoint, extensions)) = Checkpoint::parse(text)
        && extensions.is_empty()
    {
        assert_eq!(checkpoint.to_text(), text, "a checkpoint has two forms");
    }
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text, "a key has two forms");
    }
    let signed = &read(include_str!("../../../vectors/tlog/checkpoints.json"))["signed"];
    let key = VerifierKey::parse(signed["vkey"].as_str().unwrap()).unwrap();
    if let Ok(opened) = Checkpoint::open(bytes, [&key]) {
        assert_eq!(opened.size.get(), signed["size"].as_u64().unwrap(), "a changed checkpoint was taken");
        assert_eq!(
            opened.root.to_string(),
            signed["root"].as_str().unwrap(),
            "a changed checkpoint was taken"
        );
    }
    Note::parse(bytes).is_ok()
}

fn proof_files() -> Vec<Vec<u8>> {
    let vectors = read(include_str!("../../../vectors/tlog/proof_files.json"));
    let mut corpus = texts(&vectors["cases"], "text");
    corpus.extend(texts(&vectors["judged"], "text"));
    corpus
}

/// A proof file that is read is written back in the same bytes; one for another leaf never verifies.
fn proof_file(bytes: &[u8]) -> bool {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    let policy = POLICY.get_or_init(|| {
        let vectors = read(include_str!("../../../vectors/tlog/proof_files.json"));
        Policy::parse(vectors["policy"].as_str().unwrap()).unwrap()
    });
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(proof) = TlogProof::parse(text) else { return false };
    assert_eq!(proof.to_text(), text, "a proof file has two forms");
    let nobody = idtrail_tlog::leaf_hash(b"a leaf that no log of the vectors holds");
    assert!(proof.verify(&nobody, policy).is_err(), "a leaf that is in no log was proven");
    true
}

fn policies() -> Vec<Vec<u8>> {
    let vectors = read(include_str!("../../../vectors/tlog/policies.json"));
    let mut corpus = texts(&vectors["cases"], "policy");
    corpus.extend(texts(&vectors["bad"], "policy"));
    corpus
}

/// A policy that is read says the same when it is written and read again.
fn policy(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(policy) = Policy::parse(text) else { return false };
    let written = policy.to_string();
    assert_eq!(Policy::parse(&written).unwrap().to_string(), written, "a policy changes when written");
    true
}

fn tile_paths() -> Vec<Vec<u8>> {
    let vectors = read(include_str!("../../../vectors/tlog/tiles.json"));
    let mut corpus = texts(&vectors["tiles"], "path");
    corpus.extend(texts(&vectors["bundles"], "path"));
    corpus
}

/// A path that is read is written back in the same bytes.
fn tile_path(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let tile = TileId::parse(text);
    let entries = BundleId::parse(text);
    if let Ok(tile) = &tile {
        assert_eq!(tile.path(), text, "a tile has two paths");
    }
    if let Ok(entries) = &entries {
        assert_eq!(entries.path(), text, "a bundle has two paths");
    }
    tile.is_ok() || entries.is_ok()
}

fn bundles() -> Vec<Vec<u8>> {
    let vectors = read(include_str!("../../../vectors/tlog/bundles.json"));
    let hex = texts(&vectors["cases"], "bundle");
    hex.iter().map(|text| data_encoding::HEXLOWER.decode(text).unwrap()).collect()
}

/// A bundle that is read is written back in the same bytes.
fn bundle_bytes(bytes: &[u8]) -> bool {
    let Ok(entries) = bundle::decode(bytes) else { return false };
    assert_eq!(bundle::encode(entries).unwrap(), bytes, "a bundle has two forms");
    true
}

struct Pinned {
    policy: Policy,
    document: Value,
}

fn pinned(text: &str) -> Pinned {
    let vectors = read(text);
    Pinned {
        policy: Policy::parse(vectors["policy"].as_str().unwrap()).unwrap(),
        document: vectors["document"].clone(),
    }
}

fn package_vectors() -> &'static Pinned {
    static ONE: OnceLock<Pinned> = OnceLock::new();
    ONE.get_or_init(|| pinned(include_str!("../../../vectors/verify/packages.json")))
}

fn receipt_vectors() -> &'static Pinned {
    static ONE: OnceLock<Pinned> = OnceLock::new();
    ONE.get_or_init(|| pinned(include_str!("../../../vectors/verify/receipts.json")))
}

fn packages() -> Vec<Vec<u8>> {
    vec![package_vectors().document.to_string().into_bytes()]
}

/// Only the package that was signed is verified: whatever else is accepted says the same, value for value.
fn package(bytes: &[u8]) -> bool {
    let pinned = package_vectors();
    let verified = verify(bytes, &pinned.policy).verdict == Verdict::Verified;
    if verified {
        let value: Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(value, pinned.document, "a changed package was verified");
    }
    verified
}

fn receipts() -> Vec<Vec<u8>> {
    vec![receipt_vectors().document.to_string().into_bytes()]
}

/// A receipt that is verified names the leaf, place and time that the log proved.
fn receipt(bytes: &[u8]) -> bool {
    let pinned = receipt_vectors();
    let verified = verify_receipt(bytes, None, &pinned.policy).verdict == Verdict::Verified;
    if verified {
        let value: Value = serde_json::from_slice(bytes).unwrap();
        for member in ["index", "leafHash", "origin"] {
            assert_eq!(value[member], pinned.document[member], "a changed receipt was verified: {member}");
        }
    }
    verified
}
