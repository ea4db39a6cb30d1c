//! The event that API Gateway (payload 1.0 and 2.0), a function URL or an ALB hands to a function.

use super::Request;
use super::base64_text::declared;
use super::json::Object;

const NO_BODY: &str =
    "it has no body (body is null or not the base64 that isBase64Encoded says): log the event as it came";

pub(super) fn requests(object: &Object<'_>) -> Option<Vec<Request>> {
    let context = object.object("requestContext");
    if context.is_none() && object.member("httpMethod").is_none() && object.member("isBase64Encoded").is_none() {
        return None;
    }
    // Of a name that came twice, `headers` has the last line only.
    let headers = object.headers("multiValueHeaders").or_else(|| object.headers("headers"))?;
    let text = object.text("body");
    let body = if object.is_true("isBase64Encoded") {
        text.and_then(|text| declared(&text))
    } else {
        text.map(String::into_bytes)
    };
    let epoch_ms = |name: &str| context.as_ref().and_then(|context| context.number(name));
    Some(vec![Request {
        headers,
        body: body.ok_or(NO_BODY),
        received_unix_ms: epoch_ms("timeEpoch").or_else(|| epoch_ms("requestTimeEpoch")),
        remark: None,
    }])
}
