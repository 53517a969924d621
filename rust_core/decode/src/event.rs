//! Notes where the fields of one event lie, in one pass and without deciding anything.

use std::borrow::Cow;
use std::ops::Index;

use crate::fields::FieldTable;
use crate::json::{Members, Scanner, SyntaxError, Value};
use crate::token::names_token;

/// A field of an event outside of its `properties`.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Root {
    Event,
    /// `token`, `$token` or `api_key`.
    Token,
    DistinctId,
    /// `$distinct_id`.
    DollarDistinctId,
    Uuid,
    Timestamp,
    Offset,
    SentAt,
    Properties,
    Set,
    SetOnce,
    Groups,
    /// Of capture v1, where it stands outside of the properties; so do the next two.
    SessionId,
    WindowId,
    Options,
}

static ROOT_FIELDS: FieldTable<ROOT_COUNT> = FieldTable::new(&[
    (b"event", Root::Event as usize),
    (b"token", Root::Token as usize),
    (b"$token", Root::Token as usize),
    (b"api_key", Root::Token as usize),
    (b"distinct_id", Root::DistinctId as usize),
    (b"$distinct_id", Root::DollarDistinctId as usize),
    (b"uuid", Root::Uuid as usize),
    (b"timestamp", Root::Timestamp as usize),
    (b"offset", Root::Offset as usize),
    (b"sent_at", Root::SentAt as usize),
    (b"properties", Root::Properties as usize),
    (b"$set", Root::Set as usize),
    (b"$set_once", Root::SetOnce as usize),
    (b"$groups", Root::Groups as usize),
    (b"session_id", Root::SessionId as usize),
    (b"window_id", Root::WindowId as usize),
    (b"options", Root::Options as usize),
]);

/// A field that is read out of `properties`.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Inner {
    SessionId,
    WindowId,
    Lib,
    LibVersion,
    ElementsChain,
    Ip,
    ProcessPersonProfile,
    CookielessMode,
    DistinctId,
    Token,
    IgnoreSentAt,
    /// `$elements`, which becomes a chain if there is none.
    Elements,
    SnapshotSource,
    /// `$snapshot_data` as SDKs send it, `$snapshot_items` as PostHog's service passes it on.
    SnapshotData,
    ProductTourId,
    /// Its presence alone says that a service of its own captured the event.
    CaptureInternal,
    /// Whichever of [`MERGED_FIELDS`] stands inside the properties.
    Merged,
}

static INNER_FIELDS: FieldTable<INNER_COUNT> = FieldTable::new(&[
    (b"$session_id", Inner::SessionId as usize),
    (b"$window_id", Inner::WindowId as usize),
    (b"$lib", Inner::Lib as usize),
    (b"$lib_version", Inner::LibVersion as usize),
    (b"$elements_chain", Inner::ElementsChain as usize),
    (b"$ip", Inner::Ip as usize),
    (
        b"$process_person_profile",
        Inner::ProcessPersonProfile as usize,
    ),
    (b"$cookieless_mode", Inner::CookielessMode as usize),
    (b"distinct_id", Inner::DistinctId as usize),
    (b"token", Inner::Token as usize),
    (b"$ignore_sent_at", Inner::IgnoreSentAt as usize),
    (ELEMENTS_KEY.as_bytes(), Inner::Elements as usize),
    (b"$snapshot_source", Inner::SnapshotSource as usize),
    (b"$snapshot_data", Inner::SnapshotData as usize),
    (b"$snapshot_items", Inner::SnapshotData as usize),
    (b"$product_tour_id", Inner::ProductTourId as usize),
    (b"capture_internal", Inner::CaptureInternal as usize),
    (b"$set", Inner::Merged as usize),
    (b"$set_once", Inner::Merged as usize),
    (b"$groups", Inner::Merged as usize),
]);

/// Autocapture's elements: taken out of the properties once there is a chain of them.
pub(crate) const ELEMENTS_KEY: &str = "$elements";

const ROOT_COUNT: usize = Root::Options as usize + 1;
const INNER_COUNT: usize = Inner::Merged as usize + 1;

