//! Takes a person out of a BigQuery table, as a service account that may run jobs.

use serde_json::{Value, json};

use super::config::BigQueryConfig;
use super::credentials::Credentials;
use super::request::TableName;
use super::service::{call_rest, rest_client};
use crate::ddl::{Dialect, quote};
use crate::feed::BoxFuture;
use crate::mapping::Mapping;
use crate::rights::{Person, Residual, RightsTask, erase_statement};
use crate::secret::Secret;
use crate::verdict::{Failure, Status};

/// The second principal's way to one table.
pub struct BigQueryRights {
    config: BigQueryConfig,
    credentials: Credentials,
    ca: Option<Secret>,
    project: String,
    count: String,
    erase: String,
}

impl std::fmt::Debug for BigQueryRights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BigQueryRights(…)")
    }
}

impl BigQueryRights {
    /// Makes a task for a sink's table. `credentials` are the second principal's. `None` if the sink erases nothing or
    /// does not map the customer.
    pub fn new(
        config: BigQueryConfig,
        credentials: Credentials,
        ca: Option<Secret>,
        mapping: &Mapping,
    ) -> Option<Self> {
        let table = TableName::parse(&config.table)?;
        let customer = quote(Dialect::BigQuery, mapping.customer_column()?);
        let found = format!("{customer} IN UNNEST(@ids)");
        let quoted = table.quoted();
        let erase = erase_statement(Dialect::BigQuery, &quoted, &found, mapping)?;
        let count = format!("SELECT COUNT(*) FROM {quoted} WHERE {found}");
        Some(Self { config, credentials, ca, project: table.project, count, erase })
    }

    async fn run(&mut self, statement: &str, person: &Person) -> Result<Value, Failure> {
        let client = rest_client(self.ca.as_ref())?;
        let url = format!("{}/bigquery/v2/projects/{}/queries", self.config.rest_endpoint, self.project);
        let ids: Vec<Value> = person.customer_ids.iter().map(|id| json!({"value": id})).collect();
        let body = json!({
            "query": statement,
            "useLegacySql": false,
            // Less than a call's deadline, and no cached count: a probe must look.
            "timeoutMs": 20_000,
            "useQueryCache": false,
            "parameterMode": "NAMED",
            "queryParameters": [{
                "name": "ids",
                "parameterType": {"type": "ARRAY", "arrayType": {"type": "STRING"}},
                "parameterValue": {"arrayValues": ids},
            }],
        });
        let answer = call_rest(&client, &mut self.credentials, &url, &body).await?;
        if answer.get("jobComplete").and_then(Value::as_bool) != Some(true) {
            // It may still run: the next look tells.
            return Err(Failure::reopen("not_complete", Status::none()));
        }
        if answer.get("errors").and_then(Value::as_array).is_some_and(|errors| !errors.is_empty()) {
            return Err(Failure::stop("statement", Status::none()));
        }
        Ok(answer)
    }

    async fn count(&mut self, person: &Person) -> Result<u64, Failure> {
        let statement = self.count.clone();
        let answer = self.run(&statement, person).await?;
        let cell = answer.pointer("/rows/0/f/0/v");
        number(cell).ok_or_else(|| Failure::reopen("answer", Status::none()))
    }

    async fn take_out(&mut self, person: &Person) -> Result<u64, Failure> {
        let statement = self.erase.clone();
        let answer = self.run(&statement, person).await?;
        Ok(number(answer.get("numDmlAffectedRows")).unwrap_or(0))
    }
}

/// BigQuery writes 64-bit numbers as texts.
fn number(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

impl RightsTask for BigQueryRights {
    fn lookup<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.count(person))
    }

    fn erase<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.take_out(person))
    }

    fn probe<'a>(&'a mut self, person: &'a Person) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(self.count(person))
    }

    fn residual(&self) -> Vec<Residual> {
        vec![
            Residual { mechanism: "time travel", hours_max: Some(7 * 24) },
            Residual { mechanism: "fail-safe after time travel", hours_max: Some(14 * 24) },
            Residual { mechanism: "snapshots, clones and exports", hours_max: None },
        ]
    }
}
