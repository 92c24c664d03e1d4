//! What somebody may do to a signed package on its way, and what the verifier says.

use idtrail_tlog::{Policy, SignerKey};
use idtrail_verify::{
    Outcome, Package, Report, StaffState, SystemStatus, Verdict, sign_manifest, verify, verify_package,
};
use serde_json::json;

use crate::rig::{self, ORIGIN, entry, file, policy, sign};

pub(crate) fn check(package: &Package, policy: &Policy) -> Report {
    verify_package(&file(package), policy)
}

pub(crate) fn place(report: &Report) -> Option<(&str, u64)> {
    report.first_bad.as_ref().map(|place| (place.origin.as_str(), place.index))
}

#[test]
fn what_the_log_signed_is_verified() {
    let report = check(&rig::package(), &policy(&[ORIGIN]));
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
    assert_eq!((report.checked_events, place(&report)), (2, None));
    assert!(report.steps.iter().all(|step| step.outcome == Outcome::Ok), "{report:#?}");
    let names: Vec<_> = report.steps.iter().map(|step| step.name).collect();
    assert_eq!(
        names,
        ["format", "policy", "checkpoints", "asOf", "events", "manifest", "sequence", "coverage"]
    );
    assert_eq!(verify(&file(&rig::package()), &policy(&[ORIGIN])), report);
    assert_eq!(serde_json::to_value(&report).unwrap()["verdict"], "VERIFIED");
}

#[test]
fn the_exit_codes_are_fixed() {
    let all = [Verdict::Verified, Verdict::Tampered, Verdict::Incomplete, Verdict::CouldNotCheck];
    assert_eq!(all.map(Verdict::exit_code), [0, 1, 3, 4]);
}

pub(crate) type Case = (&'static str, fn(&mut Package), Verdict, Option<u64>, &'static str);

