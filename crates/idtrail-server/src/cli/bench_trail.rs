//! `idtrail bench --trail`: the whole trail beside PostgreSQL in one run: single events, batches, requests for access over a
//! log of a given size, bytes at rest, the full check and the verifier beside SHA-256, and the start after a kill.
//!
//! ```text
//! 1  single events over 1, 16 and 64 connections, in turns with single-row commits
//! 2  batches of 1,000 over 4 connections, in turns with inserts of 100 and of 1,000 rows
//! 3  filled up to --events: requests for access (about five events each), beside a select by customer from as many rows
//! 4  bytes at rest; start after SIGKILL; fsck and verify beside one stream of SHA-256
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use idtrail_port::{Disk, Open};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::bench::{BATCH_CONNECTIONS, Serving, median, prepare, requests, rows_per_second};
use super::{BenchArgs, Context, Failure, OrExit as _, fsck, init, serve};
use crate::bench::load::{self, End, MakeRequest, Plan};
use crate::bench::postgres::Postgres;
use crate::bench::trail::{self, BATCH, Process};
use crate::credentials::{CredentialStore, NewKey, NewPerson, Role, RoleSet};
use crate::engine;
use crate::exit::Exit;
use crate::serve::Server;
use crate::settings::Settings;

/// Events that a person has on average.
const EVENTS_PER_PERSON: u64 = 5;
/// Requests for access that are measured, after a tenth as many that are not.
const QUESTIONS: u64 = 2000;
/// Events of the one person whose package is verified.
const PACKAGE_EVENTS: u64 = 20_000;
/// Bytes that SHA-256 is measured with.
const HASHED_BYTES: usize = 64 << 20;
const CONFIG: &str = "[limits]\nevents_per_second = 0\nreads_per_second = 0\n";

/// A rate of ours and one of the peer, per round.
struct Pair {
    name: String,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    p50_us: f64,
    p99_us: f64,
}

impl Pair {
    /// Returns the median ratio, the lowest and the highest of all rounds.
    fn ratios(&self) -> (f64, f64, f64) {
        let mut all: Vec<f64> =
            self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours / theirs).collect();
        all.sort_by(f64::total_cmp);
        let of = |at: usize| all.get(at).copied().unwrap_or_default();
        (of(all.len() / 2), of(0), of(all.len().saturating_sub(1)))
    }
}

/// What one command run found.
#[derive(Default)]
struct Found {
    pairs: Vec<Pair>,
    events: u64,
    filled_per_second: f64,
    /// Median and 99 % of a request for access in microseconds, alone and with four at a time.
    access: [(f64, f64); 2],
    /// Mean time of the peer's select in microseconds, alone and with four at a time.
    select: [f64; 2],
    bytes: Vec<(&'static str, f64)>,
    postgres_bytes: f64,
    start_s: (f64, f64),
    fsck_mb: f64,
    verify_mb: f64,
    package_bytes: usize,
    sha_mb: f64,
}

struct Bench<'a> {
    context: &'a Context,
    args: &'a BenchArgs,
    postgres: &'a Postgres,
    key: String,
}

/// Measures and says what came out.
///
/// # Errors
/// A failure with its exit code.
pub(super) fn run(context: &Context, args: &BenchArgs) -> Result<Exit, Failure> {
    let random = HEXLOWER.encode(&idtrail_port::random::<4>(&*context.entropy));
    let dir = std::env::temp_dir().join(format!("idtrail-bench-{random}"));
    let path = (context.env)("PATH");
    let postgres = Postgres::start(&*context.disk, &*context.entropy, &std::env::temp_dir(), path.as_deref())
        .or_exit(Exit::Io)?;
    let (made, key) = prepare(context, &dir, CONFIG)?;
    let settings = Settings::load(&*context.disk, &made.config)?;
    let bench = Bench { context, args, postgres: &postgres, key };
    let mut found = Found::default();
    let people = (args.events / EVENTS_PER_PERSON).max(1);
    let reader = bench.reader(&settings)?;
    let package = bench.serve(&settings, people, &reader, &mut found)?;
    bench.at_rest(&settings, &mut found)?;
    bench.restart(&made.config, &mut found)?;
    bench.checks(&settings, &package, &made.config, &mut found)?;
    let version = postgres.version().or_exit(Exit::Io)?;
    postgres.stop().or_exit(Exit::Io)?;
    say(context, args, &found, &version, &dir)?;
    Ok(Exit::Ok)
}

