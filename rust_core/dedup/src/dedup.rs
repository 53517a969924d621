//! The state, and the calls that the engine makes under its lock.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use penstock_disk::Filesystem;
use penstock_model::Position;

use crate::error::DedupError;
use crate::generation::Generation;
use crate::key::{DedupKey, Identity, KeyHasher};
use crate::names;
use crate::options::{DedupOptions, DedupStats, MAX_GENERATIONS, RunningTime, WINDOW_PARTS};
use crate::probe::{Probed, Runs};
use crate::run::Run;
use crate::summary::{MAX_KEYS, Summary};

/// Least memory that makes sense: generations of 56 ids. Anything near it is for tests.
const MIN_MEMORY_BYTES: u64 = 16 << 10;

/// Generations in memory, the sorted copy that a spill makes and the copy that a persist makes.
pub(crate) const MEMORY_SLOTS: u64 = MAX_GENERATIONS as u64 + 2;

/// Was an id seen before?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    New,
    Before,
}

/// A file to be removed, or moved aside.
#[derive(Debug)]
pub(crate) struct Garbage {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) keep_aside: bool,
}

/// The ids of the window.
#[derive(Debug)]
pub struct Dedup {
    pub(crate) filesystem: Arc<dyn Filesystem>,
    pub(crate) directory: PathBuf,
    pub(crate) options: DedupOptions,
    pub(crate) hasher: KeyHasher,
    /// Oldest first; the last takes ids. Never empty.
    pub(crate) generations: VecDeque<Generation>,
    /// Of them: has what each of their tables has.
    pub(crate) summary: Summary,
    /// Oldest first.
    pub(crate) runs: Vec<Arc<Run>>,
    /// The same, for lookups without the lock.
    pub(crate) shared_runs: Runs,
    /// Generations numbered below this became runs or were given up.
    pub(crate) covers: u64,
    pub(crate) garbage: Vec<Garbage>,
    pub(crate) generation_capacity: usize,
    /// Running time of earlier processes, as saved with the newest id.
    pub(crate) base_ms: u64,
    pub(crate) opened_at: RunningTime,
    pub(crate) now_ms: u64,
    pub(crate) next_number: u64,
    pub(crate) durable: Position,
    pub(crate) persisting: bool,
    /// A spill has begun and has not been finished.
    pub(crate) spilling: bool,
    /// A merge or a removal has begun and has not been finished.
    pub(crate) tidying: bool,
    /// First and last number of the runs that are being merged.
    pub(crate) merging: Option<(u64, u64)>,
    /// Memory that the running merge has set aside.
    pub(crate) job_memory_bytes: u64,
    /// The same of the disk.
    pub(crate) job_disk_bytes: u64,
    /// Age of the newest id that was dropped before its time.
    pub(crate) dropped_newest_ms: Option<u64>,
    pub(crate) ids_dropped_early: u64,
    pub(crate) ids_dropped_unspilled: u64,
    pub(crate) damaged_runs: u64,
    /// Id logs with bytes behind their last whole batch, and where that ends.
    pub(crate) torn_logs: Vec<(PathBuf, u64)>,
}

