//! What people say to a request, and whether it may be said now.

use jiff::civil::Date;

use crate::case::Case;
use crate::event::{
    Acknowledged, Approved, ApprovedAgain, Attached, Attested, Basis, Challenged, Denied, Exempted, Expired,
    Extended, Failed, Fetched, HoldReleased, HoldSet, Level, LinkExpired, Paused, PlanInvalidated, Reopened,
    Resumed, Reviewed, Step, Straggler, Verified, Withdrawn,
};
use crate::event::{Effect, Task};
use crate::id::{Code, Digest, HoldName, ItemName, Principal};
use crate::item::Status;
use crate::plan::{Kind, Method};
use crate::settings::Settings;
use crate::state::State;

/// What a person, or the server for one, says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Receipt was confirmed; the hash is that of the confirmation.
    Acknowledge(Digest),
    /// The same person asked the same again: how, and the hash of that request's outside id.
    Attach(Code, Digest),
    /// The requester is asked who they are, in this way, for this level.
    Challenge(Level, Code),
    /// The requester has shown it: level, way, hash of what shows it.
    Verify(Level, Code, Digest),
    /// The requester has failed to.
    FailVerification(Code),
    /// The clock stands, for this reason; the hash is that of the question to the requester.
    Pause(Code, Digest),
    /// The clock goes on.
    Resume,
    /// The time is extended, for this reason; the hash is that of the notice, which has been sent.
    Extend(Code, Digest),
    /// The plan of this hash is approved.
    Approve(Digest),
    /// The plan of this hash is given up, for this reason: the identities or counts changed, or a person says no.
    DropPlan(Digest, Code),
    /// The items must be kept, for this reason.
    SetHold(HoldName, Vec<ItemName>, Code),
    /// They need not be kept any longer.
    ReleaseHold(HoldName),
    /// The item is not erased, with this basis; the hash is that of the reasons.
    Exempt(ItemName, Basis, Digest),
    /// The item is done, says the person: so many objects; the hash is that of what shows it.
    Attest(ItemName, u64, Digest),
    /// The item shall be tried again.
    Reopen(ItemName),
    /// The package may leave; the hash is that of the list of what was redacted, and how many places those are.
    Review(Digest, u64),
    /// The package was fetched.
    Fetch,
    /// The link to the package is taken back.
    RevokeLink,
    /// The request is denied, for this reason; the hash is that of the answer to the requester.
    Deny(Code, Digest),
    /// The requester takes it back.
    Withdraw(Digest),
    /// The requester never showed who they are, and the time is over.
    Expire,
    /// So much of the person turned up after the freeze and was erased on arrival.
    Straggler(ItemName, u64),
}

