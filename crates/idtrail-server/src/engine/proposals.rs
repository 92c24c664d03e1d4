//! What one person proposed about identities and a second one has to approve, where the installation asks for that.
//!
//! A proposal waits for a day in a file of its own, sealed under a key of the vault; it is on disk before its sender is told,
//! and a start reads all of them. At most 100 wait. An approval makes the statement first and destroys the file then; each
//! statement has an id, so a crash in between cannot make it twice. A proposal says nothing yet and is in no backup: one that is
//! lost is made again.
//!
//! What it must never do: let the person who proposed approve, or keep a proposal longer than it waits.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use data_encoding::{BASE64, HEXLOWER};
use hkdf::Hkdf;
use idtrail_event::{Dedupe, DedupeKind, DedupeValue};
use idtrail_index::statement::Statement;
use idtrail_port::{Disk, Entropy, Privacy, create_dir_durable, random, read_whole, wipe, write_atomic};
use serde_json::{Value, json};
use sha2::Sha256;
use zeroize::Zeroizing;

const WAITING_MAX: usize = 100;
const DAY_MS: u64 = 86_400_000;
const MAGIC: &[u8; 4] = b"idp\x01";
const NONCE_BYTES: usize = 12;
/// Rules have at most 24 KiB, and what a change of them would do is listed in part.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A proposal.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Names it: `p-` and 32 hex digits.
    pub id: String,
    /// What is to be stated.
    pub statement: Statement,
    /// The id by which a repetition is recognised: the sender's, or the proposal's own.
    pub dedupe: Dedupe<'static>,
    /// The person who proposed it.
    pub by: String,
    /// What it would have done then.
    pub effect: Value,
    /// Until when it waits, milliseconds since 1970.
    pub expires_ms: u64,
}

impl Proposal {
    /// Returns the statement as it is approved by somebody.
    pub fn approved(&self, approver: &str) -> Statement {
        let mut statement = self.statement.clone();
        match &mut statement {
            Statement::Assertion(assertion) => assertion.approver = Some(approver.to_owned()),
            Statement::Ruleset(change) => change.approver = Some(approver.to_owned()),
            Statement::Reassert(_) => {}
        }
        statement
    }

    fn to_json(&self) -> Value {
        let (text, bytes) = match &self.dedupe.id {
            DedupeValue::Absent => (None, None),
            DedupeValue::Text(text) => (Some(text.clone().into_owned()), None),
            DedupeValue::Bytes(bytes) => (None, Some(BASE64.encode(bytes))),
        };
        json!({
            "statement": self.statement.to_json(), "by": self.by, "effect": self.effect, "expiresMs": self.expires_ms,
            "dedupeKind": self.dedupe.kind.code(), "dedupeText": text, "dedupeBytes": bytes,
        })
    }

    fn from_json(id: &str, value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let kind = DedupeKind::new(u8::try_from(value.get("dedupeKind")?.as_u64()?).ok()?);
        let bytes = text("dedupeBytes").and_then(|text| BASE64.decode(text.as_bytes()).ok());
        let dedupe = match (text("dedupeText"), bytes) {
            (Some(text), _) => Dedupe::text(kind, text).into_owned(),
            (None, Some(bytes)) => Dedupe::bytes(kind, &bytes).into_owned(),
            (None, None) => Dedupe { kind, id: DedupeValue::Absent },
        };
        Some(Self {
            id: id.to_owned(),
            statement: Statement::from_json(value.get("statement")?)?,
            dedupe,
            by: text("by")?.to_owned(),
            effect: value.get("effect")?.clone(),
            expires_ms: value.get("expiresMs")?.as_u64()?,
        })
    }
}

/// Why a proposal is not approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unapproved {
    /// There is none, or it waited too long.
    Unknown,
    /// The person proposed it.
    SamePerson,
}

/// Why proposals cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ProposalsError {
    /// As many wait as may.
    #[error("too many proposals wait")]
    Full,
    /// The disk refuses.
    #[error("a proposal cannot be read or written. path={}", path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

/// The proposals that wait.
pub struct Proposals {
    needed: bool,
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    dir: PathBuf,
    cipher: Aes256Gcm,
    waiting: Mutex<BTreeMap<String, Proposal>>,
}

impl std::fmt::Debug for Proposals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proposals").field("needed", &self.needed).finish_non_exhaustive()
    }
}

