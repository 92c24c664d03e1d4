//! The check of an evidence package: format, keys, checkpoints, events, manifest, coverage.
//!
//! In go the bytes of a file and a policy; out comes a report. Nothing in the file is trusted: no key is taken
//! from it, and every shown member is compared with something that a pinned key has signed. A step that fails
//! does not end the check, so that the report can say how much of the file is intact; the verdict is that of
//! the worst step, and its sentence that of the first such failure.

use std::collections::BTreeMap;

use idtrail_event::{JsonError, JsonLimits, parse_json};
use idtrail_tlog::{Checkpoint, ED25519, Hash, Policy, Refusal};
use serde_json::{Map, Value};

use crate::access;
use crate::certificate::verify_certificate;
use crate::event::{self, Checked, Trees};
use crate::manifest;
use crate::package::{FORMAT, Package, SystemStatus};
use crate::receipt::{is_proof, verify_proof, verify_receipt};
use crate::report::{Findings, Problem, Report};

/// The largest integer that every JSON reader reads alike (RFC 7493 §2.2).
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Checks a file of any kind: evidence packages and certificates have a member `format`, a receipt has only `proof`, a bare
/// proof is no JSON.
pub fn verify(bytes: &[u8], policy: &Policy) -> Report {
    verify_with_leaf(bytes, None, policy)
}

/// As [`verify`]; a receipt or bare proof is also compared with the bytes of its leaf.
pub fn verify_with_leaf(bytes: &[u8], leaf: Option<&[u8]>, policy: &Policy) -> Report {
    if is_proof(bytes) {
        return verify_proof(bytes, leaf, policy);
    }
    match parse(bytes) {
        Ok(Value::Object(whole)) if !whole.contains_key("format") && whole.contains_key("proof") => {
            verify_receipt(bytes, leaf, &access::policy_of(&whole, policy).unwrap_or_else(|| policy.clone()))
        }
        Ok(Value::Object(whole)) if is_certificate(&whole) => verify_certificate(bytes, policy),
        // Everything else is refused there with its reason.
        _ => verify_package(bytes, policy),
    }
}

fn is_certificate(whole: &Map<String, Value>) -> bool {
    let format = whole.get("format").and_then(Value::as_str);
    format.is_some_and(|format| format.starts_with("idtrail-certificate/"))
}

/// Checks an evidence package.
pub fn verify_package(bytes: &[u8], policy: &Policy) -> Report {
    let mut findings = Findings::default();
    let (whole, package) = match read(bytes) {
        Ok(read) => read,
        Err(problem) => {
            findings.step("format", vec![problem], "");
            return findings.report("");
        }
    };
    findings.ok("format", format!("{FORMAT}, {} events", package.events.len()));
    if !check_pins(&package, policy, &mut findings) {
        return findings.report("");
    }
    let trees = check_checkpoints(&package, policy, &mut findings);
    let sequences = check_events(&package, &trees, &mut findings);
    access::check(&package, policy, &mut findings);
    manifest::check(&package, &whole, policy, &mut findings);
    check_sequence(&package, &sequences, &mut findings);
    check_coverage(&package, &mut findings);
    not_covered(&package, policy, &mut findings);
    let count = findings.checked_events;
    let summary = match &package.customer {
        None => "the logs named in the file had no customer for this request".to_owned(),
        Some(_) => format!(
            "every event in the file ({count}) is unchanged, and they are all that the log listed for this request"
        ),
    };
    findings.report(summary)
}

/// Parses a file strictly: a name that occurs twice in an object would show one value to one reader and another to
/// the next, and only one of them would have been checked. An event may nest 32 deep, and its parts stand up to three
/// levels deeper in a package than in the body that was posted.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let limits = JsonLimits { bytes_max: usize::MAX, depth_max: JsonLimits::EVENT.depth_max + 3 };
    parse_json(bytes, limits).map_err(|JsonError { reason, line, column, .. }| {
        Problem::unchecked(format!(
            "the file is not JSON with one meaning: {reason}, at line {line}, column {column}"
        ))
    })
}

fn read(bytes: &[u8]) -> Result<(Map<String, Value>, Package), Problem> {
    let value = parse(bytes)?;
    let Value::Object(whole) = value else {
        return Err(Problem::unchecked("the file is not a JSON object"));
    };
    match whole.get("format").and_then(Value::as_str) {
        Some(FORMAT) => {}
        Some(other) if other.starts_with("idtrail-evidence/") => {
            return Err(Problem::unchecked(
                "the file is an evidence package of a version that this program does not know",
            ));
        }
        _ => return Err(Problem::unchecked("the file is neither an evidence package nor a receipt")),
    }
    let package: Package = serde_json::from_slice(bytes).map_err(|error| {
        // The parser's own text may quote the file.
        let (line, column) = (error.line(), error.column());
        Problem::unchecked(format!(
            "a member is missing, unknown or of the wrong kind, at line {line}, column {column}"
        ))
    })?;
    let access = package.access_log.iter().chain(&package.earlier_access_logs).map(|part| &part.as_of);
    let sizes = package.as_of.iter().chain(access).map(|tree| tree.size);
    let counts = package.coverage.systems.iter().map(|system| system.events);
    if sizes.chain(counts).any(|number| number > SAFE_INTEGER_MAX) {
        return Err(Problem::unchecked("a size or count in the file is larger than 2^53 − 1"));
    }
    Ok((whole, package))
}

