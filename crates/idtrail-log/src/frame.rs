//! One frame: the unit that is written and synced at once.
//!
//! ```text
//! offset  bytes  field (integers big-endian)
//!      0      8  magic "IDTframe"
//!      8      4  version, 1
//!     12      4  length of the body
//!     16      8  first index
//!     24      4  count of entries
//!     28      8  tree size after the frame (first index + count)
//!     36     32  root of the tree at that size (RFC 6962)
//!     68     32  hash of the previous frame; all zero before the first
//!    100      4  CRC32C of bytes 0..100
//!    104      n  body: each entry as u16 length and bytes (C2SP tlog-tiles entry bundle encoding)
//!  104+n      4  CRC32C of bytes 0..104+n
//!  108+n      8  end mark "frameEND"
//! ```
//! The hash of a frame is SHA-256 over its header and its body's CRC; the root in the header already binds every
//! entry. No byte of magic and end mark is zero, and no frame holds 512 zero bytes in a row, so that a frame of which
//! a disk block never arrived can be told from one whose bytes were changed.

use idtrail_tlog::{Hash, LogIndex, TreeSize};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 104;
/// Bytes behind the body.
pub const TRAILER_BYTES: usize = 12;
/// The longest entry (C2SP tlog-tiles).
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// The longest run of zero bytes in an entry, less one: a longer one looks like a block that never arrived.
pub const ZERO_RUN_MAX: usize = 512 - 16;

const MAGIC: &[u8; 8] = b"IDTframe";
const END: &[u8; 8] = b"frameEND";
const VERSION: u32 = 1;

/// The fixed part of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the body in bytes.
    pub body_bytes: u32,
    /// Index of the first entry.
    pub first: LogIndex,
    /// Count of entries, at least one.
    pub count: u32,
    /// Root of the tree after this frame.
    pub root: Hash,
    /// Hash of the frame before.
    pub previous: [u8; 32],
}

/// What stands at an offset that should hold a header.
#[derive(Debug, PartialEq, Eq)]
pub enum HeaderAt {
    /// A whole, intact header.
    Intact(Header),
    /// Anything else.
    Broken,
}

impl Header {
    /// Returns the tree size after this frame.
    pub fn size(&self) -> TreeSize {
        TreeSize::new(self.first.get() + u64::from(self.count))
    }

