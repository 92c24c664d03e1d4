//! Events that were refused but are kept, sealed, until somebody corrects them or their time is over.
//!
//! One file an event, sealed with AES-256-GCM under a key derived from the vault. What may be raw personal data was
//! taken out before ([`idtrail_event::Rejected`]); of a body that does not even parse only its size, a keyed digest and
//! the place of the error are kept. An entry is on disk before the sender is told. Its id is a keyed hash of who sent
//! what, so the same refused event sent again is the same entry.
//!
//! Removing an entry overwrites its file with zeros, syncs, and removes the name. What is kept here is found by
//! requests for access and erasure like the log itself: by the keyed hash of the client's customer id.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use idtrail_event::{Dedupe, DedupeKind, DedupeValue, Rejected, SourceCode};
use idtrail_index::facts::{Hasher, Key};
use idtrail_port::{Disk, Entropy, Privacy, create_dir_durable, read_whole, wipe, write_atomic};
use idtrail_vault::{ErasedEvent, Suppression};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::problem::FieldError;
use crate::settings::QuarantineSettings;

const MAGIC: &[u8; 4] = b"idq\x01";
const NONCE_BYTES: usize = 12;
/// A body of 48 KiB, its findings and what JSON adds.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Name of an entry: `q_` and 26 base32 characters of a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuarantineId([u8; 16]);

impl std::fmt::Display for QuarantineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "q_{}", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl QuarantineId {
    /// Reads an id.
    pub fn parse(text: &str) -> Option<Self> {
        let digits =
            text.strip_prefix("q_").filter(|digits| !digits.bytes().any(|b| b.is_ascii_uppercase()))?;
        let bytes = BASE32_NOPAD.decode(digits.to_ascii_uppercase().as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

/// Who sent something, and through which door.
#[derive(Clone, Debug)]
pub struct Sender<'a> {
    /// The calling system's name.
    pub system: &'a str,
    /// The acting person's id.
    pub actor: Option<&'a str>,
    /// The kind of entry point.
    pub source: SourceCode,
    /// By what a repetition is recognised.
    pub dedupe: Dedupe<'static>,
}

/// Why an event was refused: one finding. Holds no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Where (JSON Pointer).
    pub pointer: String,
    /// What, as a stable code.
    pub code: String,
    /// What, in words.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl From<&FieldError> for Reason {
    fn from(error: &FieldError) -> Self {
        let hint = error.hint.as_deref().unwrap_or_default().to_owned();
        let (code, message) = (error.code.clone().into_owned(), error.message.clone().into_owned());
        Self { pointer: error.pointer.clone(), code, message, hint }
    }
}

/// An entry, opened.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When it was received, milliseconds since 1970.
    pub received_ms: u64,
    /// When it is destroyed, milliseconds since 1970.
    pub expires_ms: u64,
    /// The calling system's name.
    pub system: String,
    /// The acting person's id.
    pub actor: Option<String>,
    source: u8,
    dedupe_kind: u8,
    dedupe_text: Option<String>,
    dedupe_bytes: Option<String>,
    /// Why it was refused.
    pub reasons: Vec<Reason>,
    /// The body, without what may be raw personal data; `None` if it did not parse.
    pub body: Option<Value>,
    /// How many values were taken out; such an entry needs a corrected body.
    pub redacted: u32,
    /// Of a body that did not parse: its length in bytes.
    pub body_bytes: Option<u64>,
    /// Of a body that did not parse: a keyed digest.
    pub body_digest: Option<String>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("reasons", &self.reasons).finish_non_exhaustive()
    }
}

impl Entry {
    /// Returns the kind of entry point.
    pub fn source(&self) -> SourceCode {
        SourceCode::new(self.source)
    }

    /// Returns by what a repetition is recognised.
    pub fn dedupe(&self) -> Dedupe<'static> {
        let kind = DedupeKind::new(self.dedupe_kind);
        let bytes = self.dedupe_bytes.as_ref().and_then(|text| BASE64.decode(text.as_bytes()).ok());
        match (&self.dedupe_text, bytes) {
            (Some(text), _) => Dedupe::text(kind, text).into_owned(),
            (None, Some(bytes)) => Dedupe::bytes(kind, &bytes).into_owned(),
            (None, None) => Dedupe { kind, id: DedupeValue::Absent },
        }
    }

    /// Returns the client's own customer id that the event names, if what is left of it names one.
    pub fn customer_id(&self) -> Option<&str> {
        self.member("resolvedCustomerId")
    }

    fn member(&self, name: &str) -> Option<&str> {
        self.body.as_ref()?.get("auditEvent")?.get(name)?.as_str()
    }
}

