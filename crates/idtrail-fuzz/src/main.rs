//! Runs the fuzz targets for as long as one likes: `cargo run --release -p idtrail-fuzz -- --seconds 600 package`.
#![allow(clippy::print_stdout, reason = "a command for people")]

use std::time::{Duration, Instant};

use clap::Parser;

/// Throws changed inputs at everything that reads bytes from outside.
#[derive(Parser, Debug)]
struct Arguments {
    /// How long each target runs, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the first input.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Names of targets; all of them if none is given.
    targets: Vec<String>,
}

#[allow(clippy::disallowed_methods, reason = "this program measures how long it ran")]
fn main() {
    let arguments = Arguments::parse();
    for target in idtrail_fuzz::targets() {
        if !arguments.targets.is_empty() && !arguments.targets.iter().any(|name| name == target.name) {
            continue;
        }
        let (start, length) = (Instant::now(), Duration::from_secs(arguments.seconds));
        let ran = idtrail_fuzz::run(&target, arguments.seed, |_| start.elapsed() < length);
        println!("{:<18} {:>10} inputs, {:>9} accepted", target.name, ran.rounds, ran.accepted);
    }
}
