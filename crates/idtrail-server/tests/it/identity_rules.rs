//! Rules of identity changed over the interface, statements made once and by two persons, and what an erasure leaves of others.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::rig::{EVENTS, Installation, Running, query, sample};

const RULESET: &str = "/api/v1/identity/ruleset";
const RESOLVE: &str = "/api/v1/identity/resolve";

/// Data protection officers at a server.
struct Office<'a> {
    server: &'a Running,
    key: &'a str,
    tokens: Vec<String>,
}

impl<'a> Office<'a> {
    fn of(server: &'a Running, installation: &'a Installation, others: &[&(String, String)]) -> Self {
        let everybody = std::iter::once(&installation.person).chain(others.iter().copied());
        let tokens = everybody.map(|person| format!("Bearer {}", server.token(person))).collect();
        Self { server, key: &installation.key, tokens }
    }

    fn ask(&self, method: &str, path: &str, (who, id): (usize, Option<&str>), body: &Value) -> (u16, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(self.server.url(path))
            .header("x-api-key", self.key)
            .header("authorization", &self.tokens[who])
            .header("content-type", "application/json");
        if let Some(id) = id {
            request = request.header("idempotency-key", id);
        }
        let response = self.server.send(request.body(body.to_string().into()).unwrap());
        let answer = serde_json::from_slice(response.body()).unwrap_or_default();
        (response.status().as_u16(), answer)
    }

    fn customer(&self, id: &Value) -> Value {
        let path = format!("/api/v1/customers/{}", id.as_str().unwrap());
        self.ask("GET", &path, (0, None), &Value::Null).1["gcid"].clone()
    }
}

fn phone(number: u32) -> Value {
    json!({ "type": "phone", "value": format!("+1415555{number:04}"), "assurance": 1 })
}

fn reference(name: &str) -> Value {
    json!({ "type": "customer_ref", "value": name, "assurance": 3 })
}

fn resolve(server: &Running, key: &str, interaction: &str, identifiers: &[Value]) -> Value {
    let body = json!({ "interactionId": interaction, "channelType": "VOICE", "identifiers": identifiers });
    let response = server.post(RESOLVE, &[("x-api-key", key)], body.to_string());
    let answer: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(response.status(), StatusCode::CREATED, "{answer}");
    answer
}

/// Returns the places and tiers of what an answer by a client's own id holds.
fn answered(server: &Running, installation: &Installation, id: &str) -> Vec<(u64, Value)> {
    let answer = server.access(installation, &query(id));
    let package: Value = serde_json::from_slice(answer.body()).unwrap();
    let events = package["events"].as_array().unwrap_or_else(|| panic!("{package}"));
    events.iter().map(|event| (event["index"].as_u64().unwrap(), event["tier"].clone())).collect()
}

