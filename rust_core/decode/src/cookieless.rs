//! Events of cookieless mode: puts ids that were made of a visit in the place of what they were made
//! of (`posthog-protocol.md` §3.5).
//!
//! An SDK in that mode has no id of a person, and says `$posthog_cookieless`. Which visitor it is
//! about is told by address, user agent and host, which must not be kept. So what the log gets is a
//! text that was written anew: with the ids, and without the rest. Decoding it decides nothing.

mod rewrite;
mod visit;

use penstock_model::{
    Batch, COOKIELESS_DISTINCT_ID, Code, Outcome, Payload, Refusal, RequestContext, Visit,
    VisitorIds,
};

use crate::request::Workspace;
use crate::rewritten::{decode_instead, text_of_body};

/// Gives the ids of a visitor, or the code by which the event is refused. The refusal is that of the
/// whole request: nothing of it is stored.
pub type Identify<'a> = dyn FnMut(&Visit<'_>) -> Result<Result<VisitorIds, Code>, Refusal> + 'a;

/// What is known of an event of cookieless mode once it was looked at.
#[derive(Debug)]
enum Decision {
    /// It gets these ids.
    Identified(VisitorIds),
    /// It has got them before: it is sent again out of a log.
    Anonymous,
    /// It is not stored as an event.
    Refused,
}

/// Whether a batch has events of cookieless mode.
pub fn has_cookieless(batch: &Batch) -> bool {
    batch.events.iter().any(|event| event.cookieless)
}

/// Makes a payload anew in which visitors have ids and nothing else that tells of them, and decodes
/// that.
///
/// `batch` and `answer` are what the payload as it came was decoded to; `identify` is called for each
/// event of cookieless mode that is accepted so far. The new payload is plain JSON, and `context` then
/// says so; its address goes, unless another event of the request needs it. Events of other modes
/// stay byte for byte.
///
/// Errors: those of `identify`, and of decoding: what was read once can only lack memory. Cost: as
/// decoding twice again.
pub fn decode_cookieless(
    payload: &Payload,
    context: &mut RequestContext,
    batch: Batch,
    answer: Option<String>,
    workspace: &mut Workspace,
    identify: &mut Identify<'_>,
) -> Result<(Payload, Batch, Option<String>), Refusal> {
    let mut outcomes = Vec::with_capacity(batch.events.len());
    let mut decisions = Vec::with_capacity(batch.events.len());
    let view = batch.view();
    for event in &batch.events {
        let (mut outcome, mut decision) = (event.outcome, None);
        if event.cookieless {
            let decided = match outcome {
                Outcome::Accepted => visit::decide(&view, event, context.client_address, identify)?,
                _ => Ok(Decision::Refused),
            };
            decision = Some(decided.unwrap_or_else(|code| {
                outcome = Outcome::Rejected(code);
                Decision::Refused
            }));
        }
        outcomes.push(outcome);
        decisions.push(decision);
    }
    let mut others = batch.events.iter().zip(&outcomes);
    let needs_address =
        others.any(|(event, outcome)| !event.cookieless && *outcome == Outcome::Accepted);
    if !needs_address {
        context.client_address = None;
    }
    let text = text_of_body(payload, context, batch, workspace)?;
    let rewritten = rewrite::rewrite(&text, &decisions, &context.limits, &mut workspace.events)?;
    drop(text);
    // Events that were not too long before they got their ids are not so now.
    let limits = &mut context.limits;
    let as_limit = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    limits.max_event_bytes = limits
        .max_event_bytes
        .max(as_limit(rewritten.longest_event_bytes));
    limits.max_decompressed_bytes = limits
        .max_decompressed_bytes
        .max(as_limit(rewritten.repaired_bytes));
    context.cookieless = true;
    let (payload, batch) = decode_instead(rewritten.text, context, Some(&outcomes), workspace)?;
    Ok((payload, batch, answer))
}

/// Whether an id is what stands for who has none. White space around it goes as it does from an id of
/// capture v1, or else all visitors would be one person there.
fn is_nobody(id: &str) -> bool {
    id.trim() == COOKIELESS_DISTINCT_ID
}
