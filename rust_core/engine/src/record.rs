//! What the log keeps of a request besides its payload, so that a replay decides nothing anew.
//!
//! Layout, little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of this layout: 1; 2 for a request of capture v1; 3 where the body has a form of its own; 4 where events of cookieless mode were rewritten |
//! | 2 | decoder version |
//! | 1 | endpoint number |
//! | 1 | content coding as hinted |
//! | 1 | flags: 1 address v4, 2 address v6, 4 `sent_at`, 8 token from outside the body, 16 what the client says of itself, 32 form of the body, 64 (and always so in layout 4) rewritten |
//! | 8 | time of receipt, µs since the Unix epoch, signed |
//! | 16 | seed of made ids |
//! | 4 × 4 | limits: decompressed bytes, event bytes, events, depth |
//! | 4 or 16 | client address, if flagged |
//! | 8 | `sent_at` from outside the body, µs, signed, if flagged |
//! | 2 + n | token from outside the body, if flagged |
//! | 2 + n | what the client says of itself (`PostHog-Sdk-Info`; of session replay, its library), if flagged |
//! | 1 | form of the body, if flagged: 1 parts of an AI event, 2 OTLP as protobuf, 3 OTLP as JSON |
//! | 2 + n | what parts them, if the form is 1 |
//! | 2 + n | project that the token was resolved to |
//! | 4 | number of events |
//! | 4 | number of exceptions: events that were not accepted |
//! | 5 each | index; 0 for a duplicate, else 1 + the number of the code |
//!
//! A reader refuses versions that it does not know. Versions 2 to 4 differ by their numbers alone,
//! which tell a release without capture v1, one that knows no other form than events, or one that
//! would store the address of the request with an event of cookieless mode, that the record is whole
//! and not its own to read; all others keep version 1.
//!
//! Where events of cookieless mode were rewritten, the payload is not as received but as it may be
//! kept: what was made of a visitor stands in its text, in the place of what it was made of. So the
//! ids that were given need no place here, and whoever reads the text reads what was decided.

use std::net::IpAddr;

use penstock_model::{
    Batch, BodyForm, Code, Coding, DecodeLimits, Endpoint, Outcome, RequestContext,
};

use crate::ledger::Counts;

const LAYOUT_VERSION: u8 = 1;
const LAYOUT_VERSION_OF_V1: u8 = 2;
const LAYOUT_VERSION_WITH_FORM: u8 = 3;
const LAYOUT_VERSION_OF_COOKIELESS: u8 = 4;

/// The newest layout that this release writes. A file of the log may hold any up to it.
pub(crate) const NEWEST_LAYOUT_VERSION: u8 = LAYOUT_VERSION_OF_COOKIELESS;

const FLAG_V4: u8 = 1;
const FLAG_V6: u8 = 2;
const FLAG_SENT_AT: u8 = 4;
const FLAG_TOKEN: u8 = 8;
const FLAG_SDK_INFO: u8 = 16;
const FLAG_FORM: u8 = 32;
const FLAG_COOKIELESS: u8 = 64;

const FORM_AI_PARTS: u8 = 1;
const FORM_OTLP_PROTOBUF: u8 = 2;
const FORM_OTLP_JSON: u8 = 3;

/// The layout that the record of a request has.
fn layout_of(request: &RequestContext) -> u8 {
    if request.cookieless {
        LAYOUT_VERSION_OF_COOKIELESS
    } else if request.form != BodyForm::Events {
        LAYOUT_VERSION_WITH_FORM
    } else if request.endpoint.is_v1() {
        LAYOUT_VERSION_OF_V1
    } else {
        LAYOUT_VERSION
    }
}

/// The context of one record, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredContext {
    pub(crate) request: RequestContext,
    pub(crate) project: String,
    pub(crate) event_count: u32,
    /// Events that were not accepted, by index, ascending.
    pub(crate) exceptions: Vec<(u32, Outcome)>,
}

