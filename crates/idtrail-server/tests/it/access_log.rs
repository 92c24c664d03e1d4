//! Whoever is shown something stands in the access log before it is shown; otherwise nothing is shown.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use idtrail_index::access::{Place, commitment};
use idtrail_port::os::{OsDisk, OsEntropy};
use idtrail_port::{Attributes, Disk, DiskFile, DiskLock, Open, Space};
use idtrail_server::settings::Settings;
use idtrail_verify::{Package, Verdict, access_origin};
use serde_json::{Value, json};

use crate::office::Office;
use crate::rig::{ACCESS, EVENTS, Installation, Local, Running, files, idtrail, query, sample};

const LOG: &str = "/api/v1/access-log";
const PHONE: &str = "+14155552671";
const CUSTOMER: &str = "cust_hash_9f86d08";
const SHRED: &str = "/api/v1/admin/shred";

fn event(customer: &str, interaction: &str) -> Value {
    let mut event = sample();
    event["auditEvent"]["resolvedCustomerId"] = json!(customer);
    event["auditEvent"]["interactionId"] = json!(interaction);
    event
}

fn get(server: &Running, key: &str, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut request = Request::get(server.url(path)).header("x-api-key", key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = server.send(request.body(Bytes::new()).unwrap());
    (response.status(), serde_json::from_slice(response.body()).unwrap())
}

/// Returns the accesses from an index on that were not looks at the access log itself.
fn accesses(server: &Running, installation: &Installation, filter: &str) -> Vec<Value> {
    let (status, page) = get(server, &installation.key, &format!("{LOG}?limit=1000{filter}"), &[]);
    assert_eq!(status, StatusCode::OK, "{page}");
    let entries = page["entries"].as_array().unwrap().iter();
    entries.filter(|entry| entry["auditEvent"]["operation"] != "list_accesses").cloned().collect()
}

fn size(server: &Running) -> u64 {
    let checkpoint = server.get("/access/checkpoint");
    std::str::from_utf8(checkpoint.body()).unwrap().lines().nth(1).unwrap().parse().unwrap()
}

fn command(installation: &Installation, arguments: &[&str]) -> (Option<i32>, String) {
    let config = installation.config();
    let output = idtrail(&[arguments, &["--config", config.to_str().unwrap()]].concat());
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Checks the commitment of an access with the places that were shown.
fn commits(entry: &Value, origin: &str, places: &[Place]) -> bool {
    let said = &entry["auditEvent"];
    let hex = |name: &str| data_encoding::HEXLOWER.decode(said[name].as_str().unwrap().as_bytes()).unwrap();
    let salt: [u8; 16] = hex("salt").try_into().unwrap();
    hex("commitment") == commitment(&salt, origin, places) && said["count"] == places.len()
}

#[test]
fn every_route_that_discloses_leaves_exactly_its_leaf_and_the_customer_learns_of_it() {
    let installation = Installation::new();
    let server = installation.start();
    for (number, interaction) in ["i-1", "i-1", "i-2"].into_iter().enumerate() {
        let mut event = event(CUSTOMER, interaction);
        event["auditEvent"]["number"] = json!(number);
        assert_eq!(server.post_event(&installation, &event).0, StatusCode::CREATED);
    }
    assert_eq!(server.post_event(&installation, &event("cust_hash_other", "i-2")).0, StatusCode::CREATED);
    let mut refused = event(CUSTOMER, "i-3");
    refused["auditEvent"]["eventType"] = json!("NO_SUCH_TYPE");
    let quarantined =
        server.post_event(&installation, &refused).1["quarantineId"].as_str().unwrap().to_owned();
    assert_eq!(size(&server), 2, "nothing was shown yet");

    let shown = |path: &str, headers: &[(&str, &str)]| {
        let before = size(&server);
        let (status, value) = get(&server, &installation.key, path, headers);
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        (value, size(&server) - before)
    };
    let token = format!("Bearer {}", server.token(&installation.person));
    let person = [("authorization", token.as_str()), ("x-purpose", "INVESTIGATION")];
    assert_eq!(shown("/api/v1/events/2", &person).1, 1);
    assert_eq!(shown("/api/v1/events", &[]).1, 2, "one for each of two customers");
    let after = shown("/api/v1/events?limit=4", &[]).0["next"].as_str().unwrap().to_owned();
    assert_eq!(shown(&format!("/api/v1/events?after={after}"), &[]).1, 0, "an empty page shows nothing");
    assert_eq!(shown("/api/v1/interactions/i-2/events", &[]).1, 2);
    assert_eq!(shown(&format!("/api/v1/quarantine/{quarantined}"), &[]).1, 1);
    assert_eq!(shown("/api/v1/receipts/2", &[]).1, 0, "a receipt says nothing of anybody");
    let before = size(&server);
    assert_eq!(server.access(&installation, &query(CUSTOMER)).status(), StatusCode::OK);
    assert_eq!(server.access(&installation, &query("cust_nobody")).status(), StatusCode::OK);
    assert_eq!(size(&server) - before, 2, "that nobody is known is an answer as well");

    let origin = &installation.policy().logs()[0].key.name().to_owned();
    let all = accesses(&server, &installation, "");
    let said = |entry: &Value| {
        let said = &entry["auditEvent"];
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        (text("operation"), text("purpose"), said["count"].as_u64().unwrap())
    };
    let expected = [
        ("show_event", "INVESTIGATION", 1),
        ("list_events", "AUDIT", 3),
        ("list_events", "AUDIT", 1),
        ("list_events", "AUDIT", 3),
        ("list_events", "AUDIT", 1),
        ("list_interaction_events", "AUDIT", 1),
        ("list_interaction_events", "AUDIT", 1),
        ("show_quarantined", "CORRECTION", 1),
        ("audit_trail", "ACCESS_REQUEST", 3),
        ("audit_trail", "ACCESS_REQUEST", 0),
    ];
    let mut found: Vec<_> = all.iter().map(said).collect();
    let mut expected =
        expected.map(|(operation, purpose, count)| (operation.to_owned(), purpose.to_owned(), count));
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(
        (&all[0]["person"], &all[0]["system"]),
        (&json!(installation.person.0), &json!("contact-centre"))
    );
    assert!(commits(&all[0], origin, &[Place::Leaf(2)]));
    assert!(!commits(&all[0], origin, &[Place::Leaf(3)]));
    let leaves = [2, 3, 4].map(Place::Leaf);
    assert!(all.iter().any(|entry| said(entry).0 == "audit_trail" && commits(entry, origin, &leaves)));
    assert!(all.iter().any(|entry| commits(entry, origin, &[Place::Quarantined(quarantined.clone())])));

    let of_customer = accesses(&server, &installation, &format!("&customer={CUSTOMER}"));
    let subject = of_customer[0]["globalCustomerId"].as_str().unwrap();
    assert_eq!(of_customer.len(), 6);
    assert_eq!(accesses(&server, &installation, &format!("&customer={subject}")), of_customer);
    assert_eq!(accesses(&server, &installation, &format!("&person={}", installation.person.0)).len(), 3);
    assert_eq!(accesses(&server, &installation, "&system=somebody").len(), 0);
    assert_eq!(accesses(&server, &installation, "&to=2020-01-01T00:00:00Z").len(), 0);
    assert_eq!(accesses(&server, &installation, "&from=2020-01-01T00:00:00Z").len(), 10);
    let pages = |customer: &str| {
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let path = format!("{LOG}?limit=4{customer}{after}");
            let (_, page) = get(&server, &installation.key, &path, &[]);
            let entries = page["entries"].as_array().unwrap();
            count +=
                entries.iter().filter(|entry| entry["auditEvent"]["operation"] != "list_accesses").count();
            if page["more"] == false {
                return count;
            }
            after = format!("&after={}", page["next"].as_str().unwrap());
        }
    };
    assert_eq!((pages(""), pages(&format!("&customer={CUSTOMER}"))), (10, 6));
    for bad in ["limit=0", "after=x", "from=x", "nonsense=1"] {
        assert_eq!(get(&server, &installation.key, &format!("{LOG}?{bad}"), &[]).0, 400, "{bad}");
    }
    for bad in ["Jane Doe", "audit", ""] {
        assert_eq!(get(&server, &installation.key, LOG, &[("x-purpose", bad)]).0, 400, "{bad}");
    }

    // The customer's own view: proved, and without the person who acted.
    let answer = server.access(&installation, &query(CUSTOMER));
    let package: Package = serde_json::from_slice(answer.body()).unwrap();
    let part = package.access_log.as_ref().unwrap();
    assert!(part.events.len() >= 6 && part.as_of.origin == access_origin(origin));
    let text = std::str::from_utf8(answer.body()).unwrap();
    assert!(!text.contains(&installation.person.0), "who acted is not the customer's to know");
    let verdict = |body: &[u8]| idtrail_verify::verify(body, &installation.policy()).verdict;
    assert_eq!(verdict(answer.body()), Verdict::Verified);
    let changed = text.replacen("INVESTIGATION", "ACCESS_REQUEST", 1);
    assert_eq!(verdict(changed.as_bytes()), Verdict::Tampered);
    let mut shorter: Value = serde_json::from_str(text).unwrap();
    shorter["accessLog"]["events"].as_array_mut().unwrap().remove(1);
    assert_eq!(verdict(shorter.to_string().as_bytes()), Verdict::Tampered);
    let receipt = get(&server, &installation.key, &format!("{LOG}/3/receipt"), &[]).1.to_string();
    assert_eq!(verdict(receipt.as_bytes()), Verdict::Verified);
    assert_eq!(get(&server, &installation.key, &format!("{LOG}/9999/receipt"), &[]).0, 404);
}

/// Makes two customers of whom a person says that they are two, and who are seen together all the same. Returns one's id.
fn two_who_stay_apart(server: &Running, installation: &Installation, key: &str) -> String {
    let token = format!("Bearer {}", server.token(&installation.person));
    let post = |path: &str, body: Value| -> Value {
        let answer = server.post(path, &[("x-api-key", key), ("authorization", &token)], body.to_string());
        assert!(answer.status().is_success(), "{path}: {:?}", answer.body());
        serde_json::from_slice(answer.body()).unwrap()
    };
    let phone = json!({ "type": "phone", "value": PHONE, "assurance": 1 });
    let mail = json!({ "type": "email", "value": "jane.doe@example.com", "assurance": 2 });
    let resolve = |interaction: &str, identifiers: Value| {
        let body =
            json!({ "interactionId": interaction, "channelType": "VOICE", "identifiers": identifiers });
        post("/api/v1/identity/resolve", body)["gcid"].as_str().unwrap().to_owned()
    };
    let (one, other) = (resolve("call-1", json!([phone])), resolve("mail-1", json!([mail])));
    post("/api/v1/customers:split", json!({ "left": [one], "right": [other], "reason": "two persons" }));
    resolve("chat-1", json!([phone, mail]));
    one
}

/// Calls every operation that only reads, with the document's own examples, and compares what comes back with what the
/// document says of it: a route that shows something of a customer must say so, and must leave a leaf.
#[test]
fn no_route_discloses_without_the_document_saying_so() {
    let records = "[limits]\nreads_per_second = 0\n[rights]\nrecords = \"processing.json\"\n";
    let installation = Installation::with(records);
    let processing = crate::rights_access::processing().to_string();
    std::fs::write(installation.home().join("processing.json"), processing).unwrap();
    let every = [
        "--role", "resolve", "--role", "ingest", "--role", "dpo", "--role", "auditor", "--role", "operator",
        "--role", "admin",
    ];
    let key = installation.credential(&[&["--name", "everything"], &every[..]].concat()).1;
    let server = installation.start();
    assert_eq!(server.post_event(&installation, &event(CUSTOMER, "i-1")).0, StatusCode::CREATED);
    let mut refused = event(CUSTOMER, "i-3");
    refused["auditEvent"]["eventType"] = json!("NO_SUCH_TYPE");
    let quarantined =
        server.post_event(&installation, &refused).1["quarantineId"].as_str().unwrap().to_owned();
    let (_, first) = get(&server, &key, "/api/v1/events/2", &[]);
    let gcid = two_who_stay_apart(&server, &installation, &key);
    let office = Office::open(&server, &installation, &installation.person);
    let request = office.request("ACCESS", CUSTOMER);
    office.verify(&request);
    office.until(&request, "REVIEW");
    let canaries = [CUSTOMER, "gc_", first["eventId"].as_str().unwrap(), &quarantined];
    let token = format!("Bearer {}", server.token(&installation.person));
    let package = server.post(
        &format!("{ACCESS}?format=package"),
        &[("x-api-key", &key), ("authorization", &token)],
        query(CUSTOMER).to_string(),
    );
    let location = package.headers()["content-location"].to_str().unwrap();
    let kept = location.rsplit('/').next().unwrap().to_owned();
    let document: Value = serde_json::from_slice(server.get("/openapi.json").body()).unwrap();
    let mut disclosing = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let says = document["x-idtrail-discloses"].as_array().unwrap().iter().any(|one| one == id);
            let (is_dsar, is_lookup) = (path == ACCESS, id == "lookup_identity");
            let is_draft = id == "show_rights_draft";
            if method != "get" && !is_dsar && !is_lookup || path == "/openapi.json" || path == "/docs" {
                assert!(!says, "{id}: this test does not reach it");
                continue;
            }
            let mut filled = path.clone();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                let example = match &parameter["example"] {
                    _ if path.starts_with("/api/v1/quarantine/") => quarantined.clone(),
                    _ if id == "fetch_package" => kept.clone(),
                    _ if path.starts_with("/api/v1/customers/") && name == "gcid" => gcid.clone(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                filled = filled.replace(&format!("{{{name}}}"), &example);
            }
            if id == "stream_events" {
                // From the beginning, and to its end.
                let cursor = data_encoding::BASE64URL_NOPAD
                    .encode(format!("0@{}", installation.policy().logs()[0].key.name()).as_bytes());
                filled.push_str(&format!("?wait=1&after={cursor}"));
            }
            let before = size(&server);
            let response = if id == "fetch_package" {
                let token = format!("Bearer {}", server.token(&installation.person));
                let headers = [("x-api-key", key.as_str()), ("authorization", token.as_str())];
                let mut request = Request::get(server.url(&filled));
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                server.send(request.body(Bytes::new()).unwrap())
            } else if is_dsar {
                server.access(&installation, &query(CUSTOMER))
            } else if is_draft {
                let token = format!("Bearer {}", server.token(&installation.person));
                let path = server.url(&path.replace("{id}", &request));
                let request = Request::get(path).header("x-api-key", &key).header("authorization", &token);
                server.send(request.body(Bytes::new()).unwrap())
            } else if is_lookup {
                let token = format!("Bearer {}", server.token(&installation.person));
                let body = json!({ "identifiers": [{ "type": "phone", "value": PHONE }] });
                server.post(path, &[("x-api-key", &key), ("authorization", &token)], body.to_string())
            } else {
                let request = Request::get(server.url(&filled)).header("x-api-key", &key);
                server.send(request.body(Bytes::new()).unwrap())
            };
            let text = String::from_utf8_lossy(response.body());
            let shows = canaries.iter().any(|canary| text.contains(canary));
            assert_eq!(shows, says, "{id}: {} {text:.300}", response.status());
            assert_eq!(size(&server) > before, says, "{id}: a leaf if and only if it discloses");
            if says {
                disclosing.push(id.to_owned());
            }
        }
    }
    disclosing.sort();
    let expected = [
        "audit_trail",
        "customer_aliases",
        "customer_timeline",
        "explain_customer",
        "fetch_package",
        "list_accesses",
        "list_events",
        "list_identity_quarantine",
        "list_interaction_events",
        "list_quarantine",
        "lookup_identity",
        "show_customer",
        "show_event",
        "show_quarantined",
        "show_rights_draft",
        "stream_events",
    ];
    assert_eq!(disclosing, expected);
    let operations: std::collections::BTreeSet<String> = accesses(&server, &installation, "")
        .iter()
        .map(|entry| entry["auditEvent"]["operation"].as_str().unwrap().to_owned())
        .collect();
    for id in expected.iter().filter(|id| **id != "list_accesses") {
        assert!(operations.contains(*id), "{id} is named as in the document");
    }
}

