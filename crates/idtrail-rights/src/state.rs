//! The states of a request and how it moves between them, as one table.
//!
//! Whether an erasure waits for a system or looks again is not a state: it follows from its tasks and is computed when
//! somebody asks ([`crate::Case::shown_state`]). Pauses, extensions and holds are overlays, not states.

use serde::{Deserialize, Serialize};

use crate::event::Effect;

/// Defines the states with their names.
macro_rules! states {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The state of a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum State {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl State {
            /// All states.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

states! {
    /// It came in.
    Received = "RECEIVED",
    /// Receipt was confirmed.
    Acknowledged = "ACKNOWLEDGED",
    /// The requester was asked who they are.
    IdentityPending = "IDENTITY_PENDING",
    /// The requester is known well enough.
    Verified = "VERIFIED",
    /// The person's data are looked for.
    Discovering = "DISCOVERING",
    /// The plan stands and waits for approval.
    Planned = "PLANNED",
    /// One of two people has approved.
    ApprovalPending = "APPROVAL_PENDING",
    /// All who must have approved.
    Approved = "APPROVED",
    /// The cut-off stands (erasure).
    Frozen = "FROZEN",
    /// Tasks run.
    Executing = "EXECUTING",
    /// Shown while tasks wait for a system or a person.
    WaitingExternal = "WAITING_EXTERNAL",
    /// Shown while tasks only look again.
    Verifying = "VERIFYING",
    /// Others' facts are said again under them (erasure).
    Settling = "SETTLING",
    /// The keys are destroyed (erasure).
    Shredding = "SHREDDING",
    /// Data are read (access, portability).
    Collecting = "COLLECTING",
    /// A person looks through what was read.
    Review = "REVIEW",
    /// The package stands.
    Packaged = "PACKAGED",
    /// The package can be fetched.
    Delivered = "DELIVERED",
    /// The link to the package has ended.
    LinkExpired = "LINK_EXPIRED",
    /// The certificate or answer stands.
    Receipted = "RECEIPTED",
    /// Closed; everything is done.
    ClosedFulfilled = "CLOSED_FULFILLED",
    /// Closed; something is missing.
    ClosedPartial = "CLOSED_PARTIAL",
    /// Denied.
    Denied = "DENIED",
    /// Taken back.
    Withdrawn = "WITHDRAWN",
    /// The requester never showed who they are.
    Expired = "EXPIRED",
}

impl State {
    /// Tells whether nothing more happens by itself.
    pub fn is_closed(self) -> bool {
        matches!(
            self,
            Self::ClosedFulfilled | Self::ClosedPartial | Self::Denied | Self::Withdrawn | Self::Expired
        )
    }
}

/// What moves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A step of this name.
    Step(&'static str),
    /// The intent of an effect of the request itself, or of any item's (`None`).
    Began(Option<Effect>),
    /// The first or next read of a request for data.
    Reading,
    /// The requester has shown less than is needed.
    HalfVerified,
    /// As many people have approved as must.
    Enough,
    /// A closing that adds up to everything, or not.
    Closed(bool),
}

/// One row: from these states, this moves the request there; `None` where it stays.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// From.
    pub from: &'static [State],
    /// On.
    pub on: Trigger,
    /// To.
    pub to: Option<State>,
}

const fn row(from: &'static [State], on: Trigger, to: State) -> Transition {
    Transition { from, on, to: Some(to) }
}

const fn keeps(from: &'static [State], on: Trigger) -> Transition {
    Transition { from, on, to: None }
}

const fn stays(from: &'static [State], step: &'static str) -> Transition {
    Transition { from, on: Step(step), to: None }
}

use State as S;
use Trigger::{Began, Closed, Enough, HalfVerified, Reading, Step};

const ASKING: &[S] = &[S::Received, S::Acknowledged, S::IdentityPending];
const BEFORE_FREEZE: &[S] = &[
    S::Received,
    S::Acknowledged,
    S::IdentityPending,
    S::Verified,
    S::Discovering,
    S::Planned,
    S::ApprovalPending,
    S::Approved,
];
const OPEN: &[S] = &[
    S::Received,
    S::Acknowledged,
    S::IdentityPending,
    S::Verified,
    S::Discovering,
    S::Planned,
    S::ApprovalPending,
    S::Approved,
    S::Frozen,
    S::Executing,
    S::Settling,
    S::Shredding,
    S::Collecting,
    S::Review,
    S::Packaged,
    S::Delivered,
    S::LinkExpired,
    S::Receipted,
];
/// Where tasks run, so that what holds for an item may still change.
const RUNNING: &[S] = &[S::Planned, S::ApprovalPending, S::Approved, S::Frozen, S::Executing];
const WORKING: &[S] = &[
    S::Discovering,
    S::Approved,
    S::Frozen,
    S::Executing,
    S::Settling,
    S::Shredding,
    S::Collecting,
    S::Review,
    S::LinkExpired,
    S::Receipted,
];
const AFTER_FREEZE: &[S] =
    &[S::Frozen, S::Executing, S::Settling, S::Shredding, S::Receipted, S::ClosedFulfilled, S::ClosedPartial];

/// Every way a request can move.
pub const TRANSITIONS: &[Transition] = &[
    row(&[S::Received], Step("DSR_ACKNOWLEDGED"), S::Acknowledged),
    stays(OPEN, "DSR_ACKNOWLEDGED"),
    stays(OPEN, "DSR_ATTACHED"),
    row(ASKING, Step("DSR_IDENTITY_CHALLENGED"), S::IdentityPending),
    row(ASKING, Step("DSR_IDENTITY_VERIFIED"), S::Verified),
    row(ASKING, HalfVerified, S::IdentityPending),
    row(ASKING, Step("DSR_IDENTITY_FAILED"), S::IdentityPending),
    stays(OPEN, "DSR_CLOCK_PAUSED"),
    stays(OPEN, "DSR_CLOCK_RESUMED"),
    stays(OPEN, "DSR_CLOCK_EXTENDED"),
    stays(OPEN, "DSR_DEADLINE_ALARM"),
    row(&[S::Verified], Began(Some(Effect::Discover)), S::Discovering),
    row(&[S::Discovering], Step("DSR_PLANNED"), S::Planned),
    row(&[S::Planned], Step("DSR_APPROVED"), S::ApprovalPending),
    stays(&[S::ApprovalPending], "DSR_APPROVED2"),
    row(&[S::Planned, S::ApprovalPending], Enough, S::Approved),
    row(
        &[S::Planned, S::ApprovalPending, S::Approved, S::Collecting],
        Step("DSR_PLAN_INVALIDATED"),
        S::Verified,
    ),
    stays(RUNNING, "DSR_HOLD_SET"),
    stays(RUNNING, "DSR_HOLD_RELEASED"),
    row(&[S::ClosedPartial], Step("DSR_HOLD_RELEASED"), S::Executing),
    stays(RUNNING, "DSR_EXEMPTED"),
    row(&[S::ClosedPartial], Step("DSR_EXEMPTED"), S::Executing),
    keeps(&[S::Approved], Began(Some(Effect::Freeze))),
    row(&[S::Approved], Step("DSR_FROZEN"), S::Frozen),
    row(&[S::Approved, S::Frozen, S::Executing], Began(None), S::Executing),
    keeps(&[S::Shredding], Began(None)),
    row(&[S::Approved, S::Collecting], Reading, S::Collecting),
    row(&[S::Frozen, S::Executing], Began(Some(Effect::Reassert)), S::Settling),
    row(&[S::Settling], Began(Some(Effect::Shred)), S::Shredding),
    row(&[S::Frozen, S::Executing], Began(Some(Effect::Deletions)), S::Settling),
    keeps(&[S::Shredding], Began(Some(Effect::Deletions))),
    row(&[S::Approved, S::Frozen, S::Executing], Began(Some(Effect::Certify)), S::Settling),
    keeps(&[S::Settling, S::Shredding], Began(Some(Effect::Certify))),
    row(&[S::Settling, S::Shredding], Step("DSR_RECEIPTED"), S::Receipted),
    row(&[S::Collecting], Step("DSR_REVIEWED"), S::Review),
    row(&[S::Approved, S::Collecting, S::Review], Began(Some(Effect::Package)), S::Review),
    row(&[S::Review], Step("DSR_PACKAGE_BUILT"), S::Packaged),
    row(&[S::Packaged], Step("DSR_DELIVERED"), S::Delivered),
    stays(&[S::Delivered], "DSR_PACKAGE_FETCHED"),
    row(&[S::Delivered], Step("DSR_LINK_EXPIRED"), S::LinkExpired),
    keeps(&[S::Receipted, S::LinkExpired], Began(Some(Effect::Destroy))),
    row(&[S::ClosedPartial], Began(None), S::Executing),
    stays(WORKING, "TASK_RETRY"),
    stays(&[S::ClosedPartial], "TASK_RETRY"),
    stays(WORKING, "TASK_ACCEPTED"),
    stays(&[S::ClosedPartial], "TASK_ACCEPTED"),
    stays(WORKING, "TASK_OUTCOME"),
    row(&[S::ClosedPartial], Step("TASK_OUTCOME"), S::Executing),
    stays(WORKING, "TASK_DEAD"),
    stays(&[S::ClosedPartial], "TASK_DEAD"),
    stays(&[S::Approved, S::Frozen, S::Executing, S::Collecting], "TASK_ATTESTED"),
    row(&[S::ClosedPartial], Step("TASK_ATTESTED"), S::Executing),
    stays(&[S::Frozen, S::Executing, S::Collecting], "TASK_REOPENED"),
    row(&[S::ClosedPartial], Step("TASK_REOPENED"), S::Executing),
    row(&[S::Receipted, S::LinkExpired], Closed(true), S::ClosedFulfilled),
    row(&[S::Receipted, S::LinkExpired], Closed(false), S::ClosedPartial),
    row(BEFORE_FREEZE, Step("DSR_DENIED"), S::Denied),
    row(BEFORE_FREEZE, Step("DSR_WITHDRAWN"), S::Withdrawn),
    row(ASKING, Step("DSR_EXPIRED"), S::Expired),
    stays(AFTER_FREEZE, "DSR_STRAGGLER"),
];

/// Returns where a trigger moves a request, if it may happen there; the first row that fits counts.
pub fn next(from: State, on: Trigger) -> Option<State> {
    let row = TRANSITIONS.iter().find(|row| row.on == on && row.from.contains(&from));
    row.map(|row| row.to.unwrap_or(from))
}
