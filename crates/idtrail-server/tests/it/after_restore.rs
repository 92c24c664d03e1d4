//! After a restore an installation has several logs, and what may have to go stands in all of them: erasures, holds,
//! requests of data subjects and expiry reach the earlier logs and access logs, whose tiles and proofs stay.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use idtrail_event::{Dedupe, SourceCode, check};
use idtrail_index::shred::{Order, Task};
use idtrail_index::trail::Command;
use idtrail_log::commit::Answer;
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_server::engine::{self, Engine, Ports, backup};
use idtrail_server::settings::Settings;
use idtrail_server::synthetic;
use idtrail_sim::{Count, Seed, SimClock, SimDisk, SimEntropy};
use idtrail_tlog::{Checkpoint, LogIndex, Policy, VerifierKey};
use idtrail_vault::{Kek, Sections};
use idtrail_verify::Verdict;
use serde_json::{Value, json};

use crate::office::Office;
use crate::origins::{accesses, command, event, get, installation, lose_the_disk, package, places, post};
use crate::rig::{Installation, Running};

struct Restored {
    installation: Installation,
    admin: String,
    policy: Policy,
    old: String,
    new: String,
    receipts: Vec<Value>,
}

/// An installation that was restored from a backup made after six events of two customers and a look at one of them.
fn restored(extra: &str) -> Restored {
    let installation = installation(extra);
    let backup = installation.dir.path().join("backup");
    let server = installation.start();
    let customers = ["erased-one", "kept-one"];
    let receipts: Vec<Value> = (0..6)
        .map(|number| {
            let event = event(customers[number as usize % 2], number);
            serde_json::to_value(post(&server, &installation, &event, StatusCode::CREATED)).unwrap()
        })
        .collect();
    package(&server, &installation, "erased-one", &installation.policy());
    server.stop();
    let (exit, made) = command(&installation, &["backup", backup.to_str().unwrap(), "--on-one-device"]);
    assert_eq!(exit, Some(0), "{made}");
    lose_the_disk(&installation);
    let (exit, said) = command(&installation, &["restore", backup.to_str().unwrap()]);
    assert_eq!(exit, Some(0), "{said}");
    let policy = Policy::parse(said["policy"].as_str().unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (old, new) = (text(&receipts[0]["origin"]), text(&said["origin"]));
    let admin = installation.credential(&["--name", "operations", "--role", "admin"]).1;
    Restored { installation, admin, policy, old, new, receipts }
}

impl Restored {
    fn admin(&self, server: &Running, path: &str, body: Value) -> (StatusCode, Value) {
        let answer =
            server.post(&format!("/api/v1/admin{path}"), &[("x-api-key", &self.admin)], body.to_string());
        (answer.status(), serde_json::from_slice(answer.body()).unwrap())
    }

    fn found(&self, server: &Running, customer: &str) -> Vec<(String, u64)> {
        let package = package(server, &self.installation, customer, &self.policy);
        places(&package).into_iter().map(|(origin, index)| (origin.to_owned(), index)).collect()
    }

    /// What was written and signed before still verifies, and everybody else's events are there.
    fn check_the_rest(&self, server: &Running) {
        for receipt in &self.receipts {
            let report = idtrail_verify::verify(receipt.to_string().as_bytes(), &self.policy);
            assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
        }
        let kept: Vec<(String, u64)> = [3, 5, 7].map(|index| (self.old.clone(), index)).into();
        assert_eq!(self.found(server, "kept-one"), kept);
    }
}

#[test]
fn what_stands_in_an_earlier_log_is_held_and_erased_and_its_proofs_stay() {
    let it = restored("");
    let of = &it.installation;
    let server = of.start();
    post(&server, of, &event("erased-one", 10), StatusCode::CREATED);
    let all = [(&*it.old, 2), (&*it.old, 4), (&*it.old, 6), (&*it.new, 2)];
    let before = package(&server, of, "erased-one", &it.policy);
    assert_eq!(places(&before), all);
    let customer = before.customer.clone().unwrap().global_customer_id;
    let about = format!("&customer={customer}");
    assert_eq!(accesses(&server, of, &about).len(), 3, "one before the restore, one for each log after it");
    let archived = serde_json::to_vec(&before).unwrap();

    let hold = json!({ "holdId": "case-1", "indices": [6], "origin": it.old });
    assert_eq!(it.admin(&server, "/holds", hold.clone()).0, StatusCode::CREATED);
    assert_eq!(it.admin(&server, "/holds", hold).0, StatusCode::CONFLICT);
    let order = |request: &str, origin: &str, indices: &[u64], confirm: &str| json!({ "requestId": request, "origin": origin, "indices": indices, "confirm": confirm });
    let (status, _) = it.admin(&server, "/shred", order("r-0", "elsewhere", &[2], "shred 1 leaf"));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, said) = it.admin(&server, "/shred", order("r-1", &it.old, &[2, 4, 6], "shred 3 leaves"));
    assert_eq!((status, &said["shredded"], &said["held"]), (StatusCode::OK, &json!(2), &json!([])), "{said}");
    assert_eq!(said["heldInEarlierLogs"], json!([{ "origin": it.old, "indices": [6] }]));
    assert_eq!(said["leafOrigin"], json!(it.new), "an earlier log is never written to");
    let again = it.admin(&server, "/shred", order("r-1", &it.old, &[2, 4, 6], "shred 3 leaves")).1;
    assert_eq!((&again["repeated"], &again["shredded"]), (&json!(true), &json!(2)));
    assert_eq!(it.found(&server, "erased-one"), [(it.old.clone(), 6), (it.new.clone(), 2)]);

    let (status, said) = it.admin(&server, "/shred", order("r-2", &it.new, &[2], "shred 1 leaf"));
    assert_eq!((status, &said["shredded"]), (StatusCode::OK, &json!(1)));
    assert!(!accesses(&server, of, &about).is_empty(), "whoever keeps an event keeps who was shown it");
    let release = json!({ "requestId": "r-3", "confirm": "release case-1" });
    assert_eq!(it.admin(&server, "/holds/case-1/release", release).0, StatusCode::OK);
    let (_, said) = it.admin(&server, "/shred", order("r-4", &it.old, &[6], "shred 1 leaf"));
    assert_eq!(said["shredded"], 1);

    let check = |server: &Running| {
        assert!(package(server, of, "erased-one", &it.policy).events.is_empty());
        assert_eq!(accesses(server, of, &about).len(), 0, "in no access log");
        let erased = server.post_event(of, &event("erased-one", 0));
        assert_eq!((erased.0, &erased.1["erased"]), (StatusCode::OK, &json!(true)));
        it.check_the_rest(server);
        let report = idtrail_verify::verify(&archived, &it.policy);
        assert_eq!(report.verdict, Verdict::Verified, "an answer given before stays what it was: {report:?}");
    };
    check(&server);
    server.kill();
    let server = of.start();
    check(&server);
    server.stop();
    let (exit, checked) = command(of, &["fsck"]);
    assert_eq!(exit, Some(0), "{checked}");
    let (exit, rebuilt) = command(of, &["rebuild"]);
    assert_eq!(exit, Some(0), "{rebuilt}");
    let (exit, plan) = command(of, &["retention", "plan"]);
    assert_eq!(exit, Some(0), "{plan}");
    let unreadable = |plan: &Value| -> u64 {
        plan["periods"].as_array().unwrap().iter().map(|one| one["unreadable"].as_u64().unwrap()).sum()
    };
    assert_eq!(unreadable(&plan), 4, "of both logs: {plan}");
    check(&of.start());
}

