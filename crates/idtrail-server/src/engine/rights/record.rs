//! The sealed record of a request: what its leaves must not say, under a key that is destroyed when it is due.
//!
//! A record has a number in a key tree of its own in the vault, and its file is sealed under the key of that number. To
//! destroy it the key is punctured, so that no copy of the file opens any more; then the file goes. A request has up to three:
//! one with whom it is about, which ends with the request, one with its certificates, and one with its package, which ends
//! with the link to it and has the package itself in a file beside it. What is asked for again and again is a record too.
//!
//! What it must never do: seal two records under one number, or leave a record to a request that has ended.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce as AeadNonce};
use idtrail_port::{Disk, Entropy, Privacy, create_dir_durable, random, read_whole, write_atomic};
use idtrail_rights::package::Redactions;
use idtrail_rights::{Digest, Kind, RequestId};
use idtrail_vault::{Keyring, Section};
use idtrail_verify::CertificateBody;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::rectify::Correction;

const SUFFIX: &str = ".record";
const PACKAGE_SUFFIX: &str = ".package";
const NONCE_BYTES: usize = 12;
const FILE_BYTES_MAX: u64 = 64 << 20;
const PACKAGE_BYTES_MAX: u64 = 1 << 30;
/// The number whose key names duplicates; it is never destroyed.
const NAMING: u64 = 0;

/// Why a record could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// The disk refuses.
    #[error("the record of a request cannot be read or written")]
    Disk(#[from] io::Error),
    /// The key is not there.
    #[error("the key of a request's record is not there")]
    Key,
    /// The file is not what was written.
    #[error("the record of a request is damaged")]
    Damaged,
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Part {
    /// Whom the request is about.
    Person,
    /// Its certificates.
    Certificates,
    /// Its package.
    Package,
    /// A request that is opened again and again; its id is that of the schedule.
    Schedule,
}

/// Whom a request is about, as it came in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Whom {
    /// A global id.
    Customer(String),
    /// Type and token.
    Identifier(u16, String),
}

/// What is the person's.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Every global id, today's first.
    pub(crate) customers: Vec<String>,
    /// Identifiers that are nobody else's: type and token.
    pub(crate) identifiers: Vec<(u16, String)>,
    /// Identifiers that others use too.
    pub(crate) shared: u64,
    /// Readable leaves: number of the log, index.
    pub(crate) leaves: Vec<(u32, u64)>,
    /// Interactions that the leaves name.
    pub(crate) interactions: Vec<String>,
    /// Those of the leaves that are the person's by all that is known, but not proved.
    #[serde(default)]
    pub(crate) probable: Vec<(u32, u64)>,
    /// Events that may be the person's or somebody else's.
    #[serde(default)]
    pub(crate) ambiguous: u64,
}

/// The freeze of an erasure.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Frozen {
    /// The effect that it is.
    pub(crate) effect: String,
    /// The cut-off, milliseconds since 1970.
    pub(crate) cutoff_ms: u64,
    /// Size of the log then; 0 until it stands.
    pub(crate) tree_size: u64,
    /// What is erased.
    pub(crate) found: Found,
}

/// What a person decided who looked through what was read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reviewed {
    /// What is taken out.
    pub(crate) redactions: Redactions,
    /// Whether what is not proved to be the person's leaves too.
    pub(crate) probable: bool,
}

/// A package, as it can be fetched.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packaged {
    /// The effect that made it.
    pub(crate) effect: String,
    /// SHA-256 of its manifest, in hex.
    pub(crate) hash: String,
    /// What opens it; travels apart.
    pub(crate) passphrase: String,
    /// What it shows, and whose that was when it was made.
    pub(crate) customers: Vec<String>,
    pub(crate) leaves: Vec<(u32, u64)>,
}

