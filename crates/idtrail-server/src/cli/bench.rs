//! `idtrail bench`: durable single events over HTTP, beside PostgreSQL's single-row commits in the same run.
//!
//! Both take turns on the same disk and the same two kinds of work: one event, answered when it is durable. The
//! figure that counts is the ratio; the rates alone say more about the machine.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{BenchArgs, Context, Failure, InitArgs, OrExit as _, Rival, init, serve};
use crate::bench::load::{self, End, Plan};
use crate::bench::postgres::{Postgres, PostgresError};
use crate::bench::trail::{self, BATCH};
use crate::credentials::{CredentialStore, NewKey, Role, RoleSet};
use crate::exit::Exit;
use crate::serve::{ServeError, Server};
use crate::settings::Settings;
use crate::synthetic;

/// Connections that batches are sent over.
pub(super) const BATCH_CONNECTIONS: u32 = 4;
const PEOPLE: u64 = 100_000;
/// Events made before a round; more would only take memory.
const EVENTS_MADE: u64 = 8192;

/// One round.
struct Round {
    ours: load::Report,
    postgres_tps: Option<f64>,
}

/// Measures and says what came out.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &BenchArgs) -> Result<Exit, Failure> {
    if args.trail {
        return super::bench_trail::run(context, args);
    }
    if args.sinks {
        return super::bench_sinks::run(context, args);
    }
    if args.rights {
        return super::bench_rights::run(context, args);
    }
    if args.identity {
        return super::bench_identity::run(context, args);
    }
    let random = HEXLOWER.encode(&idtrail_port::random::<4>(&*context.entropy));
    let dir = std::env::temp_dir().join(format!("idtrail-bench-{random}"));
    let (made, key) = prepare(context, &dir, "")?;
    let settings = Settings::load(&*context.disk, &made.config)?;
    let kek = init::kek(context, &settings)?;
    let postgres = match args.vs {
        Some(Rival::Postgres) => {
            let path = (context.env)("PATH");
            let started =
                Postgres::start(&*context.disk, &*context.entropy, &std::env::temp_dir(), path.as_deref());
            Some(started.or_exit(Exit::Io)?)
        }
        None => None,
    };
    let runtime = serve::runtime()?;
    let server =
        runtime.block_on(Server::bind(init::ports(context), &settings, kek)).map_err(serve::failure)?;
    let address = server.address();
    let serving = Serving::begin(&runtime, server);
    let bar = ProgressBar::new(u64::from(args.rounds));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} round {pos}/{len}") {
        bar.set_style(style);
    }
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        let end = End::After(Duration::from_secs(u64::from(args.seconds)));
        let plan = Plan { address, connections: connections(args), end };
        let host = address.to_string();
        let requests = if args.batches {
            trail::batches((&host, &key), PEOPLE, context.clock.wall_ms(), round + 1)
        } else {
            requests(context, &host, &key, round)?
        };
        let ours = load::run_blocking(plan, requests, Arc::clone(&context.clock)).or_exit(Exit::Io)?;
        if ours.successes() != ours.count() {
            let message = format!("not every event was accepted: {:?}", ours.statuses);
            return Err(Failure::message(Exit::Io, message));
        }
        let postgres_tps = match &postgres {
            Some(postgres) if args.batches => {
                Some(rows_per_second(postgres, connections(args), args.seconds).or_exit(Exit::Io)?)
            }
            Some(postgres) => Some(postgres.measure(connections(args), args.seconds).or_exit(Exit::Io)?.tps),
            None => None,
        };
        rounds.push(Round { ours, postgres_tps });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let version = postgres.as_ref().map(Postgres::version).transpose().or_exit(Exit::Io)?;
    if let Some(postgres) = postgres {
        postgres.stop().or_exit(Exit::Io)?;
    }
    serving.end(&runtime)?;
    say(context, args, &rounds, version.as_deref(), &dir)?;
    Ok(Exit::Ok)
}

fn connections(args: &BenchArgs) -> u32 {
    if args.batches { BATCH_CONNECTIONS } else { args.connections }
}

/// Returns the rows per second of the better one of two sizes of inserts.
pub(super) fn rows_per_second(
    postgres: &Postgres,
    connections: u32,
    seconds: u32,
) -> Result<f64, PostgresError> {
    let mut best = 0.0_f64;
    for rows in [100, 1000] {
        best = best.max(postgres.measure_rows(connections, seconds, rows)?.tps * f64::from(rows));
    }
    Ok(best)
}

/// A server that runs beside the load.
pub(super) struct Serving {
    stop: tokio::sync::oneshot::Sender<()>,
    running: tokio::task::JoinHandle<Result<(), ServeError>>,
}

