//! The steps of a request as they stand in the log: one leaf each, one JSON form each.
//!
//! A request is the list of its steps and nothing else; [`crate::Case`] is folded from them. Every step carries its number
//! within the request, and the log takes each number once ([`Entry::append_key`]): whoever decides on an old state
//! fails to append, and no step can stand there twice. `docs/spec/rights.md` is normative for the JSON.
//!
//! What a step must never hold: an identifier, a token, a name, a text that somebody typed. Reasons are codes, evidence is
//! a hash.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock::Period;
use crate::error::RightsError;
use crate::id::{Code, Digest, HoldName, ItemName, Principal, RequestId, SubjectRef};
use crate::plan::{Kind, Operation, Plan};

/// Defines the steps: name in the log, doc, members.
macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $name:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        /// One step.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $variant($variant),)*
        }

        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            pub struct $variant {
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl From<$variant> for Step {
                fn from(step: $variant) -> Self {
                    Self::$variant(step)
                }
            }
        )*

        impl Step {
            /// The names of all steps.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Returns the type of the event in the log.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            fn data(&self) -> Result<Value, RightsError> {
                match self {
                    $(Self::$variant(step) => serde_json::to_value(step),)*
                }.map_err(|_| RightsError::Json)
            }

            fn read(name: &str, data: Value) -> Result<Self, RightsError> {
                match name {
                    $($name => serde_json::from_value(data).map(Self::$variant),)*
                    _ => return Err(RightsError::Json),
                }.map_err(|_| RightsError::Json)
            }
        }
    };
}

