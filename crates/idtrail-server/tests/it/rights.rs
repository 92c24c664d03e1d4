//! Requests of data subjects, end to end: what a person asks for is done, proved, and cannot be undone or repeated.

use std::time::{Duration, Instant};

use http::StatusCode;
use idtrail_verify::Verdict;
use serde_json::{Value, json};

use crate::office::{HASH, Office, PATIENCE, event, found, steps};
use crate::rig::{EVENTS, Installation, idtrail};

fn installation() -> (Installation, (String, String)) {
    let installation = Installation::with("[rights]\ngrace_hours = 0\n");
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    (installation, second)
}

#[test]
fn an_erasure_ends_with_a_certificate_that_verifies_with_the_server_stopped() {
    let (installation, second) = installation();
    let server = installation.start();
    for number in 0..6 {
        let customer = ["erased-one", "kept-one"][number as usize % 2];
        assert_eq!(server.post_event(&installation, &event(customer, number)).0, StatusCode::CREATED);
    }
    let (before, others) =
        (found(&server, &installation, "erased-one"), found(&server, &installation, "kept-one"));
    assert_eq!((before.len(), others.len()), (3, 3));
    let office = Office::open(&server, &installation, &second);
    let id = office.request("ERASURE", "erased-one");
    let (status, again) = office.post("", 1, &json!({ "kind": "ERASURE", "customerIdHash": "erased-one" }));
    assert_eq!((status, &again["requestId"], &again["attached"]), (StatusCode::OK, &json!(id), &json!(1)));
    office.verify(&id);
    let plan = office.until(&id, "PLANNED");
    assert_eq!(
        (&plan["items"]["idtrail/events"]["found"], &plan["plan"]["interactions"]),
        (&json!(3), &json!(3)),
        "{plan:#}"
    );
    let hash = plan["plan"]["hash"].clone();
    assert_eq!(office.say(&id, 0, "approve", json!({ "planHash": HASH })).0, StatusCode::CONFLICT);
    assert_eq!(office.say(&id, 0, "approve", json!({ "planHash": hash })).0, StatusCode::OK);
    let (status, twice) = office.say(&id, 0, "approve", json!({ "planHash": hash }));
    assert_eq!(
        (status, &twice["detail"]),
        (StatusCode::CONFLICT, &json!("a second, different person must approve"))
    );
    assert_eq!(found(&server, &installation, "erased-one"), before, "one approval does nothing");
    assert_eq!(office.say(&id, 1, "approve", json!({ "planHash": hash })).0, StatusCode::OK);
    let closed = office.until(&id, "CLOSED_FULFILLED");
    assert_eq!(closed["items"]["idtrail/events"]["status"], "VERIFIED_ABSENT");
    assert_eq!(found(&server, &installation, "erased-one"), [0_u64; 0]);
    assert_eq!(found(&server, &installation, "kept-one"), others, "nobody else is touched");
    let of_request = found(&server, &installation, closed["recordId"].as_str().unwrap());
    assert_eq!(of_request.len(), steps(&closed).len() + 3, "every step, and a deletion for each interaction");

    // A late event of the erased person, and one of another person.
    let size = server.post_event(&installation, &event("kept-one", 90)).1["index"].as_u64().unwrap();
    assert_eq!(server.post_event(&installation, &event("erased-one", 91)).1["index"], size + 1);
    assert_eq!(found(&server, &installation, "erased-one"), [0_u64; 0], "it was acknowledged and discarded");
    let again = server.post(EVENTS, &[("x-api-key", &installation.key)], event("erased-one", 0).to_string());
    assert_eq!(serde_json::from_slice::<Value>(again.body()).unwrap()["erased"], true);

    let closed = until_told(&office, &id, 1);
    let file = office.certificate(&id);
    drop(office);
    server.stop();
    let path = installation.dir.path().join("certificate.json");
    std::fs::write(&path, &file).unwrap();
    let policy = installation.home().join("policy.txt");
    let output = idtrail(&["verify", path.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = idtrail_verify::verify_certificate(&file, &installation.policy());
    assert_eq!(report.verdict, Verdict::Verified);
    let config = installation.config();
    assert_eq!(idtrail(&["fsck", "--config", config.to_str().unwrap()]).status.code(), Some(0));

    let server = installation.start();
    let office = Office::open(&server, &installation, &second);
    let started = Instant::now();
    while office.get(&format!("/{id}")).0 == StatusCode::SERVICE_UNAVAILABLE {
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(office.shown(&id), closed, "what is folded anew is what was live");
    let report = idtrail_verify::verify_certificate(&office.certificate(&id), &installation.policy());
    assert_eq!(report.verdict, Verdict::Verified);
    let text = String::from_utf8(file).unwrap();
    assert!(!text.contains("erased-one"));
}

#[test]
fn a_person_nobody_knows_and_one_who_was_erased_are_answered_that_there_was_nothing() {
    let (installation, second) = installation();
    let server = installation.start();
    server.post_event(&installation, &event("known-one", 1));
    let office = Office::open(&server, &installation, &second);
    let (status, refused) = office.post("", 0, &json!({ "kind": "ACCESS", "customerIdHash": "known-one" }));
    assert_eq!(
        (status, &refused["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("/kind")),
        "nobody said what is done with data"
    );
    assert_eq!(office.get("/dsr_unknown").0, StatusCode::NOT_FOUND);
    for customer in ["unknown-one", "known-one", "known-one"] {
        let id = office.request("ERASURE", customer);
        office.verify(&id);
        office.approve(&id);
        let closed = office.until(&id, "CLOSED_FULFILLED");
        let status = &closed["items"]["idtrail/events"]["status"];
        assert!(status == "NOT_FOUND" || customer == "known-one", "{closed:#}");
        let report = idtrail_verify::verify_certificate(&office.certificate(&id), &installation.policy());
        assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    }
}

#[test]
fn a_plan_that_no_longer_holds_is_given_up_and_a_held_item_is_kept_until_the_release() {
    let installation = Installation::with("[rights]\ngrace_hours = 1\n");
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let server = installation.start();
    server.post_event(&installation, &event("one", 1));
    let office = Office::open(&server, &installation, &second);
    let id = office.request("ERASURE", "one");
    let half = json!({ "level": "NONE", "method": "otp-mail", "evidence": HASH });
    assert_eq!(office.say(&id, 0, "verify", half).1["state"], "IDENTITY_PENDING");
    office.verify(&id);
    office.approve(&id);
    // Within the grace it can be taken back, and then nothing has happened.
    assert_eq!(office.say(&id, 0, "withdraw", json!({ "evidence": HASH })).1["state"], "WITHDRAWN");
    assert_eq!(found(&server, &installation, "one").len(), 1);
    drop(office);
    server.stop();

    let config = installation.config();
    let text = std::fs::read_to_string(&config).unwrap().replace("grace_hours = 1", "grace_hours = 0");
    std::fs::write(&config, text).unwrap();
    let server = installation.start();
    let office = Office::open(&server, &installation, &second);
    let id = office.request("ERASURE", "one");
    office.verify(&id);
    let plan = office.until(&id, "PLANNED")["plan"]["hash"].clone();
    assert_eq!(office.say(&id, 0, "approve", json!({ "planHash": plan })).0, StatusCode::OK);
    server.post_event(&installation, &event("one", 2));
    assert_eq!(office.say(&id, 1, "approve", json!({ "planHash": plan })).0, StatusCode::OK);
    let started = Instant::now();
    while !steps(&office.shown(&id)).contains(&"DSR_PLAN_INVALIDATED") {
        assert!(started.elapsed() < PATIENCE);
    }
    let again = office.until(&id, "PLANNED");
    assert_ne!(again["plan"]["hash"], plan);
    let hold = json!({ "hold": "case-7", "items": ["idtrail/events"], "reason": "legal-claims" });
    assert_eq!(office.say(&id, 0, "hold", hold).0, StatusCode::OK);
    office.approve(&id);
    let closed = office.until(&id, "CLOSED_PARTIAL");
    assert_eq!(closed["items"]["idtrail/events"]["status"], "HELD");
    assert_eq!(found(&server, &installation, "one").len(), 2, "a held item is not begun");
    let report = idtrail_verify::verify_certificate(&office.certificate(&id), &installation.policy());
    assert_eq!(report.verdict, Verdict::Incomplete);
    assert_eq!(office.say(&id, 1, "release", json!({ "hold": "case-7" })).0, StatusCode::OK);
    let closed = office.until(&id, "CLOSED_FULFILLED");
    assert_eq!(closed["certificates"].as_array().unwrap().len(), 2);
    assert_eq!(found(&server, &installation, "one").len(), 0);
    let report = idtrail_verify::verify_certificate(&office.certificate(&id), &installation.policy());
    assert_eq!(report.verdict, Verdict::Verified);
}

/// Waits until an erasure has been told of so many events that came too late for it.
fn until_told(office: &Office<'_>, id: &str, count: u64) -> Value {
    let started = Instant::now();
    loop {
        let shown = office.shown(id);
        if shown["stragglers"] == count {
            return shown;
        }
        assert!(started.elapsed() < PATIENCE, "{shown:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_comes_too_late_is_taken_discarded_and_told_to_the_erasure_once_whatever_dies() {
    let (installation, second) = installation();
    let mut server = installation.start();
    server.post_event(&installation, &event("late-one", 1));
    let id = {
        let office = Office::open(&server, &installation, &second);
        let id = office.request("ERASURE", "late-one");
        office.verify(&id);
        office.approve(&id);
        office.until(&id, "CLOSED_FULFILLED");
        id
    };
    // What somebody imports again is answered that it was erased; what arrives late is taken and discarded.
    let again = server.post(EVENTS, &[("x-api-key", &installation.key)], event("late-one", 1).to_string());
    assert_eq!(serde_json::from_slice::<Value>(again.body()).unwrap()["erased"], true);
    for number in 2..5 {
        let (status, receipt) = server.post_event(&installation, &event("late-one", number));
        assert_eq!(status, StatusCode::CREATED, "{receipt}");
        // Whether the erasure was told before the end of the process or not, it is told once.
        server.kill();
        server = installation.start();
    }
    let office = Office::open(&server, &installation, &second);
    let started = Instant::now();
    while office.get(&format!("/{id}")).0 == StatusCode::SERVICE_UNAVAILABLE {
        assert!(started.elapsed() < PATIENCE);
    }
    let told = until_told(&office, &id, 3);
    assert!(steps(&told).contains(&"DSR_STRAGGLER"));
    assert_eq!(told["state"], "CLOSED_FULFILLED");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(office.shown(&id)["stragglers"], 3, "once");
    assert_eq!(found(&server, &installation, "late-one"), [0_u64; 0]);
    // New contact behind the cut-off is a new relationship.
    let mut new = event("late-one", 9);
    new["auditEvent"]["timestamp"] = json!(idtrail_event::time_text(
        u64::try_from(idtrail_port::Clock::wall_ms(&idtrail_port::os::OsClock::default())).unwrap()
    ));
    assert_eq!(server.post_event(&installation, &new).0, StatusCode::CREATED);
    assert_eq!(found(&server, &installation, "late-one").len(), 1);
}

/// Where the server is killed: as soon as it is seen that the request has got there. Between two of them lie, in order: the
/// freeze, the tasks, the keys, the leaves, the certificate, the record.
const POINTS: [&str; 5] = ["APPROVED", "EXECUTING", "SETTLING", "SHREDDING", "RECEIPTED"];

/// How far an erasure is.
fn rank(state: &str) -> usize {
    let order = [
        "APPROVAL_PENDING",
        "APPROVED",
        "FROZEN",
        "EXECUTING",
        "WAITING_EXTERNAL",
        "VERIFYING",
        "SETTLING",
        "SHREDDING",
        "RECEIPTED",
        "CLOSED_FULFILLED",
    ];
    order.iter().position(|one| *one == state).unwrap_or(0)
}

/// Rounds at each point: 5, or as many as `IDTRAIL_KILL_ROUNDS` says.
fn rounds() -> u64 {
    std::env::var("IDTRAIL_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

#[test]
fn a_server_that_is_killed_at_any_point_ends_every_effect_once() {
    let installation = Installation::with("[limits]\nreads_per_second = 0\n[rights]\ngrace_hours = 0\n");
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let mut server = installation.start();
    let persons: Vec<(String, &str)> = (0..rounds())
        .flat_map(|round| POINTS.map(|point| (format!("person-{round}-{point}"), point)))
        .collect();
    for (person, _) in &persons {
        for number in 0..2 {
            server.post_event(&installation, &event(person, number));
        }
    }
    let mut tokens: Option<[String; 2]> = None;
    for (person, point) in persons {
        let id = {
            // Tokens are given out slowly, and outlive the process.
            let office = match &tokens {
                Some(tokens) => Office::with_tokens(&server, &installation, tokens.clone()),
                None => Office::open(&server, &installation, &second),
            };
            tokens.get_or_insert_with(|| office.tokens().clone());
            office.until_up();
            let id = office.request("ERASURE", &person);
            office.verify(&id);
            office.approve(&id);
            while rank(office.shown(&id)["state"].as_str().unwrap()) < rank(point) {}
            id
        };
        server.kill();
        server = installation.start();
        let office = Office::with_tokens(&server, &installation, tokens.clone().unwrap());
        let started = Instant::now();
        office.until_up();
        let closed = office.until(&id, "CLOSED_FULFILLED");
        assert!(started.elapsed() < Duration::from_secs(5), "{point}: it goes on within five seconds");
        let names = steps(&closed);
        let count = |name: &str| names.iter().filter(|one| **one == name).count();
        assert_eq!(count("TASK_INTENT"), count("TASK_OUTCOME"), "{point}: {names:?}");
        for once in ["DSR_FROZEN", "DSR_RECEIPTED", "DSR_CLOSED"] {
            assert_eq!(count(once), 1, "{point}: {names:?}");
        }
        let of_request = found(&server, &installation, closed["recordId"].as_str().unwrap());
        assert_eq!(of_request.len(), names.len() + 2, "{point}: one deletion for each interaction");
        let report = idtrail_verify::verify_certificate(&office.certificate(&id), &installation.policy());
        assert_eq!(report.verdict, Verdict::Verified, "{point}");
    }
}

#[test]
fn the_command_line_leads_an_erasure_to_its_certificate() {
    let (installation, second) = installation();
    let server = installation.start();
    server.post_event(&installation, &event("cli-customer", 1));
    let url = format!("http://{}", server.address);
    let run = |who: &(String, String), arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_idtrail"));
        command.arg("rights").args(arguments).args(["--url", &url, "--client-id", &who.0, "--json"]);
        let keys = [("IDTRAIL_KEY", installation.key.as_str()), ("IDTRAIL_CLIENT_SECRET", &who.1)];
        command.envs(keys).output().unwrap()
    };
    let said = |who: &(String, String), arguments: &[&str]| -> Value {
        let output = run(who, arguments);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let first = &installation.person;
    let opened =
        said(first, &["open", "--kind", "ERASURE", "--customer", "cli-customer", "--manner", "letter"]);
    let id = opened["requestId"].as_str().unwrap();
    // A file that shows it is hashed here.
    let letter = installation.dir.path().join("letter.txt");
    std::fs::write(&letter, "please erase me").unwrap();
    let letter = letter.to_str().unwrap();
    let verify =
        ["say", id, "verify", "--level", "ONE_CHANNEL", "--method", "otp-mail", "--evidence-file", letter];
    said(first, &verify);
    let planned = said(first, &["show", id, "--watch"]);
    assert_eq!(planned["state"], "PLANNED", "{planned:#}");
    let plan = planned["plan"]["hash"].as_str().unwrap();
    said(first, &["say", id, "approve", "--plan-hash", plan]);
    let again = run(first, &["say", id, "approve", "--plan-hash", plan]);
    assert_eq!(again.status.code(), Some(2), "the same person twice: {again:?}");
    said(&second, &["say", id, "approve", "--plan-hash", plan]);
    let closed = said(first, &["show", id, "--watch"]);
    assert_eq!(closed["state"], "CLOSED_FULFILLED", "{closed:#}");
    let listed = said(first, &["list"]);
    assert_eq!(listed["requests"][0]["requestId"], id);
    let (file, policy) =
        (installation.dir.path().join("certificate.json"), installation.home().join("policy.txt"));
    let (file, policy) = (file.to_str().unwrap(), policy.to_str().unwrap());
    let kept = said(&second, &["certificate", id, "--out", file, "--policy", policy]);
    assert_eq!(kept["verdict"], "verified");
    let unknown = run(first, &["show", "dsr_aaaaaaaaaaaaaaaaaaaaaaaaaa"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let path = run(first, &["show", "../checkpoint"]);
    assert_eq!(path.status.code(), Some(2), "{path:?}");
}
