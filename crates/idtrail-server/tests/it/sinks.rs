//! The real server delivers to files and to a real PostgreSQL, through kills and outages, and says what is wrong.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::rig::{Installation, Running, files, idtrail, sample};

const SINKS: &str = "/api/v1/sinks";

fn event(number: u64) -> Value {
    let mut event = sample();
    event["auditEvent"]["interactionId"] = json!(format!("interaction-{number}"));
    event["auditEvent"]["resolvedCustomerId"] = json!(format!("customer-{}", number % 5));
    event
}

/// The keys of the two roles that look after sinks.
struct Keys {
    operator: String,
    admin: String,
}

impl Keys {
    fn of(installation: &Installation) -> Self {
        let key = |role: &str| installation.credential(&["--name", role, "--role", role]).1;
        Self { operator: key("operator"), admin: key("admin") }
    }
}

fn call(server: &Running, method: &str, path: &str, key: &str, body: Option<&Value>) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(server.url(path))
        .header("x-api-key", key)
        .header("content-type", "application/json")
        .body(body.map_or(Bytes::new(), |body| Bytes::from(body.to_string())))
        .unwrap();
    let response = server.send(request);
    (response.status(), serde_json::from_slice(response.body()).unwrap_or(Value::Null))
}

fn state(server: &Running, keys: &Keys, name: &str) -> Value {
    call(server, "GET", &format!("{SINKS}/{name}"), &keys.operator, None).1
}

