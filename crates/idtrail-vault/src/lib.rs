//! The store of secrets: puncturable key trees, peppers, signing seeds, anchors.
//!
//! Every leaf of a log is sealed under a key of its own, which comes from two trees of the leaf's origin
//! ([`KeyTree`]): one over log index and section, one over retention class and month. Erasing a person destroys the
//! keys of that person's leaves in the first; retention destroys a month of a class in the second. The [`Vault`]
//! keeps the trees with the tenant's other secrets in one sealed body file, whose key is in small anchor cells that
//! can really be erased; a [`Keyring`] gives the keys to the threads that seal and open leaves; [`HighWater`] keeps
//! a lower bound of each log's size beside the anchors. The formats are normative in `docs/spec/vault.md`.
//!
//! What this crate must never do: know what an event or a leaf is, write a secret outside of the sealed body and the
//! wrapped anchor, show one in an error or log line, or let an older epoch open while a newer one exists.

mod contents;
mod epoch;
mod error;
mod files;
mod ggm;
mod high_water;
mod hold;
mod keyring;
mod seal;
mod secret;
mod store;
mod suppression;
mod tree;
mod vault;

pub use contents::RetiredKey;
pub use epoch::Epoch;
pub use error::{ErrorKind, KeyError, TreeError, VaultError};
pub use ggm::{DEPTH_MAX, TreeKind};
pub use high_water::{HighWater, high_water_path};
pub use hold::{HoldInfo, KeptKey, NewHold};
pub use keyring::{INDEX_END, INDICES_MAX, IndexSecrets, KeyCursor, Keyring, Section};
pub use secret::{Kek, Secret32};
pub use store::{VaultPaths, body_name};
pub use suppression::{CLOSED_MS, ErasedEvent, Suppressed, Suppression};
pub use tree::{Cursor, KeyTree};
pub use vault::{Change, Puncture, Sections, Vault};
