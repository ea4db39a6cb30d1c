//! One round of each attack. A round panics where its attackers are not treated as they are to be.

use std::time::{Duration, Instant};

use super::{Limits, Target};
use crate::attackers::{self, Came, garbage, header, pour};
use crate::harness::{Wire, forged, poll_within, signed};
use crate::rig::{RECOVERY_WITHIN, Usage, body_for};

/// Random bytes, half requests, genuine requests that were changed on the way. One that is genuine
/// all the same and is answered 200 must not be lost.
pub fn send_garbage(target: &Target<'_>) -> Came {
    const CLIENTS_PER_THREAD: u64 = 150;
    let clients = |thread: usize| {
        let mut random = fastrand::Rng::with_seed(target.seed ^ thread as u64);
        let mut came = Came::default();
        for _ in 0..CLIENTS_PER_THREAD {
            let id = format!("changed-{:016x}", random.u64(..));
            let bytes = garbage(&mut random, &signed(body_for(&id)).bytes());
            let Ok(stream) = attackers::connect(attackers::address(thread), target.address) else { continue };
            let mut wire = Wire::over(stream);
            let asked = Instant::now();
            let sent = wire.try_send(&bytes);
            if random.u8(..4) == 0 {
                // Leaves without a look at the answer.
                came.note(None);
                continue;
            }
            wire.end_of_sending();
            let answer = sent.and_then(|()| wire.try_answer()).ok().flatten();
            if let Some(answer) = answer.as_ref().filter(|answer| answer.status == 200) {
                target.ledger.acked(&id, answer.json()["status"].as_str().unwrap_or_default(), asked.elapsed());
            }
            came.note(answer.map(|answer| answer.status));
        }
        came
    };
    let came = Came::sum(attackers::on_threads(clients));
    let known = [200, 400, 403, 404, 405, 408, 413, 414, 431, 503];
    let unknown = came.statuses().find(|status| !known.contains(status));
    assert_eq!(unknown, None, "{}", came.summary());
    came
}

/// By the thousand, a byte now and then of a header or of a body: a deadline ends each.
pub fn drip(target: &Target<'_>) -> Came {
    const CLIENTS: usize = 2_000;
    /// For the answer to be read to its end, and for a busy machine.
    const SLACK: Duration = Duration::from_secs(8);
    let Limits { header_timeout, body_timeout, .. } = target.limits;
    let within = header_timeout.max(body_timeout) + SLACK;
    let body = header("Content-Length: 100000");
    let chunks = [&header("Transfer-Encoding: chunked")[..], b"ffff\r\n"].concat();
    let streams = attackers::connect_many(CLIENTS, target.address);
    let clients = streams.len();
    let openings: [&[u8]; 4] = [b"P", b"POST /webhooks/telnyx HTTP/1.1\r\nX: ", &body, &chunks];
    let ended = attackers::drip_until_ended(streams, &openings, within);
    assert_eq!(ended.len(), clients, "slow clients are still there after {within:?}");
    let earliest = ended.iter().map(|ended| ended.after).min().unwrap_or_default();
    let came = Came::of(ended.iter().map(|ended| ended.status));
    assert!(earliest >= header_timeout.min(body_timeout) / 2, "ended after {earliest:?}: {}", came.summary());
    assert!(came.with(408) * 10 >= clients * 9, "{clients} slow clients: {}", came.summary());
    came
}

