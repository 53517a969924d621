//! A full disk, a failing one, and records that no table can hold: LIM-1, WAL-2.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use penstock_disk::{Fault, Operation};

use super::super::machine::{DATA_DIRECTORY, Machine, SMALL_DEDUP_MEMORY_BYTES, options};
use super::super::request::Request;
use super::super::table::Mishap;
use super::{crash_at_every_operation, machine, machine_with};
use crate::options::EngineOptions;

#[test]
fn on_a_full_disk_the_reserve_lets_into_the_tables_what_was_acknowledged() {
    let mut machine = machine_with(EngineOptions {
        disk_reserve_bytes: 64 << 10,
        ..options()
    });
    let stored = machine.stored(Request::of([1, 2, 3]).with_rejected());
    assert!(machine.model.is_acknowledged(stored));
    let used = machine.faulty.used_bytes();
    machine.faulty.set_capacity_bytes(Some(used));
    for id in 10..30 {
        machine.stored(Request::of([id]).filled(1_500));
    }
    assert!(!machine.model.nothing_open(), "the log could not grow");
    machine.build();
    machine.clock.advance(Duration::from_secs(2));
    machine.life().lives.supervisor.turn();
    machine.build();
    machine.commit(Mishap::default()).unwrap();
    let in_tables = machine.found();
    for id in 1..=3 {
        assert!(
            in_tables.ids.contains(&id),
            "event {id} was held up by the disk"
        );
    }
    // Room again: taken without a restart.
    machine.faulty.set_capacity_bytes(None);
    machine.clock.advance(Duration::from_secs(2));
    machine.life().lives.supervisor.turn();
    machine.send_unanswered();
    machine.take_in();
    machine.collect_answers();
    assert!(
        machine.model.nothing_open(),
        "{:?}",
        machine.life().engine.state()
    );
    machine.drain_and_check();
}

#[test]
fn a_full_disk_gets_back_what_was_kept_for_reuse() {
    let spares = |machine: &Machine| {
        let names = machine
            .filesystem
            .read_dir(&Path::new(DATA_DIRECTORY).join("wal"))
            .unwrap();
        let is_spare = |name: &&OsString| name.to_string_lossy().ends_with(".spare");
        names.iter().filter(is_spare).count()
    };
    let mut machine = machine();
    for id in 0..60 {
        machine.stored(Request::of([id]).filled(1_500));
    }
    machine.drain();
    assert!(spares(&machine) > 1, "the log let go of several files");
    machine.stored(Request::of([100, 101]).filled(1_500));
    let used = machine.faulty.used_bytes();
    machine.faulty.set_capacity_bytes(Some(used));
    machine.build();
    drop(machine.commit(Mishap::default()));
    assert!(!machine.found().ids.contains(&100), "there was no room");
    assert!(spares(&machine) > 1);
    machine.clock.advance(Duration::from_secs(2));
    machine.life().lives.supervisor.turn();
    assert_eq!(spares(&machine), 0);
    machine.build();
    machine.commit(Mishap::default()).unwrap();
    assert!(machine.found().ids.contains(&100));
    machine.faulty.set_capacity_bytes(None);
    machine.drain_and_check();
}

#[test]
fn a_read_that_fails_is_tried_again_and_loses_no_record() {
    // An error of the disk must not be taken for damage or for the end of the log.
    for nth in 1..40 {
        for operation in [Operation::Read, Operation::Open] {
            let mut machine = machine_with(EngineOptions {
                // All is read back.
                batch_cache_bytes: 0,
                ..options()
            });
            for id in 0..5 {
                machine.stored(Request::of([id]).with_rejected().filled(1_500));
            }
            machine.faulty.fail_nth(operation, nth, Fault::Io);
            machine.build();
            drop(machine.commit(Mishap::default()));
            machine.end_life();
            machine.faulty.fail_nth(operation, nth, Fault::Io);
            if machine.open().is_err() {
                machine.begin();
            }
            machine.drain_and_check();
        }
    }
}

#[test]
fn a_repeat_whose_run_cannot_be_read_now_is_refused_and_not_stored_again() {
    // A run of ids that the disk does not give back for an instant says nothing of its ids. To take
    // them for new stored each of them twice, and no metric told of it if the process then died.
    let mut machine = machine_with(EngineOptions {
        dedup_memory_bytes: SMALL_DEDUP_MEMORY_BYTES,
        ..options()
    });
    for id in 0..60 {
        machine.stored(Request::of([id]));
    }
    machine.life().lives.supervisor.turn();
    let stats = machine.dedup_stats();
    assert_eq!((stats.runs, stats.ids_on_disk), (1, 56));
    machine.drain();
    machine.faulty.fail_nth(Operation::Read, 1, Fault::Io);
    let repeat = machine.stored(Request::of([3, 200]).with_rejected());
    assert!(!machine.model.is_acknowledged(repeat));
    assert!(!machine.model.nothing_open(), "its client asks again");
    // Neither did the refusal leave the new id behind: it would be a lost event.
    crash_at_every_operation(&mut machine, |machine| {
        machine.send_unanswered();
        machine.take_in();
    });
    assert!(machine.model.nothing_open());
    machine.take_events();
    machine.faulty.fail_nth(Operation::Read, 1, Fault::Io);
    machine.stored(Request::of([3]));
    machine.life().lives.tidier.turn();
    let told = machine.life().engine.take_log_events();
    let names: Vec<_> = told.iter().map(|event| event.name).collect();
    assert_eq!(names, ["dedup_file_read_again"]);
    assert_eq!(machine.dedup_stats().damaged_runs, 0);
    machine.drain_and_check();
}

#[test]
fn a_record_that_no_table_can_hold_is_set_aside_once_and_stops_nothing() {
    let mut machine = machine();
    machine.stored(Request::of([1]));
    machine.stored(Request::of([2]).with_rejected().unstorable());
    machine.stored(Request::of([3]));
    crash_at_every_operation(&mut machine, |machine| {
        machine.build();
        machine.commit(Mishap::default()).unwrap();
    });
    let aside = super::super::quarantine::found(&machine.faulty);
    assert_eq!((aside.ids.as_slice(), aside.rejected.len()), (&[2][..], 1));
    machine.stored(Request::of([2]));
    machine.drain_and_check();
}
