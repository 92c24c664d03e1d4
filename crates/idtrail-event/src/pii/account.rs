//! Numbers that prove themselves: payment cards (issuer prefix, length, Luhn) and bank accounts (ISO 13616, ISO 7064).

const CARD_DIGITS_MAX: usize = 19;
const IBAN_MAX: usize = 34;

/// Looks for a card number: all together or in groups, at the start of a word that is no part of a longer id.
pub(super) fn has_card(bytes: &[u8]) -> bool {
    // A word may start behind a letter-only word and a hyphen ("card-4111…"), not behind one with digits, which would be
    // a UUID, a date or a decimal number.
    let (mut in_word, mut word_has_digit, mut linked) = (false, false, false);
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let digit = byte.is_ascii_digit();
                if !in_word {
                    if digit && !linked && starts_with_card(rest) {
                        return true;
                    }
                    word_has_digit = linked;
                }
                in_word = true;
                word_has_digit |= digit;
            }
            b'-' | b'.' | b',' => {
                linked = in_word && word_has_digit;
                in_word = false;
            }
            _ => (in_word, linked) = (false, false),
        }
        rest = tail;
    }
    false
}

fn starts_with_card(bytes: &[u8]) -> bool {
    let mut digits = [0; CARD_DIGITS_MAX];
    let (mut count, mut group) = (0, 0);
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        let next_is_digit = tail.first().is_some_and(u8::is_ascii_digit);
        match byte {
            b'0'..=b'9' => {
                let Some(slot) = digits.get_mut(count) else { return false };
                *slot = byte - b'0';
                count += 1;
                group += 1;
            }
            b' ' | b'-' if next_is_digit => {
                if is_card(digits.get(..count).unwrap_or_default(), group) {
                    return true;
                }
                // Cards are written in groups of four to six.
                if !(4..=6).contains(&group) {
                    return false;
                }
                group = 0;
            }
            b'.' | b',' if next_is_digit => return false,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => return false,
            _ => break,
        }
        rest = tail;
    }
    is_card(digits.get(..count).unwrap_or_default(), group)
}

/// Tells whether digits are a card number; `last_group` is how many of them stand together at the end.
fn is_card(digits: &[u8], last_group: usize) -> bool {
    let grouped_well = last_group == digits.len() || (3..=7).contains(&last_group);
    grouped_well && has_issuer(digits) && luhn(digits)
}

fn has_issuer(digits: &[u8]) -> bool {
    let prefix = |length: usize| {
        digits.iter().take(length).fold(0u32, |number, digit| number * 10 + u32::from(*digit))
    };
    let (one, two, three, four) = (prefix(1), prefix(2), prefix(3), prefix(4));
    match digits.len() {
        13 => one == 4,
        14 => matches!(three, 300..=305) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37),
        16 => {
            let discover = matches!(two, 62 | 65) || four == 6011 || matches!(three, 644..=649);
            one == 4 || matches!(two, 51..=55) || matches!(four, 2221..=2720 | 3528..=3589) || discover
        }
        17 | 18 => matches!(two, 62 | 65),
        19 => one == 4 || matches!(two, 62 | 65) || four == 6011,
        _ => false,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let value = |(position, digit): (usize, &u8)| match (position % 2, u32::from(*digit)) {
        (0, digit) => digit,
        (_, digit) if digit < 5 => digit * 2,
        (_, digit) => digit * 2 - 9,
    };
    digits.iter().rev().enumerate().map(value).sum::<u32>().is_multiple_of(10)
}

/// Looks for an IBAN at the start of a word, all together or in groups.
pub(super) fn has_iban(bytes: &[u8]) -> bool {
    let mut inside_word = false;
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        if !inside_word
            && let [a, b, c, d, ..] = rest
            && a.is_ascii_alphabetic()
            && b.is_ascii_alphabetic()
            && c.is_ascii_digit()
            && d.is_ascii_digit()
            && starts_with_iban(rest, [a.to_ascii_uppercase(), b.to_ascii_uppercase()])
        {
            return true;
        }
        inside_word = byte.is_ascii_alphanumeric() || *byte == b'_';
        rest = tail;
    }
    false
}

fn starts_with_iban(bytes: &[u8], country: [u8; 2]) -> bool {
    let Some(length) = iban_length(country) else { return false };
    let mut characters = [0; IBAN_MAX];
    let (mut upper, mut lower) = (false, false);
    let (mut group, mut grouped) = (0, false);
    let mut rest = bytes;
    for slot in characters.iter_mut().take(length) {
        let (byte, tail) = match rest {
            // People write groups of four, which tells an IBAN from the last groups of a UUID.
            [b' ' | b'-', byte, tail @ ..] if group == 4 => {
                (group, grouped) = (0, true);
                (byte, tail)
            }
            [byte, tail @ ..] => (byte, tail),
            [] => return false,
        };
        group += 1;
        if !byte.is_ascii_alphanumeric() || grouped && group > 4 {
            return false;
        }
        upper |= byte.is_ascii_uppercase();
        lower |= byte.is_ascii_lowercase();
        *slot = byte.to_ascii_uppercase();
        rest = tail;
    }
    // Mixed case is base64 or a random id; nobody writes an IBAN so.
    let ends = !rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    ends && !(upper && lower) && has_check_digits(characters.get(..length).unwrap_or_default())
}

/// ISO 7064 mod 97-10, with the first four characters moved to the end.
fn has_check_digits(iban: &[u8]) -> bool {
    let Some((front, back)) = iban.split_at_checked(4) else { return false };
    let remainder = back.iter().chain(front).fold(0u32, |remainder, character| {
        let value = u32::from(*character);
        if character.is_ascii_digit() {
            (remainder * 10 + value - u32::from(b'0')) % 97
        } else {
            (remainder * 100 + value - u32::from(b'A') + 10) % 97
        }
    });
    remainder == 1
}

/// Returns the length of a country's IBAN (ISO 13616 registry).
fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FK" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
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
