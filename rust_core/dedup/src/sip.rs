//! SipHash-1-3 with 128 bits of result, of one text or of several at once.
//!
//! The steps of one text wait for each other and leave most of the processor idle; the steps of
//! [`LANES`] texts, side by side in its wide registers, take hardly longer. No crate offers that. The
//! results are those of the crate `siphasher`, which the tests compare with.

#[cfg(target_arch = "x86_64")]
use crate::sip_avx2;

/// Texts hashed at once: with eight, the four words of state take half of the sixteen registers of
/// AVX2, which leaves the rest for what a step works with.
pub(crate) const LANES: usize = 8;

/// A word of each text.
pub(crate) type Row = [u64; LANES];

/// Tells a hash of 128 bits from one of 64: put into the state at the beginning and at the end.
pub(crate) const WIDE: u64 = 0xee;

/// Put into the state between the two halves of the result.
pub(crate) const SECOND_HALF: u64 = 0xdd;

/// Where hashing is after some words.
#[derive(Clone, Copy)]
pub(crate) struct State(pub(crate) [u64; 4]);

impl State {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(secret);
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        let [low, high] = [both as u64, (both >> 64) as u64];
        Self([
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d ^ WIDE,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ])
    }

    /// Goes on with a word: eight bytes of the text, little-endian. Behind the last whole one is one
    /// with the rest of the text, zeros, and its length modulo 256.
    #[inline]
    pub(crate) fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    /// The hash of what was absorbed.
    pub(crate) fn finish(mut self) -> u128 {
        self.0[2] ^= WIDE;
        let low = self.squeeze();
        self.0[1] ^= SECOND_HALF;
        u128::from(self.squeeze()) << 64 | u128::from(low)
    }

    /// The hashes of what was absorbed and then the words of a text, for each: its words are the first
    /// `lengths` ones in its place of the rows. Cost: twice that of the longest, with AVX2.
    pub(crate) fn finish_all(self, rows: &[Row], lengths: &[usize]) -> [u128; LANES] {
        assert!(lengths.len() <= LANES, "a lane for each text");
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "calls what not every x86-64 can run")]
            // SAFETY: the processor has AVX2.
            return unsafe { sip_avx2::finish_all(self, rows, lengths) };
        }
        self.finish_one_by_one(rows, lengths)
    }

    fn finish_one_by_one(self, rows: &[Row], lengths: &[usize]) -> [u128; LANES] {
        let mut hashes = [0; LANES];
        for (lane, (hash, len)) in hashes.iter_mut().zip(lengths).enumerate() {
            let mut state = self;
            rows[..*len].iter().for_each(|row| state.absorb(row[lane]));
            *hash = state.finish();
        }
        hashes
    }

    #[inline]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.0;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v1);
        *v0 = v0.wrapping_add(*v3);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }

    /// Three rounds, and what is seen of the state then.
    fn squeeze(&mut self) -> u64 {
        for _ in 0..3 {
            self.round();
        }
        let [v0, v1, v2, v3] = self.0;
        v0 ^ v1 ^ v2 ^ v3
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use siphasher::sip128::{Hasher128 as _, SipHasher13};

    use super::*;

    const SECRET: [u8; 16] = *b"0123456789abcdef";

    type Way = fn(State, &[Row], &[usize]) -> [u128; LANES];

    /// Texts of a byte of their own, as long as `lengths` says, behind `before` words.
    fn check(way: Way, before: usize, lengths: &[usize]) {
        let mut begun = State::new(SECRET);
        (0..before).for_each(|_| begun.absorb(0));
        let mut rows = [[u64::MAX; LANES]; 32];
        let mut wanted = Vec::new();
        for (lane, &len) in lengths.iter().enumerate() {
            let mut text = vec![u8::try_from(lane + 1).unwrap(); len];
            let mut hasher = SipHasher13::new_with_key(&SECRET);
            hasher.write(&vec![0; 8 * before]);
            hasher.write(&text);
            wanted.push(hasher.finish128().as_u128());
            text.resize(len / 8 * 8 + 7, 0);
            text.push(u8::try_from((8 * before + len) % 256).unwrap());
            for (row, word) in rows.iter_mut().zip(text.as_chunks().0) {
                row[lane] = u64::from_le_bytes(*word);
            }
        }
        let words: Vec<_> = lengths.iter().map(|len| len / 8 + 1).collect();
        assert_eq!(way(begun, &rows, &words)[..lengths.len()], wanted);
    }

    #[test]
    fn every_way_gives_what_another_implementation_gives() {
        let ways: [Way; 2] = [State::finish_all, State::finish_one_by_one];
        for way in ways {
            for len in 0..200 {
                for before in [0, 1, 40] {
                    check(way, before, &[len]);
                    check(way, before, &[len; LANES]);
                    check(way, before, &[5, len, 199 - len, 17, len / 2]);
                }
            }
            check(way, 0, &[]);
        }
    }
}
