//! The JSON of steps, and names.

use std::collections::BTreeSet;

use idtrail_rights::{
    Case, Code, Command, Digest, Entry, Kind, Nonce, Plan, RightsError, State, Step, TRANSITIONS, Trigger,
    next,
};
use serde_json::{Value, json};

use crate::world::{Run, START_MS, hash, plan};

fn history() -> Vec<Entry> {
    let mut run = Run::new(Kind::Erasure, plan(Kind::Erasure, false));
    run.verify();
    run.approve();
    run.until(START_MS + 86_400_000);
    run.world.log
}

#[test]
fn unknown_members_and_other_spellings_are_refused() {
    let json = history()[1].to_json().unwrap();
    assert_eq!(json["eventType"], "DSR_IDENTITY_VERIFIED");
    let broken: [fn(&mut Value); 6] = [
        |json| json["more"] = json!(1),
        |json| json["data"]["more"] = json!(1),
        |json| json["eventType"] = json!("DSR_UNKNOWN"),
        |json| json["data"]["evidence"] = json!("AB".repeat(32)),
        |json| json["requestId"] = json!("a name with blanks"),
        |json| json["sequence"] = json!(-1),
    ];
    for change in broken {
        let mut changed = json.clone();
        change(&mut changed);
        assert_eq!(Entry::from_json(&changed), Err(RightsError::Json), "{changed}");
    }
}

#[test]
fn a_history_with_a_step_missing_repeated_or_changed_is_none() {
    let log = history();
    assert!(Case::fold(&log).is_ok());
    for at in 0..log.len() {
        let mut missing = log.clone();
        missing.remove(at);
        if at + 1 < log.len() {
            assert!(Case::fold(&missing).is_err(), "without step {at}");
        }
        let mut repeated = log.clone();
        let mut again = log[at].clone();
        again.sequence = log.len() as u64;
        repeated.push(again);
        let alarm = matches!(log[at].step, Step::Alarm(_));
        assert!(alarm || Case::fold(&repeated).is_err(), "step {at} again: {:?}", log[at].step.name());
    }
    // A closing that claims what the tasks do not add up to.
    let mut run = Run::new(Kind::Erasure, plan(Kind::Erasure, true));
    run.verify();
    run.approve();
    run.until(START_MS + 40 * 86_400_000);
    let mut log = run.world.log.clone();
    let Some(Step::Closed(closed)) = log.last_mut().map(|entry| &mut entry.step) else { panic!() };
    closed.outcome = idtrail_rights::Outcomes::Fulfilled;
    assert_eq!(Case::fold(&log), Err(RightsError::Outcome));
    let Some(Step::Closed(closed)) = log.last_mut().map(|entry| &mut entry.step) else { panic!() };
    closed.outcome = idtrail_rights::Outcomes::Partial;
    closed.open.clear();
    assert_eq!(Case::fold(&log), Err(RightsError::Outcome));
}

#[test]
fn the_table_reaches_every_state_and_names_only_steps_that_exist() {
    let mut reached: BTreeSet<State> = [State::Received, State::Verified].into();
    for _ in State::ALL {
        for row in TRANSITIONS {
            if let (Some(to), true) = (row.to, row.from.iter().any(|from| reached.contains(from))) {
                reached.insert(to);
            }
        }
    }
    // What is only shown is never stored.
    let shown = [State::WaitingExternal, State::Verifying];
    for state in State::ALL {
        assert_eq!(reached.contains(state), !shown.contains(state), "{state:?}");
    }
    for row in TRANSITIONS {
        if let Trigger::Step(name) = row.on {
            assert!(Step::NAMES.contains(&name), "{name}");
        }
    }
    for state in State::ALL.iter().filter(|state| state.is_closed()) {
        assert_eq!(next(*state, Trigger::Step("DSR_PLANNED")), None);
    }
}

#[test]
fn the_plan_s_hash_changes_with_everything_in_it() {
    let good = plan(Kind::Erasure, true);
    let changes: [fn(&mut Plan); 6] = [
        |plan| plan.kind = Kind::Restriction,
        |plan| plan.closure = hash(99),
        |plan| plan.interactions += 1,
        |plan| plan.items[0].count += 1,
        |plan| plan.items[0].scope = hash(98),
        |plan| plan.items.swap(0, 1),
    ];
    for change in changes {
        let mut changed = good.clone();
        change(&mut changed);
        assert_ne!(changed.hash(), good.hash());
    }
    let mut twice = good.clone();
    twice.items.push(twice.items[0].clone());
    assert_eq!((twice.check(), good.check()), (Err(RightsError::Plan), Ok(())));
}

#[test]
fn names_cannot_carry_a_sentence_and_the_nonce_is_not_shown() {
    for bad in ["", "a b", "ä", "a@b.example", &"x".repeat(65)] {
        assert!(Code::parse(bad).is_err(), "{bad}");
    }
    let nonce = Nonce::new([0xAB; 32]);
    assert_eq!(format!("{nonce:?}"), "Nonce(…)");
    assert_ne!(nonce.interaction("i-1"), nonce.interaction("i-2"));
    assert_ne!(nonce.interaction("i-1"), Nonce::new([0xAC; 32]).interaction("i-1"));
    assert_ne!(Digest::of("d", &[b"ab", b"c"]), Digest::of("d", &[b"a", b"bc"]));
    let _ = Command::Fetch;
}

#[test]
fn the_published_page_names_every_step_and_state() {
    let page = include_str!("../../../../docs/spec/rights.md");
    let rows = page.lines().filter(|line| line.starts_with("| `DSR_") || line.starts_with("| `TASK_"));
    let named: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(named, Step::NAMES, "the same steps in the same order");
    for state in State::ALL.iter().filter(|state| !state.name().starts_with("CLOSED")) {
        assert!(page.contains(state.name()), "{state:?}");
    }
    // Every member of every step of a whole request is in the page.
    for entry in history() {
        for member in entry.to_json().unwrap()["data"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("`{member}`")), "{member} of {}", entry.step.name());
        }
    }
}

#[test]
fn the_log_numbers_the_steps_in_the_order_of_their_table() {
    let steps: Vec<_> = idtrail_event::TypeCode::ALL
        .iter()
        .filter(|code| code.is_rights_step())
        .map(ToString::to_string)
        .collect();
    assert_eq!(steps, Step::NAMES);
    for name in Step::NAMES {
        let code = idtrail_event::TypeCode::by_name(name).unwrap();
        assert_eq!(code.class(), idtrail_event::ClassId::RIGHTS, "{name}");
        assert_eq!(code.poster(), idtrail_event::Poster::System, "{name}");
    }
}
