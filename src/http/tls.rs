//! TLS of a listener: certificates from PEM to something that shakes hands, replaceable at any
//! time. Pure but for the handshake itself.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::{Peek as _, Stream};
use pingora_rustls::{RootCertStore, ServerConfig, WebPkiClientVerifier, version};
use prometheus::IntGauge;
use rustls::sign::SingleCertAndKey;
use thiserror::Error;

use crate::certificate::{Pair, PairError, read_certificates};

/// The one protocol that is spoken over TLS (RFC 7301).
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// What a listener shows its clients and demands of them.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ServerConfig>,
    not_after_unix_s: i64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("not_after_unix_s", &self.not_after_unix_s).finish_non_exhaustive()
    }
}

/// What is wrong with the files of a listener's TLS; sentences `what; mend`.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum IdentityError {
    /// The certificate or its key.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// No certificate of an authority.
    #[error("holds no usable CA certificate; write the PEM of the authority that issues the clients' certificates")]
    ClientCa,
}

impl IdentityError {
    /// The setting that names the file.
    pub fn key(self) -> &'static str {
        match self {
            IdentityError::Pair(error) => error.setting(),
            IdentityError::ClientCa => "client_ca",
        }
    }
}

impl Identity {
    /// Makes it of PEM files. With a `client_ca`, clients must show a certificate of it.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the files.
    pub fn from_pem(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Identity, Vec<IdentityError>> {
        pingora_rustls::install_default_crypto_provider();
        let pair = Pair::from_pem(cert, key);
        let verifier = client_ca.map(read_authorities).transpose();
        let (pair, verifier) = match (pair, verifier) {
            (Ok(pair), Ok(verifier)) => (pair, verifier),
            (pair, verifier) => {
                let of_pair = pair.err().into_iter().flatten().map(IdentityError::Pair);
                return Err(of_pair.chain(verifier.err()).collect());
            }
        };
        let builder = ServerConfig::builder_with_protocol_versions(&[&version::TLS13, &version::TLS12]);
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let shown = SingleCertAndKey::from(pair.certified().clone());
        let mut config = builder.with_cert_resolver(Arc::new(shown));
        config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
        Ok(Identity { config: Arc::new(config), not_after_unix_s: pair.not_after_unix_s() })
    }

    /// When the first certificate of the chain ends, Unix seconds.
    pub fn not_after_unix_s(&self) -> i64 {
        self.not_after_unix_s
    }
}

fn read_authorities(pem: &[u8]) -> Result<Arc<dyn pingora_rustls::ClientCertVerifier>, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(pem).ok_or(IdentityError::ClientCa)? {
        roots.add(certificate).map_err(|_| IdentityError::ClientCa)?;
    }
    WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(|_| IdentityError::ClientCa)
}

/// Why a client did not get through the handshake, without a byte that it sent.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// The client left before its first byte, as a load balancer's probe does.
    #[error("the client said nothing")]
    NothingSent,
    /// The client left.
    #[error("the client hung up")]
    HungUp,
    /// What came is not TLS.
    #[error("the client does not speak TLS (plain HTTP?)")]
    NotTls,
    /// No certificate of the configured authority.
    #[error("the client showed no certificate of tls.client_ca")]
    ClientCertificate,
    /// The client refused: our certificate, most of the time.
    #[error("the client refused, most likely the certificate")]
    RefusedByClient,
    /// Versions, ciphers, protocols.
    #[error("nothing in common with the client: TLS 1.2 and 1.3 and http/1.1 are offered")]
    NothingInCommon,
    /// Anything else.
    #[error("the handshake broke")]
    Broken,
}

/// The TLS of a running listener. What new connections get can be replaced; open ones keep theirs.
pub struct Keeper {
    config: ArcSwap<ServerConfig>,
    not_after_s: IntGauge,
}

impl Keeper {
    /// Begins with this identity; `not_after_s` shows when the current one ends.
    pub fn new(identity: &Identity, not_after_s: IntGauge) -> Keeper {
        not_after_s.set(identity.not_after_unix_s);
        Keeper { config: ArcSwap::new(identity.config.clone()), not_after_s }
    }

    /// From now on new connections get this identity.
    pub fn swap(&self, identity: &Identity) {
        self.config.store(identity.config.clone());
        self.not_after_s.set(identity.not_after_unix_s);
    }

    /// Shakes hands. Has no deadline of its own.
    ///
    /// # Errors
    /// See [`HandshakeError`]; the connection is closed then.
    pub async fn accept(&self, stream: Stream) -> Result<Stream, HandshakeError> {
        // Every listener hands out sockets; anything else could only be a stream of a test.
        let mut socket = stream.into_any().downcast::<Socket>().map_err(|_| HandshakeError::Broken)?;
        socket.try_peek(&mut [0]).await.map_err(|_| HandshakeError::NothingSent)?;
        let acceptor = Acceptor::from_server_config(self.config.load_full());
        match acceptor.tls_handshake(*socket).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(cause(&error.to_string())),
        }
    }
}

