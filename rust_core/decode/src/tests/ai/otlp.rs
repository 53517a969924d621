//! Trace exports: what spans become, the same from both encodings (`posthog-protocol.md` §3.10).

use serde_json::{Value, json};

use super::export::{Any, END_NS, Export, START_NS, Span};
use super::*;

pub(super) fn read_as(form: BodyForm, body: Vec<u8>) -> Result<Batch, Refusal> {
    let context = ai_context(Endpoint::AiOtel, form);
    decode_request(&Payload::new(body), &context, &mut Workspace::default())
}

/// Reads an export in both encodings, which must give the same events.
pub(super) fn read(export: &Export) -> Batch {
    let batch = read_as(BodyForm::OtlpProtobuf, export.protobuf()).unwrap();
    let of_json = read_as(BodyForm::OtlpJson, export.json()).unwrap();
    assert_eq!(format!("{batch:?}"), format!("{of_json:?}"));
    batch
}

pub(super) fn refusal_of(export: &Export) -> Refusal {
    let refusal = read_as(BodyForm::OtlpProtobuf, export.protobuf()).unwrap_err();
    let of_json = read_as(BodyForm::OtlpJson, export.json()).unwrap_err();
    assert_eq!(refusal, of_json);
    refusal
}

fn one_of(span: Span) -> (Batch, Value) {
    let batch = read(&Export::of(vec![span]));
    assert_eq!(batch.events.len(), 1);
    assert_eq!(batch.events[0].outcome, Outcome::Accepted);
    let properties = properties(&batch, 0);
    (batch, properties)
}

#[test]
fn a_span_becomes_an_event() {
    let mut span = Span::new(
        7,
        vec![
            ("gen_ai.operation.name", Any::Text("chat")),
            ("gen_ai.usage.input_tokens", Any::Int(12)),
            ("posthog.distinct_id", Any::Text("ada")),
            ("$session_id", Any::Text("s1")),
        ],
    );
    span.parent_span_id = vec![8; 8];
    let export = Export {
        resource: vec![("service.name", Any::Text("shop"))],
        version: "1.2.3",
        spans: vec![span],
    };
    let batch = read(&export);
    let event = &batch.events[0];
    let view = batch.view();
    assert_eq!(event.outcome, Outcome::Accepted);
    assert_eq!(view.get(event.event), "$ai_generation");
    assert_eq!(view.get(event.distinct_id), "ada");
    assert_eq!(event.timestamp_us, i64::try_from(START_NS / 1_000).unwrap());
    assert_eq!(
        view.get(event.client_timestamp.unwrap()),
        "1767222000.123456789"
    );
    assert_eq!(view.get(event.session_id.unwrap()), "s1");
    assert_eq!(view.get(event.lib.unwrap()), "posthog-otel");
    assert_eq!(view.get(event.lib_version.unwrap()), "1.2.3");
    assert_eq!(batch.token(), "phc_ai");
    assert_eq!(
        properties(&batch, 0),
        json!({
            "service.name": "shop",
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 12,
            "posthog.distinct_id": "ada",
            "$session_id": "s1",
            "$ai_trace_id": "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",
            "$ai_span_id": "0707070707070707",
            "$ai_parent_id": "0808080808080808",
            "$ai_ingestion_source": "otel",
            "$otel_span_name": "chat m",
            "$otel_start_time_unix_nano": START_NS.to_string(),
            "$otel_end_time_unix_nano": END_NS.to_string(),
            "$lib": "posthog-otel",
            "$lib_version": "1.2.3",
        })
    );
}

/// An export that is sent again is stored once, by whichever encoding and beside whichever others:
/// its ids follow from the span alone. Python's `uuid.uuid5` makes the same.
#[test]
fn the_id_of_an_event_is_made_of_the_span_s_two_ids() {
    let (first, _) = one_of(Span::chat(7));
    let event = &first.events[0];
    assert!(event.uuid_given);
    assert_eq!(
        event.uuid.to_string(),
        "1c0d8a12-db50-58ff-bc73-a44d188f2887"
    );
    let (id, user) = (event.uuid, first.view().get(event.distinct_id).to_owned());

    let mut later = ai_context(Endpoint::AiOtel, BodyForm::OtlpProtobuf);
    later.received_at_us += 60_000_000;
    later.uuid_seed = [9; 16];
    let export = Export::of(vec![Span::chat(6), Span::chat(7)]);
    let payload = Payload::new(gzip(&export.protobuf()));
    let again = decode_request(&payload, &later, &mut Workspace::default()).unwrap();
    assert_eq!(again.events[1].uuid, id);
    assert_eq!(again.view().get(again.events[1].distinct_id), user);
    assert_ne!(again.events[0].uuid, id);
    let mut other = Span::chat(7);
    other.trace_id[0] += 1;
    assert_ne!(one_of(other).0.events[0].uuid, id);
}

