//! Requests as people hold them: a file that tools have written around a request is opened, layer by
//! layer. Pure, and bounded whatever the file holds.

mod base64_text;
mod har;
mod json;
mod json_string;
mod lambda;
mod message;
mod ngrok;
mod object;
mod own;
mod utf16;
mod webhook_site;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use self::json::{Object, objects};

/// Layers that are opened: UTF-16 around an export, around base64, around a request.
const LAYERS_MAX: usize = 4;
/// Requests that are read of one file; a HAR of a long session has more, of which few are webhooks.
pub const READINGS_MAX: usize = 256;
/// Header lines that are read of one request, as many as `limits.header_count` allows.
const HEADERS_MAX: usize = 100;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The kind of file that something was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Request line or header lines, an empty line, body.
    HttpRequest,
    /// HTTP Archive, of browsers and proxies.
    Har,
    /// What API Gateway, a function URL or an ALB hands to a Lambda function.
    LambdaEvent,
    /// What ngrok's inspector exports.
    Ngrok,
    /// What webhook.site exports.
    WebhookSite,
    /// What `hookward events` prints.
    Own,
    /// An object with `headers` and `body`, as many tools write it.
    RequestObject,
    /// A JSON string, as in a log.
    JsonString,
    /// Base64.
    Base64,
    /// UTF-16, as PowerShell writes it.
    Utf16,
}

impl Form {
    /// Its code and its name.
    fn row(self) -> (&'static str, &'static str) {
        match self {
            Form::HttpRequest => ("http_request", "an HTTP request"),
            Form::Har => ("har", "a HAR"),
            Form::LambdaEvent => ("lambda_event", "an event of API Gateway or an ALB"),
            Form::Ngrok => ("ngrok", "an export of ngrok"),
            Form::WebhookSite => ("webhook_site", "an export of webhook.site"),
            Form::Own => ("hookward_events", "output of `hookward events`"),
            Form::RequestObject => ("request_object", "a JSON object with headers and body"),
            Form::JsonString => ("json_string", "a JSON string"),
            Form::Base64 => ("base64", "base64"),
            Form::Utf16 => ("utf16", "UTF-16, as PowerShell writes it"),
        }
    }

    /// A stable name, `snake_case`.
    pub fn code(self) -> &'static str {
        self.row().0
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        self.row().1
    }
}

/// One request that a file may hold.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The layers that were opened, the outermost first; none for the file as it is.
    pub forms: Vec<Form>,
    /// Which request of its layer it is, and of how many.
    pub place: (usize, usize),
    /// Its header lines, as far as the file holds any.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// When it came, as the file says; milliseconds since the Unix epoch.
    pub received_unix_ms: Option<i64>,
    /// What is to be said of the body.
    pub remark: Option<&'static str>,
}

/// What was made of a file.
#[derive(Debug)]
pub struct Readings {
    /// The file as it is, then what is in it; at most [`READINGS_MAX`].
    pub all: Vec<Reading>,
    /// A request without its body: where it was found and what to do.
    pub bodiless: Option<(Form, &'static str)>,
}

/// Reads a file as it is and in every form that it has.
pub fn read(file: Bytes) -> Readings {
    let as_it_is = Reading {
        forms: Vec::new(),
        place: (1, 1),
        headers: HeaderMap::new(),
        body: file,
        received_unix_ms: None,
        remark: None,
    };
    let mut readings = Readings { all: vec![as_it_is], bodiless: None };
    let mut next = 0;
    while let Some(outer) = readings.all.get(next).cloned() {
        next += 1;
        if outer.forms.len() == LAYERS_MAX {
            continue;
        }
        if let Some((form, requests)) = open(&outer.body) {
            readings.add(&outer, form, requests);
        }
    }
    readings
}

impl Readings {
    fn add(&mut self, outer: &Reading, form: Form, requests: Vec<Request>) {
        // The texts that UTF-16 may stand for are one request.
        let of = if form == Form::Utf16 { 1 } else { requests.len() };
        for (index, request) in requests.into_iter().enumerate().take(READINGS_MAX - self.all.len()) {
            let body = match request.body {
                Ok(body) => body.into(),
                Err(missing) => {
                    self.bodiless.get_or_insert((form, missing));
                    continue;
                }
            };
            self.all.push(Reading {
                forms: outer.forms.iter().copied().chain([form]).collect(),
                place: if of == 1 { outer.place } else { (index + 1, of) },
                headers: header_map(&outer.headers, request.headers),
                body,
                received_unix_ms: request.received_unix_ms.or(outer.received_unix_ms),
                remark: request.remark.or(outer.remark),
            });
        }
    }
}

/// Lines of the inner layer, and those of the outer one that it has not. What no header can be, such
/// as HTTP/2's `:path`, is left out.
fn header_map(outer: &HeaderMap, lines: Vec<(String, String)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines.into_iter().take(HEADERS_MAX) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii().as_bytes())) {
            headers.append(name, value);
        }
    }
    under(headers, outer)
}

/// These lines, and those of `below` under names that these have not.
pub fn under(mut headers: HeaderMap, below: &HeaderMap) -> HeaderMap {
    let missing: Vec<_> = below.keys().filter(|name| !headers.contains_key(*name)).collect();
    for name in missing {
        for value in below.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// A request as one layer holds it.
struct Request {
    headers: Vec<(String, String)>,
    /// Else what to do to get it.
    body: Result<Vec<u8>, &'static str>,
    received_unix_ms: Option<i64>,
    remark: Option<&'static str>,
}

impl Request {
    fn of(body: Vec<u8>) -> Request {
        Request { headers: Vec::new(), body: Ok(body), received_unix_ms: None, remark: None }
    }

    fn without_body(what_to_do: &'static str) -> Request {
        Request { body: Err(what_to_do), ..Request::of(Vec::new()) }
    }
}

/// The requests that a JSON object holds in some form; none where it has another.
type Requests = fn(&Object<'_>) -> Option<Vec<Request>>;

/// Forms of JSON, the more telling ones first.
const OBJECTS: [(Form, Requests); 6] = [
    (Form::Own, own::requests),
    (Form::Har, har::requests),
    (Form::Ngrok, ngrok::requests),
    (Form::WebhookSite, webhook_site::requests),
    (Form::LambdaEvent, lambda::requests),
    (Form::RequestObject, object::requests),
];

/// Opens the outermost layer, if there is one.
fn open(bytes: &[u8]) -> Option<(Form, Vec<Request>)> {
    if let Some(texts) = utf16::texts(bytes) {
        return Some((Form::Utf16, texts.into_iter().map(Request::of).collect()));
    }
    if let Some(request) = message::request(bytes) {
        return Some((Form::HttpRequest, vec![request]));
    }
    let text = std::str::from_utf8(bytes.strip_prefix(BOM).unwrap_or(bytes)).ok()?.trim_ascii();
    if let Some(request) = own::text(text) {
        return Some((Form::Own, vec![request]));
    }
    if let Some(opened) = open_json(text) {
        return Some(opened);
    }
    if let Some(body) = json_string::content(text) {
        return Some((Form::JsonString, vec![Request::of(body.into_bytes())]));
    }
    base64_text::content(text).map(|body| (Form::Base64, vec![Request::of(body)]))
}

fn open_json(text: &str) -> Option<(Form, Vec<Request>)> {
    let objects = objects(text);
    OBJECTS.into_iter().find_map(|(form, requests)| {
        let found: Vec<Request> = objects.iter().filter_map(requests).flatten().collect();
        (!found.is_empty()).then_some((form, found))
    })
}

#[cfg(test)]
mod tests;
