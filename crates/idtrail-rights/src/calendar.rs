//! Working days: weekends and holidays as data.
//!
//! A calendar names the years that its list of holidays covers. Outside of them it still counts weekends, and says that
//! it guessed; a date that rests on a guess is shown as such, never silently.

use std::collections::BTreeSet;

use jiff::ToSpan as _;
use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};

use crate::error::RightsError;

/// The working days of one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Calendar {
    /// Its name, such as `de-be`.
    pub id: String,
    /// Days of the week without work, 1 for Monday to 7 for Sunday.
    pub weekend: BTreeSet<i8>,
    /// First and last year that `holidays` covers.
    pub years: [i16; 2],
    /// The holidays.
    pub holidays: BTreeSet<Date>,
}

impl Calendar {
    /// Returns a calendar of Saturdays and Sundays, without holidays.
    pub fn weekends_only() -> Self {
        Self { id: "weekends".to_owned(), weekend: [6, 7].into(), years: [1, 0], holidays: BTreeSet::new() }
    }

    /// Tells whether people work on a day.
    pub fn is_working_day(&self, date: Date) -> bool {
        !self.weekend.contains(&weekday_number(date.weekday())) && !self.holidays.contains(&date)
    }

    /// Tells whether the list of holidays covers a day.
    pub fn covers(&self, date: Date) -> bool {
        let [first, last] = self.years;
        (first..=last).contains(&date.year())
    }

    /// Returns the day itself if it is a working day, else the next one that is.
    ///
    /// # Errors
    /// [`RightsError::Date`] if there is none within 60 days.
    pub fn roll(&self, date: Date) -> Result<Date, RightsError> {
        let mut day = date;
        for _ in 0..60 {
            if self.is_working_day(day) {
                return Ok(day);
            }
            day = day.checked_add(1.day()).map_err(|_| RightsError::Date)?;
        }
        Err(RightsError::Date)
    }

    /// Returns the `count`-th working day behind a day, which itself is not counted.
    ///
    /// # Errors
    /// [`RightsError::Date`].
    pub fn add_working_days(&self, date: Date, count: u16) -> Result<Date, RightsError> {
        let mut day = date;
        for _ in 0..count {
            day = self.roll(day.checked_add(1.day()).map_err(|_| RightsError::Date)?)?;
        }
        Ok(day)
    }
}

fn weekday_number(day: Weekday) -> i8 {
    day.to_monday_one_offset()
}
