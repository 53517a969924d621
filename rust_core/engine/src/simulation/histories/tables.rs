//! The tables' own logs: checkpoints, torn entries, other writers, the order of a query.

use penstock_disk::Crash;

use super::super::machine::{files_of, txns};
use super::super::query::Query;
use super::super::request::Request;
use super::super::table::Mishap;
use super::{crash_at_every_operation, machine};
use std::time::Duration;

use penstock_segment::TableKind;

#[test]
fn a_checkpoint_and_the_removal_of_what_it_stands_for_may_be_cut_short_anywhere() {
    let mut machine = machine();
    for id in 0..9 {
        machine.stored(Request::of([id]).with_rejected().filled(1_400));
        machine.build();
        // Each fourth commit makes one.
        crash_at_every_operation(&mut machine, |machine| {
            machine.commit(Mishap::default()).unwrap();
        });
    }
    let log = "/data/events/_delta_log";
    let names = machine.filesystem.read_dir(log.as_ref()).unwrap();
    let has = |end: &str| {
        names
            .iter()
            .any(|name| name.to_string_lossy().ends_with(end))
    };
    assert!(has(".checkpoint") && has("_last_checkpoint"), "{names:?}");
    machine.drain_and_check();
}

#[test]
fn a_torn_newest_entry_is_moved_aside_and_its_rows_come_again() {
    // The entry's name survives and nothing of what is in it.
    let mut machine = machine();
    machine.stored(Request::of([1]));
    machine.build();
    let cut = machine.life().engine.next_cut(Duration::ZERO).unwrap();
    let table = &mut machine.life().tables[0];
    let files = files_of(&cut, TableKind::Events);
    let actions = table.prepare(&files, &txns(&cut)).unwrap().unwrap();
    let raises_after_landing = true;
    let mishap = Mishap {
        raises_after_landing,
    };
    assert!(table.write(&actions, mishap).is_err(), "landed, not synced");
    let log = "/data/events/_delta_log";
    machine.filesystem.sync_dir(log.as_ref()).unwrap();
    machine.crash(Crash::LoseUnsynced);
    let entry = format!("{log}/{:020}.json", 0);
    let contents = machine.faulty.contents(entry.as_ref()).unwrap();
    assert!(contents.is_empty(), "torn");
    machine.begin();
    assert!(!machine.filesystem.exists(entry.as_ref()).unwrap());
    machine.drain_and_check();
}

#[test]
fn a_commit_that_landed_though_the_library_raised_is_not_made_again() {
    let mut machine = machine();
    machine.stored(Request::of([1]).with_rejected());
    machine.build();
    for _ in 0..3 {
        let mishap = Mishap {
            raises_after_landing: true,
        };
        // First `events`, then `rejected`, each found to have landed by the try behind it.
        drop(machine.commit(mishap));
    }
    machine.drain_and_check();
}

#[test]
fn of_two_commits_of_a_lane_that_were_checked_on_one_version_one_fails() {
    // Two copies of the data directory that run at once: both have asked the table, and neither has
    // committed. Asked once more between the check and the commit, the second would not notice.
    let mut machine = machine();
    machine.stored(Request::of([1]));
    machine.build();
    let cut = machine.life().engine.next_cut(Duration::ZERO).unwrap();
    let table = |machine: &super::Machine| {
        let root = std::path::Path::new(super::super::machine::DATA_DIRECTORY);
        super::super::table::Table::open(&machine.faulty, root, TableKind::Events, None).unwrap()
    };
    let (mut first, mut second) = (table(&machine), table(&machine));
    let files = files_of(&cut, TableKind::Events);
    let txns = txns(&cut);
    let actions = first.prepare(&files, &txns).unwrap().unwrap();
    let same = second.prepare(&files, &txns).unwrap().unwrap();
    first.write(&actions, Mishap::default()).unwrap();
    assert!(second.write(&same, Mishap::default()).is_err());
    assert!(
        second.commit(&files, &txns, Mishap::default()).is_ok(),
        "found"
    );
    assert_eq!(second.found().ids, [1], "once");
}

#[test]
fn a_query_that_reads_the_log_first_sees_what_is_committed_and_released_meanwhile() {
    let mut machine = machine();
    for id in 0..6 {
        machine.stored(Request::of([id]).filled(1_500));
    }
    let query = Query::begin(&machine).unwrap();
    machine.committed();
    machine.stored(Request::of([6]).filled(1_500));
    machine.committed();
    query.end(&machine);
    machine.drain_and_check();
}
