//! `idtrail dsar`: asks a running server for everything that is held about a customer, and keeps the answer.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use idtrail_port::{Privacy, write_atomic};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::client::{PersonArgs, ServerArgs, ServerClient, problem_text, refusal_exit};
use super::{Context, Failure, OrExit as _, init, serve, verify};
use crate::exit::Exit;

const ACCESS: &str = "/api/v1/compliance/dsar/audit-trail";

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
    let response =
        client.post(ACCESS, &headers, question.to_string().into_bytes()).await.or_exit(Exit::Io)?;
    let status = response.status();
    let bytes = response.bytes().await.or_exit(Exit::Io)?;
    if status != StatusCode::OK {
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        return Err(Failure::message(refusal_exit(status), problem_text(status, &problem)));
    }
    Ok(bytes.to_vec())
}
