//! The certificates that a client trusts.

use std::fmt;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::ClientError;
use crate::certificate::read_certificates;

/// Certificates that a configuration trusts: authorities, or the app's own.
#[derive(Clone)]
pub struct Trusted {
    certificates: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
}

impl Trusted {
    /// Those of a PEM file; `None` if there is none, or one that cannot be used.
    pub fn from_pem(pem: &[u8]) -> Option<Trusted> {
        let certificates = read_certificates(pem)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).ok()?;
        }
        Some(Trusted { certificates, roots })
    }

    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(super) fn roots(&self) -> &RootCertStore {
        &self.roots
    }
}

impl PartialEq for Trusted {
    fn eq(&self, other: &Trusted) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for Trusted {}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trusted({})", self.certificates.len())
    }
}

/// The system's authorities. One that cannot be used does not cost the others.
pub(super) fn of_system() -> Result<RootCertStore, ClientError> {
    let system = |problem: String| ClientError::SystemCa(problem);
    let certificates = pingora_rustls::load_native_certs().map_err(|error| system(error.kind().to_string()))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() { Err(system("none found".to_owned())) } else { Ok(roots) }
}
