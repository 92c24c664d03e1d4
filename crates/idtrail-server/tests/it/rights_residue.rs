//! What is left of a person after an erasure: nothing in any file, nothing in any answer, nothing in a copy of before under
//! today's anchor; and nothing of anybody else is touched.

use std::path::Path;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::office::Office;
use crate::rig::{ACCESS, EVENTS, Installation, Running, files, idtrail, sample};

const PHONE_A: &str = "+14155552671";
const PHONE_B: &str = "+14155552672";

/// Somebody, with everything by which they could be found again.
struct Person {
    customer: &'static str,
    phone: &'static str,
    gcid: String,
    aliases: Vec<String>,
    interactions: Vec<String>,
    tokens: Vec<String>,
}

#[derive(Clone)]
struct Desk<'a> {
    server: &'a Running,
    key: &'a str,
    token: String,
}

impl Desk<'_> {
    fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let headers = [("x-api-key", self.key), ("authorization", self.token.as_str())];
        let answer = self.server.post(path, &headers, body.to_string());
        (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(self.server.url(path))
            .header("x-api-key", self.key)
            .header("authorization", &self.token)
            .body(Bytes::new())
            .unwrap();
        let answer = self.server.send(request);
        (answer.status(), String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// Lets somebody write, call and be asked about, and returns who that is.
    fn person(&self, customer: &'static str, phone: &'static str) -> Person {
        let mut interactions = Vec::new();
        let identifiers = json!([{ "type": "phone", "value": phone, "assurance": 2 }]);
        for number in 0..3 {
            let mut event = sample();
            event["auditEvent"]["resolvedCustomerId"] = json!(customer);
            let interaction = format!("{customer}-interaction-{number}");
            event["auditEvent"]["interactionId"] = json!(interaction);
            event["auditEvent"].as_object_mut().unwrap().remove("piiContext");
            interactions.push(interaction);
            assert_eq!(self.post(EVENTS, &event).0, StatusCode::CREATED);
        }
        let interaction = format!("{customer}-asked");
        let body =
            json!({ "interactionId": interaction, "channelType": "VOICE", "identifiers": identifiers });
        let (status, resolved) = self.post("/api/v1/identity/resolve", &body);
        assert_eq!(status, StatusCode::CREATED, "{resolved}");
        interactions.push(interaction);
        let package = self.access(&json!({ "customerIdHash": customer, "requestType": "ACCESS" }));
        let own = package["customer"]["globalCustomerId"].as_str().unwrap().to_owned();
        let gcid = resolved["gcid"].as_str().unwrap().to_owned();
        if own != gcid {
            let merge = json!({ "gcids": [own, gcid], "reason": "one person" });
            assert_eq!(self.post("/api/v1/customers:merge", &merge).0, StatusCode::CREATED);
        }
        let shown: Value = serde_json::from_str(&self.get(&format!("/api/v1/customers/{own}")).1).unwrap();
        let tokens = shown["identifiers"].as_array().unwrap().iter();
        let tokens: Vec<String> = tokens.filter_map(|one| Some(one["token"].as_str()?.to_owned())).collect();
        assert!(tokens.len() >= 2, "{shown:#}");
        let gcid = shown["gcid"].as_str().unwrap().to_owned();
        let aliases = shown["aliases"].as_array().unwrap().iter();
        let aliases: Vec<String> = aliases.filter_map(|one| Some(one.as_str()?.to_owned())).collect();
        assert!(!aliases.is_empty(), "{shown:#}");
        Person { customer, phone, gcid, aliases, interactions, tokens }
    }

    fn access(&self, body: &Value) -> Value {
        let (status, package) = self.post(ACCESS, body);
        assert_eq!(status, StatusCode::OK, "{package}");
        package
    }

    /// Everything that is answered about somebody, without when and at which size of the log.
    fn answers(&self, person: &Person) -> Vec<Value> {
        let asked = [
            json!({ "customerIdHash": person.customer, "requestType": "ACCESS" }),
            json!({ "identifier": { "type": "phone", "value": person.phone }, "requestType": "ACCESS" }),
        ];
        let mut answers = Vec::new();
        for body in asked {
            let package = self.access(&body);
            let events = package["events"].as_array().unwrap().iter();
            let events = events
                .map(|event| (event["index"].clone(), event["auditEvent"].clone(), event["leaf"].clone()));
            answers.push(json!([package["customer"], events.collect::<Vec<_>>()]));
        }
        for path in ["", "/aliases", "/explain", "/timeline"] {
            let (status, text) = self.get(&format!("/api/v1/customers/{}{path}", person.gcid));
            let mut value: Value = serde_json::from_str(&text).unwrap_or_default();
            stripped(&mut value);
            answers.push(json!([path, status.as_u16(), value]));
        }
        let lookup = json!({ "identifiers": [{ "type": "phone", "value": person.phone }] });
        let (_, mut found) = self.post("/api/v1/identity:lookup", &lookup);
        stripped(&mut found);
        answers.push(found);
        answers
    }
}

/// Takes away what grows with the log: proofs, checkpoints, sizes, cursors.
fn stripped(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let growing =
                ["proof", "checkpoint", "size", "asOf", "treeSize", "rootHash", "recordedAsOf", "next"];
            for name in growing {
                members.remove(name);
            }
            members.values_mut().for_each(stripped);
        }
        Value::Array(values) => values.iter_mut().for_each(stripped),
        _ => {}
    }
}

