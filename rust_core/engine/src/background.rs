//! The background: durable records into segments, segments into cuts.
//!
//! It works through the backlog [`BUILDS_PER_FLUSH`] times in a flush interval, so that the cut at
//! its end has little left to do, and parsed batches are mostly still in the cache. One cut is
//! outstanding at a time; the next one is built while its commit runs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use penstock_decode::Workspace;
use penstock_disk::{CrashPoint, Filesystem};
use penstock_model::{LaneId, Payload, Position};
use penstock_segment::{ByTable, CutBuilder, RecordMeta, SegmentError};
use penstock_wal::{DamagedRange, LaneSpan, Log, LogItem, LogReader};

use crate::cut::{Cut, CutLane, CutSlot};
use crate::directory::Layout;
use crate::foreground::Foreground;
use crate::journal::LogLevel;
use crate::ledger::{Counts, CutTally, Noted};
use crate::passed::Passed;
use crate::quarantine::{self, Aside};
use crate::record;
use crate::replay::replay;
use crate::shared::{PendingRecord, Shared};

/// See the module. At the default interval of 5 s this is a turn each 78 ms, in which 100,000
/// events/s of 1 kB come to 8 MB: they are still in the cache. Eight turns found most of them gone
/// from it, to be read back and decoded once more. A long interval holds building back as before.
const BUILDS_PER_FLUSH: u64 = 64;

/// Rows of one cut. At 200 bytes a row this is 100 MB of Parquet, against which a commit of 20 ms
/// is nothing; more would only make rows visible later.
const MAX_CUT_ROWS: u64 = 500_000;

/// Files of one cut. A client that sends events of thousands of days would otherwise hold all others'
/// rows back until all its files are written; each costs about 1 ms.
const MAX_CUT_FILES: usize = 2_000;

/// Records built between two looks at what else is to be done.
const RECORDS_PER_STEP: u64 = 1_000;

/// Wait after a storage error before the cut is built anew.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(crate) struct Background<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    foreground: Arc<Foreground<T>>,
    log: Arc<Log<PendingRecord<T>>>,
    filesystem: Arc<dyn Filesystem>,
    layout: Layout,
    slot: Arc<CutSlot>,
    passed: Arc<Mutex<Passed>>,
    builder: CutBuilder,
    /// The next record to build.
    next: Position,
    /// The last position of the cut before the one that is being built.
    cut_up_to: Position,
    /// Most records of the next cut: less than all while a record is looked for that can't be built.
    max_records: u64,
    /// Records after `cut_up_to` that are in quarantine already.
    set_aside: Vec<(Position, Option<Noted>)>,
    /// What the record that is being built comes to, and what those since `cut_up_to` did.
    noted: Option<Noted>,
    tally: CutTally,
    /// The ledger had all records up to here when it was opened.
    booked: Position,
    reader: Option<LogReader>,
    span: Option<LaneSpan>,
    workspace: Workspace,
}

/// What is to follow a turn.
pub(crate) enum Turn {
    /// The next one, at once.
    Again,
    /// Nothing is due before that, or before something comes.
    Wait {
        timeout: Duration,
        flush_seen: bool,
    },
    Stop,
}

/// What one step came to.
enum Step {
    /// Go on at once.
    Built,
    /// Storage error: everything since the last cut is built again, after a while.
    Abandoned,
}

