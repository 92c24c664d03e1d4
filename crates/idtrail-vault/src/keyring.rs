//! The keys of one origin for the threads that seal and open leaves.
//!
//! A [`Keyring`] is a cheap handle that many threads share; reading takes a shared lock only. [`KeyCursor`]s and the
//! cache of class secrets remember seeds, each of which stands for many keys, so a puncture must reach them wherever
//! they are, also in a thread that sleeps: the keyring knows every cursor that it has handed out and wipes it before
//! the puncture returns. (Tagging cursors with the epoch alone would leave a sleeping cursor's seeds in memory.)
//!
//! Lock order: a cursor's path, then the trees, then the class cache. [`Keyring::replace`] therefore lets go of the
//! trees before it wipes the paths: whoever still derives from an old path then has its key before the puncture
//! returns, and nobody has the path afterwards.
//!
//! What it must never do: give a clone of a tree away, because that would outlive a puncture.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use crate::tree::PathCache;
use crate::{Epoch, KeyError, KeyTree, Secret32};

/// How many indices one call of [`Keyring::index_secrets`] may ask for.
pub const INDICES_MAX: u64 = 1 << 20;
/// One more than the highest log index that has keys.
pub const INDEX_END: u64 = 1 << 40;
/// Far more than (class, month) pairs are in use; a bound against a caller that walks over all of them.
const CLASSES_MAX: usize = 4096;

/// Which part of a leaf a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Section 0: the event.
    Event,
    /// Section 1: the staff fields, nested in the event.
    Staff,
}

impl Section {
    /// Returns the leaf of the index tree for this section of a log index.
    pub(crate) const fn leaf(self, index: u64) -> u64 {
        match self {
            Self::Event => index << 1,
            Self::Staff => index << 1 | 1,
        }
    }
}

/// The index secrets of both sections of one log index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSecrets {
    /// The secret of section 0.
    pub event: Secret32,
    /// The secret of section 1.
    pub staff: Secret32,
}

/// The keys of one origin, shared by threads. Clones are handles to the same keys.
#[derive(Clone)]
pub struct Keyring(Arc<Shared>);

struct Shared {
    origin: String,
    trees: RwLock<Trees>,
    classes: RwLock<BTreeMap<u32, Secret32>>,
    held: RwLock<HeldKeys>,
    paths: Mutex<Vec<Weak<Mutex<PathCache>>>>,
}

/// Keys of held leaves whose class and month have expired.
pub(crate) type HeldKeys = BTreeMap<(u64, Section), Secret32>;

struct Trees {
    epoch: Epoch,
    index: Arc<KeyTree>,
    period: Arc<KeyTree>,
}

impl Keyring {
    pub(crate) fn new(
        origin: &str,
        epoch: Epoch,
        index: Arc<KeyTree>,
        period: Arc<KeyTree>,
        held: HeldKeys,
    ) -> Self {
        Self(Arc::new(Shared {
            origin: origin.to_owned(),
            trees: RwLock::new(Trees { epoch, index, period }),
            classes: RwLock::default(),
            held: RwLock::new(held),
            paths: Mutex::default(),
        }))
    }

    /// Returns the name of the origin whose keys these are.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Returns the epoch of the vault that the keys are from.
    pub fn epoch(&self) -> Epoch {
        self.read(|trees| trees.epoch)
    }

    /// Returns the index secret of one section of a log index: 41 compressions of SHA-256 (2.5 µs) at most.
    ///
    /// # Errors
    /// `NotFound` if it has been destroyed, `Invalid` if the index is not below [`INDEX_END`].
    pub fn index_secret(&self, index: u64, section: Section) -> Result<Secret32, KeyError> {
        check_index(index)?;
        self.read(|trees| trees.index.derive(section.leaf(index))).ok_or(KeyError::Punctured)
    }

