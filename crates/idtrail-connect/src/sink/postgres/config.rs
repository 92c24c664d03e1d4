//! What an admin says about a PostgreSQL target.

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;

/// Settings of a PostgreSQL target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Host name or address.
    pub host: String,
    /// Port.
    #[serde(default = "port")]
    pub port: u16,
    /// Database.
    pub database: String,
    /// The writer.
    pub user: String,
    /// The writer's password; none where the server asks for none.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// The table, `schema.table`.
    pub table: String,
    /// Whether and how the connection is encrypted.
    #[serde(default)]
    pub tls: PostgresTls,
    /// Certificate authorities to trust in place of the system's, in PEM.
    #[serde(default)]
    pub ca: Option<SecretRef>,
    /// Most rows of a batch.
    #[serde(default = "rows_max")]
    pub rows_max: usize,
}

/// Whether and how the connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostgresTls {
    /// Encrypted, and the server's certificate and name are checked.
    #[default]
    VerifyFull,
    /// In clear. Only towards this machine or through a tunnel.
    Disable,
}

fn port() -> u16 {
    5432
}

fn rows_max() -> usize {
    10_000
}
