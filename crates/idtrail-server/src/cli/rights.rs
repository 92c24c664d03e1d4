//! `idtrail rights`: requests of data subjects at a running server, for data protection officers.
//!
//! Every call needs an API key and a person, both with the role dpo. What names a person stands in a file, never on the
//! command line, unless it is an id or a hash; what shows something (a letter, a scan) is hashed here and not sent.

mod answers;
mod reports;

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use data_encoding::HEXLOWER;
use idtrail_port::{Privacy, write_atomic};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Response, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use self::answers::{LinkArgs, ReleaseArgs, ReviewArgs, ScheduleArgs};
use self::reports::ReportArgs;
use super::client::{PersonArgs, ServerArgs, ServerClient, problem_text, refusal_exit};
use super::{Context, Failure, OrExit as _, init, serve, verify};
use crate::exit::Exit;

const REQUESTS: &str = "/api/v1/rights/requests";
/// How often a watched request is asked for.
const WATCH_PERIOD: Duration = Duration::from_millis(500);
const IDENTIFIER_BYTES_MAX: u64 = 16 * 1024;
const CORRECTIONS_BYTES_MAX: u64 = 200 * 1024;
const EVIDENCE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Arguments of `rights`.
#[derive(Args, Clone, Debug)]
pub struct RightsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RightsCommand,
}

/// What `rights` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum RightsCommand {
    /// Open a request; one of the same kind for the same person attaches to the open one.
    Open(OpenArgs),
    /// List the requests, the newest first.
    List(ListArgs),
    /// Show a request: its state, dates, plan with counts and hash, and every item.
    Show(ShowArgs),
    /// Say something to a request, such as verify, approve, hold or attest.
    Say(SayArgs),
    /// Keep a request's newest certificate, and verify it.
    Certificate(CertificateArgs),
    /// Keep what was read for a request, to look through it before it leaves.
    Review(ReviewArgs),
    /// Let a package leave that was looked through.
    Release(ReleaseArgs),
    /// Tell the link to a package and its passphrase.
    Link(LinkArgs),
    /// Open requests for data again and again.
    Schedule(ScheduleArgs),
    /// Print a report over all requests.
    Report(ReportArgs),
}

/// A server and the person who acts there.
#[derive(Args, Clone, Debug)]
pub struct OfficeArgs {
    /// The person.
    #[command(flatten)]
    pub person: PersonArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Arguments of `rights open`.
#[derive(Args, Clone, Debug)]
pub struct OpenArgs {
    /// Kind: ACCESS, PORTABILITY, ERASURE, RECTIFICATION, RESTRICTION or OBJECTION.
    #[arg(long, value_name = "KIND")]
    pub kind: String,
    /// Whose request it is: an opaque id, a keyed hash, or a gc_ id; never a telephone number or address.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with = "identifier_file",
        required_unless_present = "identifier_file"
    )]
    pub customer: Option<String>,
    /// File with an identifier as JSON, such as {"type": "phone", "value": "+14155552671"}.
    #[arg(long, value_name = "FILE")]
    pub identifier_file: Option<PathBuf>,
    /// File with what is to be corrected (RECTIFICATION): a JSON list of index, pointer and value.
    #[arg(long, value_name = "FILE")]
    pub corrections_file: Option<PathBuf>,
    /// Law that counts the days, such as gdpr or ccpa.
    #[arg(long, value_name = "CODE", default_value = "gdpr")]
    pub regime: String,
    /// How the request came, such as letter or form.
    #[arg(long, value_name = "CODE", default_value = "cli")]
    pub manner: String,
    /// When the request came, such as 2026-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub received_at: Option<String>,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Id of the request.
    #[arg(value_name = "REQUEST")]
    pub request: String,
    /// Show progress until the request waits for a person or is closed.
    #[arg(long)]
    pub watch: bool,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights say`.
#[derive(Args, Clone, Debug)]
pub struct SayArgs {
    /// Id of the request.
    #[arg(value_name = "REQUEST")]
    pub request: String,
    /// What is said: acknowledge, challenge, verify, fail-verification, pause, resume, extend, approve, drop-plan, hold,
    /// release, exempt, attest, reopen, revoke-link, deny, withdraw or expire.
    #[arg(value_name = "COMMAND")]
    pub command: String,
    /// SHA-256 in hex of what shows it.
    #[arg(long, value_name = "HEX")]
    pub evidence: Option<String>,
    /// File that shows it; its SHA-256 is sent, the file is not.
    #[arg(long, value_name = "FILE", conflicts_with = "evidence")]
    pub evidence_file: Option<PathBuf>,
    /// Reason, a code.
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// Level to which the requester showed who they are, such as ONE_CHANNEL.
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<String>,
    /// How the requester showed it, a code such as otp-mail.
    #[arg(long, value_name = "CODE")]
    pub method: Option<String>,
    /// Hash of the plan, as `show` tells it.
    #[arg(long, value_name = "HEX")]
    pub plan_hash: Option<String>,
    /// Name of a hold.
    #[arg(long, value_name = "NAME")]
    pub hold: Option<String>,
    /// Item of the plan, such as idtrail/events; `hold` takes several.
    #[arg(long, value_name = "NAME")]
    pub item: Vec<String>,
    /// Basis in law of an exemption, such as 17(3)(e).
    #[arg(long, value_name = "BASIS")]
    pub basis: Option<String>,
    /// How many were erased, with `attest`.
    #[arg(long, value_name = "COUNT")]
    pub count: Option<u64>,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights certificate`.
