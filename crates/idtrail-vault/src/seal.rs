//! The two sealed forms, as bytes without any disk: the body under its epoch key, the epoch key under the KEK.
//!
//! ```text
//! body  magic 16 ‖ vault id 16 ‖ epoch u64 ‖ nonce 12 ‖ AES-256-GCM(epoch key, contents) ‖ tag 16      AAD = the first 52 bytes
//! slot  magic 16 ‖ vault id 16 ‖ sequence u64 ‖ epoch u64 ‖ nonce 12 ‖ AES-256-GCM(KEK, epoch key) ‖ tag 16 ‖ CRC-32C u32,
//!       then zeros up to 4096 bytes                                                                  AAD = the first 48 bytes
//! ```
//!
//! Numbers are big-endian. An epoch key is random and seals one body only. The CRC covers everything before it and
//! tells a torn or rotten slot (worthless, may be overwritten) from one that another KEK wraps (must not be touched).

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::Zeroizing;

use crate::contents::Contents;
use crate::{Epoch, Kek, Secret32};

/// A random number that all files of one vault carry, so that files of two vaults cannot be mixed.
pub(crate) type VaultId = [u8; 16];

/// The size of an anchor slot; a cell has two.
pub(crate) const SLOT_BYTES: usize = 4096;
const BODY_MAGIC: &[u8; 16] = b"idtrail/body/v1\n";
const SLOT_MAGIC: &[u8; 16] = b"idtrail/anchor/1";
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const BODY_HEAD_BYTES: usize = 16 + 16 + 8 + NONCE_BYTES;
const SLOT_AAD_BYTES: usize = 16 + 16 + 8 + 8;
const SLOT_USED_BYTES: usize = SLOT_AAD_BYTES + NONCE_BYTES + 32 + TAG_BYTES;

/// Returns the bytes of a body file.
pub(crate) fn seal_body(
    contents: &Contents,
    id: &VaultId,
    epoch: Epoch,
    key: &Secret32,
    nonce: [u8; NONCE_BYTES],
) -> Vec<u8> {
    let mut bytes = contents.encode(BODY_HEAD_BYTES, TAG_BYTES);
    let (head, plain) = bytes.split_at_mut(BODY_HEAD_BYTES);
    for (to, from) in head.iter_mut().zip([&BODY_MAGIC[..], id, &epoch.get().to_be_bytes(), &nonce].concat())
    {
        *to = from;
    }
    let tag = cipher(key)
        .encrypt_inout_detached(&Nonce::from(nonce), head, plain.into())
        .expect("a body is shorter than the 64 GiB that AES-GCM allows");
    // It is no secret any more. The tag still fits, so the vector does not move.
    bytes.extend_from_slice(&tag);
    std::mem::take(&mut *bytes)
}

/// Returns what a body file holds, as CBOR, or nothing if it is not this vault's body of this epoch.
pub(crate) fn open_body(
    bytes: &[u8],
    id: &VaultId,
    epoch: Epoch,
    key: &Secret32,
) -> Option<Zeroizing<Vec<u8>>> {
    let (head, sealed) = bytes.split_at_checked(BODY_HEAD_BYTES)?;
    let nonce: [u8; NONCE_BYTES] = *head.last_chunk()?;
    if head != [&BODY_MAGIC[..], id, &epoch.get().to_be_bytes(), &nonce].concat() {
        return None;
    }
    let (cipher_text, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
    let mut plain = Zeroizing::new(cipher_text.to_vec());
    cipher(key)
        .decrypt_inout_detached(&Nonce::from(nonce), head, plain.as_mut_slice().into(), &(*tag).into())
        .ok()?;
    Some(plain)
}

/// What stands in an anchor slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) id: VaultId,
    /// Higher in the slot that was written later.
    pub(crate) sequence: u64,
    pub(crate) epoch: Epoch,
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; 32],
    tag: [u8; TAG_BYTES],
}

impl Slot {
    /// Wraps an epoch key.
    pub(crate) fn wrap(
        id: &VaultId,
        sequence: u64,
        epoch: Epoch,
        key: &Secret32,
        kek: &Kek,
        nonce: [u8; NONCE_BYTES],
    ) -> Self {
        let mut wrapped = *key.expose();
        let mut slot = Self { id: *id, sequence, epoch, nonce, wrapped: [0; 32], tag: [0; TAG_BYTES] };
        let tag = kek_cipher(kek)
            .encrypt_inout_detached(&Nonce::from(nonce), &slot.aad(), wrapped.as_mut_slice().into())
            .expect("32 bytes are not too long");
        slot.wrapped = wrapped;
        slot.tag = tag.into();
        slot
    }

    /// Returns the epoch key, or nothing if another KEK wrapped it.
    pub(crate) fn unwrap(&self, kek: &Kek) -> Option<Secret32> {
        let mut key = Secret32::new(self.wrapped);
        kek_cipher(kek)
            .decrypt_inout_detached(
                &Nonce::from(self.nonce),
                &self.aad(),
                key.expose_mut().as_mut_slice().into(),
                &self.tag.into(),
            )
            .ok()?;
        Some(key)
    }

    /// Returns the slot's 4096 bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.aad()[..], &self.nonce, &self.wrapped, &self.tag].concat();
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        bytes.resize(SLOT_BYTES, 0);
        bytes
    }

    /// Reads a slot; nothing if it is torn, rotten or empty.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (used, rest) = bytes.split_at_checked(SLOT_USED_BYTES)?;
        let (crc, zeros) = rest.split_first_chunk()?;
        if crc32c::crc32c(used) != u32::from_be_bytes(*crc) || zeros.iter().any(|byte| *byte != 0) {
            return None;
        }
        let used = used.strip_prefix(SLOT_MAGIC)?;
        let (id, used) = used.split_first_chunk()?;
        let (sequence, used) = used.split_first_chunk()?;
        let (epoch, used) = used.split_first_chunk()?;
        let (nonce, used) = used.split_first_chunk()?;
        let (wrapped, used) = used.split_first_chunk()?;
        Some(Self {
            id: *id,
            sequence: u64::from_be_bytes(*sequence),
            epoch: Epoch::new(u64::from_be_bytes(*epoch)),
            nonce: *nonce,
            wrapped: *wrapped,
            tag: used.try_into().ok()?,
        })
    }

    fn aad(&self) -> Vec<u8> {
        [&SLOT_MAGIC[..], &self.id, &self.sequence.to_be_bytes(), &self.epoch.get().to_be_bytes()].concat()
    }
}

fn cipher(key: &Secret32) -> Aes256Gcm {
    Aes256Gcm::new(key.expose().into())
}

fn kek_cipher(kek: &Kek) -> Aes256Gcm {
    Aes256Gcm::new(kek.expose().into())
}
