//! What a vault body holds, and its CBOR form (RFC 8949): one map with these keys, all of them there, in this order.
//!
//! ```text
//! 0 tenant tstr · 1 dedupe key bstr32 · 2 index key bstr32 · 3 issuer seed bstr32
//! 4 peppers {version uint => bstr32, ascending, at least one}
//! 5 origins [{0 name tstr, 1 signing seed bstr32, 2 tree I bstr, 3 tree P bstr,
//!             4 retired keys [[public bstr32, size uint]*, oldest first] only if there are any}, oldest first]
//! 6 suppression {0 key bstr32, 1 entries bstr: (name 32 ‖ content 32 ‖ expiry u64)*, by name}   only if there are any
//! 7 holds [{0 id tstr, 1 origin tstr, 2 set ms uint, 3 key bstr32, 4 indices bstr: u64*, rising,
//!           5 kept bstr: (index u64 ‖ section ‖ wrapped key 48)*, rising}]                      only if there are any
//! ```
//!
//! An unknown key is refused, not skipped: this version would drop it at the next write, and with it whatever a newer
//! version had trusted the vault with.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use minicbor::decode::Error as DecodeError;
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::hold::{Hold, ID_BYTES_MAX, KEPT_BYTES, SEALED_BYTES, section_byte, section_of};
use crate::suppression::{Entries, Entry};
use crate::{KeyTree, Secret32, TreeKind, VaultError};

/// A key that signed an origin's trees once. Its private part is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredKey {
    /// The public key (Ed25519).
    pub public: [u8; 32],
    /// The last size of the tree that it signed.
    pub size: u64,
}

/// The secrets of one origin.
#[derive(Clone, Debug)]
pub(crate) struct OriginSecrets {
    pub(crate) name: String,
    pub(crate) signing_seed: Secret32,
    pub(crate) index: Arc<KeyTree>,
    pub(crate) period: Arc<KeyTree>,
    pub(crate) retired: Vec<RetiredKey>,
}

/// Everything in the vault. A clone shares the trees.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) tenant: String,
    pub(crate) dedupe_key: Secret32,
    pub(crate) index_key: Secret32,
    pub(crate) issuer_seed: Secret32,
    pub(crate) peppers: BTreeMap<u32, Secret32>,
    pub(crate) origins: Vec<OriginSecrets>,
    pub(crate) suppression: Arc<Entries>,
    pub(crate) holds: Vec<Hold>,
}

/// Keys 0 to 5, which are always there.
const KEYS: u64 = 6;
const KEY_SUPPRESSION: u64 = 6;
const KEY_HOLDS: u64 = 7;
const HOLD_KEYS: u64 = 6;
const HOLD_BYTES: usize = 96;
const ORIGIN_KEYS: u64 = 4;
/// More than everything takes besides names and trees: keys, lengths and the fixed secrets.
const FIXED_BYTES: usize = 512;
const PEPPER_BYTES: usize = 40;
const ORIGIN_BYTES: usize = 128;
const RETIRED_BYTES: usize = 48;
const KEY_RETIRED: u64 = 4;

