//! Tests of the tree and of the text formats, one module per feature.
//!
//! Vectors stand in `vectors/tlog/` of the repository and were made by another implementation. The modules
//! `proofs`, `batches` and `tiles` compare with the recursive definitions and with a brute force, `others` with two
//! other crates.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must fail"
)]

#[cfg(test)]
mod batches;
#[cfg(test)]
mod notes;
#[cfg(test)]
mod others;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tiles;
#[cfg(test)]
mod trees;
#[cfg(test)]
mod verdicts;
