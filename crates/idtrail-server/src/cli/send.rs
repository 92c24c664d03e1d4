//! `idtrail send`: posts the events of a file or pipe, repeats what failed, and can be run again without doubling.
//!
//! Every event gets an Idempotency-Key made of its content and of how often the same content stood before it in the
//! input. So a second run of the same input finds every event there already, while two equal lines stay two events.
//! How far a run came stands in a small file beside the input; the next run skips that far, after checking that the
//! input still starts with the same bytes.
//!
//! What the server refuses for its content is not sent again: it is listed, with its number, code and the places of the
//! mistakes, never with a value.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufReader, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use data_encoding::HEXLOWER;
use idtrail_port::{Open, Privacy, append_extension, read_optional, write_atomic};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::client::{ServerArgs, ServerClient, problem_text, refusal_exit};
use super::{Context, Failure, OrExit as _, serve};
use crate::exit::Exit;

mod input;
use input::{Events, FileReader};

const EVENTS: &str = "/api/v1/events";
const STATE_BYTES_MAX: u64 = 4096;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Events between two notes of how far a run came.
const NOTE_EVERY: u64 = 1000;

/// Arguments of `send`.
#[derive(Args, Clone, Debug)]
pub struct SendArgs {
    /// File with events, as NDJSON (one a line) or one JSON array; - is standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Requests at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// How often an event is sent again when the server cannot take it.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    pub retries: u32,
    /// File for what the server refuses, one JSON object a line, without values.
    #[arg(long, value_name = "FILE")]
    pub refused: Option<PathBuf>,
    /// File that notes how far the run came [default: FILE.sent; none for standard input]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Start from the beginning whatever the note says.
    #[arg(long)]
    pub again: bool,
}

/// How far a run came: so many events, whose bytes have this digest.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
struct Note {
    events: u64,
    sha256: String,
}

/// What became of one event.
enum Fate {
    Accepted,
    Duplicate,
    Refused(Value),
    /// Nothing that sending it again would mend: the credential, or a server that is down.
    Stop(Failure),
}

#[derive(Default)]
struct Summary {
    skipped: u64,
    accepted: u64,
    duplicate: u64,
    refused: u64,
    stopped: Option<Failure>,
}

/// Keeps up to where everything is done, and the digest of exactly that.
#[derive(Default)]
struct Done {
    upto: u64,
    beyond: BTreeSet<u64>,
    digests: HashMap<u64, String>,
    digest: String,
}

impl Done {
    fn add(&mut self, number: u64) {
        self.beyond.insert(number);
        while self.beyond.remove(&self.upto) {
            self.digest = self.digests.remove(&self.upto).unwrap_or_default();
            self.upto += 1;
        }
    }
}

/// Sends and says what came of it.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &SendArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let client = Arc::new(ServerClient::new(context, &args.server)?);
    let is_pipe = args.file == Path::new("-");
    let reader: Box<dyn std::io::BufRead + Send> = if is_pipe {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = context.disk.open(&args.file, Open::Read)?;
        Box::new(BufReader::with_capacity(1 << 20, FileReader { file, offset: 0 }))
    };
    let state = args.state.clone().or_else(|| (!is_pipe).then(|| append_extension(&args.file, "sent")));
    let events = Events::open(reader).or_exit(Exit::Usage)?;
    let started_ns = context.clock.monotonic_ns();
    let sender = Sender { context, args, client, state };
    let mut refused = Vec::new();
    let summary = serve::runtime()?.block_on(sender.send(events, &mut refused))?;
    if let Some(path) = &args.refused {
        let lines: String = refused.iter().map(|one| format!("{one}\n")).collect();
        write_atomic(&*context.disk, path, lines.as_bytes(), Privacy::Owner)?;
    }
    let seconds = context.clock.monotonic_ns().saturating_sub(started_ns) as f64 / 1e9;
    say(context, &summary, &refused, seconds, out)?;
    match summary.stopped {
        Some(failure) => Err(failure),
        None if summary.refused > 0 => Ok(Exit::Incomplete),
        None => Ok(Exit::Ok),
    }
}

struct Sender<'a> {
    context: &'a Context,
    args: &'a SendArgs,
    client: Arc<ServerClient>,
    state: Option<PathBuf>,
}