impl Contents {
    /// Returns `head` zero bytes, the CBOR map, and room for `tail` more bytes.
    pub(crate) fn encode(&self, head: usize, tail: usize) -> Zeroizing<Vec<u8>> {
        let origins = self.origins.iter().map(|origin| {
            ORIGIN_BYTES
                + RETIRED_BYTES * origin.retired.len()
                + origin.name.len()
                + origin.index.encoded_len()
                + origin.period.encoded_len()
        });
        let holds = self.holds.iter().map(|hold| {
            let lists = hold.indices.len() * 8 + hold.kept.len() * KEPT_BYTES;
            HOLD_BYTES + hold.id.len() + hold.origin.len() + lists
        });
        let variable = self.tenant.len()
            + PEPPER_BYTES * self.peppers.len()
            + origins.sum::<usize>()
            + Entries::ENTRY_BYTES * self.suppression.list().len()
            + holds.sum::<usize>();
        let mut bytes = Vec::with_capacity(head + FIXED_BYTES + variable + tail);
        let capacity = bytes.capacity();
        bytes.resize(head, 0);
        let mut encoder = Encoder::new(bytes);
        self.write(&mut encoder).expect("a vector takes every write");
        let bytes = Zeroizing::new(encoder.into_writer());
        assert_eq!(bytes.capacity(), capacity, "the secrets were never moved by a growing vector");
        bytes
    }

    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Result<(), minicbor::encode::Error<Infallible>> {
        let keys = KEYS + u64::from(self.suppression.key().is_some()) + u64::from(!self.holds.is_empty());
        to.map(keys)?.u8(0)?.str(&self.tenant)?;
        for (key, secret) in (1..).zip([&self.dedupe_key, &self.index_key, &self.issuer_seed]) {
            to.u8(key)?.bytes(secret.expose())?;
        }
        to.u8(4)?.map(self.peppers.len() as u64)?;
        for (version, pepper) in &self.peppers {
            to.u32(*version)?.bytes(pepper.expose())?;
        }
        to.u8(5)?.array(self.origins.len() as u64)?;
        for origin in &self.origins {
            let keys = ORIGIN_KEYS + u64::from(!origin.retired.is_empty());
            to.map(keys)?.u8(0)?.str(&origin.name)?.u8(1)?.bytes(origin.signing_seed.expose())?;
            for (key, tree) in (2..).zip([&origin.index, &origin.period]) {
                to.u8(key)?.bytes_len(tree.encoded_len() as u64)?;
                tree.encode(to.writer_mut());
            }
            if !origin.retired.is_empty() {
                to.u64(KEY_RETIRED)?.array(origin.retired.len() as u64)?;
                for key in &origin.retired {
                    to.array(2)?.bytes(&key.public)?.u64(key.size)?;
                }
            }
        }
        self.write_suppression(to)?;
        self.write_holds(to)
    }

