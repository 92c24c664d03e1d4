//! The body of a certificate, made from the case and nothing else.
//!
//! It is made when the log has the effect's intent, before the DSR_RECEIPTED step that holds its hash; the server keeps it
//! in the request's sealed record, and adds leaf, proof and signature when that step is in a signed tree.

use idtrail_verify::{CertificateBody, CertificateResidual, CertificateShred, CertificateTask, time_text};
use serde_json::Value;

use crate::case::Case;
use crate::event::Outcomes;
use crate::id::{Digest, Nonce};
use crate::item::Item;
use crate::plan::Method;

/// Returns the body of the certificate that is due now; `None` if the request has no plan. The same case, nonce and time
/// make the same body, so the server may make it twice if it keeps the time.
pub fn certificate_body(case: &Case, nonce: &Nonce, issued_ms: u64) -> Option<CertificateBody> {
    let (_, plan_hash, _) = case.plan.as_ref()?;
    let shred = |shred: &crate::case::Shred| CertificateShred {
        index: shred.index,
        epoch: shred.epoch,
        leaves: shred.leaves,
        at: time_text(shred.at_ms),
        unrecoverable_by: time_text(shred.unrecoverable_by_ms),
    };
    Some(CertificateBody {
        request_id: case.request.to_string(),
        kind: name_of(&case.kind()),
        regime: case.received.regime.to_string(),
        subject_ref: case.received.subject_ref.to_string(),
        nonce: nonce.to_hex(),
        received_on: case.received.received_on.to_string(),
        issued_at: time_text(issued_ms),
        cutoff: case.frozen.map(|(cutoff_ms, _)| time_text(cutoff_ms)),
        plan_hash: plan_hash.to_string(),
        pass: case.pass,
        outcome: name_of(&case.outcome()),
        tasks: case.items.values().map(|item| task(case, item)).collect(),
        shreds: case.shreds.iter().map(shred).collect(),
        unrecoverable_by: case.shreds.iter().map(|shred| shred.unrecoverable_by_ms).max().map(time_text),
    })
}

/// Returns the body's hash as the DSR_RECEIPTED step holds it.
pub fn certificate_hash(body: &CertificateBody) -> Digest {
    Digest::new(body.hash())
}

fn task(case: &Case, item: &Item) -> CertificateTask {
    let status = case.status(item);
    CertificateTask {
        item: item.plan.item.to_string(),
        system: item.plan.system.to_string(),
        method: match item.plan.method {
            Method::Connector => "CONNECTOR",
            Method::Manual => "MANUAL",
            Method::OwnLog => "OWN_LOG",
        }
        .to_owned(),
        status: status.name().to_owned(),
        reason: status.reason(),
        found: item.plan.count,
        done: item.done,
        verified_at: item.verified_ms.map(time_text),
        evidence: item.evidence.map(|evidence| evidence.to_string()),
        residuals: item
            .residuals
            .iter()
            .map(|residual| CertificateResidual {
                mechanism: residual.mechanism.to_string(),
                until: residual.until_ms.map(time_text),
            })
            .collect(),
    }
}

/// Returns the name that a value has in JSON.
pub(crate) fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

impl Outcomes {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fulfilled => "FULFILLED",
            Self::Partial => "PARTIAL",
        }
    }
}
