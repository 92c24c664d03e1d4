//! Reports over many requests.

use idtrail_rights::report::{deadlines, figures, figures_csv};
use idtrail_rights::{Case, Command, Kind};

use crate::world::{HOUR_MS, Run, START_MS, code, hash, plan, settings};

const DAY_MS: u64 = 24 * HOUR_MS;

fn day(text: &str) -> jiff::civil::Date {
    text.parse().unwrap()
}

fn cases() -> Vec<Case> {
    let mut done = Run::under(Kind::Access, "ccpa", plan(Kind::Access, false));
    done.until(START_MS + 2 * DAY_MS);
    done.verify();
    done.say("dpo-1", Command::Review(hash(1), 0)).unwrap();
    let mut late = Run::under(Kind::Access, "ccpa", plan(Kind::Access, false));
    late.until(START_MS + 50 * DAY_MS);
    late.verify();
    late.say("dpo-1", Command::Review(hash(1), 0)).unwrap();
    let mut denied = Run::under(Kind::Access, "ccpa", plan(Kind::Access, false));
    denied.until(START_MS + 4 * DAY_MS);
    denied.say("dpo-1", Command::Deny(code("fraud"), hash(1))).unwrap();
    let mut partial = Run::new(Kind::Erasure, plan(Kind::Erasure, true));
    partial.verify();
    partial.approve();
    partial.until(START_MS + 40 * DAY_MS);
    let mut withdrawn = Run::new(Kind::Erasure, plan(Kind::Erasure, false));
    withdrawn.say("desk", Command::Withdraw(hash(1))).unwrap();
    let open = Run::new(Kind::Erasure, plan(Kind::Erasure, false));
    let mut paused = Run::new(Kind::Access, plan(Kind::Access, false));
    paused.say("desk", Command::Pause(code("identity"), hash(1))).unwrap();
    let runs = [done, late, denied, partial, withdrawn, open, paused];
    runs.into_iter().map(|run| run.case().clone()).collect()
}

#[test]
fn figures_are_those_that_the_california_regulations_ask_for() {
    let all = figures(&cases(), &settings(), day("2026-01-01"), day("2026-12-31"));
    let access = &all[&("ccpa".to_owned(), Kind::Access)];
    assert_eq!((access.received, access.complied, access.denied, access.late, access.open), (3, 2, 1, 1, 0));
    assert_eq!((access.median_days, access.mean_days), (Some(4.0), Some(56.0 / 3.0)));
    assert_eq!(access.denied_by_reason["fraud"], 1);
    let erasure = &all[&("gdpr".to_owned(), Kind::Erasure)];
    let counts = (erasure.received, erasure.complied_in_part, erasure.withdrawn, erasure.open, erasure.late);
    assert_eq!(counts, (3, 1, 1, 1, 0));
    let csv = figures_csv(&all);
    assert!(
        csv.contains("\"ccpa\",\"ACCESS\",\"3\",\"2\",\"0\",\"1\",\"0\",\"0\",\"0\",\"1\",\"4.0\",\"18.7\""),
        "{csv}"
    );
    assert!(figures(&cases(), &settings(), day("2025-01-01"), day("2025-12-31")).is_empty());
}

#[test]
fn the_most_urgent_request_stands_first_and_a_standing_clock_last() {
    let list = deadlines(&cases(), &settings(), day("2026-10-20"));
    // The two delivered ones are open until their links end; they were answered and have no date.
    let dated: Vec<_> =
        list.iter().filter_map(|entry| Some((entry.kind, entry.respond_by?, entry.days_left?))).collect();
    assert_eq!(dated, [(Kind::Erasure, day("2026-10-21"), 1)]);
    assert!(list[0].guessed, "no holidays are configured");
    let paused = list.iter().find(|entry| entry.paused).unwrap();
    assert_eq!((paused.respond_by, paused.days_left), (None, None));
    assert!(list.iter().all(|entry| !entry.unknown_regime));
}
