//! The logs of an installation: an ordered list of which only the last one is written to.
//!
//! A log continues only on storage that holds every frame that it acknowledged. So a restored backup starts the next log,
//! whose first leaf names the one before and the checkpoint at which that ended. The list is written nowhere else: log *n*
//! is called `<first>/<n>` and stands in `log/<n, four digits>`; the newest one is the highest number for which the vault
//! has keys, and each log's first leaf leads to the one before. The vault cannot be rolled back behind its anchors, so an
//! older data directory shows by the log that it does not have, where a list beside the logs would be as old as they are.
//!
//! What it must never do: append to any log but the newest, or sign a tree of an earlier one other than its last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idtrail_event::clear::OriginStartItem;
use idtrail_event::{Leaf, TypeCode};
use idtrail_index::facts::Hasher;
use idtrail_index::lookup::Lookup;
use idtrail_index::seal::{self, OpenError};
use idtrail_log::reader::Reader;
use idtrail_log::{OriginOrdinal, backup, recovery};
use idtrail_port::Disk;
use idtrail_tlog::{Checkpoint, LogIndex, SignerKey, VerifierKey};
use idtrail_vault::{Keyring, Vault};

use super::{EngineError, Ports, index};
use crate::settings::Settings;

/// The most logs that an installation can have.
const NUMBER_MAX: u32 = 9999;

/// Returns the name of a log of the installation whose first log is `first`.
pub fn name(first: &str, number: u32) -> String {
    if number == 0 { first.to_owned() } else { format!("{first}/{number}") }
}

/// Returns the number of a log of the installation whose first log is `first`; `None` for any other log.
pub fn number(first: &str, log: &str) -> Option<u32> {
    let rest = log.strip_prefix(first)?;
    let number = if rest.is_empty() { 0 } else { rest.strip_prefix('/')?.parse().ok()? };
    (number <= NUMBER_MAX && name(first, number) == log).then_some(number)
}

/// Returns the directory of a log in a data directory.
pub fn directory(data_dir: &Path, number: u32) -> PathBuf {
    data_dir.join("log").join(format!("{number:04}"))
}

/// Returns the number of the newest log for which the vault has keys; `None` if it belongs to another installation.
pub fn newest(vault: &Vault, first: &str) -> Option<u32> {
    vault.keyring(first)?;
    vault.origins().filter_map(|log| number(first, log)).max()
}

/// An earlier log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its number.
    pub number: u32,
    /// Its name and the tree at which it ended.
    pub end: Checkpoint,
    /// The same as the log signed it.
    pub note: String,
}

/// Returns the logs before log `newest`, oldest first, as each log's first leaf names them. A log that was lost as a whole
/// is not among them.
///
/// # Errors
/// `Chain` if a log is missing or says something else than where it comes from; `Log` if one cannot be read.
pub fn chain(disk: &dyn Disk, data_dir: &Path, first: &str, newest: u32) -> Result<Vec<Past>, EngineError> {
    let mut past: Vec<Past> = Vec::new();
    let mut at = newest;
    loop {
        let dir = directory(data_dir, at);
        let wrong = |what| EngineError::Chain { what, path: dir.clone() };
        if !disk.exists(&dir).map_err(|source| EngineError::Directory { path: dir.clone(), source })? {
            return Err(wrong(
                "the vault or a later log names a log that is not here; this data is not the newest state",
            ));
        }
        let entry = match backup::first_entry(disk, &dir)? {
            Some(entry) => entry,
            // A new installation writes its first leaf when it is opened.
            None if at == 0 => break,
            None => {
                return Err(wrong(
                    "the log was not begun; a restore was cut short, repeat it in an empty directory",
                ));
            }
        };
        let item =
            start_item(&entry).ok_or_else(|| wrong("the first leaf does not say what log it continues"))?;
        let Some((origin, note)) = item.previous else {
            if at == 0 {
                break;
            }
            return Err(wrong("the log continues none, although it is not the first"));
        };
        let text = note.split_once("\n\n").map(|(text, _)| format!("{text}\n"));
        let end = text.and_then(|text| Checkpoint::parse(&text).ok()).map(|(end, _)| end);
        let before = number(first, &origin).filter(|before| *before < at);
        match (before, end) {
            (Some(before), Some(end)) if end.origin == origin => {
                past.push(Past { number: before, end, note });
                at = before;
            }
            _ => return Err(wrong("the first leaf names no log of this installation")),
        }
    }
    past.reverse();
    Ok(past)
}

