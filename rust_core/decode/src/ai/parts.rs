//! The parts of one AI event, and the event that they make (`posthog-protocol.md` §3.10).
//!
//! First `event`, perhaps `event.properties`, then a part for each property that is large or no
//! JSON, `event.properties.<name>`: a *blob*. PostHog's service puts blobs aside, or drops them. Here
//! they become the properties that they are named after, so that such an event reads like any
//! other: JSON as it is, text as a string, everything else as a `data:` URL of base64.

use std::borrow::Cow;
use std::collections::HashSet;

use penstock_model::{Code, Coding, DecodeLimits, Refusal};

use super::content_type::media_type;
use super::multipart::{self, Part, invalid};
use super::{Document, lossy};
use crate::coding::Decompressors;
use crate::json::{Members, Scanner, Value, slice};
use crate::json_text::{data_url_len, push_data_url, push_key, push_string, string_len};
use crate::utf8::byte_order_mark;
use crate::verdict::read_time;

/// The part `event`: names, ids and times, of which SDKs write less than one kilobyte.
const MAX_EVENT_PART_BYTES: usize = 32 << 10;

/// `event` and `event.properties` together: what a message of PostHog's queue has room for.
const MAX_JSON_PART_BYTES: usize = 983_040;

/// All parts together, blobs decompressed.
const MAX_PART_BYTES: usize = 25 << 20;

const EVENT: &str = "event";
const PROPERTIES: &str = "event.properties";
const BLOB_PREFIX: &str = "event.properties.";
const AI_MODEL: &str = "$ai_model";

/// Containers around a property in the text that is written: the array, the event, its properties.
const OUTER_DEPTH: u32 = 3;

/// A property that came as a part of its own.
#[derive(Debug)]
struct Blob<'a> {
    name: String,
    value: BlobValue<'a>,
}

/// How a blob is written.
#[derive(Debug)]
enum BlobValue<'a> {
    Json(Cow<'a, str>),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
}

impl BlobValue<'_> {
    /// Bytes of the blob itself, decompressed.
    fn len(&self) -> usize {
        match self {
            Self::Json(text) | Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Bytes as JSON.
    fn written_len(&self) -> usize {
        match self {
            Self::Json(text) => text.len(),
            Self::Text(text) => string_len(text),
            Self::Bytes(bytes) => data_url_len(bytes),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Json(text) => out.push_str(text),
            Self::Text(text) => push_string(out, text),
            Self::Bytes(bytes) => push_data_url(out, bytes),
        }
    }
}

/// The parts of a body by what they are.
#[derive(Debug, Default)]
struct Sorted<'a> {
    event: &'a [u8],
    properties: Option<&'a [u8]>,
    blobs: Vec<Blob<'a>>,
}

/// A part that is JSON.
#[derive(Debug)]
struct JsonPart<'a> {
    text: Cow<'a, str>,
    value: Value,
}

/// Makes the event of a form.
///
/// Errors: [`Code::InvalidMultipart`] for parts that are not these, [`Code::RequestTooLarge`] past
/// their limits, [`Code::InvalidJson`], the code of a part's own coding. What is wrong with the
/// event itself is its outcome.
pub(super) fn read(
    body: &[u8],
    boundary: &str,
    decompressors: &mut Decompressors,
    limits: &DecodeLimits,
) -> Result<Document, Refusal> {
    let parts = multipart::split(body, boundary)?;
    if parts.is_empty() {
        return invalid("there is no part named event");
    }
    let sorted = sort(&parts, decompressors, limits)?;
    let mut document = Document {
        answer: Some(accepted_parts(&parts)),
        // The limits of the parts hold for the event that is made of them.
        max_event_bytes: u32::MAX,
        ..Document::default()
    };
    let event = read_json(sorted.event, &mut document.repaired)?;
    if !event.value.is_object(event.text.as_bytes()) {
        return invalid("the part event is no JSON object");
    }
    let properties = match sorted.properties {
        Some(properties) => Some(read_json(properties, &mut document.repaired)?),
        None => None,
    };
    write_event(&event, properties.as_ref(), &sorted.blobs, &mut document)?;
    Ok(document)
}

