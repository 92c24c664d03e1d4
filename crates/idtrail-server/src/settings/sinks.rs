//! Sinks in the configuration file: read, checked as far as that is possible without a target, and written back.
//!
//! What a kind of target needs is known by the crate that speaks to it; nothing here lists kinds. Errors name the key and
//! its line; of a filter or a mapping also the place in it, with the text, which is never a secret.

use std::collections::BTreeMap;
use std::path::Path;

use idtrail_connect::settings::{SettingsError as SinkError, SinkSettings};
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use super::{Check, SettingsError};

/// Sinks that operators add without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkApiSettings {
    /// `host:port` of database servers that such sinks may connect to.
    pub hosts: Vec<String>,
}

impl Check<'_> {
    pub(super) fn sinks(
        &self,
        raw: BTreeMap<String, crate::config::Sink>,
        data_dir: &Path,
    ) -> Result<Vec<SinkSettings>, SettingsError> {
        let mut all: Vec<SinkSettings> = Vec::with_capacity(raw.len());
        for (name, sink) in raw {
            let new = self.sink(name, sink, data_dir)?;
            if let Some(other) = all.iter().find(|other| share_place(other, &new)) {
                let problem =
                    format!("writes where the sink `{}` writes; each needs a place of its own", other.name);
                return Err(self.wrong(&format!("sinks.{}.target", new.name), problem));
            }
            all.push(new);
        }
        Ok(all)
    }

    fn sink(
        &self,
        name: String,
        raw: crate::config::Sink,
        data_dir: &Path,
    ) -> Result<SinkSettings, SettingsError> {
        let key = |member: &str| format!("sinks.{name}.{member}");
        let Some(target) = raw.target else {
            return Err(self.wrong(&key("target"), "is missing; write [sinks.NAME.target] with `kind`"));
        };
        let mut target = serde_json::to_value(target).map_err(|_| {
            self.wrong(&key("target"), "holds something that is no text, number, list or table")
        })?;
        anchor(&mut target, self.base);
        let mut rights = raw.rights.map(serde_json::to_value).transpose().map_err(|_| {
            self.wrong(&key("rights"), "holds something that is no text, number, list or table")
        })?;
        rights.iter_mut().for_each(|rights| anchor(rights, self.base));
        if let Some(dir) = target.get("dir").and_then(Json::as_str) {
            let dir = Path::new(dir);
            if dir.starts_with(data_dir) && !dir.starts_with(data_dir.join("export"))
                || data_dir.starts_with(dir)
            {
                let problem = "must not be inside `data_dir`, apart from its directory `export`, nor hold it";
                return Err(self.wrong(&key("target.dir"), problem));
            }
        }
        let mut members =
            Map::from_iter([("name".to_owned(), name.as_str().into()), ("target".to_owned(), target)]);
        let mut put = |member: &str, value: Option<Json>| {
            if let Some(value) = value {
                members.insert(member.to_owned(), value);
            }
        };
        put("filter", raw.filter.map(Json::from));
        put("mapping", raw.mapping.map(Json::from));
        put("pii", raw.pii.map(Json::from));
        put("erase", raw.erase.map(Json::from));
        put("deadline_s", raw.deadline_s.map(Json::from));
        put("rights", rights);
        let settings =
            read(Json::Object(members)).map_err(|wrong| self.wrong(&key(&wrong.key), wrong.problem))?;
        check(&settings).map_err(|wrong| self.wrong(&key(&wrong.key), wrong.problem))?;
        Ok(settings)
    }

    pub(super) fn sink_api(&self, raw: crate::config::SinkApi) -> Result<SinkApiSettings, SettingsError> {
        let hosts = raw.hosts.unwrap_or_default();
        let named = |text: &String| {
            text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if hosts.iter().all(named) {
            Ok(SinkApiSettings { hosts })
        } else {
            Err(self.wrong("sink_api.hosts", "each must be written host:port"))
        }
    }
}

/// What is wrong with a sink: the key within its section, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The key, such as `target.port`.
    pub(crate) key: String,
    /// What is wrong. Holds no value but filters and mappings.
    pub(crate) problem: String,
}

/// Reads a sink's settings.
///
/// # Errors
/// [`Wrong`], which never repeats a value.
pub(crate) fn read(value: Json) -> Result<SinkSettings, Wrong> {
    let target = value.get("target").cloned().unwrap_or(Json::Null);
    // The target first and alone, so that it is known whose key an error is about.
    let within = |section: &str, error: &serde_json::Error| describe(section, &error.to_string());
    serde_json::from_value::<idtrail_connect::settings::TargetSettings>(target)
        .map_err(|error| within("target", &error))?;
    serde_json::from_value(value).map_err(|error| within("", &error))
}

