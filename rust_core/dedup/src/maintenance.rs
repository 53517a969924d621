//! Spills, merges and removals.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use penstock_disk::{CrashPoint, Filesystem};
use penstock_model::Position;

use crate::dedup::{Dedup, Garbage, MEMORY_SLOTS};
use crate::error::{DedupError, at};
use crate::generation::{Generation, SharedIds};
use crate::names;
use crate::options::{MAX_FAILED_CHECKS, MAX_GENERATIONS, MAX_RUNS, MERGE_FAN_IN};
use crate::run::{Run, RunFault};
use crate::run_writer::{RunSpan, merge, spill};

#[derive(Debug)]
enum Work {
    Nothing,
    Spill { span: RunSpan, keys: SharedIds },
    Check { run: Arc<Run> },
    Merge { span: RunSpan, runs: Vec<Arc<Run>> },
}

/// Work on the disk; [`Self::run`] does it without the lock.
#[derive(Debug)]
#[must_use = "run it and give the result to finish_maintenance"]
pub struct MaintenanceJob {
    filesystem: Arc<dyn Filesystem>,
    directory: PathBuf,
    garbage: Vec<Garbage>,
    work: Work,
}

#[derive(Debug)]
enum WorkDone {
    Nothing,
    Spilled {
        number: u64,
        outcome: Result<Run, DedupError>,
    },
    Checked {
        run: Arc<Run>,
        outcome: Result<(), RunFault>,
    },
    Merged {
        span: RunSpan,
        outcome: Result<Run, DedupError>,
    },
}

/// What became of a [`MaintenanceJob`]; for [`Dedup::finish_maintenance`].
#[derive(Debug)]
#[must_use = "give it to finish_maintenance"]
pub struct MaintenanceDone {
    /// Files that could not be removed.
    garbage: Vec<Garbage>,
    removal: Result<(), DedupError>,
    work: WorkDone,
}

impl MaintenanceDone {
    /// A file that a lookup or a merge could not read, and that was read whole since.
    pub fn read_again(&self) -> Option<&Path> {
        match &self.work {
            WorkDone::Checked {
                run,
                outcome: Ok(()),
            } => Some(&run.path),
            _ => None,
        }
    }
}

impl MaintenanceJob {
    /// Does the work. Call without the lock. Cost: up to reading and writing a quarter of the
    /// window's runs.
    pub fn run(self) -> MaintenanceDone {
        let (garbage, removal) = self.remove_garbage();
        let work = match self.work {
            Work::Nothing => WorkDone::Nothing,
            Work::Spill { span, keys } => WorkDone::Spilled {
                number: span.last,
                outcome: spill(&*self.filesystem, &self.directory, span, &keys),
            },
            Work::Check { run } => WorkDone::Checked {
                outcome: run.check(),
                run,
            },
            Work::Merge { span, runs } => WorkDone::Merged {
                span,
                outcome: merge(&*self.filesystem, &self.directory, span, &runs),
            },
        };
        MaintenanceDone {
            garbage,
            removal,
            work,
        }
    }

    /// Only removes what something published and synced stands for, or what is out of the window.
    /// A removal that a crash undoes is found and done again at open.
    fn remove_garbage(&self) -> (Vec<Garbage>, Result<(), DedupError>) {
        let mut left = Vec::new();
        let mut result = Ok(());
        for one in &self.garbage {
            let done = if one.keep_aside {
                self.filesystem
                    .rename(&one.path, &names::damaged(&one.path))
            } else {
                self.filesystem.remove_file(&one.path)
            };
            match done {
                Ok(()) => CrashPoint::DedupFileRemoved.pass(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    result = Err(at(&one.path)(error));
                    left.push(Garbage {
                        path: one.path.clone(),
                        bytes: one.bytes,
                        keep_aside: one.keep_aside,
                    });
                }
            }
        }
        if !self.garbage.is_empty() && result.is_ok() {
            result = self
                .filesystem
                .sync_dir(&self.directory)
                .map_err(at(&self.directory));
        }
        (left, result)
    }
}

