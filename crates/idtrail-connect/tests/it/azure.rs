//! A TDS server over SQLite, behind a proxy that cuts connections. The protocol and TLS are real, T-SQL is translated.

use std::sync::atomic::Ordering;

use idtrail_connect::Position;
use idtrail_connect::ddl::{Dialect, Principals, statements};
use idtrail_connect::engine::{Circuit, Command};
use idtrail_connect::mapping::Mapping;
use idtrail_connect::personal::{Erase, Pii};
use idtrail_connect::rights::{Person, RightsTask as _};
use idtrail_connect::secret::Secret;
use idtrail_connect::settings::{SinkSettings, TargetSettings};
use idtrail_connect::sink::Grants;
use idtrail_connect::sink::azure::{AzureConfig, AzureRights, RULES};
use idtrail_connect::{Verdict, judge};
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt as _};

use crate::emulator::{Emulator, free_port, script};
use crate::proxy::Proxy;
use crate::support::{MemoryFeed, caught_up, privacy, samples, start, until};

pub(crate) type Admin = Client<Compat<TcpStream>>;

pub(crate) struct Server {
    emulator: Emulator,
    dir: tempfile::TempDir,
    pub(crate) port: u16,
    certificate: String,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("cert"), &certificate).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        let port = free_port();
        let arguments = [script("azure_sql.py"), port.to_string(), path("cert"), path("key"), path("db")];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut emulator = Emulator::start("azure", "python", &arguments);
        emulator.listening(port).await;
        Self { emulator, dir, port, certificate }
    }

    pub(crate) async fn admin(&self) -> Admin {
        let mut config = Config::new();
        config.host("localhost");
        config.port(self.port);
        config.authentication(AuthMethod::sql_server("admin", "admin-word"));
        config.encryption(EncryptionLevel::Required);
        config.trust_cert_ca_bundle(self.certificate.as_bytes());
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        Client::connect(config, stream.compat_write()).await.unwrap()
    }

    /// Makes the table as our own DDL says, with both principals.
    pub(crate) async fn table(&self, name: &str, pii: Pii, erase: Erase) -> Admin {
        let mapping = Mapping::default_for(privacy(pii, erase));
        let principals = Principals { writer: "writer", eraser: "eraser" };
        let ddl = statements(Dialect::Azure, &format!("audit.{name}"), &mapping, principals);
        let mut admin = self.admin().await;
        run(&mut admin, &ddl).await;
        admin
    }

    pub(crate) fn config(&self, name: &str, port: u16, pii: &str, erase: &str) -> String {
        let ca = self.certificate.replace('\n', "\\n");
        format!(
            "name = \"{name}\"\npii = \"{pii}\"\nerase = \"{erase}\"\ndeadline_s = 10\n[target]\nkind = \"azure\"\n\
             host = \"localhost\"\nport = {port}\ndatabase = \"audit\"\nuser = \"writer\"\n\
             password = {{ env = \"writer-word\" }}\ntable = \"audit.{name}\"\nca = {{ env = \"{ca}\" }}\nrows_max = 50"
        )
    }
}

async fn run(admin: &mut Admin, statement: &str) {
    admin.simple_query(statement).await.unwrap().into_results().await.unwrap();
}

async fn number(admin: &mut Admin, query: &str) -> i64 {
    let row = admin.simple_query(query).await.unwrap().into_row().await.unwrap().unwrap();
    row.get(0).unwrap()
}

