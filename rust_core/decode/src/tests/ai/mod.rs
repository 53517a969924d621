//! AI events in other forms than capture's JSON.

mod export;
mod hostile_export;
mod hostile_parts;
mod otlp;
mod parts;

use super::*;
use crate::decode_with_answer;

/// The context of a request of such a route: its token came in a header.
fn ai_context(endpoint: Endpoint, form: BodyForm) -> RequestContext {
    RequestContext {
        endpoint,
        form,
        token: Some("phc_ai".to_owned()),
        ..context()
    }
}

/// The properties of an event, as JSON that is read by another reader.
fn properties(batch: &Batch, index: usize) -> serde_json::Value {
    let view = batch.view();
    serde_json::from_str(view.get(batch.events[index].properties)).unwrap()
}
