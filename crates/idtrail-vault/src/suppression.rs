//! What is remembered of an erased event for a while: enough to recognise a repetition, and nothing more.
//!
//! A client that repeats a request after the event was erased must be told so, or the event would come back. So the
//! deduplication key of an erased leaf moves here, with the digest of its content, both hashed once more under a key
//! that exists for this list only, and with a date of expiry. It is personal data with a basis and an end: entries
//! that have expired count as absent at once and go with the next write of the vault.
//!
//! What it must never do: hold the place of an event in the log, or anything that leads from one entry to another.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Secret32;

/// What is known of an erased event, to be suppressed until a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasedEvent {
    /// The deduplication key, as the index has it.
    pub dedupe: [u8; 32],
    /// The keyed digest of the content, as the index has it.
    pub content: [u8; 32],
    /// From when on it is forgotten, milliseconds since 1970.
    pub expires_ms: u64,
}

/// For how long a person stays closed after the cut-off of an erasure, in milliseconds: 400 days, so that a copy of a
/// year ago that is played in again is still recognised.
pub const CLOSED_MS: u64 = 400 * 86_400_000;

impl ErasedEvent {
    /// Returns the entry that closes a name, which is no deduplication key, for what happened before the cut-off
    /// (milliseconds since 1970). The entry's end is the cut-off and [`CLOSED_MS`], so that it says both.
    pub fn closing(name: [u8; 32], cutoff_ms: u64) -> Self {
        Self { dedupe: name, content: [0; 32], expires_ms: cutoff_ms.saturating_add(CLOSED_MS) }
    }

    /// Returns the entry that opens a name again: it is over at once.
    pub fn opening(name: [u8; 32]) -> Self {
        Self { dedupe: name, content: [0; 32], expires_ms: 0 }
    }
}

/// A repetition of an erased event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppressed {
    /// With the same content.
    Same,
    /// With another content under the same id.
    Other,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: [u8; 32],
    pub(crate) content: [u8; 32],
    pub(crate) expires_ms: u64,
}

/// The list, sorted by name. There is a key exactly if there are entries.
#[derive(Clone, Default)]
pub(crate) struct Entries {
    key: Option<Secret32>,
    list: Vec<Entry>,
}

impl Entries {
    pub(crate) const ENTRY_BYTES: usize = 72;

    /// Takes over what was read; nothing if it is not sorted.
    pub(crate) fn from_parts(key: Secret32, list: Vec<Entry>) -> Option<Self> {
        let sorted = list.windows(2).all(|pair| matches!(pair, [left, right] if left.name < right.name));
        (sorted && !list.is_empty()).then_some(Self { key: Some(key), list })
    }

    pub(crate) fn key(&self) -> Option<&Secret32> {
        self.key.as_ref()
    }

    pub(crate) fn list(&self) -> &[Entry] {
        &self.list
    }

    /// Returns the list without what has expired and with more entries; `new_key` is used if there is none yet.
    pub(crate) fn with(&self, more: &[ErasedEvent], now_ms: u64, new_key: impl FnOnce() -> Secret32) -> Self {
        let live = |entry: &&Entry| entry.expires_ms > now_ms;
        let mut list: Vec<Entry> = self.list.iter().filter(live).cloned().collect();
        if list.is_empty() && more.is_empty() {
            return Self::default();
        }
        let key = self.key.clone().filter(|_| !list.is_empty()).unwrap_or_else(new_key);
        // New entries behind old ones of the same name: the last one counts below.
        list.extend(more.iter().map(|erased| Entry {
            name: name(&key, &erased.dedupe),
            content: content(&key, &erased.dedupe, &erased.content),
            expires_ms: erased.expires_ms,
        }));
        list.sort_by_key(|entry| entry.name);
        list.reverse();
        list.dedup_by_key(|entry| entry.name);
        list.reverse();
        Self { key: Some(key), list }
    }

    fn find(&self, dedupe: &[u8; 32], digest: &[u8; 32], now_ms: u64) -> Option<Suppressed> {
        let key = self.key.as_ref()?;
        let wanted = name(key, dedupe);
        let at = self.list.binary_search_by_key(&wanted, |entry| entry.name).ok()?;
        let entry = self.list.get(at).filter(|entry| entry.expires_ms > now_ms)?;
        let same = entry.content == content(key, dedupe, digest);
        Some(if same { Suppressed::Same } else { Suppressed::Other })
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Entries({})", self.list.len())
    }
}

