//! Retention classes: how long events of a kind may be readable, and why.
//!
//! A class is fixed when a leaf is sealed; expiry destroys the key of one (class, month). The table itself is in the
//! log, so that an auditor can see which durations held when.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::code::codes;

codes! {
    /// A retention class.
    ClassId(u8) {
        /// Identifications of customers, and what was decided about identities.
        IDENTITY = 1, "identity";
        /// Interactions without a customer.
        ANONYMOUS = 2, "anonymous";
        /// Consents.
        CONSENT = 3, "consent";
        /// Claims of deletion by outside systems.
        DELETION = 4, "deletion";
        /// Configured event types.
        CUSTOM = 5, "custom";
        /// The log's own leaves, which hold no personal data.
        SYSTEM = 6, "system";
        /// Steps of rights requests.
        RIGHTS = 7, "rights";
    }
}

/// One class of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionClass {
    /// Its number.
    pub id: ClassId,
    /// Its name.
    pub name: String,
    /// Months that events stay readable after the month of their receipt; `None` for as long as the log exists.
    pub months: Option<u16>,
    /// Why this long.
    pub reason: String,
}

/// The retention classes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassTable {
    /// Counts changes of the table, from 1.
    pub version: u16,
    /// The classes, by number.
    pub classes: Vec<RetentionClass>,
}

impl Default for ClassTable {
    fn default() -> Self {
        let class = |id: ClassId, months, reason: &str| RetentionClass {
            id,
            name: id.to_string(),
            months,
            reason: reason.to_owned(),
        };
        Self {
            version: 1,
            classes: alloc::vec![
                class(
                    ClassId::IDENTITY,
                    Some(36),
                    "no longer than necessary (GDPR Art. 5(1)(e)): contractual claims about a contact lapse after \
                     three years under common limitation periods",
                ),
                class(
                    ClassId::ANONYMOUS,
                    Some(13),
                    "no longer than necessary (GDPR Art. 5(1)(e)): one year of comparison and the month in which \
                     it ends",
                ),
                class(
                    ClassId::CONSENT,
                    Some(72),
                    "the controller shall be able to demonstrate consent (GDPR Art. 7(1)) while it is relied on and \
                     until limitation periods have run",
                ),
                class(
                    ClassId::DELETION,
                    Some(72),
                    "accountability (GDPR Art. 5(2)): evidence that data were erased under Art. 17, until limitation \
                     periods have run",
                ),
                class(
                    ClassId::CUSTOM,
                    Some(36),
                    "no longer than necessary (GDPR Art. 5(1)(e)): as identity events, unless the controller sets less",
                ),
                class(
                    ClassId::SYSTEM,
                    None,
                    "no personal data: the log's own records, needed for as long as anybody verifies it",
                ),
                class(
                    ClassId::RIGHTS,
                    Some(72),
                    "accountability (GDPR Art. 5(2)): evidence of how requests were answered (Art. 12(3)) and erasures \
                     carried out (Art. 17), until limitation periods have run",
                ),
            ],
        }
    }
}

impl ClassTable {
    /// Returns the class of a number.
    pub fn get(&self, id: ClassId) -> Option<&RetentionClass> {
        self.classes.iter().find(|class| class.id == id)
    }
}