/// What rustls says of each kind; pingora keeps nothing but its text.
const CAUSES: [(&str, HandshakeError); 8] = [
    ("tls handshake eof", HandshakeError::HungUp),
    ("Connection reset by peer", HandshakeError::HungUp),
    ("received corrupt message", HandshakeError::NotTls),
    ("peer sent no certificates", HandshakeError::ClientCertificate),
    ("invalid peer certificate", HandshakeError::ClientCertificate),
    ("received fatal alert", HandshakeError::RefusedByClient),
    ("peer is incompatible", HandshakeError::NothingInCommon),
    ("peer doesn't support any known protocol", HandshakeError::NothingInCommon),
];

/// The text itself is not shown: it may repeat what the client sent.
fn cause(text: &str) -> HandshakeError {
    let found = CAUSES.iter().find(|(words, _)| text.contains(words));
    found.map_or(HandshakeError::Broken, |(_, cause)| *cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt as _};

    struct Files {
        cert: String,
        key: String,
    }

    fn files(year: i32) -> Files {
        let mut params = rcgen::CertificateParams::new(vec!["hooks.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        Files { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    fn errors(cert: &str, key: &str, client_ca: Option<&str>) -> Vec<IdentityError> {
        Identity::from_pem(cert.as_bytes(), key.as_bytes(), client_ca.map(str::as_bytes)).unwrap_err()
    }

    #[test]
    fn a_pair_that_belongs_together_says_when_it_ends() {
        let Files { cert, key } = files(2100);
        let identity = Identity::from_pem(cert.as_bytes(), key.as_bytes(), Some(cert.as_bytes())).unwrap();
        assert_eq!(identity.not_after_unix_s(), 4_102_444_800);
        assert_eq!(identity.config.alpn_protocols, [b"http/1.1".to_vec()]);
        // Of a chain, the first to end.
        let chain = format!("{cert}{}", files(2050).cert);
        let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes(), None).unwrap();
        assert_eq!(identity.not_after_unix_s(), 2_524_608_000);
    }

    #[test]
    fn what_is_wrong_is_told_of_all_files_at_once() {
        let Files { cert, key } = files(2100);
        let pair = [PairError::Certificate, PairError::NoKey].map(IdentityError::Pair);
        assert_eq!(errors("", "", Some("")), [pair[0], pair[1], IdentityError::ClientCa]);
        assert_eq!(errors(&cert, &files(2100).key, None), [IdentityError::Pair(PairError::KeyOfAnother)]);
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(errors(garbage, &key, Some(garbage)), [pair[0], IdentityError::ClientCa]);
    }

    #[test]
    fn what_rustls_says_is_understood() {
        use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
        for (error, expected) in [
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), HandshakeError::NotTls),
            (Error::NoCertificatesPresented, HandshakeError::ClientCertificate),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), HandshakeError::ClientCertificate),
            (Error::AlertReceived(AlertDescription::UnknownCA), HandshakeError::RefusedByClient),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), HandshakeError::NothingInCommon),
            (Error::NoApplicationProtocol, HandshakeError::NothingInCommon),
            (Error::DecryptError, HandshakeError::Broken),
        ] {
            assert_eq!(cause(&format!("TLS accept() failed: {error}")), expected, "{error}");
        }
    }

    /// One connection to a listener with this keeper, by a client that trusts one certificate.
    async fn connect(keeper: &Keeper, trusted: &str) -> Option<(Stream, impl AsyncReadExt + Unpin)> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
        let config = pingora_rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = pingora_rustls::TlsConnector::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = Box::new(Socket::from(listener.accept().await.unwrap().0));
        let name = pingora_rustls::ServerName::try_from("hooks.example").unwrap();
        let (client, server) = tokio::join!(connector.connect(name, socket), keeper.accept(accepted));
        Some((server.ok()?, client.ok()?))
    }

    #[tokio::test]
    async fn new_connections_get_the_new_certificate_and_open_ones_stay() {
        let (old, new) = (files(2100), files(2050));
        let identity = |files: &Files| Identity::from_pem(files.cert.as_bytes(), files.key.as_bytes(), None).unwrap();
        let gauge = IntGauge::new("not_after", "for the test").unwrap();
        let keeper = Keeper::new(&identity(&old), gauge.clone());
        let (mut server, mut client) = connect(&keeper, &old.cert).await.unwrap();
        assert!(connect(&keeper, &new.cert).await.is_none());
        keeper.swap(&identity(&new));
        assert!(connect(&keeper, &new.cert).await.is_some());
        assert!(connect(&keeper, &old.cert).await.is_none());
        assert_eq!(gauge.get(), 2_524_608_000);
        server.write_all(b"still here").await.unwrap();
        server.flush().await.unwrap();
        let mut said = [0; 10];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"still here");
    }

    #[test]
    fn no_text_shows_a_key() {
        let Files { cert, key } = files(2100);
        let identity = Identity::from_pem(cert.as_bytes(), key.as_bytes(), None).unwrap();
        assert_eq!(format!("{identity:?}"), "Identity { not_after_unix_s: 4102444800, .. }");
    }
}
