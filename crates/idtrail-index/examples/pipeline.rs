//! What one event costs, stage by stage, on one thread: from the bytes of a request's body to the durable leaf and the
//! index, without HTTP.
//!
//! ```sh
//! cargo run --release -p idtrail-index --example pipeline -- 300000
//! ```
//!
//! Groups of 1,000, customers from a pool of 100,000. `decide` holds the search for repetitions and identity, `commit` the
//! write and its sync. Medians of the groups; for comparison within one run.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measuring program prints, and ends where it cannot go on"
)]

use std::hint::black_box;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use idtrail_event::clear::OriginStartItem;
use idtrail_event::{
    ClassTable, Dedupe, JsonLimits, Pepper, PlainEvent, Rules, SourceCode, check, parse_json, time_ms,
};
use idtrail_identity::tokens::TokenKeys;
use idtrail_index::facts::Hasher;
use idtrail_index::identity::{Identity, event_hash_specs};
use idtrail_index::lookup::{Lookup, LookupLimits, LookupOptions};
use idtrail_index::seal::TrailSealer;
use idtrail_index::trail::{Command, Draft, Trail};
use idtrail_log::machine::{Entry, Machine as _, SealFailure, Sealer};
use idtrail_log::recovery::{self, Options};
use idtrail_log::sequence::{ReceiptClock, Sequencer, Submission};
use idtrail_log::shell::Follower as _;
use idtrail_port::os::{OsClock, OsDisk, OsEntropy};
use idtrail_port::{Clock, Disk, Entropy, create_dir_durable};
use idtrail_tlog::{LogIndex, SignerKey, TreeSize};
use idtrail_vault::{Kek, Vault, VaultPaths};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ORIGIN: &str = "example.com/main";
const TENANT: &str = "default";
const GROUP: u64 = 1000;
const PEOPLE: u64 = 100_000;
const STAGES: [&str; 9] =
    ["read", "prepare", "decide", "seal", "commit", "index", "parse", "check", "prepare 2"];

/// The stages that a usual event goes through.
const USUAL_STAGES: usize = 6;

/// Tells sealing from deciding, which the sequencer does in one step.
struct Timed {
    sealer: TrailSealer,
    clock: Arc<OsClock>,
    taken_ns: Arc<Mutex<u64>>,
}

impl Sealer<Draft> for Timed {
    fn seal(&mut self, first: LogIndex, drafts: &[&Draft]) -> Result<Vec<Entry>, SealFailure> {
        let start = self.clock.monotonic_ns();
        let sealed = self.sealer.seal(first, drafts);
        *self.taken_ns.lock().unwrap() += self.clock.monotonic_ns() - start;
        sealed
    }
}

