//! Pages of an answer: each is an evidence package of its own over the next events in the order of the logs.
//!
//! The cursor names the last event that was looked at and, as a keyed digest, the question and the ids of the person at the
//! time. If those have changed, an event behind the cursor may have become the person's since, so the pages together
//! would lack it: such a cursor is refused, and the reader begins anew.

use data_encoding::BASE64URL_NOPAD;
use idtrail_event::GlobalCustomerId;
use idtrail_index::facts::Hasher;
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_tlog::LogIndex;
use idtrail_verify::Request;

/// Which part of an answer is wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// Most events; all if `None`.
    pub(super) limit: Option<usize>,
    pub(super) after: Option<Cursor>,
}

impl Part {
    /// Tells whether all is wanted.
    pub(super) fn is_whole(&self) -> bool {
        self.limit.is_none() && self.after.is_none()
    }
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) last: Reference,
    pub(super) question: [u8; 8],
}

impl Cursor {
    pub(super) fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(20);
        bytes.extend_from_slice(&self.last.origin.0.to_be_bytes());
        bytes.extend_from_slice(&self.last.index.get().to_be_bytes());
        bytes.extend_from_slice(&self.question);
        BASE64URL_NOPAD.encode(&bytes)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let (origin, rest) = bytes.split_first_chunk()?;
        let (index, question) = rest.split_first_chunk()?;
        let origin = OriginOrdinal(u32::from_be_bytes(*origin));
        let index = LogIndex::new(u64::from_be_bytes(*index));
        Some(Self { last: Reference { origin, index }, question: question.try_into().ok()? })
    }
}

/// Returns what stands for a question about a person of these ids.
pub(super) fn question(hasher: &Hasher, request: &Request, ids: &[GlobalCustomerId]) -> [u8; 8] {
    let mut ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.sort_unstable();
    let range = request.date_range.as_ref().map(|range| format!("{} {}", range.start, range.end));
    let text = format!(
        "page of an answer\n{}\n{}\n{}",
        request.customer_id_hash,
        range.unwrap_or_default(),
        ids.join("\n")
    );
    let digest = hasher.customer(&text);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_have_one_spelling() {
        let last = Reference { origin: OriginOrdinal(3), index: LogIndex::new(1 << 40) };
        let cursor = Cursor { last, question: [7; 8] };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor.clone()));
        for bad in ["", "x", &cursor.text()[1..], &format!("{}AA", cursor.text())] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
