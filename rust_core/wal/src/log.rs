//! The log: its threads, and what can be asked of it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use penstock_disk::{CrashPoint, Filesystem};
use penstock_model::{Clock, LaneId, Position};

use crate::aside;
use crate::error::{AppendError, Context, LogError, OpenError};
use crate::index::{Index, LaneSpan};
use crate::prepare::Preparer;
use crate::queue::{LogState, Queue};
use crate::reader::{DamagedRange, LogReader};
use crate::recover::{Seals, recover};
use crate::release::{ReleaseReport, Releaser};
use crate::report::{Damage, Recovery};
use crate::seal::{self, Seal, SealTag};
use crate::writer::{Writer, fill_random, frame_bytes};
use crate::{GroupSink, LogRecord};

/// Settings of a log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Size of a file. 64 MiB: a release gives back little at a time, and a new file a second at
    /// full speed costs nothing.
    pub file_bytes: u64,
    /// Most bytes in a commit group, or one record. 4 MiB: larger ones make p99 worse, not the rate
    /// better.
    pub max_group_bytes: u64,
    /// Most bytes in the log, as [`Log::used_bytes`] counts, and the padding of the groups in the
    /// queue more. Less than two files would stand still, since the newest is never released.
    pub max_wal_bytes: u64,
    /// Released files kept for reuse: writing to one is about twice as fast as to a new one, and
    /// a file that is removed makes the disk slow where the file system tells it so (`discard`).
    /// 16, a GiB: what 200 MB/s leave to be released each 5 s.
    pub max_recycled_files: usize,
    /// Most bytes that wait for the log thread, the group that it writes included.
    pub max_queue_bytes: u64,
    /// The next record gets this position or a higher one: one more than the last that is known
    /// from elsewhere to have been synced, as from a table that holds it. A log that ends before it
    /// has lost records, which is reported as damage (WAL-2, WAL-3). 1 if nothing is known.
    pub minimum_next: Position,
}

impl LogOptions {
    const MOST_RECYCLED_FILES: usize = 16;

    /// What a log of `max_wal_bytes` should keep: an eighth of them, but four files at least.
    pub fn recycled_files_for(max_wal_bytes: u64, file_bytes: u64) -> usize {
        let files = max_wal_bytes / 8 / file_bytes.max(1);
        usize::try_from(files).map_or(Self::MOST_RECYCLED_FILES, |files| {
            files.clamp(4, Self::MOST_RECYCLED_FILES)
        })
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            file_bytes: 64 * MIB,
            max_group_bytes: 4 * MIB,
            max_wal_bytes: 16 * 1024 * MIB,
            max_recycled_files: Self::MOST_RECYCLED_FILES,
            max_queue_bytes: 256 * MIB,
            minimum_next: Position::new(1),
        }
    }
}

/// What the log thread, the helper and the callers share.
struct Shared<R> {
    directory: PathBuf,
    queue: Mutex<Queue<R>>,
    /// The log thread waits here for records, and reopening for the end of a failure.
    changed: Condvar,
    /// Locked while a group is written, and to reopen.
    writer: Mutex<Writer>,
    index: Arc<Mutex<Index>>,
    preparer: Arc<Preparer>,
    sink: Arc<dyn GroupSink<R>>,
    /// Stored after the index has the records, so that who sees the one sees the other.
    durable: Arc<AtomicU64>,
    /// Bytes of the files, as the index counts them; here so that an append need not lock it.
    live_bytes: AtomicU64,
}

/// A log, open for appending. Dropping it closes it.
pub struct Log<R: LogRecord> {
    shared: Arc<Shared<R>>,
    filesystem: Arc<dyn Filesystem>,
    releaser: Releaser,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<R: LogRecord> fmt::Debug for Log<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Log")
            .field("durable", &self.durable_position())
            .finish_non_exhaustive()
    }
}

impl<R: LogRecord> Log<R> {
    /// Recovers the log in `directory`, or makes a new one, and starts its threads.
    ///
    /// The caller holds the lock of the data directory. Positions go on behind the last record
    /// that left a trace. A record that was queued or being written when the power was cut leaves
    /// none, and its position may be given out again, in another lane; nobody was told that it was
    /// stored (WAL-3 holds for all that was ever synced, and for all that this process gave up).
    /// Durability: on `Ok`, everything that the log gives back is synced.
    /// Cost: reads the files without a seal once, as a rule the last one or two.
    pub fn open(
        filesystem: Arc<dyn Filesystem>,
        directory: &Path,
        options: LogOptions,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn GroupSink<R>>,
    ) -> Result<(Self, Recovery), OpenError> {
        let (log, recovery) =
            Self::open_without_threads(filesystem, directory, options, clock, sink)?;
        let shared = Arc::clone(&log.shared);
        let preparer = Arc::clone(&log.shared.preparer);
        let started = [
            thread::Builder::new()
                .name("penstock-log".into())
                .spawn(move || shared.run()),
            thread::Builder::new()
                .name("penstock-wal-file".into())
                .spawn(move || preparer.run()),
        ];
        for thread in started {
            log.threads
                .lock()
                .push(thread.context("start a thread for", directory)?);
        }
        Ok((log, recovery))
    }

