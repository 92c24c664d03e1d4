//! Whose is this call: one person over several channels, anonymous callers, access by anything, and no raw value anywhere.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::rig::{EVENTS, Installation, Running, files, sample};

const RESOLVE: &str = "/api/v1/identity/resolve";
const PHONE: &str = "+14155552671";
const MAIL: &str = "canary.77319@example.com";
const ACCOUNT: &str = "ACME-77319-CANARY";

struct Desk {
    installation: Installation,
    key: String,
}

impl Desk {
    fn new() -> Self {
        let installation = Installation::new();
        let key = installation.credential(&["--name", "flow", "--role", "resolve", "--role", "ingest"]).1;
        Self { installation, key }
    }

    fn ask(&self, server: &Running, path: &str, body: &Value, id: Option<&str>) -> (u16, Value) {
        let mut headers = vec![("x-api-key", self.key.as_str())];
        headers.extend(id.map(|id| ("idempotency-key", id)));
        let response = server.post(path, &headers, body.to_string());
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
    }

    fn resolve(&self, server: &Running, interaction: &str, identifiers: Value) -> Value {
        let body =
            json!({ "interactionId": interaction, "channelType": "VOICE", "identifiers": identifiers });
        let (status, answer) = self.ask(server, RESOLVE, &body, None);
        assert_eq!(status, 201, "{answer}");
        answer
    }

    fn read(&self, server: &Running, path: &str) -> (u16, Value) {
        let request = Request::get(server.url(path)).header("x-api-key", &self.installation.key);
        let response = server.send(request.body(bytes::Bytes::new()).unwrap());
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
    }

    fn access(&self, server: &Running, query: &Value) -> Value {
        let response = server.access(&self.installation, query);
        assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
        let report = idtrail_verify::verify(response.body(), &self.installation.policy());
        assert_eq!(report.verdict, idtrail_verify::Verdict::Verified, "{report:?}");
        serde_json::from_slice(response.body()).unwrap()
    }
}

fn phone() -> Value {
    json!({ "type": "phone", "value": PHONE, "assurance": 1 })
}

fn mail() -> Value {
    json!({ "type": "email", "value": MAIL, "assurance": 2 })
}

fn reference() -> Value {
    json!({ "type": "customer_ref", "value": ACCOUNT, "assurance": 3 })
}

fn indices(package: &Value) -> Vec<u64> {
    package["events"].as_array().unwrap().iter().map(|event| event["index"].as_u64().unwrap()).collect()
}

#[test]
fn one_person_over_three_channels_has_one_id_with_a_reason_and_one_answer() {
    let desk = Desk::new();
    let server = desk.installation.start();
    let called = desk.resolve(&server, "call-1", json!([phone()]));
    let wrote = desk.resolve(&server, "mail-1", json!([mail()]));
    assert_eq!((&called["outcome"], &wrote["outcome"]), (&json!("CREATED"), &json!("CREATED")));
    assert_ne!(called["gcid"], wrote["gcid"]);
    // The chat is logged in, and says both: whoever called and whoever wrote are one.
    let chat = desk.resolve(&server, "chat-1", json!([reference(), phone(), mail()]));
    assert_eq!((&chat["outcome"], &chat["gcid"]), (&json!("MERGED"), &called["gcid"]), "{chat}");
    // An event that names the id, and one that names the client's own id, are the same person's.
    let mut event = sample();
    event["auditEvent"]["resolvedCustomerId"] = chat["gcid"].clone();
    let (status, by_id) = server.post_event(&desk.installation, &event);
    assert_eq!(status, StatusCode::CREATED, "{by_id}");
    event["auditEvent"]["resolvedCustomerId"] = json!(ACCOUNT);
    let (_, by_reference) = server.post_event(&desk.installation, &event);
    let said: Vec<u64> = [&called, &wrote, &chat]
        .map(|answer| &answer["receipt"])
        .into_iter()
        .chain([&by_id, &by_reference])
        .map(|receipt| receipt["index"].as_u64().unwrap())
        .collect();

    let gcid = called["gcid"].as_str().unwrap().to_owned();
    let alias = wrote["gcid"].as_str().unwrap().to_owned();
    let (_, tokens) =
        desk.ask(&server, "/api/v1/identity:tokenize", &json!({ "identifiers": [phone()] }), None);
    let token = tokens["tokens"][0]["token"].as_str().unwrap().to_owned();
    // The salt is empty here, so this is what another system would have computed.
    let hash = data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(PHONE));
    let everything = |server: &Running| {
        let mut answers = Vec::new();
        for id in [gcid.as_str(), &alias, ACCOUNT, &token, &hash] {
            answers.push(json!({ "customerIdHash": id, "requestType": "ACCESS" }));
        }
        answers.push(json!({ "identifier": phone(), "requestType": "ACCESS" }));
        answers.push(json!({ "identifier": mail(), "requestType": "ACCESS" }));
        let mut first: Option<Vec<u64>> = None;
        for query in answers {
            let package = desk.access(server, &query);
            assert_eq!(package["customer"]["globalCustomerId"], json!(gcid), "{query}");
            let found = indices(&package);
            assert!(
                said.iter().all(|index| found.contains(index)),
                "{query}: {found:?} lacks some of {said:?}"
            );
            assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{query}");
            assert!(!package.to_string().contains(PHONE) && !package.to_string().contains(MAIL));
        }
    };
    everything(&server);
    let (status, why) = desk.read(&server, &format!("/api/v1/customers/{alias}/explain"));
    assert_eq!(status, 200, "{why}");
    assert_eq!(why["gcid"], json!(gcid));
    assert!(why["links"].as_array().unwrap().iter().any(|link| link["evidence"] != json!([])), "{why}");
    let (_, shown) = desk.read(&server, &format!("/api/v1/customers/{gcid}"));
    assert_eq!(shown["aliases"], json!([alias]), "{shown}");
    let index = said[1];
    let (_, then) = desk.read(&server, &format!("/api/v1/customers/{alias}?recordedAsOf={index}"));
    assert_eq!(then["gcid"], json!(alias), "before the chat they were two: {then}");

    // A restart knows the same from the log alone.
    server.kill();
    let server = desk.installation.start();
    everything(&server);
    let (_, after) = desk.read(&server, &format!("/api/v1/customers/{gcid}"));
    assert_eq!(after, shown);
    let again = desk.resolve(&server, "call-2", json!([phone()]));
    assert_eq!((&again["gcid"], &again["outcome"]), (&json!(gcid), &json!("ATTACHED")));
}

