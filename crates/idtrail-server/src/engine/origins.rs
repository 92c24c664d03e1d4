//! The logs of an installation: an ordered list of which only the last one is written to.
//!
//! A log continues only on storage that holds every frame that it acknowledged. So a restored backup starts the next log,
//! whose first leaf names the one before and the checkpoint at which that ended. The list is written nowhere else: log *n*
//! is called `<first>/<n>` and stands in `log/<n, four digits>`; the newest one is the highest number for which the vault
//! has keys, and each log's first leaf leads to the one before. The vault cannot be rolled back behind its anchors, so an
//! older data directory shows by the log that it does not have, where a list beside the logs would be as old as they are.
//! Each log has an access log of the same number, in `access/<n>`, called after it; a restore starts both.
//!
//! What it must never do: append to any log but the newest, or sign a tree of an earlier one other than its last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use idtrail_event::clear::OriginStartItem;
use idtrail_event::{Leaf, LeafKey, OpenLeaf, TypeCode};
use idtrail_index::facts::Hasher;
use idtrail_index::identity::Identity;
use idtrail_index::lookup::Lookup;
use idtrail_index::numbering::Numbering;
use idtrail_index::seal::{self, OpenError};
use idtrail_index::shred::ShredLog;
use idtrail_log::reader::Reader;
use idtrail_log::{OriginOrdinal, backup, recovery};
use idtrail_port::Disk;
use idtrail_tlog::{Checkpoint, LogIndex, SignerKey, TreeSize, VerifierKey};
use idtrail_vault::{Keyring, Vault};
use idtrail_verify::access_origin;

use super::{EngineError, Ports, index};
use crate::settings::Settings;

/// The most logs that an installation can have.
const NUMBER_MAX: u32 = 9999;

/// The two kinds of logs that an installation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What happened to customers.
    Events,
    /// Who was shown what of it.
    Access,
}

impl Kind {
    fn number(self, first: &str, log: &str) -> Option<u32> {
        match self {
            Self::Events => number(first, log),
            Self::Access => number(first, log.strip_suffix(access_origin("").as_str())?),
        }
    }
}

/// One log of an installation: what it is called and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its kind.
    pub kind: Kind,
    /// Its number among those of its kind.
    pub number: u32,
    /// Its name.
    pub origin: String,
    /// Name of the log under which the vault has the key that signs it.
    pub signed_as: String,
    /// The directory of the log itself.
    pub log: PathBuf,
    /// The directory of its index.
    pub index: PathBuf,
}

impl Place {
    /// Returns where log `number` of the installation is whose first log is `first`.
    pub fn new(kind: Kind, data_dir: &Path, first: &str, number: u32) -> Self {
        let signed_as = name(first, number);
        let (origin, log, index) = match kind {
            Kind::Events => (signed_as.clone(), "log", "index"),
            Kind::Access => (access_origin(&signed_as), "access", "access-index"),
        };
        let log = data_dir.join(log).join(format!("{number:04}"));
        let index =
            data_dir.join(if number == 0 { index.to_owned() } else { format!("{index}-{number:04}") });
        Self { kind, number, origin, signed_as, log, index }
    }

    /// Returns the key that signs the log; `None` if the vault has none.
    pub(super) fn signer(&self, vault: &Vault) -> Result<Option<SignerKey>, idtrail_tlog::KeyError> {
        let seed = vault.signing_seed(&self.signed_as);
        seed.map(|seed| SignerKey::from_seed(&self.origin, seed.expose())).transpose()
    }
}

impl Place {
    /// Returns the keys that verify what the log has signed: the present one, then those before it, oldest first, with the
    /// last size that each has signed; nothing if the vault does not know the log.
    pub fn verifiers(
        &self,
        vault: &Vault,
    ) -> Result<Vec<(VerifierKey, Option<u64>)>, idtrail_tlog::KeyError> {
        let Some(signer) = self.signer(vault)? else { return Ok(Vec::new()) };
        let mut keys = vec![(signer.verifier(), None)];
        for old in vault.retired_keys(&self.signed_as) {
            keys.push((VerifierKey::ed25519(&self.origin, &old.public)?, Some(old.size)));
        }
        Ok(keys)
    }
}

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

/// Returns the directory of a log of events in a data directory.
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

