//! Made-up events and plans.

use idtrail_connect::filter::Filter;
use idtrail_connect::mapping::Mapping;
use idtrail_connect::personal::{Erase, Pii, Privacy, References};
use idtrail_connect::secret::{Secret, SecretError, SecretRef, Secrets};
use idtrail_connect::settings::{Ports, SinkSettings};
use idtrail_connect::store::StoreError;
use idtrail_connect::worker::{Parts, SinkStatus, Worker};
use idtrail_connect::{BoxFuture, EventRow, Feed, FeedEntry, FeedError, Plan, Position};
use serde_json::{Value, json};

pub(crate) const HASH: &str = "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e";

/// The integration guide's first sample, as the log holds it.
pub(crate) fn sample(at: Position) -> EventRow {
    let n = at.seq;
    event(
        at,
        json!({"auditEvent": {
            "eventType": "IDENTITY_RESOLUTION",
            "timestamp": "2023-10-27T14:30:00Z",
            "interactionId": format!("i-12345678-90ab-cdef-1234-{n:012x}"),
            "channelType": if n.is_multiple_of(3) { "CHAT" } else { "VOICE" },
            "resolvedCustomerId": "cust_hash_9f86d08",
            "resolutionSource": "CRM_API_LOOKUP",
            "piiContext": {"phoneHash": HASH, "emailHash": null, "hashScheme": "sha256-salt"},
            "complianceFlags": {"gdprConsentRecorded": true, "dataSubjectRequestPending": false},
            "agentId": "agent-7",
            "queueId": "q-sales-support",
            "loyalty": {"tier": "gold"}
        }}),
    )
}

pub(crate) fn event(position: Position, body: Value) -> EventRow {
    EventRow {
        position,
        received_ms: 1_700_000_000_000 + i64::try_from(position.seq).unwrap(),
        event_id: Some(format!("ev-{}-{}", position.log_id.get(), position.seq)),
        customer_id: Some(format!("gc_{:032x}", position.seq % 7)),
        leaf_hash: [7; 32],
        sealed_leaf: bytes::Bytes::from_static(b"sealed"),
        body: body.into(),
    }
}

pub(crate) fn samples(log_id: u32, seqs: std::ops::Range<u64>) -> Vec<FeedEntry> {
    seqs.map(|seq| FeedEntry::opened(sample(Position::new(log_id, seq)))).collect()
}

pub(crate) fn privacy(pii: Pii, erase: Erase) -> Privacy {
    Privacy::new(pii, erase).unwrap()
}

pub(crate) fn plan(filter: &str, pii: Pii, erase: Erase) -> Plan {
    Plan {
        filter: Filter::parse(filter).unwrap(),
        mapping: Mapping::default_for(privacy(pii, erase)),
        references: References::new([9; 32]),
    }
}

/// A log in memory that grows when it is told to.
pub(crate) struct MemoryFeed {
    entries: std::sync::Mutex<Vec<FeedEntry>>,
    grown: tokio::sync::Notify,
}

impl MemoryFeed {
    pub(crate) fn new(entries: Vec<FeedEntry>) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            entries: std::sync::Mutex::new(entries),
            grown: tokio::sync::Notify::new(),
        })
    }

    pub(crate) fn push(&self, more: Vec<FeedEntry>) {
        self.entries.lock().unwrap().extend(more);
        self.grown.notify_waiters();
    }
}

impl Feed for MemoryFeed {
    fn read(&self, from: Position, entries_max: usize, _: usize) -> Result<Vec<FeedEntry>, FeedError> {
        let entries = self.entries.lock().unwrap();
        let start = entries.partition_point(|entry| entry.position < from);
        Ok(entries[start..].iter().take(entries_max).cloned().collect())
    }

    fn read_one(&self, at: Position) -> Result<Option<FeedEntry>, FeedError> {
        Ok(self.entries.lock().unwrap().iter().find(|entry| entry.position == at).cloned())
    }

    fn wait(&self, from: Position) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let grown = self.grown.notified();
                if self.head() > from {
                    return;
                }
                grown.await;
            }
        })
    }

    fn head(&self) -> Position {
        self.entries.lock().unwrap().last().map_or(Position::START, |entry| entry.position.next())
    }

    fn count_from(&self, from: Position) -> u64 {
        let entries = self.entries.lock().unwrap();
        (entries.len() - entries.partition_point(|entry| entry.position < from)) as u64
    }

    fn survived(&self, _: Position) -> Option<Position> {
        None
    }
}

/// Secrets by the name of a made-up variable.
pub(crate) struct FixedSecrets;

impl Secrets for FixedSecrets {
    fn get(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        match reference {
            SecretRef::Env(text) => Ok(Secret::new(text.clone())),
            SecretRef::File(_) => Err(SecretError { reference: "file".to_owned() }),
        }
    }
}

/// Starts a sink as its configuration says, with its memory in `home`.
pub(crate) fn start(toml: &str, home: &std::path::Path, feed: std::sync::Arc<MemoryFeed>) -> Worker {
    try_start(toml, home, feed).unwrap()
}

pub(crate) fn ports() -> Ports {
    Ports {
        disk: std::sync::Arc::new(idtrail_port::os::OsDisk),
        clock: std::sync::Arc::new(idtrail_port::os::OsClock::default()),
    }
}

pub(crate) fn try_start(
    toml: &str,
    home: &std::path::Path,
    feed: std::sync::Arc<MemoryFeed>,
) -> Result<Worker, StoreError> {
    let settings: SinkSettings = toml::from_str(toml).unwrap();
    let ports = ports();
    let plan = settings.plan([9; 32]).unwrap();
    let sink = settings.sink(&plan, &FixedSecrets, &ports).unwrap();
    Worker::start(Parts {
        name: settings.name.clone(),
        dir: home.join(&settings.name),
        plan,
        sink,
        feed,
        disk: ports.disk,
        clock: ports.clock,
        entropy: std::sync::Arc::new(idtrail_port::os::OsEntropy),
        deadline: settings.deadline(),
    })
}

pub(crate) async fn caught_up(worker: &Worker) {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(100), worker.caught_up()).await;
    assert!(waited.is_ok(), "not caught up: {:?}", worker.status());
}

/// Waits until the state is as wished.
pub(crate) async fn until(worker: &Worker, wished: impl Fn(&SinkStatus) -> bool) -> SinkStatus {
    for _ in 0..2000 {
        let status = worker.status();
        if wished(&status) {
            return status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never came about: {:?}", worker.status());
}
