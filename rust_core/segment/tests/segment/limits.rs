//! Many partitions and large rows within the budgets (LIM-2), at the cost of more files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use penstock_disk::Filesystem;
use penstock_model::Outcome;
use penstock_segment::{ByTable, Codec, SegmentOptions};

use crate::machine::{Machine, paths_of};
use crate::support::{BatchMaker, DAY_US, NOON_US, OPTIONS, accepted_at, record};

/// The projects that have a file on disk.
fn projects_on_disk(machine: &Machine) -> Vec<String> {
    let files = machine.files_on_disk();
    let project = |path: &PathBuf| {
        let mut levels = path.iter().map(|level| level.to_str().unwrap());
        levels
            .find_map(|level| level.strip_prefix("project="))
            .unwrap()
            .to_owned()
    };
    files.iter().map(project).collect()
}

fn append(machine: &mut Machine, position: u64, project: &str, events: usize) {
    let batch = accepted_at(&vec![NOON_US; events]);
    machine
        .builder
        .append(&record(position, project, &batch), ByTable::ALL)
        .unwrap();
}

#[test]
fn more_partitions_than_may_be_open_are_spilled_and_lose_no_row() {
    let options = SegmentOptions {
        codec: Codec::None,
        max_open_partitions: 10,
        max_buffered_bytes: 1 << 20,
        ..OPTIONS
    };
    let mut machine = Machine::new(options);
    // One record alone has more days than may be open.
    let days: Vec<i64> = (0..40).map(|day| day * DAY_US).collect();
    let batch = accepted_at(&days);
    for position in 1..=5_u64 {
        for number in 0..5_u64 {
            let (position, project) = (position * 10 + number, format!("project-{number}"));
            machine
                .builder
                .append(&record(position, &project, &batch), ByTable::ALL)
                .unwrap();
            assert!(machine.builder.buffered_bytes() <= 1 << 20);
        }
    }
    assert_eq!(
        machine.files_on_disk().len(),
        5 * 5 * 40 - 10,
        "all but the open ones'"
    );
    let files = machine.builder.finish().unwrap();
    assert_eq!(paths_of(&files), machine.files_on_disk());
    let rows = machine.rows(&files);
    assert_eq!(rows.len(), 5 * 40);
    assert!(rows.values().all(|rows| rows.len() == 5));
}

#[test]
fn as_many_partitions_as_may_be_open_get_one_file_each() {
    for (max_open_partitions, expected_files) in [(20, 20), (19, 40)] {
        let mut machine = Machine::new(SegmentOptions {
            max_open_partitions,
            ..OPTIONS
        });
        let days: Vec<i64> = (0..20).map(|day| day * DAY_US).collect();
        let batch = accepted_at(&days);
        for position in [1, 2] {
            machine
                .builder
                .append(&record(position, "shop", &batch), ByTable::ALL)
                .unwrap();
        }
        assert_eq!(machine.builder.finish().unwrap().len(), expected_files);
    }
}

#[test]
fn the_partition_that_was_used_least_recently_is_spilled_first() {
    let mut machine = Machine::new(SegmentOptions {
        max_open_partitions: 2,
        ..OPTIONS
    });
    for (position, project) in (1..).zip(["a", "b", "a"]) {
        append(&mut machine, position, project, 1);
    }
    assert_eq!(projects_on_disk(&machine), [""; 0]);
    append(&mut machine, 4, "c", 1);
    assert_eq!(projects_on_disk(&machine), ["b"]);
    append(&mut machine, 5, "b", 1);
    assert_eq!(projects_on_disk(&machine), ["a", "b"]);
}

