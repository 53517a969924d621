//! Opening: what an earlier process left.

use std::path::Path;
use std::sync::Arc;

use penstock_disk::Filesystem;
use penstock_model::Position;

use crate::dedup::{Dedup, Garbage};
use crate::error::{DedupError, at};
use crate::generation::Generation;
use crate::id_log::{self, LoadedLog};
use crate::key::KeyHasher;
use crate::names::{self, FileName};
use crate::options::{DedupOptions, MAX_DAMAGED_FILES, RunningTime};
use crate::run::{Run, RunFault};
use crate::secret::load_secret;

/// Bytes of an id log in which nothing can be read, between batches that can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedIds {
    pub file: String,
    pub first_byte: u64,
    pub last_byte: u64,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    pub runs: u64,
    pub ids_on_disk: u64,
    /// Ids from id logs.
    pub ids_in_memory: u64,
    /// Bytes behind the last whole batch of an id log. Nothing is lost: those ids come from the
    /// WAL again.
    pub torn_bytes: u64,
    /// Runs set aside because a block of them is damaged; repeats of their ids will be stored.
    pub damaged_runs: Vec<String>,
    /// Repeats of the ids that stood there will be stored.
    pub damaged_logs: Vec<DamagedIds>,
    pub running_time_ms: u64,
}

impl OpenReport {
    /// Whether all that was ever written could be read.
    pub fn is_whole(&self) -> bool {
        self.torn_bytes == 0 && self.damaged_runs.is_empty() && self.damaged_logs.is_empty()
    }
}

impl Dedup {
    /// Opens or creates the state in `directory`.
    ///
    /// The caller holds the data directory's lock. Then it enters the ids of all whole records of
    /// the WAL again. Durability: the directory and its secret, on `Ok`.
    /// Errors: [`DedupError::Secret`] needs a person; [`DedupError::Io`] may pass.
    /// Cost: every run is read once to check it and to make its filter, about 1 s a gigabyte.
    pub fn open(
        filesystem: Arc<dyn Filesystem>,
        directory: &Path,
        options: DedupOptions,
        now: RunningTime,
    ) -> Result<(Self, OpenReport), DedupError> {
        filesystem
            .create_dir_synced(directory)
            .map_err(at(directory))?;
        // A killed process may have left a run whose name is not durable: it must be, before what
        // the run stands for is removed (DUP-2).
        filesystem.sync_dir(directory).map_err(at(directory))?;
        let mut run_names = Vec::new();
        let mut log_numbers = Vec::new();
        let mut damaged_files = Vec::new();
        let mut temporary_files = Vec::new();
        for name in filesystem.read_dir(directory).map_err(at(directory))? {
            let path = directory.join(&name);
            match name.to_str().and_then(names::parse) {
                Some(FileName::IdLog(number)) => log_numbers.push(number),
                Some(FileName::Run { first, last }) => run_names.push((first, last)),
                Some(FileName::Damaged) => damaged_files.push(path),
                Some(FileName::Temporary) => temporary_files.push(path),
                None => {}
            }
        }
        let has_state = !run_names.is_empty() || !log_numbers.is_empty();
        let secret = load_secret(&*filesystem, directory, has_state)?;
        let hasher = KeyHasher::new(secret);
        let mut dedup = Self::empty(filesystem, directory.to_path_buf(), options, hasher, now)?;
        let highest = run_names
            .iter()
            .map(|(_, last)| *last)
            .chain(log_numbers.clone())
            .max();
        dedup.next_number = highest.map_or(0, |number| names::last_number(number) + 1);
        let excess = damaged_files.len().saturating_sub(MAX_DAMAGED_FILES);
        for path in temporary_files
            .into_iter()
            .chain(damaged_files.into_iter().take(excess))
        {
            dedup.garbage.push(Garbage {
                path,
                bytes: 0,
                keep_aside: false,
            });
        }
        let mut report = OpenReport::default();
        dedup.load_runs(run_names, &mut report)?;
        dedup.load_logs(log_numbers, &mut report)?;
        dedup.share_runs();
        report.running_time_ms = dedup.now_ms;
        Ok((dedup, report))
    }

    /// Cuts what [`OpenReport::torn_bytes`] counts, once nothing vouches for ids in it any more: else
    /// every opening would meet it, until its generation becomes a run.
    ///
    /// Durability: on `Ok`, the next opening does not find it.
    pub fn cut_torn_logs(&mut self) -> Result<(), DedupError> {
        for (path, end) in std::mem::take(&mut self.torn_logs) {
            let file = self.filesystem.open_read_write(&path).map_err(at(&path))?;
            file.set_len(end).map_err(at(&path))?;
            file.sync_all().map_err(at(&path))?;
        }
        Ok(())
    }

