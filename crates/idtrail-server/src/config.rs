//! The configuration file as it is written: raw TOML structures, every key optional, unknown keys refused.
//!
//! Nothing here is checked beyond its type; [`crate::settings`] turns it into values that the rest of the program may
//! trust, fills in the defaults named below and refuses what is unsafe. A secret never stands in the file: where one
//! is needed, the file says in which other file or environment variable it is.
//!
//! ```toml
//! tenant   = "default"
//! origin   = "localhost/idtrail/4f1c9a02"
//! data_dir = "data"
//! kek      = { file = "kek.key" }
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the one tenant that this process serves. It is part of every identifier's token, so it can never be
    /// changed later. 1 to 64 characters of `A-Z a-z 0-9 . _ -`. Default: `default`.
    pub tenant: Option<String>,
    /// Name of the log, a schemeless URL such as `example.org/audit/2026`. It stands in every checkpoint and must be
    /// unique in the world, because verifiers tell logs apart by it. 1 to 128 characters of visible ASCII without
    /// `+`. No default: `idtrail init` writes it.
    pub origin: Option<String>,
    /// Directory of everything that the server stores. A relative path starts at the configuration file's directory.
    /// No default: `idtrail init` writes it.
    pub data_dir: Option<PathBuf>,
    /// Address and port of the HTTP interface. Any other than a loopback address needs `[tls]`, because credentials
    /// must not cross a network in the clear. Default: `127.0.0.1:7070`.
    pub listen: Option<String>,
    /// Where the key that encrypts the vault's keys (32 bytes as hex, base64 or raw) is. Without it nothing that was
    /// sealed can be opened again, so keep it apart from the data and its backups. No default: `idtrail init` makes
    /// one.
    pub kek: Option<SecretSource>,
    /// Where the vault keeps its anchors and copies.
    pub vault: Option<Vault>,
    /// Bounds on queues, rates and times.
    pub limits: Option<Limits>,
    /// What is accepted as an event.
    pub validation: Option<Validation>,
    /// Tokens for persons.
    pub issuer: Option<Issuer>,
    /// OpenID Connect issuers whose tokens count for persons beside our own; `[[oidc]]`, one section each. Default:
    /// none.
    pub oidc: Option<Vec<Oidc>>,
    /// Encryption of connections.
    pub tls: Option<Tls>,
    /// Bounds on connections.
    pub http: Option<Http>,
    /// The process' own log.
    pub log: Option<Log>,
    /// Files of the journal.
    pub segments: Option<Segments>,
    /// Expiry and erasure.
    pub retention: Option<Retention>,
    /// Requests of data subjects.
    pub rights: Option<Rights>,
    /// Many events in one request.
    pub batch: Option<Batch>,
    /// Events that were refused but are kept.
    pub quarantine: Option<Quarantine>,
    /// Outside systems that every event is delivered to; `[sinks.NAME]`, one section each. Default: none.
    pub sinks: Option<BTreeMap<String, Sink>>,
    /// Sinks that operators add without a restart.
    pub sink_api: Option<SinkApi>,
    /// How identifiers become tokens.
    pub identity: Option<Identity>,
}

/// Where a secret is: exactly one of the two.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// File that holds the secret. A relative path starts at the configuration file's directory.
    pub file: Option<PathBuf>,
    /// Name of the environment variable that holds the secret.
    pub env: Option<String>,
}

/// The section `[vault]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// Files that each hold the vault's anchor, the one cell that must really be erasable for a shred to be final.
    /// Losing all of them makes every event unreadable for ever: name at least two, on different devices, none of
    /// them in a backup or snapshot. Default: one, `anchor` in `data_dir`.
    pub anchors: Option<Vec<PathBuf>>,
    /// Directories that each get a copy of the newest vault body before an old one is destroyed. Without a copy on
    /// another device, a disk lost right after a shred takes all keys with it. Default: none.
    pub copies: Option<Vec<PathBuf>>,
}

