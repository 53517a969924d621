//! What an opening finds in the log: reported, and entered into the deduplication window.
//!
//! Files whose seal says that their ids are in `dedup/` (`sealing.rs`) are not read here: their
//! records are read once, by the background, which counts their tokens then.

use std::sync::Arc;

use penstock_decode::Workspace;
use penstock_dedup::{Dedup, DedupKey, KeyHasher, OpenReport};
use penstock_model::{Payload, Position};
use penstock_wal::{Damage, Log, LogError, LogItem, LogReader, ReadRecord, Recovery};

use crate::dedup_keys::append_dedup_keys;
use crate::error::EngineError;
use crate::journal::{Journal, LogLevel};
use crate::reading::decode_in_order;
use crate::replay::replay;
use crate::sealing;
use crate::shared::{PendingRecord, Shared};

/// Less than this is decoded before other threads would have begun.
const ALONE_BYTES: u64 = 8 << 20;

/// Threads that decode: the one that reads gives no more of them work.
const MAX_THREADS: usize = 4;

/// Whether all that was ever written to `dedup/` could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredIds {
    Whole,
    /// Then no seal is believed that vouches for ids.
    Damaged,
}

/// Enters the ids of all whole records into the window, answered or not (DUP-1), as far as they
/// were not stored before, and counts their tokens. Returns the first position that the background
/// looks at.
///
/// Cost: what has no seal is read and decoded once, on all cores.
pub(crate) fn recover<T: Send + 'static>(
    shared: &Arc<Shared<T>>,
    log: &Arc<Log<PendingRecord<T>>>,
    found: &Recovery,
    ids: StoredIds,
) -> Result<Position, EngineError> {
    let Some(first) = log.lanes().first().map(|span| span.first) else {
        return Ok(log.next_position());
    };
    let failed = |error: LogError| EngineError::log(&error);
    let unread = {
        let mut sequencer = shared.sequencer.lock();
        let tag = sealing::tag(sequencer.dedup.as_ref());
        if ids == StoredIds::Damaged {
            // Before anything tidies the damage away: the opening after this one would find none,
            // and believe seals whose ids are in memory only now.
            log.break_seals().map_err(failed)?;
            if let Some(dedup) = &mut sequencer.dedup {
                dedup
                    .cut_torn_logs()
                    .map_err(|error| EngineError::dedup(&error))?;
            }
        }
        log.spans_without(Some(&tag))
    };
    let (_, unread_bytes) = unread
        .first()
        .map_or((0, 0), |(before, _)| log.backlog(*before));
    let threads = if unread_bytes < ALONE_BYTES {
        None
    } else {
        std::thread::available_parallelism().ok()
    };
    let hasher = shared.sequencer.lock().dedup.as_ref().map(Dedup::hasher);
    let source = Unread::new(log, unread);
    let decoder = || Decoder {
        hasher: hasher.clone(),
        workspace: Workspace::default(),
    };
    let enter = |ids: Option<Ids>| ids.map_or(Ok(()), |ids| enter(shared, log, &ids));
    let records_read = match threads {
        None => {
            let mut decoder = decoder();
            let mut records = 0_u64;
            for record in source {
                records += 1;
                enter(decoder.decode(record?)?)?;
            }
            records
        }
        Some(threads) => decode_in_order(
            source,
            threads.get().min(MAX_THREADS),
            || {
                let mut decoder = decoder();
                move |record| decoder.decode(record)
            },
            enter,
        )?,
    };
    shared.journal.add(
        LogLevel::Info,
        "log_recovered",
        vec![
            ("records", found.records.to_string()),
            ("records_read", records_read.to_string()),
            ("files_sealed", found.sealed_files.to_string()),
            ("bytes_read", found.read_bytes.to_string()),
            ("first_position", first.to_string()),
            ("last_position", log.durable_position().to_string()),
        ],
    );
    shared.backlog.add([], shared.clock.monotonic_nanos());
    Ok(first)
}

/// The records that no seal vouches for, in log order.
struct Unread<'a, T: Send + 'static> {
    log: &'a Log<PendingRecord<T>>,
    spans: std::vec::IntoIter<(Position, Position)>,
    open: Option<(LogReader, Position)>,
}

