//! Finds raw personal data in strings: mail addresses, phone numbers, card numbers, bank accounts.
//!
//! Cheap signs first (an `@`, a `+`, enough digits), so that hashes and ids cost next to nothing. A false alarm refuses
//! a good event, so each kind needs its own proof: a domain, a plus sign, an issuer's prefix with Luhn's check, a
//! country's length with ISO 7064 check digits. Numbers inside longer words (UUIDs, hashes, ids) are never looked at.
//! The answer is a kind, never the text that was found.

mod account;

/// A kind of raw personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Email,
    Phone,
    Card,
    Iban,
}

impl Kind {
    /// Returns what is wrong with a place that holds this.
    pub(crate) fn found(self) -> &'static str {
        match self {
            Kind::Email => "it holds a mail address in clear",
            Kind::Phone => "it holds a phone number in clear",
            Kind::Card => "it holds a card number in clear",
            Kind::Iban => "it holds a bank account number (IBAN) in clear",
        }
    }

    /// Returns what was done to a place that held this.
    pub(crate) fn masked(self) -> &'static str {
        match self {
            Kind::Email => "it held a mail address in clear and was replaced by ***",
            Kind::Phone => "it held a phone number in clear and was replaced by ***",
            Kind::Card => "it held a card number in clear and was replaced by ***",
            Kind::Iban => "it held a bank account number (IBAN) in clear and was replaced by ***",
        }
    }
}

/// The characters without which a string cannot hold anything.
#[derive(Default)]
struct Signs {
    digits: u32,
    at: bool,
    plus: bool,
    colon: bool,
    percent: bool,
}

impl Signs {
    #[inline]
    fn of(bytes: &[u8]) -> Self {
        let mut signs = Self::default();
        for byte in bytes {
            signs.digits += u32::from(byte.is_ascii_digit());
            signs.at |= *byte == b'@';
            signs.plus |= *byte == b'+';
            signs.colon |= *byte == b':';
            signs.percent |= *byte == b'%';
        }
        signs
    }
}

/// Looks for any kind anywhere in free text.
pub(crate) fn find(text: &str) -> Option<Kind> {
    let bytes = text.as_bytes();
    let signs = Signs::of(bytes);
    if (signs.at || signs.percent) && has_email(bytes) {
        return Some(Kind::Email);
    }
    if signs.plus && signs.digits >= 8 && has_plus_phone(bytes) || signs.colon && has_phone_uri(bytes) {
        return Some(Kind::Phone);
    }
    if signs.digits >= 13 && account::has_card(bytes) {
        return Some(Kind::Card);
    }
    if signs.digits >= 8 && account::has_iban(bytes) {
        return Some(Kind::Iban);
    }
    None
}

/// Tells whether a whole id is a mail address or a marked phone number. A bare number, and an address inside a longer
/// id, may be an id.
pub(crate) fn is_contact(id: &str) -> Option<Kind> {
    let bytes = id.trim_ascii().as_bytes();
    if bytes.contains(&b'@') && is_email(bytes.strip_prefix(b"mailto:").unwrap_or(bytes)) {
        return Some(Kind::Email);
    }
    let phone = match bytes {
        [b'+', rest @ ..] => is_phone(rest),
        _ => scheme_before(bytes).is_some(),
    };
    phone.then_some(Kind::Phone)
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&'*+=?^_{|}~.-%".contains(&byte) || byte >= 0x80
}

fn is_in_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || byte >= 0x80
}

/// Returns how long a domain name with a letter-only or IDNA top label stands at the start; 0 if none.
fn domain_bytes(bytes: &[u8]) -> usize {
    let length = bytes.iter().take_while(|byte| is_in_domain(**byte)).count();
    let name = bytes.get(..length).unwrap_or_default();
    let mut labels = name.split(|byte| *byte == b'.').filter(|label| !label.is_empty());
    let top = labels.clone().next_back().unwrap_or_default();
    let letters = top.len() >= 2 && top.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
    let is_name = labels.nth(1).is_some() && (letters || top.starts_with(b"xn--"));
    if is_name { length } else { 0 }
}

fn is_email(bytes: &[u8]) -> bool {
    let Some(at) = bytes.iter().position(|byte| *byte == b'@') else { return false };
    let Some((local, domain)) = bytes.split_at_checked(at) else { return false };
    let domain = domain.get(1..).unwrap_or_default();
    !local.is_empty()
        && local.iter().all(|byte| is_local(*byte))
        && !domain.is_empty()
        && domain_bytes(domain) == domain.len()
}

fn has_email(bytes: &[u8]) -> bool {
    let mut before = None;
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        // An address in a query string has its sign escaped.
        let domain = match rest {
            [b'@', domain @ ..] | [b'%', b'4', b'0', domain @ ..] => domain,
            _ => &[],
        };
        if !domain.is_empty() && before.is_some_and(is_local) && domain_bytes(domain) > 0 {
            return true;
        }
        before = Some(*byte);
        rest = tail;
    }
    false
}

fn has_plus_phone(bytes: &[u8]) -> bool {
    let mut inside_word = false;
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        if *byte == b'+' && !inside_word && starts_with_phone(tail) {
            return true;
        }
        inside_word = byte.is_ascii_alphanumeric();
        rest = tail;
    }
    false
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/')
}

/// Tells whether text starts like the digits of an international number: 8 to 15, not from 0, with usual separators.
fn starts_with_phone(rest: &[u8]) -> bool {
    let mut digits = 0;
    for byte in rest {
        let complete = (8..=15).contains(&digits);
        match byte {
            b'0' if digits == 0 => return false,
            b'0'..=b'9' => digits += 1,
            b'(' if digits == 0 => {}
            // An extension.
            b'x' | b'X' => return complete,
            byte if is_separator(*byte) && digits > 0 => {
                if complete {
                    return true;
                }
            }
            // Letters behind digits: base64, or another word's number.
            byte if byte.is_ascii_alphabetic() => return false,
            _ => return complete,
        }
    }
    (8..=15).contains(&digits)
}

/// Tells whether text behind a plus sign is a phone number and nothing else: 7 to 15 digits (E.164).
fn is_phone(rest: &[u8]) -> bool {
    let digits = rest.iter().filter(|byte| byte.is_ascii_digit()).count();
    (7..=15).contains(&digits) && rest.iter().all(|byte| byte.is_ascii_digit() || is_separator(*byte))
}

/// Returns what follows `tel:`, `sip:` or `sips:` at the start.
fn scheme_before(bytes: &[u8]) -> Option<&[u8]> {
    [b"tel:".as_slice(), b"sip:", b"sips:"].iter().find_map(|scheme| {
        let (start, rest) = bytes.split_at_checked(scheme.len())?;
        let meaningful = rest.first().is_some_and(|byte| byte.is_ascii_graphic());
        (start.eq_ignore_ascii_case(scheme) && meaningful).then_some(rest)
    })
}

fn has_phone_uri(bytes: &[u8]) -> bool {
    let mut inside_word = false;
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        if matches!(byte, b't' | b'T' | b's' | b'S') && !inside_word && scheme_before(rest).is_some() {
            return true;
        }
        inside_word = byte.is_ascii_alphanumeric();
        rest = tail;
    }
    false
}
