//! The ways in which TLS with an app does not come about, by the type of rustls's errors.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage, PeerMisbehaved};

use super::refused::Refused;

/// Why there is no TLS connection. Texts say what to do, and quote the certificate only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFailure {
    /// The app's certificate is not accepted.
    Certificate(Box<Refused>),
    /// The app wants a client certificate.
    ClientCertificate(Shown),
    /// Something else than TLS answered.
    NotTls,
    /// The app speaks other protocols over TLS than HTTP/1.1.
    NoHttp1,
    /// No version or cipher in common.
    NothingInCommon,
    /// The app has no certificate for the name that it was asked for.
    NameUnknown,
    /// The app closed the connection in the middle of the handshake.
    HungUp,
    /// The app took the connection and did not finish the handshake in time.
    TimedOut,
    /// The app refused for a reason of its own.
    Alert(AlertDescription),
    /// Anything else.
    Broken,
}

/// The client certificate that an app was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It asked for none.
    Unasked,
    /// None, though it asked.
    None,
    /// That of the configuration.
    Own,
}

impl TlsFailure {
    /// Judges the error of a handshake.
    pub(super) fn of_handshake(error: &io::Error, shown: Shown) -> TlsFailure {
        match tls_error(error) {
            Some(error) => TlsFailure::of(error, shown),
            None => TlsFailure::HungUp,
        }
    }

    /// Judges the error of a read after the handshake: with TLS 1.3 an app refuses a client's certificate,
    /// or its absence, only then. `None` where the connection just ended.
    pub(in crate::client) fn of_read(error: &io::Error, shown: Shown) -> Option<TlsFailure> {
        tls_error(error).map(|error| TlsFailure::of(error, shown))
    }

    fn of(error: &TlsError, shown: Shown) -> TlsFailure {
        match error {
            TlsError::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Refused>() {
                Some(refused) => TlsFailure::Certificate(Box::new(refused.clone())),
                None => TlsFailure::Broken,
            },
            TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => TlsFailure::NotTls,
            TlsError::NoApplicationProtocol
            | TlsError::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => TlsFailure::NoHttp1,
            TlsError::PeerIncompatible(_) => TlsFailure::NothingInCommon,
            TlsError::AlertReceived(alert) => TlsFailure::of_alert(*alert, shown),
            _ => TlsFailure::Broken,
        }
    }

    fn of_alert(alert: AlertDescription, shown: Shown) -> TlsFailure {
        use AlertDescription as Alert;
        match alert {
            Alert::NoApplicationProtocol => TlsFailure::NoHttp1,
            Alert::ProtocolVersion | Alert::InsufficientSecurity => TlsFailure::NothingInCommon,
            Alert::UnrecognisedName => TlsFailure::NameUnknown,
            Alert::CertificateRequired => TlsFailure::ClientCertificate(Shown::None),
            // All that TLS 1.2 has for a certificate that is wanted or refused. Unasked, it is about ciphers.
            Alert::HandshakeFailure | Alert::NoCertificate if shown == Shown::None => {
                TlsFailure::ClientCertificate(shown)
            }
            Alert::HandshakeFailure if shown == Shown::Unasked => TlsFailure::NothingInCommon,
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
                if shown != Shown::Unasked =>
            {
                TlsFailure::ClientCertificate(shown)
            }
            alert => TlsFailure::Alert(alert),
        }
    }
}

/// rustls's own error in that of a stream.
fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsFailure::Certificate(refused) => return refused.fmt(f),
            TlsFailure::Alert(alert) => return write!(f, "the app refused the TLS handshake ({alert:?})"),
            TlsFailure::ClientCertificate(Shown::Own) => {
                "the app does not accept the client certificate: upstream.tls.cert and key must be of an authority that it trusts"
            }
            TlsFailure::ClientCertificate(_) => {
                "the app wants a client certificate: set upstream.tls.cert and upstream.tls.key"
            }
            TlsFailure::NotTls => "the app does not speak TLS on this port: write http:// in upstream.url, or its TLS port",
            TlsFailure::NoHttp1 => {
                "the app does not speak HTTP/1.1 over TLS (ALPN; HTTP/2 only?): let it offer http/1.1 beside h2"
            }
            TlsFailure::NothingInCommon => {
                "no TLS version or cipher in common with the app: it must offer TLS 1.2 or 1.3 with a cipher of forward secrecy"
            }
            TlsFailure::NameUnknown => "the app knows no such name (SNI): set upstream.tls.server_name to one that it has",
            TlsFailure::HungUp => "the app closed the connection during the TLS handshake: does it speak TLS on this port?",
            TlsFailure::TimedOut => "the TLS handshake with the app timed out: does it speak TLS on this port?",
            TlsFailure::Broken => "the TLS handshake with the app broke",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::PeerIncompatible;

    fn judged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>, shown: Shown) -> TlsFailure {
        TlsFailure::of_handshake(&io::Error::new(io::ErrorKind::InvalidData, error), shown)
    }

    #[test]
    fn each_error_of_rustls_is_of_a_kind() {
        use AlertDescription as Alert;
        let alert = |alert| TlsError::AlertReceived(alert);
        for (error, shown, kind) in [
            (TlsError::InvalidMessage(InvalidMessage::InvalidContentType), Shown::Unasked, TlsFailure::NotTls),
            (alert(Alert::NoApplicationProtocol), Shown::Unasked, TlsFailure::NoHttp1),
            (PeerMisbehaved::SelectedUnofferedApplicationProtocol.into(), Shown::Unasked, TlsFailure::NoHttp1),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), Shown::Unasked, TlsFailure::NothingInCommon),
            (alert(Alert::ProtocolVersion), Shown::Unasked, TlsFailure::NothingInCommon),
            (alert(Alert::HandshakeFailure), Shown::Unasked, TlsFailure::NothingInCommon),
            (alert(Alert::HandshakeFailure), Shown::None, TlsFailure::ClientCertificate(Shown::None)),
            (alert(Alert::CertificateRequired), Shown::None, TlsFailure::ClientCertificate(Shown::None)),
            (alert(Alert::UnknownCA), Shown::Own, TlsFailure::ClientCertificate(Shown::Own)),
            (alert(Alert::UnknownCA), Shown::Unasked, TlsFailure::Alert(Alert::UnknownCA)),
            (alert(Alert::UnrecognisedName), Shown::Unasked, TlsFailure::NameUnknown),
            (alert(Alert::InternalError), Shown::None, TlsFailure::Alert(Alert::InternalError)),
            (TlsError::DecryptError, Shown::Unasked, TlsFailure::Broken),
        ] {
            assert_eq!(judged(error.clone(), shown), kind, "{error}");
        }
    }

    #[test]
    fn an_end_without_a_word_is_a_failure_of_the_handshake_and_none_after_it() {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            let error = io::Error::from(kind);
            assert_eq!(TlsFailure::of_handshake(&error, Shown::Unasked), TlsFailure::HungUp);
            assert_eq!(TlsFailure::of_read(&error, Shown::None), None);
        }
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert_eq!(TlsFailure::of_handshake(&eof, Shown::Unasked), TlsFailure::HungUp);
    }
}