impl Proposals {
    /// Reads those that wait in a data directory, and destroys those that waited too long. `secret` is the secret of the vault
    /// from which the key is derived; `needed` says whether statements need a second person.
    ///
    /// # Errors
    /// `Disk`. A file that is not what was written is left alone, with a line in the log.
    pub fn open(
        (disk, entropy): (Arc<dyn Disk>, Arc<dyn Entropy>),
        data_dir: &Path,
        secret: &[u8; 32],
        needed: bool,
        now_ms: u64,
    ) -> Result<Self, ProposalsError> {
        let dir = data_dir.join("proposals");
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, secret)
            .expand(b"idtrail/proposals/v1/seal", key.as_mut())
            .expect("HKDF gives 32 bytes");
        let cipher = Aes256Gcm::new(&(*key).into());
        let new = Self { needed, disk, entropy, dir, cipher, waiting: Mutex::default() };
        let failed = |source| ProposalsError::Disk { path: new.dir.clone(), source };
        if !new.disk.exists(&new.dir).map_err(failed)? {
            if !needed {
                return Ok(new);
            }
            create_dir_durable(&*new.disk, &new.dir).map_err(failed)?;
        }
        for name in new.disk.list(&new.dir).map_err(failed)? {
            let path = new.dir.join(&name);
            if bytes_of(&name).is_none() {
                // A write that a crash cut short; nobody was told that it is kept.
                new.destroy(&path)?;
                continue;
            }
            let bytes = read_whole(&*new.disk, &path, FILE_BYTES_MAX)
                .map_err(|source| ProposalsError::Disk { path: path.clone(), source })?;
            match new.unseal(&name, &bytes) {
                Some(proposal) if proposal.expires_ms > now_ms => {
                    new.lock().insert(name, proposal);
                }
                Some(_) => new.destroy(&path)?,
                None => tracing::error!(id = name, "a proposal is not what was written; it is passed over"),
            }
        }
        Ok(new)
    }

    /// Tells whether statements need a second person.
    pub fn needed(&self) -> bool {
        self.needed
    }

    /// Keeps a proposal under a fresh id, on disk when this returns. Waits for the disk.
    ///
    /// # Errors
    /// `Full` or `Disk`; nothing is kept then.
    pub fn keep(
        &self,
        statement: Statement,
        dedupe: Dedupe<'static>,
        by: &str,
        effect: Value,
        now_ms: u64,
        id: [u8; 16],
    ) -> Result<Proposal, ProposalsError> {
        let mut waiting = self.lock();
        let over: Vec<String> =
            waiting.values().filter(|one| one.expires_ms <= now_ms).map(|one| one.id.clone()).collect();
        for id in over {
            self.destroy(&self.dir.join(&id))?;
            waiting.remove(&id);
        }
        if waiting.len() >= WAITING_MAX {
            return Err(ProposalsError::Full);
        }
        let dedupe = match dedupe.kind {
            DedupeKind::CONTENT => Dedupe::bytes(DedupeKind::SYSTEM, &id).into_owned(),
            _ => dedupe,
        };
        let proposal = Proposal {
            id: format!("p-{}", HEXLOWER.encode(&id)),
            statement,
            dedupe,
            by: by.to_owned(),
            effect,
            expires_ms: now_ms + DAY_MS,
        };
        let path = self.dir.join(&proposal.id);
        write_atomic(&*self.disk, &path, &self.seal(&id, &proposal), Privacy::Owner)
            .map_err(|source| ProposalsError::Disk { path, source })?;
        waiting.insert(proposal.id.clone(), proposal.clone());
        Ok(proposal)
    }

    /// Returns all that wait, oldest first.
    pub fn all(&self, now_ms: u64) -> Vec<Proposal> {
        let waiting = self.lock();
        let mut all: Vec<Proposal> =
            waiting.values().filter(|one| one.expires_ms > now_ms).cloned().collect();
        all.sort_by_key(|proposal| proposal.expires_ms);
        all
    }

    /// Returns the one that came under an id of its sender's.
    pub fn by_id(&self, dedupe: &Dedupe<'_>, now_ms: u64) -> Option<Proposal> {
        if dedupe.kind == DedupeKind::CONTENT {
            return None;
        }
        let waiting = self.lock();
        waiting.values().find(|one| one.expires_ms > now_ms && one.dedupe == *dedupe).cloned()
    }

    /// Returns one that a person approves. It waits until [`Proposals::settle`].
    ///
    /// # Errors
    /// [`Unapproved`].
    pub fn find(&self, id: &str, approver: &str, now_ms: u64) -> Result<Proposal, Unapproved> {
        let waiting = self.lock();
        let proposal = waiting.get(id).filter(|one| one.expires_ms > now_ms).ok_or(Unapproved::Unknown)?;
        if proposal.by == approver {
            return Err(Unapproved::SamePerson);
        }
        Ok(proposal.clone())
    }

    /// Destroys one whose statement was made. Waits for the disk.
    ///
    /// # Errors
    /// `Disk`; it waits on then, and what it says is not made twice.
    pub fn settle(&self, id: &str) -> Result<(), ProposalsError> {
        let mut waiting = self.lock();
        if waiting.contains_key(id) {
            self.destroy(&self.dir.join(id))?;
            waiting.remove(id);
        }
        Ok(())
    }

    fn seal(&self, id: &[u8; 16], proposal: &Proposal) -> Vec<u8> {
        let plain = Zeroizing::new(proposal.to_json().to_string());
        let nonce: [u8; NONCE_BYTES] = random(&*self.entropy);
        let payload = Payload { msg: plain.as_bytes(), aad: id };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).expect("the text is short");
        [MAGIC.as_slice(), &nonce, &sealed].concat()
    }

    fn unseal(&self, name: &str, bytes: &[u8]) -> Option<Proposal> {
        let (nonce, sealed) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: &bytes_of(name)? };
        let plain = Zeroizing::new(self.cipher.decrypt(&Nonce::from(*nonce), payload).ok()?);
        Proposal::from_json(name, &serde_json::from_slice(&plain).ok()?)
    }

    fn destroy(&self, path: &Path) -> Result<(), ProposalsError> {
        wipe(&*self.disk, path).map_err(|source| ProposalsError::Disk { path: path.to_owned(), source })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Proposal>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the bytes behind a name; `None` for a name that no proposal has.
fn bytes_of(name: &str) -> Option<[u8; 16]> {
    HEXLOWER.decode(name.strip_prefix("p-")?.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use idtrail_identity::Actor;
    use idtrail_identity::assertion::{Assertion, AssertionKind};
    use idtrail_sim::{Seed, SimDisk, SimEntropy};

    use super::*;

    fn open(disk: &SimDisk, secret: u8, now_ms: u64) -> Proposals {
        let entropy: Arc<dyn Entropy> = Arc::new(SimEntropy::new(Seed::new(now_ms)));
        Proposals::open((Arc::new(disk.clone()), entropy), Path::new("/data"), &[secret; 32], true, now_ms)
            .unwrap()
    }

    fn disk() -> SimDisk {
        let disk = SimDisk::new(Seed::new(1));
        create_dir_durable(&disk, Path::new("/data")).unwrap();
        disk
    }

    fn keep(proposals: &Proposals, number: u8, at_ms: u64) -> Result<Proposal, ProposalsError> {
        let (kind, reason) = (AssertionKind::Revoke(7), "wrong".to_owned());
        let statement =
            Statement::Assertion(Assertion { kind, actor: Actor::Steward, reason, approver: None });
        proposals.keep(statement, Dedupe::CONTENT, "p_one", json!({ "counts": 1 }), at_ms, [number; 16])
    }

    #[test]
    fn a_second_person_approves_within_a_day() {
        let proposals = open(&disk(), 1, 0);
        let kept = keep(&proposals, 1, 0).unwrap();
        assert_eq!(proposals.find(&kept.id, "p_one", 1).unwrap_err(), Unapproved::SamePerson);
        assert_eq!(proposals.find("p-0", "p_two", 1).unwrap_err(), Unapproved::Unknown);
        assert_eq!(proposals.find(&kept.id, "p_two", 1).unwrap().by, "p_one");
        proposals.settle(&kept.id).unwrap();
        assert_eq!(proposals.find(&kept.id, "p_two", 1).unwrap_err(), Unapproved::Unknown);
        let late = keep(&proposals, 2, 0).unwrap();
        assert_eq!(proposals.find(&late.id, "p_two", DAY_MS).unwrap_err(), Unapproved::Unknown);
        let full = (3..=104).map(|number| keep(&proposals, number, 5)).find(Result::is_err);
        assert!(matches!(full, Some(Err(ProposalsError::Full))), "100 wait at most");
    }

    #[test]
    fn those_that_wait_outlive_a_power_cut_and_nothing_of_the_others_does() {
        let disk = disk();
        let proposals = open(&disk, 1, 0);
        let (kept, settled) = (keep(&proposals, 1, 5).unwrap(), keep(&proposals, 2, 6).unwrap());
        keep(&proposals, 3, 0).unwrap();
        proposals.settle(&settled.id).unwrap();
        disk.crash_losing_all();
        // A name that no proposal has is a write that was cut short.
        write_atomic(&disk, Path::new("/data/proposals/p-1.new"), b"x", Privacy::Owner).unwrap();
        let again = open(&disk, 1, DAY_MS + 1);
        let waiting = again.all(DAY_MS + 1);
        assert_eq!(waiting.len(), 1);
        let (one, was) = (&waiting[0], &kept);
        assert_eq!((&one.id, &one.by, &one.statement), (&was.id, &was.by, &was.statement));
        assert_eq!((&one.dedupe, &one.effect, one.expires_ms), (&was.dedupe, &was.effect, was.expires_ms));
        let names = disk.list(Path::new("/data/proposals")).unwrap();
        assert_eq!(names, [kept.id.clone()]);
        let sealed = disk.read_durable(format!("/data/proposals/{}", kept.id)).unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"wrong" || window == b"p_one"), "sealed");
        // Under another vault it says nothing, and stays where it is.
        assert!(open(&disk, 2, DAY_MS + 1).all(0).is_empty());
        assert_eq!(disk.list(Path::new("/data/proposals")).unwrap().len(), 1);
    }
}
