//! Comparison with two other implementations, tlog_tiles and ct-merkle.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof};
use idtrail_tlog::{Hash, LogIndex, TreeSize, prove_consistency, prove_inclusion, verify_inclusion};
use sha2::Sha256;
use tlog_tiles::tlog;

use crate::support::{MemoryTiles, decimal_leaves, root_of};

/// Sizes around powers of two, where shapes change.
const SIZES: [u64; 22] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 255, 256, 257, 300, 600];

struct Stored(Vec<tlog::Hash>);

impl tlog::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
    }
}

fn theirs(hash: &Hash) -> tlog::Hash {
    tlog::Hash(*hash.as_bytes())
}

fn ours(hashes: &[tlog::Hash]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash::new(hash.0)).collect()
}

#[test]
fn proofs_equal_those_of_tlog_tiles() {
    let leaves = decimal_leaves(600);
    let tiles = MemoryTiles::new(&leaves);
    let mut stored = Stored(Vec::new());
    for (index, leaf) in (0..).zip(&leaves) {
        let new = tlog::stored_hashes_for_record_hash(index, theirs(leaf), &stored).unwrap();
        stored.0.extend(new);
    }
    for size in SIZES {
        let root = root_of(&leaves[..size as usize]);
        assert_eq!(tlog::tree_hash(size, &stored).unwrap(), theirs(&root));
        let tree = TreeSize::new(size);
        for other in 0..size {
            let leaf = leaves[other as usize];
            let proof = prove_inclusion(&tiles, LogIndex::new(other), tree).unwrap();
            tiles.take_read();
            assert_eq!(ours(&tlog::prove_record(size, other, &stored).unwrap()), proof, "{other} in {size}");
            let their_proof = proof.iter().map(theirs).collect();
            tlog::check_record(&their_proof, size, theirs(&root), other, theirs(&leaf)).unwrap();

            let old = other + 1;
            let proof = prove_consistency(&tiles, TreeSize::new(old), tree).unwrap();
            tiles.take_read();
            assert_eq!(ours(&tlog::prove_tree(size, old, &stored).unwrap()), proof, "{old} to {size}");
            let their_proof = proof.iter().map(theirs).collect();
            let old_root = root_of(&leaves[..old as usize]);
            tlog::check_tree(&their_proof, size, theirs(&root), old, theirs(&old_root)).unwrap();
        }
    }
}

fn split(bytes: &[u8]) -> Vec<Hash> {
    bytes.as_chunks::<32>().0.iter().map(|chunk| Hash::new(*chunk)).collect()
}

#[test]
fn proofs_equal_those_of_ct_merkle() {
    let leaves = decimal_leaves(600);
    let tiles = MemoryTiles::new(&leaves);
    let mut tree: MemoryBackedTree<Sha256, Vec<u8>> = MemoryBackedTree::new();
    let mut roots = vec![tree.root()];
    for size in 1..=600_u64 {
        tree.push((size - 1).to_string().into_bytes());
        let root = tree.root();
        assert_eq!(root.as_bytes().as_slice(), root_of(&leaves[..size as usize]).as_bytes(), "{size}");
        roots.push(tree.root());
        if !SIZES.contains(&size) {
            continue;
        }
        for other in 0..size {
            let proof = prove_inclusion(&tiles, LogIndex::new(other), TreeSize::new(size)).unwrap();
            tiles.take_read();
            assert_eq!(split(tree.prove_inclusion(other as usize).as_bytes()), proof, "{other} in {size}");
            let bytes: Vec<u8> = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
            let their_proof = InclusionProof::from_bytes(bytes);
            root.verify_inclusion(&other.to_string().into_bytes(), other, &their_proof).unwrap();
            let our_root = Hash::new(root.as_bytes().as_slice().try_into().unwrap());
            let (index, tree_size) = (LogIndex::new(other), TreeSize::new(size));
            assert_eq!(
                verify_inclusion(index, tree_size, &leaves[other as usize], &proof, &our_root),
                Ok(())
            );

            let old = other + 1;
            let proof = prove_consistency(&tiles, TreeSize::new(old), TreeSize::new(size)).unwrap();
            tiles.take_read();
            let theirs = tree.prove_consistency((size - old) as usize);
            assert_eq!(split(theirs.as_bytes()), proof, "{old} to {size}");
            let bytes: Vec<u8> = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
            let their_proof = ConsistencyProof::try_from_bytes(bytes).unwrap();
            root.verify_consistency(&roots[old as usize], &their_proof).unwrap();
        }
    }
}
