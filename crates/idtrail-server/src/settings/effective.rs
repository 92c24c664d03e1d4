//! The settings written back as a configuration file: every default spelled out, no secret in it.
//!
//! What is written is a configuration itself, and reading it gives the same settings; that is its test.

use std::path::Path;

use toml::{Table, Value};

use super::{DAY_MS, LogFormat, PiiMode, SecretRef, Settings, TlsSettings};

impl Settings {
    /// Returns all settings as the tables of a configuration file. Secrets are the places where they are.
    #[must_use]
    pub fn effective(&self) -> Table {
        let mut all = Table::new();
        let mut put = |name: &str, value: Value| {
            all.insert(name.to_owned(), value);
        };
        put("tenant", text(&self.tenant));
        put("origin", text(&self.origin));
        put("data_dir", path(&self.data_dir));
        put("listen", text(&self.listen.to_string()));
        put("kek", secret(&self.kek));
        put(
            "vault",
            table([
                ("anchors", list(self.vault.anchors.iter().map(|one| path(one)))),
                ("copies", list(self.vault.copies.iter().map(|one| path(one)))),
            ]),
        );
        let limits = &self.limits;
        put(
            "limits",
            table([
                ("body_bytes_max", number(limits.body_bytes_max as u64)),
                ("queue_events_max", number(limits.queue_events_max as u64)),
                ("events_per_second", number(limits.events_per_second.into())),
                ("reads_per_second", number(limits.reads_per_second.into())),
                ("request_timeout_ms", number(limits.request_timeout_ms)),
                ("disk_free_bytes_min", number(limits.disk_free_bytes_min)),
            ]),
        );
        put(
            "validation",
            table([
                ("strict", Value::Boolean(self.validation.strict)),
                (
                    "pii",
                    text(match self.validation.pii {
                        PiiMode::Refuse => "refuse",
                        PiiMode::Mask => "mask",
                    }),
                ),
                ("custom_types", list(self.validation.custom_types.iter().map(|one| text(one)))),
            ]),
        );
        put(
            "issuer",
            table([
                ("audience", text(&self.issuer.audience)),
                ("token_ttl_s", number(self.issuer.token_ttl_s.into())),
            ]),
        );
        put(
            "tls",
            match &self.tls {
                TlsSettings::Off => table([("upstream", Value::Boolean(false))]),
                TlsSettings::Upstream => table([("upstream", Value::Boolean(true))]),
                TlsSettings::Files { cert, key } => {
                    table([("cert_file", path(cert)), ("key_file", path(key))])
                }
            },
        );
        let http = &self.http;
        put(
            "http",
            table([
                ("header_bytes_max", number(http.header_bytes_max as u64)),
                ("header_timeout_ms", number(http.header_timeout_ms)),
                ("body_timeout_ms", number(http.body_timeout_ms)),
                ("connections_max", number(http.connections_max as u64)),
                ("drain_timeout_ms", number(http.drain_timeout_ms)),
            ]),
        );
        put(
            "log",
            table([(
                "format",
                text(match self.log_format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                }),
            )]),
        );
        put("segments", table([("segment_bytes", number(self.segment_bytes))]));
        put(
            "retention",
            table([
                ("automatic", Value::Boolean(self.retention.automatic)),
                ("suppression_days", number(self.retention.suppression_ms / DAY_MS)),
            ]),
        );
        let rights = &self.rights;
        let mut of_rights = vec![
            ("grace_hours", number(rights.grace_ms / 3_600_000)),
            ("copies_days", number(rights.copies_ms / DAY_MS)),
            ("link_hours", number(rights.link_ms / 3_600_000)),
            ("link_fetches", number(rights.link_fetches.into())),
            ("retry_seconds", number(rights.retry_ms / 1000)),
            ("zone", text(&rights.zone)),
        ];
        of_rights.extend(rights.records.iter().map(|file| ("records", path(file))));
        of_rights.extend(rights.calendar.iter().map(|file| ("calendar", path(file))));
        put("rights", table(of_rights));
        put(
            "batch",
            table([
                ("bytes_max", number(self.batch.bytes_max as u64)),
                ("events_max", number(self.batch.events_max as u64)),
            ]),
        );
        put(
            "quarantine",
            table([
                ("days", number(self.quarantine.keep_ms / DAY_MS)),
                ("entries_max", number(self.quarantine.entries_max as u64)),
            ]),
        );
        put("sink_api", table([("hosts", list(self.sink_api.hosts.iter().map(|one| text(one))))]));
        put("identity", super::identity::effective(&self.identity));
        if !self.sinks.is_empty() {
            put("sinks", super::sinks::effective(&self.sinks));
        }
        if !self.oidc.is_empty() {
            put("oidc", list(self.oidc.iter().map(issuer)));
        }
        all
    }
}

fn issuer(one: &super::OidcSettings) -> Value {
    let names = one.algorithms.iter().map(|algorithm| text(&format!("{algorithm:?}")));
    let roles = one.roles.iter().map(|(value, role)| (value.clone(), text(role.as_str())));
    let mut section = Table::from_iter([
        ("issuer".to_owned(), text(&one.issuer)),
        ("audience".to_owned(), text(&one.audience)),
        ("algorithms".to_owned(), list(names)),
        ("roles_claim".to_owned(), text(&one.roles_claim.join("."))),
        ("roles".to_owned(), Value::Table(roles.collect())),
        ("clock_skew_s".to_owned(), Value::Integer(one.clock_skew_s)),
    ]);
    if let Some(address) = &one.jwks_url {
        section.insert("jwks_url".to_owned(), text(address));
    }
    if let Some(file) = &one.ca_file {
        section.insert("ca_file".to_owned(), path(file));
    }
    Value::Table(section)
}

fn secret(place: &SecretRef) -> Value {
    match place {
        SecretRef::File(file) => table([("file", path(file))]),
        SecretRef::Env(name) => table([("env", text(name))]),
    }
}

fn table<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Table(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn path(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

fn number(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    Value::Array(values.collect())
}
