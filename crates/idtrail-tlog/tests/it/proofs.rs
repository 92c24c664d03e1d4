//! Proofs: vectors, all trees up to 70 leaves, every bit of every proof of them.

use idtrail_tlog::{
    ErrorKind, Hash, LogIndex, ProofError, ProveError, TileId, TileSource, TreeSize, prove_consistency,
    prove_inclusion, root_from_tiles, tiles, verify_consistency, verify_inclusion,
};

use crate::support::{MemoryTiles, Naive, decimal_leaves, hash, hashes, list, number, text, vectors};

const SIZE_MAX: usize = 70;

fn include(index: usize, size: usize, leaf: &Hash, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    verify_inclusion(LogIndex::new(index as u64), TreeSize::new(size as u64), leaf, proof, root)
}

fn consist(old: usize, new: usize, roots: [&Hash; 2], proof: &[Hash]) -> Result<(), ProofError> {
    verify_consistency(TreeSize::new(old as u64), TreeSize::new(new as u64), roots[0], roots[1], proof)
}

#[test]
fn vectors_of_inclusion() {
    let vectors = vectors!("proofs");
    for case in list(&vectors, "inclusion") {
        let (index, size) = (number(case, "index"), number(case, "size"));
        let (leaf, root) = (hash(case, "leaf"), hash(case, "root"));
        let proof = hashes(case, "proof");
        let outcome = verify_inclusion(LogIndex::new(index), TreeSize::new(size), &leaf, &proof, &root);
        assert_eq!(outcome.is_ok(), case["valid"] == true, "{}: {outcome:?}", text(case, "name"));
    }
}

#[test]
fn vectors_of_consistency() {
    let vectors = vectors!("proofs");
    for case in list(&vectors, "consistency") {
        let (old, new) = (number(case, "old"), number(case, "new"));
        let (old_root, new_root) = (hash(case, "old_root"), hash(case, "new_root"));
        let proof = hashes(case, "proof");
        let outcome =
            verify_consistency(TreeSize::new(old), TreeSize::new(new), &old_root, &new_root, &proof);
        assert_eq!(outcome.is_ok(), case["valid"] == true, "{}: {outcome:?}", text(case, "name"));
    }
}

#[test]
fn vectors_are_proved_from_tiles() {
    let vectors = vectors!("proofs");
    let tiles = MemoryTiles::new(&decimal_leaves(70_000));
    let valid = |case: &&serde_json::Value| case["valid"] == true;
    for case in list(&vectors, "inclusion").iter().filter(valid) {
        let (index, size) = (number(case, "index"), number(case, "size"));
        let proof = prove_inclusion(&tiles, LogIndex::new(index), TreeSize::new(size)).unwrap();
        assert_eq!(proof, hashes(case, "proof"), "{}", text(case, "name"));
        tiles.take_read();
    }
    for case in list(&vectors, "consistency").iter().filter(valid) {
        let (old, new) = (number(case, "old"), number(case, "new"));
        let proof = prove_consistency(&tiles, TreeSize::new(old), TreeSize::new(new)).unwrap();
        assert_eq!(proof, hashes(case, "proof"), "{}", text(case, "name"));
        tiles.take_read();
    }
}

#[test]
fn every_inclusion_proof_holds_for_its_own_index_only() {
    let leaves = decimal_leaves(SIZE_MAX as u64);
    let (naive, tiles) = (Naive::new(&leaves), MemoryTiles::new(&leaves));
    for size in 1..=SIZE_MAX {
        let root = naive.root(size);
        for (index, leaf) in leaves.iter().enumerate().take(size) {
            let proof = naive.inclusion(index, size);
            let proved = prove_inclusion(&tiles, LogIndex::new(index as u64), TreeSize::new(size as u64));
            assert_eq!(proved.unwrap(), proof, "{index} in {size}");
            tiles.take_read();
            for other in 0..=size {
                let outcome = include(other, size, leaf, &proof, &root);
                assert_eq!(outcome.is_ok(), other == index, "{index} as {other} in {size}");
            }
        }
    }
}

#[test]
fn every_consistency_proof_holds() {
    let leaves = decimal_leaves(SIZE_MAX as u64);
    let (naive, tiles) = (Naive::new(&leaves), MemoryTiles::new(&leaves));
    for new in 0..=SIZE_MAX {
        for old in 0..=new {
            let proof = naive.consistency(old, new);
            let proved = prove_consistency(&tiles, TreeSize::new(old as u64), TreeSize::new(new as u64));
            assert_eq!(proved.unwrap(), proof, "{old} to {new}");
            tiles.take_read();
            let roots = [&naive.root(old), &naive.root(new)];
            assert_eq!(consist(old, new, roots, &proof), Ok(()), "{old} to {new}");
            let expected = if old == new { Ok(()) } else { Err(ProofError::Range) };
            assert_eq!(consist(new, old, [roots[1], roots[0]], &proof), expected, "{new} to {old}");
        }
    }
}

