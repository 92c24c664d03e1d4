//! Signed notes (C2SP signed-note 1.0): a text and the signature lines below it.
//!
//! In go bytes and keys, out come texts that somebody known has signed. The text of a note means nothing
//! before [`Note::open`] has accepted it. Lines by unknown keys are passed over, since anybody may add one
//! (witnesses, newer keys); a line by a known key that does not verify refuses the whole note. Sizes are
//! limited, because notes come from strangers: 1,000,000 bytes and 100 signatures.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cosignature::verify_cosignature;
use crate::error::ErrorKind;
pub use crate::key::Signer;
use crate::key::{COSIGNATURE_ED25519, ED25519, VerifierKey, check_name};

/// Signature lines that a note may have.
pub const SIGNATURES_MAX: usize = 100;
/// Bytes that a note may have.
pub const NOTE_BYTES_MAX: usize = 1_000_000;

/// Why a note was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The bytes are not a signed note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// A signature by a known key is wrong.
    #[error("the signature of a known key is wrong. key={key}")]
    BadSignature {
        /// The key's name.
        key: String,
    },
    /// Known keys have signed, but none of a type that this program can check.
    #[error("the key's type is not supported. key={key}, type={signature_type}")]
    UnsupportedKey {
        /// The key's name.
        key: String,
        /// Its signature type.
        signature_type: u8,
    },
    /// None of the signatures is by a known key.
    #[error("the note bears no signature by a known key")]
    Unsigned,
}

impl NoteError {
    /// Returns what the caller must do: `Invalid` form, `Damaged` bytes, or `NotFound` key.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed(_) => ErrorKind::Invalid,
            Self::BadSignature { .. } => ErrorKind::Damaged,
            Self::UnsupportedKey { .. } | Self::Unsigned => ErrorKind::NotFound,
        }
    }
}

/// One signature line, taken apart but not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// What follows the id: for Ed25519 notes 64 bytes, for Ed25519 cosignatures 72.
    pub bytes: Vec<u8>,
}

impl Signature {
    /// Tells whether the line claims to be by `key`.
    pub fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name() && self.id == key.key_id()
    }
}

/// A signature line that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidSignature<'k> {
    /// The key that signed.
    pub key: &'k VerifierKey,
    /// For a cosignature, when the witness made it: its own claim, in seconds since 1970.
    pub time_s: Option<u64>,
}

/// A signed note, taken apart but not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The text, which ends in a line feed.
    pub text: String,
    /// The signature lines, in order: 1 to 100.
    pub signatures: Vec<Signature>,
}

impl Note {
    /// Takes a note apart at its last empty line.
    ///
    /// # Errors
    /// `Malformed` if it is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is longer than 1,000,000 bytes"));
        }
        let note = core::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
        if holds_control(note) {
            return Err(NoteError::Malformed("it holds a control character"));
        }
        let at =
            note.rfind("\n\n").ok_or(NoteError::Malformed("it has no empty line before the signatures"))?;
        let (text, lines) = note.split_at(at + 1);
        let lines = lines.strip_prefix('\n').unwrap_or_default();
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed("it does not end in a line feed"))?;
        // Counted first, so that a note of a million line feeds costs no memory.
        if lines.split('\n').take(SIGNATURES_MAX + 1).count() > SIGNATURES_MAX {
            return Err(NoteError::Malformed("it has more than 100 signatures"));
        }
        let signatures = lines.split('\n').map(parse_signature).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Returns every signature by one of `keys`, in the order of the lines, after checking them all.
    ///
    /// # Errors
    /// `BadSignature` if any signature by one of `keys` is wrong; `UnsupportedKey` or `Unsigned` if there is
    /// none that can be checked.
    pub fn open<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<ValidSignature<'k>>, NoteError> {
        let mut valid = Vec::new();
        let mut missing = NoteError::Unsigned;
        let keys: Vec<&VerifierKey> = keys.into_iter().collect();
        for line in &self.signatures {
            let Some(key) = keys.iter().find(|key| line.is_by(key)) else { continue };
            match verify_line(key, &self.text, line) {
                Ok(time_s) => valid.push(ValidSignature { key, time_s }),
                Err(error @ NoteError::UnsupportedKey { .. }) => missing = error,
                Err(error) => return Err(error),
            }
        }
        if valid.is_empty() { Err(missing) } else { Ok(valid) }
    }
}

/// Signs a text, which ends in a line feed, with each of `signers`, and returns the note.
///
/// # Errors
/// `Malformed` if the text cannot be the text of a note, or a signer's name cannot stand in one.
pub fn sign(text: &str, signers: &[&dyn Signer]) -> Result<String, NoteError> {
    if !text.ends_with('\n') || holds_control(text) {
        return Err(NoteError::Malformed(
            "its text does not end in a line feed or holds a control character",
        ));
    }
    let names: usize = signers.iter().map(|signer| signer.name().len()).sum();
    let mut note = String::with_capacity(text.len() + 1 + names + signers.len() * LINE_BYTES);
    note.push_str(text);
    note.push('\n');
    for signer in signers {
        check_name(signer.name()).map_err(|_| NoteError::Malformed("the name of a signer is not allowed"))?;
        let mut data = [0; 68];
        let (id, signature) = data.split_at_mut(4);
        id.copy_from_slice(&signer.key_id());
        signature.copy_from_slice(&signer.sign(text.as_bytes()));
        push_line(&mut note, signer.name(), &data);
    }
    Ok(note)
}

/// Bytes of a signature line around its name: dash, spaces, base64 of 68 bytes, line feed.
const LINE_BYTES: usize = 3 + 1 + 1 + 92 + 1;

/// Appends a signature line; `data` begins with the key's id.
pub(crate) fn push_line(note: &mut String, name: &str, data: &[u8]) {
    note.push_str("\u{2014} ");
    note.push_str(name);
    note.push(' ');
    STANDARD.encode_string(data, note);
    note.push('\n');
}

fn verify_line(key: &VerifierKey, text: &str, line: &Signature) -> Result<Option<u64>, NoteError> {
    match key.signature_type() {
        ED25519 if key.verify(text.as_bytes(), &line.bytes) => Ok(None),
        ED25519 => Err(NoteError::BadSignature { key: key.name().to_owned() }),
        COSIGNATURE_ED25519 => verify_cosignature(key, text, line).map(Some),
        signature_type => Err(NoteError::UnsupportedKey { key: key.name().to_owned(), signature_type }),
    }
}

fn holds_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < 0x20 && byte != b'\n')
}

fn parse_signature(line: &str) -> Result<Signature, NoteError> {
    const FORM: NoteError = NoteError::Malformed("a signature line does not have the form — name base64");
    let rest = line.strip_prefix("\u{2014} ").ok_or(FORM)?;
    let (name, data) = rest.split_once(' ').ok_or(FORM)?;
    check_name(name).map_err(|_| FORM)?;
    let data = STANDARD.decode(data).map_err(|_| FORM)?;
    let (id, bytes) = data.split_first_chunk::<4>().ok_or(FORM)?;
    if bytes.is_empty() {
        return Err(FORM);
    }
    Ok(Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}
