//! The vault: opens, hands out secrets, and writes new epochs.
//!
//! In go the paths and the key-encryption key; out come secrets, and [`Keyring`]s for the keys of leaves. Whatever
//! changes the vault writes a whole new body and destroys the old one (see [`crate::store`] for the order), so each
//! such call is atomic: after an error or a crash the vault is either as before or as asked for, and
//! [`Vault::probe`] tells which.
//!
//! What it must never do: hand out keys of an epoch that is not durable, or return from a puncture while any seed
//! that the vault controls can still derive a punctured key.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use idtrail_port::{Disk, DiskLock, Entropy, random};

use crate::contents::{Contents, OriginSecrets};
use crate::hold::{Hold, change_holds};
use crate::keyring::{HeldKeys, INDEX_END, Section};
use crate::seal::VaultId;
use crate::store::{Loaded, Store};
use crate::{
    Epoch, ErasedEvent, HoldInfo, Kek, KeptKey, KeyTree, Keyring, NewHold, Secret32, Suppression, TreeError,
    TreeKind, VaultError, VaultPaths,
};

mod rotation;

const NAME_BYTES_MAX: usize = 128;

/// Which sections of a log index are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sections {
    /// The whole leaf.
    Both,
    /// The event without its staff fields, which are nested in it and so cannot be reached any more either.
    Event,
    /// The staff fields alone.
    Staff,
}

/// Keys of one origin to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Puncture<'a> {
    /// The keys of log indices, in any order: erasure.
    Indices {
        /// The origin's name.
        origin: &'a str,
        /// The log indices.
        indices: &'a [u64],
        /// Which sections of each.
        sections: Sections,
    },
    /// Both keys of all log indices in a range: what has expired altogether is cut off whole.
    IndexRange {
        /// The origin's name.
        origin: &'a str,
        /// The log indices.
        indices: Range<u64>,
    },
    /// The keys of a retention class in successive months since 1970-01: retention expiry.
    Months {
        /// The origin's name.
        origin: &'a str,
        /// The retention class.
        class: u8,
        /// First and last month.
        months: RangeInclusive<u16>,
    },
}

/// One write of the vault: all of it happens, or nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// Keys to be destroyed.
    pub punctures: &'a [Puncture<'a>],
    /// What is to be remembered of the erased events.
    pub erased: &'a [ErasedEvent],
    /// Holds to be set.
    pub set: &'a [NewHold<'a>],
    /// Holds to be released, by name, in whichever origins they hold leaves.
    pub released: &'a [&'a str],
    /// Keys of held leaves whose class and month are punctured by this change, by origin.
    pub kept: &'a [(&'a str, &'a [KeptKey])],
    /// The time, milliseconds since 1970: what has expired by then is dropped from the suppression part.
    pub now_ms: u64,
}

/// The open vault of one tenant. Holds the lock until it is dropped.
pub struct Vault {
    store: Store,
    id: VaultId,
    epoch: Epoch,
    contents: Contents,
    secret: Secret32,
    /// One for each origin, in order.
    keyrings: Vec<Keyring>,
    suppression: Suppression,
    /// A write failed, so that the files may hold this epoch or the next.
    in_doubt: bool,
    /// Absent if the vault is open for reading only.
    lock: Option<Box<dyn DiskLock>>,
}

impl Vault {
    /// Creates a vault with one origin and fresh random secrets, as epoch 1. A creation that was cut short can be
    /// repeated.
    ///
    /// # Errors
    /// `Conflict` if anything of a vault is in the paths already; `Invalid` for paths or names that cannot be used;
    /// `Busy`; `Unavailable`.
    pub fn create(
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        paths: VaultPaths,
        kek: Kek,
        tenant: &str,
        origin: &str,
    ) -> Result<Self, VaultError> {
        check_paths(&paths)?;
        check_tenant(tenant)?;
        check_origin(origin)?;
        let contents = Contents {
            tenant: tenant.to_owned(),
            dedupe_key: secret(&*entropy),
            index_key: secret(&*entropy),
            issuer_seed: secret(&*entropy),
            peppers: BTreeMap::from([(1, secret(&*entropy))]),
            origins: vec![OriginSecrets::generate(origin, &*entropy)],
            suppression: Arc::default(),
            holds: Vec::new(),
        };
        let store = Store { disk, entropy, paths, kek };
        store.create_dirs()?;
        let lock = store.lock()?;
        let (id, secret) = store.create(&contents)?;
        Ok(Self::new(store, Some(lock), Loaded { id, epoch: Epoch::FIRST, contents, secret }))
    }

