//! What may leave about a person, and in which form.
//!
//! Each sink says two things: `pii`, what goes out, and `erase`, how a person is taken out again. A target that cannot
//! erase gets nothing that an erasure would have to reach: the customer and the interaction go out as references under a
//! key of the sink's own, which means nothing to anybody without that key, or as ciphertext. A mapping that asks for
//! more is refused when the configuration is read, never quietly emptied.
//!
//! Raw identifiers do not occur: the log holds none.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::body::Json;
use crate::json_text::{Object, write_text};
use crate::path::{Sensitivity, member_sensitivity, push_hex};

/// What goes out about a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pii {
    /// The customer's and the interaction's id, no hash of an identifier, no unknown member.
    #[default]
    None,
    /// Everything the event holds: keyed hashes of identifiers, the client's own customer id, staff, unknown members.
    Tokens,
    /// As `none`, and the sealed leaf: ciphertext that becomes unreadable when its key is destroyed.
    Sealed,
}

/// How a person is taken out of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Erase {
    /// The person's rows are deleted, by a second principal with a grant of its own.
    Delete,
    /// The personal columns of the person's rows are set to null, by a second principal with a grant of its own.
    Null,
    /// Not at all: ledger tables, locked buckets, receivers that we cannot ask.
    None,
}

/// The two choices of a sink together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privacy {
    pii: Pii,
    erase: Erase,
}

/// Why something may not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Keyed hashes to a target that cannot erase them.
    #[error("pii = \"tokens\" needs erase = \"delete\" or \"null\": this target could never forget a person")]
    TokensNeedErasure,
    /// A personal value without `pii = "tokens"`.
    #[error("this value is personal and needs pii = \"tokens\" with erase = \"delete\" or \"null\"")]
    NeedsTokens,
    /// A personal value to a target that cannot erase.
    #[error("this value is personal and the target cannot erase it (erase = \"none\")")]
    NeedsErasure,
    /// The sealed leaf without `pii = "sealed"`.
    #[error("log.sealed_leaf needs pii = \"sealed\"")]
    NeedsSealed,
}

impl Privacy {
    /// Checks that the two choices go together.
    ///
    /// # Errors
    /// [`Refusal::TokensNeedErasure`].
    pub fn new(pii: Pii, erase: Erase) -> Result<Self, Refusal> {
        if pii == Pii::Tokens && erase == Erase::None {
            return Err(Refusal::TokensNeedErasure);
        }
        Ok(Self { pii, erase })
    }

    /// Returns what goes out.
    pub fn pii(self) -> Pii {
        self.pii
    }

    /// Returns how a person is taken out.
    pub fn erase(self) -> Erase {
        self.erase
    }

    /// Tells whether customers and interactions go out as references of the sink's own.
    pub fn uses_references(self) -> bool {
        self.erase == Erase::None
    }

    /// Checks that a value may go out.
    ///
    /// # Errors
    /// [`Refusal`] says what would have to change.
    pub fn permits(self, sensitivity: Sensitivity) -> Result<(), Refusal> {
        match sensitivity {
            Sensitivity::Plain | Sensitivity::Customer | Sensitivity::Interaction => Ok(()),
            Sensitivity::Sealed if self.pii == Pii::Sealed => Ok(()),
            Sensitivity::Sealed => Err(Refusal::NeedsSealed),
            Sensitivity::Personal if self.erase == Erase::None => Err(Refusal::NeedsErasure),
            Sensitivity::Personal if self.pii != Pii::Tokens => Err(Refusal::NeedsTokens),
            Sensitivity::Personal => Ok(()),
        }
    }

    /// Says in one sentence what the choice means for an erasure.
    pub fn consequence(self) -> &'static str {
        match (self.pii, self.erase) {
            (_, Erase::Delete) => {
                "an erasure deletes the person's rows; what the target keeps of deleted rows is named as residual"
            }
            (_, Erase::Null) => {
                "an erasure nulls the personal columns of the person's rows; older versions are named as residual"
            }
            (Pii::Sealed, Erase::None) => {
                "nothing is deleted here: rows hold references and ciphertext, which key destruction makes unreadable"
            }
            (_, Erase::None) => {
                "nothing is deleted here: rows hold references that mean nothing without the sink's own key"
            }
        }
    }
}

/// Makes the references of one sink. Holds the key as the state that HMAC makes of it, once and not for each row; the library
/// wipes it when it is dropped.
pub struct References(hmac::Key);

impl std::fmt::Debug for References {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("References(…)")
    }
}

impl References {
    /// Takes the sink's own key. It never changes while the sink lives, or one customer would get two references.
    pub fn new(key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &*key))
    }

    /// Returns the reference of a customer: `cr_` and 64 hex digits.
    pub fn customer(&self, id: &str) -> String {
        self.make("cr_", id)
    }

    /// Returns the reference of an interaction: `ir_` and 64 hex digits.
    pub fn interaction(&self, id: &str) -> String {
        self.make("ir_", id)
    }

    fn make(&self, kind: &str, id: &str) -> String {
        let mut mac = hmac::Context::with_key(&self.0);
        // The kind has a fixed length, so no two pairs give the same input.
        mac.update(kind.as_bytes());
        mac.update(id.as_bytes());
        let mut text = String::with_capacity(kind.len() + 64);
        text.push_str(kind);
        let tag = mac.sign();
        push_hex(&mut text, tag.as_ref().try_into().expect("a tag of SHA-256 has 32 bytes"));
        text
    }
}

/// Writes what of an event may go out where `pii` is not `tokens`: known members that the choice permits, the customer and
/// the interaction in the form in which this sink gets them.
pub(crate) fn write_redacted(
    out: &mut String,
    event: Json<'_>,
    privacy: Privacy,
    customer: Option<&str>,
    interaction: Option<&str>,
) {
    let mut kept = Object::begin(out);
    for (name, value) in event.members() {
        match member_sensitivity(None, name) {
            // The client's own id stays with the client.
            Sensitivity::Customer => write_id(&mut kept, name, customer),
            Sensitivity::Interaction if value.is_text() => write_id(&mut kept, name, interaction),
            Sensitivity::Interaction => {}
            found if privacy.permits(found).is_ok() => {
                let out = kept.member(name);
                if value.is_object() {
                    // Within a permitted object, unknown members are still personal.
                    write_known(out, name, value, privacy);
                } else {
                    // A known plain member is a scalar; a list in its place may hold anything.
                    out.push_str(if value.is_list() { "null" } else { value.raw });
                }
            }
            // What is known inside of an object that is not permitted whole, such as the scheme of hashes.
            _ => {
                if value.members().any(|(inner, value)| is_known(name, inner, value, privacy)) {
                    write_known(kept.member(name), name, value, privacy);
                }
            }
        }
    }
    kept.end();
}

fn write_id(kept: &mut Object<'_>, name: &str, id: Option<&str>) {
    if let Some(id) = id {
        write_text(kept.member(name), id);
    }
}

fn write_known(out: &mut String, parent: &str, object: Json<'_>, privacy: Privacy) {
    let mut kept = Object::begin(out);
    for (name, value) in object.members().filter(|(name, value)| is_known(parent, name, *value, privacy)) {
        kept.member(name).push_str(value.raw);
    }
    kept.end();
}

fn is_known(parent: &str, name: &str, value: Json<'_>, privacy: Privacy) -> bool {
    let scalar = !value.is_list() && !value.is_object();
    scalar && privacy.permits(member_sensitivity(Some(parent), name)).is_ok()
}
