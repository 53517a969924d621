//! Notes where the fields of one event lie, in one pass and without deciding anything.

use std::borrow::Cow;

use crate::json::{Members, Scanner, SyntaxError, Value};

/// The places of an event's fields. Duplicate keys: the last one wins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawEvent {
    /// The element itself, which need not be an object.
    pub(crate) whole: Value,
    /// Something in it lies deeper than the limit.
    pub(crate) too_deep: bool,
    /// Some string in it holds a lone surrogate escape.
    pub(crate) lone_surrogate: bool,
    pub(crate) event: Value,
    /// `token`, `$token` or `api_key`.
    pub(crate) token: Value,
    pub(crate) distinct_id: Value,
    /// `$distinct_id`.
    pub(crate) dollar_distinct_id: Value,
    pub(crate) uuid: Value,
    pub(crate) timestamp: Value,
    pub(crate) offset: Value,
    pub(crate) properties: Value,
    /// `$set`, `$set_once`, `$groups` outside of `properties`, by their place in [`MERGED_KEYS`].
    pub(crate) merged: [Value; MERGED_KEYS.len()],
    /// What is read out of `properties`.
    pub(crate) inner: Inner,
}

/// Keys whose objects at the root of an event mean the same as inside `properties`.
pub(crate) const MERGED_KEYS: [&str; 3] = ["$set", "$set_once", "$groups"];

/// The places of the fields that are read out of `properties`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inner {
    pub(crate) session_id: Value,
    pub(crate) window_id: Value,
    pub(crate) lib: Value,
    pub(crate) lib_version: Value,
    pub(crate) elements_chain: Value,
    pub(crate) ip: Value,
    pub(crate) process_person_profile: Value,
    pub(crate) cookieless_mode: Value,
    pub(crate) distinct_id: Value,
    pub(crate) token: Value,
    pub(crate) ignore_sent_at: Value,
}

impl Inner {
    fn field(&mut self, key: &[u8]) -> Option<&mut Value> {
        // By length first: nearly all keys of a typical event are decided by one comparison.
        Some(match (key.len(), key) {
            (3, b"$ip") => &mut self.ip,
            (4, b"$lib") => &mut self.lib,
            (5, b"token") => &mut self.token,
            (10, b"$window_id") => &mut self.window_id,
            (11, b"$session_id") => &mut self.session_id,
            (11, b"distinct_id") => &mut self.distinct_id,
            (12, b"$lib_version") => &mut self.lib_version,
            (15, b"$elements_chain") => &mut self.elements_chain,
            (15, b"$ignore_sent_at") => &mut self.ignore_sent_at,
            (16, b"$cookieless_mode") => &mut self.cookieless_mode,
            (23, b"$process_person_profile") => &mut self.process_person_profile,
            _ => return None,
        })
    }
}

impl RawEvent {
    fn field(&mut self, key: &[u8]) -> Option<&mut Value> {
        Some(match (key.len(), key) {
            (4, b"uuid") => &mut self.uuid,
            (4, b"$set") => &mut self.merged[0],
            (5, b"event") => &mut self.event,
            (5, b"token") | (6, b"$token") | (7, b"api_key") => &mut self.token,
            (6, b"offset") => &mut self.offset,
            (7, b"$groups") => &mut self.merged[2],
            (9, b"timestamp") => &mut self.timestamp,
            (9, b"$set_once") => &mut self.merged[1],
            (11, b"distinct_id") => &mut self.distinct_id,
            (12, b"$distinct_id") => &mut self.dollar_distinct_id,
            _ => return None,
        })
    }

    /// Reads the element that comes next, with `depth` containers open around it.
    pub(crate) fn scan(scanner: &mut Scanner<'_>, depth: u32) -> Result<Self, SyntaxError> {
        let too_deep_before = std::mem::take(&mut scanner.too_deep);
        let lone_before = std::mem::take(&mut scanner.lone_surrogate);
        let mut event = Self::default();
        if scanner.peek() == b'{' {
            let start = scanner.at();
            scanner.enter(depth + 1);
            scanner.pass();
            let mut more = scanner.any(b'}');
            while more {
                let key = scanner.key()?;
                event.member(scanner, key, depth + 1)?;
                more = scanner.more(b'}')?;
            }
            event.whole = Value::new(start, scanner.at(), false);
        } else {
            event.whole = scanner.value(depth)?;
        }
        event.too_deep = std::mem::replace(&mut scanner.too_deep, too_deep_before);
        event.lone_surrogate = std::mem::replace(&mut scanner.lone_surrogate, lone_before);
        Ok(event)
    }

    /// Reads the value of one member of the event, with `depth` containers open around it.
    #[inline]
    pub(crate) fn member(
        &mut self,
        scanner: &mut Scanner<'_>,
        key: Value,
        depth: u32,
    ) -> Result<(), SyntaxError> {
        let key = key_bytes(scanner.text(), key);
        if &*key == b"properties" {
            self.inner = Inner::default();
            self.properties = if scanner.peek() == b'{' {
                self.scan_properties(scanner, depth + 1)?
            } else {
                scanner.value(depth)?
            };
            return Ok(());
        }
        let value = scanner.value(depth)?;
        if let Some(field) = self.field(&key) {
            *field = value;
        }
        Ok(())
    }

    /// Reads the object `properties`, which is itself the `depth`th open container.
    fn scan_properties(
        &mut self,
        scanner: &mut Scanner<'_>,
        depth: u32,
    ) -> Result<Value, SyntaxError> {
        let start = scanner.at();
        scanner.enter(depth);
        scanner.pass();
        let mut more = scanner.any(b'}');
        while more {
            let key = scanner.key()?;
            let value = scanner.value(depth)?;
            let key = key_bytes(scanner.text(), key);
            if let Some(field) = self.inner.field(&key) {
                *field = value;
            }
            more = scanner.more(b'}')?;
        }
        Ok(Value::new(start, scanner.at(), false))
    }
}

/// What a key means: borrowed unless it holds an escape.
#[inline]
pub(crate) fn key_bytes(text: &[u8], key: Value) -> Cow<'_, [u8]> {
    if key.escaped() {
        return Cow::Owned(escaped_key(text, key));
    }
    Cow::Borrowed(&text[key.start() + 1..key.end() - 1])
}

#[cold]
fn escaped_key(text: &[u8], key: Value) -> Vec<u8> {
    // Checked as UTF-8 with the body; the second look is for escaped keys only.
    let literal = std::str::from_utf8(key.bytes(text)).unwrap_or("\"\"");
    Members::key_text(literal, Value::new(0, literal.len(), true))
        .into_owned()
        .into_bytes()
}
