//! The closed lists that stand in clear in a leaf: event types, channels, sources.
//!
//! A number that a list does not know is kept and shown as a number, so that an old reader can read a newer log.

use crate::retention::ClassId;

/// Who may post an event of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poster {
    /// Clients, through the API.
    Client,
    /// Only this system.
    System,
}

/// Defines a list of numbers with names.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident($number:ty) { $($(#[$item_doc:meta])* $item:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($number);

        impl $name {
            $($(#[$item_doc])* pub const $item: Self = Self($code);)*

            /// Wraps a code, known or not.
            pub const fn new(code: $number) -> Self {
                Self(code)
            }

            /// Returns the code.
            pub const fn code(self) -> $number {
                self.0
            }

            /// All known codes.
            pub const ALL: &'static [Self] = &[$(Self::$item,)*];

            /// Returns the name of a known code.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($text),)*
                    _ => None,
                }
            }

            /// Returns the code of a name.
            pub fn by_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self($code)),)*
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => core::fmt::Display::fmt(&self.0, f),
                }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }
    };
}

pub(crate) use codes;

codes! {
    /// The type of an event.
    TypeCode(u16) {
        /// A customer was identified.
        IDENTITY_RESOLUTION = 1, "IDENTITY_RESOLUTION";
        /// An interaction whose customer is not known.
        ANONYMOUS = 2, "ANONYMOUS";
        /// A consent was given or withdrawn.
        CONSENT_CHANGE = 3, "CONSENT_CHANGE";
        /// A system claims to have deleted data.
        DATA_DELETION = 4, "DATA_DELETION";
        /// A configured type; its name is sealed in the event.
        CUSTOM = 5, "CUSTOM";
        /// Two customers became one.
        IDENTITY_MERGE = 16, "IDENTITY_MERGE";
        /// One customer became several.
        IDENTITY_SPLIT = 17, "IDENTITY_SPLIT";
        /// Observations contradict each other.
        IDENTITY_CONFLICT = 18, "IDENTITY_CONFLICT";
        /// An identifier became shared, blocked, retired or active.
        IDENTIFIER_STATE = 19, "IDENTIFIER_STATE";
        /// An anonymous interaction got its customer.
        IDENTITY_PROMOTION = 20, "IDENTITY_PROMOTION";
        /// A person stated something about identities.
        STEWARD_ASSERTION = 21, "STEWARD_ASSERTION";
        /// The rules of identity resolution changed.
        RULESET_CHANGE = 22, "RULESET_CHANGE";
        /// A person's data were made anonymous.
        ANONYMIZATION = 23, "ANONYMIZATION";
        /// The retention classes of the log.
        CLASS_TABLE = 32, "CLASS_TABLE";
        /// The first leaf of a log.
        ORIGIN_START = 33, "ORIGIN_START";
        /// Keys are about to be destroyed.
        SHRED_INTENT = 34, "SHRED_INTENT";
        /// Keys were destroyed.
        KEY_SHREDDED = 35, "KEY_SHREDDED";
        /// A late event of an erased person was discarded.
        STRAGGLER_ERASED = 36, "STRAGGLER_ERASED";
        /// A suppressed person was met again.
        SUPPRESSION_HIT = 37, "SUPPRESSION_HIT";
        /// Somebody was shown events of a customer; stands in the access log.
        DATA_ACCESS = 38, "DATA_ACCESS";
        /// From here on another key signs the log's trees.
        LOG_KEY_ROTATED = 39, "LOG_KEY_ROTATED";
        /// Leaves were put on hold: neither an erasure nor their expiry reaches them.
        HOLD_SET = 40, "HOLD_SET";
        /// A hold was released.
        HOLD_RELEASED = 41, "HOLD_RELEASED";
        /// A request came in.
        DSR_RECEIVED = 64, "DSR_RECEIVED";
        /// Receipt was confirmed.
        DSR_ACKNOWLEDGED = 65, "DSR_ACKNOWLEDGED";
        /// The same person asked the same again.
        DSR_ATTACHED = 66, "DSR_ATTACHED";
        /// The requester was asked to show who they are.
        DSR_IDENTITY_CHALLENGED = 67, "DSR_IDENTITY_CHALLENGED";
        /// The requester has shown it.
        DSR_IDENTITY_VERIFIED = 68, "DSR_IDENTITY_VERIFIED";
        /// The requester has not.
        DSR_IDENTITY_FAILED = 69, "DSR_IDENTITY_FAILED";
        /// The clock stands.
        DSR_CLOCK_PAUSED = 70, "DSR_CLOCK_PAUSED";
        /// The clock goes on.
        DSR_CLOCK_RESUMED = 71, "DSR_CLOCK_RESUMED";
        /// The time was extended.
        DSR_CLOCK_EXTENDED = 72, "DSR_CLOCK_EXTENDED";
        /// The plan stands.
        DSR_PLANNED = 73, "DSR_PLANNED";
        /// The plan holds no longer.
        DSR_PLAN_INVALIDATED = 74, "DSR_PLAN_INVALIDATED";
        /// The plan was approved by one person.
        DSR_APPROVED = 75, "DSR_APPROVED";
        /// The plan was approved by a second person.
        DSR_APPROVED2 = 76, "DSR_APPROVED2";
        /// Items must be kept.
        DSR_HOLD_SET = 77, "DSR_HOLD_SET";
        /// They need not be kept any longer; what waited for it is done now.
        DSR_HOLD_RELEASED = 78, "DSR_HOLD_RELEASED";
        /// An item is not erased, with a basis in Art. 17(3) or the like.
        DSR_EXEMPTED = 79, "DSR_EXEMPTED";
        /// The person's data are closed to all but the request, and the cut-off stands.
        DSR_FROZEN = 80, "DSR_FROZEN";
        /// An effect is about to happen.
        TASK_INTENT = 81, "TASK_INTENT";
        /// An attempt did not succeed; there will be another.
        TASK_RETRY = 82, "TASK_RETRY";
        /// The system took the effect on and works on it.
        TASK_ACCEPTED = 83, "TASK_ACCEPTED";
        /// How an effect ended; once for each.
        TASK_OUTCOME = 84, "TASK_OUTCOME";
        /// An effect will not succeed by itself; a person must look.
        TASK_DEAD = 85, "TASK_DEAD";
        /// A person attests that an item is done.
        TASK_ATTESTED = 86, "TASK_ATTESTED";
        /// A person wants an item tried again.
        TASK_REOPENED = 87, "TASK_REOPENED";
        /// The package was reviewed and may leave.
        DSR_REVIEWED = 88, "DSR_REVIEWED";
        /// The package stands.
        DSR_PACKAGE_BUILT = 89, "DSR_PACKAGE_BUILT";
        /// The package is ready to be fetched.
        DSR_DELIVERED = 90, "DSR_DELIVERED";
        /// The package was fetched.
        DSR_PACKAGE_FETCHED = 91, "DSR_PACKAGE_FETCHED";
        /// The link ended.
        DSR_LINK_EXPIRED = 92, "DSR_LINK_EXPIRED";
        /// The certificate or answer stands.
        DSR_RECEIPTED = 93, "DSR_RECEIPTED";
        /// The request is closed.
        DSR_CLOSED = 94, "DSR_CLOSED";
        /// The request was denied.
        DSR_DENIED = 95, "DSR_DENIED";
        /// The requester took it back.
        DSR_WITHDRAWN = 96, "DSR_WITHDRAWN";
        /// The requester never showed who they are.
        DSR_EXPIRED = 97, "DSR_EXPIRED";
        /// A date comes near, or has passed.
        DSR_DEADLINE_ALARM = 98, "DSR_DEADLINE_ALARM";
        /// Something of the person turned up after the freeze and was erased on arrival.
        DSR_STRAGGLER = 99, "DSR_STRAGGLER";
        /// A request for data is to be opened again and again.
        DSR_SCHEDULE_SET = 112, "DSR_SCHEDULE_SET";
        /// It is no longer.
        DSR_SCHEDULE_ENDED = 113, "DSR_SCHEDULE_ENDED";
    }
}

