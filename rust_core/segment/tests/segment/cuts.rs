//! A cut: every row up to a position, over all partitions and tables, and none above (TAB-1).

use std::path::Path;

use penstock_disk::RealFilesystem;
use penstock_model::{Code, Outcome, Position};
use penstock_segment::{ByTable, Layout, SegmentFile, SegmentOptions, TableKind};
use serde_json::{Value, json};

use crate::checks::{Rows, checked_file, checked_rows, places_of};
use crate::machine::{DATA, Machine, paths_of};
use crate::samples::{NEXT_LANE, Random, places_in, random_log};
use crate::support::{
    BatchMaker, Bench, DAY_US, LANE, NOON_US, OPTIONS, accepted_at, record, refused, upload,
};

fn rows_of(bench: &Bench, files: &[SegmentFile]) -> Rows {
    checked_rows(&RealFilesystem, bench.folder.path(), files)
}

fn count(bench: &Bench) -> (u64, u64) {
    let rows = bench.builder.rows_by_table();
    let (events, rejected) = (rows[TableKind::Events], rows[TableKind::Rejected]);
    assert_eq!(bench.builder.rows(), events + rejected);
    (events, rejected)
}

#[test]
fn a_cut_holds_every_row_since_the_last_one_over_all_partitions_and_tables() {
    let mut bench = Bench::partitioned();
    let mut positions = 1..;
    let mut cut = |records: usize| {
        let mut expected = Vec::new();
        for position in positions.by_ref().take(records) {
            let project = if position % 2 == 0 { "shop" } else { "other" };
            let days = [NOON_US, NOON_US - DAY_US];
            bench
                .append(&record(position, project, &accepted_at(&days)))
                .unwrap();
            bench
                .append(&record(position + 1_000, project, &refused(1)))
                .unwrap();
            expected.extend([position, position, position + 1_000]);
        }
        let files = bench.builder.finish().unwrap();
        let rows = rows_of(&bench, &files);
        let mut found: Vec<u64> = rows
            .values()
            .flatten()
            .map(|row| row["log_position"].as_u64().unwrap())
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        files.len()
    };
    assert_eq!(cut(1), 3);
    assert_eq!(cut(2), 5, "two projects on two days, and the refused ones");
    assert_eq!(cut(4), 5);
}

#[test]
fn files_closed_early_stay_unnamed_until_their_cut_and_are_named_once() {
    let mut machine = Machine::new(SegmentOptions {
        max_open_partitions: 1,
        ..OPTIONS
    });
    let batch = accepted_at(&[NOON_US]);
    for (position, project) in (1..).zip(["a", "b", "a", "b"]) {
        machine
            .builder
            .append(&record(position, project, &batch), ByTable::ALL)
            .unwrap();
    }
    let early = machine.files_on_disk();
    assert_eq!(early.len(), 3, "all but the open one's");
    assert_eq!(
        machine.builder.rows(),
        4,
        "rows of closed files count for the cut"
    );
    let files = machine.builder.finish().unwrap();
    assert!(paths_of(&files).is_superset(&early));
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 4);

    machine
        .builder
        .append(&record(5, "a", &batch), ByTable::ALL)
        .unwrap();
    let files = machine.builder.finish().unwrap();
    assert_eq!(files.len(), 1);
    assert!(paths_of(&files).is_disjoint(&early));
}

#[test]
fn outcomes_decide_the_table_and_duplicates_have_no_row() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("token");
    let rejected = Outcome::Rejected(Code::EventTooLarge);
    for outcome in [
        Outcome::Duplicate,
        Outcome::Accepted,
        rejected,
        Outcome::Duplicate,
        Outcome::Accepted,
        rejected,
        Outcome::Duplicate,
    ] {
        maker.event(outcome, NOON_US);
    }
    bench.append(&record(1, "shop", &maker.0)).unwrap();
    assert_eq!(count(&bench), (2, 2));
    let files = bench.builder.finish().unwrap();
    assert_eq!(count(&bench), (0, 0));
    // Indices are those of the request: a client finds its event by them.
    let indices = |table| -> Vec<Value> {
        let rows = bench.rows_of(table, &files);
        rows.iter().map(|row| row["batch_index"].clone()).collect()
    };
    assert_eq!(indices(TableKind::Events), [1, 4]);
    assert_eq!(indices(TableKind::Rejected), [2, 5]);
}

/// A snapshot among the events would be found by every query of events, at a thousand times their
/// size; an event among the snapshots by none.
#[test]
fn the_endpoint_decides_between_events_and_recordings() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("token");
    maker.event(Outcome::Accepted, NOON_US);
    maker.event(Outcome::Rejected(Code::MissingSessionId), NOON_US);
    bench.append(&upload(1, "shop", &maker.0)).unwrap();
    bench.append(&record(2, "shop", &maker.0)).unwrap();
    let files = bench.builder.finish().unwrap();
    let positions = |table| -> Vec<Value> {
        let rows = bench.rows_of(table, &files);
        rows.iter().map(|row| row["log_position"].clone()).collect()
    };
    assert_eq!(positions(TableKind::Recordings), [1]);
    assert_eq!(positions(TableKind::Events), [2]);
    assert_eq!(positions(TableKind::Rejected), [1, 2]);
}

#[test]
fn a_table_without_rows_costs_no_file_no_directory_and_no_memory() {
    let mut bench = Bench::partitioned();
    bench
        .append(&record(1, "shop", &accepted_at(&[NOON_US])))
        .unwrap();
    let held = bench.builder.buffered_bytes();
    bench.builder.finish().unwrap();
    assert!(!bench.folder.path().join("recordings").exists());
    assert!(!bench.folder.path().join("rejected").exists());
    assert!(held < 16 << 10, "{held} bytes are held for one row");
}

