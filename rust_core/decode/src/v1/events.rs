//! Decides the events of capture v1, and puts what they say outside of their properties into them.

use penstock_model::{
    Batch, ClientIp, Code, Event, Outcome, Refusal, RequestContext, Text, Uuid, Warning, Warnings,
};

use super::head::sdk_of;
use super::injected::{inject, push_key};
use super::options;
use crate::distinct_id::{self, Id};
use crate::envelope::Envelope;
use crate::event::{Inner, RawEvent, Root};
use crate::json::{Replaced, Value, slice};
use crate::json_text::push_string;
use crate::properties::{self, Rewrite};
use crate::token::Resolved;
use crate::verdict::{INTERNAL_ADDRESS, Judge, add_replaced, text_of};

/// Longest name of an event in bytes.
const MAX_EVENT_NAME_BYTES: usize = 200;

/// Longest `distinct_id` in bytes. It is refused, not cut: cut ones would make one person of many.
const MAX_DISTINCT_ID_BYTES: usize = 200;

/// What no one stores any more.
const PERFORMANCE_EVENT: &str = "$performance_event";

/// Ids that broken clients send, in lower case: whoever they stand for is no person.
const NOBODY: [&str; 20] = [
    "0",
    "00000000-0000-0000-0000-000000000000",
    "[object object]",
    "anonymous",
    "anonymous-user",
    "backend",
    "distinct_id",
    "distinctid",
    "email",
    "false",
    "guest",
    "id",
    "nan",
    "none",
    "not_authenticated",
    "null",
    "system",
    "true",
    "undefined",
    "user",
];

/// Decides the events of a request. The batch's own text is left for the caller to put in.
pub(crate) fn decode_events(
    text: &str,
    repaired: bool,
    context: &RequestContext,
    envelope: &Envelope,
    raw_events: &[RawEvent],
) -> Result<Batch, Refusal> {
    let uuids = super::check_batch(text, envelope, raw_events)?;
    let token = context.token.clone().unwrap_or_default();
    let resolved = Resolved {
        token: crate::check_token(&token)?.to_owned(),
        by_event: false,
    };
    let mut judge = Judge::new(text, context, &resolved, context.sent_at_us, repaired);
    let token = judge.write(&resolved.token);
    let request = OfRequest::read(&mut judge, envelope);
    let injected = raw_events.len() * (request.members.len() + INJECTED_BYTES);
    if text.len() * MAX_SIDE_RATIO + injected > MAX_SIDE_BYTES {
        let detail = "more than there is room for beside what each of them gets";
        return Err(Refusal::new(Code::TooManyEvents, detail));
    }
    let own: usize = raw_events
        .iter()
        .map(|raw| raw[Root::Properties].len())
        .sum();
    judge.side.reserve(own + injected);
    let mut members = String::new();
    let mut events = Vec::with_capacity(raw_events.len());
    for (raw, uuid) in raw_events.iter().zip(uuids) {
        events.push(judge_event(&mut judge, &request, raw, uuid, &mut members));
    }
    Ok(judge.into_batch(token, events, envelope))
}

/// What the injected members of an event take, besides those of the request and what they copy of
/// the body: names, `false`, quotes.
const INJECTED_BYTES: usize = 160;

/// What is rewritten of a body is at most so many times as long (`request::MAX_TEXT_BYTES`).
const MAX_SIDE_RATIO: usize = 3;

/// Places in the side buffer have 31 bits. Only with limits far above the default ones does what
/// the protocol puts into each event come near.
const MAX_SIDE_BYTES: usize = (1 << 31) - (1 << 20);

/// What all events of a request get.
#[derive(Debug)]
struct OfRequest {
    lib: Option<(Text, Text)>,
    /// `$lib` and `$lib_version` as members.
    members: String,
    /// In place of the client's.
    address: Option<Text>,
}

impl OfRequest {
    fn read(judge: &mut Judge<'_>, envelope: &Envelope) -> Self {
        let internal = envelope.capture_internal.kind(judge.text.as_bytes()) == b't';
        let mut members = String::new();
        let sdk = judge.context.sdk_info.as_deref().and_then(sdk_of);
        if let Some((name, version)) = sdk {
            for (key, value) in [("$lib", name), ("$lib_version", version)] {
                push_key(&mut members, key);
                push_string(&mut members, value);
            }
        }
        Self {
            lib: sdk.map(|(name, version)| (judge.write(name), judge.write(version))),
            members,
            address: internal.then(|| judge.write(INTERNAL_ADDRESS)),
        }
    }
}

