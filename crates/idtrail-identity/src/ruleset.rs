//! The rules of resolution as versioned data: what kinds of identifier there are, how far each may link, which limits
//! hold.
//!
//! A ruleset is written as TOML or JSON (through `serde`), checked by [`Ruleset::validate`], and becomes part of the
//! state; a change is an event of its own and can be simulated first. Every figure of the default ruleset has its
//! reason beside it, because an auditor will ask.
//!
//! What it must never do: change meaning without a new version.

use idtrail_event::IdentifierType;
use serde::{Deserialize, Serialize};

use crate::error::IdentityError;
use crate::model::Assurance;

/// The types of identifier that the default ruleset knows beside phone, mail and account.
pub mod types {
    use idtrail_event::IdentifierType;

    /// The interaction itself, so that what is learnt later in a call belongs to the same customer.
    pub const INTERACTION: IdentifierType = IdentifierType::new(0);
    /// The id of a person in the customer-relationship system.
    pub const CRM_PERSON: IdentifierType = IdentifierType::new(4);
    /// The contact's id in the contact-centre platform.
    pub const EXTERNAL_CONTACT: IdentifierType = IdentifierType::new(5);
    /// An opaque id of a messaging service.
    pub const MESSAGING: IdentifierType = IdentifierType::new(6);
    /// A browser's cookie.
    pub const COOKIE: IdentifierType = IdentifierType::new(7);
    /// A device.
    pub const DEVICE: IdentifierType = IdentifierType::new(8);
    /// A mail address with dots and tags removed where the provider ignores them.
    pub const EMAIL_FOLDED: IdentifierType = IdentifierType::new(9);
    /// A name or a date of birth as a comparison key.
    pub const PERSON_KEY: IdentifierType = IdentifierType::new(10);
    /// A customer id of the calling system.
    pub const CUSTOMER_REFERENCE: IdentifierType = IdentifierType::new(11);
}

/// How far identifiers of a type link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Class {
    /// Never links, but may decide between the owners of a shared identifier.
    Corroborating,
    /// Links to one owner; loses its force when several owners turn up at the same time.
    Weak,
    /// Names one customer; a customer may have several.
    Strong,
    /// Names one customer, who has no other of this type.
    StrongUnique,
}

/// The rules of one type of identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeRule {
    /// The type's number, as in tokens.
    pub code: u16,
    /// Its name in events.
    pub name: String,
    /// How far it links.
    pub class: Class,
    /// Which type loses when a limit is exceeded: the one with the higher number.
    pub priority: u8,
    /// How many identifiers of the type one customer may have, within the window.
    pub max_per_cluster: u32,
    /// The window of `max_per_cluster` in days; absent for all time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_days: Option<u32>,
    /// How many owners an identifier may have at one time before it counts as shared.
    pub max_owners: u32,
    /// Silence in days after which an identifier may have passed to another owner; absent if it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_days: Option<u32>,
    /// The least assurance with which it links.
    pub assurance_min: Assurance,
    /// Whether a customer known by nothing else is anonymous.
    #[serde(default)]
    pub anonymous: bool,
    /// Whether it stands for one interaction and does not count as an identifier.
    #[serde(default)]
    pub ephemeral: bool,
    /// Whether it is issued to several people together, so that it never links.
    #[serde(default)]
    pub joint: bool,
    /// Why these figures.
    pub reason: String,
}

impl TypeRule {
    /// Returns the type.
    pub fn kind(&self) -> IdentifierType {
        IdentifierType::new(self.code)
    }
}

