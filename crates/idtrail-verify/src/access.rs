//! The check of what a package or receipt says of the access log.
//!
//! The access log is signed with the key of its log under a name of its own, so whoever pins the log's key can check it
//! without pinning another. Witnesses see the log of events, not the access log, so none is asked for here.

use std::collections::BTreeMap;

use idtrail_tlog::{Hash, Policy, VerifierKey};
use serde_json::{Map, Value};

use crate::event::{self, Checked, Trees};
use crate::manifest::{access_key, access_origin};
use crate::package::{AccessPart, Package};
use crate::report::{Findings, Problem};

const STEP: &str = "accessLog";

/// Checks the parts of a package that say who was shown the customer's events.
pub(crate) fn check(package: &Package, policy: &Policy, findings: &mut Findings) {
    let Some((last, before)) = package.as_of.split_last() else { return };
    let mut parts = Vec::new();
    let mut logs = before.iter();
    for part in &package.earlier_access_logs {
        let Some(log) = logs.find(|log| part.as_of.origin == access_origin(&log.origin)) else {
            let text = "it is not the access log of an earlier log, or not in the order of these";
            return findings.step(STEP, vec![Problem::tampered(text)], "");
        };
        parts.push((part, log));
    }
    if let Some(part) = &package.access_log {
        if part.as_of.origin != access_origin(&last.origin) {
            let text = "it is not the access log of the log that the answer was read from";
            return findings.step(STEP, vec![Problem::tampered(text)], "");
        }
        parts.push((part, last));
    }
    if parts.is_empty() {
        return;
    }
    let (mut problems, mut count) = (Vec::new(), 0);
    for (part, log) in parts {
        let Some(policy) = policy_for(policy, &log.origin) else {
            return findings.skipped(STEP, "no key of the log that it belongs to is pinned");
        };
        let (found, opened) = check_part(part, package, &policy);
        problems.extend(found);
        count += opened;
    }
    findings.step(STEP, problems, format!("{count} accesses are in the access log and open as shown"));
    findings.not_covered.push(
        "Which person acted in each access is sealed and not disclosed; no witness watches the access log."
            .to_owned(),
    );
}

fn check_part(part: &AccessPart, package: &Package, policy: &Policy) -> (Vec<Problem>, usize) {
    let checkpoint = match policy.open_checkpoint(part.checkpoint.as_bytes()) {
        Ok(verified) => verified.checkpoint,
        Err(refusal) => {
            let text = format!("the checkpoint of the access log was refused: {refusal}");
            return (vec![Problem::tampered(text)], 0);
        }
    };
    let mut problems = Vec::new();
    if checkpoint.size.get() != part.as_of.size
        || Hash::from_hex(&part.as_of.root_hash) != Some(checkpoint.root)
    {
        problems.push(Problem::tampered("its asOf differs from the signed checkpoint"));
    }
    let trees: Trees = BTreeMap::from([(part.as_of.origin.clone(), Some(checkpoint))]);
    // Each of a person's ids counts its own accesses.
    let (mut count, mut last) = (0, BTreeMap::<String, (u64, u64)>::new());
    for access in &part.events {
        match event::check(access, package, &trees) {
            Ok(Checked::Opened { subject, subject_sequence }) => {
                count += 1;
                let place = (access.index, subject_sequence);
                if let Some((index, sequence)) = last.insert(subject, place)
                    && (place.0 <= index || place.1 != sequence.saturating_add(1))
                {
                    let text = format!("accesses between {index} and {} are not in the file", place.0);
                    problems.push(Problem::incomplete(text).at(&access.origin, access.index));
                }
            }
            Ok(Checked::NotPinned) => {}
            Err(problem) => problems.push(problem),
        }
    }
    (problems, count)
}

/// Returns the policy by which a receipt of an access log is judged; `None` if the receipt is of another log.
pub(crate) fn policy_of(receipt: &Map<String, Value>, policy: &Policy) -> Option<Policy> {
    let origin = receipt.get("origin")?.as_str()?;
    if policy.logs().iter().any(|log| log.key.name() == origin) {
        return None;
    }
    let keys = policy.logs().iter().filter_map(|log| access_key(&log.key));
    any_of(keys.filter(|key| key.name() == origin))
}

/// Returns a policy with the key of the access log of a log, from the pinned key of that log.
fn policy_for(policy: &Policy, log: &str) -> Option<Policy> {
    let keys = policy.logs().iter().filter(|pinned| pinned.key.name() == log);
    any_of(keys.filter_map(|pinned| access_key(&pinned.key)))
}

/// Returns the policy that trusts each of these keys: a log whose key was rotated has several. `None` without any.
fn any_of(mut keys: impl Iterator<Item = VerifierKey>) -> Option<Policy> {
    let mut policy = Policy::log_only(keys.next()?);
    for key in keys {
        // Refused only if it is there already, or beyond a thousand.
        let _ = policy.add_log(key, None);
    }
    Some(policy)
}
