//! `idtrail bench --rights`: how long erasures take, and that thousands of them leave everything else as it was.
//!
//! ```text
//! 1  20 people with 50 events each are erased at once: from the first approval to the last certificate
//! 2  so many other people are erased, 20 at a time: each effect ends once, each request closes once
//! 3  100,000 identifiers are known: memory of the process, and 20 people at once again
//! 4  afterwards: fsck, proofs of before, answers about everybody else, before and after a restart and a rebuild
//! ```
//! Everything runs in this process: server and load share its cores and its memory. Anything that does not come out as it
//! must is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use idtrail_event::GlobalCustomerId;
use idtrail_identity::assertion::Subject;
use idtrail_rights::{Code, Command, Digest, Kind, Level, Principal, RequestId, State};
use idtrail_tlog::{Hash, LogIndex, TreeSize, verify_consistency, verify_inclusion};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::bench::{Serving, prepare};
use super::bench_sinks::rss_bytes;
use super::{BenchArgs, Context, Failure, FsckArgs, OrExit as _, fsck, init, serve};
use crate::bench::load::{self, End, Plan};
use crate::engine::Engine;
use crate::engine::index::rebuild;
use crate::engine::rights::{New, Rights};
use crate::exit::Exit;
use crate::serve::Server;
use crate::settings::Settings;

const TOGETHER: u64 = 20;
const EVENTS_EACH: u64 = 50;
/// Events of each of the many people.
const EVENTS_MANY: u64 = 2;
/// People whose answers are compared: numbers from 0 on.
const COMPARED: u64 = 500;
/// People who make the log long: each has a customer id and a telephone number.
const BYSTANDERS: u64 = 50_000;
/// Number of the first of them, and of the first who is erased beside them.
const FIRST_BYSTANDER: u64 = 1_000_000;
const FIRST_LATER: u64 = 2_000_000;
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(120);

/// What came out.
struct Outcome {
    rss_before: u64,
    rss_known: u64,
    rss_after: u64,
    together_s: f64,
    beside_s: f64,
    many_s: f64,
    cases: u64,
    steps: u64,
    leaves: u64,
}

/// Measures and says what came out.
///
/// # Errors
/// A failure with its exit code.
pub(super) fn run(context: &Context, args: &BenchArgs) -> Result<Exit, Failure> {
    let random = HEXLOWER.encode(&idtrail_port::random::<4>(&*context.entropy));
    let dir = std::env::temp_dir().join(format!("idtrail-bench-{random}"));
    let (made, key) = prepare(context, &dir, "[rights]\ngrace_hours = 0\n")?;
    let settings = Settings::load(&*context.disk, &made.config)?;
    let runtime = serve::runtime()?;
    let kek = init::kek(context, &settings)?;
    let server =
        runtime.block_on(Server::bind(init::ports(context), &settings, kek)).map_err(serve::failure)?;
    let bench = Bench {
        context,
        address: server.address(),
        key,
        engine: Arc::clone(server.engine()),
        rights: Arc::clone(server.rights()),
        connections: args.connections,
    };
    let serving = Serving::begin(&runtime, server);
    let (outcome, before) = bench.measure(&runtime, args.cases)?;
    drop(bench);
    serving.end(&runtime)?;
    // Nothing of it may rest on what the process happened to remember.
    expect(
        answers(&opened(context, &settings)?)? == before,
        "a restart changed an answer about somebody else",
    )?;
    let kek = init::kek(context, &settings)?;
    rebuild(&init::ports(context), &settings, kek, &mut |_, _| {}).or_exit(Exit::Io)?;
    expect(answers(&opened(context, &settings)?)? == before, "a rebuilt index answers otherwise")?;
    let whole = fsck::run(
        context,
        &FsckArgs { dir: Some(settings.data_dir.clone()), policy: None, checkpoint: Vec::new() },
    )?;
    expect(whole == Exit::Ok, "fsck found something")?;
    say(context, &outcome, &dir)?;
    Ok(Exit::Ok)
}

/// Opens an installation that no server runs.
fn opened(context: &Context, settings: &Settings) -> Result<Engine, Failure> {
    let kek = init::kek(context, settings)?;
    Engine::open(init::ports(context), settings, kek, |_| {}).or_exit(Exit::Io)
}

fn expect(holds: bool, what: &'static str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::message(Exit::Tampered, what)) }
}

fn person(number: u64) -> String {
    format!("bench-person-{}", HEXLOWER.encode(&number.to_be_bytes()))
}

