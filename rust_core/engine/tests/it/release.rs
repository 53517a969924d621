//! What lets the log's files go, and what is left to do.

use penstock_engine::{EngineOptions, TableKind};

use crate::support::{Opened, batch, committed, options, rows, uuid};

/// A body that fills most of a log file of 64 KiB.
fn large(number: u32) -> String {
    let filler = "x".repeat(40_000);
    format!(
        r#"{{"api_key":"phc_test","event":"e","distinct_id":"d","uuid":"{}","properties":{{"f":"{filler}"}}}}"#,
        uuid(number)
    )
}

#[test]
fn nothing_is_left_to_do_after_a_cut_without_refusals() {
    // A table without rows gets no commit; a shutdown that waited for one would never end.
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    opened.stored(&batch(&[&uuid(1)]));
    assert_eq!(opened.engine.backlog().0, 1);
    let cut = opened.cut();
    assert!(!cut.releases);
    opened.commit(&cut);
    assert_eq!(opened.engine.backlog(), (0, 0));
}

#[test]
fn a_lane_of_before_the_restart_is_released_though_one_table_never_had_rows_of_it() {
    // TAB-3: a cut that names only the lanes with new rows would hold this lane's files for ever.
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    opened.stored(&batch(&[&uuid(1)]));
    let cut = opened.cut();
    opened.commit(&cut);
    let old_lane = opened.engine.lanes()[0].0;
    drop(opened);

    let opened = Opened::open(options(folder.path()));
    opened.engine.start(&committed(&cut)).unwrap();
    let replay = opened.cut();
    assert_eq!(rows(&replay, TableKind::Events), 0);
    opened.commit(&replay);
    for number in 10..20 {
        opened.stored(&large(number));
    }
    let cut = opened.cut();
    assert!(cut.releases);
    assert!(cut.lanes.iter().any(|lane| lane.lane == old_lane));
    opened.commit(&cut);
    let lanes = opened.engine.lanes();
    assert!(
        lanes.iter().all(|(lane, ..)| *lane != old_lane),
        "the old lane is still in the log: {lanes:?}"
    );
}

#[test]
fn the_log_stays_small_while_cuts_are_committed() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(EngineOptions {
        max_wal_bytes: 1 << 20,
        ..options(folder.path())
    })
    .started();
    // Four times what the log may hold.
    for number in 0..100 {
        opened.stored(&large(number));
        if number % 10 == 9 {
            opened.commit(&opened.cut());
        }
    }
}

#[test]
fn a_discarded_cut_comes_again_with_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    opened.stored(&batch(&[&uuid(1), &uuid(2)]));
    let lost = opened.cut();
    opened.stored(&batch(&[&uuid(3)]));
    opened.engine.discard_cut(lost.position);
    let mut found = 0;
    let mut last = lost.position;
    while found < 3 {
        let cut = opened.cut();
        for file in &cut.files {
            assert!(
                lost.files.iter().all(|old| old.path != file.path),
                "a file that may be gone is named again"
            );
        }
        found += rows(&cut, TableKind::Events);
        opened.commit(&cut);
        last = cut.position;
    }
    assert_eq!(found, 3);
    assert!(last > lost.position);
    assert_eq!(opened.engine.backlog(), (0, 0));
}
