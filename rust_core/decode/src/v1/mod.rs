//! Capture v1 (`posthog-protocol.md` §4.4): a token and a clock in the headers, an envelope of its
//! own, and an answer for each event.
//!
//! Taken is what PostHog's service takes, and more where that costs nothing: times in any form that
//! v0 reads, ids that are numbers, any of v0's codings. An event whose id is no uuid refuses all,
//! since no answer could name it; any other fault is that of its event.

mod events;
mod head;
mod injected;
mod options;
mod results;

pub use head::{Head, RawHead, read_head};
pub use results::{RESULT_BYTES, write_results};

use penstock_model::{Code, Refusal, Uuid};

use crate::envelope::{Envelope, Shape};
use crate::event::{RawEvent, Root};
use crate::uuids;
use crate::verdict::{read_time, text_of};

pub(crate) use events::decode_events;

/// Checks what holds for a request as a whole, and reads the ids of its events, in order.
///
/// Cost: a sort of the ids besides reading them.
fn check_batch(text: &str, envelope: &Envelope, events: &[RawEvent]) -> Result<Vec<Uuid>, Refusal> {
    if envelope.shape != Shape::Batch {
        return Err(Refusal::new(
            Code::UnsupportedShape,
            "capture v1 takes an object with created_at and batch",
        ));
    }
    let created_at = envelope.created_at;
    if !created_at.is_string(text.as_bytes()) || read_time(text, created_at).is_none() {
        return Err(Refusal::new(
            Code::InvalidBatch,
            "created_at is not a time in RFC 3339",
        ));
    }
    let mut uuids = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let sent = text_of(text, event[Root::Uuid]).unwrap_or_default();
        let sent = sent.trim();
        if sent.is_empty() {
            return Err(of_event(Code::MissingEventUuid, index));
        }
        let uuid = uuids::parse(sent).ok_or_else(|| of_event(Code::InvalidEventUuid, index))?;
        uuids.push(uuid);
    }
    let mut sorted: Vec<_> = uuids.iter().map(|uuid| uuid.0).zip(0..).collect();
    sorted.sort_unstable();
    let repeats = sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    match repeats.map(|pair| pair[1].1).min() {
        Some(index) => Err(of_event(Code::DuplicateEventUuid, index)),
        None => Ok(uuids),
    }
}

fn of_event(code: Code, index: usize) -> Refusal {
    Refusal::new(code, format!("event {index}"))
}
