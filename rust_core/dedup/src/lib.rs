//! Which event ids were seen in the window (DUP-1).
//!
//! An id is a 128-bit keyed hash ([`DedupKey`]). The newest ids are in *generations* in memory: at
//! most [`MAX_GENERATIONS`], each of a fixed size with a table made at full size, because growing
//! one large table under the engine's lock would stall everyone for tens of milliseconds. A full
//! generation is frozen and spilled to a sorted *run* on disk; runs are merged and dropped whole
//! once their newest id has left the window. Between a spill and the next, an *id log* keeps the
//! ids of records whose WAL file goes (DUP-2).
//!
//! The caller holds a lock around a [`Dedup`]; no call that serves a request does I/O under it. Ids
//! are looked up on disk by [`Runs::probe`] before, and then entered by [`Dedup::insert_all`]. Other
//! work is split into `begin_…`, `run` and `finish_…`, of which `run` is called without the lock.
//! Spills and merges are jobs of their own and may run at the same time, so that a generation that
//! is full never waits for a long merge. Only calls for opening and recovery do their I/O at once.
//!
//! Budgets are kept by forgetting the oldest ids early, never by growing; [`DedupStats`] says by
//! how much the window is shortened (LIM-2).

mod dedup;
mod error;
mod filter;
mod generation;
mod id_log;
mod key;
mod maintenance;
mod names;
mod open;
mod options;
mod pack;
mod persist;
mod prefetch;
mod probe;
mod run;
mod run_writer;
mod secret;
mod sip;
#[cfg(target_arch = "x86_64")]
mod sip_avx2;
mod summary;

#[cfg(test)]
mod tests;

pub use dedup::{Dedup, Seen};
pub use error::DedupError;
pub use key::{DedupKey, Identity, KeyHasher};
pub use maintenance::{MaintenanceDone, MaintenanceJob};
pub use open::{DamagedIds, OpenReport};
pub use options::{DedupOptions, DedupStats, MAX_GENERATIONS, RunningTime};
pub use persist::{PersistDone, PersistJob};
pub use probe::{Probed, Runs};