/// Tells whether the policy has a key of a log that this program can use.
pub(crate) fn is_pinned(policy: &Policy, origin: &str) -> bool {
    policy.logs().iter().any(|log| log.key.name() == origin && log.key.signature_type() == ED25519)
}

pub(crate) fn not_pinned_text(origin: &str) -> String {
    format!("no key of this log that this program can use is pinned: {origin}")
}

/// Tells whether a key of any log of the package is pinned; without one nothing can be judged.
fn check_pins(package: &Package, policy: &Policy, findings: &mut Findings) -> bool {
    let missing = package.as_of.iter().filter(|tree| !is_pinned(policy, &tree.origin));
    let missing: Vec<&str> = missing.map(|tree| tree.origin.as_str()).collect();
    let any = missing.len() < package.as_of.len();
    let problem = |origin: &&str| {
        let text = not_pinned_text(origin);
        if any { Problem::incomplete(text) } else { Problem::unchecked(text) }
    };
    let mut problems: Vec<Problem> = missing.iter().map(problem).collect();
    if package.as_of.is_empty() {
        problems.push(Problem::unchecked("the file names no log"));
    }
    findings.step("policy", problems, "a key of every log is pinned");
    any
}

fn check_checkpoints(package: &Package, policy: &Policy, findings: &mut Findings) -> Trees {
    let mut problems = Vec::new();
    let mut same = Vec::new();
    let mut trees: Trees = BTreeMap::new();
    let mut witnesses = 0;
    if package.as_of.len() != package.checkpoints.len() {
        let text = "the file does not have one checkpoint for each log that the answer was read from";
        same.push(Problem::tampered(text));
    }
    for (tree, signed) in package.as_of.iter().zip(&package.checkpoints) {
        let origin = &tree.origin;
        if signed.origin != *origin {
            same.push(Problem::tampered(format!(
                "the checkpoint in the place of {origin} is of another log"
            )));
            continue;
        }
        let opened = match policy.open_checkpoint(signed.checkpoint.as_bytes()) {
            Ok(verified) => {
                witnesses += verified.witnessed_by.len();
                Some(verified.checkpoint)
            }
            Err(refusal) => {
                let is_quorum = matches!(refusal, Refusal::Quorum { .. });
                problems.extend(refused(origin, &refusal, policy));
                // The log's own signature is right; with it the rest can still be checked.
                let keys = policy.logs().iter().map(|log| &log.key);
                is_quorum.then(|| Checkpoint::open(signed.checkpoint.as_bytes(), keys).ok()).flatten()
            }
        };
        let Some(checkpoint) = opened else {
            trees.entry(origin.clone()).or_insert(None);
            continue;
        };
        if checkpoint.origin != *origin
            || checkpoint.size.get() != tree.size
            || Hash::from_hex(&tree.root_hash) != Some(checkpoint.root)
        {
            same.push(Problem::tampered(format!("asOf differs from the signed checkpoint of {origin}")));
        }
        if checkpoint.origin == *origin && trees.insert(origin.clone(), Some(checkpoint)).is_some() {
            same.push(Problem::tampered(format!("the file names a log twice: {origin}")));
        }
    }
    let detail = match witnesses {
        0 => "every signature of a log holds; no witness has cosigned".to_owned(),
        count => format!("every signature of a log holds, and {count} cosignatures of witnesses"),
    };
    findings.step("checkpoints", problems, detail);
    findings.step("asOf", same, "the answer was read from exactly the trees that were signed");
    trees
}

/// Returns what a refused checkpoint means; nothing if its log is not pinned, which the step before said.
fn refused(origin: &str, refusal: &Refusal, policy: &Policy) -> Option<Problem> {
    let text = format!("the checkpoint of {origin} was refused: {refusal}");
    match refusal {
        _ if !is_pinned(policy, origin) => None,
        Refusal::Quorum { .. } => Some(Problem::incomplete(text)),
        // Unreadable, signed by another key, or of another log: not what the pinned log has signed.
        _ => Some(Problem::tampered(text)),
    }
}

