//! Sets up the process' log: text for people, JSON for collectors, always on standard error.
//!
//! Standard output belongs to the data that a command prints, so that its output can be piped. Messages are constant
//! texts with fields; a field never holds an identifier, a credential or a payload.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

/// What is logged when the configuration and the environment say nothing.
pub const DEFAULT_FILTER: &str = "info";

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not of the form `level` or `target=level,…`.
    #[error("log filter cannot be understood")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// A log was set up before in this process.
    #[error("log is already set up")]
    AlreadySet(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging to standard error. `filter` is the value of `RUST_LOG`, if any; `no_color` tells that `NO_COLOR`
/// is set.
///
/// # Errors
/// If the filter cannot be understood, or if a log was set up before.
pub fn init(format: LogFormat, filter: Option<&str>, no_color: bool) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter.unwrap_or(DEFAULT_FILTER)).map_err(TelemetryError::Filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(!no_color && io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(TelemetryError::AlreadySet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_filter_is_refused() {
        assert!(matches!(init(LogFormat::Text, Some("=,="), true), Err(TelemetryError::Filter(_))));
    }
}
