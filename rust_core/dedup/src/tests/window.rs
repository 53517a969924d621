//! What is remembered, for how long, and across what.

use penstock_disk::{Crash, Fault, FaultyFilesystem, Operation};

use super::*;
use crate::key::Identity;

#[test]
fn an_id_is_new_once() {
    let mut dedup = open(&FaultyFilesystem::new());
    assert_eq!(dedup.insert(key(1), at(1)).unwrap(), Seen::New);
    assert_eq!(dedup.insert(key(1), at(1)).unwrap(), Seen::Before);
    assert_eq!(dedup.insert(key(1), at(2)).unwrap(), Seen::Before);
    assert!(!dedup.contains(key(2)).unwrap());
}

#[test]
fn keys_differ_by_each_part_and_by_where_parts_end() {
    let dedup = open(&FaultyFilesystem::new());
    let hasher = dedup.hasher();
    let key = |token: &[u8], uuid: u8, event: &[u8], distinct_id: &[u8]| {
        let uuid = &[uuid; 16];
        let identity = Identity {
            uuid,
            event,
            distinct_id,
        };
        hasher.key(token, identity)
    };
    let base = key(b"ab", 1, b"c", b"d");
    assert_eq!(base, key(b"ab", 1, b"c", b"d"));
    for other in [
        key(b"a", 1, b"bc", b"d"),
        key(b"ab\0", 1, b"c", b"d"),
        key(b"ab", 1, b"", b"cd"),
        key(b"ab", 2, b"c", b"d"),
    ] {
        assert_ne!(base, other);
    }
}

#[test]
fn the_secret_is_kept_across_openings_and_differs_between_directories() {
    let filesystem = FaultyFilesystem::new();
    let of = |dedup: Dedup| {
        let identity = Identity {
            uuid: &[1; 16],
            event: b"e",
            distinct_id: b"d",
        };
        dedup.hasher().key(b"t", identity)
    };
    let first = of(open(&filesystem));
    filesystem.crash(Crash::LoseUnsynced);
    assert_eq!(first, of(open(&filesystem)));
    assert_ne!(first, of(open(&FaultyFilesystem::new())));
}

#[test]
fn a_lost_secret_is_an_error_and_not_an_empty_window() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    dedup.insert(key(1), at(1)).unwrap();
    persist(&mut dedup, 1).unwrap();
    filesystem.remove_file(Path::new("/dedup/secret")).unwrap();
    assert!(matches!(
        try_open(&filesystem, options()),
        Err(DedupError::Secret { .. })
    ));
}

#[test]
fn persisted_ids_survive_a_power_cut_and_others_do_not() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    for position in 1..=4 {
        dedup.insert(key(position), at(position)).unwrap();
    }
    persist(&mut dedup, 3).unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    let dedup = open(&filesystem);
    assert!((1..=3).all(|number| dedup.contains(key(number)).unwrap()));
    assert!(
        !dedup.contains(key(4)).unwrap(),
        "its record was not durable"
    );
}

#[test]
fn a_failed_group_takes_its_ids_along_over_generations() {
    let mut dedup = open(&FaultyFilesystem::new());
    // 56 ids fill a generation, so the group spans three.
    for number in 1..=150 {
        dedup
            .insert(key(number), at(if number <= 20 { 1 } else { number }))
            .unwrap();
    }
    assert!(
        dedup.begin_maintenance(at(1)).is_none(),
        "pending ids are not spilled"
    );
    dedup.truncate_after(at(1));
    for number in 1..=150 {
        assert_eq!(
            dedup.contains(key(number)).unwrap(),
            number <= 20,
            "{number}"
        );
    }
    assert_eq!(dedup.insert(key(100), at(2)).unwrap(), Seen::New);
}

#[test]
fn spilled_and_merged_ids_are_found_and_survive_reopening() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    fill(&mut dedup, 0..1_500);
    persist(&mut dedup, 1_500).unwrap();
    assert!(
        dedup.stats().runs < 12,
        "26 generations were merged: {:?}",
        dedup.stats()
    );
    assert!((0..1_500).all(|number| dedup.contains(key(number)).unwrap()));
    assert!((1_500..6_000).all(|number| !dedup.contains(key(number)).unwrap()));
    filesystem.crash(Crash::LoseUnsynced);
    let (dedup, report) = open_with(&filesystem, options());
    assert_eq!(report.ids_on_disk + report.ids_in_memory, 1_500);
    assert!((0..1_500).all(|number| dedup.contains(key(number)).unwrap()));
}