#[test]
fn nobody_is_named_by_a_withheld_number() {
    let desk = Desk::new();
    let server = desk.installation.start();
    let withheld = json!([{ "type": "phone", "value": "anonymous" }]);
    let one = desk.resolve(&server, "call-1", withheld.clone());
    assert_eq!((&one["outcome"], &one["blocked"][0]["reason"]), (&json!("ANONYMOUS"), &json!("WITHHELD")));
    let other = desk.resolve(&server, "call-2", withheld);
    assert_ne!(one["gcid"], other["gcid"]);
    let index = &one["receipt"]["index"];
    let (_, leaf) = desk.read(&server, &format!("/api/v1/events/{index}"));
    assert!(leaf.to_string().contains("\"ANONYMOUS\""), "{leaf}");
    assert!(!leaf.to_string().contains("phoneHash"), "{leaf}");
    let id = one["gcid"].as_str().unwrap();
    let shown = desk.read(&server, &format!("/api/v1/customers/{id}/explain"));
    let unknown = desk.read(&server, "/api/v1/customers/gc_aaaaaaaaaaaaaaaaaaaaaaaaaa/explain");
    assert_eq!((shown.0, &shown.1["detail"]), (unknown.0, &unknown.1["detail"]));
    // The caller logs in: from then on the call has its customer.
    let known = desk.resolve(&server, "call-1", json!([reference()]));
    assert_eq!(known["gcid"], one["gcid"], "{known}");
}

#[test]
fn a_repeated_resolution_is_the_same_decision() {
    let desk = Desk::new();
    let server = desk.installation.start();
    let body = json!({
        "interactionId": "call-1", "timestamp": "2026-01-02T03:04:05Z", "identifiers": [phone()]
    });
    let (status, first) = desk.ask(&server, RESOLVE, &body, Some("a"));
    assert_eq!(status, 201, "{first}");
    let (status, again) = desk.ask(&server, RESOLVE, &body, Some("a"));
    assert_eq!((status, &again["gcid"], &again["outcome"]), (200, &first["gcid"], &first["outcome"]));
    let mut other = body;
    other["identifiers"] = json!([mail()]);
    assert_eq!(desk.ask(&server, RESOLVE, &other, Some("a")).0, 409);
}