impl StoredContext {
    /// Events by outcome.
    pub(crate) fn counts(&self) -> Counts {
        let duplicates = self
            .exceptions
            .iter()
            .filter(|(_, outcome)| *outcome == Outcome::Duplicate)
            .count() as u64;
        let exceptions = self.exceptions.len() as u64;
        Counts {
            accepted: u64::from(self.event_count).saturating_sub(exceptions),
            duplicates,
            rejected: exceptions - duplicates,
        }
    }
}

/// A record's context can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContextError {
    #[error("record context has layout {0}, which this release does not know")]
    UnknownLayout(u8),
    #[error("record context was decoded by rules of version {0}, which this release does not know")]
    UnknownDecoder(u16),
    #[error("record context is damaged")]
    Damaged,
}

impl ContextError {
    /// Whether another release wrote the record: then it is not damaged, and must not be set aside.
    pub(crate) const fn is_other_release(&self) -> bool {
        matches!(self, Self::UnknownLayout(_) | Self::UnknownDecoder(_))
    }
}

/// Writes the context of a decided batch to `out`.
pub(crate) fn encode(request: &RequestContext, project: &str, batch: &Batch, out: &mut Vec<u8>) {
    out.push(layout_of(request));
    out.extend_from_slice(&request.decoder_version.to_le_bytes());
    out.push(request.endpoint as u8);
    out.push(request.coding as u8);
    let mut flags = match request.client_address {
        Some(IpAddr::V4(_)) => FLAG_V4,
        Some(IpAddr::V6(_)) => FLAG_V6,
        None => 0,
    };
    if request.sent_at_us.is_some() {
        flags |= FLAG_SENT_AT;
    }
    if request.token.is_some() {
        flags |= FLAG_TOKEN;
    }
    if request.sdk_info.is_some() {
        flags |= FLAG_SDK_INFO;
    }
    if request.form != BodyForm::Events {
        flags |= FLAG_FORM;
    }
    if request.cookieless {
        flags |= FLAG_COOKIELESS;
    }
    out.push(flags);
    out.extend_from_slice(&request.received_at_us.to_le_bytes());
    out.extend_from_slice(&request.uuid_seed);
    let limits = &request.limits;
    for limit in [
        limits.max_decompressed_bytes,
        limits.max_event_bytes,
        limits.max_events_per_request,
        limits.max_json_depth,
    ] {
        out.extend_from_slice(&limit.to_le_bytes());
    }
    match request.client_address {
        Some(IpAddr::V4(address)) => out.extend_from_slice(&address.octets()),
        Some(IpAddr::V6(address)) => out.extend_from_slice(&address.octets()),
        None => {}
    }
    if let Some(sent_at_us) = request.sent_at_us {
        out.extend_from_slice(&sent_at_us.to_le_bytes());
    }
    for text in [&request.token, &request.sdk_info].into_iter().flatten() {
        push_text(text, out);
    }
    encode_form(&request.form, out);
    push_text(project, out);
    out.extend_from_slice(&count(batch.events.len()).to_le_bytes());
    let exceptions = batch
        .events
        .iter()
        .filter(|event| event.outcome != Outcome::Accepted)
        .count();
    out.extend_from_slice(&count(exceptions).to_le_bytes());
    if exceptions == 0 {
        return;
    }
    for (index, event) in batch.events.iter().enumerate() {
        let number = match event.outcome {
            Outcome::Accepted => continue,
            Outcome::Duplicate => 0,
            Outcome::Rejected(code) => code.number() + 1,
        };
        out.extend_from_slice(&count(index).to_le_bytes());
        out.push(number);
    }
}

fn encode_form(form: &BodyForm, out: &mut Vec<u8>) {
    match form {
        BodyForm::Events => {}
        BodyForm::AiParts { boundary } => {
            out.push(FORM_AI_PARTS);
            push_text(boundary, out);
        }
        BodyForm::OtlpProtobuf => out.push(FORM_OTLP_PROTOBUF),
        BodyForm::OtlpJson => out.push(FORM_OTLP_JSON),
    }
}

