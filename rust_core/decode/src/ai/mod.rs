//! AI events that come as something else than capture's JSON: as the parts of a form, or as spans
//! of OpenTelemetry.
//!
//! Both are written anew as the JSON that says the same, an array of events, which then goes the
//! way of every other body: one set of rules for ids, times, people and properties, and a text that an
//! operator can read. That text is a copy, and has to be one: blobs and spans are no JSON on the
//! wire. Before it everything borrows from the body.

mod content_type;
mod multipart;
mod otlp;
mod parts;

use std::borrow::Cow;

use penstock_model::{
    Batch, BatchText, BodyForm, Code, Coding, DecodeLimits, Outcome, Payload, Refusal,
    RequestContext, Text,
};

use crate::coding::{self, Decompressors};
use crate::request::{Workspace, decode_text, missing_payload};
use crate::token::check_token;

pub(crate) use content_type::media_type;
pub use content_type::{body_form, content_type};
pub use otlp::export_response;

/// An OTLP request, on the wire and decompressed (`posthog-protocol.md` §3.10).
pub const MAX_OTLP_BYTES: usize = 4 << 20;

/// A form, on the wire and decompressed: what its parts may be, and a tenth for their heads.
pub const MAX_FORM_BYTES: usize = 28 << 20;

/// Text of an OTLP request as events, for each of its bytes: what admission counts with. Ids become
/// hexadecimal, and what spans have in common is written to each.
const OTLP_GROWTH: usize = 3;

/// A request as JSON of events.
#[derive(Debug, Default)]
struct Document {
    /// An array of events, or nothing if there are none.
    text: String,
    /// What is wrong with events beyond what their text shows: (index, code), ascending.
    faults: Vec<(usize, Code)>,
    /// Invalid UTF-8 was replaced.
    repaired: bool,
    /// The client's clock when it sent.
    sent_at_us: Option<i64>,
    /// Longest text of an event.
    max_event_bytes: u32,
    /// What the answer says once the events are stored, where nothing but the body tells.
    answer: Option<String>,
}

/// Decodes a body of another form than [`BodyForm::Events`]: its batch, and its answer.
///
/// A batch may be empty: then there is nothing to store.
pub(crate) fn decode(
    payload: &Payload,
    context: &RequestContext,
    workspace: &mut Workspace,
) -> Result<(Batch, Option<String>), Refusal> {
    let token = check_token(context.token.as_deref().ok_or_else(missing_token)?)?;
    let document = read_document(payload.as_slice(), context, &mut workspace.decompressors)?;
    if document.text.is_empty() {
        return Ok((empty_batch(token), document.answer));
    }
    let mut own = context.clone();
    own.limits.max_event_bytes = document.max_event_bytes;
    // The one of the request is there to win: how a record is sent again that is old.
    own.sent_at_us = context.sent_at_us.or(document.sent_at_us);
    let events = &mut workspace.events;
    let mut batch = decode_text(&document.text, document.repaired, &own, events)?;
    for (index, code) in document.faults {
        if let Some(event) = batch.events.get_mut(index)
            && event.outcome == Outcome::Accepted
        {
            event.outcome = Outcome::Rejected(code);
        }
    }
    batch.text = BatchText::Decoded(document.text.into_bytes());
    Ok((batch, document.answer))
}

fn read_document(
    payload: &[u8],
    context: &RequestContext,
    decompressors: &mut Decompressors,
) -> Result<Document, Refusal> {
    if payload.is_empty() {
        return Err(missing_payload());
    }
    let limits = &context.limits;
    let max_bytes = max_bytes(&context.form, limits);
    if payload.len() > max_bytes {
        let detail = format!("more than {max_bytes} bytes");
        return Err(Refusal::new(Code::RequestTooLarge, detail));
    }
    let body = decompressors.undo_compression(payload, context.coding, max_bytes)?;
    let mut document = match &context.form {
        BodyForm::AiParts { boundary } => parts::read(&body, boundary, decompressors, limits)?,
        BodyForm::OtlpProtobuf => otlp::read_protobuf(&body, context)?,
        BodyForm::OtlpJson | BodyForm::Events => otlp::read_json(&body, context)?,
    };
    // Kept until it is in the table.
    document.text.shrink_to_fit();
    Ok(document)
}

fn max_bytes(form: &BodyForm, limits: &DecodeLimits) -> usize {
    let of_form = match form {
        BodyForm::AiParts { .. } => MAX_FORM_BYTES,
        _ => MAX_OTLP_BYTES,
    };
    of_form.min(limits.max_decompressed_bytes as usize)
}

/// Guesses how many bytes a body takes besides itself while it is decoded.
pub(crate) fn expected_bytes(
    payload: &[u8],
    hint: Coding,
    form: &BodyForm,
    limits: &DecodeLimits,
) -> usize {
    let max_bytes = max_bytes(form, limits);
    let decompressed = coding::expected_decompressed_bytes(payload, hint, max_bytes);
    match form {
        BodyForm::AiParts { .. } => decompressed.saturating_mul(2),
        _ => decompressed.saturating_mul(OTLP_GROWTH),
    }
}

#[cold]
fn missing_token() -> Refusal {
    let detail = "send it as Authorization: Bearer";
    Refusal::new(Code::MissingToken, detail)
}

fn empty_batch(token: &str) -> Batch {
    Batch {
        text: BatchText::Decoded(Vec::new()),
        side: token.to_owned(),
        events: Vec::new(),
        token: Text::in_side(0, token.len()),
        historical: false,
        sent_at_us: None,
    }
}

/// Text of bytes that should be UTF-8: what is none is replaced, and told by the flag.
fn lossy<'a>(bytes: &'a [u8], repaired: &mut bool) -> Cow<'a, str> {
    if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    *repaired = true;
    String::from_utf8_lossy(bytes)
}
