//! Against real servers, with certificates made for each test.

use std::time::Duration;

use http::Method;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::client::{Client, Destination, ExchangeError, Timeouts};

const NAME: &str = "app.internal";

/// A certificate with its key.
struct Issued {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
    params: CertificateParams,
}

impl Issued {
    fn pair(&self) -> Pair {
        Pair::from_pem(self.pem.as_bytes(), self.key.serialize_pem().as_bytes()).unwrap()
    }

    fn trusted(&self) -> Option<Trusted> {
        Some(Trusted::from_pem(self.pem.as_bytes()).unwrap())
    }

    fn server(&self) -> ServerConfig {
        self.server_of(rustls::ALL_VERSIONS, None)
    }

    /// A server with this certificate that wants one of `clients`.
    fn server_of(&self, versions: &[&'static SupportedProtocolVersion], clients: Option<&Issued>) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        builder.with_single_cert(vec![self.der.clone()], key).unwrap()
    }
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

/// As `openssl req -x509` makes it: its own authority.
fn self_signed(mut params: CertificateParams) -> Issued {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Issued { der: certificate.der().clone(), pem: certificate.pem(), key, params }
}

fn authority() -> Issued {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Our CA");
    self_signed(params)
}

fn issue(authority: &Issued, params: &CertificateParams) -> Issued {
    let issuer = Issuer::from_params(&authority.params, &authority.key);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Issued { der: certificate.der().clone(), pem: certificate.pem(), key, params: params.clone() }
}

/// An app that hands each connection to `serve`.
async fn app<F: Future<Output = ()> + Send>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            serve(socket).await;
        }
    });
    port
}

/// An app that answers over TLS.
async fn tls_app(config: ServerConfig) -> u16 {
    let acceptor = pingora_rustls::TlsAcceptor::from(Arc::new(config));
    app(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut tls) = acceptor.accept(socket).await else { return };
            if tls.read(&mut [0; 4096]).await.is_ok() {
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            }
            let _ = tls.shutdown().await;
        }
    })
    .await
}

/// An app that reads the client's first words and says this.
async fn says(words: &'static [u8]) -> u16 {
    app(move |mut socket| async move {
        let _ = socket.read(&mut [0; 4096]).await;
        let _ = socket.write_all(words).await;
        // Its end would be an answer too.
        let _ = socket.read(&mut [0; 4096]).await;
    })
    .await
}

async fn ask(port: u16, tls: Tls) -> Result<u16, ExchangeError> {
    let (connect, total) = (Duration::from_secs(5), Duration::from_secs(10));
    let destination = Destination::Tcp { host: "127.0.0.1".into(), port, tls: Some(tls) };
    let client = Client::new(destination, Timeouts { connect, total, idle: total }).unwrap();
    client.exchange(&Method::POST, b"/", &[], b"{}").await.map(|reply| reply.status)
}

fn trusting(authority: &Issued) -> Tls {
    Tls { server_name: NAME.into(), trusted: authority.trusted(), own: None }
}

async fn failure(port: u16, tls: Tls) -> TlsFailure {
    match ask(port, tls).await {
        Err(ExchangeError::Tls(failure)) => TlsFailure::clone(&failure),
        other => panic!("{other:?}"),
    }
}

