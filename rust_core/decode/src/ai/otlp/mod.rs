//! A trace export of OpenTelemetry's protocol (OTLP 1.x), as protobuf or JSON: its spans about AI
//! become events, all others are passed by (`posthog-protocol.md` §3.10).
//!
//! | module | has |
//! |---|---|
//! | `wire`, `json` | the two encodings: each gives out the spans one by one |
//! | `any` | values of attributes, and their JSON |
//! | `span` | what a span says of its kind and of its user |
//! | `event` | the event that it becomes |
//!
//! A span's two ids make the event's (`event::event_id`), so an export that is sent again is stored
//! once.

mod any;
mod event;
mod json;
mod span;
mod wire;

use penstock_model::{BodyForm, Code, Refusal, RequestContext};

use super::{Document, lossy};
use crate::protobuf::{write_bytes, write_number};
use event::Writer;
use span::{Resource, Span};

/// Spans of one export, also those that are no AI's: SDKs send 512 at once.
const MAX_SPANS: usize = 1_000;

/// Events of one export (`posthog-protocol.md` §3.10).
const MAX_EVENTS: usize = 100;

/// Attributes of one span or resource. SDKs keep 128 unless told otherwise; conversations in
/// attributes of their own come to thousands. Each costs 64 bytes on the way.
const MAX_ATTRIBUTES: usize = 10_000;

/// Takes the spans of an export, counts them, and has those about AI written.
#[derive(Debug)]
struct Collector<'a> {
    writer: Writer<'a>,
    spans: usize,
    events: usize,
}

impl Collector<'_> {
    fn take(&mut self, resource: &Resource<'_>, span: &Span<'_>) -> Result<(), Refusal> {
        self.spans += 1;
        if self.spans > MAX_SPANS {
            return too_many("spans", MAX_SPANS);
        }
        let Some(name) = span.event_name() else {
            return Ok(());
        };
        self.events += 1;
        if self.events > MAX_EVENTS {
            return too_many("spans about AI", MAX_EVENTS);
        }
        self.writer.write(name, resource, span)
    }
}

#[cold]
fn too_many(what: &str, most: usize) -> Result<(), Refusal> {
    let detail = format!("more than {most} {what}");
    Err(Refusal::new(Code::TooManySpans, detail))
}

#[cold]
fn invalid<T>(detail: &str) -> Result<T, Refusal> {
    Err(Refusal::new(Code::InvalidOtlp, detail))
}

/// Makes the events of a serialized `ExportTraceServiceRequest`.
///
/// Errors: [`Code::InvalidOtlp`] where it breaks the encoding, [`Code::TooManySpans`]. A span that
/// can't be stored is its outcome.
pub(super) fn read_protobuf(body: &[u8], context: &RequestContext) -> Result<Document, Refusal> {
    let mut collector = collector(context);
    let mut repaired = false;
    wire::for_each_span(body, &mut repaired, &mut |resource, span| {
        collector.take(resource, span)
    })
    .map_err(of_export)?;
    Ok(collector.writer.finish(repaired))
}

/// The same of its JSON. Errors: also [`Code::InvalidJson`].
pub(super) fn read_json(body: &[u8], context: &RequestContext) -> Result<Document, Refusal> {
    let mut collector = collector(context);
    let mut repaired = false;
    let text = lossy(body, &mut repaired);
    json::for_each_span(&text, &mut |resource, span| collector.take(resource, span))?;
    Ok(collector.writer.finish(repaired))
}

fn collector(context: &RequestContext) -> Collector<'_> {
    Collector {
        writer: Writer::new(context),
        spans: 0,
        events: 0,
    }
}

/// A fault of protobuf is one of this message here.
fn of_export(refusal: Refusal) -> Refusal {
    match refusal.code {
        Code::InvalidMessage => Refusal::new(Code::InvalidOtlp, refusal.detail),
        _ => refusal,
    }
}

/// Serializes an `ExportTraceServiceResponse` for a stored export, in the encoding of its request.
///
/// `rejected` spans, if any, are told as partial success, with `message` saying why.
pub fn export_response(form: &BodyForm, rejected: u32, message: &str) -> Vec<u8> {
    if *form == BodyForm::OtlpProtobuf {
        let mut partial = Vec::new();
        write_number(&mut partial, 1, u64::from(rejected));
        write_bytes(&mut partial, 2, message.as_bytes());
        let mut response = Vec::new();
        if rejected > 0 {
            write_bytes(&mut response, 1, &partial);
        }
        return response;
    }
    let mut response = String::from("{");
    if rejected > 0 {
        // JSON of protobuf has numbers of 64 bits as texts.
        response.push_str(r#""partialSuccess":{"rejectedSpans":""#);
        response.push_str(&rejected.to_string());
        response.push_str(r#"","errorMessage":"#);
        crate::json_text::push_string(&mut response, message);
        response.push('}');
    }
    response.push('}');
    response.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_rejected_spans_only_if_there_are_some() {
        assert_eq!(export_response(&BodyForm::OtlpJson, 0, ""), b"{}");
        assert_eq!(export_response(&BodyForm::OtlpProtobuf, 0, ""), b"");
        assert_eq!(
            export_response(&BodyForm::OtlpJson, 2, "a\"b"),
            br#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"a\"b"}}"#
        );
        assert_eq!(
            export_response(&BodyForm::OtlpProtobuf, 300, "ab"),
            b"\x0a\x07\x08\xac\x02\x12\x02ab"
        );
    }
}
