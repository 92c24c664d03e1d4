//! The events that follow from a decision, as typed values and as the `identity` block of an audit event.
//!
//! Other customers are named by their random ids only, so that a leaf of one customer holds nothing about another.

use std::fmt;

use idtrail_event::{GlobalCustomerId, IdentifierType, TypeCode};
use idtrail_tlog::LogIndex;
use serde_json::{Value, json};

use crate::model::{
    Actor, Decision, Guard, Identifier, IdentifierState, ObservationId, Outcome, RuleId, Seen, StateReason,
    named,
};
use crate::ruleset::Ruleset;

/// An observation that a link rests on, and where it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The observation.
    pub observation: ObservationId,
    /// Its leaf.
    pub index: LogIndex,
}

/// Names one merge: the leaf that caused it, and which of the merges of that leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MergeId {
    /// The leaf.
    pub index: LogIndex,
    /// Counts from 0.
    pub ordinal: u16,
}

impl fmt::Display for MergeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m-{}-{}", self.index.get(), self.ordinal)
    }
}

/// One of the customers that a split led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The customer.
    pub gcid: GlobalCustomerId,
    /// Whether the id was an alias before.
    pub revived: bool,
    /// How many identifiers the customer has now.
    pub identifiers: u32,
    /// How many interactions its identifiers were seen in, counted up to 10,000.
    pub interactions: u32,
}

named! {
    /// Why a customer was split.
    SplitCause {
        /// Evidence was withdrawn or contradicted.
        Evidence = "S1",
        /// An identifier became shared.
        Shared = "S2",
        /// An identifier passed to another owner.
        Recycled = "S3",
        /// A steward said so.
        Steward = "S4",
        /// A member was erased.
        Erasure = "S5",
        /// The rules changed.
        Ruleset = "RULESET",
    }
}

named! {
    /// What set off a merge.
    Trigger {
        /// An observation.
        Auto = "AUTO",
        /// A steward.
        Steward = "STEWARD",
        /// A system that is the master of its records.
        Source = "SOURCE",
    }
}

/// An event that follows from an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Derived {
    /// IDENTITY_MERGE.
    Merge {
        /// Names the merge.
        id: MergeId,
        /// The customer that remains.
        survivor: GlobalCustomerId,
        /// The ids that are aliases of it from now on.
        absorbed: Vec<GlobalCustomerId>,
        /// The rule of the link that joined them.
        rule: RuleId,
        /// Observations behind that link, at most 8.
        evidence: Vec<Evidence>,
        /// What set it off.
        trigger: Trigger,
        /// How many identifiers the customer has now.
        identifiers_after: u32,
    },
    /// IDENTITY_SPLIT.
    Split {
        /// The customer that was split.
        from: GlobalCustomerId,
        /// What it was split into.
        parts: Vec<Part>,
        /// Why.
        cause: SplitCause,
        /// The merge that this undoes, if a former alias came back.
        undoes: Option<MergeId>,
    },
    /// IDENTITY_CONFLICT: a link was refused and waits in quarantine.
    Conflict {
        /// The customers on both sides; one if both ends have the same or one has none.
        gcids: Vec<GlobalCustomerId>,
        /// What refused it.
        guard: Guard,
        /// The two identifiers that stay apart.
        demoted: [Identifier; 2],
        /// Names the entry of the quarantine.
        quarantine: u64,
    },
    /// IDENTIFIER_STATE.
    State {
        /// The identifier.
        identifier: Identifier,
        /// Its state before.
        from: IdentifierState,
        /// Its state now.
        to: IdentifierState,
        /// Why.
        reason: StateReason,
        /// How many owners it has, counted up to the fan-out limit.
        owners: u32,
        /// Where its newest owner's time begins, milliseconds since 1970, if it passed from one to another.
        valid_from_ms: Option<u64>,
    },
    /// IDENTITY_PROMOTION: a customer known by nothing but cookies or an interaction got an identifier.
    Promotion {
        /// The customer.
        gcid: GlobalCustomerId,
        /// The id of the anonymous customer; equal to `gcid` if that one was kept.
        former: GlobalCustomerId,
        /// The type that made it known.
        by_type: IdentifierType,
        /// How many earlier interactions are the customer's now; PROBABLE at most.
        back_attributed: u32,
    },
    /// STEWARD_ASSERTION.
    Assertion {
        /// The number of its leaf.
        number: u64,
        /// Its kind.
        kind: &'static str,
        /// Whom or what it is about.
        subjects: Vec<String>,
        /// Who made it.
        actor: Actor,
        /// Why.
        reason: String,
        /// Who approved it, if somebody had to.
        approver: Option<String>,
        /// The number of the leaf of the assertion that it revokes.
        revokes: Option<u64>,
    },
    /// RULESET_CHANGE.
    RulesetChange {
        /// The new version.
        version: u32,
        /// SHA-256 of the new ruleset.
        fingerprint: String,
        /// Merges that it caused.
        merges: u32,
        /// Splits that it caused.
        splits: u32,
    },
}

impl Derived {
    /// Returns the type of the event.
    pub fn event_type(&self) -> TypeCode {
        match self {
            Self::Merge { .. } => TypeCode::IDENTITY_MERGE,
            Self::Split { .. } => TypeCode::IDENTITY_SPLIT,
            Self::Conflict { .. } => TypeCode::IDENTITY_CONFLICT,
            Self::State { .. } => TypeCode::IDENTIFIER_STATE,
            Self::Promotion { .. } => TypeCode::IDENTITY_PROMOTION,
            Self::Assertion { .. } => TypeCode::STEWARD_ASSERTION,
            Self::RulesetChange { .. } => TypeCode::RULESET_CHANGE,
        }
    }

