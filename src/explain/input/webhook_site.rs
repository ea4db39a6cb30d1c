//! What webhook.site has of requests: one, or the list of its API.

use super::Request;
use super::json::Object;

const NO_CONTENT: &str = "it has no `content`: copy the raw content of the request from the page";

pub(super) fn requests(object: &Object<'_>) -> Option<Vec<Request>> {
    match object.list("data") {
        Some(items) => Some(items.iter().filter_map(request).collect()),
        None => request(object).map(|request| vec![request]),
    }
}

fn request(object: &Object<'_>) -> Option<Request> {
    let is_one = object.member("token_id").is_some() || object.member("content").is_some();
    let headers = object.headers("headers").filter(|_| is_one)?;
    Some(Request {
        headers,
        body: object.text("content").map(String::into_bytes).ok_or(NO_CONTENT),
        received_unix_ms: object.time_ms("created_at"),
        remark: None,
    })
}
