//! The API on events: lists, one event, redrive, discard, forget. Every change is logged with who asked for
//! it, never with what is in the event.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pingora_core::protocols::http::ServerSession;
use serde::Deserialize;
use serde_json::{Value, json};

use super::app::Nothing;
use super::reply::Reply;
use super::request::{PageQuery, one_line, read_json};
use super::{AdminState, BufferView, Readiness};
use crate::buffer::committer::{Committer, DeskError};
use crate::buffer::event::{Attempt, Seq, State};
use crate::buffer::record::{Content, Detail, Record, Repair, Repaired};
use crate::buffer::redrive::{Busy, DEFAULT_RATE_PER_S, RATES_PER_S, Redrives};
use crate::clock::{RunMs, duration_ms, rfc3339_ms};
use crate::forward::waits::Wait;

/// The body of a discard.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Discard {
    reason: Option<String>,
}

/// The body of a redrive of many.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RedriveMany {
    state: Option<String>,
    limit: Option<u64>,
    rate_per_s: Option<f64>,
    dry_run: bool,
}

impl RedriveMany {
    fn check(&self) -> Result<(), Reply> {
        let problem = if self.state.as_deref() != Some(State::Dead.name()) {
            "state: expected dead, which is what can be sent again in numbers".to_owned()
        } else if self.limit == Some(0) {
            "limit: expected at least 1".to_owned()
        } else if self.rate_per_s.is_some_and(|rate| !RATES_PER_S.contains(&rate)) {
            format!("rate_per_s: expected {} to {}", RATES_PER_S.start(), RATES_PER_S.end())
        } else {
            return Ok(());
        };
        Err(Reply::error(422, &problem))
    }
}

impl From<DeskError> for Reply {
    fn from(error: DeskError) -> Reply {
        Reply::error(503, &error.to_string())
    }
}

impl AdminState {
    pub(super) fn committer(&self) -> Result<&Committer, Reply> {
        match self.buffer.get() {
            Some(view) => Ok(&view.committer),
            None if *self.readiness.borrow() == Readiness::Starting => Err(Reply::error(503, "starting")),
            None => Err(Reply::error(409, "no route of mode ack: nothing is stored here")),
        }
    }

    /// A page of a list.
    pub(super) async fn events(&self, query: &[u8]) -> Result<Reply, Reply> {
        let query = PageQuery::parse(query).map_err(|problem| Reply::error(422, &problem))?;
        let page = self.committer()?.list(&query.filter, query.before, query.events).await?;
        let waits = self.waits(&page.records).await;
        let events: Vec<Value> = page.records.iter().map(|record| self.record(record, &waits)).collect();
        let next_cursor = page.next.map(|seq| seq.0.to_string());
        Ok(Reply::json(200, &json!({"events": events, "next_cursor": next_cursor})))
    }

    /// One event.
    pub(super) async fn event(&self, seq: Seq) -> Result<Reply, Reply> {
        let detail = self.committer()?.event(seq).await?.ok_or_else(Reply::not_found)?;
        let waits = self.waits(std::slice::from_ref(&detail.record)).await;
        Ok(Reply::json(200, &self.detail(&detail, &waits)))
    }

    /// Delivers one event again.
    pub(super) async fn redrive(
        &self,
        seq: Seq,
        by: &'static str,
        session: &mut ServerSession,
    ) -> Result<Reply, Reply> {
        let Nothing {} = read_json(session).await?;
        self.repair(Repair::Redrive(seq), by, None).await?;
        Ok(Reply::json(202, &json!({"seq": seq.0, "state": State::Pending.name()})))
    }

    /// Throws one event away.
    pub(super) async fn discard(
        &self,
        seq: Seq,
        by: &'static str,
        session: &mut ServerSession,
    ) -> Result<Reply, Reply> {
        let Discard { reason } = read_json(session).await?;
        let reason = one_line(reason)?;
        self.repair(Repair::Discard(seq), by, reason).await?;
        Ok(Reply::json(202, &json!({"seq": seq.0, "state": State::Discarded.name()})))
    }

    /// Lets one repeat of an event through.
    pub(super) async fn forget(&self, seq: Seq, by: &'static str, session: &mut ServerSession) -> Result<Reply, Reply> {
        let Nothing {} = read_json(session).await?;
        self.repair(Repair::Forget(seq), by, None).await?;
        Ok(Reply::json(202, &json!({"seq": seq.0, "forgotten": true})))
    }

    /// Delivers dead letters again in the background, or only says how many there are.
    pub(super) async fn redrive_many(&self, by: &'static str, session: &mut ServerSession) -> Result<Reply, Reply> {
        let asked: RedriveMany = read_json(session).await?;
        asked.check()?;
        let committer = self.committer()?;
        if asked.dry_run {
            let matched = Redrives::matched(committer, asked.limit);
            return Ok(Reply::json(200, &json!({"matched": matched, "started": false})));
        }
        let rate_per_s = asked.rate_per_s.unwrap_or(DEFAULT_RATE_PER_S);
        let matched = self
            .redrives
            .start(committer, asked.limit, rate_per_s)
            .map_err(|Busy| Reply::error(409, "a redrive is running; its progress is in the status"))?;
        tracing::info!(by, matched, rate_per_s, "dead letters are delivered again, the oldest first");
        Ok(Reply::json(200, &json!({"matched": matched, "started": matched > 0})))
    }

