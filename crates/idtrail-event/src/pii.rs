//! Finds raw personal data in strings: mail addresses, phone numbers, card numbers, bank accounts.
//!
//! Cheap signs first (an `@`, a `+`, enough digits), so that hashes and ids cost next to nothing. A false alarm refuses
//! a good event, so each kind needs its own proof: a domain, a plus sign, an issuer prefix with Luhn's check, a country's
//! length with ISO 7064 check digits.

use core::fmt;

/// A kind of raw personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Email,
    Phone,
    Card,
    Iban,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Email => "a mail address",
            Kind::Phone => "a phone number",
            Kind::Card => "a card number",
            Kind::Iban => "a bank account number (IBAN)",
        })
    }
}

/// Looks for any kind anywhere in free text.
pub(crate) fn find(text: &str) -> Option<Kind> {
    find_contact(text).or_else(|| {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        if digits >= 13 && has_card(text.as_bytes()) {
            return Some(Kind::Card);
        }
        if digits >= 8 && has_iban(text) {
            return Some(Kind::Iban);
        }
        None
    })
}

/// Looks for mail addresses and marked phone numbers only: for typed ids, where a bare number may be an id.
pub(crate) fn find_contact(text: &str) -> Option<Kind> {
    let bytes = text.as_bytes();
    if bytes.contains(&b'@') && has_email(bytes) {
        return Some(Kind::Email);
    }
    if bytes.contains(&b'+') && has_plus_phone(bytes) {
        return Some(Kind::Phone);
    }
    if bytes.contains(&b':') && has_phone_uri(bytes) {
        return Some(Kind::Phone);
    }
    None
}

fn has_email(bytes: &[u8]) -> bool {
    let local =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(byte) || *byte >= 0x80;
    let domain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || *byte >= 0x80;
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'@').any(|(at, _)| {
        let before = bytes.get(..at).and_then(|before| before.last()).is_some_and(local);
        let behind = bytes.get(at + 1..).unwrap_or_default();
        let length = behind.iter().take_while(|byte| domain(byte)).count();
        let name = behind.get(..length).unwrap_or_default();
        let mut labels = name.split(|byte| *byte == b'.').filter(|label| !label.is_empty());
        let top = labels.clone().next_back().unwrap_or_default();
        let top_is_name =
            top.len() >= 2 && top.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
        let top_is_idna = top.starts_with(b"xn--");
        before && labels.nth(1).is_some() && (top_is_name || top_is_idna)
    })
}

fn has_plus_phone(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'+').any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        if before.is_some_and(|byte| byte.is_ascii_alphanumeric()) {
            return false;
        }
        phone_digits(bytes.get(at + 1..).unwrap_or_default())
    })
}

/// Tells whether text starts like the digits of an international number: 8 to 15, not from 0, with usual separators.
fn phone_digits(rest: &[u8]) -> bool {
    let mut digits = 0;
    let mut previous = 0;
    for byte in rest {
        match byte {
            b'0' if digits == 0 => return false,
            b'0'..=b'9' => digits += 1,
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' => {}
            // A letter right behind a digit makes it a word of some code, not a number.
            _ if byte.is_ascii_alphabetic() && previous != b' ' => return false,
            _ => break,
        }
        previous = *byte;
    }
    (8..=15).contains(&digits)
}

fn has_phone_uri(bytes: &[u8]) -> bool {
    let schemes: [(&[u8], usize); 3] = [(b"tel:", 3), (b"sip:", 1), (b"sips:", 1)];
    schemes.iter().any(|(scheme, digits_min)| {
        bytes.windows(scheme.len()).enumerate().any(|(at, window)| {
            let starts = at == 0
                || at
                    .checked_sub(1)
                    .and_then(|at| bytes.get(at))
                    .is_none_or(|byte| !byte.is_ascii_alphanumeric());
            let rest = bytes.get(at + scheme.len()..).unwrap_or_default();
            let target = rest.iter().take_while(|byte| byte.is_ascii_graphic());
            let meaningful = target.filter(|byte| byte.is_ascii_alphanumeric()).count();
            starts && window.eq_ignore_ascii_case(scheme) && meaningful >= *digits_min
        })
    })
}

