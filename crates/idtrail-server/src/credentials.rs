//! The credentials of calling systems and persons, in one small file.
//!
//! A calling system has an API key, `idt_<env>_<id>_<secret><checksum>`; a person has a client id, `person_<id>`, and
//! a client secret, `ids_<secret><checksum>`, exchanged for short-lived tokens at `/oauth/token`. Both secrets are 32
//! random bytes, so that one SHA-256 at rest is enough: there is nothing to guess, and a slow hash would only slow
//! down every request. The checksum lets secret scanners tell a real key from a lookalike without asking us.
//!
//! The file is replaced as a whole under a lock. A running server sees a change within a second or two
//! ([`watch`]); look-ups never touch the disk. A secret is shown once, when it is made, and never stored.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use idtrail_port::{Disk, DiskLock, Entropy, Privacy, append_extension, random, read_optional, write_atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

mod roles;
mod watch;
pub use roles::{Role, RoleSet, UnknownRole};
pub use watch::watch;

/// Longest file in bytes.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Live keys that one calling system may have in one environment: two, so that a key can be rotated without a gap.
const LIVE_KEYS_MAX: usize = 2;
/// Characters of 32 random bytes in base32.
const SECRET_CHARS: usize = 52;
/// Characters of the checksum: the first 4 bytes of a SHA-256 in base32.
const CHECKSUM_CHARS: usize = 7;
/// Longest credential that is looked at.
const CREDENTIAL_CHARS_MAX: usize = 128;
const KEY_PREFIX: &str = "idt";
const PERSON_PREFIX: &str = "person_";
const SECRET_PREFIX: &str = "ids_";

/// An API key as it is kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRecord {
    /// Public part of the key: 16 characters of base32.
    pub id: String,
    /// Environment, such as `live` or `test`; part of the key so that a mix-up is visible.
    pub env: String,
    /// Name of the calling system. It stands in every event that the system sends and is part of deduplication, so
    /// the successor of a key carries the same name.
    pub name: String,
    /// What the key may do.
    pub roles: RoleSet,
    sha256: HexDigest,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: i64,
    /// From when on it is refused.
    pub expires_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

/// A person as it is kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonRecord {
    /// Client id and subject of tokens: `person_` and 16 characters of base32.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// What the person may do.
    pub roles: RoleSet,
    sha256: HexDigest,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: i64,
    /// From when on it is refused.
    pub expires_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

impl KeyRecord {
    /// Tells whether the key is neither expired nor revoked.
    #[must_use]
    pub fn is_live(&self, now_ms: i64) -> bool {
        state(self.expires_ms, self.revoked_ms, now_ms).is_ok()
    }
}

impl PersonRecord {
    /// Tells whether the person's credential is neither expired nor revoked.
    #[must_use]
    pub fn is_live(&self, now_ms: i64) -> bool {
        state(self.expires_ms, self.revoked_ms, now_ms).is_ok()
    }
}

/// A SHA-256, as 64 hex digits in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct HexDigest([u8; 32]);

impl fmt::Debug for HexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[digest]")
    }
}

impl Serialize for HexDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("digest is not 64 hex digits"))
    }
}

/// What a new API key is for.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Environment: 1 to 12 characters of `a-z 0-9`.
    pub env: String,
    /// Name of the calling system: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// What it may do; at least one role.
    pub roles: RoleSet,
    /// From when on it is refused.
    pub expires_ms: Option<i64>,
}

/// What a new person's credential is for.
#[derive(Clone, Debug)]
pub struct NewPerson {
    /// Name for people: 1 to 128 characters, none of them a control character.
    pub name: String,
    /// What the person may do; at least one role.
    pub roles: RoleSet,
    /// From when on it is refused.
    pub expires_ms: Option<i64>,
}

/// A new credential. The secret is here and nowhere else; it has to be shown now or is lost.
pub struct Created {
    /// The public id: of a key, or a person's client id.
    pub id: String,
    /// The whole API key, or the client secret.
    pub secret: Zeroizing<String>,
}

