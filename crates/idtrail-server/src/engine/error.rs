//! Why an installation could not be made or opened.

use std::path::PathBuf;

use idtrail_identity::IdentityError;
use idtrail_identity::tokens::TokenKeysError;
use idtrail_index::IndexError;
use idtrail_index::shred::ShredError;
use idtrail_log::LogError;
use idtrail_vault::VaultError;

use crate::quarantine::QuarantineError;

/// Why an installation could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The data directory cannot be used.
    #[error("the data directory cannot be used. path={}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// The vault could not be opened.
    #[error("the vault could not be opened")]
    Vault(#[from] VaultError),
    /// The log could not be opened.
    #[error("the log could not be opened")]
    Log(#[from] LogError),
    /// The configuration names another log or tenant than the vault.
    #[error(
        "the vault belongs to another log or tenant than the configuration names; check `origin` and `tenant`"
    )]
    Foreign,
    /// The logs of the installation do not fit together.
    #[error("the logs of the installation do not fit together: {what}. path={}", path.display())]
    Chain {
        /// What is wrong.
        what: &'static str,
        /// The directory of the log.
        path: PathBuf,
    },
    /// A salt of `[identity]` is not where the configuration says.
    #[error("a salt of [identity] cannot be read")]
    SaltFile(#[from] crate::settings::SettingsError),
    /// A salt of `[identity]` is no text.
    #[error("a salt of [identity] is no UTF-8. place={place}")]
    Salt {
        /// The file or environment variable.
        place: String,
    },
    /// The index could not be opened.
    #[error("the index could not be opened")]
    Index(#[source] IndexError),
    /// An order to destroy keys that a former process left cannot be finished.
    #[error("an order to destroy keys is open and cannot be finished")]
    Shred(#[from] ShredError),
    /// The log's name cannot be the name of a key.
    #[error("the log's name cannot be the name of a key")]
    Name(#[from] idtrail_tlog::KeyError),
    /// The configuration of identity makes no sense.
    #[error("the section [identity] of the configuration cannot be used")]
    Identity(#[from] IdentityError),
    /// The keys of identifiers cannot be used.
    #[error("the keys of identifiers cannot be used")]
    TokenKeys(#[from] TokenKeysError),
    /// The proposals that wait could not be read.
    #[error("the proposals that wait could not be read")]
    Proposals(#[from] super::proposals::ProposalsError),
    /// The quarantine could not be opened.
    #[error("the quarantine could not be opened")]
    Quarantine(#[from] QuarantineError),
}
