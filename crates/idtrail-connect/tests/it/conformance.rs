//! All sinks get the same events, each through a proxy that cuts connections, and are counted: nothing lost, nothing twice,
//! in order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use idtrail_connect::engine::{Cursor, Wanted, balance};
use idtrail_connect::personal::{Erase, Pii};
use idtrail_connect::settings::SinkSettings;
use idtrail_connect::worker::Worker;
use idtrail_connect::{FeedEntry, Position};
use serde_json::Value;

use crate::azure::Server;
use crate::bigquery::Cloud;
use crate::postgres::Cluster;
use crate::proxy::Proxy;
use crate::s3::{self, Store};
use crate::snowflake::Account;
use crate::support::{FixedSecrets, MemoryFeed, caught_up, ports, samples, start};
use crate::webhook::{self, Receiver};

const NAME: &str = "conform";
const ROWS: &str = "rows_max = 50";
/// VOICE only: every third event is not wanted.
const FILTER: &str = "filter = \"{{auditEvent.channelType}} == 'VOICE'\"\n";

/// Where rows arrive.
enum Target {
    Files(tempfile::TempDir),
    Postgres(Cluster),
    Webhook(Receiver),
    BigQuery(Cloud),
    Azure(Server),
    S3(Store),
    Snowflake(std::sync::Arc<Account>, &'static str),
}

impl Target {
    /// Returns the places of the rows, in the order of arrival.
    async fn arrived(&self) -> Vec<Position> {
        let pairs: Vec<(u64, u64)> = match self {
            Self::Files(dir) => {
                let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
                let mut files: Vec<_> =
                    files.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
                files.sort();
                let lines = files.iter().flat_map(|path| {
                    let text = std::fs::read_to_string(path).unwrap();
                    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
                });
                lines.map(|row| (row["log_id"].as_u64().unwrap(), row["seq"].as_u64().unwrap())).collect()
            }
            Self::S3(store) => store.arrived("trail").await,
            Self::Webhook(receiver) => return receiver.arrived.lock().unwrap().clone(),
            Self::Postgres(cluster) => {
                let admin = cluster.admin().await;
                let query = format!("SELECT log_id, seq FROM audit.{NAME} ORDER BY ctid");
                let rows = admin.query(&query, &[]).await.unwrap();
                let number = |row: &tokio_postgres::Row, at| u64::try_from(row.get::<_, i64>(at)).unwrap();
                rows.iter().map(|row| (number(row, 0), number(row, 1))).collect()
            }
            Self::Azure(server) => {
                let query = format!("SELECT log_id, seq FROM [audit].[{NAME}] ORDER BY rowid");
                let mut admin = server.admin().await;
                let rows = admin.simple_query(query).await.unwrap().into_first_result().await.unwrap();
                let number =
                    |row: &tiberius::Row, at: usize| u64::try_from(row.get::<i64, _>(at).unwrap()).unwrap();
                rows.iter().map(|row| (number(row, 0), number(row, 1))).collect()
            }
            Self::BigQuery(cloud) => {
                texts(cloud.query(&format!("SELECT log_id, seq FROM `p.audit.{NAME}`")).await)
            }
            Self::Snowflake(account, table) => {
                texts(account.query(&format!("SELECT LOG_ID, SEQ FROM DWH.AUDIT.{table}")).await)
            }
        };
        pairs.into_iter().map(|(log_id, seq)| Position::new(u32::try_from(log_id).unwrap(), seq)).collect()
    }
}

fn texts(rows: Vec<Vec<Value>>) -> Vec<(u64, u64)> {
    let number = |value: &Value| value.as_str().unwrap().parse().unwrap();
    rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect()
}

/// Two origins, with entries that nobody can read any more and one that the storage changed.
fn entries() -> Vec<FeedEntry> {
    let mut all: Vec<FeedEntry> = samples(0, 0..120).into_iter().chain(samples(1, 0..60)).collect();
    for at in [5, 6, 40, 119, 130] {
        all[at] = FeedEntry::erased(all[at].position);
    }
    all[91] = FeedEntry::damaged(all[91].position);
    all
}

fn wanted(entries: &[FeedEntry]) -> BTreeMap<Position, Wanted> {
    let of = |entry: &FeedEntry| match &entry.content {
        idtrail_connect::Content::Erased => Wanted::Erased,
        idtrail_connect::Content::Damaged => Wanted::Yes,
        idtrail_connect::Content::Opened(_) if entry.position.seq.is_multiple_of(3) => Wanted::No,
        idtrail_connect::Content::Opened(_) => Wanted::Yes,
    };
    entries.iter().map(|entry| (entry.position, of(entry))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sink_delivers_the_same() {
    let (cloud, server, account, store) =
        tokio::join!(Cloud::start(), Server::start(), Account::start(), Store::start());
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let (receiver, hook) = webhook::serve().await;
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    // The n-th connection is cut after so many bytes, there and back.
    let any = usize::MAX;
    let cuts = vec![(50, any), (9_000, any), (any, 900), (30_000, any), (any, 2_900), (60_000, 5_000)];
    let through = |target: SocketAddr| Proxy::start(target, cuts.clone());

    let files = tempfile::tempdir().unwrap();
    let mut targets: Vec<(&str, String, Target)> = Vec::new();
    let toml = format!(
        "name = \"files\"\nerase = \"none\"\n[target]\nkind = \"files\"\ndir = {:?}\nformat = \"jsonl\"\nlinger_ms = 1\n{ROWS}",
        files.path()
    );
    targets.push(("files", toml, Target::Files(files)));
    let proxy = through(hook).await;
    let networks = "allow_networks = [\"127.0.0.0/8\"]";
    targets.push(("webhook", webhook::config(proxy.address, networks), Target::Webhook(receiver)));
    drop(cluster.table(NAME, Pii::None, Erase::Delete).await);
    let proxy = through(local(cluster.port)).await;
    let toml = cluster.config(NAME, proxy.address.port(), "writer", "none", "delete");
    targets.push(("postgres", toml, Target::Postgres(cluster)));
    cloud.table(NAME, Pii::None, Erase::Delete).await;
    let proxy = through(local(cloud.grpc)).await;
    let toml = cloud.config(NAME, proxy.address.port(), "none", "delete");
    targets.push(("bigquery", toml, Target::BigQuery(cloud)));
    drop(server.table(NAME, Pii::None, Erase::Delete).await);
    let proxy = through(local(server.port)).await;
    let toml = server.config(NAME, proxy.address.port(), "none", "delete");
    targets.push(("azure", toml, Target::Azure(server)));
    let proxy = through(local(store.port)).await;
    let toml =
        s3::config(proxy.address.port(), s3::SECRET).replace("\"s3\"\nerase", &format!("\"{NAME}\"\nerase"));
    targets.push(("s3", toml, Target::S3(store)));
    let account = std::sync::Arc::new(account);
    for mode in ["streaming", "sql"] {
        account.table(mode, Pii::None, Erase::Delete).await;
        let proxy = through(local(account.port)).await;
        let toml = account.config(mode, proxy.address.port(), mode, "none", "delete");
        targets.push((mode, toml, Target::Snowflake(account.clone(), mode)));
    }

    let home = tempfile::tempdir().unwrap();
    let all = entries();
    let log = wanted(&all);
    let feed = MemoryFeed::new(all[..60].to_vec());
    let begin = |name: &str, toml: &str| {
        let own = home.path().join(name);
        std::fs::create_dir(&own).unwrap();
        start(&format!("{FILTER}{toml}"), &own, feed.clone())
    };
    let workers: Vec<Worker> = targets.iter().map(|(name, toml, _)| begin(name, toml)).collect();
    // The rest comes while connections break.
    for chunk in all[60..].chunks(40) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        feed.push(chunk.to_vec());
    }
    for ((name, toml, target), worker) in targets.iter().zip(workers) {
        caught_up(&worker).await;
        let dead: BTreeSet<Position> = worker.dead_letters().iter().map(|letter| letter.at).collect();
        let arrived = target.arrived().await;
        let found = balance(&log, &arrived, &dead, &BTreeSet::new(), all.last().unwrap().position.next());
        assert!(found.holds(), "{name}: {found:?}");
        // The damaged entry; and the webhook's receiver never likes one event of each origin.
        let refused = if *name == "webhook" { 3 } else { 1 };
        assert_eq!(dead.len(), refused, "{name}");
        let wanted = log.values().filter(|wanted| **wanted == Wanted::Yes).count();
        assert_eq!(arrived.len(), wanted - refused, "{name}");
        worker.stop().await;
        // What a restore left behind is counted in the target itself, across logs.
        let (first, last) = (Position::new(0, 20), Position::new(1, 10));
        let there = arrived.iter().filter(|place| (first..=last).contains(place)).count() as u64;
        let can_be_asked = !matches!(*name, "webhook" | "bigquery");
        assert_eq!(count(toml, first, last).await, can_be_asked.then_some(there), "{name}");
    }
}

async fn count(toml: &str, first: Position, last: Position) -> Option<u64> {
    let settings: SinkSettings = toml::from_str(toml).unwrap();
    let plan = settings.plan([9; 32]).unwrap();
    let mut sink = settings.sink(&plan, &FixedSecrets, &ports()).unwrap();
    // The proxies may have cuts left.
    for _ in 0..20 {
        if sink.open(&Cursor::default()).await.is_ok()
            && let Ok(count) = sink.count(first, last).await
        {
            return count;
        }
    }
    panic!("no answer");
}
