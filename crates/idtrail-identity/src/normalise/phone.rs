//! Phone numbers: E.164.

use std::str::FromStr;

use idtrail_event::IdentifierType;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, PhoneNumberType, Region};

use super::{Normal, NormaliserConfig, Refusal, Secret, listed};

/// What telephone systems write when they have no number to show.
const WITHHELD: &[&str] = &[
    "anonymous",
    "anonymous caller",
    "asserted",
    "blocked",
    "invalid",
    "no caller id",
    "not available",
    "null",
    "number withheld",
    "private",
    "private number",
    "restricted",
    "unavailable",
    "unknown",
    "unknown caller",
    "withheld",
];

/// "Anonymous" on a keypad, and what is typed by those who must type something.
const PLACEHOLDERS: &[&str] = &["266696687", "1234567890", "0123456789", "123456789", "12345678"];

const EMERGENCY: &[&str] =
    &["110", "111", "112", "113", "115", "117", "118", "119", "911", "999", "000", "988"];

pub(super) fn normalise(
    value: &str,
    region: Option<&str>,
    config: &NormaliserConfig,
) -> Result<Normal, Refusal> {
    let (number, mut extension) = dialled(value)?;
    let digits: Secret = Secret::new(
        number.chars().filter_map(|c| c.to_digit(10).map(|d| (b'0' + d as u8) as char)).collect(),
    );
    if WITHHELD.contains(&number.to_lowercase().as_str()) || is_placeholder(&digits) {
        return Err(Refusal::Withheld);
    }
    let plus = number.trim_start().starts_with(['+', '＋']);
    if !plus && EMERGENCY.contains(&digits.as_str()) {
        return Err(Refusal::Emergency);
    }
    let letters = number.chars().any(char::is_alphabetic);
    if !plus && !letters && (1..=6).contains(&digits.len()) {
        return Err(Refusal::ShortCode);
    }
    let region = match region {
        Some(region) => Some(Region::from_str(region).map_err(|_| Refusal::Region)?),
        None if plus => None,
        None if digits.is_empty() => return Err(Refusal::Malformed("number")),
        None => return Err(Refusal::Region),
    };
    let parsed = PHONE_NUMBER_UTIL.parse(&*number, region).map_err(|_| Refusal::Malformed("number"))?;
    extension |= parsed.extension.as_ref().is_some_and(|extension| !extension.is_empty());
    let parsed = PhoneNumber { extension: None, ..parsed };
    let e164 = Secret::new(parsed.format_as(PhoneNumberFormat::E164).into_owned());
    let length = e164.len().saturating_sub(1);
    if !(7..=15).contains(&length) || !e164.starts_with('+') {
        return Err(Refusal::Malformed("length"));
    }
    if EMERGENCY.iter().any(|emergency| national(&e164, parsed.country_code).is_some_and(|n| n == *emergency))
    {
        return Err(Refusal::Emergency);
    }
    if is_placeholder(e164.trim_start_matches('+'))
        || national(&e164, parsed.country_code).is_some_and(is_placeholder)
    {
        return Err(Refusal::Withheld);
    }
    if listed(&config.own_numbers, &e164) {
        return Err(Refusal::OwnNumber);
    }
    if parsed.get_type() == PhoneNumberType::TollFree {
        return Err(Refusal::TollFree);
    }
    let variants = variants(&e164);
    Ok(Normal { variants, extension, ..Normal::new(IdentifierType::PHONE, e164) })
}

/// Returns what was dialled: without the scheme of a URI and without extension, and whether there was one.
fn dialled(value: &str) -> Result<(Secret, bool), Refusal> {
    let trimmed = value.trim();
    if trimmed.is_empty() {
        return Err(Refusal::Withheld);
    }
    if trimmed.chars().any(char::is_control) {
        return Err(Refusal::Malformed("control character"));
    }
    let scheme = trimmed.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    let number = match &scheme {
        Some((scheme, rest)) if scheme == "tel" => *rest,
        Some((scheme, rest)) if scheme == "sip" || scheme == "sips" => {
            let user = rest.split_once('@').map_or(*rest, |(user, _)| user);
            // A password may follow the user.
            user.split_once(':').map_or(user, |(user, _)| user)
        }
        Some(_) => return Err(Refusal::Malformed("scheme")),
        None => trimmed,
    };
    let (number, parameters) = number.split_once(';').unwrap_or((number, ""));
    let extension = parameters.split(';').any(|part| part.to_ascii_lowercase().starts_with("ext="));
    let is_sip = scheme.as_ref().is_some_and(|(scheme, _)| scheme.starts_with("sip"));
    let numeric = number.chars().any(|c| c.is_numeric());
    if is_sip && !numeric && !WITHHELD.contains(&number.to_lowercase().as_str()) {
        return Err(Refusal::Malformed("sip user is not a number"));
    }
    Ok((Secret::new(number.to_owned()), extension))
}

/// Tells whether digits stand for no number at all.
fn is_placeholder(digits: &str) -> bool {
    let same = digits.len() >= 7 && digits.bytes().all(|byte| digits.bytes().next() == Some(byte));
    same || PLACEHOLDERS.contains(&digits)
}

fn national(e164: &str, country: i32) -> Option<&str> {
    e164.strip_prefix('+')?.strip_prefix(country.to_string().as_str())
}

/// Returns other forms under which the same line is known: mobile prefixes that were dropped or added.
fn variants(e164: &str) -> Vec<Secret> {
    let other = if let Some(rest) = e164.strip_prefix("+521").filter(|rest| rest.len() == 10) {
        Some(format!("+52{rest}"))
    } else if let Some(rest) = e164.strip_prefix("+52").filter(|rest| rest.len() == 10) {
        Some(format!("+521{rest}"))
    } else if let Some(rest) = e164.strip_prefix("+549").filter(|rest| rest.len() == 10) {
        Some(format!("+54{rest}"))
    } else if let Some(rest) = e164.strip_prefix("+54").filter(|rest| rest.len() == 10) {
        Some(format!("+549{rest}"))
    } else if let Some((area, line)) = e164.strip_prefix("+55").and_then(|rest| rest.split_at_checked(2)) {
        match (line.len(), line.as_bytes()) {
            (9, [b'9', b'6'..=b'9', ..]) => line.get(1..).map(|line| format!("+55{area}{line}")),
            (8, [b'6'..=b'9', ..]) => Some(format!("+55{area}9{line}")),
            _ => None,
        }
    } else {
        None
    };
    other.into_iter().map(Secret::new).collect()
}
