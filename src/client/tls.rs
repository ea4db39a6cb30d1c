//! The certificates that a client trusts.

use thiserror::Error;

use super::destination::{Destination, Tls};

/// Why a client cannot be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The CA file is no use.
    #[error("CA file {path}: {problem}")]
    Ca {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The system's certificates cannot be loaded.
    #[error("the system's CA certificates cannot be loaded ({0}); install ca-certificates or set SSL_CERT_FILE")]
    SystemCa(String),
}

/// The CA file for pingora's connector, checked here because pingora panics on a bad one. Without
/// TLS it gets an empty one: loading the system's certificates would cost megabytes for nothing.
pub(super) fn ca_file(destination: &Destination) -> Result<Option<String>, ClientError> {
    match destination {
        Destination::Tcp { tls: Some(Tls { ca: Some(path), .. }), .. } => {
            let shown = path.display().to_string();
            let problem = |problem: String| ClientError::Ca { path: shown.clone(), problem };
            let mut store = pingora_rustls::RootCertStore::empty();
            pingora_rustls::load_ca_file_into_store(path, &mut store)
                .map_err(|_| problem("cannot be read as PEM certificates".to_owned()))?;
            if store.is_empty() {
                return Err(problem("holds no certificate".to_owned()));
            }
            Ok(Some(shown))
        }
        Destination::Tcp { tls: Some(_), .. } => {
            let mut store = pingora_rustls::RootCertStore::empty();
            pingora_rustls::load_platform_certs_incl_env_into_store(&mut store)
                .map_err(|error| ClientError::SystemCa(error.etype().as_str().to_owned()))?;
            if store.is_empty() {
                return Err(ClientError::SystemCa("none found".to_owned()));
            }
            Ok(None)
        }
        _ => Ok(Some("/dev/null".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_ca_file_is_an_error_and_not_a_panic() {
        let tls = Some(Tls { server_name: "a".into(), ca: Some("/does/not/exist.pem".into()) });
        let destination = Destination::Tcp { host: "a".into(), port: 443, tls };
        let error = ca_file(&destination).err().unwrap().to_string();
        assert!(error.contains("/does/not/exist.pem"), "{error}");
    }
}
