//! The words of resolution: what goes in (observations, assertions) and what comes out (decisions).
//!
//! Nothing here holds a raw value: identifiers are keyed hashes, customers are random ids.

use data_encoding::HEXLOWER;
use idtrail_event::{GlobalCustomerId, IdentifierToken, IdentifierType};
use idtrail_tlog::LogIndex;
use serde::{Deserialize, Serialize};

use crate::event::Derived;

/// How sure it is that the person who acted controls the identifier, 0 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Assurance(u8);

impl Assurance {
    /// Said or typed, not checked.
    pub const CLAIMED: Self = Self(0);
    /// Shown by the network: a caller id.
    pub const NETWORK: Self = Self(1);
    /// Delivered to: a mail that was answered.
    pub const DELIVERED: Self = Self(2);
    /// Checked: a one-time code, a secret question.
    pub const VERIFIED: Self = Self(3);
    /// From a session that was logged in.
    pub const AUTHENTICATED: Self = Self(4);
    /// From a feed of master data.
    pub const MASTER: Self = Self(5);

    /// Returns the number.
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Assurance {
    type Error = &'static str;

    fn try_from(level: u8) -> Result<Self, Self::Error> {
        if level <= 5 { Ok(Self(level)) } else { Err("an assurance is 0 to 5") }
    }
}

impl From<Assurance> for u8 {
    fn from(assurance: Assurance) -> Self {
        assurance.0
    }
}

/// An identifier: its type and its keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier {
    /// What it is.
    pub kind: IdentifierType,
    /// Its keyed hash.
    pub token: IdentifierToken,
}

/// An identifier as it was seen in one observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The identifier.
    pub identifier: Identifier,
    /// How sure it is that the person controls it.
    pub assurance: Assurance,
    /// Other tokens of the same value, of which the caller is certain: older keys, legacy hashes, known variants. They
    /// unite identifiers for good.
    pub aliases: Vec<IdentifierToken>,
}

impl Sighting {
    /// Returns a sighting without other tokens.
    pub const fn new(kind: IdentifierType, token: IdentifierToken, assurance: Assurance) -> Self {
        Self { identifier: Identifier { kind, token }, assurance, aliases: Vec::new() }
    }
}

/// Recognises an observation that comes twice: a keyed hash of source and source event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObservationId([u8; 16]);

impl ObservationId {
    /// Wraps 16 bytes of a keyed hash or a random id.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&str> for ObservationId {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        bytes.map(Self).ok_or("an observation's id is 32 lower-case hex digits")
    }
}

impl std::fmt::Display for ObservationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for ObservationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}…", HEXLOWER.encode(self.0.first_chunk::<4>().map_or(&[], |head| head)))
    }
}

/// What one source saw at one time. Immutable; together with the assertions the only input of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Recognises repetitions.
    pub id: ObservationId,
    /// When it happened, milliseconds since 1970.
    pub time_ms: u64,
    /// The identifiers, in the source's order.
    pub sightings: Vec<Sighting>,
}

/// Where something stands in the log, and when it got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The index of its leaf.
    pub index: LogIndex,
    /// The receipt time of its leaf, milliseconds since 1970.
    pub at_ms: u64,
}

/// What a new global id is for; with it a replay finds the id that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Home {
    /// A customer, held by this identifier.
    Identifier(Identifier),
    /// An interaction whose customer is not known.
    Observation(ObservationId),
}

/// Gives global ids: random ones when deciding, the recorded ones when replaying.
pub trait IdSource {
    /// Returns the id for a home. It must never have been given before.
    fn id_for(&mut self, home: Home) -> GlobalCustomerId;
}

impl<F: FnMut(Home) -> GlobalCustomerId> IdSource for F {
    fn id_for(&mut self, home: Home) -> GlobalCustomerId {
        self(home)
    }
}

