//! Ids in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use penstock_model::Position;

use crate::id_log::IdLogWriter;
use crate::names;

/// Bytes of a table's bucket: a `u32` and a control byte.
const BUCKET_BYTES: u64 = 5;

/// Ids shared with a job. Not a slice: making one would copy them under the lock.
pub(crate) type SharedKeys = Arc<Vec<u128>>;

#[derive(Debug)]
enum Keys {
    Growing(Vec<u128>),
    /// Shared with a spill; no longer changed.
    Fixed(SharedKeys),
}

/// Ids in the order of their arrival, with an index. Never grows past its first size.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Last of the numbers kept for it; stands for all id logs up to it that no run stands for.
    pub(crate) number: u64,
    keys: Keys,
    table: HashTable<u32>,
    capacity: usize,
    /// First id of each record that is not known to be durable.
    marks: VecDeque<(Position, usize)>,
    /// Ids at the start that are in an id log, synced.
    pub(crate) persisted: usize,
    pub(crate) oldest_ms: u64,
    pub(crate) newest_ms: u64,
    /// The log that takes more ids; none before the first, and after a failure.
    pub(crate) log: Option<Arc<IdLogWriter>>,
    /// Logs whose ids are here: numbers and bytes.
    pub(crate) logs: Vec<(u64, u64)>,
    /// Number of the next log to be made. Each try takes one: a log that failed is never reused.
    pub(crate) next_log: u64,
    pub(crate) spilling: bool,
}

impl Generation {
    pub(crate) fn new(number: u64, capacity: usize) -> Self {
        Self {
            number,
            keys: Keys::Growing(Vec::with_capacity(capacity)),
            table: HashTable::with_capacity(capacity),
            capacity,
            marks: VecDeque::new(),
            persisted: 0,
            oldest_ms: 0,
            newest_ms: 0,
            log: None,
            logs: Vec::new(),
            next_log: names::first_number(number),
            spilling: false,
        }
    }

    /// Most ids whose generation takes at most `bytes`: fills a table of a power of two exactly.
    pub(crate) fn capacity_for(bytes: u64) -> u64 {
        let mut buckets = 16_u64;
        while Self::bytes_of_buckets(buckets * 2) <= bytes {
            buckets *= 2;
        }
        buckets / 8 * 7
    }

    /// Memory of a generation of a capacity that [`Self::capacity_for`] gave.
    pub(crate) const fn bytes_for(capacity: u64) -> u64 {
        Self::bytes_of_buckets(capacity / 7 * 8)
    }

    const fn bytes_of_buckets(buckets: u64) -> u64 {
        buckets * BUCKET_BYTES + buckets / 8 * 7 * 16
    }

    /// Memory at full size, by what was allocated, and of the marks.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let marks = self.marks.capacity() * size_of::<(Position, usize)>();
        let fixed = self.table.num_buckets() as u64 * BUCKET_BYTES;
        fixed + self.capacity as u64 * 16 + marks as u64
    }

    pub(crate) fn keys(&self) -> &[u128] {
        match &self.keys {
            Keys::Growing(keys) => keys,
            Keys::Fixed(keys) => keys,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys().len()
    }

    pub(crate) fn room(&self) -> usize {
        // After removals the table has less room than the list: it must not grow either.
        let table = self.table.capacity().min(self.capacity) - self.table.len();
        table.min(self.capacity - self.len())
    }

    pub(crate) fn contains(&self, key: u128) -> bool {
        let keys = self.keys();
        self.table
            .find(hash(key), |&index| keys[index as usize] == key)
            .is_some()
    }

    /// Reads where the ids would be found, so that the lookups after it need not wait: the reads
    /// here depend on nothing but their ids.
    pub(crate) fn warm(&self, keys: impl Iterator<Item = u128>) {
        let met = keys.map(|key| self.table.find(hash(key), |_| false).is_some());
        std::hint::black_box(met.fold(false, |all, one| all | one));
    }

    /// Adds an id that is not there. `Position::ZERO`: durable already.
    pub(crate) fn push(&mut self, key: u128, position: Position, now_ms: u64) {
        assert!(
            self.room() > 0,
            "a full generation is frozen before the next id"
        );
        let Keys::Growing(keys) = &mut self.keys else {
            unreachable!("only the newest generation takes ids, and it is not spilled")
        };
        let index = keys.len();
        keys.push(key);
        let entry = u32::try_from(index).unwrap_or(u32::MAX);
        self.table
            .insert_unique(hash(key), entry, |&entry| hash(keys[entry as usize]));
        if index == 0 {
            self.oldest_ms = now_ms;
        }
        self.newest_ms = self.newest_ms.max(now_ms);
        if position != Position::ZERO && self.marks.back().is_none_or(|mark| mark.0 != position) {
            self.marks.push_back((position, index));
        }
    }

    /// Removes the ids of records behind `last_good` (DUP-3: before anyone is answered).
    pub(crate) fn truncate_after(&mut self, last_good: Position) {
        let mut keep = self.len();
        while let Some(&(position, start)) = self.marks.back()
            && position > last_good
        {
            keep = start;
            self.marks.pop_back();
        }
        if keep == self.len() {
            return;
        }
        assert!(
            keep >= self.persisted,
            "ids of records that are not durable are never written"
        );
        let Keys::Growing(keys) = &mut self.keys else {
            unreachable!("a generation with pending ids is not spilled")
        };
        for (index, key) in keys.iter().enumerate().skip(keep) {
            let found = self
                .table
                .find_entry(hash(*key), |&entry| entry as usize == index);
            if let Ok(found) = found {
                found.remove();
            }
        }
        keys.truncate(keep);
    }

    /// Notes that everything up to `durable` is; returns how many ids from the start are.
    pub(crate) fn note_durable(&mut self, durable: Position) -> usize {
        while self.marks.front().is_some_and(|mark| mark.0 <= durable) {
            self.marks.pop_front();
        }
        // The room that a burst of small records took is given back.
        if self.marks.is_empty() && self.marks.capacity() > 4096 {
            self.marks = VecDeque::new();
        }
        self.durable_len()
    }

    pub(crate) fn durable_len(&self) -> usize {
        self.marks.front().map_or(self.len(), |mark| mark.1)
    }

    /// Shares the ids with a spill. Nothing may be pending.
    pub(crate) fn share(&mut self) -> SharedKeys {
        assert_eq!(
            self.durable_len(),
            self.len(),
            "pending ids are never written"
        );
        let keys = match std::mem::replace(&mut self.keys, Keys::Growing(Vec::new())) {
            Keys::Growing(keys) => Arc::new(keys),
            Keys::Fixed(keys) => keys,
        };
        self.keys = Keys::Fixed(Arc::clone(&keys));
        keys
    }
}

/// The low half; runs are sorted by the high one.
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn hash(key: u128) -> u64 {
    key as u64
}
