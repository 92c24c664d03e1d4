//! `idtrail reference`: pages of the documentation that come from the program itself, so that they cannot be wrong.

use std::io::Write;

use clap::{Args, Command, CommandFactory as _, ValueEnum};

use super::{Cli, Failure};
use crate::exit::Exit;

/// Types of the configuration that are sections of their own.
const SECTIONS: [&str; 14] = [
    "Vault",
    "Limits",
    "Validation",
    "Issuer",
    "Oidc",
    "Tls",
    "Http",
    "Log",
    "Segments",
    "Retention",
    "Batch",
    "Quarantine",
    "SinkApi",
    "Identity",
];

/// Arguments of `reference`.
#[derive(Args, Clone, Debug)]
pub struct ReferenceArgs {
    /// Which page.
    #[arg(value_enum)]
    pub page: Page,
}

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// docs/cli.md: commands, their options, exit codes.
    Cli,
    /// docs/configuration.md: every key of the configuration file.
    Configuration,
}

/// Prints a page.
///
/// # Errors
/// A failure with exit code 74.
pub fn run(args: &ReferenceArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    write!(out, "{}", page(args.page))?;
    Ok(Exit::Ok)
}

/// Returns a page as Markdown.
pub fn page(page: Page) -> String {
    match page {
        Page::Cli => cli(),
        Page::Configuration => configuration(include_str!("../config.rs")),
    }
}

fn cli() -> String {
    let mut text = String::from(
        "# Command line\n\n\
         Written by `idtrail reference cli`; do not edit.\n\n\
         Data goes to standard output, everything else to standard error. `--json` gives every command a form for \
         programs. `--config FILE` or the variable `IDTRAIL_CONFIG` names the configuration file (default: \
         `idtrail.toml`). Secrets never stand on the command line. `NO_COLOR` and `RUST_LOG` are respected.\n\n\
         ## Exit codes\n\n| code | meaning |\n|---|---|\n",
    );
    for exit in Exit::ALL {
        text.push_str(&format!("| {} | {} |\n", exit.number(), exit.meaning()));
    }
    let mut root = Cli::command();
    root.build();
    for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
        describe(&mut text, "idtrail", command, 2);
    }
    text
}

fn describe(text: &mut String, parent: &str, command: &Command, level: usize) {
    let name = format!("{parent} {}", command.get_name());
    text.push_str(&format!("\n{} {name}\n\n", "#".repeat(level)));
    text.push_str(&format!("{}.\n", command.get_about().map(ToString::to_string).unwrap_or_default()));
    let own = |argument: &&clap::Arg| {
        !argument.is_global_set()
            && !matches!(argument.get_id().as_str(), "help" | "version" | "json" | "config")
    };
    let arguments: Vec<_> = command.get_arguments().filter(own).collect();
    if !arguments.is_empty() {
        text.push_str("\n| argument | meaning |\n|---|---|\n");
    }
    for argument in arguments {
        text.push_str(&format!("| `{}` | {} |\n", shown(argument), meaning(argument)));
    }
    for inner in command.get_subcommands().filter(|command| command.get_name() != "help") {
        describe(text, &name, inner, level + 1);
    }
}

fn shown(argument: &clap::Arg) -> String {
    let takes = argument.get_action().takes_values();
    let value = argument.get_value_names().and_then(<[_]>::first).map(|name| format!("<{name}>"));
    match (argument.get_long(), value.filter(|_| takes)) {
        (Some(long), Some(value)) => format!("--{long} {value}"),
        (Some(long), None) => format!("--{long}"),
        (None, value) => value.unwrap_or_else(|| argument.get_id().to_string()),
    }
}

fn meaning(argument: &clap::Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
    let values: Vec<String> =
        argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if !values.is_empty() && argument.get_action().takes_values() {
        text.push_str(&format!(" One of {}.", values.join(", ")));
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        text.push_str(&format!(" Default: {}.", defaults.join(", ")));
    }
    if argument.is_required_set() {
        text.push_str(" Required.");
    }
    text
}

/// Makes the page out of the comments on the structures that the file is read into.
fn configuration(source: &str) -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Written by `idtrail reference configuration`; do not edit. `idtrail config check` says whether a file can be \
         used and prints what it comes to; `idtrail doctor` looks at what it leads to.\n\n\
         The file is TOML. An unknown key is an error. A secret never stands in it: `{ file = \"path\" }` or \
         `{ env = \"NAME\" }` says where one is. A relative path starts at the directory of the file. One process \
         serves one tenant; run one process for each.\n",
    );
    let mut comment: Vec<&str> = Vec::new();
    for line in source.lines() {
        let line = line.trim();
        if let Some(words) = line.strip_prefix("///") {
            comment.push(words.trim());
            continue;
        }
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.split(' ').next()) {
            let section = comment.join(" ");
            match section.split('`').nth(1) {
                _ if name == "Config" => text.push_str("\n## The file\n\n"),
                Some(section) if section.starts_with('[') => text.push_str(&format!("\n## `{section}`\n\n")),
                _ => text.push_str(&format!("\n## A secret\n\n{section}\n\n")),
            }
            text.push_str("| key | meaning |\n|---|---|\n");
        } else if let Some((name, kind)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
            let name = name.trim_start_matches("r#");
            let is_section = SECTIONS.iter().any(|section| kind.contains(&format!("<{section}>")));
            let name = if is_section { format!("[{name}]") } else { name.to_owned() };
            text.push_str(&format!("| `{name}` | {} |\n", comment.join(" ").replace('|', "\\|")));
        }
        if !line.starts_with('#') {
            comment.clear();
        }
    }
    text
}
