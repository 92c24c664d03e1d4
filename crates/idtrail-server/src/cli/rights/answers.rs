//! Requests for data: looking through what was read, letting it leave, and what is asked for again and again.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use idtrail_port::{Privacy, write_atomic};
use serde_json::{Value, json};

use super::{Office, OfficeArgs, insert, print, segment, text, whom};
use crate::cli::{Context, Failure, OrExit as _};
use crate::exit::Exit;

const REDACTIONS_BYTES_MAX: u64 = 4 * 1024 * 1024;
const SCHEDULES: &str = "/api/v1/rights/schedules";

/// Arguments of `rights review`.
#[derive(Args, Clone, Debug)]
pub struct ReviewArgs {
    /// Id of the request.
    #[arg(value_name = "REQUEST")]
    pub request: String,
    /// File for what was read, with what is proposed to be taken out; readable by its owner only.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights release`.
#[derive(Args, Clone, Debug)]
pub struct ReleaseArgs {
    /// Id of the request.
    #[arg(value_name = "REQUEST")]
    pub request: String,
    /// Hash of the proposal that was looked at, as `review` tells it.
    #[arg(long, value_name = "HEX")]
    pub proposed_hash: String,
    /// File with what is taken out instead, a JSON list like `proposed`.
    #[arg(long, value_name = "FILE")]
    pub redactions_file: Option<PathBuf>,
    /// Let events leave too that are the person's by all that is known, but not proved.
    #[arg(long)]
    pub include_probable: bool,
    /// Say that identifiers that others use too stay out.
    #[arg(long)]
    pub shared_stay_out: bool,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights link`.
#[derive(Args, Clone, Debug)]
pub struct LinkArgs {
    /// Id of the request.
    #[arg(value_name = "REQUEST")]
    pub request: String,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights schedule`.
#[derive(Args, Clone, Debug)]
pub struct ScheduleArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ScheduleCommand,
}

/// What `rights schedule` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Open a request for data again and again.
    Add(AddArgs),
    /// List the schedules.
    List(ListArgs),
    /// End a schedule.
    End(EndArgs),
}

/// Arguments of `rights schedule add`.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// Kind: ACCESS or PORTABILITY.
    #[arg(long, value_name = "KIND", default_value = "ACCESS")]
    pub kind: String,
    /// Days from one request to the next.
    #[arg(long, value_name = "DAYS")]
    pub every_days: u32,
    /// Whose data: an opaque id, a keyed hash, or a gc_ id; never a telephone number or address.
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
    /// SHA-256 in hex of what shows that the person asked for it.
    #[arg(long, value_name = "HEX")]
    pub evidence: String,
    /// When the last one may be opened, such as 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights schedule list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights schedule end`.