#[test]
fn ids_leave_when_the_window_has_passed_and_not_before() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    dedup.insert(key(1), at(1)).unwrap();
    for hour in 1..=24 {
        dedup.tick(RunningTime::from_millis(hour * HOUR_MS));
        maintain(&mut dedup, 1).unwrap();
        assert!(dedup.contains(key(1)).unwrap(), "hour {hour}");
    }
    dedup.tick(RunningTime::from_millis(24 * HOUR_MS + 1));
    maintain(&mut dedup, 1).unwrap();
    assert!(!dedup.contains(key(1)).unwrap());
    assert_eq!(dedup.stats().window_shortened_ms, 0);
    assert_eq!(names(&filesystem, ".run").len(), 0);
}

/// The run alone answers for the ids here, so its name must be durable before the persist ends.
#[test]
fn ids_that_were_spilled_and_never_logged_survive_a_power_cut() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    dedup.insert(key(1), at(1)).unwrap();
    dedup.tick(RunningTime::from_millis(4 * HOUR_MS));
    maintain(&mut dedup, 1).unwrap();
    persist(&mut dedup, 1).unwrap();
    assert_eq!(names(&filesystem, ".log").len(), 0);
    filesystem.crash(Crash::LoseUnsynced);
    assert!(open(&filesystem).contains(key(1)).unwrap());
}

#[test]
fn running_time_goes_on_from_the_newest_id_after_a_restart() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    dedup.insert(key(1), at(1)).unwrap();
    dedup.tick(RunningTime::from_millis(20 * HOUR_MS));
    maintain(&mut dedup, 1).unwrap();
    dedup.insert(key(2), at(2)).unwrap();
    persist(&mut dedup, 2).unwrap();
    drop(dedup);
    let mut dedup = open(&filesystem);
    assert_eq!(dedup.running_time(), RunningTime::from_millis(20 * HOUR_MS));
    dedup.tick(RunningTime::from_millis(5 * HOUR_MS));
    maintain(&mut dedup, 2).unwrap();
    assert!(!dedup.contains(key(1)).unwrap(), "25 hours old");
    assert!(dedup.contains(key(2)).unwrap(), "5 hours old");
}

#[test]
fn a_failed_persist_is_reported_and_the_next_one_writes_a_new_log() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    dedup.insert(key(1), at(1)).unwrap();
    persist(&mut dedup, 1).unwrap();
    dedup.insert(key(2), at(2)).unwrap();
    filesystem.fail_nth(Operation::Sync, 1, Fault::Io);
    assert!(
        persist(&mut dedup, 2).is_err(),
        "else the WAL file would go (DUP-2)"
    );
    persist(&mut dedup, 2).unwrap();
    assert_eq!(names(&filesystem, ".log").len(), 2);
    filesystem.crash(Crash::LoseUnsynced);
    let dedup = open(&filesystem);
    assert!(dedup.contains(key(1)).unwrap() && dedup.contains(key(2)).unwrap());
}

#[test]
fn a_second_persist_at_the_same_time_is_refused() {
    let mut dedup = open(&FaultyFilesystem::new());
    dedup.insert(key(1), at(1)).unwrap();
    let first = collected(&mut dedup, 1);
    let second = collected(&mut dedup, 1);
    assert!(matches!(
        dedup.finish_persist(second.run()),
        Err(DedupError::Busy)
    ));
    dedup.finish_persist(first.run()).unwrap();
}

#[test]
fn a_spill_that_ends_during_a_persist_leaves_no_log_behind() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    for number in 0..60 {
        dedup.insert(key(number), at(number + 1)).unwrap();
    }
    let persist_job = collected(&mut dedup, 60);
    maintain(&mut dedup, 60).unwrap();
    dedup.finish_persist(persist_job.run()).unwrap();
    maintain(&mut dedup, 60).unwrap();
    assert_eq!(
        names(&filesystem, ".log").len(),
        1,
        "that of the newest generation"
    );
    assert!((0..60).all(|number| dedup.contains(key(number)).unwrap()));
}