fn judge_event(
    judge: &mut Judge<'_>,
    request: &OfRequest,
    raw: &RawEvent,
    uuid: Uuid,
    members: &mut String,
) -> Event {
    let text = judge.text;
    let bytes = text.as_bytes();
    let mut warnings = Warnings::default();
    if judge.repaired {
        warnings.add(Warning::InvalidUtf8);
    }
    let mut fault = None;
    // The first fault found is the one reported.
    let mut note = |found: Option<Code>| fault = fault.or(found);

    let too_large = raw.whole.len() > judge.context.limits.max_event_bytes as usize;
    note(too_large.then_some(Code::EventTooLarge));
    note(raw.too_deep.then_some(Code::EventTooDeep));
    let (event, event_fault) = event_name(judge, raw[Root::Event], &mut warnings);
    note(event_fault);
    let (distinct_id, id_fault) = distinct_id(judge, raw[Root::DistinctId], &mut warnings);
    note(id_fault);
    let options = options::read(text, raw[Root::Options]);
    let ignore_sent_at = options
        .disable_skew_correction
        .unwrap_or(raw[Inner::IgnoreSentAt].kind(bytes) == b't');
    let (timestamp_us, client_timestamp) =
        judge.timestamp(raw[Root::Timestamp], None, ignore_sent_at, &mut warnings);
    let unreadable_time =
        client_timestamp.is_none() || warnings.contains(Warning::InvalidTimestamp);
    note(unreadable_time.then_some(Code::InvalidEventTimestamp));
    let own = raw[Root::Properties];
    let bad_properties = !own.is_null(bytes) && !own.is_object(bytes);
    note(bad_properties.then_some(Code::InvalidProperties));
    note(options.unreadable.then_some(Code::InvalidOptions));

    let nobody = warnings.contains(Warning::PersonProcessingDisabled);
    let (elements_chain, without_elements) =
        judge.elements_chain(raw, fault.is_none(), &mut warnings);
    // The table of the refused has no properties.
    let properties = if fault.is_none() {
        let replaced = inject(text, raw, options, &request.members, members);
        let rewrite = Rewrite {
            without_elements,
            injected: members,
            replaced: &replaced,
        };
        let properties = properties::write(text, raw, rewrite, &mut judge.side);
        if properties.lone_surrogate_replaced {
            warnings.add(Warning::LoneSurrogate);
        }
        properties.text
    } else {
        Text::EMPTY
    };
    let personless = match options.process_person_profile {
        Some(processed) => !processed,
        None => judge.is_propertyless(raw, &mut warnings),
    };
    let (lib, lib_version) = if let Some((lib, version)) = request.lib {
        (Some(lib), Some(version))
    } else {
        (
            judge.optional(raw[Inner::Lib], false, &mut warnings),
            judge.optional(raw[Inner::LibVersion], false, &mut warnings),
        )
    };
    let mode = options.cookieless_mode;
    let cookieless = options.cookieless_mode_unreadable
        || mode.unwrap_or(raw[Inner::CookielessMode].kind(bytes) == b't');
    let ip = judge.ip(raw[Inner::Ip], cookieless, &mut warnings);
    let ip = match (ip, request.address) {
        (ClientIp::Unsaid, Some(address)) => ClientIp::Given(address),
        (ip, _) => ip,
    };
    let outside = |root: Root, inner: Inner| {
        let value = raw[root];
        if value.is_string(bytes) {
            value
        } else {
            raw[inner]
        }
    };
    let session_id = outside(Root::SessionId, Inner::SessionId);
    let window_id = outside(Root::WindowId, Inner::WindowId);
    Event {
        outcome: fault.map_or(Outcome::Accepted, Outcome::Rejected),
        uuid,
        uuid_given: true,
        event,
        distinct_id,
        timestamp_us,
        client_timestamp,
        properties,
        session_id: judge.optional(session_id, true, &mut warnings),
        window_id: judge.optional(window_id, true, &mut warnings),
        lib,
        lib_version,
        elements_chain,
        ip,
        propertyless: personless || nobody,
        cookieless,
        snapshot_source: None,
        warnings,
        raw: Text::in_body(raw.whole.start(), raw.whole.end()),
    }
}

fn event_name(
    judge: &mut Judge<'_>,
    value: Value,
    warnings: &mut Warnings,
) -> (Text, Option<Code>) {
    if value.is_null(judge.text.as_bytes()) {
        return (Text::EMPTY, Some(Code::MissingEventName));
    }
    let fault = match text_of(judge.text, value).as_deref() {
        None => Some(Code::InvalidEventName),
        Some("") => Some(Code::EmptyEventName),
        Some(PERFORMANCE_EVENT) => Some(Code::DroppedPerformanceEvent),
        Some(name) if name.len() > MAX_EVENT_NAME_BYTES => Some(Code::EventNameTooLong),
        Some(_) => None,
    };
    let name = judge.optional(value, false, warnings);
    (name.unwrap_or(Text::EMPTY), fault)
}

/// The id of the person, and what is wrong with it.
fn distinct_id(
    judge: &mut Judge<'_>,
    value: Value,
    warnings: &mut Warnings,
) -> (Text, Option<Code>) {
    let missing = (Text::EMPTY, Some(Code::MissingDistinctId));
    if value.is_null(judge.text.as_bytes()) {
        return missing;
    }
    let mut replaced = Replaced::default();
    let Some(id) = distinct_id::read_trimmed(judge.text, value, &mut replaced) else {
        return missing;
    };
    add_replaced(warnings, replaced);
    let (place, nobody) = match id {
        Id::Slice(start, end) => {
            let nobody = is_nobody(slice(judge.text, start, end));
            (Text::in_body(start, end), nobody)
        }
        Id::Owned(text) => (judge.write(&text), is_nobody(&text)),
    };
    if nobody {
        warnings.add(Warning::PersonProcessingDisabled);
    }
    let too_large = place.len() > MAX_DISTINCT_ID_BYTES;
    (place, too_large.then_some(Code::DistinctIdTooLarge))
}

fn is_nobody(id: &str) -> bool {
    // The longest has 36 characters.
    id.len() <= Uuid::TEXT_BYTES && NOBODY.iter().any(|nobody| nobody.eq_ignore_ascii_case(id))
}