/// Calls `check` with every hash in turn, each time with another of its bits changed.
fn for_every_bit(hashes: &mut [Hash], mut check: impl FnMut(&[Hash], usize)) {
    for at in 0..hashes.len() {
        let original = hashes[at];
        for bit in 0..256 {
            let mut bytes = *original.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            hashes[at] = Hash::new(bytes);
            check(hashes, at);
        }
        hashes[at] = original;
    }
}

#[test]
fn every_bit_of_every_inclusion_proof_matters() {
    let leaves = decimal_leaves(SIZE_MAX as u64);
    let naive = Naive::new(&leaves);
    for size in 1..=SIZE_MAX {
        for (index, leaf) in leaves.iter().enumerate().take(size) {
            let mut hashes = vec![*leaf, naive.root(size)];
            hashes.extend(naive.inclusion(index, size));
            for_every_bit(&mut hashes, |hashes, at| {
                let outcome = include(index, size, &hashes[0], &hashes[2..], &hashes[1]);
                assert_eq!(outcome, Err(ProofError::Root), "{index} in {size}, hash {at}");
            });
        }
    }
}

#[test]
fn every_bit_of_every_consistency_proof_matters() {
    let leaves = decimal_leaves(SIZE_MAX as u64);
    let naive = Naive::new(&leaves);
    for new in 1..=SIZE_MAX {
        for old in 1..=new {
            let mut hashes = vec![naive.root(old), naive.root(new)];
            hashes.extend(naive.consistency(old, new));
            for_every_bit(&mut hashes, |hashes, at| {
                let outcome = consist(old, new, [&hashes[0], &hashes[1]], &hashes[2..]);
                assert_eq!(outcome, Err(ProofError::Root), "{old} to {new}, hash {at}");
            });
        }
    }
}

#[test]
fn a_hash_too_many_or_too_few_is_refused() {
    let leaves = decimal_leaves(SIZE_MAX as u64);
    let naive = Naive::new(&leaves);
    for size in 1..=SIZE_MAX {
        for (other, leaf) in leaves.iter().enumerate().take(size) {
            let root = naive.root(size);
            let mut proof = naive.inclusion(other, size);
            let hashes = proof.len() + 1;
            proof.push(root);
            let outcome = include(other, size, leaf, &proof, &root);
            assert_eq!(outcome, Err(ProofError::Length { hashes }));
            proof.truncate(proof.len() - 1);
            if proof.pop().is_some() {
                assert!(include(other, size, leaf, &proof, &root).is_err());
            }
            let mut proof = naive.consistency(other, size);
            proof.push(root);
            assert!(consist(other, size, [&naive.root(other), &root], &proof).is_err());
            proof.truncate(proof.len() - 1);
            if proof.pop().is_some() {
                assert!(consist(other, size, [&naive.root(other), &root], &proof).is_err());
            }
        }
    }
}

#[test]
fn proofs_read_only_tiles_of_the_tree_and_accept_longer_ones() {
    let leaves = decimal_leaves(70_000);
    let mut source = MemoryTiles::new(&leaves);
    for size in [1, 255, 256, 257, 511, 513, 65_535, 65_536, 65_537, 69_999, 70_000] {
        let tree = TreeSize::new(size);
        let names: Vec<TileId> = tiles(tree).collect();
        for other in [0, 1, size / 3, size / 2, size - 1] {
            let mut answers = Vec::new();
            for longer in [false, true] {
                source.longer = longer;
                let inclusion = prove_inclusion(&source, LogIndex::new(other.min(size - 1)), tree).unwrap();
                let mut read = source.take_read();
                let consistency = prove_consistency(&source, TreeSize::new(other.min(size)), tree).unwrap();
                read.extend(source.take_read());
                assert!(read.iter().all(|id| names.contains(id)), "{read:?} in {size}");
                answers.push((inclusion, consistency));
            }
            assert_eq!(answers[0], answers[1]);
        }
    }
}

/// Gives tiles that lack their last hash, or none at all.
struct Broken {
    fails: bool,
}

impl TileSource for Broken {
    type Error = std::io::Error;

    fn tile(&self, id: TileId) -> Result<Vec<Hash>, Self::Error> {
        if self.fails {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        Ok(vec![Hash::new([7; 32]); usize::from(id.width()) - 1])
    }
}

#[test]
fn broken_sources() {
    let (index, size) = (LogIndex::new(300), TreeSize::new(1000));
    let short = prove_inclusion(&Broken { fails: false }, index, size).unwrap_err();
    assert!(matches!(short, ProveError::ShortTile { hashes, .. } if hashes < 256), "{short}");
    assert_eq!(short.kind(), ErrorKind::Damaged);
    let failed = root_from_tiles(&Broken { fails: true }, size).unwrap_err();
    assert!(matches!(failed, ProveError::Source(_)));
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert!(std::error::Error::source(&failed).is_some());
    let range = prove_inclusion(&Broken { fails: true }, LogIndex::new(1000), size).unwrap_err();
    assert!(matches!(range, ProveError::Range) && range.kind() == ErrorKind::Invalid);
    let range = prove_consistency(&Broken { fails: true }, size, TreeSize::new(999)).unwrap_err();
    assert!(matches!(range, ProveError::Range));
}
