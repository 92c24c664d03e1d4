//! A network with one handler on the far side, on which requests and answers get lost.
//!
//! The fate and the delay of an exchange are drawn when it is asked for, so one seed gives one history as long as
//! the test polls in one order (a current-thread executor). The handler may be async, because servers are; it gets
//! the request as sent, with its absolute URI, and stands for every host there is. Delays pass on the [`SimClock`].
//!
//! What it must never do: report `Unreachable` for a request that had an effect. Callers repeat those blindly.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use idtrail_port::{Clock, Exchange, Network, NetworkError};

use crate::{Rng, Seed, SimClock};

/// What happens to one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// Delivered once, and answered.
    Answered,
    /// Never delivered, and the caller can tell: `Unreachable`.
    Unreachable,
    /// Never delivered, and the caller cannot tell: `Unknown` at the deadline.
    LostRequest,
    /// Delivered once, and the answer is lost: `Unknown` at the deadline.
    LostReply,
    /// Delivered twice in a row; the caller gets the second answer.
    Duplicated,
    /// `Unknown` at the deadline, and delivered only after that, before the next exchange.
    Late,
}

/// How often each fate strikes, in thousandths of all exchanges, and how long an exchange takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkRates {
    /// Share of [`Fate::Unreachable`].
    pub unreachable_permille: u32,
    /// Share of [`Fate::LostRequest`].
    pub lost_request_permille: u32,
    /// Share of [`Fate::LostReply`].
    pub lost_reply_permille: u32,
    /// Share of [`Fate::Duplicated`].
    pub duplicated_permille: u32,
    /// Share of [`Fate::Late`].
    pub late_permille: u32,
    /// The longest that either way takes. What takes longer than the deadline becomes [`Fate::Late`] on the way
    /// there and [`Fate::LostReply`] on the way back.
    pub delay_max: Duration,
}

impl NetworkRates {
    /// Each fault in one of twenty exchanges; up to 200 ms each way.
    pub const fn harsh() -> Self {
        Self {
            unreachable_permille: 50,
            lost_request_permille: 50,
            lost_reply_permille: 50,
            duplicated_permille: 50,
            late_permille: 50,
            delay_max: Duration::from_millis(200),
        }
    }

    fn draw(&self, rng: &mut Rng) -> Fate {
        let mut point = rng.below(1000);
        for (permille, fate) in [
            (self.unreachable_permille, Fate::Unreachable),
            (self.lost_request_permille, Fate::LostRequest),
            (self.lost_reply_permille, Fate::LostReply),
            (self.duplicated_permille, Fate::Duplicated),
            (self.late_permille, Fate::Late),
        ] {
            let Some(left) = point.checked_sub(u64::from(permille)) else { return fate };
            point = left;
        }
        Fate::Answered
    }
}

/// One line of the log: an exchange that ended, or a late delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRecord {
    /// Counts exchanges from 0. A late delivery has its exchange's number again.
    pub index: u64,
    /// Monotonic time when it ended.
    pub at_ns: u64,
    /// The request's method.
    pub method: http::Method,
    /// The request's URI.
    pub uri: http::Uri,
    /// What happened.
    pub fate: Fate,
    /// The handler's status; `None` if the request was not delivered, or not yet.
    pub status: Option<http::StatusCode>,
}

type Handler = dyn Fn(Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>> + Send + Sync;

/// A simulated network. Clones are the same network.
#[derive(Clone)]
pub struct SimNetwork {
    clock: SimClock,
    handler: Arc<Handler>,
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    rates: NetworkRates,
    forced: VecDeque<Fate>,
    asked: u64,
    late: Vec<(u64, Request<Bytes>)>,
    log: Vec<NetworkRecord>,
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimNetwork").field("asked", &self.state().asked).finish_non_exhaustive()
    }
}