impl<'a, T: Send + 'static> Unread<'a, T> {
    fn new(log: &'a Log<PendingRecord<T>>, spans: Vec<(Position, Position)>) -> Self {
        Self {
            log,
            spans: spans.into_iter(),
            open: None,
        }
    }
}

impl<T: Send + 'static> Iterator for Unread<'_, T> {
    type Item = Result<ReadRecord, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (reader, last) = match &mut self.open {
                Some(open) => open,
                none => {
                    let (before, last) = self.spans.next()?;
                    none.insert((self.log.reader(before.next()), last))
                }
            };
            let item = reader.next_item();
            // What can't be read was kept aside and reported when the log was opened.
            drop(reader.take_damage());
            match item {
                Ok(Some(LogItem::Record(record))) if record.position <= *last => {
                    return Some(Ok(record));
                }
                Ok(Some(LogItem::Gap(gap))) if gap.last < *last => {}
                Ok(_) => self.open = None,
                // Ids behind it would be missing from the window, and a retry be stored twice (DUP-1).
                Err(error) => return Some(Err(EngineError::log(&error))),
            }
        }
    }
}

/// What a record leaves in the window.
struct Ids {
    position: Position,
    token: String,
    keys: Vec<Option<DedupKey>>,
}

struct Decoder {
    hasher: Option<KeyHasher>,
    workspace: Workspace,
}

impl Decoder {
    /// Decodes a record; `None` if it can't be, and goes to quarantine when the background reaches it.
    fn decode(&mut self, record: ReadRecord) -> Result<Option<Ids>, EngineError> {
        let payload = Payload::new(record.payload);
        let batch = match replay(&record.context, &payload, &mut self.workspace) {
            Ok((_, batch)) => batch,
            Err(error) if error.leaves_record_whole() => {
                return Err(EngineError::OtherRelease {
                    position: record.position,
                    reason: error.to_string(),
                });
            }
            Err(_) => return Ok(None),
        };
        let mut ids = Ids {
            position: record.position,
            token: batch.token().to_owned(),
            keys: Vec::new(),
        };
        if let Some(hasher) = &self.hasher {
            append_dedup_keys(&batch, hasher, &mut ids.keys);
        }
        Ok(Some(ids))
    }
}

/// Errors: a run of ids can't be read, so that nobody can say which of these are new; the start is
/// tried again.
fn enter<T: Send + 'static>(
    shared: &Shared<T>,
    log: &Log<PendingRecord<T>>,
    ids: &Ids,
) -> Result<(), EngineError> {
    shared.projects.seen(&ids.token);
    // Nobody else is there yet who could wait for the lock.
    let mut sequencer = shared.sequencer.lock();
    let Some(dedup) = &mut sequencer.dedup else {
        return Ok(());
    };
    for key in ids.keys.iter().flatten() {
        dedup
            .insert(*key, ids.position)
            .map_err(|error| EngineError::dedup(&error))?;
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
    Ok(())
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
        report_damage(journal, damage);
    }
}

/// Says of bytes that they can't be read (WAL-2).
pub(crate) fn report_damage(journal: &Journal, damage: &Damage) {
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

/// Says which ids of the window can't be read: repeats of theirs will be stored (DUP-1).
pub(crate) fn report_dedup(journal: &Journal, report: &OpenReport) {
    for file in &report.damaged_runs {
        let fields = vec![("file", file.clone())];
        journal.add(LogLevel::Error, "dedup_damaged", fields);
    }
    for damage in &report.damaged_logs {
        journal.add(
            LogLevel::Error,
            "dedup_damaged",
            vec![
                ("file", damage.file.clone()),
                ("first_byte", damage.first_byte.to_string()),
                ("last_byte", damage.last_byte.to_string()),
            ],
        );
    }
    if report.torn_bytes > 0 {
        // Its ids come from the log again, unless they were synced once and have rotted since.
        let fields = vec![("cut_bytes", report.torn_bytes.to_string())];
        journal.add(LogLevel::Warning, "dedup_tail_cut", fields);
    }
}
