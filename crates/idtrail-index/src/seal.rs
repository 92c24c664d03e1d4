//! Makes leaves from drafts, and opens leaves, with the vault's keys.

use std::sync::Arc;

use idtrail_event::{
    BodyText, ClassSecret, EventId, GlobalCustomerId, IndexSecret, Leaf, LeafError, LeafKey, OpenLeaf,
    SectionSecrets, leaf_key, seal,
};
use idtrail_log::machine::{Entry, SealFailure, Sealer};
use idtrail_port::{Entropy, RandomPool};
use idtrail_tlog::LogIndex;
use idtrail_vault::{KeyCursor, KeyError, Keyring, Secret32, Section};

use crate::trail::Draft;

/// Why a leaf could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its key was destroyed.
    #[error("the key of the leaf is not there")]
    Key(#[source] KeyError),
    /// The leaf is not what it must be.
    #[error("the leaf cannot be opened")]
    Leaf(#[source] LeafError),
}

/// Drafts from which on a second thread seals half of them. Starting it costs as much as sealing about fifteen.
const SHARED_FROM: usize = 128;

/// Seals the leaves of one log. The sequencer waits for it, so a large group is sealed by two threads.
pub struct TrailSealer {
    keyring: Keyring,
    cursors: [KeyCursor; 2],
    random: RandomPool,
}

/// A draft, and the nonces of its two sections.
type Drawn<'a> = (&'a Draft, [[u8; 12]; 2]);

impl std::fmt::Debug for TrailSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrailSealer").field("keyring", &self.keyring).finish_non_exhaustive()
    }
}

impl TrailSealer {
    /// Returns a sealer with the keys of one log.
    pub fn new(keyring: Keyring, entropy: Arc<dyn Entropy>) -> Self {
        let cursors = [keyring.cursor(), keyring.cursor()];
        Self { keyring, cursors, random: RandomPool::new(entropy) }
    }
}

impl Sealer<Draft> for TrailSealer {
    fn seal(&mut self, first: LogIndex, drafts: &[&Draft]) -> Result<Vec<Entry>, SealFailure> {
        let Self { keyring, cursors: [own, other], random } = self;
        // All nonces are drawn here, in order: the same entropy gives the same leaves.
        let drawn: Vec<Drawn<'_>> =
            drafts.iter().map(|draft| (*draft, [random.take(), random.take()])).collect();
        if drawn.len() < SHARED_FROM {
            return seal_all(keyring, own, first.get(), &drawn);
        }
        let (front, back) = drawn.split_at(drawn.len() / 2);
        let middle = first.get() + front.len() as u64;
        std::thread::scope(|scope| {
            let second = std::thread::Builder::new().name("log-seal".to_owned());
            let second = second.spawn_scoped(scope, || seal_all(keyring, other, middle, back))?;
            let mut entries = seal_all(keyring, own, first.get(), front)?;
            entries.extend(second.join().map_err(|_| "the second sealing thread panicked")??);
            Ok(entries)
        })
    }
}

