//! The reader's cursor: skips values, iteratively and strictly.

use super::{Fault, SyntaxError, Value};

type Scanned<T> = Result<T, SyntaxError>;

/// Reads forward through one text. The text must be UTF-8: bytes above 0x7f are not looked at.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    max_depth: u32,
    open: OpenContainers,
    /// A container deeper than `max_depth` was skipped. Set here, cleared by whoever reads it.
    pub(crate) too_deep: bool,
    /// A lone surrogate escape was passed. Set here, cleared by whoever reads it.
    pub(crate) lone_surrogate: bool,
}

/// One bit for each open container of a skip, object or array: the innermost 64 in a register,
/// the others in a vector. A text of n bytes takes at most n/8 bytes of it.
#[derive(Debug, Default)]
struct OpenContainers {
    word: u64,
    count: u32,
    outer: Vec<u64>,
}

impl OpenContainers {
    fn push(&mut self, is_object: bool) {
        if self.count.is_multiple_of(64) && self.count > 0 {
            self.outer.push(self.word);
        }
        self.word = self.word << 1 | u64::from(is_object);
        self.count += 1;
    }

    fn pop(&mut self) {
        self.word >>= 1;
        self.count -= 1;
        if self.count.is_multiple_of(64) && self.count > 0 {
            self.word = self.outer.pop().unwrap_or_default();
        }
    }

    fn innermost_is_object(&self) -> bool {
        self.word & 1 == 1
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn clear(&mut self) {
        self.count = 0;
        self.outer.clear();
    }
}

impl<'a> Scanner<'a> {
    /// Reads `text` from byte `at` on. `max_depth` counts containers from the start of the text.
    pub(crate) fn new(text: &'a [u8], at: usize, max_depth: u32) -> Self {
        Self {
            text,
            at,
            max_depth,
            open: OpenContainers::default(),
            too_deep: false,
            lone_surrogate: false,
        }
    }

    pub(crate) fn text(&self) -> &'a [u8] {
        self.text
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Passes white space and gives the byte after it without passing that; 0 at the end, which is
    /// no byte that JSON allows outside of strings.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(&byte) => return byte,
                None => return 0,
            }
        }
    }

    /// Passes the byte that [`Self::peek`] showed.
    #[inline]
    pub(crate) fn pass(&mut self) {
        self.at += 1;
    }

    pub(crate) fn fail<T>(&self, fault: Fault) -> Scanned<T> {
        Err(SyntaxError::new(self.at, fault))
    }

    /// Notes that a container is open at `depth`, the outermost being at 1.
    #[inline]
    pub(crate) fn enter(&mut self, depth: u32) {
        self.too_deep |= depth > self.max_depth;
    }

    /// Reads `"key" :` and gives the key, quotes included.
    #[inline]
    pub(crate) fn key(&mut self) -> Scanned<Value> {
        if self.peek() != b'"' {
            return self.fail(Fault::ExpectedKey);
        }
        let key = self.string()?;
        if self.peek() != b':' {
            return self.fail(Fault::ExpectedColon);
        }
        self.pass();
        Ok(key)
    }

    /// After a member or an element: passes a comma (true) or the closing bracket (false).
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Scanned<bool> {
        let byte = self.peek();
        if byte != b',' && byte != close {
            return self.fail(Fault::ExpectedCommaOrEnd);
        }
        self.pass();
        Ok(byte == b',')
    }

    /// After an opening bracket: passes the closing one if it follows at once (false).
    #[inline]
    pub(crate) fn any(&mut self, close: u8) -> bool {
        if self.peek() == close {
            self.pass();
            return false;
        }
        true
    }

    /// Checks that nothing but white space is left.
    pub(crate) fn end(&mut self) -> Scanned<()> {
        self.peek();
        if self.at == self.text.len() {
            Ok(())
        } else {
            self.fail(Fault::JunkAfterDocument)
        }
    }

    /// Skips one value with `depth` containers open around it.
    #[inline]
    pub(crate) fn value(&mut self, depth: u32) -> Scanned<Value> {
        match self.peek() {
            b'"' => self.string(),
            b'{' | b'[' => self.container(depth),
            byte => self.scalar(byte),
        }
    }

    #[inline]
    fn scalar(&mut self, byte: u8) -> Scanned<Value> {
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

    fn byte(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or_default()
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

    /// Skips the string that begins here.
    #[inline]
    fn string(&mut self) -> Scanned<Value> {
        let start = self.at;
        let end = find_special(self.text, start + 1);
        if self.text.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Value::new(start, end + 1, false));
        }
        self.string_with_escapes(start, end)
    }

    fn string_with_escapes(&mut self, start: usize, special: usize) -> Scanned<Value> {
        self.at = special;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Value::new(start, self.at, true));
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return self.fail(Fault::ControlCharacter),
                None => return self.fail(Fault::UnclosedString),
            }
            self.at = find_special(self.text, self.at);
        }
    }

    fn escape(&mut self) -> Scanned<()> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let unit = self.unicode_unit(self.at)?;
                self.at += 6;
                match unit {
                    0xd800..=0xdbff if self.low_surrogate_follows() => self.at += 6,
                    0xd800..=0xdfff => self.lone_surrogate = true,
                    _ => {}
                }
            }
            _ => return self.fail(Fault::BadEscape),
        }
        Ok(())
    }

    /// The number of the `\uXXXX` at `at`.
    fn unicode_unit(&self, at: usize) -> Scanned<u16> {
        super::strings::unicode_unit(&self.text[at..])
            .ok_or_else(|| SyntaxError::new(at, Fault::BadEscape))
    }

    fn low_surrogate_follows(&self) -> bool {
        let unit = super::strings::unicode_unit(&self.text[self.at..]);
        matches!(unit, Some(0xdc00..=0xdfff))
    }

    /// Skips the object or array that begins here, however deep it is.
    fn container(&mut self, mut depth: u32) -> Scanned<Value> {
        let start = self.at;
        self.open.clear();
        let mut is_object = self.byte() == b'{';
        loop {
            // At an opening bracket.
            self.pass();
            depth = depth.saturating_add(1);
            self.enter(depth);
            self.open.push(is_object);
            let mut more = self.any(closing(is_object));
            loop {
                while !more {
                    self.open.pop();
                    if self.open.is_empty() {
                        return Ok(Value::new(start, self.at, false));
                    }
                    depth -= 1;
                    is_object = self.open.innermost_is_object();
                    more = self.more(closing(is_object))?;
                }
                if is_object {
                    self.key()?;
                }
                match self.peek() {
                    b'"' => self.string()?,
                    opening @ (b'{' | b'[') => {
                        is_object = opening == b'{';
                        break;
                    }
                    byte => self.scalar(byte)?,
                };
                more = self.more(closing(is_object))?;
            }
        }
    }
}

const fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const TOP_BITS: u64 = 0x8080_8080_8080_8080;

/// A bit for each of 16 bytes that is a quote, a backslash or a control character. SSE2 is part of
/// every x86-64, so nothing has to be detected.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn specials_of_16(chunk: [u8; 16]) -> i32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8,
    };
    let whole = i128::from_le_bytes(chunk);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of it")]
    let bytes = _mm_set_epi64x((whole >> 64) as i64, whole as i64);
    let highest_control = _mm_set1_epi8(0x1f);
    let control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, highest_control), highest_control);
    let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x22));
    let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x5c));
    _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash)))
}

/// The first quote, backslash or control character at or after `at`; the end if there is none.
#[inline]
fn find_special(text: &[u8], mut at: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<16>) {
        #[expect(unsafe_code, reason = "one call of a function that needs SSE2")]
        // SAFETY: every x86-64 has SSE2.
        let found = unsafe { specials_of_16(*chunk) };
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += 16;
    }
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let chunk = u64::from_le_bytes(*chunk);
        // Subtracting from all eight bytes at once sets the top bit of each byte that is smaller.
        // A borrow can set it wrongly only above a byte that is truly smaller, so the lowest one
        // found is right. With bit 1 turned over a quote is 0x20 and control characters stay below.
        let quote_or_control = (chunk ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
        let backslash = (chunk ^ (ONES * 0x5c)).wrapping_sub(ONES);
        let found = (quote_or_control | backslash) & !chunk & TOP_BITS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = text.get(at) {
        if byte < b' ' || byte == b'"' || byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(text: &str) -> Result<(usize, bool, bool), SyntaxError> {
        let mut scanner = Scanner::new(text.as_bytes(), 0, 128);
        let value = scanner.value(0)?;
        scanner.end()?;
        Ok((value.len(), scanner.too_deep, scanner.lone_surrogate))
    }

    #[test]
    fn specials_are_found_at_every_offset() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for offset in 0..40 {
                let mut text = vec![0xc3; 40];
                text[offset] = special;
                // A second one, as the byte arithmetic may misplace what lies above the first.
                text.push(special);
                assert_eq!(find_special(&text, 0), offset);
            }
        }
        for plain in [
            b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff, 0xa2, 0xdc, b'\'', b'^',
        ] {
            assert_eq!(find_special(&[plain; 19], 0), 19, "{plain:#x}");
        }
    }

    #[test]
    fn depth_counts_open_containers() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(skip(&nested(128)).unwrap(), (256, false, false));
        assert_eq!(skip(&nested(129)).unwrap(), (258, true, false));
        let mixed = |depth: usize| format!("{}1{}", "{\"a\":[".repeat(depth), "]}".repeat(depth));
        assert!(!skip(&mixed(64)).unwrap().1);
        assert!(skip(&mixed(65)).unwrap().1);
        assert!(skip(&mixed(100_000).replace("]}]}", "]]}}")).is_err());
    }

    #[test]
    fn brackets_must_match_at_every_depth() {
        for depth in [1, 63, 64, 65, 127, 128, 129, 200] {
            let open = "[".repeat(depth);
            let close = "]".repeat(depth);
            assert!(skip(&format!("{open}{{}}{close}")).is_ok());
            assert!(skip(&format!("{open}{{]{close}")).is_err());
            assert!(skip(&format!("{open}{{}}{close}]")).is_err());
            assert!(skip(&format!("{open}{{}}")).is_err());
            assert!(skip(&format!("{open}{{\"a\":[],\"b\":[{{}},1]}},2{close}")).is_ok());
        }
    }

    #[test]
    fn surrogates_are_told_apart() {
        for (text, lone) in [
            (r#""\ud83e\udd94""#, false),
            (r#""\ud83e""#, true),
            (r#""\udd94""#, true),
            (r#""\ud83e\ud83e\udd94""#, true),
            (r#""\ud83e\n""#, true),
            (r#""\u00e9""#, false),
        ] {
            assert_eq!(skip(text).unwrap().2, lone, "{text}");
        }
        for text in [
            r#""\u12""#,
            r#""\u12g4""#,
            r#""\ud83e\u12""#,
            r#""\x""#,
            r#""\"#,
        ] {
            assert!(skip(text).is_err(), "{text}");
        }
    }
}
