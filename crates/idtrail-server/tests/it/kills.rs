//! `kill -9` at random moments under load: nothing acknowledged is lost, no index is given twice, the root stays.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use idtrail_port::Network as _;
use idtrail_port::os::OsNetwork;
use idtrail_sim::{Rng, Seed};
use idtrail_tlog::{Frontier, LogIndex, TlogProof, verify_consistency};
use serde_json::{Value, json};

use crate::rig::{EVENTS, Installation, idtrail, sample};

const ROUNDS: u64 = 20;

#[test]
fn twenty_kills_under_load_lose_nothing_acknowledged() {
    let installation = Installation::new();
    let mut rng = Rng::new(Seed::new(77));
    let kept: Arc<Mutex<BTreeMap<u64, Value>>> = Arc::default();
    let next = Arc::new(AtomicU64::new(0));
    for round in 0..ROUNDS {
        let server = installation.start();
        let killed_after = 20 + rng.below(400);
        load_until_killed(&installation, server.address, server.pid(), killed_after, &next, &kept);
        drop(server);
        let report = idtrail(&["fsck", "--config", installation.config().to_str().unwrap()]);
        assert_eq!(
            report.status.code(),
            Some(0),
            "round {round}: {}",
            String::from_utf8_lossy(&report.stdout)
        );
    }
    let server = installation.start();
    let policy = installation.policy();
    let checkpoint = server.get("/checkpoint");
    let newest = policy.open_checkpoint(checkpoint.body()).unwrap().checkpoint;
    let leaves = leaves(&server, &installation, newest.size.get());
    let mut tree = Frontier::empty();
    let roots: Vec<_> = leaves
        .iter()
        .map(|leaf| {
            tree.append(*leaf);
            tree.root()
        })
        .collect();
    assert_eq!(tree.root(), newest.root);
    let kept = kept.lock().unwrap();
    assert!(kept.len() > 500, "the load was too small to prove anything: {}", kept.len());
    for (index, receipt) in kept.iter() {
        let leaf = leaves[*index as usize];
        assert_eq!(receipt["leafHash"], leaf.to_string(), "entry {index}");
        let proof = TlogProof::parse(receipt["proof"].as_str().unwrap()).unwrap();
        assert_eq!(proof.index, LogIndex::new(*index));
        let then = proof.verify(&leaf, &policy).unwrap().checkpoint;
        assert_eq!(
            then.root,
            roots[then.size.get() as usize - 1],
            "the tree of {} is another one now",
            then.size
        );
        verify_consistency(then.size, then.size, &then.root, &roots[then.size.get() as usize - 1], &[])
            .unwrap();
    }
}

/// Posts from several connections and kills the server once enough events were acknowledged.
fn load_until_killed(
    installation: &Installation,
    address: std::net::SocketAddr,
    pid: u32,
    killed_after: u64,
    next: &Arc<AtomicU64>,
    kept: &Arc<Mutex<BTreeMap<u64, Value>>>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let acknowledged = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (next, kept, acknowledged) = (Arc::clone(next), Arc::clone(kept), Arc::clone(&acknowledged));
            let key = installation.key.clone();
            senders.spawn(async move {
                let network = OsNetwork::default();
                loop {
                    let mut event = sample();
                    event["auditEvent"]["number"] = json!(next.fetch_add(1, Ordering::Relaxed));
                    let request = Request::post(format!("http://{address}{EVENTS}"))
                        .header("content-type", "application/json")
                        .header("x-api-key", &key)
                        .body(Bytes::from(event.to_string()))
                        .unwrap();
                    // An exchange that fails is the kill; its event may or may not be there.
                    let Ok(response) = network.exchange(request, Duration::from_secs(10)).await else {
                        return;
                    };
                    assert_eq!(response.status().as_u16(), 201);
                    let receipt: Value = serde_json::from_slice(response.body()).unwrap();
                    let index = receipt["index"].as_u64().unwrap();
                    assert!(
                        kept.lock().unwrap().insert(index, receipt).is_none(),
                        "index {index} was given twice"
                    );
                    if acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == killed_after {
                        assert!(
                            Command::new("kill")
                                .args(["-KILL", &pid.to_string()])
                                .status()
                                .unwrap()
                                .success()
                        );
                    }
                }
            });
        }
        while let Some(outcome) = senders.join_next().await {
            outcome.unwrap();
        }
    });
}

fn leaves(server: &crate::rig::Running, installation: &Installation, size: u64) -> Vec<idtrail_tlog::Hash> {
    let mut leaves = Vec::new();
    for bundle in idtrail_tlog::bundles(idtrail_tlog::TreeSize::new(size)) {
        let request = Request::get(server.url(&format!("/{}", bundle.path())))
            .header("x-api-key", &installation.key)
            .body(Bytes::new())
            .unwrap();
        let response = server.send(request);
        let entries = idtrail_tlog::bundle::decode(response.body()).unwrap();
        leaves.extend(entries.iter().map(|entry| idtrail_tlog::leaf_hash(entry)));
    }
    leaves
}