/// Returns the logs of a kind before log `newest`, oldest first, as each log's first leaf names them. A log that was lost as
/// a whole is not among them. An access log continues none if there was none before.
///
/// # Errors
/// `Chain` if a log is missing or says something else than where it comes from; `Log` if one cannot be read.
pub fn chain(
    disk: &dyn Disk,
    kind: Kind,
    (data_dir, first): (&Path, &str),
    newest: u32,
) -> Result<Vec<Past>, EngineError> {
    let mut past: Vec<Past> = Vec::new();
    let mut at = newest;
    loop {
        let dir = Place::new(kind, data_dir, first, at).log;
        let wrong = |what| EngineError::Chain { what, path: dir.clone() };
        // Older versions had no access log.
        let may_begin = at == 0 || kind == Kind::Access;
        if !disk.exists(&dir).map_err(|source| EngineError::Directory { path: dir.clone(), source })? {
            if kind == Kind::Access && at == newest {
                break;
            }
            return Err(wrong(
                "the vault or a later log names a log that is not here; this data is not the newest state",
            ));
        }
        if at == 0 && newest == 0 {
            // Nothing was before it, and what a crash left of its first frame is for recovery to judge.
            break;
        }
        let entry = match backup::first_entry(disk, &dir)? {
            Some(entry) => entry,
            // An access log that was made and not begun.
            None if may_begin && at == newest => break,
            None => {
                return Err(wrong(
                    "the log was not begun; a restore was cut short, repeat it in an empty directory",
                ));
            }
        };
        let item =
            start_item(&entry).ok_or_else(|| wrong("the first leaf does not say what log it continues"))?;
        let Some((origin, note)) = item.previous else {
            if may_begin {
                break;
            }
            return Err(wrong("the log continues none, although it is not the first"));
        };
        let text = note.split_once("\n\n").map(|(text, _)| format!("{text}\n"));
        let end = text.and_then(|text| Checkpoint::parse(&text).ok()).map(|(end, _)| end);
        let before = kind.number(first, &origin).filter(|before| *before < at);
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
    /// The key that verifies its checkpoints.
    pub verifier: &'a VerifierKey,
}

impl View<'_> {
    /// Opens the leaf at `index`.
    ///
    /// # Errors
    /// `Key` if its key was destroyed; `Leaf` if it is not what was sealed.
    pub fn open_leaf(&self, index: LogIndex, bytes: &[u8]) -> Result<seal::Disclosed, OpenError> {
        seal::open(self.keyring, index, bytes)
    }

    /// Opens the leaf at `index` but for the part that says which person acted, and returns the key.
    ///
    /// # Errors
    /// As [`View::open_leaf`].
    pub fn open_without_person(
        &self,
        index: LogIndex,
        bytes: &[u8],
    ) -> Result<(OpenLeaf, LeafKey), OpenError> {
        let key = self.open_leaf(index, bytes)?.event_key;
        let open = Leaf::parse(bytes).and_then(|leaf| leaf.open(&key)).map_err(OpenError::Leaf)?;
        Ok((open, key))
    }
}

/// Logs laid end to end, oldest first, for lists that run over all of them: an entry is counted from the oldest one on.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    earlier: Vec<View<'a>>,
    newest: View<'a>,
}

impl<'a> Line<'a> {
    pub(super) fn new(earlier: &'a [Earlier], newest: View<'a>) -> Self {
        Self { earlier: earlier.iter().map(Earlier::view).collect(), newest }
    }

    /// Returns the logs, oldest first.
    pub fn logs(&self) -> impl DoubleEndedIterator<Item = View<'a>> + use<'a, '_> {
        self.earlier.iter().copied().chain([self.newest])
    }

    /// Returns how many entries there are.
    pub fn total(&self) -> u64 {
        self.logs().map(|log| log.reader.size().get()).sum()
    }

    /// Returns the log and the index in it that a count leads to; the end of one log is the start of the next.
    pub fn locate(&self, count: u64) -> (View<'a>, u64) {
        let mut rest = count;
        for log in &self.earlier {
            let size = log.reader.size().get();
            if rest < size {
                return (*log, rest);
            }
            rest -= size;
        }
        (self.newest, rest)
    }

    /// Returns a cursor: the log's name and the next index, in a form that nobody is tempted to take apart.
    pub fn cursor(&self, count: u64) -> String {
        let (log, next) = self.locate(count);
        BASE64URL_NOPAD.encode(format!("{next}@{}", log.name).as_bytes())
    }

    /// Returns the count that a cursor stands for; `None` if it is not one of these logs'.
    pub fn start(&self, cursor: &str) -> Option<u64> {
        let text = String::from_utf8(BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?).ok()?;
        let (next, origin) = text.split_once('@')?;
        let next: u64 = next.parse().ok()?;
        let mut before = 0;
        for log in self.logs() {
            let size = log.reader.size().get();
            if log.name == origin {
                return match next <= size {
                    true => Some(before + next),
                    // Entries that this reader has seen were lost with the log's end; what it lacks begins behind.
                    false if log.ordinal != self.newest.ordinal => Some(before + size),
                    false => None,
                };
            }
            before += size;
        }
        None
    }
}

/// An earlier log, opened.
pub(super) struct Earlier {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) size: TreeSize,
    pub(super) reader: Arc<Reader>,
    pub(super) keyring: Keyring,
    pub(super) lookup: Lookup,
    pub(super) verifier: VerifierKey,
    /// The same, and the keys before it.
    pub(super) verifiers: Vec<VerifierKey>,
    /// Signs certificates of requests whose steps stand in it.
    pub(super) certificate_signer: SignerKey,
}

