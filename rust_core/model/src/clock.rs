//! Time, passed in. The only module that reads a clock.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wall clock, a monotonic clock and a way to wait.
pub trait Clock: Send + Sync + Debug {
    /// Microseconds since the Unix epoch by the wall clock. May jump; orders and expires nothing.
    fn unix_micros(&self) -> i64;

    /// Nanoseconds since some fixed instant of this process. Never goes back.
    fn monotonic_nanos(&self) -> u64;

    /// Waits on the calling thread.
    fn sleep(&self, duration: Duration);
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others are given"
    )]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others are given"
    )]
    fn unix_micros(&self) -> i64 {
        // A clock before 1970 reads as 1970 and one beyond year 294,000 as that year: both are
        // misconfigurations that must not stop ingestion.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
            })
    }

    fn monotonic_nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others are given"
    )]
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that stands still until it is moved; sleeping moves it.
#[derive(Debug, Default)]
pub struct ManualClock {
    unix_micros: AtomicI64,
    monotonic_nanos: AtomicU64,
}

impl ManualClock {
    /// Stands at the given wall-clock time, and at zero of the monotonic clock.
    pub fn at(unix_micros: i64) -> Self {
        Self {
            unix_micros: AtomicI64::new(unix_micros),
            monotonic_nanos: AtomicU64::new(0),
        }
    }

    /// Moves both clocks on.
    pub fn advance(&self, duration: Duration) {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.unix_micros.fetch_add(micros, Ordering::SeqCst);
        self.monotonic_nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or NTP does.
    pub fn set_wall(&self, unix_micros: i64) {
        self.unix_micros.store(unix_micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_micros(&self) -> i64 {
        self.unix_micros.load(Ordering::SeqCst)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.monotonic_nanos.load(Ordering::SeqCst)
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}
