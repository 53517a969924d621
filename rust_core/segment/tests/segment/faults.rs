//! Full disks, failing disks and short writes: an error, no named file, and the same rows later.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use penstock_disk::{Crash, Fault, Filesystem, Operation, is_disk_full};
use penstock_segment::{ByTable, SegmentError, SegmentFile};

use crate::checks::Rows;
use crate::machine::{DATA, Machine, SMALL, paths_of};
use crate::samples::{Logged, Random, places_in, random_log};
use crate::support::{NOON_US, OPTIONS, accepted_at, record};

/// Everything that a builder does to a disk, and how it can fail there.
const STEPS: [(Operation, Fault); 9] = [
    (Operation::Create, Fault::Io),
    (Operation::Create, Fault::DiskFull),
    (Operation::Write, Fault::Io),
    (Operation::Write, Fault::DiskFull),
    (Operation::Write, Fault::Short { bytes: 3 }),
    (Operation::Sync, Fault::Io),
    (Operation::Sync, Fault::DiskFull),
    (Operation::SyncDir, Fault::Io),
    (Operation::SyncDir, Fault::DiskFull),
];

fn sample() -> Vec<Logged> {
    random_log(&mut Random::new(11), 8)
}

fn rows_without_faults(log: &[Logged]) -> Rows {
    let mut machine = Machine::new(SMALL);
    let files = machine.cut(log).unwrap();
    machine.rows(&files)
}

/// The error of the disk that an error of the builder was made of.
fn source_of(error: &SegmentError) -> &io::Error {
    match error {
        SegmentError::Storage { source, path } => {
            assert!(path.starts_with(DATA), "{}", path.display());
            source
        }
        other => panic!("{other:?} is not said to be the disk's"),
    }
}

/// Where a cut failed.
struct Failure<'a> {
    /// In an append; else in `finish`.
    appending: bool,
    error: SegmentError,
    machine: &'a mut Machine,
    label: String,
}

