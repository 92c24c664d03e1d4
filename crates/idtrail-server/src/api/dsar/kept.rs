//! Evidence packages that can be fetched again, from any byte on, after a broken connection.
//!
//! A package holds personal data in clear and the keys of leaves, so it is kept in memory only, for a quarter of an hour,
//! for the system and the person who asked, and within a bound for all packages together. Whoever comes too late asks
//! anew. As soon as a key was destroyed since, no kept package is given any more: it might hold what was erased.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use idtrail_port::{Entropy, random};
use sha2::{Digest as _, Sha256};

use super::super::disclosure::Shown;

/// How long a package is kept, in milliseconds.
const KEPT_MS: u64 = 15 * 60 * 1000;
/// Bytes of all packages together; a longer one is sent but not kept.
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// Who asked: the id of the API key, and that of the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) key: String,
    pub(super) person: String,
}

/// A package, as it was sent.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) body: Bytes,
    /// Value of `ETag`, with its quotes.
    pub(super) tag: String,
    /// What it shows: each fetch is an access.
    pub(super) shown: Shown,
}

impl File {
    pub(super) fn new(body: Vec<u8>, shown: Shown) -> Self {
        let tag = format!("\"{}\"", HEXLOWER.encode(&Sha256::digest(&body)));
        Self { body: body.into(), tag, shown }
    }
}

/// What must not have changed since a package was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now_ms: u64,
    /// Counts destructions of keys.
    pub(super) epoch: u64,
}

struct Entry {
    id: String,
    asker: Asker,
    file: File,
    made: Moment,
}

/// The packages that are kept, the oldest first.
#[derive(Default)]
pub(crate) struct Kept(Mutex<VecDeque<Entry>>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("count", &self.entries().len()).finish_non_exhaustive()
    }
}

impl Kept {
    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a package and returns the id by which it is fetched; `None` if it is too long to be kept.
    pub(super) fn keep(
        &self,
        entropy: &dyn Entropy,
        asker: Asker,
        file: File,
        made: Moment,
    ) -> Option<String> {
        let room = BYTES_MAX.checked_sub(file.body.len())?;
        let id = HEXLOWER.encode(&random::<16>(entropy));
        let mut entries = self.entries();
        forget_old(&mut entries, made);
        let mut total: usize = entries.iter().map(|entry| entry.file.body.len()).sum();
        while total > room {
            let Some(oldest) = entries.pop_front() else { break };
            total -= oldest.file.body.len();
        }
        entries.push_back(Entry { id: id.clone(), asker, file, made });
        Some(id)
    }

    /// Returns a package to the one who asked for it.
    pub(super) fn get(&self, id: &str, asker: &Asker, now: Moment) -> Option<File> {
        let mut entries = self.entries();
        forget_old(&mut entries, now);
        let mut theirs = entries.iter().filter(|entry| entry.id == id && entry.asker == *asker);
        theirs.next().map(|entry| entry.file.clone())
    }

    /// Forgets packages whose time is over. To be called every minute or so.
    pub(crate) fn sweep(&self, now_ms: u64, epoch: u64) {
        forget_old(&mut self.entries(), Moment { now_ms, epoch });
    }
}

fn forget_old(entries: &mut VecDeque<Entry>, now: Moment) {
    entries.retain(|entry| {
        entry.made.epoch == now.epoch && now.now_ms.saturating_sub(entry.made.now_ms) < KEPT_MS
    });
}

/// Which bytes of a file are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// From the first byte to the last one, both included.
    Part(u64, u64),
    /// None of the bytes that it has.
    Nothing,
}

/// Reads the header `Range` (RFC 9110 §14.2). What is not one range of bytes is ignored, as the RFC allows.
pub(super) fn wanted(range: Option<&str>, length: u64) -> Wanted {
    let Some(spec) = range.and_then(|range| range.strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok());
    let (first, last) = match (first, last) {
        ("", last) => match number(last).flatten() {
            Some(0) => return Wanted::Nothing,
            Some(count) => (length.saturating_sub(count), length.saturating_sub(1)),
            None => return Wanted::Whole,
        },
        (first, "") => match number(first).flatten() {
            Some(first) => (first, length.saturating_sub(1)),
            None => return Wanted::Whole,
        },
        (first, last) => match (number(first).flatten(), number(last).flatten()) {
            (Some(first), Some(last)) if first <= last => (first, last.min(length.saturating_sub(1))),
            _ => return Wanted::Whole,
        },
    };
    if first >= length { Wanted::Nothing } else { Wanted::Part(first, last) }
}