/// The section `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Longest accepted event in bytes of JSON. A sealed event must fit into 65,535 bytes, therefore the upper bound.
    /// 1024 to 49152. Default: 49152.
    pub body_bytes_max: Option<u64>,
    /// Events that may wait for the log before new ones are answered 503. More waiting means longer answers, never
    /// more throughput. 1 to 1,000,000. Default: 8192.
    pub queue_events_max: Option<u64>,
    /// Events per second accepted from one API key; 0 = no limit. Default: 0.
    pub events_per_second: Option<u64>,
    /// Reading requests per second accepted from one credential; 0 = no limit. Apart from the events, so that an
    /// export cannot starve ingestion. Default: 200.
    pub reads_per_second: Option<u64>,
    /// Milliseconds after which a request is answered 503. 100 to 600,000. Default: 10000.
    pub request_timeout_ms: Option<u64>,
    /// Free bytes of the data directory's disk below which the server is not ready and answers events 503; what it holds
    /// can still be read, verified and erased. It looks once a second. 0 to 1,099,511,627,776. Default: 268435456.
    pub disk_free_bytes_min: Option<u64>,
}

/// The section `[validation]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Refuses what is otherwise accepted with a warning, such as a customer id that looks like a truncated hash.
    /// Default: false.
    pub strict: Option<bool>,
    /// What happens to an e-mail address, telephone number, card number or IBAN in clear: `refuse` answers 422,
    /// `mask` stores `***` in its place and says so in the receipt. Default: `refuse`.
    pub pii: Option<String>,
    /// Names of further event types, each of `A-Z 0-9 _`, 1 to 64 characters. Default: none.
    pub custom_types: Option<Vec<String>>,
}

/// The section `[issuer]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The `aud` claim of tokens, which names this installation: a token for another one is refused. Default: the
    /// origin.
    pub audience: Option<String>,
    /// Seconds for which a token is valid. Short, because a token cannot be called back. 60 to 3600. Default: 900.
    pub token_ttl_s: Option<u64>,
}

/// A section `[[oidc]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// The issuer's address, exactly as it stands in the claim `iss`; `https`, or `http` on a loopback address. No
    /// default.
    pub issuer: Option<String>,
    /// What the claim `aud` has to hold: the name by which the issuer knows this installation. No default: a token made
    /// for another application must never count here.
    pub audience: Option<String>,
    /// Where the issuer's keys are. Default: what `<issuer>/.well-known/openid-configuration` says.
    pub jwks_url: Option<String>,
    /// Signature algorithms that count: of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384` and
    /// `EdDSA`. Default: `["RS256", "ES256", "EdDSA"]`.
    pub algorithms: Option<Vec<String>>,
    /// Claim that holds the person's groups or roles, a text or a list of texts; a dot leads into objects, as in
    /// `realm_access.roles`. Default: `roles`.
    pub roles_claim: Option<String>,
    /// What a value of that claim allows here, such as `{ "privacy-team" = "dpo" }`; other values allow nothing. No
    /// default.
    pub roles: Option<BTreeMap<String, String>>,
    /// Seconds by which the issuer's clock may differ. 0 to 300. Default: 30.
    pub clock_skew_s: Option<u64>,
    /// File with the certificate authority of the issuer, in PEM, if it is not one that the system trusts. A relative
    /// path starts at the configuration file's directory. Default: none.
    pub ca_file: Option<PathBuf>,
}

/// The section `[tls]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain in PEM, the server's own certificate first. Read again when it changes and on SIGHUP. A
    /// relative path starts at the configuration file's directory. Default: none.
    pub cert_file: Option<PathBuf>,
    /// Its private key in PEM. Default: none.
    pub key_file: Option<PathBuf>,
    /// Says that a proxy in front of this server terminates TLS and that nobody else can reach the address; only then is
    /// a clear-text address other than loopback accepted. Default: false.
    pub upstream: Option<bool>,
}