/// The rules of resolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ruleset {
    /// Counts changes, from 1.
    pub version: u32,
    /// How many identifiers one customer may have.
    pub cluster_identifiers_max: u32,
    /// How many nodes one customer may have, interactions included.
    pub cluster_members_max: u32,
    /// How many owners or neighbours of one type make an identifier a switchboard, whatever else is known.
    pub fanout_max: u32,
    /// Up to how many sightings a contradicting owner is taken for a slip of the keyboard.
    pub miskey_support_max: u32,
    /// From how many sightings an owner stands against such a slip.
    pub miskey_dominance_min: u32,
    /// From how many sightings a link of a weak identifier is VERIFIED.
    pub verified_support_min: u32,
    /// How many merges one customer may undergo within 24 hours before it is held for a person to look at.
    pub merges_per_day_max: u32,
    /// How many identifiers one observation may name.
    pub observation_identifiers_max: u32,
    /// The types, in any order.
    pub types: Vec<TypeRule>,
}

impl Default for Ruleset {
    fn default() -> Self {
        Self {
            version: 1,
            cluster_identifiers_max: 500,
            cluster_members_max: 5_000,
            fanout_max: 12,
            miskey_support_max: 1,
            miskey_dominance_min: 3,
            verified_support_min: 3,
            merges_per_day_max: 3,
            observation_identifiers_max: 32,
            types: default_types(),
        }
    }
}

fn default_types() -> Vec<TypeRule> {
    let rule = |kind: IdentifierType, name: &str, class, priority, max_per_cluster, reason: &str| TypeRule {
        code: kind.number(),
        name: name.to_owned(),
        class,
        priority,
        max_per_cluster,
        window_days: None,
        max_owners: 1,
        quiet_days: None,
        assurance_min: Assurance::CLAIMED,
        anonymous: false,
        ephemeral: false,
        joint: false,
        reason: reason.to_owned(),
    };
    let weak = |kind, name, priority, reason| TypeRule {
        window_days: Some(365),
        assurance_min: Assurance::NETWORK,
        ..rule(kind, name, Class::Weak, priority, 5, reason)
    };
    vec![
        rule(types::CRM_PERSON, "crm_person", Class::StrongUnique, 1, 1, "master data: one id, one person"),
        TypeRule {
            assurance_min: Assurance::VERIFIED,
            ..rule(
                IdentifierType::ACCOUNT,
                "account",
                Class::Strong,
                2,
                5,
                "people hold a few accounts; two are united only by verified sightings",
            )
        },
        rule(
            types::EXTERNAL_CONTACT,
            "ext_contact",
            Class::Strong,
            3,
            10,
            "the platform's cap of external ids",
        ),
        rule(types::CUSTOMER_REFERENCE, "customer_ref", Class::Strong, 4, 10, "one per calling system"),
        weak(IdentifierType::EMAIL, "email", 5, "five a year is generous for one person"),
        TypeRule {
            quiet_days: Some(45),
            ..weak(
                IdentifierType::PHONE,
                "phone",
                6,
                "numbers age at least 45 days before they are given again",
            )
        },
        weak(types::MESSAGING, "msg_handle", 7, "bound to a device or number; five a year is generous"),
        TypeRule {
            max_owners: 3,
            anonymous: true,
            window_days: Some(7),
            ..weak(types::COOKIE, "cookie", 8, "browsers are shared at home and cleared often")
        },
        TypeRule {
            max_owners: 3,
            anonymous: true,
            window_days: Some(7),
            ..weak(types::DEVICE, "device", 9, "devices are shared at home")
        },
        rule(types::EMAIL_FOLDED, "email_folded", Class::Corroborating, 10, u32::MAX, "folding is a guess"),
        rule(types::PERSON_KEY, "person_key", Class::Corroborating, 11, u32::MAX, "names are not unique"),
        TypeRule {
            anonymous: true,
            ephemeral: true,
            assurance_min: Assurance::CLAIMED,
            ..rule(types::INTERACTION, "interaction", Class::Weak, 12, u32::MAX, "one call, one customer")
        },
    ]
}

