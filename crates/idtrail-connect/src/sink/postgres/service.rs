//! Connections to PostgreSQL, and what its answers mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::{PostgresConfig, PostgresTls};
use super::request::{CopyFormat, Table, copy_line, copy_pieces};
use crate::engine::{Ack, Batch, Cursor, Limits, Mode, Opened};
use crate::feed::BoxFuture;
use crate::position::Position;
use crate::row::Column;
use crate::secret::Secret;
use crate::sink::{Grants, Sink};
use crate::tls;
use crate::verdict::{Failure, Rule, Status, Verdict, judge};

const RETRY: Verdict = Verdict::Retry { after: None };
const REOPEN: Verdict = Verdict::Reopen { after: None };
const POISON: Verdict = Verdict::Poison { row: None };

/// From SQLSTATEs to verdicts; classes of two characters stand behind the whole codes (PostgreSQL, appendix A).
pub const RULES: [Rule<&str>; 16] = [
    // The transaction was rolled back and may be tried again as it is.
    Rule { statuses: &["40001", "40P01", "55P03"], verdict: RETRY, code: "conflict" },
    // statement_timeout, or an admin cancelled it.
    Rule { statuses: &["57014"], verdict: RETRY, code: "cancelled" },
    // Shutdown, crash of another backend, still starting, session ended by an admin.
    Rule { statuses: &["57P01", "57P02", "57P03", "57P05"], verdict: REOPEN, code: "server_restarts" },
    // After a failover the old primary is read only: another connection may reach the new one.
    Rule { statuses: &["25006"], verdict: REOPEN, code: "read_only" },
    Rule { statuses: &["42501"], verdict: Verdict::Stop, code: "denied" },
    Rule { statuses: &["42P01", "3F000", "3D000"], verdict: Verdict::Stop, code: "table_missing" },
    Rule { statuses: &["42703", "42804", "42P10"], verdict: Verdict::Stop, code: "table_differs" },
    Rule { statuses: &["28000", "28P01"], verdict: Verdict::Stop, code: "credentials" },
    // Constraints that an admin added. The key cannot be the reason: the mark was read in the same transaction.
    Rule { statuses: &["23502", "23503", "23505", "23514", "23P01"], verdict: POISON, code: "constraint" },
    // Values that the column's type does not take. U+0000 within jsonb is 22P05.
    Rule { statuses: &["22"], verdict: POISON, code: "value" },
    // A value is too large for the server: a program limit.
    Rule { statuses: &["54"], verdict: POISON, code: "too_large" },
    // Out of memory, disk or connections.
    Rule { statuses: &["53"], verdict: RETRY, code: "resources" },
    Rule { statuses: &["58", "XX"], verdict: RETRY, code: "server_error" },
    Rule { statuses: &["08"], verdict: REOPEN, code: "connection" },
    Rule { statuses: &["42", "0A"], verdict: Verdict::Stop, code: "statement" },
    Rule { statuses: &["P0"], verdict: POISON, code: "trigger" },
];

/// Delivers to one table.
pub struct PostgresSink {
    config: PostgresConfig,
    password: Option<Secret>,
    ca: Option<Secret>,
    table: Table,
    columns: Vec<Column>,
    client: Option<Client>,
    format: CopyFormat,
}

impl std::fmt::Debug for PostgresSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSink").field("table", &self.table.quoted).finish_non_exhaustive()
    }
}

impl PostgresSink {
    /// Makes a sink; connects when it is opened.
    pub fn new(
        config: PostgresConfig,
        password: Option<Secret>,
        ca: Option<Secret>,
        columns: Vec<Column>,
    ) -> Self {
        let table = Table::new(&config.table, &columns);
        Self { config, password, ca, table, columns, client: None, format: CopyFormat::Text }
    }

    async fn open_session(&mut self) -> Result<Opened, Failure> {
        self.client = None;
        let client = connect(&self.config, self.password.as_ref(), self.ca.as_ref()).await?;
        let rows = client.simple_query(&self.table.high_water()).await.map_err(|error| verdict(&error))?;
        let high_water = newest(&rows);
        let types = client.simple_query(&self.table.types()).await.map_err(|error| verdict(&error))?;
        self.format = self.table.format(&pairs(&types));
        self.client = Some(client);
        Ok(Opened { high_water, ..Opened::default() })
    }

    async fn send(&mut self, batch: &Batch) -> Result<Ack, Failure> {
        // Taken out, so that a call that is dropped half-way takes the connection with it.
        let Some(client) = self.client.take() else {
            return Err(Failure::reopen("not_connected", Status::none()));
        };
        let result = match batch.mode {
            Mode::Live => self.copy(&client, batch).await,
            Mode::Keyed => self.insert(&client, batch).await,
        };
        if let Err(failure) = &result
            && matches!(failure.verdict, Verdict::Retry { .. } | Verdict::Poison { .. })
        {
            // The transaction is broken; without this the next batch would be told so.
            if client.batch_execute("ROLLBACK").await.is_err() {
                return Err(Failure::reopen(failure.code, failure.status.clone()));
            }
        }
        if !matches!(&result, Err(Failure { verdict: Verdict::Reopen { .. }, .. })) {
            self.client = Some(client);
        }
        result.map(|()| Ack::default())
    }

