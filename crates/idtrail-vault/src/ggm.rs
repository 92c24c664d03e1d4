//! The one-way step of the key trees: from a node's seed to the seed of one of its two children.
//!
//! `child(seed, b) = SHA-256("idtrail/ggm/v1" ‖ tree ‖ b ‖ seed)` with `tree` one of the bytes `I` and `P` and `b`
//! one byte 0 or 1 (Goldreich, Goldwasser and Micali 1986, with SHA-256 as the generator). The message is 48 bytes
//! long, so that it fits into a single SHA-256 block together with its padding: one compression a step, on a block
//! of which only the seed and `b` change. The general hasher would copy and pad anew for each step.

use sha2::block_api::compress256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::secret::Seed;

/// The longest path that a key tree may have, in bits.
pub const DEPTH_MAX: u8 = 48;

/// Which of the two key trees of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeKind {
    /// `I`: over log index and section, 41 bits deep.
    Index,
    /// `P`: over retention class and month, 24 bits deep.
    Period,
}

impl TreeKind {
    /// Returns the byte that stands for the tree in the child function and in encodings.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Index => b'I',
            Self::Period => b'P',
        }
    }

    /// Returns how many bits a leaf number of this tree has.
    pub const fn depth(self) -> u8 {
        match self {
            Self::Index => 41,
            Self::Period => 24,
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Index),
            b'P' => Some(Self::Period),
            _ => None,
        }
    }
}

const LABEL: &[u8; 14] = b"idtrail/ggm/v1";
/// The initial hash value of SHA-256 (FIPS 180-4 §5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Where the seed stands in the block.
const SEED: std::ops::Range<usize> = 16..48;

/// Walks down a tree. Holds the present node's seed in the block that is hashed next, so it is wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Expander {
    block: [u8; 64],
    state: [u32; 8],
}

impl Expander {
    pub(crate) fn new(kind: TreeKind) -> Self {
        let mut block = [0; 64];
        for (to, from) in block.iter_mut().zip(LABEL.iter().chain(&[kind.byte()])) {
            *to = *from;
        }
        // The padding of a 48-byte message (FIPS 180-4 §5.1.1): one bit, zeros, the length of 384 bits.
        block[48] = 0x80;
        block[62] = 0x01;
        block[63] = 0x80;
        Self { block, state: INITIAL }
    }

    /// Goes to the node with this seed.
    #[inline]
    pub(crate) fn go_to(&mut self, seed: &Seed) {
        self.block[SEED].copy_from_slice(seed);
    }

    /// Goes to child `bit` (0 or 1) of the present node.
    #[inline]
    pub(crate) fn descend(&mut self, bit: u8) {
        self.block[15] = bit;
        self.state = INITIAL;
        compress256(&mut self.state, std::slice::from_ref(&self.block));
        for (bytes, word) in self.block[SEED].chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
    }

    /// Writes the present node's seed to `out`.
    #[inline]
    pub(crate) fn copy_to(&self, out: &mut Seed) {
        out.copy_from_slice(&self.block[SEED]);
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn a_child_is_the_sha_256_of_the_whole_message() {
        for kind in [TreeKind::Index, TreeKind::Period] {
            let mut expander = Expander::new(kind);
            for bit in [0, 1, 1, 0] {
                let seed: Seed = std::array::from_fn(|at| (at * 7 + usize::from(bit)) as u8);
                let mut child = [0; 32];
                expander.go_to(&seed);
                expander.descend(bit);
                expander.copy_to(&mut child);
                let message = [&b"idtrail/ggm/v1"[..], &[kind.byte(), bit], &seed].concat();
                assert_eq!(child.as_slice(), Sha256::digest(message).as_slice());
            }
        }
    }
}
