//! What an admin says about an Azure SQL target.

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;

/// Settings of an Azure SQL target. The connection is always encrypted, and certificate and name are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AzureConfig {
    /// Host name: `….database.windows.net`.
    pub host: String,
    /// Port.
    #[serde(default = "port")]
    pub port: u16,
    /// Database.
    pub database: String,
    /// The writer, a login of the database.
    pub user: String,
    /// The writer's password.
    pub password: SecretRef,
    /// The table, `schema.table`.
    pub table: String,
    /// Certificate authorities to trust besides the system's, in PEM.
    #[serde(default)]
    pub ca: Option<SecretRef>,
    /// Most rows of a batch.
    #[serde(default = "rows_max")]
    pub rows_max: usize,
}

fn port() -> u16 {
    1433
}

fn rows_max() -> usize {
    1000
}
