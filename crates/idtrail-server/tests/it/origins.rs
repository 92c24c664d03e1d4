//! The drill: a backup, more events, an erasure, the disk is lost, the backup is restored. Only what was shredded cannot be
//! read, what was lost is counted, and the installation goes on in a new log without touching the old one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use idtrail_tlog::Policy;
use idtrail_verify::{Package, Receipt, ReceiptStatus, Verdict};
use serde_json::{Value, json};

use crate::rig::{Installation, Running, files, idtrail, query, sample};

pub(crate) fn event(customer: &str, number: u64) -> Value {
    let mut event = sample();
    event["auditEvent"]["resolvedCustomerId"] = json!(customer);
    event["auditEvent"]["interactionId"] = json!(format!("interaction-{}", number % 2));
    event["auditEvent"]["conversationId"] = json!(format!("conversation-{number}"));
    event
}

/// An installation with a copy of its vault.
pub(crate) fn installation(extra: &str) -> Installation {
    let installation = Installation::with(extra);
    let config = installation.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[vault]", "[vault]\ncopies = [\"copy\"]")).unwrap();
    installation
}

/// Runs a command on the installation and returns its exit code and what it printed as JSON.
pub(crate) fn command(installation: &Installation, arguments: &[&str]) -> (Option<i32>, Value) {
    let config = installation.config();
    let output = idtrail(&[arguments, &["--json", "--config", config.to_str().unwrap()]].concat());
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    (
        output.status.code(),
        serde_json::from_slice(&text)
            .unwrap_or_else(|_| panic!("{arguments:?} {}", String::from_utf8_lossy(&text))),
    )
}

pub(crate) fn post(server: &Running, of: &Installation, event: &Value, status: StatusCode) -> Receipt {
    let (got, body) = server.post_event(of, event);
    assert_eq!(got, status, "{body}");
    serde_json::from_value(body).unwrap()
}

pub(crate) fn get(server: &Running, of: &Installation, path: &str) -> (StatusCode, Value) {
    let request =
        http::Request::get(server.url(path)).header("x-api-key", &of.key).body(bytes::Bytes::new()).unwrap();
    let response = server.send(request);
    (response.status(), serde_json::from_slice(response.body()).unwrap())
}