impl TypeCode {
    /// Returns who may post events of this type.
    pub fn poster(self) -> Poster {
        if self.0 <= Self::CUSTOM.0 { Poster::Client } else { Poster::System }
    }

    /// Tells whether events of a name are written by this system only: those of the table, and all steps of rights
    /// requests.
    pub fn is_reserved_name(name: &str) -> bool {
        let system = Self::by_name(name).is_some_and(|known| known.poster() == Poster::System);
        system || name == "CUSTOM" || name.starts_with("DSR_") || name.starts_with("TASK_")
    }

    /// Tells whether the event is a step of a request of a data subject.
    pub fn is_rights_step(self) -> bool {
        (Self::DSR_RECEIVED.0..=Self::DSR_STRAGGLER.0).contains(&self.0)
    }

    /// Returns the retention class that events of this type are sealed under.
    pub fn class(self) -> ClassId {
        match self {
            Self::ANONYMOUS => ClassId::ANONYMOUS,
            Self::CONSENT_CHANGE => ClassId::CONSENT,
            Self::DATA_DELETION => ClassId::DELETION,
            Self::CUSTOM => ClassId::CUSTOM,
            Self::CLASS_TABLE | Self::ORIGIN_START | Self::RULESET_CHANGE => ClassId::SYSTEM,
            Self::SHRED_INTENT | Self::KEY_SHREDDED | Self::LOG_KEY_ROTATED => ClassId::SYSTEM,
            Self::HOLD_SET | Self::HOLD_RELEASED => ClassId::SYSTEM,
            Self::STRAGGLER_ERASED | Self::SUPPRESSION_HIT | Self::ANONYMIZATION | Self::DATA_ACCESS => {
                ClassId::RIGHTS
            }
            Self::DSR_SCHEDULE_SET | Self::DSR_SCHEDULE_ENDED => ClassId::RIGHTS,
            step if step.is_rights_step() => ClassId::RIGHTS,
            _ => ClassId::IDENTITY,
        }
    }

