//! BigQuery's emulator, over REST and gRPC, behind proxies that cut and answer wrongly.

use std::sync::atomic::Ordering;

use idtrail_connect::ddl::{Dialect, Principals, statements};
use idtrail_connect::engine::{Circuit, Command};
use idtrail_connect::mapping::Mapping;
use idtrail_connect::personal::{Erase, Pii};
use idtrail_connect::rights::{Person, RightsTask as _};
use idtrail_connect::settings::{SinkSettings, TargetSettings};
use idtrail_connect::sink::Grants;
use idtrail_connect::sink::bigquery::{BigQueryRights, Credentials, RULES, STORAGE_RULES};
use idtrail_connect::{Position, Verdict, judge};
use serde_json::{Value, json};

use crate::emulator::{Emulator, free_port, script};
use crate::google::Google;
use crate::proxy::Proxy;
use crate::support::{FixedSecrets, MemoryFeed, caught_up, ports, privacy, samples, start, until};

pub(crate) struct Cloud {
    _emulator: Emulator,
    _faulty: Emulator,
    google: Google,
    rest: u16,
    pub(crate) grpc: u16,
    faulty: u16,
    faults: tempfile::NamedTempFile,
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        let (rest, grpc, faulty) = (free_port(), free_port(), free_port());
        let faults = tempfile::NamedTempFile::new().unwrap();
        let ports = [rest.to_string(), grpc.to_string(), faulty.to_string()];
        let arguments = [
            "start",
            "--rest-port",
            &ports[0],
            "--grpc-port",
            &ports[1],
            "--project",
            "p",
            "--log-level",
            "error",
        ];
        let mut emulator = Emulator::start("bigquery", "bqemulator", &arguments);
        let proxy = script("bigquery_faults.py");
        let file = faults.path().to_str().unwrap().to_owned();
        let mut second = Emulator::start("bigquery", "python", &[&proxy, &ports[2], &ports[1], &file]);
        emulator.listening(rest).await;
        emulator.listening(grpc).await;
        second.listening(faulty).await;
        let google = Google::start().await;
        let cloud = Self { _emulator: emulator, _faulty: second, google, rest, grpc, faulty, faults };
        let dataset = json!({"datasetReference": {"projectId": "p", "datasetId": "audit"}});
        cloud.post("projects/p/datasets", &dataset).await;
        cloud
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("http://127.0.0.1:{}/bigquery/v2/{path}", self.rest);
        let response = reqwest::Client::new().post(url).json(body).send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
        response.json().await.unwrap()
    }

    pub(crate) async fn query(&self, statement: &str) -> Vec<Vec<Value>> {
        let body = json!({"query": statement, "useLegacySql": false, "maxResults": 10000});
        let answer = self.post("projects/p/queries", &body).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        let rows = answer["rows"].as_array().cloned().unwrap_or_default();
        let cells = |row: Value| row["f"].as_array().unwrap().iter().map(|cell| cell["v"].clone()).collect();
        rows.into_iter().map(cells).collect()
    }

    /// Makes the table as our own DDL says, without the grants, which the emulator does not know.
    pub(crate) async fn table(&self, name: &str, pii: Pii, erase: Erase) {
        let mapping = Mapping::default_for(privacy(pii, erase));
        let principals =
            Principals { writer: "w@p.iam.gserviceaccount.com", eraser: "e@p.iam.gserviceaccount.com" };
        let ddl = statements(Dialect::BigQuery, &format!("p.audit.{name}"), &mapping, principals);
        let (table, grants) = ddl.split_once(";\n").unwrap();
        assert!(grants.contains("idtrailAppender"), "{grants}");
        self.query(table).await;
    }

    /// In the order of arrival: the emulator's table keeps it.
    async fn seqs(&self, name: &str) -> Vec<i64> {
        let rows = self.query(&format!("SELECT seq FROM `p.audit.{name}`")).await;
        rows.iter().map(|row| row[0].as_str().unwrap().parse().unwrap()).collect()
    }

    pub(crate) fn config(&self, name: &str, port: u16, pii: &str, erase: &str) -> String {
        let google = self.google.address;
        let key = self.google.key.replace('\\', "\\\\").replace('"', "\\\"");
        format!(
            "name = \"{name}\"\npii = \"{pii}\"\nerase = \"{erase}\"\ndeadline_s = 5\n[target]\n\
             kind = \"bigquery\"\ntable = \"p.audit.{name}\"\nkey = {{ env = \"{key}\" }}\nallow_http = true\n\
             write_endpoint = \"http://127.0.0.1:{port}\"\nrest_endpoint = \"http://{google}\"\n\
             project_endpoint = \"http://{google}\"\nrows_max = 50"
        )
    }

    fn faults(&self, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(self.faults.path(), text).unwrap();
    }

    fn faults_left(&self) -> String {
        std::fs::read_to_string(self.faults.path()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bigquery_gets_everything_once() {
    let cloud = Cloud::start().await;
    delivers_through_cuts(&cloud).await;
    wrong_answers_lose_nothing(&cloud).await;
    a_lost_stream_is_made_good_by_a_reader(&cloud).await;
    bad_rows_are_set_aside(&cloud).await;
    what_needs_a_person_stops(&cloud).await;
    persons_are_taken_out(&cloud).await;
}

async fn delivers_through_cuts(cloud: &Cloud) {
    cloud.table("cuts", Pii::Tokens, Erase::Delete).await;
    let direct = std::net::SocketAddr::from(([127, 0, 0, 1], cloud.grpc));
    // Cut in the first calls, within an append, and around answers.
    let limits = vec![
        (60, usize::MAX),
        (20_000, usize::MAX),
        (usize::MAX, 1_100),
        (90_000, usize::MAX),
        (usize::MAX, 1_400),
    ];
    let proxy = Proxy::start(direct, limits).await;
    let home = tempfile::tempdir().unwrap();
    let feed = MemoryFeed::new(samples(0, 0..200));
    let toml = cloud.config("cuts", proxy.address.port(), "tokens", "delete");
    let worker = start(&toml, home.path(), feed.clone());
    feed.push(samples(0, 200..500));
    feed.push(samples(1, 0..50));
    caught_up(&worker).await;
    assert_eq!(worker.status().grants, Some(Grants::AppendOnly));
    assert!(proxy.cuts.load(Ordering::SeqCst) >= 4, "{}", proxy.cuts.load(Ordering::SeqCst));
    let expected: Vec<i64> = (0..500).chain(0..50).collect();
    assert_eq!(cloud.seqs("cuts").await, expected);
    assert_eq!(*cloud.google.tokens.lock().unwrap(), 1, "a token is used for as long as it lives");
    worker.stop().await;
    // Started again, it goes on in a new stream.
    let worker = start(&toml, home.path(), feed.clone());
    feed.push(samples(1, 50..70));
    caught_up(&worker).await;
    assert_eq!(cloud.seqs("cuts").await.len(), 570);
    worker.stop().await;
    let query = "SELECT CAST(event_time AS STRING), JSON_VALUE(payload, '$.queueId'), phone_hash FROM `p.audit.cuts` \
                 WHERE seq = 7 AND log_id = 0";
    let row = &cloud.query(query).await[0];
    assert!(row[0].as_str().unwrap().starts_with("2023-10-27 14:30:00"), "{row:?}");
    assert_eq!((row[1].as_str(), row[2].as_str()), (Some("q-sales-support"), Some(crate::support::HASH)));
}

async fn wrong_answers_lose_nothing(cloud: &Cloud) {
    cloud.table("faults", Pii::None, Erase::Delete).await;
    let fault = |method: &str, kind: &str, code: i32| json!({"method": method, "do": kind, "code": code});
    // A few at a time: many in a row would only lengthen the pauses.
    let rounds = [
        vec![fault("CreateWriteStream", "status", 14), fault("CreateWriteStream", "lost", 4)],
        vec![
            fault("AppendRows", "error", 8),
            fault("AppendRows", "lost", 14),
            fault("FinalizeWriteStream", "status", 14),
        ],
        vec![fault("AppendRows", "lost", 8), fault("FinalizeWriteStream", "lost", 13)],
        vec![fault("AppendRows", "status", 8), fault("AppendRows", "error", 10)],
        vec![fault("AppendRows", "error", 6), fault("AppendRows", "error", 11)],
        vec![
            json!({"method": "AppendRows", "do": "error", "code": 9, "storage": 6}),
            json!({"method": "AppendRows", "do": "status", "code": 5, "storage": 3}),
        ],
    ];
    let home = tempfile::tempdir().unwrap();
    let toml = cloud.config("faults", cloud.faulty, "none", "delete");
    let feed = MemoryFeed::new(Vec::new());
    cloud.faults(&rounds[0]);
    let worker = start(&toml, home.path(), feed.clone());
    for (round, from) in rounds.iter().zip((0..).step_by(100)) {
        if from > 0 {
            cloud.faults(round);
        }
        feed.push(samples(0, from..from + 100));
        caught_up(&worker).await;
        assert_eq!(cloud.faults_left(), "", "every fault came about");
    }
    assert_eq!(cloud.seqs("faults").await, (0..600).collect::<Vec<_>>());
    assert_eq!((worker.status().delivered, worker.status().dead), (600, 0));
    worker.stop().await;
}

/// The stream is gone while a batch is in doubt: with a reader the table decides, without one a person must.
async fn a_lost_stream_is_made_good_by_a_reader(cloud: &Cloud) {
    cloud.table("lost", Pii::None, Erase::Delete).await;
    let gone = json!({"method": "FinalizeWriteStream", "do": "status", "code": 5});
    // Applied with its answer lost, and not applied.
    let doubts = [
        json!({"method": "AppendRows", "do": "lost", "code": 14}),
        json!({"method": "AppendRows", "do": "status", "code": 14}),
    ];
    let home = tempfile::tempdir().unwrap();
    let blind = cloud.config("lost", cloud.faulty, "none", "delete");
    let other = cloud.google.key.replace("\"k1\"", "\"k1\" ");
    let other = other.replace('\\', "\\\\").replace('"', "\\\"");
    let rest = format!("rest_endpoint = \"http://127.0.0.1:{}\"", cloud.rest);
    let seeing = blind.replace(&format!("rest_endpoint = \"http://{}\"", cloud.google.address), &rest);
    let seeing = format!("{seeing}\nreader = {{ env = \"{other}\" }}");
    assert_ne!(blind.lines().count(), seeing.lines().count());
    let feed = MemoryFeed::new(Vec::new());
    for (doubt, from) in doubts.iter().zip((0..).step_by(100)) {
        // The second round begins with a stream, which is asked for at once.
        let at_start = (from > 0).then(|| gone.clone());
        let faults: Vec<Value> = at_start.into_iter().chain([doubt.clone(), gone.clone()]).collect();
        cloud.faults(&faults);
        feed.push(samples(0, from..from + 100));
        let worker = start(&blind, home.path(), feed.clone());
        let status = until(&worker, |status| status.circuit == Circuit::Stopped).await;
        assert_eq!(status.last_failure.unwrap().code, "stream_lost");
        worker.stop().await;
        cloud.faults(std::slice::from_ref(&gone));
        let worker = start(&seeing, home.path(), feed.clone());
        caught_up(&worker).await;
        assert_eq!(cloud.faults_left(), "", "the stream was gone");
        worker.stop().await;
        assert_eq!(cloud.seqs("lost").await, (0..i64::try_from(from).unwrap() + 100).collect::<Vec<_>>());
    }
    // A cursor that was lost: the table says how far it is.
    std::fs::remove_file(home.path().join("lost").join("cursor")).unwrap();
    feed.push(samples(0, 200..230));
    let worker = start(&seeing, home.path(), feed.clone());
    caught_up(&worker).await;
    assert_eq!(cloud.seqs("lost").await, (0..230).collect::<Vec<_>>());
    worker.stop().await;
    // And counts what a restore left behind.
    let settings: SinkSettings = toml::from_str(&seeing).unwrap();
    let plan = settings.plan([9; 32]).unwrap();
    let mut sink = settings.sink(&plan, &FixedSecrets, &ports()).unwrap();
    assert_eq!(sink.count(Position::new(0, 20), Position::new(0, 29)).await, Ok(Some(10)));
}

async fn bad_rows_are_set_aside(cloud: &Cloud) {
    cloud.table("bad", Pii::None, Erase::Null).await;
    cloud.faults(&[json!({"refuse": [0, 77, 78, 199]})]);
    let home = tempfile::tempdir().unwrap();
    let toml = cloud.config("bad", cloud.faulty, "none", "null");
    let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..200)));
    caught_up(&worker).await;
    let dead: Vec<u64> = worker.dead_letters().iter().map(|letter| letter.at.seq).collect();
    assert_eq!(dead, [0, 77, 78, 199]);
    assert!(worker.dead_letters().iter().all(|letter| letter.status.as_str() == "grpc_3"));
    assert_eq!(cloud.seqs("bad").await.len(), 196);
    cloud.faults(&[]);
    let all = worker.dead_letters().iter().map(|letter| letter.at).collect();
    worker.command(Command::ReplayDead(all)).await.unwrap();
    until(&worker, |status| status.dead == 0 && status.delivered == 200).await;
    let mut seqs = cloud.seqs("bad").await;
    seqs.sort_unstable();
    assert_eq!(seqs, (0..200).collect::<Vec<_>>());
    worker.stop().await;
}

