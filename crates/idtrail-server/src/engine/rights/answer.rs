//! The answer to a request for data: what was read, what is taken out of it, and the package that the person gets.
//!
//! ```text
//! read() ─> events, opened ─> draft(): proposals, for a person to look through ─> files() ─> archive(): one encrypted file
//! ```
//! A package has the page, the events as JSON and CSV, the information of Art. 15, what was taken out, proofs, and a
//! manifest whose hash stands in the log. Evidence with keys is given of those events only of which nothing but staff was
//! taken out: a key opens all of a leaf.
//!
//! What it must never do: show what is only perhaps the person's, or give a key that opens what was taken out.

use std::collections::BTreeSet;
use std::io::{Cursor, Write as _};

use idtrail_event::GlobalCustomerId;
use idtrail_index::seal::OpenError;
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_port::{Entropy, random};
use idtrail_rights::package::{Page, Redaction, Redactions, Shown, events_csv, page_html};
use idtrail_rights::portability::provided;
use idtrail_rights::records::Answered;
use idtrail_rights::{Case, Digest, Kind};
use idtrail_tlog::{LogIndex, TlogProof};
use idtrail_verify::{
    AsOf, Coverage, Customer, EventKeys, EvidenceEvent, FORMAT, Package, Request, SignedCheckpoint,
    SystemCoverage, SystemStatus, sign_manifest, time_text,
};
use serde_json::{Map, Value, json};
use sha2::Digest as _;
use zip::write::SimpleFileOptions;
use zip::{AesSalt, CompressionMethod, ZipWriter};

use super::Trouble;
use super::record::Found;
use crate::engine::Engine;

/// What stands in the member `format` of a package's manifest.
const FORMAT_NAME: &str = "idtrail-answer/1";
/// Members about staff; they are sealed apart in a leaf, and that part's key is never in a package.
const STAFF: [&str; 4] = ["agentId", "agentName", "supervisorId", "staffId"];
/// Where what stood beside `auditEvent` is shown.
const OTHERS: &str = "otherMembers";

/// One event of the person, opened.
pub(crate) struct Opened {
    /// Where it is.
    pub(crate) place: Reference,
    /// The customer that its leaf names.
    pub(crate) named: Option<GlobalCustomerId>,
    /// As it is shown; its index counts over all logs of the installation.
    pub(crate) shown: Shown,
}

/// What a person looks through before a package leaves.
pub(crate) struct Draft {
    pub(crate) events: Vec<Opened>,
    /// What is proposed to be taken out.
    pub(crate) proposed: Redactions,
    pub(crate) found: Found,
}

