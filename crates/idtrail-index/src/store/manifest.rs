//! The file that says which runs there are and up to where they know the log: the only one that is ever replaced.
//!
//! JSON and a checksum behind it. Whatever it does not name is no part of the index and is wiped at the next start.

use std::path::Path;

use idtrail_event::clear::ShredIntentItem;
use idtrail_port::{Disk, Privacy, read_optional, write_atomic};
use serde_json::{Value, json};

use super::memtable::Meta;
use super::run::{RunInfo, damaged, failed};
use crate::IndexError;
use crate::set::IndexSet;

pub(crate) const NAME: &str = "manifest";
const FORMAT: &str = "idtrail/index/v1";
const BYTES_MAX: u64 = 1 << 30;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Which vault and log this is the index of.
    pub(crate) binding: String,
    /// The epoch of the vault up to which erasures were taken over.
    pub(crate) vault_epoch: u64,
    pub(crate) meta: Meta,
    /// Oldest first.
    pub(crate) runs: Vec<RunInfo>,
    /// Leaves whose rows are in runs still, and must never be shown.
    pub(crate) dead: IndexSet,
    pub(crate) next_run: u64,
}

impl Manifest {
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), IndexError> {
        let runs: Vec<_> =
            self.runs.iter().map(|run| json!([run.id, run.level, run.least, run.highest])).collect();
        let open: Vec<_> = self
            .meta
            .open
            .values()
            .map(|item| json!([item.request_id, item.count, item.target_epoch]))
            .collect();
        let dead: Vec<_> = self.dead.ranges().iter().map(|range| json!([range.start, range.end])).collect();
        let text = json!({
            "format": FORMAT,
            "binding": self.binding,
            "vaultEpoch": self.vault_epoch,
            "applied": self.meta.applied,
            "receivedMs": self.meta.received_ms,
            "epochInLog": self.meta.epoch_in_log,
            "open": open,
            "runs": runs,
            "dead": dead,
            "nextRun": self.next_run,
        })
        .to_string();
        let bytes = format!("{text}\n{:08x}\n", crc32c::crc32c(text.as_bytes()));
        let path = dir.join(NAME);
        write_atomic(disk, &path, bytes.as_bytes(), Privacy::Owner).map_err(failed("written", &path))
    }

    /// Reads the manifest; nothing if there is none.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, IndexError> {
        let path = dir.join(NAME);
        let bytes = read_optional(disk, &path, BYTES_MAX).map_err(failed("read", &path))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let parsed = Self::parse(&bytes);
        parsed.map(Some).ok_or_else(|| damaged("the manifest is not what was written", &path, 0))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (text, crc) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        if crc != format!("{:08x}\n", crc32c::crc32c(text.as_bytes())) {
            return None;
        }
        let value: Value = serde_json::from_str(text).ok()?;
        if value.get("format")?.as_str()? != FORMAT {
            return None;
        }
        let number = |name: &str| value.get(name)?.as_u64();
        let list = |name: &str| value.get(name)?.as_array();
        let run = |value: &Value| {
            let at = |at: usize| value.get(at)?.as_u64();
            Some(RunInfo { id: at(0)?, level: u8::try_from(at(1)?).ok()?, least: at(2)?, highest: at(3)? })
        };
        let item = |value: &Value| {
            let request_id = value.get(0)?.as_str()?.to_owned();
            let (count, target_epoch) = (value.get(1)?.as_u64()?, value.get(2)?.as_u64()?);
            Some((request_id.clone(), ShredIntentItem { request_id, count, target_epoch }))
        };
        let range = |value: &Value| Some(value.get(0)?.as_u64()?..value.get(1)?.as_u64()?);
        Some(Self {
            binding: value.get("binding")?.as_str()?.to_owned(),
            vault_epoch: number("vaultEpoch")?,
            meta: Meta {
                applied: number("applied")?,
                received_ms: number("receivedMs")?,
                epoch_in_log: number("epochInLog")?,
                open: list("open")?.iter().map(item).collect::<Option<_>>()?,
            },
            runs: list("runs")?.iter().map(run).collect::<Option<_>>()?,
            dead: list("dead")?.iter().map(range).collect::<Option<_>>()?,
            next_run: number("nextRun")?,
        })
    }
}