/// Who may ask for access.
struct Reader {
    key: String,
    id: String,
    secret: String,
}

impl Bench<'_> {
    fn reader(&self, settings: &Settings) -> Result<Reader, Failure> {
        let context = self.context;
        let store = CredentialStore::open(context.disk.clone(), &settings.data_dir)?;
        let (name, roles): (_, RoleSet) = ("bench-dpo".to_owned(), [Role::Dpo].into_iter().collect());
        let now_ms = context.clock.wall_ms();
        let new = NewKey { env: "bench".to_owned(), name: name.clone(), roles, expires_ms: None };
        let key = store.create_key(&*context.entropy, now_ms, new)?.secret.to_string();
        let person =
            store.create_person(&*context.entropy, now_ms, NewPerson { name, roles, expires_ms: None })?;
        Ok(Reader { key, id: person.id.to_string(), secret: person.secret.to_string() })
    }

    /// Runs steps 1 to 3 and returns a package of one person with many events.
    fn serve(
        &self,
        settings: &Settings,
        people: u64,
        reader: &Reader,
        found: &mut Found,
    ) -> Result<Vec<u8>, Failure> {
        let context = self.context;
        let kek = init::kek(context, settings)?;
        let runtime = serve::runtime()?;
        let server =
            runtime.block_on(Server::bind(init::ports(context), settings, kek)).map_err(serve::failure)?;
        let address = server.address();
        let host = address.to_string();
        let serving = Serving::begin(&runtime, server);
        for connections in [1, 16, 64] {
            found.pairs.push(self.singles(address, connections)?);
        }
        found.pairs.push(self.batches(address, people)?);
        let now_ms = context.clock.wall_ms();
        let plan =
            Plan { address, connections: BATCH_CONNECTIONS, end: End::Requests(self.args.events / BATCH) };
        let filled = self.load(plan, trail::filling((&host, &self.key), people, now_ms))?;
        found.filled_per_second = filled.rate() * BATCH as f64;
        self.fill_postgres(people)?;
        let token = token(&runtime, &host, reader)?;
        let asker = (host.as_str(), reader.key.as_str(), token.as_str());
        for (at, connections) in [1, 4].into_iter().enumerate() {
            let asked = |from, count| {
                let plan = Plan { address, connections, end: End::Requests(count) };
                self.load(plan, trail::questions(asker, people, from))
            };
            asked(0, QUESTIONS / 10)?;
            let report = asked(QUESTIONS / 10, QUESTIONS)?;
            let select = self.select(people, connections)?;
            if let (Some(ours), Some(theirs)) = (found.access.get_mut(at), found.select.get_mut(at)) {
                (*ours, *theirs) = ((report.p50_us() as f64, report.p99_us() as f64), select);
            }
        }
        // Everything of one person.
        let plan = Plan { address, connections: 1, end: End::Requests(PACKAGE_EVENTS / BATCH) };
        self.load(plan, trail::filling((&host, &self.key), 1, now_ms))?;
        let package = package(&runtime, &host, (&reader.key, &token))?;
        let checkpoint = engine_size(&runtime, &host)?;
        found.events = checkpoint;
        serving.end(&runtime)?;
        Ok(package)
    }

    fn load(&self, plan: Plan, requests: MakeRequest) -> Result<load::Report, Failure> {
        let report = load::run_blocking(plan, requests, Arc::clone(&self.context.clock)).or_exit(Exit::Io)?;
        if report.successes() == report.count() {
            return Ok(report);
        }
        let message = format!("not everything was accepted: {:?}", report.statuses);
        Err(Failure::message(Exit::Io, message))
    }

    fn rounds(
        &self,
        name: String,
        mut ours: impl FnMut(u32, End) -> Result<(load::Report, f64), Failure>,
        theirs: impl Fn() -> Result<f64, Failure>,
    ) -> Result<Pair, Failure> {
        let end = End::After(Duration::from_secs(u64::from(self.args.seconds)));
        let (mut pair, mut p50, mut p99) = (
            Pair { name, ours: Vec::new(), theirs: Vec::new(), p50_us: 0.0, p99_us: 0.0 },
            Vec::new(),
            Vec::new(),
        );
        for round in 0..self.args.rounds {
            let (report, each) = ours(round, end)?;
            pair.ours.push(report.rate() * each);
            p50.push(report.p50_us() as f64);
            p99.push(report.p99_us() as f64);
            pair.theirs.push(theirs()?);
        }
        (pair.p50_us, pair.p99_us) = (median(p50), median(p99));
        Ok(pair)
    }

    fn singles(&self, address: std::net::SocketAddr, connections: u32) -> Result<Pair, Failure> {
        let seconds = self.args.seconds;
        self.rounds(
            format!("single events, {connections} connections"),
            |round, end| {
                let requests =
                    requests(self.context, &address.to_string(), &self.key, round | connections << 8)?;
                Ok((self.load(Plan { address, connections, end }, requests)?, 1.0))
            },
            || Ok(self.postgres.measure(connections, seconds).or_exit(Exit::Io)?.tps),
        )
    }

    fn batches(&self, address: std::net::SocketAddr, people: u64) -> Result<Pair, Failure> {
        let (seconds, host) = (self.args.seconds, address.to_string());
        self.rounds(
            format!("batches of {BATCH}, {BATCH_CONNECTIONS} connections"),
            |round, end| {
                let now_ms = self.context.clock.wall_ms();
                let requests = trail::batches((&host, &self.key), people, now_ms, round + 1);
                let plan = Plan { address, connections: BATCH_CONNECTIONS, end };
                Ok((self.load(plan, requests)?, BATCH as f64))
            },
            || rows_per_second(self.postgres, BATCH_CONNECTIONS, seconds).or_exit(Exit::Io),
        )
    }

    /// Fills the peer's table with as many rows as the log has events.
    fn fill_postgres(&self, people: u64) -> Result<(), Failure> {
        let rows: u64 = self
            .postgres
            .sql("SELECT count(*) FROM ev_plain")
            .or_exit(Exit::Io)?
            .trim()
            .parse()
            .or_exit(Exit::Io)?;
        let count = self.args.events.saturating_sub(rows);
        self.postgres.fill(count, people).or_exit(Exit::Io)?;
        Ok(())
    }

    fn select(&self, people: u64, connections: u32) -> Result<f64, Failure> {
        let rate = self.postgres.measure_select(connections, self.args.seconds, people).or_exit(Exit::Io)?;
        Ok(rate.latency_mean_ms * 1000.0)
    }

    fn at_rest(&self, settings: &Settings, found: &mut Found) -> Result<(), Failure> {
        let disk = &*self.context.disk;
        let data = &settings.data_dir;
        let log = engine::log_directory(data);
        let start_ns = self.context.clock.monotonic_ns();
        let report = fsck::check(self.context, &log, &settings.origin, &[])?;
        let seconds = self.context.clock.monotonic_ns().saturating_sub(start_ns) as f64 / 1e9;
        if fsck::exit(&report) != Exit::Ok {
            return Err(Failure::message(Exit::Tampered, "the log of the run is damaged"));
        }
        found.fsck_mb = report.bytes as f64 / 1e6 / seconds;
        let per_event = |bytes: u64| bytes as f64 / found.events.max(1) as f64;
        let tiles = bytes_below(disk, &log.join("tiles"))?;
        let index = bytes_below(disk, &data.join("index"))?;
        let journal = report.bytes.saturating_sub(tiles);
        found.bytes =
            vec![("log", per_event(journal)), ("hash tiles", per_event(tiles)), ("index", per_event(index))];
        let sql = "SELECT pg_total_relation_size('ev_plain')::float8 / count(*) FROM ev_plain";
        found.postgres_bytes = self.postgres.sql(sql).or_exit(Exit::Io)?.trim().parse().or_exit(Exit::Io)?;
        Ok(())
    }

    /// Starts a server of its own, kills it under load, and starts it again.
    fn restart(&self, config: &Path, found: &mut Found) -> Result<(), Failure> {
        let clock = &self.context.clock;
        let first = Process::start(&**clock, config).or_exit(Exit::Io)?;
        let (address, ordered) = (first.address, first.ready_ns);
        let host = address.to_string();
        let requests = requests(self.context, &host, &self.key, 1 << 15)?;
        let plan = Plan { address, connections: 16, end: End::Requests(5000) };
        self.load(plan, requests)?;
        first.kill().or_exit(Exit::Io)?;
        let second = Process::start(&**clock, config).or_exit(Exit::Io)?;
        found.start_s = (ordered as f64 / 1e9, second.ready_ns as f64 / 1e9);
        second.kill().or_exit(Exit::Io)
    }

    fn checks(
        &self,
        settings: &Settings,
        package: &[u8],
        config: &Path,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let clock = &self.context.clock;
        let dir = config.parent().unwrap_or(&settings.data_dir);
        let policy = init::policy(self.context, &dir.join("policy.txt"))?;
        let bytes = vec![0x5a_u8; HASHED_BYTES];
        let (mut sha, mut verify) = (Vec::new(), Vec::new());
        for _ in 0..self.args.rounds.max(3) {
            let timed = |work: &dyn Fn() -> Result<(), Failure>| -> Result<f64, Failure> {
                let start_ns = clock.monotonic_ns();
                work()?;
                Ok(clock.monotonic_ns().saturating_sub(start_ns) as f64 / 1e9)
            };
            let seconds = timed(&|| {
                std::hint::black_box(Sha256::digest(&bytes));
                Ok(())
            })?;
            sha.push(bytes.len() as f64 / 1e6 / seconds);
            let seconds = timed(&|| match idtrail_verify::verify(package, &policy).verdict {
                idtrail_verify::Verdict::Verified => Ok(()),
                verdict => {
                    Err(Failure::message(Exit::Tampered, format!("a package of the run is {verdict}")))
                }
            })?;
            verify.push(package.len() as f64 / 1e6 / seconds);
        }
        (found.sha_mb, found.verify_mb, found.package_bytes) = (median(sha), median(verify), package.len());
        Ok(())
    }
}

