//! The order in which the vault's files are written, and what is made of them after a crash at any step.
//!
//! A write of epoch n + 1: body n + 1 durable in the body directory and in every copy, each read back; then its key
//! into the free place of every anchor cell; then zeros over the old slot of every cell, from where on body n is
//! noise wherever a copy of it may lie; then the names of body n go. The newest epoch that any cell anchors is the
//! vault, because its body was durable before its first anchor: a crash before that leaves epoch n, a crash later
//! leaves n + 1, and opening finishes what was begun. An older slot is never a way back while a newer one exists
//! anywhere, or a restored body and one stale cell would bring destroyed keys back.
//!
//! Anchors are strict: a cell that cannot be read, written or erased fails the whole step, because an old key may
//! survive there. Copies are strict when a body is written and lenient when the vault is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use idtrail_port::{Disk, Entropy, append_extension, create_dir_durable, random, read_optional};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::contents::Contents;
use crate::files::{self, BODY_BYTES_MAX, Cell, Place, during};
use crate::seal::{Slot, VaultId, open_body, seal_body};
use crate::{Epoch, Kek, Secret32, VaultError};

const BODY_PREFIX: &str = "body-";
const LOCK_NAME: &str = "lock";
/// Stands in the body directory while a vault is being created, and holds its id.
const CREATING_NAME: &str = "creating";

/// Where the vault's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultPaths {
    /// The directory of the body file `body-<epoch>`, of the lock and nothing else.
    pub body_dir: PathBuf,
    /// Directories that each hold a copy of the newest body, best on other devices.
    pub copies: Vec<PathBuf>,
    /// The anchor cells, at least one: 8 KiB files, each on a device of its own, outside of backups and snapshots.
    pub anchors: Vec<PathBuf>,
}

/// The files, the keys to them, and where they are in time.
pub(crate) struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) paths: VaultPaths,
    pub(crate) kek: Kek,
}

/// The vault as the files have it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) id: VaultId,
    pub(crate) epoch: Epoch,
    pub(crate) contents: Contents,
    /// See [`epoch_secret`].
    pub(crate) secret: Secret32,
}

/// Returns a secret that can be had only while the key of this epoch is in the anchors.
fn epoch_secret(key: &Secret32) -> Secret32 {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.update(b"idtrail/vault/epoch-secret/v1");
    Secret32::new(mac.finalize().into_bytes().into())
}

/// What the anchors say.
struct Anchored {
    id: VaultId,
    epoch: Epoch,
    key: Secret32,
}

impl Store {
    /// Creates the directories of a new vault.
    pub(crate) fn create_dirs(&self) -> Result<(), VaultError> {
        let anchors = self.paths.anchors.iter().map(|path| files::dir_of(path));
        for dir in self.body_dirs().map(PathBuf::as_path).chain(anchors) {
            during("created", dir, create_dir_durable(&*self.disk, dir))?;
        }
        Ok(())
    }

    /// Creates a lost body directory, if there is an anchor that tells that there was one.
    pub(crate) fn restore_body_dir(&self) -> Result<(), VaultError> {
        let dir = &self.paths.body_dir;
        if during("looked up", dir, self.disk.exists(dir))? {
            return Ok(());
        }
        if !self.paths.anchors.iter().any(|path| self.disk.exists(path).unwrap_or(false)) {
            return Err(self.no_anchor());
        }
        during("created", dir, create_dir_durable(&*self.disk, dir))
    }

    /// Takes the lock that keeps a second process out.
    pub(crate) fn lock(&self) -> Result<Box<dyn idtrail_port::DiskLock>, VaultError> {
        let path = self.paths.body_dir.join(LOCK_NAME);
        match self.disk.lock(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(VaultError::Locked(path)),
            result => during("locked", &path, result),
        }
    }

    /// Makes the first epoch of a new vault.
    pub(crate) fn create(&self, contents: &Contents) -> Result<(VaultId, Secret32), VaultError> {
        let marker = self.paths.body_dir.join(CREATING_NAME);
        match during("read", &marker, read_optional(&*self.disk, &marker, 64))? {
            None => self.refuse_existing(|_| false)?,
            Some(bytes) => {
                self.refuse_finished()?;
                let id = VaultId::try_from(bytes.as_slice()).ok();
                self.refuse_existing(|found| id.as_ref() == Some(found))?;
                self.remove_unfinished()?;
            }
        }
        let id: VaultId = random(&*self.entropy);
        files::write_over(&*self.disk, &marker, &id)?;
        let cells = self.cells()?;
        let secret = self.write_epoch(&id, Epoch::FIRST, contents, &cells)?;
        files::remove(&*self.disk, &marker)?;
        Ok((id, secret))
    }

