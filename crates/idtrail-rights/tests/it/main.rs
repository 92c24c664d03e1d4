//! Tests of requests: dates, states, people's commands, and whole requests in a world that fails.

mod clock;
mod commands;
mod form;
mod simulation;
mod world;
