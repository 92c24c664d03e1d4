//! What the newest entries become under a sink's filter and mapping, or under others that somebody wants to try.
//!
//! Nothing is sent and nothing is changed. Rows hold what the events hold, so they are made only for who may see them.

use idtrail_connect::{Content, Feed as _, Outcome, Plan};
use serde_json::{Value, json};

use super::feed::LogFeed;
use super::{Sinks, SinksError, place};

/// A filter or a mapping to be tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposed {
    /// The filter; the sink's own if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The lines of the mapping; the sink's own if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Vec<String>>,
}

impl Sinks {
    /// Returns what the newest entries become under a sink's filter and mapping, oldest first. Rows only if `with_rows`:
    /// they hold what the events hold.
    ///
    /// # Errors
    /// `NotFound`, `Settings`, `Feed`. Waits for the disk.
    pub fn preview(&self, name: &str, count: u64, with_rows: bool) -> Result<Value, SinksError> {
        let entry = self.entry(name)?;
        let plan = entry.settings.plan(self.reference_key(name))?;
        preview(&self.feed, &plan, count, with_rows)
    }

    /// Returns what the newest entries would become if a sink had another filter or mapping. Nothing is changed.
    ///
    /// # Errors
    /// `NotFound`, `Settings` if the proposal does not read or asks for what the sink may not have, `Feed`. Waits for the
    /// disk.
    pub fn preview_of(
        &self,
        name: &str,
        proposed: Proposed,
        count: u64,
        with_rows: bool,
    ) -> Result<Value, SinksError> {
        let mut settings = self.entry(name)?.settings.clone();
        settings.filter = proposed.filter.unwrap_or(settings.filter);
        settings.mapping = proposed.mapping.unwrap_or(settings.mapping);
        let plan = settings.plan(self.reference_key(name))?;
        preview(&self.feed, &plan, count, with_rows)
    }
}

/// Returns what the newest entries become.
///
/// # Errors
/// `Feed`.
fn preview(feed: &LogFeed, plan: &Plan, count: u64, with_rows: bool) -> Result<Value, SinksError> {
    let from = feed.newest(count);
    let entries = feed.read(from, usize::try_from(count).unwrap_or(usize::MAX), usize::MAX)?;
    let columns = plan.mapping.columns();
    let shown: Vec<Value> = entries
        .iter()
        .filter(|entry| match &entry.content {
            // The log's own leaves are never anything for a sink.
            Content::Opened(row) => row.is_event(),
            Content::Erased | Content::Damaged => true,
        })
        .map(|entry| {
            let at = place(entry.position);
            match plan.prepare(entry).outcome {
                Outcome::Row(row) if with_rows => {
                    json!({ "at": at, "outcome": "row", "row": row.to_json(columns) })
                }
                Outcome::Row(_) => json!({ "at": at, "outcome": "row" }),
                Outcome::Filtered => json!({ "at": at, "outcome": "filtered" }),
                Outcome::Erased => json!({ "at": at, "outcome": "erased" }),
                Outcome::Unmappable(why) => {
                    json!({ "at": at, "outcome": "unmappable", "code": why.code(), "column": why.column() })
                }
            }
        })
        .collect();
    let columns: Vec<Value> = columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name, "type": column.kind, "required": column.required, "personal": column.personal
            })
        })
        .collect();
    Ok(json!({ "columns": columns, "entries": shown }))
}
