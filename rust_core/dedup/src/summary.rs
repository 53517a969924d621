//! What the generations hold, at a glance: of most ids it says that no older one has them.
//!
//! Bits as in a Bloom filter, of all generations in one cache line: without them, a look for an id
//! costs a line of control bytes in each. A generation has a *slot*, two words of each line; an id
//! has a line, and a bit in each of the two words, all by its high half. With a generation full, 28
//! ids share a line on average, and of 100 ids that it does not hold some 13 have both bits set.
//!
//! An id that was entered always has its bits; one that was taken back leaves them, until its
//! generation ends.

use crate::key::DedupKey;
use crate::options::MAX_GENERATIONS;
use crate::prefetch::prefetch;

/// Ids of a full generation for each line, so that the bits cost half a byte for each of its buckets.
const IDS_A_LINE: usize = 28;

const WORDS_A_SLOT: usize = 2;

/// Where the place of an id's bit in the first word begins in its high half; the second's comes behind.
const FIRST_BIT: u32 = 52;
const BIT_BITS: u32 = 6;

/// Most keys looked at together.
pub(crate) const MAX_KEYS: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line([u64; WORDS_A_SLOT * MAX_GENERATIONS]);

#[derive(Debug)]
pub(crate) struct Summary {
    /// A power of two.
    lines: Vec<Line>,
}

/// Keys that a generation may hold, by slot.
#[derive(Debug)]
pub(crate) struct Likely {
    indices: [[u8; MAX_KEYS]; MAX_GENERATIONS],
    counts: [usize; MAX_GENERATIONS],
}

impl Likely {
    /// Indices of the keys that the generation of a slot may hold.
    pub(crate) fn of(&self, slot: usize) -> &[u8] {
        &self.indices[slot][..self.counts[slot]]
    }
}

impl Summary {
    /// Of generations of `capacity` ids.
    pub(crate) fn new(capacity: usize) -> Self {
        let lines = (capacity / IDS_A_LINE).max(1).next_power_of_two();
        Self {
            lines: vec![Line::default(); lines],
        }
    }

    /// Memory for one generation of `buckets`, which is a power of two.
    pub(crate) const fn bytes_for_buckets(buckets: u64) -> u64 {
        let ids = buckets / 8 * 7;
        ids / IDS_A_LINE as u64 * (WORDS_A_SLOT * size_of::<u64>()) as u64
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.lines.len() * size_of::<Line>()) as u64
    }

    /// Asks for the lines of keys.
    pub(crate) fn ask_for(&self, keys: &[Option<DedupKey>]) {
        for key in keys.iter().flatten() {
            prefetch(std::ptr::from_ref(&self.lines[self.line(key.number())]).addr());
        }
    }

    /// Notes that the generation of a slot holds a key.
    pub(crate) fn add(&mut self, slot: usize, key: u128) {
        let line = self.line(key);
        let words = &mut self.lines[line].0;
        let (first, second) = bits(key);
        words[WORDS_A_SLOT * slot] |= 1 << first;
        words[WORDS_A_SLOT * slot + 1] |= 1 << second;
    }

    /// Says of which keys a generation may hold them. Others it does not hold.
    pub(crate) fn likely(&self, keys: &[Option<DedupKey>]) -> Likely {
        assert!(keys.len() <= MAX_KEYS, "an index for each key");
        let mut likely = Likely {
            indices: [[0; MAX_KEYS]; MAX_GENERATIONS],
            counts: [0; MAX_GENERATIONS],
        };
        for (key, index) in keys.iter().zip(0_u8..) {
            let Some(key) = key else { continue };
            let key = key.number();
            let words = &self.lines[self.line(key)].0;
            let (first, second) = bits(key);
            // No branch: which way it goes would be a guess for every third key.
            for slot in 0..MAX_GENERATIONS {
                let count = &mut likely.counts[slot];
                likely.indices[slot][*count % MAX_KEYS] = index;
                let set = words[WORDS_A_SLOT * slot] >> first
                    & words[WORDS_A_SLOT * slot + 1] >> second
                    & 1;
                *count += usize::from(set == 1);
            }
        }
        likely
    }

    /// Forgets what a slot's generation held. Cost: a pass over all lines, 0.4 ms where generations
    /// hold a million ids each.
    pub(crate) fn clear(&mut self, slot: usize) {
        for line in &mut self.lines {
            line.0[WORDS_A_SLOT * slot..][..WORDS_A_SLOT].fill(0);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
    fn line(&self, key: u128) -> usize {
        (key >> 64) as usize & (self.lines.len() - 1)
    }
}

/// The places of an id's two bits in their words.
const fn bits(key: u128) -> (u32, u32) {
    let places = ((key >> 64) as u64 >> FIRST_BIT) as u32;
    let mask = (1 << BIT_BITS) - 1;
    (places & mask, places >> BIT_BITS & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spread as a hash leaves them.
    fn key(number: u64) -> u128 {
        let mix = |value: u64| {
            let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u128::from(value ^ (value >> 31))
        };
        mix(number + 1) << 64 | mix(!number)
    }

    fn likely(summary: &Summary, slot: usize, key: u128) -> bool {
        let key = DedupKey(key.to_be_bytes());
        // A key that is none does not shift the others.
        let likely = summary.likely(&[None, Some(key)]);
        assert!(likely.of(slot).iter().all(|&index| index == 1));
        likely.of(slot) == [1]
    }

    #[test]
    fn what_was_added_is_likely_and_of_the_rest_little_is() {
        let mut summary = Summary::new(7 << 10);
        let capacity = 7 << 10;
        for number in 0..capacity {
            summary.add(2, key(number));
        }
        assert!((0..capacity).all(|number| likely(&summary, 2, key(number))));
        let others = capacity..2 * capacity;
        let count = |slot| {
            let likely = others
                .clone()
                .filter(|&number| likely(&summary, slot, key(number)));
            likely.count() * 100 / usize::try_from(capacity).unwrap()
        };
        assert_eq!([count(0), count(1), count(3)], [0; 3]);
        assert!((8..18).contains(&count(2)), "{} of 100", count(2));
    }

    #[test]
    fn a_slot_is_cleared_alone() {
        let mut summary = Summary::new(56);
        (0..8).for_each(|number| summary.add(0, key(number)));
        (8..16).for_each(|number| summary.add(1, key(number)));
        summary.clear(1);
        assert!((0..8).all(|number| likely(&summary, 0, key(number))));
        assert!((8..16).all(|number| !likely(&summary, 1, key(number))));
    }

    #[test]
    fn memory_is_what_a_generation_is_charged_for_in_each_slot() {
        for buckets in [64, 1 << 20] {
            let summary = Summary::new(buckets / 8 * 7);
            let charged = Summary::bytes_for_buckets(buckets as u64);
            assert_eq!(summary.memory_bytes(), charged * MAX_GENERATIONS as u64);
            assert_eq!(charged, buckets as u64 / 2);
        }
    }
}