    fn write_suppression(
        &self,
        to: &mut Encoder<Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<Infallible>> {
        let Some(secret) = self.suppression.key() else { return Ok(()) };
        let list = self.suppression.list();
        to.u64(KEY_SUPPRESSION)?.map(2)?.u8(0)?.bytes(secret.expose())?;
        to.u8(1)?.bytes_len((list.len() * Entries::ENTRY_BYTES) as u64)?;
        for entry in list {
            let bytes = to.writer_mut();
            bytes.extend_from_slice(&entry.name);
            bytes.extend_from_slice(&entry.content);
            bytes.extend_from_slice(&entry.expires_ms.to_be_bytes());
        }
        Ok(())
    }

    fn write_holds(&self, to: &mut Encoder<Vec<u8>>) -> Result<(), minicbor::encode::Error<Infallible>> {
        if self.holds.is_empty() {
            return Ok(());
        }
        to.u64(KEY_HOLDS)?.array(self.holds.len() as u64)?;
        for hold in &self.holds {
            to.map(HOLD_KEYS)?.u8(0)?.str(&hold.id)?.u8(1)?.str(&hold.origin)?.u8(2)?.u64(hold.set_ms)?;
            to.u8(3)?.bytes(hold.key.expose())?;
            to.u8(4)?.bytes_len(hold.indices.len() as u64 * 8)?;
            for index in &hold.indices {
                to.writer_mut().extend_from_slice(&index.to_be_bytes());
            }
            to.u8(5)?.bytes_len((hold.kept.len() * KEPT_BYTES) as u64)?;
            for ((index, section), sealed) in &hold.kept {
                let bytes = to.writer_mut();
                bytes.extend_from_slice(&index.to_be_bytes());
                bytes.push(section_byte(*section));
                bytes.extend_from_slice(sealed);
            }
        }
        Ok(())
    }

    /// Reads what [`Contents::encode`] wrote between head and tail.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, VaultError> {
        let mut from = Decoder::new(bytes);
        let contents = Self::read(&mut from)?;
        if from.position() != bytes.len() {
            return Err(VaultError::Body("bytes are left over"));
        }
        Ok(contents)
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, VaultError> {
        let keys = from.map().map_err(malformed)?.ok_or(VaultError::Body("a map has no length"))?;
        let Some(optional @ 0..=2) = keys.checked_sub(KEYS) else {
            return Err(VaultError::Body("the map has an unknown number of keys"));
        };
        let tenant = {
            key(from, 0)?;
            from.str().map_err(malformed)?.to_owned()
        };
        let dedupe_key = {
            key(from, 1)?;
            secret(from)?
        };
        let index_key = {
            key(from, 2)?;
            secret(from)?
        };
        let issuer_seed = {
            key(from, 3)?;
            secret(from)?
        };
        key(from, 4)?;
        let mut peppers = BTreeMap::new();
        for _ in 0..from.map().map_err(malformed)?.ok_or(VaultError::Body("a map has no length"))? {
            let version = from.u32().map_err(malformed)?;
            if peppers.last_key_value().is_some_and(|(last, _)| *last >= version) {
                return Err(VaultError::Body("pepper versions do not rise"));
            }
            peppers.insert(version, secret(from)?);
        }
        key(from, 5)?;
        let mut origins: Vec<OriginSecrets> = Vec::new();
        for _ in 0..from.array().map_err(malformed)?.ok_or(VaultError::Body("an array has no length"))? {
            let origin = OriginSecrets::read(from)?;
            if origins.iter().any(|other| other.name == origin.name) {
                return Err(VaultError::Body("an origin occurs twice"));
            }
            origins.push(origin);
        }
        if peppers.is_empty() || origins.is_empty() {
            return Err(VaultError::Body("it has no pepper or no origin"));
        }
        let (mut suppression, mut holds, mut last) = (Entries::default(), Vec::new(), KEYS - 1);
        for _ in 0..optional {
            let number = from.u64().map_err(malformed)?;
            match number {
                _ if number <= last => return Err(VaultError::Body("a map has a misplaced key")),
                KEY_SUPPRESSION => suppression = read_suppression(from)?,
                KEY_HOLDS => holds = read_holds(from)?,
                _ => return Err(VaultError::Body("a map has an unknown key")),
            }
            last = number;
        }
        let suppression = Arc::new(suppression);
        Ok(Self { tenant, dedupe_key, index_key, issuer_seed, peppers, origins, suppression, holds })
    }
}

fn read_suppression(from: &mut Decoder<'_>) -> Result<Entries, VaultError> {
    expect(from.map(), &Some(2), "the suppression part has an unknown number of keys")?;
    key(from, 0)?;
    let secret = secret(from)?;
    key(from, 1)?;
    let (records, rest) = from.bytes().map_err(malformed)?.as_chunks::<{ Entries::ENTRY_BYTES }>();
    let entry = |record: &[u8; Entries::ENTRY_BYTES]| {
        let (name, rest) = record.split_first_chunk::<32>()?;
        let (content, expires) = rest.split_first_chunk::<32>()?;
        Some(Entry {
            name: *name,
            content: *content,
            expires_ms: u64::from_be_bytes(expires.try_into().ok()?),
        })
    };
    let list: Option<Vec<Entry>> = records.iter().map(entry).collect();
    let entries = list.filter(|_| rest.is_empty()).and_then(|list| Entries::from_parts(secret, list));
    entries.ok_or(VaultError::Body("the suppression part is not sorted or not whole"))
}

fn read_holds(from: &mut Decoder<'_>) -> Result<Vec<Hold>, VaultError> {
    let mut holds: Vec<Hold> = Vec::new();
    for _ in 0..from.array().map_err(malformed)?.ok_or(VaultError::Body("an array has no length"))? {
        let hold = read_hold(from)?;
        if holds.iter().any(|other| other.id == hold.id && other.origin == hold.origin) {
            return Err(VaultError::Body("a hold occurs twice"));
        }
        holds.push(hold);
    }
    if holds.is_empty() { Err(VaultError::Body("the list of holds is empty")) } else { Ok(holds) }
}

fn read_hold(from: &mut Decoder<'_>) -> Result<Hold, VaultError> {
    const BROKEN: VaultError = VaultError::Body("a hold is not sorted or not whole");
    expect(from.map(), &Some(HOLD_KEYS), "a hold has an unknown number of keys")?;
    key(from, 0)?;
    let id = from.str().map_err(malformed)?.to_owned();
    key(from, 1)?;
    let origin = from.str().map_err(malformed)?.to_owned();
    key(from, 2)?;
    let set_ms = from.u64().map_err(malformed)?;
    key(from, 3)?;
    let secret = secret(from)?;
    key(from, 4)?;
    let (records, rest) = from.bytes().map_err(malformed)?.as_chunks::<8>();
    let indices: Vec<u64> = records.iter().map(|record| u64::from_be_bytes(*record)).collect();
    let rising = indices.windows(2).all(|pair| matches!(pair, [left, right] if left < right));
    if !rising || !rest.is_empty() || indices.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(BROKEN);
    }
    key(from, 5)?;
    let (records, rest) = from.bytes().map_err(malformed)?.as_chunks::<KEPT_BYTES>();
    let kept = |record: &[u8; KEPT_BYTES]| {
        let (index, tail) = record.split_first_chunk::<8>()?;
        let ([section], sealed) = tail.split_first_chunk::<1>()?;
        let sealed: [u8; SEALED_BYTES] = sealed.try_into().ok()?;
        Some(((u64::from_be_bytes(*index), section_of(*section)?), sealed))
    };
    let list: Vec<_> = records.iter().map(kept).collect::<Option<_>>().ok_or(BROKEN)?;
    let rising = list.windows(2).all(|pair| matches!(pair, [left, right] if left.0 < right.0));
    if !rising || !rest.is_empty() {
        return Err(BROKEN);
    }
    Ok(Hold { id, origin, set_ms, key: secret, indices, kept: list.into_iter().collect() })
}

