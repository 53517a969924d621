//! Writes a request's text anew with what was decided about its visitors.

use std::borrow::Cow;

use penstock_model::{DecodeLimits, Refusal, VisitorIds};

use super::visit::whole;
use super::{Decision, is_nobody};
use crate::envelope::scan_document;
use crate::event::{RawEvent, key_bytes};
use crate::json::{Members, Value};
use crate::private_members::{has_any, remove};
use crate::utf8;

/// What must not be written to disk of who did not agree to it, wherever in the event it stands, or
/// outside of all events: what ids are made of, and the copies of it that SDKs put into `$set` and
/// `$set_once`.
const PRIVATE_MEMBERS: [&str; 4] = [
    "$ip",
    "$raw_user_agent",
    "$initial_raw_user_agent",
    "$cookieless_extra",
];

/// What an event grows by, at most: three ids with two names.
const MAX_GROWTH: usize = 192;

pub(super) struct Rewritten {
    pub(super) text: Vec<u8>,
    /// Bytes of the text once it is UTF-8, which limits are about.
    pub(super) repaired_bytes: usize,
    /// As many of the longest event that was written anew.
    pub(super) longest_event_bytes: usize,
}

/// `text` was decoded before, to as many events as there are decisions; `None` leaves an event as it
/// is. It need not be UTF-8.
pub(super) fn rewrite(
    text: &[u8],
    decisions: &[Option<Decision>],
    limits: &DecodeLimits,
    raw_events: &mut Vec<RawEvent>,
) -> Result<Rewritten, Refusal> {
    scan_document(text, utf8::byte_order_mark(text), limits, raw_events)?;
    assert_eq!(raw_events.len(), decisions.len(), "the same text");
    let identified = decisions
        .iter()
        .filter(|decision| matches!(decision, Some(Decision::Identified(_))));
    let mut out = Vec::with_capacity(text.len() + MAX_GROWTH * identified.count());
    let (mut copied, mut longest_event_bytes) = (0, 0);
    for (raw, decision) in raw_events.iter().zip(decisions) {
        out.extend_from_slice(&public(&text[copied..raw.whole.start()]));
        copied = raw.whole.end();
        let event = raw.whole.bytes(text);
        let Some(decision) = decision else {
            out.extend_from_slice(event);
            continue;
        };
        let begin = out.len();
        let event = public(event);
        match decision {
            Decision::Identified(ids) => write_event(&event, ids, &mut out),
            Decision::Anonymous | Decision::Refused => out.extend_from_slice(&event),
        }
        longest_event_bytes = longest_event_bytes.max(utf8::repaired_len(&out[begin..]));
    }
    out.extend_from_slice(&public(&text[copied..]));
    out.shrink_to_fit();
    Ok(Rewritten {
        repaired_bytes: utf8::repaired_len(&out),
        longest_event_bytes,
        text: out,
    })
}

/// A part of the text between events, or one of cookieless mode, without what must not be kept.
fn public(part: &[u8]) -> Cow<'_, [u8]> {
    if !has_any(part, &PRIVATE_MEMBERS) {
        return Cow::Borrowed(part);
    }
    let mut part = part.to_vec();
    remove(&mut part, &PRIVATE_MEMBERS);
    Cow::Owned(part)
}

/// Appends an event with the ids of its visitor.
fn write_event(event: &[u8], ids: &VisitorIds, out: &mut Vec<u8>) {
    let mut members = MemberWriter::open(event, out);
    for (key, value) in Members::new(event, whole(event)) {
        match &*key_bytes(event, key) {
            b"properties" if value.is_object(event) => {
                members.begin(key);
                write_properties(event, value, ids, members.out);
            }
            b"distinct_id" | b"$distinct_id" if names_nobody(event, value) => {
                members.begin(key);
                push_id(&ids.distinct_id, members.out);
            }
            // Where capture v1 has it; it would win over the one in the properties.
            b"session_id" => {}
            _ => members.copy(key, value),
        }
    }
    members.close();
}

fn write_properties(event: &[u8], properties: Value, ids: &VisitorIds, out: &mut Vec<u8>) {
    let mut members = MemberWriter::open(event, out);
    for (key, value) in Members::new(event, properties) {
        match &*key_bytes(event, key) {
            b"distinct_id" | b"$distinct_id" if names_nobody(event, value) => {
                members.begin(key);
                push_id(&ids.distinct_id, members.out);
            }
            // Who shares address and browser has one id, so it must not be told to be a person's.
            b"$anon_distinct_id" if names_nobody(event, value) => {}
            b"$device_id" | b"$session_id" => {}
            _ => members.copy(key, value),
        }
    }
    for (name, id) in [
        ("$device_id", &ids.device_id),
        ("$session_id", &ids.session_id),
    ] {
        members.comma();
        push_id(name, members.out);
        members.out.push(b':');
        push_id(id, members.out);
    }
    members.close();
}

/// Whether a value is an id that stands for who has none.
fn names_nobody(event: &[u8], value: Value) -> bool {
    value.is_string(event) && str::from_utf8(&key_bytes(event, value)).is_ok_and(is_nobody)
}

/// Appends a string that needs no escapes.
fn push_id(id: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(id.as_bytes());
    out.push(b'"');
}

/// Writes an object member by member.
struct MemberWriter<'a> {
    /// Where keys and values are copied from.
    event: &'a [u8],
    out: &'a mut Vec<u8>,
    any: bool,
}

impl<'a> MemberWriter<'a> {
    fn open(event: &'a [u8], out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            event,
            out,
            any: false,
        }
    }

    fn comma(&mut self) {
        if self.any {
            self.out.push(b',');
        }
        self.any = true;
    }

    /// Begins a member; the caller appends its value.
    fn begin(&mut self, key: Value) {
        self.comma();
        self.out.extend_from_slice(key.bytes(self.event));
        self.out.push(b':');
    }

    fn copy(&mut self, key: Value, value: Value) {
        self.begin(key);
        self.out.extend_from_slice(value.bytes(self.event));
    }

    fn close(self) {
        self.out.push(b'}');
    }
}
