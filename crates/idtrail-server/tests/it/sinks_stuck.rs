//! Targets that take connections and never answer: events are acknowledged, other sinks deliver, the server stays ready and
//! stops when it is told to.

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::rig::{Installation, Running, files, sample};

/// Takes every connection, keeps it open and says nothing.
fn silent() -> (u16, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&kept);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            taken.lock().unwrap().push(stream);
        }
    });
    (port, kept)
}

fn state(server: &Running, key: &str, name: &str) -> Value {
    let request = Request::builder()
        .uri(server.url(&format!("/api/v1/sinks/{name}")))
        .header("x-api-key", key)
        .body(bytes::Bytes::new())
        .unwrap();
    serde_json::from_slice(server.send(request).body()).unwrap()
}

#[test]
fn targets_that_never_answer_cost_nobody_anything() {
    let (port, connections) = silent();
    let stuck = format!(
        "[sinks.silent_hook]\nerase = \"none\"\ndeadline_s = 600\n[sinks.silent_hook.target]\nkind = \"webhook\"\n\
         url = \"http://127.0.0.1:{port}/hook\"\nsecrets = [{{ file = \"hook.secret\" }}]\nallow_http = true\n\
         allow_networks = [\"127.0.0.0/8\"]\n\
         [sinks.silent_database]\nerase = \"delete\"\ndeadline_s = 600\n[sinks.silent_database.target]\n\
         kind = \"postgres\"\nhost = \"127.0.0.1\"\nport = {port}\ndatabase = \"d\"\nuser = \"w\"\ntls = \"disable\"\n\
         table = \"audit.events\"\n"
    );
    let works = |name: &str, format: &str| {
        format!(
            "[sinks.{name}]\nerase = \"none\"\n[sinks.{name}.target]\nkind = \"files\"\nformat = \"{format}\"\n\
             dir = \"{name}\"\nlinger_ms = 0\n"
        )
    };
    let installation =
        Installation::with(&[stuck, works("lines", "jsonl"), works("lake", "parquet")].concat());
    let secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    std::fs::write(installation.home().join("hook.secret"), secret).unwrap();
    let key = installation.credential(&["--name", "looks", "--role", "operator"]).1;
    let server = installation.start();
    let mut acknowledged = Vec::new();
    for number in 0..200 {
        let mut event = sample();
        event["auditEvent"]["interactionId"] = json!(format!("interaction-{number}"));
        let (status, receipt) = server.post_event(&installation, &event);
        assert_eq!(status, StatusCode::CREATED, "{receipt}");
        acknowledged.push(receipt["index"].as_u64().unwrap());
    }
    let started = Instant::now();
    for name in ["lines", "lake"] {
        while state(&server, &key, name)["lagEvents"] != 0 {
            assert!(started.elapsed() < Duration::from_secs(30), "{}", state(&server, &key, name));
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert_eq!(state(&server, &key, name)["delivered"], 200);
    }
    let mut rows: Vec<u64> = Vec::new();
    for path in files(&installation.home().join("lines")) {
        let text = std::fs::read_to_string(path).unwrap();
        rows.extend(
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()),
        );
    }
    rows.sort_unstable();
    assert_eq!(rows, acknowledged);
    // They hang in calls that are under way, and have confirmed nothing.
    while connections.lock().unwrap().len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(30), "nobody is connected to the silent target");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    for name in ["silent_hook", "silent_database"] {
        let state = state(&server, &key, name);
        assert_eq!((&state["delivered"], &state["dead"]), (&json!(0), &json!(0)), "{state}");
        assert!(state["lagEvents"].as_u64().unwrap() >= 200, "{state}");
    }
    assert_eq!(server.get("/readyz").status(), StatusCode::OK);
    // A call that hangs holds up no stop.
    server.stop();
    assert!(started.elapsed() < Duration::from_secs(90));
}