    async fn copy(&self, client: &Client, batch: &Batch) -> Result<(), Failure> {
        let rows = client.simple_query(&self.table.begin()).await.map_err(|error| verdict(&error))?;
        if newest(&rows) >= Some(batch.first()) {
            // Another writer was here, or an answer of ours was lost.
            return Err(Failure::reopen("not_above_mark", Status::none()));
        }
        let sink = client.copy_in::<_, Bytes>(&self.table.copy(self.format)).await;
        let mut sink = std::pin::pin!(sink.map_err(|error| verdict(&error))?);
        for piece in copy_pieces(batch, self.format) {
            sink.send(piece).await.map_err(|error| verdict(&error))?;
        }
        let copied = sink.finish().await.map_err(|error| verdict(&error))?;
        if copied != batch.rows.len() as u64 {
            return Err(Failure::reopen("count_differs", Status::none()));
        }
        client.batch_execute("COMMIT").await.map_err(|error| verdict(&error))
    }

    async fn insert(&self, client: &Client, batch: &Batch) -> Result<(), Failure> {
        let rows: Vec<serde_json::Value> =
            batch.rows.iter().map(|row| row.to_json(&self.columns).into()).collect();
        client
            .execute(&self.table.insert_keyed(), &[&serde_json::Value::Array(rows)])
            .await
            .map(|_| ())
            .map_err(|error| verdict(&error))
    }

    async fn ask_grants(&mut self) -> Result<Grants, Failure> {
        let Some(client) = &self.client else {
            return Err(Failure::reopen("not_connected", Status::none()));
        };
        let rows = client.simple_query(&self.table.excess()).await.map_err(|error| verdict(&error))?;
        let can = rows.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(Grants::from_excess(can.collect()))
    }
}

impl Sink for PostgresSink {
    fn limits(&self) -> Limits {
        Limits {
            rows_max: self.config.rows_max.max(1),
            bytes_max: 8 * 1024 * 1024,
            linger_ms: 0,
            notes_intent: false,
            saves_every_batch: false,
            keyed: true,
        }
    }

    fn open<'a>(&'a mut self, _: &'a Cursor) -> BoxFuture<'a, Result<Opened, Failure>> {
        Box::pin(self.open_session())
    }

    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Ack, Failure>> {
        Box::pin(self.send(batch))
    }

    fn count(&mut self, first: Position, last: Position) -> BoxFuture<'_, Result<Option<u64>, Failure>> {
        Box::pin(async move {
            let Some(client) = &self.client else { return Ok(None) };
            let rows = client.simple_query(&self.table.count(first, last)).await;
            let rows = rows.map_err(|error| verdict(&error))?;
            Ok(rows.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
                _ => None,
            }))
        })
    }

    fn grants(&mut self) -> BoxFuture<'_, Result<Grants, Failure>> {
        Box::pin(self.ask_grants())
    }
}

/// Connects; the connection's own task ends with the client.
pub(super) async fn connect(
    config: &PostgresConfig,
    password: Option<&Secret>,
    ca: Option<&Secret>,
) -> Result<Client, Failure> {
    let mut settings = tokio_postgres::Config::new();
    settings
        .host(&config.host)
        .port(config.port)
        .dbname(&config.database)
        .user(&config.user)
        .application_name("idtrail")
        .connect_timeout(std::time::Duration::from_secs(10))
        // A dead peer is noticed also while nothing is sent.
        .keepalives_idle(std::time::Duration::from_secs(30));
    if let Some(password) = password {
        settings.password(password.expose());
    }
    let client = match config.tls {
        PostgresTls::Disable => {
            settings.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let (client, connection) = settings.connect(NoTls).await.map_err(|error| verdict(&error))?;
            drop(tokio::spawn(connection));
            client
        }
        PostgresTls::VerifyFull => {
            settings.ssl_mode(tokio_postgres::config::SslMode::Require);
            let tls = MakeRustlsConnect::new(Arc::unwrap_or_clone(tls::client_config(ca)?));
            let (client, connection) = settings.connect(tls).await.map_err(|error| verdict(&error))?;
            drop(tokio::spawn(connection));
            client
        }
    };
    Ok(client)
}

fn newest(rows: &[SimpleQueryMessage]) -> Option<Position> {
    rows.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) if row.len() == 2 => {
            Some(Position::new(row.get(0)?.parse().ok()?, row.get(1)?.parse().ok()?))
        }
        _ => None,
    })
}

fn pairs(rows: &[SimpleQueryMessage]) -> BTreeMap<String, String> {
    let pair = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((row.try_get(0).ok()??.to_owned(), row.try_get(1).ok()??.to_owned()))
        }
        _ => None,
    };
    rows.iter().filter_map(pair).collect()
}

/// Judges an error. Its text, which may hold values, goes nowhere.
pub(super) fn verdict(error: &tokio_postgres::Error) -> Failure {
    let Some(server) = error.as_db_error() else {
        // The connection broke or the handshake failed. A certificate that does not verify needs a person.
        if tls::is_certificate_error(error) {
            return Failure::stop("certificate", Status::none());
        }
        return Failure::reopen("connection", Status::none());
    };
    let state: &SqlState = server.code();
    let code = state.code();
    let class = code.get(..2).unwrap_or_default();
    let judged = judge(&RULES, code).or_else(|| judge(&RULES, class));
    let (mut verdict, name) = judged.unwrap_or((RETRY, "unknown"));
    if let Verdict::Poison { row } = &mut verdict {
        *row = server.where_().and_then(copy_line);
    }
    Failure { verdict, code: name, status: Status::new(code) }
}
