//! What can go wrong. No message holds a value of an event or of a request.

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// A text is not a name of its type.
    #[error("a name is empty, too long or has a character that is not allowed. type={0}")]
    Name(&'static str),
    /// A text is not 64 lower-case hex digits.
    #[error("a digest is not 64 lower-case hex digits")]
    Digest,
    /// A value has no JSON of one meaning, or JSON is not what the format allows.
    #[error("the json is not what the format allows")]
    Json,
    /// A date is outside the years 1 to 9999, or a regime counts more than that.
    #[error("a date is out of range")]
    Date,
    /// A time zone is not a POSIX TZ text.
    #[error("the time zone is not a posix tz text")]
    Zone,
    /// A step of another request.
    #[error("the step is of another request")]
    OtherRequest,
    /// A step is missing, or stands twice.
    #[error("the step is not the next one. expected={expected}, found={found}")]
    Sequence {
        /// The number of the next step.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The step is not allowed in this state.
    #[error("the step is not allowed here. state={state}, step={step}")]
    Transition {
        /// The state.
        state: &'static str,
        /// The step.
        step: &'static str,
    },
    /// An effect has an outcome already, or no intent.
    #[error("an effect has no open intent. step={step}")]
    Effect {
        /// The step.
        step: &'static str,
    },
    /// The step names an item that the plan does not have.
    #[error("the plan has no such item")]
    NoItem,
    /// A closing claims another outcome than the tasks add up to.
    #[error("the outcome that is claimed is not the one that the tasks add up to")]
    Outcome,
    /// A plan has two items of one name, none at all, or more than it may have.
    #[error("the plan is not well formed")]
    Plan,
}

impl RightsError {
    /// Returns what the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name(_) | Self::Digest | Self::Json | Self::Date | Self::Zone | Self::Plan => {
                ErrorKind::Invalid
            }
            _ => ErrorKind::Damaged,
        }
    }
}

/// What a caller must do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Send or configure something else.
    Invalid,
    /// The steps of the request are not those of one history: stop, and look at the log.
    Damaged,
}
