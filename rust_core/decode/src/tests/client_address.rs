//! Requests of projects that store no client's address.

use penstock_model::ClientIp;

use super::*;
use crate::{decode_with_answer, decode_without_client_address, names_client_address};

/// Decodes as the engine does for such a project: the payload and context that are kept, and what
/// they were decoded to.
fn discarded(body: Vec<u8>, context: &RequestContext) -> (Payload, RequestContext, Batch) {
    let mut workspace = Workspace::default();
    let payload = Payload::new(body);
    let mut context = context.clone();
    let (batch, answer) = decode_with_answer(&payload, &context, &mut workspace).unwrap();
    assert!(names_client_address(&batch));
    let before = answer.clone();
    let (payload, batch, answer) =
        decode_without_client_address(&payload, &mut context, batch, answer, &mut workspace)
            .unwrap();
    assert_eq!(answer, before);
    assert!(!names_client_address(&batch));
    let kept = String::from_utf8_lossy(payload.as_slice()).into_owned();
    assert!(!kept.contains("9.9.9.9"), "{kept}");
    (payload, context, batch)
}

/// What a replay of the record gives, its outcomes apart.
fn replayed(payload: &Payload, context: &RequestContext) -> Batch {
    decode_request(payload, context, &mut Workspace::default()).unwrap()
}

const EVENTS: &str = r#"{"api_key":"phc_a","sent_at":"2026-01-01T01:00:00Z","$ip":"9.9.9.9","batch":[
    {"event":"a","distinct_id":"d","timestamp":"2026-01-01T01:00:00Z","properties":{"$ip":"9.9.9.9","x":1e400}},
    {"event":"b","distinct_id":"d","properties":{"$set":{"\u0024ip":"9.9.9.9"},"$lib":"web"},"$set":{"k":1}},
    {"event":"","distinct_id":"d","properties":{"$ip":"9.9.9.9"}},
    {"event":"c","distinct_id":"d","properties":{"$ip":null}}, "$ip", 9]}"#;

#[test]
fn an_address_is_gone_from_every_event_and_all_else_is_as_before() {
    for (body, coding) in [
        (EVENTS.as_bytes().to_vec(), Coding::Unspecified),
        (gzip(EVENTS.as_bytes()), Coding::Gzip),
        (gzip(EVENTS.as_bytes()), Coding::Base64),
        (
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, EVENTS).into_bytes(),
            Coding::Base64,
        ),
    ] {
        let context = RequestContext {
            coding,
            ..context()
        };
        let first = decode_with(body.clone(), &context).unwrap();
        let (payload, context, batch) = discarded(body, &context);
        let view = batch.view();
        assert_eq!(batch.sent_at_us, first.sent_at_us);
        for (event, before) in batch.events.iter().zip(&first.events) {
            assert_eq!(event.outcome, before.outcome);
            assert_eq!(event.uuid, before.uuid);
            assert_eq!(event.timestamp_us, before.timestamp_us);
            assert_eq!(event.ip, ClientIp::Unsaid);
        }
        assert_eq!(view.get(batch.events[0].properties), r#"{"x":1e400}"#);
        assert_eq!(
            view.get(batch.events[1].properties),
            r#"{"$lib":"web","$set":{"k":1}}"#
        );
        assert_eq!(view.get(batch.events[3].properties), "{}");
        let again = replayed(&payload, &context);
        assert_eq!(format!("{again:?}"), format!("{batch:?}"));
    }
}

