//! What a power cut leaves of a cut (TAB-2): all of it, from the moment that `finish` returns.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use penstock_disk::{Crash, FaultyFilesystem, Filesystem, RealFilesystem};
use penstock_segment::{ByTable, CutBuilder, Layout, SegmentFile, TableKind};

use crate::checks::places_of;
use crate::machine::{DATA, Liar, Machine, SMALL, Synced, build_cut, builder, paths_of};
use crate::samples::{Logged, Random, places_in, random_log};
use crate::support::{Bench, DAY_US, NOON_US, OPTIONS, accepted_at, record};

fn shared(filesystem: &(impl Filesystem + Clone + 'static)) -> Arc<dyn Filesystem> {
    Arc::new(filesystem.clone())
}

fn sample(seed: u64) -> Vec<Logged> {
    random_log(&mut Random::new(seed), 12)
}

#[test]
fn every_file_of_every_finished_cut_survives_a_power_cut() {
    for options in [SMALL, OPTIONS] {
        for cuts in 1..4 {
            let mut machine = Machine::new(options.clone());
            let mut files = Vec::new();
            let log = random_log(&mut Random::new(cuts), 30);
            for part in log.chunks(log.len().div_ceil(usize::try_from(cuts).unwrap())) {
                files.extend(machine.cut(part).unwrap());
            }
            // Behind the last cut: this may go, and must take nothing with it.
            machine
                .builder
                .append(&log[0].meta(), ByTable::ALL)
                .unwrap();
            assert_eq!(
                places_of(&machine.rows_after_power_cut(&files)),
                places_in(&log)
            );
        }
    }
}

/// Proves the test above: a sync that is only claimed to be done is found out by the power cut.
#[test]
fn no_sync_of_a_file_or_directory_can_be_left_out() {
    let log = sample(1);
    let run = |swallowed: Option<&Synced>| {
        let disk = FaultyFilesystem::new();
        disk.create_dir_synced(Path::new(DATA)).unwrap();
        let liar = Liar::new(&disk);
        liar.swallow(swallowed.cloned());
        let mut builder = builder(&shared(&liar), SMALL);
        let files = build_cut(&mut builder, &log).unwrap();
        disk.crash(Crash::LoseUnsynced);
        (survivors(&disk, &files), files.len(), liar.take_synced())
    };
    let (left, files, synced) = run(None);
    assert_eq!(left, files);
    let of_files = synced
        .iter()
        .filter(|of| matches!(of, Synced::File(_)))
        .count();
    assert_eq!(of_files, files, "each file is synced");
    for level in [
        "/data",
        "/data/events",
        "/data/rejected",
        "/data/events/project=shop",
    ] {
        assert!(synced.contains(&Synced::Directory(level.into())), "{level}");
    }
    // What is above the data directory is durable without us.
    let above = Synced::Directory("/".into());
    for of in synced.iter().filter(|of| **of != above) {
        let (left, files, _) = run(Some(of));
        assert!(left < files, "nothing is lost without the sync of {of:?}");
    }
}

/// Files that are there with all of their bytes.
fn survivors(disk: &FaultyFilesystem, files: &[SegmentFile]) -> usize {
    let mut survivors = 0;
    for file in files {
        let path = Path::new(DATA).join(file.table.name()).join(&file.path);
        let len = disk
            .exists(&path)
            .unwrap()
            .then(|| disk.len(&path).unwrap());
        survivors += usize::from(len == Some(file.size_bytes));
    }
    survivors
}

#[test]
fn a_cut_of_known_directories_syncs_only_files_and_the_directories_that_hold_them() {
    let disk = FaultyFilesystem::new();
    disk.create_dir_synced(Path::new(DATA)).unwrap();
    let batch = accepted_at(&[NOON_US]);
    let one_record = |builder: &mut CutBuilder| {
        builder
            .append(&record(1, "shop", &batch), ByTable::ALL)
            .unwrap();
        builder.finish().unwrap()
    };
    let liar = Liar::new(&disk);
    let mut builder = builder(&shared(&liar), OPTIONS);
    let first = one_record(&mut builder);
    assert!(liar.take_synced().len() > 2);
    let second = one_record(&mut builder);
    let paths = paths_of(&[first, second].concat());
    let directories: BTreeSet<&Path> = paths.iter().map(|path| path.parent().unwrap()).collect();
    let mut expected: BTreeSet<Synced> = directories
        .iter()
        .map(|path| Synced::Directory((*path).to_owned()))
        .collect();
    assert_eq!(expected.len(), 1);
    expected.insert(Synced::File(1));
    assert_eq!(liar.take_synced(), expected);
}

/// The process before made directories and was killed: to its successor they look as good as any,
/// yet their names are only in the page cache.
#[test]
fn directories_that_a_killed_process_left_unsynced_are_synced_by_the_next() {
    let log = sample(2);
    for appended in 1..=log.len() {
        let mut machine = Machine::new(SMALL);
        for record in &log[..appended] {
            machine
                .builder
                .append(&record.meta(), ByTable::ALL)
                .unwrap();
        }
        machine.disk.crash(Crash::KeepUnsynced);
        let mut next = Machine::start(machine.disk, SMALL);
        let files = next.cut(&log).unwrap();
        assert_eq!(
            places_of(&next.rows_after_power_cut(&files)),
            places_in(&log)
        );
    }
}

#[test]
fn files_of_a_crashed_cut_are_neither_touched_nor_named_by_the_next() {
    let log = sample(3);
    for seed in 0..20 {
        let mut machine = Machine::new(SMALL);
        let earlier = machine.cut(&log[..4]).unwrap();
        for record in &log[4..] {
            machine
                .builder
                .append(&record.meta(), ByTable::ALL)
                .unwrap();
        }
        let crash = if seed == 0 {
            Crash::KeepUnsynced
        } else {
            Crash::KeepSome { seed }
        };
        machine.disk.crash(crash);
        let contents = |machine: &Machine| {
            let read = |path: &std::path::PathBuf| {
                let file = machine.disk.open_read(path).unwrap();
                let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
                file.read_exact_at(&mut bytes, 0).unwrap();
                (path.clone(), bytes)
            };
            machine.files_on_disk().iter().map(read).collect::<Vec<_>>()
        };
        let left_over = contents(&machine);
        assert!(seed > 0 || left_over.len() > earlier.len());

        let mut next = Machine::start(machine.disk, SMALL);
        let files = next.cut(&log[4..]).unwrap();
        let named = paths_of(&files);
        let mut others = contents(&next);
        others.retain(|(path, _)| !named.contains(path));
        assert_eq!(others, left_over, "seed {seed}");
        // Once more after abandoning: that removes the successor's own files alone.
        next.builder.append(&log[4].meta(), ByTable::ALL).unwrap();
        next.builder.abandon();
        let both = [earlier, files].concat();
        assert_eq!(
            places_of(&next.rows_after_power_cut(&both)),
            places_in(&log)
        );
    }
}

/// Partition directories may be cleared away, as by a vacuum, while a builder knows them to be
/// durable. Here a sync that never was and a power cut do it.
#[test]
fn known_directories_that_were_cleared_away_are_made_and_synced_again() {
    let log = sample(4);
    let disk = FaultyFilesystem::new();
    disk.create_dir_synced(Path::new(DATA)).unwrap();
    let liar = Liar::new(&disk);
    let mut builder = builder(&shared(&liar), SMALL);
    for level in ["/data", "/data/events", "/data/events/project=shop"] {
        liar.swallow([Synced::Directory(level.into())]);
        build_cut(&mut builder, &log).unwrap();
        disk.crash(Crash::LoseUnsynced);
        liar.swallow([]);
        let files = build_cut(&mut builder, &log).unwrap();
        disk.crash(Crash::LoseUnsynced);
        assert_eq!(survivors(&disk, &files), files.len(), "without {level}");
    }
}

/// An abandoned cut leaves empty directories. Whoever clears them away must not stop all cuts.
#[test]
fn directories_of_an_abandoned_cut_may_be_cleared_away() {
    let mut bench = Bench::new(Layout::Partitioned, SMALL);
    let days: Vec<i64> = (0..8).map(|day| NOON_US + day * DAY_US).collect();
    bench
        .append(&record(1, "shop", &accepted_at(&days)))
        .unwrap();
    assert!(!bench.files_on_disk().is_empty());
    bench.builder.abandon();
    let events = bench.folder.path().join("events");
    for project in RealFilesystem.read_dir(&events).unwrap() {
        for date in RealFilesystem.read_dir(&events.join(&project)).unwrap() {
            std::fs::remove_dir(events.join(&project).join(date)).unwrap();
        }
        std::fs::remove_dir(events.join(project)).unwrap();
    }
    bench
        .append(&record(1, "other", &accepted_at(&[NOON_US])))
        .unwrap();
    let files = bench.builder.finish().unwrap();
    assert_eq!(files.len(), 1);
    bench
        .append(&record(2, "shop", &accepted_at(&days)))
        .unwrap();
    let files = bench.builder.finish().unwrap();
    assert_eq!(bench.rows_of(TableKind::Events, &files).len(), 8);
}

#[test]
fn missing_directories_above_the_tables_are_made_and_survive() {
    let disk = FaultyFilesystem::new();
    let log = sample(5);
    let mut machine = Machine::start(disk, SMALL);
    let files = machine.cut(&log).unwrap();
    assert_eq!(
        places_of(&machine.rows_after_power_cut(&files)),
        places_in(&log)
    );
}

/// A query's own files go with the query: syncing them would only wear the disk.
#[test]
fn nothing_is_synced_in_a_flat_layout() {
    let disk = FaultyFilesystem::new();
    let query = Path::new("/query");
    disk.create_dir_synced(query).unwrap();
    let liar = Liar::new(&disk);
    let filesystem: Arc<dyn Filesystem> = Arc::new(liar.clone());
    let mut builder = CutBuilder::new(&filesystem, query, Layout::Flat, OPTIONS);
    assert!(!build_cut(&mut builder, &sample(6)).unwrap().is_empty());
    let of_the_query = |of: &Synced| match of {
        Synced::File(_) => true,
        Synced::Directory(path) => path.starts_with(query),
    };
    assert!(!liar.take_synced().iter().any(of_the_query));
}