/// Without both ids nobody knows whether a span is the same.
#[test]
fn a_span_without_whole_ids_is_stored_without_deduplication() {
    for (trace_id, span_id) in [
        (vec![], vec![7; 8]),
        (vec![0; 16], vec![7; 8]),
        (vec![7; 16], vec![]),
        (vec![7; 16], vec![0; 8]),
        (vec![7; 15], vec![7; 8]),
        (vec![7; 16], vec![7; 9]),
    ] {
        let mut span = Span::chat(1);
        (span.trace_id, span.span_id) = (trace_id, span_id);
        let (batch, properties) = one_of(span.clone());
        assert!(!batch.events[0].uuid_given, "{span:?}");
        let named = |key: &str| properties[key].as_str().map_or(0, str::len) / 2;
        assert_eq!(named("$ai_trace_id"), span.trace_id.len());
        assert_eq!(named("$ai_span_id"), span.span_id.len());
    }
}

#[test]
fn the_user_is_who_the_span_names_then_the_resource_then_the_session_then_the_trace() {
    let users = |resource: super::export::Attributes, attributes: super::export::Attributes| {
        let mut span = Span::chat(1);
        span.attributes.extend(attributes);
        let export = Export {
            resource,
            ..Export::of(vec![span])
        };
        let batch = read(&export);
        batch.view().get(batch.events[0].distinct_id).to_owned()
    };
    let text = Any::Text;
    let resource = vec![("user.id", text("u")), ("posthog.distinct_id", text("r"))];
    assert_eq!(users(resource.clone(), vec![]), "r");
    assert_eq!(users(resource.clone(), vec![("user.id", text("s"))]), "s");
    assert_eq!(
        users(
            resource.clone(),
            vec![("user.id", text("s")), ("posthog.distinct_id", text("t"))]
        ),
        "t"
    );
    // Neither an empty text nor another type names anybody.
    assert_eq!(
        users(resource, vec![("posthog.distinct_id", text(""))]),
        "r"
    );
    let of_trace = users(vec![], vec![("user.id", Any::Int(7))]);
    // `uuid5` in PostHog's namespace, of `trace:a0…` and `session:s1`.
    assert_eq!(of_trace, "b4c55812-cf84-5c3f-9abe-2d3ad7442d28");
    let of_session = users(vec![], vec![("gen_ai.conversation.id", text("s1"))]);
    assert_eq!(of_session, "3806144d-78d7-5d42-80ea-1a7616fd8008");
    assert_eq!(
        users(vec![("$ai_session_id", text("s1"))], vec![]),
        of_session
    );

    let mut span = Span::chat(1);
    span.trace_id = vec![0; 16];
    let unknown = read(&Export::of(vec![span.clone(), span]));
    let view = unknown.view();
    let user = |index: usize| view.get(unknown.events[index].distinct_id);
    assert_eq!(user(0), user(1));
    assert!(crate::uuids::parse(user(0)).is_some());
}