impl<T: Send + 'static> Background<T> {
    #[expect(
        clippy::too_many_arguments,
        reason = "the wiring of one thread, called once"
    )]
    pub(crate) fn new(
        shared: Arc<Shared<T>>,
        foreground: Arc<Foreground<T>>,
        log: Arc<Log<PendingRecord<T>>>,
        filesystem: Arc<dyn Filesystem>,
        layout: Layout,
        slot: Arc<CutSlot>,
        passed: Arc<Mutex<Passed>>,
        first: Position,
    ) -> Self {
        let builder = CutBuilder::new(
            &filesystem,
            &layout.root,
            penstock_segment::Layout::Partitioned,
            shared.options.segment.clone(),
        );
        Self {
            booked: shared.ledger.as_of(),
            shared,
            foreground,
            log,
            filesystem,
            layout,
            slot,
            passed,
            builder,
            next: first,
            cut_up_to: first.previous(),
            max_records: u64::MAX,
            set_aside: Vec::new(),
            noted: None,
            tally: CutTally::default(),
            reader: None,
            span: None,
            workspace: Workspace::default(),
        }
    }

    /// The background thread's life.
    pub(crate) fn run(&mut self) {
        loop {
            match self.turn() {
                Turn::Again => {}
                Turn::Wait {
                    timeout,
                    flush_seen,
                } => self.shared.backlog.wait(timeout, flush_seen),
                Turn::Stop => return,
            }
        }
    }

    /// Does the next thing that is due.
    pub(crate) fn turn(&mut self) -> Turn {
        let turn = self.next_turn();
        self.show_builder();
        turn
    }

    /// Shows in the metrics what the builder holds.
    fn show_builder(&self) {
        let seen = &self.shared.metrics.segment;
        let store = |gauge: &AtomicU64, value: usize| gauge.store(value as u64, Ordering::Relaxed);
        store(&seen.open_partitions, self.builder.open_partitions());
        store(&seen.buffered_bytes, self.builder.buffered_bytes());
        seen.closed_early
            .store(self.builder.closed_early(), Ordering::Relaxed);
    }

    fn next_turn(&mut self) -> Turn {
        let interval_nanos =
            u64::try_from(self.shared.options.flush_interval.as_nanos()).unwrap_or(u64::MAX);
        let wake = self.shared.backlog.look();
        if wake.stopping {
            self.builder.abandon();
            return Turn::Stop;
        }
        if self.slot.take_discarded() {
            self.start_over(self.shared.committed_up_to());
            return Turn::Again;
        }
        let now = self.shared.clock.monotonic_nanos();
        let age = wake
            .oldest_uncut_nanos
            .map(|oldest| now.saturating_sub(oldest));
        let durable = self.log.durable_position();
        let build_due =
            wake.flush_asked || age.is_some_and(|age| age >= interval_nanos / BUILDS_PER_FLUSH);
        let behind = self.next <= durable;
        let records = self.next.get() - self.cut_up_to.next().get();
        let full = self.builder.rows() >= MAX_CUT_ROWS
            || self.builder.files() >= MAX_CUT_FILES
            || records >= self.max_records;
        let cut_due = wake.flush_asked || full || age.is_some_and(|age| age >= interval_nanos);
        // A cut waits for the builder to catch up, but under steady load it never quite does.
        let overdue = age.is_some_and(|age| age >= interval_nanos.saturating_mul(2));
        let something_built = records > 0;
        let cut_now = cut_due && something_built && (!behind || full || overdue);
        if cut_now && self.slot.is_free() {
            self.cut(now);
            return Turn::Again;
        }
        if build_due && behind && !full && !self.slot.held() {
            let step = RECORDS_PER_STEP.min(self.max_records - records);
            let last = durable.min(self.next.plus(step - 1));
            if matches!(self.build(last), Step::Abandoned) {
                self.shared.clock.sleep(RETRY_AFTER);
            }
            return Turn::Again;
        }
        if cut_due && !something_built && !behind {
            // Asked to flush with nothing to flush.
            self.cut_made(self.cut_up_to, now);
        }
        let wait_nanos = match age {
            Some(age) => (interval_nanos / BUILDS_PER_FLUSH).saturating_sub(age),
            None => interval_nanos,
        };
        Turn::Wait {
            // At least 5 ms, so that a commit that is waited for is not a busy loop; at most 250 ms,
            // so that a table that was held or slow is looked at again.
            timeout: Duration::from_nanos(wait_nanos)
                .clamp(Duration::from_millis(5), Duration::from_millis(250)),
            // A flush that was asked for and can't be made yet waits for the commit before it.
            flush_seen: wake.flush_asked,
        }
    }

    /// Brings the records up to `last` into the builder.
    fn build(&mut self, last: Position) -> Step {
        while self.next <= last {
            if self.shared.backlog.look().stopping {
                break;
            }
            let position = self.next;
            let built =
                std::panic::catch_unwind(AssertUnwindSafe(|| self.build_one(position, last)));
            match built {
                Ok(Ok(built)) => self.built(built),
                Ok(Err(error)) => return self.abandon(&error),
                Err(_) => return self.abandon(&BuildError::Panicked),
            }
        }
        Step::Built
    }

    /// Counts what the last record came to, and goes on behind `last`.
    fn built(&mut self, last: Position) {
        let counts = match self.noted.take() {
            Some(mut noted) => {
                if !noted.has_rows() && self.shared.ledger.was_set_aside(last) {
                    noted.tables = None;
                }
                self.tally.add(&noted, last <= self.booked);
                noted.counts
            }
            None => Counts::default(),
        };
        self.shared.ledger.read(last, counts, &self.shared.journal);
        self.next = last.next();
        // Not only once a turn: a turn may take seconds, and end with all of it in a cut.
        self.show_builder();
    }

    /// Builds the record at `position`, or passes the gap there. Returns the last position that is
    /// done with.
    fn build_one(&mut self, position: Position, last: Position) -> Result<Position, BuildError> {
        self.noted = None;
        let mut set_aside = self.set_aside.iter();
        if let Some((_, noted)) = set_aside.find(|(other, _)| *other == position) {
            self.noted.clone_from(noted);
            return Ok(position);
        }
        let Some(cached) = self.shared.backlog.take(position) else {
            return self.build_from_log(position, last);
        };
        self.reader = None;
        let meta = RecordMeta {
            lane: self.lane_of(position),
            position,
            project: &cached.project,
            received_at_us: cached.request.received_at_us,
            client_address: cached.request.client_address,
            endpoint: cached.request.endpoint,
            batch: &cached.batch,
        };
        match append(&mut self.builder, &meta, &self.passed) {
            Ok(tables) => {
                self.noted = Some(Noted {
                    project: cached.project,
                    endpoint: cached.request.endpoint,
                    counts: cached.counts,
                    tables: Some(tables),
                });
                Ok(position)
            }
            // What goes to quarantine is the record as it was written.
            Err(BuildError::Segment(error)) if error.concerns_record() => {
                self.build_from_log(position, last)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the record at `position`, or the one behind a gap, and builds it. Returns the last
    /// position that is done with.
    fn build_from_log(
        &mut self,
        position: Position,
        last: Position,
    ) -> Result<Position, BuildError> {
        let is_fresh = self.reader.is_none();
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.log.reader(position)),
        };
        let item = reader
            .next_item()
            .map_err(|error| BuildError::Log(error.to_string()))?;
        for damage in reader.take_damage() {
            self.keep_damage(&damage)?;
        }
        match item {
            Some(LogItem::Record(record)) => {
                self.shared.metrics.records_read_back.add(1);
                assert!(record.position >= position, "the log is read in order");
                let payload = Payload::new(record.payload);
                match replay(&record.context, &payload, &mut self.workspace) {
                    Ok((stored, batch)) => {
                        // Of a sealed file: not seen by the recovery.
                        self.shared.projects.seen(batch.token());
                        let meta = RecordMeta {
                            lane: record.lane,
                            position: record.position,
                            project: &stored.project,
                            received_at_us: stored.request.received_at_us,
                            client_address: stored.request.client_address,
                            endpoint: stored.request.endpoint,
                            batch: &batch,
                        };
                        match append(&mut self.builder, &meta, &self.passed) {
                            Ok(tables) => {
                                self.noted = Some(Noted::of(&stored, Some(tables)));
                                Ok(record.position)
                            }
                            Err(BuildError::Segment(error)) if error.concerns_record() => self
                                .quarantine(
                                    record.lane,
                                    record.position,
                                    &record.context,
                                    payload.as_slice(),
                                    &error.to_string(),
                                ),
                            Err(error) => Err(error),
                        }
                    }
                    Err(error) if error.leaves_record_whole() => {
                        Err(BuildError::Log(error.to_string()))
                    }
                    Err(error) => self.quarantine(
                        record.lane,
                        record.position,
                        &record.context,
                        payload.as_slice(),
                        &error.to_string(),
                    ),
                }
            }
            Some(LogItem::Gap(gap)) => Ok(gap.last),
            // The log's index is brought up before its durable position, so what a fresh reader
            // doesn't find is not there: damage, which the opening reported.
            None if is_fresh => Ok(last),
            // The reader was at the end when it was asked: a fresh one sees what came since.
            None => {
                self.reader = None;
                Ok(position.previous())
            }
        }
    }

    /// Keeps bytes aside that can't be read, and says so, before the records that were in them are
    /// passed. An opening does that for the files that it reads; sealed ones are first read here.
    fn keep_damage(&self, found: &DamagedRange) -> Result<(), BuildError> {
        let kept = self
            .log
            .keep_damage(found)
            .map_err(|error| BuildError::Log(error.to_string()))?;
        if let Some(damage) = kept.filter(|damage| !damage.known) {
            crate::recovery::report_damage(&self.shared.journal, &damage);
        }
        Ok(())
    }

    /// Sets a record aside that can't be stored; it covers its position from now on.
    fn quarantine(
        &mut self,
        lane: LaneId,
        position: Position,
        context: &[u8],
        payload: &[u8],
        why: &str,
    ) -> Result<Position, BuildError> {
        let aside = Aside {
            lane,
            position,
            why,
            at_us: self.shared.clock.unix_micros(),
            context,
            payload,
        };
        quarantine::write(&*self.filesystem, &self.layout, &aside)
            .map_err(|error| BuildError::Log(error.to_string()))?;
        let stored = record::decode(context).ok();
        self.noted = stored.map(|stored| Noted::of(&stored, None));
        self.shared.record_set_aside(position);
        self.shared.metrics.records_quarantined.add(1);
        self.shared.journal.add(
            LogLevel::Error,
            "record_quarantined",
            vec![
                ("lane", lane.to_string()),
                ("position", position.to_string()),
                ("reason", why.to_owned()),
            ],
        );
        Ok(position)
    }

    /// Drops what was built since the last cut, to build it again.
    ///
    /// If it was not the storage that failed, a record is to blame, and which one is found by
    /// halving: the next cut takes half as many, until one alone fails and is set aside.
    fn abandon(&mut self, error: &BuildError) -> Step {
        if error.is_disk_full() {
            self.shared.flush_is_starved();
        }
        if error.blames_a_record() {
            let tried = self.next.get() - self.cut_up_to.get();
            if self.max_records == 1 {
                self.set_aside(self.cut_up_to.next(), &error.to_string());
            } else {
                self.max_records = (tried / 2).max(1);
            }
        }
        self.start_over(self.cut_up_to);
        self.shared.metrics.cuts_abandoned.add(1);
        self.shared.journal.add(
            LogLevel::Warning,
            "cut_abandoned",
            vec![
                ("error", error.to_string()),
                ("from_position", self.next.to_string()),
            ],
        );
        if error.blames_a_record() {
            Step::Built
        } else {
            Step::Abandoned
        }
    }

    /// Goes on building right behind `cut_up_to`.
    fn start_over(&mut self, cut_up_to: Position) {
        self.builder.abandon();
        self.reader = None;
        self.noted = None;
        self.tally = CutTally::default();
        self.cut_up_to = cut_up_to;
        self.next = cut_up_to.next();
    }

    /// Moves the record at `position` to quarantine; if that fails, it is tried again later.
    fn set_aside(&mut self, position: Position, why: &str) {
        let item = self.log.reader(position).next_item();
        let done = match item {
            Ok(Some(LogItem::Record(record))) if record.position == position => self.quarantine(
                record.lane,
                position,
                &record.context,
                record.payload.as_slice(),
                why,
            ),
            Ok(_) => Ok(position),
            Err(error) => Err(BuildError::Log(error.to_string())),
        };
        if done.is_ok() {
            self.set_aside.push((position, self.noted.take()));
            self.max_records = u64::MAX;
        }
    }

    /// Tells the clock of cuts that everything up to `position` is cut.
    fn cut_made(&self, position: Position, now_nanos: u64) {
        let left = || self.log.durable_position() > position;
        self.shared.backlog.cut_made(left, now_nanos);
    }

    /// Closes the files and hands the cut out. TAB-2: the builder has synced them by then.
    fn cut(&mut self, now_nanos: u64) {
        let rows = self.builder.rows_by_table();
        let finished = std::panic::catch_unwind(AssertUnwindSafe(|| self.builder.finish()));
        let failure = match finished {
            Ok(Ok(files)) => Ok(files),
            Ok(Err(error)) => Err(BuildError::Segment(error)),
            Err(_) => Err(BuildError::Panicked),
        };
        let files = match failure {
            Ok(files) => files,
            Err(error) => {
                if matches!(self.abandon(&error), Step::Abandoned) {
                    self.shared.clock.sleep(RETRY_AFTER);
                }
                return;
            }
        };
        self.max_records = self.max_records.saturating_mul(2);
        self.set_aside.clear();
        let position = self.next.previous();
        let tally = std::mem::take(&mut self.tally);
        let journal = &self.shared.journal;
        self.shared.ledger.cut_made(&tally, &files, journal);
        // Every lane that the log still has, also those of earlier cuts: a table that had no rows
        // of one then has yet to pass it before the log may let go of it (TAB-3).
        let lanes = self
            .log
            .lanes()
            .into_iter()
            .filter(|span| span.first <= position)
            .map(|span| CutLane {
                lane: span.lane,
                position: span.last.min(position),
            })
            .collect();
        for (table, rows) in rows.iter() {
            self.shared.metrics.rows_built[table].add(*rows);
        }
        self.shared.metrics.cuts.add(1);
        self.shared
            .metrics
            .segment_bytes
            .add(files.iter().map(|file| file.size_bytes).sum());
        self.foreground
            .refused_only_bytes
            .store(0, Ordering::Relaxed);
        self.cut_up_to = position;
        self.cut_made(position, now_nanos);
        let releases = self.log.could_release(position);
        CrashPoint::CutBuilt.pass();
        self.slot.put(Cut {
            position,
            lanes,
            files,
            releases,
            tally,
        });
    }

    /// The lane of a durable record; the log is asked only when the last answer does not reach.
    #[expect(clippy::expect_used, reason = "every durable record stands in a lane")]
    fn lane_of(&mut self, position: Position) -> LaneId {
        let known = self
            .span
            .filter(|span| span.first <= position && position <= span.last);
        let span = known.unwrap_or_else(|| {
            let lanes = self.log.lanes();
            let mut newest_first = lanes.into_iter().rev();
            newest_first
                .find(|span| span.first <= position)
                .expect("a durable record stands in a lane")
        });
        self.span = Some(span);
        span.lane
    }
}

