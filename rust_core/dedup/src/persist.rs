//! Ids to disk before their WAL file goes (DUP-2).

use std::path::PathBuf;
use std::sync::Arc;

use penstock_disk::Filesystem;
use penstock_model::Position;

use crate::dedup::{Dedup, Garbage};
use crate::error::DedupError;
use crate::generation::IdList;
use crate::id_log::{IdBatch, IdLogWriter};
use crate::names;

/// Most ids that one [`Dedup::collect`] copies. Requests wait meanwhile: 0.05 ms; for all ids of a log
/// file at once, 60,000 in random order, they waited 3 to 5 ms.
const IDS_A_COLLECTION: usize = 2048;

#[derive(Debug)]
struct Part {
    generation: u64,
    /// As many as were collected, in the end `count`.
    ids: IdBatch,
    count: usize,
    persisted: usize,
    /// The log to go on with, or the number of the one to make.
    log: Result<Arc<IdLogWriter>, u64>,
}

/// Ids to be written: [`Dedup::collect`] copies them until it has all, piece by piece under the lock,
/// and [`Self::run`] writes them without it.
#[derive(Debug)]
#[must_use = "ids are durable only after collect, run and finish_persist"]
pub struct PersistJob {
    filesystem: Arc<dyn Filesystem>,
    directory: PathBuf,
    parts: Vec<Part>,
    busy: bool,
}

#[derive(Debug)]
struct PartDone {
    generation: u64,
    persisted: usize,
    log_number: u64,
    log_bytes: u64,
    outcome: Result<Arc<IdLogWriter>, DedupError>,
}

/// What became of a [`PersistJob`]; for [`Dedup::finish_persist`].
#[derive(Debug)]
#[must_use = "give it to finish_persist"]
pub struct PersistDone {
    parts: Vec<PartDone>,
    busy: bool,
}

impl PersistJob {
    /// Writes and syncs. Durability: see [`Dedup::finish_persist`]. Call without the lock.
    pub fn run(self) -> PersistDone {
        let parts = self
            .parts
            .into_iter()
            .map(|part| {
                assert_eq!(
                    part.ids.ids.len(),
                    part.count,
                    "all ids are collected first"
                );
                let log_number = part
                    .log
                    .as_ref()
                    .map_or_else(|number| *number, |log| log.number);
                let log = part.log.or_else(|number| {
                    IdLogWriter::create(&*self.filesystem, &self.directory, number).map(Arc::new)
                });
                let outcome = log.and_then(|log| log.append_synced(&part.ids).map(|()| log));
                PartDone {
                    generation: part.generation,
                    persisted: part.persisted,
                    log_number,
                    log_bytes: outcome.as_ref().map_or(0, |log| log.bytes()),
                    outcome,
                }
            })
            .collect();
        PersistDone {
            parts,
            busy: self.busy,
        }
    }
}

impl Dedup {
    /// Says which ids are not on disk yet: at least those of records up to `up_to`, which must be
    /// durable in the WAL: an id on disk whose record was lost would turn a retry into a lost event.
    ///
    /// Then call [`Self::collect`] until it has all. One job at a time.
    pub fn begin_persist(&mut self, up_to: Position) -> PersistJob {
        let busy = std::mem::replace(&mut self.persisting, true);
        self.durable = self.durable.max(up_to);
        let mut parts = Vec::new();
        let newest = self.generations.len() - 1;
        for (index, generation) in self.generations.iter_mut().enumerate() {
            let durable = generation.note_durable(self.durable);
            if busy || durable <= generation.persisted {
                continue;
            }
            let log = generation.log.clone().ok_or(generation.next_log);
            if log.is_err() {
                // 65,535 failures in a row: the last number belongs to the run, so the last log's
                // name is tried again and fails again.
                generation.next_log = (generation.next_log + 1).min(generation.number);
            }
            let ids = generation.unpersisted(durable, index == newest);
            parts.push(Part {
                generation: generation.number,
                ids: IdBatch {
                    ids,
                    oldest_ms: generation.oldest_ms,
                    newest_ms: generation.newest_ms,
                },
                count: durable - generation.persisted,
                persisted: durable,
                log,
            });
        }
        PersistJob {
            filesystem: Arc::clone(&self.filesystem),
            directory: self.directory.clone(),
            parts,
            busy,
        }
    }

    /// Copies the next ids of a job, a few thousand; false if it has all.
    ///
    /// Anything may happen between two calls: ids that are durable stay where they are, and a
    /// generation that goes meanwhile is in a run, or was given up.
    /// Cost: copies the ids of the newest generation, 16 bytes each, at most 3.7 MB by default.
    pub fn collect(&self, job: &mut PersistJob) -> bool {
        let Some(index) = job
            .parts
            .iter()
            .position(|part| part.ids.ids.len() < part.count)
        else {
            return false;
        };
        let part = &mut job.parts[index];
        let generation = self
            .generations
            .iter()
            .find(|one| one.number == part.generation);
        match (generation, &mut part.ids.ids) {
            (Some(generation), IdList::Copied(ids)) => {
                let start = ids.len();
                let end = part.count.min(start + IDS_A_COLLECTION);
                if start == 0 {
                    ids.reserve_exact(part.count);
                }
                generation.copy_unpersisted(start..end, ids);
                assert_eq!(ids.len(), end, "ids of durable records are never removed");
            }
            // Its number for a log, if it took one, was never used.
            _ => drop(job.parts.swap_remove(index)),
        }
        true
    }

    /// Ends a persist job.
    ///
    /// Durability: on `Ok`, all ids of records up to the job's `up_to` survive a power cut, as far
    /// as the budgets let the window reach; a WAL file up to there may go. On `Err`, keep the WAL
    /// files and begin again: what failed goes to a new file, since a failed sync is never retried.
    pub fn finish_persist(&mut self, done: PersistDone) -> Result<(), DedupError> {
        if done.busy {
            return Err(DedupError::Busy);
        }
        self.persisting = false;
        let mut result = Ok(());
        for part in done.parts {
            let Some(generation) = self
                .generations
                .iter_mut()
                .find(|one| one.number == part.generation)
            else {
                // Meanwhile the generation became a run, which was synced, or was given up for the
                // budget: the log is of no use.
                self.garbage.push(Garbage {
                    path: names::id_log(&self.directory, part.log_number),
                    bytes: part.log_bytes,
                    keep_aside: false,
                });
                continue;
            };
            generation
                .logs
                .retain(|(number, _)| *number != part.log_number);
            generation.logs.push((part.log_number, part.log_bytes));
            match part.outcome {
                Ok(log) => {
                    generation.set_persisted(part.persisted);
                    generation.log = Some(log);
                }
                Err(error) => {
                    generation.log = None;
                    result = Err(error);
                }
            }
        }
        result
    }
}