/// A request for data that is opened again and again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Schedule {
    pub(crate) kind: Kind,
    pub(crate) regime: String,
    /// Days from one to the next.
    pub(crate) every_days: u32,
    /// When the next one is opened, milliseconds since 1970.
    pub(crate) next_ms: u64,
    /// When it ends, milliseconds since 1970.
    pub(crate) until_ms: Option<u64>,
    /// Hash of what shows that the person asked for it.
    pub(crate) evidence: String,
    /// Who set it up.
    pub(crate) by: String,
    /// Requests that it opened.
    pub(crate) opened: u64,
}

/// A record.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) request: String,
    pub(crate) part: Part,
    /// The request's nonce, in hex.
    pub(crate) nonce: String,
    /// The likeliest first.
    #[serde(default)]
    pub(crate) whom: Vec<Whom>,
    /// What is to be corrected.
    #[serde(default)]
    pub(crate) corrections: Vec<Correction>,
    #[serde(default)]
    pub(crate) planned: Option<Found>,
    #[serde(default)]
    pub(crate) frozen: Option<Frozen>,
    #[serde(default)]
    pub(crate) bodies: Vec<CertificateBody>,
    #[serde(default)]
    pub(crate) reviewed: Option<Reviewed>,
    #[serde(default)]
    pub(crate) package: Option<Packaged>,
    #[serde(default)]
    pub(crate) schedule: Option<Schedule>,
}

impl Record {
    /// Returns an empty record of a part.
    pub(crate) fn new(request: &RequestId, part: Part, nonce: String) -> Self {
        Self {
            request: request.to_string(),
            part,
            nonce,
            whom: Vec::new(),
            corrections: Vec::new(),
            planned: None,
            frozen: None,
            bodies: Vec::new(),
            reviewed: None,
            package: None,
            schedule: None,
        }
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("part", &self.part).finish_non_exhaustive()
    }
}

/// All records.
pub(crate) struct Records {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    dir: PathBuf,
    keys: Keyring,
    /// All numbers below this one have been given.
    given: AtomicU64,
}

