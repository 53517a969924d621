//! Repeats, ack levels and failed groups: ACK-1, DUP-1, DUP-3.

use std::time::Duration;

use penstock_disk::{Crash, Fault, Operation};

use super::super::request::{Level, Request};
use super::super::table::Mishap;
use super::{Machine, after, crash_at_every_operation, forks_of, machine};

#[test]
fn a_repeat_of_what_a_killed_process_left_unsynced_is_answered_when_it_is_durable() {
    // kill -9 between write and fdatasync, restart, the same uuid sent again and answered as a
    // duplicate, then everything is dropped that is not synced.
    let mut machine = machine();
    machine.send(Request::of([1]).with_rejected());
    let forks = forks_of(&mut machine, Machine::take_in);
    for fork in &forks {
        let mut copy = after(&machine, fork, Crash::KeepUnsynced);
        copy.send_unanswered();
        copy.take_in();
        copy.collect_answers();
        assert!(copy.model.nothing_open(), "answered");
        copy.drain_and_check();
        let mut copy = after(&machine, fork, Crash::KeepUnsynced);
        copy.send_unanswered();
        copy.take_in();
        copy.collect_answers();
        // Before anything comes to the tables.
        copy.crash(Crash::LoseUnsynced);
        copy.begin();
        copy.drain_and_check();
    }
}

#[test]
fn a_retry_of_a_group_that_failed_is_stored() {
    // The ids were entered before the group was written; they must be out again before anyone is
    // answered, or the retry is taken for a duplicate of an event that is lost.
    for (operation, fault) in [
        (Operation::Sync, Fault::Io),
        (Operation::Write, Fault::Io),
        (Operation::Write, Fault::Short { bytes: 5_000 }),
        (Operation::Allocate, Fault::DiskFull),
        (Operation::Create, Fault::DiskFull),
    ] {
        let mut machine = machine();
        machine.faulty.fail_nth(operation, 1, fault);
        let number = machine.stored(Request::of([1, 2]).with_rejected());
        assert!(!machine.model.is_acknowledged(number), "{operation:?}");
        machine.clock.advance(Duration::from_secs(2));
        machine.life().lives.supervisor.turn();
        crash_at_every_operation(&mut machine, |machine| {
            machine.send_unanswered();
            machine.take_in();
        });
        assert!(machine.model.nothing_open(), "{operation:?}: taken again");
        machine.drain_and_check();
    }
}

#[test]
fn a_repeat_at_disk_of_an_event_in_memory_is_only_answered_with_it() {
    let mut machine = machine();
    machine.send(Request::of([1]).at(Level::Memory));
    while machine.decode() {}
    machine.collect_answers();
    assert!(
        machine.model.nothing_open(),
        "answered before anything is written"
    );
    let repeat = machine.send(Request::of([1]));
    while machine.decode() {}
    machine.collect_answers();
    assert!(
        !machine.model.is_acknowledged(repeat),
        "a duplicate that waits"
    );
    crash_at_every_operation(&mut machine, Machine::take_in);
    assert!(machine.model.is_acknowledged(repeat));
    crash_at_every_operation(&mut machine, |machine| {
        machine.build();
        machine.commit(Mishap::default()).unwrap();
    });
    machine.drain_and_check();
}

#[test]
fn a_repeat_at_disk_of_an_event_in_memory_shares_its_failure() {
    // DUP-3. The client was told "memory", so the event may be lost; the one who asked for more was
    // told nothing, and sends it again.
    let mut machine = machine();
    machine.send(Request::of([1]).at(Level::Memory));
    while machine.decode() {}
    let repeat = machine.send(Request::of([1]));
    machine.faulty.fail_nth(Operation::Sync, 2, Fault::Io);
    machine.take_in();
    machine.collect_answers();
    assert!(!machine.model.is_acknowledged(repeat), "refused");
    machine.clock.advance(Duration::from_secs(2));
    machine.life().lives.supervisor.turn();
    machine.drain_and_check();
}

#[test]
fn a_repeat_at_table_of_an_event_in_memory_waits_for_the_table() {
    let mut machine = machine();
    machine.send(Request::of([1]).at(Level::Memory));
    let repeat = machine.stored(Request::of([1]).at(Level::Table));
    assert!(!machine.model.is_acknowledged(repeat), "on disk only");
    crash_at_every_operation(&mut machine, |machine| {
        machine.build();
        machine.commit(Mishap::default()).unwrap();
    });
    assert!(machine.model.is_acknowledged(repeat));
    machine.drain_and_check();
}