async fn what_needs_a_person_stops(cloud: &Cloud) {
    cloud.table("strict", Pii::None, Erase::Delete).await;
    cloud.table("typed", Pii::None, Erase::Delete).await;
    cloud.query("DROP TABLE `p.audit.typed`").await;
    cloud.query("CREATE TABLE `p.audit.typed` (log_id INT64, seq STRING)").await;
    cloud.faults(&[]);
    let home = tempfile::tempdir().unwrap();
    let base = cloud.config("strict", cloud.faulty, "none", "delete");
    let other = Google::start().await;
    let wrong_key = |toml: &str| {
        let text = |google: &Google| google.key.replace('\\', "\\\\").replace('"', "\\\"");
        let foreign: Value = serde_json::from_str(&other.key).unwrap();
        let mut own: Value = serde_json::from_str(&cloud.google.key).unwrap();
        own["private_key"] = foreign["private_key"].clone();
        toml.replace(&text(&cloud.google), &own.to_string().replace('\\', "\\\\").replace('"', "\\\""))
    };
    let table = |name: &str| base.replace("p.audit.strict", &format!("p.audit.{name}"));
    let status = |code: i32| json!({"method": "CreateWriteStream", "do": "status", "code": code});
    let cases = [
        ("missing", table("nowhere"), None, "table_missing"),
        ("differs", table("typed"), None, "table_differs"),
        ("denied", base.clone(), Some(status(7)), "denied"),
        ("expired", base.clone(), Some(status(16)), "credentials"),
        ("foreign", wrong_key(&base), None, "credentials"),
        // The table lost a column of ours while rows were on their way.
        (
            "changed",
            base.clone(),
            Some(json!({"method": "AppendRows", "do": "error", "code": 3, "storage": 7})),
            "table_differs",
        ),
    ];
    for (name, toml, fault, code) in cases {
        cloud.faults(fault.as_slice());
        let toml = toml.replacen("\"strict\"", &format!("{name:?}"), 1);
        let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..5)));
        let status = until(&worker, |status| status.circuit == Circuit::Stopped).await;
        assert_eq!(status.last_failure.unwrap().code, code, "{name}");
        assert_eq!((status.delivered, status.dead, status.lag_events), (0, 0, 5), "{name}");
        worker.stop().await;
    }
    // A writer that can run jobs can change rows.
    *cloud.google.granted.lock().unwrap() = vec!["bigquery.jobs.create", "bigquery.tables.delete"];
    let worker = start(&base, home.path(), MemoryFeed::new(samples(0, 0..5)));
    caught_up(&worker).await;
    let can = vec!["bigquery.tables.delete".to_owned(), "bigquery.jobs.create".to_owned()];
    assert_eq!(worker.status().grants, Some(Grants::Excess { can }));
    worker.stop().await;
}

