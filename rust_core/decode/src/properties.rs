//! The few rewrites of `properties`; an event that needs none keeps its slice of the body.
//!
//! Root `$set`, `$set_once` and `$groups` are merged in key by key, the root winning; what capture
//! v1 sends outside of them goes in; `$elements` goes out once there is a chain of them; lone
//! surrogates become U+FFFD.

use std::borrow::Cow;
use std::collections::HashSet;

use penstock_model::Text;

use crate::event::{ELEMENTS_KEY, Inner, MERGED_FIELDS, RawEvent, Root};
use crate::json::{Members, Value, replace_lone_surrogates, slice};

/// What the `properties` column gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) text: Text,
    pub(crate) lone_surrogate_replaced: bool,
}

/// What goes in or out besides the merges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rewrite<'a> {
    pub(crate) without_elements: bool,
    /// Members that go in, as JSON text, separated by commas.
    pub(crate) injected: &'a str,
    /// The names among them that the properties have as well: those of the properties go out.
    pub(crate) replaced: &'a [&'static str],
}

impl Rewrite<'_> {
    const fn is_none(&self) -> bool {
        !self.without_elements && self.injected.is_empty()
    }

    const fn takes_nothing_out(&self) -> bool {
        !self.without_elements && self.replaced.is_empty()
    }

    fn takes_out(&self, name: &str) -> bool {
        (self.without_elements && name == ELEMENTS_KEY) || self.replaced.contains(&name)
    }
}

/// The text of an event's properties: its own slice, or a rewritten one appended to `side`.
///
/// `event[Root::Properties]` must be an object, null or absent.
pub(crate) fn write(
    text: &str,
    event: &RawEvent,
    rewrite: Rewrite<'_>,
    side: &mut String,
) -> Properties {
    let merged = MERGED_FIELDS.map(|(_, field)| {
        let value = event[field];
        if is_filled(text, value) {
            value
        } else {
            Value::ABSENT
        }
    });
    let unmerged = merged.iter().all(|value| value.is_absent());
    let unchanged = unmerged && rewrite.is_none();
    if unchanged && !event.lone_surrogate && event[Root::Properties].is_object(text.as_bytes()) {
        let slice = Text::in_body(
            event[Root::Properties].start(),
            event[Root::Properties].end(),
        );
        return Properties {
            text: slice,
            lone_surrogate_replaced: false,
        };
    }
    let start = side.len();
    let mut lone_surrogate_replaced = false;
    if event.lone_surrogate {
        let mut whole = String::with_capacity(event.whole.len());
        write_anew(text, event, merged, rewrite, &mut whole);
        lone_surrogate_replaced = replace_lone_surrogates(&whole, side);
    } else {
        write_anew(text, event, merged, rewrite, side);
    }
    Properties {
        text: Text::in_side(start, side.len()),
        lone_surrogate_replaced,
    }
}

/// Whether `value` is an object with members. Anything else at the root changes nothing: PHP sends
/// an empty object as `[]`.
fn is_filled(text: &str, value: Value) -> bool {
    value.is_object(text.as_bytes()) && Members::new(text.as_bytes(), value).next().is_some()
}

/// Appends the properties of `event`, what goes out left out, with the objects of `merged` and what
/// is injected behind the rest.
fn write_anew(
    text: &str,
    event: &RawEvent,
    merged: [Value; MERGED_FIELDS.len()],
    rewrite: Rewrite<'_>,
    out: &mut String,
) {
    let mut inside = [Value::ABSENT; MERGED_FIELDS.len()];
    let nothing_merges =
        event[Inner::Merged].is_absent() || merged.iter().all(|root| root.is_absent());
    let mut members = if nothing_merges && rewrite.takes_nothing_out() {
        // The common case: nothing of the properties is looked at again.
        MemberWriter::open_with(own_text(text, event), out)
    } else {
        copy_what_stays(text, event, merged, rewrite, &mut inside, out)
    };
    for (index, root) in merged.into_iter().enumerate() {
        if root.is_absent() {
            continue;
        }
        let out = members.key(MERGED_FIELDS[index].0);
        if inside[index].is_object(text.as_bytes()) {
            merge_objects(text, inside[index], root, out);
        } else {
            out.push_str(slice(text, root.start(), root.end()));
        }
    }
    if !rewrite.injected.is_empty() {
        members.comma();
        members.out.push_str(rewrite.injected);
    }
    members.close();
}

/// The properties as sent; an empty object if there are none.
fn own_text<'a>(text: &'a str, event: &RawEvent) -> &'a str {
    let properties = event[Root::Properties];
    if properties.is_object(text.as_bytes()) {
        slice(text, properties.start(), properties.end())
    } else {
        "{}"
    }
}

