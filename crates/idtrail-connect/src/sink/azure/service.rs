//! Connections to Azure SQL, and what its answers mean.

use std::time::Duration;

use tiberius::{AuthMethod, Client, Config, EncryptionLevel, Query, Row};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt as _};

use super::config::AzureConfig;
use super::request::{Table, rows_json};
use crate::engine::{Ack, Batch, Cursor, Limits, Mode, Opened};
use crate::feed::BoxFuture;
use crate::position::Position;
use crate::row::Column;
use crate::secret::Secret;
use crate::sink::{Grants, Sink};
use crate::verdict::{Failure, Rule, Status, Verdict, judge};

const RETRY: Verdict = Verdict::Retry { after: None };
const REOPEN: Verdict = Verdict::Reopen { after: None };
const POISON: Verdict = Verdict::Poison { row: None };

/// From error numbers to verdicts. Numbers that stand nowhere are 16 or higher in class or rare: they are tried again.
pub const RULES: [Rule<u32>; 11] = [
    // Deadlock victim, lock time-out, out of locks: the transaction was rolled back.
    Rule { statuses: &[1204, 1205, 1222, 3960], verdict: RETRY, code: "conflict" },
    // Azure's throttling: busy, limits of workers and sessions, log rate, tempdb.
    Rule {
        statuses: &[
            40501, 10928, 10929, 10936, 49918, 49919, 49920, 40544, 40549, 40551, 40552, 40553, 701, 8645,
        ],
        verdict: RETRY,
        code: "busy",
    },
    // Failover, reconfiguration, a database that is being started or moved. The session is gone or will be.
    Rule {
        statuses: &[
            233, 4060, 4221, 615, 926, 6005, 10053, 10054, 10060, 40197, 40540, 40613, 40143, 42108, 42109,
        ],
        verdict: REOPEN,
        code: "server_restarts",
    },
    // The database is a read-only replica: another connection may reach the new primary.
    Rule { statuses: &[3906, 978, 979], verdict: REOPEN, code: "read_only" },
    // The key is there already although the mark was read in this transaction: look again.
    Rule { statuses: &[2627, 2601], verdict: REOPEN, code: "key_exists" },
    Rule {
        statuses: &[18452, 18456, 18470, 18486, 18487, 18488, 40532, 40615],
        verdict: Verdict::Stop,
        code: "credentials",
    },
    Rule { statuses: &[229, 230, 262, 297, 300, 916], verdict: Verdict::Stop, code: "denied" },
    Rule { statuses: &[208], verdict: Verdict::Stop, code: "table_missing" },
    Rule { statuses: &[207, 213, 206, 257, 260], verdict: Verdict::Stop, code: "table_differs" },
    // Constraints, and values that the column does not take: null, conversion, length, range, JSON.
    Rule {
        statuses: &[515, 547, 245, 241, 242, 2628, 8152, 8114, 8115, 220, 13609, 13610, 9803],
        verdict: POISON,
        code: "value",
    },
    // The database or the disk is full.
    Rule { statuses: &[1105, 9002], verdict: RETRY, code: "full" },
];

/// A connection.
pub(super) type Connection = Client<Compat<TcpStream>>;

/// Delivers to one table.
pub struct AzureSink {
    config: AzureConfig,
    password: Secret,
    ca: Option<Secret>,
    table: Table,
    columns: Vec<Column>,
    client: Option<Connection>,
}

impl std::fmt::Debug for AzureSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureSink").field("table", &self.table.quoted).finish_non_exhaustive()
    }
}

impl AzureSink {
    /// Makes a sink; connects when it is opened.
    pub fn new(config: AzureConfig, password: Secret, ca: Option<Secret>, columns: Vec<Column>) -> Self {
        let table = Table::new(&config.table, &columns);
        Self { config, password, ca, table, columns, client: None }
    }

    async fn open_session(&mut self) -> Result<Opened, Failure> {
        self.client = None;
        let mut client = connect(&self.config, &self.password, self.ca.as_ref()).await?;
        let high_water = newest(&rows(&mut client, &self.table.high_water(), None).await?)?;
        let found = rows(&mut client, &self.table.columns_asked(), None).await?;
        let text = |row: &Row, at: usize| row.try_get::<&str, _>(at).ok().flatten().map(str::to_owned);
        let found: Option<Vec<_>> = found.iter().map(|row| Some((text(row, 0)?, text(row, 1)?))).collect();
        if !self.table.fits(&found.unwrap_or_default()) {
            return Err(Failure::stop("table_differs", Status::none()));
        }
        self.client = Some(client);
        Ok(Opened { high_water, ..Opened::default() })
    }

    async fn send(&mut self, batch: &Batch) -> Result<Ack, Failure> {
        // Taken out, so that a call that is dropped half-way takes the connection with it.
        let Some(mut client) = self.client.take() else {
            return Err(Failure::reopen("not_connected", Status::none()));
        };
        let result = self.insert(&mut client, batch).await;
        let usable = match &result {
            Ok(()) => true,
            // Some errors end the transaction by themselves and some do not. A connection that cannot say is given up,
            // and the transaction with it.
            Err(Failure { verdict: Verdict::Retry { .. } | Verdict::Poison { .. }, .. }) => {
                client.rollback_transaction().await.is_ok()
            }
            Err(_) => false,
        };
        if usable {
            self.client = Some(client);
        }
        result.map(|()| Ack::default())
    }

