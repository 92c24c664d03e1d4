//! Settings of everything that crosses a network: the address, TLS, bounds on connections, foreign issuers.
//!
//! What would carry credentials in the clear is refused here, and so is an issuer whose keys could be swapped on the way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use jsonwebtoken::Algorithm;

use super::{Check, SettingsError};
use crate::credentials::{Role, UnknownRole};

/// Encryption of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSettings {
    /// None: loopback only.
    Off,
    /// A proxy in front of the server does it.
    Upstream,
    /// The server does it.
    Files {
        /// Certificate chain in PEM.
        cert: PathBuf,
        /// Private key in PEM.
        key: PathBuf,
    },
}

impl TlsSettings {
    /// Tells whether what goes over a network is encrypted, by this server or in front of it.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        !matches!(self, Self::Off)
    }
}

/// Bounds on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Longest head of a request in bytes.
    pub header_bytes_max: usize,
    /// Milliseconds in which a head has to arrive.
    pub header_timeout_ms: u64,
    /// Milliseconds in which a body has to arrive.
    pub body_timeout_ms: u64,
    /// Connections at the same time.
    pub connections_max: usize,
    /// Milliseconds that requests under way get when the server is stopped.
    pub drain_timeout_ms: u64,
}

/// An issuer of tokens that count here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// The `iss` claim.
    pub issuer: String,
    /// What `aud` has to hold.
    pub audience: String,
    /// Where the keys are; `None` if discovery says it.
    pub jwks_url: Option<String>,
    /// Algorithms that count.
    pub algorithms: Vec<Algorithm>,
    /// Members that lead to the roles.
    pub roles_claim: Vec<String>,
    /// What a value of the claim allows.
    pub roles: BTreeMap<String, Role>,
    /// Seconds by which the issuer's clock may differ.
    pub clock_skew_s: i64,
    /// Certificate authority of the issuer, if it is not one that the system trusts.
    pub ca_file: Option<PathBuf>,
}