/// The high-water mark beside the anchors is written once a second.
fn wait_for_mark(home: &Path, size: u64) {
    for _ in 0..200 {
        let text = std::fs::read_to_string(home.join("anchor/cell.high-water")).unwrap_or_default();
        if text.lines().any(|line| line.starts_with(&format!("{size} "))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the high-water mark was not written");
}

pub(crate) fn lose_the_disk(installation: &Installation) {
    std::fs::remove_dir_all(installation.home().join("data")).unwrap();
}

pub(crate) fn package(server: &Running, of: &Installation, customer: &str, policy: &Policy) -> Package {
    let answer = server.access(of, &query(customer));
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
    let report = idtrail_verify::verify(answer.body(), policy);
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    serde_json::from_slice(answer.body()).unwrap()
}

pub(crate) fn places(package: &Package) -> Vec<(&str, u64)> {
    package.events.iter().map(|event| (event.origin.as_str(), event.index)).collect()
}

#[test]
fn the_disk_is_lost_right_after_a_shred() {
    let installation = installation("");
    let backup = installation.dir.path().join("backup");
    let policy_file = installation.home().join("policy-2.txt");
    let admin = installation.credential(&["--name", "operations", "--role", "admin"]).1;
    let server = installation.start();
    let first: Vec<Receipt> = (0..6)
        .map(|number| {
            let customer = ["erased-one", "kept-one"][number as usize % 2];
            post(&server, &installation, &event(customer, number), StatusCode::CREATED)
        })
        .collect();
    let old = first[0].origin.clone();
    wait_for_mark(&installation.home(), 8);

    let (exit, refused) = command(&installation, &["backup", backup.to_str().unwrap()]);
    assert_eq!(exit, Some(7), "{refused}");
    let (exit, made) = command(&installation, &["backup", backup.to_str().unwrap(), "--on-one-device"]);
    assert_eq!(exit, Some(0), "{made}");
    assert_eq!(made["backup"]["logs"][0]["treeSize"], 8);
    let held: Vec<PathBuf> = files(&backup);
    for path in &held {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name != "cell" && name != "lock" && !name.ends_with(".key"), "{}", path.display());
    }

    let kept = package(&server, &installation, "kept-one", &installation.policy());
    let customer = kept.customer.clone().unwrap().global_customer_id;
    for number in 6..9 {
        post(&server, &installation, &event("late-one", number), StatusCode::CREATED);
    }
    let order = json!({ "requestId": "r-1", "indices": [2, 4, 6], "confirm": "shred 3 leaves" });
    let answer = server.post("/api/v1/admin/shred", &[("x-api-key", &admin)], order.to_string());
    assert_eq!(answer.status(), StatusCode::OK);
    wait_for_mark(&installation.home(), 13);
    server.kill();
    lose_the_disk(&installation);

    // Without the data directory nothing starts, and nothing can be restored from the backup's own body.
    let copy = installation.home().join("copy");
    let away = installation.home().join("away");
    std::fs::rename(&copy, &away).unwrap();
    let (exit, _) = command(&installation, &["restore", backup.to_str().unwrap()]);
    assert_eq!(exit, Some(74), "the body in the backup is older than the shred");
    lose_the_disk(&installation);
    std::fs::rename(&away, &copy).unwrap();

    let arguments = ["restore", backup.to_str().unwrap(), "--policy", policy_file.to_str().unwrap()];
    let (exit, restored) = command(&installation, &arguments);
    assert_eq!(exit, Some(0), "{restored}");
    let new = restored["origin"].as_str().unwrap().to_owned();
    assert_eq!(new, format!("{old}/1"));
    assert_eq!(restored["lost"], 5, "three events and two leaves about the shred: {restored}");
    let log = json!({ "origin": old, "treeSize": 8, "lost": 5, "unreadable": 3 });
    assert_eq!(restored["logs"], json!([log]));
    let (exit, _) = command(&installation, &arguments);
    assert_eq!(exit, Some(2), "never over data");

    let policy = Policy::parse(&std::fs::read_to_string(&policy_file).unwrap()).unwrap();
    let segments = |number: &str| {
        let dir = installation.home().join("data/log").join(number).join("segments");
        files(&dir)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "seg"))
            .map(|path| std::fs::read(path).unwrap())
            .collect::<Vec<_>>()
    };
    let untouched = segments("0000");
    for round in ["after the restore", "after another start"] {
        let server = installation.start();
        // What the old log acknowledged keeps its place; what was erased stays erased; what was lost is new.
        let again = post(&server, &installation, &event("kept-one", 1), StatusCode::OK);
        assert_eq!(again.status, ReceiptStatus::Duplicate, "{round}");
        assert_eq!(
            (&again.origin, again.index, &again.leaf_hash),
            (&old, first[1].index, &first[1].leaf_hash)
        );
        let erased = server.post_event(&installation, &event("erased-one", 0));
        assert_eq!((erased.0, &erased.1["erased"]), (StatusCode::OK, &json!(true)), "{round}");
        let expected = if round == "after the restore" { StatusCode::CREATED } else { StatusCode::OK };
        let lost = post(&server, &installation, &event("late-one", 7), expected);
        assert_eq!((&lost.origin, lost.index), (&new, 2), "{round}");
        let more = post(&server, &installation, &event("kept-one", 11), expected);
        assert_eq!((&more.origin, more.index), (&new, 3), "{round}");

        let both = package(&server, &installation, "kept-one", &policy);
        assert_eq!(both.customer.clone().unwrap().global_customer_id, customer, "the id goes on");
        assert_eq!(places(&both), [(&*old, 3), (&*old, 5), (&*old, 7), (&*new, 3)]);
        let sizes: Vec<(&str, u64)> = both.as_of.iter().map(|one| (one.origin.as_str(), one.size)).collect();
        assert_eq!(sizes, [(&*old, 8), (&*new, 4)]);
        assert_eq!(places(&package(&server, &installation, &customer, &policy)).len(), 4, "by its own id");
        assert!(package(&server, &installation, "erased-one", &policy).events.is_empty());

        // Lists and single reads span both logs.
        let (_, page) = get(&server, &installation, "/api/v1/events?limit=4");
        let (_, rest) =
            get(&server, &installation, &format!("/api/v1/events?after={}", page["next"].as_str().unwrap()));
        let listed: Vec<(&str, u64)> = [&page, &rest]
            .iter()
            .flat_map(|page| page["events"].as_array().unwrap())
            .map(|event| (event["origin"].as_str().unwrap(), event["index"].as_u64().unwrap()))
            .collect();
        let expected: Vec<(&str, u64)> =
            (2..8).map(|index| (&*old, index)).chain([(&*new, 2), (&*new, 3)]).collect();
        assert_eq!(
            (listed, &page["more"], &rest["more"]),
            (expected, &json!(true), &json!(false)),
            "{round}"
        );
        let (_, interaction) = get(&server, &installation, "/api/v1/interactions/interaction-1/events");
        assert_eq!(interaction["events"].as_array().unwrap().len(), 5, "{round} {interaction}");
        let (status, one) = get(&server, &installation, &format!("/api/v1/events/3?origin={old}"));
        assert_eq!((status, &one["origin"]), (StatusCode::OK, &json!(old)));
        let (_, receipt) = get(&server, &installation, &format!("/api/v1/receipts/3?origin={old}"));
        assert_eq!(receipt["leafHash"], first[1].leaf_hash);
        let receipt = idtrail_verify::verify_receipt(receipt.to_string().as_bytes(), None, &policy);
        assert_eq!(receipt.verdict, Verdict::Verified);
        assert_eq!(get(&server, &installation, "/api/v1/events/3?origin=other").0, StatusCode::NOT_FOUND);
        server.stop();
    }
    assert_eq!(segments("0000"), untouched, "the old log is never written to");

    let (exit, checked) = command(&installation, &["fsck"]);
    assert_eq!((exit, &checked["origin"], &checked["treeSize"]), (Some(0), &json!(new), &json!(4)));
    assert_eq!(
        (&checked["earlier"][0]["origin"], &checked["earlier"][0]["treeSize"]),
        (&json!(old), &json!(8))
    );
    let (exit, rebuilt) = command(&installation, &["rebuild"]);
    assert_eq!((exit, &rebuilt["leaves"]), (Some(0), &json!(12)));
    let server = installation.start();
    assert_eq!(places(&package(&server, &installation, "kept-one", &policy)).len(), 4, "rebuilt as it was");
    server.stop();

    // A second loss: the backup holds both logs now, and a third one follows.
    let second = installation.dir.path().join("backup-2");
    let (exit, made) = command(&installation, &["backup", second.to_str().unwrap(), "--on-one-device"]);
    assert_eq!((exit, made["backup"]["logs"].as_array().unwrap().len()), (Some(0), 2));
    lose_the_disk(&installation);
    let (exit, restored) = command(&installation, &["restore", second.to_str().unwrap()]);
    assert_eq!(
        (exit, &restored["lost"], &restored["origin"]),
        (Some(0), &json!(0), &json!(format!("{old}/2")))
    );
    let server = installation.start();
    let policy = Policy::parse(restored["policy"].as_str().unwrap()).unwrap();
    assert_eq!(places(&package(&server, &installation, "kept-one", &policy)).len(), 4);
    server.stop();
}

