//! The one place where the order of records is fixed: deduplication and append under one lock.
//!
//! An id is entered under the position that its record is about to get, so a repeat always stands
//! behind its original in the log. A commit group that fails takes everything behind it along, so
//! a repeat can't be answered before its original is safe, nor survive it (DUP-3).

use penstock_dedup::{Dedup, DedupKey, Probed};
use penstock_model::{Batch, Outcome, Position};

pub(crate) struct Sequencer {
    /// None: deduplication is off.
    pub(crate) dedup: Option<Dedup>,
}

impl Sequencer {
    /// Marks events that were seen before. `keys` has one entry an event; `None` is never a
    /// duplicate (refused, or without an id of the client's). They were looked up on disk before,
    /// without the lock; on false that has to be done once more, and nothing was entered.
    #[must_use]
    pub(crate) fn mark_duplicates(
        &mut self,
        batch: &mut Batch,
        keys: &[Option<DedupKey>],
        probed: &mut Probed,
        position: Position,
    ) -> bool {
        let Some(dedup) = &mut self.dedup else {
            return true;
        };
        if !dedup.insert_all(keys, probed, position) {
            return false;
        }
        for (event, seen) in batch.events.iter_mut().zip(probed.seen()) {
            if *seen {
                event.outcome = Outcome::Duplicate;
            }
        }
        true
    }

    /// Forgets the ids of records that never became durable, before anyone is answered.
    pub(crate) fn forget_after(&mut self, last_good: Position) {
        if let Some(dedup) = &mut self.dedup {
            dedup.truncate_after(last_good);
        }
    }
}