#[test]
fn values_of_every_type_become_json() {
    let mut span = Span::chat(1);
    span.attributes.extend([
        ("t", Any::Text("a\"\\\n\u{0}é🦔")),
        ("b", Any::Bool(false)),
        ("i", Any::Int(i64::MIN)),
        ("zero", Any::Int(0)),
        ("d", Any::Double(-0.1)),
        ("big", Any::Double(1e300)),
        ("whole", Any::Double(3.0)),
        ("nan", Any::Double(f64::NAN)),
        ("inf", Any::Double(f64::NEG_INFINITY)),
        ("y", Any::Bytes(b"\x00\xab")),
        ("none", Any::Nothing),
        (
            "l",
            Any::List(vec![
                Any::Int(1),
                Any::Nothing,
                Any::List(vec![]),
                Any::Text(""),
            ]),
        ),
        (
            "m",
            Any::Map(vec![
                ("k", Any::Map(vec![])),
                ("none", Any::Nothing),
                ("", Any::Bool(true)),
            ]),
        ),
    ]);
    let (_, properties) = one_of(span);
    for (key, expected) in [
        ("t", json!("a\"\\\n\u{0}é🦔")),
        ("b", json!(false)),
        ("i", json!(i64::MIN)),
        ("zero", json!(0)),
        ("d", json!(-0.1)),
        ("big", json!(1e300)),
        ("whole", json!(3.0)),
        ("nan", json!(null)),
        ("inf", json!(null)),
        ("y", json!("00ab")),
        ("l", json!([1, [], ""])),
        ("m", json!({"k": {}, "": true})),
    ] {
        assert_eq!(properties[key], expected, "{key}");
    }
    assert!(properties.get("none").is_none());
}

#[test]
fn of_keys_that_come_twice_the_last_holds_and_the_span_s_own_fields_win() {
    let mut span = Span::chat(1);
    span.attributes.extend([
        ("a", Any::Int(1)),
        ("a", Any::Int(2)),
        ("b", Any::Int(3)),
        ("$ai_trace_id", Any::Text("claimed")),
        ("$ai_ingestion_source", Any::Text("claimed")),
        ("$lib", Any::Text("own")),
    ]);
    let export = Export {
        resource: vec![("b", Any::Int(0)), ("$lib_version", Any::Text("own"))],
        version: "1",
        spans: vec![span],
    };
    let batch = read(&export);
    let text = batch.view().get(batch.events[0].properties);
    for key in [
        "\"a\"",
        "\"b\"",
        "\"$lib\"",
        "\"$lib_version\"",
        "\"$ai_trace_id\"",
    ] {
        assert_eq!(text.matches(&format!("{key}:")).count(), 1, "{key}");
    }
    let properties = properties(&batch, 0);
    assert_eq!(properties["a"], 2);
    assert_eq!(properties["b"], 3);
    assert_eq!(properties["$ai_ingestion_source"], "otel");
    assert_eq!(properties["$lib"], "own");
    assert_eq!(properties["$lib_version"], "own");
}

#[test]
fn errors_are_told_by_the_last_exception_or_the_status() {
    let exception = |kind: &'static str, message: &'static str| {
        let attributes = vec![
            ("exception.type", Any::Text(kind)),
            ("exception.message", Any::Text(message)),
        ];
        ("exception", attributes)
    };
    for (status, events, error) in [
        (None, vec![exception("E", "m")], json!(null)),
        (Some((1, "fine")), vec![exception("E", "m")], json!(null)),
        (Some((2, "status")), vec![], json!("status")),
        (Some((2, "status")), vec![("note", vec![])], json!("status")),
        (
            Some((2, "")),
            vec![exception("A", "1"), exception("B", "2"), ("note", vec![])],
            json!("B: 2"),
        ),
        (Some((2, "")), vec![exception("", "only")], json!("only")),
        (Some((2, "")), vec![exception("Only", "")], json!("Only")),
        (
            Some((2, "status")),
            vec![exception("", "")],
            json!("status"),
        ),
    ] {
        let mut span = Span::chat(1);
        (span.status, span.events) = (status, events);
        let (_, properties) = one_of(span);
        assert_eq!(properties["$ai_error"], error, "{status:?}");
        let is_error = status.is_some_and(|(code, _)| code == 2);
        assert_eq!(properties["$ai_is_error"].as_bool().is_some(), is_error);
    }
}

#[test]
fn spans_that_are_not_about_ai_are_passed_by() {
    let other = Span::new(1, vec![("http.request.method", Any::Text("GET"))]);
    assert!(read(&Export::of(vec![])).events.is_empty());
    assert!(read(&Export::of(vec![other.clone()])).events.is_empty());
    assert!(read(&Export::default()).events.is_empty());
    let batch = read(&Export::of(vec![other.clone(), Span::chat(2), other]));
    assert_eq!(batch.events.len(), 1);
    for empty in [
        &b"{}"[..],
        br#"{"resourceSpans":[]}"#,
        br#"{"resourceSpans":null}"#,
        b"null",
    ] {
        let batch = read_as(BodyForm::OtlpJson, empty.to_vec()).unwrap();
        assert_eq!((batch.events.len(), batch.token()), (0, "phc_ai"));
    }
}