    async fn insert(&self, client: &mut Connection, batch: &Batch) -> Result<(), Failure> {
        let json = rows_json(batch, &self.columns);
        client.begin_transaction().await.map_err(|error| verdict(&error))?;
        let statement = match batch.mode {
            Mode::Live => {
                let mark = rows(client, &self.table.high_water_locked(), None).await?;
                if newest(&mark)? >= Some(batch.first()) {
                    // Another writer was here, or an answer of ours was lost.
                    return Err(Failure::reopen("not_above_mark", Status::none()));
                }
                self.table.insert()
            }
            Mode::Keyed => self.table.insert_keyed(),
        };
        let touched = touched(&rows(client, &statement, Some(&json)).await?)?;
        if batch.mode == Mode::Live && touched != batch.rows.len() as u64 {
            return Err(Failure::reopen("count_differs", Status::none()));
        }
        // Whatever the answer to a commit is, it may have happened.
        client.commit_transaction().await.map_err(|error| match verdict(&error) {
            Failure { verdict: Verdict::Retry { .. } | Verdict::Poison { .. }, code, status } => {
                Failure::reopen(code, status)
            }
            failure => failure,
        })
    }

    async fn ask_grants(&mut self) -> Result<Grants, Failure> {
        let statement = self.table.excess();
        let Some(client) = &mut self.client else {
            return Err(Failure::reopen("not_connected", Status::none()));
        };
        let found = rows(client, &statement, None).await?;
        let can = found.iter().filter_map(|row| row.try_get::<&str, _>(0).ok().flatten().map(str::to_owned));
        Ok(Grants::from_excess(can.collect()))
    }
}

impl Sink for AzureSink {
    fn limits(&self) -> Limits {
        Limits {
            rows_max: self.config.rows_max.max(1),
            bytes_max: 1024 * 1024,
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
            let statement = self.table.count(first, last);
            let Some(client) = &mut self.client else { return Ok(None) };
            touched(&rows(client, &statement, None).await?).map(Some)
        })
    }

    fn grants(&mut self) -> BoxFuture<'_, Result<Grants, Failure>> {
        Box::pin(self.ask_grants())
    }
}

/// Connects. Azure's gateway may name another address, once.
pub(super) async fn connect(
    config: &AzureConfig,
    password: &Secret,
    ca: Option<&Secret>,
) -> Result<Connection, Failure> {
    let mut address = (config.host.clone(), config.port);
    for _ in 0..2 {
        let mut settings = Config::new();
        settings.host(&address.0);
        settings.port(address.1);
        settings.database(&config.database);
        settings.application_name("idtrail");
        settings.authentication(AuthMethod::sql_server(&config.user, password.expose()));
        settings.encryption(EncryptionLevel::Required);
        if let Some(pem) = ca {
            settings.trust_cert_ca_bundle(pem.expose().as_bytes());
        }
        settings.handshake_timeout(Some(Duration::from_secs(15)));
        // The engine's deadline ends a call, and the connection with it.
        settings.command_timeout(None);
        let unreachable = |_| Failure::retry("unreachable", Status::none(), None);
        let stream = TcpStream::connect((address.0.as_str(), address.1)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        match Client::connect(settings, stream.compat_write()).await {
            Ok(client) => return Ok(client),
            Err(tiberius::error::Error::Routing { host, port }) => address = (host, port),
            Err(error) => return Err(verdict(&error)),
        }
    }
    Err(Failure::reopen("routing", Status::none()))
}

/// Runs a statement and returns its first rows.
pub(super) async fn rows(
    client: &mut Connection,
    statement: &str,
    parameter: Option<&str>,
) -> Result<Vec<Row>, Failure> {
    let failed = |error: tiberius::error::Error| verdict(&error);
    match parameter {
        None => {
            client.simple_query(statement).await.map_err(failed)?.into_first_result().await.map_err(failed)
        }
        Some(parameter) => {
            let mut query = Query::new(statement);
            query.bind(parameter);
            query.query(client).await.map_err(failed)?.into_first_result().await.map_err(failed)
        }
    }
}

/// Reads how many rows a statement touched.
pub(super) fn touched(rows: &[Row]) -> Result<u64, Failure> {
    let count = rows.first().and_then(|row| row.try_get::<i64, _>(0).ok().flatten());
    count.and_then(|count| u64::try_from(count).ok()).ok_or_else(|| Failure::reopen("answer", Status::none()))
}

fn newest(rows: &[Row]) -> Result<Option<Position>, Failure> {
    let Some(row) = rows.first() else { return Ok(None) };
    let number = |at: usize| row.try_get::<i64, _>(at).ok().flatten();
    let (log_id, seq) =
        (number(0).and_then(|n| u32::try_from(n).ok()), number(1).and_then(|n| u64::try_from(n).ok()));
    match (log_id, seq) {
        (Some(log_id), Some(seq)) => Ok(Some(Position::new(log_id, seq))),
        // The table has these columns with other types.
        _ => Err(Failure::stop("table_differs", Status::none())),
    }
}

/// Judges an error. Its text, which may hold values, goes nowhere.
pub(super) fn verdict(error: &tiberius::error::Error) -> Failure {
    match error {
        tiberius::error::Error::Server(token) => {
            let (verdict, code) = judge(&RULES, &token.code()).unwrap_or((RETRY, "unknown"));
            Failure { verdict, code, status: Status::new(&token.code().to_string()) }
        }
        tiberius::error::Error::Tls(_) => Failure::stop("certificate", Status::none()),
        _ => Failure::reopen("connection", Status::none()),
    }
}
