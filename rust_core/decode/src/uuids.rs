//! Event ids: reading the forms that clients send, and making one where there is none.

use penstock_model::Uuid;
use sha1_smol::Sha1;

/// Reads a UUID in any of the forms that the common library of Rust reads: hyphenated, 32 digits,
/// in braces, or as `urn:uuid:`; in either case.
pub(crate) fn parse(text: &str) -> Option<Uuid> {
    let text = text.as_bytes();
    match text.len() {
        32 => parse_digits(text.try_into().ok()?),
        36 => parse_hyphenated(text),
        38 => parse_hyphenated(text.strip_prefix(b"{")?.strip_suffix(b"}")?),
        45 => parse_hyphenated(text.strip_prefix(b"urn:uuid:")?),
        _ => None,
    }
}

fn parse_hyphenated(text: &[u8]) -> Option<Uuid> {
    let text: &[u8; 36] = text.try_into().ok()?;
    if [text[8], text[13], text[18], text[23]] != *b"----" {
        return None;
    }
    let mut digits = [0; 32];
    digits[..8].copy_from_slice(&text[..8]);
    digits[8..12].copy_from_slice(&text[9..13]);
    digits[12..16].copy_from_slice(&text[14..18]);
    digits[16..20].copy_from_slice(&text[19..23]);
    digits[20..].copy_from_slice(&text[24..]);
    parse_digits(&digits)
}

fn parse_digits(digits: &[u8; 32]) -> Option<Uuid> {
    let (pairs, _) = digits.as_chunks::<2>();
    let mut bytes = [0; 16];
    let mut all = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    (all <= 0xf).then_some(Uuid(bytes))
}

/// The value of each byte as a hexadecimal digit; 255 for what is none. A branch a digit costs
/// more than all the rest of reading an id.
static DIGITS: [u8; 256] = {
    let mut table = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        table[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// Makes a version 7 UUID (RFC 9562 §5.7) for event `index` of a request.
///
/// The time part is `timestamp_us`, at the earliest 1970; the other bits follow from `seed` and
/// `index` alone, so decoding a record again gives the same id.
pub(crate) fn make_v7(timestamp_us: i64, seed: [u8; 16], index: usize) -> Uuid {
    let milliseconds = u64::try_from(timestamp_us.div_euclid(1_000)).unwrap_or(0);
    let seed = u128::from_le_bytes(seed);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of the seed"
    )]
    let (low, high) = (seed as u64, (seed >> 64) as u64);
    let first = split_mix(low, index as u64);
    let second = split_mix(high ^ first, index as u64);
    let value = (u128::from(milliseconds) & 0xffff_ffff_ffff) << 80
        | 0x7 << 76
        | (u128::from(first) & 0xfff) << 64
        | 0b10 << 62
        | u128::from(second) & 0x3fff_ffff_ffff_ffff;
    Uuid(value.to_be_bytes())
}

/// Makes the version 5 UUID (RFC 9562 §5.5) of a name: SHA-1 of both, cut.
pub(crate) fn make_v5(namespace: u128, name: &[u8]) -> Uuid {
    let mut hash = Sha1::from(namespace.to_be_bytes());
    hash.update(name);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.digest().bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid(bytes)
}

/// Number `index` of the SplitMix64 sequence that starts at `seed` (Steele, Lea, Flood, 2014).
fn split_mix(seed: u64, index: u64) -> u64 {
    let mut bits = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_usual_forms_are_read() {
        let expected = Some(Uuid(
            0x0192_f3a4_b5c6_7d8e_9f00_1122_3344_55ff_u128.to_be_bytes(),
        ));
        for text in [
            "0192f3a4-b5c6-7d8e-9f00-1122334455ff",
            "0192F3A4-B5C6-7D8E-9F00-1122334455FF",
            "0192f3a4b5c67d8e9f001122334455ff",
            "{0192f3a4-b5c6-7d8e-9f00-1122334455ff}",
            "urn:uuid:0192f3a4-b5c6-7d8e-9f00-1122334455ff",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_uuid() {
        for text in [
            "",
            "x",
            "0192f3a4-b5c6-7d8e-9f00-1122334455f",
            "0192f3a4-b5c6-7d8e-9f00-1122334455fg",
            "0192f3a4-b5c6-7d8e-9f00-1122334455fff",
            "0192f3a4b-5c6-7d8e-9f00-1122334455ff",
            "0192f3a4-b5c6-7d8e-9f0-01122334455ff",
            "0192f3a4_b5c6_7d8e_9f00_1122334455ff",
            "(0192f3a4-b5c6-7d8e-9f00-1122334455ff)",
            "+192f3a4b5c67d8e9f001122334455ff",
            " 0192f3a4b5c67d8e9f001122334455f",
            "0192f3a4-b5c6-7d8e-9f00-1122334455é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn made_ids_carry_version_variant_and_time() {
        let uuid = make_v7(1_767_225_600_123_456, [0xff; 16], 3);
        let value = u128::from_be_bytes(uuid.0);
        assert_eq!(value >> 80, 1_767_225_600_123);
        assert_eq!(value >> 76 & 0xf, 7);
        assert_eq!(value >> 62 & 0b11, 0b10);
    }

    #[test]
    fn made_ids_differ_by_index_and_seed_and_repeat() {
        let mut all = std::collections::HashSet::new();
        for index in 0..1_000 {
            assert!(all.insert(make_v7(5, [1; 16], index)));
            assert!(all.insert(make_v7(5, [2; 16], index)));
            assert_eq!(make_v7(5, [1; 16], index), make_v7(5, [1; 16], index));
        }
    }

    #[test]
    fn named_ids_are_those_of_the_standard() {
        // RFC 9562, appendix A.4: the DNS namespace and this name.
        let namespace = 0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8;
        assert_eq!(
            make_v5(namespace, b"www.example.com").to_string(),
            "2ed6657d-e927-568b-95e1-2665a8aea6a2"
        );
    }

    #[test]
    fn times_before_the_epoch_are_clamped() {
        assert_eq!(u128::from_be_bytes(make_v7(-1, [0; 16], 0).0) >> 80, 0);
    }
}
