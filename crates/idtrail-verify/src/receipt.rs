//! The receipt: what the log answers to a posted event, and its check.
//!
//! A receipt proves that one leaf stands at one index of a signed tree. The leaf is sealed, so the receipt
//! alone says nothing of its content; whoever also has the leaf's bytes can check that they are the ones.
//! The members `status`, `eventId`, `receivedAt` and `warnings` are for the client and covered by no signature.

use idtrail_event::Leaf;
use idtrail_tlog::{Checkpoint, Hash, LogIndex, Policy, Refusal, TlogProof, leaf_hash, verify_inclusion};
use serde::{Deserialize, Serialize};

use crate::report::{Findings, Problem, Report};
use crate::verify::{is_pinned, not_pinned_text, parse};

/// What the log answers to a posted event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receipt {
    /// Whether the event is new.
    pub status: ReceiptStatus,
    /// Name of the log.
    pub origin: String,
    /// Place of the leaf in the log, from 0.
    pub index: u64,
    /// RFC 6962 hash of the leaf: 64 lower-case hex digits.
    pub leaf_hash: String,
    /// `ev_…`; may be absent for a duplicate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// When the log received the event: RFC 3339, UTC, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<String>,
    /// Count of entries of the tree in the proof.
    pub tree_size: u64,
    /// What the client should know although the event was accepted.
    pub warnings: Vec<ReceiptWarning>,
    /// A C2SP tlog-proof: index, inclusion proof and signed checkpoint.
    pub proof: String,
}

/// Whether an event is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptStatus {
    /// It is new.
    Created,
    /// The same event was there already; the receipt is for that one.
    Duplicate,
}

/// One thing that the client should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiptWarning {
    /// Where (JSON Pointer, RFC 6901).
    pub pointer: String,
    /// What, as a stable code.
    pub code: String,
    /// What, in words.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Checks a receipt, and with the leaf's bytes also that they are what the receipt is about.
pub fn verify_receipt(bytes: &[u8], leaf: Option<&[u8]>, policy: &Policy) -> Report {
    let mut findings = Findings::default();
    let receipt = match read(bytes) {
        Ok(receipt) => receipt,
        Err(problem) => {
            findings.step("format", vec![problem], "");
            return findings.report("");
        }
    };
    findings.ok("format", "a receipt");
    let Receipt { origin, index, .. } = &receipt;
    if !is_pinned(policy, origin) {
        findings.step("policy", vec![Problem::unchecked(not_pinned_text(origin))], "");
        return findings.report("");
    }
    findings.ok("policy", "a key of the log is pinned");
    let at = |problem: Problem| problem.at(origin, *index);
    let (checkpoint, problems) = prove(&receipt, policy);
    let holds = problems.is_empty();
    let detail =
        checkpoint.map_or_else(String::new, |size| format!("leaf {index} is in the tree of size {size}"));
    findings.step("proof", problems.into_iter().map(at).collect(), detail);
    match leaf {
        None => findings.skipped("leaf", "the leaf's bytes were not given"),
        Some(leaf) => {
            let problems: Vec<Problem> = check_leaf(&receipt, leaf).map(at).into_iter().collect();
            findings.step("leaf", problems, "the bytes given are the leaf of this receipt");
        }
    }
    findings.checked_events = usize::from(holds);
    findings.not_covered.push(
        "status, eventId, receivedAt and warnings are information for the sender; no signature covers them."
            .to_owned(),
    );
    findings.not_covered.push("What the leaf says: it is sealed, and a receipt holds no key.".to_owned());
    if !policy.asks_for_witnesses() {
        findings
            .not_covered
            .push("The policy asks for no witness; the receipt is the log's own promise.".to_owned());
    }
    findings.report(format!("leaf {index} is in the log {origin}, as the log signed"))
}

fn read(bytes: &[u8]) -> Result<Receipt, Problem> {
    parse(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::unchecked(format!(
            "the file is not a receipt: a member is missing, unknown or of the wrong kind, at line {line}, \
             column {column}"
        ))
    })
}

/// Tells whether a file is a bare proof (C2SP tlog-proof), of whatever version.
pub(crate) fn is_proof(bytes: &[u8]) -> bool {
    bytes.starts_with(b"c2sp.org/tlog-proof@")
}

