//! Names of files: unique, telling, and never used again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use penstock_disk::{FaultyFilesystem, Filesystem};
use penstock_segment::{ByTable, CutBuilder, Layout, SegmentOptions, TableKind};

use crate::machine::{DATA, Liar, Machine, build_cut, builder, paths_of};
use crate::samples::{Random, places_in, random_log};
use crate::support::{Bench, LANE, NOON_US, OPTIONS, accepted_at, files_below, record, refused};

#[test]
fn a_name_tells_the_lane_and_the_position_of_the_first_row() {
    let mut bench = Bench::partitioned();
    let batch = accepted_at(&[NOON_US]);
    for position in [42, 43] {
        bench.append(&record(position, "shop", &batch)).unwrap();
    }
    let files = bench.builder.finish().unwrap();
    let (_, name) = files[0].path.rsplit_once('/').unwrap();
    let rest = name
        .strip_prefix(&format!("{LANE}-00000000000000000042-"))
        .unwrap();
    let suffix = rest.strip_suffix(".parquet").unwrap();
    assert_eq!(suffix.len(), 16);
    assert!(
        suffix.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{suffix}"
    );
}

/// A cut that is built again has the same lane and positions: the rest of the name must differ.
#[test]
fn the_same_records_get_other_names_in_every_cut_and_from_every_builder() {
    let log = random_log(&mut Random::new(5), 10);
    let disk = FaultyFilesystem::new();
    let mut all = BTreeSet::new();
    let mut expected = 0;
    for _ in 0..5 {
        let mut machine = Machine::start(disk.clone(), OPTIONS);
        for _ in 0..5 {
            let files = machine.cut(&log).unwrap();
            expected += files.len();
            all.extend(paths_of(&files));
        }
    }
    assert_eq!(all.len(), expected);
}

/// A process that is started again counts from the same number: chance alone keeps its names apart
/// from those that a crashed cut left.
#[test]
fn the_first_digits_of_suffixes_differ_from_builder_to_builder() {
    let mut starts = BTreeSet::new();
    for _ in 0..8 {
        let mut machine = Machine::new(OPTIONS);
        let batch = refused(1);
        machine
            .builder
            .append(&record(1, "shop", &batch), ByTable::ALL)
            .unwrap();
        let files = machine.builder.finish().unwrap();
        let (_, suffix) = files[0].path.rsplit_once('-').unwrap();
        starts.insert(suffix.get(..8).unwrap().to_owned());
    }
    assert_eq!(starts.len(), 8);
}

/// The query's folder: all tables in one, told apart by name.
#[test]
fn tables_share_a_flat_folder_without_sharing_a_name() {
    let disk = FaultyFilesystem::new();
    let folder = Path::new("/query");
    let options = SegmentOptions {
        max_buffered_bytes: 20_000,
        ..OPTIONS
    };
    let filesystem: Arc<dyn Filesystem> = Arc::new(disk.clone());
    let mut builder = CutBuilder::new(&filesystem, folder, Layout::Flat, options);
    let log = random_log(&mut Random::new(6), 40);
    let files = build_cut(&mut builder, &log).unwrap();
    let mut names = BTreeSet::new();
    for file in &files {
        let start = format!("{}-", file.table.name());
        assert!(file.path.starts_with(&start), "{}", file.path);
        assert!(names.insert(folder.join(&file.path)));
    }
    assert_eq!(files_below(&disk, folder), names);
    for table in TableKind::ALL {
        let of_table = files.iter().filter(|file| file.table == table);
        let rows: u64 = of_table.map(|file| file.rows).sum();
        let expected: usize = places_in(&log)
            .iter()
            .filter(|((of, _), _)| *of == table)
            .map(|(_, places)| places.len())
            .sum();
        assert_eq!(rows, u64::try_from(expected).unwrap());
    }
}

/// The witness stops the test at a rename, or when a file that exists is opened for writing.
#[test]
fn files_are_only_ever_created_and_abandoning_removes_no_others() {
    let options = SegmentOptions {
        max_open_partitions: 2,
        batch_rows: 2,
        ..OPTIONS
    };
    let disk = FaultyFilesystem::new();
    let log = random_log(&mut Random::new(7), 20);
    let mut earlier = Machine::start(disk.clone(), options.clone());
    let kept = earlier.cut(&log).unwrap();
    let before = earlier.files_on_disk();
    let filesystem: Arc<dyn Filesystem> = Arc::new(Liar::new(&disk));
    let mut builder = builder(&filesystem, options);
    for _ in 0..3 {
        for record in &log {
            builder.append(&record.meta(), ByTable::ALL).unwrap();
        }
        builder.abandon();
        assert_eq!(files_below(&disk, Path::new(DATA)), before);
    }
    let files = build_cut(&mut builder, &log).unwrap();
    assert!(paths_of(&files).is_disjoint(&before));
    assert_eq!(earlier.rows(&kept), earlier.rows(&files));
}

/// Refusals have no project in their path: the same day's files meet in one directory.
#[test]
fn refusals_of_many_cuts_share_a_directory_and_no_name() {
    let mut machine = Machine::new(OPTIONS);
    let batch = refused(1);
    let mut paths = BTreeSet::new();
    for _ in 0..20 {
        machine
            .builder
            .append(&record(1, "shop", &batch), ByTable::ALL)
            .unwrap();
        paths.extend(paths_of(&machine.builder.finish().unwrap()));
    }
    assert_eq!(paths.len(), 20);
    let directories: BTreeSet<&Path> = paths.iter().map(|path| path.parent().unwrap()).collect();
    assert_eq!(directories.len(), 1);
    assert_eq!(machine.files_on_disk(), paths);
}
