//! Was an event seen before? The cost an event, as the foreground asks it: a request's ids are hashed,
//! looked up on disk, then entered in memory.
//!
//! `PENSTOCK_BENCH_IDS_IN_MEMORY` and `PENSTOCK_BENCH_IDS_ON_DISK` say how many ids are there already:
//! a million each by default, so that a smoke run is short; the goals are for 4 and 100 million.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use penstock_dedup::{
    Dedup, DedupKey, DedupOptions, Identity, KeyHasher, MAX_GENERATIONS, Probed, RunningTime,
};
use penstock_disk::RealFilesystem;
use penstock_model::{Clock as _, Position, SystemClock};
use tempfile::TempDir;

use crate::scratch;

const DEFAULT_IDS: u64 = 1_000_000;

/// Events of a request.
const BATCH: u64 = 50;

/// Requests timed at once; their ids are then forgotten again, so that the number of ids stays.
const REQUESTS: u64 = 400;

fn count(name: &str) -> u64 {
    let text = std::env::var(name).unwrap_or_default();
    text.parse().unwrap_or(DEFAULT_IDS)
}

/// Ids as a hash leaves them: spread, and never twice.
fn uuid(number: u64) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    uuid[8..].copy_from_slice(&number.to_be_bytes());
    uuid
}

fn identity(uuid: &[u8; 16]) -> Identity<'_> {
    Identity {
        uuid,
        event: b"$pageview",
        distinct_id: b"01890a5d-ac96-774b-bcce-000000000001",
    }
}

/// A quotient with one decimal, rounded up.
fn tenths(bytes: u64, ids: u64) -> String {
    let tenths = (bytes * 10).div_ceil(ids.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

struct State {
    dedup: Dedup,
    /// Ids below this were entered.
    next: u64,
    position: Position,
    keys: Vec<Option<DedupKey>>,
    probed: Probed,
    _folder: TempDir,
}

impl State {
    fn open(memory_bytes: u64) -> Self {
        let folder = scratch();
        let options = DedupOptions {
            window: Duration::from_hours(24),
            memory_bytes,
            disk_bytes: 64 << 30,
        };
        let directory = folder.path().join("dedup");
        let filesystem = RealFilesystem::shared();
        let (dedup, _) = Dedup::open(filesystem, &directory, options, RunningTime::default())
            .expect("an empty folder opens");
        Self {
            dedup,
            next: 0,
            position: Position::ZERO,
            keys: Vec::new(),
            probed: Probed::default(),
            _folder: folder,
        }
    }

    /// One request of ids from `first` on. Returns how many were seen before.
    fn request(&mut self, hasher: &KeyHasher, first: u64) -> usize {
        self.keys.clear();
        let uuids: Vec<_> = (first..first + BATCH).map(uuid).collect();
        hasher.append_keys(
            penstock_bench::TOKEN.as_bytes(),
            uuids.iter().map(|uuid| Some(identity(uuid))),
            &mut self.keys,
        );
        self.position = self.position.next();
        self.dedup
            .runs()
            .probe(&self.keys, &mut self.probed)
            .expect("its runs can be read");
        let entered = self
            .dedup
            .insert_all(&self.keys, &mut self.probed, self.position);
        assert!(entered, "nothing is spilled meanwhile");
        self.probed.seen().iter().filter(|seen| **seen).count()
    }

    fn fill(&mut self, ids: u64, mut between: impl FnMut(&mut Self)) {
        let hasher = self.dedup.hasher();
        while self.next < ids {
            assert_eq!(self.request(&hasher, self.next), 0, "no id comes twice");
            self.next += BATCH;
            between(self);
        }
    }

    /// Times requests of ids that are new, or were all entered long ago.
    fn time(&mut self, new: bool, iterations: u64) -> Duration {
        let clock = SystemClock::new();
        let hasher = self.dedup.hasher();
        let mut elapsed = Duration::ZERO;
        let mut left = iterations;
        let mut old = 0;
        while left > 0 {
            let requests = left.min(REQUESTS);
            left -= requests;
            let before = self.position;
            let mut seen = 0;
            let began = clock.monotonic_nanos();
            for request in 0..requests {
                let first = if new {
                    self.next + request * BATCH
                } else {
                    // Spread over all of them: none is in a cache by chance.
                    old = (old + 7_919 * BATCH) % (self.next - BATCH);
                    old
                };
                seen += black_box(self.request(&hasher, first));
            }
            elapsed += Duration::from_nanos(clock.monotonic_nanos() - began);
            let expected = if new { 0 } else { requests * BATCH };
            assert_eq!(
                seen as u64, expected,
                "each id was seen before, or none was"
            );
            self.dedup.truncate_after(before);
        }
        elapsed
    }

    fn bench(&mut self, criterion: &mut Criterion, name: &str, ids: u64) {
        let mut group = criterion.benchmark_group("dedup");
        group.sample_size(20);
        group.throughput(Throughput::Elements(BATCH));
        for (kind, new) in [("new", true), ("repeated", false)] {
            let label = BenchmarkId::new(format!("{kind}, ids {name}"), ids);
            group.bench_function(label, |bencher| {
                bencher.iter_custom(|iterations| self.time(new, iterations));
            });
        }
        group.finish();
    }
}

fn in_memory(criterion: &mut Criterion) {
    let ids = count("PENSTOCK_BENCH_IDS_IN_MEMORY");
    // Half is for generations, of which the last takes what is timed, and two copies.
    let slots = MAX_GENERATIONS as u64 + 2;
    let memory_bytes = 2 * slots * (ids / (MAX_GENERATIONS as u64 - 1)) * 48;
    let mut state = State::open(memory_bytes);
    state.fill(ids, |_| {});
    // As in service: what is in the log for a while is in an id log.
    let up_to = state.position;
    let mut job = state.dedup.begin_persist(up_to);
    while state.dedup.collect(&mut job) {}
    state
        .dedup
        .finish_persist(job.run())
        .expect("the disk takes it");
    let stats = state.dedup.stats();
    assert_eq!(
        (stats.ids_in_memory, stats.ids_dropped_early),
        (state.next, 0)
    );
    crate::note(&format!(
        "dedup: {} bytes of memory an id in a full generation",
        tenths(stats.generation_bytes, stats.generation_capacity)
    ));
    state.bench(criterion, "in memory", ids);
}

fn on_disk(criterion: &mut Criterion) {
    let ids = count("PENSTOCK_BENCH_IDS_ON_DISK");
    // What filters and fences of so many take, a merge beside them, and the default's generations.
    let memory_bytes = ids * 4 + (96 << 20);
    let mut state = State::open(memory_bytes);
    state.fill(ids, |state| {
        if state.dedup.needs_maintenance() {
            let durable = state.position;
            state
                .dedup
                .maintain_now(durable)
                .expect("the disk takes it");
        }
    });
    let stats = state.dedup.stats();
    assert_eq!(stats.ids_in_memory + stats.ids_on_disk, state.next);
    crate::note(&format!(
        "dedup: {} bytes of memory an id on disk, {} runs",
        tenths(stats.run_bytes, stats.ids_on_disk),
        stats.runs
    ));
    state.bench(criterion, "on disk", ids);
}

pub(crate) fn benches(criterion: &mut Criterion) {
    in_memory(criterion);
    on_disk(criterion);
}
