//! Delivers to Snowflake, over a channel or by statements.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use idtrail_port::Clock;
use serde_json::{Value, json};

use super::api::{AccountKey, Api, unreadable};
use super::config::{SnowflakeConfig, SnowflakeMode};
use super::request::{APPENDING, Table, rows_json, rows_lines};
use crate::engine::{Ack, Batch, Cursor, Limits, Mode, Opened};
use crate::feed::BoxFuture;
use crate::position::Position;
use crate::row::{Column, Row};
use crate::secret::Secret;
use crate::settings::checked_url;
use crate::sink::{Grants, Sink};
use crate::verdict::{Failure, Status, Verdict};

/// How often it is asked whether a token was committed.
const POLL: Duration = Duration::from_millis(150);
/// The scoped token lives for an hour at most; a new one is got well before, seconds.
const SCOPED_S: i64 = 1800;

/// Delivers to one table.
pub struct SnowflakeSink {
    config: SnowflakeConfig,
    table: Table,
    columns: Vec<Column>,
    key: Option<AccountKey>,
    ca: Option<Secret>,
    clock: Arc<dyn Clock>,
    api: Option<Arc<Api>>,
    channel: Option<Channel>,
    open: bool,
}

impl std::fmt::Debug for SnowflakeSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnowflakeSink").field("table", &self.table.quoted).finish_non_exhaustive()
    }
}

/// An open channel.
struct Channel {
    base: String,
    token: String,
    since_s: i64,
    continuation: String,
    /// Rows that the channel dropped so far.
    errors: u64,
    /// How many of them are settled: what the cursor holds.
    noted: u64,
    /// Rows up to here were committed by an earlier session that may not have seen which were dropped: they are looked
    /// for in the table and not sent again.
    unseen: Option<Position>,
}

/// What a channel says about itself.
struct ChannelStatus {
    committed: Option<Position>,
    errors: u64,
}

impl SnowflakeSink {
    /// Makes a sink; connects when it is opened. `None` if the table is not written `database.schema.table`.
    pub fn new(
        config: SnowflakeConfig,
        key: AccountKey,
        ca: Option<Secret>,
        columns: Vec<Column>,
        clock: Arc<dyn Clock>,
    ) -> Option<Self> {
        let table = Table::new(&config.table, &columns)?;
        Some(Self {
            config,
            table,
            columns,
            key: Some(key),
            ca,
            clock,
            api: None,
            channel: None,
            open: false,
        })
    }

    fn api(&mut self) -> Result<Arc<Api>, Failure> {
        if let Some(key) = self.key.take() {
            let api = Api::new(&self.config, key, self.ca.as_ref(), self.clock.clone())?;
            self.api = Some(Arc::new(api));
        }
        self.api.clone().ok_or_else(|| Failure::stop("client", Status::none()))
    }

    async fn open_session(&mut self, cursor: &Cursor) -> Result<Opened, Failure> {
        self.open = false;
        self.channel = None;
        let api = self.api()?;
        let bound = [self.table.schema.clone(), self.table.table.clone()];
        let found = api.statement(&self.table.columns_asked(), &bound).await?;
        let pairs = found.rows.iter().filter_map(|row| match row.as_slice() {
            [Some(name), Some(kind)] => Some((name.clone(), kind.clone())),
            _ => None,
        });
        let pairs: Vec<_> = pairs.collect();
        if pairs.is_empty() {
            return Err(Failure::stop("table_missing", Status::none()));
        }
        if !self.table.fits(&pairs) {
            return Err(Failure::stop("table_differs", Status::none()));
        }
        let mut opened = Opened::default();
        let mut committed = None;
        if self.config.mode == SnowflakeMode::Streaming {
            let (mut channel, status) = self.open_channel(&api).await?;
            committed = status.committed;
            let known = cursor.session.strip_prefix("errors:").and_then(|text| text.parse::<u64>().ok());
            // Before the first batch there is nothing to compare with. A channel that was made anew counts from 0.
            if let Some(known) = known
                && known < status.errors
            {
                channel.unseen = status.committed;
                channel.noted = known;
            }
            opened.session = note(channel.noted);
            let unseen = channel.unseen.is_some();
            self.channel = Some(channel);
            self.open = true;
            if unseen {
                // No mark: the engine sends everything behind the cursor, and what was committed is looked for.
                return Ok(opened);
            }
        }
        // Also behind a channel: rows may have come by statements, or the channel may have been dropped and made anew.
        let newest = api.statement(&self.table.high_water(), &[]).await?;
        let in_table = match (newest.number(0, 0), newest.number(0, 1)) {
            (Some(log_id), Some(seq)) => u32::try_from(log_id).ok().map(|log_id| Position::new(log_id, seq)),
            _ if newest.rows.is_empty() => None,
            _ => return Err(unreadable()),
        };
        opened.high_water = committed.max(in_table);
        self.open = true;
        Ok(opened)
    }