    /// Reads the newest epoch and puts every file into the state that a finished write leaves.
    pub(crate) fn load(&self, epoch_min: Option<Epoch>) -> Result<Loaded, VaultError> {
        let cells = self.cells()?;
        let marker = self.paths.body_dir.join(CREATING_NAME);
        let creating = during("looked up", &marker, self.disk.exists(&marker))?;
        let unfinished = |error| if creating { VaultError::Unfinished(marker.clone()) } else { error };
        let anchored = self.anchored(&cells)?.ok_or_else(|| unfinished(self.no_anchor()))?;
        self.refuse_rolled_back(anchored.epoch, epoch_min)?;
        let (sealed, contents) =
            self.find_body(&anchored)?.ok_or_else(|| unfinished(VaultError::BodyMissing(anchored.epoch)))?;
        let contents = Contents::decode(&contents)?;
        self.repair_anchors(&cells, &anchored)?;
        self.repair_bodies(anchored.epoch, &sealed)?;
        if creating {
            files::remove(&*self.disk, &marker)?;
        }
        let secret = epoch_secret(&anchored.key);
        Ok(Loaded { id: anchored.id, epoch: anchored.epoch, contents, secret })
    }

    /// Reads the newest epoch and changes nothing. Another process may be writing, so a body that has just gone is looked
    /// for again.
    pub(crate) fn peek(&self, epoch_min: Option<Epoch>) -> Result<Loaded, VaultError> {
        const ATTEMPTS: usize = 5;
        let mut missing = Epoch::FIRST;
        for _ in 0..ATTEMPTS {
            let cells: Vec<Cell> = self
                .paths
                .anchors
                .iter()
                .map(|path| Cell::peek(&*self.disk, path))
                .collect::<Result<_, _>>()?;
            let anchored = self.anchored(&cells)?.ok_or_else(|| self.no_anchor())?;
            match epoch_min {
                Some(needed) if needed > anchored.epoch => {
                    return Err(VaultError::RolledBack { epoch: anchored.epoch, needed });
                }
                _ => {}
            }
            if let Some((_, contents)) = self.find_body(&anchored)? {
                let contents = Contents::decode(&contents)?;
                let secret = epoch_secret(&anchored.key);
                return Ok(Loaded { id: anchored.id, epoch: anchored.epoch, contents, secret });
            }
            missing = anchored.epoch;
        }
        Err(VaultError::BodyMissing(missing))
    }

    /// Writes the epoch after `epoch`. On success the keys of the old one are gone; after an error the outcome is
    /// unknown until [`Store::load`] tells it.
    pub(crate) fn write_next(
        &self,
        id: &VaultId,
        epoch: Epoch,
        contents: &Contents,
    ) -> Result<(Epoch, Secret32), VaultError> {
        let cells = self.cells()?;
        // Before the first change: a cell that is missing, or not as the last write left it, blocks the swap.
        for cell in &cells {
            let current = |slot: &Slot| slot.id == *id && slot.epoch == epoch;
            let settled = cell.slots().count() == 1 && cell.place_of(current).is_ok();
            if !settled {
                return Err(VaultError::AnchorChanged(cell.path.clone()));
            }
        }
        let next = epoch.next();
        let secret = self.write_epoch(id, next, contents, &cells)?;
        self.remove_bodies_but(next);
        Ok((next, secret))
    }

    fn write_epoch(
        &self,
        id: &VaultId,
        epoch: Epoch,
        contents: &Contents,
        cells: &[Cell],
    ) -> Result<Secret32, VaultError> {
        let key = Secret32::new(random(&*self.entropy));
        let sealed = seal_body(contents, id, epoch, &key, random(&*self.entropy));
        for dir in self.body_dirs() {
            files::write_new(&*self.disk, &body_path(dir, epoch), &sealed)?;
        }
        self.swap_anchors(cells, id, epoch, &key)?;
        Ok(epoch_secret(&key))
    }

    /// Puts `key` into every cell, and only then erases what else is in them.
    fn swap_anchors(
        &self,
        cells: &[Cell],
        id: &VaultId,
        epoch: Epoch,
        key: &Secret32,
    ) -> Result<(), VaultError> {
        let mut kept = Vec::with_capacity(cells.len());
        for cell in cells {
            let place = cell.place_of(|slot| slot.id == *id && slot.epoch == epoch);
            kept.push(match place {
                Ok(at) => at,
                Err(at) => {
                    let nonce = random(&*self.entropy);
                    let slot = Slot::wrap(id, cell.next_sequence(), epoch, key, &self.kek, nonce);
                    cell.write(&*self.disk, at, &slot)?;
                    at
                }
            });
        }
        for (cell, kept) in cells.iter().zip(kept) {
            let others = cell.places.iter().flatten().enumerate().filter(|(at, _)| *at != kept);
            for (at, place) in others {
                if *place != Place::Clean {
                    cell.erase(&*self.disk, at)?;
                }
            }
        }
        Ok(())
    }

