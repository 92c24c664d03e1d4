//! A person is taken out of a sink's table: by the second principal, behind the cursor, and only that person.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use idtrail_connect::Position;
use idtrail_connect::engine::Command;
use idtrail_connect::personal::Erase;
use idtrail_port::os::{OsClock, OsDisk, OsEntropy};
use idtrail_server::engine::Ports;
use idtrail_server::serve::Server;
use idtrail_server::settings::Settings;
use idtrail_server::sinks::SinksError;
use idtrail_server::sinks::rights::SinkRightsError;
use idtrail_vault::Kek;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::rig::{Installation, idtrail, sample};

fn event(number: u64) -> Value {
    let mut event = sample();
    event["auditEvent"]["interactionId"] = json!(format!("interaction-{number}"));
    event["auditEvent"]["resolvedCustomerId"] = json!(format!("customer-{}", number % 2));
    event
}

fn config(port: u16, name: &str, erase: &str, rights: &str) -> String {
    format!(
        "[sinks.{name}]\nerase = \"{erase}\"\n{rights}[sinks.{name}.target]\nkind = \"postgres\"\nhost = \"127.0.0.1\"\n\
         port = {port}\ndatabase = \"postgres\"\nuser = \"idtrail_writer\"\ntls = \"disable\"\ntable = \"audit.{name}\"\n"
    )
}

#[test]
fn a_person_is_taken_out_by_the_second_principal_once_the_cursor_has_passed() {
    let cluster = Cluster::start();
    let rights = |name: &str| format!("[sinks.{name}.rights]\nuser = \"idtrail_eraser\"\n");
    let all = [
        config(cluster.port, "deleting", "delete", &rights("deleting")),
        config(cluster.port, "nulling", "null", &rights("nulling")),
        config(cluster.port, "nobody", "delete", ""),
        "[sinks.lake]\nerase = \"none\"\n[sinks.lake.target]\nkind = \"files\"\nformat = \"jsonl\"\ndir = \"lake\"\n"
            .to_owned(),
    ];
    let installation = Installation::with(&all.concat());
    let path = installation.config();
    for name in ["deleting", "nulling", "nobody"] {
        let output = idtrail(&["sink", "ddl", name, "--config", path.to_str().unwrap()]);
        cluster.sql(&String::from_utf8(output.stdout).unwrap());
    }
    let server = installation.start();
    let mut last = 0;
    for number in 0..10 {
        let (status, receipt) = server.post_event(&installation, &event(number));
        assert_eq!(status, StatusCode::CREATED);
        last = receipt["index"].as_u64().unwrap();
    }
    let count = |table: &str, of: &str| cluster.sql(&format!("SELECT count(*) FROM audit.{table} {of}"));
    let started = Instant::now();
    while ["deleting", "nulling", "nobody"].iter().any(|table| count(table, "").trim() != "10") {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::park_timeout(Duration::from_millis(50));
    }
    server.stop();
    let person = cluster.sql("SELECT DISTINCT customer_id FROM audit.deleting WHERE seq % 2 = 0");
    let ids = vec![person.trim().to_owned(), "gc_of_a_merged_customer".to_owned()];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = Settings::load(&OsDisk, &path).unwrap();
        let kek = Kek::from_file_bytes(&std::fs::read(installation.home().join("kek.key")).unwrap()).unwrap();
        let ports = Ports {
            disk: Arc::new(OsDisk),
            clock: Arc::new(OsClock::default()),
            entropy: Arc::new(OsEntropy),
        };
        let server = Server::bind(ports, &settings, kek).await.unwrap();
        let sinks = Arc::clone(server.sinks());
        let targets: Vec<(String, Erase)> =
            sinks.rights_targets().into_iter().map(|target| (target.name, target.erase)).collect();
        let of = |name: &str, erase| (name.to_owned(), erase);
        assert_eq!(
            targets,
            [
                of("deleting", Erase::Delete),
                of("lake", Erase::None),
                of("nobody", Erase::Delete),
                of("nulling", Erase::Null)
            ]
        );
        assert!(sinks.rights_task("lake").await.unwrap().is_none());
        assert!(matches!(sinks.rights_task("nobody").await, Err(SinksError::Settings(_))));
        assert!(matches!(sinks.rights_task("other").await, Err(SinksError::NotFound)));
        for name in ["deleting", "nulling"] {
            // The cursor is saved now and then, so after a start it may stand before rows that are there.
            tokio::time::timeout(Duration::from_secs(30), sinks.caught_up(name)).await.unwrap().unwrap();
            let mut task = sinks.rights_task(name).await.unwrap().unwrap();
            assert_eq!(task.lookup(&ids).await.unwrap(), 5, "{name}");
            // The sink may still hold rows of the person.
            let cursor =
                sinks.rights_targets().into_iter().find(|target| target.name == name).unwrap().cursor;
            let ahead = Position { seq: cursor.unwrap().seq, ..cursor.unwrap() };
            let refused = task.erase(&ids, ahead).await;
            assert!(matches!(refused, Err(SinkRightsError::NotPassed { freeze, .. }) if freeze == ahead));
            assert_eq!(task.probe(&ids).await.unwrap(), 5, "{name}");
            assert_eq!(task.erase(&ids, Position::new(0, last)).await.unwrap(), 5, "{name}");
            assert_eq!(task.probe(&ids).await.unwrap(), 0, "{name}");
            assert_eq!(task.erase(&ids, Position::new(0, last)).await.unwrap(), 0, "again changes nothing");
            // The keys are still there, and yet a replay brings nobody back.
            let replay = Command::ReplayFrom(Position::START);
            sinks.command(name, replay).await.unwrap();
            tokio::time::timeout(Duration::from_secs(30), sinks.caught_up(name)).await.unwrap().unwrap();
            assert_eq!(task.probe(&ids).await.unwrap(), 0, "{name}");
            assert!(!task.residual().is_empty());
        }
        // Without its grant the second principal is refused, and says so.
        cluster.sql("REVOKE ALL ON audit.nulling FROM idtrail_eraser");
        let mut task = sinks.rights_task("nulling").await.unwrap().unwrap();
        let refused = task.lookup(&ids).await;
        assert!(
            matches!(&refused, Err(SinkRightsError::Target(failure)) if failure.code == "denied"),
            "{refused:?}"
        );
        sinks.stop().await;
        assert!(matches!(sinks.rights_task("deleting").await, Err(SinksError::NotFound)));
    });
    assert_eq!(count("deleting", "").trim(), "5");
    assert_eq!(count("nulling", "").trim(), "10");
    assert_eq!(
        count("nulling", "WHERE customer_id IS NULL AND interaction_id IS NULL AND payload IS NULL").trim(),
        "5"
    );
}
