//! The sealed record of a request: what its leaves must not say, under a key that is destroyed when it is due.
//!
//! A record has a number in a key tree of its own in the vault, and its file is sealed under the key of that number. To
//! destroy it the key is punctured, so that no copy of the file opens any more; then the file goes. A request has two: one
//! with whom it is about, which ends with the request, and one with its certificates.
//!
//! What it must never do: seal two records under one number, or leave a record to a request that has ended.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce as AeadNonce};
use idtrail_port::{Disk, Entropy, Privacy, create_dir_durable, random, read_whole, write_atomic};
use idtrail_rights::{Digest, RequestId};
use idtrail_vault::{Keyring, Section};
use idtrail_verify::CertificateBody;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const SUFFIX: &str = ".record";
const NONCE_BYTES: usize = 12;
const FILE_BYTES_MAX: u64 = 64 << 20;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// Whom the request is about.
    Person,
    /// Its certificates.
    Certificates,
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
    #[serde(default)]
    pub(crate) planned: Option<Found>,
    #[serde(default)]
    pub(crate) frozen: Option<Frozen>,
    #[serde(default)]
    pub(crate) bodies: Vec<CertificateBody>,
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
}

impl Records {
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        dir: PathBuf,
        keys: Keyring,
    ) -> Result<Self, RecordError> {
        create_dir_durable(&*disk, &dir)?;
        Ok(Self { disk, entropy, dir, keys })
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

    /// Returns a number that no record has or had.
    pub(crate) fn free_number(&self) -> Result<u64, RecordError> {
        let mut number = NAMING + 1;
        while self.keys.index_secret(number, Section::Event).is_err()
            || self.disk.exists(&self.path(number))?
        {
            number += 1;
        }
        Ok(number)
    }

    /// Writes a record; durable when this returns.
    pub(crate) fn write(&self, number: u64, record: &Record) -> Result<(), RecordError> {
        let plain = Zeroizing::new(serde_json::to_vec(record).map_err(|_| RecordError::Damaged)?);
        let nonce = random::<NONCE_BYTES>(&*self.entropy);
        let aad = self.aad(number);
        let payload = Payload { msg: &plain, aad: &aad };
        let sealed = self.cipher(number)?.encrypt(&AeadNonce::from(nonce), payload);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.map_err(|_| RecordError::Damaged)?);
        write_atomic(&*self.disk, &self.path(number), &bytes, Privacy::Owner)?;
        Ok(())
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
        let cipher = self.cipher(number)?;
        let bytes = read_whole(&*self.disk, &self.path(number), FILE_BYTES_MAX)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(RecordError::Damaged)?;
        let payload = Payload { msg: sealed, aad: &self.aad(number) };
        let plain = cipher.decrypt(&AeadNonce::from(*nonce), payload).map_err(|_| RecordError::Damaged)?;
        let plain = Zeroizing::new(plain);
        serde_json::from_slice(&plain).map_err(|_| RecordError::Damaged)
    }

    /// Removes the file of a record whose key was destroyed.
    pub(crate) fn remove(&self, number: u64) -> Result<(), RecordError> {
        let path = self.path(number);
        if self.disk.exists(&path)? {
            self.disk.remove(&path)?;
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010x}{SUFFIX}"))
    }

    fn aad(&self, number: u64) -> Vec<u8> {
        format!("idtrail/rights/record/v1\0{}\0{number}", self.keys.origin()).into_bytes()
    }

    fn cipher(&self, number: u64) -> Result<Aes256Gcm, RecordError> {
        let secret = self.keys.index_secret(number, Section::Event).map_err(|_| RecordError::Key)?;
        let key = Digest::of("idtrail/rights/record-key/v1", &[secret.expose()]);
        Ok(Aes256Gcm::new(&(*key.as_bytes()).into()))
    }
}

/// Returns the id of a new request: `dsr_` and 26 random base32 characters.
pub(crate) fn request_id(entropy: &dyn Entropy) -> RequestId {
    let text = data_encoding::BASE32_NOPAD.encode(&random::<16>(entropy)).to_ascii_lowercase();
    RequestId::parse(&format!("dsr_{text}")).expect("letters and digits")
}
