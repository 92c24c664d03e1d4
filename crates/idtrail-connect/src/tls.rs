//! TLS towards targets: one provider for all, the system's certificate authorities or those that an admin names.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::secret::Secret;
use crate::verdict::{Failure, Status};

/// Makes a client's configuration that checks certificate and name.
pub(crate) fn client_config(ca: Option<&Secret>) -> Result<Arc<ClientConfig>, Failure> {
    let broken = || Failure::stop("certificate_authorities", Status::none());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| broken())?;
    let config = match ca {
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(|_| broken())?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        None => builder.with_platform_verifier().map_err(|_| broken())?.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Reads certificates in PEM; at least one.
pub(crate) fn certificates(pem: &Secret) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let broken = || Failure::stop("certificate_authorities", Status::none());
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose().as_bytes()).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(broken)
}

/// Tells whether an error has a refused certificate somewhere in its chain.
pub(crate) fn is_certificate_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // What an IO error wraps is not its source but stands beside it, and clients wrap one IO error in another.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        current = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
