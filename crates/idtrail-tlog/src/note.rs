//! Signed notes and their keys (C2SP signed-note 1.0).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature as Ed25519Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Signature type of a note: Ed25519 over the text.
pub const ED25519: u8 = 0x01;
/// Signature type of a cosignature: Ed25519 over time and checkpoint (C2SP tlog-cosignature).
pub const COSIGNATURE_ED25519: u8 = 0x04;

const SIGNATURES_MAX: usize = 100;
const NOTE_BYTES_MAX: usize = 1_000_000;

/// Why a note or key was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The bytes are not a signed note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// The text is not a verifier or signer key.
    #[error("not a key: {0}")]
    MalformedKey(&'static str),
    /// The key is of a type that this program cannot check.
    #[error("the key's type is not supported. key={name}, type={kind}")]
    UnsupportedKey {
        /// Its name.
        name: String,
        /// Its signature type.
        kind: u8,
    },
    /// A signature by a known key is wrong.
    #[error("the signature of a known key is wrong. key={name}")]
    BadSignature {
        /// The key's name.
        name: String,
    },
    /// None of the signatures is by a known key.
    #[error("the note bears no signature by a known key")]
    Unsigned,
}

/// Signs notes.
pub trait Signer: Send + Sync {
    /// Returns the key's name.
    fn name(&self) -> &str;

    /// Returns the key's id.
    fn key_id(&self) -> [u8; 4];

    /// Returns the Ed25519 signature of a note's text.
    fn sign(&self, text: &[u8]) -> [u8; 64];
}

/// An Ed25519 key that signs notes. The secret is wiped from memory when dropped.
pub struct SignerKey {
    name: String,
    id: [u8; 4],
    key: SigningKey,
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignerKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SignerKey {
    /// Returns the key of a 32-byte seed (RFC 8032).
    ///
    /// # Errors
    /// `MalformedKey` if the name is not allowed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        let key = SigningKey::from_bytes(seed);
        let id = key_id(name, ED25519, key.verifying_key().as_bytes());
        Ok(Self { name: name.to_owned(), id, key })
    }

    /// Reads the form `PRIVATE+KEY+name+id+base64` of the Go tools.
    ///
    /// # Errors
    /// `MalformedKey` if it is not one.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let rest =
            text.strip_prefix("PRIVATE+KEY+").ok_or(NoteError::MalformedKey("it has another prefix"))?;
        let (name, id, data) = split_key(rest)?;
        let Some((&ED25519, seed)) = data.split_first() else {
            return Err(NoteError::MalformedKey("it is no Ed25519 key"));
        };
        let seed = seed.try_into().map_err(|_| NoteError::MalformedKey("its seed has another length"))?;
        let key = Self::from_seed(name, seed)?;
        if key.id != id {
            return Err(NoteError::MalformedKey("its id does not fit"));
        }
        Ok(key)
    }

    /// Returns the key that verifies what this one signs.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey {
            name: self.name.clone(),
            id: self.id,
            kind: ED25519,
            public: self.key.verifying_key().as_bytes().to_vec(),
        }
    }
}

impl Signer for SignerKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> [u8; 4] {
        self.id
    }

    fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.key.sign(text).to_bytes()
    }
}

/// A public key with its name, as written in a `vkey` line.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    kind: u8,
    public: Vec<u8>,
}

impl VerifierKey {
    /// Returns an Ed25519 key for notes.
    ///
    /// # Errors
    /// `MalformedKey` if the name is not allowed.
    pub fn ed25519(name: &str, public: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        let id = key_id(name, ED25519, public);
        Ok(Self { name: name.to_owned(), id, kind: ED25519, public: public.to_vec() })
    }

    /// Reads a `vkey`: `name+id+base64(type ‖ key)`. Keys of unknown types are read but cannot verify.
    ///
    /// # Errors
    /// `MalformedKey` if it is not one.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, data) = split_key(text)?;
        check_name(name)?;
        let (&kind, public) = data.split_first().ok_or(NoteError::MalformedKey("it is empty"))?;
        if matches!(kind, ED25519 | COSIGNATURE_ED25519) {
            if public.len() != 32 {
                return Err(NoteError::MalformedKey("its length is not that of an Ed25519 key"));
            }
            if key_id(name, kind, public) != id {
                return Err(NoteError::MalformedKey("its id does not fit"));
            }
        }
        Ok(Self { name: name.to_owned(), id, kind, public: public.to_vec() })
    }

    /// Returns the key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the key's id.
    pub fn key_id(&self) -> [u8; 4] {
        self.id
    }

    /// Returns the signature type.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// Returns the same public key under another name, for signatures in another role.
    ///
    /// # Errors
    /// `UnsupportedKey` unless it is an Ed25519 key for notes; `MalformedKey` if the name is not allowed.
    pub fn renamed(&self, name: &str) -> Result<Self, NoteError> {
        let public = self.ed25519_bytes(ED25519)?;
        Self::ed25519(name, public)
    }

    fn ed25519_bytes(&self, kind: u8) -> Result<&[u8; 32], NoteError> {
        let unsupported = || NoteError::UnsupportedKey { name: self.name.clone(), kind: self.kind };
        if self.kind != kind {
            return Err(unsupported());
        }
        self.public.as_slice().try_into().map_err(|_| unsupported())
    }

    /// Checks an Ed25519 signature over `message` by a key of the signature type `kind`.
    ///
    /// # Errors
    /// `UnsupportedKey` if the key is of another type; `BadSignature` if the signature is wrong.
    pub(crate) fn verify(&self, kind: u8, message: &[u8], signature: &[u8]) -> Result<(), NoteError> {
        let bad = || NoteError::BadSignature { name: self.name.clone() };
        let key = VerifyingKey::from_bytes(self.ed25519_bytes(kind)?).map_err(|_| bad())?;
        let signature = Ed25519Signature::from_slice(signature).map_err(|_| bad())?;
        // Strict: small-order keys and malleable encodings are refused, so that all verifiers agree.
        key.verify_strict(message, &signature).map_err(|_| bad())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut data = Vec::with_capacity(1 + self.public.len());
        data.push(self.kind);
        data.extend_from_slice(&self.public);
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id), STANDARD.encode(data))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({}+{:08x})", self.name, u32::from_be_bytes(self.id))
    }
}