#[test]
fn what_cannot_be_used_is_refused_by_its_place_and_never_repeated() {
    let desk = Desk::new();
    let server = desk.installation.start();
    let many: Vec<Value> =
        (0..10_000).map(|at| json!({ "type": "device", "value": at.to_string() })).collect();
    let cases = [
        (json!({}), "/identifiers"),
        (json!({ "identifiers": many }), ""),
        (json!({ "identifiers": [{ "type": "phone", "value": "12-CANARY-x" }] }), "/identifiers/0"),
        (json!({ "identifiers": [{ "type": "phone", "value": "+1" }] }), "/identifiers/0"),
        (json!({ "identifiers": [{ "type": "phone", "value": "77319077319" }] }), "/identifiers/0"),
        (json!({ "identifiers": [{ "type": "email", "value": "a@b@CANARY" }] }), "/identifiers/0"),
        (json!({ "identifiers": [{ "type": "account", "value": "CANARY" }] }), "/identifiers/0"),
        (json!({ "identifiers": [{ "type": "CANARY", "value": "x" }] }), "/identifiers/0"),
        (json!({ "identifiers": [{ "type": "phone", "value": PHONE, "assurance": 6 }] }), "/identifiers/0"),
        (json!({ "identifiers": [{ "type": "phone", "value": PHONE, "token": "x" }] }), "/identifiers/0"),
        (json!({ "identifiers": [{ "type": "phone", "token": "CANARY" }] }), "/identifiers/0"),
        (json!({ "identifiers": [{ "type": "phone", "hash": "CANARY" }] }), "/identifiers/0"),
        (json!({ "identifiers": [], "interactionId": PHONE }), "/interactionId"),
        (json!({ "identifiers": [], "timestamp": "CANARY" }), "/timestamp"),
    ];
    for (body, pointer) in cases {
        let (status, problem) = desk.ask(&server, RESOLVE, &body, None);
        let text = problem.to_string();
        assert!(!text.contains("CANARY") && !text.contains("77319") && !text.contains(PHONE), "{text}");
        if pointer.is_empty() {
            assert!(status == 413 || status == 422, "{status}: {text}");
        } else {
            assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{text}");
        }
    }
    // One value, however it is written; and look-alikes are not it.
    let token = |value: &str, kind: &str| {
        let body = json!({ "identifiers": [{ "type": kind, "value": value, "region": "US" }] });
        let (status, answer) = desk.ask(&server, "/api/v1/identity:tokenize", &body, None);
        assert_eq!(status, 200, "{answer}");
        answer["tokens"][0]["token"].clone()
    };
    let phone = token(PHONE, "phone");
    for written in ["tel:+1-415-555-2671", "(415) 555-2671", "٤١٥٥٥٥٢٦٧١"] {
        assert_eq!(token(written, "phone"), phone, "{written}");
    }
    assert_ne!(token("a@exаmple.com", "email"), token("a@example.com", "email"));
}

#[test]
fn no_raw_identifier_stays_anywhere() {
    let desk = Desk::new();
    let server = desk.installation.start();
    let all = json!([phone(), mail(), reference()]);
    let mut said = desk.resolve(&server, "call-1", all.clone()).to_string();
    let body = json!({ "identifiers": all });
    let (_, tokens) = desk.ask(&server, "/api/v1/identity:tokenize", &body, None);
    said += &tokens.to_string();
    let token = format!("Bearer {}", server.token(&desk.installation.person));
    let headers = [("x-api-key", desk.installation.key.as_str()), ("authorization", token.as_str())];
    let found = server.post("/api/v1/identity:lookup", &headers, body.to_string());
    let found: Value = serde_json::from_slice(found.body()).unwrap();
    assert_eq!(found["identifiers"][0]["known"], json!(true), "{found}");
    said += &found.to_string();
    said += &desk.access(&server, &json!({ "identifier": mail(), "requestType": "ACCESS" })).to_string();
    for value in ["+1", "canary 77319", "77319@", "@"] {
        for kind in ["phone", "email", "account", "msg_handle"] {
            let body = json!({ "identifiers": [{ "type": kind, "value": format!("{value}{MAIL}") }] });
            said += &desk.ask(&server, RESOLVE, &body, None).1.to_string();
        }
    }
    server.stop();
    let log = desk.installation.log.lock().unwrap().clone();
    let mut places = vec![("answers".to_owned(), said.into_bytes()), ("log".to_owned(), log.into_bytes())];
    for path in files(&desk.installation.home()) {
        places.push((path.display().to_string(), std::fs::read(path).unwrap()));
    }
    for (place, bytes) in places {
        let bytes = bytes.to_ascii_lowercase();
        for canary in [PHONE, "4155552671", MAIL, ACCOUNT] {
            let form = canary.to_ascii_lowercase().into_bytes();
            assert!(!bytes.windows(form.len()).any(|window| window == form), "{canary} in {place}");
        }
    }
}