/// A disk on which files below a directory can no longer be written.
struct Failing {
    below: PathBuf,
    broken: Arc<AtomicBool>,
}

struct FailingFile {
    file: Box<dyn DiskFile>,
    broken: Arc<AtomicBool>,
}

impl Disk for Failing {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = OsDisk.open(path, how)?;
        if !path.starts_with(&self.below) {
            return Ok(file);
        }
        Ok(Box::new(FailingFile { file, broken: Arc::clone(&self.broken) }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        OsDisk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        OsDisk.space(path)
    }

    fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        OsDisk.attributes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        OsDisk.lock(path)
    }
}

impl FailingFile {
    fn check(&self) -> io::Result<()> {
        let broken = self.broken.load(Ordering::Acquire);
        if broken { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl DiskFile for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check()?;
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

#[test]
fn without_the_access_log_nothing_is_shown_and_events_are_still_taken() {
    let installation = Installation::new();
    let server = installation.start();
    assert_eq!(server.post_event(&installation, &event(CUSTOMER, "i-1")).0, StatusCode::CREATED);
    let token = server.token(&installation.person);
    server.stop();
    let broken = Arc::new(AtomicBool::new(false));
    let disk = Failing { below: installation.home().join("data/access"), broken: Arc::clone(&broken) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let local = Local::start_on(&installation, Arc::new(disk)).await;
        let key = ("x-api-key", installation.key.as_str());
        let paths = ["/api/v1/events/2", "/api/v1/events", "/api/v1/interactions/i-1/events", LOG];
        for path in paths {
            assert_eq!(local.ask("get", path, &[key]).await.status(), StatusCode::OK, "{path}");
        }
        broken.store(true, Ordering::Release);
        for path in paths {
            let answer = local.ask("get", path, &[key]).await;
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
            let text = String::from_utf8(answer.body().to_vec()).unwrap();
            assert!(!text.contains(CUSTOMER) && !text.contains("gc_"), "{path}: {text}");
        }
        let bearer = format!("Bearer {token}");
        let request = Request::post(format!("{}{ACCESS}", local.base))
            .header("content-type", "application/json")
            .header("x-api-key", &installation.key)
            .header("authorization", bearer)
            .body(Bytes::from(query(CUSTOMER).to_string()))
            .unwrap();
        let answer = local.send(request).await;
        // The token is of the real clock, which is not the one of this server: it may be refused before.
        assert!(!answer.status().is_success() && !String::from_utf8_lossy(answer.body()).contains("i-1"));
        let stream = local.ask("get", "/api/v1/events/stream?wait=1&after=", &[key]).await;
        assert!(!String::from_utf8_lossy(stream.body()).contains(CUSTOMER));
        let request = Request::post(format!("{}{EVENTS}", local.base))
            .header("content-type", "application/json")
            .header("x-api-key", &installation.key)
            .body(Bytes::from(event(CUSTOMER, "i-9").to_string()))
            .unwrap();
        assert_eq!(local.send(request).await.status(), StatusCode::CREATED, "events are taken");
        assert_eq!(local.ask("get", "/api/v1/receipts/2", &[key]).await.status(), StatusCode::OK);
        local.stop().await;
    });
    let server = installation.start();
    assert_eq!(get(&server, &installation.key, "/api/v1/events/2", &[]).0, StatusCode::OK, "mended");
    server.stop();
    assert_eq!(command(&installation, &["fsck"]).0, Some(0));
}

#[test]
fn it_survives_kills_and_a_flipped_bit_is_found() {
    let installation = Installation::new();
    let mut server = installation.start();
    assert_eq!(server.post_event(&installation, &event(CUSTOMER, "i-1")).0, StatusCode::CREATED);
    for round in 1..=3 {
        assert_eq!(get(&server, &installation.key, "/api/v1/events/2", &[]).0, StatusCode::OK);
        server.kill();
        let (code, text) = command(&installation, &["fsck"]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("/access: "), "{text}");
        server = installation.start();
        let customer = format!("&customer={CUSTOMER}");
        assert_eq!(accesses(&server, &installation, &customer).len(), round, "what was answered is there");
    }
    server.stop();
    let segments = files(&installation.home().join("data/access/0000/segments"));
    let used = |path: &PathBuf| std::fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let segment = segments.iter().max_by_key(|path| used(path)).unwrap();
    let mut bytes = std::fs::read(segment).unwrap();
    // Inside the last frame, which is whole.
    bytes[used(segment) - 60] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    let (code, text) = command(&installation, &["fsck"]);
    assert_eq!(code, Some(1), "{text}");
    let (code, text) = command(&installation, &["serve"]);
    assert_eq!(code, Some(74), "{text}");
    // Without the whole log it does not start either: it does not begin anew as if nobody had ever read.
    std::fs::remove_dir_all(installation.home().join("data/access")).unwrap();
    assert_eq!(command(&installation, &["serve"]).0, Some(74));
}

#[test]
fn an_erased_person_leaves_the_access_log_too_also_after_kills() {
    let installation = Installation::new();
    let admin = installation.credential(&["--name", "operations", "--role", "admin"]).1;
    let mut server = installation.start();
    let mut indices = Vec::new();
    let persons = 6;
    for person in 0..persons {
        let (_, receipt) = server.post_event(&installation, &event(&format!("person-{person}"), "i-1"));
        indices.push(receipt["index"].as_u64().unwrap());
    }
    let (_, kept) = server.post_event(&installation, &event("kept", "i-2"));
    let kept = kept["index"].as_u64().unwrap();
    let mut subjects = Vec::new();
    for person in 0..persons {
        assert_eq!(get(&server, &installation.key, "/api/v1/interactions/i-1/events", &[]).0, StatusCode::OK);
        let found = accesses(&server, &installation, &format!("&customer=person-{person}"));
        subjects.push(found[0]["globalCustomerId"].as_str().unwrap().to_owned());
    }
    let leaves = |server: &Running, subject: &str| {
        accesses(server, &installation, &format!("&customer={subject}")).len()
    };
    assert_eq!(get(&server, &installation.key, &format!("/api/v1/events/{kept}"), &[]).0, StatusCode::OK);
    // A hold keeps an event, and with it who saw it.
    let hold = json!({ "holdId": "case-1", "indices": [indices[0]] });
    let post = |server: &Running, path: &str, body: &Value| {
        server.post(path, &[("x-api-key", &admin)], body.to_string()).status()
    };
    assert_eq!(post(&server, "/api/v1/admin/holds", &hold), StatusCode::CREATED);
    let shred = |person: usize| {
        let request = format!("r-{person}");
        json!({ "requestId": request, "indices": [indices[person]], "confirm": "shred 1 leaf" })
    };
    assert_eq!(post(&server, SHRED, &shred(0)), StatusCode::OK);
    assert!(leaves(&server, &subjects[0]) > 0, "the event is held");
    for person in 1..persons {
        assert!(leaves(&server, &subjects[person]) > 0);
        // Killed somewhere on the way, later in each round.
        let pid = server.pid().to_string();
        let wait = Duration::from_millis(person as u64 * 6);
        let killer = std::thread::spawn(move || {
            std::thread::park_timeout(wait);
            assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        });
        let request = Request::post(server.url(SHRED))
            .header("content-type", "application/json")
            .header("x-api-key", &admin)
            .body(Bytes::from(shred(person).to_string()))
            .unwrap();
        // It may have been answered or not.
        let _ = server.try_send(request);
        killer.join().unwrap();
        drop(server);
        server = installation.start();
        let open = get(&server, &installation.key, &format!("/api/v1/events/{}", indices[person]), &[]).1;
        let gone = open["erased"] == true;
        let before = leaves(&server, &subjects[person]);
        assert_eq!(before == 0, gone, "both logs, or neither: {open}");
        assert_eq!(post(&server, SHRED, &shred(person)), StatusCode::OK, "the same order again");
        assert_eq!(leaves(&server, &subjects[person]), 0);
    }
    let of_kept = |server: &Running| accesses(server, &installation, "&customer=kept");
    let all = |server: &Running| {
        let entries = accesses(server, &installation, "").into_iter();
        entries.map(|entry| entry["index"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let live = (of_kept(&server), all(&server), leaves(&server, &subjects[0]));
    assert_eq!(live.0.len(), 1);
    assert!(
        files(&installation.home().join("data"))
            .iter()
            .all(|path| !path.to_string_lossy().contains("shredding"))
    );
    server.stop();
    let (code, text) = command(&installation, &["fsck"]);
    assert_eq!(code, Some(0), "{text}");
    std::fs::remove_dir_all(installation.home().join("data/access-index")).unwrap();
    let (code, text) = command(&installation, &["rebuild"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(command(&installation, &["rebuild", "--check"]).0, Some(0));
    let server = installation.start();
    let rebuilt = (of_kept(&server), all(&server), leaves(&server, &subjects[0]));
    assert_eq!(rebuilt, live, "rebuilt as it was");
    let release = json!({ "requestId": "r-release", "confirm": "release case-1" });
    assert_eq!(post(&server, "/api/v1/admin/holds/case-1/release", &release), StatusCode::OK);
    assert_eq!(
        post(
            &server,
            SHRED,
            &json!({
                "requestId": "r-again", "indices": [indices[0]], "confirm": "shred 1 leaf"
            })
        ),
        StatusCode::OK
    );
    assert_eq!(leaves(&server, &subjects[0]), 0);
}

#[test]
fn an_installation_from_before_gets_one_at_its_start() {
    let installation = Installation::new();
    let settings = Settings::load(&OsDisk, &installation.config()).unwrap();
    let home = installation.home();
    for store in ["data/access", "data/log", "data/vault", "anchor"] {
        std::fs::remove_dir_all(home.join(store)).unwrap();
    }
    std::fs::create_dir(home.join("anchor")).unwrap();
    let kek = idtrail_vault::Kek::from_file_bytes(&std::fs::read(home.join("kek.key")).unwrap()).unwrap();
    let vault = idtrail_vault::Vault::create(
        Arc::new(OsDisk),
        Arc::new(OsEntropy),
        idtrail_server::engine::vault_paths(&settings),
        kek,
        &settings.tenant,
        &settings.origin,
    );
    drop(vault.unwrap());
    let directory = idtrail_server::engine::log_directory(&settings.data_dir);
    idtrail_log::recovery::create(&OsDisk, &directory, &settings.origin, settings.segment_bytes).unwrap();
    for round in 1..=2 {
        let server = installation.start();
        assert_eq!(server.post_event(&installation, &event(CUSTOMER, "i-1")).1["index"], 2);
        assert_eq!(get(&server, &installation.key, "/api/v1/events/2", &[]).0, StatusCode::OK);
        assert_eq!(accesses(&server, &installation, &format!("&customer={CUSTOMER}")).len(), round);
        server.kill();
    }
}
