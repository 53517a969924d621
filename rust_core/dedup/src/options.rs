//! Settings, time and numbers.

use std::time::Duration;

/// Most generations in memory: one that takes ids and three that wait for their spill. A lookup
/// probes each; a spill takes about as long as sorting one, so three give it ample time.
pub const MAX_GENERATIONS: usize = 4;

/// Most runs: bounds the filters that a lookup probes. Merging keeps the number near 20.
pub(crate) const MAX_RUNS: usize = 128;

/// The window is divided in this many parts; a generation is frozen once it spans one, so that
/// ids leave on time on an idle server too.
pub(crate) const WINDOW_PARTS: u64 = 8;

/// Runs merged at once, and the ratio of sizes between tiers.
pub(crate) const MERGE_FAN_IN: usize = 4;

/// Checks in a row after which a run that the disk does not give back is set aside. Until then lookups
/// that need it are refused; at four checks a second that is ten seconds, so that a disk which comes
/// back has made no doubles, and one that doesn't is not refused for ever.
pub(crate) const MAX_FAILED_CHECKS: u32 = 40;

/// Damaged runs kept for a look; older ones are removed.
pub(crate) const MAX_DAMAGED_FILES: usize = 4;

/// Monotonic running time of the process in milliseconds. The wall clock is never used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunningTime(u64);

impl RunningTime {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos / 1_000_000)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// Window and budgets.
#[derive(Clone, Debug)]
pub struct DedupOptions {
    /// How long an id is remembered at least, while the budgets last. It may be remembered up to
    /// 3/8 longer, since ids leave in whole runs.
    pub window: Duration,
    /// Generations and the copies that jobs make take at most half; filters and fences the rest.
    /// An id in memory costs 20 bytes, and 4 more until it is in an id log; one on disk 1.6 bytes.
    /// The default of 96 MiB holds 0.9 million in memory and 36 million on disk.
    pub memory_bytes: u64,
    /// Runs and id logs together.
    pub disk_bytes: u64,
}

impl DedupOptions {
    pub(crate) fn window_millis(&self) -> u64 {
        u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A look at the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DedupStats {
    pub ids_in_memory: u64,
    /// Generations at full size, filters, fences and what running jobs have set aside.
    pub memory_bytes: u64,
    /// Of these, generations as they are now, and how many ids they hold at most.
    pub generation_bytes: u64,
    pub generation_capacity: u64,
    /// Filters and fences.
    pub run_bytes: u64,
    pub ids_on_disk: u64,
    /// Runs and id logs.
    pub disk_bytes: u64,
    pub runs: u64,
    pub generations: u64,
    /// By how much budgets have the window shortened now; goes back as time passes.
    pub window_shortened_ms: u64,
    /// Ids forgotten before their time, for the budgets.
    pub ids_dropped_early: u64,
    /// Of these, ids that never came to a run, since spilling didn't keep up.
    pub ids_dropped_unspilled: u64,
    /// Runs set aside since they could not be read.
    pub damaged_runs: u64,
    /// True if the next generation to fill forces one out: spilling doesn't keep up.
    pub full: bool,
}
