//! `idtrail sink`: how far the sinks of a server are, what failed, and what they are to do.
//!
//! All but `ddl` ask a running server with an API key of the role operator (`check` shows rows to the role dpo only). `ddl`
//! reads the configuration file alone.

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use idtrail_connect::ddl::{Principals, statements};
use idtrail_connect::settings::SinkSettings;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::client::{ServerArgs, ServerClient, problem_text, refusal_exit};
use super::{Context, Failure, OrExit as _, serve};
use crate::exit::Exit;
use crate::sinks::{Proposed, registry};

/// How often a watched state is asked for. The budget of a credential is far above that.
const WATCH_PERIOD: Duration = Duration::from_millis(500);
/// Longest file with a filter and a mapping.
const PROPOSAL_BYTES_MAX: u64 = 128 * 1024;

/// Arguments of `sink`.
#[derive(Args, Clone, Debug)]
pub struct SinkArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SinkCommand,
}

/// What `sink` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum SinkCommand {
    /// Show how far every sink is.
    Status(StatusArgs),
    /// Show what the newest events would become under a sink's filter and mapping.
    Check(CheckArgs),
    /// Print the statements that make a sink's table, and its grants.
    Ddl(DdlArgs),
    /// Let a sink send nothing until it is resumed.
    Pause(NameArgs),
    /// Let a sink go on, at once also after failures.
    Resume(NameArgs),
    /// Send events again.
    Replay(ReplayArgs),
    /// List the events that a sink could not deliver.
    DeadLetters(NameArgs),
}

/// Arguments of `sink status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Name of one sink [default: all]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Show progress until every sink that runs has caught up or needs a person.
    #[arg(long)]
    pub watch: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Arguments that name a sink.
#[derive(Args, Clone, Debug)]
pub struct NameArgs {
    /// Name of the sink.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Arguments of `sink check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Name of the sink.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How many of the newest entries.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub count: u32,
    /// Try this filter in place of the sink's.
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Try this line of a mapping in place of the sink's; may be given many times.
    #[arg(long, value_name = "LINE")]
    pub mapping: Vec<String>,
    /// Try what stands in this file, TOML with `filter`, `mapping` or both.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["filter", "mapping"])]
    pub file: Option<PathBuf>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Arguments of `sink ddl`.
#[derive(Args, Clone, Debug)]
pub struct DdlArgs {
    /// Name of the sink.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// User or role that writes.
    #[arg(long, value_name = "NAME", default_value = "idtrail_writer")]
    pub writer: String,
    /// User or role that takes persons out.
    #[arg(long, value_name = "NAME", default_value = "idtrail_eraser")]
    pub eraser: String,
}

/// Arguments of `sink replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// Name of the sink.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// From this place on, origin/index, such as 0/0; rows that the target has are left alone.
    #[arg(
        long,
        value_name = "PLACE",
        conflicts_with = "dead_letters",
        required_unless_present = "dead_letters"
    )]
    pub from: Option<String>,
    /// All dead letters.
    #[arg(long)]
    pub dead_letters: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Runs `sink`.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &SinkArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    match &args.command {
        SinkCommand::Ddl(args) => ddl(context, args, out),
        SinkCommand::Status(args) => {
            let client = ServerClient::new(context, &args.server)?;
            let name = args.name.as_deref();
            serve::runtime()?.block_on(async {
                let all = if args.watch { watch(&client, name).await? } else { sinks(&client, name).await? };
                status(context, &all, out)
            })
        }
        SinkCommand::Check(args) => {
            let path = format!("{}/preview?count={}", path(&args.name), args.count);
            let shown = match proposed(context, args)? {
                None => ask(context, &args.server, |client| async move { client.get(&path, &[]).await })?,
                Some(proposed) => {
                    let body = json!(proposed).to_string().into_bytes();
                    ask(context, &args.server, |client| async move { client.post(&path, &[], body).await })?
                }
            };
            check(context, &shown, out)
        }
        SinkCommand::Pause(args) => order(context, &args.server, &args.name, "pause", &json!({}), out),
        SinkCommand::Resume(args) => order(context, &args.server, &args.name, "resume", &json!({}), out),
        SinkCommand::Replay(args) => {
            let body = match &args.from {
                Some(from) => json!({ "from": from }),
                None => json!({ "deadLetters": "all" }),
            };
            order(context, &args.server, &args.name, "replay", &body, out)
        }
        SinkCommand::DeadLetters(args) => {
            let client = ServerClient::new(context, &args.server)?;
            let letters = serve::runtime()?.block_on(all_letters(&client, &args.name))?;
            dead_letters(context, &letters, out)
        }
    }
}