/// Checks a bare proof (C2SP tlog-proof), as other programs pass them on. It names no leaf, so without the leaf's bytes only
/// its checkpoint can be checked.
pub fn verify_proof(bytes: &[u8], leaf: Option<&[u8]>, policy: &Policy) -> Report {
    let mut findings = Findings::default();
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let (proof, checkpoint, problems) = match read_proof(text, policy) {
        Ok(read) => read,
        Err(problem) => {
            findings.step("proof", vec![problem], "");
            return findings.report("");
        }
    };
    let (origin, index) = (checkpoint.origin.clone(), proof.index.get());
    let at = |problem: Problem| problem.at(&origin, index);
    let size = checkpoint.size;
    findings.step(
        "checkpoint",
        problems.into_iter().map(at).collect(),
        format!("a pinned key of {origin} has signed the tree of size {size}"),
    );
    let problems = match leaf {
        None => {
            let text = "a bare proof names no leaf: give the leaf's bytes with --leaf to have it proved";
            vec![Problem::incomplete(text)]
        }
        Some(leaf) => {
            let hash = leaf_hash(leaf);
            let proved = verify_inclusion(proof.index, size, &hash, &proof.hashes, &checkpoint.root);
            let unproved = |error| {
                Problem::tampered(format!("the leaf is not proved to be in the signed tree: {error}"))
            };
            proved.err().map(unproved).or_else(|| check_form(leaf)).into_iter().collect()
        }
    };
    findings.checked_events = usize::from(leaf.is_some() && problems.is_empty());
    findings.step(
        "leaf",
        problems.into_iter().map(at).collect(),
        format!("the bytes given are leaf {index} of that tree"),
    );
    findings.not_covered.push("What the leaf says: it is sealed, and a proof holds no key.".to_owned());
    if !policy.asks_for_witnesses() {
        findings
            .not_covered
            .push("The policy asks for no witness; the proof is the log's own promise.".to_owned());
    }
    findings.report(format!("leaf {index} is in the log {origin}, as the log signed"))
}

/// Reads a proof and its checkpoint, which a pinned key must have signed. What is returned beside them is missing.
fn read_proof(text: &str, policy: &Policy) -> Result<(TlogProof, Checkpoint, Vec<Problem>), Problem> {
    let proof = match TlogProof::parse(text) {
        Ok(proof) => proof,
        Err(idtrail_tlog::TlogProofError::Version) => {
            return Err(Problem::unchecked("the proof has a version that this program does not know"));
        }
        Err(error) => return Err(Problem::tampered(format!("the proof cannot be read: {error}"))),
    };
    let note = proof.checkpoint.as_bytes();
    match policy.open_checkpoint(note) {
        Ok(verified) => Ok((proof, verified.checkpoint, Vec::new())),
        Err(refusal @ Refusal::Quorum { .. }) => {
            let problem = Problem::incomplete(format!("{refusal}"));
            match Checkpoint::open(note, policy.logs().iter().map(|log| &log.key)) {
                Ok(checkpoint) => Ok((proof, checkpoint, vec![problem])),
                Err(_) => Err(problem),
            }
        }
        Err(refusal @ Refusal::UnsupportedKey { .. }) => Err(Problem::unchecked(format!("{refusal}"))),
        Err(refusal) => Err(Problem::tampered(format!("the checkpoint was refused: {refusal}"))),
    }
}

/// Checks the proof and returns the size of its tree.
fn prove(receipt: &Receipt, policy: &Policy) -> (Option<u64>, Vec<Problem>) {
    let (proof, checkpoint, mut problems) = match read_proof(&receipt.proof, policy) {
        Ok(read) => read,
        Err(problem) => return (None, vec![problem]),
    };
    if checkpoint.origin != receipt.origin {
        problems.push(Problem::tampered("the checkpoint is of another log than the receipt"));
    }
    if checkpoint.size.get() != receipt.tree_size {
        problems.push(Problem::tampered("treeSize differs from the signed checkpoint"));
    }
    if proof.index != LogIndex::new(receipt.index) {
        problems.push(Problem::tampered("the proof is for another index than the receipt"));
    }
    let Some(hash) = Hash::from_hex(&receipt.leaf_hash) else {
        problems.push(Problem::tampered("leafHash is not a hash"));
        return (None, problems);
    };
    if let Err(error) = verify_inclusion(proof.index, checkpoint.size, &hash, &proof.hashes, &checkpoint.root)
    {
        problems.push(Problem::tampered(format!("the leaf is not proved to be in the signed tree: {error}")));
    }
    (Some(checkpoint.size.get()), problems)
}

fn check_leaf(receipt: &Receipt, leaf: &[u8]) -> Option<Problem> {
    if Hash::from_hex(&receipt.leaf_hash) != Some(leaf_hash(leaf)) {
        return Some(Problem::tampered("the bytes given are not the leaf of this receipt"));
    }
    check_form(leaf)
}

fn check_form(leaf: &[u8]) -> Option<Problem> {
    match Leaf::parse(leaf) {
        Ok(_) => None,
        Err(idtrail_event::LeafError::Version(_)) => {
            Some(Problem::incomplete("the leaf has a version that this program does not know"))
        }
        Err(_) => Some(Problem::tampered("the leaf is not in the form that the format allows")),
    }
}
