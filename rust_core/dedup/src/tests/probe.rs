//! Lookups without the lock, and jobs beside each other.

use penstock_disk::{Crash, Fault, FaultyFilesystem, Operation};

use super::*;
use crate::Probed;

fn keys(numbers: std::ops::Range<u64>) -> Vec<Option<DedupKey>> {
    numbers.map(|number| Some(key(number))).collect()
}

/// As a caller with a lock does it.
fn insert_all(dedup: &mut Dedup, keys: &[Option<DedupKey>], position: u64) -> Vec<bool> {
    let mut probed = Probed::default();
    dedup.runs().probe(keys, &mut probed).unwrap();
    assert!(dedup.insert_all(keys, &mut probed, at(position)));
    probed.seen().to_vec()
}

#[test]
fn a_batch_is_told_what_is_in_runs_in_generations_and_twice_in_itself() {
    let mut dedup = open(&FaultyFilesystem::new());
    fill(&mut dedup, 0..100);
    maintain(&mut dedup, 100).unwrap();
    assert!(dedup.stats().runs > 0 && dedup.stats().ids_in_memory > 0);
    let batch = [
        Some(key(0)),
        Some(key(99)),
        Some(key(200)),
        None,
        Some(key(200)),
        None,
    ];
    let seen = insert_all(&mut dedup, &batch, 101);
    assert_eq!(seen, [true, true, false, false, true, false]);
    assert_eq!(insert_all(&mut dedup, &batch[2..3], 102), [true]);
    dedup.truncate_after(at(100));
    assert_eq!(insert_all(&mut dedup, &batch[2..3], 103), [false]);
}

#[test]
fn an_insert_reads_nothing_from_the_disk() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    fill(&mut dedup, 0..500);
    maintain(&mut dedup, 500).unwrap();
    let keys = keys(0..50);
    let mut probed = Probed::default();
    dedup.runs().probe(&keys, &mut probed).unwrap();
    assert!(probed.seen().iter().all(|seen| *seen));
    // As if the lookup had found none: the filters of the runs would let each of them through.
    probed.seen.fill(false);
    filesystem.fail_all(Operation::Read, Fault::Io);
    assert!(dedup.insert_all(&keys, &mut probed, at(501)));
    filesystem.heal();
    maintain(&mut dedup, 501).unwrap();
    assert_eq!(dedup.stats().damaged_runs, 0, "no run was touched");
}

/// Without the check the ids would be in no generation any more, and not yet in the runs that were
/// looked at: each repeat would be stored once more (DUP-1).
#[test]
fn ids_spilled_between_lookup_and_insert_are_not_missed() {
    let mut dedup = open(&FaultyFilesystem::new());
    for number in 0..60 {
        dedup.insert(key(number), at(number + 1)).unwrap();
    }
    let runs = dedup.runs();
    let keys = keys(0..60);
    let mut probed = Probed::default();
    runs.probe(&keys, &mut probed).unwrap();
    assert!(probed.seen().iter().all(|seen| !seen));
    maintain(&mut dedup, 60).unwrap();
    assert!(!dedup.insert_all(&keys, &mut probed, at(61)));
    runs.probe_again(&keys, &mut probed).unwrap();
    assert!(dedup.insert_all(&keys, &mut probed, at(61)));
    assert!(probed.seen().iter().all(|seen| *seen));
}

#[test]
fn a_second_lookup_reads_only_runs_that_were_added() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    for number in 0..60 {
        dedup.insert(key(number), at(number + 1)).unwrap();
    }
    maintain(&mut dedup, 60).unwrap();
    let old_run = Path::new("/dedup").join(names(&filesystem, ".run").remove(0));
    let runs = dedup.runs();
    let keys = keys(0..10);
    let mut probed = Probed::default();
    runs.probe(&keys, &mut probed).unwrap();
    assert!(probed.seen().iter().all(|seen| *seen));
    // As if it had found none; the run is broken from now on.
    probed.seen.fill(false);
    filesystem.flip(&old_run, 4_500, 1);
    for number in 60..120 {
        dedup.insert(key(number), at(number + 1)).unwrap();
    }
    maintain(&mut dedup, 120).unwrap();
    assert!(!dedup.insert_all(&keys, &mut probed, at(121)));
    runs.probe_again(&keys, &mut probed).unwrap();
    assert!(dedup.insert_all(&keys, &mut probed, at(121)));
    maintain(&mut dedup, 121).unwrap();
    assert_eq!(dedup.stats().damaged_runs, 0, "it was not read again");
}

