//! Forms: what each rule of the parts makes of them (`posthog-protocol.md` §3.10).

use serde_json::json;

use super::*;

pub(super) const BOUNDARY: &str = "----penstock";

pub(super) const EVENT: &str = r#"{"event":"$ai_generation","distinct_id":"ada","uuid":"01890a5d-ac96-774b-bcce-000000000001","timestamp":"2025-12-31T23:00:00Z","properties":{"$ai_model":"m","n":1}}"#;

/// A part: its name, more headers, its data.
pub(super) type Part<'a> = (&'a str, &'a str, &'a [u8]);

pub(super) fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, headers, data) in parts {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n{headers}\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

pub(super) const JSON: &str = "Content-Type: application/json\r\n";
pub(super) const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";
pub(super) const BYTES: &str = "Content-Type: application/octet-stream\r\n";

pub(super) fn parts_context() -> RequestContext {
    let boundary = BOUNDARY.to_owned();
    ai_context(Endpoint::Ai, BodyForm::AiParts { boundary })
}

pub(super) fn read(body: Vec<u8>) -> Result<(Batch, String), Refusal> {
    let (batch, answer) = decode_with_answer(
        &Payload::new(body),
        &parts_context(),
        &mut Workspace::default(),
    )?;
    assert_eq!(batch.events.len(), 1);
    assert_eq!(batch.token(), "phc_ai");
    Ok((batch, answer.unwrap()))
}

pub(super) fn refusal_of(parts: &[Part<'_>]) -> Refusal {
    read(form(parts)).unwrap_err()
}

fn accepted(parts: &[Part<'_>]) -> (Batch, String) {
    let (batch, answer) = read(form(parts)).unwrap();
    assert_eq!(batch.events[0].outcome, Outcome::Accepted, "{parts:?}");
    (batch, answer)
}

fn outcome_of(event: &str) -> Outcome {
    let (batch, _) = read(form(&[("event", "", event.as_bytes())])).unwrap();
    batch.events[0].outcome
}

#[test]
fn one_part_is_an_event_like_any_other() {
    let (batch, answer) = accepted(&[("event", JSON, EVENT.as_bytes())]);
    let event = &batch.events[0];
    let view = batch.view();
    assert_eq!(view.get(event.event), "$ai_generation");
    assert_eq!(view.get(event.distinct_id), "ada");
    assert!(event.uuid_given);
    assert_eq!(event.timestamp_us, NOW - 3_600_000_000);
    assert_eq!(view.get(event.properties), r#"{"$ai_model":"m","n":1}"#);
    assert_eq!(
        answer,
        format!(
            r#"{{"accepted_parts":[{{"name":"event","length":{},"content-type":"application/json","content-encoding":null}}]}}"#,
            EVENT.len()
        )
    );
}

#[test]
fn properties_may_be_a_part_of_their_own() {
    let event = br#"{"event":"$ai_trace","distinct_id":"d","properties":null}"#;
    let own = b" {\"$ai_model\" : \"m\", \"a\":{\"b\":[1]}} ";
    let (batch, answer) = accepted(&[("event", "", event), ("event.properties", JSON, own)]);
    assert_eq!(
        properties(&batch, 0),
        json!({"$ai_model": "m", "a": {"b": [1]}})
    );
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["accepted_parts"][0]["content-type"], json!(null));
    assert_eq!(answer["accepted_parts"][1]["name"], "event.properties");
    assert_eq!(answer["accepted_parts"][1]["length"], own.len());
}

#[test]
fn blobs_become_the_properties_that_they_are_named_after() {
    let zipped = gzip(br#"[{"role":"user"}]"#);
    let (batch, answer) = accepted(&[
        ("event", JSON, EVENT.as_bytes()),
        (
            "event.properties.$ai_input",
            JSON,
            br#" [{"role":"user","content":"h\u00e9"}] "#,
        ),
        (
            "event.properties.text",
            TEXT,
            "two\nlines \"quoted\" \u{1f994}".as_bytes(),
        ),
        ("event.properties.raw", BYTES, b"\x00\xff--\r\n--"),
        // One that was embedded gives way.
        ("event.properties.n", TEXT, b"2"),
        ("event.properties.broken", JSON, b"{\"a\":"),
        ("event.properties.latin", TEXT, b"na\xefve"),
        (
            "event.properties.zipped",
            "Content-Type: application/json\r\nContent-Encoding: GZIP\r\n",
            &zipped,
        ),
        (
            "event.properties.plain",
            "Content-Type: Text/Plain\r\ncontent-encoding: identity\r\n",
            b"p",
        ),
    ]);
    assert_eq!(
        properties(&batch, 0),
        json!({
            "$ai_model": "m",
            "$ai_input": [{"role": "user", "content": "hé"}],
            "text": "two\nlines \"quoted\" 🦔",
            "raw": "data:application/octet-stream;base64,AP8tLQ0KLS0=",
            "n": "2",
            "broken": "{\"a\":",
            "latin": "data:application/octet-stream;base64,bmHvdmU=",
            "zipped": [{"role": "user"}],
            "plain": "p",
        })
    );
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let parts = answer["accepted_parts"].as_array().unwrap();
    assert_eq!(parts.len(), 9);
    assert_eq!(parts[7]["content-encoding"], "GZIP");
    assert_eq!(parts[7]["length"], zipped.len());
}

#[test]
fn a_blob_that_is_already_compressed_stays_as_it_is() {
    let zipped = gzip(b"abc");
    let (batch, _) = accepted(&[
        ("event", JSON, EVENT.as_bytes()),
        ("event.properties.z", BYTES, &zipped),
    ]);
    let url = properties(&batch, 0)["z"].as_str().unwrap().to_owned();
    assert!(
        url.starts_with("data:application/octet-stream;base64,H4sI"),
        "{url}"
    );
}

/// Deeper than an event may be, it would cost the whole event.
#[test]
fn json_that_is_too_deep_for_an_event_is_kept_as_text() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, is_text) in [(125, false), (126, true), (100_000, true)] {
        let (batch, _) = accepted(&[
            ("event", JSON, EVENT.as_bytes()),
            ("event.properties.deep", JSON, nested(depth).as_bytes()),
        ]);
        let text = batch.view().get(batch.events[0].properties);
        assert_eq!(text.contains("\"deep\":\""), is_text, "{depth}");
    }
}

#[test]
fn what_is_wrong_with_the_event_is_its_outcome() {
    for (event, code) in [
        (
            r#"{"distinct_id":"d","properties":{"$ai_model":"m"}}"#,
            Code::MissingEventName,
        ),
        (
            r#"{"event":7,"distinct_id":"d","properties":{"$ai_model":"m"}}"#,
            Code::InvalidEventName,
        ),
        (
            r#"{"event":"","distinct_id":"d","properties":{"$ai_model":"m"}}"#,
            Code::EmptyEventName,
        ),
        (
            r#"{"event":"ai_x","distinct_id":"d","properties":{"$ai_model":"m"}}"#,
            Code::NotAnAiEvent,
        ),
        (
            r#"{"event":"$ai_x","properties":{"$ai_model":"m"}}"#,
            Code::MissingDistinctId,
        ),
        (
            r#"{"event":"$ai_x","distinct_id":" ","properties":{"$ai_model":"m"}}"#,
            Code::MissingDistinctId,
        ),
        (
            r#"{"event":"$ai_x","distinct_id":"d","uuid":"no","properties":{"$ai_model":"m"}}"#,
            Code::InvalidUuid,
        ),
        (
            r#"{"event":"$ai_x","distinct_id":"d"}"#,
            Code::MissingAiModel,
        ),
        (
            r#"{"event":"$ai_x","distinct_id":"d","properties":null}"#,
            Code::MissingAiModel,
        ),
        (
            r#"{"event":"$ai_x","distinct_id":"d","properties":{"$ai_model":""}}"#,
            Code::MissingAiModel,
        ),
        (
            r#"{"event":"$ai_x","distinct_id":"d","properties":{"$ai_model":1}}"#,
            Code::MissingAiModel,
        ),
        (
            r#"{"event":"$ai_x","distinct_id":"d","properties":[]}"#,
            Code::InvalidProperties,
        ),
    ] {
        assert_eq!(outcome_of(event), Outcome::Rejected(code), "{event}");
    }
    // Any name with the prefix, an escape in it, and no uuid: newer than the strict six.
    let event = r#"{"event":"\u0024ai_new","distinct_id":7,"properties":{"\u0024ai_model":"m"}}"#;
    assert_eq!(outcome_of(event), Outcome::Accepted);
}

#[test]
fn the_token_of_the_request_is_the_only_one() {
    let event = EVENT.replacen(
        '{',
        r#"{"api_key":"phc_other","token":"phc_third","batch":[],"#,
        1,
    );
    let (batch, _) = accepted(&[("event", "", event.as_bytes())]);
    assert!(!batch.view().get(batch.events[0].raw).contains("phc_other"));
    let mut context = parts_context();
    context.token = None;
    let body = Payload::new(form(&[("event", "", event.as_bytes())]));
    let refused = decode_with_answer(&body, &context, &mut Workspace::default()).unwrap_err();
    assert_eq!(refused.code, Code::MissingToken);
}

#[test]
fn the_clock_that_an_event_was_sent_by_corrects_its_time() {
    let event = EVENT.replacen('{', r#"{"sent_at":"2026-01-01T01:00:00Z","#, 1);
    let (batch, _) = accepted(&[("event", "", event.as_bytes())]);
    assert_eq!(batch.sent_at_us, Some(NOW + 3_600_000_000));
    assert_eq!(batch.events[0].timestamp_us, NOW - 7_200_000_000);
}

#[test]
fn a_whole_form_may_be_compressed() {
    let body = form(&[("event", JSON, EVENT.as_bytes())]);
    let (plain, _) = read(body.clone()).unwrap();
    let (zipped, _) = read(gzip(&body)).unwrap();
    assert_eq!(format!("{plain:?}"), format!("{zipped:?}"));
    // Undone on the way, the header left as it was.
    let mut context = parts_context();
    context.coding = Coding::Gzip;
    let decoded = decode_request(&Payload::new(body), &context, &mut Workspace::default());
    assert_eq!(format!("{:?}", decoded.unwrap()), format!("{plain:?}"));
}

#[test]
fn parts_that_are_not_these_are_refused() {
    let event: Part<'_> = ("event", JSON, EVENT.as_bytes());
    for (parts, detail) in [
        (&[][..], "no part"),
        (
            &[("event.properties", JSON, &b"{}"[..]), event],
            "first part",
        ),
        (&[("", JSON, b"{}")], "first part"),
        (&[event, event], "same name"),
        (
            &[
                ("event", "", br#"{"event":"$ai_x"}"#),
                ("event.properties", "", b"{}"),
                ("event.properties", "", b"{}"),
            ],
            "same name",
        ),
        (
            &[
                event,
                ("event.properties.a", TEXT, b"1"),
                ("event.properties.a", TEXT, b"1"),
            ],
            "same name",
        ),
        (
            &[event, ("event.properties", JSON, b"{}")],
            "part of their own",
        ),
        (&[event, ("other", TEXT, b"1")], "neither"),
        (&[event, ("event.properties.", TEXT, b"1")], "neither"),
        (
            &[event, ("event.properties.a.b", TEXT, b"1")],
            "property of a property",
        ),
        (
            &[event, ("event.properties.a", "", b"1")],
            "no content type",
        ),
        (
            &[
                event,
                ("event.properties.a", "Content-Type: image/png\r\n", b"1"),
            ],
            "octet-stream",
        ),
        (&[event, ("event.properties.a", TEXT, b"")], "empty"),
        (&[("event", JSON, b"[]")], "no JSON object"),
    ] {
        let refusal = refusal_of(parts);
        assert_eq!(refusal.code, Code::InvalidMultipart, "{parts:?}");
        assert!(refusal.detail.contains(detail), "{refusal:?}");
    }
    for data in [&b""[..], b"{", b"{} {}", b"nonsense"] {
        assert_eq!(refusal_of(&[("event", JSON, data)]).code, Code::InvalidJson);
        let bad = refusal_of(&[("event", JSON, b"{}"), ("event.properties", JSON, data)]);
        assert_eq!(bad.code, Code::InvalidJson);
    }
}

#[test]
fn names_and_limits_hold_at_their_borders() {
    let event_of = |bytes: usize| {
        let rest = bytes - EVENT.len() - r#","x":"""#.len();
        EVENT.replacen(
            "\"n\":1",
            &format!("\"n\":1,\"x\":\"{}\"", "x".repeat(rest)),
            1,
        )
    };
    let at_limit = event_of(32 << 10);
    assert_eq!(at_limit.len(), 32 << 10);
    accepted(&[("event", "", at_limit.as_bytes())]);
    let over = refusal_of(&[("event", "", event_of((32 << 10) + 1).as_bytes())]);
    assert_eq!(over.code, Code::RequestTooLarge);

    let bare = br#"{"event":"$ai_x","distinct_id":"d"}"#;
    let properties_of = |bytes: usize| {
        let frame = r#"{"$ai_model":"m","x":""}"#;
        frame.replacen(
            "\"\"",
            &format!("\"{}\"", "x".repeat(bytes - frame.len())),
            1,
        )
    };
    let room = 983_040 - bare.len();
    accepted(&[
        ("event", "", bare),
        ("event.properties", "", properties_of(room).as_bytes()),
    ]);
    let over = properties_of(room + 1);
    let over = refusal_of(&[
        ("event", "", bare),
        ("event.properties", "", over.as_bytes()),
    ]);
    assert_eq!(over.code, Code::RequestTooLarge);

    let room = (25 << 20) - EVENT.len();
    let blob = vec![b'x'; room + 1];
    let event: Part<'_> = ("event", "", EVENT.as_bytes());
    let (batch, _) = accepted(&[event, ("event.properties.x", TEXT, &blob[..room])]);
    assert!(batch.events[0].properties.len() > room);
    let over = refusal_of(&[event, ("event.properties.x", TEXT, &blob)]);
    assert_eq!(over.code, Code::RequestTooLarge);
}
