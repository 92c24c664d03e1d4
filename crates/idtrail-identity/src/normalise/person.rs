//! Names and dates of birth as comparison keys. They corroborate and never identify.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::{Normal, Refusal, Secret};
use crate::ruleset::types;

/// Returns the comparison key of a surname and a date of birth (ISO 8601), either of which may be missing.
///
/// # Errors
/// [`Refusal::Malformed`] if both are missing, or the date is not one.
pub fn person_key(surname: Option<&str>, birth_date: Option<&str>) -> Result<Normal, Refusal> {
    let name: Secret = Secret::new(
        surname
            .unwrap_or_default()
            .nfkd()
            .filter(|c| !is_combining_mark(*c))
            .flat_map(char::to_lowercase)
            .filter(|c| c.is_alphanumeric())
            .collect(),
    );
    let date = birth_date.map(str::trim).unwrap_or_default();
    if !date.is_empty() && !is_date(date) {
        return Err(Refusal::Malformed("date"));
    }
    if name.is_empty() && date.is_empty() {
        return Err(Refusal::Malformed("empty"));
    }
    Ok(Normal::new(types::PERSON_KEY, Secret::new(format!("{}|{date}", *name))))
}

fn is_date(text: &str) -> bool {
    let number = |(part, digits): (&str, usize)| {
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { part.parse().ok() } else { None }
    };
    let parts: Vec<Option<u32>> = text.split('-').zip([4, 2, 2]).map(number).collect();
    let days = |year: u32, month| match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    text.len() == 10
        && matches!(parts.as_slice(), [Some(year), Some(month), Some(day)]
            if (1..=12).contains(month) && (1..=days(*year, *month)).contains(day))
}
