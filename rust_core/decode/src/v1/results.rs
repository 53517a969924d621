//! The answer of capture v1: what became of each event, by its id, in the client's order.

use penstock_model::{Batch, Outcome, Uuid, Warning};

/// About what the answer of one event takes.
pub const RESULT_BYTES: usize = 80;

/// Writes the answer as JSON. `persisted` tells whether the record is where the client wants it;
/// if not, what would have been stored is to be sent again, and only that.
///
/// A duplicate is stored, so its answer is that of any stored event: the text follows from decoding
/// alone.
pub fn write_results(batch: &Batch, persisted: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + RESULT_BYTES * batch.events.len());
    out.extend_from_slice(b"{\"results\":{");
    let mut uuid = [0; Uuid::TEXT_BYTES];
    for (index, event) in batch.events.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        event.uuid.write_text(&mut uuid);
        out.push(b'"');
        out.extend_from_slice(&uuid);
        out.extend_from_slice(b"\":{\"result\":\"");
        let (result, details) = match event.outcome {
            Outcome::Rejected(code) => ("drop", code.v1_detail()),
            _ if !persisted => ("retry", "not_persisted"),
            // `warning` is said there of what a rate limit changed, which is not in the event.
            _ if event.warnings.contains(Warning::PersonProcessingDisabled) => {
                ("ok", Warning::PersonProcessingDisabled.as_str())
            }
            Outcome::Accepted | Outcome::Duplicate => ("ok", ""),
        };
        out.extend_from_slice(result.as_bytes());
        if !details.is_empty() {
            out.extend_from_slice(b"\",\"details\":\"");
            out.extend_from_slice(details.as_bytes());
        }
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"}}");
    out
}
