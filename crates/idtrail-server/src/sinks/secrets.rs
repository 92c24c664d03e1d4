//! Where the secrets of sinks come from: files and environment variables that the configuration names.

use std::path::Path;
use std::sync::Arc;

use idtrail_connect::secret::{Secret, SecretError, SecretRef, Secrets};
use idtrail_port::{Disk, read_whole};

use super::Env;

const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Reads secrets when a sink is made; keeps none.
pub struct ServerSecrets {
    disk: Arc<dyn Disk>,
    env: Env,
}

impl std::fmt::Debug for ServerSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerSecrets(…)")
    }
}

impl ServerSecrets {
    /// Reads files from this disk and variables from this environment.
    pub fn new(disk: Arc<dyn Disk>, env: Env) -> Self {
        Self { disk, env }
    }

    fn file(&self, path: &Path) -> Option<String> {
        let bytes = read_whole(&*self.disk, path, SECRET_BYTES_MAX).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        Some(
            text.strip_suffix('\n')
                .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text))
                .to_owned(),
        )
    }
}

impl Secrets for ServerSecrets {
    fn get(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let (found, reference) = match reference {
            SecretRef::File(path) => (self.file(path), format!("file {}", path.display())),
            SecretRef::Env(name) => ((self.env)(name), format!("environment variable {name}")),
        };
        found.map(Secret::new).ok_or(SecretError { reference })
    }
}
