//! Shorter forms of strings: a hash as bytes, a UUID as 16 bytes, a time as a number, an id as prefix and bytes.
//!
//! A form is used only if it expands to the identical string, and at most one form fits a string, so the choice needs
//! no memory and a reader needs no hint. The forms and the prefixes are part of leaf format v1 and never change: the
//! digest that recognises repeated events is made over them.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};

use data_encoding::HEXLOWER;

use crate::cbor::{CborError, Kind, Reader, Writer};
use crate::id::GlobalCustomerId;
use crate::time;

/// Tag of a UUID as 16 bytes (IANA registry of CBOR tags).
const TAG_UUID: u64 = 37;
/// Tag of seconds since 1970 (RFC 8949 §3.4.2).
const TAG_EPOCH: u64 = 1;
/// Tag of extended time (RFC 9581): `{1: seconds, -3: milliseconds}`.
const TAG_EXTENDED_TIME: u64 = 1001;
/// Private tag, "idtr" in ASCII: a global customer id as 16 bytes, or `[prefix, bytes or UUID]`.
pub(crate) const TAG_ID: u64 = 0x6964_7472;

/// Shorter hex stays text: it saves little, and words would be taken for hex.
const HEX_DIGITS_MIN: usize = 32;
const UUID_CHARS: usize = 36;
/// A UUID's last group and the separator before it.
const LAST_GROUP_CHARS: usize = 13;
const PREFIX_BYTES: core::ops::RangeInclusive<usize> = 2..=16;

/// Prefixes that are written as their position here.
const PREFIXES: [&str; 8] = ["i-", "cust_hash_", "q-", "cust_", "conv-", "agent-", "urn:uuid:", "sha256:"];

/// Writes a string in its shortest form.
pub(crate) fn write_string(out: &mut Writer, text: &str) {
    // The shortest text that any form fits is a time without decimals.
    if text.len() < 20 || !write_compact(out, text) {
        out.text(text);
    }
}

fn write_compact(out: &mut Writer, text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [.., b'Z'] => match time::parse_exact(bytes) {
            Some((seconds, milliseconds)) => write_time(out, seconds, milliseconds),
            None => return false,
        },
        [b'g', b'c', b'_', ..] if bytes.len() == 29 => match GlobalCustomerId::try_from(text) {
            Ok(customer) => {
                out.tag(TAG_ID);
                out.bytes(customer.as_bytes());
            }
            Err(_) => return false,
        },
        [.., b'0'..=b'9' | b'a'..=b'f'] => return write_hexadecimal(out, text),
        _ => return false,
    }
    true
}

fn write_time(out: &mut Writer, seconds: i64, milliseconds: Option<u16>) {
    match milliseconds {
        None => {
            out.tag(TAG_EPOCH);
            out.int(seconds);
        }
        Some(milliseconds) => {
            out.tag(TAG_EXTENDED_TIME);
            out.map(2);
            out.uint(1);
            out.int(seconds);
            out.int(-3);
            out.uint(u64::from(milliseconds));
        }
    }
}

/// Writes hex or a UUID, each perhaps behind a prefix.
fn write_hexadecimal(out: &mut Writer, text: &str) -> bool {
    // The last group of a UUID stands behind its last separator.
    if text.as_bytes().get(text.len().wrapping_sub(LAST_GROUP_CHARS)) == Some(&b'-')
        && let Some((prefix, digits)) = text.split_at_checked(text.len().saturating_sub(UUID_CHARS))
        && let Some(uuid) = uuid(digits)
        && is_prefix_or_nothing(prefix)
    {
        write_prefix(out, prefix);
        out.tag(TAG_UUID);
        out.bytes(&uuid);
        return true;
    }
    // A separator further behind is no hex digit, so only the start has to be looked at.
    let start = text.as_bytes().get(..text.len().min(*PREFIX_BYTES.end())).unwrap_or_default();
    let separator = start.iter().rposition(|byte| matches!(byte, b'_' | b'-' | b':'));
    let Some(separator) = separator else { return write_hex(out, text.as_bytes(), "") };
    let Some((prefix, digits)) = text.split_at_checked(separator + 1) else { return false };
    is_prefix_or_nothing(prefix) && write_hex(out, digits.as_bytes(), prefix)
}

fn write_prefix(out: &mut Writer, prefix: &str) {
    if prefix.is_empty() {
        return;
    }
    out.tag(TAG_ID);
    out.array(2);
    match PREFIXES.iter().position(|known| *known == prefix) {
        Some(position) => out.uint(position as u64),
        None => out.text(prefix),
    }
}

