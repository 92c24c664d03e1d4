//! Holds: leaves that must stay readable although their time has come, and the keys that keep them so.
//!
//! A hold names log indices of one origin and has a random key of its own. One that concerns several origins is a hold of
//! the same name in each of them. Before the secret of a class and month is
//! destroyed, the keys of the held leaves in it are wrapped under each hold's key; from then on they are read from
//! here. A release drops the hold's key and all that it wrapped with the next epoch, so that nobody can open those
//! leaves any more.
//!
//! What it must never do: outlive its release in memory or in a file.

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};

use idtrail_port::{Entropy, random};

use crate::contents::Contents;
use crate::keyring::HeldKeys;
use crate::vault::{Change, check_index_end};
use crate::{Secret32, Section, VaultError};

/// A hold to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHold<'a> {
    /// Its name: 1 to 64 visible ASCII characters, such as a case number.
    pub id: &'a str,
    /// The origin of the leaves.
    pub origin: &'a str,
    /// The log indices, in any order.
    pub indices: &'a [u64],
}

/// The key of one section of a held leaf, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKey {
    /// The leaf's log index.
    pub index: u64,
    /// The section that it opens.
    pub section: Section,
    /// The key itself.
    pub key: Secret32,
}

/// What a hold says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldInfo {
    /// Its name.
    pub id: String,
    /// The origin of the leaves.
    pub origin: String,
    /// When it was set, milliseconds since 1970.
    pub set_ms: u64,
    /// The log indices, rising.
    pub indices: Vec<u64>,
    /// How many keys it keeps of leaves that have expired otherwise.
    pub kept_keys: usize,
}

pub(crate) const SEALED_BYTES: usize = 48;
/// Index, section and wrapped key.
pub(crate) const KEPT_BYTES: usize = 8 + 1 + SEALED_BYTES;
pub(crate) const ID_BYTES_MAX: usize = 64;

#[derive(Clone)]
pub(crate) struct Hold {
    pub(crate) id: String,
    pub(crate) origin: String,
    pub(crate) set_ms: u64,
    pub(crate) key: Secret32,
    /// Rising.
    pub(crate) indices: Vec<u64>,
    pub(crate) kept: BTreeMap<(u64, Section), [u8; SEALED_BYTES]>,
}

impl Hold {
    pub(crate) fn info(&self) -> HoldInfo {
        HoldInfo {
            id: self.id.clone(),
            origin: self.origin.clone(),
            set_ms: self.set_ms,
            indices: self.indices.clone(),
            kept_keys: self.kept.len(),
        }
    }

    pub(crate) fn holds(&self, index: u64) -> bool {
        self.indices.binary_search(&index).is_ok()
    }

    /// Wraps a key, if its leaf is held. The nonce is the key's place, and each place has one key only.
    pub(crate) fn keep(&mut self, kept: &KeptKey) {
        if !self.holds(kept.index) {
            return;
        }
        let mut sealed = [0; SEALED_BYTES];
        let (bytes, end) = sealed.split_at_mut(32);
        bytes.copy_from_slice(kept.key.expose());
        let tag = self
            .cipher()
            .encrypt_inout_detached(&nonce(kept.index, kept.section), self.id.as_bytes(), bytes.into())
            .expect("32 bytes are not too long");
        end.copy_from_slice(&tag);
        self.kept.insert((kept.index, kept.section), sealed);
    }

    /// Returns a kept key; nothing if there is none or it is not what was wrapped.
    pub(crate) fn unwrap(&self, index: u64, section: Section) -> Option<Secret32> {
        let sealed = self.kept.get(&(index, section))?;
        let (bytes, tag) = sealed.split_first_chunk::<32>()?;
        let mut key = Secret32::new(*bytes);
        let tag: [u8; 16] = tag.try_into().ok()?;
        self.cipher()
            .decrypt_inout_detached(
                &nonce(index, section),
                self.id.as_bytes(),
                key.expose_mut().as_mut_slice().into(),
                &tag.into(),
            )
            .ok()?;
        Some(key)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.key.expose().into())
    }
}

impl Contents {
    /// Returns the keys that holds keep of an origin's leaves.
    pub(crate) fn held(&self, origin: &str) -> HeldKeys {
        let holds = self.holds.iter().filter(|hold| hold.origin == origin);
        let keys = holds.flat_map(|hold| {
            hold.kept
                .keys()
                .filter_map(|(index, section)| Some(((*index, *section), hold.unwrap(*index, *section)?)))
        });
        keys.collect()
    }
}

/// Releases, sets and fills holds.
pub(crate) fn change_holds(
    contents: &mut Contents,
    change: &Change<'_>,
    entropy: &dyn Entropy,
) -> Result<(), VaultError> {
    for id in change.released {
        let before = contents.holds.len();
        contents.holds.retain(|hold| hold.id != *id);
        if contents.holds.len() == before {
            return Err(VaultError::UnknownHold((*id).to_owned()));
        }
    }
    let known: Vec<String> = contents.holds.iter().map(|hold| hold.id.clone()).collect();
    for new in change.set {
        if new.id.is_empty()
            || new.id.len() > ID_BYTES_MAX
            || !new.id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(VaultError::Name("a hold has 1 to 64 visible ASCII characters"));
        }
        // A name is given once: all its parts are set by one change.
        if known.iter().any(|hold| hold == new.id)
            || contents.holds.iter().any(|hold| hold.id == new.id && hold.origin == new.origin)
        {
            return Err(VaultError::HoldExists(new.id.to_owned()));
        }
        let Some(origin) = contents.origins.iter().find(|origin| origin.name == new.origin) else {
            return Err(VaultError::UnknownOrigin(new.origin.to_owned()));
        };
        let mut indices = new.indices.to_vec();
        indices.sort_unstable();
        indices.dedup();
        let Some(last) = indices.last() else {
            return Err(VaultError::Name("a hold names at least one leaf"));
        };
        check_index_end(last.saturating_add(1))?;
        let mut hold = Hold {
            id: new.id.to_owned(),
            origin: origin.name.clone(),
            set_ms: change.now_ms,
            key: Secret32::new(random(entropy)),
            indices,
            kept: BTreeMap::new(),
        };
        // A leaf that is readable only by another hold is kept by this one as well.
        for other in contents.holds.iter().filter(|other| other.origin == new.origin) {
            for (index, section) in other.kept.keys() {
                if let Some(key) = other.unwrap(*index, *section) {
                    hold.keep(&KeptKey { index: *index, section: *section, key });
                }
            }
        }
        contents.holds.push(hold);
    }
    for (origin, kept) in change.kept {
        for hold in contents.holds.iter_mut().filter(|hold| hold.origin == *origin) {
            kept.iter().for_each(|kept| hold.keep(kept));
        }
    }
    Ok(())
}

impl fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hold({}, {} leaves)", self.id, self.indices.len())
    }
}

fn nonce(index: u64, section: Section) -> Nonce<<Aes256Gcm as aes_gcm::aead::AeadCore>::NonceSize> {
    let mut bytes = [0; 12];
    let (head, tail) = bytes.split_at_mut(4);
    head.copy_from_slice(&[0, 0, 0, section_byte(section)]);
    tail.copy_from_slice(&index.to_be_bytes());
    bytes.into()
}

pub(crate) const fn section_byte(section: Section) -> u8 {
    match section {
        Section::Event => 0,
        Section::Staff => 1,
    }
}

pub(crate) const fn section_of(byte: u8) -> Option<Section> {
    match byte {
        0 => Some(Section::Event),
        1 => Some(Section::Staff),
        _ => None,
    }
}
