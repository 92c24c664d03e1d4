//! When something happens next by itself: dates, alarms, the end of the time for an answer.

use jiff::civil::Date;

use super::Engine;
use crate::command::Refusal;
use crate::event::{Alarm, DateName, Step};
use crate::settings::Settings;

impl Engine {
    /// Returns when the request is answered with what there is; never while the clock stands.
    pub(super) fn budget_end_ms(&self, settings: &Settings) -> Result<u64, Refusal> {
        if self.case.pass > 1 {
            return Ok(self.case.pass_ms.saturating_add(settings.reopened_ms));
        }
        let respond = self.dates(settings)?.respond;
        let Some(due) = respond else { return Ok(u64::MAX) };
        let end_ms = settings.zone.end_of_day_ms(due.date).map_err(|_| Refusal::Clock)?;
        Ok(end_ms.saturating_sub(settings.margin_ms))
    }

    pub(super) fn dates(&self, settings: &Settings) -> Result<crate::clock::Dates, Refusal> {
        let regime = settings.regime(&self.case.received.regime).ok_or(Refusal::Clock)?;
        self.case.clock.dates(regime, &settings.calendar).map_err(|_| Refusal::Clock)
    }

    /// Returns the next alarm that is due: for each date the nearest one that has come.
    pub(super) fn next_alarm(&self, now_ms: u64, settings: &Settings) -> Result<Option<Step>, Refusal> {
        if self.case.state.is_closed() || self.case.answered_ms.is_some() {
            return Ok(None);
        }
        for (date, due, days, at_ms) in self.alarm_times(settings)? {
            if at_ms <= now_ms && !self.case.alarms.contains(&(date, due, days)) {
                return Ok(Some(Alarm { date, due, days }.into()));
            }
        }
        Ok(None)
    }

    /// Returns all alarms with their times; −1 day is the moment at which a date is over.
    pub(super) fn alarm_times(
        &self,
        settings: &Settings,
    ) -> Result<Vec<(DateName, Date, i32, u64)>, Refusal> {
        let dates = self.dates(settings)?;
        let named = [
            (DateName::Acknowledge, dates.acknowledge),
            (DateName::Extend, dates.extend),
            (DateName::Respond, dates.respond),
        ];
        let mut times = Vec::new();
        for (name, due) in named.into_iter().filter_map(|(name, due)| Some((name, due?.date))) {
            let end_ms = settings.zone.end_of_day_ms(due).map_err(|_| Refusal::Clock)?;
            for &days in settings.alarm_days.iter().chain(&[-1]) {
                // `days` ahead means from the beginning of that day on; −1 is the end of the last day.
                let before_ms = u64::from(days.saturating_add(1).unsigned_abs()) * 86_400_000;
                times.push((name, due, days, end_ms.saturating_sub(before_ms)));
            }
        }
        Ok(times)
    }

    pub(super) fn next_time(&self, now_ms: u64, settings: &Settings) -> Result<u64, Refusal> {
        let case = &self.case;
        let mut times =
            vec![case.approved_ms.saturating_add(settings.grace_ms), self.budget_end_ms(settings)?];
        if case.answered_ms.is_none() {
            times.extend(self.alarm_times(settings)?.into_iter().map(|(.., at_ms)| at_ms));
        }
        times.extend(case.delivery.link.map(|(until_ms, _)| until_ms));
        times.extend(case.items.values().map(|item| item.look_again_ms()));
        Ok(times.into_iter().filter(|at_ms| *at_ms > now_ms).min().unwrap_or(u64::MAX))
    }
}
