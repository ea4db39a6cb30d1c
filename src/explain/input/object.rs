//! An object with the header and the body of a request, as functions, loggers and collectors of
//! requests write it.

use super::Request;
use super::json::Object;

/// Names of the body, those that promise its bytes first.
const BODIES: [&str; 5] = ["rawBody", "raw_body", "bodyRaw", "body", "payload"];
const PARSED: &str = "the tool has parsed the body: what stands in the file may be written otherwise than what came";
const NO_BODY: &str = "it has no body (body, rawBody): save the body alone";

pub(super) fn requests(object: &Object<'_>) -> Option<Vec<Request>> {
    let headers = object.headers("headers").filter(|lines| !lines.is_empty())?;
    let name = BODIES.into_iter().find(|name| object.member(name).is_some());
    let text = name.and_then(|name| object.text(name));
    let parsed = name.filter(|_| text.is_none()).and_then(|name| object.member(name));
    let body = text.map(String::into_bytes).or_else(|| parsed.map(|raw| raw.as_bytes().to_vec()));
    Some(vec![Request { headers, body: body.ok_or(NO_BODY), received_unix_ms: None, remark: parsed.map(|_| PARSED) }])
}
