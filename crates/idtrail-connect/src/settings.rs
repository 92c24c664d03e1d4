//! The configuration of one sink: as it is written (TOML or JSON), and checked.
//!
//! ```toml
//! [[sink]]
//! name = "warehouse"
//! filter = "{{auditEvent}} != null"
//! mapping = ["interaction.id → target.interaction_id", "{{auditEvent.timestamp}} → target.event_time"]
//! pii = "none"
//! erase = "delete"
//! [sink.target]
//! kind = "postgres"
//! host = "db.example.net"
//! # …
//! ```
//! Unknown keys are refused. Secrets are references. What a sink may not do is refused here, before anything is sent.

mod eraser;

use std::sync::Arc;
use std::time::Duration;

pub use eraser::EraserSettings;

use idtrail_port::{Clock, Disk};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::ddl::Dialect;
use crate::filter::{Filter, FilterError};
use crate::jwt::KeyError;
use crate::mapping::{Mapping, MappingError};
use crate::personal::{Erase, Pii, Privacy, References, Refusal};
use crate::plan::Plan;
use crate::secret::{Secret, SecretError, SecretRef, Secrets};
use crate::sink::Sink;
use crate::sink::azure::AzureConfig;
#[cfg(feature = "azure")]
use crate::sink::azure::AzureSink;
use crate::sink::bigquery::BigQueryConfig;
#[cfg(feature = "bigquery")]
use crate::sink::bigquery::{BigQuerySink, Credentials, CredentialsError};
use crate::sink::files::{FileFormat, FilesConfig, FilesSink};
use crate::sink::postgres::{PostgresConfig, PostgresSink};
use crate::sink::s3::S3Config;
#[cfg(feature = "s3")]
use crate::sink::s3::{S3Keys, S3Sink};
use crate::sink::snowflake::{AccountKey, SnowflakeConfig, SnowflakeSink};
use crate::sink::webhook::{Guard, GuardError, Signer, SignerError, WebhookConfig, WebhookSink};

/// One sink, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    /// Its name: lower-case letters, digits, `-` and `_`; also the name of its directory.
    pub name: String,
    /// Which entries it wants.
    #[serde(default = "filter")]
    pub filter: String,
    /// What they become; everything, if there are no lines.
    #[serde(default)]
    pub mapping: Vec<String>,
    /// What goes out about a person.
    #[serde(default)]
    pub pii: Pii,
    /// How a person is taken out.
    pub erase: Erase,
    /// Longest time that one call may take, seconds.
    #[serde(default = "deadline_s")]
    pub deadline_s: u64,
    /// Who takes persons out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<EraserSettings>,
    /// Where the rows go.
    pub target: TargetSettings,
}

/// Where the rows go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TargetSettings {
    /// Files in a directory.
    Files(FilesConfig),
    /// Files in an object store.
    S3(S3Config),
    /// PostgreSQL.
    Postgres(PostgresConfig),
    /// An HTTP receiver.
    Webhook(WebhookConfig),
    /// Azure SQL or SQL Server.
    Azure(AzureConfig),
    /// BigQuery.
    BigQuery(BigQueryConfig),
    /// Snowflake.
    Snowflake(SnowflakeConfig),
}

