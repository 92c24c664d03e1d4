//! Times: RFC 3339 as clients write it, the one form that the leaf compacts, hours and months of the leaf's header.
//!
//! Written by hand for speed and because the usual parsers accept more than RFC 3339 does (no seconds, basic format,
//! zone names). The calendar is the proleptic Gregorian one, without leap seconds: second 60 counts as the next minute's
//! second 0. Tests compare with `jiff` as an independent implementation.

use alloc::string::String;

const DAY_SECONDS: i64 = 86_400;
const HOUR_MS: u64 = 3_600_000;
/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what four digits of a year can say.
const SECONDS: core::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// Returns the hour since 1970, UTC, of a time in milliseconds since 1970.
pub fn hour_of_ms(ms: u64) -> u32 {
    u32::try_from(ms / HOUR_MS).unwrap_or(u32::MAX)
}

/// Returns the month since 1970-01 of an hour since 1970, UTC; 65,535 for all months beyond that.
pub fn month_of_hour(hour: u32) -> u16 {
    let (year, month, _) = date_of_day(i64::from(hour) / 24);
    u16::try_from((year - 1970) * 12 + i64::from(month) - 1).unwrap_or(u16::MAX)
}

/// Days since 1970-01-01 of a date (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn day_of_date(year: i64, month: u8, day: u8) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01 (the same source).
fn date_of_day(days: i64) -> (i64, u8, u8) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u8, day as u8)
}

fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn two(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

/// The first 19 characters: seconds since 1970 as if in UTC, and the separator between date and time.
fn date_time(bytes: &[u8; 19]) -> Option<(i64, u8)> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, separator, h1, h2, b':', n1, n2, b':', s1, s2] = *bytes
    else {
        return None;
    };
    let year = i64::from(two(y1, y2)?) * 100 + i64::from(two(y3, y4)?);
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(n1, n2)?, two(s1, s2)?);
    let date = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    if !date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let time = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Some((day_of_date(year, month, day) * DAY_SECONDS + time, separator))
}

/// Reads an RFC 3339 time with `Z` or an offset, in milliseconds since 1970; what is finer is dropped.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    let (front, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let (seconds, separator) = date_time(front)?;
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (milliseconds, zone) = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, zone) = fraction.split_at_checked(digits)?;
            let padded = digits.iter().copied().chain([b'0'; 2]).take(3);
            let value = padded.fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
            // Ten digits and more are no clock's; they would only be a way to hide something in a time.
            (!digits.is_empty() && digits.len() <= 9).then_some((value, zone))?
        }
        zone => (0, zone),
    };
    let offset = match zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
            let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
            let valid = hours <= 23 && minutes <= 59;
            valid.then_some(if *sign == b'-' { -seconds } else { seconds })?
        }
        _ => return None,
    };
    Some((seconds - offset) * 1000 + milliseconds)
}

/// Reads an RFC 3339 time with `Z` or an offset. Returns milliseconds since 1970, or `None` if it is not one.
pub fn time_ms(text: &str) -> Option<i64> {
    parse_rfc3339(text)
}

/// Writes milliseconds since 1970 as an RFC 3339 time with three decimals; times behind the year 9999 as its end.
pub fn time_text(ms: u64) -> String {
    let time = ((ms / 1000).cast_signed().clamp(0, *SECONDS.end()), Some((ms % 1000) as u16));
    format(time).unwrap_or_default()
}

/// A time of which [`format`] gives back the identical text: seconds since 1970, and milliseconds if three decimals
/// are written.
pub(crate) type ExactTime = (i64, Option<u16>);

/// Reads `YYYY-MM-DDTHH:MM:SSZ`, with exactly three decimals or none.
pub(crate) fn parse_exact(bytes: &[u8]) -> Option<ExactTime> {
    let (front, rest) = bytes.split_first_chunk::<19>()?;
    let milliseconds = match rest {
        [b'Z'] => None,
        [b'.', a, b, c, b'Z'] => Some(u16::from(two(*a, *b)?) * 10 + u16::from(two(b'0', *c)?)),
        _ => return None,
    };
    // Second 60 has another text after the way through seconds since 1970.
    let [.., b'0'..=b'5', _] = front else { return None };
    let (seconds, separator) = date_time(front)?;
    (separator == b'T').then_some((seconds, milliseconds))
}

/// Writes what [`parse_exact`] reads, if the year has four digits.
pub(crate) fn format((seconds, milliseconds): ExactTime) -> Option<String> {
    if !SECONDS.contains(&seconds) || milliseconds.is_some_and(|milliseconds| milliseconds > 999) {
        return None;
    }
    let (year, month, day) = date_of_day(seconds.div_euclid(DAY_SECONDS));
    let second = seconds.rem_euclid(DAY_SECONDS);
    let mut text = String::with_capacity(24);
    let mut push = |value: i64, digits: u32, separator: char| {
        for place in (0..digits).rev() {
            text.push(char::from(b'0' + (value / 10_i64.pow(place) % 10) as u8));
        }
        text.push(separator);
    };
    push(year, 4, '-');
    push(i64::from(month), 2, '-');
    push(i64::from(day), 2, 'T');
    push(second / 3600, 2, ':');
    push(second / 60 % 60, 2, ':');
    match milliseconds {
        None => push(second % 60, 2, 'Z'),
        Some(milliseconds) => {
            push(second % 60, 2, '.');
            push(i64::from(milliseconds), 3, 'Z');
        }
    }
    Some(text)
}
