//! Takes the client's address out of a body, for projects that don't store it.
//!
//! SDKs put it into `properties` as `$ip`. What goes is every member of that name, however deep and
//! in whichever event, also of refused ones: whoever looks for an address in the log or in a table
//! finds none. The rest of the text stays byte for byte.

use penstock_model::{Batch, BatchText, BodyForm, Payload, Refusal, RequestContext};

use crate::private_members::{has_any, remove};
use crate::request::Workspace;
use crate::rewritten::{decode_instead, text_of_body};

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
    let outcomes_of = || batch.events.iter().map(|event| event.outcome).collect();
    let outcomes: Option<Vec<_>> = decided.then(outcomes_of);
    let text = text_of_body(payload, context, batch, workspace)?.into_owned();
    let text = without_members(text);
    let (payload, batch) = decode_instead(text, context, outcomes.as_deref(), workspace)?;
    Ok((payload, batch, answer))
}

fn without_members(mut text: Vec<u8>) -> Vec<u8> {
    remove(&mut text, &MEMBERS);
    text.shrink_to_fit();
    text
}