impl Check<'_> {
    pub(super) fn listen(
        &self,
        listen: Option<String>,
        tls: &TlsSettings,
    ) -> Result<SocketAddr, SettingsError> {
        let Some(listen) = listen else { return Ok(SocketAddr::from(([127, 0, 0, 1], 7070))) };
        let address: SocketAddr = listen.parse().map_err(|_| {
            self.wrong("listen", "must be an IP address and a port, such as `127.0.0.1:7070` or `[::1]:7070`")
        })?;
        if !address.ip().is_loopback() && !tls.is_encrypted() {
            return Err(self.wrong(
                "listen",
                "is not a loopback address, and credentials must not cross a network in the clear; set \
                 tls.cert_file and tls.key_file, or listen on 127.0.0.1, or, if a proxy terminates TLS and nobody \
                 else can reach this address, set tls.upstream = true",
            ));
        }
        Ok(address)
    }

    pub(super) fn tls(&self, tls: crate::config::Tls) -> Result<TlsSettings, SettingsError> {
        match (tls.cert_file, tls.key_file, tls.upstream.unwrap_or(false)) {
            (None, None, false) => Ok(TlsSettings::Off),
            (None, None, true) => Ok(TlsSettings::Upstream),
            (Some(cert), Some(key), false) => {
                Ok(TlsSettings::Files { cert: self.base.join(cert), key: self.base.join(key) })
            }
            (Some(_), Some(_), true) => {
                Err(self.wrong("tls.upstream", "cannot be true beside tls.cert_file: choose one"))
            }
            (Some(_), None, _) => Err(self.wrong("tls.key_file", "is missing beside tls.cert_file")),
            (None, Some(_), _) => Err(self.wrong("tls.cert_file", "is missing beside tls.key_file")),
        }
    }

    pub(super) fn http(&self, http: &crate::config::Http) -> Result<HttpSettings, SettingsError> {
        Ok(HttpSettings {
            header_bytes_max: self.range(
                "http.header_bytes_max",
                http.header_bytes_max,
                65_536,
                8192,
                1_048_576,
            )?,
            header_timeout_ms: self.range(
                "http.header_timeout_ms",
                http.header_timeout_ms,
                30_000,
                100,
                600_000,
            )?,
            body_timeout_ms: self.range(
                "http.body_timeout_ms",
                http.body_timeout_ms,
                30_000,
                100,
                3_600_000,
            )?,
            connections_max: self.range(
                "http.connections_max",
                http.connections_max,
                10_000,
                1,
                1_000_000,
            )?,
            drain_timeout_ms: self.range(
                "http.drain_timeout_ms",
                http.drain_timeout_ms,
                10_000,
                0,
                600_000,
            )?,
        })
    }

    pub(super) fn oidc(&self, issuers: Vec<crate::config::Oidc>) -> Result<Vec<OidcSettings>, SettingsError> {
        let mut all: Vec<OidcSettings> = Vec::new();
        for issuer in issuers {
            let checked = self.oidc_issuer(issuer)?;
            if all.iter().any(|other| other.issuer == checked.issuer) {
                return Err(self.wrong("oidc.issuer", "is named twice"));
            }
            all.push(checked);
        }
        Ok(all)
    }

    fn oidc_issuer(&self, oidc: crate::config::Oidc) -> Result<OidcSettings, SettingsError> {
        let address = |key: &str, text: String| {
            if is_safe_address(&text) {
                return Ok(text);
            }
            Err(self.wrong(key, "must be an address with https, or with http on a loopback address"))
        };
        let missing = |key: &str| self.wrong(key, "is missing");
        let audience = oidc.audience.filter(|text| !text.is_empty());
        let names = oidc.algorithms.unwrap_or_else(|| ["RS256", "ES256", "EdDSA"].map(String::from).into());
        let algorithms: Vec<Algorithm> = names
            .iter()
            .map(|name| SIGNATURES.iter().find(|(known, _)| known == name).map(|(_, algorithm)| *algorithm))
            .collect::<Option<_>>()
            .filter(|all: &Vec<_>| !all.is_empty())
            .ok_or_else(|| {
                let known: Vec<_> = SIGNATURES.iter().map(|(name, _)| *name).collect();
                self.wrong("oidc.algorithms", format!("must name one or more of {}", known.join(", ")))
            })?;
        let claim = oidc.roles_claim.unwrap_or_else(|| "roles".to_owned());
        let roles_claim: Vec<String> = claim.split('.').map(str::to_owned).collect();
        if roles_claim.iter().any(String::is_empty) {
            return Err(self.wrong("oidc.roles_claim", "must be names of members with dots between them"));
        }
        let mut roles = BTreeMap::new();
        for (value, role) in oidc.roles.unwrap_or_default() {
            let role: Role = role
                .parse()
                .map_err(|error: UnknownRole| self.wrong("oidc.roles", format!("each value {error}")))?;
            roles.insert(value, role);
        }
        if roles.is_empty() {
            return Err(self.wrong("oidc.roles", "is missing: say which values of the claim allow what"));
        }
        Ok(OidcSettings {
            issuer: address("oidc.issuer", oidc.issuer.ok_or_else(|| missing("oidc.issuer"))?)?,
            audience: audience.ok_or_else(|| missing("oidc.audience"))?,
            jwks_url: oidc.jwks_url.map(|text| address("oidc.jwks_url", text)).transpose()?,
            algorithms,
            roles_claim,
            roles,
            clock_skew_s: self.range("oidc.clock_skew_s", oidc.clock_skew_s, 30, 0, 300)?,
            ca_file: oidc.ca_file.map(|path| self.base.join(path)),
        })
    }
}

/// The signatures that can be chosen: none of them with a shared secret.
const SIGNATURES: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Tells whether what an address answers can be believed: it is encrypted, or never leaves this machine.
pub(crate) fn is_safe_address(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => local,
        _ => false,
    }
}
