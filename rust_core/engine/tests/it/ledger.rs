//! The ledger over restarts, crashes and releases of the log.

use std::ffi::OsStr;
use std::path::Path;

use penstock_disk::{Filesystem as _, RealFilesystem};
use penstock_engine::{Counts, LedgerRead, read_ledger};
use penstock_model::Position;

use crate::support::{Opened, batch, committed, options, uuid};

fn counts(accepted: u64, duplicates: u64, rejected: u64) -> Counts {
    Counts {
        accepted,
        duplicates,
        rejected,
    }
}

fn read(folder: &Path, passed: Position) -> LedgerRead {
    read_ledger(folder, passed).unwrap()
}

/// Settled and waiting, over all projects.
fn totals(read: &LedgerRead) -> (Counts, Counts) {
    let (mut settled, mut waiting) = (Counts::default(), Counts::default());
    for line in &read.lines {
        settled += line.settled.received();
        waiting += line.waiting.received();
    }
    (settled, waiting)
}

/// One event that fills most of a log file, one that is refused, and one that is a duplicate of the
/// first if `number` was sent before.
fn large(number: u32) -> String {
    let filler = "x".repeat(40_000);
    format!(
        r#"{{"api_key":"phc_large","batch":[{{"event":"e","distinct_id":"d","uuid":"{}","properties":{{"f":"{filler}"}}}},{{"event":""}}]}}"#,
        uuid(number)
    )
}

#[test]
fn every_event_is_counted_once_whatever_was_committed_before_the_crash() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    opened.stored(&batch(&[&uuid(1), &uuid(2), &uuid(1)]));
    let waiting = read(folder.path(), Position::ZERO);
    assert_eq!(totals(&waiting), (counts(0, 0, 0), counts(2, 1, 0)));
    // Lets go of files, so the book is written; the last cut does not, and is in no book.
    for number in 10..20 {
        opened.stored(&large(number));
    }
    let first = opened.cut();
    assert!(first.releases);
    opened.commit(&first);
    opened.stored(&large(10));
    opened.stored(&batch(&[&uuid(3)]));
    let last = opened.cut();
    opened.commit(&last);
    opened.stored(&batch(&[&uuid(4)]));
    let expected = (counts(13, 2, 11), counts(1, 0, 0));
    assert_eq!(totals(&read(folder.path(), last.position)), expected);
    drop(opened);
    assert_eq!(totals(&read(folder.path(), last.position)), expected);

    for _ in 0..2 {
        // Each time the log is read again, and what is behind the book counted again.
        let opened = Opened::open(options(folder.path()));
        opened.engine.start(&committed(&last)).unwrap();
        assert_eq!(totals(&read(folder.path(), last.position)), expected);
        drop(opened);
    }
    let opened = Opened::open(options(folder.path()));
    opened.engine.start(&committed(&last)).unwrap();
    let cut = opened.cut();
    opened.commit(&cut);
    for number in 30..40 {
        opened.stored(&large(number));
    }
    let cut = opened.cut();
    assert!(cut.releases);
    opened.commit(&cut);
    let ledger = read(folder.path(), cut.position);
    assert_eq!(totals(&ledger), (counts(24, 2, 21), counts(0, 0, 0)));
    assert_eq!(ledger.since, Position::ZERO);
    let names: Vec<_> = ledger.lines.iter().map(|line| &line.project).collect();
    assert_eq!(names, ["phc_large", "phc_test"]);
    let metrics = opened.engine.metrics();
    for line in [
        "penstock_ledger_events{outcome=\"accepted\"} 24",
        "penstock_ledger_events{outcome=\"duplicate\"} 2",
        "penstock_ledger_events{outcome=\"rejected\"} 21",
        "penstock_ledger_difference_events 0",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{metrics}");
    }
}

#[test]
fn a_damaged_book_is_begun_anew_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    for number in 0..10 {
        opened.stored(&large(number));
    }
    let cut = opened.cut();
    opened.commit(&cut);
    drop(opened);
    RealFilesystem
        .publish(&folder.path().join("wal"), OsStr::new("ledger"), b"PSLG")
        .unwrap();
    assert!(read_ledger(folder.path(), cut.position).is_err());
    let opened = Opened::open(options(folder.path()));
    let events = opened.engine.take_log_events();
    assert!(events.iter().any(|event| event.name == "ledger_begun_anew"));
    opened.engine.start(&committed(&cut)).unwrap();
    for number in 20..30 {
        opened.stored(&large(number));
    }
    let cut = opened.cut();
    opened.commit(&cut);
    let ledger = read(folder.path(), cut.position);
    // What left the log is not known any more, and it says since when it counts.
    let (settled, _) = totals(&ledger);
    let counted = cut.position.get() - ledger.since.get();
    assert_eq!(settled, counts(counted, 0, counted));
    assert!(ledger.since > Position::ZERO);
}