async fn refused(app: &Issued, tls: Tls) -> Refused {
    match failure(tls_app(app.server()).await, tls).await {
        TlsFailure::Certificate(refused) => *refused,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_for_the_name_is_accepted() {
    let ours = authority();
    assert_eq!(ask(tls_app(issue(&ours, &params(NAME)).server()).await, trusting(&ours)).await, Ok(200));
    let by_address = Tls { server_name: "127.0.0.1".into(), ..trusting(&ours) };
    assert_eq!(ask(tls_app(issue(&ours, &params("127.0.0.1")).server()).await, by_address).await, Ok(200));
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_where_it_is_named_itself_for_its_name_and_time() {
    let own = self_signed(params(NAME));
    let mut ended = params(NAME);
    ended.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let (ended, elsewhere) = (self_signed(ended), self_signed(params("other.internal")));
    assert_eq!(ask(tls_app(own.server()).await, trusting(&own)).await, Ok(200));
    assert_eq!(refused(&ended, trusting(&ended)).await.fault, Fault::Expired(1_577_836_800));
    assert_eq!(refused(&elsewhere, trusting(&elsewhere)).await.fault, Fault::WrongName(NAME.into()));
    // Another one with the same names is not the one that was named.
    let twin = self_signed(params(NAME));
    assert_eq!(refused(&twin, trusting(&own)).await.fault, Fault::SelfSigned);
}

#[tokio::test]
async fn a_refused_certificate_is_shown_with_its_fault_its_names_and_its_dates() {
    let (ours, theirs) = (authority(), authority());
    let text = refused(&self_signed(params(NAME)), trusting(&ours)).await.to_string();
    assert!(text.starts_with("the app's certificate is self-signed: name its file in upstream.tls.ca (it is for app.internal, issued by itself, valid from 1975"), "{text}");

    let text = refused(&issue(&theirs, &params(NAME)), trusting(&ours)).await.to_string();
    assert!(text.starts_with("the issuer of the app's certificate is not trusted"), "{text}");
    assert!(text.contains("issued by CN=Our CA, valid from 1975-01-01T00:00:00Z to 4096-01-01T00:00:00Z"), "{text}");

    let text = refused(&issue(&ours, &params("other.internal")), trusting(&ours)).await.to_string();
    assert!(
        text.starts_with("the app's certificate is not valid for app.internal: set upstream.tls.server_name"),
        "{text}"
    );
    assert!(text.contains("(it is for other.internal, "), "{text}");

    let mut ended = params(NAME);
    ended.not_after = rcgen::date_time_ymd(2021, 6, 1);
    let text = refused(&issue(&ours, &ended), trusting(&ours)).await.to_string();
    assert!(text.starts_with("the app's certificate has expired at 2021-06-01T00:00:00Z: renew it"), "{text}");

    let mut early = params(NAME);
    early.not_before = rcgen::date_time_ymd(3000, 1, 1);
    let text = refused(&issue(&ours, &early), trusting(&ours)).await.to_string();
    assert!(
        text.starts_with("the app's certificate is not valid before 3000-01-01T00:00:00Z, and here it is 2"),
        "{text}"
    );
}

#[tokio::test]
async fn the_end_of_an_authority_is_not_taken_for_that_of_the_certificate() {
    let (root, mut ended) = (authority(), params(NAME));
    ended.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ended.not_after = rcgen::date_time_ymd(2021, 6, 1);
    let between = issue(&root, &ended);
    let app = issue(&between, &params(NAME));
    let mut config = app.server();
    let key = PrivateKeyDer::try_from(app.key.serialize_der()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let chain = rustls::sign::CertifiedKey::from_der(vec![app.der.clone(), between.der], key, &provider).unwrap();
    config.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(chain));
    let text = failure(tls_app(config).await, trusting(&root)).await.to_string();
    assert!(text.starts_with("an authority above the app's certificate has expired at 2021-06-01"), "{text}");
}

#[tokio::test]
async fn certificates_that_are_no_servers_are_told_apart() {
    let ours = authority();
    let mut authoritys = params(NAME);
    authoritys.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(refused(&issue(&ours, &authoritys), trusting(&ours)).await.fault, Fault::Authority);
    let mut clients = params(NAME);
    clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert_eq!(refused(&issue(&ours, &clients), trusting(&ours)).await.fault, Fault::Purpose);
}

#[tokio::test]
async fn an_app_that_wants_a_client_certificate_gets_it_or_is_named_as_such() {
    let (ours, clients, strangers) = (authority(), authority(), authority());
    for version in [&TLS13, &TLS12] {
        let server = || issue(&ours, &params(NAME)).server_of(&[version], Some(&clients));
        let with = |own: &Issued| Tls { own: Some(own.pair()), ..trusting(&ours) };
        assert_eq!(ask(tls_app(server()).await, with(&issue(&clients, &params("hookward")))).await, Ok(200));
        let none = failure(tls_app(server()).await, trusting(&ours)).await;
        assert_eq!(none, TlsFailure::ClientCertificate(Shown::None), "{version:?}");
        let other = failure(tls_app(server()).await, with(&issue(&strangers, &params("hookward")))).await;
        assert_eq!(other, TlsFailure::ClientCertificate(Shown::Own), "{version:?}");
    }
}

#[tokio::test]
async fn an_app_that_speaks_http_2_only_is_known_by_alpn() {
    let ours = authority();
    let mut config = issue(&ours, &params(NAME)).server();
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(failure(tls_app(config.clone()).await, trusting(&ours)).await, TlsFailure::NoHttp1);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    assert_eq!(ask(tls_app(config).await, trusting(&ours)).await, Ok(200));
}

#[tokio::test]
async fn what_answers_in_place_of_tls_is_told_apart() {
    let ours = authority();
    for (port, expected) in [
        (says(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await, TlsFailure::NotTls),
        (says(b"\x15\x03\x01\x00\x02\x02\x46").await, TlsFailure::NothingInCommon),
        (says(b"\x15\x03\x03\x00\x02\x02\x28").await, TlsFailure::NothingInCommon),
        (says(b"\x15\x03\x03\x00\x02\x02\x70").await, TlsFailure::NameUnknown),
        (says(b"\x15\x03\x03\x00\x02\x02\x50").await, TlsFailure::Alert(AlertDescription::InternalError)),
        (app(|socket| async move { drop(socket) }).await, TlsFailure::HungUp),
    ] {
        assert_eq!(failure(port, trusting(&ours)).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_that_never_shakes_hands_is_told_from_one_that_cannot_be_reached() {
    assert_eq!(failure(says(b"").await, trusting(&authority())).await, TlsFailure::TimedOut);
}

#[tokio::test]
async fn a_name_that_no_certificate_can_be_for_is_no_client() {
    assert!(!Tls::is_server_name("app.internal:443") && Tls::is_server_name("::1") && Tls::is_server_name("my_app"));
    let error = Handshakes::new(&Tls::of("a b".to_owned())).err().unwrap().to_string();
    assert!(error.contains("`a b`"), "{error}");
}
