//! The binary `idtrail`: puts the operating system behind the ports and hands over to the command line.

use std::process::ExitCode;
use std::sync::Arc;

use idtrail_port::os::{OsClock, OsDisk, OsEntropy, small_pages_only};
use idtrail_server::cli::{self, Context, HANDLERS};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[allow(clippy::disallowed_methods, reason = "the environment is read here and nowhere else")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn main() -> ExitCode {
    // Without it a decision waits milliseconds for a huge page now and then; a kernel that has no such switch may have none.
    let _ = small_pages_only();
    let context = |globals| Context {
        globals,
        disk: Arc::new(OsDisk),
        clock: Arc::new(OsClock::default()),
        entropy: Arc::new(OsEntropy),
        env: environment,
    };
    cli::run(std::env::args_os(), context, &HANDLERS).into()
}
