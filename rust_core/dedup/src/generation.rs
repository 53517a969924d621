//! Ids in memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use penstock_model::Position;

use crate::id_log::IdLogWriter;
use crate::key::DedupKey;
use crate::names;
use crate::prefetch::prefetch;
use crate::summary::Summary;

/// Bytes of a table's bucket: the id itself and a control byte. Ids stand in the table, not in a
/// list of their own with an index beside it: 19.4 bytes an id instead of 21.7, and a lookup that
/// finds waits for one cache line less.
const BUCKET_BYTES: u64 = 17;

/// Control bytes that hashbrown looks at together.
const GROUP_BYTES: usize = 16;

/// Bytes that tell where an id stands in the order of arrival, until it is in an id log.
const ORDER_BYTES: u64 = 4;

/// The list of the order grows by this part of the capacity at a time: doubling would cost twice
/// what is needed, and its full size at once would be kept for what is mostly empty.
const ORDER_STEPS: usize = 8;

/// Ids that are asked for before they are copied in the order of arrival, which is a random one in the
/// table: enough for the processor to have as many lines on their way as it can.
const COPY_AHEAD: usize = 16;

/// Ids shared with a job: no longer changed.
pub(crate) type SharedIds = Arc<HashTable<u128>>;

#[derive(Debug)]
enum Ids {
    Growing(HashTable<u128>),
    Fixed(SharedIds),
}

/// Ids to be written to an id log.
#[derive(Debug)]
pub(crate) enum IdList {
    Copied(Vec<u128>),
    /// By their buckets: only the newest generation costs memory twice.
    Shared(SharedIds, Vec<u32>),
}

impl IdList {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Copied(ids) => ids.len(),
            Self::Shared(_, buckets) => buckets.len(),
        }
    }

    /// The id at `index`, in the order of arrival.
    #[expect(
        clippy::expect_used,
        reason = "a table that is shared keeps what it holds"
    )]
    pub(crate) fn get(&self, index: usize) -> u128 {
        match self {
            Self::Copied(ids) => ids[index],
            Self::Shared(table, buckets) => *table
                .get_bucket(buckets[index] as usize)
                .expect("the bucket of an id that was not removed"),
        }
    }
}

