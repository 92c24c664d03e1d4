//! Appending batches: what a batch knows equals what the tiles of the new tree say.

use idtrail_tlog::{Frontier, Hash, LogIndex, TreeSize, prove_inclusion, verify_inclusion};
use proptest::prelude::*;

use crate::support::{MemoryTiles, Naive, decimal_leaves};

/// Appends batches of the given sizes and compares everything after each of them.
fn check(start: usize, batches: &[usize]) {
    let total = start + batches.iter().sum::<usize>();
    let leaves = decimal_leaves(total as u64);
    let naive = Naive::new(&leaves);
    let (mut frontier, mut alone) = (Frontier::empty(), Frontier::empty());
    leaves[..start].iter().for_each(|leaf| frontier.append(*leaf));
    leaves[..start].iter().for_each(|leaf| alone.append(*leaf));
    let mut old = start;
    for count in batches {
        let size = old + count;
        let batch = frontier.append_batch(&leaves[old..size]);
        leaves[old..size].iter().for_each(|leaf| alone.append(*leaf));
        assert_eq!(frontier, alone, "{old} + {count}");
        assert_eq!(batch.root(), naive.root(size), "{old} + {count}");
        assert_eq!(batch.root(), frontier.root());
        assert_eq!((batch.old_size().get(), batch.size().get()), (old as u64, size as u64));
        assert_eq!(batch.leaf_hashes(), &leaves[old..size]);
        let tiles = MemoryTiles::new(&leaves[..size]);
        for index in old..size {
            let proof = batch.inclusion_proof(LogIndex::new(index as u64)).unwrap();
            assert_eq!(proof, naive.inclusion(index, size), "{index} in {size}");
            let (index, size) = (LogIndex::new(index as u64), TreeSize::new(size as u64));
            assert_eq!(proof, prove_inclusion(&tiles, index, size).unwrap());
            tiles.take_read();
        }
        for outside in [old.checked_sub(1), Some(size), Some(size + 1)].into_iter().flatten() {
            assert_eq!(batch.inclusion_proof(LogIndex::new(outside as u64)), None);
        }
        old = size;
    }
}

#[test]
fn every_small_batch() {
    for start in 0..40 {
        for count in 0..40 {
            check(start, &[count]);
        }
    }
}

#[test]
fn batches_around_the_edges_of_tiles() {
    for start in [0, 1, 255, 256, 257, 511] {
        check(start, &[1, 254, 0, 1, 1, 256, 257, 1]);
    }
}

#[test]
fn tile_hashes_of_batches_make_up_the_tiles() {
    let leaves = decimal_leaves(66_000);
    let mut frontier = Frontier::empty();
    let mut levels: Vec<Vec<Hash>> = vec![Vec::new(); 8];
    let mut old = 0;
    for count in [1, 254, 1, 0, 1, 700, 255, 1, 64_000, 787] {
        let batch = frontier.append_batch(&leaves[old..old + count]);
        for (level, hashes) in levels.iter_mut().enumerate() {
            let (first, new) = batch.tile_hashes(level as u8);
            assert_eq!(first, hashes.len() as u64, "level {level} at {old}");
            hashes.extend_from_slice(new);
        }
        old += count;
    }
    let tiles = MemoryTiles::new(&leaves);
    for (level, hashes) in levels.iter().enumerate() {
        let count = 66_000 >> (8 * level);
        assert_eq!(hashes.len(), count, "level {level}");
        for id in idtrail_tlog::tiles(TreeSize::new(66_000)).filter(|id| usize::from(id.level()) == level) {
            let from = id.first() as usize;
            let expected = idtrail_tlog::TileSource::tile(&tiles, id).unwrap();
            assert_eq!(hashes[from..from + usize::from(id.width())], expected);
        }
    }
    assert_eq!(Frontier::empty().append_batch(&leaves[..1]).tile_hashes(255).1, &[]);
}

#[test]
fn a_large_batch_proves_all_its_leaves() {
    let leaves = decimal_leaves(70_000);
    let mut frontier = Frontier::empty();
    frontier.append_batch(&leaves[..4_321]);
    let batch = frontier.append_batch(&leaves[4_321..]);
    for index in 4_321..70_000 {
        let index = LogIndex::new(index);
        let proof = batch.inclusion_proof(index).unwrap();
        let leaf = &leaves[index.to_usize().unwrap()];
        assert_eq!(verify_inclusion(index, batch.size(), leaf, &proof, &batch.root()), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_batches(start in 0_usize..600, batches in proptest::collection::vec(0_usize..200, 1..6)) {
        check(start, &batches);
    }
}
