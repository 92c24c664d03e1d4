//! What a credential may do: a fixed list of roles, and sets of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A role. Everything is denied that no role allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Sends events.
    Ingest,
    /// Asks for the global id of an identifier.
    Resolve,
    /// Sees the state of the installation and replays dead letters; sees no events.
    Operator,
    /// Data protection officer: access and erasure requests, audit trails of persons.
    Dpo,
    /// Reads and verifies, changes nothing.
    Auditor,
    /// Copies the log, sealed entries included.
    Mirror,
    /// Manages credentials and settings; sees no events.
    Admin,
    /// Cosigns checkpoints.
    Witness,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 8] = [
        Self::Ingest,
        Self::Resolve,
        Self::Operator,
        Self::Dpo,
        Self::Auditor,
        Self::Mirror,
        Self::Admin,
        Self::Witness,
    ];

    /// Returns the role's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Resolve => "resolve",
            Self::Operator => "operator",
            Self::Dpo => "dpo",
            Self::Auditor => "auditor",
            Self::Mirror => "mirror",
            Self::Admin => "admin",
            Self::Witness => "witness",
        }
    }

    const fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of ingest, resolve, operator, dpo, auditor, mirror, admin, witness")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == name).ok_or(UnknownRole)
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<String>", try_from = "Vec<String>")]
pub struct RoleSet(u8);

impl RoleSet {
    /// Tells whether the role is in the set.
    #[must_use]
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Tells whether all of `other` is in the set.
    #[must_use]
    pub const fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the roles that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Tells whether there is no role in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the roles in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl FromIterator<Role> for RoleSet {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

impl From<Role> for RoleSet {
    fn from(role: Role) -> Self {
        Self(role.bit())
    }
}

/// The names, separated by blanks, as in the `scope` of OAuth 2.0.
impl fmt::Display for RoleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, role) in self.iter().enumerate() {
            if count > 0 {
                f.write_str(" ")?;
            }
            f.write_str(role.as_str())?;
        }
        Ok(())
    }
}

impl From<RoleSet> for Vec<String> {
    fn from(roles: RoleSet) -> Self {
        roles.iter().map(|role| role.as_str().to_owned()).collect()
    }
}

impl TryFrom<Vec<String>> for RoleSet {
    type Error = UnknownRole;

    fn try_from(names: Vec<String>) -> Result<Self, UnknownRole> {
        names.iter().map(|name| name.parse::<Role>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sets_round_trip() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            let set = RoleSet::from(role);
            assert!(set.contains(role) && set.iter().count() == 1);
        }
        let all: RoleSet = Role::ALL.into_iter().collect();
        assert_eq!(all.to_string(), "ingest resolve operator dpo auditor mirror admin witness");
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<RoleSet>(&json).unwrap(), all);
        assert!(serde_json::from_str::<RoleSet>("[\"root\"]").is_err());
        assert_eq!("Ingest".parse::<Role>(), Err(UnknownRole));
        assert!(all.includes(Role::Dpo.into()) && !RoleSet::from(Role::Dpo).includes(all));
    }
}
