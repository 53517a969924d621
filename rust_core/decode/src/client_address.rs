//! Takes the client's address out of a body, for projects that don't store it.
//!
//! SDKs put it into `properties` as `$ip`. What goes is every member of that name, however deep and
//! in whichever event, also of refused ones: whoever looks for an address in the log or in a table
//! finds none. The rest of the text stays byte for byte.

use penstock_model::{
    Batch, BatchText, BodyForm, Coding, Outcome, Payload, Refusal, RequestContext,
};

use crate::private_members::{has_any, remove};
use crate::request::{Workspace, decode_with_answer, read_bytes};

const MEMBERS: [&str; 1] = ["$ip"];

/// Whether the text of a batch has the client's address in it. Cost: a pass over its strings.
pub fn names_client_address(batch: &Batch) -> bool {
    match &batch.text {
        BatchText::Received(text) => has_any(text.as_slice(), &MEMBERS),
        BatchText::Decoded(text) => has_any(text, &MEMBERS),
    }
}

/// Makes a payload anew without the client's address, and decodes that.
///
/// `batch` and `answer` are what the payload as it came was decoded to. The new payload is plain
/// JSON, and `context` then says so; of a body of another form than events it is the events that
/// it became, whose outcomes and answer stay what they were.
///
/// Errors: as decoding; what was read once can only lack memory. Cost: as decoding again, and no
/// more memory than that.
pub fn decode_without_client_address(
    payload: &Payload,
    context: &mut RequestContext,
    batch: Batch,
    answer: Option<String>,
    workspace: &mut Workspace,
) -> Result<(Payload, Batch, Option<String>), Refusal> {
    // Decided once, where that can't be decided anew of this text.
    let decided = context.form != BodyForm::Events || context.cookieless;
    let outcomes = decided.then(|| outcomes_of(&batch));
    let text = if context.form == BodyForm::Events {
        // Not the batch's own text, in which invalid UTF-8 is replaced: events tell of that.
        drop(batch);
        read_bytes(payload, context, &mut workspace.decompressors)?.into_owned()
    } else {
        context.sent_at_us = batch.sent_at_us;
        into_text(batch)
    };
    let text = without_members(text);
    let (payload, batch) = decode_instead(text, context, outcomes.as_deref(), workspace)?;
    Ok((payload, batch, answer))
}

pub(crate) fn outcomes_of(batch: &Batch) -> Vec<Outcome> {
    batch.events.iter().map(|event| event.outcome).collect()
}

fn into_text(batch: Batch) -> Vec<u8> {
    match batch.text {
        BatchText::Decoded(text) => text,
        BatchText::Received(text) => text.as_slice().to_vec(),
    }
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

fn without_members(mut text: Vec<u8>) -> Vec<u8> {
    remove(&mut text, &MEMBERS);
    text.shrink_to_fit();
    text
}