    /// Opens a vault at its newest epoch, finishes a write that was cut short, and repairs anchor cells, body and
    /// copies from each other.
    ///
    /// `epoch_min` is the newest epoch that the log or anything else knows of.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Denied` for a wrong KEK; `Damaged` if all anchors or all bodies are lost, or if
    /// the vault is older than `epoch_min`; `Conflict` for another vault's anchor; `Busy`; `Unavailable`.
    pub fn open(
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        paths: VaultPaths,
        kek: Kek,
        epoch_min: Option<Epoch>,
    ) -> Result<Self, VaultError> {
        check_paths(&paths)?;
        let store = Store { disk, entropy, paths, kek };
        store.restore_body_dir()?;
        let lock = store.lock()?;
        let loaded = store.load(epoch_min)?;
        Ok(Self::new(store, Some(lock), loaded))
    }

    /// Opens a vault to look into it, also beside a process that has it open: takes no lock, repairs nothing, and
    /// refuses every write. It does not follow what the other process writes.
    ///
    /// # Errors
    /// As [`Vault::open`], but never `Busy`.
    pub fn open_read_only(
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        paths: VaultPaths,
        kek: Kek,
        epoch_min: Option<Epoch>,
    ) -> Result<Self, VaultError> {
        check_paths(&paths)?;
        let store = Store { disk, entropy, paths, kek };
        let loaded = store.peek(epoch_min)?;
        Ok(Self::new(store, None, loaded))
    }

    fn new(store: Store, lock: Option<Box<dyn DiskLock>>, loaded: Loaded) -> Self {
        let Loaded { id, epoch, contents, secret } = loaded;
        let keyrings = contents
            .origins
            .iter()
            .map(|origin| origin.keyring(epoch, contents.held(&origin.name)))
            .collect();
        let suppression = Suppression::default();
        suppression.replace(Arc::clone(&contents.suppression));
        Self { store, id, epoch, contents, secret, keyrings, suppression, in_doubt: false, lock }
    }

    /// Returns the epoch of the secrets that this vault hands out.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns a secret that goes with the present epoch: after the next write of the vault, and so after the next
    /// erasure, nobody can have it again. For what has to become unreadable then.
    pub fn epoch_secret(&self) -> Secret32 {
        self.secret.clone()
    }

    /// Returns the tenant's name.
    pub fn tenant(&self) -> &str {
        &self.contents.tenant
    }

