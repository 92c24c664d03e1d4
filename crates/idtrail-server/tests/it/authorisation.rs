//! Who may call what: every operation of the OpenAPI document, with every credential and role, against the real server.
//!
//! What is expected comes from the document alone (`security` and `x-idtrail-roles`), so that neither a route without
//! a check nor a check that the document does not tell can stay. Operations for everybody are listed here by hand: a
//! new one has to be added on purpose.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use idtrail_port::Clock as _;
use idtrail_port::os::OsEntropy;
use idtrail_server::credentials::{NewKey, NewPerson, Role, StoreError};
use serde_json::Value;

use crate::rig::{Installation, Local};

/// What everybody may call.
const PUBLIC: &[&str] = &[
    "get /access/checkpoint",
    "get /access/tile/{path}",
    "get /api/v1/rights/packages/{id}/{secret}",
    "get /checkpoint",
    "get /docs",
    "get /docs/style.css",
    "get /healthz",
    "get /livez",
    "get /logs",
    "get /logs/{number}/access/checkpoint",
    "get /logs/{number}/access/tile/{path}",
    "get /logs/{number}/checkpoint",
    "get /logs/{number}/tile/{path}",
    "get /openapi.json",
    "get /problems/{code}",
    "get /readyz",
    "get /tile/{path}",
    "post /oauth/token",
];

/// A credential as a client presents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presented {
    Nothing,
    /// Good, with this role only.
    With(Role),
    /// Not good, for this reason.
    Bad(&'static str),
}

struct Credentials {
    presented: Vec<(Presented, Option<String>)>,
}

struct Rig {
    local: Local,
    keys: Credentials,
    tokens: Credentials,
}

impl Rig {
    /// Sends a request without a body; nothing but the decision about the credentials matters.
    async fn status(&self, method: &str, path: &str, key: Option<&str>, token: Option<&str>) -> u16 {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = Vec::new();
        headers.extend(key.map(|key| ("x-api-key", key)));
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.local.ask(method, path, &headers).await.status().as_u16()
    }

    async fn token(&self, id: &str, secret: &str) -> String {
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let request = http::Request::post(format!("{}/oauth/token", self.local.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .unwrap();
        let response = self.local.send(request).await;
        let answer: Value = serde_json::from_slice(response.body()).unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

/// What a request must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Allowed,
    Unauthenticated,
    Forbidden,
    /// One credential is refused and another one lacks the role: either answer is right.
    Refused,
}

impl Expected {
    fn fits(self, status: u16) -> bool {
        match self {
            // 404 and 4xx about the empty body come after the decision.
            Self::Allowed => !matches!(status, 401 | 403 | 405 | 429) && status < 500,
            Self::Unauthenticated => status == 401,
            Self::Forbidden => status == 403,
            Self::Refused => matches!(status, 401 | 403),
        }
    }
}

/// Decides by the document.
fn expected(operation: &Value, key: Presented, token: Presented) -> Expected {
    let ways: Vec<BTreeSet<&str>> = operation["security"]
        .as_array()
        .unwrap()
        .iter()
        .map(|way| way.as_object().unwrap().keys().map(String::as_str).collect())
        .collect();
    let all: BTreeSet<&str> = ways.iter().flatten().copied().collect();
    let presented: BTreeSet<&str> = [("ApiKey", key), ("Bearer", token)]
        .into_iter()
        .filter(|(name, presented)| all.contains(name) && *presented != Presented::Nothing)
        .map(|(name, _)| name)
        .collect();
    let way =
        ways.iter().find(|way| **way == presented).or(ways.iter().find(|way| way.is_subset(&presented)));
    let Some(way) = way else { return Expected::Unauthenticated };
    let (mut bad, mut lacking) = (false, false);
    for scheme in way {
        let roles = operation["x-idtrail-roles"][scheme].as_array().unwrap();
        match if *scheme == "ApiKey" { key } else { token } {
            Presented::Nothing => unreachable!(),
            Presented::Bad(_) => bad = true,
            Presented::With(role) => {
                lacking |= !roles.iter().any(|one| one == "any" || one == role.as_str());
            }
        }
    }
    match (bad, lacking) {
        (false, false) => Expected::Allowed,
        (true, false) => Expected::Unauthenticated,
        (false, true) => Expected::Forbidden,
        (true, true) => Expected::Refused,
    }
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("responses").is_some() {
                all.push((method.clone(), path.clone(), operation.clone()));
            }
        }
    }
    all
}

/// Fills the parameters of a path with their examples.
fn filled(path: &str, operation: &Value) -> String {
    let mut filled = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "path" {
            let example = match &parameter["example"] {
                Value::String(text) => text.clone(),
                Value::Null => "0".to_owned(),
                other => other.to_string(),
            };
            filled = filled.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap()), &example);
        }
    }
    filled
}

