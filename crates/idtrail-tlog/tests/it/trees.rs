//! Hashes and roots.

use idtrail_tlog::{
    DecimalError, Frontier, Hash, LogIndex, TreeSize, empty_root, leaf_hash, node_hash, root_from_tiles,
};

use crate::support::{
    MemoryTiles, Naive, bytes, decimal_leaves, hash, hashes, list, number, root_of, texts, vectors,
};

#[test]
fn published_roots() {
    let vectors = vectors!("tree");
    let small = &vectors["small"];
    let leaves: Vec<Hash> = texts(small, "entries").iter().map(|entry| leaf_hash(&bytes(entry))).collect();
    let mut frontier = Frontier::empty();
    for (size, root) in hashes(small, "roots").into_iter().enumerate() {
        assert_eq!(frontier.root(), root, "size {size}");
        assert_eq!(Naive::new(&leaves).root(size), root, "size {size}");
        if let Some(leaf) = leaves.get(size) {
            frontier.append(*leaf);
        }
    }
    assert_eq!(empty_root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn roots_of_larger_trees() {
    let vectors = vectors!("tree");
    let leaves = decimal_leaves(70_000);
    let tiles = MemoryTiles::new(&leaves);
    for case in list(&vectors, "decimal") {
        let (size, root) = (number(case, "size"), hash(case, "root"));
        let some = &leaves[..size as usize];
        assert_eq!(root_of(some), root, "size {size}");
        assert_eq!(Frontier::empty().append_batch(some).root(), root, "size {size}");
        assert_eq!(root_from_tiles(&tiles, TreeSize::new(size)).unwrap(), root, "size {size}");
        tiles.take_read();
    }
}

#[test]
fn hash_texts() {
    let hash = node_hash(&leaf_hash(b"a"), &leaf_hash(b"b"));
    let mut text = String::from("x");
    hash.push_base64(&mut text);
    assert_eq!(text, format!("x{}", hash.to_base64()));
    assert_eq!(Hash::from_base64(&hash.to_base64()), Some(hash));
    assert_eq!(Hash::from_hex(&hash.to_string()), Some(hash));
    assert_eq!(format!("{hash:?}"), format!("{}…", &hash.to_string()[..8]));

    let zero = "A".repeat(43) + "=";
    assert_eq!(Hash::from_base64(&zero), Some(Hash::new([0; 32])));
    let bad = [
        "A".repeat(43),
        "A".repeat(44),
        "A".repeat(42) + "B=",
        "A".repeat(42) + "==",
        "A".repeat(43) + "=A",
        "-".repeat(43) + "=",
        " ".to_owned() + &zero[1..],
        zero.clone() + "\n",
        String::new(),
    ];
    for text in bad {
        assert_eq!(Hash::from_base64(&text), None, "{text:?}");
    }
    for text in
        ["", "00", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64), &"g".repeat(64), &"ä".repeat(32)]
    {
        assert_eq!(Hash::from_hex(text), None, "{text:?}");
    }
}

#[test]
fn numbers() {
    for good in ["0", "1", "10", "18446744073709551615"] {
        assert_eq!(good.parse::<TreeSize>().unwrap().to_string(), good);
        assert_eq!(good.parse::<LogIndex>().unwrap().to_string(), good);
    }
    for bad in ["", "00", "01", "+1", "-1", " 1", "1 ", "1.0", "0x1", "18446744073709551616", "١"] {
        assert_eq!(bad.parse::<TreeSize>(), Err(DecimalError), "{bad:?}");
        assert_eq!(bad.parse::<LogIndex>(), Err(DecimalError), "{bad:?}");
    }
    let size = TreeSize::new(3);
    assert!(size.contains(LogIndex::new(2)) && !size.contains(LogIndex::new(3)));
    assert_eq!(size.checked_add(2), Some(TreeSize::new(5)));
    assert_eq!(TreeSize::new(u64::MAX).checked_add(1), None);
    assert_eq!(LogIndex::new(7).to_usize(), Some(7));
}
