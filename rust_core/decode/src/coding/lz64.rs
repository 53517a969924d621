//! LZ-String in base64 (`compression=lz64`), as older web SDKs made it.
//!
//! A stream of numbers, least bit first, in letters of six bits, most significant first. Each number
//! names a phrase: one that was there before, or a new UTF-16 unit (0: eight bits follow, 1: sixteen);
//! 2 ends the stream. Each phrase but the first, behind the one before it, gives a new one: that one
//! and the first unit of this. Numbers grow by a bit whenever there are more phrases than they name.
//!
//! Every phrase stands in the output, as that has both in a row, so that phrases are places in it.

use penstock_model::{Code, Refusal};

use super::compressed::too_large;

/// Phrases of one body: 16 bytes each, 32 MiB. Events as text have one for some ten letters.
const MAX_PHRASES: usize = 2 << 20;

/// Numbers below are no phrases.
const COMMANDS: usize = 3;
const SHORT_UNIT: usize = 0;
const LONG_UNIT: usize = 1;
const END: usize = 2;

/// Longest unit, as it stands in the output.
const MAX_UNIT_BYTES: usize = 3;

/// Decodes a text to at most `max_bytes` of UTF-8. A surrogate without its other half stays, for the
/// repair of what is no UTF-8.
///
/// Errors: [`Code::InvalidLz64`]; [`Code::DecompressedTooLarge`] past `max_bytes` or
/// [`MAX_PHRASES`]. Memory: one and a half times `max_bytes` and the phrases.
pub(super) fn decode(text: &[u8], max_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let mut numbers = Numbers::new(text);
    // While surrogates are units by themselves, a pair takes six bytes and not four.
    let max_unit_bytes = max_bytes.saturating_add(max_bytes / 2) + MAX_UNIT_BYTES;
    let mut out = Vec::with_capacity(text.len().min(max_bytes));
    let mut phrases = vec![Phrase::default(); COMMANDS];
    let first = numbers.read(2).ok_or_else(invalid)?;
    if first == END {
        return Ok(out);
    }
    let mut last = numbers.unit(first, &mut out)?;
    phrases.push(last);
    let mut width = Width {
        bits: 3,
        until_wider: 4,
    };
    loop {
        let number = numbers.read(width.bits).ok_or_else(invalid)?;
        let start = out.len();
        if number == END {
            break;
        }
        if phrases.len() >= MAX_PHRASES {
            return Err(too_large(max_bytes));
        }
        if number < COMMANDS {
            make_room(&mut out, MAX_UNIT_BYTES, max_unit_bytes)?;
            phrases.push(numbers.unit(number, &mut out)?);
            width.count_phrase();
        } else if let Some(phrase) = phrases.get(number) {
            make_room(&mut out, phrase.len, max_unit_bytes)?;
            out.extend_from_within(phrase.start..phrase.start + phrase.len);
        } else if number == phrases.len() {
            // The phrase that this very one completes.
            make_room(&mut out, last.len + MAX_UNIT_BYTES, max_unit_bytes)?;
            out.extend_from_within(last.start..last.start + last.len);
            let unit_bytes = unit_bytes(&out, last.start);
            out.extend_from_within(last.start..last.start + unit_bytes);
        } else {
            return Err(invalid());
        }
        phrases.push(Phrase {
            start: last.start,
            len: last.len + unit_bytes(&out, start),
        });
        width.count_phrase();
        last = Phrase {
            start,
            len: out.len() - start,
        };
    }
    join_surrogates(&mut out);
    if out.len() > max_bytes {
        return Err(too_large(max_bytes));
    }
    Ok(out)
}

/// Makes room for `len` bytes more; doubles up to the limit, past it refuses.
fn make_room(out: &mut Vec<u8>, len: usize, max_bytes: usize) -> Result<(), Refusal> {
    let needed = out.len().saturating_add(len);
    if needed > max_bytes {
        return Err(too_large(max_bytes));
    }
    if needed > out.capacity() {
        let wanted = out.capacity().saturating_mul(2).clamp(needed, max_bytes);
        out.reserve_exact(wanted - out.len());
    }
    Ok(())
}

/// How wide the next number is.
#[derive(Debug)]
struct Width {
    bits: u32,
    /// New phrases until numbers need one bit more.
    until_wider: usize,
}

impl Width {
    fn count_phrase(&mut self) {
        self.until_wider -= 1;
        if self.until_wider == 0 {
            self.until_wider = 1 << self.bits;
            self.bits += 1;
        }
    }
}

