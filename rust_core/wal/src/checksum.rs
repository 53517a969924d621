//! CRC-32C of a payload, made before its frame is known.
//!
//! A frame's checksum goes over generation, header, context and payload, in this order. The log's one
//! thread knows the first three; going through the payload as well was a fifth of what it did between
//! two syncs. A CRC is linear: that of two pieces is that of the first, multiplied by `x^8` for each
//! byte of the second, plus that of the second. The crate for CRC-32C can do so too, but takes ten
//! microseconds.

/// Castagnoli's polynomial, lowest power in the highest bit, as in all CRCs here.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `x^8`: a shift by one byte.
const ONE_BYTE: u32 = 1 << 23;

/// Payloads below this cost less to go through than to multiply for.
const MIN_BYTES: usize = 16 * 1024;

/// Shifts by 2^index bytes.
const SHIFTS: [u32; usize::BITS as usize] = {
    let mut shifts = [ONE_BYTE; usize::BITS as usize];
    let mut index = 1;
    while index < shifts.len() {
        shifts[index] = multiply(shifts[index - 1], shifts[index - 1]);
        index += 1;
    }
    shifts
};

/// A payload's share of its frame's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadChecksum {
    crc: u32,
    /// What the checksum of all that stands before it is multiplied by.
    shift: u32,
}

impl PayloadChecksum {
    /// `None` if the log had better make it itself. To be made where the payload was just read, and
    /// without a lock. Cost: a microsecond for each 10 KB.
    pub fn of(payload: &[u8]) -> Option<Self> {
        (payload.len() >= MIN_BYTES).then(|| Self {
            crc: crc32c::crc32c(payload),
            shift: shift_by(payload.len()),
        })
    }

    /// The checksum of what has the checksum `before`, and the payload behind it.
    pub(crate) const fn appended_to(self, before: u32) -> u32 {
        multiply(self.shift, before) ^ self.crc
    }

    pub(crate) fn is_of(self, payload: &[u8]) -> bool {
        Self::of(payload) == Some(self)
    }
}

fn shift_by(bytes: usize) -> u32 {
    let used = SHIFTS
        .iter()
        .enumerate()
        .filter(|(index, _)| bytes >> index & 1 == 1);
    // By no byte: x^0.
    used.fold(1 << 31, |product, (_, shift)| multiply(product, *shift))
}

/// The product of two polynomials over one bit, modulo [`POLYNOMIAL`].
const fn multiply(left: u32, mut right: u32) -> u32 {
    let mut product = 0;
    let mut power = 0;
    while power < 32 {
        // Without branches, which would be guessed wrongly every other time.
        product ^= right & (left >> (31 - power) & 1).wrapping_neg();
        right = (right >> 1) ^ (POLYNOMIAL & (right & 1).wrapping_neg());
        power += 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        let mut state = len as u64 | 1;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn appended_it_is_the_checksum_of_both() {
        for len in [MIN_BYTES, MIN_BYTES + 1, 40_001, 65_536, 1_000_000] {
            let payload = bytes(len);
            let known = PayloadChecksum::of(&payload).unwrap();
            assert!(known.is_of(&payload));
            for before in [&b""[..], b"0", b"a frame's header and its context"] {
                let expected = crc32c::crc32c_append(crc32c::crc32c(before), &payload);
                assert_eq!(known.appended_to(crc32c::crc32c(before)), expected, "{len}");
            }
        }
        assert_eq!(PayloadChecksum::of(&bytes(MIN_BYTES - 1)), None);
    }

    #[test]
    fn it_is_of_one_payload_only() {
        let mut payload = bytes(MIN_BYTES);
        let known = PayloadChecksum::of(&payload).unwrap();
        payload[77] ^= 1;
        assert!(!known.is_of(&payload));
    }
}