steps! {
    /// A request came in.
    Received = "DSR_RECEIVED" {
        /// What is asked for.
        kind: Kind,
        /// The law that its dates follow.
        regime: Code,
        /// Day of receipt in the legal time zone.
        received_on: Date,
        /// How it was made: `form`, `phone`, `mail`, `api`, `opendsr`, `drp`.
        manner: Code,
        /// The random reference of its subject.
        subject_ref: SubjectRef,
        /// What the log holds of the request's nonce.
        nonce: Digest,
        /// The verification that is needed.
        verification: Level,
        /// Keyed hash by which another request for the same person is recognised while this one is open.
        duplicate_key: Digest,
    }
    /// Receipt was confirmed.
    Acknowledged = "DSR_ACKNOWLEDGED" {
        /// The day.
        on: Date,
        /// Hash of the confirmation.
        evidence: Digest,
    }
    /// The same person asked the same again.
    Attached = "DSR_ATTACHED" {
        /// How.
        manner: Code,
        /// Hash of the other request's outside id.
        external_id: Digest,
    }
    /// The requester was asked to show who they are.
    Challenged = "DSR_IDENTITY_CHALLENGED" {
        /// What the answer would show.
        level: Level,
        /// How: `otp-mail`, `otp-sms`, `callback`.
        method: Code,
    }
    /// The requester has shown it.
    Verified = "DSR_IDENTITY_VERIFIED" {
        /// What was shown.
        level: Level,
        /// How.
        method: Code,
        /// Hash of what shows it.
        evidence: Digest,
    }
    /// The requester has not.
    Failed = "DSR_IDENTITY_FAILED" {
        /// How.
        method: Code,
    }
    /// The clock stands.
    Paused = "DSR_CLOCK_PAUSED" {
        /// From this day.
        on: Date,
        /// Why.
        reason: Code,
        /// Hash of the question to the requester.
        evidence: Digest,
    }
    /// The clock goes on.
    Resumed = "DSR_CLOCK_RESUMED" {
        /// From this day.
        on: Date,
    }
    /// The time was extended.
    Extended = "DSR_CLOCK_EXTENDED" {
        /// The day on which the notice was sent.
        on: Date,
        /// Why: `complexity`, `number`.
        reason: Code,
        /// Hash of the notice.
        notice: Digest,
        /// From receipt.
        period: Period,
    }
    /// The plan stands.
    Planned = "DSR_PLANNED" {
        /// Its hash.
        plan_hash: Digest,
        /// The plan.
        plan: Plan,
        /// How many different people must approve it: 0, 1 or 2.
        approvals: u8,
    }
    /// The plan holds no longer.
    PlanInvalidated = "DSR_PLAN_INVALIDATED" {
        /// Its hash.
        plan_hash: Digest,
        /// Why: `identity-changed`, `counts-changed`, `rejected`.
        reason: Code,
    }
    /// The plan was approved by one person.
    Approved = "DSR_APPROVED" {
        /// Who.
        by: Principal,
        /// What was approved.
        plan_hash: Digest,
    }
    /// The plan was approved by a second person.
    ApprovedAgain = "DSR_APPROVED2" {
        /// Who.
        by: Principal,
        /// What was approved.
        plan_hash: Digest,
    }
    /// Items must be kept.
    HoldSet = "DSR_HOLD_SET" {
        /// The hold.
        hold: HoldName,
        /// What it keeps.
        items: Vec<ItemName>,
        /// Why: `legal-claims` …
        reason: Code,
    }
    /// They need not be kept any longer; what waited for it is done now.
    HoldReleased = "DSR_HOLD_RELEASED" {
        /// The hold.
        hold: HoldName,
    }
    /// An item is not erased, with a basis in Art. 17(3) or the like.
    Exempted = "DSR_EXEMPTED" {
        /// The item.
        item: ItemName,
        /// The basis.
        basis: Basis,
        /// Hash of the reasons.
        evidence: Digest,
    }
    /// The person's data are closed to all but the request, and the cut-off stands.
    Frozen = "DSR_FROZEN" {
        /// What happened before belongs to the request; milliseconds since 1970.
        cutoff_ms: u64,
        /// Size of the log then.
        tree_size: u64,
    }
    /// An effect is about to happen.
    Intent = "TASK_INTENT" {
        /// Its id.
        effect_id: Digest,
        /// What it is part of.
        task: Task,
        /// What will be done.
        effect: Effect,
        /// The round of the task, from 1.
        round: u32,
    }
    /// An attempt did not succeed; there will be another.
    Retry = "TASK_RETRY" {
        /// The effect.
        effect_id: Digest,
        /// Attempts so far.
        attempt: u32,
        /// How it went.
        failure: Failure,
        /// Not before; milliseconds since 1970.
        retry_at_ms: u64,
    }
    /// The system took the effect on and works on it.
    Accepted = "TASK_ACCEPTED" {
        /// The effect.
        effect_id: Digest,
        /// The system's id of its work.
        remote: Code,
        /// When to ask; milliseconds since 1970.
        poll_at_ms: u64,
    }
    /// How an effect ended; once for each.
    Outcome = "TASK_OUTCOME" {
        /// The effect.
        effect_id: Digest,
        /// How.
        result: Finding,
        /// Hash of what shows it.
        evidence: Option<Digest>,
        /// Whether the effect was found done, after nobody knew.
        by_probe: bool,
    }
    /// An effect will not succeed by itself; a person must look.
    Dead = "TASK_DEAD" {
        /// The effect.
        effect_id: Digest,
        /// Why.
        reason: Code,
    }
    /// A person attests that an item is done.
    Attested = "TASK_ATTESTED" {
        /// The item.
        item: ItemName,
        /// How many objects.
        count: u64,
        /// Hash of what shows it.
        evidence: Digest,
    }
    /// A person wants an item tried again.
    Reopened = "TASK_REOPENED" {
        /// The item.
        item: ItemName,
    }
    /// The package was reviewed and may leave.
    Reviewed = "DSR_REVIEWED" {
        /// Hash of the list of what was redacted.
        redactions: Digest,
        /// How many places were redacted.
        count: u64,
    }
    /// The package stands.
    PackageBuilt = "DSR_PACKAGE_BUILT" {
        /// Its hash.
        package: Digest,
    }
    /// The package is ready to be fetched.
    Delivered = "DSR_DELIVERED" {
        /// The link ends here; milliseconds since 1970.
        expires_at_ms: u64,
        /// How often it may be fetched.
        fetches_max: u32,
    }
    /// The package was fetched.
    Fetched = "DSR_PACKAGE_FETCHED" {
        /// How often so far.
        count: u32,
    }
    /// The link ended.
    LinkExpired = "DSR_LINK_EXPIRED" {
        /// `time`, `fetches` or `revoked`.
        reason: Code,
    }
    /// The certificate or answer stands.
    Receipted = "DSR_RECEIPTED" {
        /// Hash of its body.
        certificate: Digest,
        /// Which of the request's certificates it is, from 1.
        pass: u32,
    }
    /// The request is closed.
    Closed = "DSR_CLOSED" {
        /// What the tasks add up to.
        outcome: Outcomes,
        /// What is missing and why.
        open: Vec<OpenItem>,
    }
    /// The request was denied.
    Denied = "DSR_DENIED" {
        /// Why: `unverified`, `unfounded`, `excessive`, `no-match`, `fraud`, `jurisdiction`.
        reason: Code,
        /// Hash of the answer, which names the authority and the courts.
        notice: Digest,
    }
    /// The requester took it back.
    Withdrawn = "DSR_WITHDRAWN" {
        /// Hash of what shows it.
        evidence: Digest,
    }
    /// The requester never showed who they are.
    Expired = "DSR_EXPIRED" {
        /// The day.
        on: Date,
    }
    /// A date comes near, or has passed.
    Alarm = "DSR_DEADLINE_ALARM" {
        /// Which.
        date: DateName,
        /// The date.
        due: Date,
        /// How many days ahead the alarm was set; −1 when it is over.
        days: i32,
    }
    /// Something of the person turned up after the freeze and was erased on arrival.
    Straggler = "DSR_STRAGGLER" {
        /// Where.
        item: ItemName,
        /// How much.
        count: u64,
    }
}

