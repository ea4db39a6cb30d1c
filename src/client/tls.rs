//! TLS towards a destination: whom a client trusts, the certificate that it shows, and the handshake.

mod failure;
mod own_certificate;
mod refused;
#[cfg(test)]
mod tests;
mod trusted;
mod verifier;

use std::sync::Arc;

use pingora_core::protocols::l4::stream::Stream as Socket;
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::ServerName;
use thiserror::Error;

pub use self::failure::{Shown, TlsFailure};
pub(super) use self::own_certificate::OwnCertificate;
pub use self::refused::{Fault, Refused};
pub use self::trusted::Trusted;
use self::verifier::Verifier;
use super::app_stream::AppStream;
use crate::certificate::Pair;

/// The one protocol that is spoken over TLS (RFC 7301).
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// TLS towards a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Name to ask for and to verify.
    pub server_name: String,
    /// Trusted in place of the system's authorities.
    pub trusted: Option<Trusted>,
    /// Shown to an app that asks for a certificate.
    pub own: Option<Pair>,
}

impl Tls {
    /// TLS with a name of an authority that the system trusts.
    pub fn of(server_name: String) -> Tls {
        Tls { server_name, trusted: None, own: None }
    }

    /// A certificate can be for this name: it is a DNS name or an address.
    pub fn is_server_name(name: &str) -> bool {
        ServerName::try_from(name).is_ok()
    }
}

/// Why a client cannot be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The system's certificates cannot be loaded.
    #[error("the system's CA certificates cannot be loaded ({0}); install ca-certificates or set SSL_CERT_FILE")]
    SystemCa(String),
    /// No certificate can be for it.
    #[error("`{0}` is no name that a certificate can be for; set upstream.tls.server_name")]
    ServerName(String),
    /// rustls cannot speak what is asked of it.
    #[error("TLS cannot be set up ({0})")]
    Tls(rustls::Error),
}

/// Shakes hands as the client of one destination.
pub(super) struct Handshakes {
    connector: pingora_rustls::TlsConnector,
    name: ServerName<'static>,
    own: Arc<OwnCertificate>,
}

impl Handshakes {
    /// # Errors
    /// See [`ClientError`].
    pub(super) fn new(tls: &Tls) -> Result<Handshakes, ClientError> {
        let name = ServerName::try_from(tls.server_name.clone())
            .map_err(|_| ClientError::ServerName(tls.server_name.clone()))?;
        let verifier = match &tls.trusted {
            Some(trusted) => Verifier::new(trusted.roots().clone(), trusted.certificates().to_vec()),
            None => Verifier::new(trusted::of_system()?, Vec::new()),
        };
        let verifier = verifier.map_err(|error| ClientError::SystemCa(error.to_string()))?;
        let own = Arc::new(OwnCertificate::new(tls.own.as_ref()));
        let config = config(verifier, own.clone()).map_err(ClientError::Tls)?;
        Ok(Handshakes { connector: Arc::new(config).into(), name, own })
    }

    /// Has no deadline of its own.
    pub(super) async fn shake(&self, socket: Socket) -> Result<AppStream, TlsFailure> {
        match self.connector.connect(self.name.clone(), socket).await {
            Ok(stream) => Ok(AppStream::tls(stream, self.own.clone())),
            Err(error) => Err(TlsFailure::of_handshake(&error, self.own.shown())),
        }
    }
}

fn config(verifier: Verifier, own: Arc<OwnCertificate>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(own);
    config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
    Ok(config)
}