#[test]
fn a_request_erases_a_person_in_all_logs_and_its_certificate_is_whole() {
    let it = restored("[rights]\ngrace_hours = 0\n");
    let of = &it.installation;
    let second = of.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let server = of.start();
    post(&server, of, &event("erased-one", 10), StatusCode::CREATED);
    let before = it.found(&server, "erased-one");
    assert_eq!(before.len(), 4);
    let office = Office::open(&server, of, &second);
    let id = office.request("ERASURE", "erased-one");
    office.verify(&id);
    office.approve(&id);
    let done = office.until(&id, "CLOSED_FULFILLED");
    for item in ["idtrail/events", "idtrail/earlier/0"] {
        let left = &done["items"][item];
        assert_eq!((&left["status"], &left["reason"]), (&json!("VERIFIED_ABSENT"), &Value::Null), "{done:#}");
    }
    let report = idtrail_verify::verify_certificate(&office.certificate(&id), &it.policy);
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    let left = it.found(&server, "erased-one");
    assert!(left.iter().all(|place| !before.contains(place)), "only the deletion itself: {left:?}");
    it.check_the_rest(&server);
    drop(office);
    server.stop();
    assert_eq!(command(of, &["fsck"]).0, Some(0));
}

#[test]
fn tiles_and_checkpoints_of_every_log_are_served_under_their_number() {
    let it = restored("");
    let of = &it.installation;
    let server = of.start();
    post(&server, of, &event("kept-one", 10), StatusCode::CREATED);
    let (_, logs) = get(&server, of, "/logs");
    let told = |kind: &str| -> Vec<(Value, Value)> {
        let logs = logs[kind].as_array().unwrap().iter();
        logs.map(|log| (log["origin"].clone(), log["final"].clone())).collect()
    };
    let names = |suffix: &str| {
        [(&it.old, true), (&it.new, false)].map(|(log, done)| (json!(format!("{log}{suffix}")), json!(done)))
    };
    assert_eq!(told("logs"), names(""));
    assert_eq!(told("accessLogs"), names("/access"));
    for (kind, part) in [("logs", ""), ("accessLogs", "/access")] {
        for log in logs[kind].as_array().unwrap() {
            let prefix = format!("/logs/{}{part}", log["number"]);
            let key = VerifierKey::parse(log["verifierKey"].as_str().unwrap()).unwrap();
            let note = server.get(&format!("{prefix}/checkpoint"));
            let head = Checkpoint::open(note.body(), [&key]).unwrap();
            assert_eq!(
                (json!(head.origin), json!(head.size.get())),
                (log["origin"].clone(), log["treeSize"].clone())
            );
            let tile = server.get(&format!("{prefix}/tile/0/000.p/{}", head.size));
            assert_eq!((tile.status(), tile.body().len() as u64), (StatusCode::OK, 32 * head.size.get()));
            let leaves: Vec<_> = tile.body().chunks(32).map(|hash| hash.to_vec()).collect();
            assert_eq!(leaves.len() as u64, head.size.get());
            let entries = format!("{prefix}/tile/entries/000.p/{}", head.size);
            assert_eq!(server.get(&entries).status(), StatusCode::UNAUTHORIZED);
            let request = http::Request::get(server.url(&entries)).header("x-api-key", &of.key);
            let bundle = server.send(request.body(bytes::Bytes::new()).unwrap());
            let entries = idtrail_tlog::bundle::decode(bundle.body()).unwrap();
            let hashes: Vec<_> =
                entries.into_iter().map(|entry| idtrail_tlog::leaf_hash(entry).as_bytes().to_vec()).collect();
            assert_eq!(hashes, leaves, "{prefix}");
        }
    }
    for missing in ["/logs/2/checkpoint", "/logs/2/tile/0/000.p/1", "/logs/2/access/checkpoint"] {
        assert_eq!(server.get(missing).status(), StatusCode::NOT_FOUND, "{missing}");
    }
    server.stop();
}

