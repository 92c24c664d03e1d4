//! Tokens that we sign ourselves (RS256), with which Google and Snowflake take a service's key instead of a password.
//!
//! The private key stays in here: it is read from PEM, never shown, and the public half gives the fingerprint that
//! Snowflake asks for.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An RSA key that signs.
pub(crate) struct SigningKey(RsaKeyPair);

/// A private key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a private key must be RSA with 2048 bits or more, in PEM, not encrypted")]
pub struct KeyError;

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// Reads a key in PEM, PKCS #8 or PKCS #1.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pair = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError)? {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(KeyError),
        };
        pair.map(Self).map_err(|_| KeyError)
    }

    /// Signs claims; `key_id` goes into the header if there is one.
    pub(crate) fn sign(&self, claims: &Value, key_id: Option<&str>) -> Result<String, KeyError> {
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let (Some(id), Some(header)) = (key_id, header.as_object_mut()) {
            header.insert("kid".to_owned(), id.into());
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let content = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), content.as_bytes(), &mut signature)
            .map_err(|_| KeyError)?;
        Ok(format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Returns the fingerprint of the public half, as Snowflake writes it: `SHA256:` and base64.
    pub(crate) fn fingerprint(&self) -> Result<String, KeyError> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().map_err(|_| KeyError)?;
        Ok(format!("SHA256:{}", STANDARD.encode(Sha256::digest(der.as_ref()))))
    }
}
