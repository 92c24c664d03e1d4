//! The few members of an event by which it is found again and by which its customer is known, as they stand in it.

use serde_json::Value;

use crate::event::EVENT_MEMBER;
use crate::time;

/// Texts of an event; `None` where there is none. They may say anything: whether an event is accepted is told elsewhere.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Outline<'a> {
    /// The time that the client claims, milliseconds since 1970.
    pub time_ms: Option<i64>,
    /// The client's own customer id, or a global one.
    pub resolved_customer_id: Option<&'a str>,
    /// The interaction's id.
    pub interaction_id: Option<&'a str>,
    /// How the hashes were made.
    pub hash_scheme: Option<&'a str>,
    /// Of the phone number.
    pub phone_hash: Option<&'a str>,
    /// Of the mail address.
    pub email_hash: Option<&'a str>,
    /// Of the account number.
    pub account_hash: Option<&'a str>,
}

impl core::fmt::Debug for Outline<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Outline").field("time_ms", &self.time_ms).finish_non_exhaustive()
    }
}

impl<'a> Outline<'a> {
    /// Reads a body: `auditEvent` and what stood beside it.
    pub fn of_body(body: &'a Value) -> Self {
        let event = body.get(EVENT_MEMBER);
        let text = |name: &str| event?.get(name)?.as_str();
        let context = event.and_then(|event| event.get("piiContext"));
        let hash = |name: &str| context?.get(name)?.as_str();
        Self {
            time_ms: text("timestamp").and_then(time::parse_rfc3339),
            resolved_customer_id: text("resolvedCustomerId"),
            interaction_id: text("interactionId"),
            hash_scheme: hash("hashScheme"),
            phone_hash: hash("phoneHash"),
            email_hash: hash("emailHash"),
            account_hash: hash("accountNumberHash"),
        }
    }
}