    /// As [`Self::open`], but groups are written by `step` only: for tests and simulators, which
    /// have that too.
    pub fn open_without_threads(
        filesystem: Arc<dyn Filesystem>,
        directory: &Path,
        options: LogOptions,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn GroupSink<R>>,
    ) -> Result<(Self, Recovery), OpenError> {
        let recovered = recover(&*filesystem, directory, &options, Seals::Believed)?;
        let last = recovered.recovery.last;
        let preparer = Arc::new(Preparer::new(
            Arc::clone(&filesystem),
            directory,
            options.file_bytes,
            options.max_recycled_files,
            recovered.spares,
            recovered.last_sequence,
        ));
        let live_bytes = recovered.index.used_bytes();
        let index = Arc::new(Mutex::new(recovered.index));
        let directory: PathBuf = directory.to_path_buf();
        let writer = Writer::new(
            Arc::clone(&filesystem),
            directory.clone(),
            options.file_bytes,
            clock,
            Arc::clone(&preparer),
            Arc::clone(&index),
            last,
        );
        let next_lane = random_lane(&directory)?;
        let queue = Queue::new(options, recovered.passed.next(), next_lane);
        let releaser = Releaser::new(
            Arc::clone(&filesystem),
            directory.clone(),
            Arc::clone(&index),
            Arc::clone(&preparer),
        );
        let shared = Arc::new(Shared {
            directory,
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            writer: Mutex::new(writer),
            index,
            preparer,
            sink,
            durable: Arc::new(AtomicU64::new(last.get())),
            live_bytes: AtomicU64::new(live_bytes),
        });
        let log = Self {
            shared,
            filesystem,
            releaser,
            threads: Mutex::new(Vec::new()),
        };
        Ok((log, recovered.recovery))
    }

    /// Queues a record and fixes its place. Never waits for I/O.
    ///
    /// Durability: none; the sink is told when the record is synced, or that it never will be.
    /// On `Err` the record comes back and nothing was stored.
    pub fn append(&self, record: R) -> Result<Position, (R, AppendError)> {
        let bytes = frame_bytes(&record);
        let mut queue = self.shared.queue.lock();
        let live_bytes = self.shared.live_bytes.load(Ordering::Relaxed);
        let position = queue.push(record, bytes, live_bytes)?;
        let wake = std::mem::take(&mut queue.sleeping);
        drop(queue);
        if wake {
            self.shared.changed.notify_all();
        }
        Ok(position)
    }

    /// The position that the next append gets, if no other comes between.
    pub fn next_position(&self) -> Position {
        self.shared.queue.lock().next_position()
    }

    /// The last record that is synced.
    pub fn durable_position(&self) -> Position {
        Position::new(self.shared.durable.load(Ordering::Acquire))
    }

    /// Lanes with synced records in the log, oldest first.
    pub fn lanes(&self) -> Vec<LaneSpan> {
        self.shared.index.lock().lanes()
    }

    /// This opening's lane; none before its first append.
    pub fn current_lane(&self) -> Option<LaneId> {
        self.shared.queue.lock().lane()
    }

    /// Reads synced records from `from` on, in order. Comes to [`Self::durable_position`] always,
    /// if need be by a gap.
    pub fn reader(&self, from: Position) -> LogReader {
        LogReader::new(
            Arc::clone(&self.filesystem),
            Arc::clone(&self.shared.index),
            Arc::clone(&self.shared.durable),
            from.previous(),
        )
    }

    /// Lets go of the files whose records are all at or below `up_to`.
    ///
    /// The newest file with records stays, since it tells the position to go on from (WAL-3).
    /// Durability: on `Ok`, no opening gives the released records back. On `Err`, some files may
    /// have been released; may be tried again.
    pub fn release(&self, up_to: Position) -> Result<ReleaseReport, LogError> {
        let result = self.releaser.release(up_to);
        self.shared.count_bytes();
        result
    }

    /// Gives the space of released files back that were kept for reuse, as far as they can be removed.
    pub fn drop_spares(&self) {
        self.shared.preparer.drop_spares();
    }

