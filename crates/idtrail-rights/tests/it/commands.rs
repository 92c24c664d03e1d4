//! What people may say when, and whole requests without faults.

use idtrail_rights::{
    Basis, Command, DateName, Effect, Finding, Kind, Level, Outcomes, Refusal, State, Status, Step,
    duplicate_of, waits_for_access,
};

use crate::world::{HOUR_MS, Run, START_MS, code, hash, hold, item, plan, who};

const DAY_MS: u64 = 24 * HOUR_MS;

fn erasure(manual: bool) -> Run {
    let mut run = Run::new(Kind::Erasure, plan(Kind::Erasure, manual));
    run.verify();
    run
}

#[test]
fn an_erasure_ends_fulfilled_after_every_system_was_looked_at() {
    let mut run = erasure(false);
    assert_eq!(run.case().state, State::Planned);
    run.approve();
    assert_eq!(run.case().state, State::Approved, "the grace is not over");
    run.until(START_MS + 10 * HOUR_MS);
    assert_eq!(run.case().state, State::ClosedFulfilled, "{:#?}", run.case());
    assert!(run.world.objects.values().all(|left| *left == 0));
    assert_eq!(run.case().status(&run.case().items[&item("empty/rows")]), Status::NotFound);
    assert_eq!(run.case().status(&run.case().items[&item("idtrail/leaves")]), Status::VerifiedAbsent);
    let written: Vec<&str> = run.world.deletions.keys().map(|item| item.as_str()).collect();
    assert_eq!(written, ["crm/contact", "idtrail/leaves", "mail/profile", "slow/recordings"]);
    assert!(run.world.deletions.values().all(|count| *count == 1));
    assert_eq!((run.case().shreds.len(), run.case().certificates.len()), (1, 1));
    let at = |name: &str| run.world.log.iter().position(|entry| entry.step.name() == name).unwrap();
    assert!(at("DSR_APPROVED2") < at("DSR_FROZEN") && at("DSR_FROZEN") < at("DSR_RECEIPTED"));
}

#[test]
fn two_different_people_approve_what_they_saw() {
    let mut run = erasure(false);
    let seen = run.plan_hash();
    assert_eq!(run.say("dpo-1", Command::Approve(hash(7))), Err(Refusal::PlanChanged));
    run.say("dpo-1", Command::Approve(seen)).unwrap();
    assert_eq!(run.case().state, State::ApprovalPending);
    assert_eq!(run.say("dpo-1", Command::Approve(seen)), Err(Refusal::SamePrincipal));
    // The identities changed: both must look again.
    run.say("system", Command::DropPlan(seen, code("identity-changed"))).unwrap();
    assert_eq!((run.case().state, run.case().approvals.len()), (State::Planned, 0));
    run.say("dpo-1", Command::Approve(seen)).unwrap();
    run.say("dpo-2", Command::Approve(seen)).unwrap();
    assert_eq!(run.case().state, State::Approved);
    run.say("desk", Command::Withdraw(hash(8))).unwrap();
    assert_eq!(run.case().state, State::Withdrawn);
    run.until(START_MS + DAY_MS);
    assert!(run.world.objects.values().any(|left| *left > 0), "nothing was erased");
}

#[test]
fn a_half_verified_requester_gets_nothing_and_a_failing_one_is_stopped() {
    let mut run = Run::new(Kind::Erasure, plan(Kind::Erasure, false));
    run.settings.levels = [(Kind::Erasure, Level::TwoChannels)].into();
    // The level was fixed when the request came in.
    let mut entry = crate::world::opening(Kind::Erasure, "gdpr");
    let Step::Received(received) = &mut entry.step else { panic!() };
    received.verification = Level::TwoChannels;
    run.world.log = vec![entry];
    run.engine = run.world.engine();
    run.verify();
    assert_eq!((run.case().state, run.case().level), (State::IdentityPending, Level::OneChannel));
    for _ in 0..run.settings.verification_failures_max {
        run.say("desk", Command::FailVerification(code("otp-sms"))).unwrap();
    }
    let again = Command::Verify(Level::TwoChannels, code("otp-sms"), hash(1));
    assert_eq!(run.say("desk", again), Err(Refusal::TooManyFailures));
    run.say("dpo-1", Command::Deny(code("unverified"), hash(2))).unwrap();
    assert_eq!(run.case().state, State::Denied);
}