#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("{0}")]
    Log(String),
    #[error("building panicked")]
    Panicked,
}

impl BuildError {
    /// Whether another try of the same records is bound to fail again.
    fn blames_a_record(&self) -> bool {
        match self {
            Self::Segment(error) => matches!(error, SegmentError::Encode { .. }),
            Self::Panicked => true,
            Self::Log(_) => false,
        }
    }

    fn is_disk_full(&self) -> bool {
        match self {
            Self::Segment(SegmentError::Storage { source, .. }) => {
                penstock_disk::is_disk_full(source)
            }
            _ => false,
        }
    }
}

fn append(
    builder: &mut CutBuilder,
    meta: &RecordMeta<'_>,
    passed: &Mutex<Passed>,
) -> Result<ByTable<bool>, BuildError> {
    let tables = passed.lock().wanting(meta.lane, meta.position);
    #[cfg(any(test, feature = "testing"))]
    assert!(!is_poison(meta.project), "a record that can't be built");
    builder.append(meta, tables)?;
    Ok(tables)
}

/// Whether building a record is to panic: in tests, and for the project that the environment names
/// in a build for tests.
#[cfg(any(test, feature = "testing"))]
fn is_poison(project: &str) -> bool {
    #[cfg(test)]
    let poison = Some(tests::POISON);
    #[cfg(not(test))]
    let poison = std::env::var("PENSTOCK_TEST_POISON_PROJECT").ok();
    poison.is_some_and(|poison| poison == project)
}

#[cfg(test)]
mod tests;
