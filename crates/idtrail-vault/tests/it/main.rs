//! The vault from outside: its formats, its life, and what is left of it after faults, crashes, loss and theft.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers outside of test functions are test code as well"
)]

mod changes;
mod crash;
mod liar;
mod life;
mod repair;
mod rig;
mod rotation;
mod threads;
mod vectors;
