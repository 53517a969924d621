//! The place in a text, and the tokens that it passes.
//!
//! What runs for each member of each event is inlined whole; what is rare stands apart, so that the
//! common path stays short.

#![expect(
    clippy::inline_always,
    reason = "measured: 1.0 µs an event of 1 kB with calls, 0.8 without"
)]

use super::specials::{self, BLOCK_BYTES};
use super::{Fault, SyntaxError, Value};

pub(super) type Scanned<T> = Result<T, SyntaxError>;

/// A place in a text. A few words, kept in registers by loops that hold one of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
    /// First byte of the block that `specials` tells of.
    block: usize,
    specials: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8], at: usize) -> Self {
        Self {
            text,
            at,
            // Behind every byte to come, so the first search loads a block.
            block: at.wrapping_sub(BLOCK_BYTES),
            specials: 0,
        }
    }

    /// The first quote, backslash or control character at or after `from`, which is not before the
    /// start of the block; the end if there is none.
    ///
    /// The specials of 64 bytes are found at once and kept: where a string ends is then a shift and
    /// a count away from where it began. A search of its own for each string made every string
    /// wait some 20 cycles for the one before it.
    #[inline(always)]
    fn find_special(&mut self, mut from: usize) -> usize {
        loop {
            let offset = from.wrapping_sub(self.block);
            if offset < BLOCK_BYTES {
                let rest = self.specials >> offset;
                if rest != 0 {
                    return from + rest.trailing_zeros() as usize;
                }
                from = self.block + BLOCK_BYTES;
            }
            if from >= self.text.len() {
                return self.text.len();
            }
            self.block = from - from % BLOCK_BYTES;
            self.specials = specials::of_block(self.text, self.block);
        }
    }

    /// See [`super::Scanner::peek`].
    #[inline(always)]
    pub(super) fn peek(&mut self) -> u8 {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(&byte) => return byte,
                None => return 0,
            }
        }
    }

    #[inline(always)]
    pub(super) fn pass(&mut self) {
        self.at += 1;
    }

    /// The byte here; 0 at the end.
    #[inline(always)]
    pub(super) fn byte(self) -> u8 {
        self.text.get(self.at).copied().unwrap_or_default()
    }

    #[cold]
    #[inline(never)]
    pub(super) fn fail<T>(self, fault: Fault) -> Scanned<T> {
        Err(SyntaxError::new(self.at, fault))
    }

    /// See [`super::Scanner::key`].
    #[inline(always)]
    pub(super) fn key(&mut self, lone_surrogate: &mut bool) -> Scanned<Value> {
        if self.peek() != b'"' {
            return self.fail(Fault::ExpectedKey);
        }
        let key = self.string(lone_surrogate)?;
        if self.peek() != b':' {
            return self.fail(Fault::ExpectedColon);
        }
        self.pass();
        Ok(key)
    }

    /// See [`super::Scanner::more`].
    #[inline(always)]
    pub(super) fn more(&mut self, close: u8) -> Scanned<bool> {
        let byte = self.peek();
        if byte != b',' && byte != close {
            return self.fail(Fault::ExpectedCommaOrEnd);
        }
        self.pass();
        Ok(byte == b',')
    }

    /// See [`super::Scanner::any`].
    #[inline(always)]
    pub(super) fn any(&mut self, close: u8) -> bool {
        if self.peek() == close {
            self.pass();
            return false;
        }
        true
    }

    /// Skips the string that begins here; sets the flag if there is a lone surrogate in it.
    #[inline(always)]
    pub(super) fn string(&mut self, lone_surrogate: &mut bool) -> Scanned<Value> {
        let start = self.at;
        let end = self.find_special(start + 1);
        let value = if self.text.get(end) == Some(&b'"') {
            Value::new(start, end + 1, false)
        } else {
            self.string_with_escapes(end, lone_surrogate)?
        };
        self.at = value.end();
        Ok(value)
    }

    /// Goes on with the string that begins here at its first special character.
    #[inline(never)]
    fn string_with_escapes(mut self, special: usize, lone_surrogate: &mut bool) -> Scanned<Value> {
        let start = self.at;
        self.at = special;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => return Ok(Value::new(start, self.at + 1, true)),
                Some(b'\\') => self.escape(lone_surrogate)?,
                Some(_) => return self.fail(Fault::ControlCharacter),
                None => return self.fail(Fault::UnclosedString),
            }
            self.at = self.find_special(self.at);
        }
    }

    fn escape(&mut self, lone_surrogate: &mut bool) -> Scanned<()> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let Some(unit) = self.unicode_unit() else {
                    return self.fail(Fault::BadEscape);
                };
                self.at += 6;
                match unit {
                    0xd800..=0xdbff if matches!(self.unicode_unit(), Some(0xdc00..=0xdfff)) => {
                        self.at += 6;
                    }
                    0xd800..=0xdfff => *lone_surrogate = true,
                    _ => {}
                }
            }
            _ => return self.fail(Fault::BadEscape),
        }
        Ok(())
    }

    /// The number of the `\uXXXX` here.
    fn unicode_unit(self) -> Option<u16> {
        super::strings::unicode_unit(&self.text[self.at..])
    }

    /// Skips the number or literal that begins here with `byte`.
    #[inline(always)]
    pub(super) fn scalar(&mut self, byte: u8) -> Scanned<Value> {
        let value = self.scalar_here(byte)?;
        self.at = value.end();
        Ok(value)
    }

    #[inline(never)]
    fn scalar_here(mut self, byte: u8) -> Scanned<Value> {
        let start = self.at;
        match byte {
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => return self.fail(Fault::ExpectedValue),
        }
        Ok(Value::new(start, self.at, false))
    }

    fn literal(&mut self, expected: &'static [u8]) -> Scanned<()> {
        if !self.text[self.at..].starts_with(expected) {
            return self.fail(Fault::BadLiteral);
        }
        self.at += expected.len();
        Ok(())
    }

    fn number(&mut self) -> Scanned<()> {
        if self.byte() == b'-' {
            self.at += 1;
        }
        // A zero stands alone; what follows it is then no comma and fails there.
        if self.byte() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.byte(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scanned<()> {
        let start = self.at;
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start {
            self.fail(Fault::BadNumber)
        } else {
            Ok(())
        }
    }
}