#[test]
fn a_batch_that_names_none_is_left_as_it_is() {
    for body in [
        batch_of(r#"{"event":"$ip","distinct_id":"$ip","properties":{"a":["$ip"],"ip":1}}"#),
        batch_of(r#"{"event":"e","distinct_id":"d","properties":{"a":"\"$ip\":\"9.9.9.9\""}}"#),
    ] {
        assert!(!names_client_address(&decode(body).unwrap()));
    }
}

#[test]
fn events_of_a_body_that_was_repaired_still_say_so() {
    let mut body = EVENTS.as_bytes().to_vec();
    let at = EVENTS.find("web").unwrap();
    body[at] = 0xff;
    let (payload, context, batch) = discarded(body, &context());
    for event in &batch.events {
        assert!(event.warnings.contains(Warning::InvalidUtf8));
    }
    assert_eq!(
        format!("{:?}", replayed(&payload, &context)),
        format!("{batch:?}")
    );
}

#[test]
fn events_of_capture_v1_lose_it_too() {
    let body = r#"{"created_at":"2026-01-01T00:00:00Z","batch":[
        {"event":"a","distinct_id":"d","uuid":"01890a5d-ac96-774b-bcce-000000000001",
         "timestamp":"2025-12-31T23:59:00Z","session_id":"s","properties":{"$ip":"9.9.9.9","$lib":"own"}}]}"#;
    let v1 = RequestContext {
        endpoint: Endpoint::V1Analytics,
        token: Some("phc_a".to_owned()),
        sent_at_us: Some(NOW),
        sdk_info: Some("posthog-go/1.0.0".to_owned()),
        ..context()
    };
    let (payload, context, batch) = discarded(gzip(body.as_bytes()), &v1);
    assert_eq!(
        batch.view().get(batch.events[0].properties),
        r#"{"$session_id":"s","$lib":"posthog-go","$lib_version":"1.0.0"}"#
    );
    assert_eq!(
        format!("{:?}", replayed(&payload, &context)),
        format!("{batch:?}")
    );
}

/// The payload that is kept is the events that a form became; what the form's rules said of them
/// stands.
#[test]
fn forms_and_spans_are_kept_as_the_events_that_they_became() {
    let form = "--x\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n\
        {\"event\":\"$ai_x\",\"distinct_id\":\"d\",\"timestamp\":\"2025-12-31T00:00:00Z\"}\r\n\
        --x\r\nContent-Disposition: form-data; name=\"event.properties\"\r\n\r\n\
        {\"$ai_model\":\"m\",\"$ip\":\"9.9.9.9\"}\r\n--x--\r\n";
    let boundary = "x".to_owned();
    let span = r#"{"spanId":"0000000000000001","traceId":"00000000000000000000000000000001","attributes":[
        {"key":"gen_ai.x","value":{"intValue":"1"}},{"key":"$ip","value":{"stringValue":"9.9.9.9"}}]}"#;
    let export = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
    for (endpoint, form, body) in [
        (Endpoint::Ai, BodyForm::AiParts { boundary }, form),
        (Endpoint::AiOtel, BodyForm::OtlpJson, export.as_str()),
    ] {
        let mut as_sent = context();
        as_sent.endpoint = endpoint;
        as_sent.form = form;
        as_sent.token = Some("phc_a".to_owned());
        as_sent.sent_at_us = Some(NOW + 1_000_000);
        // So small that what the form became doesn't fit into it.
        as_sent.limits.max_decompressed_bytes = u32::try_from(body.len()).unwrap();
        let first = decode_with(body, &as_sent).unwrap();
        let (payload, kept, batch) = discarded(body.as_bytes().to_vec(), &as_sent);
        assert_eq!(kept.form, BodyForm::Events);
        assert_eq!(batch.events[0].outcome, Outcome::Accepted);
        assert_eq!(batch.events[0].uuid, first.events[0].uuid);
        assert_eq!(batch.events[0].timestamp_us, first.events[0].timestamp_us);
        assert_eq!(
            format!("{:?}", replayed(&payload, &kept)),
            format!("{batch:?}")
        );
    }
}

/// A form says in its event when it was sent, which the event that is kept does not.
#[test]
fn the_clock_of_a_form_still_corrects_its_event() {
    let form = "--x\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n\
        {\"event\":\"$ai_x\",\"distinct_id\":\"d\",\"timestamp\":\"2025-12-31T00:00:00Z\",\
        \"sent_at\":\"2025-12-31T00:00:05Z\"}\r\n\
        --x\r\nContent-Disposition: form-data; name=\"event.properties\"\r\n\r\n\
        {\"$ai_model\":\"m\",\"$ip\":\"9.9.9.9\"}\r\n--x--\r\n";
    let mut as_sent = context();
    as_sent.endpoint = Endpoint::Ai;
    as_sent.form = BodyForm::AiParts {
        boundary: "x".to_owned(),
    };
    as_sent.token = Some("phc_a".to_owned());
    as_sent.sent_at_us = None;
    let first = decode_with(form, &as_sent).unwrap();
    assert_eq!(first.events[0].timestamp_us, NOW - 5_000_000);
    let (payload, kept, batch) = discarded(form.as_bytes().to_vec(), &as_sent);
    assert_eq!(batch.events[0].timestamp_us, first.events[0].timestamp_us);
    assert_eq!(
        replayed(&payload, &kept).events[0].timestamp_us,
        first.events[0].timestamp_us
    );
}