#[test]
fn a_hold_in_mid_run_leaves_the_request_partial_until_it_is_released() {
    let mut run = erasure(false);
    run.approve();
    run.say(
        "legal",
        Command::SetHold(hold("h-1"), vec![item("idtrail/leaves"), item("crm/contact")], code("claims")),
    )
    .unwrap();
    run.world.held = [item("idtrail/leaves"), item("crm/contact")].into();
    run.until(START_MS + 10 * HOUR_MS);
    assert_eq!(run.case().state, State::ClosedPartial);
    let open = run.case().open_items();
    let shown: Vec<_> =
        open.iter().map(|open| (open.item.as_str(), open.status.as_str(), open.reason.as_deref())).collect();
    assert_eq!(shown, [("crm/contact", "HELD", Some("h-1")), ("idtrail/leaves", "HELD", Some("h-1"))]);
    assert_eq!((run.world.objects[&item("crm/contact")], run.world.epoch), (2, 1));
    assert!(run.world.protected.contains(&item("crm/contact")), "its system was told to keep it");
    run.world.held.clear();
    run.say("legal", Command::ReleaseHold(hold("h-1"))).unwrap();
    run.until(START_MS + 20 * HOUR_MS);
    assert_eq!(run.case().state, State::ClosedFulfilled);
    assert_eq!((run.case().outcome(), run.case().certificates.len()), (Outcomes::Fulfilled, 2));
    assert!(run.world.deletions.values().all(|count| *count == 1), "one leaf for each, over both passes");
    assert_eq!(run.world.deletions.len(), 4);
}

#[test]
fn a_person_attests_what_no_connector_reaches() {
    let mut run = erasure(true);
    run.approve();
    run.until(START_MS + 10 * HOUR_MS);
    assert_eq!(run.case().shown_state(), State::WaitingExternal);
    let attest = Command::Attest(item("paper/file"), 1, hash(1));
    assert_eq!(
        run.say("x", Command::Attest(item("crm/contact"), 1, hash(1))),
        Err(Refusal::Item("VERIFIED_ABSENT"))
    );
    run.say("archivist", attest).unwrap();
    run.until(START_MS + 11 * HOUR_MS);
    assert_eq!(run.case().state, State::ClosedFulfilled);
    assert_eq!(run.case().status(&run.case().items[&item("paper/file")]), Status::ManualAttested);
}

#[test]
fn what_is_missing_at_the_due_date_is_named_and_the_keys_go_all_the_same() {
    let mut run = erasure(true);
    run.approve();
    run.until(START_MS + 40 * DAY_MS);
    assert_eq!(run.case().state, State::ClosedPartial);
    let open: Vec<_> =
        run.case().open_items().into_iter().map(|open| (open.item.to_string(), open.status)).collect();
    assert_eq!(open, [("paper/file".to_owned(), "MANUAL_PENDING".to_owned())]);
    assert_eq!(run.case().shreds.len(), 1);
    let due = run.settings.zone.end_of_day_ms("2026-10-21".parse().unwrap()).unwrap();
    assert!(run.case().answered_ms.unwrap() < due, "answered in time");
    assert!(!run.world.own.values().any(|(effect, _)| *effect == Effect::Destroy));
    run.say("archivist", Command::Attest(item("paper/file"), 1, hash(1))).unwrap();
    run.until(START_MS + 41 * DAY_MS);
    assert_eq!(run.case().state, State::ClosedFulfilled);
    assert_eq!(run.world.deletions[&item("paper/file")], 1);
}

#[test]
fn a_system_that_ends_after_the_due_date_leads_to_a_second_certificate_by_itself() {
    let mut run = erasure(false);
    run.world.slow_until_ms = START_MS + 45 * DAY_MS;
    run.approve();
    run.until(START_MS + 40 * DAY_MS);
    assert_eq!((run.case().state, run.case().certificates.len()), (State::ClosedPartial, 1));
    assert_eq!(run.case().open_items()[0].item, item("slow/recordings"));
    run.until(START_MS + 47 * DAY_MS);
    assert_eq!((run.case().state, run.case().certificates.len()), (State::ClosedFulfilled, 2));
    assert!(run.world.deletions.values().all(|count| *count == 1));
}

