//! Order among events of one key: one in flight, in the order of their ranks, parallel across keys.
//! Pure: time is handed in, contents stay outside.
//!
//! An event is known here from when it is first taken up until it is settled. One that fails holds
//! up those behind it for at most `max_block` of the time in which the app is tried; then it is
//! forgotten, and is a newcomer when its retry is due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::order_key::Place;
use crate::buffer::event::Seq;
use crate::clock::RunMs;

/// Events known at once, about 120 B each. What comes beyond is not put in order.
pub const EVENTS_MAX: usize = 65_536;

/// How long the others wait for an event that is not at hand though it does not fail: it is on its
/// way from the buffer, unless an operator has thrown it away there.
const AWAY_MAX: Duration = Duration::from_secs(300);

/// The events of one lane that have a place.
#[derive(Debug)]
pub struct Order {
    events_max: usize,
    max_block: Duration,
    reorder_window: Duration,
    keys: HashMap<u64, Queue>,
    key_of: HashMap<Seq, u64>,
    /// May begin.
    ready: VecDeque<Seq>,
    /// Keys to look at again at some time.
    timers: BinaryHeap<Reverse<(RunMs, u64)>>,
    /// Keys whose head is held for earlier ones, by when that ends.
    holds: BinaryHeap<Reverse<(RunMs, u64)>>,
    /// Everything that was stored before this has been taken up.
    horizon: RunMs,
    /// Whether everything has been taken up that is stored by now.
    is_complete: bool,
    paused_since: Option<RunMs>,
}

/// The events of one key.
#[derive(Debug, Default)]
struct Queue {
    /// In order of rank and arrival.
    waiting: VecDeque<Entry>,
    /// The one that may begin or has begun.
    current: Option<Seq>,
    /// When its timer goes off.
    timer: Option<RunMs>,
    /// When the hold of its head ends.
    hold: Option<RunMs>,
}

impl Queue {
    fn is_next(&self, seq: Seq) -> bool {
        self.waiting.front().is_some_and(|head| head.seq == seq)
    }
}

#[derive(Debug)]
struct Entry {
    rank_us: i64,
    seq: Seq,
    /// One that happened earlier may still come until then.
    held_until: RunMs,
    /// Not to be tried before.
    due: RunMs,
    /// Whether its content is at hand; else it is in the buffer, or on its way.
    here: bool,
    /// Since when it fails.
    fails_since: Option<RunMs>,
    /// Since when those behind it wait for its content.
    away_since: Option<RunMs>,
}

impl Entry {
    /// When those behind it have waited long enough.
    fn blocks_until(&self, max_block: Duration) -> Option<RunMs> {
        let fails_until = self.fails_since.map(|since| since.plus(max_block));
        let away_until = self.away_since.map(|since| since.plus(AWAY_MAX));
        fails_until.into_iter().chain(away_until).min()
    }
}

impl Order {
    /// Nothing is known yet.
    pub fn new(max_block: Duration, reorder_window: Duration) -> Order {
        Order {
            events_max: EVENTS_MAX,
            max_block,
            reorder_window,
            keys: HashMap::new(),
            key_of: HashMap::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            holds: BinaryHeap::new(),
            horizon: RunMs(0),
            is_complete: false,
            paused_since: None,
        }
    }

    /// The content of an event is at hand, for the first time or again. First times come in order
    /// of `seq`. Returns false if too many are known, so that this one goes its way without order.
    pub fn arrive(&mut self, seq: Seq, place: Place, stored_at: RunMs, due: RunMs, now: RunMs) -> bool {
        self.horizon = self.horizon.max(stored_at);
        if !self.key_of.contains_key(&seq) {
            if self.key_of.len() >= self.events_max {
                return false;
            }
            self.key_of.insert(seq, place.key);
            let held_until = stored_at.plus(self.reorder_window);
            let waiting = &mut self.keys.entry(place.key).or_default().waiting;
            let behind = waiting.partition_point(|entry| (entry.rank_us, entry.seq) < (place.rank_us, seq));
            let Place { rank_us, .. } = place;
            // A retry that an earlier run has left.
            let fails_since = (due > now).then_some(now);
            let entry = Entry { rank_us, seq, held_until, due, here: true, fails_since, away_since: None };
            waiting.insert(behind, entry);
        } else if let Some(entry) = self.entry(seq) {
            (entry.here, entry.due, entry.away_since) = (true, due, None);
        }
        self.look_at_key_of(seq, now);
        true
    }

