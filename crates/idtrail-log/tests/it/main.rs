//! Tests of the log at its boundary, on a simulated disk that loses what was not synced.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must fail"
)]

mod backups;
mod crashes;
mod damage;
mod support;
mod threads;
