//! Bodies that are waited for, by client, and the one that has made no progress for longest.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::gate::client_key::ClientKey;

/// A body that has got less than [`PROGRESS_BYTES`] in this time makes no progress.
const STALLED_AFTER_US: i64 = 1_000_000;
/// As much of a body as counts for progress. A byte now and then does not; what holds less than that is not worth
/// its end.
const PROGRESS_BYTES: usize = 4096;

/// A body that is waited for. But for `wake` it is read and written under the lock of the memory.
#[derive(Debug)]
pub(super) struct AwaitedBody {
    id: u64,
    client: Option<ClientKey>,
    bytes: AtomicUsize,
    /// When it last made progress, and how much of it there was then.
    progressed_us: AtomicI64,
    progressed_bytes: AtomicUsize,
    gave_way: AtomicBool,
    pub(super) wake: Notify,
}

impl AwaitedBody {
    pub(super) fn has_given_way(&self) -> bool {
        self.gave_way.load(Ordering::Acquire)
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn place(&self) -> (i64, u64) {
        (self.progressed_us.load(Ordering::Relaxed), self.id)
    }
}

/// All bodies that are waited for.
#[derive(Default)]
pub(super) struct Awaited {
    next_id: u64,
    /// Those that are worth their end, by their last progress.
    by_progress: BTreeMap<(i64, u64), Arc<AwaitedBody>>,
    /// Number and bytes.
    clients: HashMap<Option<ClientKey>, (usize, usize)>,
}

impl Awaited {
    /// Bodies of a client, and their bytes.
    pub(super) fn of(&self, client: Option<ClientKey>) -> (usize, usize) {
        self.clients.get(&client).copied().unwrap_or_default()
    }

    /// One more, with what there is of it.
    pub(super) fn insert(&mut self, client: Option<ClientKey>, bytes: usize, now_us: i64) -> Arc<AwaitedBody> {
        let body = Arc::new(AwaitedBody {
            id: self.next_id,
            client,
            bytes: AtomicUsize::new(0),
            progressed_us: AtomicI64::new(now_us),
            progressed_bytes: AtomicUsize::new(0),
            gave_way: AtomicBool::new(false),
            wake: Notify::new(),
        });
        self.next_id += 1;
        self.clients.entry(client).or_default().0 += 1;
        self.grow(&body, bytes, now_us);
        body
    }

    /// So much more of it has come.
    pub(super) fn grow(&mut self, body: &Arc<AwaitedBody>, bytes: usize, now_us: i64) {
        if body.has_given_way() {
            return;
        }
        let all = body.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.clients.entry(body.client).or_default().1 += bytes;
        if all - body.progressed_bytes.load(Ordering::Relaxed) >= PROGRESS_BYTES {
            self.by_progress.remove(&body.place());
            body.progressed_us.store(now_us, Ordering::Relaxed);
            body.progressed_bytes.store(all, Ordering::Relaxed);
            self.by_progress.insert(body.place(), body.clone());
        }
    }

    /// It is waited for no longer.
    pub(super) fn remove(&mut self, body: &AwaitedBody) {
        self.by_progress.remove(&body.place());
        if let Some((bodies, bytes)) = self.clients.get_mut(&body.client) {
            *bodies -= 1;
            *bytes -= body.bytes();
            if *bodies == 0 {
                self.clients.remove(&body.client);
            }
        }
    }

    /// Lets the body go that has made no progress for longest; how many bytes that frees. `None` if each makes some.
    pub(super) fn give_way(&mut self, now_us: i64) -> Option<usize> {
        let body = self.by_progress.values().next()?.clone();
        if now_us - body.progressed_us.load(Ordering::Relaxed) < STALLED_AFTER_US {
            return None;
        }
        self.remove(&body);
        body.gave_way.store(true, Ordering::Release);
        body.wake.notify_one();
        Some(body.bytes())
    }
}
