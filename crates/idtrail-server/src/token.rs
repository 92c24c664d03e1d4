//! The built-in token issuer: short-lived access tokens for persons, signed with Ed25519 (RFC 7519, RFC 8037).
//!
//! In: a person and the time. Out: a JWT of type `at+jwt` (RFC 9068), and back again: a token to its claims, or one
//! closed reason why not. Verification accepts exactly what this issuer writes: algorithm `EdDSA`, this key's id, no
//! header member that could name another key, this issuer, this audience, and a time within the token's life.
//!
//! The signature check and base64 are the library's; time is taken from the clock port, so the library's own check of
//! it is off. The key's seed comes from the vault and never leaves this module.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use idtrail_port::{Clock, Entropy, random};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::credentials::{PersonRecord, RoleSet};

/// Seconds by which another machine's clock may differ.
pub const LEEWAY_S: i64 = 30;
/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 4096;
const TOKEN_TYPE: &str = "at+jwt";
/// What stands before the seed in an Ed25519 private key of the form PKCS#8 (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What a token says. All times are in seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For which installation it is.
    pub aud: String,
    /// The person's id.
    pub sub: String,
    /// The client to which it was issued: the person's id again, because a person is its own client.
    pub client_id: String,
    /// The person's name.
    pub name: String,
    /// What the person may do.
    pub roles: RoleSet,
    /// When it was issued.
    pub iat: i64,
    /// From when on it counts.
    pub nbf: i64,
    /// Until when it counts.
    pub exp: i64,
    /// A random id.
    pub jti: String,
}

/// Why a token is refused. For the log only: the client is told no more than "refused".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a token, or lacks a claim.
    #[error("token is malformed")]
    Malformed,
    /// The algorithm is another one than EdDSA.
    #[error("token has the wrong algorithm")]
    WrongAlgorithm,
    /// The header has members that this issuer does not write, or another type.
    #[error("token has an unexpected header")]
    UnexpectedHeader,
    /// It names another key.
    #[error("token names another key")]
    WrongKey,
    /// The signature does not match.
    #[error("token is forged")]
    Forged,
    /// Another issuer.
    #[error("token has the wrong issuer")]
    WrongIssuer,
    /// For another installation.
    #[error("token has the wrong audience")]
    WrongAudience,
    /// Its time is over.
    #[error("token is expired")]
    Expired,
    /// Its time has not come.
    #[error("token is not valid yet")]
    NotYetValid,
}

impl TokenError {
    /// Returns a word for logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::UnexpectedHeader => "unexpected_header",
            Self::WrongKey => "wrong_key",
            Self::Forged => "forged",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}

/// The seed does not give a key, or signing failed: a bug or a damaged vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("issuer key cannot be used")]
pub struct KeyError;

/// A new token.
pub struct Issued {
    /// The token.
    pub token: Zeroizing<String>,
    /// Seconds for which it is valid.
    pub expires_in_s: u32,
}

/// Issues and verifies tokens.
pub struct TokenIssuer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    key_id: String,
    public_key: [u8; 32],
    issuer: String,
    audience: String,
    ttl_s: u32,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// The names and times of an issuer.
#[derive(Clone, Debug)]
pub struct IssuerNames {
    /// The `iss` claim: the log's origin.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// Seconds for which a token is valid.
    pub ttl_s: u32,
}

/// The members that this issuer writes and no others: `jku`, `jwk`, `x5u` and `crit` could each bend the check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    typ: String,
    kid: String,
}

#[derive(Deserialize)]
struct AlgorithmOnly {
    alg: Option<String>,
}

impl TokenIssuer {
    /// Makes an issuer from a 32-byte seed.
    ///
    /// # Errors
    /// If the cryptographic library does not take the key.
    pub fn new(
        seed: &[u8; 32],
        names: IssuerNames,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KeyError> {
        let mut der = Zeroizing::new([0; 48]);
        let (prefix, rest) = der.split_at_mut(PKCS8_PREFIX.len());
        prefix.copy_from_slice(&PKCS8_PREFIX);
        rest.copy_from_slice(seed);
        let encoding = EncodingKey::from_ed_der(&*der);
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA).map_err(|_| KeyError)?;
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| KeyError)?;
        let AlgorithmParameters::OctetKeyPair(pair) = &jwk.algorithm else { return Err(KeyError) };
        let public_key = BASE64URL_NOPAD.decode(pair.x.as_bytes()).map_err(|_| KeyError)?;
        let public_key: [u8; 32] = public_key.try_into().map_err(|_| KeyError)?;
        Ok(Self {
            decoding: DecodingKey::from_ed_der(&public_key),
            encoding,
            key_id,
            public_key,
            issuer: names.issuer,
            audience: names.audience,
            ttl_s: names.ttl_s,
            clock,
            entropy,
        })
    }

    /// Returns the key's id: its thumbprint (RFC 7638), 43 characters of base64url.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns the public key.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// Issues a token to a person for `roles`, which the caller has checked to be the person's.
    ///
    /// # Errors
    /// If signing fails.
    pub fn issue(&self, person: &PersonRecord, roles: RoleSet) -> Result<Issued, KeyError> {
        let now = self.now_s();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: person.id.clone(),
            client_id: person.id.clone(),
            name: person.name.clone(),
            roles,
            iat: now,
            nbf: now,
            exp: now.saturating_add(i64::from(self.ttl_s)),
            jti: HEXLOWER.encode(&random::<16>(&*self.entropy)),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(self.key_id.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.encoding).map_err(|_| KeyError)?;
        Ok(Issued { token: Zeroizing::new(token), expires_in_s: self.ttl_s })
    }

    /// Returns the claims of a valid token.
    ///
    /// # Errors
    /// Why it is refused, for the log.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.check_header(token)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        // Everything about the claims is checked below, with our clock and one error each.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidSignature => TokenError::Forged,
                ErrorKind::InvalidAlgorithm => TokenError::WrongAlgorithm,
                _ => TokenError::Malformed,
            })?
            .claims;
        if claims.iss != self.issuer {
            return Err(TokenError::WrongIssuer);
        }
        if claims.aud != self.audience {
            return Err(TokenError::WrongAudience);
        }
        let now = self.now_s();
        if now >= claims.exp.saturating_add(LEEWAY_S) {
            return Err(TokenError::Expired);
        }
        if now < claims.nbf.saturating_sub(LEEWAY_S) {
            return Err(TokenError::NotYetValid);
        }
        Ok(claims)
    }

    fn check_header(&self, token: &str) -> Result<(), TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let header = BASE64URL_NOPAD.decode(header.as_bytes()).map_err(|_| TokenError::Malformed)?;
        let only: AlgorithmOnly = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
        if only.alg.as_deref() != Some("EdDSA") {
            return Err(TokenError::WrongAlgorithm);
        }
        let header: StrictHeader =
            serde_json::from_slice(&header).map_err(|_| TokenError::UnexpectedHeader)?;
        if header.alg != "EdDSA" {
            return Err(TokenError::WrongAlgorithm);
        }
        if header.typ != TOKEN_TYPE {
            return Err(TokenError::UnexpectedHeader);
        }
        if header.kid != self.key_id {
            return Err(TokenError::WrongKey);
        }
        Ok(())
    }

    fn now_s(&self) -> i64 {
        self.clock.wall_ms().div_euclid(1000)
    }
}

#[cfg(test)]
pub(crate) mod tests;