    /// The last record of the newest closed file that has no seal with `tag`.
    pub fn unsealed(&self, tag: &SealTag) -> Option<Position> {
        let index = self.shared.index.lock();
        index.newest_unsealed(tag).map(|file| file.last)
    }

    /// Seals the closed files whose records are all at or below `up_to`, so that the next opening
    /// need not read them. What `tag` stands for must be durable for all of these records. Returns
    /// how many files were sealed.
    ///
    /// Durability: on `Ok`, the seals survive a power cut. On `Err`, some may have been made; may be
    /// tried again. Cost: two syncs a file, on the caller's thread; releases wait for them.
    pub fn seal(&self, up_to: Position, tag: &SealTag) -> Result<u64, LogError> {
        let mut sealed = 0;
        loop {
            // A file that is released meanwhile would leave its seal behind.
            let _held = self.releaser.hold();
            let seal = {
                let index = self.shared.index.lock();
                let oldest = index.oldest_unsealed(tag).filter(|file| file.last <= up_to);
                oldest.map(|file| Seal::of(file, *tag))
            };
            let Some(seal) = seal else {
                return Ok(sealed);
            };
            seal::publish(&*self.filesystem, &self.shared.directory, &seal)?;
            if let Some(file) = self.shared.index.lock().file_mut(seal.sequence) {
                file.seal = Some(*tag);
            }
            sealed += 1;
        }
    }

    /// Takes all seals away: what their tags stand for is no longer true.
    ///
    /// Durability: on `Ok`, none comes back. On `Err`, some may be left; may be tried again.
    pub fn break_seals(&self) -> Result<(), LogError> {
        let _held = self.releaser.hold();
        let directory = &self.shared.directory;
        let sealed: Vec<u64> = {
            let index = self.shared.index.lock();
            let sealed = index.files.iter().filter(|file| file.seal.is_some());
            sealed.map(|file| file.sequence).collect()
        };
        if sealed.is_empty() {
            return Ok(());
        }
        for sequence in &sealed {
            seal::remove(&*self.filesystem, directory, *sequence)?;
        }
        self.filesystem
            .sync_dir(directory)
            .context("sync", directory)?;
        for file in &mut self.shared.index.lock().files {
            file.seal = None;
        }
        Ok(())
    }

    /// Spans of synced records, as (before the first, last), in files that have no seal with `tag`;
    /// `None` stands for a tag that none has. In log order.
    pub fn spans_without(&self, tag: Option<&SealTag>) -> Vec<(Position, Position)> {
        self.shared.index.lock().spans_without(tag)
    }

    /// Keeps bad bytes that a reader met aside, and takes the seal of their file away, so that the
    /// next opening looks too (WAL-2). `None` if the file was released meanwhile.
    ///
    /// Durability: on `Ok`, the copy survives a power cut. On `Err`, nothing must pass the records
    /// that are missing; may be tried again.
    pub fn keep_damage(&self, found: &DamagedRange) -> Result<Option<Damage>, LogError> {
        let _held = self.releaser.hold();
        let directory = &self.shared.directory;
        let path = {
            let mut index = self.shared.index.lock();
            let file = index.file_mut(found.sequence);
            let Some(file) = file.filter(|file| file.generation == found.generation) else {
                return Ok(None);
            };
            file.damaged = true;
            file.seal = None;
            file.path.clone()
        };
        let earlier = aside::list(&*self.filesystem, directory)?;
        let file = (path.as_path(), found.sequence);
        let damage = aside::keep(&*self.filesystem, directory, &earlier, file, found.bad)?;
        seal::remove(&*self.filesystem, directory, found.sequence)?;
        Ok(Some(damage))
    }

    /// True if [`Self::release`] would let go of a file.
    pub fn could_release(&self, up_to: Position) -> bool {
        self.releaser.could_release(up_to)
    }

    /// Bytes written in the log's files, and in the queue. Space that is reserved and not written
    /// is not counted: less than a group in each file, and at most two files and the spare ones.
    pub fn used_bytes(&self) -> u64 {
        let pending_bytes = self.shared.queue.lock().pending_bytes();
        self.shared
            .live_bytes
            .load(Ordering::Relaxed)
            .saturating_add(pending_bytes)
    }

    /// Synced records after `after`, and their bytes to within 1 MiB a file.
    pub fn backlog(&self, after: Position) -> (u64, u64) {
        self.shared.index.lock().backlog(after)
    }

    /// Whether the log takes records.
    pub fn state(&self) -> LogState {
        self.shared.queue.lock().state.clone()
    }