#[test]
fn spans_are_counted() {
    let others = |count| vec![Span::new(1, vec![]); count];
    assert!(read(&Export::of(others(1_000))).events.is_empty());
    let refusal = refusal_of(&Export::of(others(1_001)));
    assert_eq!(refusal.code, Code::TooManySpans);
    assert!(refusal.detail.contains("1000 spans"));

    let chats = |count| vec![Span::chat(1); count];
    assert_eq!(read(&Export::of(chats(100))).events.len(), 100);
    let refusal = refusal_of(&Export::of(chats(101)));
    assert_eq!(refusal.code, Code::TooManySpans);
    assert!(refusal.detail.contains("100 spans about AI"));
}

#[test]
fn a_time_that_is_not_told_is_that_of_receipt() {
    let mut span = Span::chat(1);
    span.start_ns = 0;
    let (batch, _) = one_of(span.clone());
    assert_eq!(batch.events[0].timestamp_us, NOW);
    assert_eq!(batch.events[0].client_timestamp, None);
    span.start_ns = u64::MAX;
    let (batch, _) = one_of(span.clone());
    assert_eq!(warnings(&batch.events[0]), [Warning::TimestampInFuture]);
    span.start_ns = 1_500;
    let (batch, _) = one_of(span);
    assert_eq!(batch.events[0].timestamp_us, 1);
}

#[test]
fn the_whole_export_comes_within_four_mebibytes() {
    for form in [BodyForm::OtlpProtobuf, BodyForm::OtlpJson] {
        assert_eq!(
            read_as(form.clone(), Vec::new()).unwrap_err().code,
            Code::MissingPayload
        );
        let large = vec![b' '; (4 << 20) + 1];
        assert_eq!(
            read_as(form.clone(), large.clone()).unwrap_err().code,
            Code::RequestTooLarge
        );
        let zipped = gzip(&large);
        assert_eq!(
            read_as(form, zipped).unwrap_err().code,
            Code::DecompressedTooLarge
        );
    }
    let mut json = Export::of(vec![Span::chat(1)]).json();
    json.resize(4 << 20, b' ');
    assert_eq!(read_as(BodyForm::OtlpJson, json).unwrap().events.len(), 1);
}

/// Forms that writers of JSON have for the same thing.
#[test]
fn json_is_read_as_protobuf_s_mapping_allows() {
    let body = r#" {"resource_spans":[null,{"scope_spans":[{"spans":[{
        "trace_id":"A0A0a0a0a0a0a0a0a0a0a0a0a0a0a0a0","span_id":"0707070707070707",
        "parentSpanId":"","startTimeUnixNano":1767222000123456789,"unknown":{"x":[1]},
        "status":{"code":"STATUS_CODE_ERROR"},
        "attributes":[
            {"value":{"string_value":"chat"},"key":"gen_ai.operation.name"},
            {"key":"i","value":{"intValue":5}},{"key":"e","value":{"intValue":"1e3"}},
            {"key":"y","value":{"bytesValue":"AKs"}},
            {"key":"l","value":{"arrayValue":{}}},{"key":"n","value":{"stringValue":null}},
            {"key":"\u0061","value":{"doubleValue":"1.5"}}]}]}]}]} "#;
    let batch = read_as(BodyForm::OtlpJson, body.into()).unwrap();
    let properties = properties(&batch, 0);
    assert_eq!(batch.events[0].uuid, one_of(Span::chat(7)).0.events[0].uuid);
    for (key, value) in [
        ("i", json!(5)),
        ("e", json!(1000.0)),
        ("y", json!("00ab")),
        ("l", json!([])),
        ("a", json!(1.5)),
        ("$ai_is_error", json!(true)),
        ("n", json!(null)),
        ("$ai_parent_id", json!(null)),
    ] {
        assert_eq!(properties[key], value, "{key}");
    }
}
