//! What the engine's threads share, and the log's sink: from a synced group to answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use penstock_decode::{protobuf, v1};
use penstock_model::{AckLevel, Batch, Clock, Code, Payload, Position, Refusal, RequestContext};
use penstock_wal::{GroupSink, LogError, LogRecord, PayloadChecksum};

use crate::admission::{Admission, Reservation};
use crate::answer::{Completion, SubmitSummary};
use crate::backlog::{Backlog, CachedRecord};
use crate::completion::{CompletionQueue, Finished};
use crate::error::EngineError;
use crate::journal::{Journal, LogLevel};
use crate::ledger::{Counts, Ledger};
use crate::metrics::Metrics;
use crate::options::EngineOptions;
use crate::projects::Projects;
use crate::sequencer::Sequencer;
use crate::visitors::Visitors;

/// A gRPC exception row, owned: it outlives the batch.
#[derive(Debug)]
pub(crate) struct ExceptionRow {
    pub(crate) index: u32,
    pub(crate) outcome: penstock_model::Outcome,
    pub(crate) uuid: String,
}

/// In which form the answer goes back.
#[derive(Debug)]
pub(crate) enum Form {
    Http,
    Append {
        exceptions: Vec<ExceptionRow>,
    },
    /// The whole answer of capture v1: it follows from decoding alone.
    V1 {
        results: Vec<u8>,
    },
}

/// What is owed to a caller once its record reaches its ack level.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) ticket: T,
    pub(crate) summary: SubmitSummary,
    pub(crate) form: Form,
    pub(crate) ack: AckLevel,
}

impl<T> Answer<T> {
    /// The finished request, stored at `position` and safe at the level asked for.
    pub(crate) fn stored(mut self, position: Position) -> Finished<T> {
        self.summary.log_position = position.get();
        let completion = match self.form {
            Form::Http => Completion::Stored(self.summary),
            Form::V1 { results } => Completion::Results {
                text: results,
                retry: None,
            },
            Form::Append { exceptions } => {
                let rows: Vec<protobuf::ExceptionRow<'_>> = exceptions
                    .iter()
                    .map(|row| {
                        let (code, detail) = match row.outcome {
                            penstock_model::Outcome::Rejected(code) => {
                                (code.as_str(), code.public_text())
                            }
                            _ => ("", ""),
                        };
                        protobuf::ExceptionRow {
                            index: row.index,
                            outcome: row.outcome,
                            code,
                            detail,
                            uuid: &row.uuid,
                        }
                    })
                    .collect();
                Completion::Appended(protobuf::encode_append_response(
                    position.get(),
                    self.ack,
                    self.summary.accepted,
                    self.summary.duplicates,
                    &rows,
                ))
            }
        };
        Finished {
            ticket: self.ticket,
            completion,
        }
    }

    /// The finished request that was decided and could not be stored for `code`.
    ///
    /// Where some of its events are refused for good, capture v1 can say so and ask for the others
    /// alone; a request with nothing final in it is refused as a whole, which every proxy and
    /// dashboard on the way understands.
    pub(crate) fn not_persisted(self, batch: &Batch, code: Code) -> Finished<T> {
        let summary = &self.summary;
        let partly = summary.rejected > 0 && summary.accepted + summary.duplicates > 0;
        if !(partly && matches!(self.form, Form::V1 { .. })) {
            return self.refused(Refusal::new(code, ""));
        }
        Finished {
            ticket: self.ticket,
            completion: Completion::Results {
                text: v1::write_results(batch, false),
                retry: Some(code),
            },
        }
    }

    /// The finished request of which nothing was acknowledged.
    pub(crate) fn refused(self, refusal: Refusal) -> Finished<T> {
        Finished {
            ticket: self.ticket,
            completion: Completion::Refused(refusal),
        }
    }
}

/// A decided request on its way through the log.
#[derive(Debug)]
pub(crate) struct PendingRecord<T> {
    pub(crate) context: Vec<u8>,
    pub(crate) payload: Payload,
    pub(crate) payload_checksum: Option<PayloadChecksum>,
    pub(crate) batch: Batch,
    pub(crate) request: RequestContext,
    pub(crate) project: Arc<str>,
    pub(crate) counts: Counts,
    /// None: answered already, at `memory`.
    pub(crate) answer: Option<Answer<T>>,
    /// Kept until the record is synced, also if it was answered before.
    pub(crate) _reservation: Reservation,
}

impl<T: Send + 'static> LogRecord for PendingRecord<T> {
    fn context(&self) -> &[u8] {
        &self.context
    }

    fn payload(&self) -> &[u8] {
        self.payload.as_slice()
    }

    fn payload_checksum(&self) -> Option<PayloadChecksum> {
        self.payload_checksum
    }
}

/// A request on disk whose answer waits for the table.
#[derive(Debug)]
struct TableWaiter<T> {
    position: Position,
    deadline_nanos: u64,
    answer: Answer<T>,
}

