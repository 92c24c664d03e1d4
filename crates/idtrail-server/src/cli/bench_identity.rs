//! `idtrail bench --identity`: how fast identity decides in memory, and what a durable question costs beside a plain event.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use idtrail_port::os::{ThreadFaults, thread_cpu_ns};
use serde_json::{Value, json};

use super::bench::{Serving, median, prepare, requests};
use super::{BenchArgs, Context, Failure, OrExit as _, init, serve};
use crate::bench::identity::{self, Longest};
use crate::bench::load::{self, End, Plan};
use crate::exit::Exit;
use crate::serve::Server;
use crate::settings::Settings;

const PEOPLE: u64 = 100_000;
const QUESTIONS_MADE: u64 = 8192;

/// Measures and says what came out.
///
/// # Errors
/// A failure with its exit code.
#[allow(clippy::cast_precision_loss, reason = "times are shown with three digits")]
pub(super) fn run(context: &Context, args: &BenchArgs) -> Result<Exit, Failure> {
    let faulted = ThreadFaults::of_this_thread().ok();
    let memory = identity::measure(&*context.clock, thread_cpu_ns, faulted.as_ref(), args.identifiers)
        .or_exit(Exit::Io)?;
    let random = HEXLOWER.encode(&idtrail_port::random::<4>(&*context.entropy));
    let dir = std::env::temp_dir().join(format!("idtrail-bench-{random}"));
    let (made, key) = prepare(context, &dir, "")?;
    let settings = Settings::load(&*context.disk, &made.config)?;
    let kek = init::kek(context, &settings)?;
    let runtime = serve::runtime()?;
    let server =
        runtime.block_on(Server::bind(init::ports(context), &settings, kek)).map_err(serve::failure)?;
    let address = server.address();
    let serving = Serving::begin(&runtime, server);
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        let measured = |requests| {
            let end = End::After(Duration::from_secs(u64::from(args.seconds)));
            let plan = Plan { address, connections: args.connections, end };
            let report = load::run_blocking(plan, requests, Arc::clone(&context.clock)).or_exit(Exit::Io)?;
            if report.successes() == report.count() {
                return Ok(report);
            }
            let message = format!("not everything was accepted: {:?}", report.statuses);
            Err(Failure::message(Exit::Io, message))
        };
        let events = measured(requests(context, &address.to_string(), &key, round)?)?;
        let questions = measured(questions(&address.to_string(), &key, round))?;
        rounds.push((events, questions));
    }
    serving.end(&runtime)?;
    let of = |which: fn(&(load::Report, load::Report)) -> f64| median(rounds.iter().map(which).collect());
    let (events, questions) = (of(|(events, _)| events.rate()), of(|(_, questions)| questions.rate()));
    let cost = events / questions;
    let p99_us = of(|(_, questions)| questions.p99_us() as f64);
    let mut out = std::io::stdout().lock();
    if context.globals.json {
        let summary = json!({
            "identifiers": memory.identifiers, "foldPerSecond": memory.fold_per_second,
            "fold": longest(&memory.growth), "resolvesPerSecond": memory.resolves_per_second,
            "resolve": longest(&memory.longest), "splitMs": us(memory.split_ns) / 1000.0,
            "eventsPerSecond": events, "durableResolvesPerSecond": questions, "cost": cost, "durableP99Us": p99_us,
        });
        writeln!(out, "{summary}")?;
        return Ok(Exit::Ok);
    }
    writeln!(out, "in memory, one thread, {} identifiers", memory.identifiers)?;
    writeln!(out, "  becoming known  {:>9.0}/s   {}", memory.fold_per_second, line(&memory.growth))?;
    writeln!(out, "  resolve         {:>9.0}/s   {}", memory.resolves_per_second, line(&memory.longest))?;
    writeln!(out, "  split of 500    {:>9.2} ms", us(memory.split_ns) / 1000.0)?;
    writeln!(
        out,
        "durable over HTTP, {} connections, median of {} rounds of {} s, in turns",
        args.connections, args.rounds, args.seconds
    )?;
    writeln!(out, "  plain event     {events:>9.0}/s")?;
    writeln!(out, "  resolve         {questions:>9.0}/s   p99 {p99_us:.0} µs")?;
    writeln!(out, "  cost            {cost:>9.2}")?;
    writeln!(out, "data of the run: {} (delete it when you are done)", dir.display())?;
    Ok(Exit::Ok)
}

#[allow(clippy::cast_precision_loss, reason = "times are shown with three digits")]
fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn line(of: &Longest) -> String {
    let at = |per_mille| us(of.latency.quantile_ns(per_mille));
    let (p50, p99, p999) = (at(500), at(990), at(999));
    let (max, cpu) = (us(of.max_ns), us(of.max_cpu_ns));
    let (slow, faulting, faults) = (of.slow, of.slow_faulting, of.faults);
    format!(
        "p50 {p50:.2} µs, p99 {p99:.2} µs, p99.9 {p999:.1} µs, longest {max:.0} µs ({cpu:.0} µs of its own)\n{:19}{slow} over \
         1 ms of its own, {faulting} of them with a page fault; {faults} page faults in all",
        ""
    )
}

fn longest(of: &Longest) -> Value {
    let at = |per_mille| us(of.latency.quantile_ns(per_mille));
    json!({
        "p50Us": at(500), "p99Us": at(990), "p999Us": at(999), "maxUs": us(of.max_ns),
        "maxOwnUs": us(of.max_cpu_ns), "over1MsOwn": of.slow,
        "over1MsOwnFaulting": of.slow_faulting, "pageFaults": of.faults,
    })
}

/// Returns a maker of questions, made before as the events are: only the interaction's id is new in each.
fn questions(host: &str, key: &str, round: u32) -> load::MakeRequest {
    let begin = "call-00000000-0000-0000-0000-";
    let mut made = Vec::new();
    for number in 0..QUESTIONS_MADE {
        let person = (u64::from(round) * QUESTIONS_MADE + number).wrapping_mul(2_654_435_761) % PEOPLE;
        let body = json!({
            "interactionId": format!("{begin}000000000000"),
            "channelType": "VOICE",
            "identifiers": [{ "type": "phone", "value": format!("+1415{:07}", 2_000_000 + person) }],
        });
        let body = body.to_string();
        let request = format!(
            "POST /api/v1/identity/resolve HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let at = request.find(begin).map_or(0, |at| at + begin.len());
        made.push((request.into_bytes(), at));
    }
    Arc::new(move |number, request| {
        let Some((bytes, at)) = made.get((number % QUESTIONS_MADE) as usize) else { return };
        request.extend_from_slice(bytes);
        let id = (u64::from(round) << 32 | number).to_be_bytes();
        if let (Some(target), [_, _, id @ ..]) = (request.get_mut(*at..at + 12), &id) {
            HEXLOWER.encode_mut(id, target);
        }
    })
}
