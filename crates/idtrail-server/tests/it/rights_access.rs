//! Requests for data, end to end: what a person gets, who looked through it, how long it can be fetched, and that all of it
//! stands in the log.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use bytes::Bytes;
use http::{Request, StatusCode};
use idtrail_verify::Verdict;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::office::{HASH, Office, PATIENCE, event, found, steps};
use crate::rig::{Installation, Local, files};

const LINK_HOURS: u64 = 2;

pub(crate) fn processing() -> Value {
    json!({
        "controller": "Example Ltd, 1 High Street", "officer": "dpo@example.com", "authority": "The authority of Example",
        "activities": [{
            "name": "Contact centre", "systems": ["idtrail"], "purposes": ["recognise callers"],
            "legalBasis": "contract", "categories": ["call times"], "subjects": ["customers"],
            "recipients": [{"name": "Cloud Inc", "thirdCountry": "US", "safeguard": "standard clauses"}],
            "retention": "36 months", "source": "the phone network", "security": "keyed hashes"
        }]
    })
}

fn installation(extra: &str) -> (Installation, (String, String)) {
    let installation = Installation::with(&format!(
        "[rights]\ngrace_hours = 0\nrecords = \"processing.json\"\nlink_hours = {LINK_HOURS}\nlink_fetches = 2\n{extra}"
    ));
    std::fs::write(installation.home().join("processing.json"), processing().to_string()).unwrap();
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    (installation, second)
}

/// An event that names an agent.
fn served(customer: &str, number: u64) -> Value {
    let mut event = event(customer, number);
    event["auditEvent"]["agentId"] = json!(format!("agent-{number}"));
    event["auditEvent"]["colleagues"] = json!([{ "agentName": "agent-other" }]);
    event
}

/// Opens a package.
fn unpacked(package: &[u8], passphrase: &str) -> BTreeMap<String, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(package)).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    let read = |name: String| {
        let mut bytes = Vec::new();
        archive.by_name_decrypt(&name, passphrase.as_bytes()).unwrap().read_to_end(&mut bytes).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

fn json_of(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&files[name]).unwrap()
}

fn look_through(office: &Office<'_>, id: &str) -> Value {
    office.until(id, "REVIEW");
    office.read(&format!("/api/v1/rights/requests/{id}/review"))
}

fn fetch(office: &Office<'_>, link: &Value) -> (StatusCode, Vec<u8>) {
    office.ask("GET", link["link"].as_str().unwrap(), None, None)
}

