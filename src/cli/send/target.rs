//! Where events are sent: a URL with its path and query, and the connections to it.

use std::time::Duration;

use http::Uri;

use crate::client::{Client, Destination, Timeouts};

/// How long an unused connection is kept: less than servers usually do.
const IDLE: Duration = Duration::from_secs(30);

/// A webhook URL and its connection pool.
pub struct Target {
    /// As given: what `meta.delivered_to` shows.
    pub url: String,
    /// Path and query.
    pub path: Vec<u8>,
    /// The connections, shared by all events.
    pub client: Client,
}

impl Target {
    /// Splits the URL and prepares the pool; connects to nothing yet.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the URL.
    pub fn new(url: &str, timeout: Duration) -> Result<Target, String> {
        let (destination, path) = split(url)?;
        let timeouts = Timeouts { connect: timeout, total: timeout, idle: IDLE };
        let client = Client::new(destination, timeouts).map_err(|error| error.to_string())?;
        Ok(Target { url: url.to_owned(), path: path.into_bytes(), client })
    }
}

/// The destination, and path with query; a socket gets `/`.
fn split(url: &str) -> Result<(Destination, String), String> {
    let uri: Uri = match url.parse() {
        Ok(uri) if !url.starts_with("unix:") => uri,
        _ => return Ok((Destination::parse(url)?, "/".to_owned())),
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("`{url}` is not a URL; expected http://host:port/path or https://host:port/path"));
    };
    let destination = Destination::parse(&format!("{scheme}://{authority}"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // `http://host?query` is a query on the root.
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((destination, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_split_from_where_to_connect() {
        for (url, base, path) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "/"),
            ("http://app/webhooks/telnyx?a=b%20c", "http://app", "/webhooks/telnyx?a=b%20c"),
            ("https://[::1]:8443/x", "https://[::1]:8443", "/x"),
            ("http://app?a=b", "http://app", "/?a=b"),
            ("unix:/run/in.sock", "unix:/run/in.sock", "/"),
        ] {
            assert_eq!(split(url), Ok((Destination::parse(base).unwrap(), path.to_owned())), "{url}");
        }
        let bad_ports = ["http://app:99999/x", "http://app:0/x?a=b", "https://app:/x", "http://[::1]:65536/"];
        let others = ["", "/webhooks", "127.0.0.1:8080", "ftp://app/", "http://u:secret@app/x", "http://"];
        for bad in bad_ports.into_iter().chain(others) {
            let message = split(bad).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
