//! [`State`] of eight texts, in the registers of AVX2.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_blendv_epi8, _mm256_extract_epi64, _mm256_or_si256,
    _mm256_set_epi8, _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_shuffle_epi8,
    _mm256_shuffle_epi32, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_xor_si256,
};

use crate::sip::{LANES, Row, SECOND_HALF, State, WIDE};

/// A word of each text.
type Wide = [__m256i; 2];

struct States([Wide; 4]);

/// As [`State::finish_all`].
#[target_feature(enable = "avx2")]
pub(crate) fn finish_all(begun: State, rows: &[Row], lengths: &[usize]) -> [u128; LANES] {
    let mut states = States(begun.0.map(|word| [splat(word); 2]));
    let shortest = lengths
        .iter()
        .fold(rows.len(), |least, len| least.min(*len));
    let longest = lengths.iter().fold(0, |most, len| most.max(*len));
    for row in &rows[..shortest] {
        states.absorb(wide(*row));
    }
    for (row, step) in rows[..longest].iter().zip(0..).skip(shortest) {
        let before = states.0;
        states.absorb(wide(*row));
        // A text that has ended stays where it is.
        let mut goes_on = [0; LANES];
        for (goes_on, len) in goes_on.iter_mut().zip(lengths) {
            *goes_on = if step < *len { u64::MAX } else { 0 };
        }
        let goes_on = wide(goes_on);
        for (after, before) in states.0.iter_mut().zip(before) {
            for half in 0..2 {
                after[half] = _mm256_blendv_epi8(before[half], after[half], goes_on[half]);
            }
        }
    }
    states.0[2] = xor(states.0[2], [splat(WIDE); 2]);
    let low = row(states.squeeze());
    states.0[1] = xor(states.0[1], [splat(SECOND_HALF); 2]);
    let high = row(states.squeeze());
    std::array::from_fn(|lane| u128::from(high[lane]) << 64 | u128::from(low[lane]))
}

impl States {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn absorb(&mut self, words: Wide) {
        self.0[3] = xor(self.0[3], words);
        self.round();
        self.0[0] = xor(self.0[0], words);
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.0;
        v0 = add(v0, v1);
        v2 = add(v2, v3);
        v1 = xor(rotate::<13, 51>(v1), v0);
        v3 = xor(rotate_16(v3), v2);
        v0 = rotate_32(v0);
        v2 = add(v2, v1);
        v0 = add(v0, v3);
        v1 = xor(rotate::<17, 47>(v1), v2);
        v3 = xor(rotate::<21, 43>(v3), v0);
        v2 = rotate_32(v2);
        self.0 = [v0, v1, v2, v3];
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn squeeze(&mut self) -> Wide {
        for _ in 0..3 {
            self.round();
        }
        let [v0, v1, v2, v3] = self.0;
        xor(xor(v0, v1), xor(v2, v3))
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(left: Wide, right: Wide) -> Wide {
    [
        _mm256_add_epi64(left[0], right[0]),
        _mm256_add_epi64(left[1], right[1]),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(left: Wide, right: Wide) -> Wide {
    [
        _mm256_xor_si256(left[0], right[0]),
        _mm256_xor_si256(left[1], right[1]),
    ]
}

/// To the left; the two numbers of bits are 64 together.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const LEFT: i32, const RIGHT: i32>(words: Wide) -> Wide {
    const { assert!(LEFT + RIGHT == 64) };
    words.map(|words| {
        _mm256_or_si256(
            _mm256_slli_epi64::<LEFT>(words),
            _mm256_srli_epi64::<RIGHT>(words),
        )
    })
}

/// By whole bytes, in one instruction.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate_16(words: Wide) -> Wide {
    let from = _mm256_set_epi8(
        13, 12, 11, 10, 9, 8, 15, 14, 5, 4, 3, 2, 1, 0, 7, 6, //
        13, 12, 11, 10, 9, 8, 15, 14, 5, 4, 3, 2, 1, 0, 7, 6,
    );
    words.map(|words| _mm256_shuffle_epi8(words, from))
}

/// By exchanging halves.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate_32(words: Wide) -> Wide {
    words.map(|words| _mm256_shuffle_epi32::<0b10_11_00_01>(words))
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u64) -> __m256i {
    _mm256_set1_epi64x(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn wide(row: Row) -> Wide {
    let word = |lane: usize| row[lane].cast_signed();
    [
        _mm256_set_epi64x(word(3), word(2), word(1), word(0)),
        _mm256_set_epi64x(word(7), word(6), word(5), word(4)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn row([low, high]: Wide) -> Row {
    [
        _mm256_extract_epi64::<0>(low),
        _mm256_extract_epi64::<1>(low),
        _mm256_extract_epi64::<2>(low),
        _mm256_extract_epi64::<3>(low),
        _mm256_extract_epi64::<0>(high),
        _mm256_extract_epi64::<1>(high),
        _mm256_extract_epi64::<2>(high),
        _mm256_extract_epi64::<3>(high),
    ]
    .map(i64::cast_unsigned)
}