    fn cells(&self) -> Result<Vec<Cell>, VaultError> {
        self.paths.anchors.iter().map(|path| Cell::read(&*self.disk, path)).collect()
    }

    /// Returns the newest epoch in any cell. A slot that another KEK wraps is passed over if a newer one is ours: then a
    /// change of the KEK was cut short, and the older slot is about to be erased.
    fn anchored(&self, cells: &[Cell]) -> Result<Option<Anchored>, VaultError> {
        let mut newest: Option<Anchored> = None;
        let mut others: Option<(VaultId, Epoch, &Path)> = None;
        for cell in cells {
            for slot in cell.slots() {
                let other = others.filter(|(id, ..)| *id != slot.id);
                if other.is_some() || newest.as_ref().is_some_and(|newest| newest.id != slot.id) {
                    return Err(VaultError::Foreign(cell.path.clone()));
                }
                let Some(key) = slot.unwrap(&self.kek) else {
                    if others.is_none_or(|(_, epoch, _)| epoch < slot.epoch) {
                        others = Some((slot.id, slot.epoch, &cell.path));
                    }
                    continue;
                };
                if newest.as_ref().is_none_or(|newest| newest.epoch < slot.epoch) {
                    newest = Some(Anchored { id: slot.id, epoch: slot.epoch, key });
                }
            }
        }
        match (newest, others) {
            (Some(newest), Some((_, epoch, _))) if epoch < newest.epoch => Ok(Some(newest)),
            (_, Some((.., path))) => Err(VaultError::WrongKek(path.to_owned())),
            (newest, None) => Ok(newest),
        }
    }

    /// Looks for traces of an epoch that the anchors have forgotten. One more than theirs is an unfinished write.
    fn refuse_rolled_back(&self, epoch: Epoch, epoch_min: Option<Epoch>) -> Result<(), VaultError> {
        let bodies = self.body_dirs().filter_map(|dir| self.bodies(dir).ok()?.into_iter().max());
        let seen = bodies.max().filter(|seen| *seen > epoch.next());
        match seen.max(epoch_min) {
            Some(needed) if needed > epoch => Err(VaultError::RolledBack { epoch, needed }),
            _ => Ok(()),
        }
    }

