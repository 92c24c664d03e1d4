//! `idtrail bench --sinks`: how fast sinks deliver, how late, in how much memory, and what a stuck one costs the senders.
//!
//! ```text
//! 1  six sinks (five that work, one that cannot), a steady rate of events: lag of each, memory of the process
//! 2  the same log from its first entry: a PostgreSQL sink beside one COPY of the same rows, a Parquet sink
//! 3  ingestion without a sink and with two stuck ones, in turns
//! ```
//! Everything runs in this process: server, sinks and load share its cores and its memory.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use idtrail_connect::ddl::{Dialect, Principals, statements};
use idtrail_connect::settings::SinkSettings;
use idtrail_port::{Clock, Disk, Open};
use serde_json::{Value, json};

use super::bench::{Serving, median, prepare, requests};
use super::{BenchArgs, Context, Failure, OrExit as _, init, serve};
use crate::bench::histogram::Histogram;
use crate::bench::load::{self, End, Plan};
use crate::bench::postgres::Postgres;
use crate::engine::Engine;
use crate::exit::Exit;
use crate::serve::Server;
use crate::settings::Settings;
use crate::sinks::Sinks;

/// How often the sinks' cursors are looked at; lags are exact to that.
const LOOK_PERIOD: Duration = Duration::from_millis(5);
/// Longest time that a sink may take to catch up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures and says what came out.
///
/// # Errors
/// A failure with its exit code.
pub(super) fn run(context: &Context, args: &BenchArgs) -> Result<Exit, Failure> {
    let random = HEXLOWER.encode(&idtrail_port::random::<4>(&*context.entropy));
    let base = std::env::temp_dir().join(format!("idtrail-bench-{random}"));
    let path = (context.env)("PATH");
    let postgres = Postgres::start(&*context.disk, &*context.entropy, &std::env::temp_dir(), path.as_deref())
        .or_exit(Exit::Io)?;
    let runtime = serve::runtime()?;
    let lag = delivery(context, args, &runtime, &postgres, &base.join("delivery"))?;
    let stuck = ingestion(context, args, &runtime, &base)?;
    let version = postgres.version().or_exit(Exit::Io)?;
    postgres.stop().or_exit(Exit::Io)?;
    say(context, args, &lag, &stuck, &version, &base)?;
    Ok(Exit::Ok)
}

/// What the steady rate and the fillings gave.
struct Delivery {
    events: u64,
    rate: f64,
    lags: Vec<(String, Histogram)>,
    rss_before: u64,
    rss_steady: u64,
    rss_filling: u64,
    /// Rows per second of sink and COPY, in pairs.
    copy: Vec<(f64, f64)>,
    /// Rows per second of a Parquet sink.
    parquet: Vec<f64>,
}

fn postgres_sink(name: &str, port: u16, extra: &str) -> String {
    format!(
        "[sinks.{name}]\nerase = \"delete\"\n{extra}[sinks.{name}.target]\nkind = \"postgres\"\nhost = \"127.0.0.1\"\n\
         port = {port}\ndatabase = \"postgres\"\nuser = \"writer\"\ntls = \"disable\"\ntable = \"audit.{name}\"\n"
    )
}

fn files_sink(name: &str, format: &str, linger_ms: u32) -> String {
    format!(
        "[sinks.{name}]\nerase = \"none\"\n[sinks.{name}.target]\nkind = \"files\"\nformat = \"{format}\"\n\
         dir = \"{name}\"\nlinger_ms = {linger_ms}\n"
    )
}

/// Port 9 of this machine discards, and nobody listens there.
fn stuck_sink(name: &str) -> String {
    format!(
        "[sinks.{name}]\nerase = \"none\"\n[sinks.{name}.target]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/{name}\"\n\
         secrets = [{{ file = \"hook.secret\" }}]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n"
    )
}

