//! A simulator of the whole engine: foreground, log, segments, deduplication, release, and a model
//! of the tables' commit, on one faulty disk, with a clock that is moved by hand and one thread
//! that takes the turns of all.
//!
//! A *world* is a sequence of random turns under one seed: requests come, threads take a turn,
//! operations of the disk fail, the power is cut before any of them, processes begin anew. In the
//! end everything is drained and the tables are held against a plain model of what clients were
//! told: ACK-1 and TAB-1 (stored once if answered, at most once if not), DUP-1 and DUP-3 (clients
//! send again what was not answered), WAL-1 and WAL-2 (whatever was left, nothing is reported as
//! damaged), TAB-2 and TAB-3 (every named file reads back whole; nothing left the log too early).
//!
//! A failure names its seed; `PENSTOCK_SIMULATION_SEED=<seed>` runs that world alone, and
//! `PENSTOCK_SIMULATION_WORLDS=<n>` as many as wanted. Ids that are drawn from the system (lanes,
//! generations) differ between runs of a seed; what happens does not depend on them.

mod model;
mod table;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// Worlds of an ordinary test run: some 20 s on two cores.
const WORLDS: u64 = 300;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_in_any_world() {
    let (first, worlds) = match setting("PENSTOCK_SIMULATION_SEED") {
        Some(seed) => (seed, 1),
        None => (0, setting("PENSTOCK_SIMULATION_WORLDS").unwrap_or(WORLDS)),
    };
    let next = AtomicU64::new(first);
    let crashes = AtomicU64::new(0);
    let acknowledged = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + worlds {
                        return;
                    }
                    let ended = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
                    let Ok(outcome) = ended else {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                        panic!("the world of PENSTOCK_SIMULATION_SEED={seed} is broken");
                    };
                    crashes.fetch_add(outcome.crashes, Ordering::Relaxed);
                    acknowledged.fetch_add(outcome.acknowledged_events, Ordering::Relaxed);
                }
            });
        }
    });
    // A simulation in which nothing happens would pass as well.
    let (crashes, acknowledged) = (crashes.into_inner(), acknowledged.into_inner());
    assert!(
        crashes >= 10 * worlds,
        "{crashes} crashes in {worlds} worlds"
    );
    assert!(
        acknowledged >= 10 * worlds,
        "{acknowledged} events acknowledged"
    );
}
