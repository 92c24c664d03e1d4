//! How an installation is opened: the vault, what it knows of the logs, the newest log with all that follows from it, then
//! what works beside it.

use std::sync::{Arc, Mutex};

use idtrail_index::facts::Hasher;
use idtrail_index::identity::Identity;
use idtrail_index::lookup::Lookup;
use idtrail_index::trail::Stragglers;
use idtrail_log::LogError;
use idtrail_log::commit::Committer;
use idtrail_log::recovery::{self, Opened, Options};
use idtrail_port::RandomPool;
use idtrail_tlog::{LogIndex, SignerKey, TreeSize, VerifierKey};
use idtrail_vault::{Epoch, HighWater, Kek, Keyring, Secret32, Vault, VaultError};

use super::access::{self, AccessLog};
use super::origins::{self, Earlier, Kind, Place};
use super::proposals::Proposals;
use super::snapshot::{Snapshots, WORTH_LEAVES};
use super::state::{State, rules, start_marker};
use super::{Engine, EngineError, Ports, identity, index, vault_paths};
use crate::quarantine::Quarantine;
use crate::settings::Settings;

/// The vault, and what it says of the newest log.
struct Known {
    vault: Vault,
    high_water: HighWater,
    place: Place,
    keyring: Keyring,
    seed: Secret32,
}

impl Known {
    fn open(ports: &Ports, settings: &Settings, kek: Kek) -> Result<Self, EngineError> {
        let (disk, entropy) = (Arc::clone(&ports.disk), Arc::clone(&ports.entropy));
        let vault = Vault::open(disk, entropy, vault_paths(settings), kek, None)?;
        let number = origins::newest(&vault, &settings.origin).ok_or(EngineError::Foreign)?;
        let place = Place::new(Kind::Events, &settings.data_dir, &settings.origin, number);
        let (Some(keyring), Some(seed)) = (vault.keyring(&place.origin), vault.signing_seed(&place.origin))
        else {
            return Err(EngineError::Foreign);
        };
        if vault.tenant() != settings.tenant {
            return Err(EngineError::Foreign);
        }
        let high_water = HighWater::open(Arc::clone(&ports.disk), &settings.vault.anchors)?;
        Ok(Self { vault, high_water, place, keyring, seed })
    }

    /// Opens what follows from the logs, and has it read the earlier ones. `identity` may know leaves already.
    fn state(&self, ports: &Ports, settings: &Settings, identity: Identity) -> Result<State, EngineError> {
        let (vault, number) = (&self.vault, self.place.number);
        let hasher = Hasher::new(&settings.tenant, vault.dedupe_key().expose(), vault.index_key().expose());
        let hasher = Arc::new(identity::with_identifiers(hasher, vault, settings, &*ports.disk)?);
        let lookup = index::open(ports, settings, &self.place, &hasher, vault.epoch())?;
        let suppression = vault.suppression().clone();
        let kind = (Kind::Events, number);
        let (earlier, numbering) =
            Earlier::open_all(ports, settings, (vault, &hasher), kind, Some(&identity))?;
        let (keyring, earlier) = (self.keyring.clone(), earlier.into());
        let stragglers = Stragglers::default();
        Ok(State { number, hasher, keyring, suppression, lookup, identity, earlier, numbering, stragglers })
    }

    /// Opens the newest log and has what follows from it read it.
    fn read_log(
        &self,
        ports: &Ports,
        settings: &Settings,
        state: &mut State,
    ) -> Result<(Committer, Opened), EngineError> {
        let options = Options {
            dir: &self.place.log,
            origin: &self.place.origin,
            segment_bytes: settings.segment_bytes,
            known_size: TreeSize::new(self.high_water.size(&self.place.origin)),
        };
        let signer = Box::new(SignerKey::from_seed(&self.place.origin, self.seed.expose())?);
        let (committer, opened) =
            recovery::open(&ports.disk, &options, signer, &mut |index, bytes| state.read(index, bytes))?;
        let epoch = self.vault.epoch();
        state.keep_up(ports, settings, &self.place, epoch, committer.reader())?;
        let needed = Epoch::new(state.lookups().map(Lookup::epoch_in_log).max().unwrap_or(0));
        if epoch < needed {
            // An older vault would bring keys back that the log says were destroyed.
            return Err(VaultError::RolledBack { epoch, needed }.into());
        }
        Ok((committer, opened))
    }

    /// Opens the logs with all that follows from them: from what was kept of identity, if it fits, and what was added since.
    fn read(
        &self,
        ports: &Ports,
        settings: &Settings,
        snapshots: &Snapshots,
    ) -> Result<(State, Committer, Opened, u64), EngineError> {
        if let Some((identity, end)) = snapshots.load(&self.vault.epoch_secret()) {
            let kept = identity.next().get();
            let mut state = self.state(ports, settings, identity)?;
            let (committer, opened) = self.read_log(ports, settings, &mut state)?;
            if end.fits(committer.reader()) {
                return Ok((state, committer, opened, kept));
            }
            tracing::warn!("what was kept of identity is of another log, and is read anew");
        }
        let mut state = self.state(ports, settings, Identity::default())?;
        let (committer, opened) = self.read_log(ports, settings, &mut state)?;
        Ok((state, committer, opened, 0))
    }