impl Records {
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        dir: PathBuf,
        keys: Keyring,
    ) -> Result<Self, RecordError> {
        create_dir_durable(&*disk, &dir)?;
        Ok(Self { disk, entropy, dir, keys, given: AtomicU64::new(NAMING + 1) })
    }

    /// Returns the name of the key tree.
    pub(crate) fn origin(&self) -> &str {
        self.keys.origin()
    }

    /// Names whom requests are about, so that a second one is recognised.
    pub(crate) fn naming(&self, whom: &[u8]) -> Result<Digest, RecordError> {
        let key = self.keys.index_secret(NAMING, Section::Event).map_err(|_| RecordError::Key)?;
        Ok(Digest::of("idtrail/rights/whom/v1", &[key.expose(), whom]))
    }

    /// Returns the secret part of the link to a request's package. It follows from the request, so that a link that has
    /// ended is still told from one that never was.
    pub(crate) fn link(&self, request: &RequestId) -> Result<Digest, RecordError> {
        let key = self.keys.index_secret(NAMING, Section::Event).map_err(|_| RecordError::Key)?;
        Ok(Digest::of("idtrail/rights/link/v1", &[key.expose(), request.as_str().as_bytes()]))
    }

    /// Returns a number that no record has or had.
    pub(crate) fn free_number(&self) -> Result<u64, RecordError> {
        // A number that was given is never free again, so the search goes on where the last one ended.
        let mut number = self.given.load(Ordering::Relaxed);
        while self.keys.index_secret(number, Section::Event).is_err()
            || self.disk.exists(&self.path(number))?
        {
            number += 1;
        }
        self.given.store(number, Ordering::Relaxed);
        Ok(number)
    }

    /// Writes a record; durable when this returns.
    pub(crate) fn write(&self, number: u64, record: &Record) -> Result<(), RecordError> {
        let plain = Zeroizing::new(serde_json::to_vec(record).map_err(|_| RecordError::Damaged)?);
        let bytes = self.seal(number, "record", &plain)?;
        write_atomic(&*self.disk, &self.path(number), &bytes, Privacy::Owner)?;
        Ok(())
    }

    /// Writes the package of a record; durable when this returns.
    pub(crate) fn write_package(&self, number: u64, package: &[u8]) -> Result<(), RecordError> {
        let bytes = self.seal(number, "package", package)?;
        write_atomic(&*self.disk, &self.package_path(number), &bytes, Privacy::Owner)?;
        Ok(())
    }

    /// Reads the package of a record.
    pub(crate) fn read_package(&self, number: u64) -> Result<Vec<u8>, RecordError> {
        let bytes = read_whole(&*self.disk, &self.package_path(number), PACKAGE_BYTES_MAX)?;
        self.unseal(number, "package", &bytes)
    }

    fn seal(&self, number: u64, what: &str, plain: &[u8]) -> Result<Vec<u8>, RecordError> {
        let nonce = random::<NONCE_BYTES>(&*self.entropy);
        let aad = self.aad(number, what);
        let payload = Payload { msg: plain, aad: &aad };
        let sealed = self.cipher(number)?.encrypt(&AeadNonce::from(nonce), payload);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.map_err(|_| RecordError::Damaged)?);
        Ok(bytes)
    }

    fn unseal(&self, number: u64, what: &str, bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
        let cipher = self.cipher(number)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(RecordError::Damaged)?;
        let payload = Payload { msg: sealed, aad: &self.aad(number, what) };
        cipher.decrypt(&AeadNonce::from(*nonce), payload).map_err(|_| RecordError::Damaged)
    }

    /// Reads every record that opens. Files whose key was destroyed are removed.
    pub(crate) fn read_all(&self) -> Result<Vec<(u64, Record)>, RecordError> {
        let mut records = Vec::new();
        for name in self.disk.list(&self.dir)? {
            let Some(number) = name.strip_suffix(SUFFIX).and_then(|hex| u64::from_str_radix(hex, 16).ok())
            else {
                continue;
            };
            match self.read(number) {
                Ok(record) => records.push((number, record)),
                Err(RecordError::Key) => self.remove(number)?,
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    fn read(&self, number: u64) -> Result<Record, RecordError> {
        // A record whose key is gone is no damage, whatever its file holds.
        self.cipher(number)?;
        let bytes = read_whole(&*self.disk, &self.path(number), FILE_BYTES_MAX)?;
        let plain = Zeroizing::new(self.unseal(number, "record", &bytes)?);
        serde_json::from_slice(&plain).map_err(|_| RecordError::Damaged)
    }

    /// Removes the files of a record whose key was destroyed.
    pub(crate) fn remove(&self, number: u64) -> Result<(), RecordError> {
        // The record goes last: while it is there, a start looks for what is left of it.
        for path in [self.package_path(number), self.path(number)] {
            if self.disk.exists(&path)? {
                self.disk.remove(&path)?;
                self.disk.sync_dir(&self.dir)?;
            }
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010x}{SUFFIX}"))
    }

    fn package_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010x}{PACKAGE_SUFFIX}"))
    }

    fn aad(&self, number: u64, what: &str) -> Vec<u8> {
        format!("idtrail/rights/{what}/v1\0{}\0{number}", self.keys.origin()).into_bytes()
    }

    fn cipher(&self, number: u64) -> Result<Aes256Gcm, RecordError> {
        let secret = self.keys.index_secret(number, Section::Event).map_err(|_| RecordError::Key)?;
        let key = Digest::of("idtrail/rights/record-key/v1", &[secret.expose()]);
        Ok(Aes256Gcm::new(&(*key.as_bytes()).into()))
    }
}

/// Returns the id of a new request: `dsr_` and 26 random base32 characters.
pub(crate) fn request_id(entropy: &dyn Entropy) -> RequestId {
    id("dsr", entropy)
}

/// Returns the id of a new schedule: `sch_` and 26 random base32 characters.
pub(crate) fn schedule_id(entropy: &dyn Entropy) -> RequestId {
    id("sch", entropy)
}

fn id(prefix: &str, entropy: &dyn Entropy) -> RequestId {
    let text = data_encoding::BASE32_NOPAD.encode(&random::<16>(entropy)).to_ascii_lowercase();
    RequestId::parse(&format!("{prefix}_{text}")).expect("letters and digits")
}