fn customer(engine: &Engine, number: u64) -> Result<Option<GlobalCustomerId>, Failure> {
    engine.customer(&engine.hasher().customer(&person(number))).or_exit(Exit::Io)
}

/// Answers about people who were not erased: their ids, identifiers, and where their events are.
fn answers(engine: &Engine) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for number in 0..COMPARED {
        let id = customer(engine, number)?;
        let closure = id.map(|id| engine.identity().read(|known| known.closure(&Subject::Customer(id))).0);
        let closure = closure.and_then(Result::ok).map(|found| {
            let mut identifiers: Vec<String> =
                found.customer.identifiers.iter().map(|one| one.identifier.token.to_string()).collect();
            identifiers.sort();
            let places: BTreeSet<u64> = found.interactions.iter().map(|one| one.index.get()).collect();
            (found.customer.gcid.to_string(), identifiers, places)
        });
        expect(closure.is_some(), "somebody who was not erased is not known any more")?;
        all.push(format!("{closure:?}"));
    }
    Ok(all)
}

/// Proofs of leaves at one size of the log.
struct Proofs {
    size: TreeSize,
    root: Hash,
    leaves: Vec<(LogIndex, Hash, Vec<Hash>)>,
}

struct Bench<'c> {
    context: &'c Context,
    address: std::net::SocketAddr,
    key: String,
    engine: Arc<Engine>,
    rights: Arc<Rights>,
    connections: u32,
}

