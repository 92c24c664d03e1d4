//! The statutory clock: published vectors, and what must hold of every day.

use idtrail_rights::{Calendar, ClockState, Code, Digest, Pause, Period, Regime, Zone};
use jiff::civil::Date;
use proptest::prelude::*;

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

fn calendar(holidays: &[&str]) -> Calendar {
    let holidays = holidays.iter().map(|text| day(text)).collect();
    Calendar { id: "test".to_owned(), weekend: [6, 7].into(), years: [2020, 2040], holidays }
}

fn pause(from: &str, to: Option<&str>) -> Pause {
    let reason = Code::parse("identity").unwrap();
    Pause { from: day(from), to: to.map(day), reason, evidence: Digest::new([0; 32]) }
}

/// Received, pauses, extended, holidays; the last day to answer.
type Case<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)], bool, &'a [&'a str], Option<&'a str>);

fn answer_by(regime: &Regime, (received, pauses, extended, holidays, _): &Case<'_>) -> Option<Date> {
    let mut clock = ClockState::new(day(received));
    clock.pauses = pauses.iter().map(|(from, to)| pause(from, *to)).collect();
    clock.extended_on = extended.then(|| day(received));
    clock.dates(regime, &calendar(holidays)).unwrap().respond.map(|due| due.date)
}

#[test]
fn a_month_ends_as_the_regulation_says() {
    let cases: &[Case<'_>] = &[
        // No 31 February; the 28th is a Saturday.
        ("2026-01-31", &[], false, &[], Some("2026-03-02")),
        ("2026-08-31", &[], false, &[], Some("2026-09-30")),
        ("2026-03-10", &[], false, &[], Some("2026-04-10")),
        ("2024-01-31", &[], false, &[], Some("2024-02-29")),
        // Christmas, and the Friday and weekend behind it.
        ("2026-11-25", &[], false, &["2026-12-25"], Some("2026-12-28")),
        ("2026-11-25", &[], false, &["2026-12-25", "2026-12-28"], Some("2026-12-29")),
        // Three months in all, from receipt, not from the end of the first month.
        ("2026-01-31", &[], true, &[], Some("2026-04-30")),
        ("2025-11-30", &[], true, &[], Some("2026-03-02")),
        // Ten days stood; two pauses that overlap count once.
        ("2026-03-10", &[("2026-03-12", Some("2026-03-22"))], false, &[], Some("2026-04-20")),
        (
            "2026-03-10",
            &[("2026-03-12", Some("2026-03-22")), ("2026-03-20", Some("2026-03-23"))],
            false,
            &[],
            Some("2026-04-21"),
        ),
        ("2026-03-10", &[("2026-03-12", None)], false, &[], None),
    ];
    for case in cases {
        assert_eq!(answer_by(&Regime::gdpr(), case), case.4.map(day), "{case:?}");
    }
}

#[test]
fn the_published_dates_are_those_of_the_regimes() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../../../vectors/rights/dates.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() >= 7);
    for case in cases {
        let regime = if case["regime"] == "gdpr" { Regime::gdpr() } else { Regime::ccpa() };
        let received = day(case["received"].as_str().unwrap());
        let mut clock = ClockState::new(received);
        clock.extended_on = case["extended"].as_bool().unwrap().then_some(received);
        let holidays: Vec<&str> =
            case["holidays"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let due = clock.dates(&regime, &calendar(&holidays)).unwrap().respond.unwrap();
        assert_eq!(due.date.to_string(), case["respondBy"].as_str().unwrap(), "{case}");
    }
}

#[test]
fn california_counts_days_and_does_not_stand() {
    let cases: &[Case<'_>] = &[
        ("2026-01-01", &[], false, &[], Some("2026-02-15")),
        ("2026-01-01", &[], true, &[], Some("2026-04-01")),
        // 15 February is a Sunday, and a pause changes nothing.
        ("2026-01-01", &[("2026-01-02", Some("2026-01-30"))], false, &["2026-02-15"], Some("2026-02-15")),
        ("2026-01-01", &[("2026-01-02", None)], false, &[], Some("2026-02-15")),
    ];
    for case in cases {
        assert_eq!(answer_by(&Regime::ccpa(), case), case.4.map(day), "{case:?}");
    }
    let clock = ClockState::new(day("2026-06-26"));
    let dates = clock.dates(&Regime::ccpa(), &calendar(&["2026-07-03"])).unwrap();
    // Friday; ten working days behind it, one of which is a holiday.
    assert_eq!(dates.acknowledge.map(|due| due.date), Some(day("2026-07-13")));
    let confirmed = ClockState { acknowledged_on: Some(day("2026-06-27")), ..clock };
    assert_eq!(confirmed.dates(&Regime::ccpa(), &calendar(&[])).unwrap().acknowledge, None);
}

#[test]
fn a_date_that_rests_on_no_list_of_holidays_says_so() {
    let guessed = |received: &str, regime: &Regime| {
        ClockState::new(day(received)).dates(regime, &calendar(&[])).unwrap().respond.unwrap().guessed
    };
    assert!(!guessed("2040-11-01", &Regime::gdpr()));
    assert!(guessed("2040-12-15", &Regime::gdpr()));
    assert!(!guessed("2040-12-15", &Regime::ccpa()), "calendar days need no holidays");
}

#[test]
fn a_day_ends_in_the_legal_zone() {
    let berlin = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let ms = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64;
    assert_eq!(berlin.date(ms("2026-01-30T23:30:00Z")).unwrap(), day("2026-01-31"));
    assert_eq!(berlin.end_of_day_ms(day("2026-03-02")).unwrap(), ms("2026-03-02T23:00:00Z"));
    // The day on which summer begins has 23 hours.
    assert_eq!(berlin.end_of_day_ms(day("2026-03-28")).unwrap(), ms("2026-03-28T23:00:00Z"));
    assert_eq!(berlin.end_of_day_ms(day("2026-03-29")).unwrap(), ms("2026-03-29T22:00:00Z"));
    assert!(Zone::parse("Europe/Nowhere").is_err());
}

proptest! {
    #[test]
    fn every_answer_is_due_on_a_working_day_of_the_next_month(offset in 0_i64..7_000) {
        let received = day("2021-01-01").checked_add(jiff::Span::new().days(offset)).unwrap();
        let calendar = calendar(&["2026-12-25", "2026-12-26", "2027-01-01"]);
        let due = ClockState::new(received).dates(&Regime::gdpr(), &calendar).unwrap().respond.unwrap().date;
        prop_assert!(calendar.is_working_day(due));
        let days = received.until(due).unwrap().get_days();
        prop_assert!((28..=37).contains(&days), "{received} {due}");
        let later = received.checked_add(jiff::Span::new().days(1)).unwrap();
        let next = ClockState::new(later).dates(&Regime::gdpr(), &calendar).unwrap().respond.unwrap().date;
        prop_assert!(next >= due, "a later request is never due earlier");
    }

    #[test]
    fn regimes_are_data(months in 0_u16..40, days in 0_u16..400) {
        let regime = Regime { respond: Period::Months(months), acknowledge: Some(Period::Days(days)), ..Regime::gdpr() };
        let text = serde_json::to_string(&regime).unwrap();
        prop_assert_eq!(serde_json::from_str::<Regime>(&text).unwrap(), regime);
    }
}