/// Why a sink's configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The name is not written as it must be.
    #[error("a sink's name has 1 to 40 lower-case letters, digits, - and _")]
    Name,
    /// A table's name is not written as it must be.
    #[error("a table's name has names of letters, digits, - and _ separated by dots")]
    Table,
    /// The filter does not read.
    #[error("filter cannot be read")]
    Filter(#[from] FilterError),
    /// The mapping does not read, or asks for too much.
    #[error("mapping cannot be used")]
    Mapping(#[from] MappingError),
    /// The two choices about persons do not go together.
    #[error("choices about persons cannot be used")]
    Privacy(#[from] Refusal),
    /// The target cannot erase in the way that was chosen.
    #[error("this target cannot erase persons: choose erase = \"none\"")]
    CannotErase,
    /// The section of the second principal does not fit.
    #[error("the section `rights` {0}")]
    Eraser(&'static str),
    /// Whoever writes would also read.
    #[error("`reader` must be another account than `key`: whoever writes must not be able to run queries")]
    Reader,
    /// Nobody is named who takes persons out.
    #[error("the section `rights` is missing: nobody can take persons out of this target")]
    NoEraser,
    /// No column says whose a row is.
    #[error("no column holds the customer, so a person's rows cannot be found")]
    NoCustomer,
    /// This build does not have what the target needs.
    #[error("this build was made without {0}: take one that has it, or build with the feature of that name")]
    NotBuilt(&'static str),
    /// A bucket or a prefix is not written as it must be.
    #[error(
        "a bucket has 3 to 63 lower-case letters, digits, - and .; a prefix has names separated by slashes"
    )]
    Bucket,
    /// The URL cannot be used.
    #[error("url must be https:// (or http:// with allow_http) without user, password or fragment")]
    Url,
    /// A secret is not there.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A signing secret cannot be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A service account's key cannot be used.
    #[cfg(feature = "bigquery")]
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A network is not written as it must be.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// What the sinks reach the outside through.
#[derive(Clone)]
pub struct Ports {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports(…)")
    }
}

impl SinkSettings {
    /// Checks everything that can be checked without a target, and returns filter and mapping. `reference_key` is the
    /// sink's own key for references, kept by the caller.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn plan(&self, reference_key: [u8; 32]) -> Result<Plan, SettingsError> {
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if self.name.is_empty() || self.name.len() > 40 || !self.name.chars().all(named) {
            return Err(SettingsError::Name);
        }
        if self.table().is_some_and(|table| !is_table_name(table)) {
            return Err(SettingsError::Table);
        }
        let privacy = Privacy::new(self.pii, self.erase)?;
        let erases = !matches!(
            self.target,
            TargetSettings::Files(_) | TargetSettings::S3(_) | TargetSettings::Webhook(_)
        );
        if self.erase != Erase::None && !erases {
            return Err(SettingsError::CannotErase);
        }
        let format = match &self.target {
            TargetSettings::Files(files) => Some(files.format),
            TargetSettings::S3(s3) if !s3.is_named_well() => return Err(SettingsError::Bucket),
            TargetSettings::S3(s3) => Some(s3.format),
            _ => None,
        };
        if format == Some(FileFormat::Parquet) && !cfg!(feature = "parquet") {
            return Err(SettingsError::NotBuilt("parquet"));
        }
        if let TargetSettings::BigQuery(config) = &self.target
            && config.reader.is_some()
            && config.reader == config.key
        {
            return Err(SettingsError::Reader);
        }
        if let Some(kind) = self.left_out() {
            return Err(SettingsError::NotBuilt(kind));
        }
        if let Some(eraser) = &self.rights {
            eraser.check(&self.target, self.erase)?;
        }
        let filter = Filter::parse(&self.filter)?;
        let mapping = if self.mapping.is_empty() {
            Mapping::default_for(privacy)
        } else {
            Mapping::parse(&self.mapping, privacy)?
        };
        Ok(Plan { filter, mapping, references: References::new(reference_key) })
    }

    /// Makes the sink. Connects to nothing.
    ///
    /// # Errors
    /// [`SettingsError`] if a secret is missing or something is not written as it must be.
    pub fn sink(
        &self,
        plan: &Plan,
        secrets: &dyn Secrets,
        ports: &Ports,
    ) -> Result<Box<dyn Sink>, SettingsError> {
        let columns = plan.mapping.columns().to_vec();
        let optional = |reference: &Option<SecretRef>| -> Result<Option<Secret>, SecretError> {
            reference.as_ref().map(|reference| secrets.get(reference)).transpose()
        };
        Ok(match &self.target {
            TargetSettings::Files(config) => {
                Box::new(FilesSink::new(config.clone(), columns, ports.disk.clone()))
            }
            #[cfg(not(feature = "s3"))]
            TargetSettings::S3(_) => return Err(SettingsError::NotBuilt("s3")),
            #[cfg(feature = "s3")]
            TargetSettings::S3(config) => {
                if let Some(endpoint) = &config.endpoint {
                    checked_url(endpoint, config.allow_http)?;
                }
                let keys = S3Keys {
                    access: secrets.get(&config.access_key)?,
                    secret: secrets.get(&config.secret_key)?,
                };
                let sink = S3Sink::new(config.clone(), &keys, optional(&config.ca)?.as_ref(), columns);
                Box::new(sink.ok_or(SettingsError::Bucket)?)
            }
            TargetSettings::Postgres(config) => {
                let (password, ca) = (optional(&config.password)?, optional(&config.ca)?);
                Box::new(PostgresSink::new(config.clone(), password, ca, columns))
            }
            #[cfg(not(feature = "azure"))]
            TargetSettings::Azure(_) => return Err(SettingsError::NotBuilt("azure")),
            #[cfg(feature = "azure")]
            TargetSettings::Azure(config) => {
                let (password, ca) = (secrets.get(&config.password)?, optional(&config.ca)?);
                Box::new(AzureSink::new(config.clone(), password, ca, columns))
            }
            #[cfg(not(feature = "bigquery"))]
            TargetSettings::BigQuery(_) => return Err(SettingsError::NotBuilt("bigquery")),
            #[cfg(feature = "bigquery")]
            TargetSettings::BigQuery(config) => {
                for url in [&config.write_endpoint, &config.rest_endpoint, &config.project_endpoint] {
                    checked_url(url, config.allow_http)?;
                }
                let (key, ca) = (optional(&config.key)?, optional(&config.ca)?);
                let credentials = Credentials::new(key.as_ref(), config.allow_http, ports.clock.clone())?;
                let reader = optional(&config.reader)?
                    .map(|key| Credentials::new(Some(&key), config.allow_http, ports.clock.clone()))
                    .transpose()?;
                let sink = BigQuerySink::new(config.clone(), credentials, reader, ca, columns);
                Box::new(sink.ok_or(SettingsError::Table)?)
            }
            TargetSettings::Snowflake(config) => {
                checked_url(&config.base_url(), config.allow_http)?;
                let named = |name: &String| is_table_name(name) && !name.contains('.');
                if !named(&config.channel) || !config.pipe.iter().all(named) {
                    return Err(SettingsError::Table);
                }
                let (key, ca) = (secrets.get(&config.key)?, optional(&config.ca)?);
                let key = AccountKey::new(&config.account, &config.user, &key)?;
                let sink = SnowflakeSink::new(config.clone(), key, ca, columns, ports.clock.clone());
                Box::new(sink.ok_or(SettingsError::Table)?)
            }
            TargetSettings::Webhook(config) => {
                let url = checked_url(&config.url, config.allow_http)?;
                let all =
                    config.secrets.iter().map(|secret| secrets.get(secret)).collect::<Result<Vec<_>, _>>()?;
                let (signer, guard) = (Signer::new(&all)?, Guard::new(&config.allow_networks)?);
                let ca = optional(&config.ca)?;
                Box::new(WebhookSink::new(
                    config.clone(),
                    url,
                    signer,
                    guard,
                    ca,
                    columns,
                    ports.clock.clone(),
                ))
            }
        })
    }

    /// Returns the longest time that one call may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s.clamp(1, 600))
    }

    /// Returns the table and how its database writes tables, if the target has one.
    pub fn dialect(&self) -> Option<(Dialect, &str)> {
        match &self.target {
            TargetSettings::Files(_) | TargetSettings::S3(_) | TargetSettings::Webhook(_) => None,
            TargetSettings::Postgres(config) => Some((Dialect::Postgres, &config.table)),
            TargetSettings::Azure(config) => Some((Dialect::Azure, &config.table)),
            TargetSettings::Snowflake(config) => Some((Dialect::Snowflake, &config.table)),
            TargetSettings::BigQuery(config) => Some((Dialect::BigQuery, &config.table)),
        }
    }

    /// Returns the kind of the target if this build was made without it.
    fn left_out(&self) -> Option<&'static str> {
        match &self.target {
            TargetSettings::Azure(_) if !cfg!(feature = "azure") => Some("azure"),
            TargetSettings::BigQuery(_) if !cfg!(feature = "bigquery") => Some("bigquery"),
            TargetSettings::S3(_) if !cfg!(feature = "s3") => Some("s3"),
            _ => None,
        }
    }

    fn table(&self) -> Option<&str> {
        self.dialect().map(|(_, table)| table)
    }
}

/// Reads a URL that we may send credentials or signatures to.
pub(crate) fn checked_url(text: &str, allow_http: bool) -> Result<Url, SettingsError> {
    let url = Url::parse(text).map_err(|_| SettingsError::Url)?;
    let scheme = url.scheme() == "https" || (allow_http && url.scheme() == "http");
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if scheme && plain && url.host().is_some() { Ok(url) } else { Err(SettingsError::Url) }
}

fn is_table_name(table: &str) -> bool {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let parts: Vec<&str> = table.split('.').collect();
    parts.len() <= 3 && parts.iter().all(|part| !part.is_empty() && part.chars().all(named))
}

fn filter() -> String {
    "{{auditEvent}} != null".to_owned()
}

fn deadline_s() -> u64 {
    30
}
