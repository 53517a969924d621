//! Time: the wall clock jumps, windows end and are shortened.

use std::time::Duration;

use penstock_disk::Crash;
use penstock_model::Clock as _;

use super::super::machine::{Machine, SMALL_DEDUP_MEMORY_BYTES, options};
use super::super::request::Request;
use super::{machine, machine_with};

const YEAR_US: i64 = 365 * 24 * 3_600 * 1_000_000;

fn times_stored(machine: &Machine, id: u64) -> usize {
    let found = machine.found();
    found.ids.iter().filter(|other| **other == id).count()
}

#[test]
fn a_wall_clock_that_jumps_by_a_year_expires_and_orders_nothing() {
    for (during, between) in [(1, 1), (1, -1), (-1, 1), (-1, -1)] {
        let mut machine = machine();
        machine.stored(Request::of([1]).with_rejected());
        let jump = |machine: &mut Machine, years: i64| {
            let now_us = machine.clock.unix_micros();
            machine.clock.set_wall(now_us + years * YEAR_US);
        };
        jump(&mut machine, during);
        machine.stored(Request::of([1]));
        machine.stored(Request::of([2]));
        machine.committed();
        machine.crash(Crash::LoseUnsynced);
        jump(&mut machine, between);
        machine.begin();
        machine.stored(Request::of([1, 2]));
        machine.drain_and_check();
        assert_eq!(
            (times_stored(&machine, 1), times_stored(&machine, 2)),
            (1, 1)
        );
    }
}

/// Ids that go to the disk, fifty-six a generation.
fn small_window(seconds: u64) -> crate::options::EngineOptions {
    crate::options::EngineOptions {
        dedup_window: Duration::from_secs(seconds),
        dedup_memory_bytes: SMALL_DEDUP_MEMORY_BYTES,
        ..options()
    }
}

/// Lets the time pass, with what is due in it.
fn pass(machine: &mut Machine, seconds: u64) {
    for _ in 0..seconds {
        machine.clock.advance(Duration::from_secs(1));
        machine.life().lives.supervisor.turn();
        machine.life().lives.tidier.turn();
    }
}

#[test]
fn an_id_is_known_within_its_window_and_forgotten_some_time_after() {
    let mut machine = machine_with(small_window(60));
    machine.stored(Request::of([1]));
    pass(&mut machine, 59);
    machine.stored(Request::of([1]));
    machine.committed();
    assert_eq!(times_stored(&machine, 1), 1, "within");
    // Ids leave in whole runs, at most three eighths of the window later.
    pass(&mut machine, 90);
    machine.stored(Request::of([1]));
    machine.committed();
    assert_eq!(times_stored(&machine, 1), 2, "beyond");
    machine.drain_and_check();
}

#[test]
fn a_window_that_is_made_shorter_forgets_what_is_older_and_nothing_else() {
    let mut machine = machine_with(small_window(3_600));
    machine.stored(Request::of([1]));
    machine.committed();
    pass(&mut machine, 500);
    machine.stored(Request::of([2]));
    machine.committed();
    machine.end_life();
    machine.options = small_window(40);
    machine.begin();
    pass(&mut machine, 20);
    machine.stored(Request::of([1, 2]));
    machine.drain_and_check();
    assert_eq!(times_stored(&machine, 2), 1, "of the shorter window");
}