fn delivery(
    context: &Context,
    args: &BenchArgs,
    runtime: &tokio::runtime::Runtime,
    postgres: &Postgres,
    dir: &Path,
) -> Result<Delivery, Failure> {
    let port = postgres.port();
    let config = [
        files_sink("parquet", "parquet", 200),
        files_sink("lines", "jsonl", 50),
        postgres_sink("ids", port, ""),
        postgres_sink("tokens", port, "pii = \"tokens\"\n"),
        postgres_sink("voice", port, "filter = \"{{auditEvent.channelType}} = 'VOICE'\"\n"),
        stuck_sink("stuck"),
    ]
    .concat();
    let started = start(context, runtime, dir, &config)?;
    postgres
        .sql("CREATE ROLE writer LOGIN; CREATE ROLE eraser LOGIN; CREATE SCHEMA audit")
        .or_exit(Exit::Io)?;
    for sink in &started.settings.sinks {
        make_table(postgres, sink, &sink.name)?;
    }
    // Workers had found no tables yet.
    for name in ["ids", "tokens", "voice"] {
        let resume = started.sinks.command(name, idtrail_connect::engine::Command::Resume);
        runtime.block_on(resume).or_exit(Exit::Io)?;
    }
    let rss_before = rss_bytes(&*context.disk);
    let live = ["parquet", "lines", "ids", "tokens", "voice"];
    let looker = Looker {
        engine: Arc::clone(&started.engine),
        sinks: Arc::clone(&started.sinks),
        clock: Arc::clone(&context.clock),
        disk: Arc::clone(&context.disk),
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let looking = runtime.spawn(looker.look(live.map(str::to_owned).to_vec(), stopped));
    let seconds = u64::from(args.seconds) * u64::from(args.rounds);
    let plan = Plan {
        address: started.address,
        connections: args.connections,
        end: End::Requests(seconds * u64::from(args.rate)),
    };
    let paced = paced(requests(context, &started.address.to_string(), &started.key, 0)?, args.rate, context);
    let sent = load::run_blocking(plan, paced, Arc::clone(&context.clock)).or_exit(Exit::Io)?;
    if sent.successes() != sent.count() {
        return Err(Failure::message(Exit::Io, format!("not every event was accepted: {:?}", sent.statuses)));
    }
    for name in live {
        runtime.block_on(caught_up(&started.sinks, name))?;
    }
    let _ = stop.send(true);
    let (lags, rss_steady) = runtime.block_on(looking).or_exit(Exit::Io)?;
    let head = started.engine.reader().size().get();
    let mut rss_filling = 0;
    let (mut copy, mut parquet) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let table = format!("filled{round}");
        let filled = postgres_sink(&table, port, "pii = \"tokens\"\n");
        let sink = one(&started.settings, &filled, &table)?;
        make_table(postgres, &sink, &table)?;
        make_table(postgres, &sink, &format!("copied{round}"))?;
        let ours = fill(context, runtime, &started.sinks, head, sink)?;
        let theirs = copied(context, postgres, &table, &format!("copied{round}"))?;
        let rows = sent.count() as f64;
        copy.push((rows / ours, rows / theirs));
        rss_filling = rss_bytes(&*context.disk).max(rss_filling);
        let name = format!("files{round}");
        let sink = one(&started.settings, &files_sink(&name, "parquet", 50), &name)?;
        parquet.push(rows / fill(context, runtime, &started.sinks, head, sink)?);
        rss_filling = rss_bytes(&*context.disk).max(rss_filling);
    }
    let rate = sent.rate();
    started.stop(runtime)?;
    Ok(Delivery { events: sent.count(), rate, lags, rss_before, rss_steady, rss_filling, copy, parquet })
}

/// Adds a sink and returns how many seconds it took to deliver the whole log.
fn fill(
    context: &Context,
    runtime: &tokio::runtime::Runtime,
    sinks: &Arc<Sinks>,
    head: u64,
    sink: SinkSettings,
) -> Result<f64, Failure> {
    let (name, start_ns) = (sink.name.clone(), context.clock.monotonic_ns());
    runtime.block_on(async {
        sinks.add(sink).await.or_exit(Exit::Io)?;
        settled(sinks, &name, head).await
    })?;
    let seconds = seconds_since(context, start_ns);
    // The cursor is saved a moment later, which is nothing that a target waits for.
    runtime.block_on(caught_up(sinks, &name))?;
    Ok(seconds)
}