fn hex(label: &str, number: u64) -> String {
    let digest = Sha256::new_with_prefix(label).chain_update(number.to_be_bytes()).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn body(number: u64) -> Vec<u8> {
    let random = hex("event", number);
    let person = u64::from_str_radix(&random[..12], 16).unwrap() % PEOPLE;
    let (r, phone, mail) = (&random, hex("phone", person), hex("mail", person));
    let voice = number.is_multiple_of(3);
    let (phone, mail) = if voice {
        (format!("\"{phone}\""), "null".to_owned())
    } else {
        ("null".to_owned(), format!("\"{mail}\""))
    };
    let agent = if number.is_multiple_of(2) { "null" } else { "\"agent-017\"" };
    format!(
        "{{\"auditEvent\":{{\"eventType\":\"IDENTITY_RESOLUTION\",\"timestamp\":\"2026-11-01T10:20:30.{:03}Z\",\
         \"interactionId\":\"{}-{}-{}-{}-{}\",\"channelType\":\"{}\",\"resolvedCustomerId\":\"cust_hash_{}\",\
         \"resolutionSource\":\"CRM_API_LOOKUP\",\"piiContext\":{{\"phoneHash\":{phone},\"emailHash\":{mail},\
         \"accountNumberHash\":\"{}\"}},\"complianceFlags\":{{\"gdprConsentRecorded\":true,\
         \"dataSubjectRequestPending\":false}},\"agentId\":{agent},\"queueId\":\"q-sales-{:02}\"}}}}",
        number % 1000,
        &r[0..8],
        &r[8..12],
        &r[12..16],
        &r[16..20],
        &r[20..32],
        if voice { "VOICE" } else { "CHAT" },
        hex("person", person),
        hex("account", person),
        number % 40,
    )
    .into_bytes()
}

fn main() -> anyhow::Result<()> {
    let events: u64 = match std::env::args().nth(1) {
        Some(text) => text.parse().context("the first argument is how many events to take")?,
        None => 200_000,
    };
    let base = tempfile::tempdir()?;
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let at = |name: &str| base.path().join(name);
    for dir in ["vault", "copies", "anchor", "data"] {
        create_dir_durable(&*disk, &at(dir))?;
    }
    let paths = VaultPaths {
        body_dir: at("vault"),
        copies: vec![at("copies")],
        anchors: vec![at("anchor").join("cell")],
    };
    let kek = Kek::new([9; 32])?;
    let vault = Vault::create(Arc::clone(&disk), Arc::clone(&entropy), paths, kek, TENANT, ORIGIN)?;
    let dir = at("data").join("0000");
    recovery::create(&*disk, &dir, ORIGIN, 256 << 20)?;
    let pepper = Pepper::new(*vault.pepper().1.expose());
    let specs = event_hash_specs().map(|spec| (spec, Zeroizing::new("salt".to_owned())));
    let keys = TokenKeys::new(TENANT, vec![pepper], specs.collect())?;
    let hasher =
        Hasher::new(TENANT, vault.dedupe_key().expose(), vault.index_key().expose()).with_identifiers(keys);
    let index = at("data").join("index");
    let options = LookupOptions {
        dir: &index,
        origin: ORIGIN,
        hasher: &hasher,
        vault_epochs: 1..=1,
        limits: LookupLimits::default(),
    };
    let mut lookup = Lookup::open(Arc::clone(&disk), &options)?;
    lookup.start_background()?;
    let seed = vault.signing_seed(ORIGIN).context("a log has a signing key")?;
    let signer = SignerKey::from_seed(ORIGIN, seed.expose())?;
    let options =
        Options { dir: &dir, origin: ORIGIN, segment_bytes: 256 << 20, known_size: TreeSize::new(0) };
    let (mut committer, _) = recovery::open(&disk, &options, Box::new(signer), &mut |_, _| Ok(()))?;
    let hasher = Arc::new(hasher);
    let clock = Arc::new(OsClock::default());
    let trail = Trail::new(
        Arc::clone(&entropy),
        lookup.clone(),
        vault.suppression().clone(),
        Arc::clone(&hasher),
        Identity::default(),
    );
    let keyring = vault.keyring(ORIGIN).context("a log has keys")?;
    let sealing_ns = Arc::new(Mutex::new(0));
    let sealer = Timed {
        sealer: TrailSealer::new(keyring, Arc::clone(&entropy)),
        clock: Arc::clone(&clock),
        taken_ns: Arc::clone(&sealing_ns),
    };
    let receipt = ReceiptClock::start(Arc::clone(&clock) as Arc<dyn Clock>, 0);
    let mut sequencer = Sequencer::new(trail, sealer, receipt, LogIndex::new(0));
    let submit = |command| Submission { command, reply: Box::new(|outcome| assert!(outcome.is_ok())) };
    let first = Command::first_leaves(&OriginStartItem { previous: None }, &ClassTable::default());
    for told in committer.commit(vec![sequencer.step(first.into_iter().map(submit).collect())?])? {
        lookup.apply(told);
    }
    let rules = Rules::default();
    let received_ms = time_ms("2026-11-01T10:30:00Z").context("a time")?;
    let mut spent: [Vec<u64>; STAGES.len()] = std::array::from_fn(|_| Vec::new());
    let mut took = |stage: usize, since: u64| {
        let now = clock.monotonic_ns();
        spent[stage].push(now.saturating_sub(since));
        clock.monotonic_ns()
    };
    for group in 0..events / GROUP {
        let bodies: Vec<_> = (group * GROUP..(group + 1) * GROUP).map(body).collect();
        let now = clock.monotonic_ns();
        // The long way first, which only what is unusual goes; nothing of it is stored.
        let parsed: Vec<_> =
            bodies.iter().map(|body| parse_json(body, JsonLimits::EVENT)).collect::<Result<_, _>>()?;
        let now = took(6, now);
        let events: Vec<_> = parsed
            .into_iter()
            .map(|body| check(body, &rules, received_ms).map_err(|_| anyhow::anyhow!("refused")))
            .collect::<Result<_, _>>()?;
        let now = took(7, now);
        for event in &events {
            black_box(Command::prepare(&hasher, event, SourceCode::API, "bench", None, Dedupe::CONTENT));
        }
        took(8, now);
        drop(events);
        let now = clock.monotonic_ns();
        let events: Vec<_> = bodies
            .iter()
            .map(|body| PlainEvent::read(body, JsonLimits::EVENT, &rules, received_ms).context("unusual"))
            .collect::<Result<_, _>>()?;
        let now = took(0, now);
        let commands: Vec<_> =
            events.into_iter().map(|event| Command::prepare_plain(&hasher, event, "bench", None)).collect();
        let now = took(1, now);
        let bytes: usize = commands.iter().map(Trail::bytes_max).sum();
        assert!(bytes < 8 << 20, "a group fits a frame");
        let sealed_before = *sealing_ns.lock().unwrap();
        let sealed = sequencer.step(commands.into_iter().map(submit).collect())?;
        let sealing = *sealing_ns.lock().unwrap() - sealed_before;
        let now = took(2, now + sealing);
        took(3, now.saturating_sub(sealing));
        let now = clock.monotonic_ns();
        let told = committer.commit(vec![sealed])?;
        let now = took(4, now);
        told.into_iter().for_each(|told| lookup.apply(told));
        took(5, now);
    }
    // Medians, because one group may wait for a page, the disk or another program.
    let mut all = 0;
    for (at, (stage, mut groups)) in STAGES.iter().zip(spent).enumerate() {
        groups.sort_unstable();
        let each = groups[groups.len() / 2] / GROUP;
        if at == USUAL_STAGES {
            println!("{:>9} {all:>6} ns; the long way of unusual events:", "all");
        }
        all += each;
        println!("{stage:>9} {each:>6} ns");
    }
    Ok(())
}
