//! What is run for each input of the decoders: one function a target.
//!
//! Each gives the input to the public calls of the crate, as a request would bring it, and checks
//! what holds for every input: the same answer twice, whatever the workspace was used for before;
//! texts that lie where they say; events that a table can hold; JSON as `serde_json` sees it.
//!
//! `rust_core/decode/tests/fuzz_corpora.rs` includes this file, and runs it on the committed corpora.

use penstock_decode::{
    DECODER_VERSION, Workspace, coding_name, decode_cookieless, decode_with_answer,
    expected_decoded_bytes, has_cookieless, protobuf, v1,
};
use penstock_model::{
    Batch, BodyForm, ClientIp, Code, Coding, DecodeLimits, Endpoint, Outcome, Payload, Refusal,
    RequestContext, Text, Visit, VisitorIds,
};
use serde_json::value::RawValue;

/// A target: what runs one input, and panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 17] = [
    ("ai_parts", ai_parts),
    ("append_request", append_request),
    ("base64", base64),
    ("brotli", brotli),
    ("deflate", deflate),
    ("elements", elements),
    ("form", form),
    ("gzip", gzip),
    ("json", json),
    ("lz64", lz64),
    ("otlp_json", otlp_json),
    ("otlp_protobuf", otlp_protobuf),
    ("request", request),
    ("timestamp", timestamp),
    ("v1_body", v1_body),
    ("v1_head", v1_head),
    ("zstd", zstd),
];

/// Limits that an input of some kilobytes can reach, so that what lies behind them is tried, too.
const LIMITS: DecodeLimits = DecodeLimits {
    max_decompressed_bytes: 1 << 20,
    max_event_bytes: 2 << 10,
    max_events_per_request: 64,
    max_json_depth: 16,
};

/// 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600_000_000;

/// The years 1 and 9999, in microseconds since 1970: what the table's column holds.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Code points of a `distinct_id` (`posthog-protocol.md` §3.4).
const MAX_DISTINCT_ID: usize = 200;

/// What parts the body of a form.
const BOUNDARY: &str = "b";

fn context(endpoint: Endpoint, coding: Coding, form: BodyForm) -> RequestContext {
    RequestContext {
        decoder_version: DECODER_VERSION,
        limits: LIMITS,
        endpoint,
        coding,
        form,
        received_at_us: NOW,
        client_address: None,
        sent_at_us: None,
        token: Some("phc_a".to_owned()),
        sdk_info: None,
        cookieless: false,
        uuid_seed: [7; 16],
    }
}

type Decoded = Result<(Batch, Option<String>), Refusal>;

/// Decodes a request, and checks all that holds for any.
fn check(body: &[u8], context: &RequestContext) -> Decoded {
    let payload = Payload::new(body.to_vec());
    let (coding, form) = (context.coding, &context.form);
    assert!(!coding_name(body, coding, form).is_empty());
    // What admission counts is bounded, whatever a body claims of itself.
    let expected = expected_decoded_bytes(body, coding, form, &context.limits);
    let max_bytes = context.limits.max_decompressed_bytes as usize;
    assert!(expected <= max_bytes.max(body.len()) * 4, "{expected}");

    let mut workspace = Workspace::default();
    let decoded = decode_with_answer(&payload, context, &mut workspace);
    let again = decode_with_answer(&payload, context, &mut workspace);
    match (&decoded, &again) {
        (Ok((batch, answer)), Ok((again, answer_again))) => {
            check_batch(batch, context);
            if has_cookieless(batch) {
                check_cookieless(&payload, context, batch.clone());
            }
            let events = (&batch.events, &again.events);
            assert_eq!(format!("{:?}", events.0), format!("{:?}", events.1));
            assert_eq!((&batch.side, answer), (&again.side, answer_again));
        }
        (Err(refusal), Err(again)) => assert_eq!(refusal.to_string(), again.to_string()),
        _ => panic!("one body, two answers: {decoded:?} and {again:?}"),
    }
    decoded
}

fn check_batch(batch: &Batch, context: &RequestContext) {
    let limits = &context.limits;
    // Panics if a text lies outside of its buffer, or begins or ends inside of a character.
    let view = batch.view();
    assert!(!view.get(batch.token).trim().is_empty());
    assert!(batch.events.len() <= limits.max_events_per_request as usize);
    for event in &batch.events {
        let ip = match event.ip {
            ClientIp::Given(ip) => Some(ip),
            ClientIp::Unsaid | ClientIp::Withheld => None,
        };
        let others = [
            event.client_timestamp,
            event.session_id,
            event.window_id,
            event.snapshot_source,
            event.lib,
            event.lib_version,
            event.elements_chain,
            ip,
        ];
        for text in others.into_iter().flatten() {
            view.get(text);
        }
        let name = view.get(event.event);
        let distinct_id = view.get(event.distinct_id);
        let properties = view.get(event.properties);
        let raw = view.get(event.raw);
        assert!(TIMES.contains(&event.timestamp_us), "{event:?}");
        if event.outcome == Outcome::Accepted {
            assert!(distinct_id.chars().count() <= MAX_DISTINCT_ID);
            assert!(!name.is_empty() && !distinct_id.trim().is_empty());
            assert!(!distinct_id.contains('\0'));
            assert!(is_object(raw), "{raw}");
            assert!(is_object(properties), "{properties}");
        }
    }
}

