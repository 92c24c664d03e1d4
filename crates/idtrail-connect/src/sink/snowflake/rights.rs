//! Takes a person out of a Snowflake table, under a role that may DELETE or UPDATE.

use std::sync::Arc;

use idtrail_port::Clock;

use super::api::{AccountKey, Api, unreadable};
use super::config::SnowflakeConfig;
use super::request::Table;
use crate::ddl::{Dialect, quote};
use crate::feed::BoxFuture;
use crate::mapping::Mapping;
use crate::rights::{Person, Residual, RightsTask, erase_statement};
use crate::secret::Secret;
use crate::verdict::Failure;

/// The second principal's way to one table.
pub struct SnowflakeRights {
    api: Api,
    count: String,
    erase: String,
}

impl std::fmt::Debug for SnowflakeRights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnowflakeRights(…)")
    }
}

impl SnowflakeRights {
    /// Makes a task for a sink's table. `config` and `key` are the second principal's. `None` if the sink erases nothing
    /// or does not map the customer.
    ///
    /// # Errors
    /// [`Failure`] if the certificate authorities cannot be used.
    pub fn new(
        config: &SnowflakeConfig,
        key: AccountKey,
        ca: Option<&Secret>,
        mapping: &Mapping,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, Failure> {
        let (Some(table), Some(customer)) =
            (Table::new(&config.table, mapping.columns()), mapping.customer_column())
        else {
            return Ok(None);
        };
        let customer = quote(Dialect::Snowflake, customer);
        let found =
            format!("{customer} IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) f)");
        let Some(erase) = erase_statement(Dialect::Snowflake, &table.quoted, &found, mapping) else {
            return Ok(None);
        };
        let count = format!("SELECT COUNT(*) FROM {} WHERE {found}", table.quoted);
        Ok(Some(Self { api: Api::new(config, key, ca, clock)?, count, erase }))
    }

    /// Both the count and what a change touched stand in the first cell.
    async fn run(&self, statement: &str, person: &Person) -> Result<u64, Failure> {
        let ids = serde_json::Value::from(person.customer_ids.clone()).to_string();
        let answer = self.api.statement(statement, &[ids]).await?;
        answer.number(0, 0).ok_or_else(unreadable)
    }
}

impl RightsTask for SnowflakeRights {
    fn lookup<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.run(&self.count, person))
    }

    fn erase<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.run(&self.erase, person))
    }

    fn probe<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.run(&self.count, person))
    }

    fn residual(&self) -> Vec<Residual> {
        vec![
            // The DDL says one day; an admin may have made it more, up to 90.
            Residual { mechanism: "time travel", hours_max: Some(90 * 24) },
            Residual { mechanism: "fail-safe after time travel", hours_max: Some(97 * 24) },
            Residual { mechanism: "clones, backups and replicas", hours_max: None },
        ]
    }
}