/// Bodies, and headers, that are too large or have no end.
pub fn pour_bodies(target: &Target<'_>) -> Came {
    const CLIENTS_PER_THREAD: usize = 6;
    /// All of them together are more than the memory for bodies.
    const SILENT_PER_THREAD: usize = 4;
    /// What nobody would take.
    const POUR_MAX_BYTES: usize = 64 << 20;
    /// max_body, what is read on so that the answer arrives, and what the kernel queues.
    const TAKEN_MAX_BYTES: usize = 24 << 20;
    let length = header("Content-Length: 10000000000");
    let below = header("Content-Length: 1048576");
    let chunked = header("Transfer-Encoding: chunked");
    let large = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
    let tiny = b"1\r\nx\r\n".repeat(4096);
    let lines = b"X-Field: and another one\r\n".repeat(1024);
    let trailers = [&chunked[..], b"0\r\n"].concat();
    let extension = [&chunked[..], b"5;"].concat();
    let clients = |thread: usize| {
        let mut came = Came::default();
        // Bodies that are held, and do not come to their end.
        let silent: Vec<_> = (0..SILENT_PER_THREAD)
            .filter_map(|_| {
                let stream = attackers::connect(attackers::address(thread), target.address).ok()?;
                let mut wire = Wire::over(stream);
                wire.try_send([&below[..], &vec![b'x'; 1_000_000]].concat()).ok()?;
                Some(wire)
            })
            .collect();
        for client in 0..CLIENTS_PER_THREAD {
            let Ok(stream) = attackers::connect(attackers::address(thread), target.address) else { continue };
            let (taken, status) = match client % 6 {
                0 => pour(stream, &length, &large, POUR_MAX_BYTES),
                1 => pour(stream, &chunked, &large, POUR_MAX_BYTES),
                2 => pour(stream, &chunked, &tiny, POUR_MAX_BYTES),
                3 => pour(stream, &trailers, &lines, POUR_MAX_BYTES),
                4 => pour(stream, &extension, &tiny, POUR_MAX_BYTES),
                _ => pour(stream, b"POST /webhooks/telnyx HTTP/1.1\r\n", &lines, POUR_MAX_BYTES),
            };
            assert!(taken <= TAKEN_MAX_BYTES, "{taken} bytes were taken from client {client}, answer {status:?}");
            came.note(status);
        }
        for mut wire in silent {
            came.note(wire.try_answer().ok().flatten().map(|answer| answer.status));
        }
        came
    };
    let came = Came::sum(attackers::on_threads(clients));
    assert_eq!(came.with(200), 0, "{}", came.summary());
    came
}

/// Opens and closes at full speed: with a reset, in order, or in the middle of a request.
pub fn connect_and_leave(target: &Target<'_>) -> Came {
    const CLIENTS_PER_THREAD: usize = 1_500;
    let clients = |thread: usize| {
        let mut came = Came::default();
        for client in 0..CLIENTS_PER_THREAD {
            let from = attackers::address(thread * CLIENTS_PER_THREAD + client);
            let Ok(stream) = attackers::connect(from, target.address) else { continue };
            came.note(None);
            match client % 3 {
                0 => drop(stream),
                1 => attackers::reset(stream),
                _ => drop(Wire::over(stream).try_send("POST /webhooks/telnyx HTTP/1.1\r\nHost: ")),
            }
        }
        came
    };
    Came::sum(attackers::on_threads(clients))
}

/// Opens more connections than there may be and holds them until as many as are beyond have given way.
pub fn hold_too_many(target: &Target<'_>) -> Came {
    const BEYOND: usize = 300;
    let most = usize::try_from(target.limits.connections).unwrap();
    let mut held = attackers::connect_many(most + BEYOND, target.address);
    let mut ended = Came::default();
    poll_within(RECOVERY_WITHIN, "as many as are beyond have given way", || {
        held.retain(|stream| match attackers::ended(stream) {
            Some(status) => {
                ended.note(status);
                false
            }
            None => true,
        });
        (ended.all() >= BEYOND).then_some(())
    });
    poll_within(RECOVERY_WITHIN, "the open files are within their bound", || {
        Usage::of(target.pid).filter(|now| now.descriptors <= target.descriptors_max)
    });
    ended.add(Came::of(held.iter().map(|_| None)));
    ended
}

/// Over connections that are kept, from as many addresses as there are threads: each forgery is refused for its
/// signature, however many an address sends.
pub fn forge(target: &Target<'_>) -> Came {
    const REQUESTS_PER_THREAD: usize = 1_000;
    let clients = |thread: usize| {
        let mut came = Came::default();
        let mut wire = None;
        let request = forged();
        for _ in 0..REQUESTS_PER_THREAD {
            let from = attackers::address(usize::try_from(target.seed % 50_000).unwrap() + thread);
            let mut asked = match wire.take() {
                Some(kept) => kept,
                None => match attackers::connect(from, target.address) {
                    Ok(stream) => Wire::over(stream),
                    Err(_) => continue,
                },
            };
            let answer = asked.try_ask(&request).ok();
            came.note(answer.as_ref().map(|answer| answer.status));
            wire = answer.filter(|answer| answer.header("connection") != Some("close")).map(|_| asked);
        }
        came
    };
    let came = Came::sum(attackers::on_threads(clients));
    assert_eq!(came.with(200), 0, "{}", came.summary());
    assert!(came.with(403) > 0, "{}", came.summary());
    came
}