/// Returns, per log, index and place in the sequence of the customer's events.
fn check_events(package: &Package, trees: &Trees, findings: &mut Findings) -> Vec<Numbered> {
    let mut problems = Vec::new();
    let mut sequences = Vec::new();
    let mut not_pinned = 0;
    for event in &package.events {
        match event::check(event, package, trees) {
            Ok(Checked::Opened { subject, subject_sequence }) => {
                findings.checked_events += 1;
                // Each of a person's ids counts its own events.
                let line = format!("{} {subject}", event.origin);
                sequences.push(Numbered {
                    line,
                    origin: event.origin.clone(),
                    index: event.index,
                    subject_sequence,
                });
            }
            Ok(Checked::NotPinned) => not_pinned += 1,
            Err(problem) => problems.push(problem),
        }
    }
    let count = findings.checked_events;
    if problems.is_empty() && not_pinned > 0 {
        let text =
            format!("{count} events hold; {not_pinned} have no checked checkpoint to be proved against");
        findings.skipped("events", text);
    } else {
        findings.step(
            "events",
            problems,
            format!("{count} of {count} events are in the log and open as shown"),
        );
    }
    sequences
}

/// The number of an event among those of one id in one log.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Numbered {
    line: String,
    index: u64,
    subject_sequence: u64,
    origin: String,
}

fn check_sequence(package: &Package, sequences: &[Numbered], findings: &mut Findings) {
    const STEP: &str = "sequence";
    if package.request.date_range.is_some() {
        return findings.skipped(STEP, "the answer is for a period, so gaps before and after it are normal");
    }
    let mut sorted: Vec<&Numbered> = sequences.iter().collect();
    sorted.sort();
    let mut problems = Vec::new();
    for (left, right) in sorted.iter().zip(sorted.iter().skip(1)) {
        let (before, count, index, next) =
            (left.index, left.subject_sequence, right.index, right.subject_sequence);
        let origin = &right.origin;
        if left.line != right.line || count.checked_add(1) == Some(next) {
            continue;
        }
        let text = match next.checked_sub(count).filter(|step| *step > 1) {
            Some(step) => format!(
                "{} events of this customer between {before} and {index} of {origin} are not in the file",
                step - 1
            ),
            None => format!(
                "the events {before} and {index} of {origin} are not numbered in order, so gaps cannot be excluded"
            ),
        };
        problems.push(Problem::incomplete(text).at(origin, index));
    }
    for (at, Numbered { line, origin, index, subject_sequence: earlier }) in sorted.iter().enumerate() {
        let is_first = at == 0 || sorted.get(at - 1).is_some_and(|before| before.line != *line);
        if is_first && *earlier > 0 {
            findings.not_covered.push(format!(
                "Earlier events: event {index} of {origin} says that {earlier} of this customer came before it in \
                 this log, which are not in the file (expired, erased or left out)."
            ));
        }
    }
    findings.step(STEP, problems, "no gap in the numbers of this customer's events");
}

fn check_coverage(package: &Package, findings: &mut Findings) {
    let mut problems = Vec::new();
    for system in &package.coverage.systems {
        let what = match system.status {
            SystemStatus::Answered => continue,
            SystemStatus::NotAsked => "was not asked",
            SystemStatus::Unreachable => "could not be reached",
        };
        problems.push(Problem::incomplete(format!("the system {} {what}", system.system)));
    }
    if !package.coverage.complete && problems.is_empty() {
        problems.push(Problem::incomplete("the sender says that the answer is not complete"));
    }
    let systems: Vec<&str> = package.coverage.systems.iter().map(|system| system.system.as_str()).collect();
    findings.step("coverage", problems, format!("every system answered: {}", systems.join(", ")));
}

fn not_covered(package: &Package, policy: &Policy, findings: &mut Findings) {
    let systems: Vec<&str> = package.coverage.systems.iter().map(|system| system.system.as_str()).collect();
    let mut add = |text: String| findings.not_covered.push(text);
    add(format!("Other systems than those that are listed: {}.", systems.join(", ")));
    let trees: Vec<String> =
        package.as_of.iter().map(|tree| format!("{} at size {}", tree.origin, tree.size)).collect();
    add(format!("What was logged later: the answer is as of {}.", trees.join(", ")));
    add("Events that were never sent to the log are not in it.".to_owned());
    add("That the events listed are all of this customer is the log's signed word; what the numbers in the \
         events show was checked."
        .to_owned());
    if package.request.date_range.is_some() {
        add("Events outside the period that was asked for are not in the file.".to_owned());
    }
    if !policy.asks_for_witnesses() {
        add("The policy asks for no witness, so a log that shows different trees to different people would \
             not be noticed here."
            .to_owned());
    }
    if package.events.iter().any(|event| event.staff == crate::StaffState::Closed) {
        add("Staff members in some events are sealed and not disclosed.".to_owned());
    }
}
