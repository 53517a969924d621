//! Bytes as words of 64 bits, little-endian, one after the other without gaps: what SipHash reads.
//!
//! Written by words and not by bytes: a word that was just stored in pieces can't be read at once.

#![expect(
    clippy::inline_always,
    reason = "the parts of a word stay in registers only so: 20 ns less for an identity of 77 bytes"
)]

/// Gives words to `sink`, as soon as they are full.
pub(crate) struct Packer<F> {
    sink: F,
    /// The lowest bits of the next word.
    partial: u64,
    /// How many: a multiple of 8, less than 64.
    bits: usize,
    /// Bytes of the words that were given.
    given: usize,
}

impl<F: FnMut(u64)> Packer<F> {
    pub(crate) fn new(sink: F) -> Self {
        Self {
            sink,
            partial: 0,
            bits: 0,
            given: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn bytes_16(&mut self, bytes: &[u8; 16]) {
        for word in bytes.as_chunks().0 {
            self.word(u64::from_le_bytes(*word));
        }
    }

    /// A text's length, in 8 bytes, and the text.
    #[inline(always)]
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.word(text.len() as u64);
        let (words, rest) = text.as_chunks();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.part(read_part(rest), 8 * rest.len());
    }

    /// Zeros up to a whole word. Returns the bytes of all words so far.
    pub(crate) fn fill(mut self) -> usize {
        if self.bits > 0 {
            self.part(0, 64 - self.bits);
        }
        self.given
    }

    /// SipHash's last word: what is left, zeros, and the length of all modulo 256, where `before` bytes
    /// were hashed before the first word.
    #[inline(always)]
    pub(crate) fn end(mut self, before: usize) {
        let bytes = before.wrapping_add(self.given).wrapping_add(self.bits / 8);
        (self.sink)(self.partial | (bytes as u64) << 56);
    }

    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.give(self.partial | word << self.bits);
        // In two steps: there may be no bits, and a shift by 64 is none.
        self.partial = word >> 1 >> (63 - self.bits);
    }

    /// The lowest bits of a word, of which the others are 0; less than 64.
    #[inline(always)]
    fn part(&mut self, word: u64, bits: usize) {
        self.partial |= word << self.bits;
        let all = self.bits + bits;
        if all >= 64 {
            self.give(self.partial);
            self.partial = word >> 1 >> (63 - self.bits);
        }
        self.bits = all % 64;
    }

    #[inline(always)]
    fn give(&mut self, word: u64) {
        (self.sink)(word);
        self.given = self.given.wrapping_add(8);
    }
}

/// Less than 8 bytes as the lowest of a word.
#[inline(always)]
fn read_part(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // Where they overlap they agree.
        let [first, last] = [first, last].map(|four| u64::from(u32::from_le_bytes(*four)));
        return first | last << (8 * (len - 4));
    }
    // The first, the one in the middle and the last are all of up to three.
    match (bytes.first(), bytes.get(len / 2), bytes.last()) {
        (Some(first), Some(middle), Some(last)) => {
            u64::from(*first)
                | u64::from(*middle) << (8 * (len / 2))
                | u64::from(*last) << (8 * (len - 1))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_bytes_that_were_put_in() {
        let bytes: Vec<u8> = (1..=40).collect();
        for first in 0..20 {
            for second in 0..20 {
                let [first, second] = [&bytes[..first], &bytes[20..20 + second]];
                let mut words = Vec::new();
                let mut packer = Packer::new(|word: u64| words.extend(word.to_le_bytes()));
                packer.bytes_16(&[9; 16]);
                packer.text(first);
                packer.text(second);
                packer.end(300);

                let len = |text: &[u8]| (text.len() as u64).to_le_bytes();
                let mut wanted = [&[9; 16], &len(first)[..], first, &len(second), second].concat();
                let total = 300 + wanted.len();
                wanted.resize(wanted.len() / 8 * 8 + 7, 0);
                wanted.push(u8::try_from(total % 256).unwrap());
                assert_eq!(words, wanted);
            }
        }
    }

    #[test]
    fn zeros_fill_the_last_word() {
        for len in 0..20 {
            let text = [7; 20];
            let mut words = Vec::new();
            let mut packer = Packer::new(|word: u64| words.extend(word.to_le_bytes()));
            packer.text(&text[..len]);
            let bytes = packer.fill();
            let mut wanted = [&(len as u64).to_le_bytes(), &text[..len]].concat();
            wanted.resize(wanted.len().next_multiple_of(8), 0);
            assert_eq!((bytes, &words), (wanted.len(), &wanted));
        }
    }
}
