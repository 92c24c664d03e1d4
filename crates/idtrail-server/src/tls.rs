//! TLS of the server: the certificate on disk, read again when it changes.
//!
//! Certificates are renewed every few weeks by other programs; a server that has to be restarted for it will one day
//! serve an expired one. A new pair is used from the next connection on. A pair that cannot be used (half-written,
//! chain and key that do not belong together) is refused and the last good one stays.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use idtrail_port::{Clock, Disk, read_whole};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Longest certificate chain or key in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("file cannot be read. path={}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should, in PEM.
    #[error("file holds no {what} in PEM. path={}", path.display())]
    Pem {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate and key cannot be used together")]
    Pair(#[source] rustls::Error),
}

/// A certificate with its key, as it is on disk now.
pub struct Certificate {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    digest: [u8; 32],
    config: Arc<ServerConfig>,
    loaded_ms: i64,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads a certificate chain and its key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        cert: PathBuf,
        key: PathBuf,
    ) -> Result<Self, TlsError> {
        let (digest, config) = read(&*disk, &cert, &key, None)?.expect("nothing was read before");
        let current = RwLock::new(Current { digest, config, loaded_ms: clock.wall_ms() });
        Ok(Self { disk, clock, cert, key, current })
    }

    /// Returns how to answer a connection that comes in now.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current().config)
    }

    /// Returns when the certificate in use was read, in milliseconds since 1970.
    pub fn loaded_ms(&self) -> i64 {
        self.current().loaded_ms
    }

    /// Reads the files and uses them from now on if they say something new. Returns whether they did.
    ///
    /// # Errors
    /// [`TlsError`]; the last good pair stays in use.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let known = self.current().digest;
        let Some((digest, config)) = read(&*self.disk, &self.cert, &self.key, Some(known))? else {
            return Ok(false);
        };
        let current = Current { digest, config, loaded_ms: self.clock.wall_ms() };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(true)
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The digest of both files, and what they come to.
type Read = ([u8; 32], Arc<ServerConfig>);

/// Reads the pair, unless its digest is `known`.
fn read(
    disk: &dyn Disk,
    cert: &std::path::Path,
    key: &std::path::Path,
    known: Option<[u8; 32]>,
) -> Result<Option<Read>, TlsError> {
    let file = |path: &std::path::Path| {
        read_whole(disk, path, FILE_BYTES_MAX)
            .map(Zeroizing::new)
            .map_err(|source| TlsError::File { path: path.to_owned(), source })
    };
    let (chain, secret) = (file(cert)?, file(key)?);
    let digest: [u8; 32] =
        Sha256::new().chain_update(&*chain).chain_update([0]).chain_update(&*secret).finalize().into();
    if known == Some(digest) {
        return Ok(None);
    }
    let wrong = |what, path: &std::path::Path| TlsError::Pem { what, path: path.to_owned() };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or_else(|| wrong("certificate", cert))?;
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| wrong("private key", key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some((digest, Arc::new(config))))
}

#[cfg(test)]
mod tests {
    use idtrail_port::os::OsDisk;
    use idtrail_port::{Privacy, write_atomic};

    use super::*;
    use crate::token::tests::TestClock;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_new_pair_is_used_and_a_bad_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let put = |path: &std::path::Path, text: &str| {
            write_atomic(&OsDisk, path, text.as_bytes(), Privacy::Owner).unwrap();
        };
        let (first, second) = (pair(), pair());
        put(&cert, &first.0);
        put(&key, &first.1);
        let clock = TestClock::at_s(1_790_000_000);
        let open = || Certificate::open(Arc::new(OsDisk), clock.clone(), cert.clone(), key.clone());
        let certificate = open().unwrap();
        let in_use = certificate.config();
        assert!(!certificate.reload_if_changed().unwrap());
        // Half of a renewal: the chain is new, the key is not.
        put(&cert, &second.0);
        assert!(matches!(certificate.reload_if_changed(), Err(TlsError::Pair(_))));
        assert!(Arc::ptr_eq(&in_use, &certificate.config()));
        put(&key, &second.1);
        assert!(certificate.reload_if_changed().unwrap());
        assert!(!Arc::ptr_eq(&in_use, &certificate.config()));
        for (chain, secret) in [("", second.1.as_str()), (second.0.as_str(), "x"), (second.1.as_str(), "")] {
            put(&cert, chain);
            put(&key, secret);
            let error = certificate.reload_if_changed().unwrap_err();
            assert!(matches!(error, TlsError::Pem { .. }), "{error}");
            assert!(open().is_err());
        }
        OsDisk.remove(&key).unwrap();
        assert!(matches!(certificate.reload_if_changed(), Err(TlsError::File { .. })));
    }
}