#[test]
fn runs_that_were_merged_or_expired_since_the_lookup_need_no_second_one() {
    let mut dedup = open(&FaultyFilesystem::new());
    let mut position = 0;
    // Four runs, which a merge may take.
    for number in 0..=(4 * 56) {
        position += 1;
        dedup.insert(key(number), at(position)).unwrap();
        while let Some(job) = dedup.begin_spill(at(position)) {
            dedup.finish_maintenance(job.run()).unwrap();
        }
    }
    assert_eq!(dedup.stats().runs, 4);
    let keys = keys(0..10);
    let mut probed = Probed::default();
    dedup.runs().probe(&keys, &mut probed).unwrap();
    let merge = dedup.begin_tidying().unwrap();
    dedup.finish_maintenance(merge.run()).unwrap();
    assert_eq!(dedup.stats().runs, 1);
    assert!(dedup.insert_all(&keys, &mut probed, at(position + 1)));
    assert!(probed.seen().iter().all(|seen| *seen));
    dedup.tick(RunningTime::from_millis(25 * HOUR_MS));
    maintain(&mut dedup, position).unwrap();
    assert_eq!(insert_all(&mut dedup, &keys, position + 2), vec![false; 10]);
}

#[test]
fn a_spill_waits_for_no_merge() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    let mut position = 0;
    let mut merge = None;
    for number in 0..2_000 {
        position += 1;
        assert_eq!(dedup.insert(key(number), at(position)).unwrap(), Seen::New);
        while let Some(job) = dedup.begin_spill(at(position)) {
            dedup.finish_maintenance(job.run()).unwrap();
        }
        // The first merge takes as long as all that follows.
        merge = merge.or_else(|| dedup.begin_tidying());
    }
    assert!(dedup.begin_tidying().is_none(), "one at a time");
    let stats = dedup.stats();
    assert_eq!(
        (stats.ids_dropped_early, stats.ids_dropped_unspilled),
        (0, 0)
    );
    assert!(stats.runs > 30, "{stats:?}");
    dedup.finish_maintenance(merge.unwrap().run()).unwrap();
    maintain(&mut dedup, position).unwrap();
    assert!(dedup.stats().runs < 12, "{:?}", dedup.stats());
    assert!((0..2_000).all(|number| dedup.contains(key(number)).unwrap()));
    persist(&mut dedup, position).unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    let dedup = open(&filesystem);
    assert!((0..2_000).all(|number| dedup.contains(key(number)).unwrap()));
}

#[test]
fn a_merge_brings_no_run_back_that_was_dropped_meanwhile() {
    let filesystem = FaultyFilesystem::new();
    let disk_bytes = 40 * 4096;
    let budget = DedupOptions {
        disk_bytes,
        ..options()
    };
    let (mut dedup, _) = open_with(&filesystem, budget.clone());
    let mut merge = None;
    for number in 0..2_000 {
        dedup.insert(key(number), at(number + 1)).unwrap();
        while let Some(job) = dedup.begin_spill(at(number + 1)) {
            dedup.finish_maintenance(job.run()).unwrap();
        }
        merge = merge.or_else(|| dedup.begin_tidying());
        assert!(
            dedup.stats().disk_bytes <= disk_bytes,
            "{:?}",
            dedup.stats()
        );
    }
    // Its runs are long out of the budget.
    dedup.finish_maintenance(merge.unwrap().run()).unwrap();
    maintain(&mut dedup, 2_000).unwrap();
    assert!(!dedup.contains(key(0)).unwrap() && dedup.contains(key(1_999)).unwrap());
    assert!(dedup.stats().disk_bytes <= disk_bytes);
    assert_eq!(dedup.stats().ids_dropped_unspilled, 0);
    assert_eq!(
        names(&filesystem, ".run").len() as u64,
        dedup.stats().runs,
        "no file is left behind"
    );
    drop(dedup);
    assert!(!open_with(&filesystem, budget).0.contains(key(0)).unwrap());
}

#[test]
fn ids_that_are_pushed_out_unspilled_are_counted_and_shorten_the_window() {
    let mut dedup = open(&FaultyFilesystem::new());
    for number in 0..5 * 56 {
        dedup.insert(key(number), at(number + 1)).unwrap();
    }
    let stats = dedup.stats();
    assert_eq!(stats.ids_dropped_unspilled, 56);
    assert_eq!(stats.ids_dropped_early, 56);
    assert_eq!(stats.window_shortened_ms, 24 * HOUR_MS);
}

/// Deduplication was just turned on and the WAL is long.
#[test]
fn a_recovery_that_maintains_drops_nothing() {
    let mut dedup = open(&FaultyFilesystem::new());
    for number in 0..3_000 {
        dedup.insert(key(number), at(number + 1)).unwrap();
        if dedup.needs_maintenance() {
            dedup.maintain_now(at(3_000)).unwrap();
        }
    }
    assert_eq!(dedup.stats().ids_dropped_early, 0);
    assert!((0..3_000).all(|number| dedup.contains(key(number)).unwrap()));
}
