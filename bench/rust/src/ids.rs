//! Event ids that never repeat, so that deduplication finds none.

/// Length of a UUID's text.
pub(crate) const ID_BYTES: usize = 36;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// 2026-01-15T00:00:00Z in milliseconds: the time part of every id, as a UUID of version 7 has it.
const BASE_MILLIS: u64 = 1_768_435_200_000;

/// A counter that prints as UUIDs of version 7.
///
/// Two generators with different `space` never give the same id. The 64 counter bits go through a
/// bijection first, so the ids are as incompressible as real ones.
#[derive(Clone, Debug)]
pub struct Ids {
    space: u16,
    next: u64,
}

impl Ids {
    /// Starts at zero. `space`: 0 to 1023, one for each run against the same server.
    pub fn new(space: u16) -> Self {
        assert!(space < 1024, "the id has ten bits for the space");
        Self { space, next: 0 }
    }

    /// Writes the next id over `out`.
    pub fn write(&mut self, out: &mut [u8; ID_BYTES]) {
        let millis = BASE_MILLIS + self.next / 64;
        let mixed = mix(self.next);
        self.next += 1;
        // 48 bits of time, version 7, 12 mixed bits, variant 2, 10 bits of space, 52 mixed bits.
        let high = (millis << 16) | 0x7000 | (mixed >> 52);
        let low = (2 << 62) | (u64::from(self.space) << 52) | (mixed & ((1 << 52) - 1));
        let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        let mut at = 0;
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                out[at] = b'-';
                at += 1;
            }
            out[at] = DIGITS[usize::from(byte >> 4)];
            out[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014): a bijection on 64 bits.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_uuids_of_version_7_and_never_repeat() {
        let mut seen = HashSet::new();
        for space in [0, 1, 1023] {
            let mut ids = Ids::new(space);
            for _ in 0..10_000 {
                let mut id = [0; ID_BYTES];
                ids.write(&mut id);
                let text = std::str::from_utf8(&id).unwrap();
                assert_eq!(text.as_bytes()[14], b'7');
                assert!(matches!(text.as_bytes()[19], b'8'..=b'9' | b'a'..=b'b'));
                assert_eq!(text.matches('-').count(), 4);
                assert!(seen.insert(id));
            }
        }
    }
}