/// Returns the hash of the certificate of a request, as its own leaf names it.
fn certified(desk: &Desk<'_>, closed: &Value) -> String {
    let package = desk.access(&json!({ "customerIdHash": closed["recordId"], "requestType": "ACCESS" }));
    let events = package["events"].as_array().unwrap().iter().map(|event| &event["auditEvent"]);
    let mut receipted = events.filter(|event| event["eventType"] == "DSR_RECEIPTED");
    receipted.next().unwrap()["data"]["certificate"].as_str().unwrap().to_owned()
}

/// The forms in which something could lie in a file.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms =
        vec![text.as_bytes().to_vec(), data_encoding::HEXLOWER.encode(text.as_bytes()).into_bytes()];
    if let Some(hex) = text.strip_prefix("gc_")
        && let Ok(raw) = data_encoding::BASE32_NOPAD.decode(hex.to_ascii_uppercase().as_bytes())
    {
        forms.extend([data_encoding::HEXLOWER.encode(&raw).into_bytes(), raw]);
    }
    if let Ok(raw) = data_encoding::HEXLOWER.decode(text.as_bytes()) {
        forms.push(raw);
    }
    forms
}

fn holds(bytes: &[u8], form: &[u8]) -> bool {
    let (first, rest) = form.split_first().unwrap();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| byte == first) {
        at += found + 1;
        if bytes[at..].starts_with(rest) {
            return true;
        }
    }
    false
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, target).unwrap();
    }
}

