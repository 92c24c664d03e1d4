//! Webhooks towards a receiver that refuses, breaks and forgets to answer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use idtrail_connect::Position;
use idtrail_connect::engine::{Circuit, Command};
use idtrail_connect::sink::webhook::Guard;
use serde_json::Value;

use crate::proxy::Proxy;
use crate::support::{MemoryFeed, caught_up, samples, start, until};

const SECRETS: [&str; 2] =
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"];

#[derive(Clone, Default)]
pub(crate) struct Receiver {
    ids: Arc<Mutex<BTreeSet<String>>>,
    seqs: Arc<Mutex<Vec<u64>>>,
    /// In the order of arrival.
    pub(crate) arrived: Arc<Mutex<Vec<Position>>>,
    calls: Arc<Mutex<u64>>,
}

/// Takes an event once; every fifth call is busy, every seventh breaks; one event is never liked.
async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap) {
    for secret in SECRETS {
        let oracle = standardwebhooks::Webhook::new(secret).unwrap();
        oracle.verify(&body, &headers).unwrap();
    }
    let call = {
        let mut calls = receiver.calls.lock().unwrap();
        *calls += 1;
        *calls
    };
    let mut extra = HeaderMap::new();
    if call % 5 == 0 {
        extra.insert("retry-after", "0".parse().unwrap());
        return (StatusCode::TOO_MANY_REQUESTS, extra);
    }
    if call % 7 == 0 {
        return (StatusCode::INTERNAL_SERVER_ERROR, extra);
    }
    let message: Value = serde_json::from_slice(&body).unwrap();
    let seq = message["data"]["seq"].as_u64().unwrap();
    if seq == 13 {
        return (StatusCode::UNPROCESSABLE_ENTITY, extra);
    }
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    if receiver.ids.lock().unwrap().insert(id) {
        receiver.seqs.lock().unwrap().push(seq);
        let log_id = u32::try_from(message["data"]["log_id"].as_u64().unwrap()).unwrap();
        receiver.arrived.lock().unwrap().push(Position::new(log_id, seq));
    }
    (StatusCode::NO_CONTENT, extra)
}

pub(crate) async fn serve() -> (Receiver, std::net::SocketAddr) {
    let receiver = Receiver::default();
    let app = Router::new().fallback(receive).with_state(receiver.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (receiver, address)
}

pub(crate) fn config(address: std::net::SocketAddr, extra: &str) -> String {
    format!(
        "name = \"hook\"\nerase = \"none\"\n[target]\nkind = \"webhook\"\nallow_http = true\n\
         url = \"http://{address}/in\"\nsecrets = [{{ env = \"{}\" }}, {{ env = \"{}\" }}]\n{extra}",
        SECRETS[0], SECRETS[1]
    )
}

#[tokio::test]
async fn every_event_arrives_once_and_in_order() {
    let (receiver, address) = serve().await;
    // Requests that never arrive whole, and answers that are lost.
    let proxy =
        Proxy::start(address, vec![(700, usize::MAX), (usize::MAX, 30), (5000, 900), (9000, 200)]).await;
    let home = tempfile::tempdir().unwrap();
    let toml = config(proxy.address, "allow_networks = [\"127.0.0.0/8\"]");
    let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..40)));
    caught_up(&worker).await;
    let expected: Vec<u64> = (0..40).filter(|seq| *seq != 13).collect();
    assert_eq!(*receiver.seqs.lock().unwrap(), expected);
    assert!(proxy.cuts.load(std::sync::atomic::Ordering::SeqCst) >= 3);
    let dead = worker.dead_letters();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].at, dead[0].code.as_str(), dead[0].status.as_str()),
        (Position::new(0, 13), "refused", "422")
    );
    worker.command(Command::ReplayDead(vec![dead[0].at])).await.unwrap();
    until(&worker, |_| worker.dead_letters()[0].attempts > dead[0].attempts).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_private_receiver_is_refused_unless_allowed() {
    let (receiver, address) = serve().await;
    let home = tempfile::tempdir().unwrap();
    for (name, url) in [("literal", format!("{address}")), ("name", format!("localhost:{}", address.port()))]
    {
        let toml =
            config(address, "").replace(&address.to_string(), &url).replace("\"hook\"", &format!("{name:?}"));
        let worker = start(&toml, home.path(), MemoryFeed::new(samples(0, 0..3)));
        let status = until(&worker, |status| status.circuit == Circuit::Stopped).await;
        assert_eq!(status.last_failure.unwrap().code, "address_not_public");
        assert_eq!((status.delivered, status.dead, status.lag_events), (0, 0, 3));
        worker.stop().await;
    }
    assert_eq!(*receiver.calls.lock().unwrap(), 0);
}

#[test]
fn only_public_addresses_are_public() {
    let guard = Guard::new(&["10.1.0.0/16".to_owned(), "fd00:1::/32".to_owned()]).unwrap();
    let public =
        ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5", "172.32.0.1"];
    let private = [
        "0.0.0.0",
        "10.0.0.1",
        "10.2.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "192.0.0.8",
        "198.18.0.1",
        "203.0.113.7",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a00:1",
        "fc00::1",
        "fd00:2::1",
        "fe80::1",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "2002:a00:1::",
        "3fff::1",
    ];
    for (addresses, expected) in [(public.as_slice(), true), (private.as_slice(), false)] {
        for address in addresses {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(guard.check(parsed).is_ok(), expected, "{address}");
        }
    }
    for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8"] {
        assert!(Guard::new(&[wrong.to_owned()]).is_err(), "{wrong}");
    }
}