/// Opens the events of a person, in the order of the logs.
pub(super) fn read(engine: &Engine, found: &Found) -> Result<Vec<Opened>, Trouble> {
    let probable: BTreeSet<(u32, u64)> = found.probable.iter().copied().collect();
    let mut opened = Vec::new();
    for &(origin, index) in &found.leaves {
        let place = Reference { origin: OriginOrdinal(origin), index: LogIndex::new(index) };
        let Some(log) = engine.log_at(place.origin) else { continue };
        let leaf = match log.open_leaf(place.index, &log.reader.entry(place.index)?) {
            Ok(disclosed) => disclosed.leaf,
            Err(OpenError::Key(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut others = leaf.body.as_object().cloned().unwrap_or_default();
        let mut event = match others.remove("auditEvent") {
            Some(Value::Object(event)) => event,
            _ => Map::new(),
        };
        if !others.is_empty() {
            event.insert(OTHERS.to_owned(), Value::Object(others));
        }
        let tier = if probable.contains(&(origin, index)) { "PROBABLE" } else { "VERIFIED" };
        let number = engine.numbering().number(place).map_or(index, LogIndex::get);
        opened.push(Opened {
            place,
            named: leaf.subject,
            shown: Shown {
                index: number,
                received_at: time_text(leaf.received_ms),
                system: leaf.system.clone(),
                tier: tier.to_owned(),
                event,
            },
        });
    }
    Ok(opened)
}

/// Proposes what to take out: staff, and ids of other customers.
pub(super) fn propose(events: &[Opened], found: &Found) -> Redactions {
    let shown: Vec<Shown> = events.iter().map(|one| one.shown.clone()).collect();
    let staff = Redactions::propose(&shown, &STAFF.map(|name| (name, "staff")));
    let mut own: BTreeSet<String> = found.customers.iter().cloned().collect();
    own.extend(events.iter().filter_map(|one| Some(one.named?.to_string())));
    let mut all: Vec<Redaction> = staff.iter().cloned().collect();
    for one in &shown {
        for (name, value) in &one.event {
            others(one.index, &format!("/{}", escaped(name)), value, &own, &mut all);
        }
    }
    Redactions::new(all)
}

/// Finds ids of customers who are not the person.
fn others(index: u64, pointer: &str, value: &Value, own: &BTreeSet<String>, all: &mut Vec<Redaction>) {
    match value {
        Value::String(text) if GlobalCustomerId::try_from(text.as_str()).is_ok() && !own.contains(text) => {
            let reason = "other-customer".to_owned();
            all.push(Redaction { index, pointer: pointer.to_owned(), reason });
        }
        Value::Object(members) => {
            for (name, value) in members {
                others(index, &format!("{pointer}/{}", escaped(name)), value, own, all);
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                others(index, &format!("{pointer}/{at}"), value, own, all);
            }
        }
        _ => {}
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What a package is made from.
pub(super) struct Parts<'a> {
    pub(super) case: &'a Case,
    pub(super) found: &'a Found,
    pub(super) redactions: &'a Redactions,
    /// Whether what is not proved to be the person's is in it.
    pub(super) probable: bool,
    pub(super) controller: &'a str,
    pub(super) information: &'a [Answered],
    pub(super) made_ms: u64,
}

/// A package before it is encrypted.
pub(super) struct Files {
    pub(super) files: Vec<(&'static str, Vec<u8>)>,
    /// SHA-256 of the manifest, which names the hash of each other file.
    pub(super) hash: Digest,
    /// The leaves that it shows.
    pub(super) leaves: Vec<(u32, u64)>,
}

/// Makes the files of a package.
pub(super) fn files(engine: &Engine, parts: &Parts<'_>) -> Result<Files, Trouble> {
    let mut opened = read(engine, parts.found)?;
    opened.retain(|one| parts.probable || one.shown.tier == "VERIFIED");
    let shown: BTreeSet<u64> = opened.iter().map(|one| one.shown.index).collect();
    // What is about events that are left out needs no mark.
    let redactions =
        Redactions::new(parts.redactions.iter().filter(|one| shown.contains(&one.index)).cloned());
    let mut events: Vec<Shown> = opened.iter().map(|one| one.shown.clone()).collect();
    redactions.apply(&mut events);
    let proofs = proofs(engine, &opened)?;
    let mut files: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let whole = |value: &Value| serde_json::to_vec_pretty(value).map_err(|_| Trouble::Package);
    if parts.case.kind() == Kind::Portability {
        events = events
            .into_iter()
            .filter_map(|shown| provided(&shown.event).map(|event| Shown { event, ..shown }))
            .collect();
    } else {
        let evidence = evidence(engine, parts, &opened, &redactions)?;
        files.push(("evidence.json", serde_json::to_vec(&evidence).map_err(|_| Trouble::Package)?));
        files.push(("index.html", page(parts, &events, redactions.len())?.into_bytes()));
        files.push(("information.json", whole(&json!(parts.information))?));
    }
    files.push(("events.csv", events_csv(&events).into_bytes()));
    files.push(("events.json", whole(&json!(events.iter().map(of_event).collect::<Vec<_>>()))?));
    files.push(("proofs.json", whole(&proofs)?));
    files.push(("redactions.json", whole(&json!(redactions))?));
    files.sort_by_key(|(name, _)| *name);
    let listed = files.iter().map(|(name, bytes)| {
        json!({ "name": name, "bytes": bytes.len(), "sha256": hex(&sha2::Sha256::digest(bytes)) })
    });
    let plan = parts.case.plan.as_ref();
    let manifest = whole(&json!({
        "format": FORMAT_NAME,
        "requestId": parts.case.request,
        "kind": parts.case.kind(),
        "madeAt": time_text(parts.made_ms),
        "events": events.len(),
        "redacted": redactions.len(),
        "probableIncluded": parts.probable,
        "probable": parts.found.probable.len(),
        "ambiguousNotShown": parts.found.ambiguous,
        "sharedIdentifiersNotFollowed": parts.found.shared,
        "planHash": plan.map(|(_, hash, _)| hash),
        "missing": missing(parts.case).iter().map(|(item, why)| json!({ "item": item, "why": why })).collect::<Vec<_>>(),
        "files": listed.collect::<Vec<_>>(),
    }))?;
    let hash = Digest::new(sha2::Sha256::digest(&manifest).into());
    files.push(("manifest.json", manifest));
    let leaves = opened.iter().map(|one| (one.place.origin.0, one.place.index.get())).collect();
    Ok(Files { files, hash, leaves })
}

fn of_event(shown: &Shown) -> Value {
    json!({
        "index": shown.index, "receivedAt": shown.received_at, "system": shown.system, "tier": shown.tier,
        "event": shown.event,
    })
}

fn missing(case: &Case) -> Vec<(String, String)> {
    let open = case.open_items().into_iter();
    open.map(|item| (item.item.to_string(), item.reason.unwrap_or(item.status))).collect()
}

fn page(parts: &Parts<'_>, events: &[Shown], redacted: usize) -> Result<String, Trouble> {
    let missing = missing(parts.case);
    let left_out = if parts.probable { 0 } else { parts.found.probable.len() as u64 };
    Ok(page_html(&Page {
        request: parts.case.request.as_str(),
        controller: parts.controller,
        made_at: &time_text(parts.made_ms),
        information: parts.information,
        events,
        redacted,
        ambiguous: parts.found.ambiguous + left_out,
        missing: &missing,
    })?)
}

/// Returns for each event the proof that its leaf is in its log, which says nothing of what is in it.
fn proofs(engine: &Engine, opened: &[Opened]) -> Result<Value, Trouble> {
    let mut proofs = Vec::new();
    for one in opened {
        let Some(log) = engine.log_at(one.place.origin) else { continue };
        let head = log.reader.head();
        let leaf = log.reader.entry(one.place.index)?;
        let hashes = log.reader.inclusion_proof(one.place.index, head.size)?;
        let proof = TlogProof {
            extra: None,
            index: one.place.index,
            hashes,
            checkpoint: head.checkpoint.to_string(),
        };
        proofs.push(json!({
            "event": one.shown.index, "origin": log.name, "index": one.place.index.get(),
            "leafHash": idtrail_tlog::leaf_hash(&leaf).to_string(), "proof": proof.to_text(),
        }));
    }
    Ok(json!(proofs))
}

/// Returns the evidence package of the events of which nothing but staff is taken out.
fn evidence(
    engine: &Engine,
    parts: &Parts<'_>,
    opened: &[Opened],
    redactions: &Redactions,
) -> Result<Package, Trouble> {
    let of_staff = |pointer: &str| STAFF.iter().any(|name| pointer == format!("/{name}"));
    let closed: BTreeSet<u64> =
        redactions.iter().filter(|one| !of_staff(&one.pointer)).map(|one| one.index).collect();
    let logs: Vec<_> = engine.logs().into_iter().map(|log| (log, log.reader.head())).collect();
    let mut ids: Vec<String> = parts.found.customers.clone();
    let mut events = Vec::new();
    for one in opened.iter().filter(|one| !closed.contains(&one.shown.index)) {
        let Some((log, head)) = logs.iter().find(|(log, _)| log.ordinal == one.place.origin) else {
            continue;
        };
        let bytes = log.reader.entry(one.place.index)?;
        let (open, key) = log.open_without_person(one.place.index, &bytes)?;
        let Some(named) = open.subject.map(|named| named.to_string()) else { continue };
        if !ids.contains(&named) {
            ids.push(named);
        }
        let proof = log.reader.inclusion_proof(one.place.index, head.size)?;
        let keys = EventKeys::disclose(&key, None);
        events.push(EvidenceEvent::new(log.name, one.place.index, &bytes, &open, keys, &proof));
    }
    let mut ids = ids.into_iter();
    let first = ids.next().filter(|_| !events.is_empty());
    let left_out = closed.len();
    let reason =
        format!("{left_out} events are left out here, because something about others was taken out of them");
    let own = SystemCoverage {
        system: "idtrail".to_owned(),
        status: SystemStatus::Answered,
        events: events.len() as u64,
        reason: (left_out > 0).then_some(reason),
    };
    let mut package = Package {
        format: FORMAT.to_owned(),
        request: Request {
            customer_id_hash: first.clone().unwrap_or_else(|| parts.case.received.subject_ref.to_string()),
            request_type: "ACCESS".to_owned(),
            date_range: None,
        },
        customer: first.map(|global_customer_id| Customer {
            global_customer_id,
            aliases: ids.collect(),
            tier: if parts.probable && !parts.found.probable.is_empty() { "PROBABLE" } else { "VERIFIED" }
                .to_owned(),
        }),
        as_of: logs
            .iter()
            .map(|(log, head)| AsOf {
                origin: log.name.to_owned(),
                size: head.size.get(),
                root_hash: head.root.to_string(),
            })
            .collect(),
        checkpoints: logs
            .iter()
            .map(|(log, head)| SignedCheckpoint {
                origin: log.name.to_owned(),
                checkpoint: head.checkpoint.to_string(),
            })
            .collect(),
        coverage: Coverage { complete: true, systems: vec![own] },
        events,
        earlier_access_logs: Vec::new(),
        access_log: None,
        manifest: None,
    };
    sign_manifest(&mut package, engine.evidence_signer())?;
    Ok(package)
}

/// Returns a passphrase of 128 random bits, in groups that can be read out.
pub(super) fn passphrase(entropy: &dyn Entropy) -> String {
    let text = data_encoding::BASE32_NOPAD.encode(&random::<16>(entropy)).to_ascii_lowercase();
    let groups: Vec<&str> =
        (0..text.len()).step_by(5).filter_map(|at| text.get(at..text.len().min(at + 5))).collect();
    groups.join("-")
}

/// Packs files into one archive: ZIP, each file encrypted with AES-256 (AE-2), so that common programs open it.
pub(super) fn archive(
    files: &[(&'static str, Vec<u8>)],
    passphrase: &str,
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, Trouble> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        // The passphrase carries 128 bits, so the few rounds of the format's key derivation do no harm.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .with_aes_encryption_and_salt(passphrase.as_bytes(), AesSalt::Aes256(random::<16>(entropy)));
        writer.start_file(*name, options).map_err(|_| Trouble::Package)?;
        writer.write_all(bytes).map_err(|_| Trouble::Package)?;
    }
    Ok(writer.finish().map_err(|_| Trouble::Package)?.into_inner())
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
