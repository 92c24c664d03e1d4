//! What identity resolution needs of an installation: the keys of identifiers and how values are brought into their form.

use std::sync::Arc;
use std::time::Duration;

use idtrail_event::Pepper;
use idtrail_identity::normalise::Normaliser;
use idtrail_identity::tokens::TokenKeys;
use idtrail_index::facts::Hasher;
use idtrail_index::identity::{Identity, event_hash_specs};
use idtrail_index::numbering::Numbering;
use idtrail_index::seal::{self, OpenError};
use idtrail_index::trail::Trail;
use idtrail_log::LogError;
use idtrail_log::shell::Log;
use idtrail_port::Disk;
use idtrail_tlog::LogIndex;
use idtrail_vault::{Keyring, Vault};
use zeroize::Zeroizing;

use super::EngineError;
use super::origins::Earlier;
use super::snapshot::Snapshots;
use crate::settings::{Environment, SecretRef, Settings};

/// Adds the keys of identifiers: every pepper of the vault, newest first, so that older tokens lead to the same person.
pub(super) fn with_identifiers(
    hasher: Hasher,
    vault: &Vault,
    settings: &Settings,
    disk: &dyn Disk,
) -> Result<Hasher, EngineError> {
    let mut versions: Vec<u32> = vault.pepper_versions().collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let peppers = versions.into_iter().filter_map(|version| vault.pepper_at(version));
    let peppers = peppers.map(|pepper| Pepper::new(*pepper.expose())).collect();
    let Environment(env) = settings.identity.environment;
    let event_salt = salt(settings.identity.event_salt.as_ref(), disk, env)?;
    let mut specs: Vec<_> = event_hash_specs().map(|spec| (spec, event_salt.clone())).collect();
    for one in &settings.identity.legacy_hashes {
        specs.push((one.spec.clone(), salt(one.salt.as_ref(), disk, env)?));
    }
    Ok(hasher.with_identifiers(TokenKeys::new(&settings.tenant, peppers, specs)?))
}

/// Returns what brings raw identifiers into their form.
pub(super) fn normaliser(settings: &Settings) -> Result<Normaliser, EngineError> {
    Ok(Normaliser::new(settings.identity.normaliser.clone())?)
}

/// Reads a salt. A line end that an editor put behind it is no part of it.
fn salt(
    place: Option<&SecretRef>,
    disk: &dyn Disk,
    env: fn(&str) -> Option<String>,
) -> Result<Zeroizing<String>, EngineError> {
    let Some(place) = place else { return Ok(Zeroizing::new(String::new())) };
    let bytes = place.read(disk, &env)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| EngineError::Salt { place: place.to_string() })?;
    Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// How long decisions may take to become durable before the log is read anew.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes identity forget what can no longer be read.
pub(super) struct Refold {
    pub(super) identity: Identity,
    pub(super) hasher: Arc<Hasher>,
    pub(super) keyring: Keyring,
    pub(super) log: Arc<Log<Trail>>,
    /// The logs before it, oldest first.
    pub(super) earlier: Arc<[Earlier]>,
    pub(super) numbering: Numbering,
    pub(super) snapshots: Snapshots,
}

impl Refold {
    /// Folds all readable leaves anew. Whoever is asked meanwhile answers from the old state.
    pub(super) fn run(&self) {
        self.snapshots.wipe();
        let read = |fresh: &Identity, size: LogIndex| {
            let size = self.numbering.size_in_newest(size);
            if !self.log.applied().wait(size, PATIENCE) {
                return Err(LogError::Stopped);
            }
            let mut number = 0;
            let earlier = self.earlier.iter().map(|log| (&*log.reader, &log.keyring, log.size));
            for (reader, keyring, size) in earlier.chain([(&**self.log.reader(), &self.keyring, size)]) {
                for index in (0..size.get()).map(LogIndex::new) {
                    let at = LogIndex::new(number);
                    match seal::open(keyring, index, &reader.entry(index)?) {
                        Ok(disclosed) => fresh.replay(&self.hasher, at, &disclosed.leaf),
                        Err(OpenError::Key(_)) => fresh.skip(at),
                        Err(OpenError::Leaf(error)) => {
                            return Err(LogError::Visitor { index, source: Box::new(error) });
                        }
                    }
                    number += 1;
                }
            }
            Ok(())
        };
        if let Err(error) = self.identity.refold(&self.hasher, read) {
            self.snapshots.spoil();
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "identity still knows of erased events; it forgets them at the next start"
            );
        }
    }
}