    fn load_runs(
        &mut self,
        mut run_names: Vec<(u64, u64)>,
        report: &mut OpenReport,
    ) -> Result<(), DedupError> {
        // A merged run comes before those that it replaces, which a crash may have left.
        run_names.sort_unstable_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
        for (first, last) in run_names {
            let path = names::run(&self.directory, first, last);
            if self
                .runs
                .iter()
                .any(|run| run.first <= first && last <= run.last)
            {
                self.garbage.push(Garbage {
                    path,
                    bytes: 0,
                    keep_aside: false,
                });
                continue;
            }
            match Run::open(&*self.filesystem, &path, first, last) {
                Ok(run) => {
                    self.base_ms = self.base_ms.max(run.newest_ms);
                    report.runs += 1;
                    report.ids_on_disk += run.count;
                    self.add_run(run);
                }
                Err(RunFault::Io(error)) => return Err(at(&path)(error)),
                Err(RunFault::Damaged) => {
                    self.damaged_runs += 1;
                    let name = path.file_name().unwrap_or_default();
                    report
                        .damaged_runs
                        .push(name.to_string_lossy().into_owned());
                    self.garbage.push(Garbage {
                        path,
                        bytes: 0,
                        keep_aside: true,
                    });
                }
            }
        }
        Ok(())
    }

    /// Fills generations from the logs. The last one goes on as the newest, with a new log.
    fn load_logs(
        &mut self,
        mut numbers: Vec<u64>,
        report: &mut OpenReport,
    ) -> Result<(), DedupError> {
        numbers.sort_unstable();
        let covered = self.runs.iter().map(|run| run.last).max();
        for group in numbers.chunk_by(|a, b| names::last_number(*a) == names::last_number(*b)) {
            let number = names::last_number(group[0]);
            let mut logs = Vec::new();
            for &number in group {
                if covered.is_some_and(|covered| number <= covered) {
                    let path = names::id_log(&self.directory, number);
                    self.garbage.push(Garbage {
                        path,
                        bytes: 0,
                        keep_aside: false,
                    });
                    continue;
                }
                let log = id_log::load(&*self.filesystem, &self.directory, number)?;
                report.torn_bytes += log.cut_bytes;
                let path = names::id_log(&self.directory, number);
                let name = path.file_name().unwrap_or_default();
                let damaged = log.damaged.iter().map(|range| DamagedIds {
                    file: name.to_string_lossy().into_owned(),
                    first_byte: range.start,
                    last_byte: range.end - 1,
                });
                report.damaged_logs.extend(damaged);
                if log.cut_bytes > 0 {
                    self.torn_logs.push((path, log.bytes - log.cut_bytes));
                }
                self.base_ms = self.base_ms.max(log.ids.newest_ms);
                logs.push((number, log));
            }
            self.now_ms = self.base_ms;
            if !logs.is_empty() {
                report.ids_in_memory += self.load_generation(number, logs);
                // Smaller budgets than those of the earlier process must not overflow.
                self.make_room_now()?;
            }
        }
        self.now_ms = self.base_ms;
        match self.generations.back().map(Generation::room) {
            Some(room) if room > 0 => {
                let number = self.take_number();
                if let Some(active) = self.generations.back_mut() {
                    active.number = number;
                    active.next_log = names::first_number(number);
                }
            }
            _ => self.add_generation(),
        }
        Ok(())
    }

    /// Adds the ids of one earlier generation, to the newest one if they fit.
    fn load_generation(&mut self, number: u64, logs: Vec<(u64, LoadedLog)>) -> u64 {
        let count: usize = logs.iter().map(|(_, log)| log.ids.keys.len()).sum();
        if self
            .generations
            .back()
            .is_none_or(|newest| newest.room() < count)
        {
            let capacity = self.generation_capacity.max(count);
            self.add_generation_of(number, capacity);
        }
        let mut added = 0;
        let Some(newest) = self.generations.back_mut() else {
            return 0;
        };
        newest.number = number;
        for (number, log) in logs {
            newest.logs.push((number, log.bytes));
            let was_empty = newest.len() == 0;
            for key in log.ids.keys {
                // What is there needs no room.
                let is_new = !newest.contains(key)
                    && newest.push_new(key, Position::ZERO, log.ids.newest_ms, &mut self.summary);
                added += u64::from(is_new);
            }
            if was_empty || log.ids.oldest_ms < newest.oldest_ms {
                newest.oldest_ms = log.ids.oldest_ms;
            }
        }
        newest.set_persisted(newest.len());
        added
    }
}