    /// Returns the customers concerned; the event is written once for each.
    pub fn subjects(&self) -> Vec<GlobalCustomerId> {
        match self {
            Self::Merge { survivor, absorbed, .. } => {
                std::iter::once(*survivor).chain(absorbed.iter().copied()).collect()
            }
            Self::Split { from, parts, .. } => {
                let others = parts.iter().map(|part| part.gcid).filter(|gcid| gcid != from);
                std::iter::once(*from).chain(others).collect()
            }
            Self::Conflict { gcids, .. } => gcids.clone(),
            Self::Promotion { gcid, .. } => vec![*gcid],
            Self::State { .. } | Self::Assertion { .. } | Self::RulesetChange { .. } => Vec::new(),
        }
    }

    /// Returns the `identity` block. `rules` names the types.
    pub fn identity(&self, rules: &Ruleset) -> Value {
        match self {
            Self::Merge { id, survivor, absorbed, rule, evidence, trigger, identifiers_after } => json!({
                "survivor": survivor.to_string(),
                "absorbed": texts(absorbed),
                "ruleId": rule.name(),
                "evidence": evidence.iter().map(evidence_json).collect::<Vec<_>>(),
                "guardsPassed": ["G1", "G2", "G3", "G4", "G5", "G6"],
                "consentAfter": "MOST_RESTRICTIVE",
                "mergeId": id.to_string(),
                "trigger": trigger.name(),
                "identifiersAfter": identifiers_after,
            }),
            Self::Split { from, parts, cause, undoes } => json!({
                "from": from.to_string(),
                "parts": parts.iter().map(|part| json!({
                    "gcid": part.gcid.to_string(),
                    "revived": part.revived,
                    "identifiers": part.identifiers,
                    "interactions": part.interactions,
                })).collect::<Vec<_>>(),
                "cause": cause.name(),
                "undoes": undoes.map(|id| id.to_string()),
                "affectedRequests": [],
            }),
            Self::Conflict { gcids, guard, demoted, quarantine } => json!({
                "gcids": texts(gcids),
                "guard": guard.name(),
                "demoted": demoted.iter().map(|id| identifier_json(id, rules)).collect::<Vec<_>>(),
                "quarantineId": format!("q-{quarantine}"),
            }),
            Self::State { identifier, from, to, reason, owners, valid_from_ms } => json!({
                "type": type_name(identifier.kind, rules),
                "hash": identifier.token.to_string(),
                "from": from.name(),
                "to": to.name(),
                "reason": reason.name(),
                "owners": owners,
                "validFrom": valid_from_ms,
                "validTo": null,
            }),
            Self::Promotion { gcid, former, by_type, back_attributed } => json!({
                "gcid": gcid.to_string(),
                "former": former.to_string(),
                "from": "ANONYMOUS",
                "to": "KNOWN",
                "byType": type_name(*by_type, rules),
                "backAttributed": back_attributed,
            }),
            Self::Assertion { number, kind, subjects, actor, reason, approver, revokes } => json!({
                "assertionId": number,
                "kind": kind,
                "subjects": subjects,
                "actor": actor.name(),
                "reason": reason,
                "approver": approver,
                "revokes": revokes,
            }),
            Self::RulesetChange { version, fingerprint, merges, splits } => json!({
                "version": version,
                "diffHash": fingerprint,
                "simulatedMerges": merges,
                "simulatedSplits": splits,
            }),
        }
    }
}

impl Decision {
    /// Returns the type of the decision's own event.
    pub fn event_type(&self) -> TypeCode {
        match self.outcome {
            Outcome::Anonymous => TypeCode::ANONYMOUS,
            _ => TypeCode::IDENTITY_RESOLUTION,
        }
    }

    /// Returns the `identity` block of the decision's own event. An ANONYMOUS one holds no identifier at all.
    pub fn identity(&self, rules: &Ruleset) -> Value {
        let blocked = self.identifiers.iter().filter(|seen| seen.state == IdentifierState::Blocked).count();
        let anonymous = self.outcome == Outcome::Anonymous;
        let shown: &[Seen] = if anonymous { &[] } else { &self.identifiers };
        let assurance = shown.iter().map(|seen| seen.assurance.level()).max().unwrap_or(0);
        json!({
            "outcome": self.outcome.name(),
            "tier": self.tier.name(),
            "ruleId": self.rule.map(RuleId::name),
            "assurance": assurance,
            "identifiers": shown.iter().map(|seen| {
                let mut json = identifier_json(&seen.identifier, rules);
                if let Some(object) = json.as_object_mut() {
                    object.insert("state".to_owned(), seen.state.name().into());
                }
                json
            }).collect::<Vec<_>>(),
            "blockedCount": blocked,
            "observationId": self.observation.to_string(),
            "candidates": self.candidates,
        })
    }
}

fn type_name(kind: IdentifierType, rules: &Ruleset) -> Value {
    rules.type_rule(kind).map_or_else(|| kind.number().into(), |rule| rule.name.clone().into())
}

fn identifier_json(identifier: &Identifier, rules: &Ruleset) -> Value {
    json!({ "type": type_name(identifier.kind, rules), "hash": identifier.token.to_string() })
}

fn evidence_json(evidence: &Evidence) -> Value {
    json!({ "observationId": evidence.observation.to_string(), "logIndex": evidence.index.get() })
}

fn texts(gcids: &[GlobalCustomerId]) -> Vec<String> {
    gcids.iter().map(ToString::to_string).collect()
}
