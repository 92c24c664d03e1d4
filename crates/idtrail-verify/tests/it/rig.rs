//! A small log with fixed keys: seals events, signs checkpoints and makes packages and receipts.

use idtrail_event::{
    ClassSecret, Decided, Dedupe, EventId, GlobalCustomerId, IndexSecret, Leaf, LeafHeader, OpenLeaf, Rules,
    SealRequest, SectionSecrets, SourceCode, TypeCode, ValidEvent, leaf_key, seal, validate,
};
use idtrail_tlog::{
    Batch, Checkpoint, CosignerKey, Frontier, LogIndex, Policy, SignerKey, TlogProof, leaf_hash,
};
use idtrail_verify::{
    AsOf, Coverage, Customer, EventKeys, EvidenceEvent, FORMAT, Package, Receipt, ReceiptStatus, Request,
    SignedCheckpoint, SystemCoverage, SystemStatus, evidence_key_name, sign_manifest, time_text,
};
use serde_json::{Value, json};

pub(crate) const ORIGIN: &str = "example.com/log";
pub(crate) const OLDER: &str = "example.com/older";
pub(crate) const RECEIVED_MS: u64 = 1_698_451_200_123;

/// Returns the signing key of a log; every name has its own seed.
pub(crate) fn key(origin: &str) -> SignerKey {
    SignerKey::from_seed(origin, &seed(origin)).unwrap()
}

pub(crate) fn evidence_signer(origin: &str) -> SignerKey {
    SignerKey::from_seed(&evidence_key_name(origin), &seed(origin)).unwrap()
}

fn seed(origin: &str) -> [u8; 32] {
    *leaf_hash(origin.as_bytes()).as_bytes()
}

pub(crate) fn witness() -> CosignerKey {
    CosignerKey::from_seed("witness.example", &[9; 32]).unwrap()
}

pub(crate) fn policy(origins: &[&str]) -> Policy {
    let mut lines: Vec<String> =
        origins.iter().map(|origin| format!("log {}\n", key(origin).verifier())).collect();
    lines.push("quorum none\n".to_owned());
    Policy::parse(&lines.concat()).unwrap()
}

pub(crate) fn witness_policy() -> Policy {
    let text = format!("log {}\nwitness w {}\nquorum w\n", key(ORIGIN).verifier(), witness().verifier());
    Policy::parse(&text).unwrap()
}

pub(crate) fn customer() -> GlobalCustomerId {
    GlobalCustomerId::new([7; 16])
}

pub(crate) fn identification() -> Value {
    let sample = include_str!("../../../../vectors/event/identity-resolution.json");
    let mut body: Value = serde_json::from_str(sample).unwrap();
    body["auditEvent"]["agentId"] = json!("agent-4711");
    body["auditEvent"]["confidence"] = json!(0.1);
    body["trace"] = json!({"id": "t-1", "parts": [1, -2, 1.5e300]});
    body
}

pub(crate) fn deletion() -> Value {
    json!({"auditEvent": {
        "eventType": "DATA_DELETION", "timestamp": "2023-10-27T15:00:00Z", "status": "SUCCESS"
    }})
}

/// What of an event is not the same in all of them.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) body: Value,
    pub(crate) subject: GlobalCustomerId,
    pub(crate) sequence: u64,
}

pub(crate) fn entry(body: Value, sequence: u64) -> Entry {
    Entry { body, subject: customer(), sequence }
}

pub(crate) fn foreign() -> Entry {
    Entry { body: deletion(), subject: GlobalCustomerId::new([1; 16]), sequence: 0 }
}

pub(crate) struct Log {
    pub(crate) origin: String,
    leaves: Vec<Vec<u8>>,
}

fn secrets(index: u64) -> SectionSecrets {
    let of = |section: u8| *leaf_hash(&[&index.to_be_bytes()[..], &[section]].concat()).as_bytes();
    SectionSecrets {
        event: IndexSecret::new(of(0)),
        staff: IndexSecret::new(of(1)),
        class: ClassSecret::new([3; 32]),
    }
}

impl Log {
    pub(crate) fn new(origin: &str, entries: &[Entry]) -> Self {
        let leaves = entries.iter().enumerate().map(|(index, entry)| sealed(origin, index as u64, entry));
        Self { origin: origin.to_owned(), leaves: leaves.collect() }
    }

    pub(crate) fn leaf(&self, index: u64) -> &[u8] {
        &self.leaves[index as usize]
    }

    pub(crate) fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    fn batch(&self) -> Batch {
        let hashes: Vec<_> = self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        Frontier::empty().append_batch(&hashes)
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let batch = self.batch();
        Checkpoint { origin: self.origin.clone(), size: batch.size(), root: batch.root() }
    }

    pub(crate) fn signed_checkpoint(&self) -> String {
        self.checkpoint().sign(&key(&self.origin))
    }

    /// Opens a leaf with its keys.
    pub(crate) fn open(&self, index: u64) -> (OpenLeaf, EventKeys) {
        let secrets = secrets(index);
        let leaf = Leaf::parse(self.leaf(index)).unwrap();
        let event_key = leaf_key(&secrets.event, &secrets.class, leaf.iv(), &self.origin);
        let mut open = leaf.open(&event_key).unwrap();
        let iv = open.staff_iv().unwrap();
        let staff_key = iv.map(|iv| leaf_key(&secrets.staff, &secrets.class, &iv, &self.origin));
        if let Some(key) = &staff_key {
            open.open_staff(key).unwrap();
        }
        (open, EventKeys::disclose(&event_key, staff_key.as_ref()))
    }

    pub(crate) fn event(&self, index: u64) -> EvidenceEvent {
        self.events(&[index]).remove(0)
    }