/// Why something may not be said now. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A step is on its way to the log; say it again afterwards.
    #[error("a step of the request is being written; repeat")]
    Busy,
    /// The state does not allow it.
    #[error("the request's state does not allow this. state={0}")]
    State(&'static str),
    /// The plan is another by now.
    #[error("the plan is not the one that was shown; look at it again")]
    PlanChanged,
    /// The same person has approved already.
    #[error("a second, different person must approve")]
    SamePrincipal,
    /// It needs to be known who says it.
    #[error("it must be known who says this")]
    NoPrincipal,
    /// The requester has failed too often; a person must decide.
    #[error("the requester has failed too often to show who they are")]
    TooManyFailures,
    /// The law does not have it.
    #[error("the regime of the request does not allow this")]
    NotInRegime,
    /// It would have had to be said earlier.
    #[error("it is too late for this")]
    TooLate,
    /// It has been said.
    #[error("this was done already")]
    Already,
    /// There is no such item or hold.
    #[error("the request has no such item or hold")]
    NotFound,
    /// The item is not one that this can be said of.
    #[error("the item does not stand so that this can be said of it. status={0}")]
    Item(&'static str),
    /// The package can no longer be fetched.
    #[error("the link to the package has ended")]
    LinkEnded,
    /// A date is out of range, or the regime is not configured.
    #[error("the request's regime or a date of it is not known here")]
    Clock,
    /// An answer is about an effect that is not open, or not of its kind: a fault of the caller.
    #[error("the answer does not fit to an open effect")]
    WrongAnswer,
}

/// Returns the step that a command becomes.
pub(crate) fn step(
    case: &Case,
    settings: &Settings,
    by: Option<&Principal>,
    command: &Command,
    now_ms: u64,
) -> Result<Step, Refusal> {
    let on = settings.zone.date(now_ms).map_err(|_| Refusal::Clock)?;
    let by = || by.cloned().ok_or(Refusal::NoPrincipal);
    match command {
        Command::Acknowledge(evidence) => {
            not_yet(case.clock.acknowledged_on.is_none())?;
            Ok(Acknowledged { on, evidence: *evidence }.into())
        }
        Command::Attach(manner, external_id) => {
            Ok(Attached { manner: manner.clone(), external_id: *external_id }.into())
        }
        Command::Challenge(..) | Command::Verify(..) | Command::FailVerification(_) => {
            verification(case, settings, command)
        }
        Command::Pause(..) | Command::Resume | Command::Extend(..) => clock(case, settings, command, on),
        Command::Approve(hash) => approve(case, *hash, by()?),
        Command::DropPlan(plan_hash, reason) => {
            by()?;
            is_plan(case, *plan_hash)?;
            // Once the freeze is on its way it decides itself whether the plan still holds.
            if case.own(Effect::Freeze).is_some() || case.effects.values().any(|effect| effect.is_open()) {
                return Err(Refusal::TooLate);
            }
            Ok(PlanInvalidated { plan_hash: *plan_hash, reason: reason.clone() }.into())
        }
        Command::SetHold(hold, items, reason) => {
            by()?;
            set_hold(case, hold, items)?;
            Ok(HoldSet { hold: hold.clone(), items: items.clone(), reason: reason.clone() }.into())
        }
        Command::ReleaseHold(hold) => {
            by()?;
            if !case.holds.contains_key(hold) {
                return Err(Refusal::NotFound);
            }
            Ok(HoldReleased { hold: hold.clone() }.into())
        }
        Command::Exempt(..) | Command::Attest(..) | Command::Reopen(_) => {
            by()?;
            item(case, command)
        }
        Command::Review(redactions, count) => {
            by()?;
            // Whoever reviews may let it leave without what only a person could add; it is named as missing then.
            let reads = case.items.values().any(|item| item.next_effect(case.kind(), u64::MAX).is_some());
            if case.state != State::Collecting || reads {
                return Err(Refusal::State(case.shown_state().name()));
            }
            Ok(Reviewed { redactions: *redactions, count: *count }.into())
        }
        Command::Fetch => match case.delivery.link {
            Some((until_ms, max)) if now_ms < until_ms && case.delivery.fetches < max => {
                Ok(Fetched { count: case.delivery.fetches + 1 }.into())
            }
            Some(_) => Err(Refusal::LinkEnded),
            None => Err(Refusal::State(case.state.name())),
        },
        Command::RevokeLink => Ok(LinkExpired { reason: Code::parse("revoked").expect("a name") }.into()),
        Command::Deny(reason, notice) => {
            by()?;
            Ok(Denied { reason: reason.clone(), notice: *notice }.into())
        }
        Command::Withdraw(evidence) => Ok(Withdrawn { evidence: *evidence }.into()),
        Command::Expire => {
            let regime = settings.regime(&case.received.regime).ok_or(Refusal::Clock)?;
            let due = case.clock.dates(regime, &settings.calendar).map_err(|_| Refusal::Clock)?.respond;
            if due.is_none_or(|due| on <= due.date) {
                return Err(Refusal::NotInRegime);
            }
            Ok(Expired { on }.into())
        }
        Command::Straggler(item, count) => {
            case.items.get(item).ok_or(Refusal::NotFound)?;
            Ok(Straggler { item: item.clone(), count: *count }.into())
        }
    }
}

fn not_yet(holds: bool) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Already) }
}

fn verification(case: &Case, settings: &Settings, command: &Command) -> Result<Step, Refusal> {
    if case.failures >= settings.verification_failures_max {
        return Err(Refusal::TooManyFailures);
    }
    Ok(match command {
        Command::Challenge(level, method) => Challenged { level: *level, method: method.clone() }.into(),
        Command::Verify(level, method, evidence) => {
            Verified { level: *level, method: method.clone(), evidence: *evidence }.into()
        }
        Command::FailVerification(method) => Failed { method: method.clone() }.into(),
        _ => return Err(Refusal::State(case.state.name())),
    })
}