/// Requests that wait for the table, and how far the tables are.
#[derive(Debug)]
struct TableWaiters<T> {
    waiters: VecDeque<TableWaiter<T>>,
    reached: Position,
    /// Newest records in quarantine, oldest first: a commit that covers them does not hold them.
    set_aside: VecDeque<Position>,
    /// Nothing reaches the table any more: the engine is being closed.
    closed: bool,
}

impl<T> TableWaiters<T> {
    /// The answer to a request whose position the tables have passed (ACK-1).
    fn settled(&self, position: Position, answer: Answer<T>) -> Finished<T> {
        if self.set_aside.contains(&position) {
            // True of it too: on disk, not yet in the table.
            return answer.refused(Refusal::new(Code::TableTimeout, ""));
        }
        answer.stored(position)
    }
}

/// Records in quarantine that are remembered until requests that wait for them are answered. They
/// wait for one cut; more such records in one are a disaster that the log tells of.
const MAX_SET_ASIDE: usize = 1_000;

/// What the engine's threads share.
pub(crate) struct Shared<T> {
    pub(crate) options: EngineOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) projects: Projects,
    pub(crate) completions: CompletionQueue<T>,
    pub(crate) visitors: Visitors,
    /// Locked for deduplication and append together; never over I/O.
    pub(crate) sequencer: Mutex<Sequencer>,
    /// Held while ids are written: one job at a time. Nobody who serves a request takes it.
    persisting: Mutex<()>,
    pub(crate) backlog: Backlog,
    pub(crate) metrics: Metrics,
    pub(crate) ledger: Ledger,
    pub(crate) journal: Journal,
    table_waiters: Mutex<TableWaiters<T>>,
    /// Position of the last cut that the caller committed.
    committed_up_to: AtomicU64,
    /// The background met a full disk.
    flush_starved: AtomicBool,
}

impl<T: Send + 'static> Shared<T> {
    pub(crate) fn new(
        options: EngineOptions,
        clock: Arc<dyn Clock>,
        sequencer: Sequencer,
        visitors: Visitors,
    ) -> std::io::Result<Self> {
        Ok(Self {
            admission: Arc::new(Admission::new(options.max_in_flight_bytes)),
            projects: Projects::new(&options.projects, options.max_unnamed_projects),
            completions: CompletionQueue::new()?,
            visitors,
            sequencer: Mutex::new(sequencer),
            persisting: Mutex::new(()),
            backlog: Backlog::new(options.batch_cache_bytes),
            metrics: Metrics::default(),
            ledger: Ledger::default(),
            journal: Journal::default(),
            table_waiters: Mutex::new(TableWaiters {
                waiters: VecDeque::new(),
                reached: Position::ZERO,
                set_aside: VecDeque::new(),
                closed: false,
            }),
            committed_up_to: AtomicU64::new(0),
            flush_starved: AtomicBool::new(false),
            clock,
            options,
        })
    }

    /// The last position of the last cut that was committed.
    pub(crate) fn committed_up_to(&self) -> Position {
        Position::new(self.committed_up_to.load(Ordering::Acquire))
    }

    pub(crate) fn set_committed_up_to(&self, position: Position) {
        self.committed_up_to
            .fetch_max(position.get(), Ordering::AcqRel);
    }

    /// Syncs the ids of all records up to `up_to` in `dedup/` (DUP-2).
    pub(crate) fn persist_ids(&self, up_to: Position) -> Result<(), EngineError> {
        let _one_at_a_time = self.persisting.lock();
        let mut job = match &mut self.sequencer.lock().dedup {
            Some(dedup) => dedup.begin_persist(up_to),
            None => return Ok(()),
        };
        loop {
            let sequencer = self.sequencer.lock();
            let more = match &sequencer.dedup {
                Some(dedup) => dedup.collect(&mut job),
                None => false,
            };
            // A request that waits comes next, not this thread again.
            MutexGuard::unlock_fair(sequencer);
            if !more {
                break;
            }
        }
        let done = job.run();
        match &mut self.sequencer.lock().dedup {
            Some(dedup) => dedup
                .finish_persist(done)
                .map_err(|error| EngineError::dedup(&error)),
            None => Ok(()),
        }
    }

    /// Says that what was acknowledged can't be written to the tables for want of space.
    pub(crate) fn flush_is_starved(&self) {
        self.flush_starved.store(true, Ordering::Relaxed);
    }

    /// Whether that was said since the last time this was asked.
    pub(crate) fn take_flush_starved(&self) -> bool {
        self.flush_starved.swap(false, Ordering::Relaxed)
    }

    /// Answers requests at `table` that a durable commit has reached (ACK-1).
    pub(crate) fn table_reached(&self, position: Position) {
        let mut finished = Vec::new();
        {
            let mut table = self.table_waiters.lock();
            table.reached = table.reached.max(position);
            // Waiters stand in log order: groups are synced in order.
            while table
                .waiters
                .front()
                .is_some_and(|waiter| waiter.position <= position)
            {
                if let Some(waiter) = table.waiters.pop_front() {
                    finished.push(table.settled(waiter.position, waiter.answer));
                }
            }
        }
        self.completions.push_all(&mut finished);
    }

    /// Says that the record at `position` went to quarantine, so that it will not be in the table.
    pub(crate) fn record_set_aside(&self, position: Position) {
        let mut table = self.table_waiters.lock();
        if table.set_aside.len() == MAX_SET_ASIDE {
            table.set_aside.pop_front();
        }
        table.set_aside.push_back(position);
    }

    /// Answers requests whose wait for the table is over. Their events are on disk and will get
    /// there; the client may send them again, which deduplication makes harmless.
    pub(crate) fn expire_table_waiters(&self, now_nanos: u64) {
        self.end_table_waits(|waiter| waiter.deadline_nanos <= now_nanos);
    }

    /// Answers all requests that wait for the table, now and later, with what is true: on disk,
    /// not yet in the table.
    pub(crate) fn close_table_waiters(&self) {
        self.table_waiters.lock().closed = true;
        self.end_table_waits(|_| true);
    }

    fn end_table_waits(&self, over: impl Fn(&TableWaiter<T>) -> bool) {
        let mut finished = Vec::new();
        {
            let mut table = self.table_waiters.lock();
            while table.waiters.front().is_some_and(&over) {
                if let Some(waiter) = table.waiters.pop_front() {
                    finished.push(waiter.answer.refused(Refusal::new(Code::TableTimeout, "")));
                }
            }
        }
        self.completions.push_all(&mut finished);
    }

    /// Lets a durable request wait for the table; gives it back answered if that is settled.
    fn wait_for_table(
        &self,
        position: Position,
        now_nanos: u64,
        answer: Answer<T>,
    ) -> Option<Finished<T>> {
        let timeout = self.options.table_ack_timeout.as_nanos();
        let timeout = u64::try_from(timeout).unwrap_or(u64::MAX);
        let mut table = self.table_waiters.lock();
        // The background may have been quicker than this thread: the position was durable before.
        if position <= table.reached {
            return Some(table.settled(position, answer));
        }
        if table.closed {
            return Some(answer.refused(Refusal::new(Code::TableTimeout, "")));
        }
        table.waiters.push_back(TableWaiter {
            position,
            deadline_nanos: now_nanos.saturating_add(timeout),
            answer,
        });
        None
    }
}

