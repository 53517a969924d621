//! How long an insert takes; run by hand in release mode, with `--ignored --nocapture`.

use penstock_model::{Clock, SystemClock};

use super::*;

/// Question: what does an insert cost with four million ids, and what is the longest stall under
/// the lock? On a real disk with default budgets; jobs run between inserts and are not counted.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement")]
fn insert_with_four_million_ids() {
    let directory = tempfile::tempdir().unwrap();
    let options = DedupOptions {
        memory_bytes: 96 << 20,
        disk_bytes: 4 << 30,
        ..options()
    };
    let filesystem = penstock_disk::RealFilesystem::shared();
    let time = RunningTime::default();
    let (mut dedup, _) = Dedup::open(filesystem, directory.path(), options, time).unwrap();
    let clock = SystemClock::new();
    let mut worst_insert = 0;
    let mut worst_begin = 0;
    let mut jobs_nanos = 0;
    for million in 0..5_u64 {
        let mut nanos = 0;
        for batch in 0..10_000 {
            let first = million * 1_000_000 + batch * 100;
            let keys: Vec<_> = (first..first + 100).map(key).collect();
            let start = clock.monotonic_nanos();
            for key in keys {
                assert_eq!(dedup.insert(key, at(first + 1)).unwrap(), Seen::New);
            }
            let took = clock.monotonic_nanos() - start;
            nanos += took;
            worst_insert = worst_insert.max(took);
            if batch % 500 == 499 {
                let start = clock.monotonic_nanos();
                let mut next = dedup.begin_maintenance(at(first + 1));
                worst_begin = worst_begin.max(clock.monotonic_nanos() - start);
                while let Some(job) = next {
                    let start = clock.monotonic_nanos();
                    let done = job.run();
                    jobs_nanos += clock.monotonic_nanos() - start;
                    let start = clock.monotonic_nanos();
                    dedup.finish_maintenance(done).unwrap();
                    next = dedup.begin_maintenance(at(first + 1));
                    worst_begin = worst_begin.max(clock.monotonic_nanos() - start);
                }
            }
        }
        eprintln!(
            "million {million}: {} ns an insert; {:?}",
            nanos / 1_000_000,
            dedup.stats()
        );
    }
    eprintln!(
        "longest 100 inserts {worst_insert} ns, longest begin or finish {worst_begin} ns, jobs {} ms",
        jobs_nanos / 1_000_000
    );
}
