//! `idtrail config check`: whether a configuration file can be used, and what it comes to.

use std::io::Write;

use clap::{Args, Subcommand};

use super::{Context, Failure, OrExit as _};
use crate::exit::Exit;

/// Arguments of `config`.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What `config` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration file and print what it comes to, defaults spelled out, without secrets.
    Check,
}

/// Runs `config`, printing to `out`.
///
/// # Errors
/// A failure with exit code 6 that names the key and its line.
pub fn run(context: &Context, args: &ConfigArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let ConfigCommand::Check = args.command;
    let effective = context.settings()?.effective();
    if context.globals.json {
        writeln!(out, "{}", serde_json::to_string(&effective).or_exit(Exit::Io)?)?;
    } else {
        writeln!(out, "# {} can be used. With every default it says:", context.config_path().display())?;
        write!(out, "{}", toml::to_string(&effective).or_exit(Exit::Io)?)?;
    }
    Ok(Exit::Ok)
}
