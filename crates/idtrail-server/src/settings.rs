//! The configuration after it was checked: values that the rest of the program may trust.
//!
//! In: the text of a configuration file. Out: [`Settings`], or one error that names the key and its line. What the
//! parser says about a wrong value is not passed on, because it quotes the value, and the value may be a secret that
//! somebody wrote in the wrong place. Secrets are read only when they are needed ([`SecretRef::read`]), so that
//! commands which need none work without them.
//!
//! An unsafe start is refused, not warned about: an address that others can reach would carry credentials in the
//! clear.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use idtrail_connect::settings::SinkSettings;
use idtrail_port::{Disk, read_whole};
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use crate::config::{Config, SecretSource};

mod effective;
mod identity;
mod network;
mod rights;
mod sinks;
pub use identity::{Environment, IdentitySettings, LegacyHashSettings};
pub(crate) use network::is_safe_address;
pub use network::{HttpSettings, OidcSettings, TlsSettings};
pub use rights::RightsSettings;
pub use sinks::SinkApiSettings;
pub(crate) use sinks::{
    Wrong as SinkWrong, check as check_sink, read as read_sink, share_place, wrong as sink_wrong,
};

/// Longest configuration file in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
/// Longest secret in bytes.
const SECRET_BYTES_MAX: u64 = 4096;

/// A value of the environment by its name. `None` if it is not set.
pub type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The tenant's name.
    pub tenant: String,
    /// The log's name.
    pub origin: String,
    /// Directory of everything stored.
    pub data_dir: PathBuf,
    /// Where the HTTP interface listens; without TLS always a loopback address.
    pub listen: SocketAddr,
    /// Where the key-encryption key is.
    pub kek: SecretRef,
    /// The vault's files.
    pub vault: VaultSettings,
    /// Bounds on queues, rates and times.
    pub limits: LimitSettings,
    /// What is accepted as an event.
    pub validation: ValidationSettings,
    /// Tokens for persons.
    pub issuer: IssuerSettings,
    /// Issuers whose tokens count for persons beside our own.
    pub oidc: Vec<OidcSettings>,
    /// Encryption of connections.
    pub tls: TlsSettings,
    /// Bounds on connections.
    pub http: HttpSettings,
    /// The form of the process' own log.
    pub log_format: LogFormat,
    /// Bytes of one journal file.
    pub segment_bytes: u64,
    /// Expiry and erasure.
    pub retention: RetentionSettings,
    /// Requests of data subjects.
    pub rights: RightsSettings,
    /// Many events in one request.
    pub batch: BatchSettings,
    /// Events that were refused but are kept.
    pub quarantine: QuarantineSettings,
    /// Outside systems that every event is delivered to, checked, by name.
    pub sinks: Vec<SinkSettings>,
    /// Sinks that operators add without a restart.
    pub sink_api: SinkApiSettings,
    /// How identifiers become tokens.
    pub identity: IdentitySettings,
}

/// Many events in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// Longest batch in bytes.
    pub bytes_max: usize,
    /// Most events in one batch.
    pub events_max: usize,
}

/// Events that were refused but are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineSettings {
    /// Milliseconds for which an event is kept.
    pub keep_ms: u64,
    /// Most events that are kept.
    pub entries_max: usize,
}

/// Expiry and erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Months expire by themselves.
    pub automatic: bool,
    /// Milliseconds for which the repetition of an erased event is recognised.
    pub suppression_ms: u64,
}

/// Where the vault keeps its anchors and copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultSettings {
    /// Anchor files, at least one.
    pub anchors: Vec<PathBuf>,
    /// Directories that get a copy of each vault body.
    pub copies: Vec<PathBuf>,
}

/// Bounds on queues, rates and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Longest event in bytes of JSON.
    pub body_bytes_max: usize,
    /// Events that may wait for the log.
    pub queue_events_max: usize,
    /// Events per second and API key; 0 = no limit.
    pub events_per_second: u32,
    /// Reading requests per second and credential; 0 = no limit.
    pub reads_per_second: u32,
    /// Milliseconds until a request is given up.
    pub request_timeout_ms: u64,
    /// Free bytes of the disk below which the server is not ready.
    pub disk_free_bytes_min: u64,
}

/// What is accepted as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationSettings {
    /// Refuse what would otherwise be a warning.
    pub strict: bool,
    /// What happens to personal data in clear.
    pub pii: PiiMode,
    /// Names of further event types.
    pub custom_types: Vec<String>,
}

