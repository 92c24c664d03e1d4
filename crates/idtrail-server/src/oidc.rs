//! Tokens of foreign OpenID Connect issuers: a JWT to a person with roles, or one closed reason why not.
//!
//! An issuer is trusted for what its section of the configuration says and no more: its name, the audience that it must
//! have meant, the algorithms, and which values of which claim allow what. A key is chosen by the token's `kid` among
//! the issuer's published keys only; `jku`, `jwk`, `x5u` and the like, with which a token would bring its own key, are
//! never looked at, and a token with `crit` is refused. Signatures with a shared secret cannot be configured.
//!
//! The person's id is made from issuer and subject by hashing, because a subject may be an e-mail address, and ids of
//! persons stand in the log.

use std::sync::Arc;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use idtrail_port::Clock;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::credentials::RoleSet;
use crate::settings::OidcSettings;

mod jwks;
pub use jwks::{Keys, KeysError};

/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longest name of a person that is taken over.
const NAME_CHARS_MAX: usize = 128;

/// Who a token of a foreign issuer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignPerson {
    /// `oidc_` and 26 characters of base32.
    pub id: String,
    /// The claim `name`, or the id.
    pub name: String,
    /// What the issuer's claim allows here.
    pub roles: RoleSet,
}

/// Why a token is refused. For the log only: the client is told no more than "refused".
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// It is not a token, or lacks a claim.
    #[error("token is malformed")]
    Malformed,
    /// Its algorithm is not one that this issuer may use.
    #[error("token has the wrong algorithm")]
    WrongAlgorithm,
    /// Its header asks for something that is not understood, or says that it is no access token.
    #[error("token has an unexpected header")]
    UnexpectedHeader,
    /// The issuer has published no such key.
    #[error("token names an unknown key")]
    UnknownKey,
    /// The signature does not match.
    #[error("token is forged")]
    Forged,
    /// It is for another application.
    #[error("token has the wrong audience")]
    WrongAudience,
    /// Its time is over.
    #[error("token is expired")]
    Expired,
    /// Its time has not come.
    #[error("token is not valid yet")]
    NotYetValid,
    /// The issuer's keys cannot be fetched: nothing can be said about the token.
    #[error("the issuer's keys cannot be fetched")]
    Unavailable,
}

impl OidcError {
    /// Returns a word for logs and metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::UnexpectedHeader => "unexpected_header",
            Self::UnknownKey => "unknown_key",
            Self::Forged => "forged",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Unavailable => "issuer_unavailable",
        }
    }
}

/// One issuer whose tokens count.
pub struct Issuer {
    settings: OidcSettings,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("issuer", &self.settings.issuer).finish_non_exhaustive()
    }
}

