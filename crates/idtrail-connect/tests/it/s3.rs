//! A real object store (SeaweedFS): everything once, through connections that are cut and restarts; replays fill gaps only.

use std::net::SocketAddr;

use futures_util::TryStreamExt as _;
use idtrail_connect::engine::{Circuit, Command};
use idtrail_connect::{LogId, Position};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use serde_json::Value;

use crate::emulator::{Emulator, free_port};
use crate::proxy::Proxy;
use crate::support::{MemoryFeed, caught_up, samples, start, until};

const BUCKET: &str = "warehouse";

pub(crate) struct Store {
    _emulator: Emulator,
    pub(crate) port: u16,
}

/// Its side ports are ten thousand higher.
fn low_port() -> u16 {
    loop {
        let port = free_port();
        if port < 55_000 {
            return port;
        }
    }
}

impl Store {
    /// A store that runs already.
    #[cfg(feature = "wide")]
    pub(crate) fn of(emulator: Emulator, port: u16) -> Self {
        Self { _emulator: emulator, port }
    }

    pub(crate) async fn start() -> Self {
        let keys = tempfile::NamedTempFile::new().unwrap();
        let identities = r#"{"identities": [{"name": "writer", "credentials": [{"accessKey": "writer",
            "secretKey": "a secret of the writer"}], "actions": ["Admin", "Read", "Write", "List"]}]}"#;
        std::fs::write(keys.path(), identities).unwrap();
        let port = low_port();
        let number = |name: &str, port: u16| format!("-{name}={port}");
        let arguments = [
            "server".to_owned(),
            "-dir=.".to_owned(),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            "-master.volumeSizeLimitMB=64".to_owned(),
            "-volume.max=8".to_owned(),
            "-filer".to_owned(),
            "-s3".to_owned(),
            format!("-s3.config={}", keys.path().display()),
            number("master.port", low_port()),
            number("volume.port", low_port()),
            number("filer.port", low_port()),
            number("s3.port", port),
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut emulator = Emulator::start("s3", "weed", &arguments);
        emulator.listening(port).await;
        let store = Self { _emulator: emulator, port };
        // It listens before its parts have found each other.
        for attempt in 0.. {
            match store.client().put(&"ready".into(), "yes".into()).await {
                Ok(_) => break,
                Err(error) => assert!(attempt < 200, "{error}\n{}", store._emulator.log()),
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        drop(keys);
        store
    }

    fn client(&self) -> object_store::aws::AmazonS3 {
        AmazonS3Builder::new()
            .with_endpoint(format!("http://127.0.0.1:{}", self.port))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(BUCKET)
            .with_access_key_id("writer")
            .with_secret_access_key("a secret of the writer")
            .build()
            .unwrap()
    }

    /// The places of all rows, and how many objects there are.
    async fn rows(&self, prefix: &str) -> (Vec<u64>, usize) {
        let (client, mut all) = (self.client(), Vec::new());
        let names: Vec<_> = client.list(Some(&prefix.into())).try_collect().await.unwrap();
        let names: Vec<_> =
            names.iter().filter(|object| object.location.as_ref().ends_with(".jsonl")).collect();
        for object in &names {
            let bytes = client.get(&object.location).await.unwrap().bytes().await.unwrap();
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                all.push(serde_json::from_slice::<Value>(line).unwrap()["seq"].as_u64().unwrap());
            }
        }
        all.sort_unstable();
        (all, names.len())
    }

    /// The places of all rows, in the order of the names, which is that of their arrival.
    pub(crate) async fn arrived(&self, prefix: &str) -> Vec<(u64, u64)> {
        let (client, mut all) = (self.client(), Vec::new());
        let names: Vec<_> = client.list(Some(&prefix.into())).try_collect().await.unwrap();
        let mut names: Vec<_> = names.into_iter().map(|object| object.location).collect();
        names.sort();
        for name in names.iter().filter(|name| name.as_ref().ends_with(".jsonl")) {
            let bytes = client.get(name).await.unwrap().bytes().await.unwrap();
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let row: Value = serde_json::from_slice(line).unwrap();
                all.push((row["log_id"].as_u64().unwrap(), row["seq"].as_u64().unwrap()));
            }
        }
        all
    }
}

pub(crate) const SECRET: &str = "a secret of the writer";

