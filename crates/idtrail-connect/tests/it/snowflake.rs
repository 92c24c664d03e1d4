//! Snowflake's SQL over fakesnow, and a stateful double of Snowpipe Streaming, behind a proxy that cuts connections.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use idtrail_connect::Position;
use idtrail_connect::ddl::{Dialect, Principals, statements};
use idtrail_connect::engine::{Circuit, Command};
use idtrail_connect::mapping::Mapping;
use idtrail_connect::personal::{Erase, Pii};
use idtrail_connect::rights::{Person, RightsTask as _};
use idtrail_connect::secret::Secret;
use idtrail_connect::settings::{SinkSettings, TargetSettings};
use idtrail_connect::sink::Grants;
use idtrail_connect::sink::snowflake::{AccountKey, REST_RULES, SQL_RULES, SnowflakeConfig, SnowflakeRights};
use idtrail_connect::{Verdict, judge};
use serde_json::{Value, json};

use crate::emulator::{Emulator, free_port, script};
use crate::google::rsa;
use crate::proxy::Proxy;
use crate::support::{MemoryFeed, caught_up, privacy, samples, start, until};

pub(crate) struct Account {
    emulator: Emulator,
    dir: tempfile::TempDir,
    pub(crate) port: u16,
    keys: Vec<(&'static str, String)>,
    admin: AdminKey,
}

/// Signs for the admin, beside the code under test.
struct AdminKey {
    key: aws_lc_rs::rsa::KeyPair,
    fingerprint: String,
}

impl Account {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut keys = Vec::new();
        for user in ["ADMIN", "WRITER", "ERASER"] {
            let pair = rsa();
            std::fs::write(dir.path().join(user), pair.public_key_pem()).unwrap();
            keys.push((user, pair.serialize_pem()));
        }
        let faults = dir.path().join("faults");
        std::fs::write(&faults, "").unwrap();
        let arguments = [
            script("snowflake_account.py"),
            port.to_string(),
            dir.path().to_str().unwrap().to_owned(),
            faults.to_str().unwrap().to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut emulator = Emulator::start("snowflake", "python", &arguments);
        emulator.listening(port).await;
        let admin = AdminKey::new(&keys[0].1);
        Self { emulator, dir, port, keys, admin }
    }

    /// Runs a statement as the admin.
    pub(crate) async fn query(&self, statement: &str) -> Vec<Vec<Value>> {
        let client = reqwest::Client::new();
        let base = format!("http://127.0.0.1:{}/api/v2/statements", self.port);
        let signed = |request: reqwest::RequestBuilder| {
            request
                .header("authorization", format!("Bearer {}", self.admin.token()))
                .header("x-snowflake-authorization-token-type", "KEYPAIR_JWT")
        };
        let body = json!({"statement": statement, "role": "ADMIN", "warehouse": "W"});
        let mut response = signed(client.post(&base)).json(&body).send().await.unwrap();
        if response.status() == 202 {
            let waiting: Value = response.json().await.unwrap();
            let url = format!("{base}/{}", waiting["statementHandle"].as_str().unwrap());
            response = signed(client.get(url)).send().await.unwrap();
        }
        assert_eq!(response.status(), 200, "{}\n{}", response.text().await.unwrap(), self.emulator.log());
        let answer: Value = response.json().await.unwrap();
        answer["data"].as_array().unwrap().iter().map(|row| row.as_array().unwrap().clone()).collect()
    }

    /// Makes the table as our own DDL says, with the grants of both roles.
    pub(crate) async fn table(&self, name: &str, pii: Pii, erase: Erase) {
        let mapping = Mapping::default_for(privacy(pii, erase));
        let principals = Principals { writer: "writer", eraser: "eraser" };
        let ddl = statements(Dialect::Snowflake, &format!("dwh.audit.{name}"), &mapping, principals);
        for statement in ddl.split(";\n").filter(|statement| !statement.is_empty()) {
            // The emulator keeps rights on tables only.
            if !statement.starts_with("GRANT USAGE") {
                self.query(statement).await;
            }
        }
    }

    /// In the order of arrival.
    async fn seqs(&self, name: &str) -> Vec<u64> {
        let rows = self.query(&format!("SELECT SEQ FROM DWH.AUDIT.{name}")).await;
        rows.iter().map(|row| row[0].as_str().unwrap().parse().unwrap()).collect()
    }

    pub(crate) fn config(&self, name: &str, port: u16, mode: &str, pii: &str, erase: &str) -> String {
        let key = self.keys[1].1.replace('\n', "\\n");
        format!(
            "name = \"{name}\"\npii = \"{pii}\"\nerase = \"{erase}\"\ndeadline_s = 10\n[target]\n\
             kind = \"snowflake\"\naccount = \"org-acct\"\nurl = \"http://127.0.0.1:{port}\"\nuser = \"writer\"\n\
             key = {{ env = \"{key}\" }}\nrole = \"writer\"\nwarehouse = \"w\"\ntable = \"dwh.audit.{name}\"\n\
             mode = \"{mode}\"\nallow_http = true\nrows_max = 50"
        )
    }

