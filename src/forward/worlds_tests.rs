//! Worlds of one trouble each: what the events wait whose handler is well, what a dead app is asked,
//! and how soon one that is back has everything.
//!
//! `cargo test --lib worlds -- --nocapture` prints the numbers.

use std::num::NonZeroU32;

use super::super::rate::Rate;
use super::super::scheduler::tests::scheduler_of;
use super::*;

/// A minute of 50 events a second at an app that is well.
fn quiet(poison_share: f64) -> Settings {
    Settings {
        lanes: 1,
        max_concurrency: 16,
        rate: None,
        ordering: None,
        latency_ms: 10.0,
        workers: 8,
        moods: vec![(0, Mood::Well)],
        restarts: vec![],
        arrivals: (0..3_000).map(|n| n * 20).collect(),
        keys: 1,
        poison_share,
        handlers: vec![],
        stale_before: 0,
    }
}

#[test]
fn one_poisoned_event_in_a_hundred_never_slows_the_others() {
    let longest_wait = |poison_share| {
        let world = World::new(7, quiet(poison_share)).run();
        assert_eq!(world.rows.values().any(|row| row.poison == Poison::Fails), poison_share > 0.0);
        let genuine = world.rows.values().filter(|row| row.poison == Poison::No);
        assert!(genuine.clone().all(|row| row.attempts == 0), "taken at the first attempt");
        genuine.filter_map(|row| Some(row.first_attempt? - row.stored_at)).max()
    };
    assert_eq!(longest_wait(0.0), Some(0));
    assert_eq!(longest_wait(0.01), Some(0));
}

#[test]
fn an_outage_of_20_s_with_1500_events_costs_under_100_attempts_and_its_end_is_noticed_within_a_second() {
    for (lanes, latency_ms) in [(1, 10.0), (3, 10.0), (1, 100.0)] {
        let outage = 10_000..30_000;
        let settings = Settings {
            lanes,
            latency_ms,
            moods: vec![(0, Mood::Well), (outage.start, Mood::Down), (outage.end, Mood::Well)],
            arrivals: (0..4_500).map(|n| n * 40 / 3).collect(),
            ..roomy(75)
        };
        let world = World::new(7, settings).run();
        let missed = world.rows.values().filter(|row| outage.contains(&row.stored_at)).count();
        assert!(missed >= 1_490, "{missed}");
        let wasted = world.tried.iter().filter(|(_, signal, _)| *signal != Signal::Good).count();
        let cost = wasted + world.connects.len();
        let back = world.tried.iter().find(|(at, signal, _)| *at >= outage.end && *signal == Signal::Good);
        let noticed_ms = back.unwrap().0 - outage.end;
        let settled_ms = world.now - world.rows.values().last().unwrap().stored_at;
        println!("outage of 20 s: {wasted} attempts, {} connects, noticed after {noticed_ms} ms", world.connects.len());
        assert!(cost < 60, "{wasted} attempts and {} connects at a dead app", world.connects.len());
        assert!(noticed_ms <= 1_050, "{noticed_ms} ms");
        assert!(settled_ms < 5_000, "all is delivered long before the last one came: {settled_ms} ms");
        let settled = outage.start + 3_000..outage.end;
        let tried = world.tried.iter().map(|(at, ..)| *at).chain(world.connects.iter().copied());
        let mut probes: Vec<i64> = tried.filter(|at| settled.contains(at)).collect();
        probes.sort_unstable();
        assert!(probes.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "one probe an interval: {probes:?}");
    }
}

#[test]
fn an_outage_charges_a_handful_of_attempts_and_new_events_do_not_wait_for_its_backlog() {
    let outage_ms = 20_000;
    let moods = vec![(0, Mood::Well), (10_000, Mood::Down), (10_000 + outage_ms, Mood::Well)];
    let world = World::new(7, Settings { moods, ..quiet(0.0) }).run();
    let charged: u32 = world.rows.values().map(|row| row.attempts).sum();
    // Five that open the breaker, and one every five seconds.
    assert!((5..12).contains(&charged), "{charged} attempts failed in 20 s");
    let after = 10_000 + outage_ms + 5_000;
    let waited = |row: &Row| row.first_attempt.unwrap() - row.stored_at;
    let (new, old): (Vec<&Row>, Vec<&Row>) = world.rows.values().partition(|row| row.stored_at > after);
    assert!(new.iter().all(|row| waited(row) < 100), "{:?}", new.iter().map(|row| waited(row)).max());
    assert!(old.iter().any(|row| waited(row) > outage_ms / 2), "there was a backlog");
}

