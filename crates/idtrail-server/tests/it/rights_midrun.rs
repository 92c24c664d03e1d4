//! What changes while an erasure runs: identities that merge or split, holds, half-verified requesters. Each has a clear end
//! that stands in the log.

use std::time::{Duration, Instant};

use http::StatusCode;
use idtrail_verify::Verdict;
use serde_json::{Value, json};

use crate::office::{HASH, Office, PATIENCE, event, found, steps};
use crate::rig::{Installation, Running};

const HALF: &str = "[limits]\nreads_per_second = 0\n[rights]\ngrace_hours = 0\n";

struct Desk<'a> {
    server: &'a Running,
    key: String,
    token: String,
}

impl Desk<'_> {
    fn call(&self, path: &str, body: Value) -> Value {
        let headers = [("x-api-key", self.key.as_str()), ("authorization", self.token.as_str())];
        let answer = self.server.post(path, &headers, body.to_string());
        assert!(answer.status().is_success(), "{path}: {:?}", answer.body());
        serde_json::from_slice(answer.body()).unwrap()
    }

    /// Resolves a customer by an address, and returns the global id.
    fn customer(&self, mail: &str, interaction: &str) -> String {
        let identifiers = json!([{ "type": "email", "value": mail, "assurance": 2 }]);
        let body =
            json!({ "interactionId": interaction, "channelType": "EMAIL", "identifiers": identifiers });
        self.call("/api/v1/identity/resolve", body)["gcid"].as_str().unwrap().to_owned()
    }
}

fn installation(config: &str) -> (Installation, (String, String), String) {
    let installation = Installation::with(config);
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let desk = installation
        .credential(&["--name", "desk", "--role", "resolve", "--role", "dpo", "--role", "ingest"])
        .1;
    (installation, second, desk)
}

