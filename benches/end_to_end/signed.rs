//! Events as Telnyx signs them, made before they are sent: of each only its number and its signature
//! are kept, and the request is put together from a template when it goes out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use hookward::cli::sample::{EventType, MessageType, Sample};

use crate::rig::affinity;

/// Different bodies: three types, and every fifth an MMS.
const TEMPLATES: usize = 15;
/// The id of an event: a UUID that ends in its number.
const ID_PREFIX: &str = "5eb7cafe-0000-4000-8000-";
const ID_DIGITS: usize = 12;
/// Stands before the id in a body, and nowhere earlier: the fields of `data` are in alphabetical order.
const BEFORE_ID: &[u8] = b"\"id\": \"";
const SIGNATURE_CHARS: usize = 88;
const TIMESTAMP_CHARS: usize = 10;

/// A request with room for what differs: `body` at its end, and in it the id.
struct Template {
    /// From behind the path.
    bytes: Vec<u8>,
    timestamp_at: usize,
    signature_at: usize,
    body_at: usize,
    id_at: usize,
}

/// The requests that can be made, and the numbers given away.
pub struct Telnyx {
    templates: Vec<Template>,
    next: u64,
}

/// One event, signed.
pub struct Signed {
    number: u64,
    route: usize,
    signature: [u8; SIGNATURE_CHARS],
}

/// Events with numbers in a row, signed at the same time; good for five minutes.
pub struct Batch {
    pub events: Vec<Signed>,
    pub first: u64,
    timestamp: String,
}

/// Where events go, and who signs them: a key for each path.
pub struct Routes {
    pub paths: Vec<String>,
    pub keys: Vec<SigningKey>,
}

impl Routes {
    /// So many, each with a key of its own.
    pub fn new(count: usize) -> Routes {
        let key = |n: usize| {
            let mut secret = [7; 32];
            secret[..8].copy_from_slice(&(n as u64).to_le_bytes());
            SigningKey::from_bytes(&secret)
        };
        Routes { paths: (0..count).map(|n| format!("/webhooks/{n}")).collect(), keys: (0..count).map(key).collect() }
    }

    pub fn public(&self, n: usize) -> String {
        STANDARD.encode(self.keys[n].verifying_key().as_bytes())
    }
}

impl Telnyx {
    pub fn new() -> Telnyx {
        let mut random = fastrand::Rng::with_seed(1);
        let types = [EventType::Received, EventType::Sent, EventType::Finalized];
        let templates = (0..TEMPLATES).map(|n| {
            let sample = Sample::new(types[n % types.len()], MessageType::nth(n), 1_790_000_000_000, &mut random);
            Template::new(&sample.body(1, "https://hooks.example.com/telnyx"))
        });
        Telnyx { templates: templates.collect(), next: 0 }
    }

    pub fn mean_body_bytes(&self) -> f64 {
        let sum: usize = self.templates.iter().map(|template| template.bytes.len() - template.body_at).sum();
        sum as f64 / self.templates.len() as f64
    }

    /// Numbers for events that are not sent.
    pub fn reserve(&mut self, count: u64) -> u64 {
        self.next += count;
        self.next - count
    }

    pub fn body(&self, number: u64) -> Vec<u8> {
        let template = self.template(number);
        let mut body = template.bytes[template.body_at..].to_vec();
        write_id(&mut body[template.id_at - template.body_at..], number);
        body
    }

    /// The next so many events, spread over the routes; on all CPUs, since nothing is measured now.
    pub fn sign(&mut self, count: usize, routes: &Routes, cpus: &[usize]) -> Batch {
        let first = self.reserve(count as u64);
        let timestamp = now_timestamp();
        let numbers: Vec<u64> = (first..self.next).collect();
        let share = count.div_ceil(cpus.len()).max(1);
        let this: &Telnyx = self;
        let events = std::thread::scope(|scope| {
            let parts: Vec<_> = numbers
                .chunks(share)
                .zip(cpus)
                .map(|(part, cpu)| {
                    let timestamp = &timestamp;
                    scope.spawn(move || {
                        affinity::pin(&[*cpu]);
                        part.iter().map(|number| this.sign_one(*number, timestamp, routes)).collect::<Vec<_>>()
                    })
                })
                .collect();
            parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
        });
        Batch { events, first, timestamp }
    }