/// Why a presented credential is refused. For the log only: the client is told no more than "refused".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not have the form of a credential.
    #[error("malformed")]
    Malformed,
    /// The checksum is wrong: mistyped or cut off.
    #[error("wrong checksum")]
    Checksum,
    /// There is no credential of this id.
    #[error("unknown id")]
    Unknown,
    /// The id is right, the secret is not.
    #[error("wrong secret")]
    WrongSecret,
    /// It was revoked.
    #[error("revoked")]
    Revoked,
    /// It is past its expiry.
    #[error("expired")]
    Expired,
}

impl Refusal {
    /// Returns a word for logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Checksum => "checksum",
            Self::Unknown => "unknown",
            Self::WrongSecret => "wrong_secret",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// Why the store could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A name, environment or role set breaks its rule, which the text states.
    #[error("{0}")]
    Invalid(&'static str),
    /// The calling system already has as many live keys as it may.
    #[error("calling system has two live keys already, revoke one first")]
    TooManyLive,
    /// There is no credential of this id.
    #[error("there is no credential of this id")]
    NotFound,
    /// Another process is changing the file at this moment.
    #[error("credentials file is being changed by another process, try again")]
    Busy,
    /// The file is not one that this program wrote.
    #[error("credentials file is damaged. path={}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// Reading or writing failed.
    #[error("credentials file cannot be read or written. path={}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    keys: Vec<KeyRecord>,
    persons: Vec<PersonRecord>,
}

/// What one version of the file says.
#[derive(Default)]
struct Snapshot {
    digest: [u8; 32],
    document: Document,
    keys: HashMap<String, Arc<KeyRecord>>,
    persons: HashMap<String, Arc<PersonRecord>>,
}

/// The credentials of one data directory.
pub struct CredentialStore {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    snapshot: RwLock<Arc<Snapshot>>,
}

impl fmt::Debug for CredentialStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl CredentialStore {
    /// Opens the store in a data directory. A file that does not exist is a store without credentials.
    ///
    /// # Errors
    /// `Io` or `Damaged`.
    pub fn open(disk: Arc<dyn Disk>, data_dir: &Path) -> Result<Self, StoreError> {
        let store = Self { disk, path: data_dir.join("credentials.json"), snapshot: RwLock::default() };
        store.reload_if_changed()?;
        Ok(store)
    }

    /// Reads the file and, if it says something new, uses that from now on. Returns whether it did. After an error
    /// the last good state stays in use.
    ///
    /// # Errors
    /// `Io` or `Damaged`.
    pub fn reload_if_changed(&self) -> Result<bool, StoreError> {
        let bytes =
            read_optional(&*self.disk, &self.path, FILE_BYTES_MAX).map_err(|source| self.io(source))?;
        // Comparing the content instead of its length or age cannot miss a change, and the file is small.
        let digest = bytes.as_ref().map_or([0; 32], |bytes| Sha256::digest(bytes).into());
        if digest == self.current().digest {
            return Ok(false);
        }
        let document = match bytes {
            Some(bytes) => self.decode(&bytes)?,
            None => Document::default(),
        };
        self.adopt(document, digest);
        Ok(true)
    }

