use idtrail_event::{Rules, check};
use idtrail_sim::{Seed, SimDisk, SimEntropy};
use serde_json::json;

use idtrail_port::Open;

use super::*;

const CANARY: &str = "canary55512@example.com";
const NOW_MS: u64 = 1_790_000_000_000;

struct Rig {
    disk: Arc<SimDisk>,
    settings: QuarantineSettings,
}

impl Rig {
    fn new(entries_max: usize) -> Self {
        let disk = Arc::new(SimDisk::new(Seed::new(7)));
        disk.create_dir(Path::new("/data")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Self { disk, settings: QuarantineSettings { keep_ms: 1000, entries_max } }
    }

    fn open(&self) -> Quarantine {
        let hasher = Arc::new(Hasher::new("t", &[1; 32], &[2; 32]));
        let entropy: Arc<dyn Entropy> = Arc::new(SimEntropy::new(Seed::new(1)));
        let disk: Arc<dyn Disk> = Arc::clone(&self.disk) as _;
        Quarantine::open(
            (disk, entropy),
            Path::new("/data"),
            &[3; 32],
            hasher,
            self.settings,
            (&Suppression::default(), NOW_MS),
        )
        .unwrap()
    }
}

fn sender(system: &str) -> Sender<'_> {
    Sender { system, actor: Some("p-1"), source: SourceCode::API, dedupe: Dedupe::CONTENT }
}

fn rejected(number: u32) -> Rejected {
    let body = json!({ "auditEvent": {
        "eventType": "NOT_YET", "timestamp": "2026-01-01T00:00:00Z", "interactionId": format!("i-{number}"),
        "resolvedCustomerId": "c-1", "note": CANARY,
    } });
    *check(body, &Rules::default(), NOW_MS as i64).unwrap_err()
}

#[test]
fn what_is_kept_is_there_after_a_restart_and_says_why() {
    let rig = Rig::new(10);
    let quarantine = rig.open();
    let id = quarantine.keep(&sender("crm"), rejected(1), NOW_MS).unwrap();
    assert_eq!(quarantine.keep(&sender("crm"), rejected(1), NOW_MS + 5).unwrap(), id, "the same event again");
    assert_ne!(quarantine.keep(&sender("erp"), rejected(1), NOW_MS).unwrap(), id, "by somebody else");
    assert_eq!(QuarantineId::parse(&id.to_string()), Some(id));
    drop(quarantine);
    rig.disk.crash_losing_all();
    let quarantine = rig.open();
    assert_eq!(quarantine.len(), 2);
    let entry = quarantine.get(id).unwrap().unwrap();
    assert_eq!((entry.system.as_str(), entry.redacted, entry.received_ms), ("crm", 1, NOW_MS));
    assert_eq!(entry.dedupe(), Dedupe::CONTENT);
    let codes: Vec<&str> = entry.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(codes, ["unknown_event_type", "raw_pii"]);
    let customer = Hasher::new("t", &[1; 32], &[2; 32]).customer("c-1");
    assert_eq!(quarantine.search(|entry| entry.customer == Some(customer)).len(), 2);
    let listed = quarantine.list(None, 1);
    let (first, summary) = listed.first().unwrap();
    assert_eq!(quarantine.list(Some((summary.received_ms, *first)), 10).len(), 1);
}

#[test]
fn nothing_readable_is_on_the_disk_and_nothing_is_left_of_what_was_removed() {
    let rig = Rig::new(10);
    let quarantine = rig.open();
    let id = quarantine.keep(&sender("crm"), rejected(1), NOW_MS).unwrap();
    let unparsed = format!("{{\"x\": \"{CANARY}\"");
    let reason =
        Reason { pointer: String::new(), code: "truncated".into(), message: "m".into(), hint: "h".into() };
    let broken = quarantine.keep_unparsed(&sender("crm"), unparsed.as_bytes(), reason, NOW_MS + 1).unwrap();
    let entry = quarantine.get(broken).unwrap().unwrap();
    assert_eq!((entry.body.is_none(), entry.body_bytes), (true, Some(unparsed.len() as u64)));
    let path = Path::new("/data/quarantine").join(id.to_string());
    let bytes = read_whole(&*rig.disk, &path, 1 << 20).unwrap();
    for part in [CANARY, "NOT_YET", "i-1", "crm"] {
        assert!(!bytes.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
    }
    assert_eq!(quarantine.expire(NOW_MS + 999).unwrap(), 0);
    assert_eq!(quarantine.expire(NOW_MS + 1000).unwrap(), 1);
    assert!(quarantine.get(id).unwrap().is_none());
    assert!(quarantine.remove(broken).unwrap() && !quarantine.remove(broken).unwrap());
    assert!(quarantine.is_empty() && rig.open().is_empty());
}

#[test]
fn a_full_quarantine_refuses_and_a_damaged_file_is_shown() {
    let rig = Rig::new(2);
    let quarantine = rig.open();
    let first = quarantine.keep(&sender("crm"), rejected(1), NOW_MS).unwrap();
    quarantine.keep(&sender("crm"), rejected(2), NOW_MS).unwrap();
    assert!(matches!(
        quarantine.keep(&sender("crm"), rejected(3), NOW_MS),
        Err(QuarantineError::Full { entries: 2 })
    ));
    quarantine.keep(&sender("crm"), rejected(2), NOW_MS).unwrap();
    let path = Path::new("/data/quarantine").join(first.to_string());
    let file = rig.disk.open(&path, Open::Write).unwrap();
    file.write_all_at(b"x", 20).unwrap();
    file.sync_data().unwrap();
    let quarantine = rig.open();
    assert!(matches!(quarantine.get(first), Err(QuarantineError::Damaged { .. })));
    let (_, summary) = quarantine.list(None, 1).remove(0);
    assert_eq!(summary.reasons.first().unwrap().code, "damaged");
    assert!(quarantine.remove(first).unwrap());
}
