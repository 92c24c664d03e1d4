//! What an admin says about a BigQuery target.

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;

/// Settings of a BigQuery target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BigQueryConfig {
    /// The table, `project.dataset.table`.
    pub table: String,
    /// The service account's key, the JSON file that Google gives out. Only emulators do without.
    #[serde(default)]
    pub key: Option<SecretRef>,
    /// The key of a third service account that may read the table and run queries, and change nothing. With it a stream that
    /// is gone, or a cursor that was lost, needs no person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<SecretRef>,
    /// Where the Storage Write API is.
    #[serde(default = "write_endpoint")]
    pub write_endpoint: String,
    /// Where the REST API is.
    #[serde(default = "rest_endpoint")]
    pub rest_endpoint: String,
    /// Where the API that knows a project's grants is.
    #[serde(default = "project_endpoint")]
    pub project_endpoint: String,
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

fn write_endpoint() -> String {
    "https://bigquerystorage.googleapis.com".to_owned()
}

fn rest_endpoint() -> String {
    "https://bigquery.googleapis.com".to_owned()
}

fn project_endpoint() -> String {
    "https://cloudresourcemanager.googleapis.com".to_owned()
}

fn rows_max() -> usize {
    1000
}