impl Ruleset {
    /// Checks that the ruleset makes sense.
    ///
    /// # Errors
    /// [`IdentityError::Ruleset`] with the first rule that does not.
    pub fn validate(&self) -> Result<(), IdentityError> {
        let wrong = |what: &'static str| Err(IdentityError::Ruleset { what });
        if self.version == 0 {
            return wrong("version starts at 1");
        }
        if self.types.is_empty() || self.types.len() > 250 {
            return wrong("there must be 1 to 250 types");
        }
        if !(2..=10_000).contains(&self.cluster_identifiers_max) {
            return wrong("cluster_identifiers_max must be 2 to 10000");
        }
        if !(self.cluster_identifiers_max..=100_000).contains(&self.cluster_members_max) {
            return wrong("cluster_members_max must be cluster_identifiers_max to 100000");
        }
        if !(2..=1_000).contains(&self.fanout_max) {
            return wrong("fanout_max must be 2 to 1000");
        }
        if self.miskey_dominance_min <= self.miskey_support_max {
            return wrong("miskey_dominance_min must be greater than miskey_support_max");
        }
        if self.verified_support_min == 0 || self.merges_per_day_max == 0 {
            return wrong("verified_support_min and merges_per_day_max must be at least 1");
        }
        if !(1..=64).contains(&self.observation_identifiers_max) {
            return wrong("observation_identifiers_max must be 1 to 64");
        }
        for (at, rule) in self.types.iter().enumerate() {
            let before = self.types.get(..at).unwrap_or_default();
            if before.iter().any(|other| other.code == rule.code || other.name == rule.name) {
                return wrong("codes and names of types must be unique");
            }
            if rule.name.is_empty() || rule.name.len() > 32 {
                return wrong("a type's name must have 1 to 32 bytes");
            }
            if rule.reason.trim().is_empty() {
                return wrong("every type needs a reason");
            }
            if rule.max_owners == 0 || rule.max_per_cluster == 0 {
                return wrong("max_owners and max_per_cluster must be at least 1");
            }
            if rule.class == Class::StrongUnique && (rule.max_per_cluster != 1 || rule.max_owners != 1) {
                return wrong("a STRONG_UNIQUE type has one per customer and one owner");
            }
            if rule.class >= Class::Strong && rule.quiet_days.is_some() {
                return wrong("only weak identifiers pass from one owner to another");
            }
            if rule.ephemeral && rule.class != Class::Weak {
                return wrong("an ephemeral type must be weak");
            }
            if rule.quiet_days == Some(0) || rule.window_days == Some(0) {
                return wrong("quiet_days and window_days must be at least 1");
            }
        }
        Ok(())
    }

    /// Returns the rules of a type.
    pub fn type_rule(&self, kind: IdentifierType) -> Option<&TypeRule> {
        self.types.iter().find(|rule| rule.code == kind.number())
    }

    /// Returns the SHA-256 of the ruleset's canonical JSON, 64 lower-case hex digits: what a RULESET_CHANGE names.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut sorted = self.clone();
        sorted.types.sort_by_key(|rule| rule.code);
        let json = serde_json::to_vec(&sorted).expect("a ruleset has only texts and numbers");
        data_encoding::HEXLOWER.encode(&Sha256::digest(&json))
    }
}

/// A ruleset with quick access by type.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) set: Ruleset,
    /// By code: the place in `set.types`, or 255.
    places: Vec<u8>,
}

impl Rules {
    /// The ruleset must be valid.
    pub(crate) fn new(set: Ruleset) -> Self {
        let codes = set.types.iter().map(|rule| usize::from(rule.code) + 1).max().unwrap_or(0);
        let mut places = vec![u8::MAX; codes];
        for (place, rule) in set.types.iter().enumerate() {
            if let Some(slot) = places.get_mut(usize::from(rule.code)) {
                *slot = u8::try_from(place).unwrap_or(u8::MAX);
            }
        }
        Self { set, places }
    }

    #[inline]
    pub(crate) fn of(&self, code: u16) -> Option<&TypeRule> {
        let place = *self.places.get(usize::from(code))?;
        self.set.types.get(usize::from(place))
    }

    /// Returns the rules of a type of a node, which were there when the node came in.
    #[inline]
    pub(crate) fn known(&self, code: u16) -> &TypeRule {
        self.of(code).expect("a ruleset change keeps every type that is in use")
    }
}
