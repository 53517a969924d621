//! A blocked Bloom filter: says "surely not" for most ids that a run doesn't hold.
//!
//! One cache line a key, with 12 bits and 7 probes a key. Never the last word: a "maybe" is settled
//! by the full hash in the run (DUP-1). Keys are keyed hashes already, so their bits are used as
//! they are.

/// Bits a key.
const BITS_PER_KEY: u64 = 12;
const PROBES: u32 = 7;
const BLOCK_BITS: u64 = 512;

#[derive(Debug)]
pub(crate) struct Filter {
    blocks: Vec<[u64; 8]>,
}

impl Filter {
    pub(crate) fn with_capacity(keys: u64) -> Self {
        let blocks = usize::try_from(block_count(keys)).unwrap_or(usize::MAX);
        Self {
            blocks: vec![[0; 8]; blocks],
        }
    }

    /// Memory of a filter for so many keys.
    pub(crate) const fn bytes_for(keys: u64) -> u64 {
        block_count(keys) * (BLOCK_BITS / 8)
    }

    pub(crate) fn insert(&mut self, key: u128) {
        let index = self.block_of(key);
        let block = &mut self.blocks[index];
        for (word, mask) in probes(key) {
            block[word] |= mask;
        }
    }

    pub(crate) fn may_contain(&self, key: u128) -> bool {
        let block = &self.blocks[self.block_of(key)];
        // All seven, without a branch between them: one that depends on a cache line that is still
        // on its way keeps the processor from asking for the next key's.
        let missing = probes(key).fold(0, |missing, (word, mask)| missing | (!block[word] & mask));
        missing == 0
    }

    /// Reads the blocks of all keys, so that the lookups after it find them in the cache. The reads
    /// here don't wait for each other; in a lookup each waits for its decision (DUP-1 needs all of
    /// the block, the cache only one word).
    pub(crate) fn warm(&self, keys: impl Iterator<Item = u128>) {
        let words = keys.map(|key| self.blocks[self.block_of(key)][0]);
        std::hint::black_box(words.fold(0, |all, word| all ^ word));
    }

    /// By the high half, in which keys are sorted: a filter is filled from start to end.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below the number of blocks"
    )]
    fn block_of(&self, key: u128) -> usize {
        let high = key >> 64;
        ((high * self.blocks.len() as u128) >> 64) as usize
    }
}

const fn block_count(keys: u64) -> u64 {
    let blocks = keys.saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BITS);
    if blocks == 0 { 1 } else { blocks }
}

/// Seven bits of a block, by 63 bits of the low half.
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn probes(key: u128) -> impl Iterator<Item = (usize, u64)> {
    let low = key as u64;
    (0..PROBES).map(move |probe| {
        let bit = (low >> (9 * probe)) & (BLOCK_BITS - 1);
        ((bit >> 6) as usize, 1 << (bit & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::key;

    #[test]
    fn every_key_passes_and_few_others_do() {
        let mut filter = Filter::with_capacity(20_000);
        (0..20_000).for_each(|number| filter.insert(key(number).number()));
        let passed = |numbers: std::ops::Range<u64>| {
            numbers
                .filter(|number| filter.may_contain(key(*number).number()))
                .count()
        };
        assert_eq!(passed(0..20_000), 20_000);
        let foreign = passed(100_000..200_000);
        assert!(foreign < 1_500, "{foreign} of 100,000");
    }
}
