//! Reports over many cases: what is due when, and how requests were answered.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Serialize;

use crate::case::Case;
use crate::certificate::name_of;
use crate::csv;
use crate::event::Outcomes;
use crate::plan::Kind;
use crate::settings::Settings;
use crate::state::State;

/// One request and its date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deadline {
    /// The request.
    pub request: String,
    /// What is asked for.
    pub kind: Kind,
    /// The law.
    pub regime: String,
    /// The state that is shown.
    pub state: State,
    /// Day of receipt.
    pub received_on: Date,
    /// The last day to confirm receipt, if that is still to be done.
    pub acknowledge_by: Option<Date>,
    /// The last day to answer; `None` while the clock stands, or after the answer.
    pub respond_by: Option<Date>,
    /// Whether holidays were guessed.
    pub guessed: bool,
    /// Days left; negative if it is late.
    pub days_left: Option<i32>,
    /// Whether the clock stands.
    pub paused: bool,
    /// Whether the time was extended.
    pub extended: bool,
    /// What is missing.
    pub open_items: usize,
    /// Whether the regime is not configured here, so that nobody knows the date.
    pub unknown_regime: bool,
}

/// Returns the open requests with their dates, the most urgent first; what has no date is last.
pub fn deadlines<'a>(
    cases: impl IntoIterator<Item = &'a Case>,
    settings: &Settings,
    today: Date,
) -> Vec<Deadline> {
    let mut list: Vec<Deadline> = cases
        .into_iter()
        .filter(|case| !case.state.is_closed())
        .map(|case| {
            let regime = settings.regime(&case.received.regime);
            let dates = regime.and_then(|regime| case.clock.dates(regime, &settings.calendar).ok());
            let unanswered = case.answered_ms.is_none();
            let respond = dates.and_then(|dates| dates.respond).filter(|_| unanswered);
            Deadline {
                request: case.request.to_string(),
                kind: case.kind(),
                regime: case.received.regime.to_string(),
                state: case.shown_state(),
                received_on: case.received.received_on,
                acknowledge_by: dates.and_then(|dates| dates.acknowledge).map(|due| due.date),
                respond_by: respond.map(|due| due.date),
                guessed: respond.is_some_and(|due| due.guessed),
                days_left: respond.and_then(|due| today.until(due.date).ok()).map(|span| span.get_days()),
                paused: case.clock.is_paused(),
                extended: case.clock.extended_on.is_some(),
                open_items: case.open_items().len(),
                unknown_regime: regime.is_none(),
            }
        })
        .collect();
    list.sort_by(|a, b| {
        let key = |entry: &Deadline| (entry.respond_by.is_none(), entry.respond_by);
        key(a).cmp(&key(b)).then_with(|| a.request.cmp(&b.request))
    });
    list
}

/// The figures of one kind under one law, of requests that came in within a period (11 CCR §7102 asks for them by calendar
/// year).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Requests that came in.
    pub received: u64,
    /// Answered, and all of it done.
    pub complied: u64,
    /// Answered in part.
    pub complied_in_part: u64,
    /// Denied.
    pub denied: u64,
    /// Denied, by reason.
    pub denied_by_reason: BTreeMap<String, u64>,
    /// Taken back.
    pub withdrawn: u64,
    /// Given up because the requester never showed who they are.
    pub expired: u64,
    /// Not answered yet.
    pub open: u64,
    /// Answered behind their date.
    pub late: u64,
    /// Median days from receipt to the answer, of those complied with or denied; `None` if there is none.
    pub median_days: Option<f64>,
    /// Mean days, likewise.
    pub mean_days: Option<f64>,
}

/// Returns the figures by law and kind, of requests received from `first` to `last`, both included.
pub fn figures<'a>(
    cases: impl IntoIterator<Item = &'a Case>,
    settings: &Settings,
    first: Date,
    last: Date,
) -> BTreeMap<(String, Kind), Figures> {
    let mut all: BTreeMap<(String, Kind), (Figures, Vec<i32>)> = BTreeMap::new();
    for case in cases {
        let on = case.received.received_on;
        if on < first || on > last {
            continue;
        }
        let key = (case.received.regime.to_string(), case.kind());
        let (figures, days) = all.entry(key).or_default();
        figures.received += 1;
        let Some(answered_on) = case.answered_ms.and_then(|at_ms| settings.zone.date(at_ms).ok()) else {
            match case.state {
                State::Expired => figures.expired += 1,
                _ => figures.open += 1,
            }
            continue;
        };
        match case.state {
            State::Withdrawn => {
                figures.withdrawn += 1;
                continue;
            }
            State::Denied => {
                figures.denied += 1;
                let reason = case.denied.as_ref().map(ToString::to_string).unwrap_or_default();
                *figures.denied_by_reason.entry(reason).or_default() += 1;
            }
            _ if case.outcome() == Outcomes::Fulfilled => figures.complied += 1,
            _ => figures.complied_in_part += 1,
        }
        days.extend(on.until(answered_on).ok().map(|span| span.get_days()));
        let regime = settings.regime(&case.received.regime);
        let dates = regime.and_then(|regime| case.clock.dates(regime, &settings.calendar).ok());
        let due = dates.and_then(|dates| dates.respond);
        figures.late += u64::from(due.is_some_and(|due| answered_on > due.date));
    }
    all.into_iter()
        .map(|(key, (figures, mut days))| {
            days.sort_unstable();
            let mean_days = mean(&days);
            (key, Figures { median_days: median(&days), mean_days, ..figures })
        })
        .collect()
}

fn mean(sorted: &[i32]) -> Option<f64> {
    let sum: i64 = sorted.iter().map(|days| i64::from(*days)).sum();
    (!sorted.is_empty()).then(|| sum as f64 / sorted.len() as f64)
}

fn median(sorted: &[i32]) -> Option<f64> {
    let high = f64::from(*sorted.get(sorted.len() / 2)?);
    if sorted.len() % 2 == 1 {
        return Some(high);
    }
    let low = f64::from(*sorted.get(sorted.len() / 2 - 1)?);
    Some(f64::midpoint(low, high))
}

/// Returns the figures as CSV.
pub fn figures_csv(figures: &BTreeMap<(String, Kind), Figures>) -> String {
    const HEAD: [&str; 12] = [
        "regime",
        "kind",
        "received",
        "complied",
        "compliedInPart",
        "denied",
        "withdrawn",
        "expired",
        "open",
        "late",
        "medianDays",
        "meanDays",
    ];
    let rows = figures.iter().map(|((regime, kind), row)| {
        let counts = [
            row.received,
            row.complied,
            row.complied_in_part,
            row.denied,
            row.withdrawn,
            row.expired,
            row.open,
            row.late,
        ];
        let days = [row.median_days, row.mean_days];
        let head = [regime.clone(), name_of(kind)];
        head.into_iter()
            .chain(counts.iter().map(ToString::to_string))
            .chain(days.iter().map(|days| days.map(|days| format!("{days:.1}")).unwrap_or_default()))
            .collect()
    });
    csv::table(&HEAD, rows)
}
