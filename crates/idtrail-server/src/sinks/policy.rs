//! What a sink may be that was added over the API. Whoever may call the API must not gain what only the machine's admin
//! has: files anywhere, secrets of others, machines inside of this network.
//!
//! - `files`: only a directory of the installation's own, `export/…` in the data directory;
//! - `webhook`: only `https` and only public addresses;
//! - databases: only servers that the configuration lists (`sink_api.hosts`);
//! - Snowflake and BigQuery: only the vendor's own addresses, by TLS, with the certificates that everybody trusts;
//! - secrets: environment variables that start with `IDTRAIL_SINK_`, and files of the directory `sink-secrets` in the data
//!   directory, by their names alone. Secrets never come over the API.

use std::path::{Component, Path};

use serde_json::{Value, json};

/// What variables with secrets of such sinks start with.
pub const ENV_PREFIX: &str = "IDTRAIL_SINK_";
/// Directory of files that such sinks write, in the data directory.
pub const EXPORT: &str = "export";
/// Directory of their secrets, in the data directory.
pub const SECRETS: &str = "sink-secrets";

/// Why a sink is refused: the member, what is wrong and what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// JSON Pointer of the member.
    pub pointer: &'static str,
    /// What is wrong.
    pub message: &'static str,
    /// What would be right.
    pub hint: &'static str,
}

/// Checks the target of a sink and gives its paths their places.
///
/// # Errors
/// [`Refused`].
pub fn confine(target: &mut Value, data_dir: &Path, hosts: &[String]) -> Result<(), Refused> {
    let refused = |pointer, message, hint| Err(Refused { pointer, message, hint });
    match target.get("kind").and_then(Value::as_str) {
        Some("files") => {
            let dir = target.get("dir").and_then(Value::as_str).unwrap_or_default();
            let Some(inner) = plain(dir) else {
                return refused(
                    "/target/dir",
                    "it is not a plain relative path",
                    "such as `warehouse`; it is made in export/",
                );
            };
            let path = data_dir.join(EXPORT).join(inner).display().to_string();
            if let Some(place) = target.get_mut("dir") {
                *place = json!(path);
            }
        }
        Some("webhook") => {
            let empty = |name: &str| {
                target.get(name).is_none_or(|value| matches!(value, Value::Null) || *value == json!([]))
            };
            if target.get("allow_http").is_some_and(|value| *value != json!(false))
                || !empty("allow_networks")
            {
                return refused(
                    "/target",
                    "allow_http and allow_networks cannot be given over the API",
                    "configure this sink in the configuration file",
                );
            }
        }
        // Kinds that connect to one host and port.
        Some(kind @ ("postgres" | "azure")) => {
            let host = target.get("host").and_then(Value::as_str).unwrap_or_default();
            let usual = if kind == "azure" { 1433 } else { 5432 };
            let port = target.get("port").and_then(Value::as_u64).unwrap_or(usual);
            if !hosts.iter().any(|known| *known == format!("{host}:{port}")) {
                return refused(
                    "/target/host",
                    "this server is not among sink_api.hosts",
                    "have it added to the configuration file, or configure the sink there",
                );
            }
        }
        // Kinds that are at their vendor's. Another address could be any machine, so none may be named.
        Some(kind @ ("snowflake" | "bigquery")) => {
            const PLACES: [&str; 6] =
                ["url", "write_endpoint", "rest_endpoint", "project_endpoint", "allow_http", "ca"];
            let named = PLACES.iter().any(|name| {
                target.get(*name).is_some_and(|value| !value.is_null() && *value != json!(false))
            });
            if named {
                return refused(
                    "/target",
                    "addresses, certificate authorities and allow_http cannot be given over the API",
                    "leave them out, or configure this sink in the configuration file",
                );
            }
            // It becomes a part of the host's name.
            let account = target.get("account").and_then(Value::as_str).unwrap_or_default();
            let label = |label: &str| {
                !label.is_empty()
                    && label.len() <= 63
                    && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            };
            if kind == "snowflake" && !(account.split('.').all(label) && account.len() <= 150) {
                return refused(
                    "/target/account",
                    "it is not an account's identifier",
                    "such as `organisation-account`",
                );
            }
            if kind == "bigquery" && target.get("key").is_none_or(Value::is_null) {
                return refused(
                    "/target/key",
                    "it is missing",
                    "name a secret with the service account's key",
                );
            }
        }
        _ => {
            return refused(
                "/target/kind",
                "sinks of this kind cannot be added over the API",
                "configure it in the configuration file",
            );
        }
    }
    secrets(target, data_dir)
}