/// Waits until a sink is as wished and returns its state.
fn until(server: &Running, keys: &Keys, name: &str, wished: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let state = state(server, keys, name);
        if wished(&state) {
            return state;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{state}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn caught_up(server: &Running, keys: &Keys, name: &str) -> Value {
    until(server, keys, name, |state| state["lagEvents"] == 0 && state["state"] == "delivering")
}

/// The places of all rows in a directory of JSON Lines, in the order of the files' names and of their lines.
fn rows(dir: &Path) -> Vec<Value> {
    let mut all = files(dir);
    all.sort();
    let text: Vec<String> = all.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    text.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn seqs(dir: &Path) -> Vec<u64> {
    rows(dir).iter().map(|row| row["seq"].as_u64().unwrap()).collect()
}

fn files_sink(name: &str, extra: &str) -> String {
    format!(
        "[sinks.{name}]\nerase = \"none\"\n{extra}\n[sinks.{name}.target]\nkind = \"files\"\nformat = \"jsonl\"\n\
         dir = \"{name}\"\nlinger_ms = 0\n"
    )
}

fn postgres_sink(name: &str, port: u16) -> String {
    format!(
        "[sinks.{name}]\nerase = \"delete\"\npii = \"tokens\"\ndeadline_s = 5\n[sinks.{name}.target]\nkind = \"postgres\"\n\
         host = \"127.0.0.1\"\nport = {port}\ndatabase = \"postgres\"\nuser = \"idtrail_writer\"\ntls = \"disable\"\n\
         table = \"audit.{name}\"\nrows_max = 20\n"
    )
}

fn command(
    installation: &Installation,
    arguments: &[&str],
    key: Option<(&Running, &str)>,
) -> (Option<i32>, String) {
    let config = installation.config();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_idtrail"));
    command.arg("sink").args(arguments).args(["--config", config.to_str().unwrap()]);
    if let Some((server, key)) = key {
        command.env("IDTRAIL_URL", server.url("")).env("IDTRAIL_KEY", key);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn every_event_arrives_once_in_order_through_kills_and_outages() {
    let cluster = Cluster::start();
    let config = [files_sink("lake", ""), postgres_sink("warehouse", cluster.port)].concat();
    let installation = Installation::with(&config);
    let keys = Keys::of(&installation);
    let (code, ddl) = command(&installation, &["ddl", "warehouse"], None);
    assert_eq!(code, Some(0), "{ddl}");
    cluster.sql(&ddl);
    let mut acknowledged = Vec::new();
    let mut number = 0;
    let mut post = |server: &Running, count: u64| {
        for _ in 0..count {
            let (status, receipt) = server.post_event(&installation, &event(number));
            assert_eq!(status, StatusCode::CREATED);
            acknowledged.push(receipt["index"].as_u64().unwrap());
            number += 1;
        }
    };
    for round in 0..4 {
        let server = installation.start();
        post(&server, 40);
        if round == 1 {
            cluster.down();
            post(&server, 40);
            let stuck = until(&server, &keys, "warehouse", |state| state["lastFailure"]["code"].is_string());
            assert_eq!(stuck["lastFailure"]["code"], "connection", "{stuck}");
            assert!(stuck["lagSeconds"].as_f64().unwrap() < 60.0, "{stuck}");
            // A warehouse that is down is nobody's problem but its own.
            assert_eq!(server.get("/readyz").status(), StatusCode::OK);
            caught_up(&server, &keys, "lake");
        }
        if round == 2 {
            cluster.up();
        }
        server.kill();
    }
    let server = installation.start();
    post(&server, 10);
    let lake = caught_up(&server, &keys, "lake");
    let warehouse = caught_up(&server, &keys, "warehouse");
    assert_eq!(warehouse["grants"]["state"], "append-only", "{warehouse}");
    assert_eq!((&lake["dead"], &warehouse["dead"]), (&json!(0), &json!(0)));
    let up_to = acknowledged.last().unwrap() + 1;
    assert_eq!(warehouse["replicatedUpTo"], format!("0/{up_to}"));
    assert_eq!(seqs(&installation.home().join("lake")), acknowledged);
    assert_eq!(cluster.seqs("audit.warehouse"), acknowledged);
    let metrics = call_text(&server, "/metrics", &keys.operator);
    for line in [
        "idtrail_sink_lag_events{sink=\"warehouse\"} 0\n".to_owned(),
        "idtrail_sink_lag_seconds{sink=\"lake\"} 0.0\n".to_owned(),
        format!("idtrail_sink_replicated_up_to{{sink=\"lake\"}} {up_to}\n"),
        "idtrail_sink_state{sink=\"warehouse\",state=\"delivering\"} 1\n".to_owned(),
        "idtrail_sink_dead_letters{sink=\"warehouse\"} 0\n".to_owned(),
        // The two leaves with which a log begins.
        "idtrail_sink_filtered_events_total{sink=\"lake\"} 2\n".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let (code, table) = command(&installation, &["status", "--watch"], Some((&server, &keys.operator)));
    assert_eq!(code, Some(0), "{table}");
    assert!(
        table.contains("lake") && table.contains("delivering") && table.contains(&format!("0/{up_to}")),
        "{table}"
    );
    // Nothing that names a person is in a warehouse that cannot forget one.
    let references = rows(&installation.home().join("lake"));
    assert!(references.iter().all(|row| row["customer_id"].as_str().unwrap().starts_with("cr_")));
    for path in files(&installation.home().join("lake")) {
        let text = std::fs::read_to_string(path).unwrap();
        for absent in ["customer-", "interaction-", "gc_", "a591a6d4", "phone_hash"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }
    server.stop();
}

fn call_text(server: &Running, path: &str, key: &str) -> String {
    let request = Request::get(server.url(path)).header("x-api-key", key).body(Bytes::new()).unwrap();
    String::from_utf8(server.send(request).body().to_vec()).unwrap()
}

#[test]
fn what_a_target_refuses_is_shown_set_aside_and_sent_again() {
    let cluster = Cluster::start();
    let installation = Installation::with(&postgres_sink("warehouse", cluster.port));
    let keys = Keys::of(&installation);
    let server = installation.start();
    let indices: Vec<u64> = (0..20)
        .map(|number| server.post_event(&installation, &event(number)).1["index"].as_u64().unwrap())
        .collect();
    // The table is missing: a person must act, and nothing is lost until then.
    let stopped = until(&server, &keys, "warehouse", |state| state["state"] == "stopped");
    assert_eq!(stopped["lastFailure"]["status"], "42P01", "{stopped}");
    let (code, table) = command(&installation, &["status"], Some((&server, &keys.operator)));
    assert_eq!(code, Some(7), "{table}");
    assert!(table.contains("42P01"), "{table}");
    cluster.sql(&command(&installation, &["ddl", "warehouse"], None).1);
    let bad = indices[7];
    cluster.sql(&format!("ALTER TABLE audit.warehouse ADD CONSTRAINT liked CHECK (seq <> {bad})"));
    let (code, text) = command(&installation, &["resume", "warehouse"], Some((&server, &keys.operator)));
    assert_eq!(code, Some(0), "{text}");
    let state = caught_up(&server, &keys, "warehouse");
    assert_eq!((&state["dead"], &state["delivered"]), (&json!(1), &json!(19)), "{state}");
    let (_, letters) = call(&server, "GET", &format!("{SINKS}/warehouse/dead-letters"), &keys.operator, None);
    assert_eq!((&letters["total"], &letters["next"]), (&json!(1), &Value::Null));
    let letter = &letters["deadLetters"][0];
    assert_eq!((&letter["at"], &letter["status"]), (&json!(format!("0/{bad}")), &json!("23514")));
    let (_, shown) = command(&installation, &["dead-letters", "warehouse"], Some((&server, &keys.operator)));
    assert!(shown.contains(&format!("0/{bad}")) && !shown.contains("customer-"), "{shown}");
    // Mended, then sent again; and rows that somebody took away come back by a replay from the first place.
    cluster.sql("ALTER TABLE audit.warehouse DROP CONSTRAINT liked");
    let replay = ["replay", "warehouse", "--dead-letters"];
    assert_eq!(command(&installation, &replay, Some((&server, &keys.operator))).0, Some(0));
    until(&server, &keys, "warehouse", |state| state["dead"] == 0);
    cluster.sql("DELETE FROM audit.warehouse WHERE seq % 2 = 0");
    let replay = ["replay", "warehouse", "--from", "0/0"];
    assert_eq!(command(&installation, &replay, Some((&server, &keys.operator))).0, Some(0));
    let started = Instant::now();
    while cluster.seqs("audit.warehouse") != indices {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", cluster.seqs("audit.warehouse"));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    // What rows look like is for who may see events.
    let path = format!("{SINKS}/warehouse/preview?count=3");
    let (_, for_operator) = call(&server, "GET", &path, &keys.operator, None);
    let (_, for_dpo) = call(&server, "GET", &path, &installation.key, None);
    assert!(for_operator["entries"].as_array().unwrap().iter().all(|entry| entry.get("row").is_none()));
    assert!(for_dpo["entries"][2]["row"]["customer_id"].as_str().unwrap().starts_with("gc_"), "{for_dpo}");
    // Another filter or mapping is tried without changing anything.
    let check = |arguments: &[&str], key: &str| {
        command(&installation, &[&["check", "warehouse"], arguments].concat(), Some((&server, key)))
    };
    let file = installation.home().join("proposal.toml");
    std::fs::write(
        &file,
        "filter = \"{{auditEvent.interactionId}} = 'interaction-19'\"\nmapping = [\"interaction.id → target.it required\"]\n",
    )
    .unwrap();
    let (code, text) = check(&["--file", file.to_str().unwrap()], &installation.key);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("columns: log_id int64, seq int64, it text\n"), "{text}");
    assert!(text.contains("\"it\":\"interaction-19\"") && text.contains("filtered"), "{text}");
    let (code, text) = check(&["--mapping", "log.seq → target.n"], &keys.operator);
    assert!(
        code == Some(0) && text.contains("n int64") && !text.contains('{'),
        "rows are for the dpo: {text}"
    );
    for (arguments, place) in
        [(["--filter", "{{auditEvent"], "/filter"), (["--mapping", "nothing"], "/mapping")]
    {
        let (code, text) = check(&arguments, &keys.operator);
        assert!(code != Some(0) && text.contains(place), "{text}");
    }
    let (code, text) = command(&installation, &["check", "warehouse"], Some((&server, &installation.key)));
    assert!(
        code == Some(0) && text.contains("interaction-19") && text.contains("event_time timestamp"),
        "{text}"
    );
    server.stop();
}

#[test]
fn sinks_come_and_go_without_a_restart() {
    let installation = Installation::with(&files_sink("fixed", ""));
    let keys = Keys::of(&installation);
    let mut server = installation.start();
    for number in 0..10 {
        server.post_event(&installation, &event(number));
    }
    let target = json!({ "kind": "files", "format": "jsonl", "dir": "added", "linger_ms": 0 });
    let added = json!({ "name": "added", "erase": "none", "target": target });
    assert_eq!(call(&server, "POST", SINKS, &keys.operator, Some(&added)).0, StatusCode::FORBIDDEN);
    let (status, shown) = call(&server, "POST", SINKS, &keys.admin, Some(&added));
    assert_eq!((status, &shown["source"]), (StatusCode::CREATED, &json!("api")), "{shown}");
    assert_eq!(call(&server, "POST", SINKS, &keys.admin, Some(&added)).0, StatusCode::CONFLICT);
    let mut twin = added.clone();
    twin["name"] = json!("twin");
    let (status, problem) = call(&server, "POST", SINKS, &keys.admin, Some(&twin));
    assert_eq!(
        status,
        StatusCode::CONFLICT,
        "two sinks would each take the other's files for their own: {problem}"
    );
    caught_up(&server, &keys, "added");
    let out = installation.home().join("data/export/added");
    assert_eq!(seqs(&out), (2..12).collect::<Vec<_>>());
    // A pause that was answered survives a kill, and so does the sink.
    let (status, shown) = call(&server, "POST", &format!("{SINKS}/added/pause"), &keys.operator, None);
    assert_eq!((status, &shown["state"]), (StatusCode::OK, &json!("paused")));
    server.kill();
    server = installation.start();
    assert_eq!(state(&server, &keys, "added")["state"], "paused");
    let index = server.post_event(&installation, &event(10)).1["index"].as_u64().unwrap();
    server.post_event(&installation, &event(11));
    // Erased before it was sent: it never is, and counts.
    let shred = json!({ "requestId": "r-1", "indices": [index], "confirm": "shred 1 leaf" });
    assert_eq!(call(&server, "POST", "/api/v1/admin/shred", &keys.admin, Some(&shred)).0, StatusCode::OK);
    assert_eq!(
        call(&server, "POST", &format!("{SINKS}/added/resume"), &keys.operator, None).0,
        StatusCode::OK
    );
    let shown = caught_up(&server, &keys, "added");
    assert_eq!((&shown["erased"], &shown["delivered"]), (&json!(1), &json!(11)), "{shown}");
    assert_eq!(seqs(&out), (2..14).filter(|seq| *seq != index).collect::<Vec<_>>());
    // Changed, it goes on where it stands.
    let changed = json!({
        "erase": "none", "target": target, "filter": "{{auditEvent.interactionId}} = 'interaction-13'"
    });
    let path = format!("{SINKS}/added");
    assert_eq!(call(&server, "PUT", &path, &keys.admin, Some(&changed)).0, StatusCode::OK);
    server.post_event(&installation, &event(12));
    let last = server.post_event(&installation, &event(13)).1["index"].as_u64().unwrap();
    caught_up(&server, &keys, "added");
    assert_eq!(seqs(&out).last(), Some(&last));
    // Removed, also for the next start; a new one of the same name begins at the first entry.
    assert_eq!(call(&server, "DELETE", &path, &keys.admin, None).0, StatusCode::NO_CONTENT);
    assert_eq!(call(&server, "GET", &path, &keys.operator, None).0, StatusCode::NOT_FOUND);
    server.kill();
    server = installation.start();
    assert_eq!(call(&server, "GET", &path, &keys.operator, None).0, StatusCode::NOT_FOUND);
    let again = json!({
        "name": "added", "erase": "none", "target": { "kind": "files", "format": "parquet", "dir": "again" }
    });
    assert_eq!(call(&server, "POST", SINKS, &keys.admin, Some(&again)).0, StatusCode::CREATED);
    let shown = caught_up(&server, &keys, "added");
    assert!(shown["delivered"].as_u64().unwrap() >= 12, "{shown}");
    // Those of the configuration file stay as they are.
    for (method, body) in [("PUT", Some(&changed)), ("DELETE", None)] {
        let (status, problem) = call(&server, method, &format!("{SINKS}/fixed"), &keys.admin, body);
        assert_eq!(status, StatusCode::CONFLICT, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("configuration file"), "{problem}");
    }
    refusals(&server, &keys);
    server.stop();
}

fn refusals(server: &Running, keys: &Keys) {
    let sink = |target: Value, extra: Value| {
        let mut sink = json!({ "name": "bad", "erase": "none", "target": target });
        sink.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        sink
    };
    let files = || json!({ "kind": "files", "format": "jsonl", "dir": "bad" });
    let base =
        || json!({ "kind": "postgres", "host": "10.0.0.1", "database": "d", "user": "u", "table": "a.b" });
    let hook = |url: &str| json!({ "kind": "webhook", "url": url, "secrets": [{ "env": "IDTRAIL_SINK_X" }] });
    let cases = [
        (sink(files(), json!({ "filter": "{{auditEvent" })), "/filter"),
        (sink(files(), json!({ "mapping": ["nothing"] })), "/mapping"),
        (
            sink(files(), json!({ "mapping": ["{{auditEvent.piiContext.phoneHash}} → target.phone"] })),
            "/mapping",
        ),
        (sink(files(), json!({ "pii": "tokens" })), "/pii"),
        (sink(files(), json!({ "pii": "everything" })), "/pii"),
        (sink(files(), json!({ "erase": "delete" })), "/erase"),
        (sink(files(), json!({ "deadline_s": 0 })), "/deadline_s"),
        (sink(files(), json!({ "name": "../x" })), "/name"),
        (sink(files(), json!({ "colour": 1 })), "/colour"),
        (sink(json!({ "kind": "files", "dir": "x" }), json!({})), "/target/format"),
        (sink(json!({ "kind": "files", "format": "jsonl", "dir": "../vault" }), json!({})), "/target/dir"),
        (sink(json!({ "kind": "ftp" }), json!({})), "/target/kind"),
        (sink(files(), json!({ "rights": { "user": "eraser" } })), "/rights"),
        (
            sink(
                json!({ "kind": "snowflake", "account": "o-a", "url": "https://10.0.0.1", "user": "u", "role": "r",
                    "key": { "file": "k" }, "warehouse": "w", "table": "a.b.c" }),
                json!({}),
            ),
            "/target",
        ),
        (
            sink(
                json!({ "kind": "bigquery", "table": "p.d.t", "key": { "file": "k" } }),
                json!({ "erase": "delete", "rights": { "key": { "env": "HOME" } } }),
            ),
            "/rights",
        ),
        (sink(base(), json!({ "erase": "delete" })), "/target/host"),
        (sink(hook("https://example.com/in"), json!({})), "/target"),
        (
            sink(
                json!({ "kind": "webhook", "url": "http://169.254.169.254/", "secrets": [], "allow_http": true }),
                json!({}),
            ),
            "/target",
        ),
    ];
    for (body, pointer) in cases {
        let (status, problem) = call(server, "POST", SINKS, &keys.admin, Some(&body));
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    let (status, _) = call(server, "GET", &format!("{SINKS}/bad"), &keys.operator, None);
    assert_eq!(status, StatusCode::NOT_FOUND, "nothing of them is left");
}

#[test]
fn receivers_that_cannot_be_trusted_are_named_and_cost_nothing() {
    let other = Installation::with("[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(other.home().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(other.home().join("cert.pem"), made.cert.pem()).unwrap();
    let receiver = other.start();
    let hook = |name: &str, url: &str, extra: &str| {
        format!(
            "[sinks.{name}]\nerase = \"none\"\n[sinks.{name}.target]\nkind = \"webhook\"\nurl = \"{url}\"\n\
             secrets = [{{ file = \"hook.secret\" }}]\n{extra}\n"
        )
    };
    let tls = format!("https://localhost:{}/in", receiver.address.port());
    let config = [
        hook("private", "https://127.0.0.1:9/in", ""),
        hook("named", "https://localhost:9/in", ""),
        hook("metadata", "http://169.254.169.254/in", "allow_http = true"),
        hook("untrusted", &tls, "allow_networks = [\"127.0.0.0/8\", \"::1/128\"]"),
        hook("secretless", &tls, "").replace("hook.secret", "missing.secret"),
    ]
    .concat();
    let installation = Installation::with(&config);
    std::fs::write(installation.home().join("hook.secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
        .unwrap();
    let keys = Keys::of(&installation);
    let server = installation.start();
    assert_eq!(server.post_event(&installation, &event(0)).0, StatusCode::CREATED);
    for (name, code) in [
        ("private", "address_not_public"),
        ("named", "address_not_public"),
        ("metadata", "address_not_public"),
        ("untrusted", "certificate"),
    ] {
        let shown = until(&server, &keys, name, |state| state["state"] == "stopped");
        assert_eq!(
            (&shown["lastFailure"]["code"], &shown["dead"]),
            (&json!(code), &json!(0)),
            "{name}: {shown}"
        );
    }
    let broken = state(&server, &keys, "secretless");
    assert_eq!(broken["state"], "broken", "{broken}");
    assert!(broken["problem"].as_str().unwrap().contains("missing.secret"), "{broken}");
    assert_eq!(server.get("/readyz").status(), StatusCode::OK);
    let dead = call(&server, "GET", &format!("{SINKS}/secretless/dead-letters"), &keys.operator, None);
    assert_eq!(dead.0, StatusCode::CONFLICT);
    // Mended, it is started without a restart.
    std::fs::write(installation.home().join("missing.secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .unwrap();
    let resumed = call(&server, "POST", &format!("{SINKS}/secretless/resume"), &keys.operator, None);
    assert_eq!(resumed.0, StatusCode::OK, "{}", resumed.1);
    until(&server, &keys, "secretless", |state| state["state"] == "stopped");
    // No secret is in anything that the server says.
    let all = call_text(&server, SINKS, &keys.operator)
        + &call_text(&server, &format!("{SINKS}/private"), &keys.operator);
    assert!(!all.contains("MfKQ9r8G") && all.contains("hook.secret"), "{all}");
    server.stop();
    assert!(!installation.log.lock().unwrap().contains("MfKQ9r8G"));
    let check = idtrail(&["config", "check", "--config", installation.config().to_str().unwrap()]);
    assert!(!String::from_utf8_lossy(&check.stdout).contains("MfKQ9r8G"));
}
