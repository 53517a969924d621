//! One engine: a data directory opened by one process.

use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_decode::v1::{Head, RawHead, read_head};
use penstock_dedup::{Dedup, DedupOptions, OpenReport, RunningTime};
use penstock_disk::{CrashPoint, Filesystem, LockGuard};
use penstock_model::{Clock, Code, LaneId, Position, Refusal};
use penstock_segment::TableKind;
use penstock_wal::{GroupSink, Log, LogOptions, OpenError, Recovery};

use crate::admission::StateReport;
use crate::answer::{Completion, Submission};
use crate::background::Background;
use crate::cut::{Cut, CutLane, CutSlot};
use crate::directory::{self, Layout};
use crate::error::EngineError;
use crate::foreground::{DedupLookup, Foreground};
use crate::journal::{LogEvent, LogLevel};
use crate::metrics::gauge;
use crate::options::{EngineOptions, ProjectOptions};
use crate::passed::Passed;
use crate::recovery::StoredIds;
use crate::sealing::Sealer;
use crate::sequencer::Sequencer;
use crate::shared::{PendingRecord, Shared};
use crate::supervisor::{DedupTidier, Reserve, StopSignal, Supervisor};
use crate::visitors::Visitors;

/// The service behind the fronts. `T` is what a caller gives with a request and gets back with
/// its answer.
pub struct Engine<T: Send + 'static> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) log: Arc<Log<PendingRecord<T>>>,
    pub(crate) foreground: Arc<Foreground<T>>,
    filesystem: Arc<dyn Filesystem>,
    layout: Layout,
    slot: Arc<CutSlot>,
    passed: Arc<Mutex<Passed>>,
    stop: Arc<StopSignal>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    reserve: Mutex<Option<Reserve>>,
    first: Position,
    lock: Mutex<Option<LockGuard>>,
}

/// What the engine's threads run, besides the decoders. A simulator runs it turn by turn.
pub(crate) struct Lives<T: Send + 'static> {
    pub(crate) background: Background<T>,
    pub(crate) supervisor: Supervisor<T>,
    pub(crate) tidier: DedupTidier<T>,
    pub(crate) sealer: Sealer<T>,
}

/// [`Log::open`], or its form without threads.
pub(crate) type OpenLog<T> = fn(
    Arc<dyn Filesystem>,
    &Path,
    LogOptions,
    Arc<dyn Clock>,
    Arc<dyn GroupSink<PendingRecord<T>>>,
) -> Result<(Log<PendingRecord<T>>, Recovery), OpenError>;