impl Dedup {
    /// The next piece of work, if there is any: a spill before all else, else as
    /// [`Self::begin_tidying`]. `durable`: records up to it are synced in the WAL.
    ///
    /// For one thread that does everything. Call until it gives `None` or a job fails, several times
    /// a second. Where ids come fast, two threads should call [`Self::begin_spill`] and
    /// [`Self::begin_tidying`]: a merge may take seconds.
    pub fn begin_maintenance(&mut self, durable: Position) -> Option<MaintenanceJob> {
        self.begin_spill(durable).or_else(|| self.begin_tidying())
    }

    /// The oldest generation to disk, if it is full and its records are synced in the WAL, which
    /// they are up to `durable`. One spill at a time; it never waits for a merge.
    ///
    /// Call until it gives `None` or a job fails, several times a second while ids come fast: four
    /// generations are all that memory holds, and the ids of a fifth push the oldest out.
    pub fn begin_spill(&mut self, durable: Position) -> Option<MaintenanceJob> {
        self.durable = self.durable.max(durable);
        for generation in &mut self.generations {
            generation.note_durable(self.durable);
        }
        if self.spilling {
            return None;
        }
        self.expire();
        let work = self.choose_spill();
        self.share_runs();
        let work = work?;
        self.spilling = true;
        Some(self.job(work))
    }

    /// The check of a run that could not be read, a merge of runs, or the removal of files, if there
    /// is any to do. One at a time; may take seconds. Nothing depends on it but the number of runs,
    /// the disk, and lookups that a doubted run can't answer.
    pub fn begin_tidying(&mut self) -> Option<MaintenanceJob> {
        if self.tidying {
            return None;
        }
        self.expire();
        self.share_runs();
        // A merge would only meet again what can't be read.
        let work = self.choose_check().or_else(|| self.choose_merge());
        let work = work.unwrap_or(Work::Nothing);
        if matches!(work, Work::Nothing) && self.garbage.is_empty() {
            return None;
        }
        self.tidying = true;
        Some(self.job(work))
    }

    fn job(&mut self, work: Work) -> MaintenanceJob {
        MaintenanceJob {
            filesystem: Arc::clone(&self.filesystem),
            directory: self.directory.clone(),
            garbage: std::mem::take(&mut self.garbage),
            work,
        }
    }

    /// True if a generation waits for its spill.
    pub fn needs_maintenance(&self) -> bool {
        self.generations.len() > 1
    }

    /// Does all the work that there is, on the calling thread; for recovery, where the ids of the
    /// whole WAL are entered at once: call it whenever [`Self::needs_maintenance`]. `durable` as in
    /// [`Self::begin_spill`].
    ///
    /// On `Err` nothing durable is lost; ids are dropped once four generations are full, and
    /// [`crate::DedupStats`] counts them.
    pub fn maintain_now(&mut self, durable: Position) -> Result<(), DedupError> {
        while let Some(job) = self.begin_maintenance(durable) {
            self.finish_maintenance(job.run())?;
        }
        Ok(())
    }

    /// Ends a job. On `Err` the work will be handed out again, and nothing durable is lost but what
    /// [`crate::DedupStats::damaged_runs`] counts.
    pub fn finish_maintenance(&mut self, done: MaintenanceDone) -> Result<(), DedupError> {
        self.garbage.extend(done.garbage);
        let result = self.finish_work(done.work);
        self.share_runs();
        result.and(done.removal)
    }

    fn finish_work(&mut self, work: WorkDone) -> Result<(), DedupError> {
        let (span, outcome) = match work {
            WorkDone::Spilled { number, outcome } => return self.finish_spill(number, outcome),
            WorkDone::Nothing => {
                self.tidying = false;
                return Ok(());
            }
            WorkDone::Checked { run, outcome } => {
                self.tidying = false;
                return self.finish_check(&run, outcome);
            }
            WorkDone::Merged { span, outcome } => (span, outcome),
        };
        self.tidying = false;
        self.merging = None;
        self.job_memory_bytes = 0;
        self.job_disk_bytes = 0;
        let run = outcome?;
        let within = |one: &Run| one.first >= span.first && one.last <= span.last;
        let left = self.runs.iter().filter(|one| within(one)).count();
        if left < MERGE_FAN_IN {
            // One of them was dropped for a budget meanwhile; its ids must not come back with the
            // rest, or the budget would be overrun.
            self.discard_runs(vec![Arc::new(run)], false);
            return Ok(());
        }
        let (merged, kept) = self.runs.drain(..).partition(|one| within(one));
        self.runs = kept;
        self.discard_runs(merged, false);
        self.add_run(run);
        Ok(())
    }

