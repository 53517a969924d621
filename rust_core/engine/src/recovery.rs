//! What an opening finds in the log: reported, and entered into the deduplication window.

use std::sync::Arc;

use penstock_decode::Workspace;
use penstock_model::{Outcome, Payload, Position};
use penstock_wal::{Log, LogItem, Recovery};

use crate::error::EngineError;
use crate::journal::{Journal, LogLevel};
use crate::replay::replay;
use crate::shared::{PendingRecord, Shared};

/// Enters the ids of all whole records into the window, answered or not (DUP-1), and counts their
/// tokens. Returns the first position that the background looks at.
///
/// Cost: the log is read and decoded once, about a second a gigabyte.
pub(crate) fn recover<T: Send + 'static>(
    shared: &Arc<Shared<T>>,
    log: &Arc<Log<PendingRecord<T>>>,
) -> Result<Position, EngineError> {
    let Some(first) = log.lanes().first().map(|span| span.first) else {
        return Ok(log.next_position());
    };
    let mut sequencer = shared.sequencer.lock();
    let hasher = sequencer.dedup.as_ref().map(penstock_dedup::Dedup::hasher);
    let mut workspace = Workspace::default();
    let mut reader = log.reader(first);
    let mut records = 0_u64;
    loop {
        let record = match reader.next_item() {
            Ok(Some(LogItem::Record(record))) => record,
            Ok(Some(LogItem::Gap(_))) => continue,
            Ok(None) => break,
            // Ids behind it would be missing from the window, and a retry be stored twice (DUP-1).
            Err(error) => return Err(EngineError::log(&error)),
        };
        records += 1;
        let payload = Payload::new(record.payload);
        let batch = match replay(&record.context, &payload, &mut workspace) {
            Ok((_, batch)) => batch,
            Err(error) if error.leaves_record_whole() => {
                return Err(EngineError::OtherRelease {
                    position: record.position,
                    reason: error.to_string(),
                });
            }
            // It goes to quarantine when the background reaches it.
            Err(_) => continue,
        };
        shared.projects.seen(batch.token());
        if let (Some(dedup), Some(hasher)) = (&mut sequencer.dedup, &hasher) {
            for event in &batch.events {
                let counts = event.uuid_given && matches!(event.outcome, Outcome::Accepted);
                if counts {
                    let key = hasher.key(
                        batch.text_bytes(batch.token),
                        &event.uuid.0,
                        batch.text_bytes(event.event),
                        batch.text_bytes(event.distinct_id),
                    );
                    dedup.insert(key, record.position);
                }
            }
            if dedup.needs_maintenance()
                && let Err(error) = dedup.maintain_now(log.durable_position())
            {
                shared.journal.add(
                    LogLevel::Warning,
                    "dedup_maintenance_failed",
                    vec![("error", error.to_string())],
                );
            }
        }
    }
    drop(sequencer);
    if records > 0 {
        shared.journal.add(
            LogLevel::Info,
            "log_recovered",
            vec![
                ("records", records.to_string()),
                ("first_position", first.to_string()),
                ("last_position", log.durable_position().to_string()),
            ],
        );
        shared.backlog.add([], shared.clock.monotonic_nanos());
    }
    Ok(first)
}

/// Says what recovery found, by the damage that it did not hide (WAL-2).
pub(crate) fn report(journal: &Journal, recovery: &Recovery) {
    if let Some(tail) = &recovery.torn_tail {
        journal.add(
            LogLevel::Warning,
            "log_tail_cut",
            vec![
                ("file", tail.file.clone()),
                ("cut_bytes", tail.cut_bytes.to_string()),
            ],
        );
    }
    for damage in &recovery.damage {
        journal.add(
            LogLevel::Error,
            "log_damaged",
            vec![
                ("file", damage.file.clone()),
                ("first_byte", damage.first_byte.to_string()),
                ("last_byte", damage.last_byte.to_string()),
                ("first_position", damage.first_position.to_string()),
                ("last_position", damage.last_position.to_string()),
            ],
        );
    }
}