/// Appends the members of the properties one by one, without those that go out; those that are
/// merged with one of `merged` go to `inside`.
fn copy_what_stays<'a>(
    text: &str,
    event: &RawEvent,
    merged: [Value; MERGED_FIELDS.len()],
    rewrite: Rewrite<'_>,
    inside: &mut [Value; MERGED_FIELDS.len()],
    out: &'a mut String,
) -> MemberWriter<'a> {
    let mut members = MemberWriter::open(out);
    let properties = event[Root::Properties];
    if properties.is_object(text.as_bytes()) {
        for (key, value) in Members::new(text.as_bytes(), properties) {
            let name = Members::key_text(text, key);
            if rewrite.takes_out(&name) {
                continue;
            }
            match MERGED_FIELDS
                .iter()
                .position(|(merged_key, _)| *merged_key == name)
            {
                Some(index) if !merged[index].is_absent() => inside[index] = value,
                _ => members.copy(text, key, value),
            }
        }
    }
    members
}

/// Appends the members of `inner` that `root` doesn't have, then those of `root`.
fn merge_objects(text: &str, inner: Value, root: Value, out: &mut String) {
    let names: HashSet<Cow<'_, str>> = Members::new(text.as_bytes(), root)
        .map(|(key, _)| Members::key_text(text, key))
        .collect();
    let mut members = MemberWriter::open(out);
    for (key, value) in Members::new(text.as_bytes(), inner) {
        if !names.contains(&Members::key_text(text, key)) {
            members.copy(text, key, value);
        }
    }
    for (key, value) in Members::new(text.as_bytes(), root) {
        members.copy(text, key, value);
    }
    members.close();
}

/// Writes an object member by member.
#[derive(Debug)]
struct MemberWriter<'a> {
    out: &'a mut String,
    any: bool,
}

