//! Secrets, by reference. A configuration names a file or an environment variable; whoever starts the sinks resolves the
//! names. A secret shows itself in no `Debug` and is wiped when dropped.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretRef {
    /// In a file, without the line end at its end.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

/// A secret in memory.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Takes a secret over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Shows the secret to the code that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Resolves references; implemented by the program that may read files and the environment.
pub trait Secrets {
    /// Returns the secret.
    ///
    /// # Errors
    /// [`SecretError`] if it is not there.
    fn get(&self, reference: &SecretRef) -> Result<Secret, SecretError>;
}

/// A secret is not there. Names the reference, never the content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("secret cannot be read. reference={reference}")]
pub struct SecretError {
    /// The reference, as people write it.
    pub reference: String,
}