    async fn open_channel(&self, api: &Api) -> Result<(Channel, ChannelStatus), Failure> {
        let host = text_or_member(api.send(api.get("/v2/streaming/hostname")?).await?, "hostname").await?;
        let scheme = if self.config.allow_http { "http" } else { "https" };
        let base = format!("{scheme}://{host}");
        // What the answer names gets our rows: it must be a plain host.
        checked_url(&base, self.config.allow_http).map_err(|_| Failure::stop("hostname", Status::none()))?;
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_')) {
            return Err(Failure::stop("hostname", Status::none()));
        }
        let form = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&scope={host}");
        let request = api.post("/oauth/token")?.header("content-type", "application/x-www-form-urlencoded");
        let token = text_or_member(api.send(request.body(form)).await?, "token").await?;
        let url = format!("{base}/v2/streaming/{}/channels/{}", self.pipe_path(), self.config.channel);
        let request = api.client().put(url).bearer_auth(&token).json(&json!({"role": self.config.role}));
        let answer: Value = api.send(request).await?.json().await.map_err(|_| unreadable())?;
        let member = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        let continuation = member("next_continuation_token").ok_or_else(unreadable)?;
        let status = read_status(answer.get("channel_status").ok_or_else(unreadable)?)?;
        let since_s = api.now_s();
        let (errors, noted) = (status.errors, status.errors);
        Ok((Channel { base, token, since_s, continuation, errors, noted, unseen: None }, status))
    }

    fn pipe_path(&self) -> String {
        let Table { database, schema, table, .. } = &self.table;
        let pipe = self.config.pipe.clone().unwrap_or_else(|| format!("{table}-STREAMING"));
        format!("databases/{database}/schemas/{schema}/pipes/{pipe}")
    }

    async fn send(&mut self, batch: &Batch) -> Result<Ack, Failure> {
        // Taken out, so that a call that is dropped half-way closes the session.
        if !std::mem::take(&mut self.open) {
            return Err(Failure::reopen("not_connected", Status::none()));
        }
        let api = self.api()?;
        let result = match (batch.mode, self.channel.take()) {
            (Mode::Live, Some(mut channel)) => {
                let result = self.stream(&api, &mut channel, batch).await;
                self.channel = Some(channel);
                result
            }
            (mode, channel) => {
                self.channel = channel;
                self.insert(&api, batch, mode).await.map(|()| Ack::default())
            }
        };
        self.open = match &result {
            Ok(_) => true,
            Err(failure) => matches!(failure.verdict, Verdict::Retry { .. } | Verdict::Poison { .. }),
        };
        result
    }

    async fn insert(&self, api: &Api, batch: &Batch, mode: Mode) -> Result<(), Failure> {
        let json = rows_json(batch, &self.columns);
        let first = batch.first();
        let answer = match mode {
            Mode::Live => {
                let log_id = first.log_id.get().to_string();
                let bound = [json, log_id.clone(), log_id, first.seq.to_string()];
                api.statement(&self.table.insert(), &bound).await?
            }
            Mode::Keyed => api.statement(&self.table.insert_keyed(), &[json]).await?,
        };
        let inserted = answer.number(0, 0).ok_or_else(unreadable)?;
        if mode == Mode::Live && inserted != batch.rows.len() as u64 {
            // Another writer was here, or an answer of ours was lost.
            return Err(Failure::reopen("not_above_mark", Status::none()));
        }
        Ok(())
    }

    async fn stream(&self, api: &Api, channel: &mut Channel, batch: &Batch) -> Result<Ack, Failure> {
        if api.now_s() - channel.since_s > SCOPED_S {
            return Err(Failure::reopen("token_expired", Status::none()));
        }
        let (old, new): (Vec<&Row>, Vec<&Row>) =
            batch.rows.iter().map(|row| &**row).partition(|row| Some(row.position) <= channel.unseen);
        let mut gone: BTreeSet<Position> = BTreeSet::new();
        if !old.is_empty() {
            gone.extend(self.missing(api, &old).await?);
        }
        if let Some(last) = new.last() {
            let status = self.append(api, channel, &new, last.position).await?;
            if status.errors > channel.errors {
                gone.extend(self.missing(api, &new).await?);
                channel.errors = status.errors;
            }
        }
        if Some(batch.last()) >= channel.unseen {
            channel.unseen = None;
            channel.noted = channel.errors;
        }
        let rejected = batch.rows.iter().enumerate().filter(|(_, row)| gone.contains(&row.position));
        Ok(Ack {
            rejected: rejected.map(|(number, _)| number).collect(),
            rejected_code: "dropped_by_target",
            session: Some(note(channel.noted)),
        })
    }

    /// Appends rows and waits until their token is committed.
    async fn append(
        &self,
        api: &Api,
        channel: &mut Channel,
        rows: &[&Row],
        last: Position,
    ) -> Result<ChannelStatus, Failure> {
        let Channel { base, token, continuation, .. } = &*channel;
        let url = format!(
            "{base}/v2/streaming/data/{}/channels/{}/rows?continuationToken={continuation}&offsetToken={}",
            self.pipe_path(),
            self.config.channel,
            last.to_token()
        );
        let request = api
            .client()
            .post(url)
            .bearer_auth(token)
            .header("content-type", "application/x-ndjson")
            .body(rows_lines(rows.iter().copied(), &self.columns));
        let answer: Value =
            api.send(request).await.map_err(of_channel)?.json().await.map_err(|_| unreadable())?;
        let next = answer.get("next_continuation_token").and_then(Value::as_str);
        next.ok_or_else(unreadable)?.clone_into(&mut channel.continuation);
        loop {
            let status = self.status(api, channel).await.map_err(|failure| match failure.verdict {
                // The rows are under way: whatever goes wrong now, only a new look tells.
                Verdict::Retry { after } => Failure { verdict: Verdict::Reopen { after }, ..failure },
                _ => of_channel(failure),
            })?;
            if status.committed >= Some(last) {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn status(&self, api: &Api, channel: &Channel) -> Result<ChannelStatus, Failure> {
        let url = format!("{}/v2/streaming/{}:bulk-channel-status", channel.base, self.pipe_path());
        let body = json!({"channel_names": [self.config.channel]});
        let request = api.client().post(url).bearer_auth(&channel.token).json(&body);
        let answer: Value = api.send(request).await?.json().await.map_err(|_| unreadable())?;
        let all = answer.get("channel_statuses").and_then(Value::as_object).ok_or_else(unreadable)?;
        let own = all.iter().find(|(name, _)| name.eq_ignore_ascii_case(&self.config.channel));
        read_status(own.ok_or_else(|| Failure::reopen("channel_missing", Status::none()))?.1)
    }

    /// Returns those rows that are not in the table.
    async fn missing(&self, api: &Api, rows: &[&Row]) -> Result<Vec<Position>, Failure> {
        let mut missing = Vec::new();
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let log_id = first.position.log_id;
            let (same, others) = rest.split_at(rest.partition_point(|row| row.position.log_id == log_id));
            rest = others;
            let last = same.last().map_or(first.position, |row| row.position);
            let bound =
                [log_id.get().into(), first.position.seq, last.seq].map(|number: u64| number.to_string());
            let answer = api.statement(&self.table.present(), &bound).await?;
            let there: BTreeSet<u64> =
                (0..answer.rows.len()).filter_map(|row| answer.number(row, 0)).collect();
            missing.extend(same.iter().map(|row| row.position).filter(|at| !there.contains(&at.seq)));
        }
        Ok(missing)
    }

    async fn ask_grants(&mut self) -> Result<Grants, Failure> {
        let answer = self.api()?.statement(&self.table.grants(), &[]).await?;
        let role = &self.config.role;
        let own = answer.rows.iter().filter(|row| {
            answer.cell(row, "grantee_name").is_some_and(|grantee| grantee.eq_ignore_ascii_case(role))
        });
        let held = own.filter_map(|row| answer.cell(row, "privilege"));
        Ok(Grants::from_excess(held.filter(|held| !APPENDING.contains(held)).map(str::to_owned).collect()))
    }
}

impl Sink for SnowflakeSink {
    fn limits(&self) -> Limits {
        Limits {
            rows_max: self.config.rows_max.max(1),
            // A request takes 16 MB, and so does a bound text.
            bytes_max: 4 * 1024 * 1024,
            // Channels commit about once a second; smaller batches would only wait for each other.
            linger_ms: 200,
            notes_intent: false,
            // So that a count of errors is never older than the batch that it is compared for.
            saves_every_batch: self.config.mode == SnowflakeMode::Streaming,
            keyed: true,
        }
    }

    fn open<'a>(&'a mut self, cursor: &'a Cursor) -> BoxFuture<'a, Result<Opened, Failure>> {
        Box::pin(self.open_session(cursor))
    }

    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Ack, Failure>> {
        Box::pin(self.send(batch))
    }

    fn count(&mut self, first: Position, last: Position) -> BoxFuture<'_, Result<Option<u64>, Failure>> {
        Box::pin(async move {
            let api = self.api()?;
            Ok(api.statement(&self.table.count(first, last), &[]).await?.number(0, 0))
        })
    }

    fn grants(&mut self) -> BoxFuture<'_, Result<Grants, Failure>> {
        Box::pin(self.ask_grants())
    }
}

