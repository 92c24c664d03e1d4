//! The keys of a leaf: what they are derived from, and the commitment that a leaf makes to its key.
//!
//! A leaf's key needs two secrets that can be destroyed apart: one of the leaf's place in the log (erasure of a person),
//! one of its retention class and month (expiry). The commitment makes it impossible to open one leaf to two stories
//! under two keys, which AES-GCM alone does not prevent (Len, Grubbs, Ristenpart 2021, "partitioning oracle attacks").

use core::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of a nonce.
pub(crate) const IV_BYTES: usize = 12;

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the 32 bytes, to be handed on to whoever may use them.
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret! {
    /// The secret of one section of one place in a log (tree I); destroyed when that leaf is erased.
    IndexSecret
}
secret! {
    /// The secret of one retention class in one month (tree P); destroyed when that month expires.
    ClassSecret
}
secret! {
    /// The key of one section of one leaf: the unit of disclosure.
    LeafKey
}

/// The secrets from which a leaf's keys are derived.
#[derive(Clone, Debug)]
pub struct SectionSecrets {
    /// Of the event, section 0.
    pub event: IndexSecret,
    /// Of the staff members, section 1.
    pub staff: IndexSecret,
    /// Of class and month.
    pub class: ClassSecret,
}

/// Derives the key of a section: `HKDF-SHA-256(ikm = index secret ‖ class secret, salt = IV, info = "idtrail/leaf/v1" ‖
/// origin)`, 32 bytes.
pub fn leaf_key(index: &IndexSecret, class: &ClassSecret, iv: &[u8; IV_BYTES], origin: &str) -> LeafKey {
    let mut ikm = Zeroizing::new([0; 64]);
    let (left, right) = ikm.split_at_mut(32);
    left.copy_from_slice(&index.0);
    right.copy_from_slice(&class.0);
    let mut key = LeafKey([0; 32]);
    Hkdf::<Sha256>::new(Some(iv), ikm.as_slice())
        .expand_multi_info(&[b"idtrail/leaf/v1", origin.as_bytes()], &mut key.0)
        .expect("32 bytes are within what HKDF can give");
    key
}

/// Returns the commitment to a key: `SHA-256("idtrail/kc/v1" ‖ key ‖ IV)`.
pub fn key_commitment(key: &LeafKey, iv: &[u8; IV_BYTES]) -> [u8; 32] {
    Sha256::new_with_prefix(b"idtrail/kc/v1").chain_update(key.0).chain_update(iv).finalize().into()
}
