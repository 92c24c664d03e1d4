//! `idtrail dsar`: asks a running server for everything that is held about a customer, and keeps the answer. A download that
//! breaks off is taken up again where it ended.

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use idtrail_port::{Privacy, write_atomic};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::{CONTENT_LOCATION, ETAG, HeaderName};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::client::{PersonArgs, ServerArgs, ServerClient, problem_text, refusal_exit};
use super::{Context, Failure, OrExit as _, init, serve, verify};
use crate::exit::Exit;

const ACCESS: &str = "/api/v1/compliance/dsar/audit-trail?format=package";
/// How often a download that broke off is taken up again.
const TRIES_MAX: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `dsar`.
#[derive(Args, Clone, Debug)]
pub struct DsarArgs {
    /// Customer: an opaque id, a keyed hash, or a gc_ id; never a telephone number or address.
    #[arg(long, value_name = "ID")]
    pub customer: String,
    /// First moment that is asked about, such as 2026-01-01T00:00:00Z; needs --to.
    #[arg(long, value_name = "TIME", requires = "to")]
    pub from: Option<String>,
    /// Last moment that is asked about; needs --from.
    #[arg(long, value_name = "TIME", requires = "from")]
    pub to: Option<String>,
    /// File for the answer, an evidence package. It holds personal data and is readable by its owner only.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Verify the answer against this policy file; the exit code is that of the verdict.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The person.
    #[command(flatten)]
    pub person: PersonArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Asks, keeps the answer, and verifies it if there is a policy.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &DsarArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let policy = args.policy.as_deref().map(|path| init::policy(context, path)).transpose()?;
    let client = ServerClient::new(context, &args.server)?;
    let mut question = json!({ "customerIdHash": args.customer, "requestType": "ACCESS" });
    if let (Some(from), Some(to), Value::Object(members)) = (&args.from, &args.to, &mut question) {
        members.insert("dateRange".to_owned(), json!({ "start": from, "end": to }));
    }
    let package = serve::runtime()?.block_on(ask(context, args, &client, &question))?;
    write_atomic(&*context.disk, &args.out, &package, Privacy::Owner)?;
    let content: Value = serde_json::from_slice(&package).or_exit(Exit::Io)?;
    let events = content.get("events").and_then(Value::as_array).map_or(0, Vec::len);
    let complete = content.pointer("/coverage/complete").and_then(Value::as_bool).unwrap_or(false);
    let report = policy.map(|policy| idtrail_verify::verify(&package, &policy));
    let verdict = report.as_ref().map(|report| report.verdict.to_string());
    if context.globals.json {
        let said = json!({ "file": args.out, "events": events, "complete": complete, "verdict": verdict });
        writeln!(out, "{said}")?;
    } else {
        writeln!(out, "{events} events in {}", args.out.display())?;
        if !complete {
            writeln!(out, "Not every system has answered: `coverage` in the file names those that did not.")?;
        }
        match &report {
            Some(report) => write!(out, "{}", verify::text(report))?,
            None => {
                writeln!(out, "Not verified yet: idtrail verify {} --policy policy.txt", args.out.display())?
            }
        }
    }
    Ok(match report {
        Some(report) => verify::exit(report.verdict),
        None if complete => Exit::Ok,
        None => Exit::Incomplete,
    })
}

async fn ask(
    context: &Context,
    args: &DsarArgs,
    client: &ServerClient,
    question: &Value,
) -> Result<Vec<u8>, Failure> {
    let bearer = args.person.bearer(context, client).await?;
    let headers = [("authorization", bearer.as_str())];
    let mut response =
        client.post(ACCESS, &headers, question.to_string().into_bytes()).await.or_exit(Exit::Io)?;
    accepted(&mut response, StatusCode::OK).await?;
    let mut file = Download::of(&response);
    loop {
        let Err(broken) = file.take(&mut response).await else {
            file.bar.finish_and_clear();
            return Ok(file.bytes);
        };
        let Some(again) = file.again.clone().filter(|_| file.tries_left > 0) else {
            return Err(Failure::message(Exit::Io, format!("the download broke off. reason={broken}")));
        };
        file.tries_left -= 1;
        tokio::time::sleep(PAUSE).await;
        let range = format!("bytes={}-", file.bytes.len());
        let headers =
            [("authorization", bearer.as_str()), ("range", range.as_str()), ("if-range", again.tag.as_str())];
        let Ok(mut next) = client.get(&again.path, &headers).await else { continue };
        // Were it sent whole, it would be another file than the one that was begun.
        accepted(&mut next, StatusCode::PARTIAL_CONTENT).await?;
        response = next;
    }
}

/// Goes on only if an answer has the status.
async fn accepted(response: &mut Response, wanted: StatusCode) -> Result<(), Failure> {
    let status = response.status();
    if status == wanted {
        return Ok(());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.or_exit(Exit::Io)? {
        bytes.extend_from_slice(&chunk);
    }
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    Err(Failure::message(refusal_exit(status), problem_text(status, &problem)))
}

/// Where a file is fetched again, and which one it must still be.
#[derive(Clone)]
struct Again {
    path: String,
    tag: String,
}

/// A file on its way.
struct Download {
    bytes: Vec<u8>,
    again: Option<Again>,
    tries_left: u32,
    bar: ProgressBar,
}

impl Download {
    fn of(response: &Response) -> Self {
        let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let again = match (text(CONTENT_LOCATION), text(ETAG)) {
            (Some(path), Some(tag)) => Some(Again { path: path.to_owned(), tag: tag.to_owned() }),
            _ => None,
        };
        let bar = match response.content_length() {
            Some(length) if std::io::stderr().is_terminal() => ProgressBar::new(length),
            _ => ProgressBar::hidden(),
        };
        let template = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bytes: Vec::new(), again, tries_left: TRIES_MAX, bar }
    }

    /// Takes all that comes; an error means that more was to come.
    async fn take(&mut self, response: &mut Response) -> Result<(), reqwest::Error> {
        while let Some(chunk) = response.chunk().await? {
            self.bytes.extend_from_slice(&chunk);
            self.bar.set_position(self.bytes.len() as u64);
        }
        Ok(())
    }
}
