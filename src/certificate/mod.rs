//! X.509 certificates: read from PEM, with their keys, and the facts that one states about itself.
//! Pure.

mod facts;
mod pair;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

pub use self::facts::Facts;
pub use self::pair::{Pair, PairError};

/// All certificates of a PEM file; `None` if there is none, or one that cannot be read.
pub fn read_certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!certificates.is_empty()).then_some(certificates)
}