fn invalidated(office: &Office<'_>, id: &str, times: usize) -> Value {
    let started = Instant::now();
    loop {
        let shown = office.shown(id);
        let count = steps(&shown).iter().filter(|step| **step == "DSR_PLAN_INVALIDATED").count();
        if count == times && shown["state"] == "PLANNED" {
            return shown;
        }
        assert!(started.elapsed() < PATIENCE, "{shown:#}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn identities_that_merge_or_split_in_mid_run_need_another_plan_and_other_approvals() {
    let (installation, second, key) = installation(HALF);
    let server = installation.start();
    let office = Office::open(&server, &installation, &second);
    let desk = Desk { server: &server, key, token: format!("Bearer {}", server.token(&installation.person)) };
    let one = desk.customer("one@example.com", "mail-1");
    let other = desk.customer("other@example.com", "mail-2");
    desk.customer("other@example.com", "mail-3");
    let id = office.request("ERASURE", &one);
    office.verify(&id);
    let first = office.until(&id, "PLANNED");
    assert_eq!(first["items"]["idtrail/events"]["found"], 1, "{first:#}");
    let approve = |who: usize, plan: &Value| {
        office.say(&id, who, "approve", json!({ "planHash": plan["plan"]["hash"] })).0
    };

    // Merged between the two approvals: what was approved is not what there is.
    assert_eq!(approve(0, &first), StatusCode::OK);
    let merge = json!({ "gcids": [one, other], "reason": "one person" });
    let merged = desk.call("/api/v1/customers:merge", merge);
    assert_eq!(approve(1, &first), StatusCode::OK);
    let second_plan = invalidated(&office, &id, 1);
    assert!(second_plan["items"]["idtrail/events"]["found"].as_u64().unwrap() >= 3, "{second_plan:#}");
    assert_eq!(approve(0, &first), StatusCode::CONFLICT, "the old plan can no longer be approved");

    // Split again: the same.
    assert_eq!(approve(0, &second_plan), StatusCode::OK);
    let undo = json!({ "kind": "REVOKE", "assertionId": merged["assertionId"], "reason": "it was wrong" });
    desk.call("/api/v1/assertions", undo);
    desk.call("/api/v1/customers:split", json!({ "left": [one], "right": [other], "reason": "two persons" }));
    assert_eq!(approve(1, &second_plan), StatusCode::OK);
    let third = invalidated(&office, &id, 2);
    assert_eq!((approve(0, &third), approve(1, &third)), (StatusCode::OK, StatusCode::OK));
    let closed = office.until(&id, "CLOSED_FULFILLED");
    let names = steps(&closed);
    assert_eq!(names.iter().filter(|name| **name == "DSR_FROZEN").count(), 1, "nothing was begun before");
    // Only the one who asked is gone.
    let by = |mail: &str| {
        let body = json!({ "identifier": { "type": "email", "value": mail }, "requestType": "ACCESS" });
        let package = desk.call(crate::rig::ACCESS, body);
        let events = package["events"].as_array().unwrap().iter();
        events.filter(|event| event["auditEvent"]["eventType"] != "DATA_DELETION").count()
    };
    assert_eq!(by("one@example.com"), 0);
    assert!(by("other@example.com") >= 2);
    let report = idtrail_verify::verify_certificate(&office.certificate(&id), &installation.policy());
    assert_eq!(report.verdict, Verdict::Verified);
}

#[test]
fn a_hold_that_is_set_while_tasks_run_keeps_its_item_and_the_rest_goes_on() {
    let lake = "[sinks.lake]\nerase = \"none\"\n[sinks.lake.target]\nkind = \"files\"\nformat = \"jsonl\"\ndir = \"lake\"\n";
    let (installation, second, _) = installation(&format!("{HALF}{lake}"));
    let server = installation.start();
    server.post_event(&installation, &event("held", 1));
    let office = Office::open(&server, &installation, &second);
    let id = office.request("ERASURE", "held");
    office.verify(&id);
    office.approve(&id);
    let running = office.until(&id, "FROZEN");
    assert_eq!(running["items"]["sink/lake"]["status"], "MANUAL_PENDING", "{running:#}");
    let hold = json!({ "hold": "case-9", "items": ["idtrail/events"], "reason": "legal-claims" });
    assert_eq!(office.say(&id, 0, "hold", hold.clone()).0, StatusCode::OK);
    assert_eq!(office.say(&id, 1, "hold", hold).0, StatusCode::CONFLICT, "it is set already");
    let attest = json!({ "item": "sink/lake", "count": 1, "evidence": HASH });
    assert_eq!(office.say(&id, 0, "attest", attest).0, StatusCode::OK);
    let partial = office.until(&id, "CLOSED_PARTIAL");
    assert_eq!(partial["items"]["idtrail/events"]["status"], "HELD");
    assert_eq!(partial["items"]["sink/lake"]["status"], "MANUAL_ATTESTED");
    assert_eq!(found(&server, &installation, "held").len(), 1, "what is held can still be read");
    let exempt = json!({ "item": "idtrail/nothing", "basis": "17(3)(e)", "evidence": HASH });
    assert_eq!(office.say(&id, 0, "exempt", exempt).0, StatusCode::CONFLICT);
    assert_eq!(office.say(&id, 1, "release", json!({ "hold": "case-9" })).0, StatusCode::OK);
    office.until(&id, "CLOSED_FULFILLED");
    assert_eq!(found(&server, &installation, "held"), [0_u64; 0]);
}

#[test]
fn an_exemption_keeps_one_item_with_its_basis_and_whoever_fails_too_often_is_a_persons_decision() {
    let (installation, second, _) = installation(HALF);
    let server = installation.start();
    server.post_event(&installation, &event("exempt", 1));
    let office = Office::open(&server, &installation, &second);
    let id = office.request("ERASURE", "exempt");
    for _ in 0..5 {
        let failed = office.say(&id, 0, "fail-verification", json!({ "method": "otp-mail" }));
        assert_eq!(failed.0, StatusCode::OK);
    }
    let shown = json!({ "level": "ONE_CHANNEL", "method": "otp-mail", "evidence": HASH });
    let (status, refused) = office.say(&id, 0, "verify", shown);
    assert_eq!((status, refused["code"].as_str()), (StatusCode::CONFLICT, Some("conflict")), "{refused}");
    office.say(&id, 0, "deny", json!({ "reason": "not-verifiable", "evidence": HASH }));
    assert_eq!(office.shown(&id)["state"], "DENIED");

    let id = office.request("ERASURE", "exempt");
    office.verify(&id);
    office.until(&id, "PLANNED");
    let exempt = json!({ "item": "idtrail/events", "basis": "17(3)(b)", "evidence": HASH });
    assert_eq!(office.say(&id, 0, "exempt", exempt).0, StatusCode::OK);
    office.approve(&id);
    let closed = office.until(&id, "CLOSED_FULFILLED");
    assert_eq!(closed["items"]["idtrail/events"]["status"], "EXEMPT");
    assert_eq!(closed["items"]["idtrail/events"]["reason"], "17(3)(b)");
    assert_eq!(found(&server, &installation, "exempt").len(), 1, "it stays, and is not erased besides");
    let report = idtrail_verify::verify_certificate(&office.certificate(&id), &installation.policy());
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
}

#[test]
fn two_people_who_share_a_number_are_erased_at_once_and_a_third_one_keeps_what_they_had() {
    let (installation, second, key) = installation(HALF);
    let server = installation.start();
    let office = Office::open(&server, &installation, &second);
    let desk = Desk { server: &server, key, token: format!("Bearer {}", server.token(&installation.person)) };
    let person = |name: &'static str| {
        for number in 0..3 {
            let mut event = event(name, number);
            if number > 0 {
                event["auditEvent"]["piiContext"] = json!({ "phoneHash": "5a".repeat(32) });
            }
            server.post_event(&installation, &event);
        }
        name
    };
    let (first, other, third) = (person("first"), person("other"), person("third"));
    let answer = |desk: &Desk<'_>, gcid: &str| {
        let package =
            desk.call(crate::rig::ACCESS, json!({ "customerIdHash": gcid, "requestType": "ACCESS" }));
        let events = package["events"].as_array().unwrap().iter();
        let told =
            events.map(|event| json!([event["index"], event["auditEvent"]["eventType"], event["leaf"]]));
        (package["customer"].clone(), told.collect::<Vec<_>>())
    };
    let before = answer(&desk, third);
    assert!(before.1.len() >= 3, "{before:?}");

    let requests = [first, other].map(|gcid| office.request("ERASURE", gcid));
    for id in &requests {
        office.verify(id);
    }
    let plans = requests.each_ref().map(|id| office.until(id, "PLANNED")["plan"]["hash"].clone());
    for who in 0..2 {
        for (id, plan) in requests.iter().zip(&plans) {
            office.say(id, who, "approve", json!({ "planHash": plan }));
        }
    }
    let started = Instant::now();
    for id in &requests {
        loop {
            let shown = office.shown(id);
            match shown["state"].as_str() {
                Some("CLOSED_FULFILLED") => break,
                // What is known of the one changed with the erasure of the other: another plan, other approvals.
                Some("PLANNED") => office.approve(id),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
            assert!(started.elapsed() < PATIENCE, "{shown:#}");
        }
        let report = idtrail_verify::verify_certificate(&office.certificate(id), &installation.policy());
        assert_eq!(report.verdict, Verdict::Verified);
    }
    let check = |desk: &Desk<'_>| {
        assert_eq!(answer(desk, third), before, "nothing changed for the third one");
        for gcid in [first, other] {
            let (_, events) = answer(desk, gcid);
            assert!(
                !events.is_empty() && events.iter().all(|event| event[1] == "DATA_DELETION"),
                "{events:?}"
            );
        }
    };
    check(&desk);
    // The same follows from the leaves that are left, and from nothing else.
    let Desk { key, .. } = desk;
    drop(office);
    server.stop();
    let server = installation.start();
    let office = Office::open(&server, &installation, &second);
    office.until_up();
    let token = format!("Bearer {}", server.token(&installation.person));
    check(&Desk { server: &server, key, token });
}