#[test]
fn rules_are_simulated_then_replaced_and_survive_a_restart() {
    let installation = Installation::new();
    let key = installation.credential(&["--name", "flow", "--role", "resolve", "--role", "ingest"]).1;
    let server = installation.start();
    for number in 1..=3 {
        resolve(&server, &key, &format!("call-{number}"), &[reference("C-1"), phone(number)]);
    }
    let office = Office::of(&server, &installation, &[]);
    // Somebody asks for the customer's data before the rules change.
    assert_eq!(answered(&server, &installation, "C-1").len(), 3);
    let (status, shown) = office.ask("GET", RULESET, (0, None), &Value::Null);
    assert_eq!((status, &shown["ruleset"]["version"]), (200, &json!(1)), "{shown}");
    let mut ruleset = shown["ruleset"].clone();
    ruleset["version"] = json!(2);
    for kind in ruleset["types"].as_array_mut().unwrap() {
        if kind["name"] == "phone" {
            kind["max_per_cluster"] = json!(1);
        }
    }
    let simulate = format!("{RULESET}:simulate");
    let (status, would) = office.ask("POST", &simulate, (0, None), &json!({ "ruleset": ruleset }));
    assert_eq!((status, &would["effect"]["counts"]["splits"]), (200, &json!(1)), "{would}");
    assert_eq!(would["effect"]["affectedRequests"].as_array().unwrap().len(), 1, "{would}");
    let unseen = json!({ "ruleset": ruleset, "simulated": "0".repeat(64), "reason": "fewer numbers" });
    assert_eq!(office.ask("PUT", RULESET, (0, None), &unseen).0, 422, "it was not simulated");
    let change = json!({ "ruleset": ruleset, "simulated": would["fingerprint"], "reason": "fewer numbers" });
    let (status, changed) = office.ask("PUT", RULESET, (0, Some("change-1")), &change);
    assert_eq!((status, &changed["version"]), (201, &json!(2)), "{changed}");
    assert_eq!(changed["fingerprint"], would["fingerprint"]);
    let (status, again) = office.ask("PUT", RULESET, (0, Some("change-1")), &change);
    assert_eq!((status, &again["index"]), (200, &changed["index"]), "{again}");
    assert_eq!(office.ask("PUT", RULESET, (0, None), &change).0, 422, "the version is not greater");
    for wrong in [json!({}), json!({ "ruleset": { "version": 3 } })] {
        assert_eq!(office.ask("POST", &simulate, (0, None), &wrong).0, 422, "{wrong}");
    }
    let token = |number: u32| {
        let body = json!({ "identifiers": [phone(number)] });
        let response = server.post("/api/v1/identity:tokenize", &[("x-api-key", &key)], body.to_string());
        let answer: Value = serde_json::from_slice(response.body()).unwrap();
        answer["tokens"][0]["token"].as_str().unwrap().to_owned()
    };
    let tokens = [token(1), token(2), token(3)];
    let customers = |server: &Running| {
        tokens.clone().map(|token| {
            let answer = server.access(&installation, &query(&token));
            let package: Value = serde_json::from_slice(answer.body()).unwrap();
            package["customer"]["globalCustomerId"].clone()
        })
    };
    let after = customers(&server);
    assert!(after[0] != after[1] || after[1] != after[2], "{after:?}");
    server.kill();
    let server = installation.start();
    assert_eq!(customers(&server), after);
    let office = Office::of(&server, &installation, &[]);
    assert_eq!(office.ask("GET", RULESET, (0, None), &Value::Null).1["ruleset"], ruleset);
    assert_eq!(office.ask("PUT", RULESET, (0, Some("change-1")), &change).0, 200);
}

#[test]
fn a_statement_is_made_once_and_a_split_names_the_answers_it_affects() {
    let installation = Installation::new();
    let key = installation.credential(&["--name", "flow", "--role", "resolve"]).1;
    let server = installation.start();
    let office = Office::of(&server, &installation, &[]);
    let one = resolve(&server, &key, "call-1", &[reference("C-1"), phone(1)])["gcid"].clone();
    let other = resolve(&server, &key, "call-2", &[reference("C-2"), phone(2)])["gcid"].clone();
    let merge = json!({ "gcids": [one, other], "reason": "one person" });
    let (status, merged) = office.ask("POST", "/api/v1/customers:merge", (0, Some("m-1")), &merge);
    assert_eq!(status, 201, "{merged}");
    let (status, again) = office.ask("POST", "/api/v1/customers:merge", (0, Some("m-1")), &merge);
    assert_eq!((status, &again["assertionId"]), (200, &merged["assertionId"]), "{again}");
    let changed = json!({ "gcids": [one, other], "reason": "another reason" });
    assert_eq!(office.ask("POST", "/api/v1/customers:merge", (0, Some("m-1")), &changed).0, 409);
    assert!(answered(&server, &installation, "C-1").len() >= 2);
    let revoke = json!({ "kind": "REVOKE", "assertionId": merged["assertionId"], "reason": "it was wrong" });
    let (_, would) = office.ask("POST", "/api/v1/customers:simulate", (0, None), &revoke);
    assert_eq!(would["affectedRequests"].as_array().unwrap().len(), 1, "{would}");
    let (status, revoked) = office.ask("POST", "/api/v1/assertions", (0, Some("m-2")), &revoke);
    assert_eq!(status, 201, "{revoked}");
    assert_eq!(revoked["effect"]["affectedRequests"], would["affectedRequests"]);
    assert_eq!(office.ask("POST", "/api/v1/assertions", (0, Some("m-2")), &revoke).0, 200);
    assert_eq!((office.customer(&one), office.customer(&other)), (one, other));
}

