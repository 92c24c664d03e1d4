//! Sinks as tasks of an erasure, with a real PostgreSQL: erased, looked at again, and not erased twice when an answer is lost.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use idtrail_verify::Verdict;
use serde_json::json;

use crate::cluster::Cluster;
use crate::office::{HASH, Office, event, steps};
use crate::rig::{Installation, idtrail};

/// Passes everything on to PostgreSQL, and on demand loses the answer to an erasure: the statement gets there, and the
/// client hears nothing of it any more.
struct Lossy {
    port: u16,
    lose: Arc<AtomicBool>,
    erasures: Arc<AtomicU32>,
}

impl Lossy {
    fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (lose, erasures) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let new = Self { port, lose: Arc::clone(&lose), erasures: Arc::clone(&erasures) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", target))) else {
                    break;
                };
                let (lose, erasures) = (Arc::clone(&lose), Arc::clone(&erasures));
                std::thread::spawn(move || pass(client, server, &lose, &erasures));
            }
        });
        new
    }
}

fn pass(client: TcpStream, server: TcpStream, lose: &AtomicBool, erasures: &AtomicU32) {
    let deaf = Arc::new(AtomicBool::new(false));
    let back = {
        let (mut from, mut to, deaf) =
            (server.try_clone().unwrap(), client.try_clone().unwrap(), Arc::clone(&deaf));
        std::thread::spawn(move || {
            let mut buffer = [0; 16_384];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if !deaf.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        })
    };
    let (mut from, mut to) = (client, server);
    let mut buffer = [0; 16_384];
    let mut prepared = false;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if text.contains("DELETE FROM") {
            prepared = true;
        } else if prepared {
            // The statement was prepared; this carries it out.
            prepared = false;
            erasures.fetch_add(1, Ordering::SeqCst);
            if lose.swap(false, Ordering::SeqCst) {
                deaf.store(true, Ordering::SeqCst);
            }
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = back.join();
}

fn config(port: u16) -> String {
    format!(
        "[rights]\ngrace_hours = 0\nretry_seconds = 1\n\
         [sinks.table]\nerase = \"delete\"\n[sinks.table.rights]\nuser = \"idtrail_eraser\"\n[sinks.table.target]\n\
         kind = \"postgres\"\nhost = \"127.0.0.1\"\nport = {port}\ndatabase = \"postgres\"\nuser = \"idtrail_writer\"\n\
         tls = \"disable\"\ntable = \"audit.table\"\n"
    )
}

fn wait(what: &str, until: impl Fn() -> bool) {
    let started = Instant::now();
    while !until() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rows_in_a_sink_are_erased_once_even_if_the_answer_is_lost_and_the_server_dies() {
    let cluster = Cluster::start();
    let lossy = Lossy::start(cluster.port);
    let installation = Installation::with(&config(lossy.port));
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let ddl = idtrail(&["sink", "ddl", "table", "--config", installation.config().to_str().unwrap()]);
    cluster.sql(&String::from_utf8(ddl.stdout).unwrap());
    let server = installation.start();
    for number in 0..6 {
        let customer = ["lost", "killed", "kept"][number as usize % 3];
        assert_eq!(server.post_event(&installation, &event(customer, number)).0, StatusCode::CREATED);
    }
    // Steps of requests are rows of the sink too.
    let count = || {
        cluster
            .sql("SELECT count(*) FROM audit.table WHERE seq BETWEEN 2 AND 7")
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    wait("the sink has everything", || count() == 6);

    // The answer is lost while the server lives: it looks before it repeats.
    let office = Office::open(&server, &installation, &second);
    let id = office.request("ERASURE", "lost");
    office.verify(&id);
    let plan = office.until(&id, "PLANNED");
    assert_eq!(plan["items"]["sink/table"]["method"], "CONNECTOR", "{plan:#}");
    lossy.lose.store(true, Ordering::SeqCst);
    office.approve(&id);
    wait("the rows are gone", || count() == 4);
    let started = Instant::now();
    let closed = loop {
        let shown = office.shown(&id);
        if shown["state"] == "CLOSED_FULFILLED" {
            break shown;
        }
        assert!(started.elapsed() < Duration::from_secs(40), "{shown:#}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(closed["items"]["sink/table"]["status"], "VERIFIED_ABSENT", "{closed:#}");
    assert!(
        steps(&closed).contains(&"TASK_RETRY"),
        "that nobody knew stands in the log: {:?}",
        steps(&closed)
    );
    assert_eq!(lossy.erasures.load(Ordering::SeqCst), 1, "it was looked at, not repeated");
    let certificate = office.certificate(&id);
    let report = idtrail_verify::verify_certificate(&certificate, &installation.policy());
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    let certificate: serde_json::Value = serde_json::from_slice(&certificate).unwrap();
    let task =
        certificate["body"]["tasks"].as_array().unwrap().iter().find(|task| task["item"] == "sink/table");
    let residuals = task.unwrap()["residuals"].as_array().unwrap();
    assert!(
        residuals.iter().any(|one| one["mechanism"] == "dead-row-versions-until-vacuum"),
        "what remains is named: {residuals:?}"
    );

    // The answer is lost because the server dies.
    let id = office.request("ERASURE", "killed");
    office.verify(&id);
    lossy.lose.store(true, Ordering::SeqCst);
    office.approve(&id);
    wait("the rows are gone", || count() == 2);
    drop(office);
    server.kill();
    let server = installation.start();
    let office = Office::open(&server, &installation, &second);
    wait("the requests are read", || office.get(&format!("/{id}")).0 == StatusCode::OK);
    let closed = office.until(&id, "CLOSED_FULFILLED");
    assert_eq!(closed["items"]["sink/table"]["status"], "VERIFIED_ABSENT", "{closed:#}");
    let names = steps(&closed);
    let times = |name: &str| names.iter().filter(|one| **one == name).count();
    assert_eq!(times("TASK_INTENT"), times("TASK_OUTCOME"), "{names:?}");
    assert_eq!(lossy.erasures.load(Ordering::SeqCst), 2, "it was looked at, not repeated");
    assert_eq!(count(), 2, "nobody else's rows");
}

#[test]
fn a_sink_without_a_grant_is_named_as_missing_and_taken_up_again() {
    let cluster = Cluster::start();
    let installation = Installation::with(&config(cluster.port));
    let second = installation.credential(&["--person", "--name", "dpo-2", "--role", "dpo"]);
    let ddl = idtrail(&["sink", "ddl", "table", "--config", installation.config().to_str().unwrap()]);
    cluster.sql(&String::from_utf8(ddl.stdout).unwrap());
    let server = installation.start();
    server.post_event(&installation, &event("one", 1));
    let count =
        || cluster.sql("SELECT count(*) FROM audit.table WHERE seq = 2").trim().parse::<u64>().unwrap();
    wait("the sink has it", || count() == 1);
    cluster.sql("REVOKE ALL ON audit.table FROM idtrail_eraser");
    let office = Office::open(&server, &installation, &second);
    let id = office.request("ERASURE", "one");
    office.verify(&id);
    office.approve(&id);
    wait("a person must look", || office.shown(&id)["items"]["sink/table"]["status"] == "DEAD");
    assert_eq!(count(), 1);
    cluster.sql("GRANT SELECT, DELETE ON audit.table TO idtrail_eraser");
    let (status, said) = office.say(&id, 0, "reopen", json!({ "item": "sink/table", "evidence": HASH }));
    assert_eq!(status, StatusCode::OK, "{said}");
    office.until(&id, "CLOSED_FULFILLED");
    assert_eq!(count(), 0);
}