pub(crate) const NOW_MS: i64 = 1_760_000_000_000;
const MONTH_MS: u64 = 31 * 24 * 3_600_000;

pub(crate) fn settings() -> Settings {
    let text = r#"
        origin = "example.com/log"
        data_dir = "/data"
        kek = { file = "/kek" }
        [vault]
        anchors = ["/anchor/anchor"]
        copies = ["/copies"]
    "#;
    let mut settings = Settings::parse(text, Path::new("/")).unwrap();
    settings.segment_bytes = 64 * 1024;
    settings
}

pub(crate) fn kek() -> Kek {
    Kek::new([7; 32]).unwrap()
}

pub(crate) fn append(engine: &Engine, number: u64) -> LogIndex {
    let now_ms = i64::try_from(engine.now_ms()).unwrap();
    let event = check(synthetic::event(number, 4, now_ms), engine.rules(), now_ms).unwrap();
    let command = Command::prepare(engine.hasher(), &event, SourceCode::API, "crm", None, Dedupe::CONTENT);
    match engine.submit_all(vec![command]).unwrap().blocking_recv().unwrap().remove(0) {
        Ok(Answer::Appended { first, .. }) => first,
        other => panic!("{other:?}"),
    }
}

fn readable(engine: &Engine, log: u32, index: LogIndex) -> bool {
    let log = engine.log_at(OriginOrdinal(log)).unwrap();
    log.open_leaf(index, &log.reader.entry(index).unwrap()).is_ok()
}

/// A simulated disk with an installation in `/data-2` that was restored from a backup of three events, which stand in the
/// log before; and the clock, the settings and the places of the three.
fn restored_disk() -> (SimDisk, Arc<SimClock>, Settings, Vec<LogIndex>) {
    let disk = SimDisk::new(Seed::new(1));
    let clock = Arc::new(SimClock::new(NOW_MS));
    let ports = ports(&disk, &clock);
    engine::create(&ports, &settings(), kek()).unwrap();
    let first = Engine::open(ports.clone(), &settings(), kek(), |_| {}).unwrap();
    let old: Vec<LogIndex> = (0..3).map(|number| append(&first, number)).collect();
    first.stop();
    drop(first);
    backup::backup(&ports, &settings(), &|| Ok(kek()), Path::new("/backup"), &mut |_| {}).unwrap();
    for path in disk.files().into_iter().filter(|path| path.starts_with("/data")) {
        idtrail_port::Disk::remove(&disk, &path).unwrap();
    }
    // As a version wrote it that kept nothing but the logs and the vault.
    let list = Path::new("/backup/backup.json");
    let mut manifest: Value = serde_json::from_slice(&disk.read_durable(list).unwrap()).unwrap();
    manifest.as_object_mut().unwrap().remove("files");
    manifest["format"] = json!("idtrail-backup/1");
    let text = manifest.to_string();
    idtrail_port::write_atomic(&disk, list, text.as_bytes(), idtrail_port::Privacy::Owner).unwrap();
    let mut into = settings();
    into.data_dir = "/data-2".into();
    backup::restore(&ports, &into, kek(), Path::new("/backup"), &mut |_| {}).unwrap();
    (disk, clock, into, old)
}

