//! Power cuts and kills in a row, and on the way from the log to the tables: WAL-1, TAB-1.

use penstock_disk::Crash;

use super::super::request::Request;
use super::super::table::Mishap;
use super::{Machine, after, crash_at_every_operation, forks_of, machine};

#[test]
fn two_crashes_in_a_row_with_frames_of_equal_length_bring_no_old_frame_back() {
    // What a torn group left stands where the next one would begin if files were gone on with; any
    // part of both may survive.
    let mut machine = machine();
    machine.stored(Request::of([1]).filled(900));
    machine.send(Request::of([2]).filled(900));
    machine.send(Request::of([3]).filled(900));
    let forks = forks_of(&mut machine, Machine::take_in);
    for fork in &forks {
        for seed in 0..40 {
            let mut copy = after(&machine, fork, Crash::KeepSome { seed });
            copy.send(Request::of([4]).filled(900));
            copy.send_unanswered();
            let again = forks_of(&mut copy, Machine::take_in);
            for fork in &again {
                let seed = seed + 1_000;
                let mut second = after(&copy, fork, Crash::KeepSome { seed });
                second.stored(Request::of([5]).filled(900));
                second.drain_and_check();
            }
        }
    }
}

#[test]
fn a_crash_between_early_files_and_the_cut_leaves_nothing_twice() {
    // Two partitions may be open; three days and the refused events make four, so files are closed
    // long before their cut.
    let mut machine = machine();
    for first in 0..4 {
        machine.stored(Request::of(first * 6..first * 6 + 6).with_rejected());
        machine.stored(Request::of(first * 3..first * 3 + 3).recorded());
    }
    let files = crash_at_every_operation(&mut machine, Machine::build);
    assert!(
        files > 20,
        "{files} crashes: files are made and synced one by one"
    );
    machine.drain_and_check();
}

#[test]
fn a_crash_between_the_commits_of_two_tables_is_made_up_for() {
    let mut machine = machine();
    for id in 0..6 {
        machine.stored(Request::of([id]).with_rejected().filled(1_200));
        machine.build();
        crash_at_every_operation(&mut machine, |machine| {
            machine.commit(Mishap::default()).unwrap();
        });
    }
    machine.drain_and_check();
}

#[test]
fn a_log_file_of_records_that_came_behind_the_cut_stays() {
    // TAB-3: whole files of them are there when the cut before them is committed.
    let mut machine = machine();
    for id in 0..4 {
        machine.stored(Request::of([id]).filled(1_500));
    }
    machine.build();
    for id in 10..20 {
        machine.stored(Request::of([id]).filled(1_500));
    }
    crash_at_every_operation(&mut machine, |machine| {
        machine.commit(Mishap::default()).unwrap();
    });
    machine.crash(Crash::LoseUnsynced);
    machine.begin();
    machine.drain_and_check();
}

#[test]
fn ids_of_a_log_file_that_is_let_go_are_known_wherever_the_power_is_cut() {
    // No file was sealed before: the release alone sees to the ids (DUP-2).
    let mut machine = machine();
    for id in 0..12 {
        machine.stored(Request::of([id]).filled(1_500));
    }
    let first = machine.life().engine.log.lanes()[0].first;
    machine.build();
    let forks = forks_of(&mut machine, |machine| {
        machine.commit(Mishap::default()).unwrap();
    });
    assert!(machine.life().engine.log.lanes()[0].first > first);
    for fork in &forks {
        for crash in [Crash::LoseUnsynced, Crash::KeepSome { seed: 1 }] {
            let mut copy = after(&machine, fork, crash);
            copy.stored(Request::of(0..12));
            copy.drain_and_check();
        }
    }
    machine.crash(Crash::LoseUnsynced);
    machine.begin();
    machine.stored(Request::of(0..12));
    machine.drain_and_check();
}

#[test]
fn a_start_that_is_cut_short_again_and_again_loses_nothing() {
    let mut machine = machine();
    for id in 0..8 {
        machine.stored(Request::of([id]).filled(1_500));
        if id % 3 == 0 {
            machine.committed();
        }
    }
    machine.send(Request::of([100, 101]));
    for nth in 1.. {
        machine
            .faulty
            .crash_before(nth, Crash::KeepSome { seed: nth });
        let met = machine.open().is_err() || machine.faulty.is_off();
        machine.end_life();
        if !met {
            assert!(nth > 5, "{nth} operations of a start");
            break;
        }
    }
    machine.begin();
    machine.drain_and_check();
}
