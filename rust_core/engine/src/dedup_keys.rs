//! Which events deduplication looks at, and by what.
//!
//! The same for a request and for its record when it is read again: else a repeat of what was
//! answered would be stored twice after a restart (DUP-1).

use penstock_dedup::{DedupKey, KeyHasher};
use penstock_model::{Batch, Outcome};

/// The key of each event, in order; `None` for one that is not accepted, or came without an id and
/// so is no repeat of anything. Cost: a hash for each event.
pub(crate) fn dedup_keys(
    batch: &Batch,
    hasher: &KeyHasher,
) -> impl Iterator<Item = Option<DedupKey>> {
    let mut hasher = hasher.for_token(batch.text_bytes(batch.token));
    batch.events.iter().map(move |event| {
        let looked_at = event.outcome == Outcome::Accepted && event.uuid_given;
        looked_at.then(|| {
            hasher.key(
                &event.uuid.0,
                batch.text_bytes(event.event),
                batch.dedup_distinct_id(event),
            )
        })
    })
}