#[test]
fn a_table_that_has_passed_a_record_gets_no_row_of_it() {
    for (want_events, want_rejected) in [(true, true), (true, false), (false, true), (false, false)]
    {
        let tables = ByTable::from_fn(|table| match table {
            TableKind::Events => want_events,
            TableKind::Rejected => want_rejected,
            // Neither keeps rows from the others nor takes them.
            TableKind::Recordings => !want_events,
        });
        let mut bench = Bench::partitioned();
        let mut maker = BatchMaker::new("token");
        maker.event(Outcome::Accepted, NOON_US);
        maker.event(Outcome::Rejected(Code::EventTooLarge), NOON_US);
        bench
            .builder
            .append(&record(1, "shop", &maker.0), tables)
            .unwrap();
        assert_eq!(count(&bench), (want_events.into(), want_rejected.into()));
        let tables: Vec<TableKind> = bench
            .builder
            .finish()
            .unwrap()
            .iter()
            .map(|file| file.table)
            .collect();
        let mut expected = Vec::new();
        expected.extend(want_events.then_some(TableKind::Events));
        expected.extend(want_rejected.then_some(TableKind::Rejected));
        assert_eq!(tables, expected);
    }
}

#[test]
fn a_cut_of_nothing_or_of_duplicates_alone_makes_no_file_and_no_directory() {
    let mut duplicates = BatchMaker::new("token");
    for _ in 0..10 {
        duplicates.event(Outcome::Duplicate, NOON_US);
    }
    let empty = BatchMaker::new("token");
    for batch in [None, Some(&empty.0), Some(&duplicates.0)] {
        for layout in [Layout::Partitioned, Layout::Flat] {
            let mut bench = Bench::new(layout, OPTIONS);
            for position in 1..4 {
                if let Some(batch) = batch {
                    bench.append(&record(position, "shop", batch)).unwrap();
                }
                assert_eq!(count(&bench), (0, 0));
                assert_eq!(bench.builder.finish().unwrap(), []);
            }
            assert_eq!(bench.builder.buffered_bytes(), 0);
            assert_eq!(std::fs::read_dir(bench.folder.path()).unwrap().count(), 0);
        }
    }
}

#[test]
fn abandoning_removes_the_cuts_files_and_forgets_its_rows_but_nothing_of_earlier_cuts() {
    let options = SegmentOptions {
        max_open_partitions: 2,
        batch_rows: 2,
        ..OPTIONS
    };
    let mut machine = Machine::new(options);
    let log = random_log(&mut Random::new(1), 30);
    let kept = machine.cut(&log[..10]).unwrap();
    for record in &log[10..20] {
        machine
            .builder
            .append(&record.meta(), ByTable::ALL)
            .unwrap();
    }
    assert!(
        machine.files_on_disk().len() > kept.len(),
        "some were closed early"
    );
    machine.builder.abandon();
    assert_eq!(machine.files_on_disk(), paths_of(&kept));
    assert_eq!(
        (machine.builder.rows(), machine.builder.buffered_bytes()),
        (0, 0)
    );
    // The abandoned rows come back by being appended again, and only so.
    let files = machine.cut(&log[20..]).unwrap();
    assert_eq!(places_of(&machine.rows(&files)), places_in(&log[20..]));
    assert_eq!(places_of(&machine.rows(&kept)), places_in(&log[..10]));
}

/// The engine abandons when it stops: that must not take back what a commit is about to name.
#[test]
fn abandoning_right_after_a_cut_keeps_the_cut() {
    let mut machine = Machine::new(OPTIONS);
    let log = random_log(&mut Random::new(2), 10);
    let files = machine.cut(&log).unwrap();
    machine.builder.abandon();
    machine.builder.abandon();
    assert_eq!(places_of(&machine.rows(&files)), places_in(&log));
}

#[test]
fn a_file_of_two_lanes_names_both_and_keeps_their_order() {
    let mut bench = Bench::partitioned();
    let batch = accepted_at(&[NOON_US, NOON_US]);
    for (position, lane) in [(7, LANE), (8, LANE), (9, NEXT_LANE)] {
        let mut meta = record(position, "shop", &batch);
        meta.lane = lane;
        bench.append(&meta).unwrap();
    }
    let files = bench.builder.finish().unwrap();
    assert_eq!(files.len(), 1);
    let (first, last) = (files[0].first_position, files[0].last_position);
    assert_eq!((first, last), (Position::new(7), Position::new(9)));
    let rows = checked_file(&RealFilesystem, bench.folder.path(), &files[0]);
    let places: Vec<Value> = rows
        .iter()
        .map(|row| json!([row["lane"], row["log_position"], row["batch_index"]]))
        .collect();
    let (lane, next) = (LANE.to_string(), NEXT_LANE.to_string());
    let expected = [
        (&lane, 7, 0),
        (&lane, 7, 1),
        (&lane, 8, 0),
        (&lane, 8, 1),
        (&next, 9, 0),
        (&next, 9, 1),
    ];
    assert_eq!(places, expected.map(|place| json!(place)));
}

/// A committer reads them as they come; the same order makes two commits comparable.
#[test]
fn files_come_by_table_and_path() {
    let mut machine = Machine::new(SegmentOptions {
        max_open_partitions: 2,
        ..OPTIONS
    });
    let files = machine.cut(&random_log(&mut Random::new(3), 40)).unwrap();
    assert!(files.len() > 20);
    let keys: Vec<_> = files.iter().map(|file| (file.table, &file.path)).collect();
    assert!(keys.is_sorted());
    assert!(
        files.iter().all(|file| Path::new(&file.path).is_relative()),
        "below {DATA}"
    );
}
