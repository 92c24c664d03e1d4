//! Tries a sink against the real system that its configuration names, with real credentials: made-up events are delivered
//! through interruptions, counted by the second principal, and one made-up person is taken out again.
//!
//! `cargo run --release -p idtrail-connect --example live -- sink.toml [EVENTS]`
//!
//! `sink.toml` is a sink as docs/sinks writes it, without the heading: `name`, `erase`, `[target]`, `[rights]`. Use a table
//! of its own. Rows of a run carry a `log_id` of their own, the time in seconds, so runs do not disturb each other. Exit code
//! 1 if anything is not as it must be. Not a part of the test run: it needs an account.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a program for people"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idtrail_connect::personal::Erase;
use idtrail_connect::rights::{Person, RightsTask};
use idtrail_connect::secret::{Secret, SecretError, SecretRef, Secrets};
use idtrail_connect::settings::{Ports, SinkSettings, TargetSettings};
use idtrail_connect::worker::{Parts, SinkStatus, Worker};
use idtrail_connect::{Body, BoxFuture, EventRow, Feed, FeedEntry, FeedError, Position};
use idtrail_port::os::{OsClock, OsDisk, OsEntropy};
use serde_json::json;

type Error = Box<dyn std::error::Error>;

const PEOPLE: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("give the file of a sink")?;
    let events: u64 = arguments.next().map_or(Ok(2000), |text| text.parse())?;
    let settings: SinkSettings = toml::from_str(&std::fs::read_to_string(file)?)?;
    let log_id = u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let feed = Arc::new(MadeUp { log_id, events });
    let home = std::env::temp_dir().join(format!("idtrail-live-{log_id}"));
    println!("{events} events as log_id {log_id}");

    // Interrupted in the middle, then again; what was under way is found out by the next start.
    for part in [3, 2] {
        let worker = start(&settings, &home, &feed)?;
        until(&worker, |status| status.settled >= events / part).await?;
        worker.stop().await;
        println!("interrupted after {} events", worker.status().settled);
    }
    let worker = start(&settings, &home, &feed)?;
    let mut status = caught_up(&worker).await?;
    worker.stop().await;
    // Without its memory a sink asks the target. A webhook cannot be asked, nor BigQuery without a reader.
    let can_be_asked = match &settings.target {
        TargetSettings::Webhook(_) => false,
        TargetSettings::BigQuery(config) => config.reader.is_some(),
        _ => true,
    };
    if can_be_asked {
        std::fs::remove_dir_all(&home)?;
        let worker = start(&settings, &home, &feed)?;
        status = caught_up(&worker).await?;
        worker.stop().await;
        println!("went on without its memory");
    }
    println!("grants of the writer: {:?}", status.grants);
    let mut wrong = Vec::new();
    if status.dead > 0 {
        wrong.push(format!("{} dead letters", status.dead));
    }
    match rights(&settings)? {
        Some(task) => people(task, &feed, &mut wrong).await?,
        None => println!(
            "count yourself: rows with log_id {log_id} and different values of seq must both be {}",
            feed.expected(None)
        ),
    }
    if wrong.is_empty() {
        println!("as it must be");
        return Ok(());
    }
    Err(wrong.join("; ").into())
}

/// Counts every person's rows, and takes one person out.
async fn people(mut task: Box<dyn RightsTask>, feed: &MadeUp, wrong: &mut Vec<String>) -> Result<(), Error> {
    let of = |person: u64| Person { customer_ids: vec![feed.customer(person)] };
    for person in 0..PEOPLE {
        let (found, expected) = (task.lookup(&of(person)).await?, feed.expected(Some(person)));
        if found != expected {
            wrong.push(format!("person {person} has {found} rows in place of {expected}"));
        }
    }
    println!("counted: {} rows of {PEOPLE} people", feed.expected(None));
    let touched = task.erase(&of(0)).await?;
    let left = task.probe(&of(0)).await?;
    if touched != feed.expected(Some(0)) || left != 0 {
        wrong.push(format!("an erasure touched {touched} rows and left {left}"));
    }
    let other = task.lookup(&of(1)).await?;
    if other != feed.expected(Some(1)) {
        wrong.push(format!("an erasure of one person left {other} rows of another"));
    }
    println!("one person taken out: {touched} rows; what remains elsewhere: {:?}", task.residual());
    Ok(())
}

fn ports() -> Ports {
    Ports { disk: Arc::new(OsDisk), clock: Arc::new(OsClock::default()) }
}

fn rights(settings: &SinkSettings) -> Result<Option<Box<dyn RightsTask>>, Error> {
    if settings.erase == Erase::None {
        return Ok(None);
    }
    Ok(settings.rights_task(&settings.plan([7; 32])?, &Real, &ports())?)
}

