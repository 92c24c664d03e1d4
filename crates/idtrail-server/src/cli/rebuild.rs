//! `idtrail rebuild`: makes the index anew from the log and the vault, or only checks it. Needs the server stopped.

use std::io::{IsTerminal as _, Write};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Context, Failure, init};
use crate::engine::EngineError;
use crate::engine::index::{Rebuilt, check, rebuild};
use crate::exit::Exit;

/// Arguments of `rebuild`.
#[derive(Args, Clone, Debug)]
pub struct RebuildArgs {
    /// Read every byte of the index and say whether it is whole; change nothing.
    #[arg(long)]
    pub check: bool,
}

/// Runs `rebuild`.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &RebuildArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let kek = init::kek(context, &settings)?;
    let ports = init::ports(context);
    let done = if args.check {
        check(&ports, &settings, kek)
    } else {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let template = "{bar:40} {pos} of {len} leaves, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let rebuilt = rebuild(&ports, &settings, kek, &mut |leaves, known| {
            // Drawing costs more than reading a leaf.
            if leaves.is_multiple_of(1024) {
                bar.set_length(known.max(leaves));
                bar.set_position(leaves);
            }
        });
        bar.finish_and_clear();
        rebuilt
    };
    match done {
        Ok(Rebuilt { leaves, access_leaves, files, bytes }) => {
            if context.globals.json {
                let done = json!({
                    "leaves": leaves,
                    "accessLeaves": access_leaves,
                    "files": files,
                    "bytes": bytes,
                });
                writeln!(out, "{done}")?;
            } else {
                let what = if args.check { "is whole" } else { "was built anew" };
                writeln!(
                    out,
                    "The index {what}: {leaves} leaves, {access_leaves} of the access log, {files} files, {bytes} bytes."
                )?;
            }
            Ok(Exit::Ok)
        }
        Err(error @ EngineError::Index(_)) if args.check => Err(Failure::new(Exit::Tampered, error)),
        Err(error) => Err(Failure::new(Exit::Io, error)),
    }
}
