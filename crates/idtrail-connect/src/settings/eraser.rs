//! The second principal of a sink: who takes persons out of its target, `[sinks.NAME.rights]`.
//!
//! ```toml
//! [sinks.warehouse.rights]
//! user = "eraser"
//! password = { file = "/run/credentials/eraser" }
//! ```
//! It has a login and grants of its own, so that whoever writes can take nothing out. A section that names the writer is
//! refused. Host, table and certificate authorities are those of the target.

use serde::{Deserialize, Serialize};

use super::{Ports, SettingsError, SinkSettings, TargetSettings};
use crate::personal::Erase;
use crate::plan::Plan;
use crate::rights::RightsTask;
use crate::secret::{Secret, SecretRef, Secrets};
#[cfg(feature = "azure")]
use crate::sink::azure::AzureRights;
#[cfg(feature = "bigquery")]
use crate::sink::bigquery::{BigQueryRights, Credentials};
use crate::sink::postgres::PostgresRights;
use crate::sink::snowflake::{AccountKey, SnowflakeRights};

/// Who takes persons out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraserSettings {
    /// The login or role: PostgreSQL, Azure SQL, Snowflake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password: PostgreSQL, Azure SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Its key: Snowflake (private key, PEM), BigQuery (service account, JSON).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
    /// Its role: Snowflake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The warehouse that runs its statements: Snowflake; the writer's if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<String>,
}

impl EraserSettings {
    /// Checks that the section fits the target: nothing missing, nothing that is not used, and not the writer.
    ///
    /// # Errors
    /// [`SettingsError::Eraser`].
    pub(super) fn check(&self, target: &TargetSettings, erase: Erase) -> Result<(), SettingsError> {
        let refuse = |problem| Err(SettingsError::Eraser(problem));
        if erase == Erase::None {
            return refuse("is only for sinks with erase = \"delete\" or \"null\"");
        }
        let Self { user, password, key, role, warehouse } = self;
        let given = [user.is_some(), password.is_some(), key.is_some(), role.is_some(), warehouse.is_some()];
        let writer = |name: &str| user.as_deref().is_some_and(|user| user.eq_ignore_ascii_case(name));
        let same = "must not be the writer: whoever writes could take rows out";
        match (target, given) {
            (TargetSettings::Postgres(config), [true, _, false, false, false]) if writer(&config.user) => {
                refuse(same)
            }
            (TargetSettings::Postgres(_), [true, _, false, false, false]) => Ok(()),
            (TargetSettings::Postgres(_), _) => {
                refuse("needs `user` and, unless the server asks for none, `password`")
            }
            (TargetSettings::Azure(config), [true, true, false, false, false]) if writer(&config.user) => {
                refuse(same)
            }
            (TargetSettings::Azure(_), [true, true, false, false, false]) => Ok(()),
            (TargetSettings::Azure(_), _) => refuse("needs `user` and `password`"),
            (TargetSettings::BigQuery(config), [false, false, keyed, false, false]) => {
                if keyed && *key == config.key { refuse(same) } else { Ok(()) }
            }
            (TargetSettings::BigQuery(_), _) => refuse("needs `key` and nothing else"),
            (TargetSettings::Snowflake(config), [true, false, true, true, _]) if writer(&config.user) => {
                refuse(same)
            }
            (TargetSettings::Snowflake(_), [true, false, true, true, _]) => Ok(()),
            (TargetSettings::Snowflake(_), _) => refuse("needs `user`, `key` and `role`"),
            (TargetSettings::Files(_) | TargetSettings::S3(_) | TargetSettings::Webhook(_), _) => {
                refuse("is not for this kind of target")
            }
        }
    }
}

impl SinkSettings {
    /// Makes what takes persons out of this sink's target; `None` if the sink takes nobody out. Connects to nothing.
    ///
    /// # Errors
    /// `NoEraser` if the section `rights` is missing, `NoCustomer` if no row could be found; as [`SinkSettings::sink`].
    pub fn rights_task(
        &self,
        plan: &Plan,
        secrets: &dyn Secrets,
        ports: &Ports,
    ) -> Result<Option<Box<dyn RightsTask>>, SettingsError> {
        if self.erase == Erase::None {
            return Ok(None);
        }
        let eraser = self.rights.as_ref().ok_or(SettingsError::NoEraser)?;
        eraser.check(&self.target, self.erase)?;
        let mapping = &plan.mapping;
        if mapping.customer_column().is_none() {
            return Err(SettingsError::NoCustomer);
        }
        let secret = |reference: &Option<SecretRef>| -> Result<Option<Secret>, SettingsError> {
            Ok(reference.as_ref().map(|reference| secrets.get(reference)).transpose()?)
        };
        let user = || eraser.user.clone().ok_or(SettingsError::NoEraser);
        let (password, key) = (secret(&eraser.password)?, secret(&eraser.key)?);
        let task: Option<Box<dyn RightsTask>> = match &self.target {
            TargetSettings::Files(_) | TargetSettings::S3(_) | TargetSettings::Webhook(_) => {
                return Err(SettingsError::CannotErase);
            }
            TargetSettings::Postgres(config) => {
                let (mut config, ca) = (config.clone(), secret(&config.ca)?);
                config.user = user()?;
                PostgresRights::new(config, password, ca, mapping).map(|task| Box::new(task) as _)
            }
            #[cfg(not(feature = "azure"))]
            TargetSettings::Azure(_) => return Err(SettingsError::NotBuilt("azure")),
            #[cfg(feature = "azure")]
            TargetSettings::Azure(config) => {
                let (mut config, ca) = (config.clone(), secret(&config.ca)?);
                config.user = user()?;
                let password = password.ok_or(SettingsError::NoEraser)?;
                AzureRights::new(config, password, ca, mapping).map(|task| Box::new(task) as _)
            }
            #[cfg(not(feature = "bigquery"))]
            TargetSettings::BigQuery(_) => return Err(SettingsError::NotBuilt("bigquery")),
            #[cfg(feature = "bigquery")]
            TargetSettings::BigQuery(config) => {
                let ca = secret(&config.ca)?;
                let credentials = Credentials::new(key.as_ref(), config.allow_http, ports.clock.clone())?;
                BigQueryRights::new(config.clone(), credentials, ca, mapping).map(|task| Box::new(task) as _)
            }
            TargetSettings::Snowflake(config) => {
                let (mut config, ca) = (config.clone(), secret(&config.ca)?);
                config.user = user()?;
                config.role = eraser.role.clone().ok_or(SettingsError::NoEraser)?;
                config.warehouse = eraser.warehouse.clone().unwrap_or(config.warehouse);
                let key =
                    AccountKey::new(&config.account, &config.user, &key.ok_or(SettingsError::NoEraser)?)?;
                SnowflakeRights::new(&config, key, ca.as_ref(), mapping, ports.clock.clone())
                    .map_err(|_| SettingsError::Eraser("has certificate authorities that cannot be used"))?
                    .map(|task| Box::new(task) as _)
            }
        };
        task.ok_or(SettingsError::Table).map(Some)
    }
}
