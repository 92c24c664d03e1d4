//! Tests of the event and the leaf at the crate's boundary, one module per feature; cases are data.
//!
//! Vectors stand in `vectors/event/` of the repository and were made by another implementation (Python, OpenSSL). The
//! module `leaves` compares with them, `others` with three other crates (COSE, CBOR, dates), `fidelity` checks that any
//! JSON comes back, and `canary` that nothing of an event gets into errors, warnings or debug output.

#[cfg(test)]
mod canary;
#[cfg(test)]
mod fidelity;
#[cfg(test)]
mod json;
#[cfg(test)]
mod leaves;
#[cfg(test)]
mod others;
#[cfg(test)]
mod pii;
mod plain;
#[cfg(test)]
mod redaction;
mod rules;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tables;