    fn sign_one(&self, number: u64, timestamp: &str, routes: &Routes) -> Signed {
        let route = usize::try_from(number).unwrap() % routes.paths.len();
        let signature = routes.keys[route].sign(&self.message(number, timestamp));
        let mut encoded = [0; SIGNATURE_CHARS];
        STANDARD.encode_slice(signature.to_bytes(), &mut encoded).unwrap();
        Signed { number, route, signature: encoded }
    }

    /// The bytes that are signed.
    fn message(&self, number: u64, timestamp: &str) -> Vec<u8> {
        [timestamp.as_bytes(), b"|", &self.body(number)].concat()
    }

    /// The messages and signatures of a batch, for who verifies them without a server.
    pub fn messages(&self, batch: &Batch) -> Vec<(Vec<u8>, ed25519_dalek::Signature)> {
        let decoded = |event: &Signed| STANDARD.decode(event.signature).unwrap();
        let signature = |event| ed25519_dalek::Signature::from_slice(&decoded(event)).unwrap();
        batch.events.iter().map(|event| (self.message(event.number, &batch.timestamp), signature(event))).collect()
    }

    /// The whole request.
    pub fn write(&self, batch: &Batch, index: usize, routes: &Routes, into: &mut Vec<u8>) {
        self.write_to(&routes.paths[batch.events[index].route], batch, index, into);
    }

    /// The same to another path with the same key.
    pub fn write_to(&self, path: &str, batch: &Batch, index: usize, into: &mut Vec<u8>) {
        let event = &batch.events[index];
        let template = self.template(event.number);
        into.clear();
        into.extend_from_slice(b"POST ");
        into.extend_from_slice(path.as_bytes());
        let start = into.len();
        into.extend_from_slice(&template.bytes);
        let rest = &mut into[start..];
        rest[template.timestamp_at..][..TIMESTAMP_CHARS].copy_from_slice(batch.timestamp.as_bytes());
        rest[template.signature_at..][..SIGNATURE_CHARS].copy_from_slice(&event.signature);
        write_id(&mut rest[template.id_at..], event.number);
    }

    fn template(&self, number: u64) -> &Template {
        &self.templates[usize::try_from(number).unwrap() % TEMPLATES]
    }
}

impl Template {
    fn new(body: &[u8]) -> Template {
        let head = format!(
            " HTTP/1.1\r\nhost: hooks.example.com\r\ncontent-type: application/json\r\nuser-agent: telnyx-webhooks\r\n\
             content-length: {}\r\ntelnyx-timestamp: {:0TIMESTAMP_CHARS$}\r\ntelnyx-signature-ed25519: {:A<SIGNATURE_CHARS$}\r\n\r\n",
            body.len(),
            0,
            "",
        );
        let value_at = |name: &str| head.find(name).unwrap() + name.len();
        let id_at = head.len() + id_at(body).unwrap();
        Template {
            timestamp_at: value_at("telnyx-timestamp: "),
            signature_at: value_at("telnyx-signature-ed25519: "),
            body_at: head.len(),
            id_at,
            bytes: [head.as_bytes(), body].concat(),
        }
    }
}

fn id_at(body: &[u8]) -> Option<usize> {
    body.windows(BEFORE_ID.len()).position(|window| window == BEFORE_ID).map(|at| at + BEFORE_ID.len())
}

fn write_id(into: &mut [u8], number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    into[..ID_PREFIX.len()].copy_from_slice(ID_PREFIX.as_bytes());
    let digits = &mut into[ID_PREFIX.len()..][..ID_DIGITS];
    digits.iter_mut().rev().enumerate().for_each(|(n, digit)| *digit = DIGITS[(number >> (4 * n) & 15) as usize]);
}

/// The number of the event in a body of ours.
pub fn number_in(body: &[u8]) -> Option<u64> {
    let digits = body.get(id_at(body)? + ID_PREFIX.len()..)?.get(..ID_DIGITS)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn now_timestamp() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{:0TIMESTAMP_CHARS$}", now.as_secs())
}
