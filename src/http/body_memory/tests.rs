use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;

const OVERLOADED: Result<(), Rejection> = Err(Rejection::Overloaded);
/// A piece that counts for progress.
const PIECE: usize = 4096;

struct Rig {
    clock: Arc<ManualClock>,
    memory: BodyMemory,
    gave_way: IntCounter,
}

impl Rig {
    /// Memory and the largest body, in pieces.
    fn new(all: usize, largest: usize) -> Rig {
        let (clock, gave_way) = (Arc::new(ManualClock::default()), IntCounter::new("gave_way", "gave way").unwrap());
        let memory = BodyMemory::new(limits(all, largest), gave_way.clone(), clock.clone());
        Rig { clock, memory, gave_way }
    }

    /// A body that is waited for, with so many pieces.
    fn body(&self, client: ClientKey, pieces: usize) -> (Share<'_>, Result<(), Rejection>) {
        let mut share = self.memory.share();
        share.belongs_to(Some(client));
        let waits = share.wait();
        let grown = waits.and_then(|()| (0..pieces).try_for_each(|_| share.grow(PIECE)));
        (share, grown)
    }

    fn stall(&self) {
        self.clock.advance(Duration::from_secs(2));
    }

    fn held(&self) -> usize {
        self.memory.held_bytes.load(Ordering::SeqCst) / PIECE
    }
}

fn limits(all: usize, largest: usize) -> BodyLimits {
    BodyLimits { all_bytes: all * PIECE, largest_bytes: largest * PIECE, awaited_per_client: 100 }
}

fn client(n: u8) -> ClientKey {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)).into()
}

#[test]
fn one_body_may_take_all_and_gives_it_back() {
    let rig = Rig::new(10, 10);
    let (whole, grown) = rig.body(client(1), 10);
    assert_eq!(grown, Ok(()));
    assert_eq!(rig.body(client(2), 1).1, OVERLOADED);
    drop(whole);
    assert_eq!(rig.held(), 0);
    assert_eq!(rig.body(client(2), 10).1, Ok(()));
    rig.memory.set_limits(limits(5, 5));
    assert_eq!(rig.body(client(2), 6).1, OVERLOADED);
    assert_eq!(rig.held(), 0);
}

#[test]
fn a_client_of_many_bodies_has_at_most_as_much_as_is_left() {
    let rig = Rig::new(100, 10);
    rig.memory.note_verified(client(1));
    let mut held = Vec::new();
    let refused = loop {
        match rig.body(client(1), 10) {
            (share, Ok(())) => held.push(share),
            (_, refused) => break refused,
        }
    };
    assert_eq!((refused, held.len(), rig.held()), (OVERLOADED, 5, 50));
    let others: Vec<_> = (2..5).map(|n| rig.body(client(n), 8)).collect();
    assert!(others.iter().all(|(_, grown)| *grown == Ok(())), "each of the others finds some");
    // What comes at once, without being waited for, counts just so.
    let mut at_once = rig.memory.share();
    at_once.belongs_to(Some(client(1)));
    assert_eq!(at_once.grow(PIECE), OVERLOADED);
}

#[test]
fn however_many_strangers_come_a_part_is_left_to_those_who_are_known() {
    let rig = Rig::new(100, 10);
    rig.memory.note_verified(client(0));
    let held: Vec<_> = (1..=30).map(|n| rig.body(client(n), 5)).filter(|(_, grown)| grown.is_ok()).collect();
    assert!(held.len() < 30);
    assert!((71..=75).contains(&rig.held()), "{}", rig.held());
    assert_eq!(rig.body(client(31), 5).1, OVERLOADED);
    assert_eq!(rig.body(client(0), 10).1, Ok(()));
    let (first, second) = (rig.body(client(0), 10), rig.body(client(0), 2));
    assert_eq!((first.1, second.1), (Ok(()), Ok(())), "and it is more than for one body");
}

#[tokio::test]
async fn bodies_without_progress_give_way_the_longest_first_and_are_woken() {
    let rig = Rig::new(20, 20);
    let (first, grown) = rig.body(client(1), 8);
    assert_eq!(grown, Ok(()));
    rig.clock.advance(Duration::from_millis(10));
    let (mut second, grown) = rig.body(client(2), 8);
    assert_eq!(grown, Ok(()));
    assert_eq!(rig.body(client(3), 8).1, OVERLOADED, "both make progress");
    rig.stall();
    // A byte now and then is none.
    assert_eq!(second.grow(1), Ok(()));
    let (third, grown) = rig.body(client(3), 8);
    assert_eq!(grown, Ok(()));
    first.gives_way().await;
    assert_eq!((rig.gave_way.get(), rig.held()), (1, 16));
    assert_eq!(rig.body(client(4), 9).1, Ok(()), "and then the second");
    assert_eq!(second.grow(PIECE), OVERLOADED);
    drop((first, second));
    assert_eq!(rig.held(), 8);
    drop(third);
    assert_eq!(rig.held(), 0);
}

#[test]
fn a_client_at_its_share_gives_way_to_itself() {
    let rig = Rig::new(100, 10);
    let held: Vec<_> = (0..4).map(|_| rig.body(client(1), 10)).collect();
    assert!(held[..3].iter().all(|(_, grown)| *grown == Ok(())) && held[3].1 == OVERLOADED);
    rig.stall();
    assert_eq!(rig.body(client(1), 10).1, Ok(()), "whoever shares its address gets through");
}

#[test]
fn a_body_that_is_complete_does_not_give_way() {
    let rig = Rig::new(10, 10);
    let (mut whole, _) = rig.body(client(1), 8);
    whole.complete();
    rig.stall();
    assert_eq!(rig.body(client(2), 4).1, OVERLOADED);
    drop(whole);
    assert_eq!(rig.body(client(2), 4).1, Ok(()));
}

#[test]
fn a_client_may_let_wait_for_so_many_bodies() {
    let rig = Rig::new(1000, 10);
    let held: Vec<_> = (0..100).map(|_| rig.body(client(1), 0)).collect();
    assert!(held.iter().all(|(_, waits)| *waits == Ok(())));
    assert_eq!(rig.body(client(1), 0).1, OVERLOADED);
    assert_eq!(rig.body(client(2), 0).1, Ok(()));
}