#[test]
fn a_request_that_is_late_already_is_carried_out_all_the_same() {
    for kind in Kind::ALL {
        let mut run = Run::new(kind, plan(kind, false));
        run.until(START_MS + 50 * DAY_MS);
        run.verify();
        if kind.is_reading() {
            run.until(START_MS + 51 * DAY_MS);
            run.say("dpo-1", Command::Review(hash(1), 0)).unwrap();
        } else {
            run.approve();
        }
        run.until(START_MS + 60 * DAY_MS);
        assert_eq!(run.case().state, State::ClosedFulfilled, "{kind:?}: {:?}", run.case().open_items());
    }
}

#[test]
fn an_exemption_is_per_item_and_has_a_basis() {
    let mut run = erasure(false);
    run.say("legal", Command::Exempt(item("mail/profile"), Basis::LegalObligation, hash(1))).unwrap();
    run.approve();
    run.until(START_MS + 10 * HOUR_MS);
    assert_eq!(run.case().state, State::ClosedFulfilled);
    assert_eq!(run.world.objects[&item("mail/profile")], 1);
    let status = run.case().status(&run.case().items[&item("mail/profile")]);
    assert_eq!(status.reason().as_deref(), Some("17(3)(b)"));
}

#[test]
fn access_is_collected_reviewed_delivered_and_ends_with_its_link() {
    let mut run = Run::new(Kind::Access, plan(Kind::Access, false));
    run.verify();
    assert_eq!((run.case().state, run.case().shown_state()), (State::Collecting, State::Review));
    run.say("dpo-1", Command::Review(hash(1), 3)).unwrap();
    assert_eq!(run.case().state, State::Delivered);
    for count in 1..=run.settings.fetches_max {
        assert_eq!(run.case().delivery.fetches, count - 1);
        run.say("link", Command::Fetch).unwrap();
    }
    assert_eq!(run.say("link", Command::Fetch), Err(Refusal::LinkEnded));
    assert_eq!(run.case().state, State::ClosedFulfilled);
    assert_eq!(run.world.objects[&item("crm/contact")], 2, "reading changes nothing");

    let mut unfetched = Run::new(Kind::Access, plan(Kind::Access, false));
    unfetched.verify();
    unfetched.say("dpo-1", Command::Review(hash(1), 0)).unwrap();
    unfetched.until(START_MS + 8 * DAY_MS);
    assert_eq!(unfetched.case().state, State::ClosedFulfilled);
    assert_eq!(unfetched.say("link", Command::Fetch), Err(Refusal::LinkEnded));
}

#[test]
fn a_package_may_leave_without_what_only_a_person_could_add() {
    let mut run = Run::new(Kind::Access, plan(Kind::Access, true));
    run.verify();
    run.say("dpo-1", Command::Review(hash(1), 0)).unwrap();
    run.until(START_MS + 8 * DAY_MS);
    assert_eq!(run.case().state, State::ClosedPartial);
    assert_eq!(run.case().open_items()[0].item, item("paper/file"));
}

#[test]
fn rectification_restriction_and_objection_are_done_and_looked_at() {
    for kind in [Kind::Rectification, Kind::Restriction, Kind::Objection] {
        let mut run = Run::new(kind, plan(kind, false));
        run.verify();
        run.approve();
        run.until(START_MS + 10 * HOUR_MS);
        assert_eq!(run.case().state, State::ClosedFulfilled, "{kind:?}");
        assert!(run.world.deletions.is_empty() && run.world.shredded.is_empty(), "{kind:?}");
    }
}

