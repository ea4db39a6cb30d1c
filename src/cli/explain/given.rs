//! From flags and file to what may be the request in question.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Args;
use crate::clock::{Clock as _, SystemClock};
use crate::explain::Candidate;
use crate::explain::input::{self, Reading, Readings};
use crate::explain::verdict::{BODY_MAX_BYTES, Capture};
use crate::gate::keys::{NamedKey, parse_public_key};
use crate::gate::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// Keys that are tried, as many as a route has.
const KEYS_MAX: usize = 8;
/// Header lines that are looked at, as many as `limits.header_count` allows.
const HEADERS_MAX: usize = 100;

/// What there is to judge.
pub(super) struct Given {
    /// What was made of the file.
    pub(super) readings: Readings,
    /// One for each reading.
    pub(super) candidates: Vec<Candidate>,
}

impl Given {
    /// Why there is nothing to judge, where the file is one around requests and none has its body.
    pub(super) fn bodiless(&self) -> Option<String> {
        let (form, what_to_do) = self.readings.bodiless.filter(|_| self.readings.all.len() == 1)?;
        Some(format!("the file is {}; {what_to_do}", form.name()))
    }
}

pub(super) fn read(args: &Args) -> Result<Given, String> {
    let (flags, keys) = (headers(args)?, keys(&args.public_key)?);
    let readings = input::read(read_file(&args.body)?);
    let now_ms = SystemClock::new().unix_ms();
    let candidate = |reading: &Reading| Candidate {
        capture: Capture {
            headers: input::under(flags.clone(), &reading.headers),
            keys: keys.clone(),
            body: reading.body.clone(),
            past: args.past,
            future: args.future,
            received_unix_ms: args.now.map(|now_s| now_s * 1000).or(reading.received_unix_ms).unwrap_or(now_ms),
        },
        layers: reading.forms.len(),
    };
    let candidates = readings.all.iter().map(candidate).collect();
    Ok(Given { readings, candidates })
}

/// Named as `run` names keys of flags.
fn keys(texts: &[String]) -> Result<Vec<NamedKey>, String> {
    let given: Vec<_> = texts.iter().filter(|text| !text.trim().is_empty()).collect();
    if given.is_empty() {
        return Err("--public-key is empty; copy the key from the portal: Keys & Credentials > Public Key".to_owned());
    }
    if given.len() > KEYS_MAX {
        return Err(format!("--public-key is given more than {KEYS_MAX} times; give those that may have signed"));
    }
    let read = |(index, text): (usize, &&String)| {
        let key = parse_public_key(text).map_err(|error| format!("--public-key {error}"))?;
        Ok(NamedKey { name: format!("key{}", index + 1).into(), key })
    };
    given.iter().enumerate().map(read).collect()
}

fn headers(args: &Args) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, flag, text) in
        [(SIGNATURE_HEADER, "--signature", &args.signature), (TIMESTAMP_HEADER, "--timestamp", &args.timestamp)]
    {
        if let Some(text) = text {
            headers.append(name, header_value(flag, text)?);
        }
    }
    if args.header.len() > HEADERS_MAX {
        return Err(format!("--header is given more than {HEADERS_MAX} times, which no request may have"));
    }
    for line in &args.header {
        let wrong = || "--header is not `Name: value`".to_owned();
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        headers.append(name, header_value("--header", value)?);
    }
    Ok(headers)
}

/// A value as an HTTP parser hands it on: without white space around it.
fn header_value(flag: &str, text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(text.trim_ascii().as_bytes()).map_err(|_| {
        format!("{flag} holds a line break or another control character, which no header can; write it on one line")
    })
}

fn read_file(path: &Path) -> Result<Bytes, String> {
    let read = if path == Path::new("-") {
        read_bounded(std::io::stdin().lock())
    } else {
        std::fs::File::open(path).and_then(read_bounded)
    };
    let file = read.map_err(|error| format!("the body cannot be read from {}: {error}", path.display()))?;
    if file.len() > BODY_MAX_BYTES {
        return Err(format!("{} is larger than {BODY_MAX_BYTES} bytes", path.display()));
    }
    Ok(file.into())
}

fn read_bounded(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    source.take(BODY_MAX_BYTES as u64 + 1).read_to_end(&mut body)?;
    Ok(body)
}