/// Returns what is to be tried, if anything is.
fn proposed(context: &Context, args: &CheckArgs) -> Result<Option<Proposed>, Failure> {
    let Some(file) = &args.file else {
        let mapping = (!args.mapping.is_empty()).then(|| args.mapping.clone());
        let proposed = Proposed { filter: args.filter.clone(), mapping };
        return Ok((proposed != Proposed::default()).then_some(proposed));
    };
    let bytes = idtrail_port::read_whole(&*context.disk, file, PROPOSAL_BYTES_MAX).or_exit(Exit::Usage)?;
    let text = String::from_utf8(bytes).or_exit(Exit::Usage)?;
    toml::from_str(&text).map(Some).or_exit(Exit::Usage)
}

fn path(name: &str) -> String {
    // A name has nothing that would have to be escaped; another text finds no sink.
    let plain: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    format!("/api/v1/sinks/{plain}")
}

fn ask<F>(
    context: &Context,
    server: &ServerArgs,
    request: impl FnOnce(std::sync::Arc<ServerClient>) -> F,
) -> Result<Value, Failure>
where
    F: Future<Output = Result<Response, reqwest::Error>>,
{
    let client = std::sync::Arc::new(ServerClient::new(context, server)?);
    serve::runtime()?.block_on(async move { answered(request(client).await.or_exit(Exit::Io)?).await })
}

async fn answered(response: Response) -> Result<Value, Failure> {
    let status = response.status();
    let value: Value = response.json().await.or_exit(Exit::Io)?;
    if status.is_success() {
        return Ok(value);
    }
    let mut text = problem_text(status, &value);
    for error in value.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let member = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        text.push_str(&format!("\n  {} {}", member("pointer"), member("message")));
    }
    Err(Failure::message(refusal_exit(status), text))
}

async fn sinks(client: &ServerClient, name: Option<&str>) -> Result<Vec<Value>, Failure> {
    let mut all = answered(client.get("/api/v1/sinks", &[]).await.or_exit(Exit::Io)?).await?;
    let mut list = match all.get_mut("sinks").map(Value::take) {
        Some(Value::Array(list)) => list,
        _ => return Err(Failure::message(Exit::Io, "the server's answer is not understood")),
    };
    if let Some(name) = name {
        list.retain(|sink| text(sink, "name") == name);
        if list.is_empty() {
            return Err(Failure::message(refusal_exit(StatusCode::NOT_FOUND), "there is no such sink"));
        }
    }
    Ok(list)
}

/// Shows progress until nobody moves any more: everything is settled, or a person must do something.
async fn watch(client: &ServerClient, name: Option<&str>) -> Result<Vec<Value>, Failure> {
    let bars = MultiProgress::new();
    if !std::io::stderr().is_terminal() {
        bars.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix:16} {bar:30} {pos}/{len} entries, {per_sec}, {msg}");
    let mut shown: std::collections::BTreeMap<String, ProgressBar> = std::collections::BTreeMap::new();
    loop {
        let all = sinks(client, name).await?;
        let mut moving = false;
        for sink in &all {
            let (state, lag) = (text(sink, "state"), number(sink, "lagEvents"));
            let done = number(sink, "settled");
            let bar = shown.entry(text(sink, "name").to_owned()).or_insert_with(|| {
                let bar = bars.add(ProgressBar::new(0));
                if let Ok(style) = &style {
                    bar.set_style(style.clone());
                }
                bar.set_prefix(text(sink, "name").to_owned());
                bar
            });
            bar.set_length(done + lag);
            bar.set_position(done);
            bar.set_message(state.to_owned());
            moving |= lag > 0 && matches!(state, "delivering" | "retrying" | "failing");
        }
        if !moving {
            bars.clear()?;
            return Ok(all);
        }
        tokio::time::sleep(WATCH_PERIOD).await;
    }
}

