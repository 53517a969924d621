//! Housekeeping on a clock: bring a failed log back, maintain deduplication, delete salts, end waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use penstock_dedup::{MaintenanceJob, RunningTime};
use penstock_disk::Filesystem;
use penstock_model::Code;
use penstock_wal::{Log, LogState};

use crate::journal::LogLevel;
use crate::shared::{PendingRecord, Shared, error_code};

/// Often enough that a deadline of whole seconds is kept, rare enough to cost nothing.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Between two tries to bring a failed log back. A disk that was full for a moment should not cost
/// more than one retry of a client (`Retry-After` is at least 1 s).
const REOPEN_EVERY_NANOS: u64 = 1_000_000_000;

/// Files of the log that must fit before requests are taken after a full disk: the next one, and the
/// one that is prepared behind it.
const LOG_FILES_AHEAD: u64 = 2;

/// The file that is given up when the disk is full, so that what was acknowledged can still be
/// written to the tables.
pub(crate) struct Reserve {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) held: bool,
}

impl Reserve {
    /// Makes the file, if it is configured and not there. Errors mean that there is no room.
    pub(crate) fn hold(&mut self, filesystem: &dyn Filesystem) -> std::io::Result<()> {
        if self.bytes == 0 || self.held {
            return Ok(());
        }
        let made = crate::directory::preallocate(filesystem, &self.path, self.bytes);
        if made.is_err() {
            self.free(filesystem);
        }
        self.held = made.is_ok();
        made
    }

    /// Gives the room back to the file system.
    pub(crate) fn free(&mut self, filesystem: &dyn Filesystem) {
        self.held = false;
        drop(filesystem.remove_file(&self.path));
    }
}

pub(crate) struct Supervisor<T: Send + 'static> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) log: Arc<Log<PendingRecord<T>>>,
    pub(crate) filesystem: Arc<dyn Filesystem>,
    pub(crate) reserve: Reserve,
    /// The data directory.
    pub(crate) root: PathBuf,
    pub(crate) stop: Arc<StopSignal>,
    /// When bringing a failed log back was last tried.
    pub(crate) last_try_nanos: u64,
}

/// Ends the supervisor's waits.
#[derive(Debug, Default)]
pub(crate) struct StopSignal {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl StopSignal {
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// True once stopped.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, timeout);
        }
        *stopped
    }
}

