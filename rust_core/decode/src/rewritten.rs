//! A body that is written anew before the log: the text to start from, and the one that takes its
//! place.

use std::borrow::Cow;

use penstock_model::{
    Batch, BatchText, BodyForm, Coding, Outcome, Payload, Refusal, RequestContext,
};

use crate::request::{Workspace, decode_with_answer, read_bytes};

/// The text of the events of a payload, which `batch` is what it was decoded to: of a form, or of
/// spans, the one that was made of it, whose clock the context is told.
pub(crate) fn text_of_body<'a>(
    payload: &'a Payload,
    context: &mut RequestContext,
    batch: Batch,
    workspace: &mut Workspace,
) -> Result<Cow<'a, [u8]>, Refusal> {
    if context.form == BodyForm::Events {
        // Not the batch's own text, in which invalid UTF-8 is replaced: events tell of that.
        drop(batch);
        return read_bytes(payload, context, &mut workspace.decompressors);
    }
    context.sent_at_us = batch.sent_at_us;
    Ok(Cow::Owned(match batch.text {
        BatchText::Decoded(text) => text,
        BatchText::Received(text) => text.as_slice().to_vec(),
    }))
}

/// Decodes the text that stands in place of a body, and lets its context say what it is: plain JSON
/// of events. `outcomes` are those of its events where they were decided before.
pub(crate) fn decode_instead(
    text: Vec<u8>,
    context: &mut RequestContext,
    outcomes: Option<&[Outcome]>,
    workspace: &mut Workspace,
) -> Result<(Payload, Batch), Refusal> {
    if context.form != BodyForm::Events {
        // What the form became is longer than the form, and has been judged by the form's limits.
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let limits = &mut context.limits;
        limits.max_decompressed_bytes = limits.max_decompressed_bytes.max(bytes);
        limits.max_event_bytes = limits.max_event_bytes.max(bytes);
        context.form = BodyForm::Events;
    }
    context.coding = Coding::Identity;
    let payload = Payload::new(text);
    let (mut batch, _) = decode_with_answer(&payload, context, workspace)?;
    for (event, outcome) in batch.events.iter_mut().zip(outcomes.unwrap_or_default()) {
        event.outcome = *outcome;
    }
    Ok((payload, batch))
}