/// The members of a header that count. The others are not looked at, apart from `crit`, which forbids exactly that.
#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl Issuer {
    /// Puts an issuer together; its keys are fetched when they are first needed.
    pub fn new(settings: OidcSettings, keys: Keys, clock: Arc<dyn Clock>) -> Self {
        Self { settings, keys: Arc::new(keys), clock }
    }

    /// Returns the issuer's name, as it stands in `iss`.
    pub fn name(&self) -> &str {
        &self.settings.issuer
    }

    /// Returns whom a token is about.
    ///
    /// # Errors
    /// Why it is refused, for the log; `Unavailable` if nothing can be said.
    pub async fn verify(&self, token: &str) -> Result<ForeignPerson, OidcError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(OidcError::Malformed);
        }
        let header: TokenHeader = part(token, 0).ok_or(OidcError::Malformed)?;
        let algorithm = self.algorithm(&header)?;
        let key = self.keys.find(header.kid.as_deref(), algorithm).await?;
        let mut validation = Validation::new(algorithm);
        // Everything about the claims is checked below, with our clock and one error each.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidSignature => OidcError::Forged,
                ErrorKind::InvalidAlgorithm => OidcError::WrongAlgorithm,
                _ => OidcError::Malformed,
            })?
            .claims;
        self.check(&claims)?;
        let subject = claims
            .get("sub")
            .and_then(Value::as_str)
            .filter(|s| !s.is_empty())
            .ok_or(OidcError::Malformed)?;
        let id = person_id(&self.settings.issuer, subject);
        let name = claims.get("name").and_then(Value::as_str);
        let name = name.map(|name| name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect());
        Ok(ForeignPerson { name: name.unwrap_or_else(|| id.clone()), id, roles: self.roles(&claims) })
    }

    fn algorithm(&self, header: &TokenHeader) -> Result<Algorithm, OidcError> {
        let algorithm: Algorithm = header.alg.parse().map_err(|_| OidcError::WrongAlgorithm)?;
        if !self.settings.algorithms.contains(&algorithm) {
            return Err(OidcError::WrongAlgorithm);
        }
        // An issuer signs other things too (logout tokens, answers); they say so in `typ`.
        let typ = header.typ.as_deref().unwrap_or("JWT");
        let token = ["JWT", "at+jwt", "application/at+jwt"].iter().any(|one| typ.eq_ignore_ascii_case(one));
        if header.crit.is_some() || !token {
            return Err(OidcError::UnexpectedHeader);
        }
        Ok(algorithm)
    }

    fn check(&self, claims: &Map<String, Value>) -> Result<(), OidcError> {
        let issuer = claims.get("iss").and_then(Value::as_str);
        if issuer != Some(self.settings.issuer.as_str()) {
            return Err(OidcError::Malformed);
        }
        let audience = |value: &Value| value.as_str() == Some(self.settings.audience.as_str());
        let meant = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(audience),
            Some(one) => audience(one),
            None => false,
        };
        if !meant {
            return Err(OidcError::WrongAudience);
        }
        // Times may have a fraction (RFC 7519 §2).
        let time = |name: &str| claims.get(name).and_then(Value::as_f64);
        let now_s = self.clock.wall_ms() as f64 / 1000.0;
        let skew_s = self.settings.clock_skew_s as f64;
        let expires_s = time("exp").ok_or(OidcError::Malformed)?;
        if now_s >= expires_s + skew_s {
            return Err(OidcError::Expired);
        }
        for name in ["nbf", "iat"] {
            match claims.get(name) {
                None => {}
                Some(value) => {
                    let from_s = value.as_f64().ok_or(OidcError::Malformed)?;
                    if now_s < from_s - skew_s {
                        return Err(OidcError::NotYetValid);
                    }
                }
            }
        }
        Ok(())
    }

    fn roles(&self, claims: &Map<String, Value>) -> RoleSet {
        let mut names = self.settings.roles_claim.iter();
        let mut value = names.next().and_then(|name| claims.get(name));
        for name in names {
            value = value.and_then(|value| value.get(name));
        }
        let of = |value: &Value| value.as_str().and_then(|text| self.settings.roles.get(text)).copied();
        match value {
            Some(Value::Array(all)) => all.iter().filter_map(of).collect(),
            Some(one) => of(one).into_iter().collect(),
            None => RoleSet::default(),
        }
    }
}

/// Returns the issuer that a token names, before anything of it is believed: only to know whose keys to try.
pub fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct IssuerOnly {
        iss: String,
    }
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    part::<IssuerOnly>(token, 1).map(|claims| claims.iss)
}

fn part<T: serde::de::DeserializeOwned>(token: &str, number: usize) -> Option<T> {
    let parts: Vec<&str> = token.split('.').collect();
    let [_, _, _] = parts.as_slice() else { return None };
    let bytes = BASE64URL_NOPAD.decode(parts.get(number)?.as_bytes()).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn person_id(issuer: &str, subject: &str) -> String {
    let digest = Sha256::new_with_prefix("idtrail/oidc-person/v1\0")
        .chain_update((issuer.len() as u64).to_be_bytes())
        .chain_update(issuer)
        .chain_update(subject)
        .finalize();
    let mut id = BASE32_NOPAD.encode(digest.get(..16).unwrap_or_default());
    id.make_ascii_lowercase();
    format!("oidc_{id}")
}