fn bytes_below(disk: &dyn Disk, dir: &Path) -> Result<u64, Failure> {
    let mut total = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for name in disk.list(&dir)? {
            let path: PathBuf = dir.join(name);
            if disk.attributes(&path)?.is_dir {
                open.push(path);
            } else {
                total += disk.open(&path, Open::Read)?.len()?;
            }
        }
    }
    Ok(total)
}

fn token(runtime: &tokio::runtime::Runtime, host: &str, reader: &Reader) -> Result<String, Failure> {
    let form =
        format!("grant_type=client_credentials&client_id={}&client_secret={}", reader.id, reader.secret);
    let answer = runtime.block_on(async {
        let request = reqwest::Client::new()
            .post(format!("http://{host}/oauth/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        request.send().await?.json::<Value>().await
    });
    let answer = answer.or_exit(Exit::Io)?;
    let token = answer.get("access_token").and_then(Value::as_str);
    token.map(str::to_owned).ok_or_else(|| Failure::message(Exit::Io, "the server gave no token"))
}

fn package(
    runtime: &tokio::runtime::Runtime,
    host: &str,
    (key, token): (&str, &str),
) -> Result<Vec<u8>, Failure> {
    let bytes = runtime.block_on(async {
        let request = reqwest::Client::new()
            .post(format!("http://{host}/api/v1/compliance/dsar/audit-trail"))
            .header("x-api-key", key)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(trail::question(0));
        request.send().await?.error_for_status()?.bytes().await
    });
    Ok(bytes.or_exit(Exit::Io)?.to_vec())
}

fn engine_size(runtime: &tokio::runtime::Runtime, host: &str) -> Result<u64, Failure> {
    let text =
        runtime.block_on(async { reqwest::get(format!("http://{host}/checkpoint")).await?.text().await });
    let text = text.or_exit(Exit::Io)?;
    let size = text.lines().nth(1).and_then(|size| size.parse().ok());
    size.ok_or_else(|| Failure::message(Exit::Io, "the checkpoint has no size"))
}

fn say(context: &Context, args: &BenchArgs, found: &Found, version: &str, dir: &Path) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let total: f64 = found.bytes.iter().map(|(_, bytes)| bytes).sum();
    if context.globals.json {
        let pairs: Vec<Value> = found
            .pairs
            .iter()
            .map(|pair| {
                let (ratio, lowest, highest) = pair.ratios();
                json!({
                    "what": pair.name, "perSecond": pair.ours, "postgresPerSecond": pair.theirs,
                    "p50Us": pair.p50_us, "p99Us": pair.p99_us,
                    "ratio": ratio, "ratioMin": lowest, "ratioMax": highest,
                })
            })
            .collect();
        let bytes: serde_json::Map<String, Value> =
            found.bytes.iter().map(|(name, bytes)| ((*name).to_owned(), json!(bytes))).collect();
        let summary = json!({
            "postgres": version, "events": found.events, "pairs": pairs, "filledPerSecond": found.filled_per_second,
            "accessUs": found.access.map(|(p50, p99)| json!({ "p50": p50, "p99": p99 })), "postgresSelectUs": found.select,
            "bytesPerEvent": bytes, "postgresBytesPerRow": found.postgres_bytes,
            "startSeconds": found.start_s.0, "startAfterKillSeconds": found.start_s.1,
            "fsckMBPerSecond": found.fsck_mb, "verifyMBPerSecond": found.verify_mb, "sha256MBPerSecond": found.sha_mb,
            "packageBytes": found.package_bytes,
        });
        writeln!(out, "{summary}")?;
        return Ok(());
    }
    writeln!(
        out,
        "beside {version}, {} rounds of {} s in turns, median (lowest to highest)",
        args.rounds, args.seconds
    )?;
    for pair in &found.pairs {
        let (ratio, lowest, highest) = pair.ratios();
        writeln!(
            out,
            "  {:<34} {:>8.0}/s, PostgreSQL {:>8.0}/s, ratio {ratio:.2} ({lowest:.2} to {highest:.2}), p50 {:.0} µs, p99 {:.0} µs",
            pair.name,
            median(pair.ours.clone()),
            median(pair.theirs.clone()),
            pair.p50_us,
            pair.p99_us
        )?;
    }
    writeln!(out, "a log of {} events, filled at {:.0}/s in batches", found.events, found.filled_per_second)?;
    for ((connections, (p50, p99)), select) in [1, 4].into_iter().zip(found.access).zip(found.select) {
        writeln!(
            out,
            "  request for access, {connections} at a time  p50 {p50:.0} µs, p99 {p99:.0} µs; PostgreSQL's select mean {select:.0} µs"
        )?;
    }
    let parts: Vec<String> = found.bytes.iter().map(|(name, bytes)| format!("{name} {bytes:.0}")).collect();
    writeln!(
        out,
        "  bytes per event      {total:.0} ({}), PostgreSQL {:.0}",
        parts.join(", "),
        found.postgres_bytes
    )?;
    let (ordered, killed) = found.start_s;
    writeln!(out, "  start until ready    {ordered:.2} s after an orderly stop, {killed:.2} s after a kill")?;
    let share = |mb: f64| mb / found.sha_mb;
    writeln!(out, "  one-stream SHA-256   {:.0} MB/s", found.sha_mb)?;
    writeln!(
        out,
        "  fsck                 {:.0} MB/s of log, {:.2} of SHA-256",
        found.fsck_mb,
        share(found.fsck_mb)
    )?;
    writeln!(
        out,
        "  verify               {:.0} MB/s of a package of {:.1} MB, {:.2} of SHA-256",
        found.verify_mb,
        found.package_bytes as f64 / 1e6,
        share(found.verify_mb)
    )?;
    writeln!(out, "data of the run: {} (delete it when you are done)", dir.display())?;
    Ok(())
}
