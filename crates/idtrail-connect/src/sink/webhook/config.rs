//! What an admin says about a webhook.

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;

/// Settings of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where messages are posted: `https://…`, without a user or password in it.
    pub url: String,
    /// Signing secrets, `whsec_…`. With two, each message carries both signatures while the receiver changes over.
    pub secrets: Vec<SecretRef>,
    /// Certificate authorities to trust in place of the system's, in PEM.
    #[serde(default)]
    pub ca: Option<SecretRef>,
    /// Networks inside which the receiver may be although they are not public, such as `10.1.0.0/16`.
    #[serde(default)]
    pub allow_networks: Vec<String>,
    /// Whether `http://` is allowed. For tests and tunnels: the content can be read on the way.
    #[serde(default)]
    pub allow_http: bool,
    /// Events of one message. With more than one, the receiver must drop repetitions by `log_id` and `seq`.
    #[serde(default = "one")]
    pub events_per_message: usize,
}

fn one() -> usize {
    1
}
