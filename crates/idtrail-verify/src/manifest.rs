//! The manifest: the log's signature over the whole answer, so that nothing can be left out or exchanged.
//!
//! Every event of a package proves itself, but that says nothing about an event that was taken out of the
//! file, nor about the request or the coverage. The manifest is a signed note (C2SP signed-note) that lists
//! all leaves and holds a digest of everything else. It is signed with the log's own Ed25519 key under the
//! name `<origin>/evidence`: another name is another key id, and its first line is no origin, so a manifest
//! can never be taken for a checkpoint, nor a checkpoint for a manifest.
//!
//! The digest is over RFC 8785 (JCS) text, in which numbers are IEEE doubles; the members that it covers hold
//! only integers up to 2^53 − 1, which the verifier checks, so no two contents have one digest.

use std::collections::BTreeSet;

use idtrail_tlog::{ED25519, Hash, Note, Policy, Signer, VerifierKey, note};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::package::{EvidenceEvent, Package};
use crate::report::{Findings, Problem};

/// First line of the text.
const FIRST_LINE: &str = "idtrail/evidence-manifest/v1";
/// What a key's name has behind the origin.
const KEY_SUFFIX: &str = "/evidence";
/// What the name of an access log has behind the origin of its log.
const ACCESS_SUFFIX: &str = "/access";
const STEP: &str = "manifest";

/// Why a manifest was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The package names no log, so nobody can sign for it.
    #[error("the package names no log")]
    NoOrigin,
    /// The signer is not the evidence key of the package's last log.
    #[error("the key has another name than the package needs. needed={needed}")]
    WrongSigner {
        /// The name that the key must have.
        needed: String,
    },
    /// A name in the package cannot stand in a note.
    #[error("a name in the package cannot stand in a note")]
    Name,
}

impl SignError {
    /// Returns what the caller must do: `Invalid` in every case.
    pub fn kind(&self) -> idtrail_tlog::ErrorKind {
        idtrail_tlog::ErrorKind::Invalid
    }
}

/// Returns the name of the key that signs manifests for a log.
pub fn evidence_key_name(origin: &str) -> String {
    format!("{origin}{KEY_SUFFIX}")
}

/// Returns the key that verifies a log's manifests: the public key of the log under the evidence name. `None`
/// if the log's key is no Ed25519 key for notes.
pub fn evidence_key(log: &VerifierKey) -> Option<VerifierKey> {
    let public = log.public_bytes().try_into().ok().filter(|_| log.signature_type() == ED25519)?;
    VerifierKey::ed25519(&evidence_key_name(log.name()), public).ok()
}

/// Returns the name of the access log that belongs to a log.
pub fn access_origin(origin: &str) -> String {
    format!("{origin}{ACCESS_SUFFIX}")
}

/// Returns the key that verifies the checkpoints of a log's access log: the public key of the log under the access
/// log's name. `None` if the log's key is no Ed25519 key for notes.
pub fn access_key(log: &VerifierKey) -> Option<VerifierKey> {
    let public = log.public_bytes().try_into().ok().filter(|_| log.signature_type() == ED25519)?;
    VerifierKey::ed25519(&access_origin(log.name()), public).ok()
}

/// Returns the text that the manifest of a package signs; it does not depend on a manifest that is there. The
/// signing log is the last one in `as_of`; without one its line is empty.
pub fn manifest_text(package: &Package) -> String {
    let value = serde_json::to_value(package).expect("a package has only text keys and finite numbers");
    let head = value.as_object().map(head_digest).unwrap_or_default();
    let origin = package.as_of.last().map_or("", |last| &last.origin);
    text(origin, &head, &leaves(&package.events))
}

/// Signs the manifest of a package and puts it there, in place of an older one. The signer's name must be
/// [`evidence_key_name`] of the last log in `as_of`.
///
/// # Errors
/// [`SignError`]; the package is then as it was.
pub fn sign_manifest(package: &mut Package, signer: &dyn Signer) -> Result<(), SignError> {
    let last = package.as_of.last().ok_or(SignError::NoOrigin)?;
    let needed = evidence_key_name(&last.origin);
    if signer.name() != needed {
        return Err(SignError::WrongSigner { needed });
    }
    if package.events.iter().any(|event| event.origin.contains(['\n', ' '])) {
        return Err(SignError::Name);
    }
    let signed = note::sign(&manifest_text(package), &[signer]).map_err(|_| SignError::Name)?;
    package.manifest = Some(signed);
    Ok(())
}

/// One leaf of a manifest: origin, index, and its hash in base64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    origin: String,
    index: u64,
    hash: String,
}

fn leaves(events: &[EvidenceEvent]) -> Vec<Listed> {
    let listed = |event: &EvidenceEvent| Listed {
        origin: event.origin.clone(),
        index: event.index,
        // A hash that is none was reported with its event; here it only has to equal no real one.
        hash: Hash::from_hex(&event.leaf_hash).map(|hash| hash.to_base64()).unwrap_or_default(),
    };
    events.iter().map(listed).collect()
}

/// Returns the base64 SHA-256 of the canonical JSON (RFC 8785) of a package without `manifest` and `events`.
fn head_digest(package: &Map<String, Value>) -> String {
    let covered = |(name, _): &(&String, &Value)| !matches!(name.as_str(), "manifest" | "events");
    let head: Map<String, Value> =
        package.iter().filter(covered).map(|(name, value)| (name.clone(), value.clone())).collect();
    let canonical =
        serde_json_canonicalizer::to_vec(&head).expect("texts, booleans and numbers have a canonical form");
    Hash::new(Sha256::digest(canonical).into()).to_base64()
}