/// Name, change of the signed package, verdict, index, and a part of the summary.
#[rustfmt::skip] // One case a line: a table to read, not code.
pub(crate) const CHANGES: &[Case] = &[
    ("first event dropped", |p| drop(p.events.remove(0)), Verdict::Incomplete, Some(2), "event 2 of example.com/log is missing"),
    ("last event dropped", |p| drop(p.events.pop()), Verdict::Incomplete, Some(5), "event 5 of example.com/log is missing"),
    ("all events dropped", |p| p.events.clear(), Verdict::Incomplete, Some(2), "event 2"),
    ("events swapped", |p| p.events.swap(0, 1), Verdict::Tampered, Some(5), "another place"),
    ("event repeated", |p| p.events.push(p.events[0].clone()), Verdict::Tampered, Some(2), "twice"),
    ("event added", |p| p.events.push(rig::log().event(3)), Verdict::Tampered, Some(3), "another customer"),
    ("checkpoint by another key", |p| p.checkpoints[0].checkpoint = forged(), Verdict::Tampered, None, "no pinned key"),
    ("checkpoint broken", |p| p.checkpoints[0].checkpoint.truncate(20), Verdict::Tampered, None, "cannot be read"),
    ("checkpoint of another size", |p| p.checkpoints[0].checkpoint = shorter_log().signed_checkpoint(), Verdict::Tampered, None, "asOf differs"),
    ("checkpoint removed", |p| p.checkpoints.clear(), Verdict::Tampered, None, "one checkpoint for each log"),
    ("checkpoint renamed", |p| p.checkpoints[0].origin = "x".to_owned(), Verdict::Tampered, None, "another log"),
    ("log named twice", |p| { p.as_of.push(p.as_of[0].clone()); p.checkpoints.push(p.checkpoints[0].clone()) }, Verdict::Tampered, None, "twice"),
    ("older manifest", |p| p.manifest = older().manifest, Verdict::Tampered, None, "differ from those that the log signed"),
    ("manifest removed", |p| p.manifest = None, Verdict::Incomplete, None, "no manifest"),
    ("manifest cut", |p| p.manifest.as_mut().unwrap().truncate(200), Verdict::Tampered, None, "not a signed note"),
    ("checkpoint as manifest", |p| p.manifest = Some(p.checkpoints[0].checkpoint.clone()), Verdict::Tampered, None, "no valid signature"),
    ("request changed", |p| p.request.customer_id_hash.replace_range(0..1, "b"), Verdict::Tampered, None, "request, customer"),
    ("tier changed", |p| p.customer.as_mut().unwrap().tier = "PROBABLE".to_owned(), Verdict::Tampered, None, "request, customer"),
    ("coverage count changed", |p| p.coverage.systems[0].events = 3, Verdict::Tampered, None, "coverage differ"),
    ("coverage system dropped", |p| drop(p.coverage.systems.pop()), Verdict::Tampered, None, "coverage differ"),
    ("size changed", |p| p.as_of[0].size = 8, Verdict::Tampered, None, "asOf differs"),
    ("root changed", |p| p.as_of[0].root_hash = "00".repeat(32), Verdict::Tampered, None, "asOf differs"),
    ("text changed", |p| set(p, 0, "queueId", "q-other"), Verdict::Tampered, Some(2), "auditEvent/queueId differs"),
    ("member added", |p| set(p, 1, "note", "x"), Verdict::Tampered, Some(5), "auditEvent/note differs"),
    ("member removed", |p| drop(p.events[0].audit_event.remove("timestamp")), Verdict::Tampered, Some(2), "auditEvent/timestamp"),
    ("staff changed", |p| set(p, 0, "agentId", "agent-1"), Verdict::Tampered, Some(2), "auditEvent/agentId"),
    ("other members dropped", |p| p.events[0].other_members = None, Verdict::Tampered, Some(2), "otherMembers"),
    ("other members added", |p| p.events[1].other_members = Some(serde_json::Map::new()), Verdict::Tampered, Some(5), "otherMembers"),
    ("receipt time changed", |p| p.events[1].received_at.replace_range(0..4, "2024"), Verdict::Tampered, Some(5), "receivedAt"),
    ("event id changed", |p| p.events[0].event_id.push('0'), Verdict::Tampered, Some(2), "eventId"),
    ("source changed", |p| p.events[0].source = "system".to_owned(), Verdict::Tampered, Some(2), "source"),
    ("system changed", |p| p.events[0].system = "erp".to_owned(), Verdict::Tampered, Some(2), "system"),
    ("staff state changed", |p| p.events[0].staff = StaffState::Closed, Verdict::Tampered, Some(2), "staff"),
    ("staff key removed", |p| p.events[0].keys.staff = None, Verdict::Tampered, Some(2), "staff"),
    ("staff key without staff", |p| p.events[1].keys.staff = p.events[0].keys.staff.clone(), Verdict::Tampered, Some(5), "no staff section"),
    ("keys of another event", |p| p.events[1].keys.event = p.events[0].keys.event.clone(), Verdict::Tampered, Some(5), "key of the event"),
    ("staff key is another", |p| p.events[0].keys.staff = p.events[0].keys.event.clone(), Verdict::Tampered, Some(2), "key of the staff section"),
    ("key missing", |p| p.events[0].keys.event = None, Verdict::Incomplete, Some(2), "key is not in the file"),
    ("keys missing", |p| p.events[1].keys = Default::default(), Verdict::Incomplete, Some(5), "key is not in the file"),
    ("key of another length", |p| p.events[0].keys.event = Some("AAAA".to_owned()), Verdict::Tampered, Some(2), "32 bytes"),
    ("leaf exchanged", |p| p.events[1].leaf = p.events[0].leaf.clone(), Verdict::Tampered, Some(5), "bytes hash to"),
    ("leaf and hash exchanged", |p| { p.events[1].leaf = p.events[0].leaf.clone(); p.events[1].leaf_hash = p.events[0].leaf_hash.clone() }, Verdict::Tampered, Some(5), "not proved"),
    ("proof cut", |p| drop(p.events[0].proof.pop()), Verdict::Tampered, Some(2), "not proved"),
    ("proof lengthened", |p| p.events[0].proof.push("A".repeat(43) + "="), Verdict::Tampered, Some(2), "not proved"),
    ("proof no hash", |p| p.events[0].proof[0].push('='), Verdict::Tampered, Some(2), "no hash"),
    ("index changed", |p| p.events[0].index = 3, Verdict::Tampered, Some(3), "not proved"),
    ("index out of range", |p| p.events[0].index = 7, Verdict::Tampered, Some(7), "not proved"),
    ("log changed", |p| p.events[0].origin = "x".to_owned(), Verdict::Tampered, Some(2), "not among those"),
    ("customer removed", |p| p.customer = None, Verdict::Tampered, Some(2), "another customer"),
    ("format newer", |p| p.format = "idtrail-evidence/2".to_owned(), Verdict::CouldNotCheck, None, "version"),
    ("format other", |p| p.format = "x".to_owned(), Verdict::CouldNotCheck, None, "neither"),
    ("size beyond 2^53", |p| p.as_of[0].size = 1 << 53, Verdict::CouldNotCheck, None, "2^53"),
    ("no log", |p| { p.as_of.clear(); p.checkpoints.clear() }, Verdict::CouldNotCheck, None, "names no log"),
    ("dropped and changed", |p| { p.events.remove(0); set(p, 0, "status", "FAILED") }, Verdict::Tampered, Some(5), "auditEvent/status"),
];

fn set(package: &mut Package, at: usize, name: &str, value: &str) {
    package.events[at].audit_event.insert(name.to_owned(), json!(value));
}

fn forged() -> String {
    rig::log().checkpoint().sign(&SignerKey::from_seed(ORIGIN, &[66; 32]).unwrap())
}

fn shorter_log() -> rig::Log {
    rig::Log::new(ORIGIN, &vec![rig::foreign(); 3])
}

/// An answer that the log gave when it had fewer leaves.
fn older() -> Package {
    let mut entries = vec![rig::foreign(); 4];
    entries[2] = entry(rig::identification(), 0);
    sign(rig::answer(&[(&rig::Log::new(ORIGIN, &entries), &[2])]))
}

