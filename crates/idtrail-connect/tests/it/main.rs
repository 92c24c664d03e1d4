//! Tests of the crate at its boundary.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    missing_docs,
    reason = "tests"
)]

mod azure;
mod bigquery;
mod conformance;
mod emulator;
mod erasers;
mod files;
mod filters;
mod google;
mod mappings;
mod postgres;
mod proxy;
mod s3;
mod simulation;
mod snowflake;
mod stores;
mod stuck;
mod support;
mod webhook;
#[cfg(feature = "wide")]
mod wide;
