//! Ids to disk before their WAL file goes (DUP-2).

use std::path::PathBuf;
use std::sync::Arc;

use penstock_disk::Filesystem;
use penstock_model::Position;

use crate::dedup::{Dedup, Garbage};
use crate::error::DedupError;
use crate::id_log::{IdBatch, IdLogWriter};
use crate::names;

#[derive(Debug)]
struct Part {
    generation: u64,
    ids: IdBatch,
    persisted: usize,
    /// The log to go on with, or the number of the one to make.
    log: Result<Arc<IdLogWriter>, u64>,
}

/// Ids to be written; [`Self::run`] does so without the lock.
#[derive(Debug)]
#[must_use = "ids are durable only after run and finish_persist"]
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
    /// Collects the ids that are not on disk yet. `up_to` must be durable in the WAL: an id on disk
    /// whose record was lost would turn a retry into a lost event.
    ///
    /// Takes at least the ids of records up to `up_to`. One job at a time.
    /// Cost: copies the ids of the newest generation, 16 bytes each, at most 3.7 MB by default.
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