    /// Opens the access log and the keys of requests; an installation of an older version gets them now.
    fn beside(
        &mut self,
        ports: &Ports,
        settings: &Settings,
        state: &State,
    ) -> Result<(Arc<AccessLog>, Keyring), EngineError> {
        let epoch = self.vault.epoch();
        let marks = (&self.high_water, self.place.number);
        let access = AccessLog::open(ports, settings, &mut self.vault, &state.hasher, marks)?;
        let rights = access::secure_keys(&mut self.vault, &format!("{}/rights", settings.origin))?;
        if self.vault.epoch() != epoch {
            // Keys of a new access log are an epoch of the vault that destroyed nothing.
            for lookup in state.lookups() {
                lookup.note_epoch(self.vault.epoch().get())?;
            }
        }
        Ok((Arc::new(access), rights))
    }

    fn quarantine(
        &self,
        ports: &Ports,
        settings: &Settings,
        hasher: &Arc<Hasher>,
    ) -> Result<Arc<Quarantine>, EngineError> {
        let now_ms = u64::try_from(ports.clock.wall_ms()).unwrap_or(0);
        let quarantine = Quarantine::open(
            (Arc::clone(&ports.disk), Arc::clone(&ports.entropy)),
            &settings.data_dir,
            self.vault.index_key().expose(),
            Arc::clone(hasher),
            settings.quarantine,
            (self.vault.suppression(), now_ms),
        )?;
        Ok(Arc::new(quarantine))
    }

    /// Returns a key that signs in the log's name, under another name.
    fn signer(&self, name: impl FnOnce(&str) -> String) -> Result<SignerKey, EngineError> {
        Ok(SignerKey::from_seed(&name(&self.place.origin), self.seed.expose())?)
    }
}

impl Engine {
    /// Opens an installation. `on_stop` is called once if the log has to stop later; the process should end then.
    ///
    /// # Errors
    /// [`EngineError`]; nothing was changed that an open of the repaired cause would not change as well.
    pub fn open(
        ports: Ports,
        settings: &Settings,
        kek: Kek,
        on_stop: impl FnOnce(LogError) + Send + 'static,
    ) -> Result<Self, EngineError> {
        let lock = recovery::lock(&*ports.disk, &settings.data_dir)?;
        let mut known = Known::open(&ports, settings, kek)?;
        let snapshots = Snapshots::new(&ports, settings, &known.vault, &known.place.origin);
        let (mut state, committer, opened, kept) = known.read(&ports, settings, &snapshots)?;
        let (access, rights_keys) = known.beside(&ports, settings, &state)?;
        let next = state.identity.next();
        tracing::info!(kept, leaves = next.get(), "identity was read");
        if next.get() >= kept + WORTH_LEAVES {
            let size = state.numbering.size_in_newest(next).get();
            snapshots.keep(&known.vault.epoch_secret(), &state.identity, committer.reader(), size);
        }
        let quarantine = known.quarantine(&ports, settings, &state.hasher)?;
        let verifiers = known.place.verifiers(&known.vault)?.into_iter().map(|(key, _)| key);
        let mut verifiers: Vec<VerifierKey> = verifiers.collect();
        let verifier =
            if verifiers.is_empty() { return Err(EngineError::Foreign) } else { verifiers.remove(0) };
        let evidence_signer = known.signer(idtrail_verify::evidence_key_name)?;
        let certificate_signer = known.signer(idtrail_verify::certificate_key_name)?;
        let (issuer_seed, (pepper_version, _)) = (known.vault.issuer_seed(), known.vault.pepper());
        let sinks_secret = known.vault.index_key();
        let proposals = Proposals::open(
            (Arc::clone(&ports.disk), Arc::clone(&ports.entropy)),
            &settings.data_dir,
            sinks_secret.expose(),
            settings.identity.four_eyes,
            u64::try_from(ports.clock.wall_ms()).unwrap_or(0),
        )?;
        let log = Arc::new(state.start(&ports, settings, committer, opened, on_stop)?);
        let Known { vault, high_water, place, .. } = known;
        let desk = state.desk(&ports, settings, vault, &log, (&access, &quarantine, &snapshots))?;
        let readers = [(&*place.origin, log.reader()), (access.origin(), access.reader())];
        let marker =
            start_marker(high_water, readers.map(|(name, reader)| (name.to_owned(), Arc::clone(reader))))?;
        Ok(Self {
            origin: place.origin,
            rules: rules(settings),
            hasher: state.hasher,
            keyring: state.keyring,
            lookup: state.lookup,
            identity: state.identity,
            normaliser: identity::normaliser(settings)?,
            pepper_version,
            number: place.number,
            earlier: state.earlier,
            numbering: state.numbering,
            stragglers: state.stragglers,
            log,
            desk,
            access,
            answers: Arc::default(),
            evidence_signer,
            certificate_signer,
            rights_keys,
            verifier,
            retired: verifiers,
            issuer_seed,
            sinks_secret,
            quarantine,
            batch: settings.batch,
            opened,
            marker: Mutex::new(Some(marker)),
            log_dir: place.log,
            _lock: lock,
            snapshots,
            kept: LogIndex::new(kept),
            proposals,
            fresh_ids: Mutex::new(RandomPool::new(Arc::clone(&ports.entropy))),
            ports,
        })
    }
}
