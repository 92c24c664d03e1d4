//! The certificate of a rights request: what was done about it, and the check.
//!
//! The body says what became of every task. Its hash stands in a leaf of the log, whose key the certificate discloses, and
//! the log has signed the whole file. So the body was fixed when the leaf was logged, and nobody can give two people two
//! bodies for one leaf. The file has one spelling, its canonical JSON (RFC 8785): every other is refused.
//!
//! A certificate can prove that the log says so, and since when. It cannot prove that no copy is left anywhere; what may be
//! left, and until when, is part of the body. `docs/spec/certificate.md` is normative.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idtrail_event::{Leaf, LeafError, LeafKey};
use idtrail_tlog::{
    Checkpoint, ED25519, Hash, LogIndex, Note, Policy, Refusal, Signer, TlogProof, VerifierKey, leaf_hash,
    note, verify_inclusion,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::manifest::SignError;
use crate::report::{Findings, Problem, Report};
use crate::verify::{is_pinned, not_pinned_text, parse};

/// What stands in the member `format` of a certificate.
pub const CERTIFICATE_FORMAT: &str = "idtrail-certificate/1";
/// First line of what is signed.
const FIRST_LINE: &str = "idtrail/certificate/v1";
/// What a key's name has behind the origin.
const KEY_SUFFIX: &str = "/certificate";
/// Statuses with which nothing is missing.
const SETTLED: [&str; 6] =
    ["VERIFIED_ABSENT", "VERIFIED_DONE", "NOT_FOUND", "COLLECTED", "EXEMPT", "MANUAL_ATTESTED"];
/// Statuses with which something is.
const OPEN: [&str; 6] = ["PLANNED", "WORKING", "CONFIRMED", "HELD", "DEAD", "MANUAL_PENDING"];

/// A certificate as a file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// [`CERTIFICATE_FORMAT`].
    pub format: String,
    /// What became of the request.
    pub body: CertificateBody,
    /// The leaf that holds the body's hash.
    pub leaf: DisclosedLeaf,
    /// Name of the log.
    pub origin: String,
    /// A C2SP tlog-proof of the leaf: index, inclusion proof, signed checkpoint.
    pub proof: String,
    /// The log's signature over all the rest: a signed note.
    pub signature: String,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A leaf with the key that opens it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisclosedLeaf {
    /// Its bytes, in base64.
    pub bytes: String,
    /// The key of its event section: 32 bytes in base64.
    pub key: String,
}

impl DisclosedLeaf {
    /// Returns a leaf in the form of the file. This is the disclosure: whoever reads the file can open the leaf.
    pub fn disclose(leaf: &[u8], key: &LeafKey) -> Self {
        Self { bytes: STANDARD.encode(leaf), key: STANDARD.encode(key.expose()) }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateBody {
    /// The request's id.
    pub request_id: String,
    /// What was asked for, such as `ERASURE`.
    pub kind: String,
    /// The law that its dates follow.
    pub regime: String,
    /// The random reference of its subject, which stands in the DATA_DELETION leaves: `sr_` and 32 hex digits.
    pub subject_ref: String,
    /// The request's nonce, 64 hex digits: with it the requester finds an interaction in the DATA_DELETION leaves.
    pub nonce: String,
    /// Day of receipt: `YYYY-MM-DD`.
    pub received_on: String,
    /// When this was made: RFC 3339, UTC, milliseconds.
    pub issued_at: String,
    /// The cut-off: what happened before it belongs to the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<String>,
    /// Hash of the plan that was approved: 64 hex digits.
    pub plan_hash: String,
    /// Which of the request's certificates it is, from 1.
    pub pass: u32,
    /// `FULFILLED` or `PARTIAL`; follows from the tasks.
    pub outcome: String,
    /// The tasks, by name.
    pub tasks: Vec<CertificateTask>,
    /// The destructions of keys.
    pub shreds: Vec<CertificateShred>,
    /// From then on no copy, backup or key service under the controller's power can bring the shredded leaves back; the
    /// latest of all shreds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrecoverable_by: Option<String>,
}

impl CertificateBody {
    /// Returns the hash that stands in the leaf: SHA-256 over the canonical JSON (RFC 8785).
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(canonical(self)).into()
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateTask {
    /// Its name, unique in the plan.
    pub item: String,
    /// The system.
    pub system: String,
    /// `CONNECTOR`, `MANUAL` or `OWN_LOG`.
    pub method: String,
    /// How it stands, such as `VERIFIED_ABSENT`.
    pub status: String,
    /// Why, where the status does not say it all: a basis in law, a hold, a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Objects that were found when the plan was made.
    pub found: u64,
    /// Objects that were erased, corrected or restricted.
    pub done: u64,
    /// When it was looked at and found as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<String>,
    /// Hash of what shows it: 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// What remains out of reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residuals: Vec<CertificateResidual>,
}

/// What remains out of reach, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateResidual {
    /// What keeps it.
    pub mechanism: String,
    /// Until when; absent if only the system's operator knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// One destruction of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateShred {
    /// Index of its KEY_SHREDDED leaf.
    pub index: u64,
    /// Epoch of the vault without the keys.
    pub epoch: u64,
    /// Leaves that were readable before.
    pub leaves: u64,
    /// When.
    pub at: String,
    /// From then on nothing can bring them back.
    pub unrecoverable_by: String,
}

/// Returns the name of the key that signs certificates for a log.
pub fn certificate_key_name(origin: &str) -> String {
    format!("{origin}{KEY_SUFFIX}")
}

/// Returns the key that verifies a log's certificates: the public key of the log under the certificate name. `None` if
/// the log's key is no Ed25519 key for notes.
pub fn certificate_key(log: &VerifierKey) -> Option<VerifierKey> {
    let public = log.public_bytes().try_into().ok().filter(|_| log.signature_type() == ED25519)?;
    VerifierKey::ed25519(&certificate_key_name(log.name()), public).ok()
}

/// Signs a certificate, in place of an older signature. The signer's name must be [`certificate_key_name`] of `origin`.
///
/// # Errors
/// [`SignError`]; the certificate is then as it was.
pub fn sign_certificate(certificate: &mut Certificate, signer: &dyn Signer) -> Result<(), SignError> {
    let needed = certificate_key_name(&certificate.origin);
    if signer.name() != needed {
        return Err(SignError::WrongSigner { needed });
    }
    certificate.signature = note::sign(&signed_text(certificate), &[signer]).map_err(|_| SignError::Name)?;
    Ok(())
}

/// Returns the bytes of the file.
pub fn certificate_file(certificate: &Certificate) -> Vec<u8> {
    canonical(certificate)
}

/// Checks a certificate.
pub fn verify_certificate(bytes: &[u8], policy: &Policy) -> Report {
    let mut findings = Findings::default();
    let certificate = match read(bytes) {
        Ok(certificate) => certificate,
        Err(problem) => {
            findings.step("format", vec![problem], "");
            return findings.report("");
        }
    };
    findings.ok("format", format!("{CERTIFICATE_FORMAT}, {} tasks", certificate.body.tasks.len()));
    let origin = &certificate.origin;
    if !is_pinned(policy, origin) {
        findings.step("policy", vec![Problem::unchecked(not_pinned_text(origin))], "");
        return findings.report("");
    }
    findings.ok("policy", "a key of the log is pinned");
    check_signature(&certificate, policy, &mut findings);
    let leaf = STANDARD.decode(&certificate.leaf.bytes).ok();
    let (index, problems) = match &leaf {
        Some(leaf) => prove(&certificate, leaf, policy),
        None => (None, vec![Problem::tampered("the leaf is not base64")]),
    };
    let place = |problem: Problem| match index {
        Some(index) => problem.at(origin, index),
        None => problem,
    };
    let holds = problems.is_empty();
    let detail = index.map_or_else(String::new, |index| format!("leaf {index} is in the signed tree"));
    findings.step("proof", problems.into_iter().map(place).collect(), detail);
    let problem = leaf.and_then(|leaf| check_leaf(&certificate, &leaf).err());
    findings.checked_events = usize::from(holds && problem.is_none());
    findings.step("leaf", problem.map(place).into_iter().collect(), "the leaf opens and names this body");
    findings.step("content", consistency(&certificate.body), "the outcome is what the tasks add up to");
    let open = certificate.body.tasks.iter().filter(|task| !SETTLED.contains(&task.status.as_str()));
    let missing =
        open.map(|task| Problem::incomplete(format!("not done yet: {}, {}", task.item, task.status)));
    findings.step("tasks", missing.collect(), "every task has ended");
    not_covered(&certificate.body, policy, &mut findings);
    findings.report(format!(
        "the log {origin} has recorded and signed that request {} was answered as this file says",
        certificate.body.request_id
    ))
}

fn canonical(value: &impl Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("texts and small integers have a canonical form")
}

fn signed_text(certificate: &Certificate) -> String {
    let mut whole = serde_json::to_value(certificate).expect("a certificate has only text keys");
    if let Some(members) = whole.as_object_mut() {
        members.remove("signature");
    }
    let digest = Hash::new(Sha256::digest(canonical(&whole)).into());
    format!("{FIRST_LINE}\n{}\n{}\n", certificate.origin, digest.to_base64())
}

fn read(bytes: &[u8]) -> Result<Certificate, Problem> {
    let value = parse(bytes)?;
    match value.get("format").and_then(Value::as_str) {
        Some(CERTIFICATE_FORMAT) => {}
        Some(other) if other.starts_with("idtrail-certificate/") => {
            let text = "the file is a certificate of a version that this program does not know";
            return Err(Problem::unchecked(text));
        }
        _ => return Err(Problem::unchecked("the file is not a certificate")),
    }
    let certificate: Certificate = serde_json::from_slice(bytes).map_err(|error| {
        // The parser's own text may quote the file.
        let (line, column) = (error.line(), error.column());
        Problem::unchecked(format!(
            "a member is missing, unknown or of the wrong kind, at line {line}, column {column}"
        ))
    })?;
    let tasks = certificate.body.tasks.iter().flat_map(|task| [task.found, task.done]);
    let shreds = certificate.body.shreds.iter().flat_map(|shred| [shred.index, shred.epoch, shred.leaves]);
    if tasks.chain(shreds).any(|number| number >= 1 << 53) {
        return Err(Problem::unchecked("a number in the file is larger than 2^53 − 1"));
    }
    if canonical(&certificate) != bytes {
        return Err(Problem::tampered("the file is not in its canonical form, so it is not as it was made"));
    }
    Ok(certificate)
}

fn check_signature(certificate: &Certificate, policy: &Policy, findings: &mut Findings) {
    const STEP: &str = "signature";
    let pinned = policy.logs().iter().filter(|log| log.key.name() == certificate.origin);
    let keys: Vec<VerifierKey> = pinned.filter_map(|log| certificate_key(&log.key)).collect();
    let tampered = |text: &str| vec![Problem::tampered(text)];
    let problems = match Note::parse(certificate.signature.as_bytes()) {
        Err(_) => tampered("the signature is not a signed note"),
        Ok(note) if note.signatures.len() != 1 => tampered("the signature is not one of the log alone"),
        Ok(note) if note.text != signed_text(certificate) => {
            tampered("the file differs from what the log signed")
        }
        Ok(note) if note.open(&keys).is_err() => {
            tampered("there is no valid signature of the log under its certificate name")
        }
        Ok(_) => Vec::new(),
    };
    findings.step(STEP, problems, format!("signed by {}", certificate.origin));
}

/// Proves the leaf and returns its index.
fn prove(certificate: &Certificate, leaf: &[u8], policy: &Policy) -> (Option<u64>, Vec<Problem>) {
    let proof = match TlogProof::parse(&certificate.proof) {
        Ok(proof) => proof,
        Err(idtrail_tlog::TlogProofError::Version) => {
            return (
                None,
                vec![Problem::unchecked("the proof has a version that this program does not know")],
            );
        }
        Err(error) => return (None, vec![Problem::tampered(format!("the proof cannot be read: {error}"))]),
    };
    let index = Some(proof.index.get());
    let note = proof.checkpoint.as_bytes();
    let mut problems = Vec::new();
    let checkpoint = match policy.open_checkpoint(note) {
        Ok(verified) => verified.checkpoint,
        Err(refusal @ Refusal::Quorum { .. }) => {
            problems.push(Problem::incomplete(format!("{refusal}")));
            match Checkpoint::open(note, policy.logs().iter().map(|log| &log.key)) {
                Ok(checkpoint) => checkpoint,
                Err(_) => return (index, problems),
            }
        }
        Err(refusal) => {
            return (index, vec![Problem::tampered(format!("the checkpoint was refused: {refusal}"))]);
        }
    };
    if checkpoint.origin != certificate.origin {
        problems.push(Problem::tampered("the checkpoint is of another log than the certificate"));
    }
    let hash = leaf_hash(leaf);
    if let Err(error) = verify_inclusion(proof.index, checkpoint.size, &hash, &proof.hashes, &checkpoint.root)
    {
        problems.push(Problem::tampered(format!("the leaf is not proved to be in the signed tree: {error}")));
    }
    for shred in &certificate.body.shreds {
        if LogIndex::new(shred.index) >= proof.index {
            problems.push(Problem::tampered("a destruction of keys stands behind the leaf that reports it"));
        }
    }
    (index, problems)
}

fn check_leaf(certificate: &Certificate, bytes: &[u8]) -> Result<(), Problem> {
    let key = STANDARD.decode(&certificate.leaf.key).ok().and_then(|key| key.try_into().ok());
    let key = key.map(LeafKey::new).ok_or_else(|| Problem::tampered("the key is not 32 bytes in base64"))?;
    let version = || Problem::incomplete("the leaf has a version that this program does not know");
    let leaf = Leaf::parse(bytes).map_err(|error| match error {
        LeafError::Version(_) => version(),
        _ => Problem::tampered("the leaf is not in the form that the format allows"),
    })?;
    let open = leaf.open(&key).map_err(|error| match error {
        LeafError::Version(_) => version(),
        LeafError::WrongKey => Problem::tampered("the key is not the one that the leaf names"),
        _ => Problem::tampered("the leaf does not open to what the format allows"),
    })?;
    let body = &certificate.body;
    let hash: String = body.hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let event = open.body.get("auditEvent");
    let says = |pointer: &str| event.and_then(|event| event.pointer(pointer));
    let expected = [
        ("/eventType", json!("DSR_RECEIPTED")),
        ("/requestId", json!(body.request_id)),
        ("/data/pass", json!(body.pass)),
        ("/data/certificate", json!(hash)),
    ];
    match expected.iter().find(|(pointer, expected)| says(pointer) != Some(expected)) {
        None => Ok(()),
        Some((pointer, _)) => Err(Problem::tampered(format!("the leaf says something else at {pointer}"))),
    }
}

/// Checks what the body says against itself: a signer that contradicts itself is not believed.
fn consistency(body: &CertificateBody) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |text: String| problems.push(Problem::tampered(text));
    let mut names = std::collections::BTreeSet::new();
    for task in &body.tasks {
        let status = task.status.as_str();
        if !names.insert(&task.item) {
            add(format!("a task stands there twice: {}", task.item));
        }
        if !SETTLED.contains(&status) && !OPEN.contains(&status) {
            add(format!("a task has a status that there is not: {}", task.item));
        }
        if matches!(status, "VERIFIED_ABSENT" | "VERIFIED_DONE" | "NOT_FOUND") && task.verified_at.is_none() {
            add(format!("a task is called verified, and nobody looked: {}", task.item));
        }
        if matches!(status, "EXEMPT" | "HELD" | "DEAD") && task.reason.is_none() {
            add(format!("a task is not done, and nothing says why: {}", task.item));
        }
        if status == "MANUAL_ATTESTED" && task.evidence.is_none() {
            add(format!("a task is attested without evidence: {}", task.item));
        }
        if task.method == "OWN_LOG"
            && status == "VERIFIED_ABSENT"
            && body.kind == "ERASURE"
            && body.shreds.is_empty()
        {
            add(format!("leaves are called erased, and no key was destroyed: {}", task.item));
        }
    }
    let done =
        !body.tasks.is_empty() && body.tasks.iter().all(|task| SETTLED.contains(&task.status.as_str()));
    if body.outcome != if done { "FULFILLED" } else { "PARTIAL" } {
        add("the outcome is not what the tasks add up to".to_owned());
    }
    if body.shreds.iter().any(|shred| shred.unrecoverable_by < shred.at) {
        add("leaves are called unrecoverable before their keys were destroyed".to_owned());
    }
    // All times have one form, in which the order of texts is that of times.
    let latest = body.shreds.iter().map(|shred| &shred.unrecoverable_by).max();
    if latest != body.unrecoverable_by.as_ref() {
        add("unrecoverableBy is not the latest of all destructions".to_owned());
    }
    problems
}

fn not_covered(body: &CertificateBody, policy: &Policy, findings: &mut Findings) {
    let mut add = |text: String| findings.not_covered.push(text);
    add("That no copy is left anywhere: the file says that the keys under the controller's power are destroyed, and what \
         each system answered when it was asked again."
        .to_owned());
    if let Some(by) = &body.unrecoverable_by {
        add(format!("Before {by} old copies of keys may still exist, in backups or key services."));
    }
    for task in &body.tasks {
        match task.status.as_str() {
            "EXEMPT" => add(format!("{} stays: {}.", task.item, task.reason.as_deref().unwrap_or_default())),
            "MANUAL_ATTESTED" => add(format!("{} is a person's word, with evidence.", task.item)),
            _ => {}
        }
        for residual in &task.residuals {
            let until = residual.until.as_deref().unwrap_or("a time that only its operator knows");
            add(format!("{}: {} may keep data until {until}.", task.item, residual.mechanism));
        }
    }
    if !policy.asks_for_witnesses() {
        add("The policy asks for no witness; the proof is the log's own promise.".to_owned());
    }
}
