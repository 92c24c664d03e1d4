//! Who is who over several logs: after restores, with a log in between that nobody has any more, and after an erasure then.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::rig::{Installation, Running, idtrail, sample};

fn command(installation: &Installation, arguments: &[&str]) -> Value {
    let config = installation.config();
    let output = idtrail(&[arguments, &["--json", "--config", config.to_str().unwrap()]].concat());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?} {told} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&told).unwrap()
}

/// A call of somebody of whom only the telephone is known, as its hash.
fn call(phone: u8, number: u64) -> Value {
    let mut event = sample();
    event["auditEvent"]["resolvedCustomerId"] = Value::Null;
    event["auditEvent"]["interactionId"] = json!(format!("call-{phone}-{number}"));
    event["auditEvent"]["piiContext"] = json!({ "phoneHash": format!("{phone:02x}").repeat(32), "emailHash": null, "accountNumberHash": null });
    event
}

fn post(server: &Running, of: &Installation, event: &Value) -> (String, u64) {
    let (status, receipt) = server.post_event(of, event);
    assert_eq!(status, StatusCode::CREATED, "{receipt}");
    (receipt["origin"].as_str().unwrap().to_owned(), receipt["index"].as_u64().unwrap())
}

/// Returns the customer's id of today and the places of its interactions.
fn shown(server: &Running, of: &Installation, id: &str) -> (String, Vec<(String, u64)>) {
    let request = Request::get(server.url(&format!("/api/v1/customers/{id}"))).header("x-api-key", &of.key);
    let response = server.send(request.body(bytes::Bytes::new()).unwrap());
    let shown: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{shown}");
    let places = shown["interactions"].as_array().unwrap().iter();
    let places = places
        .map(|one| (one["origin"].as_str().unwrap().to_owned(), one["index"].as_u64().unwrap()))
        .collect();
    (shown["gcid"].as_str().unwrap().to_owned(), places)
}

fn customer_of(server: &Running, of: &Installation, phone: u8) -> String {
    let query = json!({ "customerIdHash": format!("{phone:02x}").repeat(32), "requestType": "ACCESS" });
    let answer = server.access(of, &query);
    let package: Value = serde_json::from_slice(answer.body()).unwrap();
    package["customer"]["globalCustomerId"].as_str().unwrap_or_else(|| panic!("{package}")).to_owned()
}

fn restored(installation: &mut Installation, backup: &str) {
    std::fs::remove_dir_all(installation.home().join("data")).unwrap();
    command(installation, &["restore", backup]);
    let roles = ["--name", "contact-centre", "--role", "ingest", "--role", "dpo", "--role", "auditor"];
    installation.key = installation.credential(&roles).1;
    installation.person = installation.credential(&["--person", "--name", "dpo-1", "--role", "dpo"]);
}

#[test]
fn one_person_over_three_logs_of_which_one_is_lost_and_an_erasure_then() {
    let mut installation = Installation::new();
    let config = installation.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[vault]", "[vault]\ncopies = [\"copy\"]")).unwrap();
    let backup = installation.dir.path().join("backup").display().to_string();
    let server = installation.start();
    let first = post(&server, &installation, &call(7, 1));
    let other = post(&server, &installation, &call(8, 1));
    let (customer, stranger) =
        (customer_of(&server, &installation, 7), customer_of(&server, &installation, 8));
    assert_ne!(customer, stranger);
    server.stop();
    command(&installation, &["backup", &backup, "--on-one-device"]);

    restored(&mut installation, &backup);
    let server = installation.start();
    let lost = post(&server, &installation, &call(7, 2));
    assert_ne!(lost.0, first.0, "a restored installation writes a log of its own");
    assert_eq!(shown(&server, &installation, &customer).1, [first.clone(), lost.clone()]);
    server.stop();

    // Nobody saved the second log.
    restored(&mut installation, &backup);
    let server = installation.start();
    let third = post(&server, &installation, &call(7, 3));
    let other_third = post(&server, &installation, &call(8, 2));
    assert!(third.0 != first.0 && third.0 != lost.0, "{third:?}");
    assert_eq!(
        shown(&server, &installation, &customer),
        (customer.clone(), vec![first.clone(), third.clone()])
    );
    let whole = (stranger.clone(), vec![other, other_third]);
    assert_eq!(shown(&server, &installation, &stranger), whole);

    // An erasure in the newest log: who is who is folded again over what is left of all logs.
    let admin = installation.credential(&["--name", "operations", "--role", "admin"]).1;
    server.stop();
    let server = installation.start();
    let order = json!({ "requestId": "r-1", "indices": [third.1], "confirm": "shred 1 leaf" });
    let answer = server.post("/api/v1/admin/shred", &[("x-api-key", &admin)], order.to_string());
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
    let left = (customer.clone(), vec![first.clone()]);
    assert_eq!(shown(&server, &installation, &customer), left);
    assert_eq!(shown(&server, &installation, &stranger), whole);
    let later = post(&server, &installation, &call(7, 4));
    let after = (customer.clone(), vec![first, later]);
    assert_eq!(shown(&server, &installation, &customer), after);
    server.kill();
    let server = installation.start();
    assert_eq!(shown(&server, &installation, &customer), after);
    assert_eq!(shown(&server, &installation, &stranger), whole);
}
