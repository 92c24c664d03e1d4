//! The store of secrets: puncturable key trees, peppers, signing key, anchors.
mod error;
mod ggm;
mod secret;
mod tree;
pub use error::{ErrorKind, KeyError, TreeError, VaultError};
pub use ggm::{DEPTH_MAX, TreeKind};
pub use secret::{Kek, Secret32};
pub use tree::{Cursor, KeyTree};

/// Epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);
impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
