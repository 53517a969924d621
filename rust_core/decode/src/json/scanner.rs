//! Skips values of any depth, iteratively and strictly.

use super::cursor::{Cursor, Scanned};
use super::{Fault, Value};

/// Reads forward through one text. The text must be UTF-8: bytes above 0x7f are not looked at.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    cursor: Cursor<'a>,
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
            cursor: Cursor::new(text, at),
            max_depth,
            open: OpenContainers::default(),
            too_deep: false,
            lone_surrogate: false,
        }
    }

    pub(crate) fn text(&self) -> &'a [u8] {
        self.cursor.text
    }

    pub(crate) fn at(&self) -> usize {
        self.cursor.at
    }

    /// Passes white space and gives the byte after it without passing that; 0 at the end, which is
    /// no byte that JSON allows outside of strings.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        self.cursor.peek()
    }

    /// Passes the byte that [`Self::peek`] showed.
    #[inline]
    pub(crate) fn pass(&mut self) {
        self.cursor.pass();
    }

    /// Notes that a container is open at `depth`, the outermost being at 1.
    #[inline]
    pub(crate) fn enter(&mut self, depth: u32) {
        self.too_deep |= depth > self.max_depth;
    }

    /// Reads `"key" :` and gives the key, quotes included.
    #[inline]
    pub(crate) fn key(&mut self) -> Scanned<Value> {
        self.cursor.key(&mut self.lone_surrogate)
    }

    /// After a member or an element: passes a comma (true) or the closing bracket (false).
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Scanned<bool> {
        self.cursor.more(close)
    }

    /// After an opening bracket: passes the closing one if it follows at once (false).
    #[inline]
    pub(crate) fn any(&mut self, close: u8) -> bool {
        self.cursor.any(close)
    }

    /// Checks that nothing but white space is left.
    pub(crate) fn end(&mut self) -> Scanned<()> {
        self.peek();
        if self.at() == self.text().len() {
            Ok(())
        } else {
            self.cursor.fail(Fault::JunkAfterDocument)
        }
    }

    /// Skips one value with `depth` containers open around it.
    #[inline]
    pub(crate) fn value(&mut self, depth: u32) -> Scanned<Value> {
        let mut cursor = self.cursor;
        let value = self.value_at(&mut cursor, depth)?;
        self.cursor = cursor;
        Ok(value)
    }

    /// Reads the object that begins here, itself the `depth`th open container, and hands out each
    /// key, quotes included, with its value.
    ///
    /// Most of an event is in such an object. The cursor is a copy of its own on the way, which
    /// the compiler keeps in registers: through `self` each step waits for the store of the last.
    #[inline]
    pub(crate) fn object(
        &mut self,
        depth: u32,
        mut member: impl FnMut(Value, Value),
    ) -> Scanned<Value> {
        let mut cursor = self.cursor;
        let start = cursor.at;
        self.enter(depth);
        cursor.pass();
        let mut more = cursor.any(b'}');
        while more {
            let key = cursor.key(&mut self.lone_surrogate)?;
            let value = self.value_at(&mut cursor, depth)?;
            member(key, value);
            more = cursor.more(b'}')?;
        }
        self.cursor = cursor;
        Ok(Value::new(start, cursor.at, false))
    }

    #[expect(clippy::inline_always, reason = "runs for each member of each event")]
    #[inline(always)]
    fn value_at(&mut self, cursor: &mut Cursor<'a>, depth: u32) -> Scanned<Value> {
        match cursor.peek() {
            b'"' => cursor.string(&mut self.lone_surrogate),
            b'{' | b'[' => {
                let value = self.container(*cursor, depth)?;
                cursor.at = value.end();
                Ok(value)
            }
            byte => cursor.scalar(byte),
        }
    }

    /// Skips the object or array that begins at the cursor, however deep it is.
    #[inline(never)]
    fn container(&mut self, mut cursor: Cursor<'a>, mut depth: u32) -> Scanned<Value> {
        let start = cursor.at;
        self.open.clear();
        let mut is_object = cursor.byte() == b'{';
        loop {
            // At an opening bracket.
            cursor.pass();
            depth = depth.saturating_add(1);
            self.enter(depth);
            self.open.push(is_object);
            let mut more = cursor.any(closing(is_object));
            loop {
                while !more {
                    self.open.pop();
                    if self.open.is_empty() {
                        return Ok(Value::new(start, cursor.at, false));
                    }
                    depth -= 1;
                    is_object = self.open.innermost_is_object();
                    more = cursor.more(closing(is_object))?;
                }
                if is_object {
                    cursor.key(&mut self.lone_surrogate)?;
                }
                match cursor.peek() {
                    b'"' => cursor.string(&mut self.lone_surrogate)?,
                    opening @ (b'{' | b'[') => {
                        is_object = opening == b'{';
                        break;
                    }
                    byte => cursor.scalar(byte)?,
                };
                more = cursor.more(closing(is_object))?;
            }
        }
    }
}

const fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::SyntaxError;

    fn skip(text: &str) -> Result<(usize, bool, bool), SyntaxError> {
        let mut scanner = Scanner::new(text.as_bytes(), 0, 128);
        let value = scanner.value(0)?;
        scanner.end()?;
        Ok((value.len(), scanner.too_deep, scanner.lone_surrogate))
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
