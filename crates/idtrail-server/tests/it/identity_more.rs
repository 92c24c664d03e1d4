//! Identity by configuration, by the hundred, over time, and with input that wants to break it.

use http::Request;
use serde_json::{Value, json};

use crate::rig::{EVENTS, Installation, Running, sample};

const RESOLVE: &str = "/api/v1/identity/resolve";
const PHONE: &str = "+14155552671";

struct Desk {
    installation: Installation,
    key: String,
    token: std::sync::OnceLock<String>,
}

impl Desk {
    fn with(extra: &str) -> Self {
        let installation = Installation::with(extra);
        let key = installation.credential(&["--name", "flow", "--role", "resolve", "--role", "ingest"]).1;
        Self { installation, key, token: std::sync::OnceLock::new() }
    }

    fn ask(&self, server: &Running, path: &str, body: &Value) -> (u16, Value) {
        let response = server.post(path, &[("x-api-key", self.key.as_str())], body.to_string());
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
    }

    fn resolve(&self, server: &Running, interaction: &str, identifiers: Value) -> Value {
        let body =
            json!({ "interactionId": interaction, "channelType": "VOICE", "identifiers": identifiers });
        let (status, answer) = self.ask(server, RESOLVE, &body);
        assert_eq!(status, 201, "{answer}");
        answer
    }

    fn read(&self, server: &Running, path: &str) -> (u16, Value) {
        let request = Request::get(server.url(path)).header("x-api-key", &self.installation.key);
        let response = server.send(request.body(bytes::Bytes::new()).unwrap());
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
    }

    fn state(&self, server: &Running, path: &str, body: &Value) -> (u16, Value) {
        // Tokens are given out slowly.
        let token = self.token.get_or_init(|| format!("Bearer {}", server.token(&self.installation.person)));
        let headers = [("x-api-key", self.installation.key.as_str()), ("authorization", token.as_str())];
        let response = server.post(path, &headers, body.to_string());
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
    }
}

fn phone() -> Value {
    json!({ "type": "phone", "value": PHONE })
}

fn mail() -> Value {
    json!({ "type": "email", "value": "jane.doe@example.com", "assurance": 2 })
}

fn sha256(text: &str) -> Vec<u8> {
    <sha2::Sha256 as sha2::Digest>::digest(text).to_vec()
}

