//! Messages and their signatures (Standard Webhooks). Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::engine::Batch;
use crate::row::Column;
use crate::secret::Secret;

/// Signs messages with one or more secrets.
pub struct Signer(Vec<Zeroizing<Vec<u8>>>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

/// A secret cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret is written whsec_ and base64 of 24 to 64 bytes")]
pub struct SignerError;

impl Signer {
    /// Reads the secrets.
    ///
    /// # Errors
    /// [`SignerError`] if there is none, or if one is not written as it must be.
    pub fn new(secrets: &[Secret]) -> Result<Self, SignerError> {
        let read = |secret: &Secret| {
            let text = secret.expose().strip_prefix("whsec_").ok_or(SignerError)?;
            let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| SignerError)?);
            if (24..=64).contains(&bytes.len()) { Ok(bytes) } else { Err(SignerError) }
        };
        let keys = secrets.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(SignerError) } else { Ok(Self(keys)) }
    }

    /// Returns the value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        let content = format!("{id}.{timestamp_s}.{body}");
        let sign = |key: &Zeroizing<Vec<u8>>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(content.as_bytes());
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

/// Returns the id of a message: the same rows always get the same one.
pub(crate) fn message_id(batch: &Batch) -> String {
    if batch.rows.len() == 1 {
        format!("idt_{}", batch.first().to_token())
    } else {
        format!("idt_{}_{}", batch.first().to_token(), batch.last().to_token())
    }
}

/// Returns a message's body.
pub(crate) fn body(batch: &Batch, columns: &[Column], per_message: usize, timestamp: &str) -> String {
    let mut rows = batch.rows.iter().map(|row| Value::Object(row.to_json(columns)));
    let (kind, data) = if per_message <= 1 {
        ("audit.event", rows.next().unwrap_or(Value::Null))
    } else {
        ("audit.events", json!({"events": rows.collect::<Vec<_>>()}))
    };
    json!({"type": kind, "timestamp": timestamp, "data": data}).to_string()
}
