//! Calls to Snowflake's REST and SQL APIs with tokens of our own, and what the answers mean.

use std::sync::Arc;
use std::time::Duration;

use idtrail_port::Clock;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use super::config::SnowflakeConfig;
use crate::http_client;
use crate::jwt::{KeyError, SigningKey};
use crate::secret::Secret;
use crate::verdict::{Failure, Rule, Status, Verdict, judge};

const RETRY: Verdict = Verdict::Retry { after: None };
const REOPEN: Verdict = Verdict::Reopen { after: None };
const POISON: Verdict = Verdict::Poison { row: None };

/// From HTTP statuses to verdicts, for both APIs.
pub const REST_RULES: [Rule<u16>; 6] = [
    Rule { statuses: &[429], verdict: RETRY, code: "busy" },
    Rule { statuses: &[401], verdict: Verdict::Stop, code: "credentials" },
    Rule { statuses: &[403], verdict: Verdict::Stop, code: "denied" },
    // Table, pipe or channel.
    Rule { statuses: &[404], verdict: Verdict::Stop, code: "table_missing" },
    // Of an append: the continuation token is not the newest, because an answer was lost or another process opened the
    // channel. Opening it anew tells what was committed.
    Rule { statuses: &[400, 409], verdict: REOPEN, code: "continuation" },
    Rule { statuses: &[413], verdict: POISON, code: "too_large" },
];

/// From the codes of failed statements (HTTP 422) to verdicts. Their tables hold six digits with zeros in front.
pub const SQL_RULES: [Rule<&str>; 6] = [
    // Object does not exist or not authorised: Snowflake does not say which.
    Rule { statuses: &["002003", "002043"], verdict: Verdict::Stop, code: "table_missing" },
    // Invalid identifier: a column of ours is not in the table. Types that do not go together.
    Rule { statuses: &["000904", "002023", "001007"], verdict: Verdict::Stop, code: "table_differs" },
    Rule { statuses: &["003001", "003041"], verdict: Verdict::Stop, code: "denied" },
    // No warehouse chosen, or it is suspended and may not be started.
    Rule { statuses: &["000606", "000609"], verdict: Verdict::Stop, code: "warehouse" },
    // Cast failed, number or timestamp or boolean not recognised, null in a NOT NULL column, text too long, bad JSON.
    Rule {
        statuses: &["100035", "100038", "100037", "100072", "100078", "100069", "100071", "100046", "001048"],
        verdict: POISON,
        code: "value",
    },
    // Statement time-out, cancelled, lock not got: rolled back.
    Rule { statuses: &["000630", "000604", "000625", "000684"], verdict: RETRY, code: "cancelled" },
];

/// Snowflake takes tokens of an hour at most.
const LIFETIME_S: i64 = 3000;
/// A statement that nobody waits for any more ends by itself after this long, seconds.
const STATEMENT_S: u64 = 25;
const POLL: Duration = Duration::from_millis(200);

/// A user's key for one account.
#[derive(Debug)]
pub struct AccountKey {
    key: SigningKey,
    subject: String,
    fingerprint: String,
}

impl AccountKey {
    /// Reads the private key of a user.
    ///
    /// # Errors
    /// [`KeyError`] if it cannot be used.
    pub fn new(account: &str, user: &str, pem: &Secret) -> Result<Self, KeyError> {
        let key = SigningKey::from_pem(pem.expose())?;
        let fingerprint = key.fingerprint()?;
        // A region behind the account's locator is no part of the name.
        let account = account.split('.').next().unwrap_or_default();
        Ok(Self { key, subject: format!("{account}.{user}").to_uppercase(), fingerprint })
    }

    fn token(&self, now_s: i64) -> Result<String, Failure> {
        let claims = json!({
            "iss": format!("{}.{}", self.subject, self.fingerprint),
            "sub": self.subject,
            "iat": now_s,
            "exp": now_s + LIFETIME_S,
        });
        self.key.sign(&claims, None).map_err(|_| Failure::stop("credentials", Status::none()))
    }
}

/// What calls need.
pub(super) struct Api {
    base: String,
    role: String,
    warehouse: String,
    key: AccountKey,
    clock: Arc<dyn Clock>,
    client: Client,
}

/// The answer of a statement.
pub(super) struct Answer {
    names: Vec<String>,
    /// All rows; Snowflake writes every value as a text.
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Answer {
    /// Returns a cell of a row by the column's name.
    pub(super) fn cell<'a>(&self, row: &'a [Option<String>], name: &str) -> Option<&'a str> {
        let at = self.names.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        row.get(at)?.as_deref()
    }

    /// Returns the number in a row and column.
    pub(super) fn number(&self, row: usize, column: usize) -> Option<u64> {
        self.rows.get(row)?.get(column)?.as_deref()?.parse().ok()
    }
}

