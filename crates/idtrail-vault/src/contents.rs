//! What a vault body holds, and its CBOR form (RFC 8949): one map with these keys, all of them there, in this order.
//!
//! ```text
//! 0 tenant tstr · 1 dedupe key bstr32 · 2 index key bstr32 · 3 issuer seed bstr32
//! 4 peppers {version uint => bstr32, ascending, at least one}
//! 5 origins [{0 name tstr, 1 signing seed bstr32, 2 tree I bstr, 3 tree P bstr}, oldest first]
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

use crate::{KeyTree, Secret32, TreeKind, VaultError};

/// The secrets of one origin.
#[derive(Clone, Debug)]
pub(crate) struct OriginSecrets {
    pub(crate) name: String,
    pub(crate) signing_seed: Secret32,
    pub(crate) index: Arc<KeyTree>,
    pub(crate) period: Arc<KeyTree>,
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
}

const KEYS: u64 = 6;
const ORIGIN_KEYS: u64 = 4;
/// More than everything takes besides names and trees: keys, lengths and the fixed secrets.
const FIXED_BYTES: usize = 512;
const PEPPER_BYTES: usize = 40;
const ORIGIN_BYTES: usize = 128;

impl Contents {
    /// Returns `head` zero bytes, the CBOR map, and room for `tail` more bytes.
    pub(crate) fn encode(&self, head: usize, tail: usize) -> Zeroizing<Vec<u8>> {
        let origins = self.origins.iter().map(|origin| {
            ORIGIN_BYTES + origin.name.len() + origin.index.encoded_len() + origin.period.encoded_len()
        });
        let variable = self.tenant.len() + PEPPER_BYTES * self.peppers.len() + origins.sum::<usize>();
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
        to.map(KEYS)?.u8(0)?.str(&self.tenant)?;
        for (key, secret) in (1..).zip([&self.dedupe_key, &self.index_key, &self.issuer_seed]) {
            to.u8(key)?.bytes(secret.expose())?;
        }
        to.u8(4)?.map(self.peppers.len() as u64)?;
        for (version, pepper) in &self.peppers {
            to.u32(*version)?.bytes(pepper.expose())?;
        }
        to.u8(5)?.array(self.origins.len() as u64)?;
        for origin in &self.origins {
            to.map(ORIGIN_KEYS)?.u8(0)?.str(&origin.name)?.u8(1)?.bytes(origin.signing_seed.expose())?;
            for (key, tree) in (2..).zip([&origin.index, &origin.period]) {
                to.u8(key)?.bytes_len(tree.encoded_len() as u64)?;
                tree.encode(to.writer_mut());
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
        expect(from.map(), &Some(KEYS), "the map has an unknown number of keys")?;
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
        Ok(Self { tenant, dedupe_key, index_key, issuer_seed, peppers, origins })
    }
}

impl OriginSecrets {
    fn read(from: &mut Decoder<'_>) -> Result<Self, VaultError> {
        expect(from.map(), &Some(ORIGIN_KEYS), "an origin has an unknown number of keys")?;
        key(from, 0)?;
        let name = from.str().map_err(malformed)?.to_owned();
        key(from, 1)?;
        let signing_seed = secret(from)?;
        key(from, 2)?;
        let index = tree(from, TreeKind::Index)?;
        key(from, 3)?;
        let period = tree(from, TreeKind::Period)?;
        Ok(Self { name, signing_seed, index, period })
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
