//! The plan of a request: what will be asked and done where, frozen and named by its hash.
//!
//! A plan holds systems, classes of objects, counts and hashes, never an identifier. Two people approve its hash; when the
//! closure of identities or a count changes, it is another plan.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::RightsError;
use crate::id::{Digest, ItemName, SystemName};

/// How many items a plan may have.
pub const ITEMS_MAX: usize = 1_000;

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// A copy of the data and what Art. 15 says beside it.
    Access,
    /// The data that the person provided, machine-readable (Art. 20).
    Portability,
    /// Erasure (Art. 17).
    Erasure,
    /// Correction (Art. 16).
    Rectification,
    /// Restriction of processing (Art. 18).
    Restriction,
    /// Objection to processing (Art. 21).
    Objection,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Access,
        Self::Portability,
        Self::Erasure,
        Self::Rectification,
        Self::Restriction,
        Self::Objection,
    ];

    /// Tells whether the answer is a package of data.
    pub fn is_reading(self) -> bool {
        matches!(self, Self::Access | Self::Portability)
    }

    /// Returns what a task of this kind does first.
    pub fn operation(self) -> Operation {
        match self {
            Self::Access | Self::Portability => Operation::Read,
            Self::Erasure => Operation::Erase,
            Self::Rectification => Operation::Rectify,
            Self::Restriction | Self::Objection => Operation::Restrict,
        }
    }
}

/// What a task asks of a system. Each may be repeated without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Operation {
    /// Counts what there is of the person, without changing it.
    Lookup,
    /// Reads it.
    Read,
    /// Erases it.
    Erase,
    /// Corrects it.
    Rectify,
    /// Stops its processing.
    Restrict,
    /// Counts what is not yet as it should be; 0 is the only success.
    Probe,
    /// Asks a system that accepted an operation and works on it how far it is.
    Poll,
    /// Says what remains out of reach and until when.
    Residual,
    /// Protects it from erasure.
    Hold,
    /// Ends that protection.
    Release,
}

impl Operation {
    /// Tells whether a repetition could do something that the first did not, so that one asks before repeating it.
    pub fn changes(self) -> bool {
        matches!(self, Self::Erase | Self::Rectify | Self::Restrict)
    }
}

/// Who carries an item out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Method {
    /// A connector.
    Connector,
    /// A person, who attests it.
    Manual,
    /// The log itself: leaves whose keys are destroyed.
    OwnLog,
}

/// One item: what one system holds in one class of objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanItem {
    /// Its name.
    pub item: ItemName,
    /// The system.
    pub system: SystemName,
    /// Who carries it out.
    pub method: Method,
    /// How many objects a look found.
    pub count: u64,
    /// Hash of what exactly is meant, such as the list of leaves, which the request's sealed record holds.
    pub scope: Digest,
    /// How long the system needs until a look tells the truth, milliseconds; a second look is made after it. 0 for none.
    #[serde(default)]
    pub lag_ms: u64,
    /// Whether the system can itself protect the item while a hold is set.
    #[serde(default)]
    pub can_hold: bool,
}

/// The plan of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// What is asked for.
    pub kind: Kind,
    /// Hash of the closure of identities: ids, tokens, tiers and the version of the identity state.
    pub closure: Digest,
    /// Identifiers in the closure.
    pub identifiers: u64,
    /// Interactions that the answer is about.
    pub interactions: u64,
    /// Shared identifiers that a person excluded or that wait for one; they are not in the closure.
    pub shared_excluded: u64,
    /// The items, in the order in which they begin.
    pub items: Vec<PlanItem>,
}

impl Plan {
    /// Checks that it has items, not too many, and each name once.
    ///
    /// # Errors
    /// [`RightsError::Plan`].
    pub fn check(&self) -> Result<(), RightsError> {
        let names: BTreeSet<&ItemName> = self.items.iter().map(|item| &item.item).collect();
        let fits = (1..=ITEMS_MAX).contains(&self.items.len()) && names.len() == self.items.len();
        // Counts are shown in canonical JSON, whose numbers are doubles.
        let numbers = self.items.iter().flat_map(|item| [item.count, item.lag_ms]);
        let small = |number: u64| number < (1 << 53);
        let safe = numbers.chain([self.identifiers, self.interactions, self.shared_excluded]).all(small);
        if fits && safe { Ok(()) } else { Err(RightsError::Plan) }
    }

    /// Returns the hash that an approval is bound to: SHA-256 over the canonical JSON.
    pub fn hash(&self) -> Digest {
        Digest::of_json("idtrail/rights/plan/v1", self).expect("texts and integers have a canonical form")
    }
}