    /// Returns the names of the origins, oldest first.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.contents.origins.iter().map(|origin| origin.name.as_str())
    }

    /// Returns the keys of an origin's leaves. The handle stays valid and follows later epochs.
    pub fn keyring(&self, origin: &str) -> Option<Keyring> {
        self.keyrings.iter().find(|keyring| keyring.origin() == origin).cloned()
    }

    /// Returns the list by which repetitions of erased events are recognised. The handle follows later epochs.
    pub fn suppression(&self) -> &Suppression {
        &self.suppression
    }

    /// Returns the holds, oldest first.
    pub fn holds(&self) -> impl Iterator<Item = HoldInfo> {
        self.contents.holds.iter().map(Hold::info)
    }

    /// Tells whether a leaf is held.
    pub fn is_held(&self, origin: &str, index: u64) -> bool {
        self.contents.holds.iter().any(|hold| hold.origin == origin && hold.holds(index))
    }

    /// Returns the seed of the Ed25519 key with which an origin's checkpoints are signed.
    pub fn signing_seed(&self, origin: &str) -> Option<Secret32> {
        let origin = self.contents.origins.iter().find(|secrets| secrets.name == origin)?;
        Some(origin.signing_seed.clone())
    }

    /// Returns the seed of the Ed25519 key with which the built-in issuer signs tokens.
    pub fn issuer_seed(&self) -> Secret32 {
        self.contents.issuer_seed.clone()
    }

    /// Returns the HMAC key of the deduplication index. It never changes.
    pub fn dedupe_key(&self) -> Secret32 {
        self.contents.dedupe_key.clone()
    }

    /// Returns the HMAC key of the subject and interaction indices.
    pub fn index_key(&self) -> Secret32 {
        self.contents.index_key.clone()
    }

    /// Returns the current identifier pepper and its version.
    pub fn pepper(&self) -> (u32, Secret32) {
        let (version, pepper) = self.contents.peppers.last_key_value().expect("a vault has a pepper");
        (*version, pepper.clone())
    }

    /// Returns an identifier pepper by its version.
    pub fn pepper_at(&self, version: u32) -> Option<Secret32> {
        self.contents.peppers.get(&version).cloned()
    }

    /// Returns the versions of the identifier peppers, oldest first.
    pub fn pepper_versions(&self) -> impl Iterator<Item = u32> {
        self.contents.peppers.keys().copied()
    }

    /// Adds an origin with a signing key and key trees of its own, never those of an older one.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be used, `Conflict` if it is there; `Unavailable` with unknown outcome.
    pub fn add_origin(&mut self, origin: &str) -> Result<Epoch, VaultError> {
        check_origin(origin)?;
        self.settle()?;
        if self.origins().any(|name| name == origin) {
            return Err(VaultError::OriginExists(origin.to_owned()));
        }
        let mut contents = self.contents.clone();
        contents.origins.push(OriginSecrets::generate(origin, &*self.store.entropy));
        self.write(contents)
    }

    /// Adds an identifier pepper, which becomes the current one; older ones stay.
    ///
    /// # Errors
    /// `Unavailable` with unknown outcome.
    pub fn add_pepper(&mut self) -> Result<Epoch, VaultError> {
        self.settle()?;
        let mut contents = self.contents.clone();
        let version = self.pepper().0.checked_add(1).expect("2^32 peppers are more than anybody makes");
        contents.peppers.insert(version, secret(&*self.store.entropy));
        self.write(contents)
    }

    /// Returns the epoch that the next write makes, for the leaf that announces a shred.
    ///
    /// # Errors
    /// As [`Vault::probe`].
    pub fn next_epoch(&mut self) -> Result<Epoch, VaultError> {
        self.probe().map(Epoch::next)
    }

    /// Destroys keys, in all named origins at once. When it returns, no key among them can be derived from the vault,
    /// its files, any keyring or any cursor; keys that were handed out before are the caller's to wipe.
    ///
    /// `target` is the epoch that was announced (see [`Vault::next_epoch`]), so that a repetition after an unknown
    /// outcome cannot be mistaken for the first attempt.
    ///
    /// # Errors
    /// `Conflict` if the next epoch is not `target`; `NotFound` for an unknown origin and `Invalid` for an index that
    /// has no key, both without effect; `Unavailable` with unknown outcome: [`Vault::probe`] returns at least
    /// `target` if the keys are destroyed.
    pub fn puncture(&mut self, punctures: &[Puncture<'_>], target: Epoch) -> Result<Epoch, VaultError> {
        self.apply(&Change { punctures, ..Change::default() }, target)
    }

    /// Writes a change at the epoch that was announced; see [`Vault::puncture`].
    ///
    /// # Errors
    /// As [`Vault::puncture`]; `Conflict` for a hold that is there already or a held leaf that is to be erased, and
    /// `NotFound` for a hold that is not there, all without effect.
    pub fn apply(&mut self, change: &Change<'_>, target: Epoch) -> Result<Epoch, VaultError> {
        self.settle()?;
        let next = self.epoch.next();
        if next != target {
            return Err(VaultError::Moved { next, target });
        }
        let mut contents = self.contents.clone();
        change_holds(&mut contents, change, &*self.store.entropy)?;
        let mut ranges = vec![[Vec::new(), Vec::new()]; contents.origins.len()];
        for puncture in change.punctures {
            let at = self.origins().position(|name| name == puncture.origin());
            let [index, period] = at
                .and_then(|at| ranges.get_mut(at))
                .ok_or_else(|| VaultError::UnknownOrigin(puncture.origin().to_owned()))?;
            puncture.collect(index, period)?;
            if let Some(held) = contents.holds.iter().find_map(|hold| puncture.first_held(hold)) {
                return Err(VaultError::Held(held));
            }
        }
        for (origin, [index, period]) in contents.origins.iter_mut().zip(ranges) {
            for (tree, ranges) in [(&mut origin.index, index), (&mut origin.period, period)] {
                if !ranges.is_empty() {
                    *tree = Arc::new(tree.punctured(&ranges)?);
                }
            }
        }
        let new_key = || secret(&*self.store.entropy);
        contents.suppression = Arc::new(contents.suppression.with(change.erased, change.now_ms, new_key));
        self.write(contents)
    }

    /// Destroys the keys of log indices of one origin, at whatever epoch is next; see [`Vault::puncture`].
    ///
    /// # Errors
    /// As [`Vault::puncture`].
    pub fn puncture_indices(
        &mut self,
        origin: &str,
        indices: &[u64],
        sections: Sections,
    ) -> Result<Epoch, VaultError> {
        let target = self.next_epoch()?;
        self.puncture(&[Puncture::Indices { origin, indices, sections }], target)
    }

    /// Destroys the keys of a retention class in successive months (since 1970-01) of one origin, at whatever epoch
    /// is next; see [`Vault::puncture`].
    ///
    /// # Errors
    /// As [`Vault::puncture`].
    pub fn puncture_months(
        &mut self,
        origin: &str,
        class: u8,
        months: RangeInclusive<u16>,
    ) -> Result<Epoch, VaultError> {
        let target = self.next_epoch()?;
        self.puncture(&[Puncture::Months { origin, class, months }], target)
    }

    /// Returns the epoch that the files really hold, after finishing a write whose outcome was unknown.
    ///
    /// # Errors
    /// As [`Vault::open`]; the outcome is still unknown then.
    pub fn probe(&mut self) -> Result<Epoch, VaultError> {
        self.settle()?;
        Ok(self.epoch)
    }

    /// Reads the files anew if a write failed, so that nothing is built on a guess.
    fn settle(&mut self) -> Result<(), VaultError> {
        if self.lock.is_none() {
            return Err(VaultError::ReadOnly);
        }
        if self.in_doubt {
            let Loaded { id, epoch, contents, secret } = self.store.load(Some(self.epoch))?;
            if id != self.id {
                return Err(VaultError::Foreign(self.store.paths.body_dir.clone()));
            }
            self.in_doubt = false;
            self.adopt(epoch, contents, secret);
        }
        Ok(())
    }

    fn write(&mut self, contents: Contents) -> Result<Epoch, VaultError> {
        // Also if this unwinds.
        self.in_doubt = true;
        let (epoch, secret) = self.store.write_next(&self.id, self.epoch, &contents)?;
        self.in_doubt = false;
        self.adopt(epoch, contents, secret);
        Ok(epoch)
    }

    /// Goes over to another epoch. The old trees are wiped here: the old contents and the keyrings hold the last
    /// references to them.
    fn adopt(&mut self, epoch: Epoch, contents: Contents, secret: Secret32) {
        self.epoch = epoch;
        self.secret = secret;
        self.contents = contents;
        // Origins are only ever added, at the end.
        for (at, origin) in self.contents.origins.iter().enumerate() {
            let held = self.contents.held(&origin.name);
            match self.keyrings.get(at) {
                Some(keyring) => {
                    keyring.replace(epoch, Arc::clone(&origin.index), Arc::clone(&origin.period), held)
                }
                None => self.keyrings.push(origin.keyring(epoch, held)),
            }
        }
        self.suppression.replace(Arc::clone(&self.contents.suppression));
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Vault")
            .field("epoch", &self.epoch)
            .field("tenant", &self.contents.tenant)
            .field("keyrings", &self.keyrings)
            .finish_non_exhaustive()
    }
}