/// Defines an enum whose variants have the names that events and APIs use.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$item_doc])* $item,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$item,)*];

            /// Returns the name in events.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$item => $text,)* }
            }

            #[allow(dead_code, reason = "not every list is stored")]
            pub(crate) fn from_code(code: u8) -> Option<Self> {
                Self::ALL.get(usize::from(code)).copied()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use named;

named! {
    /// What became of an observation.
    Outcome {
        /// A new customer.
        Created = "CREATED",
        /// A known customer.
        Attached = "ATTACHED",
        /// Several known customers turned out to be one.
        Merged = "MERGED",
        /// Several customers are possible; none was chosen.
        Ambiguous = "AMBIGUOUS",
        /// No identifier that could name a customer.
        Anonymous = "ANONYMOUS",
    }
}

named! {
    /// How sure it is that an interaction is the customer's, and so whether it may be disclosed.
    Tier {
        /// Disclosed without further review.
        Verified = "VERIFIED",
        /// Disclosed after review.
        Probable = "PROBABLE",
        /// Only counted.
        Ambiguous = "AMBIGUOUS",
    }
}

named! {
    /// The rule that a link rests on.
    RuleId {
        /// The same STRONG_UNIQUE value.
        M1 = "M1",
        /// The same STRONG value.
        M2 = "M2",
        /// A WEAK identifier with a single owner.
        M3 = "M3",
        /// A WEAK identifier at its owner limit, decided by a corroborating key.
        M4 = "M4",
        /// A steward said so.
        M5 = "M5",
        /// The source system merged its own records.
        M6 = "M6",
    }
}

named! {
    /// What kept two identifiers apart.
    Guard {
        /// Two different STRONG_UNIQUE values.
        G1 = "G1",
        /// More identifiers of a type than allowed within its window.
        G2 = "G2",
        /// A NOT_SAME assertion.
        G3 = "G3",
        /// One of the customers is held.
        G4 = "G4",
        /// The customer would exceed the size cap.
        G5 = "G5",
        /// More owners at one time than the type allows.
        MaxOwners = "MAX_OWNERS",
        /// A single sighting against a well supported owner.
        Contradicted = "CONTRADICTED",
    }
}

named! {
    /// The state of an identifier.
    IdentifierState {
        /// Links.
        Active = "ACTIVE",
        /// Belongs to several people; never links.
        Shared = "SHARED",
        /// Names nobody; never links.
        Blocked = "BLOCKED",
        /// Erased or united with another.
        Retired = "RETIRED",
    }
}

named! {
    /// Why an identifier has its state.
    StateReason {
        /// Nothing special.
        None = "NONE",
        /// A few owners at the same time.
        Household = "HOUSEHOLD",
        /// More owners than a household has.
        Pbx = "PBX",
        /// Seen with too many identifiers of one type.
        Fanout = "FANOUT",
        /// It passed from one owner to another.
        Recycled = "RECYCLED",
        /// A steward said so.
        Steward = "STEWARD",
        /// Issued to several people together.
        Joint = "JOINT",
        /// Several owners, but not more than the type allows.
        Several = "SEVERAL",
        /// Nobody is left who could be named.
        Erased = "ERASED",
    }
}

named! {
    /// Who made an assertion.
    Actor {
        /// A person who tends the data.
        Steward = "STEWARD",
        /// A system that is the master of its records.
        Source = "SOURCE",
        /// This system.
        System = "SYSTEM",
    }
}

/// One of the identifiers of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The identifier.
    pub identifier: Identifier,
    /// Its state when it was decided upon.
    pub state: IdentifierState,
    /// With which assurance it was seen.
    pub assurance: Assurance,
}

/// What an observation led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The observation.
    pub observation: ObservationId,
    /// The customer, or an id for this interaction alone if the outcome is AMBIGUOUS or ANONYMOUS.
    pub gcid: GlobalCustomerId,
    /// What became of it.
    pub outcome: Outcome,
    /// How sure it is.
    pub tier: Tier,
    /// The rule that it rests on, if a customer was named.
    pub rule: Option<RuleId>,
    /// The identifiers, with their states.
    pub identifiers: Vec<Seen>,
    /// How many customers were possible.
    pub candidates: u32,
    /// If the observation was known already: where it stands.
    pub repeated: Option<LogIndex>,
    /// The ruleset that decided.
    pub ruleset_version: u32,
    /// What else follows, in order; each is an event of its own.
    pub events: Vec<Derived>,
    /// The global ids that were given, for the record that a replay reads.
    pub given: Vec<(Home, GlobalCustomerId)>,
    /// How many identifiers had to be looked at again; a metric.
    pub recomputed: usize,
}