/// What is known of an entry without opening it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// When it was received, milliseconds since 1970.
    pub received_ms: u64,
    /// When it is destroyed, milliseconds since 1970; `None` if the file is damaged.
    pub expires_ms: Option<u64>,
    /// The calling system's name; empty if the file is damaged.
    pub system: String,
    /// Why it was refused.
    pub reasons: Vec<Reason>,
    /// How many values were taken out.
    pub redacted: u32,
    /// Whether the body parsed, so that it can be replayed.
    pub has_body: bool,
    /// The client's own customer id, keyed.
    pub customer: Option<Key>,
    /// The interaction, keyed.
    pub interaction: Option<Key>,
}

/// Why the quarantine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// There are as many entries as the configuration allows.
    #[error("the quarantine is full. entries={entries}")]
    Full {
        /// How many there are.
        entries: usize,
    },
    /// The disk refuses.
    #[error("the quarantine cannot be read or written. path={}", path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("an entry of the quarantine is damaged. id={id}")]
    Damaged {
        /// Which.
        id: QuarantineId,
    },
}

/// The quarantine of one installation.
pub struct Quarantine {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    dir: PathBuf,
    cipher: Aes256Gcm,
    naming: Zeroizing<[u8; 32]>,
    hasher: Arc<Hasher>,
    settings: QuarantineSettings,
    known: Mutex<Known>,
    writing: Mutex<()>,
}

#[derive(Default)]
struct Known {
    entries: HashMap<QuarantineId, Summary>,
    order: BTreeMap<(u64, QuarantineId), ()>,
}

impl Known {
    fn insert(&mut self, id: QuarantineId, summary: Summary) {
        if let Some(old) = self.entries.get(&id) {
            self.order.remove(&(old.received_ms, id));
        }
        self.order.insert((summary.received_ms, id), ());
        self.entries.insert(id, summary);
    }

    fn remove(&mut self, id: QuarantineId) {
        if let Some(old) = self.entries.remove(&id) {
            self.order.remove(&(old.received_ms, id));
        }
    }
}