async fn seqs(admin: &mut Admin, table: &str) -> Vec<i64> {
    let query = format!("SELECT seq FROM [audit].[{table}] ORDER BY rowid");
    let rows = admin.simple_query(query).await.unwrap().into_first_result().await.unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_gets_everything_once() {
    let server = Server::start().await;
    delivers_through_cuts(&server).await;
    throttling_loses_nothing(&server).await;
    bad_rows_are_set_aside(&server).await;
    what_needs_a_person_stops(&server).await;
    persons_are_taken_out(&server).await;
    assert!(!server.emulator.log().contains("no number for"), "{}", server.emulator.log());
    assert!(server.dir.path().exists());
}

async fn delivers_through_cuts(server: &Server) {
    let mut admin = server.table("cuts", Pii::None, Erase::None).await;
    let direct = std::net::SocketAddr::from(([127, 0, 0, 1], server.port));
    // Cut at login, within an insert, and around answers, among them that of a commit.
    let limits = vec![
        (300, usize::MAX),
        (30_000, usize::MAX),
        (usize::MAX, 2_500),
        (usize::MAX, 3_600),
        (usize::MAX, 3_900),
        (250_000, 4_000),
        (usize::MAX, 4_300),
    ];
    let proxy = Proxy::start(direct, limits).await;
    let home = tempfile::tempdir().unwrap();
    let feed = MemoryFeed::new(samples(0, 0..200));
    let toml = server.config("cuts", proxy.address.port(), "none", "none");
    let worker = start(&toml, home.path(), feed.clone());
    feed.push(samples(0, 200..500));
    feed.push(samples(1, 0..50));
    caught_up(&worker).await;
    assert_eq!(worker.status().grants, Some(Grants::AppendOnly));
    assert!(proxy.cuts.load(Ordering::SeqCst) >= 5, "{}", proxy.cuts.load(Ordering::SeqCst));
    let expected: Vec<i64> = (0..500).chain(0..50).collect();
    assert_eq!(seqs(&mut admin, "cuts").await, expected);
    // A replay leaves alone what is there.
    worker.command(Command::ReplayFrom(Position::new(0, 100))).await.unwrap();
    caught_up(&worker).await;
    assert_eq!(seqs(&mut admin, "cuts").await, expected);
    worker.stop().await;
    let right = "SELECT COUNT_BIG(*) FROM [audit].[cuts] WHERE seq = 7 AND log_id = 0 \
                 AND event_time = '2023-10-27T14:30:00.000000' AND gdpr_consent_recorded = 1 \
                 AND json_extract(payload, '$.queueId') = 'q-sales-support'";
    assert_eq!(number(&mut admin, right).await, 1);
    // The ledger lets nobody change it, not even an admin.
    let refused = admin.simple_query("DELETE FROM [audit].[cuts] WHERE seq = 7").await;
    let error = match refused {
        Ok(stream) => stream.into_results().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.code(), Some(37359));
}

async fn throttling_loses_nothing(server: &Server) {
    let mut admin = server.table("busy", Pii::Tokens, Erase::Delete).await;
    for number in [1205, 40501, 10929, 40613, 2627, 40197, 1222] {
        run(&mut admin, &format!("FAULT {number} 1")).await;
    }
    let home = tempfile::tempdir().unwrap();
    let toml = server.config("busy", server.port, "tokens", "delete");
    let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..400)));
    caught_up(&worker).await;
    assert_eq!(seqs(&mut admin, "busy").await, (0..400).collect::<Vec<_>>());
    assert_eq!((worker.status().delivered, worker.status().dead), (400, 0));
    worker.stop().await;
}

async fn bad_rows_are_set_aside(server: &Server) {
    let mut admin = server.table("bad", Pii::None, Erase::Null).await;
    let home = tempfile::tempdir().unwrap();
    let toml = server.config("bad", server.port, "none", "null");
    let mut entries = samples(0, 0..200);
    // An event type that is longer than the column.
    for bad in [0, 77, 78, 199] {
        let idtrail_connect::Content::Opened(row) = &mut entries[bad].content else { panic!() };
        let mut body = row.body.to_value();
        body["auditEvent"]["eventType"] = "x".repeat(401).into();
        row.body = body.into();
    }
    let worker = start(&toml, home.path(), MemoryFeed::new(entries));
    caught_up(&worker).await;
    let dead: Vec<u64> = worker.dead_letters().iter().map(|letter| letter.at.seq).collect();
    assert_eq!(dead, [0, 77, 78, 199]);
    assert!(worker.dead_letters().iter().all(|letter| letter.status.as_str() == "2628"));
    assert_eq!(seqs(&mut admin, "bad").await.len(), 196);
    worker.command(Command::ReplayDead(vec![Position::new(0, 77)])).await.unwrap();
    until(&worker, |_| worker.dead_letters().iter().any(|letter| letter.at.seq == 77 && letter.attempts > 1))
        .await;
    worker.stop().await;
}