/// How surely the requester is known. In order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// Not at all.
    None,
    /// One of their channels answered.
    OneChannel,
    /// Two of their channels answered.
    TwoChannels,
    /// A signed agent vouches for them.
    SignedAgent,
    /// A person has checked.
    Manual,
}

/// Why something is not erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Basis {
    /// Freedom of expression.
    #[serde(rename = "17(3)(a)")]
    Expression,
    /// A legal obligation or public task.
    #[serde(rename = "17(3)(b)")]
    LegalObligation,
    /// Public health.
    #[serde(rename = "17(3)(c)")]
    PublicHealth,
    /// Archiving, research, statistics.
    #[serde(rename = "17(3)(d)")]
    Archiving,
    /// Legal claims.
    #[serde(rename = "17(3)(e)")]
    LegalClaims,
    /// Rights of others (Art. 15(4)).
    #[serde(rename = "15(4)")]
    RightsOfOthers,
}

/// What an effect is part of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Task {
    /// An item of the plan.
    Item(ItemName),
    /// The request itself.
    Request,
}

/// What an effect does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Effect {
    /// An operation on a system.
    Act(Operation),
    /// The second look, after the system's lag.
    ProbeAgain,
    /// Follows the identities to a fix-point, looks everywhere, and makes the plan.
    Discover,
    /// Suppresses the person and closes their data to all but the request.
    Freeze,
    /// Says again, under those who remain, what they owe to the person's leaves.
    Reassert,
    /// Destroys the keys of exactly the person's leaves, and their tokens, links and derived rows.
    Shred,
    /// Writes the DATA_DELETION leaves.
    Deletions,
    /// Makes and signs the certificate.
    Certify,
    /// Destroys the request's sealed record.
    Destroy,
    /// Builds the package.
    Package,
}

/// Why an attempt did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Failure {
    /// Nothing was done; try again.
    NotDone,
    /// Nobody knows whether it was done.
    Unknown,
    /// The system refuses and will go on refusing.
    Refused,
}