/// Waits until the target has confirmed everything before `head`.
async fn settled(sinks: &Sinks, name: &str, head: u64) -> Result<(), Failure> {
    let done = async {
        let at = || sinks.rights_targets().into_iter().find(|target| target.name == name)?.cursor;
        while at().is_none_or(|cursor| cursor.seq < head) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let late = || Failure::message(Exit::Io, format!("the sink {name} has not delivered everything in time"));
    tokio::time::timeout(PATIENCE, done).await.map_err(|_| late())
}

/// Copies a table's rows into another one of the same form from a file, and returns how many seconds that took.
fn copied(context: &Context, postgres: &Postgres, from: &str, to: &str) -> Result<f64, Failure> {
    let file = postgres.dir().join("data").join(from);
    let file = file.display();
    postgres.sql(&format!("COPY audit.{from} TO '{file}'")).or_exit(Exit::Io)?;
    postgres.sql("CHECKPOINT").or_exit(Exit::Io)?;
    let start_ns = context.clock.monotonic_ns();
    postgres.sql(&format!("COPY audit.{to} FROM '{file}'")).or_exit(Exit::Io)?;
    Ok(seconds_since(context, start_ns))
}

fn seconds_since(context: &Context, start_ns: u64) -> f64 {
    Duration::from_nanos(context.clock.monotonic_ns().saturating_sub(start_ns)).as_secs_f64()
}

async fn caught_up(sinks: &Sinks, name: &str) -> Result<(), Failure> {
    let waited = tokio::time::timeout(PATIENCE, sinks.caught_up(name)).await;
    let late = || {
        let state = sinks.status(name).unwrap_or(Value::Null);
        Failure::message(Exit::Io, format!("the sink {name} has not caught up in time: {state}"))
    };
    waited.map_err(|_| late())?.or_exit(Exit::Io)
}

/// Rates without a sink and with stuck ones.
fn ingestion(
    context: &Context,
    args: &BenchArgs,
    runtime: &tokio::runtime::Runtime,
    base: &Path,
) -> Result<Vec<(f64, f64)>, Failure> {
    let alone = start(context, runtime, &base.join("alone"), "")?;
    let stuck = [stuck_sink("stuck"), postgres_sink("gone", 9, "")].concat();
    let beside = start(context, runtime, &base.join("stuck"), &stuck)?;
    let measure = |of: &Started, round: u32| -> Result<f64, Failure> {
        let end = End::After(Duration::from_secs(u64::from(args.seconds)));
        let plan = Plan { address: of.address, connections: args.connections, end };
        let requests = requests(context, &of.address.to_string(), &of.key, round)?;
        Ok(load::run_blocking(plan, requests, Arc::clone(&context.clock)).or_exit(Exit::Io)?.rate())
    };
    let mut rates = Vec::new();
    for round in 1..=args.rounds {
        // Who begins changes with each round.
        rates.push(if round % 2 == 0 {
            let first = measure(&alone, round)?;
            (first, measure(&beside, round)?)
        } else {
            let first = measure(&beside, round)?;
            (measure(&alone, round)?, first)
        });
    }
    alone.stop(runtime)?;
    beside.stop(runtime)?;
    Ok(rates)
}

/// A server in this process.
struct Started {
    settings: Settings,
    key: String,
    address: std::net::SocketAddr,
    engine: Arc<Engine>,
    sinks: Arc<Sinks>,
    serving: Serving,
}

impl Started {
    fn stop(self, runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
        self.serving.end(runtime)
    }
}

fn start(
    context: &Context,
    runtime: &tokio::runtime::Runtime,
    dir: &Path,
    config: &str,
) -> Result<Started, Failure> {
    let (made, key) = prepare(context, dir, config)?;
    let secret =
        format!("whsec_{}", data_encoding::BASE64.encode(&idtrail_port::random::<24>(&*context.entropy)));
    let secret_path = made.config.parent().unwrap_or(dir).join("hook.secret");
    idtrail_port::write_atomic(
        &*context.disk,
        &secret_path,
        secret.as_bytes(),
        idtrail_port::Privacy::Owner,
    )?;
    let settings = Settings::load(&*context.disk, &made.config)?;
    let kek = init::kek(context, &settings)?;
    let server =
        runtime.block_on(Server::bind(init::ports(context), &settings, kek)).map_err(serve::failure)?;
    let (address, engine) = (server.address(), Arc::clone(server.engine()));
    let sinks = Arc::clone(server.sinks());
    let serving = Serving::begin(runtime, server);
    Ok(Started { settings, key, address, engine, sinks, serving })
}

/// Reads one sink as the configuration would, in the installation's directory.
fn one(of: &Settings, section: &str, name: &str) -> Result<SinkSettings, Failure> {
    let table: toml::Table = toml::from_str(section).or_exit(Exit::Io)?;
    let mut value =
        table.get("sinks").and_then(|sinks| sinks.get(name)).map_or(Value::Null, |sink| json!(sink));
    if let Some(dir) = value.pointer_mut("/target/dir") {
        *dir = json!(of.data_dir.join("export").join(name).display().to_string());
    }
    if let Value::Object(members) = &mut value {
        members.insert("name".to_owned(), json!(name));
    }
    serde_json::from_value(value).or_exit(Exit::Io)
}

fn make_table(postgres: &Postgres, sink: &SinkSettings, table: &str) -> Result<(), Failure> {
    if !matches!(sink.dialect(), Some((Dialect::Postgres, _))) {
        return Ok(());
    }
    let plan = sink.plan([0; 32]).or_exit(Exit::Io)?;
    let principals = Principals { writer: "writer", eraser: "eraser" };
    let ddl = statements(Dialect::Postgres, &format!("audit.{table}"), &plan.mapping, principals);
    postgres.sql(&ddl).or_exit(Exit::Io)?;
    Ok(())
}

/// Holds requests back until it is their time.
fn paced(make: load::MakeRequest, rate: u32, context: &Context) -> load::MakeRequest {
    let (clock, start_ns) = (Arc::clone(&context.clock), context.clock.monotonic_ns());
    Arc::new(move |number, request| {
        let due_ns = start_ns + number * 1_000_000_000 / u64::from(rate.max(1));
        loop {
            let left_ns = due_ns.saturating_sub(clock.monotonic_ns());
            if left_ns == 0 {
                break;
            }
            std::thread::park_timeout(Duration::from_nanos(left_ns));
        }
        make(number, request);
    })
}

/// Looks at the log's size and the sinks' cursors again and again.
struct Looker {
    engine: Arc<Engine>,
    sinks: Arc<Sinks>,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
}

impl Looker {
    /// Returns how long after an entry was durable each sink had settled it, and the most memory that was used.
    async fn look(
        self,
        names: Vec<String>,
        stopped: tokio::sync::watch::Receiver<bool>,
    ) -> (Vec<(String, Histogram)>, u64) {
        let mut all: Vec<_> =
            names.into_iter().map(|name| (name, VecDeque::new(), Histogram::default())).collect();
        let (mut size, mut rss_max) = (self.engine.reader().size().get(), 0);
        while !*stopped.borrow() {
            tokio::time::sleep(LOOK_PERIOD).await;
            let (now_ns, grown) = (self.clock.monotonic_ns(), self.engine.reader().size().get());
            rss_max = rss_max.max(rss_bytes(&*self.disk));
            let targets = self.sinks.rights_targets();
            for (name, waiting, lags) in &mut all {
                if grown > size {
                    waiting.push_back((grown, now_ns));
                }
                let cursor =
                    targets.iter().find(|target| target.name == *name).and_then(|target| target.cursor);
                let settled = cursor.map_or(0, |cursor| cursor.seq);
                while let Some((_, seen_ns)) =
                    waiting.front().copied().filter(|(wanted, _)| *wanted <= settled)
                {
                    waiting.pop_front();
                    lags.record(now_ns.saturating_sub(seen_ns));
                }
            }
            size = grown;
        }
        (all.into_iter().map(|(name, _, lags)| (name, lags)).collect(), rss_max)
    }
}

/// Returns the memory that this process has in use; 0 where the system does not say.
/// Returns the memory of this process that is in use, bytes; 0 if the system does not tell.
pub(super) fn rss_bytes(disk: &dyn Disk) -> u64 {
    let mut text = [0; 128];
    let read =
        disk.open(Path::new("/proc/self/statm"), Open::Read).and_then(|file| file.read_at(&mut text, 0));
    let text = text.get(..read.unwrap_or(0)).and_then(|text| std::str::from_utf8(text).ok());
    let pages = text.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn spread(values: impl Iterator<Item = f64> + Clone) -> String {
    let (low, high) = (values.clone().fold(f64::MAX, f64::min), values.clone().fold(0.0, f64::max));
    format!("{:.2} ({low:.2} to {high:.2})", median(values.collect()))
}

fn say(
    context: &Context,
    args: &BenchArgs,
    lag: &Delivery,
    stuck: &[(f64, f64)],
    version: &str,
    dir: &Path,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let ms = |ns: u64| ns as f64 / 1e6;
    if context.globals.json {
        let lags: Vec<Value> = lag
            .lags
            .iter()
            .map(|(sink, lags)| {
                json!({ "sink": sink, "p50Ms": ms(lags.quantile_ns(500)), "p99Ms": ms(lags.quantile_ns(990)) })
            })
            .collect();
        let summary = json!({
            "events": lag.events, "eventsPerSecond": lag.rate, "lags": lags,
            "rssBeforeBytes": lag.rss_before, "rssSteadyBytes": lag.rss_steady, "rssFillingBytes": lag.rss_filling, "postgres": version,
            "sinkAndCopyRowsPerSecond": lag.copy, "parquetRowsPerSecond": lag.parquet,
            "aloneAndStuckEventsPerSecond": stuck,
        });
        writeln!(out, "{summary}")?;
        return Ok(());
    }
    writeln!(out, "six sinks (five that work, one stuck), {} events at {:.0}/s", lag.events, lag.rate)?;
    for (name, lags) in &lag.lags {
        writeln!(
            out,
            "  {name:10} settled after p50 {:.0} ms, p99 {:.0} ms",
            ms(lags.quantile_ns(500)),
            ms(lags.quantile_ns(990))
        )?;
    }
    writeln!(
        out,
        "  memory of server, sinks and load generator: {:.0} MiB before, {:.0} MiB at most, {:.0} MiB after fillings",
        mib(lag.rss_before),
        mib(lag.rss_steady),
        mib(lag.rss_filling)
    )?;
    writeln!(
        out,
        "the whole log from its first entry, median of {} rounds (lowest to highest)",
        args.rounds
    )?;
    writeln!(
        out,
        "  PostgreSQL sink {:>8.0} rows/s, COPY {:>8.0} rows/s, ratio {}   {version}",
        median(lag.copy.iter().map(|(ours, _)| *ours).collect()),
        median(lag.copy.iter().map(|(_, theirs)| *theirs).collect()),
        spread(lag.copy.iter().map(|(ours, theirs)| ours / theirs))
    )?;
    writeln!(out, "  Parquet sink    {:>8.0} rows/s", median(lag.parquet.clone()))?;
    writeln!(
        out,
        "ingestion, {} connections, {} rounds of {} s in turns",
        args.connections, args.rounds, args.seconds
    )?;
    writeln!(
        out,
        "  no sink {:.0}/s, two stuck sinks {:.0}/s, ratio {}",
        median(stuck.iter().map(|(alone, _)| *alone).collect()),
        median(stuck.iter().map(|(_, beside)| *beside).collect()),
        spread(stuck.iter().map(|(alone, beside)| beside / alone))
    )?;
    writeln!(out, "data of the run: {} (delete it when you are done)", dir.display())?;
    Ok(())
}
