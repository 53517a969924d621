//! Rows by project and date: which directory, how many at once, and how much memory.

use penstock_disk::RealFilesystem;
use penstock_model::Outcome;
use penstock_segment::{ByTable, SegmentError, SegmentFile, TableKind};

use crate::checks::{checked_file, micros_of};
use crate::machine::Machine;
use crate::support::{BatchMaker, Bench, DAY_US, NOON_US, OPTIONS, accepted_at, record, refused};

fn value<'a>(file: &'a SegmentFile, column: &str) -> &'a str {
    let mut values = file.partition.iter();
    &values.find(|(name, _)| name == column).unwrap().1
}

fn directory_of(file: &SegmentFile) -> &str {
    file.path.rsplit_once('/').unwrap().0
}

#[test]
fn each_project_and_day_has_a_file_of_its_own() {
    let mut bench = Bench::partitioned();
    let days = [NOON_US, NOON_US + DAY_US, NOON_US - DAY_US, NOON_US];
    for (position, project) in (1..).zip(["shop", "blog", "shop"]) {
        bench
            .append(&record(position, project, &accepted_at(&days)))
            .unwrap();
    }
    let files = bench.builder.finish().unwrap();
    let found: Vec<_> = files
        .iter()
        .map(|file| (directory_of(file), file.rows))
        .collect();
    let expected = [
        ("project=blog/date=2024-02-28", 1),
        ("project=blog/date=2024-02-29", 2),
        ("project=blog/date=2024-03-01", 1),
        ("project=shop/date=2024-02-28", 2),
        ("project=shop/date=2024-02-29", 4),
        ("project=shop/date=2024-03-01", 2),
    ];
    assert_eq!(found, expected);
    for file in &files {
        let values = format!(
            "project={}/date={}",
            value(file, "project"),
            value(file, "date")
        );
        assert_eq!(values, directory_of(file));
        assert_eq!(file.partition.len(), 2);
        checked_file(&RealFilesystem, bench.folder.path(), file);
    }
}

/// Late events belong to the day on which they happened; a query by date would miss them.
#[test]
fn the_date_of_an_event_is_its_own_and_that_of_a_refusal_is_the_receipts() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("token");
    maker.event(Outcome::Accepted, NOON_US - 400 * DAY_US);
    maker.event(
        Outcome::Rejected(penstock_model::Code::EventTooLarge),
        NOON_US - 400 * DAY_US,
    );
    bench.append(&record(1, "shop", &maker.0)).unwrap();
    let files = bench.builder.finish().unwrap();
    let found: Vec<_> = files
        .iter()
        .map(|file| (file.table, directory_of(file)))
        .collect();
    let expected = [
        (TableKind::Events, "project=shop/date=2023-01-25"),
        (TableKind::Rejected, "date=2024-02-29"),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        files[1].partition,
        [("date".to_owned(), "2024-02-29".to_owned())]
    );
}

#[test]
fn days_change_at_midnight_utc_also_before_1970() {
    let midnight = NOON_US - NOON_US.rem_euclid(DAY_US);
    let times = [
        -1,
        0,
        midnight - 1,
        midnight,
        midnight + DAY_US - 1,
        midnight + DAY_US,
    ];
    let mut bench = Bench::partitioned();
    bench
        .append(&record(1, "shop", &accepted_at(&times)))
        .unwrap();
    let files = bench.builder.finish().unwrap();
    let found: Vec<_> = files
        .iter()
        .map(|file| (value(file, "date"), file.rows))
        .collect();
    let expected = [
        ("1969-12-31", 1),
        ("1970-01-01", 1),
        ("2024-02-28", 1),
        ("2024-02-29", 2),
        ("2024-03-01", 1),
    ];
    assert_eq!(found, expected);
}

#[test]
fn dates_run_from_0001_01_01_to_9999_12_31() {
    let first = micros_of("0001-01-01T00:00:00.000000Z");
    let last = micros_of("9999-12-31T23:59:59.999999Z");
    let mut bench = Bench::partitioned();
    let mut position = 0;
    for time in [first, last] {
        position += 1;
        let events = accepted_at(&[time]);
        let mut meta = record(position, "shop", &events);
        meta.received_at_us = time;
        bench.append(&meta).unwrap();
        let refusals = refused(1);
        let mut meta = record(position + 10, "shop", &refusals);
        meta.received_at_us = time;
        bench.append(&meta).unwrap();
    }
    let files = bench.builder.finish().unwrap();
    let dates: Vec<_> = files.iter().map(|file| value(file, "date")).collect();
    assert_eq!(
        dates,
        ["0001-01-01", "9999-12-31", "0001-01-01", "9999-12-31"]
    );
    for file in &files {
        checked_file(&RealFilesystem, bench.folder.path(), file);
    }
}

/// A partition of the year 10000 lands in the table and makes it unopenable for ever.
#[test]
fn a_record_with_a_time_one_microsecond_outside_is_refused_whole_and_the_cut_goes_on() {
    let first = micros_of("0001-01-01T00:00:00.000000Z");
    let last = micros_of("9999-12-31T23:59:59.999999Z");
    let mut bench = Bench::partitioned();
    for (position, time) in [(1, first - 1), (2, last + 1), (3, i64::MIN), (4, i64::MAX)] {
        let received = |batch| {
            let mut meta = record(position, "shop", batch);
            meta.received_at_us = time;
            meta
        };
        let (late, fine, refusals) = (
            accepted_at(&[NOON_US, time]),
            accepted_at(&[NOON_US]),
            refused(1),
        );
        for meta in [
            record(position, "shop", &late),
            received(&fine),
            received(&refusals),
        ] {
            let error = bench.append(&meta).unwrap_err();
            assert!(
                matches!(error, SegmentError::TimeOutOfRange { position: of } if of.get() == position)
            );
            assert!(error.concerns_record());
            assert_eq!(error.code(), "segment_time_out_of_range");
        }
        assert_eq!(bench.builder.rows(), 0, "not even the event before it");
        // Of an event that gets no partition by its time, the time does not matter.
        let mut maker = BatchMaker::new("token");
        maker.event(Outcome::Duplicate, time);
        bench.append(&record(position, "shop", &maker.0)).unwrap();
    }
    bench
        .append(&record(9, "shop", &accepted_at(&[NOON_US])))
        .unwrap();
    assert_eq!(bench.builder.finish().unwrap().len(), 1);
}

/// Refused events are partitioned by date alone: one tenant must not cost the others a file each.
#[test]
fn refusals_of_all_projects_share_a_file() {
    let mut machine = Machine::new(OPTIONS);
    let batch = refused(2);
    for position in 1..100_u64 {
        let project = format!("project-{position}");
        machine
            .builder
            .append(&record(position, &project, &batch), ByTable::ALL)
            .unwrap();
    }
    let files = machine.builder.finish().unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].rows, 198);
}