    /// Makes an API key. `now_ms` is the time of making.
    ///
    /// # Errors
    /// `Invalid`, `TooManyLive`, `Busy`, `Io` or `Damaged`.
    pub fn create_key(&self, entropy: &dyn Entropy, now_ms: i64, new: NewKey) -> Result<Created, StoreError> {
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if new.env.is_empty() || new.env.len() > 12 || !new.env.chars().all(lower) {
            return Err(StoreError::Invalid("environment must be 1 to 12 characters of a-z 0-9"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if new.name.is_empty() || new.name.len() > 64 || !new.name.chars().all(plain) {
            return Err(StoreError::Invalid("name must be 1 to 64 characters of A-Z a-z 0-9 . _ -"));
        }
        check_roles_and_expiry(new.roles, new.expires_ms, now_ms)?;
        self.change(|document| {
            let siblings = document.keys.iter().filter(|key| key.name == new.name && key.env == new.env);
            if siblings.filter(|key| key.is_live(now_ms)).count() >= LIVE_KEYS_MAX {
                return Err(StoreError::TooManyLive);
            }
            let id = base32(&random::<10>(entropy));
            let secret = with_checksum(&[&format!("{KEY_PREFIX}_{}_{id}_", new.env)], entropy);
            document.keys.push(KeyRecord {
                id: id.clone(),
                env: new.env,
                name: new.name,
                roles: new.roles,
                sha256: digest(&secret),
                created_ms: now_ms,
                expires_ms: new.expires_ms,
                revoked_ms: None,
            });
            Ok(Created { id, secret })
        })
    }

    /// Gives a live API key a successor with the same name, environment and roles. The old key counts until
    /// `old_until_ms`, or its own end if that is sooner. The new one ends at `expires_ms`; without it, it is made for as
    /// long as the old one was.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` if the key is not live, `TooManyLive`, `Busy`, `Io` or `Damaged`.
    pub fn rotate_key(
        &self,
        entropy: &dyn Entropy,
        now_ms: i64,
        id: &str,
        old_until_ms: i64,
        expires_ms: Option<i64>,
    ) -> Result<Created, StoreError> {
        self.change(|document| {
            let old = document.keys.iter_mut().find(|key| key.id == id).ok_or(StoreError::NotFound)?;
            if !old.is_live(now_ms) {
                return Err(StoreError::Invalid(
                    "a key that is revoked or expired has no successor, create one",
                ));
            }
            let lifetime_ms = old.expires_ms.map(|expires_ms| expires_ms.saturating_sub(old.created_ms));
            let expires_ms = expires_ms.or(lifetime_ms.map(|lifetime_ms| now_ms.saturating_add(lifetime_ms)));
            old.expires_ms = Some(old.expires_ms.map_or(old_until_ms, |own| own.min(old_until_ms)));
            let (env, name, roles) = (old.env.clone(), old.name.clone(), old.roles);
            let mut siblings = document.keys.iter().filter(|key| key.name == name && key.env == env);
            if siblings.any(|key| key.id != id && key.is_live(now_ms)) {
                return Err(StoreError::TooManyLive);
            }
            let new_id = base32(&random::<10>(entropy));
            let secret = with_checksum(&[&format!("{KEY_PREFIX}_{env}_{new_id}_")], entropy);
            document.keys.push(KeyRecord {
                id: new_id.clone(),
                env,
                name,
                roles,
                sha256: digest(&secret),
                created_ms: now_ms,
                expires_ms,
                revoked_ms: None,
            });
            Ok(Created { id: new_id, secret })
        })
    }

    /// Makes a person's credential. `now_ms` is the time of making.
    ///
    /// # Errors
    /// `Invalid`, `Busy`, `Io` or `Damaged`.
    pub fn create_person(
        &self,
        entropy: &dyn Entropy,
        now_ms: i64,
        new: NewPerson,
    ) -> Result<Created, StoreError> {
        let chars = new.name.chars().count();
        if chars == 0 || chars > 128 || new.name.chars().any(char::is_control) {
            return Err(StoreError::Invalid("name must be 1 to 128 characters without control characters"));
        }
        check_roles_and_expiry(new.roles, new.expires_ms, now_ms)?;
        self.change(|document| {
            let id = format!("{PERSON_PREFIX}{}", base32(&random::<10>(entropy)));
            let secret = with_checksum(&[SECRET_PREFIX], entropy);
            document.persons.push(PersonRecord {
                id: id.clone(),
                name: new.name,
                roles: new.roles,
                sha256: digest(&secret),
                created_ms: now_ms,
                expires_ms: new.expires_ms,
                revoked_ms: None,
            });
            Ok(Created { id, secret })
        })
    }

    /// Revokes a key or a person by id. Revoking twice keeps the first time.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Io` or `Damaged`.
    pub fn revoke(&self, id: &str, now_ms: i64) -> Result<(), StoreError> {
        self.change(|document| {
            let keys = document.keys.iter_mut().filter(|key| key.id == id).map(|key| &mut key.revoked_ms);
            let persons = document.persons.iter_mut().filter(|person| person.id == id);
            let revoked = keys
                .chain(persons.map(|person| &mut person.revoked_ms))
                .next()
                .ok_or(StoreError::NotFound)?;
            revoked.get_or_insert(now_ms);
            Ok(())
        })
    }

    /// Returns all API keys, oldest first, the revoked ones too.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyRecord> {
        self.current().document.keys.clone()
    }

    /// Returns all persons, oldest first, the revoked ones too.
    #[must_use]
    pub fn persons(&self) -> Vec<PersonRecord> {
        self.current().document.persons.clone()
    }

    /// Returns the key that was presented whole.
    ///
    /// # Errors
    /// Why it is refused, for the log.
    pub fn check_key(&self, presented: &str, now_ms: i64) -> Result<Arc<KeyRecord>, Refusal> {
        if presented.len() > CREDENTIAL_CHARS_MAX {
            return Err(Refusal::Malformed);
        }
        let mut parts = presented.split('_');
        let (Some(KEY_PREFIX), Some(env), Some(id), Some(rest), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed);
        };
        check_form(rest)?;
        let record =
            self.current().keys.get(id).cloned().ok_or_else(|| mistyped_or(Refusal::Unknown, presented))?;
        if record.env != env || !matches(&record.sha256, presented) {
            return Err(mistyped_or(Refusal::WrongSecret, presented));
        }
        state(record.expires_ms, record.revoked_ms, now_ms)?;
        Ok(record)
    }

    /// Returns the person with this client id and secret.
    ///
    /// # Errors
    /// Why it is refused, for the log.
    pub fn check_person(&self, id: &str, secret: &str, now_ms: i64) -> Result<Arc<PersonRecord>, Refusal> {
        if id.len() > CREDENTIAL_CHARS_MAX || secret.len() > CREDENTIAL_CHARS_MAX {
            return Err(Refusal::Malformed);
        }
        check_form(secret.strip_prefix(SECRET_PREFIX).ok_or(Refusal::Malformed)?)?;
        let record =
            self.current().persons.get(id).cloned().ok_or_else(|| mistyped_or(Refusal::Unknown, secret))?;
        if !matches(&record.sha256, secret) {
            return Err(mistyped_or(Refusal::WrongSecret, secret));
        }
        state(record.expires_ms, record.revoked_ms, now_ms)?;
        Ok(record)
    }

    /// Returns the person of an id that a token names, if the person is still live.
    ///
    /// # Errors
    /// `Unknown`, `Revoked` or `Expired`.
    pub fn live_person(&self, id: &str, now_ms: i64) -> Result<Arc<PersonRecord>, Refusal> {
        let record = self.current().persons.get(id).cloned().ok_or(Refusal::Unknown)?;
        state(record.expires_ms, record.revoked_ms, now_ms)?;
        Ok(record)
    }

    /// Tells whether there is a person of this id, live or not.
    #[must_use]
    pub fn knows_person(&self, id: &str) -> bool {
        self.current().persons.contains_key(id)
    }

    /// Changes the file under its lock, from what it says now and not from what this process read earlier.
    fn change<T>(&self, edit: impl FnOnce(&mut Document) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _lock = self.lock()?;
        self.reload_if_changed()?;
        let mut document = self.current().document.clone();
        document.version = 1;
        let outcome = edit(&mut document)?;
        let bytes = serde_json::to_vec_pretty(&document)
            .map_err(|source| StoreError::Damaged { path: self.path.clone(), source })?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(StoreError::Invalid("there are too many credentials"));
        }
        write_atomic(&*self.disk, &self.path, &bytes, Privacy::Owner).map_err(|source| self.io(source))?;
        self.adopt(document, Sha256::digest(&bytes).into());
        Ok(outcome)
    }

