//! A real PostgreSQL through a proxy that cuts connections. A missing server fails the tests.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::atomic::Ordering;

use idtrail_connect::Position;
use idtrail_connect::ddl::{Dialect, Principals, statements};
use idtrail_connect::engine::{Circuit, Command};
use idtrail_connect::mapping::Mapping;
use idtrail_connect::personal::{Erase, Pii};
use idtrail_connect::rights::{Person, RightsTask as _};
use idtrail_connect::settings::{SinkSettings, TargetSettings};
use idtrail_connect::sink::Grants;
use idtrail_connect::sink::postgres::PostgresRights;
use tokio_postgres::{Client, NoTls};

use crate::proxy::Proxy;
use crate::support::{MemoryFeed, caught_up, privacy, samples, start, until};

/// A cluster in a directory of its own, ended when dropped.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let versions =
            std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed: scripts/test does it");
        let bin = versions.map(|entry| entry.unwrap().path().join("bin")).max().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { dir, bin, port };
        if is_root() {
            run(Process::new("chown").arg("postgres").arg(cluster.dir.path()));
        }
        let data = cluster.data();
        cluster.tool("initdb", &["-D", &data, "-U", "admin", "-A", "trust", "-N"]);
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {}",
            cluster.dir.path().display()
        );
        let log = cluster.dir.path().join("log");
        cluster.tool("pg_ctl", &["-D", &data, "-w", "-l", log.to_str().unwrap(), "-o", &options, "start"]);
        cluster
    }

    fn data(&self) -> String {
        self.dir.path().join("data").to_str().unwrap().to_owned()
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        let program = self.bin.join(name);
        let mut process = if is_root() {
            let mut process = Process::new("runuser");
            process.args(["-u", "postgres", "--"]).arg(program);
            process
        } else {
            Process::new(program)
        };
        run(process.args(arguments).current_dir("/"));
    }

    pub(crate) async fn admin(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=admin dbname=postgres", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Makes the table as our own DDL says, with both principals.
    pub(crate) async fn table(&self, name: &str, pii: Pii, erase: Erase) -> Client {
        let admin = self.admin().await;
        admin
            .batch_execute(
                "DO $$ BEGIN CREATE ROLE writer LOGIN; EXCEPTION WHEN duplicate_object THEN END $$; \
                 DO $$ BEGIN CREATE ROLE eraser LOGIN; EXCEPTION WHEN duplicate_object THEN END $$; \
                 CREATE SCHEMA IF NOT EXISTS audit",
            )
            .await
            .unwrap();
        let mapping = Mapping::default_for(privacy(pii, erase));
        let principals = Principals { writer: "writer", eraser: "eraser" };
        let ddl = statements(Dialect::Postgres, &format!("audit.{name}"), &mapping, principals);
        admin.batch_execute(&ddl).await.unwrap();
        admin
    }

    pub(crate) fn config(&self, name: &str, port: u16, user: &str, pii: &str, erase: &str) -> String {
        format!(
            "name = \"{name}\"\npii = \"{pii}\"\nerase = \"{erase}\"\ndeadline_s = 5\n[target]\nkind = \"postgres\"\n\
             host = \"127.0.0.1\"\nport = {port}\ndatabase = \"postgres\"\nuser = \"{user}\"\ntls = \"disable\"\n\
             table = \"audit.{name}\"\nrows_max = 50"
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tool("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

fn is_root() -> bool {
    let id = Process::new("id").arg("-u").output().unwrap();
    id.stdout.starts_with(b"0\n")
}

fn run(process: &mut Process) {
    // Files and not pipes: the server would keep a pipe open for ever.
    let status = process.stdout(std::process::Stdio::null()).status().unwrap();
    assert!(status.success(), "{process:?}");
}

async fn seqs(admin: &Client, table: &str) -> Vec<i64> {
    let rows =
        admin.query(&format!("SELECT seq FROM audit.{table} ORDER BY log_id, seq"), &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_gets_everything_once() {
    let cluster = Cluster::start();
    delivers_through_cuts(&cluster).await;
    bad_rows_are_set_aside(&cluster).await;
    grants_and_tables_are_checked(&cluster).await;
    persons_are_taken_out(&cluster).await;
}

async fn delivers_through_cuts(cluster: &Cluster) {
    let admin = cluster.table("cuts", Pii::Tokens, Erase::Delete).await;
    let direct = std::net::SocketAddr::from(([127, 0, 0, 1], cluster.port));
    // Cut at login, within COPY, and around the commit's answer.
    let limits =
        vec![(40, usize::MAX), (9_000, usize::MAX), (usize::MAX, 700), (60_000, 1_200), (usize::MAX, 1_450)];
    let proxy = Proxy::start(direct, limits).await;
    let home = tempfile::tempdir().unwrap();
    let feed = MemoryFeed::new(samples(0, 0..200));
    let toml = cluster.config("cuts", proxy.address.port(), "writer", "tokens", "delete");
    let worker = start(&toml, home.path(), feed.clone());
    feed.push(samples(0, 200..500));
    // A restored installation goes on in the next origin.
    feed.push(samples(1, 0..50));
    caught_up(&worker).await;
    assert_eq!(worker.status().grants, Some(Grants::AppendOnly));
    assert!(proxy.cuts.load(Ordering::SeqCst) >= 4, "{}", proxy.cuts.load(Ordering::SeqCst));
    let expected: Vec<i64> = (0..500).chain(0..50).collect();
    assert_eq!(seqs(&admin, "cuts").await, expected);
    // Rows that somebody took away come back by a replay, and only they.
    admin.batch_execute("DELETE FROM audit.cuts WHERE log_id = 0 AND seq % 10 = 3").await.unwrap();
    worker.command(Command::ReplayFrom(Position::new(0, 100))).await.unwrap();
    caught_up(&worker).await;
    let expected: Vec<i64> = (0..500).filter(|seq| *seq >= 100 || seq % 10 != 3).chain(0..50).collect();
    assert_eq!(seqs(&admin, "cuts").await, expected);
    let row = admin
        .query_one("SELECT event_time::text, payload->>'queueId', phone_hash FROM audit.cuts WHERE seq = 7 AND log_id = 0", &[])
        .await
        .unwrap();
    assert!(row.get::<_, String>(0).starts_with("2023-10-27"));
    assert_eq!((row.get::<_, &str>(1), row.get::<_, &str>(2)), ("q-sales-support", crate::support::HASH));
    worker.stop().await;
}

async fn bad_rows_are_set_aside(cluster: &Cluster) {
    let admin = cluster.table("bad", Pii::None, Erase::Null).await;
    let refuse = "ALTER TABLE audit.bad ADD CONSTRAINT liked CHECK (seq NOT IN (0, 77, 78, 199))";
    admin.batch_execute(refuse).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let toml = cluster.config("bad", cluster.port, "writer", "none", "null");
    let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..200)));
    caught_up(&worker).await;
    let dead: Vec<u64> = worker.dead_letters().iter().map(|letter| letter.at.seq).collect();
    assert_eq!(dead, [0, 77, 78, 199]);
    assert!(worker.dead_letters().iter().all(|letter| letter.status.as_str() == "23514"));
    assert_eq!(seqs(&admin, "bad").await.len(), 196);
    admin.batch_execute("ALTER TABLE audit.bad DROP CONSTRAINT liked").await.unwrap();
    let all = worker.dead_letters().iter().map(|letter| letter.at).collect();
    worker.command(Command::ReplayDead(all)).await.unwrap();
    until(&worker, |status| status.dead == 0 && status.delivered == 200).await;
    assert_eq!(seqs(&admin, "bad").await, (0..200).collect::<Vec<_>>());
    worker.stop().await;
}

async fn grants_and_tables_are_checked(cluster: &Cluster) {
    let admin = cluster.table("loose", Pii::None, Erase::Delete).await;
    admin.batch_execute("GRANT UPDATE, TRUNCATE ON audit.loose TO writer").await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let feed = MemoryFeed::new(samples(0, 0..20));
    let toml = cluster.config("loose", cluster.port, "writer", "none", "delete");
    let worker = start(&toml, home.path(), feed.clone());
    caught_up(&worker).await;
    let can = vec!["UPDATE".to_owned(), "TRUNCATE".to_owned()];
    assert_eq!(worker.status().grants, Some(Grants::Excess { can }));
    // The table changes under the sink: it stops, calls, loses nothing, and goes on when told.
    admin.batch_execute("ALTER TABLE audit.loose RENAME COLUMN status TO state").await.unwrap();
    feed.push(samples(0, 20..30));
    let status = until(&worker, |status| status.circuit == Circuit::Stopped).await;
    assert_eq!(status.last_failure.unwrap().status.as_str(), "42703");
    assert_eq!((status.dead, status.lag_events), (0, 10));
    admin.batch_execute("ALTER TABLE audit.loose RENAME COLUMN state TO status").await.unwrap();
    worker.command(Command::Resume).await.unwrap();
    caught_up(&worker).await;
    assert_eq!(seqs(&admin, "loose").await, (0..30).collect::<Vec<_>>());
    worker.stop().await;
    // One row that the table does not have, or there would be nothing to send.
    feed.push(samples(0, 30..31));
    let cases = [
        (toml.replace("audit.loose", "audit.nowhere").replace("\"loose\"", "\"a\""), "table_missing"),
        (toml.replace("\"writer\"", "\"nobody\"").replace("\"loose\"", "\"b\""), "credentials"),
        (toml.replace("\"writer\"", "\"eraser\"").replace("\"loose\"", "\"c\""), "denied"),
    ];
    for (toml, code) in cases {
        let worker = start(&toml, home.path(), feed.clone());
        let status = until(&worker, |status| status.circuit == Circuit::Stopped).await;
        assert_eq!(status.last_failure.unwrap().code, code);
        worker.stop().await;
    }
}

async fn persons_are_taken_out(cluster: &Cluster) {
    for (name, pii, erase) in [("deleted", "none", Erase::Delete), ("nulled", "tokens", Erase::Null)] {
        let kind = if pii == "none" { Pii::None } else { Pii::Tokens };
        let admin = cluster.table(name, kind, erase).await;
        let word = if erase == Erase::Delete { "delete" } else { "null" };
        let toml = cluster.config(name, cluster.port, "writer", pii, word);
        let home = tempfile::tempdir().unwrap();
        let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..70)));
        caught_up(&worker).await;
        worker.stop().await;
        let settings: SinkSettings = toml::from_str(&toml).unwrap();
        let TargetSettings::Postgres(config) = &settings.target else { panic!() };
        let mapping = settings.plan([9; 32]).unwrap().mapping;
        let second = |user: &str| {
            let config =
                idtrail_connect::sink::postgres::PostgresConfig { user: user.to_owned(), ..config.clone() };
            PostgresRights::new(config, None, None, &mapping).unwrap()
        };
        let person = Person { customer_ids: vec![format!("gc_{:032x}", 3)] };
        let denied = second("writer").erase(&person).await.unwrap_err();
        assert_eq!(denied.code, "denied", "the writer must not be able to erase");
        let mut task = second("eraser");
        assert_eq!(task.lookup(&person).await, Ok(10));
        assert_eq!(task.erase(&person).await, Ok(10));
        assert_eq!(task.probe(&person).await, Ok(0));
        assert!(!task.residual().is_empty());
        let left = if erase == Erase::Delete { 60 } else { 70 };
        assert_eq!(seqs(&admin, name).await.len(), left);
        if erase == Erase::Null {
            let query = "SELECT count(*) FROM audit.nulled WHERE seq % 7 = 3 AND \
                         (payload IS NOT NULL OR phone_hash IS NOT NULL OR interaction_id IS NOT NULL)";
            let row = admin.query_one(query, &[]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), 0);
        }
    }
    assert!(Path::new("/").exists());
}
