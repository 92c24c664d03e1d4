//! What commands that talk to a server share: where it is, how it is trusted, and with which credentials.
//!
//! A key never stands on the command line, where other users of the machine could read it: it comes from a file or
//! from the environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Context, Failure, OrExit as _};
use crate::exit::Exit;
use crate::settings::{Settings, TlsSettings, is_safe_address};

/// Environment variable with the API key.
pub const KEY_VARIABLE: &str = "IDTRAIL_KEY";
const TOKEN_VARIABLE: &str = "IDTRAIL_TOKEN";
const SECRET_VARIABLE: &str = "IDTRAIL_CLIENT_SECRET";
const FILE_BYTES_MAX: u64 = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where the server is.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Address of the server [default: from the configuration file if there is one, else http://127.0.0.1:7070]
    #[arg(long, value_name = "URL", env = "IDTRAIL_URL")]
    pub url: Option<String>,
    /// Certificate authority of the server in PEM, if it is not one that the system trusts.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File with the API key [default: the environment variable IDTRAIL_KEY]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// Who acts.
#[derive(Args, Clone, Debug)]
pub struct PersonArgs {
    /// Client id of the person who asks [default: the environment variable IDTRAIL_TOKEN holds a token]
    #[arg(long, value_name = "ID", env = "IDTRAIL_CLIENT_ID")]
    pub client_id: Option<String>,
    /// File with the person's client secret [default: the environment variable IDTRAIL_CLIENT_SECRET]
    #[arg(long, value_name = "FILE", requires = "client_id")]
    pub secret_file: Option<PathBuf>,
}

impl PersonArgs {
    /// Returns the value of the header Authorization, from a token or in exchange for the person's secret.
    ///
    /// # Errors
    /// A failure with exit code 2 if there is neither, 5 if the secret is refused.
    pub async fn bearer(
        &self,
        context: &Context,
        client: &ServerClient,
    ) -> Result<Zeroizing<String>, Failure> {
        let token = match &self.client_id {
            Some(id) => {
                let secret = match &self.secret_file {
                    Some(path) => secret_file(context, path)?,
                    None => variable(context, SECRET_VARIABLE)?,
                };
                client.token(id, &secret).await?
            }
            None => variable(context, TOKEN_VARIABLE)?,
        };
        Ok(Zeroizing::new(format!("Bearer {}", *token)))
    }
}

fn variable(context: &Context, name: &'static str) -> Result<Zeroizing<String>, Failure> {
    (context.env)(name).map(Zeroizing::new).ok_or_else(|| {
        let message =
            "a person is needed: name --client-id and set IDTRAIL_CLIENT_SECRET, or set IDTRAIL_TOKEN";
        Failure::message(Exit::Usage, message)
    })
}

/// A server and the key for it.
pub struct ServerClient {
    client: Client,
    base: String,
    key: Zeroizing<String>,
}

impl ServerClient {
    /// Finds out where the server is and which key to use.
    ///
    /// # Errors
    /// A failure with exit code 2 if something is missing or an address would carry the key in the clear.
    pub fn new(context: &Context, args: &ServerArgs) -> Result<Self, Failure> {
        let base = args.url.clone().unwrap_or_else(|| default_url(context));
        if !is_safe_address(&base) {
            let message = "the address must start with https, or with http and a loopback address";
            return Err(Failure::message(Exit::Usage, message));
        }
        let mut client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &args.ca {
            let pem = idtrail_port::read_whole(&*context.disk, path, FILE_BYTES_MAX).or_exit(Exit::Io)?;
            client =
                client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).or_exit(Exit::Config)?);
        }
        let key = match &args.key_file {
            Some(path) => secret_file(context, path)?,
            None => (context.env)(KEY_VARIABLE).map(Zeroizing::new).ok_or_else(|| {
                Failure::message(Exit::Usage, "an API key is needed: set IDTRAIL_KEY or name a --key-file")
            })?,
        };
        Ok(Self {
            client: client.build().or_exit(Exit::Io)?,
            base: base.trim_end_matches('/').to_owned(),
            key,
        })
    }

    /// Asks.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response, reqwest::Error> {
        let mut request =
            self.client.get(format!("{}{path}", self.base)).header("x-api-key", self.key.as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await
    }

    /// Deletes what is at a path.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response, reqwest::Error> {
        let mut request =
            self.client.delete(format!("{}{path}", self.base)).header("x-api-key", self.key.as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await
    }

    /// Sends a JSON body.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response, reqwest::Error> {
        let mut request = self
            .client
            .post(format!("{}{path}", self.base))
            .header("x-api-key", self.key.as_str())
            .header("content-type", "application/json")
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await
    }

    /// Exchanges a person's client id and secret for a token.
    ///
    /// # Errors
    /// A failure with exit code 5 if they are refused, 74 if no answer came.
    pub async fn token(&self, id: &str, secret: &str) -> Result<Zeroizing<String>, Failure> {
        let form =
            Zeroizing::new(format!("grant_type=client_credentials&client_id={id}&client_secret={secret}"));
        let response = self
            .client
            .post(format!("{}/oauth/token", self.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.as_bytes().to_vec())
            .send()
            .await
            .or_exit(Exit::Io)?;
        let status = response.status();
        let answer: Value = response.json().await.or_exit(Exit::Io)?;
        match answer.get("access_token").and_then(Value::as_str) {
            Some(token) if status == StatusCode::OK => Ok(Zeroizing::new(token.to_owned())),
            _ => Err(Failure::message(Exit::Auth, "client id or secret is refused")),
        }
    }
}

/// Reads a secret from a file, without the line break at its end.
///
/// # Errors
/// A failure with exit code 74.
pub fn secret_file(context: &Context, path: &std::path::Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = idtrail_port::read_whole(&*context.disk, path, FILE_BYTES_MAX).map(Zeroizing::new)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::message(Exit::Usage, "the file with the secret is not a text"))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn default_url(context: &Context) -> String {
    match Settings::load(&*context.disk, &context.config_path()) {
        Ok(settings) => {
            let scheme = if matches!(settings.tls, TlsSettings::Files { .. }) { "https" } else { "http" };
            format!("{scheme}://{}", settings.listen)
        }
        Err(_) => "http://127.0.0.1:7070".to_owned(),
    }
}

/// Says what a refusal was about: the code and what the server says, which never holds a value.
pub fn problem_text(status: StatusCode, problem: &Value) -> String {
    let member = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
    format!(
        "the server refused. status={}, code={}, detail={}",
        status.as_u16(),
        member("code"),
        member("detail")
    )
}

/// Returns the exit code of a refusal.
pub fn refusal_exit(status: StatusCode) -> Exit {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Auth,
        status if status.is_client_error() => Exit::Usage,
        _ => Exit::Io,
    }
}