    /// Returns the index secrets of both sections for successive log indices, as sealing a batch needs them.
    ///
    /// # Errors
    /// `NotFound` if any of them has been destroyed, `Invalid` if the range ends above [`INDEX_END`] or is longer
    /// than [`INDICES_MAX`].
    pub fn index_secrets(&self, indices: Range<u64>) -> Result<Vec<IndexSecrets>, KeyError> {
        let count = indices.end.saturating_sub(indices.start);
        if indices.end > INDEX_END || count > INDICES_MAX {
            return Err(KeyError::OutOfRange);
        }
        let mut secrets = Vec::with_capacity(usize::try_from(count).map_err(|_| KeyError::OutOfRange)?);
        self.read(|trees| {
            let mut cursor = trees.index.cursor();
            for index in indices {
                let event = cursor.derive(Section::Event.leaf(index)).ok_or(KeyError::Punctured)?;
                let staff = cursor.derive(Section::Staff.leaf(index)).ok_or(KeyError::Punctured)?;
                secrets.push(IndexSecrets { event, staff });
            }
            Ok(())
        })?;
        Ok(secrets)
    }

    /// Returns a reader that derives keys near the last one for about two compressions each. For one thread; it may
    /// live as long as it likes and follows punctures.
    pub fn cursor(&self) -> KeyCursor {
        let path = Arc::new(Mutex::new(self.read(|trees| PathCache::new(&trees.index))));
        let mut paths = lock(&self.0.paths);
        // Those of dropped cursors go when a new one comes, so the list is no longer than the most that ever lived.
        paths.retain(|path| path.strong_count() > 0);
        paths.push(Arc::downgrade(&path));
        KeyCursor { keyring: self.clone(), path }
    }

    /// Returns the class secret of a retention class and month (months since 1970-01). Cached.
    ///
    /// # Errors
    /// `NotFound` if it has been destroyed, which is how the leaves of a class and month expire.
    pub fn class_secret(&self, class: u8, month: u16) -> Result<Secret32, KeyError> {
        let leaf = u32::from(class) << 16 | u32::from(month);
        if let Some(secret) = self.0.classes.read().unwrap_or_else(PoisonError::into_inner).get(&leaf) {
            return Ok(secret.clone());
        }
        self.read(|trees| {
            let secret = trees.period.derive(leaf.into()).ok_or(KeyError::Punctured)?;
            // While the trees are locked: a puncture cannot have emptied the cache since the key was derived.
            let mut classes = self.0.classes.write().unwrap_or_else(PoisonError::into_inner);
            if classes.len() >= CLASSES_MAX {
                classes.clear();
            }
            classes.insert(leaf, secret.clone());
            Ok(secret)
        })
    }

    /// Returns the kept key of a held leaf's section: the leaf's key itself, not one of the secrets that it came from.
    /// Only leaves whose class and month have expired have one.
    pub fn held_key(&self, index: u64, section: Section) -> Option<Secret32> {
        self.0.held.read().unwrap_or_else(PoisonError::into_inner).get(&(index, section)).cloned()
    }

    /// Tells whether the secrets of a leaf's event section are there, without deriving any.
    pub fn is_readable(&self, index: u64, class: u8, month: u16) -> bool {
        let period = u64::from(class) << 16 | u64::from(month);
        let whole = self.read(|trees| {
            !trees.index.is_punctured(Section::Event.leaf(index)) && !trees.period.is_punctured(period)
        });
        whole || self.held_key(index, Section::Event).is_some()
    }

    /// Tells whether a class and month have expired.
    pub fn is_expired(&self, class: u8, month: u16) -> bool {
        self.read(|trees| trees.period.is_punctured(u64::from(class) << 16 | u64::from(month)))
    }

    /// Puts other trees in place of the present ones and wipes whatever was derived from those.
    pub(crate) fn replace(&self, epoch: Epoch, index: Arc<KeyTree>, period: Arc<KeyTree>, held: HeldKeys) {
        {
            let mut trees = self.0.trees.write().unwrap_or_else(PoisonError::into_inner);
            *trees = Trees { epoch, index, period };
            self.0.classes.write().unwrap_or_else(PoisonError::into_inner).clear();
            *self.0.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        }
        let mut paths = lock(&self.0.paths);
        paths.retain(|path| {
            let Some(path) = path.upgrade() else { return false };
            lock(&path).wipe();
            true
        });
    }