impl Bench<'_> {
    fn measure(
        &self,
        runtime: &tokio::runtime::Runtime,
        cases: u64,
    ) -> Result<(Outcome, Vec<String>), Failure> {
        let rss_before = rss_bytes(&*self.context.disk);
        self.post(0, COMPARED, 1)?;
        self.post(COMPARED, TOGETHER, EVENTS_EACH)?;
        let first = COMPARED + TOGETHER;
        self.post(first, cases, EVENTS_MANY)?;
        let before = answers(&self.engine)?;
        let proofs = self.proofs()?;

        let together_s = self.timed(runtime, COMPARED..COMPARED + TOGETHER)?;
        let mut many_s = 0.0;
        let mut next = first;
        while next < first + cases {
            let end = (next + TOGETHER).min(first + cases);
            many_s += self.timed(runtime, next..end)?;
            next = end;
        }
        let steps = self.check_steps()?;
        self.check_proofs(&proofs)?;
        for number in COMPARED..first + cases {
            let known = customer(&self.engine, number)?;
            expect(known.is_none(), "somebody who was erased is still known")?;
        }
        expect(answers(&self.engine)? == before, "an erasure changed an answer about somebody else")?;

        self.post(FIRST_BYSTANDER, BYSTANDERS, 1)?;
        let rss_known = rss_bytes(&*self.context.disk);
        self.post(FIRST_LATER, TOGETHER, EVENTS_EACH)?;
        let beside_s = self.timed(runtime, FIRST_LATER..FIRST_LATER + TOGETHER)?;
        self.check_steps()?;
        expect(answers(&self.engine)? == before, "an erasure changed an answer about somebody else")?;
        let outcome = Outcome {
            rss_before,
            rss_known,
            rss_after: rss_bytes(&*self.context.disk),
            together_s,
            beside_s,
            many_s,
            cases,
            steps,
            leaves: self.engine.reader().size().get(),
        };
        Ok((outcome, before))
    }

    /// Erases people at once, and returns the seconds from the first approval to the last certificate.
    fn timed(&self, runtime: &tokio::runtime::Runtime, people: std::ops::Range<u64>) -> Result<f64, Failure> {
        let planned = runtime.block_on(self.planned(&people.collect::<Vec<_>>()))?;
        let start_ns = self.context.clock.monotonic_ns();
        runtime.block_on(self.erased(&planned))?;
        Ok(self.seconds_since(start_ns))
    }

    fn seconds_since(&self, start_ns: u64) -> f64 {
        Duration::from_nanos(self.context.clock.monotonic_ns().saturating_sub(start_ns)).as_secs_f64()
    }

    /// Posts the events of `people` people from number `first` on.
    fn post(&self, first: u64, people: u64, each: u64) -> Result<(), Failure> {
        let (host, key) = (self.address.to_string(), self.key.clone());
        let make = move |number: u64, request: &mut Vec<u8>| {
            let who = first + number / each;
            let phone = HEXLOWER.encode(&Sha256::digest(format!("bench-phone-{who}")));
            let body = json!({ "auditEvent": {
                "eventType": "IDENTITY_RESOLUTION", "timestamp": "2026-01-31T10:00:00Z",
                "interactionId": format!("{}-call-{}", person(who), number % each), "channelType": "VOICE",
                "resolvedCustomerId": person(who), "resolutionSource": "CRM_API_LOOKUP",
                "piiContext": { "phoneHash": phone },
            }})
            .to_string();
            let head = format!(
                "POST /api/v1/events HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            request.extend_from_slice(head.as_bytes());
        };
        let plan =
            Plan { address: self.address, connections: self.connections, end: End::Requests(people * each) };
        let sent =
            load::run_blocking(plan, Arc::new(make), Arc::clone(&self.context.clock)).or_exit(Exit::Io)?;
        if sent.successes() == sent.count() {
            return Ok(());
        }
        Err(Failure::message(Exit::Io, format!("not every event was accepted: {:?}", sent.statuses)))
    }

    /// Opens erasures and returns them with their plans.
    async fn planned(&self, people: &[u64]) -> Result<Vec<(RequestId, Digest)>, Failure> {
        let officer = Principal::parse("bench-desk").or_exit(Exit::Io)?;
        let code = |text: &str| Code::parse(text).or_exit(Exit::Io);
        let mut open = Vec::new();
        for number in people {
            let id = customer(&self.engine, *number)?;
            let id = id.ok_or_else(|| Failure::message(Exit::Io, "somebody who wrote is not known"))?;
            let new = New {
                kind: Kind::Erasure,
                regime: code("gdpr")?,
                manner: code("bench")?,
                received_ms: self.engine.now_ms(),
                subjects: vec![Subject::Customer(id)],
                corrections: Vec::new(),
                by: Some(officer.clone()),
            };
            let (request, _) = self.rights.open(new).await.or_exit(Exit::Io)?;
            let shown = Command::Verify(Level::OneChannel, code("otp-mail")?, Digest::new([7; 32]));
            self.rights.say(request.clone(), Some(officer.clone()), shown).await.or_exit(Exit::Io)?;
            open.push(request);
        }
        self.until(&open, State::Planned).await?;
        let plans = self.rights.read(|cases, _| {
            let plan = |case: &idtrail_rights::Case| Some((case.request.clone(), case.plan.as_ref()?.1));
            cases.filter_map(|(case, _)| plan(case)).collect::<BTreeMap<RequestId, Digest>>()
        });
        let plans = plans.or_exit(Exit::Io)?;
        Ok(open.into_iter().filter_map(|id| plans.get(&id).map(|plan| (id.clone(), *plan))).collect())
    }

    /// Approves plans and waits until everything is closed.
    async fn erased(&self, planned: &[(RequestId, Digest)]) -> Result<(), Failure> {
        for (request, plan) in planned {
            for officer in ["bench-dpo-1", "bench-dpo-2"] {
                let officer = Principal::parse(officer).or_exit(Exit::Io)?;
                self.rights
                    .say(request.clone(), Some(officer), Command::Approve(*plan))
                    .await
                    .or_exit(Exit::Io)?;
            }
        }
        let requests: Vec<RequestId> = planned.iter().map(|(request, _)| request.clone()).collect();
        self.until(&requests, State::ClosedFulfilled).await
    }

    async fn until(&self, requests: &[RequestId], state: State) -> Result<(), Failure> {
        let all: BTreeSet<&RequestId> = requests.iter().collect();
        let done = async {
            loop {
                let there = self.rights.read(|cases, _| {
                    let there = cases.filter(|(case, _)| all.contains(&case.request) && case.state == state);
                    there.count() == all.len()
                });
                if there.or_exit(Exit::Io)? {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::message(Exit::Io, self.stuck(&all, state))),
        }
    }

    /// Says how requests stand that have not come where they should.
    fn stuck(&self, all: &BTreeSet<&RequestId>, state: State) -> String {
        let told = self.rights.read(|cases, _| {
            let mut told = format!("requests have not come to {} in time", state.name());
            for (case, logged) in cases {
                if all.contains(&case.request) && case.state != state {
                    let steps: Vec<&str> = logged.iter().map(|one| one.entry.step.name()).collect();
                    told.push_str(&format!("\n{} {} {}", case.request, case.state.name(), steps.join(" ")));
                }
            }
            told
        });
        told.unwrap_or_else(|_| "the requests cannot be read".to_owned())
    }

    /// Checks that no request has an effect that ended twice or not at all, and returns how many steps there are.
    fn check_steps(&self) -> Result<u64, Failure> {
        let counted = self.rights.read(|cases, _| {
            let (mut once, mut steps) = (true, 0);
            for (case, logged) in cases {
                steps += logged.len() as u64;
                let count = |name: &str| logged.iter().filter(|one| one.entry.step.name() == name).count();
                let finals = ["DSR_FROZEN", "DSR_RECEIPTED", "DSR_CLOSED"];
                once &= case.state == State::ClosedFulfilled
                    && count("TASK_INTENT") == count("TASK_OUTCOME")
                    && finals.into_iter().all(|name| count(name) == 1);
            }
            (once, steps)
        });
        let (once, steps) = counted.or_exit(Exit::Io)?;
        expect(once, "a request has an effect that ended twice or not at all")?;
        Ok(steps)
    }

    /// Returns proofs of leaves at the present size.
    fn proofs(&self) -> Result<Proofs, Failure> {
        let reader = self.engine.reader();
        let head = reader.head();
        let step = (head.size.get() / 1_000).max(1);
        let mut proofs = Vec::new();
        for index in (0..head.size.get()).step_by(usize::try_from(step).unwrap_or(1)).map(LogIndex::new) {
            let leaf = reader.leaf_hash(index).or_exit(Exit::Io)?;
            proofs.push((index, leaf, reader.inclusion_proof(index, head.size).or_exit(Exit::Io)?));
        }
        Ok(Proofs { size: head.size, root: head.root, leaves: proofs })
    }

    /// Checks that proofs of before still hold, that the tree of before is the beginning of today's, and that the leaves
    /// are the same bytes.
    fn check_proofs(&self, before: &Proofs) -> Result<(), Failure> {
        let Proofs { size, root, leaves } = before;
        let reader = self.engine.reader();
        let head = reader.head();
        let between = reader.consistency_proof(*size, head.size).or_exit(Exit::Io)?;
        verify_consistency(*size, head.size, root, &head.root, &between).or_exit(Exit::Tampered)?;
        for (index, leaf, proof) in leaves {
            verify_inclusion(*index, *size, leaf, proof, root).or_exit(Exit::Tampered)?;
            let bytes = reader.entry(*index).or_exit(Exit::Io)?;
            expect(idtrail_tlog::leaf_hash(&bytes) == *leaf, "a leaf is not the one that it was")?;
        }
        Ok(())
    }
}

fn say(context: &Context, outcome: &Outcome, dir: &std::path::Path) -> Result<(), Failure> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut out = std::io::stdout().lock();
    if context.globals.json {
        let summary = json!({
            "identifiers": BYSTANDERS * 2, "rssBefore": outcome.rss_before, "rssKnown": outcome.rss_known,
            "rssAfter": outcome.rss_after, "together": TOGETHER, "eventsEach": EVENTS_EACH,
            "togetherSeconds": outcome.together_s, "togetherBesideSeconds": outcome.beside_s, "cases": outcome.cases, "casesSeconds": outcome.many_s,
            "steps": outcome.steps, "leaves": outcome.leaves,
        });
        writeln!(out, "{summary}")?;
        return Ok(());
    }
    writeln!(out, "erasures, grace and lag at zero, everything in one process")?;
    writeln!(
        out,
        "  {TOGETHER} people with {EVENTS_EACH} events each, at once: {:.2} s from the first approval to the last certificate; \
         {:.2} s beside {} other identifiers",
        outcome.together_s,
        outcome.beside_s,
        BYSTANDERS * 2
    )?;
    writeln!(
        out,
        "  {} more people: {:.1} s, {:.1} a second; {} steps, each effect ended once",
        outcome.cases,
        outcome.many_s,
        outcome.cases as f64 / outcome.many_s.max(f64::MIN_POSITIVE),
        outcome.steps
    )?;
    writeln!(
        out,
        "  memory: {:.0} MiB at the start, {:.0} MiB with {} identifiers known, {:.0} MiB at the end",
        mib(outcome.rss_before),
        mib(outcome.rss_known),
        BYSTANDERS * 2,
        mib(outcome.rss_after)
    )?;
    writeln!(
        out,
        "  afterwards: fsck and 1,000 proofs of before hold over {} leaves; answers about {COMPARED} others are the same, also \
         after a restart and a rebuild",
        outcome.leaves
    )?;
    writeln!(out, "data of the run: {} (delete it when you are done)", dir.display())?;
    Ok(())
}
