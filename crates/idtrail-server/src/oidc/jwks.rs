//! The published keys of an issuer (RFC 7517), fetched when needed and kept for a while.
//!
//! Issuers rotate their keys without notice, and are sometimes slow or down. So: a key that is not known makes us look
//! again, once for all requests that wait, and at most every [`RETRY_NS`], so that made-up key ids cannot turn us
//! against the issuer. Keys older than [`FRESH_NS`] are fetched again beside the requests. While the issuer is down the
//! known keys go on counting for [`STALE_NS`]; after that nothing can be said any more, because a key might have been
//! withdrawn. A key that is gone from the issuer's list is gone here.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use idtrail_port::Clock;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::OidcError;
use crate::settings::{OidcSettings, is_safe_address};

const FRESH_NS: u64 = 300 * 1_000_000_000;
const STALE_NS: u64 = 3600 * 1_000_000_000;
const RETRY_NS: u64 = 10 * 1_000_000_000;
/// Longest answer of an issuer in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Keys that are looked at.
const KEYS_MAX: usize = 100;
/// How long an issuer may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The issuer was not reached, or broke off.
    #[error("the issuer cannot be reached")]
    Network(#[source] reqwest::Error),
    /// The issuer answered with something else than 200.
    #[error("the issuer answered with an error. status={status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The answer is too long or not what it should be.
    #[error("the issuer's answer is not {what}")]
    Answer {
        /// What it should be.
        what: &'static str,
    },
    /// The certificate authority's file cannot be used.
    #[error("ca_file cannot be used")]
    Authority(#[source] reqwest::Error),
}

/// The keys of one issuer.
pub struct Keys {
    client: reqwest::Client,
    issuer: String,
    configured: Option<String>,
    clock: Arc<dyn Clock>,
    known: RwLock<Known>,
    /// Held by whoever is fetching.
    fetching: Mutex<()>,
}

#[derive(Clone, Default)]
struct Known {
    keys: Arc<Vec<Key>>,
    /// When they were fetched.
    fetched_ns: Option<u64>,
    /// When fetching was last tried, and whether it worked.
    tried: Option<(u64, bool)>,
}

struct Key {
    id: Option<String>,
    /// The algorithms that a signature by this key may have.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Keys {
    /// Prepares for fetching the keys of an issuer. `authority` is the content of the configured `ca_file`.
    ///
    /// # Errors
    /// `Authority` if that is no certificate.
    pub fn new(
        settings: &OidcSettings,
        authority: Option<&[u8]>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeysError> {
        let mut client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            // A redirection could lead to where no configuration ever pointed.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("idtrail/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = authority {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(KeysError::Authority)?;
            client = client.tls_certs_only(certificates);
        }
        Ok(Self {
            client: client.build().map_err(KeysError::Authority)?,
            issuer: settings.issuer.clone(),
            configured: settings.jwks_url.clone(),
            clock,
            known: RwLock::default(),
            fetching: Mutex::new(()),
        })
    }

    /// Returns the key that a token names. Without a name, the only key that fits the algorithm.
    pub(super) async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, OidcError> {
        let known = self.known();
        let now_ns = self.clock.monotonic_ns();
        let age_ns = known.fetched_ns.map(|fetched_ns| now_ns.saturating_sub(fetched_ns));
        if age_ns.is_some_and(|age_ns| age_ns < STALE_NS)
            && let Some(key) = choose(&known.keys, id, algorithm)
        {
            if age_ns.is_some_and(|age_ns| age_ns >= FRESH_NS) && known.may_try(now_ns) {
                let keys = Arc::clone(self);
                // Beside the request: the known key still counts.
                tokio::spawn(async move { keys.refresh(known.fetched_ns).await });
            }
            return Ok(key);
        }
        self.refresh(known.fetched_ns).await;
        let known = self.known();
        let now_ns = self.clock.monotonic_ns();
        let usable = known.fetched_ns.is_some_and(|fetched_ns| now_ns.saturating_sub(fetched_ns) < STALE_NS);
        match choose(&known.keys, id, algorithm).filter(|_| usable) {
            Some(key) => Ok(key),
            None if known.tried.is_some_and(|(_, worked)| worked) => Err(OidcError::UnknownKey),
            None => Err(OidcError::Unavailable),
        }
    }

    /// Fetches, unless somebody else has since `seen_ns`, or it was tried a moment ago.
    async fn refresh(&self, seen_ns: Option<u64>) {
        let _one = self.fetching.lock().await;
        let known = self.known();
        let now_ns = self.clock.monotonic_ns();
        if known.fetched_ns != seen_ns || !known.may_try(now_ns) {
            return;
        }
        let outcome = self.fetch().await;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(keys) => {
                tracing::info!(issuer = self.issuer, keys = keys.len(), "keys of an issuer fetched");
                known.keys = Arc::new(keys);
                known.fetched_ns = Some(now_ns);
                known.tried = Some((now_ns, true));
            }
            Err(error) => {
                let cause: &dyn std::error::Error = &error;
                tracing::warn!(issuer = self.issuer, error = cause, "keys of an issuer cannot be fetched");
                known.tried = Some((now_ns, false));
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, KeysError> {
        let address = match &self.configured {
            Some(address) => address.clone(),
            None => {
                let address =
                    format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
                let what = "a discovery document of this issuer";
                let found: Discovery = self.get(&address, what).await?;
                // A document of somebody else must not bring its keys (OpenID Connect Discovery §4.3).
                if found.issuer != self.issuer || !is_safe_address(&found.jwks_uri) {
                    return Err(KeysError::Answer { what });
                }
                found.jwks_uri
            }
        };
        let set: serde_json::Value = self.get(&address, "a set of keys").await?;
        let entries = set.get("keys").and_then(serde_json::Value::as_array);
        let entries = entries.ok_or(KeysError::Answer { what: "a set of keys" })?;
        // One key of a kind that we do not know must not cost the others (RFC 7517 §5).
        let one = |entry: &serde_json::Value| serde_json::from_value::<Jwk>(entry.clone()).ok();
        let set = JwkSet { keys: entries.iter().take(KEYS_MAX).filter_map(one).collect() };
        Ok(set.keys.iter().filter_map(usable).collect())
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        address: &str,
        what: &'static str,
    ) -> Result<T, KeysError> {
        let request = self.client.get(address).header("accept", "application/json");
        let mut response = request.send().await.map_err(KeysError::Network)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(KeysError::Status { status: response.status().as_u16() });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(KeysError::Network)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(KeysError::Answer { what });
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|_| KeysError::Answer { what })
    }

    /// Fetches the keys now and returns how many of them count. For `doctor`: what requests use stays as it is.
    ///
    /// # Errors
    /// [`KeysError`].
    pub async fn probe(&self) -> Result<usize, KeysError> {
        self.fetch().await.map(|keys| keys.len())
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Known {
    fn may_try(&self, now_ns: u64) -> bool {
        self.tried.is_none_or(|(tried_ns, _)| now_ns.saturating_sub(tried_ns) >= RETRY_NS)
    }
}

fn choose(keys: &[Key], id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
    let mut fitting = keys
        .iter()
        .filter(|key| key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Some(only.key.clone()),
        // Two keys of one name: trying both would make the name worthless.
        _ => None,
    }
}

/// Returns what a published key can check, if it is one for signatures that we take.
fn usable(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let of_kind: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
        // A shared secret in a public list is a mistake at best.
        _ => return None,
    };
    let named = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
    let algorithms: Vec<Algorithm> = of_kind
        .iter()
        .copied()
        .filter(|algorithm| named.as_ref().is_none_or(|named| *named == format!("{algorithm:?}")))
        .collect();
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| !algorithms.is_empty())?;
    Some(Key { id: jwk.common.key_id.clone(), algorithms, key })
}