impl<'a> MemberWriter<'a> {
    fn open(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, any: false }
    }

    /// Begins with the members of the object `own`, as it is written.
    fn open_with(own: &str, out: &'a mut String) -> Self {
        let own = own.strip_suffix('}').unwrap_or(own);
        out.push_str(own);
        Self {
            out,
            any: own.trim_ascii_end() != "{",
        }
    }

    fn comma(&mut self) {
        if self.any {
            self.out.push(',');
        }
        self.any = true;
    }

    fn copy(&mut self, text: &str, key: Value, value: Value) {
        self.comma();
        self.out.push_str(slice(text, key.start(), key.end()));
        self.out.push(':');
        self.out.push_str(slice(text, value.start(), value.end()));
    }

    /// Begins a member; the caller appends its value. `key` needs no escapes.
    fn key(&mut self, key: &str) -> &mut String {
        self.comma();
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
        self.out
    }

    fn close(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Scanner;

    fn properties_of(event: &str) -> (String, bool) {
        written(event, Rewrite::default())
    }

    fn written(event: &str, rewrite: Rewrite<'_>) -> (String, bool) {
        let mut scanner = Scanner::new(event.as_bytes(), 0, 128);
        let mut raw = RawEvent::default();
        raw.scan(&mut scanner, 0).unwrap();
        let mut side = String::new();
        let properties = write(event, &raw, rewrite, &mut side);
        let batch = penstock_model::Batch {
            text: penstock_model::BatchText::Decoded(event.as_bytes().to_vec()),
            side,
            events: Vec::new(),
            token: Text::EMPTY,
            historical: false,
            sent_at_us: None,
        };
        (
            batch.view().get(properties.text).to_owned(),
            properties.lone_surrogate_replaced,
        )
    }

    #[test]
    fn properties_are_rewritten_only_by_the_list() {
        for (event, expected) in [
            // No rewrite: the client's own bytes, white space and duplicates included.
            (
                r#"{"properties": { "a" : 1, "a":2 }}"#,
                r#"{ "a" : 1, "a":2 }"#,
            ),
            (r#"{"properties":{"a":1},"$set":{}}"#, r#"{"a":1}"#),
            (
                r#"{"properties":{"a":1},"$set":null,"$groups":[]}"#,
                r#"{"a":1}"#,
            ),
            (r#"{"properties":null}"#, "{}"),
            ("{}", "{}"),
            // Root objects are merged key by key and win.
            (r#"{"$set":{"x":1}}"#, r#"{"$set":{"x":1}}"#),
            (r#"{"properties":{},"$set":{"x":1}}"#, r#"{"$set":{"x":1}}"#),
            (
                r#"{"$set":{"x":1,"y":2},"properties":{"a":0,"$set":{"x":9,"z":3},"b":0}}"#,
                r#"{"a":0,"b":0,"$set":{"z":3,"x":1,"y":2}}"#,
            ),
            (
                r#"{"$groups":{"c":"1"},"$set_once":{"s":1},"properties":{"$set_once":{"t":2}}}"#,
                r#"{"$set_once":{"t":2,"s":1},"$groups":{"c":"1"}}"#,
            ),
            // What stays as it is keeps the client's own bytes here too.
            (
                r#"{"$set":{"x":1},"properties":{ "a" : 1, "a":2 }}"#,
                r#"{ "a" : 1, "a":2 ,"$set":{"x":1}}"#,
            ),
            (
                r#"{"properties":{"$set":{"y":2}},"$set":{"x":1},"properties":{"a":0}}"#,
                r#"{"a":0,"$set":{"x":1}}"#,
            ),
            (
                r#"{"$set":{"x":1},"properties":{"$set":"text"}}"#,
                r#"{"$set":{"x":1}}"#,
            ),
            // Keys are compared by meaning, and the last duplicate is the one merged with.
            (
                r#"{"$set":{"\u0078":1},"properties":{"\u0024set":{"x":9},"$set":{"x":8,"q":7}}}"#,
                r#"{"$set":{"q":7,"\u0078":1}}"#,
            ),
        ] {
            assert_eq!(
                properties_of(event),
                (expected.to_owned(), false),
                "{event}"
            );
        }
    }

    #[test]
    fn lone_surrogates_are_replaced_in_what_is_stored() {
        let (text, replaced) = properties_of(r#"{"properties":{"a":"\ud800\n","b":"é"}}"#);
        assert_eq!(
            (text.as_str(), replaced),
            (r#"{"a":"\ufffd\n","b":"é"}"#, true)
        );
        let (text, replaced) = properties_of(r#"{"$set":{"k":"\udc00"},"properties":{"b":1}}"#);
        assert_eq!(
            (text.as_str(), replaced),
            (r#"{"b":1,"$set":{"k":"\ufffd"}}"#, true)
        );
        let (text, replaced) = properties_of(r#"{"other":"\udc00","properties":{"b":1}}"#);
        assert_eq!((text.as_str(), replaced), (r#"{"b":1}"#, false));
    }

    #[test]
    fn elements_go_out_with_all_their_duplicates() {
        for (event, expected) in [
            (
                r#"{"properties":{ "$elements" : [{}], "a": [1, 2] }}"#,
                r#"{"a":[1, 2]}"#,
            ),
            (r#"{"properties":{"$elements":1,"$elements":[]}}"#, "{}"),
            (
                r#"{"properties":{"\u0024elements":[],"b":1},"$set":{"x":1}}"#,
                r#"{"b":1,"$set":{"x":1}}"#,
            ),
            (
                r#"{"properties":{"$elements":["\ud800"],"$set":{"x":2}}}"#,
                r#"{"$set":{"x":2}}"#,
            ),
        ] {
            let expected = (expected.to_owned(), false);
            let rewrite = Rewrite {
                without_elements: true,
                ..Rewrite::default()
            };
            assert_eq!(written(event, rewrite), expected, "{event}");
        }
    }

    #[test]
    fn members_go_in_behind_all_others() {
        let rewrite = Rewrite {
            injected: r#""$lib":"l","s":1"#,
            ..Rewrite::default()
        };
        for (event, expected) in [
            ("{}", r#"{"$lib":"l","s":1}"#),
            (r#"{"properties":null}"#, r#"{"$lib":"l","s":1}"#),
            (r#"{"properties":{ }}"#, r#"{ "$lib":"l","s":1}"#),
            (
                r#"{"properties":{ "a" : "{" }}"#,
                r#"{ "a" : "{" ,"$lib":"l","s":1}"#,
            ),
            (
                r#"{"properties":{"a":{}},"$set":{"x":1}}"#,
                r#"{"a":{},"$set":{"x":1},"$lib":"l","s":1}"#,
            ),
        ] {
            assert_eq!(written(event, rewrite), (expected.to_owned(), false));
        }
        let (text, replaced) = written(r#"{"properties":{"a":"\ud800"}}"#, rewrite);
        assert_eq!(
            (text.as_str(), replaced),
            (r#"{"a":"\ufffd","$lib":"l","s":1}"#, true)
        );
    }

    #[test]
    fn a_member_that_goes_in_takes_out_those_of_its_name() {
        let rewrite = Rewrite {
            injected: r#""$lib":"l""#,
            replaced: &["$lib"],
            ..Rewrite::default()
        };
        for (event, expected) in [
            (
                r#"{"properties":{"$lib":0,"a":1}}"#,
                r#"{"a":1,"$lib":"l"}"#,
            ),
            (
                r#"{"properties":{"\u0024lib":0,"$lib":{"$lib":1}}}"#,
                r#"{"$lib":"l"}"#,
            ),
            (
                r#"{"properties":{"$lib":0,"b":{"$lib":2}},"$set":{"$lib":3}}"#,
                r#"{"b":{"$lib":2},"$set":{"$lib":3},"$lib":"l"}"#,
            ),
        ] {
            assert_eq!(written(event, rewrite), (expected.to_owned(), false));
        }
    }

    #[test]
    fn merging_many_keys_takes_no_quadratic_time() {
        let keys: Vec<String> = (0..50_000).map(|index| format!("\"k{index}\":1")).collect();
        let object = format!("{{{}}}", keys.join(","));
        let event = format!(r#"{{"$set":{object},"properties":{{"$set":{object}}}}}"#);
        assert_eq!(properties_of(&event).0, format!("{{\"$set\":{object}}}"));
    }
}
