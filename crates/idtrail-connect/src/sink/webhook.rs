//! HTTP webhooks, signed as Standard Webhooks says.
//!
//! A receiver keeps no mark that we could ask for, so after a lost answer the same message is sent again under the same
//! id, and the receiver drops what it has: `webhook-id` is made from the places of the rows. With one event a message
//! (the default) the id of an event never changes.
//!
//! What it must never do: follow a redirect, or talk to an address inside of this network that no admin allowed.

mod config;
mod guard;
mod request;
mod service;

pub use config::WebhookConfig;
pub use guard::{Guard, GuardError};
pub use request::{Signer, SignerError};
pub use service::{RULES, WebhookSink};
