//! Under what names a person is closed: the vault's suppression part keeps them, keyed once more, with an end.
//!
//! From the freeze of an erasure on, an event that happened before the cut-off and names somebody closed is not taken. What
//! is kept is one name for each id and each identifier of the person that is nobody else's; nothing leads from one to
//! another, or back to the person.

use idtrail_event::{GlobalCustomerId, IdentifierToken, IdentifierType};
use sha2::{Digest as _, Sha256};

/// Returns the name of a customer.
pub fn customer(gcid: &GlobalCustomerId) -> [u8; 32] {
    name(b"customer", &[gcid.as_bytes()])
}

/// Returns the name of an identifier.
pub fn identifier(kind: IdentifierType, token: &IdentifierToken) -> [u8; 32] {
    name(b"identifier", &[&kind.number().to_be_bytes(), token.as_bytes()])
}

fn name(what: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"idtrail/closed/v1\0");
    for part in std::iter::once(what).chain(parts.iter().copied()) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
