//! The statutory clock: regimes as data, and the dates that follow for a request.
//!
//! Periods of the GDPR are counted by Regulation (EEC, Euratom) No 1182/71: the day of receipt is not counted, a period of
//! months ends with the last hour of the day of the same number (the last day of the month if there is none), and a last
//! day without work moves to the next working day. The California regulations (11 CCR §7021) count calendar days from
//! receipt, and the acknowledgement in business days. Everything is counted in the controller's legal time zone, given
//! as a POSIX TZ text, so that no database of time zones is needed; an instant is milliseconds since 1970.
//!
//! What it must never do: read a clock, or move a date in the requester's disfavour without an interval that says why.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::error::RightsError;
use crate::id::{Code, Digest};

/// A count of time as statutes count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Period {
    /// Calendar months.
    Months(u16),
    /// Calendar days.
    Days(u16),
    /// Working days.
    BusinessDays(u16),
}

/// What a law says about time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Regime {
    /// Its name, such as `gdpr`.
    pub id: Code,
    /// When receipt must be confirmed.
    #[serde(default)]
    pub acknowledge: Option<Period>,
    /// When the request must be answered, from receipt.
    pub respond: Period,
    /// When it must be answered after an extension, from receipt as well; `None` if it cannot be extended.
    #[serde(default)]
    pub extended: Option<Period>,
    /// Whether a last day without work moves to the next working day.
    pub roll: bool,
    /// Whether an open question to the requester stops the clock.
    pub pauses: bool,
    /// Whether a request can be denied for want of verification when the time is over (11 CCR §7021).
    pub deny_unverified_at_due: bool,
}

impl Regime {
    /// Regulation (EU) 2016/679, Art. 12(3): one month, three in all after an extension.
    pub fn gdpr() -> Self {
        Self {
            id: Code::parse("gdpr").expect("a name"),
            acknowledge: None,
            respond: Period::Months(1),
            extended: Some(Period::Months(3)),
            roll: true,
            pauses: true,
            deny_unverified_at_due: false,
        }
    }

    /// California, 11 CCR §7021: receipt confirmed in 10 business days, an answer in 45 days, 90 in all.
    pub fn ccpa() -> Self {
        Self {
            id: Code::parse("ccpa").expect("a name"),
            acknowledge: Some(Period::BusinessDays(10)),
            respond: Period::Days(45),
            extended: Some(Period::Days(90)),
            roll: false,
            pauses: false,
            deny_unverified_at_due: true,
        }
    }
}

/// A time in which the clock stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pause {
    /// The day it began.
    pub from: Date,
    /// The day it ended; `None` while it lasts.
    pub to: Option<Date>,
    /// Why.
    pub reason: Code,
    /// Hash of what shows it, such as the question to the requester.
    pub evidence: Digest,
}

/// What has happened to the clock of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// The day of receipt in the legal time zone.
    pub received_on: Date,
    /// The day on which receipt was confirmed.
    pub acknowledged_on: Option<Date>,
    /// The times in which it stood.
    pub pauses: Vec<Pause>,
    /// The day on which the notice of an extension was sent.
    pub extended_on: Option<Date>,
}

/// A last day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Due {
    /// The day; the period ends with its last hour.
    pub date: Date,
    /// Whether holidays were guessed, because the calendar does not cover the day.
    pub guessed: bool,
}

/// The dates that hold for a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// The last day to confirm receipt; `None` if the regime asks for none, or it was confirmed.
    pub acknowledge: Option<Due>,
    /// The last day to answer; `None` while the clock stands.
    pub respond: Option<Due>,
    /// The last day for the notice of an extension, which is that of the first period; `None` if there can be none (any
    /// more), or the clock stands.
    pub extend: Option<Due>,
}

impl ClockState {
    /// Starts at a day of receipt.
    pub fn new(received_on: Date) -> Self {
        Self { received_on, acknowledged_on: None, pauses: Vec::new(), extended_on: None }
    }