impl OriginSecrets {
    fn generate(name: &str, entropy: &dyn Entropy) -> Self {
        Self {
            name: name.to_owned(),
            signing_seed: secret(entropy),
            index: Arc::new(KeyTree::from_root(TreeKind::Index, &secret(entropy))),
            period: Arc::new(KeyTree::from_root(TreeKind::Period, &secret(entropy))),
            retired: Vec::new(),
        }
    }

    fn keyring(&self, epoch: Epoch, held: HeldKeys) -> Keyring {
        Keyring::new(&self.name, epoch, Arc::clone(&self.index), Arc::clone(&self.period), held)
    }
}

impl Puncture<'_> {
    fn origin(&self) -> &str {
        match self {
            Self::Indices { origin, .. } | Self::IndexRange { origin, .. } | Self::Months { origin, .. } => {
                origin
            }
        }
    }

    /// Returns the first leaf that this would erase although a hold names it. Expiry is not concerned: it keeps the keys.
    fn first_held(&self, hold: &Hold) -> Option<u64> {
        match self {
            Self::Indices { origin, indices, .. } if *origin == hold.origin => {
                indices.iter().copied().find(|index| hold.holds(*index))
            }
            Self::IndexRange { origin, indices } if *origin == hold.origin => {
                hold.indices.iter().copied().find(|index| indices.contains(index))
            }
            _ => None,
        }
    }

    /// Adds the leaves of the index tree and of the period tree.
    fn collect(&self, index: &mut Vec<Range<u64>>, period: &mut Vec<Range<u64>>) -> Result<(), TreeError> {
        match self {
            Self::Indices { indices, sections, .. } => {
                for number in *indices {
                    let [event, staff] =
                        [Section::Event, Section::Staff].map(|section| section.leaf(*number));
                    check_index_end(number.saturating_add(1))?;
                    index.push(match sections {
                        Sections::Both => event..staff + 1,
                        Sections::Event => event..event + 1,
                        Sections::Staff => staff..staff + 1,
                    });
                }
            }
            Self::IndexRange { indices, .. } => {
                check_index_end(indices.end)?;
                if !indices.is_empty() {
                    index.push(Section::Event.leaf(indices.start)..Section::Event.leaf(indices.end));
                }
            }
            Self::Months { class, months, .. } => {
                let leaf = |month: u16| u64::from(*class) << 16 | u64::from(month);
                if !months.is_empty() {
                    period.push(leaf(*months.start())..leaf(*months.end()) + 1);
                }
            }
        }
        Ok(())
    }
}

