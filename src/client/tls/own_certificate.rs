//! The client certificate, and whether an app has asked for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use super::Shown;
use crate::certificate::Pair;

/// The answer to an app that asks for a certificate. A question is remembered: it shows what a later alert is about.
#[derive(Debug)]
pub(in crate::client) struct OwnCertificate {
    certified: Option<Arc<CertifiedKey>>,
    was_asked: AtomicBool,
}

impl OwnCertificate {
    pub(super) fn new(pair: Option<&Pair>) -> OwnCertificate {
        OwnCertificate { certified: pair.map(|pair| pair.certified().clone()), was_asked: AtomicBool::new(false) }
    }

    /// The certificate that the app has been shown.
    pub(in crate::client) fn shown(&self) -> Shown {
        match (self.was_asked.load(Ordering::Acquire), &self.certified) {
            (false, _) => Shown::Unasked,
            (true, None) => Shown::None,
            (true, Some(_)) => Shown::Own,
        }
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Release);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}