    fn read<T>(&self, with: impl FnOnce(&Trees) -> T) -> T {
        with(&self.0.trees.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|trees| {
            write!(formatter, "Keyring({:?}, epoch {}, {:?})", self.origin(), trees.epoch, trees.index)
        })
    }
}

/// Derives index secrets, cheaply if each index is near the one before.
pub struct KeyCursor {
    keyring: Keyring,
    path: Arc<Mutex<PathCache>>,
}

impl KeyCursor {
    /// Returns the index secret of one section of a log index.
    ///
    /// # Errors
    /// As [`Keyring::index_secret`].
    pub fn secret(&mut self, index: u64, section: Section) -> Result<Secret32, KeyError> {
        check_index(index)?;
        let leaf = section.leaf(index);
        let mut path = lock(&self.path);
        if let Some(secret) = path.derive_cached(leaf) {
            return Ok(secret);
        }
        self.keyring.read(|trees| path.derive(&trees.index, leaf)).ok_or(KeyError::Punctured)
    }

    /// Returns the index secrets of both sections of a log index.
    ///
    /// # Errors
    /// As [`Keyring::index_secret`].
    pub fn secrets(&mut self, index: u64) -> Result<IndexSecrets, KeyError> {
        Ok(IndexSecrets {
            event: self.secret(index, Section::Event)?,
            staff: self.secret(index, Section::Staff)?,
        })
    }
}

impl fmt::Debug for KeyCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyCursor({:?})", self.keyring)
    }
}

fn check_index(index: u64) -> Result<(), KeyError> {
    if index < INDEX_END { Ok(()) } else { Err(KeyError::OutOfRange) }
}

/// Locks also after a panic elsewhere: what these locks guard is replaced whole, never half.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TreeKind;

    fn tree(kind: TreeKind) -> Arc<KeyTree> {
        Arc::new(KeyTree::from_root(kind, &Secret32::new([7; 32])))
    }

    #[test]
    fn a_puncture_wipes_sleeping_cursors_the_class_cache_and_the_trees() {
        let (index, period) = (tree(TreeKind::Index), tree(TreeKind::Period));
        let old = [Arc::downgrade(&index), Arc::downgrade(&period)];
        let punctured = Arc::new(index.punctured(std::slice::from_ref(&(8..10))).unwrap());
        let keyring = Keyring::new("origin", Epoch::FIRST, index, period, HeldKeys::new());
        let mut cursors = [keyring.cursor(), keyring.clone().cursor(), keyring.cursor()];
        let kept = cursors.each_mut().map(|cursor| cursor.secrets(5).unwrap());
        keyring.class_secret(1, 2).unwrap();
        assert!(!lock(&cursors[0].path).is_wiped());

        keyring.replace(Epoch::new(2), punctured, tree(TreeKind::Period), HeldKeys::new());
        assert!(cursors.iter().all(|cursor| lock(&cursor.path).is_wiped()));
        assert!(keyring.0.classes.read().unwrap().is_empty());
        assert!(old.iter().all(|tree| tree.strong_count() == 0));
        for (cursor, kept) in cursors.iter_mut().zip(kept) {
            assert_eq!(cursor.secrets(4), Err(KeyError::Punctured));
            assert_eq!(cursor.secrets(5), Ok(kept));
        }
    }

    #[test]
    fn what_the_keyring_remembers_is_bounded() {
        let keyring = Keyring::new(
            "origin",
            Epoch::FIRST,
            tree(TreeKind::Index),
            tree(TreeKind::Period),
            HeldKeys::new(),
        );
        for month in 0..=u16::MAX {
            keyring.class_secret(1, month).unwrap();
        }
        assert!(keyring.0.classes.read().unwrap().len() <= CLASSES_MAX);
        let kept = keyring.cursor();
        for _ in 0..100 {
            drop(keyring.cursor());
        }
        assert!(lock(&keyring.0.paths).len() <= 2, "dropped cursors are forgotten");
        drop(kept);
    }
}