    /// Takes records again after a failure: cuts what was not synced, and starts a new file in a new
    /// lane. Positions go on; those that were given up are passed. Does nothing if the log is open.
    ///
    /// Waits until the sink has been told of the failure; not to be called by the sink.
    /// On `Err` the log stays as it is; may be tried again, unless [`LogError::is_fatal`]: after a
    /// panic only a new process can go on. A closed log stays closed.
    pub fn reopen(&self) -> Result<(), LogError> {
        {
            let mut queue = self.shared.queue.lock();
            while queue.failing {
                self.shared.changed.wait(&mut queue);
            }
        }
        let mut writer = self.shared.writer.lock();
        match self.state() {
            LogState::Poisoned { error } if error.is_fatal() => return Err(error),
            LogState::Poisoned { .. } => {}
            LogState::Open | LogState::Closed => return Ok(()),
        }
        writer.reopen()?;
        let next_lane = random_lane(&self.shared.directory)?;
        let mut queue = self.shared.queue.lock();
        if matches!(&queue.state, LogState::Poisoned { error } if !error.is_fatal()) {
            queue.reopen(next_lane);
        }
        drop(queue);
        drop(writer);
        self.shared.count_bytes();
        Ok(())
    }

    /// Takes no more records, syncs those that are queued, and ends the threads.
    pub fn close(&self) {
        {
            let mut queue = self.shared.queue.lock();
            queue.state = LogState::Closed;
            queue.sleeping = false;
            self.shared.changed.notify_all();
        }
        self.shared.preparer.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A panic there was reported by the thread; there is nothing to add.
            drop(thread.join());
        }
    }

    /// Writes one group, as the log thread does. False if there was none.
    #[cfg(any(test, feature = "testing"))]
    pub fn step(&self) -> bool {
        self.shared.step()
    }
}

impl<R: LogRecord> Drop for Log<R> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<R: LogRecord> Shared<R> {
    /// The log thread: one group after the other; what arrives during a sync is the next group.
    fn run(&self) {
        loop {
            {
                let mut queue = self.queue.lock();
                while queue.is_empty() {
                    if matches!(queue.state, LogState::Closed) {
                        return;
                    }
                    queue.sleeping = true;
                    self.changed.wait(&mut queue);
                }
                queue.sleeping = false;
            }
            self.step();
        }
    }

    /// Writes a group, if there is one. A panic on the way ends the log, so that nobody waits for an
    /// answer that does not come.
    fn step(&self) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.write_group())).unwrap_or_else(|_| {
            self.give_up();
            true
        })
    }

    fn write_group(&self) -> bool {
        // Before the queue: whoever reopens holds the writer and then takes the queue.
        let mut writer = self.writer.lock();
        let Some(group) = self.queue.lock().take_group() else {
            return false;
        };
        // Guarded apart from the rest, so that the records can be given back.
        let write = AssertUnwindSafe(|| writer.write_synced(group.lane, &group.records));
        let result = catch_unwind(write)
            .unwrap_or_else(|_| Err(LogError::panicked("write to", &self.directory)));
        match result {
            Ok(()) => {
                drop(writer);
                self.count_bytes();
                if let Some((last, _)) = group.records.last() {
                    self.durable.store(last.get(), Ordering::Release);
                }
                self.queue.lock().group_done();
                CrashPoint::WalGroupSynced.pass();
                self.sink.group_synced(group.records);
            }
            Err(error) => {
                let mut failed = group.records;
                failed.extend(self.queue.lock().poison(&error));
                drop(writer);
                self.sink.group_failed(failed, &error);
                self.failure_told();
            }
        }
        true
    }

    fn failure_told(&self) {
        self.queue.lock().failing = false;
        self.changed.notify_all();
    }

    /// After a panic: takes nothing more, and tells the sink of what is queued. The group at which
    /// it happened is lost on the way; the sink knows of it as far as it was told.
    fn give_up(&self) {
        let error = LogError::panicked("go on with", &self.directory);
        let failed = self.queue.lock().poison(&error).collect();
        let told = catch_unwind(AssertUnwindSafe(|| self.sink.group_failed(failed, &error)));
        // A second panic was reported like the first, by the panic hook; the state says the rest.
        drop(told);
        self.failure_told();
    }

    fn count_bytes(&self) {
        // Under the lock, so that two counts can't be stored in the wrong order.
        let index = self.index.lock();
        self.live_bytes.store(index.used_bytes(), Ordering::Relaxed);
        drop(index);
    }
}

fn random_lane(directory: &Path) -> Result<LaneId, LogError> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes).context("draw a lane for", directory)?;
    Ok(LaneId::from_bytes(bytes))
}