/// Ids as a set, and in the order of their arrival as far as they are in no id log. Never grows past
/// its first size.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Last of the numbers kept for it; stands for all id logs up to it that no run stands for.
    pub(crate) number: u64,
    /// Its place in the [`Summary`], as no other generation's.
    pub(crate) slot: usize,
    ids: Ids,
    /// Address of the table's control bytes, once it holds an id: hashbrown keeps the buckets before
    /// them, the last one first. Only for hints, so that nothing breaks but speed if that changes.
    controls: Option<usize>,
    capacity: usize,
    /// Buckets of the ids behind the persisted ones, in the order of their arrival. The table never
    /// grows, so they stay where they are.
    order: Vec<u32>,
    /// First id of each record that is not known to be durable, counted by arrival.
    marks: VecDeque<(Position, usize)>,
    /// Ids, from the first that arrived, that are in an id log, synced.
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
    pub(crate) fn new(number: u64, slot: usize, capacity: usize) -> Self {
        Self {
            number,
            slot,
            ids: Ids::Growing(HashTable::with_capacity(capacity)),
            controls: None,
            capacity,
            order: Vec::new(),
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
        let order = buckets / 8 * 7 * ORDER_BYTES;
        buckets * BUCKET_BYTES + order + Summary::bytes_for_buckets(buckets)
    }

    /// Memory at full size, by what was allocated, and of the marks; without the summary's.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let marks = self.marks.capacity() * size_of::<(Position, usize)>();
        let order = self.order.capacity() as u64 * ORDER_BYTES;
        self.table().num_buckets() as u64 * BUCKET_BYTES + order + marks as u64
    }

    fn table(&self) -> &HashTable<u128> {
        match &self.ids {
            Ids::Growing(table) => table,
            Ids::Fixed(table) => table,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table().len()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    pub(crate) fn room(&self) -> usize {
        // After removals the table has less room: it must not grow either.
        let table = self.table();
        table.capacity().min(self.capacity) - table.len()
    }

    pub(crate) fn contains(&self, key: u128) -> bool {
        self.table().find(hash(key), |&id| id == key).is_some()
    }

    /// Asks for the cache lines in which the table says whether an id may be there.
    pub(crate) fn ask_for_controls(&self, keys: impl Iterator<Item = DedupKey>) {
        let Some(controls) = self.controls else {
            return;
        };
        let last = self.table().num_buckets() - 1;
        for key in keys {
            let start = controls.wrapping_add(start_of(key.number(), last));
            prefetch(start);
            // A lookup reads a group at once, of which every fourth lies in two lines.
            prefetch(start.wrapping_add(GROUP_BYTES - 1));
        }
    }

    /// Asks for where ids will stand that are entered, after [`Self::ask_for_controls`].
    pub(crate) fn ask_for_buckets(&self, keys: &[Option<DedupKey>]) {
        let last = self.table().num_buckets() - 1;
        for key in keys.iter().flatten() {
            // The first free bucket is mostly one of the first, which share this line; and so is one
            // of an equal id.
            self.ask_for_bucket(start_of(key.number(), last));
        }
    }

    /// Asks for the ids that may be equal to keys, after [`Self::ask_for_controls`], and says for
    /// which indices there are any, by bits from the lowest on. Where it is 0, the id is not there.
    ///
    /// Of 100 ids that are not there some 10 have one that may be equal: seven bits of the hash agree.
    pub(crate) fn ask_for_ids(&self, keys: impl Iterator<Item = (u8, DedupKey)>) -> u64 {
        let table = self.table();
        let mut maybe = 0;
        for (index, key) in keys {
            let found = table.find(hash(key.number()), |id| {
                prefetch(std::ptr::from_ref(id).addr());
                maybe |= 1 << index;
                false
            });
            debug_assert!(found.is_none(), "no id is looked at");
        }
        maybe
    }

    /// Adds an id, to the summary too; false if it is there already. `Position::ZERO`: durable already.
    pub(crate) fn push_new(
        &mut self,
        key: u128,
        position: Position,
        now_ms: u64,
        summary: &mut Summary,
    ) -> bool {
        assert!(
            self.room() > 0,
            "a full generation is frozen before the next id"
        );
        let Ids::Growing(table) = &mut self.ids else {
            unreachable!("only the newest generation takes ids, and it is not spilled")
        };
        let index = table.len();
        let Entry::Vacant(vacant) = table.entry(hash(key), |&id| id == key, |&id| hash(id)) else {
            return false;
        };
        summary.add(self.slot, key);
        let entry = vacant.insert(key);
        let bucket = entry.bucket_index();
        if self.controls.is_none() {
            let address = std::ptr::from_ref(entry.get()).addr();
            self.controls = Some(address + (bucket + 1) * size_of::<u128>());
        }
        if self.order.len() == self.order.capacity() {
            let step = (self.capacity / ORDER_STEPS).max(1);
            self.order.reserve_exact(step);
        }
        // A table has at most 2^32 buckets: see `Dedup::empty`.
        self.order.push(u32::try_from(bucket).unwrap_or(u32::MAX));
        if index == 0 {
            self.oldest_ms = now_ms;
        }
        self.newest_ms = self.newest_ms.max(now_ms);
        if position != Position::ZERO && self.marks.back().is_none_or(|mark| mark.0 != position) {
            self.marks.push_back((position, index));
        }
        true
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
        let Ids::Growing(table) = &mut self.ids else {
            unreachable!("a generation with pending ids is not spilled")
        };
        for bucket in self.order.drain(keep - self.persisted..) {
            if let Ok(found) = table.get_bucket_entry(bucket as usize) {
                found.remove();
            }
        }
    }

    /// The ids up to the one at `durable`, by arrival, that are not persisted. A generation that is
    /// whole and takes no more is shared; of another none are copied yet, see
    /// [`Self::copy_unpersisted`].
    pub(crate) fn unpersisted(&mut self, durable: usize, takes_more: bool) -> IdList {
        if takes_more || durable < self.len() {
            return IdList::Copied(Vec::new());
        }
        let count = durable - self.persisted;
        let table = self.share();
        IdList::Shared(table, self.order[..count].to_vec())
    }

    /// Copies the ids at `indexes`, which count from the first that is not persisted.
    pub(crate) fn copy_unpersisted(&self, indexes: Range<usize>, ids: &mut Vec<u128>) {
        let table = self.table();
        let buckets = &self.order[indexes];
        for (index, bucket) in buckets.iter().enumerate() {
            if let Some(ahead) = buckets.get(index + COPY_AHEAD) {
                self.ask_for_bucket(*ahead as usize);
            }
            ids.extend(table.get_bucket(*bucket as usize));
        }
    }

    fn ask_for_bucket(&self, bucket: usize) {
        if let Some(controls) = self.controls {
            prefetch(controls.wrapping_sub((bucket + 1) * size_of::<u128>()));
        }
    }

    /// Notes that the ids up to the one at `count`, by arrival, are in an id log, synced.
    pub(crate) fn set_persisted(&mut self, count: usize) {
        self.order.drain(..count.saturating_sub(self.persisted));
        self.persisted = count;
        // The next ids take a step anew, which costs less than keeping one.
        self.order.shrink_to_fit();
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
    pub(crate) fn share(&mut self) -> SharedIds {
        assert_eq!(
            self.durable_len(),
            self.len(),
            "pending ids are never written"
        );
        let table = match std::mem::replace(&mut self.ids, Ids::Growing(HashTable::new())) {
            Ids::Growing(table) => Arc::new(table),
            Ids::Fixed(table) => table,
        };
        self.ids = Ids::Fixed(Arc::clone(&table));
        table
    }
}

/// The bucket, or control byte, at which hashbrown's lookup begins in a table of `last + 1` buckets.
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn start_of(key: u128, last: usize) -> usize {
    hash(key) as usize & last
}

/// The low half; runs are sorted by the high one.
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn hash(key: u128) -> u64 {
    key as u64
}
