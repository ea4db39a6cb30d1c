//! The app: records what it gets, and is well or ill as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::event::body_for;
use super::ledger::Ledger;
use crate::harness::{Received, Reply, Sink};

/// How the app answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// 200, at once.
    Well,
    /// As apps are: mostly 200, now and then 500, a closed connection, a slow answer.
    Human,
    /// 503 to everything.
    Refusing,
    /// 400 to everything.
    Rejecting,
    /// Reads the request and says nothing.
    Hanging,
    /// 200, this much later.
    Slow(Duration),
    /// Half a status line, then the end.
    HalfAnswering,
    /// Closes the connection without a word.
    HangingUp,
}

pub struct App {
    sink: Sink,
    mood: Arc<Mutex<Mood>>,
}

impl App {
    pub fn start(ledger: Arc<Ledger>) -> App {
        let sink = Sink::start();
        sink.forget();
        let mood = Arc::new(Mutex::new(Mood::Well));
        let now = mood.clone();
        sink.behave(move |received| {
            let mood = *now.lock().unwrap();
            let reply = reply(mood);
            record(&ledger, received, confirms(&reply));
            reply
        });
        App { sink, mood }
    }

    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// From the next request on. What hung is let go.
    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        match mood {
            Mood::Hanging => self.sink.hold_again(),
            _ => self.sink.release(),
        }
    }

    /// Refuses connections and cuts the open ones.
    pub fn down(&mut self) {
        self.sink.stop();
    }

    pub fn up(&mut self) {
        self.sink.start_again();
    }

    /// The next connections get an RST in place of an answer.
    pub fn reset_next(&self, connections: usize) {
        self.sink.reset_next(connections);
    }
}

fn reply(mood: Mood) -> Reply {
    match mood {
        Mood::Well => Reply::status(200),
        Mood::Human => match fastrand::u8(..60) {
            0 => Reply::status(500),
            1 => Reply::hang_up(),
            2 => Reply::Later(Duration::from_millis(30), 200),
            _ => Reply::status(200),
        },
        Mood::Refusing => Reply::status(503),
        Mood::Rejecting => Reply::status(400),
        Mood::Hanging => Reply::Hold,
        Mood::Slow(pause) => Reply::Later(pause, 200),
        Mood::HalfAnswering => Reply::Raw(b"HTTP/1.1 200 O"),
        Mood::HangingUp => Reply::hang_up(),
    }
}

/// Whether the app has done with the event what is to be done: it counts as delivered from then on,
/// also where its answer is lost on the way.
fn confirms(reply: &Reply) -> bool {
    matches!(reply, Reply::Answer(200..=299, _) | Reply::Later(_, 200..=299) | Reply::Hold)
}

fn record(ledger: &Ledger, received: &Received, confirmed: bool) {
    let id = received.all("hookward-event-id").concat();
    if id.starts_with("forged") {
        return ledger.fault(format!("{id}: a forged event reached the app"));
    }
    if received.all("hookward-verified") != ["telnyx; key=key1"] {
        return ledger.fault(format!("{id}: an unverified event reached the app"));
    }
    if received.body != body_for(&id) {
        return ledger.fault(format!("{id}: the app got other bytes than were sent"));
    }
    ledger.delivered(&id, &received.all("hookward-delivery-id").concat(), confirmed);
}