    fn faults(&self, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(self.dir.path().join("faults"), text).unwrap();
    }

    fn faults_left(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("faults")).unwrap()
    }
}

impl AdminKey {
    fn new(pem: &str) -> Self {
        use sha2::Digest as _;
        let pair = rcgen::KeyPair::from_pem(pem).unwrap();
        let digest = sha2::Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&pair));
        let key = aws_lc_rs::rsa::KeyPair::from_pkcs8(&pair.serialize_der()).unwrap();
        Self { key, fingerprint: STANDARD.encode(digest) }
    }

    fn token(&self) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": format!("ORG-ACCT.ADMIN.SHA256:{}", self.fingerprint), "sub": "ORG-ACCT.ADMIN",
            "iat": now, "exp": now + 600,
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let content = format!("{}.{}", encode(&json!({"alg": "RS256"})), encode(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        self.key.sign(padding, &random, content.as_bytes(), &mut signature).unwrap();
        format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snowflake_gets_everything_once_by_streaming() {
    let account = Account::start().await;
    delivers_through_cuts(&account, "streaming").await;
    wrong_answers_lose_nothing(&account, "streaming").await;
    dropped_rows_are_found(&account).await;
    a_second_process_is_shut_out(&account).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snowflake_gets_everything_once_by_statements() {
    let account = Account::start().await;
    delivers_through_cuts(&account, "sql").await;
    wrong_answers_lose_nothing(&account, "sql").await;
    bad_rows_are_set_aside(&account).await;
    what_needs_a_person_stops(&account).await;
    persons_are_taken_out(&account).await;
}

async fn delivers_through_cuts(account: &Account, mode: &str) {
    let name = format!("cuts_{mode}");
    account.table(&name, Pii::Tokens, Erase::Delete).await;
    let direct = std::net::SocketAddr::from(([127, 0, 0, 1], account.port));
    // Cut in the first calls, within a batch, and around answers.
    let limits = vec![
        (500, usize::MAX),
        (9_000, usize::MAX),
        (usize::MAX, 600),
        (40_000, usize::MAX),
        (usize::MAX, 2_500),
    ];
    let proxy = Proxy::start(direct, limits).await;
    let home = tempfile::tempdir().unwrap();
    let feed = MemoryFeed::new(samples(0, 0..200));
    let toml = account.config(&name, proxy.address.port(), mode, "tokens", "delete");
    let worker = start(&toml, home.path(), feed.clone());
    feed.push(samples(0, 200..400));
    feed.push(samples(1, 0..50));
    caught_up(&worker).await;
    assert_eq!(worker.status().grants, Some(Grants::AppendOnly));
    assert!(proxy.cuts.load(Ordering::SeqCst) >= 2, "{}", proxy.cuts.load(Ordering::SeqCst));
    let expected: Vec<u64> = (0..400).chain(0..50).collect();
    assert_eq!(account.seqs(&name).await, expected);
    // Rows that somebody took away come back by a replay, and only they.
    account.query(&format!("DELETE FROM DWH.AUDIT.{name} WHERE LOG_ID = 0 AND SEQ IN (3, 113)")).await;
    worker.command(Command::ReplayFrom(Position::new(0, 100))).await.unwrap();
    caught_up(&worker).await;
    let mut seqs = account.seqs(&name).await;
    seqs.sort_unstable();
    let mut expected: Vec<u64> = (0..400).filter(|seq| *seq != 3).chain(0..50).collect();
    expected.sort_unstable();
    assert_eq!(seqs, expected);
    worker.stop().await;
    let query = format!(
        "SELECT COUNT(*) FROM DWH.AUDIT.{name} WHERE SEQ = 7 AND LOG_ID = 0 AND EVENT_TIME = '2023-10-27 14:30:00' \
         AND GDPR_CONSENT_RECORDED AND PAYLOAD:queueId::VARCHAR = 'q-sales-support' AND PHONE_HASH = '{}'",
        crate::support::HASH
    );
    assert_eq!(account.query(&query).await[0][0], "1");
}

async fn wrong_answers_lose_nothing(account: &Account, mode: &str) {
    let name = format!("faults_{mode}");
    account.table(&name, Pii::None, Erase::Delete).await;
    let fault = |on: &str, code: u16| json!({"on": on, "do": "status", "code": code});
    let lost = |on: &str| json!({"on": on, "do": "lost"});
    // A few at a time: many in a row would only lengthen the pauses.
    let rounds = match mode {
        "sql" => vec![
            vec![fault("select", 503), fault("insert", 429), lost("insert")],
            vec![fault("insert", 503), lost("insert")],
            vec![json!({"on": "insert", "do": "status", "code": 422, "sql": "000630"})],
        ],
        _ => vec![
            vec![fault("hostname", 503), fault("open", 429)],
            vec![fault("append", 429), lost("append")],
            vec![fault("append", 503), json!({"on": "append", "do": "stale"})],
            vec![fault("status", 503), lost("status")],
            vec![fault("status", 429), fault("append", 401)],
        ],
    };
    let home = tempfile::tempdir().unwrap();
    let toml = account.config(&name, account.port, mode, "none", "delete");
    let feed = MemoryFeed::new(Vec::new());
    account.faults(&rounds[0]);
    let worker = start(&toml, home.path(), feed.clone());
    for (round, from) in rounds.iter().zip((0..).step_by(100)) {
        if from > 0 {
            account.faults(round);
        }
        feed.push(samples(0, from..from + 100));
        caught_up(&worker).await;
        assert_eq!(account.faults_left(), "", "every fault came about");
    }
    let all = 100 * rounds.len() as u64;
    assert_eq!(account.seqs(&name).await, (0..all).collect::<Vec<_>>());
    assert_eq!((worker.status().delivered, worker.status().dead), (all, 0));
    worker.stop().await;
}

async fn dropped_rows_are_found(account: &Account) {
    account.table("dropped", Pii::None, Erase::Delete).await;
    // A batch with dropped rows whose answer nobody hears, and one whose answer arrives.
    account.faults(&[json!({"drop": [13, 44, 120]}), json!({"on": "append", "do": "lost"})]);
    let home = tempfile::tempdir().unwrap();
    let toml = account.config("dropped", account.port, "streaming", "none", "delete");
    let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..200)));
    caught_up(&worker).await;
    let dead: Vec<u64> = worker.dead_letters().iter().map(|letter| letter.at.seq).collect();
    assert_eq!(dead, [13, 44, 120]);
    assert!(worker.dead_letters().iter().all(|letter| letter.code == "dropped_by_target"));
    let expected: Vec<u64> = (0..200).filter(|seq| ![13, 44, 120].contains(seq)).collect();
    assert_eq!(account.seqs("dropped").await, expected);
    account.faults(&[]);
    let all = worker.dead_letters().iter().map(|letter| letter.at).collect();
    worker.command(Command::ReplayDead(all)).await.unwrap();
    until(&worker, |status| status.dead == 0 && status.delivered == 200).await;
    let mut seqs = account.seqs("dropped").await;
    seqs.sort_unstable();
    assert_eq!(seqs, (0..200).collect::<Vec<_>>());
    worker.stop().await;
}