    /// Tells whether leaf format v1 writes this type's name as its number. The list is closed: types that are added to
    /// the table later are written as text.
    pub(crate) fn is_in_v1(self) -> bool {
        matches!(self.0, 1..=4 | 16..=23 | 32..=37)
    }
}

codes! {
    /// The channel of an interaction.
    ChannelCode(u8) {
        /// Not said.
        NONE = 0, "NONE";
        /// A call.
        VOICE = 1, "VOICE";
        /// A chat on a web page.
        CHAT = 2, "CHAT";
        /// Mail.
        EMAIL = 3, "EMAIL";
        /// A messaging service.
        MESSAGE = 4, "MESSAGE";
        /// A short message.
        SMS = 5, "SMS";
        /// A social network.
        SOCIAL = 6, "SOCIAL";
        /// A call back.
        CALLBACK = 7, "CALLBACK";
        /// A video call.
        VIDEO = 8, "VIDEO";
        /// A web page.
        WEB = 9, "WEB";
        /// Another one; its name is sealed in the event.
        OTHER = 255, "OTHER";
    }
}

impl ChannelCode {
    /// Tells whether leaf format v1 writes this channel's name as its number; see [`TypeCode`].
    pub(crate) fn is_in_v1(self) -> bool {
        matches!(self.0, 1..=9)
    }
}

codes! {
    /// The kind of entry point through which an event came.
    SourceCode(u8) {
        /// The JSON API.
        API = 1, "api";
        /// CloudEvents.
        CLOUDEVENTS = 2, "cloudevents";
        /// EventBridge.
        EVENTBRIDGE = 3, "eventbridge";
        /// This system itself.
        SYSTEM = 4, "system";
        /// The resolve API.
        RESOLVE = 5, "resolve";
        /// Capture from the contact centre.
        CAPTURE = 6, "capture";
    }
}