/// Places by field, and one that nobody reads for the keys that name none.
type RootPlaces = [Value; ROOT_COUNT + 1];
type InnerPlaces = [Value; INNER_COUNT + 1];

/// The places of an event's fields. Duplicate keys: the last one wins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawEvent {
    /// The element itself, which need not be an object.
    pub(crate) whole: Value,
    /// Something in it lies deeper than the limit.
    pub(crate) too_deep: bool,
    /// Some string in it holds a lone surrogate escape.
    pub(crate) lone_surrogate: bool,
    root: RootPlaces,
    inner: InnerPlaces,
}

/// Fields whose objects at the root of an event mean the same as inside `properties`.
pub(crate) const MERGED_FIELDS: [(&str, Root); 3] = [
    ("$set", Root::Set),
    ("$set_once", Root::SetOnce),
    ("$groups", Root::Groups),
];

impl Index<Root> for RawEvent {
    type Output = Value;

    fn index(&self, field: Root) -> &Value {
        &self.root[field as usize]
    }
}

impl Index<Inner> for RawEvent {
    type Output = Value;

    fn index(&self, field: Inner) -> &Value {
        &self.inner[field as usize]
    }
}

impl RawEvent {
    /// Reads the element that comes next, with `depth` containers open around it. `self` is new.
    pub(crate) fn scan(
        &mut self,
        scanner: &mut Scanner<'_>,
        depth: u32,
    ) -> Result<(), SyntaxError> {
        let too_deep_before = std::mem::take(&mut scanner.too_deep);
        let lone_before = std::mem::take(&mut scanner.lone_surrogate);
        if scanner.peek() == b'{' {
            let start = scanner.at();
            scanner.enter(depth + 1);
            scanner.pass();
            let mut more = scanner.any(b'}');
            while more {
                let key = scanner.key()?;
                self.member(scanner, key, depth + 1)?;
                more = scanner.more(b'}')?;
            }
            self.whole = Value::new(start, scanner.at(), false);
        } else {
            self.whole = scanner.value(depth)?;
        }
        self.too_deep = std::mem::replace(&mut scanner.too_deep, too_deep_before);
        self.lone_surrogate = std::mem::replace(&mut scanner.lone_surrogate, lone_before);
        Ok(())
    }

    /// Reads the value of one member of the event, with `depth` containers open around it.
    pub(crate) fn member(
        &mut self,
        scanner: &mut Scanner<'_>,
        key: Value,
        depth: u32,
    ) -> Result<(), SyntaxError> {
        let field = find(&ROOT_FIELDS, scanner.text(), key);
        if field == Root::Properties as usize {
            self.inner = InnerPlaces::default();
            if scanner.peek() == b'{' {
                self.root[field] = self.scan_properties(scanner, depth + 1)?;
                return Ok(());
            }
        }
        let value = scanner.value(depth)?;
        if field == Root::Token as usize {
            // SDKs that know several spellings fill one of them: a blank one hides no other.
            let text = scanner.text();
            if names_token(text, self.root[field]) && !names_token(text, value) {
                return Ok(());
            }
        }
        self.root[field] = value;
        Ok(())
    }

    /// Reads the object `properties`, which is itself the `depth`th open container.
    fn scan_properties(
        &mut self,
        scanner: &mut Scanner<'_>,
        depth: u32,
    ) -> Result<Value, SyntaxError> {
        let text = scanner.text();
        let inner = &mut self.inner;
        scanner.object(depth, |key, value| {
            inner[find(&INNER_FIELDS, text, key)] = value;
        })
    }
}

/// The field that a key names.
#[expect(clippy::inline_always, reason = "runs for each member of each event")]
#[inline(always)]
fn find<const COUNT: usize>(fields: &FieldTable<COUNT>, text: &[u8], key: Value) -> usize {
    if key.escaped() {
        return fields.find(&escaped_key(text, key));
    }
    fields.find(&text[key.start() + 1..key.end() - 1])
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