fn seal_all(
    keyring: &Keyring,
    cursor: &mut KeyCursor,
    first: u64,
    drawn: &[Drawn<'_>],
) -> Result<Vec<Entry>, SealFailure> {
    let mut entries = Vec::with_capacity(drawn.len());
    for (index, (draft, ivs)) in (first..).zip(drawn) {
        let indices = cursor.secrets(index)?;
        let class = keyring.class_secret(draft.header.class.code(), draft.header.month())?;
        let (event, staff, class) =
            (index_secret(&indices.event), index_secret(&indices.staff), class_secret(&class));
        let secrets = SectionSecrets { event, staff, class };
        entries.push(Entry::new(seal(&draft.seal_request(), &secrets, ivs, keyring.origin())?));
    }
    Ok(entries)
}

/// A leaf that was opened, with the keys that opened it: what is disclosed to whoever may see this event.
#[derive(Debug)]
pub struct Disclosed {
    /// The opened leaf.
    pub leaf: OpenLeaf,
    /// The key of the event's section.
    pub event_key: LeafKey,
    /// The key of the staff section, if there is one and its key is there.
    pub staff_key: Option<LeafKey>,
}

/// What outside systems get of an event: its body as a text, and the few facts that go with it.
#[derive(Debug)]
pub struct Handed {
    /// Receipt time, milliseconds since 1970.
    pub received_ms: u64,
    /// The customer; `None` in the log's own leaves.
    pub subject: Option<GlobalCustomerId>,
    /// The event's id.
    pub event_id: EventId,
    /// The body, with staff unless their key was destroyed.
    pub body: BodyText,
}

/// Opens leaves one after another for outside systems. Each key is derived from what the one before it left, and no tree
/// of an event is made. A held leaf is opened with the key that was kept.
#[derive(Debug)]
pub struct Opener {
    keyring: Keyring,
    cursor: KeyCursor,
}

impl Opener {
    /// Opens leaves with these keys.
    pub fn new(keyring: &Keyring) -> Self {
        Self { keyring: keyring.clone(), cursor: keyring.cursor() }
    }

    /// Opens the leaf at `index`.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(&mut self, index: LogIndex, leaf: &Leaf<'_>) -> Result<Handed, OpenError> {
        let class = class_of(&self.keyring, leaf)?;
        let event_key = self.key(index, class.as_ref(), Section::Event, leaf.iv()).map_err(OpenError::Key)?;
        let open = leaf.open_body(&event_key).map_err(OpenError::Leaf)?;
        let staff_key = match open.staff_iv().map_err(OpenError::Leaf)? {
            None => None,
            Some(iv) => match self.key(index, class.as_ref(), Section::Staff, &iv) {
                Ok(key) => Some(key),
                // The staff section alone may have been destroyed; the event stays readable.
                Err(KeyError::Punctured) => None,
                Err(error) => return Err(OpenError::Key(error)),
            },
        };
        let (received_ms, subject, event_id) = (open.received_ms, open.subject, open.event_id);
        let body = open.finish(staff_key.as_ref()).map_err(OpenError::Leaf)?;
        Ok(Handed { received_ms, subject, event_id, body })
    }

    fn key(
        &mut self,
        index: LogIndex,
        class: Option<&ClassSecret>,
        section: Section,
        iv: &[u8; 12],
    ) -> Result<LeafKey, KeyError> {
        section_key(&self.keyring, class, index, section, iv, || self.cursor.secret(index.get(), section))
    }
}

/// Opens the leaf at `index`. A held leaf whose class and month have expired is opened with the key that was kept.
///
/// # Errors
/// `Key` if its key was destroyed; `Leaf` if the bytes are not what was sealed.
pub fn open(keyring: &Keyring, index: LogIndex, bytes: &[u8]) -> Result<Disclosed, OpenError> {
    let leaf = Leaf::parse(bytes).map_err(OpenError::Leaf)?;
    let class = class_of(keyring, &leaf)?;
    let key = |section, iv: &[u8; 12]| {
        let secret = || keyring.index_secret(index.get(), section);
        section_key(keyring, class.as_ref(), index, section, iv, secret)
    };
    let event_key = key(Section::Event, leaf.iv()).map_err(OpenError::Key)?;
    let mut open = leaf.open(&event_key).map_err(OpenError::Leaf)?;
    let mut staff_key = None;
    if let Some(iv) = open.staff_iv().map_err(OpenError::Leaf)? {
        match key(Section::Staff, &iv) {
            Ok(key) => {
                open.open_staff(&key).map_err(OpenError::Leaf)?;
                staff_key = Some(key);
            }
            // The staff section alone may have been destroyed; the event stays readable.
            Err(KeyError::Punctured) => {}
            Err(error) => return Err(OpenError::Key(error)),
        }
    }
    Ok(Disclosed { leaf: open, event_key, staff_key })
}

/// Returns the secret of a leaf's class and month; `None` if they have expired.
fn class_of(keyring: &Keyring, leaf: &Leaf<'_>) -> Result<Option<ClassSecret>, OpenError> {
    let header = leaf.header();
    match keyring.class_secret(header.class.code(), header.month()) {
        Ok(secret) => Ok(Some(class_secret(&secret))),
        Err(KeyError::Punctured) => Ok(None),
        Err(error) => Err(OpenError::Key(error)),
    }
}

fn section_key(
    keyring: &Keyring,
    class: Option<&ClassSecret>,
    index: LogIndex,
    section: Section,
    iv: &[u8; 12],
    secret: impl FnOnce() -> Result<Secret32, KeyError>,
) -> Result<LeafKey, KeyError> {
    match class {
        Some(class) => Ok(leaf_key(&index_secret(&secret()?), class, iv, keyring.origin())),
        None => match keyring.held_key(index.get(), section) {
            Some(key) => Ok(LeafKey::new(*key.expose())),
            None => Err(KeyError::Punctured),
        },
    }
}

fn index_secret(secret: &Secret32) -> IndexSecret {
    IndexSecret::new(*secret.expose())
}

fn class_secret(secret: &Secret32) -> ClassSecret {
    ClassSecret::new(*secret.expose())
}
