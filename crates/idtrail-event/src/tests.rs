//! Tests of the crate at its boundary; cases are data.

mod leaves;
mod parsing;
mod rules;

use std::string::String;

use serde_json::Value;

use crate::{Finding, Rules, ValidEvent, validate};

/// 2023-10-28T00:00:00Z, shortly after the samples.
const RECEIVED_MS: i64 = 1_698_451_200_000;

fn sample(text: &str) -> Value {
    crate::parse_json(text.as_bytes()).expect("a vector is acceptable JSON")
}

fn identity_resolution() -> Value {
    sample(include_str!("../../../vectors/event/identity-resolution.json"))
}

fn data_deletion() -> Value {
    sample(include_str!("../../../vectors/event/data-deletion.json"))
}

fn check(body: Value) -> Result<ValidEvent, std::vec::Vec<Finding>> {
    validate(body, &Rules::default(), RECEIVED_MS)
}

/// Returns the sample with one member of `auditEvent` replaced.
fn with(name: &str, value: Value) -> Value {
    let mut body = identity_resolution();
    body["auditEvent"][name] = value;
    body
}

fn codes(findings: &[Finding]) -> std::vec::Vec<(String, &'static str)> {
    findings.iter().map(|finding| (finding.pointer.clone(), finding.code)).collect()
}
