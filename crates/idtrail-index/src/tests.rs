//! The trail end to end, on a simulated disk: event in, sealed, durable, provable, found and opened again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use idtrail_event::clear::{ClassTableItem, OriginStartItem};
use idtrail_event::{
    ClassTable, Dedupe, DedupeKind, GlobalCustomerId, JsonLimits, Leaf, Pepper, Rules, SourceCode, TypeCode,
    parse_json, validate,
};
use idtrail_identity::tokens::TokenKeys;
use idtrail_log::LogError;
use idtrail_log::commit::{Answer, Committer};
use idtrail_log::reader::Reader;
use idtrail_log::recovery::{self, Options};
use idtrail_log::sequence::{ReceiptClock, Sequencer, Submission};
use idtrail_log::shell::Follower;
use idtrail_port::{Clock, Disk, Entropy};
use idtrail_sim::{Seed, SimClock, SimDisk, SimEntropy};
use idtrail_tlog::{LogIndex, Policy, SignerKey, TreeSize, leaf_hash};
use idtrail_vault::{Kek, Keyring, Sections, Vault, VaultPaths};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::facts::Hasher;
use crate::identity::{Identity, event_hash_specs};
use crate::lookup::{Lookup, LookupLimits, LookupOptions};
use crate::seal::{OpenError, TrailSealer, open};
use crate::trail::{Command, Refusal, Trail};

mod accesses;
mod files;
mod identity;
mod shredding;

const ORIGIN: &str = "example.com/main";
const TENANT: &str = "default";

struct Installation {
    disk: SimDisk,
    entropy: Arc<dyn Entropy>,
    clock: SimClock,
    vault: Arc<Mutex<Vault>>,
}

struct Running {
    hasher: Arc<Hasher>,
    keyring: Keyring,
    lookup: Lookup,
    core: Arc<Mutex<Core>>,
    identity: Identity,
}

/// The one thread of a log, as a thing that can be called.
struct Core {
    sequencer: Sequencer<Trail, TrailSealer>,
    committer: Committer,
    lookup: Lookup,
}

impl Core {
    fn step(&mut self, group: Vec<Submission<Trail>>) -> Result<(), LogError> {
        let sealed = self.sequencer.step(group)?;
        for told in self.committer.commit(vec![sealed])? {
            self.lookup.apply(told);
        }
        Ok(())
    }
}

fn kek() -> Kek {
    Kek::new([9; 32]).unwrap()
}

fn paths() -> VaultPaths {
    VaultPaths {
        body_dir: "/vault".into(),
        copies: vec!["/copies".into()],
        anchors: vec!["/anchor/cell".into()],
    }
}

fn log_dir() -> PathBuf {
    PathBuf::from("/data/0000")
}

impl Installation {
    fn new(seed: u64) -> Self {
        let seed = Seed::new(seed);
        let disk = SimDisk::new(seed.derive("disk"));
        let entropy: Arc<dyn Entropy> = Arc::new(SimEntropy::new(seed.derive("entropy")));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        for dir in ["/vault", "/copies", "/anchor", "/data"] {
            idtrail_port::create_dir_durable(&disk, std::path::Path::new(dir)).unwrap();
        }
        let vault = Vault::create(shared, Arc::clone(&entropy), paths(), kek(), TENANT, ORIGIN).unwrap();
        let vault = Arc::new(Mutex::new(vault));
        recovery::create(&disk, &log_dir(), ORIGIN, 256 * 1024).unwrap();
        Self { disk, entropy, clock: SimClock::default(), vault }
    }

