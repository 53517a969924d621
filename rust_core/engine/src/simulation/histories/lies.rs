//! A sync that says it is done and is not, once.
//!
//! What is promised then, if the power is cut before the same file is synced honestly: what this one
//! sync was about may be gone, nothing else is, and nothing comes back altered or twice. Where
//! something behind the gap was synced, the gap is told as damage with its positions (WAL-2). If the
//! sync was the last one, no byte on the disk tells that there was more: no software can know.

use penstock_disk::{Crash, Fault, Operation};

use super::super::model::Allowed;
use super::super::request::Request;
use super::{Machine, machine};

/// Groups that are written, one request each; the sync of the first of them lies.
fn lied_to(groups: u64) -> Machine {
    let mut machine = machine();
    machine.stored(Request::of([1]).with_rejected());
    machine.faulty.fail_nth(Operation::Sync, 1, Fault::Lie);
    for id in 2..2 + groups {
        machine.stored(Request::of([id]).filled(1_500));
    }
    assert!(machine.model.nothing_open(), "all was answered");
    let lies = machine.faulty.take_lies();
    assert!(lies[0].starts_with("/data/wal"), "{lies:?}");
    machine
}

fn lost_at_most(machine: &mut Machine, ids: &[u64]) -> Vec<u64> {
    machine.drain();
    let allowed = Allowed {
        missing_ids: ids.iter().copied().collect(),
        ..Allowed::default()
    };
    machine.check_but(allowed);
    let found = machine.found();
    let gone = ids.iter().filter(|id| !found.ids.contains(id));
    gone.copied().collect()
}

#[test]
fn a_lie_about_the_last_group_loses_that_group_and_a_retry_stores_it() {
    for crash in [Crash::LoseUnsynced, Crash::KeepSome { seed: 3 }] {
        let mut machine = lied_to(1);
        machine.crash(crash);
        machine.begin();
        // The id is not taken for known: whoever sends it again has it stored.
        machine.stored(Request::of([2]));
        assert!(lost_at_most(&mut machine, &[2]).is_empty());
    }
    let mut machine = lied_to(1);
    machine.crash(Crash::LoseUnsynced);
    machine.begin();
    assert_eq!(lost_at_most(&mut machine, &[2]), [2]);
}

#[test]
fn a_lie_that_an_honest_sync_of_the_file_follows_loses_nothing() {
    let mut machine = lied_to(2);
    machine.crash(Crash::LoseUnsynced);
    machine.begin();
    machine.drain_and_check();
}

#[test]
fn a_lie_about_the_end_of_a_file_is_told_once_the_next_file_is_synced() {
    // The log rolls right behind the lie.
    let mut seen = 0;
    for before in 1..8 {
        let mut machine = machine();
        for id in 0..before {
            machine.stored(Request::of([100 + id]).filled(1_500));
        }
        machine.faulty.fail_nth(Operation::Sync, 1, Fault::Lie);
        machine.stored(Request::of([1]).filled(1_500));
        let wrote = machine.faulty.take_lies();
        machine.stored(Request::of([2]).filled(1_500));
        let newest = machine.filesystem.read_dir("/data/wal".as_ref()).unwrap();
        machine.may_be_damaged = true;
        machine.crash(Crash::LoseUnsynced);
        machine.begin();
        let gone = lost_at_most(&mut machine, &[1]);
        if gone.is_empty() {
            continue;
        }
        seen += 1;
        let told = &machine.told.damage;
        assert_eq!(told.len(), 1, "{wrote:?} {newest:?}");
        let position = before + 1;
        let (first, last) = told[0];
        assert_eq!((first.get(), last.get()), (position, position));
    }
    assert!(seen > 0, "the log never rolled behind the lie");
}

#[test]
fn a_lie_about_ids_lets_repeats_through_and_loses_nothing() {
    let mut machine = machine();
    for id in 0..12 {
        machine.stored(Request::of([id]).filled(1_500));
    }
    machine.build();
    // The first sync of a commit that lets log files go and is no table's is that of the ids.
    machine.faulty.fail_all(Operation::Sync, Fault::Lie);
    drop(machine.commit(super::Mishap::default()));
    machine.faulty.heal();
    let lies = machine.faulty.take_lies();
    assert!(
        lies.iter().any(|path| path.starts_with("/data/dedup")),
        "{lies:?}"
    );
    for path in lies.iter().filter(|path| !path.starts_with("/data/dedup")) {
        let file = machine.filesystem.open_read_write(path).unwrap();
        file.sync_all().unwrap();
    }
    machine.crash(Crash::LoseUnsynced);
    machine.begin();
    machine.stored(Request::of([0]));
    machine.drain();
    machine.check_but(Allowed {
        doubled: true,
        ..Allowed::default()
    });
}
