//! The tree against a naive map of all keys, and the limits that the vault promises.
#![allow(clippy::single_range_in_vec_init, reason = "a set of one range is a set of ranges")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

const DEPTH: u8 = 9;

fn root() -> Secret32 {
    Secret32::new(std::array::from_fn(|at| at as u8))
}

fn small(depth: u8) -> KeyTree {
    KeyTree::with_depth(TreeKind::Index, depth, &root())
}

fn encode(tree: &KeyTree) -> Vec<u8> {
    let mut bytes = Vec::new();
    tree.encode(&mut bytes);
    assert_eq!(bytes.len(), tree.encoded_len());
    bytes
}

/// All keys of a small tree, by the definition.
fn all_keys(depth: u8) -> Vec<Seed> {
    let mut level = vec![*root().expose()];
    let mut expander = Expander::new(TreeKind::Index);
    for _ in 0..depth {
        let mut next = Vec::new();
        for seed in &level {
            for bit in 0..2 {
                let mut child = [0; 32];
                expander.go_to(seed);
                expander.descend(bit);
                expander.copy_to(&mut child);
                next.push(child);
            }
        }
        level = next;
    }
    level
}

/// Checks a tree against the keys that must be left: by random access, by cursor, and through its encoding.
fn check(tree: &KeyTree, alive: &BTreeMap<u64, Seed>) {
    let encoded = encode(tree);
    let decoded = KeyTree::decode(&encoded).unwrap();
    assert_eq!(encode(&decoded), encoded);
    let (mut cursor, mut backwards) = (tree.cursor(), tree.cursor());
    for leaf in 0..tree.leaves() + 2 {
        let expected = alive.get(&leaf).map(|seed| Secret32::new(*seed));
        assert_eq!(tree.derive(leaf), expected, "leaf {leaf}");
        assert_eq!(decoded.derive(leaf), expected, "leaf {leaf}");
        assert_eq!(cursor.derive(leaf), expected, "leaf {leaf}");
        assert_eq!(tree.is_punctured(leaf), expected.is_none());
        let mirrored = tree.leaves() + 1 - leaf;
        assert_eq!(backwards.derive(mirrored).as_ref().map(Secret32::expose), alive.get(&mirrored));
    }
}

fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
    let end = 1_u64 << DEPTH;
    let single = (0..end).prop_map(|leaf| leaf..leaf + 1);
    let wide = (0..=end, 0..=end).prop_map(|(start, end)| start..end);
    prop::collection::vec(prop_oneof![8 => single, 1 => wide], 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exactly_the_punctured_keys_are_gone(steps in prop::collection::vec(ranges(), 1..4)) {
        let mut tree = small(DEPTH);
        let mut alive: BTreeMap<u64, Seed> = (0..).zip(all_keys(DEPTH)).collect();
        for ranges in &steps {
            tree.puncture(ranges).unwrap();
            alive.retain(|leaf, _| !ranges.iter().any(|range| range.contains(leaf)));
            check(&tree, &alive);
        }
        // The form depends on what is gone and not on how it went.
        let mut at_once = small(DEPTH);
        at_once.puncture(&steps.concat()).unwrap();
        prop_assert_eq!(encode(&at_once), encode(&tree));
        prop_assert!(tree.node_count() <= alive.len());
    }

    #[test]
    fn decoding_accepts_only_what_encoding_gives(
        ranges in ranges(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut tree = small(DEPTH);
        tree.puncture(&ranges).unwrap();
        let mut bytes = encode(&tree);
        prop_assert!(KeyTree::decode(&bytes[..cut.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(tree) = KeyTree::decode(&bytes) {
            prop_assert_eq!(encode(&tree), bytes);
        }
    }

    #[test]
    fn decoding_never_panics(mut bytes in prop::collection::vec(prop_oneof![0x80_u8..0x8a, 0..10_u8, any::<u8>()], 0..200)) {
        for start in [&[][..], b"I\x03", b"P\x18", b"I\x29", b"I\x30", b"I\x00"] {
            bytes.splice(0..0, start.iter().copied());
            if let Ok(tree) = KeyTree::decode(&bytes) {
                prop_assert_eq!(&encode(&tree), &bytes);
            }
        }
    }
}

#[test]
fn malformed_encodings_are_refused_by_reason() {
    let seed = [7; 32];
    let node = |depth: u8| [&[depth][..], &seed].concat();
    let cases: [(&[&[u8]], &str); 11] = [
        (&[], "it is too short"),
        (&[b"X\x02", &node(0)], "unknown tree"),
        (&[b"I\x31", &node(0)], "the tree is too deep"),
        (&[b"I\x02"], "leaves are missing at the end"),
        (&[b"I\x02", &node(1)], "leaves are missing at the end"),
        (&[b"I\x02", &node(3)], "an item does not fit its place"),
        (&[b"I\x02", &node(2), &node(1)], "an item does not fit its place"),
        (&[b"I\x02", &node(0), &[0x80]], "an item does not fit its place"),
        (&[b"I\x02", &[0x81], &node(1)[..32]], "a seed is cut off"),
        (&[b"I\x02", &node(1), &node(1)], "two siblings should be one item"),
        (&[b"I\x02", &node(1), &[0x82, 0x82]], "two siblings should be one item"),
    ];
    for (parts, expected) in cases {
        match KeyTree::decode(&parts.concat()) {
            Err(TreeError::Malformed { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn both_sections_of_an_index_are_one_hole() {
    let mut tree = small(41);
    let index = 12_345_678_u64;
    tree.puncture(&[index << 1..(index << 1) + 2]).unwrap();
    assert_eq!(tree.node_count(), 40, "one sibling for each level down to 40");
    assert_eq!(tree.encoded_len(), 2 + 40 * 33 + 1);
    // The same one section at a time.
    let mut by_section = small(41);
    by_section.puncture(&[index << 1..(index << 1) + 1]).unwrap();
    assert_eq!(by_section.node_count(), 41);
    by_section.puncture(&[(index << 1) + 1..(index << 1) + 2]).unwrap();
    assert_eq!(encode(&by_section), encode(&tree));
}

#[test]
fn the_edges_of_the_range_are_checked() {
    let mut tree = small(3);
    let before = encode(&tree);
    for range in [8..9, 0..9, u64::MAX - 1..u64::MAX] {
        let error = tree.puncture(&[0..1, range]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    tree.puncture(&[]).unwrap();
    tree.puncture(&[5..5]).unwrap();
    assert_eq!(encode(&tree), before, "nothing was destroyed");
    tree.puncture(&[0..8]).unwrap();
    assert_eq!(tree.node_count(), 0);
    assert_eq!(encode(&tree), b"I\x03\x80");
    assert!((0..8).all(|leaf| tree.derive(leaf).is_none()));
    tree.puncture(&[3..4]).unwrap();
    assert_eq!(tree.node_count(), 0);
}

#[test]
fn the_deepest_and_the_flattest_tree_work() {
    let mut deepest = small(DEPTH_MAX);
    let last = deepest.leaves() - 1;
    let key = deepest.derive(last).unwrap();
    deepest.puncture(&[0..1, last - 1..last]).unwrap();
    assert_eq!(deepest.derive(last), Some(key));
    assert_eq!(deepest.derive(last - 1), None);
    assert_eq!(KeyTree::decode(&encode(&deepest)).unwrap().node_count(), deepest.node_count());
    let flattest = small(0);
    assert_eq!(flattest.derive(0), Some(root()));
    assert_eq!(flattest.cursor().derive(0), Some(root()));
    assert_eq!(flattest.derive(1), None);
}

/// The contract with operators: 220 bytes of vault for each leaf when 1 % of all, scattered, are erased.
#[test]
fn two_hundred_thousand_scattered_erasures_among_twenty_million_stay_below_48_mb() {
    let mut state = 1_u64;
    let mut random = || {
        // SplitMix64; the test needs spread and not secrecy.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 20
    };
    let mut indices = std::collections::BTreeSet::new();
    while indices.len() < 200_000 {
        indices.insert(random() % 20_000_000);
    }
    let mut tree = small(41);
    let probe = 19_999_999;
    let key = tree.derive(probe << 1);
    tree.puncture(&indices.iter().map(|index| index << 1..(index << 1) + 2).collect::<Vec<_>>()).unwrap();
    let bytes = encode(&tree);
    println!("{} nodes, {} bytes", tree.node_count(), bytes.len());
    assert!(bytes.len() < 48_000_000, "{}", bytes.len());
    let decoded = KeyTree::decode(&bytes).unwrap();
    assert_eq!(decoded.node_count(), tree.node_count());
    for tree in [&tree, &decoded] {
        assert!(
            indices.iter().all(|index| tree.is_punctured(index << 1) && tree.is_punctured(index << 1 | 1))
        );
        let alive = (0..20_000_000).step_by(1_001).filter(|index| !indices.contains(index));
        assert!(alive.into_iter().all(|index| !tree.is_punctured(index << 1)));
        assert_eq!(tree.derive(probe << 1), key.clone().filter(|_| !indices.contains(&probe)));
    }
}