#[derive(Args, Clone, Debug)]
pub struct CertificateArgs {
    /// Id of the request.
    #[arg(value_name = "REQUEST")]
    pub request: String,
    /// File for the certificate, readable by its owner only.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Verify it against this policy file; the exit code is that of the verdict.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Runs `rights`.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &RightsArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    serve::runtime()?.block_on(async {
        match &args.command {
            RightsCommand::Open(args) => open(context, args, out).await,
            RightsCommand::List(args) => list(context, args, out).await,
            RightsCommand::Show(args) => show(context, args, out).await,
            RightsCommand::Say(args) => say(context, args, out).await,
            RightsCommand::Certificate(args) => certificate(context, args, out).await,
            RightsCommand::Review(args) => answers::review(context, args, out).await,
            RightsCommand::Release(args) => answers::release(context, args, out).await,
            RightsCommand::Link(args) => answers::link(context, args, out).await,
            RightsCommand::Schedule(args) => answers::schedule(context, args, out).await,
            RightsCommand::Report(args) => reports::run(context, args, out).await,
        }
    })
}

/// A server, and a person who has shown who they are.
struct Office {
    client: ServerClient,
    bearer: Zeroizing<String>,
}

impl Office {
    async fn enter(context: &Context, args: &OfficeArgs) -> Result<Self, Failure> {
        let client = ServerClient::new(context, &args.server)?;
        let bearer = args.person.bearer(context, &client).await?;
        Ok(Self { client, bearer })
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, Failure> {
        self.get_from(&format!("{REQUESTS}{path}")).await
    }

    async fn get_from(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let headers = [("authorization", self.bearer.as_str())];
        taken(self.client.get(path, &headers).await.or_exit(Exit::Io)?).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Vec<u8>, Failure> {
        self.post_to(&format!("{REQUESTS}{path}"), body).await
    }

    async fn post_to(&self, path: &str, body: &Value) -> Result<Vec<u8>, Failure> {
        let headers = [("authorization", self.bearer.as_str())];
        let body = body.to_string().into_bytes();
        taken(self.client.post(path, &headers, body).await.or_exit(Exit::Io)?).await
    }

    async fn delete(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let headers = [("authorization", self.bearer.as_str())];
        taken(self.client.delete(path, &headers).await.or_exit(Exit::Io)?).await
    }

    async fn request(&self, id: &str) -> Result<Value, Failure> {
        serde_json::from_slice(&self.get(&format!("/{}", segment(id)?)).await?).or_exit(Exit::Io)
    }
}

async fn taken(response: Response) -> Result<Vec<u8>, Failure> {
    let status = response.status();
    let bytes = response.bytes().await.or_exit(Exit::Io)?;
    if matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT) {
        return Ok(bytes.to_vec());
    }
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut said = problem_text(status, &problem);
    for error in problem.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let member = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        said = format!("{said}\n  {} {}", member("pointer"), member("message"));
    }
    Err(Failure::message(refusal_exit(status), said))
}

/// Returns a text that stands in a path as it is.
fn segment(text: &str) -> Result<&str, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text);
    }
    Err(Failure::message(Exit::Usage, "an id or command has letters, digits, - and _ only"))
}

