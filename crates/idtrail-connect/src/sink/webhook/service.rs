//! Posts messages, and what the answers mean.

use std::sync::Arc;
use std::time::Duration;

use idtrail_port::Clock;
use reqwest::Client;
use url::{Host, Url};

use super::config::WebhookConfig;
use super::guard::{Guard, GuardError};
use super::request::{Signer, body, message_id};
use crate::engine::{Ack, Batch, Cursor, Limits, Opened};
use crate::feed::BoxFuture;
use crate::http_client;
use crate::row::{Column, format_timestamp};
use crate::secret::Secret;
use crate::sink::{Grants, Sink};
use crate::verdict::{Failure, Rule, Status, Verdict, judge};

const RETRY: Verdict = Verdict::Retry { after: None };
const POISON: Verdict = Verdict::Poison { row: None };

/// From HTTP statuses to verdicts. Repeating is always safe here: the receiver knows the id.
pub const RULES: [Rule<u16>; 4] = [
    // 409: another delivery of the same id is in progress. 425: too early.
    Rule { statuses: &[408, 409, 425, 429], verdict: RETRY, code: "busy" },
    // The receiver will never take this content.
    Rule { statuses: &[400, 413, 415, 422], verdict: POISON, code: "refused" },
    // Redirects are not followed: the new place would get our signature without an admin having named it.
    Rule { statuses: &[301, 302, 303, 307, 308], verdict: Verdict::Stop, code: "redirect" },
    // 410: the receiver asks to be left alone (Standard Webhooks).
    Rule { statuses: &[401, 403, 404, 405, 410], verdict: Verdict::Stop, code: "denied" },
];

/// Posts to one receiver.
pub struct WebhookSink {
    config: WebhookConfig,
    url: Url,
    signer: Signer,
    guard: Guard,
    ca: Option<Secret>,
    columns: Vec<Column>,
    clock: Arc<dyn Clock>,
    client: Option<Client>,
}

impl std::fmt::Debug for WebhookSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSink(…)")
    }
}

impl WebhookSink {
    /// Makes a sink. `url` is the checked URL of the configuration.
    pub fn new(
        config: WebhookConfig,
        url: Url,
        signer: Signer,
        guard: Guard,
        ca: Option<Secret>,
        columns: Vec<Column>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { config, url, signer, guard, ca, columns, clock, client: None }
    }

    async fn open_session(&mut self) -> Result<Opened, Failure> {
        // An address in the URL is not resolved by anybody, so it is checked here.
        let literal = match self.url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        if literal.is_some_and(|address| self.guard.check(address).is_err()) {
            return Err(Failure::stop("address_not_public", Status::none()));
        }
        let builder = http_client::builder(self.ca.as_ref())?;
        let client = builder
            .dns_resolver(Arc::new(self.guard.clone()))
            .build()
            .map_err(|_| Failure::stop("client", Status::none()))?;
        self.client = Some(client);
        Ok(Opened::default())
    }

    async fn post(&mut self, batch: &Batch) -> Result<Ack, Failure> {
        let Some(client) = &self.client else {
            return Err(Failure::reopen("not_connected", Status::none()));
        };
        let now_ms = self.clock.wall_ms();
        let id = message_id(batch);
        let timestamp = format_timestamp(now_ms.saturating_mul(1000));
        let body = body(batch, &self.columns, self.config.events_per_message, &timestamp);
        let signature = self.signer.sign(&id, now_ms / 1000, &body);
        let request = client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now_ms / 1000)
            .header("webhook-signature", signature)
            .body(body);
        let response = request.send().await.map_err(|error| unanswered(&error))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(Ack::default());
        }
        let (verdict, code) = judge(&RULES, &status).unwrap_or((RETRY, "server_error"));
        let after = http_client::retry_after(response.headers(), now_ms);
        Err(Failure { verdict: with_wish(verdict, after), code, status: status.into() })
    }
}

fn with_wish(verdict: Verdict, after: Option<Duration>) -> Verdict {
    if let Verdict::Retry { .. } = verdict { Verdict::Retry { after } } else { verdict }
}

fn unanswered(error: &reqwest::Error) -> Failure {
    let mut current: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = current {
        match inner.downcast_ref::<GuardError>() {
            Some(GuardError::NotPublic) => return Failure::stop("address_not_public", Status::none()),
            Some(_) => return Failure::retry("name_unresolved", Status::none(), None),
            None => current = inner.source(),
        }
    }
    http_client::unanswered(error)
}

impl Sink for WebhookSink {
    fn limits(&self) -> Limits {
        Limits {
            rows_max: self.config.events_per_message.max(1),
            bytes_max: 1024 * 1024,
            linger_ms: 0,
            notes_intent: false,
            saves_every_batch: true,
            keyed: true,
        }
    }

    fn open<'a>(&'a mut self, _: &'a Cursor) -> BoxFuture<'a, Result<Opened, Failure>> {
        Box::pin(self.open_session())
    }

    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Ack, Failure>> {
        Box::pin(self.post(batch))
    }

    fn grants(&mut self) -> BoxFuture<'_, Result<Grants, Failure>> {
        let reason = "a receiver keeps what it likes".to_owned();
        Box::pin(std::future::ready(Ok(Grants::Unknown { reason })))
    }
}