#[cfg(test)]
mod tests {
    use idtrail_sim::{Seed, SimEntropy};

    use super::*;

    #[test]
    fn ranges() {
        let cases = [
            (None, Wanted::Whole),
            (Some("bytes=0-"), Wanted::Part(0, 9)),
            (Some("bytes=4-"), Wanted::Part(4, 9)),
            (Some("bytes=4-6"), Wanted::Part(4, 6)),
            (Some("bytes=4-600"), Wanted::Part(4, 9)),
            (Some("bytes=-3"), Wanted::Part(7, 9)),
            (Some("bytes=-300"), Wanted::Part(0, 9)),
            (Some("bytes=-0"), Wanted::Nothing),
            (Some("bytes=10-"), Wanted::Nothing),
            (Some("bytes=6-4"), Wanted::Whole),
            (Some("bytes=0-1,4-5"), Wanted::Whole),
            (Some("bytes=+1-"), Wanted::Whole),
            (Some("lines=1-2"), Wanted::Whole),
            (Some("bytes=99999999999999999999-"), Wanted::Whole),
        ];
        for (range, expected) in cases {
            assert_eq!(wanted(range, 10), expected, "{range:?}");
        }
    }

    #[test]
    fn a_package_is_kept_for_its_asker_its_time_and_its_keys() {
        let (kept, entropy) = (Kept::default(), SimEntropy::new(Seed::new(1)));
        let asker = |name: &str| Asker { key: name.to_owned(), person: "dpo-1".to_owned() };
        let at = |now_ms, epoch| Moment { now_ms, epoch };
        let file = |bytes: usize| File::new(vec![7; bytes], Shown::default());
        let id = kept.keep(&entropy, asker("a"), file(10), at(1000, 3)).unwrap();
        assert_eq!(kept.get(&id, &asker("a"), at(1000 + KEPT_MS - 1, 3)).unwrap().body.len(), 10);
        assert!(kept.get(&id, &asker("b"), at(1000, 3)).is_none());
        assert!(kept.get("other", &asker("a"), at(1000, 3)).is_none());
        assert!(kept.get(&id, &asker("a"), at(1000, 4)).is_none(), "a key was destroyed");
        assert!(kept.get(&id, &asker("a"), at(1000, 3)).is_none(), "and then it is gone");
        let id = kept.keep(&entropy, asker("a"), file(10), at(1000, 3)).unwrap();
        kept.sweep(1000 + KEPT_MS, 3);
        assert!(kept.get(&id, &asker("a"), at(1000, 3)).is_none());
    }

    #[test]
    fn all_packages_together_are_bounded() {
        let (kept, entropy) = (Kept::default(), SimEntropy::new(Seed::new(1)));
        let asker = Asker { key: "a".to_owned(), person: "p".to_owned() };
        let at = Moment { now_ms: 0, epoch: 0 };
        let file =
            |bytes: usize| File { body: vec![0; bytes].into(), tag: String::new(), shown: Shown::default() };
        assert!(kept.keep(&entropy, asker.clone(), file(BYTES_MAX + 1), at).is_none());
        let first = kept.keep(&entropy, asker.clone(), file(BYTES_MAX / 2), at).unwrap();
        let second = kept.keep(&entropy, asker.clone(), file(BYTES_MAX / 2), at).unwrap();
        assert!(kept.get(&first, &asker, at).is_some());
        let third = kept.keep(&entropy, asker.clone(), file(1), at).unwrap();
        assert!(kept.get(&first, &asker, at).is_none(), "the oldest makes room");
        assert!(kept.get(&second, &asker, at).is_some() && kept.get(&third, &asker, at).is_some());
    }
}
