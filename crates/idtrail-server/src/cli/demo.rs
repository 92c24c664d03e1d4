//! `idtrail demo`: the whole way in under a minute. An installation is made, events are posted over HTTP, a customer
//! asks for access, the answer is verified offline, one flipped byte in a copy is found and named, and a warehouse of
//! Parquet files that a sink wrote meanwhile is queried.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use http::{Request, StatusCode};
use idtrail_connect::sink::files::read_texts;
use idtrail_log::fsck::Severity;
use idtrail_port::os::OsNetwork;
use idtrail_port::{Network, Privacy, create_dir_durable, read_whole, write_atomic};
use idtrail_tlog::LogIndex;
use idtrail_verify::Verdict;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Context, DemoArgs, Failure, InitArgs, OrExit as _, fsck, init, serve};
use crate::credentials::{CredentialStore, NewKey, NewPerson, Role, RoleSet};
use crate::engine::{self, Engine};
use crate::exit::Exit;
use crate::serve::Server;
use crate::settings::Settings;
use crate::sinks::Sinks;
use crate::{synthetic, telemetry};

mod copy;
mod erasure;

use self::copy::{RECORDS, records};

const PEOPLE: u64 = 12;
const SENDERS: u64 = 32;
/// Name of the sink, and of its directory.
const WAREHOUSE: &str = "warehouse";
const WAREHOUSE_FILE_BYTES_MAX: u64 = 1 << 30;
const DEADLINE: Duration = Duration::from_secs(30);

/// Shows what idtrail does, then serves on unless told to exit.
///
/// # Errors
/// A failure with its exit code; anything that does not come out as it must is one.
pub fn run(context: &Context, args: &DemoArgs) -> Result<Exit, Failure> {
    let filter = (context.env)("RUST_LOG").unwrap_or_else(|| "warn".to_owned());
    telemetry::init(crate::settings::LogFormat::Text, Some(&filter), (context.env)("NO_COLOR").is_some())
        .or_exit(Exit::Config)?;
    let demo = Demo::make(context, args)?;
    serve::runtime()?.block_on(async {
        let settings = Settings::load(&*context.disk, &demo.made.config)?;
        let kek = init::kek(context, &settings)?;
        let server = Server::bind_with(init::ports(context), &settings, kek, context.env)
            .await
            .map_err(serve::failure)?;
        let (engine, address) = (Arc::clone(server.engine()), server.address());
        let sinks = Arc::clone(server.sinks());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            // Either the demo is over or it failed; both end the server.
            let _ = stopped.await;
        }));
        let outcome = match demo.show(address, &engine).await {
            Ok(()) => demo.query_warehouse(&sinks, &engine).await,
            Err(failure) => Err(failure),
        };
        let outcome = match outcome {
            Ok(()) => demo.give_copy(address).await,
            Err(failure) => Err(failure),
        };
        let outcome = match outcome {
            Ok(()) => demo.erase(address).await,
            Err(failure) => Err(failure),
        };
        if outcome.is_ok() && !args.exit {
            demo.say_how_to_play(address);
            serve::told_to_stop()?.await;
        }
        let _ = stop.send(());
        running.await.or_exit(Exit::Io)?.map_err(serve::failure)?;
        outcome?;
        demo.verify_certificate()?;
        Ok(Exit::Ok)
    })
}

struct Demo<'c> {
    context: &'c Context,
    dir: PathBuf,
    events: u64,
    made: init::Installation,
    key: String,
    person_id: String,
    person_secret: String,
    /// A second data protection officer: client id and secret.
    second: (String, String),
    network: Arc<OsNetwork>,
}

