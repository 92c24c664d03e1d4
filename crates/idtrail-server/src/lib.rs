//! The server of idtrail: configuration, credentials, HTTP, command line and benchmarks.
//!
//! This crate is the only one that knows axum, the environment and signals. It is a library beside the binary so
//! that integration tests can start a server in their own process.
//!
//! The edge stands in the modules below and knows nothing of the log: who calls ([`credentials`], [`token`],
//! [`auth`]), how much they may ask for ([`limits`]), how the process is set up ([`config`], [`settings`],
//! [`telemetry`]) and how it says that something went wrong ([`problem`], [`exit`]).

pub mod api;
pub mod auth;
pub mod bench;
pub mod cli;
pub mod config;
pub mod connection;
pub mod credentials;
pub mod engine;
pub mod exit;
mod front;
pub mod limits;
pub mod metrics;
pub mod monitor;
pub mod oidc;
pub mod openapi;
pub mod problem;
pub mod quarantine;
pub mod serve;
pub mod settings;
pub mod sinks;
pub mod synthetic;
pub mod telemetry;
pub mod tls;
pub mod token;