impl Earlier {
    /// Opens the logs of a kind before log `number`, oldest first, and has identity read them.
    pub(super) fn open_all(
        ports: &Ports,
        settings: &Settings,
        (vault, hasher): (&Vault, &Hasher),
        (kind, number): (Kind, u32),
        identity: Option<&Identity>,
    ) -> Result<(Vec<Self>, Numbering), EngineError> {
        let past = chain(&*ports.disk, kind, (&settings.data_dir, &settings.origin), number)?;
        let ends = past.iter().map(|past| (OriginOrdinal(past.number), past.end.size));
        let numbering = Numbering::new(OriginOrdinal(number), ends);
        let open = |past: &Past| {
            let start = numbering.start(OriginOrdinal(past.number)).unwrap_or(0);
            let identity = identity.map(|identity| (identity, start));
            Self::open(ports, settings, (vault, hasher), (kind, past), identity)
        };
        Ok((past.iter().map(open).collect::<Result<_, _>>()?, numbering))
    }

    /// Opens an earlier log, and makes its index if there is none.
    pub(super) fn open(
        ports: &Ports,
        settings: &Settings,
        (vault, hasher): (&Vault, &Hasher),
        (kind, past): (Kind, &Past),
        identity: Option<(&Identity, u64)>,
    ) -> Result<Self, EngineError> {
        let place = Place::new(kind, &settings.data_dir, &settings.origin, past.number);
        let (Some(keyring), Some(signer)) = (vault.keyring(&place.origin), place.signer(vault)?) else {
            return Err(EngineError::Foreign);
        };
        let verifiers: Vec<VerifierKey> = place.verifiers(vault)?.into_iter().map(|(key, _)| key).collect();
        if Checkpoint::open(past.note.as_bytes(), &verifiers).ok().as_ref() != Some(&past.end) {
            let what = "the checkpoint at which an earlier log ended is not signed by it";
            return Err(EngineError::Chain { what, path: place.log });
        }
        let open = || index::open(ports, settings, &place, hasher, vault.epoch());
        let mut lookup = open()?;
        if lookup.applied() > past.end.size {
            tracing::warn!(log = place.origin, "the index is ahead of the log, and is built anew");
            Lookup::wipe(&*ports.disk, &place.index)?;
            lookup = open()?;
        }
        let reading = Reading { keyring: &keyring, hasher, lookup: &lookup, identity };
        let mut visit = |index: LogIndex, bytes: &[u8]| reading.take(index, bytes);
        let reader = recovery::open_final(&ports.disk, &place.log, &past.end, &signer, &mut visit)?;
        lookup.start_background()?;
        let (number, size, reader) = (past.number, past.end.size, Arc::new(reader));
        let (name, verifier) = (place.origin, signer.verifier());
        let seed = vault.signing_seed(&place.signed_as).ok_or(EngineError::Foreign)?;
        let certificate_signer =
            SignerKey::from_seed(&idtrail_verify::certificate_key_name(&name), seed.expose())?;
        Ok(Self { number, name, size, reader, keyring, lookup, verifier, verifiers, certificate_signer })
    }

    pub(super) fn to_shred(&self) -> ShredLog {
        ShredLog {
            ordinal: OriginOrdinal(self.number),
            reader: Arc::clone(&self.reader),
            keyring: self.keyring.clone(),
            lookup: self.lookup.clone(),
        }
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            ordinal: OriginOrdinal(self.number),
            name: &self.name,
            reader: &self.reader,
            keyring: &self.keyring,
            lookup: &self.lookup,
            verifier: &self.verifier,
        }
    }
}

/// Takes leaves of one log over, into its index and into identity.
pub(super) struct Reading<'a> {
    pub(super) keyring: &'a Keyring,
    pub(super) hasher: &'a Hasher,
    pub(super) lookup: &'a Lookup,
    /// Identity, and the number that it has for the log's first leaf.
    pub(super) identity: Option<(&'a Identity, u64)>,
}

impl Reading<'_> {
    /// Takes one leaf over, as far as it was not.
    pub(super) fn take(
        &self,
        index: LogIndex,
        bytes: &[u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let is_new = index.get() >= self.lookup.applied().get();
        let identity = self.identity.map(|(identity, start)| (identity, LogIndex::new(start + index.get())));
        let identity = identity.filter(|(identity, number)| *number >= identity.next());
        if !is_new && identity.is_none() {
            return Ok(());
        }
        match seal::open(self.keyring, index, bytes) {
            Ok(disclosed) => {
                if let Some((identity, number)) = identity {
                    identity.replay(self.hasher, number, &disclosed.leaf);
                }
                if is_new {
                    self.lookup.fold(index, &self.hasher.facts(&disclosed.leaf));
                }
            }
            // An erased or expired leaf says nothing any more; that is what erasure means.
            Err(OpenError::Key(_)) => {
                if let Some((identity, number)) = identity {
                    identity.skip(number);
                }
                if is_new {
                    self.lookup.skip(index);
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
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
        for n in [0, 1, NUMBER_MAX] {
            let place = Place::new(Kind::Access, Path::new("data"), first, n);
            assert_eq!(Kind::Access.number(first, &place.origin), Some(n));
            assert_eq!(Kind::Access.number(first, &place.signed_as), None);
        }
    }
}