/// A place in the output.
#[derive(Clone, Copy, Debug, Default)]
struct Phrase {
    start: usize,
    len: usize,
}

#[cold]
fn invalid() -> Refusal {
    Refusal::new(Code::InvalidLz64, "the data is cut short or damaged")
}

/// Reads numbers from letters.
#[derive(Debug)]
struct Numbers<'a> {
    letters: std::slice::Iter<'a, u8>,
    /// Bits that were read and not used, the next one lowest.
    bits: u64,
    count: u32,
}

impl<'a> Numbers<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            letters: text.iter(),
            bits: 0,
            count: 0,
        }
    }

    /// A number of up to 32 bits; `None` at the end of the text and at what is no letter.
    fn read(&mut self, width: u32) -> Option<usize> {
        while self.count < width {
            let letter = *self.letters.next()?;
            let bits = BITS[usize::from(letter)];
            if bits == BREAK {
                continue;
            }
            if bits == NO_LETTER {
                return None;
            }
            self.bits |= u64::from(bits) << self.count;
            self.count += 6;
        }
        let number = self.bits & ((1 << width) - 1);
        self.bits >>= width;
        self.count -= width;
        usize::try_from(number).ok()
    }

    /// Appends the unit that follows the number for one.
    fn unit(&mut self, number: usize, out: &mut Vec<u8>) -> Result<Phrase, Refusal> {
        let width = match number {
            SHORT_UNIT => 8,
            LONG_UNIT => 16,
            _ => return Err(invalid()),
        };
        let unit = self.read(width).ok_or_else(invalid)?;
        let start = out.len();
        push_unit(unit, out);
        Ok(Phrase {
            start,
            len: out.len() - start,
        })
    }
}

const NO_LETTER: u8 = 0xff;
const BREAK: u8 = 0xfe;

/// The six bits of each letter, the first lowest.
const BITS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = [NO_LETTER; 256];
    let mut index = 0;
    while index < alphabet.len() {
        #[expect(clippy::cast_possible_truncation, reason = "below 64")]
        let value = index as u8;
        bits[alphabet[index] as usize] = value.reverse_bits() >> 2;
        index += 1;
    }
    // What forms make of `+`, the other alphabet, and how lines end.
    bits[b' ' as usize] = bits[b'+' as usize];
    bits[b'-' as usize] = bits[b'+' as usize];
    bits[b'_' as usize] = bits[b'/' as usize];
    bits[b'\r' as usize] = BREAK;
    bits[b'\n' as usize] = BREAK;
    bits
};

/// Appends a UTF-16 unit as UTF-8 would have it if surrogates were characters.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a unit has 16 bits, and each byte takes a few of them"
)]
fn push_unit(unit: usize, out: &mut Vec<u8>) {
    if unit < 0x80 {
        out.push(unit as u8);
        return;
    }
    let last = 0x80 | (unit & 0x3f) as u8;
    if unit < 0x800 {
        out.extend_from_slice(&[0xc0 | (unit >> 6) as u8, last]);
        return;
    }
    let middle = 0x80 | (unit >> 6 & 0x3f) as u8;
    out.extend_from_slice(&[0xe0 | (unit >> 12) as u8, middle, last]);
}

/// Length of the unit that begins at `start`.
fn unit_bytes(out: &[u8], start: usize) -> usize {
    match out[start] {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        _ => 3,
    }
}

/// Makes characters of pairs of surrogates, in place.
fn join_surrogates(out: &mut Vec<u8>) {
    let Some(first) = memchr::memchr(0xed, out) else {
        return;
    };
    let (mut from, mut to) = (first, first);
    while from < out.len() {
        let pair = out.get(from..from + 6).and_then(joined);
        if let Some(character) = pair {
            out[to..to + 4].copy_from_slice(&character);
            from += 6;
            to += 4;
        } else {
            out[to] = out[from];
            from += 1;
            to += 1;
        }
    }
    out.truncate(to);
}

/// The character of a high surrogate and a low one.
fn joined(bytes: &[u8]) -> Option<[u8; 4]> {
    let [
        0xed,
        high @ 0xa0..=0xaf,
        high_low,
        0xed,
        low @ 0xb0..=0xbf,
        low_low,
    ] = *bytes
    else {
        return None;
    };
    let half = |upper: u8, lower: u8| u32::from(upper & 0x0f) << 6 | u32::from(lower & 0x3f);
    let code = 0x1_0000 + (half(high, high_low) << 10) + half(low, low_low);
    let mut character = [0; 4];
    char::from_u32(code)?.encode_utf8(&mut character);
    Some(character)
}