async fn open(context: &Context, args: &OpenArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut body = json!({ "kind": args.kind, "regime": args.regime, "manner": args.manner });
    let (name, value) = whom(context, args.customer.as_deref(), args.identifier_file.as_deref())?;
    let members = [(name, Some(value)), ("receivedAt", args.received_at.as_ref().map(|time| json!(time)))];
    insert(&mut body, members);
    if let Some(path) = &args.corrections_file {
        let bytes = idtrail_port::read_whole(&*context.disk, path, CORRECTIONS_BYTES_MAX)?;
        let wrong = |_| Failure::message(Exit::Usage, "the file with the corrections is not JSON");
        let list: Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        insert(&mut body, [("corrections", Some(list))]);
    }
    let office = Office::enter(context, &args.office).await?;
    let request = serde_json::from_slice(&office.post("", &body).await?).or_exit(Exit::Io)?;
    print(context, &request, out)
}

/// Returns the member that names a person, and its value.
fn whom(
    context: &Context,
    customer: Option<&str>,
    file: Option<&Path>,
) -> Result<(&'static str, Value), Failure> {
    let Some(path) = file else { return Ok(("customerIdHash", json!(customer))) };
    let bytes = Zeroizing::new(idtrail_port::read_whole(&*context.disk, path, IDENTIFIER_BYTES_MAX)?);
    // The parser's own words could repeat the value.
    let wrong = |_| Failure::message(Exit::Usage, "the file with the identifier is not JSON");
    Ok(("identifier", serde_json::from_slice(&bytes).map_err(wrong)?))
}

async fn list(context: &Context, args: &ListArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let office = Office::enter(context, &args.office).await?;
    let mut requests = Vec::new();
    let mut path = "?limit=1000".to_owned();
    loop {
        let page: Value = serde_json::from_slice(&office.get(&path).await?).or_exit(Exit::Io)?;
        requests.extend(page.get("requests").and_then(Value::as_array).into_iter().flatten().cloned());
        let Some(next) = page.get("next").and_then(Value::as_str) else { break };
        path = format!("?limit=1000&after={}", segment(next)?);
    }
    let answer = json!({ "requests": requests });
    if context.globals.json {
        writeln!(out, "{answer}")?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["request", "kind", "law", "state", "received", "answer by"]);
    for request in answer.get("requests").and_then(Value::as_array).into_iter().flatten() {
        let cell = |pointer: &str| request.pointer(pointer).and_then(Value::as_str).unwrap_or("-");
        table
            .add_row(["/requestId", "/kind", "/regime", "/state", "/receivedOn", "/dates/respond"].map(cell));
    }
    writeln!(out, "{table}")?;
    Ok(Exit::Ok)
}

async fn show(context: &Context, args: &ShowArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let office = Office::enter(context, &args.office).await?;
    let mut request = office.request(&args.request).await?;
    if args.watch {
        let shown = std::io::stderr().is_terminal();
        let bar = if shown { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} items settled, {msg}") {
            bar.set_style(style);
        }
        while !rests(&request) {
            let items = || request.get("items").and_then(Value::as_object).into_iter().flatten();
            bar.set_length(items().count() as u64);
            bar.set_position(items().filter(|(_, item)| settled(item)).count() as u64);
            bar.set_message(text(&request, "state").to_owned());
            tokio::time::sleep(WATCH_PERIOD).await;
            request = office.request(&args.request).await?;
        }
        bar.finish_and_clear();
    }
    print(context, &request, out)
}

/// Tells whether nothing happens to a request until a person says something.
fn rests(request: &Value) -> bool {
    let state = text(request, "state");
    let waits = [
        "RECEIVED",
        "ACKNOWLEDGED",
        "IDENTITY_PENDING",
        "PLANNED",
        "APPROVAL_PENDING",
        "WAITING_EXTERNAL",
        "REVIEW",
        "DELIVERED",
    ];
    waits.contains(&state)
        || state.starts_with("CLOSED")
        || ["WITHDRAWN", "DENIED", "EXPIRED"].contains(&state)
}

fn settled(item: &Value) -> bool {
    !["PLANNED", "WORKING", "CONFIRMED"].contains(&text(item, "status"))
}

