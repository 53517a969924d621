//! The place of a JSON value in its text.

const ESCAPED: u32 = 1 << 31;

/// Where a value lies in the body, and for strings whether it holds an escape. Eight bytes, since
/// each event notes some thirty of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Value {
    start: u32,
    /// Top bit: the string holds a backslash.
    end: u32,
}

impl Value {
    /// What a field reads as that was not there.
    pub(crate) const ABSENT: Self = Self { start: 0, end: 0 };

    /// The caller keeps texts below 2 GiB (`request::MAX_TEXT_BYTES`).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "texts are shorter than 2^31 bytes"
    )]
    #[inline]
    pub(crate) fn new(start: usize, end: usize, escaped: bool) -> Self {
        debug_assert!(end < ESCAPED as usize, "texts are shorter than 2^31 bytes");
        Self {
            start: start as u32,
            end: end as u32 | if escaped { ESCAPED } else { 0 },
        }
    }

    pub(crate) const fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) const fn end(self) -> usize {
        (self.end & !ESCAPED) as usize
    }

    pub(crate) const fn len(self) -> usize {
        self.end() - self.start()
    }

    pub(crate) const fn escaped(self) -> bool {
        self.end & ESCAPED != 0
    }

    pub(crate) const fn is_absent(self) -> bool {
        self.end == 0
    }

    /// The value's text, of strings with the quotes; empty if absent.
    pub(crate) fn bytes(self, text: &[u8]) -> &[u8] {
        &text[self.start()..self.end()]
    }

    /// The first byte, which tells the type; 0 if absent.
    pub(crate) fn kind(self, text: &[u8]) -> u8 {
        if self.is_absent() {
            0
        } else {
            text[self.start()]
        }
    }

    pub(crate) fn is_string(self, text: &[u8]) -> bool {
        self.kind(text) == b'"'
    }

    pub(crate) fn is_object(self, text: &[u8]) -> bool {
        self.kind(text) == b'{'
    }

    pub(crate) fn is_number(self, text: &[u8]) -> bool {
        matches!(self.kind(text), b'-' | b'0'..=b'9')
    }

    /// Absent or `null`.
    pub(crate) fn is_null(self, text: &[u8]) -> bool {
        matches!(self.kind(text), 0 | b'n')
    }
}