    fn lock(&self) -> Result<Box<dyn DiskLock>, StoreError> {
        self.disk.lock(&append_extension(&self.path, "lock")).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StoreError::Busy,
            _ => self.io(source),
        })
    }

    fn decode(&self, bytes: &[u8]) -> Result<Document, StoreError> {
        let damaged = |source| StoreError::Damaged { path: self.path.clone(), source };
        let document: Document = serde_json::from_slice(bytes).map_err(damaged)?;
        if document.version != 1 {
            return Err(damaged(serde::de::Error::custom("version is not 1")));
        }
        Ok(document)
    }

    fn adopt(&self, document: Document, digest: [u8; 32]) {
        let keys = document.keys.iter().map(|key| (key.id.clone(), Arc::new(key.clone()))).collect();
        let persons = document.persons.iter().map(|one| (one.id.clone(), Arc::new(one.clone()))).collect();
        let snapshot = Arc::new(Snapshot { digest, document, keys, persons });
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn io(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), source }
    }
}

fn state(expires_ms: Option<i64>, revoked_ms: Option<i64>, now_ms: i64) -> Result<(), Refusal> {
    if revoked_ms.is_some() {
        return Err(Refusal::Revoked);
    }
    if expires_ms.is_some_and(|expires| now_ms >= expires) {
        return Err(Refusal::Expired);
    }
    Ok(())
}