/// Requests wait while ids are collected, so it is done in pieces; between them requests come, and
/// commit groups fail.
#[test]
fn ids_are_collected_in_pieces_between_which_others_come_and_go() {
    let filesystem = FaultyFilesystem::new();
    let roomy = || DedupOptions {
        memory_bytes: 8 << 20,
        ..options()
    };
    let (mut dedup, _) = open_with(&filesystem, roomy());
    for number in 0..5_000 {
        dedup.insert(key(number), at(number + 1)).unwrap();
    }
    let mut job = dedup.begin_persist(at(4_500));
    let mut pieces = 0;
    while dedup.collect(&mut job) {
        pieces += 1;
        dedup.truncate_after(at(4_500));
        let repeat = dedup.insert(key(4_499), at(9_000)).unwrap();
        assert_eq!(repeat, Seen::Before);
        assert_eq!(
            dedup.insert(key(9_000 + pieces), at(9_000)).unwrap(),
            Seen::New
        );
    }
    assert_eq!(pieces, 3);
    dedup.finish_persist(job.run()).unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    let (dedup, _) = open_with(&filesystem, roomy());
    assert!((0..4_500).all(|number| dedup.contains(key(number)).unwrap()));
    assert_eq!(dedup.stats().ids_in_memory, 4_500);
}

#[test]
fn a_generation_that_is_spilled_before_its_ids_are_collected_is_durable() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    for number in 0..50 {
        dedup.insert(key(number), at(number + 1)).unwrap();
    }
    let mut job = dedup.begin_persist(at(50));
    fill(&mut dedup, 50..120);
    while dedup.collect(&mut job) {}
    dedup.finish_persist(job.run()).unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    let dedup = open(&filesystem);
    assert!((0..50).all(|number| dedup.contains(key(number)).unwrap()));
}

/// The log's bytes are in the page cache only, and the next process reads them there. It must not
/// take them for durable, or the WAL file goes and a power cut takes the ids along (DUP-2).
#[test]
fn ids_in_a_log_that_a_killed_process_never_synced_are_made_durable() {
    for step in 1.. {
        let filesystem = FaultyFilesystem::new();
        let mut dedup = open(&filesystem);
        dedup.insert(key(1), at(1)).unwrap();
        filesystem.crash_before(step, Crash::KeepUnsynced);
        let done = persist(&mut dedup, 1).is_ok();
        filesystem.crash(Crash::KeepUnsynced);
        let mut dedup = open(&filesystem);
        dedup.insert(key(1), at(1)).unwrap();
        persist(&mut dedup, 1).unwrap();
        filesystem.crash(Crash::LoseUnsynced);
        assert!(
            open(&filesystem).contains(key(1)).unwrap(),
            "killed before {step}"
        );
        if done {
            assert!(step > 4, "every step was reached");
            break;
        }
    }
}

/// The run's name is not durable when its process is killed. The next process removes the logs that
/// it stands for, and a power cut may keep the removal and lose the name (DUP-2).
#[test]
fn a_run_that_a_killed_process_named_is_durable_before_its_logs_go() {
    for seed in 0..40 {
        for step in 1.. {
            let filesystem = FaultyFilesystem::new();
            let mut dedup = open(&filesystem);
            fill(&mut dedup, 0..40);
            for number in 40..57 {
                dedup.insert(key(number), at(number + 1)).unwrap();
            }
            persist(&mut dedup, 57).unwrap();
            filesystem.crash_before(step, Crash::KeepUnsynced);
            let done = maintain(&mut dedup, 57).is_ok();
            filesystem.crash(Crash::KeepUnsynced);
            let mut dedup = open(&filesystem);
            // A removal, and then the power goes before the sync of the names.
            filesystem.crash_before(2, Crash::KeepSome { seed });
            drop(maintain(&mut dedup, 57));
            filesystem.crash(Crash::LoseUnsynced);
            let dedup = open(&filesystem);
            let missing: Vec<_> = (0..57)
                .filter(|id| !dedup.contains(key(*id)).unwrap())
                .collect();
            assert!(missing.is_empty(), "seed {seed}, step {step}: {missing:?}");
            if done {
                break;
            }
        }
    }
}
