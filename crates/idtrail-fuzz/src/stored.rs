//! What is read back from a disk that may be damaged: leaves, frames, key trees, snapshots of the identity state.

use data_encoding::HEXLOWER;
use idtrail_event::clear::{ClassTableItem, KeyShreddedItem, OriginStartItem, ShredIntentItem};
use idtrail_event::{Leaf, LeafKey};
use idtrail_identity::{Ruleset, State};
use idtrail_log::frame::{self, Frame};
use idtrail_tlog::{Hash, LogIndex};
use idtrail_vault::KeyTree;
use serde_json::Value;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "leaf", corpus: leaves, check: leaf, rounds: 20_000 },
    Target { name: "frame", corpus: frames, check: frame_bytes, rounds: 20_000 },
    Target { name: "key_tree", corpus: key_trees, check: key_tree, rounds: 20_000 },
    Target { name: "identity_snapshot", corpus: snapshots, check: snapshot, rounds: 4000 },
];

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn leaf_vectors() -> Vec<(Vec<u8>, LeafKey)> {
    let vectors: Value = serde_json::from_str(include_str!("../../../vectors/event/leaves.json")).unwrap();
    let cases = vectors.as_array().unwrap().iter();
    cases
        .map(|case| {
            let key: [u8; 32] = hex(&case["expect"]["event_key"]).try_into().unwrap();
            (hex(&case["expect"]["leaf"]), LeafKey::new(key))
        })
        .collect()
}

fn leaves() -> Vec<Vec<u8>> {
    leaf_vectors().into_iter().map(|(leaf, _)| leaf).collect()
}

/// A leaf opens with its key only if not a bit of it was changed; clear items have one form.
fn leaf(bytes: &[u8]) -> bool {
    let Ok(leaf) = Leaf::parse(bytes) else { return false };
    let known = leaf_vectors();
    // Some of the vectors have one key.
    let sealed = known.iter().any(|(original, _)| original == bytes);
    for (_, key) in &known {
        assert!(sealed || leaf.open(key).is_err(), "a changed leaf was opened");
    }
    if let Some(clear) = &leaf.header().clear {
        let same = |encoded: Option<Vec<u8>>| encoded.is_none_or(|encoded| &encoded == clear);
        assert!(same(OriginStartItem::decode(clear).ok().map(|item| item.encode())), "an item has two forms");
        assert!(same(ClassTableItem::decode(clear).ok().map(|item| item.encode())), "an item has two forms");
        assert!(same(ShredIntentItem::decode(clear).ok().map(|item| item.encode())), "an item has two forms");
        assert!(same(KeyShreddedItem::decode(clear).ok().map(|item| item.encode())), "an item has two forms");
    }
    true
}

fn frames() -> Vec<Vec<u8>> {
    let entries: [&[&[u8]]; 3] = [&[b"one"], &[b"", b"two"], &[b"three", &[7; 700], b"four"]];
    let mut corpus = Vec::new();
    for (at, entries) in entries.into_iter().enumerate() {
        corpus.push(written(LogIndex::new(at as u64 * 10), entries));
    }
    corpus
}

fn written(first: LogIndex, entries: &[&[u8]]) -> Vec<u8> {
    frame::encode(first, entries.iter().copied(), Hash::new([9; 32]), [8; 32]).0
}

/// A frame that is read is one that was written: its checksums cover every byte.
fn frame_bytes(bytes: &[u8]) -> bool {
    let _ = frame::find_headers(bytes).count();
    let Some(frame) = Frame::decode(bytes) else { return false };
    let length = frame.header.frame_bytes();
    let known = frames().iter().any(|written| bytes.get(..length) == Some(written));
    assert!(known, "a changed frame was read");
    frame.entries().is_some()
}

fn key_trees() -> Vec<Vec<u8>> {
    let vectors: Value = serde_json::from_str(include_str!("../../../vectors/vault/ggm.json")).unwrap();
    vectors["trees"].as_array().unwrap().iter().map(|case| hex(&case["encoded"])).collect()
}

/// A key tree that is read is written back in the same bytes.
fn key_tree(bytes: &[u8]) -> bool {
    let Ok(tree) = KeyTree::decode(bytes) else { return false };
    let mut written = Vec::with_capacity(tree.encoded_len());
    tree.encode(&mut written);
    assert_eq!(written, bytes, "a key tree has two forms");
    true
}

fn snapshots() -> Vec<Vec<u8>> {
    vec![State::new(Ruleset::default()).unwrap().to_snapshot()]
}

/// A snapshot that is read gives a state that holds together and is written back in the same bytes.
fn snapshot(bytes: &[u8]) -> bool {
    let Ok(state) = State::from_snapshot(bytes) else { return false };
    assert_eq!(state.check(), Ok(()), "a broken state was taken");
    assert_eq!(state.to_snapshot(), bytes, "a snapshot has two forms");
    true
}
