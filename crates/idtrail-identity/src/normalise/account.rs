//! Account numbers: the issuer's prefix, upper case, without separators, with all zeros.

use idtrail_event::IdentifierType;
use unicode_normalization::UnicodeNormalization;

use super::{Normal, NormaliserConfig, Refusal, Secret};

/// What stands in account fields when there is no account.
const PLACEHOLDERS: &[&str] = &["NA", "NULL", "NONE", "NIL", "TEST", "UNKNOWN", "UNDEFINED", "XXX", "TBD"];

pub(super) fn normalise(
    value: &str,
    namespace: Option<&str>,
    config: &NormaliserConfig,
) -> Result<Normal, Refusal> {
    let trimmed = value.trim();
    let (issuer, number) = match (trimmed.split_once(':'), namespace) {
        (Some((issuer, number)), None) => (issuer, number),
        (Some((issuer, number)), Some(namespace)) if issuer == namespace => (namespace, number),
        (Some(_), Some(_)) => return Err(Refusal::Malformed("colon")),
        (None, Some(namespace)) => (namespace, trimmed),
        (None, None) => return Err(Refusal::Namespace),
    };
    if !config.issuers.iter().any(|known| known == issuer) {
        return Err(Refusal::Namespace);
    }
    let compatible: Secret = Secret::new(number.nfkc().collect());
    let upper = Secret::new(compatible.to_uppercase());
    // Numbers are text: reading them as such would lose leading zeros.
    let kept: Secret = Secret::new(
        upper
            .chars()
            .filter(|c| !c.is_whitespace() && !['-', '.', '/', '\u{2010}', '\u{2011}'].contains(c))
            .collect(),
    );
    if kept.is_empty() {
        return Err(Refusal::Withheld);
    }
    if kept.chars().count() > 64 || !kept.chars().all(char::is_alphanumeric) {
        return Err(Refusal::Malformed("account number"));
    }
    let zeros = kept.bytes().all(|byte| byte == b'0');
    if zeros || PLACEHOLDERS.contains(&kept.as_str()) {
        return Err(Refusal::Withheld);
    }
    Ok(Normal::new(IdentifierType::ACCOUNT, Secret::new(format!("{issuer}:{}", *kept))))
}
