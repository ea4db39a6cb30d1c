//! TLS as a client speaks it, and an authority that issues certificates.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::wire::Duplex;

/// An authority of one test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate with its key, as they stand in files.
#[derive(Clone)]
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub fn issue(&self, name: &str) -> Issued {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        self.sign(&params)
    }

    /// A certificate that ends with the year before this one.
    pub fn issue_until(&self, name: &str, year: i32) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert_pem: cert.pem(), key_pem: key.serialize_pem() }
    }
}

/// What a client that trusts this authority offers.
pub fn client_config(ca_pem: &str) -> ClientConfig {
    client_config_of(ca_pem, None, rustls::ALL_VERSIONS)
}

/// The same with a certificate of the client's own, or with other versions of TLS.
pub fn client_config_of(
    ca_pem: &str,
    own: Option<&Issued>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(cert.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

/// One TLS connection. Twins of it may send while another waits for an answer: the lock on the
/// session is never held across a system call.
pub struct TlsStream {
    socket: TcpStream,
    session: Arc<Mutex<ClientConnection>>,
    /// Keeps records in the order in which they were made.
    sending: Arc<Mutex<()>>,
}

impl TlsStream {
    /// Shakes hands over a connected socket.
    ///
    /// With TLS 1.3 a server that refuses the client's certificate says so only afterwards: to the
    /// first read.
    pub fn handshake(socket: TcpStream, config: Arc<ClientConfig>, server_name: &str) -> std::io::Result<TlsStream> {
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        let session = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
        TlsStream::finish(socket, session)
    }

    /// The same; `halfway` is called when half of the first message is sent.
    pub fn handshake_in_halves(
        mut socket: TcpStream,
        config: Arc<ClientConfig>,
        server_name: &str,
        halfway: impl FnOnce(),
    ) -> std::io::Result<TlsStream> {
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        let mut session = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
        let mut hello = Vec::new();
        session.write_tls(&mut hello)?;
        let (first, second) = hello.split_at(hello.len() / 2);
        socket.write_all(first)?;
        halfway();
        socket.write_all(second)?;
        TlsStream::finish(socket, session)
    }

    fn finish(mut socket: TcpStream, mut session: ClientConnection) -> std::io::Result<TlsStream> {
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        while session.wants_write() {
            session.write_tls(&mut socket)?;
        }
        Ok(TlsStream { socket, session: Arc::new(Mutex::new(session)), sending: Arc::default() })
    }

    /// Sends what `fill` puts into the session.
    fn transmit(&self, fill: impl FnOnce(&mut ClientConnection) -> std::io::Result<()>) -> std::io::Result<()> {
        let _in_order = self.sending.lock().unwrap();
        let mut records = Vec::new();
        let mut session = self.session.lock().unwrap();
        fill(&mut session)?;
        while session.wants_write() {
            session.write_tls(&mut records)?;
        }
        drop(session);
        (&self.socket).write_all(&records)
    }
}

impl Read for TlsStream {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let mut records = [0; 16 * 1024];
        loop {
            // Without data and without an end it would block.
            match self.session.lock().unwrap().reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            let read = (&self.socket).read(&mut records)?;
            let mut session = self.session.lock().unwrap();
            let mut rest = &records[..read];
            loop {
                session.read_tls(&mut rest)?;
                session.process_new_packets().map_err(std::io::Error::other)?;
                if rest.is_empty() {
                    break;
                }
            }
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        // Small enough for the session's own buffer.
        let piece = &from[..from.len().min(16 * 1024)];
        self.transmit(|session| session.writer().write_all(piece))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Duplex for TlsStream {
    fn twin(&self) -> Box<dyn Duplex> {
        let socket = self.socket.try_clone().unwrap();
        Box::new(TlsStream { socket, session: self.session.clone(), sending: self.sending.clone() })
    }

    fn end_of_sending(&self) {
        let _ = self.transmit(|session| {
            session.send_close_notify();
            Ok(())
        });
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
