//! A start on closed log files: with seals it reads none of them, and knows and finds what it must.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use penstock_disk::{Filesystem, RealFilesystem};
use penstock_engine::{EngineOptions, LogEvent, TableKind};
use penstock_model::{Clock as _, SystemClock};

use crate::support::{Opened, PATIENCE, batch, nap, options, rows, uuid};

const EVENTS: u32 = 10;

/// Fills a log file of 64 KiB with each event but the last, so that these are closed; then waits until
/// they are sealed.
fn fill_and_seal(folder: &Path) -> usize {
    let opened = Opened::open(options(folder)).started();
    for number in 0..EVENTS {
        opened.stored(&large(number));
    }
    let sealed = wait_until_sealed(&opened, 8);
    drop(opened);
    sealed
}

fn large(number: u32) -> String {
    let filler = "x".repeat(40_000);
    format!(
        r#"{{"api_key":"phc_test","event":"e","distinct_id":"d","uuid":"{}","properties":{{"f":"{filler}"}}}}"#,
        uuid(number)
    )
}

fn wait_until_sealed(opened: &Opened, wanted: usize) -> usize {
    let clock = SystemClock::new();
    loop {
        let metrics = opened.engine.metrics();
        let sealed = metrics
            .lines()
            .find_map(|line| line.strip_prefix("penstock_wal_sealed_files_total "))
            .and_then(|count| count.parse().ok())
            .unwrap();
        if sealed >= wanted {
            return sealed;
        }
        assert!(
            Duration::from_nanos(clock.monotonic_nanos()) < PATIENCE,
            "{sealed} files are sealed"
        );
        nap();
    }
}

fn recovered(opened: &Opened) -> (BTreeMap<&'static str, String>, Vec<LogEvent>) {
    let events = opened.engine.take_log_events();
    let found = events
        .iter()
        .find(|event| event.name == "log_recovered")
        .unwrap();
    (found.fields.iter().cloned().collect(), events)
}

/// Paths in a folder of the data directory whose names end so.
fn files(folder: &Path, below: &str, ending: &str) -> Vec<PathBuf> {
    let directory = folder.join(below);
    let names: Vec<OsString> = RealFilesystem.read_dir(&directory).unwrap();
    let paths = names.into_iter().map(|name| directory.join(name));
    paths
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect()
}

fn flip(path: &Path, offset: u64) {
    let file = RealFilesystem.open_read_write(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

fn assert_all_known(opened: &Opened) {
    for number in 0..EVENTS {
        let summary = opened.stored(&batch(&[&uuid(number)]));
        assert_eq!(summary.duplicates, 1, "event {number} was stored before");
    }
}

#[test]
fn a_start_reads_no_sealed_file_and_knows_its_ids() {
    // DUP-1, TAB-1
    let folder = tempfile::tempdir().unwrap();
    let sealed = fill_and_seal(folder.path());
    let opened = Opened::open(options(folder.path()));
    let (found, _) = recovered(&opened);
    assert_eq!(found["files_sealed"], sealed.to_string());
    assert_eq!(found["records"], EVENTS.to_string());
    let read: u32 = found["records_read"].parse().unwrap();
    assert!((1..=2).contains(&read), "{read} records were read");
    let opened = opened.started();
    assert_all_known(&opened);
    assert_eq!(rows(&opened.cut(), TableKind::Events), u64::from(EVENTS));
}

#[test]
fn seals_count_for_nothing_once_stored_ids_are_damaged() {
    // The next opening finds no damage any more: it must not believe them either.
    let folder = tempfile::tempdir().unwrap();
    fill_and_seal(folder.path());
    let id_log = files(folder.path(), "dedup", ".log").pop().unwrap();
    flip(&id_log, 60);
    for _ in 0..2 {
        let opened = Opened::open(options(folder.path()));
        let (found, _) = recovered(&opened);
        assert_eq!(found["records_read"], EVENTS.to_string());
        assert_eq!(files(folder.path(), "wal", ".seal"), Vec::<PathBuf>::new());
    }
    let opened = Opened::open(options(folder.path())).started();
    assert_all_known(&opened);
}

#[test]
fn a_seal_speaks_for_one_state_of_deduplication_only() {
    let folder = tempfile::tempdir().unwrap();
    fill_and_seal(folder.path());
    // Without deduplication nobody needs ids; but a seal that was made so vouches for none.
    let off = || EngineOptions {
        dedup_window: Duration::ZERO,
        ..options(folder.path())
    };
    let opened = Opened::open(off()).started();
    let (found, _) = recovered(&opened);
    assert_eq!(found["records_read"], EVENTS.to_string());
    wait_until_sealed(&opened, 9);
    drop(opened);
    let opened = Opened::open(off());
    let (found, _) = recovered(&opened);
    assert_eq!(found["records_read"], "0");
    drop(opened);
    let opened = Opened::open(options(folder.path())).started();
    let (found, _) = recovered(&opened);
    assert_eq!(found["records_read"], EVENTS.to_string());
    assert_all_known(&opened);
}

#[test]
fn damage_in_a_sealed_file_is_told_when_it_is_read() {
    // WAL-2
    let folder = tempfile::tempdir().unwrap();
    fill_and_seal(folder.path());
    let file = files(folder.path(), "wal", ".wal").remove(1);
    flip(&file, 20_000);
    let opened = Opened::open(options(folder.path()));
    let (_, events) = recovered(&opened);
    assert!(events.iter().all(|event| event.name != "log_damaged"));
    let opened = opened.started();
    assert_eq!(
        rows(&opened.cut(), TableKind::Events),
        u64::from(EVENTS) - 1
    );
    let told: Vec<_> = opened
        .engine
        .take_log_events()
        .into_iter()
        .filter(|event| event.name == "log_damaged")
        .collect();
    assert_eq!(told.len(), 1);
    let fields: BTreeMap<_, _> = told[0].fields.iter().cloned().collect();
    assert_eq!(fields["file"], file.display().to_string());
    assert_eq!(fields["first_position"], fields["last_position"]);
    assert_eq!(files(folder.path(), "wal/damaged", ".bytes").len(), 1);
}