#[test]
fn what_is_configured_names_nobody_issues_accounts_and_reads_the_hashes_of_others() {
    let salts = tempfile::tempdir().unwrap();
    std::fs::write(salts.path().join("events"), "pepper-of-events\n").unwrap();
    std::fs::write(salts.path().join("flow"), "salt-of-flows").unwrap();
    let at = |name: &str| salts.path().join(name).display().to_string();
    let desk = Desk::with(&format!(
        "[identity]\nown_numbers = [\"+4930999*\"]\nblocked = [\"desk@example.com\"]\nissuers = [\"crm\"]\n\
         event_salt_file = \"{}\"\n[[identity.legacy_hash]]\nid = \"flow-2024\"\ntype = \"phone\"\n\
         template = \"{{salt}}/{{value}}\"\nformats = [\"digits\"]\nencoding = \"base64\"\nsalt_file = \"{}\"\n",
        at("events"),
        at("flow")
    ));
    let server = desk.installation.start();
    for (kind, value, reason) in
        [("phone", "+49 30 999 17", "OWN_NUMBER"), ("email", "Desk@Example.com", "LISTED")]
    {
        let answer = desk.resolve(&server, "own", json!([{ "type": kind, "value": value }]));
        assert_eq!(answer["blocked"][0]["reason"], json!(reason));
        assert_eq!(answer["outcome"], json!("ANONYMOUS"));
    }
    let account = |issuer: &str| {
        let one = json!({ "type": "account", "value": "00-47 11", "namespace": issuer, "assurance": 3 });
        desk.ask(&server, RESOLVE, &json!({ "identifiers": [one] }))
    };
    assert_eq!(account("crm").0, 201);
    assert_eq!(account("erp").0, 422);

    // An event with a salted hash, and a hash of the flow's scheme, are the person's who shows the number.
    let mut event = sample();
    event["auditEvent"].as_object_mut().unwrap().remove("resolvedCustomerId");
    let hash = data_encoding::HEXLOWER.encode(&sha256(&format!("{PHONE}pepper-of-events")));
    event["auditEvent"]["piiContext"] = json!({ "phoneHash": hash });
    event["auditEvent"]["interactionId"] = json!("salted");
    let stored = server.post(EVENTS, &[("x-api-key", desk.key.as_str())], event.to_string());
    assert_eq!(stored.status(), 201, "{:?}", stored.body());
    let stored: Value = serde_json::from_slice(stored.body()).unwrap();
    let written = data_encoding::BASE64.encode(&sha256("salt-of-flows/14155552671"));
    let by_scheme = json!({ "type": "phone", "hash": written, "hashScheme": "flow-2024" });
    let before = desk.resolve(&server, "hashed", json!([by_scheme]));
    let called = desk.resolve(&server, "call", json!([phone()]));
    let gcid = called["gcid"].as_str().unwrap().to_owned();
    let (_, customer) = desk.read(&server, &format!("/api/v1/customers/{gcid}"));
    let indices: Vec<&Value> =
        customer["interactions"].as_array().unwrap().iter().map(|one| &one["index"]).collect();
    for index in [&stored["index"], &before["receipt"]["index"], &called["receipt"]["index"]] {
        assert!(indices.contains(&index), "{index} is not in {customer}");
    }
    let unknown = json!({ "type": "phone", "hash": hash, "hashScheme": "flow-1999" });
    assert_eq!(desk.ask(&server, RESOLVE, &json!({ "identifiers": [unknown] })).0, 422);
    server.kill();
    let server = desk.installation.start();
    assert_eq!(desk.read(&server, &format!("/api/v1/customers/{gcid}")).1, customer);
    server.stop();
    // Whoever takes a salt away learns of it at the start.
    std::fs::remove_file(salts.path().join("flow")).unwrap();
    let config = desk.installation.config();
    let started = std::process::Command::new(env!("CARGO_BIN_EXE_idtrail"))
        .args(["serve", "--config", config.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(!started.status.success() && said.contains("[identity]"), "{said}");
}

#[test]
fn many_questions_are_answered_each_by_itself() {
    let desk = Desk::with("");
    let server = desk.installation.start();
    let one = json!({
        "idempotencyKey": "q-1", "timestamp": "2026-05-04T08:00:00Z", "interactionId": "q-1", "identifiers": [phone()]
    });
    let mut conflicting = one.clone();
    conflicting["identifiers"] = json!([mail()]);
    let requests = json!([
        one, { "identifiers": [mail()] }, { "identifiers": [{ "type": "phone", "value": "CANARY" }] }, one, conflicting,
        { "identifiers": [{ "type": "phone", "value": "anonymous" }] }, { "idempotencyKey": 7, "identifiers": [] },
    ]);
    let batch = "/api/v1/identity/resolve:batch";
    let (status, answer) = desk.ask(&server, batch, &json!({ "requests": requests }));
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<u64> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 201, 422, 200, 409, 201, 422], "{answer}");
    assert_eq!(results[0]["gcid"], results[3]["gcid"]);
    assert_eq!(results[5]["outcome"], json!("ANONYMOUS"));
    assert_eq!(results[2]["errors"][0]["pointer"], json!("/identifiers/0"));
    assert!(!answer.to_string().contains("CANARY"));
    for wrong in [json!({}), json!({ "requests": [] }), json!({ "requests": vec![json!({}); 101] })] {
        assert_eq!(desk.ask(&server, batch, &wrong).0, 422);
    }
}

