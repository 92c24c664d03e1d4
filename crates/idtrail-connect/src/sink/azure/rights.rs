//! Takes a person out of an Azure SQL table, under a principal that may DELETE or UPDATE.

use super::config::AzureConfig;
use super::request::{COUNT, Table};
use super::service::{Connection, connect, rows, touched};
use crate::ddl::{Dialect, quote};
use crate::feed::BoxFuture;
use crate::mapping::Mapping;
use crate::rights::{Person, Residual, RightsTask, erase_statement};
use crate::secret::Secret;
use crate::verdict::Failure;

/// The second principal's connection to one table.
pub struct AzureRights {
    config: AzureConfig,
    password: Secret,
    ca: Option<Secret>,
    count: String,
    erase: String,
    client: Option<Connection>,
}

impl std::fmt::Debug for AzureRights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AzureRights(…)")
    }
}

impl AzureRights {
    /// Makes a task for a sink's table. `config` and `password` are the second principal's. `None` if the sink erases
    /// nothing or does not map the customer.
    pub fn new(config: AzureConfig, password: Secret, ca: Option<Secret>, mapping: &Mapping) -> Option<Self> {
        let customer = quote(Dialect::Azure, mapping.customer_column()?);
        let table = Table::new(&config.table, mapping.columns()).quoted;
        let found = format!("{customer} IN (SELECT value FROM OPENJSON(@P1))");
        let erase = erase_statement(Dialect::Azure, &table, &found, mapping)?;
        let count = format!("SELECT COUNT_BIG(*) AS found FROM {table} WHERE {found}");
        Some(Self { config, password, ca, count, erase: format!("{erase}; {COUNT}"), client: None })
    }

    async fn run(&mut self, statement: String, person: &Person) -> Result<u64, Failure> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => connect(&self.config, &self.password, self.ca.as_ref()).await?,
        };
        let ids = serde_json::Value::from(person.customer_ids.clone()).to_string();
        let answer = rows(&mut client, &statement, Some(&ids)).await?;
        // Kept only where it answered.
        self.client = Some(client);
        touched(&answer)
    }
}

impl RightsTask for AzureRights {
    fn lookup<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.run(self.count.clone(), person))
    }

    fn erase<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.run(self.erase.clone(), person))
    }

    fn probe<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.run(self.count.clone(), person))
    }

    fn residual(&self) -> Vec<Residual> {
        vec![
            // Azure SQL keeps 7 days unless an admin chose 1 to 35, and long-term backups where they are on.
            Residual { mechanism: "point-in-time restore", hours_max: Some(35 * 24) },
            Residual { mechanism: "long-term backups, replicas and copies", hours_max: None },
        ]
    }
}
