//! Exports of OpenTelemetry as tests describe them, written in both encodings by the definitions of
//! their messages.

use serde_json::{Value, json};

use crate::protobuf::{write_bytes, write_number};

/// A value of an attribute.
#[derive(Clone, Debug)]
pub(super) enum Any {
    Nothing,
    Text(&'static str),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'static [u8]),
    List(Vec<Any>),
    Map(Vec<(&'static str, Any)>),
}

pub(super) type Attributes = Vec<(&'static str, Any)>;

#[derive(Clone, Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "as the message definition has them"
)]
pub(super) struct Span {
    pub(super) trace_id: Vec<u8>,
    pub(super) span_id: Vec<u8>,
    pub(super) parent_span_id: Vec<u8>,
    pub(super) name: &'static str,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) attributes: Attributes,
    /// Code and message.
    pub(super) status: Option<(u64, &'static str)>,
    /// Names and attributes.
    pub(super) events: Vec<(&'static str, Attributes)>,
}

/// 2026-01-01T00:00:00Z, and an hour and some nanoseconds before.
pub(super) const START_NS: u64 = 1_767_222_000_123_456_789;
pub(super) const END_NS: u64 = 1_767_222_001_000_000_000;

impl Span {
    /// A whole span with these attributes; `number` tells its ids.
    pub(super) fn new(number: u8, attributes: Attributes) -> Self {
        Self {
            trace_id: vec![0xa0; 16],
            span_id: vec![number; 8],
            parent_span_id: Vec::new(),
            name: "chat m",
            start_ns: START_NS,
            end_ns: END_NS,
            attributes,
            status: None,
            events: Vec::new(),
        }
    }

    pub(super) fn chat(number: u8) -> Self {
        Self::new(number, vec![("gen_ai.operation.name", Any::Text("chat"))])
    }
}

/// One resource with one scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Export {
    pub(super) resource: Attributes,
    pub(super) version: &'static str,
    pub(super) spans: Vec<Span>,
}

impl Export {
    pub(super) fn of(spans: Vec<Span>) -> Self {
        Self {
            spans,
            ..Self::default()
        }
    }

    pub(super) fn protobuf(&self) -> Vec<u8> {
        let mut scope = Vec::new();
        write_bytes(&mut scope, 2, self.version.as_bytes());
        let mut scope_spans = Vec::new();
        // What stands in common comes last here, which protobuf allows.
        for span in &self.spans {
            message(&mut scope_spans, 2, &span_message(span));
        }
        message(&mut scope_spans, 1, &scope);
        let mut resource_spans = Vec::new();
        message(&mut resource_spans, 2, &scope_spans);
        message(&mut resource_spans, 1, &key_values(1, &self.resource));
        let mut export = Vec::new();
        message(&mut export, 1, &resource_spans);
        export
    }