/// Gives visitors their ids. What is kept then is read again as it was decided, and neither names
/// their address nor takes that of the request for it.
fn check_cookieless(payload: &Payload, context: &RequestContext, batch: Batch) {
    let ids = VisitorIds {
        distinct_id: "cookieless_1".to_owned(),
        device_id: "cookielessd_1".to_owned(),
        session_id: "01890a5d-ac96-774b-bcce-000000000001".to_owned(),
    };
    let mut workspace = Workspace::default();
    let mut context = context.clone();
    context.client_address = Some([203, 0, 113, 9].into());
    let identify = &mut |_: &Visit<'_>| Ok(Ok(ids.clone()));
    let kept = decode_cookieless(payload, &mut context, batch, None, &mut workspace, identify);
    let (payload, batch, _) = kept.unwrap();
    check_batch(&batch, &context);
    let again = decode_with_answer(&payload, &context, &mut workspace);
    let (again, _) = again.unwrap();
    assert_eq!(again.events.len(), batch.events.len());
    for (event, again) in batch.events.iter().zip(&again.events) {
        if event.outcome == Outcome::Accepted {
            assert_eq!(again.outcome, Outcome::Accepted);
        }
        if event.cookieless {
            assert_eq!(event.ip, ClientIp::Withheld);
            assert!(!batch.view().get(event.raw).contains("\"$raw_user_agent\":"));
        }
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn is_object(text: &str) -> bool {
    text.starts_with('{') && is_json(text)
}

fn check_coding(coding: Coding, body: &[u8]) {
    drop(check(
        body,
        &context(Endpoint::Batch, coding, BodyForm::Events),
    ));
}

/// A body under `Content-Encoding: gzip`. The checksums of a member keep most mutations out; what
/// stands behind them is the business of [`json`].
pub fn gzip(input: &[u8]) {
    check_coding(Coding::Gzip, input);
}

/// A body under `Content-Encoding: deflate`: zlib's wrapping, or none.
pub fn deflate(input: &[u8]) {
    check_coding(Coding::Deflate, input);
}

/// A body under `Content-Encoding: br`.
pub fn brotli(input: &[u8]) {
    check_coding(Coding::Brotli, input);
}

/// A body under `Content-Encoding: zstd`.
pub fn zstd(input: &[u8]) {
    check_coding(Coding::Zstd, input);
}

/// A body that says `compression=lz64`.
pub fn lz64(input: &[u8]) {
    check_coding(Coding::Lz64, input);
}

/// A body that says `compression=base64`.
pub fn base64(input: &[u8]) {
    check_coding(Coding::Base64, input);
}

/// A body of a form, in which other codings may stand.
pub fn form(input: &[u8]) {
    check_coding(Coding::Unspecified, &[b"data=", input].concat());
}

/// A plain body, as far as its bytes let it be one: JSON if and only if `serde_json` says so.
pub fn json(input: &[u8]) {
    let context = context(Endpoint::Batch, Coding::Identity, BodyForm::Events);
    let decoded = check(input, &context);
    if coding_name(input, Coding::Identity, &BodyForm::Events) != "identity" {
        return;
    }
    let text = String::from_utf8_lossy(input);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match decoded.map_err(|refusal| refusal.code) {
        // Before all of it is read.
        Err(Code::MissingPayload | Code::TooManyEvents | Code::DecompressedTooLarge) => {}
        Err(Code::InvalidJson) => assert!(!is_json(text), "{text}"),
        _ => assert!(is_json(text), "{text}"),
    }
}

/// A whole request: the first two bytes choose the route, the coding and where the token stands.
pub fn request(input: &[u8]) {
    let [route, rest, body @ ..] = input else {
        return;
    };
    let endpoint = Endpoint::ALL[usize::from(*route) % Endpoint::ALL.len()];
    let coding = Coding::ALL[usize::from(rest & 7)];
    let form = match endpoint {
        Endpoint::Ai => BodyForm::AiParts {
            boundary: BOUNDARY.to_owned(),
        },
        Endpoint::AiOtel if rest & 8 == 0 => BodyForm::OtlpProtobuf,
        Endpoint::AiOtel => BodyForm::OtlpJson,
        _ => BodyForm::Events,
    };
    let mut context = context(endpoint, coding, form);
    if rest & 16 != 0 {
        context.token = None;
    }
    if rest & 32 != 0 {
        context.sdk_info = Some("posthog-web/1.2.3".to_owned());
    }
    if rest & 64 != 0 {
        context.sent_at_us = Some(NOW - 1_000_000);
    }
    drop(check(body, &context));
}

/// An `AppendRequest` of the gRPC API.
pub fn append_request(input: &[u8]) {
    if let Ok(message) = protobuf::decode_append_request(input) {
        // Panics outside of the message.
        let body = &input[message.body.clone()];
        let mut context = context(Endpoint::GrpcAppend, message.coding, BodyForm::Events);
        context.sent_at_us = message.sent_at_us;
        context.token = message.token;
        drop(check(body, &context));
    }
}

/// The headers of capture v1: a byte for the coding, then seven values between line breaks, of
/// which an empty one is absent.
pub fn v1_head(input: &[u8]) {
    let (coding, rest) = input.split_first().unwrap_or((&0, &[]));
    let mut values = rest.split(|byte| *byte == b'\n');
    let mut next = || values.next().filter(|value| !value.is_empty());
    let head = v1::RawHead {
        authorization: next(),
        sdk_info: next(),
        attempt: next(),
        request_id: next(),
        request_timestamp: next(),
        content_type: next(),
        user_agent: next(),
        coding: Coding::from_number(*coding),
    };
    if let Ok(read) = v1::read_head(&head) {
        assert!(penstock_decode::check_token(&read.token).is_ok());
        // The client's clock may say anything; the times of its events must bear that.
        let mut context = context(Endpoint::V1Analytics, read.coding, BodyForm::Events);
        context.sdk_info = read.sdk_info;
        context.sent_at_us = Some(read.sent_at_us);
        context.token = Some(read.token);
        let event = r#"{"event":"e","uuid":"01890a5d-ac96-774b-bcce-000000000001","distinct_id":"d",
            "timestamp":"2026-01-01T00:00:00Z","properties":{}}"#;
        let body = format!(r#"{{"created_at":"2026-01-01T00:00:00Z","batch":[{event}]}}"#);
        context.coding = Coding::Identity;
        let decoded = check(body.as_bytes(), &context);
        assert!(decoded.is_ok_and(|(batch, _)| batch.events[0].outcome == Outcome::Accepted));
    }
}

/// The body of capture v1, and its answer.
pub fn v1_body(input: &[u8]) {
    let mut context = context(Endpoint::V1Analytics, Coding::Identity, BodyForm::Events);
    context.sdk_info = Some("posthog-web/1.2.3".to_owned());
    context.sent_at_us = Some(NOW);
    if let Ok((batch, _)) = check(input, &context) {
        for persisted in [true, false] {
            let answer = v1::write_results(&batch, persisted);
            assert!(is_object(&String::from_utf8_lossy(&answer)));
        }
    }
}

/// One AI event in parts.
pub fn ai_parts(input: &[u8]) {
    let form = BodyForm::AiParts {
        boundary: BOUNDARY.to_owned(),
    };
    let decoded = check(input, &context(Endpoint::Ai, Coding::Identity, form));
    if let Ok((_, Some(answer))) = decoded {
        assert!(is_json(&answer), "{answer}");
    }
}

/// Spans of OpenTelemetry as protobuf.
pub fn otlp_protobuf(input: &[u8]) {
    let form = BodyForm::OtlpProtobuf;
    drop(check(
        input,
        &context(Endpoint::AiOtel, Coding::Identity, form),
    ));
}

/// Spans of OpenTelemetry as JSON.
pub fn otlp_json(input: &[u8]) {
    let form = BodyForm::OtlpJson;
    drop(check(
        input,
        &context(Endpoint::AiOtel, Coding::Identity, form),
    ));
}

/// The times of an event and of its request, as texts or as they are.
pub fn timestamp(input: &[u8]) {
    let (how, input) = input.split_first().unwrap_or((&0, &[]));
    let text = String::from_utf8_lossy(input);
    let (time, sent_at) = text.split_once('\n').unwrap_or((&text, ""));
    let value = |text: &str| match how & 1 {
        0 => serde_json::Value::from(text).to_string(),
        _ => text.to_owned(),
    };
    let body = format!(
        r#"{{"sent_at":{},"batch":[{{"event":"e","distinct_id":"d","timestamp":{},"offset":7}}]}}"#,
        serde_json::Value::from(sent_at),
        value(time),
    );
    let endpoint = match how & 2 {
        0 => Endpoint::Batch,
        _ => Endpoint::Recordings,
    };
    let context = context(endpoint, Coding::Identity, BodyForm::Events);
    let decoded = check(body.as_bytes(), &context);
    if how & 1 == 0 {
        // A time that nobody can read is no reason to refuse anything.
        assert!(decoded.is_ok());
    }
}

/// The elements of an autocaptured event.
pub fn elements(input: &[u8]) {
    let elements = String::from_utf8_lossy(input);
    let body = format!(
        r#"{{"event":"$autocapture","distinct_id":"d","properties":{{"$elements":{elements}}}}}"#
    );
    let mut context = context(Endpoint::E, Coding::Identity, BodyForm::Events);
    context.limits.max_event_bytes = LIMITS.max_decompressed_bytes;
    if let Ok((batch, _)) = check(body.as_bytes(), &context) {
        let chains = batch.events.iter().filter_map(|event| event.elements_chain);
        let bytes: usize = chains.map(Text::len).sum();
        assert!(bytes <= body.len() * 2 + 64, "{bytes} of {}", body.len());
    }
}
