//! Each fate of an exchange: what the handler saw, what the caller got, how long it took.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use idtrail_port::{Clock, Network, NetworkError};
use idtrail_sim::{Fate, NetworkRates, Seed, SimClock, SimNetwork, seeds};

/// Polls a future that has nothing to wait for.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing in a simulation waits"),
    }
}

const DEADLINE: Duration = Duration::from_millis(1000);

pub(crate) struct Server {
    pub(crate) network: SimNetwork,
    pub(crate) clock: SimClock,
    hits: Arc<AtomicU64>,
}

impl Server {
    /// A server that counts its requests and answers with the count.
    pub(crate) fn new(seed: u64, rates: NetworkRates) -> Self {
        let (clock, hits) = (SimClock::default(), Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&hits);
        let handler = move |request: Request<Bytes>| {
            assert_eq!((request.uri().path(), request.body().as_ref()), ("/x", b"body".as_ref()));
            let hit = counter.fetch_add(1, Ordering::SeqCst) + 1;
            let mut answer = Response::new(Bytes::from(hit.to_string()));
            *answer.status_mut() = StatusCode::CREATED;
            answer
        };
        Self { network: SimNetwork::new(Seed::new(seed), clock.clone(), rates, handler), clock, hits }
    }

    /// Sends one request; returns the answer, or what kind of error came.
    pub(crate) fn send(&self) -> Result<Bytes, &'static str> {
        let request = Request::post("https://example.test/x").body(Bytes::from_static(b"body")).unwrap();
        match now(self.network.exchange(request, DEADLINE)) {
            Ok(answer) => Ok(answer.into_body()),
            Err(NetworkError::Unreachable { .. }) => Err("unreachable"),
            Err(NetworkError::Unknown { .. }) => Err("unknown"),
        }
    }

    fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }

    fn passed_ms(&self) -> u64 {
        self.clock.monotonic_ns() / 1_000_000
    }
}

#[test]
fn each_fate_is_what_it_says() {
    let one = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
    for (fate, got, hits, passed_ms) in [
        (Fate::Answered, one("1"), 1, 0),
        (Fate::Unreachable, Err("unreachable"), 0, 0),
        (Fate::LostRequest, Err("unknown"), 0, 1000),
        (Fate::LostReply, Err("unknown"), 1, 1000),
        (Fate::Duplicated, one("2"), 2, 0),
        (Fate::Late, Err("unknown"), 0, 1000),
    ] {
        let server = Server::new(0, NetworkRates::default());
        server.network.force([fate]);
        assert_eq!((server.send(), server.hits(), server.passed_ms()), (got, hits, passed_ms), "{fate:?}");
        let log = server.network.log();
        assert_eq!(log.len(), 1);
        assert_eq!(
            (log[0].fate, log[0].status.is_some(), log[0].at_ns),
            (fate, hits > 0, passed_ms * 1_000_000)
        );
        let late = u64::from(fate == Fate::Late);
        assert_eq!(
            server.send(),
            Ok(Bytes::from((hits + late + 1).to_string())),
            "{fate:?}: the next is drawn again"
        );
    }
}

#[test]
fn a_late_request_comes_before_the_next_one() {
    let server = Server::new(0, NetworkRates::default());
    server.network.force([Fate::Late]);
    assert_eq!(server.send(), Err("unknown"));
    assert_eq!(server.hits(), 0);
    assert_eq!(server.send().unwrap(), "2");
    let log: Vec<(u64, Fate, bool)> =
        server.network.log().iter().map(|line| (line.index, line.fate, line.status.is_some())).collect();
    assert_eq!(log, [(0, Fate::Late, false), (0, Fate::Late, true), (1, Fate::Answered, true)]);
    server.network.force([Fate::Late, Fate::Late]);
    assert_eq!(server.send(), Err("unknown"));
    assert_eq!(server.send(), Err("unknown"));
    assert_eq!((now(server.network.deliver_late()), server.hits()), (1, 4));
}

#[test]
fn an_answer_takes_time_but_never_more_than_the_deadline() {
    let rates = NetworkRates { delay_max: Duration::from_millis(1500), ..NetworkRates::default() };
    let server = Server::new(0, rates);
    for _ in 0..200 {
        let before = server.passed_ms();
        let _outcome = server.send();
        assert!(server.passed_ms() - before <= 1000);
    }
    let fates = |fate| server.network.log().iter().filter(|line| line.fate == fate).count();
    assert!(fates(Fate::Answered) > 20 && fates(Fate::Late) > 20 && fates(Fate::LostReply) > 20);
    assert_eq!(fates(Fate::Unreachable), 0);
}

#[test]
fn rates_are_kept() {
    let rates =
        NetworkRates { lost_reply_permille: 300, duplicated_permille: 100, ..NetworkRates::default() };
    let server = Server::new(0, rates);
    for _ in 0..10_000 {
        let _outcome = server.send();
    }
    let log = server.network.log();
    let share = |fate| log.iter().filter(|line| line.fate == fate).count();
    assert!((2850..3150).contains(&share(Fate::LostReply)), "{}", share(Fate::LostReply));
    assert!((900..1100).contains(&share(Fate::Duplicated)), "{}", share(Fate::Duplicated));
    assert_eq!(share(Fate::LostReply) + share(Fate::Duplicated) + share(Fate::Answered), log.len());
}

#[test]
fn one_seed_gives_one_history() {
    let run = |seed| {
        let server = Server::new(seed, NetworkRates::harsh());
        let answers: Vec<_> = (0..300).map(|_| server.send()).collect();
        (answers, server.network.log())
    };
    for seed in seeds(5) {
        assert_eq!(run(seed), run(seed));
        assert_ne!(run(seed), run(seed + 1));
    }
}