    async fn repair(&self, repair: Repair, by: &'static str, reason: Option<String>) -> Result<(), Reply> {
        let committer = self.committer()?.clone();
        // A task of its own: what is done is logged even if nobody waits for the answer any more.
        let done = tokio::spawn(async move {
            let repaired = committer.repair(vec![repair]).await?.into_iter().next();
            if let Some(Repaired::Done { route, was, .. }) = &repaired {
                log(repair, by, route, *was, reason.as_deref());
            }
            Ok::<_, DeskError>(repaired)
        });
        let conflict = |why: &str| Err(Reply::error(409, why));
        match done.await.unwrap_or(Err(DeskError::Failed))? {
            Some(Repaired::Done { .. }) => Ok(()),
            Some(Repaired::Unknown) | None => Err(Reply::not_found()),
            Some(Repaired::NotIn(state)) => conflict(&not_in(state, repair)),
            Some(Repaired::NoBody) => {
                conflict(&format!("the body is not kept any more (delivery.delivered.keep); {FORGET}"))
            }
            Some(Repaired::NoRoom) => conflict("pending and dead events are at buffer.max_bytes"),
            Some(Repaired::NotRemembered) => {
                conflict("not remembered: its id is new to hookward, or stands for a newer event now")
            }
        }
    }

    /// What the pending ones among these wait for.
    async fn waits(&self, records: &[Record]) -> HashMap<Seq, Wait> {
        let mut by_route: BTreeMap<&str, Vec<(Seq, RunMs)>> = BTreeMap::new();
        for record in records {
            let due = record.due_in.map(|wait| (record.seq, self.now().plus(wait)));
            by_route.entry(&record.route).or_default().extend(due);
        }
        let mut waits = HashMap::new();
        let Some(BufferView { forwarder, .. }) = self.buffer.get() else { return waits };
        for (route, events) in by_route {
            let told = forwarder.waits(route, &events).await;
            waits.extend(events.iter().zip(told).filter_map(|((seq, _), wait)| Some((*seq, wait?))));
        }
        waits
    }

    fn record(&self, record: &Record, waits: &HashMap<Seq, Wait>) -> Value {
        let wait = waits.get(&record.seq);
        let due = match wait {
            Some(wait) => wait.until.map(|until| until.max(self.now()).since(self.now())),
            None => record.due_in,
        };
        let due = due.map(|wait| rfc3339_ms(self.clock.unix_ms().saturating_add(duration_ms(wait))));
        json!({
            "seq": record.seq.0,
            "delivery_id": record.delivery_id.to_string(),
            "event_id": record.event_id,
            "event_type": record.event_type,
            "route": &*record.route,
            "state": record.state.name(),
            "received_at": rfc3339_ms(record.received_unix_ms),
            "attempts": record.attempts,
            "next_attempt_at": due,
            "waits_for": wait.map(|wait| wait.reason.name()),
            "last_error": record.last_error,
            "size_bytes": record.size_bytes,
        })
    }

    fn detail(&self, detail: &Detail, waits: &HashMap<Seq, Wait>) -> Value {
        let mut shown = self.record(&detail.record, waits);
        shown["replay"] = detail.replay.into();
        shown["last_attempt"] = last_attempt(detail);
        let content = detail.content.as_ref();
        let head = content.and_then(|content| content.head.as_ref());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        shown["method"] = head.map(|head| head.method.clone()).into();
        shown["target"] = head.map(|head| text(&head.target)).into();
        shown["headers"] = head
            .map(|head| head.headers.iter().map(|(name, value)| json!([text(name), text(value)])).collect::<Vec<_>>())
            .into();
        shown["verified_by"] = head.and_then(|head| head.key.as_deref()).into();
        shown["body"] = content.map(|content| STANDARD.encode(&content.body)).into();
        shown["intact"] = content.map(|content: &Content| content.intact).into();
        shown
    }
}

/// The way that is left where nothing of an event can be sent again.
const FORGET: &str = "`hookward events forget` lets the sender's next repeat through";

/// Why an event in this state cannot be repaired so.
fn not_in(state: State, repair: Repair) -> String {
    let stands = format!("it is {}", state.name());
    match (repair, state) {
        (Repair::Redrive(_), State::Discarded) => format!("{stands}: its body was deleted at once; {FORGET}"),
        (Repair::Forget(_), State::Pending) => format!("{stands}: the app is still to get it"),
        (Repair::Forget(_), State::Dead) => format!("{stands}: `hookward events redrive` delivers it"),
        (Repair::Forget(_), State::Quarantined) => format!("{stands}: the sender's next repeat is let through anyway"),
        _ => stands,
    }
}

/// Who asked for what; nothing of the event but its place.
fn log(repair: Repair, by: &str, route: &str, was: State, reason: Option<&str>) {
    let was = was.name();
    match repair {
        Repair::Redrive(seq) => tracing::info!(by, seq = seq.0, route, was, "an event is delivered again"),
        Repair::Discard(seq) => tracing::info!(by, seq = seq.0, route, was, reason, "an event was discarded"),
        Repair::Forget(seq) => {
            tracing::info!(by, seq = seq.0, route, was, "an event was forgotten: one repeat of it is let through");
        }
    }
}

fn last_attempt(detail: &Detail) -> Value {
    let Some(Attempt { ended_unix_ms, status, duration_ms }) = detail.last_attempt else { return Value::Null };
    let error = &detail.record.last_error;
    json!({"at": rfc3339_ms(ended_unix_ms), "status": status, "error": error, "duration_ms": duration_ms})
}