impl<'c> Demo<'c> {
    fn make(context: &'c Context, args: &DemoArgs) -> Result<Self, Failure> {
        let random = data_encoding::HEXLOWER.encode(&idtrail_port::random::<4>(&*context.entropy));
        let dir =
            args.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("idtrail-demo-{random}")));
        let init_args = InitArgs { dir: dir.clone(), origin: None, tenant: "default".to_owned() };
        let extra = format!(
            "listen = \"127.0.0.1:{}\"\n[rights]\ngrace_hours = 0\nrecords = \"{RECORDS}\"\n[segments]\nsegment_bytes = 4194304\n[sinks.{WAREHOUSE}]\nerase = \"none\"\n\
             [sinks.{WAREHOUSE}.target]\nkind = \"files\"\nformat = \"parquet\"\ndir = \"{WAREHOUSE}\"\n",
            args.port
        );
        let made = init::create(context, &init_args, &extra)?;
        write_atomic(&*context.disk, &dir.join(RECORDS), records().to_string().as_bytes(), Privacy::Owner)?;
        let settings = Settings::load(&*context.disk, &made.config)?;
        let store = CredentialStore::open(context.disk.clone(), &settings.data_dir)?;
        let now_ms = context.clock.wall_ms();
        let roles: RoleSet = [Role::Ingest, Role::Resolve, Role::Dpo, Role::Auditor].into_iter().collect();
        let new =
            NewKey { env: "demo".to_owned(), name: "contact-centre".to_owned(), roles, expires_ms: None };
        let key = store.create_key(&*context.entropy, now_ms, new)?;
        let roles: RoleSet = [Role::Dpo].into_iter().collect();
        let new = NewPerson { name: "demo-dpo".to_owned(), roles, expires_ms: None };
        let person = store.create_person(&*context.entropy, now_ms, new)?;
        let new = NewPerson { name: "demo-dpo-2".to_owned(), roles, expires_ms: None };
        let second = store.create_person(&*context.entropy, now_ms, new)?;
        Ok(Self {
            context,
            dir,
            events: args.events,
            made,
            key: key.secret.to_string(),
            person_id: person.id,
            person_secret: person.secret.to_string(),
            second: (second.id, second.secret.to_string()),
            network: Arc::new(OsNetwork::default()),
        })
    }

    fn say(&self, line: &str) {
        use std::io::Write as _;
        // Whoever closed standard output does not want to read on; the demo's outcome is its exit code.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    async fn show(&self, address: SocketAddr, engine: &Arc<Engine>) -> Result<(), Failure> {
        self.say(&format!("1  A log was made: {}", self.made.origin));
        self.say(&format!("   data in {}, server on http://{address}", self.dir.display()));
        for (number, sample) in synthetic::SAMPLES.iter().enumerate() {
            let (status, receipt) =
                self.post(address, "/api/v1/events", sample.as_bytes().to_vec(), None).await?;
            expect(status == StatusCode::CREATED, "a sample of the guide was not accepted")?;
            if number == 0 {
                let hash = receipt.get("leafHash").and_then(Value::as_str).unwrap_or_default();
                let index = receipt.get("index").and_then(Value::as_u64).unwrap_or_default();
                self.say(&format!("2  The guide's sample was stored durably as entry {index}, leaf {hash}"));
            }
        }
        let started_ns = self.context.clock.monotonic_ns();
        self.send_events(address).await?;
        let seconds = (self.context.clock.monotonic_ns() - started_ns) as f64 / 1e9;
        self.say(&format!(
            "3  {} made-up events of {PEOPLE} people over voice, chat and e-mail: {seconds:.1} s, each on disk before its answer",
            self.events
        ));
        let token = self.token(address).await?;
        let package = self.access(address, &token, &synthetic::customer(3)).await?;
        let path = self.dir.join("answer.json");
        write_atomic(&*self.context.disk, &path, &package, Privacy::Owner)?;
        let policy = init::policy(self.context, &self.made.policy)?;
        let report = idtrail_verify::verify(&package, &policy);
        expect(report.verdict == Verdict::Verified, "the answer to the request for access does not verify")?;
        self.say(&format!(
            "4  One person asked for access: {} events, verified offline with nothing but the policy file",
            report.checked_events
        ));
        self.say(&format!("   {}", path.display()));
        self.tamper_with_package(&package, &policy)?;
        self.tamper_with_copy(engine).await?;
        self.one_person(address, &token, &policy).await
    }

    async fn send_events(&self, address: SocketAddr) -> Result<(), Failure> {
        let bar = ProgressBar::new(self.events);
        if let Ok(style) = ProgressStyle::with_template("   {bar:30} {pos}/{len} events, {per_sec}") {
            bar.set_style(style);
        }
        let next = Arc::new(AtomicU64::new(0));
        let mut senders: tokio::task::JoinSet<Result<(), Failure>> = tokio::task::JoinSet::new();
        for _ in 0..SENDERS.min(self.events) {
            let (next, network, bar) = (Arc::clone(&next), Arc::clone(&self.network), bar.clone());
            let (key, events, clock) = (self.key.clone(), self.events, Arc::clone(&self.context.clock));
            senders.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= events {
                        return Ok(());
                    }
                    let body = synthetic::event(number, PEOPLE, clock.wall_ms()).to_string().into_bytes();
                    let (status, _) =
                        exchange(&*network, address, "/api/v1/events", body, &key, None).await?;
                    expect(status == StatusCode::CREATED, "a made-up event was not accepted")?;
                    bar.inc(1);
                }
            });
        }
        while let Some(outcome) = senders.join_next().await {
            outcome.or_exit(Exit::Io)??;
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn post(
        &self,
        address: SocketAddr,
        path: &str,
        body: Vec<u8>,
        token: Option<&str>,
    ) -> Result<(StatusCode, Value), Failure> {
        let (status, bytes) = exchange(&*self.network, address, path, body, &self.key, token).await?;
        Ok((status, serde_json::from_slice(&bytes).or_exit(Exit::Io)?))
    }

    async fn token(&self, address: SocketAddr) -> Result<String, Failure> {
        self.token_of(address, &self.person_id, &self.person_secret).await
    }

    async fn token_of(&self, address: SocketAddr, id: &str, secret: &str) -> Result<String, Failure> {
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let request = Request::post(format!("http://{address}/oauth/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .or_exit(Exit::Io)?;
        let response = self.network.exchange(request, DEADLINE).await.or_exit(Exit::Io)?;
        let answer: Value = serde_json::from_slice(response.body()).or_exit(Exit::Io)?;
        let token = answer.get("access_token").and_then(Value::as_str).map(str::to_owned);
        token.ok_or_else(|| Failure::message(Exit::Auth, "no token was given"))
    }

    async fn access(&self, address: SocketAddr, token: &str, customer: &str) -> Result<Vec<u8>, Failure> {
        let body = json!({ "customerIdHash": customer, "requestType": "ACCESS" }).to_string().into_bytes();
        let path = "/api/v1/compliance/dsar/audit-trail";
        let (status, bytes) = exchange(&*self.network, address, path, body, &self.key, Some(token)).await?;
        expect(status == StatusCode::OK, "the request for access was not answered")?;
        Ok(bytes.to_vec())
    }

    /// One person calls and writes; a chat shows that both are the same, and access by the phone number finds all three.
    async fn one_person(
        &self,
        address: SocketAddr,
        token: &str,
        policy: &idtrail_tlog::Policy,
    ) -> Result<(), Failure> {
        let phone = json!({ "type": "phone", "value": "+14155552671", "assurance": 1 });
        let mail = json!({ "type": "email", "value": "jane.doe@example.com", "assurance": 2 });
        let customer = json!({ "type": "customer_ref", "value": "C-1001", "assurance": 3 });
        let contacts = [
            ("VOICE", "demo-call", json!([phone])),
            ("EMAIL", "demo-mail", json!([mail])),
            ("CHAT", "demo-chat", json!([customer, phone, mail])),
        ];
        let mut answers = Vec::new();
        for (channel, interaction, identifiers) in contacts {
            let body =
                json!({ "interactionId": interaction, "channelType": channel, "identifiers": identifiers });
            let body = body.to_string().into_bytes();
            let (status, answer) = self.post(address, "/api/v1/identity/resolve", body, None).await?;
            expect(status == StatusCode::CREATED, "a contact was not resolved")?;
            answers.push(answer);
        }
        let text = |answer: &Value, name: &str| {
            answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let last = answers.last().cloned().unwrap_or_default();
        let gcid = text(&last, "gcid");
        expect(text(&last, "outcome") == "MERGED", "the chat did not join the call and the mail")?;
        let question = json!({ "identifier": phone, "requestType": "ACCESS" }).to_string().into_bytes();
        let path = "/api/v1/compliance/dsar/audit-trail";
        let (status, package) =
            exchange(&*self.network, address, path, question, &self.key, Some(token)).await?;
        expect(status == StatusCode::OK, "access by a telephone number was not answered")?;
        let report = idtrail_verify::verify(&package, policy);
        expect(report.verdict == Verdict::Verified, "the answer by a telephone number does not verify")?;
        let whole: Value = serde_json::from_slice(&package).or_exit(Exit::Io)?;
        let events = whole.get("events").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let found = |answer: &Value| {
            let index = answer.get("receipt").and_then(|receipt| receipt.get("index"));
            events.iter().any(|event| event.get("index") == index)
        };
        expect(answers.iter().all(found), "access by a telephone number does not find every contact")?;
        self.say(&format!("7  A call, a mail and a chat: one customer, {gcid}"));
        self.say(&format!(
            "   the chat named the telephone number and the address together (rule {}): two customers before, one since",
            text(&last, "ruleId")
        ));
        self.say(&format!(
            "   access by the telephone number gives all {} events, verified; the number stands in none of them",
            events.len()
        ));
        Ok(())
    }

    fn tamper_with_package(&self, package: &[u8], policy: &idtrail_tlog::Policy) -> Result<(), Failure> {
        let text = String::from_utf8(package.to_vec()).or_exit(Exit::Io)?;
        let report = idtrail_verify::verify(text.replacen("CHAT", "SMS", 1).as_bytes(), policy);
        let found = report.verdict == Verdict::Tampered && report.first_bad.is_some();
        expect(found || !text.contains("CHAT"), "a changed word in the answer was not found")?;
        if let Some(place) = report.first_bad {
            self.say(&format!(
                "5  One word changed in a copy of the answer: TAMPERED, entry {}",
                place.index
            ));
        }
        Ok(())
    }

    async fn tamper_with_copy(&self, engine: &Arc<Engine>) -> Result<(), Failure> {
        let index = LogIndex::new(engine.reader().size().get() / 2);
        let (leaf, head) = (engine.reader().entry(index).or_exit(Exit::Io)?, engine.reader().head());
        let copy = self.dir.join("copy");
        let target = engine::log_directory(&copy);
        let source = engine::log_directory(&self.dir.join("data"));
        for part in ["segments", "tiles"] {
            copy_files(self.context, &source.join(part), &target.join(part))?;
        }
        let whole = fsck::check(self.context, &engine::log_directory(&copy), &self.made.origin, &[])?;
        expect(
            whole.worst().is_none() && whole.root == head.root,
            "the untouched copy is not what the log says",
        )?;
        let path = flip(self.context, &target.join("segments"), &leaf)?;
        let report = fsck::check(self.context, &engine::log_directory(&copy), &self.made.origin, &[])?;
        let found = report.findings.first().and_then(|finding| finding.index);
        let named = report.worst() == Some(Severity::Damaged) && found == Some(index);
        expect(named, "the flipped byte was not found where it is")?;
        self.say(&format!(
            "6  One byte flipped in a copy of the log: found, entry {index}, all {} others intact",
            head.size.get() - 1
        ));
        self.say(&format!("   {}", path.display()));
        Ok(())
    }

    /// Waits for the sink and counts what is in its files, as any tool that reads Parquet could.
    async fn query_warehouse(&self, sinks: &Sinks, engine: &Engine) -> Result<(), Failure> {
        let waited = tokio::time::timeout(DEADLINE, sinks.caught_up(WAREHOUSE)).await;
        expect(matches!(waited, Ok(Ok(()))), "the warehouse did not get every event")?;
        let dir = self.dir.join(WAREHOUSE);
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        let names: Vec<String> =
            self.context.disk.list(&dir)?.into_iter().filter(|name| name.ends_with(".parquet")).collect();
        for name in &names {
            let bytes = read_whole(&*self.context.disk, &dir.join(name), WAREHOUSE_FILE_BYTES_MAX)?;
            for row in read_texts(bytes, &["event_type", "channel_type"]).or_exit(Exit::Io)? {
                let mut cells = row.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
                let (event_type, channel) =
                    (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
                *counts.entry((event_type, channel)).or_default() += 1;
            }
        }
        let all: u64 = counts.values().sum();
        // Every leaf but the two with which a log begins is of an event, or of what followed from one.
        expect(all == engine.reader().size().get() - 2, "the warehouse does not hold every event once")?;
        self.say(&format!(
            "8  A sink wrote all {all} events into a warehouse of {} Parquet files meanwhile; how many of what?",
            names.len()
        ));
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["  event_type", "channel_type", "events"]);
        for ((event_type, channel), count) in counts {
            table.add_row([format!("  {event_type}"), channel, count.to_string()]);
        }
        self.say(&table.to_string());
        self.say(&format!("   {}", dir.display()));
        Ok(())
    }

    fn say_how_to_play(&self, address: SocketAddr) {
        let (policy, answer) = (self.made.policy.display(), self.dir.join("answer.json"));
        self.say("\nThe server keeps running; Ctrl-C ends it. Play with it from another terminal:\n");
        self.say(&format!("  KEY='{}'", self.key));
        self.say(&format!(
            "  TOKEN=$(curl -s http://{address}/oauth/token -u '{}:{}' -d grant_type=client_credentials | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')",
            self.person_id, self.person_secret
        ));
        let sample: String =
            synthetic::SAMPLES.first().map(|sample| sample.split_whitespace().collect()).unwrap_or_default();
        self.say(&format!(
            "  curl -s http://{address}/api/v1/events -H \"X-API-Key: $KEY\" -H 'Content-Type: application/json' -d '{sample}'"
        ));
        self.say(&format!(
            "  curl -s http://{address}/api/v1/compliance/dsar/audit-trail -H \"X-API-Key: $KEY\" -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{{\"customerIdHash\":\"cust_hash_9f86d08\",\"requestType\":\"ACCESS\"}}' > a.json"
        ));
        self.say(&format!("  curl -s http://{address}/checkpoint"));
        self.say(&format!("  idtrail verify a.json --policy {policy}"));
        self.say(&format!("  idtrail verify {} --policy {policy}", answer.display()));
        self.say(&format!("  idtrail fsck --dir {}", self.dir.join("copy").display()));
    }
}

fn expect(holds: bool, what: &'static str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::message(Exit::Tampered, what)) }
}

async fn exchange(
    network: &dyn Network,
    address: SocketAddr,
    path: &str,
    body: Vec<u8>,
    key: &str,
    token: Option<&str>,
) -> Result<(StatusCode, Bytes), Failure> {
    let mut request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/json")
        .header("x-api-key", key);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Bytes::from(body)).or_exit(Exit::Io)?;
    let response = network.exchange(request, DEADLINE).await.or_exit(Exit::Io)?;
    Ok((response.status(), response.into_body()))
}

fn copy_files(context: &Context, from: &Path, to: &Path) -> Result<(), Failure> {
    create_dir_durable(&*context.disk, to)?;
    for name in context.disk.list(from)?.iter().filter(|name| !name.ends_with(".tmp")) {
        let bytes = read_whole(&*context.disk, &from.join(name), 1 << 32)?;
        write_atomic(&*context.disk, &to.join(name), &bytes, Privacy::Owner)?;
    }
    Ok(())
}

/// Flips one bit in the middle of a leaf, wherever in the segments it stands.
fn flip(context: &Context, segments: &Path, leaf: &[u8]) -> Result<PathBuf, Failure> {
    for name in context.disk.list(segments)?.iter().filter(|name| name.ends_with(".seg")) {
        let path = segments.join(name);
        let mut bytes = read_whole(&*context.disk, &path, 1 << 32)?;
        let Some(at) = bytes.windows(leaf.len()).position(|window| window == leaf) else { continue };
        if let Some(byte) = bytes.get_mut(at + leaf.len() / 2) {
            *byte ^= 1;
        }
        write_atomic(&*context.disk, &path, &bytes, Privacy::Owner)?;
        return Ok(path);
    }
    Err(Failure::message(Exit::NotChecked, "the leaf is in no segment"))
}
