//! Untrusted bytes to a checked batch: pure functions, no I/O, no clock, no settings.
//!
//! A request is decoded in steps: forms and content codings (`coding`), UTF-8 (`utf8`), one pass over the JSON
//! that notes where each event's fields lie (`json`, `envelope`, `event`), and one look at each
//! event that decides its outcome (`token`, `verdict`). The same payload and context always give the
//! same [`penstock_model::Batch`], so a replay stores what the first decode promised. AI events that
//! come as a form or as spans are written as JSON first (`ai`).

mod ai;
mod client_address;
mod coding;
mod cookieless;
mod distinct_id;
mod elements;
mod envelope;
mod event;
mod fields;
mod json;
mod json_text;
mod library;
mod private_members;
mod properties;
pub mod protobuf;
mod request;
mod rewritten;
#[cfg(test)]
mod tests;
mod timestamps;
mod token;
mod utf8;
mod uuids;
pub mod v1;
mod verdict;

pub use ai::{MAX_FORM_BYTES, MAX_OTLP_BYTES, body_form, content_type, export_response};
pub use client_address::{decode_without_client_address, names_client_address};
pub use coding::{coding_name, expected_decoded_bytes};
pub use cookieless::{Identify, decode_cookieless, has_cookieless};
pub use library::library_of;
pub use request::{DECODER_VERSION, Workspace, decode_request, decode_with_answer};
pub use token::check_token;