/// The section `[http]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Longest head of a request in bytes. 8192 to 1,048,576. Default: 65536.
    pub header_bytes_max: Option<u64>,
    /// Milliseconds in which the head of a request has to arrive, the wait on an idle connection included. 100 to
    /// 600,000. Default: 30000.
    pub header_timeout_ms: Option<u64>,
    /// Milliseconds in which the body of a request has to arrive. 100 to 3,600,000. Default: 30000.
    pub body_timeout_ms: Option<u64>,
    /// Connections at the same time; further ones wait to be accepted. 1 to 1,000,000. Default: 10000.
    pub connections_max: Option<u64>,
    /// Milliseconds that requests under way get when the server is stopped. 0 to 600,000. Default: 10000.
    pub drain_timeout_ms: Option<u64>,
}

/// The section `[log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `text` for people or `json` for collectors. Default: `text`.
    pub format: Option<String>,
}

/// The section `[segments]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segments {
    /// Bytes of one journal file, all of which are written when it is made: larger files are made less often, smaller
    /// ones take less room on a small disk. 1,048,576 to 4,294,967,296. Default: 67108864.
    pub segment_bytes: Option<u64>,
}

/// The section `[retention]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Destroys the keys of a class and month by itself once its time has come; without it, months expire only by
    /// `idtrail retention apply`. How long each class is kept stands in the log. Default: true.
    pub automatic: Option<bool>,
    /// Days for which the repetition of an erased event is recognised and answered `erased`. Longer than clients
    /// repeat, no longer than needed. 1 to 366. Default: 35.
    pub suppression_days: Option<u64>,
}

/// The section `[rights]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    /// Hours between the approval of an erasure and its beginning, in which it can be taken back. 0 to 720. Default: 24.
    pub grace_hours: Option<u64>,
    /// Days for which a copy of the vault or of its keys may last outside this installation, in backups or in a key
    /// service; certificates say that nothing can be brought back after them. 0 to 3650. Default: 35.
    pub copies_days: Option<u64>,
    /// File with the records of processing (Art. 30) as JSON, from which the information of Art. 15 follows. Without it
    /// requests for access are refused. Default: none.
    pub records: Option<PathBuf>,
    /// Hours for which a person can fetch their package. 1 to 8760. Default: 168.
    pub link_hours: Option<u64>,
    /// How often a package can be fetched. 1 to 1000. Default: 5.
    pub link_fetches: Option<u64>,
    /// Seconds until a system that did not answer is asked again; doubled each time. 1 to 3600. Default: 30.
    pub retry_seconds: Option<u64>,
    /// The controller's legal time zone, in which days end: a POSIX TZ text such as `CET-1CEST,M3.5.0,M10.5.0/3`.
    /// Default: UTC0.
    pub zone: Option<String>,
    /// File with working days as JSON: `id`, `weekend` (1 for Monday to 7), `years` (first and last that the list covers) and
    /// `holidays`. Default: Saturdays and Sundays, no holidays.
    pub calendar: Option<PathBuf>,
}

/// The section `[batch]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Longest accepted batch in bytes. 1024 to 268435456. Default: 16777216.
    pub bytes_max: Option<u64>,
    /// Most events in one batch; never more than may wait for the log. 1 to 100000. Default: 5000.
    pub events_max: Option<u64>,
}

/// The section `[quarantine]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Days after which a refused event is destroyed unless somebody has corrected it. 1 to 366. Default: 30.
    pub days: Option<u64>,
    /// Most events that are kept; when there are as many, invalid events are answered 503 and not kept, so that none is
    /// lost in silence. 1 to 1000000. Default: 100000.
    pub entries_max: Option<u64>,
}

