//! The section `[rights]`: requests of data subjects.

use std::path::PathBuf;

use idtrail_rights::Zone;

use super::{Check, DAY_MS, SettingsError};
use crate::config;

const HOUR_MS: u64 = 3_600_000;

/// Requests of data subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightsSettings {
    /// Milliseconds between the approval of an erasure and its beginning.
    pub grace_ms: u64,
    /// Milliseconds for which copies of the vault may last elsewhere.
    pub copies_ms: u64,
    /// File with the records of processing.
    pub records: Option<PathBuf>,
    /// Milliseconds for which a package can be fetched.
    pub link_ms: u64,
    /// How often a package can be fetched.
    pub link_fetches: u32,
    /// Milliseconds until the first repetition of an attempt.
    pub retry_ms: u64,
    /// The controller's legal time zone, a POSIX TZ text.
    pub zone: String,
    /// File with working days.
    pub calendar: Option<PathBuf>,
}

impl Check<'_> {
    pub(super) fn rights(&self, raw: config::Rights) -> Result<RightsSettings, SettingsError> {
        let hours = |key, value, default, min, max| {
            self.range::<u64>(key, value, default, min, max).map(|hours| hours * HOUR_MS)
        };
        let copies_days = self.range::<u64>("rights.copies_days", raw.copies_days, 35, 0, 3650)?;
        let retry_s = self.range::<u64>("rights.retry_seconds", raw.retry_seconds, 30, 1, 3600)?;
        let zone = raw.zone.unwrap_or_else(|| "UTC0".to_owned());
        if Zone::parse(&zone).is_err() {
            return Err(
                self.wrong("rights.zone", "must be a POSIX TZ text, such as CET-1CEST,M3.5.0,M10.5.0/3")
            );
        }
        Ok(RightsSettings {
            grace_ms: hours("rights.grace_hours", raw.grace_hours, 24, 0, 720)?,
            copies_ms: DAY_MS * copies_days,
            records: raw.records.map(|path| self.base.join(path)),
            link_ms: hours("rights.link_hours", raw.link_hours, 168, 1, 8760)?,
            link_fetches: self.range("rights.link_fetches", raw.link_fetches, 5, 1, 1000)?,
            retry_ms: 1000 * retry_s,
            zone,
            calendar: raw.calendar.map(|path| self.base.join(path)),
        })
    }
}