    /// Returns the length of the whole frame in bytes.
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize + TRAILER_BYTES
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            if let Some(target) = bytes.get_mut(at..at + field.len()) {
                target.copy_from_slice(field);
            }
            at += field.len();
        };
        put(MAGIC);
        put(&VERSION.to_be_bytes());
        put(&self.body_bytes.to_be_bytes());
        put(&self.first.get().to_be_bytes());
        put(&self.count.to_be_bytes());
        put(&self.size().get().to_be_bytes());
        put(self.root.as_bytes());
        put(&self.previous);
        let crc = crc32c::crc32c(&bytes[..100]);
        bytes[100..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a header; `Broken` if the bytes are too few or any check fails.
    pub fn decode(bytes: &[u8]) -> HeaderAt {
        Self::try_decode(bytes).map_or(HeaderAt::Broken, HeaderAt::Intact)
    }

    fn try_decode(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let (covered, crc) = bytes.split_at(100);
        if crc32c::crc32c(covered).to_be_bytes() != crc {
            return None;
        }
        let mut rest = covered;
        if take::<8>(&mut rest)? != *MAGIC || u32::from_be_bytes(take(&mut rest)?) != VERSION {
            return None;
        }
        let body_bytes = u32::from_be_bytes(take(&mut rest)?);
        let first = u64::from_be_bytes(take(&mut rest)?);
        let count = u32::from_be_bytes(take(&mut rest)?);
        let size = u64::from_be_bytes(take(&mut rest)?);
        let root = Hash::new(take(&mut rest)?);
        let previous = take(&mut rest)?;
        if count == 0 || first.checked_add(u64::from(count)) != Some(size) {
            return None;
        }
        Some(Header { body_bytes, first: LogIndex::new(first), count, root, previous })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// Tells why an entry cannot be stored, if so.
pub fn entry_refusal(entry: &[u8]) -> Option<&'static str> {
    if entry.is_empty() {
        return Some("it is empty");
    }
    if entry.len() > ENTRY_BYTES_MAX {
        return Some("it is longer than 65,535 bytes");
    }
    // A run this long covers at least one of these places; sealed entries hold a zero at few of them.
    let suspicious =
        entry.len() > ZERO_RUN_MAX && entry.iter().step_by(ZERO_RUN_MAX / 2).any(|byte| *byte == 0);
    if suspicious && longest_zero_run(entry) > ZERO_RUN_MAX {
        return Some("it holds a run of zero bytes that looks like a write that never arrived");
    }
    None
}

fn longest_zero_run(bytes: &[u8]) -> usize {
    let (mut longest, mut run) = (0, 0);
    for byte in bytes {
        run = if *byte == 0 { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// Writes a frame and returns its bytes and its hash. `entries` were checked with [`entry_refusal`].
pub fn encode<'a>(
    first: LogIndex,
    entries: impl Iterator<Item = &'a [u8]> + Clone,
    root: Hash,
    previous: [u8; 32],
) -> (Vec<u8>, [u8; 32]) {
    let (mut body_bytes, mut count) = (0usize, 0u32);
    for entry in entries.clone() {
        body_bytes += 2 + entry.len();
        count += 1;
    }
    let body_bytes = u32::try_from(body_bytes).expect("a group is limited to far less than 4 GiB");
    let header = Header { body_bytes, first, count, root, previous };
    let mut bytes = Vec::with_capacity(header.frame_bytes());
    bytes.extend_from_slice(&header.encode());
    for entry in entries {
        let length = u16::try_from(entry.len()).expect("entries were checked against the limit");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    let crc = crc32c::crc32c(&bytes).to_be_bytes();
    bytes.extend_from_slice(&crc);
    bytes.extend_from_slice(END);
    let hash = frame_hash(bytes.get(..HEADER_BYTES).unwrap_or_default(), crc);
    (bytes, hash)
}

fn frame_hash(header: &[u8], crc: [u8; 4]) -> [u8; 32] {
    // The leaf hash of RFC 6962 is SHA-256 with a leading zero byte: one primitive for all hashes here.
    let mut input = Vec::with_capacity(HEADER_BYTES + 4);
    input.extend_from_slice(header);
    input.extend_from_slice(&crc);
    *idtrail_tlog::leaf_hash(&input).as_bytes()
}

/// An intact frame, borrowed from the bytes that hold it.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The fixed part.
    pub header: Header,
    /// The entries as written.
    pub body: &'a [u8],
    /// The frame's hash, which the next frame must name.
    pub hash: [u8; 32],
}

impl<'a> Frame<'a> {
    /// Reads the frame at the start of `bytes`; `None` if it is not whole and intact.
    pub fn decode(bytes: &'a [u8]) -> Option<Frame<'a>> {
        let header = Header::try_decode(bytes)?;
        let whole = bytes.get(..header.frame_bytes())?;
        let (covered, trailer) = whole.split_at(whole.len() - TRAILER_BYTES);
        let (crc, end) = trailer.split_first_chunk::<4>()?;
        if end != END || crc32c::crc32c(covered).to_be_bytes() != *crc {
            return None;
        }
        let (head, body) = covered.split_at(HEADER_BYTES);
        let hash = frame_hash(head, *crc);
        Some(Frame { header, body, hash })
    }

    /// Returns the entries with their offsets from the start of the frame; `None` where the body does not hold exactly
    /// the count of entries that the header names.
    pub fn entries(&self) -> Option<Vec<(usize, &'a [u8])>> {
        split_body(self.body, self.header.count)
    }
}

/// Splits a frame's body into entries with their offsets from the start of the frame (offset of the length prefix).
pub fn split_body(body: &[u8], count: u32) -> Option<Vec<(usize, &[u8])>> {
    let mut entries = Vec::with_capacity(count as usize);
    let mut rest = body;
    while !rest.is_empty() {
        let offset = HEADER_BYTES + body.len() - rest.len();
        let length = u16::from_be_bytes(take(&mut rest)?);
        let (entry, tail) = rest.split_at_checked(usize::from(length))?;
        rest = tail;
        entries.push((offset, entry));
    }
    (entries.len() == count as usize).then_some(entries)
}

/// Tells whether bytes, zeros at their end aside, begin as a frame does.
pub(crate) fn starts_like_frame(bytes: &[u8]) -> bool {
    let arrived = bytes.iter().take(MAGIC.len()).take_while(|byte| **byte != 0).count();
    arrived > 0 && MAGIC.starts_with(bytes.get(..arrived).unwrap_or_default())
}

/// Returns the places in `bytes` that hold an intact header, from the front.
pub fn find_headers(bytes: &[u8]) -> impl Iterator<Item = (usize, Header)> + '_ {
    bytes.windows(HEADER_BYTES).enumerate().filter_map(|(at, window)| {
        if !window.starts_with(MAGIC) {
            return None;
        }
        Header::try_decode(window).map(|header| (at, header))
    })
}
