//! What follows from the logs while an installation is being opened, and the threads that are started with it.

use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use idtrail_event::clear::OriginStartItem;
use idtrail_event::{ClassTable, PiiHandling, Rules};
use idtrail_index::facts::Hasher;
use idtrail_index::identity::Identity;
use idtrail_index::lookup::Lookup;
use idtrail_index::numbering::Numbering;
use idtrail_index::seal::TrailSealer;
use idtrail_index::shred::{ShredError, ShredLog, Works};
use idtrail_index::trail::{Command, Refusal, Stragglers, Trail};
use idtrail_log::commit::{Answer, Committer};
use idtrail_log::reader::Reader;
use idtrail_log::recovery::Opened;
use idtrail_log::sequence::{ReceiptClock, Sequencer, Submission};
use idtrail_log::shell::{Follower as _, Limits, Log};
use idtrail_log::{LogError, OriginOrdinal};
use idtrail_tlog::LogIndex;
use idtrail_vault::{HighWater, Keyring, Suppression, Vault};

use super::access::AccessLog;
use super::origins::{Earlier, Reading};
use super::second::Second;
use super::snapshot::Snapshots;
use super::{Ports, identity, shred, shredding_path};
use crate::quarantine::Quarantine;
use crate::settings::{PiiMode, Settings};

/// Puts an end to the thread that keeps the high-water mark.
pub(super) struct Marker {
    pub(super) stop: mpsc::Sender<()>,
    pub(super) thread: JoinHandle<()>,
}

pub(super) fn rules(settings: &Settings) -> Rules {
    Rules {
        strict: settings.validation.strict,
        custom_types: settings.validation.custom_types.clone(),
        pii: match settings.validation.pii {
            PiiMode::Refuse => PiiHandling::Refuse,
            PiiMode::Mask => PiiHandling::Mask,
        },
        ..Rules::default()
    }
}

/// Derived state while it is built from the log.
pub(super) struct State {
    pub(super) number: u32,
    pub(super) hasher: Arc<Hasher>,
    pub(super) keyring: Keyring,
    pub(super) suppression: Suppression,
    pub(super) lookup: Lookup,
    pub(super) identity: Identity,
    /// The logs of the same kind before this one, oldest first.
    pub(super) earlier: Arc<[Earlier]>,
    pub(super) numbering: Numbering,
    pub(super) stragglers: Stragglers,
}

impl State {
    pub(super) fn read(
        &mut self,
        index: LogIndex,
        bytes: &[u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let start = self.numbering.start(OriginOrdinal(self.number)).unwrap_or(0);
        let (keyring, hasher, lookup) = (&self.keyring, &*self.hasher, &self.lookup);
        Reading { keyring, hasher, lookup, identity: Some((&self.identity, start)) }.take(index, bytes)
    }

    pub(super) fn lookups(&self) -> impl Iterator<Item = &Lookup> {
        self.earlier.iter().map(|one| &one.lookup).chain([&self.lookup])
    }

    pub(super) fn start(
        &mut self,
        ports: &Ports,
        settings: &Settings,
        mut committer: Committer,
        opened: Opened,
        on_stop: impl FnOnce(LogError) + Send + 'static,
    ) -> Result<Log<Trail>, LogError> {
        let trail = Trail::new(
            Arc::clone(&ports.entropy),
            self.lookup.clone(),
            self.suppression.clone(),
            Arc::clone(&self.hasher),
            self.identity.clone(),
        );
        let earlier =
            self.earlier.iter().map(|one| (OriginOrdinal(one.number), one.size, one.lookup.clone()));
        let trail = trail.continuing(OriginOrdinal(self.number), earlier).telling(self.stragglers.clone());
        let newest_ms = self.lookups().map(Lookup::received_ms).max().unwrap_or(0);
        let clock = ReceiptClock::start(Arc::clone(&ports.clock), newest_ms);
        if clock.wall_step_ms() < -1000 {
            tracing::warn!(
                "the clock is behind the newest receipt time; receipts keep that time until it is passed"
            );
        }
        let sealer = TrailSealer::new(self.keyring.clone(), Arc::clone(&ports.entropy));
        let mut sequencer = Sequencer::new(trail, sealer, clock, LogIndex::new(opened.size.get()));
        if opened.size.get() == 0 {
            // The leaves that say what this log is come first, before anybody can post.
            let first = Command::first_leaves(&OriginStartItem { previous: None }, &ClassTable::default());
            let ignore = |_: Result<Answer<Refusal>, LogError>| {};
            let group = first.map(|command| Submission { command, reply: Box::new(ignore) });
            let sealed = sequencer.step(group.into())?;
            for told in committer.commit(vec![sealed])? {
                self.lookup.apply(told);
            }
        }
        let limits = Limits::for_segments(settings.segment_bytes, settings.limits.queue_events_max);
        Log::start(Arc::clone(&ports.disk), sequencer, committer, self.lookup.clone(), limits, on_stop)
    }

    /// Finishes what a former process left of a shred, before anybody else can write the vault.
    pub(super) fn desk(
        &self,
        ports: &Ports,
        settings: &Settings,
        vault: Vault,
        log: &Arc<Log<Trail>>,
        (access, quarantine, snapshots): (&Arc<AccessLog>, &Arc<Quarantine>, &Snapshots),
    ) -> Result<shred::Desk, ShredError> {
        let works = Works {
            disk: Arc::clone(&ports.disk),
            clock: Arc::clone(&ports.clock),
            pending: shredding_path(&settings.data_dir),
            newest: ShredLog {
                ordinal: OriginOrdinal(self.number),
                reader: Arc::clone(log.reader()),
                keyring: self.keyring.clone(),
                lookup: self.lookup.clone(),
            },
            earlier: self.earlier.iter().map(Earlier::to_shred).collect(),
            hasher: Arc::clone(&self.hasher),
            vault: Arc::new(Mutex::new(vault)),
            suppression_ms: settings.retention.suppression_ms,
        };
        let retention = shred::Retention {
            automatic: settings.retention.automatic,
            clock: Arc::clone(&ports.clock),
            refold: Some(identity::Refold {
                identity: self.identity.clone(),
                hasher: Arc::clone(&self.hasher),
                keyring: self.keyring.clone(),
                log: Arc::clone(log),
                earlier: Arc::clone(&self.earlier),
                numbering: self.numbering.clone(),
                snapshots: snapshots.clone(),
            }),
        };
        let second =
            Second::open((&works, log, &self.earlier), (access, quarantine), settings, retention.automatic)?;
        shred::Desk::open(works, shred::Door(Arc::clone(log)), retention, second)
    }
}

pub(super) fn start_marker(
    mut high_water: HighWater,
    readers: [(String, Arc<Reader>); 2],
) -> Result<Marker, LogError> {
    let (stop, stopped) = mpsc::channel::<()>();
    let run = move || {
        loop {
            let ended = stopped.recv_timeout(Duration::from_secs(1)) != Err(mpsc::RecvTimeoutError::Timeout);
            let marks = readers.each_ref().map(|(origin, reader)| (origin.as_str(), reader.size().get()));
            if let Err(error) = high_water.raise(&marks) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the high-water mark could not be written"
                );
            }
            if ended {
                break;
            }
        }
    };
    let thread = std::thread::Builder::new().name("high-water".to_owned()).spawn(run).map_err(|source| {
        LogError::Disk { operation: "start a thread", path: "high-water".into(), source }
    })?;
    Ok(Marker { stop, thread })
}
