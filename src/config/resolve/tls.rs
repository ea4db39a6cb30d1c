//! TLS towards the app.

use std::path::Path;

use super::Sources;
use super::upstream::parse_host;
use crate::certificate::{Pair, PairError};
use crate::client::Tls;
use crate::client::tls::Trusted;
use crate::config::reader::problem::Fault;
use crate::config::reader::schema::Kind;
use crate::config::reader::section::Section;

/// Largest file of certificates or of a key; a system's whole bundle has 220 KiB.
const PEM_MAX_BYTES: u64 = 4 << 20;

/// The section `tls` of an upstream, its files unread.
pub(super) struct TlsSection<'r> {
    section: Section<'r>,
    ca: Option<String>,
    server_name: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

pub(super) fn read<'r>(upstream: &Section<'r>) -> TlsSection<'r> {
    let section = upstream.section("tls", "TLS towards an `https://` upstream.");
    let ca = section.optional_text(
        "ca",
        "PEM file of the certificates to trust instead of the system's: authorities, or the app's own.",
    );
    let server_name = section.parsed(
        "server_name",
        Kind::Text,
        None,
        "Name to ask for and to verify instead of the URL's host.",
        parse_server_name,
    );
    let cert = section.optional_text("cert", "PEM file of a client certificate, for an app that asks for one.");
    let key = section.optional_text("key", "PEM file of its private key, without a passphrase.");
    TlsSection { section, ca, server_name, cert, key }
}

impl TlsSection<'_> {
    /// Puts what is written in the place of what an `https://` URL means by itself, or of what was inherited. The
    /// files are read and judged here, so that `check` finds bad ones, all at once, and a reload new ones.
    pub(super) fn apply(self, settings: &mut Tls, sources: &Sources<'_>) {
        let trusted = self.trusted(sources);
        let own = self.own(sources);
        settings.trusted = trusted.or(settings.trusted.take());
        settings.own = own.or(settings.own.take());
        if let Some(name) = self.server_name {
            settings.server_name = name;
        } else if !Tls::is_server_name(&settings.server_name) {
            let what = "is missing, and no certificate can be for the URL's host";
            self.section.fault("server_name", Fault::new(what, "name a host that the app's certificate is for"));
        }
    }

    fn trusted(&self, sources: &Sources<'_>) -> Option<Trusted> {
        let pem = self.file("ca", self.ca.as_deref()?, sources)?;
        let trusted = Trusted::from_pem(&pem);
        if trusted.is_none() {
            let fix = "write PEM: the authority's, or the app's own";
            self.section.fault("ca", Fault::new("holds no usable certificate", fix));
        }
        trusted
    }

    fn own(&self, sources: &Sources<'_>) -> Option<Pair> {
        let missing = match (&self.cert, &self.key) {
            (None, None) | (Some(_), Some(_)) => None,
            (Some(_), None) => Some("key"),
            (None, Some(_)) => Some("cert"),
        };
        if let Some(missing) = missing {
            self.section.fault(missing, Fault::new("is missing", "name a PEM file: cert and key go together"));
        }
        let file = |key, path: &Option<String>| self.file(key, path.as_deref()?, sources);
        let (cert, key) = (file("cert", &self.cert), file("key", &self.key));
        // Files that cannot be read have been reported.
        let report = |errors| {
            for error in errors {
                self.report(error);
            }
        };
        Pair::from_pem(&cert?, &key?).map_err(report).ok()
    }

    fn report(&self, error: PairError) {
        self.section.fault(error.setting(), Fault::from_sentence(&error.to_string(), "name another file"));
    }

    fn file(&self, key: &str, path: &str, sources: &Sources<'_>) -> Option<Vec<u8>> {
        sources.read_file(Path::new(path), PEM_MAX_BYTES).map_err(|fault| self.section.fault(key, fault)).ok()
    }

    /// Reports every key: nothing is encrypted.
    pub(super) fn refuse_without_https(&self) {
        for key in ["ca", "server_name", "cert", "key"].into_iter().filter(|key| self.section.has(key)) {
            let fault = Fault::new("needs an https:// upstream", "write https:// in the url, or leave it out");
            self.section.fault(key, fault);
        }
    }
}

fn parse_server_name(text: &str) -> Result<String, Fault> {
    // As a URL has an IPv6 address, or as it is.
    let name = parse_host(text)?.trim_start_matches('[').trim_end_matches(']').to_owned();
    if Tls::is_server_name(&name) {
        Ok(name)
    } else {
        Err(Fault::new(
            "is no name that a certificate can be for",
            "write a host name or an IP address, without a port",
        ))
    }
}