    /// The content of an event goes back to the buffer, untried, until it is due.
    pub fn put_back(&mut self, seq: Seq, due: RunMs, now: RunMs) {
        if let Some(entry) = self.entry(seq) {
            (entry.here, entry.due) = (false, due);
            self.release_key_of(seq, now);
        }
    }

    /// An attempt has ended: with a retry at some time, or for good.
    pub fn ended(&mut self, seq: Seq, retry: Option<RunMs>, now: RunMs) {
        let Some(due) = retry else { return self.remove(seq, now) };
        if let Some(entry) = self.entry(seq) {
            (entry.here, entry.due) = (false, due);
            entry.fails_since.get_or_insert(now);
            self.release_key_of(seq, now);
        }
    }

    /// The next event that may begin. Its key is taken until it has ended or is put back.
    pub fn next_ready(&mut self) -> Option<Seq> {
        self.ready.pop_front()
    }

    /// True of an event that waits for others of its key: for one before it, or for those that may still come.
    pub fn is_behind(&self, seq: Seq) -> bool {
        let queue = self.key_of.get(&seq).and_then(|key| self.keys.get(key));
        queue.is_some_and(|queue| {
            queue.current.map_or(queue.hold.is_some() || !queue.is_next(seq), |current| current != seq)
        })
    }

    /// When an event could begin at the earliest, as far as time alone decides; `None` if it waits
    /// for another one.
    pub fn not_before(&self, seq: Seq, now: RunMs) -> Option<RunMs> {
        let queue = self.keys.get(self.key_of.get(&seq)?)?;
        let entry = queue.waiting.iter().find(|entry| entry.seq == seq)?;
        let own = entry.due.max(entry.held_until);
        queue.timer.into_iter().chain(queue.hold).chain([own]).filter(|at| *at > now).min()
    }