/// Tokens are at most 64 bytes, boundaries and what clients say of themselves 200 (decode), project
/// names 200 (settings).
#[expect(clippy::expect_used, reason = "checked where such texts enter")]
fn push_text(text: &str, out: &mut Vec<u8>) {
    let len = u16::try_from(text.len()).expect("texts of a context are short");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[expect(clippy::expect_used, reason = "max_events_per_request is a u32")]
fn count(value: usize) -> u32 {
    u32::try_from(value).expect("events of a request are counted by a u32")
}

/// Reads a context back. Errors leave the record to quarantine.
pub(crate) fn decode(bytes: &[u8]) -> Result<StoredContext, ContextError> {
    let mut reader = Reader { bytes };
    let layout = reader.u8()?;
    if !matches!(
        layout,
        LAYOUT_VERSION
            | LAYOUT_VERSION_OF_V1
            | LAYOUT_VERSION_WITH_FORM
            | LAYOUT_VERSION_OF_COOKIELESS
    ) {
        return Err(ContextError::UnknownLayout(layout));
    }
    let decoder_version = u16::from_le_bytes(reader.array()?);
    // Rules change with the version, and this release has only its own.
    if decoder_version != penstock_decode::DECODER_VERSION {
        return Err(ContextError::UnknownDecoder(decoder_version));
    }
    let endpoint = Endpoint::from_number(reader.u8()?).ok_or(ContextError::Damaged)?;
    let coding = Coding::from_number(reader.u8()?).ok_or(ContextError::Damaged)?;
    let flags = reader.u8()?;
    let cookieless = flags & FLAG_COOKIELESS != 0;
    if cookieless != (layout == LAYOUT_VERSION_OF_COOKIELESS) {
        return Err(ContextError::Damaged);
    }
    let received_at_us = i64::from_le_bytes(reader.array()?);
    let uuid_seed = reader.array()?;
    let limits = DecodeLimits {
        max_decompressed_bytes: u32::from_le_bytes(reader.array()?),
        max_event_bytes: u32::from_le_bytes(reader.array()?),
        max_events_per_request: u32::from_le_bytes(reader.array()?),
        max_json_depth: u32::from_le_bytes(reader.array()?),
    };
    let client_address = if flags & FLAG_V4 != 0 {
        Some(IpAddr::from(reader.array::<4>()?))
    } else if flags & FLAG_V6 != 0 {
        Some(IpAddr::from(reader.array::<16>()?))
    } else {
        None
    };
    let sent_at_us = if flags & FLAG_SENT_AT != 0 {
        Some(i64::from_le_bytes(reader.array()?))
    } else {
        None
    };
    let token = reader.text_if(flags & FLAG_TOKEN != 0)?;
    let sdk_info = reader.text_if(flags & FLAG_SDK_INFO != 0)?;
    let form = if flags & FLAG_FORM != 0 {
        reader.form()?
    } else {
        BodyForm::Events
    };
    let project = reader.text()?;
    let event_count = u32::from_le_bytes(reader.array()?);
    let exception_count = u32::from_le_bytes(reader.array()?);
    if exception_count > event_count || reader.bytes.len() != 5 * exception_count as usize {
        return Err(ContextError::Damaged);
    }
    let mut exceptions = Vec::with_capacity(exception_count as usize);
    for _ in 0..exception_count {
        let index = u32::from_le_bytes(reader.array()?);
        let outcome = match reader.u8()? {
            0 => Outcome::Duplicate,
            number => {
                Outcome::Rejected(Code::from_number(number - 1).ok_or(ContextError::Damaged)?)
            }
        };
        exceptions.push((index, outcome));
    }
    Ok(StoredContext {
        request: RequestContext {
            decoder_version,
            limits,
            endpoint,
            coding,
            form,
            received_at_us,
            client_address,
            sent_at_us,
            token,
            sdk_info,
            cookieless,
            uuid_seed,
        },
        project,
        event_count,
        exceptions,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ContextError> {
        let (head, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or(ContextError::Damaged)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, ContextError> {
        Ok(self.array::<1>()?[0])
    }

    fn form(&mut self) -> Result<BodyForm, ContextError> {
        match self.u8()? {
            FORM_AI_PARTS => {
                let boundary = self.text()?;
                Ok(BodyForm::AiParts { boundary })
            }
            FORM_OTLP_PROTOBUF => Ok(BodyForm::OtlpProtobuf),
            FORM_OTLP_JSON => Ok(BodyForm::OtlpJson),
            _ => Err(ContextError::Damaged),
        }
    }

    fn text_if(&mut self, flagged: bool) -> Result<Option<String>, ContextError> {
        flagged.then(|| self.text()).transpose()
    }

    fn text(&mut self) -> Result<String, ContextError> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        let (head, rest) = self
            .bytes
            .split_at_checked(len)
            .ok_or(ContextError::Damaged)?;
        self.bytes = rest;
        String::from_utf8(head.to_vec()).map_err(|_| ContextError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::{BatchText, ClientIp, Event, Payload, Text, Uuid, Warnings};

    use super::*;

    fn event(outcome: Outcome) -> Event {
        Event {
            outcome,
            uuid: Uuid([1; 16]),
            uuid_given: true,
            event: Text::EMPTY,
            distinct_id: Text::EMPTY,
            timestamp_us: 0,
            client_timestamp: None,
            properties: Text::EMPTY,
            session_id: None,
            window_id: None,
            snapshot_source: None,
            lib: None,
            lib_version: None,
            elements_chain: None,
            ip: ClientIp::Unsaid,
            propertyless: false,
            cookieless: false,
            warnings: Warnings::default(),
            raw: Text::EMPTY,
        }
    }

    fn sample() -> (RequestContext, Batch) {
        let request = RequestContext {
            decoder_version: 1,
            limits: DecodeLimits::DEFAULT,
            endpoint: Endpoint::Track,
            coding: Coding::Gzip,
            form: BodyForm::Events,
            received_at_us: -5,
            client_address: Some("2001:db8::1".parse().unwrap()),
            sent_at_us: Some(77),
            token: Some("phc_a".to_owned()),
            sdk_info: None,
            cookieless: false,
            uuid_seed: [9; 16],
        };
        let batch = Batch {
            text: BatchText::Received(Payload::new(Vec::new())),
            side: String::new(),
            events: vec![
                event(Outcome::Accepted),
                event(Outcome::Duplicate),
                event(Outcome::Rejected(Code::EventTooDeep)),
            ],
            token: Text::EMPTY,
            historical: false,
            sent_at_us: None,
        };
        (request, batch)
    }

    #[test]
    fn a_context_reads_back_what_was_written() {
        let (request, batch) = sample();
        let mut bytes = Vec::new();
        encode(&request, "shop", &batch, &mut bytes);
        let stored = decode(&bytes).unwrap();
        assert_eq!(stored.request, request);
        assert_eq!(stored.project, "shop");
        assert_eq!(stored.event_count, 3);
        assert_eq!(
            stored.exceptions,
            vec![
                (1, Outcome::Duplicate),
                (2, Outcome::Rejected(Code::EventTooDeep))
            ]
        );
    }

    fn of_v1() -> RequestContext {
        RequestContext {
            endpoint: Endpoint::V1Analytics,
            sdk_info: Some("posthog-go/1.23.1".to_owned()),
            ..sample().0
        }
    }

    /// A release without capture v1 must say that the record is another's, not set it aside.
    #[test]
    fn a_context_of_capture_v1_reads_back_and_has_a_layout_of_its_own() {
        let mut bytes = Vec::new();
        encode(&of_v1(), "shop", &sample().1, &mut bytes);
        assert_eq!(decode(&bytes).unwrap().request, of_v1());
        assert_eq!(bytes[0], 2);

        bytes[0] = NEWEST_LAYOUT_VERSION + 1;
        let refused = decode(&bytes).unwrap_err();
        assert_eq!(refused, ContextError::UnknownLayout(5));
        assert!(refused.is_other_release());
    }

    /// Byte for byte what releases before capture v1 wrote.
    #[test]
    fn a_context_of_the_first_layout_is_read_and_written_as_ever() {
        let mut written = vec![1, 1, 0, 1, 2, 13];
        written.extend(1_767_225_600_000_000_i64.to_le_bytes());
        written.extend([9; 16]);
        for limit in [1_u32, 2, 3, 4] {
            written.extend(limit.to_le_bytes());
        }
        written.extend([203, 0, 113, 9]);
        written.extend((-77_i64).to_le_bytes());
        written.extend([5, 0]);
        written.extend(b"phc_a");
        written.extend([4, 0]);
        written.extend(b"shop");
        written.extend(3_u32.to_le_bytes());
        written.extend(2_u32.to_le_bytes());
        written.extend([1, 0, 0, 0, 0, 2, 0, 0, 0, 1 + Code::EventTooDeep.number()]);

        let stored = decode(&written).unwrap();
        assert_eq!(stored.request.client_address, Some([203, 0, 113, 9].into()));
        assert_eq!(stored.request.sdk_info, None);
        assert_eq!((stored.project.as_str(), stored.event_count), ("shop", 3));
        let mut again = Vec::new();
        encode(&stored.request, "shop", &sample().1, &mut again);
        assert_eq!(again, written);
    }

    #[test]
    fn a_context_cut_anywhere_is_refused() {
        let with_form = RequestContext {
            form: with_boundary(),
            ..sample().0
        };
        for request in [sample().0, of_v1(), with_form, of_cookieless()] {
            let mut bytes = Vec::new();
            encode(&request, "shop", &sample().1, &mut bytes);
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len]).is_err(), "cut at {len}");
            }
        }
    }

    fn with_boundary() -> BodyForm {
        BodyForm::AiParts {
            boundary: "----x".to_owned(),
        }
    }

    fn of_cookieless() -> RequestContext {
        RequestContext {
            cookieless: true,
            client_address: None,
            ..of_v1()
        }
    }

    /// A release without cookieless mode would store the address of the request with the event.
    #[test]
    fn a_context_of_cookieless_mode_reads_back_and_has_a_layout_of_its_own() {
        let mut bytes = Vec::new();
        encode(&of_cookieless(), "shop", &sample().1, &mut bytes);
        assert_eq!(decode(&bytes).unwrap().request, of_cookieless());
        assert_eq!(bytes[0], 4);
        for other in 1..4 {
            bytes[0] = other;
            assert_eq!(decode(&bytes).unwrap_err(), ContextError::Damaged);
        }
    }

    /// A release that knows no form but events must say that the record is another's, not set it
    /// aside as damaged.
    #[test]
    fn a_body_of_another_form_reads_back_and_has_a_layout_of_its_own() {
        let (mut request, batch) = sample();
        for form in [
            with_boundary(),
            BodyForm::OtlpProtobuf,
            BodyForm::OtlpJson,
            BodyForm::Events,
        ] {
            request.form = form;
            let mut bytes = Vec::new();
            encode(&request, "shop", &batch, &mut bytes);
            assert_eq!(decode(&bytes).unwrap().request, request);
            let layout = if request.form == BodyForm::Events {
                1
            } else {
                3
            };
            assert_eq!(bytes[0], layout, "{:?}", request.form);
        }
    }

    #[test]
    fn a_context_of_another_decoder_is_refused() {
        let (mut request, batch) = sample();
        for version in [
            penstock_decode::DECODER_VERSION - 1,
            penstock_decode::DECODER_VERSION + 1,
        ] {
            request.decoder_version = version;
            let mut bytes = Vec::new();
            encode(&request, "shop", &batch, &mut bytes);
            assert!(matches!(
                decode(&bytes),
                Err(ContextError::UnknownDecoder(_))
            ));
        }
    }
}