/// What the cursor holds of a channel.
fn note(errors: u64) -> String {
    format!("errors:{errors}")
}

/// A channel's token lives shorter than its session, and a channel can be dropped: both are opened anew.
fn of_channel(failure: Failure) -> Failure {
    match failure.code {
        "credentials" => Failure::reopen("token_expired", failure.status),
        "table_missing" => Failure::reopen("channel_missing", failure.status),
        _ => failure,
    }
}

fn read_status(status: &Value) -> Result<ChannelStatus, Failure> {
    let committed = match status.get("last_committed_offset_token") {
        None | Some(Value::Null) => None,
        Some(token) => {
            // Another program's tokens say nothing about our rows.
            let differs = || Failure::stop("channel_differs", Status::none());
            Some(token.as_str().and_then(Position::from_token).ok_or_else(differs)?)
        }
    };
    let errors = ["rows_error_count", "rows_errors"]
        .into_iter()
        .find_map(|name| status.get(name).and_then(Value::as_u64))
        .ok_or_else(unreadable)?;
    Ok(ChannelStatus { committed, errors })
}

/// Reads an answer that is a text, or JSON with the text in a member: the documents say one, the service does the other.
async fn text_or_member(response: reqwest::Response, member: &str) -> Result<String, Failure> {
    let text = response.text().await.map_err(|_| unreadable())?;
    let text = text.trim();
    let found = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => object.get(member).and_then(Value::as_str).map(str::to_owned),
        Ok(Value::String(text)) => Some(text),
        _ => Some(text.to_owned()),
    };
    found.filter(|found| !found.is_empty()).ok_or_else(unreadable)
}