    /// Lets time pass. While not everything has been taken up that is stored by now, one that
    /// happened earlier may be among the rest.
    pub fn tick(&mut self, is_complete: bool, now: RunMs) {
        self.is_complete = is_complete;
        while let Some(Reverse((at, key))) = self.timers.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.timers.pop();
            let Some(queue) = self.keys.get_mut(&key).filter(|queue| queue.timer == Some(at)) else { continue };
            queue.timer = None;
            self.look_at(key, now);
        }
        let seen = self.seen(now);
        while let Some(Reverse((at, key))) = self.holds.peek().copied().filter(|Reverse((at, _))| *at <= seen) {
            self.holds.pop();
            let Some(queue) = self.keys.get_mut(&key).filter(|queue| queue.hold == Some(at)) else { continue };
            queue.hold = None;
            self.look_at(key, now);
        }
    }

    /// When [`Order::tick`] has something to do.
    pub fn next_tick(&self) -> Option<RunMs> {
        let holds = self.holds.peek().filter(|_| self.is_complete);
        self.timers.peek().into_iter().chain(holds).map(|Reverse((at, _))| *at).min()
    }

    /// Up to when everything that is stored is known here.
    fn seen(&self, now: RunMs) -> RunMs {
        if self.is_complete { now } else { now.min(self.horizon) }
    }

    /// The app is not tried for a while: nobody is to blame for those who wait.
    pub fn pause(&mut self, now: RunMs) {
        self.paused_since.get_or_insert(now);
    }

    /// The app is tried again.
    pub fn resume(&mut self, now: RunMs) {
        let Some(since) = self.paused_since.take() else { return };
        let paused = now.since(since);
        for entry in self.keys.values_mut().flat_map(|queue| &mut queue.waiting) {
            for since in [&mut entry.fails_since, &mut entry.away_since].into_iter().flatten() {
                *since = since.plus(paused);
            }
        }
        let keys: Vec<u64> = self.keys.keys().copied().collect();
        for key in keys {
            self.look_at(key, now);
        }
    }

    fn entry(&mut self, seq: Seq) -> Option<&mut Entry> {
        let queue = self.keys.get_mut(self.key_of.get(&seq)?)?;
        queue.waiting.iter_mut().find(|entry| entry.seq == seq)
    }

    fn remove(&mut self, seq: Seq, now: RunMs) {
        let Some(key) = self.key_of.remove(&seq) else { return };
        if let Some(queue) = self.keys.get_mut(&key) {
            queue.waiting.retain(|entry| entry.seq != seq);
            queue.current = queue.current.filter(|current| *current != seq);
            self.look_at(key, now);
        }
    }

    fn release_key_of(&mut self, seq: Seq, now: RunMs) {
        let Some(queue) = self.key_of.get(&seq).and_then(|key| self.keys.get_mut(key)) else { return };
        queue.current = queue.current.filter(|current| *current != seq);
        self.ready.retain(|ready| *ready != seq);
        self.look_at_key_of(seq, now);
    }

    fn look_at_key_of(&mut self, seq: Seq, now: RunMs) {
        if let Some(key) = self.key_of.get(&seq).copied() {
            self.look_at(key, now);
        }
    }

    /// Finds out which event of a key may begin, or when that is worth asking again.
    fn look_at(&mut self, key: u64, now: RunMs) {
        let seen = self.seen(now);
        let Some(queue) = self.keys.get_mut(&key) else { return };
        let until = loop {
            if queue.current.is_some() {
                break None;
            }
            let Some(head) = queue.waiting.front_mut() else {
                self.keys.remove(&key);
                return;
            };
            if head.held_until > seen {
                if queue.hold != Some(head.held_until) {
                    queue.hold = Some(head.held_until);
                    self.holds.push(Reverse((head.held_until, key)));
                }
                break None;
            }
            if head.here && head.due <= now {
                queue.current = Some(head.seq);
                self.ready.push_back(head.seq);
                break None;
            }
            // It fails, or is not at hand: the others wait for it. It may have left the buffer by
            // another way, so that both are bounded.
            if !head.here {
                head.away_since.get_or_insert(now);
            }
            if self.paused_since.is_some() {
                break None;
            }
            match head.blocks_until(self.max_block) {
                Some(end) if end <= now => {
                    self.key_of.remove(&head.seq);
                    queue.waiting.pop_front();
                }
                end => break [end, Some(head.due)].into_iter().flatten().filter(|at| *at > now).min(),
            }
        };
        if let Some(at) = until.filter(|at| queue.timer.is_none_or(|timer| *at < timer || timer <= now)) {
            queue.timer = Some(at);
            self.timers.push(Reverse((at, key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BLOCK: Duration = Duration::from_secs(30);

    /// An order and the time in it.
    struct Bench {
        order: Order,
        now: RunMs,
    }

    impl Bench {
        fn new(reorder_window_ms: u64) -> Bench {
            Bench { order: Order::new(MAX_BLOCK, Duration::from_millis(reorder_window_ms)), now: RunMs(0) }
        }

        fn arrive(&mut self, seq: i64, key: u64, rank_us: i64) -> bool {
            self.order.arrive(Seq(seq), Place { key, rank_us }, self.now, RunMs(0), self.now)
        }

        fn at(&mut self, now: i64) -> Vec<i64> {
            self.now = RunMs(now);
            self.order.tick(true, self.now);
            std::iter::from_fn(|| self.order.next_ready()).map(|seq| seq.0).collect()
        }

        fn ended(&mut self, seq: i64, retry: Option<i64>) {
            self.order.ended(Seq(seq), retry.map(RunMs), self.now);
        }
    }

    #[test]
    fn one_of_a_key_is_under_way_and_keys_do_not_wait_for_each_other() {
        let mut bench = Bench::new(0);
        for (seq, key) in [(1, 7), (2, 7), (3, 8), (4, 7)] {
            bench.arrive(seq, key, 0);
        }
        assert_eq!(bench.at(0), [1, 3]);
        bench.ended(1, None);
        assert_eq!(bench.at(1), [2]);
        bench.ended(3, None);
        assert_eq!(bench.at(2), [] as [i64; 0]);
        bench.ended(2, None);
        assert_eq!(bench.at(3), [4]);
        bench.ended(4, None);
        assert!(bench.order.keys.is_empty() && bench.order.key_of.is_empty());
    }

    #[test]
    fn a_head_that_fails_blocks_its_key_until_its_retry() {
        let mut bench = Bench::new(0);
        bench.arrive(1, 7, 0);
        bench.arrive(2, 7, 0);
        assert_eq!(bench.at(0), [1]);
        bench.ended(1, Some(500));
        assert_eq!(bench.at(600), [] as [i64; 0], "due, and on its way from the buffer");
        bench.arrive(1, 7, 0);
        assert_eq!(bench.at(600), [1]);
        bench.ended(1, None);
        assert_eq!(bench.at(601), [2]);
    }

    #[test]
    fn after_max_block_the_others_go_on_and_the_head_goes_when_it_is_due() {
        let mut bench = Bench::new(0);
        for seq in 1..=3 {
            bench.arrive(seq, 7, 0);
        }
        bench.at(0);
        bench.ended(1, Some(100_000));
        assert_eq!(bench.at(29_999), [] as [i64; 0]);
        assert_eq!(bench.order.next_tick(), Some(RunMs(30_000)));
        assert_eq!(bench.at(30_000), [2]);
        bench.now = RunMs(100_000);
        bench.arrive(1, 7, 0);
        assert_eq!(bench.at(100_000), [] as [i64; 0], "one at a time still");
        bench.ended(2, None);
        assert_eq!(bench.at(100_001), [1], "it is older than 3");
    }

    #[test]
    fn max_block_counts_from_the_first_failure_on() {
        let mut bench = Bench::new(0);
        bench.arrive(1, 7, 0);
        bench.arrive(2, 7, 0);
        bench.at(0);
        bench.ended(1, Some(10_000));
        bench.at(10_000);
        bench.arrive(1, 7, 0);
        assert_eq!(bench.at(10_000), [1]);
        bench.ended(1, Some(90_000));
        assert_eq!(bench.at(29_999), [] as [i64; 0]);
        assert_eq!(bench.at(30_000), [2]);
    }

    #[test]
    fn while_the_app_is_not_tried_no_head_is_to_blame() {
        let mut bench = Bench::new(0);
        bench.arrive(1, 7, 0);
        bench.arrive(2, 7, 0);
        bench.at(0);
        bench.ended(1, Some(1_000));
        bench.order.pause(RunMs(5_000));
        assert_eq!(bench.at(500_000), [] as [i64; 0]);
        bench.order.resume(RunMs(600_000));
        assert_eq!(bench.at(624_999), [] as [i64; 0]);
        assert_eq!(bench.at(625_001), [2]);
    }

    #[test]
    fn within_the_window_what_happened_first_goes_first() {
        let mut bench = Bench::new(1_000);
        bench.arrive(1, 7, 2_000_000);
        bench.now = RunMs(400);
        bench.arrive(2, 7, 1_000_000);
        assert_eq!(bench.at(1_399), [] as [i64; 0], "something even earlier may come");
        assert_eq!(bench.at(1_400), [2]);
        bench.ended(2, None);
        assert_eq!(bench.at(1_401), [1]);
        bench.now = RunMs(1_500);
        bench.arrive(3, 7, 0);
        bench.ended(1, None);
        assert_eq!(bench.at(2_500), [3], "too late for its place, but not lost");
    }

    #[test]
    fn nothing_begins_while_an_earlier_one_may_be_among_what_was_not_taken_up_yet() {
        let mut bench = Bench::new(1_000);
        bench.now = RunMs(10_000);
        let mut taken_up = |seq, key, rank_us, stored_at| {
            bench.order.arrive(Seq(seq), Place { key, rank_us }, RunMs(stored_at), RunMs(0), bench.now);
            bench.order.tick(false, bench.now);
            bench.order.next_ready().map(|seq| seq.0)
        };
        assert_eq!(taken_up(1, 7, 2, 0), None);
        assert_eq!(taken_up(2, 7, 1, 999), None);
        assert_eq!(taken_up(3, 8, 0, 1_998), None, "another may have been stored in the same window");
        assert_eq!(taken_up(4, 8, 0, 1_999), Some(2), "the window of 2 has passed");
        assert_eq!(bench.at(10_000), [3], "all are taken up");
    }

    #[test]
    fn what_was_put_back_keeps_its_place() {
        let mut bench = Bench::new(0);
        for seq in 1..=3 {
            bench.arrive(seq, 7, 0);
        }
        assert_eq!(bench.at(0), [1]);
        bench.order.put_back(Seq(2), RunMs(1_000), RunMs(0));
        bench.ended(1, None);
        assert_eq!(bench.at(10), [] as [i64; 0], "2 is in the buffer, and 3 waits for it");
        assert_eq!(bench.order.not_before(Seq(2), RunMs(10)), Some(RunMs(1_000)));
        bench.now = RunMs(1_000);
        bench.arrive(2, 7, 0);
        assert_eq!(bench.at(1_000), [2]);
    }

    #[test]
    fn a_retry_that_an_earlier_run_has_left_holds_its_place() {
        let mut bench = Bench::new(0);
        bench.order.arrive(Seq(1), Place { key: 7, rank_us: 0 }, RunMs(0), RunMs(5_000), RunMs(0));
        bench.order.put_back(Seq(1), RunMs(5_000), RunMs(0));
        bench.arrive(2, 7, 0);
        assert_eq!(bench.at(4_000), [] as [i64; 0]);
        bench.now = RunMs(5_000);
        bench.arrive(1, 7, 0);
        assert_eq!(bench.at(5_000), [1]);
    }

    #[test]
    fn a_retry_that_is_handed_out_early_after_the_buffer_was_opened_again_still_waits() {
        let mut bench = Bench::new(0);
        bench.arrive(1, 7, 0);
        assert_eq!(bench.at(0), [1]);
        bench.ended(1, Some(5_000));
        bench.order.arrive(Seq(1), Place { key: 7, rank_us: 0 }, RunMs(0), RunMs(5_000), RunMs(100));
        assert_eq!(bench.at(4_999), [] as [i64; 0]);
        assert_eq!(bench.at(5_000), [1]);
    }

    #[test]
    fn an_event_that_never_comes_back_is_not_waited_for_for_ever() {
        let mut bench = Bench::new(0);
        bench.arrive(1, 7, 0);
        bench.arrive(2, 7, 0);
        bench.order.put_back(Seq(1), RunMs(0), RunMs(0));
        assert_eq!(bench.at(299_999), [] as [i64; 0]);
        assert_eq!(bench.at(300_000), [2]);
    }

    #[test]
    fn beyond_its_bound_events_are_not_put_in_order() {
        let mut bench = Bench::new(0);
        bench.order.events_max = 2;
        assert!(bench.arrive(1, 7, 0) && bench.arrive(2, 7, 0));
        assert!(!bench.arrive(3, 7, 0));
        assert!(bench.arrive(2, 7, 0), "a known one");
        bench.at(0);
        bench.ended(1, None);
        assert!(bench.arrive(3, 7, 0), "there is room again");
    }
}