fn status(context: &Context, all: &[Value], out: &mut dyn Write) -> Result<Exit, Failure> {
    // A sink that waits for a person is a fault of the installation that scripts should see.
    let faulty = all.iter().any(|sink| matches!(text(sink, "state"), "stopped" | "broken"));
    let exit = if faulty { Exit::Unhealthy } else { Exit::Ok };
    if context.globals.json {
        writeln!(out, "{}", json!({ "sinks": all }))?;
        return Ok(exit);
    }
    if all.is_empty() {
        writeln!(out, "There are no sinks.")?;
        return Ok(exit);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "sink",
        "kind",
        "state",
        "up to",
        "lag",
        "lag s",
        "delivered",
        "filtered",
        "erased",
        "dead",
        "note",
    ]);
    for sink in all {
        let counted =
            |name: &str| sink.get(name).and_then(Value::as_u64).map_or("-".to_owned(), |n| n.to_string());
        let lag_s = sink.get("lagSeconds").and_then(Value::as_f64);
        table.add_row([
            text(sink, "name").to_owned(),
            text(sink, "kind").to_owned(),
            text(sink, "state").to_owned(),
            sink.get("replicatedUpTo").and_then(Value::as_str).unwrap_or("-").to_owned(),
            counted("lagEvents"),
            lag_s.map_or("-".to_owned(), |seconds| format!("{seconds:.1}")),
            counted("delivered"),
            counted("filtered"),
            counted("erased"),
            counted("dead"),
            note(sink),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(exit)
}

/// Says what a person should know: why it does not run, what failed, what the writer may do too much.
fn note(sink: &Value) -> String {
    if let Some(problem) = sink.get("problem").and_then(Value::as_str) {
        return problem.to_owned();
    }
    if let Some(failure) = sink.get("lastFailure").filter(|failure| !failure.is_null()) {
        return format!("{} ({})", text(failure, "code"), text(failure, "status"));
    }
    if let Some(lost) = sink.pointer("/beyond/0") {
        return format!("has rows from {} on that the log lost", text(lost, "survived"));
    }
    let can = sink.pointer("/grants/can").and_then(Value::as_array);
    let can: Vec<&str> = can.into_iter().flatten().filter_map(Value::as_str).collect();
    if can.is_empty() { String::new() } else { format!("writer can {}", can.join(", ")) }
}

fn check(context: &Context, shown: &Value, out: &mut dyn Write) -> Result<Exit, Failure> {
    if context.globals.json {
        writeln!(out, "{shown}")?;
        return Ok(Exit::Ok);
    }
    let list = |name: &str| shown.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    writeln!(out, "columns: log_id int64, seq int64{}", {
        let columns: Vec<String> = list("columns")
            .iter()
            .map(|column| format!(", {} {}", text(column, "name"), text(column, "type")))
            .collect();
        columns.concat()
    })?;
    for entry in list("entries") {
        let what = match entry.get("row") {
            Some(row) => row.to_string(),
            None => match text(&entry, "column") {
                "" => text(&entry, "outcome").to_owned(),
                column => format!("{}: {} column={column}", text(&entry, "outcome"), text(&entry, "code")),
            },
        };
        writeln!(out, "{}  {what}", text(&entry, "at"))?;
    }
    Ok(Exit::Ok)
}

fn order(
    context: &Context,
    server: &ServerArgs,
    name: &str,
    what: &str,
    body: &Value,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let (path, body) = (format!("{}/{what}", path(name)), body.to_string().into_bytes());
    let sink = ask(context, server, |client| async move { client.post(&path, &[], body).await })?;
    if context.globals.json {
        writeln!(out, "{sink}")?;
    } else {
        writeln!(out, "{name} is {}.", text(&sink, "state"))?;
    }
    Ok(Exit::Ok)
}

async fn all_letters(client: &ServerClient, name: &str) -> Result<Vec<Value>, Failure> {
    let (mut letters, mut after) = (Vec::new(), None::<String>);
    loop {
        let more = after.map_or(String::new(), |after| format!("&after={after}"));
        let path = format!("{}/dead-letters?limit=1000{more}", path(name));
        let mut page = answered(client.get(&path, &[]).await.or_exit(Exit::Io)?).await?;
        if let Some(Value::Array(list)) = page.get_mut("deadLetters") {
            letters.append(list);
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(letters),
        }
    }
}

fn dead_letters(context: &Context, letters: &[Value], out: &mut dyn Write) -> Result<Exit, Failure> {
    if context.globals.json {
        writeln!(out, "{}", json!({ "deadLetters": letters }))?;
        return Ok(Exit::Ok);
    }
    if letters.is_empty() {
        writeln!(out, "There are no dead letters.")?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["at", "code", "status", "column", "attempts", "since"]);
    for letter in letters {
        table.add_row([
            text(letter, "at").to_owned(),
            text(letter, "code").to_owned(),
            text(letter, "status").to_owned(),
            text(letter, "column").to_owned(),
            number(letter, "attempts").to_string(),
            text(letter, "since").to_owned(),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(Exit::Ok)
}

fn ddl(context: &Context, args: &DdlArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let added = registry::load(&*context.disk, &settings.data_dir).or_exit(Exit::Io)?;
    let found = settings.sinks.iter().chain(&added).find(|sink| sink.name == args.name);
    let sink: &SinkSettings = found.ok_or_else(|| Failure::message(Exit::Usage, "there is no such sink"))?;
    // The columns do not depend on the key of references.
    let plan = sink.plan([0; 32]).or_exit(Exit::Config)?;
    let Some((dialect, table)) = sink.dialect() else {
        return Err(Failure::message(Exit::Usage, "a target of this kind has no table to make"));
    };
    let principals = Principals { writer: &args.writer, eraser: &args.eraser };
    let text = statements(dialect, table, &plan.mapping, principals);
    if context.globals.json {
        writeln!(
            out,
            "{}",
            json!({ "statements": text, "consequence": plan.mapping.privacy().consequence() })
        )?;
    } else {
        writeln!(out, "-- {}", plan.mapping.privacy().consequence())?;
        write!(out, "{text}")?;
    }
    Ok(Exit::Ok)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}