/// What happens to personal data in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PiiMode {
    /// The event is refused.
    Refuse,
    /// The value is replaced and the receipt says so.
    Mask,
}

/// Tokens for persons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// The `aud` claim.
    pub audience: String,
    /// Seconds for which a token is valid.
    pub token_ttl_s: u32,
}

/// The form of the process' own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a secret is. The secret itself is read when it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

impl SecretRef {
    /// Reads the secret. White space around a value from the environment stays; the caller parses.
    ///
    /// # Errors
    /// [`SettingsError::Secret`] if the file cannot be read or the variable is not set.
    pub fn read(&self, disk: &dyn Disk, env: EnvLookup<'_>) -> Result<Zeroizing<Vec<u8>>, SettingsError> {
        match self {
            Self::File(path) => read_whole(disk, path, SECRET_BYTES_MAX)
                .map(Zeroizing::new)
                .map_err(|source| SettingsError::Secret { place: self.to_string(), source: Some(source) }),
            Self::Env(name) => env(name)
                .map(|value| Zeroizing::new(value.into_bytes()))
                .ok_or_else(|| SettingsError::Secret { place: self.to_string(), source: None }),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// Why there are no settings. No variant holds a value from the file.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("configuration file cannot be read. path={}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file is not valid TOML. line={line}")]
    Syntax {
        /// Line, counted from 1.
        line: usize,
    },
    /// A key is unknown, missing or has a value that cannot be used.
    #[error("{key}: {problem}{}", line.map_or_else(String::new, |line| format!(". line={line}")))]
    Key {
        /// The key with its sections, such as `limits.body_bytes_max`.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
        /// Line, counted from 1; `None` if the key is not in the file.
        line: Option<usize>,
    },
    /// A secret is not where the configuration says.
    #[error("secret cannot be read. place={place}")]
    Secret {
        /// The file or variable, never its content.
        place: String,
        /// What the disk said; `None` for a variable that is not set.
        #[source]
        source: Option<io::Error>,
    },
}

impl Settings {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Self, SettingsError> {
        let failed = |source| SettingsError::File { path: path.to_owned(), source };
        let bytes = read_whole(disk, path, FILE_BYTES_MAX).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks the text of a configuration file. Relative paths start at `base`.
    ///
    /// # Errors
    /// [`SettingsError::Syntax`] or [`SettingsError::Key`].
    pub fn parse(text: &str, base: &Path) -> Result<Self, SettingsError> {
        let config: Config = toml::from_str(text).map_err(|error| describe(text, &error))?;
        let check = Check { text, base };
        let origin = check.origin(config.origin)?;
        let data_dir = match config.data_dir {
            Some(path) if !path.as_os_str().is_empty() => base.join(path),
            _ => return Err(check.wrong("data_dir", "is missing; `idtrail init` writes it")),
        };
        let vault = config.vault.unwrap_or_default();
        let log = config.log.unwrap_or_default();
        let tls = check.tls(config.tls.unwrap_or_default())?;
        let segments = config.segments.unwrap_or_default();
        let retention = config.retention.unwrap_or_default();
        let rights = config.rights.unwrap_or_default();
        let batch = config.batch.unwrap_or_default();
        let quarantine = config.quarantine.unwrap_or_default();
        Ok(Self {
            tenant: check.tenant(config.tenant)?,
            listen: check.listen(config.listen, &tls)?,
            oidc: check.oidc(config.oidc.unwrap_or_default())?,
            tls,
            http: check.http(&config.http.unwrap_or_default())?,
            kek: check.secret("kek", config.kek)?,
            vault: check.vault(vault, &data_dir)?,
            limits: check.limits(&config.limits.unwrap_or_default())?,
            validation: check.validation(config.validation.unwrap_or_default())?,
            issuer: check.issuer(config.issuer.unwrap_or_default(), &origin)?,
            log_format: check.choice(
                "log.format",
                log.format.as_deref(),
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            )?,
            segment_bytes: check.range(
                "segments.segment_bytes",
                segments.segment_bytes,
                67_108_864,
                1_048_576,
                4_294_967_296,
            )?,
            retention: RetentionSettings {
                automatic: retention.automatic.unwrap_or(true),
                suppression_ms: DAY_MS
                    * check.range::<u64>(
                        "retention.suppression_days",
                        retention.suppression_days,
                        35,
                        1,
                        366,
                    )?,
            },
            rights: check.rights(rights)?,
            batch: BatchSettings {
                bytes_max: check.range("batch.bytes_max", batch.bytes_max, 16_777_216, 1024, 268_435_456)?,
                events_max: check.range("batch.events_max", batch.events_max, 5000, 1, 100_000)?,
            },
            quarantine: QuarantineSettings {
                keep_ms: DAY_MS * check.range::<u64>("quarantine.days", quarantine.days, 30, 1, 366)?,
                entries_max: check.range(
                    "quarantine.entries_max",
                    quarantine.entries_max,
                    100_000,
                    1,
                    1_000_000,
                )?,
            },
            sinks: check.sinks(config.sinks.unwrap_or_default(), &data_dir)?,
            sink_api: check.sink_api(config.sink_api.unwrap_or_default())?,
            identity: check.identity(config.identity.unwrap_or_default())?,
            origin,
            data_dir,
        })
    }
}

/// Checks one value each, and knows where in the file a key stands.
struct Check<'a> {
    text: &'a str,
    base: &'a Path,
}

impl Check<'_> {
    fn wrong(&self, key: &str, problem: impl Into<String>) -> SettingsError {
        SettingsError::Key { key: key.to_owned(), problem: problem.into(), line: line_of_key(self.text, key) }
    }

    fn tenant(&self, tenant: Option<String>) -> Result<String, SettingsError> {
        let tenant = tenant.unwrap_or_else(|| "default".to_owned());
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if tenant.is_empty() || tenant.len() > 64 || !tenant.chars().all(plain) {
            return Err(self.wrong("tenant", "must be 1 to 64 characters of A-Z a-z 0-9 . _ -"));
        }
        Ok(tenant)
    }

    fn origin(&self, origin: Option<String>) -> Result<String, SettingsError> {
        let origin = origin.ok_or_else(|| self.wrong("origin", "is missing; `idtrail init` writes it"))?;
        let visible = |c: char| c.is_ascii_graphic() && c != '+';
        if origin.is_empty() || origin.len() > 128 || !origin.chars().all(visible) || origin.contains("://") {
            return Err(self.wrong(
                "origin",
                "must be a URL without its scheme, 1 to 128 characters of visible ASCII without `+`",
            ));
        }
        Ok(origin)
    }

    fn secret(&self, key: &str, source: Option<SecretSource>) -> Result<SecretRef, SettingsError> {
        match source {
            None => Err(self.wrong(key, "is missing; write { file = \"path\" } or { env = \"NAME\" }")),
            Some(SecretSource { file: Some(path), env: None }) if !path.as_os_str().is_empty() => {
                Ok(SecretRef::File(self.base.join(path)))
            }
            Some(SecretSource { file: None, env: Some(name) }) if !name.is_empty() => {
                Ok(SecretRef::Env(name))
            }
            Some(_) => Err(self.wrong(key, "must name exactly one of `file` and `env`")),
        }
    }

    fn vault(&self, vault: crate::config::Vault, data_dir: &Path) -> Result<VaultSettings, SettingsError> {
        let all =
            |paths: Vec<PathBuf>| paths.into_iter().map(|path| self.base.join(path)).collect::<Vec<_>>();
        let anchors = vault.anchors.map_or_else(|| vec![data_dir.join("anchor")], all);
        if anchors.is_empty() {
            return Err(self.wrong("vault.anchors", "must name at least one file"));
        }
        let copies = vault.copies.map_or_else(Vec::new, all);
        for (key, paths) in [("vault.anchors", &anchors), ("vault.copies", &copies)] {
            let mut sorted = paths.clone();
            sorted.sort();
            sorted.dedup();
            if sorted.len() != paths.len() {
                return Err(self.wrong(key, "names a path twice"));
            }
        }
        Ok(VaultSettings { anchors, copies })
    }

    fn limits(&self, limits: &crate::config::Limits) -> Result<LimitSettings, SettingsError> {
        Ok(LimitSettings {
            body_bytes_max: self.range(
                "limits.body_bytes_max",
                limits.body_bytes_max,
                49_152,
                1024,
                49_152,
            )?,
            queue_events_max: self.range(
                "limits.queue_events_max",
                limits.queue_events_max,
                8192,
                1,
                1_000_000,
            )?,
            events_per_second: self.range(
                "limits.events_per_second",
                limits.events_per_second,
                0,
                0,
                10_000_000,
            )?,
            reads_per_second: self.range(
                "limits.reads_per_second",
                limits.reads_per_second,
                200,
                0,
                1_000_000,
            )?,
            disk_free_bytes_min: self.range(
                "limits.disk_free_bytes_min",
                limits.disk_free_bytes_min,
                268_435_456,
                0,
                1_099_511_627_776,
            )?,
            request_timeout_ms: self.range(
                "limits.request_timeout_ms",
                limits.request_timeout_ms,
                10_000,
                100,
                600_000,
            )?,
        })
    }

    fn validation(&self, validation: crate::config::Validation) -> Result<ValidationSettings, SettingsError> {
        let custom_types = validation.custom_types.unwrap_or_default();
        let letter = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        for name in &custom_types {
            if name.is_empty() || name.len() > 64 || !name.chars().all(letter) {
                return Err(
                    self.wrong("validation.custom_types", "each must be 1 to 64 characters of A-Z 0-9 _")
                );
            }
            if name.starts_with("DSR_") || name.starts_with("TASK_") {
                return Err(
                    self.wrong("validation.custom_types", "names that start with DSR_ or TASK_ are reserved")
                );
            }
        }
        Ok(ValidationSettings {
            strict: validation.strict.unwrap_or(false),
            pii: self.choice(
                "validation.pii",
                validation.pii.as_deref(),
                &[("refuse", PiiMode::Refuse), ("mask", PiiMode::Mask)],
            )?,
            custom_types,
        })
    }

    fn issuer(&self, issuer: crate::config::Issuer, origin: &str) -> Result<IssuerSettings, SettingsError> {
        let audience = issuer.audience.unwrap_or_else(|| origin.to_owned());
        if audience.is_empty() || audience.len() > 256 || !audience.chars().all(|c| c.is_ascii_graphic()) {
            return Err(self.wrong("issuer.audience", "must be 1 to 256 characters of visible ASCII"));
        }
        let token_ttl_s = self.range("issuer.token_ttl_s", issuer.token_ttl_s, 900, 60, 3600)?;
        Ok(IssuerSettings { audience, token_ttl_s })
    }

    fn range<T: TryFrom<u64>>(
        &self,
        key: &str,
        value: Option<u64>,
        default: u64,
        min: u64,
        max: u64,
    ) -> Result<T, SettingsError> {
        let value = value.unwrap_or(default);
        let outside = || self.wrong(key, format!("must be {min} to {max}"));
        if value < min || value > max {
            return Err(outside());
        }
        T::try_from(value).map_err(|_| outside())
    }

    /// Returns the value of a name; the first one is the default.
    fn choice<T: Copy>(
        &self,
        key: &str,
        value: Option<&str>,
        choices: &[(&str, T)],
    ) -> Result<T, SettingsError> {
        let mut found = choices.iter().filter(|(name, _)| value.is_none_or(|value| value == *name));
        found.next().map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.wrong(key, format!("must be one of {}", names.join(", ")))
        })
    }
}