async fn persons_are_taken_out(cloud: &Cloud) {
    for (name, erase) in [("deleted", Erase::Delete), ("nulled", Erase::Null)] {
        cloud.table(name, Pii::None, erase).await;
        let word = if erase == Erase::Delete { "delete" } else { "null" };
        let toml = cloud.config(name, cloud.grpc, "none", word);
        let home = tempfile::tempdir().unwrap();
        let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..70)));
        caught_up(&worker).await;
        worker.stop().await;
        let settings: SinkSettings = toml::from_str(&toml).unwrap();
        let TargetSettings::BigQuery(config) = &settings.target else { panic!() };
        let mut config = config.clone();
        config.rest_endpoint = format!("http://127.0.0.1:{}", cloud.rest);
        let clock = std::sync::Arc::new(idtrail_port::os::OsClock::default());
        let credentials = Credentials::new(None, true, clock).unwrap();
        let mapping = settings.plan([9; 32]).unwrap().mapping;
        let mut task = BigQueryRights::new(config, credentials, None, &mapping).unwrap();
        let person = Person { customer_ids: vec![format!("gc_{:032x}", 3)] };
        assert_eq!(task.lookup(&person).await, Ok(10));
        assert_eq!(task.erase(&person).await, Ok(10));
        assert_eq!(task.probe(&person).await, Ok(0));
        assert!(!task.residual().is_empty());
        let left = if erase == Erase::Delete { 60 } else { 70 };
        assert_eq!(cloud.seqs(name).await.len(), left);
    }
    let personal = "SELECT COUNT(*) FROM `p.audit.nulled` WHERE MOD(seq, 7) = 3 \
                    AND (payload IS NOT NULL OR interaction_id IS NOT NULL)";
    assert_eq!(cloud.query(personal).await[0][0], "0");
}

#[test]
fn every_code_has_a_verdict() {
    for code in (1..=16).filter(|code| ![6, 11].contains(code)) {
        assert!(judge(&RULES, &code).is_some(), "grpc {code}");
    }
    // What was refused within a call surely had no effect; an offset that is not the end leaves all open.
    assert_eq!(judge(&RULES, &8), Some((Verdict::Retry { after: None }, "quota")));
    for code in [6, 11] {
        assert_eq!(judge(&RULES, &code), Some((Verdict::Reopen { after: None }, "offset")));
    }
    assert_eq!(judge(&STORAGE_RULES, &7), Some((Verdict::Stop, "table_differs")));
}
