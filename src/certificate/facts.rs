//! A certificate in words.

use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::clock::rfc3339_s;

/// Most names that are shown.
const NAMES_SHOWN: usize = 4;
/// Most characters of one name that are shown.
const NAME_CHARS: usize = 100;

/// What a certificate states: for whom, by whom, from when, until when. Its texts are another
/// party's: shown escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// DNS names and addresses that it is for, ready to be shown.
    names: Vec<String>,
    subject: String,
    issuer: String,
    /// Its own key has signed it.
    pub is_self_signed: bool,
    /// It may issue others.
    pub is_authority: bool,
    /// Its first second, Unix time.
    pub not_before_unix_s: i64,
    /// Its last second, Unix time.
    pub not_after_unix_s: i64,
}

impl Facts {
    /// The facts of a certificate that can be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Facts> {
        let (_, certificate) = parse_x509_certificate(certificate).ok()?;
        Some(Facts {
            names: names(&certificate),
            subject: shown(&certificate.subject().to_string()),
            issuer: shown(&certificate.issuer().to_string()),
            // An issuer may have the same name and another key.
            is_self_signed: certificate.subject() == certificate.issuer() && certificate.verify_signature(None).is_ok(),
            is_authority: certificate.is_ca(),
            not_before_unix_s: certificate.validity().not_before.timestamp(),
            not_after_unix_s: certificate.validity().not_after.timestamp(),
        })
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names.as_slice() {
            [] => write!(f, "for no host name, subject {}", self.subject)?,
            names => write!(f, "for {}", names[..names.len().min(NAMES_SHOWN)].join(", "))?,
        }
        if self.names.len() > NAMES_SHOWN {
            write!(f, " and {} more", self.names.len() - NAMES_SHOWN)?;
        }
        let issuer = if self.is_self_signed { "itself" } else { &self.issuer };
        let (from, until) = (rfc3339_s(self.not_before_unix_s), rfc3339_s(self.not_after_unix_s));
        write!(f, ", issued by {issuer}, valid from {from} to {until}")
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(shown(name)),
        GeneralName::IPAddress(bytes) => Some(address(bytes)?.to_string()),
        _ => None,
    };
    alternatives.value.general_names.iter().filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn shown(text: &str) -> String {
    let escaped = text.chars().flat_map(char::escape_default);
    let cut: String = escaped.take(NAME_CHARS).collect();
    if cut.is_empty() { "without a name".to_owned() } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn facts(names: &[&str], common_name: &str) -> Facts {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.not_before = rcgen::date_time_ymd(1960, 1, 1);
        params.not_after = rcgen::date_time_ymd(2031, 5, 2);
        Facts::of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der()).unwrap()
    }

    #[test]
    fn names_issuer_and_dates_are_shown() {
        let text = facts(&["app.internal", "127.0.0.1", "::1"], "app").to_string();
        let dates = "valid from 1970-01-01T00:00:00Z to 2031-05-02T00:00:00Z";
        assert_eq!(text, format!("for app.internal, 127.0.0.1, ::1, issued by itself, {dates}"));
        assert_eq!(
            facts(&[], "app").to_string(),
            format!("for no host name, subject CN=app, issued by itself, {dates}")
        );
    }

    #[test]
    fn a_certificate_of_an_issuer_with_the_same_name_is_not_self_signed() {
        let (key, issuers_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let params = CertificateParams::new(vec!["app.internal".to_owned()]).unwrap();
        let issued = params.signed_by(&key, &rcgen::Issuer::from_params(&params, &issuers_key)).unwrap();
        assert!(!Facts::of(issued.der()).unwrap().is_self_signed);
    }

    #[test]
    fn many_names_are_counted_and_long_or_odd_ones_are_cut_and_escaped() {
        let text = facts(&["a", "b", "c", "d", "e", "f"], "x").to_string();
        assert!(text.starts_with("for a, b, c, d and 2 more, "), "{text}");
        let text = facts(&[], &format!("a\nlevel=error {}", "x".repeat(500))).to_string();
        assert!(text.contains(r"CN=a\nlevel=error xx") && text.len() < 300, "{text}");
    }
}