/// Says what the parser found without quoting the file.
fn describe(text: &str, error: &toml::de::Error) -> SettingsError {
    let offset = error.span().map_or(0, |span| span.start);
    let line = line_at(text, offset);
    let Ok(table) = DeTable::parse(text) else { return SettingsError::Syntax { line } };
    let key = key_at(table.get_ref(), offset).unwrap_or_else(|| "configuration".to_owned());
    // The parser's messages quote values ("invalid type: string "…", expected u64"); only what it expected is ours.
    let message = error.message();
    let problem = if message.starts_with("unknown field") {
        "is not a known key".to_owned()
    } else if let Some((_, expected)) = message.rsplit_once(", expected ") {
        format!("must be {}", expected.lines().next().unwrap_or("another type").trim_end_matches('`'))
    } else {
        "has a value of the wrong type".to_owned()
    };
    SettingsError::Key { key, problem, line: Some(line) }
}

/// Returns the line of a byte offset, counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Returns the path of the innermost key whose name or value stands at `offset`.
fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    for (key, value) in table {
        let inside = match value.get_ref() {
            // A section's own span is its header only, so its keys are always searched.
            DeValue::Table(inner) => key_at(inner, offset),
            _ => None,
        };
        if let Some(inner) = inside {
            return Some(format!("{}.{inner}", key.get_ref()));
        }
        if key.span().contains(&offset) || value.span().contains(&offset) {
            return Some(key.get_ref().to_string());
        }
    }
    None
}

/// Returns the line on which a key, given with its sections, stands.
fn line_of_key(text: &str, path: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
        if names.peek().is_none() {
            return Some(line_at(text, key.span().start));
        }
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
