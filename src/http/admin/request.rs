//! What a request to the API asks for: its place, its query, its body. Everything is bounded and
//! refused by name.

use std::borrow::Cow;
use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use pingora_core::protocols::http::ServerSession;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::reply::{Allowed, Reply};
use crate::buffer::event::{Seq, State};
use crate::buffer::record::Filter;

/// Length of the reason of a change.
const REASON_MAX_BYTES: usize = 500;
/// Size of a request's body.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// What is read and thrown away of a larger one, so that whoever sends it gets the answer.
const EXCESS_MAX_BYTES: usize = 1 << 20;
/// Total time of a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Events of a page unless asked for otherwise.
const PAGE_EVENTS: usize = 100;
/// Events of a page at most.
const PAGE_MAX_EVENTS: usize = 1_000;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call<'p> {
    Status,
    Events,
    Event(Seq),
    Redrive(Seq),
    Discard(Seq),
    Forget(Seq),
    RedriveMany,
    Upstreams,
    /// Of this route.
    Pause(&'p str),
    Resume(&'p str),
    SetLimits(&'p str),
    Drain,
}

impl<'p> Call<'p> {
    /// From the path behind `/api/v1/`.
    pub(super) fn find(path: &'p str) -> Option<Call<'p>> {
        let seq = |text: &str| text.parse().ok().filter(|seq| *seq > 0).map(Seq);
        let mut segments = path.split('/');
        let call = match (segments.next()?, segments.next(), segments.next()) {
            ("status", None, None) => Call::Status,
            ("drain", None, None) => Call::Drain,
            ("redrive", None, None) => Call::RedriveMany,
            ("events", None, None) => Call::Events,
            ("events", Some(text), None) => Call::Event(seq(text)?),
            ("events", Some(text), Some("redrive")) => Call::Redrive(seq(text)?),
            ("events", Some(text), Some("discard")) => Call::Discard(seq(text)?),
            ("events", Some(text), Some("forget")) => Call::Forget(seq(text)?),
            ("upstreams", None, None) => Call::Upstreams,
            ("upstreams", Some(route), Some("pause")) => Call::Pause(route),
            ("upstreams", Some(route), Some("resume")) => Call::Resume(route),
            ("upstreams", Some(route), Some("set")) => Call::SetLimits(route),
            _ => return None,
        };
        segments.next().is_none().then_some(call)
    }

    /// Whether it changes anything.
    pub(super) fn changes(self) -> bool {
        !matches!(self, Call::Status | Call::Events | Call::Event(_) | Call::Upstreams)
    }

    /// Refuses any method but the one of the call.
    pub(super) fn takes(self, method: &Method) -> Result<(), Reply> {
        match (self.changes(), method) {
            (true, &Method::POST) | (false, &Method::GET | &Method::HEAD) => Ok(()),
            (true, _) => Err(Reply::wrong_method(Allowed::Change)),
            (false, _) => Err(Reply::wrong_method(Allowed::Look)),
        }
    }
}

/// A page that is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageQuery {
    pub(super) filter: Filter,
    pub(super) before: Option<Seq>,
    pub(super) events: usize,
}

impl PageQuery {
    /// From `state=&route=&event_type=&event_id=&limit=&cursor=`; the error says what is wrong.
    pub(super) fn parse(query: &[u8]) -> Result<PageQuery, String> {
        let mut page = PageQuery { events: PAGE_EVENTS, ..PageQuery::default() };
        for (name, value) in form_urlencoded::parse(query) {
            let value: Cow<'_, str> = value;
            match &*name {
                // As a form sends what is left open.
                _ if value.is_empty() => {}
                "state" => page.filter.state = Some(state(&value)?),
                "route" => page.filter.route = Some(value.into_owned()),
                "event_type" => page.filter.event_type = Some(value.into_owned()),
                "event_id" => page.filter.event_id = Some(value.into_owned()),
                "limit" => page.events = limit(&value)?,
                "cursor" => page.before = Some(cursor(&value)?),
                _ => {
                    return Err("unknown parameter; expected state, route, event_type, event_id, limit, cursor".into());
                }
            }
        }
        Ok(page)
    }
}

fn state(text: &str) -> Result<State, String> {
    let names = || State::ALL.map(State::name).join(", ");
    State::from_name(text).ok_or_else(|| format!("state: expected one of {}", names()))
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|events| (1..=PAGE_MAX_EVENTS).contains(events));
    limit.ok_or_else(|| format!("limit: expected 1 to {PAGE_MAX_EVENTS}"))
}

fn cursor(text: &str) -> Result<Seq, String> {
    let seq = text.parse().ok().filter(|seq| *seq > 0);
    seq.map(Seq).ok_or_else(|| "cursor: expected the next_cursor of an earlier page".to_owned())
}

/// The reason that an operator gives, which goes to the log as one line.
pub(super) fn one_line(reason: Option<String>) -> Result<Option<String>, Reply> {
    match reason {
        Some(reason) if reason.len() > REASON_MAX_BYTES => {
            Err(Reply::error(422, &format!("reason: expected at most {REASON_MAX_BYTES} bytes")))
        }
        Some(reason) if reason.contains(char::is_control) => {
            Err(Reply::error(422, "reason: expected one line without control characters"))
        }
        reason => Ok(reason.filter(|reason| !reason.is_empty())),
    }
}

/// Reads the body and what it says as JSON; an empty one says nothing.
pub(super) async fn read_json<T: DeserializeOwned + Default>(session: &mut ServerSession) -> Result<T, Reply> {
    let body = match timeout(BODY_TIMEOUT, read_body(session)).await {
        Ok(body) => body?,
        Err(_) => return Err(Reply::error(408, "body_timeout")),
    };
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    // By name only: a derived reader would take an array for the members in their order.
    let members = serde_json::from_slice(&body);
    members
        .and_then(|members: Map<String, Value>| serde_json::from_value(Value::Object(members)))
        .map_err(|error| Reply::error(422, &format!("body: {error}")))
}

async fn read_body(session: &mut ServerSession) -> Result<BytesMut, Reply> {
    let mut body = BytesMut::new();
    let mut excess = 0;
    // The error's text is not shown: it may quote what was read.
    while let Some(piece) = session.read_request_body().await.map_err(|_| Reply::error(400, "bad_request"))? {
        if body.len() + piece.len() <= BODY_MAX_BYTES && excess == 0 {
            body.extend_from_slice(&piece);
            continue;
        }
        excess += piece.len();
        if excess > EXCESS_MAX_BYTES {
            break;
        }
    }
    if excess > 0 { Err(Reply::error(413, "body_too_large")) } else { Ok(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_path_and_nothing_else_is_one() {
        for (path, call) in [
            ("status", Call::Status),
            ("events", Call::Events),
            ("events/7", Call::Event(Seq(7))),
            ("events/7/redrive", Call::Redrive(Seq(7))),
            ("events/7/discard", Call::Discard(Seq(7))),
            ("events/7/forget", Call::Forget(Seq(7))),
            ("redrive", Call::RedriveMany),
            ("drain", Call::Drain),
            ("upstreams", Call::Upstreams),
            ("upstreams/a-route/pause", Call::Pause("a-route")),
            ("upstreams/a-route/resume", Call::Resume("a-route")),
            ("upstreams/a-route/set", Call::SetLimits("a-route")),
        ] {
            assert_eq!(Call::find(path), Some(call), "{path}");
        }
        for path in [
            "",
            "events/",
            "events/x",
            "events/0",
            "events/-1",
            "events/7/",
            "events/7/redrive/x",
            "events/99999999999999999999",
            "status/",
            "drain/x",
            "upstreams/",
            "upstreams/a-route",
            "upstreams/a-route/pause/x",
        ] {
            assert_eq!(Call::find(path), None, "{path}");
        }
    }

    #[test]
    fn a_page_is_asked_for_by_name_within_its_bounds() {
        let page =
            PageQuery::parse(b"state=dead&route=a&event_type=message.sent&event_id=%7Bx%20y%7D&limit=7&cursor=9");
        let filter = Filter {
            state: Some(State::Dead),
            route: Some("a".into()),
            event_type: Some("message.sent".into()),
            event_id: Some("{x y}".into()),
        };
        assert_eq!(page, Ok(PageQuery { filter, before: Some(Seq(9)), events: 7 }));
        let open = PageQuery { events: 100, ..PageQuery::default() };
        assert_eq!(PageQuery::parse(b""), Ok(open));
        assert_eq!(PageQuery::parse(b"state=&cursor=&limit=1000").unwrap().events, 1000);
        for bad in ["state=lost", "limit=0", "limit=1001", "limit=-1", "limit=x", "cursor=0", "cursor=x", "order=asc"] {
            let problem = PageQuery::parse(bad.as_bytes()).unwrap_err();
            assert!(problem.contains("expected"), "{problem}");
        }
    }
}