impl<T: Send + 'static> Engine<T> {
    /// Locks the data directory, recovers the log and the deduplication state. Nothing is admitted
    /// before [`Self::start`].
    ///
    /// Durability: on `Ok` everything that the log gives back is synced, also frames that a crash
    /// had left in the page cache only.
    pub fn open(
        options: EngineOptions,
        filesystem: Arc<dyn Filesystem>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EngineError> {
        Self::open_with(options, filesystem, clock, Log::open)
    }

    pub(crate) fn open_with(
        options: EngineOptions,
        filesystem: Arc<dyn Filesystem>,
        clock: Arc<dyn Clock>,
        open_log: OpenLog<T>,
    ) -> Result<Self, EngineError> {
        let layout = Layout::new(&options.data_directory);
        let lock = directory::open(&*filesystem, &layout, clock.unix_micros())?;
        let (dedup, ids, dedup_report) = open_dedup(&options, &filesystem, &layout, &*clock)?;
        let (visitors, salts_report) = Visitors::open(&filesystem, &layout, clock.unix_micros())?;
        let lookup = dedup.as_ref().map(|dedup| DedupLookup {
            hasher: dedup.hasher(),
            runs: dedup.runs(),
        });
        let log_options = LogOptions {
            file_bytes: options.wal_file_bytes,
            max_group_bytes: options.max_group_bytes,
            max_wal_bytes: options.max_wal_bytes,
            max_recycled_files: LogOptions::recycled_files_for(
                options.max_wal_bytes,
                options.wal_file_bytes,
            ),
            ..LogOptions::default()
        };
        let mut reserve = Reserve {
            path: layout.reserve(),
            bytes: options.disk_reserve_bytes,
            held: false,
        };
        let shared = Arc::new(Shared::new(
            options,
            Arc::clone(&clock),
            Sequencer { dedup },
            visitors,
        )?);
        crate::recovery::report_dedup(&shared.journal, &dedup_report);
        crate::visitors::report(&shared.journal, &salts_report);
        for warning in directory::file_system_warnings(&*filesystem, &layout) {
            shared
                .journal
                .add(LogLevel::Warning, "file_system", vec![("promise", warning)]);
        }
        if let Err(error) = reserve.hold(&*filesystem) {
            shared.journal.add(
                LogLevel::Warning,
                "disk_reserve_missing",
                vec![("error", error.to_string())],
            );
        }
        let (log, recovery) = open_log(
            Arc::clone(&filesystem),
            &layout.wal(),
            log_options,
            clock,
            Arc::clone(&shared) as Arc<_>,
        )
        .map_err(|error| EngineError::opening(&error))?;
        crate::recovery::report(&shared.journal, &recovery);
        let log = Arc::new(log);
        let first = crate::recovery::recover(&shared, &log, &recovery, ids)?;
        CrashPoint::RecoveryIdsEntered.pass();
        shared.set_committed_up_to(first.previous());
        let next = log.next_position();
        let book = crate::ledger::open_book(&*filesystem, &layout, first, next, &shared.journal)?;
        let aside = crate::ledger::set_aside(&*filesystem, &layout, &log.lanes())?;
        shared.ledger.begin(book, log.durable_position(), aside);
        let foreground = Arc::new(Foreground::new(
            Arc::clone(&shared),
            Arc::clone(&log),
            lookup,
            [random_u64()?, random_u64()?],
        ));
        Ok(Self {
            shared,
            log,
            foreground,
            filesystem,
            layout,
            slot: Arc::new(CutSlot::default()),
            passed: Arc::new(Mutex::new(Passed::default())),
            stop: Arc::new(StopSignal::default()),
            threads: Mutex::new(Vec::new()),
            reserve: Mutex::new(Some(reserve)),
            first,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Every lane with records in the log: (lane, first, last position), oldest first.
    pub fn lanes(&self) -> Vec<(LaneId, Position, Position)> {
        self.log
            .lanes()
            .into_iter()
            .map(|span| (span.lane, span.first, span.last))
            .collect()
    }

    /// What the tables had passed, as [`Self::cut_committed`] was last told; `None` before that.
    pub fn table_note(&self) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(directory::read_note(&*self.filesystem, &self.layout)?)
    }

    /// Starts the threads and admits requests. `committed` names, by table, the highest position
    /// of each lane that the table's transactions have: rows at or below are not built again
    /// (TAB-1).
    pub fn start(&self, committed: &[(TableKind, LaneId, Position)]) -> Result<(), EngineError> {
        let lives = self.begin(committed)?;
        self.start_threads(lives)?;
        self.shared.admission.start();
        Ok(())
    }

    /// What the threads are to run. Requests are not admitted yet.
    pub(crate) fn begin(
        &self,
        committed: &[(TableKind, LaneId, Position)],
    ) -> Result<Lives<T>, EngineError> {
        {
            let mut passed = self.passed.lock();
            for (table, lane, position) in committed {
                let lane = CutLane {
                    lane: *lane,
                    position: *position,
                };
                passed.advance(*table, lane);
            }
        }
        let background = Background::new(
            Arc::clone(&self.shared),
            Arc::clone(&self.foreground),
            Arc::clone(&self.log),
            Arc::clone(&self.filesystem),
            self.layout.clone(),
            Arc::clone(&self.slot),
            Arc::clone(&self.passed),
            self.first,
        );
        let reserve = self.reserve.lock().take().ok_or(EngineError::Closed)?;
        let supervisor = Supervisor {
            shared: Arc::clone(&self.shared),
            log: Arc::clone(&self.log),
            filesystem: Arc::clone(&self.filesystem),
            reserve,
            root: self.layout.root.clone(),
            stop: Arc::clone(&self.stop),
            last_try_nanos: 0,
        };
        let tidier = DedupTidier {
            shared: Arc::clone(&self.shared),
            stop: Arc::clone(&self.stop),
        };
        let sealer = Sealer::new(
            Arc::clone(&self.shared),
            Arc::clone(&self.log),
            Arc::clone(&self.stop),
        );
        Ok(Lives {
            background,
            supervisor,
            tidier,
            sealer,
        })
    }

    fn start_threads(&self, lives: Lives<T>) -> Result<(), EngineError> {
        let Lives {
            mut background,
            mut supervisor,
            tidier,
            mut sealer,
        } = lives;
        let mut threads = self.threads.lock();
        for index in 0..self.shared.options.decode_threads.max(1) {
            let foreground = Arc::clone(&self.foreground);
            threads.push(self.spawn(format!("penstock-decode-{index}"), move || {
                foreground.work();
            })?);
        }
        threads.push(self.spawn("penstock-build".to_owned(), move || {
            crate::directory::lower_priority();
            background.run();
        })?);
        threads.push(self.spawn("penstock-super".to_owned(), move || supervisor.run())?);
        threads.push(self.spawn("penstock-dedup".to_owned(), move || {
            crate::directory::lower_priority();
            tidier.run();
        })?);
        threads.push(self.spawn("penstock-seal".to_owned(), move || sealer.run())?);
        Ok(())
    }

    /// A thread whose panic is a bug that stops the service: what it left half done can't be
    /// reasoned about.
    fn spawn(
        &self,
        name: String,
        life: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, EngineError> {
        let shared = Arc::clone(&self.shared);
        let foreground = Arc::clone(&self.foreground);
        let thread_name = name.clone();
        let guarded = move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
            if result.is_err() {
                shared.admission.fail();
                foreground.refuse_queued(Code::StorageFailed);
                shared.journal.add(
                    LogLevel::Error,
                    "thread_panicked",
                    vec![("thread", thread_name)],
                );
            }
        };
        Ok(std::thread::Builder::new().name(name).spawn(guarded)?)
    }

    /// Takes a request, or refuses it at once; then nothing of it was stored. Never waits.
    ///
    /// Durability: none yet. The answer comes with the same ticket from [`Self::drain`], once.
    pub fn submit(&self, ticket: T, submission: Submission) -> Result<(), (T, Refusal)> {
        self.foreground.submit(ticket, submission)
    }

    /// Checks the headers of a request of capture v1. A refusal is the request's answer.
    pub fn check_v1_head(&self, raw: &RawHead<'_>) -> Result<Head, Refusal> {
        let refused = |refusal: &Refusal| self.shared.metrics.requests_refused(refusal.code);
        read_head(raw).inspect_err(refused)
    }

    /// An eventfd that is readable when [`Self::drain`] has something to give.
    pub fn completion_fd(&self) -> RawFd {
        self.shared.completions.raw_fd()
    }

    /// Takes all finished requests.
    pub fn drain(&self) -> Vec<(T, Completion)> {
        let finished = self.shared.completions.take();
        self.shared.admission.leave(finished.len());
        finished
            .into_iter()
            .map(|item| (item.ticket, item.completion))
            .collect()
    }

    /// Waits up to `timeout` for a cut to be committed. The same cut is given again until
    /// [`Self::cut_committed`] names its position.
    pub fn next_cut(&self, timeout: Duration) -> Option<Arc<Cut>> {
        self.slot.wait(timeout)
    }

    /// Takes the caller's word that the commits of the cut at `position` are durable. `committed`
    /// lists the tables whose transactions have passed it. Then `note` is published, the state that
    /// outlives the log's files is synced (DUP-2), and files that all tables passed go (TAB-3).
    ///
    /// Errors: nothing was released that should not be, and the cut is given out again: the caller
    /// finds it committed and calls again.
    pub fn cut_committed(
        &self,
        position: Position,
        committed: &[TableKind],
        note: &[u8],
    ) -> Result<(), EngineError> {
        let Some(cut) = self.slot.at(position) else {
            return Ok(());
        };
        {
            let mut passed = self.passed.lock();
            for table in committed {
                for lane in &cut.lanes {
                    passed.advance(*table, *lane);
                }
            }
        }
        self.shared.set_committed_up_to(position);
        self.shared.ledger.enter(position, &cut.tally);
        self.shared.table_reached(position);
        if !note.is_empty() {
            let released = self.released_by_all(position);
            let releases = self.log.could_release(released);
            if releases || cut.tally.has_aside() {
                // Before the note, so that the ledger never knows of less than that says is in the
                // tables: what is in quarantine can't be told from the log once it was sent again.
                self.shared.ledger.write(&*self.filesystem, &self.layout)?;
                CrashPoint::LedgerWritten.pass();
            }
            directory::write_note(&*self.filesystem, &self.layout, note)?;
            if releases {
                CrashPoint::NoteWritten.pass();
                self.shared.persist_ids(released)?;
                CrashPoint::DedupPersisted.pass();
                self.log
                    .release(released)
                    .map_err(|error| EngineError::log(&error))?;
                self.passed.lock().keep(&self.log.lanes());
            }
        }
        self.slot.done(position);
        self.shared.backlog.wake();
        Ok(())
    }

    /// Takes back the cut at `position`, which can't be committed (a file of it is gone). Its rows
    /// are built anew from the log and come in a later cut.
    pub fn discard_cut(&self, position: Position) {
        self.slot.discard(position);
        self.shared.backlog.wake();
    }

    /// The highest position up to which every table has passed every lane.
    fn released_by_all(&self, up_to: Position) -> Position {
        let passed = self.passed.lock();
        let mut released = Position::ZERO;
        for span in self.log.lanes() {
            match passed.by_all(span.lane) {
                Some(lowest) if lowest >= span.last => released = span.last,
                Some(lowest) => return lowest.min(up_to),
                None => break,
            }
        }
        released.min(up_to)
    }

    /// Keeps acknowledging but hands out no cut and releases nothing, for the reason given.
    pub fn hold_commits(&self, reason: Option<String>) {
        self.slot.hold(reason);
    }

    /// Asks for a cut as soon as may be.
    pub fn flush(&self) {
        self.shared.backlog.ask_flush();
    }

    /// Refuses new requests from now on; those in flight go on.
    pub fn stop_admission(&self) {
        self.shared.admission.drain();
    }

    /// Puts other named projects in place of all that there are; none opens the door.
    ///
    /// Requests that are already decoded, and records, keep the project that they resolved to.
    pub fn replace_projects(&self, projects: &[ProjectOptions]) {
        self.shared.projects.replace(projects);
    }

    /// Requests taken and not yet given back.
    pub fn in_flight(&self) -> usize {
        self.shared.admission.in_flight_requests()
    }

    /// (records, bytes of the log) that are durable and in no committed cut.
    pub fn backlog(&self) -> (u64, u64) {
        self.log.backlog(self.shared.committed_up_to())
    }

    /// Whether requests are taken, and why not.
    pub fn state(&self) -> StateReport {
        self.shared.admission.report()
    }

    pub fn take_log_events(&self) -> Vec<LogEvent> {
        self.shared.journal.take()
    }

    /// All metrics as Prometheus text.
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        self.shared.metrics.write_text(&mut out);
        self.shared.ledger.write_text(&mut out);
        let (records, bytes) = self.backlog();
        let ready = u64::from(self.state().reason.is_empty());
        for (name, help, value) in [
            ("penstock_engine_ready", "1 when requests are taken.", ready),
            (
                "penstock_engine_in_flight_requests",
                "Requests taken and not yet answered.",
                self.in_flight() as u64,
            ),
            (
                "penstock_engine_in_flight_bytes",
                "Bytes reserved for them.",
                self.shared.admission.in_flight_bytes(),
            ),
            (
                "penstock_wal_backlog_records",
                "Records not yet in every table.",
                records,
            ),
            (
                "penstock_wal_backlog_bytes",
                "Their bytes in the log.",
                bytes,
            ),
            (
                "penstock_wal_used_bytes",
                "Bytes of log files.",
                self.log.used_bytes(),
            ),
            (
                "penstock_engine_batch_cache_bytes",
                "Parsed batches kept for the background.",
                self.shared.backlog.held_bytes() as u64,
            ),
            (
                "penstock_engine_cookieless_salts",
                "Days of which visitors of cookieless mode have ids.",
                self.shared.visitors.salts() as u64,
            ),
        ] {
            gauge(&mut out, name, help, value);
        }
        let stats = self
            .shared
            .sequencer
            .lock()
            .dedup
            .as_ref()
            .map(Dedup::stats);
        if let Some(stats) = stats {
            for (name, help, value) in [
                (
                    "penstock_dedup_memory_ids",
                    "Ids held in memory.",
                    stats.ids_in_memory,
                ),
                (
                    "penstock_dedup_memory_bytes",
                    "Memory of the window.",
                    stats.memory_bytes,
                ),
                (
                    "penstock_dedup_disk_ids",
                    "Ids in runs on disk.",
                    stats.ids_on_disk,
                ),
                (
                    "penstock_dedup_disk_bytes",
                    "Bytes of runs on disk.",
                    stats.disk_bytes,
                ),
                (
                    "penstock_dedup_dropped_early_ids",
                    "Ids that budgets pushed out of the window before their time.",
                    stats.ids_dropped_early,
                ),
                (
                    "penstock_dedup_dropped_unspilled_ids",
                    "Of those, ids that had not reached the disk.",
                    stats.ids_dropped_unspilled,
                ),
                (
                    "penstock_dedup_window_shortened_milliseconds",
                    "By how much budgets have shortened the window.",
                    stats.window_shortened_ms,
                ),
                (
                    "penstock_dedup_damaged_runs",
                    "Files of ids set aside since they can't be read; repeats of theirs are stored.",
                    stats.damaged_runs,
                ),
            ] {
                gauge(&mut out, name, help, value);
            }
        }
        out
    }

    /// Finishes what was taken, syncs and stops the threads. What is not in the tables yet stays
    /// in the log for the next opening. Idempotent.
    pub fn close(&self) {
        self.shared.admission.drain();
        self.foreground.close();
        let mut threads = std::mem::take(&mut *self.threads.lock());
        // The workers first, so that nothing appends behind the log's close.
        for thread in threads.drain(..) {
            if thread
                .thread()
                .name()
                .is_some_and(|name| name.starts_with("penstock-decode"))
            {
                join(thread);
            } else {
                self.stop.stop();
                self.shared.backlog.stop();
                join(thread);
            }
        }
        self.foreground.refuse_queued(Code::ShuttingDown);
        self.log.close();
        self.shared.close_table_waiters();
        self.shared.backlog.clear();
        self.slot.close();
        drop(self.lock.lock().take());
    }
}

fn join(thread: JoinHandle<()>) {
    // A panic was reported by the thread's own guard.
    drop(thread.join());
}

impl<T: Send + 'static> Drop for Engine<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T: Send + 'static> std::fmt::Debug for Engine<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

fn open_dedup(
    options: &EngineOptions,
    filesystem: &Arc<dyn Filesystem>,
    layout: &Layout,
    clock: &dyn Clock,
) -> Result<(Option<Dedup>, StoredIds, OpenReport), EngineError> {
    if options.dedup_window.is_zero() {
        return Ok((None, StoredIds::Whole, OpenReport::default()));
    }
    let dedup_options = DedupOptions {
        window: options.dedup_window,
        memory_bytes: options.dedup_memory_bytes,
        disk_bytes: options.dedup_disk_bytes,
    };
    let now = RunningTime::from_nanos(clock.monotonic_nanos());
    let opened = Dedup::open(Arc::clone(filesystem), &layout.dedup(), dedup_options, now);
    let (dedup, report) = opened.map_err(|error| EngineError::dedup(&error))?;
    // Ids that a seal vouches for may have been in what can't be read.
    let ids = if report.is_whole() {
        StoredIds::Whole
    } else {
        StoredIds::Damaged
    };
    Ok((Some(dedup), ids, report))
}

fn random_u64() -> Result<u64, EngineError> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(std::io::Error::from)?;
    assert_eq!(filled, bytes.len(), "getrandom fills up to 256 bytes");
    Ok(u64::from_le_bytes(bytes))
}
