//! Judges the certificate of an app.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::{ParsedCertificate, VerifierBuilderError};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::refused::Refused;
use crate::certificate::Facts;

/// rustls's verifier, which also accepts a certificate that the configuration names itself. Its error carries the
/// facts of a refused one: nothing else of it is left after the handshake.
#[derive(Debug)]
pub(super) struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Certificates are accepted that one of `roots` has issued, or that are among `pinned`.
    pub(super) fn new(
        roots: RootCertStore,
        pinned: Vec<CertificateDer<'static>>,
    ) -> Result<Verifier, VerifierBuilderError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Verifier { authorities, pinned })
    }

    /// A self-signed certificate is what most people make by `openssl req -x509`: an authority's by its constraints,
    /// which webpki takes for no server's. Named as trusted it is, for its names and its time.
    fn verify_pinned(certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let facts = Facts::of(certificate).ok_or(CertificateError::BadEncoding)?;
        let time = |unix_s: i64| {
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(unix_s).unwrap_or(0)))
        };
        let (not_before, not_after) = (time(facts.not_before_unix_s), time(facts.not_after_unix_s));
        if now < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = if self.pinned.contains(certificate) {
            Verifier::verify_pinned(certificate, name, now).map(|()| ServerCertVerified::assertion())
        } else {
            self.authorities.verify_server_cert(certificate, intermediates, name, ocsp, now)
        };
        verified.map_err(|error| match error {
            Error::InvalidCertificate(fault) => {
                let refused = Refused::new(&fault, certificate, name, now);
                CertificateError::Other(OtherError(Arc::new(refused))).into()
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
