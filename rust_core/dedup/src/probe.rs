//! Lookups in runs, which read the disk, outside of the caller's lock.
//!
//! A run never changes, so a lookup needs only the set of runs as it was at some time. What can be
//! missed so is an id whose generation became a run between the lookup and the insert: it was not
//! in the runs then and is no longer in a generation. So a lookup remembers up to which generation
//! its runs reached, and an insert refuses one that doesn't reach far enough; then only the runs
//! that were added since are looked at. That happens once for each generation that fills.
//!
//! Where a run can't be read, a lookup fails and its request is refused, to come again: a repeat that
//! is taken for new would be stored twice (DUP-1). Maintenance checks the run and, if it is damaged,
//! sets it aside, so that this ends.
//!
//! A run that leaves meanwhile makes no difference: its ids were in the window when they were looked
//! up. Nor does a merge, which adds no id.

use std::sync::{Arc, PoisonError, RwLock};

use crate::error::DedupError;
use crate::key::DedupKey;
use crate::run::Run;

/// The runs at one time. Keeps their filters and open files.
#[derive(Debug, Default)]
struct RunSet {
    runs: Vec<Arc<Run>>,
    /// Generations numbered below this are in `runs`, or were given up.
    covers: u64,
}

/// The runs of a [`crate::Dedup`], for lookups without its lock. Cheap to clone; always current.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    current: Arc<RwLock<Arc<RunSet>>>,
}

/// What a lookup in the runs found, by key; for [`crate::Dedup::insert_all`]. Reusable.
#[derive(Debug, Default)]
pub struct Probed {
    pub(crate) seen: Vec<bool>,
    pub(crate) covers: u64,
}

impl Probed {
    /// For each key, whether it was seen before. The whole truth only behind a
    /// [`crate::Dedup::insert_all`] that returned true; `false` for a key that is none.
    pub fn seen(&self) -> &[bool] {
        &self.seen
    }
}

impl Runs {
    pub(crate) fn publish(&self, runs: Vec<Arc<Run>>, covers: u64) {
        let set = Arc::new(RunSet { runs, covers });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = set;
    }

    /// Looks all keys up. To be called without the lock of the [`crate::Dedup`].
    ///
    /// On `Err` a run can't be read now, and nothing may be entered: the same lookup may succeed
    /// later, and does as soon as maintenance has set the run aside.
    /// Cost: a cache line a key and run, and a read of one block where a filter lets a key through.
    pub fn probe(&self, keys: &[Option<DedupKey>], probed: &mut Probed) -> Result<(), DedupError> {
        probed.seen.clear();
        probed.seen.resize(keys.len(), false);
        probed.covers = 0;
        self.probe_again(keys, probed)
    }

    /// Looks the keys up in the runs that were added since; after [`crate::Dedup::insert_all`]
    /// returned false. Errors: as [`Self::probe`].
    pub fn probe_again(
        &self,
        keys: &[Option<DedupKey>],
        probed: &mut Probed,
    ) -> Result<(), DedupError> {
        assert_eq!(keys.len(), probed.seen.len(), "probed with the same keys");
        let set = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        // Newest first: most repeats come soon.
        for run in set.runs.iter().rev() {
            if run.last < probed.covers {
                continue;
            }
            // A filter is larger than the caches: run by run, its lines for all keys come at once.
            run.filter
                .warm(keys.iter().flatten().map(|key| key.number()));
            for (key, seen) in keys.iter().zip(&mut probed.seen) {
                if let (Some(key), false) = (key, *seen) {
                    *seen = run.contains(key.number())?;
                }
            }
        }
        probed.covers = set.covers;
        Ok(())
    }
}
