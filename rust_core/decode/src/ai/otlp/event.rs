//! The event that a span becomes.

use std::collections::HashMap;

use penstock_model::{Code, Refusal, RequestContext, Uuid};

use super::super::Document;
use super::any::{MAX_NESTED_BYTES, Written};
use super::span::{Resource, Span};
use crate::json_text::{push_display, push_hex, push_key, push_string};
use crate::uuids;

/// Text that one export may become: what 4 MiB come to with room for escapes, and for what a
/// resource says to be written to each of its spans.
const MAX_TEXT_BYTES: usize = 20 << 20;

/// Namespace of the ids that events of spans get, and of the users of those that name none. The
/// second is that of PostHog's service: an unknown user has the same id there and here.
const EVENT_NAMESPACE: u128 = 0x5e1b_7c64_0f0a_4c3e_9a44_6c1d_8f2b_7a90;
const USER_NAMESPACE: u128 = 0x392e_81d5_3d13_4a6f_b541_bdbf_6c86_5e56;

/// What `$lib` says of events that were made of spans.
const LIBRARY: &str = "posthog-otel";

/// Bytes of ids that are whole (W3C Trace Context).
const TRACE_ID_BYTES: usize = 16;
const SPAN_ID_BYTES: usize = 8;

/// Properties that the span's own fields make, whatever its attributes say.
const OWN_PROPERTIES: [&str; 7] = [
    "$ai_trace_id",
    "$ai_span_id",
    "$ai_parent_id",
    "$ai_ingestion_source",
    "$otel_span_name",
    "$otel_start_time_unix_nano",
    "$otel_end_time_unix_nano",
];

/// Writes events into a document.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    context: &'a RequestContext,
    document: Document,
    index: usize,
    /// Bytes that were written and taken back. They count, or an attribute that all spans have in
    /// common could be written again and again.
    wasted_bytes: usize,
    /// What is left of the budget for lists and maps.
    nested_bytes: usize,
    repaired: bool,
}

/// The id of the event of a span: the same whenever the span is sent, so that deduplication knows
/// it. `None` unless both ids are whole, since only then nobody else has them.
pub(super) fn event_id(trace_id: &[u8], span_id: &[u8]) -> Option<Uuid> {
    let whole = |id: &[u8], len| id.len() == len && id.iter().any(|byte| *byte != 0);
    if !whole(trace_id, TRACE_ID_BYTES) || !whole(span_id, SPAN_ID_BYTES) {
        return None;
    }
    let name = [trace_id, span_id].concat();
    Some(uuids::make_v5(EVENT_NAMESPACE, &name))
}

impl<'a> Writer<'a> {
    pub(super) fn new(context: &'a RequestContext) -> Self {
        Self {
            context,
            document: Document {
                max_event_bytes: context.limits.max_event_bytes,
                ..Document::default()
            },
            index: 0,
            wasted_bytes: 0,
            nested_bytes: MAX_NESTED_BYTES,
            repaired: false,
        }
    }

    /// Adds the event of a span. One that is too large or too deep stays without properties.
    pub(super) fn write(
        &mut self,
        name: &str,
        resource: &Resource<'_>,
        span: &Span<'_>,
    ) -> Result<(), Refusal> {
        let start = self.document.text.len();
        self.write_head(name, resource, span);
        let head_end = self.document.text.len();
        let too_many = resource.attributes.too_many || span.attributes.too_many;
        let fault = if too_many || start + self.wasted_bytes > MAX_TEXT_BYTES {
            Some(Code::EventTooLarge)
        } else {
            self.write_properties(resource, span, start)?
        };
        let out = &mut self.document.text;
        if let Some(code) = fault {
            self.wasted_bytes += out.len() - head_end;
            out.truncate(head_end);
            out.push_str("{}");
            self.document.faults.push((self.index, code));
        }
        out.push('}');
        self.index += 1;
        Ok(())
    }

    pub(super) fn finish(mut self, repaired: bool) -> Document {
        if self.index > 0 {
            self.document.text.push(']');
        }
        self.document.repaired = repaired || self.repaired;
        self.document
    }

