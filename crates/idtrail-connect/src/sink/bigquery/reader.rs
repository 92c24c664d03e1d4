//! Asks the table what it has, as an account that may run queries and change nothing. Needed only where the stream cannot be
//! asked any more: it is gone while a batch was in doubt, or nobody knows its name because the cursor was lost.

use serde_json::{Value, json};

use super::credentials::Credentials;
use super::request::TableName;
use super::service::call_rest;
use crate::engine::Intent;
use crate::position::Position;
use crate::row::{LOG_ID, SEQ};
use crate::sink::between;
use crate::verdict::{Failure, Status};

/// A way to run queries.
pub(super) struct Reader {
    pub(super) credentials: Credentials,
    url: String,
    table: String,
}

impl Reader {
    pub(super) fn new(credentials: Credentials, rest_endpoint: &str, table: &TableName) -> Self {
        let url = format!("{rest_endpoint}/bigquery/v2/projects/{}/queries", table.project);
        Self { credentials, url, table: table.quoted() }
    }

    /// Tells whether the noted batch is in the table. A batch is one append, which is taken whole or not at all.
    pub(super) async fn has(&mut self, client: &reqwest::Client, intent: Intent) -> Result<bool, Failure> {
        let row = self.counts(client, intent.first, intent.last).await?;
        match row.as_deref() {
            Some([0, _]) => Ok(false),
            Some([count, distinct]) if *count == intent.rows && count == distinct => Ok(true),
            // Part of it, or rows twice: neither can come of one append. Somebody else wrote.
            Some(_) => Err(Failure::stop("stream_differs", Status::none())),
            None => Err(Failure::reopen("answer", Status::none())),
        }
    }

    /// Counts the rows between two places, both included.
    pub(super) async fn count(
        &mut self,
        client: &reqwest::Client,
        first: Position,
        last: Position,
    ) -> Result<Option<u64>, Failure> {
        Ok(self.counts(client, first, last).await?.and_then(|row| row.first().copied()))
    }

    /// Rows between two places, and how many different places they have.
    async fn counts(
        &mut self,
        client: &reqwest::Client,
        first: Position,
        last: Position,
    ) -> Result<Option<Vec<u64>>, Failure> {
        let statement = format!(
            "SELECT COUNT(*), COUNT(DISTINCT CONCAT(CAST({LOG_ID} AS STRING), '/', CAST({SEQ} AS STRING))) FROM {} \
             WHERE {}",
            self.table,
            between((LOG_ID, SEQ), first, last)
        );
        self.query(client, &statement).await
    }

    /// Returns the newest row's place; `None` if the table is empty.
    pub(super) async fn newest(&mut self, client: &reqwest::Client) -> Result<Option<Position>, Failure> {
        let statement =
            format!("SELECT {LOG_ID}, {SEQ} FROM {} ORDER BY {LOG_ID} DESC, {SEQ} DESC LIMIT 1", self.table);
        let Some(row) = self.query(client, &statement).await? else { return Ok(None) };
        let place = match row.as_slice() {
            [log_id, seq] => u32::try_from(*log_id).ok().map(|log_id| Position::new(log_id, *seq)),
            _ => None,
        };
        place.map(Some).ok_or_else(|| Failure::reopen("answer", Status::none()))
    }

    /// Runs a query of two whole numbers and returns the first row.
    async fn query(
        &mut self,
        client: &reqwest::Client,
        statement: &str,
    ) -> Result<Option<Vec<u64>>, Failure> {
        // A cached answer could be older than the batch.
        let body = json!({
            "query": statement, "useLegacySql": false, "timeoutMs": 20_000, "useQueryCache": false,
        });
        let answer = call_rest(client, &mut self.credentials, &self.url, &body).await?;
        let broken = || Failure::reopen("answer", Status::none());
        if answer.get("jobComplete").and_then(Value::as_bool) != Some(true) {
            return Err(Failure::reopen("not_complete", Status::none()));
        }
        if answer.get("errors").and_then(Value::as_array).is_some_and(|errors| !errors.is_empty()) {
            return Err(Failure::stop("statement", Status::none()));
        }
        let Some(cells) = answer.pointer("/rows/0/f") else { return Ok(None) };
        // BigQuery writes 64-bit numbers as texts.
        let number = |cell: &Value| cell.get("v")?.as_str()?.parse().ok();
        let cells = cells.as_array().ok_or_else(broken)?;
        cells.iter().map(number).collect::<Option<Vec<u64>>>().map(Some).ok_or_else(broken)
    }
}
