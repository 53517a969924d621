//! Which events deduplication looks at, and by what.
//!
//! The same for a request and for its record when it is read again: else a repeat of what was
//! answered would be stored twice after a restart (DUP-1).

use penstock_dedup::{DedupKey, Identity, KeyHasher};
use penstock_model::{Batch, Outcome};

/// Appends the key of each event, in order; `None` for one that is not accepted, or came without an
/// id and so is no repeat of anything. Cost: a hash for each event.
pub(crate) fn append_dedup_keys(
    batch: &Batch,
    hasher: &KeyHasher,
    keys: &mut Vec<Option<DedupKey>>,
) {
    let identities = batch.events.iter().map(|event| {
        let looked_at = event.outcome == Outcome::Accepted && event.uuid_given;
        looked_at.then(|| Identity {
            uuid: &event.uuid.0,
            event: batch.text_bytes(event.event),
            distinct_id: batch.dedup_distinct_id(event),
        })
    });
    hasher.append_keys(batch.text_bytes(batch.token), identities, keys);
}