async fn a_second_process_is_shut_out(account: &Account) {
    account.table("fenced", Pii::None, Erase::Delete).await;
    let (first_home, second_home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let toml = account.config("fenced", account.port, "streaming", "none", "delete");
    let feed = MemoryFeed::new(samples(0, 0..100));
    let first = start(&toml, first_home.path(), feed.clone());
    caught_up(&first).await;
    // Another process with a memory of its own: the channel's token tells it what is there.
    let second = start(&toml, second_home.path(), feed.clone());
    caught_up(&second).await;
    feed.push(samples(0, 100..300));
    caught_up(&first).await;
    caught_up(&second).await;
    assert_eq!(account.seqs("fenced").await, (0..300).collect::<Vec<_>>());
    first.stop().await;
    second.stop().await;
}

async fn bad_rows_are_set_aside(account: &Account) {
    account.table("bad", Pii::None, Erase::Null).await;
    account.faults(&[]);
    let home = tempfile::tempdir().unwrap();
    let toml = account.config("bad", account.port, "sql", "none", "null");
    // A column that an admin made stricter than the mapping knows.
    account.query("ALTER TABLE DWH.AUDIT.BAD ALTER COLUMN QUEUE_ID SET NOT NULL").await;
    let mut entries = samples(0, 0..120);
    for bad in [0, 77, 78, 119] {
        let idtrail_connect::Content::Opened(row) = &mut entries[bad].content else { panic!() };
        let mut body = row.body.to_value();
        body["auditEvent"].as_object_mut().unwrap().remove("queueId");
        row.body = body.into();
    }
    let worker = start(&toml, home.path(), MemoryFeed::new(entries));
    caught_up(&worker).await;
    let dead: Vec<u64> = worker.dead_letters().iter().map(|letter| letter.at.seq).collect();
    assert_eq!(dead, [0, 77, 78, 119]);
    assert!(worker.dead_letters().iter().all(|letter| letter.status.as_str() == "100072"));
    assert_eq!(account.seqs("bad").await.len(), 116);
    worker.stop().await;
}

async fn what_needs_a_person_stops(account: &Account) {
    account.table("strict", Pii::None, Erase::Delete).await;
    account.query("CREATE TABLE DWH.AUDIT.TYPED (LOG_ID NUMBER(38,0), SEQ VARCHAR)").await;
    account.query("GRANT INSERT, SELECT ON TABLE DWH.AUDIT.TYPED TO ROLE WRITER").await;
    account.faults(&[]);
    let home = tempfile::tempdir().unwrap();
    let base = account.config("strict", account.port, "streaming", "none", "delete");
    let foreign =
        base.replace(&account.keys[1].1.replace('\n', "\\n"), &account.keys[2].1.replace('\n', "\\n"));
    let cases = [
        ("missing", base.replace("dwh.audit.strict", "dwh.audit.nowhere"), "table_missing"),
        ("differs", base.replace("dwh.audit.strict", "dwh.audit.typed"), "table_differs"),
        ("pipe", base.replace("mode =", "pipe = \"other\"\nmode ="), "table_missing"),
        ("foreign", foreign, "credentials"),
        ("denied", base.replace("role = \"writer\"", "role = \"nobody\""), "denied"),
    ];
    for (name, toml, code) in cases {
        let toml = toml.replacen("\"strict\"", &format!("{name:?}"), 1);
        let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..5)));
        let status = until(&worker, |status| status.circuit == Circuit::Stopped).await;
        assert_eq!(status.last_failure.unwrap().code, code, "{name}");
        assert_eq!((status.delivered, status.dead, status.lag_events), (0, 0, 5), "{name}");
        worker.stop().await;
    }
    account.query("GRANT UPDATE, OWNERSHIP ON TABLE DWH.AUDIT.STRICT TO ROLE WRITER").await;
    let worker = start(&base, home.path(), MemoryFeed::new(samples(0, 0..5)));
    caught_up(&worker).await;
    let can = vec!["UPDATE".to_owned(), "OWNERSHIP".to_owned()];
    assert_eq!(worker.status().grants, Some(Grants::Excess { can }));
    worker.stop().await;
}

