//! Tests of requests: dates, states, people's commands, and whole requests in a world that fails.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::type_complexity,
    reason = "helpers outside of test functions are test code as well"
)]

mod answer;
mod clock;
mod commands;
mod evidence;
mod form;
mod portability;
mod report;
mod simulation;
mod world;