impl<T: Send + 'static> GroupSink<PendingRecord<T>> for Shared<T> {
    /// ACK-1: this is called after the group's sync has returned, and answers are made nowhere
    /// else but here and behind it.
    fn group_synced(&self, records: Vec<(Position, PendingRecord<T>)>) {
        let now_nanos = self.clock.monotonic_nanos();
        let mut finished = Vec::with_capacity(records.len());
        let mut cached = Vec::with_capacity(records.len());
        self.metrics.commit_groups.add(1);
        self.metrics.records_synced.add(records.len() as u64);
        let (mut last, mut counts) = (Position::ZERO, Counts::default());
        for (position, record) in records {
            last = position;
            counts += record.counts;
            if let Some(answer) = record.answer {
                if answer.ack == AckLevel::Table {
                    finished.extend(self.wait_for_table(position, now_nanos, answer));
                } else {
                    finished.push(answer.stored(position));
                }
            }
            cached.push(CachedRecord {
                position,
                batch: record.batch,
                request: record.request,
                project: record.project,
                counts: record.counts,
            });
        }
        // Before anyone can know of the records that they are durable.
        self.ledger.synced(last, counts);
        self.completions.push_all(&mut finished);
        self.backlog.add(cached, now_nanos);
    }

    fn group_failed(&self, records: Vec<(Position, PendingRecord<T>)>, error: &LogError) {
        let code = error_code(error);
        self.admission.set_degraded(Some(code));
        if error.is_fatal() {
            self.admission.fail();
        }
        // DUP-1: before anyone is answered, or a retry would be taken for a duplicate of an event
        // that was lost.
        if let Some((first, _)) = records.first() {
            self.sequencer.lock().forget_after(first.previous());
        }
        self.metrics.log_failures.add(1);
        self.journal.add(
            LogLevel::Error,
            "log_group_failed",
            vec![
                ("error", error.to_string()),
                ("records", records.len().to_string()),
            ],
        );
        let mut finished = Vec::with_capacity(records.len());
        for (_, record) in records {
            if let Some(answer) = record.answer {
                finished.push(answer.not_persisted(&record.batch, code));
            }
        }
        self.completions.push_all(&mut finished);
    }
}

/// What a client is told when the log fails.
pub(crate) fn error_code(error: &LogError) -> Code {
    if error.is_disk_full() {
        Code::DiskFull
    } else {
        Code::StorageFailed
    }
}