impl Sender<'_> {
    async fn send(&self, mut events: Events, refused: &mut Vec<Value>) -> Result<Summary, Failure> {
        let note = if self.args.again { None } else { self.note()? };
        let mut summary = Summary::default();
        let mut done = Done::default();
        let mut seen: HashMap<[u8; 32], u32> = HashMap::new();
        let mut running = Sha256::new();
        let mut under_way: JoinSet<(u64, Fate)> = JoinSet::new();
        let bar = bar();
        let mut number: u64 = 0;
        let mut noted = note.as_ref().map_or(0, |note| note.events);
        while summary.stopped.is_none() {
            let Some(event) = events.next().or_exit(Exit::Usage)? else { break };
            let content: [u8; 32] = Sha256::digest(&event).into();
            running.update(content);
            let so_far = HEXLOWER.encode(&running.clone().finalize());
            let times = seen.entry(content).or_default();
            let key = format!("send-{}-{times}", HEXLOWER.encode(content.get(..16).unwrap_or_default()));
            *times += 1;
            if let Some(note) = note.as_ref().filter(|note| number < note.events) {
                if number + 1 == note.events && so_far != note.sha256 {
                    let message = "the input is not the one that the note of the last run is about; --again starts over";
                    return Err(Failure::message(Exit::Usage, message));
                }
                summary.skipped += 1;
                (done.upto, done.digest) = (number + 1, so_far);
                number += 1;
                bar.inc(1);
                continue;
            }
            done.digests.insert(number, so_far);
            while under_way.len() >= usize::from(self.args.concurrency) {
                self.one_ended(&mut under_way, &mut summary, &mut done, refused, &bar).await?;
            }
            if summary.stopped.is_some() {
                break;
            }
            let (client, retries) = (Arc::clone(&self.client), self.args.retries);
            let jitter = idtrail_port::random::<1>(&*self.context.entropy);
            under_way.spawn(async move { (number, post(&client, &key, event, retries, jitter).await) });
            number += 1;
            if done.upto >= noted + NOTE_EVERY {
                noted = done.upto;
                self.write_note(&done)?;
            }
        }
        while !under_way.is_empty() {
            self.one_ended(&mut under_way, &mut summary, &mut done, refused, &bar).await?;
        }
        bar.finish_and_clear();
        if note.as_ref().is_some_and(|note| number < note.events) {
            let message = "the input is shorter than the note of the last run says; --again starts over";
            return Err(Failure::message(Exit::Usage, message));
        }
        self.write_note(&done)?;
        Ok(summary)
    }

    async fn one_ended(
        &self,
        under_way: &mut JoinSet<(u64, Fate)>,
        summary: &mut Summary,
        done: &mut Done,
        refused: &mut Vec<Value>,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let Some(ended) = under_way.join_next().await else { return Ok(()) };
        let (number, fate) = ended.or_exit(Exit::Io)?;
        match fate {
            Fate::Accepted => summary.accepted += 1,
            Fate::Duplicate => summary.duplicate += 1,
            Fate::Refused(mut why) => {
                summary.refused += 1;
                if let Value::Object(members) = &mut why {
                    members.insert("event".to_owned(), json!(number));
                }
                refused.push(why);
            }
            Fate::Stop(failure) => {
                summary.stopped.get_or_insert(failure);
                return Ok(());
            }
        }
        done.add(number);
        bar.inc(1);
        Ok(())
    }

    fn note(&self) -> Result<Option<Note>, Failure> {
        let Some(path) = &self.state else { return Ok(None) };
        let Some(bytes) = read_optional(&*self.context.disk, path, STATE_BYTES_MAX)? else { return Ok(None) };
        let note = serde_json::from_slice(&bytes);
        note.map(Some).map_err(|_| {
            let message = format!("{} is not a note of this command; --again starts over", path.display());
            Failure::message(Exit::Usage, message)
        })
    }

    fn write_note(&self, done: &Done) -> Result<(), Failure> {
        let (Some(path), true) = (&self.state, done.upto > 0) else { return Ok(()) };
        let note = Note { events: done.upto, sha256: done.digest.clone() };
        let bytes = serde_json::to_vec(&note).or_exit(Exit::Io)?;
        Ok(write_atomic(&*self.context.disk, path, &bytes, Privacy::Owner)?)
    }
}

/// Posts one event until it has a fate.
async fn post(client: &ServerClient, key: &str, event: Vec<u8>, retries: u32, [jitter]: [u8; 1]) -> Fate {
    let mut backoff = BACKOFF_FIRST;
    for attempt in 0.. {
        let answer = client.post(EVENTS, &[("idempotency-key", key)], event.clone()).await;
        let (wait, failure) = match answer {
            Ok(response) if response.status() == StatusCode::CREATED => return Fate::Accepted,
            Ok(response) if response.status() == StatusCode::OK => return Fate::Duplicate,
            Ok(response) => {
                let (status, after) = (response.status(), retry_after(&response));
                let problem: Value = response.json().await.unwrap_or_default();
                let failure = Failure::message(refusal_exit(status), problem_text(status, &problem));
                let again = status == StatusCode::TOO_MANY_REQUESTS
                    || status == StatusCode::REQUEST_TIMEOUT
                    || status.is_server_error();
                match status {
                    _ if again => (after, failure),
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                        return Fate::Stop(failure);
                    }
                    status => {
                        let member = |name: &str| problem.get(name).cloned().unwrap_or_default();
                        return Fate::Refused(json!({
                            "status": status.as_u16(), "code": member("code"), "errors": member("errors"),
                        }));
                    }
                }
            }
            Err(error) => (None, Failure::new(Exit::Io, error)),
        };
        if attempt >= retries {
            return Fate::Stop(failure);
        }
        // Between half and the whole of the time, so that senders do not come back together.
        let spread = backoff.mul_f64(0.5 + f64::from(jitter) / 510.0);
        tokio::time::sleep(wait.unwrap_or(spread).min(BACKOFF_MAX)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    Fate::Stop(Failure::message(Exit::Io, "too many attempts"))
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} events, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn say(
    context: &Context,
    summary: &Summary,
    refused: &[Value],
    seconds: f64,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Summary { skipped, accepted, duplicate, .. } = summary;
    if context.globals.json {
        let all = json!({
            "accepted": accepted, "duplicate": duplicate, "refused": refused, "skipped": skipped,
            "complete": summary.stopped.is_none(), "seconds": seconds,
        });
        writeln!(out, "{all}")?;
        return Ok(());
    }
    let sent = accepted + duplicate + summary.refused;
    writeln!(
        out,
        "{sent} events sent in {seconds:.1} s: {accepted} new, {duplicate} there already, {} refused",
        summary.refused
    )?;
    if *skipped > 0 {
        writeln!(out, "{skipped} were sent by an earlier run")?;
    }
    for one in refused.iter().take(20) {
        writeln!(out, "  refused: {one}")?;
    }
    if refused.len() > 20 {
        writeln!(out, "  and {} more; --refused FILE lists all", refused.len() - 20)?;
    }
    if summary.stopped.is_some() {
        writeln!(out, "Not finished. Run the same command again: it goes on where it stopped.")?;
    }
    Ok(())
}
