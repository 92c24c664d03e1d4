//! Google's access tokens for a service account: a token of ours, signed with its key, is changed for one of theirs.

use std::sync::Arc;

use idtrail_port::Clock;
use reqwest::Client;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::http_client;
use crate::jwt::SigningKey;
use crate::secret::Secret;
use crate::settings::checked_url;
use crate::verdict::{Failure, Rule, Status, Verdict, judge};

const SCOPES: &str =
    "https://www.googleapis.com/auth/bigquery https://www.googleapis.com/auth/cloud-platform.read-only";
/// Google takes no longer ones.
const LIFETIME_S: i64 = 3600;
/// A token is used no longer than until this long before its end, seconds.
const MARGIN_S: i64 = 600;

/// From the token endpoint's statuses to verdicts.
pub(crate) const TOKEN_RULES: [Rule<u16>; 2] = [
    Rule { statuses: &[408, 429], verdict: Verdict::Retry { after: None }, code: "busy" },
    // invalid_grant: the key was withdrawn, or the clock is wrong by minutes.
    Rule { statuses: &[400, 401, 403, 404], verdict: Verdict::Stop, code: "credentials" },
];

/// The file with a service account's key is not what Google gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a service account's key is Google's JSON file with client_email, private_key and token_uri")]
pub struct CredentialsError;

#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    #[serde(deserialize_with = "wiped")]
    private_key: Secret,
    #[serde(default)]
    private_key_id: Option<String>,
    token_uri: String,
}

fn wiped<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<i64>,
}

struct Account {
    email: String,
    key: SigningKey,
    key_id: Option<String>,
    token_uri: Url,
}

/// A service account, and its newest token.
pub struct Credentials {
    account: Option<Account>,
    clock: Arc<dyn Clock>,
    token: Option<(Secret, i64)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// Reads the key's file. Without one, calls are made without a token.
    ///
    /// # Errors
    /// [`CredentialsError`] if it is not written as it must be.
    pub fn new(
        key: Option<&Secret>,
        allow_http: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CredentialsError> {
        let account = match key {
            None => None,
            Some(text) => {
                let file: KeyFile = serde_json::from_str(text.expose()).map_err(|_| CredentialsError)?;
                Some(Account {
                    key: SigningKey::from_pem(file.private_key.expose()).map_err(|_| CredentialsError)?,
                    email: file.client_email,
                    key_id: file.private_key_id,
                    token_uri: checked_url(&file.token_uri, allow_http).map_err(|_| CredentialsError)?,
                })
            }
        };
        Ok(Self { account, clock, token: None })
    }

    /// Forgets the token: the next one is asked for.
    pub(crate) fn forget(&mut self) {
        self.token = None;
    }

    /// Tells whether the token that is in use is still good for a while.
    pub(crate) fn is_fresh(&self) -> bool {
        self.account.is_none()
            || self.token.as_ref().is_some_and(|(_, until_s)| self.clock.wall_ms() / 1000 < *until_s)
    }

    /// Returns the value of the `authorization` header, if there is an account.
    pub(crate) async fn bearer(&mut self, client: &Client) -> Result<Option<String>, Failure> {
        let Some(account) = &self.account else { return Ok(None) };
        let now_s = self.clock.wall_ms() / 1000;
        if let Some((token, until_s)) = &self.token
            && now_s < *until_s
        {
            return Ok(Some(format!("Bearer {}", token.expose())));
        }
        let claims = json!({
            "iss": account.email,
            "scope": SCOPES,
            "aud": account.token_uri.as_str(),
            "iat": now_s,
            "exp": now_s + LIFETIME_S,
        });
        let assertion = account
            .key
            .sign(&claims, account.key_id.as_deref())
            .map_err(|_| Failure::stop("credentials", Status::none()))?;
        let body =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        let response = client
            .post(account.token_uri.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .map_err(|error| http_client::unanswered(&error))?;
        let status = response.status().as_u16();
        if status != 200 {
            let (verdict, code) =
                judge(&TOKEN_RULES, &status).unwrap_or((Verdict::Retry { after: None }, "token_unavailable"));
            return Err(Failure { verdict, code, status: status.into() });
        }
        let answer: TokenAnswer =
            response.json().await.map_err(|_| Failure::retry("token_unavailable", Status::none(), None))?;
        let lifetime_s = answer.expires_in.unwrap_or(LIFETIME_S).clamp(60, LIFETIME_S);
        let until_s = now_s + (lifetime_s - MARGIN_S).max(lifetime_s / 2);
        let header = format!("Bearer {}", answer.access_token);
        self.token = Some((Secret::new(answer.access_token), until_s));
        Ok(Some(header))
    }
}
