//! What a log may sign: honest answers of every kind, and dishonest ones that still show.

use idtrail_verify::{DateRange, EventKeys, Outcome, StaffState, SystemStatus, Verdict, time_text};
use serde_json::{Value, json};

use crate::package::{check, place};
use crate::rig::{self, Log, OLDER, ORIGIN, answer, entry, foreign, policy, sign};

#[test]
fn nobody_found_is_an_answer() {
    let mut package = answer(&[(&rig::log(), &[])]);
    package.customer = None;
    let report = check(&sign(package), &policy(&[ORIGIN]));
    assert_eq!((report.verdict, report.checked_events), (Verdict::Verified, 0), "{report:#?}");
    assert!(report.summary.contains("no customer"));
}

#[test]
fn staff_may_be_withheld() {
    let mut package = answer(&[(&rig::log(), &[2, 5])]);
    let event = &mut package.events[0];
    event.keys.staff = None;
    event.staff = StaffState::Closed;
    event.audit_event.remove("agentId");
    let report = check(&sign(package), &policy(&[ORIGIN]));
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
    assert!(report.not_covered.iter().any(|text| text.contains("Staff")));
}

#[test]
fn an_event_of_somebody_else_shows() {
    let report = check(&sign(answer(&[(&rig::log(), &[2, 3, 5])])), &policy(&[ORIGIN]));
    assert_eq!((report.verdict, place(&report)), (Verdict::Tampered, Some((ORIGIN, 3))), "{report:#?}");
}

#[test]
fn a_gap_in_the_numbers_shows() {
    let mut entries = vec![foreign(); 5];
    for (index, sequence) in [(1, 3), (2, 4), (4, 7)] {
        entries[index] = entry(rig::deletion(), sequence);
    }
    let log = Log::new(ORIGIN, &entries);
    let mut package = answer(&[(&log, &[1, 2, 4])]);
    let report = check(&sign(package.clone()), &policy(&[ORIGIN]));
    assert_eq!((report.verdict, place(&report)), (Verdict::Incomplete, Some((ORIGIN, 4))), "{report:#?}");
    assert!(report.summary.contains("2 events of this customer between 2 and 4"), "{report:#?}");
    assert!(
        report.not_covered.iter().any(|text| text.contains("3 of this customer came before")),
        "{report:#?}"
    );

    package.request.date_range =
        Some(DateRange { start: "2023-01-01T00:00:00Z".to_owned(), end: "2024-01-01T00:00:00Z".to_owned() });
    let report = check(&sign(package), &policy(&[ORIGIN]));
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
    assert!(report.steps.iter().any(|step| step.name == "sequence" && step.outcome == Outcome::Skipped));
}

#[test]
fn numbers_out_of_order_show() {
    let log = Log::new(ORIGIN, &[entry(rig::deletion(), 1), entry(rig::deletion(), 1)]);
    let report = check(&sign(answer(&[(&log, &[0, 1])])), &policy(&[ORIGIN]));
    assert_eq!((report.verdict, place(&report)), (Verdict::Incomplete, Some((ORIGIN, 1))), "{report:#?}");
}

#[test]
fn a_system_without_an_answer_is_named() {
    for (status, part) in
        [(SystemStatus::NotAsked, "crm was not asked"), (SystemStatus::Unreachable, "crm could not")]
    {
        let mut package = answer(&[(&rig::log(), &[2, 5])]);
        package.coverage.complete = false;
        package.coverage.systems[1].status = status;
        package.coverage.systems[1].reason = Some("503".to_owned());
        let report = check(&sign(package), &policy(&[ORIGIN]));
        assert_eq!(report.verdict, Verdict::Incomplete, "{report:#?}");
        assert!(report.summary.contains(part), "{report:#?}");
    }
    let mut package = answer(&[(&rig::log(), &[2, 5])]);
    package.coverage.complete = false;
    assert_eq!(check(&sign(package), &policy(&[ORIGIN])).verdict, Verdict::Incomplete);
}

#[test]
fn an_answer_may_span_logs() {
    let older = Log::new(OLDER, &[foreign(), entry(rig::identification(), 0)]);
    let package = sign(answer(&[(&older, &[1]), (&rig::log(), &[2, 5])]));
    let report = check(&package, &policy(&[OLDER, ORIGIN]));
    assert_eq!((report.verdict, report.checked_events), (Verdict::Verified, 3), "{report:#?}");

    for (pinned, missing, checked) in [(ORIGIN, OLDER, 2), (OLDER, ORIGIN, 1)] {
        let report = check(&package, &policy(&[pinned]));
        assert_eq!((report.verdict, report.checked_events), (Verdict::Incomplete, checked), "{report:#?}");
        assert!(report.summary.contains(missing), "{report:#?}");
    }
}

#[test]
fn an_event_nested_as_deep_as_allowed_is_verified() {
    // The body and `auditEvent` are two levels, 30 arrays the rest; beside `auditEvent` there is room for one more.
    let mut deep: Value = json!(1);
    for _ in 0..30 {
        deep = json!([deep]);
    }
    let mut body = rig::deletion();
    body["auditEvent"]["deep"] = deep.clone();
    body["deep"] = json!([deep]);
    idtrail_event::parse_json(body.to_string().as_bytes(), idtrail_event::JsonLimits::EVENT).unwrap();
    let log = Log::new(ORIGIN, &[entry(body, 0)]);
    let report = check(&sign(answer(&[(&log, &[0])])), &policy(&[ORIGIN]));
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
}

#[test]
fn a_manifest_may_be_longer_than_a_checkpoint() {
    // A long name, so that few events make a long list.
    let origin = format!("example.com/{}", "l".repeat(110));
    let entries: Vec<_> = (0..6_000).map(|sequence| entry(rig::deletion(), sequence)).collect();
    let log = Log::new(&origin, &entries);
    let indices: Vec<u64> = (0..log.size()).collect();
    let mut package = sign(answer(&[(&log, &indices)]));
    assert!(package.manifest.as_ref().is_some_and(|note| note.len() > 1_000_000));
    let report = check(&package, &policy(&[&origin]));
    assert_eq!((report.verdict, report.checked_events), (Verdict::Verified, 6_000), "{}", report.summary);
    package.events.remove(999);
    let report = check(&package, &policy(&[&origin]));
    assert_eq!((report.verdict, place(&report)), (Verdict::Incomplete, Some((origin.as_str(), 999))));
}

#[test]
fn times_have_three_decimals() {
    for (time_ms, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_769_869_800_123, "2026-01-31T14:30:00.123Z"),
        (1_769_869_800_120, "2026-01-31T14:30:00.120Z"),
    ] {
        assert_eq!(time_text(time_ms), text);
    }
}

#[test]
fn debug_output_shows_nothing_personal() {
    let package = rig::package();
    let keys: EventKeys = package.events[0].keys.clone();
    let text = format!("{package:?} {:?} {keys:?}", package.events[0]);
    for secret in ["agent-4711", "cust_hash", keys.event.as_deref().unwrap(), "gc_"] {
        assert!(!text.contains(secret), "{text}");
    }
}