    /// Tells whether the clock stands.
    pub fn is_paused(&self) -> bool {
        self.pauses.last().is_some_and(|pause| pause.to.is_none())
    }

    /// Returns the dates under a regime and calendar.
    ///
    /// # Errors
    /// [`RightsError::Date`].
    pub fn dates(&self, regime: &Regime, calendar: &Calendar) -> Result<Dates, RightsError> {
        let acknowledge = match (regime.acknowledge, self.acknowledged_on) {
            // Confirming receipt asks nothing of the requester, so no pause moves it.
            (Some(period), None) => Some(end(self.received_on, period, 0, false, calendar)?),
            _ => None,
        };
        if self.is_paused() && regime.pauses {
            return Ok(Dates { acknowledge, respond: None, extend: None });
        }
        let stood = if regime.pauses { self.days_stood()? } else { 0 };
        let last = |period| end(self.received_on, period, stood, regime.roll, calendar);
        let respond = match (self.extended_on, regime.extended) {
            (Some(_), Some(period)) => last(period)?,
            _ => last(regime.respond)?,
        };
        let extend = match (self.extended_on, regime.extended) {
            (None, Some(_)) => Some(last(regime.respond)?),
            _ => None,
        };
        Ok(Dates { acknowledge, respond: Some(respond), extend })
    }

    /// Days on which the clock stood, of the pauses that are over; a day that two pauses touch counts once.
    fn days_stood(&self) -> Result<i32, RightsError> {
        let mut days = 0;
        let mut counted_to = self.received_on;
        for pause in &self.pauses {
            let Some(to) = pause.to else { continue };
            let from = pause.from.max(counted_to);
            if to > from {
                days += from.until(to).map_err(|_| RightsError::Date)?.get_days();
                counted_to = to;
            }
        }
        Ok(days)
    }
}

fn end(from: Date, period: Period, stood: i32, roll: bool, calendar: &Calendar) -> Result<Due, RightsError> {
    let date = match period {
        // Adding months takes the last day of the month if there is none of the same number.
        Period::Months(count) => {
            from.checked_add(i64::from(count).months()).map_err(|_| RightsError::Date)?
        }
        Period::Days(count) => from.checked_add(i64::from(count).days()).map_err(|_| RightsError::Date)?,
        Period::BusinessDays(count) => calendar.add_working_days(from, count)?,
    };
    let date = date.checked_add(i64::from(stood).days()).map_err(|_| RightsError::Date)?;
    let uses_calendar = roll || matches!(period, Period::BusinessDays(_));
    let date = if roll { calendar.roll(date)? } else { date };
    let covered = calendar.covers(date) && calendar.covers(from);
    Ok(Due { date, guessed: uses_calendar && !covered })
}

/// The controller's legal time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Reads a POSIX TZ text, such as `CET-1CEST,M3.5.0,M10.5.0/3` or `UTC0`.
    ///
    /// # Errors
    /// [`RightsError::Zone`].
    pub fn parse(text: &str) -> Result<Self, RightsError> {
        TimeZone::posix(text).map(Self).map_err(|_| RightsError::Zone)
    }

    /// Returns the day of an instant.
    ///
    /// # Errors
    /// [`RightsError::Date`].
    pub fn date(&self, at_ms: u64) -> Result<Date, RightsError> {
        let at = i64::try_from(at_ms).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        Ok(at.ok_or(RightsError::Date)?.to_zoned_datetime(self.0.clone()).date())
    }

    /// Returns the first instant behind a day: what ends with that day's last hour is late from here on.
    ///
    /// # Errors
    /// [`RightsError::Date`].
    pub fn end_of_day_ms(&self, date: Date) -> Result<u64, RightsError> {
        let next = date.checked_add(1.day()).map_err(|_| RightsError::Date)?;
        let start = next.to_zoned_datetime(self.0.clone()).map_err(|_| RightsError::Date)?;
        u64::try_from(start.timestamp().as_millisecond()).map_err(|_| RightsError::Date)
    }
}