/// Checks what can be checked without a target.
///
/// # Errors
/// [`Wrong`].
pub(crate) fn check(settings: &SinkSettings) -> Result<(), Wrong> {
    let at = |key: &str, problem: String| Err(Wrong { key: key.to_owned(), problem });
    if !(1..=600).contains(&settings.deadline_s) {
        return at("deadline_s", "must be 1 to 600".to_owned());
    }
    // The key changes nothing about what is accepted.
    settings.plan([0; 32]).map(drop).map_err(|error| wrong(&error, &settings.filter))
}

/// Says which key is wrong, and what would be right. `filter` is shown where it does not read.
pub(crate) fn wrong(error: &SinkError, filter: &str) -> Wrong {
    let (key, problem) = match error {
        SinkError::Filter(error) => {
            let shown = error.render(filter);
            ("filter", format!("cannot be read at byte {}:\n{shown}", error.span.start))
        }
        SinkError::Mapping(error) => ("mapping", error.to_string()),
        SinkError::Privacy(refusal) => ("pii", refusal.to_string()),
        SinkError::Eraser(problem) => ("rights", (*problem).to_owned()),
        SinkError::CannotErase => ("erase", error.to_string()),
        SinkError::Name => ("name", error.to_string()),
        SinkError::Table => ("target.table", error.to_string()),
        SinkError::Url | SinkError::Guard(_) => ("target.url", error.to_string()),
        _ => ("target", error.to_string()),
    };
    Wrong { key: key.to_owned(), problem }
}

/// Tells whether two sinks write the same place. Each would take the other's rows for its own, and leave out what it then
/// believes to be there. A receiver of messages keeps no such mark.
pub(crate) fn share_place(one: &SinkSettings, other: &SinkSettings) -> bool {
    const PLACE: [&str; 13] = [
        "kind", "dir", "host", "port", "account", "project", "dataset", "database", "schema", "table",
        "endpoint", "bucket", "prefix",
    ];
    let place = |sink: &SinkSettings| {
        let target = serde_json::to_value(&sink.target).unwrap_or_default();
        PLACE.map(|name| target.get(name).cloned())
    };
    let place_of_one = place(one);
    place_of_one.first() != Some(&Some(Json::from("webhook"))) && place_of_one == place(other)
}

/// Says what a parser found without the value: its messages quote values, and a value may be a secret in the wrong place.
fn describe(section: &str, message: &str) -> Wrong {
    let quoted = || message.split('`').nth(1).unwrap_or_default();
    let member = |name: &str| match (section, name) {
        ("", name) => name.to_owned(),
        (section, name) => format!("{section}.{name}"),
    };
    let (key, problem) = if message.starts_with("unknown field") {
        (member(quoted()), "is not a known key".to_owned())
    } else if message.starts_with("missing field") {
        (member(quoted()), "is missing".to_owned())
    } else if let Some((_, expected)) = message.rsplit_once(", expected ") {
        let key = if message.starts_with("unknown variant") { variant_key(section, expected) } else { None };
        (key.unwrap_or_else(|| section.to_owned()), format!("must be {expected}"))
    } else {
        (section.to_owned(), "has a value of the wrong type".to_owned())
    };
    Wrong { key, problem }
}

/// Returns the key of a choice by what may be chosen.
fn variant_key(section: &str, expected: &str) -> Option<String> {
    let name = match section {
        "target" if expected.contains("`files`") => "target.kind",
        "target" if expected.contains("`parquet`") => "target.format",
        "target" if expected.contains("`verify-full`") => "target.tls",
        "" if expected.contains("`tokens`") => "pii",
        "" if expected.contains("`delete`") => "erase",
        _ => return None,
    };
    Some(name.to_owned())
}

/// Makes relative paths start at `base`: directories, and files with secrets.
fn anchor(value: &mut Json, base: &Path) {
    let joined = |text: &str| Json::from(base.join(text).display().to_string());
    match value {
        Json::Object(members) => {
            let alone = members.len() == 1;
            for (name, value) in members {
                match value {
                    Json::String(text) if name == "dir" || (name == "file" && alone) => *value = joined(text),
                    other => anchor(other, base),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| anchor(item, base)),
        _ => {}
    }
}

/// Writes sinks back as sections. Secrets are references.
pub(super) fn effective(sinks: &[SinkSettings]) -> Value {
    let section = |sink: &SinkSettings| {
        let mut table = Table::try_from(sink).unwrap_or_default();
        table.remove("name");
        (sink.name.clone(), Value::Table(table))
    };
    Value::Table(sinks.iter().map(section).collect())
}
