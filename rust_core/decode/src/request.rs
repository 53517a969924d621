//! A request from payload to batch: the steps in order.

use std::borrow::Cow;

use penstock_model::{
    Batch, BatchText, BodyForm, Code, Endpoint, Payload, Refusal, RequestContext,
};

use crate::ai;
use crate::coding::Decompressors;
use crate::envelope::{self, Envelope, Shape};
use crate::event::{RawEvent, Root};
use crate::json::Value;
use crate::verdict::{Judge, read_time};
use crate::{token, utf8, v1};

/// Version of the rules in this crate. Goes into each log record; raised whenever the same payload
/// and context could decode to something else.
pub const DECODER_VERSION: u16 = 1;

/// Longest text whatever the settings say: places in a text and in its side buffer, which is at most
/// three times as long, have 31 bits.
const MAX_TEXT_BYTES: usize = 512 << 20;

/// Events whose notes a thread keeps memory for from request to request (264 bytes each).
const MAX_KEPT_EVENTS: usize = 2_048;

/// What a thread uses again from request to request.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(crate) decompressors: Decompressors,
    pub(crate) events: Vec<RawEvent>,
}

/// Decodes a request: undoes its content coding, reads its envelope and decides each event.
///
/// A plain body is shared, not copied. The same payload and context give the same batch, whatever
/// the workspace was used for before.
///
/// Errors: the request can't be read as a whole, or names no usable token; then nothing of it is
/// stored. A fault of one event is that event's outcome.
///
/// Cost: about 0.7 µs an event of 1 kB, plus as much for gzip (`measured.md` §1, §2). Memory: the
/// text of a coded body (at most `max_decompressed_bytes`) and about 550 bytes an event.
pub fn decode_request(
    payload: &Payload,
    context: &RequestContext,
    workspace: &mut Workspace,
) -> Result<Batch, Refusal> {
    decode_with_answer(payload, context, workspace).map(|(batch, _)| batch)
}

/// The same, with what the answer says once the events are stored, where only the body tells that
/// ([`BodyForm::AiParts`]: JSON).
pub fn decode_with_answer(
    payload: &Payload,
    context: &RequestContext,
    workspace: &mut Workspace,
) -> Result<(Batch, Option<String>), Refusal> {
    let decoded = if context.form == BodyForm::Events {
        decode_events(payload, context, workspace).map(|batch| (batch, None))
    } else {
        ai::decode(payload, context, workspace)
    };
    workspace.events.clear();
    workspace.events.shrink_to(MAX_KEPT_EVENTS);
    decoded
}

fn decode_events(
    payload: &Payload,
    context: &RequestContext,
    workspace: &mut Workspace,
) -> Result<Batch, Refusal> {
    let bytes = read_bytes(payload, context, &mut workspace.decompressors)?;
    let events = &mut workspace.events;
    let (decoded, repaired) = if let Ok(text) = simdutf8::basic::from_utf8(&bytes) {
        (decode_text(text, false, context, events), None)
    } else {
        let text = utf8::repair(&bytes, max_text_bytes(context))?;
        (decode_text(&text, true, context, events), Some(text))
    };
    let mut batch = decoded?;
    batch.text = match (repaired, bytes) {
        (Some(text), _) => BatchText::Decoded(text.into_bytes()),
        (None, Cow::Owned(bytes)) => BatchText::Decoded(bytes),
        (None, Cow::Borrowed(_)) => BatchText::Received(payload.clone()),
    };
    Ok(batch)
}

fn max_text_bytes(context: &RequestContext) -> usize {
    (context.limits.max_decompressed_bytes as usize).min(MAX_TEXT_BYTES)
}

/// Undoes the content coding of a payload.
pub(crate) fn read_bytes<'a>(
    payload: &'a Payload,
    context: &RequestContext,
    decompressors: &mut Decompressors,
) -> Result<Cow<'a, [u8]>, Refusal> {
    let payload = payload.as_slice();
    let max_bytes = max_text_bytes(context);
    if payload.len() > max_bytes {
        let detail = format!("more than {max_bytes} bytes");
        return Err(Refusal::new(Code::RequestTooLarge, detail));
    }
    if payload.is_empty() {
        return Err(missing_payload());
    }
    decompressors.undo(payload, context.coding, max_bytes)
}

pub(crate) fn missing_payload() -> Refusal {
    Refusal::new(Code::MissingPayload, "the body is empty")
}

/// Decodes a text. The batch's own is left for the caller to put in.
pub(crate) fn decode_text(
    text: &str,
    repaired: bool,
    context: &RequestContext,
    raw_events: &mut Vec<RawEvent>,
) -> Result<Batch, Refusal> {
    let bytes = text.as_bytes();
    let start = utf8::byte_order_mark(bytes);
    if bytes[start..].trim_ascii_start().is_empty() {
        return Err(missing_payload());
    }
    let envelope = envelope::scan_document(bytes, start, &context.limits, raw_events)?;
    if context.endpoint.is_v1() {
        return v1::decode_events(text, repaired, context, &envelope, raw_events);
    }
    let resolved = token::resolve(text, context.token.as_deref(), &envelope, raw_events).map_err(
        |refusal| unusable(refusal, bytes, context.endpoint, envelope.shape, raw_events),
    )?;
    let sent_at = sent_at_of(context.endpoint, &envelope, raw_events);
    let sent_at_us = read_time(text, sent_at).or(context.sent_at_us);
    let mut judge = Judge::new(text, context, &resolved, sent_at_us, repaired);
    let token = judge.write(&resolved.token);
    let mut events = Vec::with_capacity(raw_events.len());
    for (index, raw) in raw_events.iter().enumerate() {
        events.push(judge.judge(raw, index));
    }
    Ok(judge.into_batch(token, events, &envelope))
}

/// Where a body says when it was sent (`posthog-protocol.md` §3.6).
fn sent_at_of(endpoint: Endpoint, envelope: &Envelope, events: &[RawEvent]) -> Value {
    match envelope.shape {
        Shape::Batch => envelope.sent_at,
        // Elsewhere an event's own `sent_at` is no clock of its request.
        _ if !endpoint.takes_recordings() => Value::ABSENT,
        Shape::Single => envelope.sent_at,
        Shape::Array => events
            .first()
            .map_or(Value::ABSENT, |event| event[Root::SentAt]),
    }
}

/// A document in which no token was found may not be a request at all: then it says that.
fn unusable(
    refusal: Refusal,
    text: &[u8],
    endpoint: Endpoint,
    shape: Shape,
    events: &[RawEvent],
) -> Refusal {
    if refusal.code != Code::MissingToken {
        return refusal;
    }
    let no_object = events.iter().all(|event| !event.whole.is_object(text));
    if no_object && events.iter().any(|event| event.too_deep) {
        return Refusal::new(Code::RequestTooDeep, "the array holds no event");
    }
    if no_object {
        return Refusal::new(Code::UnsupportedShape, "the array holds no event");
    }
    let is_event =
        |event: &RawEvent| !event[Root::Event].is_absent() || !event[Root::DistinctId].is_absent();
    // Where an event needs no name, any object is one.
    let needs_name = endpoint.default_event_name().is_none();
    if needs_name && shape == Shape::Single && !events.iter().any(is_event) {
        return Refusal::new(
            Code::UnsupportedShape,
            "the object is neither an event nor a batch",
        );
    }
    refusal
}