#[test]
fn nothing_of_an_erased_person_is_left_and_nothing_of_anybody_else_is_touched() {
    let installation = Installation::with("[limits]\nreads_per_second = 0\n[rights]\ngrace_hours = 0\n");
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let roles = [
        "--role", "resolve", "--role", "ingest", "--role", "dpo", "--role", "auditor", "--role", "operator",
        "--role", "admin",
    ];
    let key = installation.credential(&[&["--name", "everything"], &roles[..]].concat()).1;
    let auditor = installation.credential(&["--name", "looks", "--role", "auditor"]).1;
    let server = installation.start();
    let token = format!("Bearer {}", server.token(&installation.person));
    let desk = Desk { server: &server, key: &key, token: token.clone() };
    let (a, b) = (desk.person("cust-erased-77", PHONE_A), desk.person("cust-kept-78", PHONE_B));
    let mut refused = sample();
    refused["auditEvent"]["eventType"] = json!("NO_SUCH_TYPE");
    refused["auditEvent"]["resolvedCustomerId"] = json!(a.customer);
    refused["auditEvent"]["interactionId"] = json!("cust-erased-77-refused");
    assert!(desk.post(EVENTS, &refused).1["quarantineId"].is_string());
    let before = desk.answers(&b);
    assert_eq!(desk.answers(&b), before, "the same question has the same answer");
    let of_a = desk.access(&json!({ "customerIdHash": a.customer, "requestType": "ACCESS" }));
    let places: Vec<u64> =
        of_a["events"].as_array().unwrap().iter().map(|event| event["index"].as_u64().unwrap()).collect();
    server.stop();

    // A copy of before, with the anchor of before.
    let old = tempfile::tempdir().unwrap();
    copy(&installation.home(), old.path());
    let old_control = tempfile::tempdir().unwrap();
    copy(&installation.home(), old_control.path());

    let server = installation.start();
    let desk = Desk { server: &server, key: &key, token };
    let office = Office::open(&server, &installation, &second);
    office.until_up();
    let id = office.request("ERASURE", a.customer);
    office.verify(&id);
    office.approve(&id);
    let closed = office.until(&id, "CLOSED_FULFILLED");
    for (after, before) in desk.answers(&b).iter().zip(&before) {
        assert_eq!(after, before, "answers about somebody else have not changed");
    }

    // No route shows anything of the person any more.
    let mut needles: Vec<String> = vec![a.gcid.clone(), a.customer.to_owned()];
    needles.extend(a.interactions.iter().cloned());
    needles.extend(a.tokens.iter().cloned());
    let document: Value = serde_json::from_slice(server.get("/openapi.json").body()).unwrap();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if item.get("get").is_none() || path.starts_with("/openapi") || path.starts_with("/docs") {
            continue;
        }
        let every = &places[..if path.contains("{index}") { places.len() } else { 1 }];
        for index in every {
            let mut filled = path.clone();
            for parameter in item["get"]["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                let value = match name {
                    "gcid" => a.gcid.clone(),
                    "index" => index.to_string(),
                    "id" if path.contains("/rights/") => id.clone(),
                    "id" | "interactionId" => a.interactions[0].clone(),
                    _ => match &parameter["example"] {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    },
                };
                filled = filled.replace(&format!("{{{name}}}"), &value);
            }
            if path.ends_with("/events/stream") || filled.contains('{') {
                continue;
            }
            let (_, text) = desk.get(&filled);
            asked += 1;
            for needle in &needles {
                assert!(!text.contains(needle.as_str()), "{needle} in the answer of {filled}: {text:.400}");
            }
        }
    }
    assert!(asked > 40, "the routes were asked: {asked}");
    // The data protection officer finds the deletions, by whatever led to the person, and nothing else.
    let certificate = certified(&desk, &closed);
    let mut names = vec![a.customer.to_owned(), a.gcid.clone(), id.clone(), certificate];
    names.extend(a.aliases.iter().cloned());
    let mut questions: Vec<Value> =
        names.iter().map(|name| json!({ "customerIdHash": name, "requestType": "ACCESS" })).collect();
    questions.push(json!({ "identifier": { "type": "phone", "value": a.phone }, "requestType": "ACCESS" }));
    let mut lists = std::collections::BTreeSet::new();
    for body in &questions {
        let package = desk.access(body);
        let events = package["events"].as_array().unwrap();
        let items = closed["items"].as_object().unwrap().len();
        assert_eq!(
            events.len(),
            a.interactions.len() * items,
            "one for each interaction: {body} {package:#}"
        );
        assert!(
            events.iter().all(|event| event["auditEvent"]["eventType"] == "DATA_DELETION"),
            "{package:#}"
        );
        assert_eq!(package["customer"]["globalCustomerId"], closed["recordId"]);
        lists.insert(events.iter().map(|event| event["index"].as_u64().unwrap()).collect::<Vec<_>>());
        let mut told = package.clone();
        told.as_object_mut().unwrap().remove("request");
        let text = told.to_string();
        assert!(needles.iter().all(|needle| !text.contains(needle.as_str())), "{body}: {text}");
    }
    assert_eq!(lists.len(), 1, "every way leads to the same leaves");
    for name in ["cust-never-79", "gc_aaaaaaaaaaaaaaaaaaaaaaaaaa", "dsr_aaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        let package = desk.access(&json!({ "customerIdHash": name, "requestType": "ACCESS" }));
        assert_eq!((&package["events"], &package["customer"]), (&json!([]), &Value::Null), "{name}");
    }
    // Nobody else is told that there was anybody.
    for gcid in std::iter::once(&a.gcid).chain(&a.aliases) {
        for path in ["", "/aliases", "/explain", "/timeline"] {
            let (status, text) = desk.get(&format!("/api/v1/customers/{gcid}{path}"));
            assert_eq!(status, StatusCode::GONE, "{path}: {text}");
            let (status, other) =
                Desk { key: &auditor, ..desk.clone() }.get(&format!("/api/v1/customers/{gcid}{path}"));
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {other}");
        }
    }
    let (status, _) = Desk { key: &auditor, ..desk.clone() }.post(ACCESS, &questions[0]);
    assert_eq!(status, StatusCode::FORBIDDEN);
    let record = closed["recordId"].as_str().unwrap();
    let by_record = desk.access(&json!({ "customerIdHash": record, "requestType": "ACCESS" }));
    assert!(!by_record["events"].as_array().unwrap().is_empty(), "the request itself is found by its record");

    // No file holds anything of the person, in text, hex or raw bytes.
    drop(office);
    server.stop();
    for path in files(&installation.home()) {
        let bytes = std::fs::read(&path).unwrap();
        for needle in &needles {
            for form in forms(needle) {
                assert!(!holds(&bytes, &form), "{needle} in {}", path.display());
            }
        }
    }
    let config = installation.config();
    assert_eq!(idtrail(&["fsck", "--config", config.to_str().unwrap()]).status.code(), Some(0));

    // The copy of before opens with its own anchor, and does not with today's.
    let as_of = |home: &Path| {
        let copied = home.join("idtrail.toml");
        let text = std::fs::read_to_string(&copied).unwrap();
        let here = text.replace(installation.home().to_str().unwrap(), home.to_str().unwrap());
        std::fs::write(&copied, here).unwrap();
        idtrail(&["rebuild", "--check", "--config", copied.to_str().unwrap()])
    };
    let control = as_of(old_control.path());
    assert_eq!(control.status.code(), Some(0), "{}", String::from_utf8_lossy(&control.stderr));
    let anchors: Vec<_> = files(&installation.home())
        .into_iter()
        .filter(|path| path.starts_with(installation.home().join("anchor")))
        .collect();
    assert!(!anchors.is_empty());
    for anchor in anchors {
        let target = old.path().join(anchor.strip_prefix(installation.home()).unwrap());
        std::fs::copy(&anchor, target).unwrap();
    }
    let refused = as_of(old.path());
    assert_ne!(refused.status.code(), Some(0), "{}", String::from_utf8_lossy(&refused.stdout));
}
