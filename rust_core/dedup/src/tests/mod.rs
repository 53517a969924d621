//! Claims about the whole: each test opens a directory in a file system that can fail.

mod budgets;
mod damage;
mod model;
mod probe;
mod timing;
mod window;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use penstock_disk::{FaultyFilesystem, Filesystem};
use penstock_model::Position;

use crate::{Dedup, DedupError, DedupKey, DedupOptions, OpenReport, PersistJob, RunningTime, Seen};

/// Generations of 56 ids.
const SMALL_MEMORY: u64 = 16 << 10;
const HOUR_MS: u64 = 3_600_000;

fn options() -> DedupOptions {
    DedupOptions {
        window: Duration::from_millis(24 * HOUR_MS),
        memory_bytes: SMALL_MEMORY,
        disk_bytes: 4 << 20,
    }
}

fn open_with(filesystem: &FaultyFilesystem, options: DedupOptions) -> (Dedup, OpenReport) {
    try_open(filesystem, options).unwrap()
}

fn try_open(
    filesystem: &FaultyFilesystem,
    options: DedupOptions,
) -> Result<(Dedup, OpenReport), DedupError> {
    let shared: Arc<dyn Filesystem> = Arc::new(filesystem.clone());
    Dedup::open(shared, Path::new("/dedup"), options, RunningTime::default())
}

fn open(filesystem: &FaultyFilesystem) -> Dedup {
    open_with(filesystem, options()).0
}

/// Spread like a hash: neighbouring numbers land far apart.
pub(crate) fn key(number: u64) -> DedupKey {
    let mix = |value: u64| value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let high = mix(number) ^ (mix(number) >> 29);
    let low = mix(high) ^ (mix(high) >> 31);
    DedupKey(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
}

fn at(position: u64) -> Position {
    Position::new(position)
}

fn collected(dedup: &mut Dedup, up_to: u64) -> PersistJob {
    let mut job = dedup.begin_persist(at(up_to));
    while dedup.collect(&mut job) {}
    job
}

fn persist(dedup: &mut Dedup, up_to: u64) -> Result<(), DedupError> {
    let job = collected(dedup, up_to);
    dedup.finish_persist(job.run())
}

fn maintain(dedup: &mut Dedup, durable: u64) -> Result<(), DedupError> {
    while let Some(job) = dedup.begin_maintenance(at(durable)) {
        dedup.finish_maintenance(job.run())?;
    }
    Ok(())
}

/// Inserts `numbers`, each a durable record, with maintenance on the way.
fn fill(dedup: &mut Dedup, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(
            dedup.insert(key(number), at(number + 1)).unwrap(),
            Seen::New,
            "{number}"
        );
        if number % 50 == 49 {
            maintain(dedup, number + 1).unwrap();
        }
    }
}

fn names(filesystem: &FaultyFilesystem, suffix: &str) -> Vec<String> {
    let names = filesystem.read_dir(Path::new("/dedup")).unwrap();
    let names = names.into_iter().map(|name| name.into_string().unwrap());
    names.filter(|name| name.ends_with(suffix)).collect()
}
