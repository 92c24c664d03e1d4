//! Mail addresses: local part in lower case, domain as A-labels.

use idtrail_event::IdentifierType;
use unicode_normalization::UnicodeNormalization;

use super::{Normal, Refusal, Secret};

/// Mailboxes of functions (RFC 2142, and what companies use).
const ROLES: &[&str] = &[
    "abuse",
    "admin",
    "administrator",
    "billing",
    "contact",
    "customerservice",
    "do-not-reply",
    "donotreply",
    "hello",
    "help",
    "helpdesk",
    "hostmaster",
    "info",
    "kontakt",
    "mail",
    "mailer-daemon",
    "marketing",
    "no-reply",
    "no_reply",
    "noreply",
    "office",
    "postmaster",
    "root",
    "sales",
    "security",
    "service",
    "support",
    "team",
    "webmaster",
];

/// Providers that ignore dots and everything behind a plus.
const FOLDING: &[&str] = &["gmail.com", "googlemail.com"];

pub(super) fn normalise(value: &str) -> Result<Normal, Refusal> {
    let trimmed = value.trim();
    if trimmed.is_empty() {
        return Err(Refusal::Withheld);
    }
    if trimmed.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Refusal::Malformed("space or control character"));
    }
    let (local, domain) = trimmed.split_once('@').ok_or(Refusal::Malformed("at sign"))?;
    if domain.contains('@') {
        return Err(Refusal::Malformed("at sign"));
    }
    if local.is_empty() || local.len() > 64 {
        return Err(Refusal::Malformed("local part"));
    }
    let local: Secret = Secret::new(local.nfc().collect::<String>().to_lowercase().nfc().collect());
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let domain = idna::domain_to_ascii(domain).map_err(|_| Refusal::Malformed("domain"))?;
    let labels_fit = domain.split('.').all(|label| (1..=63).contains(&label.len()));
    let plain = domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if !domain.contains('.') || domain.len() > 253 || !labels_fit || !plain {
        return Err(Refusal::Malformed("domain"));
    }
    let whole = Secret::new(format!("{}@{domain}", *local));
    if whole.len() > 254 {
        return Err(Refusal::Malformed("length"));
    }
    let person = local.split_once('+').map_or(local.as_str(), |(person, _)| person);
    if ROLES.contains(&person) {
        return Err(Refusal::RoleMailbox);
    }
    let folded = FOLDING.contains(&domain.as_str()).then(|| {
        // A plus tag is a mailbox of its own anywhere else.
        Secret::new(format!("{}@gmail.com", person.replace('.', "")))
    });
    Ok(Normal { folded, ..Normal::new(IdentifierType::EMAIL, whole) })
}