/// Gives every reference to a secret its place, or refuses it.
pub(super) fn secrets(value: &mut Value, data_dir: &Path) -> Result<(), Refused> {
    match value {
        Value::Object(members) => {
            let alone = members.len() == 1;
            for (name, value) in members {
                match (name.as_str(), &mut *value) {
                    ("file", Value::String(text)) if alone => {
                        let mut parts = Path::new(text.as_str()).components();
                        let is_name =
                            matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
                        if !is_name {
                            return Err(Refused {
                                pointer: "/target",
                                message: "a secret's file must be named without a directory",
                                hint: "put it into the directory sink-secrets of the data directory",
                            });
                        }
                        *value = json!(data_dir.join(SECRETS).join(&*text).display().to_string());
                    }
                    ("env", Value::String(text)) if alone && !text.starts_with(ENV_PREFIX) => {
                        return Err(Refused {
                            pointer: "/target",
                            message: "the name of this environment variable is not allowed",
                            hint: "variables for secrets of sinks start with IDTRAIL_SINK_",
                        });
                    }
                    (_, inner) => secrets(inner, data_dir)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| secrets(item, data_dir)),
        _ => Ok(()),
    }
}

fn plain(text: &str) -> Option<&Path> {
    let path = Path::new(text);
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    (normal && !text.is_empty() && text.len() <= 200).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_places_that_are_allowed() {
        let hosts = ["db:5432".to_owned()];
        let hook = |extra: Value| {
            let mut hook = json!({ "kind": "webhook", "url": "https://example.com/in", "secrets": [{ "env": "IDTRAIL_SINK_A" }] });
            hook.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            hook
        };
        let files = |dir: &str| json!({ "kind": "files", "format": "jsonl", "dir": dir });
        let base = |extra: Value| {
            let mut base =
                json!({ "kind": "postgres", "host": "db", "database": "d", "user": "u", "table": "a.b" });
            base.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            base
        };
        let cloud = |kind: &str, mut target: Value| {
            target["kind"] = json!(kind);
            target
        };
        let cases = [
            (files("warehouse/a"), None),
            (files(""), Some("/target/dir")),
            (files("/etc"), Some("/target/dir")),
            (files("../vault"), Some("/target/dir")),
            (files("a/../../vault"), Some("/target/dir")),
            (files("./a"), Some("/target/dir")),
            (hook(json!({})), None),
            (hook(json!({ "allow_http": false, "allow_networks": [] })), None),
            (hook(json!({ "allow_http": true })), Some("/target")),
            (hook(json!({ "allow_networks": ["10.0.0.0/8"] })), Some("/target")),
            (hook(json!({ "secrets": [{ "env": "HOME" }] })), Some("/target")),
            (hook(json!({ "secrets": [{ "file": "/home/kek.key" }] })), Some("/target")),
            (hook(json!({ "secrets": [{ "file": "../kek.key" }] })), Some("/target")),
            (hook(json!({ "secrets": [{ "file": ".." }] })), Some("/target")),
            (hook(json!({ "ca": { "file": "a/b" } })), Some("/target")),
            (hook(json!({ "ca": { "file": "ca.pem" } })), None),
            (base(json!({})), None),
            (base(json!({ "port": 5433 })), Some("/target/host")),
            (base(json!({ "host": "10.0.0.1" })), Some("/target/host")),
            (base(json!({ "password": { "file": "db" } })), None),
            (base(json!({ "password": { "env": "IDTRAIL_KEK" } })), Some("/target")),
            (cloud("azure", json!({ "host": "db", "port": 5432, "password": { "file": "db" } })), None),
            (cloud("azure", json!({ "host": "db" })), Some("/target/host")),
            (cloud("azure", json!({ "host": "elsewhere", "port": 5432 })), Some("/target/host")),
            (
                cloud("azure", json!({ "host": "db", "port": 5432, "password": { "env": "HOME" } })),
                Some("/target"),
            ),
            (cloud("snowflake", json!({ "account": "org-one.eu_1", "key": { "file": "k" } })), None),
            (cloud("snowflake", json!({ "account": "org-one", "url": null, "allow_http": false })), None),
            (cloud("snowflake", json!({ "account": "org-one", "url": "https://10.0.0.1" })), Some("/target")),
            (cloud("snowflake", json!({ "account": "org-one", "allow_http": true })), Some("/target")),
            (cloud("snowflake", json!({ "account": "org-one", "ca": { "file": "ca" } })), Some("/target")),
            (cloud("snowflake", json!({ "account": "10.0.0.1:80/x#" })), Some("/target/account")),
            (cloud("snowflake", json!({ "account": "evil.example/?" })), Some("/target/account")),
            (cloud("snowflake", json!({ "account": "a@b" })), Some("/target/account")),
            (cloud("snowflake", json!({ "account": "" })), Some("/target/account")),
            (cloud("snowflake", json!({})), Some("/target/account")),
            (cloud("snowflake", json!({ "account": "one", "key": { "file": "/k" } })), Some("/target")),
            (cloud("bigquery", json!({ "key": { "file": "k" } })), None),
            (cloud("bigquery", json!({})), Some("/target/key")),
            (cloud("bigquery", json!({ "key": { "env": "KEK" } })), Some("/target")),
            (
                cloud("bigquery", json!({ "key": { "file": "k" }, "rest_endpoint": "https://x" })),
                Some("/target"),
            ),
            (
                cloud("bigquery", json!({ "key": { "file": "k" }, "write_endpoint": "https://x" })),
                Some("/target"),
            ),
            (cloud("bigquery", json!({ "key": { "file": "k" }, "project_endpoint": "x" })), Some("/target")),
            (json!({ "kind": "other" }), Some("/target/kind")),
            (json!(null), Some("/target/kind")),
        ];
        for (mut target, expected) in cases {
            let shown = target.to_string();
            let found = confine(&mut target, Path::new("/data"), &hosts).err().map(|refused| refused.pointer);
            assert_eq!(found, expected, "{shown}");
        }
        let mut target = files("a");
        confine(&mut target, Path::new("/data"), &hosts).unwrap();
        assert_eq!(target["dir"], "/data/export/a");
        let mut target = base(json!({ "password": { "file": "db" } }));
        confine(&mut target, Path::new("/data"), &hosts).unwrap();
        assert_eq!(target["password"]["file"], "/data/sink-secrets/db");
    }
}