/// A section `[sinks.NAME]`. The name has 1 to 40 lower-case letters, digits, `-` and `_`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Which entries the sink wants, such as `{{auditEvent.channelType}} = 'VOICE'`. Default: `{{auditEvent}} != null`.
    pub filter: Option<String>,
    /// What they become: lines `source → target.column`, then, if wanted, `: type` and `required`. Default: a column for
    /// every known member.
    pub mapping: Option<Vec<String>>,
    /// What goes out about a person: `none`, `tokens` or `sealed`. Default: `none`.
    pub pii: Option<String>,
    /// How a person is taken out: `delete`, `null` or `none`. No default: it decides what may go out.
    pub erase: Option<String>,
    /// Seconds that one call to the target may take. 1 to 600. Default: 30.
    pub deadline_s: Option<u64>,
    /// Who takes persons out, with a login and grants of its own: a section, `[sinks.NAME.rights]`, with `user`, `password`,
    /// `key`, `role` or `warehouse`, as the kind of target needs; docs/sinks has them. Default: nobody.
    pub rights: Option<toml::Table>,
    /// Where the rows go: a section of its own, `[sinks.NAME.target]`, with `kind` = `files`, `postgres`, `webhook`, `snowflake`,
    /// `bigquery`, `azure` or `s3` and the keys of that kind, which docs/sinks lists. A relative path starts at the configuration file's directory. No default.
    pub target: Option<toml::Table>,
}

/// The section `[sink_api]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkApi {
    /// Database servers, `host:port`, that sinks may connect to which were added over the API. Without it nobody could keep
    /// such a sink from reaching machines that only this server can reach. Default: none.
    pub hosts: Option<Vec<String>>,
}

/// The section `[identity]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Numbers of the contact centre itself, `+` and digits; a `*` at the end stands for the rest. They name nobody, so that a
    /// transferred call does not name its trunk. Default: none.
    pub own_numbers: Option<Vec<String>>,
    /// Other values that name nobody, in their normal form (`+4930123`, `desk@example.com`, `crm:4711`); a `*` at the end
    /// stands for anything. Withheld and toll-free numbers and role mailboxes never name anybody. Default: none.
    pub blocked: Option<Vec<String>>,
    /// Systems that issue account numbers: names of lower-case letters and digits, which requests send as `namespace`. Raw
    /// account numbers of others are refused. Default: none.
    pub issuers: Option<Vec<String>>,
    /// File with the salt of hashes in events whose `hashScheme` is none of `legacy_hash`: SHA-256 of the value with the salt
    /// behind it. With it such events join whoever shows the value. Line ends at its end do not count. Default: no salt.
    pub event_salt_file: Option<PathBuf>,
    /// The same salt by reference, in the place of `event_salt_file`: `{ file = "path" }` or `{ env = "NAME" }`. Default: none.
    pub event_salt: Option<SecretSource>,
    /// Whether statements about identities and changes of the rules need a second data protection officer, who approves what
    /// the first one proposed. Default: `false`.
    pub four_eyes: Option<bool>,
    /// How other systems hash identifiers; `[[identity.legacy_hash]]`, one section each. Default: none.
    pub legacy_hash: Option<Vec<LegacyHash>>,
}

/// A section `[[identity.legacy_hash]]`. It must stay as it is as long as events with its hashes are kept.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegacyHash {
    /// Its name, which events send as `hashScheme`. It is part of the tokens and can never be changed. No default.
    pub id: Option<String>,
    /// What is hashed: `phone`, `email` or `account`. No default.
    pub r#type: Option<String>,
    /// `sha256` or `sha512`. Default: `sha256`.
    pub algorithm: Option<String>,
    /// The text that is hashed, with `{value}` and `{salt}`. Default: `{value}{salt}`.
    pub template: Option<String>,
    /// File with the salt. Line ends at its end do not count. Default: no salt.
    pub salt_file: Option<PathBuf>,
    /// The salt by reference, in the place of `salt_file`: `{ file = "path" }` or `{ env = "NAME" }`. Default: none.
    pub salt: Option<SecretSource>,
    /// The forms in which values were hashed: `canonical` (E.164, the address in lower case, issuer and number), `tel_uri`,
    /// `digits`, `without_issuer`. Default: `canonical`.
    pub formats: Option<Vec<String>>,
    /// `hex` or `base64`. Default: `hex`.
    pub encoding: Option<String>,
}
