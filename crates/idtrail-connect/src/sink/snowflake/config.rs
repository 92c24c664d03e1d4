//! What an admin says about a Snowflake target.

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;

/// Settings of a Snowflake target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnowflakeConfig {
    /// The account's identifier: `organisation-account`.
    pub account: String,
    /// Where the account is, if not at `https://<account>.snowflakecomputing.com`.
    #[serde(default)]
    pub url: Option<String>,
    /// The writer.
    pub user: String,
    /// The writer's private key, PEM, not encrypted.
    pub key: SecretRef,
    /// The writer's role.
    pub role: String,
    /// The warehouse that runs statements: the look at the table when a session opens, and every batch of the SQL API.
    pub warehouse: String,
    /// The table, `database.schema.table`.
    pub table: String,
    /// How rows get there.
    #[serde(default)]
    pub mode: SnowflakeMode,
    /// The pipe, if not the one that Snowflake makes for every table.
    #[serde(default)]
    pub pipe: Option<String>,
    /// The channel; one process at a time writes to it.
    #[serde(default = "channel")]
    pub channel: String,
    /// Certificate authorities to trust in place of the system's, in PEM.
    #[serde(default)]
    pub ca: Option<SecretRef>,
    /// Whether `http://` is allowed. For emulators: token and content can be read on the way.
    #[serde(default)]
    pub allow_http: bool,
    /// Most rows of a batch.
    #[serde(default = "rows_max")]
    pub rows_max: usize,
}

impl SnowflakeConfig {
    /// Returns where the account is.
    pub(crate) fn base_url(&self) -> String {
        let own = || format!("https://{}.snowflakecomputing.com", self.account.to_lowercase());
        self.url.as_ref().map_or_else(own, |url| url.trim_end_matches('/').to_owned())
    }
}

/// How rows get to Snowflake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnowflakeMode {
    /// Snowpipe Streaming: seconds, and no warehouse running.
    #[default]
    Streaming,
    /// The SQL API: for filling a table up, at the cost of a warehouse.
    Sql,
}

fn channel() -> String {
    "idtrail".to_owned()
}

fn rows_max() -> usize {
    5000
}