/// Checked before the index becomes a leaf number, whose highest bit would silently be shifted out.
pub(crate) fn check_index_end(end: u64) -> Result<(), TreeError> {
    if end > INDEX_END {
        return Err(TreeError::OutOfRange { leaf: end, depth: TreeKind::Index.depth() - 1 });
    }
    Ok(())
}

fn secret(entropy: &dyn Entropy) -> Secret32 {
    Secret32::new(random(entropy))
}

fn check_paths(paths: &VaultPaths) -> Result<(), VaultError> {
    if paths.anchors.is_empty() {
        return Err(VaultError::Paths("there is no anchor"));
    }
    let mut all: Vec<_> = paths.copies.iter().chain(&paths.anchors).chain([&paths.body_dir]).collect();
    if all.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(VaultError::Paths("a path is empty"));
    }
    all.sort_unstable();
    if all.windows(2).any(|pair| matches!(pair, [left, right] if left == right)) {
        return Err(VaultError::Paths("two of them are the same"));
    }
    Ok(())
}

fn check_tenant(tenant: &str) -> Result<(), VaultError> {
    if tenant.is_empty() || tenant.len() > NAME_BYTES_MAX || tenant.chars().any(char::is_control) {
        return Err(VaultError::Name("a tenant has 1 to 128 bytes and no control characters"));
    }
    Ok(())
}

/// An origin is the name of a key in signed notes, where spaces and plus signs separate fields.
fn check_origin(origin: &str) -> Result<(), VaultError> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'+';
    if origin.is_empty() || origin.len() > NAME_BYTES_MAX || !origin.bytes().all(allowed) {
        return Err(VaultError::Name("an origin has 1 to 128 visible ASCII characters and no plus sign"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use idtrail_sim::{Count, Fault, OperationKind, SimDisk, SimEntropy};

    use super::*;

    #[test]
    fn nothing_keeps_an_old_tree_alive() {
        let disk = SimDisk::default();
        let paths = VaultPaths { body_dir: "/v".into(), copies: vec![], anchors: vec!["/a/cell".into()] };
        let entropy = Arc::new(SimEntropy::new(idtrail_sim::Seed::new(1)));
        let kek = Kek::new([1; 32]).unwrap();
        let mut vault =
            Vault::create(Arc::new(disk.clone()), entropy, paths, kek, "tenant", "origin").unwrap();
        let keyring = vault.keyring("origin").unwrap();
        let mut cursor = keyring.cursor();
        cursor.secrets(1).unwrap();

        let old = Arc::downgrade(&vault.contents.origins[0].index);
        vault.puncture_indices("origin", &[1], Sections::Both).unwrap();
        assert_eq!(old.strong_count(), 0);

        // The new key is in its slot, but the old one could not be erased: the probe takes the new state over, and drops the old one.
        let old = Arc::downgrade(&vault.contents.origins[0].index);
        let next = vault.next_epoch().unwrap();
        // The writes are: the body, the new slot, zeros over the old slot.
        disk.reset_counts();
        disk.fail(Fault::once(2).counting(Count::Of(OperationKind::Write)));
        let error = vault.puncture_indices("origin", &[2], Sections::Both).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unavailable);
        assert!(old.strong_count() > 0 && keyring.epoch() < next, "not known yet");
        assert_eq!(vault.probe().unwrap(), next);
        assert_eq!((old.strong_count(), keyring.epoch()), (0, next));
        assert!(cursor.secrets(2).is_err() && cursor.secrets(3).is_ok());
    }
}
