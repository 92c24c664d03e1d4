//! Why something was refused.

/// Why the core refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Send fewer identifiers.
    #[error("too many identifiers in one observation. max={max}, got={got}")]
    TooManyIdentifiers {
        /// The ruleset's limit.
        max: u32,
        /// How many came.
        got: usize,
    },
    /// Configure the type, or send another.
    #[error("identifier type is not in the ruleset. type={code}")]
    UnknownType {
        /// The type's number.
        code: u16,
    },
    /// The ruleset does not make sense.
    #[error("ruleset refused. rule={what}")]
    Ruleset {
        /// The rule that it breaks.
        what: &'static str,
    },
    /// No such customer, identifier, observation or assertion.
    #[error("not known. what={what}")]
    NotKnown {
        /// What was looked for.
        what: &'static str,
    },
    /// The customer or identifier was erased.
    #[error("erased. what={what}")]
    Erased {
        /// What was named.
        what: &'static str,
    },
    /// An assertion that is in force says the opposite; revoke it first.
    #[error("contradicts an assertion in force. assertion={assertion}")]
    Contradicts {
        /// The number of the leaf of the assertion in force.
        assertion: u64,
    },
    /// The assertion means nothing.
    #[error("assertion refused. reason={reason}")]
    Assertion {
        /// Why.
        reason: &'static str,
    },
    /// The customer is held, for a request or for a person to look at.
    #[error("customer is held")]
    Held,
    /// The bytes are not a snapshot of this version.
    #[error("snapshot is damaged. place={place}")]
    Snapshot {
        /// Which part.
        place: &'static str,
    },
}

/// What a caller must do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Send or configure something else.
    Invalid,
    /// Resolve the contradiction first.
    Conflict,
    /// Name something that exists.
    NotFound,
    /// Stop trusting the bytes.
    Damaged,
}

impl IdentityError {
    /// Returns what a caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooManyIdentifiers { .. } | Self::UnknownType { .. } => ErrorKind::Invalid,
            Self::Ruleset { .. } | Self::Assertion { .. } => ErrorKind::Invalid,
            Self::NotKnown { .. } => ErrorKind::NotFound,
            Self::Erased { .. } | Self::Contradicts { .. } | Self::Held => ErrorKind::Conflict,
            Self::Snapshot { .. } => ErrorKind::Damaged,
        }
    }
}
