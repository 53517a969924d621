//! Budgets are kept by forgetting early, and it is said (LIM-2).

use penstock_disk::{Fault, FaultyFilesystem, Operation};

use super::*;

#[test]
fn disk_budget_drops_the_oldest_run_and_says_so() {
    let filesystem = FaultyFilesystem::new();
    let disk_bytes = 20 * 4096;
    let (mut dedup, _) = open_with(
        &filesystem,
        DedupOptions {
            disk_bytes,
            ..options()
        },
    );
    fill(&mut dedup, 0..2_000);
    let stats = dedup.stats();
    assert!(stats.disk_bytes <= disk_bytes, "{stats:?}");
    assert_eq!(stats.window_shortened_ms, 24 * HOUR_MS);
    assert!(stats.ids_dropped_early > 0);
    assert!(!dedup.contains(key(0)).unwrap());
    assert!(dedup.contains(key(1_999)).unwrap());
    dedup.tick(RunningTime::from_millis(HOUR_MS));
    assert_eq!(
        dedup.stats().window_shortened_ms,
        23 * HOUR_MS,
        "it recovers with time"
    );
}

#[test]
fn memory_budget_holds_with_many_ids_on_disk() {
    let filesystem = FaultyFilesystem::new();
    let (mut dedup, _) = open_with(
        &filesystem,
        DedupOptions {
            disk_bytes: 1 << 30,
            ..options()
        },
    );
    for number in 0..20_000 {
        dedup.insert(key(number), at(number + 1)).unwrap();
        if number % 50 == 49 {
            maintain(&mut dedup, number + 1).unwrap();
            assert!(
                dedup.stats().memory_bytes <= SMALL_MEMORY,
                "{:?}",
                dedup.stats()
            );
        }
    }
    assert!(dedup.stats().ids_dropped_early > 0);
    assert!(dedup.contains(key(19_000)).unwrap());
}

#[test]
fn a_disk_that_takes_nothing_costs_the_oldest_ids_and_no_memory() {
    let filesystem = FaultyFilesystem::new();
    let mut dedup = open(&filesystem);
    filesystem.fail_all(Operation::Create, Fault::DiskFull);
    for number in 0..1_000 {
        assert_eq!(
            dedup.insert(key(number), at(number + 1)).unwrap(),
            Seen::New
        );
        drop(maintain(&mut dedup, number + 1));
    }
    let stats = dedup.stats();
    assert!(stats.full && stats.ids_dropped_early > 0, "{stats:?}");
    assert!(stats.memory_bytes <= SMALL_MEMORY, "{stats:?}");
    filesystem.heal();
    maintain(&mut dedup, 1_000).unwrap();
    assert!(dedup.contains(key(999)).unwrap() && !dedup.contains(key(0)).unwrap());
    assert!(!dedup.stats().full);
}

#[test]
fn smaller_budgets_than_before_are_kept_after_reopening() {
    let filesystem = FaultyFilesystem::new();
    let (mut dedup, _) = open_with(
        &filesystem,
        DedupOptions {
            memory_bytes: 256 << 10,
            ..options()
        },
    );
    for number in 0..2_000 {
        dedup.insert(key(number), at(number + 1)).unwrap();
    }
    persist(&mut dedup, 2_000).unwrap();
    drop(dedup);
    let mut dedup = open(&filesystem);
    maintain(&mut dedup, 2_000).unwrap();
    assert!((0..2_000).all(|number| dedup.contains(key(number)).unwrap()));
    // The newest generation is as long as it was until it is full.
    fill(&mut dedup, 2_000..4_000);
    assert!(
        dedup.stats().memory_bytes <= SMALL_MEMORY,
        "{:?}",
        dedup.stats()
    );
}

#[test]
fn memory_below_the_least_is_refused() {
    let filesystem = FaultyFilesystem::new();
    let with = |memory_bytes| DedupOptions {
        memory_bytes,
        ..options()
    };
    assert!(matches!(
        try_open(&filesystem, with(SMALL_MEMORY - 1)),
        Err(DedupError::MemoryTooSmall { .. })
    ));
    assert!(try_open(&filesystem, with(SMALL_MEMORY)).is_ok());
}
