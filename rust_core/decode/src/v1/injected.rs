//! The members that capture v1 puts into the properties of an event.

use super::options::Options;
use crate::event::{Inner, RawEvent, Root};
use crate::json::{Value, slice};
use crate::json_text::push_string;

/// Writes to `members` what goes into the properties of an event: what it says outside of them, its
/// options, and `of_request`, which is `$lib` and `$lib_version` or nothing.
///
/// Gives the names among them that the properties have as well.
pub(super) fn inject(
    text: &str,
    raw: &RawEvent,
    options: Options,
    of_request: &str,
    members: &mut String,
) -> Vec<&'static str> {
    members.clear();
    let mut injection = Injection {
        raw,
        members,
        replaced: Vec::new(),
    };
    let verbatim = |value: Value| slice(text, value.start(), value.end());
    for (name, inner, root) in [
        ("$session_id", Inner::SessionId, Root::SessionId),
        ("$window_id", Inner::WindowId, Root::WindowId),
    ] {
        if raw[root].is_string(text.as_bytes()) {
            injection.begin(name, inner).push_str(verbatim(raw[root]));
        }
    }
    for (name, inner, option) in [
        (
            "$cookieless_mode",
            Inner::CookielessMode,
            options.cookieless_mode,
        ),
        (
            "$ignore_sent_at",
            Inner::IgnoreSentAt,
            options.disable_skew_correction,
        ),
        (
            "$process_person_profile",
            Inner::ProcessPersonProfile,
            options.process_person_profile,
        ),
    ] {
        if let Some(value) = option {
            let value = if value { "true" } else { "false" };
            injection.begin(name, inner).push_str(value);
        }
    }
    let tour = options.product_tour_id;
    if !tour.is_absent() {
        let out = injection.begin("$product_tour_id", Inner::ProductTourId);
        if tour.is_string(text.as_bytes()) {
            out.push_str(verbatim(tour));
        } else {
            push_string(out, verbatim(tour));
        }
    }
    if !of_request.is_empty() {
        injection.replace("$lib", Inner::Lib);
        injection.replace("$lib_version", Inner::LibVersion);
        push_comma(injection.members);
        injection.members.push_str(of_request);
    }
    injection.replaced
}

struct Injection<'a> {
    raw: &'a RawEvent,
    members: &'a mut String,
    replaced: Vec<&'static str>,
}

impl Injection<'_> {
    /// Begins a member; the caller appends its value.
    fn begin(&mut self, name: &'static str, inner: Inner) -> &mut String {
        self.replace(name, inner);
        push_key(self.members, name);
        self.members
    }

    fn replace(&mut self, name: &'static str, inner: Inner) {
        if !self.raw[inner].is_absent() {
            self.replaced.push(name);
        }
    }
}

fn push_comma(members: &mut String) {
    if !members.is_empty() {
        members.push(',');
    }
}

/// Appends a name to the members of an object that is not begun, with what stands around it.
pub(super) fn push_key(members: &mut String, name: &str) {
    push_comma(members);
    push_string(members, name);
    members.push(':');
}