#[test]
fn two_persons_are_needed_where_the_installation_says_so() {
    let installation = Installation::with("[identity]\nfour_eyes = true\n");
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let key = installation.credential(&["--name", "flow", "--role", "resolve"]).1;
    let server = installation.start();
    let office = Office::of(&server, &installation, &[&second]);
    let one = resolve(&server, &key, "call-1", &[phone(1)])["gcid"].clone();
    let other = resolve(&server, &key, "call-2", &[phone(2)])["gcid"].clone();
    let merge = json!({ "gcids": [one, other], "reason": "one person" });
    let (status, proposed) = office.ask("POST", "/api/v1/customers:merge", (0, Some("m-1")), &merge);
    assert_eq!(status, 202, "{proposed}");
    let (status, again) = office.ask("POST", "/api/v1/customers:merge", (0, Some("m-1")), &merge);
    assert_eq!((status, &again["proposalId"]), (202, &proposed["proposalId"]));
    assert_eq!(office.customer(&other), other, "a proposal does nothing");
    let (_, listed) = office.ask("GET", "/api/v1/identity/proposals", (1, None), &Value::Null);
    assert_eq!(listed["proposals"][0]["statement"]["reason"], json!("one person"), "{listed}");
    let approve = format!("/api/v1/identity/proposals/{}/approve", proposed["proposalId"].as_str().unwrap());
    // It outlives the server.
    server.kill();
    let server = installation.start();
    let office = Office::of(&server, &installation, &[&second]);
    let (_, after) = office.ask("GET", "/api/v1/identity/proposals", (1, None), &Value::Null);
    assert_eq!(after, listed);
    let (status, again) = office.ask("POST", "/api/v1/customers:merge", (0, Some("m-1")), &merge);
    assert_eq!((status, &again["proposalId"]), (202, &proposed["proposalId"]));
    assert_eq!(office.ask("POST", &approve, (0, None), &Value::Null).0, 409, "not by the same person");
    let (status, merged) = office.ask("POST", &approve, (1, None), &Value::Null);
    assert_eq!((status, &merged["approver"]), (201, &json!(second.0)), "{merged}");
    assert_eq!(office.customer(&other), one);
    assert_eq!(office.ask("POST", &approve, (1, None), &Value::Null).0, 404, "once");
    assert_eq!(office.ask("POST", "/api/v1/customers:merge", (0, Some("m-1")), &merge).0, 200);
}

#[test]
fn an_erasure_leaves_the_answers_of_others_as_they_were() {
    let installation = Installation::with("[rights]\ngrace_hours = 0\n");
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let key = installation.credential(&["--name", "flow", "--role", "resolve"]).1;
    let server = installation.start();
    // A number that two use: a call from it alone is nobody's.
    for number in 0..3 {
        for name in ["C-1", "C-2"] {
            resolve(&server, &key, &format!("call-{name}-{number}"), &[reference(name), phone(9)]);
        }
    }
    let call = resolve(&server, &key, "call-either", &[phone(9)]);
    assert_eq!(call["outcome"], json!("ANONYMOUS"));
    let before = answered(&server, &installation, "C-2");
    assert_eq!(before.len(), 3);
    let office = Office::of(&server, &installation, &[&second]);
    let post = |path: &str, who: usize, body: &Value| {
        office.ask("POST", &format!("/api/v1/rights/requests{path}"), (who, None), body)
    };
    let (status, opened) = post("", 0, &json!({ "kind": "ERASURE", "customerIdHash": "C-1" }));
    assert_eq!(status, 201, "{opened}");
    let id = opened["requestId"].as_str().unwrap();
    let evidence = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let verify = json!({ "level": "ONE_CHANNEL", "method": "otp-mail", "evidence": evidence });
    assert_eq!(post(&format!("/{id}/verify"), 0, &verify).0, 200);
    let until = |wanted: &dyn Fn(&Value) -> bool| {
        let started = std::time::Instant::now();
        loop {
            let path = format!("/api/v1/rights/requests/{id}");
            let (_, shown) = office.ask("GET", &path, (0, None), &Value::Null);
            if wanted(&shown) {
                return shown;
            }
            assert!(started.elapsed().as_secs() < 15, "{shown:#}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let plan = until(&|shown| shown["state"] == "PLANNED")["plan"]["hash"].clone();
    for who in 0..2 {
        assert_eq!(post(&format!("/{id}/approve"), who, &json!({ "planHash": plan })).0, 200);
    }
    until(&|shown| shown["state"] == "CLOSED_FULFILLED");
    let same = |server: &Running| {
        assert_eq!(answered(server, &installation, "C-2"), before);
        // Another call from the number is still nobody's.
        let call = resolve(server, &key, "call-later", &[phone(9)]);
        assert_eq!(call["outcome"], json!("ANONYMOUS"), "{call}");
    };
    same(&server);
    server.kill();
    let server = installation.start();
    assert_eq!(answered(&server, &installation, "C-2"), before);
    assert_eq!(server.post(EVENTS, &[("x-api-key", &installation.key)], sample().to_string()).status(), 201);
}
