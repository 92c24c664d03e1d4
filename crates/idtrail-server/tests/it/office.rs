//! Two data protection officers at a server, for tests of requests of data subjects.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use idtrail_verify::{EvidenceEvent, Package};
use serde_json::{Value, json};

use crate::rig::{Installation, Running, query, sample};

pub(crate) const REQUESTS: &str = "/api/v1/rights/requests";
pub(crate) const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn event(customer: &str, number: u64) -> Value {
    let mut event = sample();
    event["auditEvent"]["resolvedCustomerId"] = json!(customer);
    event["auditEvent"]["interactionId"] = json!(format!("{customer}-call-{number}"));
    event["auditEvent"].as_object_mut().unwrap().remove("piiContext");
    event
}

/// Sends a request to a server, however it runs.
pub(crate) type Send<'a> = Box<dyn Fn(Request<Bytes>) -> Response<Bytes> + 'a>;

/// Two data protection officers at a server.
pub(crate) struct Office<'a> {
    send: Send<'a>,
    base: String,
    key: String,
    tokens: [String; 2],
}

impl<'a> Office<'a> {
    pub(crate) fn open(server: &'a Running, of: &'a Installation, second: &(String, String)) -> Self {
        let tokens = [&of.person, second].map(|person| format!("Bearer {}", server.token(person)));
        Self::at(Box::new(|request| server.send(request)), server.url(""), &of.key, tokens)
    }

    pub(crate) fn at(send: Send<'a>, base: String, key: &str, tokens: [String; 2]) -> Self {
        Self { send, base, key: key.to_owned(), tokens }
    }

    /// The same with tokens that were got before.
    pub(crate) fn with_tokens(server: &'a Running, of: &'a Installation, tokens: [String; 2]) -> Self {
        Self::at(Box::new(|request| server.send(request)), server.url(""), &of.key, tokens)
    }

    pub(crate) fn tokens(&self) -> &[String; 2] {
        &self.tokens
    }

    /// Waits until the requests have been read from the log.
    pub(crate) fn until_up(&self) {
        let started = Instant::now();
        while self.get("").0 == StatusCode::SERVICE_UNAVAILABLE {
            assert!(started.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a request to any path, as the first or second officer, or as nobody.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        who: Option<usize>,
        body: Option<&Value>,
    ) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(who) = who {
            request = request.header("x-api-key", &self.key).header("authorization", &self.tokens[who]);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let response = (self.send)(request.body(Bytes::from(body)).unwrap());
        (response.status(), response.body().to_vec())
    }

    pub(crate) fn post(&self, path: &str, who: usize, body: &Value) -> (StatusCode, Value) {
        let (status, answer) = self.ask("POST", &format!("{REQUESTS}{path}"), Some(who), Some(body));
        (status, serde_json::from_slice(&answer).unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> (StatusCode, Vec<u8>) {
        self.ask("GET", &format!("{REQUESTS}{path}"), Some(0), None)
    }

    /// Reads an answer that must be there.
    pub(crate) fn read(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, Some(0), None);
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap()
    }

    pub(crate) fn request(&self, kind: &str, customer: &str) -> String {
        self.open_with(&json!({ "kind": kind, "customerIdHash": customer }))
    }

    pub(crate) fn open_with(&self, body: &Value) -> String {
        let (status, opened) = self.post("", 0, body);
        assert_eq!(status, StatusCode::CREATED, "{opened}");
        opened["requestId"].as_str().unwrap().to_owned()
    }

    pub(crate) fn say(&self, id: &str, who: usize, command: &str, body: Value) -> (StatusCode, Value) {
        self.post(&format!("/{id}/{command}"), who, &body)
    }

    pub(crate) fn verify(&self, id: &str) {
        let body = json!({ "level": "ONE_CHANNEL", "method": "otp-mail", "evidence": HASH });
        assert_eq!(self.say(id, 0, "verify", body).0, StatusCode::OK);
    }

    pub(crate) fn shown(&self, id: &str) -> Value {
        let (status, shown) = self.get(&format!("/{id}"));
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&shown).unwrap()
    }

    /// Waits for a state.
    pub(crate) fn until(&self, id: &str, state: &str) -> Value {
        self.until_that(id, state, &|shown| shown["state"] == state)
    }

    /// Waits until the request is as wished.
    pub(crate) fn until_that(&self, id: &str, what: &str, wished: &dyn Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let shown = self.shown(id);
            if wished(&shown) {
                return shown;
            }
            assert!(started.elapsed() < PATIENCE, "not {what} but {shown:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn approve(&self, id: &str) {
        let plan = self.until(id, "PLANNED")["plan"]["hash"].clone();
        for who in 0..2 {
            let (status, said) = self.say(id, who, "approve", json!({ "planHash": plan }));
            assert_eq!(status, StatusCode::OK, "{said}");
        }
    }

    pub(crate) fn certificate(&self, id: &str) -> Vec<u8> {
        let (status, file) = self.get(&format!("/{id}/certificate"));
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&file));
        file
    }
}

pub(crate) fn found(server: &Running, installation: &Installation, customer: &str) -> Vec<u64> {
    let answer = server.access(installation, &query(customer));
    let package: Package = serde_json::from_slice(answer.body()).unwrap();
    // Of an erased person the deletions are left; a request itself has its own under its record.
    let shown = |event: &&EvidenceEvent| {
        customer.starts_with("gc_") || event.audit_event.get("eventType") != Some(&json!("DATA_DELETION"))
    };
    let own = package.events.iter().filter(shown);
    own.map(|event| event.index).collect()
}

pub(crate) fn steps(shown: &Value) -> Vec<&str> {
    shown["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect()
}
