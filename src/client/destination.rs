//! Where a client's requests go, as an operator writes it.

use std::path::PathBuf;

use super::tls::Tls;

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `http://host:port`, `https://host:port`.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken.
        tls: Option<Tls>,
    },
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Destination {
    /// Reads `http://host[:port]`, `https://host[:port]` or `unix:/path`.
    ///
    /// # Errors
    /// A sentence that says what is wrong; a path, query or user info is refused.
    pub fn parse(url: &str) -> Result<Destination, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') || path.len() < 2 {
                return Err(format!("`{url}` needs an absolute path, such as unix:/run/app.sock"));
            }
            return Ok(Destination::Unix(PathBuf::from(path)));
        }
        let uri: http::Uri = url
            .parse()
            .map_err(|_| format!("`{url}` is not a URL; expected http://host:port, https://host:port or unix:/path"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("`{url}` must begin with http://, https:// or unix:")),
        };
        let authority = uri.authority().ok_or_else(|| format!("`{url}` names no host"))?;
        if authority.as_str().contains('@') {
            return Err(format!(
                "`{}` must not carry user and password",
                url.split('@').next_back().unwrap_or_default()
            ));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!(
                "`{url}` must not have a path: the sender's path is kept; write only scheme, host and port"
            ));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(format!("`{url}` names no host"));
        }
        let port = port(authority, if tls { 443 } else { 80 }).ok_or_else(|| {
            format!(
                "`{url}` has a port that cannot be; write one from 1 to 65535, or none for {}",
                if tls { 443 } else { 80 }
            )
        })?;
        let tls = tls.then(|| Tls::of(host.clone()));
        Ok(Destination::Tcp { host, port, tls })
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        matches!(self, Destination::Tcp { tls: Some(_), .. })
    }

    /// The `Host` of requests that bring none: the name as one would write it in the URL.
    pub fn authority(&self) -> String {
        match self {
            Destination::Tcp { host, port, tls } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let default = if tls.is_some() { 443 } else { 80 };
                if *port == default { host } else { format!("{host}:{port}") }
            }
            Destination::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// The port that a URL names, or else `default`. Neither 0 nor nothing after the colon is one, and
/// `http::Uri` takes one above 65535 for none.
fn port(authority: &http::uri::Authority, default: u16) -> Option<u16> {
    let after_host = authority.as_str().strip_prefix(authority.host())?;
    let Some(digits) = after_host.strip_prefix(':') else { return after_host.is_empty().then_some(default) };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port != 0)
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Tcp { tls, .. } => {
                write!(f, "{}://{}", if tls.is_some() { "https" } else { "http" }, self.authority())
            }
            Destination::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_scheme_host_and_port_or_a_socket() {
        let tcp = |host: &str, port, tls: bool| Destination::Tcp {
            host: host.into(),
            port,
            tls: tls.then(|| Tls::of(host.into())),
        };
        assert_eq!(Destination::parse("http://app:3000"), Ok(tcp("app", 3000, false)));
        assert_eq!(Destination::parse("http://app/"), Ok(tcp("app", 80, false)));
        assert_eq!(Destination::parse("http://app:65535"), Ok(tcp("app", 65535, false)));
        assert_eq!(Destination::parse("https://app:080/"), Ok(tcp("app", 80, true)));
        assert_eq!(Destination::parse("https://app.example"), Ok(tcp("app.example", 443, true)));
        assert_eq!(Destination::parse("http://[::1]:3000"), Ok(tcp("::1", 3000, false)));
        assert_eq!(Destination::parse("unix:/run/a.sock"), Ok(Destination::Unix("/run/a.sock".into())));
        assert_eq!(Destination::parse("http://[::1]:3000").unwrap().authority(), "[::1]:3000");
        for bad in [
            "",
            "app:3000",
            "ftp://a",
            "http://",
            "http://a/path",
            "http://a?x",
            "http://u:secret@a",
            "http://a:99999",
            "http://a:65536",
            "https://a:0",
            "http://a:",
            "http://a:+80",
            "http://a:80:80",
            "http://[::1]:",
            "http://[::1]:70000",
            "unix:run",
            "unix:",
        ] {
            let message = Destination::parse(bad).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
