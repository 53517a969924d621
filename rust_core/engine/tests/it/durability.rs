//! What a restart finds: everything once, whatever had been committed and released.

use penstock_engine::TableKind;

use crate::support::{Opened, batch, committed, options, rows, uuid};

#[test]
fn a_restart_gives_back_what_was_not_committed_and_nothing_else() {
    // TAB-1
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    opened.stored(&batch(&[&uuid(1), &uuid(2)]));
    let cut = opened.cut();
    assert_eq!(rows(&cut, TableKind::Events), 2);
    opened.commit(&cut);
    opened.stored(&batch(&[&uuid(3)]));
    drop(opened);

    let opened = Opened::open(options(folder.path()));
    opened.engine.start(&committed(&cut)).unwrap();
    let replayed = opened.cut();
    assert_eq!(rows(&replayed, TableKind::Events), 1);
    assert!(replayed.position > cut.position);
}

#[test]
fn a_commit_that_was_lost_on_the_way_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    opened.stored(&batch(&[&uuid(1)]));
    let first = opened.cut();
    let again = opened.cut();
    assert_eq!(first.position, again.position);
    drop(opened);
    // Killed before the commit: the next opening builds the same rows anew.
    let opened = Opened::open(options(folder.path())).started();
    assert_eq!(rows(&opened.cut(), TableKind::Events), 1);
}

#[test]
fn one_table_may_be_ahead_of_the_other() {
    // A crash between the commit of `events` and that of `rejected`.
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    opened
        .stored(r#"{"api_key":"phc_test","batch":[{"event":"e","distinct_id":"d"},{"event":""}]}"#);
    let cut = opened.cut();
    drop(opened);
    let opened = Opened::open(options(folder.path()));
    let mut events_only = committed(&cut);
    events_only.retain(|(table, ..)| *table == TableKind::Events);
    opened.engine.start(&events_only).unwrap();
    let replayed = opened.cut();
    assert_eq!(rows(&replayed, TableKind::Events), 0);
    assert_eq!(rows(&replayed, TableKind::Rejected), 1);
}

#[test]
fn ids_are_remembered_across_restarts_also_when_their_log_file_is_gone() {
    // DUP-1, DUP-2
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    let filler = "x".repeat(40_000);
    opened.stored(&batch(&[&uuid(1)]));
    for number in 100..110 {
        opened.stored(&format!(
            r#"{{"api_key":"phc_test","event":"e","distinct_id":"d","uuid":"{}","properties":{{"f":"{filler}"}}}}"#,
            uuid(number)
        ));
    }
    let cut = opened.cut();
    assert!(cut.releases, "several files of 64 KiB were filled");
    opened.commit(&cut);
    let lanes = opened.engine.lanes();
    assert!(
        lanes.is_empty() || lanes[0].1.get() > 1,
        "the first file is gone: {lanes:?}"
    );
    drop(opened);

    let opened = Opened::open(options(folder.path()));
    opened.engine.start(&committed(&cut)).unwrap();
    let summary = opened.stored(&batch(&[&uuid(1), &uuid(100), &uuid(2)]));
    assert_eq!((summary.accepted, summary.duplicates), (1, 2));
}

#[test]
fn positions_go_on_and_lanes_do_not() {
    // WAL-3
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    let first = opened.stored(&batch(&[&uuid(1)])).log_position;
    drop(opened);
    let opened = Opened::open(options(folder.path())).started();
    let second = opened.stored(&batch(&[&uuid(2)])).log_position;
    assert!(second > first);
    let lanes = opened.engine.lanes();
    assert_eq!(lanes.len(), 2);
    assert_ne!(lanes[0].0, lanes[1].0);
}

#[test]
fn records_beyond_the_cache_are_built_from_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let options = penstock_engine::EngineOptions {
        batch_cache_bytes: 2_000,
        ..options(folder.path())
    };
    let opened = Opened::open(options).started();
    for number in 0..50 {
        opened.stored(&batch(&[&uuid(2 * number), &uuid(2 * number + 1)]));
    }
    let cut = opened.cut();
    assert_eq!(rows(&cut, TableKind::Events), 100);
    let metrics = opened.engine.metrics();
    assert!(
        !metrics.contains("penstock_engine_records_read_back_total 0\n"),
        "{metrics}"
    );
}
