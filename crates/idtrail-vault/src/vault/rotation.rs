//! Other keys in the place of old ones: of the log, and of the key that wraps the vault's own.

use super::Vault;
use crate::contents::RetiredKey;
use crate::{Epoch, Kek, Secret32, VaultError};

impl Vault {
    /// Returns the keys that signed an origin's trees before the present one, oldest first.
    pub fn retired_keys(&self, origin: &str) -> Vec<RetiredKey> {
        let origin = self.contents.origins.iter().find(|secrets| secrets.name == origin);
        origin.map(|secrets| secrets.retired.clone()).unwrap_or_default()
    }

    /// Puts another key in the place of the one that signs an origin's trees. The old one is destroyed, and of it only the
    /// public part is kept, so that what it has signed can be verified.
    ///
    /// # Errors
    /// `NotFound` for an unknown origin; `Unavailable` with unknown outcome.
    pub fn rotate_signing_key(
        &mut self,
        origin: &str,
        seed: Secret32,
        old: RetiredKey,
    ) -> Result<Epoch, VaultError> {
        self.settle()?;
        let mut contents = self.contents.clone();
        let secrets = contents.origins.iter_mut().find(|secrets| secrets.name == origin);
        let secrets = secrets.ok_or_else(|| VaultError::UnknownOrigin(origin.to_owned()))?;
        secrets.signing_seed = seed;
        secrets.retired.push(old);
        self.write(contents)
    }

    /// Writes the next epoch under another key-encryption key; from then on the old one opens nothing. After a crash
    /// exactly one of the two opens the vault, and opening it with the new one finishes what was begun.
    ///
    /// # Errors
    /// `Unavailable` with unknown outcome.
    pub fn rotate_kek(&mut self, kek: Kek) -> Result<Epoch, VaultError> {
        self.settle()?;
        let old = std::mem::replace(&mut self.store.kek, kek);
        let written = self.write(self.contents.clone());
        // Whichever of them the anchors know is the one to go on with.
        if written.is_err() && matches!(self.settle(), Err(VaultError::WrongKek(_))) {
            self.store.kek = old;
        }
        written
    }
}