fn text(origin: &str, digest: &str, leaves: &[Listed]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{FIRST_LINE}\n{origin}\npackage {digest}\nleaves {}\n", leaves.len());
    for leaf in leaves {
        writeln!(text, "{} {} {}", leaf.origin, leaf.index, leaf.hash).expect("a String takes everything");
    }
    text
}

/// A manifest, taken apart.
struct Manifest {
    origin: String,
    digest: String,
    leaves: Vec<Listed>,
}

impl Manifest {
    /// Reads the text; anything but the one spelling of it is refused.
    fn parse(signed: &str) -> Option<Self> {
        let mut lines = signed.strip_suffix('\n')?.split('\n');
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let origin = lines.next()?.to_owned();
        let digest = lines.next()?.strip_prefix("package ")?.to_owned();
        let count = lines.next()?.strip_prefix("leaves ")?.to_owned();
        let leaf = |line: &str| {
            let mut words = line.split(' ');
            let origin = words.next()?.to_owned();
            Some(Listed { origin, index: words.next()?.parse().ok()?, hash: words.next()?.to_owned() })
        };
        let leaves: Vec<Listed> = lines.map(leaf).collect::<Option<_>>()?;
        let same = text(&origin, &digest, &leaves) == signed && count == leaves.len().to_string();
        same.then_some(Self { origin, digest, leaves })
    }
}

/// Takes a note apart. `Note::parse` stops at 1,000,000 bytes, since checkpoints come from strangers; the
/// manifest of a person with more than about ten thousand events is longer, so only the signature lines go
/// through it. The text needs no check of its own: it is compared with the one that the package makes.
fn open(note: &str) -> Option<Note> {
    let at = note.rfind("\n\n")? + 1;
    let (text, signatures) = note.split_at_checked(at)?;
    let parsed = Note::parse(format!("-\n{signatures}").as_bytes()).ok()?;
    Some(Note { text: text.to_owned(), ..parsed })
}

/// Checks the manifest of a package. `whole` is the file as JSON, from which the digest is made: what the
/// types leave out would not be covered otherwise.
pub(crate) fn check(package: &Package, whole: &Map<String, Value>, policy: &Policy, findings: &mut Findings) {
    let Some(last) = package.as_of.last() else {
        return findings.skipped(STEP, "the file names no log that could have signed");
    };
    let Some(note) = &package.manifest else {
        let text = "the file has no manifest, so nobody can tell whether events were left out of it";
        return findings.step(STEP, vec![Problem::incomplete(text)], "");
    };
    let pinned = policy.logs().iter().filter(|log| log.key.name() == last.origin);
    let keys: Vec<VerifierKey> = pinned.filter_map(|log| evidence_key(&log.key)).collect();
    if keys.is_empty() {
        let text = format!("the manifest is signed by a log without a pinned key: {}", last.origin);
        return findings.step(STEP, vec![Problem::incomplete(text)], "");
    }
    let Some(opened) = open(note) else {
        return findings.step(STEP, vec![Problem::tampered("the manifest is not a signed note")], "");
    };
    if opened.open(&keys).is_err() {
        let text = "the manifest bears no valid signature of the log under its evidence name";
        return findings.step(STEP, vec![Problem::tampered(text)], "");
    }
    let Some(manifest) = Manifest::parse(&opened.text) else {
        let text = "the manifest is signed but of a form that this program does not know";
        return findings.step(STEP, vec![Problem::incomplete(text)], "");
    };
    let mut problems = Vec::new();
    if manifest.origin != last.origin {
        problems.push(Problem::tampered("the manifest is that of another log"));
    }
    if manifest.digest != head_digest(whole) {
        let text = "the request, customer, trees or coverage differ from those that the log signed";
        problems.push(Problem::tampered(text));
    }
    problems.extend(compare(&manifest.leaves, &leaves(&package.events)));
    let detail = format!("signed by {}; all {} events listed are here", last.origin, manifest.leaves.len());
    findings.step(STEP, problems, detail);
}

/// Returns what differs between the signed list and the events: foreign or repeated ones, then missing ones,
/// then their order.
fn compare(signed: &[Listed], shown: &[Listed]) -> Vec<Problem> {
    let expected: BTreeSet<&Listed> = signed.iter().collect();
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for leaf in shown {
        let Listed { origin, index, .. } = leaf;
        if !expected.contains(leaf) {
            let text = format!("event {index} of {origin} is not in the manifest");
            problems.push(Problem::tampered(text).at(origin, *index));
        } else if !seen.insert(leaf) {
            let text = format!("event {index} of {origin} is in the file twice");
            problems.push(Problem::tampered(text).at(origin, *index));
        }
    }
    for leaf in signed.iter().filter(|leaf| !seen.contains(leaf)) {
        let Listed { origin, index, .. } = leaf;
        let text = format!("event {index} of {origin} is missing from the file");
        problems.push(Problem::incomplete(text).at(origin, *index));
    }
    let present = signed.iter().filter(|leaf| seen.contains(leaf));
    let known = shown.iter().filter(|leaf| expected.contains(leaf));
    if let Some((_, leaf)) = present.zip(known).find(|(signed, shown)| signed != shown)
        && !problems.iter().any(|problem| problem.verdict == crate::Verdict::Tampered)
    {
        let Listed { origin, index, .. } = leaf;
        let text = format!("event {index} of {origin} stands in another place than in the manifest");
        problems.push(Problem::tampered(text).at(origin, *index));
    }
    problems
}