#[derive(Args, Clone, Debug)]
pub struct EndArgs {
    /// Id of the schedule.
    #[arg(value_name = "SCHEDULE")]
    pub schedule: String,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Keeps what was read for a request, to be looked through.
pub(super) async fn review(
    context: &Context,
    args: &ReviewArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let office = Office::enter(context, &args.office).await?;
    let file = office.get(&format!("/{}/review", segment(&args.request)?)).await?;
    let draft: Value = serde_json::from_slice(&file).or_exit(Exit::Io)?;
    write_atomic(&*context.disk, &args.out, &file, Privacy::Owner)?;
    let count = |name: &str| draft.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    let number = |name: &str| draft.get(name).and_then(Value::as_u64).unwrap_or(0);
    let told = json!({
        "file": args.out, "events": count("events"), "proposed": count("proposed"),
        "proposedHash": text(&draft, "proposedHash"), "probable": number("probable"),
        "ambiguous": number("ambiguous"), "sharedExcluded": number("sharedExcluded"),
    });
    if context.globals.json {
        writeln!(out, "{told}")?;
        return Ok(Exit::Ok);
    }
    writeln!(out, "What was read is in {}: {} events", args.out.display(), count("events"))?;
    writeln!(out, "  {} places about others are proposed to be taken out", count("proposed"))?;
    writeln!(
        out,
        "  {} events are not proved to be the person's, {} more are counted only",
        number("probable"),
        number("ambiguous")
    )?;
    writeln!(out, "  {} identifiers are shared with others and not followed", number("sharedExcluded"))?;
    writeln!(out, "  proposed hash {}", text(&draft, "proposedHash"))?;
    Ok(Exit::Ok)
}

/// Lets a package leave.
pub(super) async fn release(
    context: &Context,
    args: &ReleaseArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut body = json!({
        "proposedHash": args.proposed_hash, "includeProbable": args.include_probable,
        "sharedStayOut": args.shared_stay_out,
    });
    if let Some(path) = &args.redactions_file {
        let bytes = idtrail_port::read_whole(&*context.disk, path, REDACTIONS_BYTES_MAX)?;
        let list = serde_json::from_slice::<Value>(&bytes).or_exit(Exit::Usage)?;
        insert(&mut body, [("redactions", Some(list))]);
    }
    let office = Office::enter(context, &args.office).await?;
    let path = format!("/{}/review", segment(&args.request)?);
    let request = serde_json::from_slice(&office.post(&path, &body).await?).or_exit(Exit::Io)?;
    print(context, &request, out)
}

/// Tells how a package can be fetched.
pub(super) async fn link(context: &Context, args: &LinkArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let office = Office::enter(context, &args.office).await?;
    let answer = office.get(&format!("/{}/link", segment(&args.request)?)).await?;
    let link: Value = serde_json::from_slice(&answer).or_exit(Exit::Io)?;
    if context.globals.json {
        writeln!(out, "{link}")?;
        return Ok(Exit::Ok);
    }
    let number = |name: &str| link.get(name).and_then(Value::as_u64).unwrap_or(0);
    writeln!(out, "link        {}", text(&link, "link"))?;
    writeln!(out, "passphrase  {} (send it another way than the link)", text(&link, "passphrase"))?;
    writeln!(
        out,
        "until {}, fetched {} of {} times",
        text(&link, "expiresAt"),
        number("fetches"),
        number("fetchesMax")
    )?;
    Ok(Exit::Ok)
}

/// Runs `rights schedule`.
pub(super) async fn schedule(
    context: &Context,
    args: &ScheduleArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    match &args.command {
        ScheduleCommand::Add(args) => {
            let mut body =
                json!({ "kind": args.kind, "everyDays": args.every_days, "evidence": args.evidence });
            let (name, value) = whom(context, args.customer.as_deref(), args.identifier_file.as_deref())?;
            insert(&mut body, [(name, Some(value)), ("until", args.until.as_ref().map(|time| json!(time)))]);
            let office = Office::enter(context, &args.office).await?;
            let made: Value =
                serde_json::from_slice(&office.post_to(SCHEDULES, &body).await?).or_exit(Exit::Io)?;
            list(context, &json!({ "schedules": [made] }), out)
        }
        ScheduleCommand::List(args) => {
            let office = Office::enter(context, &args.office).await?;
            let answer = serde_json::from_slice(&office.get_from(SCHEDULES).await?).or_exit(Exit::Io)?;
            list(context, &answer, out)
        }
        ScheduleCommand::End(args) => {
            let office = Office::enter(context, &args.office).await?;
            office.delete(&format!("{SCHEDULES}/{}", segment(&args.schedule)?)).await?;
            if context.globals.json {
                writeln!(out, "{}", json!({ "ended": args.schedule }))?;
            } else {
                writeln!(out, "{} has ended", args.schedule)?;
            }
            Ok(Exit::Ok)
        }
    }
}

fn list(context: &Context, answer: &Value, out: &mut dyn Write) -> Result<Exit, Failure> {
    if context.globals.json {
        writeln!(out, "{answer}")?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["schedule", "kind", "every days", "next", "until", "opened"]);
    for one in answer.get("schedules").and_then(Value::as_array).into_iter().flatten() {
        let number = |name: &str| one.get(name).and_then(Value::as_u64).unwrap_or(0).to_string();
        table.add_row([
            text(one, "scheduleId").to_owned(),
            text(one, "kind").to_owned(),
            number("everyDays"),
            text(one, "nextAt").to_owned(),
            text(one, "until").to_owned(),
            number("opened"),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(Exit::Ok)
}