    fn write_head(&mut self, name: &str, resource: &Resource<'_>, span: &Span<'_>) {
        let user = self.user(resource, span);
        let out = &mut self.document.text;
        out.push(if self.index == 0 { '[' } else { ',' });
        out.push('{');
        push_key(out, "event");
        push_string(out, name);
        if let Some(id) = event_id(&span.trace_id, &span.span_id) {
            push_key(out, "uuid");
            push_string(out, &id.to_string());
        }
        push_key(out, "distinct_id");
        push_string(out, &user);
        if span.start_ns != 0 {
            push_key(out, "timestamp");
            // Seconds: the whole ones have at most 11 digits, which tells them from milliseconds.
            let (seconds, rest) = (span.start_ns / 1_000_000_000, span.start_ns % 1_000_000_000);
            push_display(out, format_args!("{seconds}.{rest:09}"));
        }
        push_key(out, "properties");
    }

    /// The user that is named; else one for the session, or for the trace, that is the same in every
    /// export that it comes by; else one for the request.
    fn user(&self, resource: &Resource<'_>, span: &Span<'_>) -> String {
        if let Some(user) = span.user(resource) {
            return user.to_owned();
        }
        let mut name = String::new();
        if let Some(session) = span.session(resource) {
            name.push_str("session:");
            name.push_str(session);
        } else if span.trace_id.iter().any(|byte| *byte != 0) {
            name.push_str("trace:");
            push_hex(&mut name, &span.trace_id);
        } else {
            let context = self.context;
            return uuids::make_v7(context.received_at_us, context.uuid_seed, 0).to_string();
        }
        uuids::make_v5(USER_NAMESPACE, name.as_bytes()).to_string()
    }

    /// Appends the properties; or a part of them, and why not all.
    fn write_properties(
        &mut self,
        resource: &Resource<'_>,
        span: &Span<'_>,
        start: usize,
    ) -> Result<Option<Code>, Refusal> {
        let out = &mut self.document.text;
        let max_bytes = self.context.limits.max_event_bytes as usize;
        let attributes = || {
            let of_resource = resource.attributes.all.iter();
            of_resource.chain(&span.attributes.all).enumerate()
        };
        // The last one of each key holds, and those of the span come last.
        let mut last: HashMap<&str, usize> = HashMap::new();
        last.extend(attributes().map(|(index, attribute)| (&*attribute.key, index)));
        out.push('{');
        for (index, attribute) in attributes() {
            if last.get(&*attribute.key) != Some(&index)
                || OWN_PROPERTIES.contains(&&*attribute.key)
            {
                continue;
            }
            push_key(out, &attribute.key);
            let (nested_bytes, repaired) = (&mut self.nested_bytes, &mut self.repaired);
            if attribute.value.write(nested_bytes, repaired, out)? == Written::TooDeep {
                return Ok(Some(Code::EventTooDeep));
            }
            if out.len() - start > max_bytes || out.len() + self.wasted_bytes > MAX_TEXT_BYTES {
                return Ok(Some(Code::EventTooLarge));
            }
        }
        let said = |key: &str| last.contains_key(key);
        push_id(out, "$ai_trace_id", &span.trace_id);
        push_id(out, "$ai_span_id", &span.span_id);
        push_id(out, "$ai_parent_id", &span.parent_span_id);
        push_text(out, "$ai_ingestion_source", "otel");
        if !span.name.is_empty() {
            push_text(out, "$otel_span_name", &span.name);
        }
        push_text(
            out,
            "$otel_start_time_unix_nano",
            &span.start_ns.to_string(),
        );
        push_text(out, "$otel_end_time_unix_nano", &span.end_ns.to_string());
        if !said("$lib") {
            push_text(out, "$lib", LIBRARY);
        }
        if !resource.scope_version.is_empty() && !said("$lib_version") {
            push_text(out, "$lib_version", &resource.scope_version);
        }
        if let Some(error) = span.error() {
            if !said("$ai_is_error") {
                push_key(out, "$ai_is_error");
                out.push_str("true");
            }
            if !error.is_empty() && !said("$ai_error") {
                push_text(out, "$ai_error", &error);
            }
        }
        out.push('}');
        Ok((out.len() - start > max_bytes).then_some(Code::EventTooLarge))
    }
}

fn push_id(out: &mut String, key: &str, id: &[u8]) {
    if !id.is_empty() {
        push_key(out, key);
        out.push('"');
        push_hex(out, id);
        out.push('"');
    }
}

fn push_text(out: &mut String, key: &str, text: &str) {
    push_key(out, key);
    push_string(out, text);
}