/// What an effect found or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Finding {
    /// So many objects were erased, corrected, restricted, read or counted.
    Count(u64),
    /// What remains out of reach.
    Residuals(Vec<Residual>),
    /// The plan.
    Plan(Box<Plan>),
    /// The world is not the one that the plan was made for.
    Changed,
    /// The freeze stands.
    Frozen {
        /// The cut-off; milliseconds since 1970.
        cutoff_ms: u64,
        /// Size of the log then.
        tree_size: u64,
    },
    /// The keys are destroyed.
    Shredded {
        /// Epoch of the vault without them.
        epoch: u64,
        /// Leaves that were readable before.
        leaves: u64,
        /// When; milliseconds since 1970.
        at_ms: u64,
        /// From then on no copy, backup or key service can bring them back; milliseconds since 1970.
        unrecoverable_by_ms: u64,
        /// Index of the KEY_SHREDDED leaf.
        index: u64,
    },
    /// The hash of what was made: the list of deletions, the certificate, the package.
    Made(Digest),
    /// It was done.
    Done,
}

/// What remains out of reach after an erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Residual {
    /// What keeps it: `time-travel`, `backups`, `dead-row-versions`.
    pub mechanism: Code,
    /// Until when; milliseconds since 1970; `None` if only the system's operator knows.
    pub until_ms: Option<u64>,
}

/// What the tasks of a request add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcomes {
    /// Everything asked for is done.
    Fulfilled,
    /// Something is missing.
    Partial,
}

/// An item that keeps a request from being fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenItem {
    /// The item.
    pub item: ItemName,
    /// How it stands.
    pub status: String,
    /// Why: a hold, a basis, a failure.
    pub reason: Option<String>,
}

/// Which date an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DateName {
    /// To confirm receipt.
    Acknowledge,
    /// To send the notice of an extension.
    Extend,
    /// To answer.
    Respond,
}

/// A step with what stands around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The request.
    pub request: RequestId,
    /// The number of the step within the request, from 0.
    pub sequence: u64,
    /// When; milliseconds since 1970.
    pub at_ms: u64,
    /// Who, if it was a person or credential.
    pub actor: Option<Principal>,
    /// The step.
    pub step: Step,
}

impl Entry {
    /// Returns the key under which the log takes the step once. It does not depend on the step's content, so that of two
    /// workers that decided differently on one state only the first can append.
    pub fn append_key(&self) -> Digest {
        let parts: [&[u8]; 2] = [self.request.as_str().as_bytes(), &self.sequence.to_be_bytes()];
        Digest::of("idtrail/rights/append/v1", &parts)
    }

    /// Returns the JSON that stands in the leaf.
    ///
    /// # Errors
    /// [`RightsError::Json`] if a member has no JSON.
    pub fn to_json(&self) -> Result<Value, RightsError> {
        let mut json = json!({
            "eventType": self.step.name(), "requestId": self.request, "sequence": self.sequence,
            "atMs": self.at_ms, "data": self.step.data()?,
        });
        if let (Some(actor), Some(members)) = (&self.actor, json.as_object_mut()) {
            members.insert("actor".to_owned(), json!(actor));
        }
        Ok(json)
    }

    /// Reads the JSON of a leaf; members that are not listed are refused.
    ///
    /// # Errors
    /// [`RightsError::Json`].
    pub fn from_json(json: &Value) -> Result<Self, RightsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Shape {
            event_type: String,
            request_id: RequestId,
            sequence: u64,
            at_ms: u64,
            #[serde(default)]
            actor: Option<Principal>,
            data: Map<String, Value>,
        }
        let shape = Shape::deserialize(json).map_err(|_| RightsError::Json)?;
        Ok(Self {
            request: shape.request_id,
            sequence: shape.sequence,
            at_ms: shape.at_ms,
            actor: shape.actor,
            step: Step::read(&shape.event_type, Value::Object(shape.data))?,
        })
    }
}