#[test]
fn a_timeline_shows_what_was_decided_and_which_answers_a_split_affects() {
    let desk = Desk::with("");
    let server = desk.installation.start();
    let one = desk.resolve(&server, "call-1", json!([phone()]))["gcid"].clone();
    let other = desk.resolve(&server, "mail-1", json!([mail()]))["gcid"].clone();
    let (one, other) = (one.as_str().unwrap(), other.as_str().unwrap());
    let timeline = |id: &str, query: &str| {
        let (status, shown) = desk.read(&server, &format!("/api/v1/customers/{id}/timeline{query}"));
        assert_eq!(status, 200, "{shown}");
        shown
    };
    let (status, merged) = desk.state(
        &server,
        "/api/v1/customers:merge",
        &json!({ "gcids": [one, other], "reason": "one person" }),
    );
    assert_eq!(status, 201, "{merged}");
    let (_, aliases) = desk.read(&server, &format!("/api/v1/customers/{other}/aliases"));
    assert_eq!(aliases, json!({ "gcid": one, "aliases": [other] }));
    // Somebody asks for the person's data while both are one.
    let asked = json!({ "customerIdHash": one, "requestType": "ACCESS" });
    assert_eq!(server.access(&desk.installation, &asked).status(), 200);
    let whole = timeline(one, "");
    let types = |shown: &Value| -> Vec<String> {
        let entries = shown["entries"].as_array().unwrap();
        entries.iter().map(|entry| entry["eventType"].as_str().unwrap().to_owned()).collect()
    };
    let count = |shown: &Value, name: &str| types(shown).iter().filter(|one| *one == name).count();
    assert_eq!(count(&whole, "IDENTITY_RESOLUTION"), 2, "{whole}");
    assert!(count(&whole, "IDENTITY_MERGE") >= 1, "{whole}");
    assert_eq!((&whole["gcid"], &whole["more"]), (&json!(one), &json!(false)));
    // In pages it is the same.
    let (mut paged, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let page = timeline(one, &query);
        paged.extend(page["entries"].as_array().unwrap().clone());
        if page["more"] == json!(false) {
            break;
        }
        query = format!("?limit=1&after={}", page["next"].as_str().unwrap());
    }
    assert_eq!(json!(paged), whole["entries"]);
    let undo = json!({ "kind": "REVOKE", "assertionId": merged["assertionId"], "reason": "it was wrong" });
    assert_eq!(desk.state(&server, "/api/v1/assertions", &undo).0, 201);
    // What is answered after the split rests on the right customer; in the same millisecond it counts as before.
    std::thread::park_timeout(std::time::Duration::from_millis(5));
    assert_eq!(server.access(&desk.installation, &asked).status(), 200);
    let split = timeline(one, "");
    let entries = split["entries"].as_array().unwrap();
    let split = entries.iter().find(|entry| entry["eventType"] == json!("IDENTITY_SPLIT")).unwrap();
    let affected = split["identity"]["affectedRequests"].as_array().unwrap();
    assert_eq!(affected.len(), 1, "{split}");
    let proof = format!("/api/v1/access-log/{}/receipt", affected[0]["index"]);
    assert_eq!(desk.read(&server, &proof).0, 200);
    for path in ["timeline", "aliases"] {
        let (status, _) =
            desk.read(&server, &format!("/api/v1/customers/gc_aaaaaaaaaaaaaaaaaaaaaaaaaa/{path}"));
        assert_eq!(status, 404);
    }
    assert_eq!(desk.read(&server, &format!("/api/v1/customers/{one}/timeline?limit=0")).0, 400);
    assert_eq!(desk.read(&server, &format!("/api/v1/customers/{one}/timeline?after=x")).0, 400);
}

#[test]
fn an_explanation_proves_its_evidence() {
    let desk = Desk::with("");
    let server = desk.installation.start();
    let both = desk.resolve(&server, "chat-1", json!([phone(), mail()]));
    let gcid = both["gcid"].as_str().unwrap();
    let (_, why) = desk.read(&server, &format!("/api/v1/customers/{gcid}/explain"));
    let receipts = why["receipts"].as_array().unwrap();
    assert_eq!((receipts.len(), &why["receiptsLeftOut"]), (1, &json!(0)), "{why}");
    assert_eq!(receipts[0]["leafHash"], both["receipt"]["leafHash"]);
    assert_eq!(receipts[0]["index"], why["links"][0]["evidence"][0]["index"]);
    let head = String::from_utf8(server.get("/checkpoint").body().to_vec()).unwrap();
    let proof = receipts[0]["proof"].as_str().unwrap();
    assert!(proof.contains(head.lines().next().unwrap()), "{proof}");
}

