//! `idtrail rights report`: what is due, how requests were answered, what is processed.

use std::io::Write;

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use super::{Office, OfficeArgs, segment, text};
use crate::cli::{Context, Failure, OrExit as _};
use crate::exit::Exit;

const REPORTS: &str = "/api/v1/rights/reports";

/// Arguments of `rights report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Which report.
    #[command(subcommand)]
    pub report: Report,
}

/// A report.
#[derive(Clone, Debug, Subcommand)]
pub enum Report {
    /// Open requests with their dates, the most urgent first.
    Deadlines(DeadlinesArgs),
    /// How requests of a period were answered, by law and kind.
    Figures(FiguresArgs),
    /// The records of processing activities.
    Processing(ProcessingArgs),
}

/// Arguments of `rights report deadlines`.
#[derive(Args, Clone, Debug)]
pub struct DeadlinesArgs {
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights report figures`.
#[derive(Args, Clone, Debug)]
pub struct FiguresArgs {
    /// First day of receipt, such as 2026-01-01.
    #[arg(long, value_name = "DAY")]
    pub from: String,
    /// Last day of receipt.
    #[arg(long, value_name = "DAY")]
    pub to: String,
    /// Print CSV.
    #[arg(long)]
    pub csv: bool,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Arguments of `rights report processing`.
#[derive(Args, Clone, Debug)]
pub struct ProcessingArgs {
    /// Print CSV instead of JSON.
    #[arg(long)]
    pub csv: bool,
    /// The server and the person.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// Runs `rights report`.
pub(super) async fn run(context: &Context, args: &ReportArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (office, path, csv) = match &args.report {
        Report::Deadlines(args) => (&args.office, format!("{REPORTS}/deadlines"), false),
        Report::Figures(args) => {
            let (from, to) = (segment(&args.from)?, segment(&args.to)?);
            (&args.office, format!("{REPORTS}/figures?from={from}&to={to}{}", form(args.csv)), args.csv)
        }
        Report::Processing(args) => (
            &args.office,
            format!("{REPORTS}/processing?format={}", if args.csv { "csv" } else { "json" }),
            true,
        ),
    };
    let answer = Office::enter(context, office).await?.get_from(&path).await?;
    if csv || context.globals.json {
        out.write_all(&answer)?;
        writeln!(out)?;
        return Ok(Exit::Ok);
    }
    let answer: Value = serde_json::from_slice(&answer).or_exit(Exit::Io)?;
    let (name, columns): (&str, &[&str]) = match args.report {
        Report::Deadlines(_) => {
            ("deadlines", &["request", "kind", "regime", "state", "respondBy", "daysLeft", "openItems"])
        }
        _ => (
            "figures",
            &[
                "regime",
                "kind",
                "received",
                "complied",
                "compliedInPart",
                "denied",
                "withdrawn",
                "expired",
                "open",
                "late",
                "medianDays",
                "meanDays",
            ],
        ),
    };
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns);
    for row in answer.get(name).and_then(Value::as_array).into_iter().flatten() {
        let cell = |column: &&str| match row.get(*column) {
            Some(Value::Number(number)) => number.to_string(),
            _ => text(row, column).to_owned(),
        };
        table.add_row(columns.iter().map(cell));
    }
    writeln!(out, "{table}")?;
    Ok(Exit::Ok)
}

fn form(csv: bool) -> &'static str {
    if csv { "&format=csv" } else { "" }
}