    fn finish_spill(
        &mut self,
        number: u64,
        outcome: Result<Run, DedupError>,
    ) -> Result<(), DedupError> {
        self.spilling = false;
        let index = self.generations.iter().position(|one| one.number == number);
        if let Some(generation) = index.and_then(|index| self.generations.get_mut(index)) {
            generation.spilling = false;
        }
        let run = outcome?;
        if let Some(generation) = index.and_then(|index| self.generations.remove(index)) {
            self.discard_logs(&generation);
        }
        self.covers = run.last + 1;
        self.add_run(run);
        Ok(())
    }

    /// Lets lookups without the lock see the runs as they are now.
    pub(crate) fn share_runs(&mut self) {
        self.shared_runs.publish(self.runs.clone(), self.covers);
    }

    pub(crate) fn add_run(&mut self, run: Run) {
        let index = self.runs.partition_point(|one| one.first < run.first);
        self.runs.insert(index, Arc::new(run));
    }

    fn discard_runs(&mut self, runs: Vec<Arc<Run>>, keep_aside: bool) {
        self.garbage.extend(runs.into_iter().map(|run| Garbage {
            path: run.path.clone(),
            bytes: run.disk_bytes(),
            keep_aside,
        }));
    }

    /// Takes away runs that are out of the window, or too many. Those that are being merged stay: what
    /// has expired of them leaves with the others.
    fn expire(&mut self) {
        let window = self.options.window_millis();
        let (now, merging) = (self.now_ms, self.merging);
        let free =
            |run: &Run| merging.is_none_or(|(first, last)| run.last < first || last < run.first);
        let (expired, runs) = self
            .runs
            .drain(..)
            .partition(|run| free(run) && now.saturating_sub(run.newest_ms) > window);
        self.runs = runs;
        self.discard_runs(expired, false);
        while self.runs.len() > MAX_RUNS {
            self.drop_oldest_run();
        }
    }

    fn drop_oldest_run(&mut self) {
        let run = self.runs.remove(0);
        self.note_dropped(run.count, run.newest_ms);
        self.discard_runs(vec![run], false);
    }

    /// What generations leave of the memory for runs.
    fn memory_for_runs(&self) -> u64 {
        let slot = Generation::bytes_for(self.generation_capacity as u64);
        self.options
            .memory_bytes
            .saturating_sub(slot * MEMORY_SLOTS)
    }

    /// The oldest generation if it is frozen and durable. Makes room for it: the oldest run goes if
    /// a budget is used up.
    fn choose_spill(&mut self) -> Option<Work> {
        while self.generations.len() > 1 {
            let oldest = &self.generations[0];
            if oldest.durable_len() < oldest.len() {
                return None;
            }
            let count = oldest.len() as u64;
            if count == 0 {
                if let Some(empty) = self.generations.pop_front() {
                    self.discard_logs(&empty);
                }
                continue;
            }
            // A fifth is left for merges, which hold the old and the new filter at once.
            let memory = self.memory_for_runs() / 5 * 4;
            let fits = |dedup: &Self| {
                let garbage: u64 = dedup.garbage.iter().map(|one| one.bytes).sum();
                dedup.run_memory() + Run::memory_for(count) <= memory
                    && dedup.disk_bytes() - garbage + dedup.job_disk_bytes + Run::disk_for(count)
                        <= dedup.options.disk_bytes
            };
            while !fits(self) && !self.runs.is_empty() {
                self.drop_oldest_run();
            }
            if !fits(self) {
                self.drop_generation(0);
                continue;
            }
            let generation = &mut self.generations[0];
            generation.spilling = true;
            let span = RunSpan {
                first: generation.number,
                last: generation.number,
                oldest_ms: generation.oldest_ms,
                newest_ms: generation.newest_ms,
            };
            return Some(Work::Spill {
                span,
                keys: generation.share(),
            });
        }
        None
    }