fn check_roles_and_expiry(roles: RoleSet, expires_ms: Option<i64>, now_ms: i64) -> Result<(), StoreError> {
    if roles.is_empty() {
        return Err(StoreError::Invalid("at least one role is needed"));
    }
    if expires_ms.is_some_and(|expires| expires <= now_ms) {
        return Err(StoreError::Invalid("expiry must lie in the future"));
    }
    Ok(())
}

/// Checks length and alphabet of secret and checksum.
fn check_form(secret_and_checksum: &str) -> Result<(), Refusal> {
    let base32 = |byte: u8| matches!(byte, b'a'..=b'z' | b'2'..=b'7');
    let whole = secret_and_checksum.len() == SECRET_CHARS + CHECKSUM_CHARS;
    if whole && secret_and_checksum.bytes().all(base32) { Ok(()) } else { Err(Refusal::Malformed) }
}

/// Returns `Checksum` if that is wrong, else `refusal`. Only a refused credential needs this: the digest at rest
/// covers the checksum too. A checksum is no secret, so it is compared in variable time.
fn mistyped_or(refusal: Refusal, whole: &str) -> Refusal {
    match whole.split_at_checked(whole.len().saturating_sub(CHECKSUM_CHARS)) {
        Some((body, given)) if checksum(body) == given => refusal,
        _ => Refusal::Checksum,
    }
}

fn matches(stored: &HexDigest, presented: &str) -> bool {
    stored.0.ct_eq(&digest(presented).0).into()
}

fn digest(text: &str) -> HexDigest {
    HexDigest(Sha256::digest(text.as_bytes()).into())
}

fn checksum(body: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(body.as_bytes()).into();
    let [a, b, c, d, ..] = digest;
    base32(&[a, b, c, d])
}

/// Returns the parts, 32 random bytes and a checksum over all of it.
fn with_checksum(parts: &[&str], entropy: &dyn Entropy) -> Zeroizing<String> {
    let random = Zeroizing::new(random::<32>(entropy));
    let secret = Zeroizing::new(base32(&*random));
    // Room for all of it at once: growing would leave a copy of the secret in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(CREDENTIAL_CHARS_MAX));
    for part in parts {
        text.push_str(part);
    }
    text.push_str(&secret);
    let sum = checksum(&text);
    text.push_str(&sum);
    text
}

/// Encodes in lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text
}

#[cfg(test)]
mod tests;