    pub(crate) fn events(&self, indices: &[u64]) -> Vec<EvidenceEvent> {
        let batch = self.batch();
        let event = |index: &u64| {
            let (open, keys) = self.open(*index);
            let at = LogIndex::new(*index);
            let proof = batch.inclusion_proof(at).unwrap();
            EvidenceEvent::new(&self.origin, at, self.leaf(*index), &open, keys, &proof)
        };
        indices.iter().map(event).collect()
    }

    pub(crate) fn receipt(&self, index: u64) -> Receipt {
        let at = LogIndex::new(index);
        let hashes = self.batch().inclusion_proof(at).unwrap();
        let proof = TlogProof { extra: None, index: at, hashes, checkpoint: self.signed_checkpoint() };
        Receipt {
            status: ReceiptStatus::Created,
            origin: self.origin.clone(),
            index,
            leaf_hash: leaf_hash(self.leaf(index)).to_string(),
            event_id: Some(self.open(index).0.event_id.to_string()),
            received_at: Some(time_text(RECEIVED_MS + index)),
            tree_size: self.size(),
            warnings: Vec::new(),
            proof: proof.to_text(),
        }
    }
}

fn sealed(origin: &str, index: u64, entry: &Entry) -> Vec<u8> {
    let received_ms = RECEIVED_MS + index;
    let event = match entry.body["auditEvent"]["eventType"].as_str() {
        // Steps of requests are written by the log itself; no client may post them.
        Some(name) if name.starts_with("DSR_") => {
            let event = entry.body["auditEvent"].as_object().unwrap().clone();
            ValidEvent::from_system(TypeCode::new(200), event, received_ms as i64)
        }
        _ => validate(entry.body.clone(), &Rules::default(), received_ms as i64).unwrap(),
    };
    let mut id = [8; 16];
    id[..8].copy_from_slice(&index.to_be_bytes());
    let decided = Decided {
        received_ms,
        subject: Some(entry.subject),
        event_id: EventId::new(id),
        system: "crm",
        actor: None,
        dedupe: Dedupe::CONTENT,
        subject_sequence: entry.sequence,
        previous_index: None,
    };
    let mut ivs = [[0; 12], [1; 12]];
    ivs.iter_mut().for_each(|iv| iv[..8].copy_from_slice(&index.to_be_bytes()));
    let encoded = event.encode();
    let header = LeafHeader::of(&event, SourceCode::API, received_ms);
    let request = SealRequest { header, encoded: &encoded, decided };
    seal(&request, &secrets(index), &ivs, origin).unwrap()
}

/// A log of seven leaves, two of them about the customer: 2 with staff and other members, 5 without.
pub(crate) fn log() -> Log {
    let mut entries = vec![foreign(); 7];
    entries[2] = entry(identification(), 0);
    entries[5] = entry(deletion(), 1);
    Log::new(ORIGIN, &entries)
}

/// Returns the unsigned answer of some logs; each with the indices of its events.
pub(crate) fn answer(logs: &[(&Log, &[u64])]) -> Package {
    let tree = |log: &Log| {
        let checkpoint = log.checkpoint();
        AsOf { origin: log.origin.clone(), size: log.size(), root_hash: checkpoint.root.to_string() }
    };
    let signed =
        |log: &Log| SignedCheckpoint { origin: log.origin.clone(), checkpoint: log.signed_checkpoint() };
    let answered = |system: &str, events| SystemCoverage {
        system: system.to_owned(),
        status: SystemStatus::Answered,
        events,
        reason: None,
    };
    let events: Vec<EvidenceEvent> = logs.iter().flat_map(|(log, indices)| log.events(indices)).collect();
    Package {
        format: FORMAT.to_owned(),
        request: Request {
            customer_id_hash: "ab".repeat(32),
            request_type: "ACCESS".to_owned(),
            date_range: None,
        },
        customer: Some(Customer {
            global_customer_id: customer().to_string(),
            aliases: Vec::new(),
            tier: "VERIFIED".to_owned(),
        }),
        as_of: logs.iter().map(|(log, _)| tree(log)).collect(),
        checkpoints: logs.iter().map(|(log, _)| signed(log)).collect(),
        coverage: Coverage {
            complete: true,
            systems: vec![answered("idtrail", events.len() as u64), answered("crm", 0)],
        },
        events,
        access_log: None,
        earlier_access_logs: Vec::new(),
        manifest: None,
    }
}

/// Signs as the log would.
pub(crate) fn sign(mut package: Package) -> Package {
    let origin = package.as_of.last().unwrap().origin.clone();
    sign_manifest(&mut package, &evidence_signer(&origin)).unwrap();
    package
}

/// The good package that the tests alter: events 2 and 5 of [`log`].
pub(crate) fn package() -> Package {
    sign(answer(&[(&log(), &[2, 5])]))
}

pub(crate) fn file(package: &Package) -> Vec<u8> {
    serde_json::to_vec_pretty(package).unwrap()
}

/// Returns the leaf of a log and the key of its event section.
pub(crate) fn disclosed(log: &Log, index: u64) -> idtrail_verify::DisclosedLeaf {
    let secrets = secrets(index);
    let leaf = Leaf::parse(log.leaf(index)).unwrap();
    let key = leaf_key(&secrets.event, &secrets.class, leaf.iv(), &log.origin);
    idtrail_verify::DisclosedLeaf::disclose(log.leaf(index), &key)
}

pub(crate) fn certificate_signer(origin: &str) -> SignerKey {
    SignerKey::from_seed(&idtrail_verify::certificate_key_name(origin), &seed(origin)).unwrap()
}