impl Dedup {
    pub(crate) fn empty(
        filesystem: Arc<dyn Filesystem>,
        directory: PathBuf,
        options: DedupOptions,
        hasher: KeyHasher,
        now: RunningTime,
    ) -> Result<Self, DedupError> {
        if options.memory_bytes < MIN_MEMORY_BYTES {
            return Err(DedupError::MemoryTooSmall {
                memory_bytes: options.memory_bytes,
                min_bytes: MIN_MEMORY_BYTES,
            });
        }
        // Buckets are numbered with 32 bits.
        let capacity = Generation::capacity_for(options.memory_bytes / 2 / MEMORY_SLOTS);
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX / 2) as usize;
        Ok(Self {
            filesystem,
            directory,
            options,
            hasher,
            generations: VecDeque::with_capacity(MAX_GENERATIONS + 1),
            summary: Summary::new(capacity),
            runs: Vec::new(),
            shared_runs: Runs::default(),
            covers: 0,
            garbage: Vec::new(),
            generation_capacity: capacity,
            base_ms: 0,
            opened_at: now,
            now_ms: 0,
            next_number: 0,
            durable: Position::ZERO,
            persisting: false,
            spilling: false,
            tidying: false,
            merging: None,
            job_memory_bytes: 0,
            job_disk_bytes: 0,
            dropped_newest_ms: None,
            ids_dropped_early: 0,
            ids_dropped_unspilled: 0,
            damaged_runs: 0,
            torn_logs: Vec::new(),
        })
    }

    /// Makes keys outside of the lock.
    pub fn hasher(&self) -> KeyHasher {
        self.hasher.clone()
    }

    /// Tells this directory's state from any other's: says whose ids something else vouches for.
    pub fn state_id(&self) -> [u8; 16] {
        // No event has no token, so this is no event's key.
        let identity = Identity {
            uuid: &[0; 16],
            event: b"",
            distinct_id: b"state",
        };
        self.hasher.key(b"", identity).0
    }

    /// Looks ids up on disk without the lock; see [`Self::insert_all`].
    pub fn runs(&self) -> Runs {
        self.shared_runs.clone()
    }

    /// Enters the ids of one record, which were looked up in [`Self::runs`], under the position that
    /// it is about to get. Never does I/O. `None` is no id, and never seen before.
    ///
    /// Afterwards [`Probed::seen`] says for each id whether it was seen before, in this record too
    /// (DUP-1). Returns false, and has done nothing, if a generation became a run since the lookup:
    /// then unlock, [`Runs::probe_again`], and try again. Call in log order: positions never fall,
    /// except behind [`Self::truncate_after`].
    /// Cost: three cache lines for each new id. Durability: none, see [`Self::begin_persist`].
    #[must_use = "false means that nothing was entered"]
    pub fn insert_all(
        &mut self,
        keys: &[Option<DedupKey>],
        probed: &mut Probed,
        position: Position,
    ) -> bool {
        assert_eq!(keys.len(), probed.seen.len(), "probed with the same keys");
        if probed.covers != self.covers {
            return false;
        }
        let seen = probed.seen.chunks_mut(MAX_KEYS);
        for (keys, seen) in keys.chunks(MAX_KEYS).zip(seen) {
            self.insert_some(keys, seen, position);
        }
        true
    }

    /// At most [`MAX_KEYS`] keys: each has a bit in a word.
    fn insert_some(&mut self, keys: &[Option<DedupKey>], seen: &mut [bool], position: Position) {
        let Some((newest, older)) = self.generations.make_contiguous().split_last_mut() else {
            unreachable!("there is always one that takes ids")
        };
        if newest.room() < keys.len() {
            // A generation is frozen in between, which happens once in some 100,000 events.
            for (key, seen) in keys.iter().zip(seen) {
                if let (Some(key), false) = (key, *seen) {
                    *seen = self.in_generations(key.number());
                    if !*seen {
                        self.push(*key, position);
                    }
                }
            }
            return;
        }
        // The tables are larger than the caches: their lines for all ids come at once, instead of
        // each lookup waiting for its own.
        self.summary.ask_for(keys);
        newest.ask_for_controls(keys.iter().flatten().copied());
        newest.ask_for_buckets(keys);
        let mut maybe = 0;
        if !older.is_empty() {
            let likely = self.summary.likely(keys);
            let of = |generation: &Generation| {
                let indices = likely.of(generation.slot).iter();
                indices.filter_map(|&index| Some((index, keys[usize::from(index)]?)))
            };
            for generation in &*older {
                generation.ask_for_controls(of(generation).map(|(_, key)| key));
            }
            for generation in &*older {
                maybe |= generation.ask_for_ids(of(generation));
            }
        }
        let now_ms = self.now_ms;
        let position = takeable(position, self.durable);
        for (index, (key, seen)) in keys.iter().zip(seen).enumerate() {
            if let (Some(key), false) = (key, *seen) {
                let key = key.number();
                // Mostly no older generation has anything like it, which is known by now.
                *seen = (maybe >> index & 1 == 1
                    && older.iter().rev().any(|one| one.contains(key)))
                    || !newest.push_new(key, position, now_ms, &mut self.summary);
            }
        }
    }

    /// As [`Self::insert_all`], for one id and with the lookup on disk; for recovery, where nobody
    /// waits for the lock.
    ///
    /// On `Err` a run can't be read now, and nothing was entered.
    /// Cost: a cache line for each generation and run; no I/O but the block of a run whose filter
    /// lets the id through.
    pub fn insert(&mut self, key: DedupKey, position: Position) -> Result<Seen, DedupError> {
        if self.contains(key)? {
            return Ok(Seen::Before);
        }
        self.push(key, position);
        Ok(Seen::New)
    }

    fn push(&mut self, key: DedupKey, position: Position) {
        self.make_room();
        let now_ms = self.now_ms;
        let position = takeable(position, self.durable);
        if let Some(active) = self.generations.back_mut() {
            let is_new = active.push_new(key.number(), position, now_ms, &mut self.summary);
            assert!(is_new, "ids that are there are not entered");
        }
    }

    fn in_generations(&self, key: u128) -> bool {
        let mut newest_first = self.generations.iter().rev();
        newest_first.any(|generation| generation.contains(key))
    }

    /// True if the id is in the window (DUP-1: always by all 128 bits). May read the disk; on `Err`
    /// that can't be said.
    pub fn contains(&self, key: DedupKey) -> Result<bool, DedupError> {
        let key = key.number();
        if self.in_generations(key) {
            return Ok(true);
        }
        for run in self.runs.iter().rev() {
            if run.contains(key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Forgets the ids of all records behind `last_good`, a commit group that failed (DUP-3).
    ///
    /// To be called before anyone is answered.
    pub fn truncate_after(&mut self, last_good: Position) {
        for generation in self.generations.iter_mut().rev() {
            generation.truncate_after(last_good);
        }
    }

    /// Moves the window on. `now` is the clock that `open` was given.
    pub fn tick(&mut self, now: RunningTime) {
        let elapsed = now.as_millis().saturating_sub(self.opened_at.as_millis());
        self.now_ms = self.now_ms.max(self.base_ms.saturating_add(elapsed));
        // Ids leave with their run, so a generation must not stay open for long.
        let part = self.options.window_millis() / WINDOW_PARTS;
        let old = self.generations.back().is_some_and(|active| {
            active.len() > 0 && self.now_ms.saturating_sub(active.oldest_ms) > part
        });
        if old && self.generations.len() < MAX_GENERATIONS {
            self.add_generation();
        }
    }

    /// Running time of this directory, over all processes that had it open.
    pub const fn running_time(&self) -> RunningTime {
        RunningTime::from_millis(self.now_ms)
    }

    /// Numbers for metrics. Cost: some hundred additions.
    pub fn stats(&self) -> DedupStats {
        let window_shortened_ms = self.dropped_newest_ms.map_or(0, |newest| {
            self.options
                .window_millis()
                .saturating_sub(self.now_ms.saturating_sub(newest))
        });
        DedupStats {
            ids_in_memory: self.generations.iter().map(|one| one.len() as u64).sum(),
            memory_bytes: self.generation_memory() + self.run_memory() + self.job_memory_bytes,
            generation_bytes: self.generation_memory(),
            generation_capacity: self.generations.iter().map(Generation::capacity).sum(),
            run_bytes: self.run_memory(),
            ids_on_disk: self.runs.iter().map(|run| run.count).sum(),
            disk_bytes: self.disk_bytes(),
            runs: self.runs.len() as u64,
            generations: self.generations.len() as u64,
            window_shortened_ms,
            ids_dropped_early: self.ids_dropped_early,
            ids_dropped_unspilled: self.ids_dropped_unspilled,
            damaged_runs: self.damaged_runs,
            full: self.generations.len() == MAX_GENERATIONS,
        }
    }

    pub(crate) fn generation_memory(&self) -> u64 {
        let tables: u64 = self.generations.iter().map(Generation::memory_bytes).sum();
        tables + self.summary.memory_bytes()
    }

    pub(crate) fn run_memory(&self) -> u64 {
        self.runs.iter().map(|run| run.memory_bytes()).sum()
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        let runs: u64 = self.runs.iter().map(|run| run.disk_bytes()).sum();
        let logs: u64 = self
            .generations
            .iter()
            .flat_map(|one| &one.logs)
            .map(|(_, bytes)| bytes)
            .sum();
        let garbage: u64 = self.garbage.iter().map(|one| one.bytes).sum();
        runs + logs + garbage
    }

    /// Makes the newest generation take at least one more id.
    fn make_room(&mut self) {
        if self
            .generations
            .back()
            .is_some_and(|active| active.room() > 0)
        {
            return;
        }
        if self.generations.len() >= MAX_GENERATIONS {
            // The last resort: spilling doesn't keep up, though it waits for no merge. Memory stays
            // bounded and the window is cut (LIM-2), and it is counted. The generation that is
            // being spilled is on its way to the disk, so the next one goes.
            let index = usize::from(self.generations[0].spilling);
            self.ids_dropped_unspilled += self.generations[index].len() as u64;
            self.drop_generation(index);
        }
        self.add_generation();
    }

    pub(crate) fn add_generation(&mut self) {
        let number = self.take_number();
        self.add_generation_of(number, self.generation_capacity);
    }

    /// Adds the newest generation. There are less than [`MAX_GENERATIONS`].
    pub(crate) fn add_generation_of(&mut self, number: u64, capacity: usize) {
        let is_free = |slot: &usize| self.generations.iter().all(|one| one.slot != *slot);
        let Some(slot) = (0..MAX_GENERATIONS).find(is_free) else {
            unreachable!("the oldest makes room before another is added")
        };
        // An earlier generation may have had it.
        self.summary.clear(slot);
        let generation = Generation::new(number, slot, capacity);
        self.generations.push_back(generation);
    }

    pub(crate) fn take_number(&mut self) -> u64 {
        let number = names::last_number(self.next_number);
        self.next_number = number + 1;
        number
    }

    /// Forgets a generation before its time.
    pub(crate) fn drop_generation(&mut self, index: usize) {
        if let Some(generation) = self.generations.remove(index) {
            self.note_dropped(generation.len() as u64, generation.newest_ms);
            self.discard_logs(&generation);
        }
    }

    pub(crate) fn note_dropped(&mut self, ids: u64, newest_ms: u64) {
        self.ids_dropped_early += ids;
        self.dropped_newest_ms = self.dropped_newest_ms.max(Some(newest_ms));
    }

    pub(crate) fn discard_logs(&mut self, generation: &Generation) {
        for (number, bytes) in &generation.logs {
            self.garbage.push(Garbage {
                path: names::id_log(&self.directory, *number),
                bytes: *bytes,
                keep_aside: false,
            });
        }
    }
}

/// The position of a record that may still fail; of others there is nothing to take back, as in
/// recovery.
fn takeable(position: Position, durable: Position) -> Position {
    if position <= durable {
        Position::ZERO
    } else {
        position
    }
}