#[test]
fn a_person_gets_all_of_their_events_and_nothing_of_others() {
    let (installation, second) = installation("");
    let server = installation.start();
    for number in 0..3 {
        server.post_event(&installation, &served("one", number));
        server.post_event(&installation, &event("other", number));
    }
    let office = Office::open(&server, &installation, &second);
    let before = found(&server, &installation, "one");
    let id = office.request("ACCESS", "one");
    office.verify(&id);
    let draft = look_through(&office, &id);
    assert_eq!(draft["events"].as_array().unwrap().len(), 3, "{draft:#}");
    let pointers: Vec<&str> =
        draft["proposed"].as_array().unwrap().iter().map(|one| one["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers.iter().filter(|pointer| **pointer == "/agentId").count(), 3, "{pointers:?}");
    assert_eq!(pointers.iter().filter(|pointer| **pointer == "/colleagues/0/agentName").count(), 3);
    assert_eq!(office.get(&format!("/{id}/link")).0, StatusCode::CONFLICT, "nothing leaves before a review");
    let changed = json!({ "proposedHash": HASH });
    assert_eq!(office.say(&id, 0, "review", changed).0, StatusCode::CONFLICT, "another list was looked at");
    let nowhere = json!([{ "index": 2, "pointer": "/nothing", "reason": "staff" }]);
    let nowhere = json!({ "proposedHash": draft["proposedHash"], "redactions": nowhere });
    assert_eq!(office.say(&id, 0, "review", nowhere).0, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, said) = office.say(&id, 0, "review", json!({ "proposedHash": draft["proposedHash"] }));
    assert_eq!(status, StatusCode::OK, "{said}");
    let delivered = office.until(&id, "DELIVERED");
    let link = office.read(&format!("/api/v1/rights/requests/{id}/link"));

    let wrong = link["link"].as_str().unwrap().replace(|c: char| c == 'a', "b");
    assert_eq!(office.ask("GET", &wrong, None, None).0, StatusCode::NOT_FOUND);
    let (status, package) = fetch(&office, &link);
    assert_eq!(status, StatusCode::OK);
    let raw = String::from_utf8_lossy(&package);
    assert!(!raw.contains("one-call-0") && !raw.contains("IDENTITY_RESOLUTION"), "it is encrypted");
    let files = unpacked(&package, link["passphrase"].as_str().unwrap());
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "events.csv",
            "events.json",
            "evidence.json",
            "index.html",
            "information.json",
            "manifest.json",
            "proofs.json",
            "redactions.json"
        ]
    );
    let mut archive = zip::ZipArchive::new(Cursor::new(package.as_slice())).unwrap();
    assert!(archive.by_name_decrypt("index.html", b"wrong").is_err(), "only the passphrase opens it");

    // Everything in it is named by the manifest, and the manifest by the log.
    let manifest = json_of(&files, "manifest.json");
    for file in manifest["files"].as_array().unwrap() {
        let bytes = &files[file["name"].as_str().unwrap()];
        assert_eq!(file["sha256"], data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)), "{file}");
    }
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&files["manifest.json"]));
    assert_eq!(delivered["delivery"]["package"], hash);
    assert_eq!((&manifest["events"], &manifest["redacted"]), (&json!(3), &json!(6)));
    for (name, bytes) in &files {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("agent-") && !text.contains("other-call"), "{name} names somebody else");
    }
    let page = String::from_utf8(files["index.html"].clone()).unwrap();
    for part in
        ["Cloud Inc (US): standard clauses", "one-call-0", "one-call-2", "6 places about other people"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(json_of(&files, "information.json").as_array().unwrap().len(), 10);
    let events = json_of(&files, "events.json");
    let indices: Vec<u64> =
        events.as_array().unwrap().iter().map(|one| one["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, before);
    // What something was taken out of is proved to stand in the log, but no key opens it.
    let evidence = json_of(&files, "evidence.json");
    assert_eq!(evidence["events"].as_array().unwrap().len(), 0);
    let policy = installation.policy();
    assert_eq!(idtrail_verify::verify(&files["evidence.json"], &policy).verdict, Verdict::Verified);
    for proof in json_of(&files, "proofs.json").as_array().unwrap() {
        let leaf = idtrail_tlog::Hash::from_hex(proof["leafHash"].as_str().unwrap()).unwrap();
        let proof = idtrail_tlog::TlogProof::parse(proof["proof"].as_str().unwrap()).unwrap();
        proof.verify(&leaf, &policy).unwrap();
    }

    // The second fetch is the last; then the link has ended, and so has the package.
    assert_eq!(fetch(&office, &link).1, package);
    let closed = office.until(&id, "CLOSED_FULFILLED");
    let (status, gone) = fetch(&office, &link);
    let gone: Value = serde_json::from_slice(&gone).unwrap();
    assert_eq!((status, &gone["code"]), (StatusCode::GONE, &json!("gone")));
    let names = steps(&closed);
    let count = |name: &str| names.iter().filter(|one| **one == name).count();
    assert_eq!((count("DSR_PACKAGE_FETCHED"), count("DSR_LINK_EXPIRED"), count("DSR_REVIEWED")), (2, 1, 1));
    let left = files_of(&installation);
    assert_eq!(left, 0, "no record is left of a request that has ended");
    let accesses = office.read("/api/v1/access-log");
    let fetched = accesses["entries"].as_array().unwrap().iter();
    let fetched = fetched.filter(|entry| entry["auditEvent"]["operation"] == "fetch_rights_package").count();
    assert_eq!(fetched, 2, "each fetch is an access");
    let log = installation.log.lock().unwrap().clone();
    assert!(log.contains("a package was asked for whose link has ended"));
}

fn files_of(installation: &Installation) -> usize {
    files(&installation.home().join("data/rights")).len()
}

#[test]
fn what_is_complete_is_given_with_keys_and_what_was_provided_can_be_taken_along() {
    let (installation, second) = installation("");
    let server = installation.start();
    for number in 0..2 {
        let mut event = event("one", number);
        event["auditEvent"]["agentId"] = json!("agent-7");
        event["auditEvent"]["queueId"] = json!("q-9");
        server.post_event(&installation, &event);
    }
    let office = Office::open(&server, &installation, &second);
    let package = |kind: &str| {
        let id = office.request(kind, "one");
        office.verify(&id);
        let draft = look_through(&office, &id);
        let review = json!({ "proposedHash": draft["proposedHash"] });
        assert_eq!(office.say(&id, 1, "review", review).0, StatusCode::OK);
        office.until(&id, "DELIVERED");
        let link = office.read(&format!("/api/v1/rights/requests/{id}/link"));
        let (status, package) = fetch(&office, &link);
        assert_eq!(status, StatusCode::OK);
        (id, unpacked(&package, link["passphrase"].as_str().unwrap()))
    };
    let (id, files) = package("ACCESS");
    let report = idtrail_verify::verify(&files["evidence.json"], &installation.policy());
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    let evidence = json_of(&files, "evidence.json");
    assert_eq!(
        evidence["events"].as_array().unwrap().len(),
        2,
        "staff is sealed apart, so the rest can be opened"
    );
    assert!(!String::from_utf8_lossy(&files["evidence.json"]).contains("agent-7"));
    let (status, revoked) = office.say(&id, 0, "revoke-link", json!({}));
    assert_eq!(status, StatusCode::OK, "{revoked}");
    office.until(&id, "CLOSED_FULFILLED");
    assert_eq!(office.get(&format!("/{id}/link")).0, StatusCode::CONFLICT);

    let (_, files) = package("PORTABILITY");
    assert!(!files.contains_key("index.html") && !files.contains_key("evidence.json"));
    let events = json_of(&files, "events.json");
    let event = &events[0]["event"];
    assert_eq!(event["interactionId"], "one-call-0");
    for ours in ["agentId", "queueId", "resolutionSource", "resolvedCustomerId"] {
        assert!(event.get(ours).is_none(), "{ours}: {event:#}");
    }
    assert!(files["events.csv"].starts_with(b"\"index\""));
}

#[test]
fn somebody_nobody_knows_gets_an_empty_answer_and_shared_identifiers_wait_for_a_person() {
    let (installation, second) = installation("");
    let resolver = installation
        .credential(&["--name", "desk", "--role", "resolve", "--role", "dpo", "--role", "ingest"])
        .1;
    let server = installation.start();
    let office = Office::open(&server, &installation, &second);
    let id = office.request("ACCESS", "nobody-at-all");
    office.verify(&id);
    let draft = look_through(&office, &id);
    assert_eq!(draft["events"], json!([]));
    office.say(&id, 0, "review", json!({ "proposedHash": draft["proposedHash"] }));
    office.until(&id, "DELIVERED");
    let link = office.read(&format!("/api/v1/rights/requests/{id}/link"));
    let files = unpacked(&fetch(&office, &link).1, link["passphrase"].as_str().unwrap());
    assert!(String::from_utf8_lossy(&files["index.html"]).contains("No data about you were found"));

    let token = format!("Bearer {}", server.token(&installation.person));
    let call = |path: &str, body: Value| -> Value {
        let headers = [("x-api-key", resolver.as_str()), ("authorization", token.as_str())];
        let answer = server.post(path, &headers, body.to_string());
        assert!(answer.status().is_success(), "{path}: {:?}", answer.body());
        serde_json::from_slice(answer.body()).unwrap()
    };
    let phone = json!({ "type": "phone", "value": "+14155552671" });
    let mail = json!({ "type": "email", "value": "jane.doe@example.com" });
    let with = |one: &Value, assurance: u64| {
        let mut one = one.clone();
        one["assurance"] = json!(assurance);
        one
    };
    for number in 0..2 {
        let identifiers = json!([with(&phone, 2), with(&mail, 2)]);
        let body = json!({ "interactionId": format!("call-{number}"), "channelType": "VOICE", "identifiers": identifiers });
        call("/api/v1/identity/resolve", body);
    }
    let tokens = call("/api/v1/identity:tokenize", json!({ "identifiers": [phone] }));
    let token_of_phone = tokens["tokens"][0]["token"].as_str().unwrap();
    let kind = idtrail_event::IdentifierType::PHONE.number();
    let shared = json!({
        "kind": "MARK_SHARED", "identifier": { "type": kind, "token": token_of_phone }, "reason": "a household"
    });
    call("/api/v1/assertions", shared);
    let id = office.open_with(&json!({ "kind": "ACCESS", "identifier": mail }));
    office.verify(&id);
    let draft = look_through(&office, &id);
    assert_eq!(draft["sharedExcluded"], json!(1), "{draft:#}");
    let review = json!({ "proposedHash": draft["proposedHash"] });
    let (status, refused) = office.say(&id, 0, "review", review.clone());
    assert_eq!(
        (status, &refused["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("/sharedStayOut"))
    );
    let mut decided = review;
    decided["sharedStayOut"] = json!(true);
    assert_eq!(office.say(&id, 0, "review", decided).0, StatusCode::OK);
    office.until(&id, "DELIVERED");
    let link = office.read(&format!("/api/v1/rights/requests/{id}/link"));
    let files = unpacked(&fetch(&office, &link).1, link["passphrase"].as_str().unwrap());
    assert_eq!(json_of(&files, "manifest.json")["sharedIdentifiersNotFollowed"], json!(1));
}

#[test]
fn a_request_that_is_being_looked_through_can_be_planned_anew() {
    let (installation, second) = installation("");
    let server = installation.start();
    server.post_event(&installation, &event("one", 1));
    let office = Office::open(&server, &installation, &second);
    let id = office.request("ACCESS", "one");
    office.verify(&id);
    let draft = look_through(&office, &id);
    assert_eq!(draft["events"].as_array().unwrap().len(), 1);
    server.post_event(&installation, &event("one", 2));
    let plan = office.shown(&id)["plan"]["hash"].clone();
    let drop_plan = json!({ "planHash": plan, "reason": "more-came" });
    assert_eq!(office.say(&id, 0, "drop-plan", drop_plan).0, StatusCode::OK);
    let started = std::time::Instant::now();
    while office.shown(&id)["state"] != "REVIEW" || office.shown(&id)["plan"]["hash"] == plan {
        assert!(started.elapsed() < PATIENCE, "{:#}", office.shown(&id));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(look_through(&office, &id)["events"].as_array().unwrap().len(), 2);
}

#[test]
fn an_erasure_waits_until_the_copy_of_the_same_person_is_made() {
    let (installation, second) = installation("");
    let server = installation.start();
    server.post_event(&installation, &event("one", 1));
    let office = Office::open(&server, &installation, &second);
    let access = office.request("ACCESS", "one");
    let erasure = office.request("ERASURE", "one");
    office.verify(&erasure);
    office.approve(&erasure);
    office.until(&erasure, "APPROVED");
    office.verify(&access);
    let draft = look_through(&office, &access);
    assert_eq!(draft["events"].as_array().unwrap().len(), 1);
    assert_eq!(office.shown(&erasure)["state"], "APPROVED", "it would find nothing afterwards");
    office.say(&access, 0, "review", json!({ "proposedHash": draft["proposedHash"] }));
    office.until(&access, "DELIVERED");
    // The link would end with the erasure, so the copy is fetched first.
    let link = office.read(&format!("/api/v1/rights/requests/{access}/link"));
    assert_eq!(office.shown(&erasure)["state"], "APPROVED", "nobody has the copy yet");
    let files = unpacked(&fetch(&office, &link).1, link["passphrase"].as_str().unwrap());
    assert_eq!(json_of(&files, "manifest.json")["events"], json!(1));
    office.until(&erasure, "CLOSED_FULFILLED");
    assert_eq!(found(&server, &installation, "one"), [0_u64; 0]);
    assert_eq!(fetch(&office, &link).0, StatusCode::GONE);
}

/// Runs a test against a server in this process, whose clock the test moves.
fn with_clock(extra: &str, test: impl FnOnce(&Office<'_>, &Local, &dyn Fn(Value))) {
    let (installation, second) = installation(extra);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let local = runtime.block_on(Local::start(&installation));
    let send = |request: Request<Bytes>| runtime.block_on(local.send(request));
    let token = |person: &(String, String)| {
        let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", person.0, person.1);
        let request = Request::post(format!("{}/oauth/token", local.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .unwrap();
        let answer: Value = serde_json::from_slice(send(request).body()).unwrap();
        format!("Bearer {}", answer["access_token"].as_str().unwrap())
    };
    let tokens = [token(&installation.person), token(&second)];
    let office = Office::at(Box::new(send), local.base.clone(), &installation.key, tokens);
    let post_event = |event: Value| {
        let (status, answer) = office.ask("POST", crate::rig::EVENTS, Some(0), Some(&event));
        assert_eq!(status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answer));
    };
    test(&office, &local, &post_event);
    drop(office);
    runtime.block_on(local.stop());
}

#[test]
fn a_link_ends_with_its_time() {
    with_clock("", |office, local, post_event| {
        post_event(event("one", 1));
        let id = office.request("ACCESS", "one");
        office.verify(&id);
        let draft = look_through(office, &id);
        office.say(&id, 0, "review", json!({ "proposedHash": draft["proposedHash"] }));
        office.until(&id, "DELIVERED");
        let link = office.read(&format!("/api/v1/rights/requests/{id}/link"));
        assert_eq!(fetch(office, &link).0, StatusCode::OK);
        // The tokens of this test last for a quarter of an hour; nobody needs one to fetch.
        local.clock.advance_ms(LINK_HOURS * 3_600_000 + 1);
        let (status, gone) = fetch(office, &link);
        assert_eq!(status, StatusCode::GONE, "{}", String::from_utf8_lossy(&gone));
    });
}

#[test]
fn a_schedule_opens_a_request_for_each_period_until_it_ends() {
    with_clock("[issuer]\ntoken_ttl_s = 3600\n", |office, local, post_event| {
        const SCHEDULES: &str = "/api/v1/rights/schedules";
        post_event(event("one", 1));
        let wrong = [
            json!({ "kind": "ERASURE", "customerIdHash": "one", "everyDays": 1, "evidence": HASH }),
            json!({ "kind": "ACCESS", "customerIdHash": "one", "everyDays": 0, "evidence": HASH }),
            json!({ "kind": "ACCESS", "customerIdHash": "one", "everyDays": 1 }),
        ];
        for body in wrong {
            assert_eq!(
                office.ask("POST", SCHEDULES, Some(0), Some(&body)).0,
                StatusCode::UNPROCESSABLE_ENTITY
            );
        }
        let soon = idtrail_event::time_text(local_now(local) + 600_000);
        let body = json!({
            "kind": "ACCESS", "customerIdHash": "one", "everyDays": 30, "evidence": HASH, "firstAt": soon
        });
        let (status, made) = office.ask("POST", SCHEDULES, Some(0), Some(&body));
        let made: Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(status, StatusCode::CREATED, "{made}");
        assert!(made.get("customerIdHash").is_none(), "whom it is about stands in a sealed record only");
        let requests = || office.read("/api/v1/rights/requests")["requests"].as_array().unwrap().len();
        assert_eq!(requests(), 0);
        local.clock.advance_ms(600_001);
        let started = std::time::Instant::now();
        // The request is there a moment before the schedule says so.
        while office.read(SCHEDULES)["schedules"][0]["opened"] != json!(1) {
            assert!(started.elapsed() < PATIENCE);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(requests(), 1);
        let id =
            office.read("/api/v1/rights/requests")["requests"][0]["requestId"].as_str().unwrap().to_owned();
        let steps_of = office.shown(&id);
        assert_eq!((&steps_of["kind"], &steps_of["state"]), (&json!("ACCESS"), &json!("RECEIVED")));
        let path = format!("{SCHEDULES}/{}", made["scheduleId"].as_str().unwrap());
        assert_eq!(office.ask("DELETE", &path, Some(1), None).0, StatusCode::NO_CONTENT);
        assert_eq!(office.ask("DELETE", &path, Some(1), None).0, StatusCode::NOT_FOUND);
        assert_eq!(office.read(SCHEDULES)["schedules"], json!([]));

        // Another one ends with the person; each says in the log that it was set up and that it ended.
        let soon = idtrail_event::time_text(local_now(local) + 86_400_000);
        let body = json!({
            "kind": "PORTABILITY", "customerIdHash": "one", "everyDays": 30, "evidence": HASH, "firstAt": soon
        });
        let (status, other) = office.ask("POST", SCHEDULES, Some(1), Some(&body));
        assert_eq!(status, StatusCode::CREATED);
        let other: Value = serde_json::from_slice(&other).unwrap();
        let read = |id: &Value| -> Vec<(String, Value)> {
            let gcid = id.as_str().unwrap().replacen("sch_", "gc_", 1);
            let body = json!({ "customerIdHash": gcid, "requestType": "ACCESS" });
            let (status, package) = office.ask("POST", crate::rig::ACCESS, Some(0), Some(&body));
            assert_eq!(status, StatusCode::OK);
            let package: Value = serde_json::from_slice(&package).unwrap();
            let events = package["events"].as_array().unwrap().iter().map(|event| &event["auditEvent"]);
            events.map(|one| (one["eventType"].as_str().unwrap().to_owned(), one["data"].clone())).collect()
        };
        let said = read(&made["scheduleId"]);
        assert_eq!((said.len(), said[0].0.as_str()), (2, "DSR_SCHEDULE_SET"), "{said:?}");
        assert_eq!((&said[0].1["everyDays"], &said[0].1["kind"]), (&json!(30), &json!("ACCESS")), "{said:?}");
        assert_eq!(said[1], ("DSR_SCHEDULE_ENDED".to_owned(), json!({ "reason": "taken-back" })));
        assert_eq!(read(&other["scheduleId"]).len(), 1);
        office.say(&id, 0, "deny", json!({ "reason": "not-verifiable", "evidence": HASH }));
        let erasure = office.request("ERASURE", "one");
        office.verify(&erasure);
        office.approve(&erasure);
        office.until(&erasure, "CLOSED_FULFILLED");
        assert_eq!(office.read(SCHEDULES)["schedules"], json!([]));
        assert_eq!(read(&other["scheduleId"])[1].1, json!({ "reason": "erased" }));
    });
}

#[test]
fn an_erasure_ends_the_link_to_a_package_of_the_same_person() {
    let (installation, second) = installation("");
    let server = installation.start();
    for customer in ["one", "other"] {
        server.post_event(&installation, &event(customer, 1));
    }
    let office = Office::open(&server, &installation, &second);
    let link_of = |customer: &str| {
        let id = office.request("ACCESS", customer);
        office.verify(&id);
        let draft = look_through(&office, &id);
        office.say(&id, 0, "review", json!({ "proposedHash": draft["proposedHash"] }));
        office.until(&id, "DELIVERED");
        let link = office.read(&format!("/api/v1/rights/requests/{id}/link"));
        (id, link)
    };
    let (one, other) = (link_of("one"), link_of("other"));
    assert_eq!(fetch(&office, &one.1).0, StatusCode::OK);
    let files = files_of(&installation);
    let erasure = office.request("ERASURE", "one");
    office.verify(&erasure);
    office.approve(&erasure);
    office.until(&erasure, "CLOSED_FULFILLED");
    assert_eq!(fetch(&office, &one.1).0, StatusCode::GONE);
    let closed = office.until(&one.0, "CLOSED_FULFILLED");
    assert!(steps(&closed).contains(&"DSR_LINK_EXPIRED"), "{closed:#}");
    // The package, its record, and the record of whom it was about; the erasure keeps one with its certificate.
    assert_eq!(files_of(&installation), files - 3 + 1);
    assert_eq!(fetch(&office, &other.1).0, StatusCode::OK, "nobody else's link ends");
}

fn local_now(local: &Local) -> u64 {
    use idtrail_port::Clock as _;
    u64::try_from(local.clock.wall_ms()).unwrap()
}

#[test]
fn reports_say_what_is_due_what_was_done_and_what_is_processed() {
    let (installation, second) = installation("");
    let server = installation.start();
    server.post_event(&installation, &event("one", 1));
    let office = Office::open(&server, &installation, &second);
    let done = office.request("ERASURE", "one");
    office.verify(&done);
    office.approve(&done);
    office.until(&done, "CLOSED_FULFILLED");
    let denied = office.open_with(&json!({ "kind": "ACCESS", "regime": "ccpa", "customerIdHash": "two" }));
    office.say(&denied, 0, "deny", json!({ "reason": "not-verifiable", "evidence": HASH }));
    let open =
        office.open_with(&json!({ "kind": "PORTABILITY", "regime": "ccpa", "customerIdHash": "three" }));

    let due = office.read("/api/v1/rights/reports/deadlines");
    assert_eq!(due["deadlines"].as_array().unwrap().len(), 1, "{due:#}");
    assert_eq!(due["deadlines"][0]["request"], json!(open));
    assert_eq!(due["deadlines"][0]["daysLeft"], json!(45));
    let figures = office.read("/api/v1/rights/reports/figures?from=2020-01-01&to=2099-12-31");
    let of = |kind: &str| {
        let all = figures["figures"].as_array().unwrap();
        all.iter().find(|row| row["kind"] == kind).cloned().unwrap_or_else(|| panic!("{figures:#}"))
    };
    assert_eq!((&of("ERASURE")["complied"], &of("ERASURE")["regime"]), (&json!(1), &json!("gdpr")));
    assert_eq!(of("ACCESS")["deniedByReason"]["not-verifiable"], json!(1));
    assert_eq!(of("PORTABILITY")["open"], json!(1));
    let path = "/api/v1/rights/reports/figures?from=2020-01-01&to=2099-12-31&format=csv";
    let (status, csv) = office.ask("GET", path, Some(0), None);
    assert_eq!((status, csv.iter().filter(|byte| **byte == b'\n').count()), (StatusCode::OK, 4));
    assert_eq!(office.read("/api/v1/rights/reports/processing"), {
        let mut records = processing();
        records["activities"][0]["automatedDecisions"] = Value::Null;
        records
    });
    let (_, csv) = office.ask("GET", "/api/v1/rights/reports/processing?format=csv", Some(0), None);
    assert!(String::from_utf8(csv).unwrap().contains("\"Contact centre\""));
    for bad in ["figures", "figures?from=2020-01-01&to=x", "processing?format=pdf"] {
        let (status, _) = office.ask("GET", &format!("/api/v1/rights/reports/{bad}"), Some(0), None);
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
    }

    // Page by page, the newest first, without steps.
    let mut seen = Vec::new();
    let mut path = "/api/v1/rights/requests?limit=2".to_owned();
    loop {
        let page = office.read(&path);
        for request in page["requests"].as_array().unwrap() {
            assert_eq!(request["steps"], json!([]));
            seen.push(request["requestId"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/rights/requests?limit=2&after={next}");
    }
    assert_eq!(seen.len(), 3);
    assert_eq!(seen.last(), Some(&done));
    assert_eq!(office.get("?limit=0").0, StatusCode::BAD_REQUEST);
}
