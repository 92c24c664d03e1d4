//! The wide tier, which `scripts/test-wide` runs: second opinions on the stand-ins that every test run uses.
//!
//! A second object store (moto) beside SeaweedFS, and a second client (FreeTDS, by pymssql) on the TDS server that our
//! client delivered to: if only our client understood it, it would be no test of the protocol.

use std::net::SocketAddr;
use std::process::Command as Process;

use idtrail_connect::personal::{Erase, Pii};

use crate::azure::Server;
use crate::emulator::{Emulator, free_port, place, script};
use crate::proxy::Proxy;
use crate::s3::{SECRET, Store, config};
use crate::support::{MemoryFeed, caught_up, samples, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_object_store_gets_everything_once() {
    let port = free_port();
    let arguments = ["-H", "127.0.0.1", "-p", &port.to_string()];
    let mut emulator = Emulator::start("wide", "moto_server", &arguments);
    emulator.listening(port).await;
    let made = reqwest::Client::new()
        .put(format!("http://127.0.0.1:{port}/warehouse"))
        .header("authorization", "AWS4-HMAC-SHA256 Credential=writer/20260101/us-east-1/s3/aws4_request")
        .send()
        .await
        .unwrap();
    assert!(made.status().is_success(), "{}", made.status());
    let store = Store::of(emulator, port);
    let any = usize::MAX;
    let cuts = vec![(200, any), (9_000, any), (any, 100), (40_000, any), (any, 700)];
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port)), cuts).await;
    let home = tempfile::tempdir().unwrap();
    let feed = MemoryFeed::new(samples(0, 0..150));
    let toml = config(proxy.address.port(), SECRET);
    for more in [0, 50] {
        feed.push(samples(0, 150..150 + more));
        let worker = start(&toml, home.path(), feed.clone());
        caught_up(&worker).await;
        worker.stop().await;
        let expected: Vec<_> = (0..150 + more).map(|seq| (0, seq)).collect();
        assert_eq!(store.arrived("trail").await, expected);
        // The store itself says how far it is.
        std::fs::remove_file(home.path().join("s3").join("cursor")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_client_reads_what_the_azure_sink_wrote() {
    let server = Server::start().await;
    drop(server.table("wide", Pii::None, Erase::Delete).await);
    let home = tempfile::tempdir().unwrap();
    let toml = server.config("wide", server.port, "none", "delete");
    let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..120)));
    caught_up(&worker).await;
    worker.stop().await;
    let read = Process::new(place("wide").join("bin").join("python"))
        .args([script("read_tds.py"), server.port.to_string(), "audit.wide".to_owned()])
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let seqs: Vec<u64> =
        String::from_utf8(read.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(seqs, (0..120).collect::<Vec<_>>());
}