impl<T: Send + 'static> Supervisor<T> {
    pub(crate) fn run(&mut self) {
        while !self.stop.wait(TICK) {
            self.turn();
        }
    }

    /// What is due at each tick.
    pub(crate) fn turn(&mut self) {
        let now = self.shared.clock.monotonic_nanos();
        self.shared.expire_table_waiters(now);
        self.spill_dedup(now);
        let wall_us = self.shared.clock.unix_micros();
        self.shared.visitors.expire(wall_us, &self.shared.journal);
        if self.shared.take_flush_starved() {
            self.free_reserve();
        }
        if let Some(code) = self.failure()
            && now.saturating_sub(self.last_try_nanos) >= REOPEN_EVERY_NANOS
        {
            self.last_try_nanos = now;
            self.recover(code);
        }
    }

    /// Why requests are refused. The log itself is asked: a failure that comes while an earlier one
    /// is being mended must not be forgotten with it.
    fn failure(&self) -> Option<Code> {
        match self.log.state() {
            LogState::Poisoned { error } => {
                if error.is_fatal() {
                    // A bug: reopening would go on from a state that nobody can reason about.
                    self.shared.admission.fail();
                }
                Some(error_code(&error))
            }
            LogState::Open | LogState::Closed => self.shared.admission.degraded(),
        }
    }

    /// Gives what was acknowledged the room to get into the tables, and takes nothing more.
    fn free_reserve(&mut self) {
        self.shared.admission.set_degraded(Some(Code::DiskFull));
        if self.reserve.held {
            self.reserve.free(&*self.filesystem);
            self.shared
                .journal
                .add(LogLevel::Error, "disk_full_reserve_freed", vec![]);
        }
        // Up to a GiB more; what flushing releases meanwhile goes at the next try.
        self.log.drop_spares();
        self.shared.backlog.ask_flush();
    }

    /// Tries to bring the log back after a failure. A failed sync is never retried: reopening
    /// cuts everything behind the last good one, none of which was acknowledged, and starts a new
    /// file in a new lane.
    fn recover(&mut self, code: Code) {
        // Taken back too early, the reserve would starve the flush that it was freed for.
        if code == Code::DiskFull && !self.has_room() {
            self.free_reserve();
            return;
        }
        // Admit again only with the reserve back in place: else the next failure finds none.
        if self.reserve.hold(&*self.filesystem).is_err() {
            return;
        }
        if let Err(error) = self.log.reopen() {
            self.shared.admission.set_degraded(Some(error_code(&error)));
            return;
        }
        self.shared.admission.set_degraded(None);
        if let Some(code) = self.failure() {
            self.shared.admission.set_degraded(Some(code));
            return;
        }
        self.shared.metrics.log_reopened.add(1);
        self.shared
            .journal
            .add(LogLevel::Warning, "log_reopened", vec![]);
    }

    /// Whether the disk has room for the reserve, if it is not held, and for the log to go on.
    fn has_room(&self) -> bool {
        let reserve_bytes = if self.reserve.held {
            0
        } else {
            self.reserve.bytes
        };
        let log_bytes = LOG_FILES_AHEAD * self.shared.options.wal_file_bytes;
        self.filesystem
            .free_bytes(&self.root)
            .is_ok_and(|free_bytes| free_bytes >= reserve_bytes + log_bytes)
    }

    /// Moves full generations of ids to disk, until none is left: four are all that memory holds.
    fn spill_dedup(&self, now_nanos: u64) {
        let durable = self.log.durable_position();
        loop {
            let job = {
                let mut sequencer = self.shared.sequencer.lock();
                let Some(dedup) = &mut sequencer.dedup else {
                    return;
                };
                dedup.tick(RunningTime::from_nanos(now_nanos));
                dedup.begin_spill(durable)
            };
            if job.is_none_or(|job| !finish_dedup_job(&self.shared, job)) {
                return;
            }
        }
    }
}

/// Merges runs of ids, on a thread of its own: a merge may take seconds, and nobody waits for it.
pub(crate) struct DedupTidier<T: Send + 'static> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) stop: Arc<StopSignal>,
}

impl<T: Send + 'static> DedupTidier<T> {
    pub(crate) fn run(&self) {
        while !self.stop.wait(TICK) {
            self.turn();
        }
    }

    /// Does the next job, if there is one.
    pub(crate) fn turn(&self) {
        let job = match &mut self.shared.sequencer.lock().dedup {
            Some(dedup) => dedup.begin_tidying(),
            None => None,
        };
        if let Some(job) = job {
            finish_dedup_job(&self.shared, job);
        }
    }
}

/// Does a job without the lock. False if it failed: then it is handed out again later.
fn finish_dedup_job<T: Send + 'static>(shared: &Shared<T>, job: MaintenanceJob) -> bool {
    let done = job.run();
    if let Some(file) = done.read_again() {
        // What failed the first time is gone; without this nothing names the file.
        shared.journal.add(
            LogLevel::Warning,
            "dedup_file_read_again",
            vec![("file", file.display().to_string())],
        );
    }
    let result = match &mut shared.sequencer.lock().dedup {
        Some(dedup) => dedup.finish_maintenance(done),
        None => Ok(()),
    };
    if let Err(error) = &result {
        shared.journal.add(
            LogLevel::Warning,
            "dedup_maintenance_failed",
            vec![("error", error.to_string())],
        );
    }
    result.is_ok()
}
