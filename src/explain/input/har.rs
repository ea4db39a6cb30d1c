//! HTTP Archive (HAR 1.2): the whole file, one entry, or its request.

use super::Request;
use super::base64_text::declared;
use super::json::Object;

const NO_TEXT: &str =
    "no request in it has the text of its body (postData.text): save the HAR with content, or the body alone";

pub(super) fn requests(object: &Object<'_>) -> Option<Vec<Request>> {
    if let Some(entries) = object.object("log").and_then(|log| log.list("entries")) {
        let requests: Vec<Request> = entries.iter().filter_map(entry).collect();
        return Some(if requests.is_empty() { vec![Request::without_body(NO_TEXT)] } else { requests });
    }
    entry(object).or_else(|| request(object)).map(|request| vec![request])
}

fn entry(object: &Object<'_>) -> Option<Request> {
    let request = request(&object.object("request")?)?;
    Some(Request { received_unix_ms: object.time_ms("startedDateTime"), ..request })
}

fn request(object: &Object<'_>) -> Option<Request> {
    let posted = object.object("postData")?;
    let body = posted.text("text").and_then(|text| match posted.text("encoding").as_deref() {
        Some("base64") => declared(&text),
        _ => Some(text.into_bytes()),
    });
    Some(Request {
        headers: object.headers("headers").unwrap_or_default(),
        body: body.ok_or(NO_TEXT),
        received_unix_ms: None,
        remark: None,
    })
}