fn has_card(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut before_is_word = false;
    while let Some((byte, tail)) = rest.split_first() {
        if byte.is_ascii_digit() && !before_is_word {
            let run = card_run(rest);
            if run.is_some_and(|(digits, length)| is_card(digits.get(..length).unwrap_or_default())) {
                return true;
            }
        }
        before_is_word = byte.is_ascii_alphanumeric() || (*byte == b'-' && before_is_word);
        rest = tail;
    }
    false
}

/// Reads a run of digits that is written like a card number: all together, or in groups of at least four.
fn card_run(bytes: &[u8]) -> Option<([u8; 19], usize)> {
    let mut digits = [0; 19];
    let (mut count, mut group, mut grouped) = (0, 0, false);
    let mut iter = bytes.iter().peekable();
    while let Some(byte) = iter.next() {
        match byte {
            b'0'..=b'9' => {
                *digits.get_mut(count)? = byte - b'0';
                count += 1;
                group += 1;
            }
            b' ' | b'-'
                if (4..=6).contains(&group) && iter.peek().is_some_and(|next| next.is_ascii_digit()) =>
            {
                grouped = true;
                group = 0;
            }
            _ if byte.is_ascii_alphanumeric() || *byte == b'_' => return None,
            _ => break,
        }
    }
    let fits = (13..=19).contains(&count) && (!grouped || (3..=7).contains(&group));
    fits.then_some((digits, count))
}

fn is_card(digits: &[u8]) -> bool {
    let prefix = |length: usize| {
        digits.iter().take(length).fold(0u32, |number, digit| number * 10 + u32::from(*digit))
    };
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    let issuer = match digits.len() {
        13 => prefix(1) == 4,
        14 => matches!(three, 300..=305) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37),
        16 => {
            prefix(1) == 4
                || matches!(two, 51..=55 | 62 | 65)
                || matches!(four, 2221..=2720 | 6011 | 3528..=3589)
                || matches!(three, 644..=649)
        }
        17..=19 => matches!(two, 62 | 65) || four == 6011 || (digits.len() == 19 && prefix(1) == 4),
        _ => false,
    };
    issuer && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(position, digit)| match (position % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit < 5 => digit * 2,
            (_, digit) => digit * 2 - 9,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn has_iban(text: &str) -> bool {
    let word = |candidate: &str| candidate.len() >= 15 && is_iban(candidate.bytes());
    if text.split(|c: char| !c.is_ascii_alphanumeric()).any(word) {
        return true;
    }
    // Written in groups of four, as people do.
    text.len() <= 64 && text.contains(' ') && is_iban(text.bytes().filter(|byte| *byte != b' '))
}

fn is_iban(characters: impl Iterator<Item = u8> + Clone) -> bool {
    let mut all = characters.clone();
    let (Some(first), Some(second)) = (all.next(), all.next()) else { return false };
    let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    let count = characters.clone().count();
    if iban_length(country) != Some(count) {
        return false;
    }
    let rearranged = characters.clone().skip(4).chain(characters.take(4));
    let mut remainder = 0u32;
    for (position, character) in rearranged.enumerate() {
        let digits_only = position >= count - 2;
        remainder = match character {
            b'0'..=b'9' => remainder * 10 + u32::from(character - b'0'),
            b'A'..=b'Z' if !digits_only => remainder * 100 + u32::from(character - b'A') + 10,
            b'a'..=b'z' if !digits_only => remainder * 100 + u32::from(character - b'a') + 10,
            _ => return false,
        } % 97;
    }
    remainder == 1
}

/// Returns the length of a country's IBAN (ISO 13616 registry).
fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"MN" | b"XK" => 20,
        b"CH" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"CR" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"NI" | b"PL" | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}