    pub(super) fn json(&self) -> Vec<u8> {
        let spans: Vec<Value> = self.spans.iter().map(span_json).collect();
        json!({"resourceSpans": [{
            "resource": {"attributes": key_values_json(&self.resource)},
            "scopeSpans": [{"scope": {"name": "s", "version": self.version}, "spans": spans}],
        }]})
        .to_string()
        .into_bytes()
    }
}

/// A message field, also an empty one.
pub(super) fn message(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    if content.is_empty() {
        out.extend_from_slice(&[u8::try_from(field << 3 | 2).unwrap(), 0]);
    } else {
        write_bytes(out, field, content);
    }
}

fn fixed64(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn span_message(span: &Span) -> Vec<u8> {
    let mut out = Vec::new();
    write_bytes(&mut out, 1, &span.trace_id);
    write_bytes(&mut out, 2, &span.span_id);
    write_bytes(&mut out, 4, &span.parent_span_id);
    write_bytes(&mut out, 5, span.name.as_bytes());
    write_number(&mut out, 6, 3);
    fixed64(&mut out, 7, span.start_ns);
    fixed64(&mut out, 8, span.end_ns);
    out.extend(key_values(9, &span.attributes));
    for (name, attributes) in &span.events {
        let mut event = Vec::new();
        fixed64(&mut event, 1, span.start_ns);
        write_bytes(&mut event, 2, name.as_bytes());
        event.extend(key_values(3, attributes));
        message(&mut out, 11, &event);
    }
    if let Some((code, text)) = span.status {
        let mut status = Vec::new();
        write_bytes(&mut status, 2, text.as_bytes());
        write_number(&mut status, 3, code);
        message(&mut out, 15, &status);
    }
    out
}

fn key_values(field: u64, attributes: &[(&'static str, Any)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in attributes {
        let mut pair = Vec::new();
        write_bytes(&mut pair, 1, key.as_bytes());
        message(&mut pair, 2, &any_message(value));
        message(&mut out, field, &pair);
    }
    out
}

fn any_message(value: &Any) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Any::Nothing => {}
        Any::Text(text) => message(&mut out, 1, text.as_bytes()),
        Any::Bool(value) => out.extend_from_slice(&[2 << 3, u8::from(*value)]),
        Any::Int(0) => out.extend_from_slice(&[3 << 3, 0]),
        Any::Int(value) => write_number(&mut out, 3, value.cast_unsigned()),
        Any::Double(value) => fixed64(&mut out, 4, value.to_bits()),
        Any::Bytes(bytes) => message(&mut out, 7, bytes),
        Any::List(values) => {
            let mut list = Vec::new();
            for value in values {
                message(&mut list, 1, &any_message(value));
            }
            message(&mut out, 5, &list);
        }
        Any::Map(entries) => message(&mut out, 6, &key_values(1, entries)),
    }
    out
}

fn span_json(span: &Span) -> Value {
    let events: Vec<Value> = span
        .events
        .iter()
        .map(|(name, attributes)| {
            json!({"timeUnixNano": "1", "name": name, "attributes": key_values_json(attributes)})
        })
        .collect();
    let mut out = json!({
        "traceId": hex(&span.trace_id),
        "spanId": hex(&span.span_id).to_uppercase(),
        "name": span.name,
        "kind": 3,
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns,
        "attributes": key_values_json(&span.attributes),
        "events": events,
        "status": null,
    });
    if !span.parent_span_id.is_empty() {
        out["parent_span_id"] = json!(hex(&span.parent_span_id));
    }
    if let Some((code, text)) = span.status {
        out["status"] = json!({"code": code, "message": text});
    }
    out
}

fn key_values_json(attributes: &[(&'static str, Any)]) -> Vec<Value> {
    let pair = |(key, value): &(&'static str, Any)| json!({"key": key, "value": any_json(value)});
    attributes.iter().map(pair).collect()
}

fn any_json(value: &Any) -> Value {
    match value {
        Any::Nothing => json!({}),
        Any::Text(text) => json!({"stringValue": text}),
        Any::Bool(value) => json!({"boolValue": value}),
        Any::Int(value) => json!({"intValue": value.to_string()}),
        Any::Double(value) if value.is_finite() => json!({"doubleValue": value}),
        Any::Double(value) if value.is_nan() => json!({"doubleValue": "NaN"}),
        Any::Double(value) if *value < 0.0 => json!({"doubleValue": "-Infinity"}),
        Any::Double(_) => json!({"doubleValue": "Infinity"}),
        Any::Bytes(bytes) => {
            use base64::Engine as _;
            json!({"bytesValue": base64::engine::general_purpose::STANDARD.encode(bytes)})
        }
        Any::List(values) => {
            let values: Vec<Value> = values.iter().map(any_json).collect();
            json!({"arrayValue": {"values": values}})
        }
        Any::Map(entries) => json!({"kvlistValue": {"values": key_values_json(entries)}}),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let byte = |byte: &u8| [byte >> 4, byte & 15].map(|digit| format!("{digit:x}"));
    bytes.iter().flat_map(byte).collect()
}