    fn vault(&self) -> MutexGuard<'_, Vault> {
        self.vault.lock().unwrap()
    }

    fn signer(&self) -> SignerKey {
        SignerKey::from_seed(ORIGIN, self.vault().signing_seed(ORIGIN).unwrap().expose()).unwrap()
    }

    /// Opens the index, as a start does.
    fn index(&self, hasher: &Hasher) -> Lookup {
        let epoch = self.vault().epoch().get();
        let open_order = self.disk.exists(std::path::Path::new("/data/shredding")).unwrap();
        let options = LookupOptions {
            dir: std::path::Path::new("/data/index"),
            origin: ORIGIN,
            hasher,
            vault_epochs: epoch - u64::from(open_order)..=epoch,
            limits: LookupLimits { memory_rows_max: 15, filter_bytes_max: 4096 },
        };
        Lookup::open(Arc::new(self.disk.clone()), &options).unwrap()
    }

    fn start(&self) -> Running {
        let vault = self.vault();
        let pepper = Pepper::new(*vault.pepper().1.expose());
        let specs = event_hash_specs().map(|spec| (spec, Zeroizing::new("salt".to_owned())));
        let keys = TokenKeys::new(TENANT, vec![pepper], specs.collect()).unwrap();
        let hasher = Hasher::new(TENANT, vault.dedupe_key().expose(), vault.index_key().expose())
            .with_identifiers(keys);
        let (keyring, suppression) = (vault.keyring(ORIGIN).unwrap(), vault.suppression().clone());
        drop(vault);
        let lookup = self.index(&hasher);
        let identity = Identity::default();
        let dir = log_dir();
        let options =
            Options { dir: &dir, origin: ORIGIN, segment_bytes: 256 * 1024, known_size: TreeSize::new(0) };
        let shared: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (committer, opened) =
            recovery::open(&shared, &options, Box::new(self.signer()), &mut |index, bytes| {
                let is_new = index.get() >= lookup.applied().get();
                match open(&keyring, index, bytes) {
                    Ok(disclosed) => {
                        identity.replay(&hasher, index, &disclosed.leaf);
                        if is_new {
                            lookup.fold(index, &hasher.facts(&disclosed.leaf));
                        }
                        Ok(())
                    }
                    Err(OpenError::Key(_)) => {
                        identity.skip(index);
                        if is_new {
                            lookup.skip(index);
                        }
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                }
            })
            .unwrap();
        let hasher = Arc::new(hasher);
        let trail = Trail::new(
            Arc::clone(&self.entropy),
            lookup.clone(),
            suppression,
            Arc::clone(&hasher),
            identity.clone(),
        );
        let clock = ReceiptClock::start(Arc::new(self.clock.clone()), lookup.received_ms());
        let sealer = TrailSealer::new(keyring.clone(), Arc::clone(&self.entropy));
        let next = LogIndex::new(opened.size.get());
        let sequencer = Sequencer::new(trail, sealer, clock, next);
        let core = Arc::new(Mutex::new(Core { sequencer, committer, lookup: lookup.clone() }));
        let mut running = Running { hasher, keyring, lookup, core, identity };
        if opened.size.get() == 0 {
            let [start, classes] =
                Command::first_leaves(&OriginStartItem { previous: None }, &ClassTable::default());
            running.submit(vec![start, classes]);
        }
        running
    }
}

impl Running {
    fn reader(&self) -> Arc<Reader> {
        Arc::clone(self.core.lock().unwrap().committer.reader())
    }

    fn submit(&mut self, commands: Vec<Command>) -> Vec<Answer<Refusal>> {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let group = commands
            .into_iter()
            .map(|command| {
                let answers = Arc::clone(&answers);
                let reply =
                    Box::new(move |answer: Result<_, _>| answers.lock().unwrap().push(answer.unwrap()));
                Submission { command, reply }
            })
            .collect();
        self.core.lock().unwrap().step(group).unwrap();
        Arc::try_unwrap(answers).unwrap().into_inner().unwrap()
    }

    /// Hands a command over to a disk that may stop: `None` if it was not answered.
    fn try_submit(&mut self, command: Command) -> Option<Answer<Refusal>> {
        let answer = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&answer);
        let reply = Box::new(move |outcome: Result<_, _>| *kept.lock().unwrap() = outcome.ok());
        let group = vec![Submission { command, reply }];
        self.core.lock().unwrap().step(group).ok()?;
        answer.lock().unwrap().take()
    }

    fn command(&self, installation: &Installation, body: &Value, id: Option<&str>) -> Command {
        let event = validate(body.clone(), &Rules::default(), installation.clock.wall_ms()).unwrap();
        let id = id.map_or(Dedupe::CONTENT, |id| Dedupe::text(DedupeKind::IDEMPOTENCY_KEY, id).into_owned());
        let command = Command::prepare(&self.hasher, &event, SourceCode::API, "crm", Some("person_1"), id);
        assert!(command.leaf_bytes_max() < 65_535);
        command
    }

    fn snapshot(&self) -> Vec<u8> {
        self.identity.read(idtrail_identity::State::to_snapshot).0
    }

    fn post(&mut self, installation: &Installation, body: &Value, id: Option<&str>) -> Answer<Refusal> {
        let command = self.command(installation, body, id);
        self.submit(vec![command]).pop().unwrap()
    }
}

fn samples() -> [Value; 2] {
    [
        parse_json(include_bytes!("../../../vectors/event/identity-resolution.json"), JsonLimits::EVENT)
            .unwrap(),
        parse_json(include_bytes!("../../../vectors/event/data-deletion.json"), JsonLimits::EVENT).unwrap(),
    ]
}

