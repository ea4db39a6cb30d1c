use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;

struct Rig {
    clock: Arc<ManualClock>,
    metrics: Metrics,
    open: Arc<OpenConnections>,
}

impl Rig {
    fn new(most: usize) -> Rig {
        let (clock, metrics) = (Arc::new(ManualClock::default()), Metrics::new(&[]).unwrap());
        let open = OpenConnections::new(&metrics, most, clock.clone());
        Rig { clock, metrics, open }
    }

    /// A millisecond after whatever was before.
    fn admit(&self, party: Party, limits: &ConnectionLimits) -> Option<OpenConnection> {
        self.clock.advance(Duration::from_millis(1));
        self.open.admit(party, limits)
    }

    fn rest(&self, connection: &mut OpenConnection) {
        self.clock.advance(Duration::from_millis(1));
        connection.rest();
    }

    fn gave_way(&self) -> [u64; 3] {
        CONNECTION_BOUNDS.map(|bound| self.metrics.connections_gave_way(bound).get())
    }
}

fn limits(all: usize, per_client: usize) -> ConnectionLimits {
    ConnectionLimits { all, per_client }
}

fn client(text: &str) -> Party {
    Party::Client(text.parse::<IpAddr>().unwrap().into())
}

fn is_evicted(connection: &OpenConnection) -> bool {
    connection.slot.has_given_way()
}

#[tokio::test]
async fn in_a_full_table_the_one_that_has_waited_longest_gives_way_and_is_woken() {
    let rig = Rig::new(100);
    let two = limits(2, 100);
    let first = rig.admit(client("192.0.2.1"), &two).unwrap();
    let second = rig.admit(client("192.0.2.2"), &two).unwrap();
    let third = rig.admit(client("192.0.2.3"), &two).unwrap();
    first.evicted().await;
    assert_eq!(first.begin(), Err(Evicted));
    assert_eq!((second.begin(), third.begin()), (Ok(()), Ok(())));
    assert_eq!(rig.gave_way(), [1, 0, 0]);
}

#[test]
fn one_with_a_request_in_progress_never_gives_way_and_one_that_has_had_one_waits_from_its_end() {
    let rig = Rig::new(100);
    let two = limits(2, 100);
    let mut first = rig.admit(Party::Shared, &two).unwrap();
    let mut second = rig.admit(Party::Shared, &two).unwrap();
    first.begin().unwrap();
    second.begin().unwrap();
    assert!(rig.admit(Party::Shared, &two).is_none(), "both are busy");
    assert!(rig.admit(Party::Shared, &two).is_none(), "and are looked at once only");
    rig.rest(&mut second);
    rig.rest(&mut first);
    let third = rig.admit(Party::Shared, &two).unwrap();
    assert!(is_evicted(&second) && !is_evicted(&first));
    first.begin().unwrap();
    rig.rest(&mut first);
    let _fourth = rig.admit(Party::Shared, &two).unwrap();
    assert!(is_evicted(&third) && !is_evicted(&first), "the first has been busy since");
}

#[test]
fn a_client_at_its_share_gives_way_to_itself_and_no_other_does() {
    let rig = Rig::new(100);
    let most = limits(10, 2);
    let other = rig.admit(client("192.0.2.9"), &most).unwrap();
    let first = rig.admit(client("2001:db8::1"), &most).unwrap();
    let busy = rig.admit(client("2001:db8::2"), &most).unwrap();
    busy.begin().unwrap();
    let third = rig.admit(client("2001:db8::3"), &most).unwrap();
    assert!(is_evicted(&first) && !is_evicted(&other) && !is_evicted(&busy));
    third.begin().unwrap();
    assert!(rig.admit(client("2001:db8::4"), &most).is_none(), "its share is busy");
    assert!(rig.admit(client("192.0.2.1"), &most).is_some(), "others have theirs");
    assert_eq!(rig.gave_way(), [0, 1, 0]);
}

#[test]
fn strangers_have_a_small_share_among_themselves() {
    let rig = Rig::new(1000);
    let most = limits(160, 160);
    let genuine = rig.admit(client("192.0.2.9"), &most).unwrap();
    let strangers: Vec<_> = (0..60).map(|_| rig.admit(Party::Strangers, &most).unwrap()).collect();
    assert!(strangers[..50].iter().all(is_evicted) && !strangers[50..].iter().any(is_evicted));
    assert!(!is_evicted(&genuine));
    assert_eq!(rig.gave_way(), [0, 0, 50]);
}

#[test]
fn whom_a_proxy_names_counts_as_a_client_from_then_on() {
    let rig = Rig::new(100);
    let most = limits(10, 1);
    let mut named = rig.admit(Party::Shared, &most).unwrap();
    assert!(named.counts_for(client("192.0.2.1"), &most));
    let mut again = rig.admit(Party::Shared, &most).unwrap();
    assert!(again.counts_for(client("192.0.2.1"), &most));
    assert!(is_evicted(&named), "it had its share");
    again.begin().unwrap();
    let mut third = rig.admit(Party::Shared, &most).unwrap();
    assert!(!third.counts_for(client("192.0.2.1"), &most), "and its share is busy");
    drop((named, again, third));
    assert_eq!(rig.open.table.lock().count(), 0);
}

#[test]
fn connections_that_are_not_closed_yet_are_bounded() {
    let rig = Rig::new(16);
    let most = limits(4, 4);
    let mut held: Vec<_> = (0..4).map(|_| rig.admit(Party::Shared, &most).unwrap()).collect();
    held.extend((0..2).map(|_| rig.admit(Party::Shared, &most).unwrap()));
    assert!(rig.admit(Party::Shared, &most).is_none(), "an eighth of the open files");
    held.remove(0);
    assert!(rig.admit(Party::Shared, &most).is_some());
}

#[test]
fn a_limit_above_the_open_files_does_not_count_and_a_lowered_one_does_at_once() {
    let rig = Rig::new(8);
    let most = limits(1_000, 1_000);
    let mut held: Vec<_> = (0..9).map(|_| rig.admit(Party::Shared, &most).unwrap()).collect();
    assert!(is_evicted(&held[0]));
    held.remove(0);
    assert!(rig.admit(Party::Shared, &limits(7, 7)).is_none(), "one has given way, and two have to");
    assert!(is_evicted(&held[0]));
}

#[tokio::test]
async fn the_end_of_the_last_one_can_be_awaited() {
    let rig = Rig::new(3);
    rig.open.all_ended().await;
    let most = limits(2, 2);
    let held: Vec<_> = (0..2).map(|_| rig.admit(Party::Shared, &most).unwrap()).collect();
    assert_eq!(rig.metrics.connections.get(), 2);
    let waiting = tokio::spawn({
        let open = rig.open.clone();
        async move { open.all_ended().await }
    });
    drop(held);
    waiting.await.unwrap();
    assert_eq!(rig.metrics.connections.get(), 0);
    assert_eq!(rig.open.table.lock().count(), 0);
}