    /// Returns the body as it is stored and what is in it, from the first directory that has it whole.
    #[allow(clippy::type_complexity, reason = "a pair that lives for two lines")]
    fn find_body(&self, anchored: &Anchored) -> Result<Option<(Vec<u8>, Zeroizing<Vec<u8>>)>, VaultError> {
        let mut unreadable = None;
        for dir in self.body_dirs() {
            let path = body_path(dir, anchored.epoch);
            match during("read", &path, read_optional(&*self.disk, &path, BODY_BYTES_MAX)) {
                Ok(None) => {}
                Ok(Some(sealed)) => match open_body(&sealed, &anchored.id, anchored.epoch, &anchored.key) {
                    Some(contents) => return Ok(Some((sealed, contents))),
                    None => tracing::warn!(path = %path.display(), "vault body is damaged"),
                },
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "vault body cannot be read");
                    unreadable = Some(error);
                }
            }
        }
        unreadable.map_or(Ok(None), Err)
    }

    fn repair_anchors(&self, cells: &[Cell], anchored: &Anchored) -> Result<(), VaultError> {
        for cell in cells {
            if cell.place_of(|slot| slot.epoch == anchored.epoch).is_err() {
                tracing::warn!(path = %cell.path.display(), epoch = anchored.epoch.get(), "anchor cell is repaired");
            }
        }
        self.swap_anchors(cells, &anchored.id, anchored.epoch, &anchored.key)
    }

    /// Puts the body where it is missing or different, and removes those of other epochs.
    fn repair_bodies(&self, epoch: Epoch, sealed: &[u8]) -> Result<(), VaultError> {
        for dir in self.body_dirs() {
            let result = self.repair_body(dir, epoch, sealed);
            if *dir == self.paths.body_dir {
                result?;
            } else if let Err(error) = result {
                tracing::warn!(path = %dir.display(), %error, "copy of the vault body cannot be repaired");
            }
        }
        self.remove_bodies_but(epoch);
        Ok(())
    }

    fn repair_body(&self, dir: &Path, epoch: Epoch, sealed: &[u8]) -> Result<(), VaultError> {
        let path = body_path(dir, epoch);
        // An unreadable file is replaced as well: the sealed bytes at hand are known to be good.
        if let Ok(Some(found)) = read_optional(&*self.disk, &path, BODY_BYTES_MAX)
            && found == sealed
        {
            return Ok(());
        }
        tracing::warn!(path = %path.display(), epoch = epoch.get(), "vault body is restored");
        during("created", dir, create_dir_durable(&*self.disk, dir))?;
        files::write_over(&*self.disk, &path, sealed)
    }

    /// Removes the bodies of all other epochs and what is left of cut short writes. They open nothing any more, so a
    /// failure is only untidy.
    fn remove_bodies_but(&self, epoch: Epoch) {
        for dir in self.body_dirs() {
            let keep = body_path(dir, epoch);
            let removed = during("listed", dir, self.disk.list(dir)).and_then(|names| {
                let bodies =
                    names.iter().filter(|name| name.starts_with(BODY_PREFIX)).map(|name| dir.join(name));
                for path in bodies.filter(|path| *path != keep) {
                    during("removed", &path, self.disk.remove(&path))?;
                }
                // Also if none was found: an earlier removal may have been cut short before it was durable.
                during("synced", dir, self.disk.sync_dir(dir))
            });
            if let Err(error) = removed {
                tracing::warn!(path = %dir.display(), %error, "old vault body cannot be removed");
            }
        }
    }

    fn body_dirs(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.paths.body_dir).chain(&self.paths.copies)
    }

    fn bodies(&self, dir: &Path) -> Result<Vec<Epoch>, VaultError> {
        let names = during("listed", dir, self.disk.list(dir))?;
        Ok(names.iter().filter_map(|name| parse_body_name(name)).collect())
    }

    /// No anchor: either there never was a vault, or its anchors are lost.
    fn no_anchor(&self) -> VaultError {
        let bodies = self.body_dirs().any(|dir| self.bodies(dir).is_ok_and(|bodies| !bodies.is_empty()));
        let path = self.paths.anchors.first().cloned().unwrap_or_default();
        if bodies { VaultError::NoAnchor(path) } else { VaultError::Missing(path) }
    }

    /// Refuses if anything of a vault is in the paths, except what belongs to `ours`.
    fn refuse_existing(&self, ours: impl Fn(&VaultId) -> bool) -> Result<(), VaultError> {
        let continuing = |cell: &Cell| cell.slots().all(|slot| ours(&slot.id));
        let marker = self.paths.body_dir.join(CREATING_NAME);
        let unfinished = during("looked up", &marker, self.disk.exists(&marker))?;
        for cell in self.cells()? {
            if cell.places.is_some() && !(unfinished && continuing(&cell)) {
                return Err(VaultError::Exists(cell.path));
            }
        }
        for dir in self.body_dirs() {
            let bodies = self.bodies(dir)?;
            if let Some(epoch) = bodies.iter().find(|epoch| !unfinished || **epoch != Epoch::FIRST) {
                return Err(VaultError::Exists(body_path(dir, *epoch)));
            }
        }
        Ok(())
    }

    /// Refuses if the vault that a creation left behind can be opened: then the marker is stale and keys may be in use.
    fn refuse_finished(&self) -> Result<(), VaultError> {
        match self.load(None) {
            Ok(_) => Err(VaultError::Exists(self.paths.body_dir.clone())),
            Err(VaultError::Unfinished(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn remove_unfinished(&self) -> Result<(), VaultError> {
        for dir in self.body_dirs() {
            files::remove(&*self.disk, &body_path(dir, Epoch::FIRST))?;
        }
        for path in &self.paths.anchors {
            files::remove(&*self.disk, path)?;
        }
        let temporary = append_extension(&self.paths.body_dir.join(CREATING_NAME), "tmp");
        files::remove(&*self.disk, &temporary).map(drop)
    }
}

/// Returns the name of the body file of an epoch.
pub fn body_name(epoch: Epoch) -> String {
    format!("{BODY_PREFIX}{:020}", epoch.get())
}

fn body_path(dir: &Path, epoch: Epoch) -> PathBuf {
    dir.join(body_name(epoch))
}

fn parse_body_name(name: &str) -> Option<Epoch> {
    let digits = name.strip_prefix(BODY_PREFIX).filter(|digits| digits.len() == 20)?;
    digits.parse().ok().map(Epoch::new)
}