#[test]
fn data_that_is_not_the_newest_state_does_not_start() {
    let installation = installation("");
    let server = installation.start();
    post(&server, &installation, &event("one", 1), StatusCode::CREATED);
    server.stop();
    let backup = installation.dir.path().join("backup");
    let (exit, _) = command(&installation, &["backup", backup.to_str().unwrap(), "--on-one-device"]);
    assert_eq!(exit, Some(0));
    let (data, aside) = (installation.home().join("data"), installation.home().join("aside"));
    std::fs::rename(&data, &aside).unwrap();
    let (exit, _) = command(&installation, &["restore", backup.to_str().unwrap()]);
    assert_eq!(exit, Some(0));

    // The disk that was thought lost comes back: its log has a successor, so it must not go on.
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&aside, &data).unwrap();
    let output = idtrail(&["serve", "--config", installation.config().to_str().unwrap()]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not the newest state"), "{said}");
}

#[test]
fn a_backup_that_was_changed_is_not_restored() {
    let installation = installation("");
    let server = installation.start();
    post(&server, &installation, &event("one", 1), StatusCode::CREATED);
    server.stop();
    let backup = installation.dir.path().join("backup");
    command(&installation, &["backup", backup.to_str().unwrap(), "--on-one-device"]);
    lose_the_disk(&installation);
    for path in files(&backup) {
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let (exit, said) = command(&installation, &["restore", backup.to_str().unwrap()]);
        assert!(matches!(exit, Some(1 | 6 | 74)), "{} {exit:?} {said}", path.display());
        let _ = std::fs::remove_dir_all(installation.home().join("data"));
        std::fs::write(&path, whole).unwrap();
    }
    let (exit, _) = command(&installation, &["restore", backup.to_str().unwrap()]);
    assert_eq!(exit, Some(0));
}