/// Returns the text with its last character but `skip` replaced.
fn bent(text: &str, at_from_end: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = bytes.len() - 1 - at_from_end;
    bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
    String::from_utf8(bytes).unwrap()
}

/// Changes the credentials. A process that another test is starting at this moment holds a copy of the lock until it runs
/// its program, so a change may have to be tried again.
fn patiently<T>(mut change: impl FnMut() -> Result<T, StoreError>) -> T {
    let mut tries = 0;
    loop {
        match change() {
            Err(StoreError::Busy) if tries < 1000 => tries += 1,
            outcome => return outcome.unwrap(),
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

async fn rig(local: Local) -> Rig {
    let mut rig = Rig {
        local,
        keys: Credentials { presented: vec![(Presented::Nothing, None)] },
        tokens: Credentials { presented: vec![(Presented::Nothing, None)] },
    };
    let clock = Arc::clone(&rig.local.clock);
    let store = &rig.local.store;
    let key = |name: &str, role: Role, expires_ms: Option<i64>| {
        let new = NewKey { env: "test".into(), name: name.into(), roles: role.into(), expires_ms };
        patiently(|| store.create_key(&OsEntropy, clock.wall_ms(), new.clone()))
    };
    let person = |role: Role, expires_ms: Option<i64>| {
        let new = NewPerson { name: role.to_string(), roles: role.into(), expires_ms };
        patiently(|| store.create_person(&OsEntropy, clock.wall_ms(), new.clone()))
    };
    let soon = Some(clock.wall_ms() + 60_000);
    // Good apart from one fault each.
    let expired = key("expired", Role::Ingest, soon);
    let revoked = key("revoked", Role::Ingest, None);
    patiently(|| store.revoke(&revoked.id, clock.wall_ms()));
    let persons: Vec<_> = Role::ALL.into_iter().map(|role| (role, person(role, None))).collect();
    let gone = person(Role::Dpo, None);
    let ending = person(Role::Dpo, soon);
    for role in Role::ALL {
        let created = key(role.as_str(), role, None);
        rig.keys.presented.push((Presented::With(role), Some(created.secret.to_string())));
    }
    let good = rig.keys.presented.last().unwrap().1.clone().unwrap();
    // The server looks at the file once a second; the last key made says that it has seen everything.
    while rig.status("get", "/tile/entries/000.p/2", Some(&good), None).await == 401 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let old = rig.token(&persons[0].1.id, &persons[0].1.secret).await;
    let of_gone = rig.token(&gone.id, &gone.secret).await;
    let of_ending = rig.token(&ending.id, &ending.secret).await;
    patiently(|| store.revoke(&gone.id, clock.wall_ms()));
    clock.advance_ms(120_000);
    for (role, person) in &persons {
        let token = rig.token(&person.id, &person.secret).await;
        rig.tokens.presented.push((Presented::With(*role), Some(token)));
    }
    let good_token = rig.tokens.presented[1].1.clone().unwrap();
    let parts: Vec<&str> = good_token.split('.').collect();
    let bad = |why: &'static str, text: String| (Presented::Bad(why), Some(text));
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{}.", parts[1]);
    rig.keys.presented.extend([
        bad("forged", bent(&good, 20)),
        bad("mistyped", bent(&good, 0)),
        bad("expired", expired.secret.to_string()),
        bad("revoked", revoked.secret.to_string()),
        bad("not a key", good_token.clone()),
    ]);
    rig.tokens.presented.extend([
        bad("forged", bent(&good_token, 20)),
        bad("other claims", format!("{}.{}a.{}", parts[0], parts[1], parts[2])),
        bad("none", none),
        bad("expired", old),
        bad("of a revoked person", of_gone),
        bad("of an expired person", of_ending),
        bad("an API key", good),
    ]);
    // A revocation is seen within a second or two.
    let revoked = rig.tokens.presented.iter().find(|(p, _)| *p == Presented::Bad("of a revoked person"));
    let revoked = revoked.unwrap().1.clone();
    let (_, dpo) = rig.keys.presented.iter().find(|(p, _)| *p == Presented::With(Role::Dpo)).unwrap();
    let dpo = dpo.clone();
    while rig.status("post", crate::rig::ACCESS, dpo.as_deref(), revoked.as_deref()).await != 401 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig
}

#[test]
fn every_operation_admits_exactly_whom_the_document_names() {
    let installation = Installation::with("[limits]\nreads_per_second = 0\n[issuer]\ntoken_ttl_s = 60\n");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let rig = rig(Local::start(&installation).await).await;
        let document = rig.local.ask("get", "/openapi.json", &[]).await;
        let document: Value = serde_json::from_slice(document.body()).unwrap();
        let mut failures = Vec::new();
        let mut tried = 0;
        for (method, path, operation) in operations(&document) {
            let name = format!("{method} {path}");
            let security = operation["security"].as_array().unwrap();
            let public = security.iter().all(|way| way.as_object().unwrap().is_empty());
            assert_eq!(public, PUBLIC.contains(&name.as_str()), "{name}: who may call it?");
            for scheme in security.iter().flat_map(|way| way.as_object().unwrap().keys()) {
                let roles = operation["x-idtrail-roles"][scheme].as_array();
                assert!(roles.is_some_and(|roles| !roles.is_empty()), "{name}: no roles for {scheme}");
            }
            let mut path = filled(&path, &operation);
            if operation["responses"]["200"]["content"].get("text/event-stream").is_some() {
                // A stream that ends by itself.
                path.push_str("?wait=0");
            }
            for (key, key_text) in &rig.keys.presented {
                for (token, token_text) in &rig.tokens.presented {
                    let status = rig.status(&method, &path, key_text.as_deref(), token_text.as_deref()).await;
                    let mut expected =
                        if public { Expected::Allowed } else { expected(&operation, *key, *token) };
                    // Collectors of metrics may bring their API key as a bearer token; this one lacks the role.
                    let observed = matches!(path.as_str(), "/metrics" | "/statusz");
                    if observed && *key == Presented::Nothing && *token == Presented::Bad("an API key") {
                        expected = Expected::Forbidden;
                    }
                    // Whether an installation is ready is said with 503, to everybody.
                    let fits = expected.fits(status) || name == "get /readyz" && status == 503;
                    if !fits {
                        failures.push(format!("{name} key={key:?} token={token:?}: {status}, {expected:?}"));
                    }
                    tried += 1;
                }
            }
        }
        assert!(failures.is_empty(), "{} of {tried}:\n{}", failures.len(), failures.join("\n"));
        assert!(tried > 1000, "{tried}");
        rig.local.stop().await;
    });
}

#[test]
fn the_document_is_the_committed_one_and_whole() {
    let text = std::str::from_utf8(&idtrail_server::openapi::DOCUMENT).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(text == committed, "docs/openapi.json is old: write it again with `idtrail openapi`");
    let document: Value = serde_json::from_str(text).unwrap();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} is not ours"));
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}: its id is taken");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        let tag = &operation["tags"][0];
        let known = document["tags"].as_array().unwrap().iter().any(|one| one["name"] == *tag);
        assert!(known, "{method} {path}: unknown tag {tag}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(text) if name == "$ref" => references.push(text.to_owned()),
                    _ => collect(value, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

#[test]
fn no_route_is_registered_beside_the_document() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    for path in crate::rig::files(std::path::Path::new(source)) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "tests.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for way in [".route(", ".route_service(", ".nest(", ".nest_service(", ".fallback_service("] {
            assert!(!text.contains(way), "{} registers a route with {way}", path.display());
        }
    }
}

#[test]
fn the_page_shows_every_operation_without_script() {
    let installation = Installation::new();
    let server = installation.start();
    let page = server.get("/docs");
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
    let html = std::str::from_utf8(page.body()).unwrap();
    let document: Value = serde_json::from_slice(server.get("/openapi.json").body()).unwrap();
    for (_, path, operation) in operations(&document) {
        assert!(html.contains(&format!("<code>{path}</code>")), "{path}");
        assert!(html.contains(&format!("id=\"{}\"", operation["operationId"].as_str().unwrap())), "{path}");
    }
    for absent in ["<script", "style=", "onclick", "http://", "https://"] {
        let without_examples = html.replace("http://127.0.0.1:7070", "");
        assert!(!without_examples.contains(absent), "{absent}");
    }
    let style = server.get("/docs/style.css");
    assert_eq!(style.headers()["content-type"], "text/css; charset=utf-8");
    assert!(html.contains("href=\"/docs/style.css\"") && html.len() < 300_000, "{}", html.len());
}