    /// The oldest run of which a block could not be read since its last check.
    fn choose_check(&self) -> Option<Work> {
        let run = self.runs.iter().find(|run| {
            // What fails from here on is checked anew.
            run.doubted.swap(false, Ordering::Relaxed)
        })?;
        Some(Work::Check {
            run: Arc::clone(run),
        })
    }

    /// Keeps a run that could be read, and sets one aside that is damaged, or that the disk has not
    /// given back for long: from then on a repeat of its ids is stored once more.
    fn finish_check(
        &mut self,
        run: &Arc<Run>,
        outcome: Result<(), RunFault>,
    ) -> Result<(), DedupError> {
        let Err(fault) = outcome else {
            run.failed_checks.store(0, Ordering::Relaxed);
            return Ok(());
        };
        let failed_checks = run.failed_checks.fetch_add(1, Ordering::Relaxed) + 1;
        let may_pass = matches!(fault, RunFault::Io(_)) && failed_checks < MAX_FAILED_CHECKS;
        let error = run.doubt(fault);
        // A budget may have taken it meanwhile.
        let index = self.runs.iter().position(|one| Arc::ptr_eq(one, run));
        if let Some(index) = index.filter(|_| !may_pass) {
            let run = self.runs.remove(index);
            self.damaged_runs += 1;
            self.discard_runs(vec![run], true);
        }
        Err(error)
    }

    /// The smallest group of neighbours that is worth a merge: each id lands in a run of at least
    /// twice the size, so it is written a logarithmic number of times. Runs that together span more
    /// than a quarter of the window stay apart, so that ids leave in time.
    fn choose_merge(&mut self) -> Option<Work> {
        let span_ms = self.options.window_millis() / 4;
        let memory = self.memory_for_runs() / 5;
        // A merge leaves room for the spills that run beside it, or they would drop runs for it.
        let for_spills = Run::disk_for(self.generation_capacity as u64) * MAX_GENERATIONS as u64;
        let disk_left = self
            .options
            .disk_bytes
            .saturating_sub(self.disk_bytes() + for_spills);
        let total = |runs: &[Arc<Run>]| runs.iter().map(|run| run.count).sum::<u64>();
        let group = self
            .runs
            .windows(MERGE_FAN_IN)
            .filter(|runs| {
                let total = total(runs);
                let largest = runs.iter().map(|run| run.count).max().unwrap_or(0);
                let (first, last) = (&runs[0], &runs[MERGE_FAN_IN - 1]);
                largest * 2 <= total
                    && last.newest_ms.saturating_sub(first.oldest_ms) <= span_ms
                    && Run::memory_for(total) <= memory
                    && Run::disk_for(total) <= disk_left
            })
            .min_by_key(|runs| total(runs))?;
        let runs = group.to_vec();
        self.job_memory_bytes = Run::memory_for(total(&runs));
        self.job_disk_bytes = Run::disk_for(total(&runs));
        let span = RunSpan {
            first: runs[0].first,
            last: runs[MERGE_FAN_IN - 1].last,
            oldest_ms: runs.iter().map(|run| run.oldest_ms).min().unwrap_or(0),
            newest_ms: runs.iter().map(|run| run.newest_ms).max().unwrap_or(0),
        };
        self.merging = Some((span.first, span.last));
        Some(Work::Merge { span, runs })
    }

    /// Makes room for one more generation on the calling thread; for opening.
    pub(crate) fn make_room_now(&mut self) -> Result<(), DedupError> {
        while self.generations.len() >= MAX_GENERATIONS - 1 {
            let Some(job) = self.begin_maintenance(Position::ZERO) else {
                break;
            };
            let done = job.run();
            self.finish_maintenance(done)?;
        }
        Ok(())
    }
}