fn start_item(entry: &[u8]) -> Option<OriginStartItem> {
    let leaf = Leaf::parse(entry).ok()?;
    let header = leaf.header();
    let clear = header.clear.as_deref().filter(|_| header.event_type == TypeCode::ORIGIN_START)?;
    OriginStartItem::decode(clear).ok()
}

/// A log of an installation that is open.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its place among the installation's logs.
    pub ordinal: OriginOrdinal,
    /// Its name.
    pub name: &'a str,
    /// What reads it.
    pub reader: &'a Arc<Reader>,
    /// The keys of its leaves.
    pub keyring: &'a Keyring,
    /// Where its events are.
    pub lookup: &'a Lookup,
}

impl View<'_> {
    /// Opens the leaf at `index`.
    ///
    /// # Errors
    /// `Key` if its key was destroyed; `Leaf` if it is not what was sealed.
    pub fn open_leaf(&self, index: LogIndex, bytes: &[u8]) -> Result<seal::Disclosed, OpenError> {
        seal::open(self.keyring, index, bytes)
    }
}

/// An earlier log, opened.
pub(super) struct Earlier {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) reader: Arc<Reader>,
    pub(super) keyring: Keyring,
    pub(super) lookup: Lookup,
    pub(super) verifier: VerifierKey,
}

impl Earlier {
    /// Opens an earlier log, and makes its index if there is none.
    pub(super) fn open(
        ports: &Ports,
        settings: &Settings,
        vault: &Vault,
        hasher: &Hasher,
        past: &Past,
    ) -> Result<Self, EngineError> {
        let name = past.end.origin.clone();
        let (Some(keyring), Some(seed)) = (vault.keyring(&name), vault.signing_seed(&name)) else {
            return Err(EngineError::Foreign);
        };
        let dir = directory(&settings.data_dir, past.number);
        let signer = SignerKey::from_seed(&name, seed.expose())?;
        let verifier = signer.verifier();
        if Checkpoint::open(past.note.as_bytes(), [&verifier]).ok().as_ref() != Some(&past.end) {
            let what = "the checkpoint at which an earlier log ended is not signed by it";
            return Err(EngineError::Chain { what, path: dir });
        }
        let open = || index::open(ports, settings, hasher, vault.epoch(), (past.number, &name));
        let mut lookup = open()?;
        if lookup.applied() > past.end.size {
            tracing::warn!(log = name, "the index is ahead of the log, and is built anew");
            Lookup::wipe(&*ports.disk, &index::index_directory(&settings.data_dir, past.number))?;
            lookup = open()?;
        }
        let mut visit = |index: LogIndex, bytes: &[u8]| take_over(&keyring, hasher, &lookup, index, bytes);
        let reader = recovery::open_final(&ports.disk, &dir, &past.end, &signer, &mut visit)?;
        lookup.start_background()?;
        Ok(Self { number: past.number, name, reader: Arc::new(reader), keyring, lookup, verifier })
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            ordinal: OriginOrdinal(self.number),
            name: &self.name,
            reader: &self.reader,
            keyring: &self.keyring,
            lookup: &self.lookup,
        }
    }
}

/// Has the index take one leaf over, unless it has.
pub(super) fn take_over(
    keyring: &Keyring,
    hasher: &Hasher,
    lookup: &Lookup,
    index: LogIndex,
    bytes: &[u8],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if index.get() < lookup.applied().get() {
        return Ok(());
    }
    match seal::open(keyring, index, bytes) {
        Ok(disclosed) => lookup.fold(index, &hasher.facts(&disclosed.leaf)),
        // An erased or expired leaf says nothing any more; that is what erasure means.
        Err(OpenError::Key(_)) => lookup.skip(index),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_a_number_one_name() {
        let first = "audit.example.com/log";
        for n in [0, 1, 2, 10, NUMBER_MAX] {
            assert_eq!(number(first, &name(first, n)), Some(n));
        }
        for other in [
            "audit.example.com/log/0",
            "audit.example.com/log/01",
            "audit.example.com/log/+1",
            "audit.example.com/log/10000",
            "audit.example.com/log/access",
            "audit.example.com/log/1/access",
            "audit.example.com/log1",
            "audit.example.com",
        ] {
            assert_eq!(number(first, other), None, "{other}");
        }
    }
}
