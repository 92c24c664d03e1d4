//! Names of tiles and bundles, which ones a tree has, and the bodies of bundles.

use idtrail_tlog::bundle::{self, BundleError};
use idtrail_tlog::{BundleId, ErrorKind, TileId, TreeSize, bundles, root_from_tiles, tiles};

use crate::support::{MemoryTiles, Naive, bytes, decimal_leaves, list, number, text, texts, vectors};

#[test]
fn paths() {
    let vectors = vectors!("tiles");
    for case in list(&vectors, "tiles") {
        let (level, width) = (number(case, "level") as u8, number(case, "width") as u16);
        let id = TileId::new(level, text(case, "index").parse().unwrap(), width).unwrap();
        assert_eq!(id.path(), text(case, "path"));
        assert_eq!(TileId::parse(&id.path()), Ok(id));
        assert_eq!(id.full(), TileId::new(level, id.index(), 256).unwrap());
        assert_eq!((id.level(), id.width(), id.first()), (level, width, 256 * id.index()));
    }
    for case in list(&vectors, "bundles") {
        let width = number(case, "width") as u16;
        let id = BundleId::new(text(case, "index").parse().unwrap(), width).unwrap();
        assert_eq!(id.path(), text(case, "path"));
        assert_eq!(BundleId::parse(&id.path()), Ok(id));
        assert!(TileId::parse(&id.path()).is_err(), "a bundle is no tile");
        assert_eq!(id.full(), BundleId::new(id.index(), 256).unwrap());
        assert_eq!((id.width(), id.first()), (width, 256 * id.index()));
    }
    for path in texts(&vectors, "bad_paths") {
        assert!(TileId::parse(path).is_err(), "{path}");
        let error = BundleId::parse(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{path}");
    }
    assert_eq!(TileId::new(64, 0, 1), None);
    assert_eq!(TileId::new(0, 0, 0), None);
    assert_eq!(TileId::new(0, 0, 257), None);
    assert_eq!(TileId::new(0, 1 << 56, 1), None);
    assert_eq!(BundleId::new(1 << 56, 1), None);
}

#[test]
fn tiles_of_some_sizes() {
    let vectors = vectors!("tiles");
    for case in list(&vectors, "sizes") {
        let size: TreeSize = text(case, "size").parse().unwrap();
        // The largest sizes have more tiles than can be listed; their first and last levels are enough.
        let mut found = tiles(size);
        let levels = list(case, "levels");
        if size.get() > 1 << 30 {
            assert_eq!(levels.len(), 8);
            continue;
        }
        for level in levels {
            let full: u64 = text(level, "full").parse().unwrap();
            let number = number(level, "level") as u8;
            let partial = level["partial_width"].as_u64().unwrap() as u16;
            for index in 0..full {
                assert_eq!(found.next(), TileId::new(number, index, 256));
            }
            if partial > 0 {
                assert_eq!(found.next(), TileId::new(number, full, partial));
            }
        }
        assert_eq!(found.next(), None, "{size}");
    }
}

/// Grows a tree leaf by leaf: a level gets a hash when 256 of the level below are complete.
#[test]
fn every_size_up_to_70_000_has_exactly_its_tiles() {
    let mut counts: Vec<u64> = Vec::new();
    let mut full: Vec<Vec<TileId>> = Vec::new();
    let mut full_bundles: Vec<BundleId> = Vec::new();
    assert_eq!(tiles(TreeSize::new(0)).next(), None);
    assert_eq!(bundles(TreeSize::new(0)).next(), None);
    for size in 1..=70_000_u64 {
        let mut level = 0;
        loop {
            if counts.len() == level {
                counts.push(0);
                full.push(Vec::new());
            }
            counts[level] += 1;
            if !counts[level].is_multiple_of(256) {
                break;
            }
            full[level].push(TileId::new(level as u8, counts[level] / 256 - 1, 256).unwrap());
            if level == 0 {
                full_bundles.push(BundleId::new(counts[0] / 256 - 1, 256).unwrap());
            }
            level += 1;
        }
        let mut found = tiles(TreeSize::new(size));
        for (level, count) in counts.iter().enumerate() {
            for expected in &full[level] {
                assert_eq!(found.next().as_ref(), Some(expected), "size {size}");
            }
            let partial = TileId::new(level as u8, count / 256, (count % 256) as u16);
            if let Some(partial) = partial {
                assert_eq!(found.next(), Some(partial), "size {size}");
            }
        }
        assert_eq!(found.next(), None, "size {size}");
        let partial = BundleId::new(size / 256, (size % 256) as u16);
        assert!(bundles(TreeSize::new(size)).eq(full_bundles.iter().copied().chain(partial)), "size {size}");
    }
    assert_eq!(counts, [70_000, 273, 1]);
}

#[test]
fn roots_come_from_tiles() {
    let leaves = decimal_leaves(70_000);
    let (naive, source) = (Naive::new(&leaves), MemoryTiles::new(&leaves));
    let edges = 65_530..65_545;
    for size in (0..1_100).chain((1_100..70_000).step_by(997)).chain(edges) {
        let root = root_from_tiles(&source, TreeSize::new(size)).unwrap();
        source.take_read();
        assert_eq!(root, naive.root(size as usize), "{size}");
    }
}

#[test]
fn bodies_of_bundles() {
    let vectors = vectors!("bundles");
    for case in list(&vectors, "cases") {
        let entries: Vec<Vec<u8>> = texts(case, "entries").into_iter().map(bytes).collect();
        let body = bytes(text(case, "bundle"));
        assert_eq!(bundle::encode(entries.iter().map(Vec::as_slice)).unwrap(), body);
        assert_eq!(bundle::decode(&body).unwrap(), entries);
    }
    for body in texts(&vectors, "bad") {
        let error = bundle::decode(&bytes(body)).unwrap_err();
        assert!(
            matches!(error, BundleError::Truncated { .. }) && error.kind() == ErrorKind::Damaged,
            "{body}"
        );
    }
    let longest = vec![7; 65_535];
    let body = bundle::encode([longest.as_slice()]).unwrap();
    assert_eq!(bundle::decode(&body).unwrap(), [longest.as_slice()]);
    let error = bundle::encode([vec![7; 65_536].as_slice()]).unwrap_err();
    assert_eq!(error, BundleError::TooLong { bytes: 65_536 });
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(bundle::decode(&[0, 0, 0]), Err(BundleError::Truncated { offset: 2 }));
}
