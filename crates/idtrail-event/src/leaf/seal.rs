//! Writes leaves: staff section, content, header, encryption in place; one allocation for each of the parts.

use alloc::vec::Vec;

use aes_gcm::aead::AeadInOut;

use super::{
    ALG_A256GCM, Decided, DedupeValue, LABEL_ALG, LABEL_IV, LABEL_PRIVATE, LEAF_BYTES_MAX, LeafError,
    LeafHeader, PAD_BYTES, SealRequest, TAG_BYTES, VERSION, cipher, enc_structure, nonce,
};
use crate::cbor::{Reader, Writer};
use crate::event::EncodedEvent;
use crate::key::{IV_BYTES, LeafKey, SectionSecrets, key_commitment, leaf_key};

/// Seals an event. `ivs` are two fresh random nonces, for the event and the staff section; never used before, not even
/// for an attempt that failed.
///
/// # Errors
/// `TooLong` if the leaf would be longer than 65,535 bytes, which [`EncodedEvent::sealed_len_max`] tells beforehand;
/// `Malformed` if the header's clear item is not one item of deterministic CBOR.
pub fn seal(
    request: &SealRequest<'_>,
    secrets: &SectionSecrets,
    ivs: &[[u8; IV_BYTES]; 2],
    origin: &str,
) -> Result<Vec<u8>, LeafError> {
    let SealRequest { header, encoded, decided } = request;
    if let Some(clear) = &header.clear {
        let mut item = Reader::new(clear);
        item.skip(0)?;
        item.finish()?;
    }
    let [event_iv, staff_iv] = ivs;
    let staff = match encoded.staff() {
        None => None,
        Some(staff) => {
            let key = leaf_key(&secrets.staff, &secrets.class, staff_iv, origin);
            let protected = staff_header(&key, staff_iv);
            Some(encrypt(&key, staff_iv, &protected, staff.len(), |out| out.raw(staff))?)
        }
    };
    let key = leaf_key(&secrets.event, &secrets.class, event_iv, origin);
    let protected = event_header(header, &key, event_iv);
    let capacity = encoded.public().len() + staff.as_ref().map_or(0, Vec::len) + decided.system.len() + 160;
    encrypt(&key, event_iv, &protected, capacity, |out| {
        write_content(out, encoded, decided, staff.as_deref())
    })
}

fn header_start(iv: &[u8; IV_BYTES], clear_bytes: usize) -> Writer {
    let mut out = Writer::with_capacity(80 + clear_bytes);
    out.map(3);
    out.int(LABEL_ALG);
    out.int(ALG_A256GCM);
    out.int(LABEL_IV);
    out.bytes(iv);
    out.int(LABEL_PRIVATE);
    out
}

fn event_header(header: &LeafHeader, key: &LeafKey, iv: &[u8; IV_BYTES]) -> Vec<u8> {
    let clear = header.clear.as_deref();
    let mut out = header_start(iv, clear.map_or(0, <[u8]>::len));
    out.array(7 + usize::from(clear.is_some()));
    out.uint(u64::from(VERSION));
    out.uint(u64::from(header.event_type.code()));
    out.uint(u64::from(header.hour));
    out.uint(u64::from(header.source.code()));
    out.uint(u64::from(header.channel.code()));
    out.uint(u64::from(header.class.code()));
    out.bytes(&key_commitment(key, iv));
    out.raw(clear.unwrap_or_default());
    out.into_vec()
}

fn staff_header(key: &LeafKey, iv: &[u8; IV_BYTES]) -> Vec<u8> {
    let mut out = header_start(iv, 0);
    out.array(2);
    out.uint(u64::from(VERSION));
    out.bytes(&key_commitment(key, iv));
    out.into_vec()
}

fn write_content(out: &mut Writer, encoded: &EncodedEvent, decided: &Decided<'_>, staff: Option<&[u8]>) {
    // The encoded event is a map of one or two members; they become the first members of this map.
    let (head, members) = encoded.public().split_first().unwrap_or((&0xa0, &[]));
    let optional = [
        decided.subject.is_some(),
        staff.is_some(),
        decided.previous_index.is_some(),
        decided.actor.is_some(),
    ];
    let optional = optional.iter().filter(|present| **present).count();
    out.map(usize::from(head & 31) + 5 + optional);
    out.raw(members);
    out.uint(2);
    out.uint(decided.received_ms);
    if let Some(subject) = &decided.subject {
        out.uint(3);
        out.bytes(subject.as_bytes());
    }
    out.uint(4);
    out.bytes(decided.event_id.as_bytes());
    out.uint(5);
    out.text(decided.system);
    out.uint(6);
    let dedupe = &decided.dedupe;
    out.array(if dedupe.id == DedupeValue::Absent { 1 } else { 2 });
    out.uint(u64::from(dedupe.kind.code()));
    match &dedupe.id {
        DedupeValue::Absent => {}
        DedupeValue::Text(id) => out.text(id),
        DedupeValue::Bytes(id) => out.bytes(id),
    }
    if let Some(staff) = staff {
        out.uint(7);
        out.bytes(staff);
    }
    out.uint(8);
    out.uint(decided.subject_sequence);
    if let Some(previous) = decided.previous_index {
        out.uint(9);
        out.uint(previous);
    }
    if let Some(actor) = decided.actor {
        out.uint(10);
        out.text(actor);
    }
}

/// Makes one COSE_Encrypt0 object: writes the content where the ciphertext will stand, and encrypts it there.
fn encrypt(
    key: &LeafKey,
    iv: &[u8; IV_BYTES],
    protected: &[u8],
    content_bytes: usize,
    content: impl FnOnce(&mut Writer),
) -> Result<Vec<u8>, LeafError> {
    let mut out = Writer::with_capacity(protected.len() + content_bytes + PAD_BYTES + TAG_BYTES + 8);
    out.array(3);
    out.bytes(protected);
    out.map(0);
    // The ciphertext's head has two or three bytes, by a length that is known only after writing: room for three.
    let head_at = out.len();
    out.raw(&[0x59, 0, 0]);
    let start = out.len();
    content(&mut out);
    let padded = (out.len() - start).next_multiple_of(PAD_BYTES);
    let length = padded + TAG_BYTES;
    let mut leaf = out.into_vec();
    if start + length > LEAF_BYTES_MAX {
        return Err(LeafError::TooLong(start + length));
    }
    leaf.resize(start + padded, 0);
    let aad = enc_structure(protected);
    let tag = cipher(key)
        .encrypt_inout_detached(&nonce(iv), &aad, leaf.get_mut(start..).unwrap_or_default().into())
        .expect("a leaf is far shorter than the limit of AES-GCM");
    leaf.extend_from_slice(&tag);
    let [high, low] = u16::try_from(length).expect("a leaf is at most 65,535 bytes long").to_be_bytes();
    let head: &[u8] = if high == 0 { &[0x58, low] } else { &[0x59, high, low] };
    leaf.splice(head_at..start, head.iter().copied());
    Ok(leaf)
}
