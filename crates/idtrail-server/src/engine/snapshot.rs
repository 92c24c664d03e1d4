//! Who is who, kept from one start to the next, so that a start need not open every leaf of the log.
//!
//! The file is sealed under a secret of the vault's present epoch. Each destruction of keys begins another epoch, so from
//! then on nobody can open a snapshot that knows the erased person, wherever a copy of it lies; the file itself is
//! overwritten as well, and the next start folds the log anew. It is written at an orderly stop, and after a start that had
//! much to read. Every leaf is still read and hashed at a start; only opening those that the snapshot knows is spared.
//!
//! ```text
//! "idtrail identity snapshot v1\n" ‖ 32 bytes of salt ‖ u64be length ‖ pieces of 1 MiB, each with 16 bytes of tag
//! key   = HKDF-SHA-256(ikm = epoch secret, salt = salt, info = "idtrail/identity-snapshot/v1" ‖ binding)
//! nonce = number of the piece, 96 bits; the additional data is all that stands before the pieces
//! ```
//! The binding says what the state follows from beside the leaves: program, log, tenant, peppers, hash specifications. A
//! snapshot that does not fit is not used, whatever the reason; it is never an error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use hkdf::Hkdf;
use idtrail_index::identity::Identity;
use idtrail_log::reader::Reader;
use idtrail_port::{Disk, Entropy, Open, Privacy, append_extension, random, wipe};
use idtrail_tlog::{Hash, LogIndex};
use idtrail_vault::{Secret32, Vault};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Ports;
use crate::settings::Settings;

const NAME: &str = "identity-snapshot";
/// Added to the name while it is being written.
const UNFINISHED: &str = "new";
const MAGIC: &[u8; 29] = b"idtrail identity snapshot v1\n";
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + SALT_BYTES + 8;
const PIECE_BYTES: usize = 1 << 20;
const TAG_BYTES: usize = 16;
/// A start that read this many leaves more than the snapshot knew writes a new one.
pub(super) const WORTH_LEAVES: u64 = 100_000;

/// Where the snapshot of an installation is.
#[derive(Clone)]
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    data_dir: PathBuf,
    path: PathBuf,
    binding: [u8; 32],
    /// Identity could not forget what it should have: it must not be kept.
    spoiled: Arc<AtomicBool>,
}

/// Up to where a snapshot knows the newest log: its size, and the hash of the last leaf.
pub(super) struct End(Option<(LogIndex, Hash)>);

/// Overwrites what was kept in a data directory, so that the next start folds the log anew.
pub(super) fn remove(disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
    let path = data_dir.join(NAME);
    wipe(disk, &append_extension(&path, UNFINISHED))?;
    wipe(disk, &path)
}

impl Snapshots {
    pub(super) fn new(ports: &Ports, settings: &Settings, vault: &Vault, origin: &str) -> Self {
        let bound = json!({
            "program": env!("CARGO_PKG_VERSION"),
            "tenant": settings.tenant,
            "origin": origin,
            "peppers": vault.pepper_versions().collect::<Vec<_>>(),
            "specs": settings.identity.legacy_hashes.iter().map(|one| &one.spec).collect::<Vec<_>>(),
        });
        Self {
            disk: Arc::clone(&ports.disk),
            entropy: Arc::clone(&ports.entropy),
            data_dir: settings.data_dir.clone(),
            path: settings.data_dir.join(NAME),
            binding: Sha256::digest(bound.to_string()).into(),
            spoiled: Arc::default(),
        }
    }

    /// Returns what was kept, and up to where it knows the newest log; `None` if there is nothing that can be used.
    pub(super) fn load(&self, secret: &Secret32) -> Option<(Identity, End)> {
        let plain = self.open(secret)?;
        let (size, rest) = plain.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let size = u64::from_be_bytes(*size);
        let end = size.checked_sub(1).map(|last| (LogIndex::new(last), Hash::new(*hash)));
        Some((Identity::from_snapshot(rest)?, End(end)))
    }