fn index(answer: &Answer<Refusal>) -> u64 {
    match answer {
        Answer::Appended { first, .. } => first.get(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_samples_of_the_guide_go_in_and_come_out_with_proof() {
    let installation = Installation::new(1);
    let mut running = installation.start();
    let policy = Policy::log_only(installation.signer().verifier());
    for (at, body) in samples().iter().enumerate() {
        let answer = running.post(&installation, body, None);
        let Answer::Appended { commit, first, .. } = &answer else { panic!("{answer:?}") };
        assert_eq!(first.get(), 2 + at as u64);
        let bytes = running.reader().entry(*first).unwrap();
        let verified = commit.proof(*first).unwrap().verify(&leaf_hash(&bytes), &policy).unwrap();
        assert_eq!(verified.checkpoint.size, commit.size());
        let disclosed = open(&running.keyring, *first, &bytes).unwrap();
        assert_eq!(&disclosed.leaf.body, body);
    }
    let customer = running.lookup.customer(&running.hasher.customer("cust_hash_9f86d08")).unwrap().unwrap();
    let found: Vec<u64> = running.lookup.subject(customer).unwrap().iter().map(|index| index.get()).collect();
    assert_eq!(found, [2, 3], "both events are of one customer");
    let interaction = running.hasher.interaction("i-12345678-90ab-cdef-1234-567890abcdef");
    assert_eq!(running.lookup.interaction(&interaction).unwrap().len(), 2);
    let leaf = running.reader().entry(LogIndex::new(3)).unwrap();
    let decided = open(&running.keyring, LogIndex::new(3), &leaf).unwrap().leaf;
    assert_eq!((decided.subject_sequence, decided.previous_index), (1, Some(2)));
}

#[test]
fn a_log_starts_with_its_origin_and_its_classes() {
    let installation = Installation::new(2);
    let running = installation.start();
    let types = [TypeCode::ORIGIN_START, TypeCode::CLASS_TABLE];
    for (at, event_type) in types.into_iter().enumerate() {
        let bytes = running.reader().entry(LogIndex::new(at as u64)).unwrap();
        let leaf = Leaf::parse(&bytes).unwrap();
        assert_eq!(leaf.header().event_type, event_type);
        if event_type == TypeCode::CLASS_TABLE {
            let table = ClassTableItem::decode(leaf.header().clear.as_deref().unwrap()).unwrap();
            assert_eq!(table, ClassTableItem(ClassTable::default()));
        }
    }
}

#[test]
fn repetitions_get_the_same_place_and_other_content_conflicts() {
    let installation = Installation::new(3);
    let mut running = installation.start();
    let [first, second] = samples();
    let place = index(&running.post(&installation, &first, Some("id-1")));
    assert!(
        matches!(running.post(&installation, &first, Some("id-1")), Answer::Existing(at) if at.get() == place)
    );
    assert!(matches!(
        running.post(&installation, &second, Some("id-1")),
        Answer::Refused(Refusal::Conflict(at)) if at.index.get() == place
    ));
    assert!(
        index(&running.post(&installation, &first, None)) > place,
        "without an id, the content is the id"
    );
    assert!(matches!(running.post(&installation, &first, None), Answer::Existing(_)));
    let again =
        [running.command(&installation, &second, None), running.command(&installation, &second, None)];
    let answers = running.submit(again.into());
    assert!(
        matches!(answers.as_slice(), [Answer::Appended { .. }, Answer::Existing(_)]),
        "within one group too"
    );
}

#[test]
fn customers_get_random_ids_that_last() {
    let event = |customer: Option<&str>, note: u32| {
        let mut body = samples()[0].clone();
        body["auditEvent"]["resolvedCustomerId"] = json!(customer);
        body["auditEvent"]["note"] = json!(note);
        body["auditEvent"]["interactionId"] = json!(format!("i-{note}"));
        body
    };
    let ids = |installation: &Installation| -> Vec<GlobalCustomerId> {
        let mut running = installation.start();
        let bodies =
            [event(Some("a"), 1), event(Some("a"), 2), event(Some("b"), 3), event(None, 4), event(None, 5)];
        bodies
            .iter()
            .map(|body| {
                let at = LogIndex::new(index(&running.post(installation, body, None)));
                let leaf = running.reader().entry(at).unwrap();
                open(&running.keyring, at, &leaf).unwrap().leaf.subject.unwrap()
            })
            .collect()
    };
    let one = ids(&Installation::new(4));
    assert_eq!(one[0], one[1]);
    let mut distinct = one.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 4);
    assert_eq!(one, ids(&Installation::new(4)), "one seed replays exactly");
    assert_ne!(one[0], ids(&Installation::new(5))[0], "the id does not come from the client's id");
}

#[test]
fn rebuilt_state_is_live_state_after_a_power_cut() {
    let installation = Installation::new(6);
    let mut running = installation.start();
    for number in 0..200 {
        let mut body = samples()[number % 2].clone();
        body["auditEvent"]["resolvedCustomerId"] = json!(format!("customer-{}", number % 7));
        body["auditEvent"]["agentId"] = json!(format!("agent-{}", number % 3));
        body["auditEvent"]["number"] = json!(number);
        running.post(&installation, &body, None);
    }
    let head = running.reader().head();
    let customer = running.hasher.customer("customer-3");
    let subject = running.lookup.customer(&customer).unwrap().unwrap();
    let live = running.lookup.subject(subject).unwrap();
    let identity = running.snapshot();
    drop(running);
    installation.disk.crash_losing_all();
    let runs = |name: &PathBuf| name.starts_with("/data/index") && name.to_string_lossy().contains("run-");
    assert!(installation.disk.files().iter().filter(|name| runs(name)).count() > 3);
    let mut rebuilt = installation.start();
    assert_eq!(rebuilt.reader().head(), head);
    assert_eq!(rebuilt.lookup.customer(&customer).unwrap(), Some(subject));
    assert_eq!(rebuilt.lookup.subject(subject).unwrap(), live);
    let reference = crate::identity::reference(&customer).identifier;
    let (known, _) = rebuilt.identity.read(|state| state.lookup(&reference).and_then(|(known, ..)| known));
    assert_eq!(known, Some(subject));
    assert_eq!(rebuilt.snapshot(), identity);
    let mut body = samples()[1].clone();
    body["auditEvent"]["resolvedCustomerId"] = json!("customer-3");
    body["auditEvent"]["agentId"] = json!("agent-1");
    body["auditEvent"]["number"] = json!(199);
    body["auditEvent"]["resolvedCustomerId"] = json!("customer-3");
    let known = rebuilt.post(&installation, &body, None);
    assert!(matches!(known, Answer::Existing(at) if at.get() == 201), "{known:?}");
}

#[test]
fn no_stored_byte_holds_what_clients_sent() {
    let canaries = ["canary-cust-77319", "canary-agent-77319", "canary-queue-77319", "canary-account-77319"];
    let installation = Installation::new(7);
    let mut running = installation.start();
    let mut body = samples()[0].clone();
    for (name, canary) in ["resolvedCustomerId", "agentId", "queueId", "note"].iter().zip(canaries) {
        body["auditEvent"][*name] = json!(canary);
    }
    running.post(&installation, &body, Some("canary-key-77319"));
    running.lookup.settle().unwrap();
    assert!(installation.disk.files().iter().any(|path| path.starts_with("/data/index/run-000000000000")));
    for path in installation.disk.files() {
        let bytes = installation.disk.read_cached(&path).unwrap();
        let lower: Vec<u8> = bytes.to_ascii_lowercase();
        for canary in canaries.iter().chain(&["canary-key-77319", "a591a6d40bf420404a011733cfb7b190"]) {
            let forms: [Vec<u8>; 3] = [
                canary.bytes().collect(),
                canary.bytes().rev().collect(),
                canary.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
            ];
            for form in forms {
                assert!(
                    !lower.windows(form.len()).any(|window| window == form),
                    "{canary} in {}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn destroyed_keys_close_a_leaf_and_leave_its_proof() {
    let installation = Installation::new(8);
    let mut running = installation.start();
    let [first, second] = samples();
    let gone = LogIndex::new(index(&running.post(&installation, &first, None)));
    let kept = LogIndex::new(index(&running.post(&installation, &second, None)));
    installation.vault().puncture_indices(ORIGIN, &[gone.get()], Sections::Both).unwrap();
    let reader = running.reader();
    let (bytes, head) = (reader.entry(gone).unwrap(), reader.head());
    assert!(matches!(open(&running.keyring, gone, &bytes), Err(OpenError::Key(_))));
    assert!(open(&running.keyring, kept, &reader.entry(kept).unwrap()).is_ok());
    let proof = reader.inclusion_proof(gone, head.size).unwrap();
    idtrail_tlog::verify_inclusion(gone, head.size, &leaf_hash(&bytes), &proof, &head.root).unwrap();
    drop(running);
    let rebuilt = installation.start();
    assert_eq!(rebuilt.reader().head(), head, "the log is the same to the byte");
}