#[test]
fn clocks_are_stopped_extended_and_warned_about() {
    let mut run = Run::new(Kind::Erasure, plan(Kind::Erasure, false));
    run.say("desk", Command::Pause(code("identity"), hash(1))).unwrap();
    assert_eq!(run.say("desk", Command::Pause(code("identity"), hash(1))), Err(Refusal::Already));
    run.until(START_MS + 3 * DAY_MS);
    run.say("desk", Command::Resume).unwrap();
    assert_eq!(run.say("desk", Command::Resume), Err(Refusal::Already));
    run.until(START_MS + 60 * DAY_MS);
    let alarms = run.case().alarms.iter().filter(|(name, ..)| *name == DateName::Respond).count();
    assert_eq!(alarms, 5, "14, 7, 2, 0 days before, and when it was over");
    assert_eq!(run.say("desk", Command::Extend(code("number"), hash(2))), Err(Refusal::TooLate));
    assert_eq!(run.say("desk", Command::Pause(code("identity"), hash(1))), Err(Refusal::TooLate));

    let mut run = Run::under(Kind::Access, "ccpa", plan(Kind::Access, false));
    assert_eq!(run.say("desk", Command::Pause(code("identity"), hash(1))), Err(Refusal::NotInRegime));
    run.say("desk", Command::Acknowledge(hash(3))).unwrap();
    assert_eq!(run.say("desk", Command::Acknowledge(hash(3))), Err(Refusal::Already));
    run.say("desk", Command::Extend(code("number"), hash(2))).unwrap();
    assert_eq!(run.say("desk", Command::Expire), Err(Refusal::NotInRegime));
    run.until(START_MS + 91 * DAY_MS);
    run.say("desk", Command::Expire).unwrap();
    assert_eq!(run.case().state, State::Expired);
}

#[test]
fn a_repeated_request_attaches_and_an_erasure_waits_for_the_copy() {
    let mut access = Run::new(Kind::Access, plan(Kind::Access, false));
    let erasing = erasure(false);
    let cases = [access.case().clone(), erasing.case().clone()];
    assert_eq!(duplicate_of(&cases, Kind::Access, hash(5)).map(|case| case.kind()), Some(Kind::Access));
    assert!(duplicate_of(&cases, Kind::Access, hash(6)).is_none());
    assert!(waits_for_access(&cases, erasing.case()));
    access.say("desk", Command::Attach(code("opendsr"), hash(9))).unwrap();
    assert_eq!(access.case().attached, 1);
    access.verify();
    access.say("dpo-1", Command::Review(hash(1), 0)).unwrap();
    assert!(waits_for_access([access.case()], erasing.case()), "nobody has fetched the copy");
    access.say("desk", Command::Fetch).unwrap();
    assert!(!waits_for_access([access.case()], erasing.case()));
}

#[test]
fn nobody_speaks_for_a_request_unnamed() {
    let mut run = erasure(false);
    let seen = run.plan_hash();
    let said = idtrail_rights::Input::Said(None, Command::Approve(seen));
    assert_eq!(run.engine.step(said, run.now_ms, &run.settings), Err(Refusal::NoPrincipal));
    assert!(who("dpo-1").is_some());
}

#[test]
fn a_world_that_changed_before_the_freeze_needs_a_new_plan_and_both_approvals() {
    let mut run = erasure(false);
    run.world.odd_answers.push((Effect::Freeze, Finding::Changed));
    run.approve();
    run.until(START_MS + 10 * HOUR_MS);
    assert_eq!((run.case().state, run.case().plans_dropped), (State::Planned, 1));
    assert!(run.case().approvals.is_empty() && run.world.objects.values().any(|left| *left > 0));
    run.approve();
    run.until(START_MS + 30 * HOUR_MS);
    assert_eq!(run.case().state, State::ClosedFulfilled);
}

#[test]
fn a_plan_that_cannot_be_followed_is_no_answer() {
    let mut run = Run::new(Kind::Erasure, plan(Kind::Erasure, false));
    let mut empty = plan(Kind::Erasure, false);
    empty.items.clear();
    let other = plan(Kind::Restriction, false);
    for odd in [empty, other] {
        run.world.odd_answers.push((Effect::Discover, Finding::Plan(Box::new(odd))));
    }
    run.verify();
    assert_eq!(run.case().state, State::Discovering);
    run.until(START_MS + HOUR_MS);
    assert_eq!(run.case().state, State::Planned);
}

#[test]
fn a_second_look_that_falls_due_during_the_shred_does_not_hide_the_log_s_own() {
    let mut run = erasure(false);
    run.world.slow_until_ms = START_MS + 100 * DAY_MS;
    let end =
        run.settings.zone.end_of_day_ms("2026-10-21".parse().unwrap()).unwrap() - run.settings.margin_ms;
    // Everything begins so late that the lag of one system ends when the keys are destroyed.
    run.until(end - 3 * HOUR_MS);
    run.approve();
    run.until(end + HOUR_MS);
    let own = &run.case().items[&item("idtrail/leaves")];
    assert_eq!(run.case().status(own), Status::VerifiedAbsent, "{:?}", run.case().open_items());
    assert!(own.verified_ms.is_some());
}
