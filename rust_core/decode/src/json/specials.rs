//! Finds the bytes that end or interrupt a JSON string: quotes, backslashes, control characters.

/// Bytes looked at together: as many as a word has bits.
pub(super) const BLOCK_BYTES: usize = 64;

/// A bit for each special byte of the block that begins at `start`; none for what lies behind the
/// end of the text.
#[inline]
pub(super) fn of_block(text: &[u8], start: usize) -> u64 {
    match text.get(start..).and_then(<[u8]>::first_chunk) {
        Some(block) => of_bytes(block),
        None => of_last_block(text, start),
    }
}

#[cold]
#[inline(never)]
fn of_last_block(text: &[u8], start: usize) -> u64 {
    let rest = text.get(start..).unwrap_or_default();
    let mut block = [b' '; BLOCK_BYTES];
    block[..rest.len()].copy_from_slice(rest);
    of_bytes(&block)
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn of_bytes(block: &[u8; BLOCK_BYTES]) -> u64 {
    #[expect(unsafe_code, reason = "one call of a function that needs SSE2")]
    // SAFETY: SSE2 is part of every x86-64, so nothing has to be detected.
    unsafe {
        by_sse2(block)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn by_sse2(block: &[u8; BLOCK_BYTES]) -> u64 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8,
    };
    let highest_control = _mm_set1_epi8(0x1f);
    let quote = _mm_set1_epi8(0x22);
    let backslash = _mm_set1_epi8(0x5c);
    let mut specials = 0;
    for (index, part) in block.as_chunks::<16>().0.iter().enumerate() {
        let whole = i128::from_le_bytes(*part);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of it")]
        let bytes = _mm_set_epi64x((whole >> 64) as i64, whole as i64);
        let control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, highest_control), highest_control);
        let named = _mm_or_si128(
            _mm_cmpeq_epi8(bytes, quote),
            _mm_cmpeq_epi8(bytes, backslash),
        );
        // 16 bits, one a byte.
        let mask = _mm_movemask_epi8(_mm_or_si128(control, named)).cast_unsigned();
        specials |= u64::from(mask) << (16 * index);
    }
    specials
}

/// For processors without a path of their own.
#[cfg(not(target_arch = "x86_64"))]
fn of_bytes(block: &[u8; BLOCK_BYTES]) -> u64 {
    byte_by_byte(block)
}

/// A form that compilers vectorise.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn byte_by_byte(block: &[u8; BLOCK_BYTES]) -> u64 {
    let mut specials = 0;
    for (index, byte) in block.iter().enumerate() {
        let special = matches!(byte, 0..=0x1f | b'"' | b'\\');
        specials |= u64::from(special) << index;
    }
    specials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_told_apart_at_every_place() {
        for byte in 0..=u8::MAX {
            for index in 0..BLOCK_BYTES {
                let mut block = [b'a'; BLOCK_BYTES];
                block[index] = byte;
                let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(of_bytes(&block), u64::from(special) << index, "{byte:#x}");
                assert_eq!(byte_by_byte(&block), of_bytes(&block));
            }
        }
    }

    #[test]
    fn the_end_of_the_text_is_no_special() {
        assert_eq!(of_block(b"", 0), 0);
        assert_eq!(of_block(b"a\"", 0), 0b10);
        assert_eq!(of_block(&[b'"'; 100], 64), (1 << 36) - 1);
        assert_eq!(of_block(&[b'"'; 128], 64), u64::MAX);
        assert_eq!(of_block(b"abc", 64), 0);
    }
}