pub(crate) fn ports(disk: &SimDisk, clock: &Arc<SimClock>) -> Ports {
    Ports {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as _,
        entropy: Arc::new(SimEntropy::new(Seed::new(9))),
    }
}

#[test]
fn an_order_over_two_logs_that_was_cut_short_at_any_step_is_done_in_both_or_not_at_all() {
    let (disk, clock, settings, old) = restored_disk();
    let open = |disk: &SimDisk| Engine::open(ports(disk, &clock), &settings, kek(), |_| {}).unwrap();
    let engine = open(&disk);
    let new = append(&engine, 10);
    engine.stop();
    drop(engine);
    let snapshot = disk.snapshot();
    let of = |log, index| Reference { origin: OriginOrdinal(log), index };
    let leaves = vec![of(0, old[0]), of(0, old[2]), of(1, new)];
    let order = || {
        let task = Task::Erase { leaves: leaves.clone(), sections: Sections::Both };
        Order { request_id: "r-1".to_owned(), actor: None, task }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let carried_out = |engine: &Engine| {
        let waiting = engine.desk().order(order()).unwrap();
        let patience = Duration::from_secs(5);
        let outcome = runtime.block_on(async { tokio::time::timeout(patience, waiting).await });
        outcome.ok().and_then(Result::ok).and_then(Result::ok)
    };
    let (mut begun, mut lost) = (0, 0);
    for step in (0..).step_by(2) {
        let disk = SimDisk::from_snapshot(&snapshot, Seed::new(step));
        let engine = open(&disk);
        disk.reset_counts();
        disk.crash_at(Count::Mutating, step);
        let done = carried_out(&engine).is_some();
        engine.stop();
        drop(engine);
        if done {
            // Either the power was never cut, or only after the answer.
            assert!(begun > 10 && lost > 0, "begun {begun}, lost {lost}");
            break;
        }
        disk.crash_losing_all();
        let engine = open(&disk);
        let left: Vec<bool> =
            leaves.iter().map(|leaf| readable(&engine, leaf.origin.0, leaf.index)).collect();
        assert!(left.iter().all(|one| *one == left[0]), "step {step}: half of it was done: {left:?}");
        *(if left[0] { &mut lost } else { &mut begun }) += 1;
        let outcome = carried_out(&engine).unwrap();
        assert_eq!((outcome.shredded, outcome.repeated), (3, !left[0]), "step {step}");
        assert_eq!(outcome.leaf.map(|leaf| leaf.origin), Some(OriginOrdinal(1)), "step {step}");
        assert!(leaves.iter().all(|leaf| !readable(&engine, leaf.origin.0, leaf.index)), "step {step}");
        assert!(readable(&engine, 0, old[1]), "step {step}: nobody else is touched");
        engine.stop();
    }
}

#[test]
fn months_of_earlier_logs_expire_by_the_hourly_timer() {
    let (disk, clock, into, old) = restored_disk();
    let ports = ports(&disk, &clock);
    let engine = Engine::open(ports, &into, kek(), |_| {}).unwrap();
    append(&engine, 10);
    let epoch = engine.keyring().epoch();
    let waits_until = |what: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !what() {
            if started.elapsed() > Duration::from_secs(10) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    };
    assert!(old.iter().all(|index| readable(&engine, 0, *index)));
    // Ten years later; the newest log has to go beyond the months before they expire.
    clock.advance_ms(120 * MONTH_MS);
    append(&engine, 11);
    assert!(
        waits_until(&|| old.iter().all(|index| !readable(&engine, 0, *index))),
        "the timer lets the months of the earlier log expire"
    );
    assert!(waits_until(&|| !readable(&engine, 1, LogIndex::new(2))), "and those of the newest one");
    assert!(engine.keyring().epoch() > epoch);
    assert!(readable(&engine, 0, LogIndex::new(0)), "the log's own leaves never expire");
    assert!(readable(&engine, 1, LogIndex::new(3)));
    // Within the hour it does not look again.
    let epoch = engine.keyring().epoch();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(engine.keyring().epoch(), epoch);
    engine.stop();
}