fn start(settings: &SinkSettings, home: &Path, feed: &Arc<MadeUp>) -> Result<Worker, Error> {
    let (plan, ports) = (settings.plan([7; 32])?, ports());
    let sink = settings.sink(&plan, &Real, &ports)?;
    Ok(Worker::start(Parts {
        name: settings.name.clone(),
        dir: home.to_owned(),
        plan,
        sink,
        feed: feed.clone(),
        disk: ports.disk,
        clock: ports.clock,
        entropy: Arc::new(OsEntropy),
        deadline: settings.deadline(),
    })?)
}

async fn until(worker: &Worker, wished: impl Fn(&SinkStatus) -> bool) -> Result<SinkStatus, Error> {
    let mut shown = None;
    let waiting = async {
        loop {
            let status = worker.status();
            if wished(&status) {
                return status;
            }
            if status.last_failure.is_some() && status.last_failure != shown {
                shown.clone_from(&status.last_failure);
                println!("failed: {shown:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    Ok(tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| "it took too long")?)
}

async fn caught_up(worker: &Worker) -> Result<SinkStatus, Error> {
    let status = until(worker, |status| status.lag_events == 0).await?;
    tokio::time::timeout(PATIENCE, worker.caught_up()).await.map_err(|_| "it took too long")?;
    Ok(status)
}

/// Secrets from files and the environment.
struct Real;

impl Secrets for Real {
    fn get(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let (found, reference) = match reference {
            SecretRef::File(path) => (std::fs::read_to_string(path).ok(), format!("file {}", path.display())),
            SecretRef::Env(name) => (std::env::var(name).ok(), format!("environment variable {name}")),
        };
        let found = found.map(|text| Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()));
        found.ok_or(SecretError { reference })
    }
}

/// A log of made-up events; every fiftieth cannot be read any more.
struct MadeUp {
    log_id: u32,
    events: u64,
}

impl MadeUp {
    fn customer(&self, person: u64) -> String {
        format!("gc_{:016x}{:016x}", self.log_id, person)
    }

    fn is_erased(seq: u64) -> bool {
        seq % 50 == 49
    }

    fn expected(&self, person: Option<u64>) -> u64 {
        let of = |seq: u64| person.is_none_or(|person| seq % PEOPLE == person);
        (0..self.events).filter(|seq| of(*seq) && !Self::is_erased(*seq)).count() as u64
    }

    fn entry(&self, seq: u64) -> FeedEntry {
        let position = Position::new(self.log_id, seq);
        if Self::is_erased(seq) {
            return FeedEntry::erased(position);
        }
        FeedEntry::opened(EventRow {
            position,
            received_ms: i64::from(self.log_id) * 1000,
            event_id: Some(format!("live-{}-{seq}", self.log_id)),
            customer_id: Some(self.customer(seq % PEOPLE)),
            leaf_hash: [7; 32],
            sealed_leaf: bytes::Bytes::from_static(b"sealed"),
            body: Body::from(json!({ "auditEvent": {
                "eventType": "IDENTITY_RESOLUTION",
                "timestamp": format!("2026-01-02T03:{:02}:{:02}.{:03}Z", seq / 60 % 60, seq % 60, seq % 1000),
                "interactionId": format!("i-live-{}-{seq}", self.log_id),
                "channelType": "VOICE",
                "resolvedCustomerId": format!("cust_hash_{}", seq % PEOPLE),
                "resolutionSource": "a \"quoted\" \\ source,\ttabbed, with ü and 漢",
                "complianceFlags": { "gdprConsentRecorded": true, "dataSubjectRequestPending": false },
                "queueId": "q-live",
            }})),
        })
    }
}

impl Feed for MadeUp {
    fn read(&self, from: Position, entries_max: usize, _: usize) -> Result<Vec<FeedEntry>, FeedError> {
        let first = if from.log_id.get() < self.log_id { 0 } else { from.seq };
        Ok((first..self.events).take(entries_max).map(|seq| self.entry(seq)).collect())
    }

    fn read_one(&self, at: Position) -> Result<Option<FeedEntry>, FeedError> {
        Ok((at.log_id.get() == self.log_id && at.seq < self.events).then(|| self.entry(at.seq)))
    }

    fn wait(&self, from: Position) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.count_from(from) == 0 {
                std::future::pending::<()>().await;
            }
        })
    }

    fn head(&self) -> Position {
        Position::new(self.log_id, self.events)
    }

    fn count_from(&self, from: Position) -> u64 {
        let first = if from.log_id.get() < self.log_id { 0 } else { from.seq };
        self.events.saturating_sub(first)
    }

    fn survived(&self, _: Position) -> Option<Position> {
        None
    }
}
