//! What ngrok's inspector has of requests (`/api/requests/http`): the whole request in base64.

use super::base64_text::declared;
use super::json::Object;
use super::{Request, message};

const NO_REQUEST: &str = "the request in it is not whole (request.raw): inspect it while ngrok runs and save it again";

pub(super) fn requests(object: &Object<'_>) -> Option<Vec<Request>> {
    match object.list("requests") {
        Some(items) => Some(items.iter().filter_map(request).collect()),
        None => request(object).map(|request| vec![request]),
    }
}

fn request(object: &Object<'_>) -> Option<Request> {
    let inner = object.object("request")?;
    let raw = inner.text("raw")?;
    let request = declared(&raw).and_then(|raw| message::request(&raw));
    let request = request.unwrap_or_else(|| Request::without_body(NO_REQUEST));
    Some(Request { received_unix_ms: object.time_ms("start"), ..request })
}