impl SimNetwork {
    /// Connects to a handler that answers at once.
    pub fn new(
        seed: Seed,
        clock: SimClock,
        rates: NetworkRates,
        handler: impl Fn(Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self::with_async(seed, clock, rates, move |request| ready(handler(request)))
    }

    /// Connects to a handler that may wait, such as a router.
    pub fn with_async<F>(
        seed: Seed,
        clock: SimClock,
        rates: NetworkRates,
        handler: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let rng = seed.derive("network").rng();
        let (forced, asked, late, log) = (VecDeque::new(), 0, Vec::new(), Vec::new());
        let state = Arc::new(Mutex::new(State { rng, rates, forced, asked, late, log }));
        Self { clock, handler: Arc::new(move |request| Box::pin(handler(request))), state }
    }

    /// Sets the rates from the next exchange on.
    pub fn set_rates(&self, rates: NetworkRates) {
        self.state().rates = rates;
    }

    /// Gives the next exchanges these fates, in order, before any is drawn again.
    pub fn force(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state().forced.extend(fates);
    }

    /// Returns what has happened so far.
    pub fn log(&self) -> Vec<NetworkRecord> {
        self.state().log.clone()
    }

    /// Delivers the late requests now, and returns how many there were. Their answers are lost.
    pub async fn deliver_late(&self) -> usize {
        let late = std::mem::take(&mut self.state().late);
        let count = late.len();
        for (index, request) in late {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let status = (self.handler)(request).await.status();
            self.record(NetworkRecord {
                index,
                at_ns: 0,
                method,
                uri,
                fate: Fate::Late,
                status: Some(status),
            });
        }
        count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }

    fn record(&self, record: NetworkRecord) {
        self.state().log.push(NetworkRecord { at_ns: self.clock.monotonic_ns(), ..record });
    }

    fn draw(&self, deadline: Duration) -> Drawn {
        let mut state = self.state();
        let State { rng, rates, forced, asked, .. } = &mut *state;
        // Always drawn, so that a forced fate does not shift what later exchanges get.
        let drawn = rates.draw(rng);
        let mut delay = || {
            let max_ns = u64::try_from(rates.delay_max.as_nanos()).unwrap_or(u64::MAX - 1);
            Duration::from_nanos(rng.below(max_ns + 1))
        };
        let (there, back) = (delay(), delay());
        let fate = match forced.pop_front().unwrap_or(drawn) {
            Fate::Answered | Fate::Duplicated if there >= deadline && !there.is_zero() => Fate::Late,
            Fate::Answered | Fate::Duplicated if there + back >= deadline && !back.is_zero() => {
                Fate::LostReply
            }
            fate => fate,
        };
        let index = *asked;
        *asked += 1;
        Drawn { index, fate, there, back }
    }

    async fn carry(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
        drawn: Drawn,
    ) -> Result<Response<Bytes>, NetworkError> {
        self.deliver_late().await;
        let Drawn { index, fate, there, back } = drawn;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let there = there.min(deadline);
        let answer = match fate {
            Fate::Answered | Fate::LostReply => {
                self.clock.advance(there);
                Some((self.handler)(request).await)
            }
            Fate::Duplicated => {
                self.clock.advance(there);
                let _first = (self.handler)(request.clone()).await;
                Some((self.handler)(request).await)
            }
            Fate::Unreachable => {
                self.clock.advance(there);
                None
            }
            Fate::LostRequest => {
                self.clock.advance(deadline);
                None
            }
            Fate::Late => {
                self.clock.advance(deadline);
                self.state().late.push((index, request));
                None
            }
        };
        match fate {
            Fate::LostReply => self.clock.advance(deadline.saturating_sub(there)),
            Fate::Answered | Fate::Duplicated => self.clock.advance(back),
            Fate::Unreachable | Fate::LostRequest | Fate::Late => {}
        }
        let status = answer.as_ref().map(Response::status);
        self.record(NetworkRecord { index, at_ns: 0, method, uri, fate, status });
        match (fate, answer) {
            (Fate::Answered | Fate::Duplicated, Some(answer)) => Ok(answer),
            (Fate::Unreachable, _) => {
                Err(NetworkError::Unreachable { reason: "simulated: refused".to_owned() })
            }
            _ => Err(NetworkError::Unknown { reason: "simulated: deadline passed".to_owned() }),
        }
    }
}

struct Drawn {
    index: u64,
    fate: Fate,
    there: Duration,
    back: Duration,
}

impl Network for SimNetwork {
    fn exchange(&self, request: Request<Bytes>, deadline: Duration) -> Exchange<'_> {
        let drawn = self.draw(deadline);
        Box::pin(self.carry(request, deadline, drawn))
    }
}
