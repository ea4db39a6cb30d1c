//! One case: what is sent, what must come back, and what is left of the connection.

use std::time::Duration;

use crate::harness::event::{HOST, TARGET, telnyx_key};
use crate::harness::{Request, new_id, now_s, signed};

/// A genuine event with a small body of its own, to be put into a frame of the case's own.
#[derive(Clone)]
pub struct Genuine {
    pub body: String,
}

impl Genuine {
    pub fn new() -> Genuine {
        Genuine { body: format!(r#"{{"data":{{"id":"{}"}}}}"#, new_id()) }
    }

    /// Of this length, the id included.
    pub fn of_bytes(bytes: usize) -> Genuine {
        let mut genuine = Genuine::new();
        genuine.body.push_str(&" ".repeat(bytes - genuine.body.len()));
        genuine
    }

    /// Content type, signature and timestamp, as header lines.
    pub fn lines(&self) -> String {
        let now = now_s();
        let signature = ::hookward::gate::signature::sign(&telnyx_key(), now, self.body.as_bytes());
        format!(
            "Content-Type: application/json\r\nTelnyx-Signature-Ed25519: {signature}\r\nTelnyx-Timestamp: {now}\r\n"
        )
    }

    pub fn length(&self) -> String {
        format!("Content-Length: {}\r\n", self.body.len())
    }

    /// A request of this request line and these further header lines, with this behind the header.
    pub fn raw(&self, line: &str, lines: &str, behind: &str) -> String {
        format!("{line}\r\n{lines}{}\r\n{behind}", self.lines())
    }

    /// An ordinary request but for these lines of framing and this frame.
    pub fn framed(&self, framing: &str, frame: &str) -> String {
        self.raw(&format!("POST {TARGET} HTTP/1.1"), &format!("Host: {HOST}\r\n{framing}"), frame)
    }

    /// An ordinary request with these further header lines.
    pub fn with(&self, lines: &str) -> String {
        self.framed(&format!("{}{lines}", self.length()), &self.body)
    }

    /// An ordinary request but for this request line.
    pub fn line(&self, line: &str) -> String {
        self.raw(line, &format!("Host: {HOST}\r\n{}", self.length()), &self.body)
    }

    /// An ordinary request but for these lines of Host.
    pub fn host(&self, host: &str) -> String {
        self.raw(&format!("POST {TARGET} HTTP/1.1"), &format!("{host}{}", self.length()), &self.body)
    }

    /// With `Transfer-Encoding: chunked` and this in place of the chunks.
    pub fn chunks(&self, chunks: &str) -> String {
        self.framed("Transfer-Encoding: chunked\r\n", chunks)
    }

    /// The body as one chunk, without the last one.
    pub fn chunk(&self) -> String {
        format!("{:x}\r\n{}\r\n", self.body.len(), self.body)
    }

    pub fn request(&self) -> Request {
        signed(self.body.clone())
    }
}

/// A header as an attacker copies it, with an event that nobody may get: it is genuine, so only the
/// framing keeps it out.
pub fn smuggled() -> String {
    Genuine::new().with("")
}

pub enum Step {
    Send(Vec<u8>),
    /// Goes on sending while the answer is read.
    Meanwhile(Vec<u8>),
    /// One byte after the other, with a pause before each, while the answer is read.
    Drip(Vec<u8>, Duration),
    /// So that what follows comes in a segment of its own.
    Pause(Duration),
    EndOfSending,
    Read(Expected),
}

#[derive(Clone)]
pub enum Expected {
    Accepted,
    Refused(u16, &'static str),
    /// Without a body, as the answer to a HEAD.
    Bodiless(u16),
    Continue,
}

/// What is left of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It takes another event.
    Usable,
    /// It was closed in order, without another byte.
    Closed,
}

/// What must arrive at the app.
pub struct Arrival {
    pub target: String,
    pub body: Vec<u8>,
}

pub struct Case {
    what: String,
    pub steps: Vec<Step>,
    pub left: Left,
    pub arrivals: Vec<Arrival>,
}

impl Case {
    pub fn new(what: impl Into<String>) -> Case {
        Case { what: what.into(), steps: Vec::new(), left: Left::Closed, arrivals: Vec::new() }
    }

    /// What is sent and what must come of it.
    pub fn name(&self) -> String {
        let answers = self.steps.iter().filter_map(|step| match step {
            Step::Read(Expected::Accepted) => Some("200".to_owned()),
            Step::Read(Expected::Refused(status, reason)) => Some(format!("{status} {reason}")),
            Step::Read(Expected::Bodiless(status)) => Some(format!("{status} without a body")),
            Step::Read(Expected::Continue) => Some("100".to_owned()),
            _ => None,
        });
        let answers: Vec<_> = answers.collect();
        let answers = if answers.is_empty() { "no answer".to_owned() } else { answers.join(", then ") };
        let left = if self.left == Left::Usable { "usable" } else { "closed" };
        format!("{} → {answers}, {left}", self.what)
    }

    /// What is sent, in one piece.
    pub fn all_bytes(&self) -> Vec<u8> {
        let sent = self.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) | Step::Meanwhile(bytes) | Step::Drip(bytes, _) => Some(&bytes[..]),
            _ => None,
        });
        sent.collect::<Vec<_>>().concat()
    }

    fn step(mut self, step: Step) -> Case {
        self.steps.push(step);
        self
    }

    pub fn send(self, bytes: impl AsRef<[u8]>) -> Case {
        self.step(Step::Send(bytes.as_ref().to_vec()))
    }

    pub fn meanwhile(self, bytes: impl AsRef<[u8]>) -> Case {
        self.step(Step::Meanwhile(bytes.as_ref().to_vec()))
    }

    pub fn drip(self, bytes: impl AsRef<[u8]>, pause_ms: u64) -> Case {
        self.step(Step::Drip(bytes.as_ref().to_vec(), Duration::from_millis(pause_ms)))
    }

    pub fn pause(self) -> Case {
        self.step(Step::Pause(Duration::from_millis(5)))
    }

    pub fn end_of_sending(self) -> Case {
        self.step(Step::EndOfSending)
    }

    pub fn accepted(self, genuine: &Genuine) -> Case {
        self.accepted_at(TARGET, &genuine.body)
    }

    pub fn accepted_at(mut self, target: &str, body: impl AsRef<[u8]>) -> Case {
        self.arrivals.push(Arrival { target: target.to_owned(), body: body.as_ref().to_vec() });
        self.left = Left::Usable;
        self.step(Step::Read(Expected::Accepted))
    }

    /// Refused, and the connection is closed.
    pub fn refused(mut self, status: u16, reason: &'static str) -> Case {
        self.left = Left::Closed;
        self.step(Step::Read(Expected::Refused(status, reason)))
    }

    pub fn bodiless(mut self, status: u16) -> Case {
        self.left = Left::Usable;
        self.step(Step::Read(Expected::Bodiless(status)))
    }

    pub fn continues(self) -> Case {
        self.step(Step::Read(Expected::Continue))
    }

    pub fn usable(mut self) -> Case {
        self.left = Left::Usable;
        self
    }

    pub fn closed(mut self) -> Case {
        self.left = Left::Closed;
        self
    }
}

/// Sent at once, it is a bad request, and the connection is closed.
pub fn bad(what: impl Into<String>, bytes: impl AsRef<[u8]>) -> Case {
    Case::new(what).send(bytes).refused(400, "bad_request")
}

/// Sent at once, it is accepted, and the connection is good for more.
pub fn good(what: impl Into<String>, genuine: &Genuine, bytes: impl AsRef<[u8]>) -> Case {
    Case::new(what).send(bytes).accepted(genuine)
}
