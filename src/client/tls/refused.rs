//! A certificate of an app that is not accepted, and its fault.

use std::fmt;

use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::Facts;
use crate::clock::rfc3339_s;

/// A certificate that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its fault; the first one found.
    pub fault: Fault,
    /// Its facts, if it can be read.
    pub facts: Option<Facts>,
}

/// The fault of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is its own issuer, and not one that is trusted.
    SelfSigned,
    /// Its issuer is not trusted, or a certificate between is missing.
    UnknownIssuer,
    /// It, or one of the authorities between, ended at this Unix time.
    Expired(i64),
    /// It, or one of the authorities between, is not valid yet.
    NotYetValid {
        /// Its first second, Unix time.
        begins_unix_s: i64,
        /// The time by the clock here.
        now_unix_s: i64,
    },
    /// It is not for this name.
    WrongName(String),
    /// It is an authority's, no server's.
    Authority,
    /// It is not for servers.
    Purpose,
    /// Anything else.
    Other,
}

impl Refused {
    pub(super) fn new(
        error: &CertificateError,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Refused {
        let facts = Facts::of(certificate);
        Refused { fault: Fault::of(error, facts.as_ref(), name, unix_s(now)), facts }
    }
}

impl Fault {
    fn of(error: &CertificateError, facts: Option<&Facts>, name: &ServerName<'_>, now_unix_s: i64) -> Fault {
        use CertificateError as Error;
        let is = |what: fn(&Facts) -> bool| facts.is_some_and(what);
        match error {
            Error::ExpiredContext { not_after, .. } => Fault::Expired(unix_s(*not_after)),
            Error::Expired => Fault::Expired(facts.map_or(0, |facts| facts.not_after_unix_s)),
            Error::NotValidYetContext { not_before, .. } => {
                Fault::NotYetValid { begins_unix_s: unix_s(*not_before), now_unix_s }
            }
            Error::NotValidYet => {
                Fault::NotYetValid { begins_unix_s: facts.map_or(0, |facts| facts.not_before_unix_s), now_unix_s }
            }
            Error::NotValidForName | Error::NotValidForNameContext { .. } => {
                Fault::WrongName(name.to_str().into_owned())
            }
            Error::InvalidPurpose | Error::InvalidPurposeContext { .. } => Fault::Purpose,
            Error::UnknownIssuer | Error::BadSignature if is(|facts| facts.is_self_signed) => Fault::SelfSigned,
            Error::UnknownIssuer | Error::BadSignature => Fault::UnknownIssuer,
            // webpki refuses an authority's certificate as a server's before it looks for the issuer.
            Error::Other(_) if is(|facts| facts.is_authority && facts.is_self_signed) => Fault::SelfSigned,
            Error::Other(_) if is(|facts| facts.is_authority) => Fault::Authority,
            _ => Fault::Other,
        }
    }
}

fn unix_s(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends_itself = |at: i64| self.facts.as_ref().is_none_or(|facts| facts.not_after_unix_s == at);
        let begins_itself = |at: i64| self.facts.as_ref().is_none_or(|facts| facts.not_before_unix_s == at);
        let whose =
            |itself: bool| if itself { "the app's certificate" } else { "an authority above the app's certificate" };
        match &self.fault {
            Fault::SelfSigned => f.write_str("the app's certificate is self-signed: name its file in upstream.tls.ca"),
            Fault::UnknownIssuer => f.write_str(
                "the issuer of the app's certificate is not trusted: name the authority's file in upstream.tls.ca, \
                 or let the app send its intermediate certificates too",
            ),
            Fault::Expired(at) => write!(f, "{} has expired at {}: renew it", whose(ends_itself(*at)), rfc3339_s(*at)),
            Fault::NotYetValid { begins_unix_s, now_unix_s } => write!(
                f,
                "{} is not valid before {}, and here it is {}: wait, or set the clock",
                whose(begins_itself(*begins_unix_s)),
                rfc3339_s(*begins_unix_s),
                rfc3339_s(*now_unix_s)
            ),
            Fault::WrongName(name) => write!(
                f,
                "the app's certificate is not valid for {name}: set upstream.tls.server_name to a subjectAltName that \
                 it has, or issue one with this subjectAltName"
            ),
            Fault::Authority => f.write_str("the app shows the certificate of an authority: give it one of a server"),
            Fault::Purpose => {
                f.write_str("the app's certificate is not for servers (extended key usage): issue another")
            }
            Fault::Other => f.write_str("the app's certificate is not acceptable: issue another"),
        }?;
        match &self.facts {
            Some(facts) => write!(f, " (it is {facts})"),
            None => f.write_str(" (it cannot be read)"),
        }
    }
}
