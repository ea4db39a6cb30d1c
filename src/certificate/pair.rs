//! A certificate chain with the private key of its first certificate.

use std::fmt;
use std::sync::Arc;

use rustls::Error;
use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;

use super::{Facts, read_certificates};

/// A chain and its key, which belong together.
#[derive(Clone)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    not_after_unix_s: i64,
}

/// A fault of the two files; sentences `what; fix`.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PairError {
    /// No certificate, or one that cannot be read.
    #[error("holds no usable certificate; write PEM, the leaf certificate first, then the intermediate ones")]
    Certificate,
    /// No private key.
    #[error("holds no private key; write PEM without a passphrase (PKCS#8, PKCS#1 or SEC1)")]
    NoKey,
    /// A key that ring cannot use.
    #[error("holds a key of an unsupported kind; use RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519")]
    KeyKind,
    /// The key is another certificate's.
    #[error("is not the key of the first certificate; write the two files that were made together")]
    KeyOfAnother,
}

impl PairError {
    /// The setting that names the file.
    pub fn setting(self) -> &'static str {
        match self {
            PairError::Certificate => "cert",
            PairError::NoKey | PairError::KeyKind | PairError::KeyOfAnother => "key",
        }
    }
}

impl Pair {
    /// Reads the two PEM files.
    ///
    /// # Errors
    /// Every fault, in the order of the files.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Pair, Vec<PairError>> {
        let chain = read_certificates(cert).ok_or(PairError::Certificate);
        let chain = chain.and_then(|chain| {
            let ends: Option<Vec<i64>> = chain.iter().map(|der| Some(Facts::of(der)?.not_after_unix_s)).collect();
            let not_after_unix_s = ends.and_then(|ends| ends.into_iter().min()).ok_or(PairError::Certificate)?;
            Ok((chain, not_after_unix_s))
        });
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| PairError::NoKey);
        let ((chain, not_after_unix_s), key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
        };
        let certified = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| match error {
            Error::InconsistentKeys(_) => vec![PairError::KeyOfAnother],
            Error::InvalidCertificate(_) => vec![PairError::Certificate],
            _ => vec![PairError::KeyKind],
        })?;
        Ok(Pair { certified: Arc::new(certified), not_after_unix_s })
    }

    /// The pair as rustls takes it.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The end of the certificate that ends first, Unix seconds.
    pub fn not_after_unix_s(&self) -> i64 {
        self.not_after_unix_s
    }
}

/// The certificates say it: each has one key.
impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.certified.cert == other.certified.cert
    }
}

impl Eq for Pair {}

/// Without the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("not_after_unix_s", &self.not_after_unix_s).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["app.internal".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn errors(cert: &str, key: &str) -> Vec<PairError> {
        Pair::from_pem(cert.as_bytes(), key.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_faults_of_both_files_are_found_at_once() {
        let (cert, key) = files();
        assert!(Pair::from_pem(cert.as_bytes(), key.as_bytes()).is_ok());
        assert_eq!(errors("", ""), [PairError::Certificate, PairError::NoKey]);
        assert_eq!(errors(&key, &key), [PairError::Certificate], "a key where certificates should be");
        assert_eq!(errors(&cert, &cert), [PairError::NoKey]);
        assert_eq!(errors(&cert, &files().1), [PairError::KeyOfAnother]);
        assert_eq!(errors(&cert.replace("-----END", ""), &key), [PairError::Certificate]);
        let short = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(errors(&cert, short), [PairError::KeyKind]);
    }

    #[test]
    fn two_pairs_are_equal_if_their_certificates_are_and_none_shows_its_key() {
        let ((cert, key), (other_cert, other_key)) = (files(), files());
        let pair = || Pair::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(pair(), pair());
        assert_ne!(pair(), Pair::from_pem(other_cert.as_bytes(), other_key.as_bytes()).unwrap());
        assert!(format!("{:?}", pair()).starts_with("Pair { not_after_unix_s: "));
    }
}