async fn what_needs_a_person_stops(server: &Server) {
    let mut admin = server.table("strict", Pii::None, Erase::Delete).await;
    let typed = "CREATE TABLE [audit].[typed] (\n  [log_id] bigint NOT NULL,\n  [seq] bigint NOT NULL,\n  [status] bit\n);\n\
                 GRANT INSERT, SELECT ON [audit].[typed] TO [writer];\n";
    run(&mut admin, typed).await;
    let home = tempfile::tempdir().unwrap();
    let base = server.config("strict", server.port, "none", "delete");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let foreign = base.replace(&server.certificate.replace('\n', "\\n"), &other.replace('\n', "\\n"));
    let cases = [
        ("missing", base.replace("audit.strict", "audit.nowhere"), "table_missing"),
        ("differs", base.replace("audit.strict", "audit.typed"), "table_differs"),
        ("denied", base.replace("\"writer\"", "\"nobody\"").replace("writer-word", "nobody-word"), "denied"),
        ("reader", base.replace("\"writer\"", "\"eraser\"").replace("writer-word", "eraser-word"), "denied"),
        ("word", base.replace("writer-word", "wrong-word"), "credentials"),
        ("foreign", foreign, "certificate"),
    ];
    for (name, toml, code) in cases {
        let toml = toml.replacen("\"strict\"", &format!("{name:?}"), 1);
        let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..5)));
        let status = until(&worker, |status| status.circuit == Circuit::Stopped).await;
        assert_eq!(status.last_failure.unwrap().code, code, "{name}");
        assert_eq!((status.delivered, status.dead, status.lag_events), (0, 0, 5), "{name}");
        worker.stop().await;
    }
    // The table changes under the sink: it stops, loses nothing, and goes on when told.
    let feed = MemoryFeed::new(samples(0, 0..20));
    let worker = start(&base, home.path(), feed.clone());
    caught_up(&worker).await;
    run(&mut admin, "ALTER TABLE [audit].[strict] RENAME COLUMN [status] TO [state]").await;
    feed.push(samples(0, 20..30));
    let status = until(&worker, |status| status.circuit == Circuit::Stopped).await;
    assert_eq!(status.last_failure.unwrap().status.as_str(), "207");
    run(&mut admin, "ALTER TABLE [audit].[strict] RENAME COLUMN [state] TO [status]").await;
    worker.command(Command::Resume).await.unwrap();
    caught_up(&worker).await;
    assert_eq!(seqs(&mut admin, "strict").await, (0..30).collect::<Vec<_>>());
    worker.stop().await;
    let mut loose = server.table("loose", Pii::None, Erase::None).await;
    run(&mut loose, "GRANT CONTROL ON [audit].[loose] TO [writer]").await;
    let toml = server.config("loose", server.port, "none", "none");
    let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..5)));
    caught_up(&worker).await;
    assert_eq!(worker.status().grants, Some(Grants::Excess { can: vec!["CONTROL".to_owned()] }));
    worker.stop().await;
}

async fn persons_are_taken_out(server: &Server) {
    for (name, erase) in [("deleted", Erase::Delete), ("nulled", Erase::Null)] {
        let mut admin = server.table(name, Pii::Tokens, erase).await;
        let word = if erase == Erase::Delete { "delete" } else { "null" };
        let toml = server.config(name, server.port, "tokens", word);
        let home = tempfile::tempdir().unwrap();
        let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..70)));
        caught_up(&worker).await;
        worker.stop().await;
        let settings: SinkSettings = toml::from_str(&toml).unwrap();
        let TargetSettings::Azure(config) = &settings.target else { panic!() };
        let mapping = settings.plan([9; 32]).unwrap().mapping;
        let second = |user: &str| {
            let config = AzureConfig { user: user.to_owned(), ..config.clone() };
            let secret = |text: String| Secret::new(text);
            let ca = Some(secret(server.certificate.clone()));
            AzureRights::new(config, secret(format!("{user}-word")), ca, &mapping).unwrap()
        };
        let person = Person { customer_ids: vec![format!("gc_{:032x}", 3), "gc_other".to_owned()] };
        let denied = second("writer").erase(&person).await.unwrap_err();
        assert_eq!(denied.code, "denied", "the writer must not be able to erase");
        let mut task = second("eraser");
        assert_eq!(task.lookup(&person).await, Ok(10));
        assert_eq!(task.erase(&person).await, Ok(10));
        assert_eq!(task.probe(&person).await, Ok(0));
        assert!(!task.residual().is_empty());
        let left = if erase == Erase::Delete { 60 } else { 70 };
        assert_eq!(seqs(&mut admin, name).await.len(), left);
        if erase == Erase::Null {
            let personal = "SELECT COUNT_BIG(*) FROM [audit].[nulled] WHERE seq % 7 = 3 AND \
                            (payload IS NOT NULL OR phone_hash IS NOT NULL OR interaction_id IS NOT NULL)";
            assert_eq!(number(&mut admin, personal).await, 0);
        }
    }
}

#[test]
fn numbers_stand_once() {
    let mut all: Vec<u32> = RULES.iter().flat_map(|rule| rule.statuses).copied().collect();
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count, "a number has two verdicts");
    for (number, code) in
        [(18456, "credentials"), (229, "denied"), (208, "table_missing"), (207, "table_differs")]
    {
        assert_eq!(judge(&RULES, &number), Some((Verdict::Stop, code)));
    }
}
