//! Takes a person out of a PostgreSQL table, under a principal that may DELETE or UPDATE.

use tokio_postgres::Client;

use super::config::PostgresConfig;
use super::request::{Table, quote};
use super::service::{connect, verdict};
use crate::feed::BoxFuture;
use crate::mapping::Mapping;
use crate::personal::Erase;
use crate::rights::{Person, Residual, RightsTask};
use crate::secret::Secret;
use crate::verdict::{Failure, Status};

/// The second principal's connection to one table.
pub struct PostgresRights {
    config: PostgresConfig,
    password: Option<Secret>,
    ca: Option<Secret>,
    count: String,
    erase: String,
    client: Option<Client>,
}

impl std::fmt::Debug for PostgresRights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresRights(…)")
    }
}

impl PostgresRights {
    /// Makes a task for a sink's table. `config` names the second principal. `None` if the sink erases nothing or does
    /// not map the customer.
    pub fn new(
        config: PostgresConfig,
        password: Option<Secret>,
        ca: Option<Secret>,
        mapping: &Mapping,
    ) -> Option<Self> {
        let customer = quote(mapping.customer_column()?);
        let table = Table::new(&config.table, mapping.columns()).quoted;
        let found = format!("{customer} = ANY($1)");
        let erase = match mapping.privacy().erase() {
            Erase::None => return None,
            Erase::Delete => format!("DELETE FROM {table} WHERE {found}"),
            Erase::Null => {
                let personal = mapping.columns().iter().filter(|column| column.personal);
                let nulls: Vec<String> =
                    personal.map(|column| format!("{} = NULL", quote(&column.name))).collect();
                format!("UPDATE {table} SET {} WHERE {found}", nulls.join(", "))
            }
        };
        let count = format!("SELECT count(*) FROM {table} WHERE {found}");
        Some(Self { config, password, ca, count, erase, client: None })
    }

    async fn client(&mut self) -> Result<Client, Failure> {
        match self.client.take() {
            Some(client) if !client.is_closed() => Ok(client),
            _ => connect(&self.config, self.password.as_ref(), self.ca.as_ref()).await,
        }
    }

    async fn count(&mut self, person: &Person) -> Result<u64, Failure> {
        let client = self.client().await?;
        let row =
            client.query_one(&self.count, &[&person.customer_ids]).await.map_err(|error| verdict(&error))?;
        let count: i64 = row.try_get(0).map_err(|_| Failure::reopen("answer", Status::none()))?;
        self.client = Some(client);
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn run(&mut self, person: &Person) -> Result<u64, Failure> {
        let client = self.client().await?;
        let touched =
            client.execute(&self.erase, &[&person.customer_ids]).await.map_err(|error| verdict(&error))?;
        self.client = Some(client);
        Ok(touched)
    }
}

impl RightsTask for PostgresRights {
    fn lookup<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.count(person))
    }

    fn erase<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.run(person))
    }

    fn probe<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.count(person))
    }

    fn residual(&self) -> Vec<Residual> {
        vec![
            Residual { mechanism: "dead row versions until VACUUM", hours_max: None },
            Residual { mechanism: "write-ahead log archives and backups", hours_max: None },
        ]
    }
}