fn is_prefix_or_nothing(prefix: &str) -> bool {
    prefix.is_empty() || PREFIX_BYTES.contains(&prefix.len()) && prefix.ends_with(['_', '-', ':'])
}

fn write_hex(out: &mut Writer, digits: &[u8], prefix: &str) -> bool {
    let (pairs, odd) = digits.as_chunks::<2>();
    if digits.len() < HEX_DIGITS_MIN || !odd.is_empty() {
        return false;
    }
    // Every digit's value is or-ed into `seen`: one pass without branches tells whether all are hex.
    let seen = digits.iter().fold(0, |seen, digit| seen | digit_value(*digit));
    if seen == NO_DIGIT {
        return false;
    }
    write_prefix(out, prefix);
    out.bytes_head(pairs.len());
    out.out_mut().extend(pairs.iter().map(|[high, low]| digit_value(*high) << 4 | digit_value(*low)));
    true
}

/// What [`digit_value`] gives for anything that is no lower-case hex digit: all bits, so that it survives an or.
const NO_DIGIT: u8 = 0xff;

/// Returns the value of a lower-case hex digit; without branches, so that a loop over digits runs in vectors.
#[inline]
fn digit_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => NO_DIGIT,
    }
}

#[inline]
fn nibble(digit: u8) -> Option<u8> {
    Some(digit_value(digit)).filter(|value| *value != NO_DIGIT)
}

/// Reads 8-4-4-4-12 lower-case hex digits.
pub(crate) fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: &[u8; UUID_CHARS] = text.as_bytes().try_into().ok()?;
    let mut out = [0; 16];
    let mut slots = out.iter_mut();
    let (mut high, mut count) = (0, 0);
    for (position, digit) in digits.iter().enumerate() {
        if matches!(position, 8 | 13 | 18 | 23) {
            if *digit != b'-' {
                return None;
            }
            continue;
        }
        let value = nibble(*digit)?;
        if count % 2 == 0 {
            high = value;
        } else {
            *slots.next()? = high << 4 | value;
        }
        count += 1;
    }
    Some(out)
}

/// Writes 8-4-4-4-12 lower-case hex digits.
pub(crate) fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(UUID_CHARS);
    let mut rest = bytes.as_slice();
    for length in [4, 2, 2, 2, 6] {
        let (group, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if !text.is_empty() {
            text.push('-');
        }
        HEXLOWER.encode_append(group, &mut text);
        rest = behind;
    }
    text
}

/// Reads a string in any form.
pub(crate) fn read_string(input: &mut Reader<'_>) -> Result<String, CborError> {
    match input.kind()? {
        Kind::Text => input.text().map(ToOwned::to_owned),
        Kind::Bytes => input.bytes().map(|bytes| HEXLOWER.encode(bytes)),
        Kind::Tag => read_tagged(input),
        _ => Err(CborError),
    }
}

fn read_tagged(input: &mut Reader<'_>) -> Result<String, CborError> {
    match input.tag()? {
        TAG_UUID => Ok(uuid_text(&input.byte_array()?)),
        TAG_EPOCH => {
            let seconds = i64::try_from(input.int()?).map_err(|_| CborError)?;
            time::format((seconds, None)).ok_or(CborError)
        }
        TAG_EXTENDED_TIME => {
            if input.map()? != 2 || input.uint()? != 1 {
                return Err(CborError);
            }
            let seconds = i64::try_from(input.int()?).map_err(|_| CborError)?;
            if input.int()? != -3 {
                return Err(CborError);
            }
            time::format((seconds, Some(input.small()?))).ok_or(CborError)
        }
        TAG_ID if input.kind()? == Kind::Bytes => Ok(GlobalCustomerId::new(input.byte_array()?).to_string()),
        TAG_ID => {
            if input.array()? != 2 {
                return Err(CborError);
            }
            let mut text = match input.kind()? {
                Kind::Int => {
                    let position: usize = input.small()?;
                    (*PREFIXES.get(position).ok_or(CborError)?).to_owned()
                }
                _ => input.text()?.to_owned(),
            };
            match input.kind()? {
                Kind::Bytes => HEXLOWER.encode_append(input.bytes()?, &mut text),
                _ if input.tag()? == TAG_UUID => text.push_str(&uuid_text(&input.byte_array()?)),
                _ => return Err(CborError),
            }
            Ok(text)
        }
        _ => Err(CborError),
    }
}
