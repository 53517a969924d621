//! A simulator of the whole engine: foreground, log, segments, deduplication, release, and a model
//! of the tables' commit, on one faulty disk, with a clock that is moved by hand and one thread
//! that takes the turns of all.
//!
//! A *world* is a sequence of random turns under one seed: requests come, threads take a turn,
//! operations of the disk fail, the disk is full, the wall clock jumps, another process asks for all
//! rows, the power is cut, processes begin anew. Before *every* operation that changes or syncs
//! anything the disk is copied, also while a process comes up; each copy meets one to three
//! *crashes* (a kill; a power cut that loses what was not synced; one that keeps a random part of
//! it), a new process opens it, clients send again what was not answered, everything is drained, and
//! the tables are held against what clients were told: ACK-1 and TAB-1 (stored once if answered, at
//! most once if not), DUP-1 and DUP-3, WAL-1 and WAL-2 (whatever was left, nothing is reported as
//! damaged), TAB-2 and TAB-3 (every named file reads back whole; nothing left the log too early).
//! A quarter of the processes that come up crash as well. Some copies rot (`rot`).
//!
//! `histories` are single sequences that are worth a name, without chance.
//!
//! A failure names its seed; `PENSTOCK_SIMULATION_SEED=<seed>` runs that world alone, and
//! `PENSTOCK_SIMULATION_CRASH_POINTS=<n>` as many worlds as take that many crashes
//! (`make test-durability N=<n>`), `PENSTOCK_SIMULATION_FIRST_SEED=<seed>` from there on: a long run can
//! be made in parts. Ids that are drawn from the system (lanes, generations) differ
//! between runs of a seed; what happens does not depend on them.

mod counts;
mod histories;
mod ledger;
mod machine;
mod model;
mod note;
mod probe;
mod quarantine;
mod query;
mod request;
mod rot;
mod table;
mod table_log;
mod world;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use penstock_model::{Clock as _, SystemClock};

use counts::Counts;
use world::World;

/// As in the extension. Opening and draining a copy of a disk is mostly small pieces of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Crashes of an ordinary test run.
const CRASH_POINTS: u64 = 100_000;

/// After so many broken worlds, others would hardly tell more.
const MAX_BROKEN: usize = 5;

/// Crashes after which a long run says that it goes on.
const PROGRESS: u64 = 1_000_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A line that is seen although the test's output is captured.
fn say(line: &str) {
    // Where nobody listens, the result has to do.
    drop(std::io::stderr().write_all(format!("{line}\n").as_bytes()));
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_in_any_world() {
    let only = setting("PENSTOCK_SIMULATION_SEED");
    let first = only.or_else(|| setting("PENSTOCK_SIMULATION_FIRST_SEED"));
    let first = first.unwrap_or(0);
    let wanted = setting("PENSTOCK_SIMULATION_CRASH_POINTS").unwrap_or(CRASH_POINTS);
    let (wanted, enough_broken) = only.map_or((wanted, MAX_BROKEN), |_| (1, 1));
    let next = AtomicU64::new(first);
    let total = Mutex::new(Counts::default());
    let broken = Mutex::new(Vec::new());
    let clock = SystemClock::new();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if only.is_some() { 1 } else { threads };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while total.lock().crash_points < wanted && broken.lock().len() < enough_broken {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let ended = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
                    let Ok(mut counts) = ended else {
                        broken.lock().push(seed);
                        say(&format!(
                            "world {seed} is broken; PENSTOCK_SIMULATION_SEED={seed} \
                             cargo test -p penstock-engine simulation runs it alone"
                        ));
                        continue;
                    };
                    counts.worlds = 1;
                    let mut total = total.lock();
                    let before = total.crash_points / PROGRESS;
                    *total += counts;
                    if total.crash_points / PROGRESS > before {
                        say(&format!(
                            "simulation: {} crash points so far, up to seed {seed}",
                            total.crash_points
                        ));
                    }
                }
            });
        }
    });
    let counts = *total.lock();
    say(&format!(
        "simulation: {} crash points and {} rotten disks in {} worlds (seeds from {first}; \
         in {} ids came to the disk, in {} files of them were merged), \
         {} operations of the disk, {} events acknowledged, {} s",
        counts.crash_points,
        counts.rotten_disks,
        counts.worlds,
        counts.worlds_with_runs,
        counts.worlds_with_merged_runs,
        counts.operations,
        counts.acknowledged_events,
        clock.monotonic_nanos() / 1_000_000_000,
    ));
    let broken = broken.into_inner();
    assert!(broken.is_empty(), "broken worlds: {broken:?}");
    // A simulation in which nothing happens would pass as well.
    assert!(counts.operations >= 30 * counts.worlds, "{counts:?}");
    assert!(
        counts.acknowledged_events >= 3 * counts.worlds,
        "{counts:?}"
    );
    assert!(
        counts.worlds < 100 || counts.worlds_with_merged_runs > 0,
        "{counts:?}"
    );
}