#[test]
fn an_erased_event_is_forgotten_and_the_rest_stays() {
    let desk = Desk::new();
    let admin = desk.installation.credential(&["--name", "admin", "--role", "admin"]).1;
    let server = desk.installation.start();
    let call = desk.resolve(&server, "call-1", json!([phone()]));
    let other = desk.resolve(&server, "call-2", json!([mail()]));
    let index = call["receipt"]["index"].as_u64().unwrap();
    let order = json!({ "requestId": "e-1", "indices": [index], "confirm": "shred 1 leaf" });
    let done = server.post("/api/v1/admin/shred", &[("x-api-key", &admin)], order.to_string());
    assert_eq!(done.status(), StatusCode::OK, "{:?}", done.body());
    let gone = call["gcid"].as_str().unwrap();
    assert_eq!(desk.read(&server, &format!("/api/v1/customers/{gone}")).0, 404);
    let kept = other["gcid"].as_str().unwrap();
    let (_, before) = desk.read(&server, &format!("/api/v1/customers/{kept}"));
    let returned = desk.resolve(&server, "call-3", json!([phone()]));
    assert_ne!(returned["gcid"], call["gcid"], "whoever returns is somebody new");
    server.kill();
    let server = desk.installation.start();
    let (_, after) = desk.read(&server, &format!("/api/v1/customers/{kept}"));
    assert_eq!(before, after);
    assert_eq!(desk.resolve(&server, "call-4", json!([phone()]))["gcid"], returned["gcid"]);
    assert_eq!(server.post(EVENTS, &[("x-api-key", &desk.key)], sample().to_string()).status(), 201);
}

#[test]
fn a_wrong_merge_is_undone_and_both_come_back() {
    let desk = Desk::new();
    let server = desk.installation.start();
    let token = format!("Bearer {}", server.token(&desk.installation.person));
    let state = |server: &Running, path: &str, body: &Value| {
        let headers = [("x-api-key", desk.installation.key.as_str()), ("authorization", token.as_str())];
        let response = server.post(path, &headers, body.to_string());
        let answer: Value = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), answer)
    };
    let today = |server: &Running, id: &Value| {
        desk.read(server, &format!("/api/v1/customers/{}", id.as_str().unwrap())).1["gcid"].clone()
    };
    let one = desk.resolve(&server, "call-1", json!([phone()]))["gcid"].clone();
    let other = desk.resolve(&server, "mail-1", json!([mail()]))["gcid"].clone();
    let wanted = json!({ "gcids": [one, other], "reason": "they look alike" });
    let (status, would) =
        state(&server, "/api/v1/customers:simulate", &json!({ "kind": "SAME", "subjects": [one, other] }));
    assert_eq!((status, would["merges"].as_array().unwrap().len()), (200, 1), "{would}");
    assert_eq!(today(&server, &other), other, "a simulation does nothing");
    let (status, merged) = state(&server, "/api/v1/customers:merge", &wanted);
    assert_eq!(status, 201, "{merged}");
    assert_eq!(today(&server, &other), one);
    let by_mail = json!({ "identifier": mail(), "requestType": "ACCESS" });
    let both = indices(&desk.access(&server, &by_mail)).len();
    let apart = json!({ "left": [one], "right": [other], "reason": "two persons" });
    assert_eq!(
        state(&server, "/api/v1/customers:split", &apart).0,
        409,
        "a statement in force says the opposite"
    );
    let revoke = json!({ "kind": "REVOKE", "assertionId": merged["assertionId"], "reason": "it was wrong" });
    let (status, revoked) = state(&server, "/api/v1/assertions", &revoke);
    assert_eq!(status, 201, "{revoked}");
    assert_eq!((today(&server, &one), today(&server, &other)), (one.clone(), other.clone()));
    let own = desk.access(&server, &by_mail);
    assert_eq!(own["customer"]["globalCustomerId"], other);
    assert!(indices(&own).len() < both);
    let (status, split) = state(&server, "/api/v1/customers:split", &apart);
    assert_eq!(status, 201, "{split}");
    // Whoever names both now finds them apart, and the refused link waits to be looked at.
    desk.resolve(&server, "chat-1", json!([phone(), mail()]));
    assert_ne!(today(&server, &one), today(&server, &other));
    let (_, refused) = desk.read(&server, "/api/v1/identity/quarantine");
    assert_eq!(refused["entries"][0]["guard"], json!("G3"), "{refused}");
    let unknown = json!({ "gcids": [one, "gc_aaaaaaaaaaaaaaaaaaaaaaaaaa"], "reason": "x" });
    assert_eq!(state(&server, "/api/v1/customers:merge", &unknown).0, 404);
    assert_eq!(state(&server, "/api/v1/customers:merge", &json!({ "gcids": [one], "reason": "x" })).0, 422);
    server.kill();
    let server = desk.installation.start();
    assert_eq!((today(&server, &one), today(&server, &other)), (one, other));
}