async fn persons_are_taken_out(account: &Account) {
    for (name, erase) in [("deleted", Erase::Delete), ("nulled", Erase::Null)] {
        account.table(name, Pii::Tokens, erase).await;
        let word = if erase == Erase::Delete { "delete" } else { "null" };
        let toml = account.config(name, account.port, "sql", "tokens", word);
        let home = tempfile::tempdir().unwrap();
        let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..70)));
        caught_up(&worker).await;
        worker.stop().await;
        let settings: SinkSettings = toml::from_str(&toml).unwrap();
        let TargetSettings::Snowflake(config) = &settings.target else { panic!() };
        let mapping = settings.plan([9; 32]).unwrap().mapping;
        let second = |at: usize| {
            let user = account.keys[at].0.to_lowercase();
            let key = AccountKey::new("org-acct", &user, &Secret::new(account.keys[at].1.clone())).unwrap();
            let config = SnowflakeConfig { user: user.clone(), role: user, ..config.clone() };
            let clock = std::sync::Arc::new(idtrail_port::os::OsClock::default());
            SnowflakeRights::new(&config, key, None, &mapping, clock).unwrap().unwrap()
        };
        let person = Person { customer_ids: vec![format!("gc_{:032x}", 3), "gc_other".to_owned()] };
        let denied = second(1).erase(&person).await.unwrap_err();
        assert_eq!(denied.code, "denied", "the writer must not be able to erase");
        let mut task = second(2);
        assert_eq!(task.lookup(&person).await, Ok(10));
        assert_eq!(task.erase(&person).await, Ok(10));
        assert_eq!(task.probe(&person).await, Ok(0));
        assert!(!task.residual().is_empty());
        let left = if erase == Erase::Delete { 60 } else { 70 };
        assert_eq!(account.seqs(name).await.len(), left);
    }
    let personal = "SELECT COUNT(*) FROM DWH.AUDIT.NULLED WHERE SEQ % 7 = 3 \
                    AND (PAYLOAD IS NOT NULL OR PHONE_HASH IS NOT NULL OR INTERACTION_ID IS NOT NULL)";
    assert_eq!(account.query(personal).await[0][0], "0");
}

#[test]
fn statuses_and_codes_have_verdicts() {
    for status in [401, 403, 404] {
        assert!(matches!(judge(&REST_RULES, &status), Some((Verdict::Stop, _))), "{status}");
    }
    assert_eq!(judge(&REST_RULES, &429), Some((Verdict::Retry { after: None }, "busy")));
    // A server's error leaves open whether the batch was taken; nothing stands for it, so it is looked up anew.
    assert_eq!(judge(&REST_RULES, &503), None);
    let mut all: Vec<&str> = SQL_RULES.iter().flat_map(|rule| rule.statuses).copied().collect();
    assert!(all.iter().all(|code| code.len() == 6));
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count, "a code has two verdicts");
}