/// Checks the parts one by one, in their order.
fn sort<'a>(
    parts: &[Part<'a>],
    decompressors: &mut Decompressors,
    limits: &DecodeLimits,
) -> Result<Sorted<'a>, Refusal> {
    let mut sorted = Sorted::default();
    let mut names = HashSet::new();
    let mut all_bytes = 0;
    for (index, part) in parts.iter().enumerate() {
        let Some(name) = part.name() else {
            return invalid("a part has no name");
        };
        if index == 0 && name != EVENT {
            return invalid("the first part must be named event");
        }
        let room = MAX_PART_BYTES - all_bytes;
        all_bytes += part.data.len();
        check_size("all parts", all_bytes, MAX_PART_BYTES)?;
        match &*name {
            EVENT => {
                check_size(EVENT, part.data.len(), MAX_EVENT_PART_BYTES)?;
                sorted.event = part.data;
            }
            PROPERTIES => {
                let json_bytes = sorted.event.len() + part.data.len();
                check_size(
                    "event and event.properties",
                    json_bytes,
                    MAX_JSON_PART_BYTES,
                )?;
                sorted.properties = Some(part.data);
            }
            _ => {
                let blob = read_blob(part, &name, room, decompressors, limits)?;
                all_bytes += blob.value.len().saturating_sub(part.data.len());
                sorted.blobs.push(blob);
            }
        }
        if !names.insert(name) {
            return invalid("two parts have the same name");
        }
    }
    Ok(sorted)
}

fn check_size(what: &str, bytes: usize, max_bytes: usize) -> Result<(), Refusal> {
    if bytes <= max_bytes {
        return Ok(());
    }
    let detail = format!("{what}: {bytes} of at most {max_bytes} bytes");
    Err(Refusal::new(Code::RequestTooLarge, detail))
}

/// Reads the part of one property, of at most `max_bytes` once its own coding is undone.
fn read_blob<'a>(
    part: &Part<'a>,
    name: &str,
    max_bytes: usize,
    decompressors: &mut Decompressors,
    limits: &DecodeLimits,
) -> Result<Blob<'a>, Refusal> {
    let property = name.strip_prefix(BLOB_PREFIX).unwrap_or_default();
    if property.is_empty() {
        return invalid("a part is named neither event, event.properties nor event.properties.…");
    }
    if property.contains('.') {
        return invalid("a part is named after a property of a property");
    }
    let Some(content_type) = part.header("content-type") else {
        return invalid("the part of a property has no content type");
    };
    let is = |name: &str| media_type(content_type).eq_ignore_ascii_case(name);
    let is_json = is("application/json");
    let is_bytes = is("application/octet-stream");
    if !is_json && !is_bytes && !is("text/plain") {
        return invalid(
            "the part of a property is no application/octet-stream, application/json or text/plain",
        );
    }
    if part.data.is_empty() {
        return invalid("the part of a property is empty");
    }
    let data = match part.header("content-encoding") {
        Some(name) => {
            let coding = part_coding(name)?;
            decompressors.undo_compression(part.data, coding, max_bytes)?
        }
        None => Cow::Borrowed(part.data),
    };
    let value = if is_bytes {
        BlobValue::Bytes(data)
    } else {
        blob_text(data, is_json, limits)
    };
    Ok(Blob {
        name: property.to_owned(),
        value,
    })
}

/// The coding that a part's `Content-Encoding` names.
fn part_coding(name: &str) -> Result<Coding, Refusal> {
    let names = [
        ("gzip", Coding::Gzip),
        ("deflate", Coding::Deflate),
        ("br", Coding::Brotli),
        ("zstd", Coding::Zstd),
        ("identity", Coding::Identity),
    ];
    let found = names
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known));
    let refusal = || Refusal::new(Code::UnsupportedCoding, "of the part of a property");
    found.map(|(_, coding)| *coding).ok_or_else(refusal)
}

/// What a blob that says that it is text is written as.
fn blob_text<'a>(data: Cow<'a, [u8]>, is_json: bool, limits: &DecodeLimits) -> BlobValue<'a> {
    let text = match data {
        Cow::Borrowed(bytes) => simdutf8::basic::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| Cow::Borrowed(bytes)),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|error| Cow::Owned(error.into_bytes())),
    };
    match text {
        Ok(text) if is_json && is_json_within(&text, limits) => BlobValue::Json(text),
        // Control characters take six bytes: past twice the text, base64 takes less.
        Ok(text) if string_len(&text) <= 2 * text.len() + 2 => BlobValue::Text(text),
        Ok(Cow::Borrowed(text)) => BlobValue::Bytes(Cow::Borrowed(text.as_bytes())),
        Ok(Cow::Owned(text)) => BlobValue::Bytes(Cow::Owned(text.into_bytes())),
        Err(bytes) => BlobValue::Bytes(bytes),
    }
}

