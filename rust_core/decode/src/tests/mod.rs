//! Tests of whole requests: payload and context in, batch out.

mod ai;
mod client_address;
mod codings;
mod compressions;
mod cookieless;
mod differential;
mod fields;
mod hostile;
mod matrix;
mod messages;
mod random;
mod recorded;
mod recordings;
mod shapes;
mod times;
mod tokens;
mod v1;

use std::io::Write as _;

use penstock_model::{
    Batch, BodyForm, Code, Coding, DecodeLimits, Endpoint, Event, Outcome, Payload, Refusal,
    RequestContext, Warning,
};

use crate::{DECODER_VERSION, Workspace, decode_request};

/// 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600_000_000;

fn context() -> RequestContext {
    RequestContext {
        decoder_version: DECODER_VERSION,
        limits: DecodeLimits::DEFAULT,
        endpoint: Endpoint::Batch,
        coding: Coding::Unspecified,
        form: BodyForm::Events,
        received_at_us: NOW,
        client_address: None,
        sent_at_us: None,
        token: None,
        sdk_info: None,
        cookieless: false,
        uuid_seed: [7; 16],
    }
}

fn decode_with(body: impl Into<Vec<u8>>, context: &RequestContext) -> Result<Batch, Refusal> {
    decode_request(
        &Payload::new(body.into()),
        context,
        &mut Workspace::default(),
    )
}

fn decode(body: impl Into<Vec<u8>>) -> Result<Batch, Refusal> {
    decode_with(body, &context())
}

fn refused(body: impl Into<Vec<u8>>) -> Code {
    decode(body).unwrap_err().code
}

/// Wraps events into the envelope that SDKs send.
fn batch_of(events: &str) -> String {
    format!(r#"{{"api_key":"phc_a","batch":[{events}]}}"#)
}

/// The outcome of each event of a batch that is read as a whole.
fn outcomes(body: impl Into<Vec<u8>>) -> Vec<Outcome> {
    decode(body)
        .unwrap()
        .events
        .iter()
        .map(|event| event.outcome)
        .collect()
}

/// Decodes one event inside of an envelope.
fn one(event: &str) -> (Batch, Event) {
    let batch = decode(batch_of(event)).unwrap();
    assert_eq!(batch.events.len(), 1);
    let event = batch.events[0].clone();
    (batch, event)
}

fn warnings(event: &Event) -> Vec<Warning> {
    event.warnings.iter().collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
