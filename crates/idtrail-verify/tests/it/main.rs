//! Tests of the crate at its boundary: packages and receipts made with fixed keys, then altered in every way.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers outside of test functions are test code as well"
)]

mod certificate;
mod mutation;
mod package;
mod receipt;
mod rig;
mod server;
mod vectors;