/// Whether a text is JSON that an event has room for. Deeper, it would cost the event.
fn is_json_within(text: &str, limits: &DecodeLimits) -> bool {
    let mut scanner = Scanner::new(text.as_bytes(), 0, limits.max_json_depth);
    let whole = scanner
        .value(OUTER_DEPTH)
        .is_ok_and(|_| scanner.end().is_ok());
    whole && !scanner.too_deep
}

fn read_json<'a>(bytes: &'a [u8], repaired: &mut bool) -> Result<JsonPart<'a>, Refusal> {
    let text = lossy(bytes, repaired);
    let start = byte_order_mark(text.as_bytes());
    let mut scanner = Scanner::new(text.as_bytes(), start, u32::MAX);
    let value = scanner.value(0)?;
    scanner.end()?;
    Ok(JsonPart { text, value })
}

/// Writes the event as the one element of an array, in which its own members mean nothing more than
/// in any other event.
fn write_event(
    event: &JsonPart<'_>,
    properties: Option<&JsonPart<'_>>,
    blobs: &[Blob<'_>],
    document: &mut Document,
) -> Result<(), Refusal> {
    let text = &*event.text;
    let out = &mut document.text;
    let blob_bytes = blobs
        .iter()
        .map(|blob| string_len(&blob.name) + blob.value.written_len() + 2);
    let json_bytes = text.len() + properties.map_or(0, |part| part.text.len());
    out.reserve_exact(json_bytes + blob_bytes.sum::<usize>() + 32);
    let [mut name, mut own, mut sent_at] = [Value::ABSENT; 3];
    out.push_str("[{");
    for (key, value) in Members::new(text.as_bytes(), event.value) {
        match &*Members::key_text(text, key) {
            "properties" => own = value,
            "sent_at" => sent_at = value,
            // The one that the request came with counts.
            "token" | "$token" | "api_key" => {}
            known => {
                if known == EVENT {
                    name = value;
                }
                copy_member(text, key, value, out);
            }
        }
    }
    let (text, value) = match properties {
        Some(_) if !own.is_null(text.as_bytes()) => {
            return invalid("properties are in the part event and in a part of their own");
        }
        Some(part) => (&*part.text, part.value),
        None => (text, own),
    };
    push_key(out, "properties");
    let has_model = write_properties(text, value, blobs, out);
    out.push_str("}]");
    if name.is_string(event.text.as_bytes())
        && !Members::key_text(&event.text, name).starts_with("$ai_")
    {
        document.faults.push((0, Code::NotAnAiEvent));
    } else if !has_model {
        document.faults.push((0, Code::MissingAiModel));
    }
    document.sent_at_us = read_time(&event.text, sent_at);
    Ok(())
}

/// Writes the properties with the blobs among them; tells whether they name a model.
fn write_properties(text: &str, value: Value, blobs: &[Blob<'_>], out: &mut String) -> bool {
    if !value.is_null(text.as_bytes()) && !value.is_object(text.as_bytes()) {
        out.push_str(slice(text, value.start(), value.end()));
        return false;
    }
    let mut has_model = false;
    out.push('{');
    if value.is_object(text.as_bytes()) {
        for (key, value) in Members::new(text.as_bytes(), value) {
            let name = Members::key_text(text, key);
            if blobs.iter().any(|blob| blob.name == name) {
                continue;
            }
            if name == AI_MODEL {
                // More than its quotes.
                has_model = value.is_string(text.as_bytes()) && value.len() > 2;
            }
            copy_member(text, key, value, out);
        }
    }
    for blob in blobs {
        has_model |= blob.name == AI_MODEL && matches!(blob.value, BlobValue::Text(_));
        push_key(out, &blob.name);
        blob.value.write(out);
    }
    out.push('}');
    has_model
}

fn copy_member(text: &str, key: Value, value: Value, out: &mut String) {
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push_str(slice(text, key.start(), key.end()));
    out.push(':');
    out.push_str(slice(text, value.start(), value.end()));
}

/// The answer to a form whose event is stored.
fn accepted_parts(parts: &[Part<'_>]) -> String {
    let mut out = String::from(r#"{"accepted_parts":["#);
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push('{');
        push_key(&mut out, "name");
        push_string(&mut out, &part.name().unwrap_or_default());
        push_key(&mut out, "length");
        out.push_str(&part.data.len().to_string());
        for name in ["content-type", "content-encoding"] {
            push_key(&mut out, name);
            match part.header(name) {
                Some(value) => push_string(&mut out, value),
                None => out.push_str("null"),
            }
        }
        out.push('}');
    }
    out.push_str("]}");
    out
}
