//! What an admin says about a bucket.

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;
use crate::sink::files::FileFormat;

/// Settings of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The bucket; it must be there.
    pub bucket: String,
    /// What all names begin with, without a slash at its end; nobody else may write there. Empty for the whole bucket.
    #[serde(default)]
    pub prefix: String,
    /// The region.
    #[serde(default = "region")]
    pub region: String,
    /// The store's address, `https://host[:port]`; Amazon's own if there is none.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Whether the address may be `http://`. Only towards this machine or through a tunnel.
    #[serde(default)]
    pub allow_http: bool,
    /// Certificate authorities to trust in place of the system's, in PEM.
    #[serde(default)]
    pub ca: Option<SecretRef>,
    /// The writer's access key id.
    pub access_key: SecretRef,
    /// The writer's secret key.
    pub secret_key: SecretRef,
    /// What the objects are.
    pub format: FileFormat,
    /// Most rows of an object.
    #[serde(default = "rows_max")]
    pub rows_max: usize,
    /// How long rows are collected for one object, milliseconds. Longer means fewer, larger objects.
    #[serde(default = "linger_ms")]
    pub linger_ms: u64,
}

impl S3Config {
    /// Tells whether bucket and prefix are names that every store takes as they are.
    pub(crate) fn is_named_well(&self) -> bool {
        let bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        let part = |part: &str| {
            let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
            !part.is_empty() && !matches!(part, "." | "..") && part.chars().all(named)
        };
        (3..=63).contains(&self.bucket.len())
            && self.bucket.chars().all(bucket)
            && self.prefix.len() <= 512
            && (self.prefix.is_empty() || self.prefix.split('/').all(part))
    }
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn rows_max() -> usize {
    50_000
}

fn linger_ms() -> u64 {
    1000
}