/// Two minutes of so many events a second at an app that is well and has room for all that
/// hookward sends at once.
fn roomy(per_s: i64) -> Settings {
    Settings {
        max_concurrency: 32,
        workers: 64,
        arrivals: (0..per_s * 120).map(|n| n * 1000 / per_s).collect(),
        ..quiet(0.0)
    }
}

/// How long events waited for their first attempt, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Waits {
    p50: i64,
    p99: i64,
    worst: i64,
}

fn waits_of<'w>(rows: impl Iterator<Item = &'w Row>) -> Waits {
    let mut all: Vec<i64> = rows.map(|row| row.first_attempt.unwrap() - row.stored_at).collect();
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() * percent / 100).min(all.len() - 1)];
    Waits { p50: at(50), p99: at(99), worst: at(100) }
}

fn waits_of_well(world: &World) -> Waits {
    waits_of(
        world.rows.values().filter(|row| row.handler == Handler::Well && row.stored_at >= world.settings.stale_before),
    )
}

/// Runs a world, but not until all of what its handlers never take is given up.
fn run(settings: Settings) -> World {
    let last = settings.arrivals.last().copied();
    let mut world = World::new(7, settings);
    world.ends_at = last.map(|at| at + 60_000);
    world.run()
}

/// Runs a world of handlers that are not well: nobody else waits for them.
fn check_well(name: &str, settings: Settings) {
    let world = run(settings);
    let waits = waits_of_well(&world);
    println!("{name}: {waits:?}, {} attempts, window {}", world.tried.len(), world.scheduler.limit());
    assert!(waits.p50 <= 100 && waits.p99 <= 1_000 && waits.worst <= 15_000, "{name}: {waits:?}");
}

#[test]
fn slow_types_do_not_hold_up_the_others() {
    for share in [0.05, 0.1, 0.3] {
        for slow_ms in [1_000.0, 5_000.0, 9_000.0] {
            let handlers = vec![(share, Handler::Slow(slow_ms))];
            check_well(&format!("slow {share} {slow_ms}"), Settings { handlers, ..roomy(10) });
        }
    }
}

#[test]
fn broken_handlers_do_not_hold_up_the_others() {
    for share in [0.01, 0.2, 0.6] {
        let handlers = vec![(share, Handler::Broken)];
        check_well(&format!("broken {share}"), Settings { handlers, ..roomy(20) });
    }
}

#[test]
fn hanging_handlers_do_not_hold_up_the_others() {
    for share in [0.05, 0.1, 0.3] {
        let handlers = vec![(share, Handler::Hangs)];
        check_well(&format!("hanging {share}"), Settings { handlers, ..roomy(10) });
    }
}

#[test]
fn several_troubles_at_once_do_not_hold_up_the_others() {
    let handlers = vec![(0.1, Handler::Hangs), (0.1, Handler::Slow(5_000.0)), (0.2, Handler::Broken)];
    check_well("hanging, slow, broken", Settings { handlers, ..roomy(10) });
}

#[test]
fn a_uniformly_slow_app_is_used_as_far_as_it_goes() {
    for latency_ms in [300.0, 2_000.0] {
        check_well(&format!("all {latency_ms} ms"), Settings { latency_ms, ..roomy(5) });
    }
}

#[test]
fn an_app_whose_latency_grows_with_load_is_spared() {
    let settings = Settings { latency_ms: 50.0, workers: 8, handlers: vec![(0.5, Handler::Slow(50.0))], ..roomy(400) };
    let world = run(settings);
    let mut took: Vec<f64> = world.tried.iter().map(|(_, _, took_ms)| *took_ms).collect();
    took.sort_by(f64::total_cmp);
    let median = took[took.len() / 2];
    println!("grows with load: median {median} ms of 50, window {}", world.scheduler.limit());
    assert!(median < 50.0 * 2.0, "{median} ms where 50 are normal: eight at once are what it bears");
}

#[test]
fn after_an_outage_old_events_that_the_app_refuses_do_not_hold_up_new_ones() {
    let outage = 10_000..40_000;
    let settings = Settings {
        moods: vec![(0, Mood::Well), (outage.start, Mood::Down), (outage.end, Mood::Well)],
        stale_before: outage.end,
        ..roomy(10)
    };
    let world = run(settings);
    let waits = waits_of_well(&world);
    let wasted = world.tried.iter().filter(|(_, signal, _)| *signal == Signal::Unreachable).count();
    let back = world.tried.iter().find(|(at, signal, _)| *at >= outage.end && *signal == Signal::Good);
    let recovered_ms = back.unwrap().0 - outage.end;
    println!("old 404: {waits:?}, {wasted} wasted, recovered after {recovered_ms} ms");
    assert!(recovered_ms <= 1_050, "one interval of connects: {recovered_ms}");
    assert!(wasted < 20, "{wasted} attempts at a dead app");
    let new = world.rows.values().filter(|row| row.stored_at >= outage.end + 6_000);
    assert!(waits_of(new).p99 <= 1_000);
}