impl Api {
    pub(super) fn new(
        config: &SnowflakeConfig,
        key: AccountKey,
        ca: Option<&Secret>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let client =
            http_client::builder(ca)?.build().map_err(|_| Failure::stop("client", Status::none()))?;
        let (role, warehouse) = (config.role.clone(), config.warehouse.clone());
        Ok(Self { base: config.base_url(), role, warehouse, key, clock, client })
    }

    pub(super) fn now_s(&self) -> i64 {
        self.clock.wall_ms() / 1000
    }

    pub(super) fn get(&self, path: &str) -> Result<RequestBuilder, Failure> {
        self.signed(self.client.get(format!("{}{path}", self.base)))
    }

    pub(super) fn post(&self, path: &str) -> Result<RequestBuilder, Failure> {
        self.signed(self.client.post(format!("{}{path}", self.base)))
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    fn signed(&self, request: RequestBuilder) -> Result<RequestBuilder, Failure> {
        let token = self.key.token(self.now_s())?;
        Ok(request
            .header("authorization", format!("Bearer {token}"))
            .header("x-snowflake-authorization-token-type", "KEYPAIR_JWT"))
    }

    /// Sends a request; what is not 2xx is a failure.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| http_client::unanswered(&error))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let (mut verdict, code) = judge(&REST_RULES, &status).unwrap_or((REOPEN, "server_error"));
        if let Verdict::Retry { after } = &mut verdict {
            *after = http_client::retry_after(response.headers(), self.clock.wall_ms());
        }
        if status == 422 {
            let answer: Value = response.json().await.unwrap_or_default();
            let number = answer.get("code").and_then(Value::as_str).unwrap_or_default();
            let (verdict, code) = judge(&SQL_RULES, number).unwrap_or((Verdict::Stop, "statement"));
            return Err(Failure { verdict, code, status: Status::new(number) });
        }
        Err(Failure { verdict, code, status: status.into() })
    }

    /// Runs a statement with texts bound to its question marks, and waits for its end.
    pub(super) async fn statement(&self, statement: &str, bound: &[String]) -> Result<Answer, Failure> {
        let bindings: serde_json::Map<String, Value> = (1..)
            .zip(bound)
            .map(|(number, value): (usize, &String)| {
                (number.to_string(), json!({"type": "TEXT", "value": value}))
            })
            .collect();
        let body = json!({
            "statement": statement,
            "timeout": STATEMENT_S,
            "role": self.role,
            "warehouse": self.warehouse,
            "bindings": bindings,
            "parameters": {"TIMEZONE": "UTC"},
        });
        let mut response = self.send(self.post("/api/v2/statements")?.json(&body)).await?;
        while response.status().as_u16() == 202 {
            let waiting: Value = response.json().await.map_err(|_| unreadable())?;
            let handle = waiting.get("statementHandle").and_then(Value::as_str).ok_or_else(unreadable)?;
            if !handle.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(unreadable());
            }
            tokio::time::sleep(POLL).await;
            response = self.send(self.get(&format!("/api/v2/statements/{handle}"))?).await?;
        }
        let answer: Value = response.json().await.map_err(|_| unreadable())?;
        read_answer(&answer).ok_or_else(unreadable)
    }
}

/// An answer that we cannot read leaves open what happened.
pub(super) fn unreadable() -> Failure {
    Failure::reopen("answer", Status::none())
}

fn read_answer(answer: &Value) -> Option<Answer> {
    // What we ask for fits into one part; a cut-off answer must not pass for a whole one.
    let parts =
        answer.pointer("/resultSetMetaData/partitionInfo").and_then(Value::as_array).map_or(1, Vec::len);
    if parts > 1 {
        return None;
    }
    let types = answer.pointer("/resultSetMetaData/rowType").and_then(Value::as_array)?;
    let names =
        types.iter().map(|column| Some(column.get("name")?.as_str()?.to_owned())).collect::<Option<_>>()?;
    let cell = |cell: &Value| cell.as_str().map(str::to_owned);
    let row = |row: &Value| Some(row.as_array()?.iter().map(cell).collect());
    let rows = answer.get("data")?.as_array()?.iter().map(row).collect::<Option<_>>()?;
    Some(Answer { names, rows })
}
