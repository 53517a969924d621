//! The members of an object, or the elements of an array, that the scanner has passed already.

use std::borrow::Cow;

use super::{Scanner, Value, slice, unescape};

/// Goes over the members of an object of checked text, in order, duplicates included.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    scanner: Scanner<'a>,
    more: bool,
}

impl<'a> Members<'a> {
    /// `object` must be the place of an object in `text`, and `text` must have been scanned.
    pub(crate) fn new(text: &'a [u8], object: Value) -> Self {
        let mut scanner = Scanner::new(text, object.start() + 1, u32::MAX);
        let more = scanner.any(b'}');
        Self { scanner, more }
    }

    /// What a key, or any other string, means: its text between the quotes with escapes undone.
    pub(crate) fn key_text(text: &str, key: Value) -> Cow<'_, str> {
        let literal = slice(text, key.start() + 1, key.end() - 1);
        if !key.escaped() {
            return Cow::Borrowed(literal);
        }
        let mut out = String::with_capacity(literal.len());
        unescape(literal, false, &mut out);
        Cow::Owned(out)
    }
}

impl Iterator for Members<'_> {
    type Item = (Value, Value);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.more {
            return None;
        }
        let key = self.scanner.key();
        let value = self.scanner.value(1);
        let more = self.scanner.more(b'}');
        debug_assert!(
            key.is_ok() && value.is_ok() && more.is_ok(),
            "the text was scanned before"
        );
        self.more = more.unwrap_or(false);
        Some((key.ok()?, value.ok()?))
    }
}

/// Goes over the elements of an array of checked text, in order.
#[derive(Debug)]
pub(crate) struct Elements<'a> {
    scanner: Scanner<'a>,
    more: bool,
}

impl<'a> Elements<'a> {
    /// `array` must be the place of an array in `text`, and `text` must have been scanned.
    pub(crate) fn new(text: &'a [u8], array: Value) -> Self {
        let mut scanner = Scanner::new(text, array.start() + 1, u32::MAX);
        let more = scanner.any(b']');
        Self { scanner, more }
    }
}

impl Iterator for Elements<'_> {
    type Item = Value;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.more {
            return None;
        }
        let value = self.scanner.value(1);
        let more = self.scanner.more(b']');
        debug_assert!(value.is_ok() && more.is_ok(), "the text was scanned before");
        self.more = more.unwrap_or(false);
        value.ok()
    }
}