impl OriginSecrets {
    fn read(from: &mut Decoder<'_>) -> Result<Self, VaultError> {
        let keys = from.map().map_err(malformed)?.and_then(|keys| keys.checked_sub(ORIGIN_KEYS));
        let Some(optional @ 0..=1) = keys else {
            return Err(VaultError::Body("an origin has an unknown number of keys"));
        };
        key(from, 0)?;
        let name = from.str().map_err(malformed)?.to_owned();
        key(from, 1)?;
        let signing_seed = secret(from)?;
        key(from, 2)?;
        let index = tree(from, TreeKind::Index)?;
        key(from, 3)?;
        let period = tree(from, TreeKind::Period)?;
        let mut retired = Vec::new();
        if optional == 1 {
            key(from, KEY_RETIRED)?;
            let count = from.array().map_err(malformed)?.filter(|count| *count > 0);
            for _ in 0..count.ok_or(VaultError::Body("the list of retired keys is empty"))? {
                expect(from.array(), &Some(2), "a retired key is not whole")?;
                let public = from.bytes().map_err(malformed)?.try_into();
                let public = public.map_err(|_| VaultError::Body("a retired key is not 32 bytes long"))?;
                retired.push(RetiredKey { public, size: from.u64().map_err(malformed)? });
            }
        }
        Ok(Self { name, signing_seed, index, period, retired })
    }
}

fn tree(from: &mut Decoder<'_>, kind: TreeKind) -> Result<Arc<KeyTree>, VaultError> {
    let tree = KeyTree::decode(from.bytes().map_err(malformed)?)?;
    if tree.kind() != kind || tree.leaves() != 1 << kind.depth() {
        return Err(VaultError::Body("a key tree is not the one that stands in its place"));
    }
    Ok(Arc::new(tree))
}

fn key(from: &mut Decoder<'_>, number: u64) -> Result<(), VaultError> {
    expect(from.u64(), &number, "a map has a missing, unknown or misplaced key")
}

fn secret(from: &mut Decoder<'_>) -> Result<Secret32, VaultError> {
    let bytes = from.bytes().map_err(malformed)?;
    Ok(Secret32::new(bytes.try_into().map_err(|_| VaultError::Body("a secret is not 32 bytes long"))?))
}

fn expect<T: PartialEq>(
    found: Result<T, DecodeError>,
    wanted: &T,
    problem: &'static str,
) -> Result<(), VaultError> {
    if found.map_err(malformed)? == *wanted { Ok(()) } else { Err(VaultError::Body(problem)) }
}

/// The decoder's own text is dropped, because it could quote what it read.
fn malformed(_error: DecodeError) -> VaultError {
    VaultError::Body("it is not the expected CBOR")
}