impl Serving {
    /// Lets a server run.
    pub(super) fn begin(runtime: &tokio::runtime::Runtime, server: Server) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = runtime.spawn(server.run(async {
            // A closed channel ends the server as a message would.
            let _ = stopped.await;
        }));
        Self { stop, running }
    }

    /// Stops it and waits until it has ended.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub(super) fn end(self, runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
        let _ = self.stop.send(());
        runtime.block_on(self.running).or_exit(Exit::Io)?.map_err(serve::failure)
    }
}

pub(super) fn prepare(
    context: &Context,
    dir: &std::path::Path,
    config: &str,
) -> Result<(init::Installation, String), Failure> {
    let args = InitArgs { dir: dir.to_owned(), origin: None, tenant: "default".to_owned() };
    let made = init::create(context, &args, &format!("listen = \"127.0.0.1:0\"\n{config}"))?;
    let settings = Settings::load(&*context.disk, &made.config)?;
    let store = CredentialStore::open(context.disk.clone(), &settings.data_dir)?;
    let roles: RoleSet = [Role::Ingest, Role::Resolve].into_iter().collect();
    let new = NewKey { env: "bench".to_owned(), name: "bench".to_owned(), roles, expires_ms: None };
    let key = store.create_key(&*context.entropy, context.clock.wall_ms(), new)?;
    Ok((made, key.secret.to_string()))
}

/// Returns a maker of requests that costs little more than a copy, so that the measured machine spends its time on the
/// server: the events are made before, and only the interaction's id is new in each request.
pub(super) fn requests(
    context: &Context,
    host: &str,
    key: &str,
    round: u32,
) -> Result<load::MakeRequest, Failure> {
    let now_ms = context.clock.wall_ms();
    let mut made = Vec::new();
    for number in 0..EVENTS_MADE {
        let body = synthetic::event(u64::from(round) << 32 | number, PEOPLE, now_ms).to_string();
        let request = format!(
            "POST /api/v1/events HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let name = "\"interactionId\":\"";
        let at = request.find(name).map(|at| at + name.len() + "00000000-0000-0000-0000-".len());
        let at = at.ok_or_else(|| Failure::message(Exit::Io, "a made-up event has no interaction"))?;
        made.push((request.into_bytes(), at));
    }
    Ok(Arc::new(move |number, request| {
        let Some((bytes, at)) = made.get((number % EVENTS_MADE) as usize) else { return };
        request.extend_from_slice(bytes);
        let id = (u64::from(round) << 32 | number).to_be_bytes();
        if let (Some(target), [_, _, id @ ..]) = (request.get_mut(*at..at + 12), &id) {
            HEXLOWER.encode_mut(id, target);
        }
    }))
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn say(
    context: &Context,
    args: &BenchArgs,
    rounds: &[Round],
    version: Option<&str>,
    dir: &std::path::Path,
) -> Result<(), Failure> {
    let each = if args.batches { BATCH as f64 } else { 1.0 };
    let ours = median(rounds.iter().map(|round| round.ours.rate() * each).collect());
    let p50_us = median(rounds.iter().map(|round| round.ours.p50_us() as f64).collect());
    let p99_us = median(rounds.iter().map(|round| round.ours.p99_us() as f64).collect());
    let theirs: Vec<f64> = rounds.iter().filter_map(|round| round.postgres_tps).collect();
    let theirs = (!theirs.is_empty()).then(|| median(theirs));
    let ratio = theirs.map(|theirs| ours / theirs);
    let mut out = std::io::stdout().lock();
    if context.globals.json {
        let all: Vec<_> = rounds
            .iter()
            .map(|round| json!({ "eventsPerSecond": round.ours.rate() * each, "postgresTps": round.postgres_tps }))
            .collect();
        let summary = json!({
            "connections": connections(args), "seconds": args.seconds, "rounds": all,
            "eventsPerSecond": ours, "p50Us": p50_us, "p99Us": p99_us,
            "postgres": version, "postgresTps": theirs, "ratio": ratio,
        });
        writeln!(out, "{summary}")?;
        return Ok(());
    }
    let what =
        if args.batches { format!("events in batches of {BATCH}") } else { "single events".to_owned() };
    writeln!(
        out,
        "durable {what} over HTTP, {} connections, median of {} rounds of {} s",
        connections(args),
        args.rounds,
        args.seconds
    )?;
    writeln!(out, "  idtrail     {ours:>8.0}/s   p50 {p50_us:.0} µs, p99 {p99_us:.0} µs")?;
    if let (Some(theirs), Some(ratio), Some(version)) = (theirs, ratio, version) {
        let how = if args.batches { "inserts of many rows" } else { "single-row commits" };
        writeln!(out, "  PostgreSQL  {theirs:>8.0}/s   {version}, {how}")?;
        writeln!(out, "  ratio       {ratio:>8.2}")?;
    }
    writeln!(out, "data of the run: {} (delete it when you are done)", PathBuf::from(dir).display())?;
    Ok(())
}