/// The suppression part of the vault for the thread that sequences. Clones are handles to the same list, which follows
/// the vault's epochs.
#[derive(Clone, Debug, Default)]
pub struct Suppression(Arc<RwLock<Arc<Entries>>>);

impl Suppression {
    /// Tells whether an event is a repetition of an erased one, at `now_ms` milliseconds since 1970.
    pub fn find(&self, dedupe: &[u8; 32], content: &[u8; 32], now_ms: u64) -> Option<Suppressed> {
        self.entries().find(dedupe, content, now_ms)
    }

    /// Returns the cut-off (milliseconds since 1970) of a name that is closed at `now_ms`; see [`ErasedEvent::closing`].
    pub fn closed_until(&self, name: &[u8; 32], now_ms: u64) -> Option<u64> {
        let entries = self.entries();
        let key = entries.key.as_ref()?;
        let wanted = self::name(key, name);
        let at = entries.list.binary_search_by_key(&wanted, |entry| entry.name).ok()?;
        let entry = entries.list.get(at).filter(|entry| entry.expires_ms > now_ms)?;
        Some(entry.expires_ms.saturating_sub(CLOSED_MS))
    }

    /// Returns how many entries there are, expired ones included.
    pub fn len(&self) -> usize {
        self.entries().list.len()
    }

    /// Tells whether nothing is suppressed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn replace(&self, entries: Arc<Entries>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = entries;
    }

    fn entries(&self) -> Arc<Entries> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn name(key: &Secret32, dedupe: &[u8; 32]) -> [u8; 32] {
    hash(key, 0, &[dedupe])
}

fn content(key: &Secret32, dedupe: &[u8; 32], digest: &[u8; 32]) -> [u8; 32] {
    hash(key, 1, &[dedupe, digest])
}

fn hash(key: &Secret32, domain: u8, parts: &[&[u8; 32]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.update(&[domain]);
    for part in parts {
        mac.update(*part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erased(id: u8, expires_ms: u64) -> ErasedEvent {
        ErasedEvent { dedupe: [id; 32], content: [id + 100; 32], expires_ms }
    }

    #[test]
    fn repetitions_are_known_until_they_expire_and_then_leave_nothing() {
        let entries = Entries::default().with(&[erased(1, 50), erased(2, 90)], 10, || Secret32::new([7; 32]));
        let find = |id: u8, content: u8, now| entries.find(&[id; 32], &[content; 32], now);
        assert_eq!(find(1, 101, 49), Some(Suppressed::Same));
        assert_eq!(find(1, 102, 49), Some(Suppressed::Other));
        assert_eq!(find(1, 101, 50), None);
        assert_eq!(find(3, 103, 49), None);
        assert!(entries.list.iter().all(|entry| entry.name != [1; 32] && entry.content != [101; 32]));

        let renewed = entries.with(&[erased(1, 200)], 60, || panic!("there is a key already"));
        assert_eq!(
            (renewed.list.len(), renewed.find(&[1; 32], &[101; 32], 100)),
            (2, Some(Suppressed::Same))
        );
        let gone = renewed.with(&[], 300, || panic!("nothing needs a key"));
        assert!(gone.key.is_none() && gone.list.is_empty());
    }

    #[test]
    fn a_closed_name_says_its_cut_off_until_its_end_or_until_it_is_opened() {
        let list = Suppression::default();
        let closing = [ErasedEvent::closing([1; 32], 1_000)];
        list.replace(Arc::new(Entries::default().with(&closing, 10, || Secret32::new([7; 32]))));
        assert_eq!(list.closed_until(&[1; 32], 2_000), Some(1_000));
        assert_eq!(list.closed_until(&[2; 32], 2_000), None);
        assert_eq!(list.closed_until(&[1; 32], 1_000 + CLOSED_MS), None);
        let opened = list.entries().with(&[ErasedEvent::opening([1; 32])], 20, || panic!("there is a key"));
        list.replace(Arc::new(opened));
        assert_eq!(list.closed_until(&[1; 32], 2_000), None);
    }
}