/// Returns the first four bytes of `SHA-256(name ‖ 0x0A ‖ type ‖ key)`.
fn key_id(name: &str, kind: u8, public: &[u8]) -> [u8; 4] {
    let digest = Sha256::new_with_prefix(name).chain_update([b'\n', kind]).chain_update(public).finalize();
    digest.first_chunk().copied().unwrap_or_default()
}

fn check_name(name: &str) -> Result<(), NoteError> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+') {
        return Err(NoteError::MalformedKey(
            "its name is empty or holds a space, a control character or a plus sign",
        ));
    }
    Ok(())
}

fn split_key(text: &str) -> Result<(&str, [u8; 4], Vec<u8>), NoteError> {
    let malformed = NoteError::MalformedKey("it does not have the form name+id+base64");
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(data)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed);
    };
    if id.len() != 8 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(malformed);
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| malformed.clone())?.to_be_bytes();
    let data = STANDARD.decode(data).map_err(|_| malformed)?;
    Ok((name, id, data))
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// What follows the id: for Ed25519 notes the 64-byte signature.
    pub bytes: Vec<u8>,
}

/// A signed note, taken apart but not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The text, which ends in a line feed.
    pub text: String,
    /// The signature lines, in order.
    pub signatures: Vec<Signature>,
}

impl Note {
    /// Takes a note apart.
    ///
    /// # Errors
    /// `Malformed` if it is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is longer than 1,000,000 bytes"));
        }
        let note = core::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Malformed("it holds a control character"));
        }
        let at =
            note.rfind("\n\n").ok_or(NoteError::Malformed("it has no empty line before the signatures"))?;
        let (text, lines) = note.split_at(at + 1);
        let lines = lines.strip_prefix('\n').unwrap_or_default();
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed("it does not end in a line feed"))?;
        let signatures: Vec<Signature> = lines.split('\n').map(parse_signature).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Malformed("it has more than 100 signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Returns the names of the keys that signed the text. Unknown keys are passed over; a wrong signature by a known
    /// one refuses the whole note.
    ///
    /// # Errors
    /// `BadSignature`, or `Unsigned` if none of `keys` signed.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<&'k str>, NoteError> {
        let mut signers = Vec::new();
        for key in keys {
            for signature in self.signatures.iter().filter(|line| line.name == key.name && line.id == key.id)
            {
                key.verify(ED25519, self.text.as_bytes(), &signature.bytes)?;
                signers.push(key.name());
            }
        }
        if signers.is_empty() { Err(NoteError::Unsigned) } else { Ok(signers) }
    }
}

fn parse_signature(line: &str) -> Result<Signature, NoteError> {
    let malformed = NoteError::Malformed("a signature line does not have the form — name base64");
    let rest = line.strip_prefix("\u{2014} ").ok_or(malformed.clone())?;
    let (name, data) = rest.split_once(' ').ok_or(malformed.clone())?;
    check_name(name).map_err(|_| malformed.clone())?;
    let data = STANDARD.decode(data).map_err(|_| malformed.clone())?;
    let (id, bytes) = data.split_first_chunk::<4>().ok_or(malformed.clone())?;
    if bytes.is_empty() {
        return Err(malformed);
    }
    Ok(Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}

/// Signs a text, which ends in a line feed, with each of `signers`.
///
/// # Errors
/// `Malformed` if the text cannot be the text of a note.
pub fn sign(text: &str, signers: &[&dyn Signer]) -> Result<String, NoteError> {
    if !text.ends_with('\n') || text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Malformed(
            "its text does not end in a line feed or holds a control character",
        ));
    }
    let mut note = String::with_capacity(text.len() + 1 + signers.len() * 192);
    note.push_str(text);
    note.push('\n');
    for signer in signers {
        let mut data = [0; 68];
        let (id, signature) = data.split_at_mut(4);
        id.copy_from_slice(&signer.key_id());
        signature.copy_from_slice(&signer.sign(text.as_bytes()));
        note.push_str(&format!("\u{2014} {} ", signer.name()));
        STANDARD.encode_string(data, &mut note);
        note.push('\n');
    }
    Ok(note)
}