pub(crate) fn config(port: u16, secret: &str) -> String {
    format!(
        "name = \"s3\"\nerase = \"none\"\ndeadline_s = 20\n[target]\nkind = \"s3\"\nbucket = \"{BUCKET}\"\n\
         prefix = \"trail/events\"\nendpoint = \"http://127.0.0.1:{port}\"\nallow_http = true\nformat = \"jsonl\"\n\
         access_key = {{ env = \"writer\" }}\nsecret_key = {{ env = \"{secret}\" }}\nlinger_ms = 1\nrows_max = 40\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_gets_everything_once() {
    let store = Store::start().await;
    let any = usize::MAX;
    let cuts = vec![(200, any), (9_000, any), (any, 100), (40_000, any), (any, 700), (90_000, 2_000)];
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], store.port)), cuts).await;
    let home = tempfile::tempdir().unwrap();
    let feed = MemoryFeed::new(samples(0, 0..150));
    let toml = config(proxy.address.port(), "a secret of the writer");
    let worker = start(&toml, home.path(), feed.clone());
    caught_up(&worker).await;
    worker.stop().await;
    assert_eq!(store.rows("trail").await.0, (0..150).collect::<Vec<_>>());
    // A cursor that was lost: the store itself says how far it is.
    std::fs::remove_file(home.path().join("s3").join("cursor")).unwrap();
    feed.push(samples(0, 150..200));
    let worker = start(&toml, home.path(), feed.clone());
    caught_up(&worker).await;
    let (rows, objects) = store.rows("trail").await;
    assert_eq!(rows, (0..200).collect::<Vec<_>>());
    // A replay leaves alone what is there, and fills what somebody took away.
    let client = store.client();
    let names: Vec<_> = client.list(Some(&"trail".into())).try_collect().await.unwrap();
    let first =
        names.iter().map(|object| &object.location).find(|name| name.as_ref().contains("/events-")).unwrap();
    client.delete(first).await.unwrap();
    assert!(store.rows("trail").await.0.len() < 200);
    worker.command(Command::ReplayFrom(Position { log_id: LogId::new(0), seq: 0 })).await.unwrap();
    caught_up(&worker).await;
    let (rows, after) = store.rows("trail").await;
    assert_eq!(rows, (0..200).collect::<Vec<_>>());
    assert!(after <= objects + 5, "{objects} objects became {after}");
    worker.stop().await;
    two_writers_of_one_place(&store).await;
    parquet(&store).await;
    // A wrong key needs a person.
    let home = tempfile::tempdir().unwrap();
    let worker = start(&config(store.port, "another secret"), home.path(), feed);
    let status = until(&worker, |status| status.circuit == Circuit::Stopped).await;
    assert_eq!(status.last_failure.unwrap().code, "denied");
    worker.stop().await;
}

/// Two processes on one prefix, with batches of different sizes: each name is taken once, and whoever comes second goes on
/// behind what the first one wrote.
async fn two_writers_of_one_place(store: &Store) {
    let feed = MemoryFeed::new(samples(0, 0..100));
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let workers: Vec<_> = homes
        .iter()
        .zip([7, 11])
        .map(|(home, rows)| {
            let toml = config(store.port, SECRET).replace("trail/events", "fenced");
            let toml = toml.replace("rows_max = 40", &format!("rows_max = {rows}"));
            start(&toml, home.path(), feed.clone())
        })
        .collect();
    for from in (100..220).step_by(40) {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        feed.push(samples(0, from..from + 40));
    }
    for worker in &workers {
        caught_up(worker).await;
        worker.stop().await;
    }
    let expected: Vec<_> = (0..220).map(|seq| (0, seq)).collect();
    assert_eq!(store.arrived("fenced").await, expected, "once, and in order");
}

async fn parquet(store: &Store) {
    let home = tempfile::tempdir().unwrap();
    let toml = config(store.port, SECRET).replace("trail/events", "columns").replace("jsonl", "parquet");
    let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..90)));
    caught_up(&worker).await;
    worker.stop().await;
    let client = store.client();
    let names: Vec<_> = client.list(Some(&"columns".into())).try_collect().await.unwrap();
    let mut rows = 0;
    for object in names.iter().filter(|object| object.location.as_ref().ends_with(".parquet")) {
        let bytes = client.get(&object.location).await.unwrap().bytes().await.unwrap();
        let found = idtrail_connect::sink::files::read_texts(bytes.into(), &["event_type"]).unwrap();
        assert!(found.iter().all(|row| row[0].as_deref() == Some("IDENTITY_RESOLUTION")));
        rows += found.len();
    }
    assert_eq!(rows, 90);
}
