//! Keys of signed notes (C2SP signed-note 1.0): who may sign, and who did.
//!
//! In go seeds and the text forms of keys, out come signatures and verdicts. A key is known by its name *and*
//! its id, the first four bytes of `SHA-256(name ‖ 0x0A ‖ type ‖ public key)`. Two types are understood:
//! Ed25519 over the text of a note, and Ed25519 cosignatures of witnesses; keys of other types are kept and
//! written back, so that a policy with newer keys can still be read, but they never verify anything.
//!
//! Secrets are wiped from memory when dropped and never printed.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature as Ed25519Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::ErrorKind;

/// Signature type: Ed25519 over the text of a note.
pub const ED25519: u8 = 0x01;
/// Signature type: timestamped Ed25519 cosignature of a checkpoint (C2SP tlog-cosignature).
pub const COSIGNATURE_ED25519: u8 = 0x04;

const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// Why a text is no key, or a name not allowed. It never quotes the text, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: {0}")]
pub struct KeyError(&'static str);

impl KeyError {
    /// Returns what the caller must do: `Invalid`.
    pub fn kind(self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Signs the texts of notes with Ed25519.
pub trait Signer: Send + Sync {
    /// Returns the key's name: not empty, no space, no plus sign.
    fn name(&self) -> &str;

    /// Returns the key's id.
    fn key_id(&self) -> [u8; 4];

    /// Returns the Ed25519 signature of a note's text.
    fn sign(&self, text: &[u8]) -> [u8; 64];
}

/// An Ed25519 key that signs notes.
pub struct SignerKey {
    name: String,
    id: [u8; 4],
    key: SigningKey,
}

impl SignerKey {
    /// Returns the key of a 32-byte seed (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// [`KeyError`] if the name is not allowed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let key = SigningKey::from_bytes(seed);
        let id = key_id(name, ED25519, key.verifying_key().as_bytes());
        Ok(Self { name: name.to_owned(), id, key })
    }

    /// Reads the form `PRIVATE+KEY+name+id+base64(0x01 ‖ seed)` of the Go tools.
    ///
    /// # Errors
    /// [`KeyError`] if it is not one.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix(PRIVATE_PREFIX).ok_or(KeyError("it has another prefix"))?;
        let (name, id, data) = split_key(rest)?;
        let seed: &[u8; 32] = match data.split_first() {
            Some((&ED25519, seed)) => seed.try_into().map_err(|_| KeyError("its seed has another length"))?,
            _ => return Err(KeyError("it is no Ed25519 key for notes")),
        };
        let key = Self::from_seed(name, seed)?;
        if key.id != id {
            return Err(KeyError("its id does not fit"));
        }
        Ok(key)
    }

    /// Returns the form `PRIVATE+KEY+name+id+base64(0x01 ‖ seed)` of the Go tools.
    pub fn to_private_text(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.key.to_bytes());
        let mut data = Zeroizing::new([ED25519; 33]);
        for (to, from) in data.iter_mut().skip(1).zip(seed.iter()) {
            *to = *from;
        }
        // Reserved whole, so that no piece of the secret stays behind where the text grew.
        let mut text =
            Zeroizing::new(String::with_capacity(PRIVATE_PREFIX.len() + self.name.len() + 10 + 44));
        text.push_str(PRIVATE_PREFIX);
        push_key(&mut text, &self.name, self.id, &data[..]);
        text
    }

    /// Returns the key that verifies what this one signs.
    pub fn verifier(&self) -> VerifierKey {
        let public = Public::Ed25519(self.key.verifying_key());
        VerifierKey { name: self.name.clone(), id: self.id, signature_type: ED25519, public }
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignerKey").field("name", &self.name).finish_non_exhaustive()
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

/// A public key with its name; `Display` writes its `vkey`: `name+id+base64(type ‖ key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    signature_type: u8,
    public: Public,
}

#[derive(Clone, PartialEq, Eq)]
enum Public {
    Ed25519(VerifyingKey),
    Other(Vec<u8>),
}

impl VerifierKey {
    /// Returns an Ed25519 key for notes.
    ///
    /// # Errors
    /// [`KeyError`] if the name is not allowed or `public` is no usable key.
    pub fn ed25519(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        Self::of_type(name, ED25519, public)
    }

    /// Returns the Ed25519 key of a witness, for cosignatures.
    ///
    /// # Errors
    /// [`KeyError`] if the name is not allowed or `public` is no usable key.
    pub fn cosignature_ed25519(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        Self::of_type(name, COSIGNATURE_ED25519, public)
    }

    fn of_type(name: &str, signature_type: u8, public: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let id = key_id(name, signature_type, public);
        let key = VerifyingKey::from_bytes(public).map_err(|_| KeyError("its bytes are no Ed25519 key"))?;
        if key.is_weak() {
            // Anyone can make signatures that such a key accepts.
            return Err(KeyError("its bytes are a weak Ed25519 key"));
        }
        Ok(Self { name: name.to_owned(), id, signature_type, public: Public::Ed25519(key) })
    }

    /// Reads a `vkey`: `name+id+base64(type ‖ key)`. Keys of other types than Ed25519 are kept but cannot
    /// verify.
    ///
    /// # Errors
    /// [`KeyError`] if it is not one.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, data) = split_key(text)?;
        check_name(name)?;
        let (&signature_type, public) = data.split_first().ok_or(KeyError("it is empty"))?;
        if !matches!(signature_type, ED25519 | COSIGNATURE_ED25519) {
            // Other types may have other rules for their ids, so the id is not compared.
            return Ok(Self {
                name: name.to_owned(),
                id,
                signature_type,
                public: Public::Other(public.to_vec()),
            });
        }
        let public = public.try_into().map_err(|_| KeyError("its length is not that of an Ed25519 key"))?;
        let key = Self::of_type(name, signature_type, public)?;
        if key.id != id {
            return Err(KeyError("its id does not fit"));
        }
        Ok(key)
    }

    /// Returns the key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the key's id.
    pub fn key_id(&self) -> [u8; 4] {
        self.id
    }

    /// Returns the signature type, such as [`ED25519`].
    pub fn signature_type(&self) -> u8 {
        self.signature_type
    }

    /// Returns the public key's bytes, without the type.
    pub fn public_bytes(&self) -> &[u8] {
        match &self.public {
            Public::Ed25519(key) => key.as_bytes(),
            Public::Other(bytes) => bytes,
        }
    }

    /// Tells whether this program can check signatures by the key.
    pub fn is_supported(&self) -> bool {
        matches!(self.public, Public::Ed25519(_))
    }

    /// Checks an Ed25519 signature over `message`; false also for keys of other types.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let (Public::Ed25519(key), Ok(signature)) = (&self.public, Ed25519Signature::from_slice(signature))
        else {
            return false;
        };
        // Strict: small-order points and malleable encodings are refused, so that all verifiers agree.
        key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = self.public_bytes();
        let mut data = Vec::with_capacity(1 + public.len());
        data.push(self.signature_type);
        data.extend_from_slice(public);
        let mut text = String::new();
        push_key(&mut text, &self.name, self.id, &data);
        f.write_str(&text)
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({}+{:08x})", self.name, u32::from_be_bytes(self.id))
    }
}