    /// Keeps the state. `size` is how many leaves of the newest log it knows, all of them durable.
    pub(super) fn keep(&self, secret: &Secret32, identity: &Identity, reader: &Reader, size: u64) {
        if self.spoiled.load(Ordering::Acquire) {
            return;
        }
        let keep = || -> io::Result<()> {
            let hash = match size.checked_sub(1) {
                Some(last) => reader.leaf_hash(LogIndex::new(last)).map_err(io::Error::other)?,
                None => Hash::new([0; 32]),
            };
            let state = identity.to_snapshot();
            let mut plain = Zeroizing::new(Vec::with_capacity(40 + state.len()));
            plain.extend_from_slice(&size.to_be_bytes());
            plain.extend_from_slice(hash.as_bytes());
            plain.extend_from_slice(&state);
            drop(state);
            self.write(secret, &plain)
        };
        if let Err(error) = keep() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the next start reads who is who from the whole log: it could not be kept"
            );
        }
    }

    /// Overwrites what was kept: it may know somebody who has to be forgotten.
    pub(super) fn wipe(&self) {
        if let Err(error) = remove(&*self.disk, &self.data_dir) {
            // It cannot be opened any more all the same.
            tracing::warn!(error = &error as &dyn std::error::Error, "an old snapshot could not be removed");
        }
    }

    /// Says that identity still knows what it had to forget. Nothing is kept from now on.
    pub(super) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Release);
    }

    fn cipher(&self, secret: &Secret32, salt: &[u8]) -> Aes256Gcm {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(salt), secret.expose())
            .expand_multi_info(&[b"idtrail/identity-snapshot/v1", &self.binding], key.as_mut_slice())
            .expect("32 bytes are within what HKDF can give");
        Aes256Gcm::new(&aes_gcm::Key::<Aes256Gcm>::from(*key))
    }

    fn write(&self, secret: &Secret32, plain: &[u8]) -> io::Result<()> {
        let new = append_extension(&self.path, UNFINISHED);
        wipe(&*self.disk, &new)?;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&random::<SALT_BYTES>(&*self.entropy));
        head.extend_from_slice(&(plain.len() as u64).to_be_bytes());
        let salt = head.get(MAGIC.len()..MAGIC.len() + SALT_BYTES).unwrap_or_default();
        let cipher = self.cipher(secret, salt);
        let file = self.disk.open(&new, Open::CreateNew(Privacy::Owner))?;
        file.write_all_at(&head, 0)?;
        let mut at = HEAD_BYTES as u64;
        for (number, piece) in (0..).zip(plain.chunks(PIECE_BYTES)) {
            let payload = Payload { msg: piece, aad: &head };
            let sealed = cipher.encrypt(&nonce(number), payload).expect("a piece is short");
            file.write_all_at(&sealed, at)?;
            at += sealed.len() as u64;
        }
        file.sync_data()?;
        // The one before is of this epoch or unreadable; its name goes to the new one.
        self.disk.rename(&new, &self.path)?;
        self.disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }

    fn open(&self, secret: &Secret32) -> Option<Zeroizing<Vec<u8>>> {
        let file = self.disk.open(&self.path, Open::Read).ok()?;
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0).ok()?;
        let (salt, length) = head.strip_prefix(MAGIC)?.split_at_checked(SALT_BYTES)?;
        let length = usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?;
        let pieces = length.div_ceil(PIECE_BYTES);
        if file.len().ok()? != (HEAD_BYTES + length + pieces * TAG_BYTES) as u64 {
            return None;
        }
        let cipher = self.cipher(secret, salt);
        let mut plain = Zeroizing::new(Vec::with_capacity(length));
        let mut at = HEAD_BYTES as u64;
        for number in 0..pieces as u64 {
            let mut sealed = vec![0; PIECE_BYTES.min(length - plain.len()) + TAG_BYTES];
            file.read_exact_at(&mut sealed, at).ok()?;
            at += sealed.len() as u64;
            let opened = cipher.decrypt(&nonce(number), Payload { msg: &sealed, aad: &head }).ok()?;
            plain.extend_from_slice(&Zeroizing::new(opened));
        }
        Some(plain)
    }
}

impl End {
    /// Tells whether a log goes on from where the snapshot ends.
    pub(super) fn fits(&self, reader: &Reader) -> bool {
        let Some((last, hash)) = self.0 else { return true };
        last.get() < reader.size().get() && reader.leaf_hash(last).is_ok_and(|there| there == hash)
    }
}

fn nonce(number: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    let (_, counter) = nonce.split_at_mut(4);
    counter.copy_from_slice(&number.to_be_bytes());
    Nonce::from(nonce)
}