#[test]
fn every_change_on_the_way_has_its_verdict() {
    for (name, change, verdict, index, text) in CHANGES {
        let mut package = rig::package();
        change(&mut package);
        let report = check(&package, &policy(&[ORIGIN]));
        assert_eq!(report.verdict, *verdict, "{name}: {report:#?}");
        assert_eq!(place(&report).map(|(_, index)| index), *index, "{name}: {report:#?}");
        assert!(report.summary.contains(text), "{name}: {report:#?}");
        assert!(!report.meaning.is_empty());
    }
}

#[test]
fn says_how_much_is_intact() {
    let mut package = rig::package();
    set(&mut package, 0, "queueId", "q-other");
    assert_eq!(check(&package, &policy(&[ORIGIN])).checked_events, 1);
}

#[test]
fn nothing_is_judged_without_a_pinned_key() {
    let report = check(&rig::package(), &policy(&["example.com/another"]));
    assert_eq!(report.verdict, Verdict::CouldNotCheck);
    assert!(report.summary.contains(ORIGIN), "{report:#?}");
    // A forger who signs everything with his own key gets no further.
    let mut package = rig::package();
    set(&mut package, 0, "queueId", "q-other");
    assert_eq!(check(&package, &policy(&["example.com/another"])).verdict, Verdict::CouldNotCheck);
}

#[test]
fn a_pinned_key_of_a_type_that_cannot_sign_is_as_good_as_none() {
    // Type 0xff is kept by the policy but verifies nothing.
    let policy = Policy::parse(&format!("log {ORIGIN}+00000000+/w==\nquorum none\n")).unwrap();
    let report = check(&rig::package(), &policy);
    assert_eq!(report.verdict, Verdict::CouldNotCheck, "{report:#?}");
}

#[test]
fn a_pinned_key_of_the_same_name_but_another_refuses_everything() {
    let other = Policy::log_only(SignerKey::from_seed(ORIGIN, &[66; 32]).unwrap().verifier());
    let report = check(&rig::package(), &other);
    assert_eq!(report.verdict, Verdict::Tampered, "{report:#?}");
    assert_eq!(report.checked_events, 0);
}

#[test]
fn witnesses_are_asked_for_by_the_policy() {
    let policy = rig::witness_policy();
    let report = check(&rig::package(), &policy);
    assert_eq!(report.verdict, Verdict::Incomplete, "{report:#?}");
    assert_eq!(report.checked_events, 2, "all else is checked nevertheless");
    assert!(report.summary.contains("too few witnesses"));

    let mut package = rig::package();
    let text = rig::log().checkpoint().to_text();
    package.checkpoints[0].checkpoint += &rig::witness().cosign(&text, 1_700_000_000);
    let report = check(&sign(package.clone()), &policy);
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
    // Cosigned later than the manifest was made: the checkpoint's text is covered, so this is a change.
    assert_eq!(check(&package, &policy).verdict, Verdict::Tampered);
}

#[test]
fn tampering_weighs_more_than_a_gap() {
    let mut package = rig::package();
    package.coverage.complete = false;
    package.coverage.systems[1].status = SystemStatus::Unreachable;
    let report = check(&package, &rig::witness_policy());
    assert_eq!(report.verdict, Verdict::Tampered, "{report:#?}");
}

fn nobody() -> Package {
    let mut package = rig::answer(&[(&rig::log(), &[])]);
    package.customer = None;
    sign(package)
}

#[test]
fn files_with_two_readings_or_none_are_not_judged() {
    let good = String::from_utf8(file(&rig::package())).unwrap();
    let twice = good.replacen("\"tier\"", "\"tier\": \"VERIFIED\", \"tier\"", 1);
    let inner = good.replacen("\"queueId\"", "\"queueId\": \"q-x\", \"queueId\"", 1);
    let integer = good.replacen("\"confidence\": 0.1", "\"confidence\": 18446744073709551616", 1);
    let unknown = good.replacen("\"tier\"", "\"name\": \"x\", \"tier\"", 1);
    let silent = String::from_utf8(file(&nobody())).unwrap().replacen("\"customer\": null,", "", 1);
    let cases = [
        (silent.as_str(), "missing"),
        ("", "one meaning"),
        ("[]", "not a JSON object"),
        ("{}", "neither"),
        ("\u{feff}{}", "one meaning"),
        (&good[..good.len() - 2], "ends too early"),
        (&format!("{good} x"), "one meaning"),
        (&twice, "twice"),
        (&inner, "twice"),
        (&integer, "64 bits"),
        (&unknown, "unknown"),
    ];
    for (text, part) in cases {
        let report = verify(text.as_bytes(), &policy(&[ORIGIN]));
        assert_eq!(report.verdict, Verdict::CouldNotCheck, "{report:#?}");
        assert!(report.summary.contains(part), "{part}: {report:#?}");
    }
}

#[test]
fn the_signer_must_be_the_evidence_key_of_the_last_log() {
    let mut package = rig::package();
    let before = package.clone();
    assert!(sign_manifest(&mut package, &rig::key(ORIGIN)).is_err());
    assert!(package == before);
    package.as_of.clear();
    assert!(sign_manifest(&mut package, &rig::evidence_signer(ORIGIN)).is_err());
}