/// Refuses names that a note could not carry.
pub(crate) fn check_name(name: &str) -> Result<(), KeyError> {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(forbidden) {
        return Err(KeyError("its name is empty or holds a space, a control character or a plus sign"));
    }
    Ok(())
}

/// Returns the first four bytes of `SHA-256(name ‖ 0x0A ‖ type ‖ key)`.
pub(crate) fn key_id(name: &str, signature_type: u8, public: &[u8]) -> [u8; 4] {
    let input = Sha256::new_with_prefix(name).chain_update([b'\n', signature_type]).chain_update(public);
    input.finalize().first_chunk().copied().unwrap_or_default()
}

fn push_key(text: &mut String, name: &str, id: [u8; 4], data: &[u8]) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    text.push_str(name);
    text.push('+');
    let halves = id.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.extend(halves.filter_map(|half| DIGITS.get(usize::from(half))));
    text.push('+');
    STANDARD.encode_string(data, text);
}

/// Name, id, and type with key or seed, which may be secret.
type KeyParts<'t> = (&'t str, [u8; 4], Zeroizing<Vec<u8>>);

fn split_key(text: &str) -> Result<KeyParts<'_>, KeyError> {
    const FORM: KeyError = KeyError("it does not have the form name+id+base64");
    let (name, rest) = text.split_once('+').ok_or(FORM)?;
    let (id, data) = rest.split_once('+').ok_or(FORM)?;
    if id.len() != 8 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(FORM);
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| FORM)?.to_be_bytes();
    let data = STANDARD.decode(data).map_err(|_| FORM)?;
    Ok((name, id, Zeroizing::new(data)))
}