async fn say(context: &Context, args: &SayArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let evidence = match &args.evidence_file {
        Some(path) => {
            let bytes = idtrail_port::read_whole(&*context.disk, path, EVIDENCE_BYTES_MAX)?;
            Some(HEXLOWER.encode(&Sha256::digest(&bytes)))
        }
        None => args.evidence.clone(),
    };
    let one = |value: &Option<String>| value.as_ref().map(|value| json!(value));
    let (item, items) = match (args.command.as_str(), args.item.as_slice()) {
        (_, []) => (None, None),
        ("hold", items) => (None, Some(json!(items))),
        (_, [item]) => (Some(json!(item)), None),
        _ => return Err(Failure::message(Exit::Usage, "only hold takes more than one --item")),
    };
    let mut body = Value::Object(Map::new());
    let members = [
        ("evidence", one(&evidence)),
        ("reason", one(&args.reason)),
        ("level", one(&args.level)),
        ("method", one(&args.method)),
        ("planHash", one(&args.plan_hash)),
        ("hold", one(&args.hold)),
        ("item", item),
        ("items", items),
        ("basis", one(&args.basis)),
        ("count", args.count.map(|count| json!(count))),
    ];
    insert(&mut body, members);
    let path = format!("/{}/{}", segment(&args.request)?, segment(&args.command)?);
    let office = Office::enter(context, &args.office).await?;
    let request = serde_json::from_slice(&office.post(&path, &body).await?).or_exit(Exit::Io)?;
    print(context, &request, out)
}

async fn certificate(
    context: &Context,
    args: &CertificateArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let policy = args.policy.as_deref().map(|path| init::policy(context, path)).transpose()?;
    let office = Office::enter(context, &args.office).await?;
    let file = office.get(&format!("/{}/certificate", segment(&args.request)?)).await?;
    write_atomic(&*context.disk, &args.out, &file, Privacy::Owner)?;
    let report = policy.map(|policy| idtrail_verify::verify(&file, &policy));
    if context.globals.json {
        let verdict = report.as_ref().map(|report| report.verdict.to_string());
        writeln!(out, "{}", json!({ "file": args.out, "verdict": verdict }))?;
    } else {
        writeln!(out, "Certificate in {}", args.out.display())?;
        match &report {
            Some(report) => write!(out, "{}", verify::text(report))?,
            None => {
                writeln!(out, "Not verified yet: idtrail verify {} --policy policy.txt", args.out.display())?
            }
        }
    }
    Ok(report.map_or(Exit::Ok, |report| verify::exit(report.verdict)))
}

fn insert<const N: usize>(body: &mut Value, members: [(&str, Option<Value>); N]) {
    let Value::Object(body) = body else { return };
    body.extend(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("-")
}

fn print(context: &Context, request: &Value, out: &mut dyn Write) -> Result<Exit, Failure> {
    if context.globals.json {
        writeln!(out, "{request}")?;
        return Ok(Exit::Ok);
    }
    writeln!(out, "{}  {}  {}", text(request, "requestId"), text(request, "kind"), text(request, "state"))?;
    let date = |name: &str| request.pointer(&format!("/dates/{name}")).and_then(Value::as_str).unwrap_or("-");
    writeln!(out, "received {}, answer by {}", text(request, "receivedOn"), date("respond"))?;
    if let Some(plan) = request.get("plan").filter(|plan| plan.is_object()) {
        let approvals = plan.get("approvals").and_then(Value::as_array).map_or(0, Vec::len);
        let needed = plan.get("approvalsNeeded").and_then(Value::as_u64).unwrap_or(0);
        writeln!(out, "plan {}, approved by {approvals} of {needed}", text(plan, "hash"))?;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["item", "by", "found", "done", "status", "reason"]);
    for (name, item) in request.get("items").and_then(Value::as_object).into_iter().flatten() {
        let number = |member: &str| item.get(member).filter(|value| !value.is_null()).map(Value::to_string);
        let number = |member| number(member).unwrap_or_else(|| "-".to_owned());
        table.add_row([
            name.clone(),
            text(item, "method").to_owned(),
            number("found"),
            number("done"),
            text(item, "status").to_owned(),
            text(item, "reason").to_owned(),
        ]);
    }
    if table.row_count() > 0 {
        writeln!(out, "{table}")?;
    }
    Ok(Exit::Ok)
}