/// Makes the cut of `log` once for each step that it takes, with that step failing, and calls
/// `then` with what it came to; returns how many failed.
fn at_each_step(log: &[Logged], mut then: impl FnMut(Failure<'_>)) -> usize {
    let mut failures = 0;
    for (operation, fault) in STEPS {
        for nth in 1.. {
            let mut machine = Machine::new(SMALL);
            machine.disk.fail_nth(operation, nth, fault);
            let mut appends = log
                .iter()
                .map(|record| machine.builder.append(&record.meta(), ByTable::ALL));
            let appended = appends.find_map(Result::err);
            let appending = appended.is_some();
            let result = appended.map_or_else(|| machine.builder.finish(), Err);
            let Err(error) = result else {
                assert!(nth > 1, "{operation:?} is never done");
                break;
            };
            failures += 1;
            let label = format!("{operation:?} {nth} fails with {fault:?}");
            assert_eq!(
                is_disk_full(source_of(&error)),
                fault != Fault::Io,
                "{label}"
            );
            then(Failure {
                appending,
                error,
                machine: &mut machine,
                label,
            });
        }
    }
    failures
}

#[test]
fn after_any_failed_step_no_file_is_named_and_a_retry_gives_the_same_rows() {
    let log = sample();
    let expected = rows_without_faults(&log);
    let (mut in_append, mut in_finish) = (0, 0);
    at_each_step(
        &log,
        |Failure {
             appending,
             error,
             machine,
             label,
         }| {
            if appending {
                in_append += 1;
            } else {
                in_finish += 1;
            }
            assert_eq!(error.code(), "segment_storage_failed", "{label}");
            assert!(!error.concerns_record(), "{label}");
            let failed = machine.files_on_disk();
            machine.builder.abandon();
            assert_eq!(machine.files_on_disk(), BTreeSet::new(), "{label}");
            assert_eq!(machine.builder.rows(), 0, "{label}");

            let files = machine.cut(&log).expect(&label);
            assert!(
                paths_of(&files).is_disjoint(&failed),
                "a retry takes fresh files: {label}"
            );
            assert_eq!(machine.files_on_disk(), paths_of(&files), "{label}");
            // A sync that failed has lost what was written before it: only fresh files help.
            assert_eq!(machine.rows_after_power_cut(&files), expected, "{label}");
        },
    );
    assert!(
        in_append > 20 && in_finish > 20,
        "{in_append} and {in_finish} failures"
    );
}

#[test]
fn a_crash_at_any_step_leaves_nothing_that_hinders_the_next_process() {
    let log = sample();
    let expected = rows_without_faults(&log);
    let mut seed = 0;
    at_each_step(&log, |Failure { machine, label, .. }| {
        seed += 1;
        let crash = match seed % 3 {
            0 => Crash::KeepUnsynced,
            1 => Crash::LoseUnsynced,
            _ => Crash::KeepSome { seed },
        };
        machine.disk.crash(crash);
        let left_over = machine.files_on_disk();
        let mut next = Machine::start(machine.disk.clone(), SMALL);
        let files = next.cut(&log).expect(&label);
        assert!(paths_of(&files).is_disjoint(&left_over), "{label}");
        let rows = next.rows_after_power_cut(&files);
        assert_eq!(rows, expected, "{label}, {crash:?}");
    });
}

/// Cuts made before a failure are no part of it.
#[test]
fn files_of_earlier_cuts_outlive_every_failure() {
    let log = sample();
    for (operation, fault) in STEPS {
        let mut machine = Machine::new(SMALL);
        let earlier = machine.cut(&log).unwrap();
        let rows = machine.rows(&earlier);
        for nth in 1..10 {
            machine.disk.fail_nth(operation, nth, fault);
            if machine.cut(&log).is_err() {
                machine.builder.abandon();
            }
            machine.disk.heal();
        }
        assert_eq!(
            machine.rows_after_power_cut(&earlier),
            rows,
            "{operation:?} {fault:?}"
        );
    }
}

/// What is left of a failed cut has lost rows: it must not become a cut by being asked again.
#[test]
fn a_failed_cut_takes_nothing_and_gives_nothing_until_it_is_abandoned() {
    let log = sample();
    at_each_step(&log, |Failure { machine, label, .. }| {
        for _ in 0..2 {
            let append = machine
                .builder
                .append(&log[0].meta(), ByTable::ALL)
                .unwrap_err();
            let finish = machine.builder.finish().unwrap_err();
            for error in [append, finish] {
                assert!(matches!(error, SegmentError::Failed), "{label}: {error:?}");
                assert_eq!(error.code(), "segment_cut_failed");
                assert!(!error.concerns_record());
            }
        }
    });
}

/// The engine sheds load on a full disk and stops on a failing encoder: it must be told apart, also
/// where a small file is written by its very last step alone.
#[test]
fn a_full_disk_is_never_taken_for_a_failed_encoding() {
    for events in [1, 1_000] {
        for options in [OPTIONS, SMALL] {
            let mut machine = Machine::new(options);
            let batch = accepted_at(&vec![NOON_US; events]);
            machine.disk.fail_all(Operation::Write, Fault::DiskFull);
            let appended = machine
                .builder
                .append(&record(1, "shop", &batch), ByTable::ALL);
            let error = appended
                .and_then(|()| machine.builder.finish())
                .unwrap_err();
            assert!(
                is_disk_full(source_of(&error)),
                "{events} events: {error:?}"
            );
        }
    }
}

#[test]
fn a_disk_that_was_full_takes_the_same_cut_once_there_is_space() {
    let log = sample();
    let expected = rows_without_faults(&log);
    let mut machine = Machine::new(SMALL);
    let mut refusals = 0;
    let files: Vec<SegmentFile> = loop {
        let capacity_bytes = refusals * 1_024;
        machine.disk.set_capacity_bytes(Some(capacity_bytes));
        match machine.cut(&log) {
            Ok(files) => break files,
            Err(error) => assert!(is_disk_full(source_of(&error)), "{error:?}"),
        }
        machine.builder.abandon();
        let free = machine.disk.free_bytes(Path::new(DATA)).unwrap();
        assert_eq!(free, capacity_bytes, "an abandoned cut takes no space");
        refusals += 1;
    };
    assert!(refusals > 20, "the disk was hardly ever full: {refusals}");
    assert_eq!(machine.rows_after_power_cut(&files), expected);
}

#[test]
fn files_that_cannot_be_removed_stay_and_are_named_by_no_cut() {
    let log = sample();
    let expected = rows_without_faults(&log);
    let mut machine = Machine::new(SMALL);
    for record in &log {
        machine
            .builder
            .append(&record.meta(), ByTable::ALL)
            .unwrap();
    }
    let stuck: BTreeSet<PathBuf> = machine.files_on_disk();
    assert!(!stuck.is_empty());
    machine.disk.fail_all(Operation::Remove, Fault::Io);
    machine.builder.abandon();
    assert_eq!(machine.files_on_disk(), stuck);
    let files = machine.cut(&log).unwrap();
    assert!(paths_of(&files).is_disjoint(&stuck));
    assert_eq!(machine.rows(&files), expected);
    // One that can't be removed keeps none of the others: those go.
    machine.disk.heal();
    machine.disk.fail_nth(Operation::Remove, 1, Fault::Io);
    for record in &log {
        machine
            .builder
            .append(&record.meta(), ByTable::ALL)
            .unwrap();
    }
    let before = machine.files_on_disk().len();
    machine.builder.abandon();
    assert_eq!(machine.files_on_disk().len(), stuck.len() + files.len() + 1);
    assert!(before > stuck.len() + files.len() + 1);
    assert_eq!(places_in(&log).len(), expected.len());
}