#[test]
fn an_app_that_answers_500_to_everything_gets_one_probe_an_interval() {
    let outage = 10_000..70_000;
    let settings = Settings {
        moods: vec![(0, Mood::Well), (outage.start, Mood::Broken), (outage.end, Mood::Well)],
        handlers: vec![(0.3, Handler::Well), (0.3, Handler::Well), (0.1, Handler::Broken)],
        ..roomy(20)
    };
    let world = run(settings);
    let during = |(at, ..): &&(i64, Signal, f64)| (outage.start..outage.end).contains(at);
    let probes: Vec<i64> =
        world.tried.iter().filter(during).map(|(at, ..)| *at).skip_while(|at| *at < 21_000).collect();
    let closest = probes.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    println!("all 500: {} probes after 11 s, {closest} ms apart", probes.len());
    assert!(closest >= 5_000, "{probes:?}");
    let new = world.rows.values().filter(|row| row.stored_at >= outage.end + 6_000 && row.handler == Handler::Well);
    let waits = waits_of(new);
    assert!(waits.p99 <= 1_000, "{waits:?}");
}

#[test]
fn events_with_which_the_app_finds_fault_do_not_keep_the_breaker_open_for_new_ones() {
    // Forty at once that are answered 500, of the type that all others have too.
    let settings =
        Settings { arrivals: (0..600).map(|n| if n < 40 { n } else { 3_000 + n * 100 }).collect(), ..roomy(10) };
    let mut world = World::new(7, settings);
    world.broken_until = 40;
    let world = world.run();
    let waits = waits_of(world.rows.values().skip(40));
    println!("40 of one type are answered 500 first: {waits:?}");
    assert!(waits.p99 <= 1_000, "{waits:?}");
}

#[test]
fn no_second_sees_more_than_the_rate_and_its_burst_and_what_is_within_it_does_not_wait() {
    for (rate, burst, per_s, outage_ms) in
        [("20/s", 5, 40, 0), ("20/s", 20, 10, 0), ("20/s", 10, 15, 10_000), ("600/min", 1, 8, 0)]
    {
        let rate = Rate::parse(rate).unwrap();
        let bound = Bound { rate, burst: NonZeroU32::new(burst).unwrap() };
        let moods = vec![(0, Mood::Well), (20_000, Mood::Down), (20_000 + outage_ms, Mood::Well)];
        let settings = Settings { lanes: 3, rate: Some(bound), moods, ..roomy(per_s) };
        let world =
            World::new(7, Settings { arrivals: settings.arrivals.iter().take(1_000).copied().collect(), ..settings })
                .run();
        let begun: Vec<i64> = world.tried.iter().map(|(at, ..)| *at).collect();
        let a_second = rate.of_a_second().get();
        let most = usize::try_from(a_second + burst).unwrap();
        let busiest = (0..begun.len()).map(|n| begun[n..].partition_point(|at| *at < begun[n] + 1_000)).max().unwrap();
        assert!(busiest <= most, "{busiest} within a second of {a_second}/s and a burst of {burst}");
        let waits = waits_of(world.rows.values());
        println!("{per_s}/s at {rate}, burst {burst}: {busiest} within a second at most, {waits:?}");
        if per_s < i64::from(a_second) && outage_ms == 0 {
            assert!(waits.p99 <= 1_000, "{waits:?}");
        } else {
            // As fast as it may, to the end.
            let per_min = begun[begun.len() - 601..]
                .windows(601)
                .all(|run| run[600] - run[0] <= 600_000 / i64::from(a_second) + 1_000);
            assert!(per_min || per_s < i64::from(a_second), "slower than its rate");
        }
    }
}

#[test]
fn limits_that_change_are_in_force_at_once() {
    let mut scheduler = scheduler_of(32);
    assert_eq!(scheduler.limit(), 16);
    scheduler.set_limits(Limits { max_concurrency: 2, rate: None });
    assert_eq!(scheduler.limit(), 2);
    let bound = Bound { rate: Rate::parse("1/s").unwrap(), burst: NonZeroU32::MIN };
    scheduler.set_limits(Limits { max_concurrency: 64, rate: Some(bound) });
    assert_eq!((scheduler.limit(), scheduler.rate_allows_at(RunMs(0))), (2, None), "it grows into more");
}