impl std::fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quarantine").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Quarantine {
    /// Opens the quarantine in a data directory and reads what is in it; what was destroyed and came back out of a backup
    /// is destroyed again. `secret` is a secret of the vault from which
    /// the keys are derived.
    ///
    /// # Errors
    /// `Disk`.
    pub fn open(
        (disk, entropy): (Arc<dyn Disk>, Arc<dyn Entropy>),
        data_dir: &Path,
        secret: &[u8; 32],
        hasher: Arc<Hasher>,
        settings: QuarantineSettings,
        (suppression, now_ms): (&Suppression, u64),
    ) -> Result<Self, QuarantineError> {
        let dir = data_dir.join("quarantine");
        let failed = |source| QuarantineError::Disk { path: dir.clone(), source };
        create_dir_durable(&*disk, &dir).map_err(failed)?;
        let derive = |purpose: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            let prk = Hkdf::<Sha256>::new(None, secret);
            prk.expand_multi_info(&[b"idtrail/quarantine/v1/", purpose], key.as_mut())
                .expect("HKDF gives 32 bytes");
            key
        };
        let cipher = Aes256Gcm::new(&(*derive(b"seal")).into());
        let naming = derive(b"name");
        let new = Self {
            disk,
            entropy,
            dir,
            cipher,
            naming,
            hasher,
            settings,
            known: Mutex::default(),
            writing: Mutex::default(),
        };
        for name in new.disk.list(&new.dir).map_err(|source| new.failed(&new.dir, source))? {
            match QuarantineId::parse(&name) {
                Some(id) => {
                    let summary = match new.get(id) {
                        Ok(Some(entry)) => new.summary(&entry),
                        Ok(None) => continue,
                        Err(QuarantineError::Damaged { .. }) => damaged(),
                        Err(error) => return Err(error),
                    };
                    let gone = new.removal(id, summary.received_ms);
                    if suppression.find(&gone, &[0; 32], now_ms).is_some() {
                        new.destroy(&new.path(id))?;
                        continue;
                    }
                    new.known().insert(id, summary);
                }
                // A write that a crash cut short; its sender was never told that it is kept.
                None => new.destroy(&new.dir.join(name))?,
            }
        }
        Ok(new)
    }

    /// Keeps a refused event.
    ///
    /// # Errors
    /// `Full` or `Disk`; nothing is kept then.
    pub fn keep(
        &self,
        sender: &Sender<'_>,
        rejected: Rejected,
        received_ms: u64,
    ) -> Result<QuarantineId, QuarantineError> {
        let reasons =
            rejected.violations.into_iter().map(|finding| Reason::from(&FieldError::from(finding))).collect();
        let mut entry = self.entry(sender, reasons, received_ms);
        entry.redacted = rejected.redacted;
        let content = rejected.body.to_string();
        entry.body = Some(rejected.body);
        self.put(self.id(sender, content.as_bytes()), &entry)
    }

    /// Keeps what can be known of a body that does not parse.
    ///
    /// # Errors
    /// `Full` or `Disk`; nothing is kept then.
    pub fn keep_unparsed(
        &self,
        sender: &Sender<'_>,
        body: &[u8],
        reason: Reason,
        received_ms: u64,
    ) -> Result<QuarantineId, QuarantineError> {
        let mut entry = self.entry(sender, vec![reason], received_ms);
        entry.body_bytes = Some(body.len() as u64);
        entry.body_digest = Some(HEXLOWER.encode(&self.keyed(&[b"body", body])));
        self.put(self.id(sender, body), &entry)
    }

    /// Returns the entries after a place in the order of their receipt, at most `limit`.
    pub fn list(&self, after: Option<(u64, QuarantineId)>, limit: usize) -> Vec<(QuarantineId, Summary)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let known = self.known();
        let from = after.map_or(Unbounded, Excluded);
        let ids = known.order.range((from, Unbounded)).take(limit).map(|((_, id), ())| *id);
        ids.filter_map(|id| Some((id, known.entries.get(&id)?.clone()))).collect()
    }

    /// Returns how many entries there are.
    pub fn len(&self) -> usize {
        self.known().entries.len()
    }

    /// Tells whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the entries of which `fits` says so.
    pub fn search(&self, fits: impl Fn(&Summary) -> bool) -> Vec<QuarantineId> {
        let known = self.known();
        known.order.keys().map(|(_, id)| *id).filter(|id| known.entries.get(id).is_some_and(&fits)).collect()
    }

    /// Returns how many entries there are of each of the clients' own customer ids, keyed.
    pub fn customers(&self) -> BTreeMap<Key, u64> {
        let mut customers = BTreeMap::new();
        for customer in self.known().entries.values().filter_map(|entry| entry.customer) {
            *customers.entry(customer).or_insert(0) += 1;
        }
        customers
    }

    /// Opens an entry; `None` if there is none.
    ///
    /// # Errors
    /// `Disk` or `Damaged`.
    pub fn get(&self, id: QuarantineId) -> Result<Option<Entry>, QuarantineError> {
        let path = self.path(id);
        let bytes = match read_whole(&*self.disk, &path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&path, error)),
        };
        self.unseal(id, &bytes).map(Some).ok_or(QuarantineError::Damaged { id })
    }

    /// Returns what the vault has to remember of entries before they are destroyed.
    pub fn removals(&self, ids: &[QuarantineId]) -> Vec<ErasedEvent> {
        let known = self.known();
        let entry = |id: &QuarantineId| {
            let summary = known.entries.get(id)?;
            let dedupe = self.removal(*id, summary.received_ms);
            // A damaged file opens nowhere else either.
            Some(ErasedEvent { dedupe, content: [0; 32], expires_ms: summary.expires_ms? })
        };
        ids.iter().filter_map(entry).collect()
    }

    /// Names an entry among what the vault remembers; the same event that is refused and kept once more is another one.
    fn removal(&self, id: QuarantineId, received_ms: u64) -> [u8; 32] {
        self.keyed(&[b"removed", &id.0, &received_ms.to_be_bytes()])
    }

    /// Destroys an entry; false if there was none.
    ///
    /// # Errors
    /// `Disk`; it may still be there then.
    pub fn remove(&self, id: QuarantineId) -> Result<bool, QuarantineError> {
        let path = self.path(id);
        let there = self.disk.exists(&path).map_err(|source| self.failed(&path, source))?;
        if there {
            self.destroy(&path)?;
        }
        self.known().remove(id);
        Ok(there)
    }

    /// Destroys every entry whose time is over and returns how many.
    ///
    /// # Errors
    /// `Disk`; the rest stays until the next time.
    pub fn expire(&self, now_ms: u64) -> Result<usize, QuarantineError> {
        let over = self.search(|entry| entry.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms));
        for id in &over {
            self.remove(*id)?;
        }
        Ok(over.len())
    }

    fn entry(&self, sender: &Sender<'_>, reasons: Vec<Reason>, received_ms: u64) -> Entry {
        let (dedupe_text, dedupe_bytes) = match &sender.dedupe.id {
            DedupeValue::Absent => (None, None),
            DedupeValue::Text(text) => (Some(text.clone().into_owned()), None),
            DedupeValue::Bytes(bytes) => (None, Some(BASE64.encode(bytes))),
        };
        Entry {
            received_ms,
            expires_ms: received_ms.saturating_add(self.settings.keep_ms),
            system: sender.system.to_owned(),
            actor: sender.actor.map(str::to_owned),
            source: sender.source.code(),
            dedupe_kind: sender.dedupe.kind.code(),
            dedupe_text,
            dedupe_bytes,
            reasons,
            body: None,
            redacted: 0,
            body_bytes: None,
            body_digest: None,
        }
    }

    fn put(&self, id: QuarantineId, entry: &Entry) -> Result<QuarantineId, QuarantineError> {
        // One after the other: two threads must not write one file, nor fill the last place twice.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let known = self.known();
            if known.entries.contains_key(&id) {
                return Ok(id);
            }
            let entries = known.entries.len();
            if entries >= self.settings.entries_max {
                return Err(QuarantineError::Full { entries });
            }
        }
        let path = self.path(id);
        let bytes = self.seal(id, entry);
        write_atomic(&*self.disk, &path, &bytes, Privacy::Owner)
            .map_err(|source| self.failed(&path, source))?;
        self.known().insert(id, self.summary(entry));
        Ok(id)
    }

    fn seal(&self, id: QuarantineId, entry: &Entry) -> Vec<u8> {
        let plain = Zeroizing::new(serde_json::to_vec(entry).expect("an entry is always JSON"));
        let nonce: [u8; NONCE_BYTES] = idtrail_port::random(&*self.entropy);
        let payload = Payload { msg: &plain, aad: &id.0 };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).expect("the text is short");
        [MAGIC.as_slice(), &nonce, &sealed].concat()
    }

    fn unseal(&self, id: QuarantineId, bytes: &[u8]) -> Option<Entry> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: &id.0 };
        let plain = Zeroizing::new(self.cipher.decrypt(&Nonce::from(*nonce), payload).ok()?);
        serde_json::from_slice(&plain).ok()
    }

    fn summary(&self, entry: &Entry) -> Summary {
        Summary {
            received_ms: entry.received_ms,
            expires_ms: Some(entry.expires_ms),
            system: entry.system.clone(),
            reasons: entry.reasons.clone(),
            redacted: entry.redacted,
            has_body: entry.body.is_some(),
            customer: entry.member("resolvedCustomerId").map(|id| self.hasher.customer(id)),
            interaction: entry.member("interactionId").map(|id| self.hasher.interaction(id)),
        }
    }

    fn id(&self, sender: &Sender<'_>, content: &[u8]) -> QuarantineId {
        let dedupe = sender.dedupe.id_bytes();
        let kind = [sender.dedupe.kind.code()];
        let whole = self.keyed(&[b"id", sender.system.as_bytes(), &kind, dedupe, content]);
        QuarantineId(std::array::from_fn(|at| whole.get(at).copied().unwrap_or(0)))
    }

    fn keyed(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.naming).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn path(&self, id: QuarantineId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn destroy(&self, path: &Path) -> Result<(), QuarantineError> {
        wipe(&*self.disk, path).map_err(|source| self.failed(path, source))
    }

    fn failed(&self, path: &Path, source: io::Error) -> QuarantineError {
        QuarantineError::Disk { path: path.to_owned(), source }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is there but cannot be read is shown, never passed over.
fn damaged() -> Summary {
    let reason = Reason {
        pointer: String::new(),
        code: "damaged".to_owned(),
        message: "the file of this entry is damaged".to_owned(),
        hint: "discard it; ask the sender for the event".to_owned(),
    };
    Summary {
        received_ms: 0,
        expires_ms: None,
        system: String::new(),
        reasons: vec![reason],
        redacted: 0,
        has_body: false,
        customer: None,
        interaction: None,
    }
}

#[cfg(test)]
mod tests;