/// An event of somebody of whom only the telephone is known, as its hash.
fn call(number: u64) -> Value {
    let mut event = event("", number);
    event["auditEvent"]["resolvedCustomerId"] = Value::Null;
    event["auditEvent"]["interactionId"] = json!(format!("call-{number}"));
    event["auditEvent"]["piiContext"] =
        json!({ "phoneHash": "5f".repeat(32), "emailHash": null, "accountNumberHash": null });
    event
}

pub(crate) fn accesses(server: &Running, of: &Installation, filter: &str) -> Vec<Value> {
    let (status, page) = get(server, of, &format!("/api/v1/access-log?limit=1000{filter}"));
    assert_eq!(status, StatusCode::OK, "{page}");
    let entries = page["entries"].as_array().unwrap().iter();
    entries.filter(|entry| entry["auditEvent"]["operation"] == "audit_trail").cloned().collect()
}

#[test]
fn who_was_known_by_a_telephone_and_who_was_shown_what_is_known_after_a_restore() {
    let installation = installation("");
    let backup = installation.dir.path().join("backup");
    let server = installation.start();
    let before = post(&server, &installation, &call(1), StatusCode::CREATED);
    let old = before.origin.clone();
    let access_of = |log: &str| idtrail_verify::access_origin(log);
    let first = package(&server, &installation, &"5f".repeat(32), &installation.policy());
    let customer = first.customer.clone().unwrap().global_customer_id;
    assert_eq!(places(&first), [(&*old, before.index)]);
    server.stop();
    let (exit, made) = command(&installation, &["backup", backup.to_str().unwrap(), "--on-one-device"]);
    assert_eq!(exit, Some(0), "{made}");
    let saved = &made["backup"]["accessLogs"][0];
    assert_eq!((&saved["origin"], &saved["treeSize"]), (&json!(access_of(&old)), &json!(3)), "{made}");
    let server = installation.start();
    package(&server, &installation, &customer, &installation.policy());
    server.stop();
    lose_the_disk(&installation);
    let (exit, restored) = command(&installation, &["restore", backup.to_str().unwrap()]);
    assert_eq!((exit, &restored["lost"]), (Some(0), &json!(0)), "{restored}");
    let log = json!({ "origin": access_of(&old), "treeSize": 3, "lost": 1, "unreadable": 0 });
    assert_eq!(restored["accessLogs"], json!([log]), "the last access came after the backup");
    let new = restored["origin"].as_str().unwrap().to_owned();
    let policy = Policy::parse(restored["policy"].as_str().unwrap()).unwrap();

    for round in 0..3 {
        let server = installation.start();
        let status = if round == 0 { StatusCode::CREATED } else { StatusCode::OK };
        let after = post(&server, &installation, &call(2), status);
        assert_eq!(after.origin, new);
        let both = package(&server, &installation, &"5f".repeat(32), &policy);
        assert_eq!(both.customer.clone().unwrap().global_customer_id, customer, "one person, one id");
        assert_eq!(places(&both), [(&*old, before.index), (&*new, after.index)], "round {round}");
        // What was shown before the restore is told too, and is part of what verifies.
        let [earlier] = &both.earlier_access_logs[..] else { panic!("{:?}", both.earlier_access_logs) };
        assert_eq!((&*earlier.as_of.origin, earlier.as_of.size), (&*access_of(&old), 3));
        assert_eq!(earlier.events.len(), 1);
        let own = both.access_log.as_ref().unwrap();
        assert_eq!(own.as_of.origin, access_of(&new));
        // Each answer that spans both logs is recorded once for each: the package, and the list of its accesses below;
        // so is the look at the customer, which identity answers.
        assert_eq!(own.events.len(), 5 * round, "round {round}");
        let changed = |change: &dyn Fn(&mut Package)| {
            let mut package = both.clone();
            change(&mut package);
            idtrail_verify::verify(&serde_json::to_vec(&package).unwrap(), &policy).verdict
        };
        let moved = changed(&|package| package.access_log = package.earlier_access_logs.pop());
        assert_eq!(moved, Verdict::Tampered);
        let twice = changed(&|package| {
            let part = package.earlier_access_logs[0].clone();
            package.earlier_access_logs.push(part);
        });
        assert_eq!(twice, Verdict::Tampered);

        for filter in [String::new(), format!("&customer={customer}")] {
            let found = accesses(&server, &installation, &filter);
            let logs: Vec<&str> = found.iter().map(|entry| entry["origin"].as_str().unwrap()).collect();
            let (old_log, new_log) = (access_of(&old), access_of(&new));
            let expected: Vec<&str> =
                std::iter::once(&*old_log).chain(vec![&*new_log; 2 * (round + 1)]).collect();
            assert_eq!(logs, expected, "round {round} {filter}");
        }
        for (index, log) in [(2, access_of(&old)), (2, access_of(&new))] {
            let path = format!("/api/v1/access-log/{index}/receipt?origin={log}");
            let (_, receipt) = get(&server, &installation, &path);
            let report = idtrail_verify::verify(receipt.to_string().as_bytes(), &policy);
            assert_eq!(report.verdict, Verdict::Verified, "{log} {report:?}");
        }
        let (status, shown) = get(&server, &installation, &format!("/api/v1/customers/{customer}"));
        assert_eq!(status, StatusCode::OK, "{shown}");
        let interactions: Vec<(&str, u64)> = shown["interactions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["origin"].as_str().unwrap(), one["index"].as_u64().unwrap()))
            .collect();
        assert_eq!(interactions, [(&*old, before.index), (&*new, after.index)]);
        server.stop();
        if round == 1 {
            let (exit, rebuilt) = command(&installation, &["rebuild"]);
            assert_eq!(exit, Some(0), "{rebuilt}");
        }
    }

    let (exit, checked) = command(&installation, &["fsck"]);
    assert_eq!(exit, Some(0), "{checked}");
    let access = &checked["accessLog"];
    assert_eq!(access["origin"], json!(access_of(&new)));
    assert_eq!(
        (&access["earlier"][0]["origin"], &access["earlier"][0]["treeSize"]),
        (&json!(access_of(&old)), &json!(3))
    );
    // An earlier access log is as final as the log that it belongs to.
    let segments = installation.home().join("data/access/0000/segments");
    let path =
        files(&segments).into_iter().find(|path| path.extension().is_some_and(|end| end == "seg")).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(command(&installation, &["fsck"]).0, Some(1));
    let output = idtrail(&["serve", "--config", installation.config().to_str().unwrap()]);
    assert!(!output.status.success());
}
