//! `idtrail verify`: a receipt, proof, evidence package or certificate, offline, against a pinned policy.

use std::io::Write as _;

use idtrail_event::LEAF_BYTES_MAX;
use idtrail_verify::{Outcome, Report, Verdict};

use super::{Context, Failure, OrExit as _, VerifyArgs, init};
use crate::exit::Exit;

const FILE_BYTES_MAX: u64 = 1 << 30;

/// Verifies a file and says what was found.
///
/// # Errors
/// A failure with exit code 4 if the file or the policy cannot be read.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, Failure> {
    let Some(policy) = &args.policy else {
        let message = "--policy is needed: the file with the log's key, which `idtrail init` wrote as policy.txt. A key \
                       inside the checked file proves nothing";
        return Err(Failure::message(Exit::Usage, message));
    };
    let policy = init::policy(context, policy)?;
    let bytes =
        idtrail_port::read_whole(&*context.disk, &args.file, FILE_BYTES_MAX).or_exit(Exit::NotChecked)?;
    let leaf = args
        .leaf
        .as_deref()
        .map(|path| idtrail_port::read_whole(&*context.disk, path, LEAF_BYTES_MAX as u64));
    let leaf = leaf.transpose().or_exit(Exit::NotChecked)?;
    let report = idtrail_verify::verify_with_leaf(&bytes, leaf.as_deref(), &policy);
    let mut out = std::io::stdout().lock();
    if context.globals.json {
        writeln!(out, "{}", serde_json::to_string(&report).or_exit(Exit::Io)?)?;
    } else {
        write!(out, "{}", text(&report))?;
    }
    Ok(exit(report.verdict))
}

/// Returns the exit code of a verdict.
pub fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Verified => Exit::Ok,
        Verdict::Tampered => Exit::Tampered,
        Verdict::Incomplete => Exit::Incomplete,
        Verdict::CouldNotCheck => Exit::NotChecked,
    }
}

/// Writes a report for people.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for step in &report.steps {
        let sign = match step.outcome {
            Outcome::Ok => "✔",
            Outcome::Failed => "✖",
            Outcome::Skipped => "–",
        };
        text.push_str(&format!(" {sign} {:<12} {}\n", step.name, step.detail));
    }
    text.push_str(&format!("\nRESULT {}: {}\n", report.verdict, report.summary));
    if let Some(place) = &report.first_bad {
        text.push_str(&format!("First bad entry: {} of {}\n", place.index, place.origin));
    }
    text.push_str(&format!("{}\n", report.meaning));
    for not_covered in &report.not_covered {
        text.push_str(&format!("Not covered: {not_covered}\n"));
    }
    text
}