fn clock(case: &Case, settings: &Settings, command: &Command, on: Date) -> Result<Step, Refusal> {
    let regime = settings.regime(&case.received.regime).ok_or(Refusal::Clock)?;
    let dates = case.clock.dates(regime, &settings.calendar).map_err(|_| Refusal::Clock)?;
    match command {
        Command::Pause(reason, evidence) => {
            if !regime.pauses {
                return Err(Refusal::NotInRegime);
            }
            not_yet(!case.clock.is_paused())?;
            // What is late stays late.
            if dates.respond.is_none_or(|due| on > due.date) {
                return Err(Refusal::TooLate);
            }
            Ok(Paused { on, reason: reason.clone(), evidence: *evidence }.into())
        }
        Command::Resume if case.clock.is_paused() => Ok(Resumed { on }.into()),
        Command::Extend(reason, notice) => {
            let period = regime.extended.ok_or(Refusal::NotInRegime)?;
            not_yet(case.clock.extended_on.is_none())?;
            // While the clock stands there is no date to be late for, but also none to be moved.
            let last = dates.extend.ok_or(Refusal::State("PAUSED"))?;
            if on > last.date {
                return Err(Refusal::TooLate);
            }
            Ok(Extended { on, reason: reason.clone(), notice: *notice, period }.into())
        }
        _ => Err(Refusal::Already),
    }
}

fn is_plan(case: &Case, hash: Digest) -> Result<(), Refusal> {
    match &case.plan {
        None => Err(Refusal::State(case.state.name())),
        Some((_, planned, _)) if *planned == hash => Ok(()),
        Some(_) => Err(Refusal::PlanChanged),
    }
}

fn approve(case: &Case, hash: Digest, by: Principal) -> Result<Step, Refusal> {
    is_plan(case, hash)?;
    if case.approvals.contains(&by) {
        return Err(Refusal::SamePrincipal);
    }
    match case.state {
        State::Planned => Ok(Approved { by, plan_hash: hash }.into()),
        State::ApprovalPending => Ok(ApprovedAgain { by, plan_hash: hash }.into()),
        state => Err(Refusal::State(state.name())),
    }
}

fn set_hold(case: &Case, hold: &HoldName, items: &[ItemName]) -> Result<(), Refusal> {
    if case.state.is_closed() || matches!(case.state, State::Settling | State::Shredding | State::Receipted) {
        return Err(Refusal::TooLate);
    }
    not_yet(!case.holds.contains_key(hold))?;
    for name in items {
        let status = case.status(case.items.get(name).ok_or(Refusal::NotFound)?);
        if status.is_settled() {
            return Err(Refusal::Item(status.name()));
        }
    }
    if items.is_empty() { Err(Refusal::NotFound) } else { Ok(()) }
}

fn item(case: &Case, command: &Command) -> Result<Step, Refusal> {
    let (Command::Exempt(name, ..) | Command::Attest(name, ..) | Command::Reopen(name)) = command else {
        return Err(Refusal::NotFound);
    };
    let item = case.items.get(name).ok_or(Refusal::NotFound)?;
    let status = case.status(item);
    let refused = Err(Refusal::Item(status.name()));
    // What was begun cannot be kept or begun anew: whether it is still there is not known.
    let of_item = |task: &Task| matches!(task, Task::Item(of) if of == name);
    let begun = case.effects.values().any(|effect| effect.is_open() && of_item(&effect.task));
    match command {
        Command::Exempt(name, basis, evidence) => {
            if status.is_settled() || begun || case.kind().is_reading() || case.kind() == Kind::Rectification
            {
                return refused;
            }
            Ok(Exempted { item: name.clone(), basis: *basis, evidence: *evidence }.into())
        }
        Command::Attest(name, count, evidence) => match status {
            Status::ManualPending => {
                Ok(Attested { item: name.clone(), count: *count, evidence: *evidence }.into())
            }
            // A person may have done by hand what a connector could not; the log's own keys are no such thing.
            Status::Dead(_) if item.plan.method != Method::OwnLog => {
                Ok(Attested { item: name.clone(), count: *count, evidence: *evidence }.into())
            }
            _ => refused,
        },
        Command::Reopen(name) => match status {
            Status::Dead(_) => Ok(Reopened { item: name.clone() }.into()),
            _ if case.state == State::ClosedPartial && !status.is_settled() => match status {
                Status::Held(_) | Status::ManualPending => refused,
                _ if begun => refused,
                _ => Ok(Reopened { item: name.clone() }.into()),
            },
            _ => refused,
        },
        _ => refused,
    }
}
