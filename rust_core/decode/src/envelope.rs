//! The shapes of a request: one event, an array of events, an object with a `batch` of events.

use penstock_model::{Code, DecodeLimits, Refusal};

use crate::event::{RawEvent, Root, key_bytes};
use crate::json::{Scanner, Value};

/// How the events of a request are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The document is the event.
    Single,
    Array,
    /// An object with a `batch` array and fields that hold for all its events.
    Batch,
}

/// What stands outside of the events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) shape: Shape,
    pub(crate) token: Value,
    pub(crate) sent_at: Value,
    pub(crate) historical_migration: Value,
    /// Of capture v1, as is the next.
    pub(crate) created_at: Value,
    pub(crate) capture_internal: Value,
}

/// Reads a document from byte `start` of `text` and puts its events into `events`.
///
/// Cost: one pass. A fault of syntax refuses everything, since what stood before it can't be
/// trusted to be what was meant.
pub(crate) fn scan_document(
    text: &[u8],
    start: usize,
    limits: &DecodeLimits,
    events: &mut Vec<RawEvent>,
) -> Result<Envelope, Refusal> {
    events.clear();
    let mut scanner = Scanner::new(text, start, limits.max_json_depth);
    let mut envelope = Envelope {
        shape: Shape::Array,
        token: Value::ABSENT,
        sent_at: Value::ABSENT,
        historical_migration: Value::ABSENT,
        created_at: Value::ABSENT,
        capture_internal: Value::ABSENT,
    };
    match scanner.peek() {
        b'{' => scan_root_object(&mut scanner, limits, events, &mut envelope)?,
        b'[' => scan_array(&mut scanner, 0, limits, events)?,
        _ => {
            scanner.value(0)?;
            scanner.end()?;
            return Err(Refusal::new(
                Code::UnsupportedShape,
                "the document is a plain value",
            ));
        }
    }
    scanner.end()?;
    if scanner.too_deep && envelope.shape != Shape::Single {
        let detail = format!(
            "more than {} levels outside of the events",
            limits.max_json_depth
        );
        return Err(Refusal::new(Code::RequestTooDeep, detail));
    }
    if events.is_empty() {
        return Err(Refusal::new(Code::NoEvents, "the array of events is empty"));
    }
    Ok(envelope)
}

fn scan_root_object(
    scanner: &mut Scanner<'_>,
    limits: &DecodeLimits,
    events: &mut Vec<RawEvent>,
    envelope: &mut Envelope,
) -> Result<(), Refusal> {
    let start = scanner.at();
    let mut root = RawEvent::default();
    let mut batch = Value::ABSENT;
    scanner.enter(1);
    scanner.pass();
    let mut more = scanner.any(b'}');
    while more {
        let key = scanner.key()?;
        let key_text = key_bytes(scanner.text(), key);
        match &*key_text {
            b"batch" => {
                // Duplicate keys: the last one wins, so an earlier array is forgotten.
                events.clear();
                if scanner.peek() == b'[' {
                    let start = scanner.at();
                    scan_array(scanner, 1, limits, events)?;
                    batch = Value::new(start, scanner.at(), false);
                } else {
                    batch = scanner.value(1)?;
                }
            }
            b"sent_at" => envelope.sent_at = scanner.value(1)?,
            b"historical_migration" => envelope.historical_migration = scanner.value(1)?,
            b"created_at" => envelope.created_at = scanner.value(1)?,
            b"capture_internal" => envelope.capture_internal = scanner.value(1)?,
            _ => root.member(scanner, key, 1)?,
        }
        more = scanner.more(b'}')?;
    }
    if batch.kind(scanner.text()) == b'[' {
        envelope.shape = Shape::Batch;
        envelope.token = root[Root::Token];
        return Ok(());
    }
    if !batch.is_absent() && root[Root::Event].is_absent() {
        // What isn't JSON to its end is no shape at all.
        scanner.end()?;
        return Err(Refusal::new(
            Code::UnsupportedShape,
            "batch is not an array",
        ));
    }
    envelope.shape = Shape::Single;
    root.whole = Value::new(start, scanner.at(), false);
    root.too_deep = scanner.too_deep;
    root.lone_surrogate = scanner.lone_surrogate;
    events.push(root);
    Ok(())
}

/// Reads an array of events with `depth` containers open around it.
fn scan_array(
    scanner: &mut Scanner<'_>,
    depth: u32,
    limits: &DecodeLimits,
    events: &mut Vec<RawEvent>,
) -> Result<(), Refusal> {
    scanner.enter(depth + 1);
    scanner.pass();
    let mut more = scanner.any(b']');
    while more {
        if events.len() >= limits.max_events_per_request as usize {
            let detail = format!("more than {} events", limits.max_events_per_request);
            return Err(Refusal::new(Code::TooManyEvents, detail));
        }
        events
            .push_mut(RawEvent::default())
            .scan(scanner, depth + 1)?;
        more = scanner.more(b']')?;
    }
    Ok(())
}