#[test]
fn memory_stays_within_its_budget_by_spilling_the_largest_partition() {
    const MAX_BUFFERED_BYTES: usize = 200_000;
    let options = SegmentOptions {
        max_buffered_bytes: MAX_BUFFERED_BYTES,
        ..OPTIONS
    };
    let mut machine = Machine::new(options);
    append(&mut machine, 1, "small", 1);
    let mut most = 0;
    for position in 2..400 {
        append(&mut machine, position, "large", 10);
        most = most.max(machine.builder.buffered_bytes());
        assert!(machine.builder.buffered_bytes() <= MAX_BUFFERED_BYTES);
    }
    assert!(
        most > MAX_BUFFERED_BYTES * 9 / 10,
        "the budget is used: {most}"
    );
    let spilled: BTreeSet<String> = projects_on_disk(&machine).into_iter().collect();
    assert_eq!(spilled, BTreeSet::from(["large".to_owned()]));
    let files = machine.builder.finish().unwrap();
    assert_eq!(
        files.iter().map(|file| file.rows).sum::<u64>(),
        1 + 398 * 10
    );
    assert!(
        files.len() < 20,
        "files are as large as the budget allows: {}",
        files.len()
    );
    assert_eq!(machine.builder.buffered_bytes(), 0);
}

/// Most of a busy partition is in its encoder: a budget without that would bound nothing.
#[test]
fn encoded_rows_and_compression_contexts_count_as_held() {
    const ROW_BYTES: usize = 10_000;
    let options = SegmentOptions {
        codec: Codec::None,
        batch_rows: 1,
        ..OPTIONS
    };
    let mut machine = Machine::new(options);
    let mut maker = BatchMaker::new("token");
    let properties = maker.text(&format!(r#"{{"a":"{}"}}"#, "x".repeat(ROW_BYTES)));
    maker.event(Outcome::Accepted, NOON_US).properties = properties;
    machine
        .builder
        .append(&record(1, "shop", &maker.0), ByTable::ALL)
        .unwrap();
    let with_one = machine.builder.buffered_bytes();
    assert!(
        with_one > 2 << 20,
        "a file's contexts are not counted: {with_one}"
    );
    for position in 2..=200 {
        machine
            .builder
            .append(&record(position, "shop", &maker.0), ByTable::ALL)
            .unwrap();
    }
    let grown_bytes = machine.builder.buffered_bytes() - with_one;
    assert!(
        grown_bytes > 199 * ROW_BYTES,
        "encoded rows are not counted: {grown_bytes}"
    );
    machine.builder.finish().unwrap();
    assert_eq!(machine.builder.buffered_bytes(), 0);
}

/// A body of the largest size must get through whatever the budget is.
#[test]
fn a_record_larger_than_the_budget_gets_through_and_is_not_kept() {
    let mut machine = Machine::new(SegmentOptions {
        max_buffered_bytes: 100_000,
        ..OPTIONS
    });
    let mut maker = BatchMaker::new("token");
    for _ in 0..30 {
        let properties = maker.text(&format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000)));
        maker.event(Outcome::Accepted, NOON_US).properties = properties;
    }
    machine
        .builder
        .append(&record(1, "shop", &maker.0), ByTable::ALL)
        .unwrap();
    assert!(machine.builder.buffered_bytes() <= 100_000);
    append(&mut machine, 2, "shop", 1);
    let files = machine.builder.finish().unwrap();
    let rows = machine.rows(&files);
    assert_eq!(rows.values().map(Vec::len).sum::<usize>(), 31);
}

/// Each open file holds compression contexts for every column, which are the most of its memory.
#[test]
fn no_more_files_are_open_than_allowed() {
    let options = SegmentOptions {
        max_open_files: 3,
        batch_rows: 1,
        ..OPTIONS
    };
    let mut machine = Machine::new(options);
    for position in 1..30_u64 {
        append(
            &mut machine,
            position,
            &format!("project-{}", position % 7),
            1,
        );
        let files = machine.files_on_disk();
        let open = files
            .iter()
            .filter(|path| !is_whole(&machine, path))
            .count();
        assert!(open <= 3, "{open} files are open");
        assert!(position < 3 || open == 3, "{open} files are open");
    }
    let files = machine.builder.finish().unwrap();
    assert!(
        machine
            .files_on_disk()
            .iter()
            .all(|path| is_whole(&machine, path))
    );
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 29);
}

/// Whether a file has a Parquet file's end.
fn is_whole(machine: &Machine, path: &Path) -> bool {
    let file = machine.disk.open_read(path).unwrap();
    let mut end = [0; 4];
    let start = file.len().unwrap().saturating_sub(4);
    file.read_at(&mut end, start).unwrap();
    start > 4 && end == *b"PAR1"
}
