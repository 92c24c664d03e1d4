//! Months, as retention counts them.

use idtrail_event::{hour_of_ms, month_of_hour};

/// Returns the month since 1970-01, UTC, of a time in milliseconds since 1970.
pub fn month_of_ms(ms: u64) -> u16 {
    month_of_hour(hour_of_ms(ms))
}

/// Writes a month since 1970-01 as `2026-11`.
pub fn month_text(month: u16) -> String {
    format!("{:04}-{:02}", 1970 + month / 12, month % 12 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_counted_and_written() {
        for (ms, month, text) in [
            (0, 0, "1970-01"),
            (1_767_225_599_999, 671, "2025-12"),
            (1_767_225_600_000, 672, "2026-01"),
            (1_790_000_000_000, 680, "2026-09"),
        ] {
            assert_eq!((month_of_ms(ms), month_text(month).as_str()), (month, text));
        }
    }
}