#[test]
fn strange_values_are_read_refused_or_kept_apart() {
    let desk = Desk::with("");
    let server = desk.installation.start();
    let token = |kind: &str, value: &str| {
        let one = json!({ "type": kind, "value": value, "region": "US" });
        let (status, answer) =
            desk.ask(&server, "/api/v1/identity:tokenize", &json!({ "identifiers": [one] }));
        (status, answer["tokens"][0].clone())
    };
    let (_, number) = token("phone", PHONE);
    for same in [
        "sip:+14155552671@sbc.example.net;user=phone",
        "tel:+14155552671;ext=7",
        "+١٤١٥٥٥٥٢٦٧١",
        "1-415-555-CNR1",
    ] {
        let (status, read) = token("phone", same);
        assert_eq!((status, &read["token"]), (200, &number["token"]), "{same}: {read}");
    }
    for refused in ["sip:jane@example.com", "sip:", "tel:", "+", "١٢", "+1415555267\u{0}1", "0x415", "∞"]
    {
        let (status, read) = token("phone", refused);
        assert!(status == 422 || read["blocked"].is_string(), "{refused}: {status} {read}");
    }
    // One domain in both of its forms; look-alikes are others.
    let forms = [token("email", "a@bücher.example"), token("email", "A@XN--BCHER-KVA.example")];
    assert_eq!((forms[0].0, &forms[0].1), (200, &forms[1].1));
    let alike =
        ["a@example.com", "a@exаmple.com", "a@examp1e.com", "a@ехаmple.com"].map(|one| token("email", one));
    for (at, (status, one)) in alike.iter().enumerate() {
        assert_eq!(*status, 200, "{one}");
        assert!(alike.iter().skip(at + 1).all(|(_, other)| other != one), "{one}");
    }
    for refused in ["a@", "@b.c", "a@b@c", "a b@c.d", "a@\u{202e}moc.example", "a@xn--", "a@.example"] {
        assert_eq!(token("email", refused).0, 422, "{refused:?}");
    }
}

#[test]
fn statements_that_contradict_or_concern_the_erased_are_refused() {
    let desk = Desk::with("");
    let admin = desk.installation.credential(&["--name", "admin", "--role", "admin"]).1;
    let server = desk.installation.start();
    let call = desk.resolve(&server, "call-1", json!([phone()]));
    let one = call["gcid"].clone();
    let other = desk.resolve(&server, "mail-1", json!([mail()]))["gcid"].clone();
    let third = json!([{ "type": "device", "value": "d-1" }]);
    let third = desk.resolve(&server, "chat-1", third)["gcid"].clone();
    let same = |a: &Value, b: &Value| json!({ "kind": "SAME", "subjects": [a, b], "reason": "one person" });
    let apart = json!({ "kind": "NOT_SAME", "left": [one], "right": [other], "reason": "two persons" });
    let state = |body: &Value| desk.state(&server, "/api/v1/assertions", body);
    let (status, stated) = state(&apart);
    assert_eq!(status, 201, "{stated}");
    assert_eq!(state(&same(&one, &other)).0, 409, "directly");
    // Over a third one as well, nobody who is not the same becomes the same.
    let over = [state(&same(&one, &third)).0, state(&same(&third, &other)).0];
    assert_eq!(over[0], 201);
    let today = |id: &Value| {
        desk.read(&server, &format!("/api/v1/customers/{}", id.as_str().unwrap())).1["gcid"].clone()
    };
    assert_ne!(today(&one), today(&other), "{over:?}");
    let order = json!({
        "requestId": "e-1", "indices": [call["receipt"]["index"]], "confirm": "shred 1 leaf"
    });
    assert_eq!(server.post("/api/v1/admin/shred", &[("x-api-key", &admin)], order.to_string()).status(), 200);
    for path in ["/api/v1/assertions", "/api/v1/customers:simulate"] {
        assert_eq!(desk.state(&server, path, &same(&one, &other)).0, 404, "{path}: an erased id");
    }
    let merge = json!({ "gcids": [one, other], "reason": "one person" });
    assert_eq!(desk.state(&server, "/api/v1/customers:merge", &merge).0, 404);
    let nonsense = [
        json!({ "kind": "SAME", "subjects": [other, other], "reason": "itself" }),
        json!({ "kind": "REVOKE", "assertionId": 99, "reason": "nothing" }),
        json!({ "kind": "NOT_SAME", "left": [other], "right": [other], "reason": "itself" }),
        json!({ "kind": "NOT_SAME", "left": vec![&other; 101], "right": [third], "reason": "too many" }),
    ];
    for body in nonsense {
        let (status, answer) = state(&body);
        assert!((400..500).contains(&status), "{body}: {status} {answer}");
    }
}
